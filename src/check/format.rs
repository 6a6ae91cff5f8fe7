//! A history as text: a line an event, so that `grep c3.17` follows one operation.
//!
//! | line | event |
//! | --- | --- |
//! | `history 1` | the first line: the version of this format |
//! | `TIME ID call REQUEST` | a client is about to send; `REQUEST` as it stands on the wire |
//! | `TIME ID again` | it sends the same again, perhaps elsewhere, under the same `ONCE` |
//! | `TIME ID reply REPLY` | the answer, as on the wire; of `LIST` on one line: `COUNT n key value key value ...`, and of `MGET`: `COUNT n VALUE value NOT_FOUND ...` |
//! | `TIME ID refused TEXT` | surely nothing was done |
//! | `TIME ID lost TEXT` | no answer will come; it may have been done, or may be later |
//!
//! `TIME` is in nanoseconds since the recording began, on one clock; `ID` is `c3.17`, the 17th
//! operation of client 3. A `call` stands before the other lines of its operation; otherwise lines
//! may come in any order. A `call` must be in the file before the request is sent: then a recorder
//! that is killed leaves operations without an end, which are open, and never answers without a
//! question. Requests that are not about keys (`STATUS`, `SESSION`) are not recorded.

use std::collections::BTreeMap;
use std::io::Write as _;

use super::history::{End, History, Operation, OperationId};
use crate::kv::command::{Bytes, Command, Read};
use crate::text::{self, Blanks, ParseError, Tokens};
use crate::wire::client::{Head, Reply, Request, parse_reply_head, parse_request, write_request};

/// The first line of a history, without its LF.
pub const FIRST_LINE: &str = "history 1";

/// Whether operations of this kind belong into a history.
pub fn is_recorded(request: &Request) -> bool {
    match request {
        Request::Write(command) => *command != Command::Session,
        Request::Read { .. } => true,
        _ => false,
    }
}

/// Appends what all lines begin with.
fn begin(out: &mut Vec<u8>, time: u64, id: OperationId, word: &str) {
    write!(out, "{time} {id} {word}").expect("a vector takes every byte");
}

/// Appends a `call`.
pub fn write_call(out: &mut Vec<u8>, time: u64, id: OperationId, request: &Request) {
    begin(out, time, id, "call ");
    write_request(out, request);
}

/// Appends a `call` whose request is a line of the wire already, with or without its LF.
pub fn write_call_line(out: &mut Vec<u8>, time: u64, id: OperationId, line: &[u8]) {
    begin(out, time, id, "call ");
    push_line(out, line);
}

/// Appends an `again`.
pub fn write_again(out: &mut Vec<u8>, time: u64, id: OperationId) {
    begin(out, time, id, "again\n");
}

/// Appends a `reply`.
pub fn write_reply(out: &mut Vec<u8>, time: u64, id: OperationId, reply: &Reply) {
    begin(out, time, id, "reply ");
    match reply {
        Reply::List(pairs) => {
            write_count(out, pairs.len());
            for (key, value) in pairs {
                write_word(out, key);
                write_word(out, value);
            }
            out.push(b'\n');
        }
        Reply::Values(found) => {
            write_count(out, found.len());
            for value in found {
                match value {
                    Some(value) => {
                        out.extend_from_slice(b" VALUE");
                        write_word(out, value);
                    }
                    None => out.extend_from_slice(b" NOT_FOUND"),
                }
            }
            out.push(b'\n');
        }
        reply => reply.write(out),
    }
}

fn write_count(out: &mut Vec<u8>, count: usize) {
    write!(out, "COUNT {count}").expect("a vector takes every byte");
}

fn write_word(out: &mut Vec<u8>, word: &[u8]) {
    out.push(b' ');
    text::write_token(out, word, Blanks::None);
}

/// Appends a `reply` that is a line of the wire already, with or without its LF.
pub fn write_reply_line(out: &mut Vec<u8>, time: u64, id: OperationId, line: &[u8]) {
    begin(out, time, id, "reply ");
    push_line(out, line);
}

/// Appends a `refused`.
pub fn write_refused(out: &mut Vec<u8>, time: u64, id: OperationId, why: &str) {
    begin(out, time, id, "refused ");
    push_line(out, why.replace(char::is_control, " ").as_bytes());
}

/// Appends a `lost`.
pub fn write_lost(out: &mut Vec<u8>, time: u64, id: OperationId, why: &str) {
    begin(out, time, id, "lost ");
    push_line(out, why.replace(char::is_control, " ").as_bytes());
}

fn push_line(out: &mut Vec<u8>, line: &[u8]) {
    out.extend_from_slice(line.strip_suffix(b"\n").unwrap_or(line));
    out.push(b'\n');
}

/// A history that was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recorded {
    /// What was recorded.
    pub history: History,
    /// Whether the last line had no end and was left out: the recorder was killed.
    pub cut: bool,
}

/// A line that is no part of a history.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {error}")]
pub struct LineError {
    /// Which, from 1.
    pub line: usize,
    /// What is wrong with it.
    pub error: ParseError,
}

/// Reads a whole file. What follows the last LF was cut off and is left out.
///
/// # Errors
/// The first line that is no part of a history.
pub fn read(text: &[u8]) -> Result<Recorded, LineError> {
    let whole = text.iter().rposition(|&byte| byte == b'\n');
    let (lines, rest) = text.split_at(whole.map_or(0, |at| at + 1));
    let mut reader = Reader::default();
    for (index, line) in lines.split_inclusive(|&byte| byte == b'\n').enumerate() {
        let line = line.strip_suffix(b"\n").unwrap_or(line);
        let read = if index == 0 {
            first_line(line)
        } else {
            reader.line(line)
        };
        read.map_err(|error| LineError {
            line: index + 1,
            error,
        })?;
    }
    if lines.is_empty() {
        let error = ParseError::at(format!("{FIRST_LINE:?} and a line end"), rest);
        return Err(LineError { line: 1, error });
    }
    Ok(Recorded {
        history: History::new(reader.operations.into_values().collect()),
        cut: !rest.is_empty(),
    })
}

fn first_line(line: &[u8]) -> Result<(), ParseError> {
    if line == FIRST_LINE.as_bytes() {
        Ok(())
    } else {
        Err(ParseError::at(format!("{FIRST_LINE:?}"), line))
    }
}

#[derive(Default)]
struct Reader {
    operations: BTreeMap<OperationId, Operation>,
}

impl Reader {
    fn line(&mut self, line: &[u8]) -> Result<(), ParseError> {
        let mut tokens = Tokens::new(line);
        let time = tokens.need("a time")?;
        let time = text::number(&time).ok_or_else(|| ParseError::at("a time", &time))?;
        let id: OperationId = tokens.parse("an operation such as c3.17")?;
        let word = tokens.need("what happened")?;
        if &*word == b"call" {
            return self.call(time, id, tokens.tail());
        }
        let unasked = || ParseError::at("a call before what else happened to it", line);
        let operation = self.operations.get_mut(&id).ok_or_else(unasked)?;
        let text = || String::from_utf8_lossy(tokens.rest()).into_owned();
        let end = match &*word {
            b"again" => {
                operation.resent = operation.resent.saturating_add(1);
                return tokens.end();
            }
            b"reply" => End::Reply(time, read_reply(&operation.request, tokens.tail())?),
            b"refused" => End::Refused(time, text()),
            b"lost" => End::Open(Some(time), text()),
            other => {
                let expected = "call, again, reply, refused or lost";
                return Err(ParseError::at(expected, other));
            }
        };
        if !matches!(operation.end, End::Open(None, _)) {
            return Err(ParseError::at("one end of each operation", line));
        }
        if time < operation.called {
            return Err(ParseError::at("an end that is not before its call", line));
        }
        operation.end = end;
        Ok(())
    }

    fn call(&mut self, time: u64, id: OperationId, request: &[u8]) -> Result<(), ParseError> {
        let expected = "a request about keys";
        let parsed = parse_request(request).ok().filter(is_recorded);
        let operation = Operation {
            id,
            request: parsed.ok_or_else(|| ParseError::at(expected, request))?,
            called: time,
            resent: 0,
            end: End::Open(None, "the recording ends".into()),
        };
        match self.operations.insert(id, operation) {
            None => Ok(()),
            Some(_) => Err(ParseError::at(
                "one call of each operation",
                id.to_string().as_bytes(),
            )),
        }
    }
}

/// Reads an answer to `request` as [`write_reply`] writes it.
pub(super) fn read_reply(request: &Request, line: &[u8]) -> Result<Reply, ParseError> {
    match parse_reply_head(line) {
        Ok(Head::Done(reply)) => Ok(reply),
        // What was counted follows on the same line, which is an error to the wire.
        Ok(Head::Lines(_)) | Err(_) if line.starts_with(b"COUNT ") => match request {
            Request::Read {
                read: Read::Many { .. },
                ..
            } => read_counted(line, read_found).map(Reply::Values),
            _ => read_counted(line, read_pair).map(Reply::List),
        },
        Ok(Head::Lines(_)) => Err(ParseError::at("a reply", line)),
        Err(error) => Err(error),
    }
}

/// What a line holds so many of as it says.
fn read_counted<'a, T>(
    line: &'a [u8],
    read: impl Fn(&mut Tokens<'a>) -> Result<T, ParseError>,
) -> Result<Vec<T>, ParseError> {
    let mut tokens = Tokens::new(line);
    tokens.need("COUNT")?;
    let count = tokens.need("how many follow")?;
    let count = text::number(&count).ok_or_else(|| ParseError::at("a number", &count))?;
    let all = (0..count)
        .map(|_| read(&mut tokens))
        .collect::<Result<_, _>>()?;
    tokens.end()?;
    Ok(all)
}

fn read_pair(tokens: &mut Tokens<'_>) -> Result<(Bytes, Bytes), ParseError> {
    let key = tokens.need("a key")?.into();
    Ok((key, tokens.need("a value")?.into()))
}

fn read_found(tokens: &mut Tokens<'_>) -> Result<Option<Bytes>, ParseError> {
    const EXPECTED: &str = "VALUE or NOT_FOUND";
    match &*tokens.need(EXPECTED)? {
        b"VALUE" => Ok(Some(tokens.need("a value")?.into())),
        b"NOT_FOUND" => Ok(None),
        other => Err(ParseError::at(EXPECTED, other)),
    }
}
