"""A subscription with enableMessageOrdering.

Messages of one key are delivered in the order of publishing: while any of them is held, or waits
for its back-off, the later ones stay behind, except that one answer may carry several. When one is
delivered in vain, the later ones of its key that are held are taken back, and come again after it.
"""
import heapq

from .subscription import ID, KEY, TEXT, ANSWER_BYTES_MAX, Subscription


class OrderedSubscription(Subscription):
    def __init__(self, settings, serial, forward):
        super().__init__(settings, serial, forward)
        self.busy = {}  # key -> {id: ackId} of its messages that are held
        self.resting = {}  # key -> how many of its messages are delayed
        self.parked = {}  # key -> messages that stay behind

    def take(self, limit):
        taken, mine, size = [], set(), 0
        while (self.returned or self.fresh) and len(taken) < limit and size < ANSWER_BYTES_MAX:
            message = heapq.heappop(self.returned) if self.returned else self.fresh.popleft()
            key = message[KEY]
            if message[ID] not in self.backlog:
                continue
            if key and key not in mine and (key in self.busy or key in self.resting):
                self.parked.setdefault(key, []).append(message)
                continue
            mine.add(key)
            taken.append(message)
            size += len(message[TEXT])
        return taken

    def lease(self, messages, seconds):
        ack_ids = super().lease(messages, seconds)
        for ack_id, message in zip(ack_ids, messages):
            if message[KEY]:
                self.busy.setdefault(message[KEY], {})[message[ID]] = ack_id
        return ack_ids

    def freed(self, messages):
        """Out of busy (for good, or because their delivery failed), and who waits for them on."""
        for message in messages:
            held = self.busy.get(message[KEY], {})
            held.pop(message[ID], None)
            if not held:
                self.busy.pop(message[KEY], None)
                self.unpark(message[KEY])
        self.serve()

    def unpark(self, key):
        if key not in self.resting:
            for message in self.parked.pop(key, ()):
                heapq.heappush(self.returned, message)

    def fail(self, messages, counted=True):
        first = {}
        for message in messages:
            if message[KEY]:
                first[message[KEY]] = min(message[ID], first.get(message[KEY], message[ID]))
        later = [ack_id for key, number in first.items()
                 for other, ack_id in self.busy.get(key, {}).items()
                 if other > number and ack_id in self.leases]
        taken_back = self.end(later)
        for message in taken_back:
            heapq.heappush(self.returned, message)
        for message in taken_back:
            self.busy[message[KEY]].pop(message[ID])
        super().fail(messages, counted)

    def delay(self, message, tries):
        super().delay(message, tries)
        if message[KEY]:
            self.resting[message[KEY]] = self.resting.get(message[KEY], 0) + 1

    def wake(self, message):
        super().wake(message)
        key = message[KEY]
        if key in self.resting:
            self.resting[key] -= 1
            if not self.resting[key]:
                del self.resting[key]
                self.unpark(key)
