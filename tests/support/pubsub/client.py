"""A test's side: a server process, plain HTTP requests to it, and what its test cases share."""
import base64
import http.client
import json
import os
import socket
import subprocess
import sys
import time
import unittest

SERVER = os.path.join(os.path.dirname(os.path.realpath(__file__)), "../pubsub_server")
JSON = {"Content-Type": "application/json"}
TOPIC, SUBSCRIPTION = "projects/test/topics/ttt", "projects/test/subscriptions/sss"
DEADLINE_S = 15


class Server:
    """One server process and a client of it."""

    def __init__(self, *arguments):
        self.process = subprocess.Popen([SERVER, *arguments], stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, text=True)
        self.port = int(self.process.stdout.readline().split()[1])

    def stop(self):
        self.process.stdin.close()
        self.process.stdout.close()
        return self.process.wait(DEADLINE_S)

    def raw(self, method, path, body=None, headers=None):
        """(code, headers, body) over a connection of its own."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=DEADLINE_S)
        try:
            connection.request(method, path, body, JSON if headers is None else headers)
            answer = connection.getresponse()
            return answer.status, answer.headers, answer.read()
        finally:
            connection.close()

    def call(self, method, name, body=None):
        """(code, parsed body) of a call of the API."""
        text = None if body is None else json.dumps(body)
        code, _, answer = self.raw(method, "/v1/" + name, text)
        return code, json.loads(answer)

    def control(self, method, name, body=None):
        code, _, answer = self.raw(method, "/control/" + name, body and json.dumps(body))
        if code != 200:
            raise AssertionError(f"/control/{name}: {answer}")
        return json.loads(answer)

    def socket(self):
        return socket.create_connection(("127.0.0.1", self.port), timeout=DEADLINE_S)


class Case(unittest.TestCase):
    """Each with an empty server, topic ttt and its subscription sss."""

    arguments = ("--hold", "0.3", "--gzip")

    @classmethod
    def setUpClass(cls):
        cls.server = Server(*cls.arguments)

    @classmethod
    def tearDownClass(cls):
        cls.server.stop()

    def setUp(self):
        self.server.control("POST", "reset")
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

    def ok(self, method, name, body=None):
        code, answer = self.server.call(method, name, body)
        self.assertEqual(code, 200, answer)
        return answer

    def refused(self, method, name, body, code=400, status="INVALID_ARGUMENT"):
        """The answer is an error in Google's shape; its message."""
        got, answer = self.server.call(method, name, body)
        self.assertEqual((got, answer["error"]["code"]), (code, code), answer)
        self.assertEqual(answer["error"]["status"], status)
        return answer["error"]["message"]

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

    def fault(self, **asked):
        return self.server.control("POST", "fault", asked)

    def stats(self, name=SUBSCRIPTION):
        return self.server.control("GET", "stats")["subscriptions"][name]

    def violations(self):
        return self.server.control("GET", "stats")["violations"]["count"]


def bodies(received):
    return [base64.b64decode(one["message"].get("data", "")).decode() for one in received]


def main():
    program = unittest.main(exit=False, verbosity=0)
    result = program.result
    failed = len(result.failures) + len(result.errors)
    # The line of a Criterion program, by which tests/tally counts cases.
    print(f"Synthesis: Tested: {result.testsRun} | Passing: {result.testsRun - failed} | "
          f"Failing: {failed} | Crashing: 0")
    sys.exit(failed > 0)
