//! What a telnet client says for itself between the lines that its user types.
//!
//! | bytes | what | when |
//! | --- | --- | --- |
//! | `IAC` `WILL`, `WONT`, `DO` or `DONT`, an option | negotiation | `PuTTY` when it connects; Ctrl-C |
//! | `IAC` `SB` ... `IAC` `SE` | subnegotiation; a byte `IAC` in it is doubled | the size of the window, at each change |
//! | `IAC` and a byte from 236 on | another command | Ctrl-C, a keep-alive |
//!
//! They are dropped at the beginning of a line, and nowhere else: keys and values are bytes, and `IAC`
//! (255) may be one of them. No request begins with it. A client whose offers get no answer goes on as before,
//! but for one: after Ctrl-C it asks for a timing mark, and shows nothing until that is answered (RFC 860).
//!
//! A subnegotiation may hold the byte of a line end, so this stands before the search for one. It costs no
//! memory: what has come of it is dropped at once.

const IAC: u8 = 255;
const WILL: u8 = 251;
const DONT: u8 = 254;
const DO: u8 = 253;
const WONT: u8 = 252;
const TIMING_MARK: u8 = 6;
const SB: u8 = 250;
const SE: u8 = 240;

/// The first command: the end of a file, of Ctrl-D.
const EOF: u8 = 236;

/// The longest subnegotiation, in bytes; no window and no terminal has a name nearly as long. One that goes
/// on is none: what follows is a line.
pub(super) const SUBNEGOTIATION_BYTES_MAX: usize = 1_024;

/// The answer to a client that asks for a timing mark.
pub(crate) const NO_TIMING_MARK: &[u8] = &[IAC, WONT, TIMING_MARK];

/// What stands at the beginning of a line.
#[derive(Debug, Default)]
pub(super) struct Telnet {
    /// How many bytes of a subnegotiation have come, if it has not ended.
    inside: Option<usize>,
    /// How many timing marks were asked for, and not answered yet.
    pub(super) timing_marks: usize,
}

/// What the next byte behind the client's own ones is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    /// The beginning of a line.
    Line,
    /// Not told before more has come.
    Unknown,
}

impl Telnet {
    /// How many bytes at the front are the client's own, and what follows them. Those are to be dropped.
    pub(super) fn own(&mut self, bytes: &[u8]) -> (usize, Next) {
        let mut at = 0;
        loop {
            let rest = &bytes[at..];
            at += match (self.inside, rest) {
                (Some(_), []) | (_, [IAC]) | (None, [IAC, WILL..=DONT]) => {
                    return (at, Next::Unknown);
                }
                (None, [IAC, SB, ..]) => {
                    self.inside = Some(0);
                    2
                }
                (None, [IAC, WILL..=DONT, ..]) => {
                    self.timing_marks += usize::from(rest[1..3] == [DO, TIMING_MARK]);
                    3
                }
                (None, [IAC, EOF..=DONT, ..]) => 2,
                (None, _) => return (at, Next::Line),
                (Some(_), [IAC, SE, ..]) => {
                    self.inside = None;
                    2
                }
                (Some(SUBNEGOTIATION_BYTES_MAX..), _) => {
                    self.inside = None;
                    0
                }
                (Some(count), [IAC, IAC, ..]) => {
                    self.inside = Some(count + 2);
                    2
                }
                // It has not ended as it should: another one begins.
                (Some(_), [IAC, ..]) => {
                    self.inside = None;
                    0
                }
                (Some(count), _) => {
                    self.inside = Some(count + 1);
                    1
                }
            };
        }
    }
}
