//! One client of a load: sends a batch of requests, waits for all its replies, and again.
//!
//! A closed loop: a client that waits sends nothing. So latencies say nothing of the requests that
//! would have come during an outage ("coordinated omission"); the gap of the
//! [timeline](super::timeline) does.

use std::collections::BTreeMap;
use std::io::{self, ErrorKind, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

use super::mix::{Ask, Mix, Op};
use super::speech::{Arrivals, Batch, Protocol, STRANGE, greeting};
use super::timeline::Timeline;
use crate::check::history::OperationId;
use crate::client::{Lane, Recorder};

/// What all clients of a run have in common.
pub(super) struct Run {
    pub(super) servers: Vec<SocketAddr>,
    pub(super) protocol: Protocol,
    pub(super) mix: Mix,
    pub(super) keys: u64,
    /// What is put, but for what tells values of a recorded run apart.
    pub(super) value: Vec<u8>,
    /// What `CAS` goes to and fro between.
    pub(super) swapped: [Vec<u8>; 2],
    pub(super) pipeline: usize,
    /// How long nothing may arrive while replies are due.
    pub(super) timeout: Duration,
    /// Where all times are counted from.
    pub(super) start: Instant,
    /// The part of the run whose results count.
    pub(super) measured: std::ops::Range<Duration>,
    /// Successes; of writes alone where there are any.
    pub(super) timeline: Timeline,
    pub(super) stop: AtomicBool,
    /// Where the run is recorded, if it is.
    pub(super) recorder: Option<Recorder>,
}

/// What is shown while a client runs: sums since its start.
#[derive(Default)]
pub(super) struct Live {
    pub(super) done: AtomicU64,
    pub(super) errors: AtomicU64,
}

/// What a client found, in the measured part of the run.
pub(super) struct Results {
    /// Latencies of successes, in microseconds.
    pub(super) latencies: Histogram<u32>,
    /// By the code of the reply, or `lost` and `timed-out` for what got none.
    pub(super) errors: BTreeMap<&'static str, u64>,
}

impl Results {
    /// None yet, with room for latencies up to `longest`; a longer one counts as that.
    pub(super) fn new(longest: Duration) -> Self {
        let max = u64::try_from(longest.as_micros()).unwrap_or(u64::MAX);
        Self {
            latencies: Histogram::new_with_max(max.max(2), 3).expect("bounds in order, 3 digits"),
            errors: BTreeMap::new(),
        }
    }

    /// Puts what another client found to it.
    pub(super) fn add(&mut self, other: &Self) {
        self.latencies
            .add(&other.latencies)
            .expect("all clients have the same bounds");
        for (code, count) in &other.errors {
            *self.errors.entry(code).or_default() += count;
        }
    }
}

/// A connection that could not be made: one attempt each.
const REFUSED: &str = "no-connection";
/// A request without a reply when its connection ended.
const LOST: &str = "lost";
/// A request without a reply when nothing had come for the time-out.
const TIMED_OUT: &str = "timed-out";

/// Pauses after failures in a row double up to this: a client is back within it.
const PAUSE_MAX: Duration = Duration::from_millis(50);

/// One client: a connection, and what came of it.
pub(super) struct Client<'a> {
    run: &'a Run,
    live: &'a Live,
    results: Results,
    rng: SmallRng,
    /// Which of the servers to talk to.
    server: usize,
    connection: Option<(TcpStream, Arrivals)>,
    /// Attempts in a row that brought no success.
    failures: u32,
    batch: Batch,
    /// The key and the value of one request; kept for their memory.
    key: Vec<u8>,
    value: Vec<u8>,
    recording: Option<Recording>,
}

/// What a client writes into the history.
struct Recording {
    lane: Lane,
    /// Of the requests of the batch.
    ids: Vec<OperationId>,
    /// Makes every value another one.
    puts: u64,
    /// A reply as a plain line; kept for its memory.
    line: Vec<u8>,
}

impl<'a> Client<'a> {
    /// Client `number`, from 0; clients are dealt out to the servers in turn.
    pub(super) fn new(run: &'a Run, live: &'a Live, number: usize) -> Self {
        Self {
            run,
            live,
            results: Results::new(longest_latency(run.timeout)),
            rng: SmallRng::seed_from_u64(number as u64),
            server: number % run.servers.len(),
            connection: None,
            failures: 0,
            batch: Batch::new(run.protocol, run.recorder.is_some()),
            key: Vec::new(),
            value: Vec::new(),
            recording: run.recorder.as_ref().map(|recorder| Recording {
                lane: recorder.lane(),
                ids: Vec::new(),
                puts: 0,
                line: Vec::new(),
            }),
        }
    }

    /// Puts every `step`th key from `first` once. Before the run: nothing of it is measured.
    pub(super) fn fill(&mut self, first: u64, step: usize) {
        const BATCH: usize = 64;
        let mut keys = (first..self.run.keys).step_by(step).peekable();
        while keys.peek().is_some() {
            self.batch.clear();
            for key in keys.by_ref().take(BATCH) {
                self.add(Ask::Put, key);
            }
            while !self.stopped() && !self.exchange() {
                self.pause();
            }
        }
    }

    /// Until the run is stopped.
    pub(super) fn run(mut self) -> Results {
        while !self.stopped() {
            self.fill_batch();
            if !self.exchange() {
                self.pause();
            }
        }
        self.results
    }

    fn stopped(&self) -> bool {
        self.run.stop.load(Relaxed)
    }

    fn fill_batch(&mut self) {
        self.batch.clear();
        for _ in 0..self.run.pipeline {
            let key = self.rng.random_range(0..self.run.keys);
            let ask = self.run.mix.draw(&mut self.rng);
            self.add(ask, key);
        }
    }

    fn add(&mut self, ask: Ask, key: u64) {
        self.key.clear();
        write!(self.key, "{}{key}", self.run.mix.op.keys()).expect("memory takes it");
        match ask {
            Ask::Get | Ask::LocalGet | Ask::Incr => self.batch.add(ask, &self.key, &[]),
            Ask::Put => {
                self.next_value();
                self.batch.add(ask, &self.key, &[&self.value]);
            }
            Ask::Cas => {
                let [one, other] = &self.run.swapped;
                let values = if self.rng.random() {
                    [&one[..], other]
                } else {
                    [&other[..], one]
                };
                self.batch.add(ask, &self.key, &values);
            }
        }
    }

    /// Makes the value of the next `PUT`.
    fn next_value(&mut self) {
        self.value.clear();
        if self.run.mix.op == Op::Cas {
            return self.value.extend_from_slice(&self.run.swapped[0]);
        }
        if let Some(Recording { lane, puts, .. }) = &mut self.recording {
            *puts += 1;
            write!(self.value, "{}.{puts}.", lane.client()).expect("memory takes it");
        }
        let rest = self.run.value.get(self.value.len()..);
        self.value.extend_from_slice(rest.unwrap_or_default());
    }

    /// Sends the batch and takes its replies. False if not one request succeeded: then the client has
    /// moved to the next server where the connection is to blame.
    fn exchange(&mut self) -> bool {
        let Some((mut stream, mut arrivals)) = self.connection.take().or_else(|| self.connect())
        else {
            return false;
        };
        if let Some(Recording { lane, ids, .. }) = &mut self.recording {
            ids.clear();
            ids.extend(self.batch.lines().map(|line| lane.call_line(line)));
            lane.hand_on();
        }
        let sent = Instant::now();
        let mut taken = Taken::default();
        let end = match stream.write_all(&self.batch.bytes) {
            Ok(()) => self.take_replies(&mut stream, &mut arrivals, sent, &mut taken),
            Err(error) => Err(error),
        };
        match end {
            Ok(()) => self.connection = Some((stream, arrivals)),
            Err(error) => {
                let open = self.batch.asks.len() - taken.replies;
                if let Some(Recording { lane, ids, .. }) = &mut self.recording {
                    for &id in &ids[taken.replies..] {
                        lane.lost(id, failure(&error));
                    }
                }
                self.note_errors(failure(&error), open as u64);
                self.move_on();
            }
        }
        if taken.successes > 0 {
            self.failures = 0;
        }
        taken.successes > 0
    }

    fn take_replies(
        &mut self,
        stream: &mut TcpStream,
        arrivals: &mut Arrivals,
        sent: Instant,
        taken: &mut Taken,
    ) -> io::Result<()> {
        while taken.replies < self.batch.asks.len() {
            arrivals.read_from(stream)?;
            // One look at the clock for all that came in one read.
            let now = Instant::now();
            while let Some(arrival) = arrivals.next_reply()? {
                let Some(&ask) = self.batch.asks.get(taken.replies) else {
                    return Err(ErrorKind::InvalidData.into());
                };
                let judged = arrival.judge(ask);
                if let Some(Recording {
                    lane, ids, line, ..
                }) = &mut self.recording
                    && judged != Err(STRANGE)
                    && let Some(line) = arrival.line(ask, line)
                {
                    lane.reply_line(ids[taken.replies], line);
                }
                taken.replies += 1;
                match judged {
                    Ok(()) => {
                        taken.successes += 1;
                        self.note_success(ask, now, now - sent);
                    }
                    Err(code) => self.note_errors(code, 1),
                }
            }
        }
        Ok(())
    }

    fn note_success(&mut self, ask: Ask, now: Instant, latency: Duration) {
        let at = now - self.run.start;
        if ask.writes() || !self.run.mix.writes() {
            self.run.timeline.mark(at);
        }
        if self.run.measured.contains(&at) {
            let micros = u64::try_from(latency.as_micros()).unwrap_or(u64::MAX);
            self.results.latencies.saturating_record(micros.max(1));
        }
        self.live.done.fetch_add(1, Relaxed);
    }

    fn note_errors(&mut self, code: &'static str, count: u64) {
        if count > 0 && self.run.measured.contains(&self.run.start.elapsed()) {
            *self.results.errors.entry(code).or_default() += count;
        }
        self.live.errors.fetch_add(count, Relaxed);
    }

    fn connect(&mut self) -> Option<(TcpStream, Arrivals)> {
        let made = self.open();
        if made.is_err() {
            self.note_errors(REFUSED, 1);
            self.move_on();
        }
        made.ok()
    }

    fn open(&self) -> io::Result<(TcpStream, Arrivals)> {
        let Run { timeout, .. } = *self.run;
        let mut stream = TcpStream::connect_timeout(&self.run.servers[self.server], timeout)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(timeout))?;
        stream.set_write_timeout(Some(timeout))?;
        let mut arrivals = Arrivals::new(self.run.protocol);
        let greeting = greeting(self.run.protocol, self.run.mix.op);
        if !greeting.is_empty() {
            stream.write_all(&greeting)?;
            loop {
                arrivals.read_from(&mut stream)?;
                if let Some(reply) = arrivals.next_reply()? {
                    // It is the one of `PUT`.
                    let judged = reply.judge(Ask::Put);
                    judged.map_err(|code| io::Error::new(ErrorKind::InvalidData, code))?;
                    break;
                }
            }
        }
        Ok((stream, arrivals))
    }

    fn move_on(&mut self) {
        self.server = (self.server + 1) % self.run.servers.len();
    }

    /// After a failure: none while there is a server not tried since the last success, then from 1 ms
    /// on, doubling.
    fn pause(&mut self) {
        self.failures += 1;
        let servers = u32::try_from(self.run.servers.len()).expect("few servers");
        if let Some(doublings) = self.failures.checked_sub(servers) {
            let pause = Duration::from_millis(1 << doublings.min(10));
            std::thread::sleep(pause.min(PAUSE_MAX));
        }
    }
}

/// What came back of a batch.
#[derive(Default)]
struct Taken {
    replies: usize,
    successes: usize,
}

/// The longest time that a reply can take without a time-out: each read may take that long, and
/// whoever waits ten times has a slow server. A longer latency counts as this.
fn longest_latency(timeout: Duration) -> Duration {
    timeout * 10
}

fn failure(error: &io::Error) -> &'static str {
    match error.kind() {
        ErrorKind::WouldBlock | ErrorKind::TimedOut => TIMED_OUT,
        ErrorKind::InvalidData => STRANGE,
        _ => LOST,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{BufRead, BufReader};
    use std::net::TcpListener;

    fn run(servers: Vec<SocketAddr>) -> Run {
        let length = Duration::from_mins(1);
        Run {
            servers,
            protocol: Protocol::Lines,
            mix: Mix::new(None, None).unwrap(),
            keys: 10,
            value: b"v".to_vec(),
            swapped: [b"a".to_vec(), b"b".to_vec()],
            pipeline: 3,
            timeout: Duration::from_millis(200),
            start: Instant::now(),
            measured: Duration::ZERO..length,
            timeline: Timeline::new(length),
            stop: AtomicBool::new(false),
            recorder: None,
        }
    }

    /// A server of one connection: answers so many requests, then closes.
    fn serve(listener: TcpListener, replies: Vec<&'static str>) -> std::thread::JoinHandle<()> {
        std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut requests = BufReader::new(stream.try_clone().unwrap()).lines();
            for reply in replies {
                let request = requests.next().unwrap().unwrap();
                assert!(request.starts_with("PUT bench-"), "{request}");
                writeln!(stream, "{reply}").unwrap();
            }
        })
    }

    /// What `CAS` expects is what stood there in about half of all cases, whoever was there before.
    #[test]
    fn a_cas_goes_from_one_value_to_the_other_and_its_keys_begin_as_one() {
        let run = Run {
            mix: Mix::new(Some(Op::Cas), None).unwrap(),
            ..run(vec!["127.0.0.1:1".parse().unwrap()])
        };
        let live = Live::default();
        let mut client = Client::new(&run, &live, 0);
        client.add(Ask::Put, 7);
        assert_eq!(client.batch.bytes, b"PUT bench-cas-7 a\n");
        client.batch.clear();
        for _ in 0..100 {
            client.add(Ask::Cas, 7);
        }
        let lines: Vec<&[u8]> = client.batch.lines().collect();
        let to = |line: &[u8]| lines.iter().filter(|&&found| found == line).count();
        let (forth, back) = (to(b"CAS bench-cas-7 a b\n"), to(b"CAS bench-cas-7 b a\n"));
        assert!(
            forth + back == 100 && forth.min(back) > 30,
            "{forth} {back}"
        );
    }

    #[test]
    fn a_client_whose_server_is_lost_goes_on_at_the_next() {
        let listen = || TcpListener::bind("127.0.0.1:0").unwrap();
        let (first, refusing, last) = (listen(), listen(), listen());
        let servers = [&first, &refusing, &last].map(|l| l.local_addr().unwrap());
        drop(refusing);
        let threads = [
            serve(first, vec!["OK", "ERROR NOT_DONE later"]),
            serve(last, vec!["OK", "OK", "OK"]),
        ];
        let run = run(servers.to_vec());
        let live = Live::default();
        let mut client = Client::new(&run, &live, 0);
        client.fill_batch();
        assert!(client.exchange(), "one of three was done");
        assert!(!client.exchange(), "the second server refuses");
        assert!(client.exchange(), "the third takes it");
        for thread in threads {
            thread.join().unwrap();
        }
        assert_eq!(client.results.latencies.len(), 4);
        let errors: Vec<_> = client.results.errors.into_iter().collect();
        assert_eq!(errors, [("NOT_DONE", 1), (LOST, 1), (REFUSED, 1)]);
        assert!(run.timeline.last().is_some());
    }

    #[test]
    fn a_frozen_server_holds_its_client_for_the_timeout_only() {
        let frozen = TcpListener::bind("127.0.0.1:0").unwrap();
        let run = run(vec![frozen.local_addr().unwrap()]);
        let live = Live::default();
        let mut client = Client::new(&run, &live, 0);
        client.fill_batch();
        assert!(!client.exchange());
        assert_eq!(client.results.errors[TIMED_OUT], 3);
        assert!(client.connection.is_none());
    }
}
