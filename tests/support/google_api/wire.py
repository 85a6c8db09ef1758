"""HTTP/1.1 connections: keep-alive, pipelining, chunked and gzip bodies, one answer at a time.

A request is handed to `serve(request)` when it is complete; the next one of that connection is
parsed when the answer has been given, which may be any time later. Answers are therefore in the
order of the requests.
"""
import asyncio
import http
import socket
import struct
import urllib.parse
import zlib

HEAD_MAX = 64 * 1024
BODY_MAX = 64 * 1024 * 1024
READ_AHEAD_MAX = 1024 * 1024  # of a connection whose answer is still due
RESET = struct.pack("ii", 1, 0)  # SO_LINGER: closing sends RST
REASONS = {status.value: status.phrase for status in http.HTTPStatus}
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


class BadRequest(Exception):
    """Not HTTP as we speak it: answered with code, then closed."""

    def __init__(self, code, message):
        super().__init__(message)
        self.code = code


class Request:
    """One request; whoever holds it owes exactly one respond(), unless the connection is gone."""

    __slots__ = ("connection", "method", "target", "headers", "body", "on_gone")

    def __init__(self, connection, method, target, headers):
        self.connection, self.method, self.target, self.headers = connection, method, target, headers
        self.body = b""
        self.on_gone = None  # called when the connection is lost before the answer

    @property
    def path(self):
        return self.target.partition("?")[0]

    def query(self):
        """{name: value}; refuses a repeated name."""
        pairs = urllib.parse.parse_qsl(self.target.partition("?")[2], keep_blank_values=True)
        names = dict(pairs)
        if len(names) != len(pairs):
            raise BadRequest(400, "a query parameter is repeated")
        return names

    def respond(self, code, body=b"", headers=(), content_type="application/json; charset=UTF-8"):
        if self.connection.current is self:
            self.connection.finish(render(code, body, headers, content_type))


def render(code, body, headers=(), content_type="application/json; charset=UTF-8"):
    lines = [f"HTTP/1.1 {code} {REASONS.get(code, 'Status')}", f"Content-Length: {len(body)}"]
    if content_type:
        lines.append(f"Content-Type: {content_type}")
    lines += [f"{name}: {value}" for name, value in headers]
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body


class Connection(asyncio.Protocol):
    """serve(request) is called for each request; all is the set that this connection joins."""

    def __init__(self, serve, every):
        self.serve, self.every = serve, every
        self.buffer = bytearray()
        self.current = None  # the request whose answer is due
        self.head = None  # the request whose body is not complete
        self.chunks = None  # what has come of a chunked body
        self.parsing = self.closing = self.paused = False
        self.transport = None

    def connection_made(self, transport):
        self.transport = transport
        self.every.add(self)

    def connection_lost(self, _):
        self.every.discard(self)
        request, self.current = self.current, None
        self.closing = True
        if request and request.on_gone:
            request.on_gone()

    def data_received(self, data):
        self.buffer += data
        if self.current is None:
            self.parse_on()
        elif len(self.buffer) > READ_AHEAD_MAX and not self.paused:
            self.paused = True
            self.transport.pause_reading()

    # ---- answers ----

    def finish(self, data):
        """Send data as the whole answer that is due, go on with the next request."""
        self.write(data)
        self.finished()

    def finished(self):
        last = self.current.headers.get("connection", "").lower() == "close"
        self.current = None
        if last:
            self.close()
        elif not self.parsing and (self.buffer or self.paused):
            asyncio.get_running_loop().call_soon(self.parse_on)

    def write(self, data):
        if not self.closing:
            self.transport.write(data)

    def close(self):
        self.closing = True
        self.transport.close()

    def reset(self):
        """Drop the connection; the client sees it reset."""
        self.closing = True
        sock = self.transport.get_extra_info("socket")
        if sock is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        self.transport.abort()

    # ---- requests ----

    def parse_on(self):
        if self.parsing:
            return
        self.parsing = True
        try:
            while self.current is None and not self.closing:
                request = self.next_request()
                if request is None:
                    break
                self.current = request
                self.serve(request)
        except BadRequest as error:
            self.refuse(error)
        finally:
            self.parsing = False
        if self.paused and self.current is None and not self.closing:
            self.paused = False
            self.transport.resume_reading()

    def refuse(self, error):
        self.write(render(error.code, str(error).encode(), [("Connection", "close")], "text/plain"))
        self.current = None
        self.close()

    def next_request(self):
        if self.head is None and not self.read_head():
            return None
        body = self.read_chunks() if self.chunks is not None else self.read_counted()
        if body is None:
            return None
        request, self.head, self.chunks = self.head, None, None
        request.body = unzipped(body, request.headers.get("content-encoding"))
        return request

    def read_head(self):
        end = self.buffer.find(b"\r\n\r\n", 0, HEAD_MAX + 4)
        if end < 0:
            if len(self.buffer) > HEAD_MAX:
                raise BadRequest(431, "header too large")
            return False
        self.head = parse_head(self, self.buffer[:end].decode("latin-1"))
        del self.buffer[:end + 4]
        headers = self.head.headers
        if "transfer-encoding" in headers:
            if headers["transfer-encoding"].lower() != "chunked" or "content-length" in headers:
                raise BadRequest(400, "unusable Transfer-Encoding")
            self.chunks = bytearray()
        if headers.get("expect", "").lower() == "100-continue":
            self.write(CONTINUE)
        return True

    def read_counted(self):
        text = self.head.headers.get("content-length", "0")
        if not (text.isascii() and text.isdigit()):
            raise BadRequest(400, "unusable Content-Length")
        length = int(text)
        if length > BODY_MAX:
            raise BadRequest(413, "body too large")
        if len(self.buffer) < length:
            return None
        body = bytes(memoryview(self.buffer)[:length])
        del self.buffer[:length]
        return body

    def read_chunks(self):
        while True:
            end = self.buffer.find(b"\r\n", 0, 64)
            if end < 0:
                return None
            try:
                length = int(self.buffer[:end].partition(b";")[0], 16)
            except ValueError:
                raise BadRequest(400, "unusable chunk") from None
            if length + len(self.chunks) > BODY_MAX:
                raise BadRequest(413, "body too large")
            if len(self.buffer) < end + 2 + length + 2:
                return None
            self.chunks += self.buffer[end + 2:end + 2 + length]
            if self.buffer[end + 2 + length:end + 4 + length] != b"\r\n":
                raise BadRequest(400, "chunk without its end, or with trailers")
            del self.buffer[:end + 4 + length]
            if length == 0:
                return bytes(self.chunks)


def parse_head(connection, text):
    first, *lines = text.split("\r\n")
    try:
        method, target, version = first.split(" ")
        headers = {}
        for line in lines:
            name, value = line.split(":", 1)
            headers[name.lower()] = value.strip()
    except ValueError:
        raise BadRequest(400, "not an HTTP request") from None
    if version != "HTTP/1.1" or not target.startswith("/"):
        raise BadRequest(505, "HTTP/1.1 only")
    if "host" not in headers:
        raise BadRequest(400, "no Host")
    return Request(connection, method, target, headers)


def unzipped(body, encoding):
    if not encoding or encoding == "identity":
        return body
    if encoding != "gzip":
        raise BadRequest(415, f"Content-Encoding {encoding}")
    stream = zlib.decompressobj(31)
    try:
        plain = stream.decompress(body, BODY_MAX)
    except zlib.error as error:
        raise BadRequest(400, f"gzip: {error}") from None
    if not stream.eof or stream.unused_data:
        raise BadRequest(400, "gzip: cut off, too large, or followed by something else")
    return plain
