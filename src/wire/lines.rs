//! Bytes of a stream to lines, in bounded memory.
//!
//! A [`LineBuffer`] stands between a socket and whoever reads lines: it takes what has arrived in
//! one read, and gives the whole lines in it one by one. Three promises:
//! * bytes after the last LF are never a line (pitfall P48: a command cut by the end of the stream
//!   is not executed);
//! * it never holds more than the longest line and one read; a longer line is dropped as it
//!   arrives, up to its LF, and reported once;
//! * every byte is looked at once and moved at most a constant number of times, whether
//!   ten thousand lines arrive at once or one long line arrives in small pieces.
//!
//! Left out on purpose: what a line means, and the CR before a LF, which belongs to the line here.

use std::io::{self, Read};

use super::held::Held;
use super::telnet::{Next, Telnet};

/// What came before a LF.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Line<'a> {
    /// A line, without its LF.
    Whole(&'a [u8]),
    /// A line longer than the limit stood here and was dropped.
    TooLong,
}

/// Reads a stream line by line. See the module's promises.
#[derive(Debug)]
pub struct LineBuffer {
    held: Held,
    /// So many of the bytes that are held have no LF among them.
    scanned: usize,
    /// What a telnet client says for itself is dropped before a line begins.
    telnet: Option<Telnet>,
    /// Inside a line.
    begun: bool,
    /// Inside a line that is too long: nothing of it is kept.
    dropping: bool,
    line_bytes_max: usize,
}

impl LineBuffer {
    /// An empty buffer for lines of at most `line_bytes_max` bytes, not counting the LF.
    pub fn new(line_bytes_max: usize) -> Self {
        Self {
            held: Held::new(line_bytes_max),
            scanned: 0,
            telnet: None,
            begun: false,
            dropping: false,
            line_bytes_max,
        }
    }

    /// The same for lines that somebody may type in a telnet client: what that says for itself at the
    /// beginning of a line is dropped.
    pub fn typed(line_bytes_max: usize) -> Self {
        Self {
            telnet: Some(Telnet::default()),
            ..Self::new(line_bytes_max)
        }
    }

    /// Reads once from `stream`, and returns how many bytes came: 0 at its end. Take all lines with
    /// [`LineBuffer::next_line`] before reading again.
    ///
    /// # Errors
    /// What `stream` returns, but for interruptions, after which it is read again.
    pub fn read_from(&mut self, stream: &mut impl Read) -> io::Result<usize> {
        assert!(
            self.scanned == self.held.bytes().len(),
            "the lines that have arrived must be taken before more are read"
        );
        self.held.read_from(stream)
    }

    /// How many bytes of memory the next read makes this hold.
    pub fn memory_after_read(&self) -> usize {
        self.held.memory_after_read()
    }

    /// How many timing marks a telnet client has asked for, right before the next line, that were not told
    /// before. Each is answered once.
    pub fn timing_marks(&mut self) -> usize {
        if !self.begun {
            self.begin();
        }
        let telnet = self.telnet.as_mut();
        telnet.map_or(0, |telnet| std::mem::take(&mut telnet.timing_marks))
    }

    /// The next line; none until more has been read.
    pub fn next_line(&mut self) -> Option<Line<'_>> {
        if !self.begun && !self.begin() {
            return None;
        }
        let bytes = self.held.bytes();
        let unseen = &bytes[self.scanned..];
        if let Some(at) = unseen.iter().position(|&byte| byte == b'\n') {
            let len = self.scanned + at;
            self.scanned = 0;
            self.begun = false;
            let too_long = self.dropping || len > self.line_bytes_max;
            self.dropping = false;
            let line = &self.held.take(len + 1)[..len];
            return Some(if too_long {
                Line::TooLong
            } else {
                Line::Whole(line)
            });
        }
        self.scanned = bytes.len();
        self.dropping |= self.scanned > self.line_bytes_max;
        if self.dropping {
            self.held.take(self.scanned);
            self.scanned = 0;
        }
        None
    }

    /// Drops what stands before the line; false if more of that may come.
    fn begin(&mut self) -> bool {
        let mut next = Next::Line;
        if let Some(telnet) = &mut self.telnet {
            let (own, behind) = telnet.own(self.held.bytes());
            self.held.take(own);
            next = behind;
        }
        let held = self.held.bytes().len();
        self.begun = next == Next::Line && held > 0;
        // Of what is not told yet, nothing is looked at again before more has been read.
        self.scanned = if next == Next::Line { 0 } else { held };
        next == Next::Line
    }
}

#[cfg(test)]
mod tests {
    use super::super::held::{READ_BYTES_MIN, REST_BYTES};
    use super::super::telnet::SUBNEGOTIATION_BYTES_MAX;
    use super::*;
    use proptest::collection::vec;
    use proptest::prelude::*;
    use std::io::ErrorKind;

    /// A stream that gives its bytes in pieces of these sizes, over and over.
    struct Pieces<'a> {
        bytes: &'a [u8],
        sizes: std::iter::Cycle<std::vec::IntoIter<usize>>,
    }

    impl<'a> Pieces<'a> {
        fn new(bytes: &'a [u8], sizes: Vec<usize>) -> Self {
            let sizes = sizes.into_iter().cycle();
            Self { bytes, sizes }
        }
    }

    impl Read for Pieces<'_> {
        fn read(&mut self, room: &mut [u8]) -> io::Result<usize> {
            assert!(room.len() >= READ_BYTES_MIN, "a read has room");
            let size = self.sizes.next().unwrap_or(1).min(room.len());
            self.bytes.read(&mut room[..size])
        }
    }

    /// A stream whose first read a signal interrupts.
    struct Interrupted<'a>(Option<&'a [u8]>);

    impl Read for Interrupted<'_> {
        fn read(&mut self, room: &mut [u8]) -> io::Result<usize> {
            match &mut self.0 {
                bytes @ None => *bytes = Some(&b"PING\n"[..]),
                Some(bytes) => return bytes.read(room),
            }
            Err(ErrorKind::Interrupted.into())
        }
    }

    #[test]
    fn a_signal_ends_no_connection() {
        assert_eq!(lines(Interrupted(None), 100).0, [Some(b"PING".to_vec())]);
    }

    /// All lines of a stream, none for one that is too long; and the largest buffer on the way.
    fn lines(mut stream: impl Read, max: usize) -> (Vec<Option<Vec<u8>>>, usize) {
        let mut buffer = LineBuffer::new(max);
        let mut lines = Vec::new();
        let mut largest = 0;
        while buffer.read_from(&mut stream).unwrap() > 0 {
            largest = largest.max(buffer.held.buffer.capacity());
            while let Some(line) = buffer.next_line() {
                lines.push(match line {
                    Line::Whole(line) => Some(line.to_vec()),
                    Line::TooLong => None,
                });
            }
        }
        (lines, largest)
    }

    /// P48: a command cut short by the end of the stream is no line.
    #[test]
    fn bytes_after_the_last_lf_are_never_a_line() {
        let (found, _) = lines(&b"PUT k 1\nPUT k 10"[..], 100);
        assert_eq!(found, [Some(b"PUT k 1".to_vec())]);
        assert_eq!(lines(&b"PUT k 10"[..], 100).0, []);
        assert_eq!(lines(&b"PUT k 10"[..], 3).0, []);
    }

    #[test]
    fn a_line_of_exactly_the_limit_is_whole() {
        let (found, _) = lines(&b"abc\nabcd\n\nabc\n"[..], 3);
        let abc = Some(b"abc".to_vec());
        assert_eq!(found, [abc.clone(), None, Some(vec![]), abc]);
    }

    #[test]
    fn a_line_too_long_is_dropped_in_bounded_memory_and_reported_once() {
        let max = 100_000;
        let stream = [&vec![b'x'; 50 * max][..], b"\nPING\n"].concat();
        let (found, largest) = lines(Pieces::new(&stream, vec![9_000, 1]), max);
        assert_eq!(found, [None, Some(b"PING".to_vec())]);
        assert!(largest <= max + READ_BYTES_MIN, "{largest}");
    }

    #[test]
    fn a_long_line_in_small_pieces_is_whole_and_the_buffer_shrinks_after_it() {
        let max = 4 * 1_048_576;
        let long = vec![b'x'; max];
        let stream = [&long[..], b"\nPI"].concat();
        let mut pieces = Pieces::new(&stream, vec![1_448]);
        let mut buffer = LineBuffer::new(max);
        while buffer.next_line() != Some(Line::Whole(&long)) {
            assert!(buffer.read_from(&mut pieces).unwrap() > 0);
        }
        assert!(buffer.held.buffer.capacity() <= max + READ_BYTES_MIN);
        assert_eq!(buffer.next_line(), None);
        buffer.read_from(&mut &b"NG\n"[..]).unwrap();
        assert_eq!(buffer.held.buffer.capacity(), REST_BYTES);
        assert_eq!(buffer.next_line(), Some(Line::Whole(b"PING")));
    }

    #[test]
    fn many_small_lines_come_one_by_one() {
        let stream = b"GET apple\n".repeat(10_000);
        let (found, largest) = lines(&stream[..], 100);
        assert_eq!(found.len(), 10_000);
        assert!(
            found
                .iter()
                .all(|line| line.as_deref() == Some(b"GET apple"))
        );
        assert_eq!(largest, REST_BYTES);
    }

    /// Busy servers read ten thousand times a second: memory is asked for only where a line needs it.
    #[test]
    fn a_read_that_has_room_takes_no_new_memory() {
        let mut buffer = LineBuffer::new(4 * REST_BYTES);
        let place = buffer.held.buffer.as_ptr();
        let part = vec![b'x'; REST_BYTES - READ_BYTES_MIN];
        for bytes in [&b"GET apple\n"[..], b"GET", b" pear\n", &part, b"x"] {
            buffer.read_from(&mut &*bytes).unwrap();
            while buffer.next_line().is_some() {}
            assert_eq!(buffer.held.buffer.as_ptr(), place);
        }
        assert_eq!(buffer.held.buffer.len(), REST_BYTES);
        buffer.read_from(&mut &b"x"[..]).unwrap();
        assert!(buffer.held.buffer.len() > REST_BYTES);
    }

    #[test]
    fn an_error_of_the_stream_loses_nothing() {
        struct Failing;
        impl Read for Failing {
            fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
                Err(ErrorKind::WouldBlock.into())
            }
        }
        let mut buffer = LineBuffer::new(100);
        buffer.read_from(&mut &b"PI"[..]).unwrap();
        assert_eq!(buffer.next_line(), None);
        let error = buffer.read_from(&mut Failing).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::WouldBlock);
        assert_eq!(buffer.next_line(), None);
        buffer.read_from(&mut &b"NG\n"[..]).unwrap();
        assert_eq!(buffer.next_line(), Some(Line::Whole(b"PING")));
    }

    /// All lines that a telnet client sends, in pieces of this size.
    fn typed(stream: &[u8], size: usize, max: usize) -> Vec<Option<Vec<u8>>> {
        let mut pieces = Pieces::new(stream, vec![size]);
        let mut buffer = LineBuffer::typed(max);
        let mut lines = Vec::new();
        while buffer.read_from(&mut pieces).unwrap() > 0 {
            while let Some(line) = buffer.next_line() {
                lines.push(match line {
                    Line::Whole(line) => Some(line.to_vec()),
                    Line::TooLong => None,
                });
            }
        }
        lines
    }

    /// A11: each of these is what a client was seen to send.
    #[test]
    fn what_a_telnet_client_says_before_a_line_is_no_part_of_it() {
        // PuTTY's opening: NAWS, speed, terminal, environment, echo, no go-ahead.
        let putty =
            b"\xff\xfb\x1f\xff\xfb\x20\xff\xfb\x18\xff\xfb\x27\xff\xfd\x01\xff\xfb\x03\xff\xfd\x03";
        // A window of 10 columns, whose byte is that of a LF; and one of 255 rows, whose byte is doubled.
        let window = b"\xff\xfa\x1f\x00\x0a\x00\xff\xff\xff\xf0";
        // Ctrl-C: an interrupt, and `DO TIMING-MARK`; also with the mark that was urgent.
        let interrupt = b"\xff\xf4\xff\xfd\x06";
        let synch = b"\xff\xf4\xff\xf2";
        let broken = b"\xff\xfa\x1f\x00\xff\xf4";
        for own in [&putty[..], window, interrupt, synch, broken, b""] {
            let stream = [own, b"PING\r\n", own, own, b"GET a\n", own].concat();
            for size in 1..stream.len() {
                let expected = [Some(b"PING\r".to_vec()), Some(b"GET a".to_vec())];
                assert_eq!(
                    typed(&stream, size, 100),
                    expected,
                    "{}",
                    own.escape_ascii()
                );
            }
        }
    }

    /// They are told before the line that they stand before, and each once.
    #[test]
    fn timing_marks_are_told_in_their_places() {
        let stream =
            b"GET a\n\xff\xf4\xff\xfd\x06\xff\xfd\x06GET \xff\xfd\x06\n\xff\xfb\x06GET c\n";
        for size in 1..stream.len() {
            let mut pieces = Pieces::new(stream, vec![size]);
            let mut buffer = LineBuffer::typed(100);
            let mut marks = vec![0];
            while buffer.read_from(&mut pieces).unwrap() > 0 {
                loop {
                    *marks.last_mut().unwrap() += buffer.timing_marks();
                    if buffer.next_line().is_none() {
                        break;
                    }
                    marks.push(0);
                }
            }
            assert_eq!(marks, [0, 2, 0, 0]);
        }
    }

    /// Keys and values are bytes, whichever these are.
    #[test]
    fn bytes_of_telnet_inside_of_a_line_stay() {
        let stream = b"PUT k \xff\xfb\x01\xff\xff\xf4\n\xff\xffx\n\xff\x01\n\xff\n";
        let lines: Vec<_> = stream.split_inclusive(|&byte| byte == b'\n').collect();
        let expected: Vec<_> = lines
            .iter()
            .map(|line| Some(line[..line.len() - 1].to_vec()))
            .collect();
        for size in 1..stream.len() {
            assert_eq!(typed(stream, size, 100), expected);
        }
        // Lines that nobody types keep all their bytes.
        let stream = b"\xff\xfb\x01PING\n";
        let (found, _) = self::lines(&stream[..], 100);
        assert_eq!(found, [Some(b"\xff\xfb\x01PING".to_vec())]);
    }

    /// At its bound a subnegotiation is none: a client that never ends one is answered, and costs no memory.
    #[test]
    fn a_subnegotiation_has_a_bound() {
        let of = |count: usize| {
            let inside = vec![b'x'; count];
            [b"\xff\xfa\x1f", &inside[..], b"\xff\xf0PING\n"].concat()
        };
        let ping = || Some(b"PING".to_vec());
        // The option is a byte of it.
        let fits = of(SUBNEGOTIATION_BYTES_MAX - 1);
        let longer = of(SUBNEGOTIATION_BYTES_MAX);
        for size in [1, 7, 2_000] {
            assert_eq!(typed(&fits, size, 100), [ping()]);
            assert_eq!(typed(&longer, size, 100), [Some(b"x\xff\xf0PING".to_vec())]);
        }
        let endless = [&of(50_000)[..], b"PING\n"].concat();
        assert_eq!(typed(&endless, 1_448, 100), [None, ping()]);
    }

    proptest! {
        /// P48, and no panic: what telnet bytes there are, a line is what stands between two LFs or less.
        #[test]
        fn typed_lines_are_the_same_in_any_pieces(
            stream in vec(prop_oneof![
                Just(255_u8), Just(250_u8), Just(240_u8), Just(b'\n'), 236..=255_u8, any::<u8>(),
            ], 0..200),
            size in 1..20_usize,
            max in 0..30_usize,
        ) {
            let whole = typed(&stream, stream.len().max(1), max);
            prop_assert_eq!(typed(&stream, size, max), whole);
        }

        #[test]
        fn any_pieces_give_the_lines_of_a_plain_split(
            parts in vec((any::<u8>(), 0..60_usize, any::<bool>()), 0..200),
            sizes in vec(1..50_usize, 1..5),
            max in 0..50_usize,
        ) {
            let mut stream = Vec::new();
            for (byte, count, lf) in parts {
                stream.extend(std::iter::repeat_n(byte, count));
                if lf {
                    stream.push(b'\n');
                }
            }
            let mut expected: Vec<Option<Vec<u8>>> = stream
                .split(|&byte| byte == b'\n')
                .map(|line| (line.len() <= max).then(|| line.to_vec()))
                .collect();
            expected.pop();
            prop_assert_eq!(lines(Pieces::new(&stream, sizes), max).0, expected);
        }

        /// The same over the sizes at which the buffer grows and shrinks.
        #[test]
        fn growing_and_shrinking_lose_nothing(
            lengths in vec(prop_oneof![0..50_usize, 7_000..40_000_usize], 0..12),
            sizes in vec(1_000..40_000_usize, 1..5),
        ) {
            let mut stream = Vec::new();
            for (at, &length) in lengths.iter().enumerate() {
                let letter = b'a' + u8::try_from(at).unwrap();
                stream.extend(std::iter::repeat_n(letter, length));
                stream.push(b'\n');
            }
            let max = 30_000;
            let (found, largest) = lines(Pieces::new(&stream, sizes), max);
            let expected: Vec<_> = stream
                .split_inclusive(|&byte| byte == b'\n')
                .map(|line| (line.len() <= max + 1).then(|| line[..line.len() - 1].to_vec()))
                .collect();
            prop_assert_eq!(found, expected);
            prop_assert!(largest <= max + READ_BYTES_MIN);
        }
    }
}
