use super::*;
use crate::kv::command::{Command, List};
use proptest::collection::vec;
use proptest::prelude::*;

fn bytes(text: impl AsRef<[u8]>) -> Bytes {
    text.as_ref().into()
}

fn written(reply: &Reply) -> String {
    let mut out = Vec::new();
    reply.write(&mut out);
    String::from_utf8(out).expect("replies are valid UTF-8")
}

/// A request that gets a reply of this shape.
fn request_for(reply: &Reply) -> Request {
    match reply {
        Reply::List(_) => Request::Read {
            local: false,
            read: Read::List(List::default()),
        },
        Reply::Values(found) => Request::Read {
            local: false,
            read: Read::Many {
                keys: vec![bytes("k"); found.len().max(1)],
            },
        },
        Reply::Status(_) => Request::Status,
        Reply::Help(_) => Request::Help,
        _ => Request::Write(Command::Session),
    }
}

fn read(request: &Request, text: &str) -> Result<Option<Reply>, ParseError> {
    let mut reader = ReplyReader::new(request);
    let mut reply = None;
    for line in text.lines() {
        assert_eq!(reply, None, "whole before the line {line}");
        reply = reader.line(line.as_bytes())?;
    }
    Ok(reply)
}

#[test]
fn every_reply_has_its_lines() {
    let pairs = [("apple", "1.25"), ("a b", "2 3"), ("k", "")]
        .map(|(key, value)| (bytes(key), bytes(value)));
    let fields = [("id", "n2"), ("peer", "n1 up"), ("peer", "n3 down")]
        .map(|(field, value)| (field.to_string(), value.to_string()));
    for (reply, text) in [
        (Reply::Ok, "OK\n"),
        (Reply::Value(bytes("1.25")), "VALUE 1.25\n"),
        (Reply::NotFound, "NOT_FOUND\n"),
        (Reply::Mismatch(bytes("1.25")), "MISMATCH 1.25\n"),
        (
            Reply::List(pairs.to_vec()),
            "COUNT 3\napple 1.25\n\"a b\" 2 3\nk \"\"\n",
        ),
        (Reply::List(vec![]), "COUNT 0\n"),
        (
            Reply::values(vec![
                Some(bytes("2.10 per kilo")),
                None,
                Some(bytes("")),
                Some(bytes("NOT_FOUND")),
            ]),
            "COUNT 4\nVALUE 2.10 per kilo\nNOT_FOUND\nVALUE \"\"\nVALUE NOT_FOUND\n",
        ),
        (Reply::Session(SessionId(12)), "SESSION 12\n"),
        (
            Reply::Status(fields.to_vec()),
            "COUNT 3\nid n2\npeer n1 up\npeer n3 down\n",
        ),
        (Reply::Pong, "PONG\n"),
        (
            Reply::Help(vec!["a".into(), String::new(), "  b".into()]),
            "COUNT 3\na\n\n  b\n",
        ),
        (Reply::Bye, "BYE\n"),
        (
            Reply::too_many_connections(100),
            "ERROR NOT_DONE too many connections (limit 100)\n",
        ),
    ] {
        assert_eq!(written(&reply), text);
        assert_eq!(read(&request_for(&reply), text), Ok(Some(reply)));
    }
}

#[test]
fn values_are_quoted_where_bare_bytes_would_read_otherwise() {
    for (value, text) in [
        (&b"2.10 per kilo"[..], "2.10 per kilo"),
        (b"", r#""""#),
        (b" a", r#"" a""#),
        (b"a ", r#""a ""#),
        (b"a\tb", r#""a\tb""#),
        (b"\"a\"", r#""\"a\"""#),
        (b"a\"b\\", r#"a"b\"#),
        (b"a\nOK\r", r#""a\nOK\r""#),
        (b"\xff\x1b\0", r#""\xff\x1b\0""#),
        ("Öl".as_bytes(), "Öl"),
    ] {
        assert_eq!(
            written(&Reply::Value(bytes(value))),
            format!("VALUE {text}\n")
        );
        assert_eq!(
            written(&Reply::Mismatch(bytes(value))),
            format!("MISMATCH {text}\n")
        );
        assert_eq!(
            written(&Reply::List(vec![(bytes("k"), bytes(value))])),
            format!("COUNT 1\nk {text}\n")
        );
    }
}

/// The half of a second is rounded up, as in Redis.
#[test]
fn a_time_is_told_in_seconds() {
    for (found, text) in [
        (None, "NOT_FOUND"),
        (Some(None), "VALUE never"),
        (Some(Some(499)), "VALUE 0"),
        (Some(Some(500)), "VALUE 1"),
        (Some(Some(60_499)), "VALUE 60"),
        (Some(Some(u64::MAX)), "VALUE 18446744073709551"),
    ] {
        assert_eq!(Reply::remaining(found).to_string(), text);
    }
}

#[test]
fn every_code_prints_and_reads_back() {
    for (code, name) in [
        (ErrorCode::BadRequest, "BAD_REQUEST"),
        (ErrorCode::TooLong, "TOO_LONG"),
        (ErrorCode::NotANumber, "NOT_A_NUMBER"),
        (ErrorCode::StaleSeq, "STALE_SEQ"),
        (ErrorCode::NoSession, "NO_SESSION"),
        (ErrorCode::Forbidden, "FORBIDDEN"),
        (ErrorCode::NotDone, "NOT_DONE"),
        (ErrorCode::Unknown, "UNKNOWN"),
    ] {
        assert!(ErrorCode::ALL.contains(&code));
        let reply = Reply::error(code, "some text");
        let line = format!("ERROR {name} some text");
        assert_eq!(reply.to_string(), line);
        assert_eq!(parse_reply_head(line.as_bytes()), Ok(Head::Done(reply)));
    }
}

#[test]
fn an_error_is_one_line_whatever_its_text() {
    let reply = Reply::error(ErrorCode::Forbidden, "a\r\nOK\u{1b}[2J");
    assert_eq!(written(&reply), "ERROR FORBIDDEN a  OK [2J\n");
}

#[test]
fn every_outcome_has_a_reply() {
    for (outcome, line) in [
        (Outcome::Ok, "OK"),
        (Outcome::NotFound, "NOT_FOUND"),
        (Outcome::Mismatch(bytes("a b")), "MISMATCH a b"),
        (Outcome::Number(-5), "VALUE -5"),
        (Outcome::Session(SessionId(3)), "SESSION 3"),
        (
            Outcome::TooLong,
            "ERROR TOO_LONG expected a value of at most 1048576 bytes, it would be longer",
        ),
        (
            Outcome::NotANumber("the value is no 64-bit integer"),
            "ERROR NOT_A_NUMBER the value is no 64-bit integer",
        ),
        (
            Outcome::StaleSeq(7),
            "ERROR STALE_SEQ expected seq 7, the last of this session, or a higher one",
        ),
        (
            Outcome::NoSession,
            "ERROR NO_SESSION no such session: it was never opened or has ended (SESSION opens one)",
        ),
    ] {
        assert_eq!(Reply::from(outcome).to_string(), line);
    }
    assert_eq!(Reply::from(Some(bytes("v"))).to_string(), "VALUE v");
    assert_eq!(Reply::from(None::<Bytes>).to_string(), "NOT_FOUND");
}

#[test]
fn what_is_no_reply_is_refused() {
    for line in [
        "",
        "HTTP/1.1 400 Bad Request",
        "ok",
        "OK then",
        "VALUE",
        "VALUE \"a\" b",
        "MISMATCH",
        "SESSION",
        "SESSION x",
        "COUNT",
        "COUNT -1",
        "COUNT 1 2",
        "ERROR",
        "ERROR OOPS text",
    ] {
        assert!(parse_reply_head(line.as_bytes()).is_err(), "{line}");
    }
}

#[test]
fn lines_come_only_for_requests_that_get_lines() {
    let list = request_for(&Reply::List(vec![]));
    assert!(read(&Request::Ping, "COUNT 1").is_err());
    assert_eq!(read(&list, "COUNT 2\na b\n"), Ok(None));
    assert!(read(&list, "COUNT 1\na\n").is_err());
    let many = request_for(&Reply::Values(vec![]));
    for line in ["a b", "OK", "VALUE", "COUNT 1", "ERROR NOT_DONE no"] {
        assert!(read(&many, &format!("COUNT 1\n{line}\n")).is_err());
    }
    assert_eq!(
        read(&list, "ERROR NOT_DONE no majority"),
        Ok(Some(Reply::error(ErrorCode::NotDone, "no majority")))
    );
    // A count is believed only as far as lines come.
    assert_eq!(read(&list, "COUNT 18446744073709551615\na b\n"), Ok(None));
}

/// One large value, named many times, is a small thing to hold and a long one to write.
#[test]
fn the_values_of_an_mget_are_bounded_together() {
    let value = bytes(vec![b'v'; VALUE_BYTES_MAX]);
    let found = |count| vec![Some(value.clone()); count];
    let fits = TOLD_BYTES_MAX / VALUE_BYTES_MAX;
    assert_eq!(Reply::values(found(fits)), Reply::Values(found(fits)));
    let mut above = found(fits);
    above.extend([None, Some(bytes("v"))]);
    assert_eq!(
        Reply::values(above).to_string(),
        "ERROR TOO_LONG expected values of at most 67108864 bytes together, found 67108865 bytes: \
         ask for fewer keys at a time"
    );
}

#[test]
fn many_lines_can_be_taken_away_in_parts() {
    let reply = Reply::values(vec![Some(bytes("pear")); 5]);
    let (mut out, mut all, mut longest) = (Vec::new(), Vec::new(), 0);
    let done = reply.write_in_parts(&mut out, |out| {
        longest = longest.max(out.len());
        all.append(out);
        Ok::<_, ()>(())
    });
    all.append(&mut out);
    assert_eq!(done, Ok(()));
    assert_eq!(longest, b"VALUE pear\n".len());
    assert_eq!(all, written(&reply).as_bytes());
    assert_eq!(reply.write_in_parts(&mut out, |_| Err("gone")), Err("gone"));
}

#[test]
fn a_cr_at_the_end_is_dropped() {
    assert_eq!(
        parse_reply_head(b"VALUE a\r"),
        Ok(Head::Done(Reply::Value(bytes("a"))))
    );
    let mut reader = ReplyReader::new(&Request::Status);
    assert_eq!(reader.line(b"COUNT 1\r"), Ok(None));
    let fields = vec![("id".into(), "n2".into())];
    assert_eq!(reader.line(b"id n2\r"), Ok(Some(Reply::Status(fields))));
}

/// Some bytes, often awkward ones.
fn any_bytes(min: usize) -> impl Strategy<Value = Bytes> {
    prop_oneof![
        vec(any::<u8>(), min..12),
        vec(prop::sample::select(&b" :\"\\ab\t\r\n"[..]), min..5),
    ]
    .prop_map(Bytes::from)
}

fn any_reply() -> impl Strategy<Value = Reply> {
    prop_oneof![
        prop::sample::select(vec![Reply::Ok, Reply::NotFound, Reply::Pong, Reply::Bye]),
        any_bytes(0).prop_map(Reply::Value),
        any_bytes(0).prop_map(Reply::Mismatch),
        any::<u64>().prop_map(|id| Reply::Session(SessionId(id))),
        vec((any_bytes(1), any_bytes(0)), 0..5).prop_map(Reply::List),
        vec(prop::option::of(any_bytes(0)), 0..5).prop_map(Reply::Values),
        vec(("[a-z_]{1,9}", "\\PC{0,9}"), 0..5).prop_map(Reply::Status),
        vec("\\PC{0,20}", 0..5).prop_map(Reply::Help),
        (prop::sample::select(&ErrorCode::ALL[..]), "[a-zö,\"(]{0,9}")
            .prop_map(|(code, text)| Reply::Error(code, text)),
    ]
}

proptest! {
    #[test]
    fn every_reply_reads_back(reply in any_reply()) {
        let text = written(&reply);
        prop_assert!(text.ends_with('\n'));
        prop_assert!(!text.chars().any(|c| c.is_control() && c != '\n'));
        prop_assert_eq!(read(&request_for(&reply), &text), Ok(Some(reply)));
    }

    #[test]
    fn no_line_makes_the_reader_panic(
        request in prop::sample::select(vec![
            Request::Ping,
            Request::Status,
            Request::Help,
            request_for(&Reply::Values(vec![])),
        ]),
        verb in prop::sample::select(vec!["", "VALUE ", "COUNT ", "COUNT 2", "ERROR ", "SESSION "]),
        lines in vec(any_bytes(0), 1..4),
    ) {
        let mut reader = ReplyReader::new(&request);
        let first = [verb.as_bytes(), &lines[0]].concat();
        for line in std::iter::once(&first[..]).chain(lines.iter().map(|line| &**line)) {
            let _ = reader.line(line);
        }
    }
}
