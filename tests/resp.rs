//! RESP against running servers: what client libraries say when they connect, every command, every way
//! to send badly, and what holds when others write or are gone.

#![allow(
    clippy::disallowed_methods,
    reason = "how long a key stays is measured by the clock"
)]

mod processes;

use std::fmt;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Shutdown, TcpStream};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use processes::{Cluster, Script, until};

const VALUE_BYTES_MAX: usize = 1_048_576;

/// What a server said, as it stands on the wire.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Value {
    Simple(String),
    Error(String),
    Integer(i64),
    Bulk(Vec<u8>),
    Null,
    Array(Vec<Value>),
    Map(Vec<(Value, Value)>),
}

/// For scripts: `+OK`, `-ERR text`, `:1`, `pear`, `nil`, `[a b]`, `{a=b}`; bytes that are no text are
/// escaped.
impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let joined = |parts: Vec<String>| parts.join(" ");
        match self {
            Self::Simple(text) => write!(f, "+{text}"),
            Self::Error(text) => write!(f, "-{text}"),
            Self::Integer(number) => write!(f, ":{number}"),
            Self::Bulk(bytes) => write!(f, "{}", bytes.escape_ascii()),
            Self::Null => f.write_str("nil"),
            Self::Array(values) => {
                let values = values.iter().map(Value::to_string).collect();
                write!(f, "[{}]", joined(values))
            }
            Self::Map(pairs) => {
                let pairs = pairs.iter().map(|(key, value)| format!("{key}={value}"));
                write!(f, "{{{}}}", joined(pairs.collect()))
            }
        }
    }
}

impl Value {
    fn elements(self) -> Vec<Value> {
        match self {
            Self::Array(values) => values,
            other => panic!("expected an array, found {other}"),
        }
    }
}

/// A request as client libraries write it.
fn request<W: AsRef<[u8]>>(words: &[W]) -> Vec<u8> {
    let mut out = format!("*{}\r\n", words.len()).into_bytes();
    for word in words {
        let word = word.as_ref();
        out.extend_from_slice(format!("${}\r\n", word.len()).as_bytes());
        out.extend_from_slice(word);
        out.extend_from_slice(b"\r\n");
    }
    out
}

/// The words of a line, one space between each two.
fn line(text: &str) -> Vec<u8> {
    request(&text.split(' ').collect::<Vec<_>>())
}

/// A connection that speaks RESP.
struct Resp {
    stream: TcpStream,
    replies: BufReader<TcpStream>,
}

impl Resp {
    fn open(cluster: &Cluster, server: u8) -> Self {
        let wire = cluster.open(server);
        let stream = wire.stream().try_clone().expect("a second handle");
        let replies = BufReader::new(stream.try_clone().expect("a third handle"));
        Self { stream, replies }
    }

    fn send(&mut self, bytes: impl AsRef<[u8]>) {
        let sent = self.stream.write_all(bytes.as_ref());
        sent.expect("the server takes what is sent");
    }

    fn line(&mut self) -> String {
        let mut line = Vec::new();
        self.replies.read_until(b'\n', &mut line).expect("a line");
        assert!(line.ends_with(b"\r\n"), "{}", line.escape_ascii());
        line.truncate(line.len() - 2);
        String::from_utf8(line).expect("text")
    }

    fn value(&mut self) -> Value {
        let line = self.line();
        let (kind, rest) = line.split_at(1);
        let number = || rest.parse::<i64>().expect("a number");
        match (kind, rest) {
            ("+", text) => Value::Simple(text.into()),
            ("-", text) => Value::Error(text.into()),
            (":", _) => Value::Integer(number()),
            ("$" | "*", "-1") | ("_", "") => Value::Null,
            ("$", _) => {
                let mut bytes = vec![0; usize::try_from(number()).expect("a length") + 2];
                self.replies.read_exact(&mut bytes).expect("the bytes");
                assert!(bytes.ends_with(b"\r\n"));
                bytes.truncate(bytes.len() - 2);
                Value::Bulk(bytes)
            }
            ("*", _) => Value::Array((0..number()).map(|_| self.value()).collect()),
            ("%", _) => {
                let pair = |_| (self.value(), self.value());
                Value::Map((0..number()).map(pair).collect())
            }
            _ => panic!("expected a reply, found {line}"),
        }
    }

    fn ask(&mut self, text: &str) -> String {
        self.send(line(text));
        self.value().to_string()
    }

    /// Sends each line and expects the reply beside it.
    fn converse(&mut self, script: &[(&str, &str)]) {
        let told = Script::begin();
        for (text, reply) in script {
            let found = self.ask(text);
            assert!(told.agrees(&found, reply), "{text}: {found}, not {reply}");
        }
    }

    fn assert_closed(&mut self) {
        let mut rest = Vec::new();
        let end = self.replies.read_to_end(&mut rest);
        assert!(
            end.is_ok() && rest.is_empty(),
            "{end:?} {}",
            rest.escape_ascii()
        );
    }
}

fn single(flags: &[&str]) -> Cluster {
    Cluster::start(1, flags)
}

fn three() -> Cluster {
    Cluster::start(3, &[])
}

#[test]
fn every_command_on_the_map_has_its_reply() {
    let cluster = single(&[]);
    let mut resp = Resp::open(&cluster, 1);
    resp.converse(&[
        ("PING", "+PONG"),
        ("SET pear 2.10", "+OK"),
        ("get pear", "2.10"),
        ("GET plum", "nil"),
        ("STRLEN pear", ":4"),
        ("STRLEN plum", ":0"),
        ("GETRANGE pear 2 -1", "10"),
        ("GETRANGE plum 0 -1", ""),
        ("TYPE pear", "+string"),
        ("TYPE plum", "+none"),
        ("EXISTS pear plum pear", ":2"),
        ("MGET pear plum pear", "[2.10 nil 2.10]"),
        ("DEL pear", ":1"),
        ("DEL pear", ":0"),
        ("UNLINK pear", ":0"),
        ("INCR visits", ":1"),
        ("INCRBY visits 9", ":10"),
        ("DECR visits", ":9"),
        ("DECRBY visits 19", ":-10"),
        ("SET text x", "+OK"),
        ("INCR text", "-ERR value is not an integer or out of range"),
        ("SET max 9223372036854775807", "+OK"),
        ("INCR max", "-ERR increment or decrement would overflow"),
        ("DBSIZE", ":3"),
        ("KEYS *", "[max text visits]"),
        ("KEYS [mt]*x*", "[max text]"),
        ("KEYS nothing*", "[]"),
        ("SCAN 0", "[0 [max text visits]]"),
        ("SCAN 0 MATCH t* COUNT 100", "[0 [text]]"),
        ("SCAN 0 TYPE list", "[0 []]"),
        ("PUT pear a", "+OK"),
        ("CAS pear b c", "a"),
        ("CAS pear a c", ":1"),
        ("CAS plum a c", "nil"),
        ("DELETE pear", ":1"),
        ("SESSION", ":1"),
        ("ONCE 1 1 INCR visits", ":-9"),
        ("ONCE 1 1 INCR visits", ":-9"),
        ("ONCE 1 2 SET a b", "+OK"),
        ("ONCE 1 2 DEL a", ":1"),
        ("GET a", "b"),
        (
            "ONCE 1 1 INCR visits",
            "-STALESEQ expected seq 2, the last of this session, or a higher one",
        ),
        (
            "ONCE 1 1 MSET visits 1",
            "-STALESEQ expected seq 2, the last of this session, or a higher one",
        ),
        (
            "ONCE 999 1 MSET visits 1",
            "-NOSESSION no such session: it was never opened or has ended (SESSION opens one)",
        ),
        ("GET visits", "-9"),
        (
            "ONCE 2 1 INCR visits",
            "-NOSESSION no such session: it was never opened or has ended (SESSION opens one)",
        ),
    ]);
}

/// Each beside what Redis 7.0 answers.
#[test]
fn keys_are_set_under_conditions_and_for_a_time() {
    let cluster = single(&[]);
    let mut resp = Resp::open(&cluster, 1);
    resp.converse(&[
        ("SETNX k v", ":1"),
        ("SETNX k w", ":0"),
        ("SET k w NX", "nil"),
        ("SET no w XX", "nil"),
        ("SET k w XX GET", "v"),
        ("GETSET k x", "w"),
        ("APPEND k yz", ":3"),
        ("SETRANGE k 5 !", ":6"),
        ("GETRANGE k 0 2", "xyz"),
        ("TTL k", ":-1"),
        ("TTL no", ":-2"),
        ("EXPIRE no 100", ":0"),
        ("EXPIRE k 100", ":1"),
        ("TTL k", ":~100"),
        ("EXPIRE k 50 GT", ":0"),
        ("SET k v KEEPTTL", "+OK"),
        ("TTL k", ":~100"),
        ("PERSIST k", ":1"),
        ("PERSIST k", ":0"),
        ("SETEX k 100 v", "+OK"),
        ("INCR n", ":1"),
        ("EXPIRE n -1", ":1"),
        ("EXISTS n", ":0"),
        ("MSET a 1 b 2 c 3", "+OK"),
        ("DEL a b no", ":2"),
        ("GETDEL c", "3"),
        ("DBSIZE", ":1"),
        ("FLUSHALL", "+OK"),
        ("DBSIZE", ":0"),
    ]);
}

/// A key is gone when its time is over, though nobody writes; and not before.
#[test]
fn a_key_ends_by_itself_on_every_server() {
    let cluster = three();
    let mut servers: Vec<Resp> = (1..=3).map(|id| Resp::open(&cluster, id)).collect();
    // The log counts whole milliseconds: a part of one more may pass, and none less, at whichever part
    // of one the life begins.
    for _ in 0..50 {
        let (set, wall) = (Instant::now(), SystemTime::now());
        servers[0].converse(&[("SET k v PX 20", "+OK")]);
        for server in &mut servers {
            while server.ask("GET k") == "v" {
                assert!(set.elapsed() < Duration::from_secs(30));
            }
            // The servers go by the machine's clock, which somebody may set.
            let lived = set.elapsed().max(wall.elapsed().unwrap_or_default());
            assert!(lived >= Duration::from_millis(20), "{lived:?}");
        }
    }
    for server in &mut servers {
        server.converse(&[
            ("GET k", "nil"),
            ("PTTL k", ":-2"),
            ("SETNX k w", ":1"),
            ("DEL k", ":1"),
        ]);
    }
}

#[test]
fn a_transaction_is_done_whole_or_not_at_all() {
    let cluster = three();
    let (mut one, mut other) = (Resp::open(&cluster, 1), Resp::open(&cluster, 2));
    one.converse(&[
        ("SET k 1", "+OK"),
        ("MULTI", "+OK"),
        ("INCR k", "+QUEUED"),
        ("SET s x", "+QUEUED"),
        ("INCR s", "+QUEUED"),
        ("MGET k s no", "+QUEUED"),
        ("PING", "+QUEUED"),
        ("DEL k s no", "+QUEUED"),
        ("TTL k", "+QUEUED"),
    ]);
    // Nothing is done before.
    other.converse(&[("GET k", "1")]);
    one.converse(&[
        (
            "EXEC",
            "[:2 +OK -ERR value is not an integer or out of range [2 x nil] +PONG :2 :-2]",
        ),
        ("WATCH k l", "+OK"),
        ("MULTI", "+OK"),
        ("SET l mine", "+QUEUED"),
    ]);
    other.converse(&[("SET k theirs", "+OK")]);
    one.converse(&[
        ("EXEC", "nil"),
        ("EXISTS l", ":0"),
        // It is forgotten with the transaction.
        ("MULTI", "+OK"),
        ("SET l mine", "+QUEUED"),
        ("EXEC", "[+OK]"),
        ("WATCH k", "+OK"),
    ]);
    // The same value again is a change.
    other.converse(&[("SET k theirs", "+OK")]);
    one.converse(&[
        ("MULTI", "+OK"),
        ("EXEC", "nil"),
        ("MULTI", "+OK"),
        ("SET l spoilt", "+QUEUED"),
        ("KEYS *", "-ERR Command not allowed inside a transaction"),
        ("MULTI", "-ERR MULTI calls can not be nested"),
        ("WATCH k", "-ERR WATCH inside MULTI is not allowed"),
        (
            "EXEC",
            "-EXECABORT Transaction discarded because of previous errors.",
        ),
        ("GET l", "mine"),
        ("MULTI", "+OK"),
        ("DISCARD", "+OK"),
        ("MULTI", "+OK"),
        ("EXEC", "[]"),
    ]);
}

/// What is refused is done in no part, and the connection goes on.
#[test]
fn what_cannot_be_kept_is_refused_and_not_done() {
    let cluster = single(&[]);
    let mut resp = Resp::open(&cluster, 1);
    resp.converse(&[("SET k v", "+OK"), ("SET l v", "+OK")]);
    for text in [
        "SET k w NX XX",
        "SET k w EX 0",
        "MSET k w l",
        "EXPIRE k 1 XX LT",
        "EXEC",
        "DISCARD",
        "EXPIRE k -9223372036854776",
        "WAIT 1 -1",
        "SELECT 1",
        "CLUSTER INFO",
        "CLUSTER SLOTS",
        "CLIENT MAINT_NOTIFICATIONS on",
        "SUBSCRIBE a",
        "CONFIG SET save 1",
        "FLUSHALL now",
        "GET",
        "INCRBY k x",
        "SCAN 17",
        "ONCE 1 1 DEL k l",
    ] {
        let reply = resp.ask(text);
        assert!(reply.starts_with("-ERR "), "{text}: {reply}");
    }
    let (key, value) = (vec![b'k'; 1_025], vec![b'v'; VALUE_BYTES_MAX + 1]);
    for words in [[&b"SET"[..], &key, b"v"], [&b"SET"[..], b"k", &value]] {
        resp.send(request(&words));
        let reply = resp.value().to_string();
        assert!(reply.starts_with("-ERR expected a "), "{reply}");
    }
    resp.converse(&[("KEYS *", "[k l]"), ("MGET k l", "[v v]")]);
}

/// The bytes that the libraries send before anything else, as they were recorded.
#[test]
fn client_libraries_connect() {
    let cluster = single(&[]);
    // redis-py: a pipeline of two, each of whose errors it would swallow, and then a command.
    let mut py = Resp::open(&cluster, 1);
    py.send(
        "*4\r\n$6\r\nCLIENT\r\n$7\r\nSETINFO\r\n$8\r\nLIB-NAME\r\n$8\r\nredis-py\r\n\
         *4\r\n$6\r\nCLIENT\r\n$7\r\nSETINFO\r\n$7\r\nLIB-VER\r\n$5\r\n5.0.1\r\n\
         *2\r\n$6\r\nSELECT\r\n$1\r\n0\r\n",
    );
    for _ in 0..3 {
        assert_eq!(py.value().to_string(), "+OK");
    }
    // node-redis.
    let mut node = Resp::open(&cluster, 1);
    node.send(
        "*4\r\n$5\r\nHELLO\r\n$1\r\n3\r\n$7\r\nSETNAME\r\n$3\r\napp\r\n\
         *4\r\n$6\r\nCLIENT\r\n$7\r\nSETINFO\r\n$8\r\nLIB-NAME\r\n$10\r\nnode-redis\r\n\
         *3\r\n$6\r\nCLIENT\r\n$19\r\nMAINT_NOTIFICATIONS\r\n$2\r\nON\r\n",
    );
    let Value::Map(hello) = node.value() else {
        panic!("version 3 has maps")
    };
    let hello: Vec<_> = hello
        .iter()
        .map(|(key, value)| format!("{key}={value}"))
        .collect();
    let id = hello[3].strip_prefix("id=:").expect("a number");
    assert_eq!(hello[2], "proto=:3");
    assert_eq!(hello[4..], ["mode=standalone", "role=master", "modules=[]"]);
    assert_eq!(node.value().to_string(), "+OK");
    assert!(
        node.value()
            .to_string()
            .starts_with("-ERR unknown subcommand")
    );
    assert_eq!(node.ask("CLIENT ID"), format!(":{id}"));
    assert_eq!(node.ask("CLIENT GETNAME"), "app");
    let list = node.ask("CLIENT LIST");
    assert!(
        list.contains("name=app") && list.contains("lib-name=redis-py"),
        "{list}"
    );
    assert!(node.ask("CLIENT INFO").contains("lib-name=node-redis"));
    // redis-cli.
    let mut cli = Resp::open(&cluster, 1);
    cli.send(line("COMMAND DOCS"));
    let docs = cli.value().elements();
    assert_eq!(cli.ask("COMMAND COUNT"), format!(":{}", docs.len() / 2));
    cli.send(line("COMMAND"));
    assert_eq!(cli.value().elements().len(), docs.len() / 2);
}

#[test]
fn a_connection_chooses_its_version_in_the_middle_of_a_pipeline() {
    let cluster = single(&[]);
    let mut resp = Resp::open(&cluster, 1);
    let mut pipeline = Vec::new();
    for text in [
        "GET a", "HELLO 3", "GET a", "HELLO 2", "GET a", "HELLO 3", "RESET", "GET a",
    ] {
        pipeline.extend(line(text));
    }
    resp.send(pipeline);
    let nulls: Vec<String> = (0..8)
        .map(|_| {
            let first = resp.replies.fill_buf().expect("a reply")[0];
            let value = resp.value();
            format!(
                "{}{}",
                char::from(first),
                if value == Value::Null { "nil" } else { "" }
            )
        })
        .collect();
    assert_eq!(nulls, ["$nil", "%", "_nil", "*", "$nil", "%", "+", "$nil"]);
    resp.converse(&[
        ("HELLO 4", "-NOPROTO unsupported protocol version"),
        (
            "HELLO 3 AUTH other x",
            "-WRONGPASS invalid username-password pair or user is disabled.",
        ),
        ("AUTH default x", "+OK"),
        ("GET a", "nil"),
        ("ECHO hello", "hello"),
        ("QUIT", "+OK"),
    ]);
    resp.assert_closed();
}

#[test]
fn a_server_tells_how_it_is() {
    let cluster = single(&["--clients-max", "77"]);
    let mut resp = Resp::open(&cluster, 1);
    assert_eq!(resp.ask("SET a b"), "+OK");
    resp.send(line("INFO"));
    let Value::Bulk(info) = resp.value() else {
        panic!("a bulk string")
    };
    let info = String::from_utf8(info).expect("text");
    for field in [
        "redis_version:7.0.0",
        "redis_mode:standalone",
        "loading:0",
        "role:master",
        "maxclients:77",
        "db0:keys=1,expires=0,avg_ttl=0",
        "id:n1",
        "leader:n1",
    ] {
        assert!(info.lines().any(|line| line == field), "{field} in {info}");
    }
    assert!(info.contains("\r\n\r\n# Quince\r\n"));
    resp.send(line("INFO keyspace"));
    assert_eq!(
        resp.value().to_string(),
        "# Keyspace\\r\\ndb0:keys=1,expires=0,avg_ttl=0\\r\\n"
    );
    resp.converse(&[
        ("INFO nothing", ""),
        ("CONFIG GET maxclients nothing", "[maxclients 77]"),
        ("CONFIG GET SAV*", "[save ]"),
        ("CONFIG GET append*", "[appendfsync always appendonly yes]"),
    ]);
    let mut three = Resp::open(&cluster, 1);
    three.ask("HELLO 3");
    let status = three.ask("STATUS");
    assert!(
        status.starts_with("{id=n1 ") && status.contains("acceptor=up"),
        "{status}"
    );
}

#[test]
fn ten_thousand_sets_in_one_write_are_answered_in_order() {
    let cluster = Cluster::start(3, &[]);
    let mut resp = Resp::open(&cluster, 2);
    let mut pipeline = Vec::new();
    for n in 0..10_000 {
        let text = match n % 100 {
            99 => format!("GET k{}", n - 1),
            _ => format!("SET k{n} {n}"),
        };
        pipeline.extend(line(&text));
    }
    let mut sending = resp.stream.try_clone().expect("a second handle");
    let sender = thread::spawn(move || sending.write_all(&pipeline));
    for n in 0..10_000 {
        let expected = match n % 100 {
            99 => format!("{}", n - 1),
            _ => "+OK".into(),
        };
        assert_eq!(resp.value().to_string(), expected);
    }
    sender.join().expect("no panic").expect("all was sent");
    assert_eq!(Resp::open(&cluster, 3).ask("DBSIZE"), ":9900");
}

/// Both protocols hold the same bytes.
#[test]
fn keys_and_values_are_any_bytes() {
    let cluster = Cluster::start(3, &[]);
    let mut resp = Resp::open(&cluster, 1);
    let all: Vec<u8> = (0..=255).collect();
    resp.send(request(&[&b"SET"[..], &all[..], &all]));
    resp.send(request(&[&b"GET"[..], &all[..]]));
    resp.send(request(&[&b"ECHO"[..], &all[..]]));
    resp.send(request(&[&b"SET"[..], b"\xff\r\n", b""]));
    assert_eq!(resp.value(), Value::Simple("OK".into()));
    assert_eq!(resp.value(), Value::Bulk(all.clone()));
    assert_eq!(resp.value(), Value::Bulk(all.clone()));
    assert_eq!(resp.value(), Value::Simple("OK".into()));
    assert_eq!(cluster.ask(2, r#"GET "\xff\r\n""#), "VALUE \"\"");
    let longest = vec![0; VALUE_BYTES_MAX];
    let key = vec![255; 1_024];
    resp.send(request(&[&b"SET"[..], &key[..], &longest]));
    assert_eq!(resp.value(), Value::Simple("OK".into()));
    let mut other = Resp::open(&cluster, 3);
    other.send(request(&[&b"MGET"[..], &key[..], &all]));
    let expected = [Value::Bulk(longest), Value::Bulk(all)];
    assert_eq!(other.value().elements(), expected);
}

/// As in Redis: a mistake that is no matter of names and numbers of words fails alone.
#[test]
fn a_mistake_in_a_transaction_spoils_what_it_would_spoil_in_redis() {
    let cluster = single(&[]);
    let mut resp = Resp::open(&cluster, 1);
    resp.converse(&[
        ("MULTI", "+OK"),
        ("SET k v EX 0", "+QUEUED"),
        ("MSET a 1 b", "+QUEUED"),
        ("INCR n", "+QUEUED"),
        ("SELECT 99", "+QUEUED"),
        (
            "EXEC",
            "[-ERR invalid expire time in 'set' command \
             -ERR wrong number of arguments for 'mset' command :1 -ERR DB index is out of range]",
        ),
        ("EXISTS k a", ":0"),
        ("WATCH n", "+OK"),
        ("MULTI", "+OK"),
        ("INCR n", "+QUEUED"),
        (
            "EXEC blah",
            "-EXECABORT Transaction discarded because of: wrong number of arguments for 'exec' \
             command",
        ),
        // It is over, and so is what was watched.
        ("EXEC", "-ERR EXEC without MULTI"),
        ("INCR n", ":2"),
        ("MULTI", "+OK"),
        ("INCR n", "+QUEUED"),
        ("EXEC", "[:3]"),
        (
            "EXEC blah",
            "-EXECABORT Transaction discarded because of: wrong number of arguments for 'exec' \
             command",
        ),
        ("MULTI", "+OK"),
        ("INCR n", "+QUEUED"),
        ("SET k", "-ERR wrong number of arguments for 'set' command"),
        (
            "EXEC",
            "-EXECABORT Transaction discarded because of previous errors.",
        ),
        ("GET n", "3"),
    ]);
}

/// It is the log's: it never goes back, whichever server is asked, and is near the machine's clock.
#[test]
fn the_time_is_one_for_all_servers() {
    let cluster = three();
    let mut servers: Vec<Resp> = (1..=3).map(|id| Resp::open(&cluster, id)).collect();
    let micros = |value: Value| {
        let parts = value.elements();
        let parts: Vec<u128> = (parts.iter())
            .map(|part| part.to_string().parse().expect("a number"))
            .collect();
        assert!(parts.len() == 2 && parts[1] < 1_000_000, "{parts:?}");
        parts[0] * 1_000_000 + parts[1]
    };
    let clock = || {
        SystemTime::UNIX_EPOCH
            .elapsed()
            .expect("after 1970")
            .as_millis()
    };
    let (before, mut last) = (clock(), 0);
    for round in 0..30 {
        let server = &mut servers[round % 3];
        server.send(line("TIME"));
        let time = micros(server.value());
        assert!(time >= last, "{time} after {last}");
        // No clock is behind that of the leader, which is the same machine's here.
        assert!(time / 1_000 >= before && time / 1_000 <= clock(), "{time}");
        last = time;
    }
    // Inside of a transaction it is the time at which that is done.
    servers[1].converse(&[("MULTI", "+OK"), ("TIME", "+QUEUED")]);
    servers[0].send(line("TIME"));
    let between = micros(servers[0].value());
    servers[1].send(line("EXEC"));
    let inside = servers[1].value().elements().remove(0);
    assert!(micros(inside) >= between);
    servers[2].converse(&[(
        "TIME x",
        "-ERR wrong number of arguments for 'time' command",
    )]);
}

/// P48: what came before is done, what is cut or comes after is not.
#[test]
fn a_hostile_frame_ends_its_connection_and_nothing_else() {
    let cluster = single(&[]);
    let mut quiet = Resp::open(&cluster, 1);
    assert_eq!(quiet.ask("PING"), "+PONG");
    for (n, hostile) in [
        &b"*-0\r\n"[..],
        b"*99999999\r\n",
        // A web page's words, and a body.
        b"POST / HTTP/1.1\r\n\r\nSET after x\r\n",
        b"Host: localhost\r\n\r\nSET after x\r\n",
        b"*1\r\n$-1\r\n",
        b"*1\r\n$999999999999\r\n",
        b"*1\r\n*1\r\n",
        b"*1\r\n:1\r\n",
        b"*x\r\n",
        b"*3\r\n$3\r\nSET\r\n$5\r\nafter\r\n$1\r\nxxx",
        b"PING \"x\r\n",
    ]
    .iter()
    .enumerate()
    {
        let mut resp = Resp::open(&cluster, 1);
        let before = line(&format!("SET before{n} x"));
        resp.send([&before[..], hostile, &line("SET after x")].concat());
        assert_eq!(resp.value().to_string(), "+OK");
        let error = resp.value().to_string();
        assert!(error.starts_with("-ERR Protocol error: "), "{error}");
        resp.assert_closed();
    }
    let mut cut = Resp::open(&cluster, 1);
    cut.send([line("PING"), line("SET after 100")[..30].to_vec()].concat());
    assert_eq!(cut.value().to_string(), "+PONG");
    drop(cut);
    assert_eq!(quiet.ask("KEYS after*"), "[]");
    assert_eq!(quiet.ask("DBSIZE"), ":11");
}

/// On a connection that is RESP by its first byte, a line of words is a request; before that, it is a
/// plain line.
#[test]
fn the_first_byte_tells_what_a_connection_speaks() {
    let cluster = single(&[]);
    let mut resp = Resp::open(&cluster, 1);
    resp.send(b"*1\r\n$4\r\nPING\r\nPING\r\nSET k \"a b\"\r\n\r\nGET k\n");
    for expected in ["+PONG", "+PONG", "+OK", "a b"] {
        assert_eq!(resp.value().to_string(), expected);
    }
    let mut wire = cluster.open(1);
    wire.send("PING\nGET k\r\nPING\r\n*1\r\n");
    assert_eq!(wire.lines(3), ["PONG", "VALUE a b", "PONG"]);
    assert!(wire.line().starts_with("ERROR BAD_REQUEST "));
    // One byte alone says it.
    let mut slow = Resp::open(&cluster, 1);
    slow.send("*");
    slow.send("1\r\n$4\r\nPING\r\n");
    assert_eq!(slow.value().to_string(), "+PONG");
}

/// What `redis-benchmark` begins with: a connection that has sent nothing but inline `PING`s is answered in
/// RESP, and is one of plain lines as soon as it sends something else.
#[test]
fn inline_pings_are_answered_until_something_else_comes() {
    let cluster = single(&[]);
    let mut wire = cluster.open(1);
    for pings in [1, 16, 5_000] {
        wire.send("PING\r\n".repeat(pings));
        assert_eq!(wire.lines(pings), vec!["+PONG\r"; pings]);
    }
    wire.send("PING\r\nPING\nPING\r\n");
    assert_eq!(wire.lines(3), ["+PONG\r", "PONG", "PONG"]);
    for not_inline in ["PING\n", "ping\r\n", " PING\r\n"] {
        let mut wire = cluster.open(1);
        wire.send(format!("{not_inline}PING\r\n"));
        assert_eq!(wire.lines(2), ["PONG", "PONG"], "{not_inline:?}");
    }
}

/// A key that is there all the time is returned exactly once, whatever else comes and goes.
#[test]
fn a_scan_returns_every_key_that_stays_while_others_come_and_go() {
    let cluster = Cluster::start(3, &[]);
    let mut resp = Resp::open(&cluster, 1);
    let stay: Vec<String> = (0..500).map(|n| format!("k{n:03}")).collect();
    for key in &stay {
        assert_eq!(resp.ask(&format!("SET {key} x")), "+OK");
    }
    let mut writer = Resp::open(&cluster, 2);
    for round in 0..3 {
        let (mut cursor, mut found, mut steps) = ("0".to_owned(), Vec::new(), 0);
        loop {
            resp.send(line(&format!("SCAN {cursor} COUNT 7")));
            let [next, keys] = resp.value().elements().try_into().expect("two");
            found.extend(keys.elements().iter().map(Value::to_string));
            // Before, at and behind where the scan is.
            for key in ["a", "k250x", "z", found.last().map_or("", String::as_str)] {
                let key = format!("{key}-{round}-{steps}");
                assert_eq!(writer.ask(&format!("SET {key} x")), "+OK");
                if steps % 2 == 0 {
                    assert_eq!(writer.ask(&format!("DEL {key}")), ":1");
                }
            }
            cursor = next.to_string();
            steps += 1;
            if cursor == "0" {
                break;
            }
        }
        assert!(steps >= 500 / 7, "{steps} steps");
        found.retain(|key| stay.contains(key));
        assert_eq!(found, stay);
    }
    // A cursor of another server is refused, not taken for one of its own.
    let cursor = resp.ask("SCAN 0");
    let cursor = cursor[1..].split(' ').next().expect("a cursor").to_owned();
    assert!(
        cursor
            .parse::<u64>()
            .is_ok_and(|cursor| cursor > 0 && cursor < 1 << 53)
    );
    let refused = writer.ask(&format!("SCAN {cursor}"));
    assert!(refused.starts_with("-ERR cursor "), "{refused}");
    assert!(resp.ask(&format!("SCAN {cursor}")).starts_with('['));
}

#[test]
fn readonly_reads_are_answered_by_a_server_that_is_alone() {
    let mut cluster = Cluster::start(3, &["--deadline", "300ms"]);
    let mut resp = Resp::open(&cluster, 1);
    assert_eq!(resp.ask("SET k v"), "+OK");
    assert_eq!(resp.ask("GET k"), "v");
    cluster.kill_all(&[2, 3]);
    let refused = resp.ask("GET k");
    assert!(refused.starts_with("-NOTDONE "), "{refused}");
    resp.converse(&[
        ("READONLY", "+OK"),
        ("GET k", "v"),
        ("MGET k l", "[v nil]"),
        ("DBSIZE", ":1"),
    ]);
    let write = resp.ask("SET k w");
    assert!(
        write.starts_with("-UNKNOWN ") || write.starts_with("-NOTDONE "),
        "{write}"
    );
    resp.converse(&[("READWRITE", "+OK"), ("PING", "+PONG")]);
    let refused = resp.ask("KEYS *");
    assert!(refused.starts_with("-NOTDONE "), "{refused}");
    resp.converse(&[("READONLY", "+OK"), ("RESET", "+RESET")]);
    assert!(resp.ask("GET k").starts_with("-NOTDONE "));
}

fn until_blocked(resp: &mut Resp, count: usize) {
    until("so many wait", || {
        let told = resp.ask("INFO clients");
        let line = format!("blocked_clients:{count}\\r");
        told.contains(&line).then_some(())
    });
}

/// Who sends no more still hears what it asked for, and not before it is so: whether there is a deadline or
/// not, and whether the end was sent before the wait began or long after.
#[test]
fn a_wait_outlasts_the_end_of_what_its_client_sends() {
    let mut cluster = Cluster::start(3, &[]);
    cluster.kill(3);
    let mut other = Resp::open(&cluster, 1);
    let mut waits: Vec<Resp> = (0..4).map(|_| Resp::open(&cluster, 1)).collect();
    for (number, resp) in waits.iter_mut().enumerate() {
        assert_eq!(resp.ask("SET k 1"), "+OK");
        resp.send(line(["WAIT 2 0", "WAIT 2 600000"][number % 2]));
    }
    for resp in &waits[..2] {
        resp.stream.shutdown(Shutdown::Write).expect("it is open");
    }
    until_blocked(&mut other, 4);
    for resp in &waits[2..] {
        resp.stream.shutdown(Shutdown::Write).expect("it is open");
    }
    // Whoever took the end for the client's would have answered with what there is.
    let mut late = Resp::open(&cluster, 1);
    late.send([line("WAIT 2 1500"), line("PING")].concat());
    late.stream.shutdown(Shutdown::Write).expect("it is open");
    assert_eq!(late.value().to_string(), ":1");
    assert_eq!(late.value().to_string(), "+PONG");
    late.assert_closed();
    // Whoever is gone is found out by the first byte of the count, which leaves before the rest is known.
    let mut first = [0];
    waits[0].replies.read_exact(&mut first).expect("a byte");
    assert_eq!(&first, b":");
    until_blocked(&mut other, 4);
    cluster.spawn(3);
    assert_eq!(waits[0].line(), "2");
    for resp in &mut waits[1..] {
        assert_eq!(resp.value().to_string(), ":2");
        resp.assert_closed();
    }
    until_blocked(&mut other, 0);
}

/// Many may wait, and each is told when what it waits for is so; a server that stops tells them all.
#[test]
fn many_wait_and_all_are_answered() {
    const MANY: usize = 300;
    let mut cluster = Cluster::start(3, &[]);
    cluster.kill(3);
    let mut resp = Resp::open(&cluster, 1);
    let mut waits: Vec<Resp> = (0..MANY).map(|_| Resp::open(&cluster, 1)).collect();
    for wait in &mut waits {
        wait.send(line("WAIT 2 0"));
    }
    until_blocked(&mut resp, MANY);
    assert_eq!(resp.ask("SET k 1"), "+OK");
    cluster.spawn(3);
    for wait in &mut waits {
        assert_eq!(wait.value().to_string(), ":2");
    }
    cluster.kill(3);
    until("n3 is missed", || {
        (resp.ask("WAIT 2 1") == ":1").then_some(())
    });
    let waits = &mut waits[..3];
    for wait in waits.iter_mut() {
        wait.send(line("WAIT 2 0"));
    }
    until_blocked(&mut resp, waits.len());
    cluster.signal(1, "TERM");
    for wait in waits {
        let told = wait.value().to_string();
        assert!(told.starts_with("-NOTDONE "), "{told}");
    }
    assert!(cluster.until_ended(1).success());
}

/// A majority has what is acknowledged; of more servers it is told when they say so, and never before.
#[test]
fn wait_tells_how_many_other_servers_have_what_was_written() {
    let mut cluster = Cluster::start(5, &[]);
    let mut resp = Resp::open(&cluster, 1);
    resp.converse(&[("SET k 1", "+OK"), ("WAIT 4 0", ":4")]);
    cluster.kill_all(&[4, 5]);
    assert_eq!(resp.ask("SET k 2"), "+OK");
    assert_eq!(resp.ask("WAIT 2 0"), ":2");
    let since = Instant::now();
    resp.send([line("SET k 3"), line("WAIT 3 300"), line("GET k")].concat());
    let replies = [(); 3].map(|()| resp.value().to_string());
    assert_eq!(replies, ["+OK", ":2", "3"]);
    assert!(since.elapsed() >= Duration::from_millis(300));
    // Whoever is back and has caught up ends the wait; who is gone does not wait any longer.
    resp.send(line("WAIT 3 0"));
    let mut gone = Resp::open(&cluster, 1);
    gone.send(line("WAIT 4 0"));
    let mut other = Resp::open(&cluster, 1);
    let mut blocked = |count: usize| until_blocked(&mut other, count);
    blocked(2);
    drop(gone);
    blocked(1);
    cluster.spawn(4);
    assert_eq!(resp.value().to_string(), ":3");
    blocked(0);
    resp.converse(&[
        ("MULTI", "+OK"),
        ("WAIT 0 0", "-ERR Command not allowed inside a transaction"),
        ("DISCARD", "+OK"),
    ]);
}

/// P46, P47: a write that was handed on is unknown, a read never is, and replies keep their places.
#[test]
fn after_the_deadline_a_read_is_not_done_and_a_write_unknown() {
    let cluster = single(&["--allow-fail", "--deadline", "300ms"]);
    let mut resp = Resp::open(&cluster, 1);
    assert_eq!(resp.ask("SET a 1"), "+OK");
    assert_eq!(cluster.ask(1, "FAIL"), "OK");
    resp.send([line("GET a"), line("SET a 2"), line("PING"), line("DBSIZE")].concat());
    for expected in ["-NOTDONE ", "-UNKNOWN ", "+PONG", "-NOTDONE "] {
        let reply = resp.value().to_string();
        assert!(reply.starts_with(expected), "{reply}");
    }
    assert_eq!(cluster.ask(1, "RECOVER"), "OK");
    assert_eq!(resp.ask("INCR a"), ":3");
}

/// A short request may ask for a long reply; that is written in parts.
#[test]
fn a_reply_much_longer_than_its_request_takes_bounded_memory() {
    let cluster = single(&[]);
    let mut resp = Resp::open(&cluster, 1);
    let value = vec![b'x'; VALUE_BYTES_MAX];
    resp.send(request(&[&b"SET"[..], b"k", &value]));
    assert_eq!(resp.value().to_string(), "+OK");
    let memory = || {
        let status = std::fs::read_to_string(format!("/proc/{}/status", cluster.pid(1)));
        let status = status.expect("Linux tells");
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let peak = peak.and_then(|peak| peak.trim().strip_suffix(" kB"));
        peak.and_then(|peak| peak.trim().parse::<usize>().ok())
            .expect("a number")
            * 1_024
    };
    let before = memory();
    let many: Vec<&[u8]> = std::iter::once(&b"MGET"[..])
        .chain(vec![&b"k"[..]; 200])
        .collect();
    resp.send(request(&many));
    assert_eq!(resp.line(), "*200");
    for _ in 0..200 {
        assert_eq!(resp.value(), Value::Bulk(value.clone()));
    }
    let grown = memory().saturating_sub(before);
    assert!(grown < 32 << 20, "{grown} bytes more at the peak");
}

/// With the client that most people have, where it is installed.
#[test]
fn redis_cli_can_be_used() {
    let cluster = single(&[]);
    let address = cluster.address(1);
    let (host, port) = address.split_once(':').expect("host and port");
    let run = |input: &str, flags: &[&str]| {
        let mut command = Command::new("redis-cli");
        command.args(["-h", host, "-p", port]).args(flags);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().ok()?;
        let mut stdin = child.stdin.take().expect("a pipe");
        stdin.write_all(input.as_bytes()).expect("it reads");
        drop(stdin);
        let output = child.wait_with_output().expect("it ends");
        Some(String::from_utf8(output.stdout).expect("text"))
    };
    let script = "SET pear \"2.10 per kilo\"\nGET pear\nINCR visits\nMGET pear plum\nSELECT 1\n";
    let Some(said) = run(script, &["--no-raw"]) else {
        eprintln!("skipped: redis-cli is not installed");
        return;
    };
    let expected = "OK\n\"2.10 per kilo\"\n(integer) 1\n1) \"2.10 per kilo\"\n2) (nil)\n\
                    (error) ERR DB index is out of range\n";
    assert_eq!(said.replace("\n\n", "\n"), expected);
    let three = run("STATUS\n", &["-3", "--no-raw"]).expect("it is installed");
    assert!(three.contains("\"role\" => \"leader\""), "{three}");
    assert_eq!(run("", &["--scan"]).as_deref(), Some("pear\nvisits\n"));
}

#[test]
fn a_connection_is_told_of_until_it_closes() {
    let cluster = single(&[]);
    let mut resp = Resp::open(&cluster, 1);
    let mut other = Resp::open(&cluster, 1);
    assert_eq!(other.ask("CLIENT SETNAME other"), "+OK");
    assert!(resp.ask("CLIENT LIST").contains("name=other"));
    drop(other);
    until("it is gone", || {
        (!resp.ask("CLIENT LIST").contains("name=other")).then_some(())
    });
}
