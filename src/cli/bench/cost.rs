//! What the load costs the servers, by their own word: CPU time and syncs of the log, for each success.
//!
//! Every server tells in `STATUS` what it has spent since its start. It is asked when the measured time
//! begins and when it ends; what lies between is the load's, with heartbeats and all else that goes on
//! beside it. So servers on other machines tell as much as those on this one. A server that did not tell
//! both times, or was started anew between, is named and not guessed at.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::cli::figures::number;
use crate::client::peek::Peek;

/// What the servers said at one time, in the order of `--servers`.
#[derive(Debug)]
pub(super) struct Reading {
    /// When they were asked, from the start of the run.
    pub(super) at: Duration,
    pub(super) peeks: Vec<Option<Peek>>,
}

/// What one server spent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Spent {
    pub(super) cpu: Option<Duration>,
    pub(super) syncs: Option<u64>,
}

/// What all servers spent between two readings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Costs {
    /// Of each server, in the order of `--servers`: what it is called, and what it spent or why that is not
    /// known.
    pub(super) servers: Vec<(String, Result<Spent, &'static str>)>,
    /// How many servers the cluster has, in the list or not.
    pub(super) members: usize,
}

impl Costs {
    /// Of the servers at these addresses.
    pub(super) fn between(servers: &[String], before: &Reading, after: &Reading) -> Self {
        let elapsed = after.at.saturating_sub(before.at);
        let mut seen = BTreeSet::new();
        let mut costs = Self {
            servers: Vec::new(),
            members: 0,
        };
        for ((server, before), after) in servers.iter().zip(&before.peeks).zip(&after.peeks) {
            let name = match before.as_ref().or(after.as_ref()) {
                Some(peek) => {
                    costs.members = costs.members.max(peek.peers + 1);
                    peek.id.to_string()
                }
                None => server.clone(),
            };
            // One server may stand in the list under two addresses.
            if seen.insert(name.clone()) {
                let spent = spent(before.as_ref(), after.as_ref(), elapsed);
                costs.servers.push((name, spent));
            }
        }
        costs
    }

    /// CPU time of all servers that tell it, in microseconds for each of so many operations.
    pub(super) fn cpu_us_each(&self, operations: u64) -> Option<f64> {
        self.sum(|spent| spent.cpu.map(micros))
            .map(|sum| each(sum, operations))
    }

    /// Syncs of all servers that tell them, for each of so many operations.
    pub(super) fn syncs_each(&self, operations: u64) -> Option<f64> {
        self.sum(|spent| spent.syncs)
            .map(|sum| each(sum, operations))
    }

    /// Whether every server of the cluster told all: else sums are too low.
    pub(super) fn is_whole(&self) -> bool {
        let tells = |spent: &Spent| spent.cpu.is_some() && spent.syncs.is_some();
        self.servers.len() >= self.members
            && self
                .servers
                .iter()
                .all(|(_, spent)| spent.as_ref().is_ok_and(tells))
    }

    fn sum(&self, what: impl Fn(&Spent) -> Option<u64>) -> Option<u64> {
        let told = self.servers.iter().flat_map(|(_, spent)| spent);
        told.filter_map(what).reduce(|sum, one| sum + one)
    }

    /// CPU time for people.
    pub(super) fn cpu_text(&self, operations: u64) -> String {
        self.text(" us", operations, |spent| spent.cpu.map(micros))
    }

    /// Syncs for people.
    pub(super) fn syncs_text(&self, operations: u64) -> String {
        self.text("", operations, |spent| spent.syncs)
    }

    fn text(&self, unit: &str, operations: u64, what: impl Fn(&Spent) -> Option<u64>) -> String {
        if operations == 0 {
            return "unknown: not one success".into();
        }
        let mut whole = self.servers.len() >= self.members;
        let mut parts = Vec::new();
        for (name, spent) in &self.servers {
            let spent = spent.and_then(|spent| what(&spent).ok_or("it does not tell"));
            whole &= spent.is_ok();
            parts.push(match spent {
                Ok(spent) => format!("{name} {}", figure(each(spent, operations))),
                Err(why) => format!("{name} unknown ({why})"),
            });
        }
        let parts = parts.join(", ");
        let Some(sum) = self.sum(&what) else {
            return format!("unknown: {parts}");
        };
        let at_least = if whole { "" } else { "at least " };
        let sum = figure(each(sum, operations));
        let others = match self.members.saturating_sub(self.servers.len()) {
            0 => String::new(),
            others => format!("; {others} of {} not in --servers", self.members),
        };
        format!("{at_least}{sum}{unit} an operation: {parts}{others}")
    }
}

/// A server that says it has been up for so much less than it should be was started anew. Whole seconds
/// are told, and the two readings take a moment.
const UPTIME_SLACK: Duration = Duration::from_millis(1_500);

fn spent(
    before: Option<&Peek>,
    after: Option<&Peek>,
    elapsed: Duration,
) -> Result<Spent, &'static str> {
    let before = before.ok_or("no answer at the start")?;
    let after = after.ok_or("no answer at the end")?;
    if before.id != after.id {
        return Err("another server answered at the end");
    }
    let (before, after) = (before.spent, after.spent);
    let is_younger = match (before.uptime, after.uptime) {
        (Some(before), Some(after)) => after + UPTIME_SLACK < before + elapsed,
        _ => false,
    };
    let less = before.cpu > after.cpu || before.syncs > after.syncs;
    if is_younger || less {
        return Err("it was started anew");
    }
    let cpu = before.cpu.zip(after.cpu);
    let syncs = before.syncs.zip(after.syncs);
    Ok(Spent {
        cpu: cpu.map(|(before, after)| after.saturating_sub(before)),
        syncs: syncs.map(|(before, after)| after.saturating_sub(before)),
    })
}

/// A number with the places that matter: many operations share a sync.
fn figure(each: f64) -> String {
    if each < 0.1 {
        format!("{each:.4}")
    } else {
        number(each)
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

/// So much for each of so many operations, of which there is at least one.
#[expect(
    clippy::cast_precision_loss,
    reason = "counts and microseconds are far below 2^53"
)]
pub(super) fn each(sum: u64, operations: u64) -> f64 {
    sum as f64 / operations as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::peek;
    use crate::client::peek::tests::follower;

    const fn s(s: u64) -> Duration {
        Duration::from_secs(s)
    }

    /// A server that has been up for so many seconds, and spent so many milliseconds and syncs.
    #[expect(clippy::unnecessary_wraps, reason = "as it stands in a reading")]
    fn peek(id: u8, uptime_s: u64, cpu_ms: u64, syncs: u64) -> Option<Peek> {
        Some(Peek {
            spent: peek::Spent {
                uptime: Some(s(uptime_s)),
                cpu: Some(Duration::from_millis(cpu_ms)),
                syncs: Some(syncs),
            },
            ..follower(id, 1)
        })
    }

    fn costs(before: [Option<Peek>; 3], after: [Option<Peek>; 3]) -> Costs {
        let reading = |at, peeks: [Option<Peek>; 3]| Reading {
            at: s(at),
            peeks: peeks.into(),
        };
        let servers = ["a:1", "b:1", "c:1"].map(String::from);
        Costs::between(&servers, &reading(1, before), &reading(11, after))
    }

    #[test]
    fn a_server_costs_what_it_spent_between() {
        let costs = costs(
            [peek(1, 5, 100, 10), peek(2, 5, 0, 0), peek(3, 60, 70, 7)],
            [
                peek(1, 15, 1_100, 510),
                peek(2, 15, 500, 250),
                peek(3, 69, 570, 257),
            ],
        );
        assert!(costs.is_whole());
        assert_eq!(costs.cpu_us_each(10_000), Some(200.0));
        assert_eq!(costs.syncs_each(10_000), Some(0.1));
        assert_eq!(
            costs.cpu_text(10_000),
            "200.0 us an operation: n1 100.0, n2 50.0, n3 50.0"
        );
        assert_eq!(
            costs.syncs_text(1_000),
            "1.00 an operation: n1 0.50, n2 0.25, n3 0.25"
        );
        assert!(
            costs
                .syncs_text(100_000)
                .starts_with("0.0100 an operation: n1 0.0050,")
        );
        assert_eq!(costs.cpu_text(0), "unknown: not one success");
    }

    #[test]
    fn what_is_not_known_is_named_and_makes_the_sum_a_least() {
        let costs = costs(
            [peek(1, 5, 100, 10), peek(2, 5, 100, 10), peek(3, 5, 0, 0)],
            // n2 is up for 7 s of the 10: its counters began again, though they are higher now.
            [peek(1, 15, 1_100, 510), peek(2, 7, 900, 300), None],
        );
        assert!(!costs.is_whole());
        assert_eq!(
            costs.cpu_text(1_000),
            "at least 1000 us an operation: n1 1000, n2 unknown (it was started anew), \
             n3 unknown (no answer at the end)"
        );
        assert_eq!(costs.syncs_each(1_000), Some(0.5));
    }

    #[test]
    fn counters_that_fall_are_of_another_start() {
        let before = peek(1, 0, 100, 10);
        let spent_by = |after: Option<Peek>| spent(before.as_ref(), after.as_ref(), s(1));
        let anew = Err("it was started anew");
        assert_eq!(spent_by(peek(1, 0, 99, 11)), anew);
        assert_eq!(spent_by(peek(1, 0, 101, 9)), anew);
        let other = Err("another server answered at the end");
        assert_eq!(spent_by(peek(2, 1, 101, 11)), other);
    }

    /// As those of an older version, or on a system that does not know.
    #[test]
    fn servers_that_tell_nothing_cost_nothing_that_is_known() {
        let silent = || [1, 2, 3].map(|id| Some(follower(id, 1)));
        let costs = costs(silent(), silent());
        assert_eq!((costs.is_whole(), costs.cpu_us_each(5)), (false, None));
        assert_eq!(
            costs.syncs_text(5),
            "unknown: n1 unknown (it does not tell), n2 unknown (it does not tell), \
             n3 unknown (it does not tell)"
        );
    }

    #[test]
    fn servers_that_are_not_in_the_list_are_missed_and_one_that_is_twice_counts_once() {
        let reading = |at, cpu_ms| Reading {
            at: s(at),
            peeks: vec![peek(1, at, cpu_ms, at), peek(1, at, cpu_ms, at)],
        };
        let servers = ["a:1", "localhost:1"].map(String::from);
        let costs = Costs::between(&servers, &reading(1, 1), &reading(11, 2));
        assert_eq!(
            costs.syncs_text(10),
            "at least 1.00 an operation: n1 1.00; 2 of 3 not in --servers"
        );
        assert!(!costs.is_whole());
    }
}
