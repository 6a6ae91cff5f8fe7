//! The memory: what was promised, and what was accepted in each slot.
//!
//! *Paxos Made Simple* 2.2: an acceptor needs to remember only the highest ballot that it promised
//! and, a slot, the proposal of the highest ballot that it accepted; and it must remember them over
//! a failure (2.5). It keeps I2 (a promise never goes back) and I3 (nothing is accepted below the
//! promise). Its handlers return the vote and leave the record and the sending to the caller: the
//! vote may leave only after the record is on disk. It leaves out when to forget: nothing is
//! forgotten until there are snapshots.

use std::collections::BTreeMap;

use super::message::{Accepted, Promise};
use super::record::Record;
use super::types::{Ballot, Slot, Value};

/// How many bytes of values one part of a promise tells; one value more than that may be told, so
/// that a part always tells something.
const PROMISE_BYTES_MAX: usize = 1 << 20;

/// Why an acceptor did not do what it was asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// It promised this higher ballot.
    Promised(Ballot),
    /// It has accepted another value under this very ballot in this slot. No proposer does that
    /// (I1), so the line that asked was forged or garbled.
    TwoValues,
}

/// The acceptor of one node, as a value. Equal records make equal acceptors.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Acceptor {
    promised: Ballot,
    accepted: BTreeMap<Slot, (Ballot, Value)>,
}

impl Default for Acceptor {
    fn default() -> Self {
        Self {
            promised: Ballot::ZERO,
            accepted: BTreeMap::new(),
        }
    }
}

impl Acceptor {
    /// The acceptor that wrote these records: the same after a restart of the process and after a
    /// failure of the acceptor alone (D8).
    pub fn recover<'a>(records: impl IntoIterator<Item = &'a Record>) -> Self {
        let mut acceptor = Self::default();
        for record in records {
            match record {
                Record::Promise(ballot) => acceptor.promise(*ballot),
                Record::Accept(ballot, slot, value) => {
                    acceptor.promise((*ballot).max(acceptor.promised));
                    acceptor.accepted.insert(*slot, (*ballot, value.clone()));
                }
                Record::Start(_) | Record::Ballot(_) | Record::Decided(..) | Record::Learn(..) => {}
            }
        }
        acceptor
    }

    /// The highest ballot that was promised.
    pub fn promised(&self) -> Ballot {
        self.promised
    }

    /// The highest slot in which anything was accepted; `s0` if nothing was.
    pub fn highest(&self) -> Slot {
        self.accepted
            .last_key_value()
            .map_or(Slot::ZERO, |(&slot, _)| slot)
    }

    /// The ballot of what was accepted in `slot`.
    pub fn accepted_ballot(&self, slot: Slot) -> Option<Ballot> {
        self.accepted.get(&slot).map(|(ballot, _)| *ballot)
    }

    /// Phase 1b. `decided` is what the same node's learner knows: every slot up to it is decided
    /// and can be fetched, so it need not be told here.
    ///
    /// # Errors
    /// A higher ballot was promised.
    pub fn on_prepare(
        &mut self,
        ballot: Ballot,
        from: Slot,
        decided: Slot,
    ) -> Result<Promise, Refusal> {
        // P1a, Paxos Made Simple 2.2. An equal ballot is the same proposer asking again.
        if ballot < self.promised {
            return Err(Refusal::Promised(self.promised));
        }
        self.promise(ballot);
        let first = from.max(decided.next());
        let mut told = Vec::new();
        let mut bytes = 0;
        let mut next = None;
        for (&slot, (ballot, value)) in self.accepted.range(first..) {
            if bytes >= PROMISE_BYTES_MAX {
                next = Some(slot);
                break;
            }
            bytes += value.as_bytes().len();
            told.push(Accepted {
                slot,
                ballot: *ballot,
                value: value.clone(),
            });
        }
        Ok(Promise {
            ballot,
            from,
            decided,
            next,
            accepted: told,
        })
    }

    /// Phase 2b: accepts, and with it promises (P4), unless a higher ballot was promised. An equal
    /// one or one never prepared here is fine (P5).
    ///
    /// # Errors
    /// A higher ballot was promised, or another value was accepted under this very ballot.
    pub fn on_accept(&mut self, ballot: Ballot, slot: Slot, value: &Value) -> Result<(), Refusal> {
        if ballot < self.promised {
            return Err(Refusal::Promised(self.promised));
        }
        if let Some((accepted, old)) = self.accepted.get(&slot) {
            assert!(
                *accepted <= self.promised,
                "I3: {slot} accepted under {accepted} above the promise"
            );
            if *accepted == ballot && old != value {
                return Err(Refusal::TwoValues);
            }
        }
        self.promise(ballot);
        self.accepted.insert(slot, (ballot, value.clone()));
        Ok(())
    }

    fn promise(&mut self, ballot: Ballot) {
        assert!(
            ballot >= self.promised,
            "I2: promise going back from {} to {ballot}",
            self.promised
        );
        self.promised = ballot;
    }
}
