"""Compiled networks: the same scores, by few graphs."""

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny_scorers import OneLayer, random_pictures, small_scorer

from pcdm_core.model import UnavailableError
from pcdm_core.scoring import CascadeScorer, Execution, Fidelity, Score, Unit
from pcdm_core.scoring.compiled import CompiledNetworks

LADDER = (4, 16)
FAST = Fidelity(nodes=3)

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # torch's own, while it compiles


class Counting:
    """A backend of `torch.compile` that runs every graph as it is, and counts them."""

    graphs = 0

    def __call__(self, graph: torch.fx.GraphModule, _: list[torch.Tensor]) -> Callable[..., Any]:
        self.graphs += 1
        return graph.forward


@dataclass(frozen=True)
class Compiled:
    """A scorer of two scales that runs by graphs, of which every one is counted."""

    scorer: CascadeScorer
    backend: Counting


@pytest.fixture(scope="module")
def compiled() -> Compiled:
    scorer, backend = small_scorer(), Counting()
    networks = scorer._compiled = CompiledNetworks(scorer.cascade, LADDER, backend=backend)
    networks.warm_up(scorer._evaluate_blank)
    return Compiled(scorer, backend)


def of_scale(scorer: CascadeScorer, scale: int) -> list[Unit]:
    return [unit for unit in scorer.plan(random_pictures(14), FAST) if unit.scale == scale]


def assert_same(one: Score, other: Score) -> None:
    np.testing.assert_allclose(one.features, other.features, atol=1e-4, rtol=0)
    assert one.bits_per_dim == pytest.approx(other.bits_per_dim, abs=1e-6, rel=0)


def test_there_is_one_graph_for_each_scale_and_size_and_no_other_whatever_sizes_come(compiled: Compiled) -> None:
    assert compiled.backend.graphs == 2 * len(LADDER)
    for scale in (1, 2):
        units = of_scale(compiled.scorer, scale)
        for size in (*range(1, 10), 16, 17, 23, 42):
            assert len(compiled.scorer.run(units[:size])) == size
    assert compiled.backend.graphs == 2 * len(LADDER)


@pytest.mark.parametrize(
    "fidelity",
    [
        FAST,
        Fidelity(nodes=2, noise="keyed", replicates=2),
        Fidelity(method="certified", nodes=30),
        Fidelity(nodes=2, activations=True),
    ],
    ids=["fast", "replicates", "certified", "activations"],
)
def test_any_bound_runs_by_the_graphs_of_the_warm_up(compiled: Compiled, fidelity: Fidelity) -> None:
    images = random_pictures(3)
    for one, other in zip(compiled.scorer.score(images, fidelity), small_scorer().score(images, fidelity), strict=True):
        assert_same(one, other)
    assert compiled.backend.graphs == 2 * len(LADDER)


@pytest.mark.parametrize("size", [1, 3, 4, 5, 16, 17, 42])
def test_a_result_does_not_depend_on_the_size_of_the_batch_nor_on_padding(compiled: Compiled, size: int) -> None:
    units = of_scale(compiled.scorer, 2)
    for one, other in zip(compiled.scorer.run(units[:size]), small_scorer().run(units), strict=False):
        np.testing.assert_allclose(one.values, other.values, atol=1e-4, rtol=0)


def test_the_flow_stays_eager(monkeypatch: pytest.MonkeyPatch) -> None:
    class Refusing(CompiledNetworks):
        def observed(self, *_: Any) -> Any:
            raise AssertionError

    fidelity = Fidelity(method="flow", nodes=1)
    scorer = small_scorer()
    monkeypatch.setattr(scorer, "_compiled", Refusing(scorer.cascade, LADDER, backend=Counting()))
    images = random_pictures(2)
    for one, other in zip(scorer.score(images, fidelity), small_scorer().score(images, fidelity), strict=True):
        assert_same(one, other)


def test_a_missing_compiler_is_refused_by_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(UnavailableError, match=r"there is no C\+\+ compiler no-such-compiler; install it"):
        small_scorer().prepare(Execution(compiled=True))


def test_what_the_compiler_says_is_told() -> None:
    def broken(*_: Any) -> Any:
        raise OSError("no room on the disk")

    scorer = small_scorer()
    scorer._compiled = CompiledNetworks(scorer.cascade, LADDER, backend=broken)
    with pytest.raises(UnavailableError, match=r"cannot be compiled: .*no room on the disk"):
        scorer._compiled.warm_up(scorer._evaluate_blank)


@pytest.mark.skipif(shutil.which("g++") is None, reason="g++, which torch.compile needs, is not installed")
def test_machine_code_gives_the_scores_of_eager_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    plain, scorer = small_scorer("identity", 1), small_scorer("identity", 1)
    plain.cascade.predictors[0] = scorer.cascade.predictors[0] = OneLayer().eval()
    scorer.prepare(Execution(compiled=True, largest_batch=4))
    assert list(tmp_path.rglob("*.so"))
    images = random_pictures(3)
    for one, other in zip(scorer.score(images, FAST), plain.score(images, FAST), strict=True):
        assert_same(one, other)
