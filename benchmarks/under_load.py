"""The service under load: throughput, overhead, other servers beside it, faults, memory.

    python benchmarks/under_load.py measure weights/cifar10-haar docs/load.json [PART ...]    # all: over an hour
    python benchmarks/under_load.py report docs/load.json docs/load.md                       # and load.png

Parts are throughput, overhead, peers, side_by_side, faults and memory; those that are not named keep what the
document has.
Nothing else should run meanwhile. Needs the extra `load` (Locust, LitServe, psutil) and PCDM_DATA_DIR.
"""

from __future__ import annotations

import platform
import sys
import tempfile
from collections.abc import Callable, Mapping
from datetime import date
from importlib.metadata import version
from pathlib import Path
from typing import Any

from commands import load, save
from load_clients import DEADLINE, requests_of
from load_faults import faults, memory
from load_figures import best, overhead, peers, side_by_side, throughput
from load_report import draw, report

from pcdm_core.benchmark import machine
from pcdm_core.data import load_array, open_images
from pcdm_core.scoring import CascadeScorer

IMAGES, REQUESTS = "cifar10:test[:64]", 10_000


def measure(model: Path, file: str, parts: list[str]) -> None:
    document = load(file) if Path(file).exists() else {}
    scorer = CascadeScorer.from_pretrained(model)
    images = load_array(open_images(IMAGES), scorer.preprocessing)
    with tempfile.TemporaryDirectory() as folder:

        def requests(fidelity: Any, each: int, **headers: str) -> Any:
            return requests_of(scorer, images, fidelity=fidelity, each=each, folder=Path(folder), headers=headers)

        single, eight = requests("fast", 1), requests("balanced", 8)
        urgent = requests("fast", 1, **{"X-Request-Timeout-Ms": f"{1000 * DEADLINE:.0f}"})
        measured: Mapping[str, Callable[[], dict[str, Any]]] = {
            "throughput": lambda: throughput(model, scorer, images, eight),
            "overhead": lambda: overhead(model, single),
            "peers": lambda: peers(model, urgent),
            "side_by_side": lambda: side_by_side(model, urgent, best(document["peers"])),
            "faults": lambda: faults(model, urgent, rate=document["side_by_side"]["capacity"] / 2),
            "memory": lambda: {
                **memory(model, single, count=REQUESTS),
                "network_calls": document["fast"],
                "processor": document["machine"]["processor"],
            },
        }
        versions = {name: version(name) for name in ("torch", "fastapi", "uvicorn", "litserve", "locust")}
        document |= {"digest": scorer.digest, "machine": machine(), "versions": versions}
        dates = document.setdefault("dates", {})
        document["fast"] = scorer.fidelity.nodes * scorer.scales
        for part in parts or measured:
            print(part, flush=True)
            # The interpreter takes part in all that is not a network.
            document[part], dates[part] = measured[part](), f"{date.today()} by CPython {platform.python_version()}"
            save(document, file)


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["measure", model, document, *parts]:
            measure(Path(model), document, parts)
        case ["report", document, page]:
            Path(page).write_text(report(load(document), Path(page).with_suffix(".png").name))
            draw(load(document), Path(page).with_suffix(".png"))
        case _:
            raise SystemExit(__doc__)
