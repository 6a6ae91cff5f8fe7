//! One replica alone with its inputs: what it does at its bounds, with what no server sends, and
//! with images of the store. Whole clusters stand in the scripts and in the random runs.

mod common;

use std::sync::Arc;

use common::cluster::{members, node};
use quince::kv::batch::{Batch, parse_batch};
use quince::kv::command::{Command, Millis};
use quince::kv::snapshot::Place;
use quince::kv::store::Store;
use quince::outbox::{Answer, Outbox, Ticket, To};
use quince::paxos::message::{Accepted, Heartbeat, Message, Notice, Promise, Stance, Vote};
use quince::paxos::pace::{DOUBLED_TICKS_MAX, WAIT_TICKS_FIRST};
use quince::paxos::record::Record;
use quince::paxos::types::{Ballot, Life, Slot, Value};
use quince::replica::growth::Wanted;
use quince::replica::{Config, Input, Replica, log_alarms};

/// How far ahead of what is decided a slot may be.
const SLOTS_AHEAD_MAX: u64 = 65_536;

/// The last round that a node believes that has seen none.
const ROUND_MAX: u64 = 1_001_000_000;

/// By how much a round may be above all that were seen.
const ROUND_STEP: u64 = 1_000_000;

/// How many slots a leader keeps open.
const OPEN_SLOTS_MAX: usize = 32;

/// How far ahead of what is decided a leader goes for a reader.
const FINISH_SLOTS_MAX: u64 = 1_000;

fn ballot(round: u64, number: u8) -> Ballot {
    Ballot::new(round, node(number))
}

fn value(text: impl Into<Vec<u8>>) -> Value {
    Value::new(text.into()).expect("a value")
}

fn put(key: &str) -> Command {
    let batch = parse_batch(format!("n1.1.1 put {key} v").as_bytes()).expect("a command");
    batch.into_iter().next().expect("a command").command
}

/// What a node says that does nothing and has nothing.
const BEAT: Heartbeat = Heartbeat {
    stance: Stance::Idle,
    connected: true,
    acceptor_up: true,
    decided: Slot::ZERO,
    applied: Slot::ZERO,
    hash: 0,
    life: Life { start: 1, mark: 0 },
    sound: true,
    slow: false,
    saving: false,
};

/// Node n1 of three, and what it did last.
struct One {
    replica: Replica,
    /// What its clock says.
    wall: Millis,
    out: Outbox,
}

impl One {
    fn new(preload: Vec<Command>, snapshot: Option<Store>) -> Self {
        // Round 1 is over: n2 may have accepted something in it.
        let records = [Record::Sound(Slot::ZERO), Record::Ballot(ballot(1, 1))];
        Self::recover(preload, snapshot, &records)
    }

    fn recover(preload: Vec<Command>, snapshot: Option<Store>, records: &[Record]) -> Self {
        let config = Config {
            me: node(1),
            members: members(3),
            seed: 1,
            mark: 1,
            deadline_ticks: 1_000,
            preload,
        };
        let (replica, _) = Replica::recover(config, snapshot, records);
        Self {
            replica,
            wall: 0,
            out: Outbox::default(),
        }
    }

    /// One round, whose own votes come back to it at once, as after a sync.
    fn round(&mut self, inputs: impl IntoIterator<Item = Input>) {
        self.out = Outbox::default();
        for input in inputs {
            self.replica.step(input, &mut self.out);
        }
        self.replica.flush(self.wall, &mut self.out);
        let own = |(to, _): &(To, Vote)| *to == To::One(node(1));
        let votes: Vec<Vote> = (self.out.votes.iter().filter(|vote| own(vote)))
            .map(|(_, vote)| vote.clone())
            .collect();
        for vote in votes {
            let (from, message) = (node(1), Message::Vote(vote));
            self.replica
                .step(Input::Message { from, message }, &mut self.out);
        }
        self.replica.flush(self.wall, &mut self.out);
    }

    fn hears(&mut self, from: u8, message: Message) {
        let from = node(from);
        self.round([Input::Message { from, message }]);
    }

    fn notice(&mut self, from: u8, notice: Notice) {
        self.hears(from, Message::Notice(notice));
    }

    fn vote(&mut self, from: u8, vote: Vote) {
        self.hears(from, Message::Vote(vote));
    }

    fn ticks(&mut self, count: u64) {
        for _ in 0..count {
            self.round([Input::Tick]);
        }
    }

    /// What n2 tells all the time, so that n1 hears a majority.
    fn hears_n2(&mut self) {
        self.notice(
            2,
            Notice::Heartbeat(Heartbeat {
                hash: Store::new().hash(),
                ..BEAT
            }),
        );
    }

    /// The ballot that n1 prepares, as soon as it does.
    fn prepares(&mut self) -> Ballot {
        for _ in 0..200 {
            self.hears_n2();
            self.ticks(1);
            if let Some(ballot) = self.replica_ballot() {
                return ballot;
            }
        }
        panic!("it hears a majority and nobody else tries");
    }

    fn replica_ballot(&self) -> Option<Ballot> {
        self.out.records.iter().find_map(|record| match record {
            Record::Ballot(ballot) => Some(*ballot),
            _ => None,
        })
    }

    /// n2 promises, having accepted this in slots of the ballot b1.2.
    fn is_promised(&mut self, ballot: Ballot, decided: u64, accepted: &[u64]) {
        let noop = |&slot| (slot, Value::noop());
        self.is_promised_values(ballot, decided, accepted.iter().map(noop));
    }

    fn is_promised_values(
        &mut self,
        ballot: Ballot,
        decided: u64,
        accepted: impl IntoIterator<Item = (u64, Value)>,
    ) {
        let accepted = accepted.into_iter().map(|(slot, value)| Accepted {
            slot: Slot(slot),
            ballot: self::ballot(1, 2),
            value,
        });
        let promise = Promise {
            ballot,
            from: self.replica.status().decided.next(),
            decided: Slot(decided),
            next: None,
            starts: Vec::new(),
            accepted: accepted.collect(),
        };
        self.vote(2, Vote::Promise(promise));
    }

    /// It has asked this peer for values up to a slot: the answer may be an image.
    fn misses(&mut self, peer: u8, upto: u64) {
        let slot = Slot(upto);
        let beat = Heartbeat {
            decided: slot,
            applied: slot,
            ..BEAT
        };
        self.notice(peer, Notice::Heartbeat(beat));
        for _ in 0..2 * WAIT_TICKS_FIRST {
            let asks = |(to, notice): &(To, Notice)| {
                matches!(notice, Notice::Fetch { .. }) && *to == To::One(node(peer))
            };
            if self.out.now.iter().any(asks) {
                return;
            }
            self.notice(peer, Notice::Heartbeat(beat));
            self.ticks(1);
        }
        panic!("n{peer} is not asked");
    }

    /// These values are decided, from a slot on.
    fn learns(&mut self, first: u64, values: impl IntoIterator<Item = Value>) {
        let ballot = ballot(1, 2);
        let mut slot = Slot(first).previous();
        let mut inputs = Vec::new();
        let mut hear = |notice| {
            let (from, message) = (node(2), Message::Notice(notice));
            inputs.push(Input::Message { from, message });
        };
        for value in values {
            slot = slot.next();
            hear(Notice::Accept {
                ballot,
                slot,
                value,
            });
        }
        hear(Notice::Decided { ballot, upto: slot });
        self.round(inputs);
    }

    fn role(&self) -> &'static str {
        self.replica.status().role
    }

    /// The slots that were proposed in the last round.
    fn proposed(&self) -> Vec<u64> {
        let slots = self.out.now.iter().filter_map(|(_, notice)| match notice {
            Notice::Accept { slot, .. } => Some(slot.0),
            _ => None,
        });
        slots.collect()
    }

    /// Whom the last round asked for a piece of which image, and from where on.
    fn fetched_images(&self) -> Vec<(To, u64, String)> {
        let asked = self.out.now.iter().filter_map(|(to, notice)| match notice {
            Notice::FetchImage { slot, place } => Some((*to, slot.0, place.to_string())),
            _ => None,
        });
        asked.collect()
    }
}

// --- What no server sends ---

/// P9: whoever is no member, uses the ballot of another, or names a round out of reach, is not heard.
#[test]
fn forged_messages_are_ignored() {
    let promised = |from: u8, ballot| {
        let mut one = One::new(Vec::new(), None);
        let from_slot = Slot(1);
        let prepare = Vote::Prepare {
            ballot,
            from: from_slot,
        };
        one.vote(from, prepare);
        one.out.records.contains(&Record::Promise(ballot))
    };
    assert!(promised(2, ballot(5, 2)));
    assert!(!promised(3, ballot(5, 2)), "a ballot of another node");
    assert!(!promised(4, ballot(5, 4)), "no member");
    assert!(promised(2, ballot(ROUND_MAX, 2)));
    assert!(!promised(2, ballot(ROUND_MAX + 1, 2)), "out of reach");
    assert!(!promised(2, ballot(ROUND_MAX + 2, 2)), "out of reach");
}

/// P9: what two nodes were told apart they find together again, if one of them was driven up: each line
/// that is out of reach brings it nearer by a step, and none by more.
#[test]
fn a_round_out_of_reach_comes_nearer_with_each_line() {
    let mut one = One::new(Vec::new(), None);
    let far = ballot(ROUND_MAX + 3 * ROUND_STEP, 2);
    let mut tries = 0;
    while !one.out.records.contains(&Record::Promise(far)) {
        tries += 1;
        let (ballot, from) = (far, Slot(1));
        one.vote(2, Vote::Prepare { ballot, from });
    }
    assert_eq!(tries, 4);
}

/// P9: a slot far out would have to be repaired up to by every later leader.
#[test]
fn a_proposal_far_ahead_is_not_accepted() {
    for (slot, accepted) in [
        (SLOTS_AHEAD_MAX, true),
        (SLOTS_AHEAD_MAX + 1, false),
        (SLOTS_AHEAD_MAX + 2, false),
    ] {
        let mut one = One::new(Vec::new(), None);
        let (ballot, slot, value) = (ballot(1, 2), Slot(slot), Value::noop());
        one.notice(
            2,
            Notice::Accept {
                ballot,
                slot,
                value,
            },
        );
        let vote = (To::One(node(2)), Vote::Accepted { ballot, slot });
        assert_eq!(one.out.votes.contains(&vote), accepted, "{slot}");
    }
}

/// P9: a peer's word about how far all is decided is no proof.
#[test]
fn a_promise_that_tells_of_slots_far_ahead_does_not_count() {
    for (decided, counts) in [
        (SLOTS_AHEAD_MAX, true),
        (SLOTS_AHEAD_MAX + 1, false),
        (SLOTS_AHEAD_MAX + 2, false),
    ] {
        let mut one = One::new(Vec::new(), None);
        let ballot = one.prepares();
        one.is_promised(ballot, decided, &[]);
        assert_eq!(one.role() == "leader", counts, "{decided}");
    }
    for (told, counts) in [(SLOTS_AHEAD_MAX, true), (SLOTS_AHEAD_MAX + 1, false)] {
        let mut one = One::new(Vec::new(), None);
        let ballot = one.prepares();
        one.is_promised(ballot, 0, &[told]);
        assert_eq!(one.role() == "leader", counts, "{told}");
    }
}

/// P7: a refusal of a ballot that is over says nothing about the one of now.
#[test]
fn only_a_refusal_of_its_own_ballot_ends_a_leadership() {
    let mut one = One::new(Vec::new(), None);
    // Some round is over.
    let (from, prepared) = (Slot(1), ballot(7, 2));
    let prepare = Vote::Prepare {
        ballot: prepared,
        from,
    };
    one.vote(2, prepare);
    let own = one.prepares();
    one.is_promised(own, 0, &[]);
    assert_eq!(one.role(), "leader");
    let nack = |refused, promised| Notice::Nack { refused, promised };
    one.notice(2, nack(ballot(own.round - 1, 1), ballot(own.round, 2)));
    assert_eq!(one.role(), "leader");
    one.notice(2, nack(own, own));
    assert_eq!(one.role(), "leader", "it was promised to this very node");
    one.notice(2, nack(own, ballot(own.round + 1, 2)));
    assert_eq!(one.role(), "follower");
}

#[test]
fn an_alarm_is_told_once() {
    let mut out = Outbox::default();
    out.alarms.push("what must not happen".into());
    log_alarms(&mut out);
    assert!(out.alarms.is_empty());
}

/// I5: whoever applied as much has the same state. Told once of each peer.
#[test]
fn a_peer_with_another_state_is_an_alarm() {
    let mut one = One::new(Vec::new(), None);
    one.learns(1, [value(large(1))]);
    let hash = filled(1).hash();
    assert_eq!(one.replica.status().hash, hash);
    let tells = |applied, hash| {
        Notice::Heartbeat(Heartbeat {
            applied: Slot(applied),
            hash,
            ..BEAT
        })
    };
    for (from, applied, hash, alarms) in [
        (2, 1, hash, 0),
        (2, 2, hash + 1, 0),
        (2, 1, hash + 1, 1),
        (2, 1, hash + 1, 0),
        (3, 1, hash + 1, 1),
    ] {
        one.notice(from, tells(applied, hash));
        assert_eq!(one.out.alarms.len(), alarms, "n{from} at s{applied}");
    }
}

/// A failed acceptor is told to the peers, who then do not count on it.
#[test]
fn a_failed_acceptor_is_told() {
    let mut one = One::new(Vec::new(), None);
    let mut told = |inputs: Vec<Input>| {
        one.round(inputs);
        one.out.now.iter().find_map(|(_, notice)| match notice {
            Notice::Heartbeat(beat) => Some(beat.acceptor_up),
            _ => None,
        })
    };
    assert_eq!(told(vec![Input::LinkUp(node(2))]), Some(true));
    let failed = vec![Input::AcceptorFailed, Input::LinkUp(node(2))];
    assert_eq!(told(failed), Some(false));
}

/// What was sent on a link that broke may be lost: the leader gets it again as soon as it is back.
#[test]
fn a_leader_whose_link_is_back_is_sent_all_that_is_open() {
    let mut one = One::new(Vec::new(), None);
    one.notice(
        2,
        Notice::Heartbeat(Heartbeat {
            stance: Stance::Leading(ballot(5, 2)),
            ..BEAT
        }),
    );
    let sent = |one: &One| {
        let propose = |(_, notice): &(To, Notice)| matches!(notice, Notice::Propose { .. });
        one.out.now.iter().filter(|sent| propose(sent)).count()
    };
    let (ticket, command) = (Ticket(1), put("k"));
    one.round([Input::Write { ticket, command }]);
    assert_eq!(sent(&one), 1);
    one.round([Input::LinkUp(node(3))]);
    assert_eq!(sent(&one), 0);
    one.round([Input::LinkUp(node(2))]);
    assert_eq!(sent(&one), 1);
}

/// P25: who was away long is not left to its ticks, of which each would bring a piece.
#[test]
fn the_next_piece_of_a_log_is_fetched_as_soon_as_one_came() {
    let mut one = One::new(Vec::new(), None);
    for peer in [2, 3] {
        one.notice(
            peer,
            Notice::Heartbeat(Heartbeat {
                decided: Slot(9),
                ..BEAT
            }),
        );
    }
    // Time enough to ask both, and too little for them to be silent.
    one.ticks(WAIT_TICKS_FIRST + 5);
    let mut fetched = |from: u8, first: u64, count: u64| {
        let values = (first..first + count).map(|slot| value(large(slot)));
        one.notice(
            from,
            Notice::Fetched {
                from: Slot(first),
                values: values.collect(),
            },
        );
        one.out.now.iter().find_map(|(to, notice)| match notice {
            Notice::Fetch { from, upto } => Some((*to, from.0, upto.0)),
            _ => None,
        })
    };
    assert_eq!(fetched(2, 1, 3), Some((To::One(node(2)), 4, 9)));
    assert_eq!(fetched(3, 1, 3), None, "a piece that was here before");
    assert_eq!(fetched(3, 4, 1), Some((To::One(node(3)), 5, 9)));
    assert_eq!(fetched(3, 5, 5), None, "nothing is missing");
    assert_eq!(fetched(2, 10, 1), None);
    let decided = one.replica.status().decided;
    assert_eq!(decided, Slot(9), "nobody was asked for more");
}

// --- Leading ---

/// P6: a ballot counts as used once it is recorded, also where the own acceptor had failed and has not
/// promised it.
#[test]
fn a_ballot_that_only_the_others_promised_is_not_used_again() {
    let used = ballot(7, 1);
    let mut one = One::recover(
        Vec::new(),
        None,
        &[Record::Sound(Slot::ZERO), Record::Ballot(used)],
    );
    assert_eq!(one.prepares(), ballot(8, 1));
}

/// *Paxos Made Simple* 3: at most alpha slots are open; what comes then waits and shares a slot.
#[test]
fn a_leader_keeps_a_bounded_number_of_slots_open() {
    let mut one = One::new(Vec::new(), None);
    let ballot = one.prepares();
    one.is_promised(ballot, 0, &[]);
    let mut slots = Vec::new();
    for number in 1..=40 {
        let (ticket, command) = (Ticket(number), put("k"));
        one.round([Input::Write { ticket, command }]);
        slots.extend(one.proposed());
    }
    assert_eq!(slots, (1..=OPEN_SLOTS_MAX as u64).collect::<Vec<_>>());
    assert!(!one.replica.is_idle());
    // The next one opens with all that waited.
    let slot = Slot(1);
    one.vote(2, Vote::Accepted { ballot, slot });
    assert_eq!(one.proposed(), [OPEN_SLOTS_MAX as u64 + 1]);
}

#[test]
fn nobody_waits_once_all_are_answered() {
    let mut one = One::new(Vec::new(), None);
    assert!(one.replica.is_idle());
    let ballot = one.prepares();
    one.is_promised(ballot, 0, &[]);
    one.round([Input::Read { ticket: Ticket(1) }]);
    assert!(!one.replica.is_idle(), "a reader waits for a majority");
    let ticket = Ticket(2);
    one.round([Input::Write {
        ticket,
        command: put("k"),
    }]);
    let slot = Slot(1);
    one.vote(2, Vote::Accepted { ballot, slot });
    assert!(matches!(
        one.out.answers[..],
        [(Ticket(2), Answer::Done(_))]
    ));
    assert!(!one.replica.is_idle(), "the reader waits still");
}

/// A reader's wish may be forged: how much a leader fills with no-ops for it has a bound, however many
/// slots there are.
#[test]
fn a_leader_finishes_a_bounded_number_of_slots_for_a_reader() {
    let mut one = One::new(Vec::new(), None);
    let ballot = one.prepares();
    one.is_promised(ballot, 0, &[]);
    let finish = |upto| Notice::Finish { upto: Slot(upto) };
    one.notice(2, finish(5));
    assert_eq!(one.proposed(), (1..=5).collect::<Vec<_>>());
    one.notice(2, finish(5));
    assert_eq!(one.proposed(), [], "all of them have a value");
    one.notice(2, finish(50_000));
    assert_eq!(one.proposed(), (6..=FINISH_SLOTS_MAX).collect::<Vec<_>>());
    one.notice(2, finish(50_000));
    assert_eq!(one.proposed(), [], "none of them is decided yet");
}

/// The pre-loaded commands belong to an empty log; a later leader leaves them alone.
#[test]
fn only_the_leader_of_an_empty_log_proposes_what_is_preloaded() {
    for (decided, accepted, proposed) in [
        (0, &[][..], vec![1]),
        (0, &[1][..], vec![1]),
        (3, &[][..], vec![]),
        (3, &[4][..], vec![4]),
    ] {
        let mut one = One::new(vec![put("apple")], None);
        let ballot = one.prepares();
        one.is_promised(ballot, decided, accepted);
        assert_eq!(one.proposed(), proposed, "{decided} {accepted:?}");
    }
}

/// P17: only a phase 1 finds slots that a leader took for decided before it began. Those after it will
/// propose itself, and goes on leading.
#[test]
fn a_leader_that_can_propose_what_is_missing_leads_on() {
    let mut one = One::new(Vec::new(), None);
    let ballot = one.prepares();
    one.is_promised(ballot, 0, &[]);
    one.notice(
        3,
        Notice::Heartbeat(Heartbeat {
            decided: Slot(1),
            ..BEAT
        }),
    );
    for _ in 0..300 {
        one.hears_n2();
        one.ticks(1);
        assert_eq!(one.role(), "leader");
    }
}

// --- Keys that end ---

/// Proposed values with their slots, as text.
fn batches(one: &One) -> Vec<(u64, String)> {
    let accepts = one.out.now.iter().filter_map(|(_, notice)| match notice {
        Notice::Accept { slot, value, .. } => Some((slot.0, value.to_string())),
        _ => None,
    });
    accepts.collect()
}

/// A round of the leader at a time of its clock, and what it proposes then.
fn proposed_at(one: &mut One, wall: Millis) -> Vec<(u64, String)> {
    one.wall = wall;
    one.round([]);
    batches(one)
}

/// P26: a key ends by a slot, also where nobody writes; and one slot does it.
#[test]
fn a_leader_ends_keys_where_nobody_writes() {
    let mut one = One::new(Vec::new(), None);
    one.wall = 1_000;
    let ballot = one.prepares();
    let set = value("at 1000 ; n2.1.1 set k v any in 50 ; n2.1.2 set l v any in 60");
    one.is_promised_values(ballot, 0, [(1, set)]);
    let accepted = |slot| {
        let slot = Slot(slot);
        Vote::Accepted { ballot, slot }
    };
    one.vote(2, accepted(1));
    assert_eq!(proposed_at(&mut one, 1_050), []);
    assert_eq!(proposed_at(&mut one, 1_051), [(2, "at 1051".into())]);
    assert_eq!(proposed_at(&mut one, 1_061), [], "a stamp is on its way");
    let keys = |one: &One| one.replica.status().keys;
    assert_eq!(keys(&one), 2);
    one.vote(2, accepted(2));
    assert_eq!(
        (keys(&one), batches(&one)),
        (1, vec![(3, "at 1061".into())])
    );
    one.vote(2, accepted(3));
    assert_eq!((keys(&one), batches(&one)), (0, vec![]));
    assert_eq!(proposed_at(&mut one, 9_000), [], "nothing else ends");
}

/// What one slot does not remove, the next ones do, one after another.
#[test]
fn keys_that_end_together_take_as_many_slots_as_it_needs() {
    let sets: Vec<String> = (1..=2_500)
        .map(|n| format!("n2.1.{n} set k{n} v any in 50"))
        .collect();
    let set = value(format!("at 1000 ; {}", sets.join(" ; ")));
    let mut one = One::new(Vec::new(), None);
    one.wall = 1_000;
    let ballot = one.prepares();
    one.is_promised_values(ballot, 0, [(1, set)]);
    let mut left = Vec::new();
    one.wall = 1_051;
    for slot in (1..=4).map(Slot) {
        one.vote(2, Vote::Accepted { ballot, slot });
        left.push((one.replica.status().keys, batches(&one)));
    }
    assert_eq!(
        left,
        [
            (2_500, vec![(2, "at 1051".into())]),
            (1_500, vec![(3, "noop".into())]),
            (500, vec![(4, "noop".into())]),
            (0, vec![]),
        ]
    );
}

/// P26: a leader whose clock is behind the stamps that it found in the log goes on from those.
#[test]
fn a_leader_that_is_behind_ends_keys_by_the_time_of_the_log() {
    let mut one = One::new(Vec::new(), None);
    one.wall = 1_000;
    let ballot = one.prepares();
    let set = value("at 5000 ; n2.1.1 set k v any in 19");
    one.is_promised_values(ballot, 0, [(1, set)]);
    let slot = Slot(1);
    one.vote(2, Vote::Accepted { ballot, slot });
    one.ticks(1);
    assert_eq!(batches(&one), []);
    one.ticks(1);
    assert_eq!(batches(&one), [(2, "at 5020".into())]);
}

/// What a snapshot holds ends too, whether it was there at the start or came from a peer.
#[test]
fn keys_of_a_snapshot_end() {
    let mut image = Store::new();
    let set = Batch::read(b"at 1000 ; n2.1.1 set k v any in 50");
    image.apply(1, &set, |_, _| {});
    let mut began = One::new(Vec::new(), Some(image.clone()));
    let mut fetched = One::new(Vec::new(), None);
    fetched.misses(2, 1);
    fetched.notice(2, piece(&image, &Place::START).0);
    let kept = fetched.out.keep.clone().expect("the image");
    fetched.round([Input::Kept(kept)]);
    for one in [&mut began, &mut fetched] {
        let ballot = one.prepares();
        one.is_promised(ballot, 1, &[]);
        assert_eq!(proposed_at(one, 1_050), []);
        assert_eq!(proposed_at(one, 1_051), [(2, "at 1051".into())]);
    }
}

// --- Images ---

/// The state after so many slots, of which each has set a key to a text of 50,000 bytes: four or more
/// make several pieces.
fn filled(slots: u64) -> Store {
    let mut store = Store::new();
    for slot in 1..=slots {
        store.apply(slot, &Batch::read(&large(slot)), |_, _| {});
    }
    store
}

fn large(slot: u64) -> Vec<u8> {
    format!("n2.1.{slot} put key{slot} {}", "v".repeat(50_000)).into_bytes()
}

fn begin() -> Value {
    value(Place::START.to_string())
}

fn fetch(slot: u64, place: &Value) -> Notice {
    let (slot, place) = (Slot(slot), place.clone());
    Notice::FetchImage { slot, place }
}

/// The piece of this image from a place on.
fn piece(image: &Store, place: &Place) -> (Notice, Option<Place>) {
    let (lines, next) = image.piece(place, 100_000);
    let notice = Notice::Image {
        slot: Slot(image.applied()),
        place: value(place.to_string()),
        next: next.as_ref().map(|next| value(next.to_string())),
        lines: lines.into_iter().map(value).collect(),
    };
    (notice, next)
}

/// The slot, the place and the next place of the piece that n1 sent.
fn sent(one: &One) -> (u64, Value, Option<Value>) {
    let mut pieces = one.out.now.iter().filter_map(|(_, notice)| match notice {
        Notice::Image {
            slot, place, next, ..
        } => Some((slot.0, place.clone(), next.clone())),
        _ => None,
    });
    pieces.next().expect("a piece of an image")
}

/// P21: the image that someone fetches stays, and is gone on with where he was, while service goes on.
#[test]
fn an_image_is_sent_to_its_end_though_the_store_moves_on() {
    let mut one = One::new(Vec::new(), Some(filled(5)));
    one.notice(2, fetch(0, &begin()));
    let (slot, place, next) = sent(&one);
    assert_eq!((slot, place), (5, begin()));
    let next = next.expect("several pieces");
    one.learns(6, [value(large(6))]);
    assert_eq!(one.replica.status().applied, Slot(6));
    one.notice(2, fetch(5, &next));
    assert_eq!((sent(&one).0, sent(&one).1), (5, next.clone()));
    // Who begins now may have the same one: what comes after it can be had as values.
    one.notice(3, fetch(0, &begin()));
    assert_eq!(sent(&one).0, 5);
    // An image that is gone begins anew, as what it is now.
    one.notice(3, fetch(4, &next));
    assert_eq!((sent(&one).0, sent(&one).1), (6, begin()));
    // So does one behind which values are trimmed.
    one.learns(7, (7..=150).map(|slot| value(large(slot))));
    one.round([Input::Snapshot(Wanted::Now)]);
    let image = one.out.keep.clone().expect("a snapshot");
    one.round([Input::Kept(image)]);
    one.notice(3, fetch(0, &begin()));
    assert_eq!(sent(&one).0, 150);
}

#[test]
fn who_has_applied_nothing_has_no_image() {
    let mut one = One::new(Vec::new(), None);
    one.notice(2, fetch(0, &begin()));
    let images = |(_, notice): &(To, Notice)| matches!(notice, Notice::Image { .. });
    assert!(!one.out.now.iter().any(images));
}

/// An image that nobody asks for keeps what the store has changed since; so it is let go in the end.
#[test]
fn an_image_that_nobody_asks_for_is_let_go() {
    for (ticks, slot) in [(999, 5), (1_000, 6)] {
        let mut one = One::new(Vec::new(), Some(filled(5)));
        one.ticks(7);
        one.notice(2, fetch(0, &begin()));
        one.learns(6, [value(large(6))]);
        one.ticks(ticks);
        one.notice(2, fetch(0, &begin()));
        assert_eq!(sent(&one).0, slot, "after {ticks} ticks");
    }
}

/// Whoever runs a replica drops what may be large where nobody waits: every store that was replaced or
/// emptied, and every image that nobody needs, is handed out.
#[test]
fn what_may_be_large_is_handed_out_to_be_dropped() {
    let spent = |one: &One| -> Vec<u64> { one.out.spent.iter().map(Store::applied).collect() };
    let clear = |slot: u64| value(format!("n2.1.{slot} exec 0 1 clear"));
    // Two slots that clear, learned in one round.
    let mut one = One::new(Vec::new(), Some(filled(5)));
    one.learns(6, [clear(6), value(large(7)), clear(8)]);
    assert_eq!(one.replica.status().applied, Slot(8));
    assert_eq!(spent(&one), [5, 6]);
    // An image that nobody asks for any more.
    one.notice(2, fetch(0, &begin()));
    let mut given_up = Vec::new();
    for _ in 0..1_000 {
        one.ticks(1);
        given_up.extend(spent(&one));
    }
    assert_eq!(given_up, [8]);
    // One that is not the one that is asked for.
    one.notice(2, fetch(0, &begin()));
    one.notice(2, fetch(7, &begin()));
    assert_eq!(spent(&one), [8]);
    // What has come of an image whose rest never comes.
    let image = filled(20);
    one.misses(2, 20);
    one.notice(2, piece(&image, &Place::START).0);
    assert_eq!(one.fetched_images().len(), 1, "more is to come");
    let mut given_up = Vec::new();
    for _ in 0..500 {
        one.ticks(1);
        given_up.extend(spent(&one));
    }
    assert_eq!(given_up, [20]);
    // And the store that an image replaces.
    let mut one = One::new(Vec::new(), Some(filled(1)));
    let mut image = Store::new();
    for slot in 1..=2 {
        image.apply(slot, &Batch::read(b""), |_, _| {});
    }
    one.misses(2, 2);
    one.notice(2, piece(&image, &Place::START).0);
    let kept = one.out.keep.clone().expect("the image");
    one.round([Input::Kept(kept)]);
    assert_eq!(spent(&one), [1]);
}

/// A snapshot that would hold nothing new is not taken, but as soon as something is.
#[test]
fn a_snapshot_is_taken_once_of_each_state() {
    let mut one = One::new(Vec::new(), Some(filled(5)));
    one.round([Input::Snapshot(Wanted::Now)]);
    assert_eq!(one.out.keep, None, "it began with that one");
    one.learns(6, [value(large(6))]);
    let image = one.out.keep.clone().expect("what was wanted");
    assert_eq!(image.applied(), 6);
    one.round([Input::Snapshot(Wanted::Now), Input::Tick]);
    assert_eq!(one.out.keep, None, "one is under way");
    one.round([Input::Kept(image)]);
    assert_eq!(one.out.keep, None, "nothing is new");
}

/// Servers take turns with their snapshots, so that they do not slow each other down.
#[test]
fn a_snapshot_waits_for_a_server_that_writes_one_unless_it_is_urgent() {
    let beat = |saving| Notice::Heartbeat(Heartbeat { saving, ..BEAT });
    let told = |one: &One| {
        let beats = one.out.now.iter().filter_map(|(_, notice)| match notice {
            Notice::Heartbeat(beat) => Some(beat.saving),
            _ => None,
        });
        beats.collect::<Vec<_>>()
    };
    for urgent in [false, true] {
        let mut one = One::new(Vec::new(), Some(filled(5)));
        one.learns(6, [value(large(6))]);
        one.notice(3, beat(true));
        one.round([Input::Snapshot(Wanted::Turn(8))]);
        assert_eq!(one.out.keep, None, "n3 writes one");
        if urgent {
            one.round([Input::Snapshot(Wanted::Now)]);
        } else {
            one.notice(2, beat(false));
            assert_eq!(one.out.keep, None, "n3 still does");
            one.notice(3, beat(false));
        }
        let image = one.out.keep.clone().expect("its turn");
        assert_eq!(told(&one), [true], "the others hear at once");
        one.round([Input::Kept(image)]);
        assert_eq!(told(&one), [false]);
    }
    // The turn of n1 is the first; of one that is silent nobody knows what it does.
    let mut one = One::new(Vec::new(), Some(filled(5)));
    one.learns(6, [value(large(6))]);
    one.notice(3, beat(true));
    one.round([Input::Snapshot(Wanted::Turn(0))]);
    assert_eq!(one.out.keep, None);
    for _ in 0..1_000 {
        one.round([Input::Tick]);
        if one.out.keep.is_some() {
            return;
        }
    }
    panic!("n3 is silent, and n1 waits for it");
}

/// P22, P25: an image comes piece by piece, from one peer, and becomes the store once it is durable.
#[test]
fn an_image_is_fetched_piece_by_piece_from_one_peer() {
    let image = filled(5);
    let mut one = One::new(Vec::new(), None);
    let (first, next) = piece(&image, &Place::START);
    let next = next.expect("several pieces");
    let ask = (To::One(node(2)), 5, next.to_string());
    one.notice(2, first.clone());
    assert_eq!(one.fetched_images(), [], "nobody was asked");
    one.misses(3, 5);
    one.misses(2, 5);
    one.notice(2, first.clone());
    assert_eq!(one.fetched_images(), std::slice::from_ref(&ask));
    one.notice(3, first.clone());
    assert_eq!(one.fetched_images(), [], "another peer waits");
    one.notice(2, piece(&image, &next).0.clone());
    let (_, third) = piece(&image, &next);
    let third = third.expect("three pieces");
    assert_eq!(one.fetched_images()[0].2, third.to_string());
    one.notice(2, piece(&image, &next).0);
    assert_eq!(one.fetched_images(), [], "what comes twice is nothing");
    let mut place = Some(third);
    while let Some(at) = place {
        let (notice, next) = piece(&image, &at);
        one.notice(2, notice);
        place = next;
    }
    let kept = one.out.keep.clone().expect("the image");
    assert_eq!(*kept, image);
    assert_eq!(one.replica.status().applied, Slot::ZERO, "not durable yet");
    one.notice(2, first);
    assert_eq!(one.fetched_images(), [], "one is being made durable");
    one.round([Input::Kept(Arc::clone(&kept))]);
    assert_eq!(one.replica.status().applied, Slot(5));
    assert_eq!(one.replica.status().hash, image.hash());
    one.notice(3, piece(&filled(4), &Place::START).0);
    assert_eq!(one.fetched_images(), [], "what is older is nothing (P22)");
}

/// A peer that falls silent is asked again, and in the end another one may send its image.
#[test]
fn a_piece_that_does_not_come_is_asked_for_again() {
    let image = filled(5);
    let mut one = One::new(Vec::new(), None);
    one.ticks(7);
    let (first, next) = piece(&image, &Place::START);
    let ask = (To::One(node(2)), 5, next.expect("several").to_string());
    one.misses(2, 5);
    one.notice(2, first.clone());
    let mut asked = Vec::new();
    for tick in 1..600 {
        one.ticks(1);
        if !one.fetched_images().is_empty() {
            assert_eq!(one.fetched_images(), std::slice::from_ref(&ask));
            asked.push(tick);
        }
        if tick < 500 {
            one.notice(3, first.clone());
            assert_eq!(one.fetched_images(), [], "at {tick}");
        }
    }
    let waits: Vec<u64> = asked.windows(2).map(|two| two[1] - two[0]).collect();
    assert!(
        waits.is_sorted() && waits.last() == Some(&DOUBLED_TICKS_MAX),
        "{asked:?}"
    );
    one.misses(3, 5);
    one.notice(3, first);
    assert_eq!(one.fetched_images()[0].0, To::One(node(3)));
    // A sender that began anew sends another image from its start.
    let newer = filled(6);
    one.notice(3, piece(&newer, &Place::START).0);
    assert_eq!(one.fetched_images()[0].1, 6);
}

/// An image of another slot than it was said to be would make a store that is not the log's (I5).
#[test]
fn an_image_of_another_slot_is_an_alarm() {
    let image = filled(1);
    let mut one = One::new(Vec::new(), None);
    let (mut notice, _) = piece(&image, &Place::START);
    if let Notice::Image { slot, .. } = &mut notice {
        *slot = Slot(9);
    }
    one.misses(2, 9);
    one.notice(2, notice);
    assert_eq!(one.out.alarms.len(), 1, "{:?}", one.out.alarms);
    assert_eq!(one.out.keep, None);
}

/// What an image brings is not fetched as values too; and once it is there, values go on.
#[test]
fn values_are_not_fetched_while_an_image_comes() {
    let image = filled(5);
    let fetches = |one: &mut One| {
        let mut count = 0;
        for _ in 0..30 {
            one.notice(
                2,
                Notice::Heartbeat(Heartbeat {
                    decided: Slot(9),
                    applied: Slot(9),
                    ..BEAT
                }),
            );
            one.ticks(1);
            let fetch = |(_, notice): &(To, Notice)| matches!(notice, Notice::Fetch { .. });
            count += one.out.now.iter().filter(|sent| fetch(sent)).count();
        }
        count
    };
    let mut one = One::new(Vec::new(), None);
    assert!(fetches(&mut one) > 0);
    one.notice(2, piece(&image, &Place::START).0);
    assert_eq!(fetches(&mut one), 0, "a piece came");
    let mut place = piece(&image, &Place::START).1;
    while let Some(at) = place {
        let (notice, next) = piece(&image, &at);
        one.notice(2, notice);
        place = next;
    }
    let kept = one.out.keep.clone().expect("the image");
    assert_eq!(fetches(&mut one), 0, "it is being made durable");
    one.round([Input::Kept(kept)]);
    assert!(fetches(&mut one) > 0);
}
