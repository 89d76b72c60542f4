"""Whether the server is there."""

from fastapi import APIRouter

from service.engine import Engine
from service.schemas import Health, problem_responses

__all__ = ["health_router"]


def health_router(engine: Engine) -> APIRouter:
    """Whether the server is alive, and whether it is ready."""
    router = APIRouter()

    @router.get("/healthz", summary="Whether the server is alive")
    async def healthz() -> Health:
        return Health()

    @router.get(
        "/readyz",
        summary="Whether requests would be answered, of every model",
        responses=problem_responses(
            status_503="A model is not loaded, its worker is being started, or the server is stopping."
        ),
    )
    async def readyz() -> Health:
        engine.require_all()
        return Health()

    return router
