//! Figures for people: times, counts.

use std::time::Duration;

/// So many milliseconds.
pub(crate) fn in_millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1_000.0
}

/// A time with the places that matter: `0.21 ms`, `83.4 ms`, `1250 ms`.
pub(crate) fn millis(time: Duration) -> String {
    number(in_millis(time)) + " ms"
}

/// A number with the places that matter: `0.21`, `83.4`, `1250`.
pub(crate) fn number(number: f64) -> String {
    let places = if number < 10.0 {
        2
    } else {
        usize::from(number < 1_000.0)
    };
    format!("{number:.places$}")
}

/// A count of things: `1 server`, `5 servers`.
pub(crate) fn many(count: impl TryInto<u64>, what: &str) -> String {
    let count = count.try_into().unwrap_or(u64::MAX);
    let plural = if count == 1 { "" } else { "s" };
    format!("{count} {what}{plural}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_has_the_places_that_matter() {
        for (micros, text) in [
            (0, "0.00 ms"),
            (214, "0.21 ms"),
            (83_440, "83.4 ms"),
            (1_250_400, "1250 ms"),
        ] {
            assert_eq!(millis(Duration::from_micros(micros)), text);
        }
    }

    #[test]
    fn one_is_singular() {
        let text = [many(0_u64, "key"), many(1_u64, "key"), many(2_u64, "key")];
        assert_eq!(text, ["0 keys", "1 key", "2 keys"]);
    }
}
