"""One set of images, every likelihood: the bound, certified sums, and the flow with one and with eight draws.

    python benchmarks/likelihoods.py measure weights/cifar10-haar docs/likelihoods.json    # an hour of one core
    python benchmarks/likelihoods.py report docs/likelihoods.json docs/likelihoods.md

`measure` keeps what it has in its file after every method, and goes on from there. Needs PCDM_DATA_DIR.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from rich.progress import Progress, track

from pcdm_core.data import load_array, open_images
from pcdm_core.files import write_atomically
from pcdm_core.sampling import decode, encode, likeliest_pixels
from pcdm_core.scoring import FIDELITIES, CascadeScorer, Fidelity, FidelityName

DATA, IMAGES = "cifar10:test", 256
EXACT = FIDELITIES["exact"]
METHODS: Mapping[str, Fidelity] = {
    "fast": FIDELITIES["fast"],
    "balanced": FIDELITIES["balanced"],
    "bound, 64 nodes": Fidelity(nodes=64, noise="keyed"),
    "certified, 16 steps": Fidelity(method="certified", nodes=16, noise="keyed"),
    "certified, 64 steps": Fidelity(method="certified", nodes=64, noise="keyed"),
    "certified, 256 steps": Fidelity(method="certified", nodes=256, noise="keyed"),
    "exact": EXACT,
    "exact, 8 draws": EXACT.model_copy(update={"replicates": 8}),
}
SIZES = (1, 2, 4, 8, 16, 32, 64)
AMONG = 64
BACK, TOLERANCES = 4, (1e-4, 1e-5, 1e-6)

Images = NDArray[np.uint8]
Floats = NDArray[np.float64]


def measure(model: Path, file: Path) -> None:
    plain = CascadeScorer.from_pretrained(model, calibrated=False)
    images = load_array(open_images(DATA, limit=IMAGES), plain.preprocessing)
    known: dict[str, Any] = json.loads(file.read_text()) if file.exists() else {"digest": plain.digest}
    if known["digest"] != plain.digest:
        raise SystemExit(f"{file} is of another model, {known['digest']}")
    jobs: dict[str, Callable[[], Any]] = {
        name: partial(likelihoods, plain, images, fidelity, name) for name, fidelity in METHODS.items()
    }
    calibrated = CascadeScorer.from_pretrained(model)
    jobs |= {f"batches, {name}": partial(by_batch_size, calibrated, images[:AMONG], name) for name in FIDELITIES}
    jobs |= {f"back, {tolerance}": partial(there_and_back, plain, images[:BACK], tolerance) for tolerance in TOLERANCES}
    for name, job in jobs.items():
        if name not in known:
            known[name] = job()
            write_atomically(file, json.dumps(known).encode())


def likelihoods(scorer: CascadeScorer, images: Images, fidelity: Fidelity, name: str) -> dict[str, Any]:
    started = time.process_time()
    with Progress() as bar:
        task = bar.add_task(name, total=len(images))
        scores = scorer.score(images, fidelity, progress=lambda done: bar.update(task, completed=done))
    return {
        "fidelity": fidelity.settings(),
        "bits_per_dim": [score.bits_per_dim for score in scores],
        "embedded_bits_per_dim": [score.embedded_bits_per_dim for score in scores],
        "gained": [score.terms.get("importance", 0.0) for score in scores],
        "network_calls": float(np.mean([score.network_calls for score in scores])),
        "core_seconds_per_image": (time.process_time() - started) / len(images),
    }


def by_batch_size(scorer: CascadeScorer, images: Images, name: FidelityName) -> dict[str, Any]:
    """Scores and likelihoods of the same images, each alone and among ever more others."""
    found = {}
    for size in track(SIZES, f"batch sizes, {name}"):
        scorer.batch_size = size
        scores = scorer.score(images, scorer.fidelities[name])
        found[size] = [(score.score, score.bits_per_dim) for score in scores]
    among = np.array(found[SIZES[-1]], dtype=np.float64)
    spread = among.std(axis=0)
    off = {size: np.abs(np.array(values, dtype=np.float64) - among).max(0) / spread for size, values in found.items()}
    return {str(size): {"score": float(each[0]), "bits_per_dim": float(each[1])} for size, each in off.items()}


def there_and_back(scorer: CascadeScorer, images: Images, tolerance: float) -> dict[str, float]:
    """Pixels, as a share, that are others after the flow took sampled latents to noise and back."""
    cascade, truth, steps = scorer.cascade, torch.from_numpy(images), 0
    units = scorer.plan_likelihood(images, Fidelity(nodes=1, noise="keyed"))
    z0 = scorer.latents([unit for unit in units if unit.scale == 1]).z0
    with Progress() as bar:
        task = bar.add_task(f"there and back, {tolerance}", total=None)

        def on_step() -> None:
            nonlocal steps
            steps += 1
            bar.update(task, advance=1)

        z1 = encode(cascade, z0, steps=16, tolerance=tolerance, on_step=on_step)
        back = decode(cascade, z1, steps=16, tolerance=tolerance, on_step=on_step)
    off, at_once = ((likeliest_pixels(cascade, z).int() - truth.int()).abs() for z in (back, z0))
    return {
        "steps": steps,
        "changed": float((off > 0).double().mean()),
        "most": int(off.max()),
        "at_once": float((at_once > 0).double().mean()),
    }


REPORT = """# One set of images, every likelihood

Made by `benchmarks/likelihoods.py` with the model of digest `{digest:.12}` and the first {images} CIFAR-10 test
images, on CPU in float32. Bits/dim are means over these images; every image has noise of its own, but
for `fast`, which gives the same to all (see [noise](noise.md)): its errors do not average out, and its +- leaves them
out. `fast` is with {fast} network calls an image here, whatever it has by now.

| likelihood | bits/dim | +- images | - bound, paired | +- | error by time | network calls | core-seconds an image |
| --- | --- | --- | --- | --- | --- | --- | --- |
{rows}

* *+- images* is the standard error of the mean, by images and by noise together.
* *- bound, paired* is the mean difference to the bound with 64 nodes on the same images, with its own standard error.
* *error by time* is what the embedded rule of lower order says otherwise, on average; a certified sum has none, it is a
  bound, in expectation, at any number of steps.
* The flow (`exact`) is another model than the bound, made of the same networks: neither has to lie above the other. Its
  one-draw value is the mean of the eight draws taken one by one; as they share a probe of the divergence, the average
  of their likelihoods is an estimate. Eight draws gain {gain:.5f} +- {gain_error:.5f} bits/dim over one.

## The same image alone and among others

Greatest difference between an image scored in batches of another size (1 is alone) and among 63 others, of {among}
images, relative to the standard deviation over these images.

| batch size | {names} |
| --- |{rules}
{batches}

## There and back

Latents z_0 of {back} images, sampled as the model does it, taken by the flow to noise and back to z_0, and from there
to the likeliest pixels. {at_once:.2%} of these differ from the image when z_0 is decoded at once, as noise of a sixth
of the step between levels makes it.

| tolerance | pixels that differ | by levels, at most | solver steps there and back, all scales |
| --- | --- | --- | --- |
{returns}
"""


def report(known: dict[str, Any]) -> str:
    bound = np.array(known["bound, 64 nodes"]["bits_per_dim"])
    draws = known["exact, 8 draws"]
    values = {name: np.array(known[name]["bits_per_dim"]) for name in METHODS}
    gained = np.array(draws["gained"])
    found = {**known, "exact, 8 draws taken one by one": {**draws, "embedded_bits_per_dim": None}}
    values["exact, 8 draws taken one by one"] = values["exact, 8 draws"] - gained
    names = [f"{name}, {kind}" for name in FIDELITIES for kind in ("score", "bits/dim")]
    return REPORT.format(
        digest=known["digest"],
        images=len(bound),
        fast=f"{known['fast']['network_calls']:.0f}",
        rows="\n".join(row(name, bits, bound, found[name]) for name, bits in values.items()),
        gain=-gained.mean(),
        gain_error=standard_error(gained),
        among=AMONG,
        names=" | ".join(names),
        rules=" --- |" * len(names),
        batches="\n".join(
            f"| {size} | "
            + " | ".join(
                f"{known[f'batches, {name}'][str(size)][kind]:.1e}"
                for name in FIDELITIES
                for kind in ("score", "bits_per_dim")
            )
            + " |"
            for size in SIZES[:-1]
        ),
        back=BACK,
        at_once=known[f"back, {TOLERANCES[0]}"]["at_once"],
        returns="\n".join(
            f"| {tolerance:g} | {found['changed']:.2%} | {found['most']} | {found['steps']} |"
            for tolerance, found in ((tolerance, known[f"back, {tolerance}"]) for tolerance in TOLERANCES)
        ),
    )


def row(name: str, bits: Floats, bound: Floats, found: dict[str, Any]) -> str:
    embedded = found["embedded_bits_per_dim"]
    told = "-" if embedded is None or embedded[0] is None else f"{abs(np.mean(np.array(embedded) - bits)):.4f}"
    difference = bits - bound
    cells = (
        name,
        f"{bits.mean():.4f}",
        f"{standard_error(bits):.4f}",
        f"{difference.mean():+.4f}",
        f"{standard_error(difference):.4f}",
        told,
        f"{found['network_calls']:.0f}",
        f"{found['core_seconds_per_image']:.2f}",
    )
    return f"| {' | '.join(cells)} |"


def standard_error(values: Floats) -> float:
    return float(values.std(ddof=1) / len(values) ** 0.5)


def main() -> None:
    match sys.argv[1:]:
        case ["measure", model, file]:
            measure(Path(model), Path(file))
        case ["report", file, page]:
            Path(page).write_text(report(json.loads(Path(file).read_text())))
        case _:
            raise SystemExit(__doc__)


if __name__ == "__main__":
    main()
