//! The memory: what was promised, and what was accepted in each slot.
//!
//! *Paxos Made Simple* 2.2: an acceptor needs to remember only the highest ballot that it promised
//! and, a slot, the proposal of the highest ballot that it accepted; and it must remember them over
//! a failure (2.5). It keeps I2 (a promise never goes back) and I3 (nothing is accepted below the
//! promise). Its handlers return the vote and leave the record and the sending to the caller: the
//! vote may leave only after the record is on disk. It forgets a slot only when told that a snapshot
//! holds it, and says so in its promise (P17).

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use super::message::{Accepted, Promise};
use super::record::Record;
use super::types::{Ballot, Slot, Value};

/// How many bytes of values one part of a promise tells; one value more than that may be told, so
/// that a part always tells something.
const PROMISE_BYTES_MAX: usize = 1 << 20;

/// How many values one part of a promise tells.
const PROMISE_VALUES_MAX: usize = 4_096;

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
    /// Every slot up to this one is decided, and what was accepted there may be forgotten.
    trimmed: Slot,
    /// The same of this one, where votes were lost and recalled: what they were for was not told slot
    /// by slot, because it is decided.
    recalled: Slot,
    accepted: BTreeMap<Slot, (Ballot, Value)>,
}

impl Default for Acceptor {
    fn default() -> Self {
        Self {
            promised: Ballot::ZERO,
            trimmed: Slot::ZERO,
            recalled: Slot::ZERO,
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
                    acceptor.recall(*slot, *ballot, value);
                }
                Record::Trim(slot) => acceptor.trim(*slot),
                Record::Untrim(slot) => acceptor.untrim(*slot),
                Record::Sound(slot) => acceptor.settle(*slot),
                _ => {}
            }
        }
        acceptor
    }

    /// The highest ballot that was promised.
    pub fn promised(&self) -> Ballot {
        self.promised
    }

    /// Every slot up to this one is decided, and what was accepted there may be forgotten.
    pub fn settled(&self) -> Slot {
        self.trimmed.max(self.recalled)
    }

    /// The highest slot in which anything was accepted; `s0` if nothing was.
    pub fn highest(&self) -> Slot {
        let last = self.accepted.last_key_value();
        last.map_or(Slot::ZERO, |(&slot, _)| slot)
            .max(self.settled())
    }

    /// Lost votes are recalled: every slot up to `upto` is decided, and those after it were told.
    pub fn settle(&mut self, upto: Slot) {
        self.recalled = upto;
    }

    /// Forgets what was accepted up to `upto`: it is all decided, and a durable snapshot holds it.
    pub fn trim(&mut self, upto: Slot) {
        if upto > self.trimmed {
            self.trimmed = upto;
            self.accepted = self.accepted.split_off(&upto.next());
        }
    }

    /// The snapshot that made it forget the slots after `upto` is lost, and nobody else has one: from
    /// here on it is an acceptor that has lost its memory of them.
    pub fn untrim(&mut self, upto: Slot) {
        self.trimmed = self.trimmed.min(upto);
    }

    /// All that was accepted and not trimmed, by slot.
    pub fn accepted(&self) -> impl Iterator<Item = Accepted> {
        self.accepted
            .iter()
            .map(|(&slot, (ballot, value))| Accepted {
                slot,
                ballot: *ballot,
                value: value.clone(),
            })
    }

    /// The ballot of what was accepted in `slot`.
    pub fn accepted_ballot(&self, slot: Slot) -> Option<Ballot> {
        self.accepted.get(&slot).map(|(ballot, _)| *ballot)
    }

    /// How many bytes the values have that were accepted in these slots.
    pub fn accepted_bytes(&self, slots: RangeInclusive<Slot>) -> usize {
        if slots.is_empty() {
            return 0;
        }
        let accepted = self.accepted.range(slots);
        accepted.map(|(_, (_, value))| value.as_bytes().len()).sum()
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
        // P17: what was forgotten is told to be decided, never to be empty.
        let decided = decided.max(self.settled());
        let first = from.max(decided.next());
        let mut told = Vec::new();
        let mut bytes = 0;
        let mut next = None;
        for (&slot, (ballot, value)) in self.accepted.range(first..) {
            if bytes >= PROMISE_BYTES_MAX || told.len() >= PROMISE_VALUES_MAX {
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
            starts: Vec::new(),
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

    /// Accepts again what was accepted once, unless something newer was accepted since.
    pub fn recall(&mut self, slot: Slot, ballot: Ballot, value: &Value) {
        let newest = self.accepted.entry(slot);
        let newest = newest.or_insert_with(|| (ballot, value.clone()));
        if ballot > newest.0 {
            *newest = (ballot, value.clone());
        }
    }

    /// Takes part in no ballot below this one from here on.
    pub fn promise(&mut self, ballot: Ballot) {
        assert!(
            ballot >= self.promised,
            "I2: promise going back from {} to {ballot}",
            self.promised
        );
        self.promised = ballot;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::paxos::types::NodeId;

    fn ballot(round: u64, n: u8) -> Ballot {
        Ballot::new(round, NodeId::new(n).unwrap())
    }

    fn value(text: &str) -> Value {
        Value::new(text.as_bytes()).unwrap()
    }

    /// P17, P41, P53: what was recalled as decided stays decided, also where the learner's values and the
    /// snapshot with them are lost: nothing is told to be empty there, and no mark is below it.
    #[test]
    fn recalled_slots_are_told_as_decided() {
        let mut acceptor = Acceptor::recover(&[
            Record::Sound(Slot(9)),
            Record::Trim(Slot(5)),
            Record::Lost,
            Record::Sound(Slot(7)),
        ]);
        assert_eq!((acceptor.settled(), acceptor.highest()), (Slot(7), Slot(7)));
        let promise = acceptor.on_prepare(ballot(9, 1), Slot(1), Slot::ZERO);
        assert_eq!(promise.unwrap().decided, Slot(7));
        assert_eq!(
            acceptor.on_accept(ballot(9, 1), Slot(8), &value("a")),
            Ok(())
        );
        assert_eq!(acceptor.highest(), Slot(8));
    }

    /// P4, P5: an accept promises, and an equal ballot is as good as a prepared one.
    #[test]
    fn an_accept_is_a_promise() {
        let mut acceptor = Acceptor::default();
        assert_eq!(
            acceptor.on_accept(ballot(5, 3), Slot(1), &value("a")),
            Ok(())
        );
        let refused = Err(Refusal::Promised(ballot(5, 3)));
        assert_eq!(
            acceptor.on_accept(ballot(4, 3), Slot(2), &value("b")),
            refused
        );
        assert_eq!(
            acceptor.on_accept(ballot(5, 3), Slot(2), &value("b")),
            Ok(())
        );
        assert_eq!(
            acceptor.on_accept(ballot(5, 3), Slot(2), &value("b")),
            Ok(())
        );
        assert_eq!(acceptor.highest(), Slot(2));
    }

    /// P9: two values under one ballot are somebody's lie, not a reason to end the process.
    #[test]
    fn a_second_value_under_one_ballot_is_refused() {
        let mut acceptor = Acceptor::default();
        acceptor
            .on_accept(ballot(5, 3), Slot(1), &value("a"))
            .unwrap();
        let second = acceptor.on_accept(ballot(5, 3), Slot(1), &value("b"));
        assert_eq!(second, Err(Refusal::TwoValues));
        assert_eq!(
            acceptor.on_accept(ballot(6, 3), Slot(1), &value("b")),
            Ok(())
        );
    }

    /// P17: what is left out of a promise is said to be decided, never to be empty.
    #[test]
    fn slots_that_are_decided_here_are_left_out() {
        let mut acceptor = Acceptor::default();
        for slot in 1..=4 {
            acceptor
                .on_accept(ballot(1, 1), Slot(slot), &value("v"))
                .unwrap();
        }
        let told = acceptor.on_prepare(ballot(2, 2), Slot(1), Slot(3)).unwrap();
        assert_eq!(told.decided, Slot(3));
        assert_eq!(
            told.accepted.iter().map(|a| a.slot).collect::<Vec<_>>(),
            [Slot(4)]
        );
    }

    /// P17, P53: what a snapshot holds is told to be decided, also when the learner beside lost it.
    #[test]
    fn trimmed_slots_are_told_as_decided() {
        let mut acceptor = Acceptor::default();
        for slot in (1..=4).map(Slot) {
            acceptor.on_accept(ballot(1, 1), slot, &value("v")).unwrap();
        }
        acceptor.trim(Slot(3));
        let told = acceptor
            .on_prepare(ballot(2, 2), Slot(1), Slot::ZERO)
            .unwrap();
        assert_eq!(told.decided, Slot(3));
        assert_eq!(told.accepted.len(), 1);
        acceptor.trim(Slot(4));
        assert_eq!(acceptor.highest(), Slot(4));
        let records = [
            Record::Accept(ballot(1, 1), Slot(1), value("v")),
            Record::Promise(ballot(2, 2)),
            Record::Trim(Slot(4)),
        ];
        assert_eq!(Acceptor::recover(&records), acceptor);
    }

    /// P13: the parts of a long promise tell every slot once, each part about as much as its bound.
    #[test]
    fn the_parts_of_a_promise_tell_everything_once() {
        let mut acceptor = Acceptor::default();
        let large = Value::new(vec![b'v'; PROMISE_BYTES_MAX / 2 + 1]).unwrap();
        for slot in (1..=9).map(Slot) {
            acceptor.on_accept(ballot(1, 1), slot, &large).unwrap();
        }
        let (mut from, mut told) = (Slot(2), Vec::new());
        let mut parts = 0;
        loop {
            let part = acceptor.on_prepare(ballot(2, 2), from, Slot::ZERO).unwrap();
            assert_eq!(part.from, from);
            told.extend(part.accepted.iter().map(|accepted| accepted.slot.0));
            parts += 1;
            match part.next {
                Some(next) => from = next,
                None => break,
            }
        }
        assert_eq!((parts, told), (4, (2..=9).collect()));
    }

    /// 2.5, D8, D10: whatever was asked, the records that it left make the same acceptor.
    #[test]
    fn the_records_make_the_same_acceptor() {
        let mut acceptor = Acceptor::default();
        let mut records = Vec::new();
        // A fixed walk through ballots and slots that refuses some of both kinds.
        for step in 1..500_u64 {
            let ballot = ballot(1 + step / 10 + step * 7 % 13, 1);
            let (slot, value) = (Slot(step % 9 + 1), value("v"));
            if step % 3 == 0 {
                if acceptor.on_prepare(ballot, slot, Slot::ZERO).is_ok() {
                    records.push(Record::Promise(ballot));
                }
            } else if acceptor.on_accept(ballot, slot, &value).is_ok() {
                records.push(Record::Accept(ballot, slot, value));
            }
            assert_eq!(Acceptor::recover(&records), acceptor);
        }
        assert!(
            records.len() > 50 && records.len() < 450,
            "{}",
            records.len()
        );
    }
}
