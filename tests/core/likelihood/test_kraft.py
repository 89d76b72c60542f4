"""A likelihood is a probability: over a whole domain, ``exp(-bound)`` sums up to one at most (Kraft's inequality)."""

from __future__ import annotations

from math import log, pi

import pytest
import torch
from oracles import (
    KraftSum,
    all_images,
    clean_coefficients,
    enumerate_bounds,
    install_enumerated,
    kraft_sum,
    lattice_gamma,
    small_config,
)
from torch import Tensor

from pcdm_core.likelihood import flow_log_density, reconstruction
from pcdm_core.model import Cascade
from pcdm_core.scoring import CascadeScorer, Fidelity
from pcdm_core.transforms import HaarTransform

LEVELS = 3
IMAGES = all_images(LEVELS)
DRAWS, NODES = 128, 24
MARGIN = 0.12
"""No margin of a sum below may be larger, relative to it: a test that forgives more could not see a leak."""


class BlockMeans(HaarTransform):
    """Haar wavelets whose coarse band is the mean of each block, half of what an isometry asks for."""

    def analyze(self, image: Tensor) -> tuple[Tensor, Tensor]:
        coarse, detail = super().analyze(image)
        return coarse / 2, detail

    def synthesize(self, coarse: Tensor, detail: Tensor) -> Tensor:
        return super().synthesize(2 * coarse, detail)


def tiny_cascade(transform: str, *, gamma_max: float = 12.0) -> Cascade:
    config = small_config(
        transform,
        1 if transform == "identity" else 2,
        (1, 2, 2),
        levels=LEVELS,
        gamma_min=lattice_gamma(LEVELS),
        gamma_max=gamma_max,
    )
    return Cascade(config)


def optimal_sum(cascade: Cascade, *, clean_condition: bool = False) -> KraftSum:
    install_enumerated(cascade, IMAGES, clean_condition=clean_condition)
    nats = enumerate_bounds(cascade, IMAGES, draws=DRAWS, nodes=NODES, clean_condition=clean_condition)
    kraft = kraft_sum(nats)
    assert kraft.margin < MARGIN * max(1.0, kraft.value)
    return kraft


@pytest.mark.parametrize("transform", ["haar", "laplacian", "identity"])
def test_best_denoiser_gives_a_probability_that_leaves_nothing_over(transform: str) -> None:
    kraft = optimal_sum(tiny_cascade(transform))
    assert kraft.is_probability
    assert kraft.value > 0.93


def test_stronger_noise_left_at_the_end_costs_likelihood_only() -> None:
    kraft = optimal_sum(tiny_cascade("haar", gamma_max=-2.0))
    assert kraft.is_probability
    assert kraft.value < 0.95


def test_block_means_as_the_coarse_band_are_caught() -> None:
    cascade = tiny_cascade("haar")
    cascade.transform = BlockMeans((1, 2, 2), 2)
    kraft = optimal_sum(cascade)
    assert not kraft.is_probability
    assert kraft.value > 3


def test_conditioning_on_the_clean_coarse_band_is_caught() -> None:
    kraft = optimal_sum(tiny_cascade("haar"), clean_condition=True)
    assert not kraft.is_probability
    assert kraft.value > 1.25


def test_scorer_gives_a_probability() -> None:
    cascade = tiny_cascade("haar", gamma_max=5.0)
    install_enumerated(cascade, IMAGES)
    scorer = CascadeScorer(cascade, model_name="tiny", digest="tiny", batch_size=len(IMAGES))
    settings = [Fidelity(nodes=10, noise="keyed", seed=seed) for seed in range(12)]
    scores = [scorer.score(IMAGES.numpy(), each) for each in settings]
    kraft = kraft_sum(torch.tensor([[score.nats for score in row] for row in scores], dtype=torch.float64))
    assert kraft.is_probability
    assert kraft.value > 0.9


def test_trained_cascade_gives_a_probability() -> None:
    cascade = tiny_cascade("haar")
    cascade.fit_variance(IMAGES)
    untrained = kraft_sum(enumerate_bounds(cascade, IMAGES, draws=8, nodes=NODES))
    optimizer = torch.optim.Adam(cascade.predictors.parameters(), lr=3e-3)
    generator = torch.Generator().manual_seed(0)
    for _ in range(100):
        optimizer.zero_grad()
        cascade.training_loss(IMAGES, generator).bound.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    trained = kraft_sum(enumerate_bounds(cascade, IMAGES, draws=8, nodes=NODES))
    assert trained.is_probability
    assert trained.value > untrained.value


def flow_weights(cascade: Cascade, *, draws: int, steps: int) -> Tensor:
    """``p(x | z_0) p(z_0) / q(z_0 | x)`` of every image and draw, by the flow with the exact divergence."""
    repeated = IMAGES.repeat(draws, 1, 1, 1)
    coefficients = clean_coefficients(cascade, repeated)
    white = torch.randn(len(repeated), 4, generator=torch.Generator().manual_seed(2))
    noise = cascade.transform.noise(white)
    z0 = cascade.sample_z0(coefficients, noise)
    variance = float(torch.sigmoid(torch.tensor(cascade.config.gamma_min, dtype=torch.float64)))
    square = sum(eps.double().square().flatten(1).sum(1) for eps in noise)
    log_q = -0.5 * (square + 4 * log(2 * pi * variance))
    log_p = flow_log_density(cascade, z0, steps=steps).log_density.sum(1)
    return (log_p - reconstruction(cascade, repeated, z0) - log_q).exp().view(draws, len(IMAGES))


@pytest.mark.parametrize("transform", ["haar", "laplacian", "identity"])
def test_weights_of_the_flow_sum_to_one(transform: str) -> None:
    cascade = tiny_cascade(transform)
    install_enumerated(cascade, IMAGES)
    sums = flow_weights(cascade, draws=24, steps=48).sum(1)
    assert float(sums.std()) / 24**0.5 < 0.0025
    assert float(sums.mean()) == pytest.approx(1.0, abs=0.01)


def test_a_density_that_is_too_high_does_not_sum_to_one() -> None:
    cascade = tiny_cascade("haar")
    cascade.transform = BlockMeans((1, 2, 2), 2)
    install_enumerated(cascade, IMAGES)
    assert float(flow_weights(cascade, draws=8, steps=48).sum(1).mean()) > 1.15


@pytest.mark.parametrize("transform", ["haar", "laplacian", "identity"])
def test_the_bound_of_the_images_is_their_entropy_up_to_chance(transform: str) -> None:
    cascade = tiny_cascade(transform)
    install_enumerated(cascade, IMAGES)
    gaps = enumerate_bounds(cascade, IMAGES, draws=DRAWS, nodes=NODES).mean(1) - log(len(IMAGES))
    assert abs(float(gaps.mean())) < 4 * float(gaps.std()) / DRAWS**0.5 < 0.06


@pytest.mark.parametrize("transform", ["haar", "laplacian", "identity"])
def test_the_flow_lies_just_above_the_entropy_of_the_images(transform: str) -> None:
    cascade = tiny_cascade(transform)
    install_enumerated(cascade, IMAGES)
    log_weights = flow_weights(cascade, draws=8, steps=48).log()
    one = float(-log_weights.mean()) - log(len(IMAGES))
    eight = float(-(log_weights.logsumexp(0) - log(8)).mean()) - log(len(IMAGES))
    assert 0 < eight < one < 1e-5
