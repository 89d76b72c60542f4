"""Samples of a cascade, by number."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

import torch
from torch import Tensor

from pcdm_core.model import Cascade
from pcdm_core.sampling.ancestral import ancestral_latents
from pcdm_core.sampling.flow import decode
from pcdm_core.sampling.noise import ImageNoise
from pcdm_core.sampling.pixels import sample_pixels

__all__ = ["SamplingMethod", "sample_images", "sample_latents"]

SamplingMethod = Literal["ancestral", "flow"]
"""``ancestral``: the reverse process, noisy in every step, one network call each. ``flow``: the probability flow, noisy
at its start only, six network calls a step; few steps are enough."""


def sample_latents(
    cascade: Cascade,
    numbers: Sequence[int],
    *,
    method: SamplingMethod,
    steps: int,
    seed: int,
    dtype: torch.dtype = torch.float32,
    on_step: Callable[[], None] | None = None,
) -> tuple[Tensor, ...]:
    """Draw ``z_0`` of every scale, of the images with the given numbers.

    Both methods start from the same noise: the same number is a similar image.

    Args:
        cascade: The model, in evaluation mode.
        numbers: Numbers of the images, ``[B]``, each at least 0.
        method: See `SamplingMethod`.
        steps: Of every scale.
        seed: Of the whole set of images.
        dtype: Precision of the latents.
        on_step: Called after each step of each scale.

    Returns:
        ``z_0^(s)`` of every scale, ``[B, *shape(s)]``.

    Raises:
        ValueError: If ``steps`` is less than 1.
    """
    noise = ImageNoise(seed, numbers)
    if method == "ancestral":
        return ancestral_latents(cascade, noise, steps=steps, dtype=dtype, on_step=on_step)
    z1 = tuple(next(noise.normal(cascade.transform, s)) for s in range(1, cascade.transform.scales + 1))
    return decode(cascade, tuple(z.to(cascade.device, dtype) for z in z1), steps=steps, on_step=on_step)


@torch.no_grad()
def sample_images(
    cascade: Cascade,
    count: int,
    *,
    method: SamplingMethod,
    steps: int,
    seed: int,
    batch_size: int = 64,
    progress: Callable[[int], None] | None = None,
) -> Tensor:
    """Draw images 0 to ``count - 1`` of a seed: latents coarse to fine, then the pixels from ``p(x | z_0)``.

    An image depends on the seed and its number alone, whatever ``count`` and ``batch_size`` are. (Networks round
    otherwise in batches of another size, so a pixel that lies between two levels may fall on the other one.)

    Args:
        cascade: The model, in evaluation mode.
        count: Number of images.
        method: See `SamplingMethod`.
        steps: Of every scale.
        seed: At least 0.
        batch_size: Images at a time.
        progress: Called with the number of steps done, of ``count * steps * S``, counting those of every image.

    Returns:
        uint8, ``[count, C, H, W]``, in [0, levels), on the CPU.

    Raises:
        ValueError: If ``count``, ``steps`` or ``batch_size`` is less than 1, or the seed negative.
    """
    for name, value, least in (("count", count, 1), ("batch_size", batch_size, 1), ("seed", seed, 0)):
        if value < least:
            raise ValueError(f"{name} must be at least {least}, got {value}")
    done, images = 0, []
    for start in range(0, count, batch_size):
        numbers = range(start, min(start + batch_size, count))

        def on_step(batch: int = len(numbers)) -> None:
            nonlocal done
            done += batch
            if progress is not None:
                progress(done)

        z0 = sample_latents(cascade, numbers, method=method, steps=steps, seed=seed, on_step=on_step)
        uniform = ImageNoise(seed, numbers).uniform(cascade.config.image_shape)
        images.append(sample_pixels(cascade, z0, uniform).cpu())
    return torch.cat(images)
