//! Virtual time, in microseconds: what is due when, in one order for ever.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// A millisecond of virtual time.
pub(super) const MS: u64 = 1_000;

/// A second of virtual time.
pub(super) const SECOND: u64 = 1_000 * MS;

/// What comes due. Nodes are named by their place, 0 for `n1`; `life` is which start of a node is
/// meant, so that what was due for an earlier one is void.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Due {
    /// A node's clock ticks.
    Tick { node: usize, life: u64 },
    /// A node takes what has arrived.
    Round { node: usize, life: u64 },
    /// The log thread is done with its group.
    Logged { node: usize, life: u64 },
    /// A node's snapshot is written.
    Written { node: usize, life: u64 },
    /// The first message of a link arrives.
    Arrival { from: usize, to: usize },
    /// A closed link is dialled again.
    Dial { from: usize, to: usize },
    /// A node starts.
    Start { node: usize },
    /// A slow node falls asleep.
    Nap { node: usize, life: u64 },
    /// A frozen process goes on.
    Thaw { node: usize, life: u64 },
    /// A client acts, unless it has acted since.
    Client { client: usize, turn: u64 },
    /// The reads of a batch are done.
    Read { batch: usize },
    /// A fault of the plan begins.
    Fault { number: usize },
    /// A fault of the plan ends.
    End { number: usize },
}

/// See the module's text.
#[derive(Debug, Default)]
pub(super) struct Clock {
    now: u64,
    asked: u64,
    due: BinaryHeap<Reverse<(u64, u64, Due)>>,
}

impl Clock {
    pub(super) fn now(&self) -> u64 {
        self.now
    }

    /// Lets something be due at a time; of two at the same time, the one asked for first comes first.
    pub(super) fn at(&mut self, time: u64, due: Due) {
        self.asked += 1;
        self.due
            .push(Reverse((time.max(self.now), self.asked, due)));
    }

    /// Lets something be due in so many microseconds.
    pub(super) fn after(&mut self, wait: u64, due: Due) {
        self.at(self.now + wait, due);
    }

    /// Goes on to what is due next.
    pub(super) fn next(&mut self) -> Option<Due> {
        let Reverse((time, _, due)) = self.due.pop()?;
        self.now = time;
        Some(due)
    }
}
