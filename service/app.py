"""The application: routes, and the way of an upload to its answer."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Annotated

import anyio.to_thread
import numpy as np
from anyio import CapacityLimiter
from fastapi import FastAPI, File, Header, Query, Request, UploadFile
from opentelemetry.trace import TracerProvider

from pcdm_core.data import DecodeLimits, PreparedImage, Preprocessing, decode_image
from pcdm_core.scoring import CascadeScorer, FidelityName, Score, named_fidelity
from service.engine import Engine, Launch, Load, launch_worker
from service.health import HealthServer, health_router, metrics_router
from service.middleware import BodyLimitMiddleware, HangUpMiddleware, RequestIdMiddleware
from service.problems import ProblemError, install_problem_handlers
from service.schemas import Errors, ImageScore, ScoreAnswer, ServedFidelity, problem_responses
from service.settings import Settings
from service.telemetry import Telemetry, TelemetryMiddleware

__all__ = ["create_app"]


def create_app(
    settings: Settings | None = None,
    *,
    load: Load = CascadeScorer.from_pretrained,
    launch: Launch = launch_worker,
    tracer_provider: TracerProvider | None = None,
) -> FastAPI:
    """Build the application.

    Args:
        settings: What the deployment chose; read from the environment if left out.
        load: Turns the model's folder into a scorer.
        launch: Starts what runs its units, by default a process of its own.
        tracer_provider: Where spans go; chosen by the environment's `OTEL_*` if left out.

    Returns:
        An application that loads its model when it starts; its `state.engine` is the `Engine`, and its `state.health`
        the `HealthServer`, or None without a port for it.
    """
    settings = Settings() if settings is None else settings
    limits = settings.decode_limits
    telemetry = Telemetry(drift_window=settings.drift_window, provider=tracer_provider)
    engine = Engine(settings, load, launch, telemetry.observer)
    telemetry.metrics.watch(lambda: engine.models, settings.alpha)
    health = None
    if settings.metrics_port is not None:
        health = HealthServer(engine, telemetry.metrics.registry, settings.host, settings.metrics_port)
    decoders = CapacityLimiter(settings.decode_threads)

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        async with contextlib.AsyncExitStack() as running:
            await running.enter_async_context(telemetry.running())
            if health is not None:
                await running.enter_async_context(health.running())
            await running.enter_async_context(engine.running())
            yield

    app = FastAPI(
        title="PCDM out-of-distribution gate",
        description="Scores images by the exact hierarchical likelihood of a cascaded diffusion model.",
        lifespan=lifespan,
        # FastAPI's own spans hold the query, and would be beside ours.
        telemetry={"tracing": False, "metrics": False, "logs": False, "auto_configure": False},
    )
    app.state.engine = engine
    app.state.health = health
    install_problem_handlers(app)
    app.add_middleware(BodyLimitMiddleware, max_bytes=settings.max_request_bytes)
    app.add_middleware(HangUpMiddleware)
    app.add_middleware(RequestIdMiddleware)
    app.add_middleware(TelemetryMiddleware, telemetry=telemetry)
    app.include_router(health_router(engine))
    if health is None:
        app.include_router(metrics_router(telemetry.metrics.registry))

    async def decode(file: UploadFile, name: str, preprocessing: Preprocessing, strict: bool) -> PreparedImage:
        data = await file.read(limits.max_bytes + 1)  # one more than allowed is enough to be refused
        return await anyio.to_thread.run_sync(_prepare, data, name, limits, preprocessing, strict, limiter=decoders)

    @app.post(
        "/score",
        summary="Score one or many images",
        responses=problem_responses(
            status_400="The body is not multipart form data.",
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
        request.state.images = len(files)
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
                names = [file.filename or f"files[{index}]" for index, file in enumerate(files)]
                with telemetry.span("decode", **{"pcdm.images": len(files)}):
                    prepared = [
                        await decode(file, name, scorer.preprocessing, strict)
                        for name, file in zip(names, files, strict=True)
                    ]
                scores = await loaded.batcher.score(np.stack([image.pixels for image in prepared]), asked)
        results = [
            _result(name, image, one, settings.alpha) for name, image, one in zip(names, prepared, scores, strict=True)
        ]
        telemetry.metrics.answered(scorer, results)
        return ScoreAnswer(
            model=scorer.model_name,
            digest=scorer.digest,
            fidelity=ServedFidelity(name=fidelity, **asked.settings()),
            alpha=scorer.alpha if settings.alpha is None else settings.alpha,
            results=results,
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
