"""The figures of one row: how well it tells sets apart, and what an image costs."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pcdm_core.benchmark.material import Material
from pcdm_core.benchmark.rows import Row, ScoreImages
from pcdm_core.detection import ood_metrics

__all__ = ["core_seconds", "fitted", "measured_row"]


def core_seconds(work: Callable[[], object], *, repeats: int = 2) -> float:
    """Processor time of some work, seconds, the least of some runs: what else the machine does counts little."""
    shortest = float("inf")
    for _ in range(repeats):
        started = time.process_time()
        work()
        shortest = min(shortest, time.process_time() - started)
    # The clock has a grain, and no work takes no time.
    return max(shortest, time.get_clock_info("process_time").resolution)


def fitted(row: Row, of: Material) -> ScoreImages:
    """What scores images, having learned from `of`.

    Raises:
        ValueError: the fit fails; the message names the row.
    """
    try:
        return row.fit(of)
    except ValueError as error:
        raise ValueError(f"{row.name}: {error}") from error


def measured_row(
    row: Row,
    score: ScoreImages,
    inside: Material,
    outside: Mapping[str, Material],
    *,
    sample: Material,
    seconds: float,
    network_calls: float,
    progress: Callable[[], None] | None = None,
) -> dict[str, Any]:
    """Figures of a row, ready for JSON.

    Args:
        row: which.
        score: what `fitted` returned for it.
        inside: in-distribution images.
        outside: sets of OOD images, by name.
        sample: a few images, to take the time of `score` with.
        seconds: core-seconds in which the network of the row saw all of `sample`.
        network_calls: of one image.
        progress: called after each set.

    Returns:
        ``name``, ``needs``, ``supervised``, ``network_calls``, ``images_per_core_second``, and ``sets``: for each OOD
        set its ``source`` and its `OodMetrics`.
    """
    cost = seconds + core_seconds(lambda: score(sample))
    normal = _checked(row, score(inside))
    sets = []
    for source, material in outside.items():
        sets.append({"source": source, **ood_metrics(normal, _checked(row, score(material))).to_dict()})
        if progress is not None:
            progress()
    return {
        "name": row.name,
        "needs": row.needs,
        "supervised": row.supervised,
        "network_calls": network_calls,
        "images_per_core_second": len(sample.images) / cost,
        "sets": sets,
    }


def _checked(row: Row, scores: NDArray[np.float64]) -> NDArray[np.float64]:
    bad = int(scores.size - np.isfinite(scores).sum())
    if bad:
        raise ValueError(f"{row.name}: {bad} of {scores.size} scores are NaN or infinite")
    return scores
