//! Where the steps of `SCAN` go on.
//!
//! A scan looks at keys in byte order, so the place to go on is a key; but client libraries take a cursor
//! for a number. So the keys stand in a table here, and a cursor is the number of one: a mark of this
//! start of this server in the upper bits, and a counter below. Cursors stay below 2^53, because some
//! libraries keep numbers as doubles.
//!
//! What that costs: a cursor is good at the server that gave it, until it stops. Elsewhere, and where it
//! had to make room for others, it is an error, and never the place of another scan: the mark is drawn
//! at random. A cursor may be used again, until the one that its use gave is used, for then its client
//! has that reply.

use std::collections::BTreeMap;

use parking_lot::Mutex;

use crate::kv::command::Bytes;

/// How many cursors there may be: 8,192 scans at once. Past that the oldest goes, and its scan must
/// begin anew. They take 17 MB if all their keys are of the longest.
const CURSORS_MAX: usize = 16_384;

/// How many bits of a cursor count; the mark stands above them.
const COUNTER_BITS: u32 = 30;

const MARK_BITS: u32 = 22;

const _: () = assert!(COUNTER_BITS + MARK_BITS < 53, "a cursor fits into a double");
const _: () = assert!(CURSORS_MAX < 1 << COUNTER_BITS, "no two have one number");

/// The cursors of a server. See the module's text.
pub(super) struct Cursors {
    mark: u64,
    table: Mutex<Table>,
}

#[derive(Default)]
struct Table {
    /// How many were ever given.
    given: u64,
    /// By how many were given before.
    places: BTreeMap<u64, Place>,
}

struct Place {
    /// The last key that was looked at.
    key: Bytes,
    /// The cursor that was used to get here, by its number, if there was one.
    before: Option<u64>,
}

impl Cursors {
    /// None yet. `random` is another number at each start.
    pub(super) fn new(random: u32) -> Self {
        // Never 0: else a counter whose bits are all 0 would make the cursor that ends a scan.
        let mark = random >> (u32::BITS - MARK_BITS) | 1;
        Self {
            mark: u64::from(mark) << COUNTER_BITS,
            table: Mutex::new(Table::default()),
        }
    }

    /// A cursor that stands for `key`, for who got here with the cursor `before`, or 0.
    pub(super) fn mark(&self, key: Bytes, before: u64) -> u64 {
        let mut table = self.table.lock();
        // 0 is the beginning of a scan, and no cursor.
        table.given += 1;
        let before = self.number(&table, before);
        let number = table.given;
        table.places.insert(number, Place { key, before });
        if table.places.len() > CURSORS_MAX {
            table.places.pop_first();
        }
        self.cursor(number)
    }

    /// The key that `cursor` stands for; none if that is not known.
    pub(super) fn resume(&self, cursor: u64) -> Option<Bytes> {
        let mut table = self.table.lock();
        let number = self.number(&table, cursor)?;
        let place = table.places.get_mut(&number)?;
        let (key, before) = (place.key.clone(), place.before.take());
        if let Some(before) = before {
            table.places.remove(&before);
        }
        Some(key)
    }

    fn cursor(&self, number: u64) -> u64 {
        self.mark | (number & COUNTER_MASK)
    }

    /// The number of the cursor, which is among the last that were given; none if it is not one of this
    /// server's.
    fn number(&self, table: &Table, cursor: u64) -> Option<u64> {
        if cursor & !COUNTER_MASK != self.mark {
            return None;
        }
        let back = table.given.wrapping_sub(cursor) & COUNTER_MASK;
        table.given.checked_sub(back)
    }
}

const COUNTER_MASK: u64 = (1 << COUNTER_BITS) - 1;

#[cfg(test)]
mod tests {
    use super::*;

    fn key(text: &str) -> Bytes {
        text.as_bytes().into()
    }

    #[test]
    fn a_cursor_stands_for_its_key_and_is_below_2_to_the_53() {
        for random in [0, 7, u32::MAX] {
            let cursors = Cursors::new(random);
            let a = cursors.mark(key("a"), 0);
            let b = cursors.mark(key("b"), 0);
            assert!(a != 0 && a != b && b < 1 << 53);
            assert_eq!(cursors.resume(a), Some(key("a")));
            assert_eq!(cursors.resume(b), Some(key("b")));
            assert_eq!(cursors.resume(a), Some(key("a")), "a reply may be lost");
        }
    }

    #[test]
    fn what_this_server_did_not_give_is_no_cursor() {
        let (one, other) = (Cursors::new(u32::MAX), Cursors::new(1 << 20));
        let cursor = one.mark(key("a"), 0);
        other.mark(key("b"), 0);
        for foreign in [0, 1, cursor + 1, cursor - 1, cursor | 1 << 60, u64::MAX] {
            assert_eq!(one.resume(foreign), None, "{foreign}");
        }
        assert_eq!(other.resume(cursor), None);
    }

    /// One scan, however long, holds two places.
    #[test]
    fn a_cursor_goes_when_its_successor_is_used() {
        let cursors = Cursors::new(3);
        let mut cursor = 0;
        for step in 0..100 {
            let next = cursors.mark(key(&step.to_string()), cursor);
            if cursor != 0 {
                assert!(cursors.resume(cursor).is_some(), "the reply may be lost");
            }
            assert!(cursors.resume(next).is_some());
            assert!(cursor == 0 || cursors.resume(cursor).is_none());
            assert!(cursors.table.lock().places.len() <= 2);
            cursor = next;
        }
    }

    #[test]
    fn the_oldest_cursors_make_room() {
        let cursors = Cursors::new(3);
        let given: Vec<u64> = (0..=CURSORS_MAX)
            .map(|_| cursors.mark(key("a"), 0))
            .collect();
        assert_eq!(cursors.resume(given[0]), None);
        assert!(
            given[1..]
                .iter()
                .all(|&cursor| cursors.resume(cursor).is_some())
        );
    }

    /// The counter's bits begin anew after a billion.
    #[test]
    fn a_counter_past_its_bits_gives_cursors_of_the_same_size() {
        let cursors = Cursors::new(5);
        cursors.table.lock().given = (1 << COUNTER_BITS) - 3;
        for _ in 0..6 {
            let cursor = cursors.mark(key("a"), 0);
            assert!(cursor != 0 && cursor < 1 << 53);
            assert_eq!(cursors.resume(cursor), Some(key("a")));
        }
    }
}
