//! What the log refuses: whatever no crash can have done (P40).

use super::super::scan::{head_body, segment_name};
use super::*;

/// P40: a flipped bit is refused at its own line when any later group is there. In the last group it
/// cannot be told from a torn write, and cuts the log there; in the zeros it harms nothing.
#[test]
fn every_flipped_bit_is_refused_or_harmless() {
    let (dir, all) = long_log();
    let places = places(&dir);
    let files = dir.list().unwrap();
    let (last_file, last_group) = (files.last().unwrap(), places.last().unwrap().group);
    let (mut refused, mut cut, mut harmless) = (0, 0, 0);
    for file in &files {
        let bytes = dir.read(file).unwrap();
        for at in 0..bytes.len() {
            let line = places
                .iter()
                .find(|p| p.file == *file && (p.offset..p.offset + p.bytes).contains(&at));
            for bit in 0..8 {
                let mut bad = bytes.clone();
                bad[at] ^= 1 << bit;
                let flipped = dir.fork();
                flipped.put_file(file, &bad);
                let opened = Log::open(flipped, TINY);
                match (line, opened) {
                    (Some(line), Err(error)) => {
                        let LogError::Damaged {
                            file: named,
                            offset,
                            expected,
                            ..
                        } = error
                        else {
                            panic!("{error}");
                        };
                        assert!(line.group < last_group || line.is_head);
                        assert_eq!((&named, offset, expected), (file, line.offset, line.seq));
                        refused += 1;
                    }
                    (Some(line), Ok((_, recovery))) => {
                        assert_eq!(line.group, last_group, "{file} {at} {bit}");
                        let heads = places.iter().filter(|p| p.is_head).count();
                        let whole = usize::try_from(line.seq).unwrap() - 1 - heads;
                        assert_eq!(recovery.records, all[..whole]);
                        assert_eq!(recovery.cut.unwrap().offset, line.offset);
                        cut += 1;
                    }
                    (None, opened) => {
                        let (_, recovery) = opened.unwrap();
                        assert_eq!(recovery.records, all);
                        assert_eq!(recovery.cut.is_some(), file == last_file);
                        harmless += 1;
                    }
                }
            }
        }
    }
    assert!(refused > 0 && cut > 0 && harmless > 0);
}

/// P40: a sector of zeros, or of something else, is no torn write when a later group is there.
#[test]
fn a_lost_stretch_in_the_middle_is_refused() {
    let dir = MemDir::new();
    let mut log = new_log(&dir, Options::default());
    for n in 1..=40 {
        commit(&mut log, &[accept(n)]);
    }
    let places = places(&dir);
    let file = "log-00000001";
    let bytes = dir.read(file).unwrap();
    let end = places.last().map(|p| p.offset + p.bytes).unwrap();
    for stretch in [16, 64, 256] {
        for from in (0..end - stretch - 100).step_by(16) {
            for filler in [0, b'\n', b'x', 0xff] {
                let mut bad = bytes.clone();
                bad[from..from + stretch].fill(filler);
                let lost = MemDir::new();
                lost.put_file(file, &bad);
                let LogError::Damaged { offset, .. } = refusal(&lost) else {
                    panic!("not refused as damaged");
                };
                let first = places.iter().find(|p| p.offset + p.bytes > from).unwrap();
                assert_eq!(offset, first.offset);
            }
        }
    }
}

#[test]
fn a_refused_log_stays_as_it_was() {
    let (dir, _) = long_log();
    let mut bytes = dir.read("log-00000002").unwrap();
    bytes[50] ^= 1;
    dir.put_file("log-00000002", &bytes);
    dir.put_file("spare", b"");
    let steps = dir.steps();
    let error = refusal(&dir).to_string();
    assert_eq!(dir.steps(), steps);
    assert!(
        error.starts_with(
            "log-00000002: damaged record at byte 28: expected record 5, found \"c25f3e12 5 5 17 accept!b1.1"
        ),
        "{error}"
    );
    assert!(
        error.contains("and log-00000003 begins with record 11; votes of this server rest on"),
        "{error}"
    );
}

#[test]
fn a_missing_segment_is_named() {
    let (dir, _) = long_log();
    for missing in ["log-00000001", "log-00000002"] {
        let dir = dir.fork();
        dir.remove(missing).unwrap();
        let error = refusal(&dir).to_string();
        assert!(
            error.starts_with(&format!("{missing}: this segment of the log is missing")),
            "{error}"
        );
    }
}

/// P42: only names in the very form of a segment are read.
#[test]
fn other_files_are_not_read() {
    let (dir, all) = long_log();
    for name in [
        "log-1",
        "log-00000099.bak",
        "log-+0000009",
        "log-000000010",
        "LOG-00000009",
    ] {
        dir.put_file(name, b"garbage");
    }
    assert_eq!(open(&dir, TINY).1.records, all);
}

#[test]
fn a_segment_in_the_place_of_another_is_refused() {
    let (dir, _) = long_log();
    let (two, three) = (
        dir.read("log-00000002").unwrap(),
        dir.read("log-00000003").unwrap(),
    );
    dir.put_file("log-00000002", &three);
    dir.put_file("log-00000003", &two);
    assert!(matches!(refusal(&dir), LogError::Damaged { .. }));
}

/// An older copy of a finished segment, as a careless restore would put there.
#[test]
fn an_older_copy_of_a_finished_segment_is_refused() {
    let (dir, _) = long_log();
    let places = places(&dir);
    let last = places.iter().rfind(|p| p.file == "log-00000002").unwrap();
    let mut bytes = dir.read("log-00000002").unwrap();
    bytes[last.offset..].fill(0);
    dir.put_file("log-00000002", &bytes);
    let error = refusal(&dir);
    let LogError::Damaged {
        file,
        offset,
        found,
        ..
    } = error
    else {
        panic!("{error}");
    };
    assert_eq!(
        (&*file, offset, &*found),
        ("log-00000002", last.offset, "nothing")
    );
}

/// What is right but not understood is not cut off: a newer version wrote it.
#[test]
fn a_record_of_a_newer_version_is_refused() {
    let head = head_body(1);
    for (lines, error) in [
        (
            [&head[..], b"vote b1.1"],
            "log-00000001: cannot read record 2 at byte 28, though its checksum is right: expected \
             start, ballot, promise, accept, decided, learn, peer, trim, lost or sound, found \"vote\"; was it written by a newer \
             version of quince?",
        ),
        (
            [b"segment 2 1", b"start 1"],
            "log-00000001: cannot read record 1 at byte 0, though its checksum is right: expected \
             \"segment 1 1\", found \"segment 2 1\"; was it written by a newer version of quince?",
        ),
    ] {
        let mut bytes = Vec::new();
        for (seq, body) in (1..).zip(lines) {
            line::write(&mut bytes, seq, seq, body);
        }
        let dir = MemDir::new();
        dir.put_file(&segment_name(1), &bytes);
        assert_eq!(refusal(&dir).to_string(), error);
    }
}

/// A whole line that is neither next nor of the unfinished group was not left by a crash.
#[test]
fn a_line_out_of_order_is_refused() {
    for (seq, group, ok) in [(2, 1, true), (3, 2, false), (3, 3, false), (1, 1, false)] {
        let mut bytes = Vec::new();
        line::write(&mut bytes, 1, 1, &head_body(1));
        line::write(&mut bytes, seq, group, b"start 1");
        let dir = MemDir::new();
        dir.put_file(&segment_name(1), &bytes);
        assert_eq!(Log::open(dir, TINY).is_ok(), ok, "{seq} {group}");
    }
}

/// A search through garbage takes time in proportion to its length, whatever it looks like.
#[test]
fn a_segment_of_garbage_is_searched_in_one_go() {
    const GARBAGE_BYTES: usize = 8 * 1024 * 1024;
    let mut head = Vec::new();
    line::write(&mut head, 1, 1, &head_body(1));
    for pattern in [
        &b"\n"[..],
        b"00000000 3 3 9000000 x\n",
        b"00000000 2 2 8000000 ",
        b"0",
    ] {
        let mut bytes = head.clone();
        while bytes.len() < GARBAGE_BYTES {
            bytes.extend_from_slice(pattern);
        }
        let dir = MemDir::new();
        dir.put_file(&segment_name(1), &bytes);
        let (_, recovery) = open(&dir, TINY);
        assert_eq!(recovery.cut.unwrap().bytes, bytes.len() - head.len());
        // And a good line behind all of it is found.
        bytes.push(b'\n');
        line::write(&mut bytes, 9, 9, b"start 1");
        dir.put_file(&segment_name(1), &bytes);
        assert!(matches!(refusal(&dir), LogError::Damaged { .. }));
    }
}
