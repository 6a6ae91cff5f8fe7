//! The figures of a run, for programs: one object on one line.
//!
//! | field | type | what |
//! | --- | --- | --- |
//! | `op`, `protocol`, `targets` | string | as it was asked for |
//! | `reads_percent` | number | how much of the load is reads |
//! | `clients`, `pipeline`, `keys`, `value_bytes` | number | as it was asked for |
//! | `servers` | number | how many the clients talked to |
//! | `server_names` | array | what these are called: `n2`, or the address of one that did not answer |
//! | `leader` | object or null | who led first: `leader`, `ballot`, `seen_s` |
//! | `new_leaders` | array | the same of each leadership that followed |
//! | `seconds` | number | the measured time |
//! | `operations` | number | successes in it |
//! | `rate` | number | successes a second |
//! | `latency_us` | object | `p50`, `p90`, `p99`, `p99_9`, `max`: number, or null without a success |
//! | `histogram_us` | array | of arrays: from, to (not included), how many; the rows of the picture |
//! | `errors` | object | a number for each code that occurred |
//! | `gap_of` | string | `writes` or `reads` |
//! | `gap_ms` | number | the longest gap |
//! | `fault` | object or null | `kind` (`kill`, `freeze`), `leader`, `at_s`, `gap_ms`, `gap_from_ms` (after the signal; may be negative), `recovered` |
//! | `cpu_us_each`, `syncs_each` | number or null | of all servers that tell it, for each success |
//! | `costs_whole` | bool | whether all servers of the cluster told both |
//! | `costs` | array | of each server of `--servers`: `server`, `cpu_us`, `syncs` (number or null), `problem` (string or null) |
//!
//! Times are from the start of the measured time. Every string is made here or is an address, and needs
//! no escape.

use super::cost::{Costs, Spent};
use super::histogram::buckets;
use super::report::{FaultReport, Report, rate};
use super::targets::Led;
use crate::cli::figures::in_millis;

impl Report {
    /// For programs.
    pub(super) fn json(&self) -> String {
        let fields = [
            ("op", string(self.mix.op.name())),
            ("protocol", string(self.protocol.name())),
            ("reads_percent", self.mix.reads_percent.to_string()),
            ("targets", string(self.chosen.targets.name())),
            ("clients", self.clients.to_string()),
            ("servers", self.chosen.places.len().to_string()),
            (
                "server_names",
                array(&self.chosen.names, |name| string(name)),
            ),
            ("leader", or_null(self.leaderships().0, led)),
            ("new_leaders", array(self.leaderships().1, led)),
            ("pipeline", self.pipeline.to_string()),
            ("keys", self.keys.to_string()),
            ("value_bytes", self.value_bytes.to_string()),
            ("seconds", format!("{:.3}", self.measured.as_secs_f64())),
            ("operations", self.operations().to_string()),
            (
                "rate",
                format!("{:.1}", rate(self.operations(), self.measured)),
            ),
            ("latency_us", self.latency_json()),
            ("histogram_us", self.histogram_json()),
            ("errors", self.errors_json()),
            ("gap_of", string(self.gap_of())),
            ("gap_ms", format!("{:.1}", in_millis(self.gap.length()))),
            ("fault", or_null(self.fault.as_ref(), fault)),
        ];
        let costs = costs(&self.costs, self.operations());
        object(fields.into_iter().chain(costs)) + "\n"
    }

    fn latency_json(&self) -> String {
        let known = self.operations() > 0;
        object(self.marks().into_iter().map(|(name, micros)| {
            let latency = or_null(known.then_some(micros), |micros| micros.to_string());
            (name.replace('.', "_"), latency)
        }))
    }

    fn histogram_json(&self) -> String {
        array(&buckets(&self.results.latencies), |bucket| {
            format!("[{},{},{}]", bucket.from, bucket.to, bucket.count)
        })
    }

    fn errors_json(&self) -> String {
        let errors = self.results.errors.iter();
        object(errors.map(|(code, count)| (*code, count.to_string())))
    }
}

fn led(led: &Led) -> String {
    object([
        ("leader", string(&led.leader.to_string())),
        ("ballot", string(&led.ballot.to_string())),
        ("seen_s", format!("{:.1}", led.seen.as_secs_f64())),
    ])
}

fn fault(FaultReport { struck, gap }: &FaultReport) -> String {
    let from_ms = in_millis(gap.from) - in_millis(struck.at);
    object([
        ("kind", string(struck.fault.name())),
        ("leader", string(&struck.leader.to_string())),
        ("at_s", format!("{:.4}", struck.at.as_secs_f64())),
        ("gap_ms", format!("{:.1}", in_millis(gap.length()))),
        ("gap_from_ms", format!("{from_ms:.1}")),
        ("recovered", gap.closed.to_string()),
    ])
}

fn costs(costs: &Costs, operations: u64) -> [(&'static str, String); 4] {
    let each = |each: Option<f64>| {
        let each = each.filter(|_| operations > 0);
        or_null(each, |each| format!("{each:.4}"))
    };
    let server = |(name, spent): &(String, Result<Spent, &'static str>)| {
        let told = spent.as_ref().ok();
        let cpu = told.and_then(|spent| spent.cpu);
        let syncs = told.and_then(|spent| spent.syncs);
        object([
            ("server", string(name)),
            ("cpu_us", or_null(cpu, |cpu| cpu.as_micros().to_string())),
            ("syncs", or_null(syncs, |syncs| syncs.to_string())),
            ("problem", or_null(spent.as_ref().err(), |why| string(why))),
        ])
    };
    [
        ("cpu_us_each", each(costs.cpu_us_each(operations))),
        ("syncs_each", each(costs.syncs_each(operations))),
        ("costs_whole", costs.is_whole().to_string()),
        ("costs", array(&costs.servers, server)),
    ]
}

fn string(text: &str) -> String {
    format!("\"{text}\"")
}

fn or_null<T>(value: Option<T>, json: impl FnOnce(T) -> String) -> String {
    value.map_or_else(|| "null".into(), json)
}

fn array<T>(values: &[T], json: impl Fn(&T) -> String) -> String {
    let values: Vec<String> = values.iter().map(json).collect();
    format!("[{}]", values.join(","))
}

fn object<N: AsRef<str>>(fields: impl IntoIterator<Item = (N, String)>) -> String {
    let fields: Vec<String> = fields
        .into_iter()
        .map(|(name, value)| format!("\"{}\":{value}", name.as_ref()))
        .collect();
    format!("{{{}}}", fields.join(","))
}

#[cfg(test)]
mod tests {
    use super::super::report::tests::{led, report, struck};
    use std::time::Duration;

    #[test]
    fn programs_get_one_object() {
        let mut report = struck(report(&[210]), true);
        report.results.errors.extend([("lost", 3), ("NOT_DONE", 1)]);
        report.led.push(led(1, "b3.1", Duration::from_secs(6)));
        report.costs.servers[1].1 = Err("no answer at the end");
        assert_eq!(
            report.json(),
            "{\"op\":\"mixed\",\"protocol\":\"lines\",\"reads_percent\":50,\"targets\":\"all\",\
             \"clients\":1,\"servers\":2,\"server_names\":[\"n1\",\"n2\"],\
             \"leader\":{\"leader\":\"n2\",\"ballot\":\"b1.2\",\"seen_s\":0.0},\
             \"new_leaders\":[{\"leader\":\"n1\",\"ballot\":\"b3.1\",\"seen_s\":6.0}],\
             \"pipeline\":2,\"keys\":1000,\
             \"value_bytes\":64,\"seconds\":10.000,\"operations\":1,\"rate\":0.1,\
             \"latency_us\":{\"p50\":210,\"p90\":210,\"p99\":210,\"p99_9\":210,\"max\":210},\
             \"histogram_us\":[[200,250,1]],\
             \"errors\":{\"NOT_DONE\":1,\"lost\":3},\"gap_of\":\"writes\",\"gap_ms\":83.0,\
             \"fault\":{\"kind\":\"kill\",\"leader\":\"n2\",\"at_s\":5.0020,\"gap_ms\":83.0,\
             \"gap_from_ms\":-1.0,\"recovered\":true},\
             \"cpu_us_each\":100.0000,\"syncs_each\":1.0000,\"costs_whole\":false,\
             \"costs\":[{\"server\":\"n1\",\"cpu_us\":100,\"syncs\":1,\"problem\":null},\
             {\"server\":\"n2\",\"cpu_us\":null,\"syncs\":null,\
             \"problem\":\"no answer at the end\"}]}\n"
        );
    }

    #[test]
    fn what_is_not_known_is_null() {
        let mut report = report(&[]);
        report.led.clear();
        let json = report.json();
        for null in [
            "\"leader\":null,\"new_leaders\":[],",
            "\"latency_us\":{\"p50\":null,",
            "\"histogram_us\":[],",
            "\"fault\":null,\"cpu_us_each\":null,\"syncs_each\":null,\"costs_whole\":true,",
        ] {
            assert!(json.contains(null), "{null} in {json}");
        }
    }
}
