//! Quince: a replicated key-value store that you can talk to by hand.
//!
//! Five servers (any odd number up to nine) keep one log by Multi-Paxos and apply it to one map.
//! Every server is a process of plain threads, blocking sockets and lines of text, and plays all
//! roles: proposer, acceptor and learner. Nothing that was acknowledged is ever lost.
//!
//! # One idea: a pure replica, and a shell around it
//!
//! The protocol is a value that is stepped: [`replica::Replica::step`] takes one input and writes
//! what it wants done into an [`outbox::Outbox`]. It never sees a socket, a file, a thread or a
//! clock. The shell in [`server`] gives it all of these; the one in [`sim`] gives it a virtual clock,
//! network and disk, all from one seed. So the same code can be driven by a test, message by message,
//! by thousands of simulated lives a minute, and by five processes under load.
//!
//! # The flow of a write
//!
//! ```text
//! client line ─ wire::client ─► server::clients ─► core ─► replica: Origin numbers it
//!                                                             │ propose (to the leader)
//!                                                             ▼
//!                     Intake: a batch is a slot's value ─► paxos::Proposer
//!                                                             │ accept (to all, at once)
//!                                                             ▼
//!                     paxos::Acceptor ─► record ─► server::recorder ─► disk::Log: one sync
//!                                                             │ accepted (only then)
//!                                                             ▼
//!                     majority: decided ─► paxos::Learner ─► kv::Store, in slot order
//!                                                             │
//! client line ◄─ wire::client ◄─ server::clients ◄── answered by the server that took it
//! ```
//!
//! # Who may know whom
//!
//! A module uses only what stands above or beside it here (`tests/layers.rs` holds everyone to it):
//!
//! 1. tokens: [`text`]; connections within a bounded time: [`dial`]
//! 2. strangers to each other: [`paxos`] and [`kv`]
//! 3. the server as a value: [`outbox`], [`replica`]
//! 4. text and files: [`wire`] and [`disk`]
//! 5. the judge of what clients saw: [`check`]
//! 6. the shells, strangers to each other: [`server`], [`sim`]
//! 7. the other end: [`client`]
//! 8. real servers under real faults: [`torture`]
//! 9. commands: [`cli`]
//!
//! `ARCHITECTURE.md` tells the same at length, with the reasons.

pub mod check;
pub mod cli;
pub mod client;
pub mod dial;
pub mod disk;
pub mod kv;
pub mod outbox;
pub mod paxos;
pub mod replica;
pub mod server;
pub mod sim;
pub mod text;
pub mod torture;
pub mod wire;
