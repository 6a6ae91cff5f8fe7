//! What a connection of RESP reads of the store.
//!
//! A request is one look: all its keys are read under one lock, and what walks through many keys does
//! so in an image of the store, which costs nothing to take and does not hold anybody up.

use std::ops::Bound;

use crate::kv::command::Bytes;
use crate::wire::resp::{Pattern, Read, Reply, Scan};

use super::run::Server;

/// The answer to a question about the map.
pub(super) fn look(server: &Server, read: &Read) -> Reply {
    let store = || server.store.lock();
    match read {
        Read::Get(key) => Reply::found(store().get(key)),
        Read::Exists(keys) => {
            let store = store();
            Reply::count(keys.iter().filter(|key| store.get(key).is_some()).count())
        }
        Read::Length(key) => Reply::count(store().get(key).map_or(0, |value| value.len())),
        Read::Range(key, start, end) => {
            let value = store().get(key).unwrap_or_default();
            Reply::Bulk(part(&value, *start, *end).into())
        }
        Read::Many(keys) => {
            let store = store();
            Reply::Array(
                keys.iter()
                    .map(|key| Reply::found(store.get(key)))
                    .collect(),
            )
        }
        Read::Kind(key) => Reply::Simple(match store().get(key) {
            Some(_) => "string",
            None => "none",
        }),
        Read::Keys(pattern) => Reply::Array(keys(server, pattern)),
        Read::Scan(scan) => step(server, scan),
        Read::Size => Reply::count(store().len()),
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
    if start < 0 && end < 0 && start > end {
        return &[];
    }
    let (start, end) = (from_front(start), from_front(end).min(len - 1));
    let place = |at: i64| usize::try_from(at).expect("0 or more");
    if start > end {
        return &[];
    }
    &value[place(start)..=place(end)]
}

fn keys(server: &Server, pattern: &[u8]) -> Vec<Reply> {
    let pattern = Pattern::new(pattern);
    let prefix = pattern.prefix();
    let image = server.store.lock().clone();
    image
        .range(Bound::Included(&prefix))
        .map(|(key, _)| key)
        .take_while(|key| key.starts_with(&prefix))
        .filter(|key| pattern.matches(key))
        .map(|key| Reply::Bulk(key.clone()))
        .collect()
}

/// One step of a scan: the keys are looked at in byte order, and the cursor stands for the last one that
/// was. So a key that is there all the time is returned exactly once, whatever is written meanwhile.
fn step(server: &Server, scan: &Scan) -> Reply {
    let answer =
        |cursor: u64, keys| Reply::Array(vec![Reply::text(cursor.to_string()), Reply::Array(keys)]);
    let mut after = None;
    if scan.cursor != 0 {
        after = server.cursors.resume(scan.cursor);
        if after.is_none() {
            return Reply::error(format_args!(
                "cursor {} is not known to this server, or not any more: scan again from 0",
                scan.cursor
            ));
        }
    }
    if !scan.strings {
        return answer(0, Vec::new());
    }
    let pattern = Pattern::new(scan.pattern.as_deref().unwrap_or(b"*"));
    let prefix = pattern.prefix();
    let start = match &after {
        Some(key) if **key >= prefix[..] => Bound::Excluded(&**key),
        _ => Bound::Included(&prefix[..]),
    };
    let image = server.store.lock().clone();
    let mut range = image
        .range(start)
        .map(|(key, _)| key)
        .take_while(|key| key.starts_with(&prefix))
        .peekable();
    let looked: Vec<&Bytes> = range.by_ref().take(scan.count).collect();
    let cursor = match (looked.last(), range.peek()) {
        (Some(last), Some(_)) => server.cursors.mark((*last).clone(), scan.cursor),
        _ => 0,
    };
    let matching = looked.into_iter().filter(|key| pattern.matches(key));
    answer(
        cursor,
        matching.map(|key| Reply::Bulk(key.clone())).collect(),
    )
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
}
