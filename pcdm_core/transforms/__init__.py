"""Multi-scale linear transforms: how an image becomes scales, coarse to fine."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from pcdm_core.transforms.base import Shape, Transform
from pcdm_core.transforms.downsample import DownsampleTransform
from pcdm_core.transforms.haar import HaarTransform
from pcdm_core.transforms.identity import IdentityTransform
from pcdm_core.transforms.laplacian import LaplacianTransform

__all__ = [
    "TRANSFORMS",
    "DownsampleTransform",
    "HaarTransform",
    "IdentityTransform",
    "LaplacianTransform",
    "Shape",
    "Transform",
]

TRANSFORMS: Mapping[str, type[Transform]] = MappingProxyType(
    {
        transform.name: transform
        for transform in (IdentityTransform, HaarTransform, LaplacianTransform, DownsampleTransform)
    }
)
"""Every transform by its name in a configuration."""
