"""What POST /control/fault breaks, whatever the API.

A fault is chosen when a request arrives. Some replace the request (nothing is done), some spoil its
answer (it is done); a server adds kinds of its own in a subclass of Fault.
"""
import asyncio

from .errors import STATUS_OF_CODE, error_body, invalid
from .shape import Shape, boolean, int32, raw, string

HTML = ("<!DOCTYPE html><html><head><title>Error {0}</title></head>"
        "<body><h1>Server Error</h1><p>Please try again in 30 seconds.</p></body></html>")
MOVED = "https://elsewhere.invalid/"


def number(value, where):
    if type(value) not in (int, float) or value < 0:
        raise invalid(f"{where} is {value!r}; a number is expected")
    return value


COMMON = {"call": string, "kind": string, "count": int32, "share": number, "resource": string,
          "skip": int32}


class Fault:
    """One fault in force; each method is asked at its place in a request's way."""

    KINDS = {  # kind: its own fields
        "status": {"status": int32, "google": string, "message": string, "retryAfter": string,
                   "details": raw, "body": string, "done": boolean},
        "redirect": {"status": int32, "location": string},
        "hang": {"done": boolean},
        "reset": {},
        "delay": {"ms": number},
        "reset-mid-body": {}, "truncated-json": {}, "revoke-tokens": {},
        "slow-body": {"bytesPerSecond": number},
        "wrong-json": {"text": string},
    }
    LIMITED = {}  # kind: the calls it is for
    DEFAULT_CALL = {}  # kind: its call when none is given
    AT_ONCE = ("revoke-tokens",)  # without count and share
    WRONG_JSON = '{"access_token":[]}'

    def __init__(self, number_of_it, asked):
        self.id, self.asked, self.kind = number_of_it, asked, asked["kind"]
        self.left = asked.get("count", None if "share" in asked else 1)
        self.passing = asked.get("skip", 0)
        self.hits = 0

    def matches(self, call, resource, random):
        wanted, asked = self.asked.get("call", "any"), self.asked
        if wanted not in (call, "any") or call not in self.LIMITED.get(self.kind, (call,)):
            return False
        if "resource" in asked and asked["resource"] not in (resource, resource.rpartition("/")[2]):
            return False
        if "share" in asked and random.random() >= asked["share"]:
            return False
        if self.passing > 0:
            self.passing -= 1
            return False
        self.hits += 1
        if self.left is not None:
            self.left -= 1
        return True

    def shown(self):
        return {**self.asked, "id": self.id, "hits": self.hits, "left": self.left}

    # ---- instead of the request ----

    def replaces(self):
        return self.kind in ("status", "redirect", "hang", "reset") and not self.asked.get("done")

    def replace(self, exchange):
        if self.kind == "reset":
            exchange.request.connection.reset()
        else:
            self.spoil(exchange, 200, b"{}")

    # ---- its answer ----

    def spoil(self, exchange, code, body):
        """Send the answer of a request that has been carried out, in its own way."""
        method = getattr(self, "send_" + self.kind.replace("-", "_"), None)
        if method:
            method(exchange, code, body)
        else:
            exchange.send(code, body)

    def send_status(self, exchange, *_):
        asked = self.asked
        code = asked.get("status", 503)
        google = asked.get("google", STATUS_OF_CODE.get(code, "UNKNOWN"))
        headers = [("Retry-After", asked["retryAfter"])] if "retryAfter" in asked else []
        form = asked.get("body", "json")
        if form == "html":
            exchange.send(code, HTML.format(code).encode(), headers, "text/html; charset=UTF-8")
        elif form == "empty":
            exchange.send(code, b"", headers, None)
        else:
            message = asked.get("message", "A fault that was asked for.")
            exchange.send(code, self.error_body(code, google, message), headers)

    def error_body(self, code, google, message):
        return error_body(code, google, message, self.asked.get("details", ()))

    def send_redirect(self, exchange, *_):
        where = self.asked.get("location", MOVED)
        exchange.send(self.asked.get("status", 302), b"", [("Location", where)], None)

    def send_hang(self, exchange, *_):
        exchange.stats.hanging += 1

    def send_delay(self, exchange, code, body):
        asyncio.get_running_loop().call_later(self.asked.get("ms", 100) / 1000, exchange.send, code,
                                              body)

    def send_reset_mid_body(self, exchange, code, body):
        connection = exchange.request.connection
        whole = exchange.render(code, body)
        connection.write(whole[:len(whole) - len(body) + len(body) // 2])
        # Not at once: a reset lets the client's kernel forget what it has not read.
        asyncio.get_running_loop().call_later(0.05, connection.reset)

    def send_slow_body(self, exchange, code, body):
        whole = exchange.render(code, body)
        head = len(whole) - len(body)
        exchange.request.connection.write(whole[:head])
        step = max(1, int(self.asked.get("bytesPerSecond", 1000) / 20))
        self.trickle(exchange, memoryview(whole)[head:], step)

    def trickle(self, exchange, rest, step):
        connection = exchange.request.connection
        if connection.current is not exchange.request:
            return
        connection.write(bytes(rest[:step]))
        if len(rest) <= step:
            connection.finished()
        else:
            asyncio.get_running_loop().call_later(0.05, self.trickle, exchange, rest[step:], step)

    def send_wrong_json(self, exchange, code, _):
        text = self.asked.get("text", self.WRONG_JSON)
        exchange.send(code, text.encode())

    def send_truncated_json(self, exchange, code, body):
        exchange.send(code, body[:max(1, len(body) * 2 // 3)])

    # ---- without a request ----

    @staticmethod
    def at_once(server, _):
        server.tokens.revoke()


class Faults:
    """kind_of_fault is Fault or a subclass of it."""

    def __init__(self, server, calls, random, kind_of_fault=Fault):
        self.server, self.calls, self.random = server, calls, random
        self.kind_of_fault = kind_of_fault
        self.shapes = {kind: Shape(**COMMON, **fields)
                       for kind, fields in kind_of_fault.KINDS.items()}
        self.faults = []
        self.count = 0

    def pick(self, call, resource):
        """The first fault that is for this request, or None."""
        for fault in self.faults:
            if fault.matches(call, resource, self.random):
                if fault.left is not None and fault.left <= 0:
                    self.faults.remove(fault)
                return fault
        return None

    def add(self, body):
        """Put a fault in force, or do it at once; its id."""
        kind = body.get("kind")
        if kind not in self.shapes:
            raise invalid(f"no such kind: {kind!r}; there are {', '.join(sorted(self.shapes))}")
        asked, one = self.shapes[kind].read(body), self.kind_of_fault
        if kind in one.DEFAULT_CALL:
            asked.setdefault("call", one.DEFAULT_CALL[kind])
        if asked.get("call", "any") not in (*self.calls, "any"):
            raise invalid(f"no such call: {asked['call']!r}; there are {', '.join(self.calls)}, any")
        if asked.get("call", "any") not in (*one.LIMITED.get(kind, self.calls), "any"):
            raise invalid(f"{kind} is for {', '.join(one.LIMITED[kind])}")
        self.count += 1
        if kind in one.AT_ONCE and "count" not in asked and "share" not in asked:
            one.at_once(self.server, asked)
        else:
            self.faults.append(one(self.count, asked))
        return self.count

    def clear(self):
        self.faults.clear()

    def shown(self):
        return [fault.shown() for fault in self.faults]
