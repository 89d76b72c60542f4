"""The routes of the application, one module for each thing that they speak of."""

from service.routes.health import health_router, metrics_router
from service.routes.inference import inference_router
from service.routes.models import models_router
from service.routes.score import score_router

__all__ = ["health_router", "inference_router", "metrics_router", "models_router", "score_router"]
