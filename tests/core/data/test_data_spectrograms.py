"""Synthesised sounds and their spectrograms as a source."""

import numpy as np
import pytest
from numpy.typing import NDArray

from pcdm_core.data import Preprocessing, load_array, open_images
from pcdm_core.data.synthesis import BINS, FRAMES, KINDS, log_spectrogram, sound

RATE = 8000
TIME = np.arange(2 * BINS * FRAMES) / RATE


def load(spec: str) -> NDArray[np.uint8]:
    return load_array(open_images(spec), Preprocessing(channels=1, height=BINS, width=FRAMES))


# The source


@pytest.mark.parametrize("kind", KINDS)
def test_images_are_grey_and_wider_than_high(kind: str) -> None:
    (item,) = open_images(f"spectrograms:{kind}[:1]")
    assert (item.image.mode, item.image.size, item.label) == ("L", (64, 32), None)


def test_images_are_told_apart_by_number() -> None:
    names = [item.source for item in open_images("spectrograms:bells[7:9]")]
    assert names == ["spectrograms:bells#7", "spectrograms:bells#8"]


@pytest.mark.parametrize("kind", KINDS)
def test_an_image_depends_on_its_number_alone(kind: str) -> None:
    assert np.array_equal(load(f"spectrograms:{kind}[3:6]"), load(f"spectrograms:{kind}[:6]")[3:])


def test_images_of_all_kinds_and_numbers_differ() -> None:
    images = np.concatenate([load(f"spectrograms:{kind}[:10]") for kind in KINDS])
    assert len(np.unique(images, axis=0)) == 10 * len(KINDS)


def test_there_are_as_many_of_each_kind() -> None:
    assert {len(open_images(f"spectrograms:{kind}")) for kind in KINDS} == {20_000}


@pytest.mark.parametrize(
    ("spec", "wrong"), [("spectrograms", "which kind is not said"), ("spectrograms:test", 'there is no kind "test"')]
)
def test_a_missing_kind_lists_those_there_are(spec: str, wrong: str) -> None:
    with pytest.raises(ValueError, match=f"spectrograms: {wrong}.*notes, bells, chirps, clicks, noise"):
        open_images(spec)


# Sounds


@pytest.mark.parametrize("kind", KINDS)
def test_sounds_stay_within_full_scale(kind: str) -> None:
    assert max(np.abs(sound(kind, number)).max() for number in range(20)) < 1.01


@pytest.mark.parametrize("kind", KINDS)
def test_the_scale_is_used_and_not_clipped_at_its_top(kind: str) -> None:
    images = load(f"spectrograms:{kind}[:50]")
    assert images.min() == 0
    assert 120 < images.max() < 255


# Spectrograms


@pytest.mark.parametrize("row", [0, 10, 31])
def test_a_full_sine_is_white_in_the_row_of_its_frequency(row: int) -> None:
    frequency = 125 * (BINS - row)
    image = log_spectrogram(np.cos(2 * np.pi * frequency * TIME))
    assert (image.argmax(axis=0) == row).all()
    assert (image[row] == 255).all()


def test_silence_is_black() -> None:
    assert not log_spectrogram(np.zeros(len(TIME))).any()


def test_a_tenth_of_the_amplitude_is_20_decibels_darker() -> None:
    sine = np.cos(2 * np.pi * 1000 * TIME)
    difference = log_spectrogram(sine).max() - log_spectrogram(0.1 * sine).max()
    assert difference == pytest.approx(255 * 20 / 80, abs=1)


def test_time_runs_to_the_right() -> None:
    late = np.cos(2 * np.pi * 1000 * TIME)
    late[: len(TIME) // 2] = 0.0
    image = log_spectrogram(late)
    assert not image[:, : FRAMES // 2].any()
    assert image[:, FRAMES // 2 :].any(axis=0).all()
