"""`pcdm sample`: a readable sheet of the right size, or a clear error before anything is drawn."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from pcdm_core.cli import app
from pcdm_core.model import Cascade, CascadeConfig, NetworkConfig, save_pretrained


def model(folder: Path, channels: int) -> Path:
    torch.manual_seed(1)
    network = NetworkConfig(channels=8, blocks=1, attention=False)
    save_pretrained(Cascade(CascadeConfig(image_shape=(channels, 8, 8), networks=(network, network))), folder)
    return folder


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return model(tmp_path_factory.mktemp("tiny"), 3)


def sample(folder: Path, output: Path, *options: object) -> tuple[int, str, str]:
    arguments = ["sample", "--model", folder, "--output", output, "--steps", 2, *options]
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    return result.exit_code, result.stdout, result.stderr


def read(file: Path) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    with Image.open(file) as image:
        assert image.format == "PNG"
        return np.asarray(image)


@pytest.mark.parametrize("method", ["ancestral", "flow"])
def test_it_writes_a_sheet_of_the_images(tiny: Path, tmp_path: Path, method: str) -> None:
    code, output, error = sample(tiny, tmp_path / "sheet.png", "--count", 5, "--method", method)
    assert code == 0, error
    assert f"wrote {tmp_path / 'sheet.png'}" in output
    # Two rows of three, and gaps of two pixels.
    assert read(tmp_path / "sheet.png").shape == (2 * 10 + 2, 3 * 10 + 2, 3)
    assert [file.name for file in tmp_path.iterdir()] == ["sheet.png"]


def test_grey_images_make_a_grey_sheet(tmp_path: Path) -> None:
    folder = model(tmp_path / "grey", 1)
    assert sample(folder, tmp_path / "sheet.png", "--count", 1)[0] == 0
    assert read(tmp_path / "sheet.png").shape == (12, 12)


def test_the_seed_decides_the_images(tiny: Path, tmp_path: Path) -> None:
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        assert sample(tiny, tmp_path / f"{name}.png", "--count", 1, "--seed", seed)[0] == 0
    sheets = {name: read(tmp_path / f"{name}.png") for name in "abc"}
    np.testing.assert_array_equal(sheets["a"], sheets["b"])
    assert (sheets["a"] != sheets["c"]).any()


@pytest.mark.parametrize(
    ("output", "named"),
    [("sheet.jpg", "must end in .png"), ("nowhere/sheet.png", "there is no folder"), ("folder.png", "it is a folder")],
)
def test_an_output_that_cannot_be_written_is_refused(tiny: Path, tmp_path: Path, output: str, named: str) -> None:
    (tmp_path / "folder.png").mkdir()
    # So many images would take hours: the error comes first.
    code, _, error = sample(tiny, tmp_path / output, "--count", 10_000_000)
    assert code == 2
    assert named in error


def test_images_that_are_neither_grey_nor_colour_are_refused(tmp_path: Path) -> None:
    code, _, error = sample(model(tmp_path / "two", 2), tmp_path / "sheet.png")
    assert code == 2
    assert "have 2 channels" in error


def test_a_folder_without_a_model_is_refused(tmp_path: Path) -> None:
    code, _, error = sample(tmp_path, tmp_path / "sheet.png")
    assert code == 2
    assert "config.json is missing" in error
