use super::super::batch::{any, push_separator, write_command, write_stamp};
use super::super::change::{NO_INTEGER, OUT_OF_RANGE};
use super::super::command::{
    Deadline, END_MAX, ExpireIf, Lifetime, Presence, SessionId, VALUE_BYTES_MAX, Watched, Write,
};
use super::*;
use proptest::collection::vec;
use proptest::prelude::*;

/// Applies one batch to the next slot and returns the fates.
fn apply(store: &mut Store, text: &str) -> Vec<Fate> {
    let mut fates = Vec::new();
    let batch = Batch::read(text.as_bytes());
    assert_eq!(batch.error(), None, "{text}");
    store.apply(store.applied() + 1, &batch, |_, fate| fates.push(fate));
    fates
}

/// The outcomes of commands that all apply, numbered from 1 by server 1.
fn outcomes(commands: &[&str]) -> Vec<Outcome> {
    let batch: Vec<String> = (1..)
        .zip(commands)
        .map(|(number, command)| format!("n1.1.{number} {command}"))
        .collect();
    apply(&mut Store::new(), &batch.join(" ; "))
        .into_iter()
        .map(|fate| match fate {
            Fate::Applied(outcome) => outcome,
            other => panic!("{other:?}"),
        })
        .collect()
}

fn ok() -> Fate {
    Fate::Applied(Outcome::Ok)
}

fn value(text: &str) -> Bytes {
    text.as_bytes().into()
}

#[test]
fn every_command_comes_to_its_outcomes() {
    use Outcome::{Mismatch, NotFound, Number, Ok, Session};
    assert_eq!(
        outcomes(&[
            "delete k",
            "cas k a b",
            "put k a",
            "cas k b c",
            "cas k a b",
            "delete k",
            "incr n -5",
            "session",
            "session",
        ]),
        [
            NotFound,
            NotFound,
            Ok,
            Mismatch(value("a")),
            Ok,
            Ok,
            Number(-5),
            Session(SessionId(1)),
            Session(SessionId(2)),
        ]
    );
}

#[test]
fn incr_adds_to_the_integers_it_writes_and_to_no_other_text() {
    for (text, sum) in [
        ("0", Some(1)),
        ("-1", Some(0)),
        ("41", Some(42)),
        ("-9223372036854775808", Some(i64::MIN + 1)),
        ("9223372036854775806", Some(i64::MAX)),
    ] {
        let put = format!("put k {text}");
        assert_eq!(
            outcomes(&[&put, "incr k 1"]).pop(),
            sum.map(Outcome::Number),
            "{text}"
        );
    }
    for text in [
        "+5",
        "05",
        "007",
        "-0",
        "-",
        "-05",
        "--1",
        "\"\"",
        "\" 1\"",
        "\"1 \"",
        "1.0",
        "1e3",
        "x",
        "0x10",
        "9223372036854775808",
        "\"1\\n\"",
    ] {
        let put = format!("put k {text}");
        assert_eq!(
            outcomes(&[&put, "incr k 1"]).pop(),
            Some(Outcome::NotANumber(NO_INTEGER)),
            "{text}"
        );
    }
}

#[test]
fn an_overflow_changes_nothing() {
    let mut store = Store::new();
    for (number, (at, by)) in (0..).zip([(i64::MAX, 1), (i64::MIN, -1)]) {
        let put = 2 * number + 1;
        let text = format!("n1.1.{put} put k {at} ; n1.1.{} incr k {by}", put + 1);
        assert_eq!(
            apply(&mut store, &text)[1],
            Fate::Applied(Outcome::NotANumber(OUT_OF_RANGE))
        );
        assert_eq!(store.get(b"k"), Some(value(&at.to_string())));
    }
}

/// The bound on values holds for what grows them too, and what is refused changes nothing.
#[test]
fn a_value_grows_to_its_bound_and_no_further() {
    let longest = "v".repeat(VALUE_BYTES_MAX - 2);
    let came_to = outcomes(&[
        &format!("put k {longest}"),
        "append k abc",
        "append k abcd",
        "append k ab",
        "append k \"\"",
        "append k a",
        "setrange k 1048574 ab",
        "setrange k 1048575 ab",
        "setrange k 1048576 a",
        "setrange k 18446744073709551615 a",
        "setrange k 18446744073709551615 \"\"",
        "append k a",
    ]);
    let full = Outcome::Number(1_048_576);
    let too_long = Outcome::TooLong;
    assert_eq!(
        came_to[1..],
        [
            too_long.clone(),
            too_long.clone(),
            full.clone(),
            full.clone(),
            too_long.clone(),
            full.clone(),
            too_long.clone(),
            too_long.clone(),
            too_long.clone(),
            full,
            too_long,
        ]
    );
}

/// An end that stays where it is has become neither later nor sooner.
#[test]
fn the_same_end_is_neither_later_nor_sooner() {
    let (ok, unmet) = (Outcome::Ok, Outcome::Unmet);
    assert_eq!(
        outcomes(&[
            "set k v any at 50",
            "expire k in 50 later",
            "expire k in 50 sooner",
            "expire k in 51 later",
            "expire k in 50 sooner",
            // Without an end it stays longest.
            "persist k",
            "expire k at 9223372036854775807 later",
            "expire k at 9223372036854775807 sooner",
        ]),
        [
            ok.clone(),
            unmet.clone(),
            unmet.clone(),
            ok.clone(),
            ok.clone(),
            ok.clone(),
            unmet,
            ok,
        ]
    );
}

/// The longest life ends at the latest end, and the time is that of the batch, wherever a step stands.
#[test]
fn a_life_that_would_end_too_late_ends_last_and_the_time_is_the_stamp() {
    let mut store = Store::new();
    let mut fates = Vec::new();
    let texts = [
        "at 1000 ; n1.1.1 put k v ; n1.1.2 expire k in 9223372036854775807 any",
        "n1.1.3 exec 0 2 ttl k time",
        "at 1234 ; n1.1.4 exec 0 2 time ttl k",
        "at 1152921504606846976 ; n1.1.5 exec 0 1 time",
    ];
    for (slot, text) in (1..).zip(texts) {
        store.apply(slot, &Batch::read(text.as_bytes()), |_, fate| {
            fates.push(fate);
        });
    }
    let steps = |steps: &[Outcome]| Fate::Applied(Outcome::Steps(steps.to_vec()));
    let left = |time: u64| Outcome::Remaining(Some(END_MAX - time));
    assert_eq!(
        fates[2..],
        [
            steps(&[left(1_000), Outcome::Number(1_000)]),
            steps(&[Outcome::Number(1_234), left(1_234)]),
            steps(&[Outcome::Number(1_152_921_504_606_846_976)]),
        ]
    );
}

/// What a transaction tells waits in one reply: beyond the bound a step tells no value more.
#[test]
fn a_transaction_tells_so_many_bytes_of_values_and_no_more() {
    let value = "v".repeat(VALUE_BYTES_MAX);
    let gets = "get k ".repeat(64);
    let came_to = outcomes(&[
        &format!("put k {value}"),
        "put l w",
        "put none \"\"",
        &format!("exec 0 69 {gets}get none get l get k cas l x y size"),
    ])
    .pop();
    let Some(Outcome::Steps(steps)) = came_to else {
        panic!("{came_to:?}")
    };
    assert!(
        steps[..64]
            .iter()
            .all(|step| *step == Outcome::Value(value.as_bytes().into()))
    );
    assert_eq!(
        steps[64..],
        [
            Outcome::Value(Bytes::default()),
            Outcome::TooLong,
            Outcome::TooLong,
            Outcome::TooLong,
            Outcome::Number(3),
        ]
    );
}

/// Keys that end together are gone together, though only so many are removed in one slot.
#[test]
fn keys_that_are_over_are_gone_before_they_are_removed() {
    let mut store = Store::new();
    let sets: Vec<String> = (1..=1_002)
        .map(|n| format!("n1.1.{n} set k{n:04} v any at 50"))
        .collect();
    apply(
        &mut store,
        &format!("{} ; n1.1.1003 put stays v", sets.join(" ; ")),
    );
    assert_eq!((store.len(), store.mortal()), (1_003, 1_002));
    assert_eq!(store.get(b"k1001"), Some(value("v")));
    assert_eq!(store.version(b"k1001"), Some(1));
    assert_eq!(store.remaining(b"k1001", 7), Some(Some(43)));
    // The whole of the millisecond that it ends in.
    apply(&mut store, "at 50");
    assert_eq!(store.get(b"k1001"), Some(value("v")));
    assert_eq!(store.remaining(b"k1001", 50), Some(Some(1)));
    apply(&mut store, "at 51");
    for key in [&b"k0001"[..], b"k1000", b"k1001", b"k1002"] {
        assert_eq!(store.get(key), None);
        assert_eq!(store.version(key), None);
        assert_eq!(store.remaining(key, 51), None);
    }
    assert_eq!(store.list(b""), [(value("stays"), value("v"))]);
    assert_eq!((store.len(), store.mortal()), (3, 2));
    assert_eq!(store.first_end(), Some(50));
    // One that waits for its removal is not there for commands either.
    assert_eq!(
        apply(
            &mut store,
            "n1.1.1004 delete k1001 ; n1.1.1005 incr k1002 1"
        ),
        [
            Fate::Applied(Outcome::NotFound),
            Fate::Applied(Outcome::Number(1))
        ]
    );
    assert_eq!((store.len(), store.mortal()), (2, 0));
    assert_eq!(store.first_end(), None);
}

/// The stamp has no parts of a millisecond: a life that began late in one must not end early in another.
#[test]
fn a_life_lasts_for_the_whole_of_its_last_millisecond() {
    let mut store = Store::new();
    apply(&mut store, "at 1000 ; n1.1.1 set k v any in 20");
    apply(&mut store, "at 1020");
    // Whatever leaves the end as it is leaves the rest of the life, too.
    for (number, write) in (2..).zip([
        "set k 1 any kept",
        "incr k 1",
        "append k 0",
        "cas k 20 21",
        "setrange k 0 3",
    ]) {
        apply(&mut store, &format!("n1.1.{number} {write}"));
        assert!(store.get(b"k").is_some(), "{write}");
    }
    assert_eq!(store.get(b"k"), Some(value("31")));
    assert_eq!((store.len(), store.first_end()), (1, Some(1_020)));
    apply(&mut store, "at 1021");
    assert_eq!(store.get(b"k"), None);
    assert!(store.is_empty());
}

/// Whoever asks for an end of now, or before, asks for no rest of a millisecond.
#[test]
fn an_end_that_has_come_removes_at_once() {
    for end in ["in 0", "at 1000", "at 999", "at 0"] {
        for write in ["expire k {} any", "set k w any {}"] {
            let write = write.replace("{}", end);
            let mut store = Store::new();
            let batch = format!("at 1000 ; n1.1.1 set k v any in 20 ; n1.1.2 {write}");
            assert_eq!(apply(&mut store, &batch), [ok(), ok()]);
            assert!(store.is_empty(), "{write}");
            assert_eq!(store.mortal(), 0);
        }
    }
}

/// D14: a list is one state of the map, in byte order.
#[test]
fn a_list_holds_the_keys_of_a_prefix_in_byte_order() {
    let mut store = Store::new();
    apply(
        &mut store,
        r#"n1.1.1 put b 1 ; n1.1.2 put a 2 ; n1.1.3 put ab 3 ; n1.1.4 put "\xff" 4 ; n1.1.5 put aB 5"#,
    );
    let keys = |prefix: &[u8]| -> Vec<Vec<u8>> {
        let pairs = store.list(prefix);
        pairs.iter().map(|(key, _)| key.to_vec()).collect()
    };
    assert_eq!(keys(b""), [&b"a"[..], b"aB", b"ab", b"b", b"\xff"]);
    assert_eq!(keys(b"a"), [&b"a"[..], b"aB", b"ab"]);
    assert_eq!(keys(b"\xff"), [b"\xff"]);
    assert!(keys(b"c").is_empty());
    assert_eq!((store.len(), store.is_empty()), (5, false));
    assert_eq!(store.list(b"ab"), [(value("ab"), value("3"))]);
}

/// One counter per origin: the next number applies, a lower one is a repeat, a higher one waits.
/// P18, P50: a command that two leaders proposed, in two slots, applies once.
#[test]
fn a_command_of_an_origin_applies_once_and_in_order() {
    let mut store = Store::new();
    assert_eq!(
        apply(&mut store, "n2.5.1 incr k 1"),
        [Fate::Applied(Outcome::Number(1))]
    );
    assert_eq!(apply(&mut store, "n2.5.1 incr k 1"), [Fate::Repeat]);
    assert_eq!(
        apply(
            &mut store,
            "n2.5.3 put k c ; n2.5.2 put k b ; n2.5.2 put k b ; n2.5.3 put k c"
        ),
        [Fate::Skipped { expected: 2 }, ok(), Fate::Repeat, ok()]
    );
    assert_eq!(store.get(b"k"), Some(value("c")));
    assert_eq!(store.counter(2), Counter { start: 5, next: 4 });
}

#[test]
fn origins_count_apart() {
    let mut store = Store::new();
    assert_eq!(
        apply(
            &mut store,
            "n1.1.1 put k a ; n2.1.1 put k b ; n2.1.2 put k c ; n1.1.2 put k d"
        ),
        [ok(), ok(), ok(), ok()]
    );
    assert_eq!(store.counter(3), Counter { start: 0, next: 1 });
}

/// One counter per origin: what an origin handed on before it stopped is void once the log shows
/// its next start.
#[test]
fn a_newer_start_makes_older_ones_void() {
    let mut store = Store::new();
    assert_eq!(
        apply(
            &mut store,
            "n2.5.1 put k a ; n2.6.2 put k b ; n2.5.2 put k c ; n2.6.1 put k d ; n2.6.2 put k b"
        ),
        [
            ok(),
            Fate::Skipped { expected: 1 },
            Fate::Repeat,
            ok(),
            ok()
        ]
    );
    assert_eq!(store.get(b"k"), Some(value("b")));
}

/// D12, P45: a client's retry, by whichever server, gets the first outcome; a newer value stays.
#[test]
fn a_retry_in_a_session_brings_no_old_value_back() {
    let mut store = Store::new();
    assert_eq!(
        apply(
            &mut store,
            "n1.1.1 session ; n1.1.2 once 1 1 put k a ; n2.1.1 put k b ; n3.1.1 once 1 1 put k a"
        )[1..],
        [ok(), ok(), ok()]
    );
    assert_eq!(store.get(b"k"), Some(value("b")));
    assert_eq!(
        apply(
            &mut store,
            "n1.1.3 once 9 1 put k x ; n1.1.4 once 1 3 delete k ; n1.1.5 once 1 2 put k x"
        ),
        [
            Fate::Applied(Outcome::NoSession),
            ok(),
            Fate::Applied(Outcome::StaleSeq(3))
        ]
    );
    assert_eq!(store.get(b"k"), None);
}

/// What `STATUS` counts.
#[test]
fn a_store_tells_how_many_keys_and_sessions_it_has() {
    let mut store = Store::new();
    assert!(store.is_empty() && store.sessions().is_empty());
    apply(&mut store, "n1.1.1 put k a ; n1.1.2 session");
    assert_eq!((store.len(), store.is_empty()), (1, false));
    assert_eq!(store.sessions().len(), 1);
}

#[test]
fn a_slot_that_changes_nothing_still_counts() {
    let mut store = Store::new();
    let before = store.hash();
    store.apply(1, &Batch::empty(), |_, _| panic!("there was no command"));
    assert_eq!(store.applied(), 1);
    assert_ne!(store.hash(), before);
}

/// I5: the same unreadable text is nothing on every server, and still moves slot and hash.
#[test]
fn an_unreadable_text_is_applied_as_nothing() {
    let mut stores = [Store::new(), Store::new()];
    for store in &mut stores {
        let batch = Batch::read(b"n1.1.1 put k v ; rubbish");
        store.apply(1, &batch, |_, _| panic!("there was no command"));
    }
    assert_eq!(stores[0], stores[1]);
    assert_eq!((stores[0].len(), stores[0].applied()), (0, 1));
    assert_eq!(stores[0].counter(1), Counter::default());
}

/// P19: a learner that skips a slot, or applies one twice, stops here.
#[test]
#[should_panic(expected = "I5: s3 applied right after s1")]
fn a_gap_in_the_slots_is_a_broken_invariant() {
    let mut store = Store::new();
    store.apply(1, &Batch::empty(), |_, _| {});
    store.apply(3, &Batch::empty(), |_, _| {});
}

/// P26: the hash is the same on every machine and for ever.
#[test]
fn a_known_log_has_a_known_hash() {
    let mut store = Store::new();
    apply(
        &mut store,
        "n2.5.1 session ; n2.5.2 put apple 1.25 ; n2.5.3 once 1 1 cas apple x y ; n2.5.4 incr n -5",
    );
    store.apply(2, &Batch::empty(), |_, _| {});
    apply(
        &mut store,
        "n2.5.4 incr n -5 ; n2.5.9 session ; n2.5.5 once 1 1 delete apple ; n2.5.6 incr apple 1",
    );
    assert_eq!(format!("{:016x}", store.hash()), "1879a38ede8c2b78");
}

/// P26: servers that came to different outcomes differ in their hash, though their logs agree.
#[test]
fn a_divergence_in_outcomes_shows_in_the_hash() {
    let hash_after = |first: &str| {
        let mut store = Store::new();
        apply(&mut store, first);
        store.hash = Hash::START;
        apply(&mut store, "n1.1.2 cas k a b ; n1.1.3 incr n 1");
        store.hash()
    };
    let hashes = [
        "put k a", "put k c", "put k d", "put n 1", "put n x", "put n 2",
    ]
    .map(|first| hash_after(&format!("n1.1.1 {first}")));
    for (at, hash) in hashes.iter().enumerate() {
        assert!(!hashes[..at].contains(hash), "{at}: {hashes:x?}");
    }
}

/// P26: so do servers whose keys ended otherwise.
#[test]
fn a_divergence_in_what_is_removed_or_told_shows_in_the_hash() {
    let hash_after = |first: &str| {
        let mut store = Store::new();
        apply(&mut store, first);
        store.hash = Hash::START;
        apply(&mut store, "at 10 ; n1.1.3 exec 0 1 incr n 1");
        store.hash()
    };
    let hashes = [
        "put n 1 ; n1.1.2 put k v",
        "put n 2 ; n1.1.2 put k v",
        "put n x ; n1.1.2 put k v",
        "put n 1 ; n1.1.2 set k v any in 9",
        "set n 0 any in 9 ; n1.1.2 set k v any in 9",
    ]
    .map(|first| hash_after(&format!("n1.1.1 {first}")));
    for (at, hash) in hashes.iter().enumerate() {
        assert!(!hashes[..at].contains(hash), "{at}: {hashes:x?}");
    }
}

/// A value, the slot that changed it last, and its end.
#[derive(Clone)]
struct Held(Bytes, u64, Option<u64>);

/// The store as a beginner would write it: lists searched from one end.
#[derive(Default)]
struct Model {
    map: Vec<(Bytes, Held)>,
    slot: u64,
    time: u64,
    /// Every command that applied, by origin and start.
    seen: Vec<CommandId>,
    opened: u64,
    /// Every run of a session.
    runs: Vec<(u64, u64, Outcome)>,
}

impl Model {
    fn apply(&mut self, id: CommandId, command: &Command) -> Fate {
        let newest = self.seen.iter().filter(|seen| seen.origin == id.origin);
        if newest.clone().any(|seen| seen.start > id.start) {
            return Fate::Repeat;
        }
        // A number 0 stands for "this start was seen".
        self.seen.push(CommandId { number: 0, ..id });
        if self.seen.contains(&id) {
            return Fate::Repeat;
        }
        let before = CommandId {
            number: id.number - 1,
            ..id
        };
        if !self.seen.contains(&before) {
            let mut expected = 1;
            while self.seen.contains(&CommandId {
                number: expected,
                ..id
            }) {
                expected += 1;
            }
            return Fate::Skipped { expected };
        }
        self.seen.push(id);
        Fate::Applied(self.run(command))
    }

    fn run(&mut self, command: &Command) -> Outcome {
        match command {
            Command::Session => {
                self.opened += 1;
                Outcome::Session(SessionId(self.opened))
            }
            Command::Write(write) => self.write(write),
            Command::Exec(transaction) => {
                let Transaction { watched, steps } = &**transaction;
                let same = |Watched { key, version }: &Watched| {
                    self.held(key).map(|Held(_, slot, _)| slot) == *version
                };
                if !watched.iter().all(same) {
                    return Outcome::Changed;
                }
                Outcome::Steps(steps.iter().map(|step| self.step(step)).collect())
            }
            Command::Once {
                session: SessionId(session),
                seq,
                write,
            } => {
                if *session == 0 || *session > self.opened {
                    return Outcome::NoSession;
                }
                let last = self.runs.iter().rfind(|(id, _, _)| id == session);
                match last {
                    Some((_, last, outcome)) if last == seq => outcome.clone(),
                    Some((_, last, _)) if last > seq => Outcome::StaleSeq(*last),
                    _ => {
                        let outcome = self.write(write);
                        self.runs.push((*session, *seq, outcome.clone()));
                        outcome
                    }
                }
            }
        }
    }

    fn begin(&mut self, slot: u64, stamp: Option<u64>) {
        self.slot = slot;
        self.time = self.time.max(stamp.unwrap_or(0));
        let time = self.time;
        self.map
            .retain(|(_, Held(_, _, end))| end.is_none_or(|end| end >= time));
    }

    fn held(&self, key: &Bytes) -> Option<Held> {
        let pair = self.map.iter().find(|(found, _)| found == key)?;
        Some(pair.1.clone())
    }

    fn put(&mut self, key: &Bytes, value: Bytes, end: Option<u64>) -> Outcome {
        self.map.retain(|(found, _)| found != key);
        self.map.push((key.clone(), Held(value, self.slot, end)));
        Outcome::Ok
    }

    fn put_until(&mut self, key: &Bytes, value: Bytes, end: u64) -> Outcome {
        self.put(key, value, Some(end));
        if end <= self.time {
            self.map.pop();
        }
        Outcome::Ok
    }

    fn until(&self, deadline: Deadline) -> u64 {
        match deadline {
            Deadline::In(millis) => (self.time + millis).min(END_MAX),
            Deadline::At(time) => time,
        }
    }

    fn step(&mut self, step: &Step) -> Outcome {
        match step {
            Step::Write(write) => self.write(write),
            Step::Get { key } => match self.held(key) {
                Some(Held(value, ..)) => Outcome::Value(value),
                None => Outcome::NotFound,
            },
            Step::Ttl { key } => match self.held(key) {
                Some(Held(_, _, end)) => {
                    Outcome::Remaining(end.map(|end| (end - self.time).max(1)))
                }
                None => Outcome::NotFound,
            },
            Step::Size => Outcome::Number(i64::try_from(self.map.len()).unwrap()),
            Step::Time => Outcome::Number(i64::try_from(self.time).unwrap()),
            Step::Clear => {
                self.map.clear();
                Outcome::Ok
            }
        }
    }

    #[allow(clippy::too_many_lines, reason = "a table of all changes")]
    fn write(&mut self, write: &Write) -> Outcome {
        let key = write.key();
        let held = self.held(key);
        let end = held.as_ref().and_then(|Held(_, _, end)| *end);
        let text = held
            .as_ref()
            .map_or_else(|| value(""), |Held(text, ..)| text.clone());
        match (write, held.is_some()) {
            (Write::Put { value, .. }, _) => self.put(key, value.clone(), None),
            (
                Write::Set {
                    value,
                    only,
                    lifetime,
                    ..
                },
                there,
            ) => {
                let met = match only {
                    Presence::Any => true,
                    Presence::Absent => !there,
                    Presence::Present => there,
                };
                if !met {
                    return Outcome::Unmet;
                }
                let value = value.clone();
                match lifetime {
                    Lifetime::Endless => self.put(key, value, None),
                    Lifetime::Kept => self.put(key, value, end),
                    Lifetime::Until(deadline) => self.put_until(key, value, self.until(*deadline)),
                }
            }
            (Write::Append { value, .. }, _) => {
                let longer: Bytes = [&*text, &**value].concat().into();
                let length = longer.len();
                self.put(key, longer, end);
                Outcome::Number(i64::try_from(length).unwrap())
            }
            (Write::SetRange { offset, value, .. }, _) => {
                if value.is_empty() {
                    return Outcome::Number(i64::try_from(text.len()).unwrap());
                }
                let Some(offset) = usize::try_from(*offset)
                    .ok()
                    .filter(|offset| offset + value.len() <= VALUE_BYTES_MAX)
                else {
                    return Outcome::TooLong;
                };
                let mut longer = text.to_vec();
                longer.resize(longer.len().max(offset + value.len()), 0);
                longer.splice(offset..offset + value.len(), value.iter().copied());
                let length = longer.len();
                self.put(key, longer.into(), end);
                Outcome::Number(i64::try_from(length).unwrap())
            }
            (Write::Incr { by, .. }, there) => {
                let text = if there { text } else { value("0") };
                let text = String::from_utf8_lossy(&text).into_owned();
                let Some(current) = text.parse::<i64>().ok().filter(|n| n.to_string() == text)
                else {
                    return Outcome::NotANumber(NO_INTEGER);
                };
                match i64::try_from(i128::from(current) + i128::from(*by)) {
                    Err(_) => Outcome::NotANumber(OUT_OF_RANGE),
                    Ok(sum) => {
                        self.put(key, value(&sum.to_string()), end);
                        Outcome::Number(sum)
                    }
                }
            }
            (_, false) => Outcome::NotFound,
            (Write::Delete { .. }, true) => {
                self.map.retain(|(found, _)| found != key);
                Outcome::Ok
            }
            (Write::Cas { expected, new, .. }, true) => {
                if text != *expected {
                    return Outcome::Mismatch(text);
                }
                self.put(key, new.clone(), end)
            }
            (Write::Expire { deadline, only, .. }, true) => {
                let will = self.until(*deadline);
                // What never ends comes after all that does.
                let is = end.unwrap_or(u64::MAX);
                let met = match only {
                    ExpireIf::Any => true,
                    ExpireIf::Endless => end.is_none(),
                    ExpireIf::Mortal => end.is_some(),
                    ExpireIf::Later => will > is,
                    ExpireIf::Sooner => will < is,
                };
                if !met {
                    return Outcome::Unmet;
                }
                self.put_until(key, text, will)
            }
            (Write::Persist { .. }, true) => match end {
                None => Outcome::Unmet,
                Some(_) => self.put(key, text, None),
            },
        }
    }
}

/// Slots of commands of few origins and starts: repeats, gaps and restarts are common.
fn slots() -> impl Strategy<Value = Vec<(Option<u64>, Vec<Numbered>)>> {
    let numbered = (1..3_u8, 0..20_u64, 0..4_u64, any::once_of_few()).prop_map(
        |(origin, start, number, command)| {
            let id = CommandId {
                origin,
                // Mostly the first start.
                start: start.saturating_sub(17) + 1,
                number,
            };
            Numbered { id, command }
        },
    );
    let slot = (prop::option::of(0..60_u64), vec(numbered, 0..6));
    vec(slot, 0..25).prop_map(|mut slots| {
        // Numbers near the ones that come next.
        let mut counts = BTreeMap::new();
        for Numbered { id, .. } in slots.iter_mut().flat_map(|(_, slot)| slot) {
            let next: &mut u64 = counts.entry((id.origin, id.start)).or_insert(1);
            id.number = match id.number {
                0 => next.saturating_sub(1).max(1),
                1 => *next + 1,
                _ => *next,
            };
            if id.number == *next {
                *next += 1;
            }
        }
        slots
    })
}

proptest! {
    /// I5, I7: the store does what the plain model does, and two servers with one log are equal.
    #[test]
    fn the_store_does_what_the_model_does(slots in slots()) {
        let (mut store, mut twin, mut model) = (Store::new(), Store::new(), Model::default());
        for (slot, (stamp, commands)) in (1..).zip(&slots) {
            let mut text = Vec::new();
            if let Some(stamp) = stamp {
                write_stamp(&mut text, *stamp);
            }
            model.begin(slot, *stamp);
            for Numbered { id, command } in commands {
                if !text.is_empty() {
                    push_separator(&mut text);
                }
                write_command(&mut text, *id, command);
            }
            let mut fates = Vec::new();
            store.apply(slot, &Batch::read(&text), |id, fate| fates.push((id, fate)));
            twin.apply(slot, &Batch::read(&text), |_, _| {});
            let expected: Vec<_> = commands
                .iter()
                .map(|Numbered { id, command }| (*id, model.apply(*id, command)))
                .collect();
            prop_assert_eq!(fates, expected);
        }
        let mut pairs: Vec<(Bytes, Bytes)> =
            model.map.iter().map(|(key, held)| (key.clone(), held.0.clone())).collect();
        pairs.sort();
        prop_assert_eq!(store.list(b""), pairs);
        prop_assert_eq!(store.time(), model.time);
        let first = model.map.iter().filter_map(|(_, held)| held.2).min();
        prop_assert_eq!(store.first_end(), first);
        prop_assert_eq!(store.applied(), slots.len() as u64);
        prop_assert_eq!(store, twin);
    }
}
