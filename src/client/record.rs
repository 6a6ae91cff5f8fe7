//! Writes down what clients do, as a history for `quince check`.
//!
//! A [`Recorder`] is one file and one clock; each client thread takes a [`Lane`] of it. A lane
//! collects its lines by itself and hands them on in one write: calls before their requests are
//! sent, and the ends of earlier operations together with them. So a client waits for one write a
//! batch, and for the lock of the file only; and a process that is killed leaves operations without
//! an end, which are open, but never an answer to a question that nobody asked.
//!
//! A file that cannot be written any more stops the recording and nothing else; [`Recorder::finish`]
//! tells. The file is not synced: it outlives the process, not the machine.

use std::fs::File;
use std::io::{self, Write as _};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Instant;

use parking_lot::Mutex;

use super::{Answer, Error};
use crate::check::format;
use crate::check::history::OperationId;
use crate::wire::client::Request;

/// Ends that wait for the next call are written once they are so many bytes.
const ENDS_BYTES_MAX: usize = 16 * 1_024;

/// A history in the making. Clones write to the same one.
#[derive(Debug, Clone)]
pub struct Recorder(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    start: Instant,
    clients: AtomicU64,
    file: Mutex<io::Result<File>>,
}

impl Recorder {
    /// Begins a history in `file`, in place of what it holds.
    pub fn create(file: &Path) -> io::Result<Self> {
        let mut file = File::create(file)?;
        file.write_all(format!("{}\n", format::FIRST_LINE).as_bytes())?;
        Ok(Self(Arc::new(Shared {
            start: Instant::now(),
            clients: AtomicU64::new(0),
            file: Mutex::new(Ok(file)),
        })))
    }

    /// The lane of one more client.
    pub fn lane(&self) -> Lane {
        Lane {
            client: self.0.clients.fetch_add(1, Relaxed) + 1,
            number: 0,
            open: None,
            shared: Arc::clone(&self.0),
            lines: Vec::new(),
        }
    }

    /// Whether all was written that was handed on: lanes hand on the rest when they are dropped.
    pub fn finish(&self) -> io::Result<()> {
        match &*self.0.file.lock() {
            Ok(_) => Ok(()),
            Err(error) => Err(io::Error::new(error.kind(), error.to_string())),
        }
    }
}

/// The part of a history that one client writes.
#[derive(Debug)]
pub struct Lane {
    shared: Arc<Shared>,
    client: u64,
    /// Of the newest operation.
    number: u64,
    /// The newest operation, while it has no end.
    open: Option<OperationId>,
    /// What is not handed on yet.
    lines: Vec<u8>,
}

impl Lane {
    /// This client's number.
    pub fn client(&self) -> u64 {
        self.client
    }

    /// The name that the next call gets.
    pub fn next_id(&self) -> OperationId {
        OperationId {
            client: self.client,
            number: self.number + 1,
        }
    }

    fn now(&self) -> u64 {
        u64::try_from(self.shared.start.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    /// A request, given as its line, is about to be sent. [`Lane::hand_on`] must come before it is.
    pub fn call_line(&mut self, line: &[u8]) -> OperationId {
        let id = self.next_id();
        self.number += 1;
        let now = self.now();
        format::write_call_line(&mut self.lines, now, id, line);
        id
    }

    /// A request is about to be sent: writes that down, with all that waits. One that belongs into no
    /// history is passed over.
    pub fn call(&mut self, request: &Request) {
        self.open = None;
        if format::is_recorded(request) {
            let id = self.next_id();
            self.number += 1;
            self.open = Some(id);
            let now = self.now();
            format::write_call(&mut self.lines, now, id, request);
            self.hand_on();
        }
    }

    /// The request of the last [`Lane::call`] is sent once more.
    pub fn again(&mut self) {
        if let Some(id) = self.open {
            let now = self.now();
            format::write_again(&mut self.lines, now, id);
        }
    }

    /// Its answer came, given as its line.
    pub fn reply_line(&mut self, id: OperationId, line: &[u8]) {
        let now = self.now();
        format::write_reply_line(&mut self.lines, now, id, line);
        self.hand_on_if_many();
    }

    /// No answer will come.
    pub fn lost(&mut self, id: OperationId, why: &str) {
        let now = self.now();
        format::write_lost(&mut self.lines, now, id, why);
        self.hand_on_if_many();
    }

    /// The request of the last [`Lane::call`] ended so.
    pub fn end(&mut self, end: &Result<Answer, Error>) {
        let Some(id) = self.open.take() else {
            return;
        };
        let now = self.now();
        match end {
            Ok(answer) => format::write_reply(&mut self.lines, now, id, &answer.reply),
            Err(error @ Error::InDoubt { .. }) => {
                format::write_lost(&mut self.lines, now, id, &error.to_string());
            }
            Err(error @ (Error::Unreachable { .. } | Error::NotDone { .. })) => {
                format::write_refused(&mut self.lines, now, id, &error.to_string());
            }
        }
        self.hand_on_if_many();
    }

    fn hand_on_if_many(&mut self) {
        if self.lines.len() > ENDS_BYTES_MAX {
            self.hand_on();
        }
    }

    /// Writes all that waits into the file.
    pub fn hand_on(&mut self) {
        let mut file = self.shared.file.lock();
        if let Ok(open) = &mut *file
            && let Err(error) = open.write_all(&self.lines)
        {
            *file = Err(error);
        }
        self.lines.clear();
    }
}

impl Drop for Lane {
    fn drop(&mut self) {
        self.hand_on();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::history::End;
    use crate::wire::client::{Reply, parse_request};

    #[test]
    fn lanes_of_many_threads_make_one_history() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("history");
        let recorder = Recorder::create(&path).unwrap();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                let mut lane = recorder.lane();
                scope.spawn(move || {
                    for _ in 0..500 {
                        let id = lane.call_line(b"PUT x 1\n");
                        lane.hand_on();
                        lane.reply_line(id, b"OK");
                    }
                });
            }
        });
        recorder.finish().unwrap();
        let read = format::read(&std::fs::read(&path).unwrap()).unwrap();
        assert!(!read.cut);
        let operations = read.history.operations();
        assert_eq!(operations.len(), 2_000);
        let done = |end: &End| matches!(end, End::Reply(_, Reply::Ok));
        assert!(operations.iter().all(|operation| done(&operation.end)));
    }

    /// As the file is when the process is killed right now.
    #[test]
    fn a_call_is_in_the_file_before_its_request_is_sent() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("history");
        let mut lane = Recorder::create(&path).unwrap().lane();
        let put = parse_request(b"PUT x 1").unwrap();
        lane.call(&Request::Status);
        lane.call(&put);
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.ends_with("c1.1 call PUT x 1\n"), "{text}");
        let unknown = Error::InDoubt {
            after: std::time::Duration::ZERO,
            reason: "lost".into(),
        };
        lane.again();
        lane.end(&Err(unknown));
        drop(lane);
        let read = format::read(&std::fs::read(&path).unwrap()).unwrap();
        let end = &read.history.operations()[0].end;
        assert!(matches!(end, End::Open(Some(_), _)), "{end:?}");
    }
}
