//! The health of a log and its snapshots, for people. Reads only, and needs no lock.

use super::damage::{Damage, SnapshotDamage};
use super::dir::Dir;
use super::error::{Context, LogError};
use super::home::IDENTITY;
use super::log::Cut;
use super::recall::Recall;
use super::scan::{self, End, Segment, segment_name};
use super::snapshot;
use crate::paxos::types::Slot;
use std::fmt::Display;
use std::io::Write;

/// Prints a line for each damage, each snapshot, each segment, and what the log carries on; the last
/// line is `sound` or `N damaged places`. Returns N.
///
/// # Errors
/// There is no log; the file system refuses; a newer version wrote the log.
pub fn print_check<D: Dir>(dir: &D, out: &mut impl Write) -> Result<usize, LogError> {
    let mut report = Report { out, places: 0 };
    let trim = report.log(dir)?;
    report.snapshots(dir, trim)?;
    let places = report.places;
    match places {
        0 => report.line("sound")?,
        1 => report.line("1 damaged place")?,
        _ => report.line(format_args!("{places} damaged places"))?,
    }
    report.out.flush().map_err(LogError::Output)?;
    Ok(places)
}

struct Report<'a, W> {
    out: &'a mut W,
    /// How many are damaged.
    places: usize,
}

impl<W: Write> Report<'_, W> {
    fn line(&mut self, text: impl Display) -> Result<(), LogError> {
        writeln!(self.out, "{text}").map_err(LogError::Output)
    }

    fn damage(&mut self, damage: impl Display) -> Result<(), LogError> {
        self.places += 1;
        self.line(damage)
    }

    /// Returns up to which slot it was trimmed.
    fn log<D: Dir>(&mut self, dir: &D) -> Result<Slot, LogError> {
        let names = dir.list().context("list", || dir.path_of(""))?;
        let made = names.iter().any(|name| name == IDENTITY);
        if made && scan::segments(dir)?.is_empty() {
            let dir = dir.path_of("");
            self.damage(Damage::Gone { dir })?;
            return Ok(Slot::ZERO);
        }
        let (recall, end) = Recall::read(dir, u64::MAX)?;
        for gap in &end.gaps {
            let known = if gap.known { "known: " } else { "" };
            self.damage(format_args!("{known}{}", gap.damage))?;
        }
        if let Some(contradiction) = &recall.contradiction {
            self.damage(contradiction)?;
        }
        self.segments(&end)?;
        if let Some(cut) = Cut::of(dir, &end) {
            self.line(cut)?;
        }
        self.line(format_args!("carries {}", recall.carry))?;
        Ok(recall.carry.trim())
    }

    fn segments(&mut self, end: &End) -> Result<(), LogError> {
        for Segment {
            number,
            seq,
            last,
            bytes,
            highest,
        } in &end.segments
        {
            let name = segment_name(*number);
            let over = if *number < end.first.segment {
                ", trimmed"
            } else {
                ""
            };
            self.line(if last < seq {
                format!("{name}: no whole record, {bytes} bytes{over}")
            } else {
                format!("{name}: records {seq} to {last}, up to {highest}, {bytes} bytes{over}")
            })?;
        }
        Ok(())
    }

    fn snapshots<D: Dir>(&mut self, dir: &D, trim: Slot) -> Result<(), LogError> {
        let slots = snapshot::slots(dir)?;
        if slots.last().copied().unwrap_or_default() < trim {
            let dir = dir.path_of("");
            self.damage(SnapshotDamage::Missing { dir, trim })?;
        }
        for slot in slots {
            let (bytes, state) = snapshot::read(dir, slot)?;
            match state {
                Ok(store) => {
                    let (name, keys) = (snapshot::name_of(slot), store.len());
                    self.line(format_args!(
                        "{name}: {slot}, {keys} keys, {bytes} bytes, whole"
                    ))?;
                }
                Err(damaged) => self.damage(damaged)?,
            }
        }
        Ok(())
    }
}
