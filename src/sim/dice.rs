//! All that is random in a life, drawn from its seed.
//!
//! Each part of the world has a stream of its own, so that one that draws less (because a fault was
//! left out) does not change what the others draw. Only `u64` is drawn: ranges of `usize` would give
//! other numbers on machines with other words.

use std::ops::RangeInclusive;

use rand::rngs::ChaCha8Rng;
use rand::{RngExt, SeedableRng};

/// A stream of random numbers.
#[derive(Debug)]
pub(super) struct Dice(ChaCha8Rng);

/// Who draws.
#[derive(Debug, Clone, Copy)]
pub(super) enum Stream {
    Plan = 1,
    Network,
    Disks,
    Nodes,
    Clients,
}

impl Dice {
    pub(super) fn new(seed: u64, stream: Stream) -> Self {
        // Odd, so that different seeds stay different.
        const SPREAD: u64 = 0x9e37_79b9_7f4a_7c15;
        let mixed = seed.wrapping_mul(SPREAD) ^ (stream as u64);
        Self(ChaCha8Rng::seed_from_u64(mixed))
    }

    /// A number below `end`, which is not 0.
    pub(super) fn below(&mut self, end: u64) -> u64 {
        self.0.random_range(0..end)
    }

    /// An index of something with `len` elements, not 0.
    pub(super) fn index(&mut self, len: usize) -> usize {
        usize::try_from(self.below(len as u64)).expect("below a usize")
    }

    pub(super) fn between(&mut self, range: RangeInclusive<u64>) -> u64 {
        self.0.random_range(range)
    }

    /// True in so many of 1,000 cases.
    pub(super) fn chance(&mut self, per_mille: u64) -> bool {
        per_mille > 0 && self.below(1_000) < per_mille
    }

    /// Any 64 bits.
    pub(super) fn mark(&mut self) -> u64 {
        self.0.random()
    }

    pub(super) fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.index(of.len())]
    }
}
