//! What a node does: rounds and the log thread. The second shell's own code.
//!
//! It follows `server`: a round takes everything that has arrived, then what the log thread has told,
//! then a tick if one is due, and hands out in the order of `server::core`; the log thread groups what waits and follows
//! `server::recorder`, its rule for promises among it.

use super::clock::{Due, MS};
use super::counts::Seen;
use super::disk::SimDir;
use super::memory::{self, with_mistake};
use super::model::News;
use super::node::{AcceptorState, Arrival, Crash, Group, Job, Running, Snapshot};
use super::watch::{Checked, ensure};
use super::world::{World, line, tell, text};
use super::{Mistake, service};
use crate::disk::dir::Dir;
use crate::disk::{LogError, record, snapshot};
use crate::kv::store::Store;
use crate::outbox::{Outbox, To, needs_sync};
use crate::paxos::acceptor::Acceptor;
use crate::paxos::message::{Message, Notice, Vote};
use crate::paxos::record::Record;
use crate::paxos::types::Slot;
use crate::replica::{Input, Status};
use crate::wire::peer::{parse_message, write_notice, write_vote};

/// How many rounds share a sync at most.
const JOBS_MAX: usize = 1_024;

/// Records that need no sync are written at so many bytes; far fewer than a server waits for, so
/// that it happens.
const PENDING_BYTES_MAX: usize = 400;

/// The part of a crash in a round that comes while the log thread is at work.
const LOGGING: u8 = 3;

/// A snapshot is written within this time.
const SNAPSHOT_MAX: u64 = 60 * MS;

/// How long a slow node is awake between two naps, at most.
const AWAKE_MAX: u64 = 25 * MS;

/// How long the log thread takes for what needs no sync.
const UNSYNCED_US: u64 = 5;

/// After a start that the disk did not allow, it is tried again.
pub(super) const START_AGAIN: u64 = 100 * MS;

impl World {
    // --- Rounds ---

    pub(super) fn on_tick(&mut self, node: usize, life: u64) -> Checked {
        let at = &mut self.nodes[node];
        if at.life != life {
            return Ok(());
        }
        let Some(run) = &mut at.running else {
            return Ok(());
        };
        run.ticks_due += 1;
        self.clock.after(at.tick, Due::Tick { node, life });
        self.round(node)
    }

    pub(super) fn on_round(&mut self, node: usize, life: u64) -> Checked {
        if self.nodes[node].life != life {
            return Ok(());
        }
        if let Some(run) = &mut self.nodes[node].running {
            run.round_due = false;
        }
        self.round(node)
    }

    pub(super) fn on_thaw(&mut self, node: usize, life: u64) -> Checked {
        if self.nodes[node].life != life {
            return Ok(());
        }
        let Some(run) = &mut self.nodes[node].running else {
            return Ok(());
        };
        // Once the faults are over it thaws before its time.
        if run.frozen != 1 {
            run.frozen = run.frozen.saturating_sub(1);
            return Ok(());
        }
        run.frozen = 0;
        tell!(self, "n{} thaws", node + 1);
        self.round(node)?;
        let run = self.nodes[node].running.as_mut();
        if run.is_some_and(|run| std::mem::take(&mut run.logged_due)) {
            self.on_logged(node, life)?;
        }
        Ok(())
    }

    /// A slow node falls asleep again.
    pub(super) fn on_nap(&mut self, node: usize, life: u64) {
        let at = &mut self.nodes[node];
        let nap = at.nap;
        let Some(run) = at.running.as_mut().filter(|_| at.life == life && nap > 0) else {
            return;
        };
        run.frozen += 1;
        self.counts.one(Seen::Naps);
        tell!(self, "n{} sleeps", node + 1);
        self.clock.after(nap, Due::Thaw { node, life });
        let awake = self.node_dice.between(MS..=AWAKE_MAX);
        self.clock.after(nap + awake, Due::Nap { node, life });
    }

    fn round(&mut self, node: usize) -> Checked {
        if !self.nodes[node].is_awake() {
            return Ok(());
        }
        let mut run = self.nodes[node].running.take().expect("it is awake");
        let mut out = Outbox::default();
        self.inputs(node, &mut run, &mut out)?;
        if let Some((0, crash)) = run.crash_in_round {
            self.nodes[node].running = Some(run);
            return self.crash_in_round(node, crash);
        }
        let wall = self.nodes[node].wall(self.clock.now());
        run.replica.flush(wall, &mut out);
        let waits = run.replica.waits_with_snapshot();
        if waits && !run.snapshot_waits {
            self.counts.one(Seen::SnapshotsWaited);
        }
        run.snapshot_waits = waits;
        let status = run.replica.status();
        self.look(node, &mut run, &status, &mut out)?;
        self.watch.on_handed(self.nodes[node].id, &out.records);
        for (to, notice) in out.now.drain(..) {
            self.watch.on_notice(self.nodes[node].id, &notice)?;
            if matches!(&notice, Notice::Image { place, .. } if place.as_bytes() == b"start") {
                self.counts.one(Seen::ImagesSent);
            }
            if matches!(&notice, Notice::Index { .. }) {
                self.counts.one(Seen::IndexesSent);
            }
            let text = line(|bytes| write_notice(bytes, &notice));
            self.send_to(node, to, &text);
        }
        if let Some((1, crash)) = run.crash_in_round {
            self.nodes[node].running = Some(run);
            return self.crash_in_round(node, crash);
        }
        if !out.records.is_empty() || !out.votes.is_empty() {
            run.jobs.push_back(Job::Step(out.records, out.votes));
        }
        if let Some(image) = out.keep {
            let wait = self.disk_dice.between(MS..=SNAPSHOT_MAX);
            let life = self.nodes[node].life;
            self.clock.after(wait, Due::Written { node, life });
            run.growth.on_image(run.log.written_bytes());
            run.snapshot = Snapshot::Writing(image);
        }
        let crash = run.crash_in_round;
        self.nodes[node].running = Some(run);
        self.next_group(node)?;
        if let Some((2, crash)) = crash {
            return self.crash_in_round(node, crash);
        }
        for (ticket, answer) in out.answers {
            self.on_answer(node, ticket, answer)?;
        }
        self.end_if_stopped(node)
    }

    /// A server that was told to stop goes when nobody waits any more.
    fn end_if_stopped(&mut self, node: usize) -> Checked {
        let run = self.nodes[node].running.as_ref();
        if run.is_none_or(|run| !run.stopping || !run.replica.is_idle()) {
            return Ok(());
        }
        self.counts.one(Seen::Stopped);
        // The end of the fault may have come before the server heard of it.
        self.clock.after(START_AGAIN, Due::Start { node });
        let (power, noticed) = (false, true);
        self.crash(node, Crash { power, noticed })
    }

    fn crash_in_round(&mut self, node: usize, crash: Crash) -> Checked {
        self.counts.one(Seen::CrashedInRound);
        // The end of the fault may have come before the round did.
        self.clock.after(START_AGAIN, Due::Start { node });
        self.crash(node, crash)
    }

    /// Steps the replica with all that waits.
    fn inputs(&mut self, node: usize, run: &mut Running, out: &mut Outbox) -> Checked {
        let id = self.nodes[node].id;
        if run.ticks_due > 1 {
            run.replica.step(Input::Slept(run.ticks_due - 1), out);
        }
        while let Some(arrival) = run.inbox.pop_front().or_else(|| run.told.pop_front()) {
            let input = match arrival {
                Arrival::Line { from, line } => {
                    let message = parse_message(&line)
                        .map_err(|error| format!("{id} cannot read {:?}: {error}", text(&line)))?;
                    let from = self.nodes[from].id;
                    Input::Message { from, message }
                }
                Arrival::Requests(batch) => {
                    service::step(&self.batches[batch], batch, &self.history, run, out);
                    continue;
                }
                Arrival::LinkUp(peer) => Input::LinkUp(self.nodes[peer].id),
                Arrival::LinkDown(peer) => Input::LinkDown(self.nodes[peer].id),
                Arrival::Own(vote) => Input::Message {
                    from: id,
                    message: Message::Vote(vote),
                },
                Arrival::Recovered(acceptor) => {
                    run.acceptor = AcceptorState::Up;
                    self.counts.one(Seen::AcceptorRecovered);
                    tell!(self, "{id} recover");
                    Input::AcceptorRecovered(acceptor)
                }
                Arrival::Grown(wanted) => Input::Snapshot(wanted),
                Arrival::Kept(image) => Input::Kept(image),
                Arrival::Stop => {
                    run.stopping = true;
                    tell!(self, "{id} stop");
                    Input::Stop
                }
            };
            run.replica.step(input, out);
        }
        if std::mem::take(&mut run.ticks_due) > 0 {
            run.replica.step(Input::Tick, out);
        }
        match (run.acceptor, self.nodes[node].acceptor_failed > 0) {
            (AcceptorState::Up, true) => {
                run.acceptor = AcceptorState::Failed;
                tell!(self, "{id} fail");
                run.replica.step(Input::AcceptorFailed, out);
            }
            (AcceptorState::Failed, false) => {
                run.acceptor = AcceptorState::Recovering;
                run.jobs.push_back(Job::Recover);
            }
            _ => {}
        }
        Ok(())
    }

    /// The log has grown.
    pub(super) fn on_news(&mut self, news: News) -> Checked {
        for applied in news.applied {
            self.history.on_applied(applied)?;
        }
        if self.plan.has_right_clocks() {
            let now = self.clock.now();
            for life in news.ended {
                self.history.on_ended(life, now)?;
            }
        }
        Ok(())
    }

    /// The checks look at a node after a round, before anything leaves it.
    fn look(
        &mut self,
        node: usize,
        run: &mut Running,
        status: &Status,
        out: &mut Outbox,
    ) -> Checked {
        let id = self.nodes[node].id;
        if let Some(alarm) = out.alarms.pop() {
            return Err(format!("{id} alarms: {alarm}"));
        }
        let news = self.watch.look(id, &mut run.replica, status)?;
        self.on_news(news)?;
        let leads = (status.role == "leader").then_some(status.ballot);
        if leads != run.leads {
            run.leads = leads;
            match leads {
                Some(ballot) => {
                    self.counts.one(Seen::Elections);
                    tell!(self, "{id} leads {ballot}");
                }
                None => tell!(self, "{id} leads no longer"),
            }
        }
        Ok(())
    }

    fn send_to(&mut self, from: usize, to: To, line: &super::network::Line) {
        match to {
            To::One(id) => {
                let to = usize::from(id.number() - 1);
                if to != from {
                    self.send(from, to, line);
                }
            }
            To::Others => {
                for to in (0..self.nodes.len()).filter(|&to| to != from) {
                    self.send(from, to, line);
                }
            }
        }
    }

    // --- The log thread ---

    /// Lets the log thread take what waits, if it does nothing.
    fn next_group(&mut self, node: usize) -> Checked {
        let at = &mut self.nodes[node];
        let life = at.life;
        let slow = at.slow_sync;
        let Some(run) = &mut at.running else {
            return Ok(());
        };
        if run.group.is_some() || run.jobs.is_empty() {
            return Ok(());
        }
        let mut group = Group::default();
        for _ in 0..JOBS_MAX {
            match run.jobs.pop_front() {
                Some(Job::Step(records, votes)) => {
                    group.records.extend(records);
                    group.votes.extend(votes);
                }
                Some(Job::Recover) => {
                    group.recover = true;
                    break;
                }
                None => break,
            }
        }
        group.sync = group.recover || needs_sync(&group.records, &group.votes);
        let wait = if group.sync {
            let (least, most) = self.plan.sync;
            let slow = if slow > 0 {
                self.disk_dice.below(slow)
            } else {
                0
            };
            self.disk_dice.between(least..=most) + slow
        } else {
            UNSYNCED_US
        };
        let early = match self.mistake {
            Some(Mistake::VotesBeforeSync) => std::mem::take(&mut group.votes),
            _ => Vec::new(),
        };
        run.group = Some(group);
        self.clock.after(wait, Due::Logged { node, life });
        self.send_votes(node, early)
    }

    pub(super) fn on_logged(&mut self, node: usize, life: u64) -> Checked {
        let at = &mut self.nodes[node];
        if at.life != life {
            return Ok(());
        }
        let Some(run) = &mut at.running else {
            return Ok(());
        };
        if run.frozen > 0 {
            run.logged_due = true;
            return Ok(());
        }
        if let Some((LOGGING, crash)) = run.crash_in_round {
            return self.crash_in_round(node, crash);
        }
        let group = run.group.take().expect("the log thread was busy");
        if let Err(error) = keep(run, &group) {
            return self.disk_failed(node, &error);
        }
        if group.sync {
            self.on_synced(node)?;
        }
        self.want_snapshot(node);
        let spare = self.disk_dice.chance(500);
        if let Some(run) = &self.nodes[node].running
            && let Some(job) = run.log.spare_job().filter(|_| spare)
        {
            // A spare that cannot be made is made when it is needed.
            let _ = job.make();
        }
        self.send_votes(node, group.votes)?;
        if group.recover {
            self.recover_acceptor(node)?;
        }
        self.next_group(node)
    }

    // --- Snapshots ---

    /// Asks for a snapshot when the log has grown, by the rule that `server::recorder` has.
    fn want_snapshot(&mut self, node: usize) {
        let Some(run) = &mut self.nodes[node].running else {
            return;
        };
        if matches!(run.snapshot, Snapshot::None)
            && let Some(wanted) = run.growth.news(run.log.written_bytes())
        {
            self.tell_core(node, Arrival::Grown(wanted));
        }
    }

    /// A snapshot has been written: the log is trimmed.
    pub(super) fn on_written(&mut self, node: usize, life: u64) -> Checked {
        let at = &mut self.nodes[node];
        if at.life != life {
            return Ok(());
        }
        let Some(run) = &mut at.running else {
            return Ok(());
        };
        if run.frozen > 0 {
            self.clock.after(MS, Due::Written { node, life });
            return Ok(());
        }
        let Snapshot::Writing(image) = std::mem::replace(&mut run.snapshot, Snapshot::None) else {
            return Ok(());
        };
        let slot = Slot(image.applied());
        at.trim_max = at.trim_max.max(slot);
        let oldest = oldest_segment(&at.dir);
        if let Err(error) = keep_image(run, &at.dir, &image) {
            return self.disk_failed(node, &error);
        }
        if oldest_segment(&at.dir) > oldest {
            self.counts.one(Seen::Trimmed);
        }
        // Only earlier ones go: a damaged one of a later slot stays, and is named at each start.
        at.snapshot_flipped &= slot < at.trim_max;
        self.counts.one(Seen::Snapshots);
        // A trim commits all that was appended before.
        self.on_synced(node)?;
        self.on_durable(node, vec![Record::Trim(slot)])?;
        self.tell_core(node, Arrival::Kept(image));
        Ok(())
    }

    /// Everything that was handed to the log is durable.
    fn on_synced(&mut self, node: usize) -> Checked {
        let at = &mut self.nodes[node];
        let run = at.running.as_mut().expect("it runs");
        let pending = std::mem::take(&mut run.pending);
        run.pending_bytes = 0;
        self.on_durable(node, pending)?;
        self.look_at_weak(node);
        Ok(())
    }

    /// A node that had lost something is whole again once all that it was told is durable.
    fn look_at_weak(&mut self, node: usize) {
        let at = &mut self.nodes[node];
        let Some(run) = at.running.as_ref().filter(|run| run.jobs.is_empty()) else {
            return;
        };
        let votes = !self.watch.has_lost_memory(at.id);
        let applied = run.replica.status().applied;
        at.weak.take_if(|weak| votes && applied >= weak.until);
        if votes && !at.joined {
            at.joined = true;
            self.begin_plan();
        }
    }

    pub(super) fn on_durable(&mut self, node: usize, records: Vec<Record>) -> Checked {
        let id = self.nodes[node].id;
        for record in &records {
            if self.trace.is_some() {
                let mut body = Vec::new();
                record::write(&mut body, record);
                tell!(self, "{id} record {}", text(&body));
            }
            self.watch.on_durable(id, record)?;
            match record {
                Record::Start(start) => {
                    self.nodes[node].start = *start;
                    // One that a start reads back was of a run before.
                    if self.nodes[node].running.is_some() {
                        let run = self.nodes[node].life;
                        self.history.on_start(id.number(), *start, run);
                    }
                }
                Record::Sound(_) if self.nodes[node].weak.is_some() => {
                    self.counts.one(Seen::Recalled);
                }
                _ => {}
            }
        }
        self.nodes[node].durable.extend(records);
        Ok(())
    }

    fn send_votes(&mut self, node: usize, votes: Vec<(To, Vote)>) -> Checked {
        let (id, life) = (self.nodes[node].id, self.nodes[node].life);
        for (to, vote) in votes {
            self.watch.on_vote(id, life, &vote)?;
            if to == To::One(id) {
                self.tell_core(node, Arrival::Own(vote));
            } else {
                let text = line(|bytes| write_vote(bytes, &vote));
                self.send_to(node, to, &text);
            }
        }
        Ok(())
    }

    /// D8: the acceptor comes back by the same code as after a restart.
    fn recover_acceptor(&mut self, node: usize) -> Checked {
        let at = &mut self.nodes[node];
        let run = at.running.as_mut().expect("it runs");
        match run.log.read_all() {
            Ok(records) => {
                let more = memory::news(at.id, &at.durable, &[], at.trim_max, &records)?;
                ensure!(more.is_empty(), "{}: nothing more is durable", at.id);
                let records = with_mistake(self.mistake, records);
                let acceptor = Acceptor::recover(&records);
                self.tell_core(node, Arrival::Recovered(acceptor));
                Ok(())
            }
            Err(error) => self.disk_failed(node, &error),
        }
    }

    /// P37, P38: after a failed write or sync the process ends; somebody starts it again.
    fn disk_failed(&mut self, node: usize, error: &LogError) -> Checked {
        self.counts.one(Seen::DiskEnded);
        tell!(self, "n{} ends: {error}", node + 1);
        let power = self.disk_dice.chance(300);
        let wait = self.disk_dice.between(50 * MS..=300 * MS);
        let noticed = true;
        self.crash(node, Crash { power, noticed })?;
        self.clock.after(wait, Due::Start { node });
        Ok(())
    }

    // --- Links ---

    /// A closed link is dialled.
    pub(super) fn on_dial(&mut self, from: usize, to: usize) {
        let both = self.nodes[from].running.is_some() && self.nodes[to].running.is_some();
        if !both || self.network.is_open(from, to) {
            return;
        }
        if self.network.is_cut(from, to) || self.network.is_cut(to, from) {
            let wait = self.node_dice.between(5 * MS..=60 * MS);
            self.clock.after(wait, Due::Dial { from, to });
            return;
        }
        self.network.open(from, to);
        self.arrive(from, Arrival::LinkUp(to));
    }

    /// Closes a link; its far end notices, or does not.
    pub(super) fn close(&mut self, from: usize, to: usize, noticed: bool) {
        let (was_open, lost) = self.network.close(from, to);
        self.counts.many(Seen::Lost, lost as u64);
        if was_open && noticed {
            self.arrive(to, Arrival::LinkDown(from));
        }
    }
}

/// What the snapshot's thread does, and the log thread after it.
pub(super) fn keep_image(run: &mut Running, dir: &SimDir, image: &Store) -> Result<(), LogError> {
    let bytes = snapshot::write(dir, image)?;
    run.growth.on_snapshot(bytes);
    run.log.trim(Slot(image.applied()))?.run()
}

/// The name of the first segment of a log.
fn oldest_segment(dir: &SimDir) -> Option<String> {
    let names = dir.list().unwrap_or_default();
    names.into_iter().find(|name| name.starts_with("log-"))
}

/// What the log thread does with a group, but for the votes.
pub(super) fn keep(run: &mut Running, group: &Group) -> Result<(), LogError> {
    run.log.append(&group.records)?;
    run.pending.extend_from_slice(&group.records);
    run.pending_bytes += group.records.iter().map(bytes_of).sum::<usize>();
    if group.sync {
        run.log.commit()?;
    } else if run.pending_bytes > PENDING_BYTES_MAX {
        run.log.write()?;
        run.pending_bytes = 0;
    }
    Ok(())
}

/// About how many bytes a record takes.
fn bytes_of(record: &Record) -> usize {
    64 + match record {
        Record::Accept(_, _, value) | Record::Learn(_, value) => value.as_bytes().len(),
        _ => 0,
    }
}
