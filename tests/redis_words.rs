//! The same requests at a Redis 7 and at Quince: every command that both have, with arguments right and
//! wrong, outside of a transaction and inside of one. Each reply, and what it leaves behind, is the same.
//!
//! Where no `redis-server` is installed, this is skipped with a word (`tests/programs/mod.rs`).
//!
//! What differs is told in `PROTOCOL.md`, and named here: [`NOT_IN_REDIS`], [`NOT_INSIDE`],
//! [`is_told_to_differ`].

mod processes;
mod programs;

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::thread;
use std::time::Duration;

use processes::Cluster;
use programs::{Redis, Target};

/// No reply takes so long, on however busy a machine.
const PATIENCE: Duration = Duration::from_mins(3);

/// How far apart two servers may tell a time that is left: the keys were not set at one moment.
const APART_MILLIS: i64 = 300_000;

/// Requests, each of which becomes many: `#` is each of [`NUMBERS`], `~` each of [`SET_OPTIONS`], `^` each
/// of [`EXPIRE_OPTIONS`], and `K` the key.
const ASKED: &[&str] = &[
    "APPEND K v",
    "AUTH default x",
    "AUTH other x",
    "AUTH x",
    "AUTH a b c",
    "CLIENT FOO",
    "CLIENT GETNAME",
    "CLIENT ID",
    "CLIENT INFO",
    "CLIENT LIST",
    "CLIENT NO-EVICT x",
    "CLIENT SETNAME a\nb",
    "CLUSTER INFO",
    "COMMAND COUNT",
    "COMMAND DOCS get",
    "COMMAND FOO",
    "COMMAND INFO get nosuch",
    "CONFIG FOO",
    "CONFIG GET maxmemory",
    "DBSIZE",
    "DECR K",
    "DECRBY K #",
    "DEL K K",
    "DISCARD",
    "ECHO x",
    "EXEC",
    "EXISTS K K",
    "EXPIRE K #",
    "EXPIRE K 1000 ^ ^",
    "EXPIRE K x ^",
    "EXPIREAT K #",
    "FLUSHALL ASYNC SYNC",
    "FLUSHALL FOO",
    "FLUSHDB FOO",
    "GET K",
    "GETDEL K",
    "GETRANGE K # 3",
    "GETRANGE K 0 #",
    "GETSET K v",
    "HELLO 2",
    "HELLO 2 AUTH default",
    "HELLO 2 AUTH default x",
    "HELLO 2 FOO",
    "HELLO 2 SETNAME",
    "HELLO 9",
    "HELLO x",
    "INCR K",
    "INCRBY K #",
    "INFO server",
    "KEYS nothing*",
    "MGET K K",
    "MSET K v K w",
    "MSET K v x",
    "MULTI x",
    "NOSUCH K",
    "PERSIST K",
    "PEXPIRE K #",
    "PEXPIRE K 1000000 ^",
    "PEXPIREAT K #",
    "PING x",
    "PSETEX K # v",
    "PTTL K",
    "READONLY x",
    "READWRITE x",
    "QUIT",
    "RESET",
    "SCAN # x",
    "SCAN x",
    "SCAN 0 COUNT #",
    "SCAN 0 FOO x",
    "SCAN 0 MATCH nothing* COUNT 1000000 TYPE string",
    "SELECT 0",
    "SELECT x",
    "SET K v ~ ~",
    "SET K v EX #",
    "SET K v PX #",
    "SET K v EXAT #",
    "SET K v PXAT #",
    "SET K v EX # FOO",
    "SET K v EX # EX 1000",
    "SETEX K # v",
    "SETNX K v",
    "SETRANGE K # xy",
    "STRLEN K",
    "TIME",
    "TTL K",
    "TYPE K",
    "UNLINK K K",
    "UNWATCH",
    "WAIT 0 x",
    "WAIT 0 -1",
    "WAIT x 0",
    "WATCH",
];

/// A life of so many milliseconds or seconds outlasts the test.
const NUMBERS: &[&str] = &[
    "",
    "x",
    "-1",
    "0",
    "-0",
    "01",
    "+1",
    "1.5",
    "1000000",
    "9223372036854775807",
    "9223372036854775808",
    "-9223372036854775808",
    "-9223372036854775809",
    "9223372036854775",
    "9223372036854776",
    "-9223372036854775",
    "-9223372036854776",
    "9223372036854770000",
];

const SET_OPTIONS: &[&str] = &[
    "",
    "NX",
    "xx",
    "GET",
    "KEEPTTL",
    "EX 1000",
    "px 1000000",
    "EXAT 99999999999",
    "PXAT 99999999999999",
    "EX 0",
    "EX",
    "FOO",
];

const EXPIRE_OPTIONS: &[&str] = &["", "NX", "xx", "GT", "lt", "FOO"];

/// What a key is like before: nothing, a number, a word, a number that ends.
const MADE: &[&[&str]] = &[&[], &["SET K 5"], &["SET K word"], &["SET K 5 EX 5000"]];

/// Commands of Quince alone.
const NOT_IN_REDIS: &[&str] = &["cas", "delete", "once", "put", "session", "status"];

/// What is not asked inside of a transaction: what no log can answer, which Redis takes there; what begins
/// or ends one, which has a test of its own; and what is told of a server or of the time that is left, which
/// differs by nature.
const NOT_INSIDE: &[&str] = &[
    "CLIENT",
    "COMMAND",
    "CONFIG",
    "HELLO",
    "INFO",
    "KEYS",
    "READONLY",
    "READWRITE",
    "SCAN",
    "WAIT",
    "DISCARD",
    "EXEC",
    "MULTI",
    "RESET",
    "WATCH",
    "DBSIZE",
    "PTTL",
    "TIME",
    "TTL",
];

/// Commands whose replies tell of a server: only what kind they are is compared, and every error.
const OF_A_SERVER: &[&str] = &[
    "CLIENT", "COMMAND", "CONFIG", "DBSIZE", "HELLO", "INFO", "SCAN", "TIME",
];

/// What `PROTOCOL.md` tells to be otherwise than in Redis.
fn is_told_to_differ(request: &str) -> bool {
    let words: Vec<String> = request.split(' ').map(str::to_lowercase).collect();
    let has = |word: &str| words.iter().any(|found| found == word);
    let second = words.get(1).map_or("", String::as_str);
    match words[0].as_str() {
        // Both together are refused, unless something else is wrong as well.
        "expire" => has("xx") && has("lt") && !has("foo") && !has("nx"),
        // A cursor is good at the server that gave it.
        "scan" => words.len() > 1 && !["0", "x"].contains(&second),
        // There are no filters, and no subcommands.
        "client" => second == "list" && words.len() > 2,
        "cluster" => words.len() > 2,
        // Reads that may be stale, where Redis has them in a cluster only.
        "readonly" | "readwrite" => words.len() == 1,
        _ => false,
    }
}

/// Every request of the table.
fn requests() -> Vec<String> {
    let mut all = BTreeSet::new();
    for asked in ASKED {
        let mut forms = vec![(*asked).to_owned()];
        for (sign, words) in [('#', NUMBERS), ('~', SET_OPTIONS), ('^', EXPIRE_OPTIONS)] {
            while forms.iter().any(|form| form.contains(sign)) {
                let each = |form: &String| {
                    let form = form.clone();
                    words.iter().map(move |word| form.replacen(sign, word, 1))
                };
                forms = forms.iter().flat_map(each).collect();
            }
        }
        for form in forms {
            // An option that is not there leaves no word; a number that is empty is one.
            let form = if asked.contains(['~', '^']) {
                form.split(' ')
                    .filter(|word| !word.is_empty())
                    .collect::<Vec<_>>()
                    .join(" ")
            } else {
                form
            };
            // One word less, and one more.
            if let Some((less, _)) = form.rsplit_once(' ') {
                all.insert(less.to_owned());
            }
            all.insert(format!("{form} more"));
            all.insert(form);
        }
    }
    // What closes the connection, takes all that follows, or removes all keys has no place among others.
    let alone = [
        "QUIT",
        "QUIT more",
        "MULTI",
        "FLUSHALL",
        "FLUSHALL ASYNC",
        "FLUSHDB",
    ];
    all.retain(|request| !alone.contains(&request.as_str()) && !is_told_to_differ(request));
    all.into_iter().collect()
}

/// A reply, as it stands on the wire, but for its line ends.
fn reply(stream: &mut impl BufRead) -> String {
    let mut line = String::new();
    stream.read_line(&mut line).expect("a reply");
    let head = line.trim_end().to_owned();
    let number = |text: &str| text.parse::<usize>().ok();
    match head.split_at_checked(1) {
        Some(("$", length)) => match number(length) {
            None => head,
            Some(length) => {
                let mut bytes = vec![0; length + 2];
                stream.read_exact(&mut bytes).expect("a reply");
                format!("${}", bytes[..length].escape_ascii())
            }
        },
        Some(("*" | "%", count)) => match number(count) {
            None => head,
            Some(count) => {
                let count = if head.starts_with('%') {
                    2 * count
                } else {
                    count
                };
                let all: Vec<String> = (0..count).map(|_| reply(stream)).collect();
                format!("*[{}]", all.join(" "))
            }
        },
        Some(_) => head,
        None => panic!("the connection was closed"),
    }
}

struct Server {
    stream: TcpStream,
    replies: BufReader<TcpStream>,
}

impl Server {
    fn open(target: &Target) -> Self {
        let address: SocketAddr = target.address().parse().expect("an address");
        let stream = TcpStream::connect_timeout(&address, PATIENCE).expect("it listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("a socket");
        let replies = BufReader::new(stream.try_clone().expect("a second handle"));
        Self { stream, replies }
    }

    /// Sends all of these at once, and returns all replies.
    fn ask_all(&mut self, requests: &[String]) -> Vec<String> {
        let mut bytes = Vec::new();
        for request in requests {
            let words: Vec<&str> = request.split(' ').collect();
            bytes.extend_from_slice(format!("*{}\r\n", words.len()).as_bytes());
            for word in words {
                bytes.extend_from_slice(format!("${}\r\n{word}\r\n", word.len()).as_bytes());
            }
        }
        let mut stream = self.stream.try_clone().expect("a second handle");
        let sender = thread::spawn(move || stream.write_all(&bytes));
        let replies = requests.iter().map(|_| reply(&mut self.replies)).collect();
        sender.join().expect("no panic").expect("all was sent");
        replies
    }
}

/// Whether two replies to a request are as good as the same.
fn agree(request: &str, redis: &str, quince: &str) -> bool {
    let name = name(request);
    let error = redis.starts_with('-') || quince.starts_with('-');
    if error {
        // Where there is help is another matter.
        let until_help = |text: &str| text.split("'. Try ").next().map(str::to_owned);
        return until_help(redis) == until_help(quince);
    }
    if OF_A_SERVER.contains(&name) {
        return redis.get(..1) == quince.get(..1);
    }
    let left = |text: &str| text.strip_prefix(':').and_then(|n| n.parse::<i64>().ok());
    match (name, left(redis), left(quince)) {
        ("TTL" | "PTTL", Some(redis), Some(quince)) if redis > 0 => {
            let unit = if name == "TTL" { 1_000 } else { 1 };
            quince > 0 && (redis - quince).abs() * unit < APART_MILLIS
        }
        _ => redis == quince,
    }
}

/// Asks both the same, and compares each reply. Beside each request stands what it is about.
fn hold(redis: &mut Server, quince: &mut Server, requests: &[(String, String)]) {
    let all: Vec<String> = requests
        .iter()
        .map(|(request, _)| request.clone())
        .collect();
    let replies = redis.ask_all(&all).into_iter().zip(quince.ask_all(&all));
    let differ: Vec<String> = requests
        .iter()
        .zip(replies)
        .filter(|((request, _), (redis, quince))| !agree(request, redis, quince))
        .map(|((request, about), (redis, quince))| {
            format!("{about}: {request:?}\n  {redis}\n  {quince}")
        })
        .collect();
    let shown = differ[..differ.len().min(40)].join("\n");
    assert!(differ.is_empty(), "{} differ:\n{shown}", differ.len());
}

/// A14: whoever programs for Redis gets the same answers.
#[test]
fn every_command_answers_as_redis_does() {
    let Some(redis) = Redis::start() else {
        return;
    };
    let cluster = Cluster::start(1, &[]);
    let mut quince = Server::open(&Target::of(&cluster, 1));
    let mut redis = Server::open(redis.target());
    let requests = requests();

    // Each command that Quince has is asked for.
    let listed = quince.ask_all(&["COMMAND LIST".to_owned()]).remove(0);
    let listed = listed.trim_start_matches("*[").trim_end_matches(']');
    for name in listed.split(' ').map(|name| name.trim_start_matches('$')) {
        let is_asked = |asked: &&str| asked.split(' ').next() == Some(&name.to_uppercase());
        let asked = ASKED.iter().any(is_asked);
        assert_ne!(asked, NOT_IN_REDIS.contains(&name), "{name}");
    }

    let mut compared = 0;
    for inside in [false, true] {
        for (state, made) in MADE.iter().enumerate() {
            let (mut make, mut ask, mut look) = (Vec::new(), Vec::new(), Vec::new());
            for (at, request) in requests.iter().enumerate() {
                if inside && NOT_INSIDE.contains(&name(request)) {
                    continue;
                }
                let key = format!("k{}.{state}.{at}", u8::from(inside));
                let about = format!("{made:?}, {request:?}");
                let one = |text: &str| (named(text, &key), about.clone());
                make.extend(made.iter().map(|text| one(text)));
                if inside {
                    ask.extend(["MULTI", request, "EXEC"].map(one));
                } else {
                    ask.push(one(request));
                }
                look.extend(["GET K", "PTTL K"].map(one));
            }
            for all in [make, ask, look] {
                hold(&mut redis, &mut quince, &all);
                compared += all.len();
            }
        }
    }
    assert!(compared > 5_000, "{compared}");
}

/// The first word of a request.
fn name(request: &str) -> &str {
    request.split(' ').next().unwrap_or_default()
}

/// A request about this key.
fn named(request: &str, key: &str) -> String {
    let words = request.split(' ');
    let words = words.map(|word| if word == "K" { key } else { word });
    words.collect::<Vec<_>>().join(" ")
}

/// What a request does to the transaction that it is in.
const TALKS: &[&[&str]] = &[
    &["EXEC"],
    &["DISCARD"],
    &["EXEC blah"],
    &["MULTI", "EXEC blah", "EXEC"],
    &[
        "MULTI",
        "SET a 1",
        "EXEC blah",
        "GET a",
        "MULTI",
        "SET a 2",
        "EXEC",
        "GET a",
    ],
    &[
        "WATCH a",
        "MULTI",
        "EXEC blah",
        "SET a 1",
        "MULTI",
        "GET a",
        "EXEC",
    ],
    &["MULTI", "MULTI", "SET a 1", "EXEC"],
    &["MULTI", "MULTI x", "SET a 1", "EXEC", "GET a"],
    &["MULTI", "WATCH a", "SET a 1", "EXEC"],
    &["MULTI", "WATCH", "SET a 1", "EXEC", "GET a"],
    &["MULTI", "DISCARD x", "SET a 1", "EXEC", "EXEC"],
    &["MULTI", "UNWATCH", "UNWATCH x", "EXEC"],
    &["MULTI", "RESET", "EXEC"],
    &["MULTI", "RESET x", "EXEC"],
    &["MULTI", "NOSUCH", "EXEC"],
    &["MULTI", "GET", "EXEC"],
    &["MULTI", "CLIENT NOSUCH", "EXEC"],
    &["MULTI", "CLIENT SETNAME", "EXEC"],
    &["MULTI", "CONFIG GET", "EXEC"],
    &[
        "MULTI",
        "SET a 1 EX 0",
        "SET a 1 FOO",
        "MSET a 1 b",
        "INCR a",
        "EXEC",
        "GET a",
    ],
    &[
        "MULTI",
        "INCRBY a x",
        "GETRANGE a x y",
        "SELECT x",
        "AUTH a b c",
        "CLUSTER INFO",
        "EXEC",
    ],
    &["SET a word", "MULTI", "INCR a", "GET a", "EXEC"],
    &[
        "SET a 1", "WATCH a", "SET a 2", "MULTI", "GET a", "EXEC", "GET a",
    ],
    &[
        "SET a 1",
        "WATCH a",
        "EXPIRE a -1",
        "MULTI",
        "GET a",
        "EXEC",
    ],
    &[
        "SET a 1", "WATCH a", "UNWATCH", "SET a 2", "MULTI", "GET a", "EXEC",
    ],
    &["WATCH a", "DISCARD", "SET a 2", "MULTI", "GET a", "EXEC"],
];

/// A14: a transaction ends, is spoilt or goes on where it does in Redis.
#[test]
fn a_transaction_goes_as_in_redis() {
    let Some(redis) = Redis::start() else {
        return;
    };
    let cluster = Cluster::start(1, &[]);
    let mut quince = Server::open(&Target::of(&cluster, 1));
    let mut redis = Server::open(redis.target());
    for talk in TALKS {
        let begin = ["RESET", "FLUSHALL"].iter().chain(*talk);
        let requests = begin.map(|text| ((*text).to_owned(), format!("{talk:?}")));
        hold(&mut redis, &mut quince, &requests.collect::<Vec<_>>());
    }
}

/// A14, B15: bytes that are no array of bulk strings, and what is left of the connection behind them.
#[test]
fn a_frame_is_taken_or_refused_as_in_redis() {
    let Some(redis) = Redis::start() else {
        return;
    };
    let cluster = Cluster::start(1, &[]);
    let (redis, quince) = (redis.target().clone(), Target::of(&cluster, 1));
    // Each is followed by a `PING`; the first word of every connection is one, which makes it RESP.
    for bytes in [
        &b"*-1\r\n"[..],
        b"*-10\r\n",
        b"*-9223372036854775808\r\n",
        b"*-9223372036854775809\r\n",
        b"*0\r\n",
        b"*-0\r\n",
        b"*-01\r\n",
        b"*+1\r\n",
        b"*\r\n",
        b"*-\r\n",
        b"*x\r\n",
        b"*1\r\n$-1\r\n",
        b"*1\r\n$x\r\n",
        b"*1\r\nPING\r\n",
        b"\r\n",
        b"   \r\n",
        b"PING \"x\r\n",
        b"GET stolen\r\n",
    ] {
        let said = |target: &Target| {
            let mut server = Server::open(target);
            let ping = b"*1\r\n$4\r\nPING\r\n";
            let sent = server.stream.write_all(&[ping, bytes, ping].concat());
            sent.expect("it takes what is sent");
            let end = server.stream.shutdown(std::net::Shutdown::Write);
            end.expect("a socket");
            let mut said = String::new();
            server.replies.read_to_string(&mut said).expect("text");
            said
        };
        assert_eq!(said(&quince), said(&redis), "{}", bytes.escape_ascii());
    }
    // HTTP: Redis closes without a word, and so must nothing that follows be done.
    for http in ["POST / HTTP/1.1", "post", "Host: localhost", "hOST: x"] {
        for target in [&redis, &quince] {
            let mut server = Server::open(target);
            assert_eq!(server.ask_all(&["PING".to_owned()]), ["+PONG"]);
            let page = format!("{http}\r\n\r\nSET stolen x\r\nGET stolen\r\n");
            server.stream.write_all(page.as_bytes()).expect("a socket");
            let mut said = Vec::new();
            // A connection that is closed with bytes on the way may be reset.
            let _ = server.replies.read_to_end(&mut said);
            let said = String::from_utf8_lossy(&said).into_owned();
            assert!(said.is_empty() || said.starts_with("-ERR "), "{said}");
            assert!(said.lines().count() < 2, "{said}");
        }
    }
    for target in [&redis, &quince] {
        let told = Server::open(target).ask_all(&["EXISTS stolen".to_owned()]);
        assert_eq!(told, [":0"]);
    }
}
