//! One fault at a time on five real processes, at a moment of the test's choosing, while clients
//! write down what they see: the others go on, all become equal when it is over, and the history is
//! linearizable. (`tests/torture.rs` has all kinds of faults at once, at moments that a seed chose.)

#![allow(
    clippy::disallowed_methods,
    reason = "bytes are held back for a while of real time"
)]

mod processes;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use processes::judged::Judged;
use processes::{Cluster, alone, until};
use quince::torture::link::Passage;

/// A leader whose messages are lost or held is replaced well within this time.
const A_WHILE: Duration = Duration::from_secs(2);

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
fn what_an_old_leader_sent_arrives_seconds_later_and_changes_nothing() {
    let _alone = alone();
    let mut cluster = Cluster::start_behind_links(5, &[]);
    let clients = Judged::start(&cluster, 6);
    clients.until_done(100);
    let old = cluster.until_led();
    set_sending(&cluster, old, Passage::Held);
    let since = Instant::now();
    until_others_lead(&cluster, old);
    clients.until_done(200);
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

/// P37, P38: a disk that is really full ends its server with one clear line and exit code 1, the
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
    assert_eq!(status.code(), Some(1));
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
