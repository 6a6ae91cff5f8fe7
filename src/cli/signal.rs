//! Signals: to server processes, for those who break them on purpose; and to this one.
//!
//! The standard library can send SIGKILL to its children and nothing else to anyone: `rustix` can. Nor can it
//! catch any: `signal-hook` can, and tells them apart.
//!
//! | | SIGINT, SIGTERM | SIGHUP |
//! | --- | --- | --- |
//! | a server | stops cleanly | goes on, and opens its log file anew |
//! | `demo`, `bench`, `torture` | end, and clean up | the same; under `nohup` they go on |
//! | everything else | ends at once, by the system's default | the same |
//!
//! A process with the number 1, as in a container, has no defaults: it ignores what it does not catch. There
//! everything else exits with 128 and the signal's number, as a shell tells the default: 143 for SIGTERM.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use std::sync::OnceLock;
use std::thread;

use crossbeam_channel::{Receiver, Sender};
use log::{error, info};
use rustix::process::{self, Pid, kill_process, test_kill_process};

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use signal_hook::low_level::signal_name;

use super::flags::{FlagError, server_id};
use super::logging::LogFile;
use crate::paxos::types::NodeId;

/// The signals that are sent here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Signal {
    /// Nothing is sent: asks whether the process is there and may be signalled.
    Probe,
    /// The process ends at once, whatever it is doing.
    Kill,
    /// The process is frozen: it lives, keeps its connections, and does nothing.
    Stop,
    /// A frozen process goes on.
    Continue,
}

impl Signal {
    fn name(self) -> &'static str {
        match self {
            Self::Probe => "0",
            Self::Kill => "KILL",
            Self::Stop => "STOP",
            Self::Continue => "CONT",
        }
    }
}

/// Sends `signal` to the process `pid`.
///
/// # Errors
/// One line, with what the system says.
pub(crate) fn send(signal: Signal, pid: u32) -> Result<(), String> {
    let failed = |why: &dyn fmt::Display| format!("kill -s {} {pid} failed: {why}", signal.name());
    let target = i32::try_from(pid).ok().and_then(Pid::from_raw);
    let target = target.ok_or_else(|| failed(&"expected a process id"))?;
    let sent = match signal {
        Signal::Probe => test_kill_process(target),
        Signal::Kill => kill_process(target, process::Signal::KILL),
        Signal::Stop => kill_process(target, process::Signal::STOP),
        Signal::Continue => kill_process(target, process::Signal::CONT),
    };
    sent.map_err(|error| failed(&error))
}

/// Something arrives when SIGINT, SIGTERM or SIGHUP comes, which from now on do not end the process by
/// themselves. To be called once.
pub(crate) fn interrupts() -> Result<Receiver<()>, String> {
    let (sender, receiver) = crossbeam_channel::bounded(1);
    // From here on a signal that came a moment ago is told there as well.
    let _ = INTERRUPTS.set(sender.clone());
    let hangs_up = (!is_ignored(SIGHUP)).then_some(SIGHUP);
    on_signals([SIGINT, SIGTERM].into_iter().chain(hangs_up), move |_| {
        let _ = sender.try_send(());
    })?;
    Ok(receiver)
}

/// Something arrives when a server is to stop: for SIGINT and SIGTERM. After SIGHUP it goes on, and appends
/// to `log` anew. The log names each. To be called once.
pub(crate) fn stops(log: Option<LogFile>) -> Result<Receiver<()>, String> {
    let (sender, receiver) = crossbeam_channel::bounded(1);
    on_signals([SIGINT, SIGTERM, SIGHUP], move |signal| {
        let name = signal_name(signal).unwrap_or("a signal");
        if signal != SIGHUP {
            info!("{name}: stopping");
            // A second one changes nothing: the server is stopping already.
            let _ = sender.try_send(());
            return;
        }
        match log.as_ref().map(LogFile::reopen) {
            None => info!("{name}: going on"),
            Some(Ok(())) => info!("{name}: going on, with this log opened anew"),
            Some(Err(why)) => error!("{name}: going on with the log as it was: {why}"),
        }
    })?;
    Ok(receiver)
}

/// Where [`interrupts`] tells of signals, once it has taken over.
static INTERRUPTS: OnceLock<Sender<()>> = OnceLock::new();

/// Makes a process with the number 1 end by the signals that end any other.
pub(crate) fn end_as_any_other() -> Result<(), String> {
    if std::process::id() != 1 {
        return Ok(());
    }
    on_signals([SIGINT, SIGTERM, SIGHUP], |signal| match INTERRUPTS.get() {
        Some(interrupts) => {
            let _ = interrupts.try_send(());
        }
        None => std::process::exit(128 + signal),
    })
}

/// Calls `act` for each of these signals that comes, in a thread of its own.
fn on_signals(
    signals: impl IntoIterator<Item = i32>,
    mut act: impl FnMut(i32) + Send + 'static,
) -> Result<(), String> {
    let wrong = |why: &dyn fmt::Display| format!("cannot catch signals: {why}");
    let mut signals = Signals::new(signals).map_err(|error| wrong(&error))?;
    let listen = move || signals.forever().for_each(&mut act);
    let thread = thread::Builder::new().name("signals".into()).spawn(listen);
    thread.map(|_| ()).map_err(|error| wrong(&error))
}

/// Whether whoever started this process had it ignore a signal, as `nohup` does; not told on every system.
fn is_ignored(signal: i32) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    mask.is_some_and(|mask| mask >> (signal - 1) & 1 == 1)
}

/// Which process each server is: `1=PID,2=PID,...`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Pids(BTreeMap<NodeId, u32>);

impl Pids {
    /// The process of `server`.
    pub(crate) fn of(&self, server: NodeId) -> Result<u32, String> {
        self.0.get(&server).copied().ok_or_else(|| {
            let number = server.number();
            format!("expected the process of {server} in --pids ({number}=PID), found none")
        })
    }

    /// Fails unless every one of them is there and may be signalled.
    pub(crate) fn check(&self) -> Result<(), String> {
        self.0
            .values()
            .try_for_each(|&pid| send(Signal::Probe, pid))
    }
}

impl FromStr for Pids {
    type Err = FlagError;

    fn from_str(text: &str) -> Result<Self, FlagError> {
        let mut pids = BTreeMap::new();
        for one in text.split(',') {
            let wrong = |expected| FlagError {
                expected,
                found: one.into(),
            };
            let (id, pid) = one
                .trim()
                .split_once('=')
                .ok_or_else(|| wrong("servers and their processes such as 1=4711,2=4712"))?;
            let id = server_id(id)?;
            // 0 and the negative ones mean groups of processes, 1 is the system's.
            let pid = pid.parse().ok().filter(|pid| (2..1 << 31).contains(pid));
            let pid = pid.ok_or_else(|| wrong("a process id above 1"))?;
            if pids.insert(id, pid).is_some() {
                return Err(wrong("each server once"));
            }
        }
        Ok(Self(pids))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::process::ExitStatusExt;
    use std::process::Command;

    #[test]
    fn pids_name_a_process_for_each_server() {
        let pids: Pids = "1=11,n2=22".parse().unwrap();
        assert_eq!(pids.of(NodeId::new(2).unwrap()), Ok(22));
        let error = pids.of(NodeId::new(3).unwrap()).unwrap_err();
        assert_eq!(
            error,
            "expected the process of n3 in --pids (3=PID), found none"
        );
        for bad in [
            "",
            "1",
            "1=",
            "0=5",
            "1=0",
            "1=1",
            "1=-5",
            "1=5,1=6",
            "1=9999999999",
            "1=a",
        ] {
            assert!(bad.parse::<Pids>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_signal_arrives_or_says_why_not() {
        let mut child = Command::new("sleep").arg("600").spawn().unwrap();
        for signal in [Signal::Probe, Signal::Stop, Signal::Continue, Signal::Kill] {
            send(signal, child.id()).unwrap();
        }
        assert_eq!(child.wait().unwrap().signal(), Some(9));
        let error = send(Signal::Probe, child.id()).unwrap_err();
        let start = format!("kill -s 0 {} failed: ", child.id());
        assert!(
            error.starts_with(&start) && error.len() > start.len(),
            "{error}"
        );
    }
}
