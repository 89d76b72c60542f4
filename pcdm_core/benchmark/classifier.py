"""A small classifier, which the supervised peers need: they read its logits and the features before them."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from pcdm_core.complaints import complaints
from pcdm_core.files import write_atomically

__all__ = ["Classifier", "ClassifierCard", "Outputs", "load_classifier", "save_classifier"]

_KEY: Final = "card"


class ClassifierCard(BaseModel):
    """What a classifier is and where it comes from; written into its file.

    Attributes:
        image_shape: ``(C, H, W)``.
        classes: number of classes.
        widths: channels at full, half, quarter and eighth resolution.
        trained_on: specification of the labelled images that it was trained on.
        test_images: specification of those that `test_accuracy` was measured on.
        test_accuracy: share of them that it gets right, in [0, 1].
        core_minutes: processor time of the training.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    image_shape: tuple[int, int, int]
    classes: int = Field(ge=2)
    widths: tuple[int, int, int, int] = (24, 48, 96, 160)
    trained_on: str = ""
    test_images: str = ""
    test_accuracy: float | None = Field(default=None, ge=0, le=1)
    core_minutes: float | None = Field(default=None, ge=0)


@dataclass(frozen=True, eq=False)
class Outputs:
    """What a classifier says of images.

    Attributes:
        features: of the last layer but one, averaged over the image, ``[N, D]``.
        logits: ``[N, classes]``.
    """

    features: Tensor
    logits: Tensor


class Classifier(nn.Module):
    """A residual network (He et al., arXiv 1512.03385) with one block at each of three resolutions.

    Attributes:
        card: what it is and where it comes from.
        digest: SHA-256 of its file in hexadecimal; empty if it was not read from one.
    """

    def __init__(self, card: ClassifierCard, digest: str = "") -> None:
        super().__init__()
        self.card = card
        self.digest = digest
        full, *widths = card.widths
        layers: list[nn.Module] = [_convolution(card.image_shape[0], full)]
        width = full
        for wider in widths:
            layers += [_convolution(width, wider, stride=2), _Residual(wider)]
            width = wider
        self.body = nn.Sequential(*layers)
        self.head = nn.Linear(width, card.classes)

    def features(self, images: Tensor) -> Tensor:
        """Features of uint8 images ``[B, C, H, W]``, ``[B, D]``."""
        pixels = (images.float() - 127.5) / 64.0
        found: Tensor = self.body(pixels.contiguous(memory_format=torch.channels_last)).float().mean((2, 3))
        return found

    def forward(self, images: Tensor) -> Tensor:
        """Logits of uint8 images, ``[B, classes]``."""
        logits: Tensor = self.head(self.features(images))
        return logits

    @torch.no_grad()
    def outputs(self, images: NDArray[np.uint8], *, batch_size: int = 128) -> Outputs:
        """Features and logits of images, uint8, ``[N, C, H, W]``."""
        blocks = [images[start : start + batch_size] for start in range(0, len(images), batch_size)]
        features = torch.cat([self.features(torch.from_numpy(block)) for block in blocks])
        return Outputs(features, self.head(features))


class _Residual(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.inner = nn.Sequential(
            _convolution(width, width), nn.Conv2d(width, width, 3, padding=1, bias=False), nn.BatchNorm2d(width)
        )

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(x + self.inner(x))


def _convolution(width: int, wider: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(width, wider, 3, stride, 1, bias=False), nn.BatchNorm2d(wider), nn.ReLU())


def save_classifier(classifier: Classifier, path: Path) -> None:
    """Write one safetensors file with weights and card.

    Raises:
        OSError: the folder does not exist or cannot be written.
    """
    tensors = {name: tensor.contiguous() for name, tensor in classifier.state_dict().items()}
    write_atomically(path, save(tensors, {_KEY: classifier.card.model_dump_json()}))


def load_classifier(path: Path) -> Classifier:
    """Read what `save_classifier` wrote, in evaluation mode.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no classifier's file, or is damaged.
    """
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    try:
        with safe_open(path, framework="pt") as file:
            metadata: dict[str, Any] = file.metadata() or {}
            if _KEY not in metadata:
                raise ValueError(f"{path}: no classifier's file; benchmarks/classifier.py makes one")
            card = ClassifierCard.model_validate(json.loads(metadata[_KEY]))
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dictionary
        classifier = Classifier(card, digest)
        classifier.load_state_dict(tensors)
    except ValidationError as error:
        raise ValueError(f"{path}: {complaints(error)}") from error
    except (SafetensorError, json.JSONDecodeError, RuntimeError) as error:
        raise ValueError(f"{path}: not a readable classifier ({str(error).splitlines()[0]})") from error
    return classifier.eval()
