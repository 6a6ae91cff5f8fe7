//! The text of a batch: the commands that share one slot of the log, on one line.
//!
//! | command | text |
//! | --- | --- |
//! | put | `n2.5.77 put apple 1.25` |
//! | delete | `n2.5.78 delete apple` |
//! | cas | `n2.5.79 cas apple 1.25 1.30`: the key, what is expected, what is new |
//! | incr | `n2.5.80 incr visits -5` |
//! | set | `n2.5.81 set apple 1.25 absent in 1000`: the condition (`any`, `absent`, `present`), then how long (`endless`, `kept`, `in` so many milliseconds after the stamp, `at` a time) |
//! | append | `n2.5.82 append apple 99` |
//! | setrange | `n2.5.83 setrange apple 2 75`: from which byte on |
//! | expire | `n2.5.84 expire apple in 1000 any`: when, then the condition (`any`, `endless`, `mortal`, `later`, `sooner`) |
//! | persist | `n2.5.85 persist apple` |
//! | session | `n2.5.86 session` |
//! | once | `n2.5.87 once 12 7 put apple 1.25`: the session, the seq, then a change of one key |
//! | exec | `n2.5.88 exec 2 apple s17 pear none 3 put apple 1.30 get pear size`: how many keys are watched, each with the slot that changed it last, how many steps, then those: a change of one key, `get`, `ttl`, `size`, `time` or `clear` |
//!
//! Each command begins with its [`CommandId`]; ` ; ` stands between two commands, and an empty text
//! is the batch without commands. Before the first may stand the leader's stamp, `at 1763894400000`:
//! the time in milliseconds since 1970. A batch without one has the time of the batch before it. Keys and values are tokens of [`crate::text`], always without
//! blanks inside; one that is a `;` alone is quoted, so that a bare `;` is a separator and nothing
//! else. The text holds no line end and no control character: it is readable in the log's files,
//! and a leader joins the texts of several origins without reading them.
//!
//! Invariant I5 leans on this file: one text is read as the same commands by every server. A text
//! that cannot be read is therefore no commands at all, on every server, and never a panic: it may
//! come from a newer program or from a mistake, and half a batch would be worse than none.
//!
//! Left out on purpose: which command applies. That is the store's decision.

use super::command::{
    Bytes, Command, CommandId, Deadline, END_MAX, ExpireIf, KEY_BYTES_MAX, Lifetime, MILLIS_MAX,
    Millis, Presence, STEPS_MAX, SessionId, Step, TRANSACTION_BYTES_MAX, Transaction,
    VALUE_BYTES_MAX, WATCHED_MAX, Watched, Write as Change,
};
use super::hash::Hash;
use crate::text::{self, Blanks, ParseError, Tokens};
use std::io::Write as _;

/// A command with its id, as it stands in a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Numbered {
    /// Its place among the commands of its origin.
    pub id: CommandId,
    /// What to do.
    pub command: Command,
}

/// What stands between two commands.
const SEPARATOR: &[u8] = b" ; ";

/// What a stamp begins with; no command does.
const STAMP: &[u8] = b"at ";

/// The token of [`SEPARATOR`].
const SEPARATOR_TOKEN: &[u8] = b";";

/// The batch of one slot, read and hashed: all the work that needs no look at the store, so that it
/// can be done before the store is locked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch {
    stamp: Option<Millis>,
    commands: Vec<Numbered>,
    text_hash: u64,
    error: Option<ParseError>,
}

impl Batch {
    /// The batch of a slot that changes nothing.
    pub fn empty() -> Self {
        Self::read(b"")
    }

    /// Reads the text of a slot. One that is no batch gives a batch without commands, and
    /// [`Batch::error`] tells why.
    pub fn read(text: &[u8]) -> Self {
        let mut hash = Hash::START;
        hash.bytes(text);
        let (stamp, commands, error) = match parse_stamped(text) {
            Ok((stamp, commands)) => (stamp, commands, None),
            Err(error) => (None, Vec::new(), Some(error)),
        };
        Self {
            stamp,
            commands,
            text_hash: hash.get(),
            error,
        }
    }

    /// The time that the leader gave it.
    pub fn stamp(&self) -> Option<Millis> {
        self.stamp
    }

    /// The commands, in order.
    pub fn commands(&self) -> &[Numbered] {
        &self.commands
    }

    /// Why the text could not be read, for the log: some origin's commands are gone.
    pub fn error(&self) -> Option<&ParseError> {
        self.error.as_ref()
    }

    /// How many keys its commands look at or change at most.
    pub fn keys(&self) -> usize {
        let keys = self
            .commands
            .iter()
            .map(|numbered| match &numbered.command {
                Command::Exec(transaction) if transaction.steps.contains(&Step::Clear) => {
                    usize::MAX
                }
                Command::Exec(transaction) => transaction.watched.len() + transaction.steps.len(),
                Command::Write(_) | Command::Once { .. } | Command::Session => 1,
            });
        keys.fold(0, usize::saturating_add)
    }

    /// The hash of the text.
    pub(super) fn text_hash(&self) -> u64 {
        self.text_hash
    }
}

/// Appends what stands between two commands of a batch.
pub fn push_separator(out: &mut Vec<u8>) {
    out.extend_from_slice(SEPARATOR);
}

/// Appends the stamp that a batch begins with.
pub fn write_stamp(out: &mut Vec<u8>, stamp: Millis) {
    push_text(out, format_args!("at {stamp}"));
}

/// Appends one command of a batch, in the form of the table above.
pub fn write_command(out: &mut Vec<u8>, id: CommandId, command: &Command) {
    push_text(out, format_args!("{id} "));
    match command {
        Command::Write(write) => write_change(out, write),
        Command::Once {
            session,
            seq,
            write,
        } => {
            push_text(out, format_args!("once {session} {seq} "));
            write_change(out, write);
        }
        Command::Session => out.extend_from_slice(b"session"),
        Command::Exec(transaction) => write_transaction(out, transaction),
    }
}

/// Appends a transaction, as it stands in a batch.
pub fn write_transaction(out: &mut Vec<u8>, transaction: &Transaction) {
    let Transaction { watched, steps } = transaction;
    push_text(out, format_args!("exec {}", watched.len()));
    for Watched { key, version } in watched {
        write_words(out, b"", &[key]);
        match version {
            Some(slot) => push_text(out, format_args!(" s{slot}")),
            None => out.extend_from_slice(b" none"),
        }
    }
    push_text(out, format_args!(" {}", steps.len()));
    for step in steps {
        out.push(b' ');
        match step {
            Step::Write(write) => write_change(out, write),
            Step::Get { key } => write_words(out, b"get", &[key]),
            Step::Ttl { key } => write_words(out, b"ttl", &[key]),
            Step::Size => out.extend_from_slice(b"size"),
            Step::Time => out.extend_from_slice(b"time"),
            Step::Clear => out.extend_from_slice(b"clear"),
        }
    }
}

/// Appends a change of one key, as it stands in a batch.
pub fn write_change(out: &mut Vec<u8>, write: &Change) {
    match write {
        Change::Put { key, value } => write_words(out, b"put", &[key, value]),
        Change::Delete { key } => write_words(out, b"delete", &[key]),
        Change::Cas { key, expected, new } => write_words(out, b"cas", &[key, expected, new]),
        Change::Incr { key, by } => {
            write_words(out, b"incr", &[key]);
            push_text(out, format_args!(" {by}"));
        }
        Change::Set {
            key,
            value,
            only,
            lifetime,
        } => {
            write_words(out, b"set", &[key, value]);
            let only = match only {
                Presence::Any => "any",
                Presence::Absent => "absent",
                Presence::Present => "present",
            };
            match lifetime {
                Lifetime::Endless => push_text(out, format_args!(" {only} endless")),
                Lifetime::Kept => push_text(out, format_args!(" {only} kept")),
                Lifetime::Until(deadline) => {
                    push_text(out, format_args!(" {only}"));
                    write_deadline(out, *deadline);
                }
            }
        }
        Change::Append { key, value } => write_words(out, b"append", &[key, value]),
        Change::SetRange { key, offset, value } => {
            write_words(out, b"setrange", &[key]);
            push_text(out, format_args!(" {offset}"));
            write_words(out, b"", &[value]);
        }
        Change::Expire {
            key,
            deadline,
            only,
        } => {
            write_words(out, b"expire", &[key]);
            write_deadline(out, *deadline);
            out.extend_from_slice(match only {
                ExpireIf::Any => b" any",
                ExpireIf::Endless => b" endless",
                ExpireIf::Mortal => b" mortal",
                ExpireIf::Later => b" later",
                ExpireIf::Sooner => b" sooner",
            });
        }
        Change::Persist { key } => write_words(out, b"persist", &[key]),
    }
}

fn write_deadline(out: &mut Vec<u8>, deadline: Deadline) {
    match deadline {
        Deadline::In(millis) => push_text(out, format_args!(" in {millis}")),
        Deadline::At(millis) => push_text(out, format_args!(" at {millis}")),
    }
}

pub(super) fn write_words(out: &mut Vec<u8>, verb: &[u8], words: &[&Bytes]) {
    out.extend_from_slice(verb);
    for word in words {
        out.push(b' ');
        if ***word == *SEPARATOR_TOKEN {
            text::write_quoted(out, word);
        } else {
            text::write_token(out, word, Blanks::None);
        }
    }
}

pub(super) fn push_text(out: &mut Vec<u8>, text: std::fmt::Arguments<'_>) {
    out.write_fmt(text).expect("a vector takes every byte");
}

/// Reads the commands of a batch that has no stamp yet.
///
/// # Errors
/// Whatever is no batch: a wrong word, a key or value beyond its limit, an id, seq or number that
/// is none.
pub fn parse_batch(text: &[u8]) -> Result<Vec<Numbered>, ParseError> {
    let mut tokens = Tokens::new(text);
    if tokens.rest().is_empty() {
        return Ok(Vec::new());
    }
    parse_commands(&mut tokens)
}

/// Reads the text of a slot: the stamp, if it has one, and the commands.
///
/// # Errors
/// As of [`parse_batch`].
pub fn parse_stamped(text: &[u8]) -> Result<(Option<Millis>, Vec<Numbered>), ParseError> {
    if !text.starts_with(STAMP) {
        return Ok((None, parse_batch(text)?));
    }
    let mut tokens = Tokens::new(&text[STAMP.len()..]);
    let stamp = parse_millis(&mut tokens)?;
    if tokens.rest().is_empty() {
        return Ok((Some(stamp), Vec::new()));
    }
    need_separator(&mut tokens)?;
    Ok((Some(stamp), parse_commands(&mut tokens)?))
}

fn parse_commands(tokens: &mut Tokens<'_>) -> Result<Vec<Numbered>, ParseError> {
    let mut commands = Vec::new();
    loop {
        commands.push(parse_command(tokens)?);
        if tokens.rest().is_empty() {
            return Ok(commands);
        }
        need_separator(tokens)?;
    }
}

fn need_separator(tokens: &mut Tokens<'_>) -> Result<(), ParseError> {
    let quoted = tokens.next_is_quoted();
    let token = tokens.need("';'")?;
    if quoted || *token != *SEPARATOR_TOKEN {
        return Err(ParseError::at("';' or the end of the line", &token));
    }
    Ok(())
}

/// The changes of one key, as errors name them.
const CHANGES: &str = "put, delete, cas, incr, set, append, setrange, expire or persist";

fn parse_command(tokens: &mut Tokens<'_>) -> Result<Numbered, ParseError> {
    const EXPECTED: &str =
        "put, delete, cas, incr, set, append, setrange, expire, persist, session, once or exec";
    let id = parse_id(tokens)?;
    let verb = tokens.need(EXPECTED)?;
    let command = match &*verb {
        b"session" => Command::Session,
        b"once" => Command::Once {
            session: SessionId(parse_number(tokens, "a session")?),
            seq: parse_counter(tokens, "a seq from 1")?,
            write: {
                let verb = tokens.need(CHANGES)?;
                parse_change(&verb, CHANGES, tokens)?
            },
        },
        b"exec" => Command::Exec(Box::new(parse_transaction(tokens)?)),
        verb => Command::Write(parse_change(verb, EXPECTED, tokens)?),
    };
    Ok(Numbered { id, command })
}

fn parse_transaction(tokens: &mut Tokens<'_>) -> Result<Transaction, ParseError> {
    let watched = (0..parse_count(tokens, WATCHED_MAX)?)
        .map(|_| parse_watched(tokens))
        .collect::<Result<_, _>>()?;
    let steps = (0..parse_count(tokens, STEPS_MAX)?)
        .map(|_| parse_step(tokens))
        .collect::<Result<_, _>>()?;
    let transaction = Transaction { watched, steps };
    match transaction.bytes() {
        0..=TRANSACTION_BYTES_MAX => Ok(transaction),
        bytes => Err(ParseError::at(
            format!("a transaction of at most {TRANSACTION_BYTES_MAX} bytes"),
            bytes.to_string().as_bytes(),
        )),
    }
}

fn parse_watched(tokens: &mut Tokens<'_>) -> Result<Watched, ParseError> {
    const EXPECTED: &str = "a slot such as s17, or none";
    let key = parse_key(tokens)?;
    let token = tokens.need(EXPECTED)?;
    let version = if *token == *b"none" {
        None
    } else {
        let slot = token.strip_prefix(b"s").and_then(text::number);
        Some(slot.ok_or_else(|| ParseError::at(EXPECTED, &token))?)
    };
    Ok(Watched { key, version })
}

fn parse_step(tokens: &mut Tokens<'_>) -> Result<Step, ParseError> {
    const EXPECTED: &str = "a change of one key, get, ttl, size, time or clear";
    let verb = tokens.need(EXPECTED)?;
    Ok(match &*verb {
        b"get" => Step::Get {
            key: parse_key(tokens)?,
        },
        b"ttl" => Step::Ttl {
            key: parse_key(tokens)?,
        },
        b"size" => Step::Size,
        b"time" => Step::Time,
        b"clear" => Step::Clear,
        verb => Step::Write(parse_change(verb, EXPECTED, tokens)?),
    })
}

/// How many of something follow.
fn parse_count(tokens: &mut Tokens<'_>, max: usize) -> Result<usize, ParseError> {
    let count = parse_number(tokens, "a count")?;
    usize::try_from(count)
        .ok()
        .filter(|&count| count <= max)
        .ok_or_else(|| {
            ParseError::at(
                format!("a count of at most {max}"),
                count.to_string().as_bytes(),
            )
        })
}

/// The id of the first command of a batch without a stamp.
///
/// # Errors
/// The text begins with none.
pub fn first_id(text: &[u8]) -> Result<CommandId, ParseError> {
    parse_id(&mut Tokens::new(text))
}

/// The next token as the id of a command.
fn parse_id(tokens: &mut Tokens<'_>) -> Result<CommandId, ParseError> {
    const EXPECTED: &str = "a command id such as n2.5.77";
    let token = tokens.need(EXPECTED)?;
    let counts = |number: &u64| (1..=CommandId::COUNT_MAX).contains(number);
    let parse = || {
        let mut numbers = token.strip_prefix(b"n")?.split(|&b| b == b'.');
        let mut next = || numbers.next().and_then(text::number);
        let id = CommandId {
            origin: u8::try_from(next()?).ok()?,
            start: next().filter(counts)?,
            number: next().filter(counts)?,
        };
        numbers.next().is_none().then_some(id)
    };
    parse().ok_or_else(|| ParseError::at(EXPECTED, &token))
}

fn parse_change(
    verb: &[u8],
    expected: &str,
    tokens: &mut Tokens<'_>,
) -> Result<Change, ParseError> {
    match verb {
        b"put" => Ok(Change::Put {
            key: parse_key(tokens)?,
            value: parse_value(tokens, "a value")?,
        }),
        b"delete" => Ok(Change::Delete {
            key: parse_key(tokens)?,
        }),
        b"cas" => Ok(Change::Cas {
            key: parse_key(tokens)?,
            expected: parse_value(tokens, "the expected value")?,
            new: parse_value(tokens, "the new value")?,
        }),
        b"incr" => Ok(Change::Incr {
            key: parse_key(tokens)?,
            by: tokens.parse("a 64-bit integer")?,
        }),
        b"set" => Ok(Change::Set {
            key: parse_key(tokens)?,
            value: parse_value(tokens, "a value")?,
            only: parse_presence(tokens)?,
            lifetime: parse_lifetime(tokens)?,
        }),
        b"append" => Ok(Change::Append {
            key: parse_key(tokens)?,
            value: parse_value(tokens, "a value")?,
        }),
        b"setrange" => Ok(Change::SetRange {
            key: parse_key(tokens)?,
            offset: parse_number(tokens, "an offset")?,
            value: parse_value(tokens, "a value")?,
        }),
        b"expire" => Ok(Change::Expire {
            key: parse_key(tokens)?,
            deadline: {
                let word = tokens.need("in or at")?;
                parse_deadline(&word, "in or at", tokens)?
            },
            only: parse_expire_if(tokens)?,
        }),
        b"persist" => Ok(Change::Persist {
            key: parse_key(tokens)?,
        }),
        other => Err(ParseError::at(expected, other)),
    }
}

fn parse_presence(tokens: &mut Tokens<'_>) -> Result<Presence, ParseError> {
    const EXPECTED: &str = "any, absent or present";
    let word = tokens.need(EXPECTED)?;
    match &*word {
        b"any" => Ok(Presence::Any),
        b"absent" => Ok(Presence::Absent),
        b"present" => Ok(Presence::Present),
        other => Err(ParseError::at(EXPECTED, other)),
    }
}

fn parse_lifetime(tokens: &mut Tokens<'_>) -> Result<Lifetime, ParseError> {
    const EXPECTED: &str = "endless, kept, in or at";
    let word = tokens.need(EXPECTED)?;
    match &*word {
        b"endless" => Ok(Lifetime::Endless),
        b"kept" => Ok(Lifetime::Kept),
        word => parse_deadline(word, EXPECTED, tokens).map(Lifetime::Until),
    }
}

fn parse_deadline(
    word: &[u8],
    expected: &str,
    tokens: &mut Tokens<'_>,
) -> Result<Deadline, ParseError> {
    match word {
        b"in" => parse_end(tokens).map(Deadline::In),
        b"at" => parse_end(tokens).map(Deadline::At),
        other => Err(ParseError::at(expected, other)),
    }
}

fn parse_expire_if(tokens: &mut Tokens<'_>) -> Result<ExpireIf, ParseError> {
    const EXPECTED: &str = "any, endless, mortal, later or sooner";
    let word = tokens.need(EXPECTED)?;
    match &*word {
        b"any" => Ok(ExpireIf::Any),
        b"endless" => Ok(ExpireIf::Endless),
        b"mortal" => Ok(ExpireIf::Mortal),
        b"later" => Ok(ExpireIf::Later),
        b"sooner" => Ok(ExpireIf::Sooner),
        other => Err(ParseError::at(EXPECTED, other)),
    }
}

/// The stamp of a batch.
pub(super) fn parse_millis(tokens: &mut Tokens<'_>) -> Result<Millis, ParseError> {
    parse_millis_upto(MILLIS_MAX, tokens)
}

/// The end or the life of a key.
pub(super) fn parse_end(tokens: &mut Tokens<'_>) -> Result<Millis, ParseError> {
    parse_millis_upto(END_MAX, tokens)
}

fn parse_millis_upto(max: Millis, tokens: &mut Tokens<'_>) -> Result<Millis, ParseError> {
    let millis = parse_number(tokens, "milliseconds")?;
    if millis > max {
        return Err(ParseError::at(
            format!("at most {max} milliseconds"),
            millis.to_string().as_bytes(),
        ));
    }
    Ok(millis)
}

pub(super) fn parse_key(tokens: &mut Tokens<'_>) -> Result<Bytes, ParseError> {
    let key = parse_word(tokens, "a key")?;
    if key.is_empty() || key.len() > KEY_BYTES_MAX {
        return Err(ParseError::at(
            format!("a key of 1 to {KEY_BYTES_MAX} bytes"),
            &key,
        ));
    }
    Ok(key)
}

pub(super) fn parse_value(tokens: &mut Tokens<'_>, expected: &str) -> Result<Bytes, ParseError> {
    let value = parse_word(tokens, expected)?;
    if value.len() > VALUE_BYTES_MAX {
        return Err(ParseError::at(
            format!("{expected} of at most {VALUE_BYTES_MAX} bytes"),
            &value,
        ));
    }
    Ok(value)
}

/// A key or a value; never a separator.
fn parse_word(tokens: &mut Tokens<'_>, expected: &str) -> Result<Bytes, ParseError> {
    let quoted = tokens.next_is_quoted();
    let token = tokens.need(expected)?;
    if !quoted && *token == *SEPARATOR_TOKEN {
        return Err(ParseError::at(expected, &token));
    }
    Ok(token.into())
}

pub(super) fn parse_number(tokens: &mut Tokens<'_>, expected: &str) -> Result<u64, ParseError> {
    let token = tokens.need(expected)?;
    text::number(&token).ok_or_else(|| ParseError::at(expected, &token))
}

/// A number that counts from 1.
pub(super) fn parse_counter(tokens: &mut Tokens<'_>, expected: &str) -> Result<u64, ParseError> {
    match parse_number(tokens, expected)? {
        0 => Err(ParseError::at(expected, b"0")),
        number => Ok(number),
    }
}

/// Commands of any content, for the tests of this module and its neighbours.
#[cfg(test)]
pub(super) mod any {
    use super::*;
    use proptest::collection::vec;
    use proptest::prelude::*;

    /// Some bytes, often awkward ones.
    pub(crate) fn bytes(min: usize) -> impl Strategy<Value = Bytes> {
        prop_oneof![
            vec(any::<u8>(), min..12),
            vec(prop::sample::select(&b" ;\"\\ab\t\r\n"[..]), min..5),
            Just(b";".to_vec()),
        ]
        .prop_map(Bytes::from)
    }

    pub(crate) fn change() -> impl Strategy<Value = Change> {
        prop_oneof![
            (bytes(1), bytes(0)).prop_map(|(key, value)| Change::Put { key, value }),
            bytes(1).prop_map(|key| Change::Delete { key }),
            (bytes(1), bytes(0), bytes(0)).prop_map(|(key, expected, new)| Change::Cas {
                key,
                expected,
                new
            }),
            (bytes(1), any::<i64>()).prop_map(|(key, by)| Change::Incr { key, by }),
            (bytes(1), bytes(0), presence(), lifetime()).prop_map(
                |(key, value, only, lifetime)| Change::Set {
                    key,
                    value,
                    only,
                    lifetime,
                }
            ),
            (bytes(1), bytes(0)).prop_map(|(key, value)| Change::Append { key, value }),
            (bytes(1), any::<u64>(), bytes(0)).prop_map(|(key, offset, value)| Change::SetRange {
                key,
                offset,
                value
            }),
            (bytes(1), deadline(0..=END_MAX), expire_if()).prop_map(|(key, deadline, only)| {
                Change::Expire {
                    key,
                    deadline,
                    only,
                }
            }),
            bytes(1).prop_map(|key| Change::Persist { key }),
        ]
    }

    fn presence() -> impl Strategy<Value = Presence> {
        prop::sample::select(&[Presence::Any, Presence::Absent, Presence::Present][..])
    }

    fn expire_if() -> impl Strategy<Value = ExpireIf> {
        const ALL: &[ExpireIf] = &[
            ExpireIf::Any,
            ExpireIf::Endless,
            ExpireIf::Mortal,
            ExpireIf::Later,
            ExpireIf::Sooner,
        ];
        prop::sample::select(ALL)
    }

    fn deadline(millis: std::ops::RangeInclusive<u64>) -> impl Strategy<Value = Deadline> {
        prop_oneof![
            millis.clone().prop_map(Deadline::In),
            millis.prop_map(Deadline::At),
        ]
    }

    fn lifetime() -> impl Strategy<Value = Lifetime> {
        prop_oneof![
            Just(Lifetime::Endless),
            Just(Lifetime::Kept),
            deadline(0..=END_MAX).prop_map(Lifetime::Until),
        ]
    }

    fn transaction(
        key: impl Strategy<Value = Bytes> + Clone,
        change: impl Strategy<Value = Change>,
        version: impl Strategy<Value = u64>,
    ) -> impl Strategy<Value = Transaction> {
        let watched = (key.clone(), prop::option::of(version))
            .prop_map(|(key, version)| Watched { key, version });
        let step = prop_oneof![
            4 => change.prop_map(Step::Write),
            1 => key.clone().prop_map(|key| Step::Get { key }),
            1 => key.prop_map(|key| Step::Ttl { key }),
            1 => Just(Step::Size),
            1 => Just(Step::Time),
            1 => Just(Step::Clear),
        ];
        (vec(watched, 0..3), vec(step, 0..4))
            .prop_map(|(watched, steps)| Transaction { watched, steps })
    }

    pub(crate) fn command() -> impl Strategy<Value = Command> {
        prop_oneof![
            change().prop_map(Command::Write),
            (any::<u64>(), 1..=u64::MAX, change()).prop_map(|(session, seq, write)| {
                Command::Once {
                    session: SessionId(session),
                    seq,
                    write,
                }
            }),
            Just(Command::Session),
            transaction(bytes(1).boxed(), change(), any::<u64>())
                .prop_map(|transaction| Command::Exec(Box::new(transaction))),
        ]
    }

    /// Commands that open sessions and use them, again and again, on few keys.
    pub(crate) fn once_of_few() -> impl Strategy<Value = Command> {
        let word = |words: &'static [&'static str]| {
            prop::sample::select(words).prop_map(|word| Bytes::from(word.as_bytes()))
        };
        let key = move || word(&["a", "ab", "b"]);
        let value = move || word(&["1", "-5", "007", "9223372036854775807", "", "x y"]);
        let few = prop_oneof![
            (key(), value()).prop_map(|(key, value)| Change::Put { key, value }),
            key().prop_map(|key| Change::Delete { key }),
            (key(), value(), value()).prop_map(|(key, expected, new)| Change::Cas {
                key,
                expected,
                new
            }),
            (key(), -2..=2_i64).prop_map(|(key, by)| Change::Incr { key, by }),
            (key(), value(), presence(), few_lifetimes()).prop_map(
                |(key, value, only, lifetime)| Change::Set {
                    key,
                    value,
                    only,
                    lifetime,
                }
            ),
            (key(), value()).prop_map(|(key, value)| Change::Append { key, value }),
            (key(), 0..4_u64, value()).prop_map(|(key, offset, value)| Change::SetRange {
                key,
                offset,
                value
            }),
            (key(), deadline(0..=40), expire_if()).prop_map(|(key, deadline, only)| {
                Change::Expire {
                    key,
                    deadline,
                    only,
                }
            }),
            key().prop_map(|key| Change::Persist { key }),
        ]
        .boxed();
        let once =
            (0..5_u64, 1..5_u64, few.clone()).prop_map(|(session, seq, write)| match session {
                4 if seq == 1 => Command::Session,
                4 => Command::Write(write),
                session => Command::Once {
                    session: SessionId(session),
                    seq,
                    write,
                },
            });
        prop_oneof![
            4 => once,
            1 => transaction(key().boxed(), few, 0..20_u64)
                .prop_map(|transaction| Command::Exec(Box::new(transaction))),
        ]
    }

    fn few_lifetimes() -> impl Strategy<Value = Lifetime> {
        prop_oneof![
            Just(Lifetime::Endless),
            Just(Lifetime::Kept),
            deadline(0..=40).prop_map(Lifetime::Until),
        ]
    }

    pub(crate) fn numbered() -> impl Strategy<Value = Numbered> {
        (
            1..=u8::MAX,
            1..=CommandId::COUNT_MAX,
            1..=CommandId::COUNT_MAX,
            command(),
        )
            .prop_map(|(origin, start, number, command)| Numbered {
                id: CommandId {
                    origin,
                    start,
                    number,
                },
                command,
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::collection::vec;
    use proptest::prelude::*;

    fn printed(batch: &[Numbered]) -> Vec<u8> {
        let mut out = Vec::new();
        for (at, Numbered { id, command }) in batch.iter().enumerate() {
            if at > 0 {
                push_separator(&mut out);
            }
            write_command(&mut out, *id, command);
        }
        out
    }

    /// The table at the head of this file.
    const EVERY_FORM: &str = "n2.5.77 put apple 1.25 ; n2.5.78 delete k ; n2.5.79 cas k old new \
        ; n2.5.80 incr k -5 ; n2.5.81 session ; n2.5.82 once 12 7 put k v \
        ; n2.5.83 set k v absent in 1000 ; n2.5.84 set k v any at 5 ; n2.5.85 set k v present kept \
        ; n2.5.86 set k v any endless ; n2.5.87 append k v ; n2.5.88 setrange k 2 v \
        ; n2.5.89 expire k in 7 later ; n2.5.90 persist k \
        ; n2.5.91 exec 2 k s17 l none 4 get k ttl k size clear ; n2.5.92 exec 0 0 \
        ; n2.5.93 once 12 8 append k v";

    #[test]
    fn every_form_reads_and_prints_the_same() {
        let batch = parse_batch(EVERY_FORM.as_bytes()).unwrap();
        assert_eq!(batch.len(), 17);
        assert_eq!(
            batch[5],
            Numbered {
                id: CommandId {
                    origin: 2,
                    start: 5,
                    number: 82
                },
                command: Command::Once {
                    session: SessionId(12),
                    seq: 7,
                    write: Change::Put {
                        key: b"k"[..].into(),
                        value: b"v"[..].into()
                    },
                },
            }
        );
        assert_eq!(printed(&batch), EVERY_FORM.as_bytes());
    }

    #[test]
    fn a_semicolon_as_key_or_value_is_quoted() {
        let text = br#"n1.1.1 put ";" ";" ; n1.1.2 cas a; ;; ";""#;
        let batch = parse_batch(text).unwrap();
        assert_eq!(batch.len(), 2);
        assert_eq!(printed(&batch), text);
        assert!(parse_batch(b"n1.1.1 put ; v").is_err());
        assert!(parse_batch(br#"n1.1.1 session ";" n1.1.2 session"#).is_err());
    }

    #[test]
    fn a_wrong_text_says_what_was_expected() {
        for (text, error) in [
            (
                "n1.1 session",
                r#"expected a command id such as n2.5.77, found "n1.1""#,
            ),
            (
                "n2.0.1 session",
                r#"expected a command id such as n2.5.77, found "n2.0.1""#,
            ),
            (
                "n1.1.0 session",
                r#"expected a command id such as n2.5.77, found "n1.1.0""#,
            ),
            (
                "n1.1.18446744073709551615 session",
                r#"expected a command id such as n2.5.77, found "n1.1.18446744073709551615""#,
            ),
            (
                "n1.1152921504606846977.1 session",
                r#"expected a command id such as n2.5.77, found "n1.1152921504606846977.1""#,
            ),
            (
                "n1.1.1.1 session",
                r#"expected a command id such as n2.5.77, found "n1.1.1.1""#,
            ),
            (
                "n1.1.1 get k",
                r#"expected put, delete, cas, incr, set, append, setrange, expire, persist, session, once or exec, found "get""#,
            ),
            (
                "n1.1.1 once 1 1 session",
                r#"expected put, delete, cas, incr, set, append, setrange, expire or persist, found "session""#,
            ),
            (
                "n1.1.1 once 1 0 delete k",
                r#"expected a seq from 1, found "0""#,
            ),
            (
                "n1.1.1 once x 1 delete k",
                r#"expected a session, found "x""#,
            ),
            (
                "n1.1.1 put k",
                "expected a value, found the end of the line",
            ),
            (
                "n1.1.1 put k ; n1.1.2 session",
                r#"expected a value, found ";""#,
            ),
            (
                "n1.1.1 put k v w",
                r#"expected ';' or the end of the line, found "w""#,
            ),
            (
                "n1.1.1 delete \"\"",
                r#"expected a key of 1 to 1024 bytes, found """#,
            ),
            (
                "n1.1.1 incr k 1.5",
                r#"expected a 64-bit integer, found "1.5""#,
            ),
            (
                "n1.1.1 session ; ",
                "expected a command id such as n2.5.77, found the end of the line",
            ),
        ] {
            assert_eq!(
                parse_batch(text.as_bytes()).unwrap_err().to_string(),
                error,
                "{text}"
            );
        }
    }

    #[test]
    fn limits_hold_inside_the_log_too() {
        let put = |key: usize, value: usize| {
            let text = format!("n1.1.1 put {} {}", "k".repeat(key), "v".repeat(value));
            parse_batch(text.as_bytes())
        };
        assert!(put(KEY_BYTES_MAX, VALUE_BYTES_MAX).is_ok());
        assert!(put(KEY_BYTES_MAX + 1, 1).is_err());
        assert!(put(1, VALUE_BYTES_MAX + 1).is_err());
    }

    /// They can be added, so no text of the log makes an end that runs over.
    #[test]
    fn a_stamp_and_a_life_have_a_bound() {
        let reads = |text: &str, millis: u64| {
            let text = text.replace("TIME", &millis.to_string());
            parse_stamped(text.as_bytes()).is_ok()
        };
        for (text, max) in [
            ("at TIME", 1_152_921_504_606_846_976),
            ("n1.1.1 set k v any in TIME", 9_223_372_036_854_775_807),
            ("n1.1.1 expire k at TIME any", 9_223_372_036_854_775_807),
        ] {
            assert!(reads(text, max), "{text}");
            assert!(!reads(text, max + 1), "{text}");
            assert!(!reads(text, u64::MAX), "{text}");
        }
    }

    /// Everything that stands in a transaction counts: what it watches, reads and writes.
    #[test]
    fn a_transaction_has_a_bound_in_bytes() {
        // Of four megabytes the puts leave twelve, and the keys besides have nine.
        let put = format!("put k {} ", "v".repeat(1_048_576 - 4)).repeat(4);
        let reads = |last: &str| {
            let text = format!(
                "n1.1.1 exec 2 kk none kk s1 7 {put}get kk ttl kk set k {last} any endless"
            );
            parse_batch(text.as_bytes()).is_ok()
        };
        assert!(reads("123"));
        assert!(!reads("1234"));
    }

    /// Each command and each key of a transaction is one, and a step that clears may be any number.
    #[test]
    fn a_batch_tells_how_many_keys_it_is_about() {
        for (text, keys) in [
            ("", 0),
            ("n1.1.1 put clear clear ; n1.1.2 session", 2),
            (
                "n1.1.1 exec 1 clear none 2 size delete clear ; n1.1.2 once 1 1 delete k",
                4,
            ),
            ("n1.1.1 put k v ; n1.1.2 exec 0 2 size clear", usize::MAX),
        ] {
            assert_eq!(Batch::read(text.as_bytes()).keys(), keys, "{text}");
        }
    }

    #[test]
    fn an_unreadable_text_is_a_batch_of_nothing() {
        let batch = Batch::read(b"n1.1.1 session ; rubbish");
        assert!(batch.commands().is_empty());
        assert!(batch.error().is_some());
        assert_ne!(batch.text_hash(), Batch::empty().text_hash());
        assert!(Batch::empty().error().is_none());
    }

    proptest! {
        #[test]
        fn every_batch_reads_back(batch in vec(any::numbered(), 0..6)) {
            let text = printed(&batch);
            prop_assert!(!text.iter().any(u8::is_ascii_control));
            prop_assert_eq!(parse_batch(&text).unwrap(), batch);
        }

        #[test]
        fn batches_are_joined_without_reading_them(
            left in vec(any::numbered(), 1..4),
            right in vec(any::numbered(), 1..4),
        ) {
            let mut text = printed(&left);
            push_separator(&mut text);
            text.extend_from_slice(&printed(&right));
            prop_assert_eq!(parse_batch(&text).unwrap(), [left, right].concat());
        }

        #[test]
        fn no_text_makes_the_reader_panic(text in vec(any::<u8>(), 0..60)) {
            let _ = parse_batch(&text);
        }

        /// Texts that are nearly right reach further than random bytes do.
        #[test]
        fn no_damage_makes_the_reader_panic(
            mut text in vec(any::numbered(), 1..4).prop_map(|batch| printed(&batch)),
            damage in vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
            cut in any::<prop::sample::Index>(),
        ) {
            for (at, byte) in damage {
                let at = at.index(text.len());
                text[at] = byte;
            }
            let _ = parse_batch(&text);
            let _ = parse_batch(&text[..cut.index(text.len())]);
        }
    }
}
