use super::super::frame::FrameBuffer;
use super::super::look::{SCAN_COUNT_MAX, Scan, Unit};
use super::super::reply::Protocol;
use super::*;
use crate::kv::change::OUT_OF_RANGE;
use crate::kv::command::{
    Deadline, END_MAX, ExpireIf, Lifetime, Outcome, Presence, SessionId, Step, Write,
};

/// Reads a request of these words.
fn read(words: &[&[u8]]) -> Result<Request, RequestError> {
    let mut stream = format!("*{}\r\n", words.len()).into_bytes();
    for word in words {
        stream.extend_from_slice(format!("${}\r\n", word.len()).as_bytes());
        stream.extend_from_slice(word);
        stream.extend_from_slice(b"\r\n");
    }
    let mut buffer = FrameBuffer::default();
    let mut rest = &stream[..];
    loop {
        assert!(buffer.read_from(&mut rest).unwrap() > 0);
        if let Some(arguments) = buffer.next_frame().unwrap() {
            return Request::read(arguments);
        }
    }
}

fn line(text: &str) -> Result<Request, RequestError> {
    let words: Vec<&[u8]> = text.split(' ').map(str::as_bytes).collect();
    read(&words)
}

fn bytes(text: &str) -> Bytes {
    text.as_bytes().into()
}

fn put(key: &str, value: &str) -> Write {
    Write::Put {
        key: bytes(key),
        value: bytes(value),
    }
}

fn incr(by: i64) -> Write {
    Write::Incr {
        key: bytes("k"),
        by,
    }
}

fn set(only: Presence, lifetime: Lifetime) -> Write {
    Write::Set {
        key: bytes("k"),
        value: bytes("v"),
        only,
        lifetime,
    }
}

fn within(millis: u64) -> Lifetime {
    Lifetime::Until(Deadline::In(millis))
}

fn expire(deadline: Deadline, only: ExpireIf) -> Write {
    Write::Expire {
        key: bytes("k"),
        deadline,
        only,
    }
}

#[test]
#[allow(clippy::too_many_lines, reason = "a table of all changes")]
fn changes_are_read() {
    let append = Write::Append {
        key: bytes("k"),
        value: bytes("v"),
    };
    let set_range = Write::SetRange {
        key: bytes("k"),
        offset: 3,
        value: bytes("v"),
    };
    let cas = Write::Cas {
        key: bytes("k"),
        expected: bytes("a"),
        new: bytes("b"),
    };
    let delete = Write::Delete { key: bytes("k") };
    for (text, write, tell) in [
        ("SET k v", put("k", "v"), Tell::Done),
        ("set k ", put("k", ""), Tell::Done),
        ("Put k v", put("k", "v"), Tell::Done),
        ("CAS k a b", cas, Tell::Instead),
        ("INCR k", incr(1), Tell::Done),
        ("DECR k", incr(-1), Tell::Done),
        ("INCRBY k -5", incr(-5), Tell::Done),
        ("INCRBY k -9223372036854775808", incr(i64::MIN), Tell::Done),
        ("DECRBY k 5", incr(-5), Tell::Done),
        ("DEL k", delete.clone(), Tell::Count),
        ("UNLINK k", delete.clone(), Tell::Count),
        ("DELETE k", delete, Tell::Count),
        (
            "SETNX k v",
            set(Presence::Absent, Lifetime::Endless),
            Tell::Count,
        ),
        ("SETEX k 2 v", set(Presence::Any, within(2_000)), Tell::Done),
        ("PSETEX k 2 v", set(Presence::Any, within(2)), Tell::Done),
        (
            "SET k v NX",
            set(Presence::Absent, Lifetime::Endless),
            Tell::Done,
        ),
        (
            "SET k v xx keepttl",
            set(Presence::Present, Lifetime::Kept),
            Tell::Done,
        ),
        (
            "SET k v NX PX 30",
            set(Presence::Absent, within(30)),
            Tell::Done,
        ),
        (
            "SET k v EX 30 NX",
            set(Presence::Absent, within(30_000)),
            Tell::Done,
        ),
        (
            "SET k v EXAT 30",
            set(Presence::Any, Lifetime::Until(Deadline::At(30_000))),
            Tell::Done,
        ),
        (
            "SET k v PXAT 30",
            set(Presence::Any, Lifetime::Until(Deadline::At(30))),
            Tell::Done,
        ),
        ("APPEND k v", append, Tell::Done),
        ("SETRANGE k 3 v", set_range, Tell::Done),
        (
            "EXPIRE k 2",
            expire(Deadline::In(2_000), ExpireIf::Any),
            Tell::Count,
        ),
        (
            "PEXPIRE k 2 nx",
            expire(Deadline::In(2), ExpireIf::Endless),
            Tell::Count,
        ),
        (
            "EXPIRE k 0",
            expire(Deadline::At(0), ExpireIf::Any),
            Tell::Count,
        ),
        (
            "EXPIRE k 1 NX nx",
            expire(Deadline::In(1_000), ExpireIf::Endless),
            Tell::Count,
        ),
        (
            "EXPIRE k -5 xx",
            expire(Deadline::At(0), ExpireIf::Mortal),
            Tell::Count,
        ),
        (
            "EXPIREAT k 2 GT XX",
            expire(Deadline::At(2_000), ExpireIf::Later),
            Tell::Count,
        ),
        (
            "PEXPIREAT k 2 LT",
            expire(Deadline::At(2), ExpireIf::Sooner),
            Tell::Count,
        ),
        ("PERSIST k", Write::Persist { key: bytes("k") }, Tell::Count),
    ] {
        let change = Change {
            steps: vec![Step::Write(write.clone())],
            tell: tell.clone(),
        };
        assert_eq!(line(text), Ok(Request::Change(change)), "{text}");
        let command = Command::Once {
            session: SessionId(7),
            seq: 3,
            write,
        };
        let once = line(&format!("ONCE 7 3 {text}"));
        assert_eq!(once, Ok(Request::Write { command, tell }), "{text}");
    }
    let command = Command::Session;
    assert_eq!(
        line("SESSION"),
        Ok(Request::Write {
            command,
            tell: Tell::Done
        })
    );
}

#[test]
fn what_takes_several_steps_is_one_transaction() {
    let get = || Step::Get { key: bytes("k") };
    let delete = |key| Step::Write(Write::Delete { key: bytes(key) });
    for (text, steps, tell) in [
        ("DEL k l", vec![delete("k"), delete("l")], Tell::Count),
        (
            "MSET k v l w",
            vec![Step::Write(put("k", "v")), Step::Write(put("l", "w"))],
            Tell::All,
        ),
        (
            "GETSET k v",
            vec![get(), Step::Write(put("k", "v"))],
            Tell::Before,
        ),
        (
            "SET k v GET",
            vec![get(), Step::Write(put("k", "v"))],
            Tell::Before,
        ),
        (
            "SET k v get nx px 5",
            vec![get(), Step::Write(set(Presence::Absent, within(5)))],
            Tell::Before,
        ),
        ("GETDEL k", vec![get(), delete("k")], Tell::Before),
        ("TIME", vec![Step::Time], Tell::Time),
        ("FLUSHALL", vec![Step::Clear], Tell::All),
        ("FLUSHDB async", vec![Step::Clear], Tell::All),
    ] {
        let Ok(Request::Change(change)) = line(text) else {
            panic!("{text}")
        };
        assert_eq!(change.steps, steps, "{text}");
        assert_eq!(change.tell, tell, "{text}");
        let (command, count, _) = change.into_command();
        assert!(matches!(command, Command::Exec(_)), "{text}");
        assert_eq!(count, steps.len());
        assert!(line(&format!("ONCE 7 3 {text}")).is_err(), "{text}");
    }
}

/// In the words of Redis 7, where it has some.
#[test]
fn wrong_options_are_errors() {
    for (text, error) in [
        ("SET k v NX XX", "ERR syntax error"),
        ("SET k v EX 1 PX 1", "ERR syntax error"),
        ("SET k v KEEPTTL EX 1", "ERR syntax error"),
        ("SET k v EX", "ERR syntax error"),
        ("SET k v FOO", "ERR syntax error"),
        (
            "SET k v EX x",
            "ERR value is not an integer or out of range",
        ),
        ("SET k v EX 0", "ERR invalid expire time in 'set' command"),
        (
            "SET k v PXAT -1",
            "ERR invalid expire time in 'set' command",
        ),
        ("SETEX k 0 v", "ERR invalid expire time in 'setex' command"),
        (
            "EXPIRE k 9223372036854775807",
            "ERR invalid expire time in 'expire' command",
        ),
        (
            "EXPIRE k -9223372036854776",
            "ERR invalid expire time in 'expire' command",
        ),
        // Its end would be past 64 bits.
        (
            "PEXPIRE k 9223372036854770000",
            "ERR invalid expire time in 'pexpire' command",
        ),
        (
            "SET k v PX 9223372036854770000",
            "ERR invalid expire time in 'set' command",
        ),
        // What is wrong with the options is found first.
        ("SET k v EX x FOO", "ERR syntax error"),
        ("EXPIRE k x FOO", "ERR Unsupported option FOO"),
        ("EXPIRE k 1 NX GT FOO", "ERR Unsupported option FOO"),
        ("EXPIRE k 1 FOO", "ERR Unsupported option FOO"),
        (
            "EXPIRE k 1 GT LT",
            "ERR GT and LT options at the same time are not compatible",
        ),
        (
            "EXPIRE k 1 NX GT",
            "ERR NX and XX, GT or LT options at the same time are not compatible",
        ),
        (
            "MSET k v l",
            "ERR wrong number of arguments for 'mset' command",
        ),
        ("SETRANGE k -1 v", "ERR offset is out of range"),
        ("FLUSHALL now", "ERR syntax error"),
    ] {
        assert_eq!(line(text).unwrap_err().to_string(), error, "{text}");
    }
}

/// As in Redis: the last time counts, and those before it are not even read.
#[test]
fn an_option_may_be_repeated() {
    for (text, same) in [
        ("SET k v EX 10 EX 20", "SET k v EX 20"),
        ("SET k v PXAT x PXAT 20", "SET k v PXAT 20"),
        ("SET k v KEEPTTL KEEPTTL", "SET k v KEEPTTL"),
        ("SET k v NX NX", "SET k v NX"),
        ("SET k v GET XX GET XX", "SET k v XX GET"),
        ("EXPIRE k 10 LT LT", "EXPIRE k 10 LT"),
    ] {
        assert!(line(text).is_ok(), "{text}");
        assert_eq!(line(text), line(same), "{text}");
    }
}

/// Whatever the largest number of a client can mean is taken, and ends a key then.
#[test]
fn the_largest_times_are_taken() {
    let at = |millis| Lifetime::Until(Deadline::At(millis));
    let changes = |text: &str, write: Write| {
        let Ok(Request::Change(change)) = line(text) else {
            panic!("{text}");
        };
        assert_eq!(change.into_command().0, Command::Write(write), "{text}");
    };
    let any = Presence::Any;
    changes("SET k v PXAT 9223372036854775807", set(any, at(END_MAX)));
    changes("SET k v EXAT 9223372036854775", set(any, at(END_MAX - 807)));
    changes(
        "PEXPIREAT k 9223372036854775807",
        expire(Deadline::At(END_MAX), ExpireIf::Any),
    );
    changes(
        "EXPIRE k -9223372036854775",
        expire(Deadline::At(0), ExpireIf::Any),
    );
    changes(
        "PEXPIREAT k -9223372036854775808",
        expire(Deadline::At(0), ExpireIf::Any),
    );
}

/// As in Redis, where only names and numbers of words are looked at before `EXEC`.
#[test]
fn what_a_mistake_spoils_is_as_in_redis() {
    for (spoils, texts) in [
        (
            Spoils::Itself,
            &[
                "SET k v EX 0",
                "SET k v FOO",
                "MSET a 1 b",
                "INCRBY k x",
                "EXPIRE k 1 FOO",
                "SELECT 99",
                "AUTH a b c",
                "CLUSTER INFO",
                "FLUSHALL now",
            ][..],
        ),
        (
            Spoils::Transaction,
            &[
                "SET k",
                "NOSUCH k",
                "DISCARD x",
                "CLIENT NOSUCH",
                "CLIENT SETNAME",
                "CONFIG GET",
            ],
        ),
        (Spoils::AtOnce, &["EXEC blah", "exec a b"]),
    ] {
        for text in texts {
            assert_eq!(line(text).unwrap_err().spoils(), spoils, "{text}");
        }
    }
    refuses(
        "EXEC blah",
        "EXECABORT Transaction discarded because of: wrong number of arguments for 'exec' command",
    );
}

/// What one slot holds has a bound, however a client asks for it.
#[test]
fn a_transaction_of_one_command_has_its_bounds() {
    let many = [vec![&b"DEL"[..]], vec![&b"k"[..]; 16_385]].concat();
    assert!(read(&many).is_err());
    assert!(read(&many[..16_385]).is_ok());
    // With keys of one byte, four of these are four megabytes.
    let value = vec![b'v'; 1_048_575];
    let mut mset = vec![&b"MSET"[..]];
    for _ in 0..4 {
        mset.extend([&b"k"[..], &value]);
    }
    assert!(read(&mset).is_ok());
    mset[1] = b"kk";
    assert_eq!(
        read(&mset).unwrap_err().to_string(),
        "ERR expected at most 4194304 bytes of keys and values in a transaction, found 4194305"
    );
    mset[3] = b"kk";
    assert!(read(&mset).is_err());
}

#[test]
fn what_makes_a_transaction_is_read() {
    let watch = Request::Watch(vec![bytes("k"), bytes("l")]);
    for (text, request) in [
        ("MULTI", Request::Multi),
        ("exec", Request::Exec),
        ("DISCARD", Request::Discard),
        ("UNWATCH", Request::Unwatch),
        ("WATCH k l", watch),
    ] {
        assert_eq!(line(text), Ok(request), "{text}");
    }
}

#[test]
fn questions_are_read() {
    let k = || bytes("k");
    let scan = |cursor, pattern: Option<&str>, count, strings| {
        Read::Scan(Scan {
            cursor,
            pattern: pattern.map(bytes),
            count,
            strings,
        })
    };
    for (text, expected) in [
        ("GET k", Read::Get(k())),
        ("EXISTS k k", Read::Exists(vec![k(), k()])),
        ("STRLEN k", Read::Length(k())),
        ("GETRANGE k 0 -1", Read::Range(k(), 0, -1)),
        ("MGET k k", Read::Many(vec![k(), k()])),
        ("TYPE k", Read::Kind(k())),
        ("KEYS *", Read::Keys(bytes("*"))),
        ("DBSIZE", Read::Size),
        ("TTL k", Read::Ttl(k(), Unit::Seconds)),
        ("PTTL k", Read::Ttl(k(), Unit::Millis)),
        ("SCAN 0", scan(0, None, 10, true)),
        ("SCAN 17 MATCH a* COUNT 5", scan(17, Some("a*"), 5, true)),
        (
            "scan 0 type STRING count 99999999",
            scan(0, None, SCAN_COUNT_MAX, true),
        ),
        ("SCAN 0 TYPE list", scan(0, None, 10, false)),
        (
            "SCAN 1 MATCH b* COUNT 6 TYPE list",
            scan(1, Some("b*"), 6, false),
        ),
    ] {
        assert_eq!(line(text), Ok(Request::Read(expected)), "{text}");
    }
}

#[test]
fn a_connection_asks_about_itself() {
    let known = |reply| Ok(Request::Known(reply));
    for text in [
        "SELECT 0",
        "AUTH default x",
        "CLIENT NO-EVICT on",
        "client no-touch OFF",
    ] {
        assert_eq!(line(text), known(Reply::OK), "{text}");
    }
    assert_eq!(line("PING"), known(Reply::Simple("PONG")));
    assert_eq!(line("ping a"), known(Reply::text("a")));
    let binary = read(&[b"ECHO", b"\x00\r\n\xff"]);
    assert_eq!(binary, known(Reply::Bulk((&b"\x00\r\n\xff"[..]).into())));
    let hello = |protocol, name: Option<&str>| {
        let name = name.map(bytes);
        Ok(Request::Hello(Hello { protocol, name }))
    };
    assert_eq!(line("HELLO"), hello(None, None));
    assert_eq!(line("HELLO 2"), hello(Some(Protocol::Two), None));
    for text in [
        "HELLO 3 AUTH default secret SETNAME me",
        "HELLO 3 SETNAME me AUTH default secret",
        "hello 3 auth default secret setname you setname me",
    ] {
        assert_eq!(line(text), hello(Some(Protocol::Three), Some("me")));
    }
    assert_eq!(line("READONLY"), Ok(Request::ReadOnly(true)));
    assert_eq!(line("readwrite"), Ok(Request::ReadOnly(false)));
    let label = |label, text| Ok(Request::Label(label, bytes(text)));
    assert_eq!(line("CLIENT SETNAME me"), label(Label::Name, "me"));
    assert_eq!(line("client setname "), label(Label::Name, ""));
    assert_eq!(
        line("CLIENT SETINFO LIB-NAME redis-py"),
        label(Label::Library, "redis-py")
    );
    assert_eq!(
        line("CLIENT SETINFO lib-ver 5.0"),
        label(Label::LibraryVersion, "5.0")
    );
    assert_eq!(line("CLIENT ID"), Ok(Request::Id));
    assert_eq!(line("CLIENT GETNAME"), Ok(Request::Name));
    assert_eq!(line("CLIENT INFO"), Ok(Request::Client));
    assert_eq!(line("CLIENT LIST"), Ok(Request::Clients));
    for (text, servers, millis) in [
        ("WAIT 2 100", 2, Some(100)),
        ("wait 0 0", 0, None),
        ("WAIT -1 1", 0, Some(1)),
    ] {
        let patience = millis.map(Duration::from_millis);
        let wait = Wait { servers, patience };
        assert_eq!(line(text), Ok(Request::Wait(wait)), "{text}");
    }
}

#[track_caller]
fn refuses(text: &str, error: &str) {
    let found = line(text).map_err(|error| error.to_string());
    assert_eq!(found, Err(error.into()), "{text}");
}

/// The words are those of Redis 7.0.15.
#[test]
#[allow(clippy::too_many_lines, reason = "a table of all errors")]
fn what_is_wrong_is_told_in_the_words_of_redis() {
    for (text, error) in [
        ("GET", "ERR wrong number of arguments for 'get' command"),
        ("get a b", "ERR wrong number of arguments for 'get' command"),
        (
            "PING a b",
            "ERR wrong number of arguments for 'ping' command",
        ),
        (
            "CLIENT",
            "ERR wrong number of arguments for 'client' command",
        ),
        (
            "CLIENT ID x",
            "ERR wrong number of arguments for 'client|id' command",
        ),
        (
            "CONFIG GET",
            "ERR wrong number of arguments for 'config|get' command",
        ),
        (
            "FOO",
            "ERR unknown command 'FOO', with args beginning with: ",
        ),
        (
            "FOO a b",
            "ERR unknown command 'FOO', with args beginning with: 'a' 'b' ",
        ),
        (
            "CLIENT MAINT_NOTIFICATIONS on",
            "ERR unknown subcommand 'MAINT_NOTIFICATIONS'. Try COMMAND INFO client.",
        ),
        ("HELLO 4", "NOPROTO unsupported protocol version"),
        (
            "HELLO abc",
            "ERR Protocol version is not an integer or out of range",
        ),
        ("HELLO 3 FOO", "ERR Syntax error in HELLO option 'FOO'"),
        (
            "HELLO 3 AUTH default x SETNAME me FOO",
            "ERR Syntax error in HELLO option 'FOO'",
        ),
        (
            "HELLO 3 AUTH default",
            "ERR Syntax error in HELLO option 'AUTH'",
        ),
        (
            "HELLO 3 SETNAME",
            "ERR Syntax error in HELLO option 'SETNAME'",
        ),
        (
            "HELLO 3 AUTH foo x",
            "WRONGPASS invalid username-password pair or user is disabled.",
        ),
        (
            "AUTH foo x",
            "WRONGPASS invalid username-password pair or user is disabled.",
        ),
        ("AUTH a b c", "ERR syntax error"),
        (
            "AUTH secret",
            "ERR AUTH <password> called without any password configured for the default user. \
             Are you sure your configuration is correct?",
        ),
        ("SELECT 1", "ERR DB index is out of range"),
        ("SELECT x", "ERR value is not an integer or out of range"),
        ("CLIENT NO-EVICT maybe", "ERR syntax error"),
        ("CLIENT SETINFO lib-x y", "ERR Unrecognized option 'lib-x'"),
        (
            "CLUSTER INFO",
            "ERR This instance has cluster support disabled",
        ),
        (
            "CLUSTER",
            "ERR wrong number of arguments for 'cluster' command",
        ),
        (
            "INCRBY k 1.5",
            "ERR value is not an integer or out of range",
        ),
        ("INCRBY k +5", "ERR value is not an integer or out of range"),
        ("INCRBY k 05", "ERR value is not an integer or out of range"),
        ("INCRBY k -0", "ERR value is not an integer or out of range"),
        (
            "INCRBY k 9223372036854775808",
            "ERR value is not an integer or out of range",
        ),
        (
            "DECRBY k -9223372036854775808",
            "ERR decrement would overflow",
        ),
        (
            "GETRANGE k x 1",
            "ERR value is not an integer or out of range",
        ),
        ("SCAN x", "ERR invalid cursor"),
        ("SCAN 18446744073709551616", "ERR invalid cursor"),
        ("SCAN 0 COUNT 0", "ERR syntax error"),
        (
            "SCAN 0 COUNT x",
            "ERR value is not an integer or out of range",
        ),
        ("SCAN 0 MATCH", "ERR syntax error"),
        ("SCAN 0 FOO bar", "ERR syntax error"),
        ("SET k v FOO", "ERR syntax error"),
    ] {
        refuses(text, error);
    }
}

/// What Redis would do, or does not know.
#[test]
fn what_is_refused_names_its_reason() {
    for (text, error) in [
        (
            "ONCE 1 0 SET k v",
            "ERR expected a seq from 1 to 18446744073709551615",
        ),
        (
            "ONCE 1 1 GET k",
            "ERR expected a command that changes one key after the seq, found 'GET'",
        ),
        (
            "ONCE 1 1 SESSION",
            "ERR wrong number of arguments for 'once' command",
        ),
        (
            "ONCE 1 1 ONCE 1 2 SET k v",
            "ERR expected a command that changes one key after the seq, found 'ONCE'",
        ),
        ("GET ", "ERR expected a key of at least 1 byte"),
        ("WAIT 1 -1", "ERR timeout is negative"),
        ("WAIT all 0", "ERR value is not an integer or out of range"),
        (
            "WAIT 0 long",
            "ERR timeout is not an integer or out of range",
        ),
    ] {
        refuses(text, error);
    }
}

#[test]
fn what_is_too_long_to_be_kept_is_told_with_its_limit() {
    let (key, value) = (
        vec![b'k'; KEY_BYTES_MAX + 1],
        vec![b'v'; VALUE_BYTES_MAX + 1],
    );
    let error = |words: &[&[u8]]| read(words).unwrap_err().to_string();
    let expected = "ERR expected a key of at most 1024 bytes, found 1025 bytes";
    assert_eq!(error(&[b"GET", &key]), expected);
    assert_eq!(error(&[b"MGET", b"a", &key]), expected);
    assert_eq!(error(&[b"SET", &key, b"v"]), expected);
    let expected = "ERR expected a value of at most 1048576 bytes, found 1048577 bytes";
    assert_eq!(error(&[b"SET", b"k", &value]), expected);
    assert_eq!(error(&[b"CAS", b"k", b"v", &value]), expected);
    assert!(read(&[b"SET", &key[1..], &value[1..]]).is_ok());
    let pattern = vec![b'*'; PATTERN_BYTES_MAX + 1];
    assert!(error(&[b"KEYS", &pattern]).starts_with("ERR expected a pattern of at most 4096"));
    assert!(read(&[b"KEYS", &pattern[1..]]).is_ok());
    assert!(read(&[b"CLIENT", b"SETNAME", &[b'x'; 256]]).is_ok());
    assert!(error(&[b"CLIENT", b"SETNAME", &[b'x'; 257]]).contains("longer than 256 bytes"));
    assert!(error(&[b"CLIENT", b"SETNAME", b"a b"]).contains("cannot contain spaces"));
}

/// As in Redis: so many bytes of what stands behind the name, and no word that there is no room for.
#[test]
fn an_unknown_command_is_repeated_up_to_a_bound() {
    let long = "x".repeat(125);
    let expected = format!("ERR unknown command 'FOO', with args beginning with: '{long}' ");
    refuses(&format!("FOO {long} y"), &expected);
    let shorter = &long[1..];
    let expected = format!("ERR unknown command 'FOO', with args beginning with: '{shorter}' 'y' ");
    refuses(&format!("FOO {shorter} yz z"), &expected);
}

/// Errors repeat what a client sent, but not all of it.
#[test]
fn an_error_is_bounded_whatever_is_wrong() {
    let long = vec![b'x'; 100_000];
    let many = vec![&b"ab"[..]; 10_000];
    for words in [
        vec![&long[..], &long, &long],
        [vec![&b"FOO"[..]], many].concat(),
        vec![b"CLIENT", &long],
        vec![b"HELLO", b"3", &long],
        vec![b"HELLO", &long],
        vec![b"SELECT", &long],
        vec![b"ONCE", &long, &long, b"SET", b"k", b"v"],
        vec![b"ONCE", b"1", b"1", &long, &long],
        vec![b"SET", b"k", b"v", &long],
        vec![b"CLIENT", b"SETINFO", &long, b"x"],
    ] {
        let text = read(&words).unwrap_err().to_string();
        assert!(text.len() < 400, "{text}");
    }
}

#[test]
fn outcomes_are_told_as_the_command_asks() {
    let code = |reply: Reply, code: &str| match reply {
        Reply::Error(text) => assert!(text.starts_with(code), "{text}"),
        other => panic!("{other:?}"),
    };
    let done = |outcome| Tell::Done.told(&mut std::iter::once(outcome), 1);
    let count = |outcome| Tell::Count.told(&mut std::iter::once(outcome), 1);
    assert_eq!(done(Outcome::Ok), Reply::OK);
    assert_eq!(count(Outcome::Ok), Reply::Integer(1));
    assert_eq!(count(Outcome::NotFound), Reply::Integer(0));
    assert_eq!(count(Outcome::Unmet), Reply::Integer(0));
    // An error of a session is no count.
    code(count(Outcome::NoSession), "NOSESSION ");
    let time = Tell::Time.told(&mut std::iter::once(Outcome::Number(1_763_894_400_012)), 1);
    let parts = ["1763894400", "12000"].map(Reply::text);
    assert_eq!(time, Reply::Array(parts.into()));
    let instead = |outcome| Tell::Instead.told(&mut std::iter::once(outcome), 1);
    assert_eq!(instead(Outcome::Ok), Reply::Integer(1));
    assert_eq!(instead(Outcome::NotFound), Reply::Null);
    assert_eq!(instead(Outcome::Mismatch(bytes("x"))), Reply::text("x"));
    assert_eq!(done(Outcome::Number(-4)), Reply::Integer(-4));
    assert_eq!(done(Outcome::Session(SessionId(1))), Reply::Integer(1));
    code(done(Outcome::StaleSeq(5)), "STALESEQ expected seq 5");
    code(done(Outcome::NoSession), "NOSESSION ");
    code(
        done(Outcome::NotANumber(OUT_OF_RANGE)),
        "ERR increment or decrement would overflow",
    );
    code(
        done(Outcome::NotANumber("else")),
        "ERR value is not an integer or out of range",
    );
}

/// `COMMAND INFO`, `DOCS` and `COUNT` tell of the same commands as are read.
#[test]
fn the_catalogue_tells_of_every_command() {
    let reply = |text| match line(text) {
        Ok(Request::Catalog(catalog)) => catalog.reply(),
        other => panic!("{other:?}"),
    };
    let Reply::Integer(count) = reply("COMMAND COUNT") else {
        panic!("a number")
    };
    let (Reply::Array(forms), Reply::Map(docs)) = (reply("COMMAND"), reply("COMMAND DOCS")) else {
        panic!("an array and a map")
    };
    assert_eq!(
        (Reply::count(forms.len()), docs.len()),
        (Reply::Integer(count), forms.len())
    );
    for form in &forms {
        assert!(
            matches!(form, Reply::Array(fields) if fields.len() == 10),
            "{form:?}"
        );
    }
    let some = reply("COMMAND INFO GET nothing");
    assert!(matches!(&some, Reply::Array(two) if two[0] != Reply::Null && two[1] == Reply::Null));
    let Reply::Map(docs) = reply("COMMAND DOCS nothing client") else {
        panic!("a map")
    };
    assert_eq!(docs.len(), 1);
    let many = |count| line(&format!("COMMAND INFO{}", " get".repeat(count)));
    assert!(many(256).is_ok());
    assert!(many(257).is_err());
}

/// What `COMMAND INFO` tells of a command, in a line: its name, its arity, where its keys stand.
fn told(form: &Reply) -> String {
    let Reply::Array(fields) = form else {
        panic!("{form:?}")
    };
    let (
        Reply::Bulk(name),
        [
            Reply::Integer(arity),
            _,
            Reply::Integer(first),
            Reply::Integer(last),
            Reply::Integer(step),
        ],
    ) = (&fields[0], &fields[1..6])
    else {
        panic!("{form:?}")
    };
    let name = String::from_utf8_lossy(name);
    format!("{name} {arity} {first} {last} {step}")
}

/// Client libraries count arguments and find keys by it. Each is as in Redis, where that has the
/// command; but the two lists take no options here.
#[test]
fn the_catalogue_tells_how_commands_are_written() {
    let Ok(Request::Catalog(catalog)) = line("COMMAND") else {
        panic!("the catalogue")
    };
    let Reply::Array(forms) = catalog.reply() else {
        panic!("an array")
    };
    let mut lines = Vec::new();
    for form in &forms {
        lines.push(told(form));
        let Reply::Array(fields) = form else {
            panic!("{form:?}")
        };
        if let Some(Reply::Array(subcommands)) = fields.last() {
            lines.extend(subcommands.iter().map(told));
        }
    }
    assert_eq!(lines, CATALOGUE.lines().collect::<Vec<_>>());
}

/// A subcommand stands right behind its family.
const CATALOGUE: &str = "\
append 3 1 1 1
auth -2 0 0 0
cas 4 1 1 1
client -2 0 0 0
client|getname 2 0 0 0
client|id 2 0 0 0
client|info 2 0 0 0
client|list 2 0 0 0
client|no-evict 3 0 0 0
client|no-touch 3 0 0 0
client|setinfo 4 0 0 0
client|setname 3 0 0 0
cluster -2 0 0 0
command -1 0 0 0
command|count 2 0 0 0
command|docs -2 0 0 0
command|info -2 0 0 0
command|list 2 0 0 0
config -2 0 0 0
config|get -3 0 0 0
dbsize 1 0 0 0
decr 2 1 1 1
decrby 3 1 1 1
del -2 1 -1 1
delete 2 1 1 1
discard 1 0 0 0
echo 2 0 0 0
exec 1 0 0 0
exists -2 1 -1 1
expire -3 1 1 1
expireat -3 1 1 1
flushall -1 0 0 0
flushdb -1 0 0 0
get 2 1 1 1
getdel 2 1 1 1
getrange 4 1 1 1
getset 3 1 1 1
hello -1 0 0 0
incr 2 1 1 1
incrby 3 1 1 1
info -1 0 0 0
keys 2 0 0 0
mget -2 1 -1 1
mset -3 1 -1 2
multi 1 0 0 0
once -5 0 0 0
persist 2 1 1 1
pexpire -3 1 1 1
pexpireat -3 1 1 1
ping -1 0 0 0
psetex 4 1 1 1
pttl 2 1 1 1
put 3 1 1 1
quit -1 0 0 0
readonly 1 0 0 0
readwrite 1 0 0 0
reset 1 0 0 0
scan -2 0 0 0
select 2 0 0 0
session 1 0 0 0
set -3 1 1 1
setex 4 1 1 1
setnx 3 1 1 1
setrange 4 1 1 1
status 1 0 0 0
strlen 2 1 1 1
time 1 0 0 0
ttl 2 1 1 1
type 2 1 1 1
unlink -2 1 -1 1
unwatch 1 0 0 0
wait 3 0 0 0
watch -2 1 -1 1";

#[test]
fn families_are_told_with_their_subcommands() {
    let docs = |text| match line(text) {
        Ok(Request::Catalog(catalog)) => {
            let mut out = Vec::new();
            catalog.reply().write(Protocol::Two, &mut out);
            String::from_utf8(out).unwrap()
        }
        other => panic!("{other:?}"),
    };
    assert!(!docs("COMMAND DOCS get").contains("subcommands"));
    assert!(docs("COMMAND DOCS config").contains("config|get"));
}
