"""The flow through the seam: sequential units, draws, and what is told of them."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from tiny_scorers import random_pictures, small_cascade

from pcdm_core.likelihood import flow_log_density
from pcdm_core.scoring import CascadeScorer, Fidelity, Unit, UnitResult

FLOW = Fidelity(method="flow", nodes=6)


def calm_scorer(transform: str = "haar", **options: Any) -> CascadeScorer:
    """A few steps do only for a field without the fine structure of the lattice, and of networks that say little."""
    cascade = small_cascade(transform, lattice=False)
    with torch.no_grad():
        for parameter in cascade.predictors.parameters():
            parameter.mul_(0.1)
    return CascadeScorer(cascade, model_name="tiny", digest="0" * 64, **options)


def run_all(scorer: CascadeScorer, units: list[Unit]) -> Iterator[tuple[Unit, UnitResult]]:
    """One unit at a time, each followed to its end."""
    for first in units:
        unit: Unit | None = first
        while unit is not None:
            ran, (result,) = unit, scorer.run([unit])
            unit = scorer.follow(ran, result)
        yield ran, result


@pytest.mark.parametrize("transform", ["haar", "laplacian"])
def test_steps_add_up_to_the_density(transform: str) -> None:
    scorer, images = calm_scorer(transform), random_pictures(2)
    units = [unit for unit in scorer.plan(images, FLOW) if unit.scale > 0]
    stepped = [float(result.values[0]) for _, result in run_all(scorer, units)]
    latents = scorer.latents([units[0], units[2]])
    probes = scorer.noise([units[0], units[2]], ["probe", "probe"])
    whole = flow_log_density(scorer.cascade, latents.z0, steps=6, divergence="hutchinson", probes=probes).log_density
    np.testing.assert_allclose(np.reshape(stepped, (2, 2)), whole, rtol=1e-5)


def test_an_image_alone_and_among_others_has_the_same_likelihood() -> None:
    scorer, images = calm_scorer(), random_pictures(5)
    together = [score.bits_per_dim for score in scorer.score(images, FLOW)]
    alone = [scorer.score(image[None], FLOW)[0].bits_per_dim for image in images]
    assert together == pytest.approx(alone, abs=1e-5)


@pytest.mark.parametrize("size", [2, 64])
def test_the_batch_size_changes_nothing(size: int) -> None:
    images = random_pictures(3)
    one, other = (calm_scorer(batch_size=n).score(images, FLOW) for n in (size, 16))
    assert [s.bits_per_dim for s in one] == pytest.approx([s.bits_per_dim for s in other], abs=1e-5)


def test_terms_sum_to_the_total() -> None:
    scorer, image = calm_scorer(), random_pictures(1)
    for draws in (1, 3):
        score = scorer.score(image, FLOW.model_copy(update={"replicates": draws}))[0]
        assert sum(score.terms.values()) == pytest.approx(score.bits_per_dim, abs=1e-9)
        assert score.network_calls == 4 * 6 * 2 * draws


def test_draws_only_win() -> None:
    score = calm_scorer().score(random_pictures(1), FLOW.model_copy(update={"replicates": 4}))[0]
    assert score.terms["importance"] < 0
    assert score.stderr is not None
    assert score.stderr > 0


def test_draws_share_a_probe_but_not_their_latents() -> None:
    scorer = calm_scorer()
    plan = scorer.plan(random_pictures(1), FLOW.model_copy(update={"replicates": 2}))
    units = [unit for unit in plan if unit.scale == 1]
    probe, z0 = scorer.noise(units, ["probe"] * 2)[0], scorer.noise(units, ["z0"] * 2)[0]
    assert torch.equal(probe[0], probe[1])
    assert not torch.equal(z0[0], z0[1])


def test_units_of_different_steps_do_not_share_a_batch() -> None:
    scorer = calm_scorer()
    first = next(unit for unit in scorer.plan(random_pictures(1), FLOW) if unit.scale == 1)
    second = scorer.follow(first, scorer.run([first])[0])
    assert second is not None
    with pytest.raises(ValueError, match="one bucket"):
        scorer.run([first, second])


def test_units_of_the_bound_are_not_followed() -> None:
    scorer = calm_scorer()
    units = [unit for unit in scorer.plan(random_pictures(1), Fidelity(nodes=2)) if unit.scale == 1]
    assert [scorer.follow(unit, result) for unit, result in zip(units, scorer.run(units), strict=True)] == [None, None]


def test_a_map_that_loses_volume_has_no_exact_density() -> None:
    with pytest.raises(ValueError, match="no exact density with the downsample transform"):
        calm_scorer("downsample").score(random_pictures(1), FLOW)
