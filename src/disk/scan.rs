//! The rule of recovery: reads a log from its first line, and says where and how it ends.
//!
//! Lines are good while each is whole and has the next number. What follows the last good one in the
//! last segment is one of three:
//!
//! | behind the last good line *n - 1* | verdict |
//! | --- | --- |
//! | only zeros | the end |
//! | no whole line, or whole ones above *n* whose GROUP is *n* or less | a torn tail: *n* was never synced |
//! | any other whole line | damage: *n* had been synced, or lines were moved |
//!
//! Before a segment gets its name everything in the older ones is synced, and so is its own head line.
//! So a torn tail is in the last segment or nowhere, a head that is not whole is damage, and a head
//! with the right number proves that nothing before it is missing; what stands behind the last line of
//! an older segment is then of no account.
//!
//! A crash may leave the writes of one group on disk in any order and in part, hence the second row.
//! Bytes that are searched for whole lines are looked at only behind a LF, and where the bad line says
//! that it ends: text in a client's value is not taken for a line.

use super::dir::Dir;
use super::error::{Context, LogError};
use super::line::{self, Line};
use super::record;
use crate::paxos::record::Record;
use crate::text::{ParseError, excerpt};

/// The version of the format, in the head of each segment.
const FORMAT: u64 = 1;

/// What the name of each segment begins with.
const SEGMENT: &str = "log-";
/// How many digits follow.
const SEGMENT_DIGITS: usize = 8;

/// The file name of a segment.
pub(super) fn segment_name(number: u64) -> String {
    format!("{SEGMENT}{number:0SEGMENT_DIGITS$}")
}

/// The number of the segment with this file name, if it is one.
fn segment_number(name: &str) -> Option<u64> {
    let digits = name.strip_prefix(SEGMENT)?;
    let number = digits.parse().ok()?;
    (segment_name(number) == name).then_some(number)
}

/// The body of a segment's head line.
pub(super) fn head_body(number: u64) -> Vec<u8> {
    format!("segment {FORMAT} {number}").into_bytes()
}

fn check_head(body: &[u8], number: u64) -> Result<(), ParseError> {
    let expected = head_body(number);
    if body == expected {
        return Ok(());
    }
    let expected = String::from_utf8_lossy(&expected);
    Err(ParseError::at(format!("{expected:?}"), body))
}

/// The segments of a log, in order and without a gap.
pub(super) fn segments<D: Dir>(dir: &D) -> Result<Vec<u64>, LogError> {
    let names = dir.list().context("list", || dir.path_of(""))?;
    let numbers: Vec<u64> = names.iter().filter_map(|n| segment_number(n)).collect();
    for (expected, &number) in (1..).zip(&numbers) {
        if number != expected {
            return Err(LogError::SegmentMissing {
                file: dir.path_of(&segment_name(expected)),
                witness: segment_name(number),
            });
        }
    }
    Ok(numbers)
}

/// A good line of the log.
pub(super) struct Entry<'a> {
    pub(super) file: &'a str,
    pub(super) offset: usize,
    pub(super) seq: u64,
    pub(super) body: &'a [u8],
    /// None for the head of a segment.
    pub(super) record: Option<Record>,
}

/// Where a log ends.
pub(super) struct End {
    /// The last segment.
    pub(super) number: u64,
    /// The length of its file.
    pub(super) file_bytes: usize,
    /// Where in it the last group begins.
    pub(super) group_at: usize,
    /// The lines of the last group: all before them were synced when they were written.
    pub(super) group: Vec<u8>,
    /// The number of the line after the last.
    pub(super) next: u64,
    /// How many bytes of a torn tail follow the last line. 0: none.
    pub(super) torn_bytes: usize,
}

impl End {
    /// Where the last line ends.
    pub(super) fn at(&self) -> usize {
        self.group_at + self.group.len()
    }
}

/// Reads the whole log and hands on each line.
pub(super) fn scan<D: Dir>(
    dir: &D,
    each: &mut dyn FnMut(Entry) -> Result<(), LogError>,
) -> Result<End, LogError> {
    let numbers = segments(dir)?;
    let Some((&last, older)) = numbers.split_last() else {
        return Err(LogError::NoLog {
            dir: dir.path_of(""),
        });
    };
    let mut reader = Reader {
        dir,
        each,
        older_end: None,
        name: String::new(),
        number: 0,
        at: 0,
        group_at: 0,
        next: 1,
    };
    for &number in older {
        reader.begin(number);
        let bytes = reader.read_on()?;
        reader.check_head_found(&bytes)?;
    }
    reader.begin(last);
    let mut bytes = reader.read_on()?;
    let mut verdict = reader.verdict(&bytes);
    // Beside a running server the file changes while it is read, and its later bytes can be newer
    // than its earlier ones. What still looks so in a second reading is so.
    while !matches!(verdict, Ok(0)) {
        let before = reader.at;
        bytes = reader.read_on()?;
        verdict = reader.verdict(&bytes);
        if reader.at == before {
            break;
        }
    }
    Ok(End {
        torn_bytes: verdict?,
        number: last,
        file_bytes: bytes.len(),
        group: bytes
            .get(reader.group_at..reader.at)
            .unwrap_or_default()
            .to_vec(),
        group_at: reader.group_at,
        next: reader.next,
    })
}

struct Reader<'a, D> {
    dir: &'a D,
    each: &'a mut dyn FnMut(Entry) -> Result<(), LogError>,
    /// Where the lines of the segment before this one end, and what stands there.
    older_end: Option<(u64, usize, String)>,
    name: String,
    number: u64,
    at: usize,
    group_at: usize,
    next: u64,
}

impl<D: Dir> Reader<'_, D> {
    fn begin(&mut self, number: u64) {
        self.name = segment_name(number);
        self.number = number;
        self.at = 0;
        self.group_at = 0;
    }

    /// Reads the file and hands on the good lines from `at` on. Returns all bytes of the file.
    fn read_on(&mut self) -> Result<Vec<u8>, LogError> {
        let path = || self.dir.path_of(&self.name);
        let bytes = self.dir.read(&self.name).context("read", path)?;
        while let Some(line) = bytes.get(self.at..).and_then(line::read) {
            if line.seq != self.next {
                break;
            }
            let record = self.understand(&line)?;
            if line.group == line.seq {
                self.group_at = self.at;
            }
            (self.each)(Entry {
                file: &self.name,
                offset: self.at,
                seq: line.seq,
                body: line.body,
                record,
            })?;
            self.at += line.bytes;
            self.next += 1;
        }
        Ok(bytes)
    }

    fn understand(&self, line: &Line) -> Result<Option<Record>, LogError> {
        let understood = if self.at == 0 {
            check_head(line.body, self.number).map(|()| None)
        } else {
            record::parse(line.body).map(Some)
        };
        understood.map_err(|error| LogError::Unreadable {
            file: self.dir.path_of(&self.name),
            offset: self.at,
            seq: line.seq,
            error,
        })
    }

    /// After an older segment: its head must have been good. Remembers where its lines end.
    fn check_head_found(&mut self, bytes: &[u8]) -> Result<(), LogError> {
        if self.at == 0 {
            return Err(self.bad_head(bytes));
        }
        let found = describe(&bytes[self.at..]);
        self.older_end = Some((self.number, self.at, found));
        Ok(())
    }

    /// How many bytes of a torn tail follow the last good line, if they are not damage.
    fn verdict(&self, bytes: &[u8]) -> Result<usize, LogError> {
        if self.at == 0 {
            return Err(self.bad_head(bytes));
        }
        let rest = bytes.get(self.at..).unwrap_or_default();
        let Some(last) = rest.iter().rposition(|&b| b != 0) else {
            return Ok(0);
        };
        match witness(&rest[..=last], self.next) {
            None => Ok(last + 1),
            Some((offset, seq)) => Err(LogError::Damaged {
                file: self.dir.path_of(&self.name),
                offset: self.at,
                expected: self.next,
                found: describe(rest),
                witness: format!(
                    "record {seq} at byte {} is whole and was written after it was synced",
                    self.at + offset
                ),
            }),
        }
    }

    /// The head of this segment is not the next line. If it is a later one, the missing lines are
    /// those at the end of the segment before.
    fn bad_head(&self, bytes: &[u8]) -> LogError {
        let here = (self.number, 0, describe(bytes));
        let head = line::read(bytes);
        let (place, witness) = match (&self.older_end, head) {
            (Some(older), Some(line)) if line.seq > self.next => (
                older.clone(),
                format!("{} begins with record {}", self.name, line.seq),
            ),
            _ => (
                here,
                "a segment gets its name only after its first record is synced".into(),
            ),
        };
        let (number, offset, found) = place;
        LogError::Damaged {
            file: self.dir.path_of(&segment_name(number)),
            offset,
            expected: self.next,
            found,
            witness,
        }
    }
}

/// A whole line in `rest` that no crash can have left there if line `bad`, at its beginning, was never
/// synced: where it stands, and its number.
fn witness(rest: &[u8], bad: u64) -> Option<(usize, u64)> {
    let behind_lf = std::iter::successors(Some(0), |&at| Some(at + line::lf(&rest[at..])? + 1));
    // Also found if it is the LF of the bad line that is damaged.
    let claimed = line::claimed_end(rest);
    behind_lf.chain(claimed).find_map(|at| {
        let line = line::read(&rest[at..])?;
        let same_group = at > 0 && line.seq > bad && line.group <= bad;
        (!same_group).then_some((at, line.seq))
    })
}

/// What stands somewhere, for people.
fn describe(bytes: &[u8]) -> String {
    if let Some(line) = line::read(bytes) {
        return format!("record {}", line.seq);
    }
    match bytes.iter().position(|&b| b != 0) {
        None => "nothing".into(),
        Some(0) => {
            let line = &bytes[..line::lf(bytes).unwrap_or(bytes.len())];
            let zeros = line.iter().position(|&b| b == 0).unwrap_or(line.len());
            excerpt(&line[..zeros])
        }
        Some(zeros) => format!("{zeros} zero bytes"),
    }
}
