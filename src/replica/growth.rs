//! When a snapshot is due, whose turn it is, and how far the log may grow: the one place with the rule.
//!
//! The log may take `max(least, 1.5 * expected)` bytes, where `expected` is the size that the next
//! snapshot will have if the store goes on growing, for each byte of the log, as it did before the last.
//! Of what was written since the last image, the first server takes its snapshot at three eighths of
//! that, the leader as the last one at a half, the others in between; nobody while another one writes
//! its own; and at five eighths whoever is left, whatever the others do, so that the rest is room to go
//! on while the snapshot is written.
//!
//! So a snapshot is written after more than half its size of log (9/16): for each byte of the log less
//! than 1 + 16/9 bytes go to the disk, whether the store grows or stays as it is. Where it begins to
//! grow, the first snapshot costs more (1 + 25/9), and where it ends, the next one as much less. The
//! price of a longer log is a longer start, and memory: what is accepted stays there until a snapshot
//! holds it. That is why growth counts only up to one byte per byte, and the log may take 24/7 of the
//! last snapshot at most: new keys with values of a few bytes, whose lines in a snapshot are longer
//! than in the log, cost more than three.

use crate::paxos::quorum::Members;
use crate::paxos::types::NodeId;

/// In how many steps the turns come.
const TURN_STEPS: u8 = 8;

/// How much a server wants a snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Wanted {
    /// As soon as its turn has come: this many steps of the turns have.
    Turn(u8),
    /// Whatever the others do.
    Now,
}

impl Wanted {
    /// Whether a server of this rank, from 0 on, takes one. `busy`: another one writes a snapshot.
    pub fn is_due(self, rank: usize, servers: usize, busy: bool) -> bool {
        match self {
            Self::Now => true,
            Self::Turn(step) => {
                let last = servers.saturating_sub(1);
                !busy && usize::from(step) * last >= rank * usize::from(TURN_STEPS)
            }
        }
    }
}

/// Which turn a server has: in the order of their numbers, the leader last.
pub fn rank(me: NodeId, leader: Option<NodeId>, members: &Members) -> usize {
    if leader == Some(me) {
        return members.size() - 1;
    }
    members
        .iter()
        .filter(|&node| node < me && leader != Some(node))
        .count()
}

/// How much a log that may take `bytes_max` wants a snapshot, `grown` bytes after the last image.
fn wanted(grown: usize, bytes_max: usize) -> Option<Wanted> {
    let eighth = (bytes_max / 8).max(1);
    if grown >= 5 * eighth {
        return Some(Wanted::Now);
    }
    let beyond = grown.checked_sub(3 * eighth)?;
    let step = beyond.saturating_mul(usize::from(TURN_STEPS)) / eighth;
    let step = u8::try_from(step).unwrap_or(u8::MAX);
    Some(Wanted::Turn(step.min(TURN_STEPS)))
}

/// How a log has grown since its last snapshot.
#[derive(Debug)]
pub struct Growth {
    least: usize,
    snapshot_bytes: usize,
    /// See [`expected`].
    expected: usize,
    /// What the log had written when the last image was taken.
    image_at: u64,
    /// How much of that was written since the image before.
    image_after: usize,
    told: Option<Wanted>,
}

/// How large the next snapshot will be, after one of `bytes` bytes, if the store grows by `more` with
/// each `written` bytes of the log; counted up to one byte per byte.
fn expected(bytes: usize, more: usize, written: usize) -> usize {
    let (more, written) = (more.min(written) as u128, written.max(1) as u128);
    // At the first turn 9/16 of it are written: expected = bytes + more / written * 9 / 16 * expected.
    let expected = 16 * bytes as u128 * written / (16 * written - 9 * more);
    usize::try_from(expected).unwrap_or(usize::MAX)
}

impl Growth {
    /// Of a log that may always take `least` bytes, with a last snapshot of so many, 0 if there is none.
    pub fn new(least: usize, snapshot_bytes: usize) -> Self {
        Self {
            least,
            snapshot_bytes,
            expected: snapshot_bytes,
            image_at: 0,
            image_after: 0,
            told: None,
        }
    }

    /// How many bytes the log may take. At this bound it waits for the snapshot that is being written.
    pub fn bytes_max(&self) -> usize {
        let by_snapshot = self.expected.saturating_add(self.expected / 2);
        self.least.max(by_snapshot)
    }

    /// How much a snapshot is wanted, if that is more than was said since the last image. `written`: all
    /// that the log has written.
    pub fn news(&mut self, written: u64) -> Option<Wanted> {
        let wanted = wanted(self.grown(written), self.bytes_max());
        if wanted <= self.told {
            return None;
        }
        self.told = wanted;
        wanted
    }

    /// How many bytes were written since the last image.
    fn grown(&self, written: u64) -> usize {
        usize::try_from(written - self.image_at).unwrap_or(usize::MAX)
    }

    /// An image was taken, to be written as a snapshot.
    pub fn on_image(&mut self, written: u64) {
        self.image_after = self.grown(written);
        self.image_at = written;
        self.told = None;
    }

    /// It is durable, and so large.
    pub fn on_snapshot(&mut self, bytes: usize) {
        let more = bytes.saturating_sub(self.snapshot_bytes);
        self.expected = expected(bytes, more, self.image_after);
        self.snapshot_bytes = bytes;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(number: u8) -> NodeId {
        NodeId::new(number).unwrap()
    }

    #[test]
    fn the_leader_has_the_last_turn_and_the_others_theirs_by_number() {
        let members = Members::new((1..=3).map(node)).unwrap();
        let ranks = |leader| [1, 2, 3].map(|n| rank(node(n), leader, &members));
        assert_eq!(ranks(None), [0, 1, 2]);
        assert_eq!(ranks(Some(node(1))), [2, 0, 1]);
        assert_eq!(ranks(Some(node(2))), [0, 2, 1]);
        assert_eq!(ranks(Some(node(3))), [0, 1, 2]);
    }

    #[test]
    fn turns_come_between_three_and_four_eighths_and_at_five_nobody_waits() {
        let due = |grown, rank, busy| {
            wanted(grown, 800).is_some_and(|wanted| wanted.is_due(rank, 3, busy))
        };
        let first = |rank, busy| (0..1_000).find(|&grown| due(grown, rank, busy)).unwrap();
        assert_eq!([0, 1, 2].map(|rank| first(rank, false)), [300, 350, 400]);
        assert_eq!([0, 1, 2].map(|rank| first(rank, true)), [500, 500, 500]);
        assert!(Wanted::Turn(0).is_due(0, 1, false), "a server alone");
    }

    #[test]
    fn the_bound_is_the_least_or_one_and_a_half_of_the_next_snapshot() {
        let mut growth = Growth::new(1_000, 0);
        assert_eq!(growth.bytes_max(), 1_000);
        assert_eq!(Growth::new(1_000, 600).bytes_max(), 1_000);
        assert_eq!(Growth::new(1_000, 4_000).bytes_max(), 6_000);
        let mut after = |written, bytes| {
            growth.on_image(written);
            growth.on_snapshot(bytes);
            growth.bytes_max()
        };
        // It grew by all that was written; then by half of it; then not at all; then it shrank.
        assert_eq!(after(7_000, 7_000), 24_000);
        assert_eq!(after(15_000, 11_000), 22_956);
        assert_eq!(after(25_000, 11_000), 16_500);
        assert_eq!(after(35_000, 800), 1_200);
        // An image of a peer may be larger than all that was written here.
        assert_eq!(after(35_000, 7_000), 10_500);
        assert_eq!(after(35_010, 14_000), 48_000);
    }

    #[test]
    fn each_step_is_told_once_and_an_image_begins_anew() {
        let mut growth = Growth::new(800, 0);
        assert_eq!(growth.news(299), None);
        assert_eq!(growth.news(300), Some(Wanted::Turn(0)));
        assert_eq!(growth.news(312), None);
        assert_eq!(growth.news(313), Some(Wanted::Turn(1)));
        assert_eq!(growth.news(700), Some(Wanted::Now));
        assert_eq!(growth.news(9_000), None);
        growth.on_image(9_000);
        assert_eq!(growth.news(9_299), None);
        assert_eq!(growth.news(9_300), Some(Wanted::Turn(0)));
    }

    const MIB: usize = 1 << 20;

    /// How large the store is, in MiB, when so many MiB of log were written.
    type Store = fn(usize) -> usize;

    const STORES: [(&str, Store); 5] = [
        ("grows, and then stays as it is", |at| at.min(400)),
        ("only grows", |at| at),
        ("grows by half of the log", |at| at / 2),
        ("grows and rests in turns", |at| {
            at / 200 * 100 + (at % 200).min(100)
        }),
        ("grows, and loses everything", |at| at % 1_000),
    ];

    /// Three servers write the same log. A snapshot takes as long as `slow` eighths of its size of log.
    /// Returns how many bytes a server had written per 100 bytes of log, right after the snapshot where
    /// that was most; the most snapshots at one time; and the longest log since an image, in hundredths of
    /// the bound.
    fn run(store: Store, slow: usize) -> (usize, usize, usize) {
        let members = Members::new((1..=3).map(node)).unwrap();
        let mut logs: Vec<_> = (0..3).map(|_| Growth::new(64 * MIB, 0)).collect();
        let mut want = [None; 3];
        let mut ends = [None::<(usize, usize)>; 3];
        let mut snapshots = [0; 3];
        let (mut per_byte, mut most, mut longest) = (0, 0, 0);
        for at in 1..=8_000 {
            for (n, log) in logs.iter_mut().enumerate() {
                if let Some((_, bytes)) = ends[n].take_if(|(until, _)| at >= *until) {
                    log.on_snapshot(bytes);
                }
                let written = (at * MIB) as u64;
                // While a snapshot is written, nobody asks.
                if ends[n].is_none() {
                    want[n] = log.news(written).or(want[n]);
                }
                let busy = (0..3).any(|other| other != n && ends[other].is_some());
                let rank = rank(node(u8::try_from(n + 1).unwrap()), Some(node(2)), &members);
                if ends[n].is_none() && want[n].is_some_and(|want| want.is_due(rank, 3, busy)) {
                    let bytes = store(at) * MIB;
                    longest = longest.max(log.grown(written) * 100 / log.bytes_max());
                    log.on_image(written);
                    want[n] = None;
                    ends[n] = Some((at + bytes * slow / 8 / MIB, bytes));
                    snapshots[n] += bytes;
                    per_byte = per_byte.max(100 + snapshots[n] * 100 / (at * MIB));
                }
            }
            most = most.max(ends.iter().flatten().count());
        }
        (per_byte, most, longest)
    }

    #[test]
    fn less_than_three_bytes_are_written_per_byte_of_the_log() {
        for (name, store) in STORES {
            let (per_byte, most, longest) = run(store, 1);
            assert!((150..300).contains(&per_byte), "{name}: {per_byte}");
            assert_eq!(most, 1, "{name}: servers take turns");
            assert!(longest < 65, "{name}: {longest}");
        }
    }

    /// Snapshots so slow that three of them do not fit behind each other.
    #[test]
    fn a_server_whose_turn_does_not_come_never_reaches_its_bound() {
        for (name, store) in STORES {
            let (per_byte, most, longest) = run(store, 4);
            assert!(
                per_byte < 300 && longest < 65,
                "{name}: {per_byte}, {longest}"
            );
            assert!(most > 1, "{name}: {most}");
        }
    }
}
