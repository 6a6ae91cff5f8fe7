"""The tour of `tests/redis_clients.rs` with redis-py: python3 redis_py.py TOPIC HOST PORT

Each topic begins with no keys, uses the client as it comes, and prints what it was told.
"""

import sys
import time
import warnings

import redis

# SETEX and its like are what old programs say.
warnings.simplefilter("ignore", DeprecationWarning)

# Waiting for a key to expire ends here, with "still there".
PATIENCE_S = 10


def say(label, value):
    print(f"{label}: {text(value)}")


def text(value):
    """A reply, as all four programs print it."""
    match value:
        case None:
            return "nil"
        case True:
            return "OK"
        case bytes():
            return value.decode()
        case list():
            return " ".join(map(text, value))
        case Exception():
            return f"error {value}"
        case _:
            return str(value)


def error_of(call, *arguments):
    try:
        return call(*arguments)
    except redis.ResponseError as error:
        return error


def strings(r):
    say("set", r.set("pear", "2.10 per kilo"))
    say("get", r.get("pear"))
    say("get of none", r.get("plum"))
    say("length", r.strlen("pear"))
    say("append", r.append("pear", ", ripe"))
    say("range", r.getrange("pear", 5, 12))
    say("set range", r.setrange("pear", 0, "3.20"))
    say("get", r.get("pear"))
    say("many", r.mset({"apple": "1.25", "cherry": "6.75"}))
    say("get many", r.mget("apple", "plum", "cherry"))
    say("if new, of old", r.set("apple", "0", nx=True))
    say("if new, of new", r.set("plum", "2.40", nx=True))
    say("if old, of new", r.set("fig", "0", xx=True))
    say("if old, of old", r.set("plum", "2.50", xx=True, get=True))
    say("setnx", [int(r.setnx("plum", "0")), int(r.setnx("fig", "5.60"))])
    say("get and set", r.getset("fig", "5.70"))
    say("get and delete", r.getdel("fig"))
    say("count", [r.incr("sold"), r.incrby("sold", 10), r.decr("sold"), r.decrby("sold", 3)])
    say("count words", error_of(r.incr, "pear"))
    say("bytes", r.set("bytes", bytes(range(256))))
    say("the same bytes", int(r.get("bytes") == bytes(range(256))))
    say("long", r.set("long", "x" * 1_000_000))
    say("as long", len(r.get("long")))
    say("kind", [r.type("pear"), r.type("none")])
    say("there", r.exists("apple", "none", "cherry", "apple"))
    say("delete", r.delete("apple", "none", "cherry"))
    say("unlink", r.unlink("long", "bytes"))
    say("left", sorted(r.keys()))


def expiry(r):
    def left(key):
        """Seconds to live, as `about N`, because some may have passed."""
        ttl = r.ttl(key)
        return next((f"about {n}" for n in (10, 100) if n - 5 <= ttl <= n), ttl)

    def gone(key):
        until = time.monotonic() + PATIENCE_S
        while r.get(key) is not None:
            if time.monotonic() > until:
                return "still there"
            time.sleep(0.02)
        return "gone"

    say("of none", r.ttl("pear"))
    say("of one that stays", [r.set("pear", "2.10"), r.ttl("pear")])
    say("set with seconds", [r.set("apple", "1.25", ex=100), left("apple")])
    say("setex", [r.setex("cherry", 100, "6.75"), left("cherry")])
    say("milliseconds", int(90_000 < r.pttl("cherry") <= 100_000))
    say("set again", [r.set("apple", "1.30"), r.ttl("apple")])
    say("expire", [int(r.expire("apple", 10)), left("apple")])
    say("expire none", int(r.expire("plum", 10)))
    say("keep", [r.set("apple", "1.35", keepttl=True), left("apple")])
    say("count keeps", [r.set("hits", "1", ex=100), r.incr("hits"), left("hits")])
    say("persist", [int(r.persist("apple")), int(r.persist("apple")), r.ttl("apple")])
    now = int(time.time())
    say("expire at", [int(r.expireat("apple", now + 100)), left("apple")])
    say("pexpire", [int(r.pexpire("apple", 10_000)), left("apple")])
    say("in the past", [int(r.expire("apple", -1)), r.get("apple")])
    say("soon", [r.set("fig", "5.60", px=1_500), r.psetex("date", 1_500, "7.20"), r.get("fig")])
    say("later", [gone("fig"), gone("date"), r.exists("fig", "date"), r.ttl("fig")])
    say("new again", [r.set("fig", "5.80", nx=True), r.ttl("fig")])
    say("left", sorted(r.keys()))


def transactions(r):
    with r.pipeline() as p:
        p.set("pear", "2.10").incr("sold").get("pear").mget("none", "sold")
        say("all at once", p.execute())
    with r.pipeline() as p:
        p.set("pear", "2.20").incr("pear").set("plum", "2.40")
        say("one fails", p.execute(raise_on_error=False))
    say("the others do not", r.mget("pear", "plum"))

    def sell(at_first):
        """Takes one from the stock, again whenever somebody else changed it meanwhile."""
        tries = 0
        with r.pipeline() as p:
            while True:
                tries += 1
                p.watch("stock")
                stock = int(p.get("stock"))
                if tries == 1:
                    at_first()
                p.multi()
                p.set("stock", stock - 1)
                try:
                    p.execute()
                except redis.WatchError:
                    continue
                return [tries, r.get("stock")]

    r.set("stock", 10)
    say("nobody else", sell(lambda: None))
    say("another key", sell(lambda: r.set("other", 1)))
    say("somebody else", sell(lambda: r.decr("stock")))
    say("the same again", sell(lambda: r.set("stock", r.get("stock"))))
    say("deleted and made", sell(lambda: r.set("stock", r.getdel("stock"))))
    with r.pipeline() as p:
        p.watch("stock")
        r.set("stock", 50)
        p.unwatch()
        p.multi()
        p.decr("stock")
        say("unwatched", p.execute())


def pipelines(r):
    with r.pipeline(transaction=False) as p:
        for _ in range(1_000):
            p.incr("count")
        counts = p.execute()
    say("a thousand", [len(counts), counts[0], counts[-1], sum(counts)])
    with r.pipeline(transaction=False) as p:
        p.set("pear", "ripe").incr("pear").get("pear")
        say("one fails", p.execute(raise_on_error=False))
    with r.pipeline(transaction=False) as p:
        for n in range(200):
            p.set(f"large:{n}", chr(ord("a") + n % 26) * 10_000)
        say("large", len([done for done in p.execute() if done is True]))
    values = r.mget(f"large:{n}" for n in range(200))
    say("all of them", sum(map(len, values)))
    say("in their places", b"".join(value[:1] for value in values[:26]))


def scans(r):
    keys = {f"fruit:{n:03}".encode() for n in range(400)} | {f"tree:{n}".encode() for n in range(100)}
    with r.pipeline(transaction=False) as p:
        for key in keys:
            p.set(key, "x")
        p.execute()
    say("keys", r.dbsize())
    say("all", int(set(r.scan_iter()) == keys))
    say("in large steps", int(set(r.scan_iter(count=300)) == keys))
    say("some", len(set(r.scan_iter(match="fruit:1*"))))
    say("none", len(set(r.scan_iter(match="root:*", count=7))))
    say("a few", sorted(r.keys("fruit:39[5-9]")))
    for key in r.scan_iter(match="tree:*"):
        r.delete(key)
    say("deleted while scanned", r.dbsize())
    say("flush", r.flushall())
    say("keys", r.dbsize())


topics = {"strings": strings, "expiry": expiry, "transactions": transactions, "pipelines": pipelines, "scans": scans}
topic, host, port = sys.argv[1:]
topics[topic](redis.Redis(host=host, port=int(port)))
