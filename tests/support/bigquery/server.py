"""The stand-in for BigQuery: what its requests find."""
import itertools

from google_api import server
from google_api.control import read_object
from google_api.shape import Shape, string

from . import calls, rules
from .data import Data
from .errors import body_of
from .faults import Fault
from .jobs import Jobs

DATA = Shape(customers=rules.count, contacts=rules.count, first=rules.count, seed=rules.count,
             since=rules.int64, every=rules.count, location=string, table=string, size=rules.int64,
             null_every=rules.count)


class Exchange(server.Exchange):
    __slots__ = ()

    @property
    def job_id(self):
        return self.resource.partition("/")[0]

    def fail(self, error):
        if error.violation:
            self.stats.violation(self.call, error.message, self.request.target)
        self.send(error.code, body_of(error))


class Server(server.Server):
    EXCHANGE, FAULT = Exchange, Fault
    CALLS = calls.NAMES
    SERVICE = "bigquery.googleapis.com"

    def __init__(self, options):
        self.jobs = Jobs()
        self.ids = itertools.count(1)
        super().__init__(options)

    def find(self, request, path):
        return calls.find(request, path)

    def next_id(self):
        return f"job_{next(self.ids)}"

    def reset(self):
        super().reset()
        self.jobs.clear()

    # ---- /control ----

    def commands(self):
        return {("POST", "data"): self.set_data, ("GET", "jobs"): self.list_jobs}

    def set_data(self, request):
        self.jobs.data = Data(**DATA.read(read_object(request)))
        return {"rows": self.jobs.data.customers * self.jobs.data.contacts}

    def list_jobs(self, _):
        return {"jobs": [{"jobId": job.id, "location": job.location, "totalRows": job.total,
                          "error": job.error and job.error[0], "rowsSent": job.rows_sent,
                          "rowsRepeated": job.rows_repeated,
                          **{name: job.asked.get(name) for name in
                             ("query", "queryParameters", "maximumBytesBilled")}}
                         for job in self.jobs.jobs.values()]}

    def figures(self):
        jobs = self.jobs
        return {"jobs": jobs.submitted, "pages": jobs.pages, "rowsSent": jobs.rows_sent,
                "rowsRepeated": jobs.rows_repeated}
