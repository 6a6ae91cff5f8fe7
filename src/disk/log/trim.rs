//! The end of old segments and snapshots, so that the log stays small for ever.
//!
//! First the log says, durably, from which segment on it must be whole; only then do files go, the
//! oldest first. So whatever a crash leaves of them, a log is whole from there on or damaged, and
//! nothing in between (P21); what is left over goes with the next trim.

use super::super::body::{Body, First};
use super::super::dir::Dir;
use super::super::error::{Context, LogError};
use super::super::scan::segment_name;
use super::super::snapshot;
use super::Log;
use crate::paxos::record::Record;
use crate::paxos::types::Slot;

impl<D: Dir> Log<D> {
    /// Commits all that was appended, and that the slots up to `upto` are trimmed; then removes the
    /// segments that say nothing about later slots, from the oldest on up to the first that does, and
    /// the snapshots before `upto`. A snapshot of `upto` or later must be durable.
    pub fn trim(&mut self, upto: Slot) -> Result<(), LogError> {
        self.unless_failed(|log| {
            let newest = snapshot::slots(&log.dir)?.pop();
            assert!(
                newest >= Some(upto),
                "P21: no snapshot holds the slots up to {upto}, which are to be trimmed"
            );
            log.commit_kept()?;
            let all_older_go = log.older.iter().all(|older| older.highest <= upto);
            if all_older_go && log.segment.highest <= upto && log.segment.is_half_full() {
                // Else a log whose current segment is its largest would never get smaller.
                log.next_segment()?;
            }
            log.kept.push(Body::Record(Record::Trim(upto)));
            let first = log.first_needed(upto);
            if first.segment > log.first.segment {
                log.kept.push(Body::First(first));
            }
            log.commit_kept()?;
            log.first = first;
            log.remove_before_first()?;
            snapshot::remove_before(&log.dir, upto)?;
            log.trimmed_bytes = log.bytes();
            log.dir.sync_names().context("sync", || log.dir.path_of(""))
        })
    }

    /// The first segment that says anything about a slot after `upto`, or the current one.
    fn first_needed(&self, upto: Slot) -> First {
        let older = self.older.iter().find(|older| older.highest > upto);
        let current = (self.segment.number, self.segment.seq);
        let (segment, seq) = older.map_or(current, |older| (older.number, older.seq));
        First { segment, seq }
    }

    fn remove_before_first(&mut self) -> Result<(), LogError> {
        let kept = self
            .older
            .partition_point(|o| o.number < self.first.segment);
        for older in self.older.drain(..kept) {
            let name = segment_name(older.number);
            self.dir
                .remove(&name)
                .context("remove", || self.dir.path_of(&name))?;
        }
        Ok(())
    }
}
