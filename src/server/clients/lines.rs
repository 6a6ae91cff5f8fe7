//! A connection of plain lines.
//!
//! One thing in it is not plain: `redis-benchmark` begins with connections that send nothing but `PING`,
//! CR LF, which is both a plain line and what RESP calls an inline request, and it ends itself if it is
//! not answered in RESP. So it is, as long as a connection has sent nothing else.

use std::io;
use std::net::TcpStream;
use std::sync::atomic::Ordering;
use std::thread;

use socket2::SockRef;

use crate::kv::command::{List, Read};
use crate::outbox::Answer;
use crate::wire::client::{
    ErrorCode, LINE_BYTES_MAX, Reply, Request, RequestError, parse_request, write_list,
};
use crate::wire::lines::{Line, LineBuffer};
use crate::wire::telnet::NO_TIMING_MARK;

use super::budget::{Account, Part};
use super::run::{Out, Run, STOPPED, Server};
use super::{Connection, close, looks};

/// What stands before the LF.
const INLINE_PING: &[u8] = b"PING\r";

/// What each key of a request takes beside its bytes, in bytes: its place among them, and the head of a shared
/// text.
const KEY_MEMORY: usize = 64;

/// What is left to do for a request when it has what it needs.
enum Then {
    /// Say this.
    Reply(Reply),
    /// Say what became of the command.
    Tell,
    /// Read the store.
    Read(Read),
    /// Ask the core.
    Status,
    /// Do it to the acceptor: whether it is to be up.
    Acceptor(bool),
    /// Make each sync of the log so many milliseconds longer.
    Slow(u64),
}

/// Serves the connection, whose first byte this is, to its end.
pub(super) fn serve(server: &Server, connection: &Connection, first: u8) -> io::Result<()> {
    let stream = &connection.stream;
    // A telnet client sends the last byte of an interrupt as urgent, which would be taken out of its place.
    SockRef::from(stream).set_out_of_band_inline(true)?;
    let account = Account::new(&server.open, connection);
    let mut out = Out::new(stream, &account);
    let done = serve_all(server, stream, first, &mut out);
    out.leave(|surely, bytes| {
        let code = if surely {
            ErrorCode::NotDone
        } else {
            ErrorCode::Unknown
        };
        Reply::error(code, server.open.why_leave()).write(bytes);
    });
    done
}

fn serve_all(
    server: &Server,
    mut stream: &TcpStream,
    first: u8,
    out: &mut Out<'_>,
) -> io::Result<()> {
    let mut lines = LineBuffer::typed(LINE_BYTES_MAX);
    let mut inline_pings = first == INLINE_PING[0];
    loop {
        out.account.hold(Part::Input, lines.memory_after_read())?;
        if lines.read_from(&mut stream)? == 0 {
            return Ok(());
        }
        let quits = serve_lines(server, &mut lines, &mut inline_pings, out)?;
        out.end()?;
        if quits {
            close(stream);
            return Ok(());
        }
    }
}

/// Serves all lines that have arrived; true if the connection is to be closed: the client quits, or speaks
/// HTTP. `inline_pings` is whether nothing but
/// inline `PING`s has come.
fn serve_lines(
    server: &Server,
    lines: &mut LineBuffer,
    inline_pings: &mut bool,
    out: &mut Out<'_>,
) -> io::Result<bool> {
    let mut run = Run::default();
    loop {
        let marks = lines.timing_marks();
        if marks > 0 {
            finish(server, std::mem::take(&mut run), out)?;
            out.bytes.extend(NO_TIMING_MARK.repeat(marks));
        }
        let Some(line) = lines.next_line() else {
            break;
        };
        *inline_pings &= matches!(line, Line::Whole(INLINE_PING));
        if *inline_pings {
            // Nothing that was asked before it can still wait.
            out.bytes.extend_from_slice(b"+PONG\r\n");
            out.relieve()?;
            server.served.fetch_add(1, Ordering::Relaxed);
            continue;
        }
        let (bytes, request) = match line {
            Line::Whole(line) => (line.len(), parse_request(line)),
            Line::TooLong => (0, Err(RequestError::too_long_line())),
        };
        if run.is_over(matches!(request, Ok(Request::Write(_)))) {
            finish(server, std::mem::take(&mut run), out)?;
        }
        run.count(memory(bytes, &request), out.account)?;
        match request {
            Ok(Request::Quit) => {
                finish(server, run, out)?;
                Reply::Bye.write(&mut out.bytes);
                return Ok(true);
            }
            Ok(request) => add(&mut run, request),
            Err(error) => {
                let ends = error == RequestError::Http;
                run.known(Then::Reply(error.into()));
                if ends {
                    finish(server, run, out)?;
                    return Ok(true);
                }
            }
        }
    }
    finish(server, run, out)?;
    Ok(false)
}

/// About how much memory a request takes that came as so many bytes.
fn memory(bytes: usize, request: &Result<Request, RequestError>) -> usize {
    match request {
        Ok(Request::Read {
            read: Read::Many { keys },
            ..
        }) => bytes + keys.len() * KEY_MEMORY,
        _ => bytes,
    }
}

fn add(run: &mut Run<Then>, request: Request) {
    match request {
        Request::Write(command) => run.command(command, Then::Tell),
        Request::Read { local, read } => run.read(local, Then::Read(read)),
        Request::Status => run.question(Then::Status),
        Request::Fail => run.in_turn(Then::Acceptor(false)),
        Request::Recover => run.in_turn(Then::Acceptor(true)),
        Request::Slow(millis) => run.in_turn(Then::Slow(millis)),
        Request::Ping => run.known(Then::Reply(Reply::Pong)),
        Request::Help => run.known(Then::Reply(Reply::help())),
        Request::Quit => run.known(Then::Reply(Reply::Bye)),
    }
}

fn finish(server: &Server, run: Run<Then>, out: &mut Out<'_>) -> io::Result<()> {
    server.finish(run, out, |then, answer, out| {
        if let (Then::Read(Read::List(list)), Answer::Readable) = (&then, &answer) {
            return tell_list(server, list, out);
        }
        let reply = reply(server, then, answer);
        out.account.hold(Part::Reply, reply.memory())?;
        let (bytes, relieve) = out.parts();
        reply.write_in_parts(bytes, relieve)
    })
}

/// Tells a list from an image, which is walked twice, to count and to tell: so it takes no memory, however
/// long it is and however slowly it is read, but for what the store has changed since.
fn tell_list(server: &Server, list: &List, out: &mut Out<'_>) -> io::Result<()> {
    let image = server.store.image();
    let count = gently(image.listed(list)).count();
    let (bytes, relieve) = out.parts();
    write_list(bytes, relieve, count, gently(image.listed(list)))
}

/// A long walk lets others have the processor now and then: a write passes through a dozen threads, and would
/// wait for the end of a walker's time slice at each of them.
fn gently<T>(walk: impl Iterator<Item = T>) -> impl Iterator<Item = T> {
    walk.enumerate().map(|(place, item)| {
        if place % YIELD_EVERY == YIELD_EVERY - 1 {
            thread::yield_now();
        }
        item
    })
}

/// After so many keys, some tenths of a millisecond, a walk lets others go first.
const YIELD_EVERY: usize = 512;

fn reply(server: &Server, then: Then, answer: Answer) -> Reply {
    match (then, answer) {
        (Then::Reply(reply), _) => reply,
        (_, Answer::NotDone(why)) => Reply::error(ErrorCode::NotDone, why),
        (_, Answer::Unknown(why)) => Reply::error(ErrorCode::Unknown, why),
        (_, Answer::Done(outcome)) => outcome.into(),
        (Then::Read(read), Answer::Readable) => match read {
            Read::Get { key } => server.store.get(&key).into(),
            Read::Many { keys } => Reply::values(server.store.values(&keys)),
            Read::List(_) => unreachable!("a list is told piece by piece"),
            Read::Ttl { key } => Reply::remaining(looks::remaining(server, &key)),
        },
        (Then::Status, Answer::Readable) => match server.status() {
            Some(fields) => Reply::Status(fields),
            None => Reply::error(ErrorCode::NotDone, STOPPED),
        },
        (Then::Acceptor(_) | Then::Slow(_), Answer::Readable) if !server.allow_fail => {
            let text = "this server was not started with --allow-fail";
            Reply::error(ErrorCode::Forbidden, text)
        }
        (Then::Acceptor(up), Answer::Readable) => {
            server.set_acceptor(up);
            Reply::Ok
        }
        (Then::Slow(millis), Answer::Readable) => {
            server.slow_disk(millis);
            Reply::Ok
        }
        (Then::Tell, Answer::Readable) => unreachable!("only reads are answered so"),
    }
}
