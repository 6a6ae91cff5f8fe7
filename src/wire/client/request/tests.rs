use super::*;
use proptest::collection::vec;
use proptest::prelude::*;

fn bytes(text: impl AsRef<[u8]>) -> Bytes {
    text.as_ref().into()
}

fn put(key: &str, value: impl AsRef<[u8]>) -> Write {
    Write::Put {
        key: bytes(key),
        value: bytes(value),
    }
}

fn append(key: &str, value: impl AsRef<[u8]>) -> Write {
    Write::Append {
        key: bytes(key),
        value: bytes(value),
    }
}

fn delete(key: &str) -> Write {
    Write::Delete { key: bytes(key) }
}

fn cas(key: &str, expected: &str, new: &str) -> Write {
    Write::Cas {
        key: bytes(key),
        expected: bytes(expected),
        new: bytes(new),
    }
}

fn incr(key: &str, by: i64) -> Write {
    Write::Incr {
        key: bytes(key),
        by,
    }
}

fn change(write: Write) -> Request {
    Request::Write(Command::Write(write))
}

fn once(session: u64, seq: u64, write: Write) -> Request {
    Request::Write(Command::Once {
        session: SessionId(session),
        seq,
        write,
    })
}

fn get(local: bool, key: &str) -> Request {
    let read = Read::Get { key: bytes(key) };
    Request::Read { local, read }
}

fn many(local: bool, keys: &[&str]) -> Request {
    let keys = keys.iter().map(bytes).collect();
    let read = Read::Many { keys };
    Request::Read { local, read }
}

fn ttl(local: bool, key: &str) -> Request {
    let read = Read::Ttl { key: bytes(key) };
    Request::Read { local, read }
}

fn expire(seconds: u64) -> Write {
    Write::Expire {
        key: bytes("apple"),
        deadline: Deadline::In(seconds * 1_000),
        only: ExpireIf::Any,
    }
}

fn list(local: bool, prefix: &str) -> Request {
    let read = Read::List(List::of(bytes(prefix)));
    Request::Read { local, read }
}

fn part(prefix: &str, from: Option<&str>, limit: Option<u64>) -> Request {
    let (prefix, from) = (bytes(prefix), from.map(bytes));
    let read = Read::List(List {
        prefix,
        from,
        limit,
    });
    Request::Read { local: false, read }
}

fn check(lines: Vec<(&str, Request)>) {
    for (line, request) in lines {
        assert_eq!(parse_request(line.as_bytes()), Ok(request), "{line}");
    }
}

fn check_errors(lines: &[(&str, &str)]) {
    for (line, error) in lines {
        let found = parse_request(line.as_bytes()).expect_err(line);
        assert_eq!(found.to_string(), *error, "{line}");
    }
}

#[test]
fn every_request_has_a_line() {
    check(vec![
        ("PUT apple 1.25", change(put("apple", "1.25"))),
        ("APPEND apple 1.25", change(append("apple", "1.25"))),
        ("GET apple", get(false, "apple")),
        ("MGET apple", many(false, &["apple"])),
        (
            "MGET apple pear apple",
            many(false, &["apple", "pear", "apple"]),
        ),
        ("DELETE apple", change(delete("apple"))),
        ("CAS k old new", change(cas("k", "old", "new"))),
        ("INCR k", change(incr("k", 1))),
        ("INCR k -5", change(incr("k", -5))),
        ("INCR k +5", change(incr("k", 5))),
        ("LIST", list(false, "")),
        ("LIST ap", list(false, "ap")),
        ("LIST \"\"", list(false, "")),
        ("SESSION", Request::Write(Command::Session)),
        ("STATUS", Request::Status),
        ("PING", Request::Ping),
        ("HELP", Request::Help),
        ("QUIT", Request::Quit),
        ("EXIT", Request::Quit),
        ("FAIL", Request::Fail),
        ("RECOVER", Request::Recover),
        ("SLOW 0", Request::Slow(0)),
        ("slow 1000", Request::Slow(1_000)),
        ("LOCAL GET apple", get(true, "apple")),
        ("local mget apple k", many(true, &["apple", "k"])),
        ("TTL apple", ttl(false, "apple")),
        ("local ttl apple", ttl(true, "apple")),
        (
            "EXPIRE apple 60",
            Request::Write(Command::Write(expire(60))),
        ),
        ("ONCE 1 2 expire apple 0", once(1, 2, expire(0))),
        ("LOCAL LIST", list(true, "")),
        ("LOCAL LIST ap", list(true, "ap")),
        ("ONCE 12 7 PUT k v w", once(12, 7, put("k", "v w"))),
        ("ONCE 12 7 append k v w", once(12, 7, append("k", "v w"))),
        ("ONCE 12 7 DELETE k", once(12, 7, delete("k"))),
        ("ONCE 12 7 CAS k a b", once(12, 7, cas("k", "a", "b"))),
        ("ONCE 12 7 INCR k", once(12, 7, incr("k", 1))),
        (
            "ONCE 12 18446744073709551615 INCR k 2",
            once(12, u64::MAX, incr("k", 2)),
        ),
    ]);
}

#[test]
fn verbs_have_no_case_and_words_any_white_space_between() {
    check(vec![
        ("put Apple A", change(put("Apple", "A"))),
        ("\t gEt \t apple \t", get(false, "apple")),
        ("local get apple", get(true, "apple")),
        ("once 1 2 put k v", once(1, 2, put("k", "v"))),
        ("once 1 2 Put:k:v", once(1, 2, put("k", "v"))),
        ("exit ", Request::Quit),
    ]);
}

#[test]
fn one_cr_at_the_end_is_dropped() {
    check(vec![
        ("PUT k v\r", change(put("k", "v"))),
        ("PUT k v\r\r", change(put("k", "v\r"))),
        ("PUT k \"v\"\r", change(put("k", "v"))),
        ("PUT:k:\r", change(put("k", ""))),
        ("PING\r", Request::Ping),
    ]);
}

#[test]
fn a_bare_value_is_the_rest_of_the_line() {
    check(vec![
        (
            "PUT pear   2.10 per  kilo \t",
            change(put("pear", "2.10 per  kilo")),
        ),
        ("PUT k a\"b\" \\n", change(put("k", "a\"b\" \\n"))),
        ("APPEND k  a  b ", change(append("k", "a  b"))),
        ("APPEND k:1 :a", change(append("k:1", ":a"))),
        ("PUT k a:b", change(put("k", "a:b"))),
        ("PUT k:1 v", change(put("k:1", "v"))),
        ("PUT :k v", change(put(":k", "v"))),
        (
            "PUT \"quoted key\" rest of line",
            change(put("quoted key", "rest of line")),
        ),
    ]);
}

#[test]
fn quoted_tokens_hold_any_byte() {
    check(vec![
        (
            r#"PUT "a\x00b" "\"\\\n\r\t\0\xfF ""#,
            change(put("a\0b", b"\"\\\n\r\t\0\xff ")),
        ),
        (r#"PUT k """#, change(put("k", ""))),
        (r#"APPEND k " a""#, change(append("k", " a"))),
        (r#"APPEND k """#, change(append("k", ""))),
        (r#"MGET "a b"  c"d "e""#, many(false, &["a b", "c\"d", "e"])),
        (r#"CAS k "" "a b""#, change(cas("k", "", "a b"))),
        (r#"GET "a b""#, get(false, "a b")),
        (r#"LIST "a b""#, list(false, "a b")),
        (r#"INCR "a b" 2"#, change(incr("a b", 2))),
    ]);
}

#[test]
fn behind_a_colon_nothing_is_quoted() {
    check(vec![
        ("PUT:key:value", change(put("key", "value"))),
        (
            "PUT: a key : a value: with colons ",
            change(put("a key", "a value: with colons")),
        ),
        ("PUT:key:", change(put("key", ""))),
        ("PUT:key: ", change(put("key", ""))),
        (r#"PUT:"a b":"c d""#, change(put("\"a b\"", "\"c d\""))),
        (r"PUT:k:\n", change(put("k", r"\n"))),
        ("GET:key", get(false, "key")),
        ("get: a key ", get(false, "a key")),
        ("DELETE:key", change(delete("key"))),
        ("LOCAL GET:k", get(true, "k")),
        ("ONCE 1 2 PUT:k:v:w", once(1, 2, put("k", "v:w"))),
        ("ONCE 1 2 DELETE:k", once(1, 2, delete("k"))),
    ]);
}

#[test]
fn a_session_that_cannot_be_is_one_nobody_knows() {
    for session in ["0", "abc", "-1", "01", "18446744073709551616", "\"\""] {
        check(vec![(
            &format!("ONCE {session} 1 PUT k v"),
            once(0, 1, put("k", "v")),
        )]);
    }
}

#[test]
fn missing_arguments_are_named() {
    let end = "found the end of the line";
    for (line, expected) in [
        ("", "a request (HELP lists them)"),
        (" \t\r", "a request (HELP lists them)"),
        ("PUT", "a key after PUT"),
        ("put", "a key after put"),
        ("PUT k", "a value after the key"),
        ("PUT k ", "a value after the key"),
        ("PUT:k", "':' and a value after the key"),
        ("APPEND", "a key after APPEND"),
        ("APPEND k ", "a value after the key"),
        ("GET", "a key after GET"),
        ("MGET ", "a key after MGET"),
        ("DELETE", "a key after DELETE"),
        ("CAS", "a key after CAS"),
        ("CAS k", "the expected value after the key"),
        ("CAS k a", "the new value after the expected one"),
        ("INCR", "a key after INCR"),
        ("LOCAL", "GET, MGET, LIST or TTL after LOCAL"),
        ("LOCAL GET", "a key after GET"),
        ("ONCE", "a session after ONCE"),
        ("ONCE 1", "a seq after the session"),
        (
            "ONCE 1 1",
            "PUT, APPEND, DELETE, CAS, INCR or EXPIRE after the seq",
        ),
        ("ONCE 1 1 PUT", "a key after PUT"),
        ("ONCE 1 1 PUT k", "a value after the key"),
    ] {
        let error = format!("ERROR BAD_REQUEST expected {expected}, {end}");
        check_errors(&[(line, &error)]);
    }
}

/// A prefix may be any word but two, and those in quotes; after `FROM` a word is a key.
#[test]
fn a_list_may_begin_at_a_key_and_have_a_limit() {
    check(vec![
        ("LIST LIMIT 3", part("", None, Some(3))),
        ("list ap limit 3", part("ap", None, Some(3))),
        ("LIST FROM pear", part("", Some("pear"), None)),
        (
            "LIST ap FROM \"a b\" LIMIT 3",
            part("ap", Some("a b"), Some(3)),
        ),
        (
            "LIST ap LIMIT 3 FROM pear",
            part("ap", Some("pear"), Some(3)),
        ),
        ("LIST FROM FROM LIMIT 1", part("", Some("FROM"), Some(1))),
        ("LIST FROM limit", part("", Some("limit"), None)),
        ("LIST FROM \"limit\"", part("", Some("limit"), None)),
        ("LIST \"FROM\" FROM from", part("FROM", Some("from"), None)),
        ("LIST \"limit\"", list(false, "limit")),
        ("LIST FROMM", list(false, "FROMM")),
        (
            "LIST LIMIT 18446744073709551615",
            part("", None, Some(u64::MAX)),
        ),
    ]);
    let after_from = "a key after FROM (a prefix that is this word is quoted)";
    let after_limit = "a number of keys from 1 after LIMIT (a prefix that is this word is quoted)";
    let more = "FROM key, LIMIT n, each once, or the end of the line";
    for (line, expected, found) in [
        ("LIST FROM", after_from, "the end of the line"),
        ("LIST from ", after_from, "the end of the line"),
        ("LIST LIMIT", after_limit, "the end of the line"),
        ("LIST LIMIT 0", after_limit, "\"0\""),
        ("LIST LIMIT -1", after_limit, "\"-1\""),
        ("LIST limit pear", after_limit, "\"pear\""),
        ("LIST a b", more, "\"b\""),
        ("LIST \"a\" \"FROM\" b", more, "\"FROM\""),
        ("LIST FROM a FROM b", more, "\"FROM\""),
        ("LIST LIMIT 1 LIMIT 2", more, "\"LIMIT\""),
        ("LIST LIMIT 1 a", more, "\"a\""),
        (
            "LIST FROM \"\"",
            "a key of at least 1 byte after FROM",
            "\"\"",
        ),
    ] {
        let error = format!("ERROR BAD_REQUEST expected {expected}, found {found}");
        check_errors(&[(line, &error)]);
    }
}

#[test]
fn a_token_too_many_is_shown() {
    for (line, place, found) in [
        ("PUT k \"quoted\" extra", "a quoted value", "extra"),
        ("APPEND k \"quoted\" extra", "a quoted value", "extra"),
        ("GET k extra", "the key", "extra"),
        ("GET:k:extra", "the key", ":extra"),
        ("GET:k:", "the key", ":"),
        ("DELETE k extra", "the key", "extra"),
        ("DELETE:k:v", "the key", ":v"),
        (
            "CAS k a b c d",
            "the new value (one with spaces is quoted)",
            "c d",
        ),
        ("INCR k 1 2", "the number", "2"),
        ("LOCAL GET k extra", "the key", "extra"),
        ("SESSION 1", "the request", "1"),
        ("STATUS x", "the request", "x"),
        ("PING x", "the request", "x"),
        ("HELP PUT", "the request", "PUT"),
        ("QUIT now", "the request", "now"),
        ("FAIL 1", "the request", "1"),
        ("RECOVER 1", "the request", "1"),
        ("SLOW 1 2", "the milliseconds", "2"),
    ] {
        let error = format!(
            "ERROR BAD_REQUEST expected the end of the line after {place}, found \"{found}\""
        );
        check_errors(&[(line, &error)]);
    }
}

#[test]
fn a_wrong_word_is_shown() {
    check_errors(&[
        (
            "FROB k",
            r#"ERROR BAD_REQUEST expected a request (HELP lists them), found "FROB""#,
        ),
        (
            "SUBSCRIBE",
            r#"ERROR BAD_REQUEST expected a request (HELP lists them), found "SUBSCRIBE""#,
        ),
        (
            "\x1b[A",
            r#"ERROR BAD_REQUEST expected a request (HELP lists them), found "\x1b[A""#,
        ),
        (
            ":k",
            r#"ERROR BAD_REQUEST expected a request (HELP lists them), found """#,
        ),
        (
            "LIST:a",
            "ERROR BAD_REQUEST expected a space after the verb (only PUT, GET and DELETE take a \
             colon), found \":a\"",
        ),
        (
            "APPEND:k:v",
            "ERROR BAD_REQUEST expected a space after the verb (only PUT, GET and DELETE take a \
             colon), found \":k:v\"",
        ),
        (
            "MGET a \"\" b",
            r#"ERROR BAD_REQUEST expected a key of at least 1 byte after MGET, found """#,
        ),
        (
            "MGET a \"b",
            r#"ERROR BAD_REQUEST expected a closing '"', found "\"b""#,
        ),
        (
            "GET \"\"",
            r#"ERROR BAD_REQUEST expected a key of at least 1 byte after GET, found """#,
        ),
        (
            "PUT::v",
            r#"ERROR BAD_REQUEST expected a key of at least 1 byte after PUT, found """#,
        ),
        (
            "GET:",
            r#"ERROR BAD_REQUEST expected a key of at least 1 byte after GET, found """#,
        ),
        (
            "GET \"k",
            r#"ERROR BAD_REQUEST expected a closing '"', found "\"k""#,
        ),
        (
            "PUT k \"a\"b",
            r#"ERROR BAD_REQUEST expected white space after a closing '"', found "b""#,
        ),
        (
            "INCR k 1.5",
            r#"ERROR BAD_REQUEST expected a 64-bit integer to add, found "1.5""#,
        ),
        (
            "INCR k 9223372036854775808",
            r#"ERROR BAD_REQUEST expected a 64-bit integer to add, found "9223372036854775808""#,
        ),
        (
            "LOCAL PUT k v",
            r#"ERROR BAD_REQUEST expected GET, MGET, LIST or TTL after LOCAL, found "PUT""#,
        ),
        (
            "LOCAL LOCAL GET k",
            r#"ERROR BAD_REQUEST expected GET, MGET, LIST or TTL after LOCAL, found "LOCAL""#,
        ),
        (
            "LOCAL FROB",
            r#"ERROR BAD_REQUEST expected GET, MGET, LIST or TTL after LOCAL, found "FROB""#,
        ),
        (
            "ONCE 1 1 GET k",
            r#"ERROR BAD_REQUEST expected PUT, APPEND, DELETE, CAS, INCR or EXPIRE after the seq, found "GET""#,
        ),
        (
            "ONCE 1 1 SESSION",
            r#"ERROR BAD_REQUEST expected PUT, APPEND, DELETE, CAS, INCR or EXPIRE after the seq, found "SESSION""#,
        ),
        (
            "ONCE 1 0 PUT k v",
            r#"ERROR BAD_REQUEST expected a seq from 1 to 18446744073709551615, found "0""#,
        ),
        (
            "ONCE 1 18446744073709551616 PUT k v",
            "ERROR BAD_REQUEST expected a seq from 1 to 18446744073709551615, found \
             \"18446744073709551616\"",
        ),
    ]);
}

#[test]
fn slow_takes_a_bounded_number_of_milliseconds() {
    check_errors(&[
        (
            "SLOW",
            "ERROR BAD_REQUEST expected milliseconds after SLOW, found the end of the line",
        ),
        (
            "SLOW 1001",
            r#"ERROR BAD_REQUEST expected milliseconds from 0 to 1000, found "1001""#,
        ),
        (
            "SLOW -1",
            r#"ERROR BAD_REQUEST expected milliseconds from 0 to 1000, found "-1""#,
        ),
        (
            "SLOW down",
            r#"ERROR BAD_REQUEST expected milliseconds from 0 to 1000, found "down""#,
        ),
        (
            "SLOW:30",
            "ERROR BAD_REQUEST expected a space after the verb (only PUT, GET and DELETE take a \
             colon), found \":30\"",
        ),
    ]);
}

#[test]
fn keys_values_and_lines_have_limits() {
    let key = "k".repeat(KEY_BYTES_MAX);
    let value = "v".repeat(VALUE_BYTES_MAX);
    check(vec![
        (&format!("PUT {key} {value}"), change(put(&key, &value))),
        (&format!("PUT:{key}:{value}"), change(put(&key, &value))),
        (&format!("LIST {key}"), list(false, &key)),
    ]);
    let long_key = "ERROR TOO_LONG expected a key of at most 1024 bytes, found 1025 bytes";
    let long_value =
        "ERROR TOO_LONG expected a value of at most 1048576 bytes, found 1048577 bytes";
    check_errors(&[
        (&format!("GET {key}k"), long_key),
        (&format!("MGET a {key}k"), long_key),
        (&format!("APPEND k {value}v"), long_value),
        (&format!("PUT:{key}k:v"), long_key),
        (&format!("PUT k {value}v"), long_value),
        (&format!("PUT:k:{value}v"), long_value),
        (&format!("PUT k \"{value}v\""), long_value),
        (&format!("CAS k {value}v a"), long_value),
        (&format!("CAS k a {value}v"), long_value),
        (&format!("LIST FROM {key}k"), long_key),
        (
            &format!("LIST {key}k"),
            "ERROR TOO_LONG expected a prefix of at most 1024 bytes, found 1025 bytes",
        ),
    ]);
    assert_eq!(
        RequestError::too_long_line().to_string(),
        "ERROR TOO_LONG expected a line of at most 4325376 bytes, found a longer one and dropped it"
    );
}

/// Two times of this length can be added.
#[test]
fn a_life_has_a_limit() {
    let longest = 1_152_921_504_606_846;
    check(vec![(
        "EXPIRE apple 1152921504606846",
        change(expire(longest)),
    )]);
    check_errors(&[
        (
            "EXPIRE apple 1152921504606847",
            r#"ERROR BAD_REQUEST expected seconds from 0 to 1152921504606846, found "1152921504606847""#,
        ),
        (
            "EXPIRE apple 18446744073709551615",
            r#"ERROR BAD_REQUEST expected seconds from 0 to 1152921504606846, found "18446744073709551615""#,
        ),
        (
            "EXPIRE apple -1",
            r#"ERROR BAD_REQUEST expected seconds from 0 to 1152921504606846, found "-1""#,
        ),
    ]);
}

#[test]
fn what_no_line_asks_for_is_shown_as_in_the_log() {
    for (millis, only, shown) in [
        (2_000, ExpireIf::Any, "EXPIRE apple 2\n"),
        (2_001, ExpireIf::Any, "expire apple in 2001 any\n"),
        (2_000, ExpireIf::Later, "expire apple in 2000 later\n"),
    ] {
        let mut line = Vec::new();
        let write = Write::Expire {
            key: bytes("apple"),
            deadline: Deadline::In(millis),
            only,
        };
        write_request(&mut line, &change(write));
        assert_eq!(String::from_utf8_lossy(&line), shown);
    }
}

#[test]
fn an_mget_has_a_bound_of_keys() {
    let line = |count: usize| format!("MGET{}", " k".repeat(count));
    check(vec![(
        &line(STEPS_MAX),
        many(false, &["k"].repeat(STEPS_MAX)),
    )]);
    check_errors(&[(
        &line(STEPS_MAX + 1),
        "ERROR TOO_LONG expected at most 16384 keys, found more",
    )]);
}

#[test]
fn the_longest_put_fits_in_a_line_when_all_of_it_is_escaped() {
    let request = once(
        u64::MAX,
        u64::MAX,
        Write::Put {
            key: bytes(vec![0xff; KEY_BYTES_MAX]),
            value: bytes(vec![0xff; VALUE_BYTES_MAX]),
        },
    );
    let mut line = Vec::new();
    write_request(&mut line, &request);
    line.pop();
    assert!(line.len() <= LINE_BYTES_MAX, "{}", line.len());
    assert_eq!(parse_request(&line), Ok(request));
}

/// Some bytes, often awkward ones.
fn any_bytes(min: usize) -> impl Strategy<Value = Bytes> {
    prop_oneof![
        vec(any::<u8>(), min..12),
        vec(prop::sample::select(&b" :\"\\ab\t\r\n"[..]), min..5),
    ]
    .prop_map(Bytes::from)
}

fn any_change() -> impl Strategy<Value = Write> {
    prop_oneof![
        (any_bytes(1), any_bytes(0)).prop_map(|(key, value)| Write::Put { key, value }),
        (any_bytes(1), any_bytes(0)).prop_map(|(key, value)| Write::Append { key, value }),
        any_bytes(1).prop_map(|key| Write::Delete { key }),
        (any_bytes(1), any_bytes(0), any_bytes(0)).prop_map(|(key, expected, new)| Write::Cas {
            key,
            expected,
            new
        }),
        (any_bytes(1), any::<i64>()).prop_map(|(key, by)| Write::Incr { key, by }),
        (any_bytes(1), 0..=MILLIS_MAX / 1_000).prop_map(|(key, seconds)| Write::Expire {
            key,
            deadline: Deadline::In(seconds * 1_000),
            only: ExpireIf::Any,
        }),
    ]
}

fn any_list() -> impl Strategy<Value = List> {
    let words = ["from", "FROM", "Limit", "limit 3", "LIMIT"];
    let word = prop::sample::select(words.to_vec()).prop_map(bytes);
    let prefix = prop_oneof![any_bytes(0), word.clone()];
    let from = prop::option::of(prop_oneof![any_bytes(1), word]);
    (prefix, from, prop::option::of(1..=u64::MAX)).prop_map(|(prefix, from, limit)| List {
        prefix,
        from,
        limit,
    })
}

fn any_request() -> impl Strategy<Value = Request> {
    prop_oneof![
        any_change().prop_map(change),
        (any::<u64>(), 1..=u64::MAX, any_change())
            .prop_map(|(session, seq, write)| once(session, seq, write)),
        (any::<bool>(), any_bytes(1)).prop_map(|(local, key)| Request::Read {
            local,
            read: Read::Get { key }
        }),
        (any::<bool>(), any_bytes(1)).prop_map(|(local, key)| Request::Read {
            local,
            read: Read::Ttl { key }
        }),
        (any::<bool>(), vec(any_bytes(1), 1..5)).prop_map(|(local, keys)| Request::Read {
            local,
            read: Read::Many { keys }
        }),
        (any::<bool>(), any_list()).prop_map(|(local, list)| Request::Read {
            local,
            read: Read::List(list)
        }),
        prop::sample::select(vec![
            Request::Write(Command::Session),
            Request::Status,
            Request::Ping,
            Request::Help,
            Request::Quit,
            Request::Fail,
            Request::Recover,
        ]),
        (0..=SLOW_MILLIS_MAX).prop_map(Request::Slow),
    ]
}

proptest! {
    #[test]
    fn every_request_reads_back(request in any_request(), cr in any::<bool>()) {
        let mut line = Vec::new();
        write_request(&mut line, &request);
        prop_assert_eq!(line.pop(), Some(b'\n'));
        prop_assert!(!line.iter().any(u8::is_ascii_control));
        if cr {
            line.push(b'\r');
        }
        prop_assert_eq!(parse_request(&line), Ok(request));
    }

    /// Whatever a client sends, the answer is one harmless line.
    #[test]
    fn no_line_makes_the_reader_panic(
        verb in prop::sample::select(vec![
            "", "PUT ", "PUT:", "APPEND k ", "GET:", "MGET ", "CAS ", "INCR k ", "EXPIRE k ", "LIST ",
            "LIST FROM ", "LIST LIMIT ",
            "LOCAL ", "LOCAL GET ", "ONCE ", "ONCE 1 1 ", "ONCE 1 1 PUT:", "SLOW ", "PING ",
        ]),
        rest in prop_oneof![any_bytes(0), vec(any::<u8>(), 0..60).prop_map(Bytes::from)],
    ) {
        let line = [verb.as_bytes(), &rest].concat();
        if let Err(error) = parse_request(&line) {
            let mut out = Vec::new();
            Reply::from(error).write(&mut out);
            prop_assert_eq!(out.pop(), Some(b'\n'));
            prop_assert!(!out.iter().any(u8::is_ascii_control));
            prop_assert!(out.len() < 300);
        }
    }
}

/// What people type.
#[test]
fn a_list_of_everything_is_asked_for_by_its_word_alone() {
    let mut line = Vec::new();
    let read = Read::List(List::default());
    write_request(&mut line, &Request::Read { local: false, read });
    assert_eq!(line, b"LIST\n");
}
