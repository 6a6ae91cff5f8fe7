//! A node's disk: `disk::mem` with a power switch.
//!
//! The switch stops all changes after a given number of them, so that a crash may fall between any
//! two of the steps of a commit, also in the middle of beginning a new segment (P21, P42). What a
//! power loss then leaves of the unsynced writes is up to [`MemDir::after_crash`].

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use super::dice::Dice;
use crate::disk::dir::{Dir, DirFile};
use crate::disk::mem::{MemDir, MemFile};
use crate::disk::print::print_log;

/// A larger file is removed in steps of this many bytes: a segment of the smallest log has two.
const REMOVAL_STEP_BYTES: usize = 1_000;

/// No power cut is ahead.
const NEVER: u32 = u32::MAX;

/// How many changes are left.
#[derive(Debug, Clone)]
struct Power(Arc<AtomicU32>);

impl Power {
    fn step(&self) -> io::Result<()> {
        match self.0.load(Ordering::Relaxed) {
            NEVER => Ok(()),
            0 => Err(io::Error::other("the power is gone")),
            left => {
                self.0.store(left - 1, Ordering::Relaxed);
                Ok(())
            }
        }
    }
}

/// See the module's text.
#[derive(Debug, Clone)]
pub(super) struct SimDir {
    mem: MemDir,
    power: Power,
}

/// A file of a [`SimDir`].
#[derive(Debug)]
pub(super) struct SimFile {
    file: MemFile,
    power: Power,
}

impl SimDir {
    pub(super) fn new(sector_bytes: usize) -> Self {
        Self::of(MemDir::with_sector(sector_bytes))
    }

    fn of(mem: MemDir) -> Self {
        let power = Power(Arc::new(AtomicU32::new(NEVER)));
        Self { mem, power }
    }

    /// The power goes after so many changes.
    pub(super) fn cut_power_after(&self, changes: u32) {
        self.power.0.store(changes, Ordering::Relaxed);
    }

    /// The power goes no more. Returns whether it was gone.
    pub(super) fn power_is_back(&self) -> bool {
        self.power.0.swap(NEVER, Ordering::Relaxed) == 0
    }

    /// How many writes a power loss may take.
    pub(super) fn unsynced_writes(&self) -> usize {
        self.mem.unsynced_writes()
    }

    /// The disk after a power loss.
    pub(super) fn after_power_loss(&self, dice: &mut Dice) -> Self {
        let names = dice.index(self.mem.unsynced_names() + 1);
        let kept_per_mille = dice.pick(&[0, 300, 700, 1_000]);
        let mem = self.mem.after_crash(names, |_| dice.chance(kept_per_mille));
        Self::of(mem)
    }

    /// The disk after the end of the process alone: what was written can be read.
    pub(super) fn after_kill(&self) -> Self {
        Self::of(self.mem.fork())
    }

    /// Lets the change after so many others fail.
    pub(super) fn fail_step(&self, step: u64) {
        self.mem.fail_step(step);
    }

    /// Lets nothing fail that was to fail.
    pub(super) fn fail_nothing(&self) {
        self.mem.fail_step(u64::from(NEVER));
    }

    /// Leaves room for so many more bytes.
    pub(super) fn leave_room(&self, bytes: usize) -> io::Result<()> {
        let mut used = 0;
        for name in self.mem.list()? {
            used += self.mem.read(&name)?.len();
        }
        self.mem.limit(Some(used + bytes));
        Ok(())
    }

    /// Gives all the room back.
    pub(super) fn make_room(&self) {
        self.mem.limit(None);
    }

    /// Flips bits of one byte of the log, where that can be told from a torn tail. Returns where, if
    /// there is such a place.
    pub(super) fn flip_log(&self, dice: &mut Dice) -> io::Result<Option<(String, usize)>> {
        let mut printed = Vec::new();
        print_log(self, None, &mut printed).map_err(io::Error::other)?;
        let text = String::from_utf8_lossy(&printed);
        let lines: Vec<LogLine> = text.lines().filter_map(LogLine::read).collect();
        let Some(last) = lines.last() else {
            return Ok(None);
        };
        // What is older than the newest group was synced before that was written; what is older than
        // where the log must begin is of no account.
        let synced = self.group_of(last)?;
        let first = lines
            .iter()
            .filter_map(|line| line.first)
            .max()
            .unwrap_or(1);
        let places: Vec<&LogLine> = (lines.iter())
            .filter(|line| (first..synced).contains(&line.seq))
            .collect();
        if places.is_empty() {
            return Ok(None);
        }
        let line = places[dice.index(places.len())];
        let bytes = self.mem.read(&line.file)?;
        let rest = bytes[line.offset..].iter();
        let length = rest.take_while(|&&byte| byte != b'\n').count() + 1;
        let at = line.offset + dice.index(length);
        self.flip(&line.file, at, dice)?;
        Ok(Some((line.file.clone(), at)))
    }

    /// Flips bits of one byte of the newest snapshot. Returns where, if there is a snapshot.
    pub(super) fn flip_snapshot(&self, dice: &mut Dice) -> io::Result<Option<(String, usize)>> {
        let names = self.mem.list()?;
        let Some(name) = names.iter().rfind(|name| name.starts_with("snapshot-")) else {
            return Ok(None);
        };
        let at = dice.index(self.mem.read(name)?.len());
        self.flip(name, at, dice)?;
        Ok(Some((name.clone(), at)))
    }

    fn flip(&self, name: &str, at: usize, dice: &mut Dice) -> io::Result<()> {
        let mut bytes = self.mem.read(name)?;
        let mask = dice.between(1..=255);
        bytes[at] ^= u8::try_from(mask).expect("one byte");
        self.mem.put_file(name, &bytes);
        Ok(())
    }

    /// The first line that was not known to be synced when this one was written: its third word.
    fn group_of(&self, line: &LogLine) -> io::Result<u64> {
        let bytes = self.mem.read(&line.file)?;
        let text = String::from_utf8_lossy(&bytes[line.offset..]).into_owned();
        let group = text.split(' ').nth(2).and_then(|word| word.parse().ok());
        group.ok_or_else(|| io::Error::other("a line of the log has a group"))
    }
}

/// A line of a printed log.
struct LogLine {
    file: String,
    offset: usize,
    seq: u64,
    /// From where on the log must be whole, if this line says so.
    first: Option<u64>,
}

impl LogLine {
    fn read(line: &str) -> Option<Self> {
        let mut words = line.split(' ');
        let file = words.next()?.to_string();
        let (offset, seq) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
        let says = words.next() == Some("first");
        let first = words.nth(1).and_then(|word| word.parse().ok());
        Some(Self {
            file,
            offset,
            seq,
            first: first.filter(|_| says),
        })
    }
}

impl Dir for SimDir {
    type File = SimFile;

    fn list(&self) -> io::Result<Vec<String>> {
        self.mem.list()
    }

    fn read(&self, name: &str) -> io::Result<Vec<u8>> {
        self.mem.read(name)
    }

    fn create_zeroed(&self, name: &str, bytes: usize) -> io::Result<SimFile> {
        self.power.step()?;
        let file = self.mem.create_zeroed(name, bytes)?;
        let power = self.power.clone();
        Ok(SimFile { file, power })
    }

    fn open(&self, name: &str) -> io::Result<SimFile> {
        let file = self.mem.open(name)?;
        let power = self.power.clone();
        Ok(SimFile { file, power })
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.power.step()?;
        self.mem.rename(from, to)
    }

    fn bytes_of(&self, name: &str) -> io::Result<usize> {
        self.mem.bytes_of(name)
    }

    fn truncate(&self, name: &str, bytes: usize) -> io::Result<()> {
        self.power.step()?;
        self.mem.truncate(name, bytes)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.power.step()?;
        self.mem.remove(name)
    }

    fn removal_step_bytes(&self) -> usize {
        REMOVAL_STEP_BYTES
    }

    fn sync_names(&self) -> io::Result<()> {
        self.power.step()?;
        self.mem.sync_names()
    }

    fn path_of(&self, name: &str) -> String {
        name.into()
    }
}

impl DirFile for SimFile {
    fn write_at(&self, offset: usize, bytes: &[u8]) -> io::Result<()> {
        self.power.step()?;
        self.file.write_at(offset, bytes)
    }

    fn sync(&self) -> io::Result<()> {
        self.power.step()?;
        self.file.sync()
    }
}
