//! The rule of recovery: reads a log from its first line to its last, and says what is missing.
//!
//! Lines are numbered without gaps over all segments. A line that is whole and has a higher number
//! than the one before was written behind it; the numbers in between, if any, are a *gap*: lines that
//! had been there and cannot be read. Reading goes on behind a gap, for what stands there is as true
//! as ever. What follows the last good line *n - 1* in the last segment is one of three:
//!
//! | behind the last good line *n - 1* | verdict |
//! | --- | --- |
//! | only zeros | the end |
//! | no whole line, or whole ones above *n* whose GROUP is *n* or less | a torn tail: *n* was never synced |
//! | any other whole line | a gap: *n* had been synced, or lines were moved |
//!
//! Before a segment gets its name everything in the older ones is synced, and so are its own first
//! lines, as many as its head says. So a torn tail is in the last segment or nowhere, one of these
//! first lines that is not whole is a gap, and a head with the right number proves that nothing before
//! it is missing; what stands behind the last line of an older segment is then of no account.
//!
//! Two kinds of gaps are no news: those before the line that `first` names, for a snapshot holds what
//! was there; and those that a `missing` line lists, for they were found by an earlier start. Any
//! other gap is new damage (P40).
//!
//! A crash may leave the writes of one group on disk in any order and in part, hence the second row.
//! Bytes that are searched for whole lines are looked at only behind a LF, and where the bad line says
//! that it ends; to be read as a record, the latter must be under the bad line's own checksum. So text
//! in a client's value is never taken for a line.

use super::body::{Body, First};
use super::damage::Damage;
use super::dir::Dir;
use super::error::{Context, LogError};
use super::gaps::{Gap, Gaps};
use super::line::{self, Line};
use crate::paxos::types::Slot;
use std::io;

/// What the name of each segment begins with.
const SEGMENT: &str = "log-";
/// How many digits follow.
const SEGMENT_DIGITS: usize = 8;

/// What proves that the first lines of a segment had been there.
pub(super) const NAMED_AFTER_SYNC: &str =
    "a segment gets its name only after its first records are synced";

/// The file name of a segment.
pub(super) fn segment_name(number: u64) -> String {
    format!("{SEGMENT}{number:0SEGMENT_DIGITS$}")
}

/// The number of the segment with this file name, if it is one.
fn segment_number(name: &str) -> Option<u64> {
    let digits = name.strip_prefix(SEGMENT)?;
    let number = digits.parse().ok()?;
    (number > 0 && segment_name(number) == name).then_some(number)
}

/// The segments that are there, in order.
pub(super) fn segments<D: Dir>(dir: &D) -> Result<Vec<u64>, LogError> {
    let names = dir.list().context("list", || dir.path_of(""))?;
    let mut numbers: Vec<u64> = names.iter().filter_map(|n| segment_number(n)).collect();
    // Beyond eight digits the order of names is not that of numbers.
    numbers.sort_unstable();
    Ok(numbers)
}

/// A good line of the log.
pub(super) struct Entry<'a> {
    pub(super) file: &'a str,
    pub(super) offset: usize,
    pub(super) seq: u64,
    pub(super) text: &'a [u8],
    pub(super) body: &'a Body,
    /// It was written with the head of its segment; if that is lost, it may have been.
    pub(super) begins: bool,
    /// Its segment began because of damage.
    pub(super) mends: bool,
}

/// A segment as it was found.
#[derive(Debug, Clone)]
pub(super) struct Segment {
    pub(super) number: u64,
    /// The number that its first line should have.
    pub(super) seq: u64,
    /// The number of its last good line; below `seq` if it has none.
    pub(super) last: u64,
    /// The length of its file.
    pub(super) bytes: usize,
    /// The highest slot that its good lines are about.
    pub(super) highest: Slot,
}

/// Where a log ends, and what it lacks.
pub(super) struct End {
    /// All that are there, in order; the last is the one that was being written.
    pub(super) segments: Vec<Segment>,
    /// Where in the last segment its last group begins.
    pub(super) group_at: usize,
    /// The bytes of the last group: all before it was synced when it was written.
    pub(super) group: Vec<u8>,
    /// The number of the line after the last. Behind a gap at the very end, a number that no lost
    /// line can have had.
    pub(super) next: u64,
    /// How many bytes of a torn tail follow the last line. 0: none.
    pub(super) torn_bytes: usize,
    /// From where on the log must be whole.
    pub(super) first: First,
    pub(super) gaps: Vec<Gap>,
}

impl End {
    /// Where the last line ends.
    pub(super) fn at(&self) -> usize {
        self.group_at + self.group.len()
    }

    /// The segment that was being written.
    pub(super) fn last(&self) -> &Segment {
        self.segments.last().expect("a log has a segment")
    }

    /// The damage that no earlier start has found.
    pub(super) fn news(&self) -> impl Iterator<Item = &Damage> {
        self.gaps.iter().filter(|gap| !gap.known).map(|g| &g.damage)
    }
}

/// Reads the whole log and hands on each good line.
///
/// # Errors
/// There is no segment; the file system refuses; a whole line says what this version cannot read.
/// Damage is none.
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
    let mut reader = Reader::new(dir, each);
    for &number in older {
        reader.begin(number);
        reader.read_older()?;
    }
    reader.begin(last);
    let (bytes, torn_bytes) = reader.read_last()?;
    let group = bytes.get(reader.group_at..reader.at).unwrap_or_default();
    Ok(End {
        gaps: reader.gaps.found(dir, reader.first),
        group: group.to_vec(),
        group_at: reader.group_at,
        next: reader.next,
        first: reader.first,
        segments: reader.segments,
        torn_bytes,
    })
}

/// What follows the last good line of the last segment.
enum Verdict {
    Whole,
    Torn(usize),
    /// Damage, with its witness.
    Damaged(String),
}

struct Reader<'a, D> {
    dir: &'a D,
    each: &'a mut dyn FnMut(Entry) -> Result<(), LogError>,
    number: u64,
    name: String,
    at: usize,
    group_at: usize,
    next: u64,
    /// The last line that was written with the head of this segment; none while that is not found.
    begins_upto: Option<u64>,
    mends: bool,
    /// How many bytes were passed over since the last good line: no more lines can be lost there.
    passed_bytes: usize,
    /// A whole line that proves all lines below its GROUP: where it stands, its GROUP, its number.
    proof: Option<(usize, u64, u64)>,
    gaps: Gaps,
    first: First,
    segments: Vec<Segment>,
}

impl<'a, D: Dir> Reader<'a, D> {
    fn new(dir: &'a D, each: &'a mut dyn FnMut(Entry) -> Result<(), LogError>) -> Self {
        Self {
            dir,
            each,
            number: 0,
            name: String::new(),
            at: 0,
            group_at: 0,
            next: 1,
            begins_upto: None,
            mends: false,
            passed_bytes: 0,
            proof: None,
            gaps: Gaps::default(),
            first: First::START,
            segments: Vec::new(),
        }
    }

    fn begin(&mut self, number: u64) {
        if number > self.number + 1 {
            self.gaps.stop_at_missing(self.number + 1);
        }
        self.number = number;
        self.name = segment_name(number);
        self.at = 0;
        self.group_at = 0;
        self.begins_upto = None;
        self.mends = false;
        self.proof = None;
        self.segments.push(Segment {
            number,
            seq: self.next,
            last: self.next - 1,
            bytes: 0,
            highest: Slot::ZERO,
        });
    }

    fn segment(&mut self) -> &mut Segment {
        self.segments.last_mut().expect("a segment has begun")
    }

    /// The bytes of this segment; none if it is gone: beside a running server a trim may take it.
    fn read_file(&mut self) -> Result<Option<Vec<u8>>, LogError> {
        let bytes = match self.dir.read(&self.name) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            read => Some(read.context("read", || self.dir.path_of(&self.name))?),
        };
        self.segment().bytes = bytes.as_ref().map_or(0, Vec::len);
        Ok(bytes)
    }

    fn read_older(&mut self) -> Result<(), LogError> {
        let Some(bytes) = self.read_file()? else {
            self.gaps.stop_at_trimmed();
            return Ok(());
        };
        loop {
            self.take_lines(&bytes)?;
            self.stop(&bytes);
            let Some(at) = self.resync(&bytes) else {
                self.passed_bytes += bytes.len() - self.at;
                return Ok(());
            };
            self.skip_to(&bytes, at)?;
        }
    }

    /// Returns the bytes of the file, and how many of them at its end are torn.
    fn read_last(&mut self) -> Result<(Vec<u8>, usize), LogError> {
        let Some(mut bytes) = self.read_file()? else {
            return Ok((Vec::new(), 0));
        };
        let mut settled = false;
        loop {
            self.take_lines(&bytes)?;
            let mut verdict = self.verdict(&bytes);
            // Beside a running server the file changes while it is read, and its later bytes can be
            // newer than its earlier ones. What still looks so in a second reading is so.
            if !settled && !matches!(verdict, Verdict::Whole) {
                let before = self.at;
                let again = self.read_file()?.unwrap_or_default();
                settled = again == bytes;
                bytes = again;
                self.take_lines(&bytes)?;
                if self.at > before {
                    continue;
                }
                verdict = self.verdict(&bytes);
            }
            match verdict {
                Verdict::Whole => return Ok((bytes, 0)),
                Verdict::Torn(torn_bytes) => return Ok((bytes, torn_bytes)),
                Verdict::Damaged(witness) => {
                    self.stop(&bytes);
                    if let Some(at) = self.resync(&bytes) {
                        self.skip_to(&bytes, at)?;
                    } else {
                        self.end_in_a_gap(&bytes, witness);
                        return Ok((bytes, 0));
                    }
                }
            }
        }
    }

    /// Takes the good lines from here on, as long as none is missing. Only at the head of a segment it
    /// shows that some are: at the end of the one before.
    fn take_lines(&mut self, bytes: &[u8]) -> Result<(), LogError> {
        while let Some(line) = bytes.get(self.at..).and_then(line::read) {
            let fits = match self.at {
                0 => line.seq >= self.next,
                _ => line.seq == self.next,
            };
            if !fits || !self.take(&line)? {
                break;
            }
        }
        Ok(())
    }

    /// Takes a line, if it may stand here: a head of this very segment at its beginning, and
    /// anything else behind it.
    fn take(&mut self, line: &Line) -> Result<bool, LogError> {
        let body = Body::parse(line.body).map_err(|error| LogError::Unreadable {
            file: self.dir.path_of(&self.name),
            offset: self.at,
            seq: line.seq,
            error,
        })?;
        match &body {
            Body::Segment { number, lines } => {
                if self.at > 0 || *number != self.number {
                    return Ok(false);
                }
                self.begins_upto = Some(line.seq.saturating_add(*lines));
                self.segment().seq = line.seq;
            }
            _ if self.at == 0 => return Ok(false),
            Body::First(first) if first.segment > self.first.segment => self.first = *first,
            Body::Missing { from, to } => {
                self.mends = true;
                self.gaps.know(*from, *to);
            }
            Body::First(_) | Body::Record(_) => {}
        }
        if line.seq > self.next {
            let witness = if self.at == 0 {
                format!("{} begins with record {}", self.name, line.seq)
            } else {
                let at = self.at;
                format!(
                    "record {} at byte {at} is whole and stands behind it",
                    line.seq
                )
            };
            self.hole(line.seq - 1, witness);
        }
        if line.group == line.seq {
            self.group_at = self.at;
        }
        self.hand_on(line, &body)?;
        let segment = self.segment();
        segment.last = line.seq;
        segment.highest = segment.highest.max(body.slot().unwrap_or_default());
        self.gaps.go_on();
        self.passed_bytes = 0;
        self.at += line.bytes;
        self.next = line.seq.saturating_add(1);
        Ok(true)
    }

    fn hand_on(&mut self, line: &Line, body: &Body) -> Result<(), LogError> {
        let begins = match self.begins_upto {
            Some(upto) => line.seq <= upto,
            // Behind a lost head: of the group that it was the first of, as far as can be told.
            None => line.group < line.seq && line.group >= self.segment().seq,
        };
        (self.each)(Entry {
            file: &self.name,
            offset: self.at,
            seq: line.seq,
            text: line.body,
            body,
            begins,
            mends: self.mends,
        })
    }

    /// Remembers that the next line should stand here and does not.
    fn stop(&mut self, bytes: &[u8]) {
        let found = line::describe(bytes.get(self.at..).unwrap_or_default());
        self.gaps.stop(self.number, self.at, found);
    }

    /// Where behind a bad line the next good one stands.
    fn resync(&self, bytes: &[u8]) -> Option<usize> {
        let rest = bytes.get(self.at..)?;
        let here = (self.at > 0).then_some(0);
        here.into_iter()
            .chain(line::proven_end(rest))
            .chain(behind_lfs(rest))
            .find(|&at| {
                line::read(&rest[at..])
                    .is_some_and(|line| line.seq > self.next && !is_head(line.body))
            })
            .map(|at| self.at + at)
    }

    fn skip_to(&mut self, bytes: &[u8], at: usize) -> Result<(), LogError> {
        self.at = at;
        self.group_at = at;
        let line = line::read(&bytes[at..]).expect("it was found whole");
        let taken = self.take(&line)?;
        assert!(
            taken,
            "no head of a segment is looked for behind a bad line"
        );
        Ok(())
    }

    fn verdict(&mut self, bytes: &[u8]) -> Verdict {
        if self.at == 0 || self.begins_upto >= Some(self.next) {
            return Verdict::Damaged(NAMED_AFTER_SYNC.into());
        }
        let rest = bytes.get(self.at..).unwrap_or_default();
        let Some(last) = rest.iter().rposition(|&b| b != 0) else {
            return Verdict::Whole;
        };
        let counts = |&(_, group, _): &(usize, u64, u64)| group > self.next;
        let proof = self.proof.filter(counts).or_else(|| {
            let (at, line) = witness(&rest[..=last], self.next)?;
            Some((self.at + at, line.group, line.seq))
        });
        let Some((at, _, seq)) = proof else {
            return Verdict::Torn(last + 1);
        };
        self.proof = proof;
        Verdict::Damaged(format!(
            "record {seq} at byte {at} is whole and was written after it was synced"
        ))
    }

    /// Nothing can be read any more.
    fn end_in_a_gap(&mut self, bytes: &[u8], witness: String) {
        self.passed_bytes += bytes.len() - self.at;
        let lines_max = u64::try_from(self.passed_bytes.max(1)).unwrap_or(u64::MAX);
        let next = self.next.saturating_add(lines_max);
        self.hole(next - 1, witness);
        self.next = next;
    }

    fn hole(&mut self, to: u64, witness: String) {
        let here = (self.number, self.at);
        self.gaps.push(self.next, to, here, witness);
    }
}

fn is_head(body: &[u8]) -> bool {
    matches!(Body::parse(body), Ok(Body::Segment { .. }))
}

/// The places behind each LF.
fn behind_lfs(bytes: &[u8]) -> impl Iterator<Item = usize> {
    std::iter::successors(Some(0), |&at| Some(at + line::lf(&bytes[at..])? + 1)).skip(1)
}

/// A whole line in `rest` that no crash can have left there if line `bad`, at its beginning, was never
/// synced, and where it stands.
fn witness(rest: &[u8], bad: u64) -> Option<(usize, Line<'_>)> {
    // Also found if it is the LF of the bad line that is damaged.
    let claimed = line::claimed_end(rest);
    let places = std::iter::once(0).chain(behind_lfs(rest)).chain(claimed);
    places.into_iter().find_map(|at| {
        let line = line::read(&rest[at..])?;
        let same_group = at > 0 && line.seq > bad && line.group <= bad;
        (!same_group).then_some((at, line))
    })
}
