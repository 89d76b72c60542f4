"""The application, put together."""

import contextlib
from collections.abc import AsyncIterator

from anyio import CapacityLimiter
from fastapi import FastAPI

from pcdm_core.scoring import CascadeScorer
from service.engine import Engine
from service.interface import tell_problems_alone
from service.middleware import BodyLimitMiddleware, HangUpMiddleware, RequestIdMiddleware
from service.problems import install_problem_handlers
from service.reload_signal import reload_on_signal
from service.routes import health_router, inference_router, models_router, score_router
from service.served_model import Launch, Load, launch_worker
from service.settings import Settings

__all__ = ["create_app"]


def create_app(
    settings: Settings | None = None, *, load: Load = CascadeScorer.from_pretrained, launch: Launch = launch_worker
) -> FastAPI:
    """Build the application.

    Args:
        settings: What the deployment chose; read from the environment if left out.
        load: Turns a model's folder into a scorer.
        launch: Starts what runs its units, by default a process of its own.

    Returns:
        An application that loads its models when it starts; its `state.engine` is the `Engine`.

    Raises:
        ValueError: Two models have the same name, or one has none.
    """
    settings = Settings() if settings is None else settings
    engine = Engine(settings, load, launch)
    decoders = CapacityLimiter(settings.decode_threads)

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        async with engine.running(), reload_on_signal(engine.reload_all, enabled=settings.allow_reload):
            yield

    app = FastAPI(
        title="PCDM out-of-distribution gate",
        description="Scores images by the exact hierarchical likelihood of a cascaded diffusion model.",
        lifespan=lifespan,
    )
    app.state.engine = engine
    install_problem_handlers(app)
    app.add_middleware(BodyLimitMiddleware, max_bytes=settings.max_request_bytes)
    app.add_middleware(HangUpMiddleware)
    app.add_middleware(RequestIdMiddleware)
    app.include_router(health_router(engine))
    app.include_router(score_router(engine, settings, decoders))
    app.include_router(models_router(engine, settings))
    app.include_router(inference_router(engine, settings, decoders))
    tell_problems_alone(app)
    return app
