//! Raw bytes against running servers: every request and reply of the client protocol, every error
//! code, and every way to send lines badly.

#![allow(
    clippy::disallowed_methods,
    reason = "how long a write takes at least is measured by the clock"
)]

mod processes;

use std::io::{ErrorKind, Write as _};
use std::net::Shutdown;
use std::thread;
use std::time::{Duration, Instant};

use processes::{Cluster, Script, Wire, until};
use socket2::SockRef;

const VALUE_BYTES_MAX: usize = 1_048_576;
const LINE_BYTES_MAX: usize = 4_325_376;

/// One server, which is a cluster; tests of it do not wait for others.
fn single(flags: &[&str]) -> Cluster {
    Cluster::start(1, flags)
}

/// Asserts the first word, or the first two of an error.
fn assert_code(reply: &str, code: &str) {
    assert!(
        reply.starts_with(&format!("{code} ")),
        "expected {code}, found {reply}"
    );
}

/// Sends each line and expects the replies beside it, one write a line.
fn converse(wire: &mut Wire, script: &[(&str, &[&str])]) {
    let told = Script::begin();
    for (request, replies) in script {
        wire.send(format!("{request}\n"));
        for (reply, expected) in wire.lines(replies.len()).iter().zip(*replies) {
            assert!(told.agrees(reply, expected), "{request}: {reply}");
        }
    }
}

#[test]
fn every_request_has_its_replies() {
    let cluster = single(&["--allow-fail"]);
    let mut wire = cluster.open(1);
    converse(
        &mut wire,
        &[
            ("PING", &["PONG"]),
            ("PUT pear 2.10 per kilo", &["OK"]),
            ("GET pear", &["VALUE 2.10 per kilo"]),
            ("get  \t pear  ", &["VALUE 2.10 per kilo"]),
            ("GET plum", &["NOT_FOUND"]),
            ("DELETE pear", &["OK"]),
            ("DELETE pear", &["NOT_FOUND"]),
            ("CAS pear 1 2", &["NOT_FOUND"]),
            ("PUT:pear: 1:2 ", &["OK"]),
            ("GET:pear", &["VALUE 1:2"]),
            ("Cas pear \"1\" 2", &["MISMATCH 1:2"]),
            ("CAS pear 1:2 \"a b\"", &["OK"]),
            ("DELETE: pear ", &["OK"]),
            ("INCR visits", &["VALUE 1"]),
            ("INCR visits -5", &["VALUE -4"]),
            ("PUT \"a key\" \"\"", &["OK"]),
            ("PUT:empty:", &["OK"]),
            (
                "LIST",
                &["COUNT 3", "\"a key\" \"\"", "empty \"\"", "visits -4"],
            ),
            ("LIST v", &["COUNT 1", "visits -4"]),
            ("LIST w", &["COUNT 0"]),
            ("LIST FROM empty LIMIT 1", &["COUNT 1", "empty \"\""]),
            ("LIST v FROM vj", &["COUNT 0"]),
            ("LOCAL LIST e FROM a LIMIT 9", &["COUNT 1", "empty \"\""]),
            ("APPEND note 2.20", &["VALUE 4"]),
            ("append note \" a  kilo\"", &["VALUE 12"]),
            ("GET note", &["VALUE 2.20 a  kilo"]),
            (
                "MGET visits plum empty note visits",
                &[
                    "COUNT 5",
                    "VALUE -4",
                    "NOT_FOUND",
                    "VALUE \"\"",
                    "VALUE 2.20 a  kilo",
                    "VALUE -4",
                ],
            ),
            ("LOCAL MGET plum", &["COUNT 1", "NOT_FOUND"]),
            ("EXPIRE note 1000", &["OK"]),
            ("APPEND note .", &["VALUE 13"]),
            ("TTL note", &["VALUE ~1000"]),
            ("DELETE note", &["OK"]),
            ("TTL visits", &["VALUE never"]),
            ("EXPIRE visits 1000", &["OK"]),
            ("LOCAL TTL visits", &["VALUE ~1000"]),
            ("TTL plum", &["NOT_FOUND"]),
            ("EXPIRE plum 1", &["NOT_FOUND"]),
            ("LOCAL GET visits", &["VALUE -4"]),
            ("LOCAL GET plum", &["NOT_FOUND"]),
            ("LOCAL LIST vi", &["COUNT 1", "visits -4"]),
            ("SESSION", &["SESSION 1"]),
            ("ONCE 1 1 INCR visits", &["VALUE -3"]),
            ("ONCE 1 1 INCR visits", &["VALUE -3"]),
            ("ONCE 1 2 PUT:c:d", &["OK"]),
            ("ONCE 1 3 CAS c x y", &["MISMATCH d"]),
            ("ONCE 1 4 DELETE nothing", &["NOT_FOUND"]),
            ("ONCE 1 4 DELETE c", &["NOT_FOUND"]),
            ("ONCE 1 5 APPEND c e", &["VALUE 2"]),
            ("ONCE 1 5 APPEND c e", &["VALUE 2"]),
            ("GET c", &["VALUE de"]),
            ("FAIL", &["OK"]),
            ("RECOVER", &["OK"]),
            ("SLOW 1000", &["OK"]),
            ("SLOW 0", &["OK"]),
        ],
    );
    assert_eq!(wire.ask("help"), "COUNT 27");
    wire.lines(27);
    let status = cluster.status(1).expect("it runs");
    for (field, value) in [
        ("id", "n1"),
        ("role", "leader"),
        ("leader", "n1"),
        ("acceptor", "up"),
    ] {
        assert_eq!(status[field], value, "{field}");
    }
    assert!(
        status["ballot"].starts_with('b') && status["hash"].len() == 16,
        "{status:?}"
    );
    assert_eq!(status["decided"], status["applied"]);
    assert!(status["applied"].starts_with('s') && status["uptime_s"].parse::<u64>().is_ok());
    for leave in ["QUIT", "exit"] {
        let mut wire = cluster.open(1);
        wire.send(format!("PUT last {leave}\n{leave}\nPUT last never\n"));
        assert_eq!(wire.lines(2), ["OK", "BYE"]);
        wire.assert_closed();
        assert_eq!(cluster.ask(1, "GET last"), format!("VALUE {leave}"));
    }
}

/// A write is on disk before it is acknowledged, so it costs a sync; and nothing is free.
#[test]
fn status_tells_what_the_server_has_cost() {
    let cluster = Cluster::start(1, &[]);
    let cost = || {
        let status = cluster.status(1).expect("it runs");
        ["cpu_us", "syncs"].map(|field| status[field].parse::<u64>().expect("a number"))
    };
    let [cpu, syncs] = cost();
    let mut wire = cluster.open(1);
    for _ in 0..20 {
        assert_eq!(wire.ask("PUT pear 2.10"), "OK");
    }
    let [cpu_after, syncs_after] = cost();
    assert!(cpu_after > cpu, "{cpu} us, then {cpu_after} us");
    assert!(syncs_after >= syncs + 20, "{syncs}, then {syncs_after}");
}

#[test]
fn status_names_the_peers() {
    let mut cluster = Cluster::start(3, &[]);
    until("n1 hears both", || {
        let status = cluster.status(1)?;
        (status["peer n2"] == "up" && status["peer n3"] == "up").then_some(())
    });
    cluster.kill(3);
    until("n1 misses one", || {
        let status = cluster.status(1)?;
        (status["peer n2"] == "up" && status["peer n3"] == "down").then_some(())
    });
}

#[test]
fn every_fault_of_a_client_has_its_code_and_the_connection_goes_on() {
    let cluster = single(&[]);
    let mut wire = cluster.open(1);
    converse(
        &mut wire,
        &[("PUT pear x", &["OK"]), ("SESSION", &["SESSION 1"])],
    );
    converse(&mut wire, &[("ONCE 1 5 PUT a b", &["OK"])]);
    converse(&mut wire, &[("PUT max 9223372036854775807", &["OK"])]);
    let long_key = "k".repeat(1_025);
    let long_value = "v".repeat(VALUE_BYTES_MAX + 1);
    for (request, code) in [
        ("", "BAD_REQUEST"),
        (" \t ", "BAD_REQUEST"),
        ("FLY me", "BAD_REQUEST"),
        ("PUTT a b", "BAD_REQUEST"),
        ("PUT", "BAD_REQUEST"),
        ("PUT a", "BAD_REQUEST"),
        ("PUT \"\" b", "BAD_REQUEST"),
        ("PUT \"a", "BAD_REQUEST"),
        ("PUT \"a\\q\" b", "BAD_REQUEST"),
        ("PUT a \"b\" c", "BAD_REQUEST"),
        ("PUT a \"b\"c", "BAD_REQUEST"),
        ("PUT:", "BAD_REQUEST"),
        ("PUT:a", "BAD_REQUEST"),
        ("PUT: :b", "BAD_REQUEST"),
        ("PUT :a:b", "BAD_REQUEST"),
        ("GET", "BAD_REQUEST"),
        ("GET a b", "BAD_REQUEST"),
        ("MGET", "BAD_REQUEST"),
        ("MGET a \"\"", "BAD_REQUEST"),
        ("MGET:a", "BAD_REQUEST"),
        ("APPEND a", "BAD_REQUEST"),
        ("APPEND:a:b", "BAD_REQUEST"),
        ("LOCAL APPEND a b", "BAD_REQUEST"),
        ("ONCE 1 6 MGET a", "BAD_REQUEST"),
        ("GET:a:", "BAD_REQUEST"),
        ("DELETE", "BAD_REQUEST"),
        ("CAS a b", "BAD_REQUEST"),
        ("CAS a b c d", "BAD_REQUEST"),
        ("INCR:a", "BAD_REQUEST"),
        ("INCR a 1.5", "BAD_REQUEST"),
        ("INCR a 9223372036854775808", "BAD_REQUEST"),
        ("LIST a b", "BAD_REQUEST"),
        ("LIST FROM", "BAD_REQUEST"),
        ("LOCAL LIST LIMIT 0", "BAD_REQUEST"),
        ("LOCAL", "BAD_REQUEST"),
        ("LOCAL PUT a b", "BAD_REQUEST"),
        ("LOCAL LOCAL GET a", "BAD_REQUEST"),
        ("SESSION 5", "BAD_REQUEST"),
        ("ONCE", "BAD_REQUEST"),
        ("ONCE 1", "BAD_REQUEST"),
        ("ONCE 1 0 PUT a b", "BAD_REQUEST"),
        ("ONCE 1 x PUT a b", "BAD_REQUEST"),
        ("ONCE 1 6", "BAD_REQUEST"),
        ("ONCE 1 6 GET a", "BAD_REQUEST"),
        ("ONCE 1 6 PUT a", "BAD_REQUEST"),
        ("PING PONG", "BAD_REQUEST"),
        ("QUIT now", "BAD_REQUEST"),
        ("GET / HTTP/1.1", "BAD_REQUEST"),
        (&format!("GET {long_key}"), "TOO_LONG"),
        (&format!("PUT {long_key} x"), "TOO_LONG"),
        (&format!("LIST {long_key}"), "TOO_LONG"),
        (&format!("LIST FROM {long_key}"), "TOO_LONG"),
        (&format!("PUT a {long_value}"), "TOO_LONG"),
        (&format!("APPEND a {long_value}"), "TOO_LONG"),
        (&format!("APPEND a {}", &long_value[1..]), "TOO_LONG"),
        (&format!("MGET{}", " k".repeat(16_385)), "TOO_LONG"),
        (&format!("PUT:a:{long_value}"), "TOO_LONG"),
        (&format!("CAS a b {long_value}"), "TOO_LONG"),
        ("INCR pear", "NOT_A_NUMBER"),
        ("INCR max", "NOT_A_NUMBER"),
        ("ONCE 1 4 PUT a c", "STALE_SEQ"),
        ("ONCE 2 1 PUT a c", "NO_SESSION"),
        ("ONCE pear 1 PUT a c", "NO_SESSION"),
        ("FAIL", "FORBIDDEN"),
        ("RECOVER", "FORBIDDEN"),
        ("SLOW 30", "FORBIDDEN"),
        ("SLOW 1001", "BAD_REQUEST"),
    ] {
        let reply = wire.ask(request);
        let shown = &request[..request.len().min(40)];
        assert!(
            reply.starts_with(&format!("ERROR {code} ")),
            "{shown}: {reply}"
        );
        assert!(reply.len() < 300, "{shown}: {reply}");
    }
    // Nothing of all that was done.
    let all = ["COUNT 3", "a b", "max 9223372036854775807", "pear x"];
    converse(&mut wire, &[("LIST", &all)]);
}

/// P46, P47: a read never gets `UNKNOWN`; what was handed on may, and here it is applied later; every
/// reply after the deadline still belongs to its own request.
#[test]
fn after_the_deadline_a_read_is_not_done_and_a_write_unknown() {
    let cluster = single(&["--allow-fail", "--deadline", "300ms"]);
    let mut wire = cluster.open(1);
    converse(&mut wire, &[("PUT a 1", &["OK"]), ("FAIL", &["OK"])]);
    assert_eq!(cluster.status(1).expect("it runs")["acceptor"], "failed");
    wire.send("GET a\nPUT a 2\nPING\nLIST\nLOCAL GET a\n");
    assert_code(&wire.line(), "ERROR NOT_DONE");
    assert_code(&wire.line(), "ERROR UNKNOWN");
    assert_eq!(wire.line(), "PONG");
    assert_code(&wire.line(), "ERROR NOT_DONE");
    assert_eq!(wire.line(), "VALUE 1");
    assert_eq!(cluster.ask(1, "RECOVER"), "OK");
    assert_eq!(wire.ask("INCR a"), "VALUE 3");
}

/// A write needs the sync of two of the three, so of one that is slow; a read needs none.
#[test]
fn with_slow_disks_at_a_majority_writes_wait_for_them_and_reads_are_answered() {
    const SLOW: Duration = Duration::from_millis(300);
    let mut cluster = Cluster::start(3, &["--allow-fail"]);
    let leader = cluster.until_led();
    let took = |wire: &mut Wire, request: &str| {
        let since = Instant::now();
        assert_eq!(wire.ask(request), "OK", "{request}");
        since.elapsed()
    };
    let slow = [leader, 1 + leader % 3];
    for server in slow {
        let request = format!("SLOW {}", SLOW.as_millis());
        assert_eq!(cluster.ask(server, &request), "OK");
    }
    for server in cluster.servers() {
        let mut wire = cluster.open(server);
        let took = took(&mut wire, &format!("PUT a {server}"));
        assert!(took >= SLOW, "n{server}: {took:?}");
        assert_eq!(wire.ask("GET a"), format!("VALUE {server}"));
    }
    for server in slow {
        assert_eq!(cluster.ask(server, "SLOW 0"), "OK");
    }
    let mut wire = cluster.open(leader);
    until("writes are fast again", || {
        (took(&mut wire, "PUT a 4") < SLOW).then_some(())
    });
}

/// Before there is a leader nothing is handed on, so that everything is surely not done.
#[test]
fn without_a_leader_every_request_is_not_done_but_local_ones() {
    let mut cluster = Cluster::new(3, &["--deadline", "300ms"]);
    cluster.spawn(2);
    let mut wire = until("it takes connections", || {
        Wire::open(&cluster.address(2)).ok()
    });
    wire.send("PUT a 1\nSESSION\nGET a\nLIST\nLOCAL GET a\nLOCAL LIST\nPING\n");
    for _ in 0..4 {
        assert_code(&wire.line(), "ERROR NOT_DONE");
    }
    assert_eq!(wire.lines(3), ["NOT_FOUND", "COUNT 0", "PONG"]);
    assert_eq!(cluster.status(2).expect("it runs")["leader"], "none");
    // P46: and it never is.
    cluster.spawn(1);
    cluster.spawn(3);
    cluster.until_led();
    assert_eq!(wire.ask("GET a"), "NOT_FOUND");
}

/// `LOCAL` answers at once, also when no majority answers and others wait on the same connection.
#[test]
fn local_reads_are_answered_at_once_whatever_waits_behind_them() {
    let cluster = single(&["--allow-fail", "--deadline", "1m"]);
    let mut wire = cluster.open(1);
    converse(&mut wire, &[("PUT a 1", &["OK"]), ("FAIL", &["OK"])]);
    wire.send("PING\nLOCAL GET a\nGET a\n");
    assert_eq!(wire.lines(2), ["PONG", "VALUE 1"]);
    let mut other = cluster.open(1);
    other.send("LOCAL LIST\nPUT b 2\nSTATUS\n");
    assert_eq!(other.lines(2), ["COUNT 1", "a 1"]);
    assert_eq!(cluster.ask(1, "RECOVER"), "OK");
    assert_eq!(wire.line(), "VALUE 1");
    assert_eq!(other.line(), "OK");
}

/// A refusal of one read is not one of its neighbours.
#[test]
fn a_local_read_is_not_refused_with_the_read_beside_it() {
    let cluster = single(&["--allow-fail", "--deadline", "200ms"]);
    let mut wire = cluster.open(1);
    converse(&mut wire, &[("PUT a 1", &["OK"]), ("FAIL", &["OK"])]);
    wire.send("LOCAL GET a\nGET a\nLOCAL GET a\n");
    assert_eq!(wire.line(), "VALUE 1");
    assert_code(&wire.line(), "ERROR NOT_DONE");
    assert_eq!(wire.line(), "VALUE 1");
}

#[test]
fn connections_past_the_limit_are_told_so_and_closed() {
    let cluster = single(&["--clients-max", "3"]);
    // The looks at its STATUS while it started may still count.
    let mut open: Vec<Wire> = Vec::new();
    until("three connections are served", || {
        let mut wire = cluster.open(1);
        if wire.try_ask("PING").is_ok_and(|reply| reply == "PONG") {
            open.push(wire);
        }
        (open.len() == 3).then_some(())
    });
    for _ in 0..5 {
        let mut late = cluster.open(1);
        assert_eq!(late.line(), "ERROR NOT_DONE too many connections (limit 3)");
        late.assert_closed();
    }
    for wire in &mut open {
        assert_eq!(wire.ask("PUT a 1"), "OK");
    }
    // One leaves, another may come.
    open.pop();
    until("there is room again", || {
        let mut wire = cluster.open(1);
        wire.try_ask("PING").ok().filter(|reply| reply == "PONG")
    });
}

#[test]
fn pipelined_requests_take_effect_in_their_order() {
    let cluster = Cluster::start(3, &[]);
    for server in cluster.servers() {
        let mut wire = cluster.open(server);
        let mut lines = Vec::new();
        let mut replies = Vec::new();
        for round in 0..10 {
            let requests = format!(
                "PUT k{server} {round}\nGET k{server}\nINCR k{server}\nINCR k{server} 2\n\
                 LOCAL GET k{server}\nGET k{server}\nDELETE k{server}\nGET k{server}\nPING\n\
                 CAS k{server} a b\nfly\n"
            );
            lines.extend_from_slice(requests.as_bytes());
            let value = |by: u64| format!("VALUE {}", round + by);
            replies.extend([
                "OK".into(),
                value(0),
                value(1),
                value(3),
                value(3),
                value(3),
            ]);
            replies.extend(["OK", "NOT_FOUND", "PONG", "NOT_FOUND"].map(str::to_owned));
            replies.push("ERROR BAD_REQUEST".into());
        }
        wire.send(lines);
        for expected in replies {
            let line = wire.line();
            assert!(
                line == expected || line.starts_with(&format!("{expected} ")),
                "{line}"
            );
        }
    }
}

#[test]
fn ten_thousand_commands_in_one_write_are_answered_in_order() {
    let cluster = Cluster::start(3, &[]);
    let mut wire = cluster.open(2);
    let lines: String = (0..10_000)
        .map(|n| match n % 100 {
            99 => "GET n\n".to_owned(),
            _ => "INCR n\n".to_owned(),
        })
        .collect();
    let mut sending = wire.stream().try_clone().expect("a second handle");
    let sender = thread::spawn(move || sending.write_all(lines.as_bytes()));
    let mut count = 0;
    for n in 0..10_000 {
        count += u64::from(n % 100 != 99);
        assert_eq!(wire.line(), format!("VALUE {count}"));
    }
    sender.join().expect("no panic").expect("all was sent");
}

#[test]
fn garbage_is_answered_line_by_line() {
    let cluster = single(&[]);
    let mut wire = cluster.open(1);
    // Every byte but LF, in an order that makes no verb.
    let garbage: Vec<u8> = (0..=255u8).rev().filter(|&byte| byte != b'\n').collect();
    for _ in 0..100 {
        wire.send([&garbage[..], b"\n"].concat());
    }
    for _ in 0..100 {
        let line = wire.line();
        assert_code(&line, "ERROR BAD_REQUEST");
        assert!(!line.contains(|c: char| c.is_control()), "{line:?}");
    }
    assert_eq!(wire.ask("PING"), "PONG");
}

/// A11: `telnet` is a complete client, whatever it says for itself; and values stay bytes.
#[test]
fn what_a_telnet_client_says_for_itself_spoils_no_request() {
    let cluster = single(&[]);
    let mut wire = cluster.open(1);
    // As PuTTY opens: its first byte makes it a connection of plain lines.
    wire.send(b"\xff\xfb\x1f\xff\xfb\x20\xff\xfb\x18\xff\xfd\x01");
    assert_eq!(wire.ask("PING\r"), "PONG");
    // A window of 10 columns; one is resized while a request is under way.
    wire.send(b"\xff\xfa\x1f\x00\x0a\x00\x18\xff\xf0PUT k \xff\xfb\x01\n\xff\xfa\x1f\x00");
    assert_eq!(wire.line(), "OK");
    wire.send(b"\x0a\x00\x18\xff");
    wire.send(b"\xf0");
    assert_eq!(wire.ask("GET k"), "VALUE \"\\xff\\xfb\\x01\"");
    // Ctrl-C, whose last byte is urgent.
    wire.send(b"\xff\xf4\xff");
    let socket = SockRef::from(wire.stream());
    assert_eq!(socket.send_out_of_band(b"\xf2").expect("a byte"), 1);
    assert_eq!(wire.ask("GET k"), "VALUE \"\\xff\\xfb\\x01\"");
    // And what follows it: nothing is shown before this is answered.
    wire.send(b"PING\n\xff\xf4\xff\xfd\x06GET none\n");
    assert_eq!(wire.line(), "PONG");
    assert_eq!(wire.try_bytes().expect("a line"), b"\xff\xfc\x06NOT_FOUND");
    assert_code(&wire.ask(b"\xff\xffGET k"), "ERROR BAD_REQUEST");
}

/// B15: a browser lets every page send a request with a body of its own to every port.
#[test]
fn a_web_page_cannot_write() {
    let cluster = single(&[]);
    let page = "Accept: */*\r\nContent-Type: text/plain\r\n\r\nPUT stolen x\nPUT:stolen:x\n";
    let host = "Host: localhost:7001\r\n";
    // The errors before the last: a browser's first line, where it is none of these.
    for (request, errors) in [
        (format!("POST / HTTP/1.1\r\n{host}{page}"), 0),
        (format!("post /\r\n{page}"), 0),
        (format!("{host}{page}"), 0),
        (format!("hOsT:localhost\r\n{page}"), 0),
        (format!("GET / HTTP/1.1\r\n{host}{page}"), 1),
        (format!("OPTIONS / HTTP/1.1\r\n{host}{page}"), 1),
        (format!("DELETE /stolen HTTP/1.1\r\n{host}{page}"), 1),
        (format!("PATCH / HTTP/1.1\r\nX: y\r\n{host}{page}"), 2),
    ] {
        for pieces in [1, 7, request.len()] {
            let mut wire = cluster.open(1);
            wire.send("PUT before x\n");
            for piece in request.as_bytes().chunks(pieces) {
                // It may be closed before all is sent.
                if wire.try_send(piece).is_err() {
                    break;
                }
            }
            assert_eq!(wire.line(), "OK");
            for _ in 0..errors {
                assert_code(&wire.line(), "ERROR BAD_REQUEST");
            }
            let last = wire.line();
            assert!(
                last.starts_with("ERROR BAD_REQUEST expected a request, found HTTP"),
                "{last}"
            );
            wire.assert_closed();
        }
    }
    let mut wire = cluster.open(1);
    assert_eq!(wire.ask("GET stolen"), "NOT_FOUND");
    // A key or value may look like that.
    assert_eq!(wire.ask("PUT Host: POST / HTTP/1.1"), "OK");
    assert_eq!(wire.ask("GET Host:"), "VALUE POST / HTTP/1.1");
}

/// 100 MB without a LF: bounded memory, one error, and the connection goes on.
#[test]
fn a_line_of_100_mb_is_dropped_in_bounded_memory() {
    let cluster = single(&[]);
    let mut wire = cluster.open(1);
    let memory = || {
        let status = std::fs::read_to_string(format!("/proc/{}/status", cluster.pid(1)));
        let status = status.expect("Linux tells");
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kilobytes = peak.and_then(|peak| peak.trim().strip_suffix(" kB"));
        kilobytes
            .expect("kB")
            .trim()
            .parse::<usize>()
            .expect("a number")
            * 1_024
    };
    let before = memory();
    let megabyte = vec![b'x'; 1 << 20];
    for _ in 0..100 {
        wire.send(&megabyte);
    }
    wire.send("\nPING\n");
    assert_code(&wire.line(), "ERROR TOO_LONG");
    assert_eq!(wire.line(), "PONG");
    let grown = memory() - before;
    assert!(grown < 32 << 20, "{grown} bytes more at the peak");
}

/// P48: `PUT k 100` cut to `PUT k 10` is not executed.
#[test]
fn half_a_line_at_the_close_is_not_executed() {
    let cluster = single(&[]);
    let mut wire = cluster.open(1);
    assert_eq!(wire.ask("PUT k 1"), "OK");
    wire.send("PUT k 2\nPUT k 10");
    assert_eq!(wire.line(), "OK");
    wire.stream()
        .shutdown(Shutdown::Write)
        .expect("open until now");
    wire.assert_closed();
    assert_eq!(cluster.ask(1, "GET k"), "VALUE 2");
}

/// As `printf ... | nc` does: the end of what is sent comes before the replies.
#[test]
fn a_client_that_sends_no_more_gets_its_replies() {
    let cluster = Cluster::start(3, &[]);
    let mut wire = cluster.open(3);
    wire.send("PUT pear 2.10 per kilo\nGET pear\nQUIT\n");
    wire.stream()
        .shutdown(Shutdown::Write)
        .expect("open until now");
    assert_eq!(wire.lines(3), ["OK", "VALUE 2.10 per kilo", "BYE"]);
    wire.assert_closed();
}

#[test]
fn a_line_may_come_byte_by_byte_while_others_are_served() {
    let cluster = single(&[]);
    let mut slow = cluster.open(1);
    let mut quick = cluster.open(1);
    for (at, byte) in b"PUT slow 1 2 3\r\nGET slow\r\n".iter().enumerate() {
        slow.send([*byte]);
        // By its reply the server has had time to read the byte, and to make nothing of it.
        assert_eq!(quick.ask(format!("PUT quick {at}")), "OK");
    }
    assert_eq!(slow.lines(2), ["OK", "VALUE 1 2 3"]);
}

#[test]
fn keys_and_values_are_any_bytes() {
    let cluster = Cluster::start(3, &[]);
    let mut wire = cluster.open(1);
    let mut raw = b"PUT raw \x00\xff\x01 \xc3\xa9\n".to_vec();
    raw.extend_from_slice(b"GET raw\r\nPUT \xff\xfe caf\xc3\xa9\r\nGET \"\\xff\\xFE\"\n");
    wire.send(raw);
    assert_eq!(
        wire.lines(4),
        [
            "OK",
            "VALUE \"\\0\\xff\\x01 \u{e9}\"",
            "OK",
            "VALUE caf\u{e9}"
        ]
    );
    converse(
        &mut wire,
        &[
            (r#"PUT "\x00\n\r\t\"\\" "\0 \xfe\x7f""#, &["OK"]),
            (r#"GET "\0\n\r\t\"\\""#, &[r#"VALUE "\0 \xfe\x7f""#]),
            ("PUT:colon:\"a\"", &["OK"]),
            ("GET colon", &[r#"VALUE "\"a\"""#]),
            ("PUT semicolon ;", &["OK"]),
            ("PUT ; \" ; n1.1.1 put a b\"", &["OK"]),
            ("GET ;", &["VALUE \" ; n1.1.1 put a b\""]),
            ("GET a", &["NOT_FOUND"]),
        ],
    );
    // Every other server holds the same bytes.
    for server in [2, 3] {
        let mut wire = cluster.open(server);
        converse(
            &mut wire,
            &[(r#"GET "\0\n\r\t\"\\""#, &[r#"VALUE "\0 \xfe\x7f""#])],
        );
        wire.send("LIST\n");
        assert_eq!(wire.line(), "COUNT 6");
        wire.lines(6);
    }
}

#[test]
fn the_longest_key_value_and_line_fit_and_one_byte_more_does_not() {
    let mut cluster = Cluster::start(3, &[]);
    let mut wire = cluster.open(2);
    let key = "\\xfe".repeat(1_024);
    let value = "\\xff".repeat(VALUE_BYTES_MAX);
    let line = format!("PUT \"{key}\" \"{value}\"");
    assert_eq!(wire.ask(&line), "OK");
    // The longest line: white space counts.
    let padding = " ".repeat(LINE_BYTES_MAX - line.len());
    assert_eq!(wire.ask(format!("{line}{padding}")), "OK");
    assert_code(&wire.ask(format!("{line}{padding} ")), "ERROR TOO_LONG");
    assert_code(
        &wire.ask(format!("PUT \"{key}\" \"{value}a\"")),
        "ERROR TOO_LONG",
    );
    assert_code(
        &wire.ask(format!("PUT \"{key}a\" \"{value}\"")),
        "ERROR TOO_LONG",
    );
    let expected = format!("VALUE \"{value}\"");
    for server in cluster.servers() {
        let mut wire = cluster.open(server);
        assert!(wire.ask(format!("GET \"{key}\"")) == expected, "n{server}");
    }
    let longest = "x".repeat(VALUE_BYTES_MAX);
    assert_eq!(
        wire.ask(format!("CAS \"{key}\" \"\" {longest}")).len(),
        expected.len() + 3
    );
    assert_eq!(wire.ask(format!("PUT:big:{longest}")), "OK");
    // And again after a restart of everything, from the disk.
    for server in cluster.servers() {
        cluster.kill(server);
        cluster.spawn(server);
    }
    cluster.until_led();
    assert!(cluster.ask(3, &format!("GET \"{key}\"")) == expected);
}

/// Each page asks for one key more than it has, which the next one begins with: so nothing is told twice or
/// left out, whatever the keys are, also the longest.
#[test]
fn pages_of_a_list_make_up_the_list() {
    let cluster = single(&[]);
    let mut wire = cluster.open(1);
    let long = "p".repeat(1_024);
    let keys = [
        "\"\\0\"", "FROM", "LIMIT", "a", "p", "\"p\\0\"", "\"p \"", "\"p q\"", "pa", "pear", &long,
        "q",
    ];
    for key in keys {
        assert_eq!(wire.ask(format!("PUT {key} v")), "OK", "{key}");
    }
    for (prefix, count) in [("", 12), ("p", 7), ("\"LIMIT\"", 1), ("x", 0)] {
        wire.send(format!("LIST {prefix}\n"));
        assert_eq!(wire.line(), format!("COUNT {count}"));
        let whole = wire.lines(count);
        for page in [1, 2, 3, 7, 12] {
            let (mut told, mut from) = (Vec::new(), String::new());
            loop {
                wire.send(format!("LIST {prefix} {from} LIMIT {}\n", page + 1));
                let count = wire.line();
                let count = count.strip_prefix("COUNT ").expect("a list");
                let mut lines = wire.lines(count.parse().expect("a number"));
                let next = (lines.len() > page).then(|| lines.pop()).flatten();
                told.extend(lines);
                match next {
                    Some(next) => {
                        from = format!("FROM {}", next.strip_suffix(" v").expect("a pair"));
                    }
                    None => break,
                }
            }
            assert_eq!(told, whole, "pages of {page} of {prefix:?}");
        }
    }
}

/// A list is of one moment, however slowly it is read; and who reads slowly holds nobody up.
#[test]
fn others_write_while_a_long_list_is_read_slowly() {
    const KEYS: usize = 24;
    let cluster = single(&[]);
    let mut wire = cluster.open(1);
    let value = "x".repeat(VALUE_BYTES_MAX);
    for key in 10..10 + KEYS {
        assert_eq!(wire.ask(format!("PUT k{key} {value}")), "OK");
    }
    // Far more than sockets hold, so that the server stands in the middle of it.
    let mut slow: Vec<Wire> = (0..4).map(|_| cluster.open(1)).collect();
    for slow in &mut slow {
        slow.send("LIST k\n");
        assert_eq!(slow.line(), format!("COUNT {KEYS}"));
    }
    for key in 10..10 + KEYS {
        assert_eq!(wire.ask(format!("PUT k{key} new")), "OK");
        assert_eq!(wire.ask(format!("PUT kk{key} new")), "OK");
    }
    assert_eq!(wire.ask("LIST k LIMIT 1"), "COUNT 1");
    assert_eq!(wire.line(), "k10 new");
    for slow in &mut slow {
        for key in 10..10 + KEYS {
            assert!(slow.line() == format!("k{key} {value}"), "k{key}");
        }
        assert_eq!(slow.ask("GET k10"), "VALUE new");
    }
}

/// One key, named many times, has its value in the reply as often: up to 64 MiB, and no more.
#[test]
fn an_mget_of_much_comes_whole_and_of_more_is_refused() {
    let cluster = single(&[]);
    let mut wire = cluster.open(1);
    let longest = "x".repeat(VALUE_BYTES_MAX);
    assert_eq!(wire.ask(format!("PUT k {longest}")), "OK");
    let expected = format!("VALUE {longest}");
    wire.send(format!("MGET{}\nPING\n", " k".repeat(64)));
    assert_eq!(wire.line(), "COUNT 64");
    for _ in 0..64 {
        assert!(wire.line() == expected);
    }
    assert_eq!(wire.line(), "PONG");
    let refused = wire.ask(format!("MGET{} k", " k".repeat(64)));
    assert_code(&refused, "ERROR TOO_LONG");
    assert!(refused.contains("fewer keys"), "{refused}");
    assert_code(&wire.ask("APPEND k y"), "ERROR TOO_LONG");
    assert_eq!(wire.ask("APPEND k \"\""), "VALUE 1048576");
}

/// Whatever server is asked, and whoever has written.
#[test]
fn an_mget_at_one_server_sees_what_another_appended() {
    let cluster = Cluster::start(3, &[]);
    let mut wires = [1, 2, 3].map(|server| cluster.open(server));
    let mut written = String::new();
    for turn in 0..12 {
        written += &turn.to_string();
        let length = wires[turn % 3].ask(format!("APPEND k {turn}"));
        assert_eq!(length, format!("VALUE {}", written.len()));
        let wire = &mut wires[(turn + 1) % 3];
        wire.send("MGET k no k\n");
        let value = format!("VALUE {written}");
        assert_eq!(wire.lines(4), ["COUNT 3", &value, "NOT_FOUND", &value]);
    }
}

#[test]
fn a_thousand_idle_connections_disturb_nobody() {
    let limit = rlimit::increase_nofile_limit(4_096).expect("a limit");
    assert!(limit > 2_500, "this machine allows {limit} open files");
    let cluster = single(&[]);
    let mut idle: Vec<Wire> = (0..1_000).map(|_| cluster.open(1)).collect();
    let mut wire = cluster.open(1);
    for number in 1..=100 {
        assert_eq!(wire.ask("INCR n"), format!("VALUE {number}"));
    }
    for wire in idle.iter_mut().step_by(37) {
        assert_eq!(wire.ask("GET n"), "VALUE 100");
    }
}

/// P34: one client's full socket is its own affair.
#[test]
fn a_client_that_never_reads_does_not_stop_others() {
    let cluster = single(&[]);
    let mut wire = cluster.open(1);
    let value = "x".repeat(100_000);
    assert_eq!(wire.ask(format!("PUT big {value}")), "OK");
    let mut deaf: Vec<Wire> = (0..3).map(|_| cluster.open(1)).collect();
    for wire in &mut deaf {
        let mut stream = wire.stream();
        stream
            .set_write_timeout(Some(Duration::from_millis(200)))
            .expect("a time-out above zero");
        let gets = "GET big\n".repeat(1_000);
        // Until the server reads no more, because it cannot write.
        let full = (0..1_000).find_map(|_| stream.write_all(gets.as_bytes()).err());
        let full = full.expect("lines are not taken without end").kind();
        assert!(
            matches!(full, ErrorKind::WouldBlock | ErrorKind::TimedOut),
            "{full}"
        );
    }
    for number in 1..=100 {
        assert_eq!(wire.ask("INCR n"), format!("VALUE {number}"));
        assert_eq!(wire.ask("GET big").len(), value.len() + 6);
    }
}
