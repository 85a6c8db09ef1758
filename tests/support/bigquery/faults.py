"""The faults of BigQuery beside those of every API. The contract is in bigquery_server."""
from google_api import faults
from google_api.shape import boolean, int32, raw, string

from .errors import REASON_OF_CODE, error_body

ASKS = ("query", "getQueryResults", "getJob")
PAGES = ("query", "getQueryResults")


class Fault(faults.Fault):
    KINDS = {
        **faults.Fault.KINDS,
        "status": {**faults.Fault.KINDS["status"], "reason": string},
        "incomplete": {}, "stale-token": {}, "huge-page": {}, "lost-job": {},
        "job-fails": {"reason": string, "message": string},
        "wrong-total": {"by": int32},
        "warning": {},
        "rows": {"rows": raw, "last": boolean},
    }
    DEFAULT_CALL = {"incomplete": "getQueryResults", "stale-token": "getQueryResults",
                    "huge-page": "getQueryResults", "lost-job": "getQueryResults",
                    "job-fails": "getQueryResults", "wrong-total": "getQueryResults",
                    "warning": "getQueryResults", "rows": "getQueryResults"}
    LIMITED = {"incomplete": ASKS, "stale-token": ("getQueryResults",), "huge-page": PAGES,
               "lost-job": ("getQueryResults", "getJob"), "job-fails": ("insertJob", *ASKS),
               "wrong-total": PAGES, "warning": PAGES, "rows": ("getQueryResults",)}
    WRONG_JSON = '{"jobComplete":"yes","rows":[{"f":7}],"totalRows":[],"access_token":[]}'

    def matches(self, call, resource, random):
        if self.kind == "stale-token" and not resource.endswith("/next"):
            return False
        return super().matches(call, resource, random)

    def error_body(self, code, google, message):
        reason = self.asked.get("reason", REASON_OF_CODE.get(code, "unknown"))
        return error_body(code, google, message, reason)
