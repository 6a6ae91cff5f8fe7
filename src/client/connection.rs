//! One connection to one server: lines out, lines and whole replies in.
//!
//! It knows nothing of other servers, and sends nothing twice: after any error it is of no more use,
//! and whoever holds it decides what may be sent again. Memory is bounded: by the longest line of the
//! protocol for [`Connection::read_line`], and by [`Limits::reply_bytes_max`] for a whole reply.

use std::io::{self, ErrorKind, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use crate::dial;
use crate::kv::command::Bytes;
use crate::text::ParseError;
use crate::wire::client::{
    Head, LINE_BYTES_MAX, Reply, ReplyReader, Request, parse_pair, parse_reply_head, write_request,
};
use crate::wire::lines::{Line, LineBuffer};

/// What a line of a reply costs beside its bytes, in bytes: so that a reply of countless empty
/// lines is bounded too.
const LINE_OVERHEAD_BYTES: usize = 32;

/// How long a connection waits, and how much it takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// For the connection to be made: to look the name up, and to try all its addresses. Not zero.
    pub connect: Duration,
    /// For the next bytes of a reply, and for room to send. Not zero.
    pub silence: Duration,
    /// The largest whole reply of many lines, in bytes: a `LIST` or `MGET` above it ends the connection.
    pub reply_bytes_max: usize,
}

impl Default for Limits {
    /// 1 s, 3 s, 256 MiB.
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(1),
            silence: Duration::from_secs(3),
            reply_bytes_max: 256 << 20,
        }
    }
}

/// Why a connection is of no more use. The server's address is not repeated in the text.
#[derive(Debug, thiserror::Error)]
pub enum ConnectionError {
    /// No connection was made: nothing was sent.
    #[error("{}", plain(.0))]
    Connect(io::Error),
    /// The lines were not sent to their end: the server has no whole last line.
    #[error("could not send: {}", plain(.0))]
    Send(io::Error),
    /// The connection broke or was closed before the reply was whole.
    #[error("the connection was lost before the reply: {}", plain(.0))]
    Lost(io::Error),
    /// Nothing came for too long.
    #[error("no reply for {0:.1?}")]
    Silent(Duration),
    /// A line above the protocol's limit, or a reply above [`Limits::reply_bytes_max`].
    #[error(
        "expected a reply of at most {0} bytes, found a longer one: LIST with a LIMIT, or MGET fewer keys"
    )]
    TooLong(usize),
    /// The other end does not speak the protocol, or replies to something else.
    #[error("is that a Quince server? {0}")]
    Malformed(ParseError),
}

/// The text of an error of the system, without its number: `connection refused`.
fn plain(error: &io::Error) -> String {
    let text = error.to_string();
    let text = text.split(" (os error").next().unwrap_or_default();
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |first| {
        first.to_lowercase().collect::<String>() + chars.as_str()
    })
}

/// An open connection to one server.
///
/// Lines may be pipelined: send many in one [`Connection::send`], then read as many replies. Who
/// pipelines without bound must read in between, since a server stops reading from a client that
/// does not read.
#[derive(Debug)]
pub struct Connection {
    stream: TcpStream,
    lines: LineBuffer,
    limits: Limits,
    deadline: Option<Instant>,
    /// The read time-out that the socket has now: setting it costs a system call.
    read_timeout: Duration,
    /// How many pairs of a list that was begun have not been read.
    listed: u64,
}

impl Connection {
    /// Connects to `server`, a `HOST:PORT`; tries every address that the name stands for.
    pub fn open(server: &str, limits: Limits) -> Result<Self, ConnectionError> {
        let stream = dial::connect(server, limits.connect);
        let stream = stream.map_err(ConnectionError::Connect)?;
        let prepared = || {
            stream.set_nodelay(true)?;
            stream.set_write_timeout(Some(limits.silence))?;
            stream.set_read_timeout(Some(limits.silence))
        };
        prepared().map_err(ConnectionError::Connect)?;
        Ok(Self {
            stream,
            lines: LineBuffer::new(LINE_BYTES_MAX),
            limits,
            deadline: None,
            read_timeout: limits.silence,
            listed: 0,
        })
    }

    /// Reads give up at this moment too, however lively the server is. None: only on silence.
    pub fn set_deadline(&mut self, deadline: Option<Instant>) {
        self.deadline = deadline;
    }

    /// Sends these bytes: one or many lines, each with its LF.
    ///
    /// On an error the last line has not arrived whole, so the server does not run it; earlier
    /// ones it may.
    pub fn send(&mut self, lines: &[u8]) -> Result<(), ConnectionError> {
        debug_assert!(lines.ends_with(b"\n"), "a request ends with LF");
        self.stream.write_all(lines).map_err(ConnectionError::Send)
    }

    /// Reads one line into `line`, in place of what it holds, without its line end.
    pub fn read_line(&mut self, line: &mut Vec<u8>) -> Result<(), ConnectionError> {
        line.clear();
        loop {
            match self.lines.next_line() {
                Some(Line::Whole(found)) => {
                    line.extend_from_slice(found.strip_suffix(b"\r").unwrap_or(found));
                    return Ok(());
                }
                Some(Line::TooLong) => return Err(ConnectionError::TooLong(LINE_BYTES_MAX)),
                None => self.read_more()?,
            }
        }
    }

    /// Reads the whole reply to `request`.
    pub fn read_reply(&mut self, request: &Request) -> Result<Reply, ConnectionError> {
        let mut reader = ReplyReader::new(request);
        let mut line = Vec::new();
        let mut room = self.limits.reply_bytes_max;
        loop {
            self.read_line(&mut line)?;
            room = room
                .checked_sub(line.len() + LINE_OVERHEAD_BYTES)
                .ok_or(ConnectionError::TooLong(self.limits.reply_bytes_max))?;
            if let Some(reply) = reader.line(&line).map_err(ConnectionError::Malformed)? {
                return Ok(reply);
            }
        }
    }

    /// Sends one request and reads its reply.
    pub fn ask(&mut self, request: &Request) -> Result<Reply, ConnectionError> {
        let mut line = Vec::new();
        write_request(&mut line, request);
        self.send(&line)?;
        self.read_reply(request)
    }

    /// Sends a `LIST` and reads how its reply begins: a reply of one line, or an empty list, whose pairs
    /// are to be read by [`Connection::next_pair`]. So a list of any length takes no memory.
    pub fn begin_list(&mut self, request: &Request) -> Result<Reply, ConnectionError> {
        let mut line = Vec::new();
        write_request(&mut line, request);
        self.send(&line)?;
        self.read_line(&mut line)?;
        match parse_reply_head(&line).map_err(ConnectionError::Malformed)? {
            Head::Done(reply) => Ok(reply),
            Head::Lines(count) => {
                self.listed = count;
                Ok(Reply::List(Vec::new()))
            }
        }
    }

    /// The next key of the list that was begun, with its value; none at its end.
    pub fn next_pair(&mut self) -> Result<Option<(Bytes, Bytes)>, ConnectionError> {
        if self.listed == 0 {
            return Ok(None);
        }
        let mut line = Vec::new();
        self.read_line(&mut line)?;
        self.listed -= 1;
        let pair = parse_pair(&line).map_err(ConnectionError::Malformed)?;
        Ok(Some(pair))
    }

    fn read_more(&mut self) -> Result<(), ConnectionError> {
        let left = self.deadline.map_or(Duration::MAX, |deadline| {
            deadline.saturating_duration_since(Instant::now())
        });
        let timeout = left.min(self.limits.silence);
        if timeout.is_zero() {
            return Err(ConnectionError::Silent(timeout));
        }
        if timeout != self.read_timeout {
            let set = self.stream.set_read_timeout(Some(timeout));
            set.map_err(ConnectionError::Lost)?;
            self.read_timeout = timeout;
        }
        match self.lines.read_from(&mut self.stream) {
            Ok(0) => Err(ConnectionError::Lost(io::Error::new(
                ErrorKind::UnexpectedEof,
                "the server closed it",
            ))),
            Ok(_) => Ok(()),
            Err(error) if is_timeout(&error) => Err(ConnectionError::Silent(timeout)),
            Err(error) => Err(ConnectionError::Lost(error)),
        }
    }
}

fn is_timeout(error: &io::Error) -> bool {
    // Which of the two a read time-out gives differs between systems.
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut)
}
