//! Which faults come, when and to whom: all drawn from the seed, wave by wave, without an end.
//!
//! The kinds are dealt from a shuffled pack, so that each comes once before any comes twice. When and
//! how long is in the plan too. Only who leads is not: a fault that asks for the leader finds out
//! when it begins. So a seed repeats the plan; what the servers make of it is real time's affair.
//!
//! A new kind of fault is a line in the table of [`Kind`], and its two ends, where it begins and where
//! it is over, in `strike.rs`.
//!
//! Some kinds take a server's memory. Such a server does not vote until a majority of the others, all
//! of them sound, has told it what it may have forgotten; so what may come in one wave with it is
//! bounded, here and nowhere else ([`Plan::wave`]), and the calm behind the wave waits until all vote.

use std::fmt;
use std::time::Duration;

use rand::rngs::ChaCha8Rng;
use rand::seq::SliceRandom as _;
use rand::{RngExt as _, SeedableRng as _};

use super::link::Passage;
use super::links::Pair;
use crate::paxos::types::NodeId;

macro_rules! kinds {
    ($($kind:ident $name:literal $text:literal,)*) => {
        /// A kind of fault.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
        #[allow(missing_docs, reason = "their texts say it")]
        pub enum Kind {
            $($kind,)*
        }

        impl Kind {
            /// All kinds, in the order of the help text.
            pub const ALL: &[Self] = &[$(Self::$kind,)*];

            /// Its name on the command line.
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$kind => $name,)*
                }
            }

            /// What it is, for people.
            pub fn text(self) -> &'static str {
                match self {
                    $(Self::$kind => $text,)*
                }
            }
        }
    };
}

kinds! {
    KillOne "kill-one" "kill -9 of one server",
    KillMinority "kill-minority" "kill -9 of a minority",
    KillAll "kill-all" "kill -9 of all at once",
    Restart "restart" "an orderly stop and a restart",
    FreezeOne "freeze-one" "one process frozen",
    FreezeMinority "freeze-minority" "a minority frozen",
    Acceptors "acceptors" "acceptors failed",
    SlowDisk "slow-disk" "slow disks",
    Wipe "wipe" "kill -9, an emptied data directory",
    Flip "flip" "kill -9, a flipped byte in the log",
    FlipSnapshot "flip-snapshot" "kill -9, a flipped byte in a snapshot",
    CutLink "cut-link" "two servers cut from each other",
    OneWay "one-way" "one link lost one way",
    Mute "mute" "a server that hears and cannot send",
    Deaf "deaf" "a server that sends and cannot hear",
    Delay "delay" "slow links",
    Close "close" "links closed and opened again",
    Hold "hold" "links held, and delivered late",
    Split "split" "a minority cut from the rest",
    Hub "hub" "only one server reaches the others",
    Chain "chain" "each reaches its neighbours in a row",
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl Kind {
    /// Whether it is done to links; else to servers.
    pub fn is_of_links(self) -> bool {
        self >= Self::CutLink
    }

    /// Whether a server loses by it what only the others can give back.
    pub fn takes_memory(self) -> bool {
        matches!(self, Self::Wipe | Self::Flip | Self::FlipSnapshot)
    }

    /// Whether the servers that it strikes are down meanwhile.
    fn takes_down(self) -> bool {
        let kills = matches!(self, Self::KillOne | Self::KillMinority | Self::KillAll);
        kills || self == Self::Restart || self.takes_memory()
    }

    /// Whether it lasts for a while.
    fn lasts(self) -> bool {
        self != Self::Close
    }

    /// How many servers of `size` it strikes.
    fn strikes(self, size: usize, rng: &mut ChaCha8Rng) -> usize {
        let minority = (size - 1) / 2;
        // Ranges of u8 give the same numbers on machines with other words.
        let mut up_to = |most: usize| {
            let most = u8::try_from(most).expect("nine servers at most");
            usize::from(rng.random_range(1..=most))
        };
        match self {
            Self::KillOne
            | Self::FreezeOne
            | Self::Restart
            | Self::Wipe
            | Self::Flip
            | Self::FlipSnapshot
            | Self::Mute
            | Self::Deaf
            | Self::Delay
            | Self::Close
            | Self::Hold
            | Self::Hub => 1,
            Self::KillMinority | Self::FreezeMinority => minority,
            Self::Split => up_to(minority),
            Self::CutLink | Self::OneWay => 2,
            Self::Acceptors | Self::SlowDisk => up_to(size),
            Self::KillAll | Self::Chain => size,
        }
    }

    /// The least and the most by which it slows a link or a disk, in milliseconds.
    fn slow_ms(self) -> (u64, u64) {
        match self {
            Self::SlowDisk => SYNC_MS,
            _ => DELAY_MS,
        }
    }

    /// The shortest and the longest time that it lasts, in milliseconds.
    fn lasts_ms(self) -> (u64, u64) {
        match self {
            Self::KillOne
            | Self::KillMinority
            | Self::Restart
            | Self::Wipe
            | Self::Flip
            | Self::FlipSnapshot => (100, 2_500),
            Self::KillAll => (0, 1_000),
            Self::FreezeOne | Self::FreezeMinority => (100, 3_000),
            // A peer that is silent for 2 s is given up, and what is on the way then never arrives.
            Self::Hold => (300, 1_900),
            _ => (300, 4_000),
        }
    }
}

/// The earliest and the latest begin of a fault in its wave.
const BEGINS_MS: (u64, u64) = (0, 1_500);

/// How slow a slow link is.
const DELAY_MS: (u64, u64) = (10, 500);

/// How much longer a slow disk takes for a sync.
const SYNC_MS: (u64, u64) = (20, 60);

/// The calm between two waves with clients at work.
const CALM_MS: (u64, u64) = (300, 1_500);

/// The most faults of one wave. They may overlap, and meet the same servers.
const FAULTS_MAX: u64 = 3;

/// One fault.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// What.
    pub kind: Kind,
    /// When it begins, from the begin of its wave.
    pub at: Duration,
    /// How long it lasts.
    pub lasts: Duration,
    /// All servers; the first ones are struck.
    pub order: Vec<NodeId>,
    /// How many are struck.
    pub strikes: usize,
    /// The leader, if there is one, takes the first place in `order`.
    pub leader_first: bool,
    /// How slow slow links and slow disks are.
    pub delay: Duration,
    /// Where links are cut: they swallow everything, instead of being closed.
    pub silent: bool,
    /// Which byte is flipped, of those that may be.
    pub dice: u64,
}

impl Fault {
    /// The servers that are struck.
    pub fn struck(&self) -> &[NodeId] {
        &self.order[..self.strikes]
    }

    /// Puts the leader first, if that is wanted.
    pub(super) fn settle(&mut self, leader: Option<NodeId>) {
        let place = self.order.iter().position(|&node| Some(node) == leader);
        if let (true, Some(place)) = (self.leader_first, place) {
            self.order.swap(0, place);
        }
    }

    /// What it does to which links; nothing for a fault of servers. Links that are closed once are
    /// open afterwards.
    pub fn links(&self) -> Vec<(Pair, Passage)> {
        let cut = if self.silent {
            Passage::Lost
        } else {
            Passage::Cut
        };
        let first = self.order[0];
        let pairs = |which: &dyn Fn(NodeId, NodeId) -> bool, passage| {
            let all = self.order.iter();
            let all = all.flat_map(|&from| self.order.iter().map(move |&to| (from, to)));
            let some = all.filter(|&(from, to)| from != to && which(from, to));
            some.map(|pair| (pair, passage)).collect()
        };
        let place = |node: NodeId| {
            let found = self.order.iter().position(|&other| other == node);
            found.expect("every server has a place")
        };
        let touches = |from, to| from == first || to == first;
        match self.kind {
            Kind::CutLink => {
                let second = self.order[1];
                vec![((first, second), cut), ((second, first), cut)]
            }
            Kind::OneWay => vec![((first, self.order[1]), Passage::Lost)],
            Kind::Mute => pairs(&|from, _| from == first, Passage::Lost),
            Kind::Deaf => pairs(&|_, to| to == first, Passage::Lost),
            Kind::Delay => pairs(&touches, Passage::Late(self.delay)),
            Kind::Close => pairs(&touches, Passage::Open),
            Kind::Hold => pairs(&|from, _| from == first, Passage::Held),
            Kind::Split => {
                let inside = |node| self.struck().contains(&node);
                pairs(&|from, to| inside(from) != inside(to), cut)
            }
            Kind::Hub => pairs(&|from, to| from != first && to != first, cut),
            Kind::Chain => {
                let far = |from: NodeId, to: NodeId| place(from).abs_diff(place(to)) > 1;
                pairs(&far, cut)
            }
            _ => Vec::new(),
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.kind.name())?;
        if self.leader_first {
            f.write_str(" the leader, else")?;
        }
        self.struck()
            .iter()
            .try_for_each(|node| write!(f, " {node}"))?;
        write!(f, ", after {:.1?}", self.at)?;
        if self.kind.lasts() {
            write!(f, " for {:.1?}", self.lasts)?;
        }
        if matches!(self.kind, Kind::Delay | Kind::SlowDisk) {
            write!(f, ", by {:?}", self.delay)?;
        }
        if self.silent {
            f.write_str(", silently")?;
        }
        Ok(())
    }
}

/// Faults that come together, and the calm after them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wave {
    /// From 1.
    pub number: u64,
    /// In no order.
    pub faults: Vec<Fault>,
    /// How long the clients work in the calm after it.
    pub calm: Duration,
}

/// All waves of a seed.
#[derive(Debug)]
pub struct Plan {
    rng: ChaCha8Rng,
    members: Vec<NodeId>,
    kinds: Vec<Kind>,
    /// What is left of the pack.
    pack: Vec<Kind>,
    dealt: u64,
    /// A fault that did not fit into the last wave; it begins the next one.
    held: Option<Fault>,
}

impl Plan {
    /// The plan of `seed` for these servers, three or more, of these kinds, one or more.
    pub fn new(seed: u64, members: Vec<NodeId>, kinds: Vec<Kind>) -> Self {
        assert!(members.len() >= 3 && !kinds.is_empty(), "nothing to do");
        Self {
            rng: ChaCha8Rng::seed_from_u64(seed),
            members,
            kinds,
            pack: Vec::new(),
            dealt: 0,
            held: None,
        }
    }

    /// The next wave. It ends before a fault that does not go with the others.
    pub fn wave(&mut self) -> Wave {
        self.dealt += 1;
        let mut faults = Vec::new();
        for _ in 0..self.rng.random_range(1..=FAULTS_MAX) {
            let fault = self.held.take().unwrap_or_else(|| self.fault());
            faults.push(fault);
            if !self.go_together(&faults) {
                self.held = faults.pop();
                break;
            }
        }
        Wave {
            number: self.dealt,
            faults,
            calm: self.millis(CALM_MS),
        }
    }

    /// Whether these may come in one wave: where one takes a memory, no other does, and with its
    /// victim a minority at most is down. So a sound majority is there whatever overlaps (P41).
    fn go_together(&self, faults: &[Fault]) -> bool {
        let victims = faults.iter().filter(|fault| fault.kind.takes_memory());
        let down = faults.iter().filter(|fault| fault.kind.takes_down());
        let down: usize = down.map(|fault| fault.strikes).sum();
        match victims.count() {
            0 => true,
            1 => down <= (self.members.len() - 1) / 2,
            _ => false,
        }
    }

    fn fault(&mut self) -> Fault {
        let kind = self.kind();
        let mut order = self.members.clone();
        order.shuffle(&mut self.rng);
        let strikes = kind.strikes(order.len(), &mut self.rng);
        let cuts = matches!(kind, Kind::CutLink | Kind::Split | Kind::Hub | Kind::Chain);
        Fault {
            kind,
            at: self.millis(BEGINS_MS),
            lasts: if kind.lasts() {
                self.millis(kind.lasts_ms())
            } else {
                Duration::ZERO
            },
            order,
            strikes,
            leader_first: self.rng.random_ratio(1, 2),
            delay: self.millis(kind.slow_ms()),
            silent: cuts && self.rng.random_ratio(1, 2),
            dice: if kind.takes_memory() {
                self.rng.random()
            } else {
                0
            },
        }
    }

    fn kind(&mut self) -> Kind {
        if self.pack.is_empty() {
            self.pack.clone_from(&self.kinds);
            self.pack.shuffle(&mut self.rng);
        }
        self.pack.pop().expect("a pack is never empty")
    }

    fn millis(&mut self, (least, most): (u64, u64)) -> Duration {
        Duration::from_millis(self.rng.random_range(least..=most))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn members(size: u8) -> Vec<NodeId> {
        (1..=size).map(|n| NodeId::new(n).unwrap()).collect()
    }

    fn faults(seed: u64, kind: Kind) -> Vec<Fault> {
        let mut plan = Plan::new(seed, members(5), vec![kind]);
        (0..20).flat_map(|_| plan.wave().faults).collect()
    }

    #[test]
    fn a_seed_is_one_plan_and_another_seed_another_one() {
        let waves = |seed| {
            let mut plan = Plan::new(seed, members(5), Kind::ALL.to_vec());
            (0..50).map(|_| plan.wave()).collect::<Vec<_>>()
        };
        assert_eq!(waves(7), waves(7));
        assert_ne!(waves(7), waves(8));
    }

    #[test]
    fn every_kind_comes_once_before_any_comes_twice() {
        let mut plan = Plan::new(3, members(3), Kind::ALL.to_vec());
        let mut seen = Vec::new();
        while seen.len() < 2 * Kind::ALL.len() {
            seen.extend(plan.wave().faults.into_iter().map(|fault| fault.kind));
        }
        for pack in seen.chunks_exact(Kind::ALL.len()).take(2) {
            let mut pack = pack.to_vec();
            pack.sort();
            assert_eq!(pack, Kind::ALL);
        }
    }

    #[test]
    fn with_a_lost_memory_a_majority_is_sound_and_up() {
        for size in [3, 5, 7, 9] {
            let mut plan = Plan::new(5, members(size), Kind::ALL.to_vec());
            let mut with_others = 0;
            for _ in 0..2_000 {
                let faults = plan.wave().faults;
                assert!(!faults.is_empty());
                let of = |which: fn(Kind) -> bool| faults.iter().filter(move |f| which(f.kind));
                let victims = of(Kind::takes_memory).count();
                let down: usize = of(Kind::takes_down).map(|fault| fault.strikes).sum();
                assert!(victims <= 1);
                assert!(victims == 0 || 2 * down < usize::from(size), "{faults:?}");
                with_others += usize::from(victims == 1 && down > 1);
            }
            assert_eq!(with_others > 0, size > 3, "{size} servers");
        }
    }

    #[test]
    fn slow_disks_are_those_of_one_of_some_and_of_all() {
        let mut struck: Vec<usize> = Vec::new();
        for fault in faults(6, Kind::SlowDisk) {
            let delay = fault.delay.as_millis();
            assert!((20..=60).contains(&delay), "{fault}");
            assert!(fault.links().is_empty() && !fault.lasts.is_zero());
            struck.push(fault.struck().len());
        }
        struck.sort_unstable();
        struck.dedup();
        assert_eq!(struck, [1, 2, 3, 4, 5]);
    }

    #[test]
    fn a_split_leaves_a_majority_whole_and_cuts_all_between() {
        for fault in faults(1, Kind::Split) {
            let inside = fault.struck().len();
            assert!((1..=2).contains(&inside));
            assert_eq!(fault.links().len(), 2 * inside * (5 - inside));
        }
    }

    #[test]
    fn partial_partitions_leave_a_hub_or_a_chain() {
        for fault in faults(2, Kind::Hub) {
            let hub = fault.order[0];
            assert_eq!(fault.links().len(), 4 * 3);
            assert!(
                fault
                    .links()
                    .iter()
                    .all(|((from, to), _)| ![from, to].contains(&&hub))
            );
        }
        for fault in faults(2, Kind::Chain) {
            assert_eq!(fault.links().len(), 5 * 4 - 2 * 4);
        }
    }

    #[test]
    fn one_way_faults_take_one_way() {
        for fault in faults(4, Kind::Mute) {
            assert!(
                fault
                    .links()
                    .iter()
                    .all(|((from, _), _)| *from == fault.order[0])
            );
        }
        for fault in faults(4, Kind::Deaf) {
            assert!(
                fault
                    .links()
                    .iter()
                    .all(|((_, to), _)| *to == fault.order[0])
            );
        }
        for fault in faults(4, Kind::OneWay) {
            assert_eq!(fault.links().len(), 1);
        }
    }
}
