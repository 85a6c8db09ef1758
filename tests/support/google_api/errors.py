"""An answer that is an error, in the shape that Google's APIs give it."""
import json

ERROR_INFO = "type.googleapis.com/google.rpc.ErrorInfo"

STATUS_OF_CODE = {400: "INVALID_ARGUMENT", 401: "UNAUTHENTICATED", 403: "PERMISSION_DENIED",
                  404: "NOT_FOUND", 409: "ABORTED", 429: "RESOURCE_EXHAUSTED", 499: "CANCELLED",
                  500: "INTERNAL", 501: "UNIMPLEMENTED", 502: "UNAVAILABLE", 503: "UNAVAILABLE",
                  504: "DEADLINE_EXCEEDED"}


class ApiError(Exception):
    """violation: the caller broke a rule of the API, as against being late or meeting a fault."""

    def __init__(self, code, status, message, details=(), violation=False):
        super().__init__(message)
        self.code, self.status, self.message = code, status, message
        self.details, self.violation = list(details), violation

    def body(self):
        return error_body(self.code, self.status, self.message, self.details)


def error_body(code, status, message, details=()):
    error = {"code": code, "message": message, "status": status}
    if details:
        error["details"] = list(details)
    return json.dumps({"error": error}, indent=2).encode()


def invalid(message):
    return ApiError(400, "INVALID_ARGUMENT", message, violation=True)


def not_found(message):
    return ApiError(404, "NOT_FOUND", message)


def already_exists(message):
    return ApiError(409, "ALREADY_EXISTS", message)


def error_info(reason, metadata, domain="pubsub.googleapis.com"):
    return {"@type": ERROR_INFO, "reason": reason, "domain": domain, "metadata": metadata}
