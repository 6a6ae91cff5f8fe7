//! Snapshots: the whole replicated state after some slot, each in a file of its own.
//!
//! `snapshot-0000000000000000017` holds the state after slot 17 as the lines of [`crate::kv::snapshot`],
//! each framed as a line of the log (`line.rs`): SEQ counts from 1, GROUP is 1, nothing follows the last
//! one. It is written under another name in pieces, each with a sync, so that the syncs of the log,
//! on the same disk, need not wait for a hundred megabytes; then it gets its name (P42). A snapshot that
//! has its name is whole, unless the disk lies; then it is named and left alone, and an older one
//! serves, or none: no vote rests on a snapshot.
//!
//! A snapshot is read as a whole into memory, so a start takes its size on top of that of the store.

use super::damage::SnapshotDamage;
use super::dir::{Dir, DirFile, remove_if_there};
use super::error::{Context, LogError};
use super::line;
use crate::kv::snapshot::Restore;
use crate::kv::store::Store;
use crate::paxos::types::Slot;
use crate::text::ParseError;

/// What the name of each snapshot begins with.
const SNAPSHOT: &str = "snapshot-";
/// How many digits follow: those of the highest slot.
const SLOT_DIGITS: usize = 19;

/// The file that becomes the next snapshot.
pub(super) const WRITING: &str = "snapshot.new";

/// How many bytes one write has, about.
const WRITE_BYTES: usize = 256 * 1024;

/// After how many bytes a snapshot is synced. A larger piece makes commits of the log that fall into
/// its sync wait longer; a smaller one makes the snapshot take longer.
const SYNC_BYTES: usize = 2 * 1024 * 1024;

/// The file name of the snapshot of `slot`.
pub(super) fn name_of(slot: Slot) -> String {
    format!("{SNAPSHOT}{:0SLOT_DIGITS$}", slot.0)
}

/// The slot of the snapshot with this file name, if it is one.
fn slot_of(name: &str) -> Option<Slot> {
    let slot = Slot(name.strip_prefix(SNAPSHOT)?.parse().ok()?);
    (name_of(slot) == name).then_some(slot)
}

/// The slots of all snapshots, in order.
pub(super) fn slots<D: Dir>(dir: &D) -> Result<Vec<Slot>, LogError> {
    let names = dir.list().context("list", || dir.path_of(""))?;
    let mut slots: Vec<Slot> = names.iter().filter_map(|name| slot_of(name)).collect();
    slots.sort_unstable();
    Ok(slots)
}

/// Writes a snapshot of `store`; durable, with its name, when this returns. Older ones stay. Returns
/// its length in bytes.
pub fn write<D: Dir>(dir: &D, store: &Store) -> Result<usize, LogError> {
    let path = || dir.path_of(WRITING);
    remove_if_there(dir, WRITING).context("remove", path)?;
    let file = dir.create_zeroed(WRITING, 0).context("create", path)?;
    let mut piece = Vec::with_capacity(WRITE_BYTES);
    let (mut written, mut synced) = (0, 0);
    let mut put = |piece: &mut Vec<u8>| {
        file.write_at(written, piece).context("write", path)?;
        written += piece.len();
        piece.clear();
        if written - synced >= SYNC_BYTES {
            file.sync().context("sync", path)?;
            synced = written;
        }
        Ok(())
    };
    for (seq, text) in (1..).zip(store.snapshot_lines()) {
        line::write(&mut piece, seq, 1, &text);
        if piece.len() >= WRITE_BYTES {
            put(&mut piece)?;
        }
    }
    put(&mut piece)?;
    file.sync().context("sync", path)?;
    let name = name_of(Slot(store.applied()));
    dir.rename(WRITING, &name).context("rename", path)?;
    dir.sync_names().context("sync", || dir.path_of(""))?;
    Ok(written)
}

/// What [`newest`] finds.
#[derive(Debug, Default)]
pub(super) struct Newest {
    /// The state of the newest whole snapshot.
    pub(super) store: Option<Store>,
    /// Its length in bytes.
    pub(super) bytes: usize,
    /// Why those after it are not used.
    pub(super) damage: Vec<SnapshotDamage>,
}

/// The newest whole snapshot. `trim` is the slot up to which the log says that it is held by one.
pub(super) fn newest<D: Dir>(dir: &D, trim: Slot) -> Result<Newest, LogError> {
    let mut found = Newest::default();
    let slots = slots(dir)?;
    if slots.last().copied().unwrap_or_default() < trim {
        found.damage.push(SnapshotDamage::Missing {
            dir: dir.path_of(""),
            trim,
        });
    }
    for &slot in slots.iter().rev() {
        let (bytes, store) = read(dir, slot)?;
        match store {
            Ok(store) => {
                (found.store, found.bytes) = (Some(store), bytes);
                break;
            }
            Err(damaged) => found.damage.push(damaged),
        }
    }
    Ok(found)
}

/// The length of the snapshot of `slot`, and its state or what is wrong with it.
pub(super) fn read<D: Dir>(
    dir: &D,
    slot: Slot,
) -> Result<(usize, Result<Store, SnapshotDamage>), LogError> {
    let name = name_of(slot);
    let bytes = dir.read(&name).context("read", || dir.path_of(&name))?;
    let store = parse(&bytes, slot).map_err(|(offset, wrong)| SnapshotDamage::Damaged {
        file: dir.path_of(&name),
        offset,
        wrong,
    });
    Ok((bytes.len(), store))
}

/// The state that `bytes` hold, or where they are wrong and how.
fn parse(bytes: &[u8], slot: Slot) -> Result<Store, (usize, String)> {
    let mut restore = Restore::default();
    let (mut at, mut seq) = (0, 1);
    while at < bytes.len() {
        let rest = &bytes[at..];
        let whole = line::read(rest).filter(|line| line.seq == seq && line.group == 1);
        let Some(line) = whole else {
            let found = line::describe(rest);
            return Err((at, format!("expected line {seq}, found {found}")));
        };
        let wrong = |error: ParseError| (at, error.to_string());
        restore.line(line.body).map_err(wrong)?;
        at += line.bytes;
        seq += 1;
    }
    let store = restore.finish().map_err(|error| (at, error.to_string()))?;
    if store.applied() != slot.0 {
        let applied = Slot(store.applied());
        return Err((
            0,
            format!("expected the state after {slot}, found that after {applied}"),
        ));
    }
    Ok(store)
}
