//! A directory in memory that crashes on demand: for tests, and for a simulated disk.
//!
//! It keeps apart what a real disk keeps apart. A file has the bytes that a reader sees *now* and
//! the bytes that are *synced*; between them stands the list of unsynced writes, cut at sector ends,
//! of which a power loss may keep any subset ([`MemDir::after_crash`]). Changes of names, and cuts of
//! files, are kept in order and survive as a prefix, as on a file system with a journal.
//!
//! A sync that fails forgets its unsynced writes: they can still be read, a later sync succeeds, and
//! a power loss takes them (P37, what Linux does). A write that fails has written its first half.
//! Creating a file in a full directory leaves an empty one.

use super::dir::{Dir, DirFile};
use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use parking_lot::{Mutex, MutexGuard};

/// The sector of [`MemDir::new`]: what a disk writes wholly or not at all.
pub const SECTOR_BYTES: usize = 512;

/// A larger file is removed in steps of this many bytes: few, so that small files of tests have steps.
const REMOVAL_STEP_BYTES: usize = 128;

/// A directory in memory. A clone is another handle to the same one.
#[derive(Debug, Clone)]
pub struct MemDir(Arc<Mutex<Disk>>);

#[derive(Debug, Clone, Default)]
struct Disk {
    sector_bytes: usize,
    bytes_max: Option<usize>,
    steps: u64,
    failing_step: Option<u64>,
    files: Vec<Image>,
    names: BTreeMap<String, usize>,
    names_synced: BTreeMap<String, usize>,
    name_changes: Vec<NameChange>,
    writes: Vec<Write>,
}

#[derive(Debug, Clone)]
struct Image {
    synced: Vec<u8>,
    now: Vec<u8>,
}

#[derive(Debug, Clone)]
struct Write {
    file: usize,
    offset: usize,
    bytes: Vec<u8>,
}

#[derive(Debug, Clone)]
enum NameChange {
    Link(String, usize),
    Rename(String, String),
    Unlink(String),
    /// Of this file so many bytes are left.
    Truncate(usize, usize),
}

impl NameChange {
    fn apply(&self, names: &mut BTreeMap<String, usize>) {
        match self {
            Self::Link(name, file) => {
                names.insert(name.clone(), *file);
            }
            Self::Rename(from, to) => {
                if let Some(file) = names.remove(from) {
                    names.insert(to.clone(), file);
                }
            }
            Self::Unlink(name) => {
                names.remove(name);
            }
            Self::Truncate(..) => {}
        }
    }
}

fn put(image: &mut Vec<u8>, offset: usize, bytes: &[u8]) {
    let end = offset + bytes.len();
    if image.len() < end {
        image.resize(end, 0);
    }
    image[offset..end].copy_from_slice(bytes);
}

impl Disk {
    /// Counts one change and says whether it is the one that fails.
    fn step(&mut self) -> io::Result<()> {
        self.steps += 1;
        if self.failing_step == Some(self.steps) {
            self.failing_step = None;
            return Err(io::Error::other("injected failure"));
        }
        Ok(())
    }

    fn need_room(&self, more: usize) -> io::Result<()> {
        let used: usize = self.names.values().map(|&f| self.files[f].now.len()).sum();
        match self.bytes_max {
            Some(max) if used + more > max => Err(io::ErrorKind::StorageFull.into()),
            _ => Ok(()),
        }
    }

    fn file(&self, name: &str) -> io::Result<usize> {
        let missing = || io::Error::from(io::ErrorKind::NotFound);
        self.names.get(name).copied().ok_or_else(missing)
    }

    fn change_names(&mut self, change: NameChange) {
        change.apply(&mut self.names);
        self.name_changes.push(change);
    }

    /// Makes the first `count` changes of names and lengths durable, and forgets the others.
    fn settle_names(&mut self, count: usize) {
        for change in std::mem::take(&mut self.name_changes).iter().take(count) {
            change.apply(&mut self.names_synced);
            if let NameChange::Truncate(file, bytes) = change {
                self.files[*file].synced.truncate(*bytes);
            }
        }
    }

    fn write(&mut self, file: usize, mut offset: usize, mut bytes: &[u8]) {
        put(&mut self.files[file].now, offset, bytes);
        while !bytes.is_empty() {
            let sector_rest = self.sector_bytes - offset % self.sector_bytes;
            let (piece, rest) = bytes.split_at(bytes.len().min(sector_rest));
            self.writes.push(Write {
                file,
                offset,
                bytes: piece.to_vec(),
            });
            offset += piece.len();
            bytes = rest;
        }
    }
}

impl Default for MemDir {
    fn default() -> Self {
        Self::new()
    }
}

impl MemDir {
    /// An empty directory on a disk with the usual sectors.
    pub fn new() -> Self {
        Self::with_sector(SECTOR_BYTES)
    }

    /// An empty directory on a disk that writes units of `sector_bytes` wholly or not at all.
    pub fn with_sector(sector_bytes: usize) -> Self {
        assert!(sector_bytes > 0, "a sector has at least one byte");
        Self(Arc::new(Mutex::new(Disk {
            sector_bytes,
            ..Disk::default()
        })))
    }

    fn disk(&self) -> MutexGuard<'_, Disk> {
        self.0.lock()
    }

    /// How many writes a power loss could take or keep now, each at most a sector long.
    pub fn unsynced_writes(&self) -> usize {
        self.disk().writes.len()
    }

    /// How many changes of names and lengths a power loss could undo now, the last ones first.
    pub fn unsynced_names(&self) -> usize {
        self.disk().name_changes.len()
    }

    /// The directory after a power loss that kept the first `names` unsynced changes of names, and of
    /// the unsynced writes those for whose number, from 0, `keeps` says so. This one stays as it is.
    pub fn after_crash(&self, names: usize, mut keeps: impl FnMut(usize) -> bool) -> Self {
        let mut disk = self.disk().clone();
        for (number, write) in std::mem::take(&mut disk.writes).into_iter().enumerate() {
            if keeps(number) {
                put(
                    &mut disk.files[write.file].synced,
                    write.offset,
                    &write.bytes,
                );
            }
        }
        disk.settle_names(names);
        for file in &mut disk.files {
            file.now = file.synced.clone();
        }
        disk.names = disk.names_synced.clone();
        disk.failing_step = None;
        Self(Arc::new(Mutex::new(disk)))
    }

    /// A copy that goes its own way from here on, unsynced writes included and no failure ahead: also
    /// the directory after the end of the process alone.
    pub fn fork(&self) -> Self {
        let mut disk = self.disk().clone();
        disk.failing_step = None;
        Self(Arc::new(Mutex::new(disk)))
    }

    /// How many changes (create, write, sync, rename, truncate, remove) were asked for so far.
    pub fn steps(&self) -> u64 {
        self.disk().steps
    }

    /// Lets the change number `step` from now fail, once; 1 is the next one.
    pub fn fail_step(&self, step: u64) {
        let mut disk = self.disk();
        disk.failing_step = Some(disk.steps + step);
    }

    /// Lets the directory be full when its files have `bytes` together; none: never.
    pub fn limit(&self, bytes: Option<usize>) {
        self.disk().bytes_max = bytes;
    }

    /// Puts a file there, durable, as if it had always been so: what a careless hand or a worn disk
    /// does to a directory.
    pub fn put_file(&self, name: &str, bytes: &[u8]) {
        let mut disk = self.disk();
        let file = disk.files.len();
        disk.files.push(Image {
            synced: bytes.to_vec(),
            now: bytes.to_vec(),
        });
        disk.names.insert(name.into(), file);
        disk.names_synced.insert(name.into(), file);
    }
}

/// A file of a [`MemDir`].
#[derive(Debug)]
pub struct MemFile {
    dir: MemDir,
    file: usize,
}

impl Dir for MemDir {
    type File = MemFile;

    fn list(&self) -> io::Result<Vec<String>> {
        Ok(self.disk().names.keys().cloned().collect())
    }

    fn read(&self, name: &str) -> io::Result<Vec<u8>> {
        let disk = self.disk();
        Ok(disk.files[disk.file(name)?].now.clone())
    }

    fn create_zeroed(&self, name: &str, bytes: usize) -> io::Result<MemFile> {
        let mut disk = self.disk();
        if disk.names.contains_key(name) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let room = disk.step().and_then(|()| disk.need_room(bytes));
        let zeros = vec![0; if room.is_ok() { bytes } else { 0 }];
        let file = disk.files.len();
        disk.files.push(Image {
            synced: zeros.clone(),
            now: zeros,
        });
        disk.change_names(NameChange::Link(name.into(), file));
        drop(disk);
        room.map(|()| MemFile {
            dir: self.clone(),
            file,
        })
    }

    fn open(&self, name: &str) -> io::Result<MemFile> {
        Ok(MemFile {
            dir: self.clone(),
            file: self.disk().file(name)?,
        })
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut disk = self.disk();
        disk.file(from)?;
        disk.step()?;
        disk.change_names(NameChange::Rename(from.into(), to.into()));
        Ok(())
    }

    fn bytes_of(&self, name: &str) -> io::Result<usize> {
        let disk = self.disk();
        Ok(disk.files[disk.file(name)?].now.len())
    }

    fn truncate(&self, name: &str, bytes: usize) -> io::Result<()> {
        let mut disk = self.disk();
        let file = disk.file(name)?;
        disk.step()?;
        disk.files[file].now.truncate(bytes);
        disk.change_names(NameChange::Truncate(file, bytes));
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let mut disk = self.disk();
        disk.file(name)?;
        disk.step()?;
        disk.change_names(NameChange::Unlink(name.into()));
        Ok(())
    }

    fn removal_step_bytes(&self) -> usize {
        REMOVAL_STEP_BYTES
    }

    fn sync_names(&self) -> io::Result<()> {
        let mut disk = self.disk();
        disk.step()?;
        disk.settle_names(usize::MAX);
        Ok(())
    }

    fn path_of(&self, name: &str) -> String {
        name.into()
    }
}

impl DirFile for MemFile {
    fn write_at(&self, offset: usize, bytes: &[u8]) -> io::Result<()> {
        let mut disk = self.dir.disk();
        let end = offset + bytes.len();
        let more = end.saturating_sub(disk.files[self.file].now.len());
        disk.need_room(more)?;
        let step = disk.step();
        let written = if step.is_ok() {
            bytes.len()
        } else {
            bytes.len() / 2
        };
        disk.write(self.file, offset, &bytes[..written]);
        step
    }

    fn sync(&self) -> io::Result<()> {
        let mut disk = self.dir.disk();
        let step = disk.step();
        let (mine, others): (Vec<_>, Vec<_>) = std::mem::take(&mut disk.writes)
            .into_iter()
            .partition(|write| write.file == self.file);
        disk.writes = others;
        if step.is_ok() {
            let synced = &mut disk.files[self.file].synced;
            for write in mine {
                put(synced, write.offset, &write.bytes);
            }
        }
        step
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_file(sector: usize) -> (MemDir, MemFile) {
        let dir = MemDir::with_sector(sector);
        let file = dir.create_zeroed("x", 8).unwrap();
        dir.sync_names().unwrap();
        (dir, file)
    }

    #[test]
    fn a_crash_keeps_the_synced_and_any_subset_of_the_rest() {
        let (dir, file) = with_file(2);
        file.write_at(0, b"ab").unwrap();
        file.sync().unwrap();
        file.write_at(1, b"cdef").unwrap();
        assert_eq!(dir.read("x").unwrap(), b"acdef\0\0\0");
        // Cut at the sector ends: c, de, f.
        assert_eq!(dir.unsynced_writes(), 3);
        let after = |keeps: fn(usize) -> bool| dir.after_crash(0, keeps).read("x").unwrap();
        assert_eq!(after(|_| false), b"ab\0\0\0\0\0\0");
        assert_eq!(after(|n| n == 1), b"abde\0\0\0\0");
        assert_eq!(after(|_| true), b"acdef\0\0\0");
    }

    /// P42.
    #[test]
    fn names_survive_a_crash_only_in_order() {
        let (dir, _) = with_file(2);
        dir.rename("x", "y").unwrap();
        dir.create_zeroed("z", 1).unwrap();
        let after = |names| dir.after_crash(names, |_| true).list().unwrap();
        assert_eq!(dir.unsynced_names(), 2);
        assert_eq!(after(0), ["x"]);
        assert_eq!(after(1), ["y"]);
        assert_eq!(after(2), ["y", "z"]);
    }

    /// P37: what Linux does with a page whose write failed.
    #[test]
    fn a_failed_sync_loses_what_a_reader_still_sees() {
        let (dir, file) = with_file(2);
        file.write_at(0, b"ab").unwrap();
        dir.fail_step(1);
        assert!(file.sync().is_err());
        assert!(file.sync().is_ok());
        assert_eq!(dir.read("x").unwrap()[..2], *b"ab");
        assert_eq!(
            dir.after_crash(0, |_| true).read("x").unwrap()[..2],
            *b"\0\0"
        );
    }

    /// P38.
    #[test]
    fn a_full_directory_takes_no_more_bytes() {
        let (dir, file) = with_file(2);
        dir.limit(Some(8));
        file.write_at(6, b"ab").unwrap();
        let full = io::ErrorKind::StorageFull;
        assert_eq!(file.write_at(7, b"cd").unwrap_err().kind(), full);
        assert_eq!(dir.create_zeroed("y", 1).unwrap_err().kind(), full);
    }
}
