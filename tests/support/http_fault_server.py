#!/usr/bin/env python3
"""http_fault_server - answers HTTP as told, badly where wanted; prints its port on stdout.

    http_fault_server.py PORT [DIR]    0 = any; with DIR: key files for /token are written there

A path says what comes back:

    /echo                          the request as JSON, with the number of its connection
    /status/N?retry_after=&body=   that status code
    /hold?ms=                      200 after so long
    /slow?bytes=&ms=               a byte every so many ms
    /reset /cut /drop              RST in the body, FIN in the body, FIN without an answer
    /garbage                       no HTTP at all
    /redirect                      302 to /echo
    /huge?bytes= /gzip?bytes=      a body of zeros, without its length or compressed
    /count?path=                   how often path was asked for
    /set?expires_in=               of tokens from now on
    POST /script?path=             a list of {status, body, headers} that path gives first
    POST /token                    Google's token endpoint: verifies assertion or refresh token
    /computeMetadata/...           a metadata server, which wants Metadata-Flavor: Google
"""
import base64
import collections
import gzip
import itertools
import json
import os
import socket
import struct
import subprocess
import sys
import threading
import time
import urllib.parse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

EMAIL = "writer@project.iam.gserviceaccount.com"
SCOPE = "https://www.googleapis.com/auth/pubsub"
METADATA = "/computeMetadata/v1/instance/service-accounts/default/token"
GRANT = "urn:ietf:params:oauth:grant-type:jwt-bearer"


class State:
    def __init__(self):
        self.lock = threading.Lock()
        self.directory = None
        self.port = 0
        self.counts = collections.Counter()
        self.scripts = collections.defaultdict(collections.deque)
        self.connection = itertools.count(1)
        self.token = itertools.count(1)
        self.expires_in = 3600


state = State()


def unbase64(text):
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def fault_of(assertion):
    """What is wrong with a signed assertion; None when nothing is."""
    parts = assertion.split(".")
    if len(parts) != 3 or any("=" in part for part in parts):
        return "not three parts of base64url without padding"
    header, claims = (json.loads(unbase64(part)) for part in parts[:2])
    if header != {"alg": "RS256", "typ": "JWT", "kid": "key-1"}:
        return f"header {header}"
    now = time.time()
    expected = {"iss": EMAIL, "scope": SCOPE, "aud": f"http://127.0.0.1:{state.port}/token"}
    if {name: claims.get(name) for name in expected} != expected:
        return f"claims {claims}"
    if not now - 60 <= claims["iat"] <= now + 5 or not 0 < claims["exp"] - claims["iat"] <= 3600:
        return f"times {claims}"
    path = f"{state.directory}/{threading.get_ident()}"
    with open(path + ".sig", "wb") as file:
        file.write(unbase64(parts[2]))
    result = subprocess.run(
        ["openssl", "dgst", "-sha256", "-verify", f"{state.directory}/public.pem",
         "-signature", path + ".sig"],
        input=".".join(parts[:2]).encode(), capture_output=True)
    return None if result.returncode == 0 else "signature"


def write_keys():
    def openssl(*arguments):
        subprocess.run(["openssl", *arguments], check=True, capture_output=True)

    directory = state.directory
    openssl("genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048", "-out",
            f"{directory}/private.pem")
    openssl("pkey", "-in", f"{directory}/private.pem", "-pubout", "-out", f"{directory}/public.pem")
    token_uri = f"http://127.0.0.1:{state.port}/token"
    with open(f"{directory}/private.pem") as file:
        private_key = file.read()
    files = {
        "service_account": {
            "type": "service_account", "project_id": "project", "private_key_id": "key-1",
            "private_key": private_key, "client_email": EMAIL, "client_id": "1",
            "token_uri": token_uri},
        "authorized_user": {
            "type": "authorized_user", "client_id": "id&1", "client_secret": "a+b/c=",
            "refresh_token": "1//refresh", "token_uri": token_uri},
    }
    for name, content in files.items():
        with open(f"{directory}/{name}.json", "w") as file:
            json.dump(content, file)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def setup(self):
        super().setup()
        with state.lock:
            self.number = next(state.connection)

    def finish(self):
        try:
            super().finish()
        except OSError:
            pass

    def log_message(self, *_):
        pass

    def answer(self, status, body=b"", headers=None):
        body = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        if status != 204:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def begin(self, length):
        self.send_response(200)
        self.send_header("Content-Length", str(length))
        self.end_headers()

    def serve(self):
        url = urllib.parse.urlsplit(self.path)
        self.query = dict(urllib.parse.parse_qsl(url.query))
        self.body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        with state.lock:
            state.counts[url.path] += 1
            script = state.scripts[url.path]
            scripted = script.popleft() if script else None
        if scripted:
            body = scripted.get("body", b"")
            self.answer(scripted["status"], body.encode() if isinstance(body, str) else body,
                        scripted.get("headers"))
            return
        path = METADATA if url.path == METADATA else "/" + url.path.split("/")[1]
        self.ROUTES.get(path, Handler.unknown)(self)

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = serve

    def unknown(self):
        self.answer(404, {"error": "no such path"})

    def echo(self):
        self.answer(200, {"method": self.command, "path": self.path, "body": self.body.decode(),
                          "headers": {k.lower(): v for k, v in self.headers.items()},
                          "connection": self.number})

    def status(self):
        headers = {}
        if "retry_after" in self.query:
            headers["Retry-After"] = self.query["retry_after"]
        self.answer(int(self.path.split("/")[2].split("?")[0]),
                    self.query.get("body", "").encode(), headers)

    def hold(self):
        time.sleep(int(self.query["ms"]) / 1000)
        self.answer(200, b"held")

    def slow(self):
        count = int(self.query["bytes"])
        self.begin(count)
        for _ in range(count):
            time.sleep(int(self.query["ms"]) / 1000)
            self.wfile.write(b"s")

    def reset(self):
        self.begin(1000)
        self.wfile.write(b"x" * 100)
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        os.close(self.connection.detach())
        self.close_connection = True

    def cut(self):
        self.begin(1000)
        self.wfile.write(b"x" * 100)
        self.close_connection = True

    def drop(self):
        self.close_connection = True

    def garbage(self):
        self.wfile.write(b"\x00\x01 this is no HTTP\r\n\r\n")
        self.close_connection = True

    def redirect(self):
        self.answer(302, b"elsewhere", {"Location": "/echo"})

    def huge(self):
        self.send_response(200)
        self.send_header("Connection", "close")
        self.end_headers()
        left = int(self.query["bytes"])
        while left > 0:
            left -= self.wfile.write(b"0" * min(left, 65536))
        self.close_connection = True

    def gzip(self):
        body = gzip.compress(b"0" * int(self.query["bytes"]), 6)
        self.answer(200, body, {"Content-Encoding": "gzip"})

    def count(self):
        self.answer(200, str(state.counts[self.query["path"]]).encode())

    def settings(self):
        state.expires_in = int(self.query["expires_in"])
        self.answer(204)

    def script(self):
        with state.lock:
            state.scripts[self.query["path"]].extend(json.loads(self.body))
        self.answer(204)

    def give_token(self):
        self.answer(200, {"access_token": f"ya29.token-{next(state.token)}",
                          "expires_in": state.expires_in, "token_type": "Bearer"})

    def token(self):
        form = dict(urllib.parse.parse_qsl(self.body.decode(), strict_parsing=True))
        refusal = "unsupported_grant_type"
        if form.get("grant_type") == GRANT:
            refusal = fault_of(form["assertion"])
        elif form == {"grant_type": "refresh_token", "client_id": "id&1",
                      "client_secret": "a+b/c=", "refresh_token": "1//refresh"}:
            refusal = None
        if refusal or self.headers["Content-Type"] != "application/x-www-form-urlencoded":
            self.answer(400, {"error": "invalid_request", "error_description": str(refusal)})
        else:
            self.give_token()

    def metadata(self):
        if self.headers.get("Metadata-Flavor") != "Google":
            self.answer(403, b"<html>Missing Metadata-Flavor:Google header.</html>")
        elif self.query.get("scopes") != SCOPE:
            self.answer(400, b"scopes")
        else:
            self.give_token()

    ROUTES = {
        "/echo": echo, "/status": status, "/hold": hold, "/slow": slow, "/reset": reset,
        "/cut": cut, "/drop": drop, "/garbage": garbage, "/redirect": redirect, "/huge": huge,
        "/gzip": gzip, "/count": count, "/set": settings,
        "/script": script, "/token": token, METADATA: metadata,
    }


class Server(ThreadingHTTPServer):
    request_queue_size = 512
    daemon_threads = True

    def handle_error(self, request, client_address):
        error = sys.exc_info()[1]
        if not isinstance(error, OSError):  # a client that goes away is what we are here for
            super().handle_error(request, client_address)


def main():
    server = Server(("127.0.0.1", int(sys.argv[1])), Handler)
    state.port = server.server_address[1]
    if len(sys.argv) > 2:
        state.directory = sys.argv[2]
        write_keys()
    sys.stdout.write(f"{state.port}\n")
    sys.stdout.flush()
    server.serve_forever()


main()
