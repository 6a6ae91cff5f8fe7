//! What clients want: writes on their way to the leader, and reads.

use crate::kv::command::Command;
use crate::outbox::{Answer, Outbox, Ticket, To};
use crate::paxos::message::{Notice, Probe, Stance, Vote};
use crate::paxos::types::{Ballot, NodeId, Slot, Value};

use super::ballots::voter;
use super::{Replica, origin};

/// Up to how many slots above what is decided a `Finish` makes the leader fill; a reader of a later
/// one asks again.
const FINISH_SLOTS_MAX: u64 = 1_000;

impl Replica {
    pub(super) fn on_write(&mut self, ticket: Ticket, command: Command, out: &mut Outbox) {
        if self.stopping {
            return out.answer(ticket, Answer::NotDone(origin::SHUTTING_DOWN));
        }
        let deadline = self.now + self.deadline_ticks;
        self.origin.on_write(ticket, command, deadline, out);
    }

    pub(super) fn on_read(&mut self, ticket: Ticket, out: &mut Outbox) {
        if self.stopping {
            return out.answer(ticket, Answer::NotDone(origin::SHUTTING_DOWN));
        }
        self.reads
            .on_read(ticket, self.now + self.deadline_ticks, out);
    }

    pub(super) fn on_stop(&mut self, out: &mut Outbox) {
        self.stopping = true;
        self.origin.refuse_queued(out);
        self.reads.refuse(origin::SHUTTING_DOWN, out);
    }

    /// Sends this server's commands to the leader, if one is known.
    pub(super) fn hand_on(&mut self, out: &mut Outbox) {
        if self.proposer.leading().is_some() {
            for value in self.origin.hand_on(self.now) {
                self.take_in(self.me, &value, out);
            }
        } else if let Some(leader) = self.election.leader(self.now) {
            for value in self.origin.hand_on(self.now) {
                out.send(
                    To::One(leader.via),
                    Notice::Propose {
                        relayed: false,
                        value,
                    },
                );
            }
        }
    }

    /// Another node's commands: for the leader, or to be handed on to it where the two do not reach
    /// each other.
    pub(super) fn on_propose(
        &mut self,
        from: NodeId,
        relayed: bool,
        value: Value,
        out: &mut Outbox,
    ) {
        if self.proposer.leading().is_some() {
            self.take_in(from, &value, out);
        } else if let Some(ballot) = self.election.following(self.now)
            && !relayed
        {
            let leader = ballot.node().expect("a leader's ballot is of a node");
            out.send(
                To::One(leader),
                Notice::Propose {
                    relayed: true,
                    value,
                },
            );
        }
    }

    pub(super) fn take_in(&mut self, from: NodeId, value: &Value, out: &mut Outbox) {
        let store = self.store.lock();
        if let Err(error) = self
            .intake
            .on_propose(value.as_bytes(), |origin| store.counter(origin))
        {
            out.alarms
                .push(format!("{from} proposed no batch: {error}"));
        }
    }

    pub(super) fn send_probe(&mut self, probe: Probe, out: &mut Outbox) {
        out.send(To::Others, Notice::Probe(probe));
        self.on_probe(self.me, probe, out);
    }

    pub(super) fn on_probe(&mut self, from: NodeId, probe: Probe, out: &mut Outbox) {
        let Some(acceptor) = voter(&mut self.acceptor, &self.memory) else {
            return;
        };
        let slot = acceptor.highest();
        out.vote(To::One(from), Vote::Mark { probe, slot });
    }

    /// A reader waits for a slot that a dead leader left to a minority: no-ops finish it.
    pub(super) fn on_finish(&mut self, from: NodeId, upto: Slot, out: &mut Outbox) {
        let Some(leading) = self.proposer.leading() else {
            return self.relay_finish(from, upto, out);
        };
        let last = upto.min(Slot(leading.decided().0 + FINISH_SLOTS_MAX));
        while self
            .proposer
            .leading()
            .is_some_and(|leading| leading.next() <= last)
        {
            self.propose(Value::noop(), out);
        }
    }

    /// P29, chained: a node that hears no leader itself asks by way of one that does. What such a
    /// one asks is not handed on, so no message goes in a circle.
    fn relay_finish(&self, from: NodeId, upto: Slot, out: &mut Outbox) {
        let idle = self
            .election
            .heard(from, self.now)
            .is_some_and(|beat| beat.stance == Stance::Idle);
        if let Some(leader) = self.election.following(self.now).and_then(Ballot::node)
            && idle
        {
            out.send(To::One(leader), Notice::Finish { upto });
        }
    }

    pub(super) fn nudge(&mut self, out: &mut Outbox) {
        let Some(upto) = self.reads.nudge(self.now) else {
            return;
        };
        if self.proposer.leading().is_some() {
            self.on_finish(self.me, upto, out);
        } else if let Some(leader) = self.election.leader(self.now) {
            out.send(To::One(leader.via), Notice::Finish { upto });
        }
    }
}
