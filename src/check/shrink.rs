//! A history of one key that is not linearizable, made as small as it goes.
//!
//! What happened after the end that cannot be explained is cut off. Then operations are given up, many
//! at a time and then one by one, as long as what is left is still not linearizable. To leave a write
//! out would make liars of those who saw it; so an operation is *given up* in a way that can only make
//! a history easier to explain: one that only looked is taken away, and a write becomes open, as if it
//! might have been done at any time or never. Nothing that remains is therefore an accident of what
//! was taken away: whatever the others did, no order explains the few that are left.

use super::Begins;
use super::part::{Act, Entry, Part};
use super::search::{self, Outcome};

/// How many configurations all attempts together may look at; after that the counter-example stays as
/// it is.
const STATES_MAX: u64 = 20_000_000;

/// How many configurations one attempt may look at.
const TRY_STATES_MAX: u64 = 200_000;

const _: () = assert!(TRY_STATES_MAX <= STATES_MAX);

/// What is left.
#[derive(Debug)]
pub(super) struct Shrunk {
    /// The operations that cannot all be true, as indices into the part's entries.
    pub(super) kept: Vec<usize>,
    /// Writes that were given up, but that put what some operation that is left saw.
    pub(super) aside: Vec<usize>,
    /// How many others there are on the key up to the end that cannot be explained.
    pub(super) others: usize,
    /// The end that cannot be explained.
    pub(super) last: usize,
}

/// The time of the first end by which it was certain that `part` is not linearizable. The search knows
/// all answers from the start, and may have stopped at the end of entry `at` because of one that came
/// later; so the first end at which the history *up to there* fails is looked for.
pub(super) fn failing_end(part: &Part, at: usize, begins: Begins, states_max: u64) -> u64 {
    let from = part.entries[at].returned.unwrap_or(0);
    let mut ends: Vec<u64> = part
        .entries
        .iter()
        .filter_map(|entry| entry.returned)
        .filter(|&end| end >= from)
        .collect();
    ends.sort_unstable();
    ends.dedup();
    let fails = |&end: &u64| {
        let entries: Vec<Entry> = part
            .entries
            .iter()
            .filter(|entry| entry.called <= end)
            .filter_map(|entry| match entry.returned {
                Some(returned) if returned > end => given_up(entry),
                _ => Some(entry.clone()),
            })
            .collect();
        matches!(search::run(&entries, begins, states_max), Outcome::Fails(_))
    };
    // Nearly always it is the very first.
    if ends.first().is_some_and(fails) {
        return from;
    }
    let before = ends.partition_point(|end| !fails(end));
    let last = ends.last().copied().unwrap_or(from);
    ends.get(before).copied().unwrap_or(last)
}

/// Makes the history of `part`, which fails at `end`, smaller.
pub(super) fn shrink(part: &Part, end: u64, begins: Begins, states_max: u64) -> Shrunk {
    // An operation that ended later was pending at that end: as good as open.
    let prefix: Vec<usize> = (0..part.entries.len())
        .filter(|&at| part.entries[at].called <= end)
        .collect();
    let mut shrinker = Shrinker {
        part,
        prefix: &prefix,
        begins,
        try_max: TRY_STATES_MAX.min(states_max),
        left: STATES_MAX,
    };
    let mut kept: Vec<usize> = prefix
        .iter()
        .copied()
        .filter(|&at| {
            part.entries[at]
                .returned
                .is_some_and(|returned| returned <= end)
        })
        .collect();
    let mut step = kept.len().div_ceil(2);
    while step > 0 {
        let mut at = 0;
        while at < kept.len() {
            let upto = (at + step).min(kept.len());
            let mut fewer = kept.clone();
            fewer.drain(at..upto);
            if shrinker.still_fails(&fewer) {
                kept = fewer;
            } else {
                at = upto;
            }
        }
        step = if step == 1 { 0 } else { step.div_ceil(2) };
    }
    let aside: Vec<usize> = prefix
        .iter()
        .copied()
        .filter(|at| !kept.contains(at) && is_seen(part, *at, &kept))
        .collect();
    Shrunk {
        others: prefix.len() - kept.len() - aside.len(),
        last: *kept
            .iter()
            .max_by_key(|&&at| part.entries[at].returned)
            .expect("nothing clashes with nothing"),
        aside,
        kept,
    }
}

struct Shrinker<'a> {
    part: &'a Part,
    prefix: &'a [usize],
    begins: Begins,
    try_max: u64,
    left: u64,
}

impl Shrinker<'_> {
    /// Whether the prefix fails too with only these as they were, and the others given up.
    fn still_fails(&mut self, kept: &[usize]) -> bool {
        let Some(left) = self.left.checked_sub(self.try_max) else {
            return false;
        };
        self.left = left;
        let entries: Vec<Entry> = self
            .prefix
            .iter()
            .filter_map(|&at| {
                let entry = &self.part.entries[at];
                if kept.binary_search(&at).is_ok() {
                    return Some(entry.clone());
                }
                given_up(entry)
            })
            .collect();
        matches!(
            search::run(&entries, self.begins, self.try_max),
            Outcome::Fails(_)
        )
    }
}

/// The entry as it is when nobody knows whether it was done.
fn given_up(entry: &Entry) -> Option<Entry> {
    let act = match &entry.act {
        Act::Read(_) | Act::Present | Act::NotANumber(_) | Act::NoRoom(_) | Act::Never => {
            return None;
        }
        Act::Incr { by, .. } => Act::Incr { by: *by, to: None },
        Act::Append { more, .. } => Act::Append {
            more: more.clone(),
            to: None,
        },
        act => act.clone(),
    };
    Some(Entry {
        act,
        returned: None,
        ..entry.clone()
    })
}

/// Whether this write leaves a value that one of `kept` saw.
fn is_seen(part: &Part, at: usize, kept: &[usize]) -> bool {
    let (Act::Put(left) | Act::Cas(_, left)) = &part.entries[at].act else {
        return false;
    };
    kept.iter().any(|&other| {
        matches!(&part.entries[other].act,
                 Act::Read(Some(seen)) | Act::Cas(seen, _) if seen == left)
    })
}
