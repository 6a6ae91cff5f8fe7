//! Clients that others wrote for Redis, against running servers: `redis-cli`, `redis-benchmark`, redis-py,
//! node-redis, ioredis and the `redis` crate. Whoever has one of them can use Quince.
//!
//! A *tour* is the same list of requests in each client's own words, printed the same way; so there is one
//! expected text for all of them, and a Redis, where there is one, is held to it as well. The programs are in
//! `tests/redis`. What is not installed is skipped with a word (`tests/programs/mod.rs`).

#![allow(
    clippy::disallowed_methods,
    reason = "a benchmark runs for a while of real time"
)]

mod processes;
mod programs;

use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use processes::{Cluster, alone, until};
use programs::{Redis, Running, Target, at, said, said_when_told, tool};

// --- The tours ---

/// A client that can make the tours.
#[derive(Debug, Clone, Copy)]
enum Client {
    RedisPy,
    NodeRedis,
    Ioredis,
    RedisCrate,
}

impl Client {
    /// What it tells of a topic at a server that has no keys; none if it is not installed.
    fn tour(self, topic: &str, target: &Target) -> Option<String> {
        let program = match self {
            Self::RedisPy => programs::python("redis_py.py"),
            Self::NodeRedis => programs::node("node_redis.mjs", "redis"),
            Self::Ioredis => programs::node("ioredis.mjs", "ioredis"),
            Self::RedisCrate => return Some(programs::redis_crate::tour(topic, target)),
        };
        Some(said(program?.args([topic, &target.host, &target.port])))
    }
}

/// Makes a tour at a Redis, which says what is right; and at Quince, at a server that does not lead.
fn tour(client: Client, topic: &str, expected: &str) {
    if let Some(redis) = Redis::start() {
        let Some(told) = client.tour(topic, redis.target()) else {
            return;
        };
        assert_eq!(told, expected, "{client:?} at Redis");
    }
    let mut cluster = Cluster::start(3, &[]);
    let leader = cluster.until_led();
    let follower = Target::of(&cluster, if leader == 1 { 2 } else { 1 });
    if let Some(told) = client.tour(topic, &follower) {
        assert_eq!(told, expected, "{client:?} at Quince");
    }
}

/// The tests of each client.
macro_rules! tours {
    ($($module:ident: $client:expr;)*) => {$(
        mod $module {
            use super::*;

            #[test]
            fn strings() {
                tour($client, "strings", STRINGS);
            }

            #[test]
            fn keys_expire() {
                tour($client, "expiry", EXPIRY);
            }

            #[test]
            fn transactions_with_watch() {
                tour($client, "transactions", TRANSACTIONS);
            }

            #[test]
            fn pipelines() {
                tour($client, "pipelines", PIPELINES);
            }

            #[test]
            fn scans() {
                tour($client, "scans", SCANS);
            }
        }
    )*};
}

tours! {
    redis_py: Client::RedisPy;
    node_redis: Client::NodeRedis;
    ioredis: Client::Ioredis;
    redis_crate: Client::RedisCrate;
}

const STRINGS: &str = "\
set: OK
get: 2.10 per kilo
get of none: nil
length: 13
append: 19
range: per kilo
set range: 19
get: 3.20 per kilo, ripe
many: OK
get many: 1.25 nil 6.75
if new, of old: nil
if new, of new: OK
if old, of new: nil
if old, of old: 2.40
setnx: 0 1
get and set: 5.60
get and delete: 5.70
count: 1 11 10 7
count words: error value is not an integer or out of range
bytes: OK
the same bytes: 1
long: OK
as long: 1000000
kind: string none
there: 3
delete: 2
unlink: 2
left: pear plum sold
";

const EXPIRY: &str = "\
of none: -2
of one that stays: OK -1
set with seconds: OK about 100
setex: OK about 100
milliseconds: 1
set again: OK -1
expire: 1 about 10
expire none: 0
keep: OK about 10
count keeps: OK 2 about 100
persist: 1 0 -1
expire at: 1 about 100
pexpire: 1 about 10
in the past: 1 nil
soon: OK OK 5.60
later: gone gone 0 -2
new again: OK -1
left: cherry fig hits pear
";

const TRANSACTIONS: &str = "\
all at once: OK 1 2.10 nil 1
one fails: OK error value is not an integer or out of range OK
the others do not: 2.20 2.40
nobody else: 1 9
another key: 1 8
somebody else: 2 6
the same again: 2 5
deleted and made: 2 4
unwatched: 49
";

const PIPELINES: &str = "\
a thousand: 1000 1 1000 500500
one fails: OK error value is not an integer or out of range ripe
large: 200
all of them: 2000000
in their places: abcdefghijklmnopqrstuvwxyz
";

const SCANS: &str = "\
keys: 500
all: 1
in large steps: 1
some: 100
none: 0
a few: fruit:395 fruit:396 fruit:397 fruit:398 fruit:399
deleted while scanned: 400
flush: OK
keys: 0
";

// --- redis-cli ---

/// Does the same at a Redis and at Quince, both without a key.
fn at_both(mut check: impl FnMut(&str, &Target)) {
    if let Some(redis) = Redis::start() {
        check("Redis", redis.target());
    }
    let cluster = Cluster::start(3, &[]);
    check("Quince", &Target::of(&cluster, 1));
}

/// `redis-cli` with these words, as a person starts it: at a terminal.
fn at_a_terminal(target: &Target, words: &str) -> Option<Command> {
    let Target { host, port } = target;
    tool("redis-cli")?;
    let mut script = tool("script")?;
    // TERM: no colours, and no hints that are drawn while one types.
    script.env("TERM", "dumb").args(["--quiet", "--return"]);
    script.args(["--echo", "never", "--command"]);
    let typed = format!("redis-cli -h {host} -p {port} {words}");
    script.args([&typed, "/dev/null"]);
    Some(script)
}

/// Nothing but the replies: no complaint at the start, and none about what it asks by itself.
#[test]
fn redis_cli_at_a_terminal_shows_a_prompt_and_replies() {
    at_both(|name, target| {
        let Some(mut cli) = at_a_terminal(target, "") else {
            return;
        };
        let asked: String = SESSION.lines().filter_map(asked_in).collect();
        let told = said_when_told(&mut cli, asked + "quit\n");
        // The prompt behind which `quit` is typed has no reply.
        let prompt = target.address();
        let told = told.replace('\r', "").replace(&prompt, "");
        let expected: String = SESSION.lines().map(shown).collect();
        assert_eq!(told, format!("{expected}> "), "at {name}");
    });
}

/// A line of the session is what is asked, behind the prompt, or what is answered.
fn asked_in(line: &str) -> Option<String> {
    let (_, asked) = line.split_once("> ")?;
    Some(format!("{asked}\n"))
}

/// What a terminal shows of such a line if it does not echo what is typed.
fn shown(line: &str) -> String {
    match line.split_once("> ") {
        Some((prompt, _)) => format!("{prompt}> "),
        None => format!("{line}\n"),
    }
}

const SESSION: &str = r#"> SET pear "2.10 per kilo"
OK
> GET pear
"2.10 per kilo"
> GET plum
(nil)
> INCR visits
(integer) 1
> MULTI
OK
(TX)> SET apple 1.25
QUEUED
(TX)> INCR visits
QUEUED
(TX)> MGET pear plum
QUEUED
(TX)> EXEC
1) OK
2) (integer) 2
3) 1) "2.10 per kilo"
   2) (nil)
> MULTI
OK
(TX)> INCR visits
QUEUED
(TX)> DISCARD
OK
> GET visits
"2"
> MULTI
OK
(TX)> SET apple
(error) ERR wrong number of arguments for 'set' command
(TX)> INCR visits
QUEUED
(TX)> EXEC
(error) EXECABORT Transaction discarded because of previous errors.
> EXEC
(error) ERR EXEC without MULTI
> DISCARD
(error) ERR DISCARD without MULTI
> WATCH visits
OK
> MULTI
OK
(TX)> MULTI
(error) ERR MULTI calls can not be nested
(TX)> WATCH pear
(error) ERR WATCH inside MULTI is not allowed
(TX)> EXEC
(empty array)
> WATCH visits
OK
> INCR visits
(integer) 3
> MULTI
OK
(TX)> SET visits 100
QUEUED
(TX)> EXEC
(nil)
> SET soon x EX 100 NX
OK
> SET soon y EX 100 NX
(nil)
> SET soon x EX
(error) ERR syntax error
> SET soon x EX 0
(error) ERR invalid expire time in 'set' command
> INCR pear
(error) ERR value is not an integer or out of range
> DEL pear apple soon none
(integer) 3
> NOSUCH command
(error) ERR unknown command 'NOSUCH', with args beginning with: 'command' 
> KEYS *
1) "visits"
"#;

#[test]
fn redis_cli_scans_and_finds_the_biggest_key() {
    at_both(|name, target| {
        let Some(mut cli) = tool("redis-cli") else {
            return;
        };
        let pairs = (0..300).map(|n| [format!("key:{n:03}"), "x".repeat(n)]);
        let set = at(&mut cli, target).arg("MSET").args(pairs.flatten());
        assert_eq!(said(set), "OK\n", "at {name}");
        let cli = |words: &[&str]| said(at(&mut Command::new("redis-cli"), target).args(words));
        let sorted = |words: &[&str]| {
            let mut lines: Vec<String> = cli(words).lines().map(str::to_owned).collect();
            lines.sort();
            lines
        };
        let keys: Vec<String> = (0..300).map(|n| format!("key:{n:03}")).collect();
        assert_eq!(sorted(&["--scan"]), keys, "at {name}");
        let some = sorted(&["--scan", "--pattern", "key:2*"]);
        assert_eq!(some, keys[200..300], "at {name}");
        let big = cli(&["--bigkeys"]);
        for line in [
            "Sampled 300 keys in the keyspace!",
            "Total key length in bytes is 2100 (avg len 7.00)",
            "Biggest string found '\"key:299\"' has 299 bytes",
            "300 strings with 44850 bytes (100.00% of keys, avg size 149.50)",
        ] {
            assert!(big.lines().any(|l| l == line), "{line}, at {name}: {big}");
        }
    });
}

/// As people load data: a file of requests at once, and a count of errors in the end.
#[test]
fn redis_cli_pipes_a_hundred_thousand_sets() {
    const SETS: usize = 100_000;
    let _alone = alone();
    at_both(|name, target| {
        let Some(mut cli) = tool("redis-cli") else {
            return;
        };
        let word = |word: String| format!("${}\r\n{word}\r\n", word.len());
        let set = |n| {
            let (key, value) = (word(format!("key:{n}")), word(format!("value {n}")));
            format!("*3\r\n$3\r\nSET\r\n{key}{value}")
        };
        let sets: String = (0..SETS).map(set).collect();
        let told = said_when_told(at(&mut cli, target).arg("--pipe"), sets);
        let last = told.lines().last();
        assert_eq!(last, Some("errors: 0, replies: 100000"), "at {name}");
        let cli = |words: &[&str]| said(at(&mut Command::new("redis-cli"), target).args(words));
        assert_eq!(cli(&["DBSIZE"]), "100000\n", "at {name}");
        assert_eq!(cli(&["GET", "key:0"]), "value 0\n", "at {name}");
        assert_eq!(cli(&["GET", "key:99999"]), "value 99999\n", "at {name}");
    });
}

/// A line of numbers each while, of which the first is how many keys there are.
#[test]
fn redis_cli_stat_counts_keys_and_requests() {
    at_both(|name, target| {
        let Some(mut stat) = at_a_terminal(target, "--stat -i 0.05") else {
            return;
        };
        let done =
            said(at(&mut Command::new("redis-cli"), target).args(["MSET", "a", "1", "b", "2"]));
        assert_eq!(done, "OK\n");
        let stat = Running::start(&mut stat, Stdio::null());
        let lines: Vec<String> = until("it has told four times", || {
            let told = stat.said();
            let lines = told
                .lines()
                .filter(|line| line.starts_with(|c: char| c.is_ascii_digit()));
            let lines: Vec<String> = lines.map(str::to_owned).collect();
            (lines.len() >= 4).then_some(lines)
        });
        assert!(
            stat.said().contains("keys       mem      clients"),
            "at {name}"
        );
        let mut requests_before = 0;
        for line in &lines[..3] {
            // keys, memory, clients, blocked, requests (+new), connections
            let words: Vec<&str> = line.split_whitespace().collect();
            assert_eq!(words[0], "2", "keys, at {name}: {line}");
            assert!(!line.contains('-'), "a field is missing, at {name}: {line}");
            let clients: u64 = words[2].parse().expect("a number");
            assert!(clients >= 1, "at {name}: {line}");
            let requests: u64 = words[4].parse().expect("a number");
            assert!(requests > requests_before, "at {name}: {line}");
            requests_before = requests;
        }
    });
}

// --- redis-benchmark ---

/// What `redis-benchmark` is to send.
const KINDS: &str = "ping,set,get,incr,mset";

/// And how it calls that in what it tells.
const KINDS_TOLD: [&str; 6] = [
    "PING_INLINE",
    "PING_MBULK",
    "SET",
    "GET",
    "INCR",
    "MSET (10 keys)",
];

/// At a server that stays, while the leader is killed and started again and again. One error reply would
/// end the benchmark.
fn benchmark_through_leader_kills(pipeline: &str, requests: u32) {
    let _alone = alone();
    let Some(mut benchmark) = tool("redis-benchmark") else {
        return;
    };
    let mut cluster = Cluster::start(5, &[]);
    // The last one to try to lead, unless it is ahead of the others.
    let asked = if cluster.until_led() == 5 { 4 } else { 5 };
    at(&mut benchmark, &Target::of(&cluster, asked));
    benchmark.args(["-t", KINDS, "-P", pipeline, "-n", &requests.to_string()]);
    // Keys from a few, so that requests meet.
    let mut running = Running::start(benchmark.args(["-r", "100", "-q"]), Stdio::null());
    let mut kills = 0;
    while running.goes_on() {
        let leader = cluster.until_led();
        if leader == asked {
            // To kill it would end the benchmark's connections. Frozen, it loses the lead as well.
            cluster.signal(leader, "STOP");
            thread::sleep(Duration::from_secs(1));
            cluster.signal(leader, "CONT");
            continue;
        }
        cluster.kill(leader);
        cluster.until_led();
        kills += u32::from(running.goes_on());
        cluster.spawn(leader);
        thread::sleep(Duration::from_millis(300));
    }
    let told = running.finish();
    eprintln!("{kills} leaders were killed:\n{}", told.replace('\r', "\n"));
    assert!(kills > 0, "it was over too soon");
    for kind in KINDS_TOLD {
        let line = format!("{kind}: ");
        let done = told
            .split(['\r', '\n'])
            .any(|l| l.starts_with(&line) && l.contains("p50="));
        assert!(done, "{kind} is missing in {told}");
    }
    assert!(!told.to_lowercase().contains("error"), "{told}");
    cluster.until_agreed();
}

#[test]
fn redis_benchmark_runs_through_leader_kills() {
    benchmark_through_leader_kills("1", 30_000);
}

#[test]
fn redis_benchmark_with_pipelines_runs_through_leader_kills() {
    benchmark_through_leader_kills("16", 100_000);
}

// --- Programs ---

/// One may take the place of the other: a program that was written for Redis prints the same with both.
#[test]
fn a_rate_limiter_and_a_lock_work_as_with_redis() {
    let shop = |addresses: &str| Some(said(programs::python("shop.py")?.arg(addresses)));
    let at_redis = Redis::start().and_then(|redis| shop(&redis.target().address()));
    assert_eq!(at_redis.as_deref().unwrap_or(SHOP), SHOP, "at Redis");
    let cluster = Cluster::start(5, &[]);
    if let Some(told) = shop(&cluster.list()) {
        assert_eq!(told, SHOP, "at Quince");
    }
}

const SHOP: &str = "\
five calls of ann: yes yes yes no no
a call of bob: yes
ann when the window is over: yes
and two more: yes yes no
of 120 calls at once: 50
ann takes the lock, bob tries: yes no
bob gives it back, ann does: no yes
ann gives it back again: no
bob takes it for a second: yes
ann takes it when that is over: yes
bob gives back what he has no more: no
ann still holds it: ann yes
ann gives back, too late: no
bob still holds it: bob
all had the lock and gave it back: yes
balance after 90 deposits of 10: 900
keys: balance lock:door
";

/// P45, P46, P49: redis-py with its standard retries, while acceptors fail by themselves and servers are
/// killed. What it saw has an order. (`tests/redis/history.py` says what counts as one operation.)
#[test]
fn redis_py_with_its_retries_sees_no_wrong_answer_under_faults() {
    let _alone = alone();
    let Some(mut program) = programs::python("history.py") else {
        return;
    };
    let failing = [
        "--fail-every",
        "500ms..1500ms",
        "--recover-after",
        "300ms..1s",
        "--deadline",
        "500ms",
    ];
    let mut cluster = Cluster::start(5, &failing);
    let place = tempfile::tempdir().expect("a directory");
    let history = place.path().join("history");
    program.arg(&history).arg(cluster.list());
    let mut running = Running::start(&mut program, Stdio::piped());
    until("it works", || {
        running.said().contains("working").then_some(())
    });
    for round in 0..8_u8 {
        thread::sleep(Duration::from_millis(700));
        let leader = cluster.until_led();
        let other = leader % 5 + 1;
        // Every other time a second one with it, so that three are left.
        let killed: &[u8] = if round % 2 == 0 {
            &[leader]
        } else {
            &[leader, other]
        };
        cluster.kill_all(killed);
        thread::sleep(Duration::from_millis(300));
        cluster.spawn_all(killed);
    }
    thread::sleep(Duration::from_millis(700));
    running.end_input();
    let told = running.finish();
    eprintln!("{told}");
    let (code, out, err) = processes::run(&["check", history.to_str().expect("text")]);
    if code != 0 {
        let kept = place.keep();
        panic!("{}: {out}{err}", kept.display());
    }
    assert!(out.starts_with("linearizable: "), "{out}");
    // The faults were felt: replies were lost, and the library asked again by itself.
    let count = |what: &str| -> u64 {
        let line = told
            .lines()
            .find_map(|line| line.strip_prefix(what)?.strip_prefix(": "));
        line.expect("it is counted").parse().expect("a number")
    };
    for what in ["lost", "sent again", "swapped", "not swapped"] {
        assert!(count(what) > 0, "nothing was {what}: {told}");
    }
    assert!(count("replies") > 1_000, "{told}");
}
