"""Networks compiled against eager ones, on the CPU: how fast, how equal, how long it takes to load them.

    OMP_NUM_THREADS=1 python benchmarks/compiled.py measure weights/cifar10-haar docs/compile.json
    OMP_NUM_THREADS=2 python benchmarks/compiled.py measure weights/cifar10-haar docs/compile.json
    python benchmarks/compiled.py report docs/compile.json docs/compile.md

Each `measure` adds its number of threads to the document; it takes minutes. TORCHINDUCTOR_CACHE_DIR has to name a
folder, best an empty one: else loading is faster than at a first start, and the report says so. Needs PCDM_DATA_DIR.
"""

from __future__ import annotations

import os
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from commands import load, save, table

from pcdm_core.benchmark import machine
from pcdm_core.data import load_array, open_images
from pcdm_core.scoring import CascadeScorer, Execution

DATA, COMPARED, TIMED, REPEATS = "cifar10:test", 256, 32, 7
BATCHES = (64, 8)


def measure(model: Path) -> dict[str, Any]:
    plain, compiled = (CascadeScorer.from_pretrained(model) for _ in range(2))
    images = load_array(open_images(DATA, limit=COMPARED), plain.preprocessing)
    cache = Path(os.environ["TORCHINDUCTOR_CACHE_DIR"])
    cold = not cache.exists() or not any(cache.iterdir())
    loading = cost(lambda: compiled.prepare(Execution(compiled=True, largest_batch=max(BATCHES))))
    found: dict[str, Any] = {
        "machine": machine(),
        "digest": plain.digest,
        "loading": loading,
        "cold": cold,
        "speed": {},
    }
    for size in BATCHES:
        plain.batch_size = compiled.batch_size = size
        runs: dict[str, list[dict[str, float]]] = {"eager": [], "compiled": []}
        for _ in range(REPEATS):  # in turns, so that what else the machine does hits both alike
            for name, scorer in (("eager", plain), ("compiled", compiled)):
                runs[name].append(cost(lambda scorer=scorer: scorer.score(images[:TIMED])))
        found["speed"][str(size)] = {
            name: {kind: TIMED / median(run[kind] for run in of) for kind in ("wall", "cpu")}
            for name, of in runs.items()
        }
    one, other = (scorer.score(images) for scorer in (plain, compiled))
    for name in ("bits_per_dim", "score"):
        a, b = (np.array([getattr(each, name) for each in scores]) for scores in (one, other))
        found[name] = {"largest_difference": float(np.abs(a - b).max()), "spread": float(a.std(ddof=1))}
    found["verdicts_changed"] = sum(a.is_ood != b.is_ood for a, b in zip(one, other, strict=True))
    return found


def cost(work: Callable[[], object]) -> dict[str, float]:
    """Seconds: on the clock, of this process, and of those that it started."""
    start, own, others = time.perf_counter(), time.process_time(), children()
    work()
    return {
        "wall": time.perf_counter() - start,
        "cpu": time.process_time() - own,
        "cpu_of_compiler": children() - others,
    }


def children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def report(document: dict[str, Any]) -> str:
    speed, rest = [], []
    for threads, run in sorted(document.items()):
        for size, of in run["speed"].items():
            eager, compiled = of["eager"], of["compiled"]
            cells = [f"{each[kind]:.1f}" for kind in ("wall", "cpu") for each in (eager, compiled)]
            ratios = [f"{compiled[kind] / eager[kind]:.2f}" for kind in ("wall", "cpu")]
            speed.append([threads, size, *cells[:2], ratios[0], *cells[2:], ratios[1]])
        loading, bits, score = run["loading"], run["bits_per_dim"], run["score"]
        rest.append(
            [
                threads,
                "empty" if run["cold"] else "some",
                *(f"{loading[kind]:.0f}" for kind in ("wall", "cpu", "cpu_of_compiler")),
                *(f"{each[kind]:.2g}" for each in (bits, score) for kind in ("largest_difference", "spread")),
                run["verdicts_changed"],
            ]
        )
    heads = (
        ["threads", "batch", "eager", "compiled", "ratio", "eager, CPU", "compiled, CPU", "ratio, CPU"],
        [
            "threads",
            "cache",
            "load, s",
            "CPU s",
            "CPU s of g++",
            "bits/dim",
            "its spread",
            "score",
            "its spread",
            "verdicts",
        ],
    )
    run = next(iter(document.values()))
    return PAGE.format(
        digest=run["digest"][:12],
        processor=run["machine"]["processor"],
        torch=run["machine"]["packages"]["torch"],
        speed=table(speed, head=heads[0]),
        rest=table(rest, head=heads[1]),
        images=TIMED,
        repeats=REPEATS,
        compared=COMPARED,
        data=DATA,
    )


PAGE = """\
# Compiled networks

Made by `benchmarks/compiled.py` with the model of digest `{digest}`, torch {torch}, {processor}.

With `PCDM_COMPILE=true` the worker compiles the network of every scale by `torch.compile`, for batches of few sizes:
8, 64, 512 and so on up to `PCDM_MAX_BATCH`. Any batch is cut into such sizes, and the last part is padded with copies
of an image by less than 8; so a batch that comes in a size never seen compiles nothing. All graphs are made before
the worker is up, and `/readyz` says 503 meanwhile: at a start, and when a worker ended. It is killed if it takes more
than 600 seconds, which other work on the same cores can bring about; the next one goes on from what is done, as torch
keeps that in the folder that TORCHINDUCTOR_CACHE_DIR names (by default one in `/tmp`). A compiler that was killed may
leave half a file there, which every later start stumbles over (`file too short`): empty it.

It needs a C++ compiler (g++, or what `CXX` names) and Python's header files; without, the model fails with a message
that says so. The flow (`exact`) differentiates its networks: it stays eager.

## Speed

Images per second at `fast`, medians of {repeats} runs over {images} images each, eager and compiled in turns in one
process; by the clock, and by the processor time of the process. `batch` is the largest number of network evaluations
that run together.

{speed}

The machine has two cores and did other work at the same time, at a load average of about 6. So the columns by the
clock are those of a part of it, and their ratios are rough; by processor time, compiled networks do 1.2 times as
much, which is why they are an option and not the default: it has to be worth the wait. On a GPU nothing has been
measured.

## Equality and loading

Over {compared} images of `{data}`: the largest difference of an image's bits/dim and of its score, each beside the
standard deviation over images, and how many verdicts changed. Loading on the clock, with the same other work beside,
and in seconds of processor time, of the process and of g++; `cache` says whether machine code was there already.

{rest}

With an empty cache loading took longer than the 600 seconds that a worker is given, as it had less than half of a
core to itself: such a worker is killed, and the next one finds the graphs that are done. How long it takes on two
free cores was not measured.
"""


def main() -> None:
    match sys.argv[1:]:
        case ["measure", model, document]:
            known = load(document) if Path(document).exists() else {}
            save(known | {str(torch.get_num_threads()): measure(Path(model))}, document)
        case ["report", document, page]:
            Path(page).write_text(report(load(document)))
        case _:
            raise SystemExit(__doc__)


if __name__ == "__main__":
    main()
