//! `quince torture`: real servers of this program under real faults, and the judgment of it.

use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use clap::builder::PossibleValue;

use super::figures::many;
use super::signal::interrupts;
use super::{Failure, complain};
use crate::check::STATES_MAX;
use crate::text;
use crate::torture::counts::Outcome;
use crate::torture::plan::Kind;
use crate::torture::{Options, Progress, Report, run as torture};

/// How often the progress is told.
const TELL_EVERY: Duration = Duration::from_secs(5);

/// The longest run: a history must fit into memory to be judged.
const MINUTES_MAX: f64 = 24.0 * 60.0;

/// What `torture` takes.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Starts a cluster of real 'quince server' processes on loopback, with a proxy in each link between
two of them, and concurrent clients; then lets waves of faults loose on it, drawn from the seed:

  kill-one, kill-minority, kill-all    kill -9, and a restart later
  restart                              SIGTERM, and a restart later
  freeze-one, freeze-minority          SIGSTOP, and SIGCONT later
  acceptors                            acceptors that fail, and recover later
  slow-disk                            disks of one, some or all that take 20 to 60 ms longer for a sync
  wipe, flip, flip-snapshot            kill -9; the data directory emptied, or a byte flipped in the log
                                       or in the newest snapshot; a restart later
  cut-link, split, hub, chain          links cut: of a pair, of a minority, in part (closed or silent)
  one-way, mute, deaf                  links that lose everything in one direction
  delay, close, hold                   slow links, links closed once, bytes delivered late

After each wave all is healed. Then every server must take a write and read it back, all must have
applied the same slots with the same hash, and the clients must get on, all within seconds. A server
that lost its memory must vote again by then; of such there is one at a time, and with it a minority
at most is down. The logs of the servers are kept small, so that snapshots are taken all the time. In
the end the recorded history of all clients must be linearizable, and no server may have logged an error.
Every kind of fault comes once before any comes twice; one that is never felt is an error too.

The seed repeats the plan of faults and what clients ask, not the moments of the machine. Ctrl-C ends
it early; what was recorded so far is judged all the same. In DIR are the logs and data of the
servers, the history (see 'quince check') and a journal of the faults.

Exit code 0 if all was as it must be; 1 if anything was not, with what was seen and DIR; 3 if it could
not begin.

Examples:
  quince torture                               one minute of everything
  quince torture --minutes 30 --seed 4711
  quince torture --only kill-all,hold --minutes 5")]
pub(crate) struct Args {
    /// How long faults go on: for one wave at least; parts of a minute are taken too
    #[arg(long, value_name = "N", default_value = "1", value_parser = minutes)]
    minutes: Duration,

    /// The seed of the plan [default: a random one]
    #[arg(long, value_name = "N")]
    seed: Option<u64>,

    /// How many servers: 3, 5, 7 or 9
    #[arg(long, value_name = "N", default_value = "5", value_parser = servers)]
    servers: u8,

    /// Where logs, data and history go: new or empty, and kept [default: a temporary directory,
    /// removed if all is well]
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,

    /// How many clients
    #[arg(long, value_name = "N", default_value_t = 16,
          value_parser = clap::value_parser!(u32).range(1..=1_000))]
    clients: u32,

    /// At most so many requests a second, of all clients together
    #[arg(long, value_name = "N", default_value_t = 500,
          value_parser = clap::value_parser!(u32).range(1..=100_000))]
    rate: u32,

    /// Only these kinds of faults, with commas between [default: all]
    #[arg(
        long,
        value_name = "KIND,...",
        value_delimiter = ',',
        hide_possible_values = true
    )]
    only: Vec<Kind>,
}

impl clap::ValueEnum for Kind {
    fn value_variants<'a>() -> &'a [Self] {
        Self::ALL
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        Some(PossibleValue::new(self.name()).help(self.text()))
    }
}

fn minutes(text: &str) -> Result<Duration, String> {
    let minutes = text.parse().ok();
    let minutes = minutes.filter(|minutes| *minutes > 0.0 && *minutes <= MINUTES_MAX);
    minutes.map_or_else(
        || {
            Err(format!(
                "expected minutes from above 0 to {MINUTES_MAX}, found '{text}'"
            ))
        },
        |minutes: f64| Ok(Duration::from_secs_f64(60.0 * minutes)),
    )
}

fn servers(text: &str) -> Result<u8, String> {
    let servers = text
        .parse()
        .ok()
        .filter(|servers| [3, 5, 7, 9].contains(servers));
    servers.ok_or_else(|| format!("expected 3, 5, 7 or 9 servers, found '{text}'"))
}

pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    let interrupted = interrupts().map_err(Failure::Text)?;
    let seed = args
        .seed
        .unwrap_or_else(|| u64::from(rand::random::<u32>()));
    let place = place(args.dir.as_deref(), seed)?;
    println_to_stdout(&again(args, seed))?;
    let options = Options {
        seed,
        servers: args.servers,
        lasts: args.minutes,
        place: place.clone(),
        clients: args.clients,
        rate: args.rate,
        kinds: if args.only.is_empty() {
            Kind::ALL.to_vec()
        } else {
            args.only.clone()
        },
        tell_every: TELL_EVERY,
    };
    // Whoever reads the progress no more still wants the cluster ended in order.
    let mut tell = |progress: &Progress<'_>| {
        let _ = println_to_stdout(&line_of(progress));
    };
    let began = Instant::now();
    let report = torture(&options, &interrupted, &mut tell);
    let report =
        report.map_err(|text| Failure::Found(format!("{text} (in {})", place.display())))?;
    let told = tell_all(&report, began.elapsed());
    if report.is_well() {
        if args.dir.is_none() {
            let _ = fs::remove_dir_all(&place);
        }
        return told;
    }
    println_to_stdout(&format!(
        "logs, data and history are in {}",
        place.display()
    ))?;
    told.and(Err(Failure::No))
}

/// The directory, which is made, and must be empty.
fn place(dir: Option<&Path>, seed: u64) -> Result<PathBuf, Failure> {
    let name = format!("quince-torture-{seed}-{}", std::process::id());
    let place = dir.map_or_else(|| std::env::temp_dir().join(name), Path::to_owned);
    let shown = place.display().to_string();
    let cannot = |error| Failure::Text(format!("cannot make {shown}: {error}"));
    fs::create_dir_all(&place).map_err(cannot)?;
    let mut entries = fs::read_dir(&place).map_err(cannot)?;
    if entries.next().is_some() {
        return Err(Failure::Text(format!(
            "expected an empty directory, found files in {shown}"
        )));
    }
    // Servers and the history are told the same place, wherever they run.
    place.canonicalize().map_err(cannot)
}

/// The first line: the seed, and the command that repeats its plan.
fn again(args: &Args, seed: u64) -> String {
    let mut line = format!(
        "torture: seed {seed}; the same plan again: quince torture --seed {seed} --servers {} \
         --clients {} --rate {} --minutes {}",
        args.servers,
        args.clients,
        args.rate,
        args.minutes.as_secs_f64() / 60.0
    );
    if !args.only.is_empty() {
        let names: Vec<_> = args.only.iter().map(|kind| kind.name()).collect();
        line = format!("{line} --only {}", names.join(","));
    }
    line
}

fn line_of(progress: &Progress<'_>) -> String {
    let Progress {
        after,
        counts,
        operations,
    } = progress;
    format!(
        "{:>6}s  {:>8} done {:>6} unknown {:>6} refused  {:>4} kills {:>4} freezes {:>4} partitions \
         {:>4} waves",
        after.as_secs(),
        operations.all(Outcome::Done),
        operations.all(Outcome::Unknown),
        operations.all(Outcome::Refused),
        counts.kills,
        counts.freezes,
        counts.partitions,
        counts.waves
    )
}

fn tell_all(report: &Report, took: Duration) -> Result<(), Failure> {
    println_to_stdout(&format!("\n{}\n{}", report.counts, report.operations))?;
    if report.interrupted {
        println_to_stdout("interrupted; judged as far as it came")?;
    }
    println_to_stdout(&judgment(report))?;
    match &report.failure {
        Some(failure) => complain(failure),
        None if report.is_well() => {
            println_to_stdout(&format!("all was well for {:.1} s", took.as_secs_f64()))?;
        }
        None => {}
    }
    Ok(())
}

fn judgment(report: &Report) -> String {
    let seconds = report.judged_in.as_secs_f64();
    let judged = match &report.judgment {
        Ok(judged) => judged,
        Err(error) => return format!("the history cannot be read: {error}"),
    };
    if let Some(found) = &judged.violation {
        return found.to_string().trim_end().to_owned();
    }
    let of = format!(
        "{} on {}",
        many(judged.operations as u64, "operation"),
        many(judged.keys as u64, "key")
    );
    match judged.undecided.first() {
        None => format!("linearizable: {of} in {seconds:.1} s"),
        Some(first) => format!(
            "undecided within {STATES_MAX} configurations a key: {}, {} first; {of} in {seconds:.1} s",
            many(judged.undecided.len() as u64, "key"),
            text::excerpt(first)
        ),
    }
}

fn println_to_stdout(text: &str) -> io::Result<()> {
    writeln!(io::stdout(), "{text}")
}
