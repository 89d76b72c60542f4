"""A model, a classifier and sets of images, small enough to compare detectors on in a test."""

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from pcdm_core.benchmark import Classifier, ClassifierCard, save_classifier
from pcdm_core.model import Cascade, CascadeConfig, NetworkConfig, save_pretrained

CARD = ClassifierCard(image_shape=(3, 8, 8), classes=3, widths=(4, 4, 8, 8), trained_on="smooth.npz")


def smooth_images(count: int, seed: int) -> NDArray[np.uint8]:
    """Ramps with some grain, ``[N, 8, 8, 3]``."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[:8, :8][..., None]
    slopes = random.uniform(1, 9, (2, count, 1, 1, 3))
    return np.asarray(slopes[0] * y + slopes[1] * x + random.integers(9, 99, (count, 8, 8, 1)), dtype=np.uint8)


def tiny_classifier() -> Classifier:
    torch.manual_seed(0)
    return Classifier(CARD).eval()


def write_bench(folder: Path) -> None:
    """A model, a classifier, and three sets: ``smooth.npz`` with labels, ``noise.npz`` and ``dark.npz``."""
    torch.manual_seed(1)
    network = NetworkConfig(channels=8, blocks=1, attention=False)
    cascade = Cascade(CascadeConfig(image_shape=(3, 8, 8), networks=(network, network)))
    with torch.no_grad():
        for parameter in cascade.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    save_pretrained(cascade, folder / "model")
    save_classifier(tiny_classifier(), folder / "classifier.safetensors")
    random = np.random.default_rng(0)
    np.savez(folder / "smooth.npz", images=smooth_images(90, 0), labels=np.arange(90) % 3)
    np.savez(folder / "noise.npz", images=random.integers(0, 256, (20, 8, 8, 3), dtype=np.uint8))
    np.savez(folder / "dark.npz", images=random.integers(0, 9, (20, 8, 8, 3), dtype=np.uint8))
