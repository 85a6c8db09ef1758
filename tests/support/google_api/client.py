"""A test's side: a server process, plain HTTP requests to it, and what its test cases share."""
import http.client
import json
import os
import socket
import subprocess
import sys
import time
import unittest

SUPPORT = os.path.join(os.path.dirname(os.path.realpath(__file__)), "..")
JSON = {"Content-Type": "application/json"}
DEADLINE_S = 15


class Server:
    """One server process, of a program in tests/support, and a client of it."""

    base = "/v1/"

    def __init__(self, program, *arguments):
        self.process = subprocess.Popen([os.path.join(SUPPORT, program), *arguments], stdin=subprocess.PIPE,
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
        code, _, answer = self.raw(method, self.base + name, text)
        return code, json.loads(answer)

    def control(self, method, name, body=None):
        code, _, answer = self.raw(method, "/control/" + name, body and json.dumps(body))
        if code != 200:
            raise AssertionError(f"/control/{name}: {answer}")
        return json.loads(answer)

    def socket(self):
        return socket.create_connection(("127.0.0.1", self.port), timeout=DEADLINE_S)


class Case(unittest.TestCase):
    """Each with an empty server; start() tells which."""

    @classmethod
    def start(cls):
        raise NotImplementedError

    @classmethod
    def setUpClass(cls):
        cls.server = cls.start()

    @classmethod
    def tearDownClass(cls):
        cls.server.stop()

    def setUp(self):
        self.server.control("POST", "reset")

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

    def fault(self, **asked):
        return self.server.control("POST", "fault", asked)

    def violations(self):
        return self.server.control("GET", "stats")["violations"]["count"]


def main():
    program = unittest.main(exit=False, verbosity=0)
    result = program.result
    failed = len(result.failures) + len(result.errors)
    # The line of a Criterion program, by which tests/tally counts cases.
    print(f"Synthesis: Tested: {result.testsRun} | Passing: {result.testsRun - failed} | "
          f"Failing: {failed} | Crashing: 0")
    sys.exit(failed > 0)
