"""One subscription: its backlog, its leases, its waiting pulls.

A message is a tuple shared by all subscriptions of its topic: (id, text, published, key) with the
id a number that grows with each publish, the text its JSON, published in epoch seconds. A message
is in `backlog` until it is acknowledged, and besides in one of

    fresh      never delivered, in order of id
    returned   a heap by id: delivered before and free again; their ids are below those of fresh
    delayed    a heap by time: not before that time, by the retry policy
    leases     ackId -> batch; a batch is {ackId: message} of what has the same deadline, so that a
               deadline costs one timer entry however many messages have it

What `duplicate` delivered twice is in two of them; whichever is acknowledged takes it out of the
backlog, and the rest is dropped when it is met.
"""
import asyncio
import base64
import collections
import hashlib
import heapq
import re
import time

from google_api import shape

ID, TEXT, PUBLISHED, KEY = range(4)
ANSWER_BYTES_MAX = 10_000_000
ACK_ID_BYTES, ACK_ID_BYTES_EXACTLY_ONCE = 180, 216
SERIAL = re.compile("[0-9a-f]{16}")  # the end of an ackId


def ack_prefix(name, length):
    """Of all ackIds of a subscription: the same after a restart, so that old ids are old and not
    malformed."""
    digest = hashlib.sha512(name.encode()).digest() * 4
    return base64.urlsafe_b64encode(digest)[:length - 16].decode()


class Counts:
    """Of one subscription, for /control/stats."""

    NAMES = ("delivered", "redelivered", "acked", "nacked", "lapsed", "staleAcks", "staleModacks",
             "deadLettered", "pulls", "pullsWaiting", "pullsWaitingMax", "outstandingMax")

    def __init__(self):
        for name in self.NAMES:
            setattr(self, name, 0)

    def shown(self):
        return {name: getattr(self, name) for name in self.NAMES}


class Subscription:
    """forward(subscription, message, attempts) dead-letters a message; True when it was done."""

    count_nacks = True  # False: against the API, for a suite that is about brokers in general

    def __init__(self, settings, serial, forward):
        self.settings, self.serial, self.forward = settings, serial, forward
        self.exactly_once = settings.get("enableExactlyOnceDelivery", False)
        self.prefixes = [ack_prefix(settings["name"], length)
                         for length in (ACK_ID_BYTES, ACK_ID_BYTES_EXACTLY_ONCE)]
        self.counts = Counts()
        self.backlog = {}  # id -> message, in order of id
        self.fresh = collections.deque()
        self.returned, self.delayed, self.deadlines = [], [], []
        self.leases = {}
        self.attempts = {}  # id -> deliveries that failed, where there are any
        self.retained = []  # acknowledged, when retainAckedMessages
        self.waiting = collections.deque()  # pulls: [waiter, limit, timer]
        self.timer = None
        self.loop = asyncio.get_running_loop()

    # ---- in ----

    def add(self, messages):
        self.fresh.extend(messages)
        self.backlog.update([(message[ID], message) for message in messages])
        if self.waiting:
            self.serve()

    # ---- out ----

    def pull(self, limit, hold, waiter):
        """waiter.answer(messages, ack_ids) now, or when something comes, or after hold seconds with
        nothing. The returned function withdraws a pull that waits."""
        self.counts.pulls += 1
        messages = self.take(limit)
        if messages:
            self.deliver(messages, waiter)
            return None
        if hold <= 0:
            waiter.answer([], [])
            return None
        pull = [waiter, limit, None]
        pull[2] = self.loop.call_later(hold, self.give_up, pull)
        self.waiting.append(pull)
        self.counts.pullsWaiting = len(self.waiting)
        self.counts.pullsWaitingMax = max(self.counts.pullsWaitingMax, len(self.waiting))
        return lambda: self.withdraw(pull)

    def withdraw(self, pull):
        pull[2].cancel()
        if pull in self.waiting:
            self.waiting.remove(pull)
        self.counts.pullsWaiting = len(self.waiting)

    def give_up(self, pull):
        self.withdraw(pull)
        pull[0].answer([], [])

    def serve(self):
        """Answer waiting pulls with what is available, the youngest first: the service promises no
        order, and who has waited longest may be gone without our knowing."""
        while self.waiting and (self.fresh or self.returned):
            pull = self.waiting[-1]
            messages = self.take(pull[1])
            if not messages:
                return
            self.withdraw(pull)
            self.deliver(messages, pull[0])

    def take(self, limit):
        """Up to limit available messages, in order of id; at least one if there is any."""
        taken, size = [], 0
        while self.returned and len(taken) < limit and size < ANSWER_BYTES_MAX:
            message = heapq.heappop(self.returned)
            if message[ID] in self.backlog:
                taken.append(message)
                size += len(message[TEXT])
        fresh = self.fresh
        while fresh and len(taken) < limit and size < ANSWER_BYTES_MAX:
            message = fresh.popleft()
            taken.append(message)
            size += len(message[TEXT])
        return taken

    def deliver(self, messages, waiter):
        ack_ids = self.lease(messages, self.settings["ackDeadlineSeconds"])
        self.counts.delivered += len(messages)
        if self.attempts:
            self.counts.redelivered += sum(message[ID] in self.attempts for message in messages)
        waiter.answer(messages, ack_ids)

    def lease(self, messages, seconds):
        first = self.serial
        self.serial += len(messages)
        prefix = self.prefixes[self.exactly_once]
        ack_ids = [f"{prefix}{number:016x}" for number in range(first, self.serial)]
        self.hold(dict(zip(ack_ids, messages)), seconds)
        if len(self.leases) > self.counts.outstandingMax:
            self.counts.outstandingMax = len(self.leases)
        return ack_ids

    def hold(self, batch, seconds):
        self.leases.update(dict.fromkeys(batch, batch))
        # The serial, never the same, keeps the heap from comparing two batches.
        heapq.heappush(self.deadlines, (time.monotonic() + seconds, self.serial, batch))
        self.arm()

    # ---- back ----

    def sort_ids(self, ack_ids):
        """(held, stale, malformed) of what a request names, each once."""
        leases = self.leases
        held = [ack_id for ack_id in dict.fromkeys(ack_ids) if ack_id in leases]
        if len(held) == len(ack_ids):
            return held, [], []
        others = [ack_id for ack_id in dict.fromkeys(ack_ids) if ack_id not in leases]
        stale = [ack_id for ack_id in others
                 if ack_id[:-16] in self.prefixes and SERIAL.fullmatch(ack_id[-16:])]
        known = set(stale)
        return held, stale, [ack_id for ack_id in others if ack_id not in known]

    def end(self, ack_ids):
        """Take ids that are held out of their leases; their messages."""
        leases, messages = self.leases, []
        for ack_id in ack_ids:
            batch = leases.pop(ack_id)
            messages.append(batch.pop(ack_id))
            if not batch:
                batch.clear()  # gives back the table, which waits for its deadline with the batch
        return messages

    def acknowledge(self, ack_ids):
        messages = self.end(ack_ids)
        backlog, attempts = self.backlog, self.attempts
        for message in messages:
            backlog.pop(message[ID], None)
        if attempts:
            for message in messages:
                attempts.pop(message[ID], None)
        if self.settings.get("retainAckedMessages"):
            self.retained += messages
        self.counts.acked += len(messages)
        self.freed(messages)

    def extend(self, ack_ids, seconds):
        batch = dict(zip(ack_ids, self.end(ack_ids)))
        if batch:
            self.serial += 1
            self.hold(batch, seconds)

    def nack(self, ack_ids):
        messages = self.end(ack_ids)
        self.counts.nacked += len(messages)
        self.fail(messages, self.count_nacks)

    def lapse(self, ack_ids):
        messages = self.end(ack_ids)
        self.counts.lapsed += len(messages)
        self.fail(messages)

    def fail(self, messages, counted=True):
        """Delivered in vain: make them available again, later or dead letters."""
        policy, retry = self.settings.get("deadLetterPolicy"), self.settings.get("retryPolicy")
        for message in messages:
            number = message[ID]
            if number not in self.backlog:
                continue
            tries = self.attempts[number] = self.attempts.get(number, 0) + counted
            if policy and tries >= policy["maxDeliveryAttempts"] and \
                    self.forward(self, message, tries):
                self.counts.deadLettered += 1
                self.forget(message)
            elif retry:
                self.delay(message, tries)
            else:
                heapq.heappush(self.returned, message)
        self.freed(messages)
        self.arm()
        self.serve()

    def delay(self, message, tries):
        retry = self.settings["retryPolicy"]
        low, high = (shape.seconds(retry[name], name) for name in ("minimumBackoff", "maximumBackoff"))
        wait = min(high, low * 2 ** min(tries - 1, 30))
        heapq.heappush(self.delayed, (time.monotonic() + wait, message))

    def forget(self, message):
        del self.backlog[message[ID]]
        self.attempts.pop(message[ID], None)

    def freed(self, messages):
        """Their leases have ended; for ordering.py."""

    # ---- time ----

    def arm(self):
        times = [heap[0][0] for heap in (self.deadlines, self.delayed) if heap]
        if not times:
            return
        due = min(times)
        if self.timer is not None and not self.timer.cancelled() and self.timer.when() <= due:
            return
        if self.timer is not None:
            self.timer.cancel()
        self.timer = self.loop.call_at(due, self.tick)

    def tick(self):
        self.timer = None
        now = time.monotonic()
        lapsed = []
        while self.deadlines and self.deadlines[0][0] <= now:
            lapsed += heapq.heappop(self.deadlines)[-1]
        while self.delayed and self.delayed[0][0] <= now:
            self.wake(heapq.heappop(self.delayed)[1])
        self.lapse(lapsed)  # serves waiting pulls and sets the timer, also when nothing has lapsed

    def wake(self, message):
        if message[ID] in self.backlog:
            heapq.heappush(self.returned, message)

    def stop(self):
        """Deleted: the waiters of its pulls are the caller's to answer."""
        if self.timer is not None:
            self.timer.cancel()
        pulls = list(self.waiting)
        for pull in pulls:
            self.withdraw(pull)
        return [pull[0] for pull in pulls]

    # ---- for calls, faults and control ----

    def change(self, settings):
        self.settings = settings
        self.exactly_once = settings.get("enableExactlyOnceDelivery", False)

    def repeat(self, messages):
        """Make what is held available a second time."""
        for message in messages:
            if message[ID] in self.backlog:
                self.attempts.setdefault(message[ID], 0)
                heapq.heappush(self.returned, message)
        self.serve()

    def held(self):
        return [batch[ack_id] for ack_id, batch in self.leases.items()]

    def seek(self, moment):
        """What was published before moment is acknowledged, the rest is not."""
        drop = [message for message in self.backlog.values() if message[PUBLISHED] < moment]
        back = [message for message in self.retained if message[PUBLISHED] >= moment]
        gone = {message[ID] for message in drop}
        self.end([ack_id for ack_id, batch in self.leases.items() if batch[ack_id][ID] in gone])
        for message in drop:
            self.forget(message)
        self.fresh = collections.deque(message for message in self.fresh if message[ID] not in gone)
        if self.settings.get("retainAckedMessages"):
            self.retained = [message for message in self.retained + drop
                             if message[PUBLISHED] < moment]
        self.backlog = dict(sorted([*self.backlog.items(),
                                    *((message[ID], message) for message in back)]))
        for message in back:
            heapq.heappush(self.returned, message)
        self.freed(drop)
        self.serve()

    def oldest(self):
        """Epoch seconds, or None."""
        return next((message[PUBLISHED] for message in self.backlog.values()), None)

    def states(self):
        """[(state, message, ack_id or "")] of all that is left, in order of id."""
        leased = {batch[ack_id][ID]: ack_id for ack_id, batch in self.leases.items()}
        delayed = {message[ID] for _, message in self.delayed}
        return [("leased" if number in leased else "delayed" if number in delayed else "available",
                 message, leased.get(number, "")) for number, message in self.backlog.items()]
