"""Where the bits of the bound are: shares that sum to the score, at the pixels where they arise."""

from typing import Any

import numpy as np
import pytest
import torch
from tiny_scorers import Images, random_pictures, small_scorer

from pcdm_core.model import Cascade, CascadeConfig, NetworkConfig
from pcdm_core.scoring import CascadeScorer, Fidelity, bound_map
from pcdm_core.scoring.bound_map import dimensions_by_pixel, squares_by_pixel
from pcdm_core.transforms import TRANSFORMS, Transform

ISOMETRIES = [("identity", 1), ("haar", 2), ("haar", 3), ("laplacian", 2), ("laplacian", 3)]
FAST = Fidelity(nodes=2)
DIMENSIONS = 3 * 8 * 8


# The mathematics


def arrays(transform: Transform, scale: int) -> torch.Tensor:
    """Four random arrays in the range of ``P_scale``."""
    z = torch.randn(4, *transform.shape(scale), generator=torch.Generator().manual_seed(scale), dtype=torch.float64)
    return transform.project(scale, z)


@pytest.mark.parametrize(("name", "scales"), ISOMETRIES)
def test_squares_at_pixels_sum_to_the_squared_norm(name: str, scales: int) -> None:
    transform = TRANSFORMS[name]((3, 8, 12), scales)
    for scale in range(1, scales + 1):
        z = arrays(transform, scale)
        squares = squares_by_pixel(transform, scale, z)
        assert squares.shape == (4, 8, 12)
        torch.testing.assert_close(squares.sum((1, 2)), z.square().flatten(1).sum(1), rtol=1e-12, atol=0)


@pytest.mark.parametrize(("name", "scales"), ISOMETRIES)
def test_squares_at_pixels_are_those_of_the_adjoint(name: str, scales: int) -> None:
    transform = TRANSFORMS[name]((2, 4, 8), scales)
    basis = torch.eye(64, dtype=torch.float64).view(-1, 2, 4, 8)
    for scale, rows in enumerate(transform.forward(basis), start=1):
        z = arrays(transform, scale)
        field = (z.flatten(1) @ rows.flatten(1).T).view(-1, 2, 4, 8)
        torch.testing.assert_close(squares_by_pixel(transform, scale, z), field.square().sum(1))


@pytest.mark.parametrize(("name", "scales"), ISOMETRIES)
def test_dimensions_at_pixels_are_the_mean_squares_of_white_noise(name: str, scales: int) -> None:
    transform = TRANSFORMS[name]((2, 8, 12), scales)
    basis = torch.eye(2 * 8 * 12, dtype=torch.float64).view(-1, 2, 8, 12)
    for scale, rows in enumerate(transform.forward(basis), start=1):
        expected = rows.square().flatten(1).sum(1).view(2, 8, 12).sum(0)
        dimensions = dimensions_by_pixel(transform, scale)
        torch.testing.assert_close(dimensions, expected)
        assert float(dimensions.sum()) == pytest.approx(transform.rank(scale))


# Sums


@pytest.mark.parametrize(
    "fidelity", [Fidelity(nodes=2, noise="keyed", replicates=2), Fidelity(method="certified", nodes=2)]
)
@pytest.mark.parametrize(("transform", "scales"), ISOMETRIES)
def test_it_sums_to_the_score(transform: str, scales: int, fidelity: Fidelity) -> None:
    scorer, images = small_scorer(transform, scales, batch_size=3), random_pictures(2)
    scores = scorer.score(images, fidelity)
    expected = [score.bits_per_dim * DIMENSIONS for score in scores]
    np.testing.assert_allclose(bound_map(scorer, images, fidelity).bits.sum((1, 2)), expected, rtol=1e-6)


@pytest.mark.parametrize("transform", ["haar", "laplacian"])
def test_it_sums_to_the_score_in_bfloat16(transform: str) -> None:
    scorer, images = small_scorer(transform, 3, precision="bfloat16"), random_pictures(2)
    expected = [score.bits_per_dim * DIMENSIONS for score in scorer.score(images, FAST)]
    np.testing.assert_allclose(bound_map(scorer, images, FAST).bits.sum((1, 2)), expected, rtol=1e-6)


@pytest.mark.parametrize("transform", ["haar", "laplacian"])
def test_every_part_sums_to_its_terms(transform: str) -> None:
    scorer, images = small_scorer(transform, 3), random_pictures(2)
    bound = bound_map(scorer, images, FAST)
    assert bound.scales.shape == (2, 3, 8, 8)
    for index, score in enumerate(scorer.score(images, FAST)):
        terms = {name: value * DIMENSIONS for name, value in score.terms.items()}
        assert bound.reconstruction[index].sum() == pytest.approx(terms["reconstruction"], rel=1e-6)
        for scale in (1, 2, 3):
            expected = terms[f"prior_scale_{scale}"] + terms[f"diffusion_scale_{scale}"]
            assert bound.scales[index, scale - 1].sum() == pytest.approx(expected, rel=1e-6)


# Places


def linear_scorer(transform: str, training: Images) -> CascadeScorer:
    """Networks that add nothing yet: each coefficient is denoised by the best linear guess from itself."""
    network = NetworkConfig(channels=8, blocks=1, attention=False)
    cascade = Cascade(CascadeConfig(image_shape=(3, 16, 16), transform=transform, networks=(network,) * 3))
    cascade.fit_variance(torch.from_numpy(training))
    return CascadeScorer(cascade, model_name="linear", digest="0" * 64)


def smooth_pictures(count: int) -> Images:
    generator = np.random.default_rng(0)
    down, right = (generator.integers(-3, 4, (count, 3, 1, 1)) for _ in range(2))
    places = np.arange(16) - 8
    ramps = 100 + down * places[:, None] + right * places + generator.integers(-2, 3, (count, 3, 16, 16))
    return ramps.astype(np.uint8)


@pytest.mark.parametrize("transform", ["haar", "laplacian"])
def test_a_bright_defect_costs_bits_where_it_is(transform: str) -> None:
    pictures = smooth_pictures(65)
    scorer, (image, defect) = linear_scorer(transform, pictures[1:]), pictures[[0, 0]]
    defect[:, 9:12, 5:8] = 255
    before, after = bound_map(scorer, np.stack((image, defect)), Fidelity(nodes=8)).bits
    change = after - before
    # The defect, and what shares a pixel of the coarsest scale with it.
    near = np.zeros((16, 16), bool)
    near[8:12, 4:8] = True
    assert change[near].mean() > 10.0
    assert change[near].mean() > 20 * np.abs(change[~near]).mean()


def test_a_coarse_scale_sees_a_defect_at_its_own_resolution() -> None:
    pictures = smooth_pictures(65)
    scorer, (image, defect) = linear_scorer("haar", pictures[1:]), pictures[[0, 0]]
    defect[:, 8:10, 4:6] = 255
    before, after = bound_map(scorer, np.stack((image, defect)), Fidelity(nodes=4)).scales
    change = np.abs(after - before)[0]
    # One pixel of that scale is four of the image's wide, and all four by four have the same share.
    assert change[8, 4] > 0.1
    np.testing.assert_allclose(change[8:12, 4:8], change[8, 4])
    change[8:12, 4:8] = 0.0
    assert change.max() < 1e-6


# The same map among any batch-mates


@pytest.mark.parametrize("noise", ["shared", "keyed"])
def test_it_does_not_depend_on_batch_mates(noise: Any) -> None:
    scorer, fidelity = small_scorer(), Fidelity(nodes=2, noise=noise)
    images = np.concatenate((random_pictures(4, seed=7), np.zeros((1, 3, 8, 8), np.uint8)))
    alone, among = bound_map(scorer, images[2:3], fidelity), bound_map(scorer, images, fidelity)
    np.testing.assert_allclose(among.bits[2], alone.bits[0], atol=1e-4, rtol=0)
    assert np.abs(among.bits[0] - alone.bits[0]).max() > 0.1


def test_it_does_not_depend_on_the_batch_size() -> None:
    images = random_pictures(3)
    small, large = (bound_map(small_scorer(batch_size=size), images, FAST).bits for size in (2, 128))
    np.testing.assert_allclose(small, large, atol=1e-4, rtol=0)


def test_progress_counts_images() -> None:
    seen: list[int] = []
    bound_map(small_scorer(batch_size=2), random_pictures(5), FAST, progress=seen.append)
    assert seen == [2, 4, 5]


def test_the_settings_are_those_of_the_scorer_by_default() -> None:
    scorer, images = small_scorer(), random_pictures(1)
    assert np.array_equal(bound_map(scorer, images).bits, bound_map(scorer, images, scorer.fidelity).bits)


# Refusals


def test_a_transform_that_loses_volume_is_refused() -> None:
    with pytest.raises(ValueError, match="no map of the bound with the downsample transform: it does not preserve"):
        bound_map(small_scorer("downsample"), random_pictures(1), FAST)


def test_the_flow_is_refused() -> None:
    with pytest.raises(ValueError, match="map is one of the bound"):
        bound_map(small_scorer(), random_pictures(1), Fidelity(method="flow"))


def test_images_of_another_shape_are_refused() -> None:
    with pytest.raises(ValueError, match="expected uint8 images"):
        bound_map(small_scorer(), np.zeros((1, 3, 4, 8), np.uint8), FAST)


def test_no_images_give_an_empty_map() -> None:
    assert bound_map(small_scorer(), random_pictures(0), FAST).bits.shape == (0, 8, 8)
