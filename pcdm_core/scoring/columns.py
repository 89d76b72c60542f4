"""What an evaluation of the bound puts in which column of an image's feature vector."""

from __future__ import annotations

from pcdm_core.detection.layout import CODECS, SPECTRUM, FeatureLayout
from pcdm_core.scoring.units import Fidelity
from pcdm_core.transforms import Transform

__all__ = ["feature_layout", "term_names"]


def term_names(scales: int) -> list[str]:
    """The summands of the bound, in the order of `Score.terms`."""
    return ["reconstruction", *(f"{kind}_scale_{s}" for kind in ("prior", "diffusion") for s in range(1, scales + 1))]


def feature_layout(transform: Transform, fidelity: Fidelity) -> FeatureLayout:
    """The columns of `Score.features`: the bound, its terms, the sizes in lossless codecs, and the spectrum.

    The flow has none: its features are those of the calibrated fidelity, or empty.
    """
    if fidelity.method == "flow":
        return FeatureLayout(())
    spectrum = [
        f"{kind}_scale_{scale}_node_{node}_band_{band}"
        for scale in range(1, transform.scales + 1)
        for node in range(fidelity.nodes)
        for kind in SPECTRUM
        for band in range(len(transform.bands(scale)))
    ]
    return FeatureLayout(("bits_per_dim", *term_names(transform.scales), *CODECS, *spectrum))
