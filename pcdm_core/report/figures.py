"""The figures of a report, as SVG; equal input gives equal bytes."""

from __future__ import annotations

from collections.abc import Sequence
from io import BytesIO
from math import isfinite
from typing import Final

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from sklearn.metrics import roc_curve

from pcdm_core.detection import Calibration, rate_tolerance
from pcdm_core.report.measured import MeasuredSet

__all__ = ["draw_reliability", "draw_roc", "draw_scales", "draw_scores", "labels"]

_BINS: Final = 60
_TAIL: Final = 0.5  # percent of all scores beyond each end of the histogram's axis
_SIZE: Final = (6.4, 4.4)  # inches


def labels(outside: Sequence[MeasuredSet]) -> list[str]:
    """What the sets are called in figures, ID first.

    Not by their names, which may be long, in any script, or what matplotlib takes for mathematics.
    """
    return ["ID", *(f"OOD {place}" for place in range(1, len(outside) + 1))]


def draw_roc(inside: MeasuredSet, outside: Sequence[MeasuredSet]) -> bytes:
    """ROC curve of the score for each OOD set, OOD positive, and that of bits/dim alone."""
    figure, axes = _figure("false-positive rate: ID images flagged", "true-positive rate: OOD images flagged")
    axes.plot([0, 1], [0, 1], color="0.8", linewidth=1)
    for place, (label, one) in enumerate(zip(labels(outside)[1:], outside, strict=True), start=1):
        is_out = np.repeat([0, 1], [len(inside), len(one)])
        for name, line, of_inside, of_outside in (
            ("score", "-", inside.scores, one.scores),
            ("bits/dim", ":", inside.bits_per_dim, one.bits_per_dim),
        ):
            fpr, tpr, _ = roc_curve(is_out, np.concatenate([of_inside, of_outside]))
            axes.plot(fpr, tpr, line, color=_colour(place), label=f"{label}, {name}")
    axes.legend(loc="lower right")
    return _svg(figure)


def draw_scores(calibration: Calibration, inside: MeasuredSet, outside: Sequence[MeasuredSet]) -> bytes:
    """Histogram of the scores of each set; what lies beyond the axis is counted in the outermost bins."""
    sets = [inside, *outside]
    together = np.concatenate([one.scores for one in sets])
    low, high = np.percentile(together, [_TAIL, 100 - _TAIL])
    edges = np.histogram_bin_edges(together, _BINS, (low, high))
    figure, axes = _figure("score, higher for more out-of-distribution", "share of the set's images")
    for place, (label, one) in enumerate(zip(labels(outside), sets, strict=True)):
        counts, _ = np.histogram(np.clip(one.scores, edges[0], edges[-1]), edges)
        axes.stairs(counts / len(one), edges, color=_colour(place), fill=place == 0, alpha=0.4 if place == 0 else 1)
        # A handle of its own, as a filled one and an outlined one look alike in the legend.
        axes.plot([], [], color=_colour(place), label=label)
    threshold = calibration.threshold()
    if isfinite(threshold):
        axes.axvline(
            float(np.clip(threshold, edges[0], edges[-1])),
            color="0.2",
            linestyle="--",
            label=f"flagged from here, alpha = {calibration.alpha:g}",
        )
    axes.legend()
    return _svg(figure)


def draw_reliability(calibration: Calibration, inside: MeasuredSet) -> bytes:
    """Share of ID images with p up to alpha, against alpha, with the tolerance around the diagonal."""
    figure, axes = _figure("alpha", "share of ID images with p <= alpha")
    n_calibration, n_test = calibration.calibration_scores.size, len(inside)
    alphas = np.linspace(0, 1, 201)[1:-1]
    tolerance = np.array([rate_tolerance(float(alpha), n_calibration=n_calibration, n_test=n_test) for alpha in alphas])
    band = (np.maximum(alphas - tolerance, 0), np.minimum(alphas + tolerance, 1))
    axes.fill_between(alphas, *band, color="0.88", label="tolerance, pointwise")
    axes.plot([0, 1], [0, 1], color="0.5", linewidth=1)
    ordered = np.sort(inside.p_values)
    steps = np.arange(n_test + 1) / n_test
    axes.step(np.concatenate([[0], ordered, [1]]), np.append(steps, 1), where="post", color=_colour(0), label="ID")
    axes.legend(loc="upper left")
    return _svg(figure)


def draw_scales(inside: MeasuredSet, outside: Sequence[MeasuredSet]) -> bytes:
    """Mean bits/dim of each set, apart by scale."""
    sets = [inside, *outside]
    figure, axes = _figure("mean bits/dim", "")
    parts: dict[str, list[float]] = {}
    for place, one in enumerate(sets):
        for name, values in one.terms.items():
            _, _, scale = name.partition("_scale_")
            means = parts.setdefault(f"scale {scale}" if scale else name, [0.0] * len(sets))
            means[place] += float(values.mean())
    starts = np.zeros(len(sets))
    colours = matplotlib.colormaps["viridis"](np.linspace(0.1, 0.9, len(parts)))
    for (name, means), colour in zip(parts.items(), colours, strict=True):
        axes.barh(labels(outside), means, left=starts, label=name, color=colour)
        starts += means
    axes.invert_yaxis()
    axes.legend(loc="upper left", bbox_to_anchor=(1, 1))  # beside the bars, whatever their length
    return _svg(figure)


def _figure(x: str, y: str) -> tuple[Figure, Axes]:
    figure = Figure(figsize=_SIZE, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _colour(place: int) -> str:
    """The same set has the same colour in all figures."""
    return f"C{place % 10}"


def _svg(figure: Figure) -> bytes:
    content = BytesIO()
    # Else the identifiers in the file are random, and it has the date and the version of the program.
    nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    with matplotlib.rc_context({"svg.hashsalt": "pcdm"}):
        figure.savefig(content, format="svg", metadata=nothing)
    return content.getvalue()
