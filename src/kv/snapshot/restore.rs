//! A snapshot's lines, read back into a state.
//!
//! The reader keeps the writer to its one text: each line has its turn, keys and origins rise, and
//! what stands before the end is counted. So a text that ends early, lacks a line or has one twice
//! gives no store at all (I5), and no line makes the reader panic, whoever wrote it.
//!
//! Left out on purpose: whether the state is the right one. Its hash is taken on trust here; the
//! servers compare it with each other's.

use super::super::batch::{
    parse_counter, parse_end, parse_key, parse_millis, parse_number, parse_value,
};
use super::super::change::{NO_INTEGER, OUT_OF_RANGE};
use super::super::command::{CommandId, Outcome, SessionId};
use super::super::hash::Hash;
use super::super::sessions::{Last, Sessions};
use super::super::store::{Counter, Store};
use super::super::table::{Entry, NEVER, Table};
use super::place::parse_origin;
use super::prefixed;
use crate::text::{ParseError, Tokens};

/// The last slot and the highest count of sessions that a snapshot may tell. Nobody gets so far; it
/// keeps the slots and sessions after it from overflowing.
const COUNT_MAX: u64 = CommandId::COUNT_MAX;

/// Reads the lines of a snapshot, one by one.
#[derive(Debug, Default)]
pub struct Restore {
    store: Store,
    turn: Turn,
    lines: u64,
}

/// Which lines may come next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Turn {
    #[default]
    Head,
    Origins,
    Sessions,
    Pairs,
    Nothing,
}

impl Turn {
    /// The lines, for people.
    fn expected(self) -> &'static str {
        match self {
            Self::Head => "store",
            Self::Origins => "origin or opened",
            Self::Sessions => "session, pair or end",
            Self::Pairs => "pair or end",
            Self::Nothing => "nothing after the end of a snapshot",
        }
    }
}

impl Restore {
    /// Takes the next line, without its line end.
    ///
    /// # Errors
    /// A line that is none, stands twice, or stands at a wrong place. What was read is worth
    /// nothing then.
    pub fn line(&mut self, line: &[u8]) -> Result<(), ParseError> {
        let mut tokens = Tokens::new(line);
        let verb = tokens.need("a line of a snapshot")?;
        self.turn = match (self.turn, &*verb) {
            (Turn::Head, b"store") => self.read_head(&mut tokens)?,
            (Turn::Origins, b"origin") => self.read_origin(&mut tokens)?,
            (Turn::Origins, b"opened") => self.read_opened(&mut tokens)?,
            (Turn::Sessions, b"session") => self.read_session(&mut tokens)?,
            (Turn::Sessions | Turn::Pairs, b"pair") => self.read_pair(&mut tokens)?,
            (Turn::Sessions | Turn::Pairs, b"end") => self.read_end(&mut tokens)?,
            (turn, _) => return Err(ParseError::at(turn.expected(), &verb)),
        };
        self.lines += 1;
        tokens.end()
    }

    /// The slot of the state, as soon as the first line was taken.
    pub fn applied(&self) -> Option<u64> {
        (self.turn != Turn::Head).then(|| self.store.applied())
    }

    /// The state, once the last line was taken.
    pub fn finish(self) -> Result<Store, ParseError> {
        match self.turn {
            Turn::Nothing => Ok(self.store),
            _ => Err(ParseError::at_end("the end line of a snapshot")),
        }
    }

    /// What was read so far, which is no state: for whoever has to drop it where nobody waits.
    pub fn give_up(self) -> Store {
        self.store
    }

    fn read_head(&mut self, tokens: &mut Tokens<'_>) -> Result<Turn, ParseError> {
        const EXPECTED: &str = "a slot such as s17";
        let applied = prefixed(tokens, b's', EXPECTED)?;
        if applied > COUNT_MAX {
            return Err(ParseError::at(EXPECTED, format!("s{applied}").as_bytes()));
        }
        self.store.applied = applied;
        let token = tokens.need("a hash")?;
        let hash = std::str::from_utf8(&token)
            .ok()
            .filter(|text| text.len() == 16 && !text.starts_with('+'))
            .and_then(|text| u64::from_str_radix(text, 16).ok())
            .ok_or_else(|| ParseError::at("a hash of 16 hex digits", &token))?;
        self.store.hash = Hash::resume(hash);
        self.store.table = Table::restored(applied, parse_millis(tokens)?);
        Ok(Turn::Origins)
    }

    fn read_origin(&mut self, tokens: &mut Tokens<'_>) -> Result<Turn, ParseError> {
        const EXPECTED: &str = "a node such as n2, each once, in order";
        let origin = parse_origin(tokens, EXPECTED)?;
        let counter = Counter {
            start: parse_counter(tokens, "a start from 1")?,
            next: parse_counter(tokens, "a number from 1")?,
        };
        match self.store.origins.last_key_value() {
            Some((&last, _)) if last >= origin => {
                Err(ParseError::at(EXPECTED, format!("n{origin}").as_bytes()))
            }
            _ => {
                self.store.origins.insert(origin, counter);
                Ok(Turn::Origins)
            }
        }
    }

    fn read_opened(&mut self, tokens: &mut Tokens<'_>) -> Result<Turn, ParseError> {
        let opened = parse_number(tokens, "a count")?;
        if opened > COUNT_MAX {
            return Err(ParseError::at(
                format!("a count of at most {COUNT_MAX}"),
                opened.to_string().as_bytes(),
            ));
        }
        self.store.sessions = Sessions::restored(opened);
        Ok(Turn::Sessions)
    }

    fn read_session(&mut self, tokens: &mut Tokens<'_>) -> Result<Turn, ParseError> {
        const EXPECTED: &str = "the id of a session that was opened, once";
        let id = parse_number(tokens, EXPECTED)?;
        let last = if tokens.rest().is_empty() {
            None
        } else {
            Some(Last {
                seq: parse_counter(tokens, "a seq from 1")?,
                outcome: read_outcome(tokens)?,
            })
        };
        if self.store.sessions.restore(SessionId(id), last) {
            Ok(Turn::Sessions)
        } else {
            Err(ParseError::at(EXPECTED, id.to_string().as_bytes()))
        }
    }

    fn read_pair(&mut self, tokens: &mut Tokens<'_>) -> Result<Turn, ParseError> {
        let key = parse_key(tokens)?;
        let entry = Entry {
            value: parse_value(tokens, "a value")?,
            version: self.read_version(tokens)?,
            end: match tokens.rest() {
                b"" => NEVER,
                _ => parse_end(tokens)?,
            },
        };
        match self.store.table.last_key() {
            Some(last) if *last >= key => Err(ParseError::at("each key once, in byte order", &key)),
            _ => {
                self.store.table.restore(key, entry);
                Ok(Turn::Pairs)
            }
        }
    }

    fn read_version(&self, tokens: &mut Tokens<'_>) -> Result<u64, ParseError> {
        const EXPECTED: &str = "a slot of the snapshot such as s9";
        let version = prefixed(tokens, b's', EXPECTED)?;
        if (1..=self.store.applied).contains(&version) {
            Ok(version)
        } else {
            Err(ParseError::at(EXPECTED, format!("s{version}").as_bytes()))
        }
    }

    fn read_end(&mut self, tokens: &mut Tokens<'_>) -> Result<Turn, ParseError> {
        let expected = format!("{} lines before the end", self.lines);
        let told = parse_number(tokens, &expected)?;
        if told == self.lines {
            Ok(Turn::Nothing)
        } else {
            Err(ParseError::at(expected, told.to_string().as_bytes()))
        }
    }
}

fn read_outcome(tokens: &mut Tokens<'_>) -> Result<Outcome, ParseError> {
    const EXPECTED: &str =
        "ok, not_found, mismatch, number, no_integer, out_of_range, unmet or too_long";
    let verb = tokens.need(EXPECTED)?;
    match &*verb {
        b"ok" => Ok(Outcome::Ok),
        b"not_found" => Ok(Outcome::NotFound),
        b"mismatch" => parse_value(tokens, "a value").map(Outcome::Mismatch),
        b"number" => tokens.parse("a 64-bit integer").map(Outcome::Number),
        b"no_integer" => Ok(Outcome::NotANumber(NO_INTEGER)),
        b"unmet" => Ok(Outcome::Unmet),
        b"too_long" => Ok(Outcome::TooLong),
        b"out_of_range" => Ok(Outcome::NotANumber(OUT_OF_RANGE)),
        other => Err(ParseError::at(EXPECTED, other)),
    }
}
