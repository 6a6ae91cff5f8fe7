//! Snapshots on disk: whole, or none, or named.

use super::super::damage::SnapshotDamage;
use super::super::snapshot;
use super::*;
use crate::kv::batch::Batch;
use crate::kv::store::Store;

/// The state after `slots` slots, each of which puts a key.
pub(super) fn store(slots: u64) -> Store {
    let mut store = Store::new();
    for slot in 1..=slots {
        let text = format!("n1.1.{slot} put key{slot} value{slot}");
        store.apply(slot, &Batch::read(text.as_bytes()), |_, _| {});
    }
    store
}

/// The recovery of a log with these snapshots.
fn with_log(dir: &MemDir) -> Recovery {
    if !dir.list().unwrap().contains(&"log-00000001".into()) {
        Log::create(dir, &TINY).unwrap();
    }
    let (_, recovery) = open(dir, TINY);
    assert_eq!((&recovery.records, &recovery.damage), (&vec![], &vec![]));
    recovery
}

#[test]
fn a_snapshot_is_text_and_the_newest_one_counts() {
    let dir = MemDir::new();
    assert_eq!(with_log(&dir).snapshot, None);
    for slots in [2, 17, 9] {
        let bytes = snapshot::write(&dir, &store(slots)).unwrap();
        let name = format!("snapshot-00000000000000000{slots:02}");
        assert_eq!(dir.read(&name).unwrap().len(), bytes);
    }
    assert_eq!(dir.list().unwrap().len(), 4, "the older ones stay");
    let recovery = with_log(&dir);
    assert_eq!(recovery.snapshot, Some(store(17)));
    assert_eq!(recovery.snapshot_damage, []);
    let text = dir.read("snapshot-0000000000000000002").unwrap();
    let text = String::from_utf8(text).unwrap();
    let lines: Vec<&str> = text.lines().map(|line| &line[9..]).collect();
    assert_eq!(
        lines[2..],
        [
            "3 1 8 opened 0",
            "4 1 19 pair key1 value1 s1",
            "5 1 19 pair key2 value2 s2",
            "6 1 5 end 5"
        ]
    );
}

/// So that a commit of the log, whose sync waits for these, waits for 2 MiB of them at most.
#[test]
fn a_large_snapshot_is_synced_piece_by_piece() {
    const SYNC_BYTES: usize = 2 * 1024 * 1024;
    const WRITE_BYTES: usize = 256 * 1024;
    const PAIR_BYTES: usize = 10_000;
    let mut large = Store::new();
    for slot in 1..=500 {
        let text = format!("n1.1.{slot} put key{slot} {:0PAIR_BYTES$}", 0);
        large.apply(slot, &Batch::read(text.as_bytes()), |_, _| {});
    }
    let dir = MemDir::new();
    let bytes = snapshot::write(&dir, &large).unwrap();
    assert!(bytes > 2 * SYNC_BYTES && bytes < 3 * SYNC_BYTES, "{bytes}");
    // To create, rename and sync the name; writes of about one size, and three syncs.
    let writes = dir.steps() - 3 - 3;
    let least = bytes.div_ceil(WRITE_BYTES + 2 * PAIR_BYTES) as u64;
    let most = bytes.div_ceil(WRITE_BYTES) as u64;
    assert!(
        (least..=most).contains(&writes),
        "{writes} of {least} to {most}"
    );
    // As much as a power loss takes, when it strikes at the worst time.
    let mut unsynced_most = 0;
    for failing in 1..dir.steps() {
        let dir = MemDir::with_sector(1_024);
        dir.fail_step(failing);
        snapshot::write(&dir, &large).unwrap_err();
        unsynced_most = unsynced_most.max(1_024 * dir.unsynced_writes());
    }
    let bound = SYNC_BYTES + 2 * WRITE_BYTES;
    assert!(
        (SYNC_BYTES - WRITE_BYTES..bound).contains(&unsynced_most),
        "{unsynced_most}"
    );
    assert_eq!(snapshot::read(&dir, Slot(500)).unwrap().1, Ok(large));
}

/// P40: whatever bit flips, wherever it ends, a damaged snapshot is named and not used.
#[test]
fn every_flipped_bit_and_every_cut_is_named_and_the_one_before_serves() {
    let dir = MemDir::new();
    Log::create(&dir, &TINY).unwrap();
    snapshot::write(&dir, &store(2)).unwrap();
    snapshot::write(&dir, &store(3)).unwrap();
    let name = "snapshot-0000000000000000003";
    let bytes = dir.read(name).unwrap();
    let starts: Vec<usize> = std::iter::once(0)
        .chain((1..bytes.len()).filter(|&at| bytes[at - 1] == b'\n'))
        .collect();
    let mut bad = Vec::new();
    for at in 0..bytes.len() {
        let mut flipped = bytes.clone();
        flipped[at] ^= 1 << (at % 8);
        bad.push((at, flipped));
        bad.push((at, bytes[..at].to_vec()));
    }
    bad.push((bytes.len(), [&bytes[..], b"more"].concat()));
    for (at, bytes) in bad {
        dir.put_file(name, &bytes);
        let recovery = with_log(&dir);
        assert_eq!(recovery.snapshot, Some(store(2)));
        let [SnapshotDamage::Damaged { file, offset, .. }] = &recovery.snapshot_damage[..] else {
            panic!("{:?}", recovery.snapshot_damage);
        };
        assert_eq!(file, name);
        let line = starts.iter().rfind(|&&start| start <= at).unwrap();
        assert!(offset == line || *offset == at, "{offset} for {at}");
    }
}

/// P40: whole lines of another place or another file, too.
#[test]
fn a_snapshot_with_moved_lines_is_damaged() {
    let dir = MemDir::new();
    snapshot::write(&dir, &store(3)).unwrap();
    let name = "snapshot-0000000000000000003";
    let text = String::from_utf8(dir.read(name).unwrap()).unwrap();
    let lines: Vec<&str> = text.split_inclusive('\n').collect();
    let start = text.len() - lines[3..].concat().len();
    let mut of_a_log = Vec::new();
    line::write(&mut of_a_log, 4, 4, b"pair key1 value1 s1");
    let swapped = [lines[4], lines[3]].concat().into_bytes();
    let behind = lines[5..].concat();
    for (found, moved) in [
        ("5", swapped),
        ("4", [&of_a_log[..], lines[4].as_bytes()].concat()),
    ] {
        let bytes = [&text.as_bytes()[..start], &moved, behind.as_bytes()].concat();
        assert_eq!(bytes.len(), text.len());
        dir.put_file(name, &bytes);
        let damage = with_log(&dir).snapshot_damage;
        let expected = format!(
            "{name}: damaged snapshot at byte {start}: expected line 4, found record {found}; "
        );
        assert!(damage[0].to_string().starts_with(&expected), "{damage:?}");
    }
}

#[test]
fn a_snapshot_under_the_name_of_another_is_damaged() {
    let dir = MemDir::new();
    snapshot::write(&dir, &store(3)).unwrap();
    dir.rename(
        "snapshot-0000000000000000003",
        "snapshot-0000000000000000004",
    )
    .unwrap();
    let recovery = with_log(&dir);
    assert_eq!(recovery.snapshot, None);
    assert_eq!(
        recovery.snapshot_damage[0].to_string(),
        "snapshot-0000000000000000004: damaged snapshot at byte 0: expected the state after s4, found \
         that after s3; no vote rests on it, and what it held is fetched from the other servers"
    );
}

/// P21, P38, P42: a crash, a failure or a full disk at any step leaves the old snapshot or the new one,
/// and a restart that is clean.
#[test]
fn a_snapshot_is_there_as_a_whole_or_not_at_all() {
    let mut tried = 0;
    for failing in 1.. {
        let dir = MemDir::with_sector(64);
        Log::create(&dir, &TINY).unwrap();
        snapshot::write(&dir, &store(2)).unwrap();
        dir.fail_step(failing);
        let done = snapshot::write(&dir, &store(20)).is_ok();
        for names in 0..=dir.unsynced_names() {
            for kept in 0..=dir.unsynced_writes() {
                let crashed = dir.after_crash(names, |n| n < kept);
                let recovery = with_log(&crashed);
                let applied = recovery.snapshot.unwrap().applied();
                assert!(applied == 20 || applied == 2 && !done);
                assert_eq!(recovery.snapshot_damage, []);
                assert!(!crashed.list().unwrap().contains(&"snapshot.new".into()));
                snapshot::write(&crashed, &store(20)).unwrap();
                tried += 1;
            }
        }
        if done {
            break;
        }
        // What failed once may be tried again.
        snapshot::write(&dir, &store(20)).unwrap();
    }
    assert!(tried > 20, "{tried}");
}

/// P38: what a full disk left of a snapshot goes before the log needs room.
#[test]
fn a_full_disk_fails_the_snapshot_and_the_next_start_gives_the_room_back() {
    let dir = MemDir::new();
    let mut log = new_log(&dir, TINY);
    commit(&mut log, &accepts(1..=2));
    dir.limit(Some(150 + 20));
    let error = snapshot::write(&dir, &store(20)).unwrap_err();
    assert!(
        matches!(
            error,
            LogError::Io {
                action: "write",
                ..
            }
        ),
        "{error}"
    );
    assert_eq!(dir.list().unwrap(), ["log-00000001", "snapshot.new"]);
    let (_, recovery) = open(&dir, TINY);
    assert_eq!(recovery.records, accepts(1..=2));
    assert_eq!(dir.list().unwrap(), ["log-00000001"]);
    // Full to the last byte: the log's own room is enough.
    dir.limit(Some(150));
    let (mut log, _) = open(&dir, TINY);
    commit(&mut log, &accepts(3..=3));
    assert_eq!(log.read_all().unwrap(), accepts(1..=3));
}
