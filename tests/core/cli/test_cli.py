"""The commands, on a tiny cascade that is trained, calibrated and asked within the test."""

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from pcdm_core.cli import app

_CONFIG = """
data = "unused"
batch_size = 16
steps = 12
precision = "float32"
ema_decay = 0.9

[optimizer]
learning_rate = 1e-3
warmup_steps = 2

[cascade]
image_shape = [3, 8, 8]

[[cascade.networks]]
channels = 8
blocks = 1
attention = false

[[cascade.networks]]
channels = 8
blocks = 1
attention = false
patch = 2
"""


def invoke(*arguments: object) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    return result.exit_code, result.stdout, result.stderr


@pytest.fixture(scope="module")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with smooth images, noise images, and a model trained and calibrated on the smooth ones."""
    folder = tmp_path_factory.mktemp("workshop")
    generator = np.random.default_rng(0)
    ramp = np.arange(8)[:, None] * generator.integers(2, 9, (160, 1, 1, 1)) + 4 * np.arange(8)
    smooth = np.repeat(ramp, 3, axis=1).transpose(0, 2, 3, 1) + generator.integers(0, 120, (160, 1, 1, 3))
    np.savez(folder / "smooth.npz", images=smooth.astype(np.uint8))
    np.savez(folder / "noise.npz", images=generator.integers(0, 256, (40, 8, 8, 3), dtype=np.uint8))
    (folder / "tiny.toml").write_text(_CONFIG)
    code, _, error = invoke(
        "train", folder / "tiny.toml", "--output", folder / "run", "--data", f"{folder / 'smooth.npz'}[:60]"
    )
    assert code == 0, error
    code, _, error = invoke(
        "calibrate", folder / "run/model", "--fit", f"{folder / 'smooth.npz'}[60:140]", "--nodes", 3
    )
    assert code == 0, error
    return folder


def test_evaluate_prints_the_terms_of_the_bound(workshop: Path) -> None:
    code, output, error = invoke("evaluate", workshop / "run/model", workshop / "smooth.npz", "--limit", 20, "--json")
    assert code == 0, error
    answer = json.loads(output)
    assert answer["images"] == 20
    assert answer["bits_per_dim"]["stderr"] > 0
    assert sum(answer["terms"].values()) == pytest.approx(answer["bits_per_dim"]["mean"])


def test_score_flags_noise_and_not_what_it_was_trained_on(workshop: Path) -> None:
    normal, odd = f"{workshop / 'smooth.npz'}[140:]", str(workshop / "noise.npz")
    code, output, error = invoke("score", normal, odd, "--model", workshop / "run/model", "--json")
    assert code == 0, error
    results = json.loads(output)["results"]
    assert len(results) == 60
    assert all(result["is_ood"] for result in results[20:])
    assert sum(result["is_ood"] for result in results[:20]) <= 8


def test_score_prints_a_table_by_default(workshop: Path) -> None:
    code, output, _ = invoke("score", workshop / "noise.npz", "--model", workshop / "run/model", "--limit", 1)
    assert code == 0
    assert "out of" in output


def test_calibrate_measures_sets_against_each_other(workshop: Path) -> None:
    code, output, error = invoke(
        "calibrate",
        workshop / "run/model",
        "--id",
        f"{workshop / 'smooth.npz'}[140:]",
        "--ood",
        workshop / "noise.npz",
        "--json",
    )
    assert code == 0, error
    (row,) = json.loads(output)["sets"]
    assert row["auroc"]["low"] <= row["auroc"]["value"] <= row["auroc"]["high"]
    assert row["auroc"]["value"] > 0.95


def test_too_few_calibration_images_are_refused(workshop: Path, tmp_path: Path) -> None:
    for file in (workshop / "run/model").iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    code, _, error = invoke("calibrate", tmp_path, "--fit", f"{workshop / 'smooth.npz'}[:20]", "--nodes", 2)
    assert code == 2
    assert "at least 19" in error


def test_an_unknown_configuration_is_named_with_the_known_ones(tmp_path: Path) -> None:
    code, _, error = invoke("train", tmp_path / "nothing.toml")
    assert code == 2
    assert "nothing.toml" in error
    assert "cifar10-haar" in error


def test_a_folder_without_a_model_is_refused(tmp_path: Path) -> None:
    code, _, error = invoke("evaluate", tmp_path, tmp_path)
    assert code == 2
    assert "config.json is missing" in error.replace("\n", " ")
