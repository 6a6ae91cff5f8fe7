//! What a log says, all in all: its records in order, and the hard state that they make.
//!
//! Each segment begins with the hard state of those before. Where these are there too, that repeats
//! what was said and is left out here: the records are the ones that were appended, once each.
//!
//! What a whole record says is held to the orders that a peer's word is (`replica::admission`): one that
//! no server writes is left out and named as damage, until a `lost` behind it says that it is known.

use super::carry::Carry;
use super::damage::Damage;
use super::dir::Dir;
use super::error::LogError;
use super::scan::{self, End, Entry};
use crate::paxos::record::Record;
use crate::paxos::types::{Ballot, Slot};

/// What was read.
#[derive(Debug, Default)]
pub(super) struct Recall {
    pub(super) records: Vec<Record>,
    pub(super) carry: Carry,
    /// The first record that no server writes, if it is not known yet.
    pub(super) contradiction: Option<Damage>,
    /// A segment that began because of damage was read.
    mended: bool,
}

impl Recall {
    /// Reads all lines up to number `upto`.
    pub(super) fn read<D: Dir>(dir: &D, upto: u64) -> Result<(Self, End), LogError> {
        let mut recall = Self::default();
        let end = scan::scan(dir, &mut |entry| {
            if entry.seq <= upto {
                recall.take(&entry, |name| dir.path_of(name));
            }
            Ok(())
        })?;
        Ok((recall, end))
    }

    /// Takes the next good line.
    fn take(&mut self, entry: &Entry, path_of: impl Fn(&str) -> String) {
        self.mended |= entry.mends;
        let Some(record) = entry.body.record() else {
            return;
        };
        // I2: a promise that a worn disk shows again after its loss stands before lower ones, which
        // were made when it was forgotten. The higher one holds.
        let back = matches!(record, Record::Promise(ballot) if *ballot < self.carry.promise());
        let healed = self.mended && back;
        if let Some(found) = self.contradicted_by(record)
            && !healed
        {
            self.contradiction
                .get_or_insert_with(|| Damage::Contradiction {
                    file: path_of(entry.file),
                    offset: entry.offset,
                    seq: entry.seq,
                    found,
                });
            return;
        }
        if *record == Record::Lost {
            self.contradiction = None;
        }
        let news = self.carry.fold(record);
        let says_lost = entry.mends && *record == Record::Lost;
        let repeat = entry.begins && Carry::holds(record) && !news && !says_lost;
        if !repeat && !healed {
            self.records.push(record.clone());
        }
    }

    /// What is wrong with a record behind those that were taken. A value may be accepted below the
    /// promise: one that was forgotten is accepted again under the ballot that the others tell.
    fn contradicted_by(&self, record: &Record) -> Option<String> {
        let promise = self.carry.promise();
        match record {
            Record::Promise(ballot) if *ballot < promise => Some(format!(
                "it promises {ballot}, and {promise} was promised before"
            )),
            Record::Accept(Ballot::ZERO, slot, _) => Some(format!(
                "it accepts a value for {slot} that nobody proposed"
            )),
            Record::Accept(ballot, Slot::ZERO, _) => {
                Some(format!("it accepts a value of {ballot} for no slot"))
            }
            _ => None,
        }
    }
}
