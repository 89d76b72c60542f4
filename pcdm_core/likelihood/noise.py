"""Seeded noise: the same image, model and settings give the same score, whatever else is in the batch."""

from __future__ import annotations

import hashlib
from functools import lru_cache
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

__all__ = ["Draw", "NoiseKind", "white_noise"]

NoiseKind = Literal["shared", "keyed"]
"""``shared``: one bank for all images, so that comparisons between images get sharper (detection). ``keyed``: by image
content, so that errors of different images are independent and means are unbiased (evaluation)."""


Draw = int | Literal["z0", "probe"]
"""What noise is for: a node of the quadrature, ``z_0``, or the probe of a divergence."""


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


def _number(seed: int, replicate: int, draw: Draw, key: bytes = b"") -> int:
    """A 63-bit seed that depends on everything given."""
    text = f"{seed}/{replicate}/{draw}/".encode()
    return int.from_bytes(hashlib.blake2b(text + key, digest_size=8).digest(), "big") >> 1


def _draw(size: int, number: int) -> Tensor:
    return torch.from_numpy(np.random.default_rng(number).standard_normal(size, dtype=np.float32))


_bank = lru_cache(maxsize=256)(_draw)
