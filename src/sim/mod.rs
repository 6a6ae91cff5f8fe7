//! The second shell: whole cluster lives on one thread, from one seed.
//!
//! A [`live`] runs the production replica, outbox, log and peer lines on a virtual clock, network
//! and disk, with clients that ask and faults that a plan brings. Everything comes from the seed:
//! the same seed gives the same life, and the same trace byte for byte, on every machine. Nothing
//! here has a clock, a thread, a socket or a random number of its own.
//!
//! `world` is the loop and the phases; `steps` what a node does (as `server::core` and
//! `server::recorder` do it); `service` what clients do with nodes; `faults` what the plan does to
//! them. Below these stand `clock`, `network`, `disk`, `node`, `clients` and `plan`.
//!
//! The judges stand outside the replica: `watch` holds the invariants I1 to I6 against everything
//! that leaves a node or is durable on its disk; `history` holds what clients were told against
//! the one log (I6, I7, linearizable reads, P46); `model` is the state machine once more; `judge`
//! asks [`crate::check`] whether what clients were told is linearizable, whatever the log says.
//! [`minimise`] finds the faults that a failing life cannot do without.
//!
//! Left out: a flipped byte in the last group of a log (see `plan`).

mod clients;
mod clock;
mod counts;
mod dice;
mod disk;
mod faults;
mod history;
mod judge;
mod memory;
mod model;
mod network;
mod node;
mod plan;
mod service;
mod starts;
mod steps;
mod watch;
mod world;

use std::panic::{AssertUnwindSafe, catch_unwind};

pub use counts::{Counts, Seen};
pub use history::{Call, Operation, Reply};
pub use plan::Profile;

use crate::check::history::History;
use crate::kv::command::Command;
use clock::SECOND;
use world::World;

/// Which life.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Settles everything.
    pub seed: u64,
    /// Which faults it has.
    pub profile: Profile,
    /// Whether it is told.
    pub trace: bool,
    /// Faults of the plan that are left out, by number.
    pub without: Vec<usize>,
    /// A mistake of the shell that the checks must find.
    pub mistake: Option<Mistake>,
}

impl Settings {
    /// A life without a trace, whole and without a mistake.
    pub fn new(seed: u64, profile: Profile) -> Self {
        Self {
            seed,
            profile,
            trace: false,
            without: Vec::new(),
            mistake: None,
        }
    }

    /// The command that replays this life.
    pub fn command(&self) -> String {
        let Self { seed, profile, .. } = self;
        let mut command = format!("quince simulate --seed {seed} --profile {profile}");
        if !self.without.is_empty() {
            let numbers: Vec<String> = self.without.iter().map(usize::to_string).collect();
            command.push_str(" --without ");
            command.push_str(&numbers.join(","));
        }
        command
    }
}

/// A mistake that is planted in this shell, to see the checks find it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mistake {
    /// Votes leave when they are handed to the log, not when it has synced (P1, P2).
    VotesBeforeSync,
    /// A node comes back without its promises (P1).
    PromisesForgotten,
    /// A node comes back without the ballots that it has used (P6).
    BallotsForgotten,
    /// Reads are made without waiting for a probe (D11).
    ReadsUnprobed,
}

/// Why a life failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// At which step of the world.
    pub step: u64,
    /// When, in microseconds of virtual time.
    pub at: u64,
    /// Which check failed, its invariant first; or the text of the panic.
    pub text: String,
}

/// What a life came to.
#[derive(Debug)]
pub struct Life {
    /// What was seen.
    pub counts: Counts,
    /// None if all is well.
    pub failure: Option<Failure>,
    /// What happened, if it was to be told.
    pub trace: String,
    /// The faults of the plan, one line each, in the order of their numbers.
    pub plan: Vec<String>,
    /// What clients asked and were told, in the order in which they asked.
    pub operations: Vec<Operation>,
    /// What the cluster was filled with at its start.
    pub preload: Vec<Command>,
    /// How long it took, in microseconds of virtual time.
    pub lasted: u64,
}

impl Life {
    /// What clients saw, as [`crate::check`] takes it; times in nanoseconds.
    pub fn history(&self) -> History {
        judge::history(&self.operations, &self.preload)
    }
}

/// Lives a life from its start to its end, or to the first failure.
pub fn live(settings: &Settings) -> Life {
    let mut world = World::new(settings);
    let done = catch_unwind(AssertUnwindSafe(|| world.run()));
    let text = match done {
        Ok(Ok(())) => None,
        Ok(Err(text)) => Some(text),
        Err(panic) => Some(panic_text(&*panic)),
    };
    let failure = text.map(|text| Failure {
        step: world.steps,
        at: world.clock.now(),
        text,
    });
    Life {
        failure,
        trace: world.trace.take().unwrap_or_default(),
        plan: world.plan.faults.iter().map(ToString::to_string).collect(),
        operations: world.history.take_operations(),
        preload: world.preload,
        lasted: world.clock.now(),
        counts: world.counts,
    }
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
    format!("panic: {}", text.unwrap_or("without a text"))
}

/// How many lives [`minimise`] lives at most.
const TRIES_MAX: usize = 200;

/// Leaves out faults of a failing life, one by one, as long as it still fails, in whatever way.
/// Returns the shortest that was found.
pub fn minimise(settings: &Settings) -> Settings {
    let mut shortest = settings.clone();
    let faults = live(settings).plan.len();
    let mut tries = 0;
    loop {
        let before = shortest.without.len();
        for number in 0..faults {
            if shortest.without.contains(&number) || tries >= TRIES_MAX {
                continue;
            }
            let mut shorter = shortest.clone();
            shorter.without.push(number);
            tries += 1;
            if live(&shorter).failure.is_some() {
                shortest = shorter;
            }
        }
        if shortest.without.len() == before {
            shortest.without.sort_unstable();
            return shortest;
        }
    }
}

// A life that hangs is a failure, and found in bounded time.
const _: () = assert!(SECOND == 1_000_000, "virtual time is in microseconds");
