//! `quince log DIR`: what a server's log holds, a line a record.

use std::io::{self, BufWriter, IsTerminal as _};
use std::path::PathBuf;

use super::{Failure, complain};
use crate::disk::LogError;
use crate::disk::check::print_check;
use crate::disk::dir::FsDir;
use crate::disk::print::{Ending, print_log};

/// What `log` takes.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Prints each record as 'FILE OFFSET SEQ RECORD': the segment, the byte in it, the number of the
record, and what it says. It only reads; a server may be running on the directory meanwhile.

With --check it tells instead what state the log and the snapshots are in: a line for each damage,
each segment, what the log carries on, each snapshot; the last line is 'sound' or 'N damaged places'.

Exit code 0 if all is whole. An unfinished write at the end is noted, and is nothing to worry about:
a crash leaves one, and so does a server that is writing right now. Exit code 1 if anything is
damaged, 3 if nothing could be read; what follows the damage is printed too. A server with a damaged log starts, but does
not vote until a majority of the others has told it what it may have forgotten.

Examples:
  quince log data/1
  quince log data/1 | grep ' s17 '     everything about one slot
  quince log data/1 --check            is anything damaged?")]
pub(crate) struct Args {
    /// The data directory of a server
    #[arg(value_name = "DIR")]
    dir: PathBuf,

    /// Cut records longer than this many characters [default: 100 on a terminal, else none]
    #[arg(long, value_name = "COUNT")]
    width: Option<usize>,

    /// Tell what state the log and the snapshots are in, instead of what they hold
    #[arg(long, conflicts_with = "width")]
    check: bool,
}

/// What most terminals show of a record in one or two lines.
const TERMINAL_WIDTH: usize = 100;

pub(crate) fn run(args: Args) -> Result<(), Failure> {
    let path = args.dir.display().to_string();
    let dir = FsDir::open(args.dir)
        .map_err(|error| Failure::Text(format!("cannot open {path}: {error}")))?;
    let stdout = io::stdout();
    let default = stdout.is_terminal().then_some(TERMINAL_WIDTH);
    let mut out = BufWriter::new(stdout.lock());
    if args.check {
        return match print_check(&dir, &mut out).map_err(failure)? {
            0 => Ok(()),
            _ => Err(Failure::No),
        };
    }
    let Ending { cut, damage, .. } =
        print_log(&dir, args.width.or(default), &mut out).map_err(failure)?;
    if let Some(cut) = cut {
        complain(&cut.to_string());
    }
    for damage in &damage {
        complain(&damage.to_string());
    }
    if damage.is_empty() {
        Ok(())
    } else {
        Err(Failure::No)
    }
}

fn failure(error: LogError) -> Failure {
    match error {
        LogError::Output(error) => Failure::Output(error),
        error => Failure::Text(error.to_string()),
    }
}
