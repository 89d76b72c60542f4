"""Pieces of the likelihood: decoder, prior, seeded noise, quadrature of the bound, density by the probability flow."""

from __future__ import annotations

from pcdm_core.likelihood.decoder import prior, prior_term, reconstruction, reconstruction_by_pixel
from pcdm_core.likelihood.flow import Divergence, FlowDensity, flow_log_density
from pcdm_core.likelihood.nodes import Method, NoiseLevels, embedded_weights, gauss_legendre, noise_levels
from pcdm_core.likelihood.noise import NoiseKind, white_noise

__all__ = [
    "Divergence",
    "FlowDensity",
    "Method",
    "NoiseKind",
    "NoiseLevels",
    "embedded_weights",
    "flow_log_density",
    "gauss_legendre",
    "noise_levels",
    "prior",
    "prior_term",
    "reconstruction",
    "reconstruction_by_pixel",
    "white_noise",
]
