//! The text of a record: the body of a line of the log.
//!
//! | body | record |
//! | --- | --- |
//! | `start 5` | [`Record::Start`] |
//! | `ballot b3.2` | [`Record::Ballot`] |
//! | `promise b3.2` | [`Record::Promise`] |
//! | `accept b3.2 s17 VALUE` | [`Record::Accept`] |
//! | `decided b3.2 s17` | [`Record::Decided`] |
//! | `learn s17 VALUE` | [`Record::Learn`] |
//! | `peer n2 5.00c0ffee00c0ffee` | [`Record::Peer`] |
//! | `trim s17` | [`Record::Trim`] |
//! | `untrim s9` | [`Record::Untrim`] |
//! | `lost` | [`Record::Lost`] |
//! | `sound s17` | [`Record::Sound`] |
//!
//! VALUE is every byte after the one space, to the end of the body.

use crate::paxos::record::Record;
use crate::paxos::types::{Life, Value};
use crate::text::{ParseError, Tokens};
use std::io::Write;

/// Appends the body of `record` to `out`. It holds no LF.
pub fn write(out: &mut Vec<u8>, record: &Record) {
    let head = match record {
        Record::Start(number) => write!(out, "start {number}"),
        Record::Ballot(ballot) => write!(out, "ballot {ballot}"),
        Record::Promise(ballot) => write!(out, "promise {ballot}"),
        Record::Accept(ballot, slot, _) => write!(out, "accept {ballot} {slot} "),
        Record::Decided(ballot, slot) => write!(out, "decided {ballot} {slot}"),
        Record::Learn(slot, _) => write!(out, "learn {slot} "),
        Record::Peer(node, life) => write!(out, "peer {node} {life}"),
        Record::Trim(slot) => write!(out, "trim {slot}"),
        Record::Untrim(slot) => write!(out, "untrim {slot}"),
        Record::Lost => write!(out, "lost"),
        Record::Sound(slot) => write!(out, "sound {slot}"),
    };
    head.expect("a Vec takes every write");
    if let Some(value) = value_of(record) {
        out.extend_from_slice(value.as_bytes());
    }
}

/// The value that a record carries.
pub(super) fn value_of(record: &Record) -> Option<&Value> {
    match record {
        Record::Accept(_, _, value) | Record::Learn(_, value) => Some(value),
        _ => None,
    }
}

/// Reads a body.
pub fn parse(body: &[u8]) -> Result<Record, ParseError> {
    const BALLOT: &str = "a ballot such as b3.2";
    const SLOT: &str = "a slot such as s17";
    let mut tokens = Tokens::new(body);
    let word = tokens.need("a kind of record")?;
    let record = match &*word {
        b"start" => match tokens.parse("a start from 1")? {
            start @ 1..=Life::START_MAX => Record::Start(start),
            other => {
                let expected = format!("a start from 1 to {}", Life::START_MAX);
                return Err(ParseError::at(expected, other.to_string().as_bytes()));
            }
        },
        b"ballot" => Record::Ballot(tokens.parse(BALLOT)?),
        b"promise" => Record::Promise(tokens.parse(BALLOT)?),
        b"decided" => Record::Decided(tokens.parse(BALLOT)?, tokens.parse(SLOT)?),
        b"accept" => {
            let (ballot, slot) = (tokens.parse(BALLOT)?, tokens.parse(SLOT)?);
            return Ok(Record::Accept(ballot, slot, value(&tokens)?));
        }
        b"learn" => {
            let slot = tokens.parse(SLOT)?;
            return Ok(Record::Learn(slot, value(&tokens)?));
        }
        b"peer" => Record::Peer(
            tokens.parse("a node such as n2")?,
            tokens.parse("a start such as 5.00c0ffee00c0ffee")?,
        ),
        b"trim" => Record::Trim(tokens.parse(SLOT)?),
        b"untrim" => Record::Untrim(tokens.parse(SLOT)?),
        b"lost" => Record::Lost,
        b"sound" => Record::Sound(tokens.parse(SLOT)?),
        _ => {
            let kinds = "start, ballot, promise, accept, decided, learn, peer, trim, untrim, lost or \
                         sound";
            return Err(ParseError::at(kinds, &word));
        }
    };
    tokens.end()?;
    Ok(record)
}

fn value(tokens: &Tokens) -> Result<Value, ParseError> {
    Value::new(tokens.tail()).ok_or_else(|| ParseError::at("a value without LF", tokens.tail()))
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::paxos::types::{Ballot, NodeId, Slot};
    use proptest::prelude::*;

    /// Any record; values hold any byte but LF.
    pub(in crate::disk) fn any_record() -> impl Strategy<Value = Record> {
        let ballot = || {
            let some = (1..=Ballot::ROUND_MAX, 1..=9u8)
                .prop_map(|(round, node)| Ballot::new(round, NodeId::new(node).unwrap()));
            prop_oneof![1 => Just(Ballot::ZERO), 9 => some]
        };
        let proposed = || {
            let owned = (1..=Ballot::ROUND_MAX, 1..=9u8);
            owned.prop_map(|(round, node)| Ballot::new(round, NodeId::new(node).unwrap()))
        };
        let slot = || (0..=Slot::MAX.0).prop_map(Slot);
        let byte = any::<u8>().prop_map(|b| if b == b'\n' { b' ' } else { b });
        let value = || {
            proptest::collection::vec(byte.clone(), 1..60)
                .prop_map(|bytes| Value::new(bytes).unwrap())
        };
        prop_oneof![
            (1..=Life::START_MAX).prop_map(Record::Start),
            ballot().prop_map(Record::Ballot),
            ballot().prop_map(Record::Promise),
            (proposed(), 1..=Slot::MAX.0, value()).prop_map(|(b, s, v)| Record::Accept(
                b,
                Slot(s),
                v
            )),
            (ballot(), slot()).prop_map(|(b, s)| Record::Decided(b, s)),
            (slot(), value()).prop_map(|(s, v)| Record::Learn(s, v)),
            (1..=9u8, 0..=Life::START_MAX, any::<u64>()).prop_map(|(node, start, mark)| {
                Record::Peer(NodeId::new(node).unwrap(), Life { start, mark })
            }),
            slot().prop_map(Record::Trim),
            slot().prop_map(Record::Untrim),
            Just(Record::Lost),
            slot().prop_map(Record::Sound),
        ]
    }

    fn text(record: &Record) -> Vec<u8> {
        let mut out = Vec::new();
        write(&mut out, record);
        out
    }

    #[test]
    fn every_kind_has_its_text() {
        let ballot = Ballot::new(3, NodeId::new(2).unwrap());
        let value = Value::new(&b"n2.1.1 put apple 1.25"[..]).unwrap();
        for (record, body) in [
            (Record::Start(5), "start 5"),
            (Record::Ballot(ballot), "ballot b3.2"),
            (Record::Promise(ballot), "promise b3.2"),
            (
                Record::Accept(ballot, Slot(17), value.clone()),
                "accept b3.2 s17 n2.1.1 put apple 1.25",
            ),
            (Record::Decided(ballot, Slot(17)), "decided b3.2 s17"),
            (
                Record::Learn(Slot(17), value),
                "learn s17 n2.1.1 put apple 1.25",
            ),
        ] {
            assert_eq!(text(&record), body.as_bytes());
            assert_eq!(parse(body.as_bytes()), Ok(record));
        }
    }

    #[test]
    fn a_value_keeps_the_blanks_at_its_ends() {
        let record = Record::Learn(Slot(1), Value::new(&b"  a \t"[..]).unwrap());
        assert_eq!(text(&record), b"learn s1   a \t");
        assert_eq!(parse(&text(&record)), Ok(record));
    }

    #[test]
    fn a_wrong_body_says_what_was_expected() {
        for (body, error) in [
            ("", "expected a kind of record, found the end of the line"),
            (
                "vote b1.1",
                "expected start, ballot, promise, accept, decided, learn, peer, trim, untrim, lost or sound, found \"vote\"",
            ),
            ("promise 3", "expected a ballot such as b3.2, found \"3\""),
            (
                "promise b3.2 s1",
                "expected the end of the line, found \"s1\"",
            ),
            ("learn s1 ", "expected a value without LF, found \"\""),
        ] {
            assert_eq!(parse(body.as_bytes()).unwrap_err().to_string(), error);
        }
    }

    proptest! {
        #[test]
        fn every_record_reads_back(record in any_record()) {
            let body = text(&record);
            prop_assert!(!body.contains(&b'\n'));
            prop_assert_eq!(parse(&body), Ok(record));
        }

        #[test]
        fn no_body_makes_the_reader_panic(body in proptest::collection::vec(any::<u8>(), 0..40)) {
            let _ = parse(&body);
        }
    }
}
