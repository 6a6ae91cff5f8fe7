//! The state machine: an ordered map with exactly-once sessions, the same on every server.
//!
//! A server hands the decided batches to a [`store::Store`], slot by slot, and reads from it. That
//! is the state machine of *Paxos Made Simple* 3: it takes commands in the log's order, and its
//! outcomes depend on nothing but that order. So there is no clock here, no random number, and no
//! map whose order could differ between two machines (P26).
//!
//! It keeps two of the invariants. I5: after slot s every server holds the same bytes, which the
//! running hash of [`hash`] makes visible. I7: a command with an id is applied at most once, by one
//! counter for each origin server, and by sessions for the clients that ask for it.
//!
//! | file | holds |
//! | --- | --- |
//! | [`command`] | what can be asked, and what came of it |
//! | [`batch`] | the text of a batch of commands: the value of one slot |
//! | [`store`] | which commands run, transactions, the reads |
//! | `table` | the keys with their values and ends |
//! | [`change`] | what a change of one key does |
//! | [`sessions`] | which clients' commands have run, and their outcomes |
//! | [`hash`] | the running hash, defined to the bit |
//! | [`snapshot`] | the whole state as lines of text, and back |
//!
//! Left out on purpose: how slots get decided, who leads, and how a client's line looks. This
//! module is a stranger to `paxos`: a slot is a number to it, and a batch is text.
pub mod batch;
pub mod change;
pub mod command;
pub mod hash;
pub mod sessions;
pub mod snapshot;
pub mod store;
mod table;
