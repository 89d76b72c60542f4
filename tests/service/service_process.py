"""A server as anybody runs it: the command, in a process of its own."""

import contextlib
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx

from pcdm_client import Client

ROOT = Path(__file__).parents[2]
COMMAND = (sys.executable, "-c", "from pcdm_core.cli import app; app()", "serve", "--port", "0")


@dataclass(frozen=True)
class Server:
    """A running `pcdm serve` and what it has written."""

    process: subprocess.Popen[bytes]
    log: Path

    @property
    def url(self) -> str:
        found = re.search(r"listening on (http://\S+),", self.log.read_text())
        return found[1] if found else "http://127.0.0.1:9"  # nobody listens there

    @property
    def worker(self) -> int:
        """Id of the newest worker process."""
        return self.workers[-1]

    @property
    def workers(self) -> list[int]:
        """Ids of all worker processes so far."""
        return [int(pid) for pid in re.findall(r"the worker is up \(process (\d+)\)", self.log.read_text())]

    def is_ready(self) -> bool:
        assert self.process.poll() is None, self.log.read_text()
        with Client(self.url, transport=httpx.HTTPTransport()) as client:  # through no proxy
            return client.ready(timeout=5)


@contextlib.contextmanager
def server(model: Path, **settings: object) -> Iterator[Server]:
    """A server that is ready; killed at the end, if it has not ended by then. `models` stands for `model`."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PCDM_")}
    environment |= {f"PCDM_{name.upper()}": str(value) for name, value in settings.items()} | {"OMP_NUM_THREADS": "1"}
    log = model.parent / "log"
    with log.open("wb") as file:
        command = [*COMMAND] if "models" in settings else [*COMMAND, "--model", str(model)]
        process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=file, stderr=file)
    running = Server(process, log)
    try:
        wait(running.is_ready, 90)
        yield running
    finally:
        process.kill()
        process.wait(10)


def wait(condition: Callable[[], bool], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def is_running(pid: int) -> bool:
    """Whether the process is there, and not only its exit status."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
