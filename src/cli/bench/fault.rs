//! Kills or freezes the leader in the middle of a run.

use std::thread;
use std::time::{Duration, Instant};

use crate::cli::complain;
use crate::cli::signal::{Pids, Signal, send};
use crate::client::peek::{Peeker, leader};
use crate::paxos::types::NodeId;

/// What is done to the leader.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    /// It dies at once and its connections close.
    Kill,
    /// It keeps its connections and does nothing, up to the end of the run.
    Freeze,
}

impl Fault {
    /// The word for programs.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Kill => "kill",
            Self::Freeze => "freeze",
        }
    }
}

/// What was done: to whom, and when.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Struck {
    pub(super) fault: Fault,
    pub(super) leader: NodeId,
    /// Just before the signal was sent, from the start of the run.
    pub(super) at: Duration,
}

/// A fault that was done. A frozen leader goes on when this is dropped, however the run ends (but
/// for a SIGKILL of the bench itself).
#[derive(Debug)]
pub(super) struct Strike {
    struck: Struck,
    frozen: Option<u32>,
}

impl Strike {
    /// Ends the fault, as far as it can be ended, and says what it was.
    pub(super) fn end(self) -> Struck {
        self.struck
    }
}

impl Drop for Strike {
    fn drop(&mut self) {
        if let Some(pid) = self.frozen
            && let Err(text) = send(Signal::Continue, pid)
        {
            complain(&format!("the leader stays frozen: {text}"));
        }
    }
}

/// The pause between two looks for a leader.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// Finds the leader and strikes it. There may be none for a moment: then it looks again, up to
/// `give_up` after `start`.
pub(super) fn strike(
    fault: Fault,
    pids: &Pids,
    peekers: &mut [Peeker],
    start: Instant,
    give_up: Duration,
) -> Result<Strike, String> {
    let leader = loop {
        let peeks: Vec<_> = peekers.iter_mut().filter_map(Peeker::peek).collect();
        if let Some(peek) = leader(&peeks) {
            break peek.id;
        }
        if start.elapsed() >= give_up {
            return Err("no server led, so none could be struck".into());
        }
        thread::sleep(LOOK_EVERY);
    };
    let pid = pids.of(leader)?;
    let at = start.elapsed();
    let signal = match fault {
        Fault::Kill => Signal::Kill,
        Fault::Freeze => Signal::Stop,
    };
    // Before the signal: were it sent and an error came after it, the leader would still be thawed.
    let strike = Strike {
        struck: Struck { fault, leader, at },
        frozen: (fault == Fault::Freeze).then_some(pid),
    };
    send(signal, pid)?;
    Ok(strike)
}
