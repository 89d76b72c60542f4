"""Sources whose images are made odd."""

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from pcdm_core.data import open_images
from pcdm_core.data.corruptions import CORRUPTIONS

RANDOM = ("noise", "colour-shifted", "patch-shuffled")


def smooth(count: int, shape: tuple[int, ...]) -> NDArray[np.uint8]:
    """Ramps of any direction and colour with a little grain, no two alike."""
    random = np.random.default_rng(0)
    y, x = np.mgrid[: shape[0], : shape[1]].reshape(2, *shape[:2], *[1] * (len(shape) - 2))
    slopes = random.uniform(-2, 2, (2, count, 1, 1, *shape[2:]))
    ramps = 128 + slopes[0] * y + slopes[1] * x + random.integers(-9, 10, (count, *shape))
    return np.asarray(np.rint(ramps), dtype=np.uint8)


@pytest.fixture(scope="module")
def arrays(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("arrays")
    np.savez(folder / "colour.npz", images=smooth(6, (16, 16, 3)), labels=np.arange(6))
    np.savez(folder / "grey.npz", images=smooth(3, (9, 14)))
    np.savez(folder / "tiny.npz", images=smooth(3, (2, 3, 3)))
    return folder


def pixels(spec: str) -> list[NDArray[np.int64]]:
    return [np.asarray(item.image).astype(np.int64) for item in open_images(spec)]


@pytest.mark.parametrize("name", CORRUPTIONS)
@pytest.mark.parametrize("file", ["colour", "grey", "tiny"])
def test_size_mode_and_number_stay(name: str, file: str, arrays: Path) -> None:
    before, after = open_images(arrays / f"{file}.npz"), open_images(f"{name}({arrays}/{file}.npz)")
    assert len(after) == len(before)
    for old, new in zip(before, after, strict=True):
        assert (new.image.size, new.image.mode, new.label) == (old.image.size, old.image.mode, old.label)
        assert new.source == f"{name}({old.source})"


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_every_image_is_changed(name: str, arrays: Path) -> None:
    for old, new in zip(pixels(f"{arrays}/colour.npz"), pixels(f"{name}({arrays}/colour.npz)"), strict=True):
        assert not np.array_equal(old, new)


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_an_image_is_changed_alike_wherever_it_stands(name: str, arrays: Path, tmp_path: Path) -> None:
    images = np.load(arrays / "colour.npz")["images"]
    np.savez(tmp_path / "turned.npz", images=images[::-1])
    whole = pixels(f"{name}({arrays}/colour.npz)")
    for other in (pixels(f"{name}({tmp_path}/turned.npz)")[::-1], pixels(f"{name}({arrays}/colour.npz[1:])")):
        for one, two in zip(whole[-len(other) :], other, strict=True):
            np.testing.assert_array_equal(one, two)


@pytest.mark.parametrize("name", RANDOM)
def test_what_is_random_differs_from_image_to_image(name: str, tmp_path: Path) -> None:
    base = smooth(1, (16, 16, 3))[0]
    other = base.copy()
    other[0, 0, 0] += 1
    np.savez(tmp_path / "alike.npz", images=np.stack((base, other)))
    one, two = pixels(f"{name}({tmp_path}/alike.npz)")
    assert (one != two).mean() > 0.3


def test_noise_is_white(arrays: Path) -> None:
    noise = np.stack(pixels(f"noise({arrays}/colour.npz)"))
    assert noise.min() <= 5
    assert noise.max() >= 250
    assert abs(noise.mean() - 127.5) < 5
    assert abs(np.corrcoef(noise[:, :, 1:].ravel(), noise[:, :, :-1].ravel())[0, 1]) < 0.1


def test_a_constant_image_has_the_mean_colour(arrays: Path) -> None:
    for old, new in zip(pixels(f"{arrays}/colour.npz"), pixels(f"constant({arrays}/colour.npz)"), strict=True):
        assert (new == new[:1, :1]).all()
        np.testing.assert_allclose(new[0, 0], old.mean((0, 1)), atol=0.5)


def test_blurring_removes_detail(arrays: Path) -> None:
    for old, new in zip(pixels(f"{arrays}/colour.npz"), pixels(f"blurred({arrays}/colour.npz)"), strict=True):
        assert np.abs(np.diff(new, 2, axis=0)).mean() < 0.6 * np.abs(np.diff(old, 2, axis=0)).mean()


def test_jpeg_stays_near(arrays: Path) -> None:
    for old, new in zip(pixels(f"{arrays}/colour.npz"), pixels(f"jpeg({arrays}/colour.npz)"), strict=True):
        assert 1 < np.abs(old - new).mean() < 10


def test_colours_shift_by_channel(tmp_path: Path) -> None:
    np.savez(tmp_path / "middle.npz", images=np.clip(smooth(6, (16, 16, 3)), 60, 190))
    old, new = (np.stack(pixels(spec)) for spec in (f"{tmp_path}/middle.npz", f"colour-shifted({tmp_path}/middle.npz)"))
    shift = new - old
    assert (shift == shift[:, :1, :1]).all()
    assert 20 < np.abs(shift).max() <= 40
    assert len(np.unique(shift[:, 0, 0])) > 3


def test_patches_keep_their_pixels_and_change_places(arrays: Path) -> None:
    for old, new in zip(pixels(f"{arrays}/colour.npz"), pixels(f"patch-shuffled({arrays}/colour.npz)"), strict=True):
        before, after = (
            {image[y : y + 4, x : x + 4].tobytes() for y in range(0, 16, 4) for x in range(0, 16, 4)}
            for image in (old, new)
        )
        assert before == after


def test_windows_inside_and_outside_are_windows(arrays: Path) -> None:
    inside, outside = f"blurred({arrays}/colour.npz[2:5])[1:]", f"blurred({arrays}/colour.npz)[3:5]"
    assert [item.source for item in open_images(inside)] == [item.source for item in open_images(outside)]
    assert [item.label for item in open_images(inside)] == [3, 4]


def test_changes_nest(arrays: Path) -> None:
    (item,) = open_images(f"jpeg(blurred({arrays}/colour.npz))[:1]")
    assert item.source == f"jpeg(blurred({arrays}/colour.npz#0))"


def test_an_unknown_change_lists_the_known_ones() -> None:
    with pytest.raises(FileNotFoundError, match=r"melted\(digits\).*cannot be made melted; write noise\(\.\.\.\), con"):
        open_images("melted(digits)")


def test_a_missing_source_is_named() -> None:
    with pytest.raises(FileNotFoundError, match="cifar11"):
        open_images("blurred(cifar11:test)")


def test_a_file_of_such_a_name_is_taken_literally(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Image.new("RGB", (4, 4), (7, 0, 0)).save(tmp_path / "noise(1)", "PNG")
    (item,) = open_images("noise(1)")
    assert np.asarray(item.image)[0, 0, 0] == 7
