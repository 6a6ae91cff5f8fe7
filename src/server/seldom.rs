//! Warnings of what may happen thousands of times a second: told at once, and then once in a while with how
//! often it happened.

use std::fmt::Display;
use std::time::{Duration, Instant};

use log::warn;

/// How often one kind of warning comes at most. What happens in between is counted, and told with the next.
const WARN_EVERY: Duration = Duration::from_secs(10);

/// One kind of warning.
#[derive(Debug, Default)]
pub(super) struct Seldom {
    last: Option<Instant>,
    left_out: u64,
}

impl Seldom {
    /// Warns, or counts it.
    pub(super) fn warn(&mut self, text: impl Display) {
        match self.due(Instant::now()) {
            None => {}
            Some(0) => warn!("{text}"),
            Some(more) => warn!("{text} ({more} more since the last such line)"),
        }
    }

    /// Whether it is time for a line, and then how many were left out.
    fn due(&mut self, now: Instant) -> Option<u64> {
        if self.last.is_some_and(|last| now < last + WARN_EVERY) {
            self.left_out += 1;
            return None;
        }
        self.last = Some(now);
        Some(std::mem::take(&mut self.left_out))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_is_told_at_once_and_the_others_are_counted() {
        let mut seldom = Seldom::default();
        let began = Instant::now();
        assert_eq!(seldom.due(began), Some(0));
        for _ in 0..1_000 {
            assert_eq!(seldom.due(began + WARN_EVERY / 2), None);
        }
        assert_eq!(seldom.due(began + WARN_EVERY), Some(1_000));
        assert_eq!(seldom.due(began + WARN_EVERY), None);
        assert_eq!(seldom.due(began + 3 * WARN_EVERY), Some(1));
    }
}
