//! What is there after a crash, wherever it struck and whatever the disk had written (P39).

use super::super::record::tests::any_record;
use super::*;
use proptest::prelude::*;

/// A segment for one test: a start writes all that is left of it.
const SMALL: Options = Options {
    first_segment_bytes: 1_000,
    segment_bytes_max: 1_000,
};

/// Some ways to lose unsynced writes: every subset of a few, and of many each prefix, each suffix and
/// all but each one.
fn losses(writes: usize) -> Vec<Vec<bool>> {
    if writes <= 8 {
        return (0..1usize << writes)
            .map(|bits| (0..writes).map(|n| bits >> n & 1 == 1).collect())
            .collect();
    }
    (0..=writes)
        .flat_map(|k| {
            let row = |keeps: &dyn Fn(usize) -> bool| (0..writes).map(keeps).collect();
            [row(&|n| n < k), row(&|n| n >= k), row(&|n| n != k)]
        })
        .collect()
}

/// Opens every state that a power loss can leave of `dir`: each has a beginning of `all`, with at
/// least the first `committed` records.
fn check_every_crash(dir: &MemDir, all: &[Record], committed: usize, check_open: bool) {
    for names in 0..=dir.unsynced_names() {
        for kept in losses(dir.unsynced_writes()) {
            let crashed = dir.after_crash(names, |n| kept[n]);
            let found = check_open_of(&crashed.fork(), all, committed);
            if check_open {
                check_crash_while_opening(&crashed, all, committed, found);
            }
        }
    }
}

fn check_open_of(dir: &MemDir, all: &[Record], committed: usize) -> usize {
    let (log, recovery) = open(dir, TINY);
    let found = recovery.records.len();
    assert!(found >= committed, "{found} of {committed} records");
    assert_eq!(
        (&recovery.records[..], recovery.damage),
        (&all[..found], vec![])
    );
    assert_eq!(log.read_all().unwrap(), all[..found]);
    // What was handed out stays, and a second start finds nothing to cut.
    let lost = dir.after_crash(0, |_| false);
    let (_, again) = open(&lost, TINY);
    assert_eq!((again.records.len(), again.cut), (found, None));
    found
}

/// A crash in the middle of opening loses nothing that opening would have found committed.
fn check_crash_while_opening(crashed: &MemDir, all: &[Record], committed: usize, found: usize) {
    for failing in 1.. {
        let dir = crashed.fork();
        dir.fail_step(failing);
        if Log::open(dir.clone(), TINY).is_ok() {
            break;
        }
        check_every_crash(&dir, &all[..found], committed, false);
    }
}

/// P39: a crash in each step of commits, of unsynced writes, of rotations with and without a spare.
#[test]
fn a_crash_at_any_step_keeps_all_that_was_committed() {
    for (sector, check_open) in [(1 << 20, true), (16, false)] {
        for failing in 1.. {
            let dir = MemDir::with_sector(sector);
            let mut log = new_log(&dir, TINY);
            dir.fail_step(failing);
            let (mut all, mut committed) = (Vec::new(), 0);
            let mut work = |log: &mut Log<MemDir>| {
                for n in 1..=7 {
                    let (free, bound) = ([decided(n)], [accept(n), accept(n + 100)]);
                    all.extend_from_slice(&free);
                    log.append(&free)?;
                    log.write()?;
                    all.extend_from_slice(&bound);
                    log.append(&bound)?;
                    log.commit()?;
                    committed = all.len();
                    if n > 2
                        && let Some(job) = log.spare_job()
                    {
                        let _ = job.make();
                    }
                }
                Ok::<(), LogError>(())
            };
            let done = work(&mut log).is_ok();
            check_every_crash(&dir, &all, committed, check_open);
            if done && dir.steps() < failing {
                break;
            }
        }
    }
}

/// P39, with the disk's smallest unit a byte: what is wholly written is there, the rest is cut.
#[test]
fn every_byte_prefix_of_a_group_opens_with_its_whole_records() {
    let dir = MemDir::with_sector(1);
    let mut log = new_log(&dir, SMALL);
    commit(&mut log, &accepts(1..=3));
    let begin = places(&dir).last().map(|p| p.offset + p.bytes).unwrap();
    // A write without a sync, of the longest kind: three records in one group.
    log.append(&[decided(4), decided(5), decided(6)]).unwrap();
    log.write().unwrap();
    let all = [accepts(1..=3), (4..=6).map(decided).collect()].concat();
    let ends: Vec<usize> = places(&dir).iter().map(|p| p.offset + p.bytes).collect();
    for kept in 0..=dir.unsynced_writes() {
        let crashed = dir.after_crash(0, |n| n < kept);
        let (_, recovery) = open(&crashed, TINY);
        let whole = ends[1..].iter().filter(|&&end| end <= begin + kept).count();
        assert_eq!(recovery.records, all[..whole]);
        let torn = !ends.contains(&(begin + kept));
        assert_eq!(recovery.cut.is_some(), torn, "{kept} bytes");
    }
}

/// P39: also a file that ends there, as a copy of a growing file would. Only inside the first lines of
/// a segment no crash can have stopped: the segment had no name yet.
#[test]
fn every_byte_prefix_of_a_log_opens_with_its_whole_records() {
    let (dir, all) = long_log();
    let places = places(&dir);
    let files = dir.list().unwrap();
    for (number, file) in files.iter().enumerate() {
        let bytes = dir.read(file).unwrap();
        for end in 0..=bytes.len() {
            let mut zeros = bytes[..end].to_vec();
            zeros.resize(bytes.len(), 0);
            for prefix in [&bytes[..end], &zeros] {
                let crashed = MemDir::new();
                for older in &files[..number] {
                    crashed.put_file(older, &dir.read(older).unwrap());
                }
                crashed.put_file(file, prefix);
                let whole = places.iter().filter(|p| {
                    !p.begins && (p.file < *file || p.file == *file && p.offset + p.bytes <= end)
                });
                let whole = whole.count();
                let mut begins = places.iter().filter(|p| p.file == *file && p.begins);
                if begins.any(|p| end < p.offset + p.bytes) {
                    let recovery = recovered(&crashed);
                    assert_eq!(recovery.records, and_lost(&all[..whole]));
                    continue;
                }
                let (mut log, recovery) = open(&crashed, TINY);
                assert_eq!(
                    (&recovery.records[..], recovery.damage),
                    (&all[..whole], vec![])
                );
                commit(&mut log, &[accept(1000)]);
                let (_, again) = open(&crashed, TINY);
                assert_eq!(again.records.len(), whole + 1);
            }
        }
    }
}

/// P37: a process that died of a failed sync reads pages that never reached the disk. What its
/// successor hands out is durable all the same.
#[test]
fn what_is_read_after_a_failed_sync_is_written_again() {
    let dir = MemDir::new();
    let mut log = new_log(&dir, TINY);
    commit(&mut log, &[accept(1)]);
    log.append(&accepts(2..=3)).unwrap();
    dir.fail_step(2);
    assert!(log.commit().is_err());
    assert_eq!(
        open(&dir.after_crash(0, |_| true), TINY).1.records,
        accepts(1..=1)
    );
    // The process ends, the machine goes on.
    let (mut log, recovery) = open(&dir, TINY);
    assert_eq!(recovery.records, accepts(1..=3));
    commit(&mut log, &[accept(4)]);
    let (_, recovery) = open(&dir.after_crash(0, |_| false), TINY);
    assert_eq!(recovery.records, accepts(1..=4));
}

/// P37: the same for a torn end whose cut was not synced: behind what is appended later, nothing of it
/// comes back.
#[test]
fn a_torn_end_that_was_cut_without_a_sync_never_comes_back() {
    let dir = MemDir::with_sector(16);
    let mut log = new_log(&dir, TINY);
    commit(&mut log, &[accept(1)]);
    log.append(&[decided(2), decided(3), decided(4)]).unwrap();
    log.write().unwrap();
    // A power loss takes the beginning of it.
    let dir = dir.after_crash(0, |n| n > 1);
    dir.fail_step(2);
    Log::open(dir.clone(), TINY).unwrap_err();
    // The process ends, the machine goes on: its pages have the cut, the disk has not.
    let (mut log, recovery) = open(&dir, TINY);
    assert_eq!((recovery.records, recovery.cut), (accepts(1..=1), None));
    commit(&mut log, &[accept(5)]);
    let (_, recovery) = open(&dir.after_crash(0, |_| false), TINY);
    assert_eq!((recovery.damage, recovery.cut), (vec![], None));
    assert_eq!(recovery.records, [accept(1), accept(5)]);
}

/// P39: text that looks like a line of a later group, in the value of a torn record, proves nothing.
#[test]
fn record_like_text_in_a_value_is_not_taken_for_a_record() {
    let mut fake = Vec::new();
    line::write(&mut fake, 900, 900, b"accept b9.9 s900 x");
    fake.pop();
    for lead in [&b""[..], b" ", b"\0", b"\r"] {
        let value = Value::new([lead, &fake, lead].concat()).unwrap();
        let dir = MemDir::with_sector(1);
        let mut log = new_log(&dir, SMALL);
        commit(&mut log, &[accept(1)]);
        let learn = Record::Learn(Slot(2), value);
        log.append(&[learn.clone(), learn.clone()]).unwrap();
        log.write().unwrap();
        let writes = dir.unsynced_writes();
        for lost in 0..writes {
            let crashed = dir.after_crash(0, |n| n != lost);
            if crashed.read("log-00000001").unwrap() == dir.read("log-00000001").unwrap() {
                continue; // The lost byte is a zero in the value.
            }
            let (_, recovery) = open(&crashed, TINY);
            let whole = 1 + usize::from(lost >= writes / 2);
            assert_eq!(recovery.records.len(), whole);
            assert!(recovery.cut.is_some());
        }
        assert_eq!(open(&dir, TINY).1.records[1..], [learn.clone(), learn]);
    }
}

/// What a random walk does to a log.
#[derive(Debug, Clone)]
enum Act {
    Commit(Vec<Record>),
    Write(Vec<Record>),
    Spare,
    Fail(u64),
    /// A power loss that keeps some names, and the writes whose bit is set.
    PowerLoss(usize, u64),
    /// The process ends, the machine goes on.
    Restart,
}

fn any_act() -> impl Strategy<Value = Act> {
    // Promises do not go back, as random ones would.
    let record = || any_record().prop_filter("no promise", |r| !matches!(r, Record::Promise(_)));
    let records = move || proptest::collection::vec(record(), 0..5);
    prop_oneof![
        6 => records().prop_map(Act::Commit),
        3 => records().prop_map(|mut records| {
            records.retain(|record| !record.binds());
            Act::Write(records)
        }),
        2 => Just(Act::Spare),
        1 => (1..12u64).prop_map(Act::Fail),
        2 => (0..4usize, any::<u64>()).prop_map(|(names, bits)| Act::PowerLoss(names, bits)),
        1 => Just(Act::Restart),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// P1, P37, P39: crash, append, crash: nothing committed or handed out is ever lost, and nothing
    /// comes back in another order.
    #[test]
    fn no_walk_of_crashes_and_failures_loses_a_committed_record(
        sector in prop_oneof![Just(8usize), Just(64), Just(512)],
        acts in proptest::collection::vec(any_act(), 1..40),
    ) {
        let mut dir = MemDir::with_sector(sector);
        let mut log = new_log(&dir, TINY);
        let (mut all, mut durable) = (Vec::new(), 0);
        for act in acts {
            let restarted = match act {
                Act::Commit(records) => {
                    if log.append(&records).is_ok() {
                        all.extend(records);
                        if log.commit().is_ok() {
                            durable = all.len();
                        }
                    }
                    None
                }
                Act::Write(records) => {
                    if log.append(&records).is_ok() {
                        all.extend(records);
                        let _ = log.write();
                    }
                    None
                }
                Act::Spare => {
                    if let Some(job) = log.spare_job() {
                        let _ = job.make();
                    }
                    None
                }
                Act::Fail(step) => {
                    dir.fail_step(step);
                    None
                }
                Act::PowerLoss(names, bits) => {
                    Some(dir.after_crash(names, |n| bits >> (n % 64) & 1 == 1))
                }
                Act::Restart => Some(dir.fork()),
            };
            if let Some(restarted) = restarted {
                dir = restarted;
                let (opened, recovery) = open(&dir, TINY);
                let found = recovery.records.len();
                prop_assert!(found >= durable);
                prop_assert_eq!(recovery.damage, vec![]);
                prop_assert_eq!(&recovery.records[..], &all[..found]);
                all.truncate(found);
                durable = found;
                log = opened;
            }
        }
    }
}
