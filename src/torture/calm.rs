//! The calm between waves: all is healed, and all must be well again within stated times.
//!
//! 1. Every server takes a fresh write and reads it back, linearizably, and votes: one that had lost
//!    its memory has it again, [`SERVE_WITHIN`].
//! 2. The clients get on: answers come, [`PROGRESS_WITHIN`].
//! 3. The clients rest, and all servers have applied the same slots with the same hash,
//!    [`AGREE_WITHIN`].

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::counts::Outcome;
use super::load::limits;
use super::servers::Servers;
use super::{Halt, Torture};
use crate::client::peek::Peek;
use crate::client::{Answer, Connection, Error, Lane, Limits};
use crate::kv::command::{Command, List, Read, Write};
use crate::paxos::types::NodeId;
use crate::wire::client::{Reply, Request};

/// All servers serve so long after everything was healed. A server needs: to replay its log, links
/// (up to 2 s for a greeting that was lost), a leader, what it has missed.
const SERVE_WITHIN: Duration = Duration::from_secs(15);

/// Clients that were at cut-off servers are back within this time.
const PROGRESS_WITHIN: Duration = Duration::from_secs(5);

/// All servers have applied the same so long after the last request ended.
const AGREE_WITHIN: Duration = Duration::from_secs(10);

/// Between two tries of what does not succeed yet.
const TRY_EVERY: Duration = Duration::from_millis(20);

/// How long a server may take to list everything.
const LIST_WITHIN: Duration = Duration::from_secs(20);

impl Torture<'_> {
    /// Heals everything, and waits until all is well; the clients work for `work` meanwhile.
    pub(super) fn calm(&mut self, wave: u64, work: Duration) -> Result<(), Halt> {
        self.field.heal()?;
        self.note(&format!("calm {wave}: all is healed"));
        let by = Instant::now() + SERVE_WITHIN;
        self.each_serves(wave, by)?;
        self.note("all serve");
        self.all_vote(by)?;
        self.note("all vote");
        self.clients_get_on(work)?;
        self.load.rest()?;
        self.all_agree()?;
        self.note("all agree");
        self.field.hear_victims()?;
        self.load.go_on();
        Ok(())
    }

    fn each_serves(&mut self, wave: u64, by: Instant) -> Result<(), Halt> {
        for id in self.field.servers.members() {
            let address = self.field.servers.address(id);
            for number in 1.. {
                let key = format!("calm{wave}/{id}.{number}");
                let Err(why) = self.prober.probe(&address, &key) else {
                    break;
                };
                if Instant::now() >= by {
                    let text =
                        format!("{id} does not serve {SERVE_WITHIN:?} after all was healed: {why}");
                    return Err(Halt::Failed(text));
                }
                self.pause(Instant::now() + TRY_EVERY)?;
            }
        }
        Ok(())
    }

    fn all_vote(&mut self, by: Instant) -> Result<(), Halt> {
        loop {
            let votes = |peek: &Option<Peek>| peek.as_ref().is_some_and(|peek| peek.acceptor_up);
            let peeks = self.field.peeks();
            let Some((id, _)) = peeks.iter().find(|(_, peek)| !votes(peek)) else {
                return Ok(());
            };
            if Instant::now() >= by {
                let text = format!("{id} does not vote {SERVE_WITHIN:?} after all was healed");
                return Err(Halt::Failed(text));
            }
            self.pause(Instant::now() + TRY_EVERY)?;
        }
    }

    fn clients_get_on(&mut self, work: Duration) -> Result<(), Halt> {
        let before = self.load.operations().all(Outcome::Done);
        let by = Instant::now() + PROGRESS_WITHIN;
        self.pause(Instant::now() + work)?;
        while self.load.operations().all(Outcome::Done) == before {
            if Instant::now() >= by {
                let text = format!("no client has got an answer for {PROGRESS_WITHIN:?} of calm");
                return Err(Halt::Failed(text));
            }
            self.pause(Instant::now() + TRY_EVERY)?;
        }
        Ok(())
    }

    fn all_agree(&mut self) -> Result<(), Halt> {
        let by = Instant::now() + AGREE_WITHIN;
        loop {
            let peeks = self.field.peeks();
            let mut hashes: BTreeMap<_, (NodeId, String)> = BTreeMap::new();
            let mut seen = Vec::new();
            for (id, peek) in &peeks {
                let Some(peek) = peek else {
                    seen.push(format!("{id} does not answer"));
                    continue;
                };
                seen.push(format!("{id} {} {}", peek.applied, peek.hash));
                let found = hashes.entry(peek.applied);
                let (other, hash) = found.or_insert_with(|| (*id, peek.hash.clone()));
                if *hash != peek.hash {
                    let applied = peek.applied;
                    let text = format!(
                        "I5: {other} and {id} differ at {applied}: {hash} and {}",
                        peek.hash
                    );
                    return Err(Halt::Failed(text));
                }
            }
            if hashes.len() == 1 && peeks.iter().all(|(_, peek)| peek.is_some()) {
                return Ok(());
            }
            if Instant::now() >= by {
                let seen = seen.join(", ");
                let text = format!(
                    "the servers do not agree {AGREE_WITHIN:?} after the last request: {seen}"
                );
                return Err(Halt::Failed(text));
            }
            self.pause(Instant::now() + TRY_EVERY)?;
        }
    }
}

/// Asks one server and no other, and writes it down.
pub(super) struct Prober {
    lane: Lane,
}

impl Prober {
    pub(super) fn new(lane: Lane) -> Self {
        Self { lane }
    }

    /// One request and its reply, or why there is none.
    fn ask(
        &mut self,
        address: &str,
        connection: &mut Connection,
        request: &Request,
    ) -> Result<Reply, String> {
        let began = Instant::now();
        self.lane.call(request);
        let reply = connection.ask(request).map_err(|error| error.to_string());
        let after = began.elapsed();
        self.lane.end(&match &reply {
            Ok(reply) => Ok(Answer {
                reply: reply.clone(),
                server: address.into(),
                took: after,
            }),
            Err(reason) => Err(Error::InDoubt {
                after,
                reason: reason.clone(),
            }),
        });
        reply
    }

    /// A fresh write and a read of it at one server, whose acceptor is up again, and whose disk is fast.
    fn probe(&mut self, address: &str, key: &str) -> Result<(), String> {
        let connection = Connection::open(address, limits());
        let mut connection = connection.map_err(|error| error.to_string())?;
        let key = key.as_bytes();
        let put = Write::Put {
            key: key.into(),
            value: key.into(),
        };
        let get = Read::Get { key: key.into() };
        for (request, expected) in [
            (Request::Recover, Reply::Ok),
            (Request::Slow(0), Reply::Ok),
            (Request::Write(Command::Write(put)), Reply::Ok),
            (
                Request::Read {
                    local: false,
                    read: get,
                },
                Reply::Value(key.into()),
            ),
        ] {
            let reply = self.ask(address, &mut connection, &request)?;
            if reply != expected {
                return Err(format!("expected {expected}, found {reply}"));
            }
        }
        Ok(())
    }

    /// Has each server list the whole store, for the judge, and stops them in order.
    pub(super) fn last_words(&mut self, servers: &mut Servers) -> Result<(), String> {
        let list = Request::Read {
            local: false,
            read: Read::List(List::default()),
        };
        let limits = Limits {
            silence: LIST_WITHIN,
            ..limits()
        };
        for id in servers.members() {
            let address = servers.address(id);
            let listed = Connection::open(&address, limits)
                .map_err(|error| error.to_string())
                .and_then(|mut connection| self.ask(&address, &mut connection, &list));
            match listed {
                Ok(Reply::List(_)) => {}
                Ok(other) => return Err(format!("{id} was asked to list all, and said {other}")),
                Err(error) => return Err(format!("{id} does not list all: {error}")),
            }
        }
        servers
            .members()
            .into_iter()
            .try_for_each(|id| servers.stop(id))
    }
}
