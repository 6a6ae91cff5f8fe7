//! Between clients and nodes: batches of requests on their way, answers on their way back.

use super::Mistake;
use super::clients::{Batch, CLIENTS};
use super::clock::{Due, MS};
use super::counts::Seen;
use super::history::{Call, History, Reply};
use super::node::{Arrival, Running};
use super::watch::{Checked, ensure};
use super::world::{Phase, World, tell};
use crate::kv::command::{Command, Outcome, Write};
use crate::outbox::{Answer, Outbox, Ticket};
use crate::paxos::types::Slot;
use crate::replica::Input;

/// Marks the ticket of the reads of a batch.
const READ: u64 = 1 << 63;

/// How long a client thinks, at most.
const THINK_MAX: u64 = 200 * MS;

/// What a cluster begins with.
pub(super) fn preload() -> Vec<Command> {
    let fruit = [("apple", "1.25"), ("quince", "2.80")];
    let put = |(key, value): (&str, &str)| {
        Command::Write(Write::Put {
            key: key.as_bytes().into(),
            value: value.as_bytes().into(),
        })
    };
    fruit.into_iter().map(put).collect()
}

/// Steps a node with the requests of a batch, in the order of `server::core`.
pub(super) fn step(
    batch: &Batch,
    number: usize,
    history: &History,
    run: &mut Running,
    out: &mut Outbox,
) {
    if batch.fresh {
        let ticket = Ticket(READ | number as u64);
        run.replica.step(Input::Read { ticket }, out);
    }
    for &at in &batch.commands {
        let Call::Command(command) = &history.operations()[at].call else {
            unreachable!("commands and reads are kept apart");
        };
        let write = Input::Write {
            ticket: Ticket(at as u64),
            command: command.clone(),
        };
        run.replica.step(write, out);
    }
}

impl World {
    /// It is a client's turn: it asks, or has waited too long.
    pub(super) fn on_client(&mut self, index: usize, turn: u64) {
        if self.clients[index].turn != turn || self.phase != Phase::Safety {
            return;
        }
        if self.clients[index].open.is_some() {
            self.counts.one(Seen::TimedOut);
            tell!(self, "c{} waits no longer", index + 1);
            self.go_elsewhere(index, MS);
            return;
        }
        let server = self.clients[index].server;
        if self.nodes[server].running.is_none() {
            self.go_elsewhere(index, 2 * MS);
            return;
        }
        let ticket = self.history.next();
        let (calls, again) = self.clients[index].ask(index, ticket, &mut self.client_dice);
        if again {
            self.counts.one(Seen::OnceAgain);
        }
        let batch = self.send_batch(index, server, calls);
        let client = &mut self.clients[index];
        client.turn += 1;
        client.open = Some(batch);
        let turn = client.turn;
        let patience = self.client_dice.between(50 * MS..=700 * MS) + 4 * self.plan.slow_round;
        let client = index;
        self.clock.after(patience, Due::Client { client, turn });
    }

    /// A client takes another server, soon.
    fn go_elsewhere(&mut self, index: usize, within: u64) {
        let servers = self.nodes.len();
        let step = 1 + self.client_dice.index(servers - 1);
        let client = &mut self.clients[index];
        client.server = (client.server + step) % servers;
        client.open = None;
        client.turn += 1;
        let turn = client.turn;
        let wait = self.client_dice.below(within) + within / 2;
        let client = index;
        self.clock.after(wait, Due::Client { client, turn });
    }

    /// Requests arrive at a node that runs. Returns the number of the batch.
    pub(super) fn send_batch(&mut self, client: usize, node: usize, calls: Vec<Call>) -> usize {
        let now = self.clock.now();
        let (id, life) = (self.nodes[node].id, self.nodes[node].life);
        let floor = self.watch.decided();
        let mut batch = Batch {
            client,
            node,
            life,
            commands: Vec::new(),
            reads: Vec::new(),
            fresh: false,
            missing: 0,
            readable: false,
            closed: false,
        };
        for call in calls {
            self.counts.one(Seen::Operations);
            tell!(self, "c{}: {id} {call:?}", client + 1);
            let is_command = matches!(call, Call::Command(_));
            batch.fresh |= matches!(call, Call::Get(_) | Call::List(_));
            let asked = (id.number(), life);
            let ticket = self.history.on_call(client, asked, call, now, floor);
            if is_command {
                batch.commands.push(ticket);
            } else {
                batch.reads.push(ticket);
            }
        }
        batch.missing = batch.commands.len() + usize::from(batch.fresh);
        let number = self.batches.len();
        let local = batch.missing == 0;
        batch.readable = local || self.mistake == Some(Mistake::ReadsUnprobed);
        self.batches.push(batch);
        if local {
            self.clock.after(0, Due::Read { batch: number });
        } else {
            self.arrive(node, Arrival::Requests(number));
        }
        number
    }

    /// A node answers.
    pub(super) fn on_answer(&mut self, node: usize, ticket: Ticket, answer: Answer) -> Checked {
        let Ticket(ticket) = ticket;
        let number = if ticket & READ != 0 {
            let number = place(ticket & !READ);
            self.batches[number].readable |= answer == Answer::Readable;
            if !self.batches[number].readable {
                let reads = std::mem::take(&mut self.batches[number].reads);
                for read in reads {
                    self.reply(node, read, &Reply::Answer(answer.clone()), Slot::ZERO)?;
                }
            }
            number
        } else {
            let ticket = place(ticket);
            let number = self
                .batches
                .iter()
                .rposition(|batch| batch.commands.contains(&ticket));
            let number = number.ok_or_else(|| format!("nobody asked for {ticket}"))?;
            self.reply(node, ticket, &Reply::Answer(answer), Slot::ZERO)?;
            number
        };
        let batch = &mut self.batches[number];
        ensure!(batch.missing > 0, "I7: batch {number} is answered twice");
        batch.missing -= 1;
        if batch.missing > 0 {
            return Ok(());
        }
        if batch.reads.is_empty() {
            self.close_batch(number);
        } else {
            // The thread of the connection reads the store a little later.
            let wait = self.client_dice.below(200);
            self.clock.after(wait, Due::Read { batch: number });
        }
        Ok(())
    }

    /// The reads of a batch are made.
    pub(super) fn on_read(&mut self, number: usize) -> Checked {
        let batch = &mut self.batches[number];
        let (node, batch_client) = (batch.node, batch.client);
        if batch.closed || self.nodes[node].life != batch.life {
            return Ok(());
        }
        let Some(run) = &self.nodes[node].running else {
            return Ok(());
        };
        if run.frozen > 0 {
            self.clock.after(MS, Due::Read { batch: number });
            return Ok(());
        }
        let store = run.replica.store();
        let reads = std::mem::take(&mut batch.reads);
        for ticket in reads {
            let store = store.image();
            let at = Slot(store.applied());
            let call = &self.history.operations()[ticket].call;
            if let Call::Get(key) = call {
                let (client, value) = (batch_client, store.get(key));
                let version = store.version(key);
                self.clients[client].on_value(key, value.as_ref(), version);
            }
            let reply = match call {
                Call::Get(key) | Call::Local(key) => Reply::Value(store.get(key)),
                Call::List(prefix) => Reply::List(store.list(prefix)),
                Call::Command(_) => unreachable!("commands and reads are kept apart"),
            };
            self.reply(node, ticket, &reply, at)?;
        }
        self.close_batch(number);
        Ok(())
    }

    fn reply(&mut self, node: usize, ticket: usize, reply: &Reply, at: Slot) -> Checked {
        let operation = &self.history.operations()[ticket];
        let (client, now) = (operation.client, self.clock.now());
        let seen = match (&operation.call, reply) {
            (_, Reply::List(_)) => Seen::ListsDone,
            (Call::Local(_), _) => Seen::LocalReads,
            (_, Reply::Value(_)) => Seen::ReadsDone,
            (_, Reply::Answer(Answer::NotDone(_))) => Seen::WritesNotDone,
            (_, Reply::Answer(Answer::Unknown(_))) => Seen::WritesUnknown,
            (_, Reply::Answer(_)) => Seen::WritesDone,
        };
        self.counts.one(seen);
        match (&operation.call, reply) {
            (
                Call::Command(Command::Session),
                Reply::Answer(Answer::Done(Outcome::Session(id))),
            ) => {
                self.clients[client].on_session(*id);
            }
            (Call::Command(Command::Once { seq, .. }), Reply::Answer(Answer::Done(_))) => {
                self.clients[client].on_once(*seq);
            }
            _ => {}
        }
        tell!(self, "n{}: c{} {reply:?}", node + 1, client + 1);
        let model = self.watch.model();
        self.history.on_reply(ticket, reply, now, at, model)
    }

    fn close_batch(&mut self, number: usize) {
        let batch = &mut self.batches[number];
        batch.closed = true;
        let index = batch.client;
        let client = &mut self.clients[index];
        if client.open == Some(number) {
            client.open = None;
            client.turn += 1;
            let turn = client.turn;
            // Many pause a little; some go on at once.
            let think = if self.client_dice.chance(200) {
                0
            } else {
                self.client_dice.below(THINK_MAX)
            };
            let client = index;
            self.clock.after(think, Due::Client { client, turn });
        }
    }

    /// A node is gone, and with it all that it was asked and has not answered.
    pub(super) fn lose_batches(&mut self, node: usize, noticed: bool) {
        for number in 0..self.batches.len() {
            let batch = &mut self.batches[number];
            if batch.closed || batch.node != node {
                continue;
            }
            batch.closed = true;
            self.counts.one(Seen::Unanswered);
        }
        if noticed {
            for index in 0..CLIENTS {
                let open = self.clients[index].open;
                if open.is_some_and(|number| self.batches[number].node == node) {
                    self.go_elsewhere(index, 3 * MS);
                }
            }
        }
    }
}

fn place(number: u64) -> usize {
    usize::try_from(number).expect("few requests")
}
