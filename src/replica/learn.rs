//! What is decided becomes what is stored: learning, catching up, applying, comparing.

use log::debug;

use crate::kv::batch::Batch;
use crate::kv::command::CommandId;
use crate::kv::store::{Fate, Store};
use crate::outbox::{Outbox, To};
use crate::paxos::message::Notice;
use crate::paxos::record::Record;
use crate::paxos::types::{Ballot, NodeId, Slot, Value};

use super::admission::near;
use super::{Replica, catchup, image};

/// How many slots are applied without letting the readers of the store in between.
const APPLY_SLOTS_MAX: usize = 64;

/// Slots that are about so many keys together are applied before more are taken: half of what may be
/// changed under the store's lock, so that a few ordinary batches are never too many for it.
const APPLY_KEYS_MIN: usize = 256;

/// For how many of the last slots the state hash is remembered, to be compared with the peers'.
const HASHES_MAX: usize = 4_096;

impl Replica {
    pub(super) fn on_decided(&mut self, ballot: Ballot, upto: Slot) {
        let upto = near(upto, self.learner.decided());
        if self.learner.on_decided(ballot, upto) {
            self.words.insert(ballot, upto);
        }
    }

    /// Tells everyone up to where this leader knows all to be decided, once each time it grows.
    pub(super) fn tell_decided(&mut self, out: &mut Outbox) {
        let Some(leading) = self.proposer.leading() else {
            return;
        };
        let (ballot, upto) = (leading.ballot(), leading.decided());
        if upto > self.decided_told {
            self.decided_told = upto;
            out.send(To::Others, Notice::Decided { ballot, upto });
        }
    }

    /// Tells some decided values to a node that lacks them; where they are trimmed, the beginning of
    /// a snapshot (P25).
    pub(super) fn on_fetch(&mut self, from: NodeId, first: Slot, upto: Slot, out: &mut Outbox) {
        if first <= self.learner.trimmed() {
            return self.on_fetch_image(from, Slot::ZERO, &image::start(), out);
        }
        let values = catchup::values(&self.learner, first, upto);
        if !values.is_empty() {
            out.send(
                To::One(from),
                Notice::Fetched {
                    from: first,
                    values,
                },
            );
        }
    }

    pub(super) fn on_fetched(
        &mut self,
        from: NodeId,
        first: Slot,
        values: &[Value],
        out: &mut Outbox,
    ) {
        if !self.learner.on_fetched(first, values).is_empty() {
            let missing = self.learner.missing();
            self.catchup
                .on_progress(from, missing, self.paces.of(from), self.now, out);
        }
    }

    /// Applies every decided slot, each once and in order, and answers this server's own clients.
    pub(super) fn apply_decided(&mut self, out: &mut Outbox) {
        while self.applied < self.learner.decided() {
            self.apply_next(out);
        }
    }

    /// Applies the next decided slot, and those after it that go with it.
    fn apply_next(&mut self, out: &mut Outbox) {
        let (mut batches, mut keys, mut last) = (Vec::new(), 0_usize, self.applied);
        while last < self.learner.decided()
            && batches.len() < APPLY_SLOTS_MAX
            && keys < APPLY_KEYS_MIN
        {
            last = Slot(last.0 + 1);
            let batch = self.read_batch(last, out);
            keys = keys.saturating_add(batch.keys());
            batches.push(batch);
        }
        let time = batches.iter().filter_map(Batch::stamp).max();
        let shared = self.store.clone();
        let spent = shared.change(keys, time, |store| {
            for batch in &batches {
                let slot = Slot(self.applied.0 + 1);
                store.apply(slot.0, batch, |id, fate| self.on_fate(id, fate, out));
                self.applied = slot;
                self.hashes.push_back((slot, store.hash()));
            }
            self.note_time(store);
        });
        out.spent.extend(spent);
        while self.hashes.len() > HASHES_MAX {
            self.hashes.pop_front();
        }
    }

    /// The store has come to another slot.
    pub(super) fn note_time(&mut self, store: &Store) {
        (self.time, self.first_end) = (store.time(), store.first_end());
        self.stamps.on_applied(self.time);
    }

    pub(super) fn read_batch(&mut self, slot: Slot, out: &mut Outbox) -> Batch {
        let by = self.learner.take_ballot(slot);
        let value = self
            .learner
            .value(slot)
            .expect("a decided slot has a value");
        // What others are told to be decided here must be so after a restart. The recorded word
        // of a ballot says it where the last recorded proposal is of that ballot.
        let accepted = self
            .acceptor
            .as_ref()
            .and_then(|acceptor| acceptor.accepted_ballot(slot));
        if by.is_none() || by != accepted {
            out.record(Record::Learn(slot, value.clone()));
        }
        if value.is_noop() {
            return Batch::empty();
        }
        let batch = Batch::read(value.as_bytes());
        if let Some(error) = batch.error() {
            out.alarms.push(format!(
                "{slot} holds no batch and changes nothing: {error}"
            ));
        }
        batch
    }

    pub(super) fn on_fate(&mut self, id: CommandId, fate: Fate, out: &mut Outbox) {
        if id.origin == self.me.number() {
            self.memory.on_decided_start(id.start);
        }
        match fate {
            Fate::Applied(outcome) if self.origin.owns(id) => {
                self.origin.on_applied(id.number, outcome, self.now, out);
            }
            Fate::Skipped { expected } => {
                debug!("{id} skipped: number {expected} of its origin comes first");
                self.intake.on_skipped(id.origin, id.start, expected);
                if self.origin.owns(id) {
                    self.origin.on_skipped(expected, self.now);
                }
            }
            Fate::Applied(_) | Fate::Repeat => {}
        }
    }
}
