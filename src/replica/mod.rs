//! One server as a value that is stepped: proposer, acceptor, learner and the state machine.
//!
//! [`Replica::step`] takes one [`Input`] and [`Replica::flush`] ends a round of them; both only
//! write into an [`Outbox`]. Time comes as ticks of [`TICK`], randomness as a seed, the past as
//! records: equal inputs give equal outputs, byte for byte. What a network may do (late, twice, from
//! the wrong node, under an older ballot) is sorted out at the top of each handler; below that line
//! it is a fact.
//!
//! The way of a write: `on_write` at any server → `Origin` numbers it → `Propose` to the leader →
//! `Intake` → a batch is a slot's value → `Accept` → `Accepted` of a majority → `Decided` → applied
//! in slot order everywhere → answered by the server that took it.
//!
//! The store stands behind a lock, because the threads that serve clients read it too; only
//! [`Replica`] writes to it. Nothing else here is shared.

mod catchup;
mod intake;
mod origin;
mod reads;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use log::{debug, error, info, warn};
use parking_lot::Mutex;

use crate::kv::batch::{Batch, push_separator, write_command};
use crate::kv::command::{Command, CommandId};
use crate::kv::store::{Fate, Store};
use crate::outbox::{Outbox, Ticket, To};
use crate::paxos::acceptor::{Acceptor, Refusal};
use crate::paxos::election::{Election, HEARTBEAT_TICKS};
use crate::paxos::learner::Learner;
use crate::paxos::message::{Heartbeat, Message, Notice, Promise, Stance, Vote};
use crate::paxos::proposer::{Elected, Promised, Proposal, Proposer};
use crate::paxos::quorum::Members;
use crate::paxos::record::Record;
use crate::paxos::types::{Ballot, NodeId, Slot, Value};

use catchup::CatchUp;
use intake::Intake;
use origin::Origin;
use reads::Reads;

/// How long one tick is, for a shell with a clock.
pub const TICK: Duration = Duration::from_millis(10);

/// How many slots the leader keeps open at once. More commands wait and form larger batches.
const OPEN_SLOTS_MAX: usize = 32;

/// After so many ticks, what was not answered is sent again: `Prepare` and `Accept`.
const RESEND_TICKS: u64 = 3;

/// How many bytes of values are sent again in one tick.
const RESEND_BYTES_MAX: usize = 1 << 20;

/// By how much a message may raise the highest round that this node has seen. Honest nodes are
/// never so far apart; a forged round at the top of the range would end all elections (P9).
const ROUND_JUMP_MAX: u64 = 1_000_000;

/// By how many slots a proposal may lie ahead of what is known to be decided; for the same reason.
const SLOT_JUMP_MAX: u64 = 1_000_000;

/// How many slots one `Finish` makes the leader fill.
const FINISH_SLOTS_MAX: u64 = 1_000;

/// For how many of the last slots the state hash is remembered, to be compared with the peers'.
const HASHES_MAX: usize = 4_096;

/// How many slots are applied without letting the readers of the store in between.
const APPLY_SLOTS_MAX: u64 = 64;

/// How many bytes the pre-loaded commands have at most: they share one slot.
pub const PRELOAD_BYTES_MAX: usize = 4 << 20;

/// The store, as the threads that serve clients share it.
pub type SharedStore = Arc<Mutex<Store>>;

/// What a replica is told when it is made.
#[derive(Debug, Clone)]
pub struct Config {
    /// This node.
    pub me: NodeId,
    /// All nodes, the same on each.
    pub members: Members,
    /// Settles all that is random.
    pub seed: u64,
    /// For how many ticks a client's request may wait.
    pub deadline_ticks: u64,
    /// What the first leader of an empty log proposes, as one batch, before anything else.
    pub preload: Vec<Command>,
}

/// What happens to a replica.
#[derive(Debug)]
pub enum Input {
    /// A message came; from this very node too, after its own sync.
    Message {
        /// Who sent it, as the link knows.
        from: NodeId,
        /// What.
        message: Message,
    },
    /// A client wants a command done.
    Write {
        /// For the answer.
        ticket: Ticket,
        /// What.
        command: Command,
    },
    /// A client wants to read the store.
    Read {
        /// For the answer.
        ticket: Ticket,
    },
    /// [`TICK`] has passed.
    Tick,
    /// Messages to and from this node get through again.
    LinkUp(NodeId),
    /// The link from this node closed.
    LinkDown(NodeId),
    /// The acceptor fails: it answers nothing and forgets what is only in memory.
    AcceptorFailed,
    /// The acceptor is back, from its records.
    AcceptorRecovered(Acceptor),
    /// The server is about to stop: no more requests are taken, and those not handed on are refused.
    Stop,
}

/// What a server tells of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// This node.
    pub id: NodeId,
    /// `leader`, `candidate` or `follower`.
    pub role: &'static str,
    /// Who leads, as far as this node knows.
    pub leader: Option<NodeId>,
    /// The ballot of that leader or of this candidate, else the highest that was promised.
    pub ballot: Ballot,
    /// Every slot up to this one is decided, and its value is here.
    pub decided: Slot,
    /// Every slot up to this one is applied.
    pub applied: Slot,
    /// The running hash of all that was applied.
    pub hash: u64,
    /// Whether the acceptor is up.
    pub acceptor_up: bool,
    /// How many keys there are.
    pub keys: usize,
    /// The other nodes, and whether each is heard.
    pub peers: Vec<(NodeId, bool)>,
}

/// One server, as a value.
#[derive(Debug)]
pub struct Replica {
    me: NodeId,
    members: Members,
    deadline_ticks: u64,
    preload: Vec<Command>,
    now: u64,
    stopping: bool,

    /// None while it has failed.
    acceptor: Option<Acceptor>,
    proposer: Proposer,
    learner: Learner,
    election: Election,
    /// The highest round seen in any ballot, this node's own among them.
    round_seen: u64,
    prepare_due: u64,
    heartbeat_due: u64,
    stance_told: Stance,
    decided_told: Slot,
    /// A leader's word about decided slots that is not recorded yet.
    word: Option<(Ballot, Slot)>,
    /// Undecided slots whose proposal this node heard but did not record.
    unrecorded: BTreeSet<Slot>,

    store: SharedStore,
    applied: Slot,
    hashes: VecDeque<(Slot, u64)>,
    disagreed: BTreeMap<NodeId, Slot>,

    origin: Origin,
    intake: Intake,
    reads: Reads,
    catchup: CatchUp,
    leader_told: Option<Ballot>,
}

impl Replica {
    /// The replica that wrote these records, and the record of its new start, which must be on disk
    /// before the first step.
    pub fn recover(config: Config, records: &[Record]) -> (Self, Record) {
        let Config {
            me,
            members,
            seed,
            deadline_ticks,
            preload,
        } = config;
        assert!(members.contains(me), "{me} is a member of its own cluster");
        let start = 1 + records.iter().filter_map(start_of).max().unwrap_or(0);
        let acceptor = Acceptor::recover(records);
        // P6: above every ballot of this node's own and every promise that is remembered.
        let own_round = records.iter().filter_map(own_round).max().unwrap_or(0);
        let mut replica = Self {
            deadline_ticks,
            preload,
            now: 0,
            stopping: false,
            round_seen: own_round.max(acceptor.promised().round),
            acceptor: Some(acceptor),
            proposer: Proposer::default(),
            learner: Learner::recover(records),
            election: Election::new(me, members.clone(), seed ^ start.rotate_left(32)),
            prepare_due: 0,
            heartbeat_due: 0,
            stance_told: Stance::Idle,
            decided_told: Slot::ZERO,
            word: None,
            unrecorded: BTreeSet::new(),
            store: SharedStore::default(),
            applied: Slot::ZERO,
            hashes: VecDeque::new(),
            disagreed: BTreeMap::new(),
            origin: Origin::new(me, start),
            intake: Intake::default(),
            reads: Reads::new(start),
            catchup: CatchUp::default(),
            leader_told: None,
            me,
            members,
        };
        replica.apply_decided(&mut Outbox::default());
        (replica, Record::Start(start))
    }

    /// The store. For reading: only the replica writes to it.
    pub fn store(&self) -> SharedStore {
        Arc::clone(&self.store)
    }

    /// What this server tells of itself.
    pub fn status(&self) -> Status {
        let stance = self.stance();
        let (role, leading) = match stance {
            Stance::Leading(ballot) => ("leader", Some(ballot)),
            Stance::Trying(_) => ("candidate", None),
            Stance::Following(ballot) => ("follower", Some(ballot)),
            Stance::Idle => (
                "follower",
                self.election.leader(self.now).map(|leader| leader.ballot),
            ),
        };
        let promised = self
            .acceptor
            .as_ref()
            .map_or(Ballot::ZERO, Acceptor::promised);
        let store = self.store.lock();
        Status {
            id: self.me,
            role,
            leader: leading.and_then(Ballot::node),
            ballot: leading.or(self.proposer.ballot()).unwrap_or(promised),
            decided: self.learner.decided(),
            applied: self.applied,
            hash: store.hash(),
            acceptor_up: self.acceptor.is_some(),
            keys: store.len(),
            peers: self
                .members
                .others(self.me)
                .map(|peer| (peer, self.election.heard(peer, self.now).is_some()))
                .collect(),
        }
    }

    /// Whether every client has its answer.
    pub fn is_idle(&self) -> bool {
        self.origin.is_idle() && self.reads.is_idle()
    }

    /// Takes one input.
    pub fn step(&mut self, input: Input, out: &mut Outbox) {
        match input {
            Input::Message { from, message } => self.on_message(from, message, out),
            Input::Write { ticket, command } => self.on_write(ticket, command, out),
            Input::Read { ticket } => self.on_read(ticket, out),
            Input::Tick => self.on_tick(out),
            Input::LinkUp(node) => self.on_link_up(node, out),
            Input::LinkDown(node) => self.on_link_down(node, out),
            Input::AcceptorFailed => self.on_acceptor_failed(),
            Input::AcceptorRecovered(acceptor) => self.on_acceptor_recovered(acceptor),
            Input::Stop => self.on_stop(out),
        }
    }

    /// Ends a round of steps: applies what is decided, hands on and proposes what waits, begins a
    /// probe for the readers, tells the peers what changed. Work that one round collects is done
    /// once here, so a busy server does less for each request.
    pub fn flush(&mut self, out: &mut Outbox) {
        if let Some((ballot, upto)) = self.word.take() {
            out.record(Record::Decided(ballot, upto));
        }
        self.apply_decided(out);
        self.reads.release(self.applied, out);
        self.note_leader();
        self.hand_on(out);
        self.propose_waiting(out);
        if let Some(probe) = self.reads.begin(self.now) {
            self.send_probe(probe, out);
        }
        self.tell_decided(out);
        if self.stance() != self.stance_told {
            self.send_heartbeat(To::Others, out);
        }
    }

    // --- Phase 1 ---

    /// Tries to lead, with a ballot never used before.
    fn campaign(&mut self, out: &mut Outbox) {
        self.round_seen += 1;
        let ballot = Ballot::new(self.round_seen, self.me);
        let from = self.learner.decided().next();
        info!("preparing {ballot} from {from} on");
        out.record(Record::Ballot(ballot));
        self.proposer.prepare(ballot, from);
        self.prepare(out);
    }

    /// Asks all who have not promised everything yet.
    fn prepare(&mut self, out: &mut Outbox) {
        let Some(ballot) = self.proposer.ballot() else {
            return;
        };
        self.prepare_due = self.now + RESEND_TICKS;
        for (node, from) in self.proposer.unpromised(&self.members) {
            if node == self.me {
                self.on_prepare(node, ballot, from, out);
            } else {
                out.vote(To::One(node), Vote::Prepare { ballot, from });
            }
        }
    }

    fn on_prepare(&mut self, from: NodeId, ballot: Ballot, first: Slot, out: &mut Outbox) {
        let decided = self.learner.decided();
        let Some(acceptor) = &mut self.acceptor else {
            return;
        };
        let before = acceptor.promised();
        match acceptor.on_prepare(ballot, first, decided) {
            Ok(promise) => {
                if ballot > before {
                    out.record(Record::Promise(ballot));
                }
                out.vote(To::One(from), Vote::Promise(promise));
            }
            Err(refusal) => self.refuse(from, ballot, &refusal, out),
        }
    }

    fn on_promise(&mut self, from: NodeId, promise: Promise, out: &mut Outbox) {
        let known = self.learner.known().max(promise.decided);
        if let Some(told) = promise.accepted.last()
            && told.slot.0 > known.0 + 2 * SLOT_JUMP_MAX
        {
            out.alarms.push(format!(
                "{from} promised with {}, far ahead of {known}",
                told.slot
            ));
            return;
        }
        match self
            .proposer
            .on_promise(from, promise, &self.members, self.now)
        {
            Promised::Stale | Promised::Counted => {}
            Promised::More(_) => self.prepare(out),
            Promised::Elected(elected) => self.on_elected(elected, out),
        }
    }

    fn on_elected(&mut self, elected: Elected, out: &mut Outbox) {
        let Elected {
            ballot,
            decided,
            decided_by,
            proposals,
        } = elected;
        let repaired = proposals.len();
        info!("elected with {ballot}: all up to {decided} is decided, {repaired} slots to repair");
        self.intake.clear();
        self.decided_told = decided;
        self.learner.on_known(decided);
        if let Some((node, missing)) = decided_by.zip(self.learner.missing()) {
            self.catchup.ask(node, missing, self.now, out);
        }
        let empty = decided == Slot::ZERO && proposals.is_empty();
        for proposal in proposals {
            self.send_proposal(&proposal, out);
        }
        if empty && !self.preload.is_empty() {
            info!(
                "the log is empty: proposing {} pre-loaded commands",
                self.preload.len()
            );
            let value = preload_batch(&self.preload);
            self.propose(value, out);
        }
    }

    fn on_nack(&mut self, refused: Ballot, promised: Ballot, out: &mut Outbox) {
        if self.proposer.ballot() == Some(refused) && promised > refused {
            self.stop_leading(&format!("{promised} was promised to another node"), out);
        }
    }

    /// Ends phase 1 or phase 2, whichever is under way.
    fn stop_leading(&mut self, why: &str, out: &mut Outbox) {
        let Some(ballot) = self.proposer.ballot() else {
            return;
        };
        let what = if self.proposer.leading().is_some() {
            "no longer leading"
        } else {
            "giving up"
        };
        info!("{what} with {ballot}: {why}");
        self.proposer.stop();
        self.intake.clear();
        self.election.on_defeat(self.now);
        self.send_heartbeat(To::Others, out);
    }

    // --- Phase 2 ---

    /// Makes batches of all that waits and proposes them.
    fn propose_waiting(&mut self, out: &mut Outbox) {
        while self
            .proposer
            .leading()
            .is_some_and(|leading| leading.open_slots() < OPEN_SLOTS_MAX)
        {
            let Some(batch) = self.intake.take_batch() else {
                return;
            };
            self.propose(batch, out);
        }
    }

    fn propose(&mut self, value: Value, out: &mut Outbox) {
        let now = self.now;
        let leading = self.proposer.leading().expect("only a leader proposes");
        let proposal = leading.propose(value, now);
        self.send_proposal(&proposal, out);
    }

    fn send_proposal(&mut self, proposal: &Proposal, out: &mut Outbox) {
        let Proposal {
            ballot,
            slot,
            value,
        } = proposal;
        let accept = Notice::Accept {
            ballot: *ballot,
            slot: *slot,
            value: value.clone(),
        };
        out.send(To::Others, accept);
        // D17: the proposer's own acceptor is one of the majority.
        self.on_accept(self.me, *ballot, *slot, value, out);
    }

    fn on_accept(
        &mut self,
        from: NodeId,
        ballot: Ballot,
        slot: Slot,
        value: &Value,
        out: &mut Outbox,
    ) {
        let known = self.learner.known().max(self.learner.decided());
        if slot.0 > known.0 + SLOT_JUMP_MAX {
            warn!("ignoring a proposal of {from} for {slot}: too far ahead of {known}");
            return;
        }
        self.learner.on_proposal(ballot, slot, value);
        let Some(acceptor) = &mut self.acceptor else {
            self.unrecorded.insert(slot);
            return;
        };
        let again = acceptor.accepted_ballot(slot) == Some(ballot);
        match acceptor.on_accept(ballot, slot, value) {
            Ok(()) => {
                if !again {
                    self.unrecorded.remove(&slot);
                    out.record(Record::Accept(ballot, slot, value.clone()));
                }
                out.vote(To::One(from), Vote::Accepted { ballot, slot });
            }
            Err(refusal) => self.refuse(from, ballot, &refusal, out),
        }
    }

    fn refuse(&mut self, from: NodeId, refused: Ballot, refusal: &Refusal, out: &mut Outbox) {
        match *refusal {
            Refusal::Promised(promised) if from == self.me => self.on_nack(refused, promised, out),
            Refusal::Promised(promised) => {
                out.send(To::One(from), Notice::Nack { refused, promised });
            }
            Refusal::TwoValues => {
                out.alarms
                    .push(format!("I1: {from} sent two values under {refused}"));
            }
        }
    }

    fn on_accepted(&mut self, from: NodeId, ballot: Ballot, slot: Slot) {
        let Some(leading) = self.proposer.leading() else {
            return;
        };
        if let Some(upto) = leading.on_accepted(from, ballot, slot, &self.members) {
            self.on_decided(ballot, upto);
        }
    }

    // --- Learning ---

    fn on_decided(&mut self, ballot: Ballot, upto: Slot) {
        if self.learner.on_decided(ballot, upto) {
            self.word = Some((ballot, upto));
        }
    }

    /// Tells everyone up to where this leader knows all to be decided, once each time it grows.
    fn tell_decided(&mut self, out: &mut Outbox) {
        let Some(leading) = self.proposer.leading() else {
            return;
        };
        let (ballot, upto) = (leading.ballot(), leading.decided());
        if upto > self.decided_told {
            self.decided_told = upto;
            out.send(To::Others, Notice::Decided { ballot, upto });
        }
    }

    /// Tells some decided values to a node that lacks them.
    fn on_fetch(&self, from: NodeId, first: Slot, upto: Slot, out: &mut Outbox) {
        let values = catchup::values(&self.learner, first, upto);
        if !values.is_empty() {
            out.send(
                To::One(from),
                Notice::Fetched {
                    from: first,
                    values,
                },
            );
        }
    }

    fn on_fetched(&mut self, from: NodeId, first: Slot, values: &[Value], out: &mut Outbox) {
        let news = self.learner.on_fetched(first, values);
        for (slot, value) in &news {
            out.record(Record::Learn(*slot, (*value).clone()));
        }
        if !news.is_empty() {
            self.catchup
                .on_progress(from, self.learner.missing(), self.now, out);
        }
    }

    /// Applies every decided slot, each once and in order, and answers this server's own clients.
    fn apply_decided(&mut self, out: &mut Outbox) {
        while self.applied < self.learner.decided() {
            let last = self
                .learner
                .decided()
                .min(Slot(self.applied.0 + APPLY_SLOTS_MAX));
            self.apply_upto(last, out);
        }
    }

    fn apply_upto(&mut self, last: Slot, out: &mut Outbox) {
        let slots = self.applied.0 + 1..=last.0;
        let batches: Vec<Batch> = slots
            .clone()
            .map(|slot| self.read_batch(Slot(slot), out))
            .collect();
        let store = Arc::clone(&self.store);
        let mut store = store.lock();
        for (slot, batch) in slots.zip(&batches) {
            store.apply(slot, batch, |id, fate| self.on_fate(id, fate, out));
            self.applied = Slot(slot);
            self.hashes.push_back((self.applied, store.hash()));
        }
        while self.hashes.len() > HASHES_MAX {
            self.hashes.pop_front();
        }
    }

    fn read_batch(&mut self, slot: Slot, out: &mut Outbox) -> Batch {
        let value = self
            .learner
            .value(slot)
            .expect("a decided slot has a value");
        if self.unrecorded.remove(&slot) {
            out.record(Record::Learn(slot, value.clone()));
        }
        if value.is_noop() {
            return Batch::empty();
        }
        let batch = Batch::read(value.as_bytes());
        if let Some(error) = batch.error() {
            out.alarms.push(format!(
                "{slot} holds no batch and changes nothing: {error}"
            ));
        }
        batch
    }

    fn on_fate(&mut self, id: CommandId, fate: Fate, out: &mut Outbox) {
        match fate {
            Fate::Applied(outcome) if self.origin.owns(id) => {
                self.origin.on_applied(id.number, outcome, self.now, out);
            }
            Fate::Skipped { expected } => {
                debug!("{id} skipped: number {expected} of its origin comes first");
                self.intake.on_skipped(id.origin, id.start, expected);
                if self.origin.owns(id) {
                    self.origin.on_skipped(expected, self.now);
                }
            }
            Fate::Applied(_) | Fate::Repeat => {}
        }
    }

    // --- Clients ---

    fn on_write(&mut self, ticket: Ticket, command: Command, out: &mut Outbox) {
        if self.stopping {
            return out.answer(
                ticket,
                crate::outbox::Answer::NotDone(origin::SHUTTING_DOWN),
            );
        }
        let deadline = self.now + self.deadline_ticks;
        self.origin.on_write(ticket, command, deadline, out);
    }

    fn on_read(&mut self, ticket: Ticket, out: &mut Outbox) {
        if self.stopping {
            return out.answer(
                ticket,
                crate::outbox::Answer::NotDone(origin::SHUTTING_DOWN),
            );
        }
        self.reads
            .on_read(ticket, self.now + self.deadline_ticks, out);
    }

    fn on_stop(&mut self, out: &mut Outbox) {
        self.stopping = true;
        self.origin.refuse_queued(out);
        self.reads.refuse(origin::SHUTTING_DOWN, out);
    }

    /// Sends this server's commands to the leader, if one is known.
    fn hand_on(&mut self, out: &mut Outbox) {
        if self.proposer.leading().is_some() {
            for value in self.origin.hand_on(self.now) {
                self.take_in(self.me, &value, out);
            }
        } else if let Some(leader) = self.election.leader(self.now) {
            for value in self.origin.hand_on(self.now) {
                out.send(
                    To::One(leader.via),
                    Notice::Propose {
                        relayed: false,
                        value,
                    },
                );
            }
        }
    }

    /// Another node's commands: for the leader, or to be handed on to it where the two do not reach
    /// each other.
    fn on_propose(&mut self, from: NodeId, relayed: bool, value: Value, out: &mut Outbox) {
        if self.proposer.leading().is_some() {
            self.take_in(from, &value, out);
        } else if let Some(ballot) = self.election.following(self.now)
            && !relayed
        {
            let leader = ballot.node().expect("a leader's ballot is of a node");
            out.send(
                To::One(leader),
                Notice::Propose {
                    relayed: true,
                    value,
                },
            );
        }
    }

    fn take_in(&mut self, from: NodeId, value: &Value, out: &mut Outbox) {
        let store = self.store.lock();
        if let Err(error) = self
            .intake
            .on_propose(value.as_bytes(), |origin| store.counter(origin))
        {
            out.alarms
                .push(format!("{from} proposed no batch: {error}"));
        }
    }

    // --- Reads ---

    fn send_probe(&mut self, probe: crate::paxos::message::Probe, out: &mut Outbox) {
        out.send(To::Others, Notice::Probe(probe));
        self.on_probe(self.me, probe, out);
    }

    fn on_probe(&self, from: NodeId, probe: crate::paxos::message::Probe, out: &mut Outbox) {
        let Some(acceptor) = &self.acceptor else {
            return;
        };
        out.vote(
            To::One(from),
            Vote::Mark {
                probe,
                slot: acceptor.highest(),
            },
        );
    }

    /// A reader waits for a slot that a dead leader left to a minority: no-ops finish it.
    fn on_finish(&mut self, upto: Slot, out: &mut Outbox) {
        let Some(leading) = self.proposer.leading() else {
            return;
        };
        let last = upto.min(Slot(leading.next().0 + FINISH_SLOTS_MAX));
        while self
            .proposer
            .leading()
            .is_some_and(|leading| leading.next() <= last)
        {
            self.propose(Value::noop(), out);
        }
    }

    fn nudge(&mut self, out: &mut Outbox) {
        let Some(upto) = self.reads.nudge(self.now) else {
            return;
        };
        if self.proposer.leading().is_some() {
            self.on_finish(upto, out);
        } else if let Some(leader) = self.election.leader(self.now).and_then(|l| l.ballot.node()) {
            out.send(To::One(leader), Notice::Finish { upto });
        }
    }

    // --- Acceptor failures ---

    fn on_acceptor_failed(&mut self) {
        if self.acceptor.take().is_some() {
            info!("acceptor failed: it answers nothing and has forgotten what is not on disk");
        }
    }

    fn on_acceptor_recovered(&mut self, acceptor: Acceptor) {
        let (promised, highest) = (acceptor.promised(), acceptor.highest());
        info!("acceptor recovered from its log: promised {promised}, accepted up to {highest}");
        self.acceptor = Some(acceptor);
    }

    // --- Time, links, leadership ---

    fn on_tick(&mut self, out: &mut Outbox) {
        self.now += 1;
        if self.now >= self.heartbeat_due {
            self.send_heartbeat(To::Others, out);
        }
        self.origin.expire(self.now, out);
        self.reads.expire(self.now, out);
        for probe in self.reads.retry(self.now) {
            self.send_probe(probe, out);
        }
        self.nudge(out);
        self.catch_up(out);
        self.keep_leading(out);
    }

    /// The proposer's part of a tick.
    fn keep_leading(&mut self, out: &mut Outbox) {
        let idle = matches!(self.proposer, Proposer::Idle);
        if idle {
            if self.election.should_try(self.now) {
                self.campaign(out);
            }
        } else if !self.election.connected(self.now) {
            // P30: a leader that hears no majority leaves the place to one that does.
            self.stop_leading("no majority of nodes is heard", out);
        } else if self.proposer.leading().is_some() {
            self.resend_open(out);
        } else if self.now >= self.prepare_due {
            self.prepare(out);
        }
    }

    fn resend_open(&mut self, out: &mut Outbox) {
        let (now, before) = (self.now, (self.now + 1).saturating_sub(RESEND_TICKS));
        let Some(leading) = self.proposer.leading() else {
            return;
        };
        let overdue = leading.overdue(before, now, RESEND_BYTES_MAX, &self.members);
        for (
            Proposal {
                ballot,
                slot,
                value,
            },
            silent,
        ) in overdue
        {
            for node in silent {
                if node == self.me {
                    self.on_accept(node, ballot, slot, &value, out);
                } else {
                    let value = value.clone();
                    out.send(
                        To::One(node),
                        Notice::Accept {
                            ballot,
                            slot,
                            value,
                        },
                    );
                }
            }
        }
    }

    fn catch_up(&mut self, out: &mut Outbox) {
        let missing = self.learner.missing();
        let (now, election) = (self.now, &self.election);
        let first = missing.map_or(Slot::ZERO, |(first, _)| first);
        let able: Vec<NodeId> = self
            .members
            .others(self.me)
            .filter(|&node| {
                election
                    .heard(node, now)
                    .is_some_and(|beat| beat.decided >= first)
            })
            .collect();
        self.catchup.on_tick(missing, &able, now, out);
    }

    fn on_link_up(&mut self, node: NodeId, out: &mut Outbox) {
        self.send_heartbeat(To::One(node), out);
        if self
            .election
            .leader(self.now)
            .is_some_and(|leader| leader.via == node)
        {
            self.origin.on_new_leader(self.now);
        }
    }

    fn on_link_down(&mut self, node: NodeId, out: &mut Outbox) {
        self.election.on_silence(node);
        // The others learn at once whom this node hears no longer: their own vote for it may rest
        // on this node's word.
        self.send_heartbeat(To::Others, out);
        self.keep_leading(out);
    }

    fn on_heartbeat(&mut self, from: NodeId, beat: Heartbeat, out: &mut Outbox) {
        self.election.on_heartbeat(from, beat, self.now);
        self.compare_hash(from, &beat, out);
        self.learner.on_known(beat.decided);
        if let Stance::Leading(ballot) = beat.stance {
            self.on_decided(ballot, beat.decided);
            if self.proposer.ballot().is_some_and(|own| own < ballot) {
                self.stop_leading(&format!("{from} leads with {ballot}"), out);
            }
        }
        if matches!(self.proposer, Proposer::Idle) && self.election.should_try(self.now) {
            self.campaign(out);
        }
    }

    fn send_heartbeat(&mut self, to: To, out: &mut Outbox) {
        if to == To::Others {
            self.heartbeat_due = self.now + HEARTBEAT_TICKS;
            self.stance_told = self.stance();
        }
        let beat = Heartbeat {
            stance: self.stance(),
            connected: self.election.connected(self.now),
            acceptor_up: self.acceptor.is_some(),
            decided: self.learner.decided(),
            applied: self.applied,
            hash: self
                .hashes
                .back()
                .map_or_else(|| self.store.lock().hash(), |&(_, hash)| hash),
        };
        out.send(to, Notice::Heartbeat(beat));
    }

    fn stance(&self) -> Stance {
        match &self.proposer {
            Proposer::Leading(leading) => Stance::Leading(leading.ballot()),
            Proposer::Preparing(_) => {
                Stance::Trying(self.proposer.ballot().expect("phase 1 has a ballot"))
            }
            Proposer::Idle => self
                .election
                .following(self.now)
                .map_or(Stance::Idle, Stance::Following),
        }
    }

    /// I5: a peer that applied as much must have the same hash.
    fn compare_hash(&mut self, from: NodeId, beat: &Heartbeat, out: &mut Outbox) {
        let Some(&(oldest, _)) = self.hashes.front() else {
            return;
        };
        let index = beat
            .applied
            .0
            .checked_sub(oldest.0)
            .and_then(|at| usize::try_from(at).ok());
        let Some(&(slot, hash)) = index.and_then(|at| self.hashes.get(at)) else {
            return;
        };
        if hash != beat.hash && self.disagreed.insert(from, slot).is_none() {
            let theirs = beat.hash;
            out.alarms.push(format!(
                "I5: the stores differ at {slot}: hash {hash:016x} here, {theirs:016x} at {from}"
            ));
        }
    }

    /// Notices, once each, that another node leads.
    fn note_leader(&mut self) {
        let leader = match self.proposer.leading() {
            Some(leading) => Some(leading.ballot()),
            None => self.election.leader(self.now).map(|leader| leader.ballot),
        };
        if leader == self.leader_told {
            return;
        }
        self.leader_told = leader;
        match leader.and_then(Ballot::node).zip(leader) {
            Some((node, ballot)) if node != self.me => {
                info!("following {node}, leader with {ballot}");
            }
            Some(_) => {}
            None => info!("no leader is known"),
        }
        if leader.is_some() {
            self.origin.on_new_leader(self.now);
        }
    }

    // --- Messages ---

    fn on_message(&mut self, from: NodeId, message: Message, out: &mut Outbox) {
        let round = message.round_max();
        if !self.members.contains(from)
            || !message.may_come_from(from)
            || round > self.round_seen + ROUND_JUMP_MAX
        {
            warn!("ignoring a message of {from} that no server sends: {message:?}");
            return;
        }
        self.round_seen = self.round_seen.max(round);
        match message {
            Message::Vote(vote) => self.on_vote(from, vote, out),
            Message::Notice(notice) => self.on_notice(from, notice, out),
        }
    }

    fn on_vote(&mut self, from: NodeId, vote: Vote, out: &mut Outbox) {
        match vote {
            Vote::Prepare {
                ballot,
                from: first,
            } => self.on_prepare(from, ballot, first, out),
            Vote::Promise(promise) => self.on_promise(from, promise, out),
            Vote::Accepted { ballot, slot } => self.on_accepted(from, ballot, slot),
            Vote::Mark { probe, slot } => {
                self.reads
                    .on_mark(from, probe, slot, &self.members, self.now);
            }
        }
    }

    fn on_notice(&mut self, from: NodeId, notice: Notice, out: &mut Outbox) {
        match notice {
            Notice::Accept {
                ballot,
                slot,
                value,
            } => self.on_accept(from, ballot, slot, &value, out),
            Notice::Nack { refused, promised } => self.on_nack(refused, promised, out),
            Notice::Decided { ballot, upto } => self.on_decided(ballot, upto),
            Notice::Heartbeat(beat) => self.on_heartbeat(from, beat, out),
            Notice::Fetch { from: first, upto } => self.on_fetch(from, first, upto, out),
            Notice::Fetched {
                from: first,
                values,
            } => self.on_fetched(from, first, &values, out),
            Notice::Finish { upto } => self.on_finish(upto, out),
            Notice::Probe(probe) => self.on_probe(from, probe, out),
            Notice::Propose { relayed, value } => self.on_propose(from, relayed, value, out),
        }
    }
}

/// The pre-loaded commands as the batch of one slot. They are numbered as commands of `n0`, which is
/// no server: so they apply once, however many leaders propose them.
fn preload_batch(commands: &[Command]) -> Value {
    let mut text = Vec::new();
    for (command, number) in commands.iter().zip(1..) {
        if !text.is_empty() {
            push_separator(&mut text);
        }
        write_command(
            &mut text,
            CommandId {
                origin: 0,
                start: 1,
                number,
            },
            command,
        );
    }
    assert!(
        text.len() <= PRELOAD_BYTES_MAX,
        "the size was checked where the file was read"
    );
    Value::new(text).expect("the text of a batch has no LF")
}

fn start_of(record: &Record) -> Option<u64> {
    match record {
        Record::Start(start) => Some(*start),
        _ => None,
    }
}

fn own_round(record: &Record) -> Option<u64> {
    match record {
        Record::Ballot(ballot) => Some(ballot.round),
        _ => None,
    }
}

/// Logs what must not happen.
pub fn log_alarms(out: &mut Outbox) {
    for alarm in out.alarms.drain(..) {
        error!("{alarm}");
    }
}
