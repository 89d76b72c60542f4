"""Images drawn from a cascade, coarse to fine, and the flow between images and noise."""

from __future__ import annotations

from pcdm_core.sampling.ancestral import ancestral_latents, ancestral_step
from pcdm_core.sampling.flow import decode, encode
from pcdm_core.sampling.grid import image_grid
from pcdm_core.sampling.noise import ImageNoise
from pcdm_core.sampling.pixels import likeliest_pixels, sample_pixels
from pcdm_core.sampling.sampler import SamplingMethod, sample_images, sample_latents

__all__ = [
    "ImageNoise",
    "SamplingMethod",
    "ancestral_latents",
    "ancestral_step",
    "decode",
    "encode",
    "image_grid",
    "likeliest_pixels",
    "sample_images",
    "sample_latents",
    "sample_pixels",
]
