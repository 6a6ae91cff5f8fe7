//! Quince: a replicated key-value store that you can talk to by hand.
pub mod cli;
pub mod client;
pub mod disk;
pub mod kv;
pub mod outbox;
pub mod paxos;
pub mod replica;
pub mod server;
pub mod text;
pub mod wire;
