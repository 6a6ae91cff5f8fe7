//! The time that a leader gives to its batches, so that keys end by the log and by no server's clock.
//!
//! A leader stamps a batch with its own clock, and never lower than any stamp before: what counts is
//! the highest so far (`kv::table`). If its clock is behind the log's time, or goes back while it leads,
//! its time goes on from there by ticks: it never stands still, or keys would not end.
//!
//! A key ends when a slot is applied whose stamp is past the end. Where nobody writes, the leader
//! proposes a batch of nothing but the stamp.

use crate::kv::batch::{push_separator, write_stamp};
use crate::kv::command::{MILLIS_MAX, Millis};
use crate::paxos::types::Value;

use super::TICK;

/// See the module's text.
#[derive(Debug, Default)]
pub(super) struct Stamps {
    /// What this server's clock says.
    wall: Millis,
    /// What this server would stamp with, as a leader.
    clock: Millis,
    /// The last stamp that it proposed; before the first, the log's time when its leadership began.
    last: Millis,
}

impl Stamps {
    /// This server's clock says so.
    pub(super) fn hear(&mut self, wall: Millis) {
        self.wall = wall.min(MILLIS_MAX);
        self.clock = self.clock.max(self.wall);
    }

    /// Some ticks have passed.
    pub(super) fn on_ticks(&mut self, ticks: u64) {
        if self.wall < self.clock {
            let tick = u64::try_from(TICK.as_millis()).expect("a short time");
            let passed = tick.saturating_mul(ticks);
            self.clock = self.clock.saturating_add(passed).min(MILLIS_MAX);
        }
    }

    /// A leadership begins, in a log that has come to this time.
    pub(super) fn begin(&mut self, time: Millis) {
        self.clock = self.wall.max(time);
        self.last = time;
    }

    /// The log has come to this time: by another leader's stamp, if it is ahead of this one's clock.
    pub(super) fn on_applied(&mut self, time: Millis) {
        self.clock = self.clock.max(time);
        self.last = self.last.max(time);
    }

    /// Whether what ends then is over.
    pub(super) fn is_past(&self, end: Millis) -> bool {
        end < self.clock
    }

    /// Whether a stamp was proposed with which this is over.
    pub(super) fn has_proposed(&self, end: Millis) -> bool {
        end < self.last
    }

    /// The batch with a stamp, if time has passed since the last one.
    pub(super) fn stamp(&mut self, batch: Value) -> Value {
        if self.clock <= self.last {
            return batch;
        }
        self.last = self.clock;
        let mut text = Vec::with_capacity(batch.as_bytes().len() + b"at 1763894400000 ; ".len());
        write_stamp(&mut text, self.last);
        if !batch.is_noop() {
            push_separator(&mut text);
            text.extend_from_slice(batch.as_bytes());
        }
        Value::new(text).expect("a batch has no LF, and neither has a stamp")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stamped(stamps: &mut Stamps) -> String {
        let batch = Value::new(b"n2.1.1 session".to_vec()).unwrap();
        stamps.stamp(batch).to_string()
    }

    #[test]
    fn a_batch_is_stamped_once_a_millisecond() {
        let mut stamps = Stamps::default();
        stamps.hear(1_000);
        stamps.begin(0);
        assert_eq!(stamped(&mut stamps), "at 1000 ; n2.1.1 session");
        assert_eq!(stamped(&mut stamps), "n2.1.1 session");
        stamps.hear(1_001);
        assert_eq!(stamps.stamp(Value::noop()).to_string(), "at 1001");
        assert!(stamps.stamp(Value::noop()).is_noop());
    }

    /// P26: the time of the log never goes back, whoever leads, and never stands still.
    #[test]
    fn a_clock_that_is_behind_goes_on_by_ticks() {
        let mut stamps = Stamps::default();
        stamps.hear(1_000);
        stamps.begin(5_000);
        assert_eq!(stamped(&mut stamps), "n2.1.1 session");
        stamps.on_ticks(1);
        stamps.hear(1_010);
        assert_eq!(stamped(&mut stamps), "at 5010 ; n2.1.1 session");
        // It went back an hour, and is right again later.
        stamps.hear(9_000);
        assert_eq!(stamped(&mut stamps), "at 9000 ; n2.1.1 session");
        stamps.hear(2);
        stamps.on_ticks(1);
        assert_eq!(stamped(&mut stamps), "at 9010 ; n2.1.1 session");
        stamps.hear(9_100);
        stamps.on_ticks(1);
        assert_eq!(stamped(&mut stamps), "at 9100 ; n2.1.1 session");
    }

    /// What a leader gained by ticks is its own: the next one begins with its own clock.
    #[test]
    fn a_leadership_begins_at_the_time_of_the_log() {
        let mut stamps = Stamps::default();
        stamps.hear(1_000);
        stamps.begin(5_000);
        (0..100).for_each(|_| stamps.on_ticks(1));
        assert!(stamps.is_past(5_999) && !stamps.is_past(6_000));
        stamps.begin(5_000);
        assert!(stamps.is_past(4_999) && !stamps.is_past(5_000));
        assert!(stamps.has_proposed(4_999) && !stamps.has_proposed(5_000));
    }

    #[test]
    fn a_clock_of_nonsense_stays_within_the_range() {
        let mut stamps = Stamps::default();
        stamps.hear(u64::MAX);
        stamps.hear(0);
        stamps.on_ticks(1);
        assert_eq!(
            stamped(&mut stamps),
            format!("at {MILLIS_MAX} ; n2.1.1 session")
        );
    }
}
