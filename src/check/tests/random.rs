//! Thousands of small histories, before two judges: this one, and stateright's tester.

use rand::rngs::ChaCha8Rng;
use rand::{RngExt, SeedableRng};
use stateright::semantics::{ConsistencyTester, LinearizabilityTester, SequentialSpec};

use super::super::history::{End, History, Operation, OperationId};
use super::super::{Begins, STATES_MAX, check};
use super::{reply_of, request_of};

/// One key, as plainly as it can be said.
#[derive(Debug, Clone, Default)]
struct Cell(Option<String>);

impl SequentialSpec for Cell {
    type Op = String;
    type Ret = String;

    fn invoke(&mut self, op: &String) -> String {
        let words: Vec<&str> = op.split(' ').collect();
        let number = |text: &Option<String>| match text {
            None => Some(0),
            Some(text) => text.parse::<i64>().ok(),
        };
        match (words[0], &self.0) {
            ("GET" | "CAS" | "DELETE", None) => "NOT_FOUND".into(),
            ("GET", Some(value)) => format!("VALUE {value}"),
            ("PUT", _) => {
                self.0 = Some(words[2].into());
                "OK".into()
            }
            ("DELETE", Some(_)) => {
                self.0 = None;
                "OK".into()
            }
            ("CAS", Some(value)) if value != words[2] => format!("MISMATCH {value}"),
            ("CAS", Some(_)) => {
                self.0 = Some(words[3].into());
                "OK".into()
            }
            ("APPEND", value) => {
                let whole = value.clone().unwrap_or_default() + words[2];
                let length = whole.len();
                self.0 = Some(whole);
                format!("VALUE {length}")
            }
            ("INCR", value) => match number(value) {
                None => "ERROR NOT_A_NUMBER no".into(),
                Some(number) => {
                    self.0 = Some((number + 1).to_string());
                    format!("VALUE {}", number + 1)
                }
            },
            other => unreachable!("{other:?}"),
        }
    }
}

fn any_op(rng: &mut ChaCha8Rng) -> String {
    let mut value = || ["1", "2", "a"][rng.random_range(0..3)];
    let (first, second) = (value(), value());
    match rng.random_range(0..12) {
        10 | 11 => format!("APPEND x {first}"),
        0..=2 => "GET x".into(),
        3..=5 => format!("PUT x {first}"),
        6 => "DELETE x".into(),
        7 | 8 => format!("CAS x {first} {second}"),
        _ => "INCR x".into(),
    }
}

/// A call, or with an answer an end.
#[derive(Debug, Clone)]
struct Event {
    operation: usize,
    answer: Option<String>,
}

/// What clients of one cell see. Operations are done at a moment between call and end, some without
/// an end even after their clients gave up, or never.
fn run(rng: &mut ChaCha8Rng, clients: usize, count: usize) -> (Vec<String>, Vec<Event>) {
    #[derive(Clone)]
    enum Doing {
        Nothing,
        Called(usize),
        Done(usize, String),
    }
    let mut cell = Cell::default();
    let (mut ops, mut events) = (Vec::new(), Vec::new());
    let mut abandoned: Vec<usize> = Vec::new();
    let mut doing = vec![Doing::Nothing; clients];
    while ops.len() < count {
        if !abandoned.is_empty() && rng.random_ratio(1, 6) {
            let late = abandoned.swap_remove(rng.random_range(0..abandoned.len()));
            cell.invoke(&ops[late]);
        }
        let client = &mut doing[rng.random_range(0..clients)];
        *client = match client.clone() {
            Doing::Nothing => {
                ops.push(any_op(rng));
                let operation = ops.len() - 1;
                events.push(Event {
                    operation,
                    answer: None,
                });
                Doing::Called(operation)
            }
            Doing::Called(operation) if rng.random_ratio(1, 8) => {
                if rng.random() {
                    abandoned.push(operation);
                }
                Doing::Nothing
            }
            Doing::Called(operation) => {
                let answer = cell.invoke(&ops[operation]);
                Doing::Done(operation, answer)
            }
            Doing::Done(operation, answer) => {
                events.push(Event {
                    operation,
                    answer: Some(answer),
                });
                Doing::Nothing
            }
        };
    }
    (ops, events)
}

/// Gives some answers to others, and moves some ends.
fn mutate(rng: &mut ChaCha8Rng, events: &mut [Event], ops: &[String]) {
    for _ in 0..rng.random_range(1..=2) {
        let at = rng.random_range(0..events.len());
        let Some(answer) = &mut events[at].answer else {
            continue;
        };
        let mut cell = Cell(match rng.random_range(0..4) {
            0 => None,
            1 => Some("1".into()),
            2 => Some("2".into()),
            _ => Some("a".into()),
        });
        *answer = cell.invoke(&ops[events[at].operation]);
    }
}

fn to_history(ops: &[String], events: &[Event]) -> History {
    let mut operations: Vec<Operation> = Vec::new();
    for (event, time) in events.iter().zip(0..) {
        let number = event.operation as u64 + 1;
        match &event.answer {
            None => operations.push(Operation {
                id: OperationId { client: 1, number },
                request: request_of(&ops[event.operation]),
                called: time,
                resent: 0,
                end: End::Open(None, "lost".into()),
            }),
            Some(answer) => {
                let of = |o: &&mut Operation| o.id.number == number;
                let operation = operations.iter_mut().find(of).unwrap();
                operation.end = End::Reply(time, reply_of(&ops[event.operation], answer));
            }
        }
    }
    History::new(operations)
}

/// Every operation is a thread of its own to the tester, which knows threads and no times.
fn second_opinion(ops: &[String], events: &[Event]) -> bool {
    let mut tester = LinearizabilityTester::new(Cell::default());
    for event in events {
        match &event.answer {
            None => tester.on_invoke(event.operation, ops[event.operation].clone()),
            Some(answer) => tester.on_return(event.operation, answer.clone()),
        }
        .expect("calls and ends are in order");
    }
    tester.is_consistent()
}

#[test]
fn both_judges_agree_on_thousands_of_small_histories() {
    let mut verdicts = [0, 0];
    for seed in 0..8_000 {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let clients = rng.random_range(1..=4);
        let count = rng.random_range(2..=8);
        let (ops, mut events) = run(&mut rng, clients, count);
        if seed % 4 != 0 {
            mutate(&mut rng, &mut events, &ops);
        }
        let expected = second_opinion(&ops, &events);
        let report = check(&to_history(&ops, &events), Begins::Empty, STATES_MAX);
        assert!(report.undecided.is_empty(), "seed {seed}");
        assert_eq!(
            report.violation.is_none(),
            expected,
            "seed {seed}: {ops:?} {events:?} {:?}",
            report.violation.map(|found| found.to_string())
        );
        verdicts[usize::from(expected)] += 1;
        assert!(
            expected || seed % 4 != 0,
            "seed {seed}: a true execution is linearizable"
        );
    }
    assert!(verdicts.iter().all(|&count| count > 700), "{verdicts:?}");
}

fn only_looked(op: &str, answer: Option<&str>) -> bool {
    let Some(answer) = answer else {
        return false;
    };
    op.starts_with("GET") || !(answer == "OK" || answer.starts_with("VALUE"))
}

/// What a counter-example shows is not linearizable by itself, whatever the rest did; the second
/// judge agrees, with the operations that were given up as open ones.
#[test]
fn counterexamples_stand_by_themselves() {
    let mut found = 0;
    for seed in 0..3_000 {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let (ops, mut events) = run(&mut rng, 3, 8);
        mutate(&mut rng, &mut events, &ops);
        let history = to_history(&ops, &events);
        let report = check(&history, Begins::Empty, STATES_MAX);
        let Some(counterexample) = report.violation else {
            continue;
        };
        found += 1;
        let kept: Vec<usize> = counterexample
            .operations
            .iter()
            .map(|operation| usize::try_from(operation.id.number).unwrap() - 1)
            .collect();
        // What only looked, as its answer says, is taken away whole.
        let looked: Vec<usize> = events
            .iter()
            .filter(|event| only_looked(&ops[event.operation], event.answer.as_deref()))
            .map(|event| event.operation)
            .collect();
        let relaxed: Vec<Event> = events
            .iter()
            .filter(|event| {
                let gone = event.answer.is_some() || looked.contains(&event.operation);
                kept.contains(&event.operation) || !gone
            })
            .cloned()
            .collect();
        assert!(
            !second_opinion(&ops, &relaxed),
            "seed {seed}: {counterexample} {ops:?} {events:?}"
        );
        for left_out in &kept {
            let fewer: Vec<Event> = relaxed
                .iter()
                .filter(|event| {
                    let gone = event.answer.is_some() || looked.contains(&event.operation);
                    event.operation != *left_out || !gone
                })
                .cloned()
                .collect();
            assert!(
                second_opinion(&ops, &fewer),
                "seed {seed}: {left_out} is not needed: {counterexample}"
            );
        }
    }
    assert!(found > 500, "{found}");
}
