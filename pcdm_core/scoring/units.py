"""The seam between those who ask for scores and the model that computes them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from pcdm_core.likelihood import Method, NoiseKind
from pcdm_core.model import Frozen

__all__ = ["Fidelity", "Score", "Scorer", "Unit", "UnitResult"]


class Fidelity(Frozen):
    """How carefully the likelihood is computed; part of a calibration's identity.

    Attributes:
        method: ``bound``, an estimate of the continuous-time variational bound; ``certified``, a sum over finite steps
            that is itself a bound, in expectation, at any number of nodes.
        nodes: Noise levels of each scale.
        seed: Of the noise.
        noise: Shared between images (sharper comparisons), or keyed by image content (unbiased means).
        replicates: Independent repetitions of all noise; from two on, the answer has a standard error.
    """

    method: Method = "bound"
    nodes: int = Field(10, ge=1, le=1000)
    seed: int = Field(0, ge=0)
    noise: NoiseKind = "shared"
    replicates: int = Field(1, ge=1)


@dataclass(frozen=True, eq=False)
class Unit:
    """One (image, scale, noise node) network evaluation; to the service opaque but for `cost` and `bucket`.

    Attributes:
        index: Position of its image in the plan.
        image: uint8, ``[C, H, W]``.
        scale: 1 to S; 0 stands for the terms that need no network.
        node: Position of its noise level.
        replicate: Which repetition.
        fidelity: The settings of its plan.
        cost: Relative cost of running it.
        bucket: Units of equal buckets may share a batch.
    """

    index: int
    image: NDArray[np.uint8]
    scale: int
    node: int
    replicate: int
    fidelity: Fidelity
    cost: float
    bucket: tuple[str | int, ...]


@dataclass(frozen=True, eq=False)
class UnitResult:
    """What a unit found, nats and raw squares, float64.

    Attributes:
        values: For a network evaluation: its term of the bound, then ``||eps - eps_hat||^2`` of each subband, then
            ``||eps_hat||^2`` of each. For the terms without network: reconstruction, then the prior of each scale.
    """

    values: NDArray[np.float64]


@dataclass(frozen=True)
class Score:
    """The answer for one image.

    Attributes:
        score: Out-of-distribution score, higher for more OOD; None for a model without calibration.
        p_value: How rarely a normal image looks this odd, in [1/(n+1), 1]; None without calibration.
        is_ood: Whether the p-value is at most the calibration's alpha; None without calibration.
        bits_per_dim: The bound on ``-log2 p(x)`` per dimension.
        nats: The same bound, in nats for the whole image.
        stderr: Standard error of `bits_per_dim` over noise; None with one replicate.
        terms: Summands of `bits_per_dim`: reconstruction, prior and diffusion of each scale.
        diffusion: The diffusion terms apart by scale and noise node, bits/dim, ``[S, nodes]``.
        embedded_bits_per_dim: `bits_per_dim` from every second node only: how far it lies off tells how far the choice
            of nodes can be trusted. None where there is no such rule (one node, or ``certified``).
        network_calls: Network evaluations that it took.
        features: Spectrum of the image, what the detector sees.
    """

    score: float | None
    p_value: float | None
    is_ood: bool | None
    bits_per_dim: float
    nats: float
    stderr: float | None
    terms: dict[str, float]
    diffusion: NDArray[np.float64]
    embedded_bits_per_dim: float | None
    network_calls: int
    features: NDArray[np.float64]


class Scorer(Protocol):
    """Plans units, runs them in any grouping, combines their results; `score` composes the three."""

    def plan(self, images: NDArray[np.uint8], settings: Fidelity) -> list[Unit]:
        """Units of images ``[N, C, H, W]``."""
        ...

    def run(self, units: Sequence[Unit]) -> list[UnitResult]:
        """Results of units of one bucket, in order; blocks."""
        ...

    def combine(self, units: Sequence[Unit], results: Sequence[UnitResult]) -> list[Score]:
        """One score for each image of a plan."""
        ...

    def score(self, images: NDArray[np.uint8], settings: Fidelity) -> list[Score]:
        """Plan, run in batches, combine."""
        ...
