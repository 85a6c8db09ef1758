"""What a request may contain. Everything that is not allowed raises the 400 of errors.invalid().

Bytes of a publish are counted as the service does, roughly as its binary encoding: every text with
two bytes beside it.
"""
import binascii
import json
import re

from google_api.errors import invalid
from google_api.shape import Shape, check_project, raw, string, string_map

MESSAGES_MAX = 1000
PUBLISH_BYTES_MAX = 10_000_000
ATTRIBUTES_MAX = 100
KEY_BYTES_MAX, VALUE_BYTES_MAX = 256, 1024
ORDERING_KEY_BYTES_MAX = 1024
ACK_REQUEST_BYTES_MAX = 512 * 1024
GOOD_KEYS_MAX = 10_000  # of the cache of names known to be good

RESOURCE_ID = re.compile(r"[A-Za-z][A-Za-z0-9_.~+%-]{2,254}")

quoted = json.encoder.encode_basestring_ascii  # in C; attributes are most of a publish's work


# ---- names ---------------------------------------------------------------------------------------

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
