//! Questions about the map, and how what was found is told.
//!
//! Outside of a transaction a question is answered from the store at hand, inside of one by the log; the
//! same rows of [`Read::of_values`] tell both.

use super::command::{Request, RequestError, argument, integer, key, keys, pattern, word};
use super::frame::Arguments;
use super::reply::Reply;
use super::table::Row;
use crate::kv::command::{Bytes, Millis, Outcome, Step};
use crate::text;

/// How many keys one `SCAN` looks at when nothing is said, as in Redis.
const SCAN_COUNT: usize = 10;

/// How many keys one `SCAN` looks at at most: a higher `COUNT` is a wish, and gets this.
pub(super) const SCAN_COUNT_MAX: usize = 65_536;

/// A question about the map.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Read {
    /// The value of a key.
    Get(Bytes),
    /// How many of these there are.
    Exists(Vec<Bytes>),
    /// How long a value is.
    Length(Bytes),
    /// The bytes of a value from one place to another, both included; below zero, from its end.
    Range(Bytes, i64, i64),
    /// The values of these, at one moment.
    Many(Vec<Bytes>),
    /// What kind of value there is.
    Kind(Bytes),
    /// How long a key still stays.
    Ttl(Bytes, Unit),
    /// The keys that match.
    Keys(Bytes),
    /// Some keys, and where to go on.
    Scan(Scan),
    /// How many keys there are.
    Size,
}

/// In what a time is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// Whole seconds, the half of one rounded up.
    Seconds,
    /// Milliseconds.
    Millis,
}

/// One step through the keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scan {
    /// Where to go on; 0 at the beginning.
    pub cursor: u64,
    /// Which keys are wanted, if not all.
    pub pattern: Option<Bytes>,
    /// How many keys are looked at.
    pub count: usize,
    /// Whether values of the wanted type can be there.
    pub strings: bool,
}

impl Read {
    /// The keys whose values answer it; none if it takes something else.
    pub fn keys(&self) -> Option<&[Bytes]> {
        match self {
            Self::Get(key) | Self::Length(key) | Self::Range(key, ..) | Self::Kind(key) => {
                Some(std::slice::from_ref(key))
            }
            Self::Exists(keys) | Self::Many(keys) => Some(keys),
            Self::Ttl(..) | Self::Keys(_) | Self::Scan(_) | Self::Size => None,
        }
    }

    /// The answer, from the values of [`Read::keys`], in their order.
    pub fn of_values(&self, mut values: impl Iterator<Item = Option<Bytes>>) -> Reply {
        match self {
            Self::Exists(_) => Reply::count(values.flatten().count()),
            Self::Many(_) => Reply::Array(values.map(Reply::found).collect()),
            _ => self.of_value(values.next().flatten()),
        }
    }

    fn of_value(&self, value: Option<Bytes>) -> Reply {
        match self {
            Self::Length(_) => Reply::count(value.map_or(0, |value| value.len())),
            Self::Range(_, start, end) => {
                Reply::Bulk(part(&value.unwrap_or_default(), *start, *end).into())
            }
            Self::Kind(_) => Reply::Simple(if value.is_some() { "string" } else { "none" }),
            _ => Reply::found(value),
        }
    }

    /// The steps of a transaction that answer it; none if a transaction cannot.
    pub fn steps(&self) -> Option<Vec<Step>> {
        match self {
            Self::Ttl(key, _) => Some(vec![Step::Ttl { key: key.clone() }]),
            Self::Size => Some(vec![Step::Size]),
            _ => {
                let keys = self.keys()?.iter().cloned();
                Some(keys.map(|key| Step::Get { key }).collect())
            }
        }
    }

    /// The answer, from what [`Read::steps`] came to. Any other outcome is an error: it must not look like
    /// a missing key.
    pub(super) fn of_outcomes(&self, outcomes: Vec<Outcome>) -> Reply {
        if outcomes.contains(&Outcome::TooLong) {
            return Reply::error("this transaction reads more than fits into one reply");
        }
        if outcomes.is_empty() {
            return Reply::untold();
        }
        match (self, &outcomes[..]) {
            (Self::Size, [Outcome::Number(count)]) => return Reply::Integer(*count),
            (Self::Ttl(_, unit), [Outcome::Remaining(millis)]) => return unit.reply(Some(*millis)),
            (Self::Ttl(_, unit), [Outcome::NotFound]) => return unit.reply(None),
            (Self::Size | Self::Ttl(..), _) => return Reply::untold(),
            _ => {}
        }
        let values = outcomes.into_iter().map(|outcome| match outcome {
            Outcome::Value(value) => Ok(Some(value)),
            Outcome::NotFound => Ok(None),
            other => Err(other),
        });
        match values.collect::<Result<Vec<_>, _>>() {
            Ok(values) => self.of_values(values.into_iter()),
            Err(_) => Reply::untold(),
        }
    }
}

impl Unit {
    /// How long a key still stays, as Redis tells it: -1 for a key without an end, -2 for none.
    pub fn reply(self, found: Option<Option<Millis>>) -> Reply {
        Reply::Integer(match found {
            None => -2,
            Some(None) => -1,
            Some(Some(millis)) => {
                let told = match self {
                    Self::Seconds => millis.saturating_add(500) / 1_000,
                    Self::Millis => millis,
                };
                i64::try_from(told).unwrap_or(i64::MAX)
            }
        })
    }
}

/// The bytes from `start` to `end`, both included; below zero they count from the end.
fn part(value: &[u8], start: i64, end: i64) -> &[u8] {
    let len = i64::try_from(value.len()).expect("a value is short");
    let from_front = |at: i64| {
        if at < 0 {
            (len + at.max(-len)).max(0)
        } else {
            at.min(len)
        }
    };
    // Both count from the end and stand the wrong way round: nothing, and not the first byte.
    if start < 0 && start > end {
        return &[];
    }
    let (start, end) = (from_front(start), from_front(end).min(len - 1));
    let place = |at: i64| usize::try_from(at).expect("0 or more");
    if start > end {
        return &[];
    }
    &value[place(start)..=place(end)]
}

/// Reads a question about the map.
pub(super) fn look(row: &Row, arguments: Arguments<'_>) -> Result<Request, RequestError> {
    Ok(Request::Read(match row.name {
        "get" => Read::Get(key(arguments, 1)?),
        "exists" => Read::Exists(keys(arguments)?),
        "strlen" => Read::Length(key(arguments, 1)?),
        "getrange" => {
            let (start, end) = (argument(arguments, 2), argument(arguments, 3));
            Read::Range(key(arguments, 1)?, integer(start)?, integer(end)?)
        }
        "mget" => Read::Many(keys(arguments)?),
        "type" => Read::Kind(key(arguments, 1)?),
        "ttl" => Read::Ttl(key(arguments, 1)?, Unit::Seconds),
        "pttl" => Read::Ttl(key(arguments, 1)?, Unit::Millis),
        "keys" => Read::Keys(pattern(argument(arguments, 1))?),
        "scan" => Read::Scan(scan(arguments)?),
        // `dbsize`
        _ => Read::Size,
    }))
}

/// Reads `WATCH`.
pub(super) fn watch(_: &Row, arguments: Arguments<'_>) -> Result<Request, RequestError> {
    keys(arguments).map(Request::Watch)
}

fn scan(arguments: Arguments<'_>) -> Result<Scan, RequestError> {
    let cursor = text::number(argument(arguments, 1));
    let mut scan = Scan {
        cursor: cursor.ok_or_else(|| RequestError::new("invalid cursor"))?,
        pattern: None,
        count: SCAN_COUNT,
        strings: true,
    };
    let mut at = 2;
    while at < arguments.len() {
        let text = arguments.get(at + 1).ok_or_else(RequestError::syntax)?;
        match &*word(arguments, at) {
            b"match" => scan.pattern = Some(pattern(text)?),
            b"count" => {
                let count = integer(text)?;
                let count = usize::try_from(count).ok().filter(|&count| count > 0);
                scan.count = count.ok_or_else(RequestError::syntax)?.min(SCAN_COUNT_MAX);
            }
            b"type" => scan.strings = text.eq_ignore_ascii_case(b"string"),
            _ => return Err(RequestError::syntax()),
        }
        at += 2;
    }
    Ok(scan)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each beside what Redis 7.0.15 made of it.
    #[test]
    fn a_part_of_a_value_is_that_of_redis() {
        for (start, end, expected) in [
            (0, 3, "This"),
            (-3, -1, "ing"),
            (-3, -3, "i"),
            (-1, -1, "g"),
            (4, 4, " "),
            (0, -1, "This is a string"),
            (10, 100, "string"),
            (100, 200, ""),
            (5, 3, ""),
            (-1, -3, ""),
            (-100, 3, "This"),
            (-100, -50, "T"),
            (-50, -100, ""),
            (0, -100, "T"),
            (1, -100, ""),
            (i64::MIN, i64::MAX, "This is a string"),
            (i64::MAX, i64::MIN, ""),
        ] {
            let found = part(b"This is a string", start, end);
            assert_eq!(found, expected.as_bytes(), "{start} {end}");
        }
        assert_eq!(part(b"", 0, -1), b"");
        assert_eq!(part(b"", -5, 5), b"");
    }

    #[test]
    fn times_are_told_as_redis_tells_them() {
        let told = |unit: Unit, found| match unit.reply(found) {
            Reply::Integer(number) => number,
            other => panic!("{other:?}"),
        };
        assert_eq!(told(Unit::Seconds, None), -2);
        assert_eq!(told(Unit::Millis, Some(None)), -1);
        for (millis, seconds) in [(1, 0), (499, 0), (500, 1), (1_499, 1), (10_000, 10)] {
            assert_eq!(told(Unit::Seconds, Some(Some(millis))), seconds);
            assert_eq!(told(Unit::Millis, Some(Some(millis))), millis.cast_signed());
        }
        assert_eq!(told(Unit::Millis, Some(Some(u64::MAX))), i64::MAX);
    }

    /// Outside of a transaction the store answers, inside the log does: both tell the same.
    #[test]
    fn a_question_is_answered_alike_inside_of_a_transaction_and_outside() {
        let key = |name: &str| Bytes::from(name.as_bytes());
        let held = |key: &Bytes| (**key == *b"there").then(|| Bytes::from(&b"abc"[..]));
        let (there, gone) = (|| key("there"), || key("gone"));
        for (read, keys, expected) in [
            (Read::Get(there()), 1, Reply::text("abc")),
            (Read::Get(gone()), 1, Reply::Null),
            (
                Read::Exists(vec![there(), gone(), there()]),
                3,
                Reply::Integer(2),
            ),
            (Read::Length(there()), 1, Reply::Integer(3)),
            (Read::Length(gone()), 1, Reply::Integer(0)),
            (Read::Range(there(), 1, -1), 1, Reply::text("bc")),
            (Read::Range(gone(), 0, -1), 1, Reply::text("")),
            (
                Read::Many(vec![there(), gone()]),
                2,
                Reply::Array(vec![Reply::text("abc"), Reply::Null]),
            ),
            (Read::Kind(there()), 1, Reply::Simple("string")),
            (Read::Kind(gone()), 1, Reply::Simple("none")),
        ] {
            let asked = read.keys().unwrap();
            assert_eq!(asked.len(), keys, "{read:?}");
            let outside = read.of_values(asked.iter().map(held));
            assert_eq!(outside, expected, "{read:?}");
            let steps = read.steps().unwrap();
            assert_eq!(steps.len(), keys, "{read:?}");
            let inside = steps.iter().map(|step| match step {
                Step::Get { key } => held(key).map_or(Outcome::NotFound, Outcome::Value),
                other => panic!("{other:?}"),
            });
            let inside = read.of_outcomes(inside.collect());
            assert_eq!(inside, expected, "{read:?}");
        }
    }

    /// What no value answers has a step of its own, or none.
    #[test]
    fn times_and_sizes_are_asked_for_by_steps_of_their_own() {
        let key: Bytes = b"k"[..].into();
        let told = |read: &Read, outcome| read.of_outcomes(vec![outcome]);
        let ttl = Read::Ttl(key.clone(), Unit::Seconds);
        assert_eq!(ttl.keys(), None);
        assert_eq!(ttl.steps(), Some(vec![Step::Ttl { key: key.clone() }]));
        let remaining = Outcome::Remaining(Some(2_000));
        assert_eq!(told(&ttl, remaining), Reply::Integer(2));
        assert_eq!(told(&ttl, Outcome::Remaining(None)), Reply::Integer(-1));
        assert_eq!(told(&ttl, Outcome::NotFound), Reply::Integer(-2));
        assert_eq!(Read::Size.keys(), None);
        assert_eq!(Read::Size.steps(), Some(vec![Step::Size]));
        assert_eq!(told(&Read::Size, Outcome::Number(3)), Reply::Integer(3));
        let keys = Read::Keys(key);
        assert_eq!((keys.keys(), keys.steps()), (None, None));
    }

    /// What does not fit must not look like a missing key.
    #[test]
    fn a_value_that_was_not_told_is_an_error() {
        let keys: Vec<Bytes> = [b"a", b"b"].map(|key| key[..].into()).into();
        let read = Read::Many(keys);
        let value = Outcome::Value(b"v"[..].into());
        let whole = read.of_outcomes(vec![value.clone(), Outcome::NotFound]);
        let found = [Reply::text("v"), Reply::Null];
        assert_eq!(whole, Reply::Array(found.into()));
        let cut = read.of_outcomes(vec![value, Outcome::TooLong]);
        assert!(matches!(cut, Reply::Error(_)));
    }
}
