"""Scores of images under a cascade."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from math import prod
from pathlib import Path
from typing import Literal, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pcdm_core.data import Preprocessing
from pcdm_core.detection import Calibration, CalibrationIdentity, CalibrationMismatchError
from pcdm_core.likelihood import (
    Draw,
    Method,
    NoiseLevels,
    noise_levels,
    prior,
    reconstruction,
    require_density,
    white_noise,
)
from pcdm_core.model import Cascade, NoisePredictor, alpha_sigma, load_pretrained
from pcdm_core.scoring.bound_units import combine_bound
from pcdm_core.scoring.flow_units import combine_flow, flow_bucket, latent_terms, next_step, run_flow_step
from pcdm_core.scoring.prediction import Latents, Prediction
from pcdm_core.scoring.units import Fidelity, Score, Unit, UnitResult

__all__ = ["CALIBRATION_FILE", "CascadeScorer", "Precision"]

CALIBRATION_FILE = "calibration.json"
Precision = Literal["float32", "bfloat16"]

# Four calls of a network, each with its gradient, which takes about twice as long as the call.
_FLOW_COST = 12.0


class CascadeScorer:
    """The `Scorer` of one cascade.

    Attributes:
        model_name: Name of the model's folder.
        digest: Digest of its configuration and weights.
        precision: Autocast of the networks' inner part.
        calibration: Detector and calibration scores, or None.
        fidelity: Default settings: those of the calibration, if there is one.
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
    ) -> None:
        self.cascade = cascade.eval().requires_grad_(False)
        self.model_name = model_name
        self.digest = digest
        self.precision: Precision = precision
        self.calibration = calibration
        self.batch_size = batch_size
        channels, height, width = cascade.config.image_shape
        self.preprocessing = Preprocessing.model_validate({"channels": channels, "height": height, "width": width})
        self._known_levels: dict[tuple[Method, int], list[NoiseLevels]] = {}
        self.fidelity = Fidelity()
        if calibration is not None:
            self.fidelity = Fidelity.model_validate(calibration.identity.fidelity)
            self._check(calibration)

    @classmethod
    def from_pretrained(cls, folder: Path, *, device: torch.device | str = "cpu", calibrated: bool = True) -> Self:
        """Load a model folder, with its calibration where it has one.

        Args:
            folder: As `pcdm_core.model.save_pretrained` wrote it.
            device: Where the networks run.
            calibrated: Read the calibration; False to make a new one, or for likelihoods alone.

        Raises:
            CheckpointError: If the model cannot be loaded.
            CalibrationFileError: If the calibration is damaged.
            CalibrationMismatchError: If it was made for something else; names each difference.
        """
        cascade, digest = load_pretrained(folder, device)
        file = folder / CALIBRATION_FILE
        calibration = Calibration.load(file) if calibrated and file.exists() else None
        precision: Precision = "bfloat16" if calibration and calibration.identity.precision == "bfloat16" else "float32"
        name = folder.resolve().name
        return cls(cascade, model_name=name, digest=digest, precision=precision, calibration=calibration)

    @property
    def alpha(self) -> float | None:
        """False-positive rate at which images are flagged, or None without calibration."""
        return None if self.calibration is None else self.calibration.alpha

    def identity(self, fidelity: Fidelity, detector: str) -> CalibrationIdentity:
        """What a calibration of this scorer is bound to."""
        return CalibrationIdentity(
            model_digest=self.digest,
            detector=detector,
            fidelity=fidelity.model_dump(),
            preprocessing=self.preprocessing.model_dump(),
            precision=self.precision,
        )

    def _check(self, calibration: Calibration) -> None:
        differences = calibration.identity.differences(self.identity(self.fidelity, calibration.identity.detector))
        if differences:
            raise CalibrationMismatchError("the calibration was made for something else: " + "; ".join(differences))

    def plan(self, images: NDArray[np.uint8], settings: Fidelity) -> list[Unit]:
        """Units of images ``[N, C, H, W]``.

        Raises:
            ValueError: If the images are not uint8 of the model's shape.
        """
        shape = self.cascade.config.image_shape
        if images.dtype != np.uint8 or images.shape[1:] != shape:
            raise ValueError(f"expected uint8 images [N, {shape}], got {images.dtype} {images.shape}")
        transform = self.cascade.transform
        units = []
        for index, image in enumerate(images):
            for replicate in range(settings.replicates):
                units.append(Unit(index, image, 0, 0, replicate, settings, 0.01, (self.digest, 0)))
                for scale in range(1, transform.scales + 1):
                    cost = prod(transform.resolution(scale)) / prod(shape)
                    units += [
                        Unit(index, image, scale, node, replicate, settings, cost, (self.digest, scale))
                        for node in range(1 if settings.method == "flow" else settings.nodes)
                    ]
        if settings.method == "flow":
            require_density(transform)
            units = [replace(unit, bucket=flow_bucket(unit), cost=_FLOW_COST * unit.cost) for unit in units]
        return units

    def run(self, units: Sequence[Unit]) -> list[UnitResult]:
        """Results of units of one bucket, in order; blocks.

        Raises:
            ValueError: If the units are of several buckets or of another model.
        """
        if not units:
            return []
        bucket = units[0].bucket
        if bucket[0] != self.digest or any(unit.bucket != bucket for unit in units):
            raise ValueError("a batch takes units of one bucket of this model")
        # The flow differentiates its network, which inference mode forbids.
        with torch.inference_mode(units[0].fidelity.method != "flow"), torch.no_grad():
            return self._run(units)

    def _run(self, units: Sequence[Unit]) -> list[UnitResult]:
        cascade, latents = self.cascade, self.latents(units)
        scale, flow = units[0].scale, units[0].fidelity.method == "flow"
        if scale == 0:
            decoded = reconstruction(cascade, latents.images, latents.z0)
            if flow:
                terms = latent_terms(decoded, latents, cascade)
            else:
                terms = torch.cat((decoded[:, None], prior(cascade, latents.coefficients)), dim=1)
            return [UnitResult(row) for row in terms.cpu().numpy()]
        if flow:
            probe = self.noise(units, ["probe"] * len(units))[scale - 1]
            return run_flow_step(cascade, latents, probe, units)
        prediction = self.predict(latents, units)
        noise, predicted = prediction.noise, prediction.predicted_noise
        # Error and norm of each subband.
        bands = len(cascade.transform.bands(scale))
        error, norm = (a.double().square().reshape(len(a), bands, -1).sum(2) for a in (noise - predicted, predicted))
        squared_noise = noise.double().square().flatten(1).sum(1)
        term = prediction.term(error.sum(1), squared_noise, cascade.transform.rank(scale))
        return [UnitResult(row) for row in torch.cat((term[:, None], error, norm), dim=1).cpu().numpy()]

    def follow(self, unit: Unit, result: UnitResult) -> Unit | None:
        """The next solver step of the flow; None for all else."""
        return next_step(unit, result)

    def latents(self, units: Sequence[Unit]) -> Latents:
        """Images of units, their clean coefficients and a sample of their ``z_0``."""
        images = torch.from_numpy(np.stack([unit.image for unit in units])).to(self.cascade.device)
        coefficients = self.cascade.transform.forward(self.cascade.pixels(images))
        return Latents(
            images, coefficients, self.cascade.sample_z0(coefficients, self.noise(units, ["z0"] * len(units)))
        )

    def predict(self, latents: Latents, units: Sequence[Unit]) -> Prediction:
        """Noise and predicted noise of units of one bucket that has a network."""
        cascade, device, scale = self.cascade, self.cascade.device, units[0].scale
        z, noise = latents.coefficients[scale - 1], self.noise(units, [unit.node for unit in units])[scale - 1]
        places = [(self._levels(unit.fidelity)[scale - 1], unit.node) for unit in units]
        gamma = torch.tensor([levels.gamma[node] for levels, node in places], device=device)
        weight = torch.tensor([levels.weights[node] for levels, node in places], device=device)
        alpha, sigma = alpha_sigma(gamma[:, None, None, None])
        with torch.autocast(device.type, torch.bfloat16, enabled=self.precision == "bfloat16"):
            condition = cascade.condition(scale, latents.z0)
            predicted = cascade.predicted_noise(scale, alpha * z + sigma * noise, gamma, condition)
        predictor = cascade.predictors[scale - 1]
        share = (
            predictor.linear_error(gamma).double() if isinstance(predictor, NoisePredictor) else torch.ones_like(weight)
        )
        return Prediction(noise, predicted, weight, share)

    def _levels(self, fidelity: Fidelity) -> list[NoiseLevels]:
        """Noise levels and weights of every scale."""
        key = (fidelity.method, fidelity.nodes)
        if key not in self._known_levels:
            schedule, scales = self.cascade.schedule, range(1, self.cascade.transform.scales + 1)
            self._known_levels[key] = [noise_levels(schedule, scale, *key) for scale in scales]
        return self._known_levels[key]

    def noise(self, units: Sequence[Unit], draws: Sequence[Draw]) -> tuple[Tensor, ...]:
        """``eps^(s)`` of every scale for each unit and use, ``[B, *shape(s)]``."""
        size = self.cascade.transform.noise_dimensions
        rows = [
            white_noise(
                unit.fidelity.noise,
                unit.image,
                size,
                seed=unit.fidelity.seed,
                # The draws of an image share one probe: its error would look like likelihood in their average.
                replicate=0 if draw == "probe" else unit.replicate,
                draw=draw,
            )
            for unit, draw in zip(units, draws, strict=True)
        ]
        return self.cascade.transform.noise(torch.stack(rows).to(self.cascade.device))

    def batches(self, units: Sequence[Unit]) -> Iterator[list[Unit]]:
        """Units bucket by bucket, at most `batch_size` at a time."""
        buckets: dict[tuple[str | int, ...], list[Unit]] = defaultdict(list)
        for unit in units:
            buckets[unit.bucket].append(unit)
        for bucket in buckets.values():
            for first in range(0, len(bucket), self.batch_size):
                yield bucket[first : first + self.batch_size]

    def combine(self, units: Sequence[Unit], results: Sequence[UnitResult]) -> list[Score]:
        """One score for each image of a plan, in order."""
        grouped: dict[int, list[tuple[Unit, NDArray[np.float64]]]] = defaultdict(list)
        for unit, result in zip(units, results, strict=True):
            grouped[unit.index].append((unit, result.values))
        return [self._judge(self._combine(grouped[index]), grouped[index][0][0].fidelity) for index in sorted(grouped)]

    def _combine(self, parts: list[tuple[Unit, NDArray[np.float64]]]) -> Score:
        fidelity = parts[0][0].fidelity
        if fidelity.method == "flow":
            return combine_flow(parts, self.cascade)
        return combine_bound(parts, self.cascade, self._levels(fidelity))

    def _judge(self, score: Score, fidelity: Fidelity) -> Score:
        """Add score, p-value and verdict; nothing at another fidelity than the calibrated one."""
        if self.calibration is None or fidelity != self.fidelity:
            return score
        scores = self.calibration.scores(score.features[None])
        p_values = self.calibration.p_values(scores)
        verdict = bool(self.calibration.is_ood(p_values)[0])
        return replace(score, score=float(scores[0]), p_value=float(p_values[0]), is_ood=verdict)

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
            settings: The scorer's own `fidelity` by default.
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
