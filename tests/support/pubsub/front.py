"""A front of Google's emulator: hands requests on, can be cut, and tells the backlog of subscriptions.

One connection of a client is one to the emulator, carried byte by byte; of requests only the head is
read, and the body of those that are answered here, or concern a new subscription.
"""
import asyncio
import collections
import http.client
import itertools
import json
import socket
import struct
import sys
import threading
import urllib.parse

from google_api import shape
from google_api.errors import ApiError

from . import monitoring

JSON = {"Content-Type": "application/json"}
SUFFIX = ".depth"  # of the subscription that snapshots are read with
AT_ONCE = 1000
HOLD_S, POLL_S = 89, 0.05  # of a pull
CHUNK = 65536
HEAD_MAX = 65536


def wait_for_end(loop, done):
    """Ends with stdin."""
    while sys.stdin.buffer.read(CHUNK):
        pass
    if not loop.is_closed():
        loop.call_soon_threadsafe(done.set)


def run(port, emulator, poll=False):
    asyncio.run(serve(port, Front(emulator, poll)))


async def serve(port, front):
    done = asyncio.Event()
    server = await asyncio.start_server(front.meet, "127.0.0.1", port, limit=HEAD_MAX, backlog=1024)
    threading.Thread(target=wait_for_end, args=(asyncio.get_running_loop(), done), daemon=True).start()
    print(f"port {server.sockets[0].getsockname()[1]} emulator {front.emulator}", flush=True)
    await done.wait()
    server.close()
    front.cut(None)


class Front:
    def __init__(self, emulator, poll):
        self.emulator, self.poll = emulator, poll
        self.depths = Depths(emulator)
        self.connections = set()  # writers of clients
        self.away_until = self.quiet_until = 0.0
        self.one = asyncio.Lock()
        self.waiting = collections.defaultdict(list)  # path: writers of its pulls, the youngest last

    # ---- connections ----

    async def meet(self, reader, writer):
        if asyncio.get_running_loop().time() < self.away_until:
            reset(writer)
            return
        self.connections.add(writer)
        try:
            upstream, to_emulator = await asyncio.open_connection("127.0.0.1", self.emulator, limit=HEAD_MAX)
            back = asyncio.create_task(carry(upstream, writer))
            try:
                await self.requests(reader, writer, to_emulator)
            finally:
                back.cancel()
                reset(to_emulator)
        except (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            pass
        finally:
            self.connections.discard(writer)
            writer.close()

    async def requests(self, reader, writer, to_emulator):
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            method, path, length = read_head(head)
            if path.startswith(("/v3/", "/control/")):
                body = await reader.readexactly(length)
                writer.write(await self.answer(method, path, body, writer))
                continue
            if self.poll and path.endswith(":pull"):
                body = await reader.readexactly(length)
                await self.wait(path, body, reader, writer)
                continue
            if is_creation(method, path):
                body = await reader.readexactly(length)
                await asyncio.to_thread(self.depths.prepare, path, body)
                to_emulator.write(head + body)
                length = 0
            else:
                to_emulator.write(head)
            while length:
                part = await reader.read(min(length, CHUNK))
                if not part:
                    return
                to_emulator.write(part)
                length -= len(part)
            await to_emulator.drain()

    async def wait(self, path, body, reader, writer):
        """A pull waits here for messages. Of those of one subscription the youngest asks: not one of a
        client that is stopped. One is answered at a time, and the next not at once: two answers that are
        there together would be read in either order."""
        end = asyncio.get_running_loop().time() + HOLD_S
        asked = {**json.loads(body), "returnImmediately": True}
        waiting = self.waiting[path]
        waiting.append(writer)
        try:
            while True:
                if reader.at_eof() or writer.is_closing():
                    raise ConnectionResetError
                if waiting[-1] is writer and await self.ask(path, asked, writer, end):
                    return
                await asyncio.sleep(POLL_S)
        finally:
            waiting.remove(writer)

    async def ask(self, path, asked, writer, end):
        """False when there is nothing yet."""
        loop = asyncio.get_running_loop()
        async with self.one:
            if loop.time() < self.quiet_until:
                return False
            code, answer = await asyncio.to_thread(self.depths.call, "POST", path.removeprefix("/v1/"), asked)
            if code == 200 and not answer and loop.time() < end:
                return False
            writer.write(response(code, answer))
            self.quiet_until = loop.time() + POLL_S
            return True

    def cut(self, but):
        for writer in self.connections - {but}:
            reset(writer)

    # ---- what is answered here ----

    async def answer(self, method, path, body, writer):
        path, _, text = path.partition("?")
        query = dict(urllib.parse.parse_qsl(text))
        try:
            if (method, path) == ("POST", "/control/cut"):
                ms = json.loads(body or b"{}").get("ms", 0)
                self.away_until = asyncio.get_running_loop().time() + ms / 1000
                self.cut(writer)
                return response(200, {})
            if (method, path) == ("GET", "/control/backlog"):
                count = await asyncio.to_thread(self.depths.count, query)
                return response(200, {"count": count})
            if method == "GET" and path.startswith("/v3/projects/") and path.endswith("/timeSeries"):
                project = path.split("/")[3]
                return response(200, await asyncio.to_thread(monitoring.answer, self.depths, project, query))
            return response(404, {})
        except ApiError as error:
            return response(error.code, error.body())


def read_head(head):
    """(method, path, length of the body)"""
    first, *fields = head.decode("latin-1").split("\r\n")
    method, path, _ = first.split(" ")
    values = dict(field.lower().split(":", 1) for field in fields if ":" in field)
    return method, path, int(values.get("content-length", 0))


def is_creation(method, path):
    return method == "PUT" and "/subscriptions/" in path


def response(code, value):
    body = value if isinstance(value, bytes) else json.dumps(value).encode()
    return (f"HTTP/1.1 {code} {http.client.responses[code]}\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(body)}\r\n\r\n").encode() + body


async def carry(reader, writer):
    """What the emulator says, until it ends the connection."""
    try:
        while part := await reader.read(CHUNK):
            writer.write(part)
            await writer.drain()
    except OSError:
        pass
    writer.close()


def reset(writer):
    """Without a farewell: RST."""
    taken = writer.get_extra_info("socket")
    if taken and taken.fileno() != -1:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


# ---- the backlog ---------------------------------------------------------------------------------

class Depths:
    """What the emulator holds as unacknowledged: a snapshot of the subscription, to which a second one
    of the same topic is set; pulled empty, it has told. Nobody else pulls that one."""

    def __init__(self, emulator):
        self.emulator = emulator
        self.lock = threading.Lock()  # of two who look, the second would take from the first
        self.numbers = itertools.count(1)
        self.subscriptions = {}  # full name: Seen, as monitoring.answer() wants them

    def call(self, method, name, body=None):
        connection = http.client.HTTPConnection("127.0.0.1", self.emulator, timeout=60)
        try:
            connection.request(method, "/v1/" + name, body and json.dumps(body), JSON)
            answer = connection.getresponse()
            return answer.status, json.loads(answer.read() or b"{}")
        finally:
            connection.close()

    def ok(self, method, name, body=None):
        code, answer = self.call(method, name, body)
        if code != 200:
            raise ApiError(500, "INTERNAL", f"{method} {name}: {code} {answer}")
        return answer

    def prepare(self, path, body):
        """Of a subscription about to be created; only what is published later is seen by both."""
        name = path.removeprefix("/v1/")
        try:
            topic = json.loads(body)["topic"]
        except (ValueError, KeyError, TypeError):
            return  # refused by the emulator
        self.call("PUT", name + SUFFIX, {"topic": topic})
        self.subscriptions[name] = Seen(self, name)

    def left(self, name, most):
        """Publish times of what is unacknowledged, not more than so many."""
        with self.lock:
            project = name.split("/")[1]
            snapshot = f"projects/{project}/snapshots/depth-{next(self.numbers)}"
            self.ok("PUT", snapshot, {"subscription": name})
            self.ok("POST", name + SUFFIX + ":seek", {"snapshot": snapshot})
            times = []
            while len(times) < most:
                answer = self.ok("POST", name + SUFFIX + ":pull",
                                 {"maxMessages": min(AT_ONCE, most - len(times)), "returnImmediately": True})
                if not answer.get("receivedMessages"):
                    break
                times += [one["message"]["publishTime"] for one in answer["receivedMessages"]]
            self.ok("DELETE", snapshot)
            return times

    def count(self, query):
        name = f"projects/{query['project']}/subscriptions/{query['subscription']}"
        return len(self.left(name, int(query.get("most", 1 << 30))))


class Seen:
    """A subscription as monitoring.py looks at one."""

    def __init__(self, depths, name):
        self.depths, self.settings = depths, {"name": name}

    @property
    def backlog(self):
        return self.depths.left(self.settings["name"], 1 << 30)

    def oldest(self):
        return min((shape.epoch(text, "publishTime") for text in self.backlog), default=None)
