//! A learner that misses decided slots fetches their values from a peer's log, piece by piece.
//!
//! A slot may be missing for a moment only, because its proposal is still on the way; so a small gap
//! is given a few ticks. Then one piece is asked for at a time, from one peer, and the next as soon
//! as it came; a peer that does not answer is left for the next one (D9, P25).

use std::collections::BTreeMap;

use log::info;

use crate::outbox::{Outbox, To};
use crate::paxos::learner::Learner;
use crate::paxos::message::Notice;
use crate::paxos::pace::{Asked, Pace, Paces};
use crate::paxos::types::{NodeId, Slot, Value};

/// A gap of fewer slots is given [`PATIENCE_TICKS`] to close by itself.
const SMALL_GAP: u64 = 256;

/// See [`SMALL_GAP`].
const PATIENCE_TICKS: u64 = 3;

/// After so many ticks in which nobody is heard who could tell what is missing, it is given up. A
/// cluster that begins anew learns in less what it had decided last.
pub(super) const BEREFT_TICKS: u64 = 100;

/// A gap of more slots is told in the log.
const TOLD_GAP: u64 = 1_000;

/// How many bytes of values one piece has; one value more than that may be in it, so that it always
/// has one.
const PIECE_BYTES_MAX: usize = 1 << 20;

/// How many values one piece has.
pub(super) const PIECE_VALUES_MAX: usize = 4_096;

/// What is fetched at the moment.
#[derive(Debug, Default)]
pub(super) struct CatchUp {
    /// The first missing slot, and since when it has been that one.
    stuck: Option<(Slot, u64)>,
    /// Who was asked last, and when somebody was first asked for this piece.
    asked: Option<(NodeId, Asked)>,
    /// Up to which slot each node was asked since something is missing. A slow answer is still one.
    upto: BTreeMap<NodeId, Slot>,
    /// The first slot that was missing, if this gap was told in the log.
    told: Option<Slot>,
    /// For how many ticks nobody could tell what is missing.
    bereft_ticks: u64,
}

impl CatchUp {
    /// Asks a node for what is missing.
    pub(super) fn ask(&mut self, node: NodeId, missing: (Slot, Slot), now: u64, out: &mut Outbox) {
        let (from, upto) = missing;
        if upto.0 - from.0 >= TOLD_GAP && self.told.is_none() {
            info!("catching up: fetching {from} to {upto} from {node}");
            self.told = Some(from);
        }
        let asked = self
            .asked
            .map_or(Asked::new(now), |(_, asked)| asked.again(now));
        self.asked = Some((node, asked));
        self.upto.insert(node, upto);
        out.send(To::One(node), Notice::Fetch { from, upto });
    }

    /// Whether the values of all slots up to `last` were asked for, of this node.
    pub(super) fn has_asked(&self, node: NodeId, last: Slot) -> bool {
        self.upto.get(&node).is_some_and(|&upto| last <= upto)
    }

    /// Whether this node was asked since something is missing: what it tells may be an image.
    pub(super) fn has_asked_of(&self, node: NodeId) -> bool {
        self.upto.contains_key(&node)
    }

    /// A piece came and was news: asks the same node for the next.
    pub(super) fn on_progress(
        &mut self,
        node: NodeId,
        missing: Option<(Slot, Slot)>,
        pace: &mut Pace,
        now: u64,
        out: &mut Outbox,
    ) {
        if let Some((_, asked)) = self.asked.take().filter(|&(last, _)| last == node) {
            pace.on_answer(asked, now);
        }
        if let Some(missing) = missing {
            self.ask(node, missing, now, out);
        }
    }

    /// Counts the ticks in which a majority is heard and none of it is `able` to tell the first
    /// missing slot. True once in [`BEREFT_TICKS`] of them.
    pub(super) fn is_bereft(
        &mut self,
        missing: Option<(Slot, Slot)>,
        able: &[NodeId],
        connected: bool,
    ) -> bool {
        let bereft = missing.is_some() && able.is_empty() && connected;
        self.bereft_ticks = if bereft { self.bereft_ticks + 1 } else { 0 };
        bereft && self.bereft_ticks.is_multiple_of(BEREFT_TICKS)
    }

    /// `able` are the nodes that can tell the first missing slot.
    pub(super) fn on_tick(
        &mut self,
        missing: Option<(Slot, Slot)>,
        able: &[NodeId],
        paces: &mut Paces,
        now: u64,
        out: &mut Outbox,
    ) {
        let Some((first, last)) = missing else {
            if let Some(from) = self.told.take() {
                info!("caught up: everything from {from} on is here");
            }
            *self = Self::default();
            return;
        };
        if self.stuck.is_none_or(|(slot, _)| slot != first) {
            self.stuck = Some((first, now));
        }
        let since = self.stuck.map_or(now, |(_, since)| since);
        let small = last.0 - first.0 < SMALL_GAP;
        if small && now < since + PATIENCE_TICKS {
            return;
        }
        // A peer that does not answer is left for the next one.
        if let Some((node, asked)) = self.asked {
            if !paces.of(node).is_overdue(asked, now) {
                return;
            }
            paces.of(node).on_again(now);
        }
        let before = self.asked.map(|(node, _)| node);
        let next = able
            .iter()
            .copied()
            .find(|&node| before.is_some_and(|before| node > before));
        if let Some(node) = next.or(able.first().copied()) {
            self.ask(node, (first, last), now, out);
        }
    }
}

/// The values of the slots from `first` to `upto` that fit into one piece.
pub(super) fn values(learner: &Learner, first: Slot, upto: Slot) -> Vec<Value> {
    let mut bytes = 0;
    let mut values = Vec::new();
    let mut slot = first;
    while slot <= upto && values.len() < PIECE_VALUES_MAX && bytes < PIECE_BYTES_MAX {
        let Some(value) = learner.value(slot) else {
            break;
        };
        bytes += value.as_bytes().len();
        values.push(value.clone());
        slot = slot.next();
    }
    values
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::paxos::types::Ballot;

    fn node(number: u8) -> NodeId {
        NodeId::new(number).unwrap()
    }

    fn gap(first: u64, last: u64) -> (Slot, Slot) {
        (Slot(first), Slot(last))
    }

    /// When, of so many ticks, whom a node asks that misses a gap.
    fn asked(
        catchup: &mut CatchUp,
        gap: (Slot, Slot),
        ticks: std::ops::Range<u64>,
    ) -> Vec<(u64, u8)> {
        let able = [node(1), node(3), node(4)];
        let mut paces = Paces::default();
        ticks
            .filter_map(|now| {
                let mut out = Outbox::default();
                catchup.on_tick(Some(gap), &able, &mut paces, now, &mut out);
                match out.now.as_slice() {
                    [] => None,
                    [(To::One(node), Notice::Fetch { .. })] => Some((now, node.number())),
                    other => panic!("{other:?}"),
                }
            })
            .collect()
    }

    /// A slot may be missing only because its proposal is still on the way.
    #[test]
    fn a_small_gap_is_given_a_moment_and_a_large_one_is_not() {
        let small = gap(5, 5 + SMALL_GAP - 1);
        assert_eq!(
            asked(&mut CatchUp::default(), small, 7..12),
            [(7 + PATIENCE_TICKS, 1)]
        );
        let large = gap(5, 5 + SMALL_GAP);
        assert_eq!(asked(&mut CatchUp::default(), large, 7..12), [(7, 1)]);
    }

    /// D9, P25: a peer that does not answer holds nobody up.
    #[test]
    fn each_peer_is_asked_in_turn() {
        let asked = asked(&mut CatchUp::default(), gap(5, 500), 0..100);
        assert_eq!(asked, [(0, 1), (30, 3), (60, 4), (90, 1)]);
    }

    #[test]
    fn the_next_piece_is_asked_for_as_soon_as_one_came() {
        let mut catchup = CatchUp::default();
        let mut pace = Pace::default();
        let mut out = Outbox::default();
        catchup.on_progress(node(3), Some(gap(300, 500)), &mut pace, 7, &mut out);
        let fetch = Notice::Fetch {
            from: Slot(300),
            upto: Slot(500),
        };
        assert_eq!(out.now, [(To::One(node(3)), fetch)]);
        // Nothing is missing any more: what is missing later need not wait for an answer.
        catchup.on_progress(node(3), None, &mut pace, 8, &mut out);
        assert_eq!(asked(&mut catchup, gap(600, 900), 9..12), [(9, 1)]);
    }

    /// A learner with a value of so many bytes in each slot.
    fn learner(bytes: usize, slots: u64) -> Learner {
        let mut learner = Learner::default();
        let value = Value::new(vec![b'v'; bytes]).unwrap();
        let ballot = Ballot::new(1, node(1));
        learner.on_decided(ballot, Slot(slots));
        for slot in 1..=slots {
            learner.on_proposal(ballot, Slot(slot), &value);
        }
        assert_eq!(learner.decided(), Slot(slots));
        learner
    }

    #[test]
    fn a_piece_has_bounds() {
        let count = |learner: &Learner, first, upto| values(learner, Slot(first), Slot(upto)).len();
        let few = learner(10, 20);
        assert_eq!(count(&few, 3, 7), 5);
        assert_eq!(count(&few, 3, 99), 18);
        assert_eq!(count(&few, 21, 99), 0);
        let many = learner(1, PIECE_VALUES_MAX as u64 + 9);
        assert_eq!(count(&many, 1, Slot::MAX.0), PIECE_VALUES_MAX);
        let large = learner(PIECE_BYTES_MAX / 2, 5);
        assert_eq!(count(&large, 1, 5), 2);
        let larger = learner(PIECE_BYTES_MAX / 2 + 1, 5);
        assert_eq!(count(&larger, 1, 5), 2);
        let odd = learner(PIECE_BYTES_MAX / 2 - 1, 5);
        assert_eq!(count(&odd, 1, 5), 3);
        // A value larger than that is a piece by itself.
        let huge = learner(2 * PIECE_BYTES_MAX, 5);
        assert_eq!(count(&huge, 1, 5), 1);
    }
}
