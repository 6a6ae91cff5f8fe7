//! The end of old segments, and that what they said is carried on (P21).

use super::super::damage::{Damage, SnapshotDamage};
use super::super::log::Removal;
use super::super::print::print_log;
use super::super::snapshot;
use super::snapshots::store;
use super::*;
use crate::paxos::acceptor::Acceptor;
use crate::paxos::types::Life;
use std::collections::BTreeSet;

fn segments(dir: &MemDir) -> Vec<String> {
    let names = dir.list().unwrap();
    names
        .into_iter()
        .filter(|n| n.starts_with("log-"))
        .collect()
}

fn node(number: u8) -> NodeId {
    NodeId::new(number).unwrap()
}

/// Hard state of every kind.
fn hard() -> Vec<Record> {
    vec![
        Record::Start(3),
        Record::Ballot(Ballot::new(4, node(1))),
        Record::Promise(Ballot::new(4, node(2))),
        Record::Peer(node(2), Life { start: 7, mark: 1 }),
        Record::Peer(node(3), Life { start: 2, mark: 9 }),
        Record::Peer(node(2), Life { start: 6, mark: 2 }),
        Record::Lost,
        Record::Sound(Slot(2)),
    ]
}

fn accept_high(n: u64) -> Record {
    let value = Value::new(format!("v{n}").into_bytes()).unwrap();
    Record::Accept(Ballot::new(5, node(1)), Slot(n), value)
}

/// A log with hard state in its first segment only, and slots 1 to 20.
fn worn(dir: &MemDir) -> Log<MemDir> {
    let mut log = new_log(dir, TINY);
    commit(&mut log, &hard());
    for n in 1..=20 {
        commit(&mut log, &[accept_high(n)]);
    }
    log
}

/// What a server makes of its records: hard state, and what was accepted above the trimmed slots.
fn meaning(records: &[Record]) -> (String, Acceptor, BTreeSet<Slot>) {
    let mut carry = super::super::carry::Carry::default();
    for record in records {
        carry.fold(record);
    }
    let acceptor = Acceptor::recover(records);
    let slots = acceptor.accepted().map(|accepted| accepted.slot).collect();
    (carry.to_string(), acceptor, slots)
}

/// As a server does, but that there the removal has a thread of its own.
fn trim(log: &mut Log<MemDir>, upto: u64) -> Result<(), LogError> {
    log.trim(Slot(upto)).and_then(Removal::run)
}

/// The log goes on while a helper thread removes what it left.
#[test]
fn a_removal_may_come_later_or_never() {
    let dir = MemDir::new();
    let mut log = worn(&dir);
    for slots in [5, 12] {
        snapshot::write(&dir, &store(slots)).unwrap();
    }
    let removal = log.trim(Slot(12)).unwrap();
    let without = segments(&dir).len();
    commit(&mut log, &accepts(21..=30));
    let with = log.bytes();
    let never = dir.fork();
    removal.run().unwrap();
    assert_eq!(log.bytes(), with);
    for dir in [&dir, &never] {
        let recovery = recovered(dir);
        assert_eq!(recovery.damage, []);
        assert_eq!(recovery.snapshot, Some(store(12)));
        assert_eq!(meaning(&recovery.records).2, (13..=30).map(Slot).collect());
    }
    assert!(!segments(&dir).contains(&"log-00000001".into()));
    assert!(!dir.list().unwrap().contains(&snapshot::name_of(Slot(5))));
    assert!(segments(&never).len() >= without);
    // A later start's first trim finds what was left.
    check_trimmed(&never, &log.read_all().unwrap(), 12);
}

#[test]
fn a_trim_removes_old_segments_and_snapshots_and_keeps_the_hard_state() {
    let dir = MemDir::new();
    let mut log = worn(&dir);
    for slots in [5, 9, 12] {
        snapshot::write(&dir, &store(slots)).unwrap();
    }
    let before = log.bytes();
    let all = [log.read_all().unwrap(), vec![Record::Trim(Slot(12))]].concat();
    log.append(&[accept_high(21)]).unwrap();
    trim(&mut log, 12).unwrap();
    assert!(log.bytes() < before);
    let sizes = segments(&dir);
    let sizes: usize = sizes.iter().map(|name| dir.read(name).unwrap().len()).sum();
    assert_eq!(log.bytes(), sizes);
    assert!(!segments(&dir).contains(&"log-00000001".into()));
    let left: Vec<String> = dir.list().unwrap();
    assert_eq!(left.last().unwrap(), "snapshot-0000000000000000012");
    assert_eq!(left.len(), segments(&dir).len() + 1);
    let recovery = recovered(&dir);
    assert_eq!(recovery.damage, []);
    assert_eq!(recovery.snapshot, Some(store(12)));
    assert_eq!(recovery.snapshot_damage, []);
    let expected = [all, vec![accept_high(21)]].concat();
    assert_eq!(meaning(&recovery.records), meaning(&expected));
    assert_eq!(
        meaning(&expected).0,
        "start 3, ballot b4.1, promise b5.1, trim s12, peer n2 6.0000000000000002, peer n3 \
         2.0000000000000009, sound s2"
    );
    assert_eq!(meaning(&expected).2, (13..=21).map(Slot).collect());
}

/// P21, P44: after a crash at any step of it, by kill or power loss, the next start has all that counts;
/// the line that says where the log begins is never ahead of what is there.
#[test]
fn a_crash_at_any_step_of_a_trim_leaves_a_good_log_and_its_snapshot() {
    for upto in [6, 12, 20] {
        let (mut removed, mut steps) = (BTreeSet::new(), 0);
        for failing in 1.. {
            let dir = MemDir::with_sector(16);
            let mut log = worn(&dir);
            snapshot::write(&dir, &store(3)).unwrap();
            snapshot::write(&dir, &store(upto)).unwrap();
            let all = log.read_all().unwrap();
            dir.fail_step(failing);
            let done = trim(&mut log, upto).is_ok();
            let mut states = vec![dir.fork()];
            for names in 0..=dir.unsynced_names() {
                for kept in 0..=dir.unsynced_writes() {
                    states.push(dir.after_crash(names, |n| n < kept));
                }
            }
            for crashed in states {
                removed.insert(segments(&crashed).len());
                check_trimmed(&crashed, &all, upto);
            }
            if done {
                break;
            }
            steps = failing;
        }
        assert!(steps > 5 && removed.len() > 2, "{steps} steps, {removed:?}");
    }
}

fn check_trimmed(crashed: &MemDir, all: &[Record], upto: u64) {
    let recovery = recovered(crashed);
    assert_eq!(
        (&recovery.damage, &recovery.snapshot_damage),
        (&vec![], &vec![])
    );
    assert_eq!(recovery.snapshot.unwrap(), store(upto));
    let trimmed = recovery.records.contains(&Record::Trim(Slot(upto)));
    let mut expected = all.to_vec();
    if trimmed {
        expected.push(Record::Trim(Slot(upto)));
    }
    assert_eq!(meaning(&recovery.records), meaning(&expected));
    // And the next trim finishes it.
    let (mut log, _) = open(crashed, TINY);
    trim(&mut log, upto).unwrap();
    commit(&mut log, &[accept_high(30)]);
    let (log, recovery) = open(crashed, TINY);
    assert_eq!(recovery.damage, []);
    assert_eq!(recovery.records, log.read_all().unwrap());
    let snapshots = crashed.list().unwrap().into_iter();
    let snapshots = snapshots.filter(|name| name.starts_with("snapshot"));
    assert_eq!(snapshots.count(), 1);
    // One slot each, at most, and those of the trims.
    let left = segments(crashed).len() as u64;
    assert!(left <= 20 - upto + 4, "{left} segments");
}

/// However long it lives, a log that is trimmed stays small.
#[test]
fn a_log_that_is_trimmed_is_bounded_for_ever() {
    let dir = MemDir::new();
    let mut log = new_log(&dir, TINY);
    let mut most = 0;
    for n in 1..=2_000 {
        commit(&mut log, &[accept(n), decided(n)]);
        if log.bytes() > 1_500 {
            dir.put_file(&snapshot::name_of(Slot(n)), b"stands for one");
            trim(&mut log, n).unwrap();
            assert!(log.bytes() <= 900, "{} bytes", log.bytes());
        }
        most = most.max(log.bytes());
        if let Some(job) = log.spare_job() {
            job.make().unwrap();
        }
    }
    assert!(most < 2_500, "{most}");
    let (log, recovery) = open(&dir, TINY);
    assert_eq!(recovery.damage, []);
    assert_eq!(recovery.records, log.read_all().unwrap());
    assert!(segments(&dir).len() < 8);
}

/// What was written counts on over segments, trims and starts.
#[test]
fn the_bytes_that_a_log_has_written_are_told() {
    let dir = MemDir::new();
    let mut log = new_log(&dir, TINY);
    let lines = |dir: &MemDir| {
        places(dir)
            .iter()
            .map(|place| place.bytes as u64)
            .sum::<u64>()
    };
    assert_eq!(log.written_bytes(), lines(&dir));
    for n in 1..=12 {
        commit(&mut log, &[accept(n)]);
    }
    assert!(segments(&dir).len() > 2);
    let before = lines(&dir);
    assert_eq!(log.written_bytes(), before);
    snapshot::write(&dir, &store(8)).unwrap();
    trim(&mut log, 8).unwrap();
    let after = log.written_bytes();
    assert!(after > before && after < before + 300, "{before}, {after}");
    // A start counts what is there.
    let (log, recovery) = open(&dir, TINY);
    assert!((1..after).contains(&log.written_bytes()));
    let bytes = dir.read(&snapshot::name_of(Slot(8))).unwrap().len();
    assert_eq!(recovery.snapshot_bytes, bytes);
}

/// A segment goes as a whole, and so a small log has small ones.
#[test]
fn a_segment_is_an_eighth_of_its_log_at_most() {
    let bytes = |options: Options| (options.first_segment_bytes, options.segment_bytes_max);
    let kib = 1024;
    assert_eq!(bytes(Options::for_log_of(800)), (100, 100));
    assert_eq!(
        bytes(Options::for_log_of(16 * kib * kib)),
        (kib * kib, 2 * kib * kib)
    );
    assert_eq!(Options::for_log_of(kib * kib * kib), Options::default());
}

/// One segment that is nearly full and holds everything goes too.
#[test]
fn the_only_segment_is_left_for_a_new_one_when_it_is_large() {
    let options = Options {
        first_segment_bytes: 4_000,
        segment_bytes_max: 4_000,
    };
    for (records, left, firsts) in [(20, "log-00000001", 0), (90, "log-00000002", 1)] {
        let dir = MemDir::new();
        let mut log = new_log(&dir, options);
        commit(&mut log, &accepts(1..=records));
        snapshot::write(&dir, &store(records)).unwrap();
        trim(&mut log, records).unwrap();
        assert_eq!(segments(&dir), [left]);
        let (_, recovery) = open(&dir, options);
        assert_eq!(recovery.damage, []);
        assert_eq!(recovery.records.last(), Some(&Record::Trim(Slot(records))));
        // The log says from where on it must be whole, where that has changed.
        let mut printed = Vec::new();
        print_log(&dir, None, &mut printed).unwrap();
        let printed = String::from_utf8(printed).unwrap();
        assert_eq!(printed.matches(" first ").count(), firsts, "{printed}");
    }
}

/// A large segment that says anything about later slots, or stands behind one that does, is gone on with.
#[test]
fn a_segment_is_left_for_a_new_one_only_if_nothing_before_it_is_needed() {
    let options = Options {
        first_segment_bytes: 1_000,
        segment_bytes_max: 1_000,
    };
    for (slots, upto, left) in [
        // All is held by the snapshot.
        ([1, 2], 2, &["log-00000003"][..]),
        // The older segment is not, the current one is.
        ([9, 2], 2, &["log-00000001", "log-00000002"]),
        // The other way round.
        ([1, 9], 2, &["log-00000002"]),
    ] {
        let dir = MemDir::new();
        let mut log = new_log(&dir, options);
        for slot in slots {
            let value = Value::new(vec![b'x'; 600]).unwrap();
            commit(&mut log, &[Record::Learn(Slot(slot), value)]);
        }
        assert_eq!(segments(&dir), ["log-00000001", "log-00000002"]);
        snapshot::write(&dir, &store(upto)).unwrap();
        trim(&mut log, upto).unwrap();
        assert_eq!(segments(&dir), left);
        assert_eq!(recovered(&dir).damage, []);
    }
}

/// P21: nothing is trimmed that no snapshot holds.
#[test]
#[should_panic(expected = "P21")]
fn a_trim_without_its_snapshot_is_a_broken_invariant() {
    let dir = MemDir::new();
    let mut log = worn(&dir);
    snapshot::write(&dir, &store(5)).unwrap();
    let _ = trim(&mut log, 6);
}

/// A snapshot that is gone is no loss of votes.
#[test]
fn a_snapshot_that_is_missing_is_told_and_nothing_is_lost() {
    let dir = MemDir::new();
    let mut log = worn(&dir);
    snapshot::write(&dir, &store(12)).unwrap();
    trim(&mut log, 12).unwrap();
    dir.remove("snapshot-0000000000000000012").unwrap();
    let recovery = recovered(&dir);
    assert_eq!(recovery.damage, []);
    assert_eq!(recovery.snapshot, None);
    let missing = SnapshotDamage::Missing {
        dir: String::new(),
        trim: Slot(12),
    };
    assert_eq!(recovery.snapshot_damage, [missing]);
    assert!(meaning(&recovery.records).0.ends_with(", sound s2"));
}

/// P41: which segment a trimmed log begins with is known, so that one too few is noticed.
#[test]
fn the_first_segment_of_a_trimmed_log_is_missed() {
    let dir = MemDir::new();
    let mut log = worn(&dir);
    snapshot::write(&dir, &store(12)).unwrap();
    trim(&mut log, 12).unwrap();
    let names = segments(&dir);
    assert!(names.len() > 2, "{names:?}");
    dir.remove(&names[0]).unwrap();
    let recovery = recovered(&dir);
    let missing = Damage::Segment {
        file: names[0].clone(),
        witness: names[1].clone(),
    };
    assert_eq!(recovery.damage, [missing]);
    // The same where its head is damaged, and what it carries on.
    let dir = MemDir::new();
    let mut log = worn(&dir);
    snapshot::write(&dir, &store(12)).unwrap();
    trim(&mut log, 12).unwrap();
    let bytes = dir.read(&names[0]).unwrap();
    let sound = recovered(&dir).records;
    let begins: Vec<Place> = places(&dir)
        .into_iter()
        .filter(|p| p.file == names[0] && p.begins)
        .collect();
    assert!(begins.len() > 5);
    for place in begins {
        for at in place.offset..place.offset + place.bytes {
            let mut bad = bytes.clone();
            bad[at] ^= 1;
            let dir = dir.fork();
            dir.put_file(&names[0], &bad);
            let recovery = recovered(&dir);
            let [Damage::Record { file, offset, .. }] = &recovery.damage[..] else {
                panic!("{:?}", recovery.damage);
            };
            assert_eq!((file, *offset), (&names[0], place.offset));
            // The next segment carries what this one did, unless it was the last word.
            assert_eq!(meaning(&recovery.records).2, meaning(&sound).2);
            assert_eq!(recovery.records.last(), Some(&Record::Lost));
        }
    }
}

/// P40: damage stays until its segment goes, and is then forgotten; a loss is not.
#[test]
fn a_trim_takes_damage_away_and_keeps_the_loss() {
    let dir = MemDir::new();
    drop(worn(&dir));
    let mut bytes = dir.read("log-00000002").unwrap();
    let end = bytes.iter().rposition(|&b| b == b'\n').unwrap();
    bytes[end - 1] ^= 1;
    dir.put_file("log-00000002", &bytes);
    let (mut log, recovery) = open(&dir, TINY);
    assert_eq!(recovery.damage.len(), 1);
    snapshot::write(&dir, &store(20)).unwrap();
    trim(&mut log, 20).unwrap();
    let recovery = recovered(&dir);
    assert_eq!(recovery.damage, []);
    assert!(meaning(&recovery.records).0.ends_with(", lost"));
    assert!(!segments(&dir).contains(&"log-00000002".into()));
}

/// P37, P38: like a commit, a trim that fails is the last thing that the log did.
#[test]
fn after_a_failed_trim_nothing_is_tried_again() {
    let dir = MemDir::new();
    let mut log = worn(&dir);
    snapshot::write(&dir, &store(12)).unwrap();
    dir.fail_step(3);
    assert!(matches!(log.trim(Slot(12)), Err(LogError::Io { .. })));
    assert!(matches!(log.trim(Slot(12)), Err(LogError::Failed { .. })));
}
