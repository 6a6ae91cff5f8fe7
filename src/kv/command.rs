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

/// How many steps a transaction has at most: they run in one go, and nobody reads meanwhile.
pub const STEPS_MAX: usize = 16_384;

/// How many keys a transaction watches at most.
pub const WATCHED_MAX: usize = 16_384;

/// How many bytes the keys and values of a transaction have at most, together. As text, with every
/// byte an escape of four, it still fits into a message between two servers.
pub const TRANSACTION_BYTES_MAX: usize = 4 * 1_048_576;

/// How many bytes of values a transaction tells at most; a step beyond tells [`Outcome::TooLong`]
/// instead of a value.
pub const TOLD_BYTES_MAX: usize = 64 * 1_048_576;

/// Milliseconds since the beginning of 1970, as leaders stamp batches with them.
pub type Millis = u64;

/// The latest time that a batch is stamped with: some 36 million years.
pub const MILLIS_MAX: Millis = 1 << 60;

/// The latest end of a key, and its longest life: the last that clients of Redis can write. A life that
/// would end later ends then.
pub const END_MAX: Millis = (1 << 63) - 1;

// A stamp and a life can be added.
const _: () = assert!(MILLIS_MAX < Millis::MAX - END_MAX);

/// When a key ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Deadline {
    /// So many milliseconds after the stamp of the batch.
    In(Millis),
    /// At this time. One that has come already removes the key at once.
    At(Millis),
}

/// For how long a key stays that is set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lifetime {
    /// Until it is changed.
    Endless,
    /// For as long as it would have stayed anyway.
    Kept,
    /// No longer than this.
    Until(Deadline),
}

/// What must be so for a key to be set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Presence {
    /// Whatever is there.
    Any,
    /// It is not there.
    Absent,
    /// It is there.
    Present,
}

/// What must be so for the end of a key to be set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExpireIf {
    /// Whatever its end is.
    Any,
    /// It has no end.
    Endless,
    /// It has one.
    Mortal,
    /// It has one, and an earlier one.
    Later,
    /// It has none, or a later one.
    Sooner,
}

/// A change of one key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Write {
    /// Sets `key` to `value`, without an end.
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
    /// Sets `key` to `new` if it holds `expected`. Its end stays.
    Cas {
        /// The key.
        key: Bytes,
        /// What it must hold.
        expected: Bytes,
        /// Its new value then.
        new: Bytes,
    },
    /// Adds `by` to the 64-bit number under `key`; a missing key counts as 0. Its end stays.
    Incr {
        /// The key.
        key: Bytes,
        /// What to add; may be negative.
        by: i64,
    },
    /// Sets `key` to `value`, under a condition and for a time.
    Set {
        /// The key.
        key: Bytes,
        /// Its new value.
        value: Bytes,
        /// The condition.
        only: Presence,
        /// For how long.
        lifetime: Lifetime,
    },
    /// Adds `value` behind what `key` holds; a missing key counts as empty. Its end stays.
    Append {
        /// The key.
        key: Bytes,
        /// What to add.
        value: Bytes,
    },
    /// Overwrites what `key` holds from `offset` on, and fills up with zeros what is missing before it;
    /// a missing key counts as empty. An empty `value` changes nothing. Its end stays.
    SetRange {
        /// The key.
        key: Bytes,
        /// From which byte on, from 0.
        offset: u64,
        /// What to write.
        value: Bytes,
    },
    /// Gives `key` an end.
    Expire {
        /// The key.
        key: Bytes,
        /// When it ends.
        deadline: Deadline,
        /// The condition.
        only: ExpireIf,
    },
    /// Takes the end of `key` away.
    Persist {
        /// The key.
        key: Bytes,
    },
}

impl Write {
    /// The key that it changes.
    pub fn key(&self) -> &Bytes {
        match self {
            Self::Put { key, .. }
            | Self::Delete { key }
            | Self::Cas { key, .. }
            | Self::Incr { key, .. }
            | Self::Set { key, .. }
            | Self::Append { key, .. }
            | Self::SetRange { key, .. }
            | Self::Expire { key, .. }
            | Self::Persist { key } => key,
        }
    }

    /// How many bytes its key and its values have.
    pub fn bytes(&self) -> usize {
        self.key().len()
            + match self {
                Self::Put { value, .. }
                | Self::Set { value, .. }
                | Self::Append { value, .. }
                | Self::SetRange { value, .. } => value.len(),
                Self::Cas { expected, new, .. } => expected.len() + new.len(),
                Self::Delete { .. }
                | Self::Incr { .. }
                | Self::Expire { .. }
                | Self::Persist { .. } => 0,
            }
    }
}

/// One step of a transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Changes a key.
    Write(Write),
    /// Tells the value of a key.
    Get {
        /// The key.
        key: Bytes,
    },
    /// Tells how long a key still stays.
    Ttl {
        /// The key.
        key: Bytes,
    },
    /// Tells how many keys there are.
    Size,
    /// Tells the time of the log: the stamp of this batch, in milliseconds.
    Time,
    /// Removes all keys.
    Clear,
}

impl Step {
    /// How many bytes its key and its values have.
    pub fn bytes(&self) -> usize {
        match self {
            Self::Write(write) => write.bytes(),
            Self::Get { key } | Self::Ttl { key } => key.len(),
            Self::Size | Self::Time | Self::Clear => 0,
        }
    }
}

/// What a key was like when it was read: a transaction that rests on it comes to nothing if it has been
/// changed since.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Watched {
    /// The key.
    pub key: Bytes,
    /// The slot that changed it last; none if it was not there.
    pub version: Option<u64>,
}

/// Steps that are done together, in one slot: all of them or, if a watched key was changed, none.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Transaction {
    /// What it rests on.
    pub watched: Vec<Watched>,
    /// What it does, in order. A step that fails (a sum past the range) hinders no other.
    pub steps: Vec<Step>,
}

impl Transaction {
    /// How many bytes its keys and values have.
    pub fn bytes(&self) -> usize {
        let watched = self.watched.iter().map(|watched| watched.key.len());
        let steps = self.steps.iter().map(Step::bytes);
        watched.chain(steps).sum()
    }
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
    /// Several steps as one.
    Exec(Box<Transaction>),
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
    /// The condition of a `Set` or `Expire` was not met; nothing was done.
    Unmet,
    /// The value would have been longer than [`VALUE_BYTES_MAX`], and nothing was done; or a transaction
    /// told more than [`TOLD_BYTES_MAX`] before.
    TooLong,
    /// The value of a key.
    Value(Bytes),
    /// How many milliseconds a key still stays; none if it has no end.
    Remaining(Option<Millis>),
    /// What the steps of a transaction came to, in order.
    Steps(Vec<Outcome>),
    /// A watched key was changed; nothing was done.
    Changed,
}

/// Which keys are listed.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct List {
    /// Keys that begin so; empty for all.
    pub prefix: Bytes,
    /// Keys from this one on, itself included.
    pub from: Option<Bytes>,
    /// The first of those, so many at most.
    pub limit: Option<u64>,
}

impl List {
    /// All keys that begin so.
    pub fn of(prefix: impl Into<Bytes>) -> Self {
        let prefix = prefix.into();
        Self {
            prefix,
            ..Self::default()
        }
    }

    /// The first key that may be listed.
    pub fn start(&self) -> &[u8] {
        let from = self.from.as_deref().unwrap_or_default();
        from.max(&self.prefix)
    }

    /// Whether `key` is listed if it is there and there is room for it.
    pub fn covers(&self, key: &[u8]) -> bool {
        key.starts_with(&self.prefix) && key >= self.start()
    }
}

/// A question about the map. Reads do not go through the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Read {
    /// The value of a key.
    Get {
        /// The key.
        key: Bytes,
    },
    /// The values of many keys, at one moment.
    Many {
        /// The keys, in the order in which they are told; one may come more than once.
        keys: Vec<Bytes>,
    },
    /// Keys with their values, in byte order of the keys.
    List(List),
    /// How long a key still stays.
    Ttl {
        /// The key.
        key: Bytes,
    },
}
