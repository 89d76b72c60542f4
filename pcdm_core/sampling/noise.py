"""Random numbers of numbered images: image i of a seed is the same in every batch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from pcdm_core.transforms import Shape, Transform

__all__ = ["ImageNoise"]


@dataclass(frozen=True)
class ImageNoise:
    """All randomness of a batch of samples, a pure function of the seed, each image's number and the place of use.

    Attributes:
        seed: Of the whole set of images.
        numbers: Number of each image of the batch in that set, ``[B]``.
    """

    seed: int
    numbers: Sequence[int]

    def normal(self, transform: Transform, scale: int) -> Iterator[Tensor]:
        """Noise of a scale without end, ``N(0, P_s)`` each: white noise, projected. ``z_1`` first, then one a step.

        Args:
            transform: ``h``.
            scale: 1 (coarsest) to S.

        Yields:
            float32, ``[B, *shape(s)]``.
        """
        generators = [self._generator(number, scale) for number in self.numbers]
        shape = (len(generators), *transform.shape(scale))
        while True:
            white = np.empty(shape, dtype=np.float32)
            for row, generator in zip(white, generators, strict=True):
                generator.standard_normal(out=row, dtype=np.float32)
            yield transform.project(scale, torch.from_numpy(white))

    def uniform(self, shape: Shape) -> Tensor:
        """One number in [0, 1) for every pixel, for the decoder; float64, ``[B, *shape]``."""
        return torch.from_numpy(np.stack([self._generator(n, 0).random(shape) for n in self.numbers]))

    def _generator(self, number: int, scale: int) -> np.random.Generator:
        """Independent for every image and scale; scale 0 stands for the decoder."""
        return np.random.default_rng(np.random.SeedSequence(self.seed, spawn_key=(number, scale)))
