use super::super::super::http;
use super::*;
use crate::wire::held::READ_BYTES_MIN;
use proptest::collection::vec;
use proptest::prelude::*;

/// A request as client libraries write it.
fn frame(arguments: &[Vec<u8>]) -> Vec<u8> {
    let mut out = format!("*{}\r\n", arguments.len()).into_bytes();
    for argument in arguments {
        out.extend_from_slice(format!("${}\r\n", argument.len()).as_bytes());
        out.extend_from_slice(argument);
        out.extend_from_slice(b"\r\n");
    }
    out
}

fn words(text: &str) -> Vec<Vec<u8>> {
    text.split(' ')
        .map(|word| word.as_bytes().to_vec())
        .collect()
}

/// What a stream in pieces of these sizes has in it.
struct Found {
    requests: Vec<Vec<Vec<u8>>>,
    error: Option<String>,
    /// The largest buffer on the way.
    largest: usize,
}

fn read(mut bytes: &[u8], sizes: &[usize]) -> Found {
    let mut buffer = FrameBuffer::default();
    let (mut requests, mut largest) = (Vec::new(), 0);
    let mut sizes = sizes.iter().cycle();
    while !bytes.is_empty() {
        let size = (*sizes.next().expect("a size")).min(bytes.len());
        let count = buffer.read_from(&mut &bytes[..size]).unwrap();
        assert!(count > 0, "a read has room");
        bytes = &bytes[count..];
        largest = largest.max(buffer.held.buffer.capacity());
        loop {
            match buffer.next_frame() {
                Ok(None) => break,
                Ok(Some(arguments)) => {
                    assert_eq!(arguments.iter().count(), arguments.len());
                    requests.push(arguments.iter().map(<[u8]>::to_vec).collect());
                }
                Err(error) => {
                    let error = Some(error.to_string());
                    return Found {
                        requests,
                        error,
                        largest,
                    };
                }
            }
        }
    }
    Found {
        requests,
        error: None,
        largest,
    }
}

#[test]
fn requests_come_one_by_one() {
    let stream = [frame(&words("SET pear 2.10")), frame(&words("GET pear"))].concat();
    let found = read(&stream, &[stream.len()]);
    assert_eq!(found.requests, [words("SET pear 2.10"), words("GET pear")]);
    assert_eq!(found.error, None);
}

#[test]
fn a_connection_may_mix_arrays_inline_words_and_nothing() {
    let stream =
        b"*1\r\n$4\r\nPING\r\n*0\r\n\r\n \nPING\r\nset k \"a b\"\n*2\r\n$4\r\nECHO\r\n$0\r\n\r\n";
    for size in 1..stream.len() {
        let found = read(stream, &[size]);
        let set = vec![b"set".to_vec(), b"k".to_vec(), b"a b".to_vec()];
        let echo = vec![b"ECHO".to_vec(), vec![]];
        assert_eq!(found.requests, [words("PING"), words("PING"), set, echo]);
        assert_eq!(found.error, None);
    }
}

/// As in Redis.
#[test]
fn a_count_below_zero_is_a_request_of_nothing() {
    let stream = [
        &b"*-1\r\n*-10\r\n*-9223372036854775808\r\n"[..],
        &frame(&words("PING")),
        b"*-1\r\n",
    ]
    .concat();
    for size in 1..stream.len() {
        let found = read(&stream, &[size]);
        assert_eq!(found.requests, [words("PING")]);
        assert_eq!(found.error, None);
    }
}

/// Each beside the words of Redis 7.0.15, where it has some.
#[test]
fn a_hostile_frame_is_one_error() {
    let long = [b'1'; 100];
    let number = |sign: &str| [sign.as_bytes(), &long].concat();
    for (stream, error) in [
        (&b"*abc\r\n"[..], "invalid multibulk length"),
        (b"*\r\n", "invalid multibulk length"),
        (b"*-\r\n", "invalid multibulk length"),
        (b"*+1\r\n", "invalid multibulk length"),
        (b"* 1\r\n", "invalid multibulk length"),
        (b"*1 \r\n", "invalid multibulk length"),
        (b"*01\r\n", "invalid multibulk length"),
        (b"*65537\r\n", "invalid multibulk length"),
        (b"*18446744073709551616\r\n", "invalid multibulk length"),
        (b"*-0\r\n", "invalid multibulk length"),
        (b"*-01\r\n", "invalid multibulk length"),
        (b"*-9223372036854775809\r\n", "invalid multibulk length"),
        // Redis waits for a CR.
        (b"*1\n$4\nPING\n", "invalid multibulk length"),
        (b"*1\rX$4\r\nPING\r\n", "invalid multibulk length"),
        (&number("*"), "too big mbulk count string"),
        (b"*1\r\n$-1\r\n", "invalid bulk length"),
        (b"*1\r\n$abc\r\n", "invalid bulk length"),
        (b"*1\r\n$\r\n", "invalid bulk length"),
        (b"*1\r\n$04\r\nPING\r\n", "invalid bulk length"),
        (b"*1\r\n$4194305\r\n", "invalid bulk length"),
        (b"*1\r\n$536870913\r\n", "invalid bulk length"),
        (b"*1\r\n$4\nPING\r\n", "invalid bulk length"),
        (
            &[b"*1\r\n", &number("$")[..]].concat(),
            "too big bulk count string",
        ),
        (b"*1\r\n:3\r\n", "expected '$', got ':'"),
        (b"*1\r\n*1\r\n", "expected '$', got '*'"),
        (b"*1\r\n\r\n", "expected '$', got '\\r'"),
        (b"*1\r\n\x01", "expected '$', got '\\x01'"),
        (b"*2\r\n$4\r\nPINGxx", "expected CRLF after a bulk string"),
        (b"echo \"a\r\n", "unbalanced quotes in request"),
        // Redis closes without a word.
        (b"POST / HTTP/1.1\r\n", http::REFUSED),
        (b"host: localhost\r\n", http::REFUSED),
        (&vec![b'x'; 70_000], "too big inline request"),
        (
            &[&vec![b'x'; 65_537][..], b"\r\n"].concat(),
            "too big inline request",
        ),
    ] {
        let stream = [
            &b"*1\r\n$4\r\nPING\r\n"[..],
            stream,
            b"*1\r\n$4\r\nPING\r\n",
        ]
        .concat();
        for size in [1, 7, stream.len()] {
            let found = read(&stream, &[size]);
            let shown = stream[14..stream.len().min(54)].escape_ascii();
            let error = format!("Protocol error: {error}");
            assert_eq!(found.error, Some(error), "{shown}");
            assert_eq!(found.requests, [words("PING")], "{shown}");
        }
    }
}

/// A longer one ends the connection as soon as it is clear, and not before.
#[test]
fn an_inline_request_may_be_so_long_and_no_longer() {
    let word = |count: usize| vec![b'x'; count];
    let line = |count: usize| [word(count), b"\n".to_vec()].concat();
    for size in [1, 1_000, 100_000] {
        let whole = read(&line(INLINE_BYTES_MAX), &[size]);
        assert_eq!(whole.requests, [[word(INLINE_BYTES_MAX)]]);
        let longer = read(&line(INLINE_BYTES_MAX + 1), &[size]);
        assert!(longer.requests.is_empty() && longer.error.is_some());
        let begun = read(&word(INLINE_BYTES_MAX), &[size]);
        assert!(begun.requests.is_empty() && begun.error.is_none());
        let begun = read(&word(INLINE_BYTES_MAX + 1), &[size]);
        assert!(begun.error.is_some());
    }
}

/// P48: what is cut short is no request.
#[test]
fn a_frame_that_is_cut_anywhere_is_none() {
    let stream = frame(&words("SET k 100"));
    for end in 0..stream.len() {
        let found = read(&stream[..end], &[stream.len()]);
        assert!(found.requests.is_empty() && found.error.is_none(), "{end}");
    }
    assert_eq!(read(&stream, &[stream.len()]).requests.len(), 1);
}

#[test]
fn a_claim_takes_no_memory() {
    for stream in [
        &b"*65536\r\n$4194304\r\n"[..],
        b"*65536\r\n$1\r\na\r\n$4194304\r\nabc",
    ] {
        let mut buffer = FrameBuffer::default();
        buffer.read_from(&mut &*stream).unwrap();
        assert!(buffer.next_frame().unwrap().is_none());
        assert!(buffer.held.buffer.capacity() <= 16 * 1_024);
        assert!(buffer.places.capacity() <= PLACES_REST);
    }
}

#[test]
fn the_longest_request_fits_and_one_byte_more_does_not() {
    let long = vec![b'x'; ARGUMENT_BYTES_MAX];
    let head = [
        frame(&[b"SET".to_vec(), b"k".to_vec(), long.clone()]),
        vec![],
    ]
    .concat();
    let head = head.len() + "$123456\r\n\r\n".len();
    let fill = |more: usize| vec![b'y'; FRAME_BYTES_MAX - head + more];
    let longest = [b"SET".to_vec(), b"k".to_vec(), long.clone(), fill(0)];
    let stream = frame(&longest);
    assert_eq!(stream.len(), FRAME_BYTES_MAX);
    let found = read(&[stream, frame(&words("PING"))].concat(), &[50_000]);
    assert_eq!(found.requests, [longest.to_vec(), words("PING")]);
    assert!(found.largest <= FRAME_BYTES_MAX + NUMBER_BYTES_MAX + READ_BYTES_MIN);
    let longer = [b"SET".to_vec(), b"k".to_vec(), long, fill(1)];
    let found = read(&frame(&longer), &[50_000]);
    let error = "Protocol error: too big request (limit 4325376 bytes)";
    assert_eq!(found.error.as_deref(), Some(error));
    assert!(found.largest <= FRAME_BYTES_MAX + NUMBER_BYTES_MAX + READ_BYTES_MIN);
}

#[test]
fn as_many_arguments_fit_as_may_come_and_the_room_is_given_back() {
    let many = vec![b"k".to_vec(); ARGUMENTS_MAX];
    let stream = [frame(&many), frame(&words("PING"))].concat();
    let found = read(&stream, &[stream.len()]);
    assert_eq!(found.requests, [many, words("PING")]);
    let mut buffer = FrameBuffer::default();
    let mut rest = &stream[..];
    while buffer.read_from(&mut rest).unwrap() > 0 {
        while buffer.next_frame().unwrap().is_some() {}
    }
    assert_eq!(buffer.places.capacity(), PLACES_REST);
}

/// A person's finger on the return key is no depth of calls.
#[test]
fn a_million_empty_lines_are_no_request() {
    let found = read(&b"\r\n*0\r\n".repeat(500_000), &[1 << 20]);
    assert!(found.requests.is_empty() && found.error.is_none());
}

#[test]
fn arguments_can_be_left_out_from_the_front() {
    let stream = frame(&words("ONCE 1 2 SET k v"));
    let mut buffer = FrameBuffer::default();
    buffer.read_from(&mut &*stream).unwrap();
    let arguments = buffer.next_frame().unwrap().expect("it is whole");
    let inner = arguments.skip(3);
    assert_eq!((inner.len(), inner.get(0)), (3, Some(&b"SET"[..])));
    assert_eq!((inner.get(2), inner.get(3)), (Some(&b"v"[..]), None));
    assert!(arguments.skip(6).is_empty() && arguments.skip(7).is_empty());
}

proptest! {
    /// Whatever is written reads back, in whatever pieces it comes.
    #[test]
    fn any_pieces_give_the_requests_that_were_written(
        requests in vec(vec(vec(any::<u8>(), 0..40), 1..6), 0..20),
        sizes in vec(1..60_usize, 1..5),
    ) {
        let stream: Vec<u8> = requests.iter().flat_map(|request| frame(request)).collect();
        let found = read(&stream, &sizes);
        prop_assert_eq!(found.requests, requests);
        prop_assert_eq!(found.error, None);
    }

    /// The same over the sizes at which the buffer grows and shrinks.
    #[test]
    fn growing_and_shrinking_lose_nothing(
        lengths in vec(prop_oneof![0..50_usize, 7_000..40_000_usize], 1..10),
        sizes in vec(1_000..40_000_usize, 1..5),
    ) {
        let requests: Vec<_> = lengths.iter().map(|&len| vec![vec![b'x'; len], vec![b'y']]).collect();
        let stream: Vec<u8> = requests.iter().flat_map(|request| frame(request)).collect();
        prop_assert_eq!(read(&stream, &sizes).requests, requests);
    }

    /// Garbage is requests, an error or neither, and the same in any pieces.
    #[test]
    fn any_pieces_of_garbage_give_the_same(
        stream in vec(prop_oneof![
            prop::sample::select(&b"*$\r\n0123-\" a"[..]),
            any::<u8>(),
        ], 0..200),
        sizes in vec(1..20_usize, 1..5),
    ) {
        let (whole, pieces) = (read(&stream, &[200]), read(&stream, &sizes));
        prop_assert_eq!(whole.requests, pieces.requests);
        prop_assert_eq!(whole.error, pieces.error);
    }
}
