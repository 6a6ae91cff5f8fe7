//! `quince server`: one server of a cluster, from flags to [`ServerOptions`].
//!
//! Everything that can be known to be wrong without a socket or a file is refused here, with exit
//! code 2 and nothing touched. What only the machine can tell (a port in use, a directory of another
//! server) is the server's affair.

use std::path::PathBuf;
use std::time::Duration;

use log::LevelFilter;

use super::flags::{self, Address, Peers, Span};
use super::logging::{self, LogFile};
use super::preload::{Entries, read_preload};
use super::{Failure, signal};
use crate::paxos::types::NodeId;
use crate::server;

/// What a server is told. Validated: a server may rely on every word of this.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerOptions {
    /// This server; one of `peers`.
    pub id: NodeId,
    /// Every server of the cluster, this one too, with the address where the others reach it. 1, 3,
    /// 5, 7 or 9 of them, each at an address of its own.
    pub peers: Peers,
    /// Where this server listens for its peers.
    pub peer_listen: Address,
    /// Where this server listens for clients.
    pub listen: Address,
    /// The directory of all that must not be forgotten; this server's alone.
    pub data: PathBuf,
    /// How many bytes the log on disk has at most, beside snapshots.
    pub log_bytes_max: usize,
    /// A CSV file of keys and values, proposed once by the first leader of an empty log.
    pub preload: Option<PathBuf>,
    /// The acceptor's failures on purpose; none unless asked for.
    pub failures: Option<Failures>,
    /// Whether clients may send `FAIL` and `RECOVER`.
    pub allow_fail: bool,
    /// How long a request may wait for a majority, from 1 ms to 24 h.
    pub deadline: Duration,
    /// The most connections of clients at one time, from 1 to 100,000.
    pub clients_max: usize,
    /// How many bytes of memory all clients may make this server hold, together.
    pub clients_bytes_max: usize,
    /// The cluster's name: peers of another one are refused.
    pub cluster: String,
    /// The seed of every random choice of this server. Random where none was given.
    pub seed: u64,
    /// The most detailed lines of the log.
    pub log_level: LevelFilter,
    /// The file that log lines are appended to; standard error without one.
    pub log_file: Option<PathBuf>,
}

/// How an acceptor fails on purpose: over and over, each time after a random while.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Failures {
    /// How long it is up.
    pub every: Span,
    /// How long it is down.
    pub recover_after: Span,
}

/// What `server` takes.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Durations have a unit: 500ms, 10s, 2m, 1h. A span is two of them: 2s..4s.

Examples:
  quince server --id 1
      the first of five on this machine: clients at 127.0.0.1:7001, data in data/1
  quince server --id 2 --fail-every 2s..4s --preload fruits.csv
      with an acceptor that fails and recovers at random, and fruit prices to begin with
  quince server --id 1 --peers 1=10.0.0.1:7100,2=10.0.0.2:7100,3=10.0.0.3:7100 \\
                --listen 0.0.0.0:7000 --data /var/lib/quince
      the first of three machines
  quince server --id 1 --peers 1=a.lan:7100,2=b.lan:7100,3=c.lan:7100 \\
                --peer-listen 0.0.0.0:7100 --listen 0.0.0.0:7000 --data /var/lib/quince
      the same by name; names are looked up at each dial, and may stand for other addresses later

Ctrl-C or SIGTERM stop it cleanly; after SIGHUP it goes on, with --log-file opened anew. kill -9 loses
nothing that was acknowledged.")]
pub(crate) struct Args {
    /// The number of this server, 1 to 9; one of --peers
    #[arg(long, value_name = "N", value_parser = flags::server_id)]
    id: NodeId,

    /// Every server of the cluster, this one too: where the others reach it. 1, 3, 5, 7 or 9 of them
    #[arg(long, value_name = "1=HOST:PORT,...", default_value_t = Peers::local_five())]
    peers: Peers,

    /// Where to listen for peers; differs from the own entry of --peers behind a proxy or NAT
    /// [default: the own entry of --peers]
    #[arg(long, value_name = "HOST:PORT")]
    peer_listen: Option<Address>,

    /// Where to listen for clients [default: 127.0.0.1:7000+N]
    #[arg(long, value_name = "HOST:PORT")]
    listen: Option<Address>,

    /// The directory of all that must not be forgotten; made if missing [default: data/N]
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,

    /// A CSV file of keys and values to begin with; taken once, by the first leader of an empty log
    #[arg(long, value_name = "FILE")]
    preload: Option<PathBuf>,

    /// What the log on disk may always take, in MiB; it may take one and a half times the next
    /// snapshot if that is more. A snapshot is taken at about half, and what it holds leaves the log
    #[arg(long, value_name = "MIB", default_value_t = 64,
          value_parser = clap::value_parser!(u32).range(1..=1_048_576))]
    log_mib: u32,

    /// Fail the acceptor on purpose after a random time from this span, again and again
    /// [default: never]
    #[arg(long, value_name = "SPAN")]
    fail_every: Option<Span>,

    /// Recover a failed acceptor after a random time from this span; needs --fail-every
    /// [default: 2s..4s]
    #[arg(long, value_name = "SPAN", requires = "fail_every")]
    recover_after: Option<Span>,

    /// Take FAIL, RECOVER and SLOW from clients
    #[arg(long)]
    allow_fail: bool,

    /// How long a request may wait for a majority before it is refused
    #[arg(long, value_name = "DURATION", default_value = "10s",
          value_parser = flags::positive_duration)]
    deadline: Duration,

    /// The most connections of clients at one time, 1 to 100000; one more is refused politely
    #[arg(long, value_name = "COUNT", default_value_t = 4_096,
          value_parser = clap::value_parser!(u32).range(1..=100_000))]
    clients_max: u32,

    /// The most memory that all clients together may make this server hold, in MiB: unfinished requests,
    /// transactions, replies that wait; beyond it, the connection that holds most is told so and closed
    #[arg(long, value_name = "MIB", default_value_t = 1_024,
          value_parser = clap::value_parser!(u32).range(CLIENTS_MEMORY_MIB_MIN..=1_048_576))]
    clients_memory_mib: u32,

    /// The cluster's name; peers of another cluster are refused
    #[arg(long, value_name = "NAME", default_value = "quince",
          value_parser = flags::cluster_name)]
    cluster: String,

    /// The seed of every random choice, to repeat a run [default: a random one]
    #[arg(long, value_name = "N")]
    seed: Option<u64>,

    /// The most detailed lines of the log: off, error, warn, info, debug
    #[arg(long, value_name = "LEVEL", default_value = "info",
          value_parser = log_level)]
    log_level: LevelFilter,

    /// Append the log to this file [default: standard error]
    #[arg(long, value_name = "FILE")]
    log_file: Option<PathBuf>,
}

fn log_level(text: &str) -> Result<LevelFilter, String> {
    match text.parse() {
        // Lines of this level are not compiled in: taking it would promise something.
        Ok(LevelFilter::Trace) | Err(_) => Err(format!(
            "expected off, error, warn, info or debug, found '{text}'"
        )),
        Ok(level) => Ok(level),
    }
}

impl Args {
    /// Fills in what depends on other flags, and checks what takes two flags to check.
    fn into_options(self) -> Result<ServerOptions, Failure> {
        let number = self.id.number();
        let Some(own) = self.peers.0.get(&self.id).cloned() else {
            return Err(Failure::Usage(format!(
                "expected --id to be one of --peers, found {number} and {}: give --peers with all \
                 servers",
                self.peers
            )));
        };
        let listen = self
            .listen
            .unwrap_or_else(|| Address::loopback(7_000 + u16::from(number)));
        let peer_listen = self.peer_listen.unwrap_or(own);
        if listen == peer_listen {
            return Err(Failure::Usage(format!(
                "expected two addresses, found {listen} for clients and for peers: give --listen \
                 another one"
            )));
        }
        Ok(ServerOptions {
            id: self.id,
            peer_listen,
            listen,
            data: self
                .data
                .unwrap_or_else(|| PathBuf::from(format!("data/{number}"))),
            log_bytes_max: (self.log_mib as usize) << 20,
            preload: self.preload,
            failures: self.fail_every.map(|every| Failures {
                every,
                recover_after: self.recover_after.unwrap_or(RECOVER_AFTER),
            }),
            allow_fail: self.allow_fail,
            deadline: self.deadline,
            clients_max: self.clients_max as usize,
            clients_bytes_max: (self.clients_memory_mib as usize) << 20,
            cluster: self.cluster,
            seed: self.seed.unwrap_or_else(rand::random),
            log_level: self.log_level,
            log_file: self.log_file,
            peers: self.peers,
        })
    }
}

/// The smallest budget: with less, the longest request would not fit, with its reply.
const CLIENTS_MEMORY_MIB_MIN: i64 = 32;

/// How long a failed acceptor stays so, unless told otherwise.
const RECOVER_AFTER: Span = Span {
    min: Duration::from_secs(2),
    max: Duration::from_secs(4),
};

pub(crate) fn run(args: Args) -> Result<(), Failure> {
    let options = args.into_options()?;
    let log = logging::start(options.id, options.log_level, options.log_file.as_deref())
        .map_err(|error| Failure::Text(error.to_string()))?;
    serve(options, log).map_err(Failure::Text)
}

/// Runs the server until SIGINT or SIGTERM. The text of an error is for people.
fn serve(options: ServerOptions, log: Option<LogFile>) -> Result<(), String> {
    // First of all: whoever sends a signal early means it.
    let stop = signal::stops(log)?;
    let preload = match &options.preload {
        Some(file) => read_preload(file).map_err(|error| error.to_string())?,
        None => Vec::new(),
    };
    // Standard error gets the line anyway: a log that goes there need not tell it twice.
    let logged = options.log_file.is_some();
    server::run(&options.into_server(preload), &stop).map_err(|error| {
        if logged {
            log::error!("{error}");
        }
        error.to_string()
    })
}

impl ServerOptions {
    /// What the server itself is told: addresses and directories without the command line's types.
    fn into_server(self, preload: Entries) -> server::Options {
        server::Options {
            id: self.id,
            cluster: self.cluster,
            peers: self
                .peers
                .0
                .into_iter()
                .map(|(id, address)| (id, address.as_str().to_owned()))
                .collect(),
            peer_listen: self.peer_listen.as_str().to_owned(),
            listen: self.listen.as_str().to_owned(),
            data: self.data,
            log_bytes_max: self.log_bytes_max,
            preload,
            failures: self.failures.map(|failures| server::Failures {
                fail_every: failures.every.min..=failures.every.max,
                recover_after: failures.recover_after.min..=failures.recover_after.max,
            }),
            allow_fail: self.allow_fail,
            deadline: self.deadline,
            clients_max: self.clients_max,
            clients_bytes_max: self.clients_bytes_max,
            seed: self.seed,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::{Args as _, FromArgMatches as _};

    fn options(flags: &[&str]) -> Result<ServerOptions, String> {
        let command = Args::augment_args(clap::Command::new("server"));
        let matches = command
            .try_get_matches_from(std::iter::once(&"server").chain(flags))
            .map_err(|error| error.to_string())?;
        let args = Args::from_arg_matches(&matches).map_err(|error| error.to_string())?;
        args.into_options().map_err(|failure| match failure {
            Failure::Usage(text) => text,
            other => panic!("{other:?} is no usage error"),
        })
    }

    #[test]
    fn a_number_alone_makes_one_of_five_on_loopback() {
        let options = options(&["--id", "3"]).unwrap();
        assert_eq!(options.peers, Peers::local_five());
        assert_eq!(options.peer_listen.as_str(), "127.0.0.1:7103");
        assert_eq!(options.listen.as_str(), "127.0.0.1:7003");
        assert_eq!(options.data, PathBuf::from("data/3"));
        assert_eq!(options.failures, None);
        assert_eq!(options.deadline, Duration::from_secs(10));
        assert_eq!(options.clients_max, 4_096);
        assert_eq!(options.clients_bytes_max, 1 << 30);
        assert_eq!(options.cluster, "quince");
        assert_eq!(options.log_level, LevelFilter::Info);
        assert!(!options.allow_fail);
    }

    #[test]
    fn every_flag_reaches_the_options() {
        let options = options(&[
            "--id",
            "2",
            "--peers",
            "1=a:1,2=b:2,3=c:3",
            "--peer-listen",
            "0.0.0.0:9",
            "--listen",
            "[::1]:8",
            "--data",
            "d",
            "--log-mib",
            "8",
            "--preload",
            "p",
            "--fail-every",
            "500ms..2s",
            "--recover-after",
            "1s",
            "--allow-fail",
            "--deadline",
            "250ms",
            "--clients-max",
            "7",
            "--clients-memory-mib",
            "48",
            "--cluster",
            "fruit",
            "--seed",
            "42",
            "--log-level",
            "debug",
            "--log-file",
            "l",
        ])
        .unwrap();
        let span = |min, max| Span {
            min: Duration::from_millis(min),
            max: Duration::from_millis(max),
        };
        assert_eq!(
            options,
            ServerOptions {
                id: NodeId::new(2).unwrap(),
                peers: "1=a:1,2=b:2,3=c:3".parse().unwrap(),
                peer_listen: "0.0.0.0:9".parse().unwrap(),
                listen: "[::1]:8".parse().unwrap(),
                data: "d".into(),
                log_bytes_max: 8 << 20,
                preload: Some("p".into()),
                failures: Some(Failures {
                    every: span(500, 2_000),
                    recover_after: span(1_000, 1_000),
                }),
                allow_fail: true,
                deadline: Duration::from_millis(250),
                clients_max: 7,
                clients_bytes_max: 48 << 20,
                cluster: "fruit".into(),
                seed: 42,
                log_level: LevelFilter::Debug,
                log_file: Some("l".into()),
            }
        );
    }

    #[test]
    fn failures_recover_after_2_to_4_seconds_unless_told() {
        let failures = options(&["--id", "1", "--fail-every", "1s"])
            .unwrap()
            .failures;
        assert_eq!(
            failures.map(|failures| failures.recover_after),
            Some(RECOVER_AFTER)
        );
    }

    #[test]
    fn wrong_flags_say_what_was_expected() {
        for (flags, text) in [
            (
                &["--id", "7"][..],
                "expected --id to be one of --peers, found 7",
            ),
            (
                &["--id", "0"],
                "expected a server number from 1 to 9, found '0'",
            ),
            (
                &["--id", "1", "--peers", "1=a:1,2=b:2"],
                "expected 1, 3, 5, 7 or 9 peers",
            ),
            (
                &["--id", "1", "--listen", "127.0.0.1:7101"],
                "expected two addresses",
            ),
            (&["--id", "1", "--recover-after", "1s"], "--fail-every"),
            (
                &["--id", "1", "--fail-every", "4s..2s"],
                "such as 2s..4s, found '4s..2s'",
            ),
            (
                &["--id", "1", "--deadline", "10"],
                "a duration with its unit",
            ),
            (&["--id", "1", "--deadline", "0s"], "a duration above zero"),
            (
                &["--id", "1", "--clients-max", "0"],
                "0 is not in 1..=100000",
            ),
            (
                &["--id", "1", "--clients-memory-mib", "31"],
                "31 is not in 32..=1048576",
            ),
            (
                &["--id", "1", "--cluster", "a b"],
                "expected a cluster name",
            ),
            (
                &["--id", "1", "--log-level", "trace"],
                "expected off, error, warn, info or debug",
            ),
            (&["--id", "1", "--seed", "x"], "invalid"),
            (&[], "--id <N>"),
        ] {
            let error = options(flags).unwrap_err();
            assert!(error.contains(text), "{flags:?}: {error}");
        }
    }
}
