//! `quince bench`: how much a cluster does, how fast it answers, and for how long it is silent.
//!
//! | file | holds |
//! | --- | --- |
//! | `mix` | what is asked for |
//! | `speech` | how it is said and what is heard, in plain lines or in RESP |
//! | `targets` | which servers the clients talk to |
//! | `load` | one client: a closed loop of batches |
//! | `timeline` | when successes happened, over all clients; gaps |
//! | `progress` | how the run goes, while it goes; strikes half-way |
//! | `fault` | kills or freezes the leader |
//! | `watch` | who leads meanwhile, and what the servers have spent |
//! | `cost` | what an operation costs them |
//! | `histogram` | the latencies as a picture |
//! | `report`, `json` | the figures, for people and for programs |
//!
//! What each figure means is written for users in the text of `--help`, below; a figure that cannot
//! be explained there in a line is not printed. Load and servers share a machine as a rule, so the
//! figures are of both together.

mod cost;
mod fault;
mod histogram;
mod json;
mod load;
mod mix;
mod progress;
mod report;
mod speech;
mod targets;
mod timeline;
mod watch;

use std::io::{self, IsTerminal, Write as _};
use std::net::SocketAddr;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, bounded};
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

use self::fault::{Fault, Strike};
use self::load::{Client, Live, Results, Run};
use self::mix::{Mix, Op};
use self::progress::{Progress, Watched};
use self::report::{Outcome, Report};
use self::speech::Protocol;
use self::targets::{Led, Targets};
use self::timeline::Timeline;
use self::watch::{Seen, watch};
use super::Failure;
use super::check::Record;
use super::flags::{positive_duration, seconds};
use super::reach::Servers;
use super::signal::{Pids, interrupts};
use super::style::Style;
use crate::client::Recorder;
use crate::client::peek::Peeker;
use crate::dial;
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
Every client sends requests over its own connection and waits for the replies before it sends
again. Clients are dealt out in turn to all servers, or to those of --targets as they are before
the load; they stay there, and a leader that changes meanwhile is told (the servers are asked once
a second). The keys are bench-0, bench-1 and so on; those of incr begin with bench-count-, those of
cas with bench-cas-.

  lines        PUT, GET, LOCAL GET, INCR, CAS
  resp         the same as SET, GET, GET after READONLY, INCR, CAS

cas goes from one of two values to the other, so about half of the requests find what they expect.
To be told what stands there instead is a success too.

What the figures mean:
  servers      whom the clients talked to, and who led then; 'new leader' is each that followed
  rate         successes a second: replies that fit their request (OK to PUT; VALUE or NOT_FOUND to
               GET) which arrived in the measured time, which starts after --warm-up
  latency      of successes: from the write of its batch to the read that brought the reply. A
               waiting client sends nothing, so an outage shows as few long latencies; look at the
               gap. On a terminal, or with --histogram, there is a picture too: each row begins at
               its time, and tells how many there were
  errors       by code, alike in both protocols (NOTDONE of RESP is NOT_DONE); lost (no reply when
               the connection ended), timed-out (nothing came for --timeout), each counted once a
               request; no-connection (one an attempt); strange-reply. After each but the first the
               client goes to the next server, at once while there is one it has not tried, then
               with pauses of up to 50 ms
  longest gap  between two successes in a row, whichever clients they were of; of writes alone if
               there are any. Exact to 0.1 ms. The start and the end of the measured time count as
               ends, so an outage that lasts to the end is in it
  gap after    with --kill-leader or --freeze-leader: the longest gap that ends after the signal was
               sent, half-way through the measured time
  cpu          CPU time of each server's process in the measured time, by its own word (cpu_us of
               STATUS), for each success of all clients; and of all servers together
  syncs        the same of the syncs of their logs. Heartbeats, and whoever else is served, are in
               both

Before keys are read or compared, every one is put once. With --history the value of every PUT is
another one: it begins with its client and number, and is longer than --value-bytes if that is too
short for these. Recording costs a system call a batch; it is in plain lines, whatever is spoken.

Exit code 0 if there was any success and the fault, if any, was done; 3 otherwise.

Examples:
  quince bench --clients 64 --op mixed
  quince bench --clients 64 --reads 95 --protocol resp --targets followers
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

    /// What to ask for [default: put, or mixed with --reads]
    #[arg(long, value_enum)]
    op: Option<Op>,

    /// How much of a mixed load is reads, from 0 to 100 [default: 50]
    #[arg(long, value_name = "PERCENT", value_parser = clap::value_parser!(u8).range(0..=100))]
    reads: Option<u8>,

    /// What to speak
    #[arg(long, value_enum, default_value_t = Protocol::Lines)]
    protocol: Protocol,

    /// Which of the servers the clients talk to
    #[arg(long, value_enum, default_value_t = Targets::All)]
    targets: Targets,

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

    /// How long to load before measuring: in seconds, or a time such as 500ms
    #[arg(long, visible_alias = "warmup", value_name = "S", default_value = "500ms", value_parser = seconds)]
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

    #[command(flatten)]
    output: Output,
}

/// How the figures are told.
#[derive(Debug, clap::Args)]
struct Output {
    /// Draw the latencies where the output is no terminal too
    #[arg(long, conflicts_with = "json")]
    histogram: bool,

    /// Print one JSON object and nothing else on standard output
    #[arg(long)]
    json: bool,
}

impl Output {
    fn of(&self, report: &Report) -> String {
        if self.json {
            return report.json();
        }
        let stdout = io::stdout();
        let drawn = self.histogram || stdout.is_terminal();
        report.text(drawn.then(|| Style::of(&stdout)))
    }
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

    /// The load that was asked for, if all flags fit together; or one line that says why not.
    fn check(&self) -> Result<Mix, String> {
        let mix = Mix::new(self.op, self.reads)?;
        if mix.op == Op::Cas && self.value_bytes == 0 {
            return Err("expected --value-bytes of at least 1 with --op cas, found 0".into());
        }
        if self.targets == Targets::Leader && (self.kill_leader || self.freeze_leader) {
            return Err(
                "expected --targets all or followers when the leader is killed or frozen, found \
                 leader: its clients would have nowhere to go"
                    .into(),
            );
        }
        if self.value_bytes > VALUE_BYTES_MAX {
            return Err(format!(
                "expected --value-bytes of at most {VALUE_BYTES_MAX}, found {}",
                self.value_bytes
            ));
        }
        // `CAS` names two values.
        let values = if mix.op == Op::Cas { 2 } else { 1 };
        let batch_bytes = values * self.value_bytes * self.pipeline as usize;
        if batch_bytes > BATCH_BYTES_MAX {
            return Err(format!(
                "expected --pipeline times the bytes of a request's values of at most \
                 {BATCH_BYTES_MAX}, found {batch_bytes}"
            ));
        }
        Ok(mix)
    }

    /// All that the clients of one run share.
    fn to_run(
        &self,
        servers: Vec<SocketAddr>,
        mix: Mix,
        measured: Range<Duration>,
        recorder: Option<&Recorder>,
    ) -> Run {
        Run {
            recorder: recorder.cloned(),
            servers,
            protocol: self.protocol,
            mix,
            keys: self.keys,
            swapped: swapped(self.value_bytes),
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
    let mut rng = SmallRng::seed_from_u64(1);
    (0..bytes).map(|_| rng.random_range(b'a'..=b'z')).collect()
}

/// Two values of so many bytes that differ in their first one.
fn swapped(bytes: usize) -> [Vec<u8>; 2] {
    [b'a', b'b'].map(|first| {
        let mut value = value(bytes);
        if let Some(byte) = value.first_mut() {
            *byte = first;
        }
        value
    })
}

pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    let mix = args.check().map_err(Failure::Usage)?;
    let recorder = args.record.start()?;
    let report = measure(args, mix, recorder.as_ref()).map_err(Failure::Text)?;
    Record::finish(recorder.as_ref())?;
    let text = args.output.of(&report);
    io::stdout().write_all(text.as_bytes())?;
    match report.problem {
        None => Ok(()),
        Some(text) => Err(Failure::Text(text)),
    }
}

fn measure(args: &Args, mix: Mix, recorder: Option<&Recorder>) -> Result<Report, String> {
    let names = args.servers.addresses();
    let addresses = resolve(&names, args.timeout)?;
    let mut peekers: Vec<Peeker> = names
        .iter()
        .map(|server| Peeker::new(server.clone(), args.timeout))
        .collect();
    let chosen = targets::find(args.targets, &names, &mut peekers)?;
    let servers: Vec<SocketAddr> = chosen.places.iter().map(|&at| addresses[at]).collect();
    if let Some((_, pids)) = args.fault() {
        pids.check()?;
    }
    // A frozen leader must be thawed before the process ends.
    let interrupted = interrupts()?;
    if mix.op.needs_keys() {
        fill(args, mix, &servers, &interrupted, recorder)?;
    }

    let measured = args.warm_up..args.warm_up + Duration::from_secs(args.seconds.into());
    let run = args.to_run(servers, mix, measured, recorder);
    let (results, watched, seen) = load(args, &run, &mut peekers, chosen.led, &interrupted);
    let (strike, problem) = watched.strike.map_or_else(
        |problem| (None, Some(problem)),
        |strike| (strike.map(Strike::end), None),
    );
    let problem = problem
        .or_else(|| watched.interrupted.then(|| "interrupted".into()))
        .or_else(|| (results.latencies.is_empty()).then(|| "not one success".into()));
    let outcome = Outcome {
        ended: watched.ended,
        struck: strike,
        seen,
        problem,
    };
    Ok(Report::new(args, &run, chosen, results, outcome))
}

/// The first address of each server, all of them within `timeout`.
fn resolve(servers: &[String], timeout: Duration) -> Result<Vec<SocketAddr>, String> {
    let by = Instant::now() + timeout;
    let resolve = |server: &String| {
        let left = by.saturating_duration_since(Instant::now());
        let found = dial::look_up(server, left);
        let found = found.map_err(|error| format!("cannot find {server}: {error}"))?;
        Ok(found[0])
    };
    servers.iter().map(resolve).collect()
}

/// How long all keys may take to be put, beside a time for each of them.
const FILL_TIME_MIN: Duration = Duration::from_secs(30);

/// Puts every key once, with all clients.
fn fill(
    args: &Args,
    mix: Mix,
    servers: &[SocketAddr],
    interrupted: &Receiver<()>,
    recorder: Option<&Recorder>,
) -> Result<(), String> {
    let run = args.to_run(
        servers.to_vec(),
        mix,
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
        .name("bench".into())
        .stack_size(STACK_BYTES);
    builder
        .spawn_scoped(scope, client)
        .expect("the system has room for a thread a client, and one more")
}

/// Runs all clients to the end and sums up what they found.
fn load(
    args: &Args,
    run: &Run,
    peekers: &mut [Peeker],
    first: Option<Led>,
    interrupted: &Receiver<()>,
) -> (Results, Watched, Seen) {
    let lives: Vec<Live> = (0..args.clients).map(|_| Live::default()).collect();
    thread::scope(|scope| {
        let clients: Vec<_> = lives
            .iter()
            .enumerate()
            .map(|(number, live)| spawn(scope, move || Client::new(run, live, number).run()))
            .collect();
        let (end, ended) = bounded::<()>(0);
        let seen = spawn(scope, move || {
            let servers = args.servers.addresses().into_iter();
            let mut peekers: Vec<Peeker> = servers
                .map(|server| Peeker::new(server, args.timeout))
                .collect();
            watch(run, &mut peekers, first, &ended)
        });
        let mut progress = Progress::new(args, run, &lives);
        let watched = progress.watch(peekers, interrupted);
        drop(end);
        run.stop.store(true, Relaxed);
        progress.clear();
        let results = clients
            .into_iter()
            .map(|client| client.join().expect("a client does not panic"))
            .reduce(|mut all, one| {
                all.add(&one);
                all
            })
            .expect("there is at least one client");
        let seen = seen.join().expect("the one who watches does not panic");
        (results, watched, seen)
    })
}
