//! `WAIT`: on how many other servers a connection's writes are.
//!
//! A write is acknowledged once a majority has it on disk, so so many have it whatever happens. More is
//! learned from what the others say of themselves: whoever has applied as much as this server had when it
//! was asked holds every write that it had acknowledged.

use std::io::{self, ErrorKind};
use std::net::TcpStream;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

use crate::paxos::types::Slot;
use crate::replica::Status;
use crate::wire::resp::{Reply, Wait};

use super::run::{STOPPED, Server};

/// How often is looked; heartbeats are rarer.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Waits until as many other servers as asked hold all that this server has acknowledged, or the time
/// is up, or the client sends no more; tells how many do.
pub(super) fn wait(server: &Server, stream: &TcpStream, wait: Wait) -> io::Result<Reply> {
    server.waiting.fetch_add(1, Ordering::Relaxed);
    let reply = wait_counted(server, stream, wait);
    server.waiting.fetch_sub(1, Ordering::Relaxed);
    reply
}

fn wait_counted(server: &Server, stream: &TcpStream, wait: Wait) -> io::Result<Reply> {
    let by = wait
        .patience
        .and_then(|patience| Instant::now().checked_add(patience));
    let mut acknowledged = None;
    loop {
        let Some((status, _)) = server.ask_status() else {
            return Ok(Reply::not_done(STOPPED));
        };
        let upto = *acknowledged.get_or_insert(status.applied);
        let holders = holders(&status, upto);
        let left = by.map_or(LOOK_EVERY, |by| {
            by.saturating_duration_since(Instant::now()).min(LOOK_EVERY)
        });
        if holders >= wait.servers || left.is_zero() || ends_within(stream, left)? {
            return Ok(Reply::count(holders));
        }
    }
}

/// How many other servers hold every slot up to this one.
fn holders(status: &Status, upto: Slot) -> usize {
    let applied = status.peers.iter().filter_map(|&(_, applied)| applied);
    let known = applied.filter(|&applied| applied >= upto).count();
    let majority = status.peers.len().div_ceil(2);
    known.max(majority)
}

/// Lets some time pass; true if the client ends what it sends before.
fn ends_within(stream: &TcpStream, time: Duration) -> io::Result<bool> {
    stream.set_read_timeout(Some(time))?;
    let ends = match stream.peek(&mut [0]) {
        Ok(0) => true,
        Ok(_) => {
            // The next request is there already, and has to wait.
            thread::sleep(time);
            false
        }
        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => false,
        Err(error) if error.kind() == ErrorKind::Interrupted => false,
        Err(error) => return Err(error),
    };
    stream.set_read_timeout(None)?;
    Ok(ends)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::paxos::types::{Ballot, NodeId};

    fn status(peers: &[Option<u64>]) -> Status {
        let node = |number: usize| NodeId::new(u8::try_from(number).unwrap()).unwrap();
        Status {
            id: node(1),
            role: "follower",
            leader: None,
            ballot: Ballot::ZERO,
            decided: Slot(7),
            applied: Slot(7),
            trimmed: Slot::ZERO,
            hash: 0,
            acceptor_up: true,
            keys: 0,
            peers: (2..)
                .map(node)
                .zip(peers.iter().map(|applied| applied.map(Slot)))
                .collect(),
        }
    }

    /// All but one of a majority, or all that a peer is known to have, whichever is more.
    #[test]
    fn who_holds_a_write_is_a_majority_or_more() {
        for (peers, expected) in [
            (&[][..], 0),
            (&[None], 1),
            (&[None, Some(6)], 1),
            (&[Some(7), Some(8)], 2),
            (&[None, None, None], 2),
            (&[Some(6); 4], 2),
            (&[Some(7), None, Some(8), Some(7)], 3),
            (&[Some(7); 4], 4),
        ] {
            assert_eq!(holders(&status(peers), Slot(7)), expected, "{peers:?}");
        }
    }
}
