//! Runs of requests, whatever the protocol: handed to the core together, answered in order.
//!
//! A connection's thread reads what has arrived, and puts all whole requests of it into a [`Run`]. It
//! sends all commands among them to the core in one message, waits once for all answers, and writes
//! all replies in order in one write; replies that are known before it waits are written before. Reads
//! run in that thread, on the shared store, once the core says that it holds what they must see.
//! Requests of one connection take effect in their order: what follows a read is not handed on before
//! the read is answered.

use std::cell::Cell;
use std::io::{self, Write as _};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded};
use log::info;

use crate::kv::command::{Command, Outcome};
use crate::outbox::Answer;
use crate::replica::{SharedStore, Status};

use super::super::core::{COMMANDS_MAX, Event, Requests};
use super::super::cost::cpu_time;
use super::super::lane;
use super::super::recorder::Syncs;
use super::budget::{Account, FREE_BYTES, Part};
use super::cursors::Cursors;
use super::{Open, send_last_words};

/// Replies are written at the latest when they have so many bytes.
const REPLY_BYTES_MAX: usize = 256 << 10;

/// How many bytes there are for replies while a connection rests.
const REPLY_REST_BYTES: usize = 32 << 10;

// With the rest of its input, a connection that rests is not counted.
const _: () = assert!(2 * REPLY_REST_BYTES <= FREE_BYTES);

/// What a request takes beside its own bytes, in bytes: what is to be done for it, and its answer.
pub(super) const REQUEST_MEMORY: usize = 256;

/// Why nothing is done any more.
pub(super) const STOPPED: &str = "this server is shutting down";

/// What a connection needs of the server.
pub(super) struct Server {
    events: Sender<Event>,
    pub(super) store: SharedStore,
    acceptor_alive: Arc<AtomicBool>,
    pub(super) allow_fail: bool,
    started: Instant,
    syncs: Syncs,
    /// How many requests were answered, of whatever protocol.
    pub(super) served: AtomicU64,
    /// How many connections are in a `WAIT`.
    pub(super) waiting: AtomicUsize,
    pub(super) open: Arc<Open>,
    pub(super) cursors: Cursors,
}

/// What a request needs before it can be answered.
enum Need {
    /// Nothing but this server.
    Nothing,
    /// All that was asked before it.
    Turn,
    /// That the store holds all that was acknowledged.
    Barrier,
    /// What becomes of the next command.
    Command,
}

/// Requests that are handed on together: commands, and then what must see them. `T` is what is left to
/// do for a request when it has what it needs.
pub(super) struct Run<T> {
    requests: Vec<(Need, T)>,
    commands: Vec<Command>,
    /// Whether a read is linearizable.
    barrier: bool,
    /// Whether a command that follows must wait for this run.
    closed: bool,
    /// About how much memory the requests take.
    memory: usize,
}

impl<T> Default for Run<T> {
    fn default() -> Self {
        Self {
            requests: Vec::new(),
            commands: Vec::new(),
            barrier: false,
            closed: false,
            memory: 0,
        }
    }
}

impl<T> Run<T> {
    /// Whether this run must be finished before it takes another request: a command, or something else.
    pub(super) fn is_over(&self, for_command: bool) -> bool {
        self.closed && for_command || self.requests.len() >= COMMANDS_MAX
    }

    /// Counts a request that is to be added, with about `bytes` of its own.
    ///
    /// # Errors
    /// The connection has to leave.
    pub(super) fn count(&mut self, bytes: usize, account: &Account<'_>) -> io::Result<()> {
        self.memory += bytes + REQUEST_MEMORY;
        account.hold(Part::Requests, self.memory)
    }

    /// Adds a request whose answer is known.
    pub(super) fn known(&mut self, then: T) {
        self.requests.push((Need::Nothing, then));
    }

    /// Adds a command.
    pub(super) fn command(&mut self, command: Command, then: T) {
        self.commands.push(command);
        self.requests.push((Need::Command, then));
    }

    /// Adds a read of the store; a local one needs nobody's leave.
    pub(super) fn read(&mut self, local: bool, then: T) {
        self.closed = true;
        self.barrier |= !local;
        let need = if local { Need::Nothing } else { Need::Barrier };
        self.requests.push((need, then));
    }

    /// Adds a question that this server answers as it is then.
    pub(super) fn question(&mut self, then: T) {
        self.closed = true;
        self.requests.push((Need::Nothing, then));
    }

    /// Adds something that must not be done before what was asked earlier.
    pub(super) fn in_turn(&mut self, then: T) {
        self.closed = true;
        self.requests.push((Need::Turn, then));
    }
}

/// What is to be written to a connection.
pub(super) struct Out<'a> {
    stream: &'a TcpStream,
    pub(super) account: &'a Account<'a>,
    pub(super) bytes: Vec<u8>,
    /// Commands were done whose replies are not all among the bytes.
    owes: bool,
    /// A reply was sent in part.
    torn: Cell<bool>,
}

impl<'a> Out<'a> {
    pub(super) fn new(stream: &'a TcpStream, account: &'a Account<'a>) -> Self {
        Self {
            stream,
            account,
            bytes: Vec::new(),
            owes: false,
            torn: Cell::new(false),
        }
    }

    /// Writes all.
    pub(super) fn flush(&mut self) -> io::Result<()> {
        if self.bytes.is_empty() {
            return Ok(());
        }
        send(self.stream, self.account, &self.torn, &mut self.bytes)
    }

    /// Writes what has got long.
    pub(super) fn relieve(&mut self) -> io::Result<()> {
        if self.bytes.len() >= REPLY_BYTES_MAX {
            self.flush()?;
        }
        Ok(())
    }

    /// The bytes, and what writes them in the middle of a reply when they have got long.
    pub(super) fn parts(
        &mut self,
    ) -> (
        &mut Vec<u8>,
        impl FnMut(&mut Vec<u8>) -> io::Result<()> + use<'_, 'a>,
    ) {
        let (stream, account, torn) = (self.stream, self.account, &self.torn);
        (&mut self.bytes, move |bytes| {
            if bytes.len() >= REPLY_BYTES_MAX {
                let sent = send(stream, account, torn, bytes);
                // What is left of the reply cannot come any more.
                torn.set(torn.get() || sent.is_err());
                return sent;
            }
            Ok(())
        })
    }

    /// Writes all that is left of one arrival, and gives back what it took.
    pub(super) fn end(&mut self) -> io::Result<()> {
        self.flush()?;
        self.bytes.shrink_to(REPLY_REST_BYTES);
        self.account.hold(Part::Output, self.bytes.capacity())
    }

    /// If the connection has to leave: lets go what it holds, and sends what is there and then the error that
    /// `tell` makes, as far as that goes without waiting. Whether all that was asked is either answered
    /// or surely not done is handed to `tell`.
    pub(super) fn leave(mut self, tell: impl FnOnce(bool, &mut Vec<u8>)) {
        if !self.account.must_leave() {
            return;
        }
        self.account.release();
        if !self.torn.get() {
            tell(!self.owes, &mut self.bytes);
            send_last_words(self.stream, self.bytes);
        }
    }
}

fn send(
    mut stream: &TcpStream,
    account: &Account<'_>,
    torn: &Cell<bool>,
    bytes: &mut Vec<u8>,
) -> io::Result<()> {
    account.hold(Part::Output, bytes.capacity())?;
    account.wait_for_client(|| {
        let sent = stream.write_all(bytes);
        torn.set(torn.get() || sent.is_err());
        sent
    })?;
    bytes.clear();
    Ok(())
}

impl Server {
    pub(super) fn new(
        events: Sender<Event>,
        store: SharedStore,
        acceptor_alive: Arc<AtomicBool>,
        allow_fail: bool,
        syncs: Syncs,
        open: Arc<Open>,
    ) -> Self {
        Self {
            events,
            store,
            acceptor_alive,
            allow_fail,
            started: Instant::now(),
            syncs,
            served: AtomicU64::new(0),
            waiting: AtomicUsize::new(0),
            open,
            cursors: Cursors::new(rand::random()),
        }
    }

    /// Hands the run on, waits for the answers, and lets `write` append the reply to each request;
    /// writes what gets long. A request that is no command is told that it may be answered, or why not.
    ///
    /// Replies that are known are written before a wait: what a client asked of this server alone,
    /// and first, does not wait for a majority.
    pub(super) fn finish<T>(
        &self,
        run: Run<T>,
        out: &mut Out<'_>,
        mut write: impl FnMut(T, Answer, &mut Out<'_>) -> io::Result<()>,
    ) -> io::Result<()> {
        let Run {
            requests,
            commands,
            barrier,
            ..
        } = run;
        let count = requests.len() as u64;
        let mut requests = requests.into_iter().peekable();
        let mut answers = Vec::new();
        let mut refusal = None;
        if !commands.is_empty() || barrier {
            while let Some((_, then)) = requests.next_if(|(need, _)| matches!(need, Need::Nothing))
            {
                write(then, Answer::Readable, out)?;
                out.relieve()?;
            }
            out.flush()?;
            out.owes = !commands.is_empty();
            answers = self.ask(commands, barrier);
            let outcomes = answers.iter().map(answer_memory).sum();
            out.account.put(Part::Outcomes, outcomes);
            refusal = answers.pop_if(|_| barrier).as_ref().and_then(refused);
        }
        let mut answers = answers.into_iter();
        for (need, then) in requests {
            let answer = match need {
                Need::Nothing | Need::Turn => Answer::Readable,
                Need::Barrier => refusal.map_or(Answer::Readable, Answer::NotDone),
                Need::Command => answers.next().expect("an answer a command"),
            };
            write(then, answer, out)?;
            out.relieve()?;
        }
        self.served.fetch_add(count, Ordering::Relaxed);
        out.owes = false;
        for part in [Part::Requests, Part::Outcomes, Part::Reply] {
            out.account.hold(part, 0)?;
        }
        Ok(())
    }

    /// Hands commands to the core, and waits. The answer to a read comes last.
    fn ask(&self, commands: Vec<Command>, read: bool) -> Vec<Answer> {
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

    /// How this server is doing, in fields and values; none when it stops.
    pub(super) fn status(&self) -> Option<Vec<(String, String)>> {
        let (status, cluster) = self.ask_status()?;
        let mut fields = fields(&status, &cluster, self.started.elapsed());
        if let Some(cpu) = cpu_time() {
            fields.push(("cpu_us".into(), cpu.as_micros().to_string()));
        }
        let syncs = self.syncs.count.load(Ordering::Relaxed);
        fields.push(("syncs".into(), syncs.to_string()));
        let held = self.open.budget.held();
        fields.push(("clients_bytes".into(), held.to_string()));
        Some(fields)
    }

    /// Asks the core how it is doing, and what the cluster is called; none when it stops.
    pub(super) fn ask_status(&self) -> Option<(Status, String)> {
        let (status_tx, status) = bounded(1);
        self.events.send(Event::Status(status_tx)).ok()?;
        status.recv().ok()
    }

    /// A connection waits for other servers to hold all that was acknowledged: how many do, now and as often
    /// as that changes. It ends when the server stops.
    pub(super) fn begin_wait(&self, connection: u64) -> Receiver<usize> {
        self.waiting.fetch_add(1, Ordering::Relaxed);
        let (counts_tx, counts) = lane();
        let _ = self.events.send(Event::Wait(connection, counts_tx));
        counts
    }

    /// It does not wait any longer.
    pub(super) fn end_wait(&self, connection: u64) {
        let _ = self.events.send(Event::WaitOver(connection));
        self.waiting.fetch_sub(1, Ordering::Relaxed);
    }

    /// Flips the acceptor's flag and waits until that has taken effect.
    pub(super) fn set_acceptor(&self, up: bool) {
        info!(
            "a client {} the acceptor",
            if up { "recovers" } else { "fails" }
        );
        self.acceptor_alive.store(up, Ordering::SeqCst);
        let (done_tx, done) = bounded(1);
        let _ = self.events.send(Event::AcceptorFlag(Some(done_tx)));
        let _ = done.recv();
    }

    /// Makes each sync of the log take so much longer.
    pub(super) fn slow_disk(&self, millis: u64) {
        info!("a client makes each sync of the log {millis} ms longer");
        self.syncs.slow_ms.store(millis, Ordering::Relaxed);
    }
}

/// About how many bytes an answer takes. Values are counted, since a store that has overwritten them
/// does not hold them any more.
fn answer_memory(answer: &Answer) -> usize {
    fn outcome_memory(outcome: &Outcome) -> usize {
        size_of::<Outcome>()
            + match outcome {
                Outcome::Value(bytes) | Outcome::Mismatch(bytes) => bytes.len(),
                Outcome::Steps(outcomes) => outcomes.iter().map(outcome_memory).sum(),
                _ => 0,
            }
    }
    match answer {
        Answer::Done(outcome) => outcome_memory(outcome),
        _ => 0,
    }
}

/// Why a read cannot be done, if it cannot. A read changes nothing, so it is never unknown.
fn refused(answer: &Answer) -> Option<&'static str> {
    match answer {
        Answer::Readable => None,
        Answer::Done(_) => Some("the answer was none to a read"),
        Answer::NotDone(why) | Answer::Unknown(why) => Some(why),
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
    for (peer, applied) in &status.peers {
        let up = text(applied.is_some(), "up", "down");
        fields.push(("peer".into(), format!("{peer} {up}")));
    }
    fields
}
