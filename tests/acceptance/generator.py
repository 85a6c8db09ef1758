"""generator.py - device events of many tenants from a seed, good and bad; knows no rule of the service.

Traffic(seed, ...).next() gives (expect, body): "good", the errorCode a bad body must get, or
"tenant-missing". The same arguments and clock give the same events. Verdicts and contact deletions are
made from these: see mixture.py.
"""
import bisect
import datetime
import itertools
import json
import random

EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.timezone.utc)
CET = datetime.timezone(datetime.timedelta(hours=1))
DAY_MS = 24 * 3600 * 1000
LOYAL = 1_000_000  # contacts from here on are those of loyal devices
TEXTS = ("", "1.0", "3.2.1", "Pixel 8", "iPhone15,2", "äöü ß", "日本語", "😀", "a\tb\n\"c\"\\", "'; --")


def tenant_names(count, start=0):
    """Ids in every form: (what a body says, the canonical id)."""
    names = []
    for i in range(start, start + count):
        form = i % 5
        if form < 2:
            names.append((218524000 + i, str(218524000 + i)))
        elif form == 2:
            names.append((f"Acme-{i}_x", f"Acme-{i}_x"))
        elif form == 3:
            digits = f"{i:08x}0a1b4c2d8e3fABCDEF012345"
            dashed = "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))
            names.append((dashed, digits.lower()))
        else:
            names.append((str(9000 + i), str(9000 + i)))
    return names


class Traffic:
    """bad, unknown: shares; base_ms: time of the first event; step_ms: time from one to the next, on
    average; devices: of the largest tenant; loyal: of ten devices, how many have one contact for life;
    again: share of push groups that hold the device's last token; made: the last good event."""

    def __init__(self, seed, tenants, base_ms, unknown=(), bad=0.01, unknown_share=0.01, devices=400,
                 step_ms=0.5, removed=0.015, late_ms=10000, skew=0.7, loyal=0, again=0):
        self.random = random.Random(seed)
        self.tenants, self.unknown = list(tenants), list(unknown)
        self.bad, self.unknown_share = bad, unknown_share if unknown else 0
        self.clock, self.step, self.late_ms, self.removed = float(base_ms), step_ms, late_ms, removed
        self.devices, self.last = devices, {}
        self.skew, self.loyal, self.again = skew, loyal, again
        self.made, self.tokens = None, {}
        self.weigh()
        self.kinds = {}  # how many of each bad kind

    def weigh(self):
        weights = [1 / (i + 1) ** self.skew for i in range(len(self.tenants))]
        self.cumulative = list(itertools.accumulate(weights))

    def add_tenant(self, name):
        self.tenants.append(name)
        self.weigh()

    def tenant_index(self):
        at = self.random.random() * self.cumulative[-1]
        return min(bisect.bisect(self.cumulative, at), len(self.tenants) - 1)

    # ---- parts of an event

    def time_text(self, ms):
        form = self.random.random()
        if form < 0.4:
            return ms
        moment = EPOCH + datetime.timedelta(milliseconds=ms)
        if form < 0.8:
            return moment.strftime("%Y-%m-%dT%H:%M:%S.") + f"{ms % 1000:03d}Z"
        if form < 0.9:  # beyond milliseconds: cut
            return moment.strftime("%Y-%m-%dT%H:%M:%S.") + f"{ms % 1000:03d}999Z"
        return moment.astimezone(CET).strftime("%Y-%m-%dT%H:%M:%S.") + f"{ms % 1000:03d}+01:00"

    def device(self, mark):
        rnd = self.random
        if rnd.random() < 0.03:
            return {}
        group = {"platform": rnd.choice(("android", "android", "ios", "web", ""))}
        for name in ("applicationVersion", "osVersion", "sdkVersion", "language", "timezone"):
            if rnd.random() < 0.7:
                group[name] = rnd.choice(TEXTS)
        group["deviceModel"] = mark
        if rnd.random() < 0.5:
            members = [("areNotificationsEnabled", rnd.random() < 0.5), ("importance", rnd.randint(-1000, 5)),
                       ("channels", [{"id": rnd.choice(TEXTS), "x": None}, 1.5]), ("", {})]
            rnd.shuffle(members)
            group["pushSettings"] = dict(members[:rnd.randint(0, 4)])
        return group

    def token(self, key, mark):
        """A new one, or the last one again."""
        rnd = self.random
        if self.again and key in self.tokens and rnd.random() < self.again:
            return self.tokens[key]
        self.tokens[key] = f"{mark}-{rnd.getrandbits(64):016x}"
        return self.tokens[key]

    def push(self, key, mark):
        rnd = self.random
        form = rnd.random()
        if form < 0.05:
            return None
        if form < 0.15:
            return rnd.choice(({"token": None}, {"token": ""}, {}, {"addressType": "hms"}))
        group = {"token": self.token(key, mark)}
        if rnd.random() < 0.5:
            group["addressType"] = rnd.choice(("fcm", "fcm-fid", "apns", "apns-sandbox", "hms", "webpush"))
        return group

    def contact(self, number):
        rnd = self.random
        if number % 10 < self.loyal:
            return {"contactId": LOYAL + number // 4, "contactFieldId": rnd.randint(1, 3)}
        form = rnd.random()
        if form < 0.05:
            return None
        if form < 0.1:
            return rnd.choice(({"contactId": None, "contactFieldId": 3}, {}))
        group = {"contactId": rnd.choice((rnd.randint(1, 20), rnd.randint(-2 ** 63, 2 ** 63 - 1)))}
        if rnd.random() < 0.7:
            group["contactFieldId"] = rnd.randint(-3, 11)
        return group

    def event_time(self, key):
        self.clock += self.random.random() * 2 * self.step
        ms = int(self.clock)
        form = self.random.random()
        if form < 0.05 and key in self.last:  # a tie
            return self.last[key]
        if form < 0.10:
            ms -= self.random.randint(1, self.late_ms)
        self.last[key] = ms
        return ms

    def good(self, index=None, known=True):
        rnd = self.random
        pool = self.tenants if known else self.unknown
        if index is None:
            index = self.tenant_index() if known else rnd.randrange(len(pool))
        said, canonical = pool[index]
        number = int(self.devices / (index + 1) ** self.skew * rnd.random())
        app, client = f"EMS{number % 3}", f"{canonical}/{number}"
        if rnd.random() < 0.01:
            client = "ключ\u0001'\"" + client
        key = (canonical, app, client)
        ms = self.event_time(key)
        mark = f"{canonical}:{number}:{rnd.getrandbits(32):08x}"
        event = {"customerId": said, "applicationCode": app, "clientId": client,
                 "eventTime": self.time_text(ms)}
        if rnd.random() < self.removed:
            event["removed"] = True
        groups = rnd.choice((1, 1, 2, 3, 4, 5, 6, 7, 7, 7))
        if groups & 1:
            event["device"] = self.device(mark)
        if groups & 2:
            event["push"] = self.push(key, mark)
        if groups & 4:
            event["contact"] = self.contact(number)
        if rnd.random() < 0.02:
            event["unknown"] = {"customerId": 1, "device": [None]}
        self.made = (key, ms, event)
        return event

    def stranger(self):
        """A good event of a device that no other event is about, nor a contact deletion: what is removed
        takes its dead letters along, and these are to be found."""
        while True:
            event = self.good()
            front, _, number = event["clientId"].rpartition("/")
            if int(number) % 10 >= self.loyal:
                return {**event, "clientId": f"{front}/bad-{self.random.getrandbits(48):012x}"}

    def dump(self, event):
        return json.dumps(event, ensure_ascii=self.random.random() < 0.3).encode()

    # ---- bad ones

    def malformed(self):
        """(errorCode, body); ten kinds."""
        rnd = self.random
        event = self.stranger()
        text = self.dump(event)
        mark = f"{rnd.getrandbits(64):016x}"
        kinds = {
            "truncated": lambda: ("malformed", text[:rnd.randint(1, len(text) - 1)]),
            "bytes behind": lambda: ("malformed", text + rnd.choice((b"x", b"{}", b"\0", b"]"))),
            "duplicate key": lambda: ("malformed", text[:-1] + b', "clientId": "' + mark.encode() + b'"}'),
            "bad UTF-8": lambda: ("malformed", text[:-1] + b', "x": "\xc3\x28' + mark.encode() + b'"}'),
            "NUL": lambda: ("malformed", self.dump({**event, "clientId": "a\0" + mark})),
            "wrong type": lambda: ("malformed", self.dump({**event, "applicationCode": rnd.choice(
                (7, True, None, [], {}))})),
            "missing": lambda: ("malformed", self.dump({k: v for k, v in event.items()
                                                        if k != rnd.choice(("clientId", "eventTime"))
                                                        and k != "applicationCode"})),
            "time": lambda: ("bad-time", self.dump({**event, "eventTime": rnd.choice(
                (int(self.clock) + 3 * DAY_MS, "2026-02-30T00:00:00Z", "yesterday", "2026-11-20T16:00:00", 1.5))})),
            "tenant": lambda: ("invalid-tenant", self.dump({**event, "customerId": rnd.choice(
                ("a" * 57, "-a", "a b", "", "tenant;drop", "ä"))})),
            "token": lambda: ("too-large", self.dump({**event, "push": {"token": mark + "t" * 4081}})),
        }
        kind = rnd.choice(list(kinds))
        self.kinds[kind] = self.kinds.get(kind, 0) + 1
        return kinds[kind]()

    def next(self):
        form = self.random.random()
        if form < self.bad:
            return self.malformed()
        if form < self.bad + self.unknown_share:
            return "tenant-missing", self.dump(self.good(known=False))
        return "good", self.dump(self.good())


def log_line(number, expect, body, topic="writer"):
    entry = {"n": number, "expect": expect} if topic == "writer" else {"n": number, "topic": topic, "expect": expect}
    try:
        return json.dumps({**entry, "body": body.decode()})
    except UnicodeDecodeError:
        import base64
        return json.dumps({**entry, "b64": base64.b64encode(body).decode()})
