//! Quince: a replicated key-value store that you can talk to by hand.
pub mod kv;
pub mod paxos;
pub mod text;
pub mod wire;
