//! `quince simulate`: cluster lives of the production code on a virtual network, disk and clock.

use std::io::{self, BufWriter, Write as _};
use std::num::NonZeroUsize;
use std::ops::RangeInclusive;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::{Failure, complain};
use crate::sim::{self, Counts, Life, Profile, Seen, Settings, live, minimise};

/// How often the progress is told.
const TELL_EVERY: Duration = Duration::from_secs(5);

/// What `simulate` takes.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
A life is a cluster of three to seven servers from its first start on: the very code that a server
runs, with clients, crashes, broken disks and hostile links, all drawn from one seed. Every step is
checked: the invariants of Multi-Paxos, what clients were told, and that everything goes on once the
faults are over. The same seed is the same life, byte for byte, on every machine.

Profiles:
  calm        no faults
  lossy       messages lost, doubled, late, out of order; links that close and open again
  crashy      power losses, kills, frozen processes, failing acceptors, skewed clocks
  partitions  links cut one way, both ways, in part; messages held and delivered late
  disks       slow, full and failing disks, torn writes, flipped bytes
  all         everything

Prints what was seen. At the first failure prints the seed, what was wrong and the command that
replays it with as few faults as were found to be needed, and exits with 1.

Examples:
  quince simulate                        1,000 lives of all faults
  quince simulate --seeds 1..100000 --jobs 8
  quince simulate --profile disks --seeds 1..5000
  quince simulate --seed 4711            one life, told line by line
  quince simulate --seed 4711 | grep ' s17 '")]
pub(crate) struct Args {
    /// Which seeds, from the first to the last
    #[arg(long, value_name = "FIRST..LAST", default_value = "1..1000")]
    seeds: Seeds,

    /// Live this one, and tell what happens
    #[arg(long, value_name = "SEED", conflicts_with = "seeds")]
    seed: Option<u64>,

    /// Which faults: calm, lossy, crashy, partitions, disks or all
    #[arg(long, value_name = "NAME", default_value = "all")]
    profile: Profile,

    /// Leave these faults of the life's plan out, by number (with --seed)
    #[arg(long, value_name = "N,N", value_delimiter = ',', requires = "seed")]
    without: Vec<usize>,

    /// How many lives at a time [default: as many as there are processors]
    #[arg(long, value_name = "COUNT")]
    jobs: Option<NonZeroUsize>,
}

/// Some seeds in a row.
#[derive(Debug, Clone)]
struct Seeds(RangeInclusive<u64>);

impl FromStr for Seeds {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let expected = || format!("expected two seeds such as 1..10000, found {text:?}");
        let (first, last) = text.split_once("..").ok_or_else(expected)?;
        let last = last.strip_prefix('=').unwrap_or(last);
        let number = |text: &str| text.parse::<u64>().map_err(|_| expected());
        let (first, last) = (number(first)?, number(last)?);
        if first > last {
            return Err(expected());
        }
        Ok(Self(first..=last))
    }
}

pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    // A panic in a life is a result, and told as one.
    std::panic::set_hook(Box::new(|_| {}));
    match args.seed {
        Some(seed) => replay(seed, args),
        None => many(args),
    }
}

fn replay(seed: u64, args: &Args) -> Result<(), Failure> {
    let mut settings = Settings::new(seed, args.profile);
    settings.trace = true;
    settings.without.clone_from(&args.without);
    let life = live(&settings);
    let mut out = BufWriter::new(io::stdout().lock());
    for (number, fault) in life.plan.iter().enumerate() {
        let left_out = settings.without.contains(&number);
        let note = if left_out { " (left out)" } else { "" };
        writeln!(out, "fault {number}{note}: {fault}")?;
    }
    out.write_all(life.trace.as_bytes())?;
    write!(out, "\n{}", life.counts)?;
    out.flush()?;
    drop(out);
    match life.failure {
        None => Ok(()),
        Some(failure) => {
            tell(seed, &failure);
            Err(Failure::No)
        }
    }
}

/// What all threads share.
struct Shared {
    next: AtomicU64,
    lived: AtomicU64,
    stop: AtomicBool,
    sums: Mutex<Sums>,
}

#[derive(Default)]
struct Sums {
    counts: Counts,
    virtual_us: u64,
    failed: Option<(Settings, Life)>,
}

fn many(args: &Args) -> Result<(), Failure> {
    let (first, last) = (*args.seeds.0.start(), *args.seeds.0.end());
    let processors = || std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
    let jobs = args.jobs.map_or_else(processors, NonZeroUsize::get);
    let shared = Arc::new(Shared {
        next: AtomicU64::new(first),
        lived: AtomicU64::new(0),
        stop: AtomicBool::new(false),
        sums: Mutex::new(Sums::default()),
    });
    let began = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..jobs {
            scope.spawn(|| work(args.profile, last, &shared));
        }
        tell_progress(&shared, last - first + 1, began);
    });
    let lived = shared.lived.load(Ordering::Relaxed);
    let mut sums = shared.sums.lock();
    let seconds = began.elapsed().as_secs_f64();
    if let Some((settings, life)) = sums.failed.take() {
        return Err(told_failure(&settings, &life));
    }
    io::stdout().write_all(summary(&sums, lived, seconds).as_bytes())?;
    let broken = args.profile.broken_promises(&sums.counts, lived);
    if broken.is_empty() {
        return Ok(());
    }
    let broken = broken.join("; ");
    Err(Failure::Found(format!(
        "the faults that profile {} promises did not come: {broken}",
        args.profile
    )))
}

fn work(profile: Profile, last: u64, shared: &Shared) {
    let mut sums = Sums::default();
    while !shared.stop.load(Ordering::Relaxed) {
        let seed = shared.next.fetch_add(1, Ordering::Relaxed);
        if seed > last {
            break;
        }
        let settings = Settings::new(seed, profile);
        let life = live(&settings);
        shared.lived.fetch_add(1, Ordering::Relaxed);
        sums.counts.add(&life.counts);
        sums.virtual_us += life.lasted;
        if life.failure.is_some() {
            shared.stop.store(true, Ordering::Relaxed);
            sums.failed = Some((settings, life));
        }
    }
    let mut all = shared.sums.lock();
    all.counts.add(&sums.counts);
    all.virtual_us += sums.virtual_us;
    // Of several failures that of the lowest seed.
    let seed_of = |failed: &Option<(Settings, Life)>| failed.as_ref().map(|(s, _)| s.seed);
    if sums.failed.is_some()
        && seed_of(&all.failed).is_none_or(|seed| Some(seed) > seed_of(&sums.failed))
    {
        all.failed = sums.failed;
    }
}

fn tell_progress(shared: &Shared, seeds: u64, began: Instant) {
    let mut told = Instant::now();
    loop {
        std::thread::sleep(Duration::from_millis(20));
        let lived = shared.lived.load(Ordering::Relaxed);
        if lived >= seeds || shared.stop.load(Ordering::Relaxed) {
            return;
        }
        if told.elapsed() >= TELL_EVERY {
            told = Instant::now();
            #[allow(clippy::cast_precision_loss, reason = "a rate for people")]
            let rate = lived as f64 / began.elapsed().as_secs_f64();
            complain(&format!("{lived} of {seeds} lives, {rate:.0} a second"));
        }
    }
}

#[allow(clippy::cast_precision_loss, reason = "rates for people")]
fn summary(sums: &Sums, lived: u64, seconds: f64) -> String {
    let rate = lived as f64 / seconds.max(1e-6);
    let hours = sums.virtual_us as f64 / 3.6e9;
    let operations = sums.counts.of(Seen::Operations) / lived.max(1);
    format!(
        "{lived} lives without a failure in {seconds:.1} s, {rate:.0} a second; \
         {hours:.1} hours of virtual time, {operations} operations a life\n{}",
        sums.counts
    )
}

fn told_failure(settings: &Settings, life: &Life) -> Failure {
    let Some(failure) = &life.failure else {
        return Failure::No;
    };
    tell(settings.seed, failure);
    complain(&format!("replay it: {}", settings.command()));
    let shortest = minimise(settings);
    let (all, left) = (life.plan.len(), life.plan.len() - shortest.without.len());
    Failure::Found(format!(
        "{left} of its {all} faults are needed: {}",
        shortest.command()
    ))
}

/// Where and why a life failed; below it what is drawn, if anything.
fn tell(seed: u64, failure: &sim::Failure) {
    let (step, ms) = (failure.step, failure.at / 1_000);
    let mut lines = failure.text.lines();
    let first = lines.next().unwrap_or_default();
    complain(&format!(
        "seed {seed} failed at step {step}, {ms} ms: {first}"
    ));
    for line in lines {
        let line = line.replace(char::is_control, " ");
        // Where it cannot be told, the exit code still says it.
        let _ = writeln!(io::stderr(), "{line}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seeds_are_two_numbers_the_first_not_above_the_last() {
        let range = |text: &str| text.parse::<Seeds>().map(|seeds| seeds.0);
        assert_eq!(range("1..10000"), Ok(1..=10_000));
        assert_eq!(range("7..=7"), Ok(7..=7));
        for wrong in ["", "5", "2..1", "a..3", "1-3"] {
            let error = range(wrong).unwrap_err();
            assert_eq!(
                error,
                format!("expected two seeds such as 1..10000, found {wrong:?}")
            );
        }
    }

    #[test]
    fn profiles_are_known_by_name() {
        for profile in Profile::ALL {
            assert_eq!(profile.name().parse(), Ok(profile));
        }
        let error = "wild".parse::<Profile>().unwrap_err();
        assert!(error.starts_with("expected calm, lossy"), "{error}");
    }
}
