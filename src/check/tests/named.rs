//! Histories with a name: what the checker must let pass, and what it must catch.

use super::super::{Begins, STATES_MAX, check};
use super::{bad, good, history, judge};
use crate::kv::command::VALUE_BYTES_MAX;

#[test]
fn one_after_the_other_is_fine() {
    good(
        "c1 0..1 PUT x 1 -> OK
         c2 2..3 GET x -> VALUE 1
         c1 4..5 CAS x 1 2 -> OK
         c2 6..7 INCR x 3 -> VALUE 5
         c1 8..9 DELETE x -> OK
         c2 10..11 GET x -> NOT_FOUND
         c1 12..13 DELETE x -> NOT_FOUND
         c1 14..15 CAS x 1 2 -> NOT_FOUND
         c1 16..17 INCR x -> VALUE 1
         c1 18..19 CAS x 7 8 -> MISMATCH 1
         c1 20..21 PUT x pear -> OK
         c1 22..23 INCR x -> ERROR NOT_A_NUMBER no",
    );
}

#[test]
fn concurrent_operations_may_take_either_order() {
    for seen in ["1", "2"] {
        good(&format!(
            "c1 0..10 PUT x 1 -> OK
             c2 1..9 PUT x 2 -> OK
             c3 11..12 GET x -> VALUE {seen}"
        ));
    }
}

/// What touches in time counts as concurrent.
#[test]
fn a_call_at_the_very_time_of_an_end_is_concurrent() {
    good(
        "c1 0..5 PUT x 1 -> OK
         c2 5..9 GET x -> NOT_FOUND",
    );
}

/// P28: a leader that no longer leads answers from its old map.
#[test]
fn stale_read() {
    let text = bad("c1 0..1 PUT x 1 -> OK
         c1 2..3 PUT x 2 -> OK
         c2 4..5 GET x -> VALUE 1");
    assert!(text.contains("saw \"1\" of c1.1"), "{text}");
    assert!(text.contains("c1.2 left something else"), "{text}");
}

#[test]
fn stale_read_of_nothing() {
    let text = bad("c1 0..1 PUT x 1 -> OK
         c2 2..3 GET x -> NOT_FOUND");
    assert!(text.contains("found nothing, but c1.1 was over"), "{text}");
}

#[test]
fn a_lost_update() {
    bad("c1 0..9 INCR x -> VALUE 1
         c2 1..8 INCR x -> VALUE 2
         c3 10..11 GET x -> VALUE 1");
}

/// D12, P45: a re-send is applied again.
#[test]
fn an_increment_that_counts_twice() {
    bad("c1 0..9 INCR x -> VALUE 1
         c2 10..11 GET x -> VALUE 2");
}

#[test]
fn two_increments_with_one_answer() {
    bad("c1 0..9 INCR x -> VALUE 1
         c2 1..8 INCR x -> VALUE 1");
}

#[test]
fn two_swaps_of_one_value_cannot_both_win() {
    bad("c1 0..1 PUT x 1 -> OK
         c2 2..9 CAS x 1 2 -> OK
         c3 3..8 CAS x 1 3 -> OK");
    good(
        "c1 0..1 PUT x 1 -> OK
         c2 2..9 CAS x 1 2 -> OK
         c3 3..8 CAS x 1 3 -> MISMATCH 2",
    );
}

/// P46: an error that lies.
#[test]
fn a_refused_write_that_is_read_later() {
    let text = bad("c1 0..1 PUT x 1 -> OK
         c1 2..3 PUT x 2 -> ERROR NOT_DONE no majority
         c2 4..5 GET x -> VALUE 2");
    assert!(
        text.contains("only c1.2 wrote, and that was refused"),
        "{text}"
    );
    assert!(text.contains("refused: must never be seen"), "{text}");
}

#[test]
fn a_refused_delete_that_happened() {
    bad("c1 0..1 PUT x 1 -> OK
         c1 2..3 DELETE x -> ERROR NOT_DONE no majority
         c2 4..5 GET x -> NOT_FOUND");
}

/// P16: what an old leader accepted alone comes back after reads said it is not there.
#[test]
fn a_ghost_write() {
    bad("c1 0..20 PUT x 1 -> OK
         c2 2..3 GET x -> VALUE 1
         c2 4..5 GET x -> NOT_FOUND
         c2 6..7 GET x -> VALUE 1");
}

/// The ghost of a write without an answer: seen, gone and seen again is wrong as well.
#[test]
fn an_open_write_takes_effect_once() {
    bad("c1 0.. PUT x 1
         c3 1..2 PUT x 2 -> OK
         c2 3..4 GET x -> VALUE 1
         c3 5..6 PUT x 3 -> OK
         c2 7..8 GET x -> VALUE 1");
}

/// P53: a value that was accepted but not decided.
#[test]
fn a_dirty_read() {
    bad("c1 0..1 PUT x 1 -> OK
         c2 2.. PUT x 2
         c3 3..4 GET x -> VALUE 2
         c4 5..6 GET x -> VALUE 1");
}

#[test]
fn reads_do_not_go_back_in_time() {
    let text = bad("c1 0..20 PUT x 1 -> OK
         c2 2..3 GET x -> VALUE 1
         c3 4..5 GET x -> NOT_FOUND");
    assert!(text.contains("c3.1"), "{text}");
}

/// A `PUT` that nobody saw was overwritten by another `PUT` or a `DELETE`, not by a `CAS` that found
/// something else.
#[test]
fn a_lost_put() {
    bad("c1 0..1 PUT x 2 -> OK
         c1 10..40 PUT x 1 -> OK
         c2 20..30 CAS x 2 3 -> OK
         c2 50..60 GET x -> VALUE 3");
    good(
        "c1 0..1 PUT x 2 -> OK
         c1 10..40 PUT x 1 -> OK
         c2 20..30 CAS x 2 3 -> OK
         c2 50..60 GET x -> VALUE 1",
    );
}

/// A `PUT` of what the key holds already may have overwritten another one.
#[test]
fn a_put_is_hidden_by_one_of_the_value_before() {
    let lines = "c1 0..1 PUT x 1 -> OK
         c2 10..30 PUT x 2 -> OK
         c1 11..50 PUT x 1 -> OK
         c3 12..13 CAS x 1 3 -> OK
         c3 40..41 GET x -> VALUE 3";
    good(lines);
    // But not both before the CAS and after the GET.
    bad(&format!("{lines}\n c3 60..61 GET x -> VALUE 1"));
}

#[test]
fn a_deleted_key_does_not_rise_again() {
    bad("c1 0..1 PUT x 1 -> OK
         c1 2..3 DELETE x -> OK
         c2 4..5 GET x -> VALUE 1");
}

#[test]
fn one_value_is_deleted_once() {
    bad("c1 0..1 PUT x 1 -> OK
         c1 2..9 DELETE x -> OK
         c2 3..8 DELETE x -> OK");
    good(
        "c1 0..1 PUT x 1 -> OK
         c1 2..9 DELETE x -> OK
         c2 3..8 DELETE x -> OK
         c3 4..7 PUT x 2 -> OK",
    );
}

#[test]
fn an_open_write_may_take_effect_late_early_or_never() {
    let lines = "c1 0.. PUT x 1
         c2 10..11 PUT x 2 -> OK
         c2 12..13 GET x -> VALUE 2";
    good(lines);
    good(&format!("{lines}\n c2 14..15 GET x -> VALUE 1"));
    good(
        "c1 0.. PUT x 1
         c2 10..11 GET x -> VALUE 1
         c2 12..13 GET x -> VALUE 1",
    );
}

#[test]
fn an_open_write_has_no_effect_before_its_call() {
    let text = bad("c2 0..1 GET x -> VALUE 1
         c1 2.. PUT x 1");
    assert!(text.contains("nobody"), "{text}");
}

#[test]
fn unknown_is_open_and_every_other_error_is_definite() {
    good(
        "c1 0..1 PUT x 1 -> ERROR UNKNOWN late
         c2 2..3 GET x -> NOT_FOUND
         c2 4..5 GET x -> VALUE 1",
    );
    for code in [
        "NOT_DONE",
        "BAD_REQUEST",
        "TOO_LONG",
        "STALE_SEQ",
        "NO_SESSION",
        "FORBIDDEN",
    ] {
        bad(&format!(
            "c1 0..1 PUT x 1 -> ERROR {code} text
             c2 4..5 GET x -> VALUE 1"
        ));
    }
}

/// Forty open increments are one class: the search counts them and does not try every subset.
#[test]
fn many_open_increments_are_counted() {
    let open: String = (1..=40).map(|n| format!("c{n} 0.. INCR x\n")).collect();
    good(&format!(
        "{open} c90 5..6 GET x -> VALUE 17\n c90 7..8 GET x -> VALUE 40"
    ));
    bad(&format!("{open} c90 5..6 GET x -> VALUE 41"));
    bad(&format!(
        "{open} c90 5..6 GET x -> VALUE 17\n c90 7..8 GET x -> VALUE 16"
    ));
}

#[test]
fn many_open_writes_cost_nothing_until_one_is_seen() {
    let open: String = (1..=200).map(|n| format!("c{n} 0.. PUT x {n}\n")).collect();
    let mut reads = String::new();
    for n in 1..=200 {
        reads += &format!("c999 {}..{} GET x -> VALUE {n}\n", 10 * n, 10 * n + 5);
    }
    good(&format!("{open}{reads}"));
    bad(&format!("{open}{reads} c999 9000..9001 GET x -> VALUE 7"));
}

/// `ONCE` sent again is one write, open from the first call to the first answer.
#[test]
fn a_write_sent_again_is_one_write() {
    let twice = "c1 0.. ONCE 5 1 INCR x
         c1 10..11 ONCE 5 1 INCR x -> VALUE 1";
    good(&format!("{twice}\n c2 2..3 GET x -> VALUE 1"));
    good(&format!("{twice}\n c2 2..3 GET x -> NOT_FOUND"));
    bad(&format!("{twice}\n c2 12..13 GET x -> VALUE 2"));
    bad(&format!("{twice}\n c1 12..13 ONCE 5 1 INCR x -> VALUE 2"));
    good(&format!("{twice}\n c1 12..13 ONCE 5 2 INCR x -> VALUE 2"));
    // Two servers may say no in different words.
    let refused = "c1 0..1 PUT x pear -> OK
         c1 2..3 ONCE 5 1 INCR x -> ERROR NOT_A_NUMBER it is a pear";
    good(&format!(
        "{refused}\n c1 4..5 ONCE 5 1 INCR x -> ERROR NOT_A_NUMBER no"
    ));
    bad(&format!("{refused}\n c1 4..5 ONCE 5 1 INCR x -> VALUE 1"));
}

#[test]
fn an_answer_of_the_wrong_kind_is_caught() {
    for lines in [
        "c1 0..1 GET x -> OK",
        "c1 0..1 PUT x 1 -> VALUE 1",
        "c1 0..1 INCR x -> VALUE pear",
        "c1 0..1 INCR x -> VALUE 01",
        "c1 0..1 CAS x 1 2 -> MISMATCH 1",
        "c1 0..1 APPEND x a -> OK",
        "c1 0..1 APPEND x a -> VALUE a",
        "c1 0..1 APPEND x ab -> VALUE 1",
        "c1 0..1 APPEND x ab -> VALUE -1",
        "c1 0..1 APPEND x ab -> VALUE 1048577",
        "c1 0..1 APPEND x ab -> NOT_FOUND",
        "c1 0..1 MGET x -> COUNT 0",
        "c1 0..1 MGET x -> OK",
        "c1 0..1 EXPIRE x 1 -> VALUE 1",
        "c1 0..1 TTL x -> OK",
        // The number before it would be past the range.
        "c1 0..1 INCR x -5 -> VALUE 9223372036854775807",
    ] {
        let text = bad(lines);
        assert!(text.contains("no map gives"), "{text}");
    }
}

#[test]
fn a_list_is_a_read_of_what_it_shows_and_of_what_it_does_not() {
    let puts = "c1 0..1 PUT pear 1 -> OK
         c1 2..3 PUT plum 2 -> OK
         c1 2..3 PUT fig 3 -> OK";
    good(&format!("{puts}\n c2 4..5 LIST p -> COUNT 2 pear 1 plum 2"));
    bad(&format!("{puts}\n c2 4..5 LIST p -> COUNT 1 pear 1"));
    // A list that is full says nothing of what is behind its last key, and one that begins later nothing
    // of what is before.
    good(&format!(
        "{puts}\n c2 4..5 LIST p LIMIT 1 -> COUNT 1 pear 1"
    ));
    good(&format!(
        "{puts}\n c2 4..5 LIST p FROM pf -> COUNT 1 plum 2"
    ));
    good(&format!(
        "{puts}\n c2 4..5 LIST p LIMIT 3 -> COUNT 2 pear 1 plum 2"
    ));
    bad(&format!(
        "{puts}\n c2 4..5 LIST p LIMIT 1 -> COUNT 1 plum 2"
    ));
    bad(&format!(
        "{puts}\n c2 4..5 LIST p LIMIT 2 -> COUNT 1 pear 1"
    ));
    bad(&format!(
        "{puts}\n c2 4..5 LIST p FROM pf -> COUNT 2 pear 1 plum 2"
    ));
    bad(&format!("{puts}\n c2 4..5 LIST p FROM pf -> COUNT 0"));
    bad(&format!("{puts}\n c2 4..5 LIST -> COUNT 2 pear 1 plum 2"));
    bad(&format!(
        "{puts}\n c2 4..5 LIST p -> COUNT 3 pear 1 plum 2 pork 1"
    ));
    bad(&format!(
        "{puts}\n c2 4..5 LIST p -> COUNT 3 fig 3 pear 1 plum 2"
    ));
    bad(&format!("{puts}\n c2 4..5 LIST p -> COUNT 2 pear 1 plum 3"));
}

/// The answer tells the length alone; what was there and what was added make the value.
#[test]
fn an_append_leaves_the_old_value_and_its_own() {
    good(
        "c1 0..1 APPEND x ab -> VALUE 2
         c1 2..3 APPEND x c -> VALUE 3
         c2 4..5 GET x -> VALUE abc
         c1 6..7 CAS x abc 1 -> OK
         c1 8..9 APPEND x 0 -> VALUE 2
         c1 10..11 INCR x -> VALUE 11
         c1 12..13 DELETE x -> OK
         c1 14..15 APPEND x \"\" -> VALUE 0
         c2 16..17 GET x -> VALUE \"\"",
    );
    let two = "c1 0..9 APPEND x a -> VALUE 1
         c2 1..8 APPEND x b -> VALUE 2";
    good(&format!("{two}\n c3 10..11 GET x -> VALUE ab"));
    bad(&format!("{two}\n c3 10..11 GET x -> VALUE ba"));
    bad(&format!("{two}\n c3 10..11 GET x -> VALUE b"));
    bad(&format!("{two}\n c3 10..11 GET x -> NOT_FOUND"));
    bad("c1 0..9 APPEND x a -> VALUE 1
         c2 1..8 APPEND x b -> VALUE 1");
    // Of a value that is overwritten only the length was ever seen.
    let overwritten = "c1 0..1 PUT x abc -> OK
         c2 2..9 PUT x d -> OK";
    good(&format!("{overwritten}\n c3 3..8 APPEND x e -> VALUE 4"));
    good(&format!("{overwritten}\n c3 3..8 APPEND x e -> VALUE 2"));
    bad(&format!("{overwritten}\n c3 3..8 APPEND x e -> VALUE 3"));
}

/// By the end of a value and by its length it is known who may have left it.
#[test]
fn who_appended_the_end_of_a_value_is_named() {
    let text = bad("c1 0..1 APPEND x a -> VALUE 1
         c1 2..3 APPEND x b -> VALUE 2
         c1 4..5 PUT x 1 -> OK
         c2 6..7 GET x -> VALUE ab");
    assert!(text.contains("saw \"ab\" of c1.2"), "{text}");
    for seen in ["cd", "b", "dab"] {
        let text = bad(&format!(
            "c1 0..1 APPEND x ab -> VALUE 2
             c2 2..3 GET x -> VALUE {seen}"
        ));
        let nobody = "which nobody ever wrote";
        assert!(text.contains(nobody), "{text}");
    }
}

/// D12, P45, as [`an_increment_that_counts_twice`].
#[test]
fn an_append_that_is_done_twice() {
    bad("c1 0..9 APPEND x ab -> VALUE 2
         c2 10..11 GET x -> VALUE abab");
    let twice = "c1 0.. ONCE 5 1 APPEND x ab
         c1 10..11 ONCE 5 1 APPEND x ab -> VALUE 2";
    good(&format!("{twice}\n c2 12..13 GET x -> VALUE ab"));
    bad(&format!("{twice}\n c2 12..13 GET x -> VALUE abab"));
    bad(&format!(
        "{twice}\n c1 12..13 ONCE 5 1 APPEND x ab -> VALUE 4"
    ));
}

#[test]
fn an_open_append_takes_effect_once_or_never() {
    let open = "c1 0..1 PUT x a -> OK
         c2 2.. APPEND x b";
    for seen in ["a", "ab"] {
        good(&format!("{open}\n c1 4..5 GET x -> VALUE {seen}"));
    }
    bad(&format!("{open}\n c1 4..5 GET x -> VALUE abb"));
    good(&format!(
        "{open}\n c1 4..5 APPEND x c -> VALUE 3\n c1 6..7 GET x -> VALUE abc"
    ));
    bad(&format!(
        "{open}\n c1 4..5 APPEND x c -> VALUE 2\n c1 6..7 GET x -> VALUE abc"
    ));
    bad("c1 0..1 PUT x a -> OK
         c1 2..3 APPEND x b -> ERROR NOT_DONE no majority
         c1 4..5 GET x -> VALUE ab");
}

/// An append without an answer makes a value of an absent key, so what follows may find one.
#[test]
fn an_open_write_that_an_append_built_on_counts() {
    good(
        "c1 0.. PUT x a
         c1 1..2 APPEND x b -> VALUE 2",
    );
    good(
        "c1 0.. APPEND x a
         c1 1..2 DELETE x -> OK",
    );
    bad("c1 0.. APPEND x a
         c1 1..2 DELETE x -> OK
         c1 3..4 DELETE x -> OK");
}

#[test]
fn an_append_is_too_long_only_behind_a_long_value() {
    let long = "v".repeat(VALUE_BYTES_MAX);
    let put = format!("c1 0..1 PUT x {long} -> OK");
    let refused = "APPEND x a -> ERROR TOO_LONG no room";
    good(&format!(
        "{put}\n c1 2..3 {refused}\n c1 4..5 GET x -> VALUE {long}"
    ));
    bad(&format!("{put}\n c1 2..3 APPEND x a -> VALUE 1048577"));
    bad(&format!(
        "{put}\n c1 2..3 APPEND x \"\" -> ERROR TOO_LONG no room"
    ));
    bad(&format!("c1 0..1 {refused}"));
    bad(&format!("c1 0..1 PUT x pear -> OK\n c1 2..3 {refused}"));
    // Nobody knows whether it found room.
    good(&format!(
        "{put}\n c2 2.. APPEND x a\n c1 4..5 GET x -> VALUE {long}"
    ));
}

/// The values that open appends may have left are many; those that can be put together are bounded.
#[test]
fn appends_past_the_bound_of_joined_values_are_undecided() {
    let half = "v".repeat(VALUE_BYTES_MAX / 2);
    let mut lines = format!("c1 0..1 PUT x {half} -> OK\n");
    for n in 1..=12 {
        lines += &format!("c{n} 2.. APPEND x {n}\n");
    }
    lines += "c99 3..4 APPEND x z -> VALUE 524297\n";
    let report = judge(&lines);
    assert!(report.violation.is_none());
    assert_eq!(report.undecided.len(), 1);
}

#[test]
fn an_mget_is_a_read_of_each_of_its_keys() {
    let puts = "c1 0..1 PUT pear 1 -> OK
         c1 2..3 PUT plum 2 -> OK";
    let many = |reply: &str| format!("{puts}\n c2 4..5 MGET plum fig pear -> {reply}");
    good(&many("COUNT 3 VALUE 2 NOT_FOUND VALUE 1"));
    for wrong in [
        "COUNT 3 VALUE 1 NOT_FOUND VALUE 2",
        "COUNT 3 VALUE 2 NOT_FOUND NOT_FOUND",
        "COUNT 3 VALUE 2 VALUE 3 VALUE 1",
        "COUNT 2 VALUE 2 NOT_FOUND",
        "COUNT 4 VALUE 2 NOT_FOUND VALUE 1 NOT_FOUND",
        "VALUE 2",
    ] {
        bad(&many(wrong));
    }
    // What it saw was there between its call and its end, and not before or after.
    good(&format!(
        "{puts}\n c1 10..20 PUT pear 3 -> OK\n c2 11..12 MGET pear pear -> COUNT 2 VALUE 3 VALUE 3"
    ));
    bad(&format!(
        "{puts}\n c1 10..20 PUT pear 3 -> OK\n c2 11..12 MGET pear -> COUNT 1 VALUE 3
         c2 13..14 MGET plum pear -> COUNT 2 VALUE 2 VALUE 1"
    ));
    // One that was refused saw nothing.
    good(&many("ERROR TOO_LONG too much"));
    let report = judge(&format!(
        "{puts}\n c2 4..5 LOCAL MGET plum fig -> COUNT 2 NOT_FOUND NOT_FOUND"
    ));
    assert!(report.is_linearizable());
    assert_eq!((report.local, report.keys), (1, 2));
}

/// When a key ends is no client's to tell; but it ends once, and only one that was given an end.
#[test]
fn a_key_with_an_end_may_go_once_at_any_time() {
    let expire = "c1 0..1 PUT x 1 -> OK
         c1 2..3 EXPIRE x 60 -> OK";
    good(&format!(
        "{expire}\n c1 4..5 TTL x -> VALUE 60\n c2 6..7 GET x -> VALUE 1"
    ));
    let gone = format!("{expire}\n c2 4..5 GET x -> VALUE 1\n c2 6..7 TTL x -> NOT_FOUND");
    good(&gone);
    good(&format!(
        "{gone}\n c2 8..9 EXPIRE x 5 -> NOT_FOUND\n c1 10..11 INCR x -> VALUE 1"
    ));
    bad(&format!("{gone}\n c2 8..9 GET x -> VALUE 1"));
    bad(&format!("{gone}\n c2 8..9 TTL x -> VALUE 3"));
    bad(&format!("{gone}\n c2 8..9 EXPIRE x 5 -> OK"));
    let again = format!("{gone}\n c1 8..9 PUT x 2 -> OK");
    good(&format!("{again}\n c2 10..11 TTL x -> VALUE never"));
    bad(&format!("{again}\n c2 10..11 GET x -> NOT_FOUND"));
}

#[test]
fn a_key_without_an_end_stays() {
    let put = "c1 0..1 PUT x 1 -> OK";
    good(&format!("{put}\n c1 2..3 TTL x -> VALUE never"));
    bad(&format!("{put}\n c1 2..3 TTL x -> NOT_FOUND"));
    bad(&format!("{put}\n c1 2..3 EXPIRE x 5 -> NOT_FOUND"));
    let refused = format!("{put}\n c1 2..3 EXPIRE x 5 -> ERROR NOT_DONE no majority");
    good(&format!("{refused}\n c1 4..5 GET x -> VALUE 1"));
    bad(&format!("{refused}\n c1 4..5 GET x -> NOT_FOUND"));
}

/// One without an answer may have given the key its end.
#[test]
fn an_open_expire_may_end_the_key() {
    let open = "c1 0..1 PUT x 1 -> OK
         c2 2.. EXPIRE x 5";
    good(&format!("{open}\n c1 4..5 GET x -> VALUE 1"));
    good(&format!("{open}\n c1 4..5 GET x -> NOT_FOUND"));
    bad(&format!(
        "{open}\n c1 4..5 GET x -> NOT_FOUND\n c1 6..7 GET x -> VALUE 1"
    ));
}

#[test]
fn what_was_never_there_has_no_time_left_and_gets_no_end() {
    good(
        "c1 0..1 EXPIRE x 5 -> NOT_FOUND
         c1 2..3 TTL x -> NOT_FOUND",
    );
    bad("c1 0..1 EXPIRE x 5 -> OK");
    bad("c1 0..1 TTL x -> VALUE 5");
    bad("c1 0..1 TTL x -> VALUE never");
    bad("c1 0..1 PUT x 1 -> OK
         c1 2..3 DELETE x -> OK
         c1 4..5 EXPIRE x 5 -> OK");
}

#[test]
fn local_reads_are_counted_and_not_judged() {
    let report = judge(
        "c1 0..1 PUT x 1 -> OK
         c1 2..3 LOCAL GET x -> NOT_FOUND
         c1 4..5 LOCAL LIST -> COUNT 0",
    );
    assert!(report.is_linearizable());
    assert_eq!((report.operations, report.local), (1, 2));
}

#[test]
fn open_and_refused_operations_are_counted() {
    let report = judge(
        "c1 0..1 PUT x 1 -> OK
         c2 0.. PUT x 2
         c2 2..3 PUT x 3 -> ERROR NOT_DONE no majority
         c3 2..3 DELETE x -> ERROR NOT_DONE no majority
         c3 4.. INCR y
         c4 5.. GET x",
    );
    assert_eq!((report.operations, report.keys), (6, 2));
    assert_eq!((report.open, report.refused), (3, 2));
}

/// A recording that begins in the middle of things: the first answers tell what was there.
#[test]
fn what_was_there_before_is_learned_once() {
    let unknown = |lines: &str| check(&history(lines), Begins::Unknown, STATES_MAX);
    for lines in [
        "c1 0..1 GET x -> VALUE old\n c1 2..3 PUT x 1 -> OK",
        "c1 0..1 INCR x 5 -> VALUE 12\n c1 2..3 GET x -> VALUE 12",
        "c1 0..1 CAS x 1 2 -> OK\n c1 2..3 DELETE x -> OK",
        "c1 0..1 APPEND x b -> VALUE 4\n c1 2..3 GET x -> VALUE oldb",
        "c1 0..1 APPEND x b -> VALUE 1\n c1 2..3 GET x -> VALUE b",
        "c1 0..1 TTL x -> VALUE 5\n c1 2..3 EXPIRE x 1 -> OK\n c1 4..5 GET x -> NOT_FOUND",
        "c1 0..1 DELETE x -> NOT_FOUND",
        "c1 0..9 PUT x 1 -> OK\n c2 1..8 GET x -> VALUE old\n c3 2..7 GET x -> VALUE 1",
        "c1 0.. INCR x\n c1 1..2 INCR x -> ERROR NOT_A_NUMBER no\n c2 3..4 GET x -> VALUE pear",
    ] {
        assert!(unknown(lines).is_linearizable(), "{lines}");
    }
    for lines in [
        "c1 0..1 GET x -> VALUE old\n c1 2..3 GET x -> VALUE older",
        "c1 0..9 GET x -> VALUE old\n c2 0..9 GET x -> VALUE older",
        "c1 0..1 PUT x 1 -> OK\n c1 2..3 GET x -> VALUE old",
        "c1 0..1 INCR x 5 -> VALUE 12\n c1 2..3 GET x -> VALUE 7",
        "c1 0..1 GET x -> VALUE old\n c1 2..3 APPEND x b -> VALUE 3",
        "c1 0..1 APPEND x b -> VALUE 1\n c1 2..3 GET x -> VALUE oldb",
        "c1 0..1 TTL x -> NOT_FOUND\n c1 2..3 GET x -> VALUE old",
        "c1 0..1 DELETE x -> NOT_FOUND\n c1 2..3 DELETE x -> OK",
    ] {
        assert!(unknown(lines).violation.is_some(), "{lines}");
    }
}

#[test]
fn a_search_that_may_not_look_far_says_so() {
    let lines = "c1 0..1 PUT x 1 -> OK
         c1 2..3 PUT x 2 -> OK
         c2 4..5 GET x -> VALUE 1";
    let report = check(&history(lines), Begins::Empty, 2);
    assert!(report.violation.is_none() && !report.is_linearizable());
    assert_eq!(report.undecided.len(), 1);
}

/// Looks at so few configurations that nothing may be tried twice.
fn costs_at_most(states_max: u64, lines: &str) {
    let report = check(&history(lines), Begins::Empty, states_max);
    assert!(report.is_linearizable(), "{:?}\n{lines}", report.undecided);
}

/// An answer that only saw something is done as soon as the key holds that.
#[test]
fn reads_cost_nothing() {
    let reads: String = (1..=50)
        .map(|n| format!("c{n} 10..{} GET x -> VALUE pear\n", 20 + n))
        .collect();
    let refused: String = (51..=99)
        .map(|n| format!("c{n} 10..{} INCR x -> ERROR NOT_A_NUMBER no\n", 20 + n))
        .collect();
    let put = "c100 0..1 PUT x pear -> OK\n";
    costs_at_most(250, &format!("{put}{reads}{refused}"));
}

/// Which of them came last does not matter to anybody.
#[test]
fn writes_that_nobody_looks_at_cost_nothing() {
    let puts: String = (1..=30)
        .map(|n| format!("c{n} 10..{} PUT x {n} -> OK\n", 20 + n))
        .collect();
    // Not one configuration an order, but one a value that the key may hold.
    costs_at_most(1_000, &puts);
    // Nor to those who would be content with any.
    costs_at_most(1_100, &format!("c31 5.. DELETE x\n{puts}"));
}

#[test]
fn open_operations_that_nobody_needs_are_not_looked_at() {
    let open: String = (1..=100)
        .map(|n| format!("c{n} 0.. PUT x {n}\n c{n} 1.. GET x\n"))
        .collect();
    let seen = "c101 5..6 PUT x pear -> OK\n c101 7..8 GET x -> VALUE pear\n";
    costs_at_most(10, &format!("{open}{seen}"));
    costs_at_most(20, &format!("c102 4.. DELETE x\n{open}{seen}"));
}

/// Of two keys, the one that failed first is told, whatever happened to it later.
#[test]
fn the_earliest_key_is_told() {
    let failing = |key: &str, at: u64| {
        format!(
            "c1 0..1 PUT {key} 1 -> OK\n c2 {at}..{} GET {key} -> VALUE 7\n",
            at + 1
        )
    };
    let later = "c3 90..91 GET x -> VALUE 1\n c3 92..93 GET y -> VALUE 1\n";
    let told = |lines: &str| {
        let found = judge(lines).violation.expect("nobody wrote 7");
        String::from_utf8(found.key.to_vec()).unwrap()
    };
    assert_eq!(
        told(&[&failing("x", 10), &failing("y", 20), later].concat()),
        "x"
    );
    assert_eq!(
        told(&[&failing("x", 20), &failing("y", 10), later].concat()),
        "y"
    );
    // Of those that failed at one time, the first in byte order.
    assert_eq!(told("c1 0..1 LIST -> COUNT 2 x 7 y 7"), "x");
}

/// The counter-example has the three operations that clash, of the dozens around them.
#[test]
fn a_counterexample_is_small_and_the_earliest() {
    let mut lines = String::new();
    for n in 0..50 {
        let at = 10 * n;
        lines += &format!("c1 {at}..{} PUT x a{n} -> OK\n", at + 1);
        lines += &format!("c2 {}..{} GET x -> VALUE a{n}\n", at + 2, at + 3);
        lines += &format!("c3 {}..{} PUT y b{n} -> OK\n", at + 2, at + 9);
    }
    lines += "c4 600..610 GET x -> VALUE a7\n c4 620..630 GET y -> NOT_FOUND\n";
    let report = judge(&lines);
    let found = report.violation.unwrap();
    assert_eq!(&*found.key, b"x");
    assert_eq!(found.operations.len(), 3, "{found}");
    assert_eq!(found.operations[2].id.to_string(), "c4.1");
}
