"""The earth mover's distance under the training loss (PCDM, theorem 5.1): how tight is that bound on what networks do?

    python benchmarks/earth_mover.py measure weights/cifar10-haar docs/earth-mover.json
    python benchmarks/earth_mover.py report docs/earth-mover.json docs/earth-mover.md docs/earth-mover.png

Measured on the errors ``eps - eps_hat`` of every scale at noise levels all over the schedule. The exact distances are
linear programs, solved by POT. Needs PCDM_DATA_DIR.
"""

from __future__ import annotations

import sys
import time
from math import sqrt
from pathlib import Path
from typing import Any

import numpy as np
import ot
import torch
from commands import load, save, table
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray
from rich.progress import track
from torch import Tensor

from pcdm_core.data import load_array, open_images
from pcdm_core.likelihood import earth_mover_bound, gauss_legendre, noise_levels, wavelet_earth_mover
from pcdm_core.scoring import CascadeScorer, Fidelity
from pcdm_core.scoring.heat_map import save_png

DATA = "cifar10:test"
IMAGES, SOLVED = 128, 32
"""Images measured, and those of them whose exact distances are computed too."""
FIDELITY = Fidelity(nodes=12, rule="time", noise="keyed")

Values = NDArray[np.float64]


def exact(field: Values) -> float:
    """W1 between the positive and the negative part of a field less its mean, ``[N, N]``; mass times pixels."""
    field = field - field.mean()
    supply, demand = field[field > 0], -field[field < 0]
    ways = ot.dist(np.argwhere(field > 0).astype(float), np.argwhere(field < 0).astype(float), metric="euclidean")
    # The program is for masses of 1, and the distance grows with the mass.
    return float(supply.sum() * ot.emd2(supply / supply.sum(), demand / demand.sum(), ways))


def each_field(fields: Tensor, name: str) -> Values:
    """`exact` of fields ``[..., N, N]``."""
    flat = fields.flatten(0, -3).double().numpy()
    return np.array([exact(field) for field in track(flat, name)]).reshape(fields.shape[:-2])


def errors_and_noise(scorer: CascadeScorer) -> tuple[list[Tensor], list[Tensor]]:
    """``eps - eps_hat`` and ``eps`` of each scale, ``[image, node, *shape(s)]``; last the same as whole images."""
    images = load_array(open_images(DATA, limit=IMAGES), scorer.preprocessing)
    transform = scorer.cascade.transform
    scales = range(1, transform.scales + 1)
    errors, noise = ([torch.empty(IMAGES, FIDELITY.nodes, *transform.shape(s)) for s in scales] for _ in range(2))
    units = [unit for unit in scorer.plan(images, FIDELITY) if unit.scale > 0]
    for batch in track(list(scorer.batches(units)), "networks"):
        prediction = scorer.predict(scorer.latents(batch), batch)
        for unit, eps, eps_hat in zip(batch, prediction.noise, prediction.predicted_noise, strict=True):
            noise[unit.scale - 1][unit.index, unit.node] = eps
            errors[unit.scale - 1][unit.index, unit.node] = eps - eps_hat
    for parts in (errors, noise):
        whole = transform.inverse(tuple(part.flatten(0, 1) for part in parts))
        parts.append(whole.view(IMAGES, FIDELITY.nodes, *transform.image_shape))
    return errors, noise


def spread(values: Values) -> dict[str, float]:
    return {
        "mean": float(values.mean()),
        "std": float(values.std(ddof=1)),
        "min": float(values.min()),
        "max": float(values.max()),
    }


def correlation(one: Values, other: Values) -> float:
    return float(np.corrcoef(np.log(one), np.log(other))[0, 1])


def across_images(one: Values, other: Values) -> dict[str, float]:
    """Correlations over images, ``[image, node]``, of each noise level by itself: what they are over noise levels."""
    return spread(np.array([correlation(*pair) for pair in zip(one.T, other.T, strict=True)]))


def compare(name: str, errors: Tensor, noise: Tensor) -> dict[str, Any]:
    """All of one scale; arrays are ``[image, node, channel]``."""
    side = errors.shape[-1]
    squares = errors.double().square().sum((3, 4))
    bound = earth_mover_bound(squares, side).numpy()
    wavelet = wavelet_earth_mover(errors.flatten(0, 1)).view_as(squares).numpy()
    solved = each_field(errors[:SOLVED], f"{name}, errors")
    # The bound is homogeneous in the field, so its ratio to the distance tells of shape alone.
    white = earth_mover_bound(noise[:SOLVED].double().square().sum((3, 4)), side).numpy()
    white_ratio = white / each_field(noise[:SOLVED], f"{name}, noise")
    by_wavelet, by_bound = wavelet[:SOLVED] / solved, bound[:SOLVED] / solved
    roots = squares.sum(2).sqrt().numpy()
    image_wavelet, image_solved = wavelet.sum(2), solved.sum(2)
    return {
        "name": name,
        "channels": errors.shape[2],
        "side": side,
        "wavelet_over_exact": spread(by_wavelet),
        "bound_over_exact": spread(by_bound),
        "bound_over_exact_of_noise": spread(white_ratio),
        "correlation_with_root_loss": {
            "exact_over_levels": correlation(image_solved.mean(0), roots[:SOLVED].mean(0)),
            "wavelet_over_levels": correlation(image_wavelet.mean(0), roots.mean(0)),
            "exact_over_images": across_images(image_solved, roots[:SOLVED]),
            "wavelet_over_images": across_images(image_wavelet, roots),
        },
        "correlation_of_wavelet_and_exact": {
            "over_levels": correlation(image_wavelet[:SOLVED].mean(0), image_solved.mean(0)),
            "over_images": across_images(image_wavelet[:SOLVED], image_solved),
        },
        # Means over images, and over the fields of an image.
        "by_level": {
            "loss_per_dimension": (squares.mean((0, 2)) / side**2).tolist(),
            "exact": solved.mean((0, 2)).tolist(),
            "wavelet": wavelet.mean((0, 2)).tolist(),
            "bound": bound.mean((0, 2)).tolist(),
            "wavelet_over_exact": [spread(ratios) for ratios in by_wavelet.swapaxes(0, 1)],
            "bound_over_exact": [spread(ratios) for ratios in by_bound.swapaxes(0, 1)],
        },
    }


@torch.inference_mode()
def measure(model: Path) -> dict[str, Any]:
    started = time.process_time()
    scorer = CascadeScorer.from_pretrained(model, calibrated=False)
    errors, noise = errors_and_noise(scorer)
    schedule, scales = scorer.cascade.schedule, range(1, scorer.cascade.transform.scales + 1)
    names = [*(f"scale {scale}" for scale in scales), "whole image"]
    levels = [noise_levels(schedule, scale, FIDELITY.method, FIDELITY.nodes, FIDELITY.rule).gamma for scale in scales]
    return {
        "digest": scorer.digest,
        "data": DATA,
        "images": IMAGES,
        "solved": SOLVED,
        "fidelity": FIDELITY.settings(),
        "times": gauss_legendre(FIDELITY.nodes)[0].tolist(),
        "gamma": np.stack(levels).astype(float).tolist(),
        "pot": ot.__version__,
        "fields": [compare(*parts) for parts in zip(names, errors, noise, strict=True)],
        "cpu_seconds": time.process_time() - started,
    }


REPORT = """# The earth mover's distance under the training loss

The training loss of a scale is a squared error, `||eps - eps_hat||^2`. It asks how much is wrong, not how far away the
missing part is. The earth mover's distance asks just that, and the paper (theorem 5.1) says that the loss bounds it, up
to a constant, by what Shirdhonkar and Jacobs (2008) proved of wavelets. How tight is that bound on what the shipped
model does?

An error has signs, so it is no distribution of mass. Of each field `r`, one channel of an error, the mean is taken off;
`W(r)` is the least work (mass times pixels of the field) that moves the positive part onto the negative one. The error
is against the noise that was drawn, as in training: part of it is what no network could know. Fields are those of each
scale, and those of the whole image, the inverse transform of the errors of all scales at equal times of their
schedules, whose loss is the sum of theirs. For a field of side N, and orthonormal Haar wavelets with a support of side
m,

    W(r)  <=  sum (m/2)^2 |coefficient|  <=  N/2 sqrt(N^2 - 1) ||r||
    exact     wavelet distance               loss bound

The first, because moving the halves of a wavelet onto each other takes `(m/2)^2` at most; the second is Cauchy and
Schwarz. Both are attained, and the wavelet distance is never above `5N/2 - 3` times the exact one.

| fields | an image | side | wavelet / exact | proved | loss bound / exact | the same of white noise |
| --- | --- | --- | --- | --- | --- | --- |
{ratios}

Mean +- standard deviation [smallest, largest] over single fields: {solved} images, {nodes} noise levels, every channel.
White noise is the drawn noise `eps` itself in place of the error.

![Distances and bounds over the noise levels]({picture})

Lines are means; bands reach from the smallest to the largest field. Time is that of the learned schedules: noise grows
to the right.

**How tight it is.** The wavelet distance is a fair stand-in for the exact one, but for a constant: {wavelet_means}
times as large in the mean (in the table's order), with a standard deviation of {narrowest:.0f} to {widest:.0f} % of
that, and nowhere near the worst that is possible. The loss bound is loose, and the looser the larger the field:
{bound_means} times the exact distance. A better constant could mend a factor of {mendable:.2f} at most, as a linear
slope shows. The rest lies in the errors: they are much like white noise (last column), where the missing part is found
nearby, and no squared error can tell.

**How they move together.** Over the noise levels they rise and fall together: the correlation of the logarithms of
their means is {over_levels:.3f} or more. But not in proportion. In the whole image, from the level of the largest loss
to the noisiest one, the root of the loss falls by a factor of {root_falls:.1f}, and the exact distance by
{exact_falls:.1f}. Meanwhile the share of the coarsest scale in the loss grows from {share_before:.0f} to
{share_after:.0f} %, and coarse errors have a long way to go. Between images at one noise level the loss says less:

| fields | exact with root of the loss | exact with wavelet | wavelet with root of the loss |
| --- | --- | --- | --- |
{correlations}

Correlation of logarithms over images, the fields of an image summed: mean [smallest, largest] over the noise levels,
each of {solved} images, in the last column {images}. So the loss of an image tells part of its earth mover's distance,
and the wavelet distance, in linear time as well, tells more of it.

Measured by `benchmarks/earth_mover.py` with the model of digest `{digest:.12}` on the first {images} images of
`{data}`, exact distances on the first {solved}: linear programs, by POT {pot}. Noise keyed by content, seed {seed};
{nodes} Gauss-Legendre nodes of each scale's schedule, gamma from {gamma_low:.1f} to {gamma_high:.1f}; float32 networks.
It took {cpu:.0f} seconds of one core.
"""


def loss(part: dict[str, Any]) -> Values:
    """Mean of ``||eps - eps_hat||^2`` at each noise level."""
    dimensions = part["channels"] * part["side"] ** 2
    return np.asarray(dimensions * np.array(part["by_level"]["loss_per_dimension"]))


def report(document: dict[str, Any], picture: str) -> str:
    fields = document["fields"]
    whole = fields[-1]["by_level"]
    peak = int(np.argmax(whole["loss_per_dimension"]))
    spreads = [part["wavelet_over_exact"]["std"] / part["wavelet_over_exact"]["mean"] for part in fields]
    gamma = np.array(document["gamma"])
    coarsest_share = 100 * loss(fields[0]) / loss(fields[-1])

    def ratio(found: dict[str, float]) -> str:
        return f"{found['mean']:.2f} +- {found['std']:.2f} [{found['min']:.2f}, {found['max']:.2f}]"

    def over_images(found: dict[str, float]) -> str:
        return f"{found['mean']:.2f} [{found['min']:.2f}, {found['max']:.2f}]"

    def means(key: str) -> str:
        *first, last = (f"{part[key]['mean']:.1f}" for part in fields)
        return f"{', '.join(first)} and {last}"

    ratios = [
        [
            part["name"],
            str(part["channels"]),
            str(part["side"]),
            ratio(part["wavelet_over_exact"]),
            f"1 to {5 * part['side'] / 2 - 3:.0f}",
            ratio(part["bound_over_exact"]),
            ratio(part["bound_over_exact_of_noise"]),
        ]
        for part in fields
    ]
    correlations = [
        [
            part["name"],
            over_images(part["correlation_with_root_loss"]["exact_over_images"]),
            over_images(part["correlation_of_wavelet_and_exact"]["over_images"]),
            over_images(part["correlation_with_root_loss"]["wavelet_over_images"]),
        ]
        for part in fields
    ]
    return REPORT.format(
        picture=picture,
        ratios=table(ratios),
        correlations=table(correlations),
        wavelet_means=means("wavelet_over_exact"),
        narrowest=100 * min(spreads),
        widest=100 * max(spreads),
        bound_means=means("bound_over_exact"),
        # Of a slope the exact distance is N sqrt((N^2 - 1) / 12) ||r||: no true bound has a smaller constant.
        mendable=sqrt(12) / 2,
        over_levels=min(part["correlation_with_root_loss"]["exact_over_levels"] for part in fields),
        root_falls=sqrt(whole["loss_per_dimension"][peak] / whole["loss_per_dimension"][-1]),
        exact_falls=whole["exact"][peak] / whole["exact"][-1],
        share_before=coarsest_share[peak],
        share_after=coarsest_share[-1],
        nodes=document["fidelity"]["nodes"],
        seed=document["fidelity"]["seed"],
        gamma_low=gamma.min(),
        gamma_high=gamma.max(),
        cpu=document["cpu_seconds"],
        **{key: document[key] for key in ("solved", "images", "data", "digest", "pot")},
    )


LINES = {
    "exact": ("exact", "tab:green"),
    "wavelet": ("wavelet distance", "tab:blue"),
    "bound": ("loss bound", "tab:red"),
}
"""What each is called, and its colour."""


def draw(document: dict[str, Any]) -> Figure:
    """Above, the distances and the bound of each kind of field; below, how many times the exact distance they are."""
    fields, times = document["fields"], document["times"]
    figure = Figure(figsize=(3.2 * len(fields), 5.6), dpi=100, layout="constrained")
    FigureCanvasAgg(figure)
    above, below = figure.subplots(2, len(fields), sharex=True, squeeze=False)
    panels: list[tuple[dict[str, Any], Axes, Axes]] = list(zip(fields, above, below, strict=True))
    for part, distances, ratios in panels:
        distances.set_title(f"{part['name']}, side {part['side']}")
        for name, (label, colour) in LINES.items():
            distances.semilogy(times, part["by_level"][name], ".-", color=colour, label=label)
        for name in ("wavelet", "bound"):
            found = part["by_level"][f"{name}_over_exact"]
            mean, low, high = ([level[key] for level in found] for key in ("mean", "min", "max"))
            ratios.semilogy(times, mean, ".-", color=LINES[name][1])
            ratios.fill_between(times, low, high, color=LINES[name][1], alpha=0.2, linewidth=0)
        ratios.set_ylim(1, 40)
        ratios.set_yticks((1, 2, 5, 10, 20, 40), ("1", "2", "5", "10", "20", "40"))
        ratios.set_xlabel("time")
    above[0].set_ylabel("mass times pixels")
    above[0].legend(loc="lower left")
    below[0].set_ylabel("times the exact distance")
    return figure


def main() -> None:
    match sys.argv[1:]:
        case ["measure", model, document]:
            save(measure(Path(model)), document)
        case ["report", document, page, picture]:
            found = load(document)
            Path(page).write_text(report(found, Path(picture).name))
            save_png(draw(found), Path(picture))
        case _:
            raise SystemExit(__doc__)


if __name__ == "__main__":
    main()
