//! A node: a replica with its log and its disk, as one process that runs or does not.

use std::collections::VecDeque;
use std::sync::Arc;

use super::disk::SimDir;
use super::network::Line;
use crate::disk::log::Log;
use crate::kv::command::Millis;
use crate::kv::store::Store;
use crate::outbox::To;
use crate::paxos::acceptor::Acceptor;
use crate::paxos::message::Vote;
use crate::paxos::record::Record;
use crate::paxos::types::{Ballot, NodeId, Slot};
use crate::replica::growth::{Growth, Wanted};
use crate::replica::{Replica, TICK};

use super::clock::MS;

/// What waits for a node's next round.
#[derive(Debug)]
pub(super) enum Arrival {
    /// A line of a peer.
    Line { from: usize, line: Line },
    /// A client's batch of requests.
    Requests(usize),
    /// The link to a peer was made.
    LinkUp(usize),
    /// The link from a peer closed.
    LinkDown(usize),
    /// The log has grown.
    Grown(Wanted),
    /// A snapshot is durable.
    Kept(Arc<Store>),
    /// A vote of this node for itself, now that it is durable.
    Own(Vote),
    /// The acceptor that the log's records make.
    Recovered(Acceptor),
    /// It is to stop.
    Stop,
}

/// What the log thread is to do.
#[derive(Debug)]
pub(super) enum Job {
    /// The records and votes of a round.
    Step(Vec<Record>, Vec<(To, Vote)>),
    /// Read the log back for an acceptor that recovers.
    Recover,
}

/// What the log thread is doing.
#[derive(Debug, Default)]
pub(super) struct Group {
    pub(super) records: Vec<Record>,
    pub(super) votes: Vec<(To, Vote)>,
    /// Whether it ends with a sync.
    pub(super) sync: bool,
    /// Whether the log is read back afterwards.
    pub(super) recover: bool,
}

/// How a node's clock differs from the others'.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Wall {
    /// By how many milliseconds it is ahead at the beginning.
    pub(super) ahead: i64,
    /// By how many it is set forward, or back.
    pub(super) jump: i64,
    /// When, in microseconds of virtual time.
    pub(super) at: u64,
}

/// What the right time is when a life begins, in milliseconds.
const WALL_BEGIN: Millis = 1_000_000;

/// How long a tick is that is neither too long nor too short, in microseconds.
const TICK_MICROS: u64 = 10 * MS;

const _: () = assert!(TICK.as_micros() == TICK_MICROS as u128);

/// Where a node's snapshot is.
#[derive(Debug)]
pub(super) enum Snapshot {
    /// None is under way, but the replica may have been asked for one.
    None,
    /// It is being written.
    Writing(Arc<Store>),
}

/// Why a node counts as down, though it may run: it has lost what others may need.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Weak {
    /// It is whole again when it votes and has applied so much.
    pub(super) until: Slot,
}

/// What the plan did to the disk of a node that does not run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Harm {
    Log,
    Snapshot,
    /// All of it; with the log's name, or only its bytes.
    Wiped {
        /// The directory looks new; else the log alone is gone.
        blank: bool,
    },
}

/// What the replica's acceptor is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum AcceptorState {
    Up,
    Failed,
    /// The log is being read.
    Recovering,
}

/// How a node goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Crash {
    /// The power goes too, and takes what was not synced.
    pub(super) power: bool,
    /// Its peers see their links close.
    pub(super) noticed: bool,
}

/// A process that runs.
#[derive(Debug)]
#[allow(
    clippy::struct_excessive_bools,
    reason = "what is due is not exclusive"
)]
pub(super) struct Running {
    pub(super) replica: Replica,
    pub(super) inbox: VecDeque<Arrival>,
    /// What the log thread has told: heard after all that has arrived, as in `server::core`.
    pub(super) told: VecDeque<Arrival>,
    /// A round is due already.
    pub(super) round_due: bool,
    /// How often the clock has ticked: all but the last were slept through.
    pub(super) ticks_due: u64,
    /// How many faults freeze it.
    pub(super) frozen: u32,
    /// The log thread was done while it was frozen.
    pub(super) logged_due: bool,
    pub(super) acceptor: AcceptorState,
    /// It ends as soon as every client has its answer.
    pub(super) stopping: bool,
    /// It goes in the middle of its next round, after so many parts.
    pub(super) crash_in_round: Option<(u8, Crash)>,
    pub(super) leads: Option<Ballot>,

    pub(super) log: Log<SimDir>,
    pub(super) growth: Growth,
    pub(super) jobs: VecDeque<Job>,
    pub(super) group: Option<Group>,
    pub(super) snapshot: Snapshot,
    /// A snapshot is due, and waits for another node's.
    pub(super) snapshot_waits: bool,
    /// Appended, and not known to be durable.
    pub(super) pending: Vec<Record>,
    /// About how many bytes that is.
    pub(super) pending_bytes: usize,
}

/// A node, whether it runs or not.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) id: NodeId,
    pub(super) dir: SimDir,
    pub(super) running: Option<Running>,
    /// Counts the starts of the process.
    pub(super) life: u64,
    /// The newest start that its log knows.
    pub(super) start: u64,
    /// All records that must never be missing again.
    pub(super) durable: Vec<Record>,
    /// What may be durable besides, in this order: it was appended when the last process ended.
    pub(super) maybe: Vec<Record>,
    /// The highest slot under which the log may be trimmed.
    pub(super) trim_max: Slot,
    pub(super) tick: u64,
    pub(super) wall: Wall,
    /// How many faults say that the acceptor is failed.
    pub(super) acceptor_failed: u32,
    /// How long it sleeps after each moment awake; 0 if it does not.
    pub(super) nap: u64,
    /// How long a sync may take on top.
    pub(super) slow_sync: u64,
    /// What was done to its disk and not found yet.
    pub(super) harm: Option<Harm>,
    /// How many starts have failed since: one may have written down already what is lost.
    pub(super) failed_starts: u32,
    pub(super) weak: Option<Weak>,
    /// A byte of a snapshot that is there was flipped.
    pub(super) snapshot_flipped: bool,
    /// It has voted, so that it must not be taken for a new one.
    pub(super) joined: bool,
    /// It stays down until the end.
    pub(super) stays_down: bool,
}

impl Node {
    pub(super) fn new(id: NodeId, dir: SimDir, tick: u64, wall: Wall) -> Self {
        Self {
            id,
            dir,
            running: None,
            life: 0,
            start: 0,
            durable: Vec::new(),
            maybe: Vec::new(),
            trim_max: Slot::ZERO,
            tick,
            wall,
            acceptor_failed: 0,
            nap: 0,
            slow_sync: 0,
            harm: None,
            failed_starts: 0,
            weak: None,
            snapshot_flipped: false,
            joined: false,
            stays_down: false,
        }
    }

    /// What its clock says, in milliseconds.
    pub(super) fn wall(&self, now: u64) -> Millis {
        let Wall { ahead, jump, at } = self.wall;
        let ticked = now * TICK_MICROS / self.tick / MS;
        let jumped = if now < at { 0 } else { jump };
        (WALL_BEGIN + ticked).saturating_add_signed(ahead + jumped)
    }

    /// Whether it runs and is not frozen.
    pub(super) fn is_awake(&self) -> bool {
        self.running.as_ref().is_some_and(|run| run.frozen == 0)
    }
}

impl Running {
    pub(super) fn new(replica: Replica, log: Log<SimDir>, growth: Growth) -> Self {
        Self {
            replica,
            inbox: VecDeque::new(),
            told: VecDeque::new(),
            round_due: false,
            ticks_due: 0,
            frozen: 0,
            logged_due: false,
            acceptor: AcceptorState::Up,
            stopping: false,
            crash_in_round: None,
            leads: None,
            log,
            growth,
            jobs: VecDeque::new(),
            group: None,
            snapshot: Snapshot::None,
            snapshot_waits: false,
            pending: Vec::new(),
            pending_bytes: 0,
        }
    }
}
