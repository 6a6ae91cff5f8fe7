use super::super::batch::{Batch, any, push_separator, write_command};
use super::super::command::{Command, CommandId, KEY_BYTES_MAX, Write};
use super::*;
use proptest::collection::vec;
use proptest::prelude::*;
use std::collections::BTreeMap;

fn restore(lines: &[Vec<u8>]) -> Result<Store, ParseError> {
    let mut restore = Restore::default();
    for line in lines {
        restore.line(line)?;
    }
    restore.finish()
}

fn lines(store: &Store) -> Vec<Vec<u8>> {
    store.snapshot_lines().collect()
}

fn text(lines: &[Vec<u8>]) -> String {
    String::from_utf8(lines.join(&b'\n')).unwrap()
}

fn filled() -> Store {
    let mut store = Store::new();
    store.apply(
        1,
        &Batch::read(
            br#"at 1700 ; n2.5.1 session ; n2.5.2 session ; n2.5.3 put apple "1 25" ; n2.5.4 once 1 7 cas apple x y ; n2.5.5 set pear x any in 90 ; n2.5.6 persist no"#,
        ),
        |_, _| {},
    );
    store
}

/// The table at the head of this file.
#[test]
fn a_snapshot_reads_by_eye() {
    let store = filled();
    assert_eq!(
        text(&lines(&store)),
        format!(
            "store s1 {:016x} 1700\norigin n2 5 7\nopened 2\nsession 2\n\
             session 1 7 mismatch \"1 25\"\npair apple \"1 25\" s1\npair pear x s1 1790\nend 7",
            store.hash()
        )
    );
}

/// P24: after a snapshot a retry is still a retry, of a session and of an origin.
#[test]
fn retries_after_a_snapshot_apply_no_second_time() {
    let mut store = restore(&lines(&filled())).unwrap();
    assert_eq!(store, filled());
    let mut fates = Vec::new();
    let again = Batch::read(b"n2.5.4 session ; n2.5.7 once 1 7 put apple z");
    store.apply(2, &again, |_, fate| fates.push(format!("{fate:?}")));
    assert_eq!(fates[0], "Repeat");
    assert!(fates[1].contains("Mismatch"), "{}", fates[1]);
}

#[test]
fn a_text_cut_short_or_doubled_is_no_snapshot() {
    let whole = lines(&filled());
    for cut in 0..whole.len() {
        assert!(restore(&whole[..cut]).is_err(), "cut at {cut}");
        let mut without = whole.clone();
        without.remove(cut);
        assert!(restore(&without).is_err(), "without {cut}");
        let mut doubled = whole.clone();
        doubled.insert(cut, whole[cut].clone());
        assert!(restore(&doubled).is_err(), "{cut} twice");
    }
}

/// The batch of these commands, the first that a server handed on since its start `start`.
fn batch(start: u64, commands: &[Command]) -> Batch {
    let mut text = Vec::new();
    for (number, command) in (1..).zip(commands) {
        if number > 1 {
            push_separator(&mut text);
        }
        let id = CommandId {
            origin: 1,
            start,
            number,
        };
        write_command(&mut text, id, command);
    }
    Batch::read(&text)
}

/// Any small state, often with sessions that were used out of the order of their ids.
fn any_store() -> impl Strategy<Value = Store> {
    vec(prop_oneof![any::command(), any::once_of_few()], 0..60).prop_map(|commands| {
        let mut store = Store::new();
        store.apply(1, &batch(1, &commands), |_, _| {});
        store
    })
}

/// All pieces from a place on, each with the place where it began. The places travel as text, as
/// they do between servers.
fn pieces(store: &Store, from: &Place, bytes_max: usize) -> Vec<(String, Vec<Vec<u8>>)> {
    let mut pieces = Vec::new();
    let mut next = Some(from.clone());
    while let Some(place) = next {
        let text = place.to_string();
        assert_eq!(Place::parse(text.as_bytes()).as_ref(), Ok(&place));
        let (lines, after) = store.piece(&place, bytes_max);
        pieces.push((text, lines));
        next = after;
    }
    pieces
}

fn joined(pieces: Vec<(String, Vec<Vec<u8>>)>) -> Vec<Vec<u8>> {
    pieces.into_iter().flat_map(|(_, lines)| lines).collect()
}

proptest! {
    #[test]
    fn every_store_reads_back(store in any_store()) {
        let written = lines(&store);
        let read = restore(&written).unwrap();
        prop_assert_eq!(&lines(&read), &written);
        prop_assert_eq!(read, store);
        prop_assert!(!written.concat().iter().any(u8::is_ascii_control));
    }

    #[test]
    fn pieces_of_every_size_are_the_snapshot(store in any_store(), bytes_max in 0..600_usize) {
        let pieces = pieces(&store, &Place::START, bytes_max);
        for (_, lines) in &pieces {
            let bytes: usize = lines.iter().map(|line| line.len() + 1).sum();
            prop_assert!(lines.len() == 1 || !lines.is_empty() && bytes <= bytes_max);
        }
        for pair in pieces.windows(2) {
            let bytes: usize = pair[0].1.iter().map(|line| line.len() + 1).sum();
            prop_assert!(bytes + pair[1].1[0].len() + 1 > bytes_max, "a piece was cut short");
        }
        let joined = joined(pieces);
        prop_assert_eq!(&joined, &lines(&store));
        prop_assert_eq!(restore(&joined), Ok(store));
    }

    /// A sender may fall silent between two pieces, and another one take over.
    #[test]
    fn a_place_means_the_same_to_every_server(store in any_store(), bytes_max in 0..100_usize) {
        let other = restore(&lines(&store)).unwrap();
        for (place, lines) in pieces(&store, &Place::START, bytes_max) {
            let place = Place::parse(place.as_bytes()).unwrap();
            prop_assert_eq!(other.piece(&place, bytes_max).0, lines);
        }
    }

    /// Places that were made up, or are of another image.
    #[test]
    fn every_place_gives_the_last_lines_of_the_snapshot(
        store in any_store(),
        place in prop_oneof![
            any::<u8>().prop_map(Next::Origin),
            (0..5_u64).prop_map(|id| Next::Session(SessionId(id))),
            any::<u64>().prop_map(|id| Next::Session(SessionId(id))),
            any::bytes(1).prop_map(Next::Pair),
            Just(Next::Opened),
            Just(Next::End),
        ].prop_map(Place),
        bytes_max in 0..100_usize,
    ) {
        let rest = joined(pieces(&store, &place, bytes_max));
        prop_assert!(!rest.is_empty());
        prop_assert!(lines(&store).ends_with(&rest));
    }

    #[test]
    fn no_text_makes_the_reader_of_places_panic(
        verb in prop::sample::select(vec!["", "start", "origin ", "session ", "pair ", "end"]),
        rest in "[a-z0-9 \";\\\\]{0,20}",
    ) {
        if let Ok(place) = Place::parse(format!("{verb}{rest}").as_bytes()) {
            prop_assert_eq!(Place::parse(place.to_string().as_bytes()), Ok(place));
        }
    }

    #[test]
    fn no_line_makes_the_reader_panic(
        head in any::<bool>(),
        verb in prop::sample::select(vec![
            "", "store ", "origin ", "opened ", "session ", "session 1 1 ", "pair ", "end ",
        ]),
        rest in "[a-z0-9 \";]{0,20}",
    ) {
        let mut restore = Restore::default();
        if head {
            restore.line(b"store s17 00c0ffee00c0ffee 0").unwrap();
            restore.line(b"opened 3").unwrap();
        }
        let _ = restore.line(format!("{verb}{rest}").as_bytes());
    }
}

proptest! {
    // Each case changes a map of some hundred keys, so that its tree has levels, hundreds of times.
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// P21: what service does while a snapshot is under way is not in it, and what a snapshot does is
    /// no hindrance to service.
    #[test]
    fn an_image_stays_as_it_is_while_service_goes_on(
        rounds in vec(vec((0..700_u16, 0..4_u8), 1..400), 1..8),
        bytes_max in 0..3_000_usize,
    ) {
        let mut store = Store::new();
        let mut model = BTreeMap::new();
        let mut images = Vec::new();
        for (slot, round) in (1..).zip(&rounds) {
            let commands: Vec<Command> = round
                .iter()
                .map(|&(key, what)| {
                    let key = Bytes::from(format!("key {key}").into_bytes());
                    let value = Bytes::from(format!("{slot}").into_bytes());
                    Command::Write(if what == 0 {
                        model.remove(&key);
                        Write::Delete { key }
                    } else {
                        model.insert(key.clone(), value.clone());
                        Write::Put { key, value }
                    })
                })
                .collect();
            store.apply(slot, &batch(slot, &commands), |_, _| {});
            images.push((store.clone(), lines(&store), model.clone()));
        }
        for (image, lines, model) in images {
            let pairs: Vec<_> = model.into_iter().collect();
            prop_assert_eq!(image.list(b""), pairs);
            let joined = joined(pieces(&image, &Place::START, bytes_max));
            prop_assert_eq!(&joined, &lines);
            prop_assert_eq!(restore(&joined), Ok(image));
        }
    }
}

#[test]
fn places_read_by_eye() {
    let store = restore(&[
        b"store s9 00c0ffee00c0ffee 0".to_vec(),
        b"origin n0 1 1".to_vec(),
        b"origin n2 5 5".to_vec(),
        b"opened 12".to_vec(),
        b"session 12".to_vec(),
        b"session 3".to_vec(),
        b"pair \";\" 1 s1".to_vec(),
        b"pair apple 1 s1".to_vec(),
        "pair \"Öl \\xff\" 1 s9".into(),
        b"end 9".to_vec(),
    ])
    .unwrap();
    let places: Vec<String> = pieces(&store, &Place::START, 0)
        .into_iter()
        .map(|(place, _)| place)
        .collect();
    assert_eq!(
        places,
        [
            "start",
            "origin n0",
            "origin n2",
            "opened",
            "session 12",
            "session 3",
            "pair \";\"",
            "pair apple",
            "pair \"Öl \\xff\"",
            "end",
        ]
    );
}

#[test]
fn a_text_that_no_place_prints_is_refused() {
    let long = format!("pair {}", "k".repeat(KEY_BYTES_MAX + 1));
    for text in [
        "",
        "begin",
        "start 1",
        "origin",
        "origin 2",
        "origin n256",
        "origin n2 5",
        "session",
        "session x",
        "pair",
        "pair \"\"",
        "pair a b",
        "pair ;",
        "end 9",
        &long,
    ] {
        assert!(Place::parse(text.as_bytes()).is_err(), "{text}");
    }
}

/// Sessions alone may stand in any order: it is the order of their use.
#[test]
fn lines_out_of_order_are_no_snapshot() {
    let whole = [
        "store s9 00c0ffee00c0ffee 0",
        "origin n1 1 1",
        "origin n2 5 5",
        "opened 3",
        "session 2",
        "pair a 1 s1",
        "pair ab 1 s1",
        "pair b 1 s1",
        "end 8",
    ]
    .map(|line| line.as_bytes().to_vec());
    assert_eq!(lines(&restore(&whole).unwrap()), whole);
    for first in 0..whole.len() {
        for second in first + 1..whole.len() {
            let mut swapped = whole.clone();
            swapped.swap(first, second);
            assert!(restore(&swapped).is_err(), "{first} and {second} swapped");
        }
    }
    let mut twice = whole.to_vec();
    twice.insert(6, b"pair a 2 s1".to_vec());
    let mut reader = Restore::default();
    assert_eq!(
        twice
            .iter()
            .find_map(|line| reader.line(line).err())
            .unwrap()
            .to_string(),
        r#"expected each key once, in byte order, found "a""#
    );
}

/// Whoever takes a snapshot over the wire learns from the first line whether it is of use.
#[test]
fn the_slot_is_known_from_the_first_line_on() {
    let mut restore = Restore::default();
    assert_eq!(restore.applied(), None);
    assert!(restore.line(b"opened 0").is_err());
    assert_eq!(restore.applied(), None);
    restore.line(b"store s17 00c0ffee00c0ffee 0").unwrap();
    assert_eq!(restore.applied(), Some(17));
    restore.line(b"opened 0").unwrap();
    restore.line(b"end 2").unwrap();
    assert_eq!(restore.applied(), Some(17));
    assert_eq!(restore.finish().unwrap().applied(), 17);
}

#[test]
fn counts_that_leave_no_room_are_refused() {
    let mut restore = Restore::default();
    assert!(
        restore
            .line(b"store s18446744073709551615 00c0ffee00c0ffee 0")
            .is_err()
    );
    restore
        .line(b"store s1152921504606846976 00c0ffee00c0ffee 0")
        .unwrap();
    assert!(restore.line(b"opened 18446744073709551615").is_err());
    restore.line(b"opened 1152921504606846976").unwrap();
    restore.line(b"end 2").unwrap();
    let mut store = restore.finish().unwrap();
    let mut fates = Vec::new();
    let slot = store.applied() + 1;
    store.apply(slot, &Batch::read(b"n1.1.1 session"), |_, fate| {
        fates.push(fate);
    });
    assert_eq!(fates.len(), 1);
}

/// A life that begins at a stamp ends after both; no later end was ever made.
#[test]
fn an_end_that_no_life_comes_to_is_refused() {
    let reads = |end: u64| {
        let mut restore = Restore::default();
        for line in ["store s17 00c0ffee00c0ffee 0", "opened 0"] {
            restore.line(line.as_bytes()).unwrap();
        }
        restore
            .line(format!("pair a 1 s1 {end}").as_bytes())
            .is_ok()
    };
    assert!(reads(9_223_372_036_854_775_807));
    assert!(!reads(9_223_372_036_854_775_808));
    assert!(!reads(u64::MAX));
}

/// Whoever looks into a broken snapshot is told which lines could have come.
#[test]
fn a_line_out_of_turn_is_told_what_may_stand_there() {
    let mut restore = Restore::default();
    for (line, expected) in [
        ("store s17 00c0ffee00c0ffee 0", "store"),
        ("opened 3", "origin or opened"),
        ("session 1", "session, pair or end"),
        ("pair a 1 s1", "session, pair or end"),
        ("end 4", "pair or end"),
        ("", "nothing after the end of a snapshot"),
    ] {
        assert_eq!(
            restore.line(b"rubbish").unwrap_err().to_string(),
            format!("expected {expected}, found \"rubbish\"")
        );
        if !line.is_empty() {
            restore.line(line.as_bytes()).unwrap();
        }
    }
}

#[test]
fn a_hash_is_16_hex_digits() {
    for hash in [
        "00c0ffee00c0ffe",
        "000c0ffee00c0ffee",
        "+0c0ffee00c0ffee",
        "+00c0ffee00c0ffee",
        "00c0ffee00c0ffex",
    ] {
        let error = Restore::default().line(format!("store s17 {hash} 0").as_bytes());
        assert_eq!(
            error.unwrap_err().to_string(),
            format!("expected a hash of 16 hex digits, found \"{hash}\"")
        );
    }
}

#[test]
fn sessions_that_cannot_be_are_refused() {
    let mut restore = Restore::default();
    restore.line(b"store s17 00c0ffee00c0ffee 0").unwrap();
    restore.line(b"opened 3").unwrap();
    assert_eq!(
        restore.line(b"session 4").unwrap_err().to_string(),
        r#"expected the id of a session that was opened, once, found "4""#
    );
    assert!(restore.line(b"session 1 1 maybe").is_err());
    assert!(restore.finish().is_err());
}
