//! What a change of one key does to the table, and what it comes to.
//!
//! | change | its end afterwards |
//! | --- | --- |
//! | `Put` | none |
//! | `Set` | as it says |
//! | `Expire`, `Persist` | as they say; nothing else changes |
//! | `Cas`, `Incr`, `Append`, `SetRange` | as before; of a key that was not there, none |
//!
//! A key that is over is not there. `INCR` takes for a number exactly what it writes itself: an
//! optional `-` and digits, within 64 bits, with no `+`, no leading zero, no `-0` and no blank. A value
//! such as `007` is more likely a code than a count, and would come back without its zeros.
//!
//! Nothing is touched where nothing is to change: an image shares what its original has not changed.

use super::command::{
    Bytes, Deadline, END_MAX, ExpireIf, Lifetime, Millis, Outcome, Presence, VALUE_BYTES_MAX, Write,
};
use super::table::{NEVER, Table};

/// The text for `INCR` on a value that is no number.
pub(super) const NO_INTEGER: &str = "the value is no 64-bit integer";

/// The text for an `INCR` past the range.
pub const OUT_OF_RANGE: &str = "the sum is outside the range of a 64-bit integer";

/// Does a change.
pub(super) fn change(table: &mut Table, write: &Write) -> Outcome {
    match write {
        Write::Put { key, value } => {
            table.set(key, value.clone(), NEVER);
            Outcome::Ok
        }
        Write::Delete { key } => {
            if table.get(key).is_none() {
                return Outcome::NotFound;
            }
            table.remove(key);
            Outcome::Ok
        }
        Write::Cas { key, expected, new } => match table.get(key) {
            None => Outcome::NotFound,
            Some(entry) if entry.value != *expected => Outcome::Mismatch(entry.value.clone()),
            Some(entry) => {
                let end = entry.end;
                table.set(key, new.clone(), end);
                Outcome::Ok
            }
        },
        Write::Incr { key, by } => incr(table, key, *by),
        Write::Set {
            key,
            value,
            only,
            lifetime,
        } => set(table, key, value, *only, *lifetime),
        Write::Append { key, value } => append(table, key, value),
        Write::SetRange { key, offset, value } => set_range(table, key, *offset, value),
        Write::Expire {
            key,
            deadline,
            only,
        } => expire(table, key, *deadline, *only),
        Write::Persist { key } => match table.get(key) {
            None => Outcome::NotFound,
            Some(entry) if entry.end == NEVER => Outcome::Unmet,
            Some(entry) => {
                let value = entry.value.clone();
                table.set(key, value, NEVER);
                Outcome::Ok
            }
        },
    }
}

fn incr(table: &mut Table, key: &Bytes, by: i64) -> Outcome {
    let (current, end) = match table.get(key) {
        None => (0, NEVER),
        Some(entry) => match integer(&entry.value) {
            Some(current) => (current, entry.end),
            None => return Outcome::NotANumber(NO_INTEGER),
        },
    };
    match current.checked_add(by) {
        None => Outcome::NotANumber(OUT_OF_RANGE),
        Some(sum) => {
            table.set(key, sum.to_string().into_bytes().into(), end);
            Outcome::Number(sum)
        }
    }
}

/// A 64-bit integer in the one text that `INCR` writes for it.
fn integer(text: &[u8]) -> Option<i64> {
    let digits = text.strip_prefix(b"-").unwrap_or(text);
    let canonical = text == b"0" || matches!(digits.first(), Some(b'1'..=b'9'));
    if canonical {
        std::str::from_utf8(text).ok()?.parse().ok()
    } else {
        None
    }
}

fn set(
    table: &mut Table,
    key: &Bytes,
    value: &Bytes,
    only: Presence,
    lifetime: Lifetime,
) -> Outcome {
    let current = table.get(key);
    match (only, current) {
        (Presence::Absent, Some(_)) | (Presence::Present, None) => return Outcome::Unmet,
        _ => {}
    }
    match lifetime {
        Lifetime::Endless => table.set(key, value.clone(), NEVER),
        Lifetime::Kept => {
            let end = current.map_or(NEVER, |entry| entry.end);
            table.set(key, value.clone(), end);
        }
        Lifetime::Until(deadline) => {
            let end = end_of(table, deadline);
            set_until(table, key, value.clone(), end);
        }
    }
    Outcome::Ok
}

/// Puts a value there with a new end. One that has come removes the key at once: nobody asks for a rest
/// of a millisecond.
fn set_until(table: &mut Table, key: &Bytes, value: Bytes, end: Millis) {
    if end <= table.time() {
        table.remove(key);
    } else {
        table.set(key, value, end);
    }
}

/// At most [`END_MAX`], so it is an end and not [`NEVER`].
fn end_of(table: &Table, deadline: Deadline) -> Millis {
    match deadline {
        Deadline::In(millis) => (table.time() + millis).min(END_MAX),
        Deadline::At(millis) => millis,
    }
}

fn append(table: &mut Table, key: &Bytes, more: &[u8]) -> Outcome {
    let (current, end) = current(table, key);
    if current.len() + more.len() > VALUE_BYTES_MAX {
        return Outcome::TooLong;
    }
    let value = [&*current, more].concat();
    let length = value.len();
    table.set(key, value.into(), end);
    Outcome::Number(number(length))
}

fn set_range(table: &mut Table, key: &Bytes, offset: u64, part: &[u8]) -> Outcome {
    let (current, end) = current(table, key);
    if part.is_empty() {
        return Outcome::Number(number(current.len()));
    }
    let from = usize::try_from(offset).unwrap_or(usize::MAX);
    let upto = from.saturating_add(part.len());
    if upto > VALUE_BYTES_MAX {
        return Outcome::TooLong;
    }
    let mut value = current.to_vec();
    value.resize(upto.max(value.len()), 0);
    value[from..upto].copy_from_slice(part);
    let length = value.len();
    table.set(key, value.into(), end);
    Outcome::Number(number(length))
}

/// The value of a key and its end; a missing one is empty.
fn current(table: &Table, key: &[u8]) -> (Bytes, Millis) {
    match table.get(key) {
        None => (Bytes::default(), NEVER),
        Some(entry) => (entry.value.clone(), entry.end),
    }
}

fn expire(table: &mut Table, key: &Bytes, deadline: Deadline, only: ExpireIf) -> Outcome {
    let Some(entry) = table.get(key) else {
        return Outcome::NotFound;
    };
    let end = end_of(table, deadline);
    // A key without an end stays longer than any other.
    let met = match only {
        ExpireIf::Any => true,
        ExpireIf::Endless => entry.end == NEVER,
        ExpireIf::Mortal => entry.end != NEVER,
        ExpireIf::Later => end > entry.end,
        ExpireIf::Sooner => end < entry.end,
    };
    if !met {
        return Outcome::Unmet;
    }
    let value = entry.value.clone();
    set_until(table, key, value, end);
    Outcome::Ok
}

pub(super) fn number(count: usize) -> i64 {
    i64::try_from(count).expect("a count of things in memory")
}
