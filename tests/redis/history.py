"""Clients of redis-py with its standard retries that write down all that they do, for `quince check`.

python3 history.py FILE HOST:PORT[,HOST:PORT...]: works until standard input ends, then writes FILE.

What is one operation? redis-py sends a request again by itself when its reply was lost, as often as its
standard `Retry` says. A request that arrived although its reply did not may then be done twice: an `INCR`
counts twice, and an old `SET` may come after a newer one of somebody else. That is the library's choice
(at least once), not the server's mistake; but a history that told of one operation would be refused, and
rightly so. So an operation here is what is *sent*: one each time that a connection sends a request, whoever
decided to send it. A try without a reply is `lost`, which says that it may have been done once, may be done
later, or never; the next try is another operation with an end of its own. So the server is held to what it
promises for each request, however often the library asks, and no repeat is taken for its mistake.

The hook is a `redis.Connection`: the retries of the library are those that come with it. Errors of a server
are told as they are: `NOTDONE` promises that nothing was done or will be, `UNKNOWN` promises nothing.
"""

import random
import sys
import threading
import time

import redis

WORKERS = 6

# Keys get new names after this, so that no key has a long history with many open ends.
AGE_S = 2

# The requests that are recorded when a connection sends them: as they are in the history.
RECORDED = {"GET": "GET", "SET": "PUT", "DEL": "DELETE", "INCR": "INCR"}

began = time.monotonic_ns()
lines = []


class Clients(threading.local):
    """The client that this thread is, in the history."""

    number = 0
    operations = 0


this = Clients()
counts = {"replies": 0, "refused": 0, "lost": 0, "sent again": 0, "swapped": 0, "not swapped": 0}
counting = threading.Lock()


def count(what):
    with counting:
        counts[what] += 1


def call(request):
    """Begins an operation of this thread; its id."""
    this.operations += 1
    operation = f"c{this.number}.{this.operations}"
    lines.append(f"{time.monotonic_ns() - began} {operation} call {request}\n")
    return operation


def end(operation, how):
    lines.append(f"{time.monotonic_ns() - began} {operation} {how}\n")


def end_by_error(operation, error):
    if str(error).startswith("NOTDONE"):
        end(operation, f"refused {error}")
        count("refused")
    else:
        end(operation, f"lost {type(error).__name__}: {error}")
        count("lost")


def reply_line(verb, reply):
    """What the same request would be answered in plain lines."""
    match verb, reply:
        case ("GET", None) | ("DEL", 0):
            return "NOT_FOUND"
        case ("SET", b"OK") | ("DEL", 1):
            return "OK"
        case ("GET", bytes()):
            return f"VALUE {reply.decode()}"
        case ("INCR", int()):
            return f"VALUE {reply}"
    raise AssertionError(f"{verb} was answered {reply}")


class Recorded(redis.Connection):
    """A connection that records each request that it sends and each reply that it reads."""

    asked = None
    unanswered = None

    def send_command(self, *args, **kwargs):
        verb = args[0]
        if verb not in RECORDED:
            return super().send_command(*args, **kwargs)
        if args == self.unanswered:
            count("sent again")
        self.unanswered = args
        operation = call(" ".join([RECORDED[verb], *map(str, args[1:])]))
        try:
            # This connects first where it must: what is said in doing so is not recorded.
            super().send_command(*args, **kwargs)
        except Exception as error:
            end_by_error(operation, error)
            raise
        self.asked = (operation, verb)

    def read_response(self, *args, **kwargs):
        if self.asked is None:
            return super().read_response(*args, **kwargs)
        (operation, verb), self.asked = self.asked, None
        try:
            reply = super().read_response(*args, **kwargs)
        except Exception as error:
            end_by_error(operation, error)
            if isinstance(error, redis.ResponseError):
                self.unanswered = None
            raise
        self.unanswered = None
        end(operation, f"reply {reply_line(verb, reply)}")
        count("replies")
        return reply


def swap(r, key, expected, new):
    """Sets the key to `new` if it holds `expected`, by WATCH; in the history a read and a CAS.

    The read is recorded by the connection. The CAS is what EXEC does: it comes about only if nobody wrote
    to the key since it was watched, so it still holds what was read. If it did not come about, nothing was
    done. redis-py does not send an EXEC again when a watching connection is lost: its WatchError then has
    another text, and nobody knows.
    """
    with r.pipeline() as p:
        p.watch(key)
        if p.get(key) != expected.encode():
            return
        p.multi()
        p.set(key, new)
        operation = call(f"CAS {key} {expected} {new}")
        try:
            p.execute()
        except redis.WatchError as error:
            changed = str(error) == "Watched variable changed."
            end(operation, f"{'refused' if changed else 'lost'} {error}")
            count("not swapped" if changed else "lost")
        except redis.RedisError as error:
            end_by_error(operation, error)
        else:
            end(operation, "reply OK")
            count("swapped")


def ask(r, draw, name):
    """One thing that somebody may want to do; the value is like no other."""
    age = int((time.monotonic_ns() - began) / 1e9 / AGE_S)
    key = f"{draw.choice(['all1', 'all2', 'all3', f'own{this.number}'])}.{age}"
    kind = draw.randrange(12)
    if kind < 4:
        r.get(key)
    elif kind < 7:
        r.set(key, name)
    elif kind == 7:
        r.delete(key)
    elif kind < 10:
        r.incr(f"number.{age}")
    else:
        current = r.get(key)
        if current is not None:
            swap(r, key, current.decode(), name)


def connect(address):
    """As `redis.Redis(host=host, port=port)`, but for the recorder."""
    host, port = address.rsplit(":", 1)
    r = redis.Redis(host=host, port=int(port))
    r.connection_pool.connection_class = Recorded
    return r


def work(number, addresses, stop):
    this.number = number
    draw = random.Random(number)
    servers = [connect(address) for address in addresses]
    at = number
    values = 0
    while not stop.is_set():
        values += 1
        try:
            ask(servers[at % len(servers)], draw, f"v{number}.{values}")
        except redis.RedisError:
            # Recorded already. After all its retries, or a word of the server, a client goes elsewhere.
            at += 1
        if draw.randrange(20) == 0:
            at += 1


def look_again(addresses):
    """Reads every key once more, at every server: what was written long ago is judged too."""
    this.number = WORKERS + 1
    keys = sorted({line.split(" ")[4].strip() for line in lines if line.split(" ")[2] == "call"})
    for address in addresses:
        r = connect(address)
        for key in keys:
            r.get(key)


file, addresses = sys.argv[1], sys.argv[2].split(",")
stop = threading.Event()
threads = [threading.Thread(target=work, args=(number + 1, addresses, stop)) for number in range(WORKERS)]
for thread in threads:
    thread.start()
print("working", flush=True)
sys.stdin.read()
stop.set()
for thread in threads:
    thread.join()
look_again(addresses)
with open(file, "w", encoding="utf-8") as out:
    out.write("history 1\n")
    out.writelines(lines)
for what, number in counts.items():
    print(f"{what}: {number}")
