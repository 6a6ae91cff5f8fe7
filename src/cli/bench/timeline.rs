//! When successes happened: one bit for each tenth of a millisecond of a run.
//!
//! All clients set bits in one array, without a lock and without waiting, and the gaps are read from
//! it afterwards, so that a gap is one of *all* clients together. An hour costs 4.5 MB. A single
//! "last success" word would be smaller, but a client that is preempted between reading the clock
//! and writing the word makes gaps longer than they were; a bit is right whenever it is set.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// The width of a bit: what a gap's length is rounded to.
pub(super) const TICK: Duration = Duration::from_micros(100);

/// Bits of a run, the first at its start. Times past the end are not kept.
pub(super) struct Timeline {
    words: Vec<AtomicU64>,
}

/// A time without a success, from the start of the run. Its ends are successes, or the ends of the
/// part of the run that was looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Gap {
    /// When the success before it happened.
    pub(super) from: Duration,
    /// When the success after it happened.
    pub(super) to: Duration,
    /// Whether there was a success after it.
    pub(super) closed: bool,
}

impl Gap {
    /// How long it was.
    pub(super) fn length(&self) -> Duration {
        self.to.saturating_sub(self.from)
    }
}

impl Timeline {
    /// An empty one for a run of at most `length`.
    pub(super) fn new(length: Duration) -> Self {
        let words = tick(length) / 64 + 1;
        Self {
            words: (0..words).map(|_| AtomicU64::new(0)).collect(),
        }
    }

    /// Notes a success at this time.
    pub(super) fn mark(&self, at: Duration) {
        let tick = tick(at);
        let bit = 1 << (tick % 64);
        if let Some(word) = self.words.get(tick / 64) {
            // Most bits are set many times over: reading first keeps the cache line shared.
            if word.load(Relaxed) & bit == 0 {
                word.fetch_or(bit, Relaxed);
            }
        }
    }

    /// The longest gap that ends after `after`, in the part of the run from `from` to `to`. The ends
    /// of that part count as ends of a gap: an outage that never ended is not shorter for that.
    pub(super) fn longest_gap(&self, from: Duration, to: Duration, after: Duration) -> Gap {
        let mut longest = Gap {
            from: after,
            to: after,
            closed: true,
        };
        let mut last = from;
        let mut look = |gap: Gap| {
            if gap.to > after && gap.length() > longest.length() {
                longest = gap;
            }
        };
        for at in self.marks().filter(|&at| at >= from && at <= to) {
            let gap = Gap {
                from: last,
                to: at,
                closed: true,
            };
            look(gap);
            last = at;
        }
        look(Gap {
            from: last,
            to: to.max(last),
            closed: false,
        });
        longest
    }

    /// The time of the last success up to now.
    pub(super) fn last(&self) -> Option<Duration> {
        let words = self.words.iter().enumerate().rev();
        words
            .map(|(at, word)| (at, word.load(Relaxed)))
            .find(|&(_, word)| word != 0)
            .map(|(at, word)| time(at * 64 + 63 - word.leading_zeros() as usize))
    }

    fn marks(&self) -> impl Iterator<Item = Duration> {
        self.words.iter().enumerate().flat_map(|(at, word)| {
            let word = word.load(Relaxed);
            let set = (0..64).filter(move |bit| word & (1 << bit) != 0);
            set.map(move |bit| time(at * 64 + bit))
        })
    }
}

fn tick(at: Duration) -> usize {
    usize::try_from(at.as_micros() / TICK.as_micros()).unwrap_or(usize::MAX)
}

fn time(tick: usize) -> Duration {
    TICK * u32::try_from(tick).expect("a run is shorter than 119 hours")
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    fn timeline(marks: &[u64]) -> Timeline {
        let timeline = Timeline::new(ms(1_000));
        for &at in marks {
            timeline.mark(ms(at));
        }
        timeline
    }

    #[test]
    fn the_longest_gap_is_between_two_successes_of_any_client() {
        let gap = timeline(&[1, 50, 2, 400, 90, 401, 999]).longest_gap(ms(0), ms(410), ms(0));
        assert_eq!(
            gap,
            Gap {
                from: ms(90),
                to: ms(400),
                closed: true
            }
        );
    }

    #[test]
    fn the_ends_of_the_run_count_as_ends_of_a_gap() {
        let gap = timeline(&[400, 401]).longest_gap(ms(100), ms(500), ms(0));
        assert_eq!((gap.from, gap.to, gap.closed), (ms(100), ms(400), true));
        let gap = timeline(&[101, 102]).longest_gap(ms(100), ms(500), ms(0));
        assert_eq!((gap.from, gap.to, gap.closed), (ms(102), ms(500), false));
        let gap = timeline(&[]).longest_gap(ms(100), ms(500), ms(0));
        assert_eq!((gap.length(), gap.closed), (ms(400), false));
    }

    #[test]
    fn a_gap_that_ended_before_the_event_is_not_its_doing() {
        let marks = [1, 300, 500, 520, 600, 601];
        let gap = timeline(&marks).longest_gap(ms(0), ms(610), ms(510));
        assert_eq!((gap.from, gap.to), (ms(520), ms(600)));
        // One that began before the event and lasted over it counts whole.
        let gap = timeline(&marks).longest_gap(ms(0), ms(610), ms(400));
        assert_eq!((gap.from, gap.to), (ms(300), ms(500)));
    }

    #[test]
    fn the_last_success_is_the_highest_bit() {
        assert_eq!(timeline(&[]).last(), None);
        assert_eq!(timeline(&[7, 640, 3]).last(), Some(ms(640)));
    }

    #[test]
    fn a_success_after_the_end_is_not_kept() {
        let timeline = timeline(&[1]);
        timeline.mark(Duration::from_hours(9_999));
        assert_eq!(timeline.last(), Some(ms(1)));
    }
}
