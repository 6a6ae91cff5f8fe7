//! What the servers say of themselves while the load goes on: who leads, and what they have spent.
//!
//! In a thread of its own: a frozen server keeps whoever asks it waiting, and that must be neither the
//! load nor the one who ends it.

use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError};

use super::cost::Reading;
use super::load::Run;
use super::targets::Led;
use crate::client::peek::{Peeker, peek_all};

/// How often all servers are asked. Each time costs them about what a request does.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// What was seen.
#[derive(Debug)]
pub(super) struct Seen {
    /// When the measured time began.
    pub(super) before: Reading,
    /// When it was over.
    pub(super) after: Reading,
    /// Each leadership once, in order; the first one may have begun before the load.
    pub(super) led: Vec<Led>,
}

/// Looks at the servers until the measured time is over, or until whoever holds the other end of `ended`
/// drops it. `first` is who led before.
pub(super) fn watch(
    run: &Run,
    peekers: &mut [Peeker],
    first: Option<Led>,
    ended: &Receiver<()>,
) -> Seen {
    let mut led = Vec::from_iter(first);
    let mut look = || {
        // When they are asked: the answers of most do not wait for one that is frozen.
        let at = run.start.elapsed();
        let peeks = peek_all(peekers);
        let reading = Reading { at, peeks };
        note(&mut led, &reading);
        reading
    };
    let mut over = !waited(run.start + run.measured.start, ended);
    let before = look();
    let mut asked = before.at;
    while !over {
        let next = (asked + LOOK_EVERY).min(run.measured.end);
        over = !waited(run.start + next, ended) || next == run.measured.end;
        if !over {
            asked = look().at;
        }
    }
    let after = look();
    Seen { before, after, led }
}

/// Waits until then; false if the load ended before.
fn waited(until: Instant, ended: &Receiver<()>) -> bool {
    ended.recv_deadline(until) == Err(RecvTimeoutError::Timeout)
}

/// Adds who leads, if that is news. An old leader that does not know of its end is none.
fn note(led: &mut Vec<Led>, reading: &Reading) {
    let newest = led.last().map(|led| led.ballot);
    let now = Led::by(reading.peeks.iter().flatten(), reading.at);
    led.extend(now.filter(|now| newest.is_none_or(|newest| now.ballot > newest)));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::peek::Peek;
    use crate::client::peek::tests::follower;

    #[test]
    fn a_leadership_is_noted_once_and_a_deposed_one_never_again() {
        let leading = |id: u8, ballot: &str| Peek {
            leads: true,
            ballot: ballot.parse().unwrap(),
            ..follower(id, 1)
        };
        let mut led = Vec::new();
        for (at, peeks) in [
            vec![None, Some(follower(2, 1))],
            vec![Some(leading(1, "b1.1")), Some(follower(2, 1))],
            vec![Some(leading(1, "b1.1")), None],
            vec![Some(leading(1, "b1.1")), Some(leading(2, "b2.2"))],
            vec![Some(leading(1, "b1.1")), None],
            vec![Some(leading(1, "b3.1")), None],
        ]
        .into_iter()
        .enumerate()
        {
            let at = Duration::from_secs(at as u64);
            note(&mut led, &Reading { at, peeks });
        }
        let seen: Vec<(u64, String)> = led
            .iter()
            .map(|led| (led.seen.as_secs(), led.ballot.to_string()))
            .collect();
        let expected = [(1, "b1.1"), (3, "b2.2"), (5, "b3.1")];
        assert_eq!(seen, expected.map(|(at, ballot)| (at, ballot.into())));
    }
}
