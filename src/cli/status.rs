//! `quince status`: every server asked at once, one row each.
//!
//! A server that does not answer is a row too: a table that leaves it out would look healthy. Rows
//! at the same applied slot must have the same hash (invariant I5); where they do not, it is said.

use std::collections::BTreeMap;
use std::io::{self, Write as _};
use std::thread;
use std::time::{Duration, Instant};

use super::flags::positive_duration;
use super::reach::Servers;
use super::style::{Cell, Paint, Style, table};
use super::{Failure, complain};
use crate::client::{Connection, ConnectionError, Limits};
use crate::wire::client::{Reply, Request};

/// What `status` takes.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
A row for each server of --servers:
  id, address        who
  role, leader       leader, candidate or follower; whom it takes for the leader
  ballot             the newest it has seen; b7.3 is round 7 of n3
  decided, applied   the last slot it knows to be decided, and the last that is in its map
  hash               of all that was applied: equal slots have equal hashes
  acceptor           up, or failed on purpose
  uptime             how long it has been running
  links              its connections to its peers: 1+ 2- is one to n1 and none to n2

Exit code 0 if all of them answered, 1 if some did not or two of them disagree, 3 if none did.

Examples:
  quince status
  watch -n 1 quince status
  quince status --servers 10.0.0.1:7000,10.0.0.2:7000,10.0.0.3:7000")]
pub(crate) struct Args {
    #[command(flatten)]
    servers: Servers,

    /// Take a server for unreachable after this long, such as 500ms or 2s, the lookup of its name included
    #[arg(long, value_name = "DURATION", default_value = "2s", value_parser = positive_duration)]
    timeout: Duration,
}

pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    let stdout = io::stdout();
    let style = Style::of(&stdout);
    let servers = args.servers.addresses();
    let answers = ask_all(&servers, args.timeout);
    stdout
        .lock()
        .write_all(table(style, &rows(&answers)).as_bytes())?;
    let conflict = conflict(&answers);
    if let Some(conflict) = &conflict {
        complain(conflict);
    }
    let missing = answers.iter().filter(|(_, said)| said.is_err()).count();
    if missing > 0 {
        complain(&format!(
            "{missing} of {} servers did not answer",
            answers.len()
        ));
    }
    if missing == answers.len() {
        Err(Failure::Told)
    } else if missing > 0 || conflict.is_some() {
        Err(Failure::No)
    } else {
        Ok(())
    }
}

/// What one server said, by field, or why it said nothing.
type Said = Result<Fields, String>;

/// The fields of one `STATUS`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Fields {
    /// Those that come once.
    single: BTreeMap<String, String>,
    /// The `peer` lines: peer and `up` or `down`.
    peers: Vec<(String, String)>,
}

/// Asks every server, all at once, and returns their answers in the order asked.
fn ask_all(servers: &[String], timeout: Duration) -> Vec<(&str, Said)> {
    thread::scope(|scope| {
        let asked: Vec<_> = servers
            .iter()
            .map(|server| scope.spawn(move || ask(server, timeout)))
            .collect();
        servers
            .iter()
            .zip(asked)
            .map(|(server, asked)| {
                let said = asked.join().expect("asking does not panic");
                (server.as_str(), said)
            })
            .collect()
    })
}

fn ask(server: &str, timeout: Duration) -> Said {
    let limits = Limits {
        connect: timeout,
        silence: timeout,
        reply_bytes_max: REPLY_BYTES_MAX,
    };
    let by = Instant::now() + timeout;
    let reply = || -> Result<Reply, ConnectionError> {
        let mut connection = Connection::open(server, limits)?;
        connection.set_deadline(Some(by));
        connection.ask(&Request::Status)
    };
    match reply() {
        Ok(Reply::Status(fields)) => Ok(Fields::new(fields)),
        Ok(other) => Err(other.to_string()),
        Err(error) => Err(error.to_string()),
    }
}

/// Far above any status.
const REPLY_BYTES_MAX: usize = 1 << 20;

impl Fields {
    fn new(fields: Vec<(String, String)>) -> Self {
        let mut all = Self::default();
        for (field, value) in fields {
            if field == "peer" {
                let (peer, link) = value.split_once(' ').unwrap_or((&value, ""));
                all.peers.push((peer.into(), link.into()));
            } else {
                all.single.insert(field, value);
            }
        }
        all
    }

    /// A field's value; `?` where the server did not tell.
    fn get(&self, field: &str) -> &str {
        self.single.get(field).map_or("?", String::as_str)
    }

    /// `1+ 2-`: by number, `+` for an open link.
    fn links(&self) -> String {
        let links = self.peers.iter().map(|(peer, link)| {
            let sign = if link == "up" { '+' } else { '-' };
            format!("{}{sign}", peer.trim_start_matches('n'))
        });
        links.collect::<Vec<_>>().join(" ")
    }
}

/// The table, its heading first.
fn rows(answers: &[(&str, Said)]) -> Vec<Vec<Cell>> {
    const HEADING: [&str; 11] = [
        "id", "address", "role", "leader", "ballot", "decided", "applied", "hash", "acceptor",
        "uptime", "links",
    ];
    let heading = HEADING.map(|name| Cell::new(Paint::Bold, name)).to_vec();
    let rows = answers.iter().map(|(server, said)| match said {
        Ok(fields) => row(server, fields),
        Err(reason) => vec![
            Cell::plain("-"),
            Cell::plain(*server),
            Cell::new(Paint::Red, format!("unreachable: {reason}")),
        ],
    });
    std::iter::once(heading).chain(rows).collect()
}

fn row(server: &str, fields: &Fields) -> Vec<Cell> {
    let plain = |field| Cell::plain(fields.get(field));
    let role = match fields.get("role") {
        "leader" => Cell::new(Paint::Bold, "leader"),
        role => Cell::plain(role),
    };
    let acceptor = match fields.get("acceptor") {
        "up" => Cell::new(Paint::Green, "up"),
        acceptor => Cell::new(Paint::Red, acceptor),
    };
    let seconds = fields.get("uptime_s").parse().ok();
    vec![
        plain("id"),
        Cell::plain(server),
        role,
        plain("leader"),
        plain("ballot"),
        plain("decided"),
        plain("applied"),
        plain("hash"),
        acceptor,
        Cell::plain(seconds.map_or_else(|| "?".into(), up_time)),
        Cell::plain(fields.links()),
    ]
}

/// `42s`, `7m05s`, `3h07m`, `2d03h`: two units at most.
fn up_time(seconds: u64) -> String {
    let (minutes, hours, days) = (seconds / 60, seconds / 3_600, seconds / 86_400);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds}s"),
        (0, 0, _) => format!("{minutes}m{:02}s", seconds % 60),
        (0, _, _) => format!("{hours}h{:02}m", minutes % 60),
        _ => format!("{days}d{:02}h", hours % 24),
    }
}

/// Two servers that have applied the same slot and hold different bytes, if there are any.
fn conflict(answers: &[(&str, Said)]) -> Option<String> {
    let mut by_slot: BTreeMap<&str, (&str, &str)> = BTreeMap::new();
    for fields in answers.iter().filter_map(|(_, said)| said.as_ref().ok()) {
        let (id, applied, hash) = (fields.get("id"), fields.get("applied"), fields.get("hash"));
        let (other_id, other_hash) = *by_slot.entry(applied).or_insert((id, hash));
        if other_hash != hash {
            return Some(format!(
                "I5: {other_id} and {id} have both applied {applied}, but their hashes are \
                 {other_hash} and {hash}: stop the cluster, keep all data directories, and report it"
            ));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(id: &str, applied: &str, hash: &str) -> Fields {
        let fields = [
            ("id", id),
            ("role", "leader"),
            ("leader", "n1"),
            ("ballot", "b7.1"),
            ("decided", "s9"),
            ("applied", applied),
            ("hash", hash),
            ("acceptor", "up"),
            ("uptime_s", "427"),
            ("peer", "n2 up"),
            ("peer", "n3 down"),
            ("later_field", "is ignored"),
        ];
        Fields::new(fields.map(|(a, b)| (a.into(), b.into())).to_vec())
    }

    #[test]
    fn each_server_is_a_row_and_so_is_a_silent_one() {
        let answers = [
            ("127.0.0.1:7001", Ok(fields("n1", "s9", "ab"))),
            ("127.0.0.1:7004", Err("connection refused".into())),
        ];
        assert_eq!(
            table(Style::PLAIN, &rows(&answers)),
            "id address role leader ballot decided applied hash acceptor uptime links\n\
             n1 127.0.0.1:7001 leader n1 b7.1 s9 s9 ab up 7m07s 2+ 3-\n\
             - 127.0.0.1:7004 unreachable: connection refused\n"
        );
    }

    #[test]
    fn a_field_that_is_not_told_is_a_question_mark() {
        let answers = [("a:1", Ok(Fields::default()))];
        assert!(table(Style::PLAIN, &rows(&answers)).ends_with("\n? a:1 ? ? ? ? ? ? ? ? \n"));
    }

    #[test]
    fn up_time_has_two_units_at_most() {
        for (seconds, text) in [
            (0, "0s"),
            (59, "59s"),
            (60, "1m00s"),
            (11_220, "3h07m"),
            (183_600, "2d03h"),
        ] {
            assert_eq!(up_time(seconds), text);
        }
    }

    /// I5, seen from outside.
    #[test]
    fn different_hashes_at_one_slot_are_told() {
        let two = |slot, hash| {
            [
                ("a:1", Ok(fields("n1", "s9", "ab"))),
                ("b:1", Ok(fields("n2", slot, hash))),
            ]
        };
        assert_eq!(conflict(&two("s9", "ab")), None);
        assert_eq!(conflict(&two("s8", "cd")), None);
        let text = conflict(&two("s9", "cd")).unwrap();
        assert!(
            text.starts_with("I5: n1 and n2 have both applied s9"),
            "{text}"
        );
    }
}
