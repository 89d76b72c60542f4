"""Measured sets whose distributions are known, without a model."""

from __future__ import annotations

import dataclasses

import numpy as np

from pcdm_core.detection import Calibration, CalibrationIdentity
from pcdm_core.report import MeasuredSet

_IDENTITY = CalibrationIdentity(
    model_digest="0" * 64, detector="spectrum", fidelity={"nodes": 3}, preprocessing={}, precision="float32"
)


class MeasuredSets:
    """A calibration of 399 images, 400 images like them, 300 that are far from them and 300 that are near."""

    def __init__(self) -> None:
        self._rng = np.random.default_rng(0)
        features = self._rng.normal(size=(799, 4))
        self.calibration = Calibration.fit(features[:400], features[400:], identity=_IDENTITY)
        self.inside = self._measured("inside", 400, 0.0)
        self.far = self._measured("far", 300, 3.0)
        self.near = self._measured("near", 300, 0.6)

    def first_of_far(self, count: int) -> MeasuredSet:
        arrays = ("names", "scores", "p_values", "bits_per_dim")
        terms = {name: values[:count] for name, values in self.far.terms.items()}
        return dataclasses.replace(self.far, terms=terms, **{name: getattr(self.far, name)[:count] for name in arrays})

    def _measured(self, source: str, count: int, shift: float) -> MeasuredSet:
        scores = self.calibration.scores(self._rng.normal(shift, size=(count, 4)))
        bits = 4 - shift / 2 + self._rng.normal(size=count)
        names = [f"{source}#{index}" for index in range(count)]
        terms = {"reconstruction": 0.1 * bits, "prior_scale_1": 0 * bits}
        terms |= {"diffusion_scale_1": 0.3 * bits, "diffusion_scale_2": 0.6 * bits}
        return MeasuredSet(source, names, scores, self.calibration.p_values(scores), bits, terms)
