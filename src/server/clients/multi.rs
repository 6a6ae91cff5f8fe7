//! Transactions of a connection: what is collected between `MULTI` and `EXEC`, and what was watched.
//!
//! Nothing is done before `EXEC`: then all steps go through the log as one command, with what the
//! watched keys were like. Whether they still are is decided where the command is applied, by the log
//! alone, so no lock is held in between, and a connection that is lost leaves nothing behind.
//!
//! What can be a step is collected; what no log can answer (`KEYS`, `SCAN`, what is about this server
//! or connection) is refused, and the whole transaction with it. So is a request whose name or number of
//! words is wrong; one with another mistake fails alone, as in Redis ([`Spoils`]).

use crate::kv::command::{Bytes, Outcome, Step, Transaction, WATCHED_MAX, Watched};
use crate::replica::SharedStore;
use crate::wire::resp::{Reply, Request, RequestError, Spoils, Tell, too_large};

/// What is collected.
#[derive(Debug, Default)]
pub(super) struct Multi {
    items: Vec<Item>,
    steps: Vec<Step>,
    /// Of keys and values, and of what is told back.
    bytes: usize,
    /// About how much it takes.
    memory: usize,
    /// A request was refused, and the client was told so.
    spoilt: bool,
}

/// One request of a transaction.
#[derive(Debug)]
pub(super) enum Item {
    /// Its answer is known.
    Known(Reply),
    /// So many steps, and how they are told.
    Steps(usize, Tell),
}

/// What the next transaction rests on.
#[derive(Debug, Default)]
pub(super) struct Watch {
    watched: Vec<Watched>,
}

impl Watch {
    /// About how many bytes it takes.
    pub(super) fn memory(&self) -> usize {
        let keys = self.watched.iter().map(|watched| watched.key.len());
        keys.sum::<usize>() + self.watched.capacity() * (size_of::<Watched>() + 32)
    }

    /// Adds keys as they are now. One that is watched already stays as it was then.
    pub(super) fn add(&mut self, mut keys: Vec<Bytes>, store: &SharedStore) -> Reply {
        keys.retain(|key| self.watched.iter().all(|watched| watched.key != *key));
        if self.watched.len() + keys.len() > WATCHED_MAX {
            return Reply::error(format_args!(
                "expected at most {WATCHED_MAX} watched keys on a connection"
            ));
        }
        let versions = store.versions(&keys);
        let watched = keys.into_iter().zip(versions);
        self.watched
            .extend(watched.map(|(key, version)| Watched { key, version }));
        Reply::OK
    }
}

impl Multi {
    /// About how many bytes it takes.
    pub(super) fn memory(&self) -> usize {
        self.memory
    }

    /// Collects a request, which takes about `memory` bytes, and tells its client.
    pub(super) fn queue(&mut self, request: Result<Request, RequestError>, memory: usize) -> Reply {
        let (steps, item, bytes) = match request {
            Ok(Request::Change(change)) => steps_of(change.steps, change.tell),
            Ok(Request::Read(read)) => match read.steps() {
                Some(steps) => steps_of(steps, Tell::Read(read)),
                None => return self.refuse(not_allowed()),
            },
            Ok(Request::Known(reply)) => {
                let bytes = match &reply {
                    Reply::Bulk(bytes) => bytes.len(),
                    _ => 0,
                };
                (Vec::new(), Item::Known(reply), bytes)
            }
            Ok(Request::Unwatch) => (Vec::new(), Item::Known(Reply::OK), 0),
            Ok(Request::Multi) => return Reply::error("MULTI calls can not be nested"),
            Ok(Request::Watch(_)) => return Reply::error("WATCH inside MULTI is not allowed"),
            Ok(_) => return self.refuse(not_allowed()),
            Err(error) if error.spoils() == Spoils::Itself => {
                (Vec::new(), Item::Known(error.into()), 0)
            }
            Err(error) => return self.refuse(error.into()),
        };
        if self.spoilt {
            // Nothing of it will be done.
            return QUEUED;
        }
        let requests = self.items.len() + 1;
        let count = (self.steps.len() + steps.len()).max(requests);
        if let Some(error) = too_large(count, self.bytes + bytes) {
            return self.refuse(error);
        }
        self.bytes += bytes;
        self.memory += memory;
        self.items.push(item);
        self.steps.extend(steps);
        QUEUED
    }

    fn refuse(&mut self, error: Reply) -> Reply {
        *self = Self {
            spoilt: true,
            ..Self::default()
        };
        error
    }

    /// What is to be answered, and the transaction; none if nothing is asked of the log.
    pub(super) fn end(self, watch: Watch) -> Result<(Vec<Item>, Option<Transaction>), Reply> {
        if self.spoilt {
            return Err(Reply::Error(
                "EXECABORT Transaction discarded because of previous errors.".into(),
            ));
        }
        let transaction = Transaction {
            watched: watch.watched,
            steps: self.steps,
        };
        let watched = transaction.watched.iter();
        let bytes = watched.map(|watched| watched.key.len()).sum::<usize>() + self.bytes;
        if let Some(error) = too_large(transaction.steps.len(), bytes) {
            return Err(error);
        }
        let asks = !transaction.watched.is_empty() || !transaction.steps.is_empty();
        Ok((self.items, asks.then_some(transaction)))
    }
}

fn steps_of(steps: Vec<Step>, tell: Tell) -> (Vec<Step>, Item, usize) {
    let bytes = steps.iter().map(Step::bytes).sum();
    let item = Item::Steps(steps.len(), tell);
    (steps, item, bytes)
}

const QUEUED: Reply = Reply::Simple("QUEUED");

fn not_allowed() -> Reply {
    Reply::error("Command not allowed inside a transaction")
}

/// The replies to all requests of a transaction, from what its steps came to.
pub(super) fn told(items: Vec<Item>, outcomes: Vec<Outcome>) -> Reply {
    let mut outcomes = outcomes.into_iter();
    let replies = items.into_iter().map(|item| match item {
        Item::Known(reply) => reply,
        Item::Steps(count, tell) => tell.told(&mut outcomes, count),
    });
    Reply::Array(replies.collect())
}
