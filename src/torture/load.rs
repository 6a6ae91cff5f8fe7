//! The clients: they ask all the time, at a bounded rate, and write down all that they see.
//!
//! Half of them hold sessions and send a write again, at other servers, until it is answered
//! (`client::Client`). The others send plain lines, so a lost reply leaves them in doubt, and they go
//! on elsewhere. Which requests they send is drawn from the seed; which answers they get is real.
//!
//! What keeps a history of hours judgeable: keys have fresh names every [`EPOCH`], so that no key has
//! a long life, nor many operations whose outcome nobody knows. A few keys of an epoch are fought
//! over by everyone, the others are spread; some end by themselves and come again; and some are large,
//! so that logs reach their bound and are trimmed. Large ones are deleted later, or each snapshot would
//! be larger than the one before. Reads also go back to keys of earlier epochs, whose last values must
//! still be there.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::SeqCst};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rand::rngs::ChaCha8Rng;
use rand::{RngExt as _, SeedableRng as _};

use super::counts::{Kind, Operations, Outcome};
use crate::client::Recorder;
use crate::client::{Answer, Client, Connection, ConnectionError, Error, Lane, Limits, Settings};
use crate::kv::command::{Bytes, Command, Deadline, ExpireIf, List, Millis, Read, Write};
use crate::wire::client::{ErrorCode, Reply, Request};

/// For so long the clients use the same keys.
const EPOCH: Duration = Duration::from_secs(4);

/// Keys of an epoch that everyone fights over.
const HOT_KEYS: u32 = 3;

/// Keys of an epoch that are met seldom.
const SPREAD_KEYS: u32 = 40;

/// Numbers of an epoch that everyone adds to.
const NUMBERS: u32 = 2;

/// Keys of an epoch that end by themselves, and come again: few requests each, because the judge knows of no
/// clock, and takes an end for a delete at any later moment.
const MORTAL_KEYS: u32 = 12;

/// How long they stay, in milliseconds: some end while servers are down, or nobody leads.
const LIFE: Millis = 1_000;

/// Keys of an epoch with large values.
const LARGE_KEYS: u32 = 4;

/// The shortest and the longest of them.
const LARGE_BYTES: std::ops::RangeInclusive<u16> = 2_048..=8_192;

/// Large values of the last epochs are left alone, older ones are deleted.
const LARGE_EPOCHS: u64 = 3;

/// How many epochs a look back may go.
const LOOK_BACK_EPOCHS: u64 = 20;

/// A server that is silent for so long is left for another one: longer than it waits for a majority
/// itself would be kinder, and would show fewer lost replies.
const SILENCE: Duration = Duration::from_secs(1);

/// A client with a session gives a request up after this.
const DEADLINE: Duration = Duration::from_secs(6);

/// The pause of a client that found no server.
const NO_SERVER_PAUSE: Duration = Duration::from_millis(20);

/// Between two looks of a client that is told to rest.
const REST_LOOK: Duration = Duration::from_millis(2);

/// All requests in flight have ended so long after the last one was sent, and some.
const REST_WITHIN: Duration = Duration::from_secs(8);
const _: () = assert!(DEADLINE.as_millis() + SILENCE.as_millis() <= REST_WITHIN.as_millis());

/// The clients of a torture.
#[derive(Debug)]
pub(super) struct Load {
    shared: Arc<Shared>,
    clients: Vec<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    started: Instant,
    stop: AtomicBool,
    rest: AtomicBool,
    /// Clients with a request in flight.
    busy: AtomicUsize,
    /// Requests that were sent once more, elsewhere.
    resent: AtomicU64,
    operations: Mutex<Operations>,
    /// A reply that no request of ours may get.
    strange: Mutex<Option<String>>,
}

impl Load {
    /// Starts so many clients of the servers at these addresses, `rate` requests a second together.
    pub(super) fn start(
        servers: &[String],
        clients: u32,
        rate: u32,
        seed: u64,
        recorder: &Recorder,
    ) -> io::Result<Self> {
        let mut load = Self {
            shared: Arc::new(Shared {
                started: Instant::now(),
                stop: AtomicBool::new(false),
                rest: AtomicBool::new(false),
                busy: AtomicUsize::new(0),
                resent: AtomicU64::new(0),
                operations: Mutex::default(),
                strange: Mutex::default(),
            }),
            clients: Vec::new(),
        };
        for number in 1..=clients {
            let lane = recorder.lane();
            let way = if number % 2 == 0 {
                Way::Plain(Plain::new(servers.to_vec(), lane))
            } else {
                Way::Session(load.session(servers.to_vec(), lane))
            };
            let poster = Poster {
                number,
                way,
                rng: ChaCha8Rng::seed_from_u64(seed.wrapping_add(u64::from(number) << 32)),
                think: Duration::from_secs(1) * clients / rate,
                shared: Arc::clone(&load.shared),
                epoch: 0,
                seen: BTreeMap::new(),
                values: 0,
            };
            let builder = thread::Builder::new().name(format!("client {number}"));
            load.clients.push(builder.spawn(move || poster.run())?);
        }
        Ok(load)
    }

    fn session(&self, servers: Vec<String>, lane: Lane) -> Client {
        let settings = Settings {
            limits: Limits {
                connect: SILENCE,
                silence: SILENCE,
                ..Limits::default()
            },
            deadline: DEADLINE,
            unreachable: SILENCE,
            random_start: false,
        };
        let mut client = Client::new(servers, settings);
        client.record(lane);
        let shared = Arc::clone(&self.shared);
        client.on_detour(move |_| {
            shared.resent.fetch_add(1, SeqCst);
        });
        client
    }

    /// What came of the requests so far.
    pub(super) fn operations(&self) -> Operations {
        let mut operations = self.shared.operations.lock().clone();
        operations.resent = self.shared.resent.load(SeqCst);
        operations
    }

    /// Fails if a client has seen what none may see, or has panicked.
    pub(super) fn look_after(&self) -> Result<(), String> {
        if let Some(strange) = &*self.shared.strange.lock() {
            return Err(strange.clone());
        }
        if self.clients.iter().any(JoinHandle::is_finished) {
            return Err("a client panicked".into());
        }
        Ok(())
    }

    /// Waits until nobody has a request in flight; nobody sends one until [`Load::go_on`].
    pub(super) fn rest(&self) -> Result<(), String> {
        self.shared.rest.store(true, SeqCst);
        let by = Instant::now() + REST_WITHIN;
        while self.shared.busy.load(SeqCst) > 0 {
            if Instant::now() > by {
                return Err(format!("a request has no end after {REST_WITHIN:?}"));
            }
            thread::sleep(REST_LOOK);
        }
        Ok(())
    }

    /// Ends a rest.
    pub(super) fn go_on(&self) {
        self.shared.rest.store(false, SeqCst);
    }

    /// Lets each client end what it is doing; what came of it all. Their histories are whole then.
    pub(super) fn finish(mut self) -> Operations {
        self.join();
        self.operations()
    }

    fn join(&mut self) {
        self.shared.stop.store(true, SeqCst);
        for client in self.clients.drain(..) {
            // A panic of one has been told; the others are still heard to the end.
            let _ = client.join();
        }
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.join();
    }
}

/// How a client talks to servers.
enum Way {
    Session(Client),
    Plain(Plain),
}

/// A client of plain lines, one server at a time.
struct Plain {
    servers: Vec<String>,
    at: usize,
    connection: Option<Connection>,
    lane: Lane,
}

impl Plain {
    fn new(servers: Vec<String>, lane: Lane) -> Self {
        Self {
            servers,
            at: 0,
            connection: None,
            lane,
        }
    }

    fn move_to(&mut self, server: usize) {
        if self.at != server {
            self.at = server;
            self.connection = None;
        }
    }

    /// None if the server takes no connection: then nothing was asked.
    fn ask(&mut self, request: &Request) -> Option<Result<Answer, Error>> {
        let started = Instant::now();
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => Connection::open(&self.servers[self.at], limits()).ok()?,
        };
        self.lane.call(request);
        let reply = connection.ask(request);
        let after = started.elapsed();
        let end = match reply {
            Ok(reply) => {
                self.connection = Some(connection);
                Ok(Answer {
                    reply,
                    server: self.servers[self.at].clone(),
                    took: after,
                })
            }
            // The line has no end there, so it is not run (P48).
            Err(error @ ConnectionError::Send(_)) => Err(Error::NotDone {
                after,
                reason: error.to_string(),
            }),
            Err(error) => Err(Error::InDoubt {
                after,
                reason: error.to_string(),
            }),
        };
        self.lane.end(&end);
        Some(end)
    }
}

/// How long those wait that talk to one server and no other.
pub(super) fn limits() -> Limits {
    Limits {
        connect: SILENCE,
        silence: SILENCE,
        ..Limits::default()
    }
}

/// One client.
struct Poster {
    number: u32,
    way: Way,
    rng: ChaCha8Rng,
    /// The mean pause between two requests.
    think: Duration,
    shared: Arc<Shared>,
    epoch: u64,
    /// What this client last saw of the keys of this epoch.
    seen: BTreeMap<String, Bytes>,
    /// Counts its values, each of which is another one.
    values: u64,
}

impl Poster {
    fn run(mut self) {
        while !self.shared.stop.load(SeqCst) {
            if self.shared.rest.load(SeqCst) {
                thread::sleep(REST_LOOK);
                continue;
            }
            self.shared.busy.fetch_add(1, SeqCst);
            // Looked at again: who waits for an end has seen either this request or none.
            if !self.shared.rest.load(SeqCst) {
                self.once();
            }
            self.shared.busy.fetch_sub(1, SeqCst);
            let pause = self.rng.random_range(0.0..2.0);
            thread::sleep(self.think.mul_f64(pause));
        }
    }

    fn once(&mut self) {
        let (kind, key, request) = self.request();
        if self.rng.random_ratio(1, 4) {
            self.elsewhere();
        }
        let end = match &mut self.way {
            Way::Session(client) => Some(client.ask(&request)),
            Way::Plain(plain) => plain.ask(&request),
        };
        let Some(end) = end else {
            self.elsewhere();
            thread::sleep(NO_SERVER_PAUSE);
            return;
        };
        let outcome = match &end {
            Ok(answer) => self.hear(&request, key, &answer.reply),
            Err(Error::InDoubt { .. }) => Outcome::Unknown,
            Err(Error::NotDone { .. } | Error::Unreachable { .. }) => Outcome::Refused,
        };
        self.shared.operations.lock().count(kind, outcome);
        if outcome != Outcome::Done {
            self.elsewhere();
        }
    }

    /// Takes another server, perhaps.
    fn elsewhere(&mut self) {
        match &mut self.way {
            Way::Session(client) => {
                let server = self.rng.random_range(0..client.servers().len());
                client.prefer(server);
            }
            Way::Plain(plain) => {
                let server = self.rng.random_range(0..plain.servers.len());
                plain.move_to(server);
            }
        }
    }

    /// Remembers what a reply says of its key.
    fn hear(&mut self, request: &Request, key: Option<String>, reply: &Reply) -> Outcome {
        match reply {
            Reply::Value(value) | Reply::Mismatch(value) => {
                if let Some(key) = key {
                    self.seen.insert(key, Arc::clone(value));
                }
            }
            Reply::Ok | Reply::NotFound | Reply::List(_) | Reply::Values(_) => {}
            Reply::Error(ErrorCode::NotDone, _) => return Outcome::Refused,
            Reply::Error(ErrorCode::Unknown, _) => return Outcome::Unknown,
            other => {
                let text = format!("client {}: {request:?} was answered {other}", self.number);
                self.shared.strange.lock().get_or_insert(text);
            }
        }
        Outcome::Done
    }

    /// What to ask next, and the key of this epoch that it is about.
    fn request(&mut self) -> (Kind, Option<String>, Request) {
        let epoch = self.shared.started.elapsed().as_secs() / EPOCH.as_secs();
        if epoch != self.epoch {
            self.epoch = epoch;
            self.seen.clear();
        }
        let key = self.key();
        let bytes = || Bytes::from(key.as_bytes());
        let (kind, request) = match self.rng.random_range(0..100_u32) {
            0..=23 => (Kind::Get, read(Read::Get { key: bytes() })),
            24..=25 => return (Kind::Get, None, self.large_read()),
            26..=30 => return (Kind::Get, None, self.look_back()),
            31..=49 => {
                let (key, value) = (bytes(), self.value());
                (Kind::Put, write(Write::Put { key, value }))
            }
            50..=53 => return (Kind::Put, None, self.large_write()),
            54..=58 => (Kind::Delete, write(Write::Delete { key: bytes() })),
            59..=60 => return (Kind::Delete, None, self.large_delete()),
            61..=73 => {
                let expected = self.seen.get(&key).cloned();
                let expected = expected.unwrap_or_else(|| Bytes::from(&b"?"[..]));
                let (key, new) = (bytes(), self.value());
                (Kind::Cas, write(Write::Cas { key, expected, new }))
            }
            74..=83 => {
                let number = self.rng.random_range(0..NUMBERS);
                let key = format!("{}/number{number}", self.epoch);
                let (key, by) = (key.as_bytes().into(), self.rng.random_range(-3..=9));
                return (Kind::Incr, None, write(Write::Incr { key, by }));
            }
            84..=97 => {
                let (kind, request) = self.mortal();
                return (kind, None, request);
            }
            _ => {
                let list = List::of(format!("{}/hot", self.epoch).as_bytes());
                return (Kind::List, None, read(Read::List(list)));
            }
        };
        (kind, Some(key), request)
    }

    fn key(&mut self) -> String {
        if self.rng.random_ratio(1, 3) {
            format!("{}/hot{}", self.epoch, self.rng.random_range(0..HOT_KEYS))
        } else {
            let number = self.rng.random_range(0..SPREAD_KEYS);
            format!("{}/key{number}", self.epoch)
        }
    }

    /// A request about keys that end by themselves.
    fn mortal(&mut self) -> (Kind, Request) {
        let mut key = || -> Bytes {
            let number = self.rng.random_range(0..MORTAL_KEYS);
            format!("{}/mortal{number}", self.epoch).as_bytes().into()
        };
        let (key, other) = (key(), key());
        match self.rng.random_range(0..14_u32) {
            0..=2 => {
                let value = self.value();
                (Kind::Put, write(Write::Put { key, value }))
            }
            3..=5 => {
                let value = self.value();
                (Kind::Append, write(Write::Append { key, value }))
            }
            6..=8 => {
                let (deadline, only) = (Deadline::In(LIFE), ExpireIf::Any);
                let expire = Write::Expire {
                    key,
                    deadline,
                    only,
                };
                (Kind::Expire, write(expire))
            }
            9..=10 => (Kind::Ttl, read(Read::Ttl { key })),
            11..=12 => {
                let keys = vec![key, other];
                (Kind::Mget, read(Read::Many { keys }))
            }
            _ => (Kind::Get, read(Read::Get { key })),
        }
    }

    /// A read of a key of an earlier epoch.
    fn look_back(&mut self) -> Request {
        let oldest = self.epoch.saturating_sub(LOOK_BACK_EPOCHS);
        let epoch = self.rng.random_range(oldest..=self.epoch);
        let key = match self.rng.random_range(0..3_u32) {
            0 => format!("{epoch}/hot{}", self.rng.random_range(0..HOT_KEYS)),
            1 => format!("{epoch}/number{}", self.rng.random_range(0..NUMBERS)),
            _ => format!("{epoch}/key{}", self.rng.random_range(0..SPREAD_KEYS)),
        };
        read(Read::Get {
            key: key.as_bytes().into(),
        })
    }

    /// A large key of an epoch from so many ago up to so many ago.
    fn large_key(&mut self, from: u64, to: u64) -> Bytes {
        let (oldest, newest) = (
            self.epoch.saturating_sub(from),
            self.epoch.saturating_sub(to),
        );
        let epoch = self.rng.random_range(oldest..=newest);
        let number = self.rng.random_range(0..LARGE_KEYS);
        format!("{epoch}/large{number}").as_bytes().into()
    }

    fn large_write(&mut self) -> Request {
        let key = self.large_key(0, 0);
        let mut value = self.value().to_vec();
        value.push(b'.');
        value.resize(self.rng.random_range(LARGE_BYTES).into(), b'x');
        write(Write::Put {
            key,
            value: value.into(),
        })
    }

    fn large_read(&mut self) -> Request {
        let key = self.large_key(LARGE_EPOCHS, 0);
        read(Read::Get { key })
    }

    fn large_delete(&mut self) -> Request {
        let key = self.large_key(LOOK_BACK_EPOCHS, LARGE_EPOCHS);
        write(Write::Delete { key })
    }

    fn value(&mut self) -> Bytes {
        self.values += 1;
        format!("v{}.{}", self.number, self.values)
            .as_bytes()
            .into()
    }
}

fn write(write: Write) -> Request {
    Request::Write(Command::Write(write))
}

fn read(read: Read) -> Request {
    Request::Read { local: false, read }
}
