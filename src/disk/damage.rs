//! What a disk has lost, for the log of the server and for people.
//!
//! *Protocol-Aware Recovery for Consensus-Based Storage* (FAST 2018): a disk lies now and then, and a
//! replicated server need neither die of it nor act as if nothing had been there. What is lost is
//! found by checksums and named here; the log then says `lost`, and the replica does not vote until
//! the others have told it what it may have forgotten (P40, P41).

use crate::paxos::types::Slot;
use std::fmt;

/// A part of the log that is not there any more though it was synced (P40).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Damage {
    /// A record is not there, and maybe more behind it.
    Record {
        /// The file.
        file: String,
        /// Where in it the record should begin.
        offset: usize,
        /// The number of the record that should stand there.
        expected: u64,
        /// What stands there.
        found: String,
        /// What proves that the record had been there.
        witness: String,
    },
    /// A segment is not there, and later ones are.
    Segment {
        /// The first file that should be there.
        file: String,
        /// The next one that is.
        witness: String,
    },
    /// A record is whole, and no server writes it behind those before it: a promise that goes back, a
    /// proposal of nobody.
    Contradiction {
        /// The file.
        file: String,
        /// Where in it the record begins.
        offset: usize,
        /// Its number.
        seq: u64,
        /// What it says, and what it contradicts.
        found: String,
    },
    /// There is no segment at all, and there was a log (P41).
    Gone {
        /// The directory.
        dir: String,
    },
}

/// What every loss means.
const LOSS: &str = "votes of this server may rest on what is lost: it does not vote until a majority of \
     the others has told it what it may have forgotten";

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Record {
                file,
                offset,
                expected,
                found,
                witness,
            } => write!(
                f,
                "{file}: damaged record at byte {offset}: expected record {expected}, found {found}, \
                 and {witness}; {LOSS}"
            ),
            Self::Segment { file, witness } => write!(
                f,
                "{file}: this segment of the log is missing, and {witness} is there; {LOSS}"
            ),
            Self::Contradiction {
                file,
                offset,
                seq,
                found,
            } => write!(
                f,
                "{file}: impossible record {seq} at byte {offset}: {found}; it is left out, and {LOSS}"
            ),
            Self::Gone { dir } => write!(
                f,
                "{dir}: the log is gone: expected a file such as log-00000001; {LOSS}"
            ),
        }
    }
}

/// A snapshot that cannot be used. No vote rests on it: the state is fetched from the others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SnapshotDamage {
    /// A file that is not whole.
    Damaged {
        /// The file.
        file: String,
        /// Where in it.
        offset: usize,
        /// What is wrong there.
        wrong: String,
    },
    /// The log was trimmed under a snapshot, and no file of that slot or a later one is there.
    Missing {
        /// The directory.
        dir: String,
        /// Up to where the log was trimmed.
        trim: Slot,
    },
}

/// What the loss of a snapshot means.
const SNAPSHOT_LOSS: &str =
    "no vote rests on it, and what it held is fetched from the other servers";

impl fmt::Display for SnapshotDamage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Damaged {
                file,
                offset,
                wrong,
            } => write!(
                f,
                "{file}: damaged snapshot at byte {offset}: {wrong}; {SNAPSHOT_LOSS}"
            ),
            Self::Missing { dir, trim } => write!(
                f,
                "{dir}: the snapshot under which the log was trimmed up to {trim} is missing; \
                 {SNAPSHOT_LOSS}"
            ),
        }
    }
}
