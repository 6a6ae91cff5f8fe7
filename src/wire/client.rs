//! The lines between a client and a server: requests one way, replies the other.
//!
//! `PROTOCOL.md` has every line with examples. [`parse_request`] and [`Reply::write`] are the
//! server's half, [`write_request`] and [`ReplyReader`] the client's; each pair stands in one file,
//! so that what is written and what is read cannot drift apart. What is wrong in a request is told
//! to people in the reply: what was expected, and what was found.
//!
//! Left out on purpose: who may ask for what, when a reply is due, and what it takes to find it.
mod help;
mod reply;
mod request;

pub use reply::{ErrorCode, Head, Reply, ReplyReader, parse_pair, parse_reply_head, write_list};
pub use request::{
    LINE_BYTES_MAX, Request, RequestError, SLOW_MILLIS_MAX, parse_request, write_request,
};
