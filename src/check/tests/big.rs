//! Large histories of a map that does one thing at a time: never refused, and judged in time.

use std::collections::BTreeMap;

use rand::rngs::ChaCha8Rng;
use rand::{RngExt, SeedableRng};

use super::super::history::{End, History, Operation, OperationId};
use super::super::{Begins, STATES_MAX, check};
use crate::kv::command::{Bytes, Command, Read, Write};
use crate::wire::client::{ErrorCode, Reply, Request};

/// What kind of run.
struct Plan {
    clients: usize,
    operations: usize,
    keys: u64,
    /// Of 10,000 operations so many lose their answer.
    lost: u32,
    /// `PUT` and `GET` alone, as `quince bench` sends them.
    bench: bool,
}

fn bytes(text: &str) -> Bytes {
    text.as_bytes().into()
}

fn any_request(rng: &mut ChaCha8Rng, plan: &Plan, number: usize) -> Request {
    let key = bytes(&format!("key-{}", rng.random_range(0..plan.keys)));
    let kind = if plan.bench {
        rng.random_range(0..2)
    } else {
        rng.random_range(0..7)
    };
    let write = match kind {
        0 => {
            let read = Read::Get { key };
            return Request::Read { local: false, read };
        }
        1 => Write::Put {
            key,
            value: bytes(&format!("v{number}")),
        },
        2 => Write::Put {
            key,
            value: bytes(&rng.random_range(0..3).to_string()),
        },
        3 => Write::Delete { key },
        4 => Write::Cas {
            key,
            expected: bytes(&rng.random_range(0..3).to_string()),
            new: bytes(&rng.random_range(0..3).to_string()),
        },
        5 => Write::Append {
            key,
            value: bytes(&rng.random_range(0..3).to_string()),
        },
        _ => Write::Incr { key, by: 1 },
    };
    Request::Write(Command::Write(write))
}

/// The map.
fn answer(map: &mut BTreeMap<Bytes, Bytes>, request: &Request) -> Reply {
    let write = match request {
        Request::Read {
            read: Read::Get { key },
            ..
        } => return map.get(key).cloned().into(),
        Request::Write(Command::Write(write)) => write,
        other => unreachable!("{other:?}"),
    };
    match write {
        Write::Put { key, value } => {
            map.insert(key.clone(), value.clone());
            Reply::Ok
        }
        Write::Delete { key } => map.remove(key).map_or(Reply::NotFound, |_| Reply::Ok),
        Write::Cas { key, expected, new } => match map.get(key) {
            None => Reply::NotFound,
            Some(found) if found != expected => Reply::Mismatch(found.clone()),
            Some(_) => {
                map.insert(key.clone(), new.clone());
                Reply::Ok
            }
        },
        Write::Incr { key, by } => {
            let found = map.get(key).map_or("0".into(), |value| {
                String::from_utf8(value.to_vec()).unwrap()
            });
            let number = found.parse::<i64>().ok();
            // What was appended to a 0 is no number any more.
            let number = number.filter(|number| number.to_string() == found);
            match number.and_then(|number| number.checked_add(*by)) {
                None => Reply::error(ErrorCode::NotANumber, ""),
                Some(sum) => {
                    let sum = bytes(&sum.to_string());
                    map.insert(key.clone(), sum.clone());
                    Reply::Value(sum)
                }
            }
        }
        Write::Append { key, value } => {
            let found = map.get(key).cloned().unwrap_or_default();
            let whole: Bytes = [&*found, &**value].concat().into();
            let length = bytes(&whole.len().to_string());
            map.insert(key.clone(), whole);
            Reply::Value(length)
        }
        other => unreachable!("{other:?}"),
    }
}

/// Each client calls, its operation is done some time later, and it ends some time after that.
fn run(plan: &Plan, seed: u64) -> Vec<Operation> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut map = BTreeMap::new();
    let mut operations: Vec<Operation> = Vec::new();
    // Of each client: its operation, and its answer once it is done.
    let mut doing: Vec<Option<(usize, Option<Reply>)>> = vec![None; plan.clients];
    let mut late: Vec<usize> = Vec::new();
    let mut time = 0;
    while operations.len() < plan.operations || doing.iter().any(Option::is_some) {
        time += 1;
        if !late.is_empty() && rng.random_ratio(1, 200) {
            let at = late.swap_remove(rng.random_range(0..late.len()));
            answer(&mut map, &operations[at].request);
        }
        let client = rng.random_range(0..plan.clients);
        doing[client] = match doing[client].take() {
            None if operations.len() >= plan.operations => None,
            None => {
                let number = operations.len();
                operations.push(Operation {
                    id: OperationId {
                        client: client as u64 + 1,
                        number: number as u64 + 1,
                    },
                    request: any_request(&mut rng, plan, number),
                    called: time,
                    resent: 0,
                    end: End::Open(None, "lost".into()),
                });
                Some((number, None))
            }
            Some((at, None)) if rng.random_ratio(plan.lost, 10_000) => {
                late.push(at);
                None
            }
            Some((at, None)) => Some((at, Some(answer(&mut map, &operations[at].request)))),
            Some((at, Some(reply))) => {
                operations[at].end = End::Reply(time, reply);
                None
            }
        };
    }
    operations
}

fn judge(name: &str, plan: &Plan, seed: u64) {
    let history = History::new(run(plan, seed));
    let since = std::time::Instant::now();
    let report = check(&history, Begins::Empty, STATES_MAX);
    println!(
        "{name}: {} operations in {:?}",
        report.operations,
        since.elapsed()
    );
    if let Some(found) = &report.violation {
        panic!("{name}, seed {seed}: {found}");
    }
    assert_eq!(report.undecided.len(), 0, "{name}, seed {seed}");
}

#[test]
fn a_bench_of_a_hundred_thousand_operations_is_judged() {
    let plan = Plan {
        clients: 64,
        operations: 100_000,
        keys: 1_000,
        lost: 20,
        bench: true,
    };
    judge("bench", &plan, 1);
}

#[test]
fn one_hot_key_is_judged() {
    let plan = Plan {
        clients: 32,
        operations: 5_000,
        keys: 1,
        lost: 20,
        bench: true,
    };
    judge("hot", &plan, 1);
}

#[test]
fn true_executions_are_never_refused() {
    for seed in 0..40 {
        let plan = Plan {
            clients: 2 + (seed % 7) as usize,
            operations: 2_000,
            keys: 1 + seed % 9,
            lost: 50,
            bench: false,
        };
        judge("mixed", &plan, seed);
    }
}

/// One answer of an early read is given to a later one.
#[test]
fn most_mutated_executions_are_refused() {
    let plan = Plan {
        clients: 4,
        operations: 400,
        keys: 4,
        lost: 20,
        bench: true,
    };
    let (mut refused, mut tried) = (0, 0);
    for seed in 0..100 {
        let mut operations = run(&plan, seed);
        let reads = |operation: &Operation, key: &Bytes| {
            matches!(&operation.request, Request::Read { read: Read::Get { key: k }, .. } if k == key)
                && matches!(&operation.end, End::Reply(_, Reply::Value(_)))
        };
        let key = bytes("key-0");
        let at: Vec<usize> = (0..operations.len())
            .filter(|&at| reads(&operations[at], &key))
            .collect();
        let (Some(&first), Some(&last)) = (at.first(), at.last()) else {
            continue;
        };
        let End::Reply(_, old) = operations[first].end.clone() else {
            continue;
        };
        let End::Reply(_, reply) = &mut operations[last].end else {
            continue;
        };
        tried += 1;
        *reply = old;
        let report = check(&History::new(operations), Begins::Empty, STATES_MAX);
        assert!(report.undecided.is_empty());
        refused += usize::from(report.violation.is_some());
    }
    assert!(
        tried > 90 && refused * 10 > tried * 9,
        "{refused} of {tried}"
    );
}
