//! Snapshots: taken of the own store, and sent to a peer that lags too far for the log, in pieces.
//!
//! A snapshot is an image of the store at one slot: map, sessions and counters together (P24). Taking
//! one costs nothing here, because a clone of the store shares everything with it. The shell makes it
//! durable and says so; only then is anything forgotten that it holds, or, if it came from a peer and
//! is ahead, does the store become that image (P22). So what this node tells of itself it still knows
//! after a restart.
//!
//! A peer that asks for values that are trimmed is sent the first piece of an image; it asks for the
//! next as soon as one came, names image and place, and so resumes where it was when a link broke. The
//! image stays as it is for as long as anyone asks for it. If it is gone, because its server began
//! anew, the peer begins anew as well. One image is received at a time, from one peer.

use std::sync::Arc;

use log::info;

use crate::kv::snapshot::{Place, Restore};
use crate::kv::store::Store;
use crate::outbox::{Outbox, To};
use crate::paxos::message::Notice;
use crate::paxos::pace::Asked;
use crate::paxos::proposer::Proposer;
use crate::paxos::types::{NodeId, Slot, Value};

use super::Replica;
use super::growth::{self, Wanted};

/// How many bytes of lines one piece has; one line more than that may be in it.
const PIECE_BYTES_MAX: usize = 128 << 10;

/// An image that nobody asked for in so many ticks is let go: it keeps what the store has changed
/// since.
const KEPT_TICKS: u64 = 1_000;

/// After so many ticks without an answer, the next image may come from another peer.
const PATIENCE_TICKS: u64 = 500;

/// See the module's text.
#[derive(Debug, Default)]
pub(super) struct Images {
    /// The image that peers fetch, and when one did last.
    sent: Option<(Store, u64)>,
    incoming: Option<Incoming>,
    /// The shell makes an image durable at the moment.
    keeping: bool,
    /// The shell wants a snapshot, as soon as it is this node's turn and would hold something new.
    wanted: Option<Wanted>,
    /// The last slot that a durable snapshot of this node holds.
    durable: Slot,
}

/// An image that comes from a peer.
#[derive(Debug)]
struct Incoming {
    from: NodeId,
    slot: Slot,
    restore: Restore,
    /// Where the next piece begins.
    place: Value,
    /// When the last piece came.
    came: u64,
    asked: Asked,
}

impl Images {
    /// Of a node with a durable snapshot of every slot up to `durable`.
    pub(super) fn new(durable: Slot) -> Self {
        Self {
            durable,
            ..Self::default()
        }
    }

    /// The last slot that a durable snapshot of this node holds.
    pub(super) fn durable(&self) -> Slot {
        self.durable
    }

    /// Whether a snapshot of this node is being made durable.
    pub(super) fn is_saving(&self) -> bool {
        self.keeping
    }

    /// Whether an image comes from this peer.
    pub(super) fn comes_from(&self, peer: NodeId) -> bool {
        let incoming = self.incoming.as_ref();
        incoming.is_some_and(|incoming| incoming.from == peer)
    }

    /// Whether an image comes or is being made durable, so that fetching values can wait.
    pub(super) fn is_busy(&self) -> bool {
        self.incoming.is_some() || self.keeping
    }
}

impl Replica {
    /// The log has grown.
    pub(super) fn on_snapshot(&mut self, wanted: Wanted) {
        self.images.wanted = Some(wanted);
    }

    /// Takes a snapshot if one is wanted and due, none is under way, and it would hold something new.
    pub(super) fn take_snapshot(&mut self, out: &mut Outbox) {
        if self.is_snapshot_due(false) && self.is_snapshot_due(self.is_another_saving()) {
            let image = Arc::new(self.store.image());
            self.keep(image, out);
        }
    }

    /// Whether a snapshot is due here, but for another server that writes its own.
    pub fn waits_with_snapshot(&self) -> bool {
        self.is_snapshot_due(false) && !self.is_snapshot_due(self.is_another_saving())
    }

    fn is_snapshot_due(&self, busy: bool) -> bool {
        let images = &self.images;
        let Some(wanted) = images.wanted else {
            return false;
        };
        if images.keeping || self.applied <= images.durable {
            return false;
        }
        let leader = match &self.proposer {
            Proposer::Leading(_) => Some(self.me),
            _ => self
                .election
                .leader(self.now)
                .and_then(|leader| leader.ballot.node()),
        };
        let rank = growth::rank(self.me, leader, &self.members);
        wanted.is_due(rank, self.members.size(), busy)
    }

    fn is_another_saving(&self) -> bool {
        self.members.others(self.me).any(|node| {
            let beat = self.election.heard(node, self.now);
            beat.is_some_and(|beat| beat.saving)
        })
    }

    fn keep(&mut self, image: Arc<Store>, out: &mut Outbox) {
        // Whatever was wanted: this one will do.
        self.images.wanted = None;
        self.images.keeping = true;
        out.keep = Some(image);
    }

    /// An image is durable.
    pub(super) fn on_kept(&mut self, image: &Arc<Store>, out: &mut Outbox) {
        let slot = Slot(image.applied());
        self.images.keeping = false;
        self.images.durable = self.images.durable.max(slot);
        // The log may have asked again before it heard that this one had been taken.
        self.images.wanted = None;
        if slot > self.applied {
            self.install(image, out);
        }
        self.learner.on_snapshot(slot);
        if let Some(acceptor) = &mut self.acceptor {
            acceptor.trim(slot);
        }
        self.ahead.forget();
    }

    /// The store becomes an image of a later slot, sessions and counters with it.
    fn install(&mut self, image: &Store, out: &mut Outbox) {
        let (before, slot) = (self.applied, Slot(image.applied()));
        out.spent.push(self.store.replace(image.clone()));
        self.applied = slot;
        self.hashes.clear();
        self.hashes.push_back((slot, image.hash()));
        self.note_time(image);
        let counter = image.counter(self.me.number());
        self.origin.on_jump(counter, out);
        self.memory.on_decided_start(counter.start);
        info!("the snapshot is here: from {before} to {slot} at once");
    }

    /// A peer wants values that are trimmed, or more of an image.
    pub(super) fn on_fetch_image(
        &mut self,
        from: NodeId,
        slot: Slot,
        place: &Value,
        out: &mut Outbox,
    ) {
        let Ok(asked) = Place::parse(place.as_bytes()) else {
            out.alarms
                .push(format!("{from} asks for a place that is none: {place}"));
            return;
        };
        // What comes after the image must be had as values.
        let trimmed = self.learner.trimmed();
        let serves = |image: &Store| {
            let held = Slot(image.applied());
            held == slot || slot == Slot::ZERO && held >= trimmed
        };
        let (image, place) = match self.images.sent.take() {
            Some((image, _)) if serves(&image) => (image, asked),
            before => {
                out.spent.extend(before.map(|(image, _)| image));
                (self.store.image(), Place::START)
            }
        };
        if image.applied() > 0 {
            out.send(To::One(from), piece(&image, &place));
        }
        self.images.sent = Some((image, self.now));
    }

    /// A piece of an image came.
    pub(super) fn on_image(
        &mut self,
        from: NodeId,
        slot: Slot,
        place: &Value,
        (next, lines): (Option<Value>, &[Value]),
        out: &mut Outbox,
    ) {
        if slot <= self.applied || self.images.keeping {
            return;
        }
        let begins = *place == start() && self.may_begin(from);
        if begins {
            // It answers what the values were asked for with.
            let sender = self.paces.of(from);
            self.catchup.on_progress(from, None, sender, self.now, out);
            self.give_up_image(out);
            info!("fetching a snapshot that holds all up to {slot} from {from}");
            self.images.incoming = Some(Incoming {
                from,
                slot,
                restore: Restore::default(),
                place: place.clone(),
                came: self.now,
                asked: Asked::new(self.now),
            });
        }
        let Some(incoming) = &mut self.images.incoming else {
            return;
        };
        // A piece that comes late or twice is nothing.
        if (incoming.from, incoming.slot, &incoming.place) != (from, slot, place) {
            return;
        }
        let read = lines
            .iter()
            .try_for_each(|line| incoming.restore.line(line.as_bytes()));
        if !begins {
            self.paces.of(from).on_answer(incoming.asked, self.now);
        }
        (incoming.came, incoming.asked) = (self.now, Asked::new(self.now));
        match (read, next) {
            (Ok(()), Some(place)) => {
                incoming.place = place.clone();
                out.send(To::One(from), Notice::FetchImage { slot, place });
            }
            (Ok(()), None) => self.finish_image(out),
            (Err(error), _) => {
                self.give_up_image(out);
                out.alarms
                    .push(format!("{from} sent a snapshot that is none: {error}"));
            }
        }
    }

    /// Whether the first piece of an image of this peer is welcome.
    fn may_begin(&self, from: NodeId) -> bool {
        let incoming = self.images.incoming.as_ref();
        incoming.is_none_or(|known| known.from == from)
    }

    /// Lets go of what has come of an image.
    fn give_up_image(&mut self, out: &mut Outbox) {
        let incoming = self.images.incoming.take();
        out.spent
            .extend(incoming.map(|incoming| incoming.restore.give_up()));
    }

    fn finish_image(&mut self, out: &mut Outbox) {
        let Some(incoming) = self.images.incoming.take() else {
            return;
        };
        let (from, slot) = (incoming.from, incoming.slot);
        match incoming.restore.finish() {
            Ok(store) if store.applied() == slot.0 => self.keep(Arc::new(store), out),
            Ok(store) => {
                out.alarms.push(format!(
                    "{from} sent a snapshot of s{} for one of {slot}",
                    store.applied()
                ));
                out.spent.push(store);
            }
            Err(error) => out
                .alarms
                .push(format!("{from} sent a snapshot that is none: {error}")),
        }
    }

    /// Asks again for what did not come, and lets go of what nobody wants.
    pub(super) fn tick_images(&mut self, out: &mut Outbox) {
        let now = self.now;
        let unused = |(_, used): &mut (Store, u64)| now >= *used + KEPT_TICKS;
        let unused = self.images.sent.take_if(unused);
        out.spent.extend(unused.map(|(image, _)| image));
        let Some(incoming) = &mut self.images.incoming else {
            return;
        };
        if now >= incoming.came + PATIENCE_TICKS || incoming.slot <= self.applied {
            self.give_up_image(out);
        } else if self.paces.of(incoming.from).is_overdue(incoming.asked, now) {
            self.paces.of(incoming.from).on_again(now);
            incoming.asked = incoming.asked.again(now);
            let (slot, place) = (incoming.slot, incoming.place.clone());
            out.send(To::One(incoming.from), Notice::FetchImage { slot, place });
        }
    }
}

/// Where every image begins.
pub(super) fn start() -> Value {
    text(&Place::START)
}

fn text(place: &Place) -> Value {
    Value::new(place.to_string().into_bytes()).expect("the text of a place is one line")
}

fn piece(image: &Store, place: &Place) -> Notice {
    let (lines, next) = image.piece(place, PIECE_BYTES_MAX);
    let line = |line| Value::new(line).expect("a line of a snapshot has no LF");
    Notice::Image {
        slot: Slot(image.applied()),
        place: text(place),
        next: next.as_ref().map(text),
        lines: lines.into_iter().map(line).collect(),
    }
}
