//! From a `HOST:PORT` to a connection, within a bounded time.
//!
//! The system's resolver waits as long as it pleases: ten seconds and more where a name server is
//! silent. So a name is looked up in a thread of its own, and whoever asked waits for a bounded time.
//! A name that stands for several addresses is tried at one after another, and the addresses share one
//! bounded time too.
//!
//! No answer is kept for long: each [`look_up`] asks the system again, so that a machine that comes back
//! with another address is found. At most one lookup per name is under way in a process, however often it
//! is asked for; so a resolver that hangs costs one thread per name. Until it answers, its last answer
//! serves, since a server that keeps its address should be found while the name server is down.

#![allow(
    clippy::disallowed_methods,
    reason = "whoever waits for a network has a clock"
)]

use std::collections::BTreeMap;
use std::io::{self, ErrorKind};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs as _};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

/// One for each name that this process has ever asked for; these are the few of its command line.
static LOOKUPS: Mutex<BTreeMap<String, Arc<Lookups>>> = Mutex::new(BTreeMap::new());

/// What the system said of one name.
#[derive(Debug, Default)]
struct Lookups {
    state: Mutex<State>,
    answered: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// A thread waits for the system.
    is_under_way: bool,
    /// How many lookups have ended.
    ended: u64,
    /// Why the last of them found nothing, if so.
    failure: Option<(ErrorKind, String)>,
    /// What was found last.
    known: Vec<SocketAddr>,
}

/// The addresses of a `HOST:PORT`, in the order in which the system would try them; at least one. Takes no
/// longer than `timeout`.
///
/// # Errors
/// The system says that there are none; or it said nothing in time, and never did before.
pub fn look_up(name: &str, timeout: Duration) -> io::Result<Vec<SocketAddr>> {
    if let Ok(address) = name.parse() {
        return Ok(vec![address]);
    }
    Lookups::of(name).ask(name, timeout)
}

/// Connects to one of the addresses of a `HOST:PORT`. Takes no longer than `timeout`, the lookup included.
pub fn connect(name: &str, timeout: Duration) -> io::Result<TcpStream> {
    let by = Instant::now() + timeout;
    let addresses = look_up(name, timeout)?;
    connect_to(&addresses, by.saturating_duration_since(Instant::now()))
}

impl Lookups {
    fn of(name: &str) -> Arc<Self> {
        Arc::clone(LOOKUPS.lock().entry(name.into()).or_default())
    }

    fn ask(self: &Arc<Self>, name: &str, timeout: Duration) -> io::Result<Vec<SocketAddr>> {
        let by = Instant::now() + timeout;
        let mut state = self.state.lock();
        if !state.is_under_way {
            self.start(name)?;
            state.is_under_way = true;
        }
        let before = state.ended;
        while state.ended == before {
            if self.answered.wait_until(&mut state, by).timed_out() {
                break;
            }
        }
        let has_answered = state.ended > before;
        match &state.failure {
            Some((kind, text)) if has_answered => Err(io::Error::new(*kind, text.clone())),
            _ if !state.known.is_empty() => Ok(state.known.clone()),
            _ => Err(io::Error::new(
                ErrorKind::TimedOut,
                format!("the name was not found within {:?}", to_millis(timeout)),
            )),
        }
    }

    fn start(self: &Arc<Self>, name: &str) -> io::Result<()> {
        let (name, lookups) = (name.to_owned(), Arc::clone(self));
        let look_up = move || lookups.end(name.to_socket_addrs().map(Iterator::collect));
        let builder = thread::Builder::new().name("lookup".into());
        builder.spawn(look_up).map(drop)
    }

    fn end(&self, found: io::Result<Vec<SocketAddr>>) {
        let mut state = self.state.lock();
        state.is_under_way = false;
        state.ended += 1;
        state.failure = match found {
            Ok(found) if found.is_empty() => Some((
                ErrorKind::NotFound,
                "the name stands for no address".to_owned(),
            )),
            Ok(found) => {
                state.known = found;
                None
            }
            Err(error) => Some((error.kind(), error.to_string())),
        };
        self.answered.notify_all();
    }
}

/// Connects to the first of these addresses that takes the connection. Takes no longer than `timeout`:
/// each address gets its equal share of what those before it have left.
///
/// # Errors
/// That of the last address.
pub fn connect_to(addresses: &[SocketAddr], timeout: Duration) -> io::Result<TcpStream> {
    let by = Instant::now() + timeout;
    let mut last = io::Error::new(ErrorKind::NotFound, "no address to connect to");
    for (address, to_try) in addresses.iter().zip((1..=addresses.len()).rev()) {
        let left = by.saturating_duration_since(Instant::now());
        let share = left / u32::try_from(to_try).unwrap_or(u32::MAX);
        // The system takes no wait of nothing.
        match TcpStream::connect_timeout(address, share.max(CONNECT_MIN)) {
            Ok(stream) => return Ok(stream),
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// The shortest wait for a connection, when a lookup or other addresses have used the time up.
const CONNECT_MIN: Duration = Duration::from_millis(1);

/// Whole milliseconds, for people.
fn to_millis(duration: Duration) -> Duration {
    Duration::from_millis(duration.as_millis().try_into().unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    const SOON: Duration = Duration::from_millis(10);

    /// A name whose lookup is under way, and ends when the test says so.
    fn asked(name: &str) -> Arc<Lookups> {
        let lookups = Lookups::of(name);
        lookups.state.lock().is_under_way = true;
        lookups
    }

    fn address(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    #[test]
    fn an_address_needs_no_lookup() {
        for text in ["127.0.0.1:7001", "[::1]:7001"] {
            asked(text);
            assert_eq!(look_up(text, SOON).unwrap(), [address(text)]);
        }
    }

    /// However often a name is asked for, and by whom, one thread waits for the system.
    #[test]
    fn a_lookup_that_hangs_is_waited_for_briefly_and_never_doubled() {
        let name = "hangs.test:1";
        let lookups = asked(name);
        for _ in 0..2 {
            let error = look_up(name, SOON).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::TimedOut);
            assert_eq!(error.to_string(), "the name was not found within 10ms");
            let error = connect(name, SOON).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::TimedOut);
        }
        let state = lookups.state.lock();
        assert!(state.is_under_way && state.ended == 0, "{state:?}");
    }

    #[test]
    fn an_answer_that_came_late_serves_until_there_is_another() {
        let name = "late.test:1";
        let lookups = asked(name);
        look_up(name, SOON).unwrap_err();
        let found = vec![address("192.0.2.1:1"), address("192.0.2.2:1")];
        lookups.end(Ok(found.clone()));
        assert!(!lookups.state.lock().is_under_way);
        lookups.state.lock().is_under_way = true;
        assert_eq!(look_up(name, SOON).unwrap(), found);
    }

    /// What was known is not dialled once the system says that there is nothing.
    #[test]
    fn an_answer_in_time_is_the_last_word() {
        let answers: [fn() -> io::Result<Vec<SocketAddr>>; 2] =
            [|| Ok(Vec::new()), || Err(ErrorKind::NotFound.into())];
        for answer in answers {
            let name = "gone.test:1";
            let lookups = asked(name);
            lookups.state.lock().known = vec![address("192.0.2.1:1")];
            let asking = thread::spawn(|| look_up(name, Duration::from_mins(1)));
            // An answer is for whoever has begun to wait.
            while !asking.is_finished() {
                lookups.end(answer());
                lookups.state.lock().is_under_way = true;
                thread::yield_now();
            }
            let error = asking.join().unwrap().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::NotFound);
        }
    }

    #[test]
    fn the_next_address_is_tried_when_one_refuses() {
        let listen = || TcpListener::bind("127.0.0.1:0").unwrap();
        let (gone, there) = (listen(), listen());
        let addresses = [&gone, &there].map(|listener| listener.local_addr().unwrap());
        drop(gone);
        let stream = connect_to(&addresses, Duration::from_mins(1)).unwrap();
        assert_eq!(stream.peer_addr().unwrap(), addresses[1]);
        let error = connect_to(&addresses[..1], Duration::from_mins(1)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
        let error = connect_to(&[], Duration::from_mins(1)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound);
    }
}
