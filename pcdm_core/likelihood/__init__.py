"""Pieces of the likelihood: decoder, prior, seeded noise, quadrature of the bound, density by the probability flow."""

from __future__ import annotations

from pcdm_core.likelihood.decoder import lattice_position, prior, prior_term, reconstruction, reconstruction_by_pixel
from pcdm_core.likelihood.flow import (
    Divergence,
    FlowDensity,
    density_field,
    flow_log_density,
    noise_log_density,
    require_density,
)
from pcdm_core.likelihood.nodes import Method, NoiseLevels, embedded_weights, gauss_legendre, noise_levels
from pcdm_core.likelihood.noise import Draw, NoiseKind, white_noise
from pcdm_core.likelihood.ode import runge_kutta_step

__all__ = [
    "Divergence",
    "Draw",
    "FlowDensity",
    "Method",
    "NoiseKind",
    "NoiseLevels",
    "density_field",
    "embedded_weights",
    "flow_log_density",
    "gauss_legendre",
    "lattice_position",
    "noise_levels",
    "noise_log_density",
    "prior",
    "prior_term",
    "reconstruction",
    "reconstruction_by_pixel",
    "require_density",
    "runge_kutta_step",
    "white_noise",
]
