"""A small real program for redis-py, run against Redis and against Quince: a rate limiter and a lock.

python3 shop.py HOST:PORT[,HOST:PORT...]: each worker uses the next of these addresses.
"""

import sys
import threading
import time

import redis

# Waiting for something to expire ends here.
PATIENCE_S = 10


class Limiter:
    """At most `calls` calls of each user within a window of `seconds`."""

    def __init__(self, r, calls, seconds):
        self.r, self.calls, self.seconds = r, calls, seconds

    def allows(self, user):
        key = f"calls:{user}"
        count = self.r.incr(key)
        if count == 1:
            self.r.expire(key, self.seconds)
        return count <= self.calls


class Lock:
    """A name that one holder has at a time, until it lets go or the time is up."""

    def __init__(self, r, name):
        self.r, self.key = r, f"lock:{name}"

    def take(self, holder, ms=30_000):
        return bool(self.r.set(self.key, holder, nx=True, px=ms))

    def give_back(self, holder, after_look=lambda: None):
        """Deletes the key only if `holder` holds it, whatever happens after the look at it."""
        with self.r.pipeline() as p:
            while True:
                try:
                    p.watch(self.key)
                    if p.get(self.key) != holder.encode():
                        p.unwatch()
                        return False
                    after_look()
                    p.multi()
                    p.delete(self.key)
                    p.execute()
                    return True
                except redis.WatchError:
                    continue


def say(label, *values):
    words = {True: "yes", False: "no"}
    print(f"{label}:", *(words[value] if isinstance(value, bool) else value for value in values))


def until(happens):
    end = time.monotonic() + PATIENCE_S
    while not happens():
        if time.monotonic() > end:
            return False
        time.sleep(0.02)
    return True


def in_parallel(clients, work):
    """What `work` returns for each client, all at work at once."""
    results = {}

    def one(number, client):
        results[number] = work(number, client)

    threads = [threading.Thread(target=one, args=pair) for pair in enumerate(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return [results[number] for number in range(len(threads))]


addresses = [address.rsplit(":", 1) for address in sys.argv[1].split(",")]


def client(number):
    host, port = addresses[number % len(addresses)]
    return redis.Redis(host=host, port=int(port))


workers = [client(number) for number in range(6)]
first, second = workers[0], workers[1]

limiter = Limiter(first, calls=3, seconds=2)
say("five calls of ann", *(limiter.allows("ann") for _ in range(5)))
say("a call of bob", limiter.allows("bob"))
say("ann when the window is over", until(lambda: limiter.allows("ann")))
say("and two more", limiter.allows("ann"), limiter.allows("ann"), limiter.allows("ann"))

busy = [Limiter(worker, calls=50, seconds=60) for worker in workers]
allowed = in_parallel(busy, lambda _, limiter: sum(limiter.allows("all") for _ in range(20)))
say("of 120 calls at once", sum(allowed))

door, window = Lock(first, "door"), Lock(second, "door")
say("ann takes the lock, bob tries", door.take("ann"), window.take("bob"))
say("bob gives it back, ann does", window.give_back("bob"), door.give_back("ann"))
say("ann gives it back again", door.give_back("ann"))
say("bob takes it for a second", window.take("bob", ms=1_000))
say("ann takes it when that is over", until(lambda: door.take("ann")))
say("bob gives back what he has no more", window.give_back("bob"))
say("ann still holds it", first.get("lock:door").decode(), 0 < first.pttl("lock:door") <= 30_000)


def lost_meanwhile():
    """The lock of ann ends, and bob takes it, between her look and her delete."""
    if first.get("lock:door") == b"ann":
        second.delete("lock:door")
        window.take("bob")


say("ann gives back, too late", door.give_back("ann", after_look=lost_meanwhile))
say("bob still holds it", first.get("lock:door").decode())


def deposit(number, r):
    """Adds to the balance by a read and a write, which only the lock makes one step."""
    lock, holder = Lock(r, "balance"), f"worker {number}"
    for _ in range(15):
        while not lock.take(holder):
            time.sleep(0.001)
        r.set("balance", int(r.get("balance") or 0) + 10)
        if not lock.give_back(holder):
            return False
    return True


say("all had the lock and gave it back", all(in_parallel(workers, deposit)))
say("balance after 90 deposits of 10", int(first.get("balance")))
say("keys", *sorted(key.decode() for key in first.scan_iter() if not key.startswith(b"calls:")))
