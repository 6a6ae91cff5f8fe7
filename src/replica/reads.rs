//! Linearizable reads at any server, without leader or clock.
//!
//! Paxos Quorum Reads (Charapko, Ailijiang, Demirbas, HotStorage 2019): ask all acceptors for the
//! highest slot that each has voted for; with a majority's answers, wait until the own learner has
//! applied the highest of them; then read locally. An acknowledged write was accepted by a
//! majority, which shares a node with the majority that answered, so the read sees it (D11, P28,
//! P53). Readers that wait share one probe; a reader never joins a probe that was sent before it
//! came.
//!
//! Probes are numbered in the order in which they begin (P51), with the start counter before the
//! number (P52). A mark tells what its sender had voted for after the probe came, so an answer to one
//! probe is an answer to every earlier one as well, and what was heard stays heard however often a
//! probe is sent again: a read takes one round trip, however long that is. (etcd's `ReadIndex` counts
//! acknowledgements the same way.)
//!
//! Where a majority does not answer soon, the leader may reach one: it is asked to read the index for
//! this server, which is a reader like any other there. Whoever is asked need not lead; a server that
//! hears no leader itself asks one that does. What a peer can have waiting here is one request a
//! probe.

use std::collections::{BTreeMap, VecDeque};

use crate::outbox::{Answer, Outbox, Ticket, To};
use crate::paxos::message::{Notice, Probe};
use crate::paxos::quorum::{Members, Votes};
use crate::paxos::types::{NodeId, Slot};

/// How many probes may be under way before the next has to wait for a tick after the last. On near
/// links this is never reached, and under load it lets readers share probes.
const PROBES_AT_ONCE: usize = 4;

/// How many probes may be under way. Readers beyond wait for the first to be answered, and share the
/// next.
const PROBES_MAX: usize = 64;

/// How many readers may wait. One more is refused at once.
const READERS_MAX: usize = 65_536;

/// After so many ticks without a majority for the oldest probe, those who have not answered it are
/// asked again, and the leader too.
const RETRY_TICKS: u64 = 3;

/// The wait doubles up to this.
const RETRY_TICKS_MAX: u64 = 24;

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
    /// The newest request of each peer that waits for a probe.
    asked: BTreeMap<NodeId, Asked>,
    /// In the order of their numbers.
    probes: VecDeque<Probing>,
    /// When the first of them is tried again, and after how many ticks of waiting.
    retry_due: u64,
    retry_wait: u64,
    /// Readers that know which slot must be applied.
    marked: VecDeque<Marked>,
    count: usize,
}

#[derive(Debug, Clone, Copy)]
struct Reader {
    ticket: Ticket,
    deadline: u64,
}

/// A peer's request for a read index.
#[derive(Debug, Clone, Copy)]
struct Asked {
    probe: Probe,
    deadline: u64,
}

#[derive(Debug)]
struct Probing {
    number: u64,
    answered: Votes,
    mark: Slot,
    readers: Vec<Reader>,
    asked: BTreeMap<NodeId, Asked>,
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
            asked: BTreeMap::new(),
            probes: VecDeque::new(),
            retry_due: 0,
            retry_wait: RETRY_TICKS,
            marked: VecDeque::new(),
            count: 0,
        }
    }

    /// Another start begins: no answer to a probe of the last one counts. Peers ask again.
    pub(super) fn begin_start(&mut self, start: u64) {
        self.start = start;
        self.asked.clear();
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

    /// A peer asks for a read index. Of what waits for a probe its newest request stands for all, and
    /// one that a probe is under way for already is a repeat.
    pub(super) fn on_read_index(&mut self, from: NodeId, probe: Probe, deadline: u64) {
        let under_way = self.probes.iter().map(|probing| &probing.asked);
        let known = |asked: &BTreeMap<NodeId, Asked>| {
            asked.get(&from).is_some_and(|known| known.probe >= probe)
        };
        if !under_way.chain([&self.asked]).any(known) {
            self.asked.insert(from, Asked { probe, deadline });
        }
    }

    /// Begins a probe for all that wait, if there is one to begin.
    pub(super) fn begin(&mut self, now: u64) -> Option<Probe> {
        if self.waiting.is_empty() && self.asked.is_empty() {
            return None;
        }
        let count = self.probes.len();
        let last_sent = self.probes.back().map(|last| last.sent);
        if count >= PROBES_MAX || count >= PROBES_AT_ONCE && last_sent == Some(now) {
            return None;
        }
        if count == 0 {
            self.watch_first(now);
        }
        self.last_number += 1;
        self.probes.push_back(Probing {
            number: self.last_number,
            answered: Votes::default(),
            mark: Slot::ZERO,
            readers: std::mem::take(&mut self.waiting),
            asked: std::mem::take(&mut self.asked),
            sent: now,
        });
        Some(self.newest())
    }

    /// An acceptor answered.
    pub(super) fn on_mark(
        &mut self,
        from: NodeId,
        probe: Probe,
        slot: Slot,
        members: &Members,
        now: u64,
        out: &mut Outbox,
    ) {
        for probing in self.answered_by(probe) {
            if probing.answered.insert(from) {
                probing.mark = probing.mark.max(slot);
            }
        }
        // An answer to a later probe is one to an earlier: majorities come in the order of the numbers.
        while let Some(first) = self.probes.front()
            && first.answered.is_majority_of(members)
        {
            let mark = first.mark;
            self.finish_first(mark, now, out);
        }
    }

    /// Another node answered for a majority.
    pub(super) fn on_index(&mut self, probe: Probe, slot: Slot, now: u64, out: &mut Outbox) {
        for _ in 0..self.answered_by(probe).count() {
            self.finish_first(slot, now, out);
        }
    }

    /// The probes that an answer to this one answers: it and all before. None if this start has sent
    /// no such probe.
    fn answered_by(&mut self, probe: Probe) -> impl Iterator<Item = &mut Probing> {
        let sent = probe <= self.newest() && probe.start == self.start;
        let upto = if sent { probe.number } else { 0 };
        self.probes
            .iter_mut()
            .take_while(move |probing| probing.number <= upto)
    }

    /// The slot is known that the readers of the first probe wait for.
    fn finish_first(&mut self, mark: Slot, now: u64, out: &mut Outbox) {
        let probing = self.probes.pop_front().expect("a probe is under way");
        for (peer, Asked { probe, .. }) in probing.asked {
            out.send(To::One(peer), Notice::Index { probe, slot: mark });
        }
        if !probing.readers.is_empty() {
            self.marked.push_back(Marked {
                mark,
                readers: probing.readers,
                nudge_due: now + NUDGE_TICKS,
            });
        }
        self.watch_first(now);
    }

    fn watch_first(&mut self, now: u64) {
        self.retry_wait = RETRY_TICKS;
        self.retry_due = now + RETRY_TICKS;
    }

    /// The last probe that was sent: an answer to it answers all that are under way.
    fn newest(&self) -> Probe {
        Probe {
            start: self.start,
            number: self.last_number,
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

    /// The probe to be sent again, and who has not answered: the newest, which stands for all.
    pub(super) fn retry(&mut self, now: u64, members: &Members) -> Option<(Probe, Vec<NodeId>)> {
        let first = self.probes.front()?;
        if now < self.retry_due {
            return None;
        }
        let silent = members
            .iter()
            .filter(|&node| !first.answered.contains(node));
        let silent = silent.collect();
        self.retry_wait = (self.retry_wait * 2).min(RETRY_TICKS_MAX);
        self.retry_due = now + self.retry_wait;
        Some((self.newest(), silent))
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

    /// Tells clients whose deadline has come. Peers know theirs themselves.
    pub(super) fn expire(&mut self, now: u64, out: &mut Outbox) {
        self.give_up(|deadline| deadline <= now, NO_MAJORITY, out);
    }

    /// Tells all clients that wait, and forgets all peers.
    pub(super) fn refuse(&mut self, why: &'static str, out: &mut Outbox) {
        self.give_up(|_| true, why, out);
    }

    fn give_up(&mut self, when: impl Fn(u64) -> bool, why: &'static str, out: &mut Outbox) {
        let count = &mut self.count;
        let mut drop_late = |readers: &mut Vec<Reader>| {
            readers.retain(|reader| {
                let late = when(reader.deadline);
                if late {
                    *count -= 1;
                    out.answer(reader.ticket, Answer::NotDone(why));
                }
                !late
            });
            !readers.is_empty()
        };
        let forget_late = |asked: &mut BTreeMap<NodeId, Asked>| {
            asked.retain(|_, asked| !when(asked.deadline));
            !asked.is_empty()
        };
        drop_late(&mut self.waiting);
        forget_late(&mut self.asked);
        self.probes.retain_mut(|probing| {
            let wanted = drop_late(&mut probing.readers);
            forget_late(&mut probing.asked) || wanted
        });
        self.marked
            .retain_mut(|marked| drop_late(&mut marked.readers));
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
        let mut out = Outbox::default();
        reads.on_mark(node(n), probe, Slot(slot), &members(), 0, &mut out);
        assert_eq!(out, Outbox::default());
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

    /// P51: an answer to a later probe is one to an earlier, and what was heard stays heard over retries.
    #[test]
    fn an_answer_counts_for_every_earlier_probe() {
        let mut reads = Reads::new(1);
        let first = reading(&mut reads, 1);
        let second = reading(&mut reads, 2);
        mark(&mut reads, 1, first, 3);
        assert_eq!(reads.retry(RETRY_TICKS - 1, &members()), None);
        let again = reads.retry(RETRY_TICKS, &members());
        assert_eq!(again, Some((second, vec![node(2), node(3)])));
        mark(&mut reads, 2, second, 4);
        assert!(released(&mut reads, 3).is_empty());
        assert_eq!(released(&mut reads, 4), [1]);
        // The second was answered by n2 alone: what n1 told came before its reader, perhaps.
        mark(&mut reads, 3, first, 9);
        assert!(released(&mut reads, 9).is_empty());
        mark(&mut reads, 1, second, 4);
        assert_eq!(released(&mut reads, 4), [2]);
    }

    /// However slowly answers come, none is thrown away, and the wait for the next try grows.
    #[test]
    fn a_slow_answer_counts_after_any_number_of_retries() {
        let mut reads = Reads::new(1);
        let probe = reading(&mut reads, 1);
        mark(&mut reads, 1, probe, 0);
        let tried: Vec<u64> = (1..100)
            .filter(|&now| reads.retry(now, &members()).is_some())
            .collect();
        assert_eq!(tried, [3, 9, 21, 45, 69, 93]);
        mark(&mut reads, 3, probe, 0);
        assert_eq!(released(&mut reads, 0), [1]);
    }

    /// P51, P52: a probe that this start has not sent has no answers.
    #[test]
    fn an_answer_to_a_probe_that_was_never_sent_counts_for_nothing() {
        let mut reads = Reads::new(2);
        let probe = reading(&mut reads, 1);
        let (start, number) = (probe.start, probe.number);
        for probe in [
            Probe {
                start,
                number: number + 1,
            },
            Probe {
                start,
                number: u64::MAX,
            },
            Probe { start: 1, number },
            Probe { start: 3, number },
        ] {
            let mut out = Outbox::default();
            reads.on_index(probe, Slot::ZERO, 0, &mut out);
            for n in 1..=3 {
                mark(&mut reads, n, probe, 0);
            }
            assert!(released(&mut reads, 9).is_empty(), "{probe:?}");
        }
    }

    /// Another node's word for a majority is enough, for the probe that it names and those before.
    #[test]
    fn an_index_of_another_node_answers_for_a_majority() {
        let mut reads = Reads::new(1);
        let first = reading(&mut reads, 1);
        reading(&mut reads, 2);
        let mut out = Outbox::default();
        reads.on_index(first, Slot(5), 0, &mut out);
        assert!(released(&mut reads, 4).is_empty());
        assert_eq!(released(&mut reads, 5), [1]);
    }

    fn index_asked(reads: &mut Reads, from: u8, number: u64) {
        reads.on_read_index(node(from), Probe { start: 7, number }, FAR);
    }

    fn told(out: &Outbox) -> Vec<(u64, u64)> {
        let told = out.now.iter().map(|(to, notice)| match notice {
            Notice::Index { probe, slot } if *to == To::One(node(3)) => (probe.number, slot.0),
            other => panic!("{to:?} {other:?}"),
        });
        told.collect()
    }

    /// A peer that asks is a reader: it joins no probe that was sent before, and gets the mark of a
    /// majority. It is no client to wait for.
    #[test]
    fn a_peer_is_told_the_mark_of_a_probe_that_began_after_it_asked() {
        let mut reads = Reads::new(1);
        let before = reading(&mut reads, 1);
        index_asked(&mut reads, 3, 4);
        let mut out = Outbox::default();
        for n in [1, 2] {
            reads.on_mark(node(n), before, Slot(6), &members(), 0, &mut out);
        }
        assert_eq!(out.now, []);
        let probe = reads.begin(0).unwrap();
        for n in [1, 2] {
            reads.on_mark(node(n), probe, Slot(7), &members(), 0, &mut out);
        }
        assert_eq!(told(&out), [(4, 7)]);
        assert_eq!(released(&mut reads, 9), [1]);
        assert!(reads.is_idle() && reads.begin(0).is_none());
    }

    /// What a peer asks again is under way already, and its newest request stands for all that wait.
    #[test]
    fn a_peer_that_asks_on_and_on_has_one_request_a_probe() {
        let mut reads = Reads::new(1);
        for number in [2, 1, 5, 5, 3] {
            index_asked(&mut reads, 3, number);
        }
        let probe = reads.begin(0).unwrap();
        index_asked(&mut reads, 3, 5);
        assert_eq!(reads.begin(0), None);
        let mut out = Outbox::default();
        for n in [1, 2] {
            reads.on_mark(node(n), probe, Slot(7), &members(), 0, &mut out);
        }
        assert_eq!(told(&out), [(5, 7)]);
        // The answer was lost: the same request is no repeat any more.
        index_asked(&mut reads, 3, 5);
        assert!(reads.begin(0).is_some());
        // Whoever waits for nothing holds no probe.
        reads.expire(FAR, &mut Outbox::default());
        assert_eq!(reads.retry(FAR, &members()), None);
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

    /// Under load readers share probes; on far links a probe begins in each tick, up to a bound.
    #[test]
    fn readers_beyond_the_probes_share_the_next() {
        let mut reads = Reads::new(1);
        for ticket in 1..=PROBES_AT_ONCE as u64 {
            reading(&mut reads, ticket);
        }
        let mut begun = PROBES_AT_ONCE;
        for now in 0..200 {
            for ticket in 0..3 {
                reads.on_read(Ticket(100 + now * 3 + ticket), FAR, &mut Outbox::default());
                begun += usize::from(reads.begin(now).is_some());
            }
            let expected = PROBES_AT_ONCE + usize::try_from(now).unwrap();
            assert_eq!(begun, expected.min(PROBES_MAX));
        }
        let newest = reads.newest();
        mark(&mut reads, 1, newest, 0);
        mark(&mut reads, 2, newest, 0);
        let shared = reads.begin(200).unwrap();
        mark(&mut reads, 1, shared, 0);
        mark(&mut reads, 2, shared, 0);
        assert_eq!(released(&mut reads, 0).len(), PROBES_AT_ONCE + 600);
        assert!(reads.is_idle());
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
