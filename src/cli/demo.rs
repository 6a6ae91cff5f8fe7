//! `quince demo`: the automated client, for people to watch and for tests to believe.
//!
//! | file | holds |
//! | --- | --- |
//! | `script` | the commands of a round |
//! | `model` | what each must be answered, and what must be there in the end |
//! | `watch` | how the servers look from outside |
//! | `victim` | the server that is killed and comes back |
//! | `page` | the lines |
//!
//! It checks every reply against its model at once, and the whole store at the end of each round, so
//! that exit code 0 means: nothing acknowledged was lost, doubled or answered wrongly, and all servers
//! hold the same bytes. It assumes that nobody else writes meanwhile.

mod model;
mod page;
mod script;
mod victim;
mod watch;

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use rand::rngs::ChaCha8Rng;
use rand::{RngExt, SeedableRng};

use self::model::Model;
use self::page::{Entry, Page};
use self::script::{ROUND_COMMANDS, Script};
use self::victim::Killer;
use self::watch::{POLL_EVERY, Watch};
use super::Failure;
use super::check::Record;
use super::figures::{many, millis};
use super::flags::duration;
use super::reach::Servers;
use super::signal::interrupts;
use super::style::{Paint, Style};
use crate::client::{Answer, Client, Limits, Settings};
use crate::kv::command::{Bytes, Command, List, Read};
use crate::paxos::types::NodeId;
use crate::wire::client::{Reply, Request, write_request};

/// A request that has no answer by then ends the demo. With acceptors failing half of the time, a
/// majority is back within seconds.
const REQUEST_DEADLINE: Duration = Duration::from_mins(1);

/// A server that is silent for so long is left for the next one: longer than it may itself wait
/// for a majority.
const SILENCE_MAX: Duration = Duration::from_secs(12);

/// All servers must be at one slot within this time after the last command of a round.
const AGREE_WITHIN: Duration = Duration::from_secs(30);

/// Commands between the death of a server and its restart.
const COMMANDS_WITHOUT_VICTIM: usize = 4;
const _: () = assert!(ROUND_COMMANDS / 2 + COMMANDS_WITHOUT_VICTIM < ROUND_COMMANDS);

/// Keys that are read back one by one; `LIST` compares them all.
const READ_BACK_MAX: usize = 200;

/// Detours of one command that are told; while a whole cluster is down there are many.
const DETOURS_TOLD_MAX: u32 = 3;

/// What `demo` takes.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Shows what is in the store; then, in each round, sends 5 PUT, 5 GET, 5 DELETE, 3 INCR and 3 CAS in a
random order to random servers, kills a server (-9) half-way and has it started again 4 commands
later, waits until all servers have applied the same slot with the same hash, and reads all back.
Every reply is compared with what it must be. Nobody else should write meanwhile.

A line is a command: time since the start, server that answered, command, reply, latency with all
retries and waiting for a majority, and the acceptors (1+ up, 2- failed, 3? server out of reach) as
seen by polling. A write can go through while fewer than a majority are up: an acceptor that has
voted and failed since keeps its vote, on disk. 'Without a majority' and 'elections' are as seen by the same polling.

./run.sh starts five servers whose acceptors fail at random, and this client. For a kill it takes
--pid-dir and --restart-with, which run.sh gives; without them nothing is killed.

Exit code 0 if all was as it must be, 1 if a reply or the store was wrong, 3 if it failed otherwise.")]
pub(crate) struct Args {
    #[command(flatten)]
    servers: Servers,

    #[command(flatten)]
    record: Record,

    /// How many rounds of 21 commands
    #[arg(long, value_name = "N", default_value_t = 1,
          value_parser = clap::value_parser!(u32).range(1..=100_000))]
    rounds: u32,

    /// Begin a command this long after the one before, or at once if that took longer
    #[arg(long, value_name = "DURATION", default_value = "1s", value_parser = duration)]
    pace: Duration,

    /// The seed of the choice of servers and commands [default: a random one]
    #[arg(long, value_name = "N")]
    seed: Option<u64>,

    /// Kill no server
    #[arg(long)]
    no_kill: bool,

    /// A directory with the process id of server N in the file server-N.pid
    #[arg(long, value_name = "DIR", requires = "restart_with")]
    pid_dir: Option<PathBuf>,

    /// What asks for a restart of server number `$QUINCE_SERVER_ID`: a command for sh that
    /// returns at once
    #[arg(long, value_name = "COMMAND", requires = "pid_dir")]
    restart_with: Option<String>,
}

/// The demo runs in a thread of its own, so that an interrupt ends it even where it waits.
pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    let interrupted = interrupts().map_err(Failure::Text)?;
    let (sender, ended) = crossbeam_channel::bounded(1);
    let mut demo = Demo::new(args);
    let recorder = args.record.start()?;
    if let Some(recorder) = &recorder {
        demo.client.record(recorder.lane());
    }
    let play = move || {
        let end = demo.play();
        // The end of the recording is written down where the client goes.
        drop(demo);
        let _ = sender.send(end.and(Record::finish(recorder.as_ref())));
    };
    thread::Builder::new()
        .name("demo".into())
        .spawn(play)
        .map_err(|error| Failure::Text(format!("cannot start a thread: {error}")))?;
    crossbeam_channel::select! {
        recv(ended) -> end => end.unwrap_or_else(|_| Err(Failure::Text("the demo panicked".into()))),
        recv(interrupted) -> _ => Err(Failure::Text("interrupted".into())),
    }
}

struct Demo {
    servers: Vec<String>,
    client: Client,
    watch: Watch,
    page: Page,
    killer: Option<Killer>,
    rng: ChaCha8Rng,
    seed: u64,
    model: Model,
    rounds: u32,
    pace: Duration,
    /// Latencies of the commands, in microseconds.
    latencies: Histogram<u64>,
    next_at: Instant,
    detours_told: Arc<AtomicU32>,
}

impl Demo {
    fn new(args: &Args) -> Self {
        let servers = args.servers.addresses();
        let start = Instant::now();
        let page = Page {
            start,
            style: Style::of(&io::stdout()),
        };
        let seed = args
            .seed
            .unwrap_or_else(|| rand::random_range(0..1_000_000));
        let killer = args.pid_dir.as_deref().zip(args.restart_with.as_deref());
        let detours_told = Arc::new(AtomicU32::new(0));
        let watch = Watch::start(&servers, start);
        Self {
            client: client(&servers, page, watch.clone(), detours_told.clone()),
            watch,
            servers,
            page,
            killer: killer
                .filter(|_| !args.no_kill)
                .map(|(pid_dir, restart_with)| Killer::new(pid_dir, restart_with)),
            rng: ChaCha8Rng::seed_from_u64(seed),
            seed,
            model: Model::default(),
            rounds: args.rounds,
            pace: args.pace,
            latencies: Histogram::new_with_max(3_600_000_000, 3)
                .expect("bounds in order, 3 digits"),
            next_at: start,
            detours_told,
        }
    }

    fn play(&mut self) -> Result<(), Failure> {
        self.open()?;
        for round in 1..=self.rounds {
            if self.rounds > 1 {
                let text = format!("round {round} of {}", self.rounds);
                self.page.remark(Paint::Bold, &text)?;
            }
            self.round()?;
            self.agree()?;
            self.read_back()?;
        }
        self.close()
    }

    /// Takes in what is there.
    fn open(&mut self) -> Result<(), Failure> {
        let head = format!(
            "demo: {}, seed {}",
            many(self.servers.len() as u64, "server"),
            self.seed
        );
        page::print(&head)?;
        // A write goes through the log behind whatever the first leader fills an empty log with, and
        // a read after it sees all of that.
        self.client.ask(&Request::Write(Command::Session))?;
        let pairs = self.list()?;
        let text = format!("inventory: {}", many(pairs.len() as u64, "key"));
        page::print(&self.page.style.paint(Paint::Bold, &text))?;
        page::inventory(&pairs)?;
        self.model = Model::new(pairs);
        page::print("")?;
        self.page.heading()?;
        Ok(())
    }

    fn round(&mut self) -> Result<(), Failure> {
        let mut script = Script::new(&mut self.rng);
        let mut victim = None;
        let kill_at = ROUND_COMMANDS / 2;
        let mut sent = 0;
        while let Some(request) = script.next(&self.model, &mut self.rng) {
            if sent == kill_at {
                victim = self.kill()?;
            }
            if sent == kill_at + COMMANDS_WITHOUT_VICTIM
                && let (Some(victim), Some(killer)) = (victim.take(), &self.killer)
            {
                killer.restart(victim).map_err(Failure::Text)?;
                let text = format!("{victim} starts again");
                self.page.remark(Paint::Green, &text)?;
            }
            self.wait_for_turn();
            self.command(&request)?;
            sent += 1;
        }
        Ok(())
    }

    /// One command at a random server; its reply must be the model's.
    fn command(&mut self, request: &Request) -> Result<(), Failure> {
        let Answer {
            reply,
            server,
            took,
        } = self.ask_anywhere(request)?;
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        self.latencies.saturating_record(micros.max(1));
        let (command, server) = (command_text(request), self.name(&server));
        let style = self.page.style;
        self.page.entry(&Entry {
            server: &server,
            command: &command,
            reply: &reply.to_string(),
            took,
            acceptors: &self.watch.look_afresh(|view| view.acceptors(style)),
        })?;
        let expected = self.model.run(request);
        if model::same(&expected, &reply) {
            return Ok(());
        }
        Err(Failure::Found(format!(
            "wrong reply of {server} to {command}: expected {expected}, found {reply}"
        )))
    }

    /// Kills one server, if it is known how.
    fn kill(&mut self) -> Result<Option<NodeId>, Failure> {
        let Some(killer) = &self.killer else {
            return Ok(None);
        };
        let ids = self.watch.look(|view| view.ids());
        let Some(&victim) = ids.get(self.rng.random_range(0..ids.len().max(1))) else {
            return Err(Failure::Text("no server has said who it is".into()));
        };
        let pid = killer.kill(victim).map_err(Failure::Text)?;
        let text = format!("{victim} is killed (kill -9 {pid})");
        self.page.remark(Paint::Red, &text)?;
        Ok(Some(victim))
    }

    /// Waits until all servers have applied the same slot with the same hash.
    fn agree(&mut self) -> Result<(), Failure> {
        let since = self.page.start.elapsed();
        let give_up_at = Instant::now() + AGREE_WITHIN;
        let count = self.servers.len();
        let (slot, hash) = loop {
            if let Some(agreed) = self.watch.look(|view| view.agreed(since)) {
                break agreed;
            }
            if Instant::now() >= give_up_at {
                let positions = self.watch.look(|view| view.positions());
                return Err(Failure::Text(format!(
                    "the servers were not at one slot and hash within {AGREE_WITHIN:?}: {positions}"
                )));
            }
            thread::sleep(POLL_EVERY);
        };
        let waited = millis(self.page.start.elapsed().saturating_sub(since));
        let text =
            format!("all {count} servers have applied {slot} (waited {waited}); state hashes:");
        self.page.remark(Paint::Green, &text)?;
        for id in self.watch.look(|view| view.ids()) {
            self.page
                .remark(Paint::Plain, &format!("{id}  {slot}  {hash}"))?;
        }
        Ok(())
    }

    /// Compares the whole store with the model: each key at a random server, all of it at each.
    fn read_back(&mut self) -> Result<(), Failure> {
        let pairs = self.model.pairs().take(READ_BACK_MAX);
        let pairs: Vec<(Bytes, Bytes)> = pairs.map(|(k, v)| (k.clone(), v.clone())).collect();
        for (key, value) in &pairs {
            let request = Request::Read {
                local: false,
                read: Read::Get { key: key.clone() },
            };
            let answer = self.ask_anywhere(&request)?;
            let expected = Reply::Value(value.clone());
            if answer.reply != expected {
                return Err(Failure::Found(format!(
                    "read back {} at {}: expected {expected}, found {}",
                    command_text(&request),
                    self.name(&answer.server),
                    answer.reply
                )));
            }
        }
        for server in 0..self.servers.len() {
            self.client.prefer(server);
            let found = self.list()?;
            if let Some(difference) = self.model.difference(&found) {
                let server = self.name(&self.servers[server]);
                let text = format!("LIST at {server} is not what was written: {difference}");
                return Err(Failure::Found(text));
            }
        }
        let text = format!(
            "all read back as written: {} by GET, all by LIST at each server",
            many(pairs.len() as u64, "key")
        );
        self.page.remark(Paint::Green, &text)?;
        Ok(())
    }

    fn close(&mut self) -> Result<(), Failure> {
        let elapsed = self.page.start.elapsed();
        let without = self.watch.look(|view| view.without_majority(elapsed));
        let elections = self.watch.look(|view| view.elections());
        let at = |quantile| {
            let micros = self.latencies.value_at_quantile(quantile);
            millis(Duration::from_micros(micros))
        };
        page::print("")?;
        for (name, text) in [
            (
                "operations",
                format!("{} in {:.1} s", self.latencies.len(), elapsed.as_secs_f64()),
            ),
            (
                "latency",
                format!("p50 {}, p99 {}, max {}", at(0.5), at(0.99), at(1.0)),
            ),
            (
                "no majority",
                format!(
                    "{:.1} s without a majority of acceptors",
                    without.as_secs_f64()
                ),
            ),
            ("elections", elections.to_string()),
        ] {
            page::print(&format!("{name:<13}{text}"))?;
        }
        let text = "every reply was right, all servers are equal";
        page::print(&self.page.style.paint(Paint::Green, text))?;
        Ok(())
    }

    fn list(&mut self) -> Result<Vec<(Bytes, Bytes)>, Failure> {
        let everything = Read::List(List::default());
        match self.client.read(everything)?.reply {
            Reply::List(pairs) => Ok(pairs),
            other => Err(Failure::Text(format!("LIST was answered {other}"))),
        }
    }

    fn ask_anywhere(&mut self, request: &Request) -> Result<Answer, Failure> {
        let server = self.rng.random_range(0..self.servers.len());
        self.client.prefer(server);
        self.detours_told.store(0, Relaxed);
        Ok(self.client.ask(request)?)
    }

    fn name(&self, address: &str) -> String {
        name(&self.servers, &self.watch, address)
    }

    fn wait_for_turn(&mut self) {
        thread::sleep(self.next_at.saturating_duration_since(Instant::now()));
        self.next_at = Instant::now() + self.pace;
    }
}

/// How people call the server at an address: `n3`.
fn name(servers: &[String], watch: &Watch, address: &str) -> String {
    let at = servers.iter().position(|server| server == address);
    let at = at.expect("only servers of the list are asked");
    format!("n{}", watch.look(|view| view.number(at)))
}

fn client(servers: &[String], page: Page, watch: Watch, detours_told: Arc<AtomicU32>) -> Client {
    let limits = Limits {
        silence: SILENCE_MAX,
        ..Limits::default()
    };
    let settings = Settings {
        limits,
        deadline: REQUEST_DEADLINE,
        ..Settings::default()
    };
    let mut client = Client::new(servers.to_vec(), settings);
    let servers = servers.to_vec();
    client.on_detour(move |detour| {
        if detours_told.fetch_add(1, Relaxed) < DETOURS_TOLD_MAX {
            let text = format!(
                "{}: {}; asking {}",
                name(&servers, &watch, detour.server),
                detour.reason,
                name(&servers, &watch, detour.next)
            );
            // A page that cannot be printed to ends the demo at its next line.
            let _ = page.remark(Paint::Dim, &text);
        }
    });
    client
}

/// A command as it is typed.
fn command_text(request: &Request) -> String {
    let mut line = Vec::new();
    write_request(&mut line, request);
    String::from_utf8_lossy(&line).trim_end().to_owned()
}
