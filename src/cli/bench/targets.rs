//! Which of the servers the clients talk to, by who leads when the load begins.
//!
//! Clients stay with their servers, whoever leads later: who follows a leader would measure now this and
//! now that. [`Led`] is what the report tells of it.

use std::thread;
use std::time::{Duration, Instant};

use crate::client::peek::{Peek, Peeker, leader, peek_all};
use crate::paxos::types::{Ballot, NodeId};

/// Which servers the clients talk to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Targets {
    /// all of --servers, in turn
    All,
    /// the one that leads when the load begins
    Leader,
    /// those that answer and do not lead then, in turn
    Followers,
}

impl Targets {
    /// As it is typed.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::All => "all",
            Self::Leader => "leader",
            Self::Followers => "followers",
        }
    }
}

/// A leadership that was seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Led {
    /// When it was seen first, from the start of the run.
    pub(super) seen: Duration,
    pub(super) leader: NodeId,
    pub(super) ballot: Ballot,
}

impl Led {
    /// By these servers' word, if any of them leads.
    pub(super) fn by<'a>(
        peeks: impl IntoIterator<Item = &'a Peek>,
        seen: Duration,
    ) -> Option<Self> {
        leader(peeks).map(|peek| Self {
            seen,
            leader: peek.id,
            ballot: peek.ballot,
        })
    }
}

/// The servers that were chosen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Chosen {
    pub(super) targets: Targets,
    /// Their places in `--servers`.
    pub(super) places: Vec<usize>,
    /// What they are called: `n2`, or their addresses if they did not answer.
    pub(super) names: Vec<String>,
    /// Which were left out because they did not answer.
    pub(super) silent: Vec<String>,
    /// Who led then, if anyone did.
    pub(super) led: Option<Led>,
}

/// How long a leader is looked for. A cluster that has a majority finds one far sooner.
const LEADER_WITHIN: Duration = Duration::from_secs(3);

/// The pause between two looks for a leader.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Asks the servers, and chooses once the leader is known; where all are wanted, at once.
///
/// # Errors
/// One line: no server answers, or none of them can be chosen.
pub(super) fn find(
    targets: Targets,
    servers: &[String],
    peekers: &mut [Peeker],
) -> Result<Chosen, String> {
    let by = Instant::now() + LEADER_WITHIN;
    loop {
        match choose(targets, servers, &peek_all(peekers)) {
            Err(Unchosen::Yet(_)) if Instant::now() < by => thread::sleep(LOOK_EVERY),
            Err(Unchosen::Yet(text) | Unchosen::Ever(text)) => return Err(text),
            Ok(chosen) => return Ok(chosen),
        }
    }
}

/// Why no servers could be chosen.
#[derive(Debug, PartialEq, Eq)]
enum Unchosen {
    /// A moment later they may be.
    Yet(String),
    /// Another look would see the same.
    Ever(String),
}

/// Chooses among `servers`, of which each has said this.
fn choose(
    targets: Targets,
    servers: &[String],
    peeks: &[Option<Peek>],
) -> Result<Chosen, Unchosen> {
    let told = || peeks.iter().flatten();
    if told().next().is_none() {
        let servers = servers.join(", ");
        return Err(Unchosen::Ever(format!(
            "no server answered (tried {servers}): is the cluster running? try ./run.sh servers"
        )));
    }
    let led = Led::by(told(), Duration::ZERO);
    let leads = |peek: &Peek| led.is_some_and(|led| led.leader == peek.id);
    let wanted = |peek: Option<&Peek>| match targets {
        Targets::All => true,
        Targets::Leader => peek.is_some_and(leads),
        Targets::Followers => peek.is_some_and(|peek| !leads(peek)),
    };
    // Followers may be told apart by the word of any of them; to reach the leader takes its own.
    let named = led.map(|led| led.leader);
    let named = named.or_else(|| told().find_map(|peek| peek.leader));
    match (targets, named) {
        (Targets::All, _) => {}
        (_, None) => return Err(no_leader(servers, peeks)),
        (Targets::Leader, Some(leader)) if led.is_none() => {
            return Err(not_among(leader, servers, peeks));
        }
        _ => {}
    }
    let places: Vec<usize> = (0..servers.len())
        .filter(|&place| wanted(peeks[place].as_ref()))
        .collect();
    if places.is_empty() {
        let leader = named.map_or(String::new(), |leader| leader.to_string());
        return Err(Unchosen::Ever(format!(
            "expected a follower among --servers, found only the leader {leader}"
        )));
    }
    let name = |&place: &usize| match &peeks[place] {
        Some(peek) => peek.id.to_string(),
        None => servers[place].clone(),
    };
    Ok(Chosen {
        targets,
        names: places.iter().map(name).collect(),
        places,
        silent: match targets {
            Targets::All => Vec::new(),
            Targets::Leader | Targets::Followers => silent(servers, peeks),
        },
        led,
    })
}

fn silent(servers: &[String], peeks: &[Option<Peek>]) -> Vec<String> {
    let silent = servers.iter().zip(peeks).filter(|(_, peek)| peek.is_none());
    silent.map(|(server, _)| server.clone()).collect()
}

/// What is put behind an error if not all have answered.
fn but(servers: &[String], peeks: &[Option<Peek>]) -> String {
    match &silent(servers, peeks)[..] {
        [] => String::new(),
        silent => format!(" (no answer from {})", silent.join(", ")),
    }
}

fn no_leader(servers: &[String], peeks: &[Option<Peek>]) -> Unchosen {
    let but = but(servers, peeks);
    Unchosen::Yet(format!(
        "no server leads{but}: is a majority of them up? try quince status"
    ))
}

fn not_among(leader: NodeId, servers: &[String], peeks: &[Option<Peek>]) -> Unchosen {
    let but = but(servers, peeks);
    Unchosen::Yet(format!(
        "expected the address of the leader {leader} in --servers, found none of those that answer \
         to be {leader}{but}"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::peek::tests::follower;

    fn leading(id: u8, ballot: &str) -> Peek {
        Peek {
            leads: true,
            ballot: ballot.parse().unwrap(),
            leader: NodeId::new(id),
            ..follower(id, 1)
        }
    }

    fn servers(count: usize) -> Vec<String> {
        (1..=count).map(|n| format!("host:{n}")).collect()
    }

    fn chosen(targets: Targets, peeks: &[Option<Peek>]) -> Chosen {
        choose(targets, &servers(peeks.len()), peeks).unwrap()
    }

    fn refused(targets: Targets, peeks: &[Option<Peek>]) -> Unchosen {
        choose(targets, &servers(peeks.len()), peeks).unwrap_err()
    }

    #[test]
    fn each_choice_has_its_servers() {
        let peeks = [
            Some(follower(1, 1)),
            Some(leading(3, "b4.3")),
            None,
            // It does not know yet that n3 leads.
            Some(leading(2, "b2.2")),
        ];
        let all = chosen(Targets::All, &peeks);
        assert_eq!(all.names, ["n1", "n3", "host:3", "n2"]);
        assert_eq!((all.places, all.silent.len()), (vec![0, 1, 2, 3], 0));
        let leader = chosen(Targets::Leader, &peeks);
        assert_eq!(
            (&leader.names[..], &leader.places[..]),
            (&["n3".into()][..], &[1][..])
        );
        let followers = chosen(Targets::Followers, &peeks);
        assert_eq!(followers.names, ["n1", "n2"]);
        assert_eq!(followers.silent, ["host:3"]);
        assert_eq!(followers.led.unwrap().ballot, "b4.3".parse().unwrap());
    }

    #[test]
    fn all_are_chosen_without_a_leader_and_others_are_not() {
        let alone = [Some(Peek {
            leader: None,
            ..follower(1, 1)
        })];
        assert_eq!(chosen(Targets::All, &alone).led, None);
        for targets in [Targets::Leader, Targets::Followers] {
            let Unchosen::Yet(text) = refused(targets, &alone) else {
                panic!("a leader may come");
            };
            assert_eq!(
                text,
                "no server leads: is a majority of them up? try quince status"
            );
        }
    }

    /// Its followers know it; but nobody can connect to a name.
    #[test]
    fn a_leader_that_is_not_in_the_list_has_followers_there_and_no_address() {
        let peeks = [Some(follower(2, 1)), None, Some(follower(3, 1))];
        let followers = chosen(Targets::Followers, &peeks);
        assert_eq!(followers.names, ["n2", "n3"]);
        let Unchosen::Yet(text) = refused(Targets::Leader, &peeks) else {
            panic!("it may answer later");
        };
        assert_eq!(
            text,
            "expected the address of the leader n1 in --servers, found none of those that answer \
             to be n1 (no answer from host:2)"
        );
    }

    #[test]
    fn a_leader_alone_has_no_followers_and_nobody_has_none_of_either() {
        assert_eq!(
            refused(Targets::Followers, &[Some(leading(1, "b1.1"))]),
            Unchosen::Ever("expected a follower among --servers, found only the leader n1".into())
        );
        for targets in [Targets::All, Targets::Leader, Targets::Followers] {
            let Unchosen::Ever(text) = refused(targets, &[None, None]) else {
                panic!("nobody is there");
            };
            assert!(text.starts_with("no server answered (tried host:1, host:2): "));
        }
    }
}
