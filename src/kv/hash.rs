//! The running hash of all that was applied: 64 bits that differ when two servers do.
//!
//! Servers tell each other their hash at a slot; two hashes that differ at one slot mean that one
//! log or one state machine went astray (invariant I5, pitfall P26). It guards against mistakes,
//! not against an enemy: it is no cryptographic hash.
//!
//! Every step works on words of 64 bits, with arithmetic modulo 2^64, and is the same on every
//! machine:
//!
//! | step | does |
//! | --- | --- |
//! | start | `h = 0xcbf29ce484222325` |
//! | word `w` | `h = (h xor w) * 0x9e3779b97f4a7c15`, then `h = h xor (h >> 32)` |
//! | bytes | the word of their length, then each 8 bytes as one little-endian word, the last filled up with zeros |
//! | slot | the word of its number, the word of the hash of its text (from the start, as bytes), then for each command the word of its fate and the words or bytes of the fate's content |
//!
//! The words of fates stand in [`super::store`], beside the fates. FNV-1a's form (xor, then
//! multiply), eight bytes a step, so that a value of 1 MiB costs well under a millisecond; the
//! shift brings the high bits back down, where plain FNV would let two flips of a word's highest
//! bit cancel.

const START: u64 = 0xcbf2_9ce4_8422_2325;
const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;

/// A hash under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hash(u64);

impl Hash {
    /// Before anything was hashed.
    pub const START: Self = Self(START);

    /// Goes on from a hash that was read by [`Hash::get`].
    pub fn resume(hash: u64) -> Self {
        Self(hash)
    }

    /// The 64 bits so far.
    pub fn get(self) -> u64 {
        self.0
    }

    /// Adds one word.
    pub fn word(&mut self, word: u64) {
        let product = (self.0 ^ word).wrapping_mul(FACTOR);
        self.0 = product ^ (product >> 32);
    }

    /// Adds a run of bytes, its length first.
    pub fn bytes(&mut self, bytes: &[u8]) {
        self.word(bytes.len() as u64);
        let (words, rest) = bytes.as_chunks::<8>();
        for &word in words {
            self.word(u64::from_le_bytes(word));
        }
        if !rest.is_empty() {
            let mut last = [0; 8];
            last[..rest.len()].copy_from_slice(rest);
            self.word(u64::from_le_bytes(last));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(bytes: &[u8]) -> u64 {
        let mut hash = Hash::START;
        hash.bytes(bytes);
        hash.get()
    }

    /// P26: the hash is defined to the bit, so servers of different machines can compare it.
    #[test]
    fn known_texts_have_known_hashes() {
        assert_eq!(of(b""), 0xf8bb_92c9_1b3f_5cc0);
        assert_eq!(of(b"noop"), 0x550a_f210_fb7b_c388);
        assert_eq!(of(b"n2.5.77 put apple 1.25"), 0xab9a_9ab8_8667_13d4);
    }

    #[test]
    fn zeros_at_the_end_count() {
        assert_ne!(of(b"a"), of(b"a\0"));
        assert_ne!(of(b"12345678"), of(b"12345678\0"));
    }

    #[test]
    fn two_flips_of_the_highest_bit_do_not_cancel() {
        let mut flipped = [0; 16];
        flipped[7] = 0x80;
        flipped[15] = 0x80;
        assert_ne!(of(&[0; 16]), of(&flipped));
    }
}
