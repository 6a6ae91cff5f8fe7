//! The file that a new cluster comes filled with (`--preload FILE`): CSV (RFC 4180) of two fields.
//!
//! | record | meaning |
//! | --- | --- |
//! | `key,value` | white space at both ends of key and value is removed |
//! | `"key, with commas","a ""quoted"" value"` | between quotes every byte counts, white space and line ends too |
//! | `# ...` | a comment: `#` is the first character that is not white space |
//! | blank | nothing |
//!
//! Lines end with LF, CR LF or CR. A byte order mark of UTF-8 is skipped. A value may be empty; a key
//! stands once. The `csv` crate reads leniently, so each record is held against what it would look like
//! if it were written again: an unquoted comma, a quote that is not closed or that something follows is
//! refused with the number of its line, instead of becoming a key that nobody meant.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use csv::{ByteRecord, ReaderBuilder};

use crate::kv::command::{KEY_BYTES_MAX, VALUE_BYTES_MAX};
use crate::replica::PRELOAD_BYTES_MAX;
use crate::text::{excerpt, trim};

/// The largest file, in bytes. All of it goes through the log as the value of one slot.
pub(super) const FILE_BYTES_MAX: u64 = 2 << 20;

/// How much of the file is read at a time for one record; longer ones take more rounds.
const BUFFER_BYTES: usize = 256;

// The shortest line has two bytes and makes a command of at most 18 more than its key and value;
// each byte of those may need an escape of four.
const _: () = assert!(FILE_BYTES_MAX * 11 <= PRELOAD_BYTES_MAX as u64);

/// Keys and their values, in the order of the file.
pub(super) type Entries = Vec<(Vec<u8>, Vec<u8>)>;

/// Why a file cannot be used, with its name.
#[derive(Debug, thiserror::Error)]
pub(super) enum PreloadError {
    /// It could not be read.
    #[error("cannot read {path}: {error}")]
    Read {
        /// The file.
        path: String,
        /// What the system says.
        error: io::Error,
    },
    /// It is larger than [`FILE_BYTES_MAX`].
    #[error("{path}: expected at most {FILE_BYTES_MAX} bytes, found more")]
    TooLarge {
        /// The file.
        path: String,
    },
    /// A line is not what it must be.
    #[error("{path}:{line}: expected {expected}, found {found}")]
    Line {
        /// The file.
        path: String,
        /// Which line, from 1.
        line: usize,
        /// What would have been right.
        expected: String,
        /// What was there.
        found: String,
    },
}

/// Reads the file at `path`.
///
/// # Errors
/// See [`PreloadError`]. A file with one wrong line gives nothing.
pub(super) fn read_preload(path: &Path) -> Result<Entries, PreloadError> {
    let name = path.display().to_string();
    match File::open(path) {
        Ok(file) => parse(file, &name),
        Err(error) => Err(PreloadError::Read { path: name, error }),
    }
}

fn parse(file: impl Read, path: &str) -> Result<Entries, PreloadError> {
    let mut text = Vec::new();
    let read = file.take(FILE_BYTES_MAX + 1).read_to_end(&mut text);
    let bytes_read = read.map_err(|error| PreloadError::Read {
        path: path.into(),
        error,
    })?;
    if bytes_read as u64 > FILE_BYTES_MAX {
        return Err(PreloadError::TooLarge { path: path.into() });
    }
    if text.starts_with(b"\xff\xfe") || text.starts_with(b"\xfe\xff") {
        let (expected, found) = ("UTF-8 or plain bytes".into(), "UTF-16".into());
        return Err(PreloadError::Line {
            path: path.into(),
            line: 1,
            expected,
            found,
        });
    }
    let text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&text);
    let mut entries = Entries::new();
    let mut keys = BTreeSet::new();
    let mut at = 0;
    while at < text.len() {
        let wrong = |(expected, found)| PreloadError::Line {
            path: path.into(),
            line: line_number(text, at),
            expected,
            found,
        };
        let rest = &text[at..];
        let line = rest
            .split(|&byte| is_line_end(byte))
            .next()
            .unwrap_or_default();
        if trim(line).is_empty() || trim(line).starts_with(b"#") {
            // Not for the CSV reader: a quote in a comment means nothing.
            at += line.len() + 1;
            continue;
        }
        let record = first_record(rest);
        let (fields, bytes) = as_meant(&record, rest, line).map_err(wrong)?;
        let (key, value) = entry(&fields, line).map_err(wrong)?;
        if !keys.insert(key.clone()) {
            return Err(wrong(("each key once".into(), excerpt(&key))));
        }
        entries.push((key, value));
        at += bytes + 1;
    }
    Ok(entries)
}

fn is_line_end(byte: u8) -> bool {
    matches!(byte, b'\n' | b'\r')
}

/// What the text begins with.
fn first_record(text: &[u8]) -> ByteRecord {
    let mut reader = ReaderBuilder::new()
        .has_headers(false)
        .flexible(true)
        .buffer_capacity(BUFFER_BYTES)
        .from_reader(text);
    let mut record = ByteRecord::new();
    reader
        .read_byte_record(&mut record)
        .expect("bytes in memory, records of any length");
    record
}

/// The number of the line in which this byte stands, from 1.
fn line_number(text: &[u8], at: usize) -> usize {
    let ends = (0..at).filter(|&end| match text[end] {
        b'\n' => true,
        b'\r' => text.get(end + 1) != Some(&b'\n'),
        _ => false,
    });
    1 + ends.count()
}

/// What was expected and what was found.
type Wrong = (String, String);

/// The key and the value that a record has. `line` is for showing where it begins.
fn entry(fields: &[&[u8]], line: &[u8]) -> Result<(Vec<u8>, Vec<u8>), Wrong> {
    let &[key, value] = fields else {
        let expected = match fields.len() {
            1 => "key,value",
            _ => "key,value, with quotes around what has commas",
        };
        return Err((expected.into(), excerpt(line)));
    };
    if key.is_empty() {
        return Err(("a key before the comma".into(), excerpt(line)));
    }
    for (what, bytes, bytes_max) in [
        ("a key", key, KEY_BYTES_MAX),
        ("a value", value, VALUE_BYTES_MAX),
    ] {
        if bytes.len() > bytes_max {
            let expected = format!("{what} of at most {bytes_max} bytes");
            return Err((expected, format!("{} bytes", bytes.len())));
        }
    }
    Ok((key.to_vec(), value.to_vec()))
}

/// The fields of the record at the beginning of `text`, those without quotes trimmed, and how many bytes
/// it takes there; an error if it is not written as RFC 4180 has it.
fn as_meant<'a>(
    record: &'a ByteRecord,
    text: &[u8],
    line: &[u8],
) -> Result<(Vec<&'a [u8]>, usize), Wrong> {
    let wrong = |expected: &str| Err((expected.to_owned(), excerpt(line)));
    let mut at = 0;
    let mut fields = Vec::with_capacity(record.len());
    for field in record {
        if !fields.is_empty() {
            at += 1; // the comma
        }
        if text.get(at) == Some(&b'"') {
            let quotes = field.split(|&byte| byte == b'"').count() - 1;
            at += 1 + field.len() + quotes;
            if text.get(at) != Some(&b'"') {
                return wrong("a quote at the end of what begins with one");
            }
            at += 1;
            fields.push(field);
        } else {
            at += field.len();
            let field = trim(field);
            if field.starts_with(b"\"") {
                return wrong("no white space before a quote");
            }
            fields.push(field);
        }
        if !matches!(text.get(at), None | Some(b',' | b'\r' | b'\n')) {
            return wrong("a comma or the end of the line after a quote");
        }
    }
    Ok((fields, at))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &[u8]) -> Result<Vec<(String, String)>, String> {
        let text_of = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        parse(text, "f.csv")
            .map(|entries| {
                let pair = |(key, value)| (text_of(key), text_of(value));
                entries.into_iter().map(pair).collect()
            })
            .map_err(|error| error.to_string())
    }

    fn pair(key: &str, value: &str) -> (String, String) {
        (key.into(), value.into())
    }

    #[test]
    fn a_line_is_a_key_and_a_value_without_their_outer_blanks() {
        let text =
            b" apple , 1.25 \r\n\n  # a comment, with a comma\n# and a \"quote\ndragon fruit,4-5\nfig,\nlast,1";
        assert_eq!(
            read(text).unwrap(),
            [
                pair("apple", "1.25"),
                pair("dragon fruit", "4-5"),
                pair("fig", ""),
                pair("last", "1"),
            ]
        );
        assert_eq!(read(b"").unwrap(), []);
    }

    #[test]
    fn a_wrong_line_is_named_by_file_and_line() {
        for (text, error) in [
            (
                "a,1\n\nbanana\n".to_owned(),
                r#"f.csv:3: expected key,value, found "banana""#,
            ),
            (
                " ,1".to_owned(),
                r#"f.csv:1: expected a key before the comma, found " ,1""#,
            ),
            (
                "a,1\na,2".to_owned(),
                r#"f.csv:2: expected each key once, found "a""#,
            ),
            (
                format!("{},1", "k".repeat(KEY_BYTES_MAX + 1)),
                "f.csv:1: expected a key of at most 1024 bytes, found 1025 bytes",
            ),
            (
                format!("k,{}", "v".repeat(VALUE_BYTES_MAX + 1)),
                "f.csv:1: expected a value of at most 1048576 bytes, found 1048577 bytes",
            ),
        ] {
            assert_eq!(read(text.as_bytes()).unwrap_err(), error);
        }
    }

    #[test]
    fn what_spreadsheets_write_is_read_as_meant() {
        for (text, pairs) in [
            (
                &b"\xef\xbb\xbfapple,1\r\n"[..],
                [pair("apple", "1")].as_slice(),
            ),
            (b"\"pear, big\",2.10\n", &[pair("pear, big", "2.10")]),
            (
                b"\" a \",\"two\nlines, \"\"quoted\"\" \"\nb,1\n",
                &[pair(" a ", "two\nlines, \"quoted\" "), pair("b", "1")],
            ),
            (
                b"apple,1\rpear,2\r",
                &[pair("apple", "1"), pair("pear", "2")],
            ),
            (b"\"#1\",first\n#2,second\n", &[pair("#1", "first")]),
            (
                b"size,5\" wide\nfig,\"\"",
                &[pair("size", "5\" wide"), pair("fig", "")],
            ),
        ] {
            assert_eq!(read(text).unwrap(), pairs, "{}", excerpt(text));
        }
    }

    /// A quote that is not closed would take the rest of the file for one value.
    #[test]
    fn what_cannot_be_meant_is_refused_with_its_line() {
        for (text, error) in [
            (
                "a,1\nb,2,3\n",
                r#"f.csv:2: expected key,value, with quotes around what has commas, found "b,2,3""#,
            ),
            (
                "a,1\rb,\"2\r\nc,3\n",
                r#"f.csv:2: expected a quote at the end of what begins with one, found "b,\"2""#,
            ),
            (
                "a,1\n\n\"b\"x,2\n",
                r#"f.csv:3: expected a quote at the end of what begins with one, found "\"b\"x,2""#,
            ),
            (
                "a, \"1\"\n",
                r#"f.csv:1: expected no white space before a quote, found "a, \"1\"""#,
            ),
            (
                "\"\",1\n",
                r#"f.csv:1: expected a key before the comma, found "\"\",1""#,
            ),
            (
                "a,1\n\"a\",2\n",
                r#"f.csv:2: expected each key once, found "a""#,
            ),
        ] {
            assert_eq!(read(text.as_bytes()).unwrap_err(), error, "{text:?}");
        }
        let utf_16 = read(b"\xff\xfea\0,\0").unwrap_err();
        assert_eq!(
            utf_16,
            "f.csv:1: expected UTF-8 or plain bytes, found UTF-16"
        );
    }

    #[test]
    fn an_endless_file_is_refused_in_bounded_memory() {
        let error = parse(io::repeat(b'\n'), "f.csv").unwrap_err();
        assert!(matches!(error, PreloadError::TooLarge { .. }), "{error}");
    }

    #[test]
    fn a_missing_file_is_named() {
        let error = read_preload(Path::new("/no/such/file.csv")).unwrap_err();
        assert!(
            error
                .to_string()
                .starts_with("cannot read /no/such/file.csv: ")
        );
    }

    #[test]
    fn the_fruits_of_the_project_are_read_whole() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("fruits.csv");
        let fruits = read_preload(&path).unwrap();
        assert_eq!(fruits.len(), 22);
        assert!(fruits.contains(&(b"apple".to_vec(), b"1.25".to_vec())));
    }
}
