//! Lines on sockets, and what they mean: text to types and back.
//!
//! Quince talks in lines, to people and to its own servers, so that a telnet prompt and a packet
//! dump read alike. `PROTOCOL.md` describes all of it for users; this module is where each of its
//! words is written once.
//!
//! | file | holds |
//! | --- | --- |
//! | `held` | what has been read from a socket and not been taken yet |
//! | [`lines`] | bytes of a socket to lines, in bounded memory |
//! | `telnet` | what a telnet client says between them |
//! | `http` | what a web browser says, which is refused |
//! | [`client`] | requests and replies of clients, in lines |
//! | [`resp`] | requests and replies of clients, in the protocol of Redis |
//! | [`peer`] | what servers tell each other |
//!
//! It keeps pitfall P48 out: bytes that no line end has followed are never a line, so a command cut
//! short is never run. Bytes from outside are never trusted: whatever arrives is a value or an
//! error, and never a panic.
//!
//! Left out on purpose: sockets, threads and time, and any idea of what a request does.
pub mod client;
pub(crate) mod held;
mod http;
pub mod lines;
pub mod peer;
pub mod resp;
pub(crate) mod telnet;
