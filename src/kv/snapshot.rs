//! The whole replicated state as lines of text, and back: what a snapshot holds.
//!
//! | line | means |
//! | --- | --- |
//! | `store s17 00c0ffee00c0ffee` | first: the last slot applied, and the running hash in hex |
//! | `origin n2 5 78` | of server 2, start 5 is the newest, and its command 78 applies next |
//! | `opened 13` | 13 sessions were ever opened |
//! | `session 12` | session 12 lives and has run nothing yet |
//! | `session 12 7 mismatch 1.25` | its last seq was 7, with this outcome: `ok`, `not_found`, `mismatch value`, `number n`, `no_integer`, `out_of_range` |
//! | `pair apple 1.25` | a key and its value |
//! | `end 1234` | last: how many lines stood before it |
//!
//! Sessions stand least recently used first, for they must end in the same order on the server that
//! reads this; keys stand in byte order. One state has one text. Words are tokens of
//! [`crate::text`], as in a batch.
//!
//! It keeps invariants I5 and I7 over a snapshot: the counters and the sessions travel with the
//! map, so a retry that arrives after it is still a retry (pitfall P24). A text that ends early,
//! misses its end or says a thing twice gives no store at all.
//!
//! Left out on purpose: files, checksums and the wire. Whoever stores or sends the lines guards
//! them. For a state that stays put while service goes on, clone the [`Store`] first: the clone
//! shares all keys and values, and costs about 100 bytes a key while it lives.

use super::batch::{parse_counter, parse_key, parse_number, parse_value, push_text, write_words};
use super::command::{Outcome, SessionId};
use super::hash::Hash;
use super::sessions::{Last, Sessions};
use super::store::{Counter, NO_INTEGER, OUT_OF_RANGE, Store};
use crate::text::{self, ParseError, Tokens};
use std::iter;

impl Store {
    /// The lines of a snapshot of this state, none with a line end. Each is a buffer of its own:
    /// simple, and writing them costs more than making them.
    pub fn snapshot_lines(&self) -> impl Iterator<Item = Vec<u8>> {
        let head = iter::once(line(format_args!(
            "store s{} {:016x}",
            self.applied,
            self.hash()
        )));
        let origins = self.origins.iter().map(|(origin, counter)| {
            line(format_args!(
                "origin n{origin} {} {}",
                counter.start, counter.next
            ))
        });
        let opened = iter::once(line(format_args!("opened {}", self.sessions.opened())));
        let sessions = self
            .sessions
            .iter()
            .map(|(id, last)| session_line(id, last));
        let pairs = self.map.iter().map(|(key, value)| {
            let mut pair = Vec::new();
            write_words(&mut pair, b"pair", &[key, value]);
            pair
        });
        let lines = 2 + self.origins.len() + self.sessions.len() + self.map.len();
        head.chain(origins)
            .chain(opened)
            .chain(sessions)
            .chain(pairs)
            .chain(iter::once(line(format_args!("end {lines}"))))
    }
}

fn line(text: std::fmt::Arguments<'_>) -> Vec<u8> {
    let mut line = Vec::new();
    push_text(&mut line, text);
    line
}

fn session_line(id: SessionId, last: Option<&Last>) -> Vec<u8> {
    let mut out = line(format_args!("session {id}"));
    let Some(Last { seq, outcome }) = last else {
        return out;
    };
    push_text(&mut out, format_args!(" {seq} "));
    match outcome {
        Outcome::Ok => out.extend_from_slice(b"ok"),
        Outcome::NotFound => out.extend_from_slice(b"not_found"),
        Outcome::Mismatch(value) => write_words(&mut out, b"mismatch", &[value]),
        Outcome::Number(number) => push_text(&mut out, format_args!("number {number}")),
        Outcome::NotANumber(OUT_OF_RANGE) => out.extend_from_slice(b"out_of_range"),
        Outcome::NotANumber(_) => out.extend_from_slice(b"no_integer"),
        Outcome::Session(_) | Outcome::StaleSeq(_) | Outcome::NoSession => {
            unreachable!("I7: session {id} remembers {outcome:?}, which no change comes to")
        }
    }
    out
}

/// Reads the lines of a snapshot, one by one.
#[derive(Debug, Default)]
pub struct Restore {
    /// None before the first line.
    store: Option<Store>,
    lines: u64,
    ended: bool,
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
        if self.ended {
            return Err(ParseError::at("nothing after the end of a snapshot", &verb));
        }
        match (&*verb, &mut self.store) {
            (b"store", store @ None) => *store = Some(read_head(&mut tokens)?),
            (_, None) => return Err(ParseError::at("store", &verb)),
            (b"origin", Some(store)) => read_origin(&mut tokens, store)?,
            (b"opened", Some(store)) if store.sessions.opened() == 0 => {
                store.sessions = Sessions::restored(parse_number(&mut tokens, "a count")?);
            }
            (b"session", Some(store)) => read_session(&mut tokens, store)?,
            (b"pair", Some(store)) => read_pair(&mut tokens, store)?,
            (b"end", Some(_)) => {
                let expected = format!("{} lines before the end", self.lines);
                if parse_number(&mut tokens, &expected)? != self.lines {
                    return Err(ParseError::at(expected, line));
                }
                self.ended = true;
            }
            _ => {
                return Err(ParseError::at(
                    "origin, opened, session, pair or end",
                    &verb,
                ));
            }
        }
        self.lines += 1;
        tokens.end()
    }

    /// The state, once the last line was taken.
    pub fn finish(self) -> Result<Store, ParseError> {
        self.store
            .filter(|_| self.ended)
            .ok_or_else(|| ParseError::at_end("the end line of a snapshot"))
    }
}

fn read_head(tokens: &mut Tokens<'_>) -> Result<Store, ParseError> {
    let applied = prefixed(tokens, b's', "a slot such as s17")?;
    let token = tokens.need("a hash")?;
    let hash = std::str::from_utf8(&token)
        .ok()
        .filter(|text| text.len() == 16 && !text.starts_with('+'))
        .and_then(|text| u64::from_str_radix(text, 16).ok())
        .ok_or_else(|| ParseError::at("a hash of 16 hex digits", &token))?;
    Ok(Store {
        applied,
        hash: Hash::resume(hash),
        ..Store::new()
    })
}

fn read_origin(tokens: &mut Tokens<'_>, store: &mut Store) -> Result<(), ParseError> {
    const EXPECTED: &str = "a node such as n2, once";
    let number = prefixed(tokens, b'n', EXPECTED)?;
    let counter = Counter {
        start: parse_counter(tokens, "a start from 1")?,
        next: parse_counter(tokens, "a number from 1")?,
    };
    u8::try_from(number)
        .ok()
        .filter(|&origin| store.origins.insert(origin, counter).is_none())
        .map(drop)
        .ok_or_else(|| ParseError::at(EXPECTED, format!("n{number}").as_bytes()))
}

fn read_session(tokens: &mut Tokens<'_>, store: &mut Store) -> Result<(), ParseError> {
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
    if store.sessions.restore(SessionId(id), last) {
        Ok(())
    } else {
        Err(ParseError::at(EXPECTED, id.to_string().as_bytes()))
    }
}

fn read_outcome(tokens: &mut Tokens<'_>) -> Result<Outcome, ParseError> {
    const EXPECTED: &str = "ok, not_found, mismatch, number, no_integer or out_of_range";
    let verb = tokens.need(EXPECTED)?;
    match &*verb {
        b"ok" => Ok(Outcome::Ok),
        b"not_found" => Ok(Outcome::NotFound),
        b"mismatch" => parse_value(tokens, "a value").map(Outcome::Mismatch),
        b"number" => tokens.parse("a 64-bit integer").map(Outcome::Number),
        b"no_integer" => Ok(Outcome::NotANumber(NO_INTEGER)),
        b"out_of_range" => Ok(Outcome::NotANumber(OUT_OF_RANGE)),
        other => Err(ParseError::at(EXPECTED, other)),
    }
}

fn read_pair(tokens: &mut Tokens<'_>, store: &mut Store) -> Result<(), ParseError> {
    let key = parse_key(tokens)?;
    let value = parse_value(tokens, "a value")?;
    match store.map.insert(key.clone(), value) {
        None => Ok(()),
        Some(_) => Err(ParseError::at("each key once", &key)),
    }
}

/// A number behind a letter.
fn prefixed(tokens: &mut Tokens<'_>, letter: u8, expected: &str) -> Result<u64, ParseError> {
    let token = tokens.need(expected)?;
    token
        .strip_prefix(&[letter])
        .and_then(text::number)
        .ok_or_else(|| ParseError::at(expected, &token))
}

#[cfg(test)]
mod tests {
    use super::super::batch::{Batch, any, push_separator, write_command};
    use super::super::command::CommandId;
    use super::*;
    use proptest::collection::vec;
    use proptest::prelude::*;

    fn restore(lines: &[Vec<u8>]) -> Result<Store, ParseError> {
        let mut restore = Restore::default();
        for line in lines {
            restore.line(line)?;
        }
        restore.finish()
    }

    fn lines(store: &Store) -> Vec<Vec<u8>> {
        store.snapshot_lines().collect()
    }

    fn text(lines: &[Vec<u8>]) -> String {
        String::from_utf8(lines.join(&b'\n')).unwrap()
    }

    fn filled() -> Store {
        let mut store = Store::new();
        store.apply(
            1,
            &Batch::read(
                br#"n2.5.1 session ; n2.5.2 session ; n2.5.3 put apple "1 25" ; n2.5.4 once 1 7 cas apple x y"#,
            ),
            |_, _| {},
        );
        store
    }

    /// The table at the head of this file.
    #[test]
    fn a_snapshot_reads_by_eye() {
        let store = filled();
        assert_eq!(
            text(&lines(&store)),
            format!(
                "store s1 {:016x}\norigin n2 5 5\nopened 2\nsession 2\n\
                 session 1 7 mismatch \"1 25\"\npair apple \"1 25\"\nend 6",
                store.hash()
            )
        );
    }

    /// P24: after a snapshot a retry is still a retry, of a session and of an origin.
    #[test]
    fn retries_after_a_snapshot_apply_no_second_time() {
        let mut store = restore(&lines(&filled())).unwrap();
        assert_eq!(store, filled());
        let mut fates = Vec::new();
        let again = Batch::read(b"n2.5.4 session ; n2.5.5 once 1 7 put apple z");
        store.apply(2, &again, |_, fate| fates.push(format!("{fate:?}")));
        assert_eq!(fates[0], "Repeat");
        assert!(fates[1].contains("Mismatch"), "{}", fates[1]);
    }

    #[test]
    fn a_text_cut_short_or_doubled_is_no_snapshot() {
        let whole = lines(&filled());
        for cut in 0..whole.len() {
            assert!(restore(&whole[..cut]).is_err(), "cut at {cut}");
            let mut without = whole.clone();
            without.remove(cut);
            assert!(restore(&without).is_err(), "without {cut}");
            let mut doubled = whole.clone();
            doubled.insert(cut, whole[cut].clone());
            assert!(restore(&doubled).is_err(), "{cut} twice");
        }
    }

    proptest! {
        #[test]
        fn every_store_reads_back(
            commands in vec(prop_oneof![any::command(), any::once_of_few()], 0..60),
        ) {
            let mut store = Store::new();
            let mut text = Vec::new();
            for (number, command) in (1..).zip(&commands) {
                if number > 1 {
                    push_separator(&mut text);
                }
                write_command(&mut text, CommandId { origin: 1, start: 1, number }, command);
            }
            store.apply(1, &Batch::read(&text), |_, _| {});
            let written = lines(&store);
            let read = restore(&written).unwrap();
            prop_assert_eq!(&lines(&read), &written);
            prop_assert_eq!(read, store);
            prop_assert!(!written.concat().iter().any(u8::is_ascii_control));
        }

        #[test]
        fn no_line_makes_the_reader_panic(
            head in any::<bool>(),
            verb in prop::sample::select(vec![
                "", "store ", "origin ", "opened ", "session ", "session 1 1 ", "pair ", "end ",
            ]),
            rest in "[a-z0-9 \";]{0,20}",
        ) {
            let mut restore = Restore::default();
            if head {
                restore.line(b"store s17 00c0ffee00c0ffee").unwrap();
                restore.line(b"opened 3").unwrap();
            }
            let _ = restore.line(format!("{verb}{rest}").as_bytes());
        }
    }

    #[test]
    fn sessions_that_cannot_be_are_refused() {
        let mut restore = Restore::default();
        restore.line(b"store s17 00c0ffee00c0ffee").unwrap();
        restore.line(b"opened 3").unwrap();
        assert_eq!(
            restore.line(b"session 4").unwrap_err().to_string(),
            r#"expected the id of a session that was opened, once, found "4""#
        );
        assert!(restore.line(b"session 1 1 maybe").is_err());
        assert!(restore.finish().is_err());
    }
}
