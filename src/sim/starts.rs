//! How a node ends and starts: crashes at any point, and what its disk must say afterwards.

use std::sync::Arc;

use super::clock::{Due, MS};
use super::counts::Seen;
use super::disk::SimDir;
use super::memory::{self, with_mistake};
use super::node::{Crash, Harm, Running, Snapshot};
use super::steps::{START_AGAIN, keep, keep_image};
use super::watch::{Checked, ensure};
use super::world::{World, tell};
use crate::disk::LogError;
use crate::disk::dir::Dir;
use crate::disk::log::{Log, Recovery};
use crate::paxos::record::Record;
use crate::paxos::types::Slot;
use crate::replica::growth::Growth;
use crate::replica::{Config, Replica};

/// How often a start crashes.
const CRASH_IN_START_PER_MILLE: u64 = 200;

/// Within this many changes: to remove what a crash left, to cut a torn end, to write down a loss.
const STEPS_OF_START: u64 = 8;

impl World {
    /// The process is gone, and with the power what was not synced. What the log thread was about
    /// to do may have been done, up to any of its steps.
    pub(super) fn crash(&mut self, node: usize, crash: Crash) -> Checked {
        let Some(mut run) = self.nodes[node].running.take() else {
            return Ok(());
        };
        let Crash { power, noticed } = crash;
        self.counts
            .one(if power { Seen::PowerLost } else { Seen::Killed });
        let id = self.nodes[node].id;
        tell!(
            self,
            "{id} crash{}",
            if power { ", power lost" } else { "" }
        );
        if let Some(group) = run.group.take() {
            // A commit is a write and a sync, or eight changes when a segment begins.
            let changes = self.disk_dice.pick(&[0, 1, 1, 1, 2, 3, 4, 5, 6, 7]);
            self.nodes[node].dir.cut_power_after(changes);
            if keep(&mut run, &group).is_ok() && group.sync {
                let pending = std::mem::take(&mut run.pending);
                self.on_durable(node, pending)?;
            }
        } else if let Snapshot::Writing(image) = &run.snapshot {
            // P21: a snapshot is a dozen changes, and the trim behind it twice as many, most of them to
            // remove files.
            let image = Arc::clone(image);
            let changes = self.disk_dice.below(36);
            let at = &mut self.nodes[node];
            at.trim_max = at.trim_max.max(Slot(image.applied()));
            at.dir.cut_power_after(u32::try_from(changes).expect("few"));
            self.counts.one(Seen::CrashedInSnapshot);
            // It may be whole: then what it committed is durable, and read back.
            let _ = keep_image(&mut run, &at.dir, &image);
        }
        self.nodes[node].maybe = run.pending;
        let dir = &self.nodes[node].dir;
        if power && dir.unsynced_writes() > 0 {
            self.counts.one(Seen::WritesLost);
        }
        self.nodes[node].dir = if power {
            dir.after_power_loss(&mut self.disk_dice)
        } else {
            dir.after_kill()
        };
        self.watch.on_crash(id);
        for peer in 0..self.nodes.len() {
            if peer != node {
                self.close(node, peer, noticed);
                self.close(peer, node, false);
            }
        }
        self.lose_batches(node, noticed);
        Ok(())
    }

    pub(super) fn on_start(&mut self, node: usize) -> Checked {
        let at = &self.nodes[node];
        if at.running.is_some() || at.stays_down {
            return Ok(());
        }
        // P42: a crash may strike again in any step of the start after it.
        if self.disk_dice.chance(CRASH_IN_START_PER_MILLE) {
            let changes = self.disk_dice.below(STEPS_OF_START);
            let changes = u32::try_from(changes).expect("few");
            self.nodes[node].dir.cut_power_after(changes);
        }
        let opened = self.open_log(node);
        let power_went = self.nodes[node].dir.power_is_back();
        match opened {
            Ok((log, recovery)) => self.start_from(node, log, recovery),
            Err(error) if power_went => {
                tell!(self, "n{} crash in its start: {error}", node + 1);
                self.counts.one(Seen::CrashedInStart);
                self.nodes[node].failed_starts += 1;
                let dir = &self.nodes[node].dir;
                self.nodes[node].dir = if self.disk_dice.chance(500) {
                    dir.after_power_loss(&mut self.disk_dice)
                } else {
                    dir.after_kill()
                };
                self.clock.after(START_AGAIN, Due::Start { node });
                Ok(())
            }
            Err(LogError::Io { .. }) => {
                self.nodes[node].failed_starts += 1;
                self.clock.after(START_AGAIN, Due::Start { node });
                Ok(())
            }
            Err(error) => Err(format!("n{}: the log is refused: {error}", node + 1)),
        }
    }

    /// As `disk::home` and `server` do.
    fn open_log(&self, node: usize) -> Result<(Log<SimDir>, Recovery), LogError> {
        let at = &self.nodes[node];
        let blank = at.life == 0 || at.harm == Some(Harm::Wiped { blank: true });
        // A start that failed may have made it already.
        let segment = |name: &String| name.starts_with("log-");
        if blank && at.dir.list().is_ok_and(|names| !names.iter().any(segment)) {
            Log::create(&at.dir, &self.log_options)?;
        }
        Log::open(at.dir.clone(), self.log_options)
    }

    /// Holds what a start read against what was durable, and what the plan did to the disk.
    fn check_recovery(&mut self, node: usize, recovery: &Recovery) -> Checked {
        let at = &mut self.nodes[node];
        let (id, harm) = (at.id, at.harm.take());
        let damage = recovery.damage.first();
        let failed_starts = std::mem::take(&mut at.failed_starts);
        let known = failed_starts > 0 && memory::is_lost(&recovery.records);
        let harmed = matches!(harm, Some(Harm::Log | Harm::Wiped { blank: false }));
        ensure!(
            damage.is_some() == harmed || harmed && known,
            "P40: after {harm:?} the log of {id} is found damaged: {damage:?}, cut {:?}",
            recovery.cut
        );
        let lost = recovery.snapshot_damage.first();
        // A damaged one stays until one of its slot or a later one is there.
        at.snapshot_flipped |= harm == Some(Harm::Snapshot);
        at.snapshot_flipped &= !matches!(harm, Some(Harm::Wiped { .. }));
        ensure!(
            lost.is_none() || at.snapshot_flipped,
            "P40: a sound snapshot of {id} is not used: {lost:?}"
        );
        ensure!(
            lost.is_some() || harm != Some(Harm::Snapshot),
            "P40: {id} does not see that its snapshot is damaged"
        );
        if let Some(damage) = damage {
            self.counts.one(Seen::Damaged);
            tell!(self, "{id} has lost its memory: {damage}");
        }
        if let Some(lost) = lost {
            self.counts.one(Seen::SnapshotDamaged);
            tell!(self, "{id} has lost its snapshot: {lost}");
            self.watch.on_snapshot_lost(id);
        }
        if let Some(store) = &recovery.snapshot {
            let known = self.watch.hash(Slot(store.applied()));
            ensure!(
                known.is_none_or(|known| known == store.hash()),
                "P24: the snapshot of {id} at s{} is not what was there",
                store.applied()
            );
        }
        if recovery.cut.is_some() {
            self.counts.one(Seen::TornTails);
        }
        self.check_records(node, harm, &recovery.records)
    }

    fn check_records(&mut self, node: usize, harm: Option<Harm>, records: &[Record]) -> Checked {
        let at = &mut self.nodes[node];
        let (id, maybe) = (at.id, std::mem::take(&mut at.maybe));
        match harm {
            None | Some(Harm::Snapshot) => {
                let news = memory::news(id, &at.durable, &maybe, at.trim_max, records)?;
                return self.on_durable(node, news);
            }
            Some(Harm::Log) => memory::remains(id, &at.durable, &maybe, records)?,
            Some(Harm::Wiped { .. }) => at.trim_max = Slot::ZERO,
        }
        at.start = 0;
        at.durable.clear();
        self.watch.on_memory_lost(id);
        self.on_durable(node, records.to_vec())
    }

    fn start_from(&mut self, node: usize, mut log: Log<SimDir>, recovery: Recovery) -> Checked {
        self.check_recovery(node, &recovery)?;
        let at = &mut self.nodes[node];
        let id = at.id;
        // What it remembers is what it read, repeats of the log's own and all.
        let remembered = with_mistake(self.mistake, recovery.records);
        let config = Config {
            me: id,
            members: self.members.clone(),
            seed: self.seed ^ u64::from(id.number()),
            mark: self.node_dice.mark(),
            deadline_ticks: self.plan.deadline_ticks,
            preload: self.preload.clone(),
        };
        let growth = Growth::new(self.plan.log_bytes_max, recovery.snapshot_bytes);
        let (mut replica, start) = Replica::recover(config, recovery.snapshot, &remembered);
        if let Err(LogError::Io { .. }) = log
            .append(std::slice::from_ref(&start))
            .and_then(|()| log.commit())
        {
            // What a failed commit left may be read back later.
            at.dir = at.dir.after_kill();
            at.maybe = vec![start];
            self.clock.after(START_AGAIN, Due::Start { node });
            return Ok(());
        }
        if at.life > 0 {
            self.counts.one(Seen::Restarts);
        }
        let Record::Start(number) = start else {
            return Err(format!("{id} starts with {start:?}"));
        };
        ensure!(
            number > at.start,
            "P52: start {number} of {id} comes after start {}",
            at.start
        );
        at.life += 1;
        self.history.on_start(id.number(), number, at.life);
        tell!(self, "{id} restart");
        self.on_durable(node, vec![start])?;
        let status = replica.status();
        self.watch.on_start(id, &status)?;
        let news = self.watch.look(id, &mut replica, &status)?;
        self.on_news(news)?;
        let at = &mut self.nodes[node];
        at.running = Some(Running::new(replica, log, growth));
        let life = at.life;
        let wait = self.node_dice.below(at.tick);
        self.clock.after(wait, Due::Tick { node, life });
        for peer in 0..self.nodes.len() {
            if peer != node {
                let soon = self.node_dice.below(3 * MS);
                self.clock.after(
                    soon,
                    Due::Dial {
                        from: node,
                        to: peer,
                    },
                );
                let later = self.node_dice.below(30 * MS);
                self.clock.after(
                    later,
                    Due::Dial {
                        from: peer,
                        to: node,
                    },
                );
            }
        }
        Ok(())
    }
}
