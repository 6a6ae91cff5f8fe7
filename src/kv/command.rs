//! What clients ask of the map: commands, reads and their outcomes, as values.
//!
//! Commands change the map or open a session; they reach every server through the log and run on
//! each (*Paxos Made Simple* 3: the sequence of commands of the state machine). Reads change
//! nothing and do not go through the log.
//!
//! Left out on purpose: how any of it looks as text. The log's form stands in [`super::batch`]; the
//! client's form is none of this layer's business.

use std::fmt;
use std::sync::Arc;

/// The bytes of a key or a value. Shared, so that a reader can hold many without copying them.
pub type Bytes = Arc<[u8]>;

/// The longest key, in bytes. The shortest has one byte.
pub const KEY_BYTES_MAX: usize = 1_024;

/// The longest value, in bytes. A value may be empty.
pub const VALUE_BYTES_MAX: usize = 1_048_576;

/// A change of one key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Write {
    /// Sets `key` to `value`.
    Put {
        /// The key.
        key: Bytes,
        /// Its new value.
        value: Bytes,
    },
    /// Removes `key`.
    Delete {
        /// The key.
        key: Bytes,
    },
    /// Sets `key` to `new` if it holds `expected`.
    Cas {
        /// The key.
        key: Bytes,
        /// What it must hold.
        expected: Bytes,
        /// Its new value then.
        new: Bytes,
    },
    /// Adds `by` to the 64-bit number under `key`; a missing key counts as 0.
    Incr {
        /// The key.
        key: Bytes,
        /// What to add; may be negative.
        by: i64,
    },
}

/// The name of a session, handed out by the log: 1, 2, 3 and so on. 0 is never handed out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId(pub u64);

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What goes through the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// A plain change.
    Write(Write),
    /// A change that is run at most once, however often it is sent.
    Once {
        /// Whose.
        session: SessionId,
        /// Which of the session: 1, 2, 3, rising.
        seq: u64,
        /// The change.
        write: Write,
    },
    /// Opens a session.
    Session,
}

/// The name of a command in the log, printed `n2.5.77`: the 77th that server 2 handed on since its
/// fifth start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CommandId {
    /// The number of the server that took the command from its client: its origin. 0 is no server:
    /// the commands that a cluster begins with are its.
    pub origin: u8,
    /// The origin's start counter, from 1.
    pub start: u64,
    /// Counts the commands of that start, from 1, without gaps.
    pub number: u64,
}

impl CommandId {
    /// The last start and the last number whose text reads back. Nobody counts so far; it keeps the
    /// arithmetic on numbers that a peer names from overflowing.
    pub const COUNT_MAX: u64 = 1 << 60;
}

impl fmt::Display for CommandId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "n{}.{}.{}", self.origin, self.start, self.number)
    }
}

/// What a command did, as its client is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Done.
    Ok,
    /// There was no such key; nothing was done.
    NotFound,
    /// `CAS` found this instead of what was expected; nothing was done.
    Mismatch(Bytes),
    /// The number that `INCR` left under the key.
    Number(i64),
    /// The session that was opened.
    Session(SessionId),
    /// `INCR` on a value that is no 64-bit integer, or past the range; nothing was done. The text
    /// says which.
    NotANumber(&'static str),
    /// A `seq` below the last one of its session; nothing was done. The last one is told.
    StaleSeq(u64),
    /// A session that was never opened or was dropped; nothing was done.
    NoSession,
}

/// A question about the map. Reads do not go through the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Read {
    /// The value of a key.
    Get {
        /// The key.
        key: Bytes,
    },
    /// All keys that begin so, with their values, in byte order of the keys.
    List {
        /// The beginning; empty for all.
        prefix: Bytes,
    },
}
