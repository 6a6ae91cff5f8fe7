//! The figures of a run, for people. For programs they stand in [`super::json`].
//!
//! A line a figure, its name first; on a terminal, or where it is asked for, the picture of the latencies
//! stands between their line and the next. Times are from the start of the measured time.

use std::fmt::Write as _;
use std::time::Duration;

use super::Args;
use super::cost::Costs;
use super::fault::Struck;
use super::histogram;
use super::load::{Results, Run};
use super::mix::{Mix, Op};
use super::speech::Protocol;
use super::targets::{Chosen, Led, Targets};
use super::timeline::Gap;
use super::watch::Seen;
use crate::cli::figures::{many, millis};
use crate::cli::style::Style;

/// What is shown of the latencies.
pub(super) const QUANTILES: [(&str, f64); 4] =
    [("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p99.9", 0.999)];

/// All figures of a run.
pub(super) struct Report {
    pub(super) protocol: Protocol,
    pub(super) mix: Mix,
    pub(super) clients: u32,
    pub(super) pipeline: u32,
    pub(super) keys: u64,
    pub(super) value_bytes: usize,
    /// The servers that the clients talked to.
    pub(super) chosen: Chosen,
    /// Who led; the times are from the start of the measured time, and none before it.
    pub(super) led: Vec<Led>,
    pub(super) costs: Costs,
    pub(super) measured: Duration,
    pub(super) results: Results,
    /// The longest gap.
    pub(super) gap: Gap,
    pub(super) fault: Option<FaultReport>,
    /// Why the run is a failure, if it is one.
    pub(super) problem: Option<String>,
}

pub(super) struct FaultReport {
    pub(super) struck: Struck,
    pub(super) gap: Gap,
}

/// What came of a run, beside what its clients found.
pub(super) struct Outcome {
    /// When it ended, from its start.
    pub(super) ended: Duration,
    pub(super) struck: Option<Struck>,
    pub(super) seen: Seen,
    pub(super) problem: Option<String>,
}

impl Report {
    pub(super) fn new(
        args: &Args,
        run: &Run,
        chosen: Chosen,
        results: Results,
        outcome: Outcome,
    ) -> Self {
        let zero = run.measured.start;
        let ended = outcome.ended.max(zero);
        let gap_after = |event| {
            let gap = run.timeline.longest_gap(zero, ended, event);
            Gap {
                from: gap.from.saturating_sub(zero),
                to: gap.to.saturating_sub(zero),
                ..gap
            }
        };
        let Seen { before, after, led } = outcome.seen;
        let from_zero = |led: Led| Led {
            seen: led.seen.saturating_sub(zero),
            ..led
        };
        Self {
            protocol: args.protocol,
            mix: run.mix,
            clients: args.clients,
            pipeline: args.pipeline,
            keys: args.keys,
            value_bytes: args.value_bytes,
            led: led.into_iter().map(from_zero).collect(),
            costs: Costs::between(&args.servers.addresses(), &before, &after),
            chosen,
            measured: ended.saturating_sub(zero),
            results,
            gap: gap_after(zero),
            fault: outcome.struck.map(|struck| FaultReport {
                gap: gap_after(struck.at),
                struck: Struck {
                    at: struck.at.saturating_sub(zero),
                    ..struck
                },
            }),
            problem: outcome.problem,
        }
    }

    pub(super) fn operations(&self) -> u64 {
        self.results.latencies.len()
    }

    pub(super) fn gap_of(&self) -> &'static str {
        if self.mix.writes() { "writes" } else { "reads" }
    }

    /// The first leadership, and those that followed it.
    pub(super) fn leaderships(&self) -> (Option<&Led>, &[Led]) {
        let changes = self.led.get(1..).unwrap_or_default();
        (self.led.first(), changes)
    }

    /// For people: with the picture of the latencies if a style is given for it.
    pub(super) fn text(&self, picture: Option<Style>) -> String {
        let mut out = self.title();
        line(&mut out, "servers", &self.servers_text());
        for led in self.leaderships().1 {
            line(&mut out, "new leader", &self.change_text(led));
        }
        let (operations, seconds) = (self.operations(), self.measured.as_secs_f64());
        let rate = rate(operations, self.measured);
        let text = format!("{rate:.1} operations/s ({operations} in {seconds:.1} s)");
        line(&mut out, "rate", &text);
        line(&mut out, "latency", &self.latency_text());
        if let Some(style) = picture {
            out += &histogram::draw(&self.results.latencies, &self.marks(), style);
        }
        line(&mut out, "errors", &self.errors_text());
        let gap = &self.gap;
        let text = format!(
            "{} without a success of {}, {}",
            millis(gap.length()),
            self.gap_of(),
            span_text(gap)
        );
        line(&mut out, "longest gap", &text);
        if let Some(FaultReport { struck, gap }) = &self.fault {
            let text = format!(
                "{} of {} at {:.4} s: {}, {}",
                struck.fault.name(),
                struck.leader,
                struck.at.as_secs_f64(),
                millis(gap.length()),
                span_text(gap)
            );
            line(&mut out, "gap after", &text);
        }
        line(&mut out, "cpu", &self.costs.cpu_text(operations));
        line(&mut out, "syncs", &self.costs.syncs_text(operations));
        out
    }

    fn title(&self) -> String {
        let reads = match self.mix {
            Mix {
                op: Op::Mixed,
                reads_percent,
            } => format!(", {reads_percent} % reads"),
            _ => String::new(),
        };
        format!(
            "{}{reads}, {}: {}, {}, pipeline {}, {}, {}-byte values\n",
            self.mix.op.name(),
            self.protocol.name(),
            many(self.clients, "client"),
            many(self.chosen.places.len() as u64, "server"),
            self.pipeline,
            many(self.keys, "key"),
            self.value_bytes,
        )
    }

    fn servers_text(&self) -> String {
        let Chosen {
            targets,
            names,
            silent,
            ..
        } = &self.chosen;
        let mut text = format!("{}: {}", targets.name(), names.join(", "));
        match self.leaderships().0 {
            Some(Led { leader, ballot, .. }) => write!(text, "; {leader} leads ({ballot})"),
            None => write!(text, "; no leader was seen"),
        }
        .expect("a string takes all");
        if !silent.is_empty() {
            text += "; no answer from ";
            text += &silent.join(", ");
        }
        text
    }

    /// A leadership that began during the run, and what it means for the figures.
    fn change_text(&self, led: &Led) -> String {
        let Led {
            leader,
            ballot,
            seen,
        } = led;
        let stayed = match self.chosen.targets {
            Targets::All => "",
            Targets::Leader | Targets::Followers => {
                "; the clients stayed at their servers, whoever leads"
            }
        };
        let seen = seen.as_secs_f64();
        format!("{leader} ({ballot}), seen at {seen:.1} s{stayed}")
    }

    /// The quantiles and the longest latency, in microseconds.
    pub(super) fn marks(&self) -> Vec<(&'static str, u64)> {
        let latencies = &self.results.latencies;
        let quantiles = QUANTILES
            .iter()
            .map(|&(name, quantile)| (name, latencies.value_at_quantile(quantile)));
        quantiles.chain([("max", latencies.max())]).collect()
    }

    fn latency_text(&self) -> String {
        if self.operations() == 0 {
            return "unknown: not one success".into();
        }
        let mark = |(name, micros)| format!("{name} {}", millis(Duration::from_micros(micros)));
        let marks: Vec<String> = self.marks().into_iter().map(mark).collect();
        marks.join(", ")
    }

    fn errors_text(&self) -> String {
        let errors = &self.results.errors;
        let sum: u64 = errors.values().sum();
        if sum == 0 {
            return "none".into();
        }
        let each = errors.iter().map(|(code, count)| format!("{code} {count}"));
        format!("{sum}: {}", each.collect::<Vec<_>>().join(", "))
    }
}

fn line(out: &mut String, name: &str, text: &str) {
    writeln!(out, "{name:<13}{text}").expect("a string takes all");
}

fn span_text(gap: &Gap) -> String {
    let end = if gap.closed { "" } else { ", the end" };
    format!(
        "from {:.4} s to {:.4} s{end}",
        gap.from.as_secs_f64(),
        gap.to.as_secs_f64()
    )
}

/// So many a second.
#[expect(
    clippy::cast_precision_loss,
    reason = "a count of operations is far below 2^53"
)]
pub(super) fn rate(count: u64, time: Duration) -> f64 {
    if time.is_zero() {
        0.0
    } else {
        count as f64 / time.as_secs_f64()
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::cost::Spent;
    use super::super::fault::Fault;
    use super::*;
    use crate::paxos::types::NodeId;

    const fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    pub(in super::super) fn led(leader: u8, ballot: &str, seen: Duration) -> Led {
        Led {
            seen,
            leader: NodeId::new(leader).unwrap(),
            ballot: ballot.parse().unwrap(),
        }
    }

    /// A run whose successes took so long, in microseconds.
    pub(in super::super) fn report(latencies: &[u64]) -> Report {
        let mut results = Results::new(Duration::from_secs(5));
        for &latency in latencies {
            results.latencies.saturating_record(latency);
        }
        let led = led(2, "b1.2", ms(0));
        Report {
            protocol: Protocol::Lines,
            mix: Mix::new(Some(Op::Mixed), None).unwrap(),
            clients: 1,
            pipeline: 2,
            keys: 1_000,
            value_bytes: 64,
            chosen: Chosen {
                targets: Targets::All,
                places: vec![0, 1],
                names: vec!["n1".into(), "n2".into()],
                silent: Vec::new(),
                led: Some(led),
            },
            led: vec![led],
            costs: Costs {
                servers: [1, 2]
                    .map(|n| {
                        let spent = Spent {
                            cpu: Some(Duration::from_micros(100 * n)),
                            syncs: Some(n),
                        };
                        (format!("n{n}"), Ok(spent))
                    })
                    .into(),
                members: 2,
            },
            measured: ms(10_000),
            results,
            gap: Gap {
                from: ms(5_001),
                to: ms(5_084),
                closed: true,
            },
            fault: None,
            problem: None,
        }
    }

    pub(in super::super) fn struck(report: Report, closed: bool) -> Report {
        let struck = Struck {
            fault: Fault::Kill,
            leader: NodeId::new(2).unwrap(),
            at: ms(5_002),
        };
        let gap = Gap {
            closed,
            ..report.gap
        };
        Report {
            fault: Some(FaultReport { struck, gap }),
            ..report
        }
    }

    #[test]
    fn people_get_a_line_a_figure() {
        let mut report = struck(report(&[210, 1_500, 20_000, 1_250_000]), false);
        report.results.errors.extend([("lost", 3), ("NOT_DONE", 1)]);
        report.led.push(led(1, "b3.1", ms(6_040)));
        assert_eq!(
            report.text(None),
            "mixed, 50 % reads, lines: 1 client, 2 servers, pipeline 2, 1000 keys, 64-byte values\n\
             servers      all: n1, n2; n2 leads (b1.2)\n\
             new leader   n1 (b3.1), seen at 6.0 s\n\
             rate         0.4 operations/s (4 in 10.0 s)\n\
             latency      p50 1.50 ms, p90 1250 ms, p99 1250 ms, p99.9 1250 ms, max 1250 ms\n\
             errors       4: NOT_DONE 1, lost 3\n\
             longest gap  83.0 ms without a success of writes, from 5.0010 s to 5.0840 s\n\
             gap after    kill of n2 at 5.0020 s: 83.0 ms, from 5.0010 s to 5.0840 s, the end\n\
             cpu          75.0 us an operation: n1 25.0, n2 50.0\n\
             syncs        0.75 an operation: n1 0.25, n2 0.50\n"
        );
    }

    #[test]
    fn the_picture_stands_below_the_latencies() {
        let text = report(&[210, 210, 1_500]).text(Some(Style::PLAIN));
        let lines: Vec<&str> = text.lines().collect();
        let at = lines.iter().position(|line| line.starts_with("latency "));
        let picture = &lines[at.unwrap() + 1..];
        assert!(
            picture[0].starts_with("     200 us        2  ####"),
            "{text}"
        );
        assert!(picture[0].ends_with("#  p50 0.21 ms"), "{text}");
        assert!(picture[8].ends_with("max 1.50 ms"), "{text}");
        assert!(picture[9].starts_with("errors "), "{text}");
    }

    #[test]
    fn who_was_chosen_and_left_out_is_told_and_that_clients_stay() {
        let mut report = report(&[210]);
        report.chosen.targets = Targets::Leader;
        report.chosen.names = vec!["n2".into()];
        report.chosen.silent = vec!["host:3".into()];
        report.led.push(led(1, "b3.1", ms(0)));
        let text = report.text(None);
        let expected = "servers      leader: n2; n2 leads (b1.2); no answer from host:3\n\
                        new leader   n1 (b3.1), seen at 0.0 s; the clients stayed at their servers, \
                        whoever leads\n";
        assert!(text.contains(expected), "{text}");
        report.led.clear();
        let text = report.text(None);
        assert!(text.contains("n2; no leader was seen;"), "{text}");
    }

    #[test]
    fn without_a_success_there_is_no_latency_and_no_cost_of_one() {
        let text = report(&[]).text(Some(Style::PLAIN));
        assert!(
            text.contains("latency      unknown: not one success\nerrors       none\n"),
            "{text}"
        );
        assert!(text.contains("cpu          unknown: not one success\n"));
    }
}
