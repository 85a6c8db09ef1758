"""self_test.py - is the model right? The rules by example, sets of events in every order, and the model
against a second one that does what the rules say to one message after the other, as they arrive, in
random orders of what mixture.py would send.
"""
import itertools
import json
import random
import sys

import mixture
import model
from model import compact, settle


def example(time, **members):
    body = {"customerId": 7, "applicationCode": "a", "clientId": "c", "eventTime": time, **members}
    return model.Event(json.dumps(body))


def verdict(time, **members):
    return model.Verdict(json.dumps({"customerId": 7, "applicationCode": "a", "eventTime": time, **members}))


def check(what, found, wanted):
    if found != wanted:
        sys.exit(f"FAIL {what}: {found}, not {wanted}")


# ---- by example -----------------------------------------------------------------------------------

def events_by_example():
    old = example(10, device={"platform": "ios"}, push={"token": "t"})
    row = settle([old, example(20, push=None)])[0]
    check("push null clears with its time", row["push"], (20, (None, None)))
    check("an absent group is unchanged", row["device"][0], 10)
    check("token on ios", settle([old])[0]["push"], (10, ("t", "apns")))
    check("empty is absent", example(1, push={"token": ""}).groups["push"], (None, None))
    check("contact null unlinks", example(1, contact={"contactId": None, "contactFieldId": 3})
          .groups["contact"], (None, None))
    check("removal wins at its time", settle([old, example(10, removed=True)])[:2], ({}, 10))
    check("what is newer stays", list(settle([old, example(15, removed=True),
                                              example(16, push=None)])[0]), ["push"])
    low, high = example(5, contact={"contactId": 9}), example(5, contact={"contactId": 10})
    check("equal times by value", settle([high, low])[0]["contact"], (5, (10, None)))
    low, high = example(5, push={"token": "z"}), example(5, push={"token": "é"})
    check("equal times bytewise", settle([high, low])[0]["push"][1][0], "é")
    check("sender's order", compact(model.DECODER.decode('{"b": 1e3, "a": [ null, "\\u0041\\n" ]}')),
          '{"b":1e3,"a":[null,"A\\n"]}')
    check("uuid", model.tenant_of("01234567-89AB-cdef-0123-456789ABCDEF"),
          "0123456789abcdef0123456789abcdef")
    check("offset, cut to ms", model.time_of("1970-01-01T01:00:00.0019+01:00"), 1)


def deletions_by_example():
    old = example(10, device={}, contact={"contactId": 9})
    check("a deletion removes what was linked before", settle([old], {9: 10})[:2], ({}, 10))
    check("at the time of the deletion", settle([old, example(15, push=None)], {9: 20})[:2], ({}, 20))
    row, removed, _ = settle([old, example(25, device={})], {9: 20})
    check("what is newer than the deletion stays", (list(row), removed), (["device"], 20))
    check("a newer link is a new one", settle([old], {9: 9})[1], None)
    check("of another contact", settle([old], {8: 20})[1], None)


def verdicts_by_example():
    old = example(10, push={"token": "t"})

    def status(*verdicts, events=(old,)):
        return settle(list(events), {}, [verdict(at, **members) for at, members in verdicts])[2]
    good, bad = {"clientId": "c", "status": "valid"}, {"clientId": "c", "status": "invalid"}
    check("a verdict counts from the registration on", status((10, bad)), ("invalid", 10))
    check("an older one does not", status((9, bad)), (None, None))
    check("the last one counts", status((12, bad), (11, good)), ("invalid", 12))
    check("valid wins at one time", status((12, bad), (12, good)), ("valid", 12))
    check("of another token", status((12, {**bad, "token": "u"})), (None, None))
    check("of this very token", status((12, {**bad, "token": "t"})), ("invalid", 12))
    check("a token that is gone has no status", status((12, bad), events=[old, example(11, push=None)]),
          (None, None))
    check("a new registration has none yet", status((12, bad), events=[old, example(13, push={"token": "t"})]),
          (None, None))
    answer = {"clientId": "c", "provider": "apns", "response": {
        "httpStatus": 410, "errorCode": "Unregistered", "timestamp": 11}}
    check("APNs tells since when", status((20, answer)), ("invalid", 11))
    check("since before the registration", status((20, answer), events=[example(12, push={"token": "t"})]),
          (None, None))
    for group, wanted in ((mixture.TAKEN, "valid"), (mixture.ENDED, "invalid"), (mixture.NEITHER, None)):
        for provider, http, code, detail in group:
            found = model.status_of(provider, {"httpStatus": http, "errorCode": code, "detail": detail})
            check(f"{provider} {http} {code}", found, wanted)


# ---- as they arrive -------------------------------------------------------------------------------

class Arrival:
    """The rules, done to one message after the other. strict: a late link to a deleted contact counts
    only if the row would take it; the rule can be read either way."""

    def __init__(self, strict):
        self.strict = strict
        self.rows, self.tombstones, self.deleted = {}, {}, {}

    def take(self, message):
        kind = {model.Event: self.event, model.Verdict: self.verdict, model.Deletion: self.deletion}
        kind[type(message)](message)

    def remove(self, key, at):
        at = self.tombstones[key] = max(at, self.tombstones.get(key, at))
        row = {name: value for name, value in self.rows.get(key, {}).items()
               if value[0] > at and (name != "status" or self.rows[key]["push"][0] > at)}
        self.rows[key] = row

    def newer(self, key, group, event):
        has = self.rows.get(key, {}).get(group)
        value = (event.time, model.rank(event.groups[group]))
        return event.time > self.tombstones.get(key, -1) and (
            has is None or value > (has[0], model.rank(has[1])))

    def event(self, event):
        contact = event.groups.get("contact", (None,))[0]
        late = contact is not None and not event.removed and self.deleted.get(contact, -1) >= event.time
        if event.removed:
            self.remove(event.key, event.time)
        elif late and (not self.strict or self.newer(event.key, "contact", event)):
            self.remove(event.key, self.deleted[contact])
        else:
            for group in event.groups:
                if self.newer(event.key, group, event) and not (late and group == "contact"):
                    self.set(event.key, group, event)

    def set(self, key, group, event):
        row = self.rows.setdefault(key, {})
        status, held = row.get("status"), row.get("push", (0, (None,)))[1][0]
        if group == "push" and status and not (status[0] >= event.time and held == event.groups["push"][0]):
            del row["status"]
        row[group] = (event.time, event.groups[group])

    def deletion(self, deletion):
        contact = deletion.contact
        at = self.deleted[contact] = max(deletion.time, self.deleted.get(contact, deletion.time))
        for key, row in list(self.rows.items()):
            if "contact" in row and row["contact"][1][0] == contact and row["contact"][0] <= at:
                self.remove(key, at)

    def verdict(self, verdict):
        for (_, app, client), row in self.rows.items():
            registered, (token, _) = row.get("push", (None, (None, None)))
            if (app == verdict.key[1] and verdict.client in (None, client) and token is not None and
                    verdict.token in (None, token) and verdict.time >= registered and verdict.status):
                said = (verdict.time, verdict.status == "valid", verdict.status)
                row["status"] = max(said, row.get("status", said))

    def state(self):
        rows = {}
        for key, row in self.rows.items():
            groups = {group: value for group, value in row.items() if group != "status"}
            status = row.get("status")
            if groups:
                rows[key[1:]] = model.columns_of(groups, (status[2], status[0]) if status else (None, None))
        return rows, {key[1:]: at for key, at in self.tombstones.items()}


def random_device(rnd, client):
    """Members of some events; of a client that has one contact for life, or of one that changes it."""
    loyal = rnd.random() < 0.6
    for _ in range(rnd.randint(1, 4)):
        members = {"clientId": client}
        if rnd.random() < 0.15:
            members["removed"] = True
        if rnd.random() < 0.5:
            members["device"] = {"language": rnd.choice(["", "a", "b"])}
        if rnd.random() < 0.7:
            members["push"] = rnd.choice([None, *({"token": f"{client}{n}"} for n in (1, 1, 2, 2, 3))])
        if rnd.random() < 0.6:
            members["contact"] = {"contactId": 9} if loyal else rnd.choice([None, {"contactId": 2}, {"contactId": 9}])
        yield rnd.randint(1, 6), members


def random_set(rnd):
    """[(message, numbers of those before it)], as mixture.py would make it."""
    messages, histories = [], {"c": mixture.History(), "d": mixture.History()}
    for client, history in histories.items():
        for ms, members in random_device(rnd, client):
            history.add(len(messages), ms, members)
            messages.append((example(ms, **members), ()))
    linked = [h for h in histories.values() if any(contact == 9 for _, contact in h.links)]
    at = rnd.randint(1, 8)
    if linked and mixture.may_be_deleted(9, linked) and mixture.parts_nothing(at, linked):
        body = json.dumps({"customerId": 7, "contactId": 9, "deletedAt": at})
        messages.append((model.Deletion(body), ()))
    for _ in range(rnd.randint(0, 3)):
        client, at = rnd.choice("cd"), rnd.randint(1, 8)
        token = rnd.choice((None, f"{client}1", f"{client}2"))
        members = {"status": rnd.choice(("valid", "invalid"))}
        if token is None or rnd.random() < 0.5:
            members["clientId"] = client
        if token is not None:
            members["token"] = token
        messages.append((verdict(at, **members), mixture.registrations(histories[client], at, token)))
    return messages


def random_order(rnd, messages):
    """Numbers, some twice, each after those it waits for."""
    left, order = list(range(len(messages))), []
    while left:
        number = rnd.choice([n for n in left if not set(messages[n][1]) & set(left)])
        left.remove(number)
        order.append(number)
        if rnd.random() < 0.2:
            order.append(rnd.choice(order))
    return order


def as_they_arrive(rnd, rounds, orders=12):
    kinds = {"judged": 0, "deleted": 0}
    for _ in range(rounds):
        messages = random_set(rnd)
        truth = model.Truth()
        for message, _ in messages:
            truth.keep(message)
        truth.finish()
        wanted = (truth.rows.get("7", {}), truth.tombstones.get("7", {}))
        kinds["judged"] += any(row[-1] is not None for row in wanted[0].values())
        kinds["deleted"] += any(at in truth.contacts.get("7", {}).values() for at in wanted[1].values())
        for number in range(orders):
            order = random_order(rnd, messages)
            arrival = Arrival(number % 2 == 0)
            for n in order:
                arrival.take(messages[n][0])
            check(f"as they arrive {order}", arrival.state(), wanted)
    check("sets with a judged token, and with a device of a deleted contact", min(kinds.values()) > rounds // 20, True)


# ---- all of it ------------------------------------------------------------------------------------

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


def in_every_order(rnd, rounds):
    for _ in range(rounds):
        events = [random_event(rnd) for _ in range(rnd.randint(1, 5))]
        wanted = settle(events)
        for order in itertools.permutations(events):
            check("every order", settle(list(order) + [rnd.choice(events)]), wanted)


def run(seed, rounds):
    rnd = random.Random(seed)
    events_by_example()
    deletions_by_example()
    verdicts_by_example()
    in_every_order(rnd, rounds)
    as_they_arrive(rnd, rounds)
    print(f"PASS model self-test: {rounds} random sets in every order, {rounds} mixed ones as they arrive, seed {seed}")
