"""The stand-in for Pub/Sub: what its requests find."""
from google_api import server
from google_api.errors import invalid

from . import calls
from .faults import Fault
from .store import Store
from .subscription import Subscription


class Exchange(server.Exchange):
    __slots__ = ("store",)

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.store = self.server.store


class Server(server.Server):
    EXCHANGE, FAULT = Exchange, Fault
    CALLS = calls.NAMES
    SERVICE = "pubsub.googleapis.com"

    def __init__(self, options):
        self.store = Store()
        Subscription.count_nacks = not options.nacks_uncounted
        super().__init__(options)

    def find(self, request, path):
        return calls.find(request.method, path)

    def reset(self):
        """Held pulls get an empty answer."""
        self.faults.clear()
        for subscription in self.store.subscriptions.values():
            for waiter in subscription.stop():
                waiter.exchange.send(200, calls.EMPTY)
        self.store.reset()
        self.stats.reset()

    # ---- /control ----

    def commands(self):
        return {("GET", "messages"): self.messages}

    def messages(self, request):
        query = request.query()
        name = query.get("subscription", "")
        if "/" not in name:
            matching = [one for one in self.store.subscriptions if one.endswith("/" + name)]
            name = matching[0] if len(matching) == 1 else name
        messages = self.store.messages(name)
        limit = query.get("limit", "1000")
        if not limit.isdigit():
            raise invalid("limit is a number")
        return {"count": len(messages), "messages": messages[:int(limit)]}

    def figures(self):
        return {"published": self.store.published,
                "subscriptions": {name: {**one.counts.shown(), "backlog": len(one.backlog),
                                         "outstanding": len(one.leases)}
                                  for name, one in self.store.subscriptions.items()}}
