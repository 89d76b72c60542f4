"""What an evaluation of the bound puts in which column of an image's feature vector."""

from __future__ import annotations

from pcdm_core.detection import Detector
from pcdm_core.detection.layout import ALIGNMENT, CODECS, MIDDLE, SPECTRUM, FeatureLayout
from pcdm_core.model import Cascade
from pcdm_core.scoring.units import Fidelity

__all__ = ["feature_layout", "term_names", "with_activations"]


def term_names(scales: int) -> list[str]:
    """The summands of the bound, in the order of `Score.terms`."""
    return ["reconstruction", *(f"{kind}_scale_{s}" for kind in ("prior", "diffusion") for s in range(1, scales + 1))]


def feature_layout(cascade: Cascade, fidelity: Fidelity, *, codecs: bool = True) -> FeatureLayout:
    """The columns of `Score.features`.

    These are the bound, its terms, sizes in lossless codecs (where they are wanted), the spectrum, alignments, and
    activations. The flow has none: its features are those of the calibrated fidelity, or empty.
    """
    if fidelity.method == "flow":
        return FeatureLayout(())
    transform, channels, middle = cascade.transform, cascade.config.image_shape[0], []
    spectrum = [
        f"{kind}_scale_{scale}_node_{node}_band_{band}"
        for scale in range(1, transform.scales + 1)
        for node in range(fidelity.nodes)
        for kind in SPECTRUM
        for band in range(len(transform.bands(scale)))
    ]
    alignment = [
        f"{kind}_scale_{scale}_node_{node}_band_{band}{colour}"
        for scale in range(1, transform.scales + 1)
        for node in range(fidelity.nodes)
        for kind, colours in zip(ALIGNMENT, ([f"_colour_{c}" for c in range(channels)], [""]), strict=True)
        for band in range(len(transform.bands(scale)))
        for colour in colours
    ]
    if fidelity.activations:
        middle = [
            f"{kind}_scale_{scale}_channel_{channel}"
            for scale, network in enumerate(cascade.config.networks, start=1)
            for kind in MIDDLE
            for channel in range(network.channels * network.multipliers[-1])
        ]
    sizes = CODECS if codecs else ()
    return FeatureLayout(("bits_per_dim", *term_names(transform.scales), *sizes, *spectrum, *alignment, *middle))


def with_activations(fidelity: Fidelity, *detectors: Detector) -> Fidelity:
    """The settings with activations where one of the detectors wants to see them, else without."""
    seen = {kind for detector in detectors for kind in detector.kinds}
    return fidelity.model_copy(update={"activations": not seen.isdisjoint(MIDDLE)})
