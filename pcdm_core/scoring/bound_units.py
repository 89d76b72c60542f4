"""From the terms of the bound at every noise node to the score of an image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
    without_network = np.zeros((fidelity.replicates, 1 + scales))
    diffusion = np.zeros((fidelity.replicates, scales, fidelity.nodes))
    spectra: dict[tuple[int, int], NDArray[np.float64]] = {}
    aligned: dict[tuple[int, int], NDArray[np.float64]] = {}
    middles: dict[tuple[int, int], NDArray[np.float64]] = {}
    for unit, values in parts:
        if unit.scale == 0:
            without_network[unit.replicate] = values
        else:
            diffusion[unit.replicate, unit.scale - 1, unit.node] = values[0]
            place = (unit.scale, unit.node)
            bands = len(cascade.transform.bands(unit.scale))
            ends = np.cumsum((2 * bands, (1 + cascade.config.image_shape[0]) * bands))
            squares, cosines, middle = np.split(values[1:] / fidelity.replicates, ends)
            spectra[place] = spectra.get(place, 0.0) + squares
            aligned[place] = aligned.get(place, 0.0) + cosines
            if middle.size:
                middles[place] = middles.get(place, 0.0) + middle
    totals = without_network.sum(1) + diffusion.sum((1, 2))
    nats, mean_diffusion = float(totals.mean()), diffusion.mean(0)
    stderr = None
    if fidelity.replicates > 1:
        stderr = float(totals.std(ddof=1) / sqrt(fidelity.replicates) * to_bits)
    terms = np.concatenate((without_network.mean(0), mean_diffusion.sum(1))) * to_bits
    sizes = codec_bits_per_dim(parts[0][0].image) if codecs else ()
    spectrum = np.log(np.concatenate([spectra[place] for place in sorted(spectra)]) + 1e-12)
    alignment = np.concatenate([aligned[place] for place in sorted(aligned)])
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
        features=np.concatenate(([nats * to_bits], terms, sizes, spectrum, alignment, *_of_middles(middles))),
    )


def _of_middles(middles: Mapping[tuple[int, int], NDArray[np.float64]]) -> list[NDArray[np.float64]]:
    """Of each scale, means over the noise nodes: of the channels' means, and of the logs of their deviations.

    A channel that is dead in places has a finite one.
    """
    parts: list[NDArray[np.float64]] = []
    for scale in sorted({scale for scale, _ in middles}):
        found = np.stack([values for (own, _), values in sorted(middles.items()) if own == scale])
        means, deviations = np.split(found, 2, axis=1)
        parts += (means.mean(axis=0), np.log(deviations + 1e-3).mean(axis=0))
    return parts


def _embedded(nats: float, diffusion: NDArray[np.float64], levels: Sequence[NoiseLevels]) -> float | None:
    """The total if the diffusion terms, ``[S, nodes]``, came from the embedded rules; nats."""
    for row, one in zip(diffusion, levels, strict=True):
        if one.embedded is None:
            return None
        nats += float(((one.embedded / one.weights - 1) * row).sum())
    return nats
