//! A connection of plain lines.
//!
//! One thing in it is not plain: `redis-benchmark` begins with connections that send nothing but `PING`,
//! CR LF, which is both a plain line and what RESP calls an inline request, and it ends itself if it is
//! not answered in RESP. So it is, as long as a connection has sent nothing else.

use std::io;
use std::net::TcpStream;
use std::sync::atomic::Ordering;
use std::thread;

use crate::kv::command::{List, Read};
use crate::outbox::Answer;
use crate::wire::client::{
    ErrorCode, LINE_BYTES_MAX, Reply, Request, RequestError, parse_request, write_list,
};
use crate::wire::lines::{Line, LineBuffer};

use super::run::{Out, Run, STOPPED, Server};
use super::{close, looks};

/// What stands before the LF.
const INLINE_PING: &[u8] = b"PING\r";

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
}

/// Serves the connection to its end.
pub(super) fn serve(server: &Server, mut stream: &TcpStream) -> io::Result<()> {
    let mut lines = LineBuffer::new(LINE_BYTES_MAX);
    let mut out = Out::new(stream);
    let mut inline_pings = true;
    while lines.read_from(&mut stream)? > 0 {
        let quits = serve_lines(server, &mut lines, &mut inline_pings, &mut out)?;
        out.end()?;
        if quits {
            close(stream);
            return Ok(());
        }
    }
    Ok(())
}

/// Serves all lines that have arrived; true if the client quits. `inline_pings` is whether nothing but
/// inline `PING`s has come.
fn serve_lines(
    server: &Server,
    lines: &mut LineBuffer,
    inline_pings: &mut bool,
    out: &mut Out<'_>,
) -> io::Result<bool> {
    let mut run = Run::default();
    while let Some(line) = lines.next_line() {
        *inline_pings &= matches!(line, Line::Whole(INLINE_PING));
        if *inline_pings {
            // Nothing that was asked before it can still wait.
            out.bytes.extend_from_slice(b"+PONG\r\n");
            out.relieve()?;
            server.served.fetch_add(1, Ordering::Relaxed);
            continue;
        }
        let request = match line {
            Line::Whole(line) => parse_request(line),
            Line::TooLong => Err(RequestError::too_long_line()),
        };
        if run.is_over(matches!(request, Ok(Request::Write(_)))) {
            finish(server, std::mem::take(&mut run), out)?;
        }
        match request {
            Ok(Request::Quit) => {
                finish(server, run, out)?;
                Reply::Bye.write(&mut out.bytes);
                return Ok(true);
            }
            Ok(request) => add(&mut run, request),
            Err(error) => run.known(Then::Reply(error.into())),
        }
    }
    finish(server, run, out)?;
    Ok(false)
}

fn add(run: &mut Run<Then>, request: Request) {
    match request {
        Request::Write(command) => run.command(command, Then::Tell),
        Request::Read { local, read } => run.read(local, Then::Read(read)),
        Request::Status => run.question(Then::Status),
        Request::Fail => run.in_turn(Then::Acceptor(false)),
        Request::Recover => run.in_turn(Then::Acceptor(true)),
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
        let (bytes, relieve) = out.parts();
        reply(server, then, answer).write_in_parts(bytes, relieve)
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
        (Then::Acceptor(up), Answer::Readable) => {
            if !server.allow_fail {
                let text = "this server was not started with --allow-fail";
                return Reply::error(ErrorCode::Forbidden, text);
            }
            server.set_acceptor(up);
            Reply::Ok
        }
        (Then::Tell, Answer::Readable) => unreachable!("only reads are answered so"),
    }
}
