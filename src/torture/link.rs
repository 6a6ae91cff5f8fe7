//! One peer link as a proxy: everything that one server sends another goes through here, and may be
//! delivered, late, held back, lost or cut.
//!
//! | passage | connections | what is sent |
//! | --- | --- | --- |
//! | open | live | is delivered at once |
//! | late | live | each piece is delivered so long after it was sent, in order |
//! | held | live | waits, also when its sender has closed or died since, and is delivered when that ends (P32) |
//! | lost | live | is swallowed, and nobody is told (P30, P33) |
//! | cut | closed, and each new one is closed at once | nothing |
//!
//! TCP never goes on behind a hole. So a connection that has lost something is closed when its link
//! opens again, as a real one would be after its time-outs.
//!
//! A server sends on the connections that it dials and answers nothing on those that it accepts,
//! but for the greeting. So a link has one direction; the few bytes that come back pass at once.
//!
//! Bounds: `PIECES_MAX` pieces wait in a connection. Then it is not read any more, and its sender
//! feels it as it feels any peer that reads too slowly.

use std::collections::BTreeMap;
use std::io::{self, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded};
use parking_lot::{Condvar, Mutex};

/// How many pieces of at most [`PIECE_BYTES_MAX`] may wait in one connection: 16 MiB together.
const PIECES_MAX: usize = 1_024;

/// The most bytes that are taken at once.
const PIECE_BYTES_MAX: usize = 16 << 10;

/// A server on this machine takes a connection at once or not at all.
const DIAL_TIMEOUT: Duration = Duration::from_secs(1);

/// The pause after a connection that could not be accepted: too many open files, most likely.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// What a link does with what is sent. Ordered: where two faults meet, the greater one counts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Passage {
    /// Deliver it.
    #[default]
    Open,
    /// Deliver it so much later.
    Late(Duration),
    /// Keep it until the link is anything else.
    Held,
    /// Swallow it.
    Lost,
    /// Close the connections.
    Cut,
}

/// What has gone through a link, or has not, since it began.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Connections that were made.
    pub connections: u64,
    /// Connections that were closed on purpose.
    pub closed: u64,
    /// Connections that were not let through.
    pub refused: u64,
    /// Bytes that were delivered.
    pub delivered_bytes: u64,
    /// Bytes that were kept waiting first.
    pub late_bytes: u64,
    /// Bytes that were swallowed.
    pub lost_bytes: u64,
}

impl Traffic {
    /// Both together.
    pub fn plus(self, other: Self) -> Self {
        Self {
            connections: self.connections + other.connections,
            closed: self.closed + other.closed,
            refused: self.refused + other.refused,
            delivered_bytes: self.delivered_bytes + other.delivered_bytes,
            late_bytes: self.late_bytes + other.late_bytes,
            lost_bytes: self.lost_bytes + other.lost_bytes,
        }
    }

    /// Whether any fault was felt.
    pub fn was_disturbed(self) -> bool {
        self.closed + self.refused + self.late_bytes + self.lost_bytes > 0
    }

    fn count_late(&mut self, piece: &mut Piece) {
        if !std::mem::replace(&mut piece.late, true) {
            self.late_bytes += piece.bytes.len() as u64;
        }
    }

    /// What came after `before`.
    pub fn since(self, before: Self) -> Self {
        Self {
            connections: self.connections - before.connections,
            closed: self.closed - before.closed,
            refused: self.refused - before.refused,
            delivered_bytes: self.delivered_bytes - before.delivered_bytes,
            late_bytes: self.late_bytes - before.late_bytes,
            lost_bytes: self.lost_bytes - before.lost_bytes,
        }
    }
}

/// A proxy in front of one address. Ends when it is dropped.
#[derive(Debug)]
pub struct Link {
    address: SocketAddr,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    target: SocketAddr,
    state: Mutex<State>,
    /// The passage is another one, or a connection is gone.
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    passage: Passage,
    ended: bool,
    connections: BTreeMap<u64, Ends>,
    traffic: Traffic,
}

/// Both ends of a connection that is open.
#[derive(Debug)]
struct Ends {
    near: TcpStream,
    far: TcpStream,
    /// Something was lost in it.
    holed: bool,
}

impl Ends {
    fn close(&self) {
        let _ = self.near.shutdown(Shutdown::Both);
        let _ = self.far.shutdown(Shutdown::Both);
    }
}

/// Bytes that arrived together.
struct Piece {
    at: Instant,
    /// It is counted among those that were kept waiting.
    late: bool,
    bytes: Vec<u8>,
}

impl Link {
    /// Listens at a free port of the host of `target`, and passes on to `target`, which need not be
    /// there yet.
    pub fn to(target: SocketAddr) -> io::Result<Self> {
        let listener = TcpListener::bind((target.ip(), 0))?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared {
            target,
            state: Mutex::default(),
            changed: Condvar::new(),
        });
        let door = Arc::clone(&shared);
        spawn("link", move || door.accept(&listener))?;
        Ok(Self { address, shared })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// From now on it does this, with what waits in it too.
    pub fn set(&self, passage: Passage) {
        let mut state = self.shared.state.lock();
        let before = std::mem::replace(&mut state.passage, passage);
        if passage == Passage::Cut {
            state.close(|_| true);
        } else if before == Passage::Lost && passage != Passage::Lost {
            state.close(|ends| ends.holed);
        }
        self.shared.changed.notify_all();
    }

    /// Closes all connections, once. New ones are let through as the passage has it.
    pub fn close(&self) {
        self.shared.state.lock().close(|_| true);
        self.shared.changed.notify_all();
    }

    /// What has gone through so far.
    pub fn traffic(&self) -> Traffic {
        self.shared.state.lock().traffic
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        let mut state = self.shared.state.lock();
        state.ended = true;
        state.close(|_| true);
        self.shared.changed.notify_all();
        drop(state);
        // Wakes the listening thread, which sees that it is over.
        let _ = TcpStream::connect_timeout(&self.address, DIAL_TIMEOUT);
    }
}

impl State {
    fn close(&mut self, which: impl Fn(&Ends) -> bool) {
        for (_, ends) in self.connections.extract_if(.., |_, ends| which(ends)) {
            ends.close();
            self.traffic.closed += 1;
        }
    }
}

impl Shared {
    fn accept(self: Arc<Self>, listener: &TcpListener) {
        for number in 0.. {
            let near = listener.accept();
            if self.state.lock().ended {
                return;
            }
            match near {
                // One that cannot be passed on is closed: the target is down, or the link is cut.
                Ok((near, _)) => drop(self.connect(number, near)),
                Err(_) => thread::sleep(ACCEPT_PAUSE),
            }
        }
    }

    fn connect(self: &Arc<Self>, number: u64, near: TcpStream) -> io::Result<()> {
        if self.state.lock().passage == Passage::Cut {
            self.state.lock().traffic.refused += 1;
            return Ok(());
        }
        let far = TcpStream::connect_timeout(&self.target, DIAL_TIMEOUT)?;
        near.set_nodelay(true)?;
        far.set_nodelay(true)?;
        let ends = Ends {
            near: near.try_clone()?,
            far: far.try_clone()?,
            holed: false,
        };
        {
            let mut state = self.state.lock();
            if state.passage == Passage::Cut || state.ended {
                state.traffic.refused += 1;
                return Ok(());
            }
            state.traffic.connections += 1;
            state.connections.insert(number, ends);
        }
        let started = self.start_threads(number, near, far);
        if started.is_err() {
            self.end(number);
        }
        started
    }

    fn start_threads(
        self: &Arc<Self>,
        number: u64,
        near: TcpStream,
        far: TcpStream,
    ) -> io::Result<()> {
        let (pieces, waiting) = bounded(PIECES_MAX);
        let (back_near, back_far) = (near.try_clone()?, far.try_clone()?);
        let taker = Arc::clone(self);
        spawn("link-in", move || taker.take_all(near, &pieces))?;
        let out = Arc::clone(self);
        spawn("link-out", move || {
            out.deliver_all(number, &waiting, far);
            out.end(number);
        })?;
        let back = Arc::clone(self);
        spawn("link-back", move || {
            let _ = io::copy(&mut &back_far, &mut &back_near);
            back.end(number);
        })
    }

    /// Reads up to the end. What comes while the link keeps things waiting is late from the start,
    /// though it may never stand at the head of its queue meanwhile.
    fn take_all(&self, mut near: TcpStream, pieces: &Sender<Piece>) {
        let mut buffer = vec![0; PIECE_BYTES_MAX];
        while let Ok(count @ 1..) = near.read(&mut buffer) {
            let mut piece = Piece {
                at: Instant::now(),
                late: false,
                bytes: buffer[..count].to_vec(),
            };
            let mut state = self.state.lock();
            if matches!(state.passage, Passage::Late(_) | Passage::Held) {
                state.traffic.count_late(&mut piece);
            }
            drop(state);
            if pieces.send(piece).is_err() {
                return;
            }
        }
    }

    /// Until the sender has closed and all is delivered, or the connection is gone.
    fn deliver_all(&self, number: u64, waiting: &Receiver<Piece>, mut far: TcpStream) {
        for mut piece in waiting {
            match self.wait_for_passage(number, &mut piece) {
                Fate::Deliver if far.write_all(&piece.bytes).is_ok() => {}
                Fate::Swallow => {}
                Fate::Deliver | Fate::Gone => return,
            }
        }
    }

    fn wait_for_passage(&self, number: u64, piece: &mut Piece) -> Fate {
        let bytes = piece.bytes.len() as u64;
        let mut state = self.state.lock();
        loop {
            let State {
                passage,
                connections,
                traffic,
                ..
            } = &mut *state;
            let Some(ends) = connections.get_mut(&number) else {
                return Fate::Gone;
            };
            let due = match *passage {
                Passage::Open => Some(piece.at),
                Passage::Late(by) => Some(piece.at + by),
                Passage::Held => None,
                Passage::Lost => {
                    ends.holed = true;
                    traffic.lost_bytes += bytes;
                    return Fate::Swallow;
                }
                Passage::Cut => return Fate::Gone,
            };
            if *passage != Passage::Open {
                traffic.count_late(piece);
            }
            if due.is_some_and(|due| Instant::now() >= due) {
                traffic.delivered_bytes += bytes;
                return Fate::Deliver;
            }
            match due {
                Some(due) => drop(self.changed.wait_until(&mut state, due)),
                None => self.changed.wait(&mut state),
            }
        }
    }

    /// Closes one connection, because one of its ends has.
    fn end(&self, number: u64) {
        if let Some(ends) = self.state.lock().connections.remove(&number) {
            ends.close();
            self.changed.notify_all();
        }
    }
}

/// What becomes of a piece.
enum Fate {
    Deliver,
    Swallow,
    Gone,
}

/// The threads of a link need next to no stack, and there may be hundreds.
const STACK_BYTES: usize = 128 << 10;

fn spawn(name: &str, run: impl FnOnce() + Send + 'static) -> io::Result<()> {
    let builder = thread::Builder::new().name(name.into());
    builder.stack_size(STACK_BYTES).spawn(run).map(drop)
}
