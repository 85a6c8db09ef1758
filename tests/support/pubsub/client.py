"""A test's side of the stand-in for Pub/Sub: what its test cases share."""
import base64
import time

from google_api import client
from google_api.client import DEADLINE_S, JSON, main

TOPIC, SUBSCRIPTION = "projects/test/topics/ttt", "projects/test/subscriptions/sss"


class Server(client.Server):
    def __init__(self, *arguments):
        super().__init__("pubsub_server", *arguments)


class Case(client.Case):
    """Each with an empty server, topic ttt and its subscription sss."""

    arguments = ("--hold", "0.3", "--gzip")

    @classmethod
    def start(cls):
        return Server(*cls.arguments)

    def setUp(self):
        super().setUp()
        self.make_topic()
        self.subscribe()

    def make_topic(self, name=TOPIC):
        self.ok("PUT", name, {})

    def subscribe(self, name=SUBSCRIPTION, **settings):
        return self.ok("PUT", name, {"topic": TOPIC, **settings})

    def resubscribe(self, **settings):
        self.ok("DELETE", SUBSCRIPTION)
        return self.subscribe(**settings)

    # ---- calls ----

    def publish(self, *bodies, topic=TOPIC, **more):
        messages = [{"data": base64.b64encode(body.encode()).decode(), **more} for body in bodies]
        return self.ok("POST", topic + ":publish", {"messages": messages})["messageIds"]

    def pull(self, most=1000, name=SUBSCRIPTION):
        return self.ok("POST", name + ":pull", {"maxMessages": most}).get("receivedMessages", [])

    def pull_until(self, count):
        """Pull until so many have come."""
        got, end = [], time.monotonic() + DEADLINE_S
        while len(got) < count and time.monotonic() < end:
            got += self.pull()
        self.assertEqual(len(got), count)
        return got

    def ids(self, received):
        return [one["ackId"] for one in received]

    def ack(self, received):
        return self.ok("POST", SUBSCRIPTION + ":acknowledge", {"ackIds": self.ids(received)})

    def modack(self, received, seconds):
        return self.ok("POST", SUBSCRIPTION + ":modifyAckDeadline",
                       {"ackIds": self.ids(received), "ackDeadlineSeconds": seconds})

    def stats(self, name=SUBSCRIPTION):
        return self.server.control("GET", "stats")["subscriptions"][name]


def bodies(received):
    return [base64.b64decode(one["message"].get("data", "")).decode() for one in received]
