//! Exactly-once: which commands of which client have run, and what came of them.
//!
//! A client that loses a reply does not know whether its command ran. With a session it can send
//! the command again, at any server, under the same seq: it runs at most once (invariant I7,
//! pitfalls D12 and P45). The table is part of the replicated state. It is read and changed only
//! while a slot is applied, and every snapshot holds it (P24).
//!
//! | `ONCE session seq` finds | comes to |
//! | --- | --- |
//! | no such session | `NoSession`, nothing done |
//! | `seq` above the session's last | the command runs; its outcome is remembered |
//! | `seq` equal to the last | the remembered outcome, nothing done |
//! | `seq` below the last | `StaleSeq(last)`, nothing done |
//!
//! Sessions do not expire by time, for no two servers have the same clock (P26). They end in log
//! order: the one whose last use (its opening, or any `ONCE` that named it while it lived) lies
//! furthest back goes first. An ended session is unknown for ever, as ids are never handed out
//! twice: its commands are refused, and never run as new.
//!
//! Two bounds hold, and the same rule applies at both:
//! * [`SESSIONS_MAX`] sessions. One more ends the least recently used.
//! * [`REMEMBERED_BYTES_MAX`] bytes of values inside remembered outcomes. Only `Mismatch` holds a
//!   value, which the map may have dropped since: 65,536 of the longest would be 64 GiB. Past the
//!   bound the least recently used *of the sessions that hold one* ends. To forget just its value
//!   would leave a seq that has neither run nor a reply; an ended session is a thing that clients
//!   know.
//!
//! Left out on purpose: commands in parallel within a session (its client waits for each reply),
//! and closing one (it costs about 100 bytes until it ends).

use super::command::{Outcome, SessionId, VALUE_BYTES_MAX};
use imbl::OrdMap;

/// How many sessions live at once. Opening one more ends the least recently used.
pub const SESSIONS_MAX: usize = 65_536;

/// How many bytes of values all remembered outcomes hold together. Past it, the least recently used
/// session that holds a value ends.
pub const REMEMBERED_BYTES_MAX: usize = 64 * 1_048_576;

// The session in use is never the one that has to go.
const _: () = assert!(VALUE_BYTES_MAX <= REMEMBERED_BYTES_MAX && SESSIONS_MAX > 0);

/// The uses of sessions, counted in log order.
type Use = u64;

/// All sessions that live. Two tables are equal when they will answer alike for ever.
#[derive(Debug, Clone, Default)]
pub struct Sessions {
    /// How many were ever opened: the id of the newest.
    opened: u64,
    uses: Use,
    live: OrdMap<SessionId, Session>,
    /// Who was used when. Each session has one place here.
    by_use: OrdMap<Use, SessionId>,
    /// The same for the sessions that remember a value.
    holders: OrdMap<Use, SessionId>,
    remembered_bytes: usize,
}

/// What is known of one session.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Session {
    used: Use,
    last: Option<Last>,
}

/// The last command of a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Last {
    pub(super) seq: u64,
    pub(super) outcome: Outcome,
}

// The uses themselves do not count, only their order: a snapshot numbers them afresh.
impl PartialEq for Sessions {
    fn eq(&self, other: &Self) -> bool {
        self.opened == other.opened && self.iter().eq(other.iter())
    }
}

impl Eq for Sessions {}

impl Session {
    /// The bytes that the remembered outcome keeps alive.
    fn bytes(&self) -> usize {
        match &self.last {
            Some(Last {
                outcome: Outcome::Mismatch(value),
                ..
            }) => value.len(),
            _ => 0,
        }
    }
}

impl Sessions {
    /// Opens a session. Ends the least recently used one if there would be too many.
    pub fn open(&mut self) -> SessionId {
        self.opened += 1;
        let id = SessionId(self.opened);
        self.insert(id, None);
        while self.live.len() > SESSIONS_MAX {
            let oldest = self.oldest();
            self.end(oldest.expect("every session was used when it was opened"));
        }
        id
    }

    /// The outcome of command `seq` of session `id`: `run` is called if it has to run now.
    pub fn once(&mut self, id: SessionId, seq: u64, run: impl FnOnce() -> Outcome) -> Outcome {
        let Some(session) = self.remove(id) else {
            return Outcome::NoSession;
        };
        let (last, answer) = match session.last {
            Some(last) if seq < last.seq => {
                let answer = Outcome::StaleSeq(last.seq);
                (last, answer)
            }
            Some(last) if seq == last.seq => {
                let answer = last.outcome.clone();
                (last, answer)
            }
            _ => {
                let outcome = run();
                let answer = outcome.clone();
                (Last { seq, outcome }, answer)
            }
        };
        self.insert(id, Some(last));
        while self.remembered_bytes > REMEMBERED_BYTES_MAX {
            let oldest = self.holders.get_min().map(|&(_, id)| id);
            self.end(oldest.expect("remembered bytes have a holder"));
        }
        answer
    }

    /// How many sessions live.
    pub fn len(&self) -> usize {
        self.live.len()
    }

    /// Whether no session lives.
    pub fn is_empty(&self) -> bool {
        self.live.is_empty()
    }

    /// How many were ever opened.
    pub(super) fn opened(&self) -> u64 {
        self.opened
    }

    /// The session whose last use lies furthest back.
    pub(super) fn oldest(&self) -> Option<SessionId> {
        self.by_use.get_min().map(|&(_, id)| id)
    }

    /// All that live, least recently used first.
    fn iter(&self) -> impl Iterator<Item = (SessionId, Option<&Last>)> {
        self.used_since(0)
    }

    /// The session `id`, if it lives, and all that were used after it, in the order of their use.
    pub(super) fn iter_from(
        &self,
        id: SessionId,
    ) -> impl Iterator<Item = (SessionId, Option<&Last>)> {
        self.live
            .get(&id)
            .into_iter()
            .flat_map(|session| self.used_since(session.used))
    }

    fn used_since(&self, first: Use) -> impl Iterator<Item = (SessionId, Option<&Last>)> {
        self.by_use
            .range(first..)
            .map(|(_, id)| (*id, self.live[id].last.as_ref()))
    }

    /// Sessions as a snapshot has them, before [`Sessions::restore`] adds those that live.
    pub(super) fn restored(opened: u64) -> Self {
        Self {
            opened,
            ..Self::default()
        }
    }

    /// Adds a session as the most recently used one. False if there is one of this id, its id was
    /// never handed out, or a bound does not hold.
    pub(super) fn restore(&mut self, id: SessionId, last: Option<Last>) -> bool {
        let handed_out = (1..=self.opened).contains(&id.0);
        if !handed_out || self.live.contains_key(&id) {
            return false;
        }
        self.insert(id, last);
        self.live.len() <= SESSIONS_MAX && self.remembered_bytes <= REMEMBERED_BYTES_MAX
    }

    /// Adds a session, most recently used.
    fn insert(&mut self, id: SessionId, last: Option<Last>) {
        self.uses += 1;
        let session = Session {
            used: self.uses,
            last,
        };
        self.by_use.insert(session.used, id);
        if session.bytes() > 0 {
            self.holders.insert(session.used, id);
            self.remembered_bytes += session.bytes();
        }
        self.live.insert(id, session);
    }

    fn remove(&mut self, id: SessionId) -> Option<Session> {
        let session = self.live.remove(&id)?;
        self.by_use.remove(&session.used);
        self.holders.remove(&session.used);
        self.remembered_bytes -= session.bytes();
        Some(session)
    }

    fn end(&mut self, id: SessionId) {
        self.remove(id).expect("only a live session ends");
    }
}

#[cfg(test)]
mod tests {
    use super::super::command::Bytes;
    use super::*;

    fn open(sessions: &mut Sessions, count: usize) {
        for _ in 0..count {
            sessions.open();
        }
    }

    fn opened(count: usize) -> Sessions {
        let mut sessions = Sessions::default();
        open(&mut sessions, count);
        sessions
    }

    fn never() -> Outcome {
        panic!("the command ran again")
    }

    /// D12, P45: a retry after a lost reply gets the first outcome and changes nothing.
    #[test]
    fn the_same_seq_gets_the_remembered_outcome() {
        let mut sessions = opened(1);
        let one = SessionId(1);
        assert_eq!(
            sessions.once(one, 1, || Outcome::Number(1)),
            Outcome::Number(1)
        );
        assert_eq!(sessions.once(one, 1, never), Outcome::Number(1));
        assert_eq!(
            sessions.once(one, 5, || Outcome::NotFound),
            Outcome::NotFound
        );
        assert_eq!(sessions.once(one, 5, never), Outcome::NotFound);
    }

    #[test]
    fn a_lower_seq_is_stale_and_does_nothing() {
        let mut sessions = opened(1);
        sessions.once(SessionId(1), 5, || Outcome::Ok);
        assert_eq!(sessions.once(SessionId(1), 4, never), Outcome::StaleSeq(5));
        assert_eq!(sessions.once(SessionId(1), 5, never), Outcome::Ok);
    }

    #[test]
    fn an_unknown_session_runs_nothing() {
        let mut sessions = opened(1);
        assert_eq!(sessions.once(SessionId(2), 1, never), Outcome::NoSession);
        assert_eq!(sessions.once(SessionId(0), 1, never), Outcome::NoSession);
    }

    /// P24: of two tables that differ, one would answer some client otherwise, now or later.
    #[test]
    fn tables_are_equal_when_they_will_answer_alike_for_ever() {
        assert_eq!(Sessions::restored(3), Sessions::restored(3));
        // The next session would get another id.
        assert_ne!(Sessions::restored(3), Sessions::restored(4));
        // A retry would get another outcome.
        let (mut ran, fresh) = (opened(2), opened(2));
        ran.once(SessionId(2), 1, || Outcome::Ok);
        assert_ne!(ran, fresh);
        // Another session would end first.
        let (mut one, mut other) = (opened(2), opened(2));
        one.once(SessionId(1), 1, || Outcome::Ok);
        one.once(SessionId(2), 1, || Outcome::Ok);
        other.once(SessionId(2), 1, || Outcome::Ok);
        other.once(SessionId(1), 1, || Outcome::Ok);
        assert_ne!(one, other);
        // How often sessions were used before does not matter.
        other.once(SessionId(2), 1, never);
        assert_eq!(one, other);
    }

    #[test]
    fn a_table_is_empty_until_a_session_opens() {
        assert!(Sessions::restored(3).is_empty());
        assert!(!opened(1).is_empty());
    }

    /// A snapshot that no server could have written is not taken.
    #[test]
    fn both_bounds_hold_while_sessions_are_restored() {
        let last = |bytes: usize| {
            let outcome = Outcome::Mismatch(vec![b'v'; bytes].into());
            Some(Last { seq: 1, outcome })
        };
        let full = (REMEMBERED_BYTES_MAX / VALUE_BYTES_MAX) as u64;
        let mut sessions = Sessions::restored(full + 1);
        for id in 1..=full {
            assert!(sessions.restore(SessionId(id), last(VALUE_BYTES_MAX)));
        }
        assert!(!sessions.restore(SessionId(full + 1), last(1)));
        let mut sessions = Sessions::restored(SESSIONS_MAX as u64 + 1);
        for id in 1..=SESSIONS_MAX as u64 {
            assert!(sessions.restore(SessionId(id), None));
        }
        assert!(!sessions.restore(SessionId(SESSIONS_MAX as u64 + 1), None));
    }

    #[test]
    fn ids_count_from_1_and_are_never_used_twice() {
        let mut sessions = opened(SESSIONS_MAX + 2);
        assert_eq!(sessions.open(), SessionId(SESSIONS_MAX as u64 + 3));
        assert_eq!(sessions.once(SessionId(1), 1, never), Outcome::NoSession);
    }

    /// P26: sessions end in log order, never by a clock.
    #[test]
    fn the_least_recently_used_session_ends_first() {
        let mut sessions = opened(SESSIONS_MAX);
        // Session 1 runs, session 2 only gets a remembered outcome after, session 3 a refusal.
        for id in [1, 2, 3] {
            sessions.once(SessionId(id), 7, || Outcome::Ok);
        }
        sessions.once(SessionId(2), 7, never);
        sessions.once(SessionId(3), 1, never);
        open(&mut sessions, SESSIONS_MAX - 3);
        assert_eq!(sessions.len(), SESSIONS_MAX);
        assert_eq!(sessions.once(SessionId(4), 1, never), Outcome::NoSession);
        sessions.open();
        assert_eq!(sessions.once(SessionId(1), 7, never), Outcome::NoSession);
        sessions.open();
        assert_eq!(sessions.once(SessionId(2), 7, never), Outcome::NoSession);
        assert_eq!(sessions.once(SessionId(3), 7, never), Outcome::Ok);
    }

    #[test]
    fn remembered_values_are_bounded_and_cost_only_their_holders() {
        let mut sessions = opened(100);
        let big: Bytes = vec![b'v'; VALUE_BYTES_MAX].into();
        let holders_max = (REMEMBERED_BYTES_MAX / VALUE_BYTES_MAX) as u64;
        for id in 2..=holders_max + 2 {
            sessions.once(SessionId(id), 1, || Outcome::Mismatch(big.clone()));
        }
        assert_eq!(sessions.remembered_bytes, REMEMBERED_BYTES_MAX);
        assert_eq!(sessions.once(SessionId(2), 1, never), Outcome::NoSession);
        assert_eq!(
            sessions.once(SessionId(3), 1, never),
            Outcome::Mismatch(big)
        );
        // Older, but it held nothing.
        assert_eq!(sessions.once(SessionId(1), 1, || Outcome::Ok), Outcome::Ok);
        // The next command of a session lets go of what the last one held.
        sessions.once(SessionId(3), 2, || Outcome::Ok);
        assert_eq!(
            sessions.remembered_bytes,
            REMEMBERED_BYTES_MAX - VALUE_BYTES_MAX
        );
    }
}
