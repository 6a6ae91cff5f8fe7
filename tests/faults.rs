//! One fault at a time on five real processes, at a moment of the test's choosing, while clients
//! write down what they see: the others go on, all become equal when it is over, and the history is
//! linearizable. (`tests/torture.rs` has all kinds of faults at once, at moments that a seed chose.)

#![allow(
    clippy::disallowed_methods,
    reason = "bytes are held back for a while of real time"
)]

mod processes;

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use processes::judged::Judged;
use processes::{Cluster, Wire, alone, until};
use quince::torture::link::Passage;

/// A leader whose messages are lost or held is replaced within this time, and what is held no longer still
/// arrives: a link that is silent for 2 s is closed.
const A_WHILE: Duration = Duration::from_secs(1);

/// How long a greeting that nobody answers takes.
const GREETING: Duration = Duration::from_secs(2);

/// Waits until servers other than `not` follow a leader that is not `not`.
fn until_others_lead(cluster: &Cluster, not: u8) -> u8 {
    until("the others follow another leader", || {
        let others = cluster.servers().into_iter().filter(|&n| n != not);
        let mut leader = None;
        for server in others {
            let status = cluster.status(server)?;
            let named: u8 = status["leader"].strip_prefix('n')?.parse().ok()?;
            if named == not || *leader.get_or_insert(named) != named {
                return None;
            }
        }
        leader
    })
}

/// All links that a server sends on.
fn set_sending(cluster: &Cluster, from: u8, passage: Passage) {
    for to in cluster.servers().into_iter().filter(|&to| to != from) {
        cluster.link(from, to).set(passage);
    }
}

/// All links that a server hears from.
fn set_hearing(cluster: &Cluster, to: u8, passage: Passage) {
    for from in cluster.servers().into_iter().filter(|&from| from != to) {
        cluster.link(from, to).set(passage);
    }
}

/// P30, P33: a leader that hears everyone and is heard by nobody is replaced, and follows when its
/// links are whole again.
#[test]
fn a_leader_that_cannot_send_is_replaced_and_follows_later() {
    let _alone = alone();
    let mut cluster = Cluster::start_behind_links(5, &[]);
    let clients = Judged::start(&cluster, 6);
    clients.until_done(100);
    let mute = cluster.until_led();
    set_sending(&cluster, mute, Passage::Lost);
    let led_by = until_others_lead(&cluster, mute);
    clients.until_done(200);
    assert!(cluster.links().traffic().lost_bytes > 0);
    cluster.links().set([]);
    clients.until_done(100);
    let key = format!("PUT after {mute}");
    assert_eq!(cluster.ask(mute, &key), "OK");
    assert_eq!(cluster.ask(led_by, "GET after"), format!("VALUE {mute}"));
    // That one write was not recorded, of a key that nobody else uses.
    assert_eq!(cluster.ask(led_by, "DELETE after"), "OK");
    clients.assert_linearizable(&cluster);
    cluster.until_agreed();
    cluster.stop();
}

/// P30: a leader that is heard by everyone and hears nobody gets no votes: it must not keep the
/// others loyal.
#[test]
fn a_leader_that_cannot_hear_is_replaced_and_follows_later() {
    let _alone = alone();
    let mut cluster = Cluster::start_behind_links(5, &[]);
    let clients = Judged::start(&cluster, 6);
    clients.until_done(100);
    let deaf = cluster.until_led();
    set_hearing(&cluster, deaf, Passage::Lost);
    until_others_lead(&cluster, deaf);
    clients.until_done(200);
    cluster.links().set([]);
    clients.until_done(100);
    clients.assert_linearizable(&cluster);
    cluster.until_agreed();
    cluster.stop();
}

/// P32, P28: all that an old leader sends is held back, and delivered when a new one has decided
/// much: proposals, decisions and heartbeats of long ago change nothing.
#[test]
fn what_an_old_leader_sent_arrives_late_and_changes_nothing() {
    let _alone = alone();
    let mut cluster = Cluster::start_behind_links(5, &[]);
    let clients = Judged::start(&cluster, 6);
    clients.until_done(100);
    let old = cluster.until_led();
    set_sending(&cluster, old, Passage::Held);
    let since = Instant::now();
    until_others_lead(&cluster, old);
    clients.until_done(50);
    thread::sleep(A_WHILE.saturating_sub(since.elapsed()));
    let before = cluster.links().traffic();
    assert!(
        before.late_bytes > 0 && before.lost_bytes == 0,
        "{before:?}"
    );
    cluster.links().set([]);
    clients.until_done(200);
    clients.assert_linearizable(&cluster);
    cluster.until_agreed();
    cluster.stop();
}

/// P29: servers that reach the leader and no other read as well as they write.
#[test]
fn servers_around_a_leader_that_is_their_only_link_read_and_write() {
    let _alone = alone();
    let mut cluster = Cluster::start_behind_links(5, &[]);
    let hub = cluster.until_led();
    let spokes: Vec<u8> = cluster
        .servers()
        .into_iter()
        .filter(|&n| n != hub)
        .collect();
    for &from in &spokes {
        for &to in spokes.iter().filter(|&&to| to != from) {
            cluster.link(from, to).set(Passage::Lost);
        }
    }
    for round in 0..3 {
        for (at, &spoke) in spokes.iter().enumerate() {
            let key = format!("k{at}");
            assert_eq!(cluster.ask(spoke, &format!("PUT {key} {round}")), "OK");
            let next = spokes[(at + 1) % spokes.len()];
            assert_eq!(
                cluster.ask(next, &format!("GET {key}")),
                format!("VALUE {round}"),
                "n{next}, around n{hub}"
            );
        }
    }
    assert!(cluster.links().traffic().lost_bytes > 0);
    cluster.links().set([]);
    cluster.until_agreed();
    cluster.stop();
}

/// Round trips of 100 ms and of 400 ms: whoever is asked, reads see what was written.
#[test]
fn servers_far_from_each_other_answer_reads() {
    let _alone = alone();
    let mut cluster = Cluster::start_behind_links(3, &[]);
    cluster.until_led();
    for one_way in [50, 200] {
        for from in cluster.servers() {
            set_sending(
                &cluster,
                from,
                Passage::Late(Duration::from_millis(one_way)),
            );
        }
        for server in cluster.servers() {
            let put = format!("PUT k {one_way}.{server}");
            assert_eq!(cluster.ask(server, &put), "OK");
            for reader in cluster.servers() {
                let found = format!("VALUE {one_way}.{server}");
                assert_eq!(cluster.ask(reader, "GET k"), found, "n{reader}");
            }
        }
    }
    assert!(cluster.links().traffic().late_bytes > 0);
    cluster.links().set([]);
    cluster.until_agreed();
    cluster.stop();
}

/// A process that dies with its messages still on the way: they arrive after its next life has begun.
#[test]
fn messages_of_a_life_that_is_over_arrive_in_the_next_one() {
    let _alone = alone();
    let mut cluster = Cluster::start_behind_links(3, &[]);
    let clients = Judged::start(&cluster, 4);
    clients.until_done(100);
    let victim = cluster.until_led();
    set_sending(&cluster, victim, Passage::Held);
    clients.until_done(20);
    cluster.kill(victim);
    cluster.spawn(victim);
    clients.until_done(100);
    cluster.links().set([]);
    clients.until_done(100);
    clients.assert_linearizable(&cluster);
    cluster.until_agreed();
    cluster.stop();
}

/// D15, P1, P2 (as far as kill -9 shows it), P23, P45, P49: judged as a whole history, where
/// `durability.rs` compares the last values.
#[test]
fn all_five_killed_at_once_under_load_lose_nothing() {
    let _alone = alone();
    let mut cluster = Cluster::start(5, &[]);
    let clients = Judged::start(&cluster, 8);
    for _ in 0..3 {
        clients.until_done(150);
        let all = cluster.servers();
        cluster.kill_all(&all);
        cluster.spawn_all(&all);
    }
    clients.until_done(150);
    clients.assert_linearizable(&cluster);
    cluster.until_agreed();
    cluster.stop();
}

/// P28, P33, P54: under load, with connections of clients open at the frozen leader.
#[test]
fn a_leader_frozen_under_load_answers_nothing_stale_when_it_goes_on() {
    let _alone = alone();
    let mut cluster = Cluster::start(5, &[]);
    let clients = Judged::start(&cluster, 8);
    for _ in 0..2 {
        clients.until_done(100);
        let frozen = cluster.until_led();
        cluster.signal(frozen, "STOP");
        until_others_lead(&cluster, frozen);
        clients.until_done(200);
        cluster.signal(frozen, "CONT");
        clients.until_done(100);
    }
    clients.assert_linearizable(&cluster);
    cluster.until_agreed();
    cluster.stop();
}

/// P33: who hears nothing from a peer makes its own connection to it anew, once: that one may be as dead,
/// and neither end has been told. The peer does not answer in kind, or both would go on for ever.
#[test]
fn a_peer_that_falls_silent_is_dialled_anew_once() {
    let _alone = alone();
    let mut cluster = Cluster::start_behind_links(3, &[]);
    let leader = cluster.until_led();
    let silent = 1 + leader % 3;
    let there = cluster.link(leader, silent);
    let before = there.traffic().connections;
    cluster.link(silent, leader).set(Passage::Lost);
    until("the other direction is made anew", || {
        (there.traffic().connections > before).then_some(())
    });
    // Longer than another silence would take.
    thread::sleep(2 * GREETING);
    assert_eq!(there.traffic().connections, before + 1);
    cluster.links().set([]);
    cluster.until_agreed();
    cluster.stop();
}

/// The system of a frozen process takes connections for it, as many as it is asked to: it is not asked often.
#[test]
fn a_frozen_server_is_dialled_now_and_then() {
    let _alone = alone();
    let mut cluster = Cluster::start_behind_links(3, &[]);
    let leader = cluster.until_led();
    let frozen = 1 + leader % 3;
    let there = cluster.link(leader, frozen);
    let before = there.traffic().connections;
    let since = Instant::now();
    cluster.signal(frozen, "STOP");
    until("it is dialled while it is frozen", || {
        (there.traffic().connections > before + 1).then_some(())
    });
    let dials = there.traffic().connections - before;
    let greetings = u64::try_from(since.elapsed().as_millis() / GREETING.as_millis());
    assert!(
        dials <= 1 + greetings.expect("a minute"),
        "{dials} dials in {:?}",
        since.elapsed()
    );
    cluster.signal(frozen, "CONT");
    until("it is heard again", || {
        let status = cluster.status(leader)?;
        (status[&format!("peer n{frozen}")] == "up").then_some(())
    });
    cluster.until_agreed();
    cluster.stop();
}

/// Whatever lets a server in and closes at once, be it a proxy in front of nobody or a rival of the same
/// number, is dialled a few times a second.
#[test]
fn a_link_that_is_closed_at_once_is_dialled_a_few_times_a_second() {
    let mut cluster = Cluster::new(3, &[]);
    let listener = TcpListener::bind(cluster.peer_address(2)).expect("a free port");
    cluster.spawn(1);
    let since = Instant::now();
    let mut links = 0;
    while since.elapsed() < A_WHILE {
        let (stream, _) = listener.accept().expect("n1 dials");
        let mut wire = Wire::of(stream).expect("a connection");
        assert_eq!(wire.line(), "quince 1 quince n1 n2 n1,n2,n3");
        wire.send("welcome n2\n");
        links += 1;
    }
    // From 5 ms on each pause is up to twice as long as the one before; the longest are 100 ms and more.
    let slow = since.elapsed().as_millis() / 100;
    assert!(links <= 6 + slow, "{links} links in {:?}", since.elapsed());
}

/// A file system of a few megabytes in memory, until it is dropped.
struct Small(PathBuf);

impl Small {
    /// None where mounting is not allowed.
    fn mount(place: &Path, size: &str) -> Option<Self> {
        std::fs::create_dir(place).expect("a new directory");
        let options = format!("size={size},mode=700");
        mount(place, &options).then(|| Self(place.to_owned()))
    }

    fn resize(&self, size: &str) {
        assert!(mount(&self.0, &format!("remount,size={size}")), "resized");
    }
}

fn mount(place: &Path, options: &str) -> bool {
    let mut command = Command::new("mount");
    command
        .args(["-t", "tmpfs", "-o", options, "tmpfs"])
        .arg(place);
    let status = command.stdin(Stdio::null()).stderr(Stdio::null()).status();
    status.is_ok_and(|status| status.success())
}

impl Drop for Small {
    fn drop(&mut self) {
        // Lazily: a server may still have files in it.
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

/// P37, P38: a disk that is really full ends its server with one clear line and exit code 3, the
/// others go on, and with room again it starts and catches up.
#[test]
fn a_full_disk_ends_its_server_alone_and_room_brings_it_back() {
    let _alone = alone();
    let mut cluster = Cluster::new(5, &[]);
    let small = 2;
    let Some(disk) = Small::mount(&cluster.data(small), "4m") else {
        eprintln!("skipped: mounting a small file system needs root");
        return;
    };
    cluster.spawn_all(&cluster.servers());
    cluster.until_led();
    let clients = Judged::start(&cluster, 4);
    // Beside the recorded clients, whose values are too small to fill anything.
    let mut filler = cluster.open(1);
    let value = "x".repeat(64 << 10);
    until("the small disk is full", || {
        assert_eq!(filler.ask(format!("PUT filler {value}")), "OK");
        (!cluster.runs(small)).then_some(())
    });
    assert_eq!(filler.ask("DELETE filler"), "OK");
    let status = cluster.until_ended(small);
    assert_eq!(status.code(), Some(3));
    let words = cluster.errors(small);
    assert_eq!(words.lines().count(), 1, "{words}");
    assert!(
        words.starts_with("quince: cannot ") && words.contains("No space left on device"),
        "{words}"
    );
    // Told once, not at every commit that it lasts.
    let warned = cluster.log(small).matches("ahead of need").count();
    assert!(warned <= 1, "{warned} lines");
    // The others do not miss it.
    clients.until_done(200);
    disk.resize("64m");
    cluster.spawn(small);
    clients.until_done(100);
    clients.assert_linearizable(&cluster);
    let status = cluster.until_agreed();
    assert_eq!(cluster.ask(small, "GET filler"), "NOT_FOUND", "{status:?}");
    cluster.stop();
    drop(disk);
}

/// P36: a server whose process sleeps for most of the time finds out by its own clock, which goes on;
/// and is as good as ever when it is awake again. The others do not wait for it.
#[test]
fn a_server_that_sleeps_for_most_of_the_time_finds_out() {
    let _alone = alone();
    let mut cluster = Cluster::start(3, &[]);
    let leader = cluster.until_led();
    let slow = leader % 3 + 1;
    until("it finds out that it is slow", || {
        cluster.signal(slow, "STOP");
        thread::sleep(Duration::from_millis(300));
        cluster.signal(slow, "CONT");
        let log = cluster.log(slow);
        log.contains("slow: this process sleeps").then_some(())
    });
    let leader = cluster.until_led();
    assert_eq!(cluster.ask(leader, "PUT k v"), "OK");
    until("it is no longer slow", || {
        cluster.log(slow).contains("no longer slow").then_some(())
    });
    cluster.until_agreed();
    cluster.stop();
}
