//! The log as a whole: what it writes, what it reads after a crash, what it names as damaged.

mod checking;
mod crash;
mod damage;
mod order;
mod printing;
mod random;
mod snapshots;
mod trim;
mod twice;
mod writer;

use super::dir::Dir;
use super::log::{Log, Options, Recovery};
use super::mem::MemDir;
use super::{LogError, line};
use crate::paxos::record::Record;
use crate::paxos::types::{Ballot, NodeId, Slot, Value};

/// Segments of a few lines each.
const TINY: Options = Options {
    first_segment_bytes: 150,
    segment_bytes_max: 300,
};

fn ballot() -> Ballot {
    Ballot::new(1, NodeId::new(1).unwrap())
}

/// A record that binds.
fn accept(n: u64) -> Record {
    let value = Value::new(format!("v{n}").into_bytes()).unwrap();
    Record::Accept(ballot(), Slot(n), value)
}

/// A record that does not.
fn decided(n: u64) -> Record {
    Record::Decided(ballot(), Slot(n))
}

fn accepts(numbers: std::ops::RangeInclusive<u64>) -> Vec<Record> {
    numbers.map(accept).collect()
}

fn new_log(dir: &MemDir, options: Options) -> Log<MemDir> {
    Log::create(dir, &options).unwrap();
    open(dir, options).0
}

fn open(dir: &MemDir, options: Options) -> (Log<MemDir>, Recovery) {
    Log::open(dir.clone(), options).unwrap()
}

fn commit(log: &mut Log<MemDir>, records: &[Record]) {
    log.append(records).unwrap();
    log.commit().unwrap();
}

/// A log of several segments, in groups of one to three records; the last group has three.
fn long_log() -> (MemDir, Vec<Record>) {
    let dir = MemDir::new();
    let mut log = new_log(&dir, TINY);
    let mut all = Vec::new();
    for group in 0..12 {
        let from = all.len() as u64 + 1;
        let records = accepts(from..=from + (group + 1) % 3);
        commit(&mut log, &records);
        all.extend(records);
    }
    (dir, all)
}

/// Where a line stands, and what is in it.
#[derive(Debug, Clone)]
struct Place {
    file: String,
    offset: usize,
    bytes: usize,
    seq: u64,
    group: u64,
    /// It was written with the head of its segment, or is it.
    begins: bool,
}

/// All lines of a sound log.
fn places(dir: &MemDir) -> Vec<Place> {
    let mut places = Vec::new();
    for file in dir.list().unwrap() {
        let bytes = dir.read(&file).unwrap();
        let mut at = 0;
        let head = line::read(&bytes).map(|line| line.seq);
        while let Some(line) = line::read(&bytes[at..]) {
            places.push(Place {
                file: file.clone(),
                offset: at,
                bytes: line.bytes,
                seq: line.seq,
                group: line.group,
                begins: Some(line.group) == head,
            });
            at += line.bytes;
        }
    }
    places
}

fn refusal(dir: &MemDir) -> LogError {
    Log::open(dir.clone(), TINY).unwrap_err()
}

/// What opening finds, with `lost` as the last record if anything is damaged; a second start finds the
/// same, and no new damage.
fn recovered(dir: &MemDir) -> Recovery {
    let dir = dir.fork();
    let (log, recovery) = open(&dir, TINY);
    assert_eq!(log.read_all().unwrap(), recovery.records);
    let last_is_lost = recovery.records.last() == Some(&Record::Lost);
    assert!(last_is_lost || recovery.damage.is_empty());
    let (_, again) = open(&dir.after_crash(0, |_| false), TINY);
    assert_eq!(again.records, recovery.records);
    assert_eq!((again.damage, again.cut), (vec![], None));
    recovery
}

/// `records` and the `lost` of a log that has found damage.
fn and_lost(records: &[Record]) -> Vec<Record> {
    [records, &[Record::Lost]].concat()
}
