//! The judge is judged: named histories, a second judge, and histories that must be fine.

#![allow(
    clippy::format_push_string,
    clippy::format_collect,
    clippy::disallowed_methods,
    reason = "histories are put together from lines; one test tells how long it took"
)]

mod big;
mod named;
mod random;
mod text;

use super::history::{End, History, Operation, OperationId};
use super::{Begins, Report, STATES_MAX, check, format};
use crate::wire::client::{Reply, Request, parse_request};

/// A history in a short notation, a line an operation: `c1 0..10 PUT x 1 -> OK`, and without an end
/// `c1 0.. PUT x 1`. Each operation is the next of its client.
fn history(lines: &str) -> History {
    let mut operations: Vec<Operation> = Vec::new();
    for line in lines.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let mut words = line.splitn(3, ' ');
        let client = words.next().unwrap().strip_prefix('c').unwrap();
        let client = client.parse().unwrap();
        let (called, ended) = words.next().unwrap().split_once("..").unwrap();
        let (request, reply) = match words.next().unwrap().split_once(" -> ") {
            Some((request, reply)) => (request, Some(reply)),
            None => (words_of(line), None),
        };
        let end = match reply {
            None => End::Open(ended.parse().ok(), "lost".into()),
            Some(reply) => End::Reply(ended.parse().unwrap(), reply_of(request, reply)),
        };
        let number = 1 + operations.iter().filter(|o| o.id.client == client).count() as u64;
        operations.push(Operation {
            id: OperationId { client, number },
            request: request_of(request),
            called: called.parse().unwrap(),
            resent: 0,
            end,
        });
    }
    History::new(operations)
}

fn words_of(line: &str) -> &str {
    line.splitn(3, ' ').nth(2).unwrap()
}

fn request_of(line: &str) -> Request {
    parse_request(line.as_bytes()).unwrap()
}

fn reply_of(request: &str, line: &str) -> Reply {
    format::read_reply(&request_of(request), line.as_bytes()).unwrap()
}

fn judge(lines: &str) -> Report {
    check(&history(lines), Begins::Empty, STATES_MAX)
}

/// The history has an order.
fn good(lines: &str) {
    let report = judge(lines);
    let why = report.violation.map(|found| found.to_string());
    assert_eq!(why, None, "{lines}");
    assert!(report.undecided.is_empty());
}

/// The history has none; returns the counter-example's text.
fn bad(lines: &str) -> String {
    let report = judge(lines);
    let found = report.violation.unwrap_or_else(|| panic!("fine: {lines}"));
    found.to_string()
}
