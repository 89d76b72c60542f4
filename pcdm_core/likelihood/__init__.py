"""Pieces of the likelihood: decoder, prior, seeded noise, quadrature of the bound, density by the probability flow."""

from __future__ import annotations

from pcdm_core.likelihood.decoder import lattice_position, prior, prior_term, reconstruction, reconstruction_by_pixel
from pcdm_core.likelihood.earth_mover import earth_mover_bound, wavelet_earth_mover
from pcdm_core.likelihood.flow import (
    Divergence,
    FlowDensity,
    density_field,
    flow_log_density,
    noise_log_density,
    require_density,
)
from pcdm_core.likelihood.nodes import Method, NoiseLevels, Rule, embedded_weights, gauss_legendre, noise_levels
from pcdm_core.likelihood.noise import Draw, NoiseKind, random_signs, white_noise
from pcdm_core.likelihood.ode import CALLS_PER_STEP
from pcdm_core.likelihood.path import FlowPath, advance, travel

__all__ = [
    "CALLS_PER_STEP",
    "Divergence",
    "Draw",
    "FlowDensity",
    "FlowPath",
    "Method",
    "NoiseKind",
    "NoiseLevels",
    "Rule",
    "advance",
    "density_field",
    "earth_mover_bound",
    "embedded_weights",
    "flow_log_density",
    "gauss_legendre",
    "lattice_position",
    "noise_levels",
    "noise_log_density",
    "prior",
    "prior_term",
    "random_signs",
    "reconstruction",
    "reconstruction_by_pixel",
    "require_density",
    "travel",
    "wavelet_earth_mover",
    "white_noise",
]
