from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny_scorers import random_pictures, small_cascade, small_scorer

from pcdm_core.detection import DETECTORS, Calibration, CalibrationMismatchError, SpectrumDetector, detector_named
from pcdm_core.model import save_pretrained
from pcdm_core.scoring import CALIBRATION_FILE, FIDELITIES, CascadeScorer, Fidelity, Findings, with_activations

FIDELITY = Fidelity(nodes=2, seed=7)


def calibrate(scorer: CascadeScorer, **changes: Any) -> Calibration:
    found = Findings.of(scorer.score(random_pictures(40), FIDELITY), scorer.layout(FIDELITY))
    features = found.seen_by(SpectrumDetector())
    identity = scorer.identity(FIDELITY, "spectrum").model_copy(update=changes)
    return Calibration.fit(features[:20], features[20:], identity=identity, alpha=0.1)


@pytest.fixture
def calibration() -> Calibration:
    return calibrate(small_scorer())


def test_a_calibrated_scorer_gives_a_verdict(calibration: Calibration) -> None:
    score = small_scorer(calibration=calibration).score(random_pictures(1, seed=2))[0]
    assert score.score is not None
    assert score.p_value is not None
    assert 1 / 21 <= score.p_value <= 1
    assert score.is_ood == (score.p_value <= 0.1)


def test_a_flat_image_is_further_out_than_noise(calibration: Calibration) -> None:
    images = np.concatenate((random_pictures(1, seed=2), np.zeros((1, 3, 8, 8), np.uint8)))
    normal, odd = small_scorer(calibration=calibration).score(images)
    assert odd.is_ood
    assert (odd.score or 0.0) > (normal.score or 0.0)


def test_the_calibration_sets_fidelity_and_alpha(calibration: Calibration) -> None:
    scorer = small_scorer(calibration=calibration)
    assert scorer.fidelity == FIDELITY
    assert scorer.alpha == 0.1
    assert small_scorer().alpha is None


@pytest.mark.parametrize(
    "change", [{"nodes": 3}, {"seed": 8}, {"noise": "keyed"}, {"replicates": 2}, {"method": "flow", "tolerance": 0.01}]
)
def test_another_fidelity_changes_the_likelihood_and_not_the_verdict(
    calibration: Calibration, change: dict[str, Any]
) -> None:
    scorer, images = small_scorer(calibration=calibration), random_pictures(3)
    settings = Fidelity.model_validate(FIDELITY.model_dump() | change)
    for asked, own, bare in zip(
        scorer.score(images, settings), scorer.score(images), small_scorer().score(images, settings), strict=True
    ):
        assert asked.score == pytest.approx(own.score, abs=1e-6)
        assert asked.p_value == own.p_value
        assert asked.bits_per_dim == pytest.approx(bare.bits_per_dim, abs=1e-5)
        assert asked.bits_per_dim != pytest.approx(own.bits_per_dim, abs=1e-5)
        assert asked.network_calls == bare.network_calls + own.network_calls


def test_fast_is_what_was_calibrated(calibration: Calibration) -> None:
    scorer = small_scorer(calibration=calibration)
    assert scorer.fidelities["fast"] == scorer.fidelity == FIDELITY
    assert small_scorer().fidelities == FIDELITIES


def test_a_map_that_loses_volume_has_no_exact_fidelity() -> None:
    assert list(small_scorer("downsample").fidelities) == ["fast", "balanced"]


def test_another_model_is_refused_by_name(calibration: Calibration) -> None:
    with pytest.raises(CalibrationMismatchError, match=r'model_digest: calibrated with "000.*, asked for "111'):
        small_scorer(calibration=calibration, digest="1" * 64)


def test_another_precision_is_refused_by_name(calibration: Calibration) -> None:
    with pytest.raises(CalibrationMismatchError, match='precision: calibrated with "float32", asked for "bfloat16"'):
        small_scorer(calibration=calibration, precision="bfloat16")


def test_another_preprocessing_is_refused_by_name() -> None:
    scorer = small_scorer()
    changed = scorer.preprocessing.model_dump() | {"height": 16}
    with pytest.raises(CalibrationMismatchError, match=r"preprocessing\.height: calibrated with 16, asked for 8"):
        small_scorer(calibration=calibrate(scorer, preprocessing=changed))


def test_a_fidelity_that_leaves_something_open_is_refused_by_name() -> None:
    with pytest.raises(CalibrationMismatchError, match=r"fidelity\.seed: calibrated with nothing, asked for 0"):
        small_scorer(calibration=calibrate(small_scorer(), fidelity={"method": "bound", "nodes": 2}))


def test_a_file_of_another_fidelity_is_refused_by_name(calibration: Calibration, tmp_path: Path) -> None:
    calibration.save(tmp_path / CALIBRATION_FILE)
    expected = small_scorer().identity(Fidelity(nodes=5, seed=7), "spectrum")
    with pytest.raises(CalibrationMismatchError, match=r"fidelity\.nodes: calibrated with 2, asked for 5"):
        Calibration.load(tmp_path / CALIBRATION_FILE, expected=expected)


def test_a_model_folder_brings_its_calibration(tmp_path: Path) -> None:
    folder = tmp_path / "tiny"
    save_pretrained(small_cascade(), folder)
    bare = CascadeScorer.from_pretrained(folder)
    calibrate(bare).save(folder / CALIBRATION_FILE)
    image = random_pictures(1, seed=2)
    loaded = CascadeScorer.from_pretrained(folder)
    assert loaded.model_name == "tiny"
    assert loaded.score(image)[0].p_value is not None
    assert loaded.score(image)[0].bits_per_dim == bare.score(image, FIDELITY)[0].bits_per_dim


def test_a_model_folder_can_be_read_without_its_calibration(tmp_path: Path) -> None:
    save_pretrained(small_cascade(), tmp_path)
    calibrate(CascadeScorer.from_pretrained(tmp_path)).save(tmp_path / CALIBRATION_FILE)
    assert CascadeScorer.from_pretrained(tmp_path, calibrated=False).calibration is None


def test_the_calibration_of_another_folder_is_refused(tmp_path: Path) -> None:
    save_pretrained(small_cascade(), tmp_path / "one")
    save_pretrained(small_cascade("laplacian"), tmp_path / "two")
    calibrate(CascadeScorer.from_pretrained(tmp_path / "one")).save(tmp_path / "two" / CALIBRATION_FILE)
    with pytest.raises(CalibrationMismatchError, match="model_digest"):
        CascadeScorer.from_pretrained(tmp_path / "two")


def test_a_detector_of_another_number_of_features_is_refused() -> None:
    scorer, features = small_scorer(), np.random.default_rng(0).normal(size=(40, 5))
    identity = scorer.identity(FIDELITY, "spectrum")
    with pytest.raises(CalibrationMismatchError, match="features: calibrated with 5, the evaluation has 16"):
        small_scorer(calibration=Calibration.fit(features[:20], features[20:], identity=identity))


@pytest.mark.parametrize("name", sorted(DETECTORS))
def test_every_detector_judges_by_the_columns_that_it_was_fitted_on(name: str) -> None:
    scorer, fidelity = small_scorer(), with_activations(FIDELITY, DETECTORS[name]())
    layout = scorer.layout(fidelity)
    found = Findings.of(scorer.score(random_pictures(60), fidelity), layout)
    detector = detector_named(name, layout)
    seen = found.seen_by(detector)
    calibration = Calibration.fit(
        seen[:30], seen[30:], identity=scorer.identity(fidelity, name), detector=detector, alpha=0.1
    )
    judged = small_scorer(calibration=calibration).score(random_pictures(60))[:2]
    np.testing.assert_array_equal([score.score for score in judged], -detector.score_samples(seen[:2]))


def test_a_detector_that_sees_more_than_was_evaluated_is_refused() -> None:
    scorer, features = small_scorer(), np.random.default_rng(0).normal(size=(40, 5))
    calibration = Calibration.fit(features[:20], features[20:], identity=scorer.identity(FIDELITY, "middle"))
    with pytest.raises(CalibrationMismatchError, match="the evaluation has no middle_mean, middle_std"):
        small_scorer(calibration=calibration)


@pytest.mark.parametrize(
    ("name", "complete", "codecs"),
    [("complexity", False, True), ("spectrum", False, False), ("spectrum", True, True)],
)
def test_codecs_run_where_all_is_wanted_or_the_detector_sees_their_sizes(
    name: str, complete: bool, codecs: bool
) -> None:
    plain = small_scorer()
    found = Findings.of(plain.score(random_pictures(40), FIDELITY), plain.layout(FIDELITY))
    seen = found.seen_by(detector_named(name, found.layout))
    calibration = Calibration.fit(seen[:20], seen[20:], identity=plain.identity(FIDELITY, name))
    scorer = small_scorer(calibration=calibration, complete=complete)
    layout = scorer.layout(FIDELITY)
    assert ("png_bits_per_dim" in layout.names) == codecs
    assert scorer.score(random_pictures(1))[0].features.shape == (len(layout),)
