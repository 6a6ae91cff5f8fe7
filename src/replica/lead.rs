//! Time, links and heartbeats: who leads, and what a leader repeats until it is heard.

use log::{info, warn};

use crate::outbox::{Outbox, To};
use crate::paxos::election::{HEARTBEAT_TICKS, Leader};
use crate::paxos::message::{Heartbeat, Notice, Stance};
use crate::paxos::proposer::{Proposal, Proposer};
use crate::paxos::types::{NodeId, Slot};

use super::Replica;
use super::admission::near;

/// How many bytes of values are sent again in one tick.
const RESEND_BYTES_MAX: usize = 1 << 20;

impl Replica {
    /// Time that this process slept through has passed like any other. Nothing is done about it before
    /// what came meanwhile has been taken and the next tick comes.
    pub(super) fn on_slept(&mut self, ticks: u64) {
        self.now += ticks;
        self.stamps.on_ticks(ticks);
        let was_slow = self.election.is_slow();
        self.election.on_slept(ticks);
        if self.election.is_slow() && !was_slow {
            warn!("slow: this process sleeps for most of the time, so others should lead");
        }
        self.memory.on_slept(ticks);
    }

    pub(super) fn on_tick(&mut self, out: &mut Outbox) {
        self.now += 1;
        self.stamps.on_ticks(1);
        let was_slow = self.election.is_slow();
        self.election.on_tick();
        if was_slow && !self.election.is_slow() {
            info!("no longer slow");
        }
        if self.now >= self.heartbeat_due {
            self.send_heartbeat(To::Others, out);
        }
        self.origin.expire(self.now, out);
        self.reads.expire(self.now, out);
        self.retry_probe(out);
        self.nudge(out);
        self.tick_images(out);
        self.catch_up(out);
        self.keep_leading(out);
    }

    /// The proposer's part of a tick.
    pub(super) fn keep_leading(&mut self, out: &mut Outbox) {
        let idle = matches!(self.proposer, Proposer::Idle);
        if idle {
            self.try_to_lead(out);
        } else if !self.election.connected(self.now) {
            // P30: a leader that hears no majority leaves the place to one that does.
            self.stop_leading("no majority of nodes is heard", out);
        } else if self.proposer.leading().is_some() && self.election.should_leave(self.now) {
            // P35: it would delay everyone.
            self.stop_leading("this server is slow, and a majority is not", out);
        } else if self.proposer.leading().is_some() {
            self.resend_open(out);
        } else {
            self.prepare(out);
        }
    }

    /// Tries to lead, if it is this node's turn. One that may not vote cannot lead either: its own
    /// ballots are among what it may have forgotten.
    fn try_to_lead(&mut self, out: &mut Outbox) {
        if self.memory.is_sound() && self.election.should_try(self.now) {
            self.campaign(out);
        }
    }

    pub(super) fn resend_open(&mut self, out: &mut Outbox) {
        let now = self.now;
        let Some(leading) = self.proposer.leading() else {
            return;
        };
        let overdue = leading.overdue(&mut self.paces, now, RESEND_BYTES_MAX, &self.members);
        for (
            Proposal {
                ballot,
                slot,
                value,
            },
            silent,
        ) in overdue
        {
            for node in silent {
                if node == self.me {
                    self.on_accept(node, ballot, slot, &value, out);
                } else {
                    let value = value.clone();
                    out.send(
                        To::One(node),
                        Notice::Accept {
                            ballot,
                            slot,
                            value,
                        },
                    );
                }
            }
        }
    }

    pub(super) fn catch_up(&mut self, out: &mut Outbox) {
        let missing = self.learner.missing();
        let (now, election) = (self.now, &self.election);
        let first = missing.map_or(Slot::ZERO, |(first, _)| first);
        let able: Vec<NodeId> = self
            .members
            .others(self.me)
            .filter(|&node| {
                election
                    .heard(node, now)
                    .is_some_and(|beat| beat.decided >= first)
            })
            .collect();
        // What an image brings need not be fetched.
        if self.images.is_busy() {
            return;
        }
        self.catchup
            .on_tick(missing, &able, &mut self.paces, now, out);
        if self
            .catchup
            .is_bereft(missing, &able, self.election.connected(now))
        {
            self.give_up_missing(out);
        }
    }

    /// What is decided and missing here, nobody could tell who is heard, for a while: those who knew are
    /// gone, and the others were cut short of the last word. But a majority accepted it, and phase 1
    /// finds it there. So whatever rests on the word of one that is gone is begun anew.
    fn give_up_missing(&mut self, out: &mut Outbox) {
        if self.give_up_snapshot(out) {
            return;
        }
        let decided = self.learner.decided();
        let leading = self.proposer.leading();
        if leading.is_some_and(|leading| leading.decided() > decided) {
            // It will never propose these slots; another phase 1 will.
            return self.stop_leading("nobody who is heard has what is decided", out);
        }
        self.give_up_recalled();
        if let Some(acceptor) = &self.acceptor {
            self.learner.forget_known(acceptor.settled());
        }
    }

    pub(super) fn on_link_up(&mut self, node: NodeId, out: &mut Outbox) {
        self.paces.of(node).on_up(self.now);
        self.send_heartbeat(To::One(node), out);
        if self
            .election
            .leader(self.now)
            .is_some_and(|leader| leader.via == node)
        {
            self.origin.on_new_leader(self.now);
        }
    }

    pub(super) fn on_link_down(&mut self, node: NodeId, out: &mut Outbox) {
        self.election.on_silence(node);
        // The others learn at once whom this node hears no longer: their own vote for it may rest
        // on this node's word.
        self.send_heartbeat(To::Others, out);
        self.keep_leading(out);
    }

    pub(super) fn on_heartbeat(&mut self, from: NodeId, beat: Heartbeat, out: &mut Outbox) {
        if !self.on_life(from, beat.life, !beat.sound, out) {
            return;
        }
        let was_up = self
            .election
            .heard(from, self.now)
            .is_some_and(|b| b.acceptor_up);
        if beat.acceptor_up && !was_up {
            self.paces.of(from).on_up(self.now);
        }
        self.election.on_heartbeat(from, beat, self.now);
        self.compare_hash(from, &beat, out);
        let decided = near(beat.decided, self.learner.decided());
        self.learner.on_known(decided);
        if let Stance::Leading(ballot) = beat.stance {
            self.on_decided(ballot, beat.decided);
            if self.proposer.ballot().is_some_and(|own| own < ballot) {
                self.stop_leading(&format!("{from} leads with {ballot}"), out);
            }
        }
        if matches!(self.proposer, Proposer::Idle) {
            self.try_to_lead(out);
        }
    }

    pub(super) fn send_heartbeat(&mut self, to: To, out: &mut Outbox) {
        if to == To::Others {
            self.heartbeat_due = self.now + HEARTBEAT_TICKS;
            self.stance_told = self.stance();
            self.saving_told = self.images.is_saving();
        }
        // P20: the word goes with the leader's ballot, so it covers only what was decided under it
        // or before. A leader that was overtaken may have learned more, other values than its own.
        let decided = match &self.proposer {
            Proposer::Leading(leading) => leading.decided().min(self.learner.decided()),
            _ => self.learner.decided(),
        };
        let beat = Heartbeat {
            stance: self.stance(),
            connected: self.election.connected(self.now),
            acceptor_up: self.acceptor.is_some() && self.memory.is_sound(),
            decided,
            applied: self.applied,
            hash: self
                .hashes
                .back()
                .map_or_else(|| self.store.hash(), |&(_, hash)| hash),
            life: self.memory.life(),
            sound: self.memory.is_sound(),
            slow: self.election.is_slow(),
            saving: self.images.is_saving(),
        };
        out.send(to, Notice::Heartbeat(beat));
    }

    pub(super) fn stance(&self) -> Stance {
        match &self.proposer {
            Proposer::Leading(leading) => Stance::Leading(leading.ballot()),
            Proposer::Preparing(_) if self.memory.is_sound() => {
                Stance::Trying(self.proposer.ballot().expect("phase 1 has a ballot"))
            }
            // Who recalls does not try to lead.
            _ => self
                .election
                .following(self.now)
                .map_or(Stance::Idle, Stance::Following),
        }
    }

    /// I5: a peer that applied as much must have the same hash.
    pub(super) fn compare_hash(&mut self, from: NodeId, beat: &Heartbeat, out: &mut Outbox) {
        let Some(&(oldest, _)) = self.hashes.front() else {
            return;
        };
        let index = beat
            .applied
            .0
            .checked_sub(oldest.0)
            .and_then(|at| usize::try_from(at).ok());
        let Some(&(slot, hash)) = index.and_then(|at| self.hashes.get(at)) else {
            return;
        };
        if hash != beat.hash && self.disagreed.insert(from, slot).is_none() {
            let theirs = beat.hash;
            out.alarms.push(format!(
                "I5: the stores differ at {slot}: hash {hash:016x} here, {theirs:016x} at {from}"
            ));
        }
    }

    /// Notices, once each, that another node leads, or that the leader is now heard here itself. Then what
    /// was handed on goes there again: a relay may have lost the leader. Not to another relay, because when
    /// a leader dies all are relays for a moment.
    pub(super) fn note_leader(&mut self) {
        let own = self.proposer.leading().map(|leading| Leader {
            ballot: leading.ballot(),
            via: self.me,
        });
        let leader = own.or_else(|| self.election.leader(self.now));
        if leader == self.leader_told {
            return;
        }
        let before = std::mem::replace(&mut self.leader_told, leader);
        let Some(Leader { ballot, via }) = leader else {
            return info!("no leader is known");
        };
        let news = before.is_none_or(|before| before.ballot != ballot);
        let node = ballot.node();
        if let Some(node) = node.filter(|&node| news && node != self.me) {
            info!("following {node}, leader with {ballot}");
        }
        if news || node == Some(via) {
            self.origin.on_new_leader(self.now);
        }
    }
}
