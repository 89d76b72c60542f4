"""Which noise levels, and how many, give the bound's integral over time? Rules against a reference of 1,000 nodes.

    python benchmarks/quadrature.py trace weights/cifar10-haar cifar10:test 256 runs/test.npz     # 40 minutes of a core
    python benchmarks/quadrature.py trace weights/cifar10-haar 'cifar10:train[-5000:]' 64 runs/train.npz
    python benchmarks/quadrature.py measure weights/cifar10-haar runs/test.npz runs/train.npz docs/quadrature.json
    python benchmarks/quadrature.py report docs/quadrature.json docs/quadrature.md docs/quadrature.png

`trace` follows the squared error of each image and scale over the noise level, with one draw of noise for all levels:
a smooth curve, whose integral the reference knows to many digits. A rule reads the same curve at its own nodes, so all
that it says otherwise is the error by time. Needs PCDM_DATA_DIR.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from math import log
from pathlib import Path
from typing import Any

import numpy as np
import torch
from commands import load, save
from matplotlib.figure import Figure
from numpy.typing import NDArray
from rich.progress import track
from scipy.interpolate import CubicSpline

from pcdm_core.data import load_array, open_images
from pcdm_core.likelihood import gauss_legendre, noise_levels
from pcdm_core.model import NoiseSchedule, alpha_sigma
from pcdm_core.scoring import FIDELITIES, CascadeScorer, Fidelity

PANELS, ORDER = 100, 10
CHUNK = 125
NODES = (2, 3, 4, 5, 6, 8, 10, 12, 16, 24, 32, 48, 64)
BENDS = (0, 1, 2, 3, 4)
VDM, IN_TIME, IN_USE, BENT = "low-discrepancy in t", "Gauss-Legendre in t", "Gauss-Legendre, bent", "c ="

Floats = NDArray[np.float64]


def reference_rule(low: float, high: float) -> tuple[Floats, Floats]:
    """Composite Gauss-Legendre rule on [low, high], 1,000 nodes."""
    points, weights = gauss_legendre(ORDER)
    width = (high - low) / PANELS
    nodes = low + width * (np.arange(PANELS)[:, None] + points).ravel()
    return nodes, np.tile(width * weights, PANELS)


@torch.inference_mode()
def trace(model: Path, data: str, count: int) -> dict[str, Any]:
    """Squared errors ``||eps - eps_hat||^2``, ``[images, S, 1000]``."""
    scorer = CascadeScorer.from_pretrained(model, calibrated=False)
    cascade = scorer.cascade
    images = load_array(open_images(data, limit=count), scorer.preprocessing)
    gamma, _ = reference_rule(cascade.config.gamma_min, cascade.config.gamma_max)
    levels = torch.split(torch.from_numpy(gamma).float(), CHUNK)
    errors = np.zeros((len(images), cascade.config.scales, len(gamma)))
    for row, image in zip(errors, track(images, "tracing"), strict=True):
        unit = scorer.plan(image[None], Fidelity(nodes=1, noise="keyed"))[:1]
        latents, noise = scorer.latents(unit), scorer.noise(unit, [0])
        for scale, (z, eps) in enumerate(zip(latents.coefficients, noise, strict=True), start=1):
            condition = cascade.condition(scale, latents.z0)
            found = []
            for part in levels:
                alpha, sigma = alpha_sigma(part[:, None, None, None])
                shown = None if condition is None else condition.expand(len(part), -1, -1, -1)
                predicted = cascade.predicted_noise(scale, alpha * z + sigma * eps, part, shown)
                found.append((eps - predicted).double().square().flatten(1).sum(1))
            row[scale - 1] = torch.cat(found).numpy()
    return {"digest": scorer.digest, "data": data, "gamma": gamma, "errors": errors}


Rule = Callable[[int, int], tuple[Floats, Floats]]
"""Noise levels and weights, by scale and number of nodes."""


def rules(schedule: NoiseSchedule) -> dict[str, Rule]:
    low, high = schedule.gamma_min, schedule.gamma_max

    def in_time(times: Floats, weights: Floats, scale: int) -> tuple[Floats, Floats]:
        gamma, slope = schedule(scale, torch.from_numpy(times))
        return gamma.double().numpy(), slope.double().numpy() * weights

    def bent(bend: float) -> Rule:
        def rule(scale: int, nodes: int) -> tuple[Floats, Floats]:  # noqa: ARG001 - the same for every scale
            points, weights = gauss_legendre(nodes)
            if bend == 0:
                return low + (high - low) * points, (high - low) * weights
            span = (high - low) / np.expm1(bend)
            return low + span * np.expm1(bend * points), span * bend * np.exp(bend * points) * weights

        return rule

    def certified(scale: int, nodes: int) -> tuple[Floats, Floats]:
        levels = noise_levels(schedule, scale, "certified", nodes)
        return levels.gamma.astype(np.float64), levels.weights

    def in_use(scale: int, nodes: int) -> tuple[Floats, Floats]:
        levels = noise_levels(schedule, scale, "bound", nodes)
        return levels.gamma.astype(np.float64), levels.weights

    return {
        VDM: lambda scale, nodes: in_time((np.arange(nodes) + 0.5) / nodes, np.full(nodes, 1 / nodes), scale),
        IN_TIME: lambda scale, nodes: in_time(*gauss_legendre(nodes), scale),
        IN_USE: in_use,
        "certified sum": certified,
        **{f"{BENT} {bend}": bent(bend) for bend in BENDS},
    }


def measure(model: Path, *files: Path) -> dict[str, Any]:
    scorer = CascadeScorer.from_pretrained(model, calibrated=False)
    dimensions = scorer.cascade.config.dimensions
    config = scorer.cascade.config
    _, reference = reference_rule(config.gamma_min, config.gamma_max)
    sets = {}
    for file in files:
        known = np.load(file)
        if str(known["digest"]) != scorer.digest:
            raise SystemExit(f"{file} is of another model, {known['digest']}")
        errors = known["errors"] / (2 * dimensions * log(2))
        curves = [CubicSpline(known["gamma"], errors[:, scale], axis=1) for scale in range(config.scales)]
        truth = (errors * reference).sum((1, 2))
        found: dict[str, list[dict[str, float]]] = {}
        for name, rule in rules(scorer.cascade.schedule).items():
            found[name] = []
            for nodes in NODES:
                levels = [rule(scale, nodes) for scale in range(1, config.scales + 1)]
                taken = [
                    (curve(gamma) * weights).sum(1) for curve, (gamma, weights) in zip(curves, levels, strict=True)
                ]
                off = np.sum(taken, axis=0) - truth
                found[name].append({"nodes": nodes, "mean": float(off.mean()), "rms": float((off**2).mean() ** 0.5)})
        sets[str(known["data"])] = {"images": len(errors), "bits_per_dim": float(truth.mean()), "rules": found}
    return {"digest": scorer.digest, "sets": sets}


REPORT = """# Quadrature of the bound

Made by `benchmarks/quadrature.py` with the model of digest `{digest:.12}`. The bound's diffusion terms are an integral
over the noise level. Each image's squared error was followed over {reference:,} levels (a composite Gauss-Legendre
rule) with one draw of noise for all of them, and every rule below reads the same curves, so the differences are errors
by time alone. In bits/dim, over {images} CIFAR-10 test images whose diffusion terms are {bits:.4f} on average: the
error of the mean, and in brackets the root mean square over images.

| nodes of each scale | {names} |
| --- |{rules}
{rows}

![Error by time over the number of nodes](quadrature.png)

* *{vdm}*: times evenly spread, at the middle of their strata, by the learned schedule (arXiv 2107.00630).
* *{in_time}*: the same schedule with Gauss-Legendre times. The schedule is piecewise linear, so what is
  integrated jumps at its knots, and the rule does not settle.
* *{in_use}*: the rule that `--method bound` uses, gamma = gamma_0 + (gamma_1 - gamma_0) expm1(c u) / expm1(c)
  with c = 2 and Gauss-Legendre u; no schedule is asked.
* *certified sum*: the finite sum that is itself a bound, in expectation: always above.

`balanced` is the rule in use with {balanced} nodes, {calls} network calls: off by {off:+.4f} bits/dim on average,
{off_rms:.4f} for a single image. `fast` is there for the verdict, and its {fast_nodes} nodes are those that the
detector is calibrated with, Gauss-Legendre in t: its bits/dim are off by {fast:+.4f} and {fast_rms:.4f}.

The bend c was picked on {train} images of CIFAR-10's training set that the cascade was not trained on. Root mean square
there:

| nodes | {bends} |
| --- |{bend_rules}
{bend_rows}
"""


def report(document: dict[str, Any]) -> str:
    (test, held_out) = document["sets"].values()
    shown = {name: found for name, found in test["rules"].items() if not name.startswith(BENT)}
    bends = {name: found for name, found in held_out["rules"].items() if name.startswith(BENT)}

    def at(rule: str, nodes: int) -> dict[str, float]:
        return next(found for found in test["rules"][rule] if found["nodes"] == nodes)

    balanced, fast = at(IN_USE, FIDELITIES["balanced"].nodes), at(IN_TIME, FIDELITIES["fast"].nodes)
    return REPORT.format(
        digest=document["digest"],
        reference=PANELS * ORDER,
        images=test["images"],
        bits=test["bits_per_dim"],
        names=" | ".join(shown),
        rules=" --- |" * len(shown),
        rows="\n".join(
            f"| {nodes} | "
            + " | ".join(f"{found[place]['mean']:+.4f} ({found[place]['rms']:.4f})" for found in shown.values())
            + " |"
            for place, nodes in enumerate(NODES)
        ),
        vdm=VDM,
        in_time=IN_TIME,
        in_use=IN_USE,
        balanced=FIDELITIES["balanced"].nodes,
        calls=3 * FIDELITIES["balanced"].nodes,
        off=balanced["mean"],
        off_rms=balanced["rms"],
        fast_nodes=FIDELITIES["fast"].nodes,
        fast=fast["mean"],
        fast_rms=fast["rms"],
        train=held_out["images"],
        bends=" | ".join(bends),
        bend_rules=" --- |" * len(bends),
        bend_rows="\n".join(
            f"| {nodes} | " + " | ".join(f"{found[place]['rms']:.4f}" for found in bends.values()) + " |"
            for place, nodes in enumerate(NODES)
            if 4 <= nodes <= 16
        ),
    )


def plot(document: dict[str, Any], file: Path) -> None:
    (test, _) = document["sets"].values()
    figure = Figure(figsize=(7, 4.2), layout="constrained")
    axes = figure.subplots()
    for name, found in test["rules"].items():
        if not name.startswith(BENT):
            axes.loglog([one["nodes"] for one in found], [one["rms"] for one in found], marker=".", label=name)
    axes.axhline(0.01, color="grey", linewidth=0.8, linestyle=":")
    axes.set_xlabel("noise levels of each scale")
    axes.set_ylabel("error by time of an image, root mean square, bits/dim")
    axes.set_xticks(NODES, [str(nodes) for nodes in NODES])
    axes.minorticks_off()
    axes.legend(frameon=False)
    figure.savefig(file, dpi=120)


def main() -> None:
    match sys.argv[1:]:
        case ["trace", model, data, count, file]:
            np.savez(file, **trace(Path(model), data, int(count)))
        case ["measure", model, test, held_out, document]:
            found = measure(Path(model), Path(test), Path(held_out))
            save(found, document)
        case ["report", document, page, picture]:
            found = load(document)
            Path(page).write_text(report(found))
            plot(found, Path(picture))
        case _:
            raise SystemExit(__doc__)


if __name__ == "__main__":
    main()
