"""What a request may contain. Everything that is not allowed raises the 400 of errors.invalid().

Bytes of a publish are counted as the service does, roughly as its binary encoding: every text with
two bytes beside it.
"""
import binascii
import datetime
import json
import re
import urllib.parse

from .errors import invalid

MESSAGES_MAX = 1000
PUBLISH_BYTES_MAX = 10_000_000
ATTRIBUTES_MAX = 100
KEY_BYTES_MAX, VALUE_BYTES_MAX = 256, 1024
ORDERING_KEY_BYTES_MAX = 1024
ACK_REQUEST_BYTES_MAX = 512 * 1024
INT32_MAX = 2 ** 31 - 1
GOOD_KEYS_MAX = 10_000  # of the cache of names known to be good

RESOURCE_ID = re.compile(r"[A-Za-z][A-Za-z0-9_.~+%-]{2,254}")
PROJECT_ID = re.compile(r"[a-z][a-z0-9:.-]{2,61}[a-z0-9]")
DURATION = re.compile(r"(\d{1,12})(?:\.(\d{1,9}))?s")
TIME = re.compile(r"(\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d)(\.\d{1,9})?([Zz]|[+-]\d\d:\d\d)")

encode_json = json.JSONEncoder(separators=(",", ":")).encode
quoted = json.encoder.encode_basestring_ascii  # in C; attributes are most of a publish's work


# ---- names ---------------------------------------------------------------------------------------

def check_project(project):
    if not PROJECT_ID.fullmatch(project):
        raise invalid(f"Invalid project name: (name=projects/{project})")


def check_id(collection, name):
    """name: the id part of a topic or subscription."""
    if not RESOURCE_ID.fullmatch(name) or name.startswith("goog"):
        raise invalid(f"Invalid [{collection}] name: (name={name})")


def full_name(collection, text, where):
    """text is "projects/P/<collection>/ID"; returned."""
    parts = text.split("/") if isinstance(text, str) else ()
    if len(parts) != 4 or parts[0] != "projects" or parts[2] != collection:
        raise invalid(f"{where}: not projects/PROJECT/{collection}/ID: {text!r}")
    check_project(parts[1])
    check_id(collection, parts[3])
    return text


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


# ---- published messages --------------------------------------------------------------------------

MESSAGE = Shape(data=string, attributes=string_map, orderingKey=string, messageId=raw,
                publishTime=raw)
good_keys = set()


def check_key(key):
    if key.startswith("goog") and not key.startswith("googclient_"):
        raise invalid(f"attribute keys starting with goog are reserved: {key!r:.50}")
    if len(key.encode()) > KEY_BYTES_MAX:
        raise invalid(f"an attribute key has more than {KEY_BYTES_MAX} bytes")
    if len(good_keys) < GOOD_KEYS_MAX:
        good_keys.add(key)


def check_attributes(attributes):
    if len(attributes) > ATTRIBUTES_MAX:
        raise invalid(f"a message has more than {ATTRIBUTES_MAX} attributes")
    for key, value in attributes.items():
        if key not in good_keys:
            check_key(key)
        if type(value) is not str:
            raise invalid("Invalid value at 'messages.attributes' (TYPE_STRING), "
                          f"{value!r:.50}")
        if len(value) > VALUE_BYTES_MAX // 4 and len(value.encode()) > VALUE_BYTES_MAX:
            raise invalid(f"an attribute value has more than {VALUE_BYTES_MAX} bytes")


def check_data(data):
    """Decoded length; the standard alphabet, padded, nothing else."""
    try:
        return len(binascii.a2b_base64(data, strict_mode=True))
    except (ValueError, TypeError) as error:
        raise invalid(f"Invalid value at 'messages.data' (TYPE_BYTES), {error}") from None


def read_message(message):
    """(JSON text up to and without its id, ordering key, bytes) of one message to publish."""
    if type(message) is not dict:
        raise invalid("Invalid value at 'messages': an object is expected.")
    data, attributes, key = message.get("data"), message.get("attributes"), ""
    if len(message) != ("data" in message) + ("attributes" in message) or \
            type(attributes) not in (dict, type(None)):
        read = MESSAGE.read(message, "messages")
        if "messageId" in read or "publishTime" in read:
            raise invalid("messageId and publishTime are set by the server")
        data, attributes = read.get("data"), read.get("attributes")
        key = read.get("orderingKey", "")
    head, size = "{", 0
    if data:
        size = check_data(data) + 2
        head = f'{{"data":"{data}",'
    elif data not in (None, ""):
        raise invalid("Invalid value at 'messages.data' (TYPE_BYTES)")
    if attributes:
        check_attributes(attributes)
        text = ",".join([f"{quoted(name)}:{quoted(value)}" for name, value in attributes.items()])
        size += len(text)
        head += f'"attributes":{{{text}}},'
    elif not size:
        raise invalid("Some messages are empty: a message needs data or an attribute")
    return head, key, size


def exact_size(message):
    """Without what escaping in JSON adds; only asked for near the limit."""
    size = check_data(message.get("data") or "") + 2
    for key, value in (message.get("attributes") or {}).items():
        size += len(key.encode()) + len(value.encode()) + 6
    return size


def read_messages(messages):
    """([head of each], the ordering key of all) of a publish."""
    if type(messages) is not list:
        raise invalid("Invalid value at 'messages': a list is expected.")
    if not 0 < len(messages) <= MESSAGES_MAX:
        raise invalid(f"The number of messages is {len(messages)}; it must be 1 to {MESSAGES_MAX}.")
    heads, total, keys = [], 0, set()
    for message in messages:
        head, key, size = read_message(message)
        heads.append(head)
        keys.add(key)
        total += size
    if total > PUBLISH_BYTES_MAX and sum(map(exact_size, messages)) > PUBLISH_BYTES_MAX:
        raise invalid(f"Request payload size exceeds the limit: {PUBLISH_BYTES_MAX} bytes.")
    if len(keys) > 1:
        raise invalid("In a single publish request, all messages must have the same ordering key")
    key = keys.pop()
    if len(key.encode()) > ORDERING_KEY_BYTES_MAX:
        raise invalid(f"an ordering key has more than {ORDERING_KEY_BYTES_MAX} bytes")
    return heads, key
