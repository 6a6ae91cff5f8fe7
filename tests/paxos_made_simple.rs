//! *Paxos Made Simple* (Lamport, 2001), condition by condition, each as a claim about the roles.
//!
//! The paper's words stand over each test. It speaks of one value being chosen by one instance;
//! here each slot is an instance (section 3), and the word for chosen is decided. P1, P2, P2a, P2b and P2c
//! are the paper's conditions here, of section 2.2, and not rows of `tests/pitfalls.md`.

mod common;

use std::collections::BTreeSet;

use common::cluster::{Cluster, Event, Settings, members, node};
use quince::kv::batch::parse_batch;
use quince::kv::command::Command;
use quince::outbox::Answer;
use quince::paxos::acceptor::{Acceptor, Refusal};
use quince::paxos::learner::Learner;
use quince::paxos::message::{Accepted, Message, Notice, Promise, Vote};
use quince::paxos::proposer::{Elected, Promised, Proposal, Proposer};
use quince::paxos::quorum::Votes;
use quince::paxos::record::Record;
use quince::paxos::types::{Ballot, NodeId, Slot, Value};
use quince::replica::Input;

const S1: Slot = Slot(1);

fn ballot(round: u64, number: u8) -> Ballot {
    Ballot::new(round, node(number))
}

fn value(text: &str) -> Value {
    Value::new(text.as_bytes()).expect("a value")
}

fn accepted(slot: u64, ballot: Ballot, text: &str) -> Accepted {
    Accepted {
        slot: Slot(slot),
        ballot,
        value: value(text),
    }
}

/// A promise that tells everything from `from` on, with nothing decided before.
fn promise(ballot: Ballot, from: u64, accepted: Vec<Accepted>) -> Promise {
    Promise {
        ballot,
        from: Slot(from),
        decided: Slot(from).previous(),
        next: None,
        starts: Vec::new(),
        accepted,
    }
}

/// What a proposer of three nodes may propose, once two of them promised so.
fn elected(ballot: Ballot, from: u64, promises: [Vec<Accepted>; 2]) -> (Proposer, Elected) {
    let mut proposer = Proposer::default();
    proposer.prepare(ballot, Slot(from));
    for (accepted, number) in promises.into_iter().zip(1..) {
        let promise = promise(ballot, from, accepted);
        let told = proposer.on_promise(node(number), promise, &members(3), 0);
        if let Promised::Elected(elected) = told {
            return (proposer, elected);
        }
    }
    panic!("two of three are a majority");
}

fn proposed(elected: &Elected) -> Vec<(u64, String)> {
    let proposals = elected.proposals.iter();
    proposals
        .map(|proposal| (proposal.slot.0, proposal.value.to_string()))
        .collect()
}

// --- Section 2.1 and 2.2: choosing a value ---

/// 2.1: "Because any two majorities have at least one acceptor in common, this works if an acceptor
/// can accept at most one value."
#[test]
fn any_two_majorities_have_an_acceptor_in_common() {
    for size in [1, 3, 5, 7, 9] {
        let all: Vec<NodeId> = members(size).iter().collect();
        let subsets: Vec<Votes> = (0..1_u32 << size)
            .map(|bits| {
                let chosen = all.iter().zip(0..).filter(|(_, at)| bits & (1 << at) != 0);
                chosen.map(|(&node, _)| node).collect()
            })
            .filter(|votes: &Votes| votes.is_majority_of(&members(size)))
            .collect();
        for one in &subsets {
            for other in &subsets {
                let common = all.iter().any(|&n| one.contains(n) && other.contains(n));
                assert!(common, "{one:?} and {other:?}");
            }
        }
    }
}

/// P1: "An acceptor must accept the first proposal that it receives."
#[test]
fn p1_an_acceptor_accepts_the_first_proposal_that_it_receives() {
    for first in [ballot(1, 1), ballot(9, 3)] {
        let mut acceptor = Acceptor::default();
        assert_eq!(acceptor.on_accept(first, S1, &value("v")), Ok(()));
        assert_eq!(acceptor.accepted_ballot(S1), Some(first));
    }
}

/// P1a: "An acceptor can accept a proposal numbered n iff it has not responded to a prepare request
/// having a number greater than n."
#[test]
fn p1a_an_acceptor_accepts_iff_it_promised_nothing_higher() {
    for promised in 1..=4 {
        for proposed in 1..=4 {
            let mut acceptor = Acceptor::default();
            let prepared = acceptor.on_prepare(ballot(promised, 1), S1, Slot::ZERO);
            assert!(prepared.is_ok());
            let answer = acceptor.on_accept(ballot(proposed, 1), S1, &value("v"));
            assert_eq!(
                answer.is_ok(),
                proposed >= promised,
                "{proposed} {promised}"
            );
        }
    }
}

/// One thing that may happen in the small world below.
#[derive(Debug, Clone, Copy)]
enum Act {
    /// The proposer prepares at the acceptor, and gets its promise.
    Prepare(usize, usize),
    /// The acceptor gets the proposer's proposal.
    Accept(usize, usize),
}

/// Three acceptors and three proposers, of rising ballots and different wishes, in one slot.
struct World {
    acceptors: [Acceptor; 3],
    proposers: [Proposer; 3],
    issued: [Option<Value>; 3],
    /// Which acceptors ever accepted which proposal.
    accepted: [BTreeSet<usize>; 3],
}

impl World {
    fn ballot(proposer: usize) -> Ballot {
        let number = u8::try_from(proposer + 1).expect("few proposers");
        ballot(u64::from(number), number)
    }

    fn after(acts: &[Act]) -> Self {
        let mut world = Self {
            acceptors: Default::default(),
            proposers: Default::default(),
            issued: [const { None }; 3],
            accepted: Default::default(),
        };
        for (at, proposer) in world.proposers.iter_mut().enumerate() {
            proposer.prepare(Self::ballot(at), S1);
        }
        for &act in acts {
            world.act(act);
        }
        world
    }

    fn act(&mut self, act: Act) {
        match act {
            Act::Prepare(p, a) => {
                let promise = self.acceptors[a].on_prepare(Self::ballot(p), S1, Slot::ZERO);
                let Ok(promise) = promise else { return };
                let from = node(u8::try_from(a + 1).expect("few acceptors"));
                let told = self.proposers[p].on_promise(from, promise, &members(3), 0);
                if let Promised::Elected(elected) = told {
                    let leading = self.proposers[p].leading().expect("it was elected");
                    let mut proposals = elected.proposals.into_iter();
                    let first = proposals.next();
                    let proposal =
                        first.unwrap_or_else(|| leading.propose(value(&format!("wish {p}")), 0));
                    assert_eq!(proposal.slot, S1);
                    self.issued[p] = Some(proposal.value);
                }
            }
            Act::Accept(p, a) => {
                let Some(value) = &self.issued[p] else { return };
                let answer = self.acceptors[a].on_accept(Self::ballot(p), S1, value);
                if answer.is_ok() {
                    self.accepted[p].insert(a);
                }
            }
        }
    }

    fn is_decided(&self, proposer: usize) -> bool {
        self.accepted[proposer].len() >= 2
    }

    /// All worlds that any order of acts leads to.
    fn all(mut look: impl FnMut(&Self)) -> usize {
        let mut seen = BTreeSet::new();
        let mut todo: Vec<Vec<Act>> = vec![Vec::new()];
        while let Some(acts) = todo.pop() {
            let world = Self::after(&acts);
            let key = format!(
                "{:?}",
                (&world.acceptors, &world.proposers, &world.accepted)
            );
            if !seen.insert(key) {
                continue;
            }
            look(&world);
            for p in 0..3 {
                for a in 0..3 {
                    let act = match world.issued[p] {
                        Some(_) => Act::Accept(p, a),
                        None => Act::Prepare(p, a),
                    };
                    todo.push([acts.as_slice(), &[act]].concat());
                }
            }
        }
        seen.len()
    }
}

/// P2: "If a proposal with value v is chosen, then every higher-numbered proposal that is chosen
/// has value v." P2a: "... that is accepted by any acceptor has value v." P2b: "... issued by any
/// proposer has value v." In every order in which three proposers may prepare and propose at three
/// acceptors, with any messages lost.
#[test]
fn p2_p2a_p2b_after_a_decision_no_other_value_is_decided_accepted_or_proposed() {
    let mut decided = 0;
    let worlds = World::all(|world| {
        for low in (0..3).filter(|&p| world.is_decided(p)) {
            decided += 1;
            for high in low + 1..3 {
                let Some(issued) = &world.issued[high] else {
                    continue;
                };
                let same = Some(issued) == world.issued[low].as_ref();
                assert!(same || !world.is_decided(high), "P2");
                assert!(same || world.accepted[high].is_empty(), "P2a");
                assert!(same, "P2b");
            }
        }
    });
    assert!(
        worlds > 1_000 && decided > 1_000,
        "{worlds} worlds, {decided} decisions"
    );
}

/// P2c: "For any v and n, if a proposal with value v and number n is issued, then there is a set S
/// consisting of a majority of acceptors such that either (a) no acceptor in S has accepted any
/// proposal numbered less than n, or (b) v is the value of the highest-numbered proposal among all
/// proposals numbered less than n accepted by the acceptors in S."
#[test]
fn p2c_every_proposal_has_a_majority_that_allows_it() {
    const MAJORITIES: [[usize; 2]; 3] = [[0, 1], [0, 2], [1, 2]];
    World::all(|world| {
        for n in 0..3 {
            let Some(issued) = &world.issued[n] else {
                continue;
            };
            let allowed = MAJORITIES.iter().any(|set| {
                let of_set = |&low: &usize| set.iter().any(|a| world.accepted[low].contains(a));
                let highest = (0..n).rev().find(of_set);
                highest.is_none_or(|low| world.issued[low].as_ref() == Some(issued))
            });
            assert!(allowed, "P2c: {issued} under {}", World::ballot(n));
        }
    });
}

/// 2.2, phase 1b: an acceptor responds with "a promise never again to accept a proposal numbered
/// less than n, and the proposal with the highest number less than n that it has accepted, if any".
#[test]
fn phase_1b_a_promise_tells_the_highest_accepted_proposal_and_binds() {
    let mut acceptor = Acceptor::default();
    acceptor.on_accept(ballot(1, 1), S1, &value("old")).unwrap();
    acceptor.on_accept(ballot(2, 2), S1, &value("new")).unwrap();
    let told = acceptor.on_prepare(ballot(5, 3), S1, Slot::ZERO);
    let highest = vec![accepted(1, ballot(2, 2), "new")];
    assert_eq!(told, Ok(promise(ballot(5, 3), 1, highest)));
    let lower = acceptor.on_accept(ballot(4, 2), S1, &value("late"));
    assert_eq!(lower, Err(Refusal::Promised(ballot(5, 3))));
}

/// 2.2: "Suppose an acceptor receives a prepare request numbered n, but it has already responded to
/// a prepare request numbered greater than n ... there is no reason for the acceptor to respond to
/// the new prepare request." It tells the other number instead, so that the proposer gives up.
#[test]
fn phase_1b_a_lower_prepare_is_refused_and_an_equal_one_answered_again() {
    let mut acceptor = Acceptor::default();
    let first = acceptor.on_prepare(ballot(5, 3), S1, Slot::ZERO);
    let lower = acceptor.on_prepare(ballot(4, 1), S1, Slot::ZERO);
    assert_eq!(lower, Err(Refusal::Promised(ballot(5, 3))));
    assert_eq!(acceptor.on_prepare(ballot(5, 3), S1, Slot::ZERO), first);
}

/// 2.2, phase 2a: "v is the value of the highest-numbered proposal among the responses, or is any
/// value if the responses reported no proposals."
#[test]
fn phase_2a_the_value_of_the_highest_number_among_the_responses_is_proposed() {
    let low = || vec![accepted(1, ballot(1, 1), "low")];
    let high = || vec![accepted(1, ballot(2, 2), "high")];
    for responses in [[low(), high()], [high(), low()], [high(), Vec::new()]] {
        let (_, elected) = elected(ballot(3, 3), 1, responses);
        assert_eq!(proposed(&elected), [(1, "high".into())]);
    }
    let (mut proposer, elected) = elected(ballot(3, 3), 1, [Vec::new(), Vec::new()]);
    assert_eq!(proposed(&elected), []);
    let own = proposer.leading().unwrap().propose(value("own"), 0);
    let expected = Proposal {
        ballot: ballot(3, 3),
        slot: S1,
        value: value("own"),
    };
    assert_eq!(own, expected);
}

/// 2.2, phase 2a: "If the proposer receives a response to its prepare requests (numbered n) from a
/// majority of acceptors": not from fewer, not from one twice, and not to another number.
#[test]
fn phase_2a_nothing_is_proposed_without_the_promises_of_a_majority() {
    let mut proposer = Proposer::default();
    proposer.prepare(ballot(3, 3), S1);
    let mut on = |number, ballot| {
        let promise = promise(ballot, 1, Vec::new());
        proposer.on_promise(node(number), promise, &members(5), 0)
    };
    assert_eq!(on(1, ballot(3, 3)), Promised::Counted);
    assert_eq!(on(1, ballot(3, 3)), Promised::Stale);
    assert_eq!(on(2, ballot(2, 3)), Promised::Stale);
    assert_eq!(on(4, ballot(4, 3)), Promised::Stale);
    assert_eq!(on(5, ballot(3, 3)), Promised::Counted);
    assert!(matches!(on(4, ballot(3, 3)), Promised::Elected(_)));
}

/// 2.2, phase 2b: "If an acceptor receives an accept request for a proposal numbered n, it accepts
/// the proposal unless it has already responded to a prepare request having a number greater than
/// n", and so an accept of a number it never prepared is accepted, too.
#[test]
fn phase_2b_an_accept_needs_no_prepare() {
    let mut acceptor = Acceptor::default();
    acceptor.on_prepare(ballot(2, 2), S1, Slot::ZERO).unwrap();
    assert_eq!(acceptor.on_accept(ballot(2, 2), S1, &value("a")), Ok(()));
    assert_eq!(acceptor.on_accept(ballot(7, 1), S1, &value("b")), Ok(()));
    assert_eq!(acceptor.promised(), ballot(7, 1));
}

/// 2.2: "a proposer can ... abandon a proposal in the middle of the protocol at any time", and "it
/// is probably a good idea to abandon a proposal if some proposer has begun trying to issue a
/// higher-numbered one".
#[test]
fn a_proposer_abandons_when_a_higher_number_was_promised() {
    let mut cluster = cluster(3);
    until_leader(&mut cluster);
    assert_eq!(cluster.leader(), Some(node(1)));
    let nack = Notice::Nack {
        refused: ballot(1, 1),
        promised: ballot(4, 2),
    };
    cluster.put(node(2), node(1), Message::Notice(nack));
    cluster.deliver(node(2), node(1), 0, 1);
    assert_eq!(cluster.leader(), None);
}

/// 2.2: "An acceptor needs to remember only the highest-numbered proposal that it has ever accepted
/// and the number of the highest-numbered prepare request to which it has responded."
#[test]
fn an_acceptor_is_its_highest_promise_and_its_highest_acceptance() {
    let highest = Record::Accept(ballot(3, 1), S1, value("c"));
    let promised = Record::Promise(ballot(5, 2));
    let all = [
        Record::Promise(ballot(1, 1)),
        Record::Accept(ballot(1, 1), S1, value("a")),
        Record::Promise(ballot(2, 2)),
        highest.clone(),
        promised.clone(),
    ];
    assert_eq!(
        Acceptor::recover(&all),
        Acceptor::recover(&[highest, promised])
    );
}

// --- Section 2.3: learning a chosen value ---

/// 2.3: "To learn that a value has been chosen, a learner must find out that a proposal has been
/// accepted by a majority of acceptors." A proposal alone teaches nothing, nor do the acceptances
/// of a minority, nor one acceptance told twice.
#[test]
fn a_value_is_learned_once_a_majority_accepted_it() {
    let (mut proposer, _) = elected(ballot(3, 3), 1, [Vec::new(), Vec::new()]);
    let leading = proposer.leading().unwrap();
    leading.propose(value("v"), 0);
    let mut learner = Learner::default();
    learner.on_proposal(ballot(3, 3), S1, &value("v"));
    assert_eq!(learner.decided(), Slot::ZERO);
    assert_eq!(
        leading.on_accepted(node(2), ballot(3, 3), S1, &members(3)),
        None
    );
    assert_eq!(
        leading.on_accepted(node(2), ballot(3, 3), S1, &members(3)),
        None
    );
    let decided = leading.on_accepted(node(1), ballot(3, 3), S1, &members(3));
    assert_eq!(decided, Some(S1));
    // "The acceptors respond with their acceptances to a distinguished learner, which in turn
    // informs the other learners when a value has been chosen."
    learner.on_decided(ballot(3, 3), S1);
    assert_eq!(learner.value(S1), Some(&value("v")));
}

/// 2.3: "Because of message loss, a value could be chosen with no learner ever finding out. ... In
/// that case, learners will find out what value is chosen only when a new proposal is chosen. If a
/// learner needs to know whether a value has been chosen, it can have a proposer issue a proposal."
#[test]
fn a_decision_that_nobody_learned_is_found_out_by_a_new_proposal() {
    let mut cluster = cluster(3);
    until_leader(&mut cluster);
    cluster.write(node(1), command("put k v"));
    // A majority accepts, and all acceptances are lost with their leader.
    cluster.deliver(node(1), node(2), 0, usize::MAX);
    cluster.deliver(node(1), node(3), 0, usize::MAX);
    cluster.sync_all(node(2));
    cluster.sync_all(node(3));
    cluster.crash(node(1), 0);
    assert!([2, 3].map(|n| cluster.status(node(n)).decided) == [Slot::ZERO; 2]);
    until_leader(&mut cluster);
    settle(&mut cluster);
    let values = cluster.decided_values(node(3), S1, S1);
    assert_eq!(values, [value("n1.1.1 put k v")]);
}

// --- Section 2.4: progress ---

/// 2.4: "It's easy to construct a scenario in which two proposers each keep issuing a sequence of
/// proposals with increasing numbers, none of which are ever chosen."
#[test]
fn two_proposers_can_stop_each_other_for_ever() {
    let mut acceptor = Acceptor::default();
    let mut before = None;
    for round in 1..100 {
        let number = ballot(round, if round % 2 == 0 { 1 } else { 2 });
        assert!(acceptor.on_prepare(number, S1, Slot::ZERO).is_ok());
        if let Some(before) = before {
            let late = acceptor.on_accept(before, S1, &value("v"));
            assert_eq!(late, Err(Refusal::Promised(number)));
        }
        before = Some(number);
    }
    assert_eq!(acceptor.accepted_ballot(S1), None);
}

/// 2.4: "To guarantee progress, a distinguished proposer must be selected as the only one to try
/// issuing proposals." One is, whatever the seed, and it stays.
#[test]
fn a_distinguished_proposer_is_found_and_kept() {
    for seed in 0..50 {
        let mut cluster = Cluster::new(Settings {
            seed,
            ..settings(5)
        });
        until_leader(&mut cluster);
        ticks(&mut cluster, 50);
        let ballots: BTreeSet<Ballot> = prepared(&cluster);
        let leader = cluster.leader().expect("a leader");
        ticks(&mut cluster, 300);
        assert_eq!(cluster.leader(), Some(leader), "seed {seed}");
        assert_eq!(
            prepared(&cluster),
            ballots,
            "seed {seed}: nobody else tried"
        );
    }
}

/// 2.4: "If the distinguished proposer can communicate successfully with a majority of acceptors,
/// and if it uses a proposal with number greater than any already used, then it will succeed"; and
/// "by abandoning a proposal and trying again if it learns about some request with a higher
/// proposal number, the distinguished proposer will eventually choose a high enough" one.
#[test]
fn a_leader_chooses_a_number_above_those_it_is_refused_with() {
    let mut cluster = cluster(3);
    for number in [2, 3] {
        let prepare = Vote::Prepare {
            ballot: ballot(40, 3),
            from: S1,
        };
        cluster.put(node(3), node(number), Message::Vote(prepare));
    }
    until_leader(&mut cluster);
    let leader = cluster.leader().expect("a leader");
    assert!(cluster.status(leader).ballot > ballot(40, 3));
    cluster.write(leader, command("put k v"));
    settle(&mut cluster);
    assert!(cluster.open.is_empty());
}

// --- Section 2.5: the implementation ---

/// 2.5: "Stable storage, preserved during failures, is used to maintain the information that the
/// acceptor must remember. An acceptor records its intended response in stable storage before
/// actually sending the response."
#[test]
fn no_response_leaves_before_its_record_is_stable() {
    let mut cluster = cluster(3);
    let prepare = Vote::Prepare {
        ballot: ballot(1, 1),
        from: S1,
    };
    let accept = Notice::Accept {
        ballot: ballot(1, 1),
        slot: S1,
        value: value("n1.1.1 put k v"),
    };
    cluster.put(node(1), node(2), Message::Vote(prepare));
    cluster.put(node(1), node(2), Message::Notice(accept));
    cluster.deliver(node(1), node(2), 0, 2);
    assert_eq!(cluster.waiting(node(2), node(1)), []);
    cluster.sync_all(node(2));
    assert_eq!(cluster.waiting(node(2), node(1)).len(), 2);
    let stable = Acceptor::recover(cluster.synced(node(2)));
    assert_eq!(stable.promised(), ballot(1, 1));
    assert_eq!(stable.accepted_ballot(S1), Some(ballot(1, 1)));
}

/// 2.5: "Different proposers choose their numbers from disjoint sets of numbers, so two different
/// proposers never issue a proposal with the same number."
#[test]
fn numbers_of_different_proposers_are_never_equal() {
    let numbers = (1..=9).flat_map(|number| (1..=20).map(move |round| ballot(round, number)));
    let all: Vec<Ballot> = numbers.collect();
    let different: BTreeSet<Ballot> = all.iter().copied().collect();
    assert_eq!(different.len(), all.len());
    // And nobody takes a number out of another's set.
    let mut cluster = cluster(3);
    for (from, promised) in [(3, Ballot::ZERO), (2, ballot(3, 2))] {
        let stolen = Message::Vote(Vote::Prepare {
            ballot: ballot(3, 2),
            from: S1,
        });
        cluster.put(node(from), node(1), stolen);
        cluster.deliver(node(from), node(1), 0, 1);
        cluster.sync_all(node(1));
        let stable = Acceptor::recover(cluster.synced(node(1)));
        assert_eq!(stable.promised(), promised);
    }
}

/// 2.5: "Each proposer remembers (in stable storage) the highest-numbered proposal it has tried to
/// issue, and begins phase 1 with a higher proposal number than any it has already used." So numbers
/// count rounds, and are no times of day (D2).
#[test]
fn a_proposer_begins_with_a_higher_number_than_any_it_used() {
    let mut cluster = cluster(3);
    until_leader(&mut cluster);
    let mut used = BTreeSet::new();
    for _ in 0..5 {
        let leader = cluster.leader().expect("a leader");
        let ballot = cluster.status(leader).ballot;
        assert!(used.insert(ballot), "{ballot} is used twice");
        cluster.crash(leader, 0);
        cluster.restart(leader);
        ticks(&mut cluster, 60);
        until_leader(&mut cluster);
    }
}

// --- Section 3: implementing a state machine ---

/// 3: "A newly chosen leader executes phase 1 for infinitely many instances of the consensus
/// algorithm": one short message, answered with "a single reasonably short message", because "an
/// acceptor responds with more than a simple OK only if it has already received a phase 2 message".
#[test]
fn one_prepare_asks_about_all_slots_and_is_answered_about_the_used_ones() {
    let mut acceptor = Acceptor::default();
    for slot in [3, 7] {
        acceptor
            .on_accept(ballot(1, 1), Slot(slot), &value("v"))
            .unwrap();
    }
    let told = acceptor.on_prepare(ballot(2, 2), S1, Slot::ZERO).unwrap();
    let slots: Vec<u64> = told.accepted.iter().map(|told| told.slot.0).collect();
    assert_eq!(slots, [3, 7]);
    // The promise holds for all slots, also those that nobody has used.
    let unused = acceptor.on_accept(ballot(1, 1), Slot(1_000), &value("v"));
    assert_eq!(unused, Err(Refusal::Promised(ballot(2, 2))));
}

/// 3, the paper's own example: a new leader knows commands 1 to 134; among the acceptors it finds
/// proposals for 135, 138, 139 and 140. It "executes phase 2 for instances 135 and 140"; "the
/// leader ... can fill the gap immediately by proposing, as commands 136 and 137, a special no-op
/// command"; it "then proposes as command number 141 the next command requested by a client".
#[test]
fn a_new_leader_repairs_what_it_finds_and_fills_the_gap_with_noops() {
    let one = vec![
        accepted(135, ballot(1, 1), "c135"),
        accepted(138, ballot(1, 1), "c138"),
    ];
    let other = vec![
        accepted(139, ballot(2, 2), "c139"),
        accepted(140, ballot(2, 2), "c140"),
    ];
    let (mut proposer, elected) = elected(ballot(3, 3), 135, [one, other]);
    let repaired = [
        (135, "c135"),
        (136, "noop"),
        (137, "noop"),
        (138, "c138"),
        (139, "c139"),
        (140, "c140"),
    ];
    assert_eq!(
        proposed(&elected),
        repaired.map(|(slot, text)| (slot, text.to_string()))
    );
    let next = proposer.leading().unwrap().propose(value("next"), 0);
    assert_eq!(next.slot, Slot(141));
}

/// 3: "The leader can propose command 142 before it learns that its proposed command 141 has been
/// chosen", so that gaps arise: what is decided above a gap waits until it is closed.
#[test]
fn slots_are_decided_in_any_order_and_handed_on_in_order() {
    let (mut proposer, _) = elected(ballot(3, 3), 1, [Vec::new(), Vec::new()]);
    let leading = proposer.leading().unwrap();
    for text in ["a", "b", "c"] {
        leading.propose(value(text), 0);
    }
    let mut accept =
        |slot, number| leading.on_accepted(node(number), ballot(3, 3), Slot(slot), &members(3));
    for slot in [2, 3] {
        assert_eq!((accept(slot, 1), accept(slot, 2)), (None, None));
    }
    assert_eq!(accept(1, 1), None);
    assert_eq!(accept(1, 2), Some(Slot(3)));
}

/// 3: "Since failure of the leader and election of a new one should be rare events, the effective
/// cost of executing a state machine command ... is the cost of executing only phase 2".
#[test]
fn a_command_costs_phase_2_alone() {
    let mut cluster = cluster(5);
    until_leader(&mut cluster);
    settle(&mut cluster);
    let before = prepared(&cluster);
    for number in 1..=5 {
        cluster.events.clear();
        cluster.write(node(number), command("put k v"));
        settle(&mut cluster);
        let done = |event: &Event| matches!(event, Event::Answer(_, _, Answer::Done(_), _));
        assert!(cluster.events.iter().any(done));
    }
    assert_eq!(prepared(&cluster), before);
}

/// 3: "If multiple servers think they are leaders, then they can all propose values in the same
/// instance ... which could prevent any value from being chosen. However, safety is preserved."
#[test]
fn two_that_think_they_lead_decide_one_value() {
    let mut cluster = cluster(3);
    until_leader(&mut cluster);
    let old = cluster.leader().expect("a leader");
    assert_eq!(old, node(1));
    // n1 stands still until n2 leads as well, with a higher number.
    for _ in 0..80 {
        cluster.tick(node(2));
        cluster.tick(node(3));
        cluster.settle(|_| true, |from, to, _| from != node(1) && to != node(1));
    }
    assert_eq!(cluster.leader(), Some(node(2)));
    assert_eq!(cluster.status(node(1)).role, "leader");
    cluster.write(node(1), command("put k one"));
    cluster.write(node(2), command("put k two"));
    for _ in 0..100 {
        ticks(&mut cluster, 1);
    }
    assert!(cluster.open.is_empty());
    let values = [1, 2, 3].map(|n| cluster.decided_values(node(n), S1, Slot(9)));
    assert_eq!(values[0], values[1]);
    assert_eq!(values[0], values[2]);
    assert_eq!(values[0].len(), 2, "both went through: {values:?}");
}

// --- The cluster of these tests ---

fn settings(size: u8) -> Settings {
    Settings {
        size,
        seed: 1,
        deadline_ticks: 1_000,
        preload: Vec::new(),
        blank: false,
    }
}

fn cluster(size: u8) -> Cluster {
    Cluster::new(settings(size))
}

fn settle(cluster: &mut Cluster) {
    cluster.settle(|_| true, |_, _, _| true);
}

fn ticks(cluster: &mut Cluster, count: u64) {
    for _ in 0..count {
        for id in cluster.running() {
            cluster.round(id, [Input::Tick]);
        }
        settle(cluster);
    }
}

fn until_leader(cluster: &mut Cluster) {
    settle(cluster);
    for _ in 0..300 {
        if cluster.leader().is_some() {
            return;
        }
        ticks(cluster, 1);
    }
    panic!("no leader within 300 ticks");
}

/// The ballots that were ever prepared.
fn prepared(cluster: &Cluster) -> BTreeSet<Ballot> {
    let nodes = cluster.nodes();
    let records = nodes.iter().flat_map(|&id| cluster.synced(id));
    records
        .filter_map(|record| match record {
            Record::Ballot(ballot) => Some(*ballot),
            _ => None,
        })
        .collect()
}

fn command(text: &str) -> Command {
    let batch = parse_batch(format!("n1.1.1 {text}").as_bytes()).expect("a command");
    batch.into_iter().next().expect("a command").command
}
