//! The log: records in numbered segments, one write and one sync for a group of them.
//!
//! The one who appends decides when a group ends: [`Log::append`] only keeps, [`Log::commit`] writes
//! all that was kept with one write and makes it durable with one sync. A vote may leave after that
//! (P1, P2). Records that bind nobody can go out with [`Log::write`], without a sync; the next commit
//! carries them along.
//!
//! A segment is a file of zeros that are already on disk, so that a sync need not write the file's
//! length or map as well; that nearly doubles the commits a second. When a group does not fit in what
//! is left of one, the next one begins: everything before is synced, then the new file gets its head
//! line and a sync, then its name and a sync of the names, and only then a record. A group never spans
//! two segments. The new file is a spare, if a helper thread has made one ([`Log::spare_job`]), else
//! it is made on the spot.
//!
//! The format of a line is in `line.rs`, the rule of recovery in `scan.rs`.

use super::dir::{Dir, DirFile};
use super::error::{Context, LogError};
use super::scan::{self, End, segment_name};
use super::{line, record};
use crate::paxos::record::Record;
use std::fmt;
use std::io;
use std::sync::Arc;

use parking_lot::{Mutex, MutexGuard};

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

/// The names of files that hold work in progress and are never read.
pub(super) const IN_PROGRESS: [&str; 2] = [SPARE, MAKING];

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
    fn segment_bytes(&self, number: u64) -> usize {
        let doublings = u32::try_from(number - 1).unwrap_or(u32::MAX);
        2usize
            .checked_pow(doublings)
            .and_then(|times| self.first_segment_bytes.checked_mul(times))
            .map_or(self.segment_bytes_max, |b| b.min(self.segment_bytes_max))
    }
}

/// What was on disk.
#[derive(Debug)]
pub struct Recovery {
    /// All records, in the order in which they were appended; they are durable.
    pub records: Vec<Record>,
    /// What was cut off, if the last write had not come to its end.
    pub cut: Option<Cut>,
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
            file: dir.path_of(&segment_name(end.number)),
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
    segment: Segment<D::File>,
    /// The number of the next line.
    next: u64,
    /// The number of the first line not known to be synced; `next` if all are.
    unsynced: u64,
    /// Appended, not yet written.
    kept: Vec<Record>,
    /// The lines of one write; kept for its memory.
    lines: Vec<u8>,
    spare: Arc<Mutex<Spare>>,
    failed: bool,
}

/// The segment that is being written.
#[derive(Debug)]
struct Segment<F> {
    number: u64,
    file: F,
    /// Where the next line goes.
    at: usize,
    bytes: usize,
}

/// The state of the spare file.
#[derive(Debug, Clone, Copy)]
enum Spare {
    None,
    /// A [`SpareJob`] is out.
    Making,
    /// There and durable, with so many bytes.
    Ready(usize),
    /// It could not be made. Nobody tries again in this segment: on a full disk each try would write
    /// what is left of it full, and log a line, at every commit.
    Failed,
}

fn lock(spare: &Mutex<Spare>) -> MutexGuard<'_, Spare> {
    spare.lock()
}

impl<D: Dir> Log<D> {
    /// Makes the first segment of a new log; durable, with its name, when this returns. Apart from
    /// [`open`](Self::open) on purpose: a log that is gone must not be replaced by an empty one (P41).
    pub fn create(dir: &D, options: &Options) -> Result<(), LogError> {
        if let Some(&first) = scan::segments(dir)?.first() {
            let file = dir.path_of(&segment_name(first));
            return Err(LogError::Exists { file });
        }
        remove_in_progress(dir)?;
        let head = head_line(1, 1);
        let bytes = options.segment_bytes(1).max(head.len());
        let file = create_zeroed(dir, MAKING, bytes)?;
        name_segment(dir, &file, MAKING, 1, &head)
    }

    /// Opens a log and reads all of it. Cuts off a torn end; refuses a damaged log and leaves it as
    /// it is.
    pub fn open(dir: D, options: Options) -> Result<(Self, Recovery), LogError> {
        let (records, end) = read_records(&dir)?;
        let cut = Cut::of(&dir, &end);
        let name = segment_name(end.number);
        let path = || dir.path_of(&name);
        let file = dir.open(&name).context("open", path)?;
        // The last group may never have been synced, or its sync may have failed and left pages that
        // count as clean (P37): written again, so that what is read here is durable.
        let mut tail = end.group.clone();
        tail.resize(tail.len() + end.torn_bytes, 0);
        file.write_at(end.group_at, &tail).context("write", path)?;
        file.sync().context("sync", path)?;
        remove_in_progress(&dir)?;
        dir.sync_names().context("sync", || dir.path_of(""))?;
        let log = Self {
            options,
            segment: Segment {
                number: end.number,
                file,
                at: end.at(),
                bytes: end.file_bytes,
            },
            next: end.next,
            unsynced: end.next,
            kept: Vec::new(),
            lines: Vec::new(),
            spare: Arc::new(Mutex::new(Spare::None)),
            failed: false,
            dir,
        };
        Ok((log, Recovery { records, cut }))
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
        self.kept.extend_from_slice(records);
        Ok(())
    }

    /// Makes all appended records durable: one write, one sync; neither if there is nothing to do.
    pub fn commit(&mut self) -> Result<(), LogError> {
        self.unless_failed(|log| {
            log.write_kept()?;
            log.sync()
        })
    }

    /// Writes all appended records without a sync: a crash may lose them. None of them may bind.
    pub fn write(&mut self) -> Result<(), LogError> {
        assert!(
            !self.kept.iter().any(Record::binds),
            "I2: a record that a vote rests on is written without a sync"
        );
        self.unless_failed(Self::write_kept)
    }

    /// Reads all durable records back from disk, as [`open`](Self::open) does, and leaves the log as
    /// it is.
    pub fn read_all(&self) -> Result<Vec<Record>, LogError> {
        self.check()?;
        let mut records = Vec::new();
        let end = scan::scan(&self.dir, &mut |entry| {
            records.extend(entry.record.filter(|_| entry.seq < self.unsynced));
            Ok(())
        })?;
        if end.next == self.next {
            return Ok(records);
        }
        Err(LogError::Damaged {
            file: self.dir.path_of(&segment_name(end.number)),
            offset: end.at(),
            expected: end.next,
            found: "no whole record".into(),
            witness: format!("this server had written up to record {}", self.next - 1),
        })
    }

    /// The making of the next segment's file, if it is time for it: for a helper thread, so that the
    /// log need not wait for it.
    pub fn spare_job(&self) -> Option<SpareJob<D>> {
        let half_full = self.segment.at > self.segment.bytes / 2;
        let mut spare = lock(&self.spare);
        (half_full && matches!(*spare, Spare::None)).then(|| {
            *spare = Spare::Making;
            SpareJob {
                dir: self.dir.clone(),
                bytes: self.options.segment_bytes(self.segment.number + 1),
                spare: Arc::clone(&self.spare),
            }
        })
    }

    fn check(&self) -> Result<(), LogError> {
        if self.failed {
            let file = self.path();
            return Err(LogError::Failed { file });
        }
        Ok(())
    }

    /// After the first error nothing is known about the disk, so nothing is tried again (P37).
    fn unless_failed(
        &mut self,
        run: impl FnOnce(&mut Self) -> Result<(), LogError>,
    ) -> Result<(), LogError> {
        self.check()?;
        self.failed = true;
        run(self)?;
        self.failed = false;
        Ok(())
    }

    fn path(&self) -> String {
        self.dir.path_of(&segment_name(self.segment.number))
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
        self.next += self.kept.len() as u64;
        self.kept.clear();
        Ok(())
    }

    /// The kept records as lines numbered from `seq` on.
    fn lines_from(&mut self, seq: u64) -> Vec<u8> {
        let mut lines = std::mem::take(&mut self.lines);
        lines.clear();
        let mut body = Vec::new();
        for (seq, record) in (seq..).zip(&self.kept) {
            body.clear();
            record::write(&mut body, record);
            line::write(&mut lines, seq, self.unsynced, &body);
        }
        lines
    }

    fn sync(&mut self) -> Result<(), LogError> {
        if self.unsynced < self.next {
            self.segment.file.sync().context("sync", || self.path())?;
            self.unsynced = self.next;
        }
        Ok(())
    }

    /// Begins the next segment, large enough for what was kept, and numbers that anew behind its head.
    fn next_segment(&mut self) -> Result<(), LogError> {
        assert_eq!(self.unsynced, self.next, "a group never spans two segments");
        let number = self.segment.number + 1;
        let head = head_line(number, self.next);
        self.next += 1;
        self.unsynced = self.next;
        self.lines = self.lines_from(self.next);
        let need = head.len() + self.lines.len();
        let (from, file, bytes) = self.next_file(number, need)?;
        name_segment(&self.dir, &file, from, number, &head)?;
        self.segment = Segment {
            number,
            file,
            at: head.len(),
            bytes,
        };
        Ok(())
    }

    /// The spare file if it is there and large enough, else a new one: its name, itself, its length.
    fn next_file(
        &mut self,
        number: u64,
        need: usize,
    ) -> Result<(&'static str, D::File, usize), LogError> {
        let mut spare = lock(&self.spare);
        if let Spare::Ready(bytes) = *spare
            && bytes >= need
        {
            let path = || self.dir.path_of(SPARE);
            let file = self.dir.open(SPARE).context("open", path)?;
            *spare = Spare::None;
            return Ok((SPARE, file, bytes));
        }
        if matches!(*spare, Spare::Failed) {
            *spare = Spare::None;
        }
        drop(spare);
        let bytes = self.options.segment_bytes(number).max(need);
        Ok((MAKING, create_zeroed(&self.dir, MAKING, bytes)?, bytes))
    }
}

/// All records on disk, and where they end.
fn read_records<D: Dir>(dir: &D) -> Result<(Vec<Record>, End), LogError> {
    let mut records = Vec::new();
    let end = scan::scan(dir, &mut |entry| {
        records.extend(entry.record);
        Ok(())
    })?;
    Ok((records, end))
}

fn head_line(number: u64, seq: u64) -> Vec<u8> {
    let mut head = Vec::new();
    line::write(&mut head, seq, seq, &scan::head_body(number));
    head
}

fn create_zeroed<D: Dir>(dir: &D, name: &str, bytes: usize) -> Result<D::File, LogError> {
    dir.create_zeroed(name, bytes)
        .context("create", || dir.path_of(name))
}

/// Makes the file `from` the segment `number`: its head first, its name after, both durable (P42).
fn name_segment<D: Dir>(
    dir: &D,
    file: &D::File,
    from: &str,
    number: u64,
    head: &[u8],
) -> Result<(), LogError> {
    let path = || dir.path_of(from);
    file.write_at(0, head).context("write", path)?;
    file.sync().context("sync", path)?;
    dir.rename(from, &segment_name(number))
        .context("rename", path)?;
    dir.sync_names().context("sync", || dir.path_of(""))
}

fn remove_in_progress<D: Dir>(dir: &D) -> Result<(), LogError> {
    let names = dir.list().context("list", || dir.path_of(""))?;
    for name in IN_PROGRESS {
        if names.iter().any(|n| n == name) {
            dir.remove(name).context("remove", || dir.path_of(name))?;
        }
    }
    Ok(())
}

/// The making of a spare file. Dropped undone, the log asks for it again.
#[derive(Debug)]
pub struct SpareJob<D: Dir> {
    dir: D,
    bytes: usize,
    spare: Arc<Mutex<Spare>>,
}

impl<D: Dir> SpareJob<D> {
    /// Makes the file, durable; takes as long as writing a segment. After an error the log goes on
    /// without: it makes the segment itself when it needs it, and asks for a spare again after that.
    pub fn make(self) -> io::Result<()> {
        let made = self.dir.create_zeroed(SPARE, self.bytes);
        *lock(&self.spare) = match made {
            Ok(_) => Spare::Ready(self.bytes),
            Err(_) => Spare::Failed,
        };
        made.map(drop)
    }
}

impl<D: Dir> Drop for SpareJob<D> {
    fn drop(&mut self) {
        let mut spare = lock(&self.spare);
        if matches!(*spare, Spare::Making) {
            *spare = Spare::None;
        }
    }
}
