//! Who should try to lead: from heartbeats only. Safety never leans on it.
//!
//! Apart from Paxos on purpose (*Paxos Made Simple* 2.4 asks only that one proposer is
//! distinguished, sooner or later). The rules, with what each is good for:
//!
//! * Every node tells everyone, all the time, whether it leads, tries, follows a leader that *it
//!   hears itself*, or none of these; and whether it hears a majority.
//! * Only a node that hears a majority may try (P31: an isolated node raises no ballots).
//! * Nobody tries while a leader lives: one that is heard, or one that a heard node hears. So two
//!   nodes that do not hear each other do not overthrow each other in turn (P29, chained).
//! * A leader that does not hear a majority stops leading (P30, and P29, quorum loss).
//! * Of those who may try, the lowest number tries at once, the next a little later, and so on, with
//!   jitter (P27); while somebody tries, the others are patient for a while.
//! * A link that closes counts as silence at once; so a killed leader is replaced in milliseconds.
//! * A node's word that it follows a leader counts only until that leader is itself heard to have
//!   stopped.
//! * A node whose process sleeps for most of the time knows it by its clock and says that it is
//!   *slow*: it tries after all others, leaves the lead if a majority is not, and its word about a
//!   leader counts for less than what a node has heard itself.
//!
//! Omni-Paxos (EuroSys 2023) has the reasons for electing by quorum-connectivity. This module
//! knows neither slots nor values.

use std::collections::BTreeMap;

use rand::rngs::ChaCha8Rng;
use rand::{RngExt, SeedableRng};

use super::message::{Heartbeat, Stance};
use super::quorum::Members;
use super::types::{Ballot, NodeId};

/// Ticks between two heartbeats.
pub const HEARTBEAT_TICKS: u64 = 5;

/// A node that was not heard for so many ticks is silent.
pub const SILENCE_TICKS: u64 = 40;

/// A node that begins to hear a majority waits so many ticks before it tries: by then it has heard
/// of the leader, if there is one.
const SETTLE_TICKS: u64 = 2 * HEARTBEAT_TICKS;

/// By how many ticks each rank waits longer than the one before.
const STAGGER_TICKS: u64 = 6;

/// The wait of each rank is prolonged by up to so many ticks.
const JITTER_TICKS: u64 = 3;

/// While another node tries, the others wait for so many ticks before they try as well.
const PATIENCE_TICKS: u64 = 100;

/// Nobody is called silent who was heard less than this many ticks of the own process ago, however
/// long that slept: what was sent to it meanwhile waits unread in its sockets (P36).
const AWAKE_TICKS_MIN: u64 = 2;

/// A shorter sleep is nothing new on a busy machine, and does not count.
const NAP_TICKS_MIN: u64 = 5;

/// A node that slept for this many ticks more than it was awake is slow, until it has been awake for
/// as long. Less than a silence, so that a slow leader leaves before the others must find out.
const SLOW_TICKS: u64 = 30;

/// A leader that is slow waits this long to hear whether the others are slow as well, unless it has
/// just slept for longer: on a machine that is too busy for all, the lead would else go round for
/// nothing.
const LEAVE_TICKS: u64 = 10;

/// What is remembered of long sleeps: a node that is awake again is no longer slow after this time.
const SLOW_TICKS_MAX: u64 = 2 * SLOW_TICKS;

const _: () = assert!(
    HEARTBEAT_TICKS * 4 <= SILENCE_TICKS,
    "lost heartbeats are no silence"
);

const _: () = assert!(
    NAP_TICKS_MIN < SLOW_TICKS && SLOW_TICKS < SILENCE_TICKS,
    "a slow node knows it before it is silent"
);

/// What one node knows of the others, and when it should try to lead.
#[derive(Debug)]
pub struct Election {
    me: NodeId,
    members: Members,
    peers: BTreeMap<NodeId, Peer>,
    /// Since when a majority is heard without a break.
    connected_since: Option<u64>,
    /// When the next try is due, once there is no leader.
    due: Option<Due>,
    /// The highest ballot that another node was seen to try, and since when.
    rival: Option<(Ballot, u64)>,
    /// The last ballot with which each node was itself heard to lead.
    led: BTreeMap<NodeId, Ballot>,
    /// Counts the ticks that this process did not sleep through.
    awake: u64,
    slowness: Slowness,
    rng: ChaCha8Rng,
}

#[derive(Debug)]
struct Peer {
    heard: u64,
    /// What `awake` was then.
    awake: u64,
    beat: Heartbeat,
}

/// How much this process sleeps.
#[derive(Debug, Default)]
struct Slowness {
    /// By how many ticks it slept more than it was awake.
    ticks: u64,
    slow: bool,
    /// How long it slept last.
    nap: u64,
    /// When it may leave the lead.
    leave_due: Option<u64>,
    /// It has left the lead since it is slow. If the others elect it all the same, it stays.
    left: bool,
}

impl Slowness {
    fn on_slept(&mut self, ticks: u64) {
        if ticks >= NAP_TICKS_MIN {
            self.ticks = self.ticks.saturating_add(ticks).min(SLOW_TICKS_MAX);
            self.slow |= self.ticks >= SLOW_TICKS;
            self.nap = ticks;
        }
    }

    fn on_tick(&mut self) {
        self.ticks = self.ticks.saturating_sub(1);
        if self.ticks == 0 {
            *self = Self::default();
        }
    }
}

#[derive(Debug, Clone, Copy)]
struct Due {
    since: u64,
    jitter: u64,
}

/// A living leader, and how to reach it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Leader {
    /// The ballot that it leads with.
    pub ballot: Ballot,
    /// Itself, or a node that is heard and hears it.
    pub via: NodeId,
}

impl Election {
    /// Before anyone was heard. `seed` settles the jitter.
    pub fn new(me: NodeId, members: Members, seed: u64) -> Self {
        Self {
            me,
            members,
            peers: BTreeMap::new(),
            connected_since: None,
            due: None,
            rival: None,
            led: BTreeMap::new(),
            awake: 0,
            slowness: Slowness::default(),
            rng: ChaCha8Rng::seed_from_u64(seed),
        }
    }

    /// A tick has passed, and this process was awake.
    pub fn on_tick(&mut self) {
        self.awake += 1;
        self.slowness.on_tick();
    }

    /// This process slept through some ticks.
    pub fn on_slept(&mut self, ticks: u64) {
        self.slowness.on_slept(ticks);
    }

    /// Whether this node is slow.
    pub fn is_slow(&self) -> bool {
        self.slowness.slow
    }

    /// Whether this node, which leads, is slow and should leave the lead, because a majority of others is
    /// not. True once for each time that it becomes slow.
    pub fn should_leave(&mut self, now: u64) -> bool {
        if !self.slowness.slow || self.slowness.left {
            return false;
        }
        let due = *self.slowness.leave_due.get_or_insert(now + LEAVE_TICKS);
        if now < due && self.slowness.nap <= LEAVE_TICKS {
            return false;
        }
        let others = self.members.others(self.me).filter(|&node| {
            let beat = self.heard(node, now);
            beat.is_some_and(|beat| beat.connected && beat.sound && !beat.slow)
        });
        self.slowness.left = others.count() >= self.members.majority();
        self.slowness.left
    }

    /// A node told what it does.
    pub fn on_heartbeat(&mut self, from: NodeId, beat: Heartbeat, now: u64) {
        let (heard, awake) = (now, self.awake);
        self.peers.insert(from, Peer { heard, awake, beat });
        if let Stance::Leading(ballot) = beat.stance {
            self.led.insert(from, ballot);
        }
        if let Stance::Trying(ballot) = beat.stance
            && self.rival.is_none_or(|(known, _)| ballot > known)
        {
            self.rival = Some((ballot, now));
        }
    }

    /// The link from a node closed: it may be gone.
    pub fn on_silence(&mut self, from: NodeId) {
        self.peers.remove(&from);
    }

    /// This node's try failed: the next one waits a little, so that two do not duel.
    pub fn on_defeat(&mut self, now: u64) {
        let jitter = 1 + self.rng.random_range(0..=2 * JITTER_TICKS);
        self.due = Some(Due { since: now, jitter });
    }

    /// What the node last said of itself, unless it is silent.
    pub fn heard(&self, node: NodeId, now: u64) -> Option<&Heartbeat> {
        let peer = self.peers.get(&node)?;
        let recent = now < peer.heard + SILENCE_TICKS;
        (recent || self.awake < peer.awake + AWAKE_TICKS_MIN).then_some(&peer.beat)
    }

    /// Whether this node hears a majority, itself among them.
    pub fn connected(&self, now: u64) -> bool {
        let others = self
            .members
            .others(self.me)
            .filter(|&node| self.heard(node, now).is_some());
        others.count() + 1 >= self.members.majority()
    }

    /// The highest ballot of a node that says that it leads and is heard.
    pub fn following(&self, now: u64) -> Option<Ballot> {
        let beats = self
            .members
            .others(self.me)
            .filter_map(|node| self.heard(node, now));
        beats
            .filter_map(|beat| match beat.stance {
                Stance::Leading(ballot) => Some(ballot),
                _ => None,
            })
            .max()
    }

    /// The leader that lives, as far as this node or a node that it hears can tell. Not this node.
    pub fn leader(&self, now: u64) -> Option<Leader> {
        if let Some(ballot) = self.following(now) {
            let via = ballot
                .node()
                .expect("heartbeats with a ballot of no node are dropped");
            return Some(Leader { ballot, via });
        }
        let vouched = self.members.others(self.me).filter_map(|via| {
            let beat = self.heard(via, now)?;
            match beat.stance {
                Stance::Following(ballot) if self.believes(beat, ballot, now) => {
                    Some(Leader { ballot, via })
                }
                _ => None,
            }
        });
        vouched.max_by_key(|leader| leader.ballot)
    }

    /// Whether the word of a heard node, that it hears who leads with `ballot`, is to be believed.
    fn believes(&self, beat: &Heartbeat, ballot: Ballot, now: u64) -> bool {
        let leader = ballot.node().filter(|&node| node != self.me);
        leader.is_some_and(|node| {
            let news = self.led.get(&node).is_none_or(|&led| led < ballot);
            // It was heard here as well: either it is still, and says that it stopped; or it is
            // silent, and who sleeps most of the time may not have noticed.
            news || self.heard(node, now).is_none() && !beat.slow
        })
    }

    /// Whether this node, which does not lead, should try to now. Asked once a tick, and when a
    /// link closes.
    pub fn should_try(&mut self, now: u64) -> bool {
        if !self.connected(now) {
            self.connected_since = None;
            self.due = None;
            return false;
        }
        let connected_since = *self.connected_since.get_or_insert(now);
        let alone = self.members.majority() == 1;
        if !alone && now < connected_since + SETTLE_TICKS {
            return false;
        }
        if self.leader(now).is_some() {
            self.due = None;
            return false;
        }
        let due = *self.due.get_or_insert(Due {
            since: now,
            jitter: 0,
        });
        if self.rival_is_at_it(now) {
            return false;
        }
        let rank = self.rank(now);
        if now < due.since + rank * STAGGER_TICKS + due.jitter {
            return false;
        }
        let jitter = self.rng.random_range(0..=JITTER_TICKS);
        self.due = Some(Due { since: now, jitter });
        true
    }

    /// Whether another node is trying and has not used up the others' patience.
    fn rival_is_at_it(&self, now: u64) -> bool {
        let Some((ballot, since)) = self.rival else {
            return false;
        };
        let rival = ballot.node().and_then(|node| self.heard(node, now));
        let slower = |beat: &Heartbeat| beat.slow && !self.is_slow();
        rival.is_some_and(|beat| beat.stance == Stance::Trying(ballot) && !slower(beat))
            && now < since + PATIENCE_TICKS
    }

    /// How many heard nodes that may try as well come first: those that are not slow, then by number.
    fn rank(&self, now: u64) -> u64 {
        let own = (self.is_slow(), self.me);
        let before = |beat: &Heartbeat, node| beat.connected && (beat.slow, node) < own;
        let others = self.members.others(self.me);
        let first = others.filter(|&node| self.heard(node, now).is_some_and(|b| before(b, node)));
        first.count() as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::paxos::types::{Life, Slot};

    fn node(n: u8) -> NodeId {
        NodeId::new(n).unwrap()
    }

    fn election(me: u8, size: u8, seed: u64) -> Election {
        Election::new(node(me), Members::new((1..=size).map(node)).unwrap(), seed)
    }

    fn beat(stance: Stance) -> Heartbeat {
        Heartbeat {
            stance,
            connected: true,
            acceptor_up: true,
            decided: Slot::ZERO,
            applied: Slot::ZERO,
            hash: 0,
            life: Life::default(),
            sound: true,
            slow: false,
            saving: false,
        }
    }

    /// Ticks until the node tries, while the others say what `beats` says at each heartbeat.
    fn tries_at(
        election: &mut Election,
        beats: &[(u8, Stance)],
        ticks: std::ops::Range<u64>,
    ) -> Option<u64> {
        for now in ticks {
            election.on_tick();
            if now % HEARTBEAT_TICKS == 0 {
                for &(from, stance) in beats {
                    election.on_heartbeat(node(from), beat(stance), now);
                }
            }
            if election.should_try(now) {
                return Some(now);
            }
        }
        None
    }

    fn ballot(round: u64, n: u8) -> Ballot {
        Ballot::new(round, node(n))
    }

    /// P31, D7: a node that hears no majority raises no ballot, however long.
    #[test]
    fn a_node_without_a_majority_never_tries() {
        let mut alone = election(1, 3, 1);
        assert_eq!(tries_at(&mut alone, &[], 0..5_000), None);
        let mut minority = election(1, 5, 1);
        let beats = [(2, Stance::Idle)];
        assert_eq!(tries_at(&mut minority, &beats, 0..5_000), None);
    }

    /// P27: of two that try at once, the one with the higher ballot is waited for.
    #[test]
    fn the_higher_of_two_rivals_is_waited_for() {
        let idle = [(2, Stance::Idle), (3, Stance::Idle)];
        let unhindered = tries_at(&mut election(1, 5, 1), &idle, 0..PATIENCE_TICKS);
        assert!(unhindered.is_some());
        let (low, high) = (Stance::Trying(ballot(2, 2)), Stance::Trying(ballot(3, 3)));
        let mut election = election(1, 5, 1);
        election.on_heartbeat(node(2), beat(low), 0);
        election.on_heartbeat(node(3), beat(high), 0);
        // The lower one has given up.
        let beats = [(2, Stance::Idle), (3, high)];
        assert_eq!(tries_at(&mut election, &beats, 0..PATIENCE_TICKS), None);
    }

    #[test]
    fn a_cluster_of_one_needs_nobody() {
        assert_eq!(tries_at(&mut election(1, 1, 1), &[], 0..10), Some(0));
    }

    /// P27: of those that may try, the lowest number tries first, by more than the jitter.
    #[test]
    fn ranks_try_one_after_the_other() {
        let idle: Vec<(u8, Stance)> = (1..=5).map(|n| (n, Stance::Idle)).collect();
        for seed in 0..20 {
            let mut before = 0;
            for me in 1..=5 {
                let others: Vec<_> = idle.iter().copied().filter(|&(n, _)| n != me).collect();
                let at = tries_at(&mut election(me, 5, seed), &others, 0..200).unwrap();
                assert!(me == 1 || at >= before + STAGGER_TICKS, "n{me} at {at}");
                before = at;
            }
        }
    }

    /// P29: a node that hears no majority itself does not make the others wait.
    #[test]
    fn a_node_that_is_cut_off_has_no_rank() {
        let mut second = election(2, 3, 1);
        let cut_off = Heartbeat {
            connected: false,
            ..beat(Stance::Idle)
        };
        second.on_heartbeat(node(1), cut_off, 0);
        assert!(!second.should_try(0));
        assert!(second.should_try(SETTLE_TICKS));
    }

    /// P27, P29 (chained): a leader that is heard, or that a heard node hears, is let alone.
    #[test]
    fn nobody_tries_while_a_leader_lives() {
        let leader = ballot(3, 1);
        let mut hears_it = election(2, 3, 1);
        let beats = [(1, Stance::Leading(leader)), (3, Stance::Idle)];
        assert_eq!(tries_at(&mut hears_it, &beats, 0..1_000), None);
        let mut chained = election(3, 3, 1);
        let beats = [(2, Stance::Following(leader))];
        assert_eq!(tries_at(&mut chained, &beats, 0..1_000), None);
        let via = Leader {
            ballot: leader,
            via: node(2),
        };
        assert_eq!(chained.leader(999), Some(via));
    }

    /// A node that stopped leading is still followed by those that have not heard of it.
    #[test]
    fn being_followed_makes_no_leader_of_a_node_itself() {
        let mut election = election(1, 3, 1);
        let beats = [(2, Stance::Following(ballot(3, 1)))];
        assert!(tries_at(&mut election, &beats, 0..100).is_some());
    }

    #[test]
    fn a_leader_is_lost_after_silence_or_at_once_when_its_link_closes() {
        let leads = beat(Stance::Leading(ballot(3, 1)));
        let mut election = election(2, 3, 1);
        election.on_heartbeat(node(1), leads, 7);
        for _ in 0..AWAKE_TICKS_MIN {
            election.on_tick();
        }
        assert_eq!(
            election.following(7 + SILENCE_TICKS - 1),
            Some(ballot(3, 1))
        );
        assert_eq!(election.following(7 + SILENCE_TICKS), None);
        election.on_heartbeat(node(1), leads, 60);
        election.on_silence(node(1));
        assert_eq!(election.leader(60), None);
        assert!(!election.connected(60));
    }

    /// P27: while somebody tries, the others wait; but not for ever, if it comes to nothing.
    #[test]
    fn a_rival_has_its_time_and_no_more() {
        let mut election = election(1, 3, 1);
        let beats = [(2, Stance::Trying(ballot(3, 2))), (3, Stance::Idle)];
        let at = tries_at(&mut election, &beats, 0..1_000).unwrap();
        assert!((PATIENCE_TICKS..=PATIENCE_TICKS + 5).contains(&at), "{at}");
    }

    /// P27: the wait after a defeat is drawn, so that two that were defeated together part.
    #[test]
    fn a_defeated_node_waits_for_a_drawn_time() {
        let idle = [(2, Stance::Idle), (3, Stance::Idle)];
        let waits: Vec<u64> = (0..40)
            .map(|seed| {
                let mut election = election(1, 3, seed);
                let tried = tries_at(&mut election, &idle, 0..100).unwrap();
                election.on_defeat(tried);
                tries_at(&mut election, &idle, tried..200).unwrap() - tried
            })
            .collect();
        let longest = 1 + 2 * JITTER_TICKS;
        assert!(waits.iter().all(|wait| (1..=longest).contains(wait)));
        assert!((1..=longest).all(|wait| waits.contains(&wait)), "{waits:?}");
    }

    /// Of two that say that they lead, the later one is followed.
    #[test]
    fn the_highest_ballot_that_leads_is_followed() {
        let mut election = election(3, 3, 1);
        election.on_heartbeat(node(1), beat(Stance::Leading(ballot(1, 1))), 0);
        election.on_heartbeat(node(2), beat(Stance::Leading(ballot(2, 2))), 0);
        assert_eq!(election.following(0), Some(ballot(2, 2)));
    }

    /// Sleeps, with one tick awake after each, from `now` on; returns when it is over.
    fn sleep(election: &mut Election, ticks: u64, times: u64, now: u64) -> u64 {
        for _ in 0..times {
            election.on_slept(ticks);
            election.on_tick();
        }
        now + times * (ticks + 1)
    }

    /// P36: time that this process slept through counts for the silence of others, but not before
    /// what they sent meanwhile can have been read.
    #[test]
    fn silence_is_real_time_and_nobody_is_silent_whose_word_waits_unread() {
        let leads = beat(Stance::Leading(ballot(3, 1)));
        let mut election = election(2, 3, 1);
        election.on_heartbeat(node(1), leads, 0);
        let now = sleep(&mut election, 300, 1, 0);
        assert_eq!(election.following(now), Some(ballot(3, 1)));
        election.on_tick();
        assert_eq!(election.following(now + 1), None);
        election.on_heartbeat(node(1), leads, now);
        let now = sleep(&mut election, 15, 2, now);
        assert_eq!(election.following(now), Some(ballot(3, 1)));
        let now = sleep(&mut election, 15, 1, now);
        assert_eq!(election.following(now), None);
    }

    /// A follower that has not heard yet that its leader stopped keeps nobody from trying.
    #[test]
    fn a_leader_that_said_that_it_stopped_is_vouched_for_by_nobody() {
        let led = ballot(3, 1);
        let mut election = election(2, 3, 1);
        election.on_heartbeat(node(1), beat(Stance::Leading(led)), 0);
        let beats = [(1, Stance::Idle), (3, Stance::Following(led))];
        let last = SETTLE_TICKS + STAGGER_TICKS + JITTER_TICKS;
        assert!(tries_at(&mut election, &beats, 0..last + 2).is_some());
        // But that it leads again may be heard from another first.
        let again = ballot(4, 1);
        let via = Leader {
            ballot: again,
            via: node(3),
        };
        election.on_heartbeat(node(3), beat(Stance::Following(again)), last);
        assert_eq!(election.leader(last), Some(via));
    }

    /// A slow node's word about a leader counts only for who has never heard that leader itself.
    #[test]
    fn a_slow_node_does_not_vouch_for_a_leader_that_fell_silent() {
        let led = ballot(3, 1);
        let slow = Heartbeat {
            slow: true,
            ..beat(Stance::Following(led))
        };
        let mut chained = election(3, 3, 1);
        chained.on_heartbeat(node(2), slow, 0);
        assert!(chained.leader(0).is_some());
        let mut heard = election(3, 3, 1);
        heard.on_heartbeat(node(1), beat(Stance::Leading(led)), 0);
        heard.on_silence(node(1));
        heard.on_heartbeat(node(2), slow, 0);
        assert_eq!(heard.leader(0), None);
        heard.on_heartbeat(node(2), beat(Stance::Following(led)), 0);
        assert!(heard.leader(0).is_some());
    }

    /// The lowest number does not make a leader of the slowest server.
    #[test]
    fn a_slow_node_tries_after_all_others() {
        let slow = Heartbeat {
            slow: true,
            ..beat(Stance::Idle)
        };
        let mut second = election(2, 3, 1);
        second.on_heartbeat(node(1), slow, 0);
        second.on_heartbeat(node(3), beat(Stance::Idle), 0);
        assert!(!second.should_try(0));
        assert!(second.should_try(SETTLE_TICKS));
        let mut first = election(1, 3, 1);
        let now = sleep(&mut first, SLOW_TICKS / 2 + 1, 2, 0);
        let idle = [(2, Stance::Idle), (3, Stance::Idle)];
        let at = tries_at(&mut first, &idle, now..now + 200).unwrap();
        assert!(at >= now + SETTLE_TICKS + 2 * STAGGER_TICKS, "{at}");
    }

    /// A slow rival is not waited for, unless by one that is slow as well.
    #[test]
    fn a_slow_rival_is_given_no_time() {
        let trying = ballot(3, 2);
        let slow = Heartbeat {
            slow: true,
            ..beat(Stance::Trying(trying))
        };
        let mut election = election(1, 3, 1);
        election.on_heartbeat(node(2), slow, 0);
        assert!(!election.rival_is_at_it(0));
        let now = sleep(&mut election, SLOW_TICKS, 1, 0);
        election.on_heartbeat(node(2), slow, now);
        assert!(election.is_slow() && election.rival_is_at_it(now));
    }

    /// P35: a leader that sleeps for most of the time leaves the lead, once, and only where a majority does
    /// not; who slept and is awake again is as good as ever.
    #[test]
    fn a_slow_leader_leaves_the_lead_to_those_that_are_not() {
        for ticks in [9, 15, 20, 29] {
            let mut leader = election(1, 3, 1);
            let mut now = 0;
            while !leader.should_leave(now) {
                now = sleep(&mut leader, ticks, 1, now);
                for other in [2, 3] {
                    leader.on_heartbeat(node(other), beat(Stance::Idle), now);
                }
                assert!(now < 100, "sleeps of {ticks}");
            }
            assert!(leader.is_slow());
            assert!(!leader.should_leave(now), "twice");
            for _ in 0..SLOW_TICKS_MAX {
                leader.on_tick();
            }
            assert!(!leader.is_slow());
        }
        // One of two others is slow, too: the machine is busy.
        let mut busy = election(1, 3, 1);
        let slow = Heartbeat {
            slow: true,
            ..beat(Stance::Idle)
        };
        let mut now = 0;
        for _ in 0..20 {
            now = sleep(&mut busy, 30, 1, now);
            busy.on_heartbeat(node(2), slow, now);
            busy.on_heartbeat(node(3), beat(Stance::Idle), now);
            assert!(busy.is_slow() && !busy.should_leave(now));
        }
    }

    /// A busy machine wakes everyone a little late.
    #[test]
    fn short_sleeps_make_nobody_slow() {
        let mut election = election(1, 3, 1);
        sleep(&mut election, NAP_TICKS_MIN - 1, 1_000, 0);
        assert!(!election.is_slow());
    }
}
