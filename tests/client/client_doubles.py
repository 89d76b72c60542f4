"""What the client's tests share: a real server in a thread, for clients that block, and images for it."""

import contextlib
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import uvicorn

# The models under a test's control live with the service's tests; pytest finds only a test's own folder.
sys.path.append(str(Path(__file__).parents[1] / "service"))

from service_doubles import SETTINGS, in_thread  # isort: skip
from service_process import wait  # isort: skip

from pcdm_client import Client
from service import Settings, create_app

ROOT = Path(__file__).parents[2]


@contextlib.contextmanager
def serving_in_thread(
    scorer: Any, settings: Settings = SETTINGS, *, port: int = 0, load: Callable[[Path], Any] | None = None
) -> Iterator[str]:
    """The URL of a server on a real socket; without `load`, its model is there already."""
    app = create_app(settings, load=load or (lambda _: scorer), launch=in_thread)
    server = uvicorn.Server(uvicorn.Config(app, port=port, log_config=None, lifespan="on"))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        wait(lambda: server.started, 60)
        url = f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
        if load is None:
            with direct(url) as client:
                wait(client.ready, 60)
        yield url
    finally:
        server.should_exit = True
        thread.join(60)


def direct(url: str, **arguments: Any) -> Client:
    """A client that goes through no proxy, whatever the environment says."""
    return Client(url, transport=httpx.HTTPTransport(), **arguments)
