//! What a step wants done, in three kinds that the types keep apart.
//!
//! 1. **Now**: notices, which bind nobody, and answers to clients about decided slots. They leave at
//!    once: the leader's `Accept` does not wait for its own disk, and neither does a reader's mark, which
//!    tells only of votes that have left.
//! 2. **Records**: what must never be forgotten.
//! 3. **Votes**: they leave only once the records of their step, and of all steps before it, are on
//!    disk (*Paxos Made Simple* 2.5: "an acceptor records its intended response in stable storage
//!    before actually sending the response"). There is no other way to send a vote, because
//!    `Outbox::now` does not take one.
//!
//! Besides, now and then, an image of the store that is to be made durable: a snapshot. It is no
//! record, because nothing waits for it; the shell says when it is on disk.
//!
//! A shell takes the kinds in any rhythm that keeps this order; it never drops a record.

use std::sync::Arc;

use crate::kv::command::Outcome;
use crate::kv::store::Store;
use crate::paxos::message::{Notice, Vote};
use crate::paxos::record::Record;
use crate::paxos::types::NodeId;

/// Whom a message is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum To {
    /// One node, which may be the sender itself.
    One(NodeId),
    /// Every node but the sender.
    Others,
}

/// The name of a client's request, chosen by the shell and handed back with the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(pub u64);

/// What becomes of a client's request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// The command was decided and applied.
    Done(Outcome),
    /// The store may be read now: it holds all that was acknowledged before the read was asked for.
    Readable,
    /// Surely not applied, now or ever. The text says why.
    NotDone(&'static str),
    /// Perhaps applied, perhaps later. The text says why.
    Unknown(&'static str),
}

/// What some steps want done.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Outbox {
    /// To be sent at once.
    pub now: Vec<(To, Notice)>,
    /// To be remembered, in this order.
    pub records: Vec<Record>,
    /// To be sent once `records`, and all records before, are on disk.
    pub votes: Vec<(To, Vote)>,
    /// To be made durable as a snapshot, and then handed back as `replica::Input::Kept`.
    pub keep: Option<Arc<Store>>,
    /// Stores and images that nobody needs any more: to be dropped where nobody waits, for to give back a
    /// million keys takes long.
    pub spent: Vec<Store>,
    /// For clients, at once.
    pub answers: Vec<(Ticket, Answer)>,
    /// What must not happen did: a peer contradicts this node, or sends what no node sends. One
    /// sentence each, for the log; a simulation fails at the first.
    pub alarms: Vec<String>,
}

/// Whether these votes may leave only after a sync: a record among those before them binds, or a
/// promise is among them. A promise tells up to where its sender knows all to be decided, and whoever
/// is promised so leaves those slots alone: the sender must know so after a restart too.
pub fn needs_sync(records: &[Record], votes: &[(To, Vote)]) -> bool {
    let promises = |(_, vote): &(To, Vote)| matches!(vote, Vote::Promise(_));
    records.iter().any(Record::binds) || votes.iter().any(promises)
}

impl Outbox {
    /// Sends a notice.
    pub fn send(&mut self, to: To, notice: Notice) {
        self.now.push((to, notice));
    }

    /// Sends a vote, after the records that are there.
    pub fn vote(&mut self, to: To, vote: Vote) {
        self.votes.push((to, vote));
    }

    /// Remembers.
    pub fn record(&mut self, record: Record) {
        self.records.push(record);
    }

    /// Answers a client.
    pub fn answer(&mut self, ticket: Ticket, answer: Answer) {
        self.answers.push((ticket, answer));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::paxos::message::Promise;
    use crate::paxos::types::{Ballot, Slot};

    /// P1, P2: what binds waits for the disk; and a slow disk costs nothing where nothing binds.
    #[test]
    fn a_vote_waits_for_a_sync_only_if_something_binds_it() {
        let (ballot, slot) = (Ballot::new(1, NodeId::new(2).unwrap()), Slot(1));
        let votes = |vote| vec![(To::Others, vote)];
        let again = votes(Vote::Accepted { ballot, slot });
        assert!(!needs_sync(&[], &again));
        assert!(!needs_sync(&[Record::Decided(ballot, slot)], &again));
        assert!(needs_sync(&[Record::Promise(ballot)], &again));
        let promise = Promise {
            ballot,
            from: slot,
            decided: Slot::ZERO,
            next: None,
            starts: Vec::new(),
            accepted: Vec::new(),
        };
        assert!(needs_sync(&[], &votes(Vote::Promise(promise))));
    }
}
