//! The server's memory on disk: one directory, and in it an identity, a lock and the log.
//!
//! An acceptor's vote counts only if it is never forgotten (*Paxos Made Simple* 2.5: "stable storage,
//! preserved during failures"). This module keeps the [`Record`](crate::paxos::record::Record)s that
//! votes rest on: a record is safe when the [`commit`](log::Log::commit) that wrote it has returned,
//! and not before.
//!
//! What the log promises after a crash, a power loss or a flipped bit:
//! - every record that was committed is there, in order, or [`open`](log::Log::open) refuses and
//!   names file and byte. It never skips a record (P40) and trusts no number that is not under a
//!   checksum itself (P44);
//! - of the records written but not yet synced, a prefix is there; the rest is cut off and reported
//!   (P39), whatever part of it the disk had written, in whatever order;
//! - what `open` returns is durable: it writes the last group again and syncs it, because a sync that
//!   failed may have left pages that can be read but that no later sync writes (P37);
//! - after a failed write or sync the log answers nothing but errors (P37, P38).
//!
//! **The residue:** no log can tell a torn last group from a damaged last group. A bad record is
//! proven to be damage only by a later one that was written after the sync of the bad one; the last
//! group has no later one. Nor can a log tell that its newest segments, as whole files, are gone.
//!
//! | file | is |
//! | --- | --- |
//! | `identity` | which server of which cluster this directory belongs to; made last |
//! | `lock` | locked while a server runs here; empty |
//! | `log-00000001` ... | the segments of the log; gaps in the numbers are damage |
//! | `spare`, `making`, `identity.new` | work in progress; never read |
//!
//! [`dir`] is what the log needs of a file system, [`mem`] a file system that crashes on demand,
//! `line` the format of a line, [`record`] the text in it, `scan` the rule of recovery, [`log`] the
//! writer, [`home`] the directory as a whole, [`mod@print`] the log for people.
//!
//! Left out today: snapshots, and with them the removal of old segments; repair from peers.

pub mod dir;
mod error;
pub mod home;
mod line;
pub mod log;
pub mod mem;
pub mod print;
pub mod record;
mod scan;

pub use error::LogError;

#[cfg(test)]
mod tests;
