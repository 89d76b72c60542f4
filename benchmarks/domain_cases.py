"""The images of `benchmarks/domains.py`, and how much of what is done with them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from pcdm_core.data import Preprocessing, load_array, open_images
from pcdm_core.scoring import Fidelity
from pcdm_core.training import load_config

# What these domains were measured with.
DETECTOR, ALPHA, FAST = "mixture", 0.05, Fidelity(nodes=6, rule="time")
EVALUATED, ESTIMATE_NODES, CERTIFIED_NODES = 300, 16, 64
SHEET, STEPS = 16, 100

Images = NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class Case:
    """Images of one cascade, uint8 `[N, C, H, W]`.

    Attributes:
        config: Name of the shipped configuration.
        training: What the cascade sees.
        fit: What the detector is fitted on.
        calibration: What its p-values are calibrated on.
        test: Normal images that nothing has seen.
        odd: Images of other kinds, by name.
    """

    config: str
    training: Images
    fit: Images
    calibration: Images
    test: Images
    odd: dict[str, Images]


def read(spec: str, config: str) -> Images:
    channels, height, width = load_config(config).cascade.image_shape
    sizes = {"channels": channels, "height": height, "width": width}
    return load_array(open_images(spec), Preprocessing.model_validate(sizes))


def labels(spec: str) -> NDArray[np.int64]:
    return np.array([item.label for item in open_images(spec)])


ODD_DIGITS: dict[str, Callable[[Images], Images]] = {
    "upside down": lambda x: x[:, :, ::-1],
    "turned by 90 degrees": lambda x: np.rot90(x, 1, (2, 3)),
    "moved by a pixel": lambda x: np.roll(x, 1, 3),
    "blurred": lambda x: np.rint(gaussian_filter(x.astype(float), (0, 0, 0.7, 0.7))).astype(np.uint8),
    "inverted": lambda x: 16 - x,
    "uniform noise": lambda x: np.random.default_rng(0).integers(0, 17, x.shape, dtype=np.uint8),
}


def digits(classes: int) -> Case:
    """Digits below `classes`. Odd are those from there on or, where all are known, what `ODD_DIGITS` makes of them."""
    seen, unseen = load_config("digits").data, "digits[1000:]"
    training, held_out, kind = read(seen, "digits"), read(unseen, "digits"), labels(unseen)
    # Forms of one writer follow one another: without shuffling, other writers would calibrate than are tested.
    order = np.random.default_rng(0).permutation(len(held_out))
    held_out, kind = held_out[order], kind[order]
    fit, calibration, test = np.split(held_out[kind < classes], (250, 450))
    odd = {f"the digit {digit}": held_out[kind == digit] for digit in range(classes, 10)}
    odd = odd or {name: np.ascontiguousarray(change(test)) for name, change in ODD_DIGITS.items()}
    return Case("digits", training[labels(seen) < classes], fit, calibration, test, odd)


def spectrograms() -> Case:
    def window(kind: str, start: int, stop: int) -> Images:
        return read(f"spectrograms:{kind}[{start}:{stop}]", "spectrograms")

    training = read(load_config("spectrograms").data, "spectrograms")
    fit, calibration, test = (window("notes", start, start + 1000) for start in (10_000, 11_000, 12_000))
    odd = {kind: window(kind, 0, 500) for kind in ("bells", "chirps", "clicks", "noise")}
    return Case("spectrograms", training, fit, calibration, test, odd)


CASES: dict[str, Callable[[], Case]] = {
    "digits": lambda: digits(10),
    "digits 0 to 7": lambda: digits(8),
    "spectrograms": spectrograms,
}


def folder_of(runs: Path, name: str) -> Path:
    return runs / name.replace(" ", "-")
