"""The worker process: what it answers, how it dies, and that another comes."""

import asyncio
import contextlib
import ctypes
import os
import re
import resource
import signal
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from service_doubles import ONE_CALL, FragileScorer, tiny_cascade, until

from pcdm_core.model import UnavailableError, save_pretrained
from pcdm_core.scoring import Unit, UnitResult
from service.backoff import Backoff
from service.batcher import Batcher
from service.frames import packed
from service.runner import ModelFailedError, NotRunError, RefusedError, WorkerDiedError
from service.runners import Runners
from service.worker import Worker


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "tiny"
    save_pretrained(tiny_cascade(), folder)
    return folder


@pytest.fixture(scope="module")
def scorer(folder: Path) -> FragileScorer:
    return FragileScorer.from_pretrained(folder)


def die_loading(_: Path) -> Any:
    os._exit(3)


@contextlib.asynccontextmanager
async def working(
    folder: Path, digest: str, load: Callable[[Path], Any] = FragileScorer.from_pretrained
) -> AsyncIterator[Worker]:
    worker = Worker(load, folder, digest, backoff=Backoff(time.monotonic, first=0.01))
    try:
        yield worker
    finally:
        await worker.stop()


async def until_up(worker: Worker) -> int:
    """Wait for a worker, and return its process's id."""
    async with asyncio.timeout(60):
        await worker.until_up()
    assert worker.pid is not None
    return worker.pid


def photos(*first_pixels: int) -> Any:
    images = np.random.default_rng(1).integers(1, 253, (len(first_pixels), 3, 8, 8), dtype=np.uint8)
    images[:, 0, 0, 0] = first_pixels
    return images


def plan(scorer: FragileScorer, *first_pixels: int) -> list[Unit]:
    """Units of the finest scale."""
    return [unit for unit in scorer.plan(photos(*first_pixels), ONE_CALL) if unit.scale == 2]


def is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.skipif(not Path("/proc").exists(), reason="the environment of a process is read from /proc")
async def test_threads_of_the_networks_do_not_take_each_others_processor(folder: Path, scorer: FragileScorer) -> None:
    async with working(folder, scorer.digest) as worker:
        environment = await asyncio.to_thread(Path(f"/proc/{await until_up(worker)}/environ").read_bytes)
    assert b"GOMP_SPINCOUNT=10000" in environment.split(b"\0")


class Allocating:
    """Answers with the number of pages that it had to fetch each time for 64 MiB that are freed at once."""

    digest, device = "", "cpu"

    def run(self, units: Sequence[Unit]) -> list[UnitResult]:
        marks = []
        for _ in range(5):
            marks.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt)
            torch.ones(2**24)
        return [UnitResult(np.diff(marks).astype(float)) for _ in units]


def load_allocating(_: Path) -> Allocating:
    return Allocating()


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallopt"), reason="only glibc can be told to keep memory")
async def test_a_batch_gets_the_memory_that_the_last_one_freed(folder: Path, scorer: FragileScorer) -> None:
    async with working(folder, "", load_allocating) as worker:
        await until_up(worker)
        (result,) = await worker.run(plan(scorer, 1))
    assert result.values[-1] < 64  # of 16,384


class Tuned:
    """Answers whether the C library was told how to allocate as its process was started."""

    digest, device = "", "cpu"

    def run(self, units: Sequence[Unit]) -> list[UnitResult]:
        told = Path("/proc", str(os.getpid()), "environ").read_bytes()
        return [UnitResult(np.array([float(b"GLIBC_TUNABLES=" in told)])) for _ in units]


def load_tuned(_: Path) -> Tuned:
    return Tuned()


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells what a process was started with")
async def test_a_worker_is_started_with_what_asks_for_huge_pages(folder: Path, scorer: FragileScorer) -> None:
    async with working(folder, "", load_tuned) as worker:
        await until_up(worker)
        (result,) = await worker.run(plan(scorer, 1))
    assert result.values == [1]


class Deriving:
    """Answers with the number of modules that a first derivative imports."""

    digest, device = "", "cpu"

    def run(self, units: Sequence[Unit]) -> list[UnitResult]:
        known = len(sys.modules)
        point = torch.ones(2, requires_grad=True)
        torch.autograd.grad(point.square(), point, grad_outputs=torch.ones(2))
        return [UnitResult(np.array([float(len(sys.modules) - known)])) for _ in units]


def load_deriving(_: Path) -> Deriving:
    return Deriving()


async def test_a_first_derivative_imports_nothing(folder: Path, scorer: FragileScorer) -> None:
    async with working(folder, "", load_deriving) as worker:
        await until_up(worker)
        (result,) = await worker.run(plan(scorer, 1))
    assert result.values == [0]


async def test_results_are_those_of_the_scorer_itself(folder: Path, scorer: FragileScorer) -> None:
    units = plan(scorer, 1, 2, 3)
    async with working(folder, scorer.digest) as worker:
        await until_up(worker)
        results = await worker.run(units)
    for result, expected in zip(results, scorer.run(units), strict=True):
        np.testing.assert_allclose(result.values, expected.values, rtol=1e-5)


async def test_an_exception_is_told_and_the_worker_goes_on(folder: Path, scorer: FragileScorer) -> None:
    async with working(folder, scorer.digest) as worker:
        pid = await until_up(worker)
        with pytest.raises(ModelFailedError, match="FloatingPointError: broken on purpose"):
            await worker.run(plan(scorer, 0))
        assert len(await worker.run(plan(scorer, 1))) == 1
        assert worker.pid == pid


async def test_a_worker_killed_while_idle_is_replaced(folder: Path, scorer: FragileScorer) -> None:
    async with working(folder, scorer.digest) as worker:
        pid = await until_up(worker)
        os.kill(pid, signal.SIGKILL)
        await until(lambda: not worker.up)
        assert await until_up(worker) != pid
        assert len(await worker.run(plan(scorer, 1))) == 1


async def test_a_batch_that_kills_its_worker_is_told(folder: Path, scorer: FragileScorer) -> None:
    async with working(folder, scorer.digest) as worker:
        await until_up(worker)
        with pytest.raises(WorkerDiedError):
            await worker.run(plan(scorer, 255))
        assert not worker.up
        with pytest.raises(WorkerDiedError):
            await worker.run(plan(scorer, 1))


async def test_a_batch_that_waits_behind_another_is_not_what_killed_the_worker(
    folder: Path, scorer: FragileScorer
) -> None:
    async with working(folder, scorer.digest) as worker:
        await until_up(worker)
        good, deadly, waiting = (asyncio.create_task(worker.run(plan(scorer, pixel))) for pixel in (1, 255, 2))
        assert len(await good) == 1
        with pytest.raises(WorkerDiedError):
            await deadly
        with pytest.raises(NotRunError):
            await waiting


@pytest.mark.skipif(not hasattr(signal, "SIGSTOP"), reason="stops a process")
async def test_a_worker_that_reads_nothing_holds_up_nobody_else(folder: Path, scorer: FragileScorer) -> None:
    units = plan(scorer, *[1] * 2000)
    assert len(packed(units)) > 2**18  # more than a socket takes in that nobody reads
    async with working(folder, scorer.digest) as worker:
        os.kill(await until_up(worker), signal.SIGSTOP)
        first, second, third = (asyncio.create_task(worker.run(units, limit=0.5)) for _ in range(3))
        async with asyncio.timeout(0.3):
            await asyncio.sleep(0.1)
        for batch, error in ((first, WorkerDiedError), (second, NotRunError), (third, NotRunError)):
            with pytest.raises(error):
                await batch


async def test_batches_are_answered_in_order_however_large(folder: Path, scorer: FragileScorer) -> None:
    sizes = (1, 2000, 1, 3, 900, 2)
    async with working(folder, scorer.digest) as worker:
        await until_up(worker)
        found = await asyncio.gather(*(worker.run(plan(scorer, *[1] * size)) for size in sizes))
    assert tuple(map(len, found)) == sizes


async def test_the_time_of_a_batch_begins_with_it(folder: Path, scorer: FragileScorer) -> None:
    async with working(folder, scorer.digest) as worker:
        await until_up(worker)
        hanging = asyncio.create_task(worker.run(plan(scorer, 253), limit=1.0))
        waiting = asyncio.create_task(worker.run(plan(scorer, 1), limit=0.1))
        done, _ = await asyncio.wait([hanging, waiting], timeout=0.6)
        assert not done
        with pytest.raises(WorkerDiedError, match=r"longer than 1 s"):
            await hanging
        with pytest.raises(NotRunError):
            await waiting


async def test_signals_to_the_whole_group_leave_the_worker_to_the_service(folder: Path, scorer: FragileScorer) -> None:
    async with working(folder, scorer.digest) as worker:
        pid = await until_up(worker)
        os.kill(pid, signal.SIGTERM)
        os.kill(pid, signal.SIGINT)
        assert len(await worker.run(plan(scorer, 1))) == 1


async def test_a_worker_that_dies_while_loading_is_not_started_hot(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with working(folder, "", die_loading) as worker:
        async with asyncio.timeout(60):
            while len(caplog.records) < 4:  # noqa: ASYNC110 - the log is no event of the loop
                await asyncio.sleep(0.01)
        assert not worker.up
    assert "the worker ended, before it had loaded the model (exit code 3)" in caplog.text
    assert re.findall(r"started in (\S+) s", caplog.text)[:4] == ["0.01", "0.02", "0.04", "0.08"]


def refuse_loading(_: Path) -> Any:
    raise UnavailableError("there is no such device")


class Vanishing:
    """Loads once; then what networks are to run with is there no more."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __call__(self, folder: Path) -> FragileScorer:
        if self.marker.exists():
            refuse_loading(folder)
        self.marker.touch()
        return FragileScorer.from_pretrained(folder)


async def test_a_worker_that_is_refused_is_not_started_again(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    async with working(folder, "", refuse_loading) as worker:
        async with asyncio.timeout(60):
            for wait in (worker.until_up, worker.until_started):
                with pytest.raises(RefusedError, match=r"^there is no such device$"):
                    await wait()
        assert not worker.up
        assert worker.device is None
        assert worker.restarts == 0
    assert "another is started" not in caplog.text


async def test_what_was_there_once_may_come_back(
    folder: Path, scorer: FragileScorer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    marker = tmp_path / "marker"
    async with working(folder, scorer.digest, Vanishing(marker)) as worker:
        os.kill(await until_up(worker), signal.SIGKILL)
        await until(lambda: "there is no such device; another is started" in caplog.text)
        marker.unlink()
        await until_up(worker)


async def test_the_worker_says_where_its_networks_run(
    folder: Path, scorer: FragileScorer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    async with working(folder, scorer.digest) as worker:
        pid = await until_up(worker)
        assert worker.device == "cpu"
    assert f"the worker is up (process {pid}) on cpu" in caplog.text


def hang_loading(_: Path) -> Any:
    threading.Event().wait()


async def test_a_worker_that_hangs_in_a_batch_is_killed_and_replaced(
    folder: Path, scorer: FragileScorer, caplog: pytest.LogCaptureFixture
) -> None:
    async with working(folder, scorer.digest) as worker:
        pid = await until_up(worker)
        with pytest.raises(WorkerDiedError, match=r"longer than 0\.2 s to run a batch, and was killed"):
            await worker.run(plan(scorer, 253), limit=0.2)
        assert not worker.up
        assert await until_up(worker) != pid
        assert not is_running(pid)
        assert len(await worker.run(plan(scorer, 1), limit=60)) == 1
    assert f"was killed (process {pid})" in caplog.text


@pytest.mark.skipif(not hasattr(signal, "SIGSTOP"), reason="stops a process")
async def test_a_worker_that_does_not_even_read_is_killed(folder: Path, scorer: FragileScorer) -> None:
    async with working(folder, scorer.digest) as worker:
        pid = await until_up(worker)
        os.kill(pid, signal.SIGSTOP)
        with pytest.raises(WorkerDiedError, match="was killed"):
            await worker.run(plan(scorer, *[1] * 6000), limit=0.2)  # more than a pipe holds
        assert await until_up(worker) != pid


async def test_a_batch_within_its_limit_is_left_alone(folder: Path, scorer: FragileScorer) -> None:
    async with working(folder, scorer.digest) as worker:
        pid = await until_up(worker)
        assert len(await worker.run(plan(scorer, 1), limit=30)) == 1
        assert worker.pid == pid


async def test_a_worker_that_hangs_while_loading_is_killed(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    worker = Worker(hang_loading, folder, "", load_limit=0.2)
    with pytest.raises(WorkerDiedError, match="to load the model, and was killed"):
        async with asyncio.timeout(60):
            await worker.until_started()
    await worker.stop()
    assert "before it had loaded the model (exit code -9)" in caplog.text


async def test_a_first_start_that_fails_is_told(tmp_path: Path) -> None:
    async with working(tmp_path, "") as worker:
        async with asyncio.timeout(60):
            with pytest.raises(WorkerDiedError, match=r"config\.json is missing"):
                await worker.until_started()


async def test_a_folder_with_another_model_is_refused(
    folder: Path, scorer: FragileScorer, caplog: pytest.LogCaptureFixture
) -> None:
    async with working(folder, "0123") as worker:
        await until(lambda: "has been replaced" in caplog.text)
        assert not worker.up
    assert scorer.digest in caplog.text


async def test_a_folder_that_cannot_be_loaded_any_more_is_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with working(tmp_path, ""):
        await until(lambda: "config.json is missing" in caplog.text)


async def test_a_worker_that_cannot_be_started_is_told(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    async with working(folder, "", lambda _: None) as worker:  # a lambda cannot be sent to another process
        await until(lambda: "cannot be talked to" in caplog.text)
        assert not worker.up
    assert "lambda" in caplog.text


@pytest.mark.parametrize("call", ["socket.socketpair", "threading.Thread.start"])
async def test_a_worker_that_lacks_what_it_needs_for_a_moment_is_started_again(
    folder: Path, scorer: FragileScorer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, call: str
) -> None:
    def fail(*_: object) -> None:
        raise OSError("too many of them")

    async with working(folder, scorer.digest) as worker:
        pid = await until_up(worker)
        with monkeypatch.context() as lacking:
            lacking.setattr(call, fail)
            os.kill(pid, signal.SIGKILL)
            await until(lambda: "too many of them" in caplog.text)
        assert await until_up(worker) != pid


async def test_stopping_ends_the_process(folder: Path, scorer: FragileScorer, caplog: pytest.LogCaptureFixture) -> None:
    async with working(folder, scorer.digest) as worker:
        pid = await until_up(worker)
    assert not is_running(pid)
    assert not [record for record in caplog.records if record.levelname != "INFO"]


async def test_only_the_request_of_the_deadly_image_fails(folder: Path, scorer: FragileScorer) -> None:
    async with working(folder, scorer.digest) as worker:
        batcher = Batcher(scorer, Runners([worker]), max_batch=16, max_queue_cost=1000)
        # All are planned before the worker is up, and so share its first batches.
        requests = [batcher.score(photos(*pixels), ONE_CALL) for pixels in ([1], [2, 255, 3], [4, 5])]
        async with asyncio.timeout(60):
            first, deadly, last = await asyncio.gather(*requests, return_exceptions=True)
        await batcher.stop()
    assert isinstance(deadly, WorkerDiedError)
    for answer, images in ((first, photos(1)), (last, photos(4, 5))):
        assert isinstance(answer, list)
        expected = [one.bits_per_dim for one in scorer.score(images, ONE_CALL)]
        assert [one.bits_per_dim for one in answer] == pytest.approx(expected, abs=1e-4)


async def test_what_does_not_fit_into_memory_together_runs_image_by_image(
    folder: Path, scorer: FragileScorer, caplog: pytest.LogCaptureFixture
) -> None:
    images = photos(2, 252, 3)
    async with working(folder, scorer.digest) as worker:
        batcher = Batcher(scorer, Runners([worker]), max_batch=16, max_queue_cost=1000)
        async with asyncio.timeout(60):
            answer = await batcher.score(images, ONE_CALL)
        await batcher.stop()
    alone = [scorer.score(images[index : index + 1], ONE_CALL)[0].bits_per_dim for index in range(3)]
    assert [one.bits_per_dim for one in answer] == pytest.approx(alone, abs=1e-4)
    assert "the worker ended (exit code 1)" in caplog.text
