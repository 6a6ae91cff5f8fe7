//! `quince bench`: how much a cluster does, how fast it answers, and for how long it is silent.
//!
//! | file | holds |
//! | --- | --- |
//! | `load` | one client: a closed loop of batches |
//! | `timeline` | when successes happened, over all clients; gaps |
//! | `fault` | kills or freezes the leader half-way |
//! | `report` | the figures, for people and as JSON |
//!
//! What each figure means is written for users in the text of `--help`, below; a figure that cannot
//! be explained there in a line is not printed. Load and servers share a machine as a rule, so the
//! figures are of both together.

mod fault;
mod load;
mod report;
mod timeline;

use std::io::{self, IsTerminal, Write as _};
use std::net::{SocketAddr, ToSocketAddrs};
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError};
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

use self::fault::{Fault, Strike};
use self::load::{Client, Live, Op, Results, Run};
use self::report::Report;
use self::timeline::Timeline;
use super::Failure;
use super::check::Record;
use super::figures::millis;
use super::flags::{duration, positive_duration};
use super::reach::Servers;
use super::signal::{Pids, interrupts};
use crate::client::Recorder;
use crate::client::peek::Peeker;
use crate::kv::command::VALUE_BYTES_MAX;

/// The most clients: a thread and a connection each.
const CLIENTS_MAX: i64 = 4_096;
/// The most requests of one write.
const PIPELINE_MAX: i64 = 4_096;
/// The most bytes of values in one write; every client holds so many.
const BATCH_BYTES_MAX: usize = 16 << 20;
/// The longest run, in seconds.
const SECONDS_MAX: i64 = 86_400;

/// A client thread needs little: its buffers are on the heap.
const STACK_BYTES: usize = 256 * 1_024;

const MEANING: &str = "\
Every client sends plain lines over its own connection and waits for the replies before it sends
again. Clients are dealt out to all servers in turn. The keys are bench-0, bench-1 and so on.

What the figures mean:
  rate         successes a second: replies that fit their request (OK to PUT; VALUE or NOT_FOUND to
               GET) which arrived in the measured time, which starts after --warm-up
  latency      of successes: from the write of its batch to the read that brought the reply. A waiting
               client sends nothing, so an outage shows as few long latencies; look at the gap
  errors       ERROR replies by code; lost (no reply when the connection ended), timed-out (nothing
               came for --timeout), each counted once a request; no-connection (one an attempt);
               strange-reply. After each but the first the client goes to the next server, at once
               while there is one it has not tried, then with pauses of up to 50 ms
  longest gap  between two successes in a row, whichever clients they were of; of writes alone if
               there are any. Exact to 0.1 ms. The start and the end of the measured time count as
               ends, so an outage that lasts to the end is in it
  gap after    with --kill-leader or --freeze-leader: the longest gap that ends after the signal was
               sent, half-way through the measured time

Before reads are measured, every key is put once. With --history every value is another one: it begins
with its client and number, and is longer than --value-bytes if that is too short for these. Recording
costs a system call a batch.

Exit code 0 if there was any success and the fault, if any, was done; 1 otherwise.

Examples:
  quince bench --clients 64 --op mixed
  quince bench --clients 1 --seconds 30 --json
  quince bench --kill-leader --pids 1=4711,2=4712,3=4713,4=4714,5=4715";

/// What `bench` takes.
#[derive(Debug, clap::Args)]
#[command(after_help = MEANING)]
pub(crate) struct Args {
    /// How many clients, a connection each
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..=CLIENTS_MAX))]
    clients: u32,

    /// How long to measure
    #[arg(long, value_name = "S", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=SECONDS_MAX))]
    seconds: u32,

    /// What to ask for
    #[arg(long, value_enum, default_value_t = Op::Put)]
    op: Op,

    /// How many different keys, chosen at random
    #[arg(long, value_name = "N", default_value_t = 1_000, value_parser = clap::value_parser!(u64).range(1..=100_000_000))]
    keys: u64,

    /// The size of each value
    #[arg(long, value_name = "N", default_value_t = 64)]
    value_bytes: usize,

    /// How many requests a client sends in one write before it waits for their replies
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=PIPELINE_MAX))]
    pipeline: u32,

    #[command(flatten)]
    servers: Servers,

    #[command(flatten)]
    record: Record,

    /// How long a client waits for a connection or a reply before it goes to the next server
    #[arg(long, value_name = "TIME", default_value = "500ms", value_parser = positive_duration)]
    timeout: Duration,

    /// How long to load before measuring
    #[arg(long, value_name = "TIME", default_value = "500ms", value_parser = duration)]
    warm_up: Duration,

    /// Kill the leader half-way (SIGKILL; it stays dead)
    #[arg(long, requires = "pids", conflicts_with = "freeze_leader")]
    kill_leader: bool,

    /// Freeze the leader half-way (SIGSTOP; it goes on at the end)
    #[arg(long, requires = "pids")]
    freeze_leader: bool,

    /// The process of each server (`./run.sh servers` prints them)
    #[arg(long, value_name = "1=PID,...")]
    pids: Option<Pids>,

    /// Print one JSON object and nothing else on standard output
    #[arg(long)]
    json: bool,
}

impl Args {
    fn fault(&self) -> Option<(Fault, &Pids)> {
        let fault = match (self.kill_leader, self.freeze_leader) {
            (true, _) => Fault::Kill,
            (_, true) => Fault::Freeze,
            _ => return None,
        };
        self.pids.as_ref().map(|pids| (fault, pids))
    }

    /// The flags that fit alone but not together, or one line that says why not.
    fn check(&self) -> Result<(), String> {
        if self.value_bytes > VALUE_BYTES_MAX {
            return Err(format!(
                "expected --value-bytes of at most {VALUE_BYTES_MAX}, found {}",
                self.value_bytes
            ));
        }
        let batch_bytes = self.value_bytes * self.pipeline as usize;
        if batch_bytes > BATCH_BYTES_MAX {
            return Err(format!(
                "expected --pipeline times --value-bytes of at most {BATCH_BYTES_MAX}, \
                 found {batch_bytes}"
            ));
        }
        Ok(())
    }

    /// All that the clients of one run share.
    fn to_run(
        &self,
        servers: Vec<SocketAddr>,
        op: Op,
        measured: Range<Duration>,
        recorder: Option<&Recorder>,
    ) -> Run {
        Run {
            recorder: recorder.cloned(),
            servers,
            op,
            keys: self.keys,
            value: value(self.value_bytes),
            pipeline: self.pipeline as usize,
            timeout: self.timeout,
            timeline: Timeline::new(measured.end),
            measured,
            start: Instant::now(),
            stop: AtomicBool::new(false),
        }
    }
}

/// A value of so many bytes: random letters, so that nothing on the way can make it smaller.
fn value(bytes: usize) -> Vec<u8> {
    if bytes == 0 {
        return b"\"\"".to_vec();
    }
    let mut rng = SmallRng::seed_from_u64(1);
    (0..bytes).map(|_| rng.random_range(b'a'..=b'z')).collect()
}

pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    args.check().map_err(Failure::Usage)?;
    let recorder = args.record.start()?;
    let report = measure(args, recorder.as_ref()).map_err(Failure::Text)?;
    Record::finish(recorder.as_ref())?;
    let text = if args.json {
        report.json()
    } else {
        report.text()
    };
    io::stdout().write_all(text.as_bytes())?;
    match report.problem {
        None => Ok(()),
        Some(text) => Err(Failure::Text(text)),
    }
}

fn measure(args: &Args, recorder: Option<&Recorder>) -> Result<Report, String> {
    let names = args.servers.addresses();
    let servers = resolve(&names)?;
    let mut peekers: Vec<Peeker> = names
        .iter()
        .map(|server| Peeker::new(server.clone(), args.timeout))
        .collect();
    if peekers.iter_mut().all(|peeker| peeker.peek().is_none()) {
        return Err(format!(
            "no server answered (tried {}): is the cluster running? try ./run.sh servers",
            names.join(", ")
        ));
    }
    if let Some((_, pids)) = args.fault() {
        pids.check()?;
    }
    // A frozen leader must be thawed before the process ends.
    let interrupted = interrupts()?;
    if args.op.reads() {
        fill(args, &servers, &interrupted, recorder)?;
    }

    let measured = args.warm_up..args.warm_up + Duration::from_secs(args.seconds.into());
    let run = args.to_run(servers, args.op, measured, recorder);
    let (results, watched) = load(args, &run, &mut peekers, &interrupted);
    let (strike, problem) = watched.strike.map_or_else(
        |problem| (None, Some(problem)),
        |strike| (strike.map(Strike::end), None),
    );
    let problem = problem
        .or_else(|| watched.interrupted.then(|| "interrupted".into()))
        .or_else(|| (results.latencies.is_empty()).then(|| "not one success".into()));
    Ok(Report::new(
        args,
        &run,
        watched.ended,
        results,
        strike,
        problem,
    ))
}

fn resolve(servers: &[String]) -> Result<Vec<SocketAddr>, String> {
    let resolve = |server: &String| {
        let mut found = server
            .to_socket_addrs()
            .map_err(|error| format!("cannot find {server}: {error}"))?;
        found
            .next()
            .ok_or_else(|| format!("cannot find {server}: the name stands for no address"))
    };
    servers.iter().map(resolve).collect()
}

/// How long all keys may take to be put, beside a time for each of them.
const FILL_TIME_MIN: Duration = Duration::from_secs(30);

/// Puts every key once, with all clients.
fn fill(
    args: &Args,
    servers: &[SocketAddr],
    interrupted: &Receiver<()>,
    recorder: Option<&Recorder>,
) -> Result<(), String> {
    let run = args.to_run(
        servers.to_vec(),
        Op::Put,
        Duration::ZERO..Duration::ZERO,
        recorder,
    );
    let (done, all_done) = crossbeam_channel::bounded::<()>(0);
    let in_time = FILL_TIME_MIN + Duration::from_millis(args.keys);
    thread::scope(|scope| {
        for number in 0..args.clients {
            let (run, done) = (&run, done.clone());
            let client = move || {
                let live = Live::default();
                let step = args.clients as usize;
                Client::new(run, &live, number as usize).fill(number.into(), step);
                drop(done);
            };
            spawn(scope, client);
        }
        drop(done);
        // The channel is closed once the last client has dropped its end.
        let end = crossbeam_channel::select! {
            recv(all_done) -> _ => Ok(()),
            recv(interrupted) -> _ => Err("interrupted".into()),
            default(in_time) => Err(format!("could not put {} keys within {in_time:?}", args.keys)),
        };
        run.stop.store(true, Relaxed);
        end
    })
}

fn spawn<'scope, T: Send + 'scope>(
    scope: &'scope thread::Scope<'scope, '_>,
    client: impl FnOnce() -> T + Send + 'scope,
) -> thread::ScopedJoinHandle<'scope, T> {
    let builder = thread::Builder::new()
        .name("bench-client".into())
        .stack_size(STACK_BYTES);
    builder
        .spawn_scoped(scope, client)
        .expect("the system has room for a thread a client")
}

/// Runs all clients to the end and sums up what they found.
fn load(
    args: &Args,
    run: &Run,
    peekers: &mut [Peeker],
    interrupted: &Receiver<()>,
) -> (Results, Watched) {
    let lives: Vec<Live> = (0..args.clients).map(|_| Live::default()).collect();
    thread::scope(|scope| {
        let clients: Vec<_> = lives
            .iter()
            .enumerate()
            .map(|(number, live)| spawn(scope, move || Client::new(run, live, number).run()))
            .collect();
        let mut watcher = Watcher::new(args, run, &lives);
        let seen = watcher.watch(peekers, interrupted);
        run.stop.store(true, Relaxed);
        watcher.clear();
        let results = clients
            .into_iter()
            .map(|client| client.join().expect("a client does not panic"))
            .reduce(|mut all, one| {
                all.add(&one);
                all
            })
            .expect("there is at least one client");
        (results, seen)
    })
}

/// What happened beside the load.
struct Watched {
    /// When the load ended, from its start.
    ended: Duration,
    interrupted: bool,
    /// The fault, if one was asked for; or why it could not be done.
    strike: Result<Option<Strike>, String>,
}

/// The main thread during a run: shows how it goes, and strikes half-way.
struct Watcher<'a> {
    args: &'a Args,
    run: &'a Run,
    lives: &'a [Live],
    in_place: bool,
    shown_done: u64,
    shown_at: Duration,
}

impl<'a> Watcher<'a> {
    const EVERY: Duration = Duration::from_secs(1);

    fn new(args: &'a Args, run: &'a Run, lives: &'a [Live]) -> Self {
        Self {
            args,
            run,
            lives,
            in_place: io::stderr().is_terminal(),
            shown_done: 0,
            shown_at: Duration::ZERO,
        }
    }

    /// Until the end of the run, or an interrupt.
    fn watch(&mut self, peekers: &mut [Peeker], interrupted: &Receiver<()>) -> Watched {
        let Range { start, end } = self.run.measured;
        let mut fault = self.args.fault();
        let strike_at = (start + end) / 2;
        let mut strike = Ok(None);
        let mut interrupt = false;
        let mut show_at = Self::EVERY;
        loop {
            let now = self.run.start.elapsed();
            if now >= end || interrupt {
                break;
            }
            if now >= show_at {
                self.show(now);
                show_at = now + Self::EVERY;
            }
            if let Some((kind, pids)) = fault.take_if(|_| now >= strike_at) {
                strike = fault::strike(kind, pids, peekers, self.run.start, end).map(Some);
                interrupt |= strike.is_err();
                continue;
            }
            let next = if fault.is_some() { strike_at } else { end };
            let wait = next.min(show_at).min(end).saturating_sub(now);
            interrupt |= interrupted.recv_timeout(wait) != Err(RecvTimeoutError::Timeout);
        }
        Watched {
            ended: self.run.start.elapsed().min(end),
            interrupted: interrupt,
            strike,
        }
    }

    fn show(&mut self, now: Duration) {
        let sum = |count: fn(&Live) -> u64| self.lives.iter().map(count).sum::<u64>();
        let done = sum(|live| live.done.load(Relaxed));
        let errors = sum(|live| live.errors.load(Relaxed));
        let rate = report::rate(done - self.shown_done, now.saturating_sub(self.shown_at));
        (self.shown_done, self.shown_at) = (done, now);
        let silence = now.saturating_sub(self.run.timeline.last().unwrap_or_default());
        let line = format!(
            "{:5.0} s {rate:10.0} operations/s {errors:8} errors   last success {} ago",
            now.as_secs_f64(),
            millis(silence)
        );
        if self.in_place {
            eprint!("\r{line}\x1b[K");
        } else {
            eprintln!("{line}");
        }
    }

    /// Takes the live line away.
    fn clear(&self) {
        if self.in_place {
            eprint!("\r\x1b[K");
        }
    }
}
