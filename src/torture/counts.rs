//! What happened: to the servers and their links, and to the clients.

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};

use super::link::Traffic;
use super::plan;

/// What was asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// `GET`.
    Get,
    /// `PUT`.
    Put,
    /// `DELETE`.
    Delete,
    /// `CAS`.
    Cas,
    /// `INCR`.
    Incr,
    /// `APPEND`.
    Append,
    /// `EXPIRE`.
    Expire,
    /// `TTL`.
    Ttl,
    /// `MGET`.
    Mget,
    /// `LIST`.
    List,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 10] = [
        Self::Get,
        Self::Put,
        Self::Delete,
        Self::Cas,
        Self::Incr,
        Self::Append,
        Self::Expire,
        Self::Ttl,
        Self::Mget,
        Self::List,
    ];

    /// As on the wire.
    pub fn name(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Put => "PUT",
            Self::Delete => "DELETE",
            Self::Cas => "CAS",
            Self::Incr => "INCR",
            Self::Append => "APPEND",
            Self::Expire => "EXPIRE",
            Self::Ttl => "TTL",
            Self::Mget => "MGET",
            Self::List => "LIST",
        }
    }
}

/// How a request ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Outcome {
    /// With an answer.
    Done,
    /// Nobody knows.
    Unknown,
    /// Surely without being done.
    Refused,
}

impl Outcome {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Done, Self::Unknown, Self::Refused];
}

/// The requests of all clients.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Operations {
    counts: BTreeMap<(Kind, Outcome), u64>,
    /// Requests that were sent once more, elsewhere, each time.
    pub resent: u64,
}

impl Operations {
    /// Counts one.
    pub(super) fn count(&mut self, kind: Kind, outcome: Outcome) {
        *self.counts.entry((kind, outcome)).or_default() += 1;
    }

    /// How many of a kind ended so.
    pub fn of(&self, kind: Kind, outcome: Outcome) -> u64 {
        self.counts.get(&(kind, outcome)).copied().unwrap_or(0)
    }

    /// How many ended so.
    pub fn all(&self, outcome: Outcome) -> u64 {
        Kind::ALL.iter().map(|&kind| self.of(kind, outcome)).sum()
    }
}

/// One line a kind.
impl fmt::Display for Operations {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{:<12}{:>9}{:>9}{:>9}",
            "operations", "done", "unknown", "refused"
        )?;
        let mut line = |name: &str, of: &dyn Fn(Outcome) -> u64| {
            write!(f, "{name:<12}")?;
            for outcome in Outcome::ALL {
                write!(f, "{:>9}", of(outcome))?;
            }
            f.write_char('\n')
        };
        for kind in Kind::ALL {
            line(kind.name(), &|outcome| self.of(kind, outcome))?;
        }
        line("all", &|outcome| self.all(outcome))?;
        writeln!(f, "sent once more, elsewhere: {}", self.resent)
    }
}

/// How often a kind of fault came, and whether it was felt.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Came {
    /// It began.
    pub times: u64,
    /// It did something: a process died or froze, bytes were late or lost, syncs were slow, a server noticed
    /// what its disk has lost.
    pub felt: u64,
}

/// What was done.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Counts {
    faults: BTreeMap<plan::Kind, Came>,
    /// Waves of faults that ended in a calm where all was well.
    pub waves: u64,
    /// Processes killed with -9.
    pub kills: u64,
    /// Processes frozen.
    pub freezes: u64,
    /// Processes stopped in order.
    pub stops: u64,
    /// Processes started, the first starts among them.
    pub starts: u64,
    /// Acceptors told to fail.
    pub acceptors: u64,
    /// Faults of links.
    pub partitions: u64,
    /// Snapshots that servers have written.
    pub snapshots: u64,
    /// Snapshots that servers were sent by others.
    pub snapshots_fetched: u64,
    /// What has gone through all links.
    pub traffic: Traffic,
}

/// A kind that began so often must have been felt.
const FELT_BY_TIMES: u64 = 3;

impl Counts {
    /// A fault is over.
    pub(super) fn came(&mut self, kind: plan::Kind, felt: bool) {
        let came = self.faults.entry(kind).or_default();
        came.times += 1;
        came.felt += u64::from(felt);
    }

    /// How often a kind came.
    pub fn of(&self, kind: plan::Kind) -> Came {
        self.faults.get(&kind).copied().unwrap_or_default()
    }

    /// Kinds that came and came, and did nothing.
    pub(super) fn unfelt(&self) -> Vec<&'static str> {
        let unfelt = |came: &Came| came.times >= FELT_BY_TIMES && came.felt == 0;
        let faults = self.faults.iter().filter(|(_, came)| unfelt(came));
        faults.map(|(kind, _)| kind.name()).collect()
    }
}

/// The table of the end.
impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:<53}{:>5}{:>7}", "faults", "times", "felt")?;
        for (kind, came) in &self.faults {
            let text = format!("{} ({})", kind.text(), kind.name());
            writeln!(f, "{text:<53}{:>5}{:>7}", came.times, came.felt)?;
        }
        let Traffic {
            connections,
            closed,
            refused,
            delivered_bytes,
            late_bytes,
            lost_bytes,
        } = self.traffic;
        let waves = self.waves;
        writeln!(f, "waves of faults, each with a calm behind it: {waves}")?;
        let (kills, freezes) = (self.kills, self.freezes);
        let (stops, starts) = (self.stops, self.starts);
        writeln!(
            f,
            "processes: {kills} killed, {freezes} frozen, {stops} stopped, {starts} started; \
             {} acceptors failed",
            self.acceptors
        )?;
        let (written, fetched) = (self.snapshots, self.snapshots_fetched);
        writeln!(
            f,
            "snapshots: {written} written, {fetched} fetched from others"
        )?;
        writeln!(
            f,
            "links: {connections} connections, {closed} closed, {refused} refused; bytes: \
             {delivered_bytes} delivered, {late_bytes} kept waiting, {lost_bytes} lost"
        )
    }
}
