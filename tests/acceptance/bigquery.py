"""bigquery.py - Google BigQuery for the acceptance scripts: the strict stand-in of tests/support.

Its data are computed: customer `first + c` has `contacts` contacts, ids from c * contacts + 1 on, each
deleted at `since` + i * `every` (tests/support/bigquery/data.py).
"""
import json
import pathlib
import subprocess
import urllib.request

SUPPORT = pathlib.Path(__file__).resolve().parents[1] / "support"
PROJECT = "acceptance"
QUERY = ("SELECT customer_id, contact_id, deleted_at FROM `crm.deleted_contacts` WHERE "
         "(@customer IS NULL OR customer_id = @customer) AND deleted_at >= @since")
SINCE_MS = 1_700_000_000_000


class Server:
    """with Server(directory) as server: ..."""

    def __init__(self, directory, *arguments):
        self.log = open(f"{directory}/bigquery.log", "ab")
        self.process = subprocess.Popen([SUPPORT / "bigquery_server", "--port", "0", *arguments],
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.log)
        words = self.process.stdout.readline().decode().split()
        if not words:
            raise RuntimeError(f"bigquery_server does not start, see {directory}/bigquery.log")
        self.endpoint = f"http://127.0.0.1:{words[1]}"

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.stdin.close()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process.stdout.close()
        self.log.close()

    def control(self, method, name, body=None):
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"{self.endpoint}/control/{name}", data, method=method,
                                         headers={"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=120) as answer:
            return json.loads(answer.read() or b"null")

    def data(self, **asked):
        self.control("POST", "data", {"location": "EU", **asked})

    def fault(self, **asked):
        self.control("POST", "fault", asked)

    def met(self, number):
        """Whether each of so many faults has struck; one that is used up is not in force any more."""
        left = self.control("GET", "fault")["faults"]
        return len(left) < number or all(fault["hits"] for fault in left)

    def mend(self):
        self.control("DELETE", "fault")

    def stats(self):
        return self.control("GET", "stats")

    def check(self, run):
        """Every request kept the rules of the API."""
        found = self.stats()["violations"]
        run.none("requests that broke a rule of BigQuery's API",
                 [f"{v['call']}: {v['text']}" for v in found["list"]])

    def settings(self, query=QUERY, **more):
        """Of the job, to read from here."""
        made = {"source": "bigquery", "endpoint": self.endpoint, "project": PROJECT, "location": "EU",
                "query": query, **more}
        return {f"contact_job.{key}": value for key, value in made.items()}
