"""Detectors by name."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from pcdm_core.detection.alignment_neighbours import AlignmentNeighboursDetector
from pcdm_core.detection.base import Detector
from pcdm_core.detection.ensemble import EnsembleDetector
from pcdm_core.detection.layout import FeatureLayout
from pcdm_core.detection.pooled import PooledAlignmentDetector
from pcdm_core.detection.singles import SINGLES

__all__ = ["DETECTORS", "detector_class", "detector_name", "detector_named"]

DETECTORS: Mapping[str, type[Detector]] = MappingProxyType(
    {
        **SINGLES,
        "pooled_alignment": PooledAlignmentDetector,
        "alignment_neighbours": AlignmentNeighboursDetector,
        "ensemble": EnsembleDetector,
    }
)
"""Detectors by the name that calibrations, settings and answers use."""


def detector_class(name: str) -> type[Detector]:
    """The detector called `name`.

    Raises:
        ValueError: there is none; the message lists those there are.
    """
    try:
        return DETECTORS[name]
    except KeyError:
        raise ValueError(f"unknown detector {name!r}; known: {', '.join(sorted(DETECTORS))}") from None


def detector_named(name: str, layout: FeatureLayout, **parameters: Any) -> Detector:
    """The detector called `name`, to be fitted on the columns of its `kinds` in `layout`.

    Args:
        name: in `DETECTORS`.
        layout: of the evaluation.
        parameters: those of its class.

    Raises:
        ValueError: there is no such detector, or the layout lacks a kind of column that it wants to see.
    """
    return detector_class(name).for_layout(layout, **parameters)


def detector_name(detector: Detector) -> str:
    """The name under which the class of `detector` is registered.

    Raises:
        ValueError: its class is not in `DETECTORS` (a subclass of a registered one counts as another class).
    """
    for name, registered in DETECTORS.items():
        if type(detector) is registered:
            return name
    raise ValueError(f"{type(detector).__name__} is not a registered detector; known: {', '.join(sorted(DETECTORS))}")
