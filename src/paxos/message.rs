//! What nodes tell each other, in two types, because they may leave at different times.
//!
//! A [`Vote`] rests on the sender's memory: it leaves only once the records of its step, and of
//! all steps before it, are on disk. A [`Notice`] binds nobody and leaves at once. The text form of
//! both is a line (`wire::peer`); the reasons stand in `outbox`.

use std::fmt;

use super::types::{Ballot, Life, NodeId, Slot, Value};

/// Anything that one node tells another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Message {
    /// Leaves after the sync.
    Vote(Vote),
    /// Leaves at once.
    Notice(Notice),
}

/// A message that the sender must not contradict after a restart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Vote {
    /// Phase 1a, for all slots from `from` on. Bound to the record of its ballot: a node that
    /// crashes after sending it never uses that ballot again (P6).
    Prepare {
        /// The sender's own ballot.
        ballot: Ballot,
        /// The first slot that is asked about.
        from: Slot,
    },
    /// Phase 1b.
    Promise(Promise),
    /// Phase 2b: `slot` was accepted under `ballot`.
    Accepted {
        /// Whose proposal it was.
        ballot: Ballot,
        /// Where.
        slot: Slot,
    },
    /// The receiver's life is known and will be remembered, so that its earlier ones are over.
    Known(Known),
}

/// What a node says to one that asks who knows its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Known {
    /// The life of the receiver that is known.
    pub life: Life,
    /// Whether the sender had never voted itself when it first heard of that life.
    pub together: bool,
    /// Whether the sender remembers all that it ever voted, and votes.
    pub sound: bool,
}

/// Phase 1b: the acceptor takes part in no ballot below, and tells what it accepted.
///
/// A long answer comes in parts, each asked for by a `Prepare` of its own: a part that has a
/// `next` tells the slots from `from` up to, without, `next`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Promise {
    /// The ballot that was prepared.
    pub ballot: Ballot,
    /// The first slot that was asked about.
    pub from: Slot,
    /// Every slot up to this one is decided, and its value can be fetched from the sender. Slots up
    /// to here are left out of `accepted`: nobody needs to propose them again.
    pub decided: Slot,
    /// Where the next part begins; none when this is the last.
    pub next: Option<Slot>,
    /// The newest start that the acceptor knows of each node, its own among them; those that are 1 are
    /// left out.
    pub starts: Vec<(NodeId, u64)>,
    /// What the acceptor accepted, one a slot: that of the highest ballot.
    pub accepted: Vec<Accepted>,
}

/// A value that an acceptor accepted, and under which ballot.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Accepted {
    /// Where.
    pub slot: Slot,
    /// The highest ballot that the acceptor accepted in this slot.
    pub ballot: Ballot,
    /// The value of that ballot.
    pub value: Value,
}

/// A message that binds nobody.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Notice {
    /// Phase 2a: please accept `value` in `slot`.
    Accept {
        /// The sender's own ballot.
        ballot: Ballot,
        /// Where.
        slot: Slot,
        /// What.
        value: Value,
    },
    /// The acceptor has promised more than the ballot that it was asked for.
    Nack {
        /// The ballot that was refused.
        refused: Ballot,
        /// What was promised.
        promised: Ballot,
    },
    /// Every slot up to `upto` is decided; one that was proposed under `ballot` is decided with
    /// that proposal's value (P20: without the ballot this would say nothing about values).
    Decided {
        /// The sender's own ballot.
        ballot: Ballot,
        /// The last decided slot before the first open one.
        upto: Slot,
    },
    /// Sent to everyone all the time: who is there and what it sees.
    Heartbeat(Heartbeat),
    /// Please tell the decided values from `from` up to `upto`.
    Fetch {
        /// The first slot wanted.
        from: Slot,
        /// The last slot wanted.
        upto: Slot,
    },
    /// Decided values, of consecutive slots from `from` on; as many as fit into one message.
    Fetched {
        /// The first slot told.
        from: Slot,
        /// One value a slot.
        values: Vec<Value>,
    },
    /// Please tell what a snapshot holds, from `place` on.
    FetchImage {
        /// The last slot that it holds; `s0` for any.
        slot: Slot,
        /// Where in it to begin, in the sender's own words.
        place: Value,
    },
    /// A piece of a snapshot: all that was applied up to `slot`.
    Image {
        /// The last slot that it holds.
        slot: Slot,
        /// Where in it this piece begins.
        place: Value,
        /// Where the next piece begins; none when this is the last.
        next: Option<Value>,
        /// What stands there, as opaque lines.
        lines: Vec<Value>,
    },
    /// The receiver's life is over: a later one of it is known.
    Outdated {
        /// The life that is over.
        life: Life,
        /// The number of the newest start that is known.
        known: u64,
    },
    /// Some reader waits for this slot: please see that all up to it get decided.
    Finish {
        /// The slot.
        upto: Slot,
    },
    /// What is the highest slot that your acceptor has voted for?
    Probe(Probe),
    /// The answer to a probe, and with it to all before. No promise for later, so it waits for no disk.
    Mark {
        /// The newest probe that is answered.
        probe: Probe,
        /// The highest slot of all `Accepted` of this acceptor that have left it; or a higher one.
        slot: Slot,
    },
    /// Please ask a majority for me: what is the highest slot that they have voted for?
    ReadIndex(Probe),
    /// The answer to that, and with it to the probes before: a majority was asked since.
    Index {
        /// The probe that is answered.
        probe: Probe,
        /// The highest mark of a majority.
        slot: Slot,
    },
    /// Please get this decided: sent by any node to the leader.
    Propose {
        /// Whether a node that is not the leader handed it on; it is not handed on twice.
        relayed: bool,
        /// The text of some commands.
        value: Value,
    },
}

/// The name of a read probe: the asking node's start counter, and a number that grows with each probe of
/// that start, so that an answer tells which questions were asked before it was given (P51, P52).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Probe {
    /// The asking node's start counter.
    pub start: u64,
    /// Counts the probes of that start.
    pub number: u64,
}

impl fmt::Display for Probe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.start, self.number)
    }
}

/// What a node says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(clippy::struct_excessive_bools, reason = "each is a word of its own")]
pub struct Heartbeat {
    /// What it does about leading.
    pub stance: Stance,
    /// Whether it hears a majority of the nodes, itself among them.
    pub connected: bool,
    /// Whether its acceptor is up.
    pub acceptor_up: bool,
    /// Every slot up to this one is decided, and can be fetched from the sender.
    pub decided: Slot,
    /// The last slot that it has applied.
    pub applied: Slot,
    /// The state hash there.
    pub hash: u64,
    /// Which start of the sender this is.
    pub life: Life,
    /// Whether it remembers all that it ever voted, and votes. If not, it wants to be told who knows
    /// its life.
    pub sound: bool,
    /// Whether its process sleeps for most of the time, so that another should lead.
    pub slow: bool,
    /// Whether it writes a snapshot: others wait with theirs.
    pub saving: bool,
}

/// What a node does about leading.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stance {
    /// Leads with this ballot of its own.
    Leading(Ballot),
    /// Has prepared this ballot of its own and waits for promises.
    Trying(Ballot),
    /// Itself hears the node that leads with this ballot.
    Following(Ballot),
    /// Neither leads nor hears a leader.
    Idle,
}
