//! The clients' connections: a thread each, from a bounded pool, reused.
//!
//! A connection's thread reads what has arrived, parses all whole lines, sends all that needs the
//! core together, waits for the answers, and writes all replies in order in one write; replies that
//! are known before it waits are written before. Reads run here, on the shared store, once the core
//! says that it holds what they must see. Requests of one connection take effect in their order: what
//! follows a read is not handed on before the read is answered.
//!
//! A client that sends nothing costs a blocked thread and nothing else; one that takes no replies
//! blocks its own thread until [`WRITE_TIMEOUT`].

use std::collections::HashMap;
use std::io::{self, Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded};
use log::{info, warn};
use parking_lot::{Condvar, Mutex};

use crate::kv::command::{Command, Read};
use crate::outbox::Answer;
use crate::replica::{SharedStore, Status};
use crate::wire::client::{ErrorCode, LINE_BYTES_MAX, Reply, Request, RequestError, parse_request};
use crate::wire::lines::{Line, LineBuffer};

use super::core::{COMMANDS_MAX, Event, Requests};
use super::{Options, StartError, spawn};

/// A client that takes no reply for so long is cut off.
const WRITE_TIMEOUT: Duration = Duration::from_secs(30);

/// A thread without a connection ends after so long.
const IDLE_THREAD: Duration = Duration::from_secs(30);

/// Replies are written at the latest when they have so many bytes.
const REPLY_BYTES_MAX: usize = 256 << 10;

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
    limit: usize,
    stopping: AtomicBool,
    /// Open connections, to be closed when the server stops.
    open: Mutex<HashMap<u64, Arc<TcpStream>>>,
    /// Signalled when one closes.
    closed: Condvar,
    next: AtomicU64,
    idle: AtomicUsize,
    work_tx: Sender<Connection>,
    work: Receiver<Connection>,
    server: Server,
}

/// What a connection needs of the server.
struct Server {
    events: Sender<Event>,
    store: SharedStore,
    acceptor_alive: Arc<AtomicBool>,
    allow_fail: bool,
    started: Instant,
}

struct Connection {
    number: u64,
    stream: Arc<TcpStream>,
}

impl Clients {
    /// Starts to accept.
    pub(super) fn start(
        options: &Options,
        listener: TcpListener,
        events: Sender<Event>,
        store: SharedStore,
        acceptor_alive: Arc<AtomicBool>,
    ) -> Result<Self, StartError> {
        let (work_tx, work) = bounded(0);
        let pool = Arc::new(Pool {
            limit: options.clients_max,
            stopping: AtomicBool::new(false),
            open: Mutex::new(HashMap::new()),
            closed: Condvar::new(),
            next: AtomicU64::new(0),
            idle: AtomicUsize::new(0),
            work_tx,
            work,
            server: Server {
                events,
                store,
                acceptor_alive,
                allow_fail: options.allow_fail,
                started: Instant::now(),
            },
        });
        let (away_tx, away) = bounded(TURNED_AWAY_MAX);
        let limit = options.clients_max;
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
        let mut open = self.pool.open.lock();
        for stream in open.values() {
            let _ = stream.shutdown(Shutdown::Read);
        }
        while !open.is_empty() {
            if self.pool.closed.wait_until(&mut open, by).timed_out() {
                return;
            }
        }
    }
}

impl Pool {
    fn accept(self: Arc<Self>, listener: &TcpListener, away: &Sender<TcpStream>) {
        let mut full = false;
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
            let was_full = std::mem::replace(&mut full, self.open.lock().len() >= self.limit);
            if full {
                if !was_full {
                    warn!("turning clients away: {} are connected", self.limit);
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
        let stream = Arc::new(stream);
        self.open.lock().insert(number, Arc::clone(&stream));
        let mut connection = Connection { number, stream };
        if self.idle.load(Ordering::SeqCst) > 0 {
            match self.work_tx.try_send(connection) {
                Ok(()) => return,
                Err(refused) => connection = refused.into_inner(),
            }
        }
        let pool = Arc::clone(self);
        if let Err(error) = spawn("client", move || pool.work(connection)) {
            warn!("{error}");
            self.forget(number);
        }
    }

    /// A thread's life: connections, one after another.
    fn work(&self, mut connection: Connection) {
        loop {
            // An error ends the connection; whose fault it was does not matter here.
            let _ = self.server.serve(&connection.stream);
            self.forget(connection.number);
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

    fn forget(&self, number: u64) {
        self.open.lock().remove(&number);
        self.closed.notify_all();
    }
}

/// Tells connections past the limit why they are closed.
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

/// A request that awaits its turn within a run.
enum Item {
    /// The reply is known.
    Ready(Reply),
    /// The reply is the answer to the command at this place.
    Command(usize),
    /// To be read from the store; a local one needs nobody's leave.
    Read { local: bool, read: Read },
    /// To be asked of the core.
    Status,
    /// To be done to the acceptor: whether it is to be up.
    Acceptor(bool),
}

impl Item {
    /// Whether the reply needs nothing but this server.
    fn is_at_hand(&self) -> bool {
        match self {
            Self::Ready(_) | Self::Read { local: true, .. } | Self::Status => true,
            Self::Command(_) | Self::Read { local: false, .. } | Self::Acceptor(_) => false,
        }
    }
}

/// Requests that are handed on together: commands, and then reads that see them.
#[derive(Default)]
struct Run {
    items: Vec<Item>,
    commands: Vec<Command>,
    /// Whether a read is linearizable.
    barrier: bool,
    /// Whether a command that follows must wait for this run.
    closed: bool,
}

impl Server {
    /// Serves one connection to its end.
    fn serve(&self, mut stream: &TcpStream) -> io::Result<()> {
        stream.set_nodelay(true)?;
        stream.set_read_timeout(None)?;
        stream.set_write_timeout(Some(WRITE_TIMEOUT))?;
        let mut lines = LineBuffer::new(LINE_BYTES_MAX);
        let mut replies = Vec::new();
        while lines.read_from(&mut stream)? > 0 {
            let quit = self.serve_lines(&mut lines, stream, &mut replies)?;
            stream.write_all(&replies)?;
            replies.clear();
            replies.shrink_to(REPLY_BYTES_MAX);
            if quit {
                close(stream);
                return Ok(());
            }
        }
        Ok(())
    }

    /// Serves all lines that have arrived; true if the client quits.
    fn serve_lines(
        &self,
        lines: &mut LineBuffer,
        stream: &TcpStream,
        replies: &mut Vec<u8>,
    ) -> io::Result<bool> {
        let mut run = Run::default();
        while let Some(line) = lines.next_line() {
            let request = match line {
                Line::Whole(line) => parse_request(line),
                Line::TooLong => Err(RequestError::too_long_line()),
            };
            let is_command = matches!(request, Ok(Request::Write(_)));
            if run.closed && is_command || run.items.len() >= COMMANDS_MAX {
                self.finish(std::mem::take(&mut run), stream, replies)?;
            }
            match request {
                Ok(Request::Quit) => {
                    self.finish(run, stream, replies)?;
                    Reply::Bye.write(replies);
                    return Ok(true);
                }
                Ok(request) => run.add(request),
                Err(error) => run.items.push(Item::Ready(error.into())),
            }
        }
        self.finish(run, stream, replies)?;
        Ok(false)
    }

    /// Hands the run on, waits for the answers, and appends the replies; writes what gets long.
    ///
    /// Replies that are known are written before a wait: what a client asked of this server alone,
    /// and first, does not wait for a majority.
    fn finish(&self, run: Run, mut stream: &TcpStream, replies: &mut Vec<u8>) -> io::Result<()> {
        let Run {
            items,
            commands,
            barrier,
            ..
        } = run;
        let count = commands.len();
        let mut items = items.into_iter().peekable();
        let mut answers = Vec::new();
        if count > 0 || barrier {
            while let Some(item) = items.next_if(Item::is_at_hand) {
                self.reply(item, &answers, None).write(replies);
            }
            stream.write_all(replies)?;
            replies.clear();
            answers = self.ask(commands, barrier);
        }
        let refusal = answers.get(count).and_then(refusal);
        for item in items {
            self.reply(item, &answers, refusal.as_ref()).write(replies);
            if replies.len() >= REPLY_BYTES_MAX {
                stream.write_all(replies)?;
                replies.clear();
            }
        }
        Ok(())
    }

    /// The reply to one request, when the answers that it waited for are there. `refusal` says why
    /// linearizable reads cannot be done, if they cannot.
    fn reply(&self, item: Item, answers: &[Answer], refusal: Option<&Reply>) -> Reply {
        match item {
            Item::Ready(reply) => reply,
            Item::Command(place) => reply_to(answers[place].clone()),
            Item::Read { local: false, read } => {
                refusal.map_or_else(|| self.read(&read), Reply::clone)
            }
            Item::Read { local: true, read } => self.read(&read),
            Item::Status => self.status(),
            Item::Acceptor(up) => self.set_acceptor(up),
        }
    }

    /// Hands commands to the core, and waits.
    fn ask(&self, commands: Vec<Command>, read: bool) -> Vec<Answer> {
        const STOPPED: &str = "this server is shutting down";
        let count = commands.len() + usize::from(read);
        let (answers_tx, answers) = bounded(1);
        let requests = Requests {
            commands,
            read,
            answers: answers_tx,
        };
        if self.events.send(Event::Requests(requests)).is_err() {
            return vec![Answer::NotDone(STOPPED); count];
        }
        // The core answers what it took before it ends; what it did not take was never seen.
        answers
            .recv()
            .unwrap_or_else(|_| vec![Answer::NotDone(STOPPED); count])
    }

    fn read(&self, read: &Read) -> Reply {
        match read {
            Read::Get { key } => self.store.lock().get(key).into(),
            Read::List { prefix } => {
                let list = self.store.lock().list(prefix);
                Reply::List(list)
            }
        }
    }

    fn status(&self) -> Reply {
        let (status_tx, status) = bounded(1);
        let sent = self.events.send(Event::Status(status_tx));
        match sent.ok().and_then(|()| status.recv().ok()) {
            Some((status, cluster)) => {
                Reply::Status(fields(&status, &cluster, self.started.elapsed()))
            }
            None => Reply::error(ErrorCode::NotDone, "this server is shutting down"),
        }
    }

    /// Flips the acceptor's flag and waits until that has taken effect.
    fn set_acceptor(&self, up: bool) -> Reply {
        if !self.allow_fail {
            let text = "this server was not started with --allow-fail";
            return Reply::error(ErrorCode::Forbidden, text);
        }
        info!(
            "a client {} the acceptor",
            if up { "recovers" } else { "fails" }
        );
        self.acceptor_alive.store(up, Ordering::SeqCst);
        let (done_tx, done) = bounded(1);
        let _ = self.events.send(Event::AcceptorFlag(Some(done_tx)));
        let _ = done.recv();
        Reply::Ok
    }
}

impl Run {
    fn add(&mut self, request: Request) {
        let item = match request {
            Request::Write(command) => {
                self.commands.push(command);
                Item::Command(self.commands.len() - 1)
            }
            Request::Read { local, read } => {
                self.barrier |= !local;
                self.closed = true;
                Item::Read { local, read }
            }
            Request::Status => {
                self.closed = true;
                Item::Status
            }
            Request::Fail | Request::Recover => {
                self.closed = true;
                Item::Acceptor(matches!(request, Request::Recover))
            }
            Request::Ping => Item::Ready(Reply::Pong),
            Request::Help => Item::Ready(Reply::help()),
            Request::Quit => Item::Ready(Reply::Bye),
        };
        self.items.push(item);
    }
}

fn reply_to(answer: Answer) -> Reply {
    match answer {
        Answer::Done(outcome) => outcome.into(),
        Answer::Readable => unreachable!("only reads are answered so"),
        Answer::NotDone(why) => Reply::error(ErrorCode::NotDone, why),
        Answer::Unknown(why) => Reply::error(ErrorCode::Unknown, why),
    }
}

/// Why a read cannot be done, if it cannot. A read changes nothing, so it is never unknown.
fn refusal(answer: &Answer) -> Option<Reply> {
    match answer {
        Answer::Readable | Answer::Done(_) => None,
        Answer::NotDone(why) | Answer::Unknown(why) => Some(Reply::error(ErrorCode::NotDone, *why)),
    }
}

fn fields(status: &Status, cluster: &str, uptime: Duration) -> Vec<(String, String)> {
    let text = |up: bool, yes: &str, no: &str| if up { yes.into() } else { no.into() };
    let mut fields: Vec<(String, String)> = vec![
        ("id".into(), status.id.to_string()),
        ("cluster".into(), cluster.into()),
        ("role".into(), status.role.into()),
        (
            "leader".into(),
            status
                .leader
                .map_or("none".into(), |leader| leader.to_string()),
        ),
        ("ballot".into(), status.ballot.to_string()),
        ("decided".into(), status.decided.to_string()),
        ("applied".into(), status.applied.to_string()),
        ("hash".into(), format!("{:016x}", status.hash)),
        ("acceptor".into(), text(status.acceptor_up, "up", "failed")),
        ("keys".into(), status.keys.to_string()),
        ("uptime_s".into(), uptime.as_secs().to_string()),
    ];
    for (peer, up) in &status.peers {
        fields.push(("peer".into(), format!("{peer} {}", text(*up, "up", "down"))));
    }
    fields
}
