//! Operations as their clients saw them.
//!
//! What an end proves decides everything, so there are only three kinds of them. An *answer* proves
//! that the operation was done between call and end, or, for the errors that say so, that it was
//! never done. *Refused* proves that it was never done and never will be (`NOT_DONE`, a connection that
//! was not made). *Open* proves nothing: done at any time after the call, perhaps long after its
//! client gave up, or never (`UNKNOWN`, a lost connection, a recorder that was killed).

use std::fmt;
use std::str::FromStr;

use crate::kv::command::{Command, Write};
use crate::text;
use crate::wire::client::{ErrorCode, Reply, Request};

/// The name of an operation, printed `c3.17`: the 17th of client 3.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OperationId {
    /// The client, from 1.
    pub client: u64,
    /// Counts its operations, from 1.
    pub number: u64,
}

impl fmt::Display for OperationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "c{}.{}", self.client, self.number)
    }
}

impl FromStr for OperationId {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (client, number) = text
            .strip_prefix('c')
            .and_then(|rest| rest.split_once('.'))
            .ok_or(())?;
        Ok(Self {
            client: text::number(client.as_bytes()).ok_or(())?,
            number: text::number(number.as_bytes()).ok_or(())?,
        })
    }
}

/// How an operation ended for its client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    /// The server's answer.
    Reply(u64, Reply),
    /// Surely nothing was done; why, for people.
    Refused(u64, String),
    /// Nobody knows; why, for people. Without a time the history ends before the client gave up.
    Open(Option<u64>, String),
}

/// One operation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Operation {
    /// Its name.
    pub id: OperationId,
    /// What was asked. A client that sends again, under one `ONCE`, still asks once.
    pub request: Request,
    /// When it was first sent. Any unit, but one clock for all clients.
    pub called: u64,
    /// How often it was sent again.
    pub resent: u32,
    /// How it ended.
    pub end: End,
}

/// What an end proves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Proof<'a> {
    /// Done, with this answer, by this time.
    Done(u64, &'a Reply),
    /// Never done.
    Never,
    /// Perhaps done, perhaps later.
    Open,
}

impl Operation {
    /// What the end of this operation proves.
    pub fn proof(&self) -> Proof<'_> {
        match &self.end {
            End::Open(..) => Proof::Open,
            End::Refused(..) => Proof::Never,
            End::Reply(at, reply) => match reply {
                Reply::Error(ErrorCode::Unknown, _) => Proof::Open,
                // An APPEND that found no room has looked at the map.
                Reply::Error(ErrorCode::TooLong, _) if self.appends() => Proof::Done(*at, reply),
                Reply::Error(
                    ErrorCode::BadRequest
                    | ErrorCode::TooLong
                    | ErrorCode::StaleSeq
                    | ErrorCode::NoSession
                    | ErrorCode::Forbidden
                    | ErrorCode::NotDone,
                    _,
                ) => Proof::Never,
                // An INCR that finds no number has looked at the map, too.
                _ => Proof::Done(*at, reply),
            },
        }
    }

    fn appends(&self) -> bool {
        match &self.request {
            Request::Write(Command::Write(write) | Command::Once { write, .. }) => {
                matches!(write, Write::Append { .. })
            }
            _ => false,
        }
    }

    /// When its client stopped waiting; none if it never did.
    pub fn ended(&self) -> Option<u64> {
        match &self.end {
            End::Reply(at, _) | End::Refused(at, _) => Some(*at),
            End::Open(at, _) => *at,
        }
    }
}

/// What all clients saw, in the order of the calls.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct History {
    operations: Vec<Operation>,
}

impl History {
    /// A history of these operations, in any order.
    pub fn new(mut operations: Vec<Operation>) -> Self {
        operations.sort_by_key(|operation| (operation.called, operation.id));
        Self { operations }
    }

    /// The operations in the order of their calls.
    pub fn operations(&self) -> &[Operation] {
        &self.operations
    }
}
