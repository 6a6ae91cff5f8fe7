//! The values of flags, each a type with a parser: durations, spans of them, addresses, peers, keys.
//!
//! Every parser takes text and gives a value or one line that says what was expected and what was
//! found; clap puts the flag's name in front. Nothing here opens, resolves or connects: a flag that
//! parses may still name a port in use, which only the server or the client can find out.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::os::unix::ffi::OsStringExt;
use std::str::FromStr;
use std::time::Duration;

use clap::builder::{OsStringValueParser, TypedValueParser};

use crate::kv::command::{Bytes, KEY_BYTES_MAX, VALUE_BYTES_MAX};
use crate::paxos::types::{NODES_MAX, NodeId};

/// The longest duration that a flag takes: far above any sense, far below any overflow.
const DURATION_MAX: Duration = Duration::from_hours(24);

/// The longest cluster name, in bytes. It stands in every handshake between servers.
const CLUSTER_NAME_BYTES_MAX: usize = 64;

/// A flag's value that is not what it must be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected {expected}, found '{found}'")]
pub struct FlagError {
    /// What would have been right.
    pub expected: &'static str,
    /// What was there.
    pub found: String,
}

impl FlagError {
    fn new(expected: &'static str, found: &str) -> Self {
        Self {
            expected,
            found: found.into(),
        }
    }
}

/// A duration with its unit: `250ms`, `10s`, `1.5s`, `2m`, `1h`. Up to 24 hours.
pub(crate) fn duration(text: &str) -> Result<Duration, FlagError> {
    let wrong = || {
        FlagError::new(
            "a duration with its unit, such as 500ms, 10s or 2m (up to 24h)",
            text,
        )
    };
    let unit_at = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .ok_or_else(wrong)?;
    let (number, unit) = text.split_at(unit_at);
    let unit_seconds = match unit {
        "ms" => 0.001,
        "s" => 1.0,
        "m" => 60.0,
        "h" => 3600.0,
        _ => return Err(wrong()),
    };
    let plain = number.starts_with(|c: char| c.is_ascii_digit())
        && number.ends_with(|c: char| c.is_ascii_digit());
    let count: f64 = plain
        .then(|| number.parse().ok())
        .flatten()
        .ok_or_else(wrong)?;
    let duration = Duration::try_from_secs_f64(count * unit_seconds).map_err(|_| wrong())?;
    (duration <= DURATION_MAX)
        .then_some(duration)
        .ok_or_else(wrong)
}

/// A duration, or a number of seconds: `500ms`, `2`, `0.5`. Up to 24 hours.
pub(crate) fn seconds(text: &str) -> Result<Duration, FlagError> {
    let with_unit = if text.ends_with(|c: char| c.is_ascii_digit()) {
        duration(&format!("{text}s"))
    } else {
        duration(text)
    };
    with_unit.map_err(|_| {
        FlagError::new(
            "seconds or a duration, such as 2, 500ms or 1m (up to 24h)",
            text,
        )
    })
}

/// A duration that is not zero.
pub(crate) fn positive_duration(text: &str) -> Result<Duration, FlagError> {
    let duration = duration(text)?;
    if duration.is_zero() {
        return Err(FlagError::new("a duration above zero", text));
    }
    Ok(duration)
}

/// A span of durations to choose from at random, both ends included: `2s..4s`, or `3s` for exactly
/// three seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// The shortest; never zero.
    pub min: Duration,
    /// The longest; never below `min`.
    pub max: Duration,
}

impl FromStr for Span {
    type Err = FlagError;

    fn from_str(text: &str) -> Result<Self, FlagError> {
        let (min, max) = text.split_once("..").unwrap_or((text, text));
        let span = Self {
            min: positive_duration(min)?,
            max: positive_duration(max)?,
        };
        if span.min > span.max {
            return Err(FlagError::new(
                "a span from the shorter to the longer, such as 2s..4s",
                text,
            ));
        }
        Ok(span)
    }
}

/// Prints a span as it is typed; whole seconds and milliseconds only, which is all that people use.
impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.min == self.max {
            write!(f, "{:?}", self.min)
        } else {
            write!(f, "{:?}..{:?}", self.min, self.max)
        }
    }
}

/// A `HOST:PORT`, checked in form only: the host may be a name, an IPv4 address or an IPv6 address
/// in brackets; the port is 1 to 65535.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Address(String);

impl Address {
    /// The text, as `std::net` takes it.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The address of a port of this machine, on loopback.
    pub(crate) fn loopback(port: u16) -> Self {
        Self(format!("127.0.0.1:{port}"))
    }
}

impl FromStr for Address {
    type Err = FlagError;

    fn from_str(text: &str) -> Result<Self, FlagError> {
        let wrong = || FlagError::new("HOST:PORT such as 127.0.0.1:7001 or [::1]:7001", text);
        let (host, port) = text.rsplit_once(':').ok_or_else(wrong)?;
        let bracketed = host
            .strip_prefix('[')
            .and_then(|rest| rest.strip_suffix(']'))
            .is_some_and(|inner| inner.parse::<std::net::Ipv6Addr>().is_ok());
        let named = !host.is_empty()
            && host
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b"-._".contains(&b));
        let port_fits = port.bytes().all(|b| b.is_ascii_digit())
            && port.parse::<u16>().is_ok_and(|port| port > 0);
        if (bracketed || named) && port_fits {
            Ok(Self(text.into()))
        } else {
            Err(wrong())
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// Every server of the cluster with the address where the others reach it:
/// `1=HOST:PORT,2=HOST:PORT,...`, an odd number of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peers(pub BTreeMap<NodeId, Address>);

impl Peers {
    /// Five servers on loopback, ports 7101 to 7105.
    pub(crate) fn local_five() -> Self {
        let peer = |n: u8| (node(n), Address::loopback(7100 + u16::from(n)));
        Self((1..=5).map(peer).collect())
    }
}

fn node(number: u8) -> NodeId {
    NodeId::new(number).expect("1 to 9 are nodes")
}

impl FromStr for Peers {
    type Err = FlagError;

    fn from_str(text: &str) -> Result<Self, FlagError> {
        let mut peers = BTreeMap::new();
        for peer in text.split(',') {
            let wrong = || FlagError::new("peers such as 1=127.0.0.1:7101,2=127.0.0.1:7102", peer);
            let (id, address) = peer.trim().split_once('=').ok_or_else(wrong)?;
            let id = server_id(id)?;
            let address: Address = address.parse()?;
            if peers.values().any(|taken| *taken == address) {
                return Err(FlagError::new(
                    "an address of its own for each server",
                    peer,
                ));
            }
            if peers.insert(id, address).is_some() {
                return Err(FlagError::new("each server number once", peer));
            }
        }
        if peers.len().is_multiple_of(2) {
            return Err(FlagError::new("1, 3, 5, 7 or 9 peers", text));
        }
        Ok(Self(peers))
    }
}

impl fmt::Display for Peers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, (id, address)) in self.0.iter().enumerate() {
            let comma = if i == 0 { "" } else { "," };
            write!(f, "{comma}{}={address}", id.number())?;
        }
        Ok(())
    }
}

/// A server number, 1 to 9; `n2` is taken too, since logs print it so.
pub(crate) fn server_id(text: &str) -> Result<NodeId, FlagError> {
    const _: () = assert!(NODES_MAX == 9, "the text below says 9");
    text.strip_prefix('n')
        .unwrap_or(text)
        .parse()
        .ok()
        .and_then(NodeId::new)
        .ok_or_else(|| FlagError::new("a server number from 1 to 9", text))
}

/// A cluster's name: 1 to 64 letters, digits, `-`, `.` or `_`.
pub(crate) fn cluster_name(text: &str) -> Result<String, FlagError> {
    let fits = (1..=CLUSTER_NAME_BYTES_MAX).contains(&text.len())
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"-._".contains(&b));
    fits.then(|| text.into()).ok_or_else(|| {
        FlagError::new(
            "a cluster name of 1 to 64 letters, digits, '-', '.' or '_'",
            text,
        )
    })
}

/// A key: the exact bytes of the argument, 1 to 1,024 of them.
pub(crate) fn key() -> impl TypedValueParser<Value = Bytes> {
    OsStringValueParser::new().try_map(|text| {
        let bytes = bytes(text);
        if bytes.is_empty() {
            return Err("expected a key of at least one byte, found none".to_owned());
        }
        within(bytes, KEY_BYTES_MAX, "a key")
    })
}

/// A value: the exact bytes of the argument, up to 1,048,576 of them.
pub(crate) fn value() -> impl TypedValueParser<Value = Bytes> {
    OsStringValueParser::new().try_map(|text| within(bytes(text), VALUE_BYTES_MAX, "a value"))
}

/// The beginning of a key: as a key, but it may be empty.
pub(crate) fn prefix() -> impl TypedValueParser<Value = Bytes> {
    OsStringValueParser::new().try_map(|text| within(bytes(text), KEY_BYTES_MAX, "a prefix"))
}

fn bytes(text: OsString) -> Bytes {
    text.into_vec().into()
}

fn within(bytes: Bytes, bytes_max: usize, what: &str) -> Result<Bytes, String> {
    if bytes.len() <= bytes_max {
        return Ok(bytes);
    }
    let found = bytes.len();
    Err(format!(
        "expected {what} of at most {bytes_max} bytes, found {found} bytes"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_has_a_number_and_a_unit() {
        for (text, ms) in [
            ("0ms", 0),
            ("500ms", 500),
            ("10s", 10_000),
            ("1.5s", 1_500),
            ("2m", 120_000),
            ("24h", 86_400_000),
        ] {
            assert_eq!(duration(text), Ok(Duration::from_millis(ms)), "{text}");
        }
        for bad in [
            "",
            "10",
            "s",
            "10 s",
            "-1s",
            "1.s",
            ".5s",
            "1..2s",
            "1.2.3s",
            "10S",
            "1d",
            "25h",
            "1e9s",
            "99999999999999999999h",
            "nans",
        ] {
            let error = duration(bad).unwrap_err().to_string();
            assert!(
                error.starts_with("expected a duration with its unit") && error.contains(bad),
                "{bad}: {error}"
            );
        }
        assert!(positive_duration("0s").is_err());
    }

    #[test]
    fn seconds_need_no_unit() {
        for (text, ms) in [("0", 0), ("2", 2_000), ("0.5", 500), ("500ms", 500)] {
            assert_eq!(seconds(text), Ok(Duration::from_millis(ms)), "{text}");
        }
        for bad in ["", "x", "-1", "1.", "90000", "2 s"] {
            let error = seconds(bad).unwrap_err().to_string();
            assert!(
                error.starts_with("expected seconds or a duration")
                    && error.ends_with(&format!("'{bad}'")),
                "{bad}: {error}"
            );
        }
    }

    #[test]
    fn a_span_goes_from_the_shorter_to_the_longer() {
        let span = |min, max| Span {
            min: Duration::from_millis(min),
            max: Duration::from_millis(max),
        };
        assert_eq!("2s..4s".parse(), Ok(span(2_000, 4_000)));
        assert_eq!("500ms..2s".parse(), Ok(span(500, 2_000)));
        assert_eq!("3s".parse(), Ok(span(3_000, 3_000)));
        assert_eq!(span(500, 2_000).to_string(), "500ms..2s");
        assert_eq!(span(3_000, 3_000).to_string(), "3s");
        for bad in ["4s..2s", "2s..", "..4s", "2s...4s", "2..4", "0s..1s", ""] {
            assert!(bad.parse::<Span>().is_err(), "{bad}");
        }
    }

    #[test]
    fn an_address_has_a_host_and_a_port() {
        for good in [
            "127.0.0.1:7001",
            "localhost:1",
            "[::1]:65535",
            "my-host.lan:80",
        ] {
            assert_eq!(good.parse::<Address>().unwrap().to_string(), good);
        }
        for bad in [
            "",
            ":7001",
            "localhost",
            "localhost:",
            "localhost:0",
            "localhost:65536",
            "::1:7001",
            "[::1:7001",
            "[x]:1",
            "a b:1",
            "a:+1",
            "1=a:1",
        ] {
            assert!(bad.parse::<Address>().is_err(), "{bad}");
        }
    }

    #[test]
    fn peers_are_an_odd_number_of_servers_with_their_own_addresses() {
        let three = "1=127.0.0.1:7101,2=127.0.0.1:7102,9=host:7109";
        assert_eq!(three.parse::<Peers>().unwrap().to_string(), three);
        assert_eq!("2=a:1".parse::<Peers>().unwrap().0.len(), 1);
        for (bad, text) in [
            ("", "expected peers such as"),
            ("1=a:1,", "expected peers such as"),
            ("a:1", "expected peers such as"),
            ("0=a:1", "expected a server number from 1 to 9, found '0'"),
            ("10=a:1", "expected a server number from 1 to 9, found '10'"),
            ("1=a", "expected HOST:PORT"),
            ("1=a:1,2=a:2", "expected 1, 3, 5, 7 or 9 peers"),
            (
                "1=a:1,1=b:1,2=c:1",
                "expected each server number once, found '1=b:1'",
            ),
            (
                "1=a:1,2=a:1,3=c:1",
                "expected an address of its own for each server",
            ),
        ] {
            let error = bad.parse::<Peers>().unwrap_err().to_string();
            assert!(error.starts_with(text), "{bad}: {error}");
        }
        let five = Peers::local_five().to_string();
        assert!(five.starts_with("1=127.0.0.1:7101,") && five.ends_with(",5=127.0.0.1:7105"));
        assert_eq!(five.parse(), Ok(Peers::local_five()));
    }

    #[test]
    fn a_server_number_may_be_written_as_logs_print_it() {
        assert_eq!(server_id("3"), server_id("n3"));
        for bad in ["", "n", "0", "10", "-1", "x"] {
            assert!(server_id(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_cluster_name_is_one_plain_word() {
        assert_eq!(cluster_name("fruit-2.b_c"), Ok("fruit-2.b_c".into()));
        for bad in ["", "a b", "ö", "a\"", &"a".repeat(65)] {
            assert!(cluster_name(bad).is_err(), "{bad}");
        }
    }
}
