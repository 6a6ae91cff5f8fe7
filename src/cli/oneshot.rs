//! One request a command: `put get delete cas incr list`.
//!
//! Keys and values are the exact bytes of the arguments. Writes go through a session, so that one
//! that was sent to a second server is applied once all the same.

use std::io::{self, BufWriter, Write as _};

use super::flags;
use super::reach::Reach;
use super::style::{Cell, Style, table};
use super::{Failure, complain};
use crate::kv::command::{Bytes, Read, Write};
use crate::text::{self, Blanks};
use crate::wire::client::{Reply, Request};

/// What `put` takes.
#[derive(Debug, clap::Args)]
#[command(
    allow_negative_numbers = true,
    after_help = "\
Prints OK.

Examples:
  quince put apple 1.25
  quince put pear '2.10 per kilo'
  quince put note ''                   an empty value
  quince put -- -key --value           after --, nothing is a flag"
)]
pub(crate) struct Put {
    /// The key: 1 to 1,024 bytes, taken exactly
    #[arg(value_parser = flags::key())]
    key: Bytes,
    /// The value: 0 to 1,048,576 bytes, taken exactly
    #[arg(value_parser = flags::value())]
    value: Bytes,
    #[command(flatten)]
    reach: Reach,
}

/// What `get` takes.
#[derive(Debug, clap::Args)]
#[command(
    allow_negative_numbers = true,
    after_help = "\
Prints the bytes of the value as they are, and a line end. Without such a key: NOT_FOUND on
standard error, exit code 1.

Examples:
  quince get apple
  quince get --local apple             what one server knows by now, majority or not"
)]
pub(crate) struct Get {
    /// The key
    #[arg(value_parser = flags::key())]
    key: Bytes,
    /// Answer at once from what the server has learned, possibly stale
    #[arg(long)]
    local: bool,
    #[command(flatten)]
    reach: Reach,
}

/// What `delete` takes.
#[derive(Debug, clap::Args)]
#[command(
    allow_negative_numbers = true,
    after_help = "\
Prints OK. Without such a key: NOT_FOUND on standard error, exit code 1.

Example:
  quince delete apple"
)]
pub(crate) struct Delete {
    /// The key
    #[arg(value_parser = flags::key())]
    key: Bytes,
    #[command(flatten)]
    reach: Reach,
}

/// What `cas` takes.
#[derive(Debug, clap::Args)]
#[command(
    allow_negative_numbers = true,
    after_help = "\
Prints OK; or MISMATCH and the current value, exit code 1. Without such a key: NOT_FOUND on
standard error, exit code 1.

Example:
  quince cas apple 1.25 1.30           the new price, if nobody was faster"
)]
pub(crate) struct Cas {
    /// The key
    #[arg(value_parser = flags::key())]
    key: Bytes,
    /// What it must hold
    #[arg(value_parser = flags::value())]
    expected: Bytes,
    /// What it holds then
    #[arg(value_parser = flags::value())]
    new: Bytes,
    #[command(flatten)]
    reach: Reach,
}

/// What `incr` takes.
#[derive(Debug, clap::Args)]
#[command(
    allow_negative_numbers = true,
    after_help = "\
Prints the new number. A missing key counts as 0.

Examples:
  quince incr visits
  quince incr stock -5"
)]
pub(crate) struct Incr {
    /// The key
    #[arg(value_parser = flags::key())]
    key: Bytes,
    /// What to add: a 64-bit integer, may be negative
    #[arg(default_value_t = 1)]
    by: i64,
    #[command(flatten)]
    reach: Reach,
}

/// What `list` takes.
#[derive(Debug, clap::Args)]
#[command(
    allow_negative_numbers = true,
    after_help = "\
Prints a line 'key value' for each key, in byte order of the keys, quoted where the bytes would
not read back otherwise.

Examples:
  quince list
  quince list app                      keys that begin with app
  quince list --local | head -3"
)]
pub(crate) struct List {
    /// Only keys that begin so [default: all keys]
    #[arg(value_parser = flags::prefix())]
    prefix: Option<Bytes>,
    /// Answer at once from what the server has learned, possibly stale
    #[arg(long)]
    local: bool,
    #[command(flatten)]
    reach: Reach,
}

pub(crate) fn put(args: Put) -> Result<(), Failure> {
    let (key, value) = (args.key, args.value);
    write(&args.reach, Write::Put { key, value })
}

pub(crate) fn delete(args: Delete) -> Result<(), Failure> {
    write(&args.reach, Write::Delete { key: args.key })
}

pub(crate) fn cas(args: Cas) -> Result<(), Failure> {
    let (key, expected, new) = (args.key, args.expected, args.new);
    write(&args.reach, Write::Cas { key, expected, new })
}

pub(crate) fn incr(args: Incr) -> Result<(), Failure> {
    let (key, by) = (args.key, args.by);
    write(&args.reach, Write::Incr { key, by })
}

pub(crate) fn get(args: Get) -> Result<(), Failure> {
    read(&args.reach, args.local, Read::Get { key: args.key })
}

pub(crate) fn list(args: List) -> Result<(), Failure> {
    let prefix = args.prefix.unwrap_or_default();
    read(&args.reach, args.local, Read::List { prefix })
}

fn write(reach: &Reach, write: Write) -> Result<(), Failure> {
    print(reach.client().write(write)?.reply)
}

fn read(reach: &Reach, local: bool, read: Read) -> Result<(), Failure> {
    print(reach.client().ask(&Request::Read { local, read })?.reply)
}

/// Prints what a one-shot is for; the failure says what else there was.
fn print(reply: Reply) -> Result<(), Failure> {
    let stdout = io::stdout();
    let style = Style::of(&stdout);
    let mut out = BufWriter::new(stdout.lock());
    let done = match reply {
        Reply::Value(value) => {
            out.write_all(&value)?;
            out.write_all(b"\n")?;
            Ok(())
        }
        Reply::List(pairs) => {
            let row = |(key, value): (Bytes, Bytes)| {
                vec![
                    Cell::plain(token(&key, Blanks::None)),
                    Cell::plain(token(&value, Blanks::Inside)),
                ]
            };
            let rows: Vec<_> = pairs.into_iter().map(row).collect();
            out.write_all(table(style, &rows).as_bytes())?;
            Ok(())
        }
        Reply::Ok => {
            out.write_all(b"OK\n")?;
            Ok(())
        }
        mismatch @ Reply::Mismatch(_) => {
            writeln!(out, "{mismatch}")?;
            Err(Failure::No)
        }
        Reply::NotFound => {
            // The exit code says it too.
            let _ = writeln!(io::stderr(), "NOT_FOUND");
            Err(Failure::No)
        }
        Reply::Error(code, text) => {
            complain(&format!("{code} {text}"));
            Err(Failure::Told)
        }
        other => Err(Failure::Text(format!(
            "expected a reply to what was asked, found {other}: is that a Quince server?"
        ))),
    };
    out.flush()?;
    done
}

/// `bytes` as they stand in a reply: always valid text.
fn token(bytes: &[u8], blanks: Blanks) -> String {
    let mut out = Vec::new();
    text::write_token(&mut out, bytes, blanks);
    String::from_utf8_lossy(&out).into_owned()
}
