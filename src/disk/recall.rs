//! What a log says, all in all: its records in order, and the hard state that they make.
//!
//! Each segment begins with the hard state of those before. Where these are there too, that repeats
//! what was said and is left out here: the records are the ones that were appended, once each.

use super::carry::Carry;
use super::dir::Dir;
use super::error::LogError;
use super::scan::{self, End, Entry};
use crate::paxos::record::Record;

/// What was read.
#[derive(Debug, Default)]
pub(super) struct Recall {
    pub(super) records: Vec<Record>,
    pub(super) carry: Carry,
    /// A segment that began because of damage was read.
    mended: bool,
}

impl Recall {
    /// Reads all lines up to number `upto`.
    pub(super) fn read<D: Dir>(dir: &D, upto: u64) -> Result<(Self, End), LogError> {
        let mut recall = Self::default();
        let end = scan::scan(dir, &mut |entry| {
            if entry.seq <= upto {
                recall.take(&entry);
            }
            Ok(())
        })?;
        Ok((recall, end))
    }

    /// Takes the next good line.
    pub(super) fn take(&mut self, entry: &Entry) {
        self.mended |= entry.mends;
        let Some(record) = entry.body.record() else {
            return;
        };
        // I2: a promise that a worn disk shows again after its loss stands before lower ones, which
        // were made when it was forgotten. The higher one holds.
        let back = matches!(record, Record::Promise(ballot) if *ballot < self.carry.promise());
        let news = self.carry.fold(record);
        let says_lost = entry.mends && *record == Record::Lost;
        let repeat = entry.begins && Carry::holds(record) && !news && !says_lost;
        let healed = self.mended && back;
        if !repeat && !healed {
            self.records.push(record.clone());
        }
    }
}
