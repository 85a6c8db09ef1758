"""The settings of topics and subscriptions: checked, defaulted, changed, shown.

Kept as the JSON that is shown, in camelCase; durations stay texts there and are read with
shape.seconds() where they are used.
"""
from google_api.errors import ApiError, invalid
from google_api.shape import Shape, boolean, int32, raw, seconds, string, string_map

from . import rules

ACK_DEADLINE_MIN, ACK_DEADLINE_MAX, ACK_DEADLINE_DEFAULT = 10, 600, 10
RETENTION_MIN, RETENTION_MAX = 600, 31 * 86400
EXPIRATION_MIN, EXPIRATION_DEFAULT = 86400, "2678400s"
BACKOFF_MAX = 600
ATTEMPTS_MIN, ATTEMPTS_MAX, ATTEMPTS_DEFAULT = 5, 100, 5
UNCHANGEABLE = {"name", "topic", "filter", "enableMessageOrdering", "state"}
DEFAULTS = {"ackDeadlineSeconds": ACK_DEADLINE_DEFAULT, "messageRetentionDuration": "604800s",
            "expirationPolicy": {"ttl": EXPIRATION_DEFAULT}}
NOT_OFFERED = ("pushConfig", "filter", "bigqueryConfig", "cloudStorageConfig", "detached")

DEAD_LETTER = Shape(deadLetterTopic=string, maxDeliveryAttempts=int32)
RETRY = Shape(minimumBackoff=seconds, maximumBackoff=seconds)
EXPIRATION = Shape(ttl=seconds)


def in_range(value, low, high, what):
    if not low <= value <= high:
        raise invalid(f"{what} is {value:g}; it must be {low} to {high}.")
    return value


def duration(number):
    return f"{number:.9f}".rstrip("0").rstrip(".") + "s"


def ack_deadline(value, where):
    value = int32(value, where)
    return ACK_DEADLINE_DEFAULT if value == 0 else \
        in_range(value, ACK_DEADLINE_MIN, ACK_DEADLINE_MAX, where)


def retention(value, where):
    return duration(in_range(seconds(value, where), RETENTION_MIN, RETENTION_MAX, where))


def dead_letter_policy(value, where):
    policy = DEAD_LETTER.read(value, where)
    if "deadLetterTopic" not in policy:
        raise invalid(f"{where}: deadLetterTopic is missing")
    attempts = policy.get("maxDeliveryAttempts", 0) or ATTEMPTS_DEFAULT
    return {"deadLetterTopic": rules.full_name("topics", policy["deadLetterTopic"], where),
            "maxDeliveryAttempts": in_range(attempts, ATTEMPTS_MIN, ATTEMPTS_MAX, where)}


def retry_policy(value, where):
    policy = RETRY.read(value, where)
    low, high = policy.get("minimumBackoff", 10.0), policy.get("maximumBackoff", 600.0)
    in_range(low, 0, BACKOFF_MAX, where)
    in_range(high, 0, BACKOFF_MAX, where)
    if low > high:
        raise invalid(f"{where}: minimumBackoff is above maximumBackoff")
    return {"minimumBackoff": duration(low), "maximumBackoff": duration(high)}


def expiration_policy(value, where):
    """Without ttl the subscription never expires."""
    ttl = EXPIRATION.read(value, where).get("ttl")
    if ttl is not None and ttl < EXPIRATION_MIN:
        raise invalid(f"{where}: ttl is below a day")
    return {} if ttl is None else {"ttl": duration(ttl)}


TOPIC = Shape(name=string, labels=string_map, messageRetentionDuration=retention,
              messageStoragePolicy=raw, kmsKeyName=string)
SUBSCRIPTION = Shape(
    name=string, topic=string, state=string, labels=string_map, ackDeadlineSeconds=ack_deadline,
    deadLetterPolicy=dead_letter_policy, retryPolicy=retry_policy,
    expirationPolicy=expiration_policy, messageRetentionDuration=retention,
    retainAckedMessages=boolean, enableExactlyOnceDelivery=boolean, enableMessageOrdering=boolean,
    **dict.fromkeys(NOT_OFFERED, raw))
PATCH = Shape(subscription=raw, updateMask=string)


def check_name(read, name):
    if read.pop("name", name) != name:
        raise invalid(f"the name in the body is not that of the path, {name}")


def check_offered(read):
    """What the API has and this server has not: refused, rather than taken and not done."""
    for name in NOT_OFFERED:
        if read.pop(name, None):
            raise ApiError(501, "UNIMPLEMENTED", f"this server has no {name}")


def read_topic(name, body):
    read = TOPIC.read(body)
    check_name(read, name)
    return {"name": name, **read}


def read_subscription(name, body):
    read = SUBSCRIPTION.read(body)
    check_name(read, name)
    check_offered(read)
    read.pop("state", None)
    if "topic" not in read:
        raise invalid("topic is missing")
    rules.full_name("topics", read["topic"], "topic")
    return {**DEFAULTS, **read, "name": name, "state": "ACTIVE"}


def change_subscription(settings, body):
    """settings with the fields of an updateMask changed; a field that is absent is set back."""
    patch = PATCH.read(body)
    read = SUBSCRIPTION.read(patch.get("subscription") or {}, "subscription")
    check_name(read, settings["name"])
    check_offered(read)
    names = [name.strip() for name in patch.get("updateMask", "").split(",") if name.strip()]
    if not names:
        raise invalid("updateMask must be set and not be empty")
    changed = dict(settings)
    for name in names:
        if name not in SUBSCRIPTION.checks:
            raise invalid(f"updateMask: {name} is not a known Subscription field")
        name = SUBSCRIPTION.checks[name][0]
        if name in UNCHANGEABLE:
            raise invalid(f"updateMask: {name} cannot be changed")
        changed.pop(name, None)
        if name in read or name in DEFAULTS:
            changed[name] = read.get(name, DEFAULTS.get(name))
    return changed


def shown(settings):
    """As the API shows it: what is false is left out."""
    made = {name: value for name, value in settings.items() if value is not False}
    if "topic" in made:
        made.setdefault("pushConfig", {})
    return made
