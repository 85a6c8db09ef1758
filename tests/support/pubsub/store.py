"""Topics and subscriptions of all projects, in memory."""
import json
import time

from google_api import shape
from google_api.errors import already_exists, invalid, not_found

from . import settings
from .ordering import OrderedSubscription
from .subscription import ID, KEY, PUBLISHED, TEXT, Subscription

DELETED_TOPIC = "_deleted-topic_"


class Topic:
    def __init__(self, made):
        self.settings = made
        self.subscriptions = []


class Store:
    """Names are full: projects/P/topics/T. reset() empties it; ids go on."""

    def __init__(self):
        # From the clock, so that a server started again gives no id a second time.
        self.next_id = int(time.time() * 1000) * 1000
        self.reset()

    def reset(self):
        for subscription in getattr(self, "subscriptions", {}).values():
            subscription.stop()
        self.topics, self.subscriptions = {}, {}
        self.published = 0

    def topic(self, name):
        if name not in self.topics:
            raise not_found(f"Resource not found (resource={name.rpartition('/')[2]}).")
        return self.topics[name]

    def subscription(self, name):
        if name not in self.subscriptions:
            raise not_found(f"Resource not found (resource={name.rpartition('/')[2]}).")
        return self.subscriptions[name]

    def create_topic(self, name, body):
        made = settings.read_topic(name, body)
        if name in self.topics:
            raise already_exists(f"Resource already exists in the project (resource={name}).")
        self.topics[name] = Topic(made)
        return self.topics[name]

    def delete_topic(self, name):
        for subscription in self.topic(name).subscriptions:
            subscription.change({**subscription.settings, "topic": DELETED_TOPIC})
        del self.topics[name]

    def create_subscription(self, name, body):
        made = settings.read_subscription(name, body)
        topic = self.topic(made["topic"])
        self.check_dead_letter_topic(made)
        if name in self.subscriptions:
            raise already_exists(f"Resource already exists in the project (resource={name}).")
        kind = OrderedSubscription if made.get("enableMessageOrdering") else Subscription
        subscription = self.subscriptions[name] = kind(made, time.time_ns(), self.dead_letter)
        topic.subscriptions.append(subscription)
        return subscription

    def change_subscription(self, name, body):
        subscription = self.subscription(name)
        made = settings.change_subscription(subscription.settings, body)
        self.check_dead_letter_topic(made)
        subscription.change(made)
        return subscription

    def check_dead_letter_topic(self, made):
        policy = made.get("deadLetterPolicy")
        if policy:
            self.topic(policy["deadLetterTopic"])

    def delete_subscription(self, name):
        """The pulls that wait there, to be answered."""
        subscription = self.subscription(name)
        del self.subscriptions[name]
        topic = self.topics.get(subscription.settings["topic"])
        if topic:
            topic.subscriptions.remove(subscription)
        return subscription.stop()

    def publish(self, topic, heads, key):
        """heads: the text of each message without its id and what follows. The ids, as texts."""
        now, first = time.time(), self.next_id
        self.next_id += len(heads)
        self.published += len(heads)
        # 3, 6 or 9 digits, as Google's clients must take them all.
        tail = f'","publishTime":"{shape.timestamp(now, 3 + first % 3 * 3)}"'
        tail += f',"orderingKey":{json.dumps(key)}}}' if key else "}"
        ids = [str(number) for number in range(first, self.next_id)]
        messages = [(number, f'{head}"messageId":"{text}{tail}', now, key)
                    for number, text, head in zip(range(first, self.next_id), ids, heads)]
        for subscription in topic.subscriptions:
            subscription.add(messages)
        return ids

    def dead_letter(self, source, message, attempts):
        """Publish a copy to the dead-letter topic; False when that is gone."""
        topic = self.topics.get(source.settings["deadLetterPolicy"]["deadLetterTopic"])
        if not topic:
            return False
        _, project, _, name = source.settings["name"].split("/")
        parsed = json.loads(message[TEXT])
        prefix = "CloudPubSubDeadLetter"
        attributes = {**parsed.get("attributes", {}), f"{prefix}SourceSubscription": name,
                      f"{prefix}SourceSubscriptionProject": project,
                      f"{prefix}SourceDeliveryCount": str(attempts),
                      f"{prefix}SourceTopicPublishTime": shape.timestamp(message[PUBLISHED])}
        data = f'"data":"{parsed["data"]}",' if "data" in parsed else ""
        head = f'{{{data}"attributes":{shape.encode_json(attributes)},'
        self.publish(topic, [head], message[KEY])
        return True

    def page(self, names, query):
        """(some of the sorted names, nextPageToken or None) by pageSize and pageToken."""
        size = query.get("pageSize", "0")
        if not size.isdigit() or int(size) > 1000:
            raise invalid(f"pageSize is {size!r}; it must be 0 to 1000")
        names = sorted(name for name in names if name >= query.get("pageToken", ""))
        size = int(size) or 100
        return names[:size], names[size] if len(names) > size else None

    def messages(self, name):
        """What is left in a subscription, for /control/messages."""
        subscription = self.subscription(name)
        return [{**json.loads(message[TEXT]), "state": state, "ackId": ack_id,
                 "failed": subscription.attempts.get(message[ID], 0)}
                for state, message, ack_id in subscription.states()]
