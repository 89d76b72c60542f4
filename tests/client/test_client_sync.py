"""The blocking client, over real sockets."""

import contextlib
import queue
import signal
import socket
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from client_doubles import direct, serving_in_thread

from pcdm_client import (
    Client,
    ConnectionFailedError,
    DeadlinePassedError,
    ImageRefusedError,
    RetryPolicy,
)
from pcdm_core.model import save_pretrained
from service import Settings

# isort: split
from service_doubles import SteeredModel, steered, tiny_cascade, tiny_scorer
from service_process import server, wait

from hostile_images import encode, photo  # isort: skip  # found through service_doubles

PHOTO = encode(photo(8, 8))


@pytest.fixture
def scorer() -> Iterator[SteeredModel]:
    """A model that answers at once, unless the test closes its gate."""
    steered_model = SteeredModel()
    steered_model.gate.set()
    yield steered_model
    steered_model.gate.set()


@pytest.fixture
def client(scorer: SteeredModel) -> Iterator[Client]:
    with serving_in_thread(scorer, Settings(max_batch=1, max_images=3, max_queue_cost=2)) as url, direct(url) as one:
        yield one


def in_background(client: Client, *values: int) -> "queue.SimpleQueue[list[float]]":
    """Score images in a thread; what they got is put into the queue."""
    found: queue.SimpleQueue[list[float]] = queue.SimpleQueue()
    images = [steered(value) for value in values]
    threading.Thread(target=lambda: found.put([one.bits_per_dim for one in client.score(images).results])).start()
    return found


def test_images_are_scored_in_order(client: Client) -> None:
    assert client.ready()
    assert client.healthy()
    assert [one.bits_per_dim for one in client.score([steered(1), steered(2)]).results] == [1, 2]
    many = client.score_many((steered(value) for value in range(1, 9)), batch_size=5)
    assert [one.bits_per_dim for one in many] == [*range(1, 9)]


def test_a_client_may_be_shared_by_threads(client: Client) -> None:
    found = [in_background(client, value) for value in (1, 2)]
    assert [one.get(timeout=60) for one in found] == [[1], [2]]


def test_a_broken_image_is_named(client: Client) -> None:
    with pytest.raises(ImageRefusedError) as caught:
        client.score(PHOTO[:-40])
    assert (caught.value.source, caught.value.reason) == ("images[0]", "truncated")


def test_an_overloaded_service_is_asked_again_when_it_said(scorer: SteeredModel) -> None:
    slept: list[float] = []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        scorer.gate.set()
        assert held.get(timeout=60) == [1, 2]

    with serving_in_thread(scorer, Settings(max_queue_cost=2)) as url, direct(url, sleep=sleep) as client:
        scorer.gate.clear()
        held = in_background(client, 1, 2)
        wait(scorer.started.is_set, 60)
        assert client.score(steered(3)).results[0].bits_per_dim == 3
    assert len(slept) == 1
    assert slept[0] >= 1


def test_a_service_that_loads_its_model_is_asked_again() -> None:
    gate = threading.Event()
    slept: list[float] = []

    def load(_: Path) -> Any:
        assert gate.wait(60)
        return tiny_scorer()

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        gate.set()
        wait(one.ready, 60)

    with serving_in_thread(None, load=load) as url, direct(url, sleep=sleep) as one:
        assert (one.healthy(), one.ready()) == (True, False)
        assert one.score(PHOTO).model == "cifar10-haar"
    assert len(slept) == 1
    assert slept[0] >= 1


def test_past_its_deadline_a_request_is_given_up(client: Client, scorer: SteeredModel) -> None:
    scorer.gate.clear()
    with pytest.raises(DeadlinePassedError):
        client.score([steered(1), steered(2)], timeout=0.3)
    scorer.gate.set()
    assert client.score(steered(3)).results[0].bits_per_dim == 3


@contextlib.contextmanager
def trickling() -> Iterator[tuple[str, threading.Thread]]:
    """A server that sends a byte of a header every now and then for 20 s: its URL, and what sends."""
    enough = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer() -> None:
            connection, _ = listener.accept()
            with connection, contextlib.suppress(OSError):
                connection.sendall(b"HTTP/1.1 200 OK\r\nX-Slow: ")
                for _ in range(400):
                    if enough.wait(0.05):
                        return
                    connection.sendall(b".")

        thread = threading.Thread(target=answer)
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}", thread
        finally:
            enough.set()
            thread.join(60)


def test_a_server_that_trickles_does_not_outlast_the_deadline() -> None:
    with trickling() as (url, sending), direct(url, timeout=0.5) as client:
        with pytest.raises(DeadlinePassedError, match=r"no answer after 0\.5 s"):
            client.score(PHOTO)
        assert sending.is_alive()


def test_a_service_that_is_not_there_is_told_with_its_cause() -> None:
    slept: list[float] = []
    with direct(
        "http://127.0.0.1:9", sleep=slept.append, retries=RetryPolicy(most=3, first=1), draw=lambda: 0.5
    ) as one:
        with pytest.raises(ConnectionFailedError) as caught:
            one.score(PHOTO)
        assert (one.healthy(), one.ready()) == (False, False)
    assert isinstance(caught.value.__cause__, httpx.ConnectError)
    assert slept == [0.5, 1, 2]


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="as the service's own tests of killed servers")
def test_a_killed_server_is_asked_again_once_it_is_back(tmp_path: Path) -> None:
    save_pretrained(tiny_cascade(), tmp_path / "toy")
    slept: list[float] = []
    with contextlib.ExitStack() as stack:
        running = stack.enter_context(server(tmp_path / "toy"))

        def sleep(seconds: float) -> None:
            slept.append(seconds)
            running.process.wait(60)
            if len(slept) == 2:  # refused connections first
                port = httpx.URL(running.url).port
                assert port is not None
                stack.enter_context(serving_in_thread(tiny_scorer(), port=port))

        client = stack.enter_context(direct(running.url, sleep=sleep))
        assert client.score(PHOTO).model == "toy"
        # Stopped, it takes the request and never answers.
        running.process.send_signal(signal.SIGSTOP)
        killing = threading.Timer(0.5, running.process.send_signal, [signal.SIGKILL])
        killing.start()
        assert client.score(PHOTO).model == "cifar10-haar"
        killing.join()
    assert len(slept) == 2
