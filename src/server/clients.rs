//! The clients' connections: a thread each, from a bounded pool, reused.
//!
//! | file | holds |
//! | --- | --- |
//! | here | who is connected, and which thread serves whom |
//! | `budget` | how much memory all connections may hold together, and who has to leave |
//! | `run` | requests that are handed to the core together, and answered in order |
//! | `lines` | a connection of plain lines |
//! | `resp` | a connection that speaks the protocol of Redis |
//! | `multi` | transactions of such a one |
//! | `looks` | what connections read of the store |
//! | `wait` | how many servers have what a connection of RESP wrote |
//! | `cursors` | where the steps of `SCAN` go on |
//! | `about` | what a connection of RESP is told of the server and of the connections |
//!
//! The first byte of a connection tells what it speaks: `*` begins a request of RESP, and no request
//! in plain lines that would be understood.
//!
//! A client that sends nothing costs a blocked thread and nothing else; one that takes no replies
//! blocks its own thread until [`WRITE_TIMEOUT`].

mod about;
mod budget;
mod cursors;
mod lines;
mod looks;
mod multi;
mod resp;
mod run;
mod wait;

use std::collections::BTreeMap;
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded};
use parking_lot::{Condvar, Mutex};
use socket2::{SockRef, TcpKeepalive};

use crate::replica::SharedStore;
use crate::wire::client::Reply;

use super::core::Event;
use super::recorder::Syncs;
use super::seldom::Seldom;
use super::{Options, StartError, spawn};
use about::Labels;
use budget::{Budget, Gate};
use run::Server;

/// A client that takes no reply for so long is cut off.
const WRITE_TIMEOUT: Duration = Duration::from_secs(30);

/// A client that has said nothing for so long is asked by the systems of both sides whether it is there.
const QUIET: Duration = Duration::from_mins(1);

/// The time between two such questions.
const QUESTION: Duration = Duration::from_secs(10);

/// A client that answers none of so many is gone without a word, and its place is free again.
const QUESTIONS: u32 = 3;

/// A thread without a connection ends after so long.
const IDLE_THREAD: Duration = Duration::from_secs(30);

/// A connection that is closed by the server is drained for so long, so that the system does not
/// tear it down before the client has read the last reply.
const LINGER: Duration = Duration::from_millis(200);

/// How often is looked for more from a connection that was told to leave.
const LAST_WORDS_LOOK: Duration = Duration::from_millis(5);

/// How many connections past the limit are told so at once; more are just closed.
const TURNED_AWAY_MAX: usize = 64;

/// How long the listener pauses when the system has no file descriptor left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// The clients' side of a server.
pub(super) struct Clients {
    pool: Arc<Pool>,
}

/// What all connections share.
struct Pool {
    stopping: AtomicBool,
    open: Arc<Open>,
    next: AtomicU64,
    idle: AtomicUsize,
    work_tx: Sender<Arc<Connection>>,
    work: Receiver<Arc<Connection>>,
    server: Server,
}

/// The open connections, to be closed when the server stops, and to be told of.
struct Open {
    /// The most connections at one time.
    limit: usize,
    /// How many there are: as long as their streams are open.
    places: Arc<AtomicUsize>,
    by_number: Mutex<BTreeMap<u64, Arc<Connection>>>,
    /// How many were ever accepted.
    received: AtomicU64,
    /// How much memory they may hold together.
    budget: Budget,
    /// Signalled when one closes.
    closed: Condvar,
}

struct Connection {
    /// From 1, in the order in which they came.
    number: u64,
    stream: TcpStream,
    since: Instant,
    labels: Mutex<Labels>,
    gate: Gate,
    /// Given back after the stream is closed.
    _place: Place,
}

/// One of the connections that there may be.
struct Place(Arc<AtomicUsize>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Clients {
    /// Starts to accept.
    pub(super) fn start(
        options: &Options,
        limit: usize,
        listener: TcpListener,
        events: Sender<Event>,
        store: SharedStore,
        acceptor_alive: Arc<AtomicBool>,
        syncs: Syncs,
    ) -> Result<Self, StartError> {
        let (work_tx, work) = bounded(0);
        let open = Arc::new(Open {
            limit,
            places: Arc::new(AtomicUsize::new(0)),
            by_number: Mutex::new(BTreeMap::new()),
            received: AtomicU64::new(0),
            budget: Budget::new(options.clients_bytes_max),
            closed: Condvar::new(),
        });
        let pool = Arc::new(Pool {
            stopping: AtomicBool::new(false),
            open: Arc::clone(&open),
            next: AtomicU64::new(1),
            idle: AtomicUsize::new(0),
            work_tx,
            work,
            server: Server::new(
                events,
                store,
                acceptor_alive,
                options.allow_fail,
                syncs,
                open,
            ),
        });
        let (away_tx, away) = bounded(TURNED_AWAY_MAX);
        spawn("turn-away", move || turn_away(&away, limit))?;
        let accepting = Arc::clone(&pool);
        spawn("client-listen", move || {
            accepting.accept(&listener, &away_tx);
        })?;
        Ok(Self { pool })
    }

    /// Accepts no more connections.
    pub(super) fn stop_accepting(&self) {
        self.pool.stopping.store(true, Ordering::SeqCst);
    }

    /// Ends all connections once their last replies are written, or when `limit` is over.
    pub(super) fn say_goodbye(&self, limit: Duration) {
        let by = Instant::now() + limit;
        let mut open = self.pool.open.by_number.lock();
        for connection in open.values() {
            let _ = connection.stream.shutdown(Shutdown::Read);
        }
        while !open.is_empty() {
            let closed = &self.pool.open.closed;
            if closed.wait_until(&mut open, by).timed_out() {
                return;
            }
        }
    }
}

impl Pool {
    fn accept(self: Arc<Self>, listener: &TcpListener, away: &Sender<TcpStream>) {
        let limit = self.open.limit;
        let mut warnings: [Seldom; 3] = Default::default();
        let [refused, full, threads] = &mut warnings;
        for stream in listener.incoming() {
            if self.stopping.load(Ordering::SeqCst) {
                return;
            }
            let stream = match stream {
                Ok(stream) => stream,
                Err(error) => {
                    refused.warn(format_args!("cannot accept a client: {error}"));
                    thread::sleep(ACCEPT_PAUSE);
                    continue;
                }
            };
            let Some(place) = self.open.place() else {
                full.warn(format_args!("turning a client away: {limit} are connected"));
                // When even these are too many, closing is all that is left.
                let _ = away.try_send(stream);
                continue;
            };
            if let Err(error) = self.hand_over(stream, place) {
                threads.warn(error);
            }
        }
    }

    /// Gives the connection to an idle thread, or to a new one.
    fn hand_over(self: &Arc<Self>, stream: TcpStream, place: Place) -> Result<(), StartError> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let mut connection = Arc::new(Connection {
            number,
            stream,
            since: Instant::now(),
            labels: Mutex::new(Labels::default()),
            gate: Gate::default(),
            _place: place,
        });
        let also = Arc::clone(&connection);
        self.open.by_number.lock().insert(number, also);
        self.open.received.fetch_add(1, Ordering::Relaxed);
        if self.idle.load(Ordering::SeqCst) > 0 {
            match self.work_tx.try_send(connection) {
                Ok(()) => return Ok(()),
                Err(refused) => connection = refused.into_inner(),
            }
        }
        let pool = Arc::clone(self);
        let spawned = spawn("client", move || pool.work(connection));
        if spawned.is_err() {
            self.open.forget(number);
        }
        spawned.map(|_| ())
    }

    /// A thread's life: connections, one after another.
    fn work(&self, mut connection: Arc<Connection>) {
        loop {
            // An error ends the connection; whose fault it was does not matter here.
            let _ = connection.serve(&self.server);
            self.open.forget(connection.number);
            drop(connection);
            self.idle.fetch_add(1, Ordering::SeqCst);
            let next = self.work.recv_timeout(IDLE_THREAD);
            self.idle.fetch_sub(1, Ordering::SeqCst);
            match next {
                Ok(next) => connection = next,
                Err(_) => return,
            }
        }
    }
}

impl Open {
    /// Room for one more, if there is any. Only the thread that accepts asks.
    fn place(&self) -> Option<Place> {
        if self.places.load(Ordering::SeqCst) >= self.limit {
            return None;
        }
        self.places.fetch_add(1, Ordering::SeqCst);
        Some(Place(Arc::clone(&self.places)))
    }

    fn received(&self) -> u64 {
        self.received.load(Ordering::Relaxed)
    }

    fn forget(&self, number: u64) {
        self.by_number.lock().remove(&number);
        self.closed.notify_all();
    }

    /// Makes a connection leave, if it is still there.
    fn leave(&self, number: u64) {
        let connection = self.by_number.lock().get(&number).cloned();
        if let Some(connection) = connection {
            connection.gate.leave(&connection.stream);
        }
    }

    /// What a connection is told that has to leave.
    fn why_leave(&self) -> String {
        format!(
            "all clients together hold more than {} bytes of memory here (--clients-memory-mib), and this \
             connection the most: send and ask for less at a time",
            self.budget.limit()
        )
    }
}

impl Connection {
    /// Serves it to its end, in what it speaks.
    fn serve(&self, server: &Server) -> io::Result<()> {
        let stream = &self.stream;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(None)?;
        stream.set_write_timeout(Some(WRITE_TIMEOUT))?;
        let keepalive = TcpKeepalive::new().with_time(QUIET);
        let keepalive = keepalive.with_interval(QUESTION).with_retries(QUESTIONS);
        SockRef::from(stream).set_tcp_keepalive(&keepalive)?;
        match first_byte(stream)? {
            None => Ok(()),
            Some(b'*') => resp::serve(server, self),
            Some(first) => lines::serve(server, self, first),
        }
    }
}

/// The first byte that comes, which stays to be read; none if none comes.
fn first_byte(stream: &TcpStream) -> io::Result<Option<u8>> {
    let mut first = [0];
    loop {
        match stream.peek(&mut first) {
            Ok(count) => return Ok((count > 0).then_some(first[0])),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// Tells connections past the limit why they are closed. What they speak is not known yet.
fn turn_away(connections: &Receiver<TcpStream>, limit: usize) {
    for stream in connections {
        let mut line = Vec::new();
        Reply::too_many_connections(limit).write(&mut line);
        let _ = stream.set_write_timeout(Some(LINGER));
        let _ = (&stream).write_all(&line);
        close(&stream);
    }
}

/// Tells a connection that has to leave why, without waiting for it to listen. Its client may be sending all
/// the while: that is read and thrown away, so that the system does not tear the connection down before
/// the client has read what was sent last.
fn send_last_words(mut stream: &TcpStream, bytes: Vec<u8>) {
    let by = Instant::now() + LINGER;
    if stream.set_nonblocking(true).is_err() || stream.write_all(&bytes).is_err() {
        return;
    }
    drop(bytes);
    let mut rest = [0; 4096];
    while Instant::now() < by {
        // It reads as ended, and may have more nevertheless.
        if !matches!(stream.read(&mut rest), Ok(count) if count > 0) {
            thread::sleep(LAST_WORDS_LOOK);
        }
    }
}

/// Closes a connection so that its client can read what was sent last.
fn close(mut stream: &TcpStream) {
    let by = Instant::now() + LINGER;
    let _ = stream.shutdown(Shutdown::Write);
    let mut rest = [0; 4096];
    loop {
        let left = by.saturating_duration_since(Instant::now());
        if left.is_zero() || stream.set_read_timeout(Some(left)).is_err() {
            return;
        }
        if !matches!(stream.read(&mut rest), Ok(count) if count > 0) {
            return;
        }
    }
}
