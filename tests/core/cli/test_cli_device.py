"""`--device`: where the networks run, or why they cannot."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from pcdm_core.cli import app
from pcdm_core.model import Cascade, CascadeConfig, NetworkConfig, save_pretrained

COMMANDS = {
    "score": ["score", "{images}", "--model", "{model}"],
    "evaluate": ["evaluate", "{model}", "{images}", "--nodes", "1"],
    "calibrate": ["calibrate", "{model}", "--fit", "{images}"],
    "map": ["map", "{images}", "--model", "{model}", "--output", "{folder}/maps"],
    "sample": ["sample", "--model", "{model}", "--output", "{folder}/sheet.png", "--steps", "1"],
}


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("device")
    network = NetworkConfig(channels=8, blocks=1, attention=False)
    save_pretrained(Cascade(CascadeConfig(image_shape=(3, 8, 8), networks=(network, network))), folder / "model")
    images = np.random.default_rng(0).integers(0, 256, (4, 8, 8, 3), dtype=np.uint8)
    np.savez(folder / "images.npz", images=images)
    return {"folder": folder, "model": folder / "model", "images": folder / "images.npz"}


def run(places: dict[str, Path], name: str, device: str, **environment: str) -> tuple[int, str]:
    words = [word.format(**places) for word in COMMANDS[name]] + (["--device", device] if device else [])
    result = CliRunner().invoke(app, words, env=environment)
    return result.exit_code, result.stderr


@pytest.mark.skipif(torch.cuda.device_count() > 0, reason="there is a CUDA device")
@pytest.mark.parametrize("name", COMMANDS)
def test_a_device_that_is_not_there_is_refused(places: dict[str, Path], name: str) -> None:
    code, error = run(places, name, "cuda")
    assert (code, error.startswith("error: the device cuda is not there: there is cpu")) == (2, True), error


@pytest.mark.parametrize("name", COMMANDS)
def test_a_name_of_no_device_is_refused(places: dict[str, Path], name: str) -> None:
    assert run(places, name, "gpu") == (2, "error: 'gpu' is no device: expected auto, cpu, cuda or cuda:N\n")


@pytest.mark.parametrize("device", ["auto", "cpu"])
def test_a_device_that_is_there_is_used(places: dict[str, Path], device: str) -> None:
    assert run(places, "evaluate", device)[0] == 0


def test_the_command_line_is_stronger_than_the_environment(places: dict[str, Path]) -> None:
    assert run(places, "evaluate", "", PCDM_DEVICE="gpu")[0] == 2
    assert run(places, "evaluate", "cpu", PCDM_DEVICE="gpu")[0] == 0
