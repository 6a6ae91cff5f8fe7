//! The ear: which slots are decided, handed on once each, in order.
//!
//! *Paxos Made Simple* 2.3 and 3. The learner hears what is proposed and, from the leader, up to
//! where everything is decided under which ballot; where both fit, it knows a decision. A proposal
//! of another ballot says nothing (P20), and then the value is fetched from a node that knows it.
//! It keeps I4 (a decided slot never changes) and never skips a slot (P19). It does not ask the
//! acceptor: a node whose acceptor has failed still learns. It leaves out forgetting: all decided
//! values stay in memory, for peers that lag.

use std::collections::BTreeMap;

use super::record::Record;
use super::types::{Ballot, Slot, Value};

/// How many undecided proposals are remembered. A learner that lags by more fetches the rest.
const HEARD_MAX: usize = 65_536;

/// How many leaders' words about decided slots are remembered; the oldest ballots go first, and
/// what they covered is fetched instead.
const WORDS_MAX: usize = 16;

/// The learner of one node.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Learner {
    /// The decided values of s1, s2, and so on without a hole.
    values: Vec<Value>,
    /// Proposals of later slots, one a slot: that of the highest ballot.
    heard: BTreeMap<Slot, (Ballot, Value)>,
    /// A ballot, up to where its leader said that all is decided.
    words: BTreeMap<Ballot, Slot>,
    /// The highest slot of which anyone said that all up to it is decided.
    known: Slot,
    /// By the word of which ballot the newest slots were decided; those fetched are not here.
    deciding: BTreeMap<Slot, Ballot>,
}

impl Learner {
    /// The learner that wrote these records.
    pub fn recover<'a>(records: impl IntoIterator<Item = &'a Record>) -> Self {
        let mut learner = Self::default();
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
                Record::Start(_) | Record::Ballot(_) | Record::Promise(_) => {}
            }
        }
        learner.deciding.clear();
        learner
    }

    /// Every slot up to this one is decided and its value is here.
    pub fn decided(&self) -> Slot {
        Slot(self.values.len() as u64)
    }

    /// Every slot up to this one is decided, here or elsewhere.
    pub fn known(&self) -> Slot {
        self.known
    }

    /// The value of a slot that is decided here.
    pub fn value(&self, slot: Slot) -> Option<&Value> {
        let index = usize::try_from(slot.0.checked_sub(1)?).ok()?;
        self.values.get(index)
    }

    /// The ballot whose leader's word decided `slot`; none if its value was fetched. Told once.
    pub fn take_ballot(&mut self, slot: Slot) -> Option<Ballot> {
        self.deciding.remove(&slot)
    }

    /// A value was proposed. It decides a slot only if its leader's word is here already: messages
    /// overtake each other.
    pub fn on_proposal(&mut self, ballot: Ballot, slot: Slot, value: &Value) {
        let full = self.heard.len() >= HEARD_MAX && !self.heard.contains_key(&slot);
        if slot <= self.decided() || full {
            return;
        }
        let heard = self
            .heard
            .entry(slot)
            .or_insert_with(|| (ballot, value.clone()));
        if ballot > heard.0 {
            *heard = (ballot, value.clone());
        }
        self.advance();
    }

    /// The leader of `ballot` says that every slot up to `upto` is decided. True if this says more
    /// than was known of that ballot.
    pub fn on_decided(&mut self, ballot: Ballot, upto: Slot) -> bool {
        self.on_known(upto);
        let word = self.words.entry(ballot).or_default();
        let news = upto > *word;
        *word = upto.max(*word);
        if self.words.len() > WORDS_MAX {
            self.words.pop_first();
        }
        self.advance();
        news
    }

    /// A peer says that every slot up to `upto` is decided; nothing about values.
    pub fn on_known(&mut self, upto: Slot) {
        self.known = self.known.max(upto);
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
            let (_, value) = self.heard.remove(&slot).expect("it was just there");
            self.push(value);
        }
    }

    fn push(&mut self, value: Value) {
        self.values.push(value);
        self.heard.remove(&self.decided());
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
        for slot in 1..=HEARD_MAX as u64 + 10 {
            learner.on_proposal(ballot(1, 1), Slot(slot + 1), &value("v"));
        }
        assert_eq!(learner.heard.len(), HEARD_MAX);
        for round in 1..=WORDS_MAX as u64 + 10 {
            learner.on_decided(ballot(round, 1), Slot(1));
        }
        assert_eq!(learner.words.len(), WORDS_MAX);
        assert!(!learner.words.contains_key(&ballot(10, 1)));
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
            let learner = Learner::recover(&records);
            assert_eq!(learner.decided(), Slot(3), "{records:?}");
        }
    }
}
