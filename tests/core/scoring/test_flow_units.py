"""The flow through the seam: sequential units, draws, and what is told of them."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from tiny_scorers import random_pictures, small_cascade

from pcdm_core.likelihood import density_field, flow_log_density, noise_log_density, travel
from pcdm_core.scoring import FIDELITIES, CascadeScorer, Fidelity, FidelityName, Unit, UnitResult

FLOW = Fidelity(method="flow", nodes=6)
ADAPTIVE = Fidelity(method="flow", nodes=6, tolerance=1e-3)


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


@pytest.mark.parametrize("settings", [FLOW, ADAPTIVE])
@pytest.mark.parametrize("transform", ["haar", "laplacian"])
def test_steps_add_up_to_the_density(transform: str, settings: Fidelity) -> None:
    scorer, images = calm_scorer(transform), random_pictures(2)
    plan = [unit for unit in scorer.plan(images, settings) if unit.scale > 0]
    stepped = np.stack([result.values for _, result in run_all(scorer, plan)]).reshape(2, 2, 3)
    first, second = ([unit for unit in plan if unit.scale == scale] for scale in (1, 2))
    whole = flow_log_density(
        scorer.cascade,
        scorer.latents(first).z0,
        steps=settings.nodes,
        tolerance=settings.tolerance,
        divergence="hutchinson",
        probes=(scorer.probe(first), scorer.probe(second)),
    )
    np.testing.assert_allclose(stepped[..., 0], whole.log_density, rtol=1e-5)
    np.testing.assert_allclose(stepped[..., 1], whole.error, atol=1e-3)
    assert stepped[..., 2].tolist() == whole.network_calls.tolist()


@pytest.mark.parametrize("settings", [FLOW, ADAPTIVE])
def test_an_image_alone_and_among_others_has_the_same_likelihood(settings: Fidelity) -> None:
    scorer, images = calm_scorer(), random_pictures(3)
    together = [score.bits_per_dim for score in scorer.score(images, settings)]
    alone = [scorer.score(image[None], settings)[0].bits_per_dim for image in images]
    assert together == pytest.approx(alone, abs=1e-5)


@pytest.mark.parametrize("settings", [FLOW, ADAPTIVE])
@pytest.mark.parametrize("size", [2, 64])
def test_the_batch_size_changes_nothing(size: int, settings: Fidelity) -> None:
    images = random_pictures(3)
    one, other = (calm_scorer(batch_size=n).score(images, settings) for n in (size, 16))
    assert [s.bits_per_dim for s in one] == pytest.approx([s.bits_per_dim for s in other], abs=1e-5)


def test_terms_sum_to_the_total() -> None:
    scorer, image = calm_scorer(), random_pictures(1)
    for draws in (1, 3):
        score = scorer.score(image, FLOW.model_copy(update={"replicates": draws}))[0]
        assert sum(score.terms.values()) == pytest.approx(score.bits_per_dim, abs=1e-9)
        assert score.network_calls == 6 * 6 * 2 * draws


def test_draws_only_win() -> None:
    score = calm_scorer().score(random_pictures(1), FLOW.model_copy(update={"replicates": 4}))[0]
    assert score.terms["importance"] < 0
    assert score.stderr is not None
    assert score.stderr > 0


def test_draws_share_a_probe_but_not_their_latents() -> None:
    scorer = calm_scorer()
    plan = scorer.plan(random_pictures(1), FLOW.model_copy(update={"replicates": 2}))
    units = [unit for unit in plan if unit.scale == 1]
    probe, z0 = scorer.probe(units), scorer.noise(units, ["z0"] * 2)[0]
    assert torch.equal(probe[0], probe[1])
    assert not torch.equal(z0[0], z0[1])


def test_units_of_different_steps_share_a_batch() -> None:
    scorer = calm_scorer()
    first, other = (unit for unit in scorer.plan(random_pictures(2), FLOW) if unit.scale == 1)
    second = scorer.follow(first, scorer.run([first])[0])
    assert second is not None
    alone = [scorer.run([unit])[0].state for unit in (second, other)]
    together = [result.state for result in scorer.run([second, other])]
    for one, two in zip(alone, together, strict=True):
        assert one is not None
        assert two is not None
        np.testing.assert_allclose(one.z, two.z, atol=1e-6)
        assert (one.gamma, one.calls) == (two.gamma, two.calls)
        assert one.growth == pytest.approx(two.growth, abs=1e-4)


def test_every_image_has_steps_of_its_own() -> None:
    scorer = calm_scorer()
    images = np.concatenate((random_pictures(3), np.zeros((1, 3, 8, 8), np.uint8)))
    scores = scorer.score(images, ADAPTIVE)
    assert len({score.network_calls for score in scores}) > 1


def test_a_tolerance_is_reached_and_its_error_told() -> None:
    scorer, images = calm_scorer(), random_pictures(3)
    exact = scorer.score(images, FLOW.model_copy(update={"nodes": 32}))
    for score, true in zip(scorer.score(images, ADAPTIVE), exact, strict=True):
        assert score.time_error is not None
        assert abs(score.bits_per_dim - true.bits_per_dim) < 0.01


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"tolerance": 1e-3}, "tolerance: only the flow has one, the method is bound"),
        ({"method": "certified", "divergence": "exact"}, "divergence: only the flow has one, the method is certified"),
        ({"method": "flow", "rule": "time"}, "rule: only the bound has one, the method is flow"),
    ],
)
def test_a_setting_of_another_method_is_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Fidelity.model_validate(settings)


def test_settings_are_those_of_the_method() -> None:
    shared = {"method", "nodes", "seed", "noise", "replicates"}
    assert Fidelity().settings().keys() == shared | {"rule"}
    assert Fidelity(method="certified").settings().keys() == shared
    assert FLOW.settings().keys() == shared | {"tolerance", "divergence"}


def test_the_exact_divergence_is_what_probes_give_on_average() -> None:
    scorer, image = calm_scorer(), random_pictures(1)
    exact = scorer.score(image, FLOW.model_copy(update={"nodes": 2, "divergence": "exact"}))[0]
    unit = next(unit for unit in scorer.plan(image, FLOW) if unit.scale == 1)
    latents = scorer.latents([unit])
    signs = torch.randn(200, *scorer.cascade.transform.shape(1), generator=torch.Generator().manual_seed(3)).sign()
    field = density_field(scorer.cascade, 1, None, signs)
    z = latents.z0[0].expand(200, -1, -1, -1)
    ends = (scorer.cascade.config.gamma_min, scorer.cascade.config.gamma_max)
    path = travel(lambda _: field, z, ends, rank=scorer.cascade.transform.rank(1), steps=2)
    density = noise_log_density(path.z, scorer.cascade.transform.rank(1)) + path.growth
    nats = -exact.terms["flow_scale_1"] * scorer.cascade.config.dimensions * np.log(2)
    assert abs(float(density.mean()) - nats) < 4 * float(density.std()) / 200**0.5
    assert exact.network_calls == 6 * 2 * 2


def test_probes_are_signs_that_differ_between_images_scales_and_seeds() -> None:
    scorer, images = calm_scorer(), random_pictures(2)
    rows = []
    for seed in (0, 1):
        plan = scorer.plan(images, FLOW.model_copy(update={"noise": "keyed", "seed": seed}))
        for scale in (1, 2):
            rows += [row.flatten()[:48] for row in scorer.probe([unit for unit in plan if unit.scale == scale])]
    assert all(torch.equal(row.abs(), torch.ones(48)) for row in rows)
    assert len({tuple(row.tolist()) for row in rows}) == len(rows)


def test_probes_of_a_redundant_scale_lie_in_its_range() -> None:
    scorer = calm_scorer("laplacian")
    units = [unit for unit in scorer.plan(random_pictures(1), FLOW) if unit.scale == 2]
    probe = scorer.probe(units)
    assert torch.allclose(scorer.cascade.transform.project(2, probe), probe, atol=1e-6)


def test_units_of_the_bound_are_not_followed() -> None:
    scorer = calm_scorer()
    units = [unit for unit in scorer.plan(random_pictures(1), Fidelity(nodes=2)) if unit.scale == 1]
    assert [scorer.follow(unit, result) for unit, result in zip(units, scorer.run(units), strict=True)] == [None, None]


def test_a_map_that_loses_volume_has_no_exact_density() -> None:
    with pytest.raises(ValueError, match="no exact density with the downsample transform"):
        calm_scorer("downsample").score(random_pictures(1), FLOW)


@pytest.mark.parametrize("name", ["fast", "balanced", "exact"])
def test_a_score_is_the_same_in_every_bucket_size(name: FidelityName) -> None:
    images = random_pictures(64)
    scorer = calm_scorer()
    among = np.array([score.bits_per_dim for score in scorer.score(images, FIDELITIES[name])])
    for size in (1, 2, 8, 32):
        score = scorer.score(images[:size], FIDELITIES[name])[0]
        assert score.bits_per_dim == pytest.approx(among[0], abs=1e-5 * among.std())
