//! `quince check FILE`: whether a recorded run is linearizable, and the `--history` flag that records.

use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use super::figures::many;
use super::{Failure, complain};
use crate::check::format::read;
use crate::check::{Begins, Report, STATES_MAX, check};
use crate::client::Recorder;
use crate::text;

/// What `check` takes.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
FILE is what --history of 'quince demo', 'quince shell' or 'quince bench' wrote. It is linearizable
if every operation can be given one moment between its call and its end such that a single map, doing
them in that order, gives all the answers. An operation without an answer may have been done at any
time after its call, or never; one that was refused (NOT_DONE) must never be seen. Everyone who writes
to the keys meanwhile must be recorded.

LIST and MGET are judged key by key, not as one moment; LOCAL reads promise nothing and are only
counted. If it is not linearizable, the fewest operations that clash are drawn.

Exit code 0 if it is linearizable, 1 if it is not, 3 if that could not be decided or FILE cannot be
read.

Examples:
  quince bench --op mixed --history run.history && quince check run.history
  grep ' c3.17 ' run.history     everything about one operation")]
pub(crate) struct Args {
    /// The recorded run
    #[arg(value_name = "FILE")]
    file: PathBuf,

    /// The store was empty when the recording began [default: the first answers tell what was there]
    #[arg(long)]
    from_empty: bool,

    /// Give a key up after looking at so many configurations
    #[arg(long, value_name = "N", default_value_t = STATES_MAX)]
    states: u64,
}

pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    let name = args.file.display();
    let bytes = fs::read(&args.file)
        .map_err(|error| Failure::Text(format!("cannot read {name}: {error}")))?;
    let recorded =
        read(&bytes).map_err(|error| Failure::Text(format!("{name} is no history: {error}")))?;
    if recorded.cut {
        complain(&format!(
            "{name}: the last line has no end and is left out: the recorder was stopped in it"
        ));
    }
    let begins = if args.from_empty {
        Begins::Empty
    } else {
        Begins::Unknown
    };
    let report = check(&recorded.history, begins, args.states);
    io::stdout().write_all(text_of(&report, args.states).as_bytes())?;
    if report.violation.is_some() {
        Err(Failure::No)
    } else if report.is_linearizable() {
        Ok(())
    } else {
        Err(Failure::Told)
    }
}

fn text_of(report: &Report, states: u64) -> String {
    let mut lines = match &report.violation {
        Some(found) => vec![found.to_string().trim_end().to_owned()],
        None if report.undecided.is_empty() => vec![format!(
            "linearizable: {} on {}, {} open",
            many(report.operations as u64, "operation"),
            many(report.keys as u64, "key"),
            report.open
        )],
        None => Vec::new(),
    };
    if let Some(first) = report.undecided.first() {
        let undecided = many(report.undecided.len() as u64, "key");
        let first = text::excerpt(first);
        lines.push(format!(
            "undecided within {states} configurations a key: {undecided}, {first} first; --states takes more"
        ));
    }
    if report.refused > 0 {
        let refused = many(report.refused as u64, "refused operation");
        lines.push(format!("{refused} among them, never to be seen"));
    }
    if report.local > 0 {
        let local = many(report.local as u64, "LOCAL read");
        lines.push(format!("not judged: {local}"));
    }
    lines.push(String::new());
    lines.join("\n")
}

/// The flag of every command whose run can be recorded.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Record {
    /// Record every operation into this file, in place of what it holds, for 'quince check'
    #[arg(long = "history", value_name = "FILE")]
    file: Option<PathBuf>,
}

impl Record {
    /// The recorder, if one is wanted.
    pub(crate) fn start(&self) -> Result<Option<Recorder>, Failure> {
        let create = |file: &Path| {
            Recorder::create(file)
                .map_err(|error| Failure::Text(format!("cannot write {}: {error}", file.display())))
        };
        self.file.as_deref().map(create).transpose()
    }

    /// Fails if the recording is not whole.
    pub(crate) fn finish(recorder: Option<&Recorder>) -> Result<(), Failure> {
        recorder
            .map_or(Ok(()), Recorder::finish)
            .map_err(|error| Failure::Text(format!("the history is not whole: {error}")))
    }
}
