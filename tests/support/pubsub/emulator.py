"""Google's emulator: where it is, and a process of it."""
import glob
import http.client
import os
import shutil
import socket
import subprocess
import tempfile
import time

VARIABLE = "CM_TEST_PUBSUB_EMULATOR"
COMPONENT = "platform/pubsub-emulator/lib/cloud-pubsub-emulator-*.jar"
ROOTS = ("/usr/lib/google-cloud-sdk", "/usr/share/google-cloud-sdk", "/usr/local/google-cloud-sdk",
         "/opt/google-cloud-sdk", "/snap/google-cloud-cli/current", "~/google-cloud-sdk")
START_S = 60
# A test wants it soon, and not for long.
JAVA = ("-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xshare:auto", "-XX:-UsePerfData")


class Absent(Exception):
    """The text says why, in one line."""


def find(named=None):
    """The jar; raises Absent."""
    named = named or os.environ.get(VARIABLE)
    if named == "none":
        raise Absent(f"Google's Pub/Sub emulator is left out ({VARIABLE}=none)")
    if named and not os.path.isfile(named):
        raise Absent(f"Google's Pub/Sub emulator is not at {named}, as --jar or {VARIABLE} says")
    found = named or next(filter(None, map(newest, roots())), None)
    if not found:
        raise Absent(f"Google's Pub/Sub emulator is not installed; {VARIABLE} may name its jar")
    if not shutil.which("java"):
        raise Absent(f"Google's Pub/Sub emulator is at {found}, but there is no java")
    return found


def roots():
    """Directories of a Google Cloud CLI."""
    gcloud = shutil.which("gcloud")
    if gcloud:  # ROOT/bin/gcloud, by way of links
        yield os.path.dirname(os.path.dirname(os.path.realpath(gcloud)))
    yield from map(os.path.expanduser, ROOTS)


def newest(root):
    return max(glob.glob(os.path.join(root, COMPONENT)), default=None, key=os.path.getmtime)


def free_port():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]


class Process:
    """It says nothing of the port it takes, so one is chosen for it; another one when that is gone."""

    def __init__(self, jar):
        self.log = tempfile.TemporaryFile()
        for _ in range(3):
            self.port = free_port()
            self.process = subprocess.Popen(
                ["setpriv", "--pdeathsig", "KILL", "java", *JAVA, "-jar", jar, "--host=127.0.0.1",
                 f"--port={self.port}"], stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log)
            if self.is_up():
                return
            self.stop()
        self.log.seek(0)
        said = self.log.read().decode(errors="replace")
        raise SystemExit("the emulator does not start: " + said[-2000:])

    def listens(self):
        """By its own word: on the port may be somebody else."""
        with open(f"/proc/self/fd/{self.log.fileno()}", "rb") as log:
            return f"listening on {self.port}\n".encode() in log.read()

    def is_up(self):
        end = time.monotonic() + START_S
        while self.process.poll() is None and time.monotonic() < end:
            if not self.listens():
                time.sleep(0.02)
                continue
            try:
                connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=START_S)
                connection.request("GET", "/v1/projects/test/topics")
                if connection.getresponse().status == 200:
                    return True
            except (OSError, http.client.HTTPException):
                time.sleep(0.02)
            finally:
                connection.close()
        return False

    def stop(self):
        self.process.kill()  # it has nothing to save
        self.process.wait()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()
        self.log.close()
