//! How the cluster looks from outside: every server's `STATUS`, polled in the background.
//!
//! A thread a server asks every [`POLL_EVERY`] over a connection of its own, so that one that hangs
//! does not hide the others. What is counted here is what was *seen*: a failure or an election
//! shorter than a poll may be missed, and a change is dated by the poll that saw it.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::cli::style::{Paint, Style};
use crate::client::peek::{Peek, Peeker};
use crate::paxos::types::{Ballot, NodeId, Slot};

/// The pause between two polls of a server.
pub(super) const POLL_EVERY: Duration = Duration::from_millis(20);

/// A server that takes longer counts as out of reach.
const POLL_TIMEOUT: Duration = Duration::from_millis(500);

/// The longest wait for a poll of every server: one that hangs takes longer, and shows so next time.
const FRESH_WITHIN: Duration = Duration::from_millis(100);

/// What the polls have seen.
#[derive(Debug)]
pub(super) struct View {
    servers: Vec<Seen>,
    /// The ballots that some server led with.
    led: BTreeSet<Ballot>,
    /// Time without a majority of acceptors, up to `changed_at`.
    without_majority: Duration,
    changed_at: Duration,
}

#[derive(Debug, Clone, Default)]
struct Seen {
    /// When its last poll began; none before the first.
    asked: Option<Duration>,
    /// Who it is, once it has said so.
    id: Option<NodeId>,
    /// What it said last; none if it did not answer.
    last: Option<Peek>,
}

impl View {
    fn new(servers: usize) -> Self {
        Self {
            servers: vec![Seen::default(); servers],
            led: BTreeSet::new(),
            without_majority: Duration::ZERO,
            changed_at: Duration::ZERO,
        }
    }

    /// Takes in what the server at place `at`, asked at `asked`, has said by `now`.
    fn note(&mut self, at: usize, peek: Option<Peek>, asked: Duration, now: Duration) {
        self.count_up_to(now);
        if let Some(peek) = &peek {
            self.servers[at].id = Some(peek.id);
            if peek.leads {
                self.led.insert(peek.ballot);
            }
        }
        self.servers[at].last = peek;
        self.servers[at].asked = Some(asked);
    }

    /// Before the first look at all servers nothing is counted.
    fn count_up_to(&mut self, now: Duration) {
        if self.complete() && !self.majority_up() {
            self.without_majority += now.saturating_sub(self.changed_at);
        }
        self.changed_at = self.changed_at.max(now);
    }

    /// Whether every server was polled at least once.
    fn complete(&self) -> bool {
        self.servers.iter().all(|seen| seen.asked.is_some())
    }

    fn majority_up(&self) -> bool {
        let up: BTreeSet<NodeId> = self
            .servers
            .iter()
            .filter_map(|seen| seen.last.as_ref())
            .filter(|peek| peek.acceptor_up)
            .map(|peek| peek.id)
            .collect();
        up.len() > self.servers.len() / 2
    }

    /// Time without a majority of acceptors that were seen to be up.
    pub(super) fn without_majority(&mut self, now: Duration) -> Duration {
        self.count_up_to(now);
        self.without_majority
    }

    /// Changes of the leading ballot.
    pub(super) fn elections(&self) -> usize {
        self.led.len().saturating_sub(1)
    }

    /// The number of a server by its place: what it said, else its place from 1.
    pub(super) fn number(&self, at: usize) -> u8 {
        let by_place = u8::try_from(at + 1).unwrap_or(u8::MAX);
        self.servers[at].id.map_or(by_place, NodeId::number)
    }

    /// The servers that have said who they are.
    pub(super) fn ids(&self) -> Vec<NodeId> {
        self.servers.iter().filter_map(|seen| seen.id).collect()
    }

    /// Whether every server was asked at `since` or later.
    fn asked_since(&self, since: Duration) -> bool {
        let fresh = |seen: &Seen| seen.asked.is_some_and(|asked| asked >= since);
        self.servers.iter().all(fresh)
    }

    /// `1+ 2- 3?`: acceptors up, failed, out of reach.
    pub(super) fn acceptors(&self, style: Style) -> String {
        let mut text = String::new();
        for (at, seen) in self.servers.iter().enumerate() {
            let (sign, paint) = match &seen.last {
                Some(peek) if peek.acceptor_up => ('+', Paint::Green),
                Some(_) => ('-', Paint::Red),
                None => ('?', Paint::Red),
            };
            let blank = if at == 0 { "" } else { " " };
            let one = style.paint(paint, &format!("{}{sign}", self.number(at)));
            write!(text, "{blank}{one}").expect("a string takes all");
        }
        text
    }

    /// The slot and hash at which all servers are, asked at `since` or later, if they are at one.
    pub(super) fn agreed(&self, since: Duration) -> Option<(Slot, String)> {
        if !self.asked_since(since) {
            return None;
        }
        let states: Option<BTreeSet<_>> = self
            .servers
            .iter()
            .map(|seen| {
                let peek = seen.last.as_ref()?;
                Some((peek.applied, peek.hash.as_str()))
            })
            .collect();
        let states = states?;
        let (slot, hash) = states.first().filter(|_| states.len() == 1)?;
        Some((*slot, (*hash).to_owned()))
    }

    /// Where each server is, for people: `n1 s20 ab12, n2 s19 cd34, 3 silent`.
    pub(super) fn positions(&self) -> String {
        let one = |(at, seen): (usize, &Seen)| match &seen.last {
            Some(peek) => format!("{} {} {}", peek.id, peek.applied, peek.hash),
            None => format!("n{} silent", self.number(at)),
        };
        let all: Vec<String> = self.servers.iter().enumerate().map(one).collect();
        all.join(", ")
    }
}

/// Polls for as long as the process lives.
#[derive(Clone)]
pub(super) struct Watch {
    view: Arc<Mutex<View>>,
    start: Instant,
}

impl Watch {
    /// Starts a thread a server. Times count from `start`.
    pub(super) fn start(servers: &[String], start: Instant) -> Self {
        let watch = Self {
            view: Arc::new(Mutex::new(View::new(servers.len()))),
            start,
        };
        for (at, server) in servers.iter().enumerate() {
            let watch = watch.clone();
            let mut peeker = Peeker::new(server.clone(), POLL_TIMEOUT);
            let poll = move || {
                loop {
                    let asked = watch.start.elapsed();
                    let peek = peeker.peek();
                    let now = watch.start.elapsed();
                    watch.view.lock().note(at, peek, asked, now);
                    thread::sleep(POLL_EVERY);
                }
            };
            let builder = thread::Builder::new().name(format!("demo-watch-{}", at + 1));
            builder
                .spawn(poll)
                .expect("the system has room for a thread");
        }
        watch
    }

    /// Looks at what was seen once every server has been polled again, or after a moment.
    pub(super) fn look_afresh<T>(&self, look: impl FnOnce(&mut View) -> T) -> T {
        let since = self.start.elapsed();
        while !self.look(|view| view.asked_since(since))
            && self.start.elapsed() < since + FRESH_WITHIN
        {
            thread::sleep(POLL_EVERY / 4);
        }
        self.look(look)
    }

    /// Looks at what was seen.
    pub(super) fn look<T>(&self, look: impl FnOnce(&mut View) -> T) -> T {
        look(&mut self.view.lock())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::peek::tests::follower;

    const fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    fn failed(id: u8) -> Peek {
        Peek {
            acceptor_up: false,
            ..follower(id, 1)
        }
    }

    #[test]
    fn time_without_a_majority_counts_failed_and_silent_acceptors() {
        let mut view = View::new(3);
        view.note(0, Some(failed(1)), ms(10), ms(10));
        view.note(1, Some(failed(2)), ms(20), ms(20));
        assert_eq!(view.without_majority(ms(30)), ms(0), "one was not polled");
        view.note(2, Some(follower(3, 1)), ms(40), ms(40));
        view.note(1, Some(follower(2, 1)), ms(100), ms(100));
        assert_eq!(view.without_majority(ms(200)), ms(60));
        view.note(1, None, ms(300), ms(300));
        assert_eq!(view.acceptors(Style::PLAIN), "1- 2? 3+");
        assert_eq!(view.without_majority(ms(350)), ms(110));
        view.note(0, Some(follower(1, 1)), ms(360), ms(360));
        assert_eq!(view.without_majority(ms(900)), ms(120));
    }

    #[test]
    fn an_election_is_a_new_leading_ballot() {
        let leading = |id: u8, ballot: &str| {
            Some(Peek {
                leads: true,
                ballot: ballot.parse().unwrap(),
                ..follower(id, 1)
            })
        };
        let mut view = View::new(3);
        assert_eq!(view.elections(), 0);
        view.note(0, leading(1, "b1.1"), ms(0), ms(0));
        view.note(0, leading(1, "b1.1"), ms(1), ms(1));
        assert_eq!(view.elections(), 0, "it led when the watch began");
        view.note(1, leading(2, "b2.2"), ms(2), ms(2));
        view.note(0, leading(1, "b1.1"), ms(3), ms(3));
        assert_eq!(view.elections(), 1);
    }

    #[test]
    fn all_agree_only_if_all_answer_with_one_slot_and_hash() {
        let mut view = View::new(2);
        view.note(0, Some(follower(1, 7)), ms(5), ms(6));
        assert_eq!(view.agreed(ms(5)), None);
        view.note(1, Some(follower(2, 6)), ms(5), ms(6));
        assert_eq!(view.agreed(ms(5)), None);
        view.note(1, Some(follower(2, 7)), ms(5), ms(6));
        assert_eq!(
            view.agreed(ms(5)),
            Some((Slot(7), "0000000000000007".into()))
        );
        assert_eq!(view.agreed(ms(6)), None, "that is too old");
        view.note(1, None, ms(5), ms(6));
        assert_eq!(view.agreed(ms(5)), None);
        assert_eq!(view.positions(), "n1 s7 0000000000000007, n2 silent");
    }
}
