//! Latencies as a picture: a row for each range of them, ten times as long after every ten rows or fewer.
//!
//! ```text
//!     1.60 ms      912  #######
//!     2.00 ms     5103  ########################################  p50 2.31 ms
//!     2.50 ms     3811  ##############################  p90 2.95 ms
//!     3.15 ms      140  #
//!     4.00 ms       12  .                                         p99 4.40 ms
//! ```
//!
//! A row begins at its time and ends before that of the next one. Bars are as long as their rows have
//! requests; a row that has any has at least a point. Rows are as fine as a screen has room for.

use std::fmt::Write as _;
use std::time::Duration;

use hdrhistogram::Histogram;

use crate::cli::figures::{millis, number};
use crate::cli::style::{Paint, Style};

/// Where rows begin within a power of ten, from fine to coarse: round numbers about equally far apart.
const STEPS: [&[u64]; 4] = [
    &[100, 125, 160, 200, 250, 315, 400, 500, 630, 800],
    &[100, 160, 250, 400, 630],
    &[100, 200, 500],
    &[100],
];

/// The most rows, unless even a row for each power of ten makes more.
const ROWS_MAX: usize = 20;

/// How long the longest bar is, in characters.
const BAR_CHARS: usize = 40;

/// Powers of ten of microseconds that a latency can have: 10^9 are a quarter of an hour.
const DECADES: u32 = 12;

/// The latencies from one time to another, in microseconds; the second one is the next row's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Bucket {
    pub(super) from: u64,
    pub(super) to: u64,
    pub(super) count: u64,
}

/// Rows from the first to the last that has any request; none if there is no request.
pub(super) fn buckets(latencies: &Histogram<u32>) -> Vec<Bucket> {
    let fitting = STEPS.iter().map(|steps| buckets_of(latencies, steps));
    let mut last = Vec::new();
    for buckets in fitting {
        last = buckets;
        if last.len() <= ROWS_MAX {
            break;
        }
    }
    last
}

fn buckets_of(latencies: &Histogram<u32>, steps: &[u64]) -> Vec<Bucket> {
    let mut edges: Vec<u64> = (0..DECADES)
        .flat_map(|decade| {
            steps
                .iter()
                .map(move |step| step * 10_u64.pow(decade) / 100)
        })
        .collect();
    // Below 10 us there are fewer whole numbers than steps.
    edges.dedup();
    let mut buckets: Vec<Bucket> = edges
        .windows(2)
        .map(|edges| Bucket {
            from: edges[0],
            to: edges[1],
            count: 0,
        })
        .collect();
    for found in latencies.iter_recorded() {
        let at = buckets.partition_point(|bucket| bucket.to <= found.value_iterated_to());
        let at = at.min(buckets.len() - 1);
        buckets[at].count += u64::from(found.count_at_value());
    }
    let is_used = |bucket: &Bucket| bucket.count > 0;
    let first = buckets.iter().position(is_used).unwrap_or(buckets.len());
    let end = buckets.iter().rposition(is_used).map_or(first, |at| at + 1);
    buckets[first..end].to_vec()
}

/// The picture, with each of `marks` (its name, and a latency in microseconds) at its row. Empty if there
/// is no request.
pub(super) fn draw(latencies: &Histogram<u32>, marks: &[(&str, u64)], style: Style) -> String {
    let buckets = buckets(latencies);
    let most = buckets.iter().map(|bucket| bucket.count).max().unwrap_or(0);
    let digits = most.to_string().len().max(8);
    let last = buckets.len().saturating_sub(1);
    let mut out = String::new();
    for (row, bucket) in buckets.iter().enumerate() {
        // A latency is rounded up to what the histogram tells apart, which may be the next row's.
        let is_here = |micros: u64| {
            (row == 0 || micros >= bucket.from) && (row == last || micros < bucket.to)
        };
        let here: Vec<String> = marks
            .iter()
            .filter(|&&(_, micros)| is_here(micros))
            .map(|(name, micros)| format!("{name} {}", millis(Duration::from_micros(*micros))))
            .collect();
        let from = time(bucket.from);
        let count = bucket.count;
        let bar = bar(count, most);
        let line = match &here[..] {
            [] => format!("{from:>11} {count:>digits$}  {bar}"),
            here => {
                let marks = style.paint(Paint::Bold, &here.join(", "));
                format!("{from:>11} {count:>digits$}  {bar:<BAR_CHARS$}  {marks}")
            }
        };
        writeln!(out, "{}", line.trim_end()).expect("a string takes all");
    }
    out
}

/// As long as `count` is of `most`; a point for what is shorter than a sign.
fn bar(count: u64, most: u64) -> String {
    let signs = (count * BAR_CHARS as u64).checked_div(most).unwrap_or(0);
    match (count, signs) {
        (0, _) => String::new(),
        (_, 0) => ".".into(),
        (_, signs) => "#".repeat(usize::try_from(signs).unwrap_or(BAR_CHARS)),
    }
}

/// `80 us`, `1.25 ms`, `250 ms`: edges have three digits at most.
fn time(micros: u64) -> String {
    if micros < 1_000 {
        return format!("{micros} us");
    }
    let millis = Duration::from_micros(micros).as_secs_f64() * 1_000.0;
    number(millis).trim_end_matches(".0").to_owned() + " ms"
}

#[cfg(test)]
mod tests {
    use super::*;

    fn latencies(of: &[(u64, u32)]) -> Histogram<u32> {
        let mut latencies = Histogram::new_with_max(60_000_000, 3).unwrap();
        for &(micros, count) in of {
            latencies.record_n(micros, count).unwrap();
        }
        latencies
    }

    #[test]
    fn every_latency_is_in_the_row_that_it_falls_into() {
        let of = [(1, 1), (99, 2), (100, 3), (124, 4), (125, 5), (159, 6)];
        let buckets = buckets_of(&latencies(&of), STEPS[0]);
        let rows = |from: u64| buckets.iter().find(|bucket| bucket.from == from).unwrap();
        assert_eq!((rows(1).to, rows(1).count), (2, 1));
        assert_eq!((rows(80).to, rows(80).count), (100, 2));
        assert_eq!((rows(100).to, rows(100).count), (125, 7));
        assert_eq!((rows(125).to, rows(125).count), (160, 11));
        assert_eq!(buckets.last(), Some(rows(125)), "no empty rows at the end");
        assert_eq!(rows(16).count, 0, "but between");
        for pair in buckets.windows(2) {
            assert_eq!(pair[0].to, pair[1].from);
        }
    }

    #[test]
    fn rows_are_as_fine_as_there_is_room_for() {
        let rows = |from: u64, to: u64| {
            let buckets = buckets(&latencies(&[(from, 3), (to, 4)]));
            assert_eq!(buckets.iter().map(|bucket| bucket.count).sum::<u64>(), 7);
            buckets.len()
        };
        assert_eq!(rows(1_000, 9_900), 10);
        assert_eq!(rows(1_000, 99_000), 20);
        assert_eq!(rows(1_000, 990_000), 15);
        assert_eq!(rows(100, 9_900_000), 15);
        assert_eq!(rows(1_000, 1_000), 1);
        assert!(buckets(&latencies(&[])).is_empty());
    }

    #[test]
    fn a_picture_has_bars_counts_and_marks() {
        let latencies = latencies(&[
            (80, 3),
            (101, 20),
            (110, 20),
            (130, 10),
            (300, 1),
            (1_250, 0),
        ]);
        let marks = [("p50", 110), ("p90", 130), ("p99", 300), ("max", 300)];
        assert_eq!(
            draw(&latencies, &marks, Style::PLAIN),
            "      80 us        3  ###\n\
             \u{20}    100 us       40  ########################################  p50 0.11 ms\n\
             \u{20}    125 us       10  ##########                                p90 0.13 ms\n\
             \u{20}    160 us        0\n\
             \u{20}    200 us        0\n\
             \u{20}    250 us        1  #                                         p99 0.30 ms, max 0.30 ms\n"
        );
        assert_eq!(draw(&self::latencies(&[]), &marks, Style::PLAIN), "");
    }

    #[test]
    fn what_is_too_few_for_a_bar_is_a_point() {
        assert_eq!(bar(0, 1_000_000), "");
        assert_eq!(bar(1, 1_000_000), ".");
        assert_eq!(bar(25_000, 1_000_000), "#");
        assert_eq!(bar(1_000_000, 1_000_000).len(), BAR_CHARS);
        assert_eq!(bar(0, 0), "");
    }

    #[test]
    fn a_time_has_its_digits_and_no_more() {
        for (micros, text) in [
            (1, "1 us"),
            (630, "630 us"),
            (1_250, "1.25 ms"),
            (12_500, "12.5 ms"),
            (25_000, "25 ms"),
            (315_000, "315 ms"),
            (10_000_000, "10000 ms"),
        ] {
            assert_eq!(time(micros), text);
        }
    }

    /// The percentiles of a histogram are rounded up, past the edge of the row that counts them.
    #[test]
    fn every_mark_has_a_row() {
        for micros in [999, 1_249, 124_999, 99_990] {
            let latencies = latencies(&[(micros, 5)]);
            let marks = [("max", latencies.max())];
            let picture = draw(&latencies, &marks, Style::PLAIN);
            assert!(picture.contains("max "), "{micros}: {picture}");
        }
    }
}
