"""The load generator of the benchmarks, on a real server: what it counts is what happened."""

import dataclasses
import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from model_folders import noise_images, save_model
from service_process import ROOT, Server, server

sys.path.append(str(ROOT / "benchmarks"))

from load_clients import Load, Plan, Requests, requests_of  # isort: skip

pytestmark = [
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks processes up in /proc"),
    # Not imported, as it would patch the standard library of all tests.
    pytest.mark.skipif(importlib.util.find_spec("locust") is None, reason="needs the extra `load`"),
]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("load") / "toy"
    save_model(folder, 1)
    return folder


@pytest.fixture(scope="module")
def running(model: Path) -> Iterator[Server]:
    with server(model, max_queue_cost=20) as one:
        yield one


@pytest.fixture
def requests(model: Path, tmp_path: Path) -> Requests:
    scorer = save_model(model, 1)
    return requests_of(scorer, noise_images(6), fidelity="fast", each=2, folder=tmp_path, headers={})


def test_clients_that_wait_have_all_their_turns_answered_rightly(running: Server, requests: Requests) -> None:
    with Load(Plan(running.url, requests, seconds=60, clients=1, turns=7)) as load:
        found = load.found()
    assert found.status.tolist() == [200] * 7
    assert found.right.all()
    assert (np.diff(found.at) >= found.seconds[:-1] - 1e-3).all()
    summary = found.summary(60)
    assert (summary["requests"], summary["wrong"], summary["refused"]) == (7, 0, 0)


def test_a_wrong_answer_is_found_out(running: Server, requests: Requests) -> None:
    other = tuple(tuple(value + 0.001 for value in values) for values in requests.expected)
    with Load(Plan(running.url, dataclasses.replace(requests, expected=other), seconds=60, clients=1, turns=3)) as load:
        assert load.found().summary(60)["wrong"] == 3


def test_requests_arrive_whether_or_not_others_are_answered(running: Server, requests: Requests) -> None:
    with Load(Plan(running.url, requests, seconds=2, rate=200)) as load:
        found = load.found()
    assert len(found.at) == pytest.approx(400, abs=100)  # five deviations of a Poisson number
    assert found.at.max() <= 2
    assert set(found.status) == {200, 429}  # so much at once is too much for so short a queue
    assert found.right.sum() == (found.status == 200).sum()
    assert found.invited.sum() == (found.status == 429).sum()


def test_where_nobody_listens_there_are_no_answers(requests: Requests) -> None:
    with Load(Plan("http://127.0.0.1:9", requests, seconds=60, clients=1, turns=2, patience=2)) as load:
        found = load.found()
    assert found.status.tolist() == [0, 0]
    assert not found.right.any()
