"""The calls of Pub/Sub REST v1 and of Cloud Monitoring.

find() names the call of a request; its function takes the exchange (server.py) and gives the body
of a 200, or None when the answer comes later.
"""
import functools
import re

from google_api import shape
from google_api.errors import ApiError, error_info, invalid, not_found
from google_api.shape import Shape, boolean, int32, raw, string, strings

from . import monitoring, rules, settings
from .subscription import ID, TEXT

EMPTY = b"{}"
PULL = Shape(maxMessages=int32, returnImmediately=boolean)
PUBLISH = Shape(messages=raw)
ACKNOWLEDGE = Shape(ackIds=strings)
MODIFY = Shape(ackIds=strings, ackDeadlineSeconds=int32)
SEEK = Shape(time=shape.epoch, snapshot=string)

PATH = re.compile(r"/v1/projects/([^/]+)/(topics|subscriptions)(?:/([^/]+?))?(?::([A-Za-z]+))?"
                  r"(/subscriptions)?")
SERIES = re.compile(r"/v3/projects/([^/]+)/timeSeries")


def text(value):
    return shape.encode_json(value).encode()


# ---- topics --------------------------------------------------------------------------------------

def create_topic(exchange):
    return text(exchange.store.create_topic(exchange.resource, exchange.json()).settings)


def get_topic(exchange):
    return text(exchange.store.topic(exchange.resource).settings)


def list_topics(exchange):
    return listed(exchange, "topics", exchange.store.topics, lambda topic: topic.settings)


def delete_topic(exchange):
    exchange.store.delete_topic(exchange.resource)
    return EMPTY


def list_topic_subscriptions(exchange):
    topic = exchange.store.topic(exchange.resource)
    names, after = exchange.store.page(
        [one.settings["name"] for one in topic.subscriptions], exchange.query)
    return text(page("subscriptions", names, after))


def publish(exchange):
    topic = exchange.store.topic(exchange.resource)
    heads, key = rules.read_messages(PUBLISH.read(exchange.json()).get("messages", []))
    ids = exchange.store.publish(topic, heads, key)
    return ('{"messageIds":["' + '","'.join(ids) + '"]}').encode()


# ---- subscriptions -------------------------------------------------------------------------------

def create_subscription(exchange):
    made = exchange.store.create_subscription(exchange.resource, exchange.json())
    return text(settings.shown(made.settings))


def get_subscription(exchange):
    return text(settings.shown(exchange.store.subscription(exchange.resource).settings))


def list_subscriptions(exchange):
    return listed(exchange, "subscriptions", exchange.store.subscriptions,
                  lambda one: settings.shown(one.settings))


def patch_subscription(exchange):
    made = exchange.store.change_subscription(exchange.resource, exchange.json())
    return text(settings.shown(made.settings))


def delete_subscription(exchange):
    for waiter in exchange.store.delete_subscription(exchange.resource):
        waiter.exchange.fail(not_found("The subscription was deleted."))
    return EMPTY


def listed(exchange, field, table, show):
    prefix = f"projects/{exchange.project}/"
    names, after = exchange.store.page([name for name in table if name.startswith(prefix)],
                                       exchange.query)
    return text(page(field, [show(table[name]) for name in names], after))


def page(field, items, after):
    made = {field: items} if items else {}
    return {**made, "nextPageToken": after} if after else made


# ---- pull ----------------------------------------------------------------------------------------

class Pull:
    """A pull that waits for its subscription to answer it."""

    def __init__(self, exchange, subscription):
        self.exchange, self.subscription = exchange, subscription

    def answer(self, messages, ack_ids):
        body = received(self.subscription, messages, ack_ids) if messages else EMPTY
        fault = self.exchange.fault
        if fault and messages:
            body = fault.after_pull(self.subscription, messages, ack_ids, body)
        self.exchange.answer(200, body)


def pull(exchange):
    subscription = exchange.store.subscription(exchange.resource)
    asked = PULL.read(exchange.json())
    limit = asked.get("maxMessages", 0)
    if limit <= 0:
        raise invalid(f"max_messages is {limit}; it must be at least 1")
    limit = min(limit, exchange.options.answer_max)
    if exchange.fault:
        limit = exchange.fault.pull_limit(limit)
    hold = exchange.options.hold
    if asked.get("returnImmediately"):
        exchange.stats.deprecated["returnImmediately"] += 1
        hold = 0
    exchange.request.on_gone = subscription.pull(limit, hold, Pull(exchange, subscription))


def received(subscription, messages, ack_ids):
    if "deadLetterPolicy" in subscription.settings:
        attempts = subscription.attempts
        parts = [f'{{"ackId":"{ack_id}","message":{message[TEXT]},'
                 f'"deliveryAttempt":{attempts.get(message[ID], 0) + 1}}}'
                 for ack_id, message in zip(ack_ids, messages)]
    else:
        parts = [f'{{"ackId":"{ack_id}","message":{message[TEXT]}}}'
                 for ack_id, message in zip(ack_ids, messages)]
    return ('{"receivedMessages":[' + ",".join(parts) + "]}").encode()


# ---- what is held --------------------------------------------------------------------------------

def sorted_ids(exchange, subscription, ack_ids):
    """(held, stale); a malformed id refuses the whole request, with nothing done."""
    if len(exchange.request.body) > rules.ACK_REQUEST_BYTES_MAX:
        raise invalid("Request payload size exceeds the limit: "
                      f"{rules.ACK_REQUEST_BYTES_MAX} bytes.")
    if not ack_ids:
        raise invalid("You have not specified an ack ID in the request.")
    held, stale, malformed = subscription.sort_ids(ack_ids)
    if malformed:
        raise invalid("You have passed an invalid ack ID to the service "
                      f"(ackId={malformed[0]:.250}).")
    if exchange.fault:
        exchange.fault.check_ids(subscription, ack_ids)
    return held, stale


def check_stale(subscription, stale):
    """With exactly-once delivery who is late is told so, for each id; else not."""
    if stale and subscription.exactly_once:
        metadata = dict.fromkeys(stale, "PERMANENT_FAILURE_INVALID_ACK_ID")
        raise ApiError(400, "INVALID_ARGUMENT",
                       "Some acknowledgement ids in the request were invalid. This could be because "
                       "the acknowledgement ids have expired or the acknowledgement ids were "
                       "malformed.", [error_info("EXACTLY_ONCE_ACKID_FAILURE", metadata)])


def acknowledge(exchange):
    subscription = exchange.store.subscription(exchange.resource)
    asked = ACKNOWLEDGE.read(exchange.json())
    held, stale = sorted_ids(exchange, subscription, asked.get("ackIds"))
    if exchange.fault and exchange.fault.loses():
        return EMPTY
    subscription.acknowledge(held)
    subscription.counts.staleAcks += len(stale)
    check_stale(subscription, stale)
    return EMPTY


def modify_ack_deadline(exchange):
    subscription = exchange.store.subscription(exchange.resource)
    asked = MODIFY.read(exchange.json())
    seconds = asked.get("ackDeadlineSeconds", 0)
    if not 0 <= seconds <= settings.ACK_DEADLINE_MAX:
        raise invalid(f"ackDeadlineSeconds is {seconds}; it must be 0 to {settings.ACK_DEADLINE_MAX}")
    held, stale = sorted_ids(exchange, subscription, asked.get("ackIds"))
    if exchange.fault and exchange.fault.loses():
        return EMPTY
    if seconds:
        subscription.extend(held, seconds)
    else:
        subscription.nack(held)
    subscription.counts.staleModacks += len(stale)
    check_stale(subscription, stale)
    return EMPTY


def seek(exchange):
    subscription = exchange.store.subscription(exchange.resource)
    asked = SEEK.read(exchange.json())
    if len(asked) != 1:
        raise invalid("either time or snapshot must be given")
    if "snapshot" in asked:
        raise ApiError(501, "UNIMPLEMENTED", "this server has no snapshots")
    subscription.seek(asked["time"])
    return EMPTY


def list_time_series(exchange):
    return text(monitoring.answer(exchange.store, exchange.project, exchange.query))


# ---- which call is it ----------------------------------------------------------------------------

CALLS = { # (method, collection, has an id, verb): (name, function, query parameters)
    ("PUT", "topics", True, None): ("createTopic", create_topic, ()),
    ("GET", "topics", True, None): ("getTopic", get_topic, ()),
    ("DELETE", "topics", True, None): ("deleteTopic", delete_topic, ()),
    ("GET", "topics", False, None): ("listTopics", list_topics, ("pageSize", "pageToken")),
    ("GET", "topics", True, "/subscriptions"):
        ("listTopicSubscriptions", list_topic_subscriptions, ("pageSize", "pageToken")),
    ("POST", "topics", True, "publish"): ("publish", publish, ()),
    ("PUT", "subscriptions", True, None): ("createSubscription", create_subscription, ()),
    ("GET", "subscriptions", True, None): ("getSubscription", get_subscription, ()),
    ("PATCH", "subscriptions", True, None): ("patchSubscription", patch_subscription, ()),
    ("DELETE", "subscriptions", True, None): ("deleteSubscription", delete_subscription, ()),
    ("GET", "subscriptions", False, None):
        ("listSubscriptions", list_subscriptions, ("pageSize", "pageToken")),
    ("POST", "subscriptions", True, "pull"): ("pull", pull, ()),
    ("POST", "subscriptions", True, "acknowledge"): ("acknowledge", acknowledge, ()),
    ("POST", "subscriptions", True, "modifyAckDeadline"):
        ("modifyAckDeadline", modify_ack_deadline, ()),
    ("POST", "subscriptions", True, "seek"): ("seek", seek, ()),
}
SERIES_CALL = ("listTimeSeries", list_time_series, monitoring.QUERY)
NAMES = sorted([name for name, _, _ in CALLS.values()] + [SERIES_CALL[0]])


@functools.lru_cache(4096)
def find(method, path):
    """((name, function, query), project, resource) of a request, or None when there is no such call.
    Raises for a name that is not allowed."""
    path = shape.unquoted(path)
    found = SERIES.fullmatch(path)
    if found:
        shape.check_project(found[1])
        return (SERIES_CALL, found[1], "") if method == "GET" else None
    found = PATH.fullmatch(path)
    if not found or (found[4] and found[5]):
        return None
    project, collection, name, verb = found[1], found[2], found[3], found[4] or found[5]
    call = CALLS.get((method, collection, name is not None, verb))
    if not call:
        return None
    shape.check_project(project)
    if name is None:
        return call, project, ""
    rules.check_id(collection, name)
    return call, project, f"projects/{project}/{collection}/{name}"
