//! What waits for the leader's next slot: the commands of all servers, each server's in order.
//!
//! Every slot's value is a batch of all that was waiting, so that batches grow under load by
//! themselves. A server's commands are taken in the order of their numbers and once a leadership:
//! repeats and gaps are left out here, to keep them out of the log. That is an economy only; the
//! state machine would see through them (`kv::store`).

use std::collections::{BTreeMap, VecDeque};

use crate::kv::batch::{Numbered, parse_batch, push_separator, write_command};
use crate::kv::store::Counter;
use crate::paxos::types::Value;
use crate::text::ParseError;

/// How many bytes of commands one message to the leader carries; one command more than that may be
/// in it, so that it always carries something.
pub(super) const PROPOSE_BYTES_MAX: usize = 256 << 10;

/// How many bytes a batch has at most, unless a single message has more.
const BATCH_BYTES_MAX: usize = 256 << 10;

/// How many bytes may wait. What comes beyond is dropped: its origin sends it again.
const WAITING_BYTES_MAX: usize = 64 << 20;

/// See the module's text.
#[derive(Debug, Default)]
pub(super) struct Intake {
    waiting: VecDeque<Vec<u8>>,
    waiting_bytes: usize,
    /// An origin, the start and the number of its last command that was taken.
    taken: BTreeMap<u8, (u64, u64)>,
}

impl Intake {
    /// The leadership begins or ended: nothing waits, nothing was taken.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    /// Takes what is new of some commands of one origin. `counter` says what was applied of it.
    ///
    /// # Errors
    /// The text is no batch, or not of one origin and without gaps. Nothing is taken.
    pub(super) fn on_propose(
        &mut self,
        text: &[u8],
        counter: impl Fn(u8) -> Counter,
    ) -> Result<(), ParseError> {
        let commands = parse_batch(text)?;
        let Some(first) = commands.first().map(|command| command.id) else {
            return Ok(());
        };
        let gapless = commands
            .iter()
            .zip(first.number..)
            .all(|(command, number)| {
                (command.id.origin, command.id.start, command.id.number)
                    == (first.origin, first.start, number)
            });
        if !gapless {
            return Err(ParseError::at("commands of one origin without gaps", text));
        }
        let applied = counter(first.origin);
        let taken = self.taken.get(&first.origin).copied().unwrap_or_default();
        if first.start < applied.start.max(taken.0) {
            return Ok(());
        }
        let unapplied = if applied.start == first.start {
            applied.next
        } else {
            1
        };
        let known = taken.0 == first.start;
        let wanted = if known {
            unapplied.max(taken.1 + 1)
        } else {
            unapplied.max(first.number)
        };
        let last = first.number + commands.len() as u64 - 1;
        if last < wanted
            || first.number > wanted
            || self.waiting_bytes + text.len() > WAITING_BYTES_MAX
        {
            return Ok(());
        }
        let news = if first.number == wanted {
            text.to_vec()
        } else {
            tail(&commands, wanted)
        };
        self.waiting_bytes += news.len();
        self.waiting.push_back(news);
        self.taken.insert(first.origin, (first.start, last));
        Ok(())
    }

    /// The state machine skipped a command of `origin`, because `expected` is missing: that one is
    /// to be taken next.
    pub(super) fn on_skipped(&mut self, origin: u8, start: u64, expected: u64) {
        self.taken.insert(origin, (start, expected - 1));
    }

    /// The next batch; none if nothing waits.
    pub(super) fn take_batch(&mut self) -> Option<Value> {
        let mut batch = self.waiting.pop_front()?;
        self.waiting_bytes -= batch.len();
        while let Some(next) = self.waiting.front() {
            if batch.len() + next.len() > BATCH_BYTES_MAX {
                break;
            }
            push_separator(&mut batch);
            batch.extend_from_slice(next);
            self.waiting_bytes -= next.len();
            self.waiting.pop_front();
        }
        Some(Value::new(batch).expect("the text of a batch has no LF"))
    }
}

/// The text of the commands from number `wanted` on.
fn tail(commands: &[Numbered], wanted: u64) -> Vec<u8> {
    let mut text = Vec::new();
    for command in commands
        .iter()
        .filter(|command| command.id.number >= wanted)
    {
        if !text.is_empty() {
            push_separator(&mut text);
        }
        write_command(&mut text, command.id, &command.command);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Nothing of any origin was applied.
    fn nothing(_: u8) -> Counter {
        Counter::default()
    }

    fn next(start: u64, next: u64) -> impl Fn(u8) -> Counter {
        move |_| Counter { start, next }
    }

    fn batch(intake: &mut Intake) -> String {
        intake
            .take_batch()
            .map_or(String::new(), |value| value.to_string())
    }

    #[test]
    fn a_batch_is_all_that_waits_in_order() {
        let mut intake = Intake::default();
        for text in ["n2.1.1 put a v", "n3.1.1 delete b", "n2.1.2 session"] {
            intake.on_propose(text.as_bytes(), nothing).unwrap();
        }
        assert_eq!(
            batch(&mut intake),
            "n2.1.1 put a v ; n3.1.1 delete b ; n2.1.2 session"
        );
        assert_eq!(intake.take_batch(), None);
    }

    /// P50: what was taken or applied before is left out, and the rest of its message is taken.
    #[test]
    fn repeats_are_left_out() {
        let mut intake = Intake::default();
        intake
            .on_propose(b"n2.1.1 session ; n2.1.2 session", nothing)
            .unwrap();
        intake.on_propose(b"n2.1.1 session", nothing).unwrap();
        intake
            .on_propose(b"n2.1.2 session ; n2.1.3 session", nothing)
            .unwrap();
        assert_eq!(
            batch(&mut intake),
            "n2.1.1 session ; n2.1.2 session ; n2.1.3 session"
        );
        let mut fresh = Intake::default();
        fresh
            .on_propose(b"n2.1.1 session ; n2.1.2 session", next(1, 2))
            .unwrap();
        assert_eq!(batch(&mut fresh), "n2.1.2 session");
    }

    /// Order: what comes after a gap waits for it; its origin sends both again.
    #[test]
    fn nothing_is_taken_over_a_gap() {
        let mut intake = Intake::default();
        intake.on_propose(b"n2.1.1 session", nothing).unwrap();
        intake.on_propose(b"n2.1.3 session", nothing).unwrap();
        assert_eq!(batch(&mut intake), "n2.1.1 session");
        intake
            .on_propose(b"n2.1.2 session ; n2.1.3 session", nothing)
            .unwrap();
        assert_eq!(batch(&mut intake), "n2.1.2 session ; n2.1.3 session");
    }

    /// A new leader does not know what its predecessors have proposed, so it begins anywhere; the
    /// state machine says what was missing.
    #[test]
    fn a_skipped_command_is_taken_again() {
        let mut intake = Intake::default();
        intake.on_propose(b"n2.1.7 session", nothing).unwrap();
        assert_eq!(batch(&mut intake), "n2.1.7 session");
        intake.on_skipped(2, 1, 6);
        intake
            .on_propose(
                b"n2.1.5 session ; n2.1.6 session ; n2.1.7 session",
                next(1, 6),
            )
            .unwrap();
        assert_eq!(batch(&mut intake), "n2.1.6 session ; n2.1.7 session");
    }

    /// A restarted origin counts afresh, and its older life is void.
    #[test]
    fn a_newer_start_counts_afresh_and_an_older_one_is_void() {
        let mut intake = Intake::default();
        intake.on_propose(b"n2.1.9 session", next(1, 9)).unwrap();
        intake.on_propose(b"n2.2.1 session", next(1, 9)).unwrap();
        intake.on_propose(b"n2.1.10 session", next(1, 9)).unwrap();
        assert_eq!(batch(&mut intake), "n2.1.9 session ; n2.2.1 session");
        let mut other = Intake::default();
        other.on_propose(b"n2.1.1 session", next(3, 1)).unwrap();
        assert_eq!(other.take_batch(), None);
    }

    #[test]
    fn what_no_origin_sends_is_refused_whole() {
        let mut intake = Intake::default();
        for bad in [
            "n2.1.1 session ; n2.1.3 session",
            "n2.1.1 session ; n3.1.2 session",
            "n2.1.1 session ; n2.2.2 session",
            "n2.1.1 session ; n2.1.2 get k",
            "noop",
        ] {
            assert!(intake.on_propose(bad.as_bytes(), nothing).is_err(), "{bad}");
        }
        assert_eq!(intake.on_propose(b"", nothing), Ok(()));
        assert_eq!(intake.take_batch(), None);
    }

    #[test]
    fn batches_and_what_waits_have_bounds() {
        let mut intake = Intake::default();
        let large = "v".repeat(BATCH_BYTES_MAX / 2);
        for number in 1..=3 {
            let text = format!("n2.1.{number} put k {large}");
            intake.on_propose(text.as_bytes(), nothing).unwrap();
        }
        let sizes: Vec<usize> = (0..3)
            .map(|_| batch(&mut intake).matches("put").count())
            .collect();
        assert_eq!(sizes, [1, 1, 1]);
        let mebibyte = "v".repeat(1 << 20);
        for number in 4..=70 {
            let text = format!("n2.1.{number} put k {mebibyte}");
            intake.on_propose(text.as_bytes(), nothing).unwrap();
        }
        assert!(intake.waiting_bytes <= WAITING_BYTES_MAX);
        assert!(intake.waiting.len() >= 60);
        while intake.take_batch().is_some() {}
        assert_eq!(intake.waiting_bytes, 0);
    }

    #[test]
    fn a_batch_is_filled_to_its_last_byte() {
        for (more, commands) in [(0, 2), (1, 1)] {
            let mut intake = Intake::default();
            let half = BATCH_BYTES_MAX / 2 - "n2.1.1 put k ".len();
            for (number, bytes) in [(1, half), (2, half + more)] {
                let text = format!("n2.1.{number} put k {}", "v".repeat(bytes));
                intake.on_propose(text.as_bytes(), nothing).unwrap();
            }
            let first = batch(&mut intake);
            assert_eq!(first.matches("put").count(), commands, "{more} bytes more");
        }
    }

    /// What waits is counted while batches are made of several messages, too.
    #[test]
    fn the_last_byte_that_may_wait_is_taken_and_the_next_is_not() {
        let mut intake = Intake::default();
        for number in 1..=3 {
            let text = format!("n3.1.{number} session");
            intake.on_propose(text.as_bytes(), nothing).unwrap();
        }
        assert_eq!(batch(&mut intake).matches("session").count(), 3);
        let mebibyte = 1 << 20;
        for number in 101..=164 {
            let head = format!("n2.1.{number} put k ");
            let text = format!("{head}{}", "v".repeat(mebibyte - head.len()));
            intake.on_propose(text.as_bytes(), nothing).unwrap();
        }
        assert_eq!(intake.waiting.len(), 64);
        intake.on_propose(b"n3.1.4 session", nothing).unwrap();
        assert_eq!(intake.waiting.len(), 64);
    }

    /// What does not fit into a batch still waits, and counts, whatever the others' sizes were.
    #[test]
    fn a_batch_gives_back_the_bytes_that_it_took() {
        let mut intake = Intake::default();
        let large = format!("n4.1.1 put k {}", "v".repeat(BATCH_BYTES_MAX));
        for text in ["n2.1.1 session", "n3.1.1 put apple 1.25", &large] {
            intake.on_propose(text.as_bytes(), nothing).unwrap();
        }
        assert_eq!(batch(&mut intake), "n2.1.1 session ; n3.1.1 put apple 1.25");
        assert_eq!(intake.waiting_bytes, large.len());
        assert_eq!(batch(&mut intake), large);
        assert_eq!(intake.waiting_bytes, 0);
    }

    /// A leadership that begins knows nothing of the one before: origins send all that is open.
    #[test]
    fn a_leadership_begins_with_nothing() {
        let mut intake = Intake::default();
        intake.on_propose(b"n2.1.1 session", nothing).unwrap();
        intake.clear();
        assert_eq!(intake.take_batch(), None);
        intake.on_propose(b"n2.1.1 session", nothing).unwrap();
        assert_eq!(batch(&mut intake), "n2.1.1 session");
    }
}
