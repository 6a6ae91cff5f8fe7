//! What clients want: writes on their way to the leader, and reads.

use crate::kv::command::Command;
use crate::outbox::{Answer, Outbox, Ticket, To};
use crate::paxos::message::{Notice, Probe, Stance};
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
        let store = &self.store;
        if let Err(error) = self
            .intake
            .on_propose(value.as_bytes(), |origin| store.counter(origin))
        {
            out.alarms
                .push(format!("{from} proposed no batch: {error}"));
        }
    }

    /// Begins a probe for the readers that came, or for the peers that asked.
    pub(super) fn begin_probe(&mut self, out: &mut Outbox) {
        if let Some(probe) = self.reads.begin(self.now) {
            out.send(To::Others, Notice::Probe(probe));
            self.on_probe(self.me, probe);
        }
    }

    /// No majority has answered so far: asks again, and by way of the leader, which may reach one.
    pub(super) fn retry_probe(&mut self, out: &mut Outbox) {
        let Some((probe, silent)) = self.reads.retry(self.now, &self.members) else {
            return;
        };
        for node in silent {
            if node == self.me {
                self.on_probe(node, probe);
            } else {
                out.send(To::One(node), Notice::Probe(probe));
            }
        }
        if self.proposer.leading().is_none()
            && let Some(leader) = self.election.leader(self.now)
        {
            out.send(To::One(leader.via), Notice::ReadIndex(probe));
        }
    }

    /// A probe is answered at the end of the round: by then the votes that have left are known. An
    /// answer to the newest of a node is one to all before.
    pub(super) fn on_probe(&mut self, from: NodeId, probe: Probe) {
        let newest = self.probed.entry(from).or_insert(probe);
        *newest = probe.max(*newest);
    }

    pub(super) fn answer_probes(&mut self, out: &mut Outbox) {
        let probed = std::mem::take(&mut self.probed);
        if voter(&mut self.acceptor, &self.memory).is_none() {
            return;
        }
        let slot = self.voted;
        for (node, probe) in probed {
            if node == self.me {
                self.on_mark(node, probe, slot, out);
            } else {
                out.send(To::One(node), Notice::Mark { probe, slot });
            }
        }
    }

    pub(super) fn on_mark(&mut self, from: NodeId, probe: Probe, slot: Slot, out: &mut Outbox) {
        self.reads
            .on_mark(from, probe, slot, &self.members, self.now, out);
    }

    /// A peer that reaches no majority itself wants to know where one stands.
    pub(super) fn on_read_index(&mut self, from: NodeId, probe: Probe) {
        let deadline = self.now + self.deadline_ticks;
        self.reads.on_read_index(from, probe, deadline);
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
