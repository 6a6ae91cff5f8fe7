//! Tokens: the words of every line that Quince reads or writes, for clients, peers and files.
//!
//! A token is *bare* (no space or tab in it, not beginning with `"`) or *quoted*: `"..."` with the
//! escapes `\"` `\\` `\n` `\r` `\t` `\0` `\xHH`. A quoted token can hold any byte. Printing chooses
//! the bare form when it reads back as the same bytes, and the quoted form otherwise, so that a
//! token printed here never holds a line end or a control character.
//!
//! This module knows no verb and no type: who calls it decides what a word means.

use std::borrow::Cow;

/// A decimal number without sign, blank or leading zero: each number has one text.
pub fn number(text: &[u8]) -> Option<u64> {
    let leading_zero = text.len() > 1 && text[0] == b'0';
    if text.is_empty() || leading_zero {
        return None;
    }
    text.iter().try_fold(0_u64, |sum, &digit| {
        let digit = digit.is_ascii_digit().then(|| digit - b'0')?;
        sum.checked_mul(10)?.checked_add(u64::from(digit))
    })
}

/// What was expected and what was found: the two halves of every parse error.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected {expected}, found {found}")]
pub struct ParseError {
    /// What would have been right here, for people.
    pub expected: String,
    /// What stood there instead, quoted and cut to a readable length.
    pub found: String,
}

impl ParseError {
    /// An error at a token that is there but is wrong.
    pub fn at(expected: impl Into<String>, found: &[u8]) -> Self {
        Self {
            expected: expected.into(),
            found: excerpt(found),
        }
    }

    /// An error where the line ended too early.
    pub fn at_end(expected: impl Into<String>) -> Self {
        Self {
            expected: expected.into(),
            found: "the end of the line".into(),
        }
    }
}

/// How many bytes of a wrong token an error repeats.
const EXCERPT_BYTES_MAX: usize = 40;

/// A token for people: quoted, free of control characters, cut when long.
pub fn excerpt(bytes: &[u8]) -> String {
    let cut = &bytes[..bytes.len().min(EXCERPT_BYTES_MAX)];
    let mut quoted = Vec::new();
    write_quoted(&mut quoted, cut);
    let mut text = String::from_utf8_lossy(&quoted).into_owned();
    if cut.len() < bytes.len() {
        text.push_str("...");
    }
    text
}

/// Reads one line, without its LF, token by token.
#[derive(Debug, Clone)]
pub struct Tokens<'a> {
    rest: &'a [u8],
}

impl<'a> Tokens<'a> {
    /// Starts at the beginning of `line`.
    pub fn new(line: &'a [u8]) -> Self {
        Self { rest: line }
    }

    /// What has not been read, with the white space at both ends removed.
    pub fn rest(&self) -> &'a [u8] {
        trim(self.rest)
    }

    /// What has not been read, exactly as it stands after the one space that ends the last token.
    /// For lines whose tail is a value of its own.
    pub fn tail(&self) -> &'a [u8] {
        self.rest.strip_prefix(b" ").unwrap_or(self.rest)
    }

    /// Whether the next token is quoted.
    pub fn next_is_quoted(&self) -> bool {
        trim_start(self.rest).first() == Some(&b'"')
    }

    /// The next token; `None` at the end of the line.
    ///
    /// # Errors
    /// A quoted token that is not closed, is followed by something other than white space, or has
    /// an escape that does not exist.
    pub fn next_token(&mut self) -> Result<Option<Cow<'a, [u8]>>, ParseError> {
        let start = trim_start(self.rest);
        match start.first() {
            None => {
                self.rest = start;
                Ok(None)
            }
            Some(b'"') => self.quoted(start).map(Some),
            Some(_) => {
                let end = start
                    .iter()
                    .position(|&b| is_blank(b))
                    .unwrap_or(start.len());
                self.rest = &start[end..];
                Ok(Some(Cow::Borrowed(&start[..end])))
            }
        }
    }

    /// The next token, which must be there: `expected` says what it is.
    pub fn need(&mut self, expected: &str) -> Result<Cow<'a, [u8]>, ParseError> {
        self.next_token()?
            .ok_or_else(|| ParseError::at_end(expected))
    }

    /// The next token, read as a `T` by its printed form.
    pub fn parse<T: std::str::FromStr>(&mut self, expected: &str) -> Result<T, ParseError> {
        let token = self.need(expected)?;
        std::str::from_utf8(&token)
            .ok()
            .and_then(|text| text.parse().ok())
            .ok_or_else(|| ParseError::at(expected, &token))
    }

    /// Fails if anything but white space is left.
    pub fn end(&mut self) -> Result<(), ParseError> {
        match self.rest() {
            b"" => Ok(()),
            more => Err(ParseError::at("the end of the line", more)),
        }
    }

    /// `start` begins with the opening `"`.
    fn quoted(&mut self, start: &'a [u8]) -> Result<Cow<'a, [u8]>, ParseError> {
        let body = &start[1..];
        let special = |from: usize| {
            body[from..]
                .iter()
                .position(|&b| b == b'"' || b == b'\\')
                .map(|at| from + at)
        };
        let unclosed = || ParseError::at("a closing '\"'", start);
        let mut at = special(0).ok_or_else(unclosed)?;
        let mut token = Cow::Borrowed(&body[..at]);
        while body[at] == b'\\' {
            let (byte, len) = unescape(&body[at + 1..])?;
            let owned = token.to_mut();
            owned.push(byte);
            let next = special(at + 1 + len).ok_or_else(unclosed)?;
            owned.extend_from_slice(&body[at + 1 + len..next]);
            at = next;
        }
        self.rest = &body[at + 1..];
        match self.rest.first() {
            Some(&b) if !is_blank(b) => Err(ParseError::at(
                "white space after a closing '\"'",
                self.rest,
            )),
            _ => Ok(token),
        }
    }
}

/// The byte that an escape stands for, and how many bytes after the backslash it takes.
fn unescape(after: &[u8]) -> Result<(u8, usize), ParseError> {
    const KNOWN: &str = r#"one of the escapes \" \\ \n \r \t \0 \xHH"#;
    let wrong = || {
        let mut found = vec![b'\\'];
        found.extend_from_slice(&after[..after.len().min(3)]);
        ParseError::at(KNOWN, &found)
    };
    match after.first() {
        Some(b'"') => Ok((b'"', 1)),
        Some(b'\\') => Ok((b'\\', 1)),
        Some(b'n') => Ok((b'\n', 1)),
        Some(b'r') => Ok((b'\r', 1)),
        Some(b't') => Ok((b'\t', 1)),
        Some(b'0') => Ok((0, 1)),
        Some(b'x') => {
            let hex = |at: usize| after.get(at).and_then(|&b| char::from(b).to_digit(16));
            let (high, low) = hex(1).zip(hex(2)).ok_or_else(wrong)?;
            Ok((u8::try_from(high * 16 + low).expect("two hex digits"), 3))
        }
        _ => Err(wrong()),
    }
}

/// Whether a printed token may have spaces inside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Blanks {
    /// The token ends its line: spaces inside stay as they are.
    Inside,
    /// More may follow: a token with a space is quoted.
    None,
}

/// Appends `bytes` as a token that reads back as the same bytes.
pub fn write_token(out: &mut Vec<u8>, bytes: &[u8], blanks: Blanks) {
    if is_bare(bytes, blanks) {
        out.extend_from_slice(bytes);
    } else {
        write_quoted(out, bytes);
    }
}

/// Whether the bare form reads back as the same bytes and shows no control character.
fn is_bare(bytes: &[u8], blanks: Blanks) -> bool {
    let (Some(&first), Some(&last)) = (bytes.first(), bytes.last()) else {
        return false;
    };
    if first == b'"' || is_blank(first) || is_blank(last) {
        return false;
    }
    let plain = |b: u8| b > b' ' && b < 0x7f || b == b' ' && blanks == Blanks::Inside;
    // Plain ASCII is by far the most common and needs no decoding.
    bytes.iter().all(|&b| plain(b))
        || std::str::from_utf8(bytes).is_ok_and(|text| {
            !text
                .chars()
                .any(|c| c.is_control() || c == ' ' && blanks == Blanks::None)
        })
}

/// Appends `bytes` in the quoted form.
pub fn write_quoted(out: &mut Vec<u8>, bytes: &[u8]) {
    out.push(b'"');
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            write_escaped(out, c);
        }
        for &byte in chunk.invalid() {
            write_hex(out, byte);
        }
    }
    out.push(b'"');
}

fn write_escaped(out: &mut Vec<u8>, c: char) {
    let mut utf8 = [0; 4];
    let bytes = c.encode_utf8(&mut utf8).as_bytes();
    match c {
        '"' => out.extend_from_slice(b"\\\""),
        '\\' => out.extend_from_slice(b"\\\\"),
        '\n' => out.extend_from_slice(b"\\n"),
        '\r' => out.extend_from_slice(b"\\r"),
        '\t' => out.extend_from_slice(b"\\t"),
        '\0' => out.extend_from_slice(b"\\0"),
        // C1 controls too: a terminal obeys U+009B as it obeys ESC [.
        c if c.is_control() => bytes.iter().for_each(|&byte| write_hex(out, byte)),
        _ => out.extend_from_slice(bytes),
    }
}

fn write_hex(out: &mut Vec<u8>, byte: u8) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    out.extend_from_slice(&[
        b'\\',
        b'x',
        HEX[usize::from(byte >> 4)],
        HEX[usize::from(byte & 15)],
    ]);
}

/// The white space between tokens.
pub fn is_blank(byte: u8) -> bool {
    byte == b' ' || byte == b'\t'
}

fn trim_start(bytes: &[u8]) -> &[u8] {
    let start = bytes
        .iter()
        .position(|&b| !is_blank(b))
        .unwrap_or(bytes.len());
    &bytes[start..]
}

/// `bytes` without the spaces and tabs at both ends.
pub fn trim(bytes: &[u8]) -> &[u8] {
    let bytes = trim_start(bytes);
    let end = bytes
        .iter()
        .rposition(|&b| !is_blank(b))
        .map_or(0, |last| last + 1);
    &bytes[..end]
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn all(line: &[u8]) -> Result<Vec<Vec<u8>>, ParseError> {
        let mut tokens = Tokens::new(line);
        let mut found = Vec::new();
        while let Some(token) = tokens.next_token()? {
            found.push(token.into_owned());
        }
        Ok(found)
    }

    fn printed(bytes: &[u8], blanks: Blanks) -> String {
        let mut out = Vec::new();
        write_token(&mut out, bytes, blanks);
        String::from_utf8(out).expect("printed tokens are valid UTF-8")
    }

    /// A terminal would act on it.
    #[test]
    fn a_control_character_is_never_printed_bare() {
        for control in (0..b' ').chain([0x7f]) {
            for bytes in [&[b'a', control, b'b'][..], &[control]] {
                let text = printed(bytes, Blanks::Inside);
                assert!(text.starts_with('"'), "{text:?}");
                assert!(!text.chars().any(char::is_control), "{text:?}");
            }
        }
    }

    #[test]
    fn words_are_separated_by_spaces_or_tabs() {
        assert_eq!(
            all(b" a\t b  c\"d "),
            Ok(vec![b"a".into(), b"b".into(), b"c\"d".into()])
        );
        assert_eq!(all(b""), Ok(vec![]));
        assert_eq!(all(b" \t "), Ok(vec![]));
    }

    #[test]
    fn quoted_tokens_hold_any_byte() {
        assert_eq!(
            all(br#""" "a b" "\"\\\n\r\t\0\xfF""#).unwrap(),
            vec![b"".to_vec(), b"a b".to_vec(), b"\"\\\n\r\t\0\xff".to_vec()]
        );
    }

    #[test]
    fn wrong_quoting_says_what_was_expected() {
        for (line, text) in [
            (&br#""abc"#[..], r#"expected a closing '"', found "\"abc""#),
            (
                br#""a"b"#,
                r#"expected white space after a closing '"', found "b""#,
            ),
            (
                br#""\q""#,
                r#"expected one of the escapes \" \\ \n \r \t \0 \xHH, found "\\q\"""#,
            ),
            (
                br#""\x4""#,
                r#"expected one of the escapes \" \\ \n \r \t \0 \xHH, found "\\x4\"""#,
            ),
            (
                br#""\"#,
                r#"expected one of the escapes \" \\ \n \r \t \0 \xHH, found "\\""#,
            ),
        ] {
            assert_eq!(all(line).unwrap_err().to_string(), text);
        }
    }

    #[test]
    fn printing_quotes_only_what_needs_it() {
        assert_eq!(printed(b"apple", Blanks::None), "apple");
        assert_eq!(printed(b"2.10 per kilo", Blanks::Inside), "2.10 per kilo");
        assert_eq!(
            printed(b"2.10 per kilo", Blanks::None),
            r#""2.10 per kilo""#
        );
        assert_eq!(printed(b"", Blanks::Inside), r#""""#);
        assert_eq!(printed(b" a", Blanks::Inside), r#"" a""#);
        assert_eq!(printed(b"\"a", Blanks::Inside), r#""\"a""#);
        assert_eq!(printed(b"a\"b\\", Blanks::None), r#"a"b\"#);
        assert_eq!(printed("Öl".as_bytes(), Blanks::None), "Öl");
        assert_eq!(
            printed(b"\x1b\x7f\xff\x00\n", Blanks::None),
            r#""\x1b\x7f\xff\0\n""#
        );
        assert_eq!(printed("\u{9b}".as_bytes(), Blanks::None), r#""\xc2\x9b""#);
    }

    #[test]
    fn an_excerpt_is_short_and_harmless() {
        assert_eq!(excerpt(b"a\x1b"), r#""a\x1b""#);
        assert_eq!(excerpt(&[b'a'; 100]), format!("\"{}\"...", "a".repeat(40)));
    }

    #[test]
    fn a_number_has_one_text_only() {
        assert_eq!(number(b"0"), Some(0));
        assert_eq!(number(b"18446744073709551615"), Some(u64::MAX));
        for bad in [
            &b""[..],
            b"01",
            b"+1",
            b"-1",
            b" 1",
            b"1x",
            b"18446744073709551616",
        ] {
            assert_eq!(number(bad), None, "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn every_token_reads_back(bytes in proptest::collection::vec(any::<u8>(), 0..60)) {
            let line = printed(&bytes, Blanks::None);
            prop_assert_eq!(all(line.as_bytes()).unwrap(), vec![bytes.clone()]);
            let mut quoted = Vec::new();
            write_quoted(&mut quoted, &bytes);
            prop_assert_eq!(all(&quoted).unwrap(), vec![bytes.clone()]);
            prop_assert!(!quoted.iter().any(u8::is_ascii_control));
        }

        #[test]
        fn no_line_makes_the_reader_panic(line in proptest::collection::vec(any::<u8>(), 0..60)) {
            let _ = all(&line);
        }
    }
}
