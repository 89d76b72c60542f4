"""A real server whose processes are killed, or told to stop, while it has work to do."""

import asyncio
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest
from model_folders import save_model
from service_doubles import check_problem, score, tiny_cascade, until
from service_process import Server, is_running, server, wait

from pcdm_core.model import save_pretrained
from pcdm_core.scoring import CascadeScorer
from service import Settings

from hostile_images import encode, photo  # isort: skip  # found through service_doubles

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks processes up in /proc")

PHOTOS = [photo(8, 8).rotate(angle) for angle in (0, 90, 180, 270)]


@pytest.fixture
def model(tmp_path: Path) -> Path:
    save_pretrained(tiny_cascade(), tmp_path / "toy")
    return tmp_path / "toy"


@pytest.fixture(scope="module")
def lasting(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One that has outlived whatever has been done to it so far; a start takes many times as long as a test."""
    model = tmp_path_factory.mktemp("lasting") / "toy"
    save_model(model, 1)
    with server(model) as running:
        yield running


def connect(running: Server) -> httpx.AsyncClient:
    return httpx.AsyncClient(base_url=running.url, trust_env=False, timeout=30)


async def test_a_killed_worker_costs_no_request_its_answer(lasting: Server) -> None:
    calm = CascadeScorer.from_pretrained(lasting.log.parent / "toy")
    pixels = np.stack([np.asarray(one).transpose(2, 0, 1) for one in PHOTOS])
    expected = [one.bits_per_dim for one in calm.score(pixels)]
    # When each request was sent, and its answer.
    answers: list[tuple[float, httpx.Response]] = []
    async with connect(lasting) as client:
        ending = False

        async def ask(which: int) -> None:
            while not ending:
                sent = time.monotonic()
                answer = await score(client, ("a.png", encode(PHOTOS[which])), ("b.png", encode(PHOTOS[0])))
                answers.append((sent, answer))
                if answer.status_code == 200:
                    found = [one["bits_per_dim"] for one in answer.json()["results"]]
                    assert found == pytest.approx([expected[which], expected[0]], abs=1e-4)
                else:
                    check_problem(answer, 503)
                    assert answer.headers["retry-after"] == "1"
                    await asyncio.sleep(0.05)

        asking = [asyncio.create_task(ask(which)) for which in (0, 1, 2, 3)]
        for _ in range(2):
            before = len(answers)
            await until(lambda count=before: len(answers) > count + 8)  # type: ignore[misc]
            killed, pid = time.monotonic(), lasting.worker
            os.kill(pid, signal.SIGKILL)
            async with asyncio.timeout(10):
                while lasting.worker == pid or not any(  # noqa: ASYNC110 - as any client has to
                    sent > killed + 0.5 and answer.status_code == 200 for sent, answer in answers
                ):
                    await asyncio.sleep(0.05)
        ending = True
        await asyncio.gather(*asking)


async def test_while_one_of_two_workers_is_replaced_the_other_answers(model: Path) -> None:
    with server(model, workers=2) as running:
        wait(lambda: len(running.workers) == 2, 30)
        async with connect(running) as client:
            assert (await client.get("/models/toy")).status_code == 200
            for worker in running.workers:
                before = len(running.workers)
                os.kill(worker, signal.SIGKILL)
                statuses = {}
                while len(running.workers) == before:
                    answer = await score(client, ("a.png", encode(PHOTOS[0])))
                    statuses[answer.status_code] = answer.text
                assert set(statuses) == {200}, statuses
        assert len(set(running.workers)) == 4


def test_the_server_gives_way_to_its_workers(lasting: Server) -> None:
    check_priorities(lasting, lower=Settings.model_fields["niceness"].default)


def test_the_server_gives_way_to_its_workers_as_far_as_it_is_told_to(model: Path) -> None:
    with server(model, niceness=3) as running:
        check_priorities(running, lower=3)


def check_priorities(running: Server, *, lower: int) -> None:
    """That a worker has the priority of whoever started the server, the second one too, and the server a lower one."""
    own, before = os.getpriority(os.PRIO_PROCESS, 0), len(running.workers)
    os.kill(running.worker, signal.SIGKILL)
    wait(lambda: len(running.workers) > before and running.is_ready(), 30)
    assert os.getpriority(os.PRIO_PROCESS, running.worker) == own
    assert os.getpriority(os.PRIO_PROCESS, running.process.pid) == min(own + lower, 19)


async def test_a_server_that_is_told_to_stop_finishes_its_requests(model: Path) -> None:
    with server(model) as running:
        worker = running.worker
        async with connect(running) as client:
            files = [("a.png", encode(PHOTOS[0]))] * 64
            long = asyncio.create_task(score(client, *files, fidelity="exact"))
            await asyncio.sleep(0.5)
            running.process.terminate()
            await asyncio.sleep(0.2)
            problem = check_problem(await score(client, ("a.png", encode(PHOTOS[0]))), 503)
            assert problem["type"].endswith("stopping")
            check_problem(await client.get("/readyz"), 503)
            assert not long.done()
            assert (await long).status_code == 200
        assert await asyncio.to_thread(running.process.wait, 10) in (0, -signal.SIGTERM)
        assert "Traceback" not in running.log.read_text()
    wait(lambda: not is_running(worker), 5)


def test_a_closed_socket_frees_its_units(lasting: Server) -> None:
    with httpx.Client(base_url=lasting.url, trust_env=False, timeout=30) as client:

        def units() -> float:
            return float(re.findall(r"^pcdm_queue_units\{.*\} (\S+)$", client.get("/metrics").text, re.MULTILINE)[0])

        files = [("files", ("a.png", encode(PHOTOS[0]), "image/png"))] * 256
        request = client.build_request("POST", "/score?fidelity=exact", files=files)
        head = "".join(f"{name}: {value}\r\n" for name, value in request.headers.items())
        with socket.create_connection(("127.0.0.1", request.url.port or 0)) as asking:
            asking.sendall(f"POST /score?fidelity=exact HTTP/1.1\r\n{head}\r\n".encode() + request.read())
            wait(lambda: units() >= 256, 20)
        wait(lambda: units() == 0, 10)
        assert client.post("/score", files=files[:1]).status_code == 200


def test_a_client_that_does_not_read_its_answer_does_not_keep_a_server_from_stopping(model: Path) -> None:
    with server(model, request_timeout_ms=1000) as running, socket.socket() as idle:
        idle.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        idle.connect(("127.0.0.1", httpx.URL(running.url).port))
        for _ in range(8):  # more together than the kernel takes for one that reads nothing
            idle.sendall(b"GET /docs/swagger-ui-bundle.js HTTP/1.1\r\nHost: here\r\n\r\n")
            time.sleep(0.3)  # one after the other, as far as the server can tell
        running.process.terminate()
        with pytest.raises(subprocess.TimeoutExpired):
            running.process.wait(1)
        assert running.process.wait(15) in (0, -signal.SIGTERM)


def test_no_worker_outlives_a_killed_server(model: Path) -> None:
    with server(model) as running:
        worker = running.worker
        assert is_running(worker)
        running.process.kill()
        wait(lambda: not is_running(worker), 5)
