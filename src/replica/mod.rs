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
//! The store stands behind a lock ([`SharedStore`]), because the threads that serve clients read it too;
//! only [`Replica`] writes to it. Nothing else here is shared.

mod admission;
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
mod shared;
mod stamps;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use log::{error, info};

use crate::kv::command::{Command, Millis};
use crate::kv::store::Store;
use crate::outbox::{Outbox, Ticket, To};
use crate::paxos::acceptor::Acceptor;
use crate::paxos::election::{Election, Leader};
use crate::paxos::learner::Learner;
use crate::paxos::message::{Message, Notice, Probe, Stance, Vote};
use crate::paxos::pace::{Asked, Paces};
use crate::paxos::proposer::Proposer;
use crate::paxos::quorum::Members;
use crate::paxos::record::Record;
use crate::paxos::types::{Ballot, Life, NodeId, Slot};

pub use admission::VALUE_QUOTED_BYTES_MAX;
use admission::{Admission, Ahead};
use catchup::CatchUp;
use growth::Wanted;
use image::Images;
use intake::Intake;
use memory::Memory;
use origin::Origin;
use reads::Reads;
use stamps::Stamps;

pub use shared::SharedStore;

/// How long one tick is, for a shell with a clock.
pub const TICK: Duration = Duration::from_millis(10);

/// How many bytes the pre-loaded commands have at most: they share one slot.
pub const PRELOAD_BYTES_MAX: usize = 22 << 20;

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
    /// So many [`TICK`]s have passed in which this process slept. Comes before what arrived meanwhile,
    /// and a `Tick` after that.
    Slept(u64),
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
    /// The highest slot of all `accepted` of this node that have left, or were told when its memory
    /// was lost. Each comes back to it, after its sync and before any other node hears it.
    voted: Slot,
    proposer: Proposer,
    learner: Learner,
    election: Election,
    /// The highest round seen in any ballot, this node's own among them.
    round_seen: u64,
    /// How fast the nodes answer, and whom this one has asked for a promise that waits for it.
    paces: Paces,
    prepared: BTreeMap<NodeId, Asked>,
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
    /// The newest probe of each node that came in this round.
    probed: BTreeMap<NodeId, Probe>,
    catchup: CatchUp,
    images: Images,
    memory: Memory,
    admission: Admission,
    ahead: Ahead,
    leader_told: Option<Leader>,
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
            voted: acceptor.highest(),
            acceptor: Some(acceptor),
            proposer: Proposer::default(),
            learner: Learner::recover(applied, records),
            election: Election::new(me, members.clone(), seed ^ start.rotate_left(32)),
            paces: Paces::default(),
            prepared: BTreeMap::new(),
            heartbeat_due: 0,
            stance_told: Stance::Idle,
            saving_told: false,
            decided_told: Slot::ZERO,
            words: BTreeMap::new(),
            store: SharedStore::new(store),
            applied,
            time: 0,
            first_end: None,
            hashes: VecDeque::new(),
            disagreed: BTreeMap::new(),
            origin: Origin::new(me, start),
            intake: Intake::default(),
            stamps: Stamps::default(),
            reads: Reads::new(start),
            probed: BTreeMap::new(),
            catchup: CatchUp::default(),
            images: Images::new(applied),
            memory: Memory::recover(Life { start, mark }, records),
            admission: Admission::default(),
            ahead: Ahead::default(),
            leader_told: None,
            me,
            members,
        };
        replica.note_time(&replica.store.image());
        replica.apply_decided(&mut Outbox::default());
        (replica, Record::Start(start))
    }

    /// The store. For reading: only the replica writes to it.
    pub fn store(&self) -> SharedStore {
        self.store.clone()
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
        Status {
            id: self.me,
            role,
            leader: leading.and_then(Ballot::node),
            ballot: leading.or(self.proposer.ballot()).unwrap_or(promised),
            decided: self.learner.decided(),
            applied: self.applied,
            trimmed: self.learner.trimmed(),
            hash: self.store.hash(),
            acceptor_up: self.acceptor.is_some() && self.memory.is_sound(),
            keys: self.store.len(),
            peers: self.peers().collect(),
        }
    }

    /// Every slot up to this one is applied.
    pub fn applied(&self) -> Slot {
        self.applied
    }

    /// Up to where each of the other nodes says that it has applied all; none if it is not heard.
    pub fn peers_applied(&self) -> Vec<Option<Slot>> {
        self.peers().map(|(_, applied)| applied).collect()
    }

    fn peers(&self) -> impl Iterator<Item = (NodeId, Option<Slot>)> {
        self.members.others(self.me).map(|peer| {
            let beat = self.election.heard(peer, self.now);
            (peer, beat.map(|beat| beat.applied))
        })
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
            Input::Slept(ticks) => self.on_slept(ticks),
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
    /// probe for the readers, answers those of the peers, tells them what changed. Work that one round collects is done
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
        self.note_leader();
        self.leave_void_start(out);
        self.settle_memory(out);
        // The names of commands and probes rest on the start, which may not be known to be new before.
        if self.memory.is_sound() {
            self.hand_on(out);
            self.propose_waiting(out);
            self.begin_probe(out);
        }
        self.answer_probes(out);
        self.reads.release(self.applied, out);
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
        self.ahead.forget();
        self.paces.of(self.me).on_up(self.now);
    }

    fn on_vote(&mut self, from: NodeId, vote: Vote, out: &mut Outbox) {
        match vote {
            Vote::Prepare {
                ballot,
                from: first,
            } => self.on_prepare(from, ballot, first, out),
            Vote::Promise(promise) => self.on_promise(from, promise, out),
            Vote::Accepted { ballot, slot } => self.on_accepted(from, ballot, slot),
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
            Notice::Probe(probe) => self.on_probe(from, probe),
            Notice::Mark { probe, slot } => self.on_mark(from, probe, slot, out),
            Notice::ReadIndex(probe) => self.on_read_index(from, probe),
            Notice::Index { probe, slot } => self.reads.on_index(probe, slot, self.now, out),
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
