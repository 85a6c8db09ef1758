"""The calls of BigQuery: each a function of an exchange that returns the answer's body."""
import re

from google_api import shape
from google_api.errors import STATUS_OF_CODE, ApiError, invalid

from . import rules
from .errors import ReasonError
from .jobs import Job

PAGE_BYTES_MAX, FIRST_PAGE_BYTES_MAX = 20_000_000, 10_000_000
PATH = re.compile(r"/bigquery/v2/projects/([^/]+)/(jobs|queries)(?:/([^/]+))?(/cancel)?")
DEFAULT_ROWS = 2 ** 31


def to_json(value):
    return shape.encode_json(value).encode()


def struck(exchange, kind):
    return exchange.fault is not None and exchange.fault.kind == kind


def maybe_fail(exchange, job):
    if struck(exchange, "job-fails"):
        asked = exchange.fault.asked
        job.fail(asked.get("reason", "backendError"), asked.get("message", "A fault that was asked for."))


# ---- jobs ----------------------------------------------------------------------------------------

def submit(exchange, job_id, location, asked):
    """The job of that id, a new one."""
    jobs = exchange.server.jobs
    if (exchange.project, job_id) in jobs.jobs:
        raise ReasonError("duplicate", f"Already Exists: Job {exchange.project}:{location}.{job_id}", 409)
    job = Job(jobs.data, exchange.project, job_id, location, asked)
    jobs.jobs[exchange.project, job_id] = job
    jobs.submitted += 1
    return job


def dry_run(exchange, job):
    job.raise_error()
    return to_json({"kind": "bigquery#job", "jobReference": {"projectId": exchange.project},
                    "status": {"state": "DONE"}, "schema": job.schema(),
                    "statistics": {"totalBytesProcessed": str(job.data.size),
                                   "query": {"totalBytesProcessed": str(job.data.size)}}})


def insert_job(exchange):
    read = rules.JOB.read(exchange.json())
    configuration = rules.CONFIGURATION.read(read.get("configuration"), "configuration")
    asked = configuration.get("query", {})
    rules.check_query(asked)
    reference = read.get("jobReference", {})
    if reference.get("projectId", exchange.project) != exchange.project:
        raise invalid("jobReference.projectId is not the project of the path")
    job_id = reference.get("jobId") or exchange.server.next_id()
    location = reference.get("location", "US")
    if configuration.get("dryRun"):
        return dry_run(exchange, Job(exchange.server.jobs.data, exchange.project, job_id, location, asked))
    job = submit(exchange, job_id, location, asked)
    maybe_fail(exchange, job)
    return to_json({**job.shown(), "status": {"state": "RUNNING"}})


def get_job(exchange):
    job = exchange.server.jobs.find(exchange.project, exchange.job_id,
                                    read_query(exchange).get("location"))
    if struck(exchange, "lost-job"):
        exchange.server.jobs.jobs.pop((exchange.project, job.id))
        raise ReasonError("notFound", f"Not found: Job {exchange.project}:{job.id}")
    maybe_fail(exchange, job)
    shown = job.shown()
    if struck(exchange, "incomplete"):
        shown["status"] = {"state": "RUNNING"}
    return to_json(shown)


def cancel_job(exchange):
    job = exchange.server.jobs.find(exchange.project, exchange.job_id,
                                    read_query(exchange).get("location"))
    return to_json({"kind": "bigquery#jobCancelResponse", "job": job.shown()})


# ---- results -------------------------------------------------------------------------------------

def read_query(exchange):
    names = {name: value for name, value in exchange.query.items()
             if name not in exchange.server.STANDARD_QUERY}
    return rules.RESULTS.read(names, "query")


def warnings(exchange):
    return {"errors": [{"reason": "invalid", "message": "A warning that was asked for."}]} \
        if struck(exchange, "warning") else {}


def page(exchange, job, start, most, bytes_max, int64_timestamp):
    """The answer's body; rows are joined as text, for there may be a million."""
    if struck(exchange, "huge-page"):
        most, bytes_max = DEFAULT_ROWS, 2 ** 40
    if struck(exchange, "rows"):
        rows, last = [shape.encode_json(row) for row in exchange.fault.asked["rows"]], \
            exchange.fault.asked.get("last", False)
    else:
        rows = job.rows(start, most, bytes_max, int64_timestamp)
        last = start + len(rows) >= job.total
    exchange.server.jobs.sent(job, start, len(rows))
    head = {"kind": "bigquery#getQueryResultsResponse", "schema": job.schema(),
            "jobReference": job.reference(), "totalRows": str(job.total + wrong_by(exchange))}
    if not last:
        head["pageToken"] = job.token(start + len(rows))
    tail = {"totalBytesProcessed": str(job.data.size), "jobComplete": True, "cacheHit": False,
            **warnings(exchange)}
    fields = exchange.query.get("fields")
    if fields:
        head, tail = masked(head, fields), masked(tail, fields)
    text = shape.encode_json(head)[:-1]
    if rows and (not fields or "rows" in fields.split(",")):
        text += ("," if len(text) > 1 else "") + f'"rows":[{",".join(rows)}]'
    rest = shape.encode_json(tail)[1:]
    return (text + ("," if len(text) > 1 and len(rest) > 1 else "") + rest).encode()


def wrong_by(exchange):
    return exchange.fault.asked.get("by", 1) if struck(exchange, "wrong-total") else 0


def masked(value, fields):
    """Of a partial answer: only whole fields of the first level."""
    wanted = set(fields.split(","))
    unknown = wanted - {"kind", "schema", "jobReference", "totalRows", "pageToken", "rows",
                        "totalBytesProcessed", "jobComplete", "cacheHit", "errors"}
    if unknown:
        raise invalid(f"Invalid field selection {min(unknown)}")
    return {name: item for name, item in value.items() if name in wanted}


def not_complete(job):
    return to_json({"kind": "bigquery#queryResponse", "jobReference": job.reference(),
                    "jobComplete": False})


def get_query_results(exchange):
    read, jobs = read_query(exchange), exchange.server.jobs
    job = jobs.find(exchange.project, exchange.job_id, read.get("location"))
    if struck(exchange, "lost-job"):
        jobs.jobs.pop((exchange.project, job.id))
        raise ReasonError("notFound", f"Not found: Job {exchange.project}:{job.id}")
    if struck(exchange, "incomplete"):
        return not_complete(job)
    maybe_fail(exchange, job)
    job.raise_error()
    if "pageToken" in read and "startIndex" in read:
        raise invalid("pageToken and startIndex exclude each other")
    start = read.get("startIndex", 0)
    if start < 0:
        raise invalid("startIndex is negative")
    if "pageToken" in read:
        start = job.place_of(read["pageToken"])
        if struck(exchange, "stale-token"):
            raise ReasonError("invalid", "Invalid page token")
    options = exchange.server.options
    return page(exchange, job, start, read.get("maxResults", DEFAULT_ROWS), options.page_bytes,
                read.get("formatOptions.useInt64Timestamp", False))


def query(exchange):
    read, jobs = rules.QUERY.read(exchange.json()), exchange.server.jobs
    rules.check_query(read)
    if read.get("jobCreationMode", "JOB_CREATION_REQUIRED") != "JOB_CREATION_REQUIRED":
        raise ApiError(501, STATUS_OF_CODE[501], "jobCreationMode is not offered")
    key = exchange.project, read.get("requestId")
    job = jobs.requests.get(key) if key[1] else None
    if read.get("dryRun"):
        return dry_run(exchange, Job(jobs.data, exchange.project, "dry", read.get("location", "US"), read))
    if not job:
        job = submit(exchange, exchange.server.next_id(), read.get("location", "US"), read)
        if key[1]:
            jobs.requests[key] = job
    if struck(exchange, "incomplete"):
        return not_complete(job)
    maybe_fail(exchange, job)
    job.raise_error()
    return page(exchange, job, 0, read.get("maxResults", DEFAULT_ROWS),
                min(exchange.server.options.page_bytes, FIRST_PAGE_BYTES_MAX),
                read.get("formatOptions", {}).get("useInt64Timestamp", False))


# ---- which of them -------------------------------------------------------------------------------

PLACE = ("location",)
RESULTS = (*PLACE, "pageToken", "startIndex", "maxResults", "timeoutMs",
           "formatOptions.useInt64Timestamp")
CALLS = {  # method, collection, with an id, cancel: name, function, query parameters
    ("POST", "queries", False, False): ("query", query, ()),
    ("GET", "queries", True, False): ("getQueryResults", get_query_results, RESULTS),
    ("POST", "jobs", False, False): ("insertJob", insert_job, ()),
    ("GET", "jobs", True, False): ("getJob", get_job, PLACE),
    ("POST", "jobs", True, True): ("cancelJob", cancel_job, PLACE),
}
NAMES = sorted(name for name, _, _ in CALLS.values())


def kind_of(request):
    """Of getQueryResults: what it asks for, as faults tell them apart."""
    names = request.query()
    return "poll" if names.get("maxResults") == "0" else "next" if "pageToken" in names else "page"


def find(request, path):
    """((name, function, query), project, resource) of a request, or None when there is no such call.
    Raises for a name that is not allowed."""
    found = PATH.fullmatch(shape.unquoted(path))
    call = found and CALLS.get((request.method, found[2], found[3] is not None, found[4] is not None))
    if not call:
        return None
    shape.check_project(found[1])
    if found[3] is None:
        return call, found[1], ""
    rules.matching(rules.JOB_ID, "job ID")(found[3], "jobId")
    kind = "/" + kind_of(request) if call[0] == "getQueryResults" else ""
    return call, found[1], found[3] + kind
