// The tour of `tests/redis_clients.rs` with ioredis: node ioredis.mjs TOPIC HOST PORT
//
// Each topic begins with no keys, uses the client as it comes, and prints what it was told.

import { about, errorOf, found, gone, isAll, packageOf, say, scanned, times } from "./tour.mjs";

const { Redis } = packageOf("ioredis");

/** Of `exec`, which tells an error and a reply for each command. */
const replies = (pairs) => pairs.map(([error, reply]) => error ?? reply);

async function strings(r) {
  say("set", await r.set("pear", "2.10 per kilo"));
  say("get", await r.get("pear"));
  say("get of none", await r.get("plum"));
  say("length", await r.strlen("pear"));
  say("append", await r.append("pear", ", ripe"));
  say("range", await r.getrange("pear", 5, 12));
  say("set range", await r.setrange("pear", 0, "3.20"));
  say("get", await r.get("pear"));
  say("many", await r.mset({ apple: "1.25", cherry: "6.75" }));
  say("get many", await r.mget("apple", "plum", "cherry"));
  say("if new, of old", await r.set("apple", "0", "NX"));
  say("if new, of new", await r.set("plum", "2.40", "NX"));
  say("if old, of new", await r.set("fig", "0", "XX"));
  say("if old, of old", await r.set("plum", "2.50", "XX", "GET"));
  say("setnx", [await r.setnx("plum", "0"), await r.setnx("fig", "5.60")]);
  say("get and set", await r.getset("fig", "5.70"));
  say("get and delete", await r.getdel("fig"));
  const counts = [r.incr("sold"), r.incrby("sold", 10), r.decr("sold"), r.decrby("sold", 3)];
  say("count", await Promise.all(counts));
  say("count words", await errorOf(r.incr("pear")));
  const bytes = Buffer.from(times(256, (n) => n));
  say("bytes", await r.set("bytes", bytes));
  say("the same bytes", Number(bytes.equals(await r.getBuffer("bytes"))));
  say("long", await r.set("long", "x".repeat(1_000_000)));
  say("as long", (await r.get("long")).length);
  say("kind", [await r.type("pear"), await r.type("none")]);
  say("there", await r.exists("apple", "none", "cherry", "apple"));
  say("delete", await r.del("apple", "none", "cherry"));
  say("unlink", await r.unlink("long", "bytes"));
  say("left", (await r.keys("*")).sort());
}

async function expiry(r) {
  const left = async (key) => about(await r.ttl(key));
  say("of none", await r.ttl("pear"));
  say("of one that stays", [await r.set("pear", "2.10"), await r.ttl("pear")]);
  say("set with seconds", [await r.set("apple", "1.25", "EX", 100), await left("apple")]);
  say("setex", [await r.setex("cherry", 100, "6.75"), await left("cherry")]);
  const milliseconds = await r.pttl("cherry");
  say("milliseconds", Number(90_000 < milliseconds && milliseconds <= 100_000));
  say("set again", [await r.set("apple", "1.30"), await r.ttl("apple")]);
  say("expire", [await r.expire("apple", 10), await left("apple")]);
  say("expire none", await r.expire("plum", 10));
  say("keep", [await r.set("apple", "1.35", "KEEPTTL"), await left("apple")]);
  say("count keeps", [await r.set("hits", "1", "EX", 100), await r.incr("hits"), await left("hits")]);
  say("persist", [await r.persist("apple"), await r.persist("apple"), await r.ttl("apple")]);
  const now = Math.floor(Date.now() / 1000);
  say("expire at", [await r.expireat("apple", now + 100), await left("apple")]);
  say("pexpire", [await r.pexpire("apple", 10_000), await left("apple")]);
  say("in the past", [await r.expire("apple", -1), await r.get("apple")]);
  say("soon", [await r.set("fig", "5.60", "PX", 1_500), await r.psetex("date", 1_500, "7.20"), await r.get("fig")]);
  say("later", [await gone(r, "fig"), await gone(r, "date"), await r.exists("fig", "date"), await r.ttl("fig")]);
  say("new again", [await r.set("fig", "5.80", "NX"), await r.ttl("fig")]);
  say("left", (await r.keys("*")).sort());
}

async function transactions(r) {
  const all = r.multi().set("pear", "2.10").incr("sold").get("pear").mget("none", "sold");
  say("all at once", replies(await all.exec()));
  const fails = r.multi().set("pear", "2.20").incr("pear").set("plum", "2.40");
  say("one fails", replies(await fails.exec()));
  say("the others do not", await r.mget("pear", "plum"));

  const other = r.duplicate();
  /** Takes one from the stock, again whenever somebody else changed it meanwhile. */
  const sell = async (atFirst) => {
    for (let tries = 1; ; tries++) {
      await r.watch("stock");
      const stock = Number(await r.get("stock"));
      if (tries === 1) await atFirst();
      const done = await r.multi().set("stock", stock - 1).exec();
      if (done !== null) return [tries, await r.get("stock")];
    }
  };
  await r.set("stock", 10);
  say("nobody else", await sell(() => {}));
  say("another key", await sell(() => other.set("other", 1)));
  say("somebody else", await sell(() => other.decr("stock")));
  say("the same again", await sell(async () => other.set("stock", await other.get("stock"))));
  say("deleted and made", await sell(async () => other.set("stock", await other.getdel("stock"))));
  await r.watch("stock");
  await other.set("stock", 50);
  await r.unwatch();
  say("unwatched", replies(await r.multi().decr("stock").exec()));
  other.disconnect();
}

async function pipelines(r) {
  const incrs = r.pipeline();
  for (let n = 0; n < 1_000; n++) incrs.incr("count");
  const counts = replies(await incrs.exec());
  say("a thousand", [counts.length, counts[0], counts.at(-1), counts.reduce((sum, n) => sum + n)]);
  say("one fails", replies(await r.pipeline().set("pear", "ripe").incr("pear").get("pear").exec()));
  const batch = r.pipeline();
  const keys = times(200, (n) => `large:${n}`);
  keys.forEach((key, n) => batch.set(key, String.fromCharCode(97 + (n % 26)).repeat(10_000)));
  say("large", replies(await batch.exec()).filter((done) => done === "OK").length);
  const values = await r.mget(keys);
  say("all of them", values.reduce((sum, value) => sum + value.length, 0));
  say("in their places", values.slice(0, 26).map((value) => value[0]).join(""));
}

async function scans(r) {
  await Promise.all(scanned.map((key) => r.set(key, "x")));
  say("keys", await r.dbsize());
  say("all", isAll(await found(r.scanStream())));
  say("in large steps", isAll(await found(r.scanStream({ count: 300 }))));
  say("some", (await found(r.scanStream({ match: "fruit:1*" }))).length);
  say("none", (await found(r.scanStream({ match: "root:*", count: 7 }))).length);
  say("a few", (await r.keys("fruit:39[5-9]")).sort());
  for await (const some of r.scanStream({ match: "tree:*" })) {
    if (some.length > 0) await r.del(some);
  }
  say("deleted while scanned", await r.dbsize());
  say("flush", await r.flushall());
  say("keys", await r.dbsize());
}

const topics = { strings, expiry, transactions, pipelines, scans };
const [topic, host, port] = process.argv.slice(2);
const client = new Redis({ host, port: Number(port) });
client.on("error", (error) => console.log(`connection: ${error}`));
await topics[topic](client);
await client.quit();
