"""Frozen configuration of a cascade; it builds everything that has weights."""

from __future__ import annotations

from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from pcdm_core.transforms import TRANSFORMS, Transform

__all__ = ["CascadeConfig", "Frozen", "NetworkConfig"]


class Frozen(BaseModel):
    """Base of all configurations: immutable, and unknown keys are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class NetworkConfig(Frozen):
    """Size of the U-Net of one scale.

    Attributes:
        channels: Width at the network's finest resolution.
        multipliers: Width of each inner resolution, relative to `channels`; ``(1,)`` keeps the resolution constant.
        blocks: Residual blocks at each resolution, on the way down (one more on the way up).
        attention: Self-attention in the middle.
        dropout: Dropout inside residual blocks.
        patch: Side of the pixel blocks that the network sees as channels; 2 runs it at half the resolution.
        fourier: Exponents n of the base-2 Fourier features ``sin, cos(2 pi 2^n u)`` of the noisy image.
    """

    channels: int = Field(64, ge=4, multiple_of=4)
    multipliers: tuple[Annotated[int, Field(ge=1)], ...] = Field((1,), min_length=1)
    blocks: int = Field(2, ge=1)
    attention: bool = True
    dropout: float = Field(0.0, ge=0.0, lt=1.0)
    patch: int = Field(1, ge=1, le=2)
    fourier: tuple[int, ...] = (6, 7)


class CascadeConfig(Frozen):
    """A whole cascade: image domain, transform, noise levels, and a network for each scale.

    Attributes:
        image_shape: Channels, height, width.
        transform: Name in `pcdm_core.transforms.TRANSFORMS`.
        networks: One for each scale, coarse to fine; their number is S.
        gamma_min: gamma_0, the negative log signal-to-noise ratio of the least noise.
        gamma_max: gamma_1, that of the most noise.
        schedule_bins: Pieces of each scale's learned schedule.
        levels: Values a pixel can take; 256 for ordinary images.
        lattice: Let the finest network start from the exact denoiser of the pixel lattice.
    """

    image_shape: tuple[int, int, int]
    transform: str = "haar"
    networks: tuple[NetworkConfig, ...] = Field(min_length=1)
    gamma_min: float = -13.3
    gamma_max: float = 5.0
    schedule_bins: int = Field(64, ge=1)
    levels: int = Field(256, ge=2, le=256)
    lattice: bool = True

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.gamma_min >= self.gamma_max:
            raise ValueError(f"gamma_min ({self.gamma_min}) must lie below gamma_max ({self.gamma_max})")
        transform = self.build_transform()
        for scale, network in enumerate(self.networks, start=1):
            _, height, width = transform.resolution(scale)
            step = network.patch * 2 ** (len(network.multipliers) - 1)
            if height % step or width % step:
                raise ValueError(
                    f"the network of scale {scale} halves its {height}x{width} input to multiples of {step}, "
                    "which does not divide it; use fewer multipliers or patch = 1"
                )
        return self

    @property
    def scales(self) -> int:
        """S, the number of scales."""
        return len(self.networks)

    @property
    def dimensions(self) -> int:
        """Dimensions of an image, C H W: what bits per dimension are divided by."""
        channels, height, width = self.image_shape
        return channels * height * width

    def build_transform(self) -> Transform:
        """The transform of this cascade.

        Raises:
            ValueError: If its name is unknown or it cannot divide the image.
        """
        if self.transform not in TRANSFORMS:
            raise ValueError(f"unknown transform {self.transform!r}; known are {', '.join(TRANSFORMS)}")
        return TRANSFORMS[self.transform](self.image_shape, self.scales)

    def to_dict(self) -> dict[str, Any]:
        """JSON-able form; `CascadeConfig.model_validate` reads it back."""
        return self.model_dump(mode="json")
