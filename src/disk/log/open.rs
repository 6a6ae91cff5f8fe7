//! What a start does with what it finds: cuts a torn end, names damage and writes down that it knows.
//!
//! With new damage a new segment begins whose first lines list what is missing and say `lost`; so the
//! next start finds nothing new, and nobody ever takes the server for one that remembers everything.
//! Damaged segments stay, for what can be read in them, until a trim removes them.

use super::super::body::Body;
use super::super::damage::{Damage, SnapshotDamage};
use super::super::dir::{Dir, DirFile};
use super::super::error::{Context, LogError};
use super::super::gaps::Gap;
use super::super::recall::Recall;
use super::super::scan::{self, End, segment_name};
use super::super::snapshot::{self, Newest};
use super::{Carry, Cut, First, Log, Older, Options, Segment, SharedSpare};
use super::{make_first, remove_in_progress};
use crate::kv::store::Store;
use crate::paxos::record::Record;
use std::sync::Arc;

/// What was on disk.
#[derive(Debug)]
pub struct Recovery {
    /// All records that could be read, in the order in which they were appended; they are durable.
    /// Where old segments were trimmed, what they carried on stands first. The last one is `lost` if
    /// there is damage.
    pub records: Vec<Record>,
    /// What was cut off, if the last write had not come to its end.
    pub cut: Option<Cut>,
    /// What had been synced and cannot be read any more, and was not known before.
    pub damage: Vec<Damage>,
    /// The state of the newest whole snapshot.
    pub snapshot: Option<Store>,
    /// Its length in bytes, 0 without one.
    pub snapshot_bytes: usize,
    /// Why newer snapshots are not used.
    pub snapshot_damage: Vec<SnapshotDamage>,
}

impl<D: Dir> Log<D> {
    /// Opens a log and reads all of it, and the newest snapshot. Cuts off a torn end. Damage is no
    /// error: it is named, and known and durable as `lost` when this returns. A directory without any
    /// segment is one whose log is gone; for a new one there is [`create`](Self::create).
    ///
    /// # Errors
    /// The file system refuses, or a newer version wrote the log; then it stays as it is.
    pub fn open(dir: D, options: Options) -> Result<(Self, Recovery), LogError> {
        if scan::segments(&dir)?.is_empty() {
            return Self::begin_again(dir, options);
        }
        let (recall, end) = Recall::read(&dir, u64::MAX)?;
        let Recall {
            mut records,
            carry,
            contradiction,
            ..
        } = recall;
        // First, for the room.
        remove_in_progress(&dir)?;
        let Newest {
            store: snapshot,
            bytes: snapshot_bytes,
            damage: snapshot_damage,
        } = snapshot::newest(&dir, carry.trim())?;
        let cut = Cut::of(&dir, &end);
        let damage: Vec<Damage> = end.news().cloned().chain(contradiction).collect();
        let mut log = Self::opened(dir, options, carry, &end)?;
        if !damage.is_empty() {
            log.mend(&end.gaps)?;
            records.push(Record::Lost);
        }
        let recovery = Recovery {
            records,
            cut,
            damage,
            snapshot,
            snapshot_bytes,
            snapshot_damage,
        };
        Ok((log, recovery))
    }

    /// P41: the log of a server that has forgotten everything, and knows.
    fn begin_again(dir: D, options: Options) -> Result<(Self, Recovery), LogError> {
        remove_in_progress(&dir)?;
        let mut carry = Carry::default();
        let Newest {
            store: snapshot,
            bytes: snapshot_bytes,
            damage: snapshot_damage,
        } = snapshot::newest(&dir, carry.trim())?;
        let segment = make_first(&dir, &options, &[Body::Record(Record::Lost)])?;
        carry.fold(&Record::Lost);
        let recovery = Recovery {
            records: vec![Record::Lost],
            cut: None,
            damage: vec![Damage::Gone {
                dir: dir.path_of(""),
            }],
            snapshot,
            snapshot_bytes,
            snapshot_damage,
        };
        // Behind the head and the one line with it.
        let next = First::START.seq + 2;
        let log = Self::of(
            dir,
            options,
            Vec::new(),
            segment,
            (First::START, carry, next),
        );
        Ok((log, recovery))
    }

    /// The log as it was found, with a clean and durable end.
    fn opened(dir: D, options: Options, carry: Carry, end: &End) -> Result<Self, LogError> {
        let last = end.last();
        let name = segment_name(last.number);
        let path = || dir.path_of(&name);
        let file = dir.open(&name).context("open", path)?;
        // The last group may never have been synced, or its sync may have failed and left pages that
        // count as clean (P37): written again, so that what is read here is durable. So are the zeros
        // up to the end: of a torn end that a start before this one has cut, without its sync, the disk
        // may still hold more than the next line covers.
        let mut tail = end.group.clone();
        tail.resize(last.bytes.max(end.at() + end.torn_bytes) - end.group_at, 0);
        file.write_at(end.group_at, &tail).context("write", path)?;
        file.sync().context("sync", path)?;
        dir.sync_names().context("sync", || dir.path_of(""))?;
        let segment = Segment {
            number: last.number,
            file,
            seq: last.seq,
            at: end.at(),
            bytes: last.bytes,
            highest: last.highest,
        };
        let (_, older) = end.segments.split_last().expect("a log has a segment");
        let older = older.iter().map(|found| Older {
            number: found.number,
            seq: found.seq,
            bytes: found.bytes,
            highest: found.highest,
        });
        let place = (end.first, carry, end.next);
        Ok(Self::of(dir, options, older.collect(), segment, place))
    }

    fn of(
        dir: D,
        options: Options,
        older: Vec<Older>,
        segment: Segment<D::File>,
        (first, carry, next): (First, Carry, u64),
    ) -> Self {
        let held = older.iter().map(|older| older.bytes).sum::<usize>() + segment.at;
        Self {
            dir,
            options,
            written_bytes: held as u64,
            older,
            segment,
            first,
            carry,
            next,
            unsynced: next,
            kept: Vec::new(),
            lines: Vec::new(),
            spare: SharedSpare::none(),
            syncs: Arc::default(),
            failed: false,
        }
    }

    /// Begins a segment that knows of these gaps, and of the loss.
    fn mend(&mut self, gaps: &[Gap]) -> Result<(), LogError> {
        let missing = gaps.iter().map(|gap| Body::Missing {
            from: gap.from,
            to: gap.to,
        });
        let carried = self.carry.records().into_iter();
        let carried = carried.filter(|record| !matches!(record, Record::Lost | Record::Sound(_)));
        let records = [Record::Lost].into_iter().chain(carried).map(Body::Record);
        let bodies = missing.chain(records).collect();
        self.unless_failed(|log| {
            log.begin_segment(bodies)?;
            log.carry.fold(&Record::Lost);
            Ok(())
        })
    }
}
