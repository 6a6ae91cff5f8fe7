//! Gaps: which lines of a log are missing, where, and whether that is news.
//!
//! [`super::scan`] tells where the next line does not stand, and which line it finds behind; all
//! numbers in between are a hole. Once the whole log is read it is known from which line on it must be
//! whole, and which holes an earlier start has listed: the rest is new damage (P40).

use super::body::First;
use super::damage::Damage;
use super::dir::Dir;
use super::scan::{NAMED_AFTER_SYNC, segment_name};

/// Lines that had been there and cannot be read.
#[derive(Debug, Clone)]
pub(super) struct Gap {
    pub(super) from: u64,
    pub(super) to: u64,
    /// Found by an earlier start, which has written `lost`.
    pub(super) known: bool,
    pub(super) damage: Damage,
}

/// Where the next line should stand and does not.
#[derive(Debug, Clone)]
enum Place {
    /// In a segment that is missing. `behind` is the next one, and what it begins with, if that is no
    /// good head.
    Segment {
        number: u64,
        behind: Option<(u64, String)>,
    },
    /// In a segment that was there a moment ago: a running server has trimmed its log.
    Trimmed,
    /// Here.
    Byte {
        number: u64,
        offset: usize,
        found: String,
    },
}

/// A gap before it is known whether it matters.
struct Hole {
    from: u64,
    to: u64,
    place: Place,
    witness: String,
    /// The segment in which reading went on.
    behind: u64,
}

/// The gaps found so far.
#[derive(Default)]
pub(super) struct Gaps {
    /// None while lines follow one another.
    place: Option<Place>,
    holes: Vec<Hole>,
    /// What `missing` lines list.
    known: Vec<(u64, u64)>,
}

impl Gaps {
    /// The next line should stand in this segment, which is not there.
    pub(super) fn stop_at_missing(&mut self, number: u64) {
        let behind = None;
        self.place = Some(Place::Segment { number, behind });
    }

    /// The next line should stand in a segment that was there a moment ago.
    pub(super) fn stop_at_trimmed(&mut self) {
        self.place = Some(Place::Trimmed);
    }

    /// The next line should stand here, where something else was found.
    pub(super) fn stop(&mut self, number: u64, offset: usize, found: String) {
        match &mut self.place {
            Some(Place::Segment { behind, .. }) => {
                behind.get_or_insert((number, found));
            }
            Some(Place::Trimmed) => {}
            place => {
                *place = Some(Place::Byte {
                    number,
                    offset,
                    found,
                });
            }
        }
    }

    /// A good line was taken.
    pub(super) fn go_on(&mut self) {
        self.place = None;
    }

    /// These lines are missing; reading goes on, or ends, at this byte of this segment.
    pub(super) fn push(
        &mut self,
        from: u64,
        to: u64,
        (number, offset): (u64, usize),
        witness: String,
    ) {
        let place = self.place.take().unwrap_or(Place::Byte {
            number,
            offset,
            found: "nothing".into(),
        });
        self.holes.push(Hole {
            from,
            to,
            place,
            witness,
            behind: number,
        });
    }

    /// An earlier start has found these lines missing.
    pub(super) fn know(&mut self, from: u64, to: u64) {
        self.known.push((from, to));
    }

    /// The gaps that matter to a log that must be whole from `first` on.
    pub(super) fn found<D: Dir>(&self, dir: &D, first: First) -> Vec<Gap> {
        let needed = self.holes.iter().filter(|hole| hole.to >= first.seq);
        needed
            .filter_map(|hole| {
                let from = hole.from.max(first.seq);
                Some(Gap {
                    from,
                    to: hole.to,
                    known: self.is_known(from, hole.to),
                    damage: damage(dir, first, hole, from)?,
                })
            })
            .collect()
    }

    /// Whether `missing` lines list all of these.
    fn is_known(&self, mut from: u64, to: u64) -> bool {
        while from <= to {
            let covers = |(a, b): &&(u64, u64)| (*a..=*b).contains(&from);
            let Some((_, upto)) = self.known.iter().find(covers) else {
                return false;
            };
            from = upto.saturating_add(1);
        }
        true
    }
}

/// None where it is no damage.
fn damage<D: Dir>(dir: &D, first: First, hole: &Hole, expected: u64) -> Option<Damage> {
    let record = |number, offset, found: &str, witness: &str| Damage::Record {
        file: dir.path_of(&segment_name(number)),
        offset,
        expected,
        found: found.into(),
        witness: witness.into(),
    };
    match &hole.place {
        Place::Trimmed => None,
        Place::Byte {
            number,
            offset,
            found,
        } => Some(record(*number, *offset, found, &hole.witness)),
        Place::Segment { number, behind } => {
            let wanted = first.segment.max(*number);
            let (present, found) = match behind {
                Some((present, found)) => (*present, &**found),
                None => (hole.behind, "a later record"),
            };
            if present <= wanted {
                return Some(record(present, 0, found, NAMED_AFTER_SYNC));
            }
            Some(Damage::Segment {
                file: dir.path_of(&segment_name(wanted)),
                witness: segment_name(present),
            })
        }
    }
}
