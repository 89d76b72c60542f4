from __future__ import annotations

import json
import math
import os
import re
import stat
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from pydantic import ValidationError

from pcdm_core.detection import (
    Calibration,
    CalibrationFileError,
    CalibrationIdentity,
    CalibrationMismatchError,
    SpectrumDetector,
    conformal_p_values,
    conformal_threshold,
)
from pcdm_core.detection.calibration import _checksum, _checksum_of_lines

Features = NDArray[np.float64]


def make_identity(**changes: Any) -> CalibrationIdentity:
    fields: dict[str, Any] = {
        "model_digest": "sha256:abc",
        "detector": "spectrum",
        "fidelity": {"method": "bound", "nodes": 10, "seed": 0},
        "preprocessing": {"size": 32, "antialias": True},
        "precision": "float32",
    }
    return CalibrationIdentity(**(fields | changes))


def draw(n: int, d: int = 7, *, seed: int = 0, shift: float = 0.0) -> Features:
    return np.random.default_rng(seed).normal(shift, size=(n, d))


def make_calibration(**changes: Any) -> Calibration:
    settings: dict[str, Any] = {"identity": make_identity(), "provenance": {"fit": "cifar10[45000:47500]", "n": 150}}
    return Calibration.fit(draw(150), draw(99, seed=1), **(settings | changes))


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    path = tmp_path / "calibration.json"
    make_calibration().save(path)
    return path


# Identity


def test_equal_identities_have_no_differences() -> None:
    assert make_identity().differences(make_identity()) == []


def test_every_difference_is_named_with_both_sides() -> None:
    asked = make_identity(
        model_digest="sha256:def",
        fidelity={"method": "bound", "nodes": 5, "certified": True},
        precision="bfloat16",
    )
    assert make_identity().differences(asked) == [
        'model_digest: calibrated with "sha256:abc", asked for "sha256:def"',
        "fidelity.nodes: calibrated with 10, asked for 5",
        "fidelity.seed: calibrated with 0, asked for nothing",
        'precision: calibrated with "float32", asked for "bfloat16"',
        "fidelity.certified: calibrated with nothing, asked for true",
    ]


def test_a_setting_that_is_null_differs_from_one_that_is_absent() -> None:
    differences = make_identity(fidelity={"probes": None}).differences(make_identity(fidelity={}))
    assert differences == ["fidelity.probes: calibrated with null, asked for nothing"]


def test_true_and_one_differ() -> None:
    differences = make_identity(fidelity={"x": True}).differences(make_identity(fidelity={"x": 1}))
    assert differences == ["fidelity.x: calibrated with true, asked for 1"]


SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(), st.text(), st.floats(allow_nan=False, allow_infinity=False)
)
SETTINGS = st.dictionaries(st.text(min_size=1), SCALARS, max_size=4)


@given(SETTINGS, SETTINGS)
def test_identity_survives_json(fidelity: dict[str, Any], preprocessing: dict[str, Any]) -> None:
    identity = make_identity(fidelity=fidelity, preprocessing=preprocessing)
    restored = CalibrationIdentity.model_validate(json.loads(json.dumps(identity.model_dump())))
    assert identity.differences(restored) == []


@pytest.mark.parametrize(
    "change",
    [
        {"fidelity": {"gamma": math.nan}},
        {"fidelity": {"nodes": [1, 2]}},
        {"precision": 32},
        {"noise": 0},
    ],
    ids=["NaN equals nothing", "not a scalar", "not text", "unknown field"],
)
def test_identity_refuses_what_cannot_be_compared(change: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        make_identity(**change)


def test_identity_cannot_be_changed() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        make_identity().precision = "bfloat16"  # type: ignore[misc]


# Scores and decisions


def test_scores_are_higher_for_more_ood() -> None:
    calibration = make_calibration()
    usual, far = draw(50, seed=2), draw(50, seed=3, shift=5.0)
    assert calibration.scores(far).min() > calibration.scores(usual).max()
    np.testing.assert_array_equal(calibration.scores(usual), -calibration.detector.score_samples(usual))


def test_calibration_scores_are_those_of_the_second_half_ascending_and_read_only() -> None:
    calibration = make_calibration()
    detector = SpectrumDetector().fit(draw(150))
    np.testing.assert_array_equal(calibration.calibration_scores, np.sort(-detector.score_samples(draw(99, seed=1))))
    with pytest.raises(ValueError, match="read-only"):
        calibration.calibration_scores[0] = 0.0


def test_p_values_and_threshold_are_conformal_and_decide_alike() -> None:
    calibration = make_calibration(alpha=0.2)
    scores = calibration.scores(draw(500, seed=2))
    p_values = calibration.p_values(scores)
    np.testing.assert_array_equal(p_values, conformal_p_values(calibration.calibration_scores, scores))
    assert calibration.threshold() == conformal_threshold(calibration.calibration_scores, 0.2)
    flagged = calibration.is_ood(p_values)
    np.testing.assert_array_equal(flagged, scores >= calibration.threshold())
    assert 0 < flagged.mean() < 0.5


def test_alpha_of_a_call_replaces_the_default() -> None:
    calibration = make_calibration(alpha=0.05)
    assert calibration.is_ood([0.05, 0.06, 0.2]).tolist() == [True, False, False]
    assert calibration.is_ood([0.05, 0.06, 0.2], alpha=0.1).tolist() == [True, True, False]
    assert calibration.threshold(0.1) < calibration.threshold()


def test_a_p_value_that_is_nan_is_refused() -> None:
    with pytest.raises(ValueError, match="p-values must be finite"):
        make_calibration().is_ood([math.nan])


@pytest.mark.parametrize("alpha", [0.0, 1.0])
def test_a_decision_at_no_rate_is_refused(alpha: float) -> None:
    with pytest.raises(ValueError, match="alpha must lie strictly between 0 and 1"):
        make_calibration().is_ood([0.5], alpha=alpha)


def test_fit_refuses_an_unknown_detector() -> None:
    with pytest.raises(ValueError, match=r"unknown detector 'forest'; known: .*mixture, .*spectrum"):
        make_calibration(identity=make_identity(detector="forest"))


def test_fit_refuses_halves_with_different_features() -> None:
    with pytest.raises(ValueError, match="8 features"):
        Calibration.fit(draw(50), draw(50, 8), identity=make_identity())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"calibration_scores": np.array([2.0, 1.0])}, "calibration scores must be ascending"),
        ({"calibration_scores": np.array([1.0, math.nan])}, "calibration scores must be finite"),
        ({"alpha": 0.0}, "alpha must lie strictly between 0 and 1"),
        ({"identity": make_identity(detector="forest")}, "names the detector 'forest', the detector is a 'spectrum'"),
    ],
)
def test_a_calibration_that_contradicts_itself_is_refused(change: dict[str, Any], message: str) -> None:
    good: dict[str, Any] = {
        "identity": make_identity(),
        "detector": SpectrumDetector().fit(draw(20)),
        "calibration_scores": np.array([1.0, 2.0]),
        "alpha": 0.05,
    }
    Calibration(**good)
    with pytest.raises(ValueError, match=message):
        Calibration(**(good | change))


# The file


def test_a_loaded_calibration_answers_bit_for_bit_like_the_saved_one(saved: Path) -> None:
    calibration, loaded = make_calibration(), Calibration.load(saved, expected=make_identity())
    new = draw(50, seed=2)
    np.testing.assert_array_equal(loaded.scores(new), calibration.scores(new))
    np.testing.assert_array_equal(loaded.calibration_scores, calibration.calibration_scores)
    assert loaded.identity == calibration.identity
    assert (loaded.alpha, loaded.provenance) == (calibration.alpha, calibration.provenance)


def test_equal_calibrations_give_equal_bytes(saved: Path, tmp_path: Path) -> None:
    again, reordered = tmp_path / "again.json", tmp_path / "reordered.json"
    Calibration.load(saved).save(again)
    make_calibration(identity=make_identity(fidelity={"seed": 0, "nodes": 10, "method": "bound"})).save(reordered)
    assert again.read_bytes() == saved.read_bytes()
    assert reordered.read_bytes() == saved.read_bytes()


def test_the_file_of_three_hundred_features_is_compact(tmp_path: Path) -> None:
    path = tmp_path / "calibration.json"
    Calibration.fit(draw(600, 300), draw(2500, 300, seed=1), identity=make_identity()).save(path)
    assert path.stat().st_size < 1.15e6


def test_saving_leaves_one_file_with_the_usual_permissions(saved: Path) -> None:
    make_calibration(alpha=0.1).save(saved)
    (ordinary := saved.parent / "ordinary").touch()
    assert {path.name for path in saved.parent.iterdir()} == {"calibration.json", "ordinary"}
    assert stat.S_IMODE(saved.stat().st_mode) == stat.S_IMODE(ordinary.stat().st_mode)
    assert Calibration.load(saved).alpha == 0.1


def test_an_interrupted_save_keeps_the_old_file_and_leaves_nothing_else(
    saved: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = saved.read_bytes()

    def full(_: int) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="no space left"):
        make_calibration(alpha=0.1).save(saved)
    assert saved.read_bytes() == before
    assert list(saved.parent.iterdir()) == [saved]


@pytest.mark.parametrize("value", [math.nan, {1, 2}], ids=["NaN", "a set"])
def test_provenance_that_is_not_json_is_refused_before_anything_is_written(tmp_path: Path, value: Any) -> None:
    with pytest.raises(ValueError, match="provenance is not JSON"):
        make_calibration(provenance={"note": value}).save(tmp_path / "calibration.json")
    assert list(tmp_path.iterdir()) == []


def test_load_refuses_another_identity_and_names_each_difference(saved: Path) -> None:
    expected = make_identity(fidelity={"method": "bound", "nodes": 5, "seed": 0}, precision="bfloat16")
    with pytest.raises(CalibrationMismatchError) as caught:
        Calibration.load(saved, expected=expected)
    assert str(saved) in str(caught.value)
    assert "fidelity.nodes: calibrated with 10, asked for 5" in str(caught.value)
    assert 'precision: calibrated with "float32", asked for "bfloat16"' in str(caught.value)
    assert "seed" not in str(caught.value)


def assert_refused(path: Path, message: str) -> None:
    with pytest.raises(CalibrationFileError, match=message) as caught:
        Calibration.load(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "Expecting value"),
        (b"\xff\xfe\xfa", "codec can't decode"),
        (b"[]", "not a JSON object"),
        (b"[" * 200_000, "calibration file"),
        (b"{}", "format_version: missing"),
        (b'{"format_version": 2}', "format version 2 is unknown, this release reads 1"),
        (b'{"format_version": "1"}', "format version '1' is unknown"),
        (b'{"format_version": 1, "alpha": 0.1}', "missing calibration_scores, checksum, detector, identity, prov"),
    ],
    ids=["empty", "not text", "not an object", "too deep", "no version", "newer", "version as text", "keys missing"],
)
def test_load_refuses_a_file_that_is_no_calibration(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "calibration.json"
    path.write_bytes(content)
    assert_refused(path, message)


def test_load_refuses_a_missing_file(tmp_path: Path) -> None:
    assert_refused(tmp_path / "calibration.json", "No such file")


@pytest.mark.parametrize("share", [0.1, 0.5, 0.99])
def test_load_refuses_a_truncated_file(saved: Path, share: float) -> None:
    content = saved.read_bytes()
    saved.write_bytes(content[: int(share * len(content))])
    assert_refused(saved, "line")


def test_load_refuses_a_file_with_one_changed_digit(saved: Path) -> None:
    content = bytearray(saved.read_bytes())
    position = content.index(b'"whitening":[') + 20
    content[position] = ord("1") if content[position] != ord("1") else ord("2")
    saved.write_bytes(content)
    assert_refused(saved, "checksum does not match")


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("calibration_scores", ["high", "low"], r"calibration_scores\.0: .*number"),
        ("calibration_scores", [], "not empty"),
        ("calibration_scores", [2.0, 1.0], "ascending"),
        ("alpha", 1.5, "alpha must lie strictly between 0 and 1"),
        ("alpha", True, "alpha: .*number"),
        ("identity", {"detector": "spectrum"}, r"identity\.model_digest: Field required"),
        ("detector", {"alpha": 0.05}, "detector state must have the keys"),
        ("comment", "hello", "comment: Extra inputs are not permitted"),
    ],
)
def test_load_refuses_wrong_content_under_a_right_checksum(saved: Path, key: str, value: Any, message: str) -> None:
    content = json.loads(saved.read_bytes()) | {key: value}
    version, _ = content.pop("format_version"), content.pop("checksum")
    saved.write_text(json.dumps({"format_version": version, "checksum": _checksum(content), **content}))
    assert_refused(saved, message)


def test_a_file_that_is_as_it_was_written_is_not_written_anew_to_be_read(
    saved: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pcdm_core.detection.calibration._json", None)
    assert Calibration.load(saved).calibration_scores.size


def test_a_file_of_another_layout_says_the_same(saved: Path, tmp_path: Path) -> None:
    indented, again = tmp_path / "indented.json", tmp_path / "again.json"
    indented.write_text(json.dumps(json.loads(saved.read_bytes()), indent=1))
    Calibration.load(indented).save(again)
    assert again.read_bytes() == saved.read_bytes()


def test_load_refuses_numbers_that_are_none_under_a_right_checksum(saved: Path) -> None:
    text = re.sub(rb'"whitening":\[[^,]+', b'"whitening":[NaN', saved.read_bytes())
    saved.write_bytes(text.replace(json.loads(text)["checksum"].encode(), _checksum_of_lines(text).encode()))
    assert_refused(saved, "NaN")


def test_the_shipped_calibration_is_written_again_as_it_is(tmp_path: Path) -> None:
    shipped = Path(__file__).parents[3] / "weights/cifar10-haar/calibration.json"
    Calibration.load(shipped).save(tmp_path / "calibration.json")
    assert (tmp_path / "calibration.json").read_bytes() == shipped.read_bytes()
