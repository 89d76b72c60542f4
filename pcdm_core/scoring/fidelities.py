"""The fidelities that have a name, for those who do not want to choose nodes and tolerances."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Literal

from pcdm_core.scoring.units import Fidelity

__all__ = ["FIDELITIES", "FidelityName", "named_fidelity"]

FidelityName = Literal["fast", "balanced", "exact"]
"""``fast``: what the detector is calibrated with, the likelihood a by-product. ``balanced``: the bound within 0.01
bits/dim of the integral over time, on average (docs/quadrature.md). ``exact``: the density by the probability flow,
solved to a tolerance. The verdict is the same at all three: it always comes from what was calibrated."""

FIDELITIES: Mapping[FidelityName, Fidelity] = MappingProxyType(
    {
        "fast": Fidelity(nodes=10, rule="time"),
        "balanced": Fidelity(nodes=10, noise="keyed"),
        "exact": Fidelity(method="flow", nodes=16, tolerance=1e-3, noise="keyed"),
    }
)
"""Of a model without calibration; with one, ``fast`` is its fidelity."""


def named_fidelity(known: Mapping[FidelityName, Fidelity], name: FidelityName, *, model: str) -> Fidelity:
    """The settings of a fidelity among those that a model has.

    Raises:
        ValueError: If it has no such fidelity; names those that there are.
    """
    if name not in known:
        raise ValueError(f"{model} has no fidelity {name}, only {', '.join(known)}")
    return known[name]
