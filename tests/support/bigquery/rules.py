"""The bodies and parameters of the calls. What is not allowed raises the 400 of errors.invalid()."""
import re

from google_api.errors import invalid
from google_api.shape import Shape, boolean, int32, raw, string, string_map

JOB_ID = re.compile(r"[A-Za-z0-9_-]{1,1024}")
REQUEST_ID = re.compile(r"[ -~]{1,36}")
LOCATION = re.compile(r"[A-Za-z0-9-]{2,64}")
NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}")
LABEL = re.compile(r"[a-z0-9_-]{0,63}")
PARAMETERS_MAX = 10_000
SCALARS = ("STRING", "INT64", "TIMESTAMP", "BOOL", "FLOAT64", "DATE", "NUMERIC", "BYTES")


def int64(value, where):
    """Decimal text or a number, as the API's JSON allows."""
    if type(value) is str and re.fullmatch(r"-?\d{1,19}", value):
        value = int(value)
    if type(value) is not int or not -2 ** 63 <= value < 2 ** 63:
        raise invalid(f"Invalid value at '{where}' (TYPE_INT64), {value!r:.50}")
    return value


def count(value, where):
    number = int32(value, where)
    if number < 0:
        raise invalid(f"Invalid value at '{where}': {number} is negative.")
    return number


def matching(pattern, what):
    def check(value, where):
        if not pattern.fullmatch(string(value, where)):
            raise invalid(f"Invalid {what} at '{where}': {value!r:.60}")
        return value
    return check


def labels(value, where):
    for name, text in string_map(value, where).items():
        if not name or not LABEL.fullmatch(name) or not LABEL.fullmatch(text):
            raise invalid(f"Invalid label at '{where}': {name!r:.70}")
    return value


def query_flag(value, where):
    if value not in ("true", "false"):
        raise invalid(f"Invalid value at '{where}' (TYPE_BOOL), {value!r:.50}")
    return value == "true"


# ---- parameters of a query -----------------------------------------------------------------------

TYPE = Shape(type=string, arrayType=raw)
VALUE = Shape(value=raw, arrayValues=raw)
PARAMETER = Shape(name=matching(NAME, "parameter name"), parameterType=raw, parameterValue=raw)


def scalar(value, where):
    if value is not None and type(value) not in (str, int, float):
        raise invalid(f"Invalid value at '{where}' (TYPE_STRING)")
    return None if value is None else str(value)


def type_of(value, where):
    read = TYPE.read(value, where)
    name = read.get("type")
    if name == "ARRAY":
        return f"ARRAY<{type_of(read.get('arrayType'), where + '.arrayType')}>"
    if name not in SCALARS or "arrayType" in read:
        raise invalid(f"Invalid value at '{where}': {name!r:.50} is no type")
    return name


def parameters(value, where):
    """{name: (type, value or list)}."""
    if type(value) is not list or len(value) > PARAMETERS_MAX:
        raise invalid(f"Invalid value at '{where}': a list of at most {PARAMETERS_MAX} is expected.")
    made = {}
    for item in value:
        read = PARAMETER.read(item, where)
        name = read.get("name")
        if not name or name in made:
            raise invalid(f"'{where}': a parameter without a name, or twice the same")
        kind = type_of(read.get("parameterType"), where + ".parameterType")
        given = VALUE.read(read.get("parameterValue") or {}, where + ".parameterValue")
        if kind.startswith("ARRAY"):
            items = given.get("arrayValues", [])
            if type(items) is not list or "value" in given:
                raise invalid(f"'{where}': {name} is an array and needs arrayValues")
            made[name] = kind, [scalar(VALUE.read(one, where).get("value"), where) for one in items]
        elif "arrayValues" in given:
            raise invalid(f"'{where}': {name} is no array")
        else:
            made[name] = kind, scalar(given.get("value"), where)
    return made


# ---- bodies --------------------------------------------------------------------------------------

QUERY_FIELDS = {"query": string, "useLegacySql": boolean, "parameterMode": string,
                "queryParameters": parameters, "maximumBytesBilled": int64, "useQueryCache": boolean,
                "defaultDataset": raw}
REFERENCE = Shape(projectId=string, jobId=matching(JOB_ID, "job ID"),
                  location=matching(LOCATION, "location"))
JOB = Shape(jobReference=REFERENCE.read, configuration=raw)
CONFIGURATION = Shape(query=Shape(**QUERY_FIELDS, priority=string).read, dryRun=boolean,
                      jobTimeoutMs=int64, labels=labels)
FORMAT = Shape(useInt64Timestamp=boolean)
QUERY = Shape(**QUERY_FIELDS, dryRun=boolean, jobTimeoutMs=int64, labels=labels, maxResults=count,
              timeoutMs=count, location=matching(LOCATION, "location"),
              requestId=matching(REQUEST_ID, "request ID"), formatOptions=FORMAT.read,
              jobCreationMode=string, kind=string)
RESULTS = Shape(location=matching(LOCATION, "location"), pageToken=string, startIndex=int64,
                maxResults=count, timeoutMs=count, **{"formatOptions.useInt64Timestamp": query_flag})


def check_query(read):
    """Of a query that is to be run: what would be something else than the caller thinks."""
    if not read.get("query", "").strip():
        raise invalid("Required parameter is missing: query")
    if read.get("useLegacySql", True):
        raise invalid("useLegacySql is true when it is absent: this is no legacy SQL")
    if read.get("queryParameters") and read.get("parameterMode") != "NAMED":
        raise invalid("parameterMode must be NAMED")
    if read.get("maximumBytesBilled", 1) <= 0:
        raise invalid("maximumBytesBilled must be positive")
