//! RESP, the protocol of Redis, between a client and a server: requests one way, replies the other.
//!
//! | file | holds |
//! | --- | --- |
//! | `frame`, `inline` | bytes of a connection to the arguments of requests, in bounded memory |
//! | `table` | every command there is: its name, how many arguments, what it is for, who reads it |
//! | `command` | what a [`Request`] can be, and what all readers of one need |
//! | `change`, `look` | arguments to a request that changes the map, or asks about it; and the replies to it |
//! | `connect` | the same for what a connection asks about itself: `HELLO`, `AUTH`, `CLIENT` |
//! | `catalog` | what `COMMAND` tells of the table |
//! | `reply` | replies to bytes, in version 2 or 3 |
//! | `glob` | patterns of keys |
//!
//! `PROTOCOL.md` has a table of every command and how it differs from Redis. One rule is behind all
//! of them: what cannot be kept is refused in so many words, and never answered as if it were. A
//! `SET` with a time to live that is forgotten would be worse than none.
//!
//! It keeps pitfall P48 out as plain lines do: a request that is not whole is never run. Whatever
//! arrives is a request, an error that leaves the connection as it was, or an error that ends it.
//!
//! Left out on purpose: sockets, the map, and what any of it takes.
mod catalog;
mod change;
mod command;
mod connect;
mod frame;
mod glob;
mod inline;
mod look;
mod reply;
mod table;

pub use catalog::Catalog;
pub use change::{Change, Tell, too_large};
pub use command::{Request, RequestError, Spoils, Wait};
pub use connect::{Hello, Label};
pub use frame::{
    ARGUMENT_BYTES_MAX, ARGUMENTS_MAX, Arguments, FRAME_BYTES_MAX, FrameBuffer, FrameError,
    INLINE_BYTES_MAX,
};
pub use glob::{PATTERN_BYTES_MAX, Pattern};
pub use look::{Read, Scan, Unit};
pub use reply::{Protocol, Reply};

/// The version of Redis whose words these are: what clients are told that ask which commands they may
/// expect.
pub const REDIS_VERSION: &str = "7.0.0";
