//! The search for an order of the operations on one key.
//!
//! It goes through calls and ends in the order of time and keeps all *configurations* that explain
//! what was seen so far: what the key holds, and which pending operations are done. This is Wing and
//! Gong's search (JPDC 1993) with the memory of Lowe's, done just in time (*Testing for
//! linearizability*, CCPE 2017): an operation is done only when its end is due, after whichever other
//! pending ones that takes. It ends at the first end that no configuration explains. It keeps the
//! number of configurations small by what is special about a map:
//!
//! * An answer that only saw something is done as soon as the key holds that: it changes nothing.
//! * A `PUT` overwrites. When one is done, every other pending `PUT` may as well have been done right
//!   before it, unseen. So each pending operation is in one of three states: it *must* be done by its
//!   end; it is *free*, done unseen already or to be done yet, whichever helps; or it is done. Open
//!   operations are free from their call, and for ever: they cost nothing until someone needs what
//!   they did, however many there are.
//! * A configuration that allows all that another does, and holds the same, makes the other needless.
//! * Before another one, a `PUT` or an open write is done only if what it leaves is what some pending
//!   operation needs; and one that leaves what is there already, only if it hides a `PUT`.
//! * Of open writes that ask for the same, the first is done first: they are as good as each other.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::Begins;
use super::bits::Bits;
use super::part;
use super::values::{ValueId, Values};
use crate::kv::command::VALUE_BYTES_MAX;

/// Whether there is an order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    Linearizable,
    /// There is none, and from the end of this entry on that is certain, by all answers together.
    Fails(usize),
    /// Not known after looking at as many configurations as was allowed.
    Undecided,
}

/// What the key holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum State {
    /// What it held when the recording began.
    Unknown,
    Absent,
    Value(ValueId),
}

/// As [`part::Act`], with values as numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Act {
    Read(State),
    Present,
    Put(ValueId),
    Delete,
    Cas(ValueId, ValueId),
    Incr { by: i64, to: ValueId, sum: i64 },
    OpenIncr { by: i64 },
    Append { more: ValueId, to: Option<usize> },
    NotANumber { by: i64 },
    NoRoom { bytes: usize },
    Never,
}

impl Act {
    fn of(act: &part::Act, values: &mut Values) -> Self {
        match act {
            part::Act::Read(None) => Self::Read(State::Absent),
            part::Act::Read(Some(value)) => Self::Read(State::Value(values.id(value))),
            part::Act::Present => Self::Present,
            part::Act::Put(value) => Self::Put(values.id(value)),
            part::Act::Delete => Self::Delete,
            part::Act::Cas(expected, new) => Self::Cas(values.id(expected), values.id(new)),
            part::Act::Incr { by, to: Some(sum) } => Self::Incr {
                by: *by,
                to: values.id_of_number(*sum),
                sum: *sum,
            },
            part::Act::Incr { by, to: None } => Self::OpenIncr { by: *by },
            part::Act::Append { more, to } => Self::Append {
                more: values.id(more),
                to: *to,
            },
            part::Act::NotANumber(by) => Self::NotANumber { by: *by },
            part::Act::NoRoom(bytes) => Self::NoRoom { bytes: *bytes },
            part::Act::Never => Self::Never,
        }
    }

    /// What the key holds once this is done, if it can be done when the key holds `state`.
    fn apply(self, state: State, values: &mut Values) -> Option<State> {
        match (self, state) {
            (Self::Read(seen), State::Unknown) => Some(seen),
            (Self::Read(seen), _) => (seen == state).then_some(state),
            (Self::Present, _) => (state != State::Absent).then_some(state),
            (Self::Put(value), _) => Some(State::Value(value)),
            (Self::Delete, _) => (state != State::Absent).then_some(State::Absent),
            (Self::Cas(_, new), State::Unknown) => Some(State::Value(new)),
            (Self::Cas(expected, new), _) => {
                (state == State::Value(expected)).then_some(State::Value(new))
            }
            (Self::Incr { to, .. }, State::Unknown) => Some(State::Value(to)),
            (Self::Incr { by, to, sum }, _) => {
                (number(state, values)?.checked_add(by)? == sum).then_some(State::Value(to))
            }
            // It leaves something unknown, or nothing: as before.
            (
                Self::OpenIncr { .. } | Self::NotANumber { .. } | Self::NoRoom { .. },
                State::Unknown,
            ) => Some(state),
            (Self::OpenIncr { by }, _) => {
                let sum = number(state, values)?.checked_add(by)?;
                Some(State::Value(values.id_of_number(sum)))
            }
            // As unknown as before, unless all of it was added just now.
            (Self::Append { more, to }, State::Unknown) => {
                let known = to.is_some_and(|to| to == values.len(more));
                Some(if known { State::Value(more) } else { state })
            }
            (Self::Append { more, to }, _) => {
                let length = length(state, values)? + values.len(more);
                if to.is_some_and(|to| to != length) {
                    return None;
                }
                Some(State::Value(match state {
                    State::Value(found) => values.join(found, more)?,
                    _ => more,
                }))
            }
            (Self::NotANumber { by }, _) => {
                let sum = number(state, values).and_then(|number| number.checked_add(by));
                sum.is_none().then_some(state)
            }
            (Self::NoRoom { bytes }, _) => {
                (length(state, values)? + bytes > VALUE_BYTES_MAX).then_some(state)
            }
            (Self::Never, _) => None,
        }
    }

    /// Whether whatever the key held before is gone after this.
    fn overwrites(self) -> bool {
        matches!(self, Self::Put(_) | Self::Delete)
    }

    fn only_looks(self) -> bool {
        matches!(
            self,
            Self::Read(_) | Self::Present | Self::NotANumber { .. } | Self::NoRoom { .. }
        )
    }
}

/// The number that `INCR` finds; a missing key counts as 0.
fn number(state: State, values: &Values) -> Option<i64> {
    match state {
        State::Unknown => None,
        State::Absent => Some(0),
        State::Value(id) => values.number(id),
    }
}

/// How long a value `APPEND` finds; a missing key counts as empty.
fn length(state: State, values: &Values) -> Option<usize> {
    match state {
        State::Unknown => None,
        State::Absent => Some(0),
        State::Value(id) => Some(values.len(id)),
    }
}

/// One way to explain all that was seen. Pending operations that are in neither set are done.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Configuration {
    state: State,
    /// To be done by their ends. By slot.
    must: Bits,
    /// Done unseen, or to be done yet, or never. By slot.
    free: Bits,
}

/// Configurations of which none makes another needless.
#[derive(Debug, Default)]
struct Antichain(BTreeMap<State, Vec<Configuration>>);

impl Antichain {
    /// Adds one, unless it is needless.
    fn insert(&mut self, new: Configuration, looks: &Bits) -> bool {
        let same_state = self.0.entry(new.state).or_default();
        if same_state.iter().any(|old| covers(old, &new, looks)) {
            return false;
        }
        same_state.retain(|old| !covers(&new, old, looks));
        same_state.push(new);
        true
    }

    fn is_empty(&self) -> bool {
        self.0.values().all(Vec::is_empty)
    }
}

/// Whether `a`, which holds the same as `b`, allows all that `b` does. `looks` are the slots of
/// operations that only look: to have done one of these is as good as to have it before one.
fn covers(a: &Configuration, b: &Configuration, looks: &Bits) -> bool {
    b.free.is_subset_of(&a.free)
        && a.must.is_subset_of(&b.must)
        && b.must
            .iter()
            .all(|slot| a.must.contains(slot) || a.free.contains(slot) || looks.contains(slot))
}

/// Looks for an order of `entries`, which stand in the order of their calls.
pub(super) fn run(entries: &[part::Entry], begins: Begins, states_max: u64) -> Outcome {
    Search::new(entries, begins, states_max).run()
}

#[derive(Debug, Clone, Copy)]
struct Op {
    act: Act,
    open: bool,
    /// The open operation before this one that asks for the same.
    twin: Option<usize>,
}

/// A pending operation's place in the bit sets.
type SlotAt = usize;

struct Search {
    values: Values,
    ops: Vec<Op>,
    /// Calls and ends in the order of time: the time, whether it is an end, which operation. At one
    /// time calls come first, so that what touches counts as concurrent.
    events: Vec<(u64, bool, usize)>,
    slots: Vec<Option<usize>>,
    slot_of: HashMap<usize, SlotAt>,
    unused: Vec<SlotAt>,
    /// The slots of operations that only look; and of answered `PUT`s.
    looks: Bits,
    puts: Bits,
    configurations: Antichain,
    left: u64,
}

/// No more configurations may be looked at.
struct Exhausted;

impl Search {
    fn new(entries: &[part::Entry], begins: Begins, states_max: u64) -> Self {
        let mut values = Values::default();
        let mut ops: Vec<Op> = entries
            .iter()
            .map(|entry| Op {
                act: Act::of(&entry.act, &mut values),
                open: entry.returned.is_none(),
                twin: None,
            })
            .collect();
        let mut last_of: HashMap<Act, usize> = HashMap::new();
        for (at, op) in ops.iter_mut().enumerate() {
            if op.open {
                op.twin = last_of.insert(op.act, at);
            }
        }
        let idle = idle(&ops);
        let mut events = Vec::new();
        for (at, entry) in entries.iter().enumerate() {
            if !idle.contains(&at) {
                events.push((entry.called, false, at));
                events.extend(entry.returned.map(|returned| (returned, true, at)));
            }
        }
        events.sort_unstable();
        let state = match begins {
            Begins::Empty => State::Absent,
            Begins::Unknown => State::Unknown,
        };
        let start = Configuration {
            state,
            must: Bits::default(),
            free: Bits::default(),
        };
        let mut configurations = Antichain::default();
        configurations.insert(start, &Bits::default());
        Self {
            values,
            ops,
            events,
            slots: Vec::new(),
            slot_of: HashMap::new(),
            unused: Vec::new(),
            looks: Bits::default(),
            puts: Bits::default(),
            configurations,
            left: states_max,
        }
    }

    fn run(mut self) -> Outcome {
        for (_, end, op) in std::mem::take(&mut self.events) {
            let done = if end { self.end(op) } else { self.call(op) };
            if done.is_err() || self.values.are_full() {
                return Outcome::Undecided;
            }
            if self.configurations.is_empty() {
                return Outcome::Fails(op);
            }
        }
        Outcome::Linearizable
    }

    fn spend(&mut self) -> Result<(), Exhausted> {
        self.left = self.left.checked_sub(1).ok_or(Exhausted)?;
        Ok(())
    }

    /// A new pending operation: to be done in every configuration, unless that needs nothing.
    fn call(&mut self, op: usize) -> Result<(), Exhausted> {
        let slot = self.unused.pop().unwrap_or_else(|| {
            self.slots.push(None);
            self.slots.len() - 1
        });
        self.slots[slot] = Some(op);
        self.slot_of.insert(op, slot);
        let Op { act, open, .. } = self.ops[op];
        if act.only_looks() {
            self.looks.insert(slot);
        }
        if matches!(act, Act::Put(_)) && !open {
            self.puts.insert(slot);
        }
        let before = std::mem::take(&mut self.configurations);
        for mut configuration in before.0.into_values().flatten() {
            self.spend()?;
            if open {
                configuration.free.insert(slot);
            } else {
                configuration.must.insert(slot);
                self.settle(&mut configuration);
            }
            self.configurations.insert(configuration, &self.looks);
        }
        Ok(())
    }

    /// Does what needs nothing: what was seen is there; what is to be put is there already.
    fn settle(&mut self, configuration: &mut Configuration) {
        let state = configuration.state;
        let pending: Vec<SlotAt> = configuration
            .must
            .iter()
            .filter(|&slot| self.looks.contains(slot) || self.puts.contains(slot))
            .collect();
        for slot in pending {
            let act = self.op_at(slot).act;
            match act {
                // Seen of a key of which nothing is known, it tells something: not for free.
                Act::Read(_) if state == State::Unknown => {}
                act if act.only_looks() && act.apply(state, &mut self.values).is_some() => {
                    configuration.must.remove(slot);
                }
                Act::Put(value) if state == State::Value(value) => {
                    configuration.must.remove(slot);
                    configuration.free.insert(slot);
                }
                _ => {}
            }
        }
    }

    fn op_at(&self, slot: SlotAt) -> Op {
        self.ops[self.slots[slot].expect("a pending slot has its operation")]
    }

    /// An operation's end: keeps the configurations in which it is done, and makes it done in the
    /// others in every way that leads there.
    fn end(&mut self, op: usize) -> Result<(), Exhausted> {
        let due = self.slot_of.remove(&op).expect("it was called");
        let before = std::mem::take(&mut self.configurations);
        let mut seen = Antichain::default();
        let mut waiting = Vec::new();
        let mut kept = Antichain::default();
        for mut configuration in before.0.into_values().flatten() {
            self.spend()?;
            let pending = configuration.must.contains(due) || configuration.free.contains(due);
            if pending && seen.insert(configuration.clone(), &self.looks) {
                waiting.push(configuration.clone());
            }
            if !configuration.must.contains(due) {
                configuration.free.remove(due);
                kept.insert(configuration, &self.looks);
            }
        }
        while let Some(configuration) = waiting.pop() {
            if let Some(mut next) = self.done(&configuration, due)? {
                next.must.remove(due);
                next.free.remove(due);
                kept.insert(next, &self.looks);
            }
            for slot in self.useful(&configuration, due) {
                let Some(mut next) = self.done(&configuration, slot)? else {
                    continue;
                };
                if next.must.contains(due) || next.free.contains(due) {
                    if seen.insert(next.clone(), &self.looks) {
                        waiting.push(next);
                    }
                } else {
                    next.free.remove(due);
                    kept.insert(next, &self.looks);
                }
            }
        }
        self.configurations = kept;
        self.slots[due] = None;
        self.looks.remove(due);
        self.puts.remove(due);
        self.unused.push(due);
        Ok(())
    }

    /// The configuration after the operation at `slot` is done, if it can be.
    fn done(
        &mut self,
        configuration: &Configuration,
        slot: SlotAt,
    ) -> Result<Option<Configuration>, Exhausted> {
        let act = self.op_at(slot).act;
        let Some(state) = act.apply(configuration.state, &mut self.values) else {
            return Ok(None);
        };
        self.spend()?;
        let mut next = configuration.clone();
        next.state = state;
        next.must.remove(slot);
        next.free.remove(slot);
        if act.overwrites() {
            let unseen: Vec<SlotAt> = self.unseen(configuration, slot).collect();
            for put in unseen {
                next.must.remove(put);
                next.free.insert(put);
            }
        }
        self.settle(&mut next);
        Ok(Some(next))
    }

    /// The `PUT`s that may be done unseen right before the overwriting operation at `by`.
    fn unseen(&self, configuration: &Configuration, by: SlotAt) -> impl Iterator<Item = SlotAt> {
        let puts = configuration.must.iter();
        puts.filter(move |&put| put != by && self.puts.contains(put))
    }

    /// The pending operations that may be worth doing before the one at `due`.
    fn useful(&mut self, configuration: &Configuration, due: SlotAt) -> Vec<SlotAt> {
        let pending: Vec<SlotAt> = configuration
            .must
            .iter()
            .chain(configuration.free.iter())
            .collect();
        let mut useful = Vec::new();
        for &slot in &pending {
            let op = self.op_at(slot);
            if slot == due || self.twin_is_free(configuration, op) {
                continue;
            }
            let Some(state) = op.act.apply(configuration.state, &mut self.values) else {
                continue;
            };
            let free = configuration.free.contains(slot);
            let optional = free || matches!(op.act, Act::Put(_));
            let hides = op.act.overwrites() && self.unseen(configuration, slot).next().is_some();
            if state == configuration.state && optional && !hides {
                continue;
            }
            if !optional || self.is_needed(state, slot, &pending) {
                useful.push(slot);
            }
        }
        useful
    }

    fn twin_is_free(&self, configuration: &Configuration, op: Op) -> bool {
        op.twin
            .and_then(|twin| self.slot_of.get(&twin))
            .is_some_and(|&slot| configuration.free.contains(slot))
    }

    /// Whether any pending operation but the one at `by` needs the key to hold `state`.
    fn is_needed(&mut self, state: State, by: SlotAt, pending: &[SlotAt]) -> bool {
        pending.iter().any(|&slot| {
            let op = self.op_at(slot);
            let conditional = match op.act {
                Act::Put(_) => false,
                Act::Delete => !op.open,
                _ => true,
            };
            slot != by && conditional && op.act.apply(state, &mut self.values).is_some()
        })
    }
}

/// The operations that can be left out of any search: open ones that only looked, and open `PUT`s of
/// values that no operation of this key needs.
fn idle(ops: &[Op]) -> HashSet<usize> {
    let mut needed = HashSet::new();
    let mut any_value_matters = false;
    for op in ops {
        match op.act {
            Act::Read(State::Value(value)) | Act::Cas(value, _) => {
                needed.insert(value);
            }
            Act::Delete if op.open => {}
            Act::Delete
            | Act::Present
            | Act::Incr { .. }
            | Act::OpenIncr { .. }
            | Act::Append { .. }
            | Act::NotANumber { .. }
            | Act::NoRoom { .. } => {
                any_value_matters = true;
            }
            _ => {}
        }
    }
    let idle = |op: &Op| {
        op.open
            && match op.act {
                Act::Put(value) => !any_value_matters && !needed.contains(&value),
                act => act.only_looks(),
            }
    };
    let found = ops.iter().enumerate().filter(|(_, op)| idle(op));
    found.map(|(at, _)| at).collect()
}
