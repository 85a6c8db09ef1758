"""producer.py - publishes traffic at a pace from a thread, whatever happens to the service or to Redis.

Each event is in a log on disk before it is published; what Redis refused, or what became of it nobody
knows, is published again until Redis has it.
"""
import json
import os
import threading
import time

import generator
import lib


class Producer(threading.Thread):
    def __init__(self, servers, traffic, path, rate, tick_ms=20, total=None):
        super().__init__(daemon=True)
        self.servers, self.traffic, self.path = servers, traffic, path
        self.rate, self.tick_s, self.total = rate, tick_ms / 1000, total
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
        redis, began = None, time.monotonic()
        while not self.stopping and (self.total is None or self.number < self.total):
            due = int((time.monotonic() - began) * self.rate) - self.number
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
                redis = self.publish(redis, batch, log)
            time.sleep(self.tick_s)

    def publish(self, redis, batch, log):
        while batch:
            try:
                redis = redis or self.servers.redis()
                replies = redis.pipeline([lib.encode("XADD", lib.WRITER, "*", "data", body)
                                          for _, _, body in batch])
            except OSError:  # it is not known what Redis has of it
                self.unknown += len(batch)
                redis = None
                time.sleep(0.1)
                continue
            left = []
            for event, reply in zip(batch, replies):
                if isinstance(reply, lib.RedisError):
                    self.refused += 1
                    left.append(event)
                else:
                    self.stored += 1
                    log.write(json.dumps({"n": event[0], "id": reply.decode()}) + "\n")
            log.flush()
            batch = left
            if left:
                time.sleep(0.05)
        return redis
