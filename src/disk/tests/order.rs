//! Whole lines where no writer puts them: a worn disk or a careless hand has moved them (P40).

use super::super::damage::Damage;
use super::super::print::print_log;
use super::super::scan::segment_name;
use super::*;

/// Lines with these numbers, groups and bodies.
fn lines(lines: &[(u64, u64, &str)]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (seq, group, body) in lines {
        line::write(&mut bytes, *seq, *group, body.as_bytes());
    }
    bytes
}

/// A directory with these segments.
fn with_segments(segments: &[(u64, Vec<u8>)]) -> MemDir {
    let dir = MemDir::new();
    for (number, bytes) in segments {
        dir.put_file(&segment_name(*number), bytes);
    }
    dir
}

/// The file, the offset and the number of the only damaged record, and what proves the damage.
fn only(recovery: &Recovery) -> (&str, usize, u64, &str) {
    let [
        Damage::Record {
            file,
            offset,
            expected,
            witness,
            ..
        },
    ] = &recovery.damage[..]
    else {
        panic!("{:?}", recovery.damage);
    };
    (file, *offset, *expected, witness)
}

fn starts(numbers: &[u64]) -> Vec<Record> {
    numbers.iter().map(|&n| Record::Start(n)).collect()
}

/// A whole line that is neither next nor of the unfinished group was not left by a crash. It is read if
/// it was written later than the one that should stand there.
#[test]
fn a_line_out_of_order_is_damage() {
    for (line, sound, read) in [
        ((2, 1, "start 7"), true, true),
        ((3, 2, "start 7"), false, true),
        ((3, 3, "start 7"), false, true),
        ((1, 1, "start 7"), false, false),
        // A head is right at the beginning of its segment only.
        ((2, 2, "segment 1 1"), false, false),
        ((3, 3, "segment 1 1"), false, false),
    ] {
        let dir = with_segments(&[(1, lines(&[(1, 1, "segment 1 1"), line]))]);
        let recovery = recovered(&dir);
        let mut expected = starts(if read { &[7] } else { &[] });
        if sound {
            assert_eq!(recovery.damage, [], "{line:?}");
        } else {
            expected.push(Record::Lost);
            let (file, offset, number, _) = only(&recovery);
            assert_eq!((file, offset, number), ("log-00000001", 28, 2), "{line:?}");
        }
        assert_eq!(recovery.records, expected, "{line:?}");
    }
}

/// Whatever number the line has that stands in the place of the head, and what can be read is read.
#[test]
fn a_segment_that_begins_with_a_record_is_damaged() {
    for (seq, found) in [(2, &[1][..]), (3, &[1, 3]), (4, &[1, 3]), (5, &[1, 3])] {
        let one = lines(&[(1, 1, "segment 1 1"), (2, 2, "start 1")]);
        let two = lines(&[(seq, seq, "start 2"), (seq + 1, seq + 1, "start 3")]);
        let recovery = recovered(&with_segments(&[(1, one), (2, two)]));
        let (file, offset, number, _) = only(&recovery);
        assert_eq!((file, offset, number), ("log-00000002", 0, 3), "{seq}");
        assert_eq!(recovery.records, and_lost(&starts(found)), "{seq}");
    }
}

/// Its name and its head are right, but it says what this log has said already.
#[test]
fn a_segment_of_another_log_is_damage() {
    let one = [(1, 1, "segment 1 1"), (2, 2, "start 1"), (3, 3, "start 2")];
    let other = [(3, 3, "segment 1 2"), (4, 4, "start 9")];
    let recovery = recovered(&with_segments(&[(1, lines(&one)), (2, lines(&other))]));
    let (file, offset, number, _) = only(&recovery);
    assert_eq!((file, offset, number), ("log-00000002", 0, 4));
    assert_eq!(recovery.records, and_lost(&starts(&[1, 2])));
}

/// A number that no segment has, where no record is missing, is not what a later gap is told by.
#[test]
fn a_gap_behind_a_segment_that_is_not_missed_is_told_where_it_is() {
    let one = lines(&[(1, 1, "segment 1 1"), (2, 2, "start 1")]);
    let head = lines(&[(3, 3, "segment 1 3")]);
    let three = [&head, &b"rubbish\n"[..], &lines(&[(5, 5, "start 2")])].concat();
    let recovery = recovered(&with_segments(&[(1, one), (3, three)]));
    let (file, offset, number, _) = only(&recovery);
    assert_eq!((file, offset, number), ("log-00000003", 28, 4));
    assert_eq!(recovery.records, and_lost(&starts(&[1, 2])));
}

/// The line that should stand here stands further on: no crash moves it.
#[test]
fn the_next_line_in_another_place_is_damage_and_proves_it() {
    let head = lines(&[(1, 1, "segment 1 1")]);
    let moved = lines(&[(2, 2, "start 1")]);
    let dir = with_segments(&[(1, [&head, &b"rubbish\n"[..], &moved].concat())]);
    let recovery = recovered(&dir);
    assert_eq!(
        only(&recovery),
        (
            "log-00000001",
            28,
            2,
            "record 2 at byte 36 is whole and was written after it was synced"
        )
    );
    assert_eq!(recovery.records, [Record::Lost]);
}

/// As where a piece of one file has got into another.
#[test]
fn a_head_behind_rubbish_is_passed_over() {
    let head = lines(&[(1, 1, "segment 1 1")]);
    let other = lines(&[(9, 9, "segment 1 2"), (10, 10, "start 1")]);
    let dir = with_segments(&[(1, [&head, &b"rubbish\n"[..], &other].concat())]);
    let recovery = recovered(&dir);
    let (file, offset, number, _) = only(&recovery);
    assert_eq!((file, offset, number), ("log-00000001", 28, 2));
    assert_eq!(recovery.records, and_lost(&starts(&[1])));
}

/// P41: a line that a worn disk shows again after its loss does not make a log need what is trimmed.
#[test]
fn an_earlier_beginning_of_the_log_that_comes_back_is_of_no_account() {
    let three = [
        (30, 30, "segment 2 3 2"),
        (31, 30, "first 3 30"),
        (32, 30, "first 2 20"),
        (33, 33, "start 1"),
    ];
    let recovery = recovered(&with_segments(&[(3, lines(&three))]));
    assert_eq!((recovery.records, recovery.damage), (starts(&[1]), vec![]));
}

/// P39, P40: the last group may be torn, whatever is damaged before it.
#[test]
fn a_torn_end_behind_damage_is_no_damage() {
    let dir = MemDir::new();
    let options = Options {
        first_segment_bytes: 500,
        segment_bytes_max: 500,
    };
    let mut log = new_log(&dir, options);
    commit(&mut log, &accepts(1..=3));
    commit(&mut log, &accepts(4..=6));
    let places = places(&dir);
    let at = |seq: u64| places.iter().find(|p| p.seq == seq).unwrap().offset;
    for torn in 5..=7 {
        let dir = dir.fork();
        let mut bytes = dir.read("log-00000001").unwrap();
        for seq in [3, torn] {
            bytes[at(seq)] ^= 1;
        }
        dir.put_file("log-00000001", &bytes);
        let recovery = recovered(&dir);
        let (_, offset, number, _) = only(&recovery);
        assert_eq!((offset, number), (at(3), 3));
        assert_eq!(recovery.cut.as_ref().unwrap().offset, at(torn));
        let left = [&accepts(1..=1)[..], &accepts(3..=torn - 2)].concat();
        assert_eq!(recovery.records, and_lost(&left));
    }
}

/// What was appended twice is there twice: it is not one of the lines that a segment begins with.
#[test]
fn a_repeat_behind_a_lost_head_is_read() {
    let dir = MemDir::new();
    let mut log = new_log(&dir, TINY);
    let mut all = starts(&[3]);
    all.extend(accepts(1..=4));
    all.push(Record::Start(3));
    all.push(accept(5));
    for record in &all {
        commit(&mut log, std::slice::from_ref(record));
    }
    let place = places(&dir)
        .into_iter()
        .rfind(|p| p.seq == p.group)
        .unwrap();
    assert_eq!(place.file, "log-00000002");
    let mut bytes = dir.read("log-00000002").unwrap();
    bytes[0] ^= 1;
    dir.put_file("log-00000002", &bytes);
    let recovery = recovered(&dir);
    assert_eq!(only(&recovery).0, "log-00000002");
    assert_eq!(recovery.records, and_lost(&all));
}

/// Each lost line had a byte at least: the numbers of as many are never used again, and no line that is
/// written later is listed as missing.
#[test]
fn behind_a_lost_end_as_many_numbers_are_left_out_as_bytes_are_lost() {
    let rubbish = |bytes| vec![b'x'; bytes];
    let head = lines(&[(4, 4, "segment 2 2 1")]);
    for (older_left, last, from, passed) in [
        (100, rubbish(200), 4, 300),
        (100, rubbish(0), 4, 100),
        (300, rubbish(1), 4, 301),
        (300, rubbish(77), 4, 377),
        (0, rubbish(0), 4, 1),
        (0, [head, rubbish(50)].concat(), 5, 50),
    ] {
        let mut one = lines(&[(1, 1, "segment 1 1"), (2, 2, "start 1"), (3, 3, "start 2")]);
        one.extend(rubbish(older_left));
        let dir = with_segments(&[(1, one), (2, last)]);
        let (log, recovery) = open(&dir, TINY);
        assert_eq!(recovery.records, and_lost(&starts(&[1, 2])));
        drop(log);
        let mut printed = Vec::new();
        print_log(&dir, None, &mut printed).unwrap();
        let printed = String::from_utf8(printed).unwrap();
        let to = from + passed - 1;
        let missing = format!(" missing {from} {to}\n");
        assert!(printed.contains(&missing), "{printed}");
        let head = format!("log-00000003 0 {} segment 2 3 ", to + 1);
        assert!(printed.contains(&head), "{printed}");
    }
}
