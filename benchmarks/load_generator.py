"""A load on a server: requests that arrive whether or not earlier ones are answered, or from clients that wait.

    python benchmarks/load_generator.py PLAN.json RECORD.json

In a process of its own, as Locust patches the standard library. Plan and record are those of load_clients.py.
"""

from __future__ import annotations

import json
import math
import random
import resource
import sys
import time
from pathlib import Path
from typing import Any

import gevent
from gevent.pool import Group
from locust import FastHttpUser, task
from locust.env import Environment

PLAN: dict[str, Any] = json.loads(Path(sys.argv[1]).read_text())
ASKED = PLAN["requests"]
BODIES = [Path(file).read_bytes() for file in ASKED["bodies"]]
HEADERS = {"Content-Type": ASKED["content_type"], **ASKED["headers"]}
RANDOM = random.Random(PLAN["seed"])
ROWS: list[dict[str, Any]] = []
RECORD: dict[str, Any] = {"rows": ROWS}


class Client(FastHttpUser):
    """All clients: Locust's HTTP client takes the time, and many greenlets share it."""

    host = PLAN["url"]
    concurrency = 100_000
    connection_timeout = network_timeout = PLAN["patience"]

    @task
    def ask(self) -> None:
        began = time.perf_counter()
        RECORD["began"] = time.time()
        if PLAN["rate"] is None:
            crowd = Group()
            for number in range(PLAN["clients"]):
                crowd.spawn(self.take_turns, began, number)
        else:
            crowd = self.let_arrive(began)
        crowd.join()
        self.environment.runner.quit()

    def let_arrive(self, began: float) -> Group:
        """Requests at random moments, as of many clients who do not know of one another (a Poisson process)."""
        crowd, at = Group(), 0.0
        while True:
            at += RANDOM.expovariate(PLAN["rate"])
            if at > PLAN["seconds"]:
                return crowd
            gevent.sleep(max(0.0, began + at - time.perf_counter()))
            # From when it was due: a generator that is late must not hide a wait.
            crowd.spawn(self.send, began, at, RANDOM.randrange(len(BODIES)))

    def take_turns(self, began: float, number: int) -> None:
        """One client that sends when it has been answered."""
        sent = 0
        while (at := time.perf_counter() - began) < PLAN["seconds"] and sent < PLAN["turns"]:
            self.send(began, at, (number + sent * PLAN["clients"]) % len(BODIES))
            sent += 1

    def send(self, began: float, at: float, which: int) -> None:
        with self.client.post(ASKED["path"], data=BODIES[which], headers=HEADERS, catch_response=True) as answer:
            took = time.perf_counter() - began - at
            good = answer.status_code == 200
            ROWS.append(
                {
                    "at": at,
                    "seconds": took,
                    "status": answer.status_code,
                    "right": good and self.is_right(answer.json(), which),
                    "invited": answer.status_code == 429 and "Retry-After" in answer.headers,
                }
            )
            answer.success()

    @staticmethod
    def is_right(document: dict[str, Any], which: int) -> bool:
        found = [one["bits_per_dim"] for one in document["results"]]
        expected = ASKED["expected"][which]
        return len(found) == len(expected) and all(
            math.isclose(one, other, rel_tol=0, abs_tol=1e-4) for one, other in zip(found, expected, strict=True)
        )


def used() -> float:
    """Processor seconds of this process so far."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def main() -> None:
    runner = Environment(user_classes=[Client]).create_local_runner()
    began, before = time.perf_counter(), used()
    runner.start(1, spawn_rate=1)
    runner.greenlet.join()
    RECORD["cpu_share"] = (used() - before) / (time.perf_counter() - began)
    Path(sys.argv[2]).write_text(json.dumps(RECORD))


if __name__ == "__main__":
    main()
