//! The main thread during a run: shows how it goes, and strikes half-way.

use std::fmt;
use std::io::{self, IsTerminal, Write as _};
use std::ops::Range;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError};

use super::Args;
use super::fault::{self, Strike};
use super::load::{Live, Run};
use super::report::rate;
use crate::cli::figures::millis;
use crate::client::peek::Peeker;

/// What happened beside the load.
pub(super) struct Watched {
    /// When the load ended, from its start.
    pub(super) ended: Duration,
    pub(super) interrupted: bool,
    /// The fault, if one was asked for; or why it could not be done.
    pub(super) strike: Result<Option<Strike>, String>,
}

/// See the module's text.
pub(super) struct Progress<'a> {
    args: &'a Args,
    run: &'a Run,
    lives: &'a [Live],
    in_place: bool,
    shown_done: u64,
    shown_at: Duration,
}

impl<'a> Progress<'a> {
    const EVERY: Duration = Duration::from_secs(1);

    pub(super) fn new(args: &'a Args, run: &'a Run, lives: &'a [Live]) -> Self {
        Self {
            args,
            run,
            lives,
            in_place: io::stderr().is_terminal(),
            shown_done: 0,
            shown_at: Duration::ZERO,
        }
    }

    /// Until the end of the run, or an interrupt.
    pub(super) fn watch(&mut self, peekers: &mut [Peeker], interrupted: &Receiver<()>) -> Watched {
        let Range { start, end } = self.run.measured;
        let mut fault = self.args.fault();
        let strike_at = (start + end) / 2;
        let mut strike = Ok(None);
        let mut interrupt = false;
        let mut show_at = Self::EVERY;
        loop {
            let now = self.run.start.elapsed();
            if now >= end || interrupt {
                break;
            }
            if now >= show_at {
                self.show(now);
                show_at = now + Self::EVERY;
            }
            if let Some((kind, pids)) = fault.take_if(|_| now >= strike_at) {
                strike = fault::strike(kind, pids, peekers, self.run.start, end).map(Some);
                interrupt |= strike.is_err();
                continue;
            }
            let next = if fault.is_some() { strike_at } else { end };
            let wait = next.min(show_at).min(end).saturating_sub(now);
            interrupt |= interrupted.recv_timeout(wait) != Err(RecvTimeoutError::Timeout);
        }
        Watched {
            ended: self.run.start.elapsed().min(end),
            interrupted: interrupt,
            strike,
        }
    }

    fn show(&mut self, now: Duration) {
        let sum = |count: fn(&Live) -> u64| self.lives.iter().map(count).sum::<u64>();
        let done = sum(|live| live.done.load(Relaxed));
        let errors = sum(|live| live.errors.load(Relaxed));
        let rate = rate(done - self.shown_done, now.saturating_sub(self.shown_at));
        (self.shown_done, self.shown_at) = (done, now);
        let silence = now.saturating_sub(self.run.timeline.last().unwrap_or_default());
        let line = format!(
            "{:5.0} s {rate:10.0} operations/s {errors:8} errors   last success {} ago",
            now.as_secs_f64(),
            millis(silence)
        );
        if self.in_place {
            show(format_args!("\r{line}\x1b[K"));
        } else {
            show(format_args!("{line}\n"));
        }
    }

    /// Takes the live line away.
    pub(super) fn clear(&self) {
        if self.in_place {
            show(format_args!("\r\x1b[K"));
        }
    }
}

/// Shows it to people. Their terminal may be closed, and the run goes on: a frozen leader must be thawed.
fn show(text: fmt::Arguments<'_>) {
    let _ = io::stderr().write_fmt(text);
}
