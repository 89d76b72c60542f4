"""The way of an upload to its answer."""

import contextlib
from typing import Annotated, cast

import numpy as np
from fastapi import APIRouter, File, Query, Request, UploadFile

from pcdm_core.data import PreparedImage
from pcdm_core.scoring import FidelityName, Score
from service.asked import admit
from service.deadline import RequestTimeout, asked_by, deadline, due
from service.decoding import Decoder
from service.engine import Engine
from service.problems import ProblemError
from service.refusing_route import refusing_route
from service.schemas import Errors, ImageScore, ScoreAnswer, problem_responses, served_fidelity
from service.settings import Settings
from service.telemetry import Telemetry

__all__ = ["score_router"]


def score_router(engine: Engine, settings: Settings, decoder: Decoder, telemetry: Telemetry) -> APIRouter:
    """Scores of uploaded images.

    Args:
        engine: What answers.
        settings: What the deployment chose.
        decoder: Decodes uploads.
        telemetry: Is told of images and answers.
    """

    def check_room(request: Request) -> None:
        """Refuse what there would be no room for if it were a single image; what else is wrong is told later."""
        query = request.query_params
        with contextlib.suppress(ProblemError, ValueError):
            served = engine.ready(query.get("model"))
            if served.batcher.is_busy:
                admit(
                    served,
                    cast(FidelityName, query.get("fidelity", "fast")),
                    query.get("detector"),
                    images=1,
                    most=settings.max_images,
                    until=due(asked_by(request.headers), settings.request_timeout_ms, engine.lag),
                )
            request.state.room_for = 1

    router = APIRouter(route_class=refusing_route(check_room))

    @router.post(
        "/score",
        summary="Score one or many images",
        responses=problem_responses(
            status_400="The body is not multipart form data.",
            status_401="An API key is needed, and there is none or it is not known.",
            status_404="There is no model of this name.",
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
        model: Annotated[
            str | None, Query(description="Name of the model, one of `GET /models`; the first if left out.")
        ] = None,
        strict: Annotated[bool, Query(description="Refuse an image that is not of the model's own size.")] = False,
        fidelity: Annotated[
            FidelityName, Query(description="How carefully the likelihood is computed; the verdict is the same at all.")
        ] = "fast",
        detector: Annotated[
            str | None,
            Query(description="Name of the detector that judges, one of the model's; its default if left out."),
        ] = None,
        timeout_ms: RequestTimeout = None,
    ) -> ScoreAnswer:
        request.state.images = len(files)
        with engine.serving(model) as served:
            async with deadline(timeout_ms, settings.request_timeout_ms, engine.lag) as until:
                asked = admit(
                    *(served, fidelity, detector),
                    images=len(files),
                    most=settings.max_images,
                    until=until,
                    room_for=getattr(request.state, "room_for", 0),
                )
                names = [file.filename or f"files[{index}]" for index, file in enumerate(files)]
                with telemetry.span("decode", **{"pcdm.images": len(files)}):
                    prepared = [
                        await decoder.decode(
                            file, name, served.scorer.preprocessing, strict=strict, alone=len(files) == 1
                        )
                        for name, file in zip(names, files, strict=True)
                    ]
                pixels = np.stack([image.pixels for image in prepared])
                scores = await served.score(pixels, asked.fidelity, until, asked.scorer)
        answer = ScoreAnswer(
            model=served.name,
            digest=served.scorer.digest,
            fidelity=served_fidelity(fidelity, asked.fidelity),
            detector=asked.scorer.detector,
            alpha=served.alpha_of(asked.scorer),
            results=[_result(name, image, one) for name, image, one in zip(names, prepared, scores, strict=True)],
            request_id=request.state.request_id,
        )
        telemetry.metrics.answered(served, scores, asked.scorer.detector)
        return answer

    return router


def _result(name: str, image: PreparedImage, score: Score) -> ImageScore:
    height, width = image.pixels.shape[1:]
    return ImageScore(
        source=name,
        score=score.score,
        p_value=score.p_value,
        is_ood=score.is_ood,
        bits_per_dim=score.bits_per_dim,
        terms=score.terms,
        errors=Errors(noise=score.stderr, time=score.time_error),
        network_calls=score.network_calls,
        original_size=image.original_size,
        scored_size=(width, height),
        resized=image.resized,
    )
