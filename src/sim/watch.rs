//! Looks at the nodes from outside, and knows what must hold: the invariants of `paxos/mod.rs`.
//!
//! It sees what leaves a node (votes, notices), what is durable on its disk, and what its learner
//! tells whoever asks; nothing of what a replica thinks. From that it keeps the one log that all
//! learners must agree on, and the state that this log makes ([`Model`]).
//!
//! | invariant | is checked |
//! | --- | --- |
//! | I1 | on every `accept` sent, and every one that becomes durable |
//! | I2, I3 | on every record that becomes durable, over restarts; on every `accepted` that leaves (P3) |
//! | D4, P17 | a promise tells all that its acceptor accepted below its ballot, by the ballots of that |
//! | P2b | what a majority has durable is what every higher ballot proposes |
//! | votes rest on records | on every vote that leaves (P1, P2) |
//! | P6 | a ballot is prepared in one start only |
//! | I4 | a slot has one value, at whatever learner, for ever, over restarts |
//! | I5 | one state hash a slot |
//! | I6 | when a learner calls a slot decided, a majority has its value durable under one ballot |
//! | I7 | in [`super::history`] |

use std::collections::{BTreeMap, BTreeSet};

use super::model::{Model, News};
use crate::kv::batch::{Numbered, parse_stamped};
use crate::kv::command::{Command, CommandId};
use crate::outbox::Outbox;
use crate::paxos::message::{Message, Notice, Promise, Vote};
use crate::paxos::quorum::{Members, Votes};
use crate::paxos::record::Record;
use crate::paxos::types::{Ballot, NodeId, Slot, Value};
use crate::replica::{Input, Replica, Status};

/// What a check says: nothing, or which invariant does not hold and why.
pub(super) type Checked<T = ()> = Result<T, String>;

/// Fails a check.
macro_rules! ensure {
    ($holds:expr, $($text:tt)*) => {
        if !$holds {
            return Err(format!($($text)*));
        }
    };
}
pub(super) use ensure;

/// One value that was accepted in a slot under a ballot, durable at these nodes.
#[derive(Debug)]
struct Accepted {
    ballot: Ballot,
    value: Value,
    /// Who accepted it durably. Who recalls what others accepted has not: it promised more before, so
    /// nobody ever hears its vote for this ballot.
    at: Votes,
    /// Who remembers it, by a recall too.
    held: Votes,
    /// Whose vote for it ever left.
    told: Votes,
}

/// What is known of a node.
#[derive(Debug, Default)]
struct Watched {
    /// The highest ballot that its durable records promise.
    promised: Option<Ballot>,
    /// The highest ballot of a promise that left.
    promise_sent: Option<Ballot>,
    /// The highest slot that it accepted durably.
    accepted: Slot,
    /// The highest slot that it was told of when its memory was lost, and has handed to its log.
    recalled: Slot,
    /// The highest slot of an `accepted` that left.
    accepted_sent: Slot,
    /// The same over all that it ever sent, also what it has forgotten.
    voted: Slot,
    /// Up to where it promised that all is decided and can be had from it.
    told: Slot,
    /// Up to where its learner was looked at.
    looked: Slot,
    /// It has lost some of its memory, and has not recalled it.
    lost: bool,
}

/// See the module's text.
#[derive(Debug)]
pub(super) struct Watch {
    members: Members,
    nodes: Vec<Watched>,
    proposed: BTreeMap<(Slot, Ballot), Value>,
    accepted: BTreeMap<Slot, Vec<Accepted>>,
    own: BTreeSet<Ballot>,
    /// Which start of its node prepared a ballot.
    prepared: BTreeMap<Ballot, u64>,
    decided: Vec<Value>,
    hashes: BTreeMap<Slot, u64>,
    model: Model,
    /// What each command is that has a name.
    named: BTreeMap<CommandId, Command>,
}

fn place(id: NodeId) -> usize {
    usize::from(id.number() - 1)
}

fn index(slot: Slot) -> usize {
    usize::try_from(slot.0 - 1).expect("few slots")
}

impl Watch {
    pub(super) fn new(members: Members) -> Self {
        // All begin blank.
        let blank = |_| Watched {
            lost: true,
            ..Watched::default()
        };
        let nodes = members.iter().map(blank).collect();
        Self {
            members,
            nodes,
            proposed: BTreeMap::new(),
            accepted: BTreeMap::new(),
            own: BTreeSet::new(),
            prepared: BTreeMap::new(),
            decided: Vec::new(),
            hashes: BTreeMap::new(),
            model: Model::default(),
            named: BTreeMap::new(),
        }
    }

    /// The highest slot that any learner knew to be decided.
    pub(super) fn decided(&self) -> Slot {
        Slot(self.decided.len() as u64)
    }

    pub(super) fn model(&self) -> &Model {
        &self.model
    }

    // --- What is durable ---

    /// A record of a node can be lost no more.
    pub(super) fn on_durable(&mut self, id: NodeId, record: &Record) -> Checked {
        let node = &mut self.nodes[place(id)];
        let promised = node.promised.unwrap_or(Ballot::ZERO);
        match record {
            Record::Promise(ballot) => {
                ensure!(
                    *ballot >= promised,
                    "I2: {id} promised {promised}, then {ballot}"
                );
                node.promised = Some(*ballot);
            }
            Record::Accept(ballot, slot, value) => {
                // Who recalls accepts again what was accepted once.
                ensure!(
                    *ballot >= promised || node.lost,
                    "I3: {id} accepted {slot} under {ballot}, below its promise {promised}"
                );
                node.promised = Some((*ballot).max(promised));
                node.accepted = node.accepted.max(*slot);
                let all = self.accepted.entry(*slot).or_default();
                let known = all.iter().position(|accepted| accepted.ballot == *ballot);
                let known = known.unwrap_or_else(|| {
                    all.push(Accepted {
                        ballot: *ballot,
                        value: value.clone(),
                        at: Votes::default(),
                        held: Votes::default(),
                        told: Votes::default(),
                    });
                    all.len() - 1
                });
                let accepted = &mut all[known];
                ensure!(
                    accepted.value == *value,
                    "I1: two values under {ballot} at {slot}"
                );
                accepted.held.insert(id);
                if !node.lost {
                    accepted.at.insert(id);
                }
            }
            Record::Trim(slot) => node.accepted = node.accepted.max(*slot),
            // What it told to be decided it may never get again from anyone but by recall.
            Record::Untrim(_) => node.told = Slot::ZERO,
            Record::Lost => node.lost = true,
            Record::Sound(slot) => {
                node.lost = false;
                node.accepted = node.accepted.max(*slot);
            }
            Record::Ballot(ballot) => drop(self.own.insert(*ballot)),
            Record::Learn(slot, value) => {
                if let Some(decided) = slot
                    .0
                    .checked_sub(1)
                    .and_then(|_| self.decided.get(index(*slot)))
                {
                    ensure!(decided == value, "I4: {id} learned another value at {slot}");
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// A node hands records to its log. What it recalls it may speak of at once.
    pub(super) fn on_handed(&mut self, id: NodeId, records: &[Record]) {
        let node = &mut self.nodes[place(id)];
        if node.lost {
            let slots = records.iter().filter_map(|record| match record {
                Record::Accept(_, slot, _) => Some(*slot),
                _ => None,
            });
            node.recalled = slots.max().unwrap_or_default().max(node.recalled);
        }
    }

    // --- What leaves ---

    /// A vote leaves: it must rest on durable records.
    pub(super) fn on_vote(&mut self, from: NodeId, start: u64, vote: &Vote) -> Checked {
        let node = &mut self.nodes[place(from)];
        let promised = node.promised.unwrap_or(Ballot::ZERO);
        match vote {
            Vote::Prepare { ballot, .. } => {
                ensure!(
                    self.own.contains(ballot),
                    "P6: {from} prepares {ballot}, which is not on its disk"
                );
                let before = *self.prepared.entry(*ballot).or_insert(start);
                ensure!(before == start, "P6: {from} uses {ballot} in two starts");
            }
            Vote::Promise(promise) => {
                let ballot = promise.ballot;
                ensure!(
                    ballot <= promised,
                    "P1: {from} promises {ballot}, which is not on its disk"
                );
                node.promise_sent = node.promise_sent.max(Some(ballot));
                node.told = node.told.max(promise.decided);
                self.check_told(from, promise)?;
            }
            Vote::Accepted { ballot, slot } => {
                let all = self.accepted.get_mut(slot).into_iter().flatten();
                let mut held =
                    all.filter(|known| known.ballot == *ballot && known.held.contains(from));
                let Some(accepted) = held.next() else {
                    return Err(format!(
                        "P2: {from} accepted {slot} under {ballot}, which is not on its disk"
                    ));
                };
                ensure!(
                    accepted.at.contains(from),
                    "P40: {from} votes for {slot} under {ballot}, which it only recalled"
                );
                accepted.told.insert(from);
                ensure!(
                    node.promise_sent <= Some(*ballot),
                    "P3: {from} accepted {slot} under {ballot} after it told a higher promise"
                );
                node.accepted_sent = node.accepted_sent.max(*slot);
                node.voted = node.voted.max(*slot);
            }
            Vote::Known(_) => {}
        }
        Ok(())
    }

    /// I7: a name is never given to two commands, also not by a node that has lost its memory since.
    fn check_names(&mut self, from: NodeId, value: &Value) -> Checked {
        if value.is_noop() {
            return Ok(());
        }
        let (_, commands) = parse_stamped(value.as_bytes())
            .map_err(|error| format!("{from} hands on what is no batch: {error}"))?;
        for Numbered { id, command } in commands {
            let named = self.named.entry(id).or_insert_with(|| command.clone());
            ensure!(
                *named == command,
                "I7: {from} hands on {command:?} as {id}, which is {named:?}"
            );
        }
        Ok(())
    }

    /// A notice leaves.
    pub(super) fn on_notice(&mut self, from: NodeId, notice: &Notice) -> Checked {
        match notice {
            Notice::Accept {
                ballot,
                slot,
                value,
            } => {
                let before = self.proposed.insert((*slot, *ballot), value.clone());
                ensure!(
                    before.as_ref().is_none_or(|before| before == value),
                    "I1: {from} proposes two values under {ballot} at {slot}"
                );
                if before.is_none() {
                    self.check_names(from, value)?;
                }
                self.check_proposal(from, *ballot, *slot, value)?;
            }
            Notice::Propose { value, .. } => self.check_names(from, value)?,
            Notice::Mark { slot, .. } => {
                let node = &self.nodes[place(from)];
                let known = node.accepted.max(node.looked).max(node.recalled);
                let told = node.accepted_sent;
                ensure!(
                    (told..=known).contains(slot),
                    "P53: {from} marks {slot}; it told {told} and knows of {known}"
                );
                self.check_mark(from, *slot)?;
            }
            // A new leader may know it from a promise alone, and lack the values.
            Notice::Decided { upto, .. } => {
                let mut slot = self.decided();
                while slot < *upto {
                    slot = slot.next();
                    ensure!(
                        self.has_majority(slot, |_| true),
                        "I4: {from} tells that all up to {upto} is decided; {slot} is not"
                    );
                }
            }
            Notice::Heartbeat(beat) => {
                let looked = self.nodes[place(from)].looked;
                ensure!(
                    beat.decided <= looked && beat.applied <= looked,
                    "I4: the heartbeat of {from} tells more than its learner knows, {looked}"
                );
            }
            Notice::Fetched {
                from: first,
                values,
            } => {
                for (value, at) in values.iter().zip(index(*first)..) {
                    ensure!(
                        self.decided.get(at) == Some(value),
                        "I4: {from} teaches another value at s{}",
                        at + 1
                    );
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// A mark is not below a slot that a majority with this node in it has decided: or a read that
    /// leans on it could miss what was acknowledged. Also where the node has forgotten its vote.
    fn check_mark(&self, from: NodeId, mark: Slot) -> Checked {
        let voted = self.nodes[place(from)].voted;
        if mark >= voted {
            return Ok(());
        }
        for (slot, all) in self.accepted.range(mark.next()..=voted) {
            let counted = all.iter().find(|accepted| {
                accepted.told.contains(from) && accepted.at.is_majority_of(&self.members)
            });
            ensure!(
                counted.is_none(),
                "P41, P53: {from} marks {mark}, and its vote counted at {slot}"
            );
        }
        Ok(())
    }

    /// D4, P17: a promise tells, of every slot that it is about and that is not said to be decided,
    /// what its acceptor accepted last. What it accepted under this very ballot may come too late.
    fn check_told(&self, from: NodeId, promise: &Promise) -> Checked {
        let Promise { ballot, next, .. } = promise;
        let accepted = |slot: &Slot| self.accepted.get(slot).into_iter().flatten();
        for told in &promise.accepted {
            ensure!(
                accepted(&told.slot).any(|known| known.ballot == told.ballot
                    && known.value == told.value
                    && known.held.contains(from)),
                "D4: {from} promises {ballot} and tells {} under {}, which it never accepted",
                told.slot,
                told.ballot
            );
        }
        let first = promise.from.max(promise.decided.next());
        let about = self.accepted.range(first..);
        let about = about.take_while(|&(slot, _)| next.is_none_or(|next| *slot < next));
        for (slot, all) in about {
            let older = all.iter().filter(|known| known.ballot < *ballot);
            let last = older.filter(|known| known.held.contains(from));
            let Some(last) = last.map(|known| known.ballot).max() else {
                continue;
            };
            let told = promise.accepted.iter().find(|told| told.slot == *slot);
            ensure!(
                told.is_some_and(|told| told.ballot >= last),
                "P17: {from} promises {ballot} and leaves out {slot}, which it accepted under {last}"
            );
        }
        Ok(())
    }

    /// P2b, *Paxos Made Simple* 2.2: under a higher ballot nothing else is proposed than what is
    /// decided, whether anyone knows so yet or not.
    fn check_proposal(&self, from: NodeId, ballot: Ballot, slot: Slot, value: &Value) -> Checked {
        let all = self.accepted.get(&slot).into_iter().flatten();
        let mut lower = all.filter(|known| known.ballot < ballot && known.value != *value);
        let decided = lower.find(|known| known.at.is_majority_of(&self.members));
        ensure!(
            decided.is_none(),
            "P2b: {from} proposes another value for {slot} under {ballot} than a majority accepted"
        );
        Ok(())
    }

    // --- What learners know ---

    /// A node ended a round: looks at what its learner knows. Returns the news, which no other
    /// node knew before.
    pub(super) fn look(
        &mut self,
        id: NodeId,
        replica: &mut Replica,
        status: &Status,
    ) -> Checked<News> {
        let looked = self.nodes[place(id)].looked;
        let mut news = News::default();
        ensure!(
            status.decided >= looked,
            "I4: {id} knew all up to {looked} to be decided, and now up to {}",
            status.decided
        );
        if status.decided == looked {
            return Ok(news);
        }
        ensure!(
            status.applied == status.decided,
            "P19: {id} ended a round with {} decided and {} applied",
            status.decided,
            status.applied
        );
        // A snapshot took it over what is trimmed; the hash below is that of who applied it all.
        let mut next = looked.max(status.trimmed).next();
        ensure!(
            looked.max(status.trimmed) <= self.decided().max(looked),
            "I4: {id} has a snapshot of {}, which nobody knew to be decided",
            status.trimmed
        );
        while next <= status.decided {
            let values = decided_values(&self.members, id, replica, next, status.decided);
            ensure!(
                !values.is_empty(),
                "{id} does not tell what it knows at {next}"
            );
            for value in values {
                let more = self.on_decided(id, next, value)?;
                news.applied.extend(more.applied);
                news.ended.extend(more.ended);
                next = next.next();
            }
        }
        self.nodes[place(id)].looked = status.decided;
        let hash = *self.hashes.entry(status.applied).or_insert(status.hash);
        ensure!(
            hash == status.hash,
            "I5: the store of {id} differs at {}: {:016x}, elsewhere {hash:016x}",
            status.applied,
            status.hash
        );
        Ok(news)
    }

    fn on_decided(&mut self, id: NodeId, slot: Slot, value: Value) -> Checked<News> {
        if let Some(decided) = self.decided.get(index(slot)) {
            ensure!(
                *decided == value,
                "I4: {slot} is decided with two values, the other at {id}"
            );
            return Ok(News::default());
        }
        ensure!(
            self.has_majority(slot, |known| *known == value),
            "I6: {id} calls {slot} decided, and no majority has it on disk"
        );
        let news = self.model.apply(&value)?;
        self.decided.push(value);
        Ok(news)
    }

    /// Whether a majority has accepted such a value durably, under one ballot.
    fn has_majority(&self, slot: Slot, such: impl Fn(&Value) -> bool) -> bool {
        let all = self.accepted.get(&slot);
        all.into_iter()
            .flatten()
            .any(|accepted| such(&accepted.value) && accepted.at.is_majority_of(&self.members))
    }

    // --- Restarts ---

    /// A node is gone.
    pub(super) fn on_crash(&mut self, id: NodeId) {
        self.nodes[place(id)].looked = Slot::ZERO;
    }

    /// Whether its disk does not say that it remembers all its votes.
    pub(super) fn has_lost_memory(&self, id: NodeId) -> bool {
        self.nodes[place(id)].lost
    }

    /// A node has lost its memory, or some of it: what it told and voted it need not know any more.
    pub(super) fn on_memory_lost(&mut self, id: NodeId) {
        self.nodes[place(id)] = Watched {
            lost: true,
            voted: self.nodes[place(id)].voted,
            ..Watched::default()
        };
        for accepted in self.accepted.values_mut().flatten() {
            accepted.held.remove(id);
        }
        self.prepared.retain(|ballot, _| ballot.node() != Some(id));
    }

    /// The snapshot of a node is lost: what it told to be decided it has to fetch again.
    pub(super) fn on_snapshot_lost(&mut self, id: NodeId) {
        self.nodes[place(id)].told = Slot::ZERO;
    }

    /// A node came back: it knows what it told others to know.
    pub(super) fn on_start(&self, id: NodeId, status: &Status) -> Checked {
        let told = self.nodes[place(id)].told;
        ensure!(
            status.decided >= told,
            "P17: {id} promised that all up to {told} can be had from it, and came back with {}",
            status.decided
        );
        Ok(())
    }

    /// The state hash at a slot, as the first node told it.
    pub(super) fn hash(&self, slot: Slot) -> Option<u64> {
        self.hashes.get(&slot).copied()
    }
}

/// The decided values that a node knows, asked for as a peer would. None where they are trimmed.
fn decided_values(
    members: &Members,
    id: NodeId,
    replica: &mut Replica,
    from: Slot,
    upto: Slot,
) -> Vec<Value> {
    let peer = members.others(id).next().unwrap_or(id);
    let fetch = Input::Message {
        from: peer,
        message: Message::Notice(Notice::Fetch { from, upto }),
    };
    let mut out = Outbox::default();
    replica.step(fetch, &mut out);
    match out.now.pop() {
        Some((_, Notice::Fetched { values, .. })) => values,
        _ => Vec::new(),
    }
}
