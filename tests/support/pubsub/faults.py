"""The faults of Pub/Sub beside those of every API. The contract is in pubsub_server.

A pull that waits already is answered as it should be. Some faults change what a pull or an
acknowledgement does.
"""
import asyncio
import zlib

from google_api import faults
from google_api.errors import invalid
from google_api.faults import number
from google_api.shape import int32, string


class Fault(faults.Fault):
    KINDS = {
        **faults.Fault.KINDS,
        "drop-publish-answer": {},
        "oversized": {"messages": int32, "bytes": int32},
        "duplicate": {}, "expire-leases": {}, "lose-acks": {},
        "bad-ack-id": {"ackId": string, "messageId": string, "ids": number},
    }
    DEFAULT_CALL = {"duplicate": "pull", "expire-leases": "pull", "oversized": "pull",
                    "lose-acks": "acknowledge", "bad-ack-id": "acknowledge",
                    "drop-publish-answer": "publish"}
    AT_ONCE = ("duplicate", "expire-leases", "revoke-tokens")
    LIMITED = {"oversized": ("pull",), "duplicate": ("pull",), "expire-leases": ("pull",),
               "lose-acks": ("acknowledge", "modifyAckDeadline"),
               "bad-ack-id": ("acknowledge", "modifyAckDeadline"),
               "drop-publish-answer": ("publish",)}
    WRONG_JSON = ('{"receivedMessages":[{"ackId":7,"message":"x"}],"messageIds":{"0":1},'
                  '"access_token":[]}')

    def send_drop_publish_answer(self, exchange, *_):
        exchange.request.connection.reset()

    # ---- what pulls and acknowledgements do ----

    def pull_limit(self, limit):
        return self.asked.get("messages", limit * 10) if self.kind == "oversized" else limit

    def after_pull(self, subscription, messages, ack_ids, body):
        """The body to send; a lease may end, or a message be offered again, right after."""
        loop = asyncio.get_running_loop()
        if self.kind == "oversized":
            return body.ljust(self.asked.get("bytes", 0))  # blanks after the object are still JSON
        if self.kind == "duplicate":
            loop.call_soon(subscription.repeat, messages)
        if self.kind == "expire-leases":
            loop.call_soon(expire, subscription, ack_ids)
        return body

    def loses(self):
        return self.kind == "lose-acks"

    def check_ids(self, subscription, ack_ids):
        if self.kind != "bad-ack-id":
            return
        asked = self.asked
        for ack_id in ack_ids:
            batch = subscription.leases.get(ack_id, {})
            message = str(batch[ack_id][0]) if batch else None
            if ack_id == asked.get("ackId") or message and message == asked.get("messageId") or \
                    zlib.crc32(ack_id.encode()) < asked.get("ids", 0) * 2 ** 32:
                error = invalid(f"You have passed an invalid ack ID to the service (ackId={ack_id}).")
                error.violation = False
                raise error

    # ---- without a request ----

    @staticmethod
    def at_once(server, asked):
        kind = asked["kind"]
        if kind == "revoke-tokens":
            server.tokens.revoke()
            return
        for name, subscription in server.store.subscriptions.items():
            if asked.get("resource", name) not in (name, name.rpartition("/")[2]):
                continue
            if kind == "duplicate":
                subscription.repeat(subscription.held())
            else:
                expire(subscription, list(subscription.leases))


def expire(subscription, ack_ids):
    subscription.lapse([ack_id for ack_id in ack_ids if ack_id in subscription.leases])
