"""The columns of one evaluation, by name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

__all__ = ["ALIGNMENT", "CODECS", "MIDDLE", "SPECTRUM", "FeatureKind", "FeatureLayout"]

FeatureKind = Literal[
    "bits_per_dim",
    "reconstruction",
    "prior",
    "diffusion",
    "webp_bits_per_dim",
    "png_bits_per_dim",
    "error",
    "norm",
    "alignment",
    "neighbour_alignment",
    "middle_mean",
    "middle_std",
]
"""``bits_per_dim``: the bound. ``reconstruction``, ``prior``, ``diffusion``: its terms, bits/dim, the last two of each
scale. ``webp_bits_per_dim``, ``png_bits_per_dim``: size of the image in these lossless codecs. ``error``, ``norm``: the
spectrum, log squared error and log squared norm of the predicted noise, of each scale, noise node and subband.
``alignment``, ``neighbour_alignment``: cosines between what is left of the noise and its prediction, of each scale,
noise node, subband and colour component, and between it and the prediction a pixel further on, of each scale, noise
node and subband.
``middle_mean``, ``middle_std``: spatial mean, and log standard deviation, of each channel in the middle of the U-Net,
of each scale, averaged over the noise nodes; there only if the evaluation was asked for activations."""

SPECTRUM: Final[tuple[FeatureKind, ...]] = ("error", "norm")
ALIGNMENT: Final[tuple[FeatureKind, ...]] = ("alignment", "neighbour_alignment")
MIDDLE: Final[tuple[FeatureKind, ...]] = ("middle_mean", "middle_std")
CODECS: Final[tuple[FeatureKind, ...]] = ("webp_bits_per_dim", "png_bits_per_dim")


@dataclass(frozen=True)
class FeatureLayout:
    """What stands in which column of the feature vector of an image.

    Attributes:
        names: of the columns. One of a kind that comes once is called like it, others have their place added, coarse
            to fine: ``diffusion_scale_1``, ``error_scale_1_node_0_band_0``.

    Raises:
        ValueError: two columns have one name.
    """

    names: tuple[str, ...]

    def __post_init__(self) -> None:
        if len(set(self.names)) < len(self.names):
            raise ValueError("every column of a layout must have a name of its own")

    def __len__(self) -> int:
        return len(self.names)

    def places(self, *kinds: FeatureKind) -> NDArray[np.int64]:
        """Positions of the columns of these kinds, ascending.

        Raises:
            ValueError: there is no column of some kind; names those that are missing.
        """
        found = [(place, name.split("_scale_")[0]) for place, name in enumerate(self.names)]
        missing = [kind for kind in kinds if kind not in {own for _, own in found}]
        if missing:
            raise ValueError(f"the evaluation has no {', '.join(missing)}")
        return np.array([place for place, own in found if own in kinds], dtype=np.int64)

    def select(self, features: NDArray[np.float64], kinds: Sequence[FeatureKind]) -> NDArray[np.float64]:
        """The columns of these kinds, in the order of the layout, ``[..., D]``.

        Args:
            features: of this layout, ``[..., len(names)]``.
            kinds: for example those of a detector.

        Raises:
            ValueError: there is no column of some kind, or `features` have another number of columns.
        """
        if features.shape[-1:] != (len(self),):
            raise ValueError(f"expected features [..., {len(self)}], got {list(features.shape)}")
        return np.ascontiguousarray(features[..., self.places(*kinds)])
