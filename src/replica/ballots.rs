//! Both phases of Paxos, as messages of a replica: what its proposer and acceptor do when asked.
//!
//! The decisions stand in [`crate::paxos`]; here they meet the records, votes and notices that they
//! cause. A vote never leaves without its record before it in the same outbox.

use log::{debug, info};

use crate::kv::batch::{push_separator, write_command};
use crate::kv::command::{Command, CommandId};
use crate::outbox::{Outbox, To};
use crate::paxos::acceptor::{Acceptor, Refusal};
use crate::paxos::message::{Notice, Promise, Vote};
use crate::paxos::pace::Asked;
use crate::paxos::proposer::{Elected, Promised, Proposal};
use crate::paxos::record::Record;
use crate::paxos::types::{Ballot, NodeId, Slot, Value};

use super::memory::Memory;
use super::{PRELOAD_BYTES_MAX, Replica};

/// How many slots the leader keeps open at once. More commands wait and form larger batches.
const OPEN_SLOTS_MAX: usize = 32;

impl Replica {
    /// Tries to lead, with a ballot never used before.
    pub(super) fn campaign(&mut self, out: &mut Outbox) {
        let Some(ballot) = self.next_ballot() else {
            return;
        };
        let from = self.learner.decided().next();
        info!("preparing {ballot} from {from} on");
        out.record(Record::Ballot(ballot));
        self.proposer.prepare(ballot, from);
        self.prepared.clear();
        self.prepare(out);
    }

    /// A ballot never used before. None at the end of the range, which no text goes beyond.
    pub(super) fn next_ballot(&mut self) -> Option<Ballot> {
        if self.round_seen >= Ballot::ROUND_MAX {
            return None;
        }
        self.round_seen += 1;
        Some(Ballot::new(self.round_seen, self.me))
    }

    /// Asks all who have not promised everything yet, but for those who were asked and have time.
    pub(super) fn prepare(&mut self, out: &mut Outbox) {
        let Some(ballot) = self.proposer.ballot() else {
            return;
        };
        for (node, from) in self.proposer.unpromised(&self.members) {
            let asked = self.prepared.get(&node);
            if asked.is_none_or(|&asked| self.paces.of(node).is_overdue(asked, self.now)) {
                self.prepare_at(node, ballot, from, out);
            }
        }
    }

    /// Asks one node.
    fn prepare_at(&mut self, node: NodeId, ballot: Ballot, from: Slot, out: &mut Outbox) {
        let now = self.now;
        match self.prepared.get_mut(&node) {
            Some(asked) => {
                *asked = asked.again(now);
                self.paces.of(node).on_again(now);
            }
            None => drop(self.prepared.insert(node, Asked::new(now))),
        }
        if node == self.me {
            self.on_prepare(node, ballot, from, out);
        } else {
            out.vote(To::One(node), Vote::Prepare { ballot, from });
        }
    }

    pub(super) fn on_prepare(
        &mut self,
        from: NodeId,
        ballot: Ballot,
        first: Slot,
        out: &mut Outbox,
    ) {
        let decided = self.learner.decided();
        let Some(acceptor) = voter(&mut self.acceptor, &self.memory) else {
            return;
        };
        let before = acceptor.promised();
        match acceptor.on_prepare(ballot, first, decided) {
            Ok(promise) => {
                if ballot > before {
                    out.record(Record::Promise(ballot));
                }
                let starts = self.memory.starts(self.me);
                let promise = Promise { starts, ..promise };
                out.vote(To::One(from), Vote::Promise(promise));
            }
            Err(refusal) => self.refuse(from, ballot, &refusal, out),
        }
    }

    pub(super) fn on_promise(&mut self, from: NodeId, promise: Promise, out: &mut Outbox) {
        if !self.counts(from, &promise.starts) {
            return debug!("not counting a promise of {from}: it may not know this start");
        }
        let ballot = promise.ballot;
        let promised = self
            .proposer
            .on_promise(from, promise, &self.members, self.now);
        // One that comes after the majority's tells as much about its sender's pace.
        let news = promised != Promised::Stale || self.proposer.leading().is_some();
        if news && let Some(asked) = self.prepared.remove(&from) {
            self.paces.of(from).on_answer(asked, self.now);
        }
        match promised {
            Promised::Stale | Promised::Counted => {}
            // The others have their own part to tell and were asked for it.
            Promised::More(next) => self.prepare_at(from, ballot, next, out),
            Promised::Elected(elected) => self.on_elected(elected, out),
            Promised::Recalled(recalled) => self.on_recalled(recalled, out),
        }
    }

    pub(super) fn on_elected(&mut self, elected: Elected, out: &mut Outbox) {
        let Elected {
            ballot,
            decided,
            decided_by,
            proposals,
        } = elected;
        let repaired = proposals.len();
        info!("elected with {ballot}: all up to {decided} is decided, {repaired} slots to repair");
        self.intake.clear();
        self.stamps.begin(self.time);
        self.decided_told = decided;
        self.learner.on_known(decided);
        if let Some((node, missing)) = decided_by.zip(self.learner.missing()) {
            self.catchup.ask(node, missing, self.now, out);
        }
        let empty = decided == Slot::ZERO && proposals.is_empty();
        for proposal in proposals {
            self.send_proposal(&proposal, out);
        }
        if empty && !self.preload.is_empty() {
            info!(
                "the log is empty: proposing {} pre-loaded commands",
                self.preload.len()
            );
            let value = preload_batch(&self.preload);
            self.propose(value, out);
        }
    }

    pub(super) fn on_nack(&mut self, refused: Ballot, promised: Ballot, out: &mut Outbox) {
        if self.proposer.ballot() == Some(refused) && promised > refused {
            self.stop_leading(&format!("{promised} was promised to another node"), out);
        }
    }

    /// Ends phase 1 or phase 2, whichever is under way.
    pub(super) fn stop_leading(&mut self, why: &str, out: &mut Outbox) {
        let Some(ballot) = self.proposer.ballot() else {
            return;
        };
        let what = if self.proposer.leading().is_some() {
            "no longer leading"
        } else {
            "giving up"
        };
        info!("{what} with {ballot}: {why}");
        self.proposer.stop();
        self.intake.clear();
        self.election.on_defeat(self.now);
        self.send_heartbeat(To::Others, out);
    }

    /// Makes batches of all that waits and proposes them.
    pub(super) fn propose_waiting(&mut self, out: &mut Outbox) {
        // The pre-loaded commands come first: if s2 outlived s1, the next leader would find a log
        // that is not empty, close s1 with a no-op, and they would be lost.
        let first = !self.preload.is_empty();
        while self.proposer.leading().is_some_and(|leading| {
            leading.open_slots() < OPEN_SLOTS_MAX && !(first && leading.decided() == Slot::ZERO)
        }) {
            let Some(batch) = self.intake.take_batch() else {
                return self.propose_ends(out);
            };
            let batch = self.stamps.stamp(batch);
            self.propose(batch, out);
        }
    }

    /// Keys have come to their end and nothing else is proposed: a slot with a stamp ends them, and more
    /// slots remove what one does not.
    fn propose_ends(&mut self, out: &mut Outbox) {
        let Some(end) = self.first_end.filter(|&end| self.stamps.is_past(end)) else {
            return;
        };
        let leading = self.proposer.leading().expect("only a leader proposes");
        if !self.stamps.has_proposed(end) || leading.open_slots() == 0 {
            let stamp = self.stamps.stamp(Value::noop());
            self.propose(stamp, out);
        }
    }

    pub(super) fn propose(&mut self, value: Value, out: &mut Outbox) {
        let now = self.now;
        let leading = self.proposer.leading().expect("only a leader proposes");
        let proposal = leading.propose(value, now);
        self.send_proposal(&proposal, out);
    }

    pub(super) fn send_proposal(&mut self, proposal: &Proposal, out: &mut Outbox) {
        let Proposal {
            ballot,
            slot,
            value,
        } = proposal;
        let accept = Notice::Accept {
            ballot: *ballot,
            slot: *slot,
            value: value.clone(),
        };
        out.send(To::Others, accept);
        // D17: the proposer's own acceptor is one of the majority.
        self.on_accept(self.me, *ballot, *slot, value, out);
    }

    pub(super) fn on_accept(
        &mut self,
        from: NodeId,
        ballot: Ballot,
        slot: Slot,
        value: &Value,
        out: &mut Outbox,
    ) {
        self.learner.on_proposal(ballot, slot, value);
        let decided = self.learner.decided();
        let Some(acceptor) = voter(&mut self.acceptor, &self.memory) else {
            return;
        };
        let again = acceptor.accepted_ballot(slot) == Some(ballot);
        let room = self.ahead.room(acceptor, decided, slot, value);
        if room.is_none() && !again {
            return debug!("not voting for {slot} of {from}: too much is undecided here");
        }
        match acceptor.on_accept(ballot, slot, value) {
            Ok(()) => {
                if let Some(room) = room.filter(|_| !again) {
                    self.ahead.on_accepted(room);
                    out.record(Record::Accept(ballot, slot, value.clone()));
                }
                if from != self.me && slot > self.voted {
                    // P53: before the leader hears it, this node knows that it has left.
                    out.vote(To::One(self.me), Vote::Accepted { ballot, slot });
                }
                out.vote(To::One(from), Vote::Accepted { ballot, slot });
            }
            Err(refusal) => self.refuse(from, ballot, &refusal, out),
        }
    }

    pub(super) fn refuse(
        &mut self,
        from: NodeId,
        refused: Ballot,
        refusal: &Refusal,
        out: &mut Outbox,
    ) {
        match *refusal {
            Refusal::Promised(promised) if from == self.me => self.on_nack(refused, promised, out),
            Refusal::Promised(promised) => {
                out.send(To::One(from), Notice::Nack { refused, promised });
            }
            Refusal::TwoValues => {
                out.alarms
                    .push(format!("I1: {from} sent two values under {refused}"));
            }
        }
    }

    pub(super) fn on_accepted(&mut self, from: NodeId, ballot: Ballot, slot: Slot) {
        if from == self.me {
            self.voted = self.voted.max(slot);
        }
        let Some(leading) = self.proposer.leading() else {
            return;
        };
        let pace = self.paces.of(from);
        match leading.asked(from, ballot, slot) {
            Some(asked) => pace.on_answer(asked, self.now),
            None => pace.on_progress(self.now),
        }
        if let Some(upto) = leading.on_accepted(from, ballot, slot, &self.members) {
            self.on_decided(ballot, upto);
        }
    }
}

/// The acceptor, if it may vote: it is up, and remembers all that it ever voted (P40, P41).
pub(super) fn voter<'a>(
    acceptor: &'a mut Option<Acceptor>,
    memory: &Memory,
) -> Option<&'a mut Acceptor> {
    acceptor.as_mut().filter(|_| memory.is_sound())
}

/// The pre-loaded commands as the batch of one slot. They are numbered as commands of `n0`, which is
/// no server: so they apply once, however many leaders propose them.
fn preload_batch(commands: &[Command]) -> Value {
    let mut text = Vec::new();
    for (command, number) in commands.iter().zip(1..) {
        if !text.is_empty() {
            push_separator(&mut text);
        }
        write_command(
            &mut text,
            CommandId {
                origin: 0,
                start: 1,
                number,
            },
            command,
        );
    }
    assert!(
        text.len() <= PRELOAD_BYTES_MAX,
        "the size was checked where the file was read"
    );
    Value::new(text).expect("the text of a batch has no LF")
}
