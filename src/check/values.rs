//! Values as small numbers, so that a state of the search is one word.
//!
//! What an `APPEND` leaves is put together once a pair of values, and all of these have at most
//! [`JOINED_BYTES_MAX`]: that bounds the time it takes as well as the memory.

use std::collections::HashMap;

use crate::kv::command::{Bytes, VALUE_BYTES_MAX};

/// How many bytes of values may be put together for one key, all in all. Past that the key is
/// undecided. Clients that append to one key from many sides reach it with long values only.
const JOINED_BYTES_MAX: usize = 256 << 20;

/// A value, by the place where it was first seen.
pub(super) type ValueId = u32;

/// The values of one search. It grows: an open `INCR` leaves sums that nobody has seen.
#[derive(Debug, Default)]
pub(super) struct Values {
    ids: HashMap<Bytes, ValueId>,
    all: Vec<Bytes>,
    /// What two values are together.
    joined: HashMap<(ValueId, ValueId), ValueId>,
    joined_bytes: usize,
    /// The number that `INCR` takes each value for, if for any.
    numbers: Vec<Option<i64>>,
}

impl Values {
    pub(super) fn id(&mut self, value: &Bytes) -> ValueId {
        if let Some(&id) = self.ids.get(value) {
            return id;
        }
        let id = ValueId::try_from(self.numbers.len()).expect("fewer values than that");
        self.ids.insert(value.clone(), id);
        self.all.push(value.clone());
        self.numbers.push(integer(value));
        id
    }

    pub(super) fn id_of_number(&mut self, number: i64) -> ValueId {
        self.id(&number.to_string().into_bytes().into())
    }

    pub(super) fn len(&self, id: ValueId) -> usize {
        self.all[id as usize].len()
    }

    /// The value with `more` behind it; none where that would be too long, or once [`Values::are_full`].
    pub(super) fn join(&mut self, id: ValueId, more: ValueId) -> Option<ValueId> {
        if let Some(&joined) = self.joined.get(&(id, more)) {
            return Some(joined);
        }
        let bytes = self.len(id) + self.len(more);
        if bytes > VALUE_BYTES_MAX || self.are_full() {
            return None;
        }
        self.joined_bytes += bytes;
        let whole = [&*self.all[id as usize], &*self.all[more as usize]].concat();
        let joined = self.id(&whole.into());
        self.joined.insert((id, more), joined);
        Some(joined)
    }

    /// Whether no more values can be put together, and what follows from that proves nothing.
    pub(super) fn are_full(&self) -> bool {
        self.joined_bytes > JOINED_BYTES_MAX
    }

    pub(super) fn number(&self, id: ValueId) -> Option<i64> {
        self.numbers[id as usize]
    }
}

/// The number that a value is, in the one text that `INCR` itself would write.
pub(super) fn integer(value: &[u8]) -> Option<i64> {
    let text = std::str::from_utf8(value).ok()?;
    let number: i64 = text.parse().ok()?;
    (number.to_string() == text).then_some(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of_length(length: usize) -> Bytes {
        vec![b'v'; length].into()
    }

    /// What could be in no map is not put together, nor is the same twice.
    #[test]
    fn values_are_joined_as_long_as_a_value_may_be() {
        let mut values = Values::default();
        let (ab, cde) = (values.id(&b"ab"[..].into()), values.id(&b"cde"[..].into()));
        let joined = values.join(ab, cde);
        assert_eq!(joined, Some(values.id(&b"abcde"[..].into())));
        assert_eq!(values.join(ab, cde), joined);
        assert_eq!(values.joined_bytes, 5);
        for (length, fits) in [(2, true), (1, false), (0, false)] {
            let long = values.id(&of_length(VALUE_BYTES_MAX - length));
            assert_eq!(values.join(long, ab).is_some(), fits, "{length}");
        }
    }

    #[test]
    fn the_last_byte_that_may_be_joined_is() {
        let of_bytes = |joined_bytes| Values {
            joined_bytes,
            ..Values::default()
        };
        let mut most = of_bytes(JOINED_BYTES_MAX);
        assert!(!most.are_full());
        let value = most.id(&b"v"[..].into());
        assert!(most.join(value, value).is_some());
        assert!(most.are_full());
        assert_eq!(most.join(value, value), Some(most.id(&b"vv"[..].into())));
        let other = most.id(&b"w"[..].into());
        assert_eq!(most.join(value, other), None);
    }
}
