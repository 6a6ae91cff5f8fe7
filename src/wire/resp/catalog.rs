//! What `COMMAND` tells: the table of commands, in the form that client libraries expect.

#![allow(
    clippy::unnecessary_wraps,
    reason = "the table calls all readers alike, also those that take everything"
)]

use super::command::{Request, RequestError};
use super::frame::Arguments;
use super::reply::Reply;
use super::table::{Keys, ROWS, Row, find, read_subcommand};
use crate::kv::command::Bytes;

/// The version of Quince that has had all commands first.
const SINCE: &str = "0.1.0";

/// About how many commands one can ask at once: an answer is a hundred times as long as a name.
const NAMES_MAX: usize = 256;

/// A question about the commands. Answers are long beside their questions, so each is made when it is
/// due and not before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Catalog {
    /// How many there are.
    Count,
    /// Their names.
    Names,
    /// How these are written; all, where none is named.
    Forms(Vec<Bytes>),
    /// What these are for; all, where none is named.
    Docs(Vec<Bytes>),
}

/// Reads `COMMAND`, alone or with a subcommand.
pub(super) fn command(row: &Row, arguments: Arguments<'_>) -> Result<Request, RequestError> {
    if arguments.len() == 1 {
        return Ok(Request::Catalog(Catalog::Forms(Vec::new())));
    }
    read_subcommand(row, arguments)
}

pub(super) fn subcommand(row: &Row, arguments: Arguments<'_>) -> Result<Request, RequestError> {
    if arguments.len() > 2 + NAMES_MAX {
        return Err(RequestError::new(format_args!(
            "expected at most {NAMES_MAX} names of commands"
        )));
    }
    let names = || arguments.skip(2).iter().map(Bytes::from).collect();
    Ok(Request::Catalog(match row.name {
        "count" => Catalog::Count,
        "docs" => Catalog::Docs(names()),
        "info" => Catalog::Forms(names()),
        // `list`
        _ => Catalog::Names,
    }))
}

impl Catalog {
    /// The answer.
    pub fn reply(&self) -> Reply {
        let name = |row: &Row| Reply::text(row.name);
        match self {
            Self::Count => Reply::count(ROWS.len()),
            Self::Names => Reply::Array(ROWS.iter().map(name).collect()),
            Self::Forms(names) if names.is_empty() => {
                Reply::Array(ROWS.iter().map(|row| form(row, row.name)).collect())
            }
            Self::Forms(names) => {
                let form = |name: &Bytes| find(name).map_or(Reply::Null, |row| form(row, row.name));
                Reply::Array(names.iter().map(form).collect())
            }
            Self::Docs(names) if names.is_empty() => docs(ROWS.iter()),
            Self::Docs(names) => docs(names.iter().filter_map(|name| find(name))),
        }
    }
}

/// The ten things that `COMMAND INFO` tells of a command: its name, its arity, its flags, the places of
/// its first key, its last and the step between them; then three lists that nobody has asked for here,
/// and its subcommands.
fn form(row: &Row, name: &str) -> Reply {
    let words = |words: &[&'static str]| {
        Reply::Array(words.iter().map(|&word| Reply::Simple(word)).collect())
    };
    let (first, last, step) = match row.keys {
        Keys::None => (0, 0, 0),
        Keys::First => (1, 1, 1),
        Keys::All => (1, -1, 1),
        Keys::Odd => (1, -1, 2),
    };
    let sub = |sub: &Row| form(sub, &format!("{}|{}", row.name, sub.name));
    let mut fields = vec![
        Reply::text(name),
        Reply::Integer(row.arity.into()),
        words(row.flags),
        Reply::Integer(first),
        Reply::Integer(last),
        Reply::Integer(step),
    ];
    fields.extend(std::iter::repeat_n(words(&[]), 3));
    fields.push(Reply::Array(row.subcommands.iter().map(sub).collect()));
    Reply::Array(fields)
}

fn docs<'a>(rows: impl Iterator<Item = &'a Row>) -> Reply {
    Reply::Map(rows.map(|row| (Reply::text(row.name), doc(row))).collect())
}

fn doc(row: &Row) -> Reply {
    let field = |name: &str, text: &str| (Reply::text(name), Reply::text(text));
    let mut fields = vec![
        field("summary", row.summary),
        field("since", SINCE),
        field("group", row.group),
    ];
    if !row.subcommands.is_empty() {
        let sub = |sub: &Row| {
            let name = format!("{}|{}", row.name, sub.name);
            (Reply::text(name), doc(sub))
        };
        let subs = row.subcommands.iter().map(sub).collect();
        fields.push((Reply::text("subcommands"), Reply::Map(subs)));
    }
    Reply::Map(fields)
}
