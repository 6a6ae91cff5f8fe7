//! The voice: phase 1 once, adoption, holes filled with no-ops, then the pipeline of open slots.
//!
//! *Paxos Made Simple* 2.2 and 3. A node that tries to lead prepares one ballot for all slots from
//! its first undecided one; with the promises of a majority it knows, a slot, what it may propose
//! there (P2c), and leads. From then on each value costs phase 2 alone. It keeps I1 (one value a
//! ballot and slot). Its handlers return what they found out; sending is the caller's affair. It
//! leaves out when to try (`election`) and what to propose (`replica`).

use std::collections::BTreeMap;

use super::message::Promise;
use super::quorum::{Members, Votes};
use super::types::{Ballot, NodeId, Slot, Value};

/// What the proposer of one node is doing.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub enum Proposer {
    /// Nothing: another node leads, or none.
    #[default]
    Idle,
    /// Phase 1.
    Preparing(Preparing),
    /// Phase 2, for as many slots as there are values.
    Leading(Leading),
}

/// Phase 1 under way.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Preparing {
    ballot: Ballot,
    /// The first slot that was asked about.
    from: Slot,
    /// Who has told everything.
    promised: Votes,
    /// Where those go on who have told a part.
    next: BTreeMap<NodeId, Slot>,
    /// The highest slot up to which a node that promised knows all to be decided, and which node.
    decided: (Slot, Option<NodeId>),
    /// A slot, the value accepted under the highest ballot told so far.
    adopted: BTreeMap<Slot, (Ballot, Value)>,
}

/// Phase 2 under way.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Leading {
    ballot: Ballot,
    /// The next slot that has no value under this ballot.
    next: Slot,
    /// Every slot up to this one is decided.
    decided: Slot,
    open: BTreeMap<Slot, Open>,
}

/// A slot that was proposed and of which it is not known that all up to it are decided.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Open {
    value: Value,
    votes: Votes,
    /// When it was last sent, in ticks.
    sent: u64,
}

/// A proposal to be sent to some nodes.
#[derive(Debug, PartialEq, Eq)]
pub struct Proposal {
    /// The leader's ballot.
    pub ballot: Ballot,
    /// Where.
    pub slot: Slot,
    /// What.
    pub value: Value,
}

/// What a promise brought.
#[derive(Debug, PartialEq, Eq)]
pub enum Promised {
    /// It belongs to no phase 1 that is under way.
    Stale,
    /// Not yet a majority; its sender is to be asked for the next part, from this slot.
    More(Slot),
    /// Not yet a majority.
    Counted,
    /// A majority: the node leads.
    Elected(Elected),
}

/// What a new leader found.
#[derive(Debug, PartialEq, Eq)]
pub struct Elected {
    /// Its ballot.
    pub ballot: Ballot,
    /// Every slot up to this one is decided, as the node beside it knows.
    pub decided: Slot,
    /// A node from which the decided values can be fetched; none for the leader's own knowledge.
    pub decided_by: Option<NodeId>,
    /// The adopted values, and no-ops between them, to be sent to everyone.
    pub proposals: Vec<Proposal>,
}

impl Proposer {
    /// Starts phase 1 for all slots from `from` on, with a ballot never used before.
    pub fn prepare(&mut self, ballot: Ballot, from: Slot) {
        *self = Self::Preparing(Preparing {
            ballot,
            from,
            promised: Votes::default(),
            next: BTreeMap::new(),
            decided: (from.previous(), None),
            adopted: BTreeMap::new(),
        });
    }

    /// Gives up.
    pub fn stop(&mut self) {
        *self = Self::Idle;
    }

    /// The ballot that is prepared or led with.
    pub fn ballot(&self) -> Option<Ballot> {
        match self {
            Self::Idle => None,
            Self::Preparing(preparing) => Some(preparing.ballot),
            Self::Leading(leading) => Some(leading.ballot),
        }
    }

    /// The phase 2 under way, if it is.
    pub fn leading(&mut self) -> Option<&mut Leading> {
        match self {
            Self::Leading(leading) => Some(leading),
            _ => None,
        }
    }

    /// Counts a promise, or a part of one; a majority makes the node lead.
    pub fn on_promise(
        &mut self,
        from: NodeId,
        promise: Promise,
        members: &Members,
        now: u64,
    ) -> Promised {
        let Self::Preparing(phase) = self else {
            return Promised::Stale;
        };
        // P7: only answers to this very ballot, each part once and in order.
        let expected = phase.next.get(&from).copied().unwrap_or(phase.from);
        if promise.ballot != phase.ballot
            || promise.from != expected
            || phase.promised.contains(from)
        {
            return Promised::Stale;
        }
        if promise.decided > phase.decided.0 {
            phase.decided = (promise.decided, Some(from));
        }
        for told in promise.accepted {
            // P2c: the value of the highest ballot that was accepted, not promised (D4, P11).
            let best = phase
                .adopted
                .entry(told.slot)
                .or_insert((told.ballot, told.value.clone()));
            if told.ballot > best.0 {
                *best = (told.ballot, told.value);
            }
        }
        if let Some(next) = promise.next {
            phase.next.insert(from, next);
            return Promised::More(next);
        }
        phase.promised.insert(from);
        if !phase.promised.is_majority_of(members) {
            return Promised::Counted;
        }
        let (leading, elected) = Leading::begin(phase, now);
        *self = Self::Leading(leading);
        Promised::Elected(elected)
    }

    /// Who has not promised everything yet, and from which slot on they are to be asked again.
    pub fn unpromised(&self, members: &Members) -> Vec<(NodeId, Slot)> {
        let Self::Preparing(phase) = self else {
            return Vec::new();
        };
        members
            .iter()
            .filter(|&node| !phase.promised.contains(node))
            .map(|node| (node, phase.next.get(&node).copied().unwrap_or(phase.from)))
            .collect()
    }
}

impl Leading {
    fn begin(phase: &mut Preparing, now: u64) -> (Self, Elected) {
        let (decided, decided_by) = phase.decided;
        // What is decided is fetched, not proposed again; P13: everything above is repaired, up to
        // the highest slot that anyone of the majority accepted.
        let mut adopted = phase.adopted.split_off(&decided.next());
        let last = adopted.last_key_value().map_or(decided, |(&slot, _)| slot);
        let mut leading = Self {
            ballot: phase.ballot,
            next: decided.next(),
            decided,
            open: BTreeMap::new(),
        };
        let mut proposals = Vec::new();
        while leading.next <= last {
            // P14, P15: a slot that nobody of a majority accepted can have no decided value, so a
            // no-op may close it.
            let value = adopted
                .remove(&leading.next)
                .map_or_else(Value::noop, |(_, value)| value);
            proposals.push(leading.propose(value, now));
        }
        let elected = Elected {
            ballot: phase.ballot,
            decided,
            decided_by,
            proposals,
        };
        (leading, elected)
    }

    /// The leader's ballot.
    pub fn ballot(&self) -> Ballot {
        self.ballot
    }

    /// Every slot up to this one is decided.
    pub fn decided(&self) -> Slot {
        self.decided
    }

    /// The next slot that has no value under this ballot.
    pub fn next(&self) -> Slot {
        self.next
    }

    /// How many slots are open.
    pub fn open_slots(&self) -> usize {
        self.open.len()
    }

    /// Proposes a value in the next slot.
    pub fn propose(&mut self, value: Value, now: u64) -> Proposal {
        let slot = self.next;
        self.next = slot.next();
        let open = Open {
            value: value.clone(),
            votes: Votes::default(),
            sent: now,
        };
        let before = self.open.insert(slot, open);
        assert!(
            before.is_none(),
            "I1: a second value under {} at {slot}",
            self.ballot
        );
        Proposal {
            ballot: self.ballot,
            slot,
            value,
        }
    }

    /// Counts a vote for `slot`. Some, if by it the leader knows more slots to be decided: up to
    /// which.
    pub fn on_accepted(
        &mut self,
        from: NodeId,
        ballot: Ballot,
        slot: Slot,
        members: &Members,
    ) -> Option<Slot> {
        if ballot != self.ballot {
            return None;
        }
        // A vote for a slot that is closed already comes after the majority's: it changes nothing.
        let open = self.open.get_mut(&slot)?;
        open.votes.insert(from);
        let before = self.decided;
        while let Some(first) = self.open.first_entry() {
            if !first.get().votes.is_majority_of(members) {
                break;
            }
            assert!(
                *first.key() == self.decided.next(),
                "slots are decided without holes"
            );
            self.decided = *first.key();
            first.remove();
        }
        (self.decided > before).then_some(self.decided)
    }

    /// The open slots that were last sent before tick `before`, in order, each with the nodes that
    /// have not accepted it; at most `bytes_max` bytes of values, and at least one.
    pub fn overdue(
        &mut self,
        before: u64,
        now: u64,
        bytes_max: usize,
        members: &Members,
    ) -> Vec<(Proposal, Vec<NodeId>)> {
        let mut overdue = Vec::new();
        let mut bytes = 0;
        for (&slot, open) in &mut self.open {
            if open.sent >= before || open.votes.is_majority_of(members) {
                continue;
            }
            if bytes >= bytes_max {
                break;
            }
            bytes += open.value.as_bytes().len();
            open.sent = now;
            let silent = members
                .iter()
                .filter(|&node| !open.votes.contains(node))
                .collect();
            let proposal = Proposal {
                ballot: self.ballot,
                slot,
                value: open.value.clone(),
            };
            overdue.push((proposal, silent));
        }
        overdue
    }
}
