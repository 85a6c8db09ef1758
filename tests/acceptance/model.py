#!/usr/bin/python3
"""model.py - what the tables must hold, derived from the published events alone.

Shares nothing with the program under test and works the other way round: it keeps every event of a
device and derives its row at the end, so the order of delivery cannot matter.

    model.py LOG                 rows and expected dead letters of an event log, one JSON line each
    model.py --self-test         the rules by example, then permutations at random

An event log is NDJSON. A line with "expect" is an event that was (or may have been) published:
    {"n": 1, "expect": "good" | errorCode, "body": text}          "b64" instead of "body" for bytes
    {"n": 1, "id": "1700000000000-0"}                             stored, under this id
errorCode "tenant-missing" stands for an unknown tenant, which ends as exhausted.
"""
import argparse
import base64
import datetime
import itertools
import json
import random
import re
import sys

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


# ---- the order rule -------------------------------------------------------------------------------

def rank(columns):
    """Absent lowest; texts bytewise, integers by value."""
    return tuple((0, b"") if c is None else (1, c.encode() if isinstance(c, str) else c)
                 for c in columns)


def settle(events):
    """The row of a device, given all its events: {group: (time, columns)}, and its last removal."""
    removed = max((e.time for e in events if e.removed), default=None)
    row = {}
    for group in GROUPS:
        values = [(e.time, rank(e.groups[group]), e.groups[group]) for e in events
                  if group in e.groups and not e.removed]
        values = [v for v in values if removed is None or v[0] > removed]
        if values:
            best = max(values, key=lambda v: v[:2])
            row[group] = (best[0], best[2])
    return row, removed


def columns_of(row):
    """As read from the table: (device_ms, 8 texts, push_ms, 2 texts, contact_ms, 2 integers)."""
    flat = []
    for group in GROUPS:
        time, values = row.get(group, (None, (None,) * WIDTH[group]))
        flat += [time, *values]
    return tuple(flat)


# ---- the whole log --------------------------------------------------------------------------------

class Truth:
    """rows: tenant -> {(app, client): columns}; tombstones: tenant -> {(app, client): ms};
    dead: entry id -> (class, code, body); good, bad: messages stored."""

    def __init__(self):
        self.events = {}
        self.dead = {}
        self.unidentified = []  # bad messages stored under an id that nobody told
        self.good = self.bad = 0
        self.rows, self.tombstones = {}, {}

    def add(self, expect, body, entry_id=None):
        if expect == "good":
            self.good += 1
            event = Event(body.decode())
            self.events.setdefault(event.key, []).append(event)
            return
        self.bad += 1
        kind = "exhausted" if expect == "tenant-missing" else "permanent"
        if entry_id is None:
            self.unidentified.append((kind, expect, body))
        else:
            self.dead[entry_id] = (kind, expect, body)

    def finish(self):
        for (tenant, app, client), events in self.events.items():
            row, removed = settle(events)
            if row:
                self.rows.setdefault(tenant, {})[app, client] = columns_of(row)
            if removed is not None:
                self.tombstones.setdefault(tenant, {})[app, client] = removed
        return self


def read_log(lines):
    """(n, expect, body, ids) of each event, in the order of the log; ids: all it is stored under."""
    events, ids = {}, {}
    for line in lines:
        entry = json.loads(line)
        if "expect" in entry:
            body = base64.b64decode(entry["b64"]) if "b64" in entry else entry["body"].encode()
            events[entry["n"]] = (entry["expect"], body)
        else:
            ids.setdefault(entry["n"], []).append(entry["id"])
    return [(n, expect, body, ids.get(n, [])) for n, (expect, body) in events.items()]


def truth_of_log(lines):
    truth = Truth()
    for _, expect, body, ids in read_log(lines):
        for entry_id in ids:
            truth.add(expect, body, entry_id)
    return truth.finish()


# ---- self-test ------------------------------------------------------------------------------------

def example(time, **members):
    body = {"customerId": 7, "applicationCode": "a", "clientId": "c", "eventTime": time}
    body.update(members)
    return Event(json.dumps(body))


def check(what, found, wanted):
    if found != wanted:
        sys.exit(f"FAIL {what}: {found}, not {wanted}")


def self_test(seed, rounds):
    old = example(10, device={"platform": "ios"}, push={"token": "t"})
    row, _ = settle([old, example(20, push=None)])
    check("push null clears with its time", row["push"], (20, (None, None)))
    check("an absent group is unchanged", row["device"][0], 10)
    check("token on ios", settle([old])[0]["push"], (10, ("t", "apns")))
    check("empty is absent", example(1, push={"token": ""}).groups["push"], (None, None))
    check("contact null unlinks", example(1, contact={"contactId": None, "contactFieldId": 3})
          .groups["contact"], (None, None))
    check("removal wins at its time", settle([old, example(10, removed=True)]), ({}, 10))
    check("what is newer stays", list(settle([old, example(15, removed=True),
                                              example(16, push=None)])[0]), ["push"])
    low, high = example(5, contact={"contactId": 9}), example(5, contact={"contactId": 10})
    check("equal times by value", settle([high, low])[0]["contact"], (5, (10, None)))
    low, high = example(5, push={"token": "z"}), example(5, push={"token": "é"})
    check("equal times bytewise", settle([high, low])[0]["push"][1][0], "é")
    check("sender's order", compact(DECODER.decode('{"b": 1e3, "a": [ null, "\\u0041\\n" ]}')),
          '{"b":1e3,"a":[null,"A\\n"]}')
    check("uuid", tenant_of("01234567-89AB-cdef-0123-456789ABCDEF"),
          "0123456789abcdef0123456789abcdef")
    check("offset, cut to ms", time_of("1970-01-01T01:00:00.0019+01:00"), 1)
    rnd = random.Random(seed)
    for _ in range(rounds):
        events = [random_event(rnd) for _ in range(rnd.randint(1, 5))]
        wanted = settle(events)
        for order in itertools.permutations(events):
            check("every order", settle(list(order) + [rnd.choice(events)]), wanted)
    print(f"PASS model self-test: {rounds} random sets in every order, seed {seed}")


def random_event(rnd):
    members = {}
    if rnd.random() < 0.2:
        members["removed"] = True
    if rnd.random() < 0.6:
        members["device"] = {"language": rnd.choice(["", "a", "b"])}
    if rnd.random() < 0.6:
        members["push"] = rnd.choice([None, {"token": None}, {"token": "t"}, {"token": "u"}])
    if rnd.random() < 0.6:
        members["contact"] = rnd.choice([None, {"contactId": 2}, {"contactId": 10}])
    return example(rnd.randint(1, 3), **members)


def main():
    parser = argparse.ArgumentParser(description="the reference model of device events")
    parser.add_argument("log", nargs="?", help="event log, NDJSON")
    parser.add_argument("--self-test", action="store_true")
    parser.add_argument("--rounds", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    if args.self_test:
        self_test(args.seed, args.rounds)
        return
    if not args.log:
        parser.error("give a log, or --self-test")
    with open(args.log, encoding="utf-8") as lines:
        truth = truth_of_log(lines)
    for tenant, rows in sorted(truth.rows.items()):
        for (app, client), columns in sorted(rows.items()):
            print(json.dumps({"tenant": tenant, "app": app, "client": client, "row": columns}))
    for entry_id, (kind, code, _) in sorted(truth.dead.items()):
        print(json.dumps({"dead": entry_id, "class": kind, "code": code}))


if __name__ == "__main__":
    main()
