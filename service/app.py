"""The application: loading, routes, and the way of an upload to its answer."""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import Annotated, Final, Protocol

import anyio.to_thread
import numpy as np
from anyio import CapacityLimiter
from fastapi import FastAPI, File, Query, Request, UploadFile

from pcdm_core.data import DecodeLimits, PreparedImage, Preprocessing, decode_image
from pcdm_core.scoring import CascadeScorer, Fidelity, FidelityName, Score, Scorer
from service.batcher import Batcher
from service.middleware import BodyLimitMiddleware, RequestIdMiddleware
from service.problems import ProblemError, install_problem_handlers
from service.schemas import Errors, Health, ImageScore, ScoreAnswer, ServedFidelity, problem_responses
from service.settings import Settings

__all__ = ["ServedScorer", "create_app"]

_log: Final = logging.getLogger(__name__)


class ServedScorer(Scorer, Protocol):
    """A scorer that also says what it is, as `CascadeScorer` does."""

    @property
    def model_name(self) -> str: ...  # noqa: D102

    @property
    def digest(self) -> str: ...  # noqa: D102

    @property
    def fidelities(self) -> Mapping[FidelityName, Fidelity]: ...  # noqa: D102

    @property
    def preprocessing(self) -> Preprocessing: ...  # noqa: D102

    @property
    def alpha(self) -> float | None: ...  # noqa: D102


class _Model:
    """The model of one application: being loaded, loaded, or failed."""

    def __init__(self, settings: Settings, load: Callable[[Path], ServedScorer]) -> None:
        self._settings = settings
        self._load = load
        self._loaded: tuple[ServedScorer, Batcher] | None = None
        self._detail = "the model is being loaded"

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Load in the background, so that the server can already say that it is not ready; stop at the end."""
        loading = asyncio.create_task(self._load_in_thread())
        try:
            yield
        finally:
            loading.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await loading
            if self._loaded is not None:
                _, batcher = self._loaded
                self._loaded, self._detail = None, "the service is stopping"
                await batcher.stop()

    async def _load_in_thread(self) -> None:
        try:
            scorer = await asyncio.to_thread(self._load, self._settings.model)
        except Exception as error:
            self._detail = "the model could not be loaded; the log says why"
            # An unfit folder is explained by its message alone; anything else is a fault of ours, to be traced.
            unfit = isinstance(error, (ValueError, OSError))
            _log.error("cannot load the model in %s: %s", self._settings.model, error, exc_info=not unfit)
        else:
            self._loaded = scorer, Batcher(scorer, max_batch=self._settings.max_batch)
            _log.info("serving %s (%s)", scorer.model_name, scorer.digest)

    def get(self) -> tuple[ServedScorer, Batcher]:
        """Return the scorer and its batcher, or raise the 503 that says why there is none."""
        if self._loaded is None:
            raise ProblemError(503, "not-ready", self._detail)
        return self._loaded


def create_app(
    settings: Settings | None = None, *, load: Callable[[Path], ServedScorer] = CascadeScorer.from_pretrained
) -> FastAPI:
    """Build the application.

    Args:
        settings: What the deployment chose; read from the environment if left out.
        load: Turns the model's folder into a scorer; runs in a thread.

    Returns:
        An application that loads its model when it starts.
    """
    settings = Settings() if settings is None else settings
    limits = settings.decode_limits
    model = _Model(settings, load)
    decoders = CapacityLimiter(settings.decode_threads)

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        async with model.running():
            yield

    app = FastAPI(
        title="PCDM out-of-distribution gate",
        description="Scores images by the exact hierarchical likelihood of a cascaded diffusion model.",
        lifespan=lifespan,
    )
    install_problem_handlers(app)
    app.add_middleware(BodyLimitMiddleware, max_bytes=settings.max_request_bytes)
    app.add_middleware(RequestIdMiddleware)

    @app.get("/healthz", summary="Whether the server is alive")
    async def healthz() -> Health:
        return Health()

    @app.get(
        "/readyz",
        summary="Whether the model is loaded",
        responses=problem_responses(status_503="The model is not loaded."),
    )
    async def readyz() -> Health:
        model.get()
        return Health()

    @app.post(
        "/score",
        summary="Score one or many images",
        responses=problem_responses(
            status_400="The body is not multipart form data.",
            status_413="The request, or an image, is too large, or there are too many images.",
            status_415="An image is of a format that is not accepted.",
            status_422="An image is broken or refused, or the request does not fit the interface.",
            status_500="The model failed.",
            status_503="The model is not loaded.",
        ),
    )
    async def score(
        request: Request,
        files: Annotated[list[UploadFile], File(description="The images, each an encoded still image.")],
        strict: Annotated[bool, Query(description="Refuse an image that is not of the model's own size.")] = False,
        fidelity: Annotated[
            FidelityName, Query(description="How carefully the likelihood is computed; the verdict is the same at all.")
        ] = "fast",
    ) -> ScoreAnswer:
        scorer, batcher = model.get()
        if fidelity not in scorer.fidelities:
            detail = f"{scorer.model_name} has no fidelity {fidelity}, only {', '.join(scorer.fidelities)}"
            raise ProblemError(422, "no-such-fidelity", detail)
        asked = scorer.fidelities[fidelity]
        if len(files) > settings.max_images:
            detail = f"{len(files)} images are more than the limit of {settings.max_images} in one request"
            raise ProblemError(413, "too-many-images", detail)
        names = [file.filename or f"files[{index}]" for index, file in enumerate(files)]
        prepared = []
        for name, file in zip(names, files, strict=True):
            data = await file.read(limits.max_bytes + 1)  # one more than allowed is enough to be refused
            prepared.append(
                await anyio.to_thread.run_sync(
                    _prepare, data, name, limits, scorer.preprocessing, strict, limiter=decoders
                )
            )
        scores = await batcher.score(np.stack([image.pixels for image in prepared]), asked)
        return ScoreAnswer(
            model=scorer.model_name,
            digest=scorer.digest,
            fidelity=ServedFidelity(name=fidelity, **asked.settings()),
            alpha=scorer.alpha if settings.alpha is None else settings.alpha,
            results=[
                _result(name, image, one, settings.alpha)
                for name, image, one in zip(names, prepared, scores, strict=True)
            ],
            request_id=request.state.request_id,
        )

    return app


def _prepare(data: bytes, name: str, limits: DecodeLimits, preprocessing: Preprocessing, strict: bool) -> PreparedImage:
    return preprocessing.prepare(decode_image(data, name=name, limits=limits), name=name, strict=strict)


def _result(name: str, image: PreparedImage, score: Score, alpha: float | None) -> ImageScore:
    height, width = image.pixels.shape[1:]
    return ImageScore(
        source=name,
        score=score.score,
        p_value=score.p_value,
        is_ood=score.is_ood if alpha is None or score.p_value is None else score.p_value <= alpha,
        bits_per_dim=score.bits_per_dim,
        terms=score.terms,
        errors=Errors(noise=score.stderr, time=score.time_error),
        network_calls=score.network_calls,
        original_size=image.original_size,
        scored_size=(width, height),
        resized=image.resized,
    )
