"""Figures that others have published. None of them was run here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

__all__ = ["PUBLISHED", "Published"]


@dataclass(frozen=True)
class Published:
    """AUROC of single images, CIFAR-10 in-distribution, as told by others: their model, their images, their settings.

    Attributes:
        name: of the score.
        source: where it is published.
        auroc: in [0, 1], by the name of the OOD set.
        remark: what else must be known.
    """

    name: str
    source: str
    auroc: dict[str, float]
    remark: str = ""


PUBLISHED: Final = (
    Published("LMD", "Liu et al., ICML 2023, arXiv 2302.10326", {"svhn": 0.992}),
    Published(
        "MSMA",
        "Mahmood, Oliva, Styner, ICLR 2021, arXiv 2010.13132",
        {"svhn": 0.957, "cifar100": 0.615, "textures": 0.986},
    ),
    Published("input complexity", "Serrà et al., ICLR 2020, arXiv 1909.11480", {"cifar100": 0.736}),
    Published("improved contrastive divergence", "Du et al., ICML 2021, arXiv 2012.01316", {"cifar100": 0.83}),
    Published(
        "EigenScore", "Shoushtari et al., 2025, arXiv 2510.07206", {"cifar100": 0.88}, "tuned on a validation set"
    ),
)
"""All without labels."""
