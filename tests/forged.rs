//! Lines that no server sends, on a cluster of pure replicas: every number and every word of every
//! message is made extreme, in turn and in pairs, in each state that a server can be in. Whatever was
//! said, no server panics, what its log remembers starts again and has no number that an honest cluster
//! could not have come to, memory is bounded, and the cluster decides afterwards.
//!
//! The same lines at a real port: `tests/peer_port.rs`.

mod common;

use common::cluster::{Cluster, Event, Settings, node};
use quince::kv::batch::parse_batch;
use quince::kv::command::Command;
use quince::outbox::Answer;
use quince::paxos::acceptor::Acceptor;
use quince::paxos::learner::Learner;
use quince::paxos::message::{Message, Notice, Vote};
use quince::paxos::record::Record;
use quince::paxos::types::{Ballot, NodeId, Slot};
use quince::wire::peer::{parse_message, write_message};

/// How many bytes of undecided values are voted for.
const AHEAD_BYTES_MAX: usize = 256 << 20;

/// How far above what is decided anything may be accepted or called decided.
const SLOTS_AHEAD_MAX: u64 = 65_536;

/// What a forged line, or all of a test, may raise a round or a start to: far from the end, 2^60.
const ROUND_MAX: u64 = 3_000_000_000;
const START_MAX: u64 = 3_000_000_000_000;

/// What a number is replaced by, besides its neighbours.
const EXTREMES: [u64; 6] = [0, 1 << 20, 1 << 32, 1 << 60, u64::MAX - 1, u64::MAX];

/// Words, and what they are replaced by.
const WORDS: [(&str, &str); 12] = [
    ("leading", "idle"),
    ("leading", "following"),
    ("trying", "leading"),
    ("following", "trying"),
    ("connected", "cut-off"),
    (" up ", " failed "),
    ("sound", "asking"),
    ("sound", "blank"),
    ("before", "together"),
    ("end", "s1"),
    ("noop", "at 99999999999999 ; n2.1.1 session"),
    ("put k v", "exec 0 1 clear"),
];

/// The victim, and whose link the forged lines come on.
const N1: u8 = 1;
const N2: u8 = 2;

/// The state that n1 is in when the lines come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Leader,
    Follower,
    Candidate,
    Recalling,
}

fn command() -> Command {
    let batch = parse_batch(b"n1.1.1 put k v").expect("a command");
    batch.into_iter().next().expect("a command").command
}

fn ticks(cluster: &mut Cluster, count: u64, may_pass: impl Fn(NodeId, NodeId, &Message) -> bool) {
    for _ in 0..count {
        for id in cluster.running() {
            cluster.tick(id);
        }
        cluster.settle(|_| true, &may_pass);
    }
}

/// Ticks until it holds.
fn until(cluster: &mut Cluster, what: &str, holds: impl Fn(&Cluster) -> bool) {
    for _ in 0..6_000 {
        if holds(cluster) {
            return;
        }
        ticks(cluster, 1, |_, _, _| true);
    }
    let nodes = cluster.running();
    let states: Vec<_> = nodes.iter().map(|&id| cluster.status(id)).collect();
    panic!("{what} does not come to be: {states:#?}");
}

/// Each node that runs has a write decided.
fn decides(cluster: &mut Cluster, after: &str) {
    for id in cluster.running() {
        cluster.events.clear();
        let mut done = false;
        // Where a leader was forged a write may be handed on to nobody: its client sends it again.
        for _ in 0..12 {
            let ticket = cluster.write(id, command());
            for _ in 0..700 {
                ticks(cluster, 1, |_, _, _| true);
                if !cluster.open.contains_key(&ticket) {
                    break;
                }
            }
            done = cluster.events.iter().any(|event| {
                matches!(event, Event::Answer(_, told, Answer::Done(_), _) if *told == ticket)
            });
            if done {
                break;
            }
        }
        let states: Vec<_> = (cluster.running().iter())
            .map(|&id| cluster.status(id))
            .collect();
        assert!(done, "{id} decides nothing after {after}: {states:#?}");
    }
}

fn new_cluster(size: u8) -> Cluster {
    Cluster::new(Settings {
        size,
        seed: 1,
        deadline_ticks: 600,
        preload: Vec::new(),
        blank: false,
    })
}

/// The ballot that n1 has prepared in its present start, if it has.
fn prepared(cluster: &Cluster) -> Option<Ballot> {
    let records = cluster.synced(node(N1)).iter().rev();
    let since = records.take_while(|record| !matches!(record, Record::Start(_)));
    let ballots = since.filter_map(|record| match record {
        Record::Ballot(ballot) => Some(*ballot),
        _ => None,
    });
    ballots.max()
}

/// Ticks until n1 has prepared; what it is promised does not reach it.
fn until_prepared(cluster: &mut Cluster) {
    for _ in 0..1_000 {
        if prepared(cluster).is_some() {
            return;
        }
        ticks(cluster, 1, |_, to, message| {
            to != node(N1) || !matches!(message, Message::Vote(Vote::Promise(_)))
        });
    }
    panic!("n1 prepares: {:?}", cluster.status(node(N1)));
}

/// A cluster whose n1 is in this state, and has decided some slots before.
fn cluster(state: State) -> Cluster {
    // Two that have to recall at once need three others.
    let mut cluster = new_cluster(if state == State::Recalling { 5 } else { 3 });
    until(&mut cluster, "n1 leads", |c| c.leader() == Some(node(N1)));
    decides(&mut cluster, "the beginning");
    decides(&mut cluster, "the beginning");
    match state {
        State::Leader => {}
        State::Follower => {
            cluster.crash(node(N1), 0);
            cluster.crash(node(N2), 0);
            ticks(&mut cluster, 60, |_, _, _| true);
            cluster.restart(node(N2));
            until(&mut cluster, "another leads", |c| c.leader().is_some());
            cluster.restart(node(N1));
            until(&mut cluster, "n1 follows", |c| {
                c.status(node(N1)).leader.is_some()
            });
        }
        State::Candidate => {
            for id in cluster.nodes() {
                cluster.crash(id, 0);
                cluster.restart(id);
            }
            until_prepared(&mut cluster);
        }
        State::Recalling => {
            cluster.crash(node(N1), 0);
            ticks(&mut cluster, 200, |_, _, _| true);
            cluster.wipe(node(N1));
            cluster.restart(node(N1));
            until_prepared(&mut cluster);
        }
    }
    cluster.events.clear();
    let role = cluster.status(node(N1)).role;
    match state {
        State::Leader => assert_eq!(role, "leader"),
        State::Follower => assert_eq!(role, "follower"),
        State::Candidate => assert_eq!(role, "candidate"),
        State::Recalling => {
            assert!(!cluster.status(node(N1)).acceptor_up);
            assert!(prepared(&cluster).is_some());
        }
    }
    cluster
}

/// What an honest n2 could say to n1 just now, a line a kind of message.
fn lines(cluster: &Cluster) -> Vec<String> {
    let (one, two) = (cluster.status(node(N1)), cluster.status(node(N2)));
    let own_round = prepared(cluster).unwrap_or(one.ballot).round;
    let round = own_round + 1;
    let (decided, next) = (two.decided.0, two.decided.0 + 1);
    let life = |of: u8| {
        let starts = cluster.synced(node(of)).iter().filter_map(|r| match r {
            Record::Start(start) => Some(*start),
            _ => None,
        });
        starts.max().unwrap_or(1)
    };
    let (start1, start2) = (life(N1), life(N2));
    let mark1 = cluster.server(node(N1)).starts - 1;
    let mark2 = cluster.server(node(N2)).starts - 1;
    let hash = two.hash;
    vec![
        format!("prepare b{round}.2 s{next}"),
        format!("promise b{own_round}.1 s{next} s{decided} end"),
        format!(
            "promise b{own_round}.1 s1 s{decided} s{} n1.{start1} n3.2 s{next} b{own_round}.1 \"n3.1.9 session\" s{} b1.1 \"noop\"",
            next + 7,
            next + 1
        ),
        format!("accept b{round}.2 s{next} n2.{start2}.90 put k v"),
        format!("accepted b{own_round}.1 s{next}"),
        format!("nack b{own_round}.1 b{round}.2"),
        format!("decided b{round}.2 s{decided}"),
        format!(
            "heartbeat leading b{round}.2 connected up s{decided} s{decided} {hash:016x} {start2}.{mark2:016x} sound prompt"
        ),
        format!(
            "heartbeat trying b{round}.2 cut-off failed s{decided} s{decided} {hash:016x} {start2}.{mark2:016x} asking prompt"
        ),
        format!(
            "heartbeat following b{round}.3 connected up s{decided} s{decided} {hash:016x} {start2}.{mark2:016x} sound prompt"
        ),
        format!("known {start1}.{mark1:016x} before sound"),
        format!("known {start1}.{mark1:016x} together blank"),
        format!("outdated {start1}.{mark1:016x} {start1}"),
        format!("fetch s1 s{next}"),
        format!("fetched s{next} \"n2.{start2}.90 put k v\""),
        format!("fetch-image s{decided} \"start\""),
        format!(
            "image s{next} \"start\" \"pair a\" \"store s{next} 00c0ffee00c0ffee 0\" \"origin n1 1 4\""
        ),
        format!("finish s{next}"),
        format!("probe {start2}.7"),
        format!("mark {start1}.1 s{next}"),
        format!("propose n2.{start2}.90 put k v ; n2.{start2}.91 put k v"),
        format!("relay n3.1.90 put k v"),
    ]
}

/// Where the numbers of a line stand; those in hexadecimal are one each.
fn numbers(line: &str) -> Vec<std::ops::Range<usize>> {
    let bytes = line.as_bytes();
    let mut found = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        let is_start = bytes[at].is_ascii_digit()
            && (at == 0
                || !bytes[at - 1].is_ascii_alphanumeric()
                || b"bsn".contains(&bytes[at - 1]));
        let len = bytes[at..]
            .iter()
            .take_while(|b| b.is_ascii_digit())
            .count();
        if is_start && len < 16 {
            found.push(at..at + len);
        }
        at += len.max(1);
    }
    found
}

/// What one field is replaced by.
fn replacements(old: &str) -> Vec<String> {
    let old: u64 = old.parse().expect("a number");
    let near = [old.saturating_sub(1), old + 1];
    EXTREMES.iter().chain(&near).map(u64::to_string).collect()
}

/// Each number of a line made extreme, in turn and in pairs, and each word made another.
fn forgeries(line: &str) -> Vec<String> {
    let mut forged = vec![line.to_owned()];
    let fields = numbers(line);
    for (index, first) in fields.iter().enumerate() {
        for one in replacements(&line[first.clone()]) {
            let with_one = |rest: &str| format!("{}{one}{rest}", &line[..first.start]);
            forged.push(with_one(&line[first.end..]));
            for second in &fields[index + 1..] {
                for two in replacements(&line[second.clone()]) {
                    let between = &line[first.end..second.start];
                    forged.push(with_one(&format!("{between}{two}{}", &line[second.end..])));
                }
            }
        }
    }
    for (word, other) in WORDS {
        forged.push(line.replace(word, other));
    }
    forged.push(line.replace("idle b1", "idle"));
    forged
}

/// What n1 remembers has no number that no honest cluster would come to.
fn check_memory(cluster: &Cluster, id: NodeId, after: &str) {
    let records = cluster.synced(id);
    let acceptor = Acceptor::recover(records);
    let decided = (cluster.nodes().iter())
        .map(|&id| Learner::recover(Slot::ZERO, cluster.synced(id)).decided().0)
        .max();
    let slot_max = decided.unwrap_or(0) + 2 * SLOTS_AHEAD_MAX;
    assert!(acceptor.promised().round <= ROUND_MAX, "{id} {after}");
    assert!(acceptor.highest().0 <= slot_max, "{id} {after}");
    for record in records {
        match record {
            Record::Start(start) => assert!(*start <= START_MAX, "{record:?} of {id} {after}"),
            Record::Peer(_, life) => {
                let within = (1..=START_MAX).contains(&life.start);
                assert!(within, "{record:?} of {id} {after}");
            }
            Record::Ballot(ballot) => assert!(ballot.round <= ROUND_MAX, "{id} {after}"),
            Record::Accept(ballot, slot, _) => {
                assert!(
                    slot.0 > 0 && slot.0 <= slot_max,
                    "{record:?} of {id} {after}"
                );
                assert!(ballot.node().is_some(), "{record:?} of {id} {after}");
            }
            Record::Decided(_, slot) | Record::Learn(slot, _) => {
                assert!(slot.0 <= slot_max, "{record:?} of {id} {after}");
            }
            _ => {}
        }
    }
}

fn say(cluster: &mut Cluster, line: &str) {
    let Ok(message) = parse_message(line.as_bytes()) else {
        return;
    };
    cluster.put(node(N2), node(N1), message);
    cluster.deliver(node(N2), node(N1), 0, usize::MAX);
    cluster.sync_all(node(N1));
}

/// All forgeries of one line, said to n1 one after another; then the servers start again from what they
/// remember, and go on.
fn try_line(state: State, place: usize) {
    let mut cluster = cluster(state);
    let line = lines(&cluster)[place].clone();
    let after = format!("after forgeries of {line:?} to a {state:?}");
    for (count, forged) in forgeries(&line).iter().enumerate() {
        say(&mut cluster, forged);
        if count % 16 == 0 {
            for _ in 0..3 {
                cluster.tick(node(N1));
            }
        }
        cluster.events.clear();
    }
    cluster.sync_all(node(N1));
    check_memory(&cluster, node(N1), &after);
    decides(&mut cluster, &after);
    for id in cluster.nodes() {
        check_memory(&cluster, id, &after);
        cluster.crash(id, 0);
        cluster.restart(id);
    }
    decides(&mut cluster, &after);
}

fn try_all(state: State) {
    let count = lines(&cluster(state)).len();
    for place in 0..count {
        try_line(state, place);
    }
}

/// P9: nothing that a leader can be told ends it or cripples the cluster.
#[test]
fn a_leader_outlives_every_forged_line() {
    try_all(State::Leader);
}

/// P9: nor a follower.
#[test]
fn a_follower_outlives_every_forged_line() {
    try_all(State::Follower);
}

/// P9: nor a candidate.
#[test]
fn a_candidate_outlives_every_forged_line() {
    try_all(State::Candidate);
}

/// P9: nor a server that recalls what it voted.
#[test]
fn a_server_that_recalls_outlives_every_forged_line() {
    try_all(State::Recalling);
}

// --- Lines that once ended or crippled a server ---

/// A life that is none is heard by nobody.
#[test]
fn a_life_without_a_start_is_no_panic() {
    let mut cluster = new_cluster(3);
    say(
        &mut cluster,
        "heartbeat idle connected up s0 s0 0000000000000000 0.0000000000000000 asking prompt",
    );
    decides(&mut cluster, "a life without a start");
}

/// P50, P52: names that n2 has not given void none that it gives.
#[test]
fn a_name_that_a_server_did_not_give_is_not_decided() {
    let mut cluster = cluster(State::Leader);
    say(&mut cluster, "propose n2.1152921504606846976.1 session");
    say(&mut cluster, "relay n3.1152921504606846976.1 session");
    say(&mut cluster, "propose n3.1.99 session");
    say(&mut cluster, "relay n0.7.1 session");
    say(&mut cluster, "relay n2.1.99 session");
    // The very next ones of n1 itself, whichever that is.
    for number in 1..=9 {
        say(&mut cluster, &format!("relay n1.1.{number} put evil 1"));
    }
    say(&mut cluster, "propose n2.1.1152921504606846976 session");
    let proposed = (cluster.waiting(node(N1), node(3)).iter())
        .filter(|message| matches!(message, Message::Notice(Notice::Accept { .. })))
        .count();
    assert_eq!(proposed, 0);
    decides(&mut cluster, "names that were not given");
}

/// P41: a start from nowhere is not written down, so the real n2 is heard afterwards.
#[test]
fn a_start_from_nowhere_is_not_heard() {
    let mut cluster = cluster(State::Leader);
    say(
        &mut cluster,
        "heartbeat idle connected up s0 s0 0000000000000000 1152921504606846976.00000000000000aa sound prompt",
    );
    let peers = cluster.synced(node(N1)).iter();
    let far = |r: &&Record| matches!(r, Record::Peer(_, life) if life.start > START_MAX);
    assert_eq!(peers.filter(far).count(), 0);
    cluster.crash(node(3), 0);
    // Only with n2 there is a majority.
    decides(&mut cluster, "a start from nowhere");
}

/// One slot that is proposed again and again takes as much of the log each time, so that is bounded too.
#[test]
fn a_slot_proposed_again_and_again_fills_no_disk() {
    let mut cluster = cluster(State::Follower);
    let round = cluster.status(node(N1)).ballot.round + 1;
    let slot = cluster.status(node(N1)).decided.0 + 1_000;
    let text = format!("n2.1.90 put k {}", "v".repeat(8 << 20));
    for more in 0..60 {
        say(
            &mut cluster,
            &format!("accept b{}.2 s{slot} {text}", round + more),
        );
        cluster.events.clear();
    }
    let written: usize = (cluster.synced(node(N1)).iter())
        .map(|record| match record {
            Record::Accept(_, _, value) => value.as_bytes().len(),
            _ => 0,
        })
        .sum();
    assert!(written <= 300 << 20, "{written} bytes");
    decides(&mut cluster, "one slot again and again");
}

/// Undecided values take bounded memory, however many slots they are scattered over; the slot that comes
/// next is voted for all the same, so everything goes on.
#[test]
fn values_of_scattered_slots_take_bounded_memory() {
    let mut cluster = cluster(State::Follower);
    let round = cluster.status(node(N1)).ballot.round + 1;
    let decided = cluster.status(node(N1)).decided.0;
    let text = format!("n2.1.90 put k {}", "v".repeat(8 << 20));
    for slot in (1..=60).rev().map(|n| decided + 1 + 1_000 * n) {
        say(&mut cluster, &format!("accept b{round}.2 s{slot} {text}"));
        cluster.events.clear();
    }
    let acceptor = Acceptor::recover(cluster.synced(node(N1)));
    let held: usize = acceptor.accepted().map(|a| a.value.as_bytes().len()).sum();
    assert!(
        (AHEAD_BYTES_MAX / 2..=AHEAD_BYTES_MAX).contains(&held),
        "{held} bytes"
    );
    let next = format!("accept b{round}.2 s{} {text}", decided + 1);
    say(&mut cluster, &next);
    let acceptor = Acceptor::recover(cluster.synced(node(N1)));
    assert!(acceptor.accepted_ballot(Slot(decided + 1)).is_some());
}

/// What is said is what is read: a line that is made here is one that a port takes.
#[test]
fn the_lines_before_they_are_forged_are_messages() {
    for state in [State::Leader, State::Recalling] {
        for line in lines(&cluster(state)) {
            let message = parse_message(line.as_bytes()).expect(&line);
            let mut written = Vec::new();
            write_message(&mut written, &message);
            assert_eq!(String::from_utf8(written).unwrap().trim_end(), line);
        }
    }
}
