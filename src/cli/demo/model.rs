//! What must be in the store: the demo's own map, written apart from the real one.
//!
//! It runs every command of the demo on itself and says what the cluster must reply. The demo has
//! one request out at a time, and the store is linearizable, so that there is exactly one right
//! reply to each.

use std::collections::BTreeMap;

use crate::kv::command::{Bytes, Command, Read, Write};
use crate::wire::client::{ErrorCode, Reply, Request};

/// Keys and values as they must be.
#[derive(Debug, Default)]
pub(super) struct Model(BTreeMap<Bytes, Bytes>);

impl Model {
    /// Begins with what is there.
    pub(super) fn new(pairs: Vec<(Bytes, Bytes)>) -> Self {
        Self(pairs.into_iter().collect())
    }

    /// The value of a key.
    pub(super) fn get(&self, key: &[u8]) -> Option<&Bytes> {
        self.0.get(key)
    }

    /// All keys and values, in byte order of the keys.
    pub(super) fn pairs(&self) -> impl Iterator<Item = (&Bytes, &Bytes)> {
        self.0.iter()
    }

    /// Runs a command of the demo, and returns the one right reply.
    pub(super) fn run(&mut self, request: &Request) -> Reply {
        match request {
            Request::Write(Command::Write(write)) => self.write(write),
            Request::Read {
                read: Read::Get { key },
                ..
            } => self.get(key).cloned().into(),
            other => unreachable!("the demo never asks for {other:?}"),
        }
    }

    fn write(&mut self, write: &Write) -> Reply {
        match write {
            Write::Put { key, value } => {
                self.0.insert(key.clone(), value.clone());
                Reply::Ok
            }
            Write::Delete { key } => match self.0.remove(key) {
                Some(_) => Reply::Ok,
                None => Reply::NotFound,
            },
            Write::Cas { key, expected, new } => match self.0.get_mut(key) {
                None => Reply::NotFound,
                Some(current) if current != expected => Reply::Mismatch(current.clone()),
                Some(current) => {
                    *current = new.clone();
                    Reply::Ok
                }
            },
            Write::Incr { key, by } => self.incr(key, *by),
            other => unreachable!("the demo never asks for {other:?}"),
        }
    }

    fn incr(&mut self, key: &Bytes, by: i64) -> Reply {
        let sum = number(self.0.get(key)).and_then(|number| number.checked_add(by));
        let Some(sum) = sum else {
            return Reply::error(ErrorCode::NotANumber, "");
        };
        let sum: Bytes = sum.to_string().into_bytes().into();
        self.0.insert(key.clone(), sum.clone());
        Reply::Value(sum)
    }

    /// The first difference between what must be there and what a `LIST` found, for people.
    pub(super) fn difference(&self, found: &[(Bytes, Bytes)]) -> Option<String> {
        let found: BTreeMap<&Bytes, &Bytes> = found.iter().map(|(k, v)| (k, v)).collect();
        let keys = self.0.keys().chain(found.keys().copied());
        for key in keys {
            let (expected, found) = (self.0.get(key), found.get(key).copied());
            if expected != found {
                let say = |value: Option<&Bytes>| Reply::from(value.cloned()).to_string();
                let key = crate::text::excerpt(key);
                return Some(format!(
                    "{key}: expected {}, found {}",
                    say(expected),
                    say(found)
                ));
            }
        }
        None
    }
}

/// The number that `INCR` takes a value for; a missing one counts as 0.
pub(super) fn number(value: Option<&Bytes>) -> Option<i64> {
    match value {
        None => Some(0),
        Some(value) => std::str::from_utf8(value).ok()?.parse().ok(),
    }
}

/// Whether a reply is the right one: of errors, programs look at the code alone.
pub(super) fn same(expected: &Reply, found: &Reply) -> bool {
    match (expected, found) {
        (Reply::Error(expected, _), Reply::Error(found, _)) => expected == found,
        _ => expected == found,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::client::parse_request;

    fn run(model: &mut Model, line: &str) -> String {
        let request = parse_request(line.as_bytes()).unwrap();
        model.run(&request).to_string()
    }

    #[test]
    fn the_model_replies_as_the_protocol_says() {
        let mut model = Model::default();
        for (line, reply) in [
            ("GET kiwi", "NOT_FOUND"),
            ("DELETE kiwi", "NOT_FOUND"),
            ("CAS kiwi 1 2", "NOT_FOUND"),
            ("PUT kiwi 0.55", "OK"),
            ("GET kiwi", "VALUE 0.55"),
            ("CAS kiwi 0.50 0.60", "MISMATCH 0.55"),
            ("CAS kiwi 0.55 0.60", "OK"),
            ("GET kiwi", "VALUE 0.60"),
            ("INCR sold 5", "VALUE 5"),
            ("INCR sold -7", "VALUE -2"),
            ("GET sold", "VALUE -2"),
            ("DELETE kiwi", "OK"),
            ("GET kiwi", "NOT_FOUND"),
        ] {
            assert_eq!(run(&mut model, line), reply, "{line}");
        }
        run(&mut model, "PUT kiwi 0.55");
        assert!(run(&mut model, "INCR kiwi").starts_with("ERROR NOT_A_NUMBER"));
    }

    #[test]
    fn of_errors_only_the_code_counts() {
        let error = |code, text| Reply::error(code, text);
        let not_a_number = error(ErrorCode::NotANumber, "");
        assert!(same(&not_a_number, &error(ErrorCode::NotANumber, "text")));
        assert!(!same(&not_a_number, &error(ErrorCode::BadRequest, "")));
        assert!(!same(&Reply::Ok, &Reply::NotFound));
    }

    #[test]
    fn the_first_difference_is_named() {
        let pairs = |pairs: &[(&str, &str)]| -> Vec<(Bytes, Bytes)> {
            let bytes = |text: &str| text.as_bytes().into();
            pairs.iter().map(|(k, v)| (bytes(k), bytes(v))).collect()
        };
        let model = Model::new(pairs(&[("a", "1"), ("b", "2")]));
        let difference = |found| model.difference(&pairs(found));
        assert_eq!(difference(&[("a", "1"), ("b", "2")]), None);
        assert_eq!(
            difference(&[("a", "1")]).unwrap(),
            "\"b\": expected VALUE 2, found NOT_FOUND"
        );
        assert_eq!(
            difference(&[("a", "1"), ("b", "3")]).unwrap(),
            "\"b\": expected VALUE 2, found VALUE 3"
        );
        assert_eq!(
            difference(&[("a", "1"), ("b", "2"), ("c", "")]).unwrap(),
            "\"c\": expected NOT_FOUND, found VALUE \"\""
        );
    }
}
