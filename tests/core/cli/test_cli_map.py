import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from pcdm_core.cli import app
from pcdm_core.model import Cascade, CascadeConfig, NetworkConfig, save_pretrained


def invoke(*arguments: object) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, ["map", *(str(argument) for argument in arguments)])
    return result.exit_code, result.stdout, result.stderr


def model(folder: Path, transform: str = "haar") -> Path:
    torch.manual_seed(1)
    network = NetworkConfig(channels=4, blocks=1, attention=False)
    save_pretrained(
        Cascade(CascadeConfig(image_shape=(3, 8, 8), transform=transform, networks=(network, network))), folder
    )
    return folder


def picture(file: Path, side: int = 8, seed: int = 0) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (side, side, 3), dtype=np.uint8)).save(file)
    return file


@pytest.fixture(scope="module")
def haar(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return model(tmp_path_factory.mktemp("haar") / "model")


def test_every_picture_gets_a_png(haar: Path, tmp_path: Path) -> None:
    pictures = [picture(tmp_path / "in" / name, seed=seed) for seed, name in enumerate(("one.png", "two.png"))]
    code, output, error = invoke(*pictures, "--model", haar, "--output", tmp_path / "out", "--nodes", 2)
    assert code == 0, error
    assert sorted(file.name for file in (tmp_path / "out").iterdir()) == ["one-map.png", "two-map.png"]
    assert output.count("bits/dim") == 2
    assert str(tmp_path / "out" / "one-map.png") in output


def test_arrays_are_written_on_request(haar: Path, tmp_path: Path) -> None:
    one = picture(tmp_path / "one.png")
    code, output, error = invoke(one, "--model", haar, "--output", tmp_path, "--nodes", 2, "--array", "--json")
    assert code == 0, error
    (row,) = json.loads(output)["results"]
    with np.load(row["array"]) as arrays:
        assert arrays["image"].shape == (3, 8, 8)
        assert arrays["scales"].shape == (2, 8, 8)
        np.testing.assert_allclose(arrays["bits"], arrays["scales"].sum(0) + arrays["reconstruction"])
        assert arrays["bits"].sum() == pytest.approx(192 * row["bits_per_dim"])


def test_pictures_of_one_name_get_files_of_their_own(haar: Path, tmp_path: Path) -> None:
    pictures = [picture(tmp_path / name) for name in ("a/cat.png", "b/cat.png", "a/Cat.bmp")]
    code, _, error = invoke(*pictures, "--model", haar, "--output", tmp_path / "out", "--nodes", 1)
    assert code == 0, error
    names = sorted(file.name for file in (tmp_path / "out").iterdir())
    assert names == ["Cat-3-map.png", "cat-2-map.png", "cat-map.png"]


def test_pictures_of_a_table_are_named_by_their_place(haar: Path, tmp_path: Path) -> None:
    np.savez(tmp_path / "set.npz", images=np.zeros((3, 8, 8, 3), np.uint8))
    code, _, error = invoke(
        f"{tmp_path / 'set.npz'}[1:]", "--limit", 1, "--model", haar, "--output", tmp_path / "out", "--nodes", 1
    )
    assert code == 0, error
    assert [file.name for file in (tmp_path / "out").iterdir()] == ["set-1-map.png"]


def test_a_resized_picture_says_so(haar: Path, tmp_path: Path) -> None:
    code, output, _ = invoke(
        picture(tmp_path / "large.png", 20), "--model", haar, "--output", tmp_path / "out", "--nodes", 1
    )
    assert code == 0
    assert "(resized)" in output


def test_a_transform_that_loses_volume_is_refused_and_nothing_is_written(tmp_path: Path) -> None:
    folder = model(tmp_path / "model", "downsample")
    code, _, error = invoke(picture(tmp_path / "one.png"), "--model", folder, "--output", tmp_path / "out")
    assert code == 2
    assert "does not preserve volume" in error
    assert not (tmp_path / "out").exists()


def test_a_picture_that_is_not_there_is_named(haar: Path, tmp_path: Path) -> None:
    code, _, error = invoke(tmp_path / "nothing.png", "--model", haar, "--output", tmp_path / "out")
    assert code == 2
    assert "nothing.png" in error


def test_a_file_in_the_place_of_the_folder_is_refused(haar: Path, tmp_path: Path) -> None:
    one = picture(tmp_path / "one.png")
    code, _, error = invoke(one, "--model", haar, "--output", one, "--nodes", 1)
    assert code == 2
    assert "one.png" in error
