"""mixture.py - device events with the verdicts and contact deletions that belong to them; orders of these.

What events.md calls ambiguous is left out, so that one final state is right:
- a contact is deleted only if its devices never had another one, nor were unlinked; the time of its
  deletion parts no device's links, and no removal of a device lies between its last link and it. So each
  device is removed by it, or is none of its business, whatever comes first. One time for each contact.
- a token belongs to one device. A verdict is sent after the registration of its token was applied (the
  newest one that is not newer than the verdict; without a token, the device's): nobody can read it earlier.
"""
import json
import random

import generator

PUSH, WEB_PUSH, CONTACTS, DEVICES = "push-token-status", "web-push-token-status", "contact-deletion", "writer"
NOBODY = 9_000_000  # contacts from here on are nobody's


class Item:
    """after: numbers of the items that must have been applied before this one is sent."""
    __slots__ = ("number", "topic", "expect", "body", "after")

    def __init__(self, number, topic, expect, body, after=()):
        self.number, self.topic, self.expect, self.body, self.after = number, topic, expect, body, after


class History:
    """What good events said of one device: pushes [(number, ms, token)], links [(ms, contact)], removals."""

    def __init__(self):
        self.pushes, self.links, self.removals = [], [], []

    def add(self, number, ms, event):
        if event.get("removed"):
            self.removals.append(ms)
            return
        if "push" in event:
            self.pushes.append((number, ms, (event["push"] or {}).get("token") or None))
        if "contact" in event:
            self.links.append((ms, (event["contact"] or {}).get("contactId")))


# ---- what may be sent -----------------------------------------------------------------------------

def registrations(history, ms, token):
    """Numbers of the events a verdict of that time has to wait for."""
    there = [(at, number) for number, at, held in history.pushes if at <= ms and token in (None, held)]
    newest = max((at for at, _ in there), default=None)
    return {number for at, number in there if at == newest}


def may_be_deleted(contact, histories):
    """histories: of all devices that were ever linked to the contact."""
    return all(held == contact for history in histories for _, held in history.links)


def parts_nothing(ms, histories):
    """Is a deletion at that time the same for a device whatever comes first?"""
    for history in histories:
        times = [at for at, _ in history.links]
        first, last = min(times), max(times)
        removed = max(history.removals, default=None)
        if first <= ms < last or (last <= ms and removed is not None and last <= removed < ms):
            return False
    return True


# ---- verdicts -------------------------------------------------------------------------------------

TAKEN = [("fcm", 200, None, None), ("apns", 200, "", None), ("hms", 200, "80000000", None),
         ("hms", None, 80000000, "Success"), ("webpush", 201, None, None), ("webpush", 200, None, ""),
         ("sns", 200, None, None)]
ENDED = [("fcm", 404, "UNREGISTERED", "Requested entity was not found."), ("fcm", None, "UNREGISTERED", None),
         ("fcm", 400, "INVALID_ARGUMENT", "The registration token is not a valid FCM registration token"),
         ("fcm", 404, "messaging/registration-token-not-registered", None),
         ("apns", 410, "Unregistered", None), ("apns", 400, "BadDeviceToken", ""), ("apns", 410, None, None),
         ("apns", 410, "ExpiredToken", None), ("hms", 200, "80300007", "All tokens are invalid"),
         ("webpush", 410, None, None), ("webpush", 404, 102, None), ("webpush", 410, "106", None),
         ("sns", 400, "EndpointDisabled", "Endpoint is disabled"), ("sns", 400, "EndpointDisabledException", None),
         ("sns", 400, "InvalidParameter", "Invalid parameter: TargetArn Reason: No endpoint found for the target "
          "arn specified"), ("sns", 404, "NotFound", "Endpoint does not exist")]
NEITHER = [("fcm", 400, "INVALID_ARGUMENT", "Invalid JSON payload"), ("fcm", 403, "SENDER_ID_MISMATCH", None),
           ("fcm", 401, "THIRD_PARTY_AUTH_ERROR", None), ("fcm", 429, "QUOTA_EXCEEDED", None),
           ("fcm", 503, "UNAVAILABLE", None), ("fcm", 500, "INTERNAL", None), ("fcm", 404, None, None),
           ("fcm", 404, "SOMETHING_NEW", None), ("fcm", 200, "UNREGISTERED", None), ("fcm", 200, "X", None),
           ("apns", 403, "ExpiredProviderToken", None), ("apns", 400, "DeviceTokenNotForTopic", None),
           ("apns", 429, "TooManyRequests", None), ("apns", 503, "Shutdown", None), ("apns", 410, "New", None),
           ("apns", 400, "unregistered", None), ("apns", 299, None, None),
           ("hms", 200, None, None), ("hms", 200, "80300007x", None), ("hms", 200, "80100000", "partly"),
           ("hms", 503, None, None), ("hms", 500, "81000001", None), ("hms", 404, "80300007", None),
           ("webpush", 413, None, None), ("webpush", 429, None, None), ("webpush", 503, 201, None),
           ("webpush", 403, "BadJwtToken", None), ("webpush", 410, "404", None), ("webpush", 404, "999", None),
           ("sns", 400, "Throttled", None), ("sns", 400, "InvalidParameter", "Invalid parameter: Message too long"),
           ("sns", 404, "NotFound", "Topic does not exist"), ("sns", 500, "InternalError", None),
           ("sns", 400, "PlatformApplicationDisabled", None), ("sns", 418, "Teapot", None)]


class Verdicts:
    """gone: share of verdicts that end a token."""

    def __init__(self, rnd, traffic, histories, gone):
        self.random, self.traffic, self.histories, self.gone = rnd, traffic, histories, gone
        self.pushes = [(key, push) for key, history in histories.items() for push in history.pushes
                       if push[2] is not None]
        self.names = {canonical: said for said, canonical in traffic.tenants}

    def said(self):
        form = self.random.random()
        if form < self.gone:
            return ENDED
        return NEITHER if form < self.gone + 0.2 else TAKEN

    def judged(self):
        """The members that say so; the sender judged."""
        rnd = self.random
        members = {"status": "invalid" if rnd.random() < self.gone else "valid"}
        if rnd.random() < 0.3:
            members["provider"] = rnd.choice(("fcm", "apns", "hms", "webpush", "sns", None))
        if rnd.random() < 0.4:
            members["reason"] = rnd.choice(("UNREGISTERED", "", None, "bounced: ü"))
        return members

    def answered(self, ms):
        """The members, and a time beside the event's that may count."""
        rnd, since = self.random, None
        provider, http, code, detail = rnd.choice(self.said())
        answer = {"httpStatus": http, "errorCode": code, "detail": detail, "timestamp": None}
        if provider == "apns" and rnd.random() < 0.5:
            since = ms - rnd.randint(-1000, 30000)
            answer["timestamp"] = self.traffic.time_text(since)
        for name in ("httpStatus", "errorCode", "detail", "timestamp"):
            if answer[name] is None and rnd.random() < 0.5:
                del answer[name]
        return {"provider": provider, "response": answer}, since

    def next(self, number):
        rnd = self.random
        key, (_, registered, token) = rnd.choice(self.pushes)
        canonical, app, client = key
        ms = registered + rnd.choice((0, 0, 1, -1, rnd.randint(-20000, 60000), rnd.randint(0, 60000),
                                      rnd.randint(0, 60000)))
        members, since = self.answered(ms) if rnd.random() < 0.6 else (self.judged(), None)
        address = rnd.choice(("client", "token", "token", "both", "both", "both"))
        form = rnd.random()
        if form < 0.02:
            token = f"nobody-{rnd.getrandbits(64):016x}"
        elif form < 0.03:
            client = f"nobody-{rnd.getrandbits(32):08x}"
        event = {"customerId": self.names[canonical], "applicationCode": app, "eventTime": self.traffic.time_text(ms), **members}
        if address != "token":
            event["clientId"] = client
        if address != "client":
            event["token"] = token
        after = set()
        for at in (ms, since):
            if at is not None:
                after |= registrations(self.histories[key], at, None if address == "client" else token)
        web = members.get("provider") == "webpush" or rnd.random() < 0.05
        return Item(number, WEB_PUSH if web else PUSH, "good", self.traffic.dump(event), tuple(after))

    def bad(self, number):
        rnd = self.random
        device = self.traffic.stranger()
        event = {"customerId": device["customerId"], "applicationCode": device["applicationCode"],
                 "clientId": device["clientId"], "token": f"bad-{rnd.getrandbits(64):016x}",
                 "eventTime": device["eventTime"], "status": "invalid"}
        answer = {"provider": "fcm", "response": {"httpStatus": 404, "errorCode": "UNREGISTERED"}}
        unjudged = {k: v for k, v in event.items() if k != "status"}
        unaddressed = {k: v for k, v in event.items() if k not in ("clientId", "token")}
        expect, event = rnd.choice((
            ("malformed", {**event, "status": "gone"}), ("malformed", {**event, **answer}),
            ("malformed", unjudged), ("malformed", unaddressed), ("malformed", {**event, "provider": "adm"}),
            ("malformed", {**unjudged, "response": answer["response"]}),
            ("malformed", {**unjudged, **answer, "response": {"httpStatus": 99}}),
            ("malformed", {**event, "token": 7}), ("too-large", {**event, "token": "t" * 4097}),
            ("bad-time", {**event, "eventTime": int(self.traffic.clock) + 3 * generator.DAY_MS}),
            ("invalid-tenant", {**event, "customerId": "a b"})))
        return Item(number, rnd.choice((PUSH, WEB_PUSH)), expect, self.traffic.dump(event))


# ---- contact deletions ----------------------------------------------------------------------------

class Deletions:
    """next() gives each contact once; None when there are no more."""

    def __init__(self, rnd, traffic, histories):
        self.random, self.traffic = rnd, traffic
        linked = {}
        for key, history in histories.items():
            for contact in {contact for _, contact in history.links} - {None}:
                if generator.LOYAL <= contact < NOBODY:  # bad bodies name none of their devices
                    linked.setdefault((key[0], contact), []).append(history)
        self.candidates = [(tenant, contact, found) for (tenant, contact), found in sorted(
            linked.items(), key=lambda item: item[0]) if may_be_deleted(contact, found)]
        rnd.shuffle(self.candidates)
        self.nobody = NOBODY
        self.names = {canonical: said for said, canonical in traffic.tenants}

    def time_for(self, histories):
        rnd = self.random
        times = [ms for history in histories for ms, _ in history.links]
        for _ in range(8):
            ms = max(times) + rnd.randint(0, 20000) if rnd.random() < 0.8 else rnd.randint(min(times) - 5, max(times))
            if parts_nothing(ms, histories):
                return ms
        return None

    def next(self, number):
        rnd = self.random
        if rnd.random() < 0.2:  # of a contact that nobody has, or of one that never was
            self.nobody += 1
            return self.item(number, rnd.choice(self.traffic.tenants)[1], self.nobody, int(self.traffic.clock))
        while self.candidates:
            tenant, contact, histories = self.candidates.pop()
            ms = self.time_for(histories)
            if ms is not None:
                return self.item(number, tenant, contact, ms)
        return None

    def item(self, number, tenant, contact, ms):
        event = {"customerId": self.names[tenant], "contactId": contact, "deletedAt": self.traffic.time_text(ms)}
        if self.random.random() < 0.1:
            event["requestedBy"] = [{"deletedAt": 1}]
        return Item(number, CONTACTS, "good", self.traffic.dump(event))

    def bad(self, number):
        rnd = self.random
        self.nobody += 1
        event = {"customerId": rnd.choice(self.traffic.tenants)[0], "contactId": self.nobody,
                 "deletedAt": int(self.traffic.clock)}
        expect, event = rnd.choice((
            ("malformed", {**event, "contactId": "x"}), ("malformed", {**event, "contactId": True}),
            ("malformed", {k: v for k, v in event.items() if k != "contactId"}),
            ("malformed", {k: v for k, v in event.items() if k != "deletedAt"}),
            ("malformed", {k: v for k, v in event.items() if k != "customerId"}),
            ("bad-time", {**event, "deletedAt": event["deletedAt"] + 3 * generator.DAY_MS}),
            ("bad-time", {**event, "deletedAt": "soon"}), ("invalid-tenant", {**event, "customerId": "-"})))
        return Item(number, CONTACTS, expect, json.dumps(event).encode())


# ---- the whole ------------------------------------------------------------------------------------

def make(traffic, seed, devices, verdicts=0, deletions=0, bad=0.01, gone=0.15):
    """So many items of each kind, in the order they were made; fewer deletions when there are no more
    contacts."""
    rnd, histories = random.Random(seed), {}
    items = []
    for number in range(devices):
        expect, body = traffic.next()
        items.append(Item(number, DEVICES, expect, body))
        if expect == "good":
            key, ms, event = traffic.made
            histories.setdefault(key, History()).add(number, ms, event)
    for count, maker in ((verdicts, Verdicts(rnd, traffic, histories, gone)),
                         (deletions, Deletions(rnd, traffic, histories))):
        for _ in range(count):
            item = maker.bad(len(items)) if rnd.random() < bad else maker.next(len(items))
            if item is None:
                break
            items.append(item)
    return items


def repeats(items, seed, count):
    """What is sent a second time, or a third."""
    rnd = random.Random(seed)
    return [items[rnd.randrange(len(items))] for _ in range(count)]


def in_order(items, repeated, seed, window=None):
    """The items as they are sent, with the repeated ones. window: how far from the order they were made
    in; None: any order at all."""
    rnd = random.Random(seed)
    devices = sum(item.topic == DEVICES for item in items)
    placed = [(item.number if item.number < devices else rnd.uniform(max(item.after, default=0), devices), item)
              for item in items]
    where = {item.number: at for at, item in placed}
    for item in repeated:
        placed.append((where[item.number] + (rnd.expovariate(1 / window) if window else 0), item))
    placed.sort(key=lambda found: found[0])
    order = [item for _, item in placed]
    window = window or len(order)
    for start in range(0, len(order), window):
        part = order[start:start + window]
        rnd.shuffle(part)
        order[start:start + window] = part
    return order


def in_phases(order, count):
    """The order cut in so many parts, and one more. What has to wait for another item is put off to a
    part after that item's first."""
    size = max(1, -(-len(order) // count))
    first, phases = {}, [[] for _ in range(count + 1)]
    for at, item in enumerate(order):
        first.setdefault(item.number, at // size)
    for at, item in enumerate(order):
        earliest = max((first[number] + 1 for number in item.after), default=0)
        phases[max(at // size, earliest)].append(item)
    return [phase for phase in phases if phase]
