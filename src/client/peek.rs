//! How a server says it is doing: its `STATUS`, as types, for programs that watch a cluster.

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
}

impl Peek {
    /// From the fields of a reply; none if one is missing or unreadable.
    fn of(fields: &[(String, String)]) -> Option<Self> {
        let field = |name: &str| {
            let found = fields.iter().find(|(field, _)| field == name);
            found.map(|(_, value)| value.as_str())
        };
        Some(Self {
            id: field("id")?.parse().ok()?,
            leads: field("role")? == "leader",
            ballot: field("ballot")?.parse().ok()?,
            applied: field("applied")?.parse().ok()?,
            hash: field("hash")?.to_owned(),
            acceptor_up: field("acceptor")? == "up",
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
            ("peer", "n1 up"),
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
                ..follower(2, 17)
            }
        );
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
