"""producer.py - publishes traffic at a pace from a thread, whatever happens to the service or to the broker.

Each event is in a log on disk before it is published; what the broker refused, or what became of it
nobody knows, is published again until the broker has it.
"""
import json
import os
import threading
import time

import generator
import lib


class Producer(threading.Thread):
    """ahead: so many at once before the pace begins."""

    def __init__(self, servers, traffic, path, rate, tick_ms=20, total=None, ahead=0):
        super().__init__(daemon=True)
        self.servers, self.traffic, self.path = servers, traffic, path
        self.rate, self.tick_s, self.total, self.ahead = rate, tick_ms / 1000, total, ahead
        self.lock = threading.Lock()  # of traffic
        self.stopping, self.number, self.stored = False, 0, 0
        self.refused = self.unknown = 0
        self.failure = None

    def stop(self):
        self.stopping = True
        self.join()
        if self.failure:
            raise self.failure

    def run(self):
        try:
            with open(self.path, "w", encoding="utf-8") as log:
                self.loop(log)
        except Exception as error:  # told by stop()
            self.failure = error

    def loop(self, log):
        client, began = None, time.monotonic()
        while not self.stopping and (self.total is None or self.number < self.total):
            due = int((time.monotonic() - began) * self.rate) + self.ahead - self.number
            if self.total is not None:
                due = min(due, self.total - self.number)
            batch = []
            with self.lock:
                for _ in range(min(due, 2000)):
                    batch.append((self.number, *self.traffic.next()))
                    self.number += 1
            if batch:
                log.writelines(generator.log_line(*event) + "\n" for event in batch)
                log.flush()
                os.fdatasync(log.fileno())
                client = self.publish(client, batch, log)
            time.sleep(self.tick_s)

    def publish(self, client, batch, log):
        while batch:
            try:
                client = client or self.servers.client()
                replies = client.offer(lib.WRITER, [body for _, _, body in batch])
            except OSError:  # it is not known what the broker has of it
                self.unknown += len(batch)
                client = None
                time.sleep(0.1)
                continue
            left = []
            for event, reply in zip(batch, replies):
                if isinstance(reply, lib.REFUSALS):
                    self.refused += 1
                    left.append(event)
                else:
                    self.stored += 1
                    log.write(json.dumps({"n": event[0], "id": reply}) + "\n")
            log.flush()
            batch = left
            if left:
                time.sleep(0.05)
        return client
