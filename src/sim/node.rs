//! A node: a replica with its log and its disk, as one process that runs or does not.

use std::collections::VecDeque;

use super::disk::SimDir;
use super::network::Line;
use crate::disk::log::Log;
use crate::outbox::To;
use crate::paxos::acceptor::Acceptor;
use crate::paxos::message::Vote;
use crate::paxos::record::Record;
use crate::paxos::types::{Ballot, NodeId};
use crate::replica::Replica;

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
    /// A round is due already.
    pub(super) round_due: bool,
    /// The clock has ticked; twice counts once (P36).
    pub(super) tick_due: bool,
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
    pub(super) jobs: VecDeque<Job>,
    pub(super) group: Option<Group>,
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
    /// Counts the starts.
    pub(super) life: u64,
    /// All records that must never be missing again.
    pub(super) durable: Vec<Record>,
    /// How many of these were durable when the newest were written: damage to them can be seen.
    pub(super) proven: usize,
    pub(super) tick: u64,
    /// How many faults say that the acceptor is failed.
    pub(super) acceptor_failed: u32,
    /// How long a sync may take on top.
    pub(super) slow_sync: u64,
    /// A byte of its log was flipped.
    pub(super) flipped: bool,
    /// It refused to start, and stays down.
    pub(super) lost: bool,
    /// It stays down until the end.
    pub(super) stays_down: bool,
}

impl Node {
    pub(super) fn new(id: NodeId, dir: SimDir, tick: u64) -> Self {
        Self {
            id,
            dir,
            running: None,
            life: 0,
            durable: Vec::new(),
            proven: 0,
            tick,
            acceptor_failed: 0,
            slow_sync: 0,
            flipped: false,
            lost: false,
            stays_down: false,
        }
    }

    /// Whether it runs and is not frozen.
    pub(super) fn is_awake(&self) -> bool {
        self.running.as_ref().is_some_and(|run| run.frozen == 0)
    }
}

impl Running {
    pub(super) fn new(replica: Replica, log: Log<SimDir>) -> Self {
        Self {
            replica,
            inbox: VecDeque::new(),
            round_due: false,
            tick_due: false,
            frozen: 0,
            logged_due: false,
            acceptor: AcceptorState::Up,
            stopping: false,
            crash_in_round: None,
            leads: None,
            log,
            jobs: VecDeque::new(),
            group: None,
            pending: Vec::new(),
            pending_bytes: 0,
        }
    }
}
