//! How a server says it is doing: its `STATUS`, as types, for programs that watch a cluster.

use std::thread;
use std::time::Duration;

use super::{Connection, Limits};
use crate::paxos::types::{Ballot, NodeId, Slot};
use crate::wire::client::{Reply, Request};

/// The part of `STATUS` that those who watch look at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Peek {
    /// Who it is.
    pub(crate) id: NodeId,
    /// Whether it believes to lead.
    pub(crate) leads: bool,
    /// The ballot that it leads with, or follows.
    pub(crate) ballot: Ballot,
    /// Up to where it has applied the log.
    pub(crate) applied: Slot,
    /// The running hash of what it has applied.
    pub(crate) hash: String,
    /// Whether its acceptor is up.
    pub(crate) acceptor_up: bool,
    /// Who leads, as far as it knows.
    pub(crate) leader: Option<NodeId>,
    /// How many other servers its cluster has.
    pub(crate) peers: usize,
    /// What it has cost.
    pub(crate) spent: Spent,
}

/// What a server has spent since its start, as far as it tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Spent {
    /// Time, in whole seconds.
    pub(crate) uptime: Option<Duration>,
    /// CPU time of its process.
    pub(crate) cpu: Option<Duration>,
    /// Syncs of its log.
    pub(crate) syncs: Option<u64>,
}

impl Peek {
    /// From the fields of a reply; none if one is missing or unreadable.
    fn of(fields: &[(String, String)]) -> Option<Self> {
        let field = |name: &str| {
            let found = fields.iter().find(|(field, _)| field == name);
            found.map(|(_, value)| value.as_str())
        };
        let number = |name: &str| field(name)?.parse().ok();
        Some(Self {
            id: field("id")?.parse().ok()?,
            leads: field("role")? == "leader",
            ballot: field("ballot")?.parse().ok()?,
            applied: field("applied")?.parse().ok()?,
            hash: field("hash")?.to_owned(),
            acceptor_up: field("acceptor")? == "up",
            leader: field("leader").and_then(|leader| leader.parse().ok()),
            peers: fields.iter().filter(|(field, _)| field == "peer").count(),
            spent: Spent {
                uptime: number("uptime_s").map(Duration::from_secs),
                cpu: number("cpu_us").map(Duration::from_micros),
                syncs: number("syncs"),
            },
        })
    }
}

/// Asks a server again and again over one connection, which is made anew when it breaks.
#[derive(Debug)]
pub(crate) struct Peeker {
    server: String,
    limits: Limits,
    connection: Option<Connection>,
}

impl Peeker {
    /// For the server at `server`; waits no longer than `timeout` for a connection or a reply.
    pub(crate) fn new(server: String, timeout: Duration) -> Self {
        let limits = Limits {
            connect: timeout,
            silence: timeout,
            ..Limits::default()
        };
        Self {
            server,
            limits,
            connection: None,
        }
    }

    /// What the server says; none if it cannot be reached, is silent, or says something else.
    pub(crate) fn peek(&mut self) -> Option<Peek> {
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => Connection::open(&self.server, self.limits).ok()?,
        };
        let reply = connection.ask(&Request::Status).ok()?;
        self.connection = Some(connection);
        match reply {
            Reply::Status(fields) => Peek::of(&fields),
            _ => None,
        }
    }
}

/// What each of them says, asked all at once: together they take no longer than the slowest.
pub(crate) fn peek_all(peekers: &mut [Peeker]) -> Vec<Option<Peek>> {
    thread::scope(|scope| {
        let asked: Vec<_> = peekers
            .iter_mut()
            .map(|peeker| scope.spawn(|| peeker.peek()))
            .collect();
        let peeks = asked.into_iter();
        peeks
            .map(|peek| peek.join().expect("asking does not panic"))
            .collect()
    })
}

/// Who leads: of those that believe it, the one with the highest ballot.
pub(crate) fn leader<'a>(peeks: impl IntoIterator<Item = &'a Peek>) -> Option<&'a Peek> {
    let leaders = peeks.into_iter().filter(|peek| peek.leads);
    leaders.max_by_key(|peek| peek.ballot)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A server `id` that follows `b1.1`, has applied up to `applied`, and is up.
    pub(crate) fn follower(id: u8, applied: u64) -> Peek {
        Peek {
            id: NodeId::new(id).unwrap(),
            leads: false,
            ballot: "b1.1".parse().unwrap(),
            applied: Slot(applied),
            hash: format!("{applied:016x}"),
            acceptor_up: true,
            leader: NodeId::new(1),
            peers: 2,
            spent: Spent::default(),
        }
    }

    #[test]
    fn status_is_read_field_by_field() {
        let mut fields: Vec<(String, String)> = [
            ("id", "n2"),
            ("role", "leader"),
            ("leader", "n2"),
            ("ballot", "b7.2"),
            ("decided", "s18"),
            ("applied", "s17"),
            ("hash", "00ff"),
            ("acceptor", "failed"),
            ("uptime_s", "75"),
            ("cpu_us", "1250000"),
            ("syncs", "17"),
            ("peer", "n1 up"),
            ("peer", "n3 down"),
        ]
        .map(|(field, value)| (field.into(), value.into()))
        .into();
        let peek = Peek::of(&fields).unwrap();
        assert_eq!(
            peek,
            Peek {
                leads: true,
                ballot: "b7.2".parse().unwrap(),
                hash: "00ff".into(),
                acceptor_up: false,
                leader: NodeId::new(2),
                spent: Spent {
                    uptime: Some(Duration::from_secs(75)),
                    cpu: Some(Duration::from_millis(1_250)),
                    syncs: Some(17),
                },
                ..follower(2, 17)
            }
        );
        let of_an_older_version = |(field, _): &(String, String)| {
            !["leader", "uptime_s", "cpu_us", "syncs"].contains(&&**field)
        };
        fields.retain(of_an_older_version);
        let peek = Peek::of(&fields).unwrap();
        assert_eq!((peek.leader, peek.spent), (None, Spent::default()));
        fields.retain(|(field, _)| field != "applied");
        assert_eq!(Peek::of(&fields), None);
    }

    #[test]
    fn of_two_that_believe_to_lead_the_higher_ballot_does() {
        let leading = |id: u8, ballot: &str| Peek {
            leads: true,
            ballot: ballot.parse().unwrap(),
            ..follower(id, 1)
        };
        let peeks = [follower(1, 1), leading(2, "b3.2"), leading(3, "b4.3")];
        assert_eq!(leader(&peeks).unwrap().id, NodeId::new(3).unwrap());
        assert_eq!(leader(&peeks[..1]), None);
    }
}
