//! The log: records in numbered segments, one write and one sync for a group of them.
//!
//! The one who appends decides when a group ends: [`Log::append`] only keeps, [`Log::commit`] writes
//! all that was kept with one write and makes it durable with one sync. A vote may leave after that
//! (P1, P2). Records that bind nobody can go out with [`Log::write`], without a sync; the next commit
//! carries them along.
//!
//! A segment is a file of zeros that are already on disk, so that a sync need not write the file's
//! length or map as well; that nearly doubles the commits a second. When a group does not fit in what
//! is left of one, the next one begins: everything before is synced, then the new file gets its first
//! lines and a sync, then its name and a sync of the names, and only then a record. These first lines
//! are its head and the hard state of all that came before ([`super::carry`]), so that older segments
//! may go ([`Log::trim`]). A group never spans two segments. The new file is a spare, if a helper
//! thread has made one ([`Log::spare_job`]), else it is made on the spot.
//!
//! The format of a line is in `line.rs` and `body.rs`, the rule of recovery in `scan.rs`, what a start
//! does with it in `open`, the end of old segments in `trim`, the file made ahead of need in `spare`.

mod open;
mod spare;
mod trim;

use super::body::{Body, First};
use super::carry::Carry;
use super::damage::Damage;
use super::dir::{Dir, DirFile, REMOVING, remove_if_there};
use super::error::{Context, LogError};
use super::recall::Recall;
use super::scan::{self, End, segment_name};
use super::{line, record, snapshot};
use crate::paxos::record::Record;
use crate::paxos::types::Slot;
use spare::SharedSpare;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

pub use open::Recovery;
pub use spare::SpareJob;
pub use trim::Removal;

/// The longest text of a record, in bytes. A longer one is refused before anything is kept.
pub const BODY_BYTES_MAX: usize = 64 * 1024 * 1024;

/// The longest text of a record before its value, such as `accept b3.2 s17 `.
const BODY_HEAD_BYTES_MAX: usize = 64;

/// The longest value that fits into a record, in bytes.
pub const VALUE_BYTES_MAX: usize = BODY_BYTES_MAX - BODY_HEAD_BYTES_MAX;

/// The file that a helper thread fills with zeros.
const SPARE: &str = "spare";
/// The file that becomes the next segment when there is no spare.
const MAKING: &str = "making";

/// The names of files that hold work in progress and are never read. The first stands in the way of the
/// removal of the others, which would replace it, and so give all its room back at once.
pub(super) const IN_PROGRESS: [&str; 4] = [REMOVING, SPARE, MAKING, snapshot::WRITING];

/// How large segments are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Options {
    /// The bytes of the first segment. Each later one is twice as long as the one before...
    pub first_segment_bytes: usize,
    /// ...until they are this long. A segment for a larger group is as long as the group.
    pub segment_bytes_max: usize,
}

impl Default for Options {
    /// From 1 MiB, so that a new server starts at once, to 16 MiB, so that old segments can go in
    /// small steps.
    fn default() -> Self {
        Self {
            first_segment_bytes: 1024 * 1024,
            segment_bytes_max: 16 * 1024 * 1024,
        }
    }
}

impl Options {
    /// Segments for a log that is to have so many bytes at most: small against it, because a segment
    /// goes as a whole.
    pub fn for_log_of(bytes_max: usize) -> Self {
        const SEGMENTS: usize = 8;
        let default = Self::default();
        let segment_bytes_max = (bytes_max / SEGMENTS).min(default.segment_bytes_max);
        Self {
            first_segment_bytes: default.first_segment_bytes.min(segment_bytes_max),
            segment_bytes_max,
        }
    }

    fn segment_bytes(&self, number: u64) -> usize {
        let doublings = u32::try_from(number - 1).unwrap_or(u32::MAX);
        2usize
            .checked_pow(doublings)
            .and_then(|times| self.first_segment_bytes.checked_mul(times))
            .map_or(self.segment_bytes_max, |b| b.min(self.segment_bytes_max))
    }
}

/// The torn end of a log: records that were never synced, so that no vote rests on them (P39).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cut {
    /// The file.
    pub file: String,
    /// Where the torn end begins.
    pub offset: usize,
    /// How long it is.
    pub bytes: usize,
}

impl fmt::Display for Cut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            file,
            offset,
            bytes,
        } = self;
        write!(
            f,
            "{file}: {bytes} bytes at byte {offset} are an unfinished write"
        )
    }
}

impl Cut {
    pub(super) fn of<D: Dir>(dir: &D, end: &End) -> Option<Self> {
        (end.torn_bytes > 0).then(|| Self {
            file: dir.path_of(&segment_name(end.last().number)),
            offset: end.at(),
            bytes: end.torn_bytes,
        })
    }
}

/// An open log. There is at most one in a directory; [`super::home`] sees to that.
#[derive(Debug)]
pub struct Log<D: Dir> {
    dir: D,
    options: Options,
    /// Those before the one that is being written, in order.
    older: Vec<Older>,
    segment: Segment<D::File>,
    /// From where on the log must be whole.
    first: First,
    /// The hard state that all written lines make.
    carry: Carry,
    /// The number of the next line.
    next: u64,
    /// The number of the first line not known to be synced; `next` if all are.
    unsynced: u64,
    /// Appended, not yet written.
    kept: Vec<Body>,
    /// The lines of one write; kept for its memory.
    lines: Vec<u8>,
    spare: SharedSpare,
    /// See [`written_bytes`](Self::written_bytes).
    written_bytes: u64,
    /// How often a segment was synced.
    syncs: Arc<AtomicU64>,
    failed: bool,
}

/// A segment that takes no more records.
#[derive(Debug)]
struct Older {
    number: u64,
    /// The number of its first line.
    seq: u64,
    bytes: usize,
    /// The highest slot that its records are about.
    highest: Slot,
}

/// The segment that is being written.
#[derive(Debug)]
struct Segment<F> {
    number: u64,
    file: F,
    /// The number of its first line.
    seq: u64,
    /// Where the next line goes.
    at: usize,
    bytes: usize,
    /// The highest slot that its records are about.
    highest: Slot,
}

impl<D: Dir> Log<D> {
    /// Makes the first segment of a new log; durable, with its name, when this returns. Apart from
    /// [`open`](Self::open) on purpose: a log that is gone must not be replaced by an empty one that
    /// knows of no loss (P41).
    pub fn create(dir: &D, options: &Options) -> Result<(), LogError> {
        if let Some(&first) = scan::segments(dir)?.first() {
            let file = dir.path_of(&segment_name(first));
            return Err(LogError::Exists { file });
        }
        remove_in_progress(dir)?;
        make_first(dir, options, &[]).map(drop)
    }

    /// Keeps records for the next write. If one is too long, none is kept. There is no bound on their
    /// number: who appends bounds what it takes in between two commits.
    pub fn append(&mut self, records: &[Record]) -> Result<(), LogError> {
        self.check()?;
        let lengths = records.iter().filter_map(record::value_of);
        if let Some(bytes) = lengths
            .map(|value| value.as_bytes().len())
            .find(|&bytes| bytes > VALUE_BYTES_MAX)
        {
            let max = VALUE_BYTES_MAX;
            return Err(LogError::TooLong { bytes, max });
        }
        self.kept.extend(records.iter().cloned().map(Body::Record));
        Ok(())
    }

    /// Makes all appended records durable: one write, one sync; neither if there is nothing to do.
    pub fn commit(&mut self) -> Result<(), LogError> {
        self.unless_failed(Self::commit_kept)
    }

    /// Writes all appended records without a sync: a crash may lose them. None of them may bind.
    pub fn write(&mut self) -> Result<(), LogError> {
        assert!(
            !self.kept.iter().filter_map(Body::record).any(Record::binds),
            "I2: a record that a vote rests on is written without a sync"
        );
        self.unless_failed(Self::write_kept)
    }

    /// Reads all durable records back from disk, as [`open`](Self::open) does, and leaves the log as
    /// it is.
    ///
    /// # Errors
    /// Also if anything is damaged that was whole when the log was opened.
    pub fn read_all(&self) -> Result<Vec<Record>, LogError> {
        self.check()?;
        let (recall, end) = Recall::read(&self.dir, self.unsynced - 1)?;
        if let Some(damage) = end.news().next() {
            return Err(LogError::Damaged(damage.clone()));
        }
        if end.next == self.next {
            return Ok(recall.records);
        }
        Err(LogError::Damaged(Damage::Record {
            file: self.dir.path_of(&segment_name(end.last().number)),
            offset: end.at(),
            expected: end.next,
            found: "no whole record".into(),
            witness: format!("this server had written up to record {}", self.next - 1),
        }))
    }

    /// The bytes of all segments and of the spare: what the log takes of the disk.
    pub fn bytes(&self) -> usize {
        let older: usize = self.older.iter().map(|older| older.bytes).sum();
        older + self.segment.bytes + self.spare.bytes()
    }

    /// How often a segment was synced since the log was opened, for whoever tells of it: about what its
    /// votes cost the disk. Names and files made ahead of need are not counted.
    pub fn syncs(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.syncs)
    }

    /// How many bytes of lines were written so far, those that the log had when it was opened included.
    pub fn written_bytes(&self) -> u64 {
        self.written_bytes
    }

    /// The making of the next segment's file, if it is time for it: for a helper thread, so that the
    /// log need not wait for it.
    pub fn spare_job(&self) -> Option<SpareJob<D>> {
        let bytes = self.options.segment_bytes(self.segment.number + 1);
        self.segment
            .is_half_full()
            .then(|| self.spare.job(&self.dir, bytes))
            .flatten()
    }

    fn check(&self) -> Result<(), LogError> {
        if self.failed {
            let file = self.path();
            return Err(LogError::Failed { file });
        }
        Ok(())
    }

    /// After the first error nothing is known about the disk, so nothing is tried again (P37).
    fn unless_failed<T>(
        &mut self,
        run: impl FnOnce(&mut Self) -> Result<T, LogError>,
    ) -> Result<T, LogError> {
        self.check()?;
        self.failed = true;
        let done = run(self)?;
        self.failed = false;
        Ok(done)
    }

    fn path(&self) -> String {
        self.dir.path_of(&segment_name(self.segment.number))
    }

    fn commit_kept(&mut self) -> Result<(), LogError> {
        self.write_kept()?;
        self.sync()
    }

    /// Writes what was kept, in this segment or in the next.
    fn write_kept(&mut self) -> Result<(), LogError> {
        if self.kept.is_empty() {
            return Ok(());
        }
        self.lines = self.lines_from(self.next);
        if self.segment.at + self.lines.len() > self.segment.bytes {
            self.sync()?;
            self.next_segment()?;
        }
        self.segment
            .file
            .write_at(self.segment.at, &self.lines)
            .context("write", || self.path())?;
        self.segment.at += self.lines.len();
        self.written_bytes += self.lines.len() as u64;
        self.next += self.kept.len() as u64;
        for body in self.kept.drain(..) {
            let slot = body.slot().unwrap_or_default();
            self.segment.highest = self.segment.highest.max(slot);
            if let Some(record) = body.record() {
                self.carry.fold(record);
            }
        }
        Ok(())
    }

    /// What was kept, as lines numbered from `seq` on.
    fn lines_from(&mut self, seq: u64) -> Vec<u8> {
        let mut lines = std::mem::take(&mut self.lines);
        lines.clear();
        push_lines(&mut lines, seq, self.unsynced, &self.kept);
        lines
    }

    fn sync(&mut self) -> Result<(), LogError> {
        if self.unsynced < self.next {
            self.segment.file.sync().context("sync", || self.path())?;
            self.syncs.fetch_add(1, Ordering::Relaxed);
            self.unsynced = self.next;
        }
        Ok(())
    }

    /// Begins the next segment, large enough for what was kept, and numbers that anew behind its
    /// first lines.
    fn next_segment(&mut self) -> Result<(), LogError> {
        let carried = self.carry.records().into_iter().map(Body::Record);
        self.begin_segment(carried.collect())
    }

    /// The same, with `bodies` as the first lines behind its head.
    fn begin_segment(&mut self, mut bodies: Vec<Body>) -> Result<(), LogError> {
        assert_eq!(self.unsynced, self.next, "a group never spans two segments");
        if self.first != First::START {
            bodies.insert(0, Body::First(self.first));
        }
        let (number, seq) = (self.segment.number + 1, self.next);
        let begin = first_lines(number, seq, bodies);
        self.next = seq + begin.count;
        self.unsynced = self.next;
        self.lines = self.lines_from(self.next);
        let need = begin.lines.len() + self.lines.len();
        let (from, file, bytes) = self.next_file(number, need)?;
        let segment = name_segment(&self.dir, file, from, bytes, &begin)?;
        self.syncs.fetch_add(1, Ordering::Relaxed);
        self.written_bytes += begin.lines.len() as u64;
        let before = std::mem::replace(&mut self.segment, segment);
        self.older.push(Older {
            number: before.number,
            seq: before.seq,
            bytes: before.bytes,
            highest: before.highest,
        });
        Ok(())
    }

    /// The spare file if it is there and large enough, else a new one: its name, itself, its length.
    fn next_file(
        &mut self,
        number: u64,
        need: usize,
    ) -> Result<(&'static str, D::File, usize), LogError> {
        if let Some(bytes) = self.spare.take(need) {
            let path = || self.dir.path_of(SPARE);
            let file = self.dir.open(SPARE).context("open", path)?;
            return Ok((SPARE, file, bytes));
        }
        let bytes = self.options.segment_bytes(number).max(need);
        Ok((MAKING, create_zeroed(&self.dir, MAKING, bytes)?, bytes))
    }
}

impl<F> Segment<F> {
    fn is_half_full(&self) -> bool {
        self.at > self.bytes / 2
    }
}

/// The first lines of a segment, which are written before it has its name.
struct Begin {
    number: u64,
    /// The number of the head.
    seq: u64,
    /// How many they are, with the head.
    count: u64,
    lines: Vec<u8>,
}

fn first_lines(number: u64, seq: u64, mut bodies: Vec<Body>) -> Begin {
    let lines = bodies.len() as u64;
    bodies.insert(0, Body::Segment { number, lines });
    let mut begin = Begin {
        number,
        seq,
        count: lines + 1,
        lines: Vec::new(),
    };
    push_lines(&mut begin.lines, seq, seq, &bodies);
    begin
}

/// Appends `bodies` as lines numbered from `seq` on, of which the first unsynced one is `group`.
fn push_lines(lines: &mut Vec<u8>, seq: u64, group: u64, bodies: &[Body]) {
    let mut text = Vec::new();
    for (seq, body) in (seq..).zip(bodies) {
        text.clear();
        body.write(&mut text);
        line::write(lines, seq, group, &text);
    }
}

fn create_zeroed<D: Dir>(dir: &D, name: &str, bytes: usize) -> Result<D::File, LogError> {
    dir.create_zeroed(name, bytes)
        .context("create", || dir.path_of(name))
}

/// Makes segment 1, where there is none, with `bodies` behind its head.
fn make_first<D: Dir>(
    dir: &D,
    options: &Options,
    bodies: &[Body],
) -> Result<Segment<D::File>, LogError> {
    let begin = first_lines(First::START.segment, First::START.seq, bodies.to_vec());
    let bytes = options.segment_bytes(begin.number).max(begin.lines.len());
    let file = create_zeroed(dir, MAKING, bytes)?;
    name_segment(dir, file, MAKING, bytes, &begin)
}

/// Makes the file `from` a segment: its first lines first, its name after, both durable (P42).
fn name_segment<D: Dir>(
    dir: &D,
    file: D::File,
    from: &str,
    bytes: usize,
    begin: &Begin,
) -> Result<Segment<D::File>, LogError> {
    let path = || dir.path_of(from);
    file.write_at(0, &begin.lines).context("write", path)?;
    file.sync().context("sync", path)?;
    dir.rename(from, &segment_name(begin.number))
        .context("rename", path)?;
    dir.sync_names().context("sync", || dir.path_of(""))?;
    Ok(Segment {
        number: begin.number,
        file,
        seq: begin.seq,
        at: begin.lines.len(),
        bytes,
        highest: Slot::ZERO,
    })
}

fn remove_in_progress<D: Dir>(dir: &D) -> Result<(), LogError> {
    for name in IN_PROGRESS {
        remove_if_there(dir, name).context("remove", || dir.path_of(name))?;
    }
    Ok(())
}
