//! The store, as the replica shares it with the threads that serve clients.
//!
//! The replica alone writes; everyone else reads, and gets either a few keys or an image. No one ever
//! holds the lock for longer than the work of [`LOCKED_KEYS_MAX`] keys takes, and that is a matter of
//! types: the lock is private to this file, and whatever is handed a `&Store` that is not bounded is
//! handed an image, which belongs to the caller. An image costs the same at any size. What it does cost:
//! the next writes copy the nodes that they change, and whoever drops it last gives those back.
//!
//! A change of more keys than that is made to a copy, which then takes the store's place. So readers
//! see all of a slot or nothing of it, and wait for neither a transaction of thousands of keys nor as
//! many that end together.

use std::mem;
use std::sync::Arc;

use parking_lot::{Mutex, MutexGuard};

use crate::kv::command::{Bytes, Millis};
use crate::kv::store::{Counter, Store};

/// How many keys are read or changed under the lock at most; for more, a reader takes an image and a
/// writer a copy. Some tenths of a millisecond.
const LOCKED_KEYS_MAX: usize = 512;

/// The store. A clone is the same store.
#[derive(Debug, Clone)]
pub struct SharedStore(Arc<Mutex<Store>>);

impl SharedStore {
    pub(super) fn new(store: Store) -> Self {
        Self(Arc::new(Mutex::new(store)))
    }

    // --- For everyone ---

    /// The store as it is now. To be dropped by whoever does not hold anybody up.
    pub fn image(&self) -> Store {
        self.0.lock().clone()
    }

    /// The value of a key.
    pub fn get(&self, key: &[u8]) -> Option<Bytes> {
        self.0.lock().get(key)
    }

    /// The values of these keys, all at one moment.
    pub fn values(&self, keys: &[Bytes]) -> Vec<Option<Bytes>> {
        self.look(keys.len(), |store| {
            keys.iter().map(|key| store.get(key)).collect()
        })
    }

    /// The slots that changed these keys last, all at one moment; none for a key that is not there.
    pub fn versions(&self, keys: &[Bytes]) -> Vec<Option<u64>> {
        self.look(keys.len(), |store| {
            keys.iter().map(|key| store.version(key)).collect()
        })
    }

    /// How many milliseconds `key` stays after `now`, or after the store's own time if that is later: as
    /// [`Store::remaining`].
    #[allow(clippy::option_option, reason = "no key, or a key without an end")]
    pub fn remaining(&self, key: &[u8], now: Millis) -> Option<Option<Millis>> {
        let store = self.0.lock();
        store.remaining(key, store.time().max(now))
    }

    /// How many keys there are, as [`Store::len`].
    pub fn len(&self) -> usize {
        self.0.lock().len()
    }

    /// Whether there is no key.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many keys have an end.
    pub fn mortal(&self) -> usize {
        self.0.lock().mortal()
    }

    fn look<T>(&self, keys: usize, look: impl FnOnce(&Store) -> T) -> T {
        if keys > LOCKED_KEYS_MAX {
            return look(&self.image());
        }
        look(&self.0.lock())
    }

    // --- For the replica, which alone writes ---

    pub(super) fn counter(&self, origin: u8) -> Counter {
        self.0.lock().counter(origin)
    }

    pub(super) fn hash(&self) -> u64 {
        self.0.lock().hash()
    }

    /// Changes `keys` keys at most, besides those that are over by `time`. What the store was is handed
    /// back if it was replaced.
    pub(super) fn change(
        &self,
        keys: usize,
        time: Option<Millis>,
        change: impl FnOnce(&mut Store),
    ) -> Option<Store> {
        let mut store = self.0.lock();
        let over = store.overdue(time, LOCKED_KEYS_MAX + 1);
        if keys.saturating_add(over) > LOCKED_KEYS_MAX {
            let mut copy = store.clone();
            drop(store);
            change(&mut copy);
            return Some(self.replace(copy));
        }
        change(&mut store);
        // parking_lot's locks are not fair by themselves: readers would starve during a long catch-up.
        MutexGuard::unlock_fair(store);
        None
    }

    /// Puts another store in the place of this one, and returns this one.
    pub(super) fn replace(&self, store: Store) -> Store {
        mem::replace(&mut *self.0.lock(), store)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kv::batch::Batch;

    fn bytes(text: &str) -> Bytes {
        text.as_bytes().into()
    }

    /// The store after one slot, which sets so many keys, each to end 50 ms after the time 1,000.
    fn filled(keys: usize) -> SharedStore {
        let sets: Vec<String> = (1..=keys)
            .map(|n| format!(" ; n2.1.{n} set k{n} v any in 50"))
            .collect();
        let mut store = Store::new();
        let batch = Batch::read(format!("at 1000{}", sets.concat()).as_bytes());
        store.apply(1, &batch, |_, _| {});
        SharedStore::new(store)
    }

    /// Whether readers wait while these keys are changed, and what was replaced.
    fn changed(shared: &SharedStore, keys: usize, stamp: Millis) -> (bool, Option<Store>) {
        let batch = Batch::read(format!("at {stamp} ; n3.1.1 put new v").as_bytes());
        let mut waits = false;
        let before = shared.change(keys, batch.stamp(), |store| {
            store.apply(2, &batch, |_, _| {});
            waits = shared.0.is_locked();
            if !waits {
                assert_eq!(shared.get(b"new"), None, "all of a slot or nothing of it");
            }
        });
        assert_eq!(shared.get(b"new"), Some(bytes("v")));
        (waits, before)
    }

    /// A few keys are changed in place; for many, what readers see is replaced, and handed back.
    #[test]
    fn nobody_waits_for_a_change_of_many_keys() {
        for (keys, waits) in [(1, true), (512, true), (513, false), (usize::MAX, false)] {
            let shared = filled(3);
            let image = shared.image();
            let (waited, before) = changed(&shared, keys, 1_000);
            assert_eq!(waited, waits, "{keys} keys");
            assert_eq!(before, (!waits).then_some(image), "{keys} keys");
        }
    }

    /// Keys that are over count, but only those that the slot's own time ends.
    #[test]
    fn nobody_waits_for_many_keys_that_end_together() {
        for (over, stamp, waits) in [
            (511, 1_051, true),
            (512, 1_051, false),
            (512, 1_050, true),
            (5_000, 1_051, false),
        ] {
            let (waited, _) = changed(&filled(over), 1, stamp);
            assert_eq!(waited, waits, "{over} keys at {stamp}");
        }
    }

    /// What is looked at belongs to one moment and is read under the lock only if it is little.
    #[test]
    fn nobody_waits_for_a_look_at_many_keys() {
        let shared = filled(3);
        for (keys, waits) in [(1, true), (512, true), (513, false)] {
            let waited = shared.look(keys, |store| {
                assert_eq!(store.len(), 3);
                shared.0.is_locked()
            });
            assert_eq!(waited, waits, "{keys} keys");
        }
        let keys: Vec<Bytes> = (0..2_000).map(|n| bytes(&format!("k{n}"))).collect();
        let there = [false, true, true, true].into_iter().chain([false; 1_996]);
        let found = |keys: &[Bytes]| -> Vec<bool> {
            shared.values(keys).iter().map(Option::is_some).collect()
        };
        assert_eq!(there.clone().collect::<Vec<_>>(), found(&keys));
        assert_eq!(vec![false, true], found(&keys[..2]));
        let versions = shared.versions(&keys);
        assert!(versions.iter().map(Option::is_some).eq(there));
        assert_eq!(shared.versions(&keys[..2]), [None, Some(1)]);
    }

    /// An image is nobody's but its holder's.
    #[test]
    fn nobody_waits_for_who_holds_an_image() {
        let shared = filled(3);
        let image = shared.image();
        assert!(!shared.0.is_locked());
        let (_, before) = changed(&shared, 1, 1_051);
        assert_eq!((before, image.len()), (None, 3));
        assert_eq!(shared.image().list(b"").len(), 1);
    }
}
