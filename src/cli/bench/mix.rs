//! What the clients of a load ask for: one kind of request, or reads and writes in some share.

use rand::RngExt;
use rand::rngs::SmallRng;

/// What one request asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ask {
    Put,
    Get,
    LocalGet,
    Incr,
    Cas,
}

impl Ask {
    /// Whether it goes through the log.
    pub(super) fn writes(self) -> bool {
        matches!(self, Self::Put | Self::Incr | Self::Cas)
    }
}

/// What the clients ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Op {
    /// `PUT key value`
    Put,
    /// `GET key`, linearizable
    Get,
    /// `LOCAL GET key`, possibly stale
    LocalGet,
    /// `PUT` and `GET` at random: half and half, or as --reads says
    Mixed,
    /// `INCR key`
    Incr,
    /// `CAS key expected new`, from one of two values to the other
    Cas,
}

impl Op {
    /// As it is typed.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Put => "put",
            Self::Get => "get",
            Self::LocalGet => "local-get",
            Self::Mixed => "mixed",
            Self::Incr => "incr",
            Self::Cas => "cas",
        }
    }

    /// What the names of the keys begin with: what one kind of request leaves there is of no use to
    /// another.
    pub(super) fn keys(self) -> &'static str {
        match self {
            Self::Put | Self::Get | Self::LocalGet | Self::Mixed => "bench-",
            Self::Incr => "bench-count-",
            Self::Cas => "bench-cas-",
        }
    }

    /// Whether every key must be there before the load.
    pub(super) fn needs_keys(self) -> bool {
        !matches!(self, Self::Put | Self::Incr)
    }
}

/// What the clients ask for, and how much of it is reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Mix {
    pub(super) op: Op,
    /// How many of 100 requests read.
    pub(super) reads_percent: u8,
}

impl Mix {
    /// How much of a mixed load is reads when nothing is said.
    const READS_PERCENT: u8 = 50;

    /// From what was asked for; `reads_percent` alone means a mixed load.
    ///
    /// # Errors
    /// A share of reads for a load that is not mixed: one line.
    pub(super) fn new(op: Option<Op>, reads_percent: Option<u8>) -> Result<Self, String> {
        let reads_percent = match (op, reads_percent) {
            (None | Some(Op::Mixed), Some(percent)) => {
                return Ok(Self {
                    op: Op::Mixed,
                    reads_percent: percent,
                });
            }
            (Some(op), Some(_)) => {
                let op = op.name();
                return Err(format!("expected --reads with --op mixed, found --op {op}"));
            }
            (Some(Op::Mixed), None) => Self::READS_PERCENT,
            (Some(Op::Get | Op::LocalGet), None) => 100,
            (None | Some(Op::Put | Op::Incr | Op::Cas), None) => 0,
        };
        Ok(Self {
            op: op.unwrap_or(Op::Put),
            reads_percent,
        })
    }

    /// Whether anything goes through the log.
    pub(super) fn writes(self) -> bool {
        self.reads_percent < 100
    }

    /// What the next request asks for.
    pub(super) fn draw(self, rng: &mut SmallRng) -> Ask {
        match self.op {
            Op::Get => Ask::Get,
            Op::LocalGet => Ask::LocalGet,
            Op::Incr => Ask::Incr,
            Op::Cas => Ask::Cas,
            Op::Mixed if rng.random_range(0..100) < self.reads_percent => Ask::Get,
            Op::Put | Op::Mixed => Ask::Put,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng as _;

    #[test]
    fn reads_alone_make_a_mixed_load_and_belong_to_no_other() {
        let mix = |op, reads| Mix::new(op, reads).map(|mix| (mix.op, mix.reads_percent));
        assert_eq!(mix(None, None), Ok((Op::Put, 0)));
        assert_eq!(mix(None, Some(90)), Ok((Op::Mixed, 90)));
        assert_eq!(mix(Some(Op::Mixed), None), Ok((Op::Mixed, 50)));
        assert_eq!(mix(Some(Op::Mixed), Some(0)), Ok((Op::Mixed, 0)));
        assert_eq!(mix(Some(Op::LocalGet), None), Ok((Op::LocalGet, 100)));
        assert_eq!(mix(Some(Op::Cas), None), Ok((Op::Cas, 0)));
        assert_eq!(
            mix(Some(Op::Get), Some(50)),
            Err("expected --reads with --op mixed, found --op get".into())
        );
    }

    #[test]
    fn the_share_of_reads_is_the_one_asked_for() {
        for percent in [0, 10, 95, 100] {
            let mix = Mix::new(None, Some(percent)).unwrap();
            let mut rng = SmallRng::seed_from_u64(1);
            let reads = (0..10_000).filter(|_| !mix.draw(&mut rng).writes()).count();
            let expected = usize::from(percent) * 100;
            assert!(reads.abs_diff(expected) < 200, "{percent}: {reads}");
            assert_eq!(mix.writes(), reads < 10_000);
        }
    }
}
