//! One request a command: `put get delete cas incr list`.
//!
//! Keys and values are the exact bytes of the arguments. Writes go through a session, so that one
//! that was sent to a second server is applied once all the same.

use std::io::{self, BufWriter, StdoutLock, Write as _};

use super::flags;
use super::reach::Reach;
use super::style::{Cell, Style, table};
use super::{Failure, complain};
use crate::client::ListError;
use crate::kv::command::{self, Bytes, Read, Write};
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
not read back otherwise. All of it is of one moment.

Examples:
  quince list
  quince list app                      keys that begin with app
  quince list app --from apple --limit 100
  quince list --local | head -3"
)]
pub(crate) struct List {
    /// Only keys that begin so [default: all keys]
    #[arg(value_parser = flags::prefix())]
    prefix: Option<Bytes>,
    /// Only keys from this one on, itself included
    #[arg(long, value_name = "KEY", value_parser = flags::key())]
    from: Option<Bytes>,
    /// The first of them, so many at most
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    limit: Option<u64>,
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
    let list = command::List {
        prefix: args.prefix.unwrap_or_default(),
        from: args.from,
        limit: args.limit,
    };
    let mut rows = Rows {
        out: io::stdout().lock(),
        waiting: Vec::new(),
        bytes: 0,
    };
    let told = args
        .reach
        .client()
        .list(args.local, list, |key, value| rows.push(&key, &value));
    match told {
        Ok(None) => Ok(rows.print()?),
        Ok(Some(reply)) => print(reply),
        Err(ListError::NotBegun(error)) => Err(error.into()),
        Err(ListError::Refused(error)) => Err(error.into()),
        Err(error @ ListError::BrokeOff { .. }) => {
            rows.print()?;
            Err(Failure::Text(error.to_string()))
        }
    }
}

/// A list on its way to standard output, which is never held as a whole.
struct Rows {
    out: StdoutLock<'static>,
    waiting: Vec<Vec<Cell>>,
    bytes: usize,
}

impl Rows {
    fn push(&mut self, key: &[u8], value: &[u8]) -> io::Result<()> {
        let (key, value) = (token(key, Blanks::None), token(value, Blanks::Inside));
        self.bytes += key.len() + value.len();
        self.waiting
            .push(vec![Cell::plain(key), Cell::plain(value)]);
        if self.bytes < ROWS_BYTES_MAX && self.waiting.len() < ROWS_MAX {
            return Ok(());
        }
        self.print()
    }

    fn print(&mut self) -> io::Result<()> {
        let text = table(Style::of(&self.out), &self.waiting);
        self.waiting.clear();
        self.bytes = 0;
        self.out.write_all(text.as_bytes())?;
        self.out.flush()
    }
}

/// So many rows of a list are printed together at most, or fewer when they have as many bytes: they share
/// the width of a column on a terminal.
const ROWS_MAX: usize = 1_000;

/// See [`ROWS_MAX`]; one row more may be in it.
const ROWS_BYTES_MAX: usize = 256 << 10;

fn write(reach: &Reach, write: Write) -> Result<(), Failure> {
    print(reach.client().write(write)?.reply)
}

fn read(reach: &Reach, local: bool, read: Read) -> Result<(), Failure> {
    print(reach.client().ask(&Request::Read { local, read })?.reply)
}

/// Prints what a one-shot is for; the failure says what else there was.
fn print(reply: Reply) -> Result<(), Failure> {
    let stdout = io::stdout();
    let mut out = BufWriter::new(stdout.lock());
    let done = match reply {
        Reply::Value(value) => {
            out.write_all(&value)?;
            out.write_all(b"\n")?;
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
