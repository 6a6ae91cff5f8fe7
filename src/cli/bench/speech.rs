//! What a load says and what it hears, in either protocol: requests to bytes, bytes to judged replies.
//!
//! | request | in plain lines | in RESP | replies that fit |
//! | --- | --- | --- | --- |
//! | [`Ask::Put`] | `PUT key value` | `SET` | `OK` |
//! | [`Ask::Get`] | `GET key` | `GET` | a value, or that there is none |
//! | [`Ask::LocalGet`] | `LOCAL GET key` | `GET`, after `READONLY` | the same |
//! | [`Ask::Incr`] | `INCR key` | `INCR` | a number |
//! | [`Ask::Cas`] | `CAS key expected new` | `CAS` | that it was done, what stood there instead, or nothing |
//!
//! Requests are written by hand into one buffer that is sent at once, and of replies no more is looked at
//! than tells whether they fit: on the machine that runs the servers too, every cycle of the load is taken
//! from them. A history is in plain lines whatever is spoken, so requests and replies of RESP are written
//! down as those that mean the same.

use std::io::{self, ErrorKind, Read};

use super::mix::{Ask, Op};
use crate::client::resp::{Frame, FrameBuffer, write_command};
use crate::kv::command::VALUE_BYTES_MAX;
use crate::wire::client::{ErrorCode, Head, Reply, parse_reply_head};
use crate::wire::lines::{Line, LineBuffer};

/// What the clients speak.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Protocol {
    /// plain lines, as a person types them
    Lines,
    /// RESP, the protocol of Redis
    Resp,
}

impl Protocol {
    /// As it is typed.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Lines => "lines",
            Self::Resp => "resp",
        }
    }
}

/// How the request begins.
fn verb(ask: Ask, protocol: Protocol) -> &'static [u8] {
    match (ask, protocol) {
        (Ask::Put, Protocol::Lines) => b"PUT",
        (Ask::Put, Protocol::Resp) => b"SET",
        (Ask::LocalGet, Protocol::Lines) => b"LOCAL GET",
        (Ask::Get, _) | (Ask::LocalGet, Protocol::Resp) => b"GET",
        (Ask::Incr, _) => b"INCR",
        (Ask::Cas, _) => b"CAS",
    }
}

/// A reply that does not fit its request, or an error with a code that is not known.
pub(super) const STRANGE: &str = "strange-reply";

/// An error of RESP that has no code of its own.
const ERR: &str = "ERR";

/// The requests of one write.
#[derive(Debug)]
pub(super) struct Batch {
    protocol: Protocol,
    recorded: bool,
    /// What is sent.
    pub(super) bytes: Vec<u8>,
    /// What each request asks for.
    pub(super) asks: Vec<Ask>,
    /// The same requests as plain lines, where they are recorded and sent otherwise.
    lines: Vec<u8>,
}

impl Batch {
    /// An empty one. Only of a recorded one the [`Batch::lines`] may be asked for.
    pub(super) fn new(protocol: Protocol, recorded: bool) -> Self {
        Self {
            protocol,
            recorded,
            bytes: Vec::new(),
            asks: Vec::new(),
            lines: Vec::new(),
        }
    }

    pub(super) fn clear(&mut self) {
        self.bytes.clear();
        self.asks.clear();
        self.lines.clear();
    }

    /// Adds a request with these values, which are letters, digits and points, or nothing at all.
    pub(super) fn add(&mut self, ask: Ask, key: &[u8], values: &[&[u8]]) {
        self.asks.push(ask);
        match self.protocol {
            Protocol::Lines => push_line(&mut self.bytes, ask, key, values),
            Protocol::Resp => {
                let mut words = [verb(ask, Protocol::Resp), key, b"", b""];
                words[2..2 + values.len()].copy_from_slice(values);
                write_command(&mut self.bytes, &words[..2 + values.len()]);
                if self.recorded {
                    push_line(&mut self.lines, ask, key, values);
                }
            }
        }
    }

    /// The requests as plain lines, each with its LF.
    pub(super) fn lines(&self) -> impl Iterator<Item = &[u8]> {
        let lines = match self.protocol {
            Protocol::Lines => &self.bytes,
            Protocol::Resp => &self.lines,
        };
        lines.split_inclusive(|&byte| byte == b'\n')
    }
}

fn push_line(out: &mut Vec<u8>, ask: Ask, key: &[u8], values: &[&[u8]]) {
    out.extend_from_slice(verb(ask, Protocol::Lines));
    out.push(b' ');
    out.extend_from_slice(key);
    for value in values {
        out.push(b' ');
        // Nothing else that a load writes needs quotes.
        let empty = if value.is_empty() { "\"\"" } else { "" };
        out.extend_from_slice(value);
        out.extend_from_slice(empty.as_bytes());
    }
    out.push(b'\n');
}

/// What every connection sends before its first batch; its reply is `OK`. Nothing, mostly.
pub(super) fn greeting(protocol: Protocol, op: Op) -> Vec<u8> {
    let mut out = Vec::new();
    if (protocol, op) == (Protocol::Resp, Op::LocalGet) {
        write_command(&mut out, &[b"READONLY"]);
    }
    out
}

/// The longest reply line: a value of the longest size, every byte escaped, and its first word.
const REPLY_BYTES_MAX: usize = 4 * VALUE_BYTES_MAX + 64;

/// What has arrived at a connection, reply by reply.
#[derive(Debug)]
pub(super) enum Arrivals {
    Lines(LineBuffer),
    Resp(FrameBuffer),
}

/// One reply.
#[derive(Debug, Clone, Copy)]
pub(super) enum Arrival<'a> {
    Line(Line<'a>),
    Frame(Frame<'a>),
}

impl Arrivals {
    /// Of a new connection.
    pub(super) fn new(protocol: Protocol) -> Self {
        match protocol {
            Protocol::Lines => Self::Lines(LineBuffer::new(REPLY_BYTES_MAX)),
            Protocol::Resp => Self::Resp(FrameBuffer::new(VALUE_BYTES_MAX)),
        }
    }

    /// Reads once. All that [`Arrivals::next_reply`] gives must be taken before.
    ///
    /// # Errors
    /// What the stream returns; and that it has come to its end.
    pub(super) fn read_from(&mut self, stream: &mut impl Read) -> io::Result<()> {
        let count = match self {
            Self::Lines(lines) => lines.read_from(stream)?,
            Self::Resp(frames) => frames.read_from(stream)?,
        };
        if count == 0 {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        Ok(())
    }

    /// The next reply; none until more has been read.
    ///
    /// # Errors
    /// What has arrived is none: the connection is of no use any more.
    pub(super) fn next_reply(&mut self) -> io::Result<Option<Arrival<'_>>> {
        match self {
            Self::Lines(lines) => Ok(lines.next_line().map(Arrival::Line)),
            Self::Resp(frames) => frames
                .next_frame()
                .map(|frame| frame.map(Arrival::Frame))
                .map_err(|error| io::Error::new(ErrorKind::InvalidData, error)),
        }
    }
}

impl Arrival<'_> {
    /// Whether this is a success of such a request, else what to count it as.
    pub(super) fn judge(self, ask: Ask) -> Result<(), &'static str> {
        match self {
            Self::Line(Line::Whole(line)) | Self::Frame(Frame::Plain(line)) => {
                judge_line(line, ask)
            }
            Self::Line(Line::TooLong) => Err(STRANGE),
            Self::Frame(frame) => judge_frame(frame, ask),
        }
    }

    /// This reply to such a request as a plain line, for a history. `room` is for one that is none yet.
    /// None if a line would say more than this does: then nothing is known of the request.
    pub(super) fn line<'a>(&'a self, ask: Ask, room: &'a mut Vec<u8>) -> Option<&'a [u8]> {
        match *self {
            Self::Line(Line::TooLong) => None,
            Self::Line(Line::Whole(line)) | Self::Frame(Frame::Plain(line)) => Some(line),
            Self::Frame(frame) => {
                room.clear();
                reply_of(frame, ask)?.write(room);
                Some(room)
            }
        }
    }
}

fn judge_line(line: &[u8], ask: Ask) -> Result<(), &'static str> {
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let fits = match ask {
        Ask::Put => line == b"OK",
        Ask::Get | Ask::LocalGet => line.starts_with(b"VALUE ") || line == b"NOT_FOUND",
        Ask::Incr => line.starts_with(b"VALUE "),
        Ask::Cas => line == b"OK" || line.starts_with(b"MISMATCH ") || line == b"NOT_FOUND",
    };
    if fits {
        return Ok(());
    }
    match parse_reply_head(line) {
        Ok(Head::Done(Reply::Error(code, _))) => Err(code.name()),
        _ => Err(STRANGE),
    }
}

fn judge_frame(frame: Frame<'_>, ask: Ask) -> Result<(), &'static str> {
    let fits = match ask {
        Ask::Put => frame == Frame::Simple(b"OK"),
        Ask::Get | Ask::LocalGet => matches!(frame, Frame::Bulk(_) | Frame::Null),
        Ask::Incr => matches!(frame, Frame::Integer(_)),
        Ask::Cas => matches!(frame, Frame::Integer(1) | Frame::Bulk(_) | Frame::Null),
    };
    match frame {
        _ if fits => Ok(()),
        Frame::Error(text) => Err(match code_of(text) {
            Some(code) => code.name(),
            None if first_word(text) == b"ERR" => ERR,
            None => STRANGE,
        }),
        _ => Err(STRANGE),
    }
}

/// The error of plain lines that this one of RESP is.
fn code_of(text: &[u8]) -> Option<ErrorCode> {
    match first_word(text) {
        b"NOTDONE" => Some(ErrorCode::NotDone),
        b"UNKNOWN" => Some(ErrorCode::Unknown),
        b"STALESEQ" => Some(ErrorCode::StaleSeq),
        b"NOSESSION" => Some(ErrorCode::NoSession),
        _ => None,
    }
}

fn first_word(text: &[u8]) -> &[u8] {
    text.split(|&byte| byte == b' ').next().unwrap_or_default()
}

/// The reply in plain lines that means the same.
fn reply_of(frame: Frame<'_>, ask: Ask) -> Option<Reply> {
    Some(match (frame, ask) {
        (Frame::Simple(b"OK"), Ask::Put) | (Frame::Integer(1), Ask::Cas) => Reply::Ok,
        (Frame::Bulk(value), Ask::Get | Ask::LocalGet) => Reply::Value(value.into()),
        (Frame::Bulk(value), Ask::Cas) => Reply::Mismatch(value.into()),
        (Frame::Null, Ask::Get | Ask::LocalGet | Ask::Cas) => Reply::NotFound,
        (Frame::Integer(number), Ask::Incr) => Reply::Value(number.to_string().into_bytes().into()),
        (Frame::Error(text), _) => {
            let rest = &text[first_word(text).len()..];
            let rest = String::from_utf8_lossy(rest.trim_ascii_start()).into_owned();
            Reply::Error(code_of(text)?, rest)
        }
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_a_success_only_if_it_fits_its_request() {
        for (line, ask, expected) in [
            ("OK", Ask::Put, Ok(())),
            ("OK\r", Ask::Put, Ok(())),
            ("VALUE 1.25", Ask::Get, Ok(())),
            ("VALUE \"\"", Ask::LocalGet, Ok(())),
            ("NOT_FOUND", Ask::Get, Ok(())),
            ("VALUE 7", Ask::Incr, Ok(())),
            ("OK", Ask::Cas, Ok(())),
            ("MISMATCH b", Ask::Cas, Ok(())),
            ("NOT_FOUND", Ask::Cas, Ok(())),
            ("OK", Ask::Get, Err(STRANGE)),
            ("VALUE 1", Ask::Put, Err(STRANGE)),
            ("NOT_FOUND", Ask::Incr, Err(STRANGE)),
            ("VALUE 1", Ask::Cas, Err(STRANGE)),
            ("ERROR NOT_DONE queue is full", Ask::Put, Err("NOT_DONE")),
            ("ERROR UNKNOWN", Ask::Put, Err("UNKNOWN")),
            (
                "ERROR NOT_A_NUMBER no integer",
                Ask::Incr,
                Err("NOT_A_NUMBER"),
            ),
            ("ERROR UNKNOWNS x", Ask::Put, Err(STRANGE)),
            ("ERROR", Ask::Put, Err(STRANGE)),
            ("", Ask::Put, Err(STRANGE)),
        ] {
            let arrival = Arrival::Line(Line::Whole(line.as_bytes()));
            assert_eq!(arrival.judge(ask), expected, "{line}");
        }
        assert_eq!(
            Arrival::Line(Line::TooLong).judge(Ask::Get),
            Err(STRANGE),
            "too long"
        );
    }

    /// Each with the line that a history has for it.
    #[test]
    fn a_frame_counts_as_the_line_that_means_the_same() {
        for (frame, ask, expected, line) in [
            (Frame::Simple(b"OK"), Ask::Put, Ok(()), Some("OK\n")),
            (Frame::Bulk(b"a b"), Ask::Get, Ok(()), Some("VALUE a b\n")),
            (
                Frame::Bulk(b""),
                Ask::LocalGet,
                Ok(()),
                Some("VALUE \"\"\n"),
            ),
            (Frame::Null, Ask::Get, Ok(()), Some("NOT_FOUND\n")),
            (Frame::Integer(7), Ask::Incr, Ok(()), Some("VALUE 7\n")),
            (Frame::Integer(1), Ask::Cas, Ok(()), Some("OK\n")),
            (Frame::Bulk(b"b"), Ask::Cas, Ok(()), Some("MISMATCH b\n")),
            (Frame::Null, Ask::Cas, Ok(()), Some("NOT_FOUND\n")),
            (
                Frame::Error(b"NOTDONE no majority in time"),
                Ask::Put,
                Err("NOT_DONE"),
                Some("ERROR NOT_DONE no majority in time\n"),
            ),
            (
                Frame::Error(b"UNKNOWN it was handed on"),
                Ask::Cas,
                Err("UNKNOWN"),
                Some("ERROR UNKNOWN it was handed on\n"),
            ),
            (
                Frame::Plain(b"ERROR NOT_DONE too many connections (limit 3)"),
                Ask::Put,
                Err("NOT_DONE"),
                Some("ERROR NOT_DONE too many connections (limit 3)"),
            ),
            (
                Frame::Error(b"ERR value is not an integer or out of range"),
                Ask::Incr,
                Err(ERR),
                None,
            ),
            (Frame::Error(b"ODD"), Ask::Put, Err(STRANGE), None),
            (Frame::Simple(b"QUEUED"), Ask::Put, Err(STRANGE), None),
            (Frame::Integer(0), Ask::Cas, Err(STRANGE), None),
            (Frame::Null, Ask::Incr, Err(STRANGE), None),
        ] {
            let arrival = Arrival::Frame(frame);
            assert_eq!(arrival.judge(ask), expected, "{frame:?}");
            let mut room = b"what stood here before".to_vec();
            let found = arrival.line(ask, &mut room);
            assert_eq!(found, line.map(str::as_bytes), "{frame:?}");
        }
    }

    fn batch(protocol: Protocol, recorded: bool) -> Batch {
        let mut batch = Batch::new(protocol, recorded);
        batch.add(Ask::Get, b"gone", &[]);
        batch.clear();
        batch.add(Ask::Put, b"bench-1", &[b"v"]);
        batch.add(Ask::Put, b"bench-2", &[b""]);
        batch.add(Ask::LocalGet, b"bench-3", &[]);
        batch.add(Ask::Incr, b"bench-4", &[]);
        batch.add(Ask::Cas, b"bench-5", &[b"a", b"b"]);
        batch
    }

    const LINES: &str =
        "PUT bench-1 v\nPUT bench-2 \"\"\nLOCAL GET bench-3\nINCR bench-4\nCAS bench-5 a b\n";

    #[test]
    fn a_batch_is_sent_in_its_protocol_and_recorded_in_lines() {
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        let lines = batch(Protocol::Lines, true);
        assert_eq!(text(&lines.bytes), LINES);
        let resp = batch(Protocol::Resp, true);
        assert_eq!(
            text(&resp.bytes).replace("\r\n", " "),
            "*3 $3 SET $7 bench-1 $1 v *3 $3 SET $7 bench-2 $0  *2 $3 GET $7 bench-3 \
             *2 $4 INCR $7 bench-4 *4 $3 CAS $7 bench-5 $1 a $1 b "
        );
        for batch in [&lines, &resp] {
            assert_eq!(batch.asks.len(), 5);
            assert_eq!(text(&batch.lines().collect::<Vec<_>>().concat()), LINES);
        }
        let unrecorded = batch(Protocol::Resp, false);
        assert_eq!(
            (&unrecorded.bytes, unrecorded.lines.len()),
            (&resp.bytes, 0)
        );
    }

    #[test]
    fn only_a_stale_read_in_resp_must_be_asked_for_before() {
        assert_eq!(
            greeting(Protocol::Resp, Op::LocalGet),
            b"*1\r\n$8\r\nREADONLY\r\n"
        );
        assert!(greeting(Protocol::Lines, Op::LocalGet).is_empty());
        assert!(greeting(Protocol::Resp, Op::Get).is_empty());
    }

    #[test]
    fn replies_arrive_in_pieces_and_the_end_of_the_stream_is_an_error() {
        for (protocol, pieces, bad) in [
            (Protocol::Lines, [&b"O"[..], b"K\nVAL", b"UE 1\n"], None),
            (
                Protocol::Resp,
                [b"+O", b"K\r\n$1\r", b"\n1\r\n"],
                Some(b"*0\r\n"),
            ),
        ] {
            let mut arrivals = Arrivals::new(protocol);
            let mut judged = Vec::new();
            for mut piece in pieces {
                arrivals.read_from(&mut piece).unwrap();
                while let Some(arrival) = arrivals.next_reply().unwrap() {
                    let asks = [Ask::Put, Ask::Get];
                    judged.push(arrival.judge(asks[judged.len()]));
                }
            }
            assert_eq!(judged, [Ok(()), Ok(())]);
            let end = arrivals.read_from(&mut &b""[..]).unwrap_err();
            assert_eq!(end.kind(), ErrorKind::UnexpectedEof);
            if let Some(bad) = bad {
                arrivals.read_from(&mut &bad[..]).unwrap();
                assert_eq!(
                    arrivals.next_reply().unwrap_err().kind(),
                    ErrorKind::InvalidData
                );
            }
        }
    }
}
