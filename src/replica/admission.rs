//! What a peer may say: every number and every length in a message, held against what is known here,
//! before any handler sees it.
//!
//! Paxos takes for granted that nodes do not lie, and so do the handlers. But whatever reaches the peer
//! port is a line that somebody wrote, and a number that no server says (a round, a slot or a start at
//! the top of its range, a ballot above the one that it was accepted under) must not end a server, nor
//! cripple it for good. So [`Replica::on_message`](super::Replica) asks [`Replica::admit`] first, and
//! there is no other way in. What is read from the disk obeys the same orders (`disk::recall`).
//!
//! `decided` is the last slot that is decided here, SLOTS is [`SLOTS_AHEAD_MAX`].
//!
//! | message | what | may be | an honest server says no other, because |
//! | --- | --- | --- | --- |
//! | any | sender | a member | |
//! | `prepare`, `accept`, `decided`, `heartbeat` that leads or tries | ballot | of the sender | a ballot is used by its own node (P9) |
//! | `promise`, `nack` | ballot that was asked for | of this node | it answers what this node asked |
//! | any | round | one step ([`ROUND_STEP`]) above the highest that was seen, or [`ROUNDS_FREE`] | each takes a try to lead, and a sync |
//! | `nack` | promised | above refused | it promised more |
//! | `accept`, `promise`, `fetched` | value | text, short enough to be quoted in a line | commands are written so |
//! | `accept` | slot | up to `decided` + SLOTS | a leader keeps few slots open; who lags by more fetches first |
//! | `promise` | decided | up to `decided` + SLOTS | the same |
//! | `promise` | accepted | rising slots, from the one asked for and above decided, up to SLOTS above it; under a ballot of a member, up to the one promised | an acceptor has accepted nothing above its promise (I3) |
//! | `promise` | next | above all that it tells, up to SLOTS + 1 above decided | it goes on with what it has accepted |
//! | `promise` | starts | one a member, rising, from 2; this node's and any other's as a heartbeat's | those are what it knows |
//! | `heartbeat` | start | from 1, one step ([`START_STEP`]) above the last that was heard, or [`STARTS_FREE`] | a lost memory takes [`FORGOTTEN_STARTS_MAX`] |
//! | `heartbeat` | decided, applied | less than [`SLOTS_OF_A_LIFE`] ahead | nobody decides so many |
//! | `known`, `outdated` | start | from 1; the one that is known not below the one that is over | |
//! | `fetched` | slots | up to the last that its sender was asked for; at most a piece of values | it answers |
//! | `image` | sender | one that was asked for what is missing here, or for the piece before | it answers |
//! | `image` | slot | up to SLOTS above what its sender has said to have applied | it is of what was applied |
//! | `mark`, `index` | slot | up to 2 SLOTS above what its sender has said to be decided | it votes for no others |
//! | `propose` | origin | the sender | it hands on what it numbered |
//! | `propose` | start | the sender's, as its heartbeats say | the heartbeat goes first |
//! | `relay` | origin | a member, not the sender and not this node | nobody relays for itself; what this node numbered comes from itself; `n0` never speaks |
//! | `relay` | start | as its origin's heartbeats say; of one that is not heard, up to 2 lost memories more | the relaying server holds it to the start that it heard |
//! | `propose`, `relay` | number | to the leader: up to [`NUMBERS_AHEAD_MAX`] above what was applied | few are under way |
//!
//! A *step* is for numbers that only grow and that a server may have missed the growth of. A number that
//! is further away is not believed, but each line that says so moves what will be believed by one step.
//! So a server that was away for an absurd time is heard a little later, two servers of which one was
//! told nonsense find to each other again, and the top of the range (2^60) takes a thousand million lines.
//!
//! What is not refused here and still bounded: how far a word about decided slots is believed
//! ([`near`]: to SLOTS above `decided`, and further as that grows), how many bytes of undecided
//! values are voted for ([`AHEAD_BYTES_MAX`]), heard (`paxos::learner`) or adopted
//! ([`adopted_bytes_max`]), how many slots a reader makes a leader fill (`serve`).
//!
//! Left out: whether a value, an image or a word is true. A stranger who passes for a server can still
//! say what that server could have said: that it has begun anew, for one, which makes the real one recall its
//! votes, and where strangers say so for most servers, nobody is left to tell them. And who proposes the next
//! slot again and again under higher ballots fills the log until it is decided. That takes certificates, and no
//! rule about numbers.

use std::collections::BTreeMap;

use log::debug;

use crate::kv::batch::first_id;
use crate::outbox::Outbox;
use crate::paxos::acceptor::Acceptor;
use crate::paxos::message::{Heartbeat, Message, Notice, Promise, Stance, Vote};
use crate::paxos::proposer::Proposer;
use crate::paxos::quorum::Members;
use crate::paxos::types::{Ballot, Life, NodeId, Slot, Value};

use super::Replica;
use super::catchup::PIECE_VALUES_MAX;
use super::memory::FORGOTTEN_STARTS_MAX;

/// By how many slots a proposal, or what a promise says to be decided, may lie ahead of what is
/// decided here. A slot accepted far out must be repaired up to by every later leader; this keeps
/// that below about 50 MB, with twice as many slots. The price: a server that was away for more slots
/// fetches most of them before its acceptor votes again, and before it leads.
pub(super) const SLOTS_AHEAD_MAX: u64 = 65_536;

/// How many bytes of values in undecided slots an acceptor votes for; beyond, it votes for the first
/// undecided slot alone, whatever is accepted behind it, and for others when there is room: their leader
/// sends them again. More than all commands that five servers hand on at a time.
pub(super) const AHEAD_BYTES_MAX: usize = 256 << 20;

/// How many bytes of values a phase 1 collects: what a majority of acceptors can have voted for, if each
/// voted for others. A part of a promise that would bring more is not counted, and asked for again.
fn adopted_bytes_max(members: &Members) -> usize {
    members.majority() * AHEAD_BYTES_MAX
}

/// How long a value may be once it is quoted. With a part of a promise before it, it fits a line between
/// servers; the largest commands take 24 MiB, and what is longer is no value of a server.
pub const VALUE_QUOTED_BYTES_MAX: usize = 28 << 20;

/// Rounds up to this one are believed at once: one a second for thirty years.
pub(super) const ROUNDS_FREE: u64 = 1_000_000_000;

/// By how much a message may raise the highest round that was seen, beyond [`ROUNDS_FREE`].
pub(super) const ROUND_STEP: u64 = 1_000_000;

/// Starts up to this one are believed at once: as far as a thousand lost memories go.
pub(super) const STARTS_FREE: u64 = 1_000 * FORGOTTEN_STARTS_MAX;

/// By how much a message may raise a start, beyond [`STARTS_FREE`]: a lost memory, and some restarts.
pub(super) const START_STEP: u64 = FORGOTTEN_STARTS_MAX + 1_000_000;

/// Slots of 50 years, at ten thousand a second: nobody is so far ahead.
const SLOTS_OF_A_LIFE: u64 = 1 << 44;

/// How far the number of a command may be ahead of those that were applied: a thousand times as many as
/// a server hands on at a time, for a leader that has not applied all that its origin has.
const NUMBERS_AHEAD_MAX: u64 = 8 << 20;

/// Why a message is not heard.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// No server sends it.
    Forged(&'static str),
    /// A server may send it, but there is nothing to be done with it now.
    Far(&'static str),
}

use Refusal::{Far, Forged};

/// How far a number that only grows is believed.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Reach {
    limit: u64,
}

impl Reach {
    /// Whether a number is within reach, of one that is `known` and where all up to `free` is. If not,
    /// it comes nearer by a step.
    fn reaches(&mut self, told: u64, known: u64, free: u64, step: u64) -> bool {
        self.limit = self.limit.max(known.max(free).saturating_add(step));
        let within = told <= self.limit;
        if !within {
            self.limit = self.limit.saturating_add(step);
        }
        within
    }
}

/// What admission remembers: how far rounds and the starts of peers are believed.
#[derive(Debug, Default)]
pub(super) struct Admission {
    rounds: Reach,
    starts: BTreeMap<NodeId, Reach>,
    /// When something that no server sends is told again, of each node.
    tell_due: BTreeMap<NodeId, u64>,
}

impl Admission {
    fn may_tell(&mut self, from: NodeId, now: u64) -> bool {
        let due = self.tell_due.entry(from).or_default();
        let may = now >= *due;
        if may {
            *due = now + TELL_TICKS;
        }
        may
    }
}

/// How far a word that all up to `slot` is decided is believed by a node that has decided this much: it
/// is as true of fewer slots.
pub(super) fn near(slot: Slot, decided: Slot) -> Slot {
    slot.min(ahead(decided, SLOTS_AHEAD_MAX))
}

/// The start that a node begins that lost its memory, has begun `own`, and is told of start `told`. A
/// word that takes it far up does so in steps that others believe: one that knows better will say it
/// again. None at the end of the range.
pub(super) fn start_above(own: u64, told: u64) -> Option<u64> {
    let believed = told.min(own.max(STARTS_FREE)).max(own);
    let start = believed.checked_add(FORGOTTEN_STARTS_MAX)?;
    (start <= Life::START_MAX).then_some(start)
}

fn ahead(slot: Slot, by: u64) -> Slot {
    Slot(slot.0.saturating_add(by))
}

/// How much of what was accepted is not decided, in bytes of values: kept as both go on.
#[derive(Debug, Default)]
pub(super) struct Ahead {
    /// Everything after this slot is counted; none if it is to be counted anew.
    decided: Option<Slot>,
    bytes: usize,
    /// What was replaced under higher ballots since then: it is still in the log.
    replaced: usize,
}

/// What is counted once a value is accepted.
#[derive(Debug, Clone, Copy)]
pub(super) struct Room {
    bytes: usize,
    replaced: usize,
}

impl Ahead {
    /// The acceptor was changed by more than votes.
    pub(super) fn forget(&mut self) {
        self.decided = None;
    }

    /// What is ahead once `acceptor` has accepted this value; none if it is too much. The slot after
    /// `decided` always has room, so that all goes on.
    pub(super) fn room(
        &mut self,
        acceptor: &Acceptor,
        decided: Slot,
        slot: Slot,
        value: &Value,
    ) -> Option<Room> {
        self.go_on(acceptor, decided);
        let mut room = Room {
            bytes: self.bytes,
            replaced: self.replaced,
        };
        if slot > decided {
            let before = acceptor.accepted_bytes(slot..=slot);
            room.bytes = self.bytes - before + value.as_bytes().len();
            room.replaced += before;
        }
        let written = room.bytes + room.replaced;
        (written <= AHEAD_BYTES_MAX || slot <= decided.next()).then_some(room)
    }

    /// It has accepted.
    pub(super) fn on_accepted(&mut self, Room { bytes, replaced }: Room) {
        (self.bytes, self.replaced) = (bytes, replaced);
    }

    fn go_on(&mut self, acceptor: &Acceptor, decided: Slot) {
        match self.decided {
            Some(before) if before <= decided => {
                self.bytes -= acceptor.accepted_bytes(before.next()..=decided);
                if before < decided {
                    self.replaced = 0;
                }
            }
            _ => self.bytes = acceptor.accepted_bytes(decided.next()..=Slot(u64::MAX)),
        }
        self.decided = Some(decided);
    }
}

impl Replica {
    /// Takes what a peer says, if a server could say it (see the module's text).
    pub(super) fn on_message(&mut self, from: NodeId, message: Message, out: &mut Outbox) {
        match self.admit(from, &message) {
            Ok(()) => {}
            Err(Forged(why)) if self.admission.may_tell(from, self.now) => {
                let shown = excerpt(&message);
                out.alarms.push(format!(
                    "ignoring a message of {from} that no server sends: {why}: {shown}"
                ));
                return;
            }
            Err(Forged(why) | Far(why)) => {
                debug!("ignoring a message of {from}: {why}: {}", excerpt(&message));
                return;
            }
        }
        self.round_seen = self.round_seen.max(round_max(&message));
        match message {
            Message::Vote(vote) => self.on_vote(from, vote, out),
            Message::Notice(notice) => self.on_notice(from, notice, out),
        }
    }

    fn admit(&mut self, from: NodeId, message: &Message) -> Result<(), Refusal> {
        forged(self.members.contains(from), "of no member")?;
        self.admit_ballots(from, message)?;
        match message {
            Message::Vote(vote) => self.admit_vote(vote),
            Message::Notice(notice) => self.admit_notice(from, notice),
        }
    }

    fn admit_ballots(&mut self, from: NodeId, message: &Message) -> Result<(), Refusal> {
        let own = own_ballot(message).is_none_or(|ballot| ballot.node() == Some(from));
        forged(own, "the ballot of another server")?;
        // What this node votes for others comes back to it as well, for its marks.
        let asked = from == self.me
            || asked_ballot(message).is_none_or(|ballot| ballot.node() == Some(self.me));
        forged(asked, "an answer about another server's ballot")?;
        let round = round_max(message);
        let rounds = &mut self.admission.rounds;
        far(
            rounds.reaches(round, self.round_seen, ROUNDS_FREE, ROUND_STEP),
            "a round far above all that were seen",
        )
    }

    fn admit_vote(&mut self, vote: &Vote) -> Result<(), Refusal> {
        match vote {
            // Where it asks from only narrows the answer; a vote that nobody asked for is not counted.
            Vote::Prepare { .. } | Vote::Accepted { .. } => Ok(()),
            Vote::Promise(promise) => self.admit_promise(promise),
            Vote::Known(known) => forged(known.life.start > 0, "a life without a start"),
        }
    }

    fn admit_promise(&mut self, promise: &Promise) -> Result<(), Refusal> {
        let Promise {
            ballot,
            from,
            decided,
            next,
            starts,
            accepted,
        } = promise;
        let rising = starts.windows(2).all(|pair| pair[0].0 < pair[1].0);
        let of_members = starts
            .iter()
            .all(|&(node, start)| self.members.contains(node) && start > 1);
        forged(rising && of_members, "starts of nobody")?;
        let mut last = from.previous().max(*decided);
        let most = ahead(*decided, SLOTS_AHEAD_MAX);
        for told in accepted {
            forged(told.slot > last, "accepted slots out of order")?;
            let by_member = told.ballot.node().is_some_and(|n| self.members.contains(n));
            forged(
                by_member && told.ballot <= *ballot,
                "a value accepted above the promise",
            )?;
            forged(is_text(&told.value), "a value that is no text")?;
            last = told.slot;
        }
        let next = *next;
        forged(
            next.is_none_or(|next| next > last),
            "a part that tells nothing",
        )?;
        let here = self.learner.decided();
        far(
            *decided <= ahead(here, SLOTS_AHEAD_MAX),
            "what is decided is far ahead of what is here",
        )?;
        far(
            last.max(next.map_or(last, Slot::previous)) <= most.max(ahead(here, SLOTS_AHEAD_MAX)),
            "accepted slots far ahead of what is decided",
        )?;
        for &(node, start) in starts {
            self.admit_start(node, start)?;
        }
        let bytes: usize = accepted
            .iter()
            .map(|told| told.value.as_bytes().len())
            .sum();
        far(
            self.proposer.adopted_bytes() + bytes <= adopted_bytes_max(&self.members),
            "more values than a phase 1 collects",
        )
    }

    fn admit_notice(&mut self, from: NodeId, notice: &Notice) -> Result<(), Refusal> {
        let decided = self.learner.decided();
        match notice {
            Notice::Accept { slot, value, .. } => {
                forged(*slot > Slot::ZERO, "a proposal for no slot")?;
                forged(is_text(value), "a value that is no text")?;
                far(
                    *slot <= ahead(decided, SLOTS_AHEAD_MAX),
                    "a proposal far ahead of what is decided",
                )
            }
            Notice::Nack { refused, promised } => {
                forged(promised > refused, "a refusal without a higher promise")
            }
            Notice::Heartbeat(beat) => self.admit_heartbeat(from, beat),
            Notice::Fetched {
                from: first,
                values,
            } => {
                forged(values.iter().all(is_text), "a value that is no text")?;
                forged(values.len() <= PIECE_VALUES_MAX, "more values than a piece")?;
                let last = Slot(first.previous().0 + values.len() as u64);
                far(
                    self.catchup.has_asked(from, last),
                    "values that were not asked for",
                )
            }
            Notice::Image { slot, .. } => {
                let applied = self.election.heard(from, self.now).map(|beat| beat.applied);
                let known = applied.unwrap_or_default().max(self.applied);
                let asked = self.catchup.has_asked_of(from) || self.images.comes_from(from);
                far(asked, "an image that was not asked for")?;
                far(
                    *slot <= ahead(known, SLOTS_AHEAD_MAX),
                    "an image far ahead of what was applied",
                )
            }
            Notice::Outdated { life, known } => forged(
                life.start > 0 && *known >= life.start,
                "a life that is not over",
            ),
            Notice::Propose { relayed, value } => self.admit_commands(from, *relayed, value),
            Notice::Mark { slot, .. } | Notice::Index { slot, .. } => {
                let known = self.told_decided(from).max(decided);
                far(
                    *slot <= ahead(known, 2 * SLOTS_AHEAD_MAX),
                    "a mark far ahead of what is decided",
                )
            }
            // A word about decided slots is believed as far as it is near; what is asked for is told as
            // far as it is there, in pieces.
            Notice::Decided { .. }
            | Notice::Fetch { .. }
            | Notice::FetchImage { .. }
            | Notice::Finish { .. }
            | Notice::Probe(_)
            | Notice::ReadIndex(_) => Ok(()),
        }
    }

    fn admit_heartbeat(&mut self, from: NodeId, beat: &Heartbeat) -> Result<(), Refusal> {
        let start = beat.life.start;
        forged(start > 0, "a life without a start")?;
        let following = match beat.stance {
            Stance::Following(ballot) => ballot.node(),
            _ => Some(from),
        };
        let member = following.is_some_and(|node| self.members.contains(node));
        forged(member, "a leader that is no member")?;
        far(
            beat.decided.max(beat.applied) <= ahead(self.applied, SLOTS_OF_A_LIFE),
            "slots far ahead of what is applied",
        )?;
        self.admit_start(from, start)
    }

    fn start_of(&self, node: NodeId) -> Option<u64> {
        if node == self.me {
            Some(self.memory.life().start)
        } else {
            self.memory.start_of(node)
        }
    }

    fn admit_start(&mut self, of: NodeId, start: u64) -> Result<(), Refusal> {
        let known = self.start_of(of);
        let starts = self.admission.starts.entry(of).or_default();
        far(
            starts.reaches(start, known.unwrap_or_default(), STARTS_FREE, START_STEP),
            "a start far above the one that is known",
        )
    }

    /// P50, P52: a name that a server has not given would void the names that it does give.
    fn admit_commands(&self, from: NodeId, relayed: bool, value: &Value) -> Result<(), Refusal> {
        // The others of one line are held to the first where they are taken in.
        let id = first_id(value.as_bytes()).ok();
        let Some(id) = id else {
            return Err(Forged("a proposal without a command"));
        };
        let origin = NodeId::new(id.origin).filter(|&node| self.members.contains(node));
        let Some(origin) = origin.filter(|&node| relayed != (node == from)) else {
            return Err(Forged("commands of another server"));
        };
        // An honest relay may come round after this node was elected; it proposes its own commands itself.
        far(
            !relayed || origin != self.me,
            "commands of this server, relayed",
        )?;
        let known = self.start_of(origin);
        let beat = self.election.heard(origin, self.now);
        let heard = !relayed || beat.is_some();
        let last = match (heard, known) {
            (true, None) => return Err(Far("commands of a start that was not heard of")),
            (true, Some(known)) => known,
            (false, known) => known.unwrap_or_default() + 2 * FORGOTTEN_STARTS_MAX,
        };
        far(
            id.start >= known.unwrap_or(1),
            "commands of a start that is over",
        )?;
        far(
            id.start <= last,
            "commands of a start that was not heard of",
        )?;
        if !matches!(self.proposer, Proposer::Leading(_)) {
            return Ok(());
        }
        let counter = self.store.counter(id.origin);
        let applied = if counter.start == id.start {
            counter.next
        } else {
            1
        };
        far(
            id.number <= applied.saturating_add(NUMBERS_AHEAD_MAX),
            "a command far ahead of those that were applied",
        )
    }

    /// Up to where a peer has said that all is decided.
    fn told_decided(&self, node: NodeId) -> Slot {
        let beat = self.election.heard(node, self.now);
        beat.map(|beat| beat.decided).unwrap_or_default()
    }
}

fn forged(holds: bool, why: &'static str) -> Result<(), Refusal> {
    holds.then_some(()).ok_or(Forged(why))
}

fn far(holds: bool, why: &'static str) -> Result<(), Refusal> {
    holds.then_some(()).ok_or(Far(why))
}

/// The ballot that only the sender may use, where there is one (P9).
fn own_ballot(message: &Message) -> Option<Ballot> {
    match message {
        Message::Vote(Vote::Prepare { ballot, .. })
        | Message::Notice(
            Notice::Accept { ballot, .. }
            | Notice::Decided { ballot, .. }
            | Notice::Heartbeat(Heartbeat {
                stance: Stance::Leading(ballot) | Stance::Trying(ballot),
                ..
            }),
        ) => Some(*ballot),
        _ => None,
    }
}

/// The ballot of a question that this is the answer to, where there is one.
fn asked_ballot(message: &Message) -> Option<Ballot> {
    match message {
        Message::Vote(Vote::Promise(Promise { ballot, .. }) | Vote::Accepted { ballot, .. })
        | Message::Notice(Notice::Nack {
            refused: ballot, ..
        }) => Some(*ballot),
        _ => None,
    }
}

/// The highest round that a message is about.
fn round_max(message: &Message) -> u64 {
    let ballot = match message {
        Message::Notice(Notice::Nack { promised, .. }) => Some(*promised),
        Message::Notice(Notice::Heartbeat(Heartbeat {
            stance: Stance::Following(ballot),
            ..
        })) => Some(*ballot),
        message => own_ballot(message).or(asked_ballot(message)),
    };
    ballot.map_or(0, |ballot| ballot.round)
}

/// Whether this can be the value of a slot: a line of printable text (`kv::batch`) that can be told in a
/// promise. Other bytes would grow to four times their length there.
fn is_text(value: &Value) -> bool {
    let bytes = value.as_bytes();
    let escaped = || bytes.iter().filter(|&&b| b == b'"' || b == b'\\').count();
    bytes.len() <= VALUE_QUOTED_BYTES_MAX
        && !bytes.iter().any(u8::is_ascii_control)
        && (bytes.len() <= VALUE_QUOTED_BYTES_MAX / 2
            || bytes.len() + escaped() <= VALUE_QUOTED_BYTES_MAX)
        && (bytes.is_ascii()
            || std::str::from_utf8(bytes).is_ok_and(|text| !text.contains(char::is_control)))
}

/// For so many ticks after an alarm about a message of a node, others are told at level debug alone: or
/// whoever sends them would fill the disk.
const TELL_TICKS: u64 = 100;

/// How much of a message that is ignored the log shows: a value may be megabytes long, and whoever sends
/// this may send more.
const SHOWN_CHARS_MAX: usize = 300;

fn excerpt(message: &Message) -> String {
    let text = format!("{message:?}");
    let shown: String = text.chars().take(SHOWN_CHARS_MAX).collect();
    let more = if shown.len() < text.len() { "..." } else { "" };
    format!("{shown}{more}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ballot(round: u64, number: u8) -> Ballot {
        Ballot::new(round, NodeId::new(number).unwrap())
    }

    /// P9: whoever proposes, leads or tells what is decided under a ballot is its node; an answer goes to
    /// it; and the round that counts is the highest one.
    #[test]
    fn each_message_tells_whose_ballot_it_is_about() {
        let own = ballot(7, 2);
        let (slot, value) = (Slot(1), Value::noop());
        for message in [
            Message::Vote(Vote::Prepare {
                ballot: own,
                from: slot,
            }),
            Message::Notice(Notice::Accept {
                ballot: own,
                slot,
                value,
            }),
            Message::Notice(Notice::Decided {
                ballot: own,
                upto: slot,
            }),
        ] {
            assert_eq!(own_ballot(&message), Some(own), "{message:?}");
            assert_eq!((asked_ballot(&message), round_max(&message)), (None, 7));
        }
        let accepted = Message::Vote(Vote::Accepted { ballot: own, slot });
        assert_eq!(
            (own_ballot(&accepted), asked_ballot(&accepted)),
            (None, Some(own))
        );
        let nack = Message::Notice(Notice::Nack {
            refused: own,
            promised: ballot(9, 3),
        });
        assert_eq!((asked_ballot(&nack), round_max(&nack)), (Some(own), 9));
        let finish = Message::Notice(Notice::Finish { upto: slot });
        assert_eq!((own_ballot(&finish), round_max(&finish)), (None, 0));
    }

    /// A value that would grow to four times its length in a promise could never be told again.
    #[test]
    fn a_value_is_text_that_fits_a_line() {
        let is_text = |bytes: &[u8]| is_text(&Value::new(bytes).unwrap());
        assert!(is_text(b"n2.1.1 put \"a b\" \\") && is_text("n2.1.1 put k \u{e4}".as_bytes()));
        for bad in [&b"a\tb"[..], b"\x7f", b"\xff\xfe", "\u{9b}".as_bytes()] {
            assert!(!is_text(bad), "{bad:?}");
        }
        let half = VALUE_QUOTED_BYTES_MAX / 2;
        assert!(is_text(&vec![b'"'; half]) && !is_text(&vec![b'"'; half + 1]));
        assert!(is_text(&vec![b'v'; 2 * half]) && !is_text(&vec![b'v'; 2 * half + 1]));
    }

    /// What votes were given for and what was decided since leave the same count as counting anew.
    #[test]
    fn what_is_ahead_is_counted_as_both_go_on() {
        let mut acceptor = Acceptor::default();
        let mut ahead = Ahead::default();
        let value = |bytes| Value::new(vec![b'v'; bytes]).unwrap();
        for (round, slot, bytes, decided) in [
            (1, 1, 10, 0),
            (1, 3, 20, 0),
            (2, 3, 5, 0),
            (2, 4, 7, 1),
            (3, 9, 1, 3),
            (3, 2, 50, 3),
        ] {
            let (slot, value, decided) = (Slot(slot), value(bytes), Slot(decided));
            let room = ahead.room(&acceptor, decided, slot, &value).unwrap();
            // One that is refused is not counted.
            ahead.room(&acceptor, decided, Slot(20), &value).unwrap();
            acceptor.on_accept(ballot(round, 2), slot, &value).unwrap();
            ahead.on_accepted(room);
            let anew = acceptor.accepted_bytes(decided.next()..=Slot::MAX);
            assert_eq!(ahead.bytes, anew, "{slot}");
        }
        let large = value(AHEAD_BYTES_MAX);
        let decided = Slot(3);
        assert!(ahead.room(&acceptor, decided, Slot(5), &large).is_none());
        assert!(ahead.room(&acceptor, decided, Slot(4), &large).is_some());
        // A slot that is proposed again and again costs the log as much each time.
        let half = value(AHEAD_BYTES_MAX / 2);
        let mut accepted = 0;
        for round in 10..20 {
            if let Some(room) = ahead.room(&acceptor, decided, Slot(30), &half) {
                acceptor
                    .on_accept(ballot(round, 2), Slot(30), &half)
                    .unwrap();
                ahead.on_accepted(room);
                accepted += 1;
            }
        }
        assert_eq!(accepted, 1);
    }
}
