//! Which faults a life has, and when: drawn before it begins, so that single ones can be left out.
//!
//! | profile | promises |
//! | --- | --- |
//! | `calm` | no fault at all |
//! | `lossy` | messages lost, doubled, overtaken; slow links; links that close and open again |
//! | `crashy` | power losses, kills, crashes in the middle of a round, orderly stops, processes that freeze once or sleep most of the time, failing acceptors, skewed clocks |
//! | `partitions` | one way, both ways, isolated nodes, splits, partial ones; lost or held and delivered late (P32) |
//! | `disks` | slow, full, failing disks; power losses with torn writes; flipped bytes in logs and snapshots; emptied directories, also of starts that one other alone had heard of |
//! | `all` | all of these, in mixtures that differ from life to life |
//!
//! Besides, in every profile, some lives have slow links (up to 200 ms one way) or slow disks (40 ms a
//! sync) from their beginning to their end, also when all faults are over.
//!
//! Of all nodes a minority at most is down for good or has lost what others may need. Left out: a
//! flipped byte in the last group of a log, which no log can tell from a torn one; a directory that is
//! emptied before every node has begun, for then a node that begins cannot know who was there before.

use std::fmt;
use std::str::FromStr;

use super::clock::{MS, SECOND};
use super::counts::{Counts, Seen};
use super::dice::Dice;
use super::node::Wall;

/// Which kinds of faults a life has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Profile {
    /// No faults.
    Calm,
    /// Messages are lost, doubled, late and out of order.
    Lossy,
    /// Nodes crash, freeze and come back.
    Crashy,
    /// Links are cut.
    Partitions,
    /// Disks fail.
    Disks,
    /// Everything.
    All,
}

impl Profile {
    /// Every profile, in the order of the help text.
    pub const ALL: [Self; 6] = [
        Self::Calm,
        Self::Lossy,
        Self::Crashy,
        Self::Partitions,
        Self::Disks,
        Self::All,
    ];

    /// Its name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Calm => "calm",
            Self::Lossy => "lossy",
            Self::Crashy => "crashy",
            Self::Partitions => "partitions",
            Self::Disks => "disks",
            Self::All => "all",
        }
    }

    /// What must have been seen in a batch of lives, each kind at least once in 40 lives.
    #[allow(clippy::too_many_lines, reason = "a table of names")]
    pub fn promises(self) -> &'static [Seen] {
        #[allow(clippy::enum_glob_use, reason = "a table of names")]
        use Seen::*;
        match self {
            Self::Calm => &[
                WritesDone,
                ReadsDone,
                ListsDone,
                LocalReads,
                Elections,
                TransactionsDone,
                TransactionsChanged,
                KeysEnded,
                FarForLife,
                SlowDisksForLife,
            ],
            Self::Lossy => &[
                Lost,
                Doubled,
                Overtaken,
                SlowLinks,
                Closed,
                OnceAgain,
                FarForLife,
                SlowDisksForLife,
            ],
            Self::Crashy => &[
                PowerLost,
                Killed,
                Stopped,
                CrashedInRound,
                CrashedInStart,
                CrashedInSnapshot,
                AllCrashed,
                Paused,
                Naps,
                AcceptorFailed,
                AcceptorRecovered,
                Skewed,
                WrongWalls,
                WallJumps,
                Restarts,
                FarForLife,
                SlowDisksForLife,
            ],
            Self::Partitions => &[
                CutOneWay,
                CutBothWays,
                Isolated,
                Split,
                Hub,
                Chain,
                HeldLate,
                Lost,
                TimedOut,
                IndexesSent,
                FarForLife,
                SlowDisksForLife,
            ],
            Self::Disks => &[
                SlowDisk,
                FullDisk,
                FailedSync,
                DiskEnded,
                PowerLost,
                CrashedInStart,
                WritesLost,
                TornTails,
                Flipped,
                Damaged,
                SnapshotFlipped,
                SnapshotDamaged,
                Wiped,
                Leaf,
                Recalled,
                Snapshots,
                SnapshotsWaited,
                Trimmed,
                CrashedInSnapshot,
                ImagesSent,
                FarForLife,
                SlowDisksForLife,
            ],
            Self::All => &[
                Lost,
                Doubled,
                Overtaken,
                SlowLinks,
                Closed,
                PowerLost,
                CrashedInStart,
                Killed,
                Stopped,
                CrashedInRound,
                AllCrashed,
                Paused,
                Naps,
                AcceptorFailed,
                AcceptorRecovered,
                Skewed,
                WrongWalls,
                WallJumps,
                CutOneWay,
                CutBothWays,
                Isolated,
                Split,
                Hub,
                Chain,
                Leaf,
                HeldLate,
                SlowDisk,
                FullDisk,
                FailedSync,
                WritesLost,
                Flipped,
                Damaged,
                Wiped,
                Recalled,
                Snapshots,
                SnapshotsWaited,
                Trimmed,
                CrashedInSnapshot,
                ImagesSent,
                OnceAgain,
                TimedOut,
                IndexesSent,
                Unanswered,
                WritesUnknown,
                TransactionsDone,
                TransactionsChanged,
                KeysEnded,
                FarForLife,
                SlowDisksForLife,
            ],
        }
    }

    /// What was promised and hardly ever came, in so many lives.
    pub fn broken_promises(self, counts: &Counts, lives: u64) -> Vec<String> {
        let least = lives / 40;
        let kinds = self.promises().iter().copied();
        kinds
            .filter(|&kind| counts.of(kind) < least)
            .map(|kind| {
                let count = counts.of(kind);
                format!("{}: {count} in {lives} lives, not {least}", kind.text())
            })
            .collect()
    }

    /// The kinds that a life of this profile may have, each with how many of 100 it gets.
    fn kinds(self) -> &'static [(u64, Kind)] {
        #[allow(clippy::enum_glob_use, reason = "a table of names")]
        use Kind::*;
        match self {
            Self::Calm => &[],
            Self::Lossy => &[(50, Weather), (25, SlowLinks), (25, Close)],
            Self::Crashy => &[
                (26, Power),
                (16, Kill),
                (6, Stop),
                (6, Everyone),
                (14, Pause),
                (8, Slow),
                (30, Acceptor),
            ],
            Self::Partitions => &[(90, Cut), (10, Close)],
            Self::Disks => &[
                (30, Power),
                (14, SlowDisk),
                (14, FullDisk),
                (18, FailDisk),
                (8, Flip),
                (8, FlipSnapshot),
                (8, Wipe),
            ],
            Self::All => &[
                (14, Weather),
                (6, SlowLinks),
                (5, Close),
                (14, Power),
                (7, Kill),
                (3, Stop),
                (3, Everyone),
                (6, Pause),
                (3, Slow),
                (13, Acceptor),
                (17, Cut),
                (4, SlowDisk),
                (3, FullDisk),
                (3, FailDisk),
                (3, Flip),
                (2, FlipSnapshot),
                (3, Wipe),
            ],
        }
    }
}

impl fmt::Display for Profile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Profile {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let known = Self::ALL.into_iter().find(|profile| profile.name() == name);
        known.ok_or_else(|| {
            format!("expected calm, lossy, crashy, partitions, disks or all, found {name:?}")
        })
    }
}

#[derive(Debug, Clone, Copy)]
enum Kind {
    Weather,
    SlowLinks,
    Close,
    Power,
    Kill,
    Stop,
    Everyone,
    Pause,
    Slow,
    Acceptor,
    Cut,
    SlowDisk,
    FullDisk,
    FailDisk,
    Flip,
    FlipSnapshot,
    Wipe,
}

/// Whom a fault meets: settled when it comes, because nobody knows before who leads then.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Target {
    /// The node at this place.
    Node(usize),
    /// Whoever leads, else the node at this place.
    Leader(usize),
}

/// What a partition looks like, from its first node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shape {
    /// It cannot send to one other.
    OneWay,
    /// It cannot send to anyone (P30).
    Mute,
    /// It cannot hear anyone.
    Deaf,
    /// It and one other.
    BothWays,
    /// It and all others.
    Isolated,
    /// It, with all of its side, and the rest.
    Split,
    /// All others among themselves: only it reaches a majority (P29).
    Hub,
    /// Each reaches only its neighbours in a row (P29).
    Chain,
    /// It reaches one other only.
    Leaf,
}

/// One fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    /// Messages are lost, doubled, overtaken; each so many in 1,000.
    Weather {
        loss: u64,
        doubling: u64,
        overtaking: u64,
    },
    /// All links take up to so long.
    SlowLinks { delay: u64 },
    /// The link from one to another closes, and is dialled again.
    Close { from: Target, to: usize },
    /// The node is gone; with the power, or only its process. `in_round`: in the middle of its next
    /// round, after so many of its parts (0: steps, 1: notices, 2: records handed over, 3: the log
    /// thread is at work). `noticed`: its peers see their links close.
    Crash {
        whom: Target,
        power: bool,
        in_round: Option<u8>,
        noticed: bool,
    },
    /// The server is told to stop, and starts again afterwards.
    Stop { whom: Target },
    /// The power of all nodes goes.
    Everyone,
    /// The process freezes.
    Pause { whom: Target },
    /// The process sleeps for so long, wakes for a moment, and sleeps again.
    Slow { whom: Target, nap: u64 },
    /// The acceptor fails.
    Acceptor { whom: Target },
    /// Links are cut; what is sent is lost, or held until the end.
    Cut {
        shape: Shape,
        whom: Target,
        turn: usize,
        hold: bool,
        noticed: bool,
    },
    /// Each sync takes up to so long.
    SlowDisk { whom: Target, sync: u64 },
    /// There is room for so many more bytes.
    FullDisk { whom: Target, room: usize },
    /// A write or sync fails.
    FailDisk { whom: Target, step: u64 },
    /// The node crashes and a byte of its log flips.
    Flip { whom: Target },
    /// The node crashes and a byte of its snapshot flips.
    FlipSnapshot { whom: Target },
    /// The node crashes and its directory is emptied; `blank`: it looks new, else as one whose log is
    /// gone.
    Wipe { whom: Target, blank: bool },
}

/// A fault and its time, from when the plan begins.
#[derive(Debug, Clone, Copy)]
pub(super) struct Planned {
    pub(super) at: u64,
    pub(super) lasts: u64,
    pub(super) fault: Fault,
}

impl fmt::Display for Planned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (at, lasts) = (self.at / MS, self.lasts / MS);
        write!(f, "at {at} ms for {lasts} ms: {:?}", self.fault)
    }
}

/// What a life is made of.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) size: u8,
    pub(super) faults: Vec<Planned>,
    /// How fast each node's clock ticks, in percent.
    pub(super) clock_percent: Vec<u64>,
    /// How each node's clock is wrong about the time of day.
    pub(super) walls: Vec<Wall>,
    /// How long a request may wait, in ticks.
    pub(super) deadline_ticks: u64,
    /// The safety phase lasts at least so long.
    pub(super) lasts: u64,
    /// How many nodes, at most, stay down when the faults end.
    pub(super) stay_down: usize,
    pub(super) sector_bytes: usize,
    pub(super) first_segment_bytes: usize,
    pub(super) segment_bytes_max: usize,
    /// What a log may always take. Small enough next to what a life writes for many snapshots, or so large
    /// that there is none.
    pub(super) log_bytes_max: usize,
    pub(super) preload: bool,
    /// The delay of a link that has nothing, at least and at most.
    pub(super) delay: (u64, u64),
    /// How long a sync takes, at least and at most.
    pub(super) sync: (u64, u64),
    /// How long a message, a sync and the answer take at most, where links or disks are slow all the
    /// life long; else 0. What a life has time for grows by some of these rounds.
    pub(super) slow_round: u64,
}

/// The first fault may come this early. A cluster that has not begun by then cannot survive all of them
/// (see `replica::memory`): the plan waits for it.
pub(super) const FIRST_FAULT: u64 = 100 * MS;

/// What takes so long each time is slow: two ticks and more.
const FAR: u64 = 20 * MS;

/// A clock that is wrong by less than a key lives, or by more, and may be set right or wrong once.
fn draw_wall(lasts: u64, dice: &mut Dice) -> Wall {
    let by = |dice: &mut Dice| dice.between(0..=2_000).cast_signed() - 1_000;
    Wall {
        ahead: by(dice),
        jump: if dice.chance(500) { by(dice) } else { 0 },
        at: dice.below(lasts),
    }
}

impl Plan {
    /// Whether every clock runs as fast as time does, and says the right time.
    pub(super) fn has_right_clocks(&self) -> bool {
        self.clock_percent.iter().all(|&percent| percent == 100)
            && self.walls.iter().all(|wall| *wall == Wall::default())
    }

    pub(super) fn draw(profile: Profile, dice: &mut Dice) -> Self {
        let size = dice.pick(&[3, 3, 3, 5, 5, 5, 5, 7]);
        let nodes = usize::from(size);
        let skewed = match profile {
            Profile::Crashy => dice.chance(500),
            Profile::All => dice.chance(200),
            _ => false,
        };
        let clock_percent = (0..nodes)
            .map(|_| if skewed { dice.between(60..=160) } else { 100 })
            .collect();
        let lasts = dice.between(1_200..=2_200) * MS;
        let wrong = skewed || profile == Profile::All && dice.chance(300);
        let walls = (0..nodes)
            .map(|_| {
                if wrong {
                    draw_wall(lasts, dice)
                } else {
                    Wall::default()
                }
            })
            .collect();
        let delay = dice.pick(&[(20, 60), (50, 300), (200, 2_000)]);
        let minority = nodes.div_ceil(2) - 1;
        let stay_down = match profile {
            Profile::Calm => 0,
            _ if dice.chance(300) => minority,
            _ => 0,
        };
        let mut plan = Self {
            size,
            faults: Vec::new(),
            clock_percent,
            walls,
            // Longer than the 40 ticks after which a server hands its commands on again, at most: after
            // a cut that nobody noticed, fresh ones wait for that too.
            deadline_ticks: dice.pick(&[50, 60, 100, 150]),
            lasts,
            stay_down,
            sector_bytes: dice.pick(&[64, 128, 512]),
            first_segment_bytes: dice.pick(&[1_024, 4_096, 16_384]),
            segment_bytes_max: dice.pick(&[4_096, 16_384]),
            log_bytes_max: dice.pick(&[2_000, 4_000, 8_000, 1 << 20]),
            preload: dice.chance(250),
            delay,
            sync: dice.pick(&[(30, 100), (80, 400), (500, 4_000)]),
            slow_round: 0,
        };
        let kinds = profile.kinds();
        if !kinds.is_empty() {
            let count = dice.between(4..=12);
            for _ in 0..count {
                let kind = kind(kinds, dice);
                plan.faults.push(draw(kind, nodes, lasts, dice));
            }
        }
        let wipes = kinds.iter().any(|(_, kind)| matches!(kind, Kind::Wipe));
        if wipes && dice.chance(60) {
            plan.faults.extend(draw_forgotten(nodes, lasts, dice));
        }
        plan.slow_down(dice);
        plan
    }

    /// Some lives have slow links, slow disks or both from their beginning to their end: that is no
    /// fault, and nobody mends it.
    fn slow_down(&mut self, dice: &mut Dice) {
        let (far, slow) = (dice.chance(100), dice.chance(100));
        if far {
            let one_way = dice.pick(&[25, 50, 100, 200]) * MS;
            self.delay = (one_way * 7 / 8, one_way);
        }
        if slow {
            self.sync = (30 * MS, 40 * MS);
        }
        if far || slow {
            self.slow_round = 2 * self.delay.1 + self.sync.1;
            self.deadline_ticks += 8 * self.slow_round / (10 * MS);
        }
    }

    /// Whether links are slow all the life long.
    pub(super) fn is_far(&self) -> bool {
        self.delay.0 >= FAR
    }

    /// Whether disks are slow all the life long.
    pub(super) fn has_slow_disks(&self) -> bool {
        self.sync.0 >= FAR
    }
}

fn kind(kinds: &[(u64, Kind)], dice: &mut Dice) -> Kind {
    let sum: u64 = kinds.iter().map(|&(weight, _)| weight).sum();
    let mut left = dice.below(sum);
    for &(weight, kind) in kinds {
        if left < weight {
            return kind;
        }
        left -= weight;
    }
    unreachable!("the weights add up to {sum}")
}

fn draw(kind: Kind, nodes: usize, lasts: u64, dice: &mut Dice) -> Planned {
    let at = dice.between(FIRST_FAULT..=lasts);
    let node = dice.index(nodes);
    let whom = if dice.chance(400) {
        Target::Leader(node)
    } else {
        Target::Node(node)
    };
    let short = dice.between(1..=80) * MS;
    let long = dice.between(20..=700) * MS;
    let noticed = dice.chance(600);
    let (lasts, fault) = match kind {
        Kind::Weather => (
            long,
            Fault::Weather {
                loss: dice.pick(&[0, 5, 50, 250]),
                doubling: dice.pick(&[0, 20, 150]),
                overtaking: dice.pick(&[0, 50, 400]),
            },
        ),
        // P27: up to about the time after which a silent leader is given up.
        Kind::SlowLinks => {
            let delay = dice.pick(&[5 * MS, 40 * MS, 200 * MS, 400 * MS]);
            (long, Fault::SlowLinks { delay })
        }
        Kind::Close => {
            let to = dice.index(nodes);
            (short, Fault::Close { from: whom, to })
        }
        Kind::Power | Kind::Kill => {
            let in_round = dice.pick(&[0, 1, 2, 3, 3, 3, 4, 4]);
            let crash = Fault::Crash {
                whom,
                power: matches!(kind, Kind::Power),
                in_round: Some(in_round).filter(|&part| part < 4),
                noticed,
            };
            (dice.pick(&[short, long]), crash)
        }
        Kind::Stop => (long, Fault::Stop { whom }),
        Kind::Everyone => (short, Fault::Everyone),
        Kind::Pause => (long, Fault::Pause { whom }),
        Kind::Slow => {
            let nap = dice.pick(&[50 * MS, 100 * MS, 200 * MS, 300 * MS]);
            let lasts = dice.between(400..=700) * MS;
            (lasts, Fault::Slow { whom, nap })
        }
        Kind::Acceptor => (dice.pick(&[short, long]), Fault::Acceptor { whom }),
        Kind::Cut => {
            let shape = dice.pick(&[
                Shape::OneWay,
                Shape::Mute,
                Shape::Deaf,
                Shape::BothWays,
                Shape::Isolated,
                Shape::Split,
                Shape::Hub,
                Shape::Chain,
            ]);
            let cut = Fault::Cut {
                shape,
                whom,
                turn: dice.index(nodes),
                hold: dice.chance(500),
                noticed: dice.chance(300),
            };
            (long, cut)
        }
        Kind::SlowDisk => {
            let sync = dice.pick(&[10 * MS, 60 * MS, 300 * MS]);
            (long, Fault::SlowDisk { whom, sync })
        }
        Kind::FullDisk => {
            let room = dice.pick(&[0, 100, 8_192]);
            (long, Fault::FullDisk { whom, room })
        }
        Kind::FailDisk => {
            let step = dice.between(1..=6);
            (short, Fault::FailDisk { whom, step })
        }
        Kind::Flip => (short, Fault::Flip { whom }),
        Kind::FlipSnapshot => (short, Fault::FlipSnapshot { whom }),
        Kind::Wipe => {
            let blank = dice.chance(700);
            (short, Fault::Wipe { whom, blank })
        }
    };
    Planned { at, lasts, fault }
}

/// One of the others: the turns go round all of them, so that everyone comes to stand beside everyone.
pub(super) fn neighbour(node: usize, turn: usize, size: usize) -> usize {
    (node + 1 + turn % (size - 1)) % size
}

/// P41, P52: a server begins a start of which one other alone hears, and asks for something in it; then
/// its directory is emptied while that other is gone. Too rare to come about by itself.
fn draw_forgotten(nodes: usize, lasts: u64, dice: &mut Dice) -> [Planned; 4] {
    let node = dice.index(nodes);
    let turn = dice.index(nodes);
    let whom = Target::Node(node);
    let witness = Target::Node(neighbour(node, turn, nodes));
    let noticed = dice.chance(600);
    let crash = |whom, power| Fault::Crash {
        whom,
        power,
        in_round: None,
        noticed,
    };
    let cut = dice.between(100..=400) * MS;
    let begin = dice.between(FIRST_FAULT..=lasts - cut);
    let wiped = begin + cut - dice.below(20 * MS);
    [
        Planned {
            at: begin,
            lasts: cut,
            fault: Fault::Cut {
                shape: Shape::Leaf,
                whom,
                turn,
                hold: dice.chance(300),
                noticed,
            },
        },
        Planned {
            at: begin + dice.below(30 * MS),
            lasts: dice.between(1..=30) * MS,
            fault: crash(whom, dice.chance(500)),
        },
        Planned {
            at: wiped - dice.below(10 * MS),
            lasts: dice.between(300..=700) * MS,
            fault: crash(witness, dice.chance(500)),
        },
        Planned {
            at: wiped,
            lasts: dice.between(1..=40) * MS,
            fault: Fault::Wipe {
                whom,
                blank: dice.chance(700),
            },
        },
    ]
}

// The plan's times stay far below what the liveness phase has to wait for.
const _: () = assert!(700 * MS < SECOND, "no fault lasts for long");
