"""The values a request may contain, whatever the API. What is not allowed raises the 400 of
errors.invalid().
"""
import datetime
import json
import re
import urllib.parse

from .errors import invalid

INT32_MAX = 2 ** 31 - 1

PROJECT_ID = re.compile(r"[a-z][a-z0-9:.-]{2,61}[a-z0-9]")
DURATION = re.compile(r"(\d{1,12})(?:\.(\d{1,9}))?s")
TIME = re.compile(r"(\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d)(\.\d{1,9})?([Zz]|[+-]\d\d:\d\d)")

encode_json = json.JSONEncoder(separators=(",", ":")).encode


def check_project(project):
    if not PROJECT_ID.fullmatch(project):
        raise invalid(f"Invalid project name: (name=projects/{project})")


def unquoted(path):
    try:
        return urllib.parse.unquote(path, errors="strict")
    except UnicodeDecodeError:
        raise invalid("the path is not UTF-8") from None


# ---- JSON ----------------------------------------------------------------------------------------

def unique(pairs):
    made = dict(pairs)
    if len(made) != len(pairs):
        raise ValueError("a field is repeated")
    return made


def no_constant(text):
    raise ValueError(f"{text} is not JSON")


def read_json(body):
    """The object that a body is. An empty body is an empty object, as the API has it."""
    if not body:
        return {}
    try:
        # A pairs hook for every object costs more than the rest: only where names may repeat, in
        # a body that is no long list.
        hook = unique if len(body) < 4096 else None
        value = json.loads(body, parse_constant=no_constant, object_pairs_hook=hook)
        if b"\\ud" in body or b"\\uD" in body:
            json.dumps(value, ensure_ascii=False).encode()  # refuses half of a surrogate pair
    except (ValueError, RecursionError) as error:
        raise invalid(f"Invalid JSON payload received. {error}") from None
    if type(value) is not dict:
        raise invalid("Invalid JSON payload received. Root element must be a message.")
    return value


def snake(name):
    return re.sub("[A-Z]", lambda found: "_" + found[0].lower(), name)


class Shape:
    """The fields an object may have, under both spellings, each with the check of its value."""

    def __init__(self, **checks):
        self.checks = {}
        for name, check in checks.items():
            self.checks[name] = self.checks[snake(name)] = (name, check)

    def read(self, value, where="body"):
        """A dict by camelCase names; a field that is null is left out, as if it were absent."""
        if type(value) is not dict:
            raise invalid(f"Invalid value at '{where}': an object is expected.")
        made = {}
        for key, item in value.items():
            if key not in self.checks:
                raise invalid("Invalid JSON payload received. "
                              f"Unknown name \"{key}\" at '{where}': Cannot find field.")
            name, check = self.checks[key]
            if name in made:
                raise invalid(f"'{where}.{name}' is given twice")
            if item is not None:
                made[name] = check(item, f"{where}.{name}")
        return made


def string(value, where):
    if type(value) is not str:
        raise invalid(f"Invalid value at '{where}' (TYPE_STRING), {value!r:.50}")
    return value


def boolean(value, where):
    if type(value) is not bool:
        raise invalid(f"Invalid value at '{where}' (TYPE_BOOL), {value!r:.50}")
    return value


def int32(value, where):
    """Number or decimal text, as the API's JSON allows."""
    if type(value) is str and re.fullmatch(r"-?\d{1,10}", value):
        value = int(value)
    elif type(value) is float and value.is_integer():
        value = int(value)
    if type(value) is not int or not -INT32_MAX - 1 <= value <= INT32_MAX:
        raise invalid(f"Invalid value at '{where}' (TYPE_INT32), {value!r:.50}")
    return value


def strings(value, where):
    if type(value) is not list or not all(type(item) is str for item in value):
        raise invalid(f"Invalid value at '{where}': a list of strings is expected.")
    return value


def string_map(value, where):
    if type(value) is not dict or not all(type(item) is str for item in value.values()):
        raise invalid(f"Invalid value at '{where}': a map of strings is expected.")
    return value


def raw(value, _):
    return value


def seconds(value, where):
    """A duration, "3.5s", as a number."""
    found = DURATION.fullmatch(value) if type(value) is str else None
    if not found:
        raise invalid(f"Invalid value at '{where}' (google.protobuf.Duration), {value!r:.50}")
    return float(value[:-1])


def epoch(value, where):
    """An RFC 3339 time as epoch seconds."""
    found = TIME.fullmatch(value) if type(value) is str else None
    try:
        zone = "+00:00" if found[3] in "Zz" else found[3]
        whole = datetime.datetime.fromisoformat(found[1] + zone).timestamp()
    except (TypeError, ValueError):
        raise invalid(f"Invalid value at '{where}' (google.protobuf.Timestamp), "
                      f"{value!r:.50}") from None
    return whole + float(found[2] or 0)


def timestamp(at, digits=3):
    """Epoch seconds as RFC 3339 with so many fractional digits."""
    whole, fraction = divmod(int(at * 1e9), 1_000_000_000)
    text = datetime.datetime.fromtimestamp(whole, datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%S")
    return f"{text}.{fraction:09d}"[:20 + digits] + "Z"
