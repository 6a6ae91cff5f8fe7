//! The gluing, on requests put together by hand and on real lives with one answer changed.

#![allow(
    clippy::unnecessary_wraps,
    reason = "what stands beside a request may be no reply"
)]

use super::*;
use crate::kv::command::{Bytes, Outcome, SessionId, Write};
use crate::paxos::types::Slot;
use crate::sim::{Life, Profile, Settings, live, service};

fn bytes(text: &str) -> Bytes {
    text.as_bytes().into()
}

fn put(key: &str, value: &str) -> Write {
    let (key, value) = (bytes(key), bytes(value));
    Write::Put { key, value }
}

fn plain(key: &str, value: &str) -> Call {
    Call::Command(Command::Write(put(key, value)))
}

/// Seq 1 of session 1.
fn once(key: &str, value: &str) -> Call {
    Call::Command(Command::Once {
        session: SessionId(1),
        seq: 1,
        write: put(key, value),
    })
}

fn get(key: &str) -> Call {
    Call::Get(bytes(key))
}

fn saw(value: &str) -> Option<Reply> {
    Some(Reply::Value(Some(bytes(value))))
}

fn ok() -> Option<Reply> {
    Some(Reply::Answer(Answer::Done(Outcome::Ok)))
}

fn unknown() -> Option<Reply> {
    Some(Reply::Answer(Answer::Unknown("the deadline passed")))
}

/// One after the other, each over before the next begins unless nothing was answered.
fn in_turn(requests: &[(Call, Option<Reply>)]) -> Vec<Operation> {
    let operation = |(at, (call, reply)): (u64, &(Call, Option<Reply>))| Operation {
        client: 0,
        asked: (1, 1),
        call: call.clone(),
        called: (at, 2 * at),
        replied: reply.is_some().then_some((at, 2 * at + 1)),
        reply: reply.clone(),
        floor: Slot::ZERO,
    };
    (1..).zip(requests).map(operation).collect()
}

fn good(requests: &[(Call, Option<Reply>)]) {
    let found = judge(&in_turn(requests), &[]);
    assert!(found.is_ok(), "{}", found.unwrap_err());
}

fn bad(requests: &[(Call, Option<Reply>)]) -> String {
    judge(&in_turn(requests), &[]).expect_err("no order explains it")
}

#[test]
fn a_stale_read_is_drawn() {
    let text = bad(&[
        (plain("k", "v1"), ok()),
        (plain("k", "v2"), ok()),
        (get("k"), saw("v1")),
    ]);
    assert!(
        text.starts_with("not linearizable: key \"k\", by 3 of its 3 operations"),
        "{text}"
    );
    assert!(
        text.contains("GET k -> VALUE v1   <- cannot be") && text.contains("|====|"),
        "{text}"
    );
}

/// D12, P45: a repeat is no second write; what came after the first answer stays.
#[test]
fn a_once_sent_again_is_one_operation_up_to_its_first_answer() {
    let history = |last| {
        [
            (once("k", "v1"), ok()),
            (plain("k", "v2"), ok()),
            (once("k", "v1"), ok()),
            (get("k"), saw(last)),
        ]
    };
    good(&history("v2"));
    bad(&history("v1"));
    // Without an answer to the first try, the write may come as late as the second's answer.
    let mut late = history("v1");
    late[0].1 = None;
    good(&late);
    late[0].1 = unknown();
    good(&late);
    // Nobody ever answered: it may come at any time, but only once.
    let open = (once("k", "v1"), None);
    let reads = |values: [&str; 3]| {
        let mut all = vec![(plain("k", "v0"), ok()), open.clone(), open.clone()];
        all.extend(values.map(|value| (get("k"), saw(value))));
        all
    };
    good(&reads(["v0", "v0", "v1"]));
    bad(&reads(["v0", "v1", "v0"]));
}

/// P46: what is unknown may be done late, and what was refused never.
#[test]
fn unknown_is_open_for_ever_and_not_done_is_never() {
    let history = |reply: Option<Reply>| {
        [
            (plain("k", "v0"), ok()),
            (plain("k", "v1"), reply),
            (get("k"), saw("v0")),
            (get("k"), saw("v1")),
        ]
    };
    good(&history(unknown()));
    good(&history(None));
    let not_done = Reply::Answer(Answer::NotDone("the deadline passed"));
    let text = bad(&history(Some(not_done)));
    assert!(text.contains("that was refused"), "{text}");
}

#[test]
fn local_reads_may_see_anything_old() {
    good(&[
        (plain("k", "v1"), ok()),
        (Call::Local(bytes("k")), Some(Reply::Value(None))),
    ]);
}

#[test]
fn what_a_cluster_begins_with_was_written_by_nobody_else() {
    let nothing = Some(Reply::Value(None));
    let listed = Reply::List(vec![(bytes("apple"), bytes("1.25"))]);
    let reads = in_turn(&[
        (get("apple"), nothing),
        (get("apple"), saw("1.25")),
        (Call::List(bytes("")), Some(listed)),
    ]);
    let preload = service::preload();
    assert!(judge(&reads, &preload).is_ok());
    assert!(judge(&reads, &[]).is_err());
}

/// At one microsecond, too, what was answered before a request was made is over before it begins.
#[test]
fn the_order_within_a_microsecond_counts() {
    let mut operations = in_turn(&[
        (plain("k", "v1"), ok()),
        (plain("k", "v2"), ok()),
        (get("k"), saw("v1")),
    ]);
    for operation in &mut operations {
        operation.called.0 = 7;
        operation.replied.as_mut().expect("all are answered").0 = 7;
    }
    assert!(judge(&operations, &[]).is_err());
    // The read overlaps the second put once it is called before that is answered.
    (operations[1].replied, operations[2].called) = (Some((7, 6)), (7, 5));
    assert!(judge(&operations, &[]).is_ok());
}

/// What is drawn names each operation once, and its times in the simulation's own.
#[test]
fn every_operation_has_a_name_of_its_own_and_its_own_time() {
    let mut operations = in_turn(&[
        (plain("k", "v1"), ok()),
        (plain("k", "v2"), ok()),
        (get("k"), saw("v2")),
    ]);
    operations[2].client = 3;
    let history = history(&operations, &service::preload()[..2]);
    let named = history.operations().iter();
    let named: Vec<_> = named.map(|one| (one.id.client, one.id.number)).collect();
    let filler = CLIENTS as u64 + 1;
    assert_eq!(named, [(filler, 1), (filler, 2), (1, 1), (1, 2), (4, 1)]);
    let last = &history.operations()[4];
    assert_eq!(last.called, 3 * NS);
    assert!(matches!(last.end, End::Reply(at, _) if at == 3 * NS + 1));
}

#[test]
fn a_long_counterexample_keeps_its_head_and_its_reason() {
    let text: Vec<String> = (1..=100).map(|line| format!("line {line}")).collect();
    let cut = bounded(&text.join("\n"));
    let lines: Vec<&str> = cut.lines().collect();
    assert_eq!(lines.len(), LINES_MAX + 1);
    assert_eq!((lines[0], lines[40]), ("line 1", "line 100"));
    assert_eq!(lines[36], "... 60 more lines");
    assert_eq!(bounded("a\n\nb\n"), "a\n\nb");
}

/// Three reads of one key, one after the other, of which the second saw another value than the first.
fn reads_in_a_row(life: &Life) -> Option<[usize; 3]> {
    let reads = || {
        let done = life.operations.iter().enumerate();
        done.filter(|(_, read)| {
            matches!(
                (&read.call, &read.reply),
                (Call::Get(key), Some(Reply::Value(_))) if key[0] != MORTAL
            )
        })
    };
    let after = |one: &Operation, other: &Operation| {
        one.call == other.call && one.replied.is_some_and(|end| end.1 < other.called.1)
    };
    reads().find_map(|(first, a)| {
        let (second, b) = reads().find(|(_, b)| after(a, b) && a.reply != b.reply)?;
        let (third, _) = reads().find(|(_, c)| after(b, c) && a.reply != c.reply)?;
        (a.reply != Some(Reply::Value(None))).then_some([first, second, third])
    })
}

/// A real life in which one read is made to tell an old value. Values are written once, so that none
/// comes back.
#[test]
fn a_life_with_one_stale_read_is_found() {
    let mut doctored = 0;
    for seed in 1..=20 {
        let mut life = live(&Settings::new(seed, Profile::All));
        assert_eq!(life.failure, None, "seed {seed}");
        let Some([first, _, third]) = reads_in_a_row(&life) else {
            continue;
        };
        life.operations[third].reply = life.operations[first].reply.clone();
        let text = judge(&life.operations, &life.preload).expect_err("the read is stale");
        assert!(text.starts_with("not linearizable: key \"k"), "{text}");
        doctored += 1;
    }
    assert!(doctored >= 10, "{doctored} lives could be doctored");
}
