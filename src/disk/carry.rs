//! What must survive the removal of old segments: the hard state, folded from all records.
//!
//! Each segment begins with it, as ordinary records behind its head line, so that what stands in the
//! segments before is needed for nothing but the slots. To fold a record twice changes nothing, and so
//! whoever reads the log from its beginning leaves these repeats out.
//!
//! It keeps I2 and P6 over a trim: the highest promise and the highest own ballot stand in every
//! segment.

use crate::paxos::record::Record;
use crate::paxos::types::{Ballot, Life, NodeId, Slot};
use std::collections::BTreeMap;
use std::fmt;

/// The hard state after some record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Carry {
    start: u64,
    ballot: Ballot,
    promise: Ballot,
    peers: BTreeMap<NodeId, Life>,
    trim: Slot,
    health: Health,
}

/// Whether a server remembers all that it voted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Health {
    /// Nothing was ever lost.
    Whole,
    /// The last word was `lost`.
    Lost,
    /// The last word was `sound`, with this slot.
    Sound(Slot),
}

impl Default for Carry {
    fn default() -> Self {
        Self {
            start: 0,
            ballot: Ballot::ZERO,
            promise: Ballot::ZERO,
            peers: BTreeMap::new(),
            trim: Slot::ZERO,
            health: Health::Whole,
        }
    }
}

/// Raises a value; whether that changed it.
fn raise<T: Ord + Copy>(value: &mut T, to: T) -> bool {
    let higher = to > *value;
    if higher {
        *value = to;
    }
    higher
}

impl Carry {
    /// Takes the next record of the log. Returns whether it changed anything here.
    pub(super) fn fold(&mut self, record: &Record) -> bool {
        match record {
            Record::Start(start) => raise(&mut self.start, *start),
            Record::Ballot(ballot) => raise(&mut self.ballot, *ballot),
            // P4: who accepts promises.
            Record::Promise(ballot) | Record::Accept(ballot, ..) => {
                raise(&mut self.promise, *ballot)
            }
            Record::Trim(slot) => raise(&mut self.trim, *slot),
            Record::Untrim(slot) => {
                let back = *slot < self.trim;
                self.trim = self.trim.min(*slot);
                back
            }
            Record::Peer(node, life) => self.peers.insert(*node, *life) != Some(*life),
            Record::Lost => std::mem::replace(&mut self.health, Health::Lost) != Health::Lost,
            Record::Sound(slot) => {
                let sound = Health::Sound(*slot);
                std::mem::replace(&mut self.health, sound) != sound
            }
            Record::Decided(..) | Record::Learn(..) => false,
        }
    }

    /// The records that make this state from nothing.
    pub(super) fn records(&self) -> Vec<Record> {
        let mut records = Vec::new();
        let mut push = |wanted: bool, record| {
            if wanted {
                records.push(record);
            }
        };
        // First: whoever has never voted remembers of a peer that it heard of it so.
        push(self.health == Health::Lost, Record::Lost);
        if let Health::Sound(slot) = self.health {
            push(true, Record::Sound(slot));
        }
        push(self.start > 0, Record::Start(self.start));
        push(self.ballot > Ballot::ZERO, Record::Ballot(self.ballot));
        push(self.promise > Ballot::ZERO, Record::Promise(self.promise));
        for (&node, &life) in &self.peers {
            push(true, Record::Peer(node, life));
        }
        push(self.trim > Slot::ZERO, Record::Trim(self.trim));
        records
    }

    /// Whether records of this kind are carried.
    pub(super) fn holds(record: &Record) -> bool {
        !matches!(
            record,
            Record::Accept(..) | Record::Decided(..) | Record::Learn(..)
        )
    }

    /// The highest ballot that was promised.
    pub fn promise(&self) -> Ballot {
        self.promise
    }

    /// A snapshot that holds every slot up to this one was durable.
    pub fn trim(&self) -> Slot {
        self.trim
    }
}

impl fmt::Display for Carry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            start,
            ballot,
            promise,
            trim,
            ..
        } = self;
        write!(
            f,
            "start {start}, ballot {ballot}, promise {promise}, trim {trim}"
        )?;
        for (node, life) in &self.peers {
            write!(f, ", peer {node} {life}")?;
        }
        match self.health {
            Health::Whole => f.write_str(", never lost"),
            Health::Lost => f.write_str(", lost"),
            Health::Sound(slot) => write!(f, ", sound {slot}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::record::tests::any_record;
    use super::*;
    use proptest::prelude::*;

    fn folded<'a>(records: impl IntoIterator<Item = &'a Record>) -> Carry {
        let mut carry = Carry::default();
        for record in records {
            carry.fold(record);
        }
        carry
    }

    #[test]
    fn the_highest_the_newest_and_the_last_are_carried() {
        let node = |n| NodeId::new(n).unwrap();
        let life = |start| Life { start, mark: 7 };
        let value = crate::paxos::types::Value::noop();
        let carry = folded(&[
            Record::Start(4),
            Record::Promise(Ballot::new(3, node(2))),
            Record::Ballot(Ballot::new(4, node(1))),
            Record::Accept(Ballot::new(5, node(3)), Slot(9), value),
            Record::Peer(node(2), life(8)),
            Record::Lost,
            Record::Peer(node(2), life(3)),
            Record::Trim(Slot(6)),
            Record::Untrim(Slot(5)),
            Record::Untrim(Slot(7)),
            Record::Sound(Slot(3)),
        ]);
        let peer = Record::Peer(node(2), life(3));
        assert_eq!(
            carry.records(),
            [
                Record::Sound(Slot(3)),
                Record::Start(4),
                Record::Ballot(Ballot::new(4, node(1))),
                Record::Promise(Ballot::new(5, node(3))),
                peer,
                Record::Trim(Slot(5)),
            ]
        );
        assert_eq!(
            carry.to_string(),
            "start 4, ballot b4.1, promise b5.3, trim s5, peer n2 3.0000000000000007, sound s3"
        );
    }

    proptest! {
        /// I2, P6: whatever was forgotten before them, these records make the same state; twice is as
        /// good as once.
        #[test]
        fn what_is_carried_makes_the_same_state(
            records in proptest::collection::vec(any_record(), 0..40),
        ) {
            let mut carry = folded(&records);
            let carried = carry.records();
            prop_assert_eq!(&folded(&carried), &carry);
            for record in &carried {
                prop_assert!(!carry.fold(record));
            }
        }

        /// What changes nothing may be taken for a repeat and left out, and nothing else: an `untrim`
        /// behind a lost head must not be.
        #[test]
        fn a_fold_tells_whether_it_changed_anything(
            records in proptest::collection::vec(any_record(), 0..40),
        ) {
            let mut carry = Carry::default();
            for record in &records {
                let before = carry.clone();
                let changed = carry.fold(record);
                prop_assert_eq!(changed, carry != before, "{:?}", record);
                prop_assert!(!carry.fold(record), "{:?} again", record);
            }
        }
    }
}
