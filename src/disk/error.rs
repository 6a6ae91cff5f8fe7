//! What can be wrong with a log, for the person who has to do something about it.

use super::damage::Damage;
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
    /// A part of the log went missing while it was open. The next start names it and goes on (P40).
    #[error("{0}; restart this server")]
    Damaged(Damage),
    /// There is no segment at all, in a directory that may never have had one.
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
