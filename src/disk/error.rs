//! What can be wrong with a log, for the person who has to do something about it.

use crate::text::ParseError;
use std::io;

/// Why the log cannot be opened, read or written.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The file system refused.
    #[error("cannot {action} {file}: {error}")]
    Io {
        /// What was tried, a verb.
        action: &'static str,
        /// On which file.
        file: String,
        /// What the system says.
        error: io::Error,
    },
    /// A record that had been synced is not there any more (P40).
    #[error(
        "{file}: damaged record at byte {offset}: expected record {expected}, found {found}, and \
         {witness}; {LOSS}"
    )]
    Damaged {
        /// The file.
        file: String,
        /// Where in it the expected record should begin.
        offset: usize,
        /// The number of the record that should stand there.
        expected: u64,
        /// What stands there.
        found: String,
        /// What proves that the record had been there.
        witness: String,
    },
    /// A segment is not there, and later ones are.
    #[error("{file}: this segment of the log is missing, and {witness} is there; {LOSS}")]
    SegmentMissing {
        /// The file that should be there.
        file: String,
        /// The next one that is.
        witness: String,
    },
    /// There is no segment at all (P41).
    #[error("{dir}: no log is here: expected a file such as log-00000001")]
    NoLog {
        /// The directory.
        dir: String,
    },
    /// A log is to be made where there is one.
    #[error("{file}: a log is here already")]
    Exists {
        /// Its first segment.
        file: String,
    },
    /// A line with a right checksum that this version cannot read.
    #[error(
        "{file}: cannot read record {seq} at byte {offset}, though its checksum is right: {error}; \
         was it written by a newer version of quince?"
    )]
    Unreadable {
        /// The file.
        file: String,
        /// Where the line begins.
        offset: usize,
        /// Its number.
        seq: u64,
        /// What was expected, what was found.
        error: ParseError,
    },
    /// A value longer than [`VALUE_BYTES_MAX`](super::log::VALUE_BYTES_MAX). Nothing was appended.
    #[error("a value of {bytes} bytes is longer than {max}, the most that a record takes")]
    TooLong {
        /// The length of its value.
        bytes: usize,
        /// The limit.
        max: usize,
    },
    /// An earlier write or sync of this log failed (P37).
    #[error("{file}: the log takes nothing more since a write or sync failed; restart this server")]
    Failed {
        /// The segment that was being written.
        file: String,
    },
    /// The printed log could not be written out.
    #[error("cannot write the output: {0}")]
    Output(io::Error),
}

/// What is true of every loss, and what to do. There is no repair from peers yet, and an older copy
/// is no cure: it, too, has forgotten votes.
pub(super) const LOSS: &str = "votes of this server rest on what is lost, so it must not run: put back \
     an exact copy of this file as it was at the last write if you have one, else leave this server \
     down; the others serve while a majority of them is up; started without its log, or with an older \
     one, it could undo acknowledged writes";

/// Names the action and the file of an I/O error.
pub(super) trait Context<T> {
    fn context(self, action: &'static str, file: impl FnOnce() -> String) -> Result<T, LogError>;
}

impl<T> Context<T> for io::Result<T> {
    fn context(self, action: &'static str, file: impl FnOnce() -> String) -> Result<T, LogError> {
        self.map_err(|error| LogError::Io {
            action,
            file: file(),
            error,
        })
    }
}
