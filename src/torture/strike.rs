//! The servers with the faults that are on them: how each kind begins, and how it is over.
//!
//! Faults overlap: a server that is to be killed may be down already. Then that fault does nothing to
//! it, and says so by not being *felt*; what has been done is undone by who did it, and by
//! [`Field::heal`] at the latest.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::counts::Counts;
use super::damage;
use super::link::{Passage, Traffic};
use super::links::Pair;
use super::load::limits;
use super::plan::{Fault, Kind};
use super::servers::Servers;
use crate::client::Connection;
use crate::client::peek::{Peek, Peeker, leader};
use crate::paxos::types::NodeId;
use crate::wire::client::{Reply, Request};

/// A server that does not tell its status so soon has no say in who leads.
const PEEK_TIMEOUT: Duration = Duration::from_millis(200);

/// So many syncs a slow one may stand for: where the log begins a new file it makes some that are not slow.
const SYNCS_PER_SLOW: u128 = 2;

/// What the log of a server says when it has been told again what it forgot.
const RECALLED: &str = "all that this server may have forgotten is here again";

/// What the log of a server says when it finds its log damaged.
const DAMAGED_LOG: &str = "votes of this server may rest on what is lost";

/// What the log of a server says when it finds a snapshot damaged.
const DAMAGED_SNAPSHOT: &str = "damaged snapshot at byte";

/// The servers, and what is done to them.
pub(super) struct Field {
    pub(super) servers: Servers,
    pub(super) counts: Counts,
    /// Which bytes were flipped, for the journal.
    pub(super) damaged: Vec<String>,
    peekers: BTreeMap<NodeId, Peeker>,
    /// The faults that have begun and are not over, each under a number of its own.
    active: BTreeMap<usize, Active>,
    /// The servers that lost their memory since the last calm, with what the plan did to each.
    victims: Vec<Victim>,
}

/// A server whose memory was taken, until all is well again and its log says what it noticed.
struct Victim {
    id: NodeId,
    kind: Kind,
    /// How long its log was before.
    log_bytes: u64,
}

/// How many syncs a server has made, and when it said so.
struct Syncs {
    process: u32,
    count: u64,
    asked: Instant,
}

impl Syncs {
    /// Whether this process has made syncs since, and no more than it can have made if each took `slow` longer;
    /// one may have been under way already. With clients at work, a disk that is not slow makes many more.
    fn were_slow(&self, since: &Self, slow: Duration) -> bool {
        let count = self.count.saturating_sub(since.count);
        let longest: u128 = self.asked.duration_since(since.asked).as_millis();
        let least = u128::from(count.saturating_sub(1)) * slow.as_millis();
        self.process == since.process && count >= 2 && least <= SYNCS_PER_SLOW * longest
    }
}

/// A fault that has begun.
struct Active {
    kind: Kind,
    /// The servers to which something was done.
    struck: Vec<NodeId>,
    /// What it makes of which links.
    links: Vec<(Pair, Passage)>,
    /// What had gone through these links before.
    before: Traffic,
    /// How much longer a sync takes, where disks are slow.
    slow: Duration,
    /// What the servers whose disks are slow had synced before.
    syncs: BTreeMap<NodeId, Syncs>,
}

impl Field {
    pub(super) fn new(servers: Servers) -> Self {
        let peeker = |&id: &NodeId| (id, Peeker::new(servers.address(id), PEEK_TIMEOUT));
        Self {
            peekers: servers.members().iter().map(peeker).collect(),
            servers,
            counts: Counts::default(),
            damaged: Vec::new(),
            active: BTreeMap::new(),
            victims: Vec::new(),
        }
    }

    /// How each server says it is doing; none of one that does not.
    pub(super) fn peeks(&mut self) -> Vec<(NodeId, Option<Peek>)> {
        let servers = &self.servers;
        let answers = |id| servers.is_up(id) && !servers.is_frozen(id);
        let peeks = self.peekers.iter_mut();
        peeks
            .map(|(&id, peeker)| (id, answers(id).then(|| peeker.peek()).flatten()))
            .collect()
    }

    fn leader(&mut self) -> Option<NodeId> {
        let peeks: Vec<Peek> = self
            .peeks()
            .into_iter()
            .filter_map(|(_, peek)| peek)
            .collect();
        leader(&peeks).map(|peek| peek.id)
    }

    /// Begins a fault.
    pub(super) fn begin(&mut self, number: usize, mut fault: Fault) -> Result<(), String> {
        if fault.leader_first {
            let leader = self.leader();
            fault.settle(leader);
        }
        let links = fault.links();
        let pairs: Vec<Pair> = links.iter().map(|(pair, _)| *pair).collect();
        let mut active = Active {
            kind: fault.kind,
            struck: Vec::new(),
            before: self.traffic(&pairs),
            links,
            slow: fault.delay,
            syncs: BTreeMap::new(),
        };
        active.struck = self.strike(&fault, &active)?;
        if fault.kind == Kind::SlowDisk {
            let struck = active.struck.iter();
            active.syncs = struck
                .filter_map(|&id| Some((id, self.syncs(id)?)))
                .collect();
        }
        self.active.insert(number, active);
        self.set_links();
        Ok(())
    }

    /// Kills servers and takes their memory; whom it met. A server that has no snapshot keeps it.
    fn take_memory(&mut self, fault: &Fault, mut up: Vec<NodeId>) -> Result<Vec<NodeId>, String> {
        if fault.kind == Kind::FlipSnapshot {
            up.retain(|&id| damage::has_snapshot(&self.servers.data(id)));
        }
        self.servers.kill(&up)?;
        self.counts.kills += up.len() as u64;
        for &id in &up {
            let dir = self.servers.data(id);
            let done = match fault.kind {
                Kind::Wipe => damage::empty(&dir).map(|()| None),
                Kind::Flip => damage::flip_in_log(&dir, fault.dice),
                _ => damage::flip_in_snapshot(&dir, fault.dice),
            };
            let done = done.map_err(|error| format!("cannot damage the data of {id}: {error}"))?;
            self.damaged
                .extend(done.map(|place| format!("{id}: {place}")));
            self.victims.push(Victim {
                id,
                kind: fault.kind,
                log_bytes: self.servers.log_bytes(id),
            });
        }
        Ok(up)
    }

    /// Counts which of those that lost their memory noticed it: to be called when all vote again.
    pub(super) fn hear_victims(&mut self) -> Result<(), String> {
        for Victim {
            id,
            kind,
            log_bytes,
        } in std::mem::take(&mut self.victims)
        {
            let words = match kind {
                Kind::Wipe => RECALLED,
                Kind::Flip => DAMAGED_LOG,
                _ => DAMAGED_SNAPSHOT,
            };
            let felt = self.servers.said_since(id, log_bytes, words)?;
            if kind == Kind::Wipe && !felt {
                return Err(format!(
                    "{id} was wiped, and votes without having been told what it forgot"
                ));
            }
            self.counts.came(kind, felt);
        }
        Ok(())
    }

    /// Does to servers what is to be done to them, and closes links; whom it met.
    fn strike(&mut self, fault: &Fault, active: &Active) -> Result<Vec<NodeId>, String> {
        let up = those(fault.struck(), |id| self.servers.is_up(id));
        let awake = those(&up, |id| !self.servers.is_frozen(id));
        match fault.kind {
            Kind::KillOne | Kind::KillMinority | Kind::KillAll => {
                self.servers.kill(&up)?;
                self.counts.kills += up.len() as u64;
                Ok(up)
            }
            Kind::Restart => {
                for &id in &awake {
                    self.servers.stop(id)?;
                    self.counts.stops += 1;
                }
                Ok(awake)
            }
            Kind::FreezeOne | Kind::FreezeMinority => {
                for &id in &awake {
                    self.servers.freeze(id)?;
                    self.counts.freezes += 1;
                }
                Ok(awake)
            }
            Kind::Acceptors => {
                let failed = those(&awake, |id| self.tell(id, &Request::Fail));
                self.counts.acceptors += failed.len() as u64;
                Ok(failed)
            }
            Kind::SlowDisk => Ok(those(&awake, |id| {
                self.tell_slow(id, fault.delay.max(self.slowest(id)))
            })),
            Kind::Wipe | Kind::Flip | Kind::FlipSnapshot => self.take_memory(fault, up),
            _ => {
                self.counts.partitions +=
                    u64::from(!matches!(fault.kind, Kind::Close | Kind::Delay));
                if fault.kind == Kind::Close {
                    for (pair, _) in &active.links {
                        self.servers.links().link(*pair).close();
                    }
                }
                Ok(Vec::new())
            }
        }
    }

    /// Ends a fault.
    pub(super) fn end(&mut self, number: usize) -> Result<(), String> {
        let active = self.active.remove(&number).expect("it has begun");
        let was_slow = self.were_slow(&active);
        for &id in &active.struck {
            match active.kind {
                Kind::KillOne
                | Kind::KillMinority
                | Kind::KillAll
                | Kind::Restart
                | Kind::Wipe
                | Kind::Flip
                | Kind::FlipSnapshot => self.start(id)?,
                Kind::FreezeOne | Kind::FreezeMinority => self.thaw(id)?,
                Kind::Acceptors => {
                    self.tell(id, &Request::Recover);
                }
                // One that is down or frozen is told in the calm, as one whose acceptor failed is.
                Kind::SlowDisk if self.servers.is_up(id) && !self.servers.is_frozen(id) => {
                    self.tell_slow(id, self.slowest(id));
                }
                _ => {}
            }
        }
        let pairs: Vec<Pair> = active.links.iter().map(|(pair, _)| *pair).collect();
        let disturbed = self.traffic(&pairs).since(active.before).was_disturbed();
        self.set_links();
        // A server that lost its memory says itself whether it has noticed.
        if !active.kind.takes_memory() {
            let felt = match active.kind {
                Kind::SlowDisk => was_slow,
                _ => disturbed || !active.struck.is_empty(),
            };
            self.counts.came(active.kind, felt);
        }
        Ok(())
    }

    /// Ends all that is on: every server runs, every link is open. (Acceptors are told to recover, and
    /// disks not to be slow, by who waits until all servers serve: only a server that is up can be told.)
    pub(super) fn heal(&mut self) -> Result<(), String> {
        while let Some(&number) = self.active.keys().next() {
            self.end(number)?;
        }
        for id in self.servers.members() {
            self.thaw(id)?;
            self.start(id)?;
        }
        self.set_links();
        Ok(())
    }

    /// Starts a server that is down.
    fn start(&mut self, id: NodeId) -> Result<(), String> {
        if !self.servers.is_up(id) {
            self.servers.start(id)?;
            self.counts.starts += 1;
        }
        Ok(())
    }

    /// Lets a server go on that is frozen.
    fn thaw(&mut self, id: NodeId) -> Result<(), String> {
        if self.servers.is_up(id) && self.servers.is_frozen(id) {
            self.servers.thaw(id)?;
        }
        Ok(())
    }

    /// Whether the server has done it.
    fn tell(&self, id: NodeId, request: &Request) -> bool {
        let connection = Connection::open(&self.servers.address(id), limits());
        let reply = connection.and_then(|mut connection| connection.ask(request));
        matches!(reply, Ok(Reply::Ok))
    }

    fn tell_slow(&self, id: NodeId, slow: Duration) -> bool {
        let millis = slow.as_millis().try_into().expect("a plan has short times");
        self.tell(id, &Request::Slow(millis))
    }

    /// How slow the faults that are on make a disk.
    fn slowest(&self, id: NodeId) -> Duration {
        let slow = |active: &&Active| active.kind == Kind::SlowDisk && active.struck.contains(&id);
        let slow = self.active.values().filter(slow);
        slow.map(|active| active.slow).max().unwrap_or_default()
    }

    /// What a server has synced; none if it does not say.
    fn syncs(&mut self, id: NodeId) -> Option<Syncs> {
        let process = self.servers.process(id)?;
        if self.servers.is_frozen(id) {
            return None;
        }
        let peeker = self.peekers.get_mut(&id)?;
        // The connection may still be one to a process that was killed.
        let peek = peeker.peek().or_else(|| peeker.peek())?;
        let count = peek.spent.syncs?;
        Some(Syncs {
            process,
            count,
            asked: Instant::now(),
        })
    }

    /// Whether a server whose disk was to be slow shows it.
    fn were_slow(&mut self, active: &Active) -> bool {
        let mut struck = active.syncs.iter();
        struck.any(|(&id, before)| {
            let now = self.syncs(id);
            now.is_some_and(|now| now.were_slow(before, active.slow))
        })
    }

    fn set_links(&self) {
        let faults = self.active.values().flat_map(|active| &active.links);
        self.servers.links().set(faults);
    }

    fn traffic(&self, pairs: &[Pair]) -> Traffic {
        let links = pairs.iter().map(|&pair| self.servers.links().link(pair));
        links.fold(Traffic::default(), |sum, link| sum.plus(link.traffic()))
    }
}

/// Those of `of` of whom it is true.
fn those(of: &[NodeId], which: impl Fn(NodeId) -> bool) -> Vec<NodeId> {
    of.iter().copied().filter(|&id| which(id)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_was_slow_if_one_process_synced_and_no_more_often_than_a_slow_one_can() {
        let begin = Instant::now();
        let at = |millis, process, count| Syncs {
            process,
            count,
            asked: begin + Duration::from_millis(millis),
        };
        let slow = Duration::from_millis(30);
        for (millis, process, count, expected) in [
            (300, 7, 100, false),
            (300, 7, 101, false),
            (300, 7, 102, true),
            (300, 7, 121, true),
            (300, 7, 122, false),
            (300, 7, 90, false),
            (300, 8, 105, false),
        ] {
            let now = at(millis, process, count);
            let found = now.were_slow(&at(0, 7, 100), slow);
            assert_eq!(found, expected, "{millis} ms, {process}, {count} syncs");
        }
    }
}
