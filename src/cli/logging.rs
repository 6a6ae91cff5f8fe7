//! The server's log: one line an event, `time level node message`, to standard error or a file.
//!
//! ```text
//! 2026-11-23 01:02:03.123 INFO  n2 elected with ballot b3.2
//! ```
//!
//! Times are UTC, so that the logs of servers on several machines sort into one story. simplelog
//! writes time and text, but can put no node in front of the message: [`Named`] does, and hands
//! the line on. A `LineWriter` stands around the output, because simplelog writes a line in some
//! twenty pieces (measured: 25 us a line without, 2 us with it).
//!
//! What cannot be written is lost without a word: a full disk under the log must not stop a store
//! whose data are elsewhere.

use std::fs::{File, OpenOptions};
use std::io::{self, LineWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use log::{LevelFilter, Log, Metadata, Record};
use parking_lot::Mutex;
use simplelog::{Config, ConfigBuilder, FormatItem, WriteLogger};
use time::macros::format_description;

use crate::paxos::types::NodeId;

/// `2026-11-23 01:02:03.123`
const TIME: &[FormatItem<'_>] =
    format_description!("[year]-[month]-[day] [hour]:[minute]:[second].[subsecond digits:3]");

/// Why a log could not be started.
#[derive(Debug, thiserror::Error)]
pub enum LoggingError {
    /// The file cannot be opened for writing at its end.
    #[error("cannot open the log file {path}: {source}")]
    Open {
        /// The file.
        path: String,
        /// Why.
        source: io::Error,
    },
    /// A process has one log.
    #[error("the log was started already")]
    Twice,
}

/// Starts the log of this process, for server `node`: lines up to `level`, appended to `file`, or to
/// standard error without one. To be called once, before threads start. The file is returned, to be opened
/// anew when it was moved away.
pub(crate) fn start(
    node: NodeId,
    level: LevelFilter,
    file: Option<&Path>,
) -> Result<Option<LogFile>, LoggingError> {
    let file = file.map(LogFile::open).transpose()?;
    let logger: Box<dyn Log> = match &file {
        None => Box::new(Named::new(node, level, io::stderr())),
        Some(file) => Box::new(Named::new(node, level, file.clone())),
    };
    log::set_boxed_logger(logger).map_err(|_| LoggingError::Twice)?;
    log::set_max_level(level);
    Ok(file)
}

/// The file that log lines are appended to. Whoever moves it away (logrotate) has it opened anew.
#[derive(Debug, Clone)]
pub(crate) struct LogFile {
    path: PathBuf,
    file: Arc<Mutex<File>>,
}

impl LogFile {
    fn open(path: &Path) -> Result<Self, LoggingError> {
        let file = open(path)?;
        Ok(Self {
            path: path.into(),
            file: Arc::new(Mutex::new(file)),
        })
    }

    /// Opens the path again, and appends there from now on.
    ///
    /// # Errors
    /// It cannot be opened; the lines go where they went.
    pub(crate) fn reopen(&self) -> Result<(), LoggingError> {
        let file = open(&self.path)?;
        *self.file.lock() = file;
        Ok(())
    }
}

fn open(path: &Path) -> Result<File, LoggingError> {
    let file = OpenOptions::new().create(true).append(true).open(path);
    file.map_err(|source| LoggingError::Open {
        path: path.display().to_string(),
        source,
    })
}

impl Write for LogFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.lock().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.lock().flush()
    }
}

/// Puts level and node in front of each message.
struct Named<W: Write + Send + 'static> {
    node: NodeId,
    lines: Box<WriteLogger<LineWriter<W>>>,
}

impl<W: Write + Send + 'static> Named<W> {
    fn new(node: NodeId, level: LevelFilter, output: W) -> Self {
        Self {
            node,
            lines: WriteLogger::new(level, config(), LineWriter::new(output)),
        }
    }
}

/// Time and message alone: the rest of simplelog's line is not ours.
fn config() -> Config {
    ConfigBuilder::new()
        .set_time_format_custom(TIME)
        .set_max_level(LevelFilter::Off)
        .set_thread_level(LevelFilter::Off)
        .set_target_level(LevelFilter::Off)
        .set_location_level(LevelFilter::Off)
        .build()
}

impl<W: Write + Send + 'static> Log for Named<W> {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        self.lines.enabled(metadata)
    }

    fn log(&self, record: &Record<'_>) {
        if self.enabled(record.metadata()) {
            let (level, node, text) = (record.level(), self.node, record.args());
            self.lines.log(
                &Record::builder()
                    .metadata(record.metadata().clone())
                    .args(format_args!("{level:<5} {node} {text}"))
                    .build(),
            );
        }
    }

    fn flush(&self) {
        self.lines.flush();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use log::Level;
    use parking_lot::Mutex;
    use std::sync::Arc;

    #[derive(Clone, Default)]
    struct Shared(Arc<Mutex<Vec<u8>>>);

    impl Write for Shared {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_line_is_time_level_node_message() {
        let written = Shared::default();
        let logger = Named::new(NodeId::new(2).unwrap(), LevelFilter::Info, written.clone());
        let log = |level, text: &str| {
            logger.log(
                &Record::builder()
                    .level(level)
                    .args(format_args!("{text}"))
                    .build(),
            );
        };
        log(Level::Info, "elected with ballot b3.2");
        log(Level::Error, "cannot lock data/2");
        log(Level::Debug, "not asked for");
        let text = String::from_utf8(written.0.lock().clone()).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 2, "{text}");
        let (time, rest) = lines[0].split_at("2026-11-23 01:02:03.123".len());
        assert_eq!(rest, " INFO  n2 elected with ballot b3.2");
        let shape: String = time
            .chars()
            .map(|c| if c.is_ascii_digit() { '0' } else { c })
            .collect();
        assert_eq!(shape, "0000-00-00 00:00:00.000");
        assert!(lines[1].ends_with(" ERROR n2 cannot lock data/2"), "{text}");
    }

    #[test]
    fn a_file_that_was_moved_away_is_opened_anew() {
        let place = tempfile::tempdir().unwrap();
        let (path, moved) = (place.path().join("l"), place.path().join("l.1"));
        let mut file = LogFile::open(&path).unwrap();
        file.write_all(b"one\n").unwrap();
        std::fs::rename(&path, &moved).unwrap();
        file.write_all(b"two\n").unwrap();
        file.reopen().unwrap();
        file.clone().write_all(b"three\n").unwrap();
        let read = |path: &Path| std::fs::read_to_string(path).unwrap();
        assert_eq!(
            (read(&moved), read(&path)),
            ("one\ntwo\n".into(), "three\n".into())
        );
        // One that cannot be opened changes nothing.
        std::fs::rename(&path, &moved).unwrap();
        std::fs::create_dir(&path).unwrap();
        file.reopen().unwrap_err();
        file.write_all(b"four\n").unwrap();
        assert_eq!(read(&moved), "three\nfour\n");
    }

    #[test]
    fn a_log_file_that_cannot_be_opened_is_named() {
        let error = start(
            NodeId::new(1).unwrap(),
            LevelFilter::Info,
            Some(Path::new("/nonexistent/x.log")),
        )
        .unwrap_err()
        .to_string();
        assert!(
            error.starts_with("cannot open the log file /nonexistent/x.log: "),
            "{error}"
        );
    }
}
