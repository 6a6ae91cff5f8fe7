//! Bytes of a stream to requests, in bounded memory.
//!
//! | bytes | request |
//! | --- | --- |
//! | `*3` CR LF, then three bulk strings | an array: what client libraries send |
//! | `$5` CR LF, five bytes, CR LF | a bulk string: one argument, any bytes |
//! | `*0` CR LF, or a count below 0 | none |
//! | a word of HTTP | nothing: it ends the connection, before a body is taken for requests |
//! | anything else up to LF | an inline request: words, as a person types them (`inline`) |
//!
//! Nothing that is claimed is believed: memory grows with what has arrived, and a count or a length
//! beyond its bound ends the connection before a byte of it is read. Each byte of an array is looked
//! at once, in however small pieces it comes. What is no frame leaves no way to tell where the next
//! one begins, so the first [`FrameError`] is the last thing a [`FrameBuffer`] is good for.
//!
//! Stricter than Redis in two things, each of which hides a client's mistake there: numbers end in
//! CR LF, not in CR and any byte; and so do bulk strings.

use std::io::{self, Read};

use super::super::held::Held;
use super::super::http;
use super::command::integer;
use super::inline;
use crate::kv::command::Step;
use crate::text;

/// How many arguments a request may have, its name included.
pub const ARGUMENTS_MAX: usize = 65_536;

const ARGUMENTS_TOO_MANY: usize = ARGUMENTS_MAX + 1;

/// The longest argument, in bytes. More than the longest value, so that a value which is only too long
/// to be kept is told so, and the connection goes on.
pub const ARGUMENT_BYTES_MAX: usize = 4_194_304;

/// The longest request, in bytes, with all its counts and lengths: as long as the longest plain line.
pub const FRAME_BYTES_MAX: usize = 4_325_376;

/// The longest inline request, in bytes, as in Redis.
pub const INLINE_BYTES_MAX: usize = 65_536;

/// The longest line of a count or a length, with its sign and its LF. No number within the bounds above
/// is nearly as long.
const NUMBER_BYTES_MAX: usize = 32;

/// What an argument takes beside its bytes once it is a part of a request, in bytes: at most a step of a
/// transaction, twice while the list of them grows, and the head of a shared text.
const ARGUMENT_MEMORY: usize = 2 * size_of::<Step>() + 48;

/// How many arguments there is room for at rest.
const PLACES_REST: usize = 64;

/// How many bytes there are for the words of an inline request at rest.
const WORDS_REST_BYTES: usize = 1_024;

const _: () = assert!(ARGUMENT_BYTES_MAX + 1_024 < FRAME_BYTES_MAX);
// A place fits: see `Place`.
const _: () = assert!(FRAME_BYTES_MAX + NUMBER_BYTES_MAX <= u32::MAX as usize);

/// Where an argument stands within the bytes of its request.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    start: u32,
    end: u32,
}

impl Place {
    pub(super) fn new(start: usize, end: usize) -> Self {
        let fit = |at| u32::try_from(at).expect("no request is so long");
        Self {
            start: fit(start),
            end: fit(end),
        }
    }

    pub(super) fn of(self, bytes: &[u8]) -> &[u8] {
        &bytes[self.start as usize..self.end as usize]
    }
}

/// The arguments of one request, its name first: at least one.
#[derive(Debug, Clone, Copy)]
pub struct Arguments<'a> {
    bytes: &'a [u8],
    places: &'a [Place],
}

impl<'a> Arguments<'a> {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.places.len()
    }

    /// Whether there is none, as behind the last.
    pub fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// The argument at this place, if there are so many.
    pub fn get(&self, at: usize) -> Option<&'a [u8]> {
        self.places.get(at).map(|place| place.of(self.bytes))
    }

    /// All but the first `count`.
    pub fn skip(self, count: usize) -> Self {
        let places = self.places.get(count..).unwrap_or_default();
        Self { places, ..self }
    }

    /// About how many bytes of memory a request takes that is made of them.
    pub fn memory(&self) -> usize {
        let from = self.places.first().map_or(0, |place| place.start);
        let to = self.places.last().map_or(0, |place| place.end);
        (to - from) as usize + self.places.len() * ARGUMENT_MEMORY
    }

    /// All, in order.
    pub fn iter(&self) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        let bytes = self.bytes;
        self.places.iter().map(move |place| place.of(bytes))
    }
}

/// Why bytes are no request. Nothing after them can be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("Protocol error: {0}")]
pub struct FrameError(String);

impl FrameError {
    fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }
}

/// Reads a stream request by request. See the module's promises.
#[derive(Debug)]
pub struct FrameBuffer {
    held: Held,
    /// The arguments that have come, as places within what is held.
    places: Vec<Place>,
    /// How many are still to come; none before the count.
    left: Option<usize>,
    /// The length of the one that comes next, once it has been told.
    length: Option<usize>,
    /// Up to here all that is held has been understood; of an inline request, searched for its LF.
    at: usize,
    /// The words of an inline request, one behind the other.
    words: Vec<u8>,
}

impl Default for FrameBuffer {
    fn default() -> Self {
        Self {
            held: Held::new(FRAME_BYTES_MAX + NUMBER_BYTES_MAX),
            places: Vec::new(),
            left: None,
            length: None,
            at: 0,
            words: Vec::new(),
        }
    }
}

impl FrameBuffer {
    /// Reads once from `stream`, and returns how many bytes came: 0 at its end. Take all requests with
    /// [`FrameBuffer::next_frame`] before reading again.
    ///
    /// # Errors
    /// What `stream` returns, but for interruptions, after which it is read again.
    pub fn read_from(&mut self, stream: &mut impl Read) -> io::Result<usize> {
        if self.left.is_none() {
            // What a long request took is not kept while a connection rests.
            self.places.clear();
            self.places.shrink_to(PLACES_REST);
            self.words.clear();
            self.words.shrink_to(WORDS_REST_BYTES);
        }
        self.held.read_from(stream)
    }

    /// How many bytes of memory the next read makes this hold.
    pub fn memory_after_read(&self) -> usize {
        let places = self.places.capacity() * size_of::<Place>();
        self.held.memory_after_read() + places + self.words.capacity()
    }

    /// The next request; none until more has been read.
    ///
    /// # Errors
    /// What has arrived is no request. The connection is of no use then.
    pub fn next_frame(&mut self) -> Result<Option<Arguments<'_>>, FrameError> {
        loop {
            let whole = match (self.left, self.held.bytes().first()) {
                (None, None) => return Ok(None),
                (None, Some(b'*')) => self.count()?,
                (None, Some(_)) => {
                    let whole = self.inline()?;
                    if whole && !self.places.is_empty() {
                        return Ok(Some(Arguments {
                            bytes: &self.words,
                            places: &self.places,
                        }));
                    }
                    whole
                }
                (Some(0), _) => break,
                (Some(_), _) => self.argument()?,
            };
            if !whole {
                return Ok(None);
            }
        }
        self.left = None;
        let taken = std::mem::take(&mut self.at);
        Ok(Some(Arguments {
            bytes: self.held.take(taken),
            places: &self.places,
        }))
    }

    /// Reads how many arguments come; false if that is not told whole.
    fn count(&mut self) -> Result<bool, FrameError> {
        let invalid = || FrameError::new("invalid multibulk length");
        let too_long = "too big mbulk count string";
        let Some((line, count)) = number_line(self.held.bytes(), too_long)? else {
            return Ok(false);
        };
        let count = integer(count).map_err(|_| invalid())?;
        match usize::try_from(count).unwrap_or(0) {
            0 => {
                self.held.take(line);
            }
            ARGUMENTS_TOO_MANY.. => return Err(invalid()),
            count => {
                self.places.clear();
                self.places.shrink_to(PLACES_REST);
                self.at = line;
                self.left = Some(count);
            }
        }
        Ok(true)
    }

    /// Reads the next argument, or its length first; false if it is not there whole.
    fn argument(&mut self) -> Result<bool, FrameError> {
        let rest = &self.held.bytes()[self.at..];
        let Some(length) = self.length else {
            let Some((line, length)) = bulk_head(rest)? else {
                return Ok(false);
            };
            if self.at + line + length + 2 > FRAME_BYTES_MAX {
                let text = format!("too big request (limit {FRAME_BYTES_MAX} bytes)");
                return Err(FrameError::new(text));
            }
            self.at += line;
            self.length = Some(length);
            return Ok(true);
        };
        let Some(end) = rest.get(length..length + 2) else {
            return Ok(false);
        };
        if end != b"\r\n" {
            return Err(FrameError::new("expected CRLF after a bulk string"));
        }
        self.places.push(Place::new(self.at, self.at + length));
        self.at += length + 2;
        self.length = None;
        self.left = self.left.map(|left| left - 1);
        Ok(true)
    }

    /// Reads an inline request, which may have no words; false if it is not there whole.
    fn inline(&mut self) -> Result<bool, FrameError> {
        let bytes = self.held.bytes();
        let Some(end) = bytes[self.at..].iter().position(|&byte| byte == b'\n') else {
            self.at = bytes.len();
            return if self.at > INLINE_BYTES_MAX {
                Err(FrameError::new("too big inline request"))
            } else {
                Ok(false)
            };
        };
        let end = std::mem::take(&mut self.at) + end;
        if end > INLINE_BYTES_MAX {
            return Err(FrameError::new("too big inline request"));
        }
        self.words.clear();
        self.places.clear();
        self.places.shrink_to(PLACES_REST);
        let line = &self.held.take(end + 1)[..end];
        if http::is_http(line) {
            return Err(FrameError::new(http::REFUSED));
        }
        inline::split(line, &mut self.words, &mut self.places)
            .map_err(|inline::Unbalanced| FrameError::new("unbalanced quotes in request"))?;
        Ok(true)
    }
}

/// The length of a bulk string, and that of the line that tells it; none if that is not there whole.
fn bulk_head(bytes: &[u8]) -> Result<Option<(usize, usize)>, FrameError> {
    match bytes.first() {
        None => return Ok(None),
        Some(b'$') => {}
        Some(other) => {
            let text = format!("expected '$', got '{}'", other.escape_ascii());
            return Err(FrameError::new(text));
        }
    }
    let Some((line, length)) = number_line(bytes, "too big bulk count string")? else {
        return Ok(None);
    };
    match text::number(length).map(usize::try_from) {
        Some(Ok(length)) if length <= ARGUMENT_BYTES_MAX => Ok(Some((line, length))),
        _ => Err(FrameError::new("invalid bulk length")),
    }
}

/// The length of a line of one sign, a number and CR LF, and what should be the number: nothing where CR
/// is missing. None if the line is not there whole.
fn number_line<'a>(
    bytes: &'a [u8],
    too_long: &str,
) -> Result<Option<(usize, &'a [u8])>, FrameError> {
    let window = &bytes[..bytes.len().min(NUMBER_BYTES_MAX)];
    let Some(end) = window.iter().position(|&byte| byte == b'\n') else {
        return if window.len() == NUMBER_BYTES_MAX {
            Err(FrameError::new(too_long))
        } else {
            Ok(None)
        };
    };
    let number = window[1..end.max(1)].strip_suffix(b"\r");
    Ok(Some((end + 1, number.unwrap_or_default())))
}

#[cfg(test)]
mod tests;
