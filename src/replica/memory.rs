//! Whether this node remembers all that it ever voted, and what it does if not.
//!
//! An acceptor counts on its memory (*Paxos Made Simple* 2.5). A server whose directory was emptied,
//! replaced by an older copy, or damaged has lost some of it, and must not vote as if it had never
//! voted (P40, P41). So each start is a [`Life`] with a number that only grows, every node remembers
//! the newest life of each peer, and a node is one of three:
//!
//! | memory | is | votes |
//! | --- | --- | --- |
//! | blank | an empty directory: of a new cluster, or emptied | no |
//! | lost | it was told of a later life of its own, its log is damaged, or its snapshot is and nobody has another | no |
//! | sound | it remembers all that it ever voted | yes |
//!
//! A blank node becomes sound where it and others, a majority together, are blank and know each other's
//! lives: that is a new cluster. Every other way leads over *recall*: a majority of the nodes, all of
//! them others and sound, know its new life, and promise it a ballot above all that they had promised. What they
//! have accepted is all that this node can have had a part in, for any majority that it ever voted
//! with shares a node with this one; it accepts the same, learns all that they know to be decided,
//! and is sound. Its own votes of before are void: an old `Accepted` under a lower ballot meets no
//! majority any more, since those nodes have promised more; and a promise of an old life does not
//! count beside one of a node that knows the new (`paxos::proposer`), and of any majority some does.
//!
//! All this needs that no two lives have one number, also where nobody who is left has heard of the last
//! one: the names of commands and probes, and which promise is old, rest on it. So a node that has to
//! recall begins [`FORGOTTEN_STARTS_MAX`] above all starts that it remembers or is told of, and counts
//! a promise only if it names that life.
//!
//! *Crash vectors* (Michael et al., *Recovering Shared Objects Without Stable Storage*, DISC 2017)
//! have the reasons; here they travel on promises alone, because recall raises the ballot.
//!
//! Left out: an older copy of a directory is recognised when the first peer that knows better is
//! heard, a moment after the start; and two servers of a five that are started for the first time
//! ever while a third was emptied and the other two are silent are taken for a new cluster. And where
//! links are cut in part for the first 200 ms ever, two of five can each begin a new cluster with a
//! majority in which the other's third node is missing, and call the rest latecomers; these then wait
//! for three sound nodes, which there are not. The same comes of a crash of all while they begin, if some
//! but no majority have written `sound` by then: these call the others' next lives latecomers. Nothing
//! is lost by it, as nothing was written: empty the directories and start again.

use std::collections::BTreeMap;

use log::{error, info, warn};

use crate::outbox::{Outbox, To};
use crate::paxos::message::{Known, Notice, Vote};
use crate::paxos::proposer::{Proposer, Recalled};
use crate::paxos::quorum::Votes;
use crate::paxos::record::Record;
use crate::paxos::types::{Life, NodeId};

use super::Replica;
use super::admission::start_above;
use super::ballots::voter;

/// A blank node that hears a majority of blank nodes waits for so many ticks whether one of the
/// others knows of an older cluster.
const TOGETHER_TICKS: u64 = 20;

/// After so many ticks, a recall that was refused is tried again.
const RECALL_TICKS: u64 = 5;

/// A node that lost its memory begins so many starts above those that are known: more than it can have
/// begun without any of a majority hearing of it, for each takes a sync or more.
pub(super) const FORGOTTEN_STARTS_MAX: u64 = 1_000_000_000;

/// What a node remembers of its votes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    Blank,
    Lost,
    Sound,
}

impl State {
    /// What a record makes of it.
    fn after(self, record: &Record) -> Self {
        match record {
            Record::Lost => Self::Lost,
            Record::Sound(_) => Self::Sound,
            _ => self,
        }
    }
}

/// A peer's newest life.
#[derive(Debug, Clone, Copy)]
struct Peer {
    life: Life,
    /// This node was blank itself when it first heard of it.
    together: bool,
}

/// See the module's text.
#[derive(Debug)]
pub(super) struct Memory {
    state: State,
    life: Life,
    peers: BTreeMap<NodeId, Peer>,
    /// Who told that it knows this life, by whether it was blank as well.
    together: Votes,
    before: Votes,
    /// Of these, who is sound.
    sound: Votes,
    /// Since when a majority is blank together.
    together_since: Option<u64>,
    recall_due: u64,
    recalled: Option<Recalled>,
    /// The newest start of this node of which a command was decided since that was looked at.
    decided_start: u64,
}

impl Memory {
    /// What the records of earlier starts make of it, at the beginning of this life.
    pub(super) fn recover(life: Life, records: &[Record]) -> Self {
        let mut memory = Self {
            state: State::Blank,
            life,
            peers: BTreeMap::new(),
            together: Votes::default(),
            before: Votes::default(),
            sound: Votes::default(),
            together_since: None,
            recall_due: 0,
            recalled: None,
            decided_start: 0,
        };
        for record in records {
            match record {
                Record::Peer(node, life) => {
                    let _ = memory.know(*node, *life);
                }
                record => memory.state = memory.state.after(record),
            }
        }
        memory
    }

    pub(super) fn is_sound(&self) -> bool {
        self.state == State::Sound
    }

    pub(super) fn life(&self) -> Life {
        self.life
    }

    /// A command of this start of this node was decided.
    pub(super) fn on_decided_start(&mut self, start: u64) {
        self.decided_start = self.decided_start.max(start);
    }

    /// The newest start of a peer that is known, if any is.
    pub(super) fn start_of(&self, node: NodeId) -> Option<u64> {
        self.peers.get(&node).map(|peer| peer.life.start)
    }

    /// The newest starts that are known, this node's own among them, but for first ones.
    pub(super) fn starts(&self, me: NodeId) -> Vec<(NodeId, u64)> {
        let peers = self.peers.iter().map(|(&node, peer)| (node, peer.life));
        let mut starts: Vec<(NodeId, u64)> = peers
            .chain([(me, self.life)])
            .map(|(node, life)| (node, life.start))
            .filter(|&(_, start)| start > 1)
            .collect();
        starts.sort_unstable();
        starts
    }

    /// Which start a node begins that remembers this.
    pub(super) fn next_start(records: &[Record]) -> u64 {
        let starts = records.iter().filter_map(|record| match record {
            Record::Start(start) => Some(*start),
            _ => None,
        });
        let last = starts.max().unwrap_or(0);
        // A damaged log may lack the newest.
        let above = match records.iter().fold(State::Blank, State::after) {
            State::Lost => FORGOTTEN_STARTS_MAX,
            State::Blank | State::Sound => 1,
        };
        last.saturating_add(above)
    }

    /// Hears of a life of a peer. True if it is news; an error tells the newer one that is known.
    fn know(&mut self, node: NodeId, life: Life) -> Result<bool, Life> {
        let known = self.peers.get(&node).map_or(Life::default(), |p| p.life);
        if life == known {
            return Ok(false);
        }
        if life.start <= known.start {
            return Err(known);
        }
        let together = self.state == State::Blank;
        self.peers.insert(node, Peer { life, together });
        Ok(true)
    }

    /// Begins another life, which nobody knows yet.
    fn begin(&mut self, life: Life) {
        *self = Self {
            peers: std::mem::take(&mut self.peers),
            ..Self::recover(life, &[Record::Lost])
        };
    }

    /// What was told while this process slept waits unread, so that time is none in which nobody told of
    /// an older cluster.
    pub(super) fn on_slept(&mut self, ticks: u64) {
        if let Some(since) = &mut self.together_since {
            *since += ticks;
        }
    }

    fn is_known_by(&self, node: NodeId) -> bool {
        self.sound.contains(node)
    }
}

impl Replica {
    /// A peer's heartbeat tells its life. False if that life is over.
    pub(super) fn on_life(
        &mut self,
        from: NodeId,
        life: Life,
        asks: bool,
        out: &mut Outbox,
    ) -> bool {
        match self.memory.know(from, life) {
            Err(known) => {
                let known = known.start;
                out.send(To::One(from), Notice::Outdated { life, known });
                return false;
            }
            Ok(true) => out.record(Record::Peer(from, life)),
            Ok(false) => {}
        }
        // A node that lost its memory has no word on who was there before.
        if asks && self.memory.state != State::Lost {
            let known = Known {
                life,
                together: self.memory.peers[&from].together,
                sound: self.memory.is_sound(),
            };
            out.vote(To::One(from), Vote::Known(known));
        }
        true
    }

    /// A peer knows a later life of this node: so this one began from an older memory.
    pub(super) fn on_outdated(&mut self, from: NodeId, life: Life, known: u64, out: &mut Outbox) {
        if life == self.memory.life {
            self.begin_above(known, &format!("{from} knows"), out);
        }
    }

    /// A command of a later start of this node was decided, so its own are void: what a peer would say
    /// of it, the log says.
    pub(super) fn leave_void_start(&mut self, out: &mut Outbox) {
        let decided = std::mem::take(&mut self.memory.decided_start);
        if decided > self.memory.life.start {
            self.begin_above(decided, "the log knows", out);
        }
    }

    fn begin_above(&mut self, known: u64, who: &str, out: &mut Outbox) {
        let own = self.memory.life.start;
        let Some(start) = start_above(own, known) else {
            return error!("{who} start {known} of this server, and no start is left above it");
        };
        warn!(
            "{who} start {known} of this server, which now began start {own}: its directory was \
             emptied or is an older copy; it does not vote until a majority of the others has told \
             it what it may have forgotten"
        );
        self.lose_memory(start, out);
    }

    /// Begins another life, which has to recall.
    fn lose_memory(&mut self, start: u64, out: &mut Outbox) {
        self.stop_leading("the memory is lost", out);
        let life = Life {
            start,
            ..self.memory.life
        };
        self.memory.begin(life);
        out.record(Record::Start(start));
        out.record(Record::Lost);
        self.origin.begin(start, out);
        self.reads.begin_start(start);
        self.send_heartbeat(To::Others, out);
    }

    /// The slots of a lost snapshot are among those that nobody who is heard could tell (see
    /// [`Replica::give_up_missing`]): until they are recalled, the promises of this node would call
    /// decided what no leader can learn. True if it is so.
    pub(super) fn give_up_snapshot(&mut self, out: &mut Outbox) -> bool {
        let Some(acceptor) = voter(&mut self.acceptor, &self.memory) else {
            return false;
        };
        if acceptor.settled() <= self.learner.decided() {
            return false;
        }
        let durable = self.images.durable();
        acceptor.untrim(durable);
        warn!(
            "the snapshot under which the log was trimmed is lost, and nobody who is heard has as \
             much: this server does not vote until a majority of the others has told it what was \
             voted after {durable}"
        );
        self.lose_memory(self.memory.life.start + 1, out);
        out.record(Record::Untrim(durable));
        true
    }

    /// What a recall was told to be decided is among those slots too: whoever told it is gone, and the
    /// others tell what they accepted there.
    pub(super) fn give_up_recalled(&mut self) {
        if self.memory.recalled.take().is_some() {
            info!("nobody who is heard has what is decided: recalling once more");
        }
    }

    pub(super) fn on_known(&mut self, from: NodeId, known: Known, out: &mut Outbox) {
        if known.life != self.memory.life || self.memory.is_sound() {
            return;
        }
        let memory = &mut self.memory;
        if known.together {
            memory.together.insert(from);
        } else {
            memory.before.insert(from);
        }
        if known.sound {
            memory.sound.insert(from);
        }
        self.settle_memory(out);
    }

    /// Becomes sound, or tries to, as far as what was told allows.
    pub(super) fn settle_memory(&mut self, out: &mut Outbox) {
        if self.memory.is_sound() {
            return;
        }
        if let Some(together) = self.blank_together() {
            if together {
                info!("a new cluster: this server and its peers begin together");
                self.become_sound(out);
            }
            return;
        }
        if self.memory.recalled.is_some() {
            return self.finish_recall(out);
        }
        let idle = matches!(self.proposer, Proposer::Idle);
        let known = self.memory.sound.is_majority_of(&self.members);
        if known && self.memory.state == State::Blank {
            // There is a cluster, which this node may have been in.
            let start = self.memory.life.start + FORGOTTEN_STARTS_MAX;
            info!("a latecomer, or one whose directory was emptied: beginning start {start}");
            return self.lose_memory(start, out);
        }
        if known && idle && self.now >= self.memory.recall_due {
            self.memory.recall_due = self.now + RECALL_TICKS;
            self.recall(out);
        }
    }

    /// Some if a majority, this node among it, was blank together, and nobody was there before: true
    /// once it is a new cluster.
    fn blank_together(&mut self) -> Option<bool> {
        let memory = &mut self.memory;
        // Who tells it, and whose life this node has heard of while blank, so that it says the same of
        // them ever after: or it would begin, and then call them latecomers.
        let heard = |node: &NodeId| memory.peers.get(node).is_some_and(|peer| peer.together);
        let mut together: Votes = memory.together.iter().filter(heard).collect();
        together.insert(self.me);
        if memory.state != State::Blank
            || !memory.before.is_empty()
            || !together.is_majority_of(&self.members)
        {
            memory.together_since = None;
            return None;
        }
        let since = *memory.together_since.get_or_insert(self.now);
        Some(together.len() == self.members.size() || self.now >= since + TOGETHER_TICKS)
    }

    /// Phase 1 at the others, to be told what this node can have had a part in.
    fn recall(&mut self, out: &mut Outbox) {
        let Some(ballot) = self.next_ballot() else {
            return;
        };
        let from = self.learner.decided().next();
        info!("recalling from a majority of the others what was voted from {from} on: {ballot}");
        out.record(Record::Ballot(ballot));
        self.proposer.recall(ballot, from);
        self.prepared.clear();
        self.prepare(out);
    }

    /// Whether a promise of this node, that knows these starts, counts: all do, but to recall. One that
    /// was made to an earlier life, under the same ballot, tells less than its sender has accepted since.
    pub(super) fn counts(&self, from: NodeId, starts: &[(NodeId, u64)]) -> bool {
        let own = (self.me, self.memory.life.start);
        self.memory.is_sound() || self.memory.is_known_by(from) && starts.contains(&own)
    }

    pub(super) fn on_recalled(&mut self, recalled: Recalled, out: &mut Outbox) {
        self.learner.on_known(recalled.decided);
        self.memory.recalled = Some(recalled);
        self.finish_recall(out);
    }

    /// Accepts what was told, once all that is decided before it is here and the acceptor is up.
    fn finish_recall(&mut self, out: &mut Outbox) {
        // An acceptor that is being recovered was read from a log that says nothing of all this yet.
        let Some(acceptor) = &mut self.acceptor else {
            return;
        };
        let decided = self.learner.decided();
        let here = |recalled: &mut Recalled| recalled.decided <= decided;
        let Some(recalled) = self.memory.recalled.take_if(here) else {
            return;
        };
        for told in recalled.accepted {
            // What a damaged log still holds may be newer.
            if acceptor.accepted_ballot(told.slot) < Some(told.ballot) {
                acceptor.recall(told.slot, told.ballot, &told.value);
                out.record(Record::Accept(told.ballot, told.slot, told.value));
            }
        }
        acceptor.promise(recalled.ballot);
        out.record(Record::Promise(recalled.ballot));
        info!("all that this server may have forgotten is here again: it votes");
        self.become_sound(out);
    }

    fn become_sound(&mut self, out: &mut Outbox) {
        let decided = self.learner.decided();
        if let Some(acceptor) = &mut self.acceptor {
            acceptor.settle(decided);
            // P53: a vote that is forgotten may have counted in any slot that was told.
            self.voted = self.voted.max(acceptor.highest());
        }
        self.ahead.forget();
        out.record(Record::Sound(decided));
        self.memory.state = State::Sound;
        self.send_heartbeat(To::Others, out);
    }
}

#[cfg(test)]
mod tests;
