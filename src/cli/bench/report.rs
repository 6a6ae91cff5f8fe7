//! The figures of a run, for people and as one JSON object.
//!
//! | JSON field | type | what |
//! | --- | --- | --- |
//! | `op` | string | as it was asked for |
//! | `clients`, `servers`, `pipeline`, `keys`, `value_bytes` | number | as it was asked for |
//! | `seconds` | number | the measured time |
//! | `operations` | number | successes in it |
//! | `rate` | number | successes a second |
//! | `latency_us` | object | `p50`, `p90`, `p99`, `p99_9`, `max`: number, or null without a success |
//! | `errors` | object | a number for each code that occurred |
//! | `gap_of` | string | `writes` or `reads` |
//! | `gap_ms` | number | the longest gap |
//! | `fault` | object or null | `kind` (`kill`, `freeze`), `leader`, `at_s`, `gap_ms`, `gap_from_ms` (after the signal; may be negative), `recovered` |
//!
//! Times are from the start of the measured time.

use std::fmt::Write as _;
use std::time::Duration;

use super::Args;
use super::fault::Struck;
use super::load::{Op, Results, Run};
use super::timeline::Gap;
use crate::cli::figures::{in_millis, many, millis};

/// What is shown of the latencies.
const QUANTILES: [(&str, f64); 4] = [("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p99.9", 0.999)];

/// All figures of a run.
pub(super) struct Report {
    op: Op,
    clients: u32,
    servers: usize,
    pipeline: u32,
    keys: u64,
    value_bytes: usize,
    measured: Duration,
    results: Results,
    /// The longest gap; its times are from the start of the measured time.
    gap: Gap,
    fault: Option<FaultReport>,
    /// Why the run is a failure, if it is one.
    pub(super) problem: Option<String>,
}

struct FaultReport {
    struck: Struck,
    gap: Gap,
}

impl Report {
    /// Of a run that ended `ended` after its start.
    pub(super) fn new(
        args: &Args,
        run: &Run,
        ended: Duration,
        results: Results,
        struck: Option<Struck>,
        problem: Option<String>,
    ) -> Self {
        let zero = run.measured.start;
        let ended = ended.max(zero);
        let gap_after = |event| {
            let gap = run.timeline.longest_gap(zero, ended, event);
            Gap {
                from: gap.from.saturating_sub(zero),
                to: gap.to.saturating_sub(zero),
                ..gap
            }
        };
        Self {
            op: args.op,
            clients: args.clients,
            servers: run.servers.len(),
            pipeline: args.pipeline,
            keys: args.keys,
            value_bytes: args.value_bytes,
            measured: ended.saturating_sub(zero),
            results,
            gap: gap_after(zero),
            fault: struck.map(|struck| FaultReport {
                gap: gap_after(struck.at),
                struck: Struck {
                    at: struck.at.saturating_sub(zero),
                    ..struck
                },
            }),
            problem,
        }
    }

    fn operations(&self) -> u64 {
        self.results.latencies.len()
    }

    fn gap_of(&self) -> &'static str {
        if self.op.writes() { "writes" } else { "reads" }
    }

    /// For people.
    pub(super) fn text(&self) -> String {
        let mut out = format!(
            "{}: {}, {}, pipeline {}, {}, {}-byte values\n",
            self.op.name(),
            many(self.clients, "client"),
            many(self.servers as u64, "server"),
            self.pipeline,
            many(self.keys, "key"),
            self.value_bytes,
        );
        let mut line = |name: &str, text: &str| {
            writeln!(out, "{name:<13}{text}").expect("a string takes all");
        };
        line(
            "rate",
            &format!(
                "{:.1} operations/s ({} in {:.1} s)",
                rate(self.operations(), self.measured),
                self.operations(),
                self.measured.as_secs_f64()
            ),
        );
        line("latency", &self.latency_text());
        line("errors", &self.errors_text());
        line(
            "longest gap",
            &format!(
                "{} without a success of {}, {}",
                millis(self.gap.length()),
                self.gap_of(),
                span_text(&self.gap)
            ),
        );
        if let Some(FaultReport { struck, gap }) = &self.fault {
            let text = format!(
                "{} of {} at {:.4} s: {}, {}",
                struck.fault.name(),
                struck.leader,
                struck.at.as_secs_f64(),
                millis(gap.length()),
                span_text(gap)
            );
            line("gap after", &text);
        }
        out
    }

    fn latency_text(&self) -> String {
        if self.operations() == 0 {
            return "unknown: not one success".into();
        }
        let micros = |micros| millis(Duration::from_micros(micros));
        let latencies = &self.results.latencies;
        let mut text = String::new();
        for (name, quantile) in QUANTILES {
            let at = micros(latencies.value_at_quantile(quantile));
            write!(text, "{name} {at}, ").expect("a string takes all");
        }
        text + "max " + &micros(latencies.max())
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

    /// For programs: one object, one line.
    pub(super) fn json(&self) -> String {
        let latencies = &self.results.latencies;
        let latency = |micros: u64| {
            if latencies.is_empty() {
                "null".into()
            } else {
                micros.to_string()
            }
        };
        let quantiles = QUANTILES.map(|(name, quantile)| {
            let name = name.replace('.', "_");
            let at = latency(latencies.value_at_quantile(quantile));
            format!("\"{name}\":{at}")
        });
        let errors = self.results.errors.iter();
        let errors: Vec<String> = errors
            .map(|(code, count)| format!("\"{code}\":{count}"))
            .collect();
        format!(
            "{{\"op\":\"{}\",\"clients\":{},\"servers\":{},\"pipeline\":{},\"keys\":{},\
             \"value_bytes\":{},\"seconds\":{:.3},\"operations\":{},\"rate\":{:.1},\
             \"latency_us\":{{{},\"max\":{}}},\"errors\":{{{}}},\"gap_of\":\"{}\",\
             \"gap_ms\":{:.1},\"fault\":{}}}\n",
            self.op.name(),
            self.clients,
            self.servers,
            self.pipeline,
            self.keys,
            self.value_bytes,
            self.measured.as_secs_f64(),
            self.operations(),
            rate(self.operations(), self.measured),
            quantiles.join(","),
            latency(latencies.max()),
            errors.join(","),
            self.gap_of(),
            in_millis(self.gap.length()),
            self.fault.as_ref().map_or("null".into(), fault_json),
        )
    }
}

fn fault_json(fault: &FaultReport) -> String {
    let FaultReport { struck, gap } = fault;
    format!(
        "{{\"kind\":\"{}\",\"leader\":\"{}\",\"at_s\":{:.4},\"gap_ms\":{:.1},\
         \"gap_from_ms\":{:.1},\"recovered\":{}}}",
        struck.fault.name(),
        struck.leader,
        struck.at.as_secs_f64(),
        in_millis(gap.length()),
        in_millis(gap.from) - in_millis(struck.at),
        gap.closed,
    )
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
mod tests {
    use super::super::fault::Fault;
    use super::*;
    use crate::paxos::types::NodeId;

    const fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    fn report(latencies: &[u64]) -> Report {
        let mut results = Results::new(Duration::from_secs(5));
        for &latency in latencies {
            results.latencies.saturating_record(latency);
        }
        Report {
            op: Op::Mixed,
            clients: 1,
            servers: 5,
            pipeline: 2,
            keys: 1_000,
            value_bytes: 64,
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

    fn struck(report: Report, closed: bool) -> Report {
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
        assert_eq!(
            report.text(),
            "mixed: 1 client, 5 servers, pipeline 2, 1000 keys, 64-byte values\n\
             rate         0.4 operations/s (4 in 10.0 s)\n\
             latency      p50 1.50 ms, p90 1250 ms, p99 1250 ms, p99.9 1250 ms, max 1250 ms\n\
             errors       4: NOT_DONE 1, lost 3\n\
             longest gap  83.0 ms without a success of writes, from 5.0010 s to 5.0840 s\n\
             gap after    kill of n2 at 5.0020 s: 83.0 ms, from 5.0010 s to 5.0840 s, the end\n"
        );
    }

    #[test]
    fn programs_get_one_object() {
        let mut report = struck(report(&[210]), true);
        report.results.errors.extend([("lost", 3), ("NOT_DONE", 1)]);
        assert_eq!(
            report.json(),
            "{\"op\":\"mixed\",\"clients\":1,\"servers\":5,\"pipeline\":2,\"keys\":1000,\
             \"value_bytes\":64,\"seconds\":10.000,\"operations\":1,\"rate\":0.1,\
             \"latency_us\":{\"p50\":210,\"p90\":210,\"p99\":210,\"p99_9\":210,\"max\":210},\
             \"errors\":{\"NOT_DONE\":1,\"lost\":3},\"gap_of\":\"writes\",\"gap_ms\":83.0,\
             \"fault\":{\"kind\":\"kill\",\"leader\":\"n2\",\"at_s\":5.0020,\"gap_ms\":83.0,\
             \"gap_from_ms\":-1.0,\"recovered\":true}}\n"
        );
    }

    #[test]
    fn without_a_success_there_is_no_latency() {
        let report = report(&[]);
        assert!(
            report
                .text()
                .contains("latency      unknown: not one success\nerrors       none\n")
        );
        assert!(report.json().contains("{\"p50\":null,"));
        assert!(report.json().ends_with("\"fault\":null}\n"));
    }
}
