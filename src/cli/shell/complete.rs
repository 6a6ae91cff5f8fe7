//! Completion at the prompt: requests, and keys that were typed before or that the server lists.
//!
//! Listing goes over a connection of its own, with `LOCAL LIST` so that it never waits for a
//! majority, and asks for a few hundred keys, within a third of a second: a Tab must not hang on a store of a
//! million.
//! What cannot be had is left out without a word.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use rustyline::completion::Completer;
use rustyline::{Context, Helper, Highlighter, Hinter, Validator};

use crate::client::{Connection, ConnectionError, Limits};
use crate::kv::command::{Command, List, Read};
use crate::text::{self, Blanks, Tokens};
use crate::wire::client::{Head, Request, parse_reply_head, parse_request, write_request};

/// Keys remembered from what was typed; at the bound, later ones are not remembered.
const KEYS_SEEN_MAX: usize = 10_000;

/// How many keys a listing asks for.
const KEYS_LISTED_MAX: u64 = 200;

/// The longest that a Tab waits for a listing.
const LISTING_MAX: Duration = Duration::from_millis(300);

const VERBS: [&str; 20] = [
    "PUT", "APPEND", "GET", "MGET", "DELETE", "CAS", "INCR", "LIST", "EXPIRE", "TTL", "LOCAL",
    "SESSION", "ONCE", "STATUS", "PING", "HELP", "FAIL", "RECOVER", "SLOW", "exit",
];
const LOCAL_VERBS: [&str; 4] = ["GET", "MGET", "LIST", "TTL"];
const ONCE_VERBS: [&str; 6] = ["PUT", "APPEND", "DELETE", "CAS", "INCR", "EXPIRE"];
const KEY_VERBS: [&str; 9] = [
    "PUT", "APPEND", "GET", "DELETE", "CAS", "INCR", "LIST", "EXPIRE", "TTL",
];

/// What the prompt completes from.
#[derive(Debug, Default, Helper, Highlighter, Hinter, Validator)]
pub(super) struct Completion {
    /// The server to list keys at; empty for none.
    pub(super) server: String,
    seen: BTreeSet<String>,
}

impl Completion {
    /// Remembers the keys of a line that was typed.
    pub(super) fn see(&mut self, line: &str) {
        let Ok(request) = parse_request(line.as_bytes()) else {
            return;
        };
        let keys = match request {
            Request::Write(Command::Write(write) | Command::Once { write, .. }) => {
                vec![write.key().clone()]
            }
            Request::Read { read, .. } => match read {
                Read::Get { key } | Read::Ttl { key } => vec![key],
                Read::Many { keys } => keys,
                Read::List(_) => return,
            },
            _ => return,
        };
        let room = KEYS_SEEN_MAX.saturating_sub(self.seen.len());
        let bare = keys.iter().filter_map(|key| bare(key));
        self.seen.extend(bare.take(room));
    }

    /// Keys that begin with `prefix`, seen or listed, in order.
    fn keys(&self, prefix: &str) -> BTreeSet<String> {
        let seen = self
            .seen
            .range(prefix.to_owned()..)
            .take_while(|key| key.starts_with(prefix));
        let mut keys: BTreeSet<String> = seen.cloned().collect();
        if !self.server.is_empty() {
            // What was listed before an error is listed.
            let _ = list(&self.server, prefix, &mut keys);
        }
        keys
    }
}

/// A key that can be typed as it is, without quotes.
fn bare(key: &[u8]) -> Option<String> {
    let mut token = Vec::new();
    text::write_token(&mut token, key, Blanks::None);
    (token == key).then(|| String::from_utf8_lossy(key).into_owned())
}

/// Adds the first keys that `server` knows to begin with `prefix`.
fn list(server: &str, prefix: &str, keys: &mut BTreeSet<String>) -> Result<(), ConnectionError> {
    let limits = Limits {
        connect: LISTING_MAX,
        silence: LISTING_MAX,
        ..Limits::default()
    };
    let mut connection = Connection::open(server, limits)?;
    connection.set_deadline(Some(Instant::now() + LISTING_MAX));
    let request = Request::Read {
        local: true,
        read: Read::List(List {
            limit: Some(KEYS_LISTED_MAX),
            ..List::of(prefix.as_bytes())
        }),
    };
    let mut line = Vec::new();
    write_request(&mut line, &request);
    connection.send(&line)?;
    connection.read_line(&mut line)?;
    let Ok(Head::Lines(count)) = parse_reply_head(&line) else {
        return Ok(());
    };
    for _ in 0..count {
        connection.read_line(&mut line)?;
        if let Ok(Some(key)) = Tokens::new(&line).next_token() {
            keys.extend(bare(&key));
        }
    }
    Ok(())
}

impl Completer for Completion {
    type Candidate = String;

    fn complete(
        &self,
        line: &str,
        pos: usize,
        _: &Context<'_>,
    ) -> rustyline::Result<(usize, Vec<String>)> {
        let typed = &line[..pos];
        Ok(match place(typed) {
            Place::Verb(start, verbs) => {
                let upper = typed[start..].to_ascii_uppercase();
                let fits = |verb: &&&str| verb.to_ascii_uppercase().starts_with(&upper);
                let verbs = verbs.iter().filter(fits).map(|&verb| verb.to_owned());
                (start, verbs.collect())
            }
            Place::Key(start, colon) => {
                let keys = self.keys(&typed[start..]).into_iter();
                (
                    start,
                    keys.filter(|key| !(colon && key.contains(':'))).collect(),
                )
            }
            Place::Other => (pos, Vec::new()),
        })
    }
}

/// What is being typed, and where it begins.
#[derive(Debug, PartialEq, Eq)]
enum Place {
    /// One of these verbs.
    Verb(usize, &'static [&'static str]),
    /// A key, in the colon form or not.
    Key(usize, bool),
    /// Something that nothing is known of: a value, a number, a quoted token.
    Other,
}

fn place(typed: &str) -> Place {
    let is_end = |c: char| c == ' ' || c == '\t' || c == ':';
    let mut verbs = &VERBS[..];
    let mut start = 0;
    loop {
        start += typed[start..].len() - typed[start..].trim_start_matches([' ', '\t']).len();
        let Some(length) = typed[start..].find(is_end) else {
            return Place::Verb(start, verbs);
        };
        let verb = typed[start..start + length].to_ascii_uppercase();
        let after = start + length;
        match verb.as_str() {
            "LOCAL" => (verbs, start) = (&LOCAL_VERBS, after),
            "ONCE" => match after_words(&typed[after..], 2) {
                Some(skipped) => (verbs, start) = (&ONCE_VERBS, after + skipped),
                None => return Place::Other,
            },
            "MGET" => {
                let last = typed[after..].rfind([' ', '\t']).unwrap_or(0);
                return key_place(typed, after + last);
            }
            verb if KEY_VERBS.contains(&verb) => {
                return key_place(typed, after);
            }
            _ => return Place::Other,
        }
    }
}

/// What is being typed after the word that ends at `after`.
fn key_place(typed: &str, after: usize) -> Place {
    let rest = &typed[after..];
    let colon = rest.starts_with(':');
    let rest = if colon { &rest[1..] } else { rest };
    let key = rest.trim_start_matches([' ', '\t']);
    let ended = key.contains([' ', '\t']) || colon && key.contains(':');
    if ended || !colon && key.starts_with('"') {
        Place::Other
    } else {
        Place::Key(typed.len() - key.len(), colon)
    }
}

/// How long the first `count` words of `text` are, with the blanks before and the one after them; none
/// if there are not so many yet.
fn after_words(text: &str, count: usize) -> Option<usize> {
    let mut at = 0;
    for _ in 0..count {
        let word = text[at..].find(|c| c != ' ' && c != '\t')? + at;
        at = text[word..].find([' ', '\t'])? + word;
    }
    Some(at)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustyline::history::DefaultHistory;
    use std::io::{BufRead as _, BufReader};
    use std::net::TcpListener;

    fn complete(completion: &Completion, typed: &str) -> (usize, Vec<String>) {
        let history = DefaultHistory::new();
        completion
            .complete(typed, typed.len(), &Context::new(&history))
            .unwrap()
    }

    #[test]
    fn a_place_is_a_verb_or_a_key_or_neither() {
        for (typed, expected) in [
            ("", Place::Verb(0, &VERBS)),
            (" pu", Place::Verb(1, &VERBS)),
            ("PUT ", Place::Key(4, false)),
            ("get  ap", Place::Key(5, false)),
            ("GET:ap", Place::Key(4, true)),
            ("GET: ap", Place::Key(5, true)),
            ("PUT ap 1", Place::Other),
            ("PUT:ap:1", Place::Other),
            ("GET \"ap", Place::Other),
            ("MGET ", Place::Key(5, false)),
            ("MGET ap pe", Place::Key(8, false)),
            ("MGET \"a b\" \"ap", Place::Other),
            ("ttl ap", Place::Key(4, false)),
            ("PING ", Place::Other),
            ("LOCAL ", Place::Verb(6, &LOCAL_VERBS)),
            ("local get ap", Place::Key(10, false)),
            ("ONCE 1", Place::Other),
            ("ONCE 1 2", Place::Other),
            ("ONCE 1 2 P", Place::Verb(9, &ONCE_VERBS)),
            ("ONCE 1 2 PUT ap", Place::Key(13, false)),
            ("ONCE 1 2 append ap", Place::Key(16, false)),
            ("local mget ap pe", Place::Key(14, false)),
            ("ÖL:", Place::Other),
        ] {
            assert_eq!(place(typed), expected, "{typed:?}");
        }
    }

    #[test]
    fn verbs_complete_in_any_case() {
        let none = Completion::default();
        assert_eq!(complete(&none, "de"), (0, vec!["DELETE".into()]));
        assert_eq!(complete(&none, "local l"), (6, vec!["LIST".into()]));
        assert_eq!(
            complete(&none, "EX"),
            (0, vec!["EXPIRE".into(), "exit".into()])
        );
        assert_eq!(complete(&none, "xyz"), (0, vec![]));
    }

    /// A Tab costs a server of a million keys no more than one of a few.
    #[test]
    fn a_listing_asks_for_a_bounded_number_of_keys() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let completion = Completion {
            server: listener.local_addr().unwrap().to_string(),
            ..Completion::default()
        };
        complete(&completion, "GET ap");
        // Whether or not it had the patience for an answer, it has asked.
        let (stream, _) = listener.accept().unwrap();
        let mut asked = String::new();
        BufReader::new(stream).read_line(&mut asked).unwrap();
        assert_eq!(asked, "LOCAL LIST ap LIMIT 200\n");
    }

    #[test]
    fn keys_that_were_typed_complete_where_they_can_stand_bare() {
        let mut completion = Completion::default();
        for line in [
            "PUT:apple:1",
            "get apricot",
            "DELETE ap:x",
            "PUT \"ap y\" 1",
            "MGET pear april",
            "nonsense",
        ] {
            completion.see(line);
        }
        let keys = |keys: &[&str]| keys.iter().map(|&key| key.to_owned()).collect::<Vec<_>>();
        assert_eq!(
            complete(&completion, "GET ap"),
            (4, keys(&["ap:x", "apple", "apricot", "april"]))
        );
        assert_eq!(
            complete(&completion, "GET:ap"),
            (4, keys(&["apple", "apricot", "april"]))
        );
    }
}
