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
