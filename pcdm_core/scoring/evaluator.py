"""The networks of a cascade at work: what units ask of them, and what it comes to."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pcdm_core.likelihood import (
    Draw,
    Method,
    NoiseLevels,
    Rule,
    noise_levels,
    prior,
    random_signs,
    reconstruction,
    white_noise,
)
from pcdm_core.model import Cascade, NoisePredictor, alpha_sigma, pick_device
from pcdm_core.scoring.activations import spatial_statistics
from pcdm_core.scoring.alignment import alignments
from pcdm_core.scoring.bound_units import combine_bound
from pcdm_core.scoring.compiled import CompiledNetworks
from pcdm_core.scoring.execution import Execution
from pcdm_core.scoring.flow_units import combine_flow, latent_terms, run_flow_step
from pcdm_core.scoring.memory import memory_errors
from pcdm_core.scoring.parts import run_in_parts
from pcdm_core.scoring.prediction import Latents, Prediction
from pcdm_core.scoring.shapes import size_ladder
from pcdm_core.scoring.units import Fidelity, Score, Unit, UnitResult

__all__ = ["Evaluator", "Part", "Precision"]

Precision = Literal["float32", "bfloat16"]

Part = tuple[Unit, NDArray[np.float64]]
"""A unit and the values that it found."""


class Evaluator:
    """Evaluates units of one cascade.

    Attributes:
        cascade: In evaluation mode, without gradients.
        precision: Autocast of the networks' inner part.
        codecs: Whether features have the sizes in lossless codecs, which take longer than all other sums.
    """

    def __init__(self, cascade: Cascade, precision: Precision) -> None:
        self.cascade = cascade.eval().requires_grad_(False)
        # Convolutions on a CPU rearrange other layouts, each time.
        self.cascade.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.precision: Precision = precision
        self.codecs = True
        self._known_levels: dict[tuple[Method, int, Rule], list[NoiseLevels]] = {}
        self._compiled: CompiledNetworks | None = None

    @property
    def device(self) -> str:
        """Where the networks are."""
        return str(self.cascade.device)

    def prepare(self, execution: Execution) -> None:
        """Run the networks in this way from now on, and have all at hand that the largest batch of them needs.

        To compile them takes minutes; no evaluation pays for it later.

        Raises:
            MemoryError: If the device has no memory for so many.
            ValueError: The device's name is none.
            UnavailableError: The device is not there, or the networks cannot be compiled for it.
        """
        if execution.threads is not None:
            torch.set_num_threads(execution.threads)
        self.cascade.to(pick_device(execution.device))
        if execution.compiled:
            self._compiled = CompiledNetworks(self.cascade, size_ladder(execution.largest_batch))
            self._compiled.warm_up(self._evaluate_blank)
        try:
            for scale in range(1, self.cascade.transform.scales + 1):
                self._evaluate_blank(scale, execution.largest_batch)
        except MemoryError as error:
            most = execution.largest_batch
            raise MemoryError(f"no memory for a batch of {most} on {self.device}: allow fewer ({error})") from error

    def _evaluate_blank(self, scale: int, size: int) -> None:
        blank = np.zeros(self.cascade.config.image_shape, dtype=np.uint8)
        self.evaluate([Unit(0, blank, scale, 0, 0, Fidelity(nodes=1), 1.0, ())] * size)

    def evaluate(self, units: Sequence[Unit]) -> list[UnitResult]:
        """Results of units that may share a batch, in order.

        Raises:
            MemoryError: If the device has no memory for so many.
        """
        # Compiled code has its own threads.
        whole = self.cascade.device.type != "cpu" or self._compiled
        return self._evaluate_part(units) if whole else run_in_parts(self._evaluate_part, units)

    def _evaluate_part(self, units: Sequence[Unit]) -> list[UnitResult]:
        # The flow differentiates its network, which inference mode forbids. Modes are each thread's own.
        with torch.inference_mode(units[0].fidelity.method != "flow"), torch.no_grad(), memory_errors():
            found: dict[int, UnitResult] = {}
            for scale in {unit.scale for unit in units}:
                own = [position for position, unit in enumerate(units) if unit.scale == scale]
                found |= zip(own, self._evaluate([units[position] for position in own]), strict=True)
            return [found[position] for position in range(len(units))]

    def _evaluate(self, units: Sequence[Unit]) -> list[UnitResult]:
        """Results of units of one scale."""
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
            probe = self.probe(units) if units[0].fidelity.divergence == "hutchinson" else None
            return run_flow_step(cascade, latents, probe, units)
        prediction = self.predict(latents, units)
        noise, predicted = prediction.noise, prediction.predicted_noise
        # Error and norm of each subband.
        bands = len(cascade.transform.bands(scale))
        residual = noise - predicted
        error, norm = (a.double().square().reshape(len(a), bands, -1).sum(2) for a in (residual, predicted))
        squared_noise = noise.double().square().flatten(1).sum(1)
        term = prediction.term(error.sum(1), squared_noise, cascade.transform.rank(scale))
        found = (term[:, None], error, norm, alignments(residual, predicted, bands))
        middle = () if prediction.middle is None else (spatial_statistics(prediction.middle),)
        return [UnitResult(row) for row in torch.cat((*found, *middle), dim=1).cpu().numpy()]

    def likelihood(self, parts: Sequence[Part]) -> Score:
        """The likelihood of one image from all its units of one fidelity and their values, in any order."""
        fidelity = parts[0][0].fidelity
        if fidelity.method == "flow":
            return combine_flow(parts, self.cascade)
        return combine_bound(parts, self.cascade, self.levels(fidelity), codecs=self.codecs)

    def latents(self, units: Sequence[Unit]) -> Latents:
        """Images of units, their clean coefficients and a sample of their ``z_0``."""
        images = torch.from_numpy(np.stack([unit.image for unit in units])).to(self.cascade.device)
        coefficients = self.cascade.transform.forward(self.cascade.pixels(images))
        return Latents(
            images, coefficients, self.cascade.sample_z0(coefficients, self.noise(units, ["z0"] * len(units)))
        )

    def predict(self, latents: Latents, units: Sequence[Unit]) -> Prediction:
        """Noise and predicted noise of units of one bucket and one scale that has a network."""
        cascade, device, scale = self.cascade, self.cascade.device, units[0].scale
        z, noise = latents.coefficients[scale - 1], self.noise(units, [unit.node for unit in units])[scale - 1]
        places = [(self.levels(unit.fidelity)[scale - 1], unit.node) for unit in units]
        gamma = torch.tensor([levels.gamma[node] for levels, node in places], device=device)
        weight = torch.tensor([levels.weights[node] for levels, node in places], device=device)
        alpha, sigma = alpha_sigma(gamma[:, None, None, None])
        with torch.autocast(device.type, torch.bfloat16, enabled=self.precision == "bfloat16"):
            condition = cascade.condition(scale, latents.z0)
            networks, inputs = self._compiled or cascade, (scale, alpha * z + sigma * noise, gamma, condition)
            if units[0].fidelity.activations:
                predicted, middle = networks.observed(*inputs)
            else:
                predicted, middle = networks.predicted_noise(*inputs), None
        predictor = cascade.predictors[scale - 1]
        share = (
            predictor.linear_error(gamma).double() if isinstance(predictor, NoisePredictor) else torch.ones_like(weight)
        )
        return Prediction(noise, predicted, weight, share, middle)

    def levels(self, fidelity: Fidelity) -> list[NoiseLevels]:
        """Noise levels and weights of every scale."""
        key = (fidelity.method, fidelity.nodes, fidelity.rule)
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
                replicate=unit.replicate,
                draw=draw,
            )
            for unit, draw in zip(units, draws, strict=True)
        ]
        return self.cascade.transform.noise(torch.stack(rows).to(self.cascade.device))

    def probe(self, units: Sequence[Unit]) -> Tensor:
        """The probe of the flow's divergence for units of one scale, ``[B, *shape(s)]``, with covariance ``P_s``.

        The draws of an image share it: its error would look like likelihood in their average.
        """
        scale, transform = units[0].scale, self.cascade.transform
        shape = transform.shape(scale)
        rows = [
            random_signs(unit.fidelity.noise, unit.image, prod(shape), seed=unit.fidelity.seed, scale=scale)
            for unit in units
        ]
        signs = torch.stack(rows).view(-1, *shape).to(self.cascade.device)
        return transform.project(scale, signs)
