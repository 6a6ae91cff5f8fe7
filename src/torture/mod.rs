//! Real processes, real faults: a cluster of this very program on loopback, tortured by a plan from a
//! seed while clients write down what they see, and judged in the end.
//!
//! | file | holds |
//! | --- | --- |
//! | [`plan`] | which faults come, when and to whom: waves of them, without an end |
//! | [`link`], [`links`] | a proxy between each two servers: late, held, lost, cut |
//! | `servers` | the processes: start, kill, freeze, stop |
//! | `strike` | how each kind of fault begins, and how it is over |
//! | `load` | the clients |
//! | `calm` | what must be true when all is healed |
//! | [`counts`] | what happened |
//!
//! Waves of faults and calm times take turns. In a calm every server must serve within a stated time,
//! the clients must get on, and all servers must have applied the same. In the end the history of all
//! clients must be linearizable (`check`), with the whole store as each server lists it as its last
//! words, and no server may have logged an error. What `sim` does with virtual time and every step in
//! view, this does with the real shell: its threads, sockets, files and signals, seen from outside.
//!
//! What it cannot show: a missing sync, since a killed process leaves the system's page cache alone;
//! and a run again, since a seed repeats the plan and not the moments.

#![allow(
    clippy::disallowed_methods,
    reason = "real faults take real time; a link has few connections, so std's backlog does"
)]

mod calm;
pub mod counts;
pub mod link;
pub mod links;
mod load;
pub mod plan;
mod servers;
mod strike;

use std::fs::{self, File};
use std::io::Write as _;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError};
use time::OffsetDateTime;

use self::calm::Prober;
use self::counts::{Counts, Operations, Outcome};
use self::load::Load;
use self::plan::{Kind, Plan, Wave};
use self::servers::Servers;
use self::strike::Field;
use crate::check::format::read;
use crate::check::{self, Begins, STATES_MAX, check};
use crate::client::Recorder;

/// How often it looks whether everything that should run does.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// What is to be done.
#[derive(Debug, Clone)]
pub struct Options {
    /// The seed of the plan, and of what clients ask.
    pub seed: u64,
    /// How many servers: 3, 5, 7 or 9.
    pub servers: u8,
    /// The last wave begins before so much time has passed; one comes always.
    pub lasts: Duration,
    /// A directory, for the data and the logs of the servers, the history and a journal of the faults.
    pub place: PathBuf,
    /// How many clients, one or more.
    pub clients: u32,
    /// Requests a second of all clients together, one or more; fewer if the servers are slower.
    pub rate: u32,
    /// Which faults may come, one or more.
    pub kinds: Vec<Kind>,
    /// How often the progress is told.
    pub tell_every: Duration,
}

/// How far it is.
#[derive(Debug, Clone)]
pub struct Progress<'a> {
    /// Since the first server was started.
    pub after: Duration,
    /// What was done.
    pub counts: &'a Counts,
    /// What came of the clients' requests.
    pub operations: Operations,
}

/// How it ended.
#[derive(Debug)]
pub struct Report {
    /// What was done.
    pub counts: Counts,
    /// What came of the clients' requests.
    pub operations: Operations,
    /// Why it ended early, if it was not as it must be.
    pub failure: Option<String>,
    /// Whether it was interrupted.
    pub interrupted: bool,
    /// What the judge says of the history, or why it cannot be read.
    pub judgment: Result<check::Report, String>,
    /// How long the judge took.
    pub judged_in: Duration,
}

impl Report {
    /// Whether all was as it must be.
    pub fn is_well(&self) -> bool {
        let judgment = self.judgment.as_ref();
        self.failure.is_none() && judgment.is_ok_and(check::Report::is_linearizable)
    }
}

/// Why a torture does not go on.
#[derive(Debug)]
enum Halt {
    Interrupted,
    Failed(String),
}

impl From<String> for Halt {
    fn from(text: String) -> Self {
        Self::Failed(text)
    }
}

/// Tortures a cluster. Ends early when something arrives at `interrupted`.
///
/// # Errors
/// Why nothing could begin: the directory, the ports, the history. All else is in the report.
pub fn run(
    options: &Options,
    interrupted: &Receiver<()>,
    tell: &mut dyn FnMut(&Progress<'_>),
) -> Result<Report, String> {
    let cannot = |what: &str, error: &dyn std::fmt::Display| format!("cannot {what}: {error}");
    let history = options.place.join("history");
    let recorder = Recorder::create(&history).map_err(|error| cannot("record", &error))?;
    let journal = File::create(options.place.join("journal"));
    let journal = journal.map_err(|error| cannot("keep a journal", &error))?;
    let servers = Servers::new(options.servers, &options.place, options.seed)
        .map_err(|error| cannot("set up servers", &error))?;
    let load = Load::start(
        &servers.addresses(),
        options.clients,
        options.rate,
        options.seed,
        &recorder,
    );
    let load = load.map_err(|error| cannot("start clients", &error))?;
    let started = Instant::now();
    let mut torture = Torture {
        plan: Plan::new(options.seed, servers.members(), options.kinds.clone()),
        field: Field::new(servers),
        load,
        prober: Prober::new(recorder.lane()),
        journal,
        interrupted,
        tell,
        tell_every: options.tell_every,
        started,
        told: started,
    };
    let end = torture.last(options.lasts);
    torture.report(end, &recorder, &history)
}

struct Torture<'a> {
    plan: Plan,
    field: Field,
    load: Load,
    prober: Prober,
    journal: File,
    interrupted: &'a Receiver<()>,
    tell: &'a mut dyn FnMut(&Progress<'_>),
    tell_every: Duration,
    started: Instant,
    /// When the progress was told last.
    told: Instant,
}

impl Torture<'_> {
    /// Waves and calms, until the time is over; one at least.
    fn last(&mut self, time: Duration) -> Result<(), Halt> {
        self.note("the servers start");
        self.field.heal()?;
        self.calm(0, Duration::ZERO)?;
        while self.field.counts.waves == 0 || self.started.elapsed() < time {
            let wave = self.plan.wave();
            self.wave(&wave)?;
            self.calm(wave.number, wave.calm)?;
            self.field.counts.waves += 1;
        }
        Ok(())
    }

    /// Lets the faults of a wave begin and end, each in its time.
    fn wave(&mut self, wave: &Wave) -> Result<(), Halt> {
        let began = Instant::now();
        let mut turns = Vec::new();
        for (number, fault) in wave.faults.iter().enumerate() {
            self.note(&format!("wave {}, fault {number}: {fault}", wave.number));
            turns.push((fault.at, number, true));
            turns.push((fault.at + fault.lasts, number, false));
        }
        // Where two turns share a moment, a begin comes first: a fault begins before it ends.
        turns.sort_by_key(|&(at, number, begins)| (at, !begins, number));
        for (at, number, begins) in turns {
            self.pause(began + at)?;
            if begins {
                self.note(&format!("fault {number} begins"));
                self.field.begin(number, wave.faults[number].clone())?;
            } else {
                self.note(&format!("fault {number} ends"));
                self.field.end(number)?;
            }
        }
        Ok(())
    }

    /// Waits, with an eye on everything.
    fn pause(&mut self, until: Instant) -> Result<(), Halt> {
        loop {
            self.look_after()?;
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(());
            }
            match self.interrupted.recv_timeout(left.min(LOOK_EVERY)) {
                Err(RecvTimeoutError::Timeout) => {}
                Ok(()) | Err(RecvTimeoutError::Disconnected) => return Err(Halt::Interrupted),
            }
        }
    }

    fn look_after(&mut self) -> Result<(), Halt> {
        self.field.servers.look_after()?;
        self.load.look_after()?;
        if self.told.elapsed() >= self.tell_every {
            self.told = Instant::now();
            (self.tell)(&Progress {
                after: self.started.elapsed(),
                counts: &self.field.counts,
                operations: self.load.operations(),
            });
        }
        Ok(())
    }

    /// A line for who looks for the cause of a failure, with the time as in the logs of the servers.
    fn note(&mut self, text: &str) {
        let now = OffsetDateTime::now_utc();
        let (hour, minute, second) = now.to_hms();
        let millis = now.millisecond();
        // A disk that is full must not end what it is to explain.
        let _ = writeln!(
            self.journal,
            "{hour:02}:{minute:02}:{second:02}.{millis:03} {text}"
        );
    }

    /// Ends clients and servers, and judges.
    fn report(
        mut self,
        end: Result<(), Halt>,
        recorder: &Recorder,
        history: &std::path::Path,
    ) -> Result<Report, String> {
        let operations = self.load.finish();
        let interrupted = matches!(end, Err(Halt::Interrupted));
        let mut failure = match end {
            Ok(()) => self.prober.last_words(&mut self.field.servers).err(),
            Err(Halt::Interrupted) => None,
            Err(Halt::Failed(text)) => Some(text),
        };
        let Field {
            servers,
            mut counts,
            ..
        } = self.field;
        counts.traffic = servers.links().traffic();
        let alarms = servers.alarms();
        drop((servers, self.prober));
        if failure.is_none() && !alarms.is_empty() {
            failure = Some(format!("errors in the logs: {}", alarms.join("; ")));
        }
        if failure.is_none() && !interrupted {
            failure = slack(&counts, &operations);
        }
        recorder
            .finish()
            .map_err(|error| format!("the history is not whole: {error}"))?;
        let judged = Instant::now();
        let judgment = fs::read(history)
            .map_err(|error| error.to_string())
            .and_then(|text| read(&text).map_err(|error| error.to_string()))
            .map(|recorded| check(&recorded.history, Begins::Empty, STATES_MAX));
        Ok(Report {
            counts,
            operations,
            failure,
            interrupted,
            judgment,
            judged_in: judged.elapsed(),
        })
    }
}

/// What should have been done and was not: a torture that does nothing finds nothing.
fn slack(counts: &Counts, operations: &Operations) -> Option<String> {
    let unfelt = counts.unfelt();
    if !unfelt.is_empty() {
        let unfelt = unfelt.join(", ");
        return Some(format!(
            "these faults came and came and did nothing: {unfelt}"
        ));
    }
    let never = |kind: &counts::Kind| operations.of(*kind, Outcome::Done) == 0;
    let never: Vec<_> = counts::Kind::ALL.into_iter().filter(never).collect();
    (counts.waves > 0 && !never.is_empty()).then(|| {
        let names: Vec<_> = never.into_iter().map(counts::Kind::name).collect();
        format!("no {} was ever done", names.join(", no "))
    })
}
