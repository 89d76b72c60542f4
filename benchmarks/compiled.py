"""Networks compiled against eager ones, on the CPU: how fast, how equal, how long it takes to load them.

    OMP_NUM_THREADS=1 python benchmarks/compiled.py measure weights/cifar10-haar docs/compile.json
    OMP_NUM_THREADS=2 python benchmarks/compiled.py measure weights/cifar10-haar docs/compile.json
    python benchmarks/compiled.py report docs/compile.json docs/compile.md

Each `measure` adds its number of threads to the document; it takes minutes. Loading takes long only with an empty folder
TORCHINDUCTOR_CACHE_DIR. Needs PCDM_DATA_DIR.
"""

from __future__ import annotations

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
    loading = cost(lambda: compiled.prepare(Execution(compiled=True, largest_batch=max(BATCHES))))
    found: dict[str, Any] = {"machine": machine(), "digest": plain.digest, "loading": loading, "speed": {}}
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
                *(f"{loading[kind]:.0f}" for kind in ("wall", "cpu", "cpu_of_compiler")),
                *(f"{each[kind]:.2g}" for each in (bits, score) for kind in ("largest_difference", "spread")),
                run["verdicts_changed"],
            ]
        )
    heads = (
        ["threads", "batch", "eager", "compiled", "ratio", "eager, CPU", "compiled, CPU", "ratio, CPU"],
        ["threads", "load, s", "CPU s", "CPU s of g++", "bits/dim", "its spread", "score", "its spread", "verdicts"],
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


PAGE = ""


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
