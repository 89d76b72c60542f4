"""The seam between those who ask for scores and the model that computes them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Protocol, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from pcdm_core.likelihood import Divergence, Method, NoiseKind, Rule
from pcdm_core.model import Frozen

__all__ = ["Fidelity", "FlowState", "Score", "Scorer", "Unit", "UnitResult"]


_ONLY_OF: Mapping[str, Method] = MappingProxyType({"rule": "bound", "tolerance": "flow", "divergence": "flow"})


class Fidelity(Frozen):
    """How carefully the likelihood is computed; part of a calibration's identity.

    Attributes:
        method: ``bound``, an estimate of the continuous-time variational bound; ``certified``, a sum over finite steps
            that is itself a bound, in expectation, at any number of nodes; ``flow``, dequantisation with the density of
            the latents by the probability flow.
        nodes: Noise levels of each scale; for the flow, Runge-Kutta steps of six network calls, or, with a tolerance,
            the first step is one of so many.
        rule: Of the bound: where its nodes are.
        tolerance: For the flow: error of one step that is let pass, nats per dimension; every image then has steps of
            its own. None for equal steps.
        divergence: For the flow: by one probe an image, or exact, one backward pass a coefficient: for small images.
        seed: Of the noise.
        noise: Shared between images (sharper comparisons), or keyed by image content (unbiased means).
        replicates: Independent repetitions of all noise; from two on, the answer has a standard error. For the flow,
            the K draws of its importance-weighted average; that of draws that share a probe is an estimate.
        activations: Not for the flow: whether what the U-Nets have in their middle is kept too, for detectors that want
            to see it. The likelihood is the same.
    """

    method: Method = "bound"
    nodes: int = Field(10, ge=1, le=1000)
    rule: Rule = "gamma"
    tolerance: float | None = Field(None, gt=0, le=1)
    divergence: Divergence = "hutchinson"
    seed: int = Field(0, ge=0)
    noise: NoiseKind = "shared"
    replicates: int = Field(1, ge=1)
    activations: bool = False

    @model_validator(mode="after")
    def _each_to_its_method(self) -> Self:
        for name, method in _ONLY_OF.items():
            if method != self.method and getattr(self, name) != type(self).model_fields[name].default:
                raise ValueError(f"{name}: only the {method} has one, the method is {self.method}")
        if self.activations and self.method == "flow":
            raise ValueError("activations: the flow has none, as its steps are at other noise levels for every image")
        return self

    def settings(self) -> dict[str, Any]:
        """Those that the method has a use for, JSON-able; `activations` only where there are any."""
        return {
            name: value
            for name, value in self.model_dump(exclude=set() if self.activations else {"activations"}).items()
            if _ONLY_OF.get(name, self.method) == self.method
        }


@dataclass(frozen=True, eq=False)
class FlowState:
    """Where a solver step of the flow ended, or what it goes back to; see `pcdm_core.likelihood.FlowPath`.

    Attributes:
        z: Latents of its scale, float32.
        growth: Log density gathered on the way, nats.
        gamma: Noise level reached.
        width: Of the next step.
        error: Of the log density, nats.
        calls: Network evaluations so far.
    """

    z: NDArray[np.float32]
    growth: float
    gamma: float
    width: float
    error: float
    calls: int


@dataclass(frozen=True, eq=False)
class Unit:
    """One network evaluation, or solver step, of one (image, scale); opaque to the service but for cost and bucket.

    Attributes:
        index: Position of its image in the plan.
        image: uint8, ``[C, H, W]``.
        scale: 1 to S; 0 stands for the terms that need no network.
        node: Position of its noise level; 0 for the flow, whose step is told by `state`.
        replicate: Which repetition.
        fidelity: The settings of its plan.
        cost: Relative cost of running it.
        bucket: Units of equal buckets may share a batch.
        state: Of the flow, where the step before ended; None for the first.
    """

    index: int
    image: NDArray[np.uint8]
    scale: int
    node: int
    replicate: int
    fidelity: Fidelity
    cost: float
    bucket: tuple[str | int, ...]
    state: FlowState | None = None


@dataclass(frozen=True, eq=False)
class UnitResult:
    """What a unit found, nats, raw squares and cosines, float64.

    Attributes:
        values: For a network evaluation: its term of the bound, then ``||eps - eps_hat||^2`` of each subband, then
            ``||eps_hat||^2`` of each, then the cosines of `pcdm_core.scoring.alignment`, then, where activations are
            kept, the spatial mean of every channel in the middle of the U-Net and their standard deviations. For the
            terms without network: reconstruction, the prior of each scale. For the flow, after the last step: the log
            density, its error, network calls; without network: reconstruction, ``log q(z_0 | x)``.
        state: Where a step of the flow ended that is not the last; `Scorer.follow` makes it a unit again.
    """

    values: NDArray[np.float64]
    state: FlowState | None = None


@dataclass(frozen=True)
class Score:
    """The answer for one image.

    Attributes:
        score: Out-of-distribution score, higher for more OOD, at the calibrated fidelity whatever was asked for; None
            for a model without calibration.
        p_value: How rarely a normal image looks this odd, in [1/(n+1), 1]; None without calibration.
        is_ood: Whether the p-value is at most the calibration's alpha; None without calibration.
        bits_per_dim: The bound on ``-log2 p(x)`` per dimension.
        nats: The same bound, in nats for the whole image.
        stderr: Standard error of `bits_per_dim` over noise; None with one replicate.
        terms: Summands of `bits_per_dim`: reconstruction, prior and diffusion of each scale; for the flow,
            reconstruction, dequantisation, flow of each scale and what several draws win.
        diffusion: The diffusion terms apart by scale and noise node, bits/dim, ``[S, nodes]``; None for the flow.
        embedded_bits_per_dim: `bits_per_dim` by a coarser rule from the same network calls (every second node, or the
            flow's solver of lower order): how far it lies off tells how far the choice of nodes, or of steps, can be
            trusted. None where there is no such rule (one node, ``certified``).
        network_calls: Network evaluations that it took, those of the verdict among them.
        features: What detectors choose from, in the columns of `CascadeScorer.layout` at the calibrated fidelity, or,
            for a model without calibration, at the one asked for; empty for the flow of such a model.
    """

    score: float | None
    p_value: float | None
    is_ood: bool | None
    bits_per_dim: float
    nats: float
    stderr: float | None
    terms: dict[str, float]
    diffusion: NDArray[np.float64] | None
    embedded_bits_per_dim: float | None
    network_calls: int
    features: NDArray[np.float64]

    @property
    def time_error(self) -> float | None:
        """About how far `bits_per_dim` is off by the choice of nodes, or of steps; None if unknown.

        Of the nodes of the bound it is an estimate on the safe side, of the flow's steps one of the right size.
        """
        return None if self.embedded_bits_per_dim is None else abs(self.embedded_bits_per_dim - self.bits_per_dim)


class Scorer(Protocol):
    """Plans units, runs them in any grouping, combines their results; `score` composes all.

    A result that `follow` answers with another unit is not the last word: the place of its unit in the plan is taken by
    that one, until there is none.
    """

    def plan(self, images: NDArray[np.uint8], settings: Fidelity) -> list[Unit]:
        """Units of images ``[N, C, H, W]``."""
        ...

    def run(self, units: Sequence[Unit]) -> list[UnitResult]:
        """Results of units of one bucket, in order; blocks."""
        ...

    def follow(self, unit: Unit, result: UnitResult) -> Unit | None:
        """The unit that has to run after ``unit`` gave ``result``, or None where that is the final result."""
        ...

    def combine(self, units: Sequence[Unit], results: Sequence[UnitResult]) -> list[Score]:
        """One score for each image of a plan."""
        ...

    def score(self, images: NDArray[np.uint8], settings: Fidelity) -> list[Score]:
        """Plan, run in batches, combine."""
        ...
