//! The clients' connections: a thread each, from a bounded pool, reused.
//!
//! | file | holds |
//! | --- | --- |
//! | here | who is connected, and which thread serves whom |
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
use log::warn;
use parking_lot::{Condvar, Mutex};
use socket2::{SockRef, TcpKeepalive};

use crate::replica::SharedStore;
use crate::wire::client::Reply;

use super::core::Event;
use super::{Options, StartError, spawn};
use about::Labels;
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
    limit: usize,
    by_number: Mutex<BTreeMap<u64, Arc<Connection>>>,
    /// How many were ever accepted.
    received: AtomicU64,
    /// Signalled when one closes.
    closed: Condvar,
}

struct Connection {
    /// From 1, in the order in which they came.
    number: u64,
    stream: TcpStream,
    since: Instant,
    labels: Mutex<Labels>,
}

impl Clients {
    /// Starts to accept.
    pub(super) fn start(
        options: &Options,
        listener: TcpListener,
        events: Sender<Event>,
        store: SharedStore,
        acceptor_alive: Arc<AtomicBool>,
        syncs: Arc<AtomicU64>,
    ) -> Result<Self, StartError> {
        let (work_tx, work) = bounded(0);
        let limit = options.clients_max;
        let open = Arc::new(Open {
            limit,
            by_number: Mutex::new(BTreeMap::new()),
            received: AtomicU64::new(0),
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
        let mut full = false;
        let limit = self.open.limit;
        for stream in listener.incoming() {
            if self.stopping.load(Ordering::SeqCst) {
                return;
            }
            let stream = match stream {
                Ok(stream) => stream,
                Err(error) => {
                    warn!("cannot accept a client: {error}");
                    thread::sleep(ACCEPT_PAUSE);
                    continue;
                }
            };
            let was_full = std::mem::replace(&mut full, self.open.by_number.lock().len() >= limit);
            if full {
                if !was_full {
                    warn!("turning clients away: {limit} are connected");
                }
                // When even these are too many, closing is all that is left.
                let _ = away.try_send(stream);
                continue;
            }
            self.hand_over(stream);
        }
    }

    /// Gives the connection to an idle thread, or to a new one.
    fn hand_over(self: &Arc<Self>, stream: TcpStream) {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let mut connection = Arc::new(Connection {
            number,
            stream,
            since: Instant::now(),
            labels: Mutex::new(Labels::default()),
        });
        let also = Arc::clone(&connection);
        self.open.by_number.lock().insert(number, also);
        self.open.received.fetch_add(1, Ordering::Relaxed);
        if self.idle.load(Ordering::SeqCst) > 0 {
            match self.work_tx.try_send(connection) {
                Ok(()) => return,
                Err(refused) => connection = refused.into_inner(),
            }
        }
        let pool = Arc::clone(self);
        if let Err(error) = spawn("client", move || pool.work(connection)) {
            warn!("{error}");
            self.open.forget(number);
        }
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
    fn received(&self) -> u64 {
        self.received.load(Ordering::Relaxed)
    }

    fn forget(&self, number: u64) {
        self.by_number.lock().remove(&number);
        self.closed.notify_all();
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
            Some(_) => lines::serve(server, stream),
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
