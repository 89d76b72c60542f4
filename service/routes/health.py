"""Routes for those who watch the server: alive, ready, and its metrics."""

from fastapi import APIRouter, Request, Response
from fastapi.responses import PlainTextResponse
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder

from service.engine import Engine
from service.schemas import Health, problem_responses

__all__ = ["health_router", "metrics_router"]


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


def metrics_router(registry: CollectorRegistry) -> APIRouter:
    """The metrics of a registry, in the form that is asked for."""
    router = APIRouter()

    @router.get("/metrics", summary="Metrics, for Prometheus", response_class=PlainTextResponse)
    async def metrics(request: Request) -> Response:
        encode, media_type = choose_encoder(request.headers.get("accept", ""))
        return Response(encode(registry), headers={"Content-Type": media_type})

    return router
