"""Seeded noise: the same image, model and settings give the same score, whatever else is in the batch."""

from __future__ import annotations

import hashlib
from functools import lru_cache
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

__all__ = ["Draw", "NoiseKind", "random_signs", "white_noise"]

NoiseKind = Literal["shared", "keyed"]
"""``shared``: one bank for all images, so that comparisons between images get sharper (detection). ``keyed``: by image
content, so that errors of different images are independent and means are unbiased (evaluation)."""


Draw = int | Literal["z0"]
"""What noise is for: a node of the quadrature; ``z_0``; below zero, the probe of a scale, see `random_signs`."""


def white_noise(kind: NoiseKind, image: NDArray[Any], size: int, *, seed: int, replicate: int, draw: Draw) -> Tensor:
    """Standard normal numbers, a pure function of the arguments.

    Args:
        kind: What the numbers depend on besides the seed.
        image: The image itself; its bytes matter for ``keyed`` noise only.
        size: How many.
        seed: Seed of the whole bank.
        replicate: Independent repetition.
        draw: What it is for.

    Returns:
        float32, ``[size]``; shared between calls, so not to be written to.
    """
    key = image.tobytes() if kind == "keyed" else b""
    return _bank(size, _number(seed, replicate, draw)) if not key else _draw(size, _number(seed, replicate, draw, key))


def random_signs(kind: NoiseKind, image: NDArray[Any], size: int, *, seed: int, scale: int) -> Tensor:
    """Random signs, the probe of a divergence at one scale: a pure function of the arguments.

    Of all probes with independent coordinates, signs give the trace with the least variance: the diagonal of the
    Jacobian, much the largest part of it here, adds nothing to it.

    Args:
        kind: As for `white_noise`.
        image: As for `white_noise`.
        size: How many.
        seed: Seed of the whole bank.
        scale: 1 (coarsest) to S.

    Returns:
        -1 and 1, float32, ``[size]``; shared between calls, so not to be written to.
    """
    white = white_noise(kind, image, size, seed=seed, replicate=0, draw=-scale)
    return torch.where(white < 0, -1.0, 1.0)


def _number(seed: int, replicate: int, draw: Draw, key: bytes = b"") -> int:
    """A 63-bit seed that depends on everything given."""
    text = f"{seed}/{replicate}/{draw}/".encode()
    return int.from_bytes(hashlib.blake2b(text + key, digest_size=8).digest(), "big") >> 1


def _draw(size: int, number: int) -> Tensor:
    return torch.from_numpy(np.random.default_rng(number).standard_normal(size, dtype=np.float32))


_bank = lru_cache(maxsize=256)(_draw)
