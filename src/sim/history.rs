//! What clients asked and were told, against the one log: nothing acknowledged is missing, nothing
//! refused was applied, nothing ran twice, and every read saw a state that it may see.
//!
//! Where all clocks are right, no key ends before its time is over.
//!
//! Almost every command can be told from all others in the log, because its ticket stands in it.
//! Deletes of shared keys cannot; they are counted.
//!
//! Reads are judged by the log: a linearizable one, made at slot *a*, must have *a* at least as high
//! as any slot that was decided anywhere when it was asked for (which includes all that was
//! acknowledged and all that was read), and must see exactly what the log up to *a* makes. That is
//! sound, and stronger than linearizability; [`Operation`]s are what a judge that knows nothing of
//! the log takes (`judge`); they leave a life with [`super::Life`].

use std::collections::BTreeMap;

use super::clock::MS;
use super::model::{Applied, Model, same};
use super::watch::{Checked, ensure};
use crate::kv::command::{Bytes, Command, CommandId, Deadline, Outcome, SessionId, Step, Write};
use crate::outbox::Answer;
use crate::paxos::types::Slot;

/// What a client asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Call {
    /// A command.
    Command(Command),
    /// The value of a key.
    Get(Bytes),
    /// All keys with this beginning.
    List(Bytes),
    /// The value of a key, as the server has it, be it stale.
    Local(Bytes),
}

/// What it was told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    /// About a command, or a read that was not done.
    Answer(Answer),
    /// What a key held.
    Value(Option<Bytes>),
    /// Keys and values.
    List(Vec<(Bytes, Bytes)>),
}

/// A request, and what became of it.
#[derive(Debug, Clone)]
pub struct Operation {
    /// Which client.
    pub client: usize,
    /// The node that was asked, from 1, and which run of its process, from 1.
    pub asked: (u8, u64),
    /// What.
    pub call: Call,
    /// When, in microseconds; and how many calls and replies came before.
    pub called: (u64, u64),
    /// When the reply came, alike; none while there is none.
    pub replied: Option<(u64, u64)>,
    /// The reply.
    pub reply: Option<Reply>,
    /// What was decided anywhere when it was asked for.
    pub(super) floor: Slot,
}

/// See the module's text.
#[derive(Debug, Default)]
pub(super) struct History {
    operations: Vec<Operation>,
    events: u64,
    /// What became of the command with this ticket.
    applied: Vec<Option<(CommandId, Outcome)>>,
    /// Which delete names a key that no other does.
    deletes: BTreeMap<Bytes, usize>,
    /// Which runs of a node's process had a start of this number. A run that was told that its memory
    /// is lost begins another start, and a number that nobody has heard of may come again.
    runs: BTreeMap<(u8, u64), Vec<u64>>,
    /// How many deletes of a shared key by a node applied.
    shared_deletes: BTreeMap<(u8, Bytes), u64>,
    /// The last ticket that applied, of each run of a node.
    last: BTreeMap<(u8, u64), usize>,
    sessions_told: BTreeMap<SessionId, usize>,
}

impl History {
    /// All requests, in the order in which they were made.
    pub(super) fn operations(&self) -> &[Operation] {
        &self.operations
    }

    /// The same, to be kept.
    pub(super) fn take_operations(&mut self) -> Vec<Operation> {
        std::mem::take(&mut self.operations)
    }

    /// The ticket of the next request.
    pub(super) fn next(&self) -> usize {
        self.operations.len()
    }

    pub(super) fn on_call(
        &mut self,
        client: usize,
        asked: (u8, u64),
        call: Call,
        now: u64,
        floor: Slot,
    ) -> usize {
        let ticket = self.operations.len();
        if let Call::Command(Command::Write(Write::Delete { key })) = &call
            && key[0] == UNIQUE
        {
            self.deletes.insert(key.clone(), ticket);
        }
        self.events += 1;
        self.operations.push(Operation {
            client,
            asked,
            call,
            called: (now, self.events),
            replied: None,
            reply: None,
            floor,
        });
        self.applied.push(None);
        ticket
    }

    /// A node begins a start.
    pub(super) fn on_start(&mut self, node: u8, start: u64, run: u64) {
        self.runs.entry((node, start)).or_default().push(run);
    }

    /// A command of the log applied, for the first time anywhere.
    pub(super) fn on_applied(&mut self, applied: Applied) -> Checked {
        let Applied {
            id,
            command,
            outcome,
        } = applied;
        let Some(owner) = self.owner(id, &command)? else {
            return Ok(());
        };
        let operation = &self.operations[owner];
        ensure!(
            operation.call == Call::Command(command),
            "I7: {id} is not what request {owner} asked for"
        );
        let (node, run) = operation.asked;
        let runs = self.runs.get(&(id.origin, id.start));
        ensure!(
            node == id.origin && runs.is_some_and(|runs| runs.contains(&run)),
            "I7: {id} is request {owner}, which was made to {:?}",
            operation.asked
        );
        if let Some((before, _)) = &self.applied[owner] {
            return Err(format!(
                "I7: request {owner} applied twice, as {before} and {id}"
            ));
        }
        ensure!(
            !matches!(operation.reply, Some(Reply::Answer(Answer::NotDone(_)))),
            "P46: request {owner} was NOT_DONE and applied as {id}"
        );
        // Each server's commands keep their order.
        let last = self.last.insert((node, run), owner);
        ensure!(
            last < Some(owner),
            "I7: {id} is request {owner} and applied after request {last:?}"
        );
        self.applied[owner] = Some((id, outcome));
        Ok(())
    }

    /// A key ended that was to live for so many milliseconds, where all clocks are right.
    pub(super) fn on_ended(&self, life: u64, now: u64) -> Checked {
        let Some(owner) = ticket_of_life(life) else {
            return Ok(());
        };
        let (called, _) = self.operations[owner].called;
        let lived = now - called;
        ensure!(
            lived >= life * MS,
            "P26: a key that request {owner} gave {life} ms ended within {lived} us"
        );
        Ok(())
    }

    /// Whose this command of the log is, if it can be told.
    fn owner(&mut self, id: CommandId, command: &Command) -> Checked<Option<usize>> {
        let write = match command {
            Command::Write(write) => write,
            // Each begins with a write of its own ticket.
            Command::Exec(transaction) => match transaction.steps.first() {
                Some(Step::Write(write)) => write,
                _ => return Err(format!("{id} is a transaction of nobody")),
            },
            Command::Once { .. } | Command::Session => return Ok(None),
        };
        let owner = match write {
            _ if id.origin == 0 => None,
            Write::Put { value, .. }
            | Write::Cas { new: value, .. }
            | Write::Set { value, .. }
            | Write::Append { value, .. }
            | Write::SetRange { value, .. } => ticket_in(value),
            Write::Expire {
                deadline: Deadline::In(millis) | Deadline::At(millis),
                ..
            } => ticket_of_life(*millis),
            Write::Persist { .. } => None,
            Write::Incr { by, .. } => usize::try_from(*by).ok(),
            Write::Delete { key } if key[0] == UNIQUE => self.deletes.get(key).copied(),
            Write::Delete { key } => {
                let of = (id.origin, key.clone());
                *self.shared_deletes.entry(of).or_default() += 1;
                return Ok(None);
            }
        };
        ensure!(
            id.origin == 0 || owner.is_some_and(|owner| owner < self.operations.len()),
            "{id} was asked for by nobody"
        );
        Ok(owner)
    }

    /// A request got its answer. `at` is the slot at which a read was made.
    pub(super) fn on_reply(
        &mut self,
        ticket: usize,
        reply: &Reply,
        now: u64,
        at: Slot,
        model: &Model,
    ) -> Checked {
        self.events += 1;
        let operation = &mut self.operations[ticket];
        ensure!(
            operation.reply.is_none(),
            "I7: request {ticket} is answered twice"
        );
        operation.replied = Some((now, self.events));
        operation.reply = Some(reply.clone());
        let operation = &self.operations[ticket];
        match (&operation.call, reply) {
            (Call::Command(command), Reply::Answer(Answer::Done(outcome))) => {
                check_done(
                    ticket,
                    command,
                    outcome,
                    self.applied[ticket].as_ref(),
                    model,
                )?;
                if let Outcome::Session(id) = outcome {
                    let before = self.sessions_told.insert(*id, ticket);
                    ensure!(
                        before.is_none(),
                        "I7: session {id} was given to requests {before:?} and {ticket}"
                    );
                }
                Ok(())
            }
            (Call::Command(_), Reply::Answer(Answer::NotDone(why))) => {
                ensure!(
                    self.applied[ticket].is_none(),
                    "P46: request {ticket} is NOT_DONE ({why}) and was applied"
                );
                Ok(())
            }
            (Call::Get(key), Reply::Value(value)) => {
                check_floor(ticket, operation.floor, at)?;
                check_value(ticket, value.as_ref(), model.at(key, at.0).as_ref(), at)
            }
            (Call::Local(key), Reply::Value(value)) => {
                check_value(ticket, value.as_ref(), model.at(key, at.0).as_ref(), at)
            }
            (Call::List(prefix), Reply::List(list)) => {
                check_floor(ticket, operation.floor, at)?;
                ensure!(
                    *list == model.list(prefix, at.0),
                    "request {ticket} listed at {at} what the log does not make"
                );
                Ok(())
            }
            (_, Reply::Answer(Answer::Unknown(_) | Answer::NotDone(_))) => Ok(()),
            (call, reply) => Err(format!("request {ticket} is {call:?} and got {reply:?}")),
        }
    }

    /// When all is over: the deletes that cannot be told from each other.
    pub(super) fn check_end(&self) -> Checked {
        let mut deletes: BTreeMap<(u8, Bytes), (u64, u64)> = BTreeMap::new();
        for operation in &self.operations {
            if let Call::Command(Command::Write(Write::Delete { key })) = &operation.call
                && key[0] != UNIQUE
            {
                let of = (operation.asked.0, key.clone());
                let (least, most) = deletes.entry(of).or_default();
                match &operation.reply {
                    Some(Reply::Answer(Answer::Done(_))) => {
                        *least += 1;
                        *most += 1;
                    }
                    Some(Reply::Answer(Answer::NotDone(_))) => {}
                    _ => *most += 1,
                }
            }
        }
        for (of, applied) in &self.shared_deletes {
            let (_, most) = deletes.get(of).copied().unwrap_or_default();
            ensure!(
                *applied <= most,
                "I7: {applied} deletes of {of:?} applied, {most} may have"
            );
        }
        for (of, (least, _)) in deletes {
            let applied = self.shared_deletes.get(&of).copied().unwrap_or(0);
            ensure!(
                applied >= least,
                "I6: {applied} deletes of {of:?} applied, {least} were acknowledged"
            );
        }
        Ok(())
    }
}

fn check_done(
    ticket: usize,
    command: &Command,
    outcome: &Outcome,
    applied: Option<&(CommandId, Outcome)>,
    model: &Model,
) -> Checked {
    match command {
        Command::Session => {
            let opened = model.sessions();
            let Outcome::Session(SessionId(id)) = outcome else {
                return Err(format!("request {ticket} opened a session as {outcome:?}"));
            };
            ensure!(
                (1..=opened).contains(id),
                "I6: request {ticket} got session {id}, the log has {opened}"
            );
        }
        Command::Once { session, seq, .. } => {
            let last = model.session(*session);
            let right = match (outcome, last) {
                (Outcome::StaleSeq(told), Some((last, _))) => seq < told && told <= last,
                // The client of a session goes on only when its command has an outcome.
                (outcome, Some((last, known))) if seq == last => same(outcome, known),
                (_, Some((last, _))) => seq < last,
                (_, None) => false,
            };
            ensure!(
                right,
                "I7: request {ticket} got {outcome:?} for seq {seq}, the log has {last:?}"
            );
        }
        Command::Write(Write::Delete { key }) if key[0] != UNIQUE => {}
        Command::Write(_) | Command::Exec(_) => match applied {
            None => {
                return Err(format!(
                    "I6: request {ticket} was acknowledged and is not in the log: {command:?}"
                ));
            }
            Some((id, known)) => ensure!(
                same(outcome, known),
                "request {ticket}, {id}, got {outcome:?}; the log makes it {known:?}"
            ),
        },
    }
    Ok(())
}

fn check_floor(ticket: usize, floor: Slot, at: Slot) -> Checked {
    ensure!(
        at >= floor,
        "linearizability: request {ticket} read at {at}, and {floor} was decided before it was made"
    );
    Ok(())
}

fn check_value(ticket: usize, value: Option<&Bytes>, known: Option<&Bytes>, at: Slot) -> Checked {
    ensure!(
        value == known,
        "request {ticket} read {} at {at}, the log makes it {}",
        shown(value),
        shown(known)
    );
    Ok(())
}

fn shown(value: Option<&Bytes>) -> String {
    value.map_or("nothing".into(), |value| {
        String::from_utf8_lossy(value).into_owned()
    })
}

/// Keys that only one put and one delete name begin so.
const UNIQUE: u8 = b'u';

/// The shortest life of a key, in milliseconds; each ticket adds one, so that it can be told.
pub(super) const LIFE_MIN: u64 = 5;

fn ticket_of_life(millis: u64) -> Option<usize> {
    let ticket = millis.checked_sub(LIFE_MIN)?;
    usize::try_from(ticket).ok()
}

/// The value that a request with this ticket writes.
pub(super) fn value_of(ticket: usize) -> Bytes {
    format!("v{ticket}").into_bytes().into()
}

/// A key that only this request names.
pub(super) fn unique_key(ticket: usize) -> Bytes {
    format!("u{ticket}").into_bytes().into()
}

fn ticket_in(value: &[u8]) -> Option<usize> {
    std::str::from_utf8(value.strip_prefix(b"v")?)
        .ok()?
        .parse()
        .ok()
}
