"""How the bound is taken: by an estimate of the integral or a certified sum, and what is told of its errors."""

from itertools import pairwise

import numpy as np
import pytest
from tiny_scorers import random_pictures, small_scorer

from pcdm_core.scoring import Fidelity, Score


def mean_bits(scores: list[Score]) -> float:
    return float(np.mean([score.bits_per_dim for score in scores]))


@pytest.mark.parametrize("method", ["bound", "certified"])
@pytest.mark.parametrize(("transform", "scales"), [("identity", 1), ("haar", 3), ("downsample", 2)])
def test_nodes_sum_to_the_terms(transform: str, scales: int, method: str) -> None:
    fidelity = Fidelity.model_validate({"method": method, "nodes": 4, "replicates": 2})
    score = small_scorer(transform, scales).score(random_pictures(1), fidelity)[0]
    assert score.diffusion is not None
    assert score.diffusion.shape == (scales, 4)
    for scale in range(1, scales + 1):
        assert score.diffusion[scale - 1].sum() == pytest.approx(score.terms[f"diffusion_scale_{scale}"], abs=1e-9)


def test_certified_sum_falls_towards_the_integral() -> None:
    scorer, images = small_scorer(), random_pictures(16)
    certified = [
        mean_bits(scorer.score(images, Fidelity(method="certified", nodes=nodes, noise="keyed")))
        for nodes in (2, 6, 24, 96)
    ]
    integral = mean_bits(scorer.score(images, Fidelity(nodes=48, noise="keyed")))
    assert all(before > after for before, after in pairwise(certified))
    assert certified[-1] == pytest.approx(integral, rel=0.15)
    assert certified[-1] > integral


def test_methods_share_a_batch() -> None:
    scorer, images = small_scorer(), random_pictures(2)
    settings = [Fidelity(method="certified", nodes=3), Fidelity(nodes=3)]
    plans = [[u for u in scorer.plan(images, fidelity) if u.scale == 2] for fidelity in settings]
    together = scorer.run(plans[0] + plans[1])
    for one, other in zip(together, scorer.run(plans[0]) + scorer.run(plans[1]), strict=True):
        np.testing.assert_allclose(one.values, other.values, rtol=1e-4)


def test_the_embedded_rule_tells_how_far_few_nodes_are_off() -> None:
    scorer, images = small_scorer(), random_pictures(16)

    def told_and_true(nodes: int) -> tuple[float, float]:
        scores = scorer.score(images, Fidelity(nodes=nodes, noise="keyed"))
        told = float(np.mean([score.embedded_bits_per_dim for score in scores]))
        return abs(told - mean_bits(scores)), abs(mean_bits(scores) - reference)

    reference = mean_bits(scorer.score(images, Fidelity(nodes=64, noise="keyed")))
    few_told, few_true = told_and_true(3)
    many_told, _ = told_and_true(24)
    assert few_told > few_true
    assert many_told < few_told


@pytest.mark.parametrize("fidelity", [Fidelity(nodes=1), Fidelity(method="certified", nodes=4)])
def test_without_an_embedded_rule_nothing_is_told(fidelity: Fidelity) -> None:
    assert small_scorer().score(random_pictures(1), fidelity)[0].embedded_bits_per_dim is None
