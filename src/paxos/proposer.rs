//! The voice: phase 1 once, adoption, holes filled with no-ops, then the pipeline of open slots.
//!
//! *Paxos Made Simple* 2.2 and 3. A node that tries to lead prepares one ballot for all slots from
//! its first undecided one; with the promises of a majority it knows, per slot, what it may propose
//! there (condition P2c of 2.2), and leads. From then on each value costs phase 2 alone. It keeps I1
//! (one value per ballot and slot). Its handlers return what they found out; sending is the caller's affair. It
//! leaves out when to try (`election`) and what to propose (`replica`).
//!
//! A node that has lost its memory uses phase 1 for another end, to *recall*: a majority of the
//! others tells it all that it can have had a part in, and it does not lead (P41). Its own promises
//! of before are void from then on, wherever they are counted: every promise tells which starts of
//! the nodes its sender knows, and one that was made in a start that is known to be over does not
//! count beside it.

use std::collections::{BTreeMap, VecDeque};

use super::message::{Accepted, Promise};
use super::pace::{Asked, Paces};
use super::quorum::{Members, Votes};
use super::types::{Ballot, NodeId, Slot, Value};

/// Of so many decided slots it is remembered when they were sent. Who answers later than that is not
/// measured.
const CLOSED_MAX: usize = 64;

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
    /// Whether it is to recall, not to lead.
    recalls: bool,
    /// The first slot that was asked about.
    from: Slot,
    /// Who has told everything.
    promised: Votes,
    /// Where those go on who have told a part.
    next: BTreeMap<NodeId, Slot>,
    /// Which starts those know who have told a part or everything.
    starts: BTreeMap<NodeId, Vec<(NodeId, u64)>>,
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
    /// The last slots that are decided, for the answers that come after a majority's.
    closed: VecDeque<Sent>,
}

/// A slot that was proposed and of which it is not known that all up to it are decided.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Open {
    value: Value,
    votes: Votes,
    sent: Sent,
}

/// When a proposal was sent.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Sent {
    /// First, in ticks.
    first: u64,
    /// To whom again, and when last.
    again: BTreeMap<NodeId, u64>,
}

impl Sent {
    fn asked(&self, node: NodeId) -> Asked {
        let asked = Asked::new(self.first);
        self.again
            .get(&node)
            .map_or(asked, |&last| asked.again(last))
    }
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
    /// A majority: the node knows all that it can have had a part in.
    Recalled(Recalled),
}

/// What a majority told a node that has lost its memory.
#[derive(Debug, PartialEq, Eq)]
pub struct Recalled {
    /// The ballot that the majority promised to it, above all that they had promised before.
    pub ballot: Ballot,
    /// Every slot up to this one is decided; what was accepted there is not told.
    pub decided: Slot,
    /// What was accepted in later slots, one a slot: that of the highest ballot.
    pub accepted: Vec<Accepted>,
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
        *self = Self::Preparing(Preparing::new(ballot, from, false));
    }

    /// Starts phase 1 to recall what a majority of the *other* nodes accepted from `from` on. The
    /// node's own acceptor must not answer.
    pub fn recall(&mut self, ballot: Ballot, from: Slot) {
        *self = Self::Preparing(Preparing::new(ballot, from, true));
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

    /// How many bytes the values have that a phase 1 under way was told.
    pub fn adopted_bytes(&self) -> usize {
        let Self::Preparing(phase) = self else {
            return 0;
        };
        let told = phase.adopted.values();
        told.map(|(_, value)| value.as_bytes().len()).sum()
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
        // What a node told in a start that is over says nothing about the start of now.
        let start = start_of(from, &promise.starts);
        let before = phase.starts.insert(from, promise.starts);
        if before.is_some_and(|before| start_of(from, &before) != start) && expected != phase.from {
            phase.next.remove(&from);
            return Promised::More(phase.from);
        }
        if promise.decided > phase.decided.0 {
            phase.decided = (promise.decided, Some(from));
        }
        for told in promise.accepted {
            // Paxos Made Simple 2.2, P2c: the value of the highest ballot that was accepted, not the
            // highest that was promised (D4, P11).
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
        phase.drop_outdated();
        if !phase.promised.is_majority_of(members) {
            return Promised::Counted;
        }
        if phase.recalls {
            let recalled = phase.recalled();
            *self = Self::Idle;
            return Promised::Recalled(recalled);
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

/// The start of `node` that somebody knows, who knows of `starts`.
fn start_of(node: NodeId, starts: &[(NodeId, u64)]) -> u64 {
    let known = starts.iter().filter(|(known, _)| *known == node);
    known.map(|&(_, start)| start).max().unwrap_or(1)
}

impl Preparing {
    fn new(ballot: Ballot, from: Slot, recalls: bool) -> Self {
        Self {
            ballot,
            recalls,
            from,
            promised: Votes::default(),
            next: BTreeMap::new(),
            starts: BTreeMap::new(),
            decided: (from.previous(), None),
            adopted: BTreeMap::new(),
        }
    }

    /// A node that lost its memory may have promised before, and votes anew since. Its old promise
    /// would hide what it accepted since, so it does not count beside one whose sender knows the new
    /// start: of any majority some node does. The node is asked again.
    fn drop_outdated(&mut self) {
        let outdated: Vec<NodeId> = (self.promised.iter())
            .filter(|&node| {
                let told = self
                    .starts
                    .get(&node)
                    .map_or(1, |told| start_of(node, told));
                let known = self.promised.iter().filter_map(|by| self.starts.get(&by));
                known.map(|by| start_of(node, by)).any(|known| known > told)
            })
            .collect();
        for node in outdated {
            self.promised.remove(node);
            self.next.remove(&node);
        }
    }

    fn recalled(&mut self) -> Recalled {
        let (decided, _) = self.decided;
        let accepted = self.adopted.split_off(&decided.next()).into_iter();
        let mut accepted: Vec<Accepted> = accepted
            .map(|(slot, (ballot, value))| Accepted {
                slot,
                ballot,
                value,
            })
            .collect();
        // An acceptor accepts under rising ballots.
        accepted.sort_by_key(|accepted| (accepted.ballot, accepted.slot));
        Recalled {
            ballot: self.ballot,
            decided,
            accepted,
        }
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
            closed: VecDeque::new(),
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
            sent: Sent {
                first: now,
                again: BTreeMap::new(),
            },
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
            self.closed.push_back(first.remove().sent);
            if self.closed.len() > CLOSED_MAX {
                self.closed.pop_front();
            }
        }
        (self.decided > before).then_some(self.decided)
    }

    /// When a node was asked to accept this, if it is open or was lately.
    pub fn asked(&self, node: NodeId, ballot: Ballot, slot: Slot) -> Option<Asked> {
        if ballot != self.ballot {
            return None;
        }
        let sent = self.open.get(&slot).map(|open| &open.sent).or_else(|| {
            let back = usize::try_from(self.decided.0.checked_sub(slot.0)?).ok()?;
            self.closed.iter().nth_back(back)
        });
        sent.map(|sent| sent.asked(node))
    }

    /// The open slots that are to be sent again, in order, each with the nodes to which; at most
    /// `bytes_max` bytes of values, and at least one.
    pub fn overdue(
        &mut self,
        paces: &mut Paces,
        now: u64,
        bytes_max: usize,
        members: &Members,
    ) -> Vec<(Proposal, Vec<NodeId>)> {
        let mut overdue = Vec::new();
        let mut bytes = 0;
        for (&slot, open) in &mut self.open {
            if bytes >= bytes_max {
                break;
            }
            if open.votes.is_majority_of(members) {
                continue;
            }
            let silent = members.iter().filter(|&node| !open.votes.contains(node));
            let again: Vec<NodeId> = silent
                .filter(|&node| paces.of(node).is_overdue(open.sent.asked(node), now))
                .collect();
            if again.is_empty() {
                continue;
            }
            for &node in &again {
                open.sent.again.insert(node, now);
            }
            bytes += open.value.as_bytes().len();
            let proposal = Proposal {
                ballot: self.ballot,
                slot,
                value: open.value.clone(),
            };
            overdue.push((proposal, again));
        }
        for &node in overdue.iter().flat_map(|(_, nodes)| nodes) {
            paces.of(node).on_again(now);
        }
        overdue
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::paxos::message::Accepted;
    use crate::paxos::pace::{DOUBLED_TICKS_MAX, WAIT_TICKS_FIRST};

    fn node(n: u8) -> NodeId {
        NodeId::new(n).unwrap()
    }

    fn members(size: u8) -> Members {
        Members::new((1..=size).map(node)).unwrap()
    }

    fn value(text: &str) -> Value {
        Value::new(text.as_bytes()).unwrap()
    }

    fn b(round: u64) -> Ballot {
        Ballot::new(round, node(3))
    }

    fn promise(from: u64, decided: u64, next: Option<u64>, accepted: &[(u64, u64)]) -> Promise {
        Promise {
            ballot: b(9),
            from: Slot(from),
            decided: Slot(decided),
            next: next.map(Slot),
            starts: Vec::new(),
            accepted: accepted
                .iter()
                .map(|&(slot, round)| Accepted {
                    slot: Slot(slot),
                    ballot: b(round),
                    value: value(&format!("s{slot} of {round}")),
                })
                .collect(),
        }
    }

    fn preparing(from: u64) -> Proposer {
        let mut proposer = Proposer::default();
        proposer.prepare(b(9), Slot(from));
        proposer
    }

    fn leading(size: u8, values: &[&str]) -> Leading {
        let mut proposer = preparing(1);
        for n in 1..=size {
            proposer.on_promise(node(n), promise(1, 0, None, &[]), &members(size), 0);
        }
        let Proposer::Leading(mut leading) = proposer else {
            panic!("all promised");
        };
        for text in values {
            leading.propose(value(text), 0);
        }
        leading
    }

    /// P7: a node counts once it has told everything; a part that comes again, or out of order, is
    /// nothing.
    #[test]
    fn a_node_counts_when_its_last_part_is_there() {
        let mut proposer = preparing(1);
        let all = members(3);
        let mut on = |n, promise| proposer.on_promise(node(n), promise, &all, 0);
        assert_eq!(on(1, promise(5, 0, None, &[])), Promised::Stale);
        assert_eq!(
            on(1, promise(1, 0, Some(5), &[(1, 1)])),
            Promised::More(Slot(5))
        );
        assert_eq!(on(1, promise(1, 0, Some(5), &[(1, 1)])), Promised::Stale);
        assert_eq!(on(2, promise(1, 0, None, &[(2, 2)])), Promised::Counted);
        let Promised::Elected(elected) = on(1, promise(5, 0, None, &[(5, 1)])) else {
            panic!("n1 has told all");
        };
        let texts: Vec<String> = elected
            .proposals
            .iter()
            .map(|p| p.value.to_string())
            .collect();
        assert_eq!(texts, ["s1 of 1", "s2 of 2", "noop", "noop", "s5 of 1"]);
    }

    #[test]
    fn who_told_a_part_is_asked_for_the_next() {
        let mut proposer = preparing(1);
        proposer.on_promise(node(1), promise(1, 0, Some(5), &[]), &members(3), 0);
        let expected = [(node(1), Slot(5)), (node(2), Slot(1)), (node(3), Slot(1))];
        assert_eq!(proposer.unpromised(&members(3)), expected);
    }

    /// What a node of the majority knows to be decided is fetched from it, not proposed again.
    #[test]
    fn what_is_decided_is_not_proposed_again() {
        let mut proposer = preparing(3);
        proposer.on_promise(
            node(1),
            promise(3, 2, None, &[(3, 1), (6, 1)]),
            &members(3),
            0,
        );
        let told = proposer.on_promise(node(2), promise(3, 4, None, &[]), &members(3), 0);
        let Promised::Elected(elected) = told else {
            panic!("two of three");
        };
        assert_eq!(
            (elected.decided, elected.decided_by),
            (Slot(4), Some(node(2)))
        );
        let slots: Vec<Slot> = elected.proposals.iter().map(|p| p.slot).collect();
        assert_eq!(slots, [Slot(5), Slot(6)]);
    }

    /// P7: votes are of this ballot, of different nodes, and for slots that are open.
    #[test]
    fn only_votes_of_a_majority_for_this_ballot_decide() {
        let all = members(5);
        let mut leading = leading(5, &["a", "b"]);
        let mut on = |n, ballot, slot| leading.on_accepted(node(n), ballot, Slot(slot), &all);
        for n in [1, 1, 2, 2, 1] {
            assert_eq!(on(n, b(9), 1), None);
        }
        for n in [3, 4, 5] {
            assert_eq!(on(n, b(8), 1), None);
            assert_eq!(on(n, b(9), 3), None);
        }
        assert_eq!(on(5, b(9), 1), Some(Slot(1)));
        assert_eq!(on(4, b(9), 1), None);
        assert_eq!((leading.decided(), leading.open_slots()), (Slot(1), 1));
    }

    /// A lost proposal is sent again, to those only who are silent, and not all the time.
    #[test]
    fn what_is_overdue_goes_to_the_silent() {
        let all = members(3);
        let mut leading = leading(3, &["a", "b"]);
        leading.on_accepted(node(2), b(9), Slot(1), &all);
        for n in [1, 2] {
            leading.on_accepted(node(n), b(9), Slot(2), &all);
        }
        let (mut paces, due) = (Paces::default(), WAIT_TICKS_FIRST);
        assert_eq!(leading.overdue(&mut paces, due - 1, 1_000, &all), []);
        let overdue = leading.overdue(&mut paces, due, 1_000, &all);
        // s2 has its majority, and waits for s1 alone.
        assert_eq!(overdue.len(), 1);
        assert_eq!(overdue[0].0.slot, Slot(1));
        assert_eq!(overdue[0].1, [node(1), node(3)]);
        assert_eq!(leading.overdue(&mut paces, due + 1, 1_000, &all), []);
    }

    /// A node that answers fast is asked again soon, and one that is far away is not.
    #[test]
    fn each_node_has_a_pace_of_its_own() {
        let all = members(3);
        let mut leading = leading(3, &["a"]);
        let mut paces = Paces::default();
        for at in 0..20 {
            paces.of(node(1)).on_answer(Asked::new(at), at);
        }
        let overdue = leading.overdue(&mut paces, 25, 1_000, &all);
        assert_eq!(overdue[0].1, [node(1)]);
        assert_eq!(leading.asked(node(2), b(9), Slot(1)), Some(Asked::new(0)));
        let again = Asked::new(0).again(25);
        assert_eq!(leading.asked(node(1), b(9), Slot(1)), Some(again));
        leading.on_accepted(node(1), b(9), Slot(1), &all);
        leading.on_accepted(node(3), b(9), Slot(1), &all);
        // A vote that comes after the majority's tells as much.
        assert_eq!(leading.open_slots(), 0);
        assert_eq!(leading.asked(node(2), b(9), Slot(1)), Some(Asked::new(0)));
        assert_eq!(leading.asked(node(2), b(8), Slot(1)), None);
        assert_eq!(leading.asked(node(2), b(9), Slot(2)), None);
    }

    #[test]
    fn one_re_send_has_a_bound_and_makes_progress() {
        let all = members(3);
        let mut leading = leading(3, &["aaaa", "bbbb", "cccc"]);
        let mut paces = Paces::default();
        for member in all.iter() {
            paces.of(member).on_up(0);
        }
        let mut slots = |now, bytes_max| -> Vec<u64> {
            let overdue = leading.overdue(&mut paces, now, bytes_max, &all);
            overdue
                .iter()
                .map(|(proposal, _)| proposal.slot.0)
                .collect()
        };
        assert_eq!(slots(1, 5), [1, 2]);
        assert_eq!(slots(2, 5), [3]);
        assert_eq!(slots(2 + DOUBLED_TICKS_MAX, 1), [1]);
    }

    fn knowing(starts: &[(u8, u64)], promise: Promise) -> Promise {
        let starts = starts.iter().map(|&(n, start)| (node(n), start)).collect();
        Promise { starts, ..promise }
    }

    /// P41: a node that lost its memory since it promised does not count, once anyone of the others
    /// that promised knows its new start; it is asked again.
    #[test]
    fn a_promise_of_a_start_that_is_over_does_not_count() {
        let mut proposer = preparing(1);
        let all = members(5);
        let mut on = |n, promise| proposer.on_promise(node(n), promise, &all, 0);
        assert_eq!(on(1, promise(1, 0, None, &[])), Promised::Counted);
        assert_eq!(on(2, promise(1, 0, None, &[])), Promised::Counted);
        let knows = knowing(&[(2, 5)], promise(1, 0, None, &[]));
        assert_eq!(on(3, knows), Promised::Counted);
        assert!(proposer.unpromised(&all).contains(&(node(2), Slot(1))));
        let again = knowing(&[(2, 5)], promise(1, 0, None, &[(1, 4)]));
        let told = proposer.on_promise(node(2), again, &all, 0);
        let Promised::Elected(elected) = told else {
            panic!("three of five");
        };
        assert_eq!(elected.proposals[0].value, value("s1 of 4"));
    }

    /// P41: the parts of one promise are of one start.
    #[test]
    fn a_promise_does_not_go_on_over_a_restart() {
        let mut proposer = preparing(1);
        let first = promise(1, 0, Some(5), &[(1, 1)]);
        proposer.on_promise(node(1), first, &members(3), 0);
        let second = knowing(&[(1, 2)], promise(5, 0, None, &[]));
        let told = proposer.on_promise(node(1), second, &members(3), 0);
        assert_eq!(told, Promised::More(Slot(1)));
    }

    /// P41: what a majority of the others accepted, under the ballots that they accepted it with.
    #[test]
    fn a_node_recalls_what_the_others_accepted() {
        let mut proposer = Proposer::default();
        proposer.recall(b(9), Slot(1));
        let all = members(5);
        for n in [1, 2] {
            proposer.on_promise(node(n), promise(1, 1, None, &[(3, 2)]), &all, 0);
        }
        let last = promise(1, 2, None, &[(2, 7), (3, 5), (4, 1)]);
        let Promised::Recalled(recalled) = proposer.on_promise(node(4), last, &all, 0) else {
            panic!("three of five");
        };
        assert_eq!((recalled.ballot, recalled.decided), (b(9), Slot(2)));
        let told: Vec<_> = (recalled.accepted.iter())
            .map(|accepted| (accepted.slot.0, accepted.ballot))
            .collect();
        assert_eq!(told, [(4, b(1)), (3, b(5))]);
        assert_eq!(proposer, Proposer::Idle);
    }
}
