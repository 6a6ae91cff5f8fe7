//! The cluster: replicas, their logs and their links, as values that a test moves by hand.
//!
//! A log is a row of synced records and a queue of rounds that wait for their sync; a round's votes
//! leave when its records and all before are synced, and in no other way. A link is a queue of
//! messages that the test delivers, loses, doubles or takes out of order; the link of a node to
//! itself only delivers. A crash forgets the queue and the messages to the node. What happens is
//! told as [`Event`]s, in order.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use quince::kv::command::{Bytes, Command, Millis};
use quince::kv::store::Store;
use quince::outbox::{Answer, Outbox, Ticket, To, needs_sync};
use quince::paxos::acceptor::Acceptor;
use quince::paxos::message::{Message, Notice, Vote};
use quince::paxos::quorum::Members;
use quince::paxos::record::Record;
use quince::paxos::types::{Ballot, NodeId, Slot, Value};
use quince::replica::{Config, Input, Replica, Status};

/// The node with this number.
pub(crate) fn node(number: u8) -> NodeId {
    NodeId::new(number).expect("nodes are numbered from 1 to 9")
}

/// The nodes n1 to n`size`.
pub(crate) fn members(size: u8) -> Members {
    Members::new((1..=size).map(node)).expect("an odd size")
}

/// Whether this is a vote for another's ballot that a node tells itself: what it has voted. The log
/// thread tells it before the leader can hear of it, and in no other order.
fn is_word_to_itself(id: NodeId, to: To, vote: &Vote) -> bool {
    let another = |ballot: Ballot| ballot.node() != Some(id);
    to == To::One(id) && matches!(vote, Vote::Accepted { ballot, .. } if another(*ballot))
}

/// What a cluster is made with.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    pub(crate) size: u8,
    pub(crate) seed: u64,
    pub(crate) deadline_ticks: u64,
    pub(crate) preload: Vec<Command>,
    /// Whether the nodes begin with empty directories, not as members of a cluster that has begun.
    pub(crate) blank: bool,
}

/// What happened.
#[derive(Debug, Clone)]
pub(crate) enum Event {
    /// The node wants this remembered.
    Record(NodeId, Record),
    /// The record cannot be lost any more.
    Synced(NodeId, Record),
    /// The message is on its way, as far as its sender knows.
    Sent(NodeId, NodeId, Message),
    /// The message came.
    Came(NodeId, NodeId, Message),
    /// The message was lost.
    Lost(NodeId, NodeId, Message),
    /// A client's request has its answer; for a read, the value that was read.
    Answer(NodeId, Ticket, Answer, Option<Bytes>),
    /// The node leads with this ballot from here on.
    Leads(NodeId, Ballot),
    /// The node does not lead any more.
    LeadsNoLonger(NodeId),
    /// What must not happen did.
    Alarm(NodeId, String),
}

/// What one round wants synced and sent after.
#[derive(Debug, Default)]
struct Round {
    records: Vec<Record>,
    votes: Vec<(To, Vote)>,
}

/// One server: a replica, while it runs, and its log.
#[derive(Debug)]
pub(crate) struct Server {
    replica: Option<Replica>,
    synced: Vec<Record>,
    /// The newest snapshot on disk.
    snapshot: Option<Arc<Store>>,
    /// A snapshot that is to be made durable.
    keep: Option<Arc<Store>>,
    queue: VecDeque<Round>,
    /// Until when the disk syncs, and how many rounds.
    syncing: Option<(u64, usize)>,
    /// Its own votes for others' ballots that have left: it hears them at the end of its next round.
    told: Vec<Vote>,
    /// Counts the starts.
    pub(crate) starts: u64,
    /// Whether its acceptor has failed.
    pub(crate) failed: bool,
    leads: Option<Ballot>,
    /// What its clock says, in milliseconds.
    wall: Millis,
    /// What is read by whom.
    reads: BTreeMap<Ticket, Bytes>,
}

/// The cluster.
#[derive(Debug)]
pub(crate) struct Cluster {
    settings: Settings,
    servers: BTreeMap<NodeId, Server>,
    /// What is on its way, and when it comes.
    links: BTreeMap<(NodeId, NodeId), VecDeque<(u64, Message)>>,
    /// How many ticks have passed.
    now: u64,
    /// How many ticks a message takes to another node.
    pub(crate) link_ticks: u64,
    /// How many ticks a sync takes.
    pub(crate) sync_ticks: u64,
    cut: BTreeSet<(NodeId, NodeId)>,
    tickets: u64,
    /// Who waits for an answer, and from whom.
    pub(crate) open: BTreeMap<Ticket, NodeId>,
    /// What happened and was not looked at yet.
    pub(crate) events: Vec<Event>,
}

impl Cluster {
    /// A cluster whose nodes all run, with empty logs.
    pub(crate) fn new(settings: Settings) -> Self {
        let mut cluster = Self {
            servers: BTreeMap::new(),
            links: BTreeMap::new(),
            now: 0,
            link_ticks: 0,
            sync_ticks: 0,
            cut: BTreeSet::new(),
            tickets: 0,
            open: BTreeMap::new(),
            events: Vec::new(),
            settings,
        };
        for id in members(cluster.settings.size).iter() {
            let server = Server {
                replica: None,
                synced: if cluster.settings.blank {
                    Vec::new()
                } else {
                    vec![Record::Sound(Slot::ZERO)]
                },
                snapshot: None,
                keep: None,
                queue: VecDeque::new(),
                syncing: None,
                told: Vec::new(),
                starts: 0,
                failed: false,
                leads: None,
                wall: 0,
                reads: BTreeMap::new(),
            };
            cluster.servers.insert(id, server);
            cluster.restart(id);
        }
        cluster
    }

    /// All nodes.
    pub(crate) fn nodes(&self) -> Vec<NodeId> {
        self.servers.keys().copied().collect()
    }

    /// The nodes that run.
    pub(crate) fn running(&self) -> Vec<NodeId> {
        let servers = self.servers.iter();
        servers
            .filter(|(_, server)| server.replica.is_some())
            .map(|(&id, _)| id)
            .collect()
    }

    pub(crate) fn server(&self, id: NodeId) -> &Server {
        &self.servers[&id]
    }

    /// Sets the clock of a node.
    pub(crate) fn set_clock(&mut self, id: NodeId, wall: Millis) {
        self.servers.get_mut(&id).expect("a member").wall = wall;
    }

    /// The replica, which must run.
    pub(crate) fn replica(&self, id: NodeId) -> &Replica {
        let replica = self.servers[&id].replica.as_ref();
        replica.expect("the node runs")
    }

    pub(crate) fn status(&self, id: NodeId) -> Status {
        self.replica(id).status()
    }

    /// What the node's log holds for sure.
    pub(crate) fn synced(&self, id: NodeId) -> &[Record] {
        &self.servers[&id].synced
    }

    /// How many rounds of the node wait for their sync.
    pub(crate) fn unsynced(&self, id: NodeId) -> usize {
        self.servers[&id].queue.len()
    }

    /// The node that leads with the highest ballot.
    pub(crate) fn leader(&self) -> Option<NodeId> {
        let leads = self.servers.iter();
        leads
            .filter_map(|(&id, server)| server.leads.map(|ballot| (ballot, id)))
            .max()
            .map(|(_, id)| id)
    }

    // --- Steps ---

    /// One round of a node: some inputs and a flush.
    pub(crate) fn round(&mut self, id: NodeId, inputs: impl IntoIterator<Item = Input>) {
        let server = self.servers.get_mut(&id).expect("a member");
        let Some(replica) = &mut server.replica else {
            return;
        };
        let mut out = Outbox::default();
        for input in inputs {
            replica.step(input, &mut out);
        }
        for vote in server.told.drain(..) {
            let message = Message::Vote(vote);
            replica.step(Input::Message { from: id, message }, &mut out);
        }
        replica.flush(server.wall, &mut out);
        self.take(id, out);
    }

    pub(crate) fn tick(&mut self, id: NodeId) {
        self.round(id, [Input::Tick]);
    }

    /// A client asks `id` for a write.
    pub(crate) fn write(&mut self, id: NodeId, command: Command) -> Ticket {
        let ticket = self.ticket(id);
        self.round(id, [Input::Write { ticket, command }]);
        ticket
    }

    /// A client asks `id` to read `key`.
    pub(crate) fn read(&mut self, id: NodeId, key: Bytes) -> Ticket {
        let ticket = self.ticket(id);
        let server = self.servers.get_mut(&id).expect("a member");
        server.reads.insert(ticket, key);
        self.round(id, [Input::Read { ticket }]);
        ticket
    }

    /// The ticket of the next request.
    pub(crate) fn next_ticket(&self) -> Ticket {
        Ticket(self.tickets + 1)
    }

    fn ticket(&mut self, id: NodeId) -> Ticket {
        let ticket = self.next_ticket();
        self.tickets = ticket.0;
        self.open.insert(ticket, id);
        ticket
    }

    fn take(&mut self, id: NodeId, out: Outbox) {
        let Outbox {
            now,
            records,
            votes,
            answers,
            alarms,
            keep,
            spent: _,
        } = out;
        for alarm in alarms {
            self.events.push(Event::Alarm(id, alarm));
        }
        for (to, notice) in now {
            self.send(id, to, &Message::Notice(notice));
        }
        for record in &records {
            self.events.push(Event::Record(id, record.clone()));
        }
        for (ticket, answer) in answers {
            self.answer(id, ticket, answer);
        }
        let server = self.servers.get_mut(&id).expect("a member");
        server.keep = keep.or(server.keep.take());
        if !records.is_empty() || !votes.is_empty() {
            server.queue.push_back(Round { records, votes });
        }
        let replica = server.replica.as_ref().expect("it was just stepped");
        let status = replica.status();
        let leads = (status.role == "leader").then_some(status.ballot);
        if leads != server.leads {
            self.events.push(match leads {
                Some(ballot) => Event::Leads(id, ballot),
                None => Event::LeadsNoLonger(id),
            });
            server.leads = leads;
        }
    }

    fn answer(&mut self, id: NodeId, ticket: Ticket, answer: Answer) {
        assert_eq!(
            self.open.remove(&ticket),
            Some(id),
            "a request is answered once: {ticket:?} {answer:?}"
        );
        let server = self.servers.get_mut(&id).expect("a member");
        let key = server.reads.remove(&ticket);
        let readable = answer == Answer::Readable;
        let value = key.filter(|_| readable).and_then(|key| {
            let store = server.replica.as_ref().expect("it answered").store();
            store.get(&key)
        });
        self.events.push(Event::Answer(id, ticket, answer, value));
    }

    // --- Disk ---

    /// Syncs the first `count` rounds that wait; their votes leave.
    pub(crate) fn sync(&mut self, id: NodeId, count: usize) {
        for _ in 0..count {
            let server = self.servers.get_mut(&id).expect("a member");
            let Some(round) = server.queue.pop_front() else {
                return;
            };
            for record in round.records {
                self.events.push(Event::Synced(id, record.clone()));
                server.synced.push(record);
            }
            for (to, vote) in round.votes {
                if is_word_to_itself(id, to, &vote) {
                    let server = self.servers.get_mut(&id).expect("a member");
                    server.told.push(vote);
                } else {
                    self.send(id, to, &Message::Vote(vote));
                }
            }
        }
    }

    pub(crate) fn sync_all(&mut self, id: NodeId) {
        self.sync(id, usize::MAX);
    }

    /// A tick passes, for links and disks.
    pub(crate) fn pass_tick(&mut self) {
        self.now += 1;
    }

    /// Lets the disk do what it can at this time. True if it has done something.
    fn turn_disk(&mut self, id: NodeId) -> bool {
        let (now, ticks) = (self.now, self.sync_ticks);
        let server = self.servers.get_mut(&id).expect("a member");
        if let Some((due, count)) = server.syncing {
            if due > now {
                return false;
            }
            server.syncing = None;
            self.sync(id, count);
            return true;
        }
        let mut rounds = server.queue.iter();
        if ticks > 0 && rounds.any(|round| needs_sync(&round.records, &round.votes)) {
            server.syncing = Some((now + ticks, server.queue.len()));
            return false;
        }
        let busy = !server.queue.is_empty() || server.keep.is_some();
        self.sync_all(id);
        self.keep(id);
        busy
    }

    /// Makes the snapshot durable that waits, if one does; then the log forgets what it holds, and
    /// the replica hears of it.
    pub(crate) fn keep(&mut self, id: NodeId) {
        let server = self.servers.get_mut(&id).expect("a member");
        let Some(image) = server.keep.take() else {
            return;
        };
        let upto = Slot(image.applied());
        server.synced.retain(|record| match record {
            Record::Accept(_, slot, _) | Record::Learn(slot, _) | Record::Decided(_, slot) => {
                *slot > upto
            }
            _ => true,
        });
        server.synced.push(Record::Trim(upto));
        self.events.push(Event::Record(id, Record::Trim(upto)));
        self.events.push(Event::Synced(id, Record::Trim(upto)));
        server.snapshot = Some(Arc::clone(&image));
        self.round(id, [Input::Kept(image)]);
    }

    /// Empties the directory of a node that does not run.
    pub(crate) fn wipe(&mut self, id: NodeId) {
        let server = self.servers.get_mut(&id).expect("a member");
        assert!(server.replica.is_none(), "{id} runs");
        server.synced.clear();
        server.snapshot = None;
    }

    /// A node that does not run loses all that its log says about `lost` slots, and knows of the
    /// damage.
    pub(crate) fn damage(&mut self, id: NodeId, lost: impl Fn(Slot) -> bool) {
        let server = self.servers.get_mut(&id).expect("a member");
        assert!(server.replica.is_none(), "{id} runs");
        server.synced.retain(|record| match record {
            Record::Accept(_, slot, _) | Record::Learn(slot, _) => !lost(*slot),
            _ => true,
        });
        server.synced.push(Record::Lost);
    }

    /// The snapshot of a node that does not run is gone.
    pub(crate) fn lose_snapshot(&mut self, id: NodeId) {
        self.servers.get_mut(&id).expect("a member").snapshot = None;
    }

    // --- Faults of nodes ---

    /// The node is gone, with what was not synced; `kept` records of that reached the disk all the
    /// same. Its clients get no answer: returns their tickets.
    pub(crate) fn crash(&mut self, id: NodeId, kept: usize) -> Vec<Ticket> {
        let server = self.servers.get_mut(&id).expect("a member");
        server.replica = None;
        server.leads = None;
        server.failed = false;
        server.keep = None;
        server.syncing = None;
        server.told.clear();
        server.reads.clear();
        let rounds = server.queue.drain(..);
        for record in rounds.flat_map(|round| round.records).take(kept) {
            self.events.push(Event::Synced(id, record.clone()));
            server.synced.push(record);
        }
        for (&(_, to), link) in &mut self.links {
            if to == id {
                link.clear();
            }
        }
        let gone: Vec<Ticket> = self
            .open
            .iter()
            .filter(|&(_, &at)| at == id)
            .map(|(&t, _)| t)
            .collect();
        for ticket in &gone {
            self.open.remove(ticket);
        }
        gone
    }

    /// The node starts from its log.
    pub(crate) fn restart(&mut self, id: NodeId) {
        let Settings {
            size,
            seed,
            deadline_ticks,
            ref preload,
            ..
        } = self.settings;
        let config = Config {
            me: id,
            members: members(size),
            seed: seed ^ u64::from(id.number()),
            mark: self.servers[&id].starts,
            deadline_ticks,
            preload: preload.clone(),
        };
        let server = self.servers.get_mut(&id).expect("a member");
        assert!(server.replica.is_none(), "{id} runs");
        let snapshot = server.snapshot.as_deref().cloned();
        let (replica, start) = Replica::recover(config, snapshot, &server.synced);
        server.replica = Some(replica);
        server.starts += 1;
        // The record of the start is on disk before the first step.
        server.synced.push(start.clone());
        self.events.push(Event::Record(id, start.clone()));
        self.events.push(Event::Synced(id, start));
    }

    /// The acceptor fails.
    pub(crate) fn fail(&mut self, id: NodeId) {
        self.servers.get_mut(&id).expect("a member").failed = true;
        self.round(id, [Input::AcceptorFailed]);
    }

    /// The acceptor comes back from the log, once everything that was handed to the log is in it:
    /// its votes leave then, and what it voted it must not have forgotten.
    pub(crate) fn recover(&mut self, id: NodeId) {
        self.sync_all(id);
        let server = self.servers.get_mut(&id).expect("a member");
        if server.replica.is_none() {
            return;
        }
        server.failed = false;
        let acceptor = Acceptor::recover(&server.synced);
        self.round(id, [Input::AcceptorRecovered(acceptor)]);
    }

    // --- Links ---

    fn send(&mut self, from: NodeId, to: To, message: &Message) {
        let to = match to {
            To::One(to) => vec![to],
            To::Others => members(self.settings.size).others(from).collect(),
        };
        for to in to {
            self.put(from, to, message.clone());
        }
    }

    /// Puts a message on a link, whoever wrote it.
    pub(crate) fn put(&mut self, from: NodeId, to: NodeId, message: Message) {
        self.events.push(Event::Sent(from, to, message.clone()));
        if self.cut.contains(&(from, to)) || self.servers[&to].replica.is_none() {
            self.events.push(Event::Lost(from, to, message));
        } else {
            let ticks = if from == to { 0 } else { self.link_ticks };
            let link = self.links.entry((from, to)).or_default();
            link.push_back((self.now + ticks, message));
        }
    }

    /// The links on which messages wait.
    pub(crate) fn busy_links(&self) -> Vec<(NodeId, NodeId)> {
        let links = self.links.iter();
        links
            .filter(|(_, link)| !link.is_empty())
            .map(|(&ends, _)| ends)
            .collect()
    }

    /// The messages that wait on a link.
    pub(crate) fn waiting(&self, from: NodeId, to: NodeId) -> Vec<Message> {
        let link = self.links.get(&(from, to));
        let messages = link.into_iter().flatten();
        messages.map(|(_, message)| message.clone()).collect()
    }

    /// Delivers `count` messages from place `at` on, in one round of the receiver.
    pub(crate) fn deliver(&mut self, from: NodeId, to: NodeId, at: usize, count: usize) {
        let inputs = self.arrivals(from, to, at, count);
        self.round(to, inputs);
    }

    /// Takes `count` messages from place `at` on off the link, for a round of the receiver; none
    /// if it does not run.
    pub(crate) fn arrivals(
        &mut self,
        from: NodeId,
        to: NodeId,
        at: usize,
        count: usize,
    ) -> Vec<Input> {
        let Some(link) = self.links.get_mut(&(from, to)) else {
            return Vec::new();
        };
        let last = link.len().min(at.saturating_add(count));
        let messages: Vec<Message> = link
            .drain(at.min(last)..last)
            .map(|(_, message)| message)
            .collect();
        if self.servers[&to].replica.is_none() {
            for message in messages {
                self.events.push(Event::Lost(from, to, message));
            }
            return Vec::new();
        }
        for message in &messages {
            self.events.push(Event::Came(from, to, message.clone()));
        }
        let inputs = messages.into_iter();
        inputs
            .map(|message| Input::Message { from, message })
            .collect()
    }

    /// Loses the message at place `at`.
    pub(crate) fn lose(&mut self, from: NodeId, to: NodeId, at: usize) {
        let link = self.links.get_mut(&(from, to));
        if let Some((_, message)) = link.and_then(|link| link.remove(at)) {
            self.events.push(Event::Lost(from, to, message));
        }
    }

    /// Doubles the message at place `at`: once more, at the end.
    pub(crate) fn double(&mut self, from: NodeId, to: NodeId, at: usize) {
        if let Some(link) = self.links.get_mut(&(from, to))
            && let Some(message) = link.get(at).cloned()
        {
            link.push_back(message);
        }
    }

    /// Nothing passes from `from` to `to` any more; what is under way is lost.
    pub(crate) fn cut(&mut self, from: NodeId, to: NodeId) {
        self.cut.insert((from, to));
        while self
            .links
            .get(&(from, to))
            .is_some_and(|link| !link.is_empty())
        {
            self.lose(from, to, 0);
        }
    }

    pub(crate) fn heal(&mut self, from: NodeId, to: NodeId) {
        self.cut.remove(&(from, to));
    }

    pub(crate) fn is_cut(&self, from: NodeId, to: NodeId) -> bool {
        self.cut.contains(&(from, to))
    }

    /// All the cuts.
    pub(crate) fn cuts(&self) -> Vec<(NodeId, NodeId)> {
        self.cut.iter().copied().collect()
    }

    // --- All at once ---

    /// Syncs and delivers everything that may move by now, in the order of the nodes, until nothing does.
    pub(crate) fn settle(
        &mut self,
        may_sync: impl Fn(NodeId) -> bool,
        may_pass: impl Fn(NodeId, NodeId, &Message) -> bool,
    ) {
        loop {
            let mut moved = false;
            for id in self.nodes() {
                moved |= may_sync(id) && self.turn_disk(id);
            }
            for (from, to) in self.busy_links() {
                let now = self.now;
                let link = self.links.get_mut(&(from, to)).expect("a busy link");
                let waiting = link.drain(..);
                let (moving, held): (Vec<_>, Vec<_>) = waiting
                    .partition(|(comes, message)| *comes <= now && may_pass(from, to, message));
                let count = moving.len();
                link.extend(moving.into_iter().chain(held));
                if count > 0 {
                    self.deliver(from, to, 0, count);
                    moved = true;
                }
            }
            if !moved {
                return;
            }
        }
    }

    /// What some running node holds under `key`, be it stale.
    pub(crate) fn peek(&self, key: &[u8]) -> Option<Bytes> {
        let id = *self.running().first()?;
        let store = self.replica(id).store();
        store.get(key)
    }

    /// The decided values of a running node from `from` on, asked for as a peer would.
    pub(crate) fn decided_values(&mut self, id: NodeId, from: Slot, upto: Slot) -> Vec<Value> {
        let peer = self.nodes().into_iter().find(|&other| other != id);
        let fetch = Input::Message {
            from: peer.expect("a cluster of several nodes"),
            message: Message::Notice(Notice::Fetch { from, upto }),
        };
        let server = self.servers.get_mut(&id).expect("a member");
        let replica = server.replica.as_mut().expect("the node runs");
        let mut out = Outbox::default();
        replica.step(fetch, &mut out);
        match out.now.pop() {
            Some((_, Notice::Fetched { values, .. })) => values,
            _ => Vec::new(),
        }
    }
}
