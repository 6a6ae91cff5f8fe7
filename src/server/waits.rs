//! Who waits for other servers to hold what this one has acknowledged (`WAIT`), and what wakes them.
//!
//! The core looks after each round, if anybody waits at all, whether a peer has said something new of
//! itself, and tells each that waits how many servers hold its writes, if that has changed. So nobody asks
//! again and again, and what a thousand waits cost is one look at each whenever a peer gets on.
//!
//! A write is acknowledged once a majority has it on disk, so as many have it whatever happens. More is
//! learned from what the others say of themselves: whoever has applied as much as this server had when it
//! was asked holds every write that it had acknowledged.

use std::collections::BTreeMap;

use crossbeam_channel::Sender;

use crate::paxos::types::Slot;

/// Up to where each of the other servers says that it has applied all; none if it is not heard.
type Peers = Vec<Option<Slot>>;

/// See the module's text.
#[derive(Debug, Default)]
pub(super) struct Waits {
    /// By the number of the connection.
    by_connection: BTreeMap<u64, Waiter>,
    /// What the peers had said when all were told last.
    peers: Peers,
}

#[derive(Debug)]
struct Waiter {
    upto: Slot,
    told: usize,
    counts: Sender<usize>,
}

impl Waits {
    /// A connection waits for everything up to `upto`, and is told at once who holds it now.
    pub(super) fn begin(
        &mut self,
        connection: u64,
        counts: Sender<usize>,
        upto: Slot,
        peers: &[Option<Slot>],
    ) {
        let told = holders(peers, upto);
        let waiter = Waiter { upto, told, counts };
        // Who is gone by now has no use for it.
        let _ = waiter.counts.send(told);
        self.by_connection.insert(connection, waiter);
    }

    /// A connection does not wait any longer.
    pub(super) fn end(&mut self, connection: u64) {
        self.by_connection.remove(&connection);
    }

    /// Tells all for whom something has changed; asks for nothing if nobody waits.
    pub(super) fn tell(&mut self, peers: impl FnOnce() -> Peers) {
        if self.by_connection.is_empty() {
            return;
        }
        let peers = peers();
        if peers == self.peers {
            return;
        }
        self.peers = peers;
        for waiter in self.by_connection.values_mut() {
            let count = holders(&self.peers, waiter.upto);
            if count != waiter.told {
                waiter.told = count;
                let _ = waiter.counts.send(count);
            }
        }
    }
}

/// How many other servers hold every slot up to this one.
fn holders(peers: &[Option<Slot>], upto: Slot) -> usize {
    let known = peers.iter().flatten().filter(|&&applied| applied >= upto);
    let majority = peers.len().div_ceil(2);
    known.count().max(majority)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::lane;

    fn said(peers: &[Option<u64>]) -> Peers {
        peers.iter().map(|applied| applied.map(Slot)).collect()
    }

    /// All but one of a majority, or all that a peer is known to have, whichever is more.
    #[test]
    fn who_holds_a_write_is_a_majority_or_more() {
        for (peers, expected) in [
            (&[][..], 0),
            (&[None], 1),
            (&[None, Some(6)], 1),
            (&[Some(7), Some(8)], 2),
            (&[None, None, None], 2),
            (&[Some(6); 4], 2),
            (&[Some(7), None, Some(8), Some(7)], 3),
            (&[Some(7); 4], 4),
        ] {
            assert_eq!(holders(&said(peers), Slot(7)), expected, "{peers:?}");
        }
    }

    /// Each that waits is told at the beginning and at each change of its own count, and nothing else.
    #[test]
    fn who_waits_is_told_what_changes_for_him() {
        let mut waits = Waits::default();
        let begun = said(&[Some(4), Some(4), None, None]);
        let [(one_tx, one), (other_tx, other)] = [lane(), lane()];
        waits.begin(1, one_tx, Slot(5), &begun);
        waits.begin(2, other_tx, Slot(7), &begun);
        for peers in [
            [Some(4), Some(4), None, None],
            [Some(5), Some(5), Some(4), None],
            [Some(5), Some(6), Some(6), None],
            [Some(7), Some(7), Some(7), None],
            [Some(8), Some(8), None, None],
        ] {
            waits.tell(|| said(&peers));
        }
        assert_eq!(one.try_iter().collect::<Vec<_>>(), [2, 3, 2]);
        assert_eq!(other.try_iter().collect::<Vec<_>>(), [2, 3, 2]);
    }

    /// What a peer said while nobody waited is news to the next who does, and who has ended hears nothing.
    #[test]
    fn nothing_is_asked_or_told_when_nobody_waits() {
        let mut waits = Waits::default();
        waits.tell(|| unreachable!("nobody waits"));
        let (one_tx, one) = lane();
        waits.begin(1, one_tx, Slot(5), &said(&[None; 4]));
        waits.end(1);
        waits.tell(|| unreachable!("nobody waits any more"));
        assert_eq!(one.iter().collect::<Vec<_>>(), [2]);
        let (next_tx, next) = lane();
        waits.begin(2, next_tx, Slot(5), &said(&[None; 4]));
        waits.tell(|| said(&[Some(5); 4]));
        assert_eq!(next.try_iter().collect::<Vec<_>>(), [2, 4]);
    }

    /// Who waits when the server ends hears of that too.
    #[test]
    fn the_end_ends_every_wait() {
        let mut waits = Waits::default();
        let (counts_tx, counts) = lane();
        waits.begin(1, counts_tx, Slot(5), &said(&[None; 2]));
        drop(waits);
        assert_eq!(counts.iter().collect::<Vec<_>>(), [1]);
    }
}
