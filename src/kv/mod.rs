//! The state machine: an ordered map with exactly-once sessions.
pub mod command;
