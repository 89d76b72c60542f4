"""Pieces of the likelihood bound: decoder, prior, seeded noise, quadrature."""

from __future__ import annotations

from pcdm_core.likelihood.decoder import prior, reconstruction
from pcdm_core.likelihood.nodes import gauss_legendre
from pcdm_core.likelihood.noise import NoiseKind, white_noise

__all__ = ["NoiseKind", "gauss_legendre", "prior", "reconstruction", "white_noise"]
