//! What connections read of the store, whatever they speak.
//!
//! A request is one look: what it reads is what the store held at one moment. What walks through many keys
//! does so in an image of the store, which costs nothing to take and does not hold anybody up.

use std::ops::Bound;

use crate::kv::command::{Bytes, Millis};
use crate::wire::resp::{Pattern, Read, Reply, Scan};

use super::super::wall_clock;
use super::run::Server;

/// The answer to a question of RESP about the map.
pub(super) fn look(server: &Server, read: &Read) -> Reply {
    if let Some(keys) = read.keys() {
        return read.of_values(server.store.values(keys).into_iter());
    }
    match read {
        Read::Ttl(key, unit) => unit.reply(remaining(server, key)),
        Read::Keys(pattern) => Reply::Array(keys(server, pattern)),
        Read::Scan(scan) => step(server, scan),
        _ => Reply::count(server.store.len()),
    }
}

/// How long a key still stays, by the clock of this server: it ends by the log, which may have come less
/// far. So it is an estimate, as good as the servers' clocks agree.
#[allow(clippy::option_option, reason = "no key, or a key without an end")]
pub(super) fn remaining(server: &Server, key: &[u8]) -> Option<Option<Millis>> {
    server.store.remaining(key, wall_clock())
}

fn keys(server: &Server, pattern: &[u8]) -> Vec<Reply> {
    let pattern = Pattern::new(pattern);
    let prefix = pattern.prefix();
    let image = server.store.image();
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
    let image = server.store.image();
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
