//! `WAIT`: a connection's thread waits until enough other servers hold its writes (`server/waits.rs` says
//! when), the time is up, or its client has gone.
//!
//! A client that has gone and one that merely sends no more look alike until something is sent to it: who
//! has gone refuses that. So where a client has ended what it sends, the first byte of the reply leaves at
//! once, which is the same whatever the count will be.

use std::io::{self, ErrorKind, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use crossbeam_channel::RecvTimeoutError;

use crate::wire::resp::{Protocol, Reply, Wait};

use super::Connection;
use super::run::{Out, STOPPED, Server};

/// How often a thread that waits looks whether its client has gone. A gone one is noticed at the second look;
/// nothing else depends on it.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// What the reply begins with if it is a count.
const COUNT_BEGINS: &[u8] = b":";

/// Waits until as many other servers as asked hold all that this server has acknowledged, or the time
/// is up; tells how many do.
pub(super) fn wait(
    server: &Server,
    connection: &Connection,
    wait: Wait,
    out: &mut Out<'_>,
) -> io::Result<()> {
    // Nobody waits for this one to hear what is known already.
    out.flush()?;
    let mut sent: &[u8] = b"";
    let waited = wait_counted(server, connection, wait, &mut sent);
    server.end_wait(connection.number);
    // The same in each version.
    let mut reply = Vec::new();
    waited?.write(Protocol::default(), &mut reply);
    out.bytes
        .extend_from_slice(reply.strip_prefix(sent).expect("a count was begun"));
    Ok(())
}

fn wait_counted(
    server: &Server,
    connection: &Connection,
    wait: Wait,
    sent: &mut &[u8],
) -> io::Result<Reply> {
    let by = wait
        .patience
        .and_then(|patience| Instant::now().checked_add(patience));
    let counts = server.begin_wait(connection.number);
    let Ok(mut count) = counts.recv() else {
        return Ok(Reply::not_done(STOPPED));
    };
    while count < wait.servers {
        let left = by.map_or(LOOK_EVERY, |by| {
            by.saturating_duration_since(Instant::now())
        });
        match counts.recv_timeout(left.min(LOOK_EVERY)) {
            Ok(changed) => count = changed,
            Err(RecvTimeoutError::Timeout) if left <= LOOK_EVERY && by.is_some() => break,
            Err(RecvTimeoutError::Timeout) => look_at_client(&connection.stream, sent)?,
            // Its first byte says that this is a count, and it is one.
            Err(RecvTimeoutError::Disconnected) if !sent.is_empty() => break,
            Err(RecvTimeoutError::Disconnected) => return Ok(Reply::not_done(STOPPED)),
        }
    }
    Ok(Reply::count(count))
}

/// Fails if the client has gone.
fn look_at_client(mut stream: &TcpStream, sent: &mut &[u8]) -> io::Result<()> {
    stream.set_nonblocking(true)?;
    let peeked = stream.peek(&mut [0]);
    stream.set_nonblocking(false)?;
    match peeked {
        Ok(0) if sent.is_empty() => {
            stream.write_all(COUNT_BEGINS)?;
            *sent = COUNT_BEGINS;
            Ok(())
        }
        Ok(0) => stream.take_error()?.map_or(Ok(()), Err),
        Ok(_) => Ok(()),
        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {
            Ok(())
        }
        Err(error) => Err(error),
    }
}
