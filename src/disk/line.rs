//! A line of the log: a body with its number, its group, its length and a checksum.
//!
//! ```text
//! f38a1004 17 15 37 accept b3.2 s17 n2.1.1 put apple 1.25
//! ```
//!
//! | field | is |
//! | --- | --- |
//! | CRC | 8 digits of hex in lower case: CRC-32 of all after the space, the LF included |
//! | SEQ | the number of this line over all segments, from 1, without gaps |
//! | GROUP | SEQ of the first line that was not known to be synced when this one was written |
//! | LEN | the length of BODY in bytes |
//! | BODY | what the line says ([`super::body`]) |
//! | LF | ends the line; there is no other LF in it |
//!
//! Numbers are decimal without leading zeros. After the last line of a segment come zeros. GROUP is
//! what tells damage from a torn write: a line whose GROUP is above *n* was written after *n* was
//! synced, so a bad line *n* in front of it had once been good.
//!
//! The end of a line is its LF, not what LEN says: so garbage is searched in linear time, and text in
//! a client's value, which holds no LF, is never taken for the beginning of a line.

use crate::text::excerpt;
use std::io::Write;

/// A line whose checksum is right.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Line<'a> {
    pub(super) seq: u64,
    pub(super) group: u64,
    pub(super) body: &'a [u8],
    /// The length of the whole line, LF included.
    pub(super) bytes: usize,
}

/// The digits of the checksum.
const CRC_BYTES: usize = 8;
/// The longest head: checksum, three numbers, four spaces.
const HEAD_BYTES_MAX: usize = CRC_BYTES + 3 * 20 + 4;

/// Appends a line to `out`.
pub(super) fn write(out: &mut Vec<u8>, seq: u64, group: u64, body: &[u8]) {
    debug_assert!(!body.contains(&b'\n'), "a body is one line");
    let start = out.len();
    let len = body.len();
    write!(out, "{:08} {seq} {group} {len} ", 0).expect("a Vec takes every write");
    out.extend_from_slice(body);
    out.push(b'\n');
    let crc = crc_digits(&out[start + CRC_BYTES + 1..]);
    out[start..start + CRC_BYTES].copy_from_slice(&crc);
}

fn crc_digits(bytes: &[u8]) -> [u8; CRC_BYTES] {
    let crc = crc32fast::hash(bytes);
    let mut digits = [0; CRC_BYTES];
    write!(&mut digits[..], "{crc:08x}").expect("32 bits are 8 digits");
    digits
}

/// The line at the beginning of `bytes`, if it is whole and right in every field.
pub(super) fn read(bytes: &[u8]) -> Option<Line<'_>> {
    let head = Head::read(bytes)?;
    let end = head.bytes + lf(&bytes[head.bytes..])?;
    let body = &bytes[head.bytes..end];
    let right = body.len() == head.len
        && 0 < head.group
        && head.group <= head.seq
        && crc_digits(&bytes[CRC_BYTES + 1..=end]) == bytes[..CRC_BYTES];
    right.then_some(Line {
        seq: head.seq,
        group: head.group,
        body,
        bytes: end + 1,
    })
}

/// Where the line at the beginning of `bytes` says that it ends, LF included, right or wrong. Finds
/// the line behind one whose LF is damaged.
pub(super) fn claimed_end(bytes: &[u8]) -> Option<usize> {
    let head = Head::read(bytes)?;
    let end = head.bytes.checked_add(head.len)?.checked_add(1)?;
    (end < bytes.len()).then_some(end)
}

/// Where the line at the beginning of `bytes` ends, LF included, if nothing of it but its LF is
/// damaged. Other than [`claimed_end`] it cannot be led astray by a damaged length.
pub(super) fn proven_end(bytes: &[u8]) -> Option<usize> {
    let end = claimed_end(bytes)?;
    let mut restored = bytes[..end].to_vec();
    restored[end - 1] = b'\n';
    read(&restored).map(|line| line.bytes)
}

/// The first LF.
pub(super) fn lf(bytes: &[u8]) -> Option<usize> {
    bytes.iter().position(|&b| b == b'\n')
}

/// What stands somewhere, for people.
pub(super) fn describe(bytes: &[u8]) -> String {
    if let Some(line) = read(bytes) {
        return format!("record {}", line.seq);
    }
    match bytes.iter().position(|&b| b != 0) {
        None => "nothing".into(),
        Some(0) => {
            let line = &bytes[..lf(bytes).unwrap_or(bytes.len())];
            let zeros = line.iter().position(|&b| b == 0).unwrap_or(line.len());
            excerpt(&line[..zeros])
        }
        Some(zeros) => format!("{zeros} zero bytes"),
    }
}

/// What stands before a body, unchecked.
struct Head {
    seq: u64,
    group: u64,
    len: usize,
    bytes: usize,
}

impl Head {
    fn read(bytes: &[u8]) -> Option<Self> {
        let window = &bytes[..bytes.len().min(HEAD_BYTES_MAX)];
        let mut fields = window.splitn(5, |&b| b == b' ');
        let crc = fields.next()?;
        let mut number = || {
            let digits = fields.next()?;
            let plain = digits.iter().all(u8::is_ascii_digit) && !digits.starts_with(b"0")
                || digits == b"0";
            let text = std::str::from_utf8(digits).ok().filter(|_| plain)?;
            Some((text.parse::<u64>().ok()?, digits.len()))
        };
        let ((seq, seq_bytes), (group, group_bytes), (len, len_bytes)) =
            (number()?, number()?, number()?);
        // The body's first byte may lie outside the window, the space before it never does.
        fields.next()?;
        (crc.len() == CRC_BYTES).then_some(Self {
            seq,
            group,
            len: usize::try_from(len).ok()?,
            bytes: CRC_BYTES + seq_bytes + group_bytes + len_bytes + 4,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn line(seq: u64, group: u64, body: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        write(&mut out, seq, group, body);
        out
    }

    #[test]
    fn a_line_is_readable_by_eye() {
        let text = line(17, 15, b"accept b3.2 s17 n2.1.1 put apple 1.25");
        assert_eq!(
            String::from_utf8(text).unwrap(),
            "f38a1004 17 15 37 accept b3.2 s17 n2.1.1 put apple 1.25\n"
        );
    }

    /// The same with a right checksum, whatever the fields are.
    fn signed(fields_and_body: &str) -> Vec<u8> {
        let text = format!("{fields_and_body}\n").into_bytes();
        [&crc_digits(&text)[..], b" ", &text].concat()
    }

    #[test]
    fn a_checksum_alone_makes_no_line() {
        assert_eq!(signed("17 15 7 start 1"), line(17, 15, b"start 1"));
        assert!(read(&signed("17 17 7 start 1")).is_some());
        for wrong in [
            "17 0 7 start 1",
            "17 18 7 start 1",
            "0 0 7 start 1",
            "17 15 6 start 1",
            "17 15 8 start 1",
            "+17 15 7 start 1",
            "017 15 7 start 1",
            "17 15 07 start 1",
            "17 -15 7 start 1",
            "17  7 start 1",
            "18446744073709551616 15 7 start 1",
            "17 15 7",
        ] {
            assert_eq!(read(&signed(wrong)), None, "{wrong}");
        }
    }

    #[test]
    fn every_flipped_bit_is_noticed() {
        let text = line(17, 15, b"accept b3.2 s17 n2.1.1 put apple 1.25");
        for at in 0..text.len() {
            for bit in 0..8 {
                let mut bad = text.clone();
                bad[at] ^= 1 << bit;
                assert_eq!(read(&bad), None, "byte {at}, bit {bit}");
            }
        }
    }

    #[test]
    fn every_cut_line_is_noticed() {
        let text = line(u64::MAX, u64::MAX, b"x");
        for end in 0..text.len() {
            assert_eq!(read(&text[..end]), None);
            let mut zeros = text[..end].to_vec();
            zeros.resize(100, 0);
            assert_eq!(read(&zeros), None);
        }
        assert_eq!(
            claimed_end(&[&text[..], b"more"].concat()),
            Some(text.len())
        );
        assert_eq!(claimed_end(&text), None, "nothing stands behind it");
    }

    #[test]
    fn a_damaged_end_is_proven_by_the_checksum_and_a_damaged_length_is_not() {
        let text = [line(17, 15, b"start 1"), line(18, 15, b"start 2")].concat();
        let end = lf(&text).unwrap() + 1;
        let mut bad = text.clone();
        bad[end - 1] = b'x';
        assert_eq!(proven_end(&bad), Some(end));
        bad[end - 2] ^= 1;
        assert_eq!((proven_end(&bad), claimed_end(&bad)), (None, Some(end)));
        let mut bad = text;
        bad[15] = b'5';
        assert_eq!((proven_end(&bad), claimed_end(&bad)), (None, Some(end - 2)));
    }

    proptest! {
        #[test]
        fn every_line_reads_back(
            seq in 1..=u64::MAX,
            back in any::<u64>(),
            body in proptest::collection::vec(any::<u8>().prop_map(|b| b.max(11)), 0..100),
            behind in proptest::collection::vec(any::<u8>(), 0..40),
        ) {
            let group = seq - back % seq;
            let mut text = line(seq, group, &body);
            let bytes = text.len();
            text.extend_from_slice(&behind);
            prop_assert_eq!(read(&text), Some(Line { seq, group, body: &body, bytes }));
        }

        #[test]
        fn no_bytes_make_the_reader_panic(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
            let _ = (read(&bytes), claimed_end(&bytes), proven_end(&bytes), describe(&bytes));
        }
    }
}
