//! The links between servers: one connection each way, one thread an end.
//!
//! A server dials every peer and sends on that connection only; it reads only on the connections
//! that it accepted. A connection begins with a greeting (`wire::peer`), and one that says anything
//! else is closed. Nothing here is reliable on purpose: lines that do not fit into a peer's queue,
//! or that wait for a peer that is not there, are dropped, because Paxos sends again (P34, D9).
//! What a link does promise is order within one connection.
//!
//! A peer whose machine or network is gone says nothing, and the system would wait for it for a quarter of
//! an hour. Three bounds find it out within [`SILENCE_MAX`]: nothing was read on the connection from it;
//! nothing that was sent was confirmed; and who hears nothing from a peer closes its own connection to it
//! as well. Then the peer is dialled until it is there, by its name, which is looked up each time.

use std::collections::{BTreeMap, HashSet};
use std::io::{self, ErrorKind, Read, Write};
use std::net::{IpAddr, Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender};
use log::{debug, info, warn};
use parking_lot::Mutex;
use rand::RngExt;
use socket2::SockRef;

use crate::dial;
use crate::outbox::To;
use crate::paxos::quorum::Members;
use crate::paxos::types::NodeId;
use crate::wire::lines::{Line, LineBuffer};
use crate::wire::peer::{
    GREETING_BYTES_MAX, Greeting, PEER_LINE_BYTES_MAX, Welcome, parse_message,
};

use super::core::{Event, log_line};
use super::seldom::Seldom;
use super::{Options, StartError, lane, spawn};

/// How many bytes may wait for one peer. What comes beyond is dropped.
const QUEUE_BYTES_MAX: usize = 64 << 20;

/// How many bytes are sent in one write.
const WRITE_BYTES_MAX: usize = 256 << 10;

/// A peer says something every 50 ms. One from which nothing came for this long, or that took or confirmed
/// nothing of what was sent to it, is gone (P33): the connection is closed, and it is dialled anew.
const SILENCE_MAX: Duration = Duration::from_secs(2);

/// How long the name of a peer may take to be looked up. After that, its last addresses are tried.
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(1);

/// How long a connection to one address of a peer may take to be made.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);

/// The same for all addresses of a peer. More than two get less time each.
const CONNECT_TIMEOUT_ALL: Duration = Duration::from_secs(2);

/// How long each half of the greeting may take.
const GREETING_TIMEOUT: Duration = SILENCE_MAX;

/// The pause between two tries to connect: from this...
const REDIAL_MIN: Duration = Duration::from_millis(10);

/// ...doubling up to this, until a link has lasted as long as [`STEADY`].
const REDIAL_MAX: Duration = Duration::from_millis(200);

/// A link that ends sooner is no success: whatever closes each new link at once is dialled a few times a
/// second, and not a hundred times.
const STEADY: Duration = Duration::from_secs(1);

/// How many connections may be in the middle of their greeting. More are closed at once.
const GREETINGS_MAX: usize = 64;

/// How many different reasons for closing a connection are told in the log.
const REASONS_MAX: usize = 1_000;

/// One line for a peer, ready to be sent.
pub(super) type SharedLine = Arc<[u8]>;

/// The line that `write` makes.
pub(super) fn line_of(write: impl FnOnce(&mut Vec<u8>)) -> SharedLine {
    let mut line = Vec::with_capacity(128);
    write(&mut line);
    line.into()
}

/// The queues to all peers.
#[derive(Debug)]
pub(super) struct Outgoing {
    me: NodeId,
    queues: BTreeMap<NodeId, Arc<Queue>>,
}

impl Outgoing {
    /// This server.
    pub(super) fn me(&self) -> NodeId {
        self.me
    }

    /// Queues a line. Never waits.
    pub(super) fn send(&self, to: To, line: &SharedLine) {
        match to {
            To::Others => {
                log_line(format_args!("-> all"), line);
                self.queues.values().for_each(|queue| queue.push(line));
            }
            To::One(node) => {
                log_line(format_args!("-> {node}"), line);
                if let Some(queue) = self.queues.get(&node) {
                    queue.push(line);
                }
            }
        }
    }
}

#[cfg(test)]
impl Outgoing {
    /// The queue to a single peer that is connected, and its other end.
    pub(super) fn to_one(me: NodeId, peer: NodeId) -> (Self, Receiver<SharedLine>) {
        let (lines, sent) = lane();
        let queue = Queue {
            lines,
            bytes: AtomicUsize::new(0),
            connected: AtomicBool::new(true),
            stream: Mutex::new(None),
        };
        let queues = BTreeMap::from([(peer, Arc::new(queue))]);
        (Self { me, queues }, sent)
    }
}

/// The lines that wait for one peer.
#[derive(Debug)]
struct Queue {
    lines: Sender<SharedLine>,
    bytes: AtomicUsize,
    /// Lines for a peer that is not connected are not kept: they would be stale when it is.
    connected: AtomicBool,
    /// The connection that they are sent on.
    stream: Mutex<Option<Arc<TcpStream>>>,
}

impl Queue {
    fn push(&self, line: &SharedLine) {
        if !self.connected.load(Ordering::Relaxed) {
            return;
        }
        if self.bytes.fetch_add(line.len(), Ordering::Relaxed) > QUEUE_BYTES_MAX
            || self.lines.send(Arc::clone(line)).is_err()
        {
            self.bytes.fetch_sub(line.len(), Ordering::Relaxed);
        }
    }

    /// Ends the connection, if there is one; it is made anew.
    fn close(&self) {
        if let Some(stream) = self.stream.lock().take() {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

/// All links of a server.
pub(super) struct Peers {
    outgoing: Arc<Outgoing>,
}

impl Peers {
    /// Starts the threads.
    pub(super) fn start(
        options: &Options,
        members: &Members,
        listener: TcpListener,
        events: &Sender<Event>,
    ) -> Result<Self, StartError> {
        let mut queues = BTreeMap::new();
        for peer in members.others(options.id) {
            let (lines_tx, lines) = lane();
            let queue = Arc::new(Queue {
                lines: lines_tx,
                bytes: AtomicUsize::new(0),
                connected: AtomicBool::new(false),
                stream: Mutex::new(None),
            });
            let dialer = Dialer {
                peer,
                address: options.peers[&peer].clone(),
                greeting: Greeting {
                    cluster: options.cluster.clone().into_bytes(),
                    from: options.id,
                    to: peer,
                    members: members.clone(),
                },
                queue: Arc::clone(&queue),
                lines,
                events: events.clone(),
                told: String::new(),
            };
            spawn(&format!("to {peer}"), move || dialer.run())?;
            queues.insert(peer, queue);
        }
        let door = Arc::new(Door {
            me: options.id,
            cluster: options.cluster.clone().into_bytes(),
            members: members.clone(),
            events: events.clone(),
            newest: Mutex::new(BTreeMap::new()),
            queues: queues.clone(),
            greetings: AtomicUsize::new(0),
            told: Mutex::new(HashSet::new()),
        });
        spawn("peer-listen", move || door.accept(&listener))?;
        Ok(Self {
            outgoing: Arc::new(Outgoing {
                me: options.id,
                queues,
            }),
        })
    }

    /// The queues to the peers.
    pub(super) fn outgoing(&self) -> Arc<Outgoing> {
        Arc::clone(&self.outgoing)
    }
}

/// Sends to one peer.
struct Dialer {
    peer: NodeId,
    address: String,
    greeting: Greeting,
    queue: Arc<Queue>,
    lines: Receiver<SharedLine>,
    events: Sender<Event>,
    /// The last reason why there is no link, so that it is told once.
    told: String,
}

impl Dialer {
    fn run(mut self) {
        let mut pause = REDIAL_MIN;
        loop {
            match self.connect() {
                Ok(stream) => {
                    let since = Instant::now();
                    self.told.clear();
                    info!("link to {} at {} is up", self.peer, self.address);
                    if self.events.send(Event::LinkUp(self.peer)).is_err() {
                        return;
                    }
                    let error = self.send_lines(&stream);
                    self.queue.connected.store(false, Ordering::Relaxed);
                    self.queue.close();
                    let Some(error) = error else { return };
                    let why = text_of(&error, "nothing arrived");
                    info!("link to {} is down: {why}", self.peer);
                    if since.elapsed() >= STEADY {
                        pause = REDIAL_MIN;
                    }
                }
                Err(why) if why != self.told => {
                    info!("no link to {} at {}: {why}", self.peer, self.address);
                    self.told = why;
                }
                Err(_) => {}
            }
            thread::sleep(rand::rng().random_range(pause / 2..=pause));
            pause = (pause * 2).min(REDIAL_MAX);
        }
    }

    fn connect(&self) -> Result<Arc<TcpStream>, String> {
        let stream = self.dial().map_err(|error| error.to_string())?;
        let greeted = self.greet(&stream);
        match greeted.map_err(|error| text_of(&error, "nothing was answered"))? {
            Welcome::Welcome(node) if node == self.peer => {}
            Welcome::Welcome(node) => return Err(format!("{node} answers there")),
            Welcome::Refused(why) => return Err(format!("it refused: {why}")),
        }
        // What was queued before is stale; the other threads see the flag after the queue is empty.
        while let Ok(line) = self.lines.try_recv() {
            self.queue.bytes.fetch_sub(line.len(), Ordering::Relaxed);
        }
        let stream = Arc::new(stream);
        *self.queue.stream.lock() = Some(Arc::clone(&stream));
        self.queue.connected.store(true, Ordering::Relaxed);
        Ok(stream)
    }

    fn dial(&self) -> io::Result<TcpStream> {
        let addresses = dial::look_up(&self.address, LOOKUP_TIMEOUT)?;
        let count = u32::try_from(addresses.len()).unwrap_or(u32::MAX);
        let timeout = CONNECT_TIMEOUT
            .saturating_mul(count)
            .min(CONNECT_TIMEOUT_ALL);
        let stream = dial::connect_to(&addresses, timeout)?;
        stream.set_nodelay(true)?;
        stream.set_write_timeout(Some(SILENCE_MAX))?;
        // Elsewhere the silence of the connection from the peer must do.
        #[cfg(any(target_os = "linux", target_os = "android"))]
        SockRef::from(&stream).set_tcp_user_timeout(Some(SILENCE_MAX))?;
        Ok(stream)
    }

    fn greet(&self, stream: &TcpStream) -> io::Result<Welcome> {
        let mut line = Vec::new();
        self.greeting.write(&mut line);
        (&mut &*stream).write_all(&line)?;
        let line = read_short_line(stream)?;
        Welcome::parse(&line).map_err(|error| io::Error::new(ErrorKind::InvalidData, error))
    }

    /// Sends what is queued until the link breaks; none when the server ends.
    fn send_lines(&self, mut stream: &TcpStream) -> Option<io::Error> {
        let mut buffer = Vec::with_capacity(WRITE_BYTES_MAX);
        loop {
            match self.lines.recv_timeout(SILENCE_MAX) {
                Ok(line) => self.take(&line, &mut buffer),
                Err(RecvTimeoutError::Timeout) => continue,
                Err(RecvTimeoutError::Disconnected) => return None,
            }
            while buffer.len() < WRITE_BYTES_MAX {
                let Ok(line) = self.lines.try_recv() else {
                    break;
                };
                self.take(&line, &mut buffer);
            }
            if let Err(error) = stream.write_all(&buffer) {
                return Some(error);
            }
            buffer.clear();
            buffer.shrink_to(4 * WRITE_BYTES_MAX);
        }
    }

    fn take(&self, line: &SharedLine, buffer: &mut Vec<u8>) {
        self.queue.bytes.fetch_sub(line.len(), Ordering::Relaxed);
        buffer.extend_from_slice(line);
    }
}

/// A connection that a peer made.
struct Incoming {
    /// In the order in which they were accepted, which is the order in which a peer made them.
    number: u64,
    stream: Arc<TcpStream>,
}

/// Lets peers in.
struct Door {
    me: NodeId,
    cluster: Vec<u8>,
    members: Members,
    events: Sender<Event>,
    /// The newest connection of each peer, which takes the place of the one before.
    newest: Mutex<BTreeMap<NodeId, Incoming>>,
    /// The other direction of each link.
    queues: BTreeMap<NodeId, Arc<Queue>>,
    /// How many connections are in the middle of their greeting.
    greetings: AtomicUsize,
    /// What was told in the log already.
    told: Mutex<HashSet<(IpAddr, String)>>,
}

impl Door {
    fn accept(self: Arc<Self>, listener: &TcpListener) {
        let mut warnings: [Seldom; 2] = Default::default();
        let [refused, threads] = &mut warnings;
        for (number, stream) in (0..).zip(listener.incoming()) {
            let stream = match stream {
                Ok(stream) => stream,
                Err(error) => {
                    // Out of something, most likely: time cures it, or nothing does.
                    refused.warn(format_args!("cannot accept a peer: {error}"));
                    thread::sleep(REDIAL_MAX);
                    continue;
                }
            };
            if self.greetings.fetch_add(1, Ordering::Relaxed) >= GREETINGS_MAX {
                self.greetings.fetch_sub(1, Ordering::Relaxed);
                continue;
            }
            let door = Arc::clone(&self);
            if let Err(error) = spawn("peer-in", move || door.serve(number, stream)) {
                self.greetings.fetch_sub(1, Ordering::Relaxed);
                threads.warn(error);
            }
        }
    }

    fn serve(&self, number: u64, stream: TcpStream) {
        let greeted = self.greet(&stream);
        self.greetings.fetch_sub(1, Ordering::Relaxed);
        let peer = match greeted {
            Ok(peer) => peer,
            Err(why) => return self.tell_once(&stream, &why),
        };
        let stream = Arc::new(stream);
        if !self.replace(peer, number, &stream) {
            return;
        }
        let why = self.read_lines(peer, &stream);
        if self.is_newest(peer, number) {
            // Before the end, so that a peer that comes again at once does not hide why.
            info!("link from {peer} is down: {why}");
        }
        let _ = stream.shutdown(Shutdown::Both);
        // Only the end of the newest one counts as silence.
        if self.forget(peer, number) {
            let _ = self.events.send(Event::LinkDown(peer));
        }
    }

    /// Makes this the one connection from a peer; false if there is a newer one. A peer that makes another
    /// one has given up the one before, of which nothing more may ever be heard.
    fn replace(&self, peer: NodeId, number: u64, stream: &Arc<TcpStream>) -> bool {
        let mut newest = self.newest.lock();
        let before = newest.get(&peer);
        if before.is_some_and(|before| before.number > number) {
            return false;
        }
        if let Some(before) = before {
            let _ = before.stream.shutdown(Shutdown::Both);
        }
        let stream = Arc::clone(stream);
        newest.insert(peer, Incoming { number, stream });
        true
    }

    fn is_newest(&self, peer: NodeId, number: u64) -> bool {
        let newest = self.newest.lock();
        newest
            .get(&peer)
            .is_some_and(|newest| newest.number == number)
    }

    /// Whether it was the newest.
    fn forget(&self, peer: NodeId, number: u64) -> bool {
        let mut newest = self.newest.lock();
        let was_newest = newest
            .get(&peer)
            .is_some_and(|newest| newest.number == number);
        if was_newest {
            newest.remove(&peer);
        }
        was_newest
    }

    /// Who is there, after both halves of the greeting.
    fn greet(&self, mut stream: &TcpStream) -> Result<NodeId, String> {
        let io = |error: io::Error| format!("no greeting: {error}");
        stream.set_nodelay(true).map_err(io)?;
        stream.set_write_timeout(Some(SILENCE_MAX)).map_err(io)?;
        let line = read_short_line(stream).map_err(io)?;
        let judged = Greeting::parse(&line).map_err(|error| error.to_string());
        let judged = judged.and_then(|greeting| self.judge(&greeting));
        let mut answer = Vec::new();
        match &judged {
            Ok(_) => Welcome::Welcome(self.me).write(&mut answer),
            Err(why) => Welcome::Refused(why.clone()).write(&mut answer),
        }
        stream.write_all(&answer).map_err(io)?;
        stream.set_read_timeout(Some(SILENCE_MAX)).map_err(io)?;
        judged
    }

    fn judge(&self, greeting: &Greeting) -> Result<NodeId, String> {
        let name = |cluster: &[u8]| String::from_utf8_lossy(cluster).into_owned();
        if greeting.cluster != self.cluster {
            let (ours, theirs) = (name(&self.cluster), name(&greeting.cluster));
            return Err(format!("expected cluster {ours}, found cluster {theirs:?}"));
        }
        if greeting.to != self.me {
            return Err(format!(
                "expected a greeting for {}, found {}",
                self.me, greeting.to
            ));
        }
        if greeting.members != self.members {
            return Err("expected the same servers in --peers everywhere, found others".into());
        }
        if greeting.from == self.me || !self.members.contains(greeting.from) {
            return Err(format!("expected another server, found {}", greeting.from));
        }
        Ok(greeting.from)
    }

    /// Reads messages until the link ends; why it did.
    fn read_lines(&self, peer: NodeId, mut stream: &TcpStream) -> String {
        let mut lines = LineBuffer::new(PEER_LINE_BYTES_MAX);
        loop {
            match lines.read_from(&mut stream) {
                Ok(0) => return "closed by the peer".into(),
                Ok(_) => {}
                Err(error) if is_timeout(&error) => return self.give_up(peer),
                Err(error) => return error.to_string(),
            }
            let mut messages = Vec::new();
            while let Some(line) = lines.next_line() {
                let Line::Whole(line) = line else {
                    return format!("expected a line of at most {PEER_LINE_BYTES_MAX} bytes");
                };
                log_line(format_args!("<- {peer}"), line);
                match parse_message(line) {
                    Ok(message) => messages.push(message),
                    Err(error) => return error.to_string(),
                }
            }
            if !messages.is_empty() && self.events.send(Event::Peer(peer, messages)).is_err() {
                return "this server stopped".into();
            }
        }
    }

    /// A peer that says nothing hears nothing either, as far as anyone can tell: the other direction of
    /// the link is made anew.
    fn give_up(&self, peer: NodeId) -> String {
        self.queues[&peer].close();
        format!("nothing was heard for {SILENCE_MAX:?}")
    }

    fn tell_once(&self, stream: &TcpStream, why: &str) {
        let Ok(address) = stream.peer_addr() else {
            return;
        };
        let mut told = self.told.lock();
        if told.len() < REASONS_MAX && told.insert((address.ip(), why.to_owned())) {
            warn!("closed a connection of {address} on the peer port: {why}");
        } else {
            debug!("closed a connection of {address} on the peer port: {why}");
        }
    }
}

/// Reads one line of a greeting, byte by byte, so that nothing behind it is taken. The time is for all of
/// it: who trickles would else hold one of the places in which peers greet.
fn read_short_line(mut stream: &TcpStream) -> io::Result<Vec<u8>> {
    let by = Instant::now() + GREETING_TIMEOUT;
    let mut line = Vec::new();
    let mut byte = [0];
    while line.len() < GREETING_BYTES_MAX {
        let left = by.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(ErrorKind::TimedOut.into());
        }
        stream.set_read_timeout(Some(left))?;
        match stream.read(&mut byte) {
            Ok(0) => {
                return Err(io::Error::new(
                    ErrorKind::UnexpectedEof,
                    "the connection ended",
                ));
            }
            Ok(_) if byte[0] == b'\n' => return Ok(line),
            Ok(_) => line.push(byte[0]),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Err(io::Error::new(
        ErrorKind::InvalidData,
        "the first line is too long",
    ))
}

/// The system's word for a time-out, `resource temporarily unavailable`, would explain nothing.
fn text_of(error: &io::Error, silence: &str) -> String {
    if is_timeout(error) {
        format!("{silence} for {SILENCE_MAX:?}")
    } else {
        error.to_string()
    }
}

fn is_timeout(error: &io::Error) -> bool {
    // Which of the two a read time-out gives differs between systems.
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut)
}
