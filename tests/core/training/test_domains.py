"""Images of other kinds than photographs: grey, not square, of few levels, of sides with an odd factor."""

from math import log2
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from tiny_runs import run_config

from pcdm_core.data import Preprocessing, load_array, open_images
from pcdm_core.model import CascadeConfig, NetworkConfig
from pcdm_core.scoring import CascadeScorer, Fidelity
from pcdm_core.training import load_config, train

pytest.importorskip("accelerate")
pytest.importorskip("tensorboard")

SMALL = NetworkConfig(channels=8, blocks=1)


def images_of(spec: str, shape: tuple[int, int, int]) -> NDArray[np.uint8]:
    channels, height, width = shape
    sizes = {"channels": channels, "height": height, "width": width}
    return load_array(open_images(spec), Preprocessing.model_validate(sizes))


def bits_after_training(cascade: CascadeConfig, images: NDArray[np.uint8], folder: Path) -> list[float]:
    """Bits/dim of the first two images, by a scorer that reads what a run of three steps has written."""
    train(run_config(cascade=cascade, steps=3, flip=False), images, folder)
    scorer = CascadeScorer.from_pretrained(folder / "model", calibrated=False)
    return [score.bits_per_dim for score in scorer.score(images[:2], Fidelity(nodes=2))]


@pytest.mark.parametrize("name", ["digits", "spectrograms"])
def test_a_shipped_configuration_fits_its_images(name: str) -> None:
    config = load_config(name)
    item = next(iter(open_images(config.data)))
    channels, height, width = config.cascade.image_shape
    assert (item.image.mode, item.image.size, channels) == ("L", (width, height), 1)


def test_digits_use_all_the_levels_of_their_configuration() -> None:
    cascade = load_config("digits").cascade
    assert np.array_equal(np.unique(images_of("digits", cascade.image_shape)), np.arange(cascade.levels))


def test_digits_leave_room_for_held_out_images() -> None:
    config = load_config("digits")
    assert (len(open_images(config.data)), len(open_images("digits"))) == (1000, 1797)


def test_a_cascade_of_images_that_are_not_square(tmp_path: Path) -> None:
    images = images_of("spectrograms:notes[:8]", (1, 32, 64))[:, :, ::2, ::2]
    cascade = CascadeConfig(image_shape=(1, 16, 32), networks=(SMALL, SMALL.model_copy(update={"patch": 2}), SMALL))
    assert np.isfinite(bits_after_training(cascade, images, tmp_path)).all()


def test_a_cascade_of_17_levels(tmp_path: Path) -> None:
    cascade = CascadeConfig(image_shape=(1, 8, 8), networks=(SMALL, SMALL), levels=17, gamma_min=-7.9)
    bits = bits_after_training(cascade, images_of("digits[:8]", (1, 8, 8)), tmp_path)
    assert max(bits) < log2(17)  # a cascade that takes the same images for those of 256 levels starts at 7


@pytest.mark.parametrize(("channels", "scales"), [(1, 2), (3, 3)])
def test_a_cascade_of_the_size_of_medmnist(tmp_path: Path, channels: int, scales: int) -> None:
    np.savez(
        tmp_path / "some.npz",
        train_images=np.random.default_rng(0).integers(0, 256, (4, 28, 28, channels), dtype=np.uint8),
    )
    shape = (channels, 28, 28)
    cascade = CascadeConfig(image_shape=shape, networks=(SMALL,) * scales)
    images = images_of(f"{tmp_path}/some.npz:train", shape)
    assert np.isfinite(bits_after_training(cascade, images, tmp_path / "run")).all()


def test_pixels_beyond_the_levels_are_refused(tmp_path: Path) -> None:
    cascade = CascadeConfig(image_shape=(1, 8, 8), networks=(SMALL, SMALL), levels=17)
    images = np.full((4, 1, 8, 8), 17, dtype=np.uint8)
    with pytest.raises(ValueError, match="17 levels are pixels of 0 to 16; the images hold a pixel of 17"):
        train(run_config(cascade=cascade), images, tmp_path)
