//! When to ask a peer again that has not answered: from how long its answers take.
//!
//! A link is a TCP connection, so what was sent on it arrives, in order, unless the link breaks, its
//! queue is full, or the receiver had no use for it (its acceptor had failed). So almost always an answer
//! that is missing is on its way, and to ask again too soon sends everything twice over a slow link. The
//! rule is that of TCP itself (RFC 6298), in ticks:
//!
//! * The wait is the smoothed time of the answers and four times their mean deviation, between
//!   [`WAIT_TICKS_MIN`] and [`WAIT_TICKS_MAX`].
//! * Answers to what was sent twice are not measured (Karn's rule), and the wait doubles, up to
//!   [`DOUBLED_TICKS_MAX`], until there is an answer that is. Where it cannot double any more, they are
//!   measured from the first sending: a path that has become that slow would never be known else.
//! * An outage is no path: one long answer prolongs the wait to [`DOUBLED_TICKS_MAX`] at most, and only
//!   a row of them, with no short one, any further.
//! * While the peer answers what was sent before, what was sent later is on its way, however long it has
//!   to queue; so a question is overdue only if the peer has answered a later one, or none for as long.
//! * When a link comes up, or a peer's acceptor, what was sent before is lost, and due at once.
//!
//! Who sends anything again uses this: prepare, accept, hand-on, fetch, fetch-image.

use std::collections::BTreeMap;

use super::types::NodeId;

/// A question waits at least so long for its answer: a tick is long next to a local network.
pub const WAIT_TICKS_MIN: u64 = 3;

/// How long a question waits before any answer was measured: a path around the world and a sync.
pub const WAIT_TICKS_FIRST: u64 = 30;

/// A question waits no longer than this, however long answers take: then it is sent more often than
/// needed.
pub const WAIT_TICKS_MAX: u64 = 300;

/// A wait is not doubled beyond this: a client that is numbered behind a command that was lost waits as
/// long.
pub const DOUBLED_TICKS_MAX: u64 = 40;

/// Answers that take longer than this much of the shortest, in percent, are held up by an outage: they
/// prolong the wait no further, or what is lost next would wait as long as that outage.
const OUTAGE_PERCENT: u64 = 150;

/// A question that waits for its answer: when it was sent first, and last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Asked {
    first: u64,
    last: u64,
}

impl Asked {
    /// It is sent for the first time.
    pub fn new(now: u64) -> Self {
        Self {
            first: now,
            last: now,
        }
    }

    /// It was sent then for the first time, and last at `last`.
    pub fn again(self, last: u64) -> Self {
        Self { last, ..self }
    }

    fn is_once(self) -> bool {
        self.first == self.last
    }
}

/// How fast one peer answers.
#[derive(Debug, Clone, Default)]
pub struct Pace {
    /// The smoothed time of an answer and its mean deviation, in eighths of a tick.
    measured: Option<(u64, u64)>,
    /// The shortest time of an answer lately: what the path takes, without outages.
    shortest: u64,
    doubled: u32,
    doubled_at: u64,
    /// When it answered last.
    answered: u64,
    /// It has answered something that was sent then.
    passed: u64,
    /// What was sent up to then is lost.
    lost: Option<u64>,
}

impl Pace {
    fn undoubled(&self) -> u64 {
        let wait = self.measured.map_or(WAIT_TICKS_FIRST, |(mean, deviation)| {
            let most = (self.shortest * OUTAGE_PERCENT / 100).max(DOUBLED_TICKS_MAX);
            ((mean + 4 * deviation).div_ceil(8) + 1).min(most)
        });
        wait.clamp(WAIT_TICKS_MIN, WAIT_TICKS_MAX)
    }

    /// How long a question waits for its answer.
    pub fn wait(&self) -> u64 {
        let wait = self.undoubled();
        let doubled = wait.saturating_mul(1 << self.doubled.min(16));
        doubled.min(wait.max(DOUBLED_TICKS_MAX))
    }

    /// Whether a question is to be sent again.
    pub fn is_overdue(&self, asked: Asked, now: u64) -> bool {
        if self
            .lost
            .is_some_and(|lost| asked.last <= lost && now > lost)
        {
            return true;
        }
        let wait = self.wait();
        let answers = now < self.answered + wait;
        now >= asked.last + wait && (!answers || asked.last < self.passed)
    }

    /// Something is sent again, because it was overdue.
    pub fn on_again(&mut self, now: u64) {
        // All that is overdue together doubles once.
        if now >= self.doubled_at + self.wait() {
            self.doubled = self.doubled.saturating_add(1);
            self.doubled_at = now;
        }
    }

    /// The peer has answered something that nobody waits for any more.
    pub fn on_progress(&mut self, now: u64) {
        self.answered = now;
    }

    /// The peer has answered.
    pub fn on_answer(&mut self, asked: Asked, now: u64) {
        // Those that come together were held up together: one of them tells enough.
        let first = now > self.answered;
        self.answered = now;
        let at_most = self.doubled > 0 && self.wait() >= DOUBLED_TICKS_MAX;
        if asked.is_once() {
            self.passed = self.passed.max(asked.last);
            self.doubled = 0;
        }
        if first && (asked.is_once() || at_most) {
            self.measure(now.saturating_sub(asked.first), asked.is_once());
        }
    }

    /// What was sent to this peer is lost, and what comes now will be answered.
    pub fn on_up(&mut self, now: u64) {
        self.doubled = 0;
        self.lost = Some(now);
    }

    fn measure(&mut self, took: u64, sure: bool) {
        // A path that is longer than was thought is believed little by little.
        let believed = match self.measured {
            None if sure => took,
            None => DOUBLED_TICKS_MAX * 100 / OUTAGE_PERCENT,
            Some(_) => self.shortest + self.shortest / 8 + 1,
        };
        self.shortest = took.min(believed);
        let took = 8 * took.min(WAIT_TICKS_MAX);
        self.measured = Some(match self.measured {
            None => (took, took / 2),
            Some((mean, deviation)) => (
                (7 * mean + took) / 8,
                (3 * deviation + took.abs_diff(mean)) / 4,
            ),
        });
    }
}

/// How fast each node answers, this one's own acceptor among them.
#[derive(Debug, Clone, Default)]
pub struct Paces(BTreeMap<NodeId, Pace>);

impl Paces {
    /// That of one node.
    pub fn of(&mut self, node: NodeId) -> &mut Pace {
        self.0.entry(node).or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A pace that was measured with answers that took this long.
    fn measured(took: u64, now: u64) -> Pace {
        let mut pace = Pace::default();
        for at in now - 20..now {
            pace.on_answer(Asked::new(at - took), at);
        }
        pace
    }

    #[test]
    fn the_wait_is_a_little_more_than_answers_take() {
        assert_eq!(Pace::default().wait(), WAIT_TICKS_FIRST);
        assert_eq!(measured(0, 100).wait(), WAIT_TICKS_MIN);
        for took in [4, 10, 40] {
            let wait = measured(took, 1_000).wait();
            assert!(
                (took + 1..=took + took / 4 + 3).contains(&wait),
                "{took}: {wait}"
            );
        }
        assert_eq!(measured(10_000, 100_000).wait(), WAIT_TICKS_MAX);
        // One answer says little: the next may take longer by far.
        let mut pace = Pace::default();
        pace.on_answer(Asked::new(0), 10);
        assert!(pace.wait() >= 30);
        // Of those that come together only one counts.
        let before = pace.wait();
        pace.on_answer(Asked::new(9), 10);
        assert_eq!(pace.wait(), before);
    }

    /// While a peer answers what was sent before, what was sent later is on its way.
    #[test]
    fn a_question_behind_others_waits_while_those_are_answered() {
        let mut pace = measured(10, 100);
        let asked = Asked::new(100);
        let queued = [Asked::new(97), Asked::new(98), Asked::new(99)];
        for (earlier, now) in queued.into_iter().zip([110, 120, 130]) {
            assert!(!pace.is_overdue(asked, now));
            pace.on_answer(earlier, now);
        }
        let wait = pace.wait();
        assert!(!pace.is_overdue(asked, 130 + wait - 1));
        assert!(pace.is_overdue(asked, 130 + wait));
    }

    /// A peer that has answered what was sent later has not got this, or its answer was lost.
    #[test]
    fn a_question_that_was_passed_over_is_sent_again_when_its_own_wait_is_over() {
        let mut pace = measured(10, 100);
        let asked = Asked::new(100);
        pace.on_answer(Asked::new(101), 110);
        let wait = pace.wait();
        assert!(!pace.is_overdue(asked, 100 + wait - 1));
        assert!(pace.is_overdue(asked, 100 + wait));
        assert!(!pace.is_overdue(asked.again(112), 112 + wait - 1));
    }

    /// Karn: which copy was answered nobody knows; so the wait doubles until one copy was enough.
    #[test]
    fn what_was_sent_twice_measures_nothing_and_the_wait_doubles() {
        let mut pace = measured(10, 1_000);
        let wait = pace.wait();
        pace.on_again(1_100);
        // What is overdue beside it is part of the same silence.
        pace.on_again(1_101);
        assert_eq!(pace.wait(), 2 * wait);
        pace.on_answer(Asked::new(1_086).again(1_100), 1_101);
        assert_eq!(pace.wait(), 2 * wait);
        pace.on_answer(Asked::new(1_105), 1_115);
        assert!(pace.wait() <= wait);
    }

    /// An outage says nothing about how long the next answer takes.
    #[test]
    fn an_outage_prolongs_the_wait_by_little() {
        let mut pace = measured(2, 1_000);
        for at in 0..5 {
            pace.on_answer(Asked::new(1_000 + at), 1_200);
        }
        assert!(pace.wait() <= DOUBLED_TICKS_MAX);
    }

    /// A path that becomes slower than any doubled wait is measured all the same.
    #[test]
    fn a_path_that_became_very_slow_is_known_after_a_few_answers() {
        let mut pace = measured(2, 1_000);
        let mut sent = 0;
        for round in 1..=60 {
            let began = 1_000 * round;
            let mut asked = Asked::new(began);
            sent = 1;
            for now in began..began + 80 {
                if pace.is_overdue(asked, now) {
                    pace.on_again(now);
                    asked = asked.again(now);
                    sent += 1;
                }
            }
            pace.on_answer(asked, began + 80);
        }
        assert_eq!(sent, 1);
    }

    #[test]
    fn what_was_sent_before_the_link_came_up_is_due_at_once_and_nothing_else() {
        let mut pace = measured(10, 100);
        pace.on_up(105);
        assert!(pace.is_overdue(Asked::new(104), 106));
        assert!(!pace.is_overdue(Asked::new(104).again(106), 107));
        assert!(!pace.is_overdue(Asked::new(106), 107));
    }
}
