//! A crash in each step of all that changes files, and another in each step of the start after it.

use super::super::dir::{REMOVING, write_whole};
use super::super::log::IN_PROGRESS;
use super::super::snapshot;
use super::snapshots::store;
use super::*;

/// What a stage does to a directory; whether it came to its end.
type Stage<'a> = &'a dyn Fn(&MemDir) -> bool;

/// All that a kill or a power loss can leave, but for subsets of the unsynced writes.
fn crashes(dir: &MemDir) -> Vec<MemDir> {
    let mut left = vec![dir.fork()];
    for names in 0..=dir.unsynced_names() {
        left.push(dir.after_crash(names, |_| false));
        if dir.unsynced_writes() > 0 {
            left.push(dir.after_crash(names, |_| true));
        }
    }
    left
}

/// Lets a crash strike each step of the first stage, then each step of the next on whatever that left,
/// and so on, and looks at the end of it all. Returns how often it looked.
fn crash_in_each_step(dir: &MemDir, stages: &[Stage<'_>], look: &dyn Fn(&MemDir)) -> usize {
    let Some((stage, rest)) = stages.split_first() else {
        look(dir);
        return 1;
    };
    let mut looks = 0;
    for failing in 1.. {
        let struck = dir.fork();
        let before = struck.steps();
        struck.fail_step(failing);
        let done = stage(&struck);
        let reached = struck.steps() - before >= failing;
        assert!(done != reached, "step {failing} failed, and nobody knows");
        for crashed in crashes(&struck) {
            looks += crash_in_each_step(&crashed, rest, look);
        }
        if done {
            break;
        }
    }
    looks
}

/// A start that fails without an injected failure is what these tests look for.
fn start(dir: &MemDir) -> bool {
    match Log::open(dir.clone(), TINY) {
        Ok(_) => true,
        Err(error) => {
            assert!(error.to_string().contains("injected"), "{error}");
            false
        }
    }
}

/// Files of every kind that a crash may leave, each removed in several steps.
fn leave_work_in_progress(dir: &MemDir) {
    for (name, bytes) in IN_PROGRESS.iter().zip([300, 390, 520, 260]) {
        assert!(bytes > 2 * dir.removal_step_bytes());
        dir.put_file(name, &vec![b'x'; bytes]);
    }
}

fn assert_nothing_in_progress(dir: &MemDir) {
    for name in dir.list().unwrap() {
        assert!(!IN_PROGRESS.contains(&name.as_str()), "{name}");
    }
}

/// P42: two leftovers that are removed in steps made the start after the next crash fail.
#[test]
fn what_a_crash_left_is_removed_by_a_start_wherever_that_crashes() {
    let (dir, all) = long_log();
    leave_work_in_progress(&dir);
    let looks = crash_in_each_step(&dir, &[&start, &start], &|dir| {
        assert_eq!(recovered(dir).records, all);
        start(dir);
        assert_nothing_in_progress(dir);
    });
    assert!(looks > 1_000, "{looks}");
}

/// P41: the same where the log is gone, or damaged.
#[test]
fn a_loss_is_known_after_any_two_crashes_of_a_start() {
    let gone = MemDir::new();
    leave_work_in_progress(&gone);
    let (damaged, _) = long_log();
    let mut bytes = damaged.read("log-00000002").unwrap();
    bytes[80] ^= 1;
    damaged.put_file("log-00000002", &bytes);
    leave_work_in_progress(&damaged);
    for dir in [gone, damaged] {
        let records = recovered(&dir).records;
        assert_eq!(records.last(), Some(&Record::Lost));
        let looks = crash_in_each_step(&dir, &[&start, &start], &|dir| {
            assert_eq!(recovered(dir).records, records);
        });
        assert!(looks > 1_000, "{looks}");
    }
}

/// P21: also a file that a removal has half taken away is ignored by the start after it.
#[test]
fn a_trim_and_the_start_after_it_may_both_crash() {
    let dir = MemDir::new();
    let options = Options {
        first_segment_bytes: 400,
        segment_bytes_max: 400,
    };
    let mut log = new_log(&dir, options);
    for n in 1..=12 {
        commit(&mut log, &[accept(n)]);
    }
    drop(log);
    for slots in [4, 9] {
        snapshot::write(&dir, &store(slots)).unwrap();
    }
    dir.put_file(REMOVING, &[b'x'; 300]);
    let trim = |dir: &MemDir| {
        let trimmed = Log::open(dir.clone(), options)
            .and_then(|(mut log, _)| log.trim(Slot(9)))
            .and_then(super::super::log::Removal::run);
        trimmed.is_ok()
    };
    assert!(trim(&dir.fork()));
    let looks = crash_in_each_step(&dir, &[&trim, &start], &|dir| {
        let recovery = recovered(dir);
        assert_eq!(
            (recovery.damage, recovery.snapshot_damage),
            (vec![], vec![])
        );
        assert_eq!(recovery.snapshot, Some(store(9)));
        let needed = recovery.records.iter().filter_map(|record| match record {
            Record::Accept(_, slot, _) if *slot > Slot(9) => Some(slot.0),
            _ => None,
        });
        assert_eq!(needed.collect::<Vec<_>>(), [10, 11, 12]);
        start(dir);
        assert_nothing_in_progress(dir);
    });
    assert!(looks > 500, "{looks}");
}

/// P42: a snapshot that is written over the beginning of another, and its start.
#[test]
fn a_snapshot_and_the_start_after_it_may_both_crash() {
    let (dir, all) = long_log();
    snapshot::write(&dir, &store(2)).unwrap();
    leave_work_in_progress(&dir);
    let write = |dir: &MemDir| snapshot::write(dir, &store(9)).is_ok();
    let looks = crash_in_each_step(&dir, &[&write, &start], &|dir| {
        let recovery = recovered(dir);
        assert_eq!(
            (&recovery.records, recovery.snapshot_damage),
            (&all, vec![])
        );
        let applied = recovery.snapshot.unwrap().applied();
        assert!([2, 9].contains(&applied), "{applied}");
    });
    assert!(looks > 1_000, "{looks}");
}

/// P42: the old file or the new one, and nothing in the next one's way.
#[test]
fn a_file_is_written_as_a_whole_after_any_two_crashes() {
    let dir = MemDir::new();
    dir.put_file("x", b"one");
    dir.put_file("x.new", &[b'y'; 400]);
    let write = |dir: &MemDir| write_whole(dir, "x", &[b'z'; 300]).is_ok();
    let looks = crash_in_each_step(&dir, &[&write, &write], &|dir| {
        let found = dir.read("x").unwrap();
        assert!(found == b"one" || found == [b'z'; 300]);
        write_whole(dir, "x", b"two").unwrap();
        assert_eq!(dir.read("x").unwrap(), b"two");
    });
    assert!(looks > 50, "{looks}");
}
