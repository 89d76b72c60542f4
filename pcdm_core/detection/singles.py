"""Detectors that know nothing of where their columns come from, by name."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from pcdm_core.detection.base import Detector
from pcdm_core.detection.likelihoods import (
    BitsPerDimDetector,
    ComplexityDetector,
    ScaleRatioDetector,
    ScaleTypicalityDetector,
    TypicalityDetector,
)
from pcdm_core.detection.middle import MiddleDetector
from pcdm_core.detection.mixture import AlignmentDetector, MixtureDetector, ScoreNormsDetector
from pcdm_core.detection.neighbours import NeighboursDetector
from pcdm_core.detection.spectrum import SpectrumDetector

__all__ = ["SINGLES"]

SINGLES: Mapping[str, type[Detector]] = MappingProxyType(
    {
        "alignment": AlignmentDetector,
        "mixture": MixtureDetector,
        "spectrum": SpectrumDetector,
        "score_norms": ScoreNormsDetector,
        "bits_per_dim": BitsPerDimDetector,
        "typicality": TypicalityDetector,
        "scale_typicality": ScaleTypicalityDetector,
        "scale_ratio": ScaleRatioDetector,
        "complexity": ComplexityDetector,
        "middle": MiddleDetector,
        "neighbours": NeighboursDetector,
    }
)
"""What an ensemble may be made of."""
