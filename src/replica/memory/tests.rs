//! One node that may have forgotten votes, alone with what its peers tell it. Whole clusters stand in
//! the scripts and in simulated lives.

use super::super::admission::{START_STEP, STARTS_FREE};
use super::super::catchup::BEREFT_TICKS;
use super::*;
use crate::kv::batch::Batch;
use crate::kv::store::Store;
use crate::paxos::acceptor::Acceptor;
use crate::paxos::message::{Accepted, Heartbeat, Message, Promise, Stance};
use crate::paxos::quorum::Members;
use crate::paxos::types::{Ballot, Slot, Value};
use crate::replica::{Config, Input};

const MARK: u64 = 7;

/// The first life of n1.
const FIRST: Life = Life {
    start: 1,
    mark: MARK,
};

fn node(number: u8) -> NodeId {
    NodeId::new(number).unwrap()
}

fn ballot(round: u64, number: u8) -> Ballot {
    Ballot::new(round, node(number))
}

fn value(text: &str) -> Value {
    Value::new(text.as_bytes()).unwrap()
}

/// Node n1 of five, and what its last round wanted done.
struct Alone {
    replica: Replica,
    out: Outbox,
}

impl Alone {
    fn new(records: &[Record]) -> Self {
        Self::recover(None, records)
    }

    fn recover(snapshot: Option<Store>, records: &[Record]) -> Self {
        let config = Config {
            me: node(1),
            members: Members::new((1..=5).map(node)).unwrap(),
            seed: 1,
            mark: MARK,
            deadline_ticks: 1_000,
            preload: Vec::new(),
        };
        let (replica, _) = Replica::recover(config, snapshot, records);
        let out = Outbox::default();
        Self { replica, out }
    }

    fn round(&mut self, input: Input) {
        self.out = Outbox::default();
        self.replica.step(input, &mut self.out);
        self.replica.flush(0, &mut self.out);
    }

    fn notice(&mut self, from: u8, notice: Notice) {
        let (from, message) = (node(from), Message::Notice(notice));
        self.round(Input::Message { from, message });
    }

    fn vote(&mut self, from: u8, vote: Vote) {
        let (from, message) = (node(from), Message::Vote(vote));
        self.round(Input::Message { from, message });
    }

    fn ticks(&mut self, count: u64) {
        for _ in 0..count {
            self.round(Input::Tick);
        }
    }

    /// A peer whose life is heard was blank as well when it first heard of a life of n1.
    fn is_known_together(&mut self, from: u8, life: Life) {
        self.hears(from, FIRST);
        self.is_told_together(from, life);
    }

    fn is_told_together(&mut self, from: u8, life: Life) {
        let (together, sound) = (true, false);
        let known = Known {
            life,
            together,
            sound,
        };
        self.vote(from, Vote::Known(known));
    }

    /// A peer that voted before knows a life of n1.
    fn is_known_before(&mut self, from: u8, life: Life, sound: bool) {
        let together = false;
        let known = Known {
            life,
            together,
            sound,
        };
        self.vote(from, Vote::Known(known));
    }

    /// A sound peer tells its life.
    fn hears(&mut self, from: u8, life: Life) {
        self.hears_decided(from, life, 0);
    }

    fn hears_decided(&mut self, from: u8, life: Life, decided: u64) {
        let beat = Heartbeat {
            stance: Stance::Idle,
            connected: true,
            acceptor_up: true,
            decided: Slot(decided),
            applied: Slot::ZERO,
            hash: 0,
            life,
            sound: true,
            slow: false,
            saving: false,
        };
        self.notice(from, Notice::Heartbeat(beat));
    }

    fn is_promised(&mut self, from: u8, ballot: Ballot, accepted: Vec<Accepted>) {
        self.is_promised_decided(from, ballot, accepted, 0);
    }

    /// The promise of one that knows so many slots to be decided.
    fn is_promised_decided(
        &mut self,
        from: u8,
        ballot: Ballot,
        accepted: Vec<Accepted>,
        decided: u64,
    ) {
        let starts = vec![(node(1), self.life().start)];
        let promise = Promise {
            ballot,
            from: Slot(1),
            decided: Slot(decided),
            next: None,
            starts,
            accepted,
        };
        self.vote(from, Vote::Promise(promise));
    }

    fn life(&self) -> Life {
        self.replica.memory.life
    }

    /// The ballot of the recall that the last round began.
    fn recalls(&self) -> Option<Ballot> {
        self.out.records.iter().find_map(|record| match record {
            Record::Ballot(ballot) => Some(*ballot),
            _ => None,
        })
    }

    fn is_sound(&self) -> bool {
        self.replica.memory.is_sound()
    }
}

// --- A new cluster ---

/// P41: whoever is blank may be one that was emptied, as long as no majority begins with it.
#[test]
fn a_blank_node_alone_is_no_new_cluster() {
    let mut alone = Alone::new(&[]);
    alone.ticks(100);
    assert!(!alone.is_sound());
    alone.is_known_together(2, FIRST);
    alone.ticks(100);
    assert!(!alone.is_sound(), "two of five");
}

/// Somebody may be only late who knows of an older cluster; once all are there, nobody does.
#[test]
fn a_new_cluster_waits_for_those_who_are_silent_but_not_long() {
    let mut majority = Alone::new(&[]);
    majority.ticks(7);
    majority.is_known_together(2, FIRST);
    majority.is_known_together(3, FIRST);
    majority.ticks(TOGETHER_TICKS - 1);
    assert!(!majority.is_sound());
    majority.ticks(1);
    assert!(majority.is_sound());
    let mut all = Alone::new(&[]);
    for peer in 2..=5 {
        assert!(!all.is_sound());
        all.is_known_together(peer, FIRST);
    }
    assert!(all.is_sound());
}

/// Or it would call them latecomers as soon as it heard of them.
#[test]
fn a_new_cluster_begins_with_those_alone_whose_lives_are_heard() {
    let mut alone = Alone::new(&[]);
    for peer in 2..=5 {
        alone.is_told_together(peer, FIRST);
    }
    alone.ticks(100);
    assert!(!alone.is_sound());
    for peer in 2..=5 {
        alone.hears(peer, FIRST);
    }
    assert!(alone.is_sound());
}

/// P41: one that voted before is enough to make it an older cluster.
#[test]
fn a_cluster_is_not_new_where_one_was_there_before() {
    let mut alone = Alone::new(&[]);
    alone.is_known_before(5, FIRST, false);
    for peer in 2..=4 {
        alone.is_known_together(peer, FIRST);
    }
    alone.ticks(100);
    assert!(!alone.is_sound());
}

/// P40: a node whose log is damaged has voted, whatever blank peers say.
#[test]
fn a_damaged_node_begins_no_new_cluster() {
    let mut alone = Alone::new(&[Record::Lost]);
    for peer in 2..=5 {
        alone.is_known_together(peer, FIRST);
    }
    alone.ticks(100);
    assert!(!alone.is_sound());
}

// --- Lives ---

/// P41: who knows another life of this node does not know this one.
#[test]
fn a_word_about_another_life_does_not_count() {
    let other = Life {
        mark: MARK + 1,
        ..FIRST
    };
    let mut blank = Alone::new(&[]);
    for peer in 2..=5 {
        blank.is_known_together(peer, other);
    }
    blank.ticks(100);
    assert!(!blank.is_sound());
    let mut lost = Alone::new(&[Record::Lost]);
    let other = Life {
        mark: MARK + 1,
        ..lost.life()
    };
    for peer in 2..=5 {
        lost.is_known_before(peer, other, true);
        assert_eq!(lost.recalls(), None);
    }
}

/// P41: a directory that is emptied again must be found out again, also by one that was restarted or
/// has lost its own memory since.
#[test]
fn the_newest_lives_of_peers_outlive_a_restart_and_a_loss() {
    let (old, newest) = (Life { start: 1, mark: 9 }, Life { start: 5, mark: 3 });
    let outdated = |alone: &Alone| {
        let (life, known) = (old, newest.start);
        let told = (To::One(node(2)), Notice::Outdated { life, known });
        alone.out.now.contains(&told)
    };
    let mut alone = Alone::new(&[Record::Sound(Slot::ZERO), Record::Peer(node(2), newest)]);
    alone.hears(2, old);
    assert!(outdated(&alone));
    alone.hears(2, newest);
    assert!(!outdated(&alone));
    let (life, known) = (alone.life(), 4);
    alone.notice(3, Notice::Outdated { life, known });
    assert!(alone.out.records.contains(&Record::Lost));
    alone.hears(2, old);
    assert!(outdated(&alone));
}

/// P9: a start at the top of the range would leave none to come. A word that is far ahead takes a node up
/// by a step; one that knows better will say it again, and the others believe each step.
#[test]
fn a_word_of_a_start_far_ahead_takes_a_node_up_by_steps() {
    const FREE: u64 = STARTS_FREE;
    for (known, above) in [(FREE, FREE), (FREE + 1, FREE), (Life::START_MAX, FREE)] {
        let mut alone = Alone::new(&[]);
        let life = FIRST;
        alone.notice(2, Notice::Outdated { life, known });
        assert_eq!(alone.life().start, above + FORGOTTEN_STARTS_MAX, "{known}");
    }
    let known = FREE + 3 * START_STEP;
    let mut told = Alone::new(&[]);
    let mut other = Alone::new(&[]);
    while told.life().start <= known {
        let life = told.life();
        told.notice(2, Notice::Outdated { life, known });
        let life = told.life();
        other.hears(2, life);
        let heard = Record::Peer(node(2), life);
        assert!(other.out.records.contains(&heard), "{life}");
    }
    assert!(told.life().start < known + 2 * FORGOTTEN_STARTS_MAX);
    let top = Life::START_MAX;
    let mut last = Alone::new(&[Record::Start(top - 7), Record::Sound(Slot::ZERO)]);
    let life = last.life();
    last.notice(2, Notice::Outdated { life, known: top });
    assert_eq!(last.life(), life, "there is none to begin");
}

/// P9: a peer's start out of reach is not written down, and comes nearer with each line.
#[test]
fn a_start_out_of_reach_comes_nearer_with_each_line() {
    let mut alone = Alone::new(&[]);
    let hears = |alone: &mut Alone, start| {
        let life = Life { start, mark: 9 };
        alone.hears(2, life);
        alone.out.records.contains(&Record::Peer(node(2), life))
    };
    assert!(!hears(&mut alone, 0));
    assert!(!hears(&mut alone, Life::START_MAX));
    let near = STARTS_FREE + 2 * START_STEP;
    assert!(hears(&mut alone, near), "one step nearer");
    assert!(!hears(&mut alone, near + 3 * START_STEP));
    assert!(!hears(&mut alone, near + 3 * START_STEP));
    assert!(hears(&mut alone, near + 3 * START_STEP));
}

/// P52: a command that bears a later start of this node voids the names that it gives now: it begins
/// above that start.
#[test]
fn a_start_that_the_log_shows_is_over_is_left() {
    let mut alone = Alone::new(&[Record::Sound(Slot::ZERO)]);
    let (ballot, slot) = (ballot(1, 2), Slot(1));
    let value = value("n1.7.1 session");
    alone.notice(
        2,
        Notice::Accept {
            ballot,
            slot,
            value,
        },
    );
    let upto = slot;
    alone.notice(2, Notice::Decided { ballot, upto });
    assert_eq!(alone.life().start, 7 + FORGOTTEN_STARTS_MAX);
    assert!(alone.out.records.contains(&Record::Lost));
}

/// P41, P52: of the starts that were forgotten, nobody who is left may have heard. So another one must not
/// have the number of any of them, or two commands would have one name.
#[test]
fn who_has_forgotten_starts_begins_far_above_what_is_known() {
    const FAR: u64 = 1_000_000_000;
    let begins = |records: &[Record]| Alone::new(records).life().start;
    let sound = Record::Sound(Slot::ZERO);
    assert_eq!(begins(&[]), 1);
    assert_eq!(begins(&[Record::Start(4), sound.clone()]), 5);
    assert_eq!(begins(&[Record::Start(4), Record::Lost]), 4 + FAR);
    assert_eq!(begins(&[Record::Start(4), Record::Lost, sound]), 5);
    // An emptied directory, and an older copy.
    for (own, known, expected) in [(1, 7, 7 + FAR), (5, 5, 5 + FAR), (5, 6, 6 + FAR)] {
        let records = [Record::Start(own - 1), Record::Sound(Slot::ZERO)];
        let mut alone = Alone::new(if own == 1 { &[] } else { &records });
        let life = alone.life();
        assert_eq!(life.start, own);
        alone.notice(2, Notice::Outdated { life, known });
        assert_eq!(alone.life().start, expected);
        assert!(alone.out.records.contains(&Record::Start(expected)));
    }
}

/// P41: of an emptied directory those who are asked may never have heard. They know its life, and it may
/// have had another with the same number.
#[test]
fn a_blank_node_that_meets_a_cluster_begins_another_life_before_it_recalls() {
    let mut alone = Alone::new(&[]);
    for peer in 2..=4 {
        alone.is_known_before(peer, FIRST, true);
        assert_eq!(alone.recalls(), None);
    }
    let life = alone.life();
    assert_eq!(life.start, 1 + FORGOTTEN_STARTS_MAX);
    assert_eq!(alone.out.records, [Record::Start(life.start), Record::Lost]);
    for peer in 2..=4 {
        assert_eq!(alone.recalls(), None);
        alone.is_known_before(peer, life, true);
    }
    assert!(alone.recalls().is_some());
}

// --- Recall ---

/// A node whose recall is under way, and its ballot.
fn recalling(records: &[Record]) -> (Alone, Ballot) {
    let mut alone = Alone::new(records);
    let life = alone.life();
    alone.is_known_before(2, life, true);
    alone.is_known_before(3, life, true);
    assert_eq!(alone.recalls(), None, "no majority of sound ones");
    alone.is_known_before(4, life, true);
    let ballot = alone.recalls().expect("three of five know this life");
    (alone, ballot)
}

/// P41: one that does not know this life may yet let an old promise of this node count beside its own.
#[test]
fn a_promise_counts_only_of_a_node_that_knows_this_life() {
    let (mut alone, ballot) = recalling(&[Record::Lost]);
    for promiser in [5, 2, 3] {
        alone.is_promised(promiser, ballot, Vec::new());
        assert!(!alone.is_sound(), "n{promiser}");
    }
    alone.is_promised(4, ballot, Vec::new());
    assert!(alone.is_sound());
}

/// P41: an old promise, under a ballot that an earlier life had prepared, tells less than its sender has
/// accepted since.
#[test]
fn a_promise_to_an_earlier_life_does_not_count() {
    let (mut alone, ballot) = recalling(&[Record::Lost]);
    let start = alone.life().start;
    for starts in [
        vec![],
        vec![(node(1), start - 1)],
        vec![(node(2), start), (node(3), start)],
    ] {
        for promiser in 2..=4 {
            let promise = Promise {
                ballot,
                from: Slot(1),
                decided: Slot::ZERO,
                next: None,
                starts: starts.clone(),
                accepted: Vec::new(),
            };
            alone.vote(promiser, Vote::Promise(promise));
            assert!(!alone.is_sound(), "{starts:?}");
        }
    }
    for promiser in 2..=4 {
        assert!(!alone.is_sound(), "before n{promiser}");
        alone.is_promised(promiser, ballot, Vec::new());
    }
    assert!(alone.is_sound());
}

/// P40: what a damaged log still has may be newer than what others accepted, and is not written twice.
#[test]
fn a_recall_brings_what_is_missing_and_nothing_else() {
    let accept = |ballot, slot, text| Record::Accept(ballot, Slot(slot), value(text));
    let (older, newer) = (ballot(1, 2), ballot(2, 3));
    let (mut alone, recalled) = recalling(&[
        accept(older, 2, "same"),
        accept(newer, 1, "new"),
        Record::Lost,
    ]);
    let told = |slot, text| Accepted {
        slot: Slot(slot),
        ballot: older,
        value: value(text),
    };
    let told = vec![told(1, "old"), told(2, "same"), told(3, "missing")];
    for promiser in 2..=4 {
        alone.is_promised(promiser, recalled, told.clone());
    }
    let records = [
        accept(older, 3, "missing"),
        Record::Promise(recalled),
        Record::Sound(Slot::ZERO),
    ];
    assert_eq!(alone.out.records, records);
}

/// I2: a value told under a higher ballot than the promise would be written down before that promise, which
/// then goes back at the next start.
#[test]
fn a_promise_of_a_value_above_its_ballot_does_not_count() {
    let (mut alone, recalled) = recalling(&[Record::Lost]);
    let told = Accepted {
        slot: Slot(1),
        ballot: ballot(recalled.round + 1, 2),
        value: value("told"),
    };
    for promiser in 2..=4 {
        alone.is_promised(promiser, recalled, vec![told.clone()]);
        assert_eq!(alone.out.records, []);
    }
    assert!(!alone.is_sound());
}

/// A recall that was refused is tried again, and not at once: who refused it may be leading.
#[test]
fn a_refused_recall_is_tried_again_after_a_while() {
    let mut alone = Alone::new(&[Record::Lost]);
    alone.ticks(30);
    let life = alone.life();
    for peer in 2..=4 {
        alone.is_known_before(peer, life, true);
    }
    let mut tried = Vec::new();
    for tick in 0..3 * RECALL_TICKS {
        if let Some(refused) = alone.recalls() {
            tried.push(tick);
            let promised = ballot(refused.round + 1, 2);
            alone.notice(2, Notice::Nack { refused, promised });
        }
        alone.ticks(1);
    }
    assert_eq!(tried, [0, RECALL_TICKS, 2 * RECALL_TICKS]);
}

/// P17, P40: what only one that is gone called decided, the others tell as accepted when they are asked
/// once more.
#[test]
fn a_recall_that_nobody_can_finish_is_begun_anew() {
    let (mut alone, ballot) = recalling(&[Record::Lost]);
    alone.is_promised(2, ballot, Vec::new());
    alone.is_promised(3, ballot, Vec::new());
    alone.is_promised_decided(4, ballot, Vec::new(), 1);
    let life = Life { start: 1, mark: 9 };
    let again = (1..=2 * BEREFT_TICKS).find(|_| {
        alone.hears_decided(2, life, 0);
        alone.hears_decided(3, life, 0);
        alone.ticks(1);
        alone.recalls().is_some_and(|again| again > ballot)
    });
    assert_eq!(again, Some(BEREFT_TICKS));
    let told = Accepted {
        slot: Slot(1),
        ballot: self::ballot(1, 4),
        value: value("told"),
    };
    let ballot = alone.recalls().unwrap();
    for promiser in 2..=4 {
        assert!(!alone.is_sound(), "before n{promiser}");
        alone.is_promised(promiser, ballot, vec![told.clone()]);
    }
    assert!(alone.is_sound());
}

// --- A lost snapshot ---

/// n1, whose log is trimmed up to s5 and whose newest snapshot holds so many slots.
fn trimmed(snapshot: u64) -> Alone {
    let mut store = Store::new();
    for slot in 1..=snapshot {
        store.apply(slot, &Batch::empty(), |_, _| {});
    }
    Alone::recover(
        Some(store),
        &[Record::Sound(Slot::ZERO), Record::Trim(Slot(5))],
    )
}

/// After how many ticks it gives its memory up, if it hears of these nodes how much they know to be
/// decided.
fn given_up_after(alone: &mut Alone, peers: &[(u8, u64)]) -> Option<u64> {
    let life = Life { start: 1, mark: 9 };
    (1..=2 * BEREFT_TICKS).find(|_| {
        for &(peer, decided) in peers {
            alone.hears_decided(peer, life, decided);
        }
        alone.ticks(1);
        alone.out.records.contains(&Record::Lost)
    })
}

/// P17, P40: what a lost snapshot held is recalled once it is clear that nobody can send it.
#[test]
fn slots_that_nobody_has_are_given_up_after_a_while() {
    let mut alone = trimmed(2);
    assert_eq!(
        given_up_after(&mut alone, &[(2, 0), (3, 2)]),
        Some(BEREFT_TICKS)
    );
    for record in [Record::Start(2), Record::Untrim(Slot(2))] {
        assert!(alone.out.records.contains(&record), "{record:?}");
    }
    assert_eq!(alone.life(), Life { start: 2, ..FIRST });
    let acceptor = alone.replica.acceptor.as_ref().unwrap();
    assert_eq!(acceptor.settled(), Slot(2));
    let records = [Record::Trim(Slot(5)), Record::Untrim(Slot(2))];
    assert_eq!(Acceptor::recover(&records).settled(), Slot(2));
}

/// Only what no peer has is lost, and only a majority can tell.
#[test]
fn slots_that_somebody_may_have_are_not_given_up() {
    assert_eq!(given_up_after(&mut trimmed(5), &[(2, 0), (3, 4)]), None);
    assert_eq!(given_up_after(&mut trimmed(2), &[(2, 0), (3, 3)]), None);
    assert_eq!(given_up_after(&mut trimmed(2), &[(2, 0)]), None);
}
