//! The end of old segments and snapshots, so that the log stays small for ever.
//!
//! First the log says, durably, from which segment on it must be whole; only then do files go, the
//! oldest first. So whatever a crash leaves of them, a log is whole from there on or damaged, and
//! nothing in between (P21); what is left over goes with the next trim.
//!
//! To remove a hundred megabytes takes tens of milliseconds, and nothing rests on it: so a trim only
//! says what is to go, and a helper thread may remove it while the log goes on.

use super::super::body::{Body, First};
use super::super::dir::{Dir, remove_in_steps};
use super::super::error::{Context, LogError};
use super::super::scan::segment_name;
use super::super::snapshot;
use super::Log;
use crate::paxos::record::Record;
use crate::paxos::types::Slot;

impl<D: Dir> Log<D> {
    /// Commits all that was appended, and that the slots up to `upto` are trimmed. Returns what may go
    /// now: the segments that say nothing about later slots, from the oldest on up to the first that
    /// does, and the snapshots before `upto`. A snapshot of `upto` or later must be durable. Until the
    /// removal is done, [`read_all`](Self::read_all) may miss a file that it has seen.
    pub fn trim(&mut self, upto: Slot) -> Result<Removal<D>, LogError> {
        self.unless_failed(|log| {
            let snapshots = snapshot::slots(&log.dir)?;
            assert!(
                snapshots.last() >= Some(&upto),
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
            let mut names = log.forget_before_first();
            let snapshots = snapshots.into_iter().filter(|&slot| slot < upto);
            names.extend(snapshots.map(snapshot::name_of));
            let dir = log.dir.clone();
            Ok(Removal { dir, names })
        })
    }

    /// The first segment that says anything about a slot after `upto`, or the current one.
    fn first_needed(&self, upto: Slot) -> First {
        let older = self.older.iter().find(|older| older.highest > upto);
        let current = (self.segment.number, self.segment.seq);
        let (segment, seq) = older.map_or(current, |older| (older.number, older.seq));
        First { segment, seq }
    }

    /// The names of the segments that go.
    fn forget_before_first(&mut self) -> Vec<String> {
        let gone = self
            .older
            .partition_point(|older| older.number < self.first.segment);
        let gone = self.older.drain(..gone);
        gone.map(|older| segment_name(older.number)).collect()
    }
}

/// Files that are of no account any more. Dropped undone, they go with a later start's first trim.
#[derive(Debug)]
#[must_use = "the disk fills up with what is never removed"]
pub struct Removal<D: Dir> {
    dir: D,
    names: Vec<String>,
}

impl<D: Dir> Removal<D> {
    /// Removes them, the oldest first; durable when this returns.
    pub fn run(self) -> Result<(), LogError> {
        for name in &self.names {
            remove_in_steps(&self.dir, name).context("remove", || self.dir.path_of(name))?;
        }
        self.dir
            .sync_names()
            .context("sync", || self.dir.path_of(""))
    }
}
