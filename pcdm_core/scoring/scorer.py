"""Scores of images under a cascade."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from math import log, prod, sqrt
from pathlib import Path
from typing import Literal, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pcdm_core.data import Preprocessing
from pcdm_core.detection import Calibration, CalibrationIdentity
from pcdm_core.likelihood import Method, NoiseLevels, noise_levels, prior, reconstruction, white_noise
from pcdm_core.model import Cascade, NoisePredictor, alpha_sigma, load_pretrained
from pcdm_core.scoring.prediction import Latents, Prediction
from pcdm_core.scoring.units import Fidelity, Score, Unit, UnitResult

__all__ = ["CALIBRATION_FILE", "CascadeScorer", "Precision"]

CALIBRATION_FILE = "calibration.json"
Precision = Literal["float32", "bfloat16"]


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
        from pcdm_core.detection import CalibrationMismatchError

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
                        for node in range(settings.nodes)
                    ]
        return units

    @torch.inference_mode()
    def run(self, units: Sequence[Unit]) -> list[UnitResult]:
        """Results of units of one bucket, in order; blocks.

        Raises:
            ValueError: If the units are of several buckets or of another model.
        """
        if not units:
            return []
        scale = units[0].scale
        if any(unit.bucket != (self.digest, scale) for unit in units):
            raise ValueError("a batch takes units of one bucket of this model")
        cascade, latents = self.cascade, self.latents(units)
        if scale == 0:
            decoded = reconstruction(cascade, latents.images, latents.z0)
            terms = (decoded[:, None], prior(cascade, latents.coefficients))
            return [UnitResult(row) for row in torch.cat(terms, dim=1).cpu().numpy()]
        prediction = self.predict(latents, units)
        noise, predicted = prediction.noise, prediction.predicted_noise
        # Error and norm of each subband.
        bands = len(cascade.transform.bands(scale))
        error, norm = (a.double().square().reshape(len(a), bands, -1).sum(2) for a in (noise - predicted, predicted))
        squared_noise = noise.double().square().flatten(1).sum(1)
        term = prediction.term(error.sum(1), squared_noise, cascade.transform.rank(scale))
        return [UnitResult(row) for row in torch.cat((term[:, None], error, norm), dim=1).cpu().numpy()]

    def latents(self, units: Sequence[Unit]) -> Latents:
        """Images of units, their clean coefficients and a sample of their ``z_0``."""
        images = torch.from_numpy(np.stack([unit.image for unit in units])).to(self.cascade.device)
        coefficients = self.cascade.transform.forward(self.cascade.pixels(images))
        return Latents(images, coefficients, self.cascade.sample_z0(coefficients, self._noise(units, at_zero=True)))

    def predict(self, latents: Latents, units: Sequence[Unit]) -> Prediction:
        """Noise and predicted noise of units of one bucket that has a network."""
        cascade, device, scale = self.cascade, self.cascade.device, units[0].scale
        z, noise = latents.coefficients[scale - 1], self._noise(units, at_zero=False)[scale - 1]
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

    def _noise(self, units: Sequence[Unit], *, at_zero: bool) -> tuple[Tensor, ...]:
        size = self.cascade.transform.noise_dimensions
        rows = [
            white_noise(
                unit.fidelity.noise,
                unit.image,
                size,
                seed=unit.fidelity.seed,
                replicate=unit.replicate,
                draw=None if at_zero else unit.node,
            )
            for unit in units
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
        return [self._combine(grouped[index]) for index in sorted(grouped)]

    def _combine(self, parts: list[tuple[Unit, NDArray[np.float64]]]) -> Score:
        fidelity, scales = parts[0][0].fidelity, self.cascade.transform.scales
        to_bits = 1 / (self.cascade.config.dimensions * log(2))
        names = ["reconstruction"]
        names += [f"{kind}_scale_{scale}" for kind in ("prior", "diffusion") for scale in range(1, scales + 1)]
        without_network = np.zeros((fidelity.replicates, 1 + scales))
        diffusion = np.zeros((fidelity.replicates, scales, fidelity.nodes))
        spectra: dict[tuple[int, int], NDArray[np.float64]] = {}
        for unit, values in parts:
            if unit.scale == 0:
                without_network[unit.replicate] = values
            else:
                diffusion[unit.replicate, unit.scale - 1, unit.node] = values[0]
                place = (unit.scale, unit.node)
                spectra[place] = spectra.get(place, 0.0) + values[1:] / fidelity.replicates
        features = np.log(np.concatenate([spectra[place] for place in sorted(spectra)]) + 1e-12)
        totals = without_network.sum(1) + diffusion.sum((1, 2))
        stderr = None
        if fidelity.replicates > 1:
            stderr = float(totals.std(ddof=1) / sqrt(fidelity.replicates) * to_bits)
        mean_diffusion = diffusion.mean(0)
        terms = np.concatenate((without_network.mean(0), mean_diffusion.sum(1)))
        score, p_value, is_ood = self._detect(features, fidelity)
        return Score(
            score=score,
            p_value=p_value,
            is_ood=is_ood,
            bits_per_dim=float(totals.mean() * to_bits),
            nats=float(totals.mean()),
            stderr=stderr,
            terms=dict(zip(names, (terms * to_bits).tolist(), strict=True)),
            diffusion=mean_diffusion * to_bits,
            embedded_bits_per_dim=self._embedded(float(totals.mean()), mean_diffusion, fidelity, to_bits),
            network_calls=sum(unit.scale > 0 for unit, _ in parts),
            features=features,
        )

    def _embedded(
        self, nats: float, diffusion: NDArray[np.float64], fidelity: Fidelity, to_bits: float
    ) -> float | None:
        """The total in bits/dim if the diffusion terms, ``[S, nodes]`` nats, came from the embedded rules."""
        for row, levels in zip(diffusion, self._levels(fidelity), strict=True):
            if levels.embedded is None:
                return None
            nats += float(((levels.embedded / levels.weights - 1) * row).sum())
        return nats * to_bits

    def _detect(
        self, features: NDArray[np.float64], fidelity: Fidelity
    ) -> tuple[float | None, float | None, bool | None]:
        """Score, p-value and verdict; nothing at another fidelity than the calibrated one."""
        if self.calibration is None or fidelity != self.fidelity:
            return None, None, None
        scores = self.calibration.scores(features[None])
        p_values = self.calibration.p_values(scores)
        return float(scores[0]), float(p_values[0]), bool(self.calibration.is_ood(p_values)[0])

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
            units = self.plan(images[start : start + self.batch_size], settings)
            batches = list(self.batches(units))
            results = [result for batch in batches for result in self.run(batch)]
            scores += self.combine([unit for batch in batches for unit in batch], results)
            if progress is not None:
                progress(len(scores))
        return scores
