//! The ear: which slots are decided, handed on once each, in order.
//!
//! *Paxos Made Simple* 2.3 and 3. The learner hears what is proposed and, from the leader, up to
//! where everything is decided under which ballot; where both fit, it knows a decision. A proposal
//! of another ballot says nothing (P20), and then the value is fetched from a node that knows it.
//! It keeps I4 (a decided slot never changes) and never skips a slot (P19). It does not ask the
//! acceptor: a node whose acceptor has failed still learns. What a durable snapshot holds is
//! forgotten when the caller says so, but for the newest of it, which stays for peers that lag by
//! little.

use std::collections::{BTreeMap, VecDeque};

use super::record::Record;
use super::types::{Ballot, Slot, Value};

/// How many undecided proposals are remembered: those of the lowest slots. The rest is fetched.
const HEARD_MAX: usize = 65_536;

/// How many bytes of values they have together; one alone may have more.
const HEARD_BYTES_MAX: usize = 128 << 20;

/// How many words about decided slots of one leader are remembered; those of its oldest ballots go
/// first, and what they covered is fetched instead.
const WORDS_MAX: usize = 4;

/// How many bytes of values that a snapshot holds are kept all the same, for peers that lag. Whoever
/// lags by more is sent the snapshot.
const TRIMMED_BYTES_KEPT_MAX: usize = 4 << 20;

/// The learner of one node.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Learner {
    /// What comes before `values`: decided, and forgotten or never known here.
    trimmed: Slot,
    /// The decided values of the slots after `trimmed`, without a hole.
    values: VecDeque<Value>,
    /// Proposals of later slots, one a slot: that of the highest ballot.
    heard: BTreeMap<Slot, (Ballot, Value)>,
    /// The bytes of their values.
    heard_bytes: usize,
    /// A ballot, up to where its leader said that all is decided.
    words: BTreeMap<Ballot, Slot>,
    /// The highest slot of which anyone said that all up to it is decided.
    known: Slot,
    /// By the word of which ballot the newest slots were decided; those fetched are not here.
    deciding: BTreeMap<Slot, Ballot>,
}

impl Learner {
    /// The learner that wrote these records, with a snapshot of every slot up to `snapshot`.
    pub fn recover<'a>(snapshot: Slot, records: impl IntoIterator<Item = &'a Record>) -> Self {
        let mut learner = Self::default();
        learner.on_snapshot(snapshot);
        for record in records {
            match record {
                Record::Accept(ballot, slot, value) => {
                    learner.on_proposal(*ballot, *slot, value);
                }
                Record::Decided(ballot, upto) => {
                    learner.on_decided(*ballot, *upto);
                }
                Record::Learn(slot, value) => {
                    learner.on_fetched(*slot, std::slice::from_ref(value));
                }
                // If that snapshot is lost, its slots are decided all the same.
                Record::Trim(slot) | Record::Sound(slot) => learner.on_known(*slot),
                _ => {}
            }
        }
        learner.deciding.clear();
        learner
    }

    /// Every slot up to this one is decided, and its value is here or in a snapshot.
    pub fn decided(&self) -> Slot {
        Slot(self.trimmed.0 + self.values.len() as u64)
    }

    /// The values of the slots up to this one are not here, though they are decided.
    pub fn trimmed(&self) -> Slot {
        self.trimmed
    }

    /// Every slot up to this one is decided, here or elsewhere.
    pub fn known(&self) -> Slot {
        self.known
    }

    /// The value of a slot that is decided here and not trimmed.
    pub fn value(&self, slot: Slot) -> Option<&Value> {
        let index = usize::try_from(slot.0.checked_sub(self.trimmed.0 + 1)?).ok()?;
        self.values.get(index)
    }

    /// A snapshot of every slot up to `upto` is here and durable: goes on behind it, if it holds more
    /// than is decided here (P22), and forgets what it holds, but for the newest.
    pub fn on_snapshot(&mut self, upto: Slot) {
        self.on_known(upto);
        if upto > self.decided() {
            self.values.clear();
            self.trimmed = upto;
            self.heard = self.heard.split_off(&upto.next());
            let heard = self.heard.values();
            self.heard_bytes = heard.map(|(_, value)| value.as_bytes().len()).sum();
            self.deciding.clear();
            return self.advance();
        }
        let held = usize::try_from(upto.0.saturating_sub(self.trimmed.0)).unwrap_or(usize::MAX);
        let mut bytes = 0;
        let kept = (self.values.iter().take(held).rev())
            .take_while(|value| {
                bytes += value.as_bytes().len();
                bytes <= TRIMMED_BYTES_KEPT_MAX
            })
            .count();
        let forgotten = held.min(self.values.len()) - kept;
        self.values.drain(..forgotten);
        self.trimmed.0 += forgotten as u64;
    }

    /// The ballot whose leader's word decided `slot`; none if its value was fetched. Told once.
    pub fn take_ballot(&mut self, slot: Slot) -> Option<Ballot> {
        self.deciding.remove(&slot)
    }

    /// A value was proposed. It decides a slot only if its leader's word is here already: messages
    /// overtake each other.
    pub fn on_proposal(&mut self, ballot: Ballot, slot: Slot, value: &Value) {
        let known = self.heard.get(&slot);
        if slot <= self.decided() || known.is_some_and(|(known, _)| *known >= ballot) {
            return;
        }
        self.forget_heard(slot);
        self.heard_bytes += value.as_bytes().len();
        self.heard.insert(slot, (ballot, value.clone()));
        while self.heard.len() > HEARD_MAX
            || self.heard_bytes > HEARD_BYTES_MAX && self.heard.len() > 1
        {
            if let Some((&last, _)) = self.heard.last_key_value() {
                self.forget_heard(last);
            }
        }
        self.advance();
    }

    fn forget_heard(&mut self, slot: Slot) -> Option<Value> {
        let (_, value) = self.heard.remove(&slot)?;
        self.heard_bytes -= value.as_bytes().len();
        Some(value)
    }

    /// The leader of `ballot` says that every slot up to `upto` is decided. True if this says more
    /// than was known of that ballot.
    pub fn on_decided(&mut self, ballot: Ballot, upto: Slot) -> bool {
        self.on_known(upto);
        let word = self.words.entry(ballot).or_default();
        let news = upto > *word;
        *word = upto.max(*word);
        // Nobody's words displace another's.
        let same = |other: &&Ballot| other.node() == ballot.node();
        if self.words.keys().filter(same).count() > WORDS_MAX
            && let Some(&oldest) = self.words.keys().find(same)
        {
            self.words.remove(&oldest);
        }
        self.advance();
        news
    }

    /// A peer says that every slot up to `upto` is decided; nothing about values.
    pub fn on_known(&mut self, upto: Slot) {
        self.known = self.known.max(upto);
    }

    /// Of all who are heard nobody has more than this: what was said to be decided beyond is known no
    /// longer.
    pub fn forget_known(&mut self, upto: Slot) {
        self.known = self.decided().max(upto);
    }

    /// A peer tells decided values, from slot `from` on. Returns those that were news, with their
    /// slots: the part that continues what is decided here.
    pub fn on_fetched<'v>(&mut self, from: Slot, values: &'v [Value]) -> Vec<(Slot, &'v Value)> {
        let mut news = Vec::new();
        for (value, number) in values.iter().zip(from.0..) {
            if Slot(number) == self.decided().next() {
                self.push(value.clone());
                news.push((Slot(number), value));
            }
        }
        self.known = self.known.max(self.decided());
        self.advance();
        news
    }

    /// The slots that are decided somewhere and not here: the first and the last.
    pub fn missing(&self) -> Option<(Slot, Slot)> {
        (self.decided() < self.known).then(|| (self.decided().next(), self.known))
    }

    /// Decides all that heard proposals and leaders' words decide.
    fn advance(&mut self) {
        loop {
            let slot = self.decided().next();
            let Some(&(ballot, _)) = self.heard.get(&slot) else {
                return;
            };
            // P20: the word of a ballot is about the proposals of that ballot alone.
            if self.words.get(&ballot).is_none_or(|&upto| upto < slot) {
                return;
            }
            self.deciding.insert(slot, ballot);
            let value = self.forget_heard(slot).expect("it was just there");
            self.push(value);
        }
    }

    fn push(&mut self, value: Value) {
        self.values.push_back(value);
        self.forget_heard(self.decided());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::paxos::types::NodeId;

    fn ballot(round: u64, n: u8) -> Ballot {
        Ballot::new(round, NodeId::new(n).unwrap())
    }

    fn value(text: &str) -> Value {
        Value::new(text.as_bytes()).unwrap()
    }

    /// P20: "all up to s1 is decided", said by the leader of another ballot, is about another value.
    #[test]
    fn a_word_decides_only_proposals_of_its_own_ballot() {
        let mut learner = Learner::default();
        learner.on_proposal(ballot(1, 1), Slot(1), &value("old"));
        learner.on_decided(ballot(2, 2), Slot(1));
        assert_eq!(learner.decided(), Slot::ZERO);
        assert_eq!(learner.missing(), Some((Slot(1), Slot(1))));
        learner.on_proposal(ballot(2, 2), Slot(1), &value("new"));
        assert_eq!(learner.value(Slot(1)), Some(&value("new")));
        assert_eq!(learner.take_ballot(Slot(1)), Some(ballot(2, 2)));
    }

    /// P20: a proposal of a lower ballot that comes late does not take the place of a higher one.
    #[test]
    fn a_late_proposal_of_a_lower_ballot_is_forgotten() {
        let mut learner = Learner::default();
        learner.on_proposal(ballot(2, 2), Slot(1), &value("new"));
        learner.on_proposal(ballot(1, 1), Slot(1), &value("old"));
        learner.on_decided(ballot(1, 1), Slot(1));
        assert_eq!(learner.decided(), Slot::ZERO);
        learner.on_decided(ballot(2, 2), Slot(1));
        assert_eq!(learner.value(Slot(1)), Some(&value("new")));
    }

    /// P19: what is decided above a hole waits for the hole.
    #[test]
    fn no_slot_is_skipped() {
        let mut learner = Learner::default();
        for slot in [1, 3] {
            learner.on_proposal(ballot(1, 1), Slot(slot), &value("v"));
        }
        assert!(learner.on_decided(ballot(1, 1), Slot(3)));
        assert_eq!(learner.decided(), Slot(1));
        assert_eq!(learner.missing(), Some((Slot(2), Slot(3))));
        assert_eq!(learner.on_fetched(Slot(3), &[value("v")]), []);
        learner.on_fetched(Slot(1), &[value("x"), value("fetched")]);
        assert_eq!(learner.decided(), Slot(3));
        assert_eq!(learner.value(Slot(1)), Some(&value("v")));
        assert_eq!(learner.value(Slot(2)), Some(&value("fetched")));
        assert_eq!(learner.missing(), None);
        assert_eq!(
            [1, 2, 3].map(|s| learner.take_ballot(Slot(s)).is_some()),
            [true, false, true]
        );
    }

    #[test]
    fn a_word_that_says_nothing_new_is_no_news() {
        let mut learner = Learner::default();
        assert!(learner.on_decided(ballot(1, 1), Slot(3)));
        assert!(!learner.on_decided(ballot(1, 1), Slot(3)));
        assert!(!learner.on_decided(ballot(1, 1), Slot(2)));
        assert!(learner.on_decided(ballot(2, 2), Slot(2)));
        assert_eq!(learner.known(), Slot(3));
    }

    /// What is beyond the bounds is fetched instead, and memory stays small.
    #[test]
    fn what_is_heard_and_said_is_bounded() {
        let mut learner = Learner::default();
        for slot in (1..=HEARD_MAX as u64 + 10).rev() {
            learner.on_proposal(ballot(1, 1), Slot(slot + 1), &value("v"));
        }
        assert_eq!(learner.heard.len(), HEARD_MAX);
        assert!(learner.heard.contains_key(&Slot(2)), "the lowest are kept");
        learner.on_decided(ballot(1, 2), Slot(1));
        for round in 1..=WORDS_MAX as u64 + 10 {
            learner.on_decided(ballot(round, 1), Slot(1));
        }
        assert_eq!(learner.words.len(), WORDS_MAX + 1);
        assert!(!learner.words.contains_key(&ballot(10, 1)));
        assert!(learner.words.contains_key(&ballot(1, 2)), "of another");
    }

    /// Large values take the place of no lower ones, and memory is what it is said to be.
    #[test]
    fn what_is_heard_is_bounded_in_bytes() {
        let mut learner = Learner::default();
        let large = Value::new(vec![b'v'; HEARD_BYTES_MAX / 4]).unwrap();
        let bytes = |learner: &Learner| -> usize {
            let heard = learner.heard.values();
            heard.map(|(_, value)| value.as_bytes().len()).sum()
        };
        for slot in [9, 8, 20, 7, 6, 5, 30, 4] {
            learner.on_proposal(ballot(1, 1), Slot(slot), &large);
            learner.on_proposal(ballot(2, 1), Slot(slot), &large);
            assert_eq!(bytes(&learner), learner.heard_bytes);
            assert!(learner.heard_bytes <= HEARD_BYTES_MAX);
        }
        let slots: Vec<u64> = learner.heard.keys().map(|slot| slot.0).collect();
        assert_eq!(slots, [4, 5, 6, 7]);
        let huge = Value::new(vec![b'v'; HEARD_BYTES_MAX + 1]).unwrap();
        learner.on_proposal(ballot(3, 1), Slot(1), &huge);
        learner.on_decided(ballot(3, 1), Slot(1));
        assert_eq!((learner.decided(), learner.heard_bytes), (Slot(1), 0));
    }

    /// 2.5: the records make the same learner, in whatever order proposal and word came.
    #[test]
    fn the_records_make_the_same_learner() {
        let accept = |slot| Record::Accept(ballot(1, 1), Slot(slot), value("v"));
        let word = Record::Decided(ballot(1, 1), Slot(3));
        let learn = Record::Learn(Slot(2), value("v"));
        for records in [
            [accept(1), accept(3), word.clone(), learn.clone()],
            [word.clone(), accept(1), learn.clone(), accept(3)],
            [word, accept(3), accept(1), learn],
        ] {
            let learner = Learner::recover(Slot::ZERO, &records);
            assert_eq!(learner.decided(), Slot(3), "{records:?}");
        }
    }

    /// P22, P25: a snapshot never takes a learner back, and one that is ahead carries it on.
    #[test]
    fn a_snapshot_only_carries_on() {
        let mut learner = Learner::default();
        let values: Vec<Value> = ["a", "b", "c"].map(value).into();
        learner.on_fetched(Slot(1), &values);
        learner.on_proposal(ballot(1, 1), Slot(7), &value("g"));
        learner.on_decided(ballot(1, 1), Slot(7));
        learner.on_snapshot(Slot(2));
        assert_eq!(learner.decided(), Slot(3));
        assert_eq!(learner.value(Slot(2)), Some(&value("b")));
        learner.on_snapshot(Slot(6));
        assert_eq!((learner.trimmed(), learner.decided()), (Slot(6), Slot(7)));
        assert_eq!(learner.value(Slot(6)), None);
        assert_eq!(learner.value(Slot(7)), Some(&value("g")));
        assert_eq!(learner.missing(), None);
    }

    /// A peer that is a few slots behind is told them, and needs no snapshot.
    #[test]
    fn a_snapshot_of_all_that_is_decided_keeps_the_newest() {
        let mut learner = Learner::default();
        learner.on_proposal(ballot(1, 1), Slot(1), &value("a"));
        learner.on_decided(ballot(1, 1), Slot(1));
        learner.on_snapshot(Slot(1));
        assert_eq!(learner.value(Slot(1)), Some(&value("a")));
        assert_eq!(learner.take_ballot(Slot(1)), Some(ballot(1, 1)));
    }

    #[test]
    fn only_the_newest_of_a_snapshot_is_kept() {
        let mut learner = Learner::default();
        let large = Value::new(vec![b'v'; TRIMMED_BYTES_KEPT_MAX / 2]).unwrap();
        learner.on_fetched(Slot(1), &vec![large; 5]);
        learner.on_snapshot(Slot(4));
        assert_eq!((learner.trimmed(), learner.decided()), (Slot(2), Slot(5)));
    }

    /// A node whose snapshot is lost knows how far it had been, and misses all of it.
    #[test]
    fn a_lost_snapshot_leaves_its_slots_missing() {
        let learner = Learner::recover(Slot::ZERO, &[Record::Trim(Slot(9))]);
        assert_eq!(learner.missing(), Some((Slot(1), Slot(9))));
    }
}
