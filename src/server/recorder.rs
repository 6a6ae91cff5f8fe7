//! The log thread: the only way a vote leaves.
//!
//! It takes everything that waits, appends all records, makes one sync, and only then sends the
//! votes; so the more waits, the more share a sync. Votes that come without records leave in the
//! same order, behind all records of earlier steps; those of a node for itself are told to the core at
//! their turn, so what it has voted is told before any other node can know (P53). Records that bind no vote ride along with the
//! next sync. It encodes the votes too, which takes that work off the core.
//!
//! When the log has grown, by the rule of [`Growth`], it asks the core for a snapshot. A thread of its own
//! writes that, while the log goes on; then the log is trimmed, and a thread of its own removes what
//! is left over. Should the log reach its bound before, it waits for them: a server that writes faster
//! than its disk takes snapshots slows down, and does not fill the disk.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, TrySendError};
use log::{debug, info, warn};

use crate::disk::LogError;
use crate::disk::dir::Dir;
use crate::disk::log::Log;
use crate::disk::snapshot;
use crate::kv::store::Store;
use crate::outbox::{To, needs_sync};
use crate::paxos::acceptor::Acceptor;
use crate::paxos::message::Vote;
use crate::paxos::record::Record;
use crate::paxos::types::{NodeId, Slot};
use crate::replica::growth::{Growth, Wanted};
use crate::wire::peer::write_vote;

use super::core::Event;
use super::peers::line_of;
use super::{SharedOutgoing, StartError, end_on_disk_failure, lane, spawn};

/// How many jobs share a sync at most.
const JOBS_MAX: usize = 1_024;

/// How many bytes of records share a sync at most, but for those of one job.
const GROUP_BYTES_MAX: usize = 4 << 20;

/// Records that need no sync are written, and so leave the memory, at so many bytes.
const UNSYNCED_BYTES_MAX: usize = 1 << 20;

/// What the log thread is to do.
#[derive(Debug)]
enum Job {
    /// The records and votes of a round of steps.
    Step {
        records: Vec<Record>,
        votes: Vec<(To, Vote)>,
        bytes: usize,
    },
    /// Read the log back for an acceptor that recovers.
    Recover,
    /// Make this snapshot durable.
    Keep(Arc<Store>),
    /// A helper thread is done.
    Done,
    /// Commit what is there and end.
    Stop,
}

/// What the log thread tells the core.
#[derive(Debug)]
pub(super) enum Told {
    /// A vote of this node for itself, now that it is durable.
    Vote(Vote),
    /// The acceptor that the log's records make.
    Recovered(Acceptor),
    /// The log has grown: a snapshot is wanted.
    Grown(Wanted),
    /// This snapshot is durable.
    Kept(Arc<Store>),
    /// Everything is on disk, and the thread is gone.
    Stopped,
}

/// The syncs of the log, for those who count them or make them slow.
#[derive(Debug, Clone)]
pub(super) struct Syncs {
    /// How many were made.
    pub(super) count: Arc<AtomicU64>,
    /// How many milliseconds longer a commit takes: a client plays a slow disk.
    pub(super) slow_ms: Arc<AtomicU64>,
}

/// The core's side of the log thread.
#[derive(Debug)]
pub(super) struct Recorder {
    jobs: Sender<Job>,
    told: Receiver<Told>,
    waiting_bytes: Arc<AtomicUsize>,
    syncs: Syncs,
}

impl Recorder {
    /// Hands over a round's records and votes. Never waits.
    pub(super) fn step(&self, records: Vec<Record>, votes: Vec<(To, Vote)>) {
        let bytes = records.iter().map(record_bytes).sum();
        self.waiting_bytes.fetch_add(bytes, Ordering::Relaxed);
        self.send(Job::Step {
            records,
            votes,
            bytes,
        });
    }

    /// Asks for the acceptor that the log's records make.
    pub(super) fn recover(&self) {
        self.send(Job::Recover);
    }

    /// Asks for a snapshot to be made durable.
    pub(super) fn keep(&self, image: Arc<Store>) {
        self.send(Job::Keep(image));
    }

    /// Asks the thread to end.
    pub(super) fn stop(&self) {
        self.send(Job::Stop);
    }

    /// What the thread had to tell since.
    pub(super) fn told(&self) -> impl Iterator<Item = Told> + '_ {
        self.told.try_iter()
    }

    /// Waits until the thread tells something.
    pub(super) fn wait(&self) -> Option<Told> {
        self.told.recv().ok()
    }

    /// How many bytes of records wait for the disk.
    pub(super) fn waiting_bytes(&self) -> usize {
        self.waiting_bytes.load(Ordering::Relaxed)
    }

    /// The syncs of the log.
    pub(super) fn syncs(&self) -> Syncs {
        self.syncs.clone()
    }

    fn send(&self, job: Job) {
        self.jobs
            .send(job)
            .expect("the log thread outlives the core, or ends the process");
    }
}

/// Starts the log thread.
pub(super) fn start<D: Dir>(
    log: Log<D>,
    dir: D,
    growth: Growth,
    me: NodeId,
    outgoing: SharedOutgoing,
    events: &Sender<Event>,
) -> Result<Recorder, StartError> {
    let (jobs_tx, jobs) = lane();
    let (told_tx, told) = lane();
    let waiting_bytes = Arc::new(AtomicUsize::new(0));
    let (done_tx, done) = lane();
    let syncs = Syncs {
        count: log.syncs(),
        slow_ms: Arc::new(AtomicU64::new(0)),
    };
    let thread = Thread {
        log,
        dir,
        growth,
        snapshot: Snapshot::None,
        done,
        done_tx,
        me,
        jobs,
        jobs_tx: jobs_tx.clone(),
        told: told_tx,
        events: events.clone(),
        outgoing,
        waiting_bytes: Arc::clone(&waiting_bytes),
        slow_ms: Arc::clone(&syncs.slow_ms),
        unsynced_bytes: 0,
    };
    spawn("log", move || thread.run())?;
    Ok(Recorder {
        jobs: jobs_tx,
        told,
        waiting_bytes,
        syncs,
    })
}

/// Where a snapshot is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Snapshot {
    /// None is under way, but the core may have been asked for one.
    None,
    /// A thread writes it.
    Writing,
    /// It is durable; a thread removes what it is there instead of.
    Removing,
}

/// What a helper thread has done.
#[derive(Debug)]
enum Done {
    /// This snapshot is durable, and so large.
    Written(Arc<Store>, usize),
    /// What a trim left over is gone.
    Removed,
}

struct Thread<D: Dir> {
    log: Log<D>,
    dir: D,
    growth: Growth,
    snapshot: Snapshot,
    done: Receiver<Done>,
    done_tx: Sender<Done>,
    me: NodeId,
    jobs: Receiver<Job>,
    jobs_tx: Sender<Job>,
    told: Sender<Told>,
    events: Sender<Event>,
    outgoing: SharedOutgoing,
    waiting_bytes: Arc<AtomicUsize>,
    slow_ms: Arc<AtomicU64>,
    /// Of records that were appended and need no sync of their own.
    unsynced_bytes: usize,
}

impl<D: Dir> Thread<D> {
    fn run(mut self) {
        while let Ok(job) = self.jobs.recv() {
            self.wait_at_bound();
            let last = self.take_group(job);
            match last {
                None | Some(Job::Step { .. } | Job::Done) => {}
                Some(Job::Recover) => self.recover(),
                Some(Job::Keep(image)) => self.write_snapshot(image),
                Some(Job::Stop) => {
                    self.commit();
                    self.tell(Told::Stopped);
                    return;
                }
            }
            self.take_done();
            self.want_snapshot();
            self.prepare_spare();
        }
    }

    // --- Snapshots ---

    /// Asks for a snapshot when the log has grown.
    fn want_snapshot(&mut self) {
        if self.snapshot == Snapshot::None
            && let Some(wanted) = self.growth.news(self.log.written_bytes())
        {
            self.tell(Told::Grown(wanted));
        }
    }

    /// Writes a snapshot, while the log goes on. One that a peer has sent may come right behind an own.
    fn write_snapshot(&mut self, image: Arc<Store>) {
        self.wait_for_removal();
        self.growth.on_image(self.log.written_bytes());
        let dir = self.dir.clone();
        self.help("snapshot", Snapshot::Writing, move || {
            let began = Instant::now();
            let bytes = snapshot::write(&dir, &image)?;
            info!(
                "wrote a snapshot of s{}: {} keys, {bytes} bytes in {} ms",
                image.applied(),
                image.len(),
                began.elapsed().as_millis()
            );
            Ok(Done::Written(image, bytes))
        });
    }

    /// Trims the log under a snapshot that is durable, and removes what is left over, while the log
    /// goes on.
    fn trim(&mut self, image: Arc<Store>) {
        let before = self.log.bytes();
        let removal = self
            .log
            .trim(Slot(image.applied()))
            .unwrap_or_else(|error| end_on_disk_failure(&error));
        debug!("trimmed the log: {before} bytes, now {}", self.log.bytes());
        self.tell(Told::Kept(image));
        self.help("removal", Snapshot::Removing, move || {
            removal.run().map(|()| Done::Removed)
        });
    }

    /// Has a thread of its own do this.
    fn help(
        &mut self,
        thread: &str,
        state: Snapshot,
        work: impl FnOnce() -> Result<Done, LogError> + Send + 'static,
    ) {
        let (done, jobs) = (self.done_tx.clone(), self.jobs_tx.clone());
        let started = spawn(thread, move || {
            let _ = done.send(work().unwrap_or_else(|error| end_on_disk_failure(&error)));
            let _ = jobs.send(Job::Done);
        });
        match started {
            Ok(_) => self.snapshot = state,
            Err(error) => end_on_disk_failure(&error),
        }
    }

    fn on_done(&mut self, done: Done) {
        match done {
            Done::Written(image, bytes) => {
                self.growth.on_snapshot(bytes);
                self.trim(image);
            }
            Done::Removed => self.snapshot = Snapshot::None,
        }
    }

    fn take_done(&mut self) {
        while let Ok(done) = self.done.try_recv() {
            self.on_done(done);
        }
    }

    /// Waits until the helper thread that is at work is done.
    fn wait_for_helper(&mut self) {
        if let Ok(done) = self.done.recv() {
            self.on_done(done);
        }
    }

    fn wait_for_removal(&mut self) {
        while self.snapshot == Snapshot::Removing {
            self.wait_for_helper();
        }
    }

    /// A log at its bound waits for the snapshot under which it can be trimmed.
    fn wait_at_bound(&mut self) {
        if !self.is_full() {
            return;
        }
        let began = Instant::now();
        while self.is_full() {
            self.wait_for_helper();
        }
        warn!(
            "the log was full: waited {} ms for a snapshot",
            began.elapsed().as_millis()
        );
    }

    /// At its bound, and a helper thread is at work to change that.
    fn is_full(&self) -> bool {
        let helped = matches!(self.snapshot, Snapshot::Writing | Snapshot::Removing);
        helped && self.log.bytes() >= self.growth.bytes_max()
    }

    // --- Records and votes ---

    /// Makes `job` and all steps that wait behind it durable and sends their votes. Returns a job of
    /// another kind that ended the group.
    fn take_group(&mut self, job: Job) -> Option<Job> {
        let mut votes = Vec::new();
        let mut sync = false;
        let mut group_bytes = 0;
        let mut next = Some(job);
        let mut taken = 0;
        let last = loop {
            match next {
                Some(Job::Step {
                    records,
                    votes: more,
                    bytes,
                }) => {
                    sync |= needs_sync(&records, &more);
                    self.append(&records);
                    votes.extend(more);
                    group_bytes += bytes;
                    taken += 1;
                }
                other => break other,
            }
            if taken >= JOBS_MAX || group_bytes >= GROUP_BYTES_MAX {
                break None;
            }
            next = self.jobs.try_recv().ok();
        };
        self.unsynced_bytes += group_bytes;
        if sync {
            self.commit();
        } else if self.unsynced_bytes > UNSYNCED_BYTES_MAX {
            self.log
                .write()
                .unwrap_or_else(|error| end_on_disk_failure(&error));
            self.unsynced_bytes = 0;
        }
        self.waiting_bytes.fetch_sub(group_bytes, Ordering::Relaxed);
        self.send_votes(votes);
        last
    }

    fn append(&mut self, records: &[Record]) {
        self.log
            .append(records)
            .unwrap_or_else(|error| end_on_disk_failure(&error));
    }

    fn commit(&mut self) {
        // Here, so that what waits for a slow disk waits for this too: the votes, and all jobs behind them.
        let slow = Duration::from_millis(self.slow_ms.load(Ordering::Relaxed));
        if !slow.is_zero() {
            thread::sleep(slow);
        }
        self.log
            .commit()
            .unwrap_or_else(|error| end_on_disk_failure(&error));
        self.unsynced_bytes = 0;
    }

    fn send_votes(&self, votes: Vec<(To, Vote)>) {
        let mut own = false;
        for (to, vote) in votes {
            if to == To::One(self.me) {
                // Its vote for another's ballot moves nothing: the core hears it before it answers a
                // probe, and need not be woken.
                own |= !matches!(vote, Vote::Accepted { ballot, .. } if ballot.node() != Some(self.me));
                let _ = self.told.send(Told::Vote(vote));
            } else {
                self.outgoing
                    .send(to, &line_of(|out| write_vote(out, &vote)));
            }
        }
        if own {
            self.wake_core();
        }
    }

    /// D8: the same code as after a restart of the process.
    fn recover(&mut self) {
        // Or a file could go just when it is to be read.
        self.wait_for_removal();
        self.commit();
        let records = self
            .log
            .read_all()
            .unwrap_or_else(|error| end_on_disk_failure(&error));
        self.tell(Told::Recovered(Acceptor::recover(&records)));
    }

    fn prepare_spare(&self) {
        let Some(job) = self.log.spare_job() else {
            return;
        };
        let made = spawn("spare", move || {
            if let Err(error) = job.make() {
                warn!("cannot make the log's next segment ahead of need: {error}");
            }
        });
        if let Err(error) = made {
            warn!("{error}");
        }
    }

    fn tell(&self, told: Told) {
        let _ = self.told.send(told);
        self.wake_core();
    }

    /// The core looks here after every event; a full channel will make it look soon.
    fn wake_core(&self) {
        match self.events.try_send(Event::Wake) {
            Ok(()) | Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => {}
        }
    }
}

/// About how many bytes a record takes.
fn record_bytes(record: &Record) -> usize {
    64 + match record {
        Record::Accept(_, _, value) | Record::Learn(_, value) => value.as_bytes().len(),
        _ => 0,
    }
}

#[cfg(test)]
mod tests;
