//! What a connection asks about itself, and what client libraries say when they begin.
//!
//! There are no users and no passwords here, which is Redis' `default` user with `nopass`: that one
//! is let in with any password, nobody else is, and a password alone is an error.

#![allow(
    clippy::unnecessary_wraps,
    reason = "the table calls all readers alike, also those that take everything"
)]

use super::command::{Request, RequestError, integer, word};
use super::frame::Arguments;
use super::reply::{Protocol, Reply};
use super::table::{Row, SHOWN_BYTES_MAX, shown};
use crate::kv::command::Bytes;

/// The longest name of a connection, of a library or of its version, in bytes.
const LABEL_BYTES_MAX: usize = 256;

const CLUSTER_DISABLED: &str = "This instance has cluster support disabled";

/// How a connection goes on.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Hello {
    /// In this version of the protocol; as before if none is named.
    pub protocol: Option<Protocol>,
    /// Under this name, if one is given.
    pub name: Option<Bytes>,
}

/// What a client tells about itself, for `CLIENT LIST`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Label {
    /// The connection's name.
    Name,
    /// The name of the client library.
    Library,
    /// Its version.
    LibraryVersion,
}

pub(super) fn ping(_: &Row, arguments: Arguments<'_>) -> Result<Request, RequestError> {
    match (arguments.len(), arguments.get(1)) {
        (1, _) => Ok(Request::Known(Reply::Simple("PONG"))),
        (2, Some(message)) => Ok(Request::Known(Reply::Bulk(message.into()))),
        _ => Err(RequestError::arity("ping")),
    }
}

pub(super) fn echo(_: &Row, arguments: Arguments<'_>) -> Result<Request, RequestError> {
    let message = arguments.get(1).unwrap_or_default();
    Ok(Request::Known(Reply::Bulk(message.into())))
}

pub(super) fn quit(_: &Row, _: Arguments<'_>) -> Result<Request, RequestError> {
    Ok(Request::Quit)
}

pub(super) fn reset(_: &Row, _: Arguments<'_>) -> Result<Request, RequestError> {
    Ok(Request::Reset)
}

pub(super) fn readonly(row: &Row, _: Arguments<'_>) -> Result<Request, RequestError> {
    Ok(Request::ReadOnly(row.name == "readonly"))
}

pub(super) fn select(_: &Row, arguments: Arguments<'_>) -> Result<Request, RequestError> {
    match integer(arguments.get(1).unwrap_or_default())? {
        0 => Ok(Request::Known(Reply::OK)),
        _ => Err(RequestError::new("DB index is out of range")),
    }
}

pub(super) fn cluster(_: &Row, _: Arguments<'_>) -> Result<Request, RequestError> {
    Err(RequestError::new(CLUSTER_DISABLED))
}

pub(super) fn auth(_: &Row, arguments: Arguments<'_>) -> Result<Request, RequestError> {
    match (arguments.len(), arguments.get(1)) {
        (2, _) => Err(RequestError::new(
            "AUTH <password> called without any password configured for the default user. \
             Are you sure your configuration is correct?",
        )),
        (3, Some(user)) => admit(user).map(|()| Request::Known(Reply::OK)),
        _ => Err(RequestError::syntax()),
    }
}

fn admit(user: &[u8]) -> Result<(), RequestError> {
    if user == b"default" {
        return Ok(());
    }
    Err(RequestError::with_code(
        "WRONGPASS invalid username-password pair or user is disabled.",
    ))
}

/// `HELLO [2|3 [AUTH user password] [SETNAME name]]`
pub(super) fn hello(_: &Row, arguments: Arguments<'_>) -> Result<Request, RequestError> {
    let mut hello = Hello::default();
    if let Some(version) = arguments.get(1) {
        hello.protocol = Some(protocol(version)?);
    }
    let mut at = 2;
    while let Some(option) = arguments.get(at) {
        let syntax = || {
            let option = shown(option, SHOWN_BYTES_MAX);
            RequestError::new(format_args!("Syntax error in HELLO option '{option}'"))
        };
        let first = arguments.get(at + 1);
        match (&*word(arguments, at), first, arguments.get(at + 2)) {
            (b"auth", Some(user), Some(_)) => {
                admit(user)?;
                at += 3;
            }
            (b"setname", Some(name), _) => {
                hello.name = Some(label(name, "Client names")?);
                at += 2;
            }
            _ => return Err(syntax()),
        }
    }
    Ok(Request::Hello(hello))
}

fn protocol(version: &[u8]) -> Result<Protocol, RequestError> {
    match integer(version) {
        Ok(2) => Ok(Protocol::Two),
        Ok(3) => Ok(Protocol::Three),
        Ok(_) => Err(RequestError::with_code(
            "NOPROTO unsupported protocol version",
        )),
        Err(_) => Err(RequestError::new(
            "Protocol version is not an integer or out of range",
        )),
    }
}

/// A word that can stand in a line of `CLIENT LIST`.
fn label(text: &[u8], what: &str) -> Result<Bytes, RequestError> {
    if !text.iter().all(u8::is_ascii_graphic) {
        return Err(RequestError::new(format_args!(
            "{what} cannot contain spaces, newlines or special characters."
        )));
    }
    if text.len() > LABEL_BYTES_MAX {
        return Err(RequestError::new(format_args!(
            "{what} cannot be longer than {LABEL_BYTES_MAX} bytes."
        )));
    }
    Ok(text.into())
}

/// Reads the subcommands that are one question.
pub(super) fn client(row: &Row, _: Arguments<'_>) -> Result<Request, RequestError> {
    Ok(match row.name {
        "getname" => Request::Name,
        "id" => Request::Id,
        "info" => Request::Client,
        // `list`
        _ => Request::Clients,
    })
}

/// Reads `CLIENT NO-EVICT` and `CLIENT NO-TOUCH`: what they ask for is always so.
pub(super) fn client_switch(_: &Row, arguments: Arguments<'_>) -> Result<Request, RequestError> {
    match &*word(arguments, 2) {
        b"on" | b"off" => Ok(Request::Known(Reply::OK)),
        _ => Err(RequestError::syntax()),
    }
}

/// Reads `CLIENT SETNAME` and `CLIENT SETINFO`.
pub(super) fn client_set(row: &Row, arguments: Arguments<'_>) -> Result<Request, RequestError> {
    let text = |at| arguments.get(at).unwrap_or_default();
    if row.name == "setname" {
        return Ok(Request::Label(Label::Name, label(text(2), "Client names")?));
    }
    match &*word(arguments, 2) {
        b"lib-name" => Ok(Request::Label(Label::Library, label(text(3), "lib-name")?)),
        b"lib-ver" => Ok(Request::Label(
            Label::LibraryVersion,
            label(text(3), "lib-ver")?,
        )),
        _ => Err(RequestError::new(format_args!(
            "Unrecognized option '{}'",
            shown(text(2), SHOWN_BYTES_MAX)
        ))),
    }
}
