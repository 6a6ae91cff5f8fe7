//! The client against servers that die, refuse and forget: what it sends again, and what it tells.

mod fake;

use std::io;
use std::sync::mpsc;
use std::time::Duration;

use fake::{Act, Fake, Refusing, say};
use quince::client::{Client, Connection, ConnectionError, Error, Limits, ListError, Settings};
use quince::kv::command::{Bytes, List, Read, Write};
use quince::wire::client::{ErrorCode, Reply, Request};

/// Short enough for a test that waits for it, long enough for a busy machine where none should.
const SHORT: Duration = Duration::from_millis(300);

fn client(servers: &[&str], deadline: Duration) -> Client {
    let servers = servers.iter().map(|&server| server.into()).collect();
    let settings = Settings {
        deadline,
        ..Settings::default()
    };
    Client::new(servers, settings)
}

fn patient(servers: &[&str]) -> Client {
    client(servers, Duration::from_secs(30))
}

fn put() -> Write {
    Write::Put {
        key: b"apple"[..].into(),
        value: b"1.25"[..].into(),
    }
}

fn get() -> Read {
    Read::Get {
        key: b"apple"[..].into(),
    }
}

#[test]
fn a_lost_reply_is_asked_for_elsewhere_under_the_same_seq() {
    let first = Fake::script(vec![say("SESSION 7"), Act::Die]);
    let second = Fake::start(|_| say("OK"));
    let mut client = patient(&[&first.address, &second.address]);
    let answer = client.write(put()).unwrap();
    assert_eq!(
        (answer.reply, answer.server),
        (Reply::Ok, second.address.clone())
    );
    assert_eq!(first.received(), ["SESSION", "ONCE 7 1 PUT apple 1.25"]);
    assert_eq!(second.received(), ["ONCE 7 1 PUT apple 1.25"]);
    client.write(put()).unwrap();
    assert_eq!(second.received()[1], "ONCE 7 2 PUT apple 1.25");
}

#[test]
fn not_done_is_sent_again() {
    let server = Fake::script(vec![
        say("ERROR NOT_DONE busy"),
        say("SESSION 7"),
        say("ERROR NOT_DONE busy"),
        say("ERROR NOT_DONE busy"),
        say("OK"),
    ]);
    let answer = patient(&[&server.address]).write(put()).unwrap();
    assert_eq!(answer.reply, Reply::Ok);
    let once = "ONCE 7 1 PUT apple 1.25";
    assert_eq!(server.received(), ["SESSION", "SESSION", once, once, once]);
}

#[test]
fn unknown_is_sent_again_under_the_same_seq() {
    let first = Fake::script(vec![say("SESSION 7"), say("ERROR UNKNOWN too late")]);
    let second = Fake::script(vec![say("ERROR UNKNOWN too late"), say("OK")]);
    let mut client = patient(&[&first.address, &second.address]);
    // From the first to the second, back to the first (which dies), and to the second again.
    assert_eq!(client.write(put()).unwrap().reply, Reply::Ok);
    let once = "ONCE 7 1 PUT apple 1.25";
    assert_eq!(second.received(), [once, once]);
    assert_eq!(first.received(), ["SESSION", once, once]);
}

#[test]
fn a_write_that_stays_unknown_is_told_to_be_in_doubt() {
    let server = Fake::start(|line| match line {
        "SESSION" => say("SESSION 7"),
        line if line.starts_with("ONCE 7 1 ") => say("ERROR UNKNOWN too late"),
        _ => say("OK"),
    });
    let mut client = client(&[&server.address], SHORT);
    let error = client.write(put()).unwrap_err();
    assert!(matches!(error, Error::InDoubt { .. }), "{error:?}");
    let text = error.to_string();
    assert!(
        text.contains("unknown: too late; it may have been done"),
        "{text}"
    );
    // What is sent next can never be answered with the memory of the one in doubt.
    client.write(put()).unwrap();
    let received = server.received();
    assert_eq!(received.last().unwrap(), "ONCE 7 2 PUT apple 1.25");
}

#[test]
fn a_session_that_is_gone_is_replaced_when_nothing_is_in_doubt() {
    let server = Fake::script(vec![
        say("SESSION 7"),
        say("OK"),
        say("ERROR NO_SESSION no such session"),
        say("SESSION 8"),
        say("OK"),
    ]);
    let mut client = patient(&[&server.address]);
    client.write(put()).unwrap();
    assert_eq!(client.write(put()).unwrap().reply, Reply::Ok);
    assert_eq!(
        server.received(),
        [
            "SESSION",
            "ONCE 7 1 PUT apple 1.25",
            "ONCE 7 2 PUT apple 1.25",
            "SESSION",
            "ONCE 8 1 PUT apple 1.25"
        ]
    );
}

/// I7: a new session would forget that the write may have been applied already.
#[test]
fn a_session_that_is_gone_while_a_write_is_in_doubt_is_told() {
    let first = Fake::script(vec![say("SESSION 7"), Act::Die]);
    let second = Fake::script(vec![
        say("ERROR NO_SESSION no such session"),
        say("SESSION 8"),
        say("OK"),
    ]);
    let mut client = patient(&[&first.address, &second.address]);
    let error = client.write(put()).unwrap_err();
    assert!(matches!(error, Error::InDoubt { .. }), "{error:?}");
    assert!(
        error.to_string().contains("NO_SESSION no such session"),
        "{error}"
    );
    assert_eq!(second.received(), ["ONCE 7 1 PUT apple 1.25"]);
    // The write after it begins afresh.
    client.write(put()).unwrap();
    assert_eq!(
        second.received()[1..],
        ["SESSION", "ONCE 8 1 PUT apple 1.25"]
    );
}

#[test]
fn sessions_that_are_always_gone_end_in_an_error() {
    let server = Fake::start(|line| match line {
        "SESSION" => say("SESSION 7"),
        _ => say("ERROR NO_SESSION no such session"),
    });
    let error = patient(&[&server.address]).write(put()).unwrap_err();
    assert!(matches!(error, Error::NotDone { .. }), "{error:?}");
}

#[test]
fn errors_of_the_asker_are_answers_and_are_not_sent_again() {
    let server = Fake::script(vec![
        say("SESSION 7"),
        say("ERROR NOT_A_NUMBER it is a pear"),
    ]);
    let answer = patient(&[&server.address]).write(put()).unwrap();
    assert_eq!(
        answer.reply,
        Reply::error(ErrorCode::NotANumber, "it is a pear")
    );
    assert_eq!(server.received().len(), 2);
}

#[test]
fn a_server_that_refuses_is_passed_over_with_a_note() {
    let refusing = Refusing::bind();
    let server = Fake::start(|_| say("VALUE 1.25"));
    let mut client = patient(&[&refusing.address, &server.address]);
    let (tx, rx) = mpsc::channel();
    client.on_detour(move |detour| {
        let note = format!("{} {} {}", detour.server, detour.reason, detour.next);
        tx.send(note).unwrap();
    });
    let answer = client.read(get()).unwrap();
    assert_eq!(answer.reply, Reply::Value(b"1.25"[..].into()));
    let note = format!("{} connection refused {}", refusing.address, server.address);
    assert_eq!(rx.try_iter().collect::<Vec<_>>(), [note]);
    // It stays with the server that answered.
    assert_eq!(client.server(), server.address);
    client.read(get()).unwrap();
    assert_eq!(rx.try_iter().count(), 0);
}

#[test]
fn a_read_whose_reply_is_lost_is_sent_again() {
    let server = Fake::script(vec![Act::Die, say("NOT_FOUND")]);
    assert_eq!(
        patient(&[&server.address]).read(get()).unwrap().reply,
        Reply::NotFound
    );
}

#[test]
fn a_silent_server_is_left_after_the_limit() {
    let silent = Fake::start(|_| Act::Hush);
    let server = Fake::start(|_| say("VALUE 1.25"));
    let settings = Settings {
        limits: Limits {
            silence: SHORT,
            ..Limits::default()
        },
        ..Settings::default()
    };
    let servers = vec![silent.address.clone(), server.address.clone()];
    let answer = Client::new(servers, settings).read(get()).unwrap();
    assert_eq!(answer.server, server.address);
    assert!(answer.took >= SHORT);
}

#[test]
fn a_reader_that_gets_no_answer_is_told_that_nothing_was_done() {
    let silent = Fake::start(|_| Act::Hush);
    let error = client(&[&silent.address], SHORT).read(get()).unwrap_err();
    assert!(matches!(error, Error::NotDone { .. }), "{error:?}");
    assert!(error.to_string().contains("no reply for "), "{error}");
}

#[test]
fn what_means_one_server_is_never_sent_to_another() {
    let first = Fake::script(vec![Act::Die]);
    let second = Fake::start(|_| say("OK"));
    let refusing = Refusing::bind();
    let mut client = patient(&[&first.address, &second.address, &refusing.address]);
    let error = client.ask(&Request::Fail).unwrap_err();
    assert!(matches!(error, Error::InDoubt { .. }), "{error:?}");
    client.prefer(2);
    let error = client.ask(&Request::Recover).unwrap_err();
    assert!(matches!(error, Error::NotDone { .. }), "{error:?}");
    let error = client.ask(&Request::Slow(30)).unwrap_err();
    assert!(matches!(error, Error::NotDone { .. }), "{error:?}");
    assert_eq!(second.received(), [""; 0]);
    client.prefer(1);
    assert_eq!(client.ask(&Request::Fail).unwrap().reply, Reply::Ok);
}

#[test]
fn nobody_there_is_told_with_all_addresses() {
    let (one, two) = (Refusing::bind(), Refusing::bind());
    let error = client(&[&one.address, &two.address], SHORT)
        .write(put())
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        format!(
            "no server answered (tried {}, {}): is the cluster running? try ./run.sh",
            one.address, two.address
        )
    );
}

#[test]
fn something_else_at_the_address_is_no_answer() {
    let web = Fake::start(|_| say("HTTP/1.1 400 Bad Request"));
    let error = client(&[&web.address], SHORT).read(get()).unwrap_err();
    assert!(
        error.to_string().contains("is that a Quince server?"),
        "{error}"
    );
    let server = Fake::start(|_| say("NOT_FOUND"));
    let mut client = patient(&[&web.address, &server.address]);
    assert_eq!(client.read(get()).unwrap().reply, Reply::NotFound);
}

#[test]
fn a_reply_beyond_the_bound_is_refused_once() {
    let server = Fake::start(|_| say(format!("COUNT 100{}", "\nkey value".repeat(100))));
    let settings = Settings {
        limits: Limits {
            reply_bytes_max: 1_000,
            ..Limits::default()
        },
        ..Settings::default()
    };
    let mut client = Client::new(vec![server.address.clone()], settings);
    let list = Read::List(List::default());
    let error = client.read(list).unwrap_err();
    assert!(error.to_string().contains("at most 1000 bytes"), "{error}");
    assert_eq!(server.received(), ["LIST"]);
}

/// A list as far as it was told, and how that ended.
fn listed(client: &mut Client, most: usize) -> (Vec<Bytes>, Result<Option<Reply>, ListError>) {
    let mut keys = Vec::new();
    let end = client.list(false, List::default(), |key, _| {
        keys.push(key);
        match keys.len() {
            count if count <= most => Ok(()),
            _ => Err(io::ErrorKind::BrokenPipe.into()),
        }
    });
    (keys, end)
}

fn keys(keys: &[&str]) -> Vec<Bytes> {
    keys.iter().map(|key| key.as_bytes().into()).collect()
}

/// Other servers are asked until a list begins; an answer of one line is the answer.
#[test]
fn a_list_is_told_pair_by_pair_by_the_first_server_that_can() {
    let first = Fake::script(vec![
        say("ERROR NOT_DONE no majority"),
        say("ERROR BAD_REQUEST no such request"),
    ]);
    let second = Fake::start(|_| say("COUNT 2\na 1\nb \"2 \""));
    let mut client = patient(&[&first.address, &second.address]);
    for _ in 0..2 {
        let (told, end) = listed(&mut client, 9);
        assert_eq!(told, keys(&["a", "b"]));
        assert_eq!(end.unwrap(), None);
    }
    assert_eq!(second.received(), ["LIST", "LIST"]);
    client.prefer(0);
    let (told, end) = listed(&mut client, 9);
    assert_eq!(told, keys(&[]));
    assert!(matches!(
        end,
        Ok(Some(Reply::Error(ErrorCode::BadRequest, _)))
    ));
}

/// What was told cannot be taken back, so no other server tells its own list behind it.
#[test]
fn a_list_that_breaks_off_is_not_begun_anew() {
    let first = Fake::start(|_| say("COUNT 3\na 1\nb 2"));
    let second = Fake::start(|_| say("COUNT 0"));
    let settings = Settings {
        limits: Limits {
            silence: SHORT,
            ..Limits::default()
        },
        ..Settings::default()
    };
    let servers = [&first, &second].map(|server| server.address.clone());
    let mut client = Client::new(servers.into(), settings);
    let (told, end) = listed(&mut client, 9);
    assert_eq!(told, keys(&["a", "b"]));
    assert!(
        matches!(end, Err(ListError::BrokeOff { told: 2, .. })),
        "{end:?}"
    );
    assert_eq!(second.received(), [""; 0]);
}

/// The rest of a list that nobody wants is not taken for another reply.
#[test]
fn a_client_goes_on_after_a_list_that_was_not_wanted_to_its_end() {
    let server = Fake::start(|line| match line {
        "LIST" => say("COUNT 3\na 1\nb 2\nc 3"),
        _ => say("VALUE 1"),
    });
    let mut client = patient(&[&server.address]);
    let (told, end) = listed(&mut client, 1);
    assert_eq!(told, keys(&["a", "b"]));
    assert!(matches!(end, Err(ListError::Refused(_))), "{end:?}");
    let value = Reply::Value(b"1"[..].into());
    assert_eq!(client.read(get()).unwrap().reply, value);
}

#[test]
fn a_connection_alone_takes_pipelined_lines() {
    let mut count = 0;
    let server = Fake::start(move |_| {
        count += 1;
        say(format!("VALUE {count}\r"))
    });
    let mut connection = Connection::open(&server.address, Limits::default()).unwrap();
    connection.send(b"INCR a\nINCR a\nINCR a\n").unwrap();
    let mut line = Vec::new();
    for expected in ["VALUE 1", "VALUE 2", "VALUE 3"] {
        connection.read_line(&mut line).unwrap();
        assert_eq!(line, expected.as_bytes());
    }
}

#[test]
fn a_connection_that_ends_within_a_reply_is_lost() {
    let server = Fake::script(vec![say("COUNT 2\na 1"), Act::Die]);
    let mut connection = Connection::open(&server.address, Limits::default()).unwrap();
    connection.send(b"LIST\nQUIT\n").unwrap();
    let list = Request::Read {
        local: false,
        read: Read::List(List::default()),
    };
    let error = connection.read_reply(&list).unwrap_err();
    assert!(matches!(error, ConnectionError::Lost(_)), "{error:?}");
}
