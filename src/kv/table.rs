//! The map itself: each key with its value, the slot that changed it last, and its end.
//!
//! Time comes from the log alone: the leader's stamp of a batch ([`Table::begin_slot`]), which never
//! goes back here, whatever it was (P26). A key is over as soon as the time is past its end, at the
//! same slot on every server; from then on no read and no command finds it. Past, not at: the time is
//! whole milliseconds, so a life may begin a part of one after the time that it counts from, and would
//! end as much too early. The entry itself is removed a little later, so that a million keys that end
//! together stop nobody: [`SWEPT_MAX`] a slot, the earliest end first. That too is the same everywhere.
//!
//! Both maps are persistent ones: a clone costs the same at any size.
//!
//! Left out on purpose: what commands make of it ([`super::change`]), and when batches are stamped.

use super::command::{Bytes, Millis};
use imbl::{OrdMap, OrdSet};
use std::ops::Bound;

/// How many keys that are over are removed in one slot.
pub(super) const SWEPT_MAX: usize = 1_000;

/// The end of a key that has none.
pub(super) const NEVER: Millis = Millis::MAX;

/// What stands under a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) value: Bytes,
    /// The slot that changed it last.
    pub(super) version: u64,
    /// The last millisecond that it is there; [`NEVER`] if it has no end.
    pub(super) end: Millis,
}

/// See the module's text.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Table {
    entries: OrdMap<Bytes, Entry>,
    /// The keys that have an end, the earliest first.
    ends: OrdSet<(Millis, Bytes)>,
    time: Millis,
    slot: u64,
}

impl Table {
    /// A table at this slot and time, for entries to be restored.
    pub(super) fn restored(slot: u64, time: Millis) -> Self {
        Self {
            time,
            slot,
            ..Self::default()
        }
    }

    /// Begins a slot: sets the time forward to its stamp and removes some of what is over. Tells how many.
    pub(super) fn begin_slot(&mut self, slot: u64, stamp: Option<Millis>) -> usize {
        self.slot = slot;
        self.time = self.time.max(stamp.unwrap_or(0));
        let mut swept = 0;
        while swept < SWEPT_MAX && self.has_overdue() {
            let (_, key) = self.ends.remove_min().expect("there is an earliest end");
            self.entries.remove(&key);
            swept += 1;
        }
        swept
    }

    /// The time of the last stamp.
    pub(super) fn time(&self) -> Millis {
        self.time
    }

    /// The earliest end of a key that was not removed.
    pub(super) fn first_end(&self) -> Option<Millis> {
        self.ends.get_min().map(|&(end, _)| end)
    }

    /// How many entries would be over at this stamp and are still to be removed; counts no further than `limit`.
    pub(super) fn overdue(&self, stamp: Option<Millis>, limit: usize) -> usize {
        let time = self.time.max(stamp.unwrap_or(0));
        let over = self.ends.iter().take_while(|&&(end, _)| end < time);
        over.take(limit).count()
    }

    fn has_overdue(&self) -> bool {
        self.first_end().is_some_and(|end| end < self.time)
    }

    /// What stands under a key that is not over.
    pub(super) fn get(&self, key: &[u8]) -> Option<&Entry> {
        self.entries.get(key).filter(|entry| self.lives(entry))
    }

    /// Puts a value under a key, with an end.
    pub(super) fn set(&mut self, key: &Bytes, value: Bytes, end: Millis) {
        let entry = Entry {
            value,
            version: self.slot,
            end,
        };
        self.restore(key.clone(), entry);
    }

    /// Puts an entry there as it is.
    pub(super) fn restore(&mut self, key: Bytes, entry: Entry) {
        let end = entry.end;
        let before = self.entries.insert(key.clone(), entry);
        let end_before = before.map_or(NEVER, |before| before.end);
        if end_before != end {
            self.forget_end(&key, end_before);
            if end != NEVER {
                self.ends.insert((end, key));
            }
        }
    }

    /// Removes a key, if it is there.
    pub(super) fn remove(&mut self, key: &Bytes) {
        if let Some(before) = self.entries.remove(key) {
            self.forget_end(key, before.end);
        }
    }

    fn forget_end(&mut self, key: &Bytes, end: Millis) {
        if end != NEVER {
            self.ends.remove(&(end, key.clone()));
        }
    }

    /// Removes all.
    pub(super) fn clear(&mut self) {
        self.entries = OrdMap::new();
        self.ends = OrdSet::new();
    }

    /// How many entries there are; those that are over and not removed yet are among them.
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// How many of them have an end.
    pub(super) fn mortal(&self) -> usize {
        self.ends.len()
    }

    /// The last key.
    pub(super) fn last_key(&self) -> Option<&Bytes> {
        self.entries.get_max().map(|(key, _)| key)
    }

    /// All entries from `start` on, in byte order, those that are over too.
    pub(super) fn entries<'a>(
        &'a self,
        start: Bound<&[u8]>,
    ) -> impl Iterator<Item = (&'a Bytes, &'a Entry)> + use<'a> {
        self.entries.range::<_, [u8]>((start, Bound::Unbounded))
    }

    /// All keys from `start` on that are not over, in byte order.
    pub(super) fn range(&self, start: Bound<&[u8]>) -> impl Iterator<Item = (&Bytes, &Bytes)> {
        self.entries(start)
            .filter(|(_, entry)| self.lives(entry))
            .map(|(key, entry)| (key, &entry.value))
    }

    fn lives(&self, entry: &Entry) -> bool {
        entry.end >= self.time
    }
}
