"""lib.py - what the acceptance scripts share: servers, the service, Redis, reading tables, checks.

Every script builds a `Run`, which owns a directory with a private PostgreSQL and Redis (or a stand-in of
Google Pub/Sub, see pubsub.py), hands out services and checks, and ends with PASS or FAIL. Nothing here
knows the order rule.
"""
import argparse
import base64
import json
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request

import pubsub
from redis_client import Redis, RedisError, encode, pairs

ROOT = pathlib.Path(__file__).resolve().parents[2]
HERE = ROOT / "tests" / "acceptance"
PREFIX = "client-manager"
WRITER, REPUBLISHER, ERRORS, ACTIVATE, CONTACT_ERRORS = (
    f"{PREFIX}.{name}" for name in ("writer", "republisher", "writer-errors", "activate-customer",
                                    "contact-deletion-errors"))
ALL_BROKERS = ("redis", "pubsub", "emulator")
TOPICS = (WRITER, REPUBLISHER, ERRORS, ACTIVATE)
ALL_TOPICS = (*TOPICS, CONTACT_ERRORS, *(f"{PREFIX}.{name}" for name in (
    "push-token-status", "web-push-token-status", "contact-deletion", "account-deletion")))


def now_ms():
    return time.time_ns() // 1_000_000


def say(text):
    print(text, flush=True)


# ---- the broker -----------------------------------------------------------------------------------

def backlog(client, topic):
    """(delivered to nobody yet: 0 or 1 is enough to know, pending, deferred) of topic."""
    return client.backlog(topic)


REFUSALS = (RedisError, pubsub.Refusal)  # the broker said no, and has not stored it


# ---- servers --------------------------------------------------------------------------------------

class Servers:
    """Functions of tests/support/servers.sh on one directory; besides, when that is the broker, a
    pubsub.Server."""

    def __init__(self, directory, fsync=True, pg_extra="", redis_extra="", pubsub_server=None):
        self.dir, self.pubsub = directory, pubsub_server
        self.env = dict(os.environ, PG_EXTRA=pg_extra, REDIS_EXTRA=redis_extra,
                        CM_SERVERS_FSYNC="on" if fsync else "off", CM_SERVERS_WAIT_S="120")
        self.pg_uri = f"postgresql:///postgres?host={directory}&user=postgres"
        self.redis_uri = f"unix://{directory}/redis.sock"
        self.redis_path = f"{directory}/redis.sock"

    def run(self, function, *args):
        subprocess.run(["bash", "-c", '. "$0"; "$@"', ROOT / "tests/support/servers.sh", function,
                        self.dir, *args], env=self.env, check=True, stdin=subprocess.DEVNULL)

    def start(self):
        self.run("cm_servers_start")
        if self.pubsub:
            self.run("cm_redis_stop")  # nobody may need it
            self.pubsub.start()

    def stop(self):
        if self.pubsub:
            self.pubsub.stop()
        self.run("cm_servers_stop")

    def use_database(self, name):
        """A new one from now on."""
        self.sql(f"CREATE DATABASE {name};")
        self.pg_uri = f"postgresql:///{name}?host={self.dir}&user=postgres"

    def redis(self):
        return Redis(self.redis_path)

    def client(self):
        """Of the broker: offer, publish, backlog, close."""
        return self.pubsub.client() if self.pubsub else self.redis()

    def settings(self):
        """Of the service, to use these servers."""
        broker = self.pubsub.settings() if self.pubsub else {"redis.uri": self.redis_uri}
        return {"postgres.uri": self.pg_uri, **broker}

    def psql_command(self, *more):
        return ["psql", "-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-d", self.pg_uri, *more]

    def sql(self, text, check=True):
        """Lines that psql prints for text."""
        env = dict(os.environ, PGOPTIONS="-c default_transaction_read_only=off -c client_min_messages=warning")
        done = subprocess.run(self.psql_command("-f", "-"), input=text.encode(), env=env,
                              capture_output=True, check=False)
        if check and done.returncode:
            raise RuntimeError(f"psql: {done.stderr.decode()}")
        return done.stdout.decode().splitlines() if done.returncode == 0 else None

    def value(self, text):
        return self.sql(text)[0]

    def copy(self, query):
        """Rows of a query, as lists of text or None."""
        return [[None if f == "\\N" else unescape(f) for f in line.split("\t")]
                for line in self.sql(f"COPY ({query}) TO STDOUT;")]


ESCAPES = {"b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v"}


def unescape(field):
    if "\\" not in field:
        return field
    return re.sub(r"\\(.)", lambda m: ESCAPES.get(m[1], m[1]), field)


# ---- the service ----------------------------------------------------------------------------------

def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Service:
    """One `client-manager run`; its log goes to a file of its own."""

    def __init__(self, run, settings=None, crash=None, wrapper=(), sub_workers=(), env=None):
        self.run = run
        self.port = free_port()
        run.services.append(self)
        self.log_path = f"{run.dir}/service-{len(run.services)}.log"
        merged = {**run.servers.settings(), "monitor.listen": f"127.0.0.1:{self.port}", **run.settings,
                  **(settings or {})}
        command = [*wrapper, str(run.args.binary), "run", *sub_workers, "--print-ledger"]
        for key, value in merged.items():
            command += ["--set", f"{key}={value}"]
        self.env = dict(os.environ, **(env or {}))
        if crash:
            self.env["CM_CRASH"] = crash
        self.log = open(self.log_path, "ab")
        self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                        stderr=self.log, env=self.env)
        self.final = None  # the ledger printed at the end

    @property
    def pid(self):
        return self.process.pid

    def alive(self):
        return self.process.poll() is None

    def get(self, path, timeout_s=5):
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=timeout_s) as answer:
            return answer.read().decode()

    def ready(self):
        try:
            self.get("/readyz")
            return True
        except (OSError, urllib.error.URLError):
            return False

    def wait_ready(self, timeout_s=30):
        return wait(lambda: not self.alive() or self.ready(), timeout_s) and self.alive()

    def ledger(self):
        try:
            return json.loads(self.get("/ledger"))
        except (OSError, urllib.error.URLError, ValueError):
            return None

    def metrics(self):
        """{series with labels: value}"""
        found = {}
        for line in self.get("/metrics").splitlines():
            if line and line[0] != "#":
                series, _, value = line.rpartition(" ")
                found[series] = float(value)
        return found

    def deliveries(self, subscription, outcome):
        """Deliveries of a subscription that ended so."""
        return sum(v for k, v in self.metrics().items()
                   if k.startswith("client_manager_deliveries_total{") and
                   f'subscription="{subscription}"' in k and f'outcome="{outcome}"' in k)

    def status_kb(self, name):
        """VmRSS, VmHWM, ... of the process, in kB."""
        text = pathlib.Path(f"/proc/{self.pid}/status").read_text(encoding="ascii")
        return int(re.search(rf"^{name}:\s+(\d+)", text, re.M)[1])

    def cpu_s(self):
        fields = pathlib.Path(f"/proc/{self.pid}/stat").read_text(encoding="ascii").rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def signal(self, number):
        if self.alive():
            self.process.send_signal(number)

    def wait(self, timeout_s=60):
        """Exit code; the printed ledger is then in self.final."""
        output, _ = self.process.communicate(timeout=timeout_s)
        lines = output.decode().splitlines()
        self.final = json.loads(lines[-1]) if lines else self.final
        self.log.close()
        return self.process.returncode

    def stop(self, timeout_s=60):
        self.signal(signal.SIGTERM)
        return self.wait(timeout_s)

    def kill(self):
        self.signal(signal.SIGKILL)
        return self.wait()

    def log_text(self):
        return pathlib.Path(self.log_path).read_text(encoding="utf-8", errors="replace")


def wait(condition, timeout_s, every_s=0.05):
    """True as soon as the condition holds; False when the time is over."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(every_s)
    return True


# ---- a run ----------------------------------------------------------------------------------------

def parser(about, seed=1, brokers=(), **defaults):
    """Flags that all scripts share. brokers: those it runs over."""
    made = argparse.ArgumentParser(description=about.strip().split("\n")[0])
    made.add_argument("--binary", type=pathlib.Path, default=ROOT / "build/debug/client-manager")
    made.add_argument("--seed", type=int, default=seed)
    made.add_argument("--keep", action="store_true", help="keep servers' directory and logs")
    made.add_argument("--no-fsync", action="store_true", help="servers without fsync")
    if brokers:
        made.add_argument("--broker", choices=brokers, default=brokers[0])
    for name, value in defaults.items():
        made.add_argument("--" + name.replace("_", "-"), type=type(value), default=value)
    return made


def on_pubsub(args):
    return getattr(args, "broker", "redis") != "redis"


class Run:
    """with Run("kills", args) as run: ...  then sys.exit(run.end())"""

    def __init__(self, name, args, settings=None, pg_extra="", redis_extra="", tls=False):
        self.name, self.args = name, args
        self.settings = {"log.format": "text", **(settings or {})}
        self.dir = tempfile.mkdtemp(prefix="cma-", dir=os.environ.get("ACCEPTANCE_DIR", "/tmp"))
        pg_lines = f"max_connections = 200\nshared_buffers = 256MB\n{pg_extra}"
        server = None
        if on_pubsub(args):
            kind = pubsub.Emulator if args.broker == "emulator" else pubsub.Server
            server = kind(self.dir, tls)
        self.servers = Servers(self.dir, not args.no_fsync, pg_lines, redis_extra, server)
        self.services, self.children = [], []
        self.failed, self.checks, self.began = [], 0, time.monotonic()
        self.not_applicable = []

    def __enter__(self):
        if not self.args.binary.exists():
            sys.exit(f"{self.args.binary} is missing; build it or give --binary")
        say(f"{self.name}: seed {self.args.seed}, "
            + ", ".join(f"{k} {v}" for k, v in sorted(vars(self.args).items())
                        if k not in ("seed", "binary", "keep", "no_fsync")))
        self.servers.start()
        if self.servers.pubsub:
            self.manager("broker", "create", env=self.servers.pubsub.environment())
        return self

    def __exit__(self, kind, value, trace):
        for service in self.services:
            if service.alive():
                service.kill()
        for child in self.children:
            if child.poll() is None:
                child.kill()
                child.wait()
        self.servers.stop()
        if kind is not None:
            self.failed.append(f"{kind.__name__}: {value}")
        if self.args.keep or self.failed:
            say(f"kept: {self.dir}")
        else:
            shutil.rmtree(self.dir, ignore_errors=True)
        return False

    def service(self, **options):
        return Service(self, **options)

    def start(self, **options):
        """A service that is ready."""
        service = self.service(**options)
        if not service.wait_ready():
            say(service.log_text()[-3000:])
            raise RuntimeError("the service does not become ready")
        return service

    def manager(self, *words, check=True, env=None, settings=None, **options):
        """Another command of client-manager on the same servers."""
        command = [str(self.args.binary), *words]
        merged = {**self.servers.settings(), **(settings or {})}
        for key, value in merged.items():
            command += ["--set", f"{key}={value}"]
        done = subprocess.run(command, check=False, capture_output=True, stdin=subprocess.DEVNULL,
                              env=dict(os.environ, **(env or {})), **options)
        if check and done.returncode:
            raise RuntimeError(f"{' '.join(words)[:200]}: exit code {done.returncode}: {done.stderr.decode()[-500:]}")
        return done

    def activate(self, tenants):
        self.manager("tenant", "activate", *tenants)

    def drained(self, client, topics=TOPICS):
        return all(backlog(client, topic) == (0, 0, 0) for topic in topics)

    def drain(self, client, timeout_s, quiet=3, topics=TOPICS):
        """Wait until nothing is ready, pending or deferred, several looks in a row."""
        calm = 0

        def look():
            nonlocal calm
            calm = calm + 1 if self.drained(client, topics) else 0
            return calm >= quiet
        done = wait(look, timeout_s, 0.2)
        if not done:
            say("  not drained: " + "; ".join(f"{t}: ready/pending/deferred {backlog(client, t)}"
                                              for t in topics))
        return done

    # ---- checks and figures

    def check(self, what, holds, detail=""):
        self.checks += 1
        if not holds:
            self.failed.append(what)
        say(f"  {'ok  ' if holds else 'FAIL'} {what}" + (f": {detail}" if detail != "" else ""))
        return holds

    def equal(self, what, found, wanted):
        return self.check(what, found == wanted, found if found == wanted else f"{found}, not {wanted}")

    def none(self, what, faults, shown=5):
        """Check that a list of faults is empty; show some."""
        self.check(f"{what} 0", not faults, len(faults) if faults else "")
        for fault in list(faults)[:shown]:
            say(f"         {str(fault)[:600]}")
        return not faults

    def lack(self, what, reason):
        """What these servers cannot show: neither passed nor failed."""
        self.not_applicable.append(what)
        say(f"  n/a  {what}: {reason}")

    def figure(self, what, value):
        say(f"  --   {what}: {value}")

    def end(self):
        seconds = time.monotonic() - self.began
        lacking = f"{len(self.not_applicable)} not applicable, " if self.not_applicable else ""
        say(f"{'FAIL' if self.failed else 'PASS'} {self.name}: {self.checks} checks, "
            f"{len(self.failed)} failed, {lacking}seed {self.args.seed}, {seconds:.0f} s")
        for what in self.failed:
            say(f"  failed: {what}")
        return 1 if self.failed else 0


def main(name, body, args, **options):
    """Run body(run); print the verdict whatever happens; exit."""
    absent = pubsub.why_no_emulator() if getattr(args, "broker", "") == "emulator" else None
    if absent:
        say(f"{name}: not run: {absent}")
        sys.exit(3)
    run = Run(name, args, **options)
    try:
        with run:
            body(run)
            if run.servers.pubsub:
                pubsub.check(run, run.servers.pubsub)
    except Exception as error:  # the verdict comes first, the trace is for whoever mends it
        import traceback
        traceback.print_exc()
        if not run.failed:
            run.failed.append(repr(error))
    sys.exit(run.end())


def simple_event(tenant, client, ms):
    """A small event of a device of its own; cheap to make."""
    return (b'{"customerId":%d,"applicationCode":"EMS11-C3FD3","clientId":"%s","eventTime":%d,"device":'
            b'{"platform":"android","applicationVersion":"3.2.1","deviceModel":"Pixel 8","osVersion":"15",'
            b'"sdkVersion":"3.7.6","language":"en-US","timezone":"+0100","pushSettings":'
            b'{"areNotificationsEnabled":true,"importance":-1000}},"push":{"token":"token-%s"},"contact":'
            b'{"contactId":%d,"contactFieldId":3}}' % (tenant, client, ms, client, ms))


class Stream:
    """Events of ever new devices, round-robin over tenants 1 to `tenants`: each is one new row."""

    def __init__(self, tenants):
        self.tenants, self.number, self.base = tenants, 0, now_ms() - 7200_000

    def next(self):
        self.number += 1
        return simple_event(1 + self.number % self.tenants, b"device-%d" % self.number,
                            self.base + self.number // 100)

    def take(self, count):
        return (self.next() for _ in range(count))


def count_rows(servers, tenants):
    """Rows of devices in all of tenants, in one snapshot."""
    each = " UNION ALL ".join(f'SELECT count(*) AS n FROM "tenant_{t}".devices' for t in tenants)
    return int(servers.value(f"SELECT sum(n) FROM ({each}) AS t;"))


# ---- reading tables -------------------------------------------------------------------------------

DEVICE_COLUMNS = """application_code, client_id, (extract(epoch FROM device_at) * 1000)::bigint,
platform, application_version, device_model, os_version, sdk_version, language, timezone,
push_settings::text, (extract(epoch FROM push_at) * 1000)::bigint, push_token, push_address_type,
(extract(epoch FROM contact_at) * 1000)::bigint, contact_id, contact_field_id, push_status,
(extract(epoch FROM push_status_at) * 1000)::bigint"""
INTEGERS = (0, 9, 12, 13, 14, 16)  # of the columns behind the key


def tenant_ids(servers):
    return servers.sql("SELECT id FROM client_manager.tenants WHERE state = 'active' ORDER BY id;")


def device_rows(servers, tenants):
    """{tenant: {(app, client): columns}} as model.columns_of() has them; only tenants with rows."""
    script = "".join(f"COPY (SELECT '{t}', {DEVICE_COLUMNS} FROM \"tenant_{t}\".devices) TO STDOUT;\n"
                     for t in tenants)
    rows = {}
    for line in servers.sql(script) if tenants else []:
        tenant, app, client, *rest = [None if f == "\\N" else unescape(f) for f in line.split("\t")]
        for i in INTEGERS:
            rest[i] = None if rest[i] is None else int(rest[i])
        rows.setdefault(tenant, {})[app, client] = tuple(rest)
    return rows


def tombstones(servers, tenants):
    script = "".join(f"""COPY (SELECT '{t}', application_code, client_id,
        (extract(epoch FROM removed_at) * 1000)::bigint FROM "tenant_{t}".tombstones
        WHERE application_code <> '') TO STDOUT;
        """ for t in tenants)
    found = {}
    for line in servers.sql(script) if tenants else []:
        tenant, app, client, at = [unescape(f) for f in line.split("\t")]
        found.setdefault(tenant, {})[app, client] = int(at)
    return found


def contact_tombstones(servers, tenants):
    """{tenant: {hash: ms}}: who the contacts are, nobody can tell."""
    script = "".join(f"""COPY (SELECT '{t}', client_id,
        (extract(epoch FROM removed_at) * 1000)::bigint FROM "tenant_{t}".tombstones
        WHERE application_code = '' AND client_id <> '') TO STDOUT;
        """ for t in tenants)
    found = {}
    for line in servers.sql(script) if tenants else []:
        tenant, contact_hash, at = line.split("\t")
        found.setdefault(tenant, {})[contact_hash] = int(at)
    return found


def dead_letters(servers):
    """[{column: text}] of all; body as bytes, the attributes as {text: text}."""
    names = ("id", "tenant", "error_class", "error_code", "origin_topic", "origin_message_id",
             "first_ms", "last_ms", "retry_count", "body", "attributes")
    query = """SELECT id, tenant, error_class, error_code, origin_topic, origin_message_id,
        (extract(epoch FROM first_failed_at) * 1000)::bigint,
        (extract(epoch FROM last_failed_at) * 1000)::bigint, retry_count, encode(body, 'base64'),
        (SELECT string_agg(encode(a, 'hex'), ',' ORDER BY n) FROM unnest(attributes)
         WITH ORDINALITY AS u(a, n)) FROM client_manager.dead_letters ORDER BY id"""
    found = []
    for row in servers.copy(query):
        letter = dict(zip(names, row))
        letter["body"] = base64.b64decode(letter["body"])
        flat = [bytes.fromhex(a).decode(errors="replace") for a in (letter["attributes"] or "").split(",")]
        letter["attributes"] = dict(zip(flat[::2], flat[1::2]))
        found.append(letter)
    return found


def check_state(run, truth, tenants):
    """Final rows and tombstones against the model; how many are unlike it."""
    found = device_rows(run.servers, tenants)
    faults, rows = [], 0
    for tenant in sorted(set(found) | set(truth.rows)):
        have, want = found.get(tenant, {}), truth.rows.get(tenant, {})
        rows += len(want)
        for key in have.keys() | want.keys():
            if have.get(key) != want.get(key):
                faults.append(f"{tenant} {key}: table {have.get(key)}, model {want.get(key)}")
    run.none(f"rows unlike the model ({rows} rows in {len(truth.rows)} tenants)", faults)
    unlike = len(faults)
    have, want = tombstones(run.servers, tenants), truth.tombstones
    faults = [f"{t}: table {have.get(t)}, model {want.get(t)}"
              for t in sorted(set(have) | set(want)) if have.get(t) != want.get(t)]
    run.none(f"tenants with tombstones unlike the model ({sum(map(len, want.values()))} tombstones)",
             faults)
    unlike += len(faults)
    have = {t: sorted(found.values()) for t, found in contact_tombstones(run.servers, tenants).items()}
    want = {t: sorted(times.values()) for t, times in truth.contacts.items()}
    faults = [f"{t}: table {len(have.get(t, ()))}, model {len(want.get(t, ()))}"
              for t in sorted(set(have) | set(want)) if have.get(t) != want.get(t)]
    run.none(f"tenants with contact tombstones unlike the model ({sum(map(len, want.values()))} tombstones)",
             faults)
    return unlike + len(faults)


def check_dead_letters(run, truth):
    """Exactly the bad ones, each once, with its class, code and bytes; how many are not so."""
    letters = dead_letters(run.servers)
    faults, seen = [], set()
    for letter in letters:
        entry_id = ((letter["origin_topic"] or "").removeprefix(f"{PREFIX}."), letter["origin_message_id"])
        wanted = truth.dead.get(entry_id)
        shown = f"{entry_id} {letter['error_class']}/{letter['error_code']}"
        if entry_id in seen:
            faults.append(f"twice: {shown}")
        elif wanted is None:
            faults.append(f"a good event: {shown} {letter['body'][:200]}")
        elif (letter["error_class"], letter["error_code"]) != wanted[:2]:
            faults.append(f"{shown}, not {wanted[0]}/{wanted[1]}: {letter['body'][:200]}")
        elif letter["body"] != wanted[2]:
            faults.append(f"{shown}: other bytes")
        seen.add(entry_id)
    faults += [f"missing: {i} {truth.dead[i][:2]}" for i in truth.dead.keys() - seen]
    run.none(f"dead letters wrong ({len(letters)} found, {len(truth.dead)} expected)", faults)
    return len(faults)


def check_ledger(run, ledger, received=None, flow="devices"):
    """Balanced, flow by flow; received: so many messages by that flow."""
    if not run.check("ledger there", ledger is not None):
        return
    for name, counts in ledger["flows"].items():
        if counts["received"]:
            run.figure(f"ledger of {name}", json.dumps({k: v for k, v in counts.items() if v}))
    run.check("ledger balanced, and each flow",
              ledger["balanced"] and not any(counts["drift"] for counts in ledger["flows"].values()))
    run.equal("in flight at the end", ledger["in_flight"], 0)
    if received is not None:
        run.equal(f"received = published, {flow}", ledger["flows"][flow]["received"], received)
