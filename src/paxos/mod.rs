//! Multi-Paxos over opaque values.
pub mod record;
pub mod types;
