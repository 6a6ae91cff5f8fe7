//! What has been read from a stream and not been taken yet, in bounded memory.
//!
//! [`super::lines`], [`super::resp`] and [`crate::client`] cut pieces off the front of a [`Held`], each by
//! its own rule; how the memory grows for a long piece, and shrinks after it, stands here once. It grows
//! by doubling and only as bytes arrive, whatever their sender says will come; and each byte is moved at
//! most a constant number of times, also when one long piece arrives in small ones.
//!
//! Left out on purpose: where a piece ends, and what is done with one beyond its limit. Who cuts must
//! not leave more than `piece_bytes_max` bytes behind.

use std::io::{self, ErrorKind, Read};

/// The size of the buffer at rest, in bytes. It grows for a longer piece, and shrinks back once that
/// piece is taken.
pub(super) const REST_BYTES: usize = 16 * 1_024;

/// The least room that a read gets, in bytes.
pub(super) const READ_BYTES_MIN: usize = 4 * 1_024;

// A shrunk buffer has room for a read, and does not have to grow again at once.
const _: () = assert!(REST_BYTES / 2 + READ_BYTES_MIN <= REST_BYTES);

/// Bytes that were read and not taken. See the module's text.
#[derive(Debug)]
pub(crate) struct Held {
    pub(super) buffer: Vec<u8>,
    /// Where the bytes that are held begin.
    start: usize,
    /// Where they end.
    end: usize,
    piece_bytes_max: usize,
}

impl Held {
    /// An empty one, for pieces of at most `piece_bytes_max` bytes.
    pub(crate) fn new(piece_bytes_max: usize) -> Self {
        Self {
            buffer: vec![0; REST_BYTES],
            start: 0,
            end: 0,
            piece_bytes_max,
        }
    }

    /// The bytes that are held.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.buffer[self.start..self.end]
    }

    /// How many bytes the buffer takes once it has been read into.
    pub(crate) fn memory_after_read(&self) -> usize {
        self.next_len()
    }

    /// Takes the first `count` bytes.
    pub(crate) fn take(&mut self, count: usize) -> &[u8] {
        let taken = self.start..self.start + count;
        assert!(taken.end <= self.end, "only what is held can be taken");
        self.start = taken.end;
        &self.buffer[taken]
    }

    /// Reads once from `stream`, and returns how many bytes came: 0 at its end.
    ///
    /// # Errors
    /// What `stream` returns, but for interruptions, after which it is read again.
    pub(crate) fn read_from(&mut self, stream: &mut impl Read) -> io::Result<usize> {
        self.make_room();
        loop {
            match stream.read(&mut self.buffer[self.end..]) {
                Ok(count) => {
                    self.end += count;
                    return Ok(count);
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// The size of the buffer for the next read.
    fn next_len(&self) -> usize {
        let (held, len) = (self.end - self.start, self.buffer.len());
        if held <= REST_BYTES / 2 {
            REST_BYTES
        } else if len - held < READ_BYTES_MIN {
            // At most the longest piece and one read: more of one piece is never left behind.
            let most = self.piece_bytes_max.max(REST_BYTES) + READ_BYTES_MIN;
            (2 * len).min(most)
        } else {
            len
        }
    }

    /// Moves what is held to the front, and gives the buffer its size: called once a read, never
    /// once a piece.
    fn make_room(&mut self) {
        let held = self.end - self.start;
        let (len, next) = (self.buffer.len(), self.next_len());
        if next < len {
            let mut small = vec![0; next];
            small[..held].copy_from_slice(self.bytes());
            self.buffer = small;
        } else if self.start > 0 {
            self.buffer.copy_within(self.start..self.end, 0);
        }
        (self.start, self.end) = (0, held);
        if next > len {
            self.buffer.reserve_exact(next - len);
            self.buffer.resize(next, 0);
        }
    }
}
