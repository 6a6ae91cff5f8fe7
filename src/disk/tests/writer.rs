//! What the log writes: groups, rotation, spares, failures.

use super::super::damage::Damage;
use super::super::dir::FsDir;
use super::super::log::VALUE_BYTES_MAX;
use super::*;
use std::io;
use std::sync::atomic::Ordering;

fn text_of(dir: &MemDir, file: &str) -> String {
    let bytes = dir.read(file).unwrap();
    let end = bytes.iter().rposition(|&b| b == b'\n').unwrap() + 1;
    assert!(bytes[end..].iter().all(|&b| b == 0));
    String::from_utf8(bytes[..end].to_vec()).unwrap()
}

#[test]
fn a_log_is_text_and_a_group_is_the_first_line_that_was_not_synced() {
    let dir = MemDir::new();
    let mut log = new_log(&dir, Options::default());
    commit(&mut log, &[accept(1), accept(2)]);
    log.append(&[decided(1)]).unwrap();
    log.write().unwrap();
    log.append(&[decided(2)]).unwrap();
    log.write().unwrap();
    commit(&mut log, &[accept(3)]);
    commit(&mut log, &[accept(4)]);
    // Without the checksums.
    let text = text_of(&dir, "log-00000001");
    let lines: Vec<&str> = text.lines().map(|line| &line[9..]).collect();
    assert_eq!(
        lines.join("\n"),
        "1 1 13 segment 2 1 0\n\
         2 2 17 accept b1.1 s1 v1\n\
         3 2 17 accept b1.1 s2 v2\n\
         4 4 15 decided b1.1 s1\n\
         5 4 15 decided b1.1 s2\n\
         6 4 17 accept b1.1 s3 v3\n\
         7 7 17 accept b1.1 s4 v4"
    );
}

#[test]
fn a_commit_is_one_write_and_one_sync() {
    let dir = MemDir::new();
    let mut log = new_log(&dir, Options::default());
    let steps = |log: &mut Log<MemDir>, records: &[Record]| {
        let before = dir.steps();
        commit(log, records);
        dir.steps() - before
    };
    assert_eq!(steps(&mut log, &accepts(1..=100)), 2);
    assert_eq!(steps(&mut log, &[]), 0);
    assert_eq!(dir.unsynced_writes(), 0);
    log.append(&[decided(1)]).unwrap();
    log.write().unwrap();
    assert!(dir.unsynced_writes() > 0);
    // Nothing to write, but something to sync.
    assert_eq!(steps(&mut log, &[]), 1);
    assert_eq!(dir.unsynced_writes(), 0);
}

/// Each group, and the first lines of each new segment; what was written and not synced is not counted.
#[test]
fn every_sync_of_a_segment_is_counted() {
    let mut log = new_log(&MemDir::new(), TINY);
    let syncs = log.syncs();
    let count = |log: &mut Log<MemDir>, records: &[Record]| {
        let before = syncs.load(Ordering::Relaxed);
        commit(log, records);
        syncs.load(Ordering::Relaxed) - before
    };
    assert_eq!(count(&mut log, &accepts(1..=3)), 1);
    assert_eq!(count(&mut log, &[]), 0);
    assert_eq!(count(&mut log, &accepts(4..=6)), 2, "one in a new segment");
    log.append(&[decided(1)]).unwrap();
    log.write().unwrap();
    assert_eq!(count(&mut log, &[]), 1);
}

/// P2: what binds never leaves without a sync.
#[test]
#[should_panic(expected = "I2")]
fn a_record_that_binds_is_never_written_without_a_sync() {
    let mut log = new_log(&MemDir::new(), TINY);
    log.append(&[decided(1), accept(1)]).unwrap();
    let _ = log.write();
}

#[test]
fn whatever_the_size_of_a_segment_all_comes_back() {
    for first_segment_bytes in 0..200 {
        let options = Options {
            first_segment_bytes,
            segment_bytes_max: 2 * first_segment_bytes,
        };
        let dir = MemDir::new();
        let mut log = new_log(&dir, options);
        let all = accepts(1..=24);
        for group in all.chunks(3) {
            commit(&mut log, &group[..2]);
            commit(&mut log, &group[2..]);
        }
        assert_eq!(log.read_all().unwrap(), all, "{first_segment_bytes}");
        let (_, recovery) = open(&dir, options);
        assert_eq!(recovery.records, all, "{first_segment_bytes}");
        assert_eq!(recovery.cut, None);
        // No group spans two segments: its first line stands in the same file.
        let places = places(&dir);
        for line in &places {
            let first = places.iter().find(|p| p.seq == line.group).unwrap();
            assert_eq!(first.file, line.file);
            assert!(!line.begins || first.offset == 0);
        }
    }
}

#[test]
fn segments_double_up_to_the_largest() {
    let dir = MemDir::new();
    let mut log = new_log(&dir, TINY);
    for n in 1..=30 {
        commit(&mut log, &[accept(n)]);
    }
    let sizes: Vec<usize> = dir
        .list()
        .unwrap()
        .iter()
        .map(|name| dir.read(name).unwrap().len())
        .collect();
    assert_eq!(sizes, [150, 300, 300, 300, 300, 300]);
}

#[test]
fn a_group_larger_than_a_segment_gets_one_of_its_size() {
    let dir = MemDir::new();
    let mut log = new_log(&dir, TINY);
    commit(&mut log, &accepts(1..=100));
    commit(&mut log, &accepts(101..=101));
    assert_eq!(dir.list().unwrap().len(), 3);
    assert_eq!(open(&dir, TINY).1.records, accepts(1..=101));
}

#[test]
fn a_group_that_ends_where_its_segment_ends_stays_in_it() {
    // A head and four lines.
    let options = Options {
        first_segment_bytes: 30 + 4 * 34,
        segment_bytes_max: 1_000,
    };
    let dir = MemDir::new();
    let mut log = new_log(&dir, options);
    commit(&mut log, &accepts(1..=2));
    commit(&mut log, &accepts(3..=4));
    assert_eq!(dir.list().unwrap(), ["log-00000001"]);
    assert_eq!(dir.read("log-00000001").unwrap().last(), Some(&b'\n'));
    assert_eq!(recovered(&dir).records, accepts(1..=4));
    commit(&mut log, &accepts(5..=5));
    assert_eq!(dir.list().unwrap(), ["log-00000001", "log-00000002"]);
    assert_eq!(recovered(&dir).records, accepts(1..=5));
}

#[test]
fn unsynced_lines_are_synced_before_the_next_segment_begins() {
    let dir = MemDir::new();
    let mut log = new_log(&dir, TINY);
    for n in 1..=20 {
        log.append(&[decided(n)]).unwrap();
        log.write().unwrap();
    }
    let last = dir.list().unwrap().pop().unwrap();
    let crashed = dir.after_crash(0, |_| false);
    let durable = open(&crashed, TINY).1.records.len();
    let places = places(&dir);
    let before = places.iter().filter(|p| p.file != last && !p.begins);
    assert_eq!(durable, before.count());
    assert!(durable > 0);
}

#[test]
fn a_record_that_is_too_long_is_refused_and_nothing_is_kept() {
    let dir = MemDir::new();
    let mut log = new_log(&dir, TINY);
    let too_long = Value::new(vec![b'x'; VALUE_BYTES_MAX + 1]).unwrap();
    let just_right = Value::new(vec![b'x'; VALUE_BYTES_MAX]).unwrap();
    let records = [accept(1), Record::Learn(Slot(2), too_long)];
    let error = log.append(&records).unwrap_err();
    assert_eq!(
        error.to_string(),
        "a value of 67108801 bytes is longer than 67108800, the most that a record takes"
    );
    commit(&mut log, &[accept(3)]);
    assert_eq!(open(&dir, TINY).1.records, [accept(3)]);
    log.append(&[Record::Learn(Slot(4), just_right)]).unwrap();
}

/// P41: no log is replaced by an empty one.
#[test]
fn a_log_is_made_only_where_there_is_none() {
    let dir = MemDir::new();
    new_log(&dir, TINY);
    let again = Log::create(&dir, &TINY).unwrap_err();
    assert_eq!(again.to_string(), "log-00000001: a log is here already");
}

/// P37, P38: after any failed step nothing more reaches the disk, and nothing is said to be durable.
#[test]
fn after_a_failed_write_or_sync_nothing_is_tried_again() {
    for failing in 1.. {
        let dir = MemDir::new();
        let mut log = new_log(&dir, TINY);
        let steps = dir.steps();
        dir.fail_step(failing);
        let failed = (1..=20).find(|&n| {
            log.append(&[accept(n)]).unwrap();
            log.commit().is_err()
        });
        if failed.is_none() {
            assert!(dir.steps() - steps < failing, "no failure was injected");
            assert!(failing > 40, "commits and rotations were tried");
            break;
        }
        let steps = dir.steps();
        for error in [
            log.append(&[decided(9)]).unwrap_err(),
            log.commit().unwrap_err(),
            log.read_all().unwrap_err(),
        ] {
            let LogError::Failed { file } = error else {
                panic!("{error}");
            };
            assert!(file.starts_with("log-0000000"), "{file}");
        }
        assert_eq!(dir.steps(), steps);
    }
}

/// P38.
#[test]
fn a_full_disk_fails_the_commit_and_keeps_what_was_committed() {
    let dir = MemDir::new();
    let mut log = new_log(&dir, TINY);
    dir.limit(Some(500));
    let mut committed = 0;
    let error = loop {
        log.append(&[accept(committed + 1)]).unwrap();
        match log.commit() {
            Ok(()) => committed += 1,
            Err(error) => break error,
        }
    };
    let LogError::Io { action, error, .. } = error else {
        panic!("{error}");
    };
    assert_eq!(
        (action, error.kind()),
        ("create", io::ErrorKind::StorageFull)
    );
    assert!(committed > 5);
    // Still full at the restart: it opens, and takes nothing more.
    let restarted = dir.after_crash(dir.unsynced_names(), |_| true);
    let (mut log, recovery) = open(&restarted, TINY);
    assert_eq!(recovery.records, accepts(1..=committed));
    log.append(&[accept(committed + 1)]).unwrap();
    assert!(log.commit().is_err());
    restarted.limit(None);
    let (mut log, _) = open(&restarted, TINY);
    commit(&mut log, &[accept(committed + 1)]);
    assert_eq!(log.read_all().unwrap(), accepts(1..=committed + 1));
}

#[test]
fn a_spare_is_asked_for_once_and_becomes_the_next_segment() {
    let dir = MemDir::new();
    let mut log = new_log(&dir, TINY);
    assert!(log.spare_job().is_none(), "the segment is nearly empty");
    commit(&mut log, &accepts(1..=2));
    let job = log.spare_job().unwrap();
    assert!(log.spare_job().is_none());
    job.make().unwrap();
    assert!(log.spare_job().is_none());
    assert_eq!(dir.list().unwrap(), ["log-00000001", "spare"]);
    assert_eq!(log.bytes(), 150 + 300, "the spare takes room too");
    commit(&mut log, &accepts(3..=5));
    assert_eq!(dir.list().unwrap(), ["log-00000001", "log-00000002"]);
    assert_eq!(dir.read("log-00000002").unwrap().len(), 300);
    assert_eq!(open(&dir, TINY).1.records, accepts(1..=5));
}

/// On a full disk each try would fill what is left, once a commit.
#[test]
fn a_spare_that_cannot_be_made_is_asked_for_again_only_in_the_next_segment() {
    let dir = MemDir::new();
    let mut log = new_log(&dir, TINY);
    commit(&mut log, &accepts(1..=2));
    dir.fail_step(1);
    log.spare_job().unwrap().make().unwrap_err();
    assert!(log.spare_job().is_none(), "it failed in this segment");
    let mut next = 3;
    while !dir.list().unwrap().contains(&"log-00000002".to_owned()) {
        assert!(log.spare_job().is_none(), "it failed in this segment");
        commit(&mut log, &accepts(next..=next));
        next += 1;
    }
    while log.spare_job().is_none() {
        assert!(!dir.list().unwrap().contains(&"log-00000003".to_owned()));
        commit(&mut log, &accepts(next..=next));
        next += 1;
    }
    assert_eq!(log.read_all().unwrap(), accepts(1..=next - 1));
}

#[test]
fn without_a_spare_the_log_makes_the_segment_itself() {
    let dir = MemDir::new();
    let mut log = new_log(&dir, TINY);
    commit(&mut log, &accepts(1..=2));
    // A helper that is dropped, one that is late.
    drop(log.spare_job().unwrap());
    let late = log.spare_job().unwrap();
    commit(&mut log, &accepts(3..=5));
    late.make().unwrap();
    assert_eq!(
        dir.list().unwrap(),
        ["log-00000001", "log-00000002", "spare"]
    );
    // Too small for this group: it stays for the next one.
    commit(&mut log, &accepts(6..=30));
    assert!(dir.list().unwrap().contains(&"spare".to_owned()));
    commit(&mut log, &accepts(31..=31));
    assert_eq!(dir.list().unwrap().len(), 4);
    assert_eq!(log.read_all().unwrap(), accepts(1..=31));
    // Stale ones go at the next start (P42).
    dir.put_file("making", b"half a segment");
    dir.put_file("spare", b"2 2 2 2\n");
    assert_eq!(open(&dir, TINY).1.records, accepts(1..=31));
    assert_eq!(dir.list().unwrap().len(), 4);
}

#[test]
fn reading_back_gives_what_is_durable_and_disturbs_nothing() {
    let dir = MemDir::new();
    let mut log = new_log(&dir, TINY);
    for n in 1..=20 {
        log.append(&[decided(n)]).unwrap();
        log.write().unwrap();
        log.append(&[accept(n)]).unwrap();
        let durable = log.read_all().unwrap();
        let lost = dir.after_crash(dir.unsynced_names(), |_| false);
        assert_eq!(durable, open(&lost, TINY).1.records);
        log.commit().unwrap();
        assert_eq!(log.read_all().unwrap(), open(&dir.fork(), TINY).1.records);
    }
}

/// P40: also where only the newest records are gone.
#[test]
fn reading_back_notices_records_that_went_missing() {
    let (dir, _) = long_log();
    let (log, _) = open(&dir, TINY);
    let last = places(&dir).pop().unwrap();
    let mut bytes = dir.read(&last.file).unwrap();
    bytes[last.offset..].fill(0);
    dir.put_file(&last.file, &bytes);
    let LogError::Damaged(Damage::Record { file, offset, .. }) = log.read_all().unwrap_err() else {
        panic!("not named as damaged");
    };
    assert_eq!((file, offset), (last.file, last.offset));
}

/// P40: a byte that flips while the server runs is named when its acceptor recovers.
#[test]
fn reading_back_notices_damage_that_was_not_there_at_the_start() {
    let (dir, _) = long_log();
    let (log, _) = open(&dir, TINY);
    let mut bytes = dir.read("log-00000002").unwrap();
    bytes[70] ^= 1;
    dir.put_file("log-00000002", &bytes);
    let error = log.read_all().unwrap_err().to_string();
    assert!(
        error.starts_with("log-00000002: damaged record at byte 59"),
        "{error}"
    );
    assert!(error.ends_with("; restart this server"), "{error}");
    drop(log);
    let (log, recovery) = open(&dir, TINY);
    assert_eq!(recovery.damage.len(), 1);
    assert_eq!(log.read_all().unwrap(), recovery.records);
}

#[test]
fn the_real_file_system_keeps_a_log_over_many_starts() {
    let temp = tempfile::tempdir().unwrap();
    let dir = FsDir::create(temp.path().join("2")).unwrap();
    Log::create(&dir, &TINY).unwrap();
    let mut all = Vec::new();
    for start in 1..=20 {
        let (mut log, recovery) = Log::open(dir.clone(), TINY).unwrap();
        assert_eq!(recovery.records, all);
        assert_eq!(recovery.cut, None);
        let records = [Record::Start(start), decided(start), accept(start)];
        log.append(&records).unwrap();
        log.commit().unwrap();
        if let Some(job) = log.spare_job() {
            std::thread::spawn(|| job.make()).join().unwrap().unwrap();
        }
        all.extend(records);
        assert_eq!(log.read_all().unwrap(), all);
    }
    assert!(dir.list().unwrap().len() > 4);
}
