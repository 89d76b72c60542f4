"""Further detectors of a model, on the command line."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from invoking import invoke

from pcdm_core.model import Cascade, CascadeConfig, NetworkConfig, save_pretrained
from pcdm_core.scoring import CascadeScorer, calibration_file

NOISE = np.random.default_rng(7).integers(0, 256, (60, 8, 8), dtype=np.uint8)


def save_weights(folder: Path, seed: int) -> None:
    torch.manual_seed(seed)
    network = NetworkConfig(channels=8, blocks=1, attention=False)
    save_pretrained(Cascade(CascadeConfig(image_shape=(1, 8, 8), networks=(network, network))), folder)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model with a default detector."""
    folder = tmp_path_factory.mktemp("made")
    save_weights(folder / "model", 1)
    np.savez(folder / "noise.npz", images=NOISE)
    code, _, error = make_default(folder / "model")
    assert code == 0, error
    return folder


@pytest.fixture
def model(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "workshop")) / "model"


def make_default(model: Path, detector: str = "spectrum") -> tuple[int, str, str]:
    return invoke("calibrate", model, "--fit", model.parent / "noise.npz", "--nodes", 2, "--detector", detector)


def add(model: Path, *options: object) -> tuple[int, str, str]:
    words = ("--fit", model.parent / "noise.npz", "--nodes", 3, "--further")
    return invoke("calibrate", model, *words, *options)


def test_a_further_detector_is_made_beside_the_default(model: Path) -> None:
    default = calibration_file(model).read_bytes()
    code, output, error = add(model, "--detector", "typicality")
    assert code == 0, error
    assert "typicality.json" in output.replace("\n", "")
    assert calibration_file(model).read_bytes() == default
    assert list(CascadeScorer.from_pretrained(model).detectors) == ["spectrum", "typicality"]


def test_it_scores_and_is_measured_where_it_is_asked_for(model: Path) -> None:
    add(model, "--detector", "typicality")
    noise = model.parent / "noise.npz"
    code, output, error = invoke("score", noise, "--model", model, "--detector", "typicality", "--json")
    assert code == 0, error
    told, judge = json.loads(output), CascadeScorer.from_pretrained(model).detectors["typicality"]
    assert (told["detector"], told["fidelity"]["nodes"]) == ("typicality", 3)
    assert [one["p_value"] for one in told["results"]] == [one.p_value for one in judge.score(NOISE[:, None])]
    sets = ("--id", f"{noise}[:30]", "--ood", f"{noise}[30:]", "--detector", "typicality", "--json")
    code, output, error = invoke("calibrate", model, *sets)
    assert code == 0, error
    assert json.loads(output)["detector"] == "typicality"


@pytest.mark.parametrize("command", ["score", "calibrate"])
def test_one_that_is_not_there_is_refused(model: Path, command: str) -> None:
    noise = model.parent / "noise.npz"
    words = (noise, "--model", model) if command == "score" else (model, "--id", noise, "--ood", noise)
    code, _, error = invoke(command, *words, "--detector", "typicality")
    assert code == 2
    assert "model is not calibrated with the detector typicality, only with spectrum" in error


def test_the_defaults_own_detector_is_no_further_one(model: Path) -> None:
    code, _, error = add(model, "--detector", "spectrum")
    assert code == 2
    assert "calibration.json is of the detector spectrum already" in error
    assert not (model / "calibrations").exists()


def test_a_further_one_needs_a_default(model: Path) -> None:
    calibration_file(model).unlink()
    code, _, error = add(model)
    assert code == 2
    assert "calibration.json is missing, make it first" in error


def test_a_further_one_needs_a_default_of_the_same_weights(model: Path) -> None:
    save_weights(model, 2)
    code, _, error = add(model, "--detector", "typicality")
    assert code == 2
    assert "the calibration of the detector spectrum was made for something else: model_digest" in error
    assert not (model / "calibrations").exists()


def test_the_default_does_not_take_the_detector_of_a_further_one(model: Path) -> None:
    add(model, "--detector", "typicality")
    before = calibration_file(model).read_bytes()
    code, _, error = make_default(model, "typicality")
    assert code == 2
    assert "typicality.json is of the detector typicality already: remove it, or make it anew" in error
    assert calibration_file(model).read_bytes() == before


def test_new_weights_get_their_default_while_further_ones_are_of_the_old(model: Path) -> None:
    add(model, "--detector", "typicality")
    save_weights(model, 2)
    code, _, error = make_default(model)
    assert code == 0, error
    code, _, error = invoke("score", model.parent / "noise.npz", "--model", model)
    assert code == 2
    assert "the calibration of the detector typicality was made for something else: model_digest" in error
    assert add(model, "--detector", "typicality")[0] == 0
    assert invoke("score", model.parent / "noise.npz", "--model", model)[0] == 0
