//! The server's memory on disk: one directory, and in it an identity, a lock, the log and snapshots.
//!
//! An acceptor's vote counts only if it is never forgotten (*Paxos Made Simple* 2.5: "stable storage,
//! preserved during failures"). This module keeps the [`Record`](crate::paxos::record::Record)s that
//! votes rest on: a record is safe when the [`commit`](log::Log::commit) that wrote it has returned,
//! and not before.
//!
//! What the log promises after a crash, a power loss or a flipped bit:
//! - every record that was committed is there, in order, or [`open`](log::Log::open) names file and
//!   byte, says `lost`, and reads on behind. It never skips a record silently (P40), returns none that
//!   was not appended, and trusts no number that is not under a checksum itself (P44);
//! - damage is new once: the log itself says what is missing, and that it is lost, before `open`
//!   returns. What it means that votes may be forgotten is up to the replica (*Protocol-Aware
//!   Recovery*, FAST 2018);
//! - of the records written but not yet synced, a prefix is there; the rest is cut off and reported
//!   (P39), whatever part of it the disk had written, in whatever order;
//! - what `open` returns is durable: it writes the last group again and syncs it, because a sync that
//!   failed may have left pages that can be read but that no later sync writes (P37);
//! - after a failed write or sync the log answers nothing but errors (P37, P38);
//! - a crash at any step of a snapshot or a trim leaves a snapshot and a log that fit together (P21).
//!
//! **The residue:** no log can tell a torn last group from a damaged last group. A bad record is
//! proven to be damage only by a later one that was written after the sync of the bad one; the last
//! group has no later one. Nor can a log tell that its newest segments, as whole files, are gone.
//!
//! | file | is |
//! | --- | --- |
//! | `identity` | which server of which cluster this directory belongs to; made last |
//! | `lock` | locked while a server runs here; empty |
//! | `log-00000001` ... | the segments of the log; from the one that the log names as its first, gaps in the numbers are damage |
//! | `snapshot-0000000000000000017` | the replicated state after slot 17; the newest whole one counts |
//! | `spare`, `making`, `removing`, `snapshot.new`, `identity.new` | work in progress; never read |
//!
//! [`dir`] is what the log needs of a file system, [`mem`] a file system that crashes on demand,
//! `line` the format of a line, `body` what it says, [`record`] the text of a record in it, `scan` and
//! `gaps` the rule of recovery, [`damage`] what they find, `recall` what a log says all in all,
//! [`carry`] what each segment begins with, [`log`] the writer, [`snapshot`] the state in a file, [`home`] the
//! directory as a whole, [`mod@print`] the log for people and [`check`] its health for them.
//!
//! Left out: repair in place. What is lost here comes from the peers, through the replica.

mod body;
pub mod carry;
pub mod check;
pub mod damage;
pub mod dir;
mod error;
mod gaps;
pub mod home;
mod line;
pub mod log;
pub mod mem;
pub mod print;
mod recall;
pub mod record;
mod scan;
pub mod snapshot;

pub use error::LogError;

#[cfg(test)]
mod tests;
