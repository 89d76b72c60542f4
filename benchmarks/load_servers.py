"""Servers that are put under load, each in processes of its own."""

from __future__ import annotations

import contextlib
import os
import re
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil

__all__ = ["SERVERS", "Server", "serving"]

PEERS = Path(__file__).with_name("load_peers.py")
SERVERS = {"pcdm": "this service", "litserve": "LitServe", "plain": "plain FastAPI"}
"""Those that are compared, as they are called in reports."""


@dataclass(frozen=True)
class Server:
    """A running server.

    Attributes:
        url: Of it.
        process: The one that listens, or has started those that do.
        log: What it writes.
    """

    url: str
    process: psutil.Process
    log: Path

    def client(self) -> httpx.Client:
        return httpx.Client(base_url=self.url, trust_env=False, timeout=60)

    def is_ready(self) -> bool:
        with contextlib.suppress(httpx.TransportError), self.client() as client:
            return client.get("/readyz").is_success
        return False

    @property
    def worker(self) -> psutil.Process:
        """The newest worker of this project's own service."""
        return psutil.Process(int(re.findall(r"the worker is up \(process (\d+)\)", self.log.read_text())[-1]))

    @property
    def everyone(self) -> list[psutil.Process]:
        """It and all processes that it has started."""
        return [self.process, *self.process.children(recursive=True)]

    def resident(self) -> int:
        """Bytes of memory of all of them."""
        return sum(one.memory_full_info().uss for one in self.everyone)

    def pause(self) -> None:
        """Stop all of them, as another server is to have the machine for itself."""
        for one in self.everyone:
            one.suspend()

    @contextlib.contextmanager
    def resumed(self) -> Iterator[None]:
        """Let it run for a while, after `pause`."""
        for one in self.everyone:
            one.resume()
        try:
            time.sleep(0.5)  # whatever was due in the meantime
            yield
        finally:
            self.pause()


@contextlib.contextmanager
def serving(kind: str, model: Path, **settings: object) -> Iterator[Server]:
    """A server that is ready, of a kind of `load_peers.py` or `pcdm`; `settings` are this project's own service's."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PCDM_")}
    environment |= {f"PCDM_{name.upper()}": str(value) for name, value in settings.items()}
    own = ["-c", "from pcdm_core.cli import app; app()", "serve", "--port", str(port), "--model", str(model)]
    command = own if kind == "pcdm" else [str(PEERS), kind, str(model), str(port)]
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder, "log")
        with log.open("wb") as file:
            process = subprocess.Popen([sys.executable, *command], env=environment, stdout=file, stderr=file)
        server = Server(f"http://127.0.0.1:{port}", psutil.Process(process.pid), log)
        try:
            _wait(server)
            yield server
        finally:
            for one in server.everyone:
                with contextlib.suppress(psutil.NoSuchProcess):
                    one.kill()
            process.wait()


def _wait(server: Server) -> None:
    until = time.monotonic() + 180
    while not server.is_ready():
        if not server.process.is_running() or time.monotonic() > until:
            raise RuntimeError(f"{server.url} is not ready: {server.log.read_text()}")
        time.sleep(0.1)
