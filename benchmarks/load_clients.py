"""What clients ask of a server under load, and what they got."""

from __future__ import annotations

import io
import json
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

import httpx
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pcdm_core.scoring import CascadeScorer, FidelityName

__all__ = ["DEADLINE", "Found", "Load", "Plan", "Requests", "requests_of"]

DEADLINE = 1.0
"""Seconds after which an answer is of no use."""

_FORM = "multipart/form-data; boundary=load"


@dataclass(frozen=True)
class Requests:
    """Requests that are made and whose answers are known, before any load.

    Attributes:
        path: Of all.
        bodies: Files, each with the body of one.
        content_type: Of the bodies.
        expected: Bits per dimension of each body's images.
        headers: Of all, beside that of their type.
    """

    path: str
    bodies: tuple[str, ...]
    content_type: str
    expected: tuple[tuple[float, ...], ...]
    headers: dict[str, str]


@dataclass(frozen=True)
class Plan:
    """A load.

    Attributes:
        url: Of the server.
        requests: What is sent, again and again.
        seconds: For how long requests begin.
        rate: Requests a second, arriving at random; None for clients that wait for their answers.
        clients: Number of these.
        turns: Most requests of each of them.
        patience: Seconds after which a client gives up.
        seed: Of the arrivals.
    """

    url: str
    requests: Requests
    seconds: float
    rate: float | None = None
    clients: int = 8
    turns: int = 10**9
    patience: float = 10.0
    seed: int = 0


@dataclass(frozen=True)
class Found:
    """What became of each request of a load.

    Attributes:
        at: When it was due, seconds from the begin.
        seconds: How long it took from then on.
        status: Of its answer; 0 if there was none.
        right: Whether it was answered with the right values.
        invited: Whether it was refused with a 429 that says when to come again.
        began: When that was, seconds since 1970.
        cpu_share: Of one core, that the generator used.
    """

    at: NDArray[np.float64]
    seconds: NDArray[np.float64]
    status: NDArray[np.int64]
    right: NDArray[np.bool_]
    invited: NDArray[np.bool_]
    began: float
    cpu_share: float

    def summary(self, seconds: float, *, skip: float | None = None) -> dict[str, Any]:
        """Of a load in which requests began for so many seconds: rates, latencies of the answered, other answers.

        Args:
            seconds: That.
            skip: Rates and latencies are of the answers that arrive between then and the end of the load: neither of
                those that find no queue at its begin, nor of those for which it waits no longer. None for all.
        """
        answered, arrived = self.status == 200, self.at + self.seconds
        good = self.right & (self.seconds <= DEADLINE)
        if skip is None:
            # What was asked for at last may have been answered later.
            length, due = max(seconds, arrived[answered].max(initial=0.0)), seconds
        else:
            inside = (arrived > skip) & (arrived <= seconds)
            answered, good, length, due = answered & inside, good & inside, seconds - skip, seconds - skip
        quantiles = np.quantile(self.seconds[answered], [0.5, 0.99]).tolist() if answered.any() else [None, None]
        return {
            "seconds": seconds,
            "requests": len(self.at),
            "throughput": float(answered.sum() / length),
            "p50": quantiles[0],
            "p99": quantiles[1],
            "goodput": float(good.sum() / due),
            "statuses": {str(status): int((self.status == status).sum()) for status in np.unique(self.status)},
            "wrong": int(((self.status == 200) & ~self.right).sum()),
            "refused": int((self.status == 429).sum()),
            "invited": int(self.invited.sum()),
            "generator_cpu_share": self.cpu_share,
        }


class Load:
    """A load under way: `load_generator.py` in a process of its own, which ends with this context."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._folder = tempfile.TemporaryDirectory()
        self._record = Path(self._folder.name, "record.json")
        asked = Path(self._folder.name, "plan.json")
        asked.write_text(json.dumps(asdict(plan)))
        command = [sys.executable, str(Path(__file__).with_name("load_generator.py")), str(asked), str(self._record)]
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()
        self._folder.cleanup()

    def found(self) -> Found:
        """Wait for its end."""
        plan = self._plan
        _, errors = self._process.communicate(timeout=plan.seconds + 2 * plan.patience + 60)
        if self._process.returncode:
            raise RuntimeError(f"the load generator failed: {errors}")
        record = json.loads(self._record.read_text())
        columns = {name: np.array([row[name] for row in record["rows"]]) for name in record["rows"][0]}
        return Found(**columns, began=record["began"], cpu_share=record["cpu_share"])


def requests_of(
    scorer: CascadeScorer,
    images: NDArray[np.uint8],
    *,
    fidelity: FidelityName,
    each: int,
    folder: Path,
    headers: dict[str, str],
) -> Requests:
    """Uploads of `each` images, as PNG, and what the model itself says of them.

    Args:
        scorer: The model.
        images: uint8, ``[N, 3, H, W]``, N a multiple of `each`.
        fidelity: At which they are scored.
        each: Images of one request.
        folder: Where the bodies are put.
        headers: Of all requests, beside that of their type.
    """
    values = [score.bits_per_dim for score in scorer.score(images, scorer.fidelities[fidelity])]
    bodies, expected = [], []
    for first in range(0, len(images), each):
        files = [("files", (f"{at}.png", _png(images[at]))) for at in range(first, first + each)]
        request = httpx.Request("POST", "http://server", files=files, headers={"Content-Type": _FORM})
        bodies.append(folder / f"{fidelity}-{each}-{first}.body")
        bodies[-1].write_bytes(request.read())
        expected.append(tuple(values[first : first + each]))
    return Requests(f"/score?fidelity={fidelity}", tuple(map(str, bodies)), _FORM, tuple(expected), headers)


def _png(image: NDArray[np.uint8]) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(image.transpose(1, 2, 0)).save(buffer, "PNG")
    return buffer.getvalue()
