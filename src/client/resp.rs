//! A client's half of RESP, as much of it as a load needs: commands one way, flat replies the other.
//!
//! | bytes | frame |
//! | --- | --- |
//! | `+OK` | [`Frame::Simple`] |
//! | `-NOTDONE text` | [`Frame::Error`] |
//! | `:5` | [`Frame::Integer`] |
//! | `$4`, then four bytes | [`Frame::Bulk`] |
//! | `$-1`, `_` | [`Frame::Null`] |
//! | `ERROR NOT_DONE text` | [`Frame::Plain`]: so a server turns away a connection that has not spoken yet |
//!
//! Every line ends in CR LF, but for the last one of these, which is a plain line. Frames come one by one
//! however their bytes were cut on the way, and one that is not whole is never one. Memory grows with what
//! has arrived, up to the longest bulk string that is expected; a length beyond it ends the connection
//! before a byte of it is waited for.
//!
//! Left out on purpose: arrays and maps, which answer nothing that a load asks; what a frame means, and
//! whether it fits its request; and sockets.

use std::io::{self, Read, Write as _};

use crate::text::ParseError;
use crate::wire::held::Held;

/// The longest line, in bytes, with its line end: far above the longest error text.
const LINE_BYTES_MAX: usize = 65_536;

/// Appends a command: an array of bulk strings, its name first.
pub(crate) fn write_command(out: &mut Vec<u8>, words: &[&[u8]]) {
    const ROOM: &str = "a vector takes every byte";
    write!(out, "*{}\r\n", words.len()).expect(ROOM);
    for word in words {
        write!(out, "${}\r\n", word.len()).expect(ROOM);
        out.extend_from_slice(word);
        out.extend_from_slice(b"\r\n");
    }
}

/// One reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Frame<'a> {
    /// One word or a few, such as `OK`.
    Simple(&'a [u8]),
    /// What went wrong: its code first.
    Error(&'a [u8]),
    /// A number.
    Integer(i64),
    /// Any bytes.
    Bulk(&'a [u8]),
    /// Nothing is there.
    Null,
    /// A plain line, without its line end.
    Plain(&'a [u8]),
}

/// What a first line tells of its frame.
enum Head {
    Simple,
    Error,
    Integer(i64),
    Bulk(usize),
    Null,
    Plain,
}

/// Reads a stream frame by frame. See the module's promises.
#[derive(Debug)]
pub(crate) struct FrameBuffer {
    held: Held,
    bulk_bytes_max: usize,
    /// So many of the bytes that are held have no LF among them.
    scanned: usize,
    /// No frame is whole before so many bytes are held.
    needed: usize,
}

impl FrameBuffer {
    /// An empty one, for bulk strings of at most `bulk_bytes_max` bytes.
    pub(crate) fn new(bulk_bytes_max: usize) -> Self {
        Self {
            held: Held::new(bulk_bytes_max + LINE_BYTES_MAX),
            bulk_bytes_max,
            scanned: 0,
            needed: 1,
        }
    }

    /// Reads once from `stream`, and returns how many bytes came: 0 at its end. Take all frames with
    /// [`FrameBuffer::next_frame`] before reading again.
    ///
    /// # Errors
    /// What `stream` returns, but for interruptions, after which it is read again.
    pub(crate) fn read_from(&mut self, stream: &mut impl Read) -> io::Result<usize> {
        self.held.read_from(stream)
    }

    /// The next frame; none until more has been read.
    ///
    /// # Errors
    /// What has arrived is no frame that a load expects. The connection is of no use then.
    pub(crate) fn next_frame(&mut self) -> Result<Option<Frame<'_>>, ParseError> {
        let bytes = self.held.bytes();
        if bytes.len() < self.needed {
            return Ok(None);
        }
        let unseen = &bytes[self.scanned..];
        let Some(at) = unseen.iter().position(|&byte| byte == b'\n') else {
            self.scanned = bytes.len();
            return if self.scanned < LINE_BYTES_MAX {
                Ok(None)
            } else {
                Err(no_frame(bytes))
            };
        };
        // Where the line ends is found again at once, should the bytes behind it not be there yet.
        self.scanned += at;
        let line = self.scanned + 1;
        let head = head(&bytes[..line])?;
        let whole = match head {
            Head::Bulk(length) if length > self.bulk_bytes_max => {
                let expected = format!("a bulk string of at most {} bytes", self.bulk_bytes_max);
                return Err(ParseError::at(expected, &bytes[..line]));
            }
            Head::Bulk(length) => line + length + 2,
            _ => line,
        };
        if bytes.len() < whole {
            self.needed = whole;
            return Ok(None);
        }
        (self.scanned, self.needed) = (0, 1);
        let bytes = self.held.take(whole);
        let text = &bytes[1..line - 1];
        let text = text.strip_suffix(b"\r").unwrap_or(text);
        Ok(Some(match head {
            Head::Simple => Frame::Simple(text),
            Head::Error => Frame::Error(text),
            Head::Integer(number) => Frame::Integer(number),
            Head::Null => Frame::Null,
            Head::Bulk(length) => match bytes[line..].split_at(length) {
                (bulk, b"\r\n") => Frame::Bulk(bulk),
                (_, end) => return Err(ParseError::at("CR LF after a bulk string", end)),
            },
            Head::Plain => Frame::Plain(&bytes[..=text.len()]),
        }))
    }
}

/// Reads a first line, with its line end.
fn head(line: &[u8]) -> Result<Head, ParseError> {
    let wrong = || no_frame(line);
    if line.starts_with(b"ERROR ") {
        return Ok(Head::Plain);
    }
    let text = line.strip_suffix(b"\r\n").ok_or_else(wrong)?;
    let (&first, rest) = text.split_first().ok_or_else(wrong)?;
    let number = || {
        let number = std::str::from_utf8(rest).ok();
        number
            .and_then(|number| number.parse().ok())
            .ok_or_else(wrong)
    };
    match first {
        b'+' => Ok(Head::Simple),
        b'-' => Ok(Head::Error),
        b':' => Ok(Head::Integer(number()?)),
        b'_' if rest.is_empty() => Ok(Head::Null),
        b'$' => match number()? {
            -1 => Ok(Head::Null),
            length => usize::try_from(length).map(Head::Bulk).map_err(|_| wrong()),
        },
        _ => Err(wrong()),
    }
}

fn no_frame(found: &[u8]) -> ParseError {
    ParseError::at("a reply of RESP such as +OK, :5, $4 or -ERR", found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::resp::{self, Protocol, Reply, Request};
    use proptest::prelude::*;

    /// A stream that gives its bytes in pieces of this size.
    struct Pieces<'a>(&'a [u8], usize);

    impl Read for Pieces<'_> {
        fn read(&mut self, room: &mut [u8]) -> io::Result<usize> {
            let size = self.1.min(room.len());
            self.0.read(&mut room[..size])
        }
    }

    /// All frames of a stream, as text.
    fn frames(bytes: &[u8], piece_bytes: usize) -> Result<Vec<String>, ParseError> {
        let mut stream = Pieces(bytes, piece_bytes);
        let mut buffer = FrameBuffer::new(100);
        let mut found = Vec::new();
        while buffer.read_from(&mut stream).unwrap() > 0 {
            while let Some(frame) = buffer.next_frame()? {
                found.push(text(frame));
            }
        }
        Ok(found)
    }

    fn text(frame: Frame<'_>) -> String {
        match frame {
            Frame::Simple(text) => format!("simple {}", text.escape_ascii()),
            Frame::Error(text) => format!("error {}", text.escape_ascii()),
            Frame::Integer(number) => format!("integer {number}"),
            Frame::Bulk(bytes) => format!("bulk {}", bytes.escape_ascii()),
            Frame::Null => "null".into(),
            Frame::Plain(line) => format!("plain {}", line.escape_ascii()),
        }
    }

    #[test]
    fn replies_come_one_by_one_however_they_were_cut() {
        let stream =
            b"+OK\r\n$4\r\na\r\nb\r\n$0\r\n\r\n$-1\r\n_\r\n:-5\r\n-UNKNOWN perhaps\r\n+\r\n\
                       ERROR NOT_DONE too many connections (limit 3)\n";
        for piece_bytes in 1..stream.len() {
            let found = frames(stream, piece_bytes).unwrap();
            assert_eq!(
                found,
                [
                    "simple OK",
                    "bulk a\\r\\nb",
                    "bulk ",
                    "null",
                    "null",
                    "integer -5",
                    "error UNKNOWN perhaps",
                    "simple ",
                    "plain ERROR NOT_DONE too many connections (limit 3)",
                ],
                "in pieces of {piece_bytes}"
            );
        }
    }

    #[test]
    fn a_reply_that_is_not_whole_is_none() {
        for part in ["+OK", "+OK\r", "$4\r\nabcd", "$4\r\nabcd\r", "$", ":5"] {
            assert_eq!(frames(part.as_bytes(), 9), Ok(vec![]), "{part:?}");
        }
    }

    #[test]
    fn what_is_no_reply_to_a_load_ends_the_connection() {
        for bad in [
            "OK\r\n",
            "+OK\n",
            "\r\n",
            "*1\r\n+OK\r\n",
            "%0\r\n",
            ":\r\n",
            ":5x\r\n",
            "$-2\r\n",
            "$x\r\n",
            "_x\r\n",
            "$2\r\nabcd",
            // Longer than was expected: told before a byte of it has come.
            "$101\r\n",
            "$99999999999999999999\r\n",
        ] {
            let found = frames(bad.as_bytes(), 7);
            assert!(found.is_err(), "{bad:?}: {found:?}");
        }
        let endless = vec![b'+'; LINE_BYTES_MAX];
        assert!(frames(&endless, 4_096).is_err());
    }

    /// What is written here is what the server's half reads.
    #[test]
    fn a_command_is_one_that_a_server_takes() {
        let mut bytes = Vec::new();
        write_command(&mut bytes, &[b"SET", b"a key", b"\r\n*1\r\n"]);
        write_command(&mut bytes, &[b"GET", b"a key"]);
        assert!(bytes.starts_with(b"*3\r\n$3\r\nSET\r\n$5\r\na key\r\n$6\r\n"));
        let mut server = resp::FrameBuffer::default();
        server.read_from(&mut &bytes[..]).unwrap();
        let mut requests = Vec::new();
        while let Some(arguments) = server.next_frame().unwrap() {
            requests.push(Request::read(arguments).unwrap());
        }
        let [Request::Change(_), Request::Read(read)] = &requests[..] else {
            panic!("{requests:?}");
        };
        assert_eq!(*read, resp::Read::Get((&b"a key"[..]).into()));
    }

    fn reply() -> impl Strategy<Value = Reply> {
        prop_oneof![
            Just(Reply::OK),
            Just(Reply::Null),
            any::<i64>().prop_map(Reply::Integer),
            "[A-Z]{1,9} [ -~]{0,40}".prop_map(|text| Reply::Error(text.into())),
            proptest::collection::vec(any::<u8>(), 0..100)
                .prop_map(|bytes| Reply::Bulk((&bytes[..]).into())),
        ]
    }

    fn expected(reply: &Reply) -> String {
        text(match reply {
            Reply::Simple(text) => Frame::Simple(text.as_bytes()),
            Reply::Error(text) => Frame::Error(text.as_bytes()),
            Reply::Integer(number) => Frame::Integer(*number),
            Reply::Bulk(bytes) => Frame::Bulk(bytes),
            Reply::Null => Frame::Null,
            other => panic!("{other:?} answers no load"),
        })
    }

    proptest! {
        /// What the server's half writes, in either version, is what is read here.
        #[test]
        fn any_pieces_give_the_replies_that_were_written(
            replies in proptest::collection::vec((reply(), any::<bool>()), 0..30),
            piece_bytes in 1..60_usize,
        ) {
            let mut bytes = Vec::new();
            for (reply, three) in &replies {
                let protocol = if *three { Protocol::Three } else { Protocol::Two };
                reply.write(protocol, &mut bytes);
            }
            let expected: Vec<String> = replies.iter().map(|(reply, _)| expected(reply)).collect();
            prop_assert_eq!(frames(&bytes, piece_bytes).unwrap(), expected);
        }
    }
}
