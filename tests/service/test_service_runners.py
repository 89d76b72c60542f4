"""Several runners of one model, taken together, and the batches that they take from one queue."""

import asyncio
import threading
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

import pytest
from pydantic import ValidationError
from service_doubles import ONE_CALL, InThread, SteeredScorer, images_of, until

from pcdm_core.scoring import Unit, UnitResult
from service import Settings
from service.admission import OverloadedError
from service.batcher import Batcher
from service.runner import RefusedError, WorkerDiedError
from service.runners import Runners


class Refused(InThread):
    async def until_up(self) -> None:
        raise RefusedError("no such device")


def runners_of(count: int) -> tuple[list[InThread], Runners]:
    those = [InThread(lambda _: []) for _ in range(count)]
    return those, Runners(those)


async def test_as_many_are_up_as_are() -> None:
    those, runners = runners_of(2)
    assert runners.up == 2
    those[0].fall()
    assert runners.up == 1


@pytest.mark.parametrize(
    ("down", "event"),
    [
        pytest.param((0, 1), Runners.until_up, id="any of them is enough to go on"),
        pytest.param((1,), Runners.until_started, id="a start is over when all have started"),
    ],
)
async def test_what_is_waited_for_is_there_when_the_last_one_comes_up(
    down: Sequence[int], event: Callable[[Runners], Coroutine[None, None, None]]
) -> None:
    those, runners = runners_of(2)
    for place in down:
        those[place].fall()
    waiting = asyncio.create_task(event(runners))
    await asyncio.sleep(0.01)
    assert not waiting.done()
    those[1].rise()
    async with asyncio.timeout(10):
        await waiting


async def test_what_is_refused_is_told() -> None:
    runners = Runners([Refused(lambda _: []), Refused(lambda _: [])])
    with pytest.raises(RefusedError, match="no such device"):
        await runners.until_up()


async def test_restarts_are_those_of_all_and_stopping_ends_all() -> None:
    those, runners = runners_of(3)
    those[0].restarts, those[2].restarts = 1, 4
    assert runners.restarts == 5
    assert runners.device == "cpu"
    await runners.stop()
    assert runners.up == 0


async def test_batches_run_beside_one_another() -> None:
    scorer, both = SteeredScorer(), threading.Barrier(2)

    def run(units: Sequence[Unit]) -> list[UnitResult]:
        both.wait(10)  # breaks if there is never a second one
        return scorer.run(units)

    scorer.gate.set()
    batcher = Batcher(scorer, Runners([InThread(run), InThread(run)]), max_batch=4, max_queue_cost=1000)
    found = await batcher.score(images_of(1, 2, 3, 4, 5, 6, 7, 8), ONE_CALL)
    await batcher.stop()
    assert [one.bits_per_dim for one in found] == [1, 2, 3, 4, 5, 6, 7, 8]
    assert sorted(scorer.batches) == [[1, 2, 3, 4], [5, 6, 7, 8]]


async def test_who_comes_second_takes_what_makes_both_done_at_once() -> None:
    scorer, now = SteeredScorer(), 0.0
    runners = Runners([InThread(scorer.run), InThread(scorer.run)])
    batcher = Batcher(scorer, runners, max_batch=64, max_queue_cost=1000, clock=lambda: now)
    first = asyncio.create_task(batcher.score(images_of(1, 2, 3, 4), ONE_CALL))
    await until(scorer.started.is_set)
    now = 0.004  # a rate, without which nobody knows what is left of a batch
    scorer.gate.set()
    await first
    scorer.gate.clear()
    scorer.batches.clear()
    asked = asyncio.create_task(batcher.score(images_of(*range(1, 13)), ONE_CALL))
    await until(lambda: len(scorer.batches) == 2)
    assert [len(batch) for batch in scorer.batches] == [6, 6]
    scorer.gate.set()
    await asked
    await batcher.stop()


async def test_where_one_is_gone_the_other_goes_on_and_what_it_ran_is_tried_again() -> None:
    scorer = SteeredScorer()
    scorer.gate.set()

    def die(_: Sequence[Unit]) -> list[UnitResult]:
        dying.fall()
        raise WorkerDiedError("killed on purpose")

    dying, other = InThread(die), InThread(scorer.run)
    batcher = Batcher(scorer, Runners([dying, other]), max_batch=4, max_queue_cost=1000)
    async with asyncio.timeout(10):
        found = await batcher.score(images_of(1, 2, 3, 4, 5, 6, 7, 8), ONE_CALL)
        again = await batcher.score(images_of(9), ONE_CALL)
    await batcher.stop()
    assert [one.bits_per_dim for one in [*found, *again]] == [1, 2, 3, 4, 5, 6, 7, 8, 9]
    assert not dying.up


async def test_a_request_waits_for_all_that_runs_and_for_what_runs_beside_its_own_batch() -> None:
    scorer, now = SteeredScorer(), 0.0
    runners = Runners([InThread(scorer.run), InThread(scorer.run)])
    batcher = Batcher(scorer, runners, max_batch=4, max_queue_cost=1000, clock=lambda: now)
    first = asyncio.create_task(batcher.score(images_of(1, 2, 3, 4), ONE_CALL))
    await until(scorer.started.is_set)
    now = 0.8  # five units a second and runner
    scorer.gate.set()
    await first
    scorer.gate.clear()
    scorer.batches.clear()
    running = asyncio.create_task(batcher.score(images_of(1, 2, 3, 4, 5, 6, 7, 8), ONE_CALL))
    await until(lambda: len(scorer.batches) == 2)
    # A small request is ahead of what the large one has left: before it run two batches of two, with it one more unit,
    # and at the same time most of two on the other runner.
    assert [len(batch) for batch in scorer.batches] == [2, 2]
    within = (4 + 1 + 1 + 1.5) / 10 / 0.8  # as a fifth is kept back
    loop = asyncio.get_running_loop()
    batcher.check_room(1, ONE_CALL, loop.time() + within + 0.05)
    with pytest.raises(OverloadedError):
        batcher.check_room(1, ONE_CALL, loop.time() + within - 0.05)
    now = 1.0  # half of what runs is done
    batcher.check_room(1, ONE_CALL, loop.time() + within - 0.05)
    scorer.gate.set()
    await running
    await batcher.stop()


def test_workers_share_the_batch_and_the_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.get_num_threads", lambda: 6)
    found = [Settings(device="cpu", workers=workers, max_batch=256) for workers in (None, 1, 2, 3, 64)]
    assert [one.worker_count for one in found] == [4, 1, 2, 3, 64]
    assert [one.execution.threads for one in found] == [1, 6, 3, 2, 1]
    assert [one.execution.largest_batch for one in found] == [64, 256, 128, 85, 4]


@pytest.mark.parametrize("settings", [{"device": "cuda:5"}, {"device": "cpu", "compile": True}])
def test_there_is_a_single_worker_on_another_device_and_of_compiled_networks(
    settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.get_num_threads", lambda: 6)
    assert Settings(**settings).worker_count == 1  # the device is there or not: that is for the worker to say
    assert Settings(**settings, workers=2).worker_count == 2


@pytest.mark.parametrize("workers", ["0", "65", "two"])
def test_a_number_of_workers_that_cannot_be_is_refused(workers: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PCDM_WORKERS", workers)
    with pytest.raises(ValidationError, match="workers"):
        Settings()
