//! The shell that runs a replica for real: threads, blocking sockets, a disk and a clock.
//!
//! | thread | count | does |
//! | --- | --- | --- |
//! | `core` | 1 | owns the replica; takes all that waits in its channel, steps it, hands out |
//! | `log` | 1 | group commit: appends all that waits, one sync, then lets the votes go |
//! | `spare` | now and then | fills the log's next segment with zeros ahead of need |
//! | `peer-listen`, `from nX` | 1 + 1 a peer | accepts links, reads lines of one peer, to the core |
//! | `to nX` | 1 a peer | sends a bounded queue of lines, many in one write; redials |
//! | `lookup` | 0 or 1 per name | waits for the system's resolver (`dial`) |
//! | `client-listen`, `client` | 1 + 1 a connection | requests of one read to the core together, replies in one write; threads are reused |
//! | `failure` | 0 or 1 | flips the acceptor's flag at random times |
//!
//! Who may wait for whom: the core waits for nobody but its channel, so nothing can deadlock. The
//! queues to the peers drop what they cannot hold, because the protocol sends again; the log's
//! queue is watched, and a core whose disk cannot keep up waits for it (`core`). A panic in any
//! thread ends the process: there are no half-dead servers. A failed write or sync of the log ends
//! it as well, with one line (P37).
//!
//! This module knows the clock and the sockets; the protocol stands in [`crate::replica`].

#![allow(
    clippy::disallowed_methods,
    reason = "this is the shell that has a clock and sockets"
)]

mod clients;
mod core;
mod cost;
mod failure;
mod files;
mod listen;
mod peers;
mod recorder;
mod seldom;
mod waits;

use std::collections::BTreeMap;
use std::io::{self, Write as _};
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crossbeam_channel::{Receiver, Sender, bounded, unbounded};
use log::{info, warn};

use crate::disk::LogError;
use crate::disk::home::{Home, HomeError, Identity};
use crate::disk::log::{Log, Options as LogOptions};
use crate::kv::command::{Bytes, Command, Millis, Write};
use crate::paxos::quorum::Members;
use crate::paxos::types::NodeId;
use crate::replica::growth::Growth;
use crate::replica::{Config, Replica, TICK};

use self::core::{Core, Event};
use clients::Clients;
use peers::{Outgoing, Peers};

/// How many events may wait for the core. Who sends one more waits; so a busy core slows its
/// clients and peers down instead of filling the memory.
const EVENTS_MAX: usize = 4_096;

/// The size of each thread's stack: small ones make thousands of blocked threads cheap.
const STACK_BYTES: usize = 256 << 10;

/// How long a stopping server waits for its clients to take their last replies.
const GOODBYE: Duration = Duration::from_secs(1);

/// How a server is to run.
#[derive(Debug, Clone)]
pub struct Options {
    /// This server.
    pub id: NodeId,
    /// The cluster's name; peers of another one are refused.
    pub cluster: String,
    /// Where each server of the cluster listens for its peers, this one's own included.
    pub peers: BTreeMap<NodeId, String>,
    /// Where this server listens for its peers.
    pub peer_listen: String,
    /// Where this server listens for clients.
    pub listen: String,
    /// The data directory.
    pub data: PathBuf,
    /// How many bytes the log has at most, beside snapshots: at half of that one is taken, and the
    /// log is trimmed.
    pub log_bytes_max: usize,
    /// Keys and values that the first leader of an empty log proposes.
    pub preload: Vec<(Vec<u8>, Vec<u8>)>,
    /// After how long the acceptor fails, and after how long it recovers, each at random.
    pub failures: Option<Failures>,
    /// Whether clients may `FAIL` and `RECOVER` the acceptor, and `SLOW` the disk.
    pub allow_fail: bool,
    /// How long a request may wait for a majority.
    pub deadline: Duration,
    /// How many client connections there may be at once.
    pub clients_max: usize,
    /// How many bytes of memory the connections of clients may hold together.
    pub clients_bytes_max: usize,
    /// Settles all that is random; by default another one at each start.
    pub seed: u64,
}

/// How an acceptor is made to fail.
#[derive(Debug, Clone)]
pub struct Failures {
    /// How long it is up, each time.
    pub fail_every: RangeInclusive<Duration>,
    /// How long it is failed, each time.
    pub recover_after: RangeInclusive<Duration>,
}

/// Why a server did not start. Each is one line for the person who started it.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The peers are no cluster.
    #[error("expected a cluster of 1, 3, 5, 7 or 9 servers, found {0}")]
    Members(usize),
    /// An address is in use, or not one of this machine.
    #[error("cannot listen on {address} for {whom}: {}", why_not(error))]
    Listen {
        /// The address.
        address: String,
        /// Clients or peers.
        whom: &'static str,
        /// Why.
        error: io::Error,
    },
    /// The data directory is not this server's, or in use, or cannot be read.
    #[error(transparent)]
    Home(#[from] HomeError),
    /// The log is damaged or cannot be read.
    #[error(transparent)]
    Log(#[from] LogError),
    /// The system allows too few open files for voting and a few clients.
    #[error(
        "expected a limit of at least {needed} open files, found {limit}: raise it to {good} (ulimit -n, or \
         LimitNOFILE= of a systemd unit), or give a smaller --clients-max"
    )]
    Files {
        /// What the system allows.
        limit: usize,
        /// With so many it starts.
        needed: usize,
        /// With so many it has room for all clients.
        good: usize,
    },
    /// The system gives no more threads.
    #[error("cannot start a thread: {0}")]
    Thread(#[source] io::Error),
}

fn why_not(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::AddrInUse => "it is in use: is another server running there?".into(),
        _ => error.to_string(),
    }
}

/// Runs a server until `stop` says so; then all that was queued is answered.
///
/// # Errors
/// The server could not start; nothing was changed.
pub fn run(options: &Options, stop: &Receiver<()>) -> Result<(), StartError> {
    let members = Members::new(options.peers.keys().copied())
        .ok_or(StartError::Members(options.peers.len()))?;
    end_on_panic();
    let clients_max = files::clients_max(options.clients_max)?;
    // Both addresses first: an address in use must leave the data untouched.
    let peer_listener = listen::bind(&options.peer_listen, "peers")?;
    let client_listener = listen::bind(&options.listen, "clients")?;

    let identity = Identity {
        cluster: options.cluster.clone(),
        id: options.id,
        members: members.iter().collect(),
    };
    let log_options = LogOptions::for_log_of(options.log_bytes_max);
    let home = Home::open(&options.data, identity, &log_options)?;
    let (mut log, recovery) = Log::open(home.dir().clone(), log_options)?;
    if let Some(cut) = &recovery.cut {
        warn!("cut off a torn tail: {cut}");
    }
    for damage in &recovery.damage {
        warn!("{damage}");
    }
    for damage in &recovery.snapshot_damage {
        warn!("{damage}");
    }
    let config = Config {
        me: options.id,
        members: members.clone(),
        seed: options.seed,
        mark: rand::random(),
        deadline_ticks: ticks(options.deadline),
        preload: preload(&options.preload),
    };
    let snapshot_bytes = recovery.snapshot_bytes;
    let (replica, start) = Replica::recover(config, recovery.snapshot, &recovery.records);
    let records = recovery.records.len();
    drop(recovery.records);
    // The start counter is in every id that this start makes: it must be on disk before the first.
    log.append(&[start])?;
    log.commit()?;
    let status = replica.status();
    info!(
        "recovered from {records} records in {}: promised {}, applied up to {}, {} keys",
        options.data.display(),
        status.ballot,
        status.applied,
        status.keys
    );

    let (events_tx, events) = bounded::<Event>(EVENTS_MAX);
    let acceptor_alive = Arc::new(AtomicBool::new(true));
    let peers = Peers::start(options, &members, peer_listener, &events_tx)?;
    let outgoing = peers.outgoing();
    let recorder = recorder::start(
        log,
        home.dir().clone(),
        Growth::new(options.log_bytes_max, snapshot_bytes),
        options.id,
        Arc::clone(&outgoing),
        &events_tx,
    )?;
    let syncs = recorder.syncs();
    let clients = Clients::start(
        options,
        clients_max,
        client_listener,
        events_tx.clone(),
        replica.store(),
        Arc::clone(&acceptor_alive),
        syncs,
    )?;
    if let Some(failures) = options.failures.clone() {
        failure::start(
            failures,
            options.seed,
            Arc::clone(&acceptor_alive),
            events_tx.clone(),
        )?;
    }
    info!(
        "serving clients on {} and peers on {}, {} servers in cluster {}",
        options.listen,
        options.peer_listen,
        members.iter().count(),
        options.cluster
    );

    let core = Core::new(
        replica,
        events,
        recorder,
        outgoing,
        acceptor_alive,
        options.cluster.clone(),
    );
    let core = spawn("core", move || core.run())?;
    let _ = stop.recv();
    info!("stopping: answering what is queued");
    clients.stop_accepting();
    let _ = events_tx.send(Event::Stop);
    core.join().expect("a panic of the core ends the process");
    clients.say_goodbye(GOODBYE);
    info!("stopped");
    drop(home);
    Ok(())
}

fn preload(pairs: &[(Vec<u8>, Vec<u8>)]) -> Vec<Command> {
    let put = |(key, value): &(Vec<u8>, Vec<u8>)| {
        Command::Write(Write::Put {
            key: Bytes::from(&key[..]),
            value: Bytes::from(&value[..]),
        })
    };
    pairs.iter().map(put).collect()
}

fn ticks(time: Duration) -> u64 {
    u64::try_from(time.as_millis().div_ceil(TICK.as_millis())).unwrap_or(u64::MAX >> 1)
}

/// What this machine's clock says, in milliseconds since 1970; 0 if it says a time before.
fn wall_clock() -> Millis {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| {
        since.as_millis().try_into().unwrap_or(Millis::MAX)
    })
}

/// A named thread with a small stack.
fn spawn<F>(name: &str, body: F) -> Result<thread::JoinHandle<()>, StartError>
where
    F: FnOnce() + Send + 'static,
{
    thread::Builder::new()
        .name(name.into())
        .stack_size(STACK_BYTES)
        .spawn(body)
        .map_err(StartError::Thread)
}

/// After a panic in one thread the others must not go on as if nothing had happened.
fn end_on_panic() {
    let default = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        log::error!("{panic}");
        default(panic);
        std::process::abort();
    }));
}

/// The exit code of a server whose disk failed: as of any command that failed.
const DISK_FAILED: i32 = 3;

/// A failure of the disk: whatever was not synced is not acknowledged, and never will be (P37).
fn end_on_disk_failure(error: &dyn std::fmt::Display) -> ! {
    log::error!("{error}: ending, because nothing can be promised without a disk");
    // The terminal that it went to may be closed.
    let _ = writeln!(io::stderr(), "quince: {error}");
    std::process::exit(DISK_FAILED);
}

/// A channel that never makes its sender wait, for who must not wait.
fn lane<T>() -> (Sender<T>, Receiver<T>) {
    unbounded()
}

/// The queues to all peers.
type SharedOutgoing = Arc<Outgoing>;
