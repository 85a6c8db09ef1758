#!/usr/bin/python3
"""model.py - what the tables must hold, derived from the published events alone.

Shares nothing with the program under test and works the other way round: it keeps every event of a
device, every verdict about it and every deletion of its contact, and derives its row at the end, so the
order of delivery cannot matter.

    model.py LOG                 rows and expected dead letters of an event log, one JSON line each
    model.py --self-test         the rules by example, then permutations at random: see self_test.py

An event log is NDJSON. A line with "expect" is an event that was (or may have been) published:
    {"n": 1, "expect": "good" | errorCode, "body": text}          "b64" instead of "body" for bytes;
                                                                  "topic" unless it is the writer's
    {"n": 1, "id": "1700000000000-0"}                             stored, under this id
errorCode "tenant-missing" stands for an unknown tenant, which ends as exhausted.
"""
import argparse
import base64
import datetime
import json
import re

DEVICE_FIELDS = ("platform", "applicationVersion", "deviceModel", "osVersion", "sdkVersion",
                 "language", "timezone", "pushSettings")
GROUPS = ("device", "push", "contact")
WIDTH = {"device": 8, "push": 2, "contact": 2}  # columns of a group
EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.timezone.utc)
MS = datetime.timedelta(milliseconds=1)


# ---- one event ------------------------------------------------------------------------------------

class Number(str):
    """A JSON number as it stands in the text."""


def compact(value):
    """JSON without white space; objects are lists of pairs in the sender's order."""
    if isinstance(value, Number):
        return str(value)
    if isinstance(value, Pairs):
        return "{" + ",".join(json.dumps(k, ensure_ascii=False) + ":" + compact(v)
                              for k, v in value) + "}"
    if isinstance(value, list):
        return "[" + ",".join(compact(v) for v in value) + "]"
    return json.dumps(value, ensure_ascii=False)


class Pairs(list):
    """The members of an object."""

    def get(self, key, default=None):
        return next((v for k, v in self if k == key), default)

    def has(self, key):
        return any(k == key for k, _ in self)


DECODER = json.JSONDecoder(object_pairs_hook=Pairs, parse_int=Number, parse_float=Number)


def tenant_of(value):
    text = str(value)
    digits = text.replace("-", "")
    if re.fullmatch(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}|[0-9a-fA-F]{32}", text):
        return digits.lower()
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]{0,55}", text):
        raise ValueError("no tenant: " + text)
    return text


def time_of(value):
    if isinstance(value, Number):
        return int(value)
    return (datetime.datetime.fromisoformat(value) - EPOCH) // MS


def text_of(value):
    return value if value else None  # empty is absent


def device_group(group):
    fields = [text_of(group.get(name)) for name in DEVICE_FIELDS[:-1]]
    settings = group.get("pushSettings")
    return tuple(fields) + (None if settings is None else compact(settings),)


def push_group(group, platform):
    token = text_of(group.get("token")) if group is not None else None
    if token is None:
        return (None, None)
    default = "apns" if platform == "ios" else "fcm"
    return (token, text_of(group.get("addressType")) or default)


def contact_group(group):
    contact = group.get("contactId") if group is not None else None
    if contact is None:
        return (None, None)
    field = group.get("contactFieldId")
    return (int(contact), None if field is None else int(field))


class Event:
    """key: (tenant, applicationCode, clientId); groups: name -> columns; removed: bool."""
    __slots__ = ("key", "time", "removed", "groups")

    def __init__(self, body):
        event = DECODER.decode(body)
        self.key = (tenant_of(event.get("customerId")), event.get("applicationCode"),
                    event.get("clientId"))
        self.time = time_of(event.get("eventTime"))
        self.removed = event.get("removed") is True
        self.groups = {}
        device = event.get("device")
        if device is not None:
            self.groups["device"] = device_group(device)
        if event.has("push"):
            platform = device.get("platform") if device is not None else None
            self.groups["push"] = push_group(event.get("push"), platform)
        if event.has("contact"):
            self.groups["contact"] = contact_group(event.get("contact"))


class Verdict:
    """key: (tenant, applicationCode); client, token: None when not given; status: None when it changes
    no token; time: what the token's registration must not be newer than."""
    __slots__ = ("key", "client", "token", "time", "status")

    def __init__(self, body):
        event = DECODER.decode(body)
        self.key = (tenant_of(event.get("customerId")), event.get("applicationCode"))
        self.client, self.token = text_of(event.get("clientId")), text_of(event.get("token"))
        self.time, self.status = time_of(event.get("eventTime")), event.get("status")
        answer = event.get("response")
        if answer is not None:
            provider, since = event.get("provider"), answer.get("timestamp")
            self.status = status_of(provider, answer)
            if provider == "apns" and self.status == "invalid" and since is not None:
                self.time = min(self.time, time_of(since))


# What the providers document as the end of a token: code, "" for none, and the HTTP statuses it comes
# with, 0 for none. Of SNS and FCM some codes say so only together with a text.
GONE = {
    "fcm": {"UNREGISTERED": (404, 0), "messaging/registration-token-not-registered": (404, 0),
            "messaging/invalid-registration-token": (400, 0)},
    "apns": {"BadDeviceToken": (400, 0), "Unregistered": (410, 0), "ExpiredToken": (410, 0), "": (410,)},
    "hms": {"80300007": (200, 400, 0)},
    "webpush": {"": (404, 410), "404": (404,), "102": (404,), "410": (410,), "103": (410,), "105": (410,),
                "106": (410,), "Unregistered": (410,), "ExpiredToken": (410,)},
    "sns": {"EndpointDisabled": (400, 0), "EndpointDisabledException": (400, 0)},
}
GONE_BY_TEXT = {
    ("fcm", "INVALID_ARGUMENT"): ((400, 0), "The registration token is not a valid FCM registration token"),
    ("sns", "InvalidParameter"): ((400, 0), "No endpoint found for the target arn specified"),
    ("sns", "InvalidParameterException"): ((400, 0), "No endpoint found for the target arn specified"),
    ("sns", "NotFound"): ((404, 0), "Endpoint does not exist"),
    ("sns", "NotFoundException"): ((404, 0), "Endpoint does not exist"),
}
TAKEN = {"fcm": (200,), "apns": (200,), "webpush": (200, 201, 202, 204), "sns": (200,)}


def status_of(provider, answer):
    """"valid", "invalid", or None: what is not documented to be either changes no token."""
    http, code = int(answer.get("httpStatus") or 0), str(answer.get("errorCode") or "")
    if provider == "hms" and code == "80000000" and http in (200, 0):
        return "valid"
    if not code and http in TAKEN.get(provider, ()):
        return "valid"
    if http in GONE[provider].get(code, ()):
        return "invalid"
    statuses, text = GONE_BY_TEXT.get((provider, code), ((), None))
    return "invalid" if http in statuses and text in str(answer.get("detail") or "") else None


class Deletion:
    """Of a contact."""
    __slots__ = ("tenant", "contact", "time")

    def __init__(self, body):
        event = DECODER.decode(body)
        self.tenant, self.contact = tenant_of(event.get("customerId")), int(event.get("contactId"))
        self.time = time_of(event.get("deletedAt"))


# ---- the order rule -------------------------------------------------------------------------------

def rank(columns):
    """Absent lowest; texts bytewise, integers by value."""
    return tuple((0, b"") if c is None else (1, c.encode() if isinstance(c, str) else c)
                 for c in columns)


def removals(events, deleted):
    """Times of all removals of a device: those that say so, and the deletions of a contact that it was
    linked to at or before that time."""
    for event in events:
        if event.removed:
            yield event.time
        elif "contact" in event.groups:
            at = deleted.get(event.groups["contact"][0])
            if at is not None and event.time <= at:
                yield at


def settle(events, deleted=None, verdicts=()):
    """The row of a device, given all its events, {contact: time of its deletion} and the verdicts that
    name it or its token: {group: (time, columns)}, its last removal, (status, time) of its token."""
    removed = max(removals(events, deleted or {}), default=None)
    row = {}
    for group in GROUPS:
        values = [(e.time, rank(e.groups[group]), e.groups[group]) for e in events
                  if group in e.groups and not e.removed]
        values = [v for v in values if removed is None or v[0] > removed]
        if values:
            best = max(values, key=lambda v: v[:2])
            row[group] = (best[0], best[2])
    return row, removed, judged(*row.get("push", (None, (None, None))), verdicts)


def judged(registered, columns, verdicts):
    """The last verdict about this very registration of a token; of two at one time the one for it."""
    token = columns[0]
    said = [(v.time, v.status == "valid", v.status) for v in verdicts
            if token is not None and v.status and v.token in (None, token) and v.time >= registered]
    best = max(said, default=None)
    return (best[2], best[0]) if best else (None, None)


def columns_of(row, status=(None, None)):
    """As read from the table: (device_ms, 8 texts, push_ms, 2 texts, contact_ms, 2 integers, status,
    status_ms)."""
    flat = []
    for group in GROUPS:
        time, values = row.get(group, (None, (None,) * WIDTH[group]))
        flat += [time, *values]
    return (*flat, *status)


# ---- the whole log --------------------------------------------------------------------------------

TOPICS = {"writer": Event, "push-token-status": Verdict, "web-push-token-status": Verdict,
          "contact-deletion": Deletion}


class Truth:
    """rows: tenant -> {(app, client): columns}; tombstones: tenant -> {(app, client): ms};
    contacts: tenant -> {contact: ms of its deletion}; dead: (topic, entry id) -> (class, code, body);
    good, bad: messages stored; by_topic: topic -> [good, bad]."""

    def __init__(self):
        self.events, self.verdicts = {}, {}
        self.dead = {}
        self.unidentified = []  # bad messages stored under an id that nobody told
        self.good = self.bad = 0
        self.by_topic = {topic: [0, 0] for topic in TOPICS}
        self.rows, self.tombstones, self.contacts = {}, {}, {}

    def add(self, expect, body, entry_id=None, topic="writer"):
        self.by_topic[topic][expect != "good"] += 1
        if expect == "good":
            self.good += 1
            self.keep(TOPICS[topic](body.decode()))
            return
        self.bad += 1
        kind = "exhausted" if expect == "tenant-missing" else "permanent"
        if entry_id is None:
            self.unidentified.append((kind, expect, body))
        else:
            self.dead[topic, entry_id] = (kind, expect, body)

    def keep(self, event):
        if isinstance(event, Deletion):
            times = self.contacts.setdefault(event.tenant, {})
            times[event.contact] = max(event.time, times.get(event.contact, event.time))
        elif isinstance(event, Verdict):  # by what finds it: the client, else the token
            found_by = ("token", event.token) if event.client is None else ("client", event.client)
            self.verdicts.setdefault((*event.key, *found_by), []).append(event)
        else:
            self.events.setdefault(event.key, []).append(event)

    def verdicts_of(self, key, events):
        tokens = {e.groups["push"][0] for e in events if "push" in e.groups} - {None}
        found_by = [("client", key[2]), *(("token", token) for token in tokens)]
        return [v for by in found_by
                for v in self.verdicts.get((*key[:2], *by), ())]

    def finish(self):
        for key, events in self.events.items():
            tenant, app, client = key
            row, removed, status = settle(events, self.contacts.get(tenant), self.verdicts_of(key, events))
            if row:
                self.rows.setdefault(tenant, {})[app, client] = columns_of(row, status)
            if removed is not None:
                self.tombstones.setdefault(tenant, {})[app, client] = removed
        return self


def read_log(lines):
    """(n, expect, body, ids, topic) of each event, in the order of the log; ids: all it is stored under."""
    events, ids = {}, {}
    for line in lines:
        entry = json.loads(line)
        if "expect" in entry:
            body = base64.b64decode(entry["b64"]) if "b64" in entry else entry["body"].encode()
            events[entry["n"]] = (entry["expect"], body, entry.get("topic", "writer"))
        else:
            ids.setdefault(entry["n"], []).append(entry["id"])
    return [(n, expect, body, ids.get(n, []), topic) for n, (expect, body, topic) in events.items()]


def truth_of_log(lines):
    truth = Truth()
    for _, expect, body, ids, topic in read_log(lines):
        for entry_id in ids:
            truth.add(expect, body, entry_id, topic)
    return truth.finish()


def main():
    parser = argparse.ArgumentParser(description="the reference model")
    parser.add_argument("log", nargs="?", help="event log, NDJSON")
    parser.add_argument("--self-test", action="store_true")
    parser.add_argument("--rounds", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    if args.self_test:
        import self_test
        self_test.run(args.seed, args.rounds)
        return
    if not args.log:
        parser.error("give a log, or --self-test")
    with open(args.log, encoding="utf-8") as lines:
        truth = truth_of_log(lines)
    for tenant, rows in sorted(truth.rows.items()):
        for (app, client), columns in sorted(rows.items()):
            print(json.dumps({"tenant": tenant, "app": app, "client": client, "row": columns}))
    for (topic, entry_id), (kind, code, _) in sorted(truth.dead.items()):
        print(json.dumps({"dead": entry_id, "topic": topic, "class": kind, "code": code}))


if __name__ == "__main__":
    main()
