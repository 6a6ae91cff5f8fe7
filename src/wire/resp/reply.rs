//! Replies: what a server answers, in either version of the protocol.
//!
//! | reply | version 2 | version 3 |
//! | --- | --- | --- |
//! | simple, error | `+OK`, `-ERR text` | the same |
//! | integer | `:5` | the same |
//! | bulk | `$4`, then the bytes | the same |
//! | null | `$-1` | `_` |
//! | null array | `*-1` | `_` |
//! | array | `*2`, then two replies | the same |
//! | map | `*4`, then key, value, key, value | `%2`, then the same |
//!
//! Every line ends in CR LF. What else version 3 knows (sets, doubles, verbatim strings) is never
//! sent: a client that understands it understands these too.

use std::borrow::Cow;
use std::convert::Infallible;
use std::io::Write as _;

use crate::kv::command::Bytes;

/// The version of the protocol that a connection speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Protocol {
    /// What every connection begins with.
    #[default]
    Two,
    /// After `HELLO 3`.
    Three,
}

impl Protocol {
    /// 2 or 3.
    pub fn number(self) -> i64 {
        match self {
            Self::Two => 2,
            Self::Three => 3,
        }
    }
}

/// What a server answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    /// One word or a few, such as `OK`.
    Simple(&'static str),
    /// What went wrong: a code for programs, and a text for people.
    Error(Cow<'static, str>),
    /// A number.
    Integer(i64),
    /// Any bytes.
    Bulk(Bytes),
    /// Nothing is there.
    Null,
    /// No replies, where there could have been some.
    NullArray,
    /// Replies in order.
    Array(Vec<Reply>),
    /// Keys and values, in order.
    Map(Vec<(Reply, Reply)>),
}

impl Reply {
    /// Done.
    pub const OK: Self = Self::Simple("OK");

    /// A text as a bulk string.
    pub fn text(text: impl AsRef<str>) -> Self {
        Self::Bulk(text.as_ref().as_bytes().into())
    }

    /// How many of something there are.
    pub fn count(count: usize) -> Self {
        Self::Integer(i64::try_from(count).unwrap_or(i64::MAX))
    }

    /// What was found under a key.
    pub fn found(value: Option<Bytes>) -> Self {
        value.map_or(Self::Null, Self::Bulk)
    }

    /// Surely not done, now or ever: `NOT_DONE` of plain lines.
    pub fn not_done(why: &str) -> Self {
        Self::Error(format!("NOTDONE {why}").into())
    }

    /// Not even whether anything was done is known: an outcome is missing, or is none that can be.
    pub fn untold() -> Self {
        Self::unknown("what became of this command was not told: perhaps it was done")
    }

    /// Perhaps done, perhaps later: `UNKNOWN` of plain lines.
    pub fn unknown(why: &str) -> Self {
        Self::Error(format!("UNKNOWN {why}").into())
    }

    /// An error that Redis has no other code for.
    pub fn error(text: impl std::fmt::Display) -> Self {
        Self::Error(format!("ERR {text}").into())
    }

    /// About how many bytes its list takes, beside keys and values, which it shares with the store.
    pub fn memory(&self) -> usize {
        match self {
            Self::Array(elements) => {
                let nested: usize = elements.iter().map(Self::memory).sum();
                elements.capacity() * size_of::<Self>() + nested
            }
            _ => 0,
        }
    }

    /// Appends this reply.
    pub fn write(&self, protocol: Protocol, out: &mut Vec<u8>) {
        let done = self.write_in_parts(protocol, out, |_| Ok::<_, Infallible>(()));
        done.unwrap_or_else(|never| match never {});
    }

    /// Appends this reply, and calls `part` after each element of an array, which may take away what
    /// `out` holds: many large values need not stand in memory together as text.
    ///
    /// # Errors
    /// What `part` returns.
    pub fn write_in_parts<E>(
        &self,
        protocol: Protocol,
        out: &mut Vec<u8>,
        mut part: impl FnMut(&mut Vec<u8>) -> Result<(), E>,
    ) -> Result<(), E> {
        match self {
            Self::Simple(text) => push(out, format_args!("+{text}\r\n")),
            Self::Error(text) => {
                // What would end the line becomes a space.
                let text = text.replace(['\r', '\n'], " ");
                push(out, format_args!("-{text}\r\n"));
            }
            Self::Integer(number) => push(out, format_args!(":{number}\r\n")),
            Self::Bulk(bytes) => {
                push(out, format_args!("${}\r\n", bytes.len()));
                out.extend_from_slice(bytes);
                out.extend_from_slice(b"\r\n");
            }
            Self::Null => out.extend_from_slice(match protocol {
                Protocol::Two => b"$-1\r\n",
                Protocol::Three => b"_\r\n",
            }),
            Self::NullArray => out.extend_from_slice(match protocol {
                Protocol::Two => b"*-1\r\n",
                Protocol::Three => b"_\r\n",
            }),
            Self::Array(elements) => {
                push(out, format_args!("*{}\r\n", elements.len()));
                for element in elements {
                    element.write(protocol, out);
                    part(out)?;
                }
            }
            Self::Map(pairs) => {
                match protocol {
                    Protocol::Two => push(out, format_args!("*{}\r\n", 2 * pairs.len())),
                    Protocol::Three => push(out, format_args!("%{}\r\n", pairs.len())),
                }
                for (key, value) in pairs {
                    key.write(protocol, out);
                    value.write(protocol, out);
                }
            }
        }
        Ok(())
    }
}

fn push(out: &mut Vec<u8>, text: std::fmt::Arguments<'_>) {
    out.write_fmt(text).expect("a vector takes every byte");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(reply: &Reply) -> [String; 2] {
        [Protocol::Two, Protocol::Three].map(|protocol| {
            let mut out = Vec::new();
            reply.write(protocol, &mut out);
            String::from_utf8(out).unwrap()
        })
    }

    #[test]
    fn most_replies_are_the_same_in_both_versions() {
        for (reply, expected) in [
            (Reply::OK, "+OK\r\n"),
            (Reply::error("no 'x'"), "-ERR no 'x'\r\n"),
            (Reply::Integer(i64::MIN), ":-9223372036854775808\r\n"),
            (Reply::count(3), ":3\r\n"),
            (Reply::text(""), "$0\r\n\r\n"),
            (Reply::text("a\r\nb"), "$4\r\na\r\nb\r\n"),
            (Reply::Array(vec![]), "*0\r\n"),
            (
                Reply::Array(vec![Reply::Integer(1), Reply::Array(vec![Reply::OK])]),
                "*2\r\n:1\r\n*1\r\n+OK\r\n",
            ),
        ] {
            assert_eq!(written(&reply), [expected, expected]);
        }
    }

    #[test]
    fn a_version_is_told_by_its_number() {
        assert_eq!(Protocol::default().number(), 2);
        assert_eq!(Protocol::Three.number(), 3);
    }

    #[test]
    fn null_and_map_are_what_the_version_has_for_them() {
        assert_eq!(written(&Reply::Null), ["$-1\r\n", "_\r\n"]);
        assert_eq!(written(&Reply::found(None)), ["$-1\r\n", "_\r\n"]);
        assert_eq!(written(&Reply::NullArray), ["*-1\r\n", "_\r\n"]);
        let map = Reply::Map(vec![(Reply::text("a"), Reply::Null)]);
        let nested = Reply::Array(vec![map]);
        let expected = [
            "*1\r\n*2\r\n$1\r\na\r\n$-1\r\n",
            "*1\r\n%1\r\n$1\r\na\r\n_\r\n",
        ];
        assert_eq!(written(&nested), expected);
    }

    /// Else a client could be made to read a reply that nobody gave.
    #[test]
    fn an_error_is_one_line_whatever_it_repeats() {
        let reply = Reply::error("unknown command 'a\r\n+OK\r\n'");
        assert_eq!(written(&reply)[0], "-ERR unknown command 'a  +OK  '\r\n");
    }

    #[test]
    fn a_long_array_can_be_taken_away_in_parts() {
        let reply = Reply::Array(vec![Reply::text("pear"); 5]);
        let (mut out, mut all) = (Vec::new(), Vec::new());
        let mut parts = 0;
        let done = reply.write_in_parts(Protocol::Two, &mut out, |out| {
            parts += 1;
            all.append(out);
            Ok::<_, ()>(())
        });
        assert!(done.is_ok() && out.is_empty());
        assert_eq!((parts, all.len()), (5, 4 + 5 * 10));
        let stopped = reply.write_in_parts(Protocol::Two, &mut out, |_| Err("gone"));
        assert_eq!(stopped, Err("gone"));
    }
}
