//! A place in a snapshot: which line comes next.
//!
//! | text | the next line |
//! | --- | --- |
//! | `start` | the first one, `store` |
//! | `origin n2` | the one of server 2 |
//! | `opened` | `opened` |
//! | `session 12` | the one of session 12 |
//! | `pair apple` | the one of that key |
//! | `end` | `end` |
//!
//! A place names a line by what the line is about, never by a count or an offset. So a server finds
//! it in its image as fast as it finds a key; and as one state has one text, a place that one server
//! gave means the same at every other server that has an image of the same slot.
//!
//! Left out on purpose: which image it is a place of. Whoever sends places says that too.

use super::super::batch::{parse_key, parse_number, write_words};
use super::super::command::{Bytes, SessionId};
use super::prefixed;
use crate::text::{ParseError, Tokens};
use std::fmt;

/// Where to go on in the snapshot of one state.
///
/// Its printed form is words as in [`crate::text`], without a line end, and at most four times
/// [`super::super::command::KEY_BYTES_MAX`] bytes long and a few more, where a key has to be escaped.
/// A place of a line that the snapshot does not have (it was made up, or is of another state) stands
/// before some later line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place(pub(super) Next);

/// The line that comes next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Next {
    Start,
    Origin(u8),
    Opened,
    Session(SessionId),
    Pair(Bytes),
    End,
}

impl Place {
    /// Before the first line.
    pub const START: Self = Self(Next::Start);

    /// Reads the printed form.
    ///
    /// # Errors
    /// A text that no place prints. One that does not belong to the image at hand is no error here.
    pub fn parse(text: &[u8]) -> Result<Self, ParseError> {
        const EXPECTED: &str = "start, origin, opened, session, pair or end";
        let mut tokens = Tokens::new(text);
        let verb = tokens.need(EXPECTED)?;
        let next = match &*verb {
            b"start" => Next::Start,
            b"origin" => Next::Origin(parse_origin(&mut tokens, "a node such as n2")?),
            b"opened" => Next::Opened,
            b"session" => Next::Session(SessionId(parse_number(&mut tokens, "a session")?)),
            b"pair" => Next::Pair(parse_key(&mut tokens)?),
            b"end" => Next::End,
            other => return Err(ParseError::at(EXPECTED, other)),
        };
        tokens.end()?;
        Ok(Self(next))
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Next::Start => f.write_str("start"),
            Next::Origin(origin) => write!(f, "origin n{origin}"),
            Next::Opened => f.write_str("opened"),
            Next::Session(id) => write!(f, "session {id}"),
            Next::Pair(key) => {
                let mut text = Vec::new();
                write_words(&mut text, b"pair", &[key]);
                f.write_str(std::str::from_utf8(&text).expect("a printed token is UTF-8"))
            }
            Next::End => f.write_str("end"),
        }
    }
}

/// The number of a server behind its `n`.
pub(super) fn parse_origin(tokens: &mut Tokens<'_>, expected: &str) -> Result<u8, ParseError> {
    let number = prefixed(tokens, b'n', expected)?;
    u8::try_from(number).map_err(|_| ParseError::at(expected, format!("n{number}").as_bytes()))
}
