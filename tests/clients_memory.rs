//! Clients that make a server hold much: the memory of all connections is bounded together, who holds most
//! is told so and closed, and nobody else notices.
#![cfg(target_os = "linux")]
#![allow(clippy::disallowed_methods, reason = "clients have sockets")]

mod processes;

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use processes::{Cluster, LIMIT, Wire, until};

/// The budget in these tests, in MiB: the smallest there is.
const BUDGET_MIB: usize = 32;

/// What a server takes beside what its clients make it hold, at the very most: the store, the log, 64 KiB of
/// each connection, and what the system's allocator keeps of freed memory, in an arena for each few threads.
const SLACK_MIB: usize = 192;

/// The longest argument of RESP.
const ARGUMENT_BYTES: usize = 4 << 20;

fn single() -> Cluster {
    Cluster::start(1, &["--clients-memory-mib", &BUDGET_MIB.to_string()])
}

/// The most memory that a server has held so far, in MiB.
fn peak_mib(cluster: &Cluster) -> usize {
    let status = fs::read_to_string(format!("/proc/{}/status", cluster.pid(1))).expect("it runs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.expect("a peak").trim().strip_suffix(" kB");
    kib.expect("in kB")
        .trim()
        .parse::<usize>()
        .expect("a number")
        >> 10
}

/// How many bytes its clients make a server hold, as it counts them.
fn held(cluster: &Cluster) -> usize {
    cluster.status(1).expect("it runs")["clients_bytes"]
        .parse()
        .expect("a number")
}

fn connect(cluster: &Cluster) -> TcpStream {
    let address = cluster.address(1).parse().expect("an address");
    let stream = TcpStream::connect_timeout(&address, LIMIT).expect("a running server");
    stream.set_read_timeout(Some(LIMIT)).expect("a socket");
    stream.set_write_timeout(Some(LIMIT)).expect("a socket");
    stream
}

/// All that still comes.
fn rest(mut stream: &TcpStream) -> String {
    let mut bytes = Vec::new();
    // How it ends does not matter: what was sent before does.
    let _ = stream.read_to_end(&mut bytes);
    String::from_utf8(bytes).expect("text")
}

/// A client that writes and reads all the while, and notices nothing.
struct Neighbour {
    wire: Wire,
    rounds: usize,
}

impl Neighbour {
    fn of(cluster: &Cluster) -> Self {
        Self {
            wire: cluster.open(1),
            rounds: 0,
        }
    }

    fn works(&mut self) {
        self.rounds += 1;
        // Larger than what is not counted.
        let value = format!("{}{}", self.rounds, "v".repeat(100_000));
        assert_eq!(self.wire.ask(format!("PUT mine {value}")), "OK");
        assert_eq!(self.wire.ask("GET mine"), format!("VALUE {value}"));
    }
}

/// `MULTI` and then what it only repeats: that is counted like keys and values.
#[test]
fn a_transaction_that_repeats_much_is_refused_and_takes_no_memory() {
    let cluster = single();
    let mut stream = connect(&cluster);
    let mut echo = format!("*2\r\n$4\r\nECHO\r\n${ARGUMENT_BYTES}\r\n").into_bytes();
    echo.resize(echo.len() + ARGUMENT_BYTES, b'x');
    echo.extend_from_slice(b"\r\n");
    let mut line = |request: &[u8]| {
        stream.write_all(request).expect("it listens");
        let mut line = Vec::new();
        while !line.ends_with(b"\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte).expect("a reply");
            line.push(byte[0]);
        }
        String::from_utf8(line).expect("text")
    };
    assert_eq!(line(b"*1\r\n$5\r\nMULTI\r\n"), "+OK\r\n");
    assert_eq!(line(&echo), "+QUEUED\r\n");
    let refused = line(&echo);
    assert!(
        refused.starts_with("-ERR expected at most 4194304 bytes"),
        "{refused}"
    );
    for _ in 0..100 {
        assert_eq!(line(&echo), "+QUEUED\r\n");
    }
    let aborted = line(b"*1\r\n$4\r\nEXEC\r\n");
    assert!(aborted.starts_with("-EXECABORT "), "{aborted}");
    let peak = peak_mib(&cluster);
    assert!(peak <= BUDGET_MIB + SLACK_MIB, "{peak} MiB");
}

/// Each connection holds less than it may, and all together more: whoever goes beyond is told so in what it
/// speaks, and closed.
#[test]
fn unfinished_requests_have_one_budget_and_their_neighbours_notice_nothing() {
    const HOARDERS: usize = 200;
    let cluster = single();
    let mut neighbour = Neighbour::of(&cluster);
    let mut hoarders = Vec::new();
    for number in 0..HOARDERS {
        let mut stream = connect(&cluster);
        let is_resp = number % 2 == 0;
        let mut bytes = if is_resp {
            format!("*2\r\n$4\r\nECHO\r\n${ARGUMENT_BYTES}\r\n").into_bytes()
        } else {
            b"PUT mine ".to_vec()
        };
        bytes.resize(ARGUMENT_BYTES - 1, b'x');
        // It may be closed in the middle.
        let _ = stream.write_all(&bytes);
        hoarders.push((is_resp, stream));
        if number % 10 == 0 {
            neighbour.works();
        }
    }
    let mut closed = 0;
    for (is_resp, stream) in &hoarders {
        // Those who may stay get no byte: they would be waited for in vain.
        stream.set_nonblocking(true).expect("a socket");
        let waits = matches!(stream.peek(&mut [0]), Err(error) if error.kind() == std::io::ErrorKind::WouldBlock);
        stream.set_nonblocking(false).expect("a socket");
        if waits {
            continue;
        }
        closed += 1;
        let told = rest(stream);
        let start = if *is_resp {
            "-NOTDONE all clients together hold more than 33554432 bytes"
        } else {
            "ERROR NOT_DONE all clients together hold more than 33554432 bytes"
        };
        assert!(told.starts_with(start), "{told:?}");
        assert_eq!(told.lines().count(), 1, "{told:?}");
    }
    assert!(closed >= HOARDERS - 2 * BUDGET_MIB / 4, "{closed} closed");
    assert!(closed < HOARDERS, "some may stay");
    neighbour.works();
    assert!(held(&cluster) <= BUDGET_MIB << 20);
    let peak = peak_mib(&cluster);
    assert!(peak <= BUDGET_MIB + SLACK_MIB, "{peak} MiB");
    drop(hoarders);
    until("nothing is held any more", || {
        (held(&cluster) == 0).then_some(())
    });
    neighbour.works();
}

/// The largest has to leave, also when another one asks: here it sleeps, and is woken for it.
#[test]
fn the_largest_is_told_and_closed_and_the_one_who_asked_goes_on() {
    let cluster = single();
    let mut large = connect(&cluster);
    // What a transaction holds beside its bytes is counted too.
    let mut bytes = b"*1\r\n$5\r\nMULTI\r\n".to_vec();
    for _ in 0..16_000 {
        bytes.extend_from_slice(b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$1\r\nv\r\n");
    }
    large.write_all(&bytes).expect("it listens");
    let mut queued = vec![0; b"+OK\r\n".len() + 16_000 * b"+QUEUED\r\n".len()];
    large.read_exact(&mut queued).expect("replies");
    let large_holds = held(&cluster);
    assert!(large_holds > 5 << 20, "{large_holds}");
    // Each of these takes 2 MiB.
    let smaller: Vec<TcpStream> = (0..14)
        .map(|_| {
            let mut stream = connect(&cluster);
            stream
                .write_all(&vec![b'x'; 1_900_000])
                .expect("it has room");
            stream
        })
        .collect();
    let told = rest(&large);
    assert!(
        told.starts_with("-NOTDONE all clients together"),
        "{told:?}"
    );
    // Those who are left fit, and are served when they go on.
    for mut stream in &smaller {
        stream.write_all(b"\n").expect("it listens");
        let mut code = [0; b"ERROR BAD_REQUEST".len()];
        stream.read_exact(&mut code).expect("a reply");
        assert_eq!(&code, b"ERROR BAD_REQUEST");
    }
}

/// Replies that nobody takes are held like all else.
#[test]
fn replies_that_are_not_taken_have_the_same_budget() {
    const HOARDERS: usize = 300;
    let cluster = single();
    let mut neighbour = Neighbour::of(&cluster);
    let value = "v".repeat(1 << 20);
    assert_eq!(cluster.ask(1, &format!("PUT large {value}")), "OK");
    let request = format!("MGET{}\n", " large".repeat(60));
    let hoarders: Vec<TcpStream> = (0..HOARDERS)
        .map(|number| {
            let mut stream = connect(&cluster);
            stream.write_all(request.as_bytes()).expect("it listens");
            if number % 10 == 0 {
                neighbour.works();
            }
            stream
        })
        .collect();
    let mut full = false;
    until("the budget was reached", || {
        neighbour.works();
        let held = held(&cluster);
        assert!(held <= BUDGET_MIB << 20, "{held}");
        full |= held > (BUDGET_MIB << 20) / 2;
        full.then_some(())
    });
    let peak = peak_mib(&cluster);
    assert!(peak <= BUDGET_MIB + SLACK_MIB, "{peak} MiB");
    drop(hoarders);
    until("nothing is held any more", || {
        (held(&cluster) == 0).then_some(())
    });
    neighbour.works();
}
