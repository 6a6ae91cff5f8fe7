//! What a connection of RESP is told of the server and of the connections.
//!
//! Only what is so: a field of Redis that has no meaning here is left out.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::sync::atomic::Ordering;

use crate::kv::command::Bytes;
use crate::wire::resp::{ARGUMENT_BYTES_MAX, Label, Pattern, Protocol, REDIS_VERSION, Reply};

use super::super::cost::resident_bytes;
use super::run::Server;
use super::{Connection, Open};

/// What a client has told of itself, and what it speaks.
#[derive(Default)]
pub(super) struct Labels {
    name: Bytes,
    library: Bytes,
    library_version: Bytes,
    /// None in plain lines.
    protocol: Option<Protocol>,
}

impl Labels {
    pub(super) fn set(&mut self, label: Label, text: Bytes) {
        *match label {
            Label::Name => &mut self.name,
            Label::Library => &mut self.library,
            Label::LibraryVersion => &mut self.library_version,
        } = text;
    }

    pub(super) fn set_protocol(&mut self, protocol: Protocol) {
        self.protocol = Some(protocol);
    }

    /// The name, if there is one.
    pub(super) fn name(&self) -> Option<Bytes> {
        Some(self.name.clone()).filter(|name| !name.is_empty())
    }
}

impl Connection {
    /// This connection as a line of `CLIENT LIST`, with its LF.
    pub(super) fn line(&self) -> String {
        let address = |address: std::io::Result<SocketAddr>| {
            address.map_or_else(|_| "?".into(), |address| address.to_string())
        };
        let labels = self.labels.lock();
        let text = |bytes: &Bytes| String::from_utf8_lossy(bytes).into_owned();
        format!(
            "id={} addr={} laddr={} name={} age={} flags=N db=0 user=default lib-name={} lib-ver={} resp={}\n",
            self.number,
            address(self.stream.peer_addr()),
            address(self.stream.local_addr()),
            text(&labels.name),
            self.since.elapsed().as_secs(),
            text(&labels.library),
            text(&labels.library_version),
            labels.protocol.map_or(0, Protocol::number),
        )
    }
}

impl Open {
    /// All connections, a line each.
    pub(super) fn lines(&self) -> String {
        let open: Vec<_> = self.by_number.lock().values().cloned().collect();
        open.iter().map(|connection| connection.line()).collect()
    }

    fn count(&self) -> usize {
        self.by_number.lock().len()
    }
}

/// What `CONFIG GET` tells, of what matches one of the patterns.
pub(super) fn config(server: &Server, patterns: &[Bytes]) -> Reply {
    let clients_max = server.open.limit.to_string();
    let bulk_bytes_max = ARGUMENT_BYTES_MAX.to_string();
    let settings = [
        ("appendfsync", "always"),
        ("appendonly", "yes"),
        ("databases", "1"),
        ("maxclients", &clients_max),
        ("maxmemory", "0"),
        ("maxmemory-policy", "noeviction"),
        ("proto-max-bulk-len", &bulk_bytes_max),
        ("save", ""),
        ("timeout", "0"),
    ];
    let mut wanted = settings.map(|_| false);
    for pattern in patterns {
        let pattern = Pattern::new(&pattern.to_ascii_lowercase());
        for ((name, _), wanted) in settings.iter().zip(&mut wanted) {
            *wanted |= pattern.matches(name.as_bytes());
        }
    }
    let settings = settings
        .into_iter()
        .zip(wanted)
        .filter(|(_, wanted)| *wanted);
    Reply::Map(
        settings
            .map(|((name, value), _)| (Reply::text(name), Reply::text(value)))
            .collect(),
    )
}

/// What `STATUS` tells. A name comes once, so that the fields fit into a map.
pub(super) fn status(fields: Vec<(String, String)>) -> Reply {
    let field = |(name, value)| {
        let (name, value) = named(name, value);
        (Reply::text(name), Reply::text(value))
    };
    Reply::Map(fields.into_iter().map(field).collect())
}

/// `peer` with `n2 up` is `peer_n2` with `up`.
fn named(name: String, value: String) -> (String, String) {
    match value.split_once(' ') {
        Some((peer, state)) if name == "peer" => (format!("peer_{peer}"), state.to_owned()),
        _ => (name, value),
    }
}

/// What `INFO` tells in these sections, or in all.
pub(super) fn info(server: &Server, sections: &[Bytes], fields: &[(String, String)]) -> Reply {
    let field = |name: &str| {
        let found = fields.iter().find(|(field, _)| field == name);
        found.map_or("", |(_, value)| value)
    };
    let all = ["all", "default", "everything"];
    let is_wanted = |name: &str| {
        let mut sections = sections
            .iter()
            .map(|section| String::from_utf8_lossy(section));
        sections.len() == 0
            || sections.any(|section| {
                let is = |name: &str| section.eq_ignore_ascii_case(name);
                is(name) || all.into_iter().any(is)
            })
    };
    let mut own = format!("quince_version:{}\r\n", env!("CARGO_PKG_VERSION"));
    for (name, value) in fields.iter().cloned() {
        let (name, value) = named(name, value);
        write!(own, "{name}:{value}\r\n").expect("a text takes every text");
    }
    let keyspace = match field("keys") {
        "0" => String::new(),
        keys => {
            let mortal = server.store.mortal();
            format!("db0:keys={keys},expires={mortal},avg_ttl=0\r\n")
        }
    };
    let memory = resident_bytes().map_or(String::new(), |bytes| {
        format!("used_memory:{bytes}\r\nused_memory_rss:{bytes}\r\n")
    }) + &format!("mem_clients_normal:{}\r\n", server.open.budget.held());
    let mut text = String::new();
    for (name, lines) in [
        (
            "Server",
            format!(
                "redis_version:{REDIS_VERSION}\r\nredis_mode:standalone\r\nprocess_id:{}\r\nuptime_in_seconds:{}\r\n",
                std::process::id(),
                field("uptime_s"),
            ),
        ),
        (
            "Clients",
            format!(
                "connected_clients:{}\r\nblocked_clients:{}\r\nmaxclients:{}\r\n",
                server.open.count(),
                server.waiting.load(Ordering::Relaxed),
                server.open.limit
            ),
        ),
        ("Memory", memory),
        (
            "Stats",
            format!(
                "total_connections_received:{}\r\ntotal_commands_processed:{}\r\n",
                server.open.received(),
                server.served.load(Ordering::Relaxed),
            ),
        ),
        ("Persistence", "loading:0\r\n".into()),
        ("Replication", "role:master\r\n".into()),
        ("Cluster", "cluster_enabled:0\r\n".into()),
        ("Keyspace", keyspace),
        ("Quince", own),
    ] {
        if is_wanted(name) {
            let gap = if text.is_empty() { "" } else { "\r\n" };
            write!(text, "{gap}# {name}\r\n{lines}").expect("a text takes every text");
        }
    }
    Reply::text(text)
}
