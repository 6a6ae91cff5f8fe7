//! The log for people.

use super::super::dir::{DirFile, FsDir};
use super::super::print::{Ending, print_log};
use super::*;
use parking_lot::Mutex;
use std::sync::Arc;

/// How a log ends of which nothing is to be told but its last record.
fn whole(last: u64) -> Ending {
    Ending {
        last,
        cut: None,
        damage: Vec::new(),
    }
}

fn printed<D: Dir>(dir: &D, width: Option<usize>) -> (String, Result<Ending, LogError>) {
    let mut out = Vec::new();
    let ending = print_log(dir, width, &mut out);
    (String::from_utf8(out).unwrap(), ending)
}

#[test]
fn each_line_is_printed_with_its_place() {
    let dir = MemDir::new();
    let mut log = new_log(&dir, TINY);
    commit(&mut log, &accepts(1..=3));
    commit(&mut log, &accepts(4..=4));
    let steps = dir.steps();
    let (text, ending) = printed(&dir, None);
    assert_eq!(
        text,
        "log-00000001 0 1 segment 2 1 0\n\
         log-00000001 30 2 accept b1.1 s1 v1\n\
         log-00000001 64 3 accept b1.1 s2 v2\n\
         log-00000001 98 4 accept b1.1 s3 v3\n\
         log-00000002 0 5 segment 2 2 1\n\
         log-00000002 30 6 promise b1.1\n\
         log-00000002 59 7 accept b1.1 s4 v4\n"
    );
    assert_eq!(ending.unwrap(), whole(7));
    assert_eq!(dir.steps(), steps, "it only reads");
}

#[test]
fn a_long_value_is_cut_to_the_width() {
    let dir = MemDir::new();
    let mut log = new_log(&dir, TINY);
    let value = Value::new("ÄÖÜ and more".as_bytes()).unwrap();
    commit(&mut log, &[Record::Learn(Slot(1), value)]);
    let body = |width| {
        let (text, _) = printed(&dir, Some(width));
        let line = text.lines().nth(1).unwrap();
        line.strip_prefix("log-00000001 30 2 ").unwrap().to_owned()
    };
    assert_eq!(body(21), "learn s1 ÄÖÜ and more");
    assert_eq!(body(20), "learn s1 ÄÖÜ and ...");
    assert_eq!(body(14), "learn s1 ÄÖ...");
    assert_eq!(body(0), "...");
    // Of the widest characters too, as many as fit.
    let value = Value::new("𝄞".repeat(20).as_bytes()).unwrap();
    commit(&mut log, &[Record::Learn(Slot(2), value)]);
    let last = |width| {
        let (text, _) = printed(&dir, Some(width));
        let line = text.lines().last().unwrap();
        line.split_once("learn s2 ").unwrap().1.to_owned()
    };
    assert_eq!(last(29), "𝄞".repeat(20));
    assert_eq!(last(28), "𝄞".repeat(16) + "...");
    assert_eq!(last(16), "𝄞".repeat(4) + "...");
}

#[test]
fn a_torn_end_and_damage_are_told_and_what_is_behind_damage_is_printed() {
    let (dir, _) = long_log();
    let last = places(&dir).pop().unwrap();
    let mut bytes = dir.read(&last.file).unwrap();
    bytes[last.offset + last.bytes - 2] ^= 1;
    dir.put_file(&last.file, &bytes);
    let (sound, ending) = printed(&dir, None);
    let Ending { cut, damage, .. } = ending.unwrap();
    assert_eq!(
        cut.unwrap().to_string(),
        format!(
            "{}: {} bytes at byte {} are an unfinished write",
            last.file, last.bytes, last.offset
        )
    );
    assert_eq!(damage, []);
    let mut bytes = dir.read("log-00000002").unwrap();
    bytes[70] ^= 1;
    dir.put_file("log-00000002", &bytes);
    let (text, ending) = printed(&dir, None);
    let gone = sound
        .lines()
        .find(|l| l.starts_with("log-00000002 59 "))
        .unwrap();
    assert_eq!(text, sound.replace(&format!("{gone}\n"), ""));
    let damage = ending.unwrap().damage;
    assert_eq!(damage.len(), 1);
    // An earlier start knows of it: it is told all the same.
    open(&dir, TINY);
    assert_eq!(printed(&dir, None).1.unwrap().damage, damage);
}

#[test]
fn a_directory_without_a_log_is_named() {
    let temp = tempfile::tempdir().unwrap();
    let error = printed(&FsDir::open(temp.path()).unwrap(), None).1;
    assert_eq!(
        error.unwrap_err().to_string(),
        format!(
            "{}: no log is here: expected a file such as log-00000001",
            temp.path().join("").display()
        )
    );
}

/// A server that writes at the same time makes no damage appear.
#[test]
fn a_running_server_can_be_watched() {
    let temp = tempfile::tempdir().unwrap();
    let dir = FsDir::open(temp.path()).unwrap();
    let options = Options {
        first_segment_bytes: 20_000,
        segment_bytes_max: 100_000,
    };
    Log::create(&dir, &options).unwrap();
    let (mut log, _) = Log::open(dir.clone(), options).unwrap();
    let writer = std::thread::spawn(move || {
        for n in 1..=1000 {
            log.append(&accepts(n..=n + 9)).unwrap();
            log.commit().unwrap();
        }
    });
    let mut before = 0;
    while !writer.is_finished() {
        let (text, ending) = printed(&dir, None);
        assert_eq!(ending.unwrap().damage, []);
        let lines = text.lines().count();
        assert!(lines >= before);
        before = lines;
    }
    writer.join().unwrap();
    let (text, ending) = printed(&dir, None);
    let last = text.lines().count() as u64;
    assert_eq!(ending.unwrap(), whole(last));
    assert!(last > 10_000);
}

/// The same on purpose: readings that have later bytes but not yet earlier ones.
#[test]
fn a_reading_that_mixes_old_and_new_bytes_is_read_again() {
    let (sound, _) = long_log();
    let last = places(&sound).pop().unwrap();
    let lines = places(&sound).into_iter();
    let lines: Vec<Place> = lines.filter(|p| p.file == last.file && !p.begins).collect();
    assert!(lines.len() > 2);
    let without = |line: &Place| {
        let mut mixed = sound.read(&last.file).unwrap();
        mixed[line.offset..line.offset + line.bytes].fill(0);
        Some(mixed)
    };
    let mixed: Vec<_> = lines[..lines.len() - 1].iter().map(without).collect();
    for count in 1..=mixed.len() {
        let dir = Mixing::new(&sound, &last.file, &mixed[..count]);
        let (text, ending) = printed(&dir, None);
        assert_eq!(ending.unwrap(), whole(last.seq));
        assert_eq!(text, printed(&sound, None).0);
    }
}

/// P21: a running server may trim its log while it is read.
#[test]
fn a_segment_that_goes_while_the_log_is_read_is_no_damage() {
    let (sound, _) = long_log();
    let text = printed(&sound, None).0;
    for gone in sound.list().unwrap() {
        let dir = Mixing::new(&sound, &gone, &[None]);
        let (left, ending) = printed(&dir, None);
        let Ending { cut, damage, .. } = ending.unwrap();
        assert_eq!((cut, damage), (None, vec![]), "{gone}");
        let expected = text.lines().filter(|line| !line.starts_with(&gone));
        assert!(left.lines().eq(expected), "{left}");
    }
}

#[test]
fn a_segment_that_cannot_be_read_is_an_error() {
    let temp = tempfile::tempdir().unwrap();
    let path = temp.path().join("log-00000001");
    std::fs::create_dir(&path).unwrap();
    let error = printed(&FsDir::open(temp.path()).unwrap(), None).1;
    let error = error.unwrap_err().to_string();
    let expected = format!("cannot read {}: ", path.display());
    assert!(error.starts_with(&expected), "{error}");
}

/// A start reads tens of megabytes: twice only the segment that does not end as it should.
#[test]
fn a_log_is_read_once_and_a_torn_end_again() {
    let (dir, _) = long_log();
    let last = places(&dir).pop().unwrap();
    let sound = Mixing::new(&dir, &last.file, &[]);
    printed(&sound, None).1.unwrap();
    assert_eq!(*sound.reads.lock(), 1);
    let mut bytes = dir.read(&last.file).unwrap();
    bytes[last.offset] ^= 1;
    dir.put_file(&last.file, &bytes);
    let torn = Mixing::new(&dir, &last.file, &[]);
    assert!(printed(&torn, None).1.unwrap().cut.is_some());
    assert_eq!(*torn.reads.lock(), 2);
}

/// Shows other bytes of a file at its first readings, or none: then it is not there.
#[derive(Debug, Clone)]
struct Mixing {
    dir: MemDir,
    file: String,
    mixed: Vec<Option<Vec<u8>>>,
    /// How often it was read.
    reads: Arc<Mutex<usize>>,
}

impl Mixing {
    fn new(dir: &MemDir, file: &str, mixed: &[Option<Vec<u8>>]) -> Self {
        Self {
            dir: dir.clone(),
            file: file.into(),
            mixed: mixed.to_vec(),
            reads: Arc::default(),
        }
    }
}

impl Dir for Mixing {
    type File = NoFile;

    fn list(&self) -> std::io::Result<Vec<String>> {
        self.dir.list()
    }

    fn read(&self, name: &str) -> std::io::Result<Vec<u8>> {
        if name != self.file {
            return self.dir.read(name);
        }
        let mut reads = self.reads.lock();
        *reads += 1;
        match self.mixed.get(*reads - 1) {
            Some(Some(mixed)) => Ok(mixed.clone()),
            Some(None) => Err(std::io::ErrorKind::NotFound.into()),
            None => self.dir.read(name),
        }
    }

    fn create_zeroed(&self, _: &str, _: usize) -> std::io::Result<NoFile> {
        unreachable!("printing only reads")
    }

    fn open(&self, _: &str) -> std::io::Result<NoFile> {
        unreachable!("printing only reads")
    }

    fn rename(&self, _: &str, _: &str) -> std::io::Result<()> {
        unreachable!("printing only reads")
    }

    fn bytes_of(&self, _: &str) -> std::io::Result<usize> {
        unreachable!("printing only reads")
    }

    fn truncate(&self, _: &str, _: usize) -> std::io::Result<()> {
        unreachable!("printing only reads")
    }

    fn remove(&self, _: &str) -> std::io::Result<()> {
        unreachable!("printing only reads")
    }

    fn removal_step_bytes(&self) -> usize {
        unreachable!("printing only reads")
    }

    fn sync_names(&self) -> std::io::Result<()> {
        unreachable!("printing only reads")
    }

    fn path_of(&self, name: &str) -> String {
        self.dir.path_of(name)
    }
}

#[derive(Debug)]
struct NoFile;

impl DirFile for NoFile {
    fn write_at(&self, _: usize, _: &[u8]) -> std::io::Result<()> {
        unreachable!("printing only reads")
    }

    fn sync(&self) -> std::io::Result<()> {
        unreachable!("printing only reads")
    }
}
