//! A cluster of pure replicas in one thread, for the tests that run them: no clock, no socket, no
//! file. Nothing moves unless the test moves it.
#![allow(dead_code, reason = "each test program uses a part")]

pub(crate) mod cluster;
pub(crate) mod print;
