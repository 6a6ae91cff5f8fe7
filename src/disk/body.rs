//! What a line of the log says: a record, or one of the log's own lines.
//!
//! | body | means |
//! | --- | --- |
//! | `segment 2 7 4` | first in each segment: format 2, segment 7, and 4 lines were written with this one |
//! | `first 5 1234` | a durable snapshot holds all before segment 5, which begins with line 1234; the older ones may be gone |
//! | `missing 17 21` | lines 17 to 21 cannot be read; it is known, and a `lost` stands behind it |
//! | any other | a record ([`super::record`]) |
//!
//! The lines that a segment begins with are durable before it gets its name. So one of them that is
//! not whole is damage, even where nothing stands behind it.
//!
//! Format 1 had no such lines but the head, `segment 1 7`; it is still read.

use super::record;
use crate::paxos::record::Record;
use crate::paxos::types::Slot;
use crate::text::{ParseError, Tokens};
use std::io::Write;

/// The version of the format, in the head of each segment.
const FORMAT: u64 = 2;

/// The version before it, which a head counted no lines in.
const FORMAT_UNCOUNTED: u64 = 1;

/// What a line says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Body {
    /// The head of a segment.
    Segment {
        /// Its number.
        number: u64,
        /// How many lines were written with it.
        lines: u64,
    },
    /// From where on the log must be whole.
    First(First),
    /// These lines cannot be read, and it is known.
    Missing { from: u64, to: u64 },
    /// What the log is for.
    Record(Record),
}

/// From where on a log must be whole: what stands before may be gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct First {
    /// The segment.
    pub(super) segment: u64,
    /// The number of its first line.
    pub(super) seq: u64,
}

impl First {
    /// The beginning of a log that was never trimmed.
    pub(super) const START: Self = Self { segment: 1, seq: 1 };
}

impl Body {
    /// Appends the text to `out`. It holds no LF.
    pub(super) fn write(&self, out: &mut Vec<u8>) {
        match self {
            Self::Segment { number, lines } => write!(out, "segment {FORMAT} {number} {lines}"),
            Self::First(First { segment, seq }) => write!(out, "first {segment} {seq}"),
            Self::Missing { from, to } => write!(out, "missing {from} {to}"),
            Self::Record(record) => {
                record::write(out, record);
                Ok(())
            }
        }
        .expect("a Vec takes every write");
    }

    /// Reads a text.
    pub(super) fn parse(body: &[u8]) -> Result<Self, ParseError> {
        let mut tokens = Tokens::new(body);
        let word = tokens.need("a kind of record")?;
        let body = match &*word {
            b"segment" => {
                const EXPECTED: &str = "format version 1 or 2";
                let lines = match tokens.parse(EXPECTED)? {
                    FORMAT => None,
                    FORMAT_UNCOUNTED => Some(0),
                    other => {
                        return Err(ParseError::at(EXPECTED, u64::to_string(&other).as_bytes()));
                    }
                };
                Self::Segment {
                    number: tokens.parse("the number of a segment")?,
                    lines: lines.map_or_else(|| tokens.parse("a count of lines"), Ok)?,
                }
            }
            b"first" => Self::First(First {
                segment: tokens.parse("the number of a segment")?,
                seq: tokens.parse("the number of a line")?,
            }),
            b"missing" => Self::Missing {
                from: tokens.parse("the number of a line")?,
                to: tokens.parse("the number of a line")?,
            },
            _ => return record::parse(body).map(Self::Record),
        };
        tokens.end()?;
        Ok(body)
    }

    /// The record, if it is one.
    pub(super) fn record(&self) -> Option<&Record> {
        match self {
            Self::Record(record) => Some(record),
            _ => None,
        }
    }

    /// The slot whose decision the line is about; what stands in a segment is of no use once a
    /// snapshot holds the highest of these.
    pub(super) fn slot(&self) -> Option<Slot> {
        match self.record()? {
            Record::Accept(_, slot, _) | Record::Decided(_, slot) | Record::Learn(slot, _) => {
                Some(*slot)
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_logs_own_lines_read_back() {
        let first = First { segment: 5, seq: 9 };
        for (body, text) in [
            (
                Body::Segment {
                    number: 7,
                    lines: 4,
                },
                "segment 2 7 4",
            ),
            (Body::First(first), "first 5 9"),
            (Body::Missing { from: 17, to: 21 }, "missing 17 21"),
            (Body::Record(Record::Trim(Slot(3))), "trim s3"),
        ] {
            let mut out = Vec::new();
            body.write(&mut out);
            assert_eq!(out, text.as_bytes());
            assert_eq!(Body::parse(text.as_bytes()), Ok(body));
        }
    }

    #[test]
    fn the_head_of_an_older_format_is_read_and_that_of_a_newer_one_is_not() {
        let older = Body::Segment {
            number: 7,
            lines: 0,
        };
        assert_eq!(Body::parse(b"segment 1 7"), Ok(older));
        assert!(Body::parse(b"segment 1 7 4").is_err());
        assert!(Body::parse(b"segment 2 7").is_err());
        assert_eq!(
            Body::parse(b"segment 3 7 4").unwrap_err().to_string(),
            "expected format version 1 or 2, found \"3\""
        );
    }
}
