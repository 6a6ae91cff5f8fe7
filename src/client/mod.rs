//! The blocking client: many servers, one request at a time, each write at most once.
//!
//! [`Connection`] is one connection to one server and nothing more: for plain or pipelined lines.
//! [`Client`] stands in front of all servers. It asks one of them, and when that one is dead, silent
//! or refuses, the next, until there is an answer or the deadline has passed. What makes this safe is
//! decided by the kind of request:
//!
//! | request | sent again after | how |
//! | --- | --- | --- |
//! | reads, `STATUS`, `PING`, `HELP`, `SESSION` | anything | a repeat does no harm |
//! | `PUT`, `DELETE`, `CAS`, `INCR` | anything | as `ONCE session seq ...`, always under the same seq |
//! | `ONCE ...` of the caller's own | anything | as it stands |
//! | `FAIL`, `RECOVER`, `SLOW`, `QUIT` | nothing | they mean one server and no other |
//!
//! A sending is *in doubt* when the server may have run it: the reply was lost, or was `UNKNOWN`. It
//! stays so until a later sending under the same seq gets its answer, which is the remembered one.
//! If the cluster does not know the session by then (`NO_SESSION`: 65,536 newer ones have pushed it
//! out), nobody can tell any more whether the write was applied: that is told, as
//! [`Error::InDoubt`], and never papered over by a new session. Without a doubt, `NO_SESSION` means
//! that nothing was done, and the write goes again in a new session. The write after one in doubt has a
//! higher seq, so a straggler of the old one can no longer be applied once it is done.
//!
//! The price: the first write of a client takes two round trips, since it opens a session.
//!
//! Left out on purpose: requests in parallel (a session has one outstanding request; take more
//! clients), and who leads (any server takes any request).

#![allow(
    clippy::disallowed_methods,
    reason = "a client has a clock, and chance may choose its server"
)]

mod connection;
pub(crate) mod peek;
mod record;
pub(crate) mod resp;

use std::fmt;
use std::io;
use std::thread;
use std::time::{Duration, Instant};

pub use connection::{Connection, ConnectionError, Limits};
pub use record::{Lane, Recorder};

use crate::check::format::is_recorded;
use crate::kv::command::{Bytes, Command, List, Read, SessionId, Write};
use crate::wire::client::{ErrorCode, Reply, Request};

/// How a [`Client`] waits and where it begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    /// For each connection.
    pub limits: Limits,
    /// A request that has no answer by then is given up. Servers give up after 10 s by default; more
    /// than that leaves time for another try.
    pub deadline: Duration,
    /// When no server takes a connection at all, and nothing is in doubt, give up by then already.
    pub unreachable: Duration,
    /// Begin at a random server instead of the first.
    pub random_start: bool,
}

impl Default for Settings {
    /// [`Limits::default`], 15 s, 1 s, the first server.
    fn default() -> Self {
        Self {
            limits: Limits::default(),
            deadline: Duration::from_secs(15),
            unreachable: Duration::from_secs(1),
            random_start: false,
        }
    }
}

/// The wait after a first round over all servers without an answer; doubled after each further
/// one, up to [`BACK_OFF_MAX`]. The real wait is a random one between half of it and the whole.
const BACK_OFF_MIN: Duration = Duration::from_millis(20);

/// The longest wait between rounds: a cluster that is back is noticed within it.
const BACK_OFF_MAX: Duration = Duration::from_millis(500);

const _: () = assert!(BACK_OFF_MIN.as_nanos() <= BACK_OFF_MAX.as_nanos());

/// The shortest wait for a connection, however near the deadline is.
const CONNECT_MIN: Duration = Duration::from_millis(1);

/// How often one write may meet `NO_SESSION` and go again in a new session. More means that
/// sessions are pushed out faster than they are used.
const SESSIONS_PER_WRITE_MAX: usize = 3;

/// An answer, from whom, and how long it took.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// What the server said: errors that are the client's fault too, never `NOT_DONE`.
    pub reply: Reply,
    /// The address of the server that answered, as it was given to the client.
    pub server: String,
    /// From the first sending to the answer, with all tries between.
    pub took: Duration,
}

/// A server that gave no answer, and what the client does about it: see [`Client::on_detour`].
#[derive(Debug)]
pub struct Detour<'a> {
    /// The address of that server.
    pub server: &'a str,
    /// Why it gave no answer, for people.
    pub reason: &'a str,
    /// The address of the server that is asked next; the same one if there is no other.
    pub next: &'a str,
}

/// Why there is no answer. Each says whether anything may have been done.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// No server takes connections; nothing was done.
    #[error("no server answered (tried {tried}): is the cluster running? try ./run.sh")]
    Unreachable {
        /// The addresses, with commas between.
        tried: String,
    },
    /// The deadline passed; nothing was done, now or ever.
    #[error("gave up after {after:.1?}, nothing was done: {reason}")]
    NotDone {
        /// How long was tried.
        after: Duration,
        /// What the last server said or did.
        reason: String,
    },
    /// The request may have been done once, or may be later; never twice by this client.
    #[error(
        "in doubt after {after:.1?}: {reason}; it may have been done or may be later, so look before you send it again"
    )]
    InDoubt {
        /// How long was tried.
        after: Duration,
        /// What was heard last.
        reason: String,
    },
}

/// Why a list was not told to its end.
#[derive(Debug, thiserror::Error)]
pub enum ListError {
    /// It never began.
    #[error(transparent)]
    NotBegun(#[from] Error),
    /// The connection broke, or the server fell silent. What was told by then is of one moment, and what is
    /// left can only be asked for at another.
    #[error("the list of {server} broke off after {told} keys: {reason}")]
    BrokeOff {
        /// The address of the server.
        server: String,
        /// How many keys were told.
        told: u64,
        /// Why.
        reason: String,
    },
    /// Whoever was told wants no more.
    #[error(transparent)]
    Refused(io::Error),
}

/// Called with each server that gave no answer.
type OnDetour = Box<dyn FnMut(&Detour<'_>) + Send>;

/// A client of a whole cluster. See the module's text for its promises.
pub struct Client {
    servers: Vec<String>,
    /// The server that is asked first: the one that answered last.
    current: usize,
    /// One a server at most, in the order of `servers`.
    connections: Vec<Option<Connection>>,
    session: Option<SessionId>,
    /// The seq used last in this session.
    seq: u64,
    settings: Settings,
    on_detour: Option<OnDetour>,
    lane: Option<Lane>,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client")
            .field("servers", &self.servers)
            .field("current", &self.current)
            .field("session", &self.session)
            .field("seq", &self.seq)
            .finish_non_exhaustive()
    }
}

/// When a request may be sent again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Repeat {
    /// After anything, and a lost answer leaves no doubt behind: it changes nothing.
    Read,
    /// After anything: it is applied at most once.
    Once,
    /// Never: it means this very server.
    Never,
}

impl Repeat {
    fn of(request: &Request) -> Self {
        match request {
            Request::Read { .. }
            | Request::Status
            | Request::Ping
            | Request::Help
            | Request::Write(Command::Session) => Self::Read,
            Request::Write(Command::Once { .. }) => Self::Once,
            Request::Write(Command::Write(_) | Command::Exec(_))
            | Request::Fail
            | Request::Recover
            | Request::Slow(_)
            | Request::Quit => Self::Never,
        }
    }
}

/// How one sending to one server ended.
enum Sending {
    /// With the last word.
    Answered(Reply),
    /// No connection was made.
    NoConnection(String),
    /// The server took it, or a part of it, and nothing was done; why.
    Nothing(String),
    /// It may have been done; why nobody knows.
    Doubt(String),
    /// A reply too large to be taken, which it would be from any server.
    TooLarge(String),
}

impl Client {
    /// A client of the servers at these addresses, each a `HOST:PORT`. Connects at the first request.
    ///
    /// # Panics
    /// Without any address.
    pub fn new(servers: Vec<String>, settings: Settings) -> Self {
        assert!(!servers.is_empty(), "a client needs a server");
        let connections = servers.iter().map(|_| None).collect();
        let current = if settings.random_start {
            rand::random_range(0..servers.len())
        } else {
            0
        };
        Self {
            servers,
            current,
            connections,
            session: None,
            seq: 0,
            settings,
            on_detour: None,
            lane: None,
        }
    }

    /// Calls `notice` with each server that gave no answer, as it happens.
    pub fn on_detour(&mut self, notice: impl FnMut(&Detour<'_>) + Send + 'static) {
        self.on_detour = Some(Box::new(notice));
    }

    /// Writes every request about keys, and how it ended, into a history.
    pub fn record(&mut self, lane: Lane) {
        self.lane = Some(lane);
    }

    /// The addresses, in the order given.
    pub fn servers(&self) -> &[String] {
        &self.servers
    }

    /// The address of the server that the next request goes to first.
    pub fn server(&self) -> &str {
        &self.servers[self.current]
    }

    /// Sends the next request to this server first: an index into [`Client::servers`].
    pub fn prefer(&mut self, server: usize) {
        assert!(server < self.servers.len(), "no server {server}");
        self.current = server;
    }

    /// Runs a write exactly once, in the client's own session.
    pub fn write(&mut self, write: Write) -> Result<Answer, Error> {
        self.ask(&Request::Write(Command::Write(write)))
    }

    /// Reads, linearizably.
    pub fn read(&mut self, read: Read) -> Result<Answer, Error> {
        self.ask(&Request::Read { local: false, read })
    }

    /// Runs any request: a plain write exactly once, in the client's own session; everything else as
    /// the module's table has it.
    pub fn ask(&mut self, request: &Request) -> Result<Answer, Error> {
        if let Some(lane) = &mut self.lane {
            lane.call(request);
        }
        let give_up_at = Instant::now() + self.settings.deadline;
        let end = match request {
            Request::Write(Command::Write(write)) => self.exactly_once(write, give_up_at),
            _ => Pursuit::new(self, request, give_up_at).run(),
        };
        if let Some(lane) = &mut self.lane {
            lane.end(&end);
        }
        end
    }

    /// Tells `each` every key of a list with its value, as they come: the whole list is of one moment, and is
    /// never held as a whole. Returns what was answered instead, if anything was.
    ///
    /// Another server is asked until a list begins, and none after. It is not recorded.
    pub fn list(
        &mut self,
        local: bool,
        list: List,
        mut each: impl FnMut(Bytes, Bytes) -> io::Result<()>,
    ) -> Result<Option<Reply>, ListError> {
        let read = Read::List(list);
        let request = Request::Read { local, read };
        let give_up_at = Instant::now() + self.settings.deadline;
        let mut pursuit = Pursuit::new(self, &request, give_up_at);
        pursuit.send = Client::begin_list;
        let answer = pursuit.run()?;
        if !matches!(answer.reply, Reply::List(_)) {
            return Ok(Some(answer.reply));
        }
        // Put back only if it was read to its end.
        let place = self.current;
        let mut connection = self.connections[place].take().expect("it answered");
        // Who is told may take his time: what counts from here on is the server's silence alone.
        connection.set_deadline(None);
        let mut told = 0;
        loop {
            match connection.next_pair() {
                Ok(None) => break,
                Ok(Some((key, value))) => each(key, value).map_err(ListError::Refused)?,
                Err(error) => {
                    return Err(ListError::BrokeOff {
                        server: answer.server,
                        told,
                        reason: error.to_string(),
                    });
                }
            }
            told += 1;
        }
        self.connections[place] = Some(connection);
        Ok(None)
    }

    fn exactly_once(&mut self, write: &Write, give_up_at: Instant) -> Result<Answer, Error> {
        let started = Instant::now();
        let mut refused = String::new();
        for _ in 0..SESSIONS_PER_WRITE_MAX {
            let session = self.session(give_up_at)?;
            self.seq += 1;
            let once = Request::Write(Command::Once {
                session,
                seq: self.seq,
                write: write.clone(),
            });
            let answer = Pursuit::new(self, &once, give_up_at).run();
            match answer {
                // STALE_SEQ can only mean that the session is somebody else's: the cluster was set
                // up anew and counts from 1 again.
                Ok(Answer {
                    reply: Reply::Error(ErrorCode::NoSession | ErrorCode::StaleSeq, text),
                    ..
                }) => {
                    self.session = None;
                    refused = text;
                }
                _ => return answer,
            }
        }
        Err(Error::NotDone {
            after: started.elapsed(),
            reason: refused,
        })
    }

    /// The session of this client, opened if there is none.
    fn session(&mut self, give_up_at: Instant) -> Result<SessionId, Error> {
        if let Some(session) = self.session {
            return Ok(session);
        }
        let request = Request::Write(Command::Session);
        let answer = Pursuit::new(self, &request, give_up_at).run()?;
        match answer.reply {
            Reply::Session(session) => {
                self.session = Some(session);
                self.seq = 0;
                Ok(session)
            }
            other => Err(Error::NotDone {
                after: answer.took,
                reason: format!("{} opened no session: {other}", answer.server),
            }),
        }
    }

    /// The connection to the current server, made if there is none.
    fn connection(&mut self, give_up_at: Instant) -> Result<&mut Connection, ConnectionError> {
        let place = &mut self.connections[self.current];
        if place.is_none() {
            let left = give_up_at.saturating_duration_since(Instant::now());
            let limits = Limits {
                connect: self.settings.limits.connect.min(left).max(CONNECT_MIN),
                ..self.settings.limits
            };
            *place = Some(Connection::open(&self.servers[self.current], limits)?);
        }
        Ok(place.as_mut().expect("just made"))
    }

    /// Sends `request` once, to the current server, and reads the whole reply.
    fn ask_once(&mut self, request: &Request, give_up_at: Instant) -> Sending {
        self.send_once(request, give_up_at, Connection::ask)
    }

    /// Sends the `LIST` once, to the current server, and reads how its reply begins.
    fn begin_list(&mut self, request: &Request, give_up_at: Instant) -> Sending {
        self.send_once(request, give_up_at, Connection::begin_list)
    }

    fn send_once(
        &mut self,
        request: &Request,
        give_up_at: Instant,
        ask: impl FnOnce(&mut Connection, &Request) -> Result<Reply, ConnectionError>,
    ) -> Sending {
        let connection = match self.connection(give_up_at) {
            Ok(connection) => connection,
            Err(error) => return Sending::NoConnection(error.to_string()),
        };
        connection.set_deadline(Some(give_up_at));
        let answer = ask(connection, request);
        // Past its limit of connections a server closes after a NOT_DONE.
        if matches!(answer, Err(_) | Ok(Reply::Error(ErrorCode::NotDone, _))) {
            self.connections[self.current] = None;
        }
        match answer {
            Ok(Reply::Error(ErrorCode::NotDone, text)) => {
                Sending::Nothing(format!("not done: {text}"))
            }
            Ok(Reply::Error(ErrorCode::Unknown, text)) => {
                Sending::Doubt(format!("unknown: {text}"))
            }
            Ok(reply) => Sending::Answered(reply),
            Err(error @ ConnectionError::Send(_)) => Sending::Nothing(error.to_string()),
            Err(error @ ConnectionError::TooLong(_)) if Repeat::of(request) == Repeat::Read => {
                Sending::TooLarge(error.to_string())
            }
            Err(error) => Sending::Doubt(error.to_string()),
        }
    }
}

/// One request on its way from server to server.
struct Pursuit<'a> {
    client: &'a mut Client,
    request: &'a Request,
    /// Sends it once, to the current server.
    send: fn(&mut Client, &Request, Instant) -> Sending,
    repeat: Repeat,
    started: Instant,
    give_up_at: Instant,
    /// Why a sending may have been done, if one may.
    doubt: Option<String>,
    /// Whether any server has taken a connection.
    reached: bool,
    sendings: usize,
    back_off: Duration,
}

impl<'a> Pursuit<'a> {
    fn new(client: &'a mut Client, request: &'a Request, give_up_at: Instant) -> Self {
        Self {
            client,
            request,
            send: Client::ask_once,
            repeat: Repeat::of(request),
            started: Instant::now(),
            give_up_at,
            doubt: None,
            reached: false,
            sendings: 0,
            back_off: BACK_OFF_MIN,
        }
    }

    fn run(mut self) -> Result<Answer, Error> {
        loop {
            let sending = (self.send)(self.client, self.request, self.give_up_at);
            self.sendings += 1;
            self.reached |= !matches!(sending, Sending::NoConnection(_));
            let reason = match sending {
                Sending::Answered(reply) => return self.answered(reply),
                Sending::TooLarge(reason) => return Err(self.not_done(&reason)),
                Sending::NoConnection(reason) | Sending::Nothing(reason) => reason,
                Sending::Doubt(reason) => {
                    if self.repeat != Repeat::Read {
                        self.doubt = Some(format!("{}: {reason}", self.client.server()));
                    }
                    reason
                }
            };
            self.move_on(&reason)?;
        }
    }

    /// An answer is the last word, unless it only tells that the session is gone while an earlier
    /// sending is in doubt.
    fn answered(self, reply: Reply) -> Result<Answer, Error> {
        if let (Reply::Error(code, text), Some(doubt)) = (&reply, &self.doubt)
            && matches!(code, ErrorCode::NoSession | ErrorCode::StaleSeq)
        {
            let reason = format!("{doubt}; then {}: {code} {text}", self.client.server());
            self.client.session = None;
            return Err(Error::InDoubt {
                after: self.started.elapsed(),
                reason,
            });
        }
        Ok(Answer {
            reply,
            server: self.client.server().to_owned(),
            took: self.started.elapsed(),
        })
    }

    /// Turns to the next server, after a wait if all of them have been asked; or gives up.
    fn move_on(&mut self, reason: &str) -> Result<(), Error> {
        let count = self.client.servers.len();
        let wait = if self.sendings.is_multiple_of(count) {
            let whole = self.back_off;
            self.back_off = (2 * whole).min(BACK_OFF_MAX);
            rand::random_range(whole / 2..=whole)
        } else {
            Duration::ZERO
        };
        if let Some(error) = self.give_up(reason, wait) {
            return Err(error);
        }
        let failed = self.client.current;
        self.client.current = (failed + 1) % count;
        if let Some(notice) = &mut self.client.on_detour {
            notice(&Detour {
                server: &self.client.servers[failed],
                reason,
                next: &self.client.servers[self.client.current],
            });
        }
        thread::sleep(wait);
        if let Some(lane) = &mut self.client.lane
            && is_recorded(self.request)
        {
            lane.again();
        }
        Ok(())
    }

    /// Why the request is given up now, if it is.
    fn give_up(&self, reason: &str, wait: Duration) -> Option<Error> {
        let resume_at = Instant::now() + wait;
        let late = resume_at >= self.give_up_at || self.repeat == Repeat::Never;
        if let Some(doubt) = &self.doubt {
            return late.then(|| Error::InDoubt {
                after: self.started.elapsed(),
                reason: doubt.clone(),
            });
        }
        let all_asked = self.sendings >= self.client.servers.len();
        let unreachable = self.started + self.client.settings.unreachable;
        if !self.reached && all_asked && (late || resume_at >= unreachable) {
            return Some(Error::Unreachable {
                tried: self.client.servers.join(", "),
            });
        }
        late.then(|| self.not_done(reason))
    }

    fn not_done(&self, reason: &str) -> Error {
        Error::NotDone {
            after: self.started.elapsed(),
            reason: format!("{}: {reason}", self.client.server()),
        }
    }
}
