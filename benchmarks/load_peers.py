"""The same model behind other servers, as simply as their users would write it.

    python benchmarks/load_peers.py plain|litserve:IMAGES:SECONDS:WORKERS|noop MODEL PORT

`plain`: FastAPI, each request in a thread, the model behind a lock. `litserve`: LitServe, with batches of at most so
many whole images in each of so many workers, which have the cores in equal shares; it drops what has waited for so many
seconds, as it has no deadline of each request's own. `noop`: this project's own service with a scorer that computes
nothing, to see what the way there and back takes.
"""

from __future__ import annotations

import io
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Self

import litserve
import numpy as np
import torch
import uvicorn
from fastapi import FastAPI, File, UploadFile
from numpy.typing import NDArray
from PIL import Image

from pcdm_core.listening import listen
from pcdm_core.scoring import CascadeScorer, Fidelity, Score, Unit, UnitResult
from service import Settings
from service.served_model import load_for_verdicts
from service.server import run

WAIT = 0.005
"""How long a LitServe batch waits for more images, seconds."""

Images = NDArray[np.uint8]


def pixels(data: bytes) -> Images:
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB")).transpose(2, 0, 1)


def answer(scores: Sequence[Score]) -> dict[str, Any]:
    names = ("score", "p_value", "is_ood", "bits_per_dim")
    return {"results": [{name: getattr(score, name) for name in names} for score in scores]}


def plain(model: Path) -> FastAPI:
    app, lock, scorer = FastAPI(), threading.Lock(), load_for_verdicts(model)

    @app.get("/readyz")
    async def ready() -> None:
        pass

    @app.post("/score")
    def score(files: Annotated[list[UploadFile], File()], fidelity: str = "fast") -> dict[str, Any]:
        images = np.stack([pixels(file.file.read()) for file in files])
        with lock:  # threads that run the networks beside one another are slower than one after the other
            return answer(scorer.score(images, scorer.fidelities[fidelity]))  # type: ignore[index]

    return app


class Batched(litserve.LitAPI):  # type: ignore[misc]  # has no types
    """`fast` only, as a batch of LitServe knows nothing of what each request asked for."""

    def __init__(self, model: Path, most: int, threads: int) -> None:
        super().__init__(max_batch_size=most, batch_timeout=WAIT, api_path="/score")
        self.model = model
        self.threads = threads

    def setup(self, device: str) -> None:  # noqa: ARG002
        torch.set_num_threads(self.threads)
        self.scorer = load_for_verdicts(self.model)  # on the processor, as all that is compared here

    def decode_request(self, request) -> Images:  # type: ignore[no-untyped-def]  # a form, which LitServe finds out by itself
        return np.stack([pixels(file.file.read()) for file in request.getlist("files")])

    def batch(self, inputs: list[Images]) -> tuple[Images, list[int]]:
        return np.concatenate(inputs), np.cumsum([len(one) for one in inputs])[:-1].tolist()

    def predict(self, inputs: tuple[Images, list[int]]) -> list[list[Score]]:
        images, borders = inputs
        scores = self.scorer.score(images)
        return [scores[low:high] for low, high in zip([0, *borders], [*borders, len(images)], strict=True)]

    def unbatch(self, output: list[list[Score]]) -> list[list[Score]]:
        return output

    def encode_response(self, output: list[Score]) -> dict[str, Any]:
        return answer(output)


class IdleScorer(CascadeScorer):
    """The model, but for its networks: plans and combines, and runs nothing."""

    @classmethod
    def from_pretrained(cls, folder: Path, **options: Any) -> Self:
        return super().from_pretrained(folder, **options | {"calibrated": False})

    def plan(self, images: Images, settings: Fidelity) -> list[Unit]:
        return [Unit(index, image, 0, 0, 0, settings, 1.0, (0,)) for index, image in enumerate(images)]

    def run(self, units: Sequence[Unit]) -> list[UnitResult]:
        return [UnitResult(np.zeros(1)) for _ in units]

    def combine(self, units: Sequence[Unit], results: Sequence[UnitResult]) -> list[Score]:
        empty: dict[str, float] = {}
        return [
            Score(None, None, None, float(result.values[0]), 0.0, None, empty, None, None, 0, np.zeros(1))
            for _, result in zip(units, results, strict=True)
        ]


def main(kind: str, model: Path, port: int) -> None:
    kind, *told = kind.split(":")
    match kind:
        case "plain":
            uvicorn.run(plain(model), port=port, log_level="warning")
        case "noop":
            with listen("127.0.0.1", port, "another port") as listener:
                run(Settings(model=model, port=port), listener, load=IdleScorer.from_pretrained)
        case "litserve":
            images, seconds, workers = told
            batched = Batched(model, int(images), max(1, torch.get_num_threads() // int(workers)))
            server = litserve.LitServer(
                batched,
                accelerator="cpu",
                workers_per_device=int(workers),
                timeout=float(seconds),
                healthcheck_path="/readyz",
            )
            server.run(host="127.0.0.1", port=port, log_level="warning", generate_client_file=False)
        case _:
            raise SystemExit(__doc__)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]))
