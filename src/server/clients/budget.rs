//! One budget of memory for all connections of clients together.
//!
//! Counted is what a client can make a server hold: a request that has not come whole, requests that
//! were read and are not done, what `MULTI` and `WATCH` have collected, replies that were built and not
//! taken. Values that were read from the store are the store's. A connection asks before it holds
//! more; when all together ask for more than the budget, whoever asks for most has to leave, then the
//! next, until the rest fit. The others wait for the moment that it takes until those who leave have let
//! go, so what is held never exceeds the budget, and they notice nothing else.
//!
//! | | |
//! | --- | --- |
//! | [`Ledger`] | who holds and who asks how much, and who has to leave: pure |
//! | [`Budget`] | the same between threads |
//! | [`Account`] | what one connection holds, part by part; its thread's own |
//! | [`Gate`] | how a connection's thread, wherever it waits, learns that it has to leave |
//!
//! Most connections hold little: [`FREE_BYTES`] of each are not counted, and cost no lock.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::io::{self, ErrorKind};
use std::net::{Shutdown, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::{Condvar, Mutex};

use super::{Connection, Open};

/// How much each connection may hold without being counted: beside the budget, all of them hold at most
/// so much each. Who holds no more never has to leave.
pub(super) const FREE_BYTES: usize = 64 << 10;

/// What is counted is counted in steps of so many bytes, so that a reply that is a little longer than
/// the last one costs no lock.
const STEP_BYTES: usize = 64 << 10;

/// Who holds how much, and who asks for how much.
#[derive(Debug, Default)]
struct Ledger {
    limit: usize,
    by_number: BTreeMap<u64, Entry>,
    /// What all hold.
    held: usize,
    /// What those who stay ask for.
    asked: usize,
}

/// One connection that is counted.
#[derive(Debug, Default, Clone, Copy)]
struct Entry {
    held: usize,
    /// At least `held`.
    asked: usize,
    leaves: bool,
}

/// What a connection that asked may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Answer {
    /// Hold it.
    Held,
    /// Wait: others have to let go first.
    Wait,
    /// Leave.
    Leave,
}

impl Ledger {
    /// Connection `number` asks to hold `bytes` in all, and not less than it holds. Who has to leave for
    /// it, the largest first; of equals, who came last.
    fn ask(&mut self, number: u64, bytes: usize) -> Vec<u64> {
        let entry = self.by_number.entry(number).or_default();
        if entry.leaves {
            return Vec::new();
        }
        self.asked = self.asked - entry.asked + bytes;
        entry.asked = bytes;
        let mut leaving = Vec::new();
        while self.asked > self.limit {
            let staying = self.by_number.iter_mut().filter(|(_, entry)| !entry.leaves);
            let largest = staying.max_by_key(|(number, entry)| (entry.asked, **number));
            let Some((&number, entry)) = largest else {
                break;
            };
            entry.leaves = true;
            self.asked -= entry.asked;
            leaving.push(number);
        }
        leaving
    }

    /// Whether a connection may hold what it asked for; then it does.
    fn take(&mut self, number: u64) -> Answer {
        let Some(entry) = self.by_number.get_mut(&number) else {
            return Answer::Held;
        };
        let more = entry.asked.saturating_sub(entry.held);
        if entry.leaves {
            Answer::Leave
        } else if self.held + more > self.limit {
            Answer::Wait
        } else {
            entry.held = entry.asked;
            self.held += more;
            Answer::Held
        }
    }

    /// A connection holds `bytes` whether there is room or not; the budget may be exceeded by as much.
    fn put(&mut self, number: u64, bytes: usize) {
        let entry = self.by_number.entry(number).or_default();
        self.held = self.held - entry.held + bytes;
        entry.held = bytes;
    }

    /// A connection holds only `bytes` any more.
    fn keep(&mut self, number: u64, bytes: usize) {
        let Some(entry) = self.by_number.get_mut(&number) else {
            return;
        };
        self.held = self.held - entry.held + bytes;
        if !entry.leaves {
            self.asked = self.asked - entry.asked + bytes;
        }
        (entry.held, entry.asked) = (bytes, bytes);
        // Who leaves is remembered until the end.
        if bytes == 0 && !entry.leaves {
            self.by_number.remove(&number);
        }
    }

    /// A connection has ended.
    fn end(&mut self, number: u64) {
        self.keep(number, 0);
        self.by_number.remove(&number);
    }
}

/// See the module's text.
pub(super) struct Budget {
    ledger: Mutex<Ledger>,
    /// Signalled when something was let go, or somebody has to leave.
    changed: Condvar,
}

impl Budget {
    /// A budget of so many bytes.
    pub(super) fn new(limit: usize) -> Self {
        let ledger = Ledger {
            limit,
            ..Ledger::default()
        };
        Self {
            ledger: Mutex::new(ledger),
            changed: Condvar::new(),
        }
    }

    /// How many bytes are held and counted.
    pub(super) fn held(&self) -> usize {
        self.ledger.lock().held
    }

    /// How many bytes there are.
    pub(super) fn limit(&self) -> usize {
        self.ledger.lock().limit
    }

    /// Takes `bytes` in all for a connection, which waits until there is room; false if it has to leave.
    /// `leave` is called for each other one that has to.
    fn take(&self, number: u64, bytes: usize, leave: impl Fn(u64)) -> bool {
        let mut ledger = self.ledger.lock();
        let leaving = ledger.ask(number, bytes);
        if !leaving.is_empty() {
            drop(ledger);
            self.changed.notify_all();
            leaving.into_iter().for_each(leave);
            ledger = self.ledger.lock();
        }
        loop {
            match ledger.take(number) {
                Answer::Held => return true,
                Answer::Leave => return false,
                Answer::Wait => self.changed.wait(&mut ledger),
            }
        }
    }

    /// The same for what is there already: nobody can wait with it.
    fn put(&self, number: u64, bytes: usize, leave: impl Fn(u64)) {
        let mut ledger = self.ledger.lock();
        ledger.put(number, bytes);
        let leaving = ledger.ask(number, bytes);
        drop(ledger);
        if !leaving.is_empty() {
            self.changed.notify_all();
            leaving.into_iter().for_each(leave);
        }
    }

    fn keep(&self, number: u64, bytes: usize) {
        self.ledger.lock().keep(number, bytes);
        self.changed.notify_all();
    }

    fn end(&self, number: u64) {
        self.ledger.lock().end(number);
        self.changed.notify_all();
    }
}

/// What a connection holds.
#[derive(Debug, Clone, Copy)]
pub(super) enum Part {
    /// What has come and was not taken, and the room for it.
    Input,
    /// Requests that were read and are not done.
    Requests,
    /// What `MULTI` and `WATCH` have collected.
    Collected,
    /// What commands came to.
    Outcomes,
    /// A reply that is being written down.
    Reply,
    /// Replies that were written down and not sent.
    Output,
}

const PARTS: usize = Part::Output as usize + 1;

/// What a connection holds, part by part; all is let go when this is dropped.
pub(super) struct Account<'a> {
    open: &'a Open,
    connection: &'a Connection,
    parts: Cell<[usize; PARTS]>,
    /// What the budget knows of it; none as long as it knows nothing.
    counted: Cell<Option<usize>>,
}

impl<'a> Account<'a> {
    /// One that holds nothing.
    pub(super) fn new(open: &'a Open, connection: &'a Connection) -> Self {
        Self {
            open,
            connection,
            parts: Cell::default(),
            counted: Cell::default(),
        }
    }

    /// Holds `bytes` of one part from now on; to be called before they are there. May wait for a moment.
    ///
    /// # Errors
    /// The connection has to leave.
    pub(super) fn hold(&self, part: Part, bytes: usize) -> io::Result<()> {
        let gate = &self.connection.gate;
        if gate.is_leaving() {
            return Err(must_leave());
        }
        let (open, number) = (self.open, self.connection.number);
        let (counted, before) = (self.count(part, bytes), self.counted());
        if counted == before {
            return Ok(());
        }
        self.counted.set(Some(counted));
        if counted < before {
            open.budget.keep(number, counted);
        } else if !open.budget.take(number, counted, |other| open.leave(other)) {
            gate.leave(&self.connection.stream);
            return Err(must_leave());
        }
        Ok(())
    }

    /// The same for what is there already, and no fault of its client.
    pub(super) fn put(&self, part: Part, bytes: usize) {
        let (open, number) = (self.open, self.connection.number);
        let (counted, before) = (self.count(part, bytes), self.counted());
        if counted > before {
            self.counted.set(Some(counted));
            open.budget
                .put(number, counted, |leaving| open.leave(leaving));
        }
    }

    /// Lets everything go.
    pub(super) fn release(&self) {
        self.parts.set([0; PARTS]);
        if self.counted() > 0 {
            self.counted.set(Some(0));
            self.open.budget.keep(self.connection.number, 0);
        }
    }

    fn counted(&self) -> usize {
        self.counted.get().unwrap_or(0)
    }

    fn count(&self, part: Part, bytes: usize) -> usize {
        let mut parts = self.parts.get();
        parts[part as usize] = bytes;
        self.parts.set(parts);
        let held: usize = parts.iter().sum();
        let beyond = held.saturating_sub(FREE_BYTES);
        beyond.next_multiple_of(STEP_BYTES)
    }

    /// Lets the thread wait for its client.
    ///
    /// # Errors
    /// The connection has to leave; or what `wait` returns.
    pub(super) fn wait_for_client<T>(&self, wait: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        let gate = &self.connection.gate;
        gate.begin_wait()?;
        let done = wait();
        *gate.waits.lock() = false;
        done
    }

    /// Whether the connection has to leave.
    pub(super) fn must_leave(&self) -> bool {
        self.connection.gate.is_leaving()
    }
}

impl Drop for Account<'_> {
    fn drop(&mut self) {
        if self.counted.get().is_some() {
            self.open.budget.end(self.connection.number);
        }
    }
}

fn must_leave() -> io::Error {
    io::Error::new(ErrorKind::OutOfMemory, "this connection has to leave")
}

/// Whether a connection has to leave, and how its thread is woken for that.
#[derive(Debug, Default)]
pub(super) struct Gate {
    leaving: AtomicBool,
    /// The thread waits for its client, but not for requests: for room for a reply, or in a `WAIT`.
    waits: Mutex<bool>,
}

impl Gate {
    fn is_leaving(&self) -> bool {
        self.leaving.load(Ordering::SeqCst)
    }

    fn begin_wait(&self) -> io::Result<()> {
        let mut waits = self.waits.lock();
        if self.is_leaving() {
            return Err(must_leave());
        }
        *waits = true;
        Ok(())
    }

    /// Tells the thread to leave. One that reads finds the end of the stream, and can still tell its client
    /// why; one that cannot get rid of a reply finds that the connection is closed.
    pub(super) fn leave(&self, stream: &TcpStream) {
        self.leaving.store(true, Ordering::SeqCst);
        let how = if *self.waits.lock() {
            Shutdown::Both
        } else {
            Shutdown::Read
        };
        let _ = stream.shutdown(how);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::AtomicUsize;
    use std::thread;

    use proptest::collection::vec;
    use proptest::prelude::*;

    fn ledger(limit: usize) -> Ledger {
        Ledger {
            limit,
            ..Ledger::default()
        }
    }

    #[test]
    fn the_largest_leaves_whoever_asked_last() {
        let mut ledger = ledger(100);
        assert!(ledger.ask(1, 60).is_empty());
        assert_eq!(ledger.take(1), Answer::Held);
        assert!(ledger.ask(2, 40).is_empty());
        assert_eq!(ledger.take(2), Answer::Held);
        // The third is small: it waits until the first has let go.
        assert_eq!(ledger.ask(3, 10), [1]);
        assert_eq!(ledger.take(1), Answer::Leave);
        assert_eq!(ledger.take(3), Answer::Wait);
        ledger.end(1);
        assert_eq!(ledger.take(3), Answer::Held);
        assert_eq!(ledger.held, 50);
    }

    #[test]
    fn who_asks_for_most_leaves_and_nobody_else_does() {
        let mut ledger = ledger(100);
        assert!(ledger.ask(1, 30).is_empty());
        assert_eq!(ledger.take(1), Answer::Held);
        assert_eq!(ledger.ask(2, 71), [2]);
        assert_eq!(ledger.take(2), Answer::Leave);
        assert_eq!(ledger.take(1), Answer::Held);
        ledger.end(2);
        ledger.end(1);
        assert_eq!((ledger.held, ledger.asked), (0, 0));
    }

    #[test]
    fn as_many_leave_as_it_takes_the_largest_first() {
        let mut ledger = ledger(100);
        for (number, bytes) in [(1, 20), (2, 30), (3, 40)] {
            assert!(ledger.ask(number, bytes).is_empty());
            assert_eq!(ledger.take(number), Answer::Held);
        }
        // 10 are free, and 25 more are asked for.
        assert_eq!(ledger.ask(1, 45), [1]);
        assert_eq!(ledger.ask(4, 39), [3]);
        assert_eq!(ledger.take(4), Answer::Wait);
        ledger.end(3);
        assert_eq!(ledger.take(4), Answer::Held);
    }

    #[test]
    fn of_equals_the_last_that_came_leaves() {
        let mut ledger = ledger(100);
        assert!(ledger.ask(1, 50).is_empty());
        assert!(ledger.ask(2, 50).is_empty());
        assert_eq!(ledger.ask(3, 50), [3]);
    }

    #[test]
    fn what_is_there_already_is_counted_beyond_the_budget() {
        let mut ledger = ledger(100);
        ledger.put(1, 130);
        assert_eq!(ledger.ask(1, 130), [1]);
        assert!(ledger.ask(2, 10).is_empty());
        assert_eq!(ledger.take(2), Answer::Wait);
        ledger.end(1);
        assert_eq!(ledger.take(2), Answer::Held);
        ledger.end(2);
        assert_eq!((ledger.held, ledger.asked), (0, 0));
        assert!(ledger.by_number.is_empty());
    }

    proptest! {
        /// Whatever connections do: what is held stays within the budget, who has to leave is never
        /// smaller than one who stays, those who stay fit, and after the end nothing is counted.
        #[test]
        fn any_history_stays_within_the_budget_and_leaves_nothing(
            acts in vec((0..6_u64, 0..70_usize), 0..200),
        ) {
            let mut ledger = ledger(100);
            for (number, bytes) in acts {
                let leaves = |ledger: &Ledger, number| {
                    ledger.by_number.get(&number).is_some_and(|entry| entry.leaves)
                };
                if leaves(&ledger, number) {
                    ledger.end(number);
                    continue;
                }
                let held = ledger.by_number.get(&number).map_or(0, |entry| entry.held);
                if bytes < held {
                    ledger.keep(number, bytes);
                } else {
                    let before: BTreeMap<u64, usize> = ledger
                        .by_number
                        .iter()
                        .filter(|(_, entry)| !entry.leaves)
                        .map(|(&number, entry)| (number, entry.asked))
                        .chain([(number, bytes)])
                        .collect();
                    let mut staying = before.clone();
                    for leaving in ledger.ask(number, bytes) {
                        let size = staying.remove(&leaving).expect("it stayed until now");
                        prop_assert!(staying.values().all(|&other| other <= size));
                        // Without it, and all before it, the rest would not have fitted.
                        prop_assert!(staying.values().sum::<usize>() + size > 100);
                    }
                    prop_assert!(staying.values().sum::<usize>() <= 100);
                    ledger.take(number);
                }
                prop_assert!(ledger.held <= 100);
                let held: usize = ledger.by_number.values().map(|entry| entry.held).sum();
                prop_assert_eq!(ledger.held, held);
            }
            // Once those who leave have gone, nobody waits.
            let leaving: Vec<u64> = ledger
                .by_number
                .iter()
                .filter(|(_, entry)| entry.leaves)
                .map(|(&number, _)| number)
                .collect();
            for number in leaving {
                ledger.end(number);
            }
            let staying: Vec<u64> = ledger.by_number.keys().copied().collect();
            for &number in &staying {
                prop_assert_eq!(ledger.take(number), Answer::Held);
            }
            for number in staying {
                ledger.end(number);
            }
            prop_assert_eq!((ledger.held, ledger.asked), (0, 0));
            prop_assert!(ledger.by_number.is_empty());
        }
    }

    /// Threads that take, keep and end at random, and leave when they have to: all come to their end, and
    /// nothing is counted then.
    #[test]
    fn threads_that_share_a_budget_all_end_and_leave_nothing() {
        let budget = Arc::new(Budget::new(1_000));
        let left = Arc::new(AtomicUsize::new(0));
        let threads: Vec<_> = (1..=8_u64)
            .map(|number| {
                let (budget, left) = (Arc::clone(&budget), Arc::clone(&left));
                thread::spawn(move || {
                    for round in 0..500_u64 {
                        let bytes = (number * 7_919 + round * 104_729) % 600;
                        if !budget.take(number, usize::try_from(bytes).unwrap(), |_| {}) {
                            left.fetch_add(1, Ordering::Relaxed);
                        }
                        assert!(budget.held() <= 1_000);
                        budget.end(number);
                    }
                })
            })
            .collect();
        for thread in threads {
            thread.join().unwrap();
        }
        assert_eq!(budget.held(), 0);
        assert!(budget.ledger.lock().by_number.is_empty());
    }
}
