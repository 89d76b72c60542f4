"""Model folders as anybody makes them, of the smallest models."""

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from service_doubles import tiny_cascade

from pcdm_core.detection import SPECTRUM, Calibration
from pcdm_core.model import save_pretrained
from pcdm_core.scoring import CALIBRATION_FILE, CascadeScorer

from hostile_images import encode  # isort: skip  # found through service_doubles


def save_model(folder: Path, seed: int, *, alpha: float | None = None) -> CascadeScorer:
    """Write a model of its own for each seed, over whatever the folder holds; with a calibration if it has a level."""
    torch.manual_seed(seed)
    (folder / CALIBRATION_FILE).unlink(missing_ok=True)
    save_pretrained(tiny_cascade(), folder)
    if alpha is not None:
        scorer = CascadeScorer.from_pretrained(folder)
        found = np.stack([one.features for one in scorer.score(noise_images(60))])
        features = scorer.layout(scorer.fidelity).select(found, SPECTRUM)
        identity = scorer.identity(scorer.fidelity, "spectrum")
        Calibration.fit(features[:30], features[30:], identity=identity, alpha=alpha).save(folder / CALIBRATION_FILE)
    return CascadeScorer.from_pretrained(folder)


def noise_images(count: int) -> NDArray[np.uint8]:
    return np.random.default_rng(7).integers(0, 256, (count, 3, 8, 8), dtype=np.uint8)


def encode_array(image: NDArray[np.uint8]) -> bytes:
    return encode(Image.fromarray(image.transpose(1, 2, 0)))
