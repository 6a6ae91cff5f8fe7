//! The file format, and the drawing.

use super::super::format::{self, FIRST_LINE, read};
use super::super::history::{End, OperationId};
use super::{bad, reply_of, request_of};

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
    ];
    for (request, number) in requests.into_iter().zip(1..) {
        format::write_call(&mut text, 10 * number, of(number), &request_of(request));
    }
    format::write_again(&mut text, 51, of(5));
    format::write_lost(&mut text, 70, of(1), "the connection\nwas lost");
    format::write_refused(&mut text, 71, of(2), "no server answered");
    format::write_reply(&mut text, 72, of(3), &reply_of("VALUE 2.10 per kilo"));
    let list = reply_of("COUNT 2 pear 1 plum 2");
    format::write_reply(&mut text, 73, of(4), &list);
    let lines = String::from_utf8(text.clone()).unwrap();
    assert!(lines.contains("\n40 c3.4 call LIST p\n"), "{lines}");
    assert!(
        lines.contains("\n73 c3.4 reply COUNT 2 pear 1 plum 2\n"),
        "{lines}"
    );

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
    assert_eq!(ends[2], &End::Reply(72, reply_of("VALUE 2.10 per kilo")));
    assert_eq!(ends[3], &End::Reply(73, list));
    assert!(matches!(ends[4], End::Open(None, _)));
    assert_eq!(operations[4].resent, 1);
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
    for n in 0..60 {
        lines += &format!("c{} {n}..{} INCR x -> VALUE 1\n", n + 1, n + 100);
    }
    let text = bad(&lines);
    assert!(text.lines().all(|line| line.len() < 250), "{text}");
}
