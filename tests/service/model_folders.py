"""Model folders as anybody makes them, of the smallest models."""

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from service_doubles import tiny_cascade

from pcdm_core.detection import Calibration, detector_named
from pcdm_core.model import save_pretrained
from pcdm_core.scoring import CALIBRATION_FILE, CascadeScorer, Fidelity, calibration_file

from hostile_images import encode  # isort: skip  # found through service_doubles


def save_model(
    folder: Path, seed: int, *, alpha: float | None = None, further: tuple[str, Fidelity] | None = None
) -> CascadeScorer:
    """Write a model of its own for each seed, over whatever the folder holds; with a calibration if it has a level.

    Args:
        folder: Where to.
        seed: Of its weights.
        alpha: Level of the calibration.
        further: Another detector that it is calibrated with, and at which fidelity.
    """
    torch.manual_seed(seed)
    (folder / CALIBRATION_FILE).unlink(missing_ok=True)
    save_pretrained(tiny_cascade(), folder)
    if alpha is not None:
        scorer = CascadeScorer.from_pretrained(folder)
        _calibrate(scorer, "spectrum", scorer.fidelity, alpha).save(folder / CALIBRATION_FILE)
        if further is not None:
            file = calibration_file(folder, further[0])
            file.parent.mkdir(exist_ok=True)
            _calibrate(scorer, *further, alpha).save(file)
    return CascadeScorer.from_pretrained(folder)


def _calibrate(scorer: CascadeScorer, name: str, fidelity: Fidelity, alpha: float) -> Calibration:
    found = scorer.findings(noise_images(60), fidelity)
    detector = detector_named(name, scorer.layout(fidelity), alpha=alpha)
    features, identity = found.seen_by(detector), scorer.identity(fidelity, name)
    return Calibration.fit(features[:30], features[30:], identity=identity, alpha=alpha, detector=detector)


def noise_images(count: int) -> NDArray[np.uint8]:
    return np.random.default_rng(7).integers(0, 256, (count, 3, 8, 8), dtype=np.uint8)


def encode_array(image: NDArray[np.uint8]) -> bytes:
    return encode(Image.fromarray(image.transpose(1, 2, 0)))
