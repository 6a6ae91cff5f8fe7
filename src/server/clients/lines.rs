//! A connection of plain lines.
//!
//! One thing in it is not plain: `redis-benchmark` begins with connections that send nothing but `PING`,
//! CR LF, which is both a plain line and what RESP calls an inline request, and it ends itself if it is
//! not answered in RESP. So it is, as long as a connection has sent nothing else.

use std::io;
use std::net::TcpStream;
use std::sync::atomic::Ordering;

use crate::kv::command::Read;
use crate::outbox::Answer;
use crate::wire::client::{ErrorCode, LINE_BYTES_MAX, Reply, Request, RequestError, parse_request};
use crate::wire::lines::{Line, LineBuffer};

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
}

/// Serves the connection to its end.
pub(super) fn serve(server: &Server, connection: &Connection) -> io::Result<()> {
    let account = Account::new(&server.open, connection);
    let mut out = Out::new(&connection.stream, &account);
    let done = serve_all(server, &connection.stream, &mut out);
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

fn serve_all(server: &Server, mut stream: &TcpStream, out: &mut Out<'_>) -> io::Result<()> {
    let mut lines = LineBuffer::new(LINE_BYTES_MAX);
    let mut inline_pings = true;
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
            Err(error) => run.known(Then::Reply(error.into())),
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
        Request::Ping => run.known(Then::Reply(Reply::Pong)),
        Request::Help => run.known(Then::Reply(Reply::help())),
        Request::Quit => run.known(Then::Reply(Reply::Bye)),
    }
}

fn finish(server: &Server, run: Run<Then>, out: &mut Out<'_>) -> io::Result<()> {
    server.finish(run, out, |then, answer, out| {
        let reply = reply(server, then, answer);
        out.account.hold(Part::Reply, reply.memory())?;
        let (bytes, relieve) = out.parts();
        reply.write_in_parts(bytes, relieve)
    })
}

fn reply(server: &Server, then: Then, answer: Answer) -> Reply {
    match (then, answer) {
        (Then::Reply(reply), _) => reply,
        (_, Answer::NotDone(why)) => Reply::error(ErrorCode::NotDone, why),
        (_, Answer::Unknown(why)) => Reply::error(ErrorCode::Unknown, why),
        (_, Answer::Done(outcome)) => outcome.into(),
        (Then::Read(read), Answer::Readable) => match read {
            Read::Get { key } => server.store.lock().get(&key).into(),
            Read::Many { keys } => Reply::values(looks::values(server, &keys)),
            Read::List { prefix } => {
                let list = server.store.lock().list(&prefix);
                Reply::List(list)
            }
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
