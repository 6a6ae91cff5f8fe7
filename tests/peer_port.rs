//! The peer port takes a known handshake and nothing else; and what comes behind a right one, however
//! wrong, never makes a server panic, nor promise what it must not, nor keeps it from leading
//! afterwards (P9).

#![allow(
    clippy::disallowed_methods,
    reason = "whoever takes a server's place listens there"
)]

mod processes;

use std::net::{Shutdown, TcpListener};
use std::sync::Arc;
use std::thread;

use parking_lot::Mutex;
use processes::{Cluster, Wire, until};

/// The last slot and the last round that can be written.
const LAST: u64 = 1 << 60;

/// A link to `n1` whose greeting was answered; that answer.
fn knock(cluster: &Cluster, greeting: &str) -> (Wire, Result<String, std::io::Error>) {
    let mut wire = Wire::open(&cluster.peer_address(1)).expect("the port is open");
    // A server may close before it has read all: that is its answer.
    let _ = wire.try_send(greeting.as_bytes());
    let answer = wire.try_line();
    (wire, answer)
}

/// Waits until the log of `n1` has a line with all these texts.
fn until_logged(cluster: &Cluster, texts: &[&str]) -> String {
    until(&format!("the log has a line with {texts:?}"), || {
        let log = cluster.log(1);
        let line = log
            .lines()
            .find(|line| texts.iter().all(|text| line.contains(text)));
        line.map(str::to_owned)
    })
}

#[test]
fn only_the_right_greeting_is_let_in() {
    let mut cluster = Cluster::new(3, &[]);
    cluster.spawn(1);
    cluster.spawn(3);
    cluster.until_led();
    for (greeting, why) in [
        (
            "quince 1 fruit n2 n1 n1,n2,n3\n",
            "expected cluster quince, found cluster \"fruit\"",
        ),
        (
            "quince 2 quince n2 n1 n1,n2,n3\n",
            "expected protocol version 1, found 2",
        ),
        (
            "quince 1 quince n2 n3 n1,n2,n3\n",
            "expected a greeting for n1, found n3",
        ),
        (
            "quince 1 quince n2 n1 n1,n2,n3,n4,n5\n",
            "expected the same servers in --peers",
        ),
        (
            "quince 1 quince n2 n1 n1,n2,n4\n",
            "expected the same servers in --peers",
        ),
        (
            "quince 1 quince n2 n1 n1,n2\n",
            "expected members such as n1,n2,n3",
        ),
        (
            "quince 1 quince n1 n1 n1,n2,n3\n",
            "expected another server, found n1",
        ),
        (
            "quince 1 quince n7 n1 n1,n2,n3\n",
            "expected another server, found n7",
        ),
        ("quince 1 quince n2 n1\n", "expected the members"),
        (
            "quince 1 quince n2 n1 n1,n2,n3 please\n",
            "expected the end of the line",
        ),
        (
            "quince 18446744073709551616 quince n2 n1 n1,n2,n3\n",
            "expected a protocol version",
        ),
        (
            "quince 1 \"\\xff\\0\\n\" n2 n1 n1,n2,n3\n",
            "expected cluster quince",
        ),
        (
            "GET / HTTP/1.1\r\nHost: quince\r\n\r\n",
            "expected a greeting of a Quince server",
        ),
        ("\n", "expected a greeting of a Quince server"),
        ("PUT a b\n", "expected a greeting of a Quince server"),
        ("welcome n1\n", "expected a greeting of a Quince server"),
        (
            "prepare b9.2 s1\n",
            "expected a greeting of a Quince server",
        ),
    ] {
        for _ in 0..3 {
            let (mut wire, answer) = knock(&cluster, greeting);
            let answer = answer.expect("an answer");
            let told = answer.strip_prefix("refused ");
            assert!(
                told.is_some_and(|told| told.starts_with(why)),
                "{greeting}: {answer}"
            );
            wire.assert_closed();
        }
        let line = until_logged(&cluster, &["on the peer port: ", why]);
        assert!(line.contains(" WARN "), "{line}");
    }
    // Each reason once, however often it came.
    let log = cluster.log(1);
    let warnings: Vec<&str> = log
        .lines()
        .filter(|line| line.contains(" WARN ") && line.contains("on the peer port"))
        .filter_map(|line| line.split("on the peer port: ").nth(1))
        .collect();
    for warning in &warnings {
        let times = warnings.iter().filter(|other| *other == warning).count();
        assert_eq!(times, 1, "{warning}");
    }
    assert_eq!(cluster.ask(1, "PUT a 1"), "OK");
    // The right one is welcome after all that.
    let (_wire, answer) = knock(&cluster, "quince 1 quince n2 n1 n1,n2,n3\n");
    assert_eq!(answer.expect("an answer"), "welcome n1");
}

#[test]
fn what_is_no_line_is_closed_without_an_answer() {
    let mut cluster = Cluster::new(3, &[]);
    cluster.spawn(1);
    cluster.spawn(3);
    cluster.until_led();
    // A line without end, and bytes that are no text.
    for garbage in [&vec![b'x'; 1 << 20][..], &[0xff; 5_000]] {
        let mut wire = Wire::open(&cluster.peer_address(1)).expect("the port is open");
        let _ = wire.try_send(garbage);
        wire.assert_closed();
    }
    until_logged(
        &cluster,
        &["on the peer port: ", "the first line is too long"],
    );
    // Half a greeting, and then nothing more ever.
    let mut half = Wire::open(&cluster.peer_address(1)).expect("the port is open");
    half.send("quince 1 quince n2");
    half.stream().shutdown(Shutdown::Write).expect("open");
    half.assert_closed();
    assert_eq!(cluster.ask(1, "PUT a 1"), "OK");
}

/// What a test is when it says that it is `n2`: it sends on a link of its own, and listens where the
/// others look for `n2`.
struct Impostor {
    link: Wire,
    heard: Arc<Mutex<Vec<String>>>,
    probes: u64,
}

impl Impostor {
    /// Takes the place of `n2`, which is not started, and greets `n1`.
    fn new(cluster: &Cluster) -> Self {
        let listener = TcpListener::bind(cluster.peer_address(2)).expect("a free port");
        let heard = Arc::new(Mutex::new(Vec::new()));
        let ears = Arc::clone(&heard);
        thread::spawn(move || {
            for stream in listener.incoming() {
                let (stream, ears) = (stream.expect("accepts"), Arc::clone(&ears));
                thread::spawn(move || {
                    let mut wire = Wire::of(stream).expect("a connection");
                    let Ok(greeting) = wire.try_line() else {
                        return;
                    };
                    if wire.try_send(b"welcome n2\n").is_err() {
                        return;
                    }
                    let from_n1 = greeting.contains(" n1 n2 ");
                    while let Ok(line) = wire.try_bytes() {
                        if from_n1 {
                            ears.lock()
                                .push(String::from_utf8_lossy(&line).into_owned());
                        }
                    }
                });
            }
        });
        let mut impostor = Self {
            link: Self::greet(cluster),
            heard,
            probes: 0,
        };
        // n1 answers on a link that it makes: from here on it is there.
        impostor.until_taken();
        impostor
    }

    fn greet(cluster: &Cluster) -> Wire {
        let (wire, answer) = knock(cluster, "quince 1 quince n2 n1 n1,n2,n3\n");
        assert_eq!(answer.expect("an answer"), "welcome n1");
        wire
    }

    fn say(&mut self, line: &str) {
        self.link.send(format!("{line}\n"));
    }

    /// What `n1` has said to `n2` so far.
    fn heard(&self) -> Vec<String> {
        self.heard.lock().clone()
    }

    fn has_heard(&self, start: &str) -> bool {
        self.heard().iter().any(|line| line.starts_with(start))
    }

    /// A new `n1` votes only once a majority has begun together: it knows the life of `n2`, and `n2` its.
    /// As long as it hears `n2` it hears a leader, so it does not try to lead itself.
    fn be_new_together(&mut self) {
        let heard = self.heard();
        let asks = heard.iter().rfind(|line| line.starts_with("heartbeat"));
        let asks = asks.and_then(|line| line.strip_suffix(" asking prompt"));
        if let Some((_, life)) = asks.and_then(|line| line.rsplit_once(' ')) {
            self.say(
                "heartbeat leading b5.2 cut-off failed s0 s0 cbf29ce484222325 1.00000000000000aa asking prompt",
            );
            self.say(&format!("known {life} together blank"));
        }
    }

    /// Waits until `n1` has taken all that was said, and its notices are here; votes may still wait for
    /// its disk. A probe may be lost before `n1` has its own link to `n2`; then another one is tried.
    fn until_taken(&mut self) {
        let first = self.probes + 1;
        until("n1 answers a probe", || {
            self.be_new_together();
            self.probes += 1;
            self.say(&format!("probe 77.{}", self.probes));
            let heard = self.heard();
            (first..=self.probes)
                .any(|number| {
                    let mark = format!("mark 77.{number} ");
                    heard.iter().any(|line| line.starts_with(&mark))
                })
                .then_some(())
        });
    }

    /// Waits until all votes of `n1` for what was said are here: what it promised last it promises again,
    /// of slots that nobody else asked for, behind them.
    fn until_voted(&mut self, promised: &str) {
        self.until_taken();
        let from = 1_000 + self.probes;
        self.say(&format!("prepare {promised} s{from}"));
        let again = format!("promise {promised} s{from} ");
        until("n1 promises again", || self.has_heard(&again).then_some(()));
    }
}

/// Every line that is no message closes the link, and says why in the log.
#[test]
fn a_malformed_line_closes_the_link_and_nothing_else() {
    let mut cluster = Cluster::new(3, &[]);
    cluster.spawn(1);
    cluster.spawn(3);
    cluster.until_led();
    for line in [
        &b""[..],
        b"hello",
        b"PUT a b",
        b"\xff\xfe\x00",
        b"prepare",
        b"prepare b3.2",
        b"prepare b0.2 s1",
        b"prepare b1152921504606846977.2 s1",
        b"prepare b18446744073709551616.2 s1",
        b"prepare b-1.2 s1",
        b"prepare b5.2 s1152921504606846977",
        b"accept b5.2 s0 noop",
        b"accept b5.2 s1 ",
        b"accepted b5.2 s1 s2",
        b"heartbeat",
        b"heartbeat leading b5.2 connected up s1 s1 12",
        b"heartbeat dancing connected up s1 s1 00c0ffee00c0ffee 1.00000000000000aa sound prompt",
        b"heartbeat following b0.0 connected up s1 s1 00c0ffee00c0ffee 1.00000000000000aa sound prompt",
        b"promise b5.2 s1 s0 s5 s6",
        b"promise b5.2 s1 s0 end s1 b1.1 \"no end",
        b"fetched s0 \"a\"",
        b"fetched s1 \"a\\nb\"",
        b"probe 5",
        b"probe 18446744073709551616.1",
        b"mark 1.1",
        b"read-index 5",
        b"index 1.1",
        b"propose",
        b"quince 1 quince n2 n1 n1,n2,n3",
    ] {
        let told = cluster
            .log(1)
            .matches("link from n2 is down: expected ")
            .count();
        let mut link = Impostor::greet(&cluster);
        link.send([line, b"\n"].concat());
        link.assert_closed();
        let log = cluster.log(1);
        let now = log.matches("link from n2 is down: expected ").count();
        assert_eq!(now, told + 1, "{}", String::from_utf8_lossy(line));
    }
    let mut link = Impostor::greet(&cluster);
    // Longer than any message: dropped as it comes, then the end.
    let megabyte = vec![b'x'; 1 << 20];
    for _ in 0..40 {
        let _ = link.try_send(&megabyte);
    }
    let _ = link.try_send(b"\n");
    link.assert_closed();
    until_logged(
        &cluster,
        &["link from n2 is down: expected a line of at most "],
    );
    assert_eq!(cluster.ask(1, "PUT a 1"), "OK");
    assert_eq!(cluster.ask(3, "GET a"), "VALUE 1");
}

/// P9: `n1`, alone with an impostor, gives promises and votes only where an honest `n2` could have asked
/// for them.
#[test]
fn forged_ballots_and_slots_get_no_promise_and_no_vote() {
    let mut cluster = Cluster::new(3, &[]);
    cluster.spawn(1);
    until("n1 is there", || cluster.status(1));
    let mut n2 = Impostor::new(&cluster);
    for forged in [
        // Other nodes' ballots, and rounds from nowhere.
        "prepare b50.1 s1",
        "prepare b50.3 s1",
        "prepare b50.9 s1",
        "prepare b0.0 s1",
        &format!("prepare b{LAST}.2 s1"),
        "accept b50.1 s1 noop",
        "accept b50.3 s1 noop",
        &format!("accept b{LAST}.2 s1 noop"),
        // Slots from nowhere, and words that are to make them near.
        &format!("accept b5.2 s{LAST} noop"),
        &format!("decided b5.2 s{LAST}"),
        &format!("accept b5.2 s{LAST} noop"),
        &format!("accept b5.2 s{} noop", LAST - 1),
    ] {
        n2.say(forged);
    }
    n2.until_taken();
    // What an honest n2 may ask for.
    n2.say("prepare b7.2 s1");
    n2.until_voted("b7.2");
    let heard = n2.heard();
    let mut votes = heard
        .iter()
        .filter(|line| line.starts_with("promise ") || line.starts_with("accepted "));
    let first = votes.next().expect("a vote");
    assert!(first.starts_with("promise b7.2 s1 s0 end"), "{heard:?}");
    assert!(
        votes.all(|vote| vote.starts_with("promise b7.2 ")),
        "{heard:?}"
    );
    n2.say("prepare b6.2 s1");
    n2.say("accept b7.2 s1 n2.1.1 put a 1");
    n2.say("accept b6.2 s2 n2.1.2 put b 1");
    n2.say("accept b7.2 s1 n2.1.1 put a 2");
    n2.until_voted("b7.2");
    assert!(
        n2.has_heard("nack b6.2 b7.2") && !n2.has_heard("promise b6.2"),
        "I2"
    );
    let votes: Vec<String> = n2.heard();
    let votes: Vec<&String> = votes
        .iter()
        .filter(|line| line.starts_with("accepted "))
        .collect();
    assert_eq!(votes, ["accepted b7.2 s1"], "I1, I3");
    until_logged(&cluster, &["I1: n2 sent two values under b7.2"]);
    // The promise outlives a restart (P1), and the vote too (P11: what was accepted is told).
    cluster.kill(1);
    cluster.spawn(1);
    until("n1 is there", || cluster.status(1));
    n2.link = Impostor::greet(&cluster);
    n2.heard.lock().clear();
    n2.until_taken();
    n2.say("accept b6.2 s2 n2.1.2 put b 1");
    n2.say("prepare b8.2 s1");
    n2.until_voted("b8.2");
    assert!(
        n2.has_heard("nack b6.2 b7.2") && !n2.has_heard("accepted "),
        "{:?}",
        n2.heard()
    );
    assert!(
        n2.has_heard("promise b8.2 s1 s0 end n1.2 s1 b7.2 \"n2.1.1 put a 1\""),
        "{:?}",
        n2.heard()
    );
}

/// P9: after every forged line there is, the two honest servers elect a leader among them and serve.
#[test]
fn forged_lines_make_no_panic_and_the_honest_majority_goes_on() {
    let mut cluster = Cluster::new(3, &[]);
    cluster.spawn(1);
    cluster.spawn(3);
    cluster.until_led();
    assert_eq!(cluster.ask(1, "PUT before 1"), "OK");
    let mut n2 = Impostor::new(&cluster);
    let max = u64::MAX;
    for forged in [
        format!("prepare b{LAST}.2 s{LAST}"),
        format!("accept b{LAST}.2 s{LAST} noop"),
        format!("accepted b1.1 s{LAST}"),
        "accepted b1.1 s1".into(),
        "accepted b1.1 s1".into(),
        format!("accepted b{LAST}.9 s1"),
        "promise b1.1 s1 s0 end".into(),
        format!("promise b1.1 s1 s{LAST} s{LAST} s{LAST} b{LAST}.2 \"noop\""),
        format!("promise b{LAST}.2 s{LAST} s{LAST} end"),
        format!("nack b1.1 b{LAST}.9"),
        format!("nack b{LAST}.1 b1.1"),
        format!("decided b{LAST}.2 s{LAST}"),
        format!("decided b1.2 s{LAST}"),
        format!("decided b1.1 s{LAST}"),
        format!(
            "heartbeat leading b{LAST}.2 connected up s1 s1 00c0ffee00c0ffee 1.00000000000000aa sound prompt"
        ),
        "heartbeat leading b9.3 connected up s1 s1 00c0ffee00c0ffee 1.00000000000000aa sound prompt"
            .into(),
        format!(
            "heartbeat idle cut-off failed s{LAST} s{LAST} ffffffffffffffff 1.00000000000000aa sound prompt"
        ),
        format!("fetch s1 s{LAST}"),
        format!("fetch s{LAST} s1"),
        format!("fetched s{LAST} \"noop\" \"noop\" \"noop\""),
        "fetched s1 \"n2.1.1 put before 2\"".into(),
        "fetched s5".into(),
        format!("probe {max}.{max}"),
        format!("mark {max}.{max} s{LAST}"),
        format!("read-index {max}.{max}"),
        format!("index {max}.{max} s{LAST}"),
        format!("index 1.1 s{LAST}"),
        format!("mark 1.1 s{LAST}"),
        "heartbeat idle connected up s0 s0 0000000000000000 0.0000000000000000 asking prompt".into(),
        format!("heartbeat idle connected up s0 s0 0000000000000000 {LAST}.00000000000000aa sound prompt"),
        "known 1.00000000000000aa together sound".into(),
        format!("outdated 0.0000000000000000 {LAST}"),
        format!("image s{LAST} \"start\" \"\" \"store s{LAST} 00c0ffee00c0ffee 0\""),
        "finish s0".into(),
        format!("finish s{LAST}"),
        "propose noop".into(),
        "propose garbage ; ; \"".into(),
        "relay n2.1.1 fly me".into(),
        format!("propose n2.{LAST}.1 session"),
        format!("relay n3.{LAST}.1 session"),
        "propose n3.1.99 session".into(),
        format!("propose n2.1.{max} put a 1"),
        format!("propose n2.{max}.{max} put a 1 ; n2.{max}.{max} put a 2"),
        format!("relay n9.{max}.{max} session"),
        format!("relay n255.1.{max} session"),
        "propose n2.1.2 put a 1 ; n2.1.1 put a 2 ; n3.1.1 put a 3".into(),
    ] {
        n2.say(&forged);
        let alive = cluster.status(1).is_some() && cluster.runs(1);
        assert!(alive, "n1 is gone after {forged}");
    }
    n2.until_taken();
    drop(n2);
    assert_eq!(cluster.ask(1, "PUT after 2"), "OK");
    assert_eq!(cluster.ask(3, "GET before"), "VALUE 1");
    assert_eq!(cluster.ask(3, "GET after"), "VALUE 2");
    // They elect again, whoever has heard what.
    for _ in 0..2 {
        for server in [1, 3] {
            cluster.kill(server);
            cluster.spawn(server);
        }
        cluster.until_led();
        assert_eq!(cluster.ask(1, "GET before"), "VALUE 1");
        assert_eq!(cluster.ask(3, "PUT after 3"), "OK");
        assert_eq!(cluster.ask(1, "GET after"), "VALUE 3");
    }
}

/// A log that repeats whatever a peer sends would fill the disk for it.
#[test]
fn a_forged_message_is_told_in_bounded_length() {
    let mut cluster = Cluster::new(3, &[]);
    cluster.spawn(1);
    until("n1 is there", || cluster.status(1));
    let mut n2 = Impostor::new(&cluster);
    n2.say(&format!("accept b1.3 s1 {}", "x".repeat(1 << 20)));
    n2.say(&format!("propose {}", "x".repeat(1 << 20)));
    n2.until_taken();
    let log = cluster.log(1);
    assert!(log.contains("ignoring a message of n2 that no server sends: "));
    assert!(log.len() < 10_000, "{} bytes", log.len());
}

/// P9: two lines, a word about far slots and a proposal there, must not make a log that no leader can
/// ever repair.
#[test]
fn a_proposal_far_ahead_is_not_taken_whatever_is_said_to_be_decided() {
    let mut cluster = Cluster::new(3, &[]);
    cluster.spawn(1);
    cluster.spawn(3);
    cluster.until_led();
    assert_eq!(cluster.ask(1, "PUT a 1"), "OK");
    let mut n2 = Impostor::new(&cluster);
    n2.say(&format!("decided b500.2 s{LAST}"));
    n2.say(&format!("accept b500.2 s{LAST} noop"));
    n2.until_taken();
    // What is decided with the vote of n1 leaves behind what it may have voted before.
    assert_eq!(cluster.ask(1, "PUT b 1"), "OK");
    n2.until_taken();
    assert!(!n2.has_heard("accepted "), "{:?}", n2.heard());
    drop(n2);
    for victim in [3, 1] {
        cluster.kill(victim);
        cluster.spawn(victim);
        cluster.until_led();
        assert_eq!(cluster.ask(3, "GET a"), "VALUE 1");
        assert_eq!(cluster.ask(1, "PUT a 1"), "OK");
    }
}

/// P9: a promise that says that everything up to the last slot is decided does not make its reader
/// propose beyond.
#[test]
fn a_promise_with_absurd_slots_elects_nobody() {
    let mut cluster = Cluster::new(3, &[]);
    cluster.spawn(1);
    cluster.spawn(3);
    cluster.until_led();
    cluster.kill(3);
    let mut n2 = Impostor::new(&cluster);
    let mut answered = 0;
    until("n1 prepares, and does not believe the promise", || {
        n2.say(
            "heartbeat idle connected up s0 s0 0000000000000000 1.00000000000000aa sound prompt",
        );
        let heard = n2.heard();
        let prepares = heard
            .iter()
            .filter_map(|line| line.strip_prefix("prepare "));
        for prepare in prepares.skip(answered) {
            let (ballot, from) = prepare.split_once(' ').expect("a ballot and a slot");
            n2.say(&format!("promise {ballot} {from} s{LAST} end"));
            answered += 1;
        }
        // Asked again: it was not counted.
        (answered > 2).then_some(())
    });
    drop(n2);
    cluster.spawn(3);
    cluster.until_led();
    assert_eq!(cluster.ask(1, "PUT a 1"), "OK");
    cluster.kill(1);
    cluster.kill(3);
    cluster.spawn(1);
    cluster.spawn(3);
    cluster.until_led();
    assert_eq!(cluster.ask(3, "GET a"), "VALUE 1");
}

/// Who greets byte by byte, each in time, does not keep one of the places in which peers greet.
#[test]
fn who_trickles_a_greeting_is_closed() {
    let mut cluster = Cluster::new(3, &[]);
    cluster.spawn(1);
    let mut wire = until("n1 takes connections", || {
        Wire::open(&cluster.peer_address(1)).ok()
    });
    let mut sent = 0;
    until("the connection is closed", || {
        sent += 1;
        wire.try_send(b"q").is_err().then_some(())
    });
    assert!(sent < 2_000, "not for the length of what it sent");
}

/// A peer that comes again has given up its link from before: however often somebody comes in a peer's name,
/// it takes one connection.
#[test]
fn a_new_link_of_a_peer_replaces_the_one_before() {
    let mut cluster = Cluster::new(3, &[]);
    cluster.spawn(1);
    until("n1 takes connections", || {
        Wire::open(&cluster.peer_address(1)).ok()
    });
    let link = || {
        let (wire, answer) = knock(&cluster, "quince 1 quince n2 n1 n1,n2,n3\n");
        assert_eq!(answer.expect("an answer"), "welcome n1");
        wire
    };
    let mut old: Vec<Wire> = (0..10).map(|_| link()).collect();
    let mut newest = link();
    // None of them is silent, which would close it as well.
    until("all but the newest are closed", || {
        newest.send("finish s1\n");
        old.retain_mut(|wire| wire.try_send(b"finish s1\n").is_ok());
        old.is_empty().then_some(())
    });
    newest.send("finish s1\n");
}

/// I2: a promise that tells of a value above itself is not counted, and so not written down: n1 starts
/// again, its log is sound, and the real n2 is heard.
#[test]
fn a_promise_of_a_value_above_itself_spoils_no_log() {
    let mut cluster = Cluster::new(3, &[]);
    cluster.spawn(1);
    cluster.spawn(3);
    cluster.until_led();
    assert_eq!(cluster.ask(1, "PUT a 1"), "OK");
    cluster.kill(3);
    let mut n2 = Impostor::new(&cluster);
    let mut answered = 0;
    until("n1 prepares again: it was not counted", || {
        n2.say(
            "heartbeat idle connected up s0 s0 0000000000000000 1.00000000000000aa sound prompt",
        );
        let heard = n2.heard();
        let prepares = heard
            .iter()
            .filter_map(|line| line.strip_prefix("prepare "));
        for prepare in prepares.skip(answered) {
            let (ballot, from) = prepare.split_once(' ').expect("a ballot and a slot");
            let last: u64 = from.strip_prefix('s').expect("a slot").parse().expect("s");
            n2.say(&format!(
                "promise {ballot} {from} s{} end {from} b900.2 \"noop\"",
                last - 1
            ));
            answered += 1;
        }
        (answered > 2).then_some(())
    });
    // And a start that no n2 has.
    n2.say(&format!(
        "heartbeat idle connected up s0 s0 0000000000000000 {LAST}.00000000000000aa sound prompt"
    ));
    n2.say(&format!("propose n2.{LAST}.1 session"));
    n2.until_taken();
    drop(n2);
    cluster.kill(1);
    let data = cluster.data(1);
    let (code, told, _) = processes::run(&["log", data.to_str().expect("a path"), "--check"]);
    assert!(code == 0 && told.ends_with("sound\n"), "{told}");
    cluster.spawn(1);
    cluster.spawn(3);
    cluster.until_led();
    assert_eq!(cluster.ask(3, "GET a"), "VALUE 1");
    assert_eq!(cluster.ask(1, "PUT a 2"), "OK");
}
