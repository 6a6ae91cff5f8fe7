//! The file format, and the drawing.

use super::super::format::{self, FIRST_LINE, read};
use super::super::history::{End, History, Operation, OperationId};
use super::super::part::Parts;
use super::super::shrink::Shrunk;
use super::super::timeline::Counterexample;
use super::super::{Begins, STATES_MAX, check};
use super::{bad, history, reply_of, request_of};
use crate::wire::client::Reply;

const ID: OperationId = OperationId {
    client: 3,
    number: 17,
};

#[test]
fn what_is_written_reads_back() {
    let mut text = format!("{FIRST_LINE}\n").into_bytes();
    let of = |number| OperationId { number, ..ID };
    let requests = [
        "PUT pear 2.10 per kilo",
        "PUT \"a b\" \"\\n\"",
        "GET pear",
        "LIST p",
        "ONCE 7 2 INCR n -4",
        "LOCAL GET pear",
        "MGET pear plum fig",
        "APPEND pear  , organic",
    ];
    for (request, number) in requests.into_iter().zip(1..) {
        format::write_call(&mut text, number, of(number), &request_of(request));
    }
    format::write_again(&mut text, 51, of(5));
    format::write_lost(&mut text, 70, of(1), "the connection\nwas lost");
    format::write_refused(&mut text, 71, of(2), "no server answered");
    format::write_reply(
        &mut text,
        72,
        of(3),
        &reply_of("GET pear", "VALUE 2.10 per kilo"),
    );
    let list = reply_of("LIST p", "COUNT 2 pear 1 plum 2");
    format::write_reply(&mut text, 73, of(4), &list);
    let values = ["2.10 per kilo", ""].map(|value| Some(value.as_bytes().into()));
    let [full, empty] = values;
    let values = Reply::Values(vec![full, None, empty]);
    format::write_reply(&mut text, 74, of(7), &values);
    format::write_reply(&mut text, 75, of(8), &reply_of("APPEND pear x", "VALUE 22"));
    let lines = String::from_utf8(text.clone()).unwrap();
    assert!(lines.contains("\n4 c3.4 call LIST p\n"), "{lines}");
    assert!(
        lines.contains("\n73 c3.4 reply COUNT 2 pear 1 plum 2\n"),
        "{lines}"
    );

    let many = "\n74 c3.7 reply COUNT 3 VALUE \"2.10 per kilo\" NOT_FOUND VALUE \"\"\n";
    assert!(lines.contains(many), "{lines}");

    let recorded = read(&text).unwrap();
    assert!(!recorded.cut);
    let operations = recorded.history.operations();
    for (operation, request) in operations.iter().zip(requests) {
        assert_eq!(operation.request, request_of(request));
    }
    let ends: Vec<&End> = operations.iter().map(|operation| &operation.end).collect();
    assert_eq!(
        ends[0],
        &End::Open(Some(70), "the connection was lost".into())
    );
    assert_eq!(ends[1], &End::Refused(71, "no server answered".into()));
    let told = reply_of("GET pear", "VALUE 2.10 per kilo");
    assert_eq!(ends[2], &End::Reply(72, told));
    assert_eq!(ends[3], &End::Reply(73, list));
    assert_eq!(ends[6], &End::Reply(74, values));
    assert_eq!(
        ends[7],
        &End::Reply(75, reply_of("APPEND pear x", "VALUE 22"))
    );
    assert!(matches!(ends[4], End::Open(None, _)));
    assert_eq!(operations[4].resent, 1);
}

/// What came over the wire is written as it came.
#[test]
fn lines_of_the_wire_are_lines_of_a_history() {
    for (call, reply) in [
        (&b"PUT x 1\n"[..], &b"OK\n"[..]),
        (&b"PUT x 1"[..], &b"OK"[..]),
    ] {
        let mut text = Vec::new();
        format::write_call_line(&mut text, 5, ID, call);
        format::write_reply_line(&mut text, 7, ID, reply);
        assert_eq!(text, b"5 c3.17 call PUT x 1\n7 c3.17 reply OK\n");
    }
}

#[test]
fn a_file_that_a_killed_recorder_left_is_read_up_to_its_last_whole_line() {
    let text = b"history 1\n1 c1.1 call PUT x 1\n2 c1.1 rep";
    let recorded = read(text).unwrap();
    assert!(recorded.cut);
    assert!(matches!(
        recorded.history.operations()[0].end,
        End::Open(None, _)
    ));
}

#[test]
fn an_end_may_come_at_the_very_time_of_its_call() {
    let recorded = read(b"history 1\n5 c1.1 call GET x\n5 c1.1 reply NOT_FOUND\n").unwrap();
    assert_eq!(recorded.history.operations()[0].ended(), Some(5));
}

#[test]
fn what_is_no_history_is_refused_with_its_line() {
    for (text, line, word) in [
        ("", 1, "history 1"),
        ("history 1", 1, "line end"),
        ("history 2\n", 1, "history 1"),
        ("history 1\nx c1.1 call GET x\n", 2, "a time"),
        ("history 1\n1 1.1 call GET x\n", 2, "c3.17"),
        ("history 1\n1 c1.1 call STATUS\n", 2, "about keys"),
        ("history 1\n1 c1.1 call GET\n", 2, "about keys"),
        ("history 1\n1 c1.1 reply OK\n", 2, "a call before"),
        (
            "history 1\n1 c1.1 call GET x\n1 c1.1 call GET x\n",
            3,
            "one call",
        ),
        (
            "history 1\n1 c1.1 call GET x\n2 c1.1 reply OK\n3 c1.1 lost\n",
            4,
            "one end",
        ),
        (
            "history 1\n5 c1.1 call GET x\n2 c1.1 reply OK\n",
            3,
            "not before",
        ),
        ("history 1\n1 c1.1 call GET x\n2 c1.1 sent\n", 3, "lost"),
        (
            "history 1\n1 c1.1 call LIST\n2 c1.1 reply COUNT 2 a 1\n",
            3,
            "a key",
        ),
        (
            "history 1\n1 c1.1 call MGET a\n2 c1.1 reply COUNT 1 a\n",
            3,
            "VALUE or NOT_FOUND",
        ),
        (
            "history 1\n1 c1.1 call MGET a b\n2 c1.1 reply COUNT 2 VALUE 1\n",
            3,
            "VALUE or NOT_FOUND",
        ),
        (
            "history 1\n1 c1.1 call LIST\n2 c1.1 reply KOUNT 1 a 1\n",
            3,
            "KOUNT",
        ),
    ] {
        let error = read(text.as_bytes()).unwrap_err();
        assert_eq!(error.line, line, "{text}");
        assert!(error.to_string().contains(word), "{error}");
    }
}

#[test]
fn the_drawing_shows_who_overlaps_whom() {
    let text = bad("c1 1000000..2000000 PUT x 1 -> OK
         c2 3000000..9000000 PUT x 2 -> OK
         c3 4000000..5000000 GET x -> VALUE 2
         c10 6000000..7000000 GET x -> VALUE 1");
    let lines: Vec<&str> = text.lines().collect();
    let head = "not linearizable: key \"x\", by 3 of its 4 operations up to 7.000 ms";
    assert_eq!(lines[0], head, "{text}");
    // The columns at which each bar begins and ends.
    let bar = |id: &str| {
        let line = lines.iter().find(|line| line.contains(id)).unwrap();
        (line.find('|').unwrap(), line.rfind(['|', '~']).unwrap())
    };
    let (first, open, second, last) = (bar("c1.1 "), bar("c2.1 "), bar("c3.1 "), bar("c10.1"));
    assert!(first.1 < open.0 && open.0 < second.0, "{text}");
    assert!(second.1 < last.0 && last.1 < open.1, "{text}");
    assert!(text.contains("<- cannot be"), "{text}");
    assert!(text.contains("c3.1 saw something else"), "{text}");
}

#[test]
fn many_events_make_a_narrow_drawing() {
    let mut lines = String::new();
    for n in 0..30 {
        lines += &format!("c1 {}..{} PUT x {n} -> OK\n", 10 * n, 10 * n + 1);
    }
    let history = history(&lines);
    let part = &Parts::of(&history).parts[0];
    let all = Shrunk {
        kept: (0..30).collect(),
        aside: Vec::new(),
        others: 0,
        last: 29,
    };
    let text = Counterexample::new(&history, part, &all).to_string();
    assert_eq!(text.matches("|=").count(), 0, "one column an event: {text}");
    assert_eq!(text.matches("||").count(), 30, "{text}");
    assert!(text.lines().all(|line| line.len() < 140), "{text}");
    assert!(!text.contains("Whatever the other"), "{text}");
}

/// All that a drawing can have: who cannot be explained, a write that was given up but is seen, a
/// refused write that is seen, and one operation and one refused write more that do not matter.
#[test]
fn a_drawing_reads_by_eye() {
    let refused = |client, text: &str| Operation {
        id: OperationId { client, number: 1 },
        request: request_of(text),
        called: 2_000_000,
        resent: 0,
        end: End::Refused(2_500_000, "no server answered".into()),
    };
    let mut operations = history(
        "c1 1000000.. PUT x 1
         c3 1500000..2000000 PUT x 2 -> OK
         c2 3000000..4000000 GET x -> VALUE 1
         c3 5000000..5000000 PUT x 3 -> OK
         c2 7000000..8000000 GET x -> VALUE 1",
    )
    .operations()
    .to_vec();
    operations.push(refused(4, "PUT x 1"));
    operations.push(refused(5, "PUT x 9"));
    let report = check(&History::new(operations), Begins::Empty, STATES_MAX);
    assert_eq!(
        report.violation.unwrap().to_string(),
        r#"not linearizable: key "x", by 3 of its 5 operations up to 8.000 ms

        called          ended
      1.000 ms           open  c1.1  |===========================================~   PUT x 1 -> no answer: lost   (whenever it was done)
      2.000 ms       2.500 ms  c4.1       |====|                                     PUT x 1 -> refused: no server answered   (refused: must never be seen)
      3.000 ms       4.000 ms  c2.1                 |====|                           GET x -> VALUE 1
      5.000 ms       5.000 ms  c3.2                           ||                     PUT x 3 -> OK
      7.000 ms       8.000 ms  c2.2                                |====|            GET x -> VALUE 1   <- cannot be

No order of these lets c2.2 see "1".
Whatever the other 1 did and saw: no order of these has their answers.
"#
    );
}

#[test]
fn the_words_name_who_left_something_else() {
    let text = bad("c1 0..1 INCR x -> VALUE 1
         c1 2..3 PUT x 7 -> OK
         c2 4..5 GET x -> VALUE 1");
    assert!(text.contains("c2.1 saw \"1\" of c1.1"), "{text}");
    assert!(text.contains("c1.2 left something else"), "{text}");
    // An APPEND tells how long it made the value, and so what it may have left.
    let text = bad("c1 0..1 PUT x a -> OK
         c1 2..3 APPEND x b -> VALUE 2
         c1 4..5 PUT x 7 -> OK
         c2 6..7 GET x -> VALUE ab");
    assert!(text.contains("c2.1 saw \"ab\" of c1.2"), "{text}");
    assert!(text.contains("c1.3 left something else"), "{text}");
    // Not the one that left the same.
    let text = bad("c1 0..1 PUT x 1 -> OK
         c1 2..3 PUT x 1 -> OK
         c1 4..5 PUT x 2 -> OK
         c2 6..7 GET x -> VALUE 1");
    assert!(text.contains("c1.3 left something else"), "{text}");
}
