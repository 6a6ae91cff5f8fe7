//! The tour of `tests/redis_clients.rs` with the `redis` crate. It tells what it was told, as the programs in
//! other languages do.

#![allow(
    clippy::disallowed_methods,
    reason = "keys expire in real time, and at a time of day"
)]

use std::collections::BTreeSet;
use std::fmt::{self, Write as _};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use redis::{
    Commands as _, Connection, ExistenceCheck, RedisError, RedisResult, ScanOptions, SetExpiry,
    SetOptions, Value, pipe,
};

use super::Target;

/// Waiting for a key to expire ends here, with "still there".
const PATIENCE: Duration = Duration::from_secs(10);

/// What is told, a line each.
#[derive(Default)]
struct Told(String);

impl Told {
    fn say(&mut self, label: &str, value: impl fmt::Display) {
        writeln!(self.0, "{label}: {value}").expect("a string takes all");
    }

    /// What a request was answered.
    fn reply(&mut self, label: &str, reply: Value) {
        self.say(label, Text(reply));
    }

    fn replies(&mut self, label: &str, replies: Vec<Value>) {
        self.reply(label, Value::Array(replies));
    }
}

/// A reply, as all four programs print it.
struct Text(Value);

impl fmt::Display for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Value::Nil => f.write_str("nil"),
            Value::Int(number) => write!(f, "{number}"),
            Value::BulkString(bytes) => f.write_str(&String::from_utf8_lossy(bytes)),
            Value::SimpleString(text) => f.write_str(text),
            Value::Okay => f.write_str("OK"),
            Value::Array(values) => {
                let words = values.iter().map(|value| Text(value.clone()).to_string());
                f.write_str(&words.collect::<Vec<_>>().join(" "))
            }
            Value::ServerError(error) => write!(f, "error {}", error.details().unwrap_or("")),
            other => write!(f, "unexpected {other:?}"),
        }
    }
}

/// An error as if it were a reply.
fn as_reply(result: RedisResult<Value>) -> Value {
    result.unwrap_or_else(|error: RedisError| {
        let text = error.detail().unwrap_or_default();
        Value::SimpleString(format!("error {text}"))
    })
}

/// Makes a tour.
pub(crate) fn tour(topic: &str, target: &Target) -> String {
    let client = redis::Client::open(format!("redis://{}/", target.address())).expect("a URL");
    let connection = || client.get_connection().expect("a server");
    let mut told = Told::default();
    let done = match topic {
        "strings" => strings(&mut connection(), &mut told),
        "expiry" => expiry(&mut connection(), &mut told),
        "transactions" => transactions(&mut connection(), &mut connection(), &mut told),
        "pipelines" => pipelines(&mut connection(), &mut told),
        "scans" => scans(&mut connection(), &mut connection(), &mut told),
        other => panic!("no such topic: {other}"),
    };
    if let Err(error) = done {
        panic!("{error}, after:\n{}", told.0);
    }
    told.0
}

fn sorted_keys(r: &mut Connection) -> RedisResult<String> {
    let mut keys: Vec<String> = r.keys("*")?;
    keys.sort();
    Ok(keys.join(" "))
}

fn strings(r: &mut Connection, told: &mut Told) -> RedisResult<()> {
    let only = |check| SetOptions::default().conditional_set(check);
    let if_new = || only(ExistenceCheck::NX);
    let if_old = || only(ExistenceCheck::XX);
    told.reply("set", r.set("pear", "2.10 per kilo")?);
    told.reply("get", r.get("pear")?);
    told.reply("get of none", r.get("plum")?);
    told.reply("length", r.strlen("pear")?);
    told.reply("append", r.append("pear", ", ripe")?);
    told.reply("range", r.getrange("pear", 5, 12)?);
    told.reply("set range", r.setrange("pear", 0, "3.20")?);
    told.reply("get", r.get("pear")?);
    told.reply("many", r.mset(&[("apple", "1.25"), ("cherry", "6.75")])?);
    told.reply("get many", r.mget(&["apple", "plum", "cherry"])?);
    told.reply("if new, of old", r.set_options("apple", "0", if_new())?);
    told.reply("if new, of new", r.set_options("plum", "2.40", if_new())?);
    told.reply("if old, of new", r.set_options("fig", "0", if_old())?);
    let old = r.set_options("plum", "2.50", if_old().get(true))?;
    told.reply("if old, of old", old);
    let setnx = vec![r.set_nx("plum", "0")?, r.set_nx("fig", "5.60")?];
    told.replies("setnx", setnx);
    told.reply("get and set", r.getset("fig", "5.70")?);
    told.reply("get and delete", r.get_del("fig")?);
    let counts = vec![
        r.incr("sold", 1)?,
        r.incr("sold", 10)?,
        r.decr("sold", 1)?,
        r.decr("sold", 3)?,
    ];
    told.replies("count", counts);
    told.reply("count words", as_reply(r.incr("pear", 1)));
    let bytes: Vec<u8> = (0..=255).collect();
    told.reply("bytes", r.set("bytes", &bytes)?);
    let same = r.get::<_, Vec<u8>>("bytes")? == bytes;
    told.say("the same bytes", i32::from(same));
    told.reply("long", r.set("long", "x".repeat(1_000_000))?);
    told.say("as long", r.get::<_, String>("long")?.len());
    told.replies("kind", vec![r.key_type("pear")?, r.key_type("none")?]);
    told.reply("there", r.exists(&["apple", "none", "cherry", "apple"])?);
    told.reply("delete", r.del(&["apple", "none", "cherry"])?);
    told.reply("unlink", r.unlink(&["long", "bytes"])?);
    told.say("left", sorted_keys(r)?);
    Ok(())
}

/// Seconds to live, as `about N`, because some may have passed.
fn left(r: &mut Connection, key: &str) -> RedisResult<Value> {
    let ttl: i64 = r.ttl(key)?;
    let near = [10, 100].into_iter().find(|n| (n - 5..=*n).contains(&ttl));
    Ok(near.map_or(Value::Int(ttl), |n| {
        Value::SimpleString(format!("about {n}"))
    }))
}

/// Waits until a key is not there.
fn gone(r: &mut Connection, key: &str) -> RedisResult<Value> {
    let until = Instant::now() + PATIENCE;
    while r.get::<_, Value>(key)? != Value::Nil {
        if Instant::now() > until {
            return Ok(Value::SimpleString("still there".into()));
        }
        thread::sleep(Duration::from_millis(20));
    }
    Ok(Value::SimpleString("gone".into()))
}

fn expiry(r: &mut Connection, told: &mut Told) -> RedisResult<()> {
    let with = |expiry| SetOptions::default().with_expiration(expiry);
    let seconds = || with(SetExpiry::EX(100));
    told.reply("of none", r.ttl("pear")?);
    let stays = vec![r.set("pear", "2.10")?, r.ttl("pear")?];
    told.replies("of one that stays", stays);
    let set = vec![
        r.set_options("apple", "1.25", seconds())?,
        left(r, "apple")?,
    ];
    told.replies("set with seconds", set);
    let setex = vec![r.set_ex("cherry", "6.75", 100)?, left(r, "cherry")?];
    told.replies("setex", setex);
    let about = (90_001..=100_000).contains(&r.pttl::<_, i64>("cherry")?);
    told.say("milliseconds", i32::from(about));
    let again = vec![r.set("apple", "1.30")?, r.ttl("apple")?];
    told.replies("set again", again);
    told.replies("expire", vec![r.expire("apple", 10)?, left(r, "apple")?]);
    told.reply("expire none", r.expire("plum", 10)?);
    let keep = r.set_options("apple", "1.35", with(SetExpiry::KEEPTTL))?;
    told.replies("keep", vec![keep, left(r, "apple")?]);
    let hits = vec![
        r.set_options("hits", "1", seconds())?,
        r.incr("hits", 1)?,
        left(r, "hits")?,
    ];
    told.replies("count keeps", hits);
    let persist = vec![r.persist("apple")?, r.persist("apple")?, r.ttl("apple")?];
    told.replies("persist", persist);
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let now = i64::try_from(now.expect("after 1970").as_secs()).expect("seconds");
    let at = vec![r.expire_at("apple", now + 100)?, left(r, "apple")?];
    told.replies("expire at", at);
    let pexpire = vec![r.pexpire("apple", 10_000)?, left(r, "apple")?];
    told.replies("pexpire", pexpire);
    told.replies("in the past", vec![r.expire("apple", -1)?, r.get("apple")?]);
    let soon = vec![
        r.set_options("fig", "5.60", with(SetExpiry::PX(1_500)))?,
        r.pset_ex("date", "7.20", 1_500)?,
        r.get("fig")?,
    ];
    told.replies("soon", soon);
    let later = vec![
        gone(r, "fig")?,
        gone(r, "date")?,
        r.exists(&["fig", "date"])?,
        r.ttl("fig")?,
    ];
    told.replies("later", later);
    let if_new = SetOptions::default().conditional_set(ExistenceCheck::NX);
    let new = vec![r.set_options("fig", "5.80", if_new)?, r.ttl("fig")?];
    told.replies("new again", new);
    told.say("left", sorted_keys(r)?);
    Ok(())
}

/// Takes one from the stock, again whenever somebody else changed it meanwhile.
fn sell(r: &mut Connection, mut at_first: impl FnMut() -> RedisResult<()>) -> RedisResult<String> {
    let mut tries = 0;
    let (stock,): (i64,) = redis::transaction(r, &["stock"], |r, pipe| {
        tries += 1;
        let stock: i64 = r.get("stock")?;
        if tries == 1 {
            at_first()?;
        }
        pipe.set("stock", stock - 1).ignore().get("stock").query(r)
    })?;
    Ok(format!("{tries} {stock}"))
}

fn transactions(r: &mut Connection, other: &mut Connection, told: &mut Told) -> RedisResult<()> {
    let mut all = pipe();
    all.atomic().set("pear", "2.10").incr("sold", 1).get("pear");
    told.reply("all at once", all.mget(&["none", "sold"]).query(r)?);
    let mut fails = pipe();
    fails.atomic().set("pear", "2.20").incr("pear", 1);
    fails.set("plum", "2.40").ignore_errors();
    told.reply("one fails", fails.query(r)?);
    told.reply("the others do not", r.mget(&["pear", "plum"])?);

    let () = r.set("stock", 10)?;
    told.say("nobody else", sell(r, || Ok(()))?);
    told.say("another key", sell(r, || other.set("other", 1))?);
    told.say("somebody else", sell(r, || other.decr("stock", 1))?);
    let same = sell(r, || {
        let stock: i64 = other.get("stock")?;
        other.set("stock", stock)
    })?;
    told.say("the same again", same);
    let made = sell(r, || {
        let stock: i64 = other.get_del("stock")?;
        other.set("stock", stock)
    })?;
    told.say("deleted and made", made);
    redis::cmd("WATCH").arg("stock").exec(r)?;
    let () = other.set("stock", 50)?;
    redis::cmd("UNWATCH").exec(r)?;
    told.reply("unwatched", pipe().atomic().decr("stock", 1).query(r)?);
    Ok(())
}

fn pipelines(r: &mut Connection, told: &mut Told) -> RedisResult<()> {
    let mut incrs = pipe();
    for _ in 0..1_000 {
        incrs.incr("count", 1);
    }
    let counts: Vec<u64> = incrs.query(r)?;
    let sum: u64 = counts.iter().sum();
    let (first, last) = (counts[0], counts[counts.len() - 1]);
    told.say(
        "a thousand",
        format_args!("{} {first} {last} {sum}", counts.len()),
    );
    let mut fails = pipe();
    fails.set("pear", "ripe").incr("pear", 1).get("pear");
    told.reply("one fails", fails.ignore_errors().query(r)?);
    let mut large = pipe();
    let keys: Vec<String> = (0..200).map(|n| format!("large:{n}")).collect();
    for (key, letter) in keys.iter().zip(('a'..='z').cycle()) {
        large.set(key, String::from(letter).repeat(10_000));
    }
    let done: Vec<Value> = large.query(r)?;
    let done = done.iter().filter(|&done| *done == Value::Okay);
    told.say("large", done.count());
    let values: Vec<String> = r.mget(&keys)?;
    told.say("all of them", values.iter().map(String::len).sum::<usize>());
    let letters = values[..26].iter().map(|value| &value[..1]);
    told.say("in their places", letters.collect::<String>());
    Ok(())
}

fn scans(r: &mut Connection, other: &mut Connection, told: &mut Told) -> RedisResult<()> {
    let fruits = (0..400).map(|n| format!("fruit:{n:03}"));
    let keys: BTreeSet<String> = fruits
        .chain((0..100).map(|n| format!("tree:{n}")))
        .collect();
    let mut sets = pipe();
    for key in &keys {
        sets.set(key, "x").ignore();
    }
    sets.exec(r)?;
    let found = |r: &mut Connection, options| -> RedisResult<BTreeSet<String>> {
        r.scan_options(options)?.collect()
    };
    told.reply("keys", redis::cmd("DBSIZE").query(r)?);
    let all: BTreeSet<String> = r.scan()?.collect::<RedisResult<_>>()?;
    told.say("all", i32::from(all == keys));
    let all = found(r, ScanOptions::default().with_count(300))?;
    told.say("in large steps", i32::from(all == keys));
    let some = found(r, ScanOptions::default().with_pattern("fruit:1*"))?;
    told.say("some", some.len());
    let none = ScanOptions::default().with_pattern("root:*").with_count(7);
    told.say("none", found(r, none)?.len());
    let mut few: Vec<String> = r.keys("fruit:39[5-9]")?;
    few.sort();
    told.say("a few", few.join(" "));
    for key in r.scan_match::<_, String>("tree:*")? {
        let () = other.del(key?)?;
    }
    told.reply("deleted while scanned", redis::cmd("DBSIZE").query(r)?);
    told.reply("flush", redis::cmd("FLUSHALL").query(r)?);
    told.reply("keys", redis::cmd("DBSIZE").query(r)?);
    Ok(())
}
