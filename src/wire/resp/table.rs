//! Every command there is, once: [`find`] is how a request is read, and `COMMAND` tells the same.

use super::command::{self, Request, RequestError};
use super::frame::Arguments;
use super::{catalog, change, connect, look};

/// One command, or one subcommand of a command.
#[derive(Debug)]
pub(super) struct Row {
    /// In small letters.
    pub(super) name: &'static str,
    /// With how many arguments it comes, its name among them; or, if below zero, with at least so many.
    pub(super) arity: i8,
    /// What it does to the map: words that client libraries know.
    pub(super) flags: &'static [&'static str],
    pub(super) keys: Keys,
    /// What kind of command it is, in a word that client libraries know.
    pub(super) group: &'static str,
    /// What it does, in a sentence.
    pub(super) summary: &'static str,
    /// Reads all of the request, once the arity is right.
    pub(super) read: Reader,
    pub(super) subcommands: &'static [Row],
}

type Reader = fn(&Row, Arguments<'_>) -> Result<Request, RequestError>;

/// Which arguments are keys.
#[derive(Debug, Clone, Copy)]
pub(super) enum Keys {
    None,
    /// The first behind the name.
    First,
    /// All behind the name.
    All,
    /// Every other one behind the name.
    Odd,
}

impl Row {
    /// Whether so many arguments, the name among them, are right.
    fn takes(&self, count: usize) -> bool {
        let arity = usize::from(self.arity.unsigned_abs());
        if self.arity.is_negative() {
            count >= arity
        } else {
            count == arity
        }
    }
}

/// The longest name there is room for when it is looked up.
const NAME_BYTES_MAX: usize = 16;

/// The row of a name, in letters of either size.
fn row<'a>(rows: &'a [Row], name: &[u8]) -> Option<&'a Row> {
    let mut small = [0; NAME_BYTES_MAX];
    let small = small.get_mut(..name.len())?;
    small.copy_from_slice(name);
    small.make_ascii_lowercase();
    let at = rows.binary_search_by(|row| row.name.as_bytes().cmp(small));
    at.ok().map(|at| &rows[at])
}

/// The row of a command.
pub(super) fn find(name: &[u8]) -> Option<&'static Row> {
    row(ROWS, name)
}

/// Reads a request.
pub(super) fn read(arguments: Arguments<'_>) -> Result<Request, RequestError> {
    let name = arguments.get(0).unwrap_or_default();
    let Some(row) = find(name) else {
        return Err(unknown(name, arguments).spoiling());
    };
    if !row.takes(arguments.len()) {
        let error = RequestError::arity(row.name);
        return Err(if row.name == "exec" {
            error.ending()
        } else {
            error.spoiling()
        });
    }
    (row.read)(row, arguments)
}

/// Reads a request whose second word says what it is.
pub(super) fn read_subcommand(
    command: &Row,
    arguments: Arguments<'_>,
) -> Result<Request, RequestError> {
    let name = arguments.get(1).unwrap_or_default();
    let Some(row) = row(command.subcommands, name) else {
        return Err(RequestError::new(format_args!(
            "unknown subcommand '{}'. Try COMMAND INFO {}.",
            shown(name, SHOWN_BYTES_MAX),
            command.name
        ))
        .spoiling());
    };
    if !row.takes(arguments.len()) {
        let name = format_args!("{}|{}", command.name, row.name);
        return Err(RequestError::arity(name).spoiling());
    }
    (row.read)(row, arguments)
}

/// How many bytes of a request's words an error repeats, as in Redis: of the name, and of the rest.
pub(super) const SHOWN_BYTES_MAX: usize = 128;

/// A word as an error repeats it.
pub(super) fn shown(word: &[u8], bytes_max: usize) -> String {
    String::from_utf8_lossy(&word[..word.len().min(bytes_max)]).into_owned()
}

/// The error for a name that is no command's.
fn unknown(name: &[u8], arguments: Arguments<'_>) -> RequestError {
    let mut rest = String::new();
    for word in arguments.skip(1).iter() {
        let Some(room) = SHOWN_BYTES_MAX
            .checked_sub(rest.len())
            .filter(|&room| room > 0)
        else {
            break;
        };
        rest.push('\'');
        rest.push_str(&shown(word, room));
        rest.push_str("' ");
    }
    let name = shown(name, SHOWN_BYTES_MAX);
    RequestError::new(format_args!(
        "unknown command '{name}', with args beginning with: {rest}"
    ))
}

const WRITE: &[&str] = &["write", "denyoom", "fast"];
const DELETE: &[&str] = &["write"];
const READ: &[&str] = &["readonly", "fast"];
const WALK: &[&str] = &["readonly"];
const CONNECT: &[&str] = &["noscript", "loading", "stale", "fast"];
const SERVER: &[&str] = &["loading", "stale"];

const fn row_of(
    name: &'static str,
    arity: i8,
    flags: &'static [&'static str],
    keys: Keys,
    group: &'static str,
    summary: &'static str,
    read: Reader,
) -> Row {
    Row {
        name,
        arity,
        flags,
        keys,
        group,
        summary,
        read,
        subcommands: &[],
    }
}

const fn family(
    name: &'static str,
    arity: i8,
    group: &'static str,
    summary: &'static str,
    read: Reader,
    subcommands: &'static [Row],
) -> Row {
    Row {
        name,
        arity,
        flags: SERVER,
        keys: Keys::None,
        group,
        summary,
        read,
        subcommands,
    }
}

/// In the order of the names, because they are searched by halves.
#[rustfmt::skip]
pub(super) const ROWS: &[Row] = &[
    row_of("append", 3, WRITE, Keys::First, "string", "Adds something to the end of a value", change::write),
    row_of("auth", -2, CONNECT, Keys::None, "connection", "Says who is there: nobody needs a password", connect::auth),
    row_of("cas", 4, WRITE, Keys::First, "string", "Sets a key that holds an expected value", change::write),
    family("client", -2, "connection", "Asks and tells about connections", read_subcommand, CLIENT),
    family("cluster", -2, "cluster", "Is always an error: no server holds only a part of the keys", connect::cluster, &[]),
    family("command", -1, "server", "Tells which commands there are", catalog::command, COMMAND),
    family("config", -2, "server", "Tells how this server was started", read_subcommand, CONFIG),
    row_of("dbsize", 1, READ, Keys::None, "server", "Counts the keys", look::look),
    row_of("decr", 2, WRITE, Keys::First, "string", "Takes 1 from a number", change::write),
    row_of("decrby", 3, WRITE, Keys::First, "string", "Takes something from a number", change::write),
    row_of("del", -2, DELETE, Keys::All, "generic", "Removes keys", change::write),
    row_of("delete", 2, DELETE, Keys::First, "generic", "Removes a key", change::write),
    row_of("discard", 1, CONNECT, Keys::None, "transactions", "Forgets a transaction", change::transaction),
    row_of("echo", 2, CONNECT, Keys::None, "connection", "Says the same again", connect::echo),
    row_of("exec", 1, CONNECT, Keys::None, "transactions", "Runs a transaction", change::transaction),
    row_of("exists", -2, READ, Keys::All, "generic", "Counts which of these keys are there", look::look),
    row_of("expire", -3, WRITE, Keys::First, "generic", "Lets a key end in so many seconds", change::write),
    row_of("expireat", -3, WRITE, Keys::First, "generic", "Lets a key end at a time in seconds", change::write),
    row_of("flushall", -1, DELETE, Keys::None, "server", "Removes all keys", change::write),
    row_of("flushdb", -1, DELETE, Keys::None, "server", "Removes all keys", change::write),
    row_of("get", 2, READ, Keys::First, "string", "Reads the value of a key", look::look),
    row_of("getdel", 2, WRITE, Keys::First, "string", "Removes a key, and reads what it held", change::write),
    row_of("getrange", 4, WALK, Keys::First, "string", "Reads a part of a value", look::look),
    row_of("getset", 3, WRITE, Keys::First, "string", "Sets a key, and reads what it held", change::write),
    row_of("hello", -1, CONNECT, Keys::None, "connection", "Chooses the version of the protocol", connect::hello),
    row_of("incr", 2, WRITE, Keys::First, "string", "Adds 1 to a number", change::write),
    row_of("incrby", 3, WRITE, Keys::First, "string", "Adds something to a number", change::write),
    row_of("info", -1, SERVER, Keys::None, "server", "Tells how this server is doing, for people", command::info),
    row_of("keys", 2, WALK, Keys::None, "generic", "Lists the keys that match a pattern", look::look),
    row_of("mget", -2, READ, Keys::All, "string", "Reads the values of some keys at one moment", look::look),
    row_of("mset", -3, WRITE, Keys::Odd, "string", "Sets some keys as one", change::write),
    row_of("multi", 1, CONNECT, Keys::None, "transactions", "Collects what follows for a transaction", change::transaction),
    row_of("once", -5, WRITE, Keys::None, "generic", "Writes at most once, however often it is sent", change::once),
    row_of("persist", 2, WRITE, Keys::First, "generic", "Takes the end of a key away", change::write),
    row_of("pexpire", -3, WRITE, Keys::First, "generic", "Lets a key end in so many milliseconds", change::write),
    row_of("pexpireat", -3, WRITE, Keys::First, "generic", "Lets a key end at a time in milliseconds", change::write),
    row_of("ping", -1, CONNECT, Keys::None, "connection", "Asks whether anyone is there", connect::ping),
    row_of("psetex", 4, WRITE, Keys::First, "string", "Sets a key for so many milliseconds", change::write),
    row_of("pttl", 2, READ, Keys::First, "generic", "Tells how many milliseconds a key still stays", look::look),
    row_of("put", 3, WRITE, Keys::First, "string", "Sets a key", change::write),
    row_of("quit", -1, CONNECT, Keys::None, "connection", "Closes the connection", connect::quit),
    row_of("readonly", 1, CONNECT, Keys::None, "cluster", "Lets this connection's reads be stale", connect::readonly),
    row_of("readwrite", 1, CONNECT, Keys::None, "cluster", "Lets this connection's reads be linearizable again", connect::readonly),
    row_of("reset", 1, CONNECT, Keys::None, "connection", "Makes this connection as it was at first", connect::reset),
    row_of("scan", -2, WALK, Keys::None, "generic", "Lists the keys, some at a time", look::look),
    row_of("select", 2, CONNECT, Keys::None, "connection", "Chooses the one database there is", connect::select),
    row_of("session", 1, &["write"], Keys::None, "generic", "Opens a session for ONCE", change::session),
    row_of("set", -3, WRITE, Keys::First, "string", "Sets a key", change::write),
    row_of("setex", 4, WRITE, Keys::First, "string", "Sets a key for so many seconds", change::write),
    row_of("setnx", 3, WRITE, Keys::First, "string", "Sets a key that is not there", change::write),
    row_of("setrange", 4, WRITE, Keys::First, "string", "Overwrites a part of a value", change::write),
    row_of("status", 1, SERVER, Keys::None, "server", "Tells how this server is doing, for programs", command::status),
    row_of("strlen", 2, READ, Keys::First, "string", "Tells how long a value is", look::look),
    row_of("time", 1, SERVER, Keys::None, "server", "Tells the time by which keys end", change::write),
    row_of("ttl", 2, READ, Keys::First, "generic", "Tells how many seconds a key still stays", look::look),
    row_of("type", 2, READ, Keys::First, "generic", "Tells whether a key is there: all values are strings", look::look),
    row_of("unlink", -2, DELETE, Keys::All, "generic", "Removes keys", change::write),
    row_of("unwatch", 1, CONNECT, Keys::None, "transactions", "Watches no key any more", change::transaction),
    row_of("wait", 3, CONNECT, Keys::None, "generic", "Waits until other servers have what was written", command::wait),
    row_of("watch", -2, CONNECT, Keys::All, "transactions", "Lets the next transaction fail if these keys are changed", look::watch),
];

#[rustfmt::skip]
const CLIENT: &[Row] = &[
    row_of("getname", 2, CONNECT, Keys::None, "connection", "Tells the name of this connection", connect::client),
    row_of("id", 2, CONNECT, Keys::None, "connection", "Tells the number of this connection", connect::client),
    row_of("info", 2, CONNECT, Keys::None, "connection", "Tells about this connection", connect::client),
    row_of("list", 2, CONNECT, Keys::None, "connection", "Tells about all connections", connect::client),
    row_of("no-evict", 3, CONNECT, Keys::None, "connection", "Changes nothing: nobody is ever evicted", connect::client_switch),
    row_of("no-touch", 3, CONNECT, Keys::None, "connection", "Changes nothing: reads leave no trace", connect::client_switch),
    row_of("setinfo", 4, CONNECT, Keys::None, "connection", "Names the library of this connection", connect::client_set),
    row_of("setname", 3, CONNECT, Keys::None, "connection", "Names this connection", connect::client_set),
];

#[rustfmt::skip]
const COMMAND: &[Row] = &[
    row_of("count", 2, SERVER, Keys::None, "server", "Counts the commands", catalog::subcommand),
    row_of("docs", -2, SERVER, Keys::None, "server", "Tells what commands are for", catalog::subcommand),
    row_of("info", -2, SERVER, Keys::None, "server", "Tells how commands are written", catalog::subcommand),
    row_of("list", 2, SERVER, Keys::None, "server", "Lists the names of the commands", catalog::subcommand),
];

#[rustfmt::skip]
const CONFIG: &[Row] = &[
    row_of("get", -3, SERVER, Keys::None, "server", "Tells what matches these patterns", command::config_get),
];

#[cfg(test)]
mod tests {
    use super::*;

    fn all() -> impl Iterator<Item = &'static Row> {
        ROWS.iter()
            .flat_map(|row| std::iter::once(row).chain(row.subcommands))
    }

    /// They are searched by halves, in a buffer of their longest name.
    #[test]
    fn rows_stand_in_the_order_of_their_names() {
        for rows in [ROWS, CLIENT, COMMAND, CONFIG] {
            assert!(rows.is_sorted_by(|a, b| a.name < b.name));
        }
        for row in all() {
            assert!(row.name.len() <= NAME_BYTES_MAX);
            assert!(
                row.name
                    .bytes()
                    .all(|b| b.is_ascii_lowercase() || b == b'-')
            );
        }
        assert!(find(b"GeT").is_some_and(|row| row.name == "get"));
        assert!(find(b"").is_none() && find(&[b'g'; 100]).is_none());
    }

    /// The document tells of every command.
    #[test]
    fn the_document_has_a_line_for_each_command() {
        let document = include_str!("../../../PROTOCOL.md");
        for name in ROWS.iter().map(|row| row.name) {
            let word = format!("`{}", name.to_uppercase());
            assert!(document.contains(&word), "{word}");
        }
    }
}
