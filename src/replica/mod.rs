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

mod ballots;
mod catchup;
pub mod growth;
mod image;
mod intake;
mod lead;
mod learn;
mod memory;
mod origin;
mod reads;
mod serve;
mod stamps;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use log::{error, info, warn};
use parking_lot::Mutex;

use crate::kv::command::{Command, Millis};
use crate::kv::store::Store;
use crate::outbox::{Outbox, Ticket, To};
use crate::paxos::acceptor::Acceptor;
use crate::paxos::election::Election;
use crate::paxos::learner::Learner;
use crate::paxos::message::{Message, Notice, Stance, Vote};
use crate::paxos::proposer::Proposer;
use crate::paxos::quorum::Members;
use crate::paxos::record::Record;
use crate::paxos::types::{Ballot, Life, NodeId, Slot};

use catchup::CatchUp;
use growth::Wanted;
use image::Images;
use intake::Intake;
use memory::Memory;
use origin::Origin;
use reads::Reads;
use stamps::Stamps;

/// How long one tick is, for a shell with a clock.
pub const TICK: Duration = Duration::from_millis(10);

/// By how much a message may raise the highest round that this node has seen. Honest nodes are
/// never so far apart; a forged round at the top of the range would end all elections (P9).
const ROUND_JUMP_MAX: u64 = 1_000_000;

/// How much of a message that is ignored the log shows.
const SHOWN_CHARS_MAX: usize = 300;

/// How many bytes the pre-loaded commands have at most: they share one slot.
pub const PRELOAD_BYTES_MAX: usize = 22 << 20;

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
    /// Drawn at random for each start, whatever the seed: the mark of this node's [`Life`].
    pub mark: u64,
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
    /// The log has grown: a snapshot is wanted, so that it can be trimmed.
    Snapshot(Wanted),
    /// This snapshot, which an outbox asked to keep, is durable.
    Kept(Arc<Store>),
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
    /// The values of the slots up to this one are not here any more, but in a snapshot.
    pub trimmed: Slot,
    /// The running hash of all that was applied.
    pub hash: u64,
    /// Whether the acceptor is up: it votes.
    pub acceptor_up: bool,
    /// How many keys there are.
    pub keys: usize,
    /// The other nodes, and up to where each says that it has applied all; none if it is not heard.
    pub peers: Vec<(NodeId, Option<Slot>)>,
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
    saving_told: bool,
    decided_told: Slot,
    /// Leaders' words about decided slots that are not recorded yet.
    words: BTreeMap<Ballot, Slot>,

    store: SharedStore,
    applied: Slot,
    /// The time of the store, and when the next of its keys ends.
    time: Millis,
    first_end: Option<Millis>,
    hashes: VecDeque<(Slot, u64)>,
    disagreed: BTreeMap<NodeId, Slot>,

    origin: Origin,
    intake: Intake,
    stamps: Stamps,
    reads: Reads,
    catchup: CatchUp,
    images: Images,
    memory: Memory,
    leader_told: Option<Ballot>,
}

impl Replica {
    /// The replica that wrote these records and this snapshot, and the record of its new start, which
    /// must be on disk before the first step.
    pub fn recover(config: Config, snapshot: Option<Store>, records: &[Record]) -> (Self, Record) {
        let Config {
            me,
            members,
            seed,
            mark,
            deadline_ticks,
            preload,
        } = config;
        assert!(members.contains(me), "{me} is a member of its own cluster");
        let start = Memory::next_start(records);
        let acceptor = Acceptor::recover(records);
        // P6: above every ballot of this node's own and every promise that is remembered.
        let own_round = records.iter().filter_map(own_round).max().unwrap_or(0);
        let store = snapshot.unwrap_or_default();
        let applied = Slot(store.applied());
        let mut replica = Self {
            deadline_ticks,
            preload,
            now: 0,
            stopping: false,
            round_seen: own_round.max(acceptor.promised().round),
            acceptor: Some(acceptor),
            proposer: Proposer::default(),
            learner: Learner::recover(applied, records),
            election: Election::new(me, members.clone(), seed ^ start.rotate_left(32)),
            prepare_due: 0,
            heartbeat_due: 0,
            stance_told: Stance::Idle,
            saving_told: false,
            decided_told: Slot::ZERO,
            words: BTreeMap::new(),
            store: Arc::new(Mutex::new(store)),
            applied,
            time: 0,
            first_end: None,
            hashes: VecDeque::new(),
            disagreed: BTreeMap::new(),
            origin: Origin::new(me, start),
            intake: Intake::default(),
            stamps: Stamps::default(),
            reads: Reads::new(start),
            catchup: CatchUp::default(),
            images: Images::new(applied),
            memory: Memory::recover(Life { start, mark }, records),
            leader_told: None,
            me,
            members,
        };
        let store = replica.store();
        replica.note_time(&store.lock());
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
            trimmed: self.learner.trimmed(),
            hash: store.hash(),
            acceptor_up: self.acceptor.is_some() && self.memory.is_sound(),
            keys: store.len(),
            peers: self
                .members
                .others(self.me)
                .map(|peer| {
                    let beat = self.election.heard(peer, self.now);
                    (peer, beat.map(|beat| beat.applied))
                })
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
            Input::Snapshot(wanted) => self.on_snapshot(wanted),
            Input::Kept(image) => self.on_kept(&image, out),
            Input::Stop => self.on_stop(out),
        }
    }

    /// Ends a round of steps: applies what is decided, hands on and proposes what waits, begins a
    /// probe for the readers, tells the peers what changed. Work that one round collects is done
    /// once here, so a busy server does less for each request.
    ///
    /// `wall` is what this server's clock says, in milliseconds since 1970; it may go back. Only a
    /// leader uses it, to stamp its batches.
    pub fn flush(&mut self, wall: Millis, out: &mut Outbox) {
        self.stamps.hear(wall);
        for (ballot, upto) in std::mem::take(&mut self.words) {
            out.record(Record::Decided(ballot, upto));
        }
        self.apply_decided(out);
        self.reads.release(self.applied, out);
        self.note_leader();
        self.settle_memory(out);
        // The names of commands and probes rest on the start, which may not be known to be new before.
        if self.memory.is_sound() {
            self.hand_on(out);
            self.propose_waiting(out);
            if let Some(probe) = self.reads.begin(self.now) {
                self.send_probe(probe, out);
            }
        }
        self.take_snapshot(out);
        self.tell_decided(out);
        if self.stance() != self.stance_told || self.images.is_saving() != self.saving_told {
            self.send_heartbeat(To::Others, out);
        }
    }

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

    fn on_message(&mut self, from: NodeId, message: Message, out: &mut Outbox) {
        let round = message.round_max();
        if !self.members.contains(from)
            || !message.may_come_from(from)
            || round > self.round_seen + ROUND_JUMP_MAX
        {
            // A value may be megabytes long, and whoever sends this may send more.
            let text = format!("{message:?}");
            let shown: String = text.chars().take(SHOWN_CHARS_MAX).collect();
            let more = if shown.len() < text.len() { "..." } else { "" };
            warn!("ignoring a message of {from} that no server sends: {shown}{more}");
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
            Vote::Known(known) => self.on_known(from, known, out),
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
            Notice::FetchImage { slot, place } => self.on_fetch_image(from, slot, &place, out),
            Notice::Image {
                slot,
                place,
                next,
                lines,
            } => self.on_image(from, slot, &place, (next, &lines), out),
            Notice::Outdated { life, known } => self.on_outdated(from, life, known, out),
            Notice::Finish { upto } => self.on_finish(from, upto, out),
            Notice::Probe(probe) => self.on_probe(from, probe, out),
            Notice::Propose { relayed, value } => self.on_propose(from, relayed, value, out),
        }
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
