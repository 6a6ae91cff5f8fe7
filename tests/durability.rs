//! Five real processes under load, while they are killed with -9, restarted, frozen, and while their
//! acceptors fail: nothing that was acknowledged is ever lost, and nothing is done twice.
//!
//! kill -9 leaves the system's page cache alone, so it cannot show a missing sync (P2): crashes of the
//! machine are simulated, prefix by prefix, in `disk`.

#![allow(
    clippy::disallowed_methods,
    reason = "faults come at random moments of real time"
)]

mod processes;

use std::collections::BTreeMap;
use std::thread;
use std::time::{Duration, Instant};

use processes::load::{Load, assert_claims};
use processes::{Cluster, Wire, alone, run, until};
use rand::rngs::ChaCha8Rng;
use rand::seq::SliceRandom as _;
use rand::{RngExt as _, SeedableRng as _};

/// Another seed at each run, printed for the case that it finds something.
fn dice() -> ChaCha8Rng {
    let seed: u64 = rand::random();
    eprintln!("seed {seed}");
    ChaCha8Rng::seed_from_u64(seed)
}

/// What one line of `quince log` says, by words, without where it stands, and without what a segment
/// only carries on from those before.
fn records(cluster: &Cluster, server: u8) -> Vec<String> {
    let data = cluster.data(server);
    let (code, out, err) = run(&["log".as_ref(), data.as_os_str()]);
    assert_eq!(code, 0, "{err}");
    let mut carried = 0;
    let mut said = Vec::new();
    for body in out.lines().filter_map(|line| line.splitn(4, ' ').nth(3)) {
        if let Some(head) = body.strip_prefix("segment ") {
            let count = head.rsplit(' ').next().expect("a count of lines");
            carried = count.parse().expect("a number");
        } else if carried > 0 {
            carried -= 1;
        } else {
            said.push(body.to_owned());
        }
    }
    said
}

/// `b3.2` as something that can be compared.
fn ballot(word: &str) -> (u64, u8) {
    let (round, node) = word
        .strip_prefix('b')
        .and_then(|ballot| ballot.split_once('.'))
        .expect("a ballot");
    (
        round.parse().expect("a round"),
        node.parse().expect("a node"),
    )
}

/// P1, P6, I1, I2, I3, read from what the servers have on disk: starts rise, no server prepares one of
/// its ballots twice, no promise goes back, nothing is accepted below the promise, and a ballot has
/// one value a slot on all servers.
fn assert_logs_are_sound(cluster: &Cluster) {
    let mut proposed: BTreeMap<(String, String), String> = BTreeMap::new();
    for server in cluster.servers() {
        let (mut start, mut own, mut promised) = (0, (0, 0), (0, 0));
        for record in records(cluster, server) {
            let mut words = record.splitn(4, ' ');
            let mut word = || words.next().unwrap_or_default().to_owned();
            match &*word() {
                "start" => {
                    let number: u64 = word().parse().expect("a start");
                    assert_eq!(number, start + 1, "n{server}: {record}");
                    start = number;
                }
                "ballot" => {
                    let next = ballot(&word());
                    assert!(next > own && next.1 == server, "P6: n{server}: {record}");
                    own = next;
                }
                "promise" => {
                    let next = ballot(&word());
                    assert!(
                        next >= promised,
                        "P1: n{server}: {record} after {promised:?}"
                    );
                    promised = next;
                }
                "accept" => {
                    let (under, slot, value) = (word(), word(), word());
                    let next = ballot(&under);
                    assert!(
                        next >= promised,
                        "P3: n{server}: {record} after {promised:?}"
                    );
                    promised = next;
                    let before = proposed
                        .entry((under, slot))
                        .or_insert_with(|| value.clone());
                    assert_eq!(*before, value, "I1: n{server}: {record}");
                }
                _ => {}
            }
        }
    }
    assert!(!proposed.is_empty());
}

/// P1, P2 (as far as kill -9 shows it), P6, P12, P18, P23, P28, P45, P46, P50; D17: two of five may be down.
#[test]
fn kill_9_of_one_two_and_all_five_under_load_loses_nothing() {
    let _alone = alone();
    let mut dice = dice();
    let mut cluster = Cluster::start(5, &[]);
    let load = Load::start(&cluster, 6, 3, dice.random());
    for how_many in [1, 2, 5, 1, 2, 5] {
        load.until_acked(dice.random_range(50..400));
        thread::sleep(Duration::from_millis(dice.random_range(0..30)));
        let mut victims = cluster.servers();
        victims.shuffle(&mut dice);
        victims.truncate(how_many);
        cluster.kill_all(&victims);
        if how_many < 3 {
            // The others go on without them.
            load.until_acked(dice.random_range(50..400));
        }
        cluster.spawn_all(&victims);
    }
    // One after another, each while the one before is only just coming back.
    for server in cluster.servers() {
        load.until_acked(20);
        cluster.kill(server);
        cluster.spawn(server);
    }
    load.until_acked(200);
    let claims = load.finish();
    let status = cluster.until_agreed();
    eprintln!("{} claims, {status:?}", claims.len());
    assert_claims(&mut cluster, &claims);
    cluster.stop();
    assert_logs_are_sound(&cluster);
}

/// P10, D8: acceptors fail and recover by themselves, all five at once and independently, for spans
/// far shorter than anybody would choose; requests wait for a majority and go through.
#[test]
fn failing_acceptors_lose_nothing_and_forget_nothing() {
    let _alone = alone();
    let mut dice = dice();
    let flags = [
        "--fail-every",
        "50ms..300ms",
        "--recover-after",
        "50ms..300ms",
    ];
    let mut cluster = Cluster::start(5, &flags);
    let load = Load::start(&cluster, 6, 3, dice.random());
    for _ in 0..3 {
        load.until_acked(150);
        let victim = dice.random_range(1..=5);
        cluster.kill(victim);
        load.until_acked(150);
        cluster.spawn(victim);
    }
    until("each acceptor has failed ten times", || {
        let failures = |server| cluster.log(server).matches("acceptor failed").count();
        cluster
            .servers()
            .into_iter()
            .all(|server| failures(server) >= 10)
            .then_some(())
    });
    load.until_acked(300);
    let claims = load.finish();
    cluster.until_agreed();
    assert_claims(&mut cluster, &claims);
    cluster.stop();
    assert_logs_are_sound(&cluster);
}

/// D9, P19, P25: a server that was away for thousands of slots fetches them by itself while the load
/// goes on, and then serves them from its own store.
#[test]
fn a_killed_server_catches_up_by_itself_under_load() {
    let _alone = alone();
    let mut dice = dice();
    let mut cluster = Cluster::start(5, &[]);
    let led_by = cluster.until_led();
    let victim = if led_by == 5 { 4 } else { 5 };
    cluster.kill(victim);
    let load = Load::start(&cluster, 4, 1, dice.random());
    let mut wire = cluster.open(led_by);
    // A slot each, because each waits for the one before: this makes a gap worth the name.
    let applied = || -> u64 {
        let status = cluster.status(led_by).expect("it runs");
        status["applied"][1..].parse().expect("a slot")
    };
    let before = applied();
    until("the gap has 2,000 slots", || {
        let lines: Vec<String> = (0..200).map(|n| format!("PUT gap{n} {n}\n")).collect();
        wire.send(lines.concat());
        wire.lines(200);
        (applied() >= before + 2_000).then_some(())
    });
    cluster.spawn(victim);
    until("the log tells that it has caught up", || {
        let log = cluster.log(victim);
        (log.contains("catching up: fetching ") && log.contains("caught up: ")).then_some(())
    });
    load.until_acked(50);
    assert_eq!(cluster.ask(victim, "LOCAL GET gap7"), "VALUE 7");
    let claims = load.finish();
    cluster.until_agreed();
    assert_claims(&mut cluster, &claims);
}

/// P49: the first reads after a restart wait until the server knows what it must; P23: all is there.
#[test]
fn the_first_read_after_a_restart_sees_the_last_write() {
    let mut cluster = Cluster::start(3, &[]);
    for round in 1..=4 {
        for key in 0..20 {
            let line = format!("PUT key{key} {round}");
            assert_eq!(cluster.ask(1 + key % 3, &line), "OK");
        }
        // Two of three, then all: the first read comes as soon as a port is open.
        let victims: &[u8] = if round % 2 == 0 { &[1, 2, 3] } else { &[1, 2] };
        cluster.kill_all(victims);
        cluster.spawn_all(victims);
        for &victim in victims {
            let mut wire = until("it takes connections", || {
                Wire::open(&cluster.address(victim)).ok()
            });
            for key in 0..20 {
                let reply = wire.ask(format!("GET key{key}"));
                assert_eq!(reply, format!("VALUE {round}"), "key{key} at n{victim}");
            }
        }
    }
}

/// P28: what one server acknowledged, every other one reads at once.
#[test]
fn a_write_at_one_server_is_read_at_every_other_at_once() {
    let cluster = Cluster::start(5, &[]);
    let mut wires: Vec<_> = cluster.servers().iter().map(|&n| cluster.open(n)).collect();
    for number in 0..300 {
        let (writer, reader) = (number % 5, (number / 5 + number) % 5);
        assert_eq!(wires[writer].ask(format!("PUT key {number}")), "OK");
        assert_eq!(wires[reader].ask("GET key"), format!("VALUE {number}"));
    }
}

/// P45, D12: a write whose reply was lost is sent again, elsewhere, after somebody else's write: it
/// must not come back.
#[test]
fn a_repeat_after_another_clients_write_changes_nothing() {
    let mut cluster = Cluster::start(3, &[]);
    let session = cluster.ask(1, "SESSION");
    let session = session
        .strip_prefix("SESSION ")
        .expect("a session")
        .to_owned();
    let mut lost = cluster.open(1);
    let once = format!("ONCE {session} 1 PUT key a");
    lost.send(format!("{once}\n"));
    // Somebody sees it, so it was done; its own client never hears of it.
    until("the write is done", || {
        (cluster.ask(2, "GET key") == "VALUE a").then_some(())
    });
    drop(lost);
    assert_eq!(cluster.ask(2, "PUT key b"), "OK");
    cluster.kill(1);
    assert_eq!(cluster.ask(3, &once), "OK");
    assert_eq!(cluster.ask(3, "GET key"), "VALUE b");
    // P24's little sister: a restart of everything remembers the session too.
    cluster.kill(2);
    cluster.kill(3);
    for server in cluster.servers() {
        cluster.spawn(server);
    }
    cluster.until_led();
    assert_eq!(cluster.ask(1, &once), "OK");
    assert_eq!(cluster.ask(1, "GET key"), "VALUE b");
    let incr = format!("ONCE {session} 2 INCR n");
    for server in cluster.servers() {
        assert_eq!(cluster.ask(server, &incr), "VALUE 1");
    }
    assert!(cluster.ask(2, &once).starts_with("ERROR STALE_SEQ "));
}

/// P28, P32, P33: a leader that is frozen is replaced; when it goes on it answers nothing stale,
/// neither what waited in its socket nor what comes later, and its old proposals change nothing.
#[test]
fn a_frozen_leader_is_replaced_and_answers_nothing_stale() {
    let _alone = alone();
    let mut cluster = Cluster::start(3, &[]);
    for round in 1..=2 {
        let frozen = cluster.until_led();
        let rest: Vec<u8> = cluster
            .servers()
            .into_iter()
            .filter(|&n| n != frozen)
            .collect();
        let mut waiting = cluster.open(frozen);
        let mut put = cluster.open(frozen);
        let mut knocked = cluster.open(frozen);
        assert_eq!(knocked.ask("PING"), "PONG");
        cluster.signal(frozen, "STOP");
        let since = Instant::now();
        // Both wait in the frozen server's socket, sent before the others' write.
        waiting.send("GET key\nLOCAL GET key\nGET key\n");
        put.send(format!("PUT other {round}\n"));
        assert_eq!(cluster.ask(rest[0], &format!("PUT key {round}")), "OK");
        eprintln!(
            "a write went through {:?} after the freeze",
            since.elapsed()
        );
        assert_eq!(cluster.ask(rest[1], "GET key"), format!("VALUE {round}"));
        cluster.signal(frozen, "CONT");
        let value = format!("VALUE {round}");
        assert_eq!(knocked.ask("GET key"), value, "P28");
        let answers = waiting.lines(3);
        assert_eq!([&answers[0], &answers[2]], [&value, &value], "P28");
        assert_eq!(put.line(), "OK");
        assert_eq!(cluster.ask(rest[0], "GET other"), value);
        assert_ne!(cluster.until_led(), frozen);
        assert_eq!(cluster.until_agreed()["keys"], "2");
    }
}
