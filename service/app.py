"""The application: routes, and the way of an upload to its answer."""

import asyncio
import contextlib
import warnings
from collections.abc import AsyncIterator
from typing import Annotated

import anyio.to_thread
import numpy as np
from anyio import CapacityLimiter
from fastapi import FastAPI, File, Header, Query, Request, UploadFile

from pcdm_core.data import DecodeLimits, PreparedImage, Preprocessing, decode_image
from pcdm_core.scoring import CascadeScorer, FidelityName, Score, named_fidelity
from service.authentication import ApiKeyMiddleware, describe_keys, open_paths
from service.docs_page import install_docs_page
from service.engine import Engine, Launch, Load, launch_worker
from service.keys import Keys
from service.middleware import BodyLimitMiddleware, HangUpMiddleware, RequestIdMiddleware, SecurityHeadersMiddleware
from service.problems import ProblemError, install_problem_handlers
from service.schemas import Errors, Health, ImageScore, ScoreAnswer, ServedFidelity, problem_responses
from service.settings import Settings

__all__ = ["create_app"]


def create_app(
    settings: Settings | None = None, *, load: Load = CascadeScorer.from_pretrained, launch: Launch = launch_worker
) -> FastAPI:
    """Build the application.

    Args:
        settings: What the deployment chose; read from the environment if left out.
        load: Turns the model's folder into a scorer.
        launch: Starts what runs its units, by default a process of its own.

    Returns:
        An application that loads its model when it starts; its `state.engine` is the `Engine`.

    Raises:
        ValueError: The API keys are malformed.
        OSError: The file of API keys cannot be read.
    """
    settings = Settings() if settings is None else settings
    keys = Keys(settings.api_keys, settings.api_keys_file)
    limits = settings.decode_limits
    engine = Engine(settings, load, launch)
    decoders = CapacityLimiter(settings.decode_threads)

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        # Pillow warns of each odd tag of a photograph: a stranger could fill the log with a few small files.
        warnings.filterwarnings("ignore", category=UserWarning, module="PIL")
        async with engine.running():
            yield

    app = FastAPI(
        title="PCDM out-of-distribution gate",
        description="Scores images by the exact hierarchical likelihood of a cascaded diffusion model.",
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,  # a redirect would lead to whatever host the request names
    )
    app.state.engine = engine
    install_problem_handlers(app)
    install_docs_page(app)
    app.add_middleware(
        BodyLimitMiddleware,
        max_bytes=settings.max_request_bytes,
        seconds=settings.upload_timeout_ms / 1000,
        idle_seconds=settings.upload_idle_timeout_ms / 1000,
    )
    app.add_middleware(HangUpMiddleware)
    if keys:
        exempt = open_paths(metrics=settings.open_metrics)
        app.add_middleware(ApiKeyMiddleware, keys=keys, exempt=exempt)
        describe_keys(app, exempt)
    app.add_middleware(SecurityHeadersMiddleware)
    app.add_middleware(RequestIdMiddleware)

    async def decode(file: UploadFile, name: str, preprocessing: Preprocessing, strict: bool) -> PreparedImage:
        data = await file.read(limits.max_bytes + 1)  # one more than allowed is enough to be refused
        return await anyio.to_thread.run_sync(_prepare, data, name, limits, preprocessing, strict, limiter=decoders)

    @app.get("/healthz", summary="Whether the server is alive")
    async def healthz() -> Health:
        return Health()

    @app.get(
        "/readyz",
        summary="Whether requests would be answered",
        responses=problem_responses(
            status_503="The model is not loaded, its worker is being started, or the server is stopping."
        ),
    )
    async def readyz() -> Health:
        engine.ready()
        return Health()

    @app.post(
        "/score",
        summary="Score one or many images",
        responses=problem_responses(
            status_400="The body is not multipart form data.",
            status_401="An API key is needed, and there is none or it is not known.",
            status_408="The request did not arrive in time.",
            status_413="The request, or an image, is too large, or there are too many images.",
            status_415="An image is of a format that is not accepted.",
            status_422="An image is broken or refused, or the request does not fit the interface.",
            status_429="Too much work is waiting: try again after as many seconds as `Retry-After` says.",
            status_500="The model failed.",
            status_503="The model is not loaded, its worker is being started, or the server is stopping.",
            status_504="The request took longer than it may.",
        ),
    )
    async def score(
        request: Request,
        files: Annotated[list[UploadFile], File(description="The images, each an encoded still image.")],
        strict: Annotated[bool, Query(description="Refuse an image that is not of the model's own size.")] = False,
        fidelity: Annotated[
            FidelityName, Query(description="How carefully the likelihood is computed; the verdict is the same at all.")
        ] = "fast",
        x_request_timeout_ms: Annotated[
            int | None, Header(ge=1, description="Milliseconds after which the answer is of no use any more.")
        ] = None,
    ) -> ScoreAnswer:
        with engine.serving() as loaded:
            async with _deadline(x_request_timeout_ms, settings):
                scorer = loaded.scorer
                try:
                    asked = named_fidelity(scorer.fidelities, fidelity, model=scorer.model_name)
                except ValueError as error:
                    raise ProblemError(422, "no-such-fidelity", str(error)) from error
                if len(files) > settings.max_images:
                    detail = f"{len(files)} images are more than the limit of {settings.max_images} in one request"
                    raise ProblemError(413, "too-many-images", detail)
                loaded.batcher.check_room(len(files), asked)
                names = [file.filename or f"files[{index}]" for index, file in enumerate(files)]
                prepared = [
                    await decode(file, name, scorer.preprocessing, strict)
                    for name, file in zip(names, files, strict=True)
                ]
                scores = await loaded.batcher.score(np.stack([image.pixels for image in prepared]), asked)
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


@contextlib.asynccontextmanager
async def _deadline(asked: int | None, settings: Settings) -> AsyncIterator[None]:
    """Cancel what is within, and answer 504, when the client's time or the server's is over, in milliseconds."""
    most = settings.request_timeout_ms
    allowed = most if asked is None else min(asked, most)
    try:
        async with asyncio.timeout(allowed / 1000) as timeout:
            yield
    except TimeoutError as error:
        if not timeout.expired():
            raise
        raise ProblemError(504, "deadline-passed", f"the request is not answered after {allowed:,} ms") from error


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
