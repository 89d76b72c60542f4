"""Scores of images under a cascade."""

from __future__ import annotations

import copy
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray

from pcdm_core.data import Preprocessing
from pcdm_core.detection import Calibration, CalibrationIdentity, CalibrationMismatchError, FeatureLayout
from pcdm_core.detection.layout import CODECS
from pcdm_core.model import Cascade, load_pretrained
from pcdm_core.scoring.calibrations import load_calibrations
from pcdm_core.scoring.columns import feature_layout
from pcdm_core.scoring.evaluator import Evaluator, Part, Precision
from pcdm_core.scoring.fidelities import FIDELITIES, FidelityName
from pcdm_core.scoring.findings import Findings
from pcdm_core.scoring.flow_units import next_step
from pcdm_core.scoring.planning import likelihood_units
from pcdm_core.scoring.units import Fidelity, Score, Unit, UnitResult

__all__ = ["CascadeScorer"]


class CascadeScorer(Evaluator):
    """The `Scorer` of one cascade.

    Attributes:
        model_name: Name of the model's folder.
        digest: Digest of its configuration and weights.
        calibration: Detector and calibration scores, or None.
        fidelities: What may be asked for by name. ``fast``, the default, is the calibration's, if there is one; a
            transform that does not preserve volume has no ``exact``.
        preprocessing: What makes any image the model's input.
    """

    def __init__(
        self,
        cascade: Cascade,
        *,
        model_name: str,
        digest: str,
        precision: Precision = "float32",
        calibration: Calibration | None = None,
        batch_size: int = 128,
        complete: bool = True,
    ) -> None:
        super().__init__(cascade, precision)
        self.model_name = model_name
        self.digest = digest
        self.batch_size = batch_size
        channels, height, width = cascade.config.image_shape
        self.preprocessing = Preprocessing.model_validate({"channels": channels, "height": height, "width": width})
        self._judge_by(calibration, complete=complete)
        self._others: Sequence[Self] = ()

    def _judge_by(self, calibration: Calibration | None, *, complete: bool) -> None:
        self.calibration = calibration
        known = dict(FIDELITIES)
        if not self.cascade.transform.volume_preserving:
            del known["exact"]
        if calibration is not None:
            known["fast"] = Fidelity.model_validate(calibration.identity.fidelity)
        self.fidelities: Mapping[FidelityName, Fidelity] = MappingProxyType(known)
        if calibration is not None:
            self.codecs = complete or not set(CODECS).isdisjoint(calibration.detector.kinds)
            self._seen = self._seen_by(calibration)

    def judged_by(self, calibration: Calibration, *, complete: bool = True) -> Self:
        """The same networks with the verdicts of another calibration, and those of no third.

        Args:
            calibration: Made for these weights.
            complete: As for `from_pretrained`.

        Raises:
            CalibrationMismatchError: It was made for something else; names each difference.
        """
        other = copy.copy(self)
        other._judge_by(calibration, complete=complete)
        other._others = ()
        return other

    @property
    def detectors(self) -> Mapping[str, Self]:
        """This scorer, by the name of its detector, then those that judge what the same networks find by another.

        Empty without calibration.
        """
        return {one.detector: one for one in (self, *self._others) if one.detector is not None}

    @classmethod
    def from_pretrained(
        cls, folder: Path, *, device: torch.device | str = "cpu", calibrated: bool = True, complete: bool = True
    ) -> Self:
        """Load a model folder, with its calibration where it has one.

        Args:
            folder: As `pcdm_core.model.save_pretrained` wrote it.
            device: Where the networks run.
            calibrated: Read the calibration; False to make a new one, or for likelihoods alone.
            complete: Evaluate all features; False leaves out sizes in lossless codecs where the calibration's detector
                does not see them.

        Raises:
            CheckpointError: If the model cannot be loaded.
            CalibrationFileError: If the calibration is damaged.
            CalibrationMismatchError: If it was made for something else; names each difference.
        """
        cascade, digest = load_pretrained(folder, device)
        calibrations = load_calibrations(folder) if calibrated else []
        first = calibrations[0] if calibrations else None
        precision: Precision = "bfloat16" if first and first.identity.precision == "bfloat16" else "float32"
        name = folder.resolve().name
        scorer = cls(cascade, model_name=name, digest=digest, precision=precision, calibration=first, complete=complete)
        scorer._others = [scorer.judged_by(one, complete=complete) for one in calibrations[1:]]
        return scorer

    @property
    def fidelity(self) -> Fidelity:
        """The default settings, those of ``fast``: verdicts are made at these."""
        return self.fidelities["fast"]

    @property
    def alpha(self) -> float | None:
        """False-positive rate at which images are flagged, or None without calibration."""
        return None if self.calibration is None else self.calibration.alpha

    @property
    def detector(self) -> str | None:
        """Name of the detector, or None without calibration."""
        return None if self.calibration is None else self.calibration.identity.detector

    @property
    def calibration_size(self) -> int | None:
        """Number n of calibration scores, of which p-values are ranks over n + 1, or None without calibration."""
        return None if self.calibration is None else self.calibration.calibration_scores.size

    @property
    def scales(self) -> int:
        """Number of scales of the cascade."""
        return self.cascade.transform.scales

    @property
    def parameters(self) -> int:
        """Number of trained values of the cascade."""
        return sum(parameter.numel() for parameter in self.cascade.parameters())

    def identity(self, fidelity: Fidelity, detector: str) -> CalibrationIdentity:
        """What a calibration of this scorer is bound to."""
        return CalibrationIdentity(
            model_digest=self.digest,
            detector=detector,
            fidelity=fidelity.settings(),
            preprocessing=self.preprocessing.model_dump(),
            precision=self.precision,
        )

    def layout(self, fidelity: Fidelity) -> FeatureLayout:
        """What stands in which column of the features of an evaluation at these settings; empty for the flow."""
        return feature_layout(self.cascade, fidelity, codecs=self.codecs)

    def findings(self, images: NDArray[np.uint8], fidelity: Fidelity) -> Findings:
        """What an evaluation at these settings finds out about images, uint8, ``[N, C, H, W]``.

        Args:
            images: At least one.
            fidelity: For a scorer with a calibration, the calibrated one: its scores have no other features.
        """
        assert self.calibration is None or fidelity == self.fidelity
        return Findings.of(self.score(images, fidelity), self.layout(fidelity))

    def _seen_by(self, calibration: Calibration) -> NDArray[np.int64]:
        """Columns that its detector sees; refuses a calibration that was made for something else."""
        differences = calibration.identity.differences(self.identity(self.fidelity, calibration.identity.detector))
        if not differences:
            detector = calibration.detector
            try:
                seen = self.layout(self.fidelity).places(*detector.kinds)
            except ValueError as error:
                differences = [str(error)]
            else:
                if len(seen) == detector.n_features_in_:
                    return seen
                differences = [f"features: calibrated with {detector.n_features_in_}, the evaluation has {len(seen)}"]
        raise CalibrationMismatchError(
            f"the calibration of the detector {calibration.identity.detector} was made for something else: "
            + "; ".join(differences)
        )

    def plan(self, images: NDArray[np.uint8], settings: Fidelity) -> list[Unit]:
        """Units of images ``[N, C, H, W]``: those of the likelihood, and those of the verdict where they are others.

        Raises:
            ValueError: As `likelihood_units`.
        """
        units = self.plan_likelihood(images, settings)
        if self.calibration is not None and settings != self.fidelity:
            units += self.plan_likelihood(images, self.fidelity)
        return units

    def plan_likelihood(self, images: NDArray[np.uint8], settings: Fidelity) -> list[Unit]:
        """As `likelihood_units`, of this model."""
        return likelihood_units(self.cascade, self.digest, images, settings)

    def run(self, units: Sequence[Unit]) -> list[UnitResult]:
        """Results of units of one bucket, in order; blocks.

        Raises:
            MemoryError: If the device has no memory for so many.
            ValueError: If the units are of several buckets or of another model.
        """
        if not units:
            return []
        bucket = units[0].bucket
        if bucket[0] != self.digest or any(unit.bucket != bucket for unit in units):
            raise ValueError("a batch takes units of one bucket of this model")
        return self.evaluate(units)

    def follow(self, unit: Unit, result: UnitResult) -> Unit | None:
        """The next solver step of the flow; None for all else."""
        return next_step(unit, result)

    def batches(self, units: Sequence[Unit]) -> Iterator[list[Unit]]:
        """Units of one bucket and one scale at a time, at most `batch_size`."""
        alike: dict[tuple[str | int, ...], list[Unit]] = defaultdict(list)
        for unit in units:
            alike[unit.scale, *unit.bucket].append(unit)
        for those in alike.values():
            for first in range(0, len(those), self.batch_size):
                yield those[first : first + self.batch_size]

    def combine(self, units: Sequence[Unit], results: Sequence[UnitResult]) -> list[Score]:
        """One score for each image of a plan, in order."""
        grouped: dict[int, dict[Fidelity, list[Part]]] = defaultdict(lambda: defaultdict(list))
        for unit, result in zip(units, results, strict=True):
            grouped[unit.index][unit.fidelity].append((unit, result.values))
        found = [{key: self.likelihood(of) for key, of in grouped[index].items()} for index in sorted(grouped)]
        if self.calibration is not None:
            return self._judged(found, self.calibration)
        return [score for one in found for score in one.values()]

    def _judged(self, found: Sequence[Mapping[Fidelity, Score]], calibration: Calibration) -> list[Score]:
        """Of each image the likelihood as it was asked for, with the verdict at the calibrated fidelity."""
        if not found:
            return []
        seen = [one[self.fidelity] for one in found]
        # All at once, as most of the time goes into the call: no row depends on the others.
        scores = calibration.scores(np.stack([one.features for one in seen])[:, self._seen])
        p_values = calibration.p_values(scores)
        verdicts = zip(scores.tolist(), p_values.tolist(), calibration.is_ood(p_values).tolist(), strict=True)
        return [
            replace(
                next((other for fidelity, other in one.items() if fidelity != self.fidelity), own),
                score=score,
                p_value=p_value,
                is_ood=is_ood,
                network_calls=sum(part.network_calls for part in one.values()),
                features=own.features,
            )
            for one, own, (score, p_value, is_ood) in zip(found, seen, verdicts, strict=True)
        ]

    def score(
        self,
        images: NDArray[np.uint8],
        settings: Fidelity | None = None,
        *,
        progress: Callable[[int], None] | None = None,
    ) -> list[Score]:
        """Plan, run in batches, combine.

        Args:
            images: uint8, ``[N, C, H, W]``.
            settings: The scorer's own `fidelity`, ``fast``, by default.
            progress: Called with the number of images done.
        """
        settings = self.fidelity if settings is None else settings
        scores: list[Score] = []
        # In blocks of images, so that memory does not grow with their number.
        for start in range(0, len(images), self.batch_size):
            waiting = self.plan(images[start : start + self.batch_size], settings)
            units: list[Unit] = []
            results: list[UnitResult] = []
            while waiting:
                ran = [pair for batch in self.batches(waiting) for pair in zip(batch, self.run(batch), strict=True)]
                waiting = []
                for unit, result in ran:
                    following = self.follow(unit, result)
                    if following is None:
                        units.append(unit)
                        results.append(result)
                    else:
                        waiting.append(following)
            scores += self.combine(units, results)
            if progress is not None:
                progress(len(scores))
        return scores
