//! The file that a new cluster comes filled with (`--preload FILE`).
//!
//! | line | meaning |
//! | --- | --- |
//! | `key,value` | the key ends at the first comma; white space at both ends of key and value is removed |
//! | `# ...` | a comment: `#` is the first character that is not white space |
//! | blank | nothing |
//!
//! A value may be empty and may hold commas. A key stands once. A CR before the LF is dropped. The
//! bytes are taken as they are: there is no quoting, so what needs it is put in by a client.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use crate::kv::command::{KEY_BYTES_MAX, VALUE_BYTES_MAX};
use crate::replica::PRELOAD_BYTES_MAX;
use crate::text::{excerpt, trim};

/// The largest file, in bytes. All of it goes through the log as the value of one slot.
pub(super) const FILE_BYTES_MAX: u64 = 2 << 20;

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
    let mut entries = Entries::new();
    let mut keys = BTreeSet::new();
    for (at, line) in text.split(|&byte| byte == b'\n').enumerate() {
        let wrong = |(expected, found)| PreloadError::Line {
            path: path.into(),
            line: at + 1,
            expected,
            found,
        };
        if let Some((key, value)) = entry(line).map_err(wrong)? {
            if !keys.insert(key) {
                return Err(wrong(("each key once".into(), excerpt(key))));
            }
            entries.push((key.to_vec(), value.to_vec()));
        }
    }
    Ok(entries)
}

/// What was expected and what was found.
type Wrong = (String, String);

/// A key and its value, where they stand.
type Entry<'a> = (&'a [u8], &'a [u8]);

/// What one line says: an entry, or nothing.
fn entry(line: &[u8]) -> Result<Option<Entry<'_>>, Wrong> {
    let line = trim(line.strip_suffix(b"\r").unwrap_or(line));
    if line.is_empty() || line.starts_with(b"#") {
        return Ok(None);
    }
    let comma = line
        .iter()
        .position(|&byte| byte == b',')
        .ok_or_else(|| ("key,value".into(), excerpt(line)))?;
    let (key, value) = (trim(&line[..comma]), trim(&line[comma + 1..]));
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
    Ok(Some((key, value)))
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
            b" apple , 1.25 \r\n\n  # a comment, with a comma\ndragon fruit,4,5\nfig,\nlast,1";
        assert_eq!(
            read(text).unwrap(),
            [
                pair("apple", "1.25"),
                pair("dragon fruit", "4,5"),
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
                r#"f.csv:1: expected a key before the comma, found ",1""#,
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
