//! Who must agree: a majority of a fixed set of nodes.
//!
//! *Paxos Made Simple* 2.1: any two majorities have a node in common, and all of safety stands on
//! that. So a vote is a set of nodes, never a counter: a message that comes twice counts once
//! (P7), and the set is the configured one, never the nodes that happen to answer (D7).

use super::types::{NODES_MAX, NodeId};

/// The fixed set of nodes that form the cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Members {
    ids: Vec<NodeId>,
}

impl Members {
    /// A cluster of these nodes; none unless they are 1, 3, 5, 7 or 9 different ones.
    pub fn new(ids: impl IntoIterator<Item = NodeId>) -> Option<Self> {
        let mut ids: Vec<NodeId> = ids.into_iter().collect();
        let given = ids.len();
        ids.sort_unstable();
        ids.dedup();
        (ids.len() == given && given % 2 == 1).then_some(Self { ids })
    }

    /// All nodes, in order of their numbers.
    pub fn iter(&self) -> impl Iterator<Item = NodeId> + '_ {
        self.ids.iter().copied()
    }

    /// All nodes but `me`.
    pub fn others(&self, me: NodeId) -> impl Iterator<Item = NodeId> + '_ {
        self.iter().filter(move |&node| node != me)
    }

    /// Whether `node` is one of them.
    pub fn contains(&self, node: NodeId) -> bool {
        self.ids.binary_search(&node).is_ok()
    }

    /// How many there are.
    pub fn size(&self) -> usize {
        self.iter().count()
    }

    /// How many nodes a majority has.
    pub fn majority(&self) -> usize {
        self.ids.len() / 2 + 1
    }
}

/// A set of nodes that voted alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Votes {
    bits: u16,
}

impl Votes {
    /// Adds a node; false if it had voted before.
    pub fn insert(&mut self, node: NodeId) -> bool {
        let before = self.bits;
        self.bits |= 1 << node.number();
        self.bits != before
    }

    /// Whether `node` has voted.
    pub fn contains(self, node: NodeId) -> bool {
        self.bits & (1 << node.number()) != 0
    }

    /// The vote of `node` counts no longer.
    pub fn remove(&mut self, node: NodeId) {
        self.bits &= !(1 << node.number());
    }

    /// Who has voted.
    pub fn iter(self) -> impl Iterator<Item = NodeId> {
        (1..=NODES_MAX)
            .filter_map(NodeId::new)
            .filter(move |&node| self.contains(node))
    }

    /// How many nodes have voted.
    pub fn len(self) -> usize {
        self.bits.count_ones() as usize
    }

    /// Whether nobody has voted.
    pub fn is_empty(self) -> bool {
        self.bits == 0
    }

    /// Whether those who voted are a majority of `members`.
    pub fn is_majority_of(self, members: &Members) -> bool {
        self.len() >= members.majority()
    }
}

impl FromIterator<NodeId> for Votes {
    fn from_iter<I: IntoIterator<Item = NodeId>>(nodes: I) -> Self {
        let mut votes = Self::default();
        for node in nodes {
            votes.insert(node);
        }
        votes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(n: u8) -> NodeId {
        NodeId::new(n).unwrap()
    }

    #[test]
    fn a_majority_of_five_is_three_of_the_configured_five() {
        let members = Members::new((1..=5).map(node)).unwrap();
        assert_eq!((members.size(), members.majority()), (5, 3));
        assert!(members.contains(node(5)) && !members.contains(node(6)));
        assert!(!Votes::from_iter([node(1), node(2)]).is_majority_of(&members));
        assert!(Votes::from_iter([node(1), node(2), node(5)]).is_majority_of(&members));
    }

    /// P7: a message that the network delivers twice is one vote.
    #[test]
    fn a_node_votes_once() {
        let mut votes = Votes::default();
        assert!(votes.insert(node(2)));
        assert!(!votes.insert(node(2)));
        assert_eq!(votes.len(), 1);
        assert_eq!(votes.iter().collect::<Vec<_>>(), [node(2)]);
        assert!(!votes.is_empty());
        votes.remove(node(2));
        assert!(votes.is_empty());
    }

    #[test]
    fn any_two_majorities_share_a_node() {
        for size in [1u8, 3, 5, 7, 9] {
            let members = Members::new((1..=size).map(node)).unwrap();
            let majorities: Vec<u16> = (0u16..1 << size)
                .filter(|bits| bits.count_ones() as usize >= members.majority())
                .collect();
            for a in &majorities {
                assert!(majorities.iter().all(|b| a & b != 0));
            }
        }
    }

    #[test]
    fn a_cluster_has_an_odd_number_of_different_nodes() {
        assert!(Members::new([]).is_none());
        assert!(Members::new((1..=4).map(node)).is_none());
        assert!(Members::new([node(1), node(1), node(2)]).is_none());
        assert!(Members::new([node(3)]).is_some());
    }
}
