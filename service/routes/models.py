"""What the models are, and the order to read one anew."""

from fastapi import APIRouter

from service.engine import Engine
from service.model_host import ModelHost
from service.model_schemas import DetectorInfo, ModelInfo, ModelList
from service.problems import ProblemError
from service.schemas import problem_responses, served_fidelity
from service.served_model import ServedScorer
from service.settings import Settings

__all__ = ["models_router"]

_NO_SUCH = "There is no model of this name."


def models_router(engine: Engine, settings: Settings) -> APIRouter:
    """The models of an engine."""
    router = APIRouter()

    @router.get("/models", summary="What models there are")
    async def models() -> ModelList:
        return ModelList(default=engine.default, models=[_info(host) for host in engine.hosts.values()])

    @router.get("/models/{name}", summary="What a model is", responses=problem_responses(status_404=_NO_SUCH))
    async def model(name: str) -> ModelInfo:
        return _info(engine.host(name))

    @router.post(
        "/models/{name}/reload",
        summary="Serve what the model's folder holds now",
        description="Answers when the new weights and calibration have taken over. Requests under way are finished by "
        "those with which they began. When anything fails, all is as before.",
        responses=problem_responses(
            status_403="The deployment does not allow it.",
            status_404=_NO_SUCH,
            status_409="The model is being loaded already.",
            status_422="The folder holds no model that can be served.",
            status_500="The model cannot be run.",
            status_503="The server is stopping.",
        ),
    )
    async def reload(name: str) -> ModelInfo:
        if not settings.allow_reload:
            raise ProblemError(403, "reload-disabled", "the server runs without PCDM_ALLOW_RELOAD=true")
        await engine.reload(name)
        return _info(engine.host(name))

    return router


def _info(host: ModelHost) -> ModelInfo:
    current = host.current
    if current is None:
        return ModelInfo(name=host.name, state=host.state, reason=host.reason)
    scorer = current.scorer
    detectors = dict(sorted(current.detectors.items(), key=lambda known: known[1] is not scorer))
    return ModelInfo(
        name=host.name,
        state=host.state,
        reason=host.reason,
        digest=scorer.digest,
        image_shape=current.image_shape,
        scales=scorer.scales,
        parameters=scorer.parameters,
        fidelities=[served_fidelity(name, one) for name, one in scorer.fidelities.items()],
        device=current.runners.device,
        detectors=[_detector(name, one, current.alpha_of(one)) for name, one in detectors.items()],
    )


def _detector(name: str, scorer: ServedScorer, alpha: float | None) -> DetectorInfo:
    assert alpha is not None
    assert scorer.calibration_size is not None
    nodes = scorer.fidelities["fast"].nodes
    return DetectorInfo(name=name, alpha=alpha, calibration_size=scorer.calibration_size, nodes=nodes)
