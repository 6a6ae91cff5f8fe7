//! Clients that write down all that they see, and the judge at the end of them.
//!
//! They hold sessions, so a lost reply is asked for again elsewhere. A few keys are fought over by
//! all; each client has one of its own too.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use quince::check::{Begins, STATES_MAX, check, format};
use quince::client::{Client, Lane, Limits, Recorder, Settings};
use quince::kv::command::{Bytes, Command, List, Read, Write};
use quince::wire::client::Request;
use rand::rngs::ChaCha8Rng;
use rand::{RngExt as _, SeedableRng as _};
use tempfile::TempDir;

use super::{Cluster, until};

/// A server that is silent for so long is left for another one.
const SILENCE: Duration = Duration::from_millis(700);

/// A request is given up after this.
const DEADLINE: Duration = Duration::from_secs(5);

/// Between two requests of a client: the history stays small, and the machine is left some time.
const THINK: Duration = Duration::from_millis(2);

/// The running clients.
pub(crate) struct Judged {
    place: TempDir,
    recorder: Recorder,
    stop: Arc<AtomicBool>,
    done: Arc<AtomicU64>,
    clients: Vec<JoinHandle<()>>,
}

impl Judged {
    /// Starts that many clients. Nothing must have been written to the cluster before.
    pub(crate) fn start(cluster: &Cluster, clients: u64) -> Self {
        let place = tempfile::tempdir().expect("a directory");
        let recorder = Recorder::create(&place.path().join("history")).expect("a file");
        let stop = Arc::new(AtomicBool::new(false));
        let done = Arc::new(AtomicU64::new(0));
        let start = |number| {
            let client = client(cluster, recorder.lane());
            let (stop, done) = (Arc::clone(&stop), Arc::clone(&done));
            thread::spawn(move || ask_on(client, number, &stop, &done))
        };
        let clients = (0..clients).map(start).collect();
        Self {
            place,
            recorder,
            stop,
            done,
            clients,
        }
    }

    /// Waits until `more` requests were answered from now on.
    pub(crate) fn until_done(&self, more: u64) {
        let target = self.done.load(Ordering::Relaxed) + more;
        until("requests are answered", || {
            (self.done.load(Ordering::Relaxed) >= target).then_some(())
        });
    }

    /// Ends the clients, reads all keys once more at every server, and asserts that what was seen is
    /// linearizable.
    pub(crate) fn assert_linearizable(self, cluster: &Cluster) {
        self.stop.store(true, Ordering::Relaxed);
        for client in self.clients {
            client.join().expect("a client panicked");
        }
        let mut last = client(cluster, self.recorder.lane());
        for server in 0..cluster.servers().len() {
            last.prefer(server);
            let everything = Read::List(List::default());
            last.read(everything).expect("all is well again");
        }
        drop(last);
        self.recorder.finish().expect("the history is whole");
        let file: PathBuf = self.place.path().join("history");
        let text = std::fs::read(&file).expect("a history");
        let recorded = format::read(&text).expect("a history");
        let report = check(&recorded.history, Begins::Empty, STATES_MAX);
        eprintln!("{} operations on {} keys", report.operations, report.keys);
        if !report.is_linearizable() {
            let kept = self.place.keep();
            let found = report.violation.map(|found| found.to_string());
            panic!(
                "{}: {}",
                kept.display(),
                found.unwrap_or("undecided".into())
            );
        }
    }
}

fn client(cluster: &Cluster, lane: Lane) -> Client {
    let settings = Settings {
        limits: Limits {
            connect: SILENCE,
            silence: SILENCE,
            ..Limits::default()
        },
        deadline: DEADLINE,
        unreachable: DEADLINE,
        random_start: true,
    };
    let mut client = Client::new(cluster.addresses(), settings);
    client.record(lane);
    client
}

fn ask_on(mut client: Client, number: u64, stop: &AtomicBool, done: &AtomicU64) {
    let mut rng = ChaCha8Rng::seed_from_u64(number);
    let mut values = 0;
    while !stop.load(Ordering::Relaxed) {
        let key = match rng.random_range(0..4_u32) {
            0 => format!("own{number}"),
            other => format!("all{other}"),
        };
        let key: Bytes = key.as_bytes().into();
        values += 1;
        let value = || format!("v{number}.{values}").as_bytes().into();
        let request = match rng.random_range(0..10_u32) {
            0..4 => Request::Read {
                local: false,
                read: Read::Get { key },
            },
            4..7 => write(Write::Put {
                key,
                value: value(),
            }),
            7 => write(Write::Delete { key }),
            _ => write(Write::Incr {
                key: Bytes::from(&b"number"[..]),
                by: 1,
            }),
        };
        if client.ask(&request).is_ok() {
            done.fetch_add(1, Ordering::Relaxed);
        }
        thread::sleep(THINK);
    }
}

fn write(write: Write) -> Request {
    Request::Write(Command::Write(write))
}
