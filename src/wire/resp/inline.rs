//! Inline requests: words on a line, as Redis splits them.
//!
//! | in the line | means |
//! | --- | --- |
//! | white space | ends a word |
//! | `"..."` | a part of a word; `\n` `\r` `\t` `\b` `\a` `\xHH` as usual, `\` and another byte: that byte |
//! | `'...'` | a part of a word; only `\'` is special |
//!
//! A closing quote must end its word.

use super::frame::Place;

/// A quote that is not closed, or closes in the middle of a word.
#[derive(Debug)]
pub(super) struct Unbalanced;

/// Splits a line without its LF: the words go to `words`, one behind the other, and where each stands
/// there to `places`.
pub(super) fn split(
    line: &[u8],
    words: &mut Vec<u8>,
    places: &mut Vec<Place>,
) -> Result<(), Unbalanced> {
    let mut rest = line.trim_ascii_start();
    while !rest.is_empty() {
        let start = words.len();
        rest = word(rest, words)?;
        places.push(Place::new(start, words.len()));
        rest = rest.trim_ascii_start();
    }
    Ok(())
}

/// Reads one word, and returns what follows it.
fn word<'a>(mut rest: &'a [u8], words: &mut Vec<u8>) -> Result<&'a [u8], Unbalanced> {
    while let Some((&byte, after)) = rest.split_first() {
        rest = match byte {
            b'"' => return ended(double_quoted(after, words)?),
            b'\'' => return ended(single_quoted(after, words)?),
            byte if byte.is_ascii_whitespace() || byte == 0 => return Ok(after),
            byte => {
                words.push(byte);
                after
            }
        };
    }
    Ok(rest)
}

/// What follows a closing quote, which must be white space or nothing.
fn ended(rest: &[u8]) -> Result<&[u8], Unbalanced> {
    match rest.first() {
        Some(byte) if !byte.is_ascii_whitespace() => Err(Unbalanced),
        _ => Ok(rest),
    }
}

fn double_quoted<'a>(mut rest: &'a [u8], words: &mut Vec<u8>) -> Result<&'a [u8], Unbalanced> {
    loop {
        let (byte, after) = match rest {
            [b'"', after @ ..] => return Ok(after),
            [b'\\', b'x', high, low, after @ ..]
                if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() =>
            {
                (16 * hex(*high) + hex(*low), after)
            }
            [b'\\', byte, after @ ..] => (escaped(*byte), after),
            [byte, after @ ..] => (*byte, after),
            [] => return Err(Unbalanced),
        };
        words.push(byte);
        rest = after;
    }
}

fn single_quoted<'a>(mut rest: &'a [u8], words: &mut Vec<u8>) -> Result<&'a [u8], Unbalanced> {
    loop {
        let (byte, after) = match rest {
            [b'\'', after @ ..] => return Ok(after),
            [b'\\', b'\'', after @ ..] => (b'\'', after),
            [byte, after @ ..] => (*byte, after),
            [] => return Err(Unbalanced),
        };
        words.push(byte);
        rest = after;
    }
}

fn escaped(byte: u8) -> u8 {
    match byte {
        b'n' => b'\n',
        b'r' => b'\r',
        b't' => b'\t',
        b'b' => 8,
        b'a' => 7,
        other => other,
    }
}

/// The number of a hex digit.
fn hex(digit: u8) -> u8 {
    match digit {
        b'0'..=b'9' => digit - b'0',
        _ => (digit | 0x20) - b'a' + 10,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &[u8]) -> Result<Vec<Vec<u8>>, Unbalanced> {
        let (mut words, mut places) = (Vec::new(), Vec::new());
        split(line, &mut words, &mut places)?;
        Ok(places
            .iter()
            .map(|place| place.of(&words).to_vec())
            .collect())
    }

    /// Each beside what Redis 7.0.15 made of it.
    #[test]
    fn words_are_those_of_redis() {
        for (line, expected) in [
            (&b"PING\r"[..], &[&b"PING"[..]][..]),
            (b"  get\tkey  ", &[b"get", b"key"]),
            (b"echo \"a\\x41\\n\" \r", &[b"echo", b"aA\n"]),
            (
                b"echo \"\\xaf\\xFA\\x9b\\xfg\"",
                &[b"echo", b"\xaf\xfa\x9bxfg"],
            ),
            (b"echo 'a\\'b'\r", &[b"echo", b"a'b"]),
            (b"echo 'a\\nb'", &[b"echo", b"a\\nb"]),
            (b"echo \"\" ''", &[b"echo", b"", b""]),
            (b"echo a\"b c\"", &[b"echo", b"ab c"]),
            (b"echo \"\\q\\\\\\\"\\xZZ\"", &[b"echo", b"q\\\"xZZ"]),
            (b" \r", &[]),
            (b"", &[]),
        ] {
            assert_eq!(words(line).unwrap(), expected, "{}", line.escape_ascii());
        }
    }

    #[test]
    fn a_quote_must_close_and_end_its_word() {
        for line in [
            "\"",
            "'",
            "echo \"a",
            "echo 'a",
            "echo \"a\"b",
            "'a'b",
            "\"\\\"",
        ] {
            assert!(words(line.as_bytes()).is_err(), "{line}");
        }
    }
}
