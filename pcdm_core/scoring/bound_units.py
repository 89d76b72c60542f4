"""From the terms of the bound at every noise node to the score of an image."""

from __future__ import annotations

from collections.abc import Sequence
from math import log, sqrt

import numpy as np
from numpy.typing import NDArray

from pcdm_core.likelihood import NoiseLevels
from pcdm_core.model import Cascade
from pcdm_core.scoring.codecs import codec_bits_per_dim
from pcdm_core.scoring.columns import term_names
from pcdm_core.scoring.units import Score, Unit

__all__ = ["combine_bound"]


def combine_bound(
    parts: Sequence[tuple[Unit, NDArray[np.float64]]],
    cascade: Cascade,
    levels: Sequence[NoiseLevels],
    *,
    codecs: bool = True,
) -> Score:
    """The bound of one image, with its terms and its features, in the columns of `feature_layout`; no verdict yet.

    Args:
        parts: Units of the image and their values, in any order.
        cascade: The model.
        levels: Noise levels and weights of every scale at the units' fidelity.
        codecs: Whether the features have the sizes in lossless codecs.
    """
    fidelity, scales = parts[0][0].fidelity, cascade.transform.scales
    to_bits = 1 / (cascade.config.dimensions * log(2))
    values = {(unit.scale, unit.replicate, unit.node): found for unit, found in parts}
    without_network = np.stack([values[0, replicate, 0] for replicate in range(fidelity.replicates)])
    places = [(replicate, node) for replicate in range(fidelity.replicates) for node in range(fidelity.nodes)]
    diffusion = np.empty((fidelity.replicates, scales, fidelity.nodes))
    spectra: list[NDArray[np.float64]] = []
    aligned: list[NDArray[np.float64]] = []
    middles: list[NDArray[np.float64]] = []
    for scale in range(1, scales + 1):
        found = np.stack([values[scale, *place] for place in places])
        found = found.reshape(fidelity.replicates, fidelity.nodes, -1)
        diffusion[:, scale - 1] = found[:, :, 0]
        bands = len(cascade.transform.bands(scale))
        own = (found[:, :, 1:] / fidelity.replicates).sum(0)
        squares = 2 * bands
        cosines = squares + (1 + cascade.config.image_shape[0]) * bands
        spectra.append(own[:, :squares].ravel())
        aligned.append(own[:, squares:cosines].ravel())
        if own.shape[1] > cosines:
            middles.append(_of_middle(own[:, cosines:]))
    totals = without_network.sum(1) + diffusion.sum((1, 2))
    nats, mean_diffusion = float(totals.mean()), diffusion.mean(0)
    stderr = None
    if fidelity.replicates > 1:
        stderr = float(totals.std(ddof=1) / sqrt(fidelity.replicates) * to_bits)
    terms = np.concatenate((without_network.mean(0), mean_diffusion.sum(1))) * to_bits
    sizes = codec_bits_per_dim(parts[0][0].image) if codecs else ()
    spectrum = np.log(np.concatenate(spectra) + 1e-12)
    embedded = _embedded(nats, mean_diffusion, levels)
    return Score(
        score=None,
        p_value=None,
        is_ood=None,
        bits_per_dim=nats * to_bits,
        nats=nats,
        stderr=stderr,
        terms=dict(zip(term_names(scales), terms.tolist(), strict=True)),
        diffusion=mean_diffusion * to_bits,
        embedded_bits_per_dim=None if embedded is None else embedded * to_bits,
        network_calls=sum(unit.scale > 0 for unit, _ in parts),
        features=np.concatenate(([nats * to_bits], terms, sizes, spectrum, *aligned, *middles)),
    )


def _of_middle(found: NDArray[np.float64]) -> NDArray[np.float64]:
    """Of one scale, ``[nodes, 2 C]``, means over its nodes: of channels' means, and of the logs of their deviations.

    A channel that is dead in places has a finite one.
    """
    channels = found.shape[1] // 2
    return np.concatenate((found[:, :channels].mean(axis=0), np.log(found[:, channels:] + 1e-3).mean(axis=0)))


def _embedded(nats: float, diffusion: NDArray[np.float64], levels: Sequence[NoiseLevels]) -> float | None:
    """The total if the diffusion terms, ``[S, nodes]``, came from the embedded rules; nats."""
    for row, one in zip(diffusion, levels, strict=True):
        if one.embedded is None:
            return None
        nats += float(((one.embedded / one.weights - 1) * row).sum())
    return nats
