"""pubsub.py - Google Pub/Sub for the acceptance scripts: the strict stand-in of tests/support, and a client.

Server is one process of it, with TLS and HTTP/2 in front and tokens asked for when `tls` is set. Emulator
is Google's own in its place: no faults, no statistics, no rules checked.
Client does what lib.Redis does for the other broker: offer, publish, backlog.
"""
import base64
import http.client
import itertools
import json
import os
import pathlib
import subprocess

SUPPORT = pathlib.Path(__file__).resolve().parents[1] / "support"
PROJECT = "acceptance"
TOKEN = "/computeMetadata/v1/instance/service-accounts/default/token"
JSON = {"Content-Type": "application/json"}
AT_ONCE, BYTES_MAX = 1000, 9_000_000  # of one publish; the API takes 10 MB


class Refusal(Exception):
    """The service refused a call; args: HTTP code, text."""


class Client:
    """One connection, kept alive. offer() gives a Refusal for each message not stored; OSError when it
    is not known whether the service has it."""

    def __init__(self, port, timeout_s=120, with_token=False):
        self.http = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout_s)
        self.headers, self.with_token = dict(JSON), with_token
        if with_token:
            self.fetch_token()

    def close(self):
        self.http.close()

    def call(self, method, path, body=None):
        text = None if body is None else json.dumps(body)
        code, answer = self.ask(method, path, text, self.headers)
        if code == 401 and self.with_token:
            self.fetch_token()
            code, answer = self.ask(method, path, text, self.headers)
        if code != 200:
            raise Refusal(code, answer.decode(errors="replace")[:500])
        return json.loads(answer)

    def fetch_token(self):
        _, token = self.ask("GET", TOKEN, None, {"Metadata-Flavor": "Google"})
        self.headers["Authorization"] = "Bearer " + json.loads(token)["access_token"]

    def ask(self, method, path, body, headers):
        try:
            self.http.request(method, path, body, headers)
            answer = self.http.getresponse()
            return answer.status, answer.read()
        except http.client.HTTPException as error:
            self.http.close()
            raise ConnectionError(repr(error)) from error
        except OSError:
            self.http.close()
            raise

    def control(self, method, name, body=None):
        return self.call(method, "/control/" + name, body)

    def offer(self, topic, bodies):
        """For each body its message id, or the Refusal."""
        messages = [{"data": base64.b64encode(b if isinstance(b, bytes) else b.encode()).decode()}
                    for b in bodies]
        found, start = [], 0
        while start < len(messages):
            end = self.portion(messages, start)
            found += self.offer_some(topic, messages[start:end])
            start = end
        return found

    @staticmethod
    def portion(messages, start):
        """End of what goes into one request from start on."""
        end, size = start + 1, len(messages[start]["data"])
        while end < len(messages) and end - start < AT_ONCE:
            size += len(messages[end]["data"])
            if size > BYTES_MAX:
                break
            end += 1
        return end

    def offer_some(self, topic, messages):
        try:
            return self.call("POST", f"/v1/projects/{PROJECT}/topics/{topic}:publish",
                             {"messages": messages})["messageIds"]
        except Refusal as refusal:
            return [refusal] * len(messages)

    def publish(self, topic, bodies, at_once=AT_ONCE):
        """Ids of bodies added to topic; raises on the first refusal."""
        ids, bodies = [], iter(bodies)
        while chunk := list(itertools.islice(bodies, at_once)):
            for found in self.offer(topic, chunk):
                if isinstance(found, Refusal):
                    raise found
                ids.append(found)
        return ids

    def stats(self):
        return self.control("GET", "stats")

    def subscription(self, name):
        return self.stats()["subscriptions"].get(full(name))

    def backlog(self, topic):
        """(ready, held by whomever, 0): what is deferred is held at the service."""
        found = self.subscription(topic)
        return (found["backlog"] - found["outstanding"], found["outstanding"], 0) if found else (0, 0, 0)

    def fault(self, **asked):
        return self.control("POST", "fault", asked)["id"]

    def faults(self):
        """{id: hits} of those in force."""
        return {fault["id"]: fault["hits"] for fault in self.control("GET", "fault")["faults"]}

    def clear(self):
        self.control("DELETE", "fault")


def full(name):
    return f"projects/{PROJECT}/subscriptions/{name}"


class Server:
    strict = True  # it counts what breaks a rule of the API

    def __init__(self, directory, tls=False, arguments=()):
        self.dir, self.tls = directory, tls
        self.arguments = list(arguments)
        self.processes, self.ca, self.key = [], None, None
        self.port = self.tls_port = None
        self.tolerated = set()  # calls that may break rules

    def spawn(self, *command):
        """A program of tests/support that ends with its stdin; the words of its first line."""
        log = open(f"{self.dir}/pubsub.log", "ab")
        process = subprocess.Popen([str(c) for c in command], stdin=subprocess.PIPE,
                                   stdout=subprocess.PIPE, stderr=log)
        log.close()
        self.processes.append(process)
        words = process.stdout.readline().decode().split()
        if not words:
            raise RuntimeError(f"{command[0]} does not start, see {self.dir}/pubsub.log")
        return words

    def start(self):
        arguments = list(self.arguments)
        if self.tls:
            self.key, public = f"{self.dir}/key.pem", f"{self.dir}/public.pem"
            make_key(self.key, public)
            arguments += ["--token-check", "--public-key", public]
        self.port = int(self.spawn(SUPPORT / "pubsub_server", "--port", "0", *arguments)[1])
        if self.tls:
            _, port, _, self.ca = self.spawn(SUPPORT / "pubsub_tls", self.port)
            self.tls_port = int(port)

    def use_certificate(self, which):
        """"other", which the service does not trust, or "first"."""
        proxy = self.processes[-1]
        proxy.stdin.write(which.encode() + b"\n")
        proxy.stdin.flush()
        if proxy.stdout.readline().decode().strip() != which:
            raise RuntimeError(f"pubsub_tls does not start anew, see {self.dir}/pubsub.log")

    def stop(self):
        for process in reversed(self.processes):
            process.stdin.close()
        for process in reversed(self.processes):
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            process.stdout.close()
        self.processes.clear()

    def client(self):
        return Client(self.port, with_token=self.tls)

    def environment(self):
        """Of the command that creates topics and subscriptions."""
        return {}

    @property
    def address(self):
        return f"https://localhost:{self.tls_port}"

    def key_file(self, name="key.json", key=None, **changed):
        """A service-account file that the stand-in's token endpoint takes; changed: its fields."""
        fields = {"type": "service_account", "project_id": PROJECT, "private_key_id": "1",
                  "private_key": pathlib.Path(key or self.key).read_text(encoding="ascii"),
                  "client_email": f"client-manager@{PROJECT}.iam.gserviceaccount.com",
                  "token_uri": self.address + "/token", **changed}
        path = f"{self.dir}/{name}"
        with open(path, "w", encoding="ascii", opener=private) as file:
            json.dump(fields, file)
        return path

    def settings(self):
        """Of the service, to use this server."""
        made = {"broker.kind": "pubsub", "pubsub.project": PROJECT}
        if not self.tls:
            return {**made, "pubsub.emulator_host": f"127.0.0.1:{self.port}"}
        return {**made, "pubsub.emulator_host": "", "pubsub.endpoint": self.address,
                "pubsub.monitoring": self.address, "pubsub.ca_file": self.ca,
                "pubsub.credentials_file": self.key_file()}


class EmulatorClient(Client):
    """Publishes to the emulator itself; asks its front what is left."""

    def __init__(self, port, front):
        super().__init__(port)
        self.front = Client(front)

    def close(self):
        self.front.close()
        super().close()

    def count(self, name, most):
        asked = f"backlog?project={PROJECT}&subscription={name}&most={most}"
        return self.front.control("GET", asked)["count"]

    def backlog(self, topic):
        """That there is something is all that is asked for: the count takes a look at each message."""
        return (self.count(topic, 1), 0, 0)


class Emulator(Server):
    """The service reaches it as one does, by PUBSUB_EMULATOR_HOST, and directly; subscriptions are made
    through its front, which then can tell what is left."""

    strict = False

    def start(self):
        _, front, _, port = self.spawn(SUPPORT / "pubsub_emulator")
        self.front, self.port = int(front), int(port)
        os.environ["PUBSUB_EMULATOR_HOST"] = f"127.0.0.1:{port}"

    def environment(self):
        return {"PUBSUB_EMULATOR_HOST": f"127.0.0.1:{self.front}"}

    def client(self):
        return EmulatorClient(self.port, self.front)

    def settings(self):
        return {"broker.kind": "pubsub", "pubsub.project": PROJECT}


def why_no_emulator():
    """None when it is installed, else one line."""
    found = subprocess.run([SUPPORT / "pubsub_emulator", "--find"], check=False, capture_output=True,
                           text=True)
    return None if found.returncode == 0 else found.stdout.strip() or found.stderr[-500:]


def private(path, flags):
    return os.open(path, flags, 0o600)


def make_key(path, public=None):
    subprocess.run(["openssl", "genrsa", "-out", path, "2048"], check=True, capture_output=True)
    if public:
        subprocess.run(["openssl", "rsa", "-in", path, "-pubout", "-out", public], check=True,
                       capture_output=True)


def set_ack_deadline(client, topics, seconds):
    """A crashed instance's messages come back so soon."""
    for topic in topics:
        client.call("PATCH", "/v1/" + full(topic), {"subscription": {"name": full(topic),
                    "ackDeadlineSeconds": seconds}, "updateMask": "ackDeadlineSeconds"})


def check(run, server):
    """Every request kept the rules of the API."""
    if not server.strict:
        return
    found = server.client().stats()["violations"]
    run.none("requests that broke a rule of the API",
             [f"{v['call']}: {v['text']}" for v in found["list"] if v["call"] not in server.tolerated])
