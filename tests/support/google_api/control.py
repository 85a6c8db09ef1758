"""/control and the statistics, whatever the API; a server adds commands and figures of its own."""
import asyncio
import collections
import json

from .errors import invalid, not_found

VIOLATIONS_KEPT = 1000


class CallCount:
    def __init__(self):
        self.count = self.faults = 0
        self.answers = collections.Counter()  # by HTTP code; an exchange without an answer has none

    def shown(self):
        return {"count": self.count, "faults": self.faults,
                "answers": {str(code): n for code, n in self.answers.items()}}


class Stats:
    def __init__(self, connections):
        self.connections = connections  # the set of all that are open
        self.reset()

    def reset(self):
        self.calls = collections.defaultdict(CallCount)
        self.violations = []
        self.violation_count = 0
        self.deprecated = collections.Counter()
        self.hanging = 0  # requests that will get no answer
        self.accepted = 0
        self.connections_max = 0

    def connected(self):
        self.accepted += 1
        self.connections_max = max(self.connections_max, len(self.connections))

    def violation(self, call, text, target):
        self.violation_count += 1
        if len(self.violations) < VIOLATIONS_KEPT:
            self.violations.append({"call": call, "text": text[:500], "target": target[:300]})


def read_object(request):
    try:
        body = json.loads(request.body)
    except ValueError:
        body = None
    if not isinstance(body, dict):
        raise invalid("the body is no JSON object")
    return body


class Control:
    def __init__(self, server):
        self.server = server
        self.commands = {("POST", "fault"): self.add_fault, ("GET", "fault"): self.list_faults,
                         ("DELETE", "fault"): self.clear_faults, ("GET", "stats"): self.stats,
                         ("POST", "reset"): self.reset, ("POST", "cut"): self.cut,
                         **server.commands()}

    def run(self, request):
        """The answer's body. Raises ApiError; what goes wrong here is no violation of the API."""
        command = self.commands.get((request.method, request.path.removeprefix("/control/")))
        if not command:
            raise not_found("/control has: " + ", ".join(" ".join(pair) for pair in self.commands))
        return json.dumps(command(request), indent=1).encode()

    def add_fault(self, request):
        return {"id": self.server.faults.add(read_object(request))}

    def list_faults(self, _):
        return {"faults": self.server.faults.shown()}

    def clear_faults(self, _):
        self.server.faults.clear()
        return {}

    def reset(self, _):
        """Nothing is left but the connections and the tokens; held pulls get an empty answer."""
        self.server.reset()
        return {}

    def cut(self, request):
        """{"ms":N}: for so long every request but those for /control is reset as well."""
        ms = json.loads(request.body).get("ms", 0) if request.body else 0
        self.server.away_until = asyncio.get_running_loop().time() + ms / 1000
        others = [one for one in self.server.connections if one is not request.connection]
        for connection in others:
            connection.reset()
        return {"cut": len(others)}

    def stats(self, _):
        server, stats = self.server, self.server.stats
        return {
            "calls": {name: call.shown() for name, call in sorted(stats.calls.items())},
            "violations": {"count": stats.violation_count, "list": stats.violations},
            "deprecated": dict(stats.deprecated),
            "tokensIssued": server.tokens.issued,
            "hanging": stats.hanging,
            "connections": {"open": len(server.connections), "max": stats.connections_max,
                            "accepted": stats.accepted},
            **server.figures(),
        }
