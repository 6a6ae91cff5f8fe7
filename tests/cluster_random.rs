//! Random runs of pure replicas: whatever the network, the disks and the acceptors do, and in
//! whatever order, the invariants of `paxos/mod.rs` hold at every step, clients are told the truth,
//! and once the faults end everything goes on.
//!
//! A run is its seed. One that fails prints the command that replays it and prints all that
//! happened. The faults of a run are drawn too, so that some runs are calm and some are wild.

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::env;

use common::cluster::{Cluster, Event, Settings, members};
use common::print;
use quince::kv::batch::Batch;
use quince::kv::command::{Bytes, Command, CommandId, Outcome, SessionId, Write};
use quince::kv::store::{Fate, Store};
use quince::outbox::{Answer, Ticket};
use quince::paxos::message::{Message, Notice, Vote};
use quince::paxos::pace::DOUBLED_TICKS_MAX;
use quince::paxos::quorum::Votes;
use quince::paxos::record::Record;
use quince::paxos::types::{Ballot, NodeId, Slot, Value};
use quince::replica::Input;
use rand::rngs::ChaCha8Rng;
use rand::{RngExt, SeedableRng};

/// Even seeds are runs of three nodes, odd ones of five.
const SEEDS: u64 = 1_500;

/// How many things happen in a run before the faults end.
const STEPS: u64 = 4_000;

/// Within so many ticks after the faults ended, all nodes are equal and nobody waits.
const HEALED_TICKS_MAX: u64 = 300;

/// Within so many ticks more, a fresh write and a fresh read at every node are done. A command that a cut
/// link lost, and nobody noticed it, is sent again once its answer is overdue, and those behind it wait
/// for it.
const FRESH_TICKS_MAX: u64 = 20 + DOUBLED_TICKS_MAX;

/// How many clients there are, each with one request at a time.
const CLIENTS: usize = 5;

/// The key that the first leader of the empty log sets.
const PRELOADED: &[u8] = b"preloaded";

#[test]
fn three_nodes_keep_the_invariants_and_go_on_after_faults() {
    runs(0);
}

#[test]
fn five_nodes_keep_the_invariants_and_go_on_after_faults() {
    runs(1);
}

fn runs(remainder: u64) {
    let only: Option<u64> = env::var("QUINCE_SEED")
        .ok()
        .map(|seed| seed.parse().expect("a seed"));
    let mut all = Counts::default();
    for seed in (0..SEEDS).filter(|seed| seed % 2 == remainder) {
        if only.is_none() {
            all.add(&run(seed, false));
        }
    }
    match only {
        None => all.check(),
        Some(seed) if seed % 2 == remainder => drop(run(seed, true)),
        Some(_) => {}
    }
}

/// Tells how to replay a run, if it ends in a panic.
struct Replay(u64);

impl Drop for Replay {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let seed = self.0;
            eprintln!("replay: QUINCE_SEED={seed} cargo test --test cluster_random");
        }
    }
}

fn run(seed: u64, trace: bool) -> Counts {
    let _replay = Replay(seed);
    let mut run = Run::new(seed, trace);
    for _ in 0..STEPS {
        run.step();
    }
    run.heal();
    run.watch.check_log(&run.history);
    run.counts
}

/// How often things happened, over all runs: a test of faults that never come tests nothing.
#[derive(Debug, Default)]
struct Counts(BTreeMap<&'static str, u64>);

impl Counts {
    fn one(&mut self, what: &'static str) {
        *self.0.entry(what).or_default() += 1;
    }

    fn add(&mut self, other: &Self) {
        for (what, count) in &other.0 {
            *self.0.entry(what).or_default() += count;
        }
    }

    fn check(&self) {
        println!("{self:?}");
        for (what, least) in [
            ("message lost", 1_000),
            ("message doubled", 1_000),
            ("message overtaken", 1_000),
            ("link cut", 100),
            ("link cut one way", 100),
            ("link that loses one kind", 100),
            ("node isolated", 100),
            ("coup", 1_000),
            ("link healed", 100),
            ("crash", 100),
            ("node frozen", 100),
            ("record lost", 100),
            ("acceptor failed", 100),
            ("acceptor recovered", 100),
            ("leader", 1_500),
            ("write done", 5_000),
            ("write not done", 50),
            ("write unknown", 50),
            ("write without an answer", 50),
            ("read done", 1_000),
            ("once tried again", 50),
            ("slot", 5_000),
        ] {
            let count = self.0.get(what).copied().unwrap_or(0);
            assert!(count >= least, "{what}: only {count} times, not {least}");
        }
    }
}

/// How often which fault comes, in 1,000.
#[derive(Debug)]
struct Weather {
    loss: u32,
    doubling: u32,
    overtaking: u32,
    fault: u32,
    coup: u32,
}

/// What a client's request was.
#[derive(Debug, Clone)]
enum Asked {
    /// A plain write that can be told from all others in the log.
    Plain,
    Session,
    Once(SessionId, u64),
    /// How much was decided anywhere when the read was asked for.
    Read(Slot),
}

/// A request, once sent.
#[derive(Debug, Clone)]
struct Attempt {
    client: usize,
    asked: Asked,
    /// The node, and which start of it.
    at: (NodeId, u64),
    /// None while it is open, or when the node crashed.
    answer: Option<Answer>,
}

#[derive(Debug, Default)]
struct Client {
    open: Option<Ticket>,
    session: Option<SessionId>,
    seq: u64,
    /// The command of this seq has no outcome yet.
    again: bool,
}

/// All requests, and what identifies the plain writes.
#[derive(Debug, Default)]
struct History {
    attempts: BTreeMap<Ticket, Attempt>,
    /// The deleted key of each delete, which no other delete names.
    deletes: BTreeMap<Bytes, Ticket>,
    /// Keys that only one put names, not yet deleted.
    single: Vec<Bytes>,
    /// The key, the value or the number that only this write has.
    marks: BTreeMap<u64, Ticket>,
    last_mark: u64,
}

struct Run {
    rng: ChaCha8Rng,
    weather: Weather,
    cluster: Cluster,
    clients: Vec<Client>,
    history: History,
    watch: Watch,
    counts: Counts,
    /// The nodes that do nothing for a while, and forget nothing.
    frozen: BTreeSet<NodeId>,
    /// Links, and the messages that do not pass.
    deaf: BTreeSet<(NodeId, NodeId, &'static str)>,
    trace: bool,
}

impl Run {
    fn new(seed: u64, trace: bool) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let size = if seed.is_multiple_of(2) { 3 } else { 5 };
        let mut pick = |of: &[u32]| of[rng.random_range(0..of.len())];
        let weather = Weather {
            loss: pick(&[0, 10, 50, 200]),
            doubling: pick(&[0, 10, 100]),
            overtaking: pick(&[0, 50, 300]),
            fault: pick(&[0, 5, 10, 20, 50]),
            coup: pick(&[0, 3, 6, 10]),
        };
        let settings = Settings {
            size,
            seed,
            // Longer than what is lost unnoticed waits to be sent again.
            deadline_ticks: u64::from(pick(&[60, 100, 1_000])),
            blank: false,
            preload: vec![Command::Write(Write::Put {
                key: PRELOADED.into(),
                value: b"once"[..].into(),
            })],
        };
        Self {
            rng,
            weather,
            cluster: Cluster::new(settings),
            clients: (0..CLIENTS).map(|_| Client::default()).collect(),
            history: History::default(),
            watch: Watch::new(size),
            counts: Counts::default(),
            frozen: BTreeSet::new(),
            deaf: BTreeSet::new(),
            trace,
        }
    }

    fn chance(&mut self, in_thousand: u32) -> bool {
        self.rng.random_range(0..1_000) < in_thousand
    }

    fn one_of<T: Copy>(&mut self, of: &[T]) -> Option<T> {
        (!of.is_empty()).then(|| of[self.rng.random_range(0..of.len())])
    }

    /// One thing happens.
    fn step(&mut self) {
        let Weather { fault, coup, .. } = self.weather;
        if self.chance(fault) {
            self.fault();
        }
        if self.chance(coup) {
            self.coup();
        }
        match self.rng.random_range(0..100) {
            0..52 => self.message(),
            52..67 => self.sync(),
            67..92 => {
                let mut running = self.cluster.running();
                running.retain(|id| !self.frozen.contains(id));
                if let Some(id) = self.one_of(&running) {
                    self.cluster.tick(id);
                }
            }
            _ => self.client(),
        }
        self.look();
    }

    fn message(&mut self) {
        let mut busy = self.cluster.busy_links();
        busy.retain(|(_, to)| !self.frozen.contains(to));
        let Some((from, to)) = self.one_of(&busy) else {
            return;
        };
        let length = self.cluster.waiting(from, to).len();
        let Weather {
            loss,
            doubling,
            overtaking,
            ..
        } = self.weather;
        // What a node tells itself passes no network.
        let network = from != to;
        let word = print::word(&self.cluster.waiting(from, to)[0]);
        let deaf = self.deaf.contains(&(from, to, word));
        if network && (deaf || self.chance(loss)) {
            self.counts.one("message lost");
            return self.cluster.lose(from, to, 0);
        }
        if network && self.chance(doubling) {
            self.counts.one("message doubled");
            let at = self.rng.random_range(0..length);
            self.cluster.double(from, to, at);
        }
        let mut at = 0;
        if network && length > 1 && self.chance(overtaking) {
            self.counts.one("message overtaken");
            at = self.rng.random_range(1..length);
        }
        let count = self.rng.random_range(1..=4);
        let mut inputs = self.cluster.arrivals(from, to, at, count);
        // A server that was busy takes what came meanwhile from everyone as one round.
        if self.chance(200) {
            for (other, _) in busy.into_iter().filter(|&(_, end)| end == to) {
                inputs.extend(self.cluster.arrivals(other, to, 0, count));
            }
        }
        self.cluster.round(to, inputs);
    }

    fn sync(&mut self) {
        let mut waiting = self.cluster.running();
        waiting.retain(|&id| self.cluster.unsynced(id) > 0);
        if let Some(id) = self.one_of(&waiting) {
            let count = self.rng.random_range(1..=4);
            self.cluster.sync(id, count);
        }
    }

    // --- Faults ---

    /// The leader is cut off from some of the others, whatever it was about to tell them, and all
    /// others reach each other: the best moment to lose what only a few have accepted.
    fn coup(&mut self) {
        let Some(leader) = self.cluster.leader() else {
            return;
        };
        self.counts.one("coup");
        for (from, to) in self.cluster.cuts() {
            self.heal_link(from, to);
        }
        self.deaf.clear();
        for other in self.cluster.running() {
            if other == leader {
                continue;
            }
            if self.chance(700) {
                self.cluster.cut(leader, other);
            }
            if self.chance(500) {
                self.cluster.cut(other, leader);
            }
            if self.chance(300) {
                self.deaf.insert((other, leader, "heartbeat"));
            }
            self.cluster.round(other, [Input::LinkDown(leader)]);
        }
    }

    fn fault(&mut self) {
        let nodes = self.cluster.nodes();
        let id = self.one_of(&nodes).expect("there are nodes");
        let other = self.one_of(&nodes).expect("there are nodes");
        let running = self.cluster.running().contains(&id);
        match self.rng.random_range(0..18) {
            16 | 17 => {
                self.counts.one("link that loses one kind");
                let word = self.one_of(&print::WORDS).expect("there are words");
                self.deaf.insert((id, other, word));
            }
            12..14 if self.frozen.is_empty() => {
                self.counts.one("node frozen");
                self.frozen.insert(id);
            }
            12..16 => self.frozen.clear(),
            0 | 1 if running => self.crash(id),
            0..=3 if !running => self.restart(id),
            2 | 3 if running && !self.cluster.server(id).failed => {
                self.counts.one("acceptor failed");
                self.cluster.fail(id);
            }
            4 | 5 if self.cluster.server(id).failed => {
                self.counts.one("acceptor recovered");
                self.cluster.recover(id);
            }
            6 if id != other => {
                self.counts.one("link cut one way");
                self.cut(id, other);
            }
            7 if id != other => {
                self.counts.one("link cut");
                self.cut(id, other);
                self.cut(other, id);
            }
            8 => {
                self.counts.one("node isolated");
                for other in nodes.into_iter().filter(|&other| other != id) {
                    self.cut(id, other);
                    self.cut(other, id);
                }
            }
            9 => {
                self.deaf.clear();
                for (from, to) in self.cluster.cuts() {
                    self.heal_link(from, to);
                }
            }
            _ => {
                let cuts = self.cluster.cuts();
                if let Some((from, to)) = self.one_of(&cuts) {
                    self.heal_link(from, to);
                    self.heal_link(to, from);
                }
            }
        }
    }

    /// The receiver may notice, or only hear nothing.
    fn cut(&mut self, from: NodeId, to: NodeId) {
        self.cluster.cut(from, to);
        if self.chance(500) {
            self.cluster.round(to, [Input::LinkDown(from)]);
        }
    }

    fn heal_link(&mut self, from: NodeId, to: NodeId) {
        self.counts.one("link healed");
        self.cluster.heal(from, to);
        if self.chance(500) {
            self.cluster.round(from, [Input::LinkUp(to)]);
        }
    }

    fn crash(&mut self, id: NodeId) {
        self.counts.one("crash");
        // Of what was not synced, a part may have reached the disk all the same.
        let kept = if self.chance(500) {
            0
        } else {
            self.rng.random_range(0..8)
        };
        if kept == 0 && self.cluster.unsynced(id) > 0 {
            self.counts.one("record lost");
        }
        if self.cluster.unsynced(id) == 0 {
            // A round that is synced leaves nothing to forget.
            let decided = self.cluster.status(id).decided;
            self.watch.told.insert(id, decided);
        }
        for ticket in self.cluster.crash(id, kept) {
            let attempt = self.history.attempts[&ticket].clone();
            self.counts.one("write without an answer");
            self.clients[attempt.client].open = None;
        }
        self.watch.on_crash(id);
        if self.chance(700) {
            for other in self.cluster.running() {
                self.cluster.round(other, [Input::LinkDown(id)]);
            }
        }
    }

    fn restart(&mut self, id: NodeId) {
        self.cluster.restart(id);
        for other in self.cluster.running() {
            if other != id && !self.cluster.is_cut(id, other) {
                self.cluster.round(other, [Input::LinkUp(id)]);
            }
        }
        self.watch.check_memory(&self.cluster, id);
    }

    // --- Clients ---

    fn client(&mut self) {
        let index = self.rng.random_range(0..CLIENTS);
        let running = self.cluster.running();
        let Some(id) = self.one_of(&running) else {
            return;
        };
        if self.frozen.contains(&id) {
            return;
        }
        if self.clients[index].open.is_none() {
            self.ask(index, id);
        }
    }

    fn ask(&mut self, index: usize, id: NodeId) {
        let client = &self.clients[index];
        let (asked, command) = match (self.rng.random_range(0..10), client.session) {
            (0..3, _) => (Asked::Read(self.watch.decided()), None),
            // The first clients have sessions: what they ask again is done once.
            (_, None) if index < 2 => (Asked::Session, Some(Command::Session)),
            (_, Some(session)) => {
                let client = &mut self.clients[index];
                if client.again {
                    self.counts.one("once tried again");
                } else {
                    client.seq += 1;
                    client.again = true;
                }
                let (seq, key) = (client.seq, session_key(session));
                let command = Command::Once {
                    session,
                    seq,
                    write: Write::Incr { key, by: 1 },
                };
                (Asked::Once(session, seq), Some(command))
            }
            _ => (Asked::Plain, Some(self.plain())),
        };
        let attempt = Attempt {
            client: index,
            asked,
            at: (id, self.cluster.server(id).starts),
            answer: None,
        };
        // The ticket is known before the answer, which may come at once.
        let ticket = self.cluster.next_ticket();
        if let Some(Command::Write(write)) = &command {
            self.history.mark(write, ticket);
        }
        self.history.attempts.insert(ticket, attempt);
        self.clients[index].open = Some(ticket);
        let given = match command {
            Some(command) => self.cluster.write(id, command),
            None => self.cluster.read(id, b"k1"[..].into()),
        };
        assert_eq!(given, ticket, "tickets count");
    }

    /// A write that can be told from all others in the log.
    fn plain(&mut self) -> Command {
        self.history.last_mark += 1;
        let mark = self.history.last_mark;
        let text = |prefix: &str| Bytes::from(format!("{prefix}{mark}").into_bytes());
        let shared = format!("k{}", self.rng.random_range(0..4));
        let shared = Bytes::from(shared.into_bytes());
        Command::Write(match self.rng.random_range(0..10) {
            0..3 => Write::Put {
                key: shared,
                value: text("v"),
            },
            3..5 => Write::Put {
                key: text("u"),
                value: text("v"),
            },
            5 | 6 => Write::Cas {
                key: shared.clone(),
                expected: self.cluster.peek(&shared).unwrap_or_else(|| text("w")),
                new: text("v"),
            },
            7 => match self.history.single.pop() {
                Some(key) => Write::Delete { key },
                None => Write::Delete { key: text("u") },
            },
            _ => Write::Incr {
                key: b"sum"[..].into(),
                by: i64::try_from(mark).expect("a small number"),
            },
        })
    }

    fn answered(&mut self, id: NodeId, ticket: Ticket, answer: Answer) {
        let attempt = self
            .history
            .attempts
            .get_mut(&ticket)
            .expect("it was asked");
        let client = &mut self.clients[attempt.client];
        client.open = None;
        match (&attempt.asked, &answer) {
            (Asked::Read(floor), Answer::Readable) => {
                self.counts.one("read done");
                // Linearizable: what was decided anywhere before the read was asked for is seen; so
                // is every acknowledged write and every value that was read.
                let applied = self.cluster.status(id).applied;
                assert!(
                    applied >= *floor,
                    "{id} read at {applied}, {floor} was decided"
                );
            }
            (Asked::Once(_, seq), Answer::Done(outcome)) => {
                self.counts.one("write done");
                let expected = Outcome::Number(i64::try_from(*seq).expect("a small number"));
                assert_eq!(*outcome, expected, "I7: a session's command ran once");
                client.again = false;
            }
            (Asked::Session, Answer::Done(outcome)) => match outcome {
                Outcome::Session(session) => client.session = Some(*session),
                other => panic!("a session was opened as {other:?}"),
            },
            (_, Answer::Done(_)) => self.counts.one("write done"),
            (Asked::Read(_), _) => self.counts.one("read not done"),
            (_, Answer::NotDone(_)) => self.counts.one("write not done"),
            (_, _) => self.counts.one("write unknown"),
        }
        attempt.answer = Some(answer);
    }

    // --- Looking ---

    /// Looks at all that happened.
    fn look(&mut self) {
        let events = std::mem::take(&mut self.cluster.events);
        let mut touched = BTreeSet::new();
        for event in events {
            if self.trace {
                print_event(&event);
            }
            self.watch.on_event(&event, &self.cluster);
            match event {
                Event::Answer(id, ticket, answer, _) => self.answered(id, ticket, answer),
                Event::Leads(..) => self.counts.one("leader"),
                Event::Came(_, to, _) => drop(touched.insert(to)),
                Event::Record(id, _) => drop(touched.insert(id)),
                _ => {}
            }
        }
        for id in touched {
            if self.cluster.running().contains(&id) {
                self.watch.check_learner(&mut self.cluster, id);
            }
        }
    }

    // --- The end of the faults ---

    /// Everything runs and every link works: all must become equal and nobody may wait for ever.
    fn heal(&mut self) {
        self.frozen.clear();
        self.deaf.clear();
        for id in self.cluster.nodes() {
            if !self.cluster.running().contains(&id) {
                self.restart(id);
            } else if self.cluster.server(id).failed {
                self.cluster.recover(id);
            }
        }
        for (from, to) in self.cluster.cuts() {
            self.heal_link(from, to);
        }
        self.until(HEALED_TICKS_MAX, "the faults ended");
        let mut fresh = Vec::new();
        for id in self.cluster.nodes() {
            for command in [Some(self.plain()), None] {
                let asked = command
                    .as_ref()
                    .map_or(Asked::Read(self.watch.decided()), |_| Asked::Plain);
                let ticket = self.cluster.next_ticket();
                if let Some(Command::Write(write)) = &command {
                    self.history.mark(write, ticket);
                }
                let attempt = Attempt {
                    client: 0,
                    asked,
                    at: (id, self.cluster.server(id).starts),
                    answer: None,
                };
                self.history.attempts.insert(ticket, attempt);
                match command {
                    Some(command) => self.cluster.write(id, command),
                    None => self.cluster.read(id, b"k1"[..].into()),
                };
                fresh.push(ticket);
            }
        }
        self.until(FRESH_TICKS_MAX, "fresh requests were made");
        for ticket in fresh {
            let attempt = &self.history.attempts[&ticket];
            let done = matches!(attempt.answer, Some(Answer::Done(_) | Answer::Readable));
            assert!(done, "a request in a healthy cluster is done: {attempt:?}");
        }
        for _ in 0..self.watch.decided().0 {
            self.counts.one("slot");
        }
    }

    fn until(&mut self, ticks_max: u64, since: &str) {
        for _ in 0..ticks_max {
            for id in self.cluster.nodes() {
                self.cluster.tick(id);
            }
            self.cluster.settle(|_| true, |_, _, _| true);
            self.look();
            if self.cluster.open.is_empty() && self.all_equal() && self.cluster.leader().is_some() {
                return;
            }
        }
        let states: Vec<_> = self
            .cluster
            .nodes()
            .into_iter()
            .map(|id| self.cluster.status(id))
            .collect();
        panic!(
            "{ticks_max} ticks after {since}: open {:?}, {states:#?}",
            self.cluster.open
        );
    }

    fn all_equal(&self) -> bool {
        let decided = self.watch.decided();
        self.cluster.nodes().into_iter().all(|id| {
            let status = self.cluster.status(id);
            (status.decided, status.applied) == (decided, decided)
        })
    }
}

fn session_key(session: SessionId) -> Bytes {
    format!("session{session}").into_bytes().into()
}

impl History {
    /// Remembers what tells this write from all others.
    fn mark(&mut self, write: &Write, ticket: Ticket) {
        match write {
            Write::Put { key, value } => {
                self.marks.insert(number_of(value), ticket);
                if key[0] == b'u' {
                    self.single.push(key.clone());
                }
            }
            Write::Cas { new, .. } => drop(self.marks.insert(number_of(new), ticket)),
            Write::Incr { by, .. } => drop(self.marks.insert(by.cast_unsigned(), ticket)),
            Write::Delete { key } => drop(self.deletes.insert(key.clone(), ticket)),
            other => unreachable!("nobody asks for {other:?}"),
        }
    }

    /// Whose this command of the log is, if it can be told.
    fn owner(&self, command: &Command) -> Option<Ticket> {
        let Command::Write(write) = command else {
            return None;
        };
        let owner = match write {
            Write::Put { value, .. } => self.marks.get(&number_of(value)),
            Write::Cas { new, .. } => self.marks.get(&number_of(new)),
            Write::Incr { by, .. } => self.marks.get(&by.cast_unsigned()),
            Write::Delete { key } => self.deletes.get(key),
            other => unreachable!("nobody asks for {other:?}"),
        };
        Some(*owner.expect("nobody else writes"))
    }
}

/// The number in `v17` or `u17`.
fn number_of(text: &[u8]) -> u64 {
    let digits = std::str::from_utf8(&text[1..]).expect("digits");
    digits.parse().expect("a number")
}

/// Looks at everything from outside, and knows what must hold.
struct Watch {
    size: u8,
    /// I1.
    proposed: BTreeMap<(Ballot, Slot), Value>,
    /// Which start of its node used a ballot.
    prepared: BTreeMap<Ballot, u64>,
    /// What the synced records of each node promise.
    promised: BTreeMap<NodeId, Ballot>,
    own: BTreeSet<Ballot>,
    /// By whom what was accepted, synced.
    accepted: BTreeMap<Slot, BTreeMap<Ballot, (Value, Votes)>>,
    /// The highest slot in which each node accepted, synced.
    highest: BTreeMap<NodeId, Slot>,
    /// The highest slot that each node ever told another to have accepted.
    voted: BTreeMap<NodeId, Slot>,
    /// What a node told to be decided in a promise, or knew when all its records were synced.
    told: BTreeMap<NodeId, Slot>,
    decided: Vec<Value>,
    /// Up to where each node's learner was looked at.
    looked: BTreeMap<NodeId, Slot>,
    hashes: BTreeMap<Slot, u64>,
}

impl Watch {
    fn new(size: u8) -> Self {
        Self {
            size,
            proposed: BTreeMap::new(),
            prepared: BTreeMap::new(),
            promised: BTreeMap::new(),
            own: BTreeSet::new(),
            accepted: BTreeMap::new(),
            highest: BTreeMap::new(),
            voted: BTreeMap::new(),
            told: BTreeMap::new(),
            decided: Vec::new(),
            looked: BTreeMap::new(),
            hashes: BTreeMap::new(),
        }
    }

    /// The highest slot that any learner ever knew.
    fn decided(&self) -> Slot {
        Slot(self.decided.len() as u64)
    }

    fn on_event(&mut self, event: &Event, cluster: &Cluster) {
        match event {
            Event::Synced(id, record) => self.on_synced(*id, record),
            Event::Sent(from, to, Message::Vote(vote)) => {
                self.on_vote(*from, vote, cluster);
                if let Vote::Accepted { slot, .. } = vote
                    && from != to
                {
                    let voted = self.voted.entry(*from).or_default();
                    *voted = (*slot).max(*voted);
                }
            }
            Event::Sent(from, _, Message::Notice(Notice::Mark { slot, .. })) => {
                let of = |slots: &BTreeMap<NodeId, Slot>| slots.get(from).copied();
                let voted = of(&self.voted).unwrap_or_default();
                let highest = of(&self.highest).unwrap_or_default();
                assert!(
                    (voted..=highest).contains(slot),
                    "P53: {from} marks {slot}; it voted for {voted} and has synced {highest}"
                );
            }
            Event::Sent(
                _,
                _,
                Message::Notice(Notice::Accept {
                    ballot,
                    slot,
                    value,
                }),
            ) => self.on_proposal(*ballot, *slot, value),
            Event::Alarm(id, alarm) => panic!("{id} alarms: {alarm}"),
            _ => {}
        }
    }

    fn on_proposal(&mut self, ballot: Ballot, slot: Slot, value: &Value) {
        let before = self
            .proposed
            .entry((ballot, slot))
            .or_insert_with(|| value.clone());
        assert_eq!(before, value, "I1: two values under {ballot} at {slot}");
    }

    fn on_synced(&mut self, id: NodeId, record: &Record) {
        let promised = self.promised.entry(id).or_insert(Ballot::ZERO);
        match record {
            Record::Promise(ballot) => {
                assert!(
                    ballot >= promised,
                    "I2: {id} promised {promised}, then {ballot}"
                );
                *promised = *ballot;
            }
            Record::Accept(ballot, slot, value) => {
                assert!(
                    ballot >= promised,
                    "I3: {id} accepted {ballot} under {promised}"
                );
                *promised = *ballot;
                let ballots = self.accepted.entry(*slot).or_default();
                let entry = ballots
                    .entry(*ballot)
                    .or_insert_with(|| (value.clone(), Votes::default()));
                assert_eq!(entry.0, *value, "I1: two values under {ballot} at {slot}");
                entry.1.insert(id);
                let highest = self.highest.entry(id).or_default();
                *highest = (*highest).max(*slot);
                self.on_proposal(*ballot, *slot, value);
            }
            Record::Ballot(ballot) => drop(self.own.insert(*ballot)),
            Record::Learn(slot, value) => {
                if let Some(decided) = self.decided.get(index(*slot)) {
                    assert_eq!(decided, value, "I4: {id} learned another value at {slot}");
                }
            }
            _ => {}
        }
    }

    /// A vote rests on what is synced.
    fn on_vote(&mut self, from: NodeId, vote: &Vote, cluster: &Cluster) {
        let promised = self.promised.get(&from).copied().unwrap_or(Ballot::ZERO);
        match vote {
            Vote::Prepare { ballot, .. } => {
                assert!(
                    self.own.contains(ballot),
                    "{from} prepares {ballot} unsynced"
                );
                let starts = cluster.server(from).starts;
                let before = *self.prepared.entry(*ballot).or_insert(starts);
                assert_eq!(before, starts, "P6: {from} uses {ballot} in two starts");
            }
            Vote::Promise(promise) => {
                assert!(
                    promise.ballot <= promised,
                    "{from} promises {} unsynced",
                    promise.ballot
                );
                let told = self.told.entry(from).or_default();
                *told = (*told).max(promise.decided);
            }
            Vote::Accepted { ballot, slot } => {
                let votes = self
                    .accepted
                    .get(slot)
                    .and_then(|ballots| ballots.get(ballot));
                let synced = votes.is_some_and(|(_, votes)| votes.contains(from));
                assert!(synced, "{from} accepted {ballot} {slot} unsynced");
            }
            Vote::Known(_) => {}
        }
    }

    fn on_crash(&mut self, id: NodeId) {
        self.looked.remove(&id);
    }

    /// A node that comes back knows what it told others to know.
    fn check_memory(&self, cluster: &Cluster, id: NodeId) {
        let told = self.told.get(&id).copied().unwrap_or_default();
        let decided = cluster.status(id).decided;
        assert!(
            decided >= told,
            "{id} knew all up to {told}, synced, and came back with {decided}"
        );
    }

    /// I4, I5, I6: what a learner calls decided is what all call decided, and a majority has it.
    fn check_learner(&mut self, cluster: &mut Cluster, id: NodeId) {
        let status = cluster.status(id);
        let looked = self.looked.get(&id).copied().unwrap_or_default();
        assert!(status.decided >= looked, "{id} forgot what it decided");
        assert_eq!(
            status.applied, status.decided,
            "a round ends with all applied"
        );
        let hash = *self.hashes.entry(status.applied).or_insert(status.hash);
        assert_eq!(
            hash, status.hash,
            "I5: the store of {id} differs at {}",
            status.applied
        );
        let mut next = looked.next();
        while next <= status.decided {
            let values = cluster.decided_values(id, next, status.decided);
            assert!(!values.is_empty(), "{id} tells what it decided at {next}");
            for value in values {
                self.on_decided(id, next, value);
                next = next.next();
            }
        }
        self.looked.insert(id, status.decided);
    }

    fn on_decided(&mut self, id: NodeId, slot: Slot, value: Value) {
        if let Some(decided) = self.decided.get(index(slot)) {
            assert_eq!(*decided, value, "I4: {id} decided another value at {slot}");
            return;
        }
        assert_eq!(
            index(slot),
            self.decided.len(),
            "slots are decided in order"
        );
        let members = members(self.size);
        let majority = self.accepted.get(&slot).is_some_and(|ballots| {
            let mut ballots = ballots.values();
            ballots.any(|(accepted, votes)| *accepted == value && votes.is_majority_of(&members))
        });
        assert!(majority, "I6: no majority has {slot} as {id} decided it");
        self.decided.push(value);
    }

    /// The whole log against what the clients were told.
    fn check_log(&self, history: &History) {
        let mut store = Store::new();
        let mut ids = BTreeSet::new();
        let mut applied: BTreeMap<Ticket, (CommandId, Outcome)> = BTreeMap::new();
        for (value, slot) in self.decided.iter().zip(1..) {
            let batch = if value.is_noop() {
                Batch::empty()
            } else {
                Batch::read(value.as_bytes())
            };
            assert!(batch.error().is_none(), "s{slot} holds a batch");
            let mut fates = Vec::new();
            store.apply(slot, &batch, |id, fate| fates.push((id, fate)));
            for ((id, fate), numbered) in fates.into_iter().zip(batch.commands()) {
                let Fate::Applied(outcome) = fate else {
                    continue;
                };
                assert!(ids.insert(id), "I7: {id} applied twice");
                if id.origin == 0 {
                    continue;
                }
                if let Some(owner) = history.owner(&numbered.command) {
                    let before = applied.insert(owner, (id, outcome));
                    assert!(before.is_none(), "I7: {owner:?} applied twice: {before:?}");
                }
            }
        }
        assert!(
            store.get(PRELOADED).is_some(),
            "what was pre-loaded is there"
        );
        check_attempts(history, &applied);
        check_sessions(history, &store);
    }
}

/// I7, D12, P45: a session's commands ran once each, however often they were sent.
fn check_sessions(history: &History, store: &Store) {
    let mut seqs: BTreeMap<SessionId, (u64, u64)> = BTreeMap::new();
    for attempt in history.attempts.values() {
        if let Asked::Once(session, seq) = attempt.asked {
            let (done, sent) = seqs.entry(session).or_default();
            *sent = seq.max(*sent);
            if matches!(attempt.answer, Some(Answer::Done(_))) {
                *done = seq.max(*done);
            }
        }
    }
    for (session, (done, sent)) in seqs {
        let ran = store.get(&session_key(session)).map_or(0, |value| {
            let text = std::str::from_utf8(&value).expect("digits");
            text.parse::<u64>().expect("a number")
        });
        assert!(
            (done..=sent).contains(&ran),
            "I7: session {session} ran {ran} commands, {done} were done and {sent} sent"
        );
    }
}

/// I6, I7, P46: acknowledged is applied, refused is not; each server's commands keep their order.
fn check_attempts(history: &History, applied: &BTreeMap<Ticket, (CommandId, Outcome)>) {
    let mut last: BTreeMap<(NodeId, u64), u64> = BTreeMap::new();
    for (ticket, attempt) in &history.attempts {
        if !matches!(attempt.asked, Asked::Plain) {
            continue;
        }
        let found = applied.get(ticket);
        match (&attempt.answer, found) {
            (Some(Answer::Done(told)), Some((_, outcome))) => {
                assert_eq!(told, outcome, "{ticket:?}");
            }
            (Some(Answer::Done(_)), None) => panic!("I6: {ticket:?} was acknowledged and is lost"),
            (Some(Answer::NotDone(why)), Some((id, _))) => {
                panic!("P46: {ticket:?} was refused ({why}) and applied as {id}")
            }
            _ => {}
        }
        if let Some((id, _)) = found {
            let (node, start) = attempt.at;
            assert_eq!(
                (id.origin, id.start),
                (node.number(), start),
                "{ticket:?} is {id}"
            );
            let before = last.insert(attempt.at, id.number).unwrap_or(0);
            assert!(
                before < id.number,
                "{ticket:?} is {id}, after number {before}"
            );
        }
    }
}

fn index(slot: Slot) -> usize {
    usize::try_from(slot.0 - 1).expect("few slots")
}

fn print_event(event: &Event) {
    match event {
        Event::Record(id, record) => println!("{id} record {}", print::record(record)),
        Event::Synced(id, record) => println!("{id} synced {}", print::record(record)),
        Event::Sent(from, to, message) => println!("{from} .. {to} {}", print::message(message)),
        Event::Came(from, to, message) => println!("{from} -> {to} {}", print::message(message)),
        Event::Lost(from, to, message) => println!("{from} -x {to} {}", print::message(message)),
        other => println!("{other:?}"),
    }
}
