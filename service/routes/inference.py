"""The Open Inference Protocol, version 2, for clients that speak it to any model server."""

from importlib.metadata import version
from typing import Annotated, Any, Final

import anyio.to_thread
from anyio import CapacityLimiter
from fastapi import APIRouter, Header, Request, Response

from service.asked import admit
from service.deadline import RequestTimeout, deadline
from service.engine import Engine
from service.inference_schemas import (
    InferenceRequest,
    InferenceResponse,
    ModelMetadata,
    ModelReady,
    ServerLive,
    ServerMetadata,
    ServerReady,
)
from service.open_inference import (
    JSON_LENGTH_HEADER,
    body_limit,
    output_names,
    parse,
    render,
    selected,
    tensors_of,
)
from service.problems import ProblemError
from service.schemas import problem_responses
from service.served_model import ServedModel
from service.settings import Settings
from service.telemetry import Telemetry

__all__ = ["inference_router"]

_BINARY: Final = "application/octet-stream"
_ANSWER: Final[dict[int | str, dict[str, Any]]] = {
    200: {
        "description": f"JSON; or, where outputs are bytes, as much JSON as `{JSON_LENGTH_HEADER}` says, and they.",
        "content": {_BINARY: {"schema": {"type": "string", "format": "binary"}}},
    }
}
_NO_SUCH: Final = "There is no model of this name."
_NOT_READY: Final = "The model is not loaded, its worker is being started, or the server is stopping."


def inference_router(engine: Engine, settings: Settings, threads: CapacityLimiter, telemetry: Telemetry) -> APIRouter:
    """The protocol's routes.

    Args:
        engine: What answers.
        settings: What the deployment chose.
        threads: In which tensors are read.
        telemetry: Is told of images and answers.
    """
    router = APIRouter(prefix="/v2")

    @router.get("", summary="What the server is")
    async def server() -> ServerMetadata:
        return ServerMetadata(version=version("pcdm"))

    @router.get("/health/live", summary="Whether the server is alive")
    async def live() -> ServerLive:
        return ServerLive()

    @router.get(
        "/health/ready", summary="Whether every model is ready", responses=problem_responses(status_503=_NOT_READY)
    )
    async def ready() -> ServerReady:
        engine.require_all()
        return ServerReady()

    @router.get(
        "/models/{name}",
        summary="What a model takes and gives",
        responses=problem_responses(status_404=_NO_SUCH, status_503="The model is not loaded."),
    )
    async def metadata(name: str) -> ModelMetadata:
        model = engine.host(name).current or engine.ready(name)
        taken, given = tensors_of(model.image_shape, _outputs(model))
        return ModelMetadata(name=name, inputs=[taken], outputs=given)

    @router.get(
        "/models/{name}/ready",
        summary="Whether a model is ready",
        responses=problem_responses(status_404=_NO_SUCH, status_503=_NOT_READY),
    )
    async def model_ready(name: str) -> ModelReady:
        engine.ready(name)
        return ModelReady(name=name)

    @router.post(
        "/models/{name}/infer",
        summary="Score images that are tensors",
        response_model=InferenceResponse,
        response_model_exclude_none=True,
        openapi_extra={"requestBody": _request_body()},
        responses=_ANSWER
        | problem_responses(
            status_400="The request is none of the protocol, or its tensor does not fit the model.",
            status_401="An API key is needed, and there is none or it is not known.",
            status_404=_NO_SUCH,
            status_408="The request did not arrive in time.",
            status_413="The request is too large, or there are too many images.",
            status_415="The body is compressed.",
            status_422="The model has no such fidelity or detector, or a header does not fit the interface.",
            status_429="Too much work is waiting: try again after as many seconds as `Retry-After` says.",
            status_500="The model failed.",
            status_503=_NOT_READY,
            status_504="The request took longer than it may.",
        ),
    )
    async def infer(
        request: Request,
        name: str,
        json_length: Annotated[
            int | None,
            Header(alias=JSON_LENGTH_HEADER, ge=0, description="Bytes of the JSON document, where others follow it."),
        ] = None,
        timeout_ms: RequestTimeout = None,
    ) -> Response:
        # Nothing is held while the body comes in: a slow sender must not keep a replaced model, or the server, alive.
        body = await _read(request, body_limit(engine.ready(name).image_shape, settings.max_images))
        with engine.serving(name) as model:
            async with deadline(timeout_ms, settings.request_timeout_ms, engine.lag) as until:
                with telemetry.span("decode"):
                    asked = await anyio.to_thread.run_sync(parse, body, json_length, model.image_shape, limiter=threads)
                document, images = asked.document, asked.images
                request.state.images = len(images)
                parameters = document.parameters
                way = admit(
                    *(model, parameters.fidelity, parameters.detector),
                    images=len(images),
                    most=settings.max_images,
                    until=until,
                )
                outputs = selected(document, _outputs(model))
                # The time for reading is within the other deadline alone, which is as good as nothing for so few bytes.
                within = None if parameters.timeout is None else max(1, parameters.timeout // 1000)
                async with deadline(within, settings.request_timeout_ms, engine.lag) as earlier:
                    scores = await model.score(images, way.fidelity, min(until, earlier), way.scorer)
        tensors, buffer = render(scores, outputs)
        telemetry.metrics.answered(model, scores, way.scorer.detector)
        told: dict[str, str | float] = {"digest": model.scorer.digest, "fidelity": parameters.fidelity}
        alpha = model.alpha_of(way.scorer)
        if way.scorer.detector is not None and alpha is not None:
            told |= {"detector": way.scorer.detector, "alpha": alpha}
        answer = InferenceResponse(model_name=name, id=document.id, parameters=told, outputs=tensors)
        return _response(answer.model_dump_json(exclude_none=True).encode(), buffer)

    return router


async def _read(request: Request, limit: int) -> bytes:
    encoding = request.headers.get("Content-Encoding", "identity")
    if encoding != "identity":
        raise ProblemError(415, "unsupported-encoding", f"a body is sent as it is, not as {encoding[:40]}")
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > limit:
            raise ProblemError(413, "request-too-large", f"the request is larger than the limit of {limit:,} bytes")
    return bytes(body)


def _outputs(model: ServedModel) -> tuple[str, ...]:
    return output_names(calibrated=model.scorer.calibration_size is not None)


def _response(document: bytes, buffer: bytes) -> Response:
    if not buffer:
        return Response(document, media_type="application/json")
    return Response(document + buffer, headers={JSON_LENGTH_HEADER: str(len(document))}, media_type=_BINARY)


def _request_body() -> dict[str, Any]:
    """What the route reads by itself, for OpenAPI."""
    schema = InferenceRequest.model_json_schema()
    parts = schema.pop("$defs")

    def inlined(node: Any) -> Any:
        if isinstance(node, list):
            return [inlined(one) for one in node]
        if not isinstance(node, dict):
            return node
        whole = parts[node["$ref"].rpartition("/")[2]] | node if "$ref" in node else node
        return {key: inlined(value) for key, value in whole.items() if key != "$ref"}

    return {
        "required": True,
        "content": {
            "application/json": {"schema": inlined(schema)},
            _BINARY: {"schema": {"type": "string", "format": "binary", "description": "JSON, and bytes after it."}},
        },
    }
