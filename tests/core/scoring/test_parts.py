"""Batches in parts, beside one another on the cores of a CPU."""

import threading
from collections.abc import Iterator, Sequence

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tiny_scorers import random_pictures, small_scorer

from pcdm_core.scoring import FIDELITIES, Fidelity, FidelityName, Unit
from pcdm_core.scoring.parts import LEAST, run_in_parts
from pcdm_core.scoring.prediction import Latents, Prediction


@given(count=st.integers(0, 40), threads=st.integers(1, 5))
def test_results_are_in_order_whatever_the_parts(count: int, threads: int) -> None:
    sizes: list[int] = []

    def run(items: Sequence[int]) -> list[int]:
        sizes.append(len(items))
        return [item * item for item in items]

    assert run_in_parts(run, range(count), threads=threads) == [item * item for item in range(count)]
    assert sum(sizes) == count
    assert len(sizes) == max(1, min(threads, count // LEAST))
    assert len(sizes) == 1 or min(sizes) >= LEAST


def test_parts_run_at_the_same_time_and_share_the_threads() -> None:
    met, shares = threading.Barrier(2, timeout=10), []

    def run(items: Sequence[int]) -> list[int]:
        met.wait()
        shares.append(torch.get_num_threads())
        return list(items)

    before = torch.get_num_threads()
    assert run_in_parts(run, range(2 * LEAST), threads=5) == list(range(2 * LEAST))
    assert shares == [2, 2]
    assert torch.get_num_threads() == before


def test_what_one_part_raises_comes_after_the_others_have_ended() -> None:
    first_failed, ended = threading.Event(), []

    def run(items: Sequence[int]) -> list[int]:
        if 0 in items:
            first_failed.set()
            raise MemoryError("no room on purpose")
        assert first_failed.wait(10)
        ended.append(len(items))
        return list(items)

    with pytest.raises(MemoryError, match="no room on purpose"):
        run_in_parts(run, range(2 * LEAST), threads=2)
    assert ended == [LEAST]


def test_threads_that_start_later_have_as_many_as_before() -> None:
    before, found = torch.get_num_threads(), []
    run_in_parts(list, range(2 * LEAST), threads=2 * before + 2)
    later = threading.Thread(target=lambda: found.append(torch.get_num_threads()))
    later.start()
    later.join()
    assert found == [before]


@pytest.fixture
def three_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("three_threads")
@pytest.mark.parametrize("fidelity", ["fast", "exact"])
def test_scores_are_those_of_the_whole_batch(fidelity: FidelityName) -> None:
    scorer = small_scorer()
    images = random_pictures(9)
    settings = FIDELITIES[fidelity].model_copy(update={"nodes": 2})
    parts = scorer.score(images, settings)
    torch.set_num_threads(1)
    for one, other in zip(scorer.score(images, settings), parts, strict=True):
        assert one.bits_per_dim == pytest.approx(other.bits_per_dim, abs=1e-5)
        np.testing.assert_allclose(one.features, other.features, atol=1e-3)


@pytest.mark.usefixtures("three_threads")
@pytest.mark.parametrize("activations", [False, True])
def test_a_batch_is_cut(activations: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    scorer = small_scorer()
    found: list[int] = []
    predict = scorer.predict

    def watched(latents: Latents, units: Sequence[Unit]) -> Prediction:
        found.append(len(units))
        return predict(latents, units)

    monkeypatch.setattr(scorer, "predict", watched)
    scorer.score(random_pictures(9), Fidelity(nodes=2, activations=activations))
    assert found == [6] * 6
