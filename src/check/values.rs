//! Values as small numbers, so that a state of the search is one word.

use std::collections::HashMap;

use crate::kv::command::Bytes;

/// A value, by the place where it was first seen.
pub(super) type ValueId = u32;

/// The values of one search. It grows: an open `INCR` leaves sums that nobody has seen.
#[derive(Debug, Default)]
pub(super) struct Values {
    ids: HashMap<Bytes, ValueId>,
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
        self.numbers.push(integer(value));
        id
    }

    pub(super) fn id_of_number(&mut self, number: i64) -> ValueId {
        self.id(&number.to_string().into_bytes().into())
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
