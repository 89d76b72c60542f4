"""Every error as `application/problem+json` (RFC 9457), with the request's id."""

import logging
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, Final

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from pcdm_core.data import ImageError
from service.admission import OverloadedError
from service.batcher import StoppedError
from service.runner import ModelFailedError, WorkerDiedError
from service.schemas import Problem
from service.security_headers import SECURITY_HEADERS
from service.tracing import TRACE_RESPONSE_HEADER

__all__ = [
    "PROBLEM_MEDIA_TYPE",
    "PROBLEM_TITLES",
    "PROBLEM_TYPE_PREFIX",
    "REQUEST_ID_HEADER",
    "ProblemError",
    "answer_problem",
    "install_problem_handlers",
    "problem_of",
    "unavailable",
]

PROBLEM_MEDIA_TYPE: Final = "application/problem+json"
PROBLEM_TYPE_PREFIX: Final = "urn:problem-type:pcdm:"
REQUEST_ID_HEADER: Final = "X-Request-ID"

_log: Final = logging.getLogger(__name__)
PROBLEM_TITLES: Final = {
    "deadline-passed": "The request took longer than it may",
    "image-refused": "An image is refused",
    "invalid-request": "The request does not fit the interface",
    "model-failed": "The model failed",
    "no-access": "No access without a known API key",
    "no-such-detector": "The model is not calibrated with this detector",
    "no-such-fidelity": "The model has no such fidelity",
    "no-such-model": "There is no such model",
    "not-http": "What was sent is not HTTP",
    "not-ready": "The model is not ready",
    "overloaded": "Too much work is waiting",
    "reload-disabled": "Models are not reloaded by request",
    "reload-failed": "The model could not be reloaded",
    "reload-under-way": "The model is being loaded already",
    "request-too-large": "The request is too large",
    "stopping": "The service is stopping",
    "too-many-images": "Too many images in one request",
    "unsupported-encoding": "The encoding of the content is not accepted",
    "upload-too-slow": "The request did not arrive in time",
    "worker-died": "The worker died of an image",
}
_IMAGE_STATUS: Final = {"unsupported-format": 415, "too-many-bytes": 413}


class ProblemError(HTTPException):
    """An error with a meaning of its own in HTTP.

    It is an `HTTPException` because those alone pass through FastAPI's parsing of a body unchanged.

    Args:
        status: The HTTP status.
        slug: The kind of problem, a key of the titles above.
        detail: The sentence about this occurrence.
        retry_after: Whole seconds after which trying again makes sense, if it ever does.
    """

    def __init__(self, status: int, slug: str, detail: str, *, retry_after: int | None = None) -> None:
        super().__init__(status, detail, None if retry_after is None else {"Retry-After": str(retry_after)})
        self.slug = slug


def unavailable(slug: str, detail: str) -> ProblemError:
    """The 503 of what will soon be there."""
    # A worker is back within about a second, and a stopping server's successor may be there already.
    return ProblemError(503, slug, detail, retry_after=1)


def install_problem_handlers(app: FastAPI) -> None:
    """Make every error of `app` a problem document."""
    app.add_exception_handler(HTTPException, _on_http_error)
    app.add_exception_handler(RequestValidationError, _on_invalid_request)
    app.add_exception_handler(ImageError, _on_image_error)
    app.add_exception_handler(ModelFailedError, _on_model_failure)
    app.add_exception_handler(WorkerDiedError, _on_worker_death)
    app.add_exception_handler(OverloadedError, _on_overload)
    app.add_exception_handler(StoppedError, _on_stopped)
    app.add_exception_handler(Exception, _on_anything_else)


def problem_of(status: int, slug: str | None, detail: str, request_id: str, **members: Any) -> Problem:
    """The document of a problem; see `answer_problem`."""
    return Problem(
        type="about:blank" if slug is None else f"{PROBLEM_TYPE_PREFIX}{slug}",
        title=HTTPStatus(status).phrase if slug is None else PROBLEM_TITLES[slug],
        status=status,
        detail=detail,
        request_id=request_id,
        **members,
    )


def answer_problem(
    request: Request,
    status: int,
    detail: str,
    *,
    slug: str | None = None,
    headers: Mapping[str, str] | None = None,
    **members: Any,
) -> JSONResponse:
    """The answer that tells of a problem.

    Args:
        request: The one that has it.
        status: The HTTP status.
        detail: The sentence about this occurrence.
        slug: The kind of problem, a key of `PROBLEM_TITLES`; `None` where the status says it all.
        headers: Of the answer.
        members: Further members of the document, as `Problem` has them.
    """
    request_id = str(request.state.request_id)
    request.state.problem = slug  # for the metrics
    if request.scope["path"].removeprefix(request.scope.get("root_path", "")).startswith("/v2"):
        members["error"] = detail
    return JSONResponse(
        problem_of(status, slug, detail, request_id, **members).model_dump(mode="json", exclude_none=True),
        status,
        # Set here too: the answer to an unexpected exception is sent from outside the middleware.
        {**(headers or {}), REQUEST_ID_HEADER: request_id, **_trace_header(request)},
        PROBLEM_MEDIA_TYPE,
    )


def _trace_header(request: Request) -> dict[str, str]:
    trace = getattr(request.state, "trace_response", None)
    return {} if trace is None else {TRACE_RESPONSE_HEADER: trace}


async def _on_http_error(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    slug = error.slug if isinstance(error, ProblemError) else None
    return answer_problem(request, error.status_code, error.detail, slug=slug, headers=error.headers)


async def _on_invalid_request(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    # Only place and message: the offending input may be megabytes, or not JSON at all.
    errors = [{"location": ".".join(map(str, one["loc"])), "message": one["msg"]} for one in error.errors()]
    detail = "; ".join(f"{one['location']}: {one['message']}" for one in errors)
    return answer_problem(request, 422, detail, slug="invalid-request", errors=errors)


async def _on_image_error(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, ImageError)
    status = _IMAGE_STATUS.get(error.reason, 422)
    return answer_problem(request, status, str(error), slug="image-refused", source=error.name, reason=error.reason)


async def _on_model_failure(request: Request, error: Exception) -> JSONResponse:
    _log.error("request %s: the model failed", request.state.request_id, exc_info=error)
    return answer_problem(request, 500, "the model failed on this request; the service goes on", slug="model-failed")


async def _on_worker_death(request: Request, error: Exception) -> JSONResponse:
    _log.error("request %s: %s", request.state.request_id, error)
    return answer_problem(request, 500, f"{error}; the service goes on", slug="worker-died")


async def _on_overload(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, OverloadedError)
    told = ProblemError(429, "overloaded", str(error), retry_after=error.retry_after)
    return await _on_http_error(request, told)


async def _on_stopped(request: Request, error: Exception) -> JSONResponse:
    return await _on_http_error(request, unavailable("stopping", str(error)))


async def _on_anything_else(request: Request, error: Exception) -> JSONResponse:
    _log.error("request %s: unexpected error", request.state.request_id, exc_info=error)
    # What went wrong is for the log; a stranger learns only where to look.
    detail = "an unexpected error; the log has it under the request id"
    return answer_problem(request, 500, detail, headers=SECURITY_HEADERS)  # sent from outside the middleware, too
