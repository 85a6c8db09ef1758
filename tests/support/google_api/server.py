"""A request's way: control, token, or a call of the API with its checks, faults and statistics."""
import argparse
import asyncio
import functools
import gc
import os
import random
import sys
import zlib

from . import shape, wire
from .control import Control, Stats
from .errors import ApiError, invalid
from .faults import Fault, Faults
from .tokens import Refused, Tokens

METADATA = "/computeMetadata/v1/"
TOKEN_PATH = METADATA + "instance/service-accounts/default/token"
PROJECT_PATH = METADATA + "project/project-id"
JSON_TYPE = "application/json; charset=UTF-8"
GZIP_FROM = 1024


class Exchange:
    """A request and its answer; what a call may look at and use."""

    __slots__ = ("server", "request", "call", "project", "resource", "query", "fault", "stats",
                 "options")

    def __init__(self, server, request, call, project="", resource=""):
        self.server, self.request, self.call = server, request, call
        self.project, self.resource, self.query = project, resource, {}
        self.stats, self.options = server.stats, server.options
        count = server.stats.calls[call]
        count.count += 1
        self.fault = server.faults.pick(call, resource) if server.faults.faults else None
        if self.fault:
            count.faults += 1

    def json(self):
        return shape.read_json(self.request.body)

    def answer(self, code, body):
        if self.fault:
            self.fault.spoil(self, code, body)
        else:
            self.send(code, body)

    def fail(self, error):
        """error: ApiError. A fault does not hide it."""
        if error.violation:
            self.stats.violation(self.call, error.message, self.request.target)
        self.send(error.code, error.body())

    def send(self, code, body, headers=(), content_type=JSON_TYPE):
        request = self.request
        if request.connection.current is request:
            request.connection.finish(self.render(code, body, headers, content_type))

    def render(self, code, body, headers=(), content_type=JSON_TYPE):
        self.stats.calls[self.call].answers[code] += 1
        if self.options.gzip and len(body) >= GZIP_FROM and \
                "gzip" in self.request.headers.get("accept-encoding", ""):
            packer = zlib.compressobj(1, zlib.DEFLATED, 31)
            body = packer.compress(body) + packer.flush()
            headers = [*headers, ("Content-Encoding", "gzip")]
        return wire.render(code, body, headers, content_type)


class Server:
    """An API's server gives what is empty here, and may replace the rest."""

    EXCHANGE, FAULT = Exchange, Fault
    CALLS = ()  # names, for faults and statistics
    STANDARD_QUERY = {"alt", "fields", "key", "prettyPrint", "quotaUser", "$alt", "$prettyPrint"}
    SERVICE = ""  # as the details of an error name it

    def __init__(self, options):
        self.options = options
        self.connections = set()
        self.away_until = 0
        self.stats = Stats(self.connections)
        self.tokens = Tokens(options.token_life, options.public_key, options.project, self.SERVICE)
        self.faults = Faults(self, [*self.CALLS, "token"], random.Random(options.seed), self.FAULT)
        self.control = Control(self)

    def find(self, request, path):
        """((name, function, query parameters), project, resource) of a request, or None when there
        is no such call. Raises ApiError for a name that is not allowed."""
        raise NotImplementedError

    def commands(self):
        """Of /control: {(method, name): function of a request}."""
        return {}

    def figures(self):
        """Of the statistics."""
        return {}

    def reset(self):
        self.faults.clear()
        self.stats.reset()

    def serve(self, request):
        """Of each request, when it is complete."""
        path = request.path
        if path.startswith("/control/"):
            self.serve_control(request)
        elif asyncio.get_running_loop().time() < self.away_until:
            request.connection.reset()
        elif path == "/token" or path.startswith(METADATA):
            self.serve_token(request, path)
        else:
            self.serve_call(request, path)

    def serve_control(self, request):
        try:
            request.respond(200, self.control.run(request))
        except ApiError as error:
            request.respond(error.code, error.body())

    # ---- tokens ----

    def serve_token(self, request, path):
        exchange = self.EXCHANGE(self, request, "token")
        if exchange.fault and exchange.fault.replaces():
            exchange.fault.replace(exchange)
        elif path == "/token":
            self.grant(exchange)
        else:
            self.serve_metadata(exchange, path)

    def grant(self, exchange):
        request = exchange.request
        try:
            if request.method != "POST":
                raise Refused("invalid_request", "POST is expected")
            exchange.answer(200, self.tokens.exchange(request))
        except Refused as error:
            self.stats.violation("token", str(error), request.target)
            exchange.send(401 if error.error == "invalid_client" else 400, error.body())

    def serve_metadata(self, exchange, path):
        request, flavor = exchange.request, [("Metadata-Flavor", "Google")]
        if request.headers.get("metadata-flavor") != "Google" or request.method != "GET":
            self.stats.violation("token", "Metadata-Flavor: Google is missing", request.target)
            exchange.send(403, b"Missing Metadata-Flavor:Google header.", flavor, "text/html")
        elif path == PROJECT_PATH:
            exchange.send(200, self.options.project.encode(), flavor, "application/text")
        elif path == TOKEN_PATH and exchange.fault:
            exchange.fault.spoil(exchange, 200, self.tokens.metadata_token())
        elif path == TOKEN_PATH:
            exchange.send(200, self.tokens.metadata_token(), flavor)
        else:
            exchange.send(404, b"Not Found", flavor, "text/html")

    # ---- the API ----

    def serve_call(self, request, path):
        try:
            found = self.find(request, path)
        except ApiError as error:
            self.EXCHANGE(self, request, "unknown").fail(error)
            return
        if found is None and request.method == "GET" and path == "/":
            request.respond(200, b"Ok\n", content_type="text/plain")  # as Google's emulator
            return
        if found is None:
            self.no_such_call(request, "there is no such call")
            return
        (name, function, parameters), project, resource = found
        if request.method in ("POST", "PUT", "PATCH") and \
                request.headers.get("content-type", "").partition(";")[0] != "application/json":
            self.no_such_call(request, "Content-Type: application/json is missing")
            return
        self.carry_out(self.EXCHANGE(self, request, name, project, resource), function, parameters)

    def no_such_call(self, request, why):
        """As Google's emulator answers."""
        self.stats.violation("unknown", why, f"{request.method} {request.target}")
        self.stats.calls["unknown"].count += 1
        request.respond(404, b"Not Found", content_type="text/plain; charset=UTF-8")

    def carry_out(self, exchange, function, parameters):
        fault = exchange.fault
        if fault and fault.replaces():
            fault.replace(exchange)
            return
        try:
            if self.options.token_check:
                self.tokens.check(exchange.request.headers.get("authorization"))
            if "?" in exchange.request.target:
                exchange.query = self.read_query(exchange.request, parameters)
            body = function(exchange)
        except ApiError as error:
            exchange.fail(error)
        else:
            if body is not None:
                exchange.answer(200, body)

    def read_query(self, request, parameters):
        query = request.query()
        unknown = set(query) - set(parameters) - self.STANDARD_QUERY
        if unknown:
            raise invalid("Invalid JSON payload received. "
                          f"Unknown name \"{min(unknown)}\": Cannot bind query parameter.")
        return query


class CountedConnection(wire.Connection):
    def __init__(self, server):
        super().__init__(server.serve, server.connections)
        self.stats = server.stats

    def connection_made(self, transport):
        super().connection_made(transport)
        self.stats.connected()


async def until_stdin_closes():
    """Or for ever where stdin is no pipe (a terminal, /dev/null)."""
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()

    def readable():
        if not os.read(0, 65536):
            ended.set()
    try:
        loop.add_reader(0, readable)
    except (OSError, PermissionError):
        pass
    await ended.wait()


async def listen(server, options):
    loop = asyncio.get_running_loop()
    listener = await loop.create_server(functools.partial(CountedConnection, server), options.host,
                                        options.port, backlog=1024)
    print("port", listener.sockets[0].getsockname()[1], flush=True)
    await until_stdin_closes()


def arguments(description):
    """A parser with the options of every server."""
    parser = argparse.ArgumentParser(description=description)
    option = parser.add_argument
    option("--host", default="127.0.0.1")
    option("--port", type=int, default=0, help="0: any free one")
    option("--gzip", action="store_true", help="compress answers when asked to")
    option("--token-check", action="store_true", help="401 without a token that was given out here")
    option("--token-life", type=float, default=3600, metavar="S")
    option("--public-key", metavar="PEM", help="verify the signatures of JWTs with it")
    option("--project", default="test", help="what the metadata server says")
    option("--seed", type=int, default=1, help="of the choice that a share makes")
    return parser


def run(server_class, options):
    gc.disable()  # there are no cycles that matter, and a backlog of millions is slow to search
    try:
        asyncio.run(listen(server_class(options), options))
    except KeyboardInterrupt:
        sys.exit(130)
