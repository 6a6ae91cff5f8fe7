//! The servers with the faults that are on them: how each kind begins, and how it is over.
//!
//! Faults overlap: a server that is to be killed may be down already. Then that fault does nothing to
//! it, and says so by not being *felt*; what has been done is undone by who did it, and by
//! [`Field::heal`] at the latest.

use std::collections::BTreeMap;
use std::time::Duration;

use super::counts::Counts;
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

/// The servers, and what is done to them.
pub(super) struct Field {
    pub(super) servers: Servers,
    pub(super) counts: Counts,
    peekers: BTreeMap<NodeId, Peeker>,
    /// The faults that have begun and are not over, each under a number of its own.
    active: BTreeMap<usize, Active>,
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
}

impl Field {
    pub(super) fn new(servers: Servers) -> Self {
        let peeker = |&id: &NodeId| (id, Peeker::new(servers.address(id), PEEK_TIMEOUT));
        Self {
            peekers: servers.members().iter().map(peeker).collect(),
            servers,
            counts: Counts::default(),
            active: BTreeMap::new(),
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
        };
        active.struck = self.strike(&fault, &active)?;
        self.active.insert(number, active);
        self.set_links();
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
        for &id in &active.struck {
            match active.kind {
                Kind::KillOne | Kind::KillMinority | Kind::KillAll | Kind::Restart => {
                    self.start(id)?;
                }
                Kind::FreezeOne | Kind::FreezeMinority => self.thaw(id)?,
                Kind::Acceptors => {
                    self.tell(id, &Request::Recover);
                }
                _ => {}
            }
        }
        let pairs: Vec<Pair> = active.links.iter().map(|(pair, _)| *pair).collect();
        let disturbed = self.traffic(&pairs).since(active.before).was_disturbed();
        self.set_links();
        let felt = disturbed || !active.struck.is_empty();
        self.counts.came(active.kind, felt);
        Ok(())
    }

    /// Ends all that is on: every server runs, every link is open. (Acceptors are told to recover by
    /// who waits until all servers serve: only a server that is up can be told.)
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
