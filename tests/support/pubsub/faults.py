"""What POST /control/fault breaks. The contract is in pubsub_server; here is how.

A fault is chosen when a request arrives; a pull that waits already is answered as it should be. Some
replace the request (nothing is done), some spoil its answer (it is done), some change what a pull or
an acknowledgement does.
"""
import asyncio
import zlib

from .errors import STATUS_OF_CODE, error_body, invalid
from .rules import Shape, boolean, int32, raw, string

HTML = ("<!DOCTYPE html><html><head><title>Error {0}</title></head>"
        "<body><h1>Server Error</h1><p>Please try again in 30 seconds.</p></body></html>")
MOVED = "https://elsewhere.invalid/"


def number(value, where):
    if type(value) not in (int, float) or value < 0:
        raise invalid(f"{where} is {value!r}; a number is expected")
    return value


COMMON = {"call": string, "kind": string, "count": int32, "share": number, "resource": string}
KINDS = {  # kind: its own fields
    "status": {"status": int32, "google": string, "message": string, "retryAfter": string,
               "details": raw, "body": string, "done": boolean},
    "redirect": {"status": int32, "location": string},
    "hang": {"done": boolean},
    "reset": {},
    "delay": {"ms": number},
    "reset-mid-body": {}, "drop-publish-answer": {},
    "slow-body": {"bytesPerSecond": number},
    "wrong-json": {"text": string}, "truncated-json": {},
    "oversized": {"messages": int32, "bytes": int32},
    "duplicate": {}, "expire-leases": {}, "lose-acks": {}, "revoke-tokens": {},
    "bad-ack-id": {"ackId": string, "messageId": string, "ids": number},
}
SHAPES = {kind: Shape(**COMMON, **fields) for kind, fields in KINDS.items()}
DEFAULT_CALL = {"duplicate": "pull", "expire-leases": "pull", "oversized": "pull",
                "lose-acks": "acknowledge", "bad-ack-id": "acknowledge",
                "drop-publish-answer": "publish"}
AT_ONCE = ("duplicate", "expire-leases", "revoke-tokens")  # without count and share
LIMITED = {"oversized": ("pull",), "duplicate": ("pull",), "expire-leases": ("pull",),
           "lose-acks": ("acknowledge", "modifyAckDeadline"),
           "bad-ack-id": ("acknowledge", "modifyAckDeadline"), "drop-publish-answer": ("publish",)}


class Fault:
    """One fault in force; each method is asked at its place in a request's way."""

    def __init__(self, number_of_it, asked):
        self.id, self.asked, self.kind = number_of_it, asked, asked["kind"]
        self.left = asked.get("count", None if "share" in asked else 1)
        self.hits = 0

    def matches(self, call, resource, random):
        wanted, asked = self.asked.get("call", "any"), self.asked
        if wanted not in (call, "any") or call not in LIMITED.get(self.kind, (call,)):
            return False
        if "resource" in asked and asked["resource"] not in (resource, resource.rpartition("/")[2]):
            return False
        if "share" in asked and random.random() >= asked["share"]:
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
            exchange.send(code, error_body(code, google, message, asked.get("details", ())), headers)

    def send_redirect(self, exchange, *_):
        where = self.asked.get("location", MOVED)
        exchange.send(self.asked.get("status", 302), b"", [("Location", where)], None)

    def send_hang(self, exchange, *_):
        exchange.stats.hanging += 1

    def send_delay(self, exchange, code, body):
        asyncio.get_running_loop().call_later(self.asked.get("ms", 100) / 1000, exchange.send, code,
                                              body)

    def send_drop_publish_answer(self, exchange, *_):
        exchange.request.connection.reset()

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
        text = self.asked.get("text", '{"receivedMessages":[{"ackId":7,"message":"x"}],'
                                      '"messageIds":{"0":1},"access_token":[]}')
        exchange.send(code, text.encode())

    def send_truncated_json(self, exchange, code, body):
        exchange.send(code, body[:max(1, len(body) * 2 // 3)])

    # ---- what pulls and acknowledgements do ----

    def pull_limit(self, limit):
        return self.asked.get("messages", limit * 10) if self.kind == "oversized" else limit

    def after_pull(self, subscription, messages, ack_ids, body):
        """The body to send; a lease may end, or a message be offered again, right after."""
        loop = asyncio.get_running_loop()
        if self.kind == "oversized":
            return body.ljust(self.asked.get("bytes", 0))  # blanks after the object are still JSON
        if self.kind == "duplicate":
            loop.call_soon(subscription.repeat, messages)
        if self.kind == "expire-leases":
            loop.call_soon(expire, subscription, ack_ids)
        return body

    def loses(self):
        return self.kind == "lose-acks"

    def check_ids(self, subscription, ack_ids):
        if self.kind != "bad-ack-id":
            return
        asked = self.asked
        for ack_id in ack_ids:
            batch = subscription.leases.get(ack_id, {})
            message = str(batch[ack_id][0]) if batch else None
            if ack_id == asked.get("ackId") or message and message == asked.get("messageId") or \
                    zlib.crc32(ack_id.encode()) < asked.get("ids", 0) * 2 ** 32:
                error = invalid(f"You have passed an invalid ack ID to the service (ackId={ack_id}).")
                error.violation = False
                raise error


def expire(subscription, ack_ids):
    subscription.lapse([ack_id for ack_id in ack_ids if ack_id in subscription.leases])


class Faults:
    def __init__(self, calls, random):
        self.calls, self.random = calls, random
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

    def add(self, body, store, tokens):
        """Put a fault in force, or do it at once; its id."""
        kind = body.get("kind")
        if kind not in SHAPES:
            raise invalid(f"no such kind: {kind!r}; there are {', '.join(sorted(SHAPES))}")
        asked = SHAPES[kind].read(body)
        if kind in DEFAULT_CALL:
            asked.setdefault("call", DEFAULT_CALL[kind])
        if asked.get("call", "any") not in (*self.calls, "any"):
            raise invalid(f"no such call: {asked['call']!r}; there are {', '.join(self.calls)}, any")
        if asked.get("call", "any") not in (*LIMITED.get(kind, self.calls), "any"):
            raise invalid(f"{kind} is for {', '.join(LIMITED[kind])}")
        self.count += 1
        if kind in AT_ONCE and "count" not in asked and "share" not in asked:
            self.at_once(kind, asked, store, tokens)
        else:
            self.faults.append(Fault(self.count, asked))
        return self.count

    def at_once(self, kind, asked, store, tokens):
        if kind == "revoke-tokens":
            tokens.revoke()
            return
        for name, subscription in store.subscriptions.items():
            if asked.get("resource", name) not in (name, name.rpartition("/")[2]):
                continue
            if kind == "duplicate":
                subscription.repeat(subscription.held())
            else:
                expire(subscription, list(subscription.leases))

    def clear(self):
        self.faults.clear()

    def shown(self):
        return [fault.shown() for fault in self.faults]
