//! What the log needs of a file system: a flat directory of files, and when they are durable.
//!
//! Two kinds of state become durable apart, as on a real disk: the *bytes* of a file with
//! [`DirFile::sync`], the *names* in the directory with [`Dir::sync_names`]. A rename without the
//! latter may be undone by a power loss (P42).

use std::fmt::Debug;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};

/// A flat directory. A clone is another handle to the same directory.
pub trait Dir: Clone + Debug + Send + 'static {
    /// A file open for writing.
    type File: DirFile;

    /// All names, in order.
    fn list(&self) -> io::Result<Vec<String>>;

    /// All bytes of a file, also those not yet synced.
    fn read(&self, name: &str) -> io::Result<Vec<u8>>;

    /// Makes a file of `bytes` zeros that are durable, though its name is not yet. The name must
    /// be free.
    fn create_zeroed(&self, name: &str, bytes: usize) -> io::Result<Self::File>;

    /// Opens a file that is there for writing.
    fn open(&self, name: &str) -> io::Result<Self::File>;

    /// Gives a file another name, in one step; a file of that name is replaced.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;

    /// The length of a file, in bytes.
    fn bytes_of(&self, name: &str) -> io::Result<usize>;

    /// Cuts a file's end off, so that `bytes` are left. Nobody writes to it afterwards.
    fn truncate(&self, name: &str, bytes: usize) -> io::Result<()>;

    /// Removes a file, at once; for one of any size there is `remove_in_steps`.
    fn remove(&self, name: &str) -> io::Result<()>;

    /// The most bytes that may be given back to the file system at once. While it takes back a hundred
    /// megabytes, no other file can be synced.
    fn removal_step_bytes(&self) -> usize;

    /// Makes all names durable as they are now.
    fn sync_names(&self) -> io::Result<()>;

    /// How people call this file.
    fn path_of(&self, name: &str) -> String;
}

/// A file open for writing.
pub trait DirFile: Debug + Send {
    /// Writes all of `bytes` at `offset`. Durable only after [`sync`](DirFile::sync).
    fn write_at(&self, offset: usize, bytes: &[u8]) -> io::Result<()>;

    /// Makes all that was written durable. After an error nothing is known about what was written
    /// since the last sync, and calling again does not help (P37).
    fn sync(&self) -> io::Result<()>;
}

/// The end of the names of files that [`write_whole`] has not finished.
pub const UNFINISHED: &str = ".new";

/// What a large file is called while it is removed step by step. Nobody reads it.
pub(super) const REMOVING: &str = "removing";

/// Removes a file in steps that each hold the file system up for a moment only. A crash between them
/// leaves the file whole, or under the name [`REMOVING`].
pub(super) fn remove_in_steps<D: Dir>(dir: &D, name: &str) -> io::Result<()> {
    let step = dir.removal_step_bytes();
    let mut bytes = dir.bytes_of(name)?;
    if bytes <= step {
        return dir.remove(name);
    }
    // First it loses its name, so that nobody takes what is left of it for the whole.
    if name != REMOVING {
        dir.rename(name, REMOVING)?;
    }
    while bytes > 0 {
        bytes = bytes.saturating_sub(step);
        dir.truncate(REMOVING, bytes)?;
    }
    dir.remove(REMOVING)
}

/// The same for a file that may be missing: nobody need have looked before, as what was seen may have
/// been renamed since.
pub(super) fn remove_if_there<D: Dir>(dir: &D, name: &str) -> io::Result<()> {
    match remove_in_steps(dir, name) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}

/// Writes a file as a whole: after a crash there is the old one, or none, or all of the new one.
pub fn write_whole<D: Dir>(dir: &D, name: &str, bytes: &[u8]) -> io::Result<()> {
    let unfinished = format!("{name}{UNFINISHED}");
    remove_if_there(dir, &unfinished)?;
    let file = dir.create_zeroed(&unfinished, bytes.len())?;
    file.write_at(0, bytes)?;
    file.sync()?;
    dir.rename(&unfinished, name)?;
    dir.sync_names()
}

/// A directory of the real file system.
#[derive(Debug, Clone)]
pub struct FsDir {
    path: PathBuf,
}

/// See [`Dir::removal_step_bytes`]: 123 MB at once held up syncs for 28 ms on ext4.
const REMOVE_BYTES: usize = 4 << 20;

/// How many zeros one write of [`FsDir::create_zeroed`] has.
const ZEROS_BYTES: usize = 256 * 1024;

impl FsDir {
    /// The directory at `path`, which must be there.
    pub fn open(path: impl Into<PathBuf>) -> io::Result<Self> {
        let path = path.into();
        if fs::metadata(&path)?.is_dir() {
            Ok(Self { path })
        } else {
            Err(io::ErrorKind::NotADirectory.into())
        }
    }

    /// The directory at `path`, which is made, with its parents, where it is missing. All names made
    /// are durable.
    pub fn create(path: impl Into<PathBuf>) -> io::Result<Self> {
        let path = path.into();
        let missing: Vec<&Path> = path
            .ancestors()
            .filter(|at| !at.as_os_str().is_empty())
            .take_while(|at| !at.exists())
            .collect();
        for at in missing.into_iter().rev() {
            match fs::create_dir(at) {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
                _ => sync_dir(parent_of(at))?,
            }
        }
        Self::open(path)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

fn parent_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

fn sync_dir(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

impl Dir for FsDir {
    type File = File;

    fn list(&self) -> io::Result<Vec<String>> {
        let mut names = fs::read_dir(&self.path)?
            .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
            .collect::<io::Result<Vec<_>>>()?;
        names.sort();
        Ok(names)
    }

    fn read(&self, name: &str) -> io::Result<Vec<u8>> {
        fs::read(self.path.join(name))
    }

    fn create_zeroed(&self, name: &str, bytes: usize) -> io::Result<File> {
        use std::os::unix::fs::FileExt as _;
        let path = self.path.join(name);
        let file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .open(&path)?;
        // Written, not only reserved: a sync into reserved space has to write its map as well.
        let zeros = vec![0; bytes.min(ZEROS_BYTES)];
        let write_zeros = || {
            let mut at = 0;
            while at < bytes {
                let len = zeros.len().min(bytes - at);
                file.write_all_at(&zeros[..len], at as u64)?;
                at += len;
            }
            file.sync_all()
        };
        match write_zeros() {
            Ok(()) => Ok(file),
            Err(error) => {
                // Most likely the disk is full: half a segment of zeros helps nobody.
                let _ = fs::remove_file(&path);
                Err(error)
            }
        }
    }

    fn open(&self, name: &str) -> io::Result<File> {
        OpenOptions::new().write(true).open(self.path.join(name))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        fs::rename(self.path.join(from), self.path.join(to))
    }

    fn bytes_of(&self, name: &str) -> io::Result<usize> {
        let bytes = fs::metadata(self.path.join(name))?.len();
        usize::try_from(bytes).map_err(io::Error::other)
    }

    fn truncate(&self, name: &str, bytes: usize) -> io::Result<()> {
        self.open(name)?.set_len(bytes as u64)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        fs::remove_file(self.path.join(name))
    }

    fn removal_step_bytes(&self) -> usize {
        REMOVE_BYTES
    }

    fn sync_names(&self) -> io::Result<()> {
        sync_dir(&self.path)
    }

    fn path_of(&self, name: &str) -> String {
        self.path.join(name).display().to_string()
    }
}

impl DirFile for File {
    fn write_at(&self, offset: usize, bytes: &[u8]) -> io::Result<()> {
        use std::os::unix::fs::FileExt as _;
        self.write_all_at(bytes, offset as u64)
    }

    fn sync(&self) -> io::Result<()> {
        self.sync_data()
    }
}

#[cfg(test)]
mod tests {
    use super::super::mem::MemDir;
    use super::*;

    #[test]
    fn a_new_file_is_zeros_and_takes_writes_anywhere() {
        let temp = tempfile::tempdir().unwrap();
        let dir = FsDir::create(temp.path().join("a/b")).unwrap();
        let file = dir.create_zeroed("x", ZEROS_BYTES + 10).unwrap();
        file.write_at(ZEROS_BYTES, b"hello").unwrap();
        file.sync().unwrap();
        let mut expected = vec![0; ZEROS_BYTES];
        expected.extend_from_slice(b"hello\0\0\0\0\0");
        assert_eq!(dir.read("x").unwrap(), expected);
        assert_eq!(
            dir.create_zeroed("x", 1).unwrap_err().kind(),
            io::ErrorKind::AlreadyExists
        );
    }

    #[test]
    fn names_are_listed_in_order_and_change() {
        let temp = tempfile::tempdir().unwrap();
        let dir = FsDir::open(temp.path()).unwrap();
        for name in ["b", "a", "c"] {
            dir.create_zeroed(name, 0).unwrap();
        }
        dir.rename("b", "d").unwrap();
        dir.remove("a").unwrap();
        dir.sync_names().unwrap();
        assert_eq!(dir.list().unwrap(), ["c", "d"]);
        assert!(FsDir::open(temp.path().join("c")).is_err());
        assert!(FsDir::open(temp.path().join("none")).is_err());
    }

    /// Another process may have made one of them meanwhile, as `..` does here.
    #[test]
    fn a_directory_is_made_with_its_parents_or_the_systems_reason_is_told() {
        let temp = tempfile::tempdir().unwrap();
        FsDir::create(temp.path().join("a/b/../c")).unwrap();
        let dir = FsDir::open(temp.path().join("a")).unwrap();
        assert_eq!(dir.list().unwrap(), ["b", "c"]);
        let below_a_device = FsDir::create("/dev/null/2").unwrap_err();
        assert_eq!(below_a_device.kind(), io::ErrorKind::NotADirectory);
    }

    /// P42: a name is durable in the directory that it stands in.
    #[test]
    fn a_bare_name_stands_in_the_working_directory() {
        assert_eq!(parent_of(Path::new("data/2")), Path::new("data"));
        assert_eq!(parent_of(Path::new("data")), Path::new("."));
    }

    /// P37, P38: nothing counts as durable that the system refused to write or to sync.
    #[test]
    fn what_cannot_be_written_or_synced_is_an_error() {
        let temp = tempfile::tempdir().unwrap();
        let dir = FsDir::create(temp.path().join("gone")).unwrap();
        fs::remove_dir(dir.path()).unwrap();
        assert!(dir.sync_names().is_err());
        let devices = FsDir::open("/dev").unwrap();
        assert!(devices.open("null").unwrap().sync().is_err());
        let full = devices.open("full").unwrap().write_at(0, b"x");
        assert_eq!(full.unwrap_err().kind(), io::ErrorKind::StorageFull);
    }

    /// P37, P42: whatever step fails, the old file or the new one is there, and the failure is told.
    #[test]
    fn a_file_is_written_as_a_whole_or_not_at_all() {
        for failing in 1.. {
            let dir = MemDir::new();
            write_whole(&dir, "x", b"one").unwrap();
            let steps = dir.steps();
            dir.fail_step(failing);
            let written = write_whole(&dir, "x", b"two");
            assert_eq!(
                written.is_err(),
                dir.steps() - steps >= failing,
                "{failing}"
            );
            for names in 0..=dir.unsynced_names() {
                let found = dir.after_crash(names, |_| true).read("x").unwrap();
                assert!(found == b"two" || found == b"one" && written.is_err());
            }
            if written.is_ok() {
                assert_eq!(failing, 6);
                break;
            }
        }
    }

    #[test]
    fn a_file_of_any_size_is_removed_and_leaves_nothing() {
        let temp = tempfile::tempdir().unwrap();
        let dir = FsDir::open(temp.path()).unwrap();
        for bytes in [0, 1, REMOVE_BYTES, REMOVE_BYTES + 1, 3 * REMOVE_BYTES] {
            dir.create_zeroed("x", bytes).unwrap();
            // What a crash left of an earlier one is in nobody's way.
            dir.create_zeroed(REMOVING, 1).unwrap();
            remove_in_steps(&dir, "x").unwrap();
            assert!(dir.read("x").is_err());
            remove_if_there(&dir, REMOVING).unwrap();
            assert!(dir.list().unwrap().is_empty(), "{bytes}");
        }
        let missing = remove_in_steps(&dir, "x").unwrap_err();
        assert_eq!(missing.kind(), io::ErrorKind::NotFound);
    }

    /// The system takes back a large file's room step by step, and a small one's at once: whoever has
    /// it under another name sees which.
    #[test]
    fn a_large_file_is_emptied_before_it_is_removed() {
        let temp = tempfile::tempdir().unwrap();
        let dir = FsDir::open(temp.path()).unwrap();
        for (bytes, left) in [
            (1, 1),
            (REMOVE_BYTES, REMOVE_BYTES),
            (REMOVE_BYTES + 1, 0),
            (2 * REMOVE_BYTES + 1, 0),
        ] {
            dir.create_zeroed("x", bytes).unwrap();
            let kept = temp.path().join("kept");
            fs::hard_link(temp.path().join("x"), &kept).unwrap();
            remove_in_steps(&dir, "x").unwrap();
            assert_eq!(fs::metadata(&kept).unwrap().len(), left as u64, "{bytes}");
            fs::remove_file(kept).unwrap();
        }
    }

    /// P42: a whole file or none, and no unfinished one left behind.
    #[test]
    fn a_whole_file_replaces_the_old_one() {
        let temp = tempfile::tempdir().unwrap();
        let dir = FsDir::open(temp.path()).unwrap();
        write_whole(&dir, "x", b"one").unwrap();
        dir.create_zeroed("x.new", 100).unwrap();
        write_whole(&dir, "x", b"two").unwrap();
        assert_eq!(dir.read("x").unwrap(), b"two");
        assert_eq!(dir.list().unwrap(), ["x"]);
    }
}
