//! What is told of a change is held against what the store did.

use super::super::frame::FrameBuffer;
use super::super::table::ROWS;
use super::*;
use crate::kv::batch::{Batch, write_command};
use crate::kv::command::{Bytes, CommandId, VALUE_BYTES_MAX};
use crate::kv::store::{Fate, Store};
use crate::wire::client;

/// Every command that `ONCE` takes, and some that it refuses, in each of the ways in which it can end.
const RESP: &[&str] = &[
    "append k 1",
    "cas k 5 6",
    "cas k x y",
    "decr k",
    "decrby k 3",
    "del k",
    "del k l",
    "delete k",
    "expire k 100",
    "expire k 100 nx",
    "expire k 100 xx",
    "expire k -1",
    "expireat k 99999999999",
    "expireat k 99999999999 gt",
    "flushall",
    "flushdb",
    "getdel k",
    "getset k v",
    "incr k",
    "incrby k 9223372036854775807",
    "mset k 1",
    "mset k 1 l 2",
    "persist k",
    "pexpire k 5000",
    "pexpire k 5000 lt",
    "pexpireat k 9999999999999",
    "psetex k 100 v",
    "put k v",
    "set k v",
    "set k v nx",
    "set k v xx keepttl",
    "set k v ex 10",
    "set k v get",
    "setex k 100 v",
    "setnx k v",
    "setrange k 3 x",
    "setrange k 2000000 x",
    "unlink k",
];

/// The commands of several steps, which `ONCE` refuses whatever their words are.
const NEVER_ONCE: &[&str] = &["flushall", "flushdb", "getdel", "getset"];

/// The same in plain lines.
const LINES: &[&str] = &[
    "PUT k v",
    "PUT:k:v",
    "APPEND k v",
    "DELETE k",
    "DELETE:k",
    "CAS k 5 6",
    "CAS k x y",
    "INCR k",
    "INCR k 9223372036854775807",
    "EXPIRE k 100",
];

/// A request in either protocol.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Asked {
    Resp(&'static str),
    Line(&'static str),
}

/// What it was answered.
#[derive(Debug, Clone, PartialEq)]
enum Answered {
    Resp(Reply),
    Line(client::Reply),
}

impl Answered {
    /// Whether its client takes the change for done.
    fn done(&self) -> bool {
        match self {
            Self::Resp(Reply::Simple(text)) => *text == "OK",
            Self::Resp(Reply::Integer(number)) => *number != 0,
            Self::Resp(_) => false,
            Self::Line(reply) => {
                matches!(reply, client::Reply::Ok | client::Reply::Value(_))
            }
        }
    }

    /// The code of an error.
    fn code(&self) -> Option<String> {
        match self {
            Self::Resp(Reply::Error(text)) => text.split(' ').next().map(str::to_owned),
            Self::Line(client::Reply::Error(code, _)) => Some(code.name().replace('_', "")),
            _ => None,
        }
    }
}

/// A key, its value, the slot that was the last to change it, and how long it still stays.
type Kept = (Bytes, Bytes, Option<u64>, Option<Option<Millis>>);

/// A store, as the log changes it.
#[derive(Clone)]
struct World {
    store: Store,
    number: u64,
}

impl World {
    /// `k` is made as these plain commands make it. There are session 1, whose last seq is 9, and session 2.
    fn new(made: &[&'static str]) -> Self {
        let mut world = Self {
            store: Store::new(),
            number: 0,
        };
        for command in made {
            world.ask(Asked::Resp(command), None);
        }
        for session in 1..=2 {
            let opened = world.run(&Command::Session);
            assert_eq!(opened, Outcome::Session(SessionId(session)));
        }
        world.ask(Asked::Resp("put other 1"), Some((1, 9)));
        world
    }

    /// Through the text of the log.
    fn run(&mut self, command: &Command) -> Outcome {
        self.number += 1;
        let id = CommandId {
            origin: 1,
            start: 1,
            number: self.number,
        };
        let mut text = b"at 1000 ; ".to_vec();
        write_command(&mut text, id, command);
        let mut fates = Vec::new();
        let batch = Batch::read(&text);
        self.store
            .apply(self.store.applied() + 1, &batch, |_, fate| fates.push(fate));
        match fates.pop() {
            Some(Fate::Applied(outcome)) => outcome,
            other => panic!("{other:?}"),
        }
    }

    /// Asks, behind `ONCE` if there is a session and a seq.
    fn ask(&mut self, asked: Asked, once: Option<(u64, u64)>) -> Answered {
        let prefix = once.map_or(String::new(), |(session, seq)| {
            format!("once {session} {seq} ")
        });
        match asked {
            Asked::Resp(text) => {
                let (command, count, tell) = match read(&format!("{prefix}{text}")) {
                    Ok(Request::Change(change)) => change.into_command(),
                    Ok(Request::Write { command, tell }) => (command, 1, tell),
                    other => panic!("{asked:?}: {other:?}"),
                };
                let outcomes = match self.run(&command) {
                    Outcome::Steps(outcomes) => outcomes,
                    outcome => vec![outcome],
                };
                Answered::Resp(tell.told(&mut outcomes.into_iter(), count))
            }
            Asked::Line(text) => {
                let line = format!("{prefix}{text}");
                let Ok(client::Request::Write(command)) = client::parse_request(line.as_bytes())
                else {
                    panic!("{asked:?}");
                };
                Answered::Line(self.run(&command).into())
            }
        }
    }

    /// All that a change may change: values, ends, and which slot was the last to change each.
    fn keys(&self) -> Vec<Kept> {
        let list = self.store.list(b"").into_iter();
        let all = list.map(|(key, value)| {
            let (version, left) = (self.store.version(&key), self.store.remaining(&key, 0));
            (key, value, version, left)
        });
        all.collect()
    }
}

fn read(words: &str) -> Result<Request, RequestError> {
    let line = format!("{words}\r\n");
    let mut buffer = FrameBuffer::default();
    buffer.read_from(&mut line.as_bytes()).unwrap();
    Request::read(buffer.next_frame().unwrap().unwrap())
}

fn takes_once(words: &str) -> bool {
    read(&format!("once 2 1 {words}")).is_ok()
}

/// All that is asked behind `ONCE` here.
fn asked() -> Vec<Asked> {
    let resp = RESP.iter().filter(|words| takes_once(words));
    let lines = LINES.iter().map(|line| Asked::Line(line));
    resp.map(|words| Asked::Resp(words)).chain(lines).collect()
}

/// In which all of these can end in all of their ways.
fn worlds() -> Vec<World> {
    let long: &'static str = format!("setrange k {} x", VALUE_BYTES_MAX - 1).leak();
    [
        &[][..],
        &["put k 5"],
        &["put k word"],
        &["setex k 50 5"],
        &["put k 9223372036854775807"],
        &[long],
    ]
    .map(World::new)
    .into()
}

/// A new command must be added to the table of this test.
#[test]
fn every_command_that_once_takes_is_held_against_the_store() {
    for row in ROWS.iter().filter(|row| row.flags.contains(&"write")) {
        let mut samples = RESP.iter().filter(|words| {
            let name = words.split(' ').next();
            name == Some(row.name)
        });
        match row.name {
            "once" | "session" => assert_eq!(samples.next(), None),
            name if NEVER_ONCE.contains(&name) => {
                assert!(samples.all(|words| !takes_once(words)), "{name}");
            }
            name => assert!(samples.any(|words| takes_once(words)), "{name}"),
        }
    }
}

/// A6: what is told as done is what the store did, and nothing else is.
#[test]
fn a_reply_behind_once_says_done_if_and_only_if_the_store_changed() {
    for world in worlds() {
        let before = world.keys();
        for first in asked() {
            let shown = format!("{first:?} of {:?}", before.len());
            // An unknown session, and a stale seq.
            for (session, seq, code) in [
                (999, 1, "NOSESSION"),
                (0, 1, "NOSESSION"),
                (1, 8, "STALESEQ"),
            ] {
                let mut world = world.clone();
                let answer = world.ask(first, Some((session, seq)));
                assert_eq!(answer.code().as_deref(), Some(code), "{shown}: {answer:?}");
                assert_eq!(world.keys(), before, "{shown}");
            }
            // A fresh one is as good as none.
            let (mut fresh, mut plain) = (world.clone(), world.clone());
            let answer = fresh.ask(first, Some((2, 1)));
            assert_eq!(answer, plain.ask(first, None), "{shown}");
            let after = fresh.keys();
            assert_eq!(after, plain.keys(), "{shown}");
            assert_eq!(answer.done(), after != before, "{shown}: {answer:?}");
            // The same seq again tells what it came to, whatever is asked.
            for second in asked() {
                let mut again = fresh.clone();
                let repeated = again.ask(second, Some((2, 1)));
                assert_eq!(again.keys(), after, "{shown}, then {second:?}");
                let told = repeated.done();
                assert_eq!(
                    told,
                    answer.done(),
                    "{shown}, then {second:?}: {repeated:?}"
                );
                if second == first {
                    assert_eq!(repeated, answer, "{shown}");
                }
            }
        }
    }
}

/// A6: no way of telling makes a success of what is none, or of nothing at all.
#[test]
fn an_outcome_that_is_missing_or_unexpected_is_never_told_as_done() {
    let key: Bytes = b"k"[..].into();
    let reads = [
        Read::Get(key.clone()),
        Read::Exists(vec![key.clone()]),
        Read::Length(key.clone()),
        Read::Kind(key.clone()),
        Read::Many(vec![key.clone()]),
        Read::Ttl(key, super::super::look::Unit::Millis),
        Read::Size,
    ];
    let changes = [
        Tell::Done,
        Tell::Count,
        Tell::Instead,
        Tell::All,
        Tell::Before,
        Tell::Time,
    ];
    let ways = || {
        changes
            .clone()
            .into_iter()
            .chain(reads.clone().map(Tell::Read))
    };
    for tell in ways() {
        for count in [1, 2] {
            let nothing = tell.clone().told(&mut std::iter::empty(), count);
            assert!(matches!(nothing, Reply::Error(_)), "{tell:?}: {nothing:?}");
        }
        // Not one of two.
        let half = tell.clone().told(&mut std::iter::once(Outcome::Ok), 2);
        assert!(matches!(half, Reply::Error(_)), "{tell:?}: {half:?}");
    }
    // None of these is a success in any words.
    for outcome in [
        Outcome::NotANumber(OUT_OF_RANGE),
        Outcome::StaleSeq(7),
        Outcome::NoSession,
        Outcome::TooLong,
        Outcome::Steps(vec![Outcome::Ok]),
    ] {
        for tell in ways() {
            let found = tell.clone().told(&mut std::iter::once(outcome.clone()), 1);
            assert!(
                matches!(found, Reply::Error(_)),
                "{tell:?}: {outcome:?}: {found:?}"
            );
        }
    }
    // Not one of these is told by a change as done; a question is never answered with them.
    for outcome in [Outcome::Unmet, Outcome::Changed] {
        for tell in ways() {
            let found = tell.clone().told(&mut std::iter::once(outcome.clone()), 1);
            let is_answer = matches!(tell, Tell::Read(_)) && !matches!(found, Reply::Error(_));
            let done = Answered::Resp(found.clone()).done();
            assert!(!done && !is_answer, "{tell:?}: {outcome:?}: {found:?}");
        }
    }
}

/// It does something and tells something: neither may hide the other.
#[test]
fn what_a_key_held_before_is_not_told_as_missing_where_it_does_not_fit() {
    let told = |found| {
        let mut outcomes = [found, Outcome::Ok].into_iter();
        Tell::Before.told(&mut outcomes, 2)
    };
    assert_eq!(told(Outcome::NotFound), Reply::Null);
    let value: Bytes = b"v"[..].into();
    assert_eq!(told(Outcome::Value(value.clone())), Reply::Bulk(value));
    let Reply::Error(text) = told(Outcome::TooLong) else {
        panic!("expected an error");
    };
    assert!(text.starts_with("ERR done, but"), "{text}");
}
