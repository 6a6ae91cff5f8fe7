//! Makes the acceptor fail and recover at random times, for ever: the original's heart.
//!
//! The thread only flips a flag and tells the core; what failing means, and recovering from the log,
//! is the replica's and the recorder's affair.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crossbeam_channel::Sender;
use rand::rngs::ChaCha8Rng;
use rand::{RngExt, SeedableRng};

use super::core::Event;
use super::{Failures, StartError, spawn};

/// Starts the thread. It ends when the core is gone.
pub(super) fn start(
    failures: Failures,
    seed: u64,
    alive: Arc<AtomicBool>,
    events: Sender<Event>,
) -> Result<(), StartError> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    spawn("failure", move || {
        loop {
            for (up, range) in [
                (false, &failures.fail_every),
                (true, &failures.recover_after),
            ] {
                std::thread::sleep(rng.random_range(range.clone()));
                alive.store(up, Ordering::SeqCst);
                if events.send(Event::AcceptorFlag(None)).is_err() {
                    return;
                }
            }
        }
    })?;
    Ok(())
}
