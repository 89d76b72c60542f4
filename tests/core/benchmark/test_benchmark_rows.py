"""Every row tells something odd, and what it learns from is the images of the fit alone."""

import importlib.util
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from tiny_benches import tiny_classifier

from pcdm_core.benchmark import ACTIVATION_ROWS, CASCADE_ROWS, PIXEL_ROWS, Material, Row, classifier_rows
from pcdm_core.benchmark.classifier import Outputs
from pcdm_core.benchmark.measure import fitted, measured_row
from pcdm_core.benchmark.peers import wavelet_energies
from pcdm_core.benchmark.rows import calibrated_row
from pcdm_core.detection import (
    ALIGNMENT,
    CODECS,
    MIDDLE,
    SPECTRUM,
    Calibration,
    CalibrationIdentity,
    FeatureLayout,
    SpectrumDetector,
)
from pcdm_core.scoring import Findings

needs_pytorch_ood = pytest.mark.skipif(
    importlib.util.find_spec("pytorch_ood") is None,
    reason='pytorch-ood is not installed: pip install "pcdm[benchmark]"',
)
UNSUPERVISED = [pytest.param(row, id=row.name) for row in (*CASCADE_ROWS, *ACTIVATION_ROWS, *PIXEL_ROWS)]


LAYOUT = FeatureLayout(
    (
        *("bits_per_dim", "reconstruction", "prior_scale_1", "prior_scale_2", "diffusion_scale_1", "diffusion_scale_2"),
        *CODECS,
        *(f"{kind}_scale_{scale}_node_0_band_0" for scale in (1, 2) for kind in SPECTRUM),
        *("alignment_scale_1_node_0_band_0_colour_0", "neighbour_alignment_scale_1_node_0_band_0"),
        *(f"{kind}_scale_1_channel_{channel}" for kind in MIDDLE for channel in (0, 1)),
    )
)


def material(count: int, seed: int, *, odd: bool = False) -> Material:
    """Made numbers: odd ones are far from the others in pixels, features, likelihood and logits."""
    random = np.random.default_rng(seed)
    off, spread = (60, 40) if odd else (0, 10)
    images = (100 + off + random.integers(-spread, spread, (count, 3, 8, 8))).astype(np.uint8)
    labels = np.arange(count) % 3
    # The logits are the first three features: certain for what is normal, undecided for what is odd.
    centres = np.eye(3, 8)[labels] * (0 if odd else 8)
    features = torch.from_numpy(centres + random.normal(0, 1, (count, 8))).float()
    # Errors, norms, angles, and all that makes up the likelihood, are larger for what is odd.
    grown = [name.startswith((*SPECTRUM, *ALIGNMENT)) for name in LAYOUT.names]
    columns = np.where(grown, 9 if odd else 0, 7 if odd else 3)
    # The last term is what the ratio of scales and the typicality of scales go by: it grows by more than the first.
    columns = columns + np.array([odd * 4 if name == "diffusion_scale_2" else 0 for name in LAYOUT.names])
    columns = columns - np.array([odd * 9 if name in CODECS else 0 for name in LAYOUT.names])
    findings = Findings(LAYOUT, columns + random.normal(0, 0.2, (count, len(LAYOUT))))
    return Material(images, findings, Outputs(features, features[:, :3]), labels)


def auroc(row: Row) -> float:
    score = fitted(row, material(180, 0))
    normal, odd = material(30, 1), material(30, 2, odd=True)
    figures = measured_row(
        row, score, normal, {"odd": odd}, sample=replace(normal, images=normal.images[:9]), seconds=0, network_calls=2
    )
    assert figures["images_per_core_second"] > 0
    assert figures["supervised"] == (row.needs == "classifier")
    return float(figures["sets"][0]["auroc"]["value"])


@pytest.mark.parametrize("row", UNSUPERVISED)
def test_what_is_odd_scores_higher(row: Row) -> None:
    assert auroc(row) > 0.95


@needs_pytorch_ood
@pytest.mark.parametrize("place", range(6))
def test_what_is_odd_scores_higher_with_a_classifier(place: int) -> None:
    classifier = tiny_classifier()
    with torch.no_grad():
        classifier.head.weight.copy_(torch.eye(3, 8))
        classifier.head.bias.zero_()
    row = classifier_rows(classifier)[place]
    assert auroc(row) > 0.8, row.name


@pytest.mark.parametrize("row", UNSUPERVISED)
def test_scores_are_the_same_in_every_run_and_for_any_neighbours(row: Row) -> None:
    of, others = material(60, 0), material(12, 1, odd=True)
    few = Material(others.images[:4], Findings(LAYOUT, others.findings.features[:4]))
    first, again = fitted(row, of)(others), fitted(row, of)(few)
    np.testing.assert_allclose(first[:4], again, rtol=1e-9)


def test_a_calibrated_detector_ignores_the_images_of_the_fit() -> None:
    identity = CalibrationIdentity(
        model_digest="0", detector="spectrum", fidelity={}, preprocessing={}, precision="float32"
    )
    detector = SpectrumDetector()
    halves = [material(60, seed).findings.seen_by(detector) for seed in (3, 4)]
    calibration = Calibration.fit(halves[0], halves[1], identity=identity)
    row, others = calibrated_row(calibration), material(5, 1)
    expected = calibration.scores(others.findings.seen_by(detector))
    np.testing.assert_array_equal(row.fit(material(9, 0, odd=True))(others), expected)
    assert row.name == "calibrated detector (spectrum)"


@needs_pytorch_ood
def test_peers_that_learn_classes_say_when_there_are_none() -> None:
    rows = {row.name: row for row in classifier_rows(tiny_classifier())}
    row = rows["classifier, Mahalanobis"]
    with pytest.raises(ValueError, match="classifier, Mahalanobis: peers with a classifier need a label for each"):
        fitted(row, replace(material(9, 0), labels=None))
    with pytest.raises(ValueError, match="must have the 3 classes of the classifier, 0 to 2; they have 0, 1"):
        fitted(row, replace(material(9, 0), labels=np.arange(9) % 2))


@needs_pytorch_ood
def test_the_package_of_the_peers_is_not_left_half_loaded() -> None:
    classifier_rows(tiny_classifier())
    assert "pytorch_ood" not in sys.modules or hasattr(sys.modules["pytorch_ood"], "__version__")


def test_a_score_that_is_no_number_is_named() -> None:
    broken = Row("broken", "pixels", lambda _: lambda material: np.full(len(material.images), np.nan))
    few = material(3, 0)
    with pytest.raises(ValueError, match="broken: 3 of 3 scores are NaN or infinite"):
        measured_row(broken, fitted(broken, few), few, {"odd": few}, sample=few, seconds=0, network_calls=0)


# Wavelets


def energy(image: NDArray[np.uint8]) -> NDArray[np.float64]:
    (found,) = wavelet_energies(image[None])
    return np.asarray(found)


def test_a_constant_image_has_energy_in_its_mean_alone() -> None:
    found = energy(np.full((1, 8, 8), 50, dtype=np.uint8))
    assert found.shape == (10,)
    np.testing.assert_allclose(found[0], np.log((8 * 50) ** 2 + 1 / 12))
    np.testing.assert_allclose(found[1:], np.log(1 / 12))


def test_stripes_have_energy_in_one_band() -> None:
    stripes = np.zeros((1, 8, 8), dtype=np.uint8)
    stripes[:, ::2] = 100
    found = energy(stripes)
    assert (found[-3:] > 5).tolist() == [True, False, False]


def test_sides_that_cannot_be_halved_stay_whole() -> None:
    assert wavelet_energies(np.zeros((2, 3, 6, 12), dtype=np.uint8)).shape == (2, 3 * 4)
