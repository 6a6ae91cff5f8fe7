//! The numbers of the protocol, each a type with one printed form: `n2`, `b3.2`, `s17`.
//!
//! The form is the same in logs, on the wire, in files, in tests and in errors, so that one
//! `grep s17` follows a slot through five processes.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use crate::text::number;

/// The largest cluster, and so the largest node number.
pub const NODES_MAX: u8 = 9;

/// A server of the cluster, printed `n2`. Numbers go from 1 to [`NODES_MAX`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(u8);

impl NodeId {
    /// The node with this number, if it is one from 1 to [`NODES_MAX`].
    pub fn new(number: u8) -> Option<Self> {
        (1..=NODES_MAX).contains(&number).then_some(Self(number))
    }

    /// The number alone, 1 to [`NODES_MAX`].
    pub fn number(self) -> u8 {
        self.0
    }
}

/// A ballot number, printed `b3.2`: round 3 of node 2. Ordered by round, then by node, so that no
/// two nodes ever share one (*Paxos Made Simple* 2.5: disjoint sets of numbers).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ballot {
    /// Counts the attempts to lead, over the whole cluster. From 1; 0 only in [`Ballot::ZERO`].
    pub round: u64,
    /// The node number of the one node that may use this ballot. 0 only in [`Ballot::ZERO`].
    node: u8,
}

impl Ballot {
    /// Below every ballot that a node may use.
    pub const ZERO: Self = Self { round: 0, node: 0 };

    /// The last round whose text reads back; it keeps `round + 1` from overflowing (P9).
    pub const ROUND_MAX: u64 = 1 << 60;

    /// The ballot of `node` in `round`. Round 0 is kept for [`Ballot::ZERO`].
    pub fn new(round: u64, node: NodeId) -> Self {
        assert!(round > 0, "round 0 belongs to no node");
        Self {
            round,
            node: node.0,
        }
    }

    /// The node that may use this ballot; none for [`Ballot::ZERO`].
    pub fn node(self) -> Option<NodeId> {
        NodeId::new(self.node)
    }
}

/// A place in the log, printed `s17`. The first is `s1`; `s0` means "none yet".
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Slot(pub u64);

impl Slot {
    /// Before the first slot.
    pub const ZERO: Self = Self(0);

    /// The last slot whose text reads back. At a million slots a second it is 35,000 years away;
    /// it keeps the arithmetic on slots that a peer names from overflowing.
    pub const MAX: Self = Self(1 << 60);

    /// The slot after this one.
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }

    /// The slot before this one; `s0` stays.
    pub fn previous(self) -> Self {
        Self(self.0.saturating_sub(1))
    }
}

/// One start of a node, printed `5.00c0ffee00c0ffee`: its number, and a mark that tells apart two
/// starts of one number, as they happen when a node starts from an older copy of its memory (P41).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Life {
    /// Counts the starts of the node, from 1; 0 is no life.
    pub start: u64,
    /// Drawn at random for each start.
    pub mark: u64,
}

impl Life {
    /// The last start whose text reads back; it keeps `start + 1` from overflowing.
    pub const START_MAX: u64 = 1 << 60;
}

/// What a slot holds: bytes that the protocol never looks into. They contain no LF, so that a value
/// can end any line of text as it stands.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Value(Arc<[u8]>);

/// The text of the value that changes nothing; fills the holes of a log.
const NOOP: &[u8] = b"noop";

impl Value {
    /// A value with these bytes; none if they are empty or hold a LF.
    pub fn new(bytes: impl Into<Arc<[u8]>>) -> Option<Self> {
        let bytes = bytes.into();
        (!bytes.is_empty() && !bytes.contains(&b'\n')).then_some(Self(bytes))
    }

    /// The value that changes nothing.
    pub fn noop() -> Self {
        Self(NOOP.into())
    }

    /// Whether this is the value that changes nothing.
    pub fn is_noop(&self) -> bool {
        &*self.0 == NOOP
    }

    /// The bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "n{}", self.0)
    }
}

impl fmt::Display for Ballot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "b{}.{}", self.round, self.node)
    }
}

impl fmt::Display for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "s{}", self.0)
    }
}

impl fmt::Display for Life {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:016x}", self.start, self.mark)
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&String::from_utf8_lossy(&self.0))
    }
}

/// `Debug` prints what `Display` prints: an assertion's text can be searched for in the logs.
macro_rules! debug_is_display {
    ($($name:ty),*) => {$(
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }
    )*};
}
debug_is_display!(NodeId, Ballot, Slot, Life, Value);

/// A text that is no printed form of the wanted type.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected {expected}, found {found:?}")]
pub struct FormError {
    /// What would have been right.
    pub expected: &'static str,
    /// What was there.
    pub found: String,
}

/// A decimal number without sign, blank or leading zero: each number has one text.
fn digits<T: TryFrom<u64>>(text: &str) -> Option<T> {
    T::try_from(number(text.as_bytes())?).ok()
}

impl FromStr for NodeId {
    type Err = FormError;

    fn from_str(text: &str) -> Result<Self, FormError> {
        text.strip_prefix('n')
            .and_then(digits)
            .and_then(NodeId::new)
            .ok_or_else(|| FormError {
                expected: "a node such as n2 (n1 to n9)",
                found: text.into(),
            })
    }
}

impl FromStr for Ballot {
    type Err = FormError;

    fn from_str(text: &str) -> Result<Self, FormError> {
        let parse = || {
            let (round, node) = text.strip_prefix('b')?.split_once('.')?;
            let ballot = Self {
                round: digits(round)?,
                node: digits(node)?,
            };
            // Round and node are zero together or not at all.
            let whole = (ballot.round == 0) == (ballot.node == 0);
            let bounded = ballot.round <= Self::ROUND_MAX && ballot.node <= NODES_MAX;
            (whole && bounded).then_some(ballot)
        };
        parse().ok_or_else(|| FormError {
            expected: "a ballot such as b3.2",
            found: text.into(),
        })
    }
}

impl FromStr for Slot {
    type Err = FormError;

    fn from_str(text: &str) -> Result<Self, FormError> {
        text.strip_prefix('s')
            .and_then(digits)
            .map(Slot)
            .filter(|&slot| slot <= Slot::MAX)
            .ok_or_else(|| FormError {
                expected: "a slot such as s17",
                found: text.into(),
            })
    }
}

impl FromStr for Life {
    type Err = FormError;

    fn from_str(text: &str) -> Result<Self, FormError> {
        let parse = || {
            let (start, mark) = text.split_once('.')?;
            let plain = mark.len() == 16 && mark.bytes().all(|b| b.is_ascii_hexdigit());
            let life = Self {
                start: digits(start)?,
                mark: u64::from_str_radix(mark, 16).ok().filter(|_| plain)?,
            };
            // Upper case would be a second text of the same life.
            (life.start <= Self::START_MAX && life.to_string() == text).then_some(life)
        };
        parse().ok_or_else(|| FormError {
            expected: "a start such as 5.00c0ffee00c0ffee",
            found: text.into(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(n: u8) -> NodeId {
        NodeId::new(n).unwrap()
    }

    #[test]
    fn every_number_prints_and_reads_back() {
        assert_eq!("n2".parse(), Ok(node(2)));
        assert_eq!("b3.2".parse(), Ok(Ballot::new(3, node(2))));
        assert_eq!("b0.0".parse(), Ok(Ballot::ZERO));
        assert_eq!("s17".parse(), Ok(Slot(17)));
        let life = Life {
            start: 5,
            mark: 0xc0_ffee,
        };
        assert_eq!("5.0000000000c0ffee".parse(), Ok(life));
        assert_eq!(life.to_string(), "5.0000000000c0ffee");
        assert_eq!(
            format!("{} {} {}", node(2), Ballot::new(3, node(2)), Slot(17)),
            "n2 b3.2 s17"
        );
    }

    #[test]
    fn a_number_has_one_text_only() {
        for bad in ["", "n", "n0", "n10", "n02", "2", "N2"] {
            assert!(bad.parse::<NodeId>().is_err(), "{bad}");
        }
        for bad in [
            "b3",
            "b3.0",
            "b0.2",
            "b3.10",
            "b+3.2",
            "b3.2.1",
            "b99999999999999999999.1",
            "b1152921504606846977.1",
        ] {
            assert!(bad.parse::<Ballot>().is_err(), "{bad}");
        }
        for bad in [
            "5",
            "5.",
            "5.c0ffee",
            "5.00C0FFEE00C0FFEE",
            "05.00c0ffee00c0ffee",
        ] {
            assert!(bad.parse::<Life>().is_err(), "{bad}");
        }
        for bad in ["s", "s-1", "s 1", "s01", "17", "s18446744073709551615"] {
            assert!(bad.parse::<Slot>().is_err(), "{bad}");
        }
    }

    /// D3, P8: two proposers that start at once never share a ballot.
    #[test]
    fn ballots_of_one_round_are_ordered_by_node() {
        assert!(Ballot::new(3, node(1)) < Ballot::new(3, node(2)));
        assert!(Ballot::new(3, node(5)) < Ballot::new(4, node(1)));
        assert!(Ballot::ZERO < Ballot::new(1, node(1)));
    }

    #[test]
    fn a_value_is_one_line_and_never_empty() {
        assert!(Value::new(&b"a\nb"[..]).is_none());
        assert!(Value::new(&b""[..]).is_none());
        assert!(Value::noop().is_noop());
        assert!(!Value::new(&b"put a b"[..]).unwrap().is_noop());
    }
}
