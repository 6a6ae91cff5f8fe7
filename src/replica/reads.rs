//! Linearizable reads at any server, without leader or clock.
//!
//! Paxos Quorum Reads (Charapko, Ailijiang, Demirbas, HotStorage 2019): ask all acceptors for the
//! highest slot that each has accepted; with a majority's answers, wait until the own learner has
//! applied the highest of them; then read locally. An acknowledged write was accepted by a
//! majority, which shares a node with the majority that answered, so the read sees it (D11, P28,
//! P53). Readers that wait share one probe; a reader never joins a probe that was sent before it
//! came. Every try has a number of its own (P51), with the start counter in it (P52).

use std::collections::VecDeque;

use crate::outbox::{Answer, Outbox, Ticket};
use crate::paxos::message::Probe;
use crate::paxos::quorum::{Members, Votes};
use crate::paxos::types::{NodeId, Slot};

/// How many probes may be under way. Readers beyond wait for the next.
const PROBES_MAX: usize = 4;

/// How many readers may wait. One more is refused at once.
const READERS_MAX: usize = 65_536;

/// After so many ticks without a majority, a probe is tried anew.
const RETRY_TICKS: u64 = 3;

/// After so many ticks of waiting for a slot, the leader is asked to finish it.
const NUDGE_TICKS: u64 = 3;

const NO_MAJORITY: &str = "no majority of servers answered within the deadline";
const OVERLOAD: &str = "too many requests are waiting on this server";

/// See the module's text.
#[derive(Debug)]
pub(super) struct Reads {
    start: u64,
    last_number: u64,
    waiting: Vec<Reader>,
    probes: VecDeque<Probing>,
    /// Readers that know which slot must be applied.
    marked: VecDeque<Marked>,
    count: usize,
}

#[derive(Debug, Clone, Copy)]
struct Reader {
    ticket: Ticket,
    deadline: u64,
}

#[derive(Debug)]
struct Probing {
    probe: Probe,
    answered: Votes,
    mark: Slot,
    readers: Vec<Reader>,
    sent: u64,
}

#[derive(Debug)]
struct Marked {
    mark: Slot,
    readers: Vec<Reader>,
    nudge_due: u64,
}

impl Reads {
    pub(super) fn new(start: u64) -> Self {
        Self {
            start,
            last_number: 0,
            waiting: Vec::new(),
            probes: VecDeque::new(),
            marked: VecDeque::new(),
            count: 0,
        }
    }

    /// Another start begins: no answer to a probe of the last one counts.
    pub(super) fn begin_start(&mut self, start: u64) {
        self.start = start;
        let readers = self.probes.drain(..).flat_map(|probing| probing.readers);
        let newer = std::mem::take(&mut self.waiting);
        self.waiting = readers.chain(newer).collect();
    }

    /// Whether no client waits for a read.
    pub(super) fn is_idle(&self) -> bool {
        self.count == 0
    }

    /// A client wants to read.
    pub(super) fn on_read(&mut self, ticket: Ticket, deadline: u64, out: &mut Outbox) {
        if self.count >= READERS_MAX {
            return out.answer(ticket, Answer::NotDone(OVERLOAD));
        }
        self.count += 1;
        self.waiting.push(Reader { ticket, deadline });
    }

    /// Begins a probe for all that wait, if there is one to begin.
    pub(super) fn begin(&mut self, now: u64) -> Option<Probe> {
        if self.waiting.is_empty() || self.probes.len() >= PROBES_MAX {
            return None;
        }
        let readers = std::mem::take(&mut self.waiting);
        let probe = self.fresh();
        let (answered, mark) = Default::default();
        self.probes.push_back(Probing {
            probe,
            answered,
            mark,
            readers,
            sent: now,
        });
        Some(probe)
    }

    /// An acceptor answered.
    pub(super) fn on_mark(
        &mut self,
        from: NodeId,
        probe: Probe,
        slot: Slot,
        members: &Members,
        now: u64,
    ) {
        let Some(at) = self
            .probes
            .iter()
            .position(|probing| probing.probe == probe)
        else {
            return;
        };
        let probing = &mut self.probes[at];
        probing.answered.insert(from);
        probing.mark = probing.mark.max(slot);
        if probing.answered.is_majority_of(members) {
            let Probing { mark, readers, .. } = self.probes.remove(at).expect("it was just there");
            self.marked.push_back(Marked {
                mark,
                readers,
                nudge_due: now + NUDGE_TICKS,
            });
        }
    }

    /// Answers the readers whose slot is applied.
    pub(super) fn release(&mut self, applied: Slot, out: &mut Outbox) {
        let count = &mut self.count;
        self.marked.retain(|marked| {
            let ready = marked.mark <= applied;
            if ready {
                *count -= marked.readers.len();
                for reader in &marked.readers {
                    out.answer(reader.ticket, Answer::Readable);
                }
            }
            !ready
        });
    }

    /// The probes to be tried anew, under new numbers.
    pub(super) fn retry(&mut self, now: u64) -> Vec<Probe> {
        let mut fresh = Vec::new();
        for at in 0..self.probes.len() {
            if now < self.probes[at].sent + RETRY_TICKS {
                continue;
            }
            let probe = self.fresh();
            let probing = &mut self.probes[at];
            probing.probe = probe;
            probing.answered = Votes::default();
            probing.mark = Slot::ZERO;
            probing.sent = now;
            fresh.push(probe);
        }
        fresh
    }

    /// The slot that the leader should finish, if readers wait for one for too long.
    pub(super) fn nudge(&mut self, now: u64) -> Option<Slot> {
        let overdue = self
            .marked
            .iter_mut()
            .filter(|marked| marked.nudge_due <= now);
        overdue
            .map(|marked| {
                marked.nudge_due = now + NUDGE_TICKS;
                marked.mark
            })
            .max()
    }

    /// Tells clients whose deadline has come.
    pub(super) fn expire(&mut self, now: u64, out: &mut Outbox) {
        self.give_up(|reader| reader.deadline <= now, NO_MAJORITY, out);
    }

    /// Tells all clients that wait.
    pub(super) fn refuse(&mut self, why: &'static str, out: &mut Outbox) {
        self.give_up(|_| true, why, out);
    }

    fn give_up(&mut self, when: impl Fn(&Reader) -> bool, why: &'static str, out: &mut Outbox) {
        if self.count == 0 {
            return;
        }
        let count = &mut self.count;
        let mut drop_late = |readers: &mut Vec<Reader>| {
            readers.retain(|reader| {
                let late = when(reader);
                if late {
                    *count -= 1;
                    out.answer(reader.ticket, Answer::NotDone(why));
                }
                !late
            });
            !readers.is_empty()
        };
        drop_late(&mut self.waiting);
        self.probes
            .retain_mut(|probing| drop_late(&mut probing.readers));
        self.marked
            .retain_mut(|marked| drop_late(&mut marked.readers));
    }

    fn fresh(&mut self) -> Probe {
        self.last_number += 1;
        Probe {
            start: self.start,
            number: self.last_number,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FAR: u64 = 1_000_000;

    fn node(n: u8) -> NodeId {
        NodeId::new(n).unwrap()
    }

    fn members() -> Members {
        Members::new((1..=3).map(node)).unwrap()
    }

    /// One reader, and the probe that was begun for it.
    fn reading(reads: &mut Reads, ticket: u64) -> Probe {
        reads.on_read(Ticket(ticket), FAR, &mut Outbox::default());
        reads.begin(0).unwrap()
    }

    fn mark(reads: &mut Reads, n: u8, probe: Probe, slot: u64) {
        reads.on_mark(node(n), probe, Slot(slot), &members(), 0);
    }

    fn released(reads: &mut Reads, applied: u64) -> Vec<u64> {
        let mut out = Outbox::default();
        reads.release(Slot(applied), &mut out);
        assert!(
            out.answers
                .iter()
                .all(|(_, answer)| *answer == Answer::Readable)
        );
        out.answers.iter().map(|(ticket, _)| ticket.0).collect()
    }

    /// D11: the highest mark of a majority must be applied, and nothing less is enough.
    #[test]
    fn a_reader_waits_for_the_highest_mark_of_a_majority() {
        let mut reads = Reads::new(1);
        let probe = reading(&mut reads, 1);
        mark(&mut reads, 1, probe, 7);
        assert!(released(&mut reads, 9).is_empty());
        mark(&mut reads, 2, probe, 5);
        assert!(released(&mut reads, 6).is_empty());
        assert_eq!(released(&mut reads, 7), [1]);
        assert!(reads.is_idle());
    }

    /// P7: an acceptor that answers twice is one of the majority.
    #[test]
    fn answers_of_one_acceptor_are_no_majority() {
        let mut reads = Reads::new(1);
        let probe = reading(&mut reads, 1);
        mark(&mut reads, 1, probe, 0);
        mark(&mut reads, 1, probe, 0);
        assert!(released(&mut reads, 9).is_empty());
    }

    /// P51, P52: an answer to an older try, or to a probe of an earlier start, counts for nothing.
    #[test]
    fn only_answers_to_the_last_try_count() {
        let mut reads = Reads::new(2);
        let first = reading(&mut reads, 1);
        mark(&mut reads, 1, first, 0);
        assert_eq!(reads.retry(RETRY_TICKS - 1), []);
        let again = reads.retry(RETRY_TICKS);
        assert_eq!(again.len(), 1);
        assert_ne!(again[0], first);
        mark(&mut reads, 2, first, 0);
        mark(
            &mut reads,
            3,
            Probe {
                start: 1,
                ..again[0]
            },
            0,
        );
        mark(&mut reads, 3, again[0], 0);
        assert!(released(&mut reads, 9).is_empty());
        mark(&mut reads, 2, again[0], 4);
        assert!(released(&mut reads, 3).is_empty());
        assert_eq!(released(&mut reads, 4), [1]);
    }

    /// P52: a probe of a start that is over may be answered late, by nodes that have decided more
    /// since; its readers begin anew, before those that came later.
    #[test]
    fn another_start_asks_again_for_all_readers() {
        let mut reads = Reads::new(1);
        let before = reading(&mut reads, 1);
        mark(&mut reads, 1, before, 0);
        reads.on_read(Ticket(2), FAR, &mut Outbox::default());
        reads.begin_start(2);
        mark(&mut reads, 2, before, 0);
        assert!(released(&mut reads, 9).is_empty());
        let probe = reads.begin(0).unwrap();
        assert_eq!(probe.start, 2);
        mark(&mut reads, 1, probe, 4);
        mark(&mut reads, 2, probe, 5);
        assert!(released(&mut reads, 4).is_empty());
        assert_eq!(released(&mut reads, 5), [1, 2]);
    }

    /// A reader that came after a probe was sent has one of its own: what was acknowledged in
    /// between may be missing in the answers to the first.
    #[test]
    fn a_reader_joins_no_probe_that_was_sent_before() {
        let mut reads = Reads::new(1);
        let first = reading(&mut reads, 1);
        reads.on_read(Ticket(2), FAR, &mut Outbox::default());
        mark(&mut reads, 1, first, 0);
        mark(&mut reads, 2, first, 0);
        assert_eq!(released(&mut reads, 9), [1]);
        let second = reads.begin(0).unwrap();
        mark(&mut reads, 1, second, 0);
        mark(&mut reads, 2, second, 0);
        assert_eq!(released(&mut reads, 9), [2]);
    }

    #[test]
    fn readers_beyond_the_probes_share_the_next() {
        let mut reads = Reads::new(1);
        let probes: Vec<Probe> = (1..=PROBES_MAX as u64)
            .map(|t| reading(&mut reads, t))
            .collect();
        for ticket in 10..20 {
            reads.on_read(Ticket(ticket), FAR, &mut Outbox::default());
            assert_eq!(reads.begin(0), None);
        }
        mark(&mut reads, 1, probes[0], 0);
        mark(&mut reads, 2, probes[0], 0);
        let shared = reads.begin(0).unwrap();
        mark(&mut reads, 1, shared, 0);
        mark(&mut reads, 2, shared, 0);
        assert_eq!(released(&mut reads, 0).len(), 11);
    }

    #[test]
    fn a_slot_that_does_not_come_is_asked_for_again_and_again() {
        let mut reads = Reads::new(1);
        let probe = reading(&mut reads, 1);
        mark(&mut reads, 1, probe, 7);
        mark(&mut reads, 2, probe, 0);
        let asked: Vec<u64> = (0..10)
            .filter(|&now| reads.nudge(now) == Some(Slot(7)))
            .collect();
        assert_eq!(asked, [3, 6, 9]);
    }

    /// Wherever a reader waits, its deadline finds it; it was surely not answered otherwise.
    #[test]
    fn a_deadline_finds_a_reader_anywhere() {
        let mut reads = Reads::new(1);
        let mut out = Outbox::default();
        let marked = reading(&mut reads, 1);
        mark(&mut reads, 1, marked, 7);
        mark(&mut reads, 2, marked, 7);
        reading(&mut reads, 2);
        reads.on_read(Ticket(3), FAR, &mut out);
        reads.expire(FAR - 1, &mut out);
        assert_eq!(out.answers, []);
        reads.expire(FAR, &mut out);
        let mut tickets: Vec<u64> = out.answers.iter().map(|(ticket, _)| ticket.0).collect();
        tickets.sort_unstable();
        assert_eq!(tickets, [1, 2, 3]);
        assert!(reads.is_idle());
        assert!(released(&mut reads, 9).is_empty());
    }

    #[test]
    fn too_many_readers_are_refused() {
        let mut reads = Reads::new(1);
        let mut out = Outbox::default();
        for ticket in 0..=READERS_MAX as u64 {
            reads.on_read(Ticket(ticket), FAR, &mut out);
        }
        let last = Ticket(READERS_MAX as u64);
        assert_eq!(out.answers, [(last, Answer::NotDone(OVERLOAD))]);
    }
}
