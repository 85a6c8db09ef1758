"""Cloud Monitoring: projects.timeSeries.list for the two metrics of a subscription's backlog.

The filter language as far as it is of use here: comparisons joined by AND, each
`name = "value"`, `name = one_of("a", "b")` or `name = starts_with("a")`; names metric.type (once, as
the API demands), resource.type, resource.labels.subscription_id, resource.labels.project_id. The
values are those of now, where the service lags by minutes.
"""
import re
import time

from google_api import shape
from google_api.errors import invalid

METRIC = "pubsub.googleapis.com/subscription/"
QUERY = ("filter", "interval.startTime", "interval.endTime", "view", "pageSize", "pageToken")
TEXT = r'"([^"\\]*)"'
COMPARISON = re.compile(r"\s*([a-z_.]+)\s*=\s*(?:" + TEXT + r"|one_of\(([^()]*)\)|starts_with\(\s*"
                        + TEXT + r"\s*\))\s*(?:AND(?=\s)|$)")
NAMES = {"metric.type": "metric", "resource.type": "kind",
         "resource.labels.subscription_id": "subscription",
         "resource.label.subscription_id": "subscription",
         "resource.labels.project_id": "project", "resource.label.project_id": "project"}


def undelivered(subscription, _):
    return len(subscription.backlog)


def oldest_age(subscription, now):
    oldest = subscription.oldest()
    return int(max(0, now - oldest)) if oldest is not None else 0


METRICS = {METRIC + "num_undelivered_messages": undelivered,
           METRIC + "oldest_unacked_message_age": oldest_age}


def read_filter(text):
    """{name of NAMES: predicate}"""
    tests, at = {}, 0
    while at < len(text) or not tests:
        found = COMPARISON.match(text, at)
        if not found or found[1] not in NAMES or NAMES[found[1]] in tests:
            raise invalid(f"The provided filter is not valid at: {text[at:at + 60]!r}")
        _, exact, several, start = found.groups()
        if several is not None:
            tests[NAMES[found[1]]] = set(re.findall(TEXT, several)).__contains__
        elif start is not None:
            tests[NAMES[found[1]]] = lambda value, start=start: value.startswith(start)
        else:
            tests[NAMES[found[1]]] = exact.__eq__
        at = found.end()
    return tests


def read_interval(query):
    for name in ("filter", "interval.startTime", "interval.endTime"):
        if not query.get(name):
            raise invalid(f"Field {name} had an invalid value: it is required.")
    start, end = (shape.epoch(query[name], name)
                  for name in ("interval.startTime", "interval.endTime"))
    if start >= end:
        raise invalid("interval.startTime must be before interval.endTime")
    return start, end


def answer(store, project, query):
    _, end = read_interval(query)
    tests = read_filter(query["filter"])
    types = [name for name in METRICS if "metric" in tests and tests["metric"](name)]
    if len(types) != 1:
        raise invalid("The provided filter must specify a single metric type of: " + ", ".join(METRICS))
    if query.get("view", "FULL") not in ("FULL", "HEADERS"):
        raise invalid("view is FULL or HEADERS")
    now = time.time()
    series = [one(types[0], subscription, now, end) for subscription in store.subscriptions.values()
              if chosen(subscription, project, tests)]
    return {"timeSeries": series, "unit": "1"} if series else {}


def chosen(subscription, project, tests):
    _, owner, _, name = subscription.settings["name"].split("/")
    facts = {"kind": "pubsub_subscription", "project": owner, "subscription": name}
    return owner == project and all(test(facts[key]) for key, test in tests.items()
                                    if key != "metric")


def one(metric, subscription, now, end):
    _, project, _, name = subscription.settings["name"].split("/")
    moment = shape.timestamp(min(now, end), 6)
    return {"metric": {"type": metric},
            "resource": {"type": "pubsub_subscription",
                         "labels": {"project_id": project, "subscription_id": name}},
            "metricKind": "GAUGE", "valueType": "INT64",
            "points": [{"interval": {"startTime": moment, "endTime": moment},
                        "value": {"int64Value": str(METRICS[metric](subscription, now))}}]}
