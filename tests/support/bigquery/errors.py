"""An error answer in BigQuery's shape: a reason in `errors`, by which clients decide."""
import json

from google_api.errors import STATUS_OF_CODE, ApiError

REASON_OF_CODE = {400: "invalid", 401: "authError", 403: "accessDenied", 404: "notFound",
                  409: "duplicate", 429: "rateLimitExceeded", 500: "internalError",
                  501: "notImplemented", 502: "badGateway", 503: "backendError", 504: "backendError"}
CODE_OF_REASON = {"accessDenied": 403, "backendError": 503, "billingNotEnabled": 403,
                  "bytesBilledLimitExceeded": 400, "internalError": 500, "invalid": 400,
                  "invalidQuery": 400, "jobBackendError": 503, "jobInternalError": 500,
                  "jobRateLimitExceeded": 400, "notFound": 404, "quotaExceeded": 403,
                  "rateLimitExceeded": 403, "resourcesExceeded": 400, "responseTooLarge": 403,
                  "stopped": 400}


def error_body(code, status, message, reason):
    one = {"message": message, "domain": "global", "reason": reason}
    return json.dumps({"error": {"code": code, "message": message, "errors": [one],
                                 "status": status}}, indent=2).encode()


class ReasonError(ApiError):
    """An error with a reason of its own; its code follows from that."""

    def __init__(self, reason, message, code=None, violation=False):
        code = code or CODE_OF_REASON[reason]
        super().__init__(code, STATUS_OF_CODE.get(code, "UNKNOWN"), message, violation=violation)
        self.reason = reason


def body_of(error):
    reason = getattr(error, "reason", None) or REASON_OF_CODE.get(error.code, "invalid")
    return error_body(error.code, error.status, error.message, reason)
