"""The application, put together."""

import contextlib
import warnings
from collections.abc import AsyncIterator

from anyio import CapacityLimiter
from fastapi import FastAPI
from opentelemetry.trace import TracerProvider

from service.authentication import ApiKeyMiddleware, describe_keys, open_paths
from service.decoding import Decoder
from service.docs_page import install_docs_page
from service.engine import Engine
from service.hang_up import HangUpMiddleware
from service.health import HealthServer
from service.interface import tell_problems_alone
from service.keys import Keys
from service.middleware import BodyLimitMiddleware, RequestIdMiddleware, SecurityHeadersMiddleware
from service.problems import install_problem_handlers
from service.reload_signal import reload_on_signal
from service.routes import health_router, inference_router, metrics_router, models_router, score_router
from service.served_model import Launch, Load, launch_worker, load_for_verdicts
from service.settings import Settings
from service.telemetry import NO_TELEMETRY, Telemetry, TelemetryMiddleware

__all__ = ["create_app"]


def create_app(
    settings: Settings | None = None,
    *,
    load: Load = load_for_verdicts,
    launch: Launch = launch_worker,
    tracer_provider: TracerProvider | None = None,
) -> FastAPI:
    """Build the application.

    Args:
        settings: What the deployment chose; read from the environment if left out.
        load: Turns a model's folder into a scorer.
        launch: Starts what runs its units, by default a process of its own.
        tracer_provider: Where spans go; chosen by the environment's `OTEL_*` if left out.

    Returns:
        An application that loads its models when it starts; its `state.engine` is the `Engine`, and its `state.health`
        the `HealthServer`, or None without a port for it.

    Raises:
        ValueError: Two models have the same name, or one has none; or the API keys are malformed.
        OSError: The file of API keys cannot be read.
    """
    settings = Settings() if settings is None else settings
    keys = Keys(settings.api_keys, settings.api_keys_file)
    telemetry = Telemetry(provider=tracer_provider)
    engine = Engine(settings, load, launch, telemetry.observer)
    telemetry.metrics.watch(engine.hosts.values, engine.lag)
    health = None
    if settings.metrics_port is not None:
        health = HealthServer(engine, telemetry.metrics.registry, settings.host, settings.metrics_port)
    threads = CapacityLimiter(settings.decode_threads)

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        # Pillow warns of each odd tag of a photograph: a stranger could fill the log with a few small files.
        warnings.filterwarnings("ignore", category=UserWarning, module="PIL")
        async with contextlib.AsyncExitStack() as running:
            await running.enter_async_context(telemetry.running())
            if health is not None:
                await running.enter_async_context(health.running())
            await running.enter_async_context(engine.running())
            await running.enter_async_context(reload_on_signal(engine.reload_all, enabled=settings.allow_reload))
            yield

    app = FastAPI(
        title="PCDM out-of-distribution gate",
        description="Scores images by the exact hierarchical likelihood of a cascaded diffusion model.",
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,  # a redirect would lead to whatever host the request names
        telemetry=NO_TELEMETRY,
    )
    app.state.engine = engine
    app.state.health = health
    install_problem_handlers(app)
    install_docs_page(app)
    app.add_middleware(
        BodyLimitMiddleware,
        max_bytes=settings.max_request_bytes,
        max_total_bytes=settings.max_total_bytes,
        seconds=settings.upload_timeout_ms / 1000,
        idle_seconds=settings.upload_idle_timeout_ms / 1000,
    )
    app.add_middleware(HangUpMiddleware)
    exempt = open_paths(metrics=settings.open_metrics)
    if keys:
        app.add_middleware(ApiKeyMiddleware, keys=keys, exempt=exempt)
    app.add_middleware(SecurityHeadersMiddleware)
    app.add_middleware(RequestIdMiddleware)
    app.add_middleware(TelemetryMiddleware, telemetry=telemetry)
    # First, as routes are tried one after the other.
    app.include_router(score_router(engine, settings, Decoder(settings.decode_limits, threads), telemetry))
    app.include_router(health_router(engine))
    if health is None:
        app.include_router(metrics_router(telemetry.metrics.registry))
    app.include_router(models_router(engine, settings))
    app.include_router(inference_router(engine, settings, threads, telemetry))
    tell_problems_alone(app)
    if keys:
        describe_keys(app, exempt)
    return app
