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

/// No power cut is ahead.
const NEVER: u32 = u32::MAX;

/// The name of the first segment of a log, where bytes are flipped.
const FIRST_SEGMENT: &str = "log-00000001";

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

    /// Flips bits of one byte in one of the first `lines` lines of the log. Returns where, if there
    /// are so many lines.
    pub(super) fn flip(&self, lines: usize, dice: &mut Dice) -> io::Result<Option<usize>> {
        let mut bytes = self.mem.read(FIRST_SEGMENT)?;
        let ends = bytes.iter().enumerate().filter(|&(_, &byte)| byte == b'\n');
        let Some((end, _)) = ends.take(lines).last() else {
            return Ok(None);
        };
        let at = dice.index(end + 1);
        let mask = dice.between(1..=255);
        bytes[at] ^= u8::try_from(mask).expect("one byte");
        self.mem.put_file(FIRST_SEGMENT, &bytes);
        Ok(Some(at))
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

    fn remove(&self, name: &str) -> io::Result<()> {
        self.power.step()?;
        self.mem.remove(name)
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
