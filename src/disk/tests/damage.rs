//! What no crash can have done (P40): named, read on behind, and remembered as a loss.

use super::super::damage::Damage;
use super::super::scan::{self, segment_name};
use super::*;

/// The one damaged record: its file, offset and number.
fn only(damage: &[Damage]) -> (&str, usize, u64) {
    let [
        Damage::Record {
            file,
            offset,
            expected,
            ..
        },
    ] = damage
    else {
        panic!("{damage:?}");
    };
    (file, *offset, *expected)
}

/// P40: a flipped bit is named at its own line when any later group is there, and costs that record
/// alone. In the last group it cannot be told from a torn write, and cuts the log there; in the zeros
/// it harms nothing.
#[test]
fn every_flipped_bit_is_named_or_harmless() {
    let (dir, all) = long_log();
    let places = places(&dir);
    let files = dir.list().unwrap();
    let (last_file, last_group) = (files.last().unwrap(), places.last().unwrap().group);
    let (mut named, mut cut, mut harmless) = (0, 0, 0);
    for file in &files {
        let bytes = dir.read(file).unwrap();
        for at in 0..bytes.len() {
            let line = places
                .iter()
                .find(|p| p.file == *file && (p.offset..p.offset + p.bytes).contains(&at));
            let before = |line: &Place| {
                let records = places.iter().filter(|p| !p.begins && p.seq < line.seq);
                records.count()
            };
            for bit in 0..8 {
                let mut bad = bytes.clone();
                bad[at] ^= 1 << bit;
                let flipped = dir.fork();
                flipped.put_file(file, &bad);
                let recovery = recovered(&flipped);
                match line {
                    Some(line) if line.begins || line.group < last_group => {
                        let place = (&**file, line.offset, line.seq);
                        assert_eq!(only(&recovery.damage), place, "{bit}");
                        let mut rest = all.clone();
                        if !line.begins {
                            rest.remove(before(line));
                        }
                        assert_eq!(recovery.records, and_lost(&rest));
                        named += 1;
                    }
                    Some(line) => {
                        assert_eq!(recovery.records, all[..before(line)]);
                        assert_eq!(recovery.cut.unwrap().offset, line.offset);
                        cut += 1;
                    }
                    None => {
                        assert_eq!(recovery.records, all);
                        assert_eq!(recovery.cut.is_some(), file == last_file);
                        harmless += 1;
                    }
                }
            }
        }
    }
    assert!(named > 0 && cut > 0 && harmless > 0);
}

/// P40: a sector of zeros, or of something else, is no torn write when a later group is there; all
/// that it does not touch is read.
#[test]
fn a_lost_stretch_in_the_middle_is_named_and_read_over() {
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
                let recovery = recovered(&lost);
                let touched = |p: &Place| p.offset + p.bytes > from && p.offset < from + stretch;
                let first = places.iter().find(|p| touched(p)).unwrap();
                assert_eq!(only(&recovery.damage), (file, first.offset, first.seq));
                // A line whose LF alone is covered costs the next one too, unless it is proven.
                let whole = places.iter().filter(|p| !p.begins && !touched(p)).count();
                let found = recovery.records.len() - 1;
                assert!((whole - 1..=whole).contains(&found), "{found} of {whole}");
                assert!(recovery.records.windows(2).all(|two| two[0] != two[1]));
            }
        }
    }
}

#[test]
fn damage_is_told_in_one_line_with_its_place_and_what_it_means() {
    let (dir, _) = long_log();
    let mut bytes = dir.read("log-00000002").unwrap();
    bytes[80] ^= 1;
    dir.put_file("log-00000002", &bytes);
    let damage = recovered(&dir).damage;
    assert_eq!(
        damage[0].to_string(),
        "log-00000002: damaged record at byte 59: expected record 6, found \"8157b17c 6 6 17 accepu \
         b1.1 s3 v3\", and record 7 at byte 93 is whole and stands behind it; votes of this server may \
         rest on what is lost: it does not vote until a majority of the others has told it what it may \
         have forgotten"
    );
}

/// P40, P41: whichever segments are gone, the rest is read, and the first that is gone is named.
#[test]
fn missing_segments_are_named_and_read_over() {
    let (dir, all) = long_log();
    let places = places(&dir);
    let files = dir.list().unwrap();
    assert!(files.len() > 4, "{files:?}");
    for from in 0..files.len() - 1 {
        for count in 1..files.len() - from {
            let gone = &files[from..from + count];
            let dir = dir.fork();
            for file in gone {
                dir.remove(file).unwrap();
            }
            let recovery = recovered(&dir);
            let missing = Damage::Segment {
                file: gone[0].clone(),
                witness: files[from + count].clone(),
            };
            assert_eq!(recovery.damage, [missing]);
            let records = places.iter().filter(|p| !p.begins);
            let left = records.zip(&all).filter(|(p, _)| !gone.contains(&p.file));
            let left: Vec<Record> = left.map(|(_, record)| record.clone()).collect();
            let found = &recovery.records;
            // What a segment carries on comes to light where those before it are gone.
            let found = found.iter().filter(|r| !matches!(r, Record::Promise(_)));
            assert_eq!(found.cloned().collect::<Vec<_>>(), and_lost(&left));
            assert_eq!(
                recovery.records.len(),
                left.len() + 1 + usize::from(from == 0)
            );
        }
    }
}

/// P41: a directory whose log is gone is not that of a new server.
#[test]
fn a_log_that_is_gone_begins_again_as_one_that_has_lost_its_memory() {
    let dir = MemDir::new();
    dir.put_file("spare", b"half a segment");
    let recovery = recovered(&dir);
    assert_eq!(recovery.records, [Record::Lost]);
    assert_eq!(recovery.damage, [Damage::Gone { dir: String::new() }]);
    for failing in 1.. {
        let dir = MemDir::new();
        dir.fail_step(failing);
        if Log::open(dir.clone(), TINY).is_ok() {
            assert!(failing > 4);
            break;
        }
        for names in 0..=dir.unsynced_names() {
            let crashed = dir.after_crash(names, |_| true);
            assert_eq!(recovered(&crashed).records, [Record::Lost]);
        }
    }
}

/// P21, P40: a crash at any step of writing down the loss leaves damage that is new, or known.
#[test]
fn a_crash_while_damage_is_written_down_forgets_no_damage() {
    let (damaged, all) = long_log();
    let mut bytes = damaged.read("log-00000002").unwrap();
    bytes[80] ^= 1;
    damaged.put_file("log-00000002", &bytes);
    let records = recovered(&damaged).records;
    assert_eq!(records.len(), all.len());
    let mut crashes = 0;
    for failing in 1.. {
        let dir = damaged.fork();
        dir.fail_step(failing);
        let done = Log::open(dir.clone(), TINY).is_ok();
        for names in 0..=dir.unsynced_names() {
            for kept in [false, true] {
                let restarted = dir.after_crash(names, |_| kept);
                assert_eq!(recovered(&restarted).records, records);
                crashes += 1;
            }
        }
        if done {
            break;
        }
    }
    assert!(crashes > 8, "{crashes}");
}

/// P40: the second damage is new though the first is known, wherever it strikes.
#[test]
fn damage_after_damage_is_new_again() {
    let (dir, all) = long_log();
    let flip = |dir: &MemDir, place: &Place| {
        let mut bytes = dir.read(&place.file).unwrap();
        bytes[place.offset + place.bytes - 2] ^= 1;
        dir.put_file(&place.file, &bytes);
    };
    let first = places(&dir).into_iter().find(|p| p.seq == 7).unwrap();
    flip(&dir, &first);
    let (mut log, _) = open(&dir, TINY);
    for n in 100..110 {
        commit(&mut log, &[accept(n)]);
    }
    let before = log.read_all().unwrap();
    drop(log);
    assert_eq!(before.len(), all.len() + 10);
    let places = places(&dir);
    let last_group = places.last().unwrap().group;
    let mut seen = 0;
    for place in places.iter().filter(|p| p.group != last_group || p.begins) {
        let dir = dir.fork();
        flip(&dir, place);
        let recovery = recovered(&dir);
        assert!(!recovery.damage.is_empty(), "{place:?}");
        assert_eq!(recovery.records.last(), Some(&Record::Lost));
        let lost = usize::from(!place.begins);
        let found = recovery.records.len() - 1;
        // The `lost` of the first damage may be what the second one took.
        assert!(
            (before.len() - 1 - lost..=before.len() - lost).contains(&found),
            "{place:?}"
        );
        seen += 1;
    }
    assert!(seen > 30);
}

/// I2: what a worn disk shows again after its loss does not take a promise back.
#[test]
fn a_record_that_comes_back_harms_nothing() {
    let promise = |round| Record::Promise(Ballot::new(round, NodeId::new(1).unwrap()));
    let dir = MemDir::new();
    let mut log = new_log(&dir, Options::default());
    commit(&mut log, &[promise(9)]);
    commit(&mut log, &[accept(1)]);
    let sound = dir.read("log-00000001").unwrap();
    let mut bad = sound.clone();
    bad[40] ^= 1;
    dir.put_file("log-00000001", &bad);
    let (mut log, recovery) = open(&dir, Options::default());
    assert_eq!(recovery.records, and_lost(&[accept(1)]));
    commit(&mut log, &[promise(5)]);
    dir.put_file("log-00000001", &sound);
    let (_, recovery) = open(&dir, Options::default());
    assert_eq!(recovery.damage, []);
    assert_eq!(recovery.records, [promise(9), accept(1), Record::Lost]);
    crate::paxos::acceptor::Acceptor::recover(&recovery.records);
}

/// I2: a record that no server writes behind those before it is named, left out, and known at the next
/// start; `--check` names it too.
#[test]
fn a_record_that_contradicts_those_before_it_is_damage() {
    let of = |round| Ballot::new(round, NodeId::new(2).unwrap());
    let value = || Value::new(&b"v"[..]).unwrap();
    let before = [
        Record::Sound(Slot::ZERO),
        Record::Accept(of(9), Slot(5), value()),
    ];
    for (wrong, text) in [
        (
            Record::Promise(of(5)),
            "it promises b5.2, and b9.2 was promised before",
        ),
        (
            Record::Accept(Ballot::ZERO, Slot(6), value()),
            "it accepts a value for s6 that nobody proposed",
        ),
        (
            Record::Accept(of(9), Slot::ZERO, value()),
            "it accepts a value of b9.2 for no slot",
        ),
    ] {
        let dir = MemDir::new();
        let mut log = new_log(&dir, TINY);
        commit(&mut log, &before);
        commit(&mut log, &[wrong.clone(), wrong.clone()]);
        commit(&mut log, &[decided(5)]);
        let mut told = Vec::new();
        assert_eq!(
            super::super::check::print_check(&dir, &mut told).unwrap(),
            1
        );
        assert!(String::from_utf8(told).unwrap().contains(text), "{text}");
        let recovery = recovered(&dir);
        let [Damage::Contradiction { found, .. }] = &recovery.damage[..] else {
            panic!("{:?}", recovery.damage);
        };
        assert_eq!(found, text);
        let rest = [&before[..], &[decided(5)]].concat();
        assert_eq!(recovery.records, and_lost(&rest));
        crate::paxos::acceptor::Acceptor::recover(&recovery.records);
        // What comes behind is held against all that was promised.
        let (mut log, _) = open(&dir, TINY);
        commit(&mut log, &[Record::Promise(of(10)), Record::Sound(Slot(5))]);
        commit(&mut log, &[Record::Promise(of(8))]);
        assert_eq!(open(&dir, TINY).1.damage.len(), 1, "news");
    }
}

/// P42: only names in the very form of a segment are read.
#[test]
fn other_files_are_not_read() {
    let (dir, all) = long_log();
    let before = scan::segments(&dir).unwrap();
    for name in [
        "log-1",
        "log-00000000",
        "log-00000099.bak",
        "log-+0000009",
        "log-000000010",
        "LOG-00000009",
    ] {
        dir.put_file(name, b"garbage");
    }
    assert_eq!(scan::segments(&dir).unwrap(), before);
    assert_eq!(recovered(&dir).records, all);
}

#[test]
fn a_segment_in_the_place_of_another_is_damage() {
    let (dir, _) = long_log();
    let (two, three) = (
        dir.read("log-00000002").unwrap(),
        dir.read("log-00000003").unwrap(),
    );
    dir.put_file("log-00000002", &three);
    dir.put_file("log-00000003", &two);
    assert_eq!(only(&recovered(&dir).damage).0, "log-00000002");
}

/// An older copy of a finished segment, as a careless restore would put there.
#[test]
fn an_older_copy_of_a_finished_segment_is_damage() {
    let (dir, _) = long_log();
    let places = places(&dir);
    let last = places.iter().rfind(|p| p.file == "log-00000002").unwrap();
    let mut bytes = dir.read("log-00000002").unwrap();
    bytes[last.offset..].fill(0);
    dir.put_file("log-00000002", &bytes);
    let damage = recovered(&dir).damage;
    assert_eq!(only(&damage), ("log-00000002", last.offset, last.seq));
    let [Damage::Record { found, witness, .. }] = &damage[..] else {
        panic!("{damage:?}");
    };
    assert_eq!(found, "nothing");
    assert_eq!(
        *witness,
        format!("log-00000003 begins with record {}", last.seq + 1)
    );
}

/// What is right but not understood is not passed over: a newer version wrote it.
#[test]
fn a_record_of_a_newer_version_is_refused_and_the_log_left_as_it_is() {
    for (lines, error) in [
        (
            [&b"segment 2 1 0"[..], b"vote b1.1"],
            "log-00000001: cannot read record 2 at byte 30, though its checksum is right: expected \
             start, ballot, promise, accept, decided, learn, peer, trim, untrim, lost or sound, found \"vote\"; was it written by a newer \
             version of quince?",
        ),
        (
            [b"segment 3 1 0", b"start 1"],
            "log-00000001: cannot read record 1 at byte 0, though its checksum is right: expected \
             format version 1 or 2, found \"3\"; was it written by a newer version of quince?",
        ),
    ] {
        let mut bytes = Vec::new();
        for (seq, body) in (1..).zip(lines) {
            line::write(&mut bytes, seq, seq, body);
        }
        let dir = MemDir::new();
        dir.put_file(&segment_name(1), &bytes);
        dir.put_file("spare", b"");
        let steps = dir.steps();
        assert_eq!(refusal(&dir).to_string(), error);
        assert_eq!(dir.steps(), steps);
    }
}

/// A log of the format before this one goes on in this one.
#[test]
fn a_log_of_the_older_format_is_read_and_goes_on() {
    let mut bytes = Vec::new();
    line::write(&mut bytes, 1, 1, b"segment 1 1");
    line::write(&mut bytes, 2, 2, b"start 1");
    let dir = MemDir::new();
    dir.put_file(&segment_name(1), &bytes);
    let (mut log, recovery) = open(&dir, TINY);
    assert_eq!(
        (recovery.records, recovery.damage),
        (vec![Record::Start(1)], vec![])
    );
    commit(&mut log, &accepts(1..=9));
    assert_eq!(
        recovered(&dir).records,
        [&[Record::Start(1)], &accepts(1..=9)[..]].concat()
    );
}

/// A search through garbage takes time in proportion to its length, whatever it looks like.
#[test]
fn a_segment_of_garbage_is_searched_in_one_go() {
    const GARBAGE_BYTES: usize = 8 * 1024 * 1024;
    let mut head = Vec::new();
    line::write(&mut head, 1, 1, b"segment 1 1");
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
        let (_, recovery) = open(&dir, TINY);
        assert_eq!(only(&recovery.damage), ("log-00000001", head.len(), 2));
        assert_eq!(recovery.records, and_lost(&[Record::Start(1)]));
    }
}
