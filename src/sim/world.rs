//! The world of a life: nodes, network, clients and time, and what happens in it one by one.
//!
//! A life begins with all nodes starting on empty disks. In its *safety phase* clients ask and the
//! faults of the plan come and go, and the checks look at every step. Then everything is mended,
//! except for a minority of nodes that may stay down, and the *liveness phase* begins: every open
//! request must end, all live nodes must become equal, and fresh requests at each of them must be
//! done, each within a stated time. In lives whose links or disks are slow throughout, all of these
//! times are longer by a stated number of rounds (`Plan::slow_round`: a message, a sync, the answer).

use std::fmt::Write as _;
use std::rc::Rc;

use super::clients::{Batch, CLIENTS, Client};
use super::clock::{Clock, Due, MS, SECOND};
use super::counts::{Counts, Seen};
use super::dice::{Dice, Stream};
use super::disk::SimDir;
use super::faults::Active;
use super::history::{Call, History, Reply, unique_key, value_of};
use super::network::{Line, Network};
use super::node::{Arrival, Node, Wall};
use super::plan::{FIRST_FAULT, Plan};
use super::watch::{Checked, Watch, ensure};
use super::{Mistake, Settings, judge, service};
use crate::disk::log::Options as LogOptions;
use crate::kv::command::{Command, Write};
use crate::outbox::Answer;
use crate::paxos::quorum::Members;
use crate::paxos::types::NodeId;

/// How many requests a life has, at least.
pub(super) const OPERATIONS_MIN: u64 = 200;

/// When the safety phase ends at the latest, however few requests there were.
const SAFETY_MAX: u64 = 20 * SECOND;

/// And so many slow rounds more: a client has one batch under way, and does not wait for more than a
/// few rounds for it.
const SAFETY_ROUNDS: u64 = 40;

/// Within this time after the faults, no request is open, and all live nodes are equal.
const SETTLED_WITHIN: u64 = 5 * SECOND;

/// And so many slow rounds more: for the deadline of what is open, a recall, an election, and to catch up.
const SETTLED_ROUNDS: u64 = 20;

/// Within this time more, a fresh write and a fresh read at each live node are done.
const FRESH_WITHIN: u64 = SECOND;

/// And so many slow rounds more: to the leader, to the acceptors, and as many for what is before it there.
const FRESH_ROUNDS: u64 = 4;

/// How often it is looked whether a phase is over.
const LOOK_EVERY: u64 = 10 * MS;

/// Where a life is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Phase {
    Safety,
    /// Since when the faults are over.
    Settling(u64),
    /// Since when, and which batches are fresh.
    Fresh(u64, Vec<usize>),
}

/// See the module's text.
#[derive(Debug)]
pub(super) struct World {
    pub(super) seed: u64,
    pub(super) mistake: Option<Mistake>,
    pub(super) members: Members,
    pub(super) plan: Plan,
    /// What the cluster begins with.
    pub(super) preload: Vec<Command>,
    pub(super) without: Vec<usize>,
    pub(super) clock: Clock,
    pub(super) steps: u64,
    pub(super) phase: Phase,
    looked: u64,
    /// From when the times of the plan count, once every node has begun.
    planned_from: Option<u64>,
    pub(super) nodes: Vec<Node>,
    pub(super) network: Network,
    pub(super) active: Vec<Option<Active>>,
    pub(super) clients: Vec<Client>,
    pub(super) batches: Vec<Batch>,
    pub(super) log_options: LogOptions,
    pub(super) disk_dice: Dice,
    pub(super) node_dice: Dice,
    pub(super) client_dice: Dice,
    pub(super) watch: Watch,
    pub(super) history: History,
    pub(super) counts: Counts,
    pub(super) trace: Option<String>,
}

/// Writes a line of the trace, if there is one.
macro_rules! tell {
    ($world:expr, $($text:tt)*) => {
        if $world.trace.is_some() {
            $world.tell(format_args!($($text)*));
        }
    };
}
pub(super) use tell;

impl World {
    pub(super) fn new(settings: &Settings) -> Self {
        let seed = settings.seed;
        let plan = Plan::draw(settings.profile, &mut Dice::new(seed, Stream::Plan));
        let ids = (1..=plan.size).filter_map(NodeId::new);
        let members = Members::new(ids).expect("an odd number of nodes");
        let nodes: Vec<Node> = members
            .iter()
            .zip(plan.clock_percent.iter().zip(&plan.walls))
            .map(|(id, (percent, wall))| {
                let dir = SimDir::new(plan.sector_bytes);
                Node::new(id, dir, MS / 10 * percent, *wall)
            })
            .collect();
        let network = Dice::new(seed, Stream::Network);
        let mut counts = Counts::default();
        if plan.clock_percent.iter().any(|&percent| percent != 100) {
            counts.one(Seen::Skewed);
        }
        for wall in plan.walls.iter().filter(|&wall| *wall != Wall::default()) {
            counts.one(Seen::WrongWalls);
            counts.many(Seen::WallJumps, u64::from(wall.jump != 0));
        }
        counts.many(Seen::FarForLife, u64::from(plan.is_far()));
        counts.many(Seen::SlowDisksForLife, u64::from(plan.has_slow_disks()));
        let preload = if plan.preload {
            service::preload()
        } else {
            Vec::new()
        };
        let log_options = LogOptions {
            first_segment_bytes: plan.first_segment_bytes,
            segment_bytes_max: plan.segment_bytes_max,
        };
        Self {
            seed,
            mistake: settings.mistake,
            without: settings.without.clone(),
            clock: Clock::default(),
            steps: 0,
            phase: Phase::Safety,
            looked: 0,
            planned_from: None,
            network: Network::new(nodes.len(), plan.delay, network),
            active: plan.faults.iter().map(|_| None).collect(),
            clients: (0..CLIENTS).map(|_| Client::default()).collect(),
            batches: Vec::new(),
            log_options,
            disk_dice: Dice::new(seed, Stream::Disks),
            node_dice: Dice::new(seed, Stream::Nodes),
            client_dice: Dice::new(seed, Stream::Clients),
            watch: Watch::new(members.clone()),
            history: History::default(),
            counts,
            trace: settings.trace.then(String::new),
            members,
            nodes,
            plan,
            preload,
        }
    }

    /// Lives. An error says which check failed.
    pub(super) fn run(&mut self) -> Checked {
        for node in 0..self.nodes.len() {
            let at = self.node_dice.below(5 * MS);
            self.clock.at(at, Due::Start { node });
        }
        for client in 0..CLIENTS {
            self.clients[client].server = self.client_dice.index(self.nodes.len());
            let at = 20 * MS + self.client_dice.below(100 * MS);
            self.clock.at(at, Due::Client { client, turn: 0 });
        }
        while let Some(due) = self.clock.next() {
            self.steps += 1;
            self.take(due)?;
            if self.clock.now() >= self.looked + LOOK_EVERY {
                self.looked = self.clock.now();
                if self.is_over()? {
                    return self.check_end();
                }
            }
        }
        Err("nothing is due any more".into())
    }

    /// The plan begins once every node has: its times count from then, or from the beginning of the life
    /// where that is soon enough.
    pub(super) fn begin_plan(&mut self) {
        if self.planned_from.is_some() || !self.nodes.iter().all(|node| node.joined) {
            return;
        }
        let from = self.clock.now().saturating_sub(FIRST_FAULT);
        self.planned_from = Some(from);
        for number in 0..self.plan.faults.len() {
            if !self.without.contains(&number) {
                self.counts.one(Seen::PlannedFaults);
                let at = from + self.plan.faults[number].at;
                self.clock.at(at, Due::Fault { number });
            }
        }
    }

    fn take(&mut self, due: Due) -> Checked {
        match due {
            Due::Tick { node, life } => self.on_tick(node, life),
            Due::Round { node, life } => self.on_round(node, life),
            Due::Logged { node, life } => self.on_logged(node, life),
            Due::Arrival { from, to } => {
                self.on_arrival(from, to);
                Ok(())
            }
            Due::Dial { from, to } => {
                self.on_dial(from, to);
                Ok(())
            }
            Due::Start { node } => self.on_start(node),
            Due::Thaw { node, life } => self.on_thaw(node, life),
            Due::Nap { node, life } => {
                self.on_nap(node, life);
                Ok(())
            }
            Due::Written { node, life } => self.on_written(node, life),
            Due::Client { client, turn } => {
                self.on_client(client, turn);
                Ok(())
            }
            Due::Read { batch } => self.on_read(batch),
            Due::Fault { number } => self.on_fault(number),
            Due::End { number } => self.on_fault_end(number),
        }
    }

    // --- Phases ---

    fn is_over(&mut self) -> Checked<bool> {
        let now = self.clock.now();
        let round = self.plan.slow_round;
        let safety_max = SAFETY_MAX + SAFETY_ROUNDS * round;
        let settled_within = SETTLED_WITHIN + SETTLED_ROUNDS * round;
        let fresh_within = FRESH_WITHIN + FRESH_ROUNDS * round;
        match self.phase.clone() {
            Phase::Safety => {
                let enough = self.counts.of(Seen::Operations) >= OPERATIONS_MIN;
                let planned = self.planned_from.map(|from| from + self.plan.lasts);
                if now >= safety_max || planned.is_some_and(|planned| now >= planned) && enough {
                    ensure!(
                        enough,
                        "liveness: only {} requests in {safety_max} us",
                        self.counts.of(Seen::Operations)
                    );
                    self.heal()?;
                    self.phase = Phase::Settling(now);
                    tell!(self, "--- all faults are over ---");
                }
            }
            Phase::Settling(since) => {
                if self.is_settled() {
                    let fresh = self.ask_everyone();
                    self.phase = Phase::Fresh(now, fresh);
                } else if now > since + settled_within {
                    return Err(self.unsettled(settled_within));
                }
            }
            Phase::Fresh(since, fresh) => {
                if self.is_settled() {
                    self.check_fresh(&fresh)?;
                    return Ok(true);
                }
                if now > since + fresh_within {
                    return Err(self.unsettled(fresh_within));
                }
            }
        }
        Ok(false)
    }

    /// No request is open, all nodes that run know and hold the same, and links are as fast as ever: what
    /// was slow before the faults were over may be under way for longer than a request may take.
    fn is_settled(&self) -> bool {
        let decided = self.watch.decided();
        self.network.is_prompt(self.clock.now())
            && self.batches.iter().rev().all(|batch| batch.closed)
            && self.nodes.iter().all(|node| match &node.running {
                None => node.stays_down,
                Some(run) => {
                    let status = run.replica.status();
                    (status.applied, status.acceptor_up) == (decided, true)
                        && !run.stopping
                        && self.watch.hash(decided).unwrap_or(status.hash) == status.hash
                }
            })
            && self.leader().is_some()
    }

    fn unsettled(&self, within: u64) -> String {
        let mut text = format!(
            "liveness: {} ms after the faults, {} is decided, leader {:?}",
            within / MS,
            self.watch.decided(),
            self.leader().map(|at| self.nodes[at].id),
        );
        for node in &self.nodes {
            let state = match &node.running {
                None => "down".into(),
                Some(run) => {
                    let status = run.replica.status();
                    format!("{} at {}", status.role, status.applied)
                }
            };
            let _ = write!(text, "; {} {state}", node.id);
        }
        for (number, batch) in self.batches.iter().enumerate() {
            if !batch.closed {
                let (client, at) = (batch.client, self.nodes[batch.node].id);
                let _ = write!(text, "; batch {number} of client {client} open at {at}");
            }
        }
        text
    }

    /// The node that leads with the highest ballot.
    pub(super) fn leader(&self) -> Option<usize> {
        let leads = self.nodes.iter().enumerate().filter_map(|(at, node)| {
            let ballot = node.running.as_ref()?.leads?;
            Some((ballot, at))
        });
        leads.max().map(|(_, at)| at)
    }

    /// A fresh write and a fresh read at every node that runs.
    fn ask_everyone(&mut self) -> Vec<usize> {
        let mut fresh = Vec::new();
        for node in 0..self.nodes.len() {
            if self.nodes[node].running.is_none() {
                continue;
            }
            let ticket = self.history.next();
            let put = Command::Write(Write::Put {
                key: unique_key(ticket),
                value: value_of(ticket),
            });
            let calls = vec![Call::Command(put), Call::Get(b"k0"[..].into())];
            fresh.push(self.send_batch(0, node, calls));
        }
        fresh
    }

    fn check_fresh(&self, fresh: &[usize]) -> Checked {
        for &number in fresh {
            let batch = &self.batches[number];
            for &ticket in batch.commands.iter().chain(&batch.reads) {
                let operation = &self.history.operations()[ticket];
                let done = matches!(
                    operation.reply,
                    Some(Reply::Value(_) | Reply::Answer(Answer::Done(_)))
                );
                ensure!(
                    done,
                    "liveness: request {ticket} to n{} in a healthy cluster came to {:?}",
                    operation.asked.0,
                    operation.reply
                );
            }
        }
        Ok(())
    }

    /// The stores as wholes, and what can only be told when all is over.
    fn check_end(&mut self) -> Checked {
        self.counts.many(Seen::Slots, self.watch.decided().0);
        let felt = self.watch.model().felt();
        for (seen, count) in [
            (Seen::TransactionsDone, felt.transactions_done),
            (Seen::TransactionsChanged, felt.transactions_changed),
            (Seen::KeysEnded, felt.keys_ended),
        ] {
            self.counts.many(seen, count);
        }
        let decided = self.watch.decided();
        let model = self.watch.model().list(b"", decided.0);
        for node in &self.nodes {
            if let Some(run) = &node.running {
                let store = run.replica.store();
                let list = store.image().list(b"");
                ensure!(
                    list == model,
                    "I5: the store of {} is not what the log makes",
                    node.id
                );
            }
        }
        self.history.check_end()?;
        let report = judge::judge(self.history.operations(), &self.preload)?;
        self.counts.many(Seen::Judged, report.operations as u64);
        self.counts
            .many(Seen::Undecided, report.undecided.len() as u64);
        let planned = self.counts.of(Seen::PlannedFaults);
        let moot = self.counts.of(Seen::MootFaults);
        ensure!(
            planned < 4 || moot < planned,
            "of {planned} faults that were planned none came"
        );
        Ok(())
    }

    // --- Messages ---

    /// Sends a line.
    pub(super) fn send(&mut self, from: usize, to: usize, line: &Line) {
        let sent = self.network.send(self.clock.now(), from, to, line);
        if sent.overtook {
            self.counts.one(Seen::Overtaken);
        }
        if sent.held {
            self.counts.one(Seen::HeldLate);
            return;
        }
        let [first, second] = sent.arrivals;
        if first.is_none() {
            self.counts.one(Seen::Lost);
            tell!(self, "n{} -x n{} {}", from + 1, to + 1, text(line));
        }
        if second.is_some() {
            self.counts.one(Seen::Doubled);
        }
        for time in sent.arrivals.into_iter().flatten() {
            self.clock.at(time, Due::Arrival { from, to });
        }
    }

    fn on_arrival(&mut self, from: usize, to: usize) {
        let Some(line) = self.network.arrival(self.clock.now(), from, to) else {
            return;
        };
        self.counts.one(Seen::Messages);
        tell!(self, "n{} -> n{} {}", from + 1, to + 1, text(&line));
        self.arrive(to, Arrival::Line { from, line });
    }

    /// Something arrives at a node that runs.
    pub(super) fn arrive(&mut self, node: usize, arrival: Arrival) {
        if let Some(run) = &mut self.nodes[node].running {
            run.inbox.push_back(arrival);
            self.want_round(node);
        }
    }

    /// The log thread tells something to a node that runs.
    pub(super) fn tell_core(&mut self, node: usize, told: Arrival) {
        if let Some(run) = &mut self.nodes[node].running {
            run.told.push_back(told);
            self.want_round(node);
        }
    }

    fn want_round(&mut self, node: usize) {
        const WAIT_MAX: u64 = 60;
        let life = self.nodes[node].life;
        let Some(run) = &mut self.nodes[node].running else {
            return;
        };
        if !run.round_due {
            run.round_due = true;
            let wait = self.node_dice.below(WAIT_MAX);
            self.clock.after(wait, Due::Round { node, life });
        }
    }

    // --- The trace ---

    pub(super) fn tell(&mut self, text: std::fmt::Arguments<'_>) {
        let now = self.clock.now();
        if let Some(trace) = &mut self.trace {
            let (ms, us) = (now / MS, now % MS);
            let _ = writeln!(trace, "{ms:>5}.{us:03} {text}");
        }
    }
}

/// A line for people.
pub(super) fn text(line: &[u8]) -> std::borrow::Cow<'_, str> {
    String::from_utf8_lossy(line)
}

/// A line from what was written, without its LF.
pub(super) fn line(write: impl FnOnce(&mut Vec<u8>)) -> Line {
    let mut bytes = Vec::new();
    write(&mut bytes);
    assert_eq!(bytes.pop(), Some(b'\n'), "a message is a line");
    Rc::from(bytes)
}
