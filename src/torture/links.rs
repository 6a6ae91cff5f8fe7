//! All links between the servers of a cluster, each a proxy of its own.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;

use super::link::{Link, Passage, Traffic};
use crate::paxos::types::NodeId;

/// From whom, and to whom.
pub type Pair = (NodeId, NodeId);

/// A proxy for each ordered pair of servers.
#[derive(Debug)]
pub struct Links {
    /// Where each server really listens for its peers.
    targets: BTreeMap<NodeId, SocketAddr>,
    links: BTreeMap<Pair, Link>,
}

impl Links {
    /// Links between servers that listen, or will listen, at these addresses.
    pub fn between(targets: BTreeMap<NodeId, SocketAddr>) -> io::Result<Self> {
        let mut links = BTreeMap::new();
        for &from in targets.keys() {
            for (&to, &target) in &targets {
                if from != to {
                    links.insert((from, to), Link::to(target)?);
                }
            }
        }
        Ok(Self { targets, links })
    }

    /// What the server `from` is told as `--peers`: its own address, and a link to each other one.
    pub fn peers_of(&self, from: NodeId) -> String {
        let entries = self.targets.iter().map(|(&to, target)| {
            let address = self.links.get(&(from, to)).map_or(*target, Link::address);
            format!("{}={address}", to.number())
        });
        entries.collect::<Vec<_>>().join(",")
    }

    /// The link between two different servers.
    pub fn link(&self, pair: Pair) -> &Link {
        &self.links[&pair]
    }

    /// Every pair.
    pub fn pairs(&self) -> impl Iterator<Item = Pair> + '_ {
        self.links.keys().copied()
    }

    /// Sets every link: to what `faults` say of it, the worst where there are several, else open.
    pub fn set<'a>(&self, faults: impl IntoIterator<Item = &'a (Pair, Passage)>) {
        let mut worst: BTreeMap<Pair, Passage> = BTreeMap::new();
        for &(pair, passage) in faults {
            let found = worst.entry(pair).or_default();
            *found = passage.max(*found);
        }
        for (pair, link) in &self.links {
            link.set(worst.get(pair).copied().unwrap_or_default());
        }
    }

    /// What has gone through all of them.
    pub fn traffic(&self) -> Traffic {
        let all = self.links.values().map(Link::traffic);
        all.fold(Traffic::default(), Traffic::plus)
    }
}
