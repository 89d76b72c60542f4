"""The one interface that every multi-scale transform implements."""

from __future__ import annotations

from abc import ABC, abstractmethod
from math import prod
from typing import ClassVar

from torch import Tensor

__all__ = ["Shape", "Transform"]

Shape = tuple[int, int, int]
"""Channels, height and width of one image or of one scale's coefficients."""


class Transform(ABC):
    r"""A linear map ``h(f) = (z^(1), ..., z^(S))`` from an image to its scales, coarse to fine.

    A transform is one two-channel step, ``analyze: image -> (coarse, detail)`` with left inverse ``synthesize``,
    applied ``S - 1`` times to the coarse part. Where the step is an isometry (``volume_preserving``), white noise
    stays white and ``log p(x) = log p(z^(1)) + sum_s log p(z^(s) | z^(<s))`` holds without a Jacobian term (PCDM,
    section 4).

    Scales are counted from 1, the coarsest, to S; every array has a leading batch dimension ``B``.
    """

    name: ClassVar[str]
    volume_preserving: ClassVar[bool] = True
    coarse_share: ClassVar[float] = 0.25
    """Share of an image's dimensions that the coarse image takes up."""
    coarse_gain: ClassVar[float] = 2.0
    """How much larger a constant image is in its coarse image."""

    def __init__(self, image_shape: Shape, scales: int) -> None:
        """Check that the image divides into ``scales`` scales.

        Args:
            image_shape: Channels, height, width of the image.
            scales: S, at least 1.

        Raises:
            ValueError: If a side is not divisible by ``2 ** (scales - 1)``.
        """
        if scales < 1:
            raise ValueError(f"scales must be at least 1, got {scales}")
        channels, height, width = image_shape
        step = 2 ** (scales - 1)
        if channels < 1 or height < 1 or width < 1 or height % step or width % step:
            raise ValueError(
                f"{scales} scales need an image whose sides are multiples of {step}, got {channels}x{height}x{width}"
            )
        self.image_shape = image_shape
        self.scales = scales

    @abstractmethod
    def analyze(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Split ``[B, C, H, W]`` into the coarse image ``[B, C, H/2, W/2]`` and the detail."""

    @abstractmethod
    def synthesize(self, coarse: Tensor, detail: Tensor) -> Tensor:
        """Join a coarse image and a detail to the image ``[B, C, H, W]``: the adjoint of `analyze` for an isometry."""

    @abstractmethod
    def detail_shape(self, shape: Shape) -> Shape:
        """Shape of the detail of an image of ``shape``."""

    @abstractmethod
    def detail_rank(self, shape: Shape) -> int:
        """Dimension of the space of details of an image of ``shape``."""

    def detail_bands(self) -> tuple[str, ...]:
        """Names of the equal groups of channels (subbands) of a detail, in order."""
        return ("detail",)

    def project_detail(self, detail: Tensor) -> Tensor:
        """Orthogonal projection of an array on the space of details."""
        return detail

    def resolution(self, scale: int) -> Shape:
        """Shape of the image that scales ``1..scale`` make up together."""
        channels, height, width = self.image_shape
        step = 2 ** (self.scales - scale)
        return channels, height // step, width // step

    def shape(self, scale: int) -> Shape:
        """Shape of ``z^(scale)``."""
        return self.resolution(1) if scale == 1 else self.detail_shape(self.resolution(scale))

    def rank(self, scale: int) -> int:
        """Rank of ``P_scale``: the number of dimensions that ``z^(scale)`` really has."""
        return prod(self.resolution(1)) if scale == 1 else self.detail_rank(self.resolution(scale))

    def bands(self, scale: int) -> tuple[str, ...]:
        """Names of the equal groups of channels (subbands) of ``z^(scale)``, in order."""
        return ("coarse",) if scale == 1 else self.detail_bands()

    def project(self, scale: int, z: Tensor) -> Tensor:
        """``P_scale z``: orthogonal projection on the range of ``h_scale``, same shape."""
        return z if scale == 1 else self.project_detail(z)

    def split(self, scale: int, image: Tensor) -> Tensor:
        """``z^(scale)`` of an image at the resolution of ``scale``."""
        return image if scale == 1 else self.analyze(image)[1]

    def merge(self, scale: int, coarse: Tensor | None, z: Tensor) -> Tensor:
        """Image at the resolution of ``scale`` from the coarse image below it (None at scale 1) and ``z^(scale)``."""
        if scale == 1:
            return z
        assert coarse is not None, "every scale above the first has a coarse image"
        return self.synthesize(coarse, z)

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """``h``: image ``[B, C, H, W]`` to its scales ``(z^(1), ..., z^(S))``."""
        if tuple(image.shape[1:]) != self.image_shape:
            raise ValueError(f"expected images [B, {self.image_shape}], got {tuple(image.shape)}")
        details = []
        for _ in range(self.scales - 1):
            image, detail = self.analyze(image)
            details.append(detail)
        return (image, *reversed(details))

    def inverse(self, coefficients: tuple[Tensor, ...]) -> Tensor:
        """``h^-1``; given only the first ``s`` scales, the image at the resolution of scale ``s``."""
        image, *details = coefficients
        for detail in details:
            image = self.synthesize(image, detail)
        return image

    @property
    def noise_dimensions(self) -> int:
        """Independent standard normal numbers that the noise of one image takes."""
        return prod(self.image_shape)

    def noise(self, white: Tensor) -> tuple[Tensor, ...]:
        """Noise of every scale, ``eps^(s) = h_s(eps)``.

        Args:
            white: Independent standard normal numbers, ``[B, noise_dimensions]``.

        Returns:
            ``eps^(s)`` with the shape of ``z^(s)`` and covariance ``P_s``, independent between scales.
        """
        return self.forward(white.view(-1, *self.image_shape))
