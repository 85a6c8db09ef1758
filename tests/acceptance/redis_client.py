"""redis_client.py - a small client of Redis for the acceptance scripts: RESP2, and streams as the service
uses them. It has the same shape as that of Google Pub/Sub in pubsub.py.
"""
import itertools
import socket


class RedisError(Exception):
    """An error reply."""


def encode(*args):
    parts = [b"*%d\r\n" % len(args)]
    for arg in args:
        data = arg if isinstance(arg, bytes) else str(arg).encode()
        parts.append(b"$%d\r\n%s\r\n" % (len(data), data))
    return b"".join(parts)


class Redis:
    """A RESP2 client on a unix socket. call() raises RedisError; pipeline() returns them."""

    def __init__(self, path, timeout_s=120):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(timeout_s)
        self.socket.connect(str(path))
        self.file = self.socket.makefile("rb", buffering=1 << 16)

    def close(self):
        self.file.close()
        self.socket.close()

    def _read(self):
        line = self.file.readline()
        if not line.endswith(b"\r\n"):
            raise ConnectionError("redis closed the connection")
        kind, rest = line[:1], line[1:-2]
        if kind == b"+":
            return rest
        if kind == b"-":
            return RedisError(rest.decode())
        if kind == b":":
            return int(rest)
        if kind == b"$":
            if rest == b"-1":
                return None
            return self.file.read(int(rest) + 2)[:-2]
        if kind == b"*":
            return None if rest == b"-1" else [self._read() for _ in range(int(rest))]
        raise ConnectionError(f"not RESP: {line!r}")

    def call(self, *args):
        self.socket.sendall(encode(*args))
        reply = self._read()
        if isinstance(reply, RedisError):
            raise reply
        return reply

    def pipeline(self, encoded):
        """Replies of commands made by encode(), in one round trip."""
        self.socket.sendall(b"".join(encoded))
        return [self._read() for _ in encoded]

    def offer(self, topic, bodies):
        """For each body its entry id, or the RedisError; OSError when it is not known."""
        replies = self.pipeline([encode("XADD", topic, "*", "data", b) for b in bodies])
        return [r if isinstance(r, RedisError) else r.decode() for r in replies]

    def publish(self, topic, bodies, at_once=500):
        """Entry ids of bodies added to topic; raises on the first refusal."""
        ids = []
        bodies = iter(bodies)
        while chunk := list(itertools.islice(bodies, at_once)):
            for found in self.offer(topic, chunk):
                if isinstance(found, RedisError):
                    raise found
                ids.append(found)
        return ids

    def backlog(self, topic):
        deferred = self.call("ZCARD", topic + ":deferred")
        try:
            groups = [pairs(g) for g in self.call("XINFO", "GROUPS", topic)]
        except RedisError:  # no such stream
            return 0, 0, deferred
        group = next((g for g in groups if g["name"].decode() == topic), None)
        if not group:
            return self.call("XLEN", topic), 0, deferred
        after = "(" + group["last-delivered-id"].decode()
        ready = len(self.call("XRANGE", topic, after, "+", "COUNT", 1))
        return ready, group["pending"], deferred


def pairs(flat):
    return dict(zip((k.decode() for k in flat[::2]), flat[1::2]))
