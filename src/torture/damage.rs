//! What is done to the files of a server that is down: its directory emptied, a byte flipped.
//!
//! Files are looked at as text, from outside: the numbers at the beginning of each line, no more. A
//! byte is flipped only where what stands behind proves that its line had been synced: a later segment,
//! or a later line of a later group. Damage at the very end cannot be told from a write that a crash
//! has torn, and no server could know of the votes that it lost there; so that is left out.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// What the names of the segments of a log begin with.
const SEGMENT: &str = "log-";

/// What the names of snapshots begin with.
const SNAPSHOT: &str = "snapshot-";

/// Removes all that is in a directory.
pub(super) fn empty(dir: &Path) -> io::Result<()> {
    for entry in fs::read_dir(dir)? {
        fs::remove_file(entry?.path())?;
    }
    Ok(())
}

/// Flips a bit of a line of the log whose loss can be proven. Tells where; none if there is no such
/// line.
pub(super) fn flip_in_log(dir: &Path, dice: u64) -> io::Result<Option<String>> {
    let segments = files(dir, SEGMENT)?;
    let mut flippable = Vec::new();
    for (number, path) in segments.iter().enumerate() {
        let bytes = fs::read(path)?;
        let lines = lines(&bytes);
        // The highest group of the lines behind.
        let mut group = if number + 1 < segments.len() {
            u64::MAX
        } else {
            0
        };
        for line in lines.iter().rev() {
            if line.seq < group {
                flippable.push((path, line.begin, line.end));
            }
            group = group.max(line.group);
        }
    }
    let Some(&(path, begin, end)) = pick(&flippable, dice) else {
        return Ok(None);
    };
    flip(path, begin + place(end - begin, dice)).map(Some)
}

/// Flips a bit of the newest snapshot. Tells where; none if there is no snapshot.
pub(super) fn flip_in_snapshot(dir: &Path, dice: u64) -> io::Result<Option<String>> {
    let Some(newest) = files(dir, SNAPSHOT)?.pop() else {
        return Ok(None);
    };
    let bytes = usize::try_from(fs::metadata(&newest)?.len()).expect("it was in memory once");
    flip(&newest, place(bytes, dice)).map(Some)
}

/// Whether there is a snapshot.
pub(super) fn has_snapshot(dir: &Path) -> bool {
    files(dir, SNAPSHOT).is_ok_and(|snapshots| !snapshots.is_empty())
}

/// The files whose names are this and digits, in order.
fn files(dir: &Path, begins: &str) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let digits = name.strip_prefix(begins);
        if digits.is_some_and(|digits| digits.bytes().all(|byte| byte.is_ascii_digit())) {
            found.push(entry.path());
        }
    }
    found.sort();
    Ok(found)
}

/// A line of a log: where it is, its LF left out, and its second and third field.
struct Line {
    begin: usize,
    end: usize,
    seq: u64,
    group: u64,
}

/// The lines of a segment that begin as lines do. What is not one has been damaged before.
fn lines(bytes: &[u8]) -> Vec<Line> {
    let mut lines = Vec::new();
    let mut begin = 0;
    for text in bytes.split_inclusive(|&byte| byte == b'\n') {
        let end = begin + text.len() - 1;
        let mut fields = text.splitn(4, |&byte| byte == b' ').skip(1);
        let mut number = || std::str::from_utf8(fields.next()?).ok()?.parse().ok();
        if let (Some(seq), Some(group), true) = (number(), number(), text.ends_with(b"\n")) {
            lines.push(Line {
                begin,
                end,
                seq,
                group,
            });
        }
        begin += text.len();
    }
    lines
}

/// One of them.
fn pick<T>(all: &[T], dice: u64) -> Option<&T> {
    (!all.is_empty()).then(|| &all[place(all.len(), dice)])
}

/// A place among so many, one or more.
fn place(many: usize, dice: u64) -> usize {
    usize::try_from(dice % many.max(1) as u64).expect("below a usize")
}

/// Flips the lowest bit of a byte of a file, in place; where, for people.
fn flip(path: &Path, at: usize) -> io::Result<String> {
    let mut bytes = fs::read(path)?;
    let Some(byte) = bytes.get_mut(at) else {
        return Err(io::ErrorKind::UnexpectedEof.into());
    };
    *byte ^= 1;
    fs::write(path, bytes)?;
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    Ok(format!("a bit of byte {at} of {name}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Three lines, of which the last was written before the second was synced, and the zeros behind.
    const LOG: &[u8] = b"00000000 1 1 1 a\n00000000 2 2 1 b\n00000000 3 2 1 c\n\0\0\0\0";

    fn changed(name: &str, dir: &Path, old: &[u8]) -> Vec<usize> {
        let new = fs::read(dir.join(name)).unwrap();
        assert_eq!(new.len(), old.len());
        (0..old.len()).filter(|&at| new[at] != old[at]).collect()
    }

    #[test]
    fn only_a_line_that_is_surely_synced_is_flipped() {
        for dice in 0..100 {
            let dir = tempfile::tempdir().unwrap();
            fs::write(dir.path().join("log-00000001"), LOG).unwrap();
            let told = flip_in_log(dir.path(), dice).unwrap().expect("line 1");
            let changed = changed("log-00000001", dir.path(), LOG);
            assert_eq!(changed.len(), 1);
            assert!(changed[0] < 16, "{told}");
        }
    }

    #[test]
    fn in_an_older_segment_every_line_may_be_flipped() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("log-00000001"), LOG).unwrap();
        fs::write(dir.path().join("log-00000002"), b"00000000 4 4 1 d\n").unwrap();
        fs::write(dir.path().join("log.spare"), b"\0\0").unwrap();
        let mut all: Vec<usize> = Vec::new();
        for dice in 0..100 {
            fs::write(dir.path().join("log-00000001"), LOG).unwrap();
            flip_in_log(dir.path(), dice).unwrap().expect("a line");
            all.extend(changed("log-00000001", dir.path(), LOG));
        }
        for line in [0..17, 17..34, 34..51] {
            assert!(all.iter().any(|at| line.contains(at)), "{line:?}");
        }
        assert!(all.iter().all(|&at| LOG[at] != b'\n' && LOG[at] != 0));
    }

    #[test]
    fn without_a_line_or_a_snapshot_nothing_is_flipped() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("log-00000001"), b"00000000 1 1 1 a\n").unwrap();
        fs::write(dir.path().join("snapshot.new"), b"00000000 1 1 1 a\n").unwrap();
        assert_eq!(flip_in_log(dir.path(), 7).unwrap(), None);
        assert_eq!(flip_in_snapshot(dir.path(), 7).unwrap(), None);
        assert!(!has_snapshot(dir.path()));
    }

    #[test]
    fn the_newest_snapshot_is_flipped_and_an_emptied_directory_is_there() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["snapshot-01", "snapshot-02"] {
            fs::write(dir.path().join(name), LOG).unwrap();
        }
        flip_in_snapshot(dir.path(), 99)
            .unwrap()
            .expect("a snapshot");
        assert_eq!(changed("snapshot-01", dir.path(), LOG).len(), 0);
        assert_eq!(changed("snapshot-02", dir.path(), LOG).len(), 1);
        empty(dir.path()).unwrap();
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}
