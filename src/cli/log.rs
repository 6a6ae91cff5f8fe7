//! `quince log DIR`: what a server's log holds, a line a record.

use std::io::{self, BufWriter, IsTerminal as _};
use std::path::PathBuf;

use super::{Failure, complain};
use crate::disk::LogError;
use crate::disk::dir::FsDir;
use crate::disk::print::{Ending, print_log};

/// What `log` takes.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Prints each record as 'FILE OFFSET SEQ RECORD': the segment, the byte in it, the number of the
record, and what it says. It only reads; a server may be running on the directory meanwhile.

Exit code 0 if the log is whole. An unfinished write at its end is noted, and is nothing to worry
about: a crash leaves one, and so does a server that is writing right now. Exit code 1 if the log is
damaged; what comes before the damage is printed.

Examples:
  quince log data/1
  quince log data/1 | grep ' s17 '     everything about one slot")]
pub(crate) struct Args {
    /// The data directory of a server
    #[arg(value_name = "DIR")]
    dir: PathBuf,

    /// Cut records longer than this many characters [default: 100 on a terminal, else none]
    #[arg(long, value_name = "COUNT")]
    width: Option<usize>,
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
    match print_log(&dir, args.width.or(default), &mut out) {
        Ok(Ending::Whole { .. }) => Ok(()),
        Ok(Ending::Torn(cut)) => {
            complain(&cut.to_string());
            Ok(())
        }
        Err(LogError::Output(error)) => Err(Failure::Output(error)),
        Err(error) => Err(Failure::Text(error.to_string())),
    }
}
