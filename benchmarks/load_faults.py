"""What becomes of requests when things go wrong under load: of the service, of its clients, of the machine."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil
from load_clients import DEADLINE, Found, Load, Plan, Requests
from load_servers import Server, serving

__all__ = ["FAULTS", "faults", "memory"]

SECONDS, AT = 30.0, 10.0
"""Of each load, and when the fault happens."""

SAMPLE = ("a.png", Path(__file__).parents[1].joinpath("tests", "data", "samples", "cifar10.png").read_bytes())


def kill_worker(server: Server, requests: Requests) -> dict[str, Any]:  # noqa: ARG001 - as all faults
    """SIGKILL, as the kernel does when memory runs out."""
    server.worker.kill()
    return {}


def starve_worker(server: Server, requests: Requests) -> dict[str, Any]:  # noqa: ARG001
    """A worker gets no more memory than it has, and then a request that needs more."""
    worker = server.worker
    worker.rlimit(psutil.RLIMIT_AS, (worker.memory_info().vms, psutil.RLIM_INFINITY))
    with server.client() as client:
        status = client.post("/score?fidelity=exact", files=[("files", SAMPLE)] * 4, timeout=120).status_code
    return {"status": status, "worker_replaced": server.worker.pid != worker.pid}


def reload_model(server: Server, requests: Requests) -> dict[str, Any]:  # noqa: ARG001
    """The model is loaded anew, twice, while requests come in."""
    with server.client() as client:
        statuses = [client.post("/models/cifar10-haar/reload", timeout=60).status_code for _ in range(2)]
    return {"reloads": statuses}


def ask_much(server: Server, requests: Requests) -> dict[str, Any]:  # noqa: ARG001
    """A further client asks for sixteen images at `exact`, each of which takes many times as long as one at `fast`."""
    with server.client() as client:
        status = client.post("/score?fidelity=exact", files=[("files", SAMPLE)] * 16, timeout=120).status_code
    return {"status": status}


def hang_up(server: Server, requests: Requests) -> dict[str, Any]:
    """Two hundred further clients send a request each and are gone; then nothing of theirs is left."""
    body = Path(requests.bodies[0]).read_bytes()
    for _ in range(200):
        with _connected(server) as connection:
            connection.sendall(_request(requests, body))
        time.sleep(0.02)
    time.sleep(1)
    return {"pending_a_second_later": _metric(server, "pcdm_queue_units")}


def dawdle(server: Server, requests: Requests) -> dict[str, Any]:
    """Two hundred further clients send a byte of their request a second."""
    request = _request(requests, Path(requests.bodies[0]).read_bytes())
    with contextlib.ExitStack() as stack:
        connections = [stack.enter_context(_connected(server)) for _ in range(200)]
        for connection in connections:
            connection.sendall(request[:300])
        for second in range(15):
            for connection in connections:
                connection.sendall(request[300 + second : 301 + second])
            time.sleep(1)
    return {"slow_clients": len(connections)}


FAULTS: dict[str, tuple[str, Callable[[Server, Requests], dict[str, Any]]]] = {
    "none": ("nothing", lambda _server, _requests: {}),
    "kill": ("one of the workers is killed (SIGKILL)", kill_worker),
    "starve": ("a worker's memory runs out", starve_worker),
    "reload": ("the model is reloaded, twice", reload_model),
    "ask_much": ("16 images at `exact` are asked for", ask_much),
    "hang_up": ("200 further clients hang up at once", hang_up),
    "dawdle": ("200 further clients send a byte a second", dawdle),
}
"""By name: what it is called in the report, and what does it."""


def faults(model: Path, requests: Requests, *, rate: float) -> dict[str, Any]:
    """Each fault, in the middle of a load of so many requests a second."""
    found = {}
    for name, (_, cause) in FAULTS.items():
        with serving("pcdm", model, allow_reload=True) as server:
            with Load(Plan(server.url, requests, seconds=5)) as warming:
                warming.found()
            alive: list[bool] = []
            with Load(Plan(server.url, requests, SECONDS, rate=rate)) as load, _watched(server, alive):
                time.sleep(AT)
                began = time.time()
                told = cause(server, requests)
                lasted = time.time() - began
                rows = load.found()
            measured = {
                "fault_seconds": lasted,
                "until_as_before": _until_as_before(rows, began - rows.began),
                "always_alive": all(alive),
            }
            found[name] = rows.summary(SECONDS) | told | measured
    return found


def memory(model: Path, requests: Requests, *, count: int) -> dict[str, Any]:
    """Memory of all processes of the service, over so many requests from 8 clients, in ten parts."""
    with serving("pcdm", model) as server:
        resident, answered = [], 0
        for _ in range(11):  # the first warms up
            with Load(Plan(server.url, requests, 3600, clients=8, turns=count // 80)) as load:
                answered += int((load.found().status == 200).sum())
            resident.append(server.resident())
    return {"requests": answered, "resident": resident, "growth": resident[-1] / resident[0] - 1}


def _until_as_before(found: Found, fault: float) -> float:
    """Seconds from the fault on, until all requests that come are answered, and in time."""
    bad = (found.at + found.seconds >= fault) & ((found.status != 200) | (found.seconds > DEADLINE))
    return max(0.0, float(found.at[bad].max() - fault)) if bad.any() else 0.0


@contextlib.contextmanager
def _watched(server: Server, alive: list[bool]) -> Iterator[None]:
    """Ask ten times a second whether the API is there."""
    ending = threading.Event()

    def watch() -> None:
        with httpx.Client(base_url=server.url, trust_env=False, timeout=5) as client:
            while not ending.wait(0.1):
                try:
                    alive.append(client.get("/healthz").is_success)
                except httpx.TransportError:
                    alive.append(False)

    watching = threading.Thread(target=watch)
    watching.start()
    try:
        yield
    finally:
        ending.set()
        watching.join()


def _connected(server: Server) -> socket.socket:
    url = httpx.URL(server.url)
    return socket.create_connection((url.host, url.port))


def _request(requests: Requests, body: bytes) -> bytes:
    head = f"POST {requests.path} HTTP/1.1\r\nHost: server\r\nContent-Type: {requests.content_type}\r\n"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


def _metric(server: Server, name: str) -> float:
    with server.client() as client:
        lines = client.get("/metrics").text.splitlines()
    return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith((name + "{", name + " ")))
