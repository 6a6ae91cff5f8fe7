//! The health of a log, for people.

use super::super::check::print_check;
use super::super::snapshot;
use super::snapshots::store;
use super::*;

fn checked(dir: &MemDir) -> (String, usize) {
    let steps = dir.steps();
    let mut out = Vec::new();
    let places = print_check(dir, &mut out).unwrap();
    assert_eq!(dir.steps(), steps, "it only reads");
    (String::from_utf8(out).unwrap(), places)
}

#[test]
fn a_sound_log_is_told_segment_by_segment() {
    let dir = MemDir::new();
    let mut log = new_log(&dir, TINY);
    let (text, _) = checked(&dir);
    assert!(
        text.starts_with("log-00000001: records 1 to 1, up to s0, 150 bytes\n"),
        "{text}"
    );
    commit(&mut log, &[Record::Start(1)]);
    commit(&mut log, &accepts(1..=9));
    snapshot::write(&dir, &store(2)).unwrap();
    let (text, places) = checked(&dir);
    assert_eq!(
        text,
        "log-00000001: records 1 to 2, up to s0, 150 bytes\n\
         log-00000002: records 3 to 13, up to s9, 363 bytes\n\
         carries start 1, ballot b0.0, promise b1.1, trim s0, never lost\n\
         snapshot-0000000000000000002: s2, 2 keys, 191 bytes, whole\n\
         sound\n"
    );
    assert_eq!(places, 0);
}

/// P21: what a crash in the middle of a trim left over is no damage, and is told.
#[test]
fn a_segment_that_a_trim_has_left_behind_is_told_as_trimmed() {
    let dir = MemDir::new();
    let mut log = new_log(&dir, TINY);
    for n in 1..=9 {
        commit(&mut log, &[accept(n)]);
    }
    let oldest = dir.read("log-00000001").unwrap();
    snapshot::write(&dir, &store(6)).unwrap();
    log.trim(Slot(6)).unwrap().run().unwrap();
    let names = dir.list().unwrap();
    assert_eq!(names[0], "log-00000002");
    dir.put_file("log-00000001", &oldest);
    let (text, places) = checked(&dir);
    assert_eq!(places, 0, "{text}");
    let trimmed: Vec<&str> = text
        .lines()
        .filter(|line| line.ends_with(", trimmed"))
        .collect();
    assert_eq!(
        trimmed,
        ["log-00000001: records 1 to 4, up to s3, 150 bytes, trimmed"]
    );
}

#[test]
fn damage_is_counted_new_or_known_and_in_snapshots() {
    let (dir, _) = long_log();
    let mut bytes = dir.read("log-00000002").unwrap();
    bytes[80] ^= 1;
    dir.put_file("log-00000002", &bytes);
    assert_eq!(checked(&dir).1, 1);
    assert!(checked(&dir).0.ends_with("\n1 damaged place\n"));
    open(&dir, TINY);
    snapshot::write(&dir, &store(2)).unwrap();
    let name = "snapshot-0000000000000000002";
    let mut bytes = dir.read(name).unwrap();
    bytes[3] ^= 1;
    dir.put_file(name, &bytes);
    let (text, places) = checked(&dir);
    assert_eq!(places, 2);
    assert!(
        text.starts_with("known: log-00000002: damaged record at byte 59: "),
        "{text}"
    );
    assert!(text.contains(", lost\n"), "{text}");
    assert!(
        text.contains("\nsnapshot-0000000000000000002: damaged snapshot at byte 0: "),
        "{text}"
    );
    assert!(text.ends_with("\n2 damaged places\n"), "{text}");
}

#[test]
fn a_segment_without_a_whole_record_is_told_as_such() {
    let (dir, _) = long_log();
    dir.put_file("log-00000002", b"rubbish");
    let (text, places) = checked(&dir);
    assert_eq!(places, 1);
    assert!(
        text.contains("\nlog-00000002: no whole record, 7 bytes\n"),
        "{text}"
    );
}

/// P41.
#[test]
fn a_log_that_is_gone_is_damage_beside_an_identity_only() {
    let dir = MemDir::new();
    let error = print_check(&dir, &mut Vec::new()).unwrap_err();
    assert!(matches!(error, LogError::NoLog { .. }), "{error}");
    dir.put_file("identity", b"");
    let (text, places) = checked(&dir);
    assert!(text.starts_with(": the log is gone: "), "{text}");
    assert_eq!(places, 1);
}
