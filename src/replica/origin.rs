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
use crate::kv::command::{Command, CommandId, Outcome, Transaction};
use crate::kv::store::Counter;
use crate::outbox::{Answer, Outbox, Ticket};
use crate::paxos::pace::{Asked, Pace};
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
    /// How long it takes from here to the leader and back into the store.
    pace: Pace,
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
    /// None before it was sent to a leader.
    asked: Option<Asked>,
}

impl Handed {
    fn on_sent(&mut self, now: u64) {
        self.asked = Some(self.asked.map_or(Asked::new(now), |asked| asked.again(now)));
    }
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
            pace: Pace::default(),
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

    /// A leader is known since now, or another one, or it is reached without a relay: everything is to be
    /// sent to it.
    pub(super) fn on_new_leader(&mut self, now: u64) {
        self.sent = self.first - 1;
        for handed in &mut self.handed {
            handed.asked = None;
        }
        // It may be farther away.
        self.pace = Pace::default();
        self.pace.on_progress(now);
    }

    /// The state machine met a number of this server and expected a lower one.
    pub(super) fn on_skipped(&mut self, expected: u64, now: u64) {
        // All that follows in the log is skipped as well: one re-send a while serves them all.
        if now >= self.skip_due {
            self.sent = self.sent.min(expected.max(self.first) - 1);
            self.skip_due = now + self.pace.wait();
        }
    }

    /// A command of this server was applied.
    pub(super) fn on_applied(&mut self, number: u64, outcome: Outcome, now: u64, out: &mut Outbox) {
        // Numbers apply in order, so the first is the one, unless applications were not seen.
        while self.first < number {
            if self.handed.is_empty() {
                return;
            }
            self.pop_unseen(out);
        }
        if self.first > number {
            return;
        }
        let Some(handed) = self.pop() else { return };
        if let Some(ticket) = handed.ticket {
            out.answer(ticket, Answer::Done(outcome));
        }
        match handed.asked {
            Some(asked) => self.pace.on_answer(asked, now),
            None => self.pace.on_progress(now),
        }
    }

    /// The store jumped to a slot where number `next` of start `start` of this server applies next:
    /// what came before was applied there, and nobody here has seen its outcomes.
    pub(super) fn on_jump(&mut self, Counter { start, next }: Counter, out: &mut Outbox) {
        while start == self.start && self.first < next && !self.handed.is_empty() {
            self.pop_unseen(out);
        }
    }

    /// Another start begins: what was handed on in the last one is void, or was applied unseen.
    pub(super) fn begin(&mut self, start: u64, out: &mut Outbox) {
        while !self.handed.is_empty() {
            self.pop_unseen(out);
        }
        (self.start, self.first, self.sent, self.watched) = (start, 1, 0, 1);
    }

    fn pop_unseen(&mut self, out: &mut Outbox) {
        if let Some(ticket) = self.pop().and_then(|handed| handed.ticket) {
            out.answer(ticket, Answer::Unknown(JUMPED));
        }
    }

    /// Numbers what waits, as far as the bounds allow, and returns what is to be sent to the leader,
    /// in messages of bounded size.
    pub(super) fn hand_on(&mut self, now: u64) -> Vec<Value> {
        while self.handed.len() < HANDED_MAX && self.handed_bytes < HANDED_BYTES_MAX {
            let Some(queued) = self.queued.pop_front() else {
                break;
            };
            self.queued_bytes -= queued.bytes;
            self.number(&queued);
        }
        let mut messages = Vec::new();
        let first = self.handed.front().and_then(|handed| handed.asked);
        if self.sent >= self.first && first.is_some_and(|asked| self.pace.is_overdue(asked, now)) {
            self.pace.on_again(now);
            // The leader holds all that it was sent, most likely, and waits for a majority. If it
            // does not, the beginning is what it needs first; the rest follows as that applies.
            let (message, end) = self.message(0, now);
            messages.push(message);
            self.sent = self.sent.max(self.first + end as u64 - 1);
        }
        messages.extend(self.unsent(now));
        messages
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
            asked: None,
        });
    }

    /// What was not sent to the leader of now.
    fn unsent(&mut self, now: u64) -> Vec<Value> {
        let mut messages = Vec::new();
        let mut at = index(self.sent + 1 - self.first);
        while at < self.handed.len() {
            let (message, end) = self.message(at, now);
            messages.push(message);
            at = end;
        }
        self.sent = self.first + self.handed.len() as u64 - 1;
        messages
    }

    /// The commands from place `begin` on that fit into one message, and the place behind them.
    fn message(&mut self, begin: usize, now: u64) -> (Value, usize) {
        let mut text = Vec::new();
        let mut end = begin;
        for handed in self.handed.range_mut(begin..) {
            if !text.is_empty() {
                if text.len() + handed.text.len() > PROPOSE_BYTES_MAX {
                    break;
                }
                push_separator(&mut text);
            }
            text.extend_from_slice(&handed.text);
            handed.on_sent(now);
            end += 1;
        }
        let message = Value::new(text).expect("the text of commands is not empty and has no LF");
        (message, end)
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
    HEAD_BYTES
        + match command {
            Command::Write(write) | Command::Once { write, .. } => write.bytes(),
            Command::Session => 0,
            Command::Exec(transaction) => {
                let Transaction { watched, steps } = &**transaction;
                transaction.bytes() + HEAD_BYTES * (watched.len() + steps.len())
            }
        }
}

/// About how many bytes a command takes besides its keys and values.
const HEAD_BYTES: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kv::command::{Bytes, Step, Watched, Write};
    use crate::paxos::pace::{DOUBLED_TICKS_MAX, WAIT_TICKS_FIRST};

    const FAR: u64 = 1_000_000;

    fn origin() -> Origin {
        Origin::new(NodeId::new(2).unwrap(), 5)
    }

    fn put(key: &str) -> Command {
        Command::Write(Write::Put {
            key: key.as_bytes().into(),
            value: b"v"[..].into(),
        })
    }

    /// Takes one command a key; their tickets count from 1.
    fn take(origin: &mut Origin, keys: &[&str], deadline: u64) -> Outbox {
        let mut out = Outbox::default();
        for (key, ticket) in keys.iter().zip(1..) {
            origin.on_write(Ticket(ticket), put(key), deadline, &mut out);
        }
        out
    }

    fn texts(values: &[Value]) -> Vec<String> {
        values.iter().map(ToString::to_string).collect()
    }

    fn applied(origin: &mut Origin, number: u64, now: u64) -> Vec<(Ticket, Answer)> {
        let mut out = Outbox::default();
        origin.on_applied(number, Outcome::Ok, now, &mut out);
        out.answers
    }

    fn expired(origin: &mut Origin, now: u64) -> Vec<(Ticket, Answer)> {
        let mut out = Outbox::default();
        origin.expire(now, &mut out);
        out.answers
    }

    #[test]
    fn commands_are_numbered_in_order_and_sent_once() {
        let mut origin = origin();
        take(&mut origin, &["a", "b"], FAR);
        let sent = origin.hand_on(0);
        assert_eq!(texts(&sent), ["n2.5.1 put a v ; n2.5.2 put b v"]);
        assert_eq!(origin.hand_on(0), []);
        take(&mut origin, &["c"], FAR);
        assert_eq!(texts(&origin.hand_on(1)), ["n2.5.3 put c v"]);
    }

    /// D12, P50: a re-send has the same number, and comes less often after the first.
    #[test]
    fn what_is_not_applied_is_sent_again_under_its_number() {
        let mut origin = origin();
        take(&mut origin, &["a"], FAR);
        let mut sent = Vec::new();
        for now in 0..200 {
            for text in texts(&origin.hand_on(now)) {
                assert_eq!(text, "n2.5.1 put a v");
                sent.push(now);
            }
        }
        let waits: Vec<u64> = sent.windows(2).map(|pair| pair[1] - pair[0]).collect();
        assert_eq!(
            waits[..3],
            [WAIT_TICKS_FIRST, DOUBLED_TICKS_MAX, DOUBLED_TICKS_MAX]
        );
        assert_eq!(
            applied(&mut origin, 1, 200),
            [(Ticket(1), Answer::Done(Outcome::Ok))]
        );
        assert!((200..400).all(|now| origin.hand_on(now).is_empty()));
    }

    /// P18, P50: a new leader gets all that is not applied, and nothing that is.
    #[test]
    fn a_new_leader_gets_everything_that_is_open() {
        let mut origin = origin();
        take(&mut origin, &["a", "b", "c"], FAR);
        origin.hand_on(0);
        applied(&mut origin, 1, 1);
        origin.on_new_leader(1);
        assert_eq!(
            texts(&origin.hand_on(1)),
            ["n2.5.2 put b v ; n2.5.3 put c v"]
        );
    }

    /// Commands keep their order: a gap in the log is sent again from its first number, once a while.
    #[test]
    fn a_skipped_command_brings_the_missing_ones_again() {
        let mut origin = origin();
        take(&mut origin, &["a", "b", "c"], FAR);
        origin.hand_on(0);
        applied(&mut origin, 1, 0);
        origin.on_skipped(2, 1);
        assert_eq!(
            texts(&origin.hand_on(1)),
            ["n2.5.2 put b v ; n2.5.3 put c v"]
        );
        origin.on_skipped(2, 1);
        assert_eq!(origin.hand_on(1), []);
        let wait = origin.pace.wait();
        origin.on_skipped(2, 1 + wait);
        assert_eq!(origin.hand_on(1 + wait).len(), 1);
    }

    /// P46: before it was handed on, a command is surely not done at its deadline; after, unknown.
    #[test]
    fn the_deadline_is_not_done_while_queued_and_unknown_after() {
        let mut origin = origin();
        take(&mut origin, &["a"], 10);
        assert_eq!(expired(&mut origin, 9), []);
        assert_eq!(
            expired(&mut origin, 10),
            [(Ticket(1), Answer::NotDone(NO_MAJORITY))]
        );
        assert_eq!(origin.hand_on(10), []);
        take(&mut origin, &["b"], 20);
        origin.hand_on(11);
        assert_eq!(
            expired(&mut origin, 20),
            [(Ticket(1), Answer::Unknown(STILL_OPEN))]
        );
        assert_eq!(expired(&mut origin, 21), []);
        assert!(origin.is_idle());
    }

    /// P46: a command whose client was told UNKNOWN keeps its number and may still apply; nobody is
    /// answered twice.
    #[test]
    fn a_command_outlives_its_client() {
        let mut origin = origin();
        take(&mut origin, &["a"], 10);
        origin.hand_on(0);
        expired(&mut origin, 10);
        take(&mut origin, &["b"], FAR);
        let again = texts(&origin.hand_on(WAIT_TICKS_FIRST));
        assert_eq!(again, ["n2.5.1 put a v ; n2.5.2 put b v"]);
        assert_eq!(applied(&mut origin, 1, 31), []);
        assert_eq!(
            applied(&mut origin, 2, 31),
            [(Ticket(1), Answer::Done(Outcome::Ok))]
        );
    }

    #[test]
    fn an_application_that_comes_again_answers_nobody() {
        let mut origin = origin();
        take(&mut origin, &["a", "b"], FAR);
        origin.hand_on(0);
        assert_eq!(applied(&mut origin, 1, 0).len(), 1);
        assert_eq!(applied(&mut origin, 1, 0), []);
        assert!(!origin.is_idle());
    }

    /// Where applications were not seen, their clients are told that the outcome is unknown.
    #[test]
    fn a_jump_over_commands_leaves_their_outcome_unknown() {
        let mut origin = origin();
        take(&mut origin, &["a", "b"], FAR);
        origin.hand_on(0);
        let answers = applied(&mut origin, 2, 0);
        let jumped = (Ticket(1), Answer::Unknown(JUMPED));
        assert_eq!(answers, [jumped, (Ticket(2), Answer::Done(Outcome::Ok))]);
    }

    #[test]
    fn too_many_are_refused_and_too_many_are_not_handed_on() {
        let mut origin = origin();
        let keys = vec!["k"; QUEUED_MAX + 1];
        let out = take(&mut origin, &keys, FAR);
        let last = Ticket(QUEUED_MAX as u64 + 1);
        assert_eq!(out.answers, [(last, Answer::NotDone(OVERLOAD))]);
        origin.hand_on(0);
        assert_eq!(origin.handed.len(), HANDED_MAX);
        applied(&mut origin, 1, 0);
        let next = format!("n2.5.{} put k v", HANDED_MAX + 1);
        assert_eq!(texts(&origin.hand_on(0)), [next]);
    }

    #[test]
    fn messages_to_the_leader_have_a_bound() {
        let mut origin = origin();
        let keys = vec!["k"; HANDED_MAX];
        take(&mut origin, &keys, FAR);
        origin.hand_on(0);
        origin.on_new_leader(0);
        let messages = origin.hand_on(0);
        let longest = messages.iter().map(|value| value.as_bytes().len()).max();
        assert!(longest <= Some(PROPOSE_BYTES_MAX + 64), "{longest:?}");
        let commands = texts(&messages).join("").matches("put").count();
        assert_eq!(commands, HANDED_MAX);
    }

    #[test]
    fn a_stop_refuses_what_was_not_handed_on() {
        let mut origin = origin();
        take(&mut origin, &["a"], FAR);
        origin.hand_on(0);
        take(&mut origin, &["b"], FAR);
        let mut out = Outbox::default();
        origin.refuse_queued(&mut out);
        assert_eq!(out.answers, [(Ticket(1), Answer::NotDone(SHUTTING_DOWN))]);
        assert!(!origin.is_idle());
    }

    /// A command of one key and one value, whose value has so many bytes.
    fn large(value_bytes: usize) -> Command {
        Command::Write(Write::Put {
            key: b"kk"[..].into(),
            value: vec![b'v'; value_bytes].into(),
        })
    }

    /// How many commands are taken until one is refused.
    fn taken(origin: &mut Origin, command: &Command, deadline: u64) -> usize {
        let mut out = Outbox::default();
        let taken = (0..1_000).take_while(|_| {
            origin.on_write(Ticket(1), command.clone(), deadline, &mut out);
            out.answers.is_empty()
        });
        taken.count()
    }

    #[test]
    fn the_bytes_that_wait_have_a_bound_and_are_given_back() {
        // 64 of them fill the queue to the last byte.
        let command = large((1 << 20) - 16 - 2);
        let mut origin = origin();
        assert_eq!(taken(&mut origin, &command, 10), 64);
        assert_eq!(taken(&mut origin, &put("k"), FAR), 0);
        assert_eq!(expired(&mut origin, 10).len(), 64);
        assert_eq!(taken(&mut origin, &command, FAR), 64);
        // Half of them are handed on, and one that begins below the bound: as many have room again.
        origin.hand_on(0);
        let handed = origin.handed.len();
        assert_eq!(handed, (HANDED_BYTES_MAX >> 20) + 1);
        assert_eq!(taken(&mut origin, &command, FAR), handed);
        // One that is applied makes room for one.
        applied(&mut origin, 1, 0);
        origin.hand_on(0);
        assert_eq!(origin.handed.len(), handed);
        assert_eq!(taken(&mut origin, &command, FAR), 1);
    }

    /// Every byte that a client sent counts, whatever the command.
    #[test]
    fn all_bytes_of_a_command_count() {
        let bytes = |count: usize| vec![b'v'; count].into();
        let [key, expected, new] = [bytes(1_000), bytes(300_000), bytes(700_000)];
        let empty = command_bytes(&large(0));
        let cas = Command::Write(Write::Cas { key, expected, new });
        assert_eq!(command_bytes(&cas) - empty, 1_001_000 - 2);
        let key = bytes(1_000);
        let delete = Command::Write(Write::Delete { key });
        assert_eq!(command_bytes(&delete) - empty, 1_000 - 2);
        assert!(command_bytes(&Command::Session) > 0);
    }

    /// A transaction of many small steps is no small command.
    #[test]
    fn what_a_transaction_watches_and_does_counts_one_by_one() {
        let key: Bytes = b"key".as_slice().into();
        let watched = Watched {
            key: key.clone(),
            version: None,
        };
        let get = Step::Get { key };
        let exec = Command::Exec(Box::new(Transaction {
            watched: vec![watched; 3],
            steps: vec![get, Step::Size],
        }));
        let all = 4 * b"key".len() + 6 * HEAD_BYTES;
        assert_eq!(command_bytes(&exec), all);
    }

    #[test]
    fn no_more_is_handed_on_once_its_bytes_are_reached() {
        let mut origin = origin();
        let mut out = Outbox::default();
        let rest = "n2.5.1 put kk ".len();
        origin.on_write(Ticket(1), large(HANDED_BYTES_MAX - rest), FAR, &mut out);
        origin.on_write(Ticket(2), put("k"), FAR, &mut out);
        origin.hand_on(0);
        assert_eq!(origin.handed.len(), 1);
        applied(&mut origin, 1, 0);
        origin.hand_on(0);
        assert_eq!(origin.handed.len(), 1);
    }

    #[test]
    fn a_message_is_filled_to_its_last_byte() {
        for (more, messages) in [(0, 1), (1, 2)] {
            let mut origin = origin();
            let mut out = Outbox::default();
            let half = PROPOSE_BYTES_MAX / 2 - "n2.5.1 put kk ".len();
            origin.on_write(Ticket(1), large(half), FAR, &mut out);
            origin.on_write(Ticket(2), large(half + more), FAR, &mut out);
            assert_eq!(origin.hand_on(0).len(), messages, "{more} bytes more");
        }
    }

    /// What comes after a re-send, or after all is applied, is sent as well, and once.
    #[test]
    fn nothing_is_taken_for_sent_that_was_not() {
        let mut origin = origin();
        take(&mut origin, &["a"], FAR);
        origin.hand_on(100);
        take(&mut origin, &["b"], FAR);
        let again = texts(&origin.hand_on(100 + WAIT_TICKS_FIRST));
        assert_eq!(again, ["n2.5.1 put a v ; n2.5.2 put b v"]);
        take(&mut origin, &["c"], FAR);
        assert_eq!(texts(&origin.hand_on(131)), ["n2.5.3 put c v"]);
        for number in 1..=3 {
            applied(&mut origin, number, 132);
        }
        take(&mut origin, &["d"], FAR);
        assert_eq!(texts(&origin.hand_on(133)), ["n2.5.4 put d v"]);
    }

    /// A re-send holds what fits into one message; what is new and does not fit follows at once.
    #[test]
    fn what_a_resend_has_no_room_for_is_sent_beside_it() {
        let mut origin = origin();
        let mut out = Outbox::default();
        take(&mut origin, &["a"], FAR);
        origin.hand_on(0);
        for ticket in 2..=5 {
            let command = large(PROPOSE_BYTES_MAX / 3);
            origin.on_write(Ticket(ticket), command, FAR, &mut out);
        }
        let messages = texts(&origin.hand_on(WAIT_TICKS_FIRST));
        let counts = messages.iter().map(|text| text.matches("put").count());
        assert_eq!(counts.collect::<Vec<_>>(), [3, 2]);
        for (number, text) in (1..).zip([0, 0, 0, 1, 1]) {
            let id = format!("n2.5.{number} put");
            assert!(messages[text].contains(&id), "{id} in message {text}");
        }
    }

    #[test]
    fn a_new_leader_is_given_time_before_it_is_sent_all_again() {
        let mut origin = origin();
        take(&mut origin, &["a"], FAR);
        origin.hand_on(0);
        origin.on_new_leader(100);
        let sent: Vec<u64> = (100..140)
            .filter(|&now| !origin.hand_on(now).is_empty())
            .collect();
        assert_eq!(sent, [100, 100 + WAIT_TICKS_FIRST]);
        let mut origin = self::origin();
        take(&mut origin, &["a", "b"], FAR);
        origin.hand_on(0);
        applied(&mut origin, 1, 1);
        let wait = origin.pace.wait();
        let sent: Vec<u64> = (1..wait + 3)
            .filter(|&now| {
                origin.on_skipped(2, now);
                !origin.hand_on(now).is_empty()
            })
            .collect();
        assert_eq!(sent, [1, 1 + wait]);
    }

    /// P24: a snapshot tells which numbers were applied, and not what came of them.
    #[test]
    fn a_snapshot_leaves_what_it_jumped_over_unknown() {
        let unknown = |ticket| (Ticket(ticket), Answer::Unknown(JUMPED));
        let jump = |origin: &mut Origin, start, next| {
            let mut out = Outbox::default();
            origin.on_jump(Counter { start, next }, &mut out);
            out.answers
        };
        let mut origin = origin();
        take(&mut origin, &["a", "b", "c", "d"], FAR);
        origin.hand_on(0);
        // Of an older start it says nothing about this one.
        assert_eq!(jump(&mut origin, 4, 9), []);
        assert_eq!(jump(&mut origin, 5, 1), []);
        assert_eq!(jump(&mut origin, 5, 3), [unknown(1), unknown(2)]);
        assert_eq!(
            applied(&mut origin, 3, 0),
            [(Ticket(3), Answer::Done(Outcome::Ok))]
        );
        assert_eq!(jump(&mut origin, 5, 9), [unknown(4)]);
    }

    /// P41: in another start nothing of the last one is sent again, and numbers count from 1.
    #[test]
    fn another_start_gives_up_what_was_handed_on() {
        let mut origin = origin();
        take(&mut origin, &["a", "b"], FAR);
        origin.hand_on(0);
        take(&mut origin, &["c"], FAR);
        let mut out = Outbox::default();
        origin.begin(6, &mut out);
        assert_eq!(out.answers.len(), 2);
        assert_eq!(texts(&origin.hand_on(0)), ["n2.6.1 put c v"]);
        assert!(!origin.owns(CommandId {
            origin: 2,
            start: 5,
            number: 1
        }));
    }
}
