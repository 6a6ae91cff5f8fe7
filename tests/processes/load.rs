//! Clients that write all the time, each with keys of its own, and remember what they were told.
//!
//! A `Puts` writer stores rising numbers by plain `PUT`s at any server, and now and then reads what
//! was just acknowledged at another one. After a lost reply the write may still be on its way, and
//! may come after later ones; so the writer goes on with a new key, and each key must end at its last
//! acknowledged number or at the one in doubt. A `Count` writer adds 1 to a number, exactly once each
//! time, by a session.

#![allow(
    clippy::disallowed_methods,
    reason = "a client that finds no server pauses before the next try"
)]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use quince::client::{Client, Error, Limits, Settings};
use quince::kv::command::Write;
use quince::wire::client::Reply;
use rand::rngs::ChaCha8Rng;
use rand::{RngExt as _, SeedableRng as _};

use super::{Cluster, LIMIT, Wire, until};

/// What must be true of a key when all is over.
#[derive(Debug)]
pub(crate) enum Claim {
    /// It holds one of these; none stands for no value.
    OneOf(Vec<Option<u64>>),
    /// It holds a number from the first to the second.
    Between(u64, u64),
}

/// A key, and what must be true of it.
pub(crate) type Claims = Vec<(String, Claim)>;

/// The running clients.
pub(crate) struct Load {
    stop: Arc<AtomicBool>,
    acked: Arc<AtomicU64>,
    clients: Vec<JoinHandle<Claims>>,
}

/// What a client needs.
struct Post {
    name: String,
    servers: Vec<String>,
    rng: ChaCha8Rng,
    stop: Arc<AtomicBool>,
    acked: Arc<AtomicU64>,
}

impl Load {
    /// Starts that many clients of each kind.
    pub(crate) fn start(cluster: &Cluster, puts: usize, counts: usize, seed: u64) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let acked = Arc::new(AtomicU64::new(0));
        let post = |kind: &str, number: usize| Post {
            name: format!("{kind}{number}"),
            servers: cluster.addresses(),
            rng: ChaCha8Rng::seed_from_u64(seed ^ ((number as u64) << 8) ^ kind.len() as u64),
            stop: Arc::clone(&stop),
            acked: Arc::clone(&acked),
        };
        let mut clients = Vec::new();
        for number in 0..puts {
            let mut post = post("put", number);
            clients.push(thread::spawn(move || post.puts()));
        }
        for number in 0..counts {
            let post = post("count", number);
            clients.push(thread::spawn(move || post.counts()));
        }
        Self {
            stop,
            acked,
            clients,
        }
    }

    /// How many writes were acknowledged.
    pub(crate) fn acked(&self) -> u64 {
        self.acked.load(Ordering::Relaxed)
    }

    /// Waits until `more` writes were acknowledged from now on.
    pub(crate) fn until_acked(&self, more: u64) {
        let target = self.acked() + more;
        until("writes are acknowledged", || {
            // A client that panicked has seen something wrong: its test ends at once.
            let failed = self.clients.iter().any(JoinHandle::is_finished);
            assert!(!failed, "a client ended early");
            (self.acked() >= target).then_some(())
        });
    }

    /// Lets every client finish what it is doing; what must be true now.
    pub(crate) fn finish(self) -> Claims {
        self.stop.store(true, Ordering::Relaxed);
        let done = self.clients.into_iter().map(JoinHandle::join);
        done.flat_map(|claims| claims.expect("a client panicked"))
            .collect()
    }
}

/// The key that a `Puts` writer is at.
struct Key {
    name: String,
    acked: Option<u64>,
}

impl Post {
    fn goes_on(&self) -> bool {
        !self.stop.load(Ordering::Relaxed)
    }

    fn any_server(&mut self) -> String {
        let at = self.rng.random_range(0..self.servers.len());
        self.servers[at].clone()
    }

    fn puts(&mut self) -> Claims {
        let mut claims = Claims::new();
        let mut key = self.key(0);
        let mut wire = None;
        let mut number = 0;
        while self.goes_on() {
            let Some(open) = &mut wire else {
                // A server that is down refuses at once: its client tries the next one.
                wire = Wire::open(&self.any_server()).ok();
                thread::sleep(Duration::from_millis(1));
                continue;
            };
            number += 1;
            match open
                .try_ask(&format!("PUT {} {number}", key.name))
                .as_deref()
            {
                Ok("OK") => {
                    key.acked = Some(number);
                    self.acked.fetch_add(1, Ordering::Relaxed);
                    if self.rng.random_ratio(1, 4) {
                        self.read_elsewhere(&key);
                    }
                }
                // P46: refused for sure, so this number must never be seen.
                Ok(refused) if refused.starts_with("ERROR NOT_DONE ") => wire = None,
                Ok(unknown) if !unknown.starts_with("ERROR UNKNOWN ") => {
                    panic!("PUT was answered {unknown}")
                }
                _ => {
                    let either = vec![key.acked, Some(number)];
                    let next = self.key(claims.len() + 1);
                    let name = std::mem::replace(&mut key, next).name;
                    claims.push((name, Claim::OneOf(either)));
                    wire = None;
                }
            }
        }
        claims.push((key.name, Claim::OneOf(vec![key.acked])));
        claims
    }

    fn key(&self, number: usize) -> Key {
        Key {
            name: format!("{}.{number}", self.name),
            acked: None,
        }
    }

    /// P28: a read at any server sees what was acknowledged by another before it was sent. A server
    /// that is not there, or cannot reach a majority, has no say.
    fn read_elsewhere(&mut self, key: &Key) {
        let server = self.any_server();
        let Ok(mut wire) = Wire::open(&server) else {
            return;
        };
        let Ok(reply) = wire.try_ask(&format!("GET {}", key.name)) else {
            return;
        };
        let acked = key.acked.expect("only acknowledged keys are read");
        assert!(
            reply == format!("VALUE {acked}") || reply.starts_with("ERROR NOT_DONE "),
            "P28: {} was acknowledged as {acked}, then read at {server}: {reply}",
            key.name
        );
    }

    fn counts(self) -> Claims {
        let settings = Settings {
            limits: Limits {
                silence: LIMIT,
                ..Limits::default()
            },
            deadline: LIMIT,
            unreachable: LIMIT,
            random_start: true,
        };
        let mut client = Client::new(self.servers.clone(), settings);
        let write = Write::Incr {
            key: self.name.as_bytes().into(),
            by: 1,
        };
        let (mut acked, mut in_doubt) = (0, 0);
        while self.goes_on() {
            match client.write(write.clone()) {
                Ok(answer) => {
                    acked += 1;
                    self.acked.fetch_add(1, Ordering::Relaxed);
                    let Reply::Value(value) = answer.reply else {
                        panic!("INCR was answered {}", answer.reply);
                    };
                    let value: u64 = std::str::from_utf8(&value)
                        .ok()
                        .and_then(|text| text.parse().ok())
                        .expect("a number");
                    assert!(
                        (acked..=acked + in_doubt).contains(&value),
                        "P45: {acked} acknowledged and {in_doubt} in doubt make {value}"
                    );
                }
                Err(Error::InDoubt { .. }) => in_doubt += 1,
                Err(Error::NotDone { .. } | Error::Unreachable { .. }) => {}
            }
        }
        vec![(self.name, Claim::Between(acked, acked + in_doubt))]
    }
}

/// Asserts every claim, at every server that runs.
pub(crate) fn assert_claims(cluster: &mut Cluster, claims: &Claims) {
    for server in cluster.servers() {
        if !cluster.runs(server) {
            continue;
        }
        let mut wire = cluster.open(server);
        let mut gets = Vec::new();
        for (key, _) in claims {
            gets.extend_from_slice(format!("GET {key}\n").as_bytes());
        }
        wire.send(gets);
        for (key, claim) in claims {
            let reply = wire.line();
            let found = reply.strip_prefix("VALUE ").map(|value| {
                let value: u64 = value.parse().expect("a number");
                value
            });
            assert!(found.is_some() || reply == "NOT_FOUND", "{key}: {reply}");
            let holds = match claim {
                Claim::OneOf(either) => either.contains(&found),
                Claim::Between(low, high) => (*low..=*high).contains(&found.unwrap_or(0)),
            };
            assert!(holds, "{key} at n{server}: {found:?}, expected {claim:?}");
        }
    }
}
