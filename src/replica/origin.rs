//! The writes that this server took from its clients: numbered, handed on, sent again, answered.
//!
//! A command waits here unnumbered until a leader is known, and until then may be given up for
//! sure. Then it gets the next number of this server's start (see [`CommandId`]) and is handed on;
//! from there on only its application answers it, and it is sent again until that happens: the
//! state machine applies each number once and in order (D12, P18, P50). A client that waits past
//! the deadline is told that the outcome is unknown, but the command stays, because its number
//! would otherwise be missing for ever.

use std::collections::VecDeque;

use crate::kv::batch::{push_separator, write_command};
use crate::kv::command::{Command, CommandId, Outcome};
use crate::outbox::{Answer, Outbox, Ticket};
use crate::paxos::types::{NodeId, Value};

use super::intake::PROPOSE_BYTES_MAX;

/// How many commands may be handed on and not yet applied. More wait unnumbered.
const HANDED_MAX: usize = 8_192;

/// How many bytes of commands may be handed on and not yet applied.
const HANDED_BYTES_MAX: usize = 32 << 20;

/// How many commands may wait unnumbered. One more is refused at once.
const QUEUED_MAX: usize = 65_536;

/// How many bytes of commands may wait unnumbered.
const QUEUED_BYTES_MAX: usize = 64 << 20;

/// After so many ticks without progress, what was handed on is sent again.
const RESEND_TICKS: u64 = 5;

/// The wait doubles up to this: whoever leads still holds what it was sent, most likely.
const RESEND_TICKS_MAX: u64 = 40;

/// For so many ticks after a command was skipped, others that are skipped change nothing.
const SKIP_TICKS: u64 = 3;

/// The text of `NOT_DONE` after the deadline.
const NO_MAJORITY: &str = "no majority of servers answered within the deadline";

/// The text of `UNKNOWN` after the deadline.
const STILL_OPEN: &str = "handed on but not decided within the deadline; it may still be applied";

/// The text of `NOT_DONE` when too much waits.
const OVERLOAD: &str = "too many requests are waiting on this server";

/// The text of `NOT_DONE` when the server is about to stop.
pub(super) const SHUTTING_DOWN: &str = "this server is shutting down";

/// The text of `UNKNOWN` when a command was applied where its outcome cannot be seen.
const JUMPED: &str = "applied or not, but its outcome was not seen by this server";

/// See the module's text.
#[derive(Debug)]
pub(super) struct Origin {
    me: NodeId,
    start: u64,
    queued: VecDeque<Queued>,
    queued_bytes: usize,
    /// Handed on and not yet applied, without a gap.
    handed: VecDeque<Handed>,
    handed_bytes: usize,
    /// The number of the first in `handed`.
    first: u64,
    /// The last number that was sent to the leader of now.
    sent: u64,
    resend_due: u64,
    resend_wait: u64,
    /// From when on a skipped command is a reason to send again.
    skip_due: u64,
    /// The first number whose deadline was not yet looked at.
    watched: u64,
}

#[derive(Debug)]
struct Queued {
    ticket: Ticket,
    command: Command,
    bytes: usize,
    deadline: u64,
}

#[derive(Debug)]
struct Handed {
    /// None once its client was answered.
    ticket: Option<Ticket>,
    text: Vec<u8>,
    deadline: u64,
}

impl Origin {
    pub(super) fn new(me: NodeId, start: u64) -> Self {
        Self {
            me,
            start,
            queued: VecDeque::new(),
            queued_bytes: 0,
            handed: VecDeque::new(),
            handed_bytes: 0,
            first: 1,
            sent: 0,
            resend_due: 0,
            resend_wait: RESEND_TICKS,
            skip_due: 0,
            watched: 1,
        }
    }

    /// Whether `id` is of this very start of this server.
    pub(super) fn owns(&self, id: CommandId) -> bool {
        id.origin == self.me.number() && id.start == self.start
    }

    /// Whether no client waits for a command.
    pub(super) fn is_idle(&self) -> bool {
        self.queued.is_empty() && self.handed.iter().all(|handed| handed.ticket.is_none())
    }

    /// Takes a client's command, or refuses it when too many wait.
    pub(super) fn on_write(
        &mut self,
        ticket: Ticket,
        command: Command,
        deadline: u64,
        out: &mut Outbox,
    ) {
        let bytes = command_bytes(&command);
        if self.queued.len() >= QUEUED_MAX || self.queued_bytes + bytes > QUEUED_BYTES_MAX {
            return out.answer(ticket, Answer::NotDone(OVERLOAD));
        }
        self.queued_bytes += bytes;
        self.queued.push_back(Queued {
            ticket,
            command,
            bytes,
            deadline,
        });
    }

    /// A leader is known since now, or another one: everything is to be sent to it.
    pub(super) fn on_new_leader(&mut self, now: u64) {
        self.sent = self.first - 1;
        self.resend_wait = RESEND_TICKS;
        self.resend_due = now + self.resend_wait;
    }

    /// The state machine met a number of this server and expected a lower one.
    pub(super) fn on_skipped(&mut self, expected: u64, now: u64) {
        // All that follows in the log is skipped as well: one re-send a while serves them all.
        if now >= self.skip_due {
            self.sent = self.sent.min(expected.max(self.first) - 1);
            self.skip_due = now + SKIP_TICKS;
        }
    }

    /// A command of this server was applied.
    pub(super) fn on_applied(&mut self, number: u64, outcome: Outcome, now: u64, out: &mut Outbox) {
        // Numbers apply in order, so the first is the one, unless applications were not seen.
        while self.first < number {
            let Some(jumped) = self.pop() else { return };
            if let Some(ticket) = jumped.ticket {
                out.answer(ticket, Answer::Unknown(JUMPED));
            }
        }
        if self.first > number {
            return;
        }
        let Some(handed) = self.pop() else { return };
        if let Some(ticket) = handed.ticket {
            out.answer(ticket, Answer::Done(outcome));
        }
        self.resend_wait = RESEND_TICKS;
        self.resend_due = now + self.resend_wait;
    }

    /// Numbers what waits, as far as the bounds allow, and returns what is to be sent to the leader,
    /// in messages of bounded size.
    pub(super) fn hand_on(&mut self, now: u64) -> Vec<Value> {
        if self.handed.is_empty() {
            self.resend_due = now + self.resend_wait;
        }
        while self.handed.len() < HANDED_MAX && self.handed_bytes < HANDED_BYTES_MAX {
            let Some(queued) = self.queued.pop_front() else {
                break;
            };
            self.queued_bytes -= queued.bytes;
            self.number(&queued);
        }
        if !self.handed.is_empty() && now >= self.resend_due {
            if self.sent >= self.first {
                self.sent = self.first - 1;
            }
            self.resend_wait = (self.resend_wait * 2).min(RESEND_TICKS_MAX);
            self.resend_due = now + self.resend_wait;
        }
        self.unsent()
    }

    /// Tells clients whose deadline has come. Deadlines are in the order of arrival.
    pub(super) fn expire(&mut self, now: u64, out: &mut Outbox) {
        while self
            .queued
            .front()
            .is_some_and(|queued| queued.deadline <= now)
        {
            let queued = self.queued.pop_front().expect("it was just there");
            self.queued_bytes -= queued.bytes;
            out.answer(queued.ticket, Answer::NotDone(NO_MAJORITY));
        }
        self.watched = self.watched.max(self.first);
        while let Some(handed) = self.handed.get_mut(index(self.watched - self.first)) {
            if handed.deadline > now {
                break;
            }
            if let Some(ticket) = handed.ticket.take() {
                out.answer(ticket, Answer::Unknown(STILL_OPEN));
            }
            self.watched += 1;
        }
    }

    /// Gives up what was not handed on.
    pub(super) fn refuse_queued(&mut self, out: &mut Outbox) {
        self.queued_bytes = 0;
        for queued in self.queued.drain(..) {
            out.answer(queued.ticket, Answer::NotDone(SHUTTING_DOWN));
        }
    }

    fn number(&mut self, queued: &Queued) {
        let number = self.first + self.handed.len() as u64;
        let id = CommandId {
            origin: self.me.number(),
            start: self.start,
            number,
        };
        let mut text = Vec::with_capacity(queued.bytes + 32);
        write_command(&mut text, id, &queued.command);
        self.handed_bytes += text.len();
        self.handed.push_back(Handed {
            ticket: Some(queued.ticket),
            text,
            deadline: queued.deadline,
        });
    }

    fn unsent(&mut self) -> Vec<Value> {
        let mut messages = Vec::new();
        let mut text = Vec::new();
        let begin = index(self.sent + 1 - self.first);
        for handed in self.handed.range(begin..) {
            if !text.is_empty() {
                if text.len() + handed.text.len() > PROPOSE_BYTES_MAX {
                    messages.push(std::mem::take(&mut text));
                } else {
                    push_separator(&mut text);
                }
            }
            text.extend_from_slice(&handed.text);
        }
        messages.push(text);
        self.sent = self.first + self.handed.len() as u64 - 1;
        messages.into_iter().filter_map(Value::new).collect()
    }

    fn pop(&mut self) -> Option<Handed> {
        let handed = self.handed.pop_front()?;
        self.handed_bytes -= handed.text.len();
        self.first += 1;
        self.sent = self.sent.max(self.first - 1);
        Some(handed)
    }
}

fn index(distance: u64) -> usize {
    usize::try_from(distance).expect("handed on commands are few")
}

/// About how many bytes a command takes.
fn command_bytes(command: &Command) -> usize {
    use crate::kv::command::Write::{Cas, Delete, Incr, Put};
    let write = match command {
        Command::Write(write) | Command::Once { write, .. } => write,
        Command::Session => return 16,
    };
    16 + match write {
        Put { key, value } => key.len() + value.len(),
        Delete { key } | Incr { key, .. } => key.len(),
        Cas { key, expected, new } => key.len() + expected.len() + new.len(),
    }
}
