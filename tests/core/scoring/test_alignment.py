"""Angles between what is left of the noise and its prediction, as columns of an evaluation."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tiny_scorers import random_pictures, small_scorer

from pcdm_core.detection import ALIGNMENT
from pcdm_core.scoring import CascadeScorer, Fidelity
from pcdm_core.scoring.alignment import alignments, colour_components, neighbours

FAST = Fidelity(nodes=3)


@pytest.fixture(scope="module")
def scorer() -> CascadeScorer:
    return small_scorer()


def fields(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@given(st.integers(1, 3), st.integers(1, 4), st.integers(1, 5), st.integers(1, 5), st.integers(0, 100))
def test_they_are_cosines_whatever_the_units(bands: int, colours: int, height: int, width: int, seed: int) -> None:
    residual, predicted = fields(2, 2, bands * colours, height, width, seed=seed)
    found = alignments(residual, predicted, bands)
    assert found.shape == (2, bands * (colours + 1))
    assert found.abs().max() <= 1 + 1e-12
    torch.testing.assert_close(alignments(5 * residual, 0.1 * predicted, bands), found, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(alignments(-residual, predicted, bands), -found)


def test_a_residual_along_the_prediction_has_cosine_one_and_one_of_other_colours_zero() -> None:
    predicted = fields(1, 6, 4, 4)
    torch.testing.assert_close(alignments(3 * predicted, predicted, 2)[:, :6], torch.ones(1, 6).double())
    grey = fields(1, 1, 4, 4).expand(1, 3, 4, 4)
    of_grey = alignments(grey, grey, 1)[0]
    assert of_grey[0] == pytest.approx(1)
    assert of_grey[1:3].abs().max() < 1e-6  # floats have no exact differences of colours, or none at all


def test_neighbours_are_seen_where_the_place_itself_is_not() -> None:
    predicted, residual = torch.zeros(1, 1, 5, 5), torch.zeros(1, 1, 5, 5)
    predicted[..., 2, 2], residual[..., 2, 3] = 1.0, 1.0
    own, neighbour = alignments(residual, predicted, 1)[0]
    assert own == 0
    assert neighbour == pytest.approx(0.5)  # one of the four


def test_neighbours_of_a_constant_are_four_times_it() -> None:
    torch.testing.assert_close(neighbours(torch.ones(1, 2, 3, 1, 4)), torch.full((1, 2, 3, 1, 4), 4.0))


@pytest.mark.parametrize("colours", [1, 2, 3, 4])
def test_colour_components_are_orthonormal_and_the_first_is_the_mean(colours: int) -> None:
    rows = colour_components(colours)
    torch.testing.assert_close(rows @ rows.T, torch.eye(colours).double())
    torch.testing.assert_close(rows[0], torch.full((colours,), colours**-0.5).double())


def test_residuals_of_the_best_prediction_are_uncorrelated_with_it() -> None:
    # Gaussian images of variance v: E[eps | z_t] = sigma z_t / (alpha^2 v + sigma^2).
    alpha, sigma, variance = 0.6, 0.8, 4.0
    clean, noise = variance**0.5 * fields(64, 3, 16, 16), fields(64, 3, 16, 16, seed=1)

    def mean_alignment(assumed: float) -> torch.Tensor:
        predicted = sigma * (alpha * clean + sigma * noise) / (alpha**2 * assumed + sigma**2)
        return alignments(noise - predicted, predicted, 1)[:, :3].mean(0)

    assert mean_alignment(variance).abs().max() < 0.02
    assert mean_alignment(2 * variance).min() > 0.1


@pytest.mark.parametrize(("transform", "scales"), [("identity", 1), ("haar", 3), ("laplacian", 2)])
def test_there_is_one_of_each_scale_node_band_and_colour(transform: str, scales: int) -> None:
    one = small_scorer(transform, scales)
    score, layout = one.score(random_pictures(1), FAST)[0], one.layout(FAST)
    bands = sum(len(one.cascade.transform.bands(scale)) for scale in range(1, scales + 1))
    assert layout.select(score.features, ("alignment",)).shape == (3 * 3 * bands,)
    assert layout.select(score.features, ("neighbour_alignment",)).shape == (3 * bands,)


def test_columns_are_of_their_scale_node_band_and_colour(scorer: CascadeScorer) -> None:
    image, node, scale = random_pictures(1), 1, 2
    units = [unit for unit in scorer.plan(image, FAST) if (unit.scale, unit.node) == (scale, node)]
    with torch.inference_mode():
        prediction = scorer.predict(scorer.latents(units), units)
    predicted = prediction.predicted_noise
    found = alignments(prediction.noise - predicted, predicted, 3)[0].tolist()
    named = dict(zip(scorer.layout(FAST).names, scorer.score(image, FAST)[0].features.tolist(), strict=True))
    for place, value in enumerate(found[:9]):
        name = f"alignment_scale_{scale}_node_{node}_band_{place // 3}_colour_{place % 3}"
        assert named[name] == pytest.approx(value, abs=1e-4)
    for band, value in enumerate(found[9:]):
        assert named[f"neighbour_alignment_scale_{scale}_node_{node}_band_{band}"] == pytest.approx(value, abs=1e-4)


def test_they_do_not_depend_on_batch_mates(scorer: CascadeScorer) -> None:
    images, layout = random_pictures(5), scorer.layout(FAST)
    among = np.stack([layout.select(score.features, ALIGNMENT) for score in scorer.score(images, FAST)])
    for image, expected in zip(images, among, strict=True):
        alone = layout.select(scorer.score(image[None], FAST)[0].features, ALIGNMENT)
        np.testing.assert_allclose(alone, expected, atol=1e-5)


def test_repetitions_are_averaged(scorer: CascadeScorer) -> None:
    image, twice = random_pictures(1), FAST.model_copy(update={"replicates": 2})
    units = [unit for unit in scorer.plan(image, twice) if (unit.scale, unit.node) == (1, 0)]
    values = [scorer.run([unit])[0].values[3:] for unit in units]
    features, layout = scorer.score(image, twice)[0].features, scorer.layout(twice)
    first = layout.select(features, ("alignment",))[:3]
    np.testing.assert_allclose(first, np.mean(values, axis=0)[:3], atol=1e-5)
    assert np.abs(values[0] - values[1]).max() > 1e-3
