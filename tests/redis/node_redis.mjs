// The tour of `tests/redis_clients.rs` with node-redis: node node_redis.mjs TOPIC HOST PORT
//
// Each topic begins with no keys, uses the client as it comes, and prints what it was told.

import { about, errorOf, found, gone, isAll, packageOf, say, scanned, times } from "./tour.mjs";

const { createClient, RESP_TYPES, WatchError } = packageOf("redis");

async function strings(r) {
  say("set", await r.set("pear", "2.10 per kilo"));
  say("get", await r.get("pear"));
  say("get of none", await r.get("plum"));
  say("length", await r.strLen("pear"));
  say("append", await r.append("pear", ", ripe"));
  say("range", await r.getRange("pear", 5, 12));
  say("set range", await r.setRange("pear", 0, "3.20"));
  say("get", await r.get("pear"));
  say("many", await r.mSet({ apple: "1.25", cherry: "6.75" }));
  say("get many", await r.mGet(["apple", "plum", "cherry"]));
  say("if new, of old", await r.set("apple", "0", { condition: "NX" }));
  say("if new, of new", await r.set("plum", "2.40", { condition: "NX" }));
  say("if old, of new", await r.set("fig", "0", { condition: "XX" }));
  say("if old, of old", await r.set("plum", "2.50", { condition: "XX", GET: true }));
  say("setnx", [await r.setNX("plum", "0"), await r.setNX("fig", "5.60")]);
  say("get and set", await r.getSet("fig", "5.70"));
  say("get and delete", await r.getDel("fig"));
  const counts = [r.incr("sold"), r.incrBy("sold", 10), r.decr("sold"), r.decrBy("sold", 3)];
  say("count", await Promise.all(counts));
  say("count words", await errorOf(r.incr("pear")));
  const bytes = Buffer.from(times(256, (n) => n));
  say("bytes", await r.set("bytes", bytes));
  const raw = r.withTypeMapping({ [RESP_TYPES.BLOB_STRING]: Buffer });
  say("the same bytes", Number(bytes.equals(await raw.get("bytes"))));
  say("long", await r.set("long", "x".repeat(1_000_000)));
  say("as long", (await r.get("long")).length);
  say("kind", [await r.type("pear"), await r.type("none")]);
  say("there", await r.exists(["apple", "none", "cherry", "apple"]));
  say("delete", await r.del(["apple", "none", "cherry"]));
  say("unlink", await r.unlink(["long", "bytes"]));
  say("left", (await r.keys("*")).sort());
}

async function expiry(r) {
  const left = async (key) => about(await r.ttl(key));
  const seconds = (value) => ({ expiration: { type: "EX", value } });

  say("of none", await r.ttl("pear"));
  say("of one that stays", [await r.set("pear", "2.10"), await r.ttl("pear")]);
  say("set with seconds", [await r.set("apple", "1.25", seconds(100)), await left("apple")]);
  say("setex", [await r.setEx("cherry", 100, "6.75"), await left("cherry")]);
  const milliseconds = await r.pTTL("cherry");
  say("milliseconds", Number(90_000 < milliseconds && milliseconds <= 100_000));
  say("set again", [await r.set("apple", "1.30"), await r.ttl("apple")]);
  say("expire", [await r.expire("apple", 10), await left("apple")]);
  say("expire none", await r.expire("plum", 10));
  say("keep", [await r.set("apple", "1.35", { expiration: "KEEPTTL" }), await left("apple")]);
  say("count keeps", [await r.set("hits", "1", seconds(100)), await r.incr("hits"), await left("hits")]);
  say("persist", [await r.persist("apple"), await r.persist("apple"), await r.ttl("apple")]);
  const now = Math.floor(Date.now() / 1000);
  say("expire at", [await r.expireAt("apple", now + 100), await left("apple")]);
  say("pexpire", [await r.pExpire("apple", 10_000), await left("apple")]);
  say("in the past", [await r.expire("apple", -1), await r.get("apple")]);
  const soon = { expiration: { type: "PX", value: 1_500 } };
  say("soon", [await r.set("fig", "5.60", soon), await r.pSetEx("date", 1_500, "7.20"), await r.get("fig")]);
  say("later", [await gone(r, "fig"), await gone(r, "date"), await r.exists(["fig", "date"]), await r.ttl("fig")]);
  say("new again", [await r.set("fig", "5.80", { condition: "NX" }), await r.ttl("fig")]);
  say("left", (await r.keys("*")).sort());
}

async function transactions(r) {
  const all = r.multi().set("pear", "2.10").incr("sold").get("pear").mGet(["none", "sold"]);
  say("all at once", await all.exec());
  const fails = r.multi().set("pear", "2.20").incr("pear").set("plum", "2.40");
  say("one fails", await fails.exec().catch((error) => error.replies));
  say("the others do not", await r.mGet(["pear", "plum"]));

  const other = await r.duplicate().connect();
  /** Takes one from the stock, again whenever somebody else changed it meanwhile. */
  const sell = async (atFirst) => {
    for (let tries = 1; ; tries++) {
      await r.watch("stock");
      const stock = Number(await r.get("stock"));
      if (tries === 1) await atFirst();
      try {
        await r.multi().set("stock", String(stock - 1)).exec();
      } catch (error) {
        if (!(error instanceof WatchError)) throw error;
        continue;
      }
      return [tries, await r.get("stock")];
    }
  };
  await r.set("stock", "10");
  say("nobody else", await sell(() => {}));
  say("another key", await sell(() => other.set("other", "1")));
  say("somebody else", await sell(() => other.decr("stock")));
  say("the same again", await sell(async () => other.set("stock", await other.get("stock"))));
  say("deleted and made", await sell(async () => other.set("stock", await other.getDel("stock"))));
  await r.watch("stock");
  await other.set("stock", "50");
  await r.unwatch();
  say("unwatched", await r.multi().decr("stock").exec());
  other.destroy();
}

async function pipelines(r) {
  // What is asked for within one turn of the event loop is sent together.
  const counts = await Promise.all(times(1_000, () => r.incr("count")));
  say("a thousand", [counts.length, counts[0], counts.at(-1), counts.reduce((sum, n) => sum + n)]);
  say("one fails", await Promise.all([r.set("pear", "ripe"), errorOf(r.incr("pear")), r.get("pear")]));
  const batch = r.multi();
  const keys = times(200, (n) => `large:${n}`);
  keys.forEach((key, n) => batch.set(key, String.fromCharCode(97 + (n % 26)).repeat(10_000)));
  say("large", (await batch.execAsPipeline()).filter((done) => done === "OK").length);
  const values = await r.mGet(keys);
  say("all of them", values.reduce((sum, value) => sum + value.length, 0));
  say("in their places", values.slice(0, 26).map((value) => value[0]).join(""));
}

async function scans(r) {
  await Promise.all(scanned.map((key) => r.set(key, "x")));
  say("keys", await r.dbSize());
  say("all", isAll(await found(r.scanIterator())));
  say("in large steps", isAll(await found(r.scanIterator({ COUNT: 300 }))));
  say("some", (await found(r.scanIterator({ MATCH: "fruit:1*" }))).length);
  say("none", (await found(r.scanIterator({ MATCH: "root:*", COUNT: 7 }))).length);
  say("a few", (await r.keys("fruit:39[5-9]")).sort());
  for await (const some of r.scanIterator({ MATCH: "tree:*" })) {
    if (some.length > 0) await r.del(some);
  }
  say("deleted while scanned", await r.dbSize());
  say("flush", await r.flushAll());
  say("keys", await r.dbSize());
}

const topics = { strings, expiry, transactions, pipelines, scans };
const [topic, host, port] = process.argv.slice(2);
const client = createClient({ socket: { host, port: Number(port) } });
client.on("error", (error) => console.log(`connection: ${error}`));
await client.connect();
await topics[topic](client);
await client.close();
