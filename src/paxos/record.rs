//! What a node must remember over a restart, one kind a line in its log.

use super::types::{Ballot, Life, NodeId, Slot, Value};

/// One remembered fact. A node's memory is the fold of its records in order.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Record {
    /// `start 5`: this is the node's fifth start. Ids made in an earlier start are void.
    Start(u64),
    /// `ballot b3.2`: this node is about to prepare this ballot of its own, and never will again.
    Ballot(Ballot),
    /// `promise b3.2`: the acceptor promised to take part in no lower ballot.
    Promise(Ballot),
    /// `accept b3.2 s17 VALUE`: the acceptor accepted, and with it promised, this ballot.
    Accept(Ballot, Slot, Value),
    /// `decided b3.2 s17`: every slot up to this one is decided; one that was accepted under this
    /// very ballot is decided with that value.
    Decided(Ballot, Slot),
    /// `learn s17 VALUE`: the slot is decided with this value, as a peer told.
    Learn(Slot, Value),
    /// `peer n2 5.00c0ffee00c0ffee`: this life of a peer is known; its earlier ones are over.
    Peer(NodeId, Life),
    /// `trim s17`: a snapshot that holds every slot up to this one was durable when this was
    /// written. What came before it about those slots may be gone.
    Trim(Slot),
    /// `untrim s9`: no snapshot that holds more than the slots up to this one is here any more, nor
    /// could it be had from anyone. Always beside a `lost`.
    Untrim(Slot),
    /// `lost`: what this node remembers is not all that it once voted. It must not vote.
    Lost,
    /// `sound s17`: from here on this node remembers all that it votes, and may vote. What it may have
    /// accepted before in the slots up to this one it need not know: they were told to be decided.
    Sound(Slot),
}

impl Record {
    /// Whether the votes of the same step rest on this record, so that it must be synced before they
    /// leave. What is known to be decided can be asked for again after a restart; only a promise
    /// tells it to others, and therefore waits for these records as well.
    pub fn binds(&self) -> bool {
        match self {
            Self::Start(_)
            | Self::Ballot(_)
            | Self::Promise(_)
            | Self::Accept(..)
            | Self::Peer(..)
            | Self::Trim(_)
            | Self::Untrim(_)
            | Self::Lost
            | Self::Sound(_) => true,
            Self::Decided(..) | Self::Learn(..) => false,
        }
    }
}
