//! The core thread: owns the replica, takes everything that waits, steps it, hands out.
//!
//! It waits for its channel; for the store's lock, when it applies, which nobody holds for longer than a
//! few hundred keys take (`replica/shared.rs`); and, when so much waits for the disk that the memory would
//! fill, for the disk. Its heartbeats stop with it then, so a leader whose disk is too slow loses the
//! lead (P35).

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender};
use log::{Level, debug, log_enabled, warn};

use crate::kv::command::Command;
use crate::outbox::{Answer, Outbox, Ticket, To};
use crate::paxos::message::{Message, Notice};
use crate::paxos::types::NodeId;
use crate::replica::{Input, Replica, Status, TICK, log_alarms};
use crate::wire::peer::write_notice;

use super::peers::line_of;
use super::recorder::{Recorder, Told};
use super::waits::Waits;
use super::{SharedOutgoing, spawn, wall_clock};

/// How many events are taken before their results are handed out.
const EVENTS_PER_ROUND: usize = 512;

/// When so many bytes of records wait for the disk, the core waits for it.
const DISK_BYTES_MAX: usize = 64 << 20;

/// How long a stopping server waits for a majority to decide what was handed on.
const LAST_WAIT: Duration = Duration::from_secs(2);

/// What happens to a server.
#[derive(Debug)]
pub(super) enum Event {
    /// Messages of one peer, in order.
    Peer(NodeId, Vec<Message>),
    /// The link to a peer was made.
    LinkUp(NodeId),
    /// The link from a peer closed.
    LinkDown(NodeId),
    /// Requests of one client connection.
    Requests(Requests),
    /// What is there to tell?
    Status(Sender<(Status, String)>),
    /// A connection waits for other servers to hold what this one has acknowledged: see [`Waits`].
    Wait(u64, Sender<usize>),
    /// It does not wait any longer.
    WaitOver(u64),
    /// The acceptor's flag was flipped; somebody may wait until it has taken effect.
    AcceptorFlag(Option<Sender<()>>),
    /// The log thread has something to tell.
    Wake,
    /// Answer what is queued, then end.
    Stop,
}

/// Requests that a client connection sent together; it waits for the answers to all.
#[derive(Debug)]
pub(super) struct Requests {
    /// To be applied in this order.
    pub(super) commands: Vec<Command>,
    /// Whether the connection wants to read the store afterwards.
    pub(super) read: bool,
    /// Gets an answer a command, in order, then that of the read.
    pub(super) answers: Sender<Vec<Answer>>,
}

/// Requests that are not answered whole.
#[derive(Debug)]
struct Waiting {
    answers: Vec<Option<Answer>>,
    missing: usize,
    reply: Sender<Vec<Answer>>,
}

/// See the module's text.
pub(super) struct Core {
    replica: Replica,
    events: Receiver<Event>,
    recorder: Recorder,
    outgoing: SharedOutgoing,
    alive: Arc<AtomicBool>,
    cluster: String,
    out: Outbox,
    /// What the replica's acceptor is at the moment; the flag says what it should become.
    acceptor: AcceptorState,
    flag_waiters: Vec<Sender<()>>,
    waiting: HashMap<u64, Waiting>,
    waits: Waits,
    next_requests: u64,
    next_tick: Instant,
    /// How many events are to be taken before the next tick.
    unread: usize,
    stop_by: Option<Instant>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum AcceptorState {
    Up,
    Failed,
    /// The log is being read.
    Recovering,
}

/// Tickets name the requests and the place within them.
const PLACE_BITS: u32 = 20;

/// How many commands may come together.
pub(super) const COMMANDS_MAX: usize = 1_024;

const _: () = assert!(
    COMMANDS_MAX < 1 << PLACE_BITS,
    "every place fits into a ticket"
);

impl Core {
    pub(super) fn new(
        replica: Replica,
        events: Receiver<Event>,
        recorder: Recorder,
        outgoing: SharedOutgoing,
        alive: Arc<AtomicBool>,
        cluster: String,
    ) -> Self {
        Self {
            replica,
            events,
            recorder,
            outgoing,
            alive,
            cluster,
            out: Outbox::default(),
            acceptor: AcceptorState::Up,
            flag_waiters: Vec::new(),
            waiting: HashMap::new(),
            waits: Waits::default(),
            next_requests: 0,
            next_tick: Instant::now(),
            unread: 0,
            stop_by: None,
        }
    }

    /// Runs until it was told to stop and everyone is answered.
    pub(super) fn run(mut self) {
        loop {
            let wait = self.next_tick.saturating_duration_since(Instant::now());
            let event = match self.events.recv_timeout(wait) {
                Ok(event) => Some(event),
                Err(RecvTimeoutError::Timeout) => None,
                Err(RecvTimeoutError::Disconnected) => return,
            };
            self.notice_sleep(usize::from(event.is_some()));
            if let Some(event) = event {
                self.take(event);
            }
            self.round();
            if self.has_stopped() {
                return self.end();
            }
        }
    }

    /// Takes what else waits and hands out the results of all.
    fn round(&mut self) {
        for _ in 1..EVENTS_PER_ROUND {
            let Ok(event) = self.events.try_recv() else {
                self.unread = 0;
                break;
            };
            self.take(event);
        }
        self.hear_recorder();
        self.tick();
        self.follow_flag();
        self.replica.flush(wall_clock(), &mut self.out);
        self.hand_out();
        self.waits.tell(|| self.replica.peers_applied());
        self.wait_for_disk();
    }

    fn take(&mut self, event: Event) {
        self.unread = self.unread.saturating_sub(1);
        match event {
            Event::Peer(from, messages) => {
                for message in messages {
                    self.step(Input::Message { from, message });
                }
            }
            Event::LinkUp(node) => self.step(Input::LinkUp(node)),
            Event::LinkDown(node) => self.step(Input::LinkDown(node)),
            Event::Requests(requests) => self.take_requests(requests),
            Event::Status(reply) => {
                let _ = reply.send((self.replica.status(), self.cluster.clone()));
            }
            Event::Wait(connection, counts) => {
                let (upto, peers) = (self.replica.applied(), self.replica.peers_applied());
                self.waits.begin(connection, counts, upto, &peers);
            }
            Event::WaitOver(connection) => self.waits.end(connection),
            Event::AcceptorFlag(waiter) => self.flag_waiters.extend(waiter),
            Event::Wake => {}
            Event::Stop => {
                self.stop_by = Some(Instant::now() + LAST_WAIT);
                self.step(Input::Stop);
            }
        }
    }

    fn step(&mut self, input: Input) {
        self.replica.step(input, &mut self.out);
    }

    /// A late clock: the time that this process slept through has passed for its peers. But what they
    /// sent meanwhile waits unread, here or in the sockets. So the clock goes on at once, what waits here
    /// is taken, and only then comes the tick that judges who is silent (P36). `taken` events are off the
    /// channel already. How many wait is settled now, so that a busy core ticks all the same.
    fn notice_sleep(&mut self, taken: usize) {
        if self.unread > 0 {
            return;
        }
        let late = Instant::now().saturating_duration_since(self.next_tick);
        let ticks = u32::try_from(late.as_millis() / TICK.as_millis()).unwrap_or(u32::MAX);
        if ticks > 0 {
            self.next_tick += TICK * ticks;
            self.unread = self.events.len() + taken;
            self.step(Input::Slept(ticks.into()));
        }
    }

    fn tick(&mut self) {
        if self.unread == 0 && Instant::now() >= self.next_tick {
            self.next_tick += TICK;
            self.step(Input::Tick);
        }
    }

    // --- Clients ---

    fn take_requests(&mut self, requests: Requests) {
        let Requests {
            commands,
            read,
            answers: reply,
        } = requests;
        let number = self.next_requests;
        self.next_requests += 1;
        let missing = commands.len() + usize::from(read);
        if missing == 0 {
            let _ = reply.send(Vec::new());
            return;
        }
        self.waiting.insert(
            number,
            Waiting {
                answers: vec![None; missing],
                missing,
                reply,
            },
        );
        let ticket = |place: usize| Ticket(number << PLACE_BITS | place as u64);
        if read {
            self.step(Input::Read {
                ticket: ticket(commands.len()),
            });
        }
        for (place, command) in commands.into_iter().enumerate() {
            self.step(Input::Write {
                ticket: ticket(place),
                command,
            });
        }
    }

    fn answer(&mut self, Ticket(ticket): Ticket, answer: Answer) {
        let (number, place) = (ticket >> PLACE_BITS, ticket & ((1 << PLACE_BITS) - 1));
        let Some(waiting) = self.waiting.get_mut(&number) else {
            return;
        };
        let place = usize::try_from(place).expect("a place is small");
        assert!(
            waiting.answers[place].is_none(),
            "I7: a request is answered twice"
        );
        waiting.answers[place] = Some(answer);
        waiting.missing -= 1;
        if waiting.missing == 0 {
            let waiting = self.waiting.remove(&number).expect("it was just there");
            // A connection that is gone needs no answer.
            let _ = waiting
                .reply
                .send(waiting.answers.into_iter().flatten().collect());
        }
    }

    // --- The acceptor's flag ---

    /// Makes the replica's acceptor what the flag says.
    fn follow_flag(&mut self) {
        let alive = self.alive.load(Ordering::SeqCst);
        match (self.acceptor, alive) {
            (AcceptorState::Up, false) => {
                self.acceptor = AcceptorState::Failed;
                self.step(Input::AcceptorFailed);
            }
            (AcceptorState::Failed, true) => {
                self.acceptor = AcceptorState::Recovering;
                self.recorder.recover();
            }
            _ => {}
        }
        if self.acceptor != AcceptorState::Recovering {
            for waiter in self.flag_waiters.drain(..) {
                let _ = waiter.send(());
            }
        }
    }

    fn hear_recorder(&mut self) {
        let told: Vec<Told> = self.recorder.told().collect();
        for told in told {
            match told {
                Told::Vote(vote) => {
                    let from = self.outgoing.me();
                    self.step(Input::Message {
                        from,
                        message: Message::Vote(vote),
                    });
                }
                Told::Recovered(acceptor) => {
                    self.acceptor = AcceptorState::Up;
                    self.step(Input::AcceptorRecovered(acceptor));
                }
                Told::Grown(wanted) => self.step(Input::Snapshot(wanted)),
                Told::Kept(image) => {
                    self.step(Input::Kept(Arc::clone(&image)));
                    drop_elsewhere(image);
                }
                Told::Stopped => {}
            }
        }
    }

    // --- Handing out ---

    fn hand_out(&mut self) {
        log_alarms(&mut self.out);
        let out = std::mem::take(&mut self.out);
        for (to, notice) in out.now {
            self.send(to, &notice);
        }
        if !out.records.is_empty() || !out.votes.is_empty() {
            self.recorder.step(out.records, out.votes);
        }
        if let Some(image) = out.keep {
            self.recorder.keep(image);
        }
        if !out.spent.is_empty() {
            drop_elsewhere(out.spent);
        }
        for (ticket, answer) in out.answers {
            self.answer(ticket, answer);
        }
    }

    fn send(&self, to: To, notice: &Notice) {
        self.outgoing
            .send(to, &line_of(|out| write_notice(out, notice)));
    }

    fn wait_for_disk(&mut self) {
        if self.recorder.waiting_bytes() < DISK_BYTES_MAX {
            return;
        }
        warn!(
            "waiting for the disk: {} bytes are not synced",
            self.recorder.waiting_bytes()
        );
        while self.recorder.waiting_bytes() > DISK_BYTES_MAX / 2 {
            std::thread::sleep(TICK);
        }
    }

    // --- The end ---

    fn has_stopped(&self) -> bool {
        self.stop_by
            .is_some_and(|by| self.replica.is_idle() || Instant::now() >= by)
    }

    /// Whoever still waits is told the truth; then the log is closed.
    fn end(mut self) {
        const STOPPED: &str = "this server stopped before it was decided; it may still be applied";
        for (_, waiting) in self.waiting.drain() {
            let answer = |answer: Option<Answer>| answer.unwrap_or(Answer::Unknown(STOPPED));
            let _ = waiting
                .reply
                .send(waiting.answers.into_iter().map(answer).collect());
        }
        self.recorder.stop();
        while let Some(told) = self.recorder.wait() {
            if matches!(told, Told::Stopped) {
                return;
            }
        }
    }
}

/// Drops a store or an image of one: to give back a million keys, or as many nodes as changed since an
/// image was taken, takes longer than any client should wait.
fn drop_elsewhere<T: Send + 'static>(spent: T) {
    // Without a thread it is dropped here and now.
    let _ = spawn("spent", move || drop(spent));
}

/// Writes a message to the log, when it shows messages; long ones are cut.
pub(super) fn log_line(way: std::fmt::Arguments<'_>, line: &[u8]) {
    const SHOWN_BYTES_MAX: usize = 300;
    if log_enabled!(Level::Debug) {
        let line = line.trim_ascii_end();
        let shown = &line[..line.len().min(SHOWN_BYTES_MAX)];
        let more = if shown.len() < line.len() { "..." } else { "" };
        debug!("{way} {}{more}", String::from_utf8_lossy(shown));
    }
}
