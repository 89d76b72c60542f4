"""What can go wrong, each kind an exception of its own, and how an answer becomes one."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, Final

import httpx
from pydantic import ValidationError

from pcdm_client.answers import Problem
from pcdm_client.retry import retry_after_of

__all__ = [
    "ClientError",
    "ConnectionFailedError",
    "DeadlinePassedError",
    "ImageRefusedError",
    "InvalidRequestError",
    "NotAllowedError",
    "NotFoundError",
    "NotReadyError",
    "OverloadedError",
    "ProblemError",
    "ServiceFailedError",
    "TooLargeError",
    "UnexpectedAnswerError",
    "problem_error",
]

# A page of a proxy's, say: enough of it to be recognised.
_LONGEST_DETAIL: Final = 200


class ClientError(Exception):
    """Anything that this client raises about a request that it has sent, or tried to.

    Attributes:
        passing: Whether the same request may well be answered a little later.
        retry_after: Seconds after which the service wants to be asked again; None if it did not say.
    """

    passing: bool = False
    retry_after: float | None = None


class ConnectionFailedError(ClientError):
    """The service could not be reached, or the connection broke. `__cause__` is what httpx raised.

    Every request of this client may be repeated without harm, scoring too: the same image at the same settings gets
    the same score. So it does not matter whether the service has already worked on the request that was lost.
    """

    def __init__(self, cause: httpx.TransportError) -> None:
        super().__init__(cause)
        self.__cause__ = cause
        # Others are a fault of the request or the proxy, and will be there again.
        self.passing = isinstance(cause, httpx.NetworkError | httpx.TimeoutException | httpx.RemoteProtocolError)

    def __str__(self) -> str:
        [cause] = self.args
        return f"no answer from the service: {type(cause).__name__}: {cause}"


class UnexpectedAnswerError(ClientError):
    """The answer is not one of this service's: is the URL that of something else, or the service far older?"""


class ProblemError(ClientError):
    """The service answered with an error.

    Args:
        problem: What it said.
        retry_after: Seconds after which it wants to be asked again.
    """

    def __init__(self, problem: Problem, retry_after: float | None = None) -> None:
        super().__init__(problem, retry_after)
        self.problem = problem
        self.retry_after = retry_after

    def __str__(self) -> str:
        told = self.problem
        return f"{told.status} {told.title}: {told.detail} (request {told.request_id})"

    @property
    def type(self) -> str:
        """The kind of problem, a URI."""
        return self.problem.type

    @property
    def title(self) -> str:
        """The kind of problem in words."""
        return self.problem.title

    @property
    def status(self) -> int:
        """The HTTP status."""
        return self.problem.status

    @property
    def detail(self) -> str:
        """What happened this time."""
        return self.problem.detail

    @property
    def request_id(self) -> str:
        """Under which the service's log knows the request."""
        return self.problem.request_id


class OverloadedError(ProblemError):
    """Too much work is waiting (429)."""

    passing = True


class NotReadyError(ProblemError):
    """The model is being loaded, its worker is being started, or the service is stopping (503)."""

    passing = True


class DeadlinePassedError(ProblemError):
    """The request took longer than it may (504).

    The client raises it by itself, too, when the service says nothing in time.
    """

    @classmethod
    def of_this_client(cls, seconds: float, request_id: str) -> DeadlinePassedError:
        """The error for a request that has had so many seconds."""
        detail = f"there is no answer after {seconds:g} s"
        title = "The request took longer than it may"
        return cls(
            Problem(type=_URN + "deadline-passed", title=title, status=504, detail=detail, request_id=request_id)
        )


class ServiceFailedError(ProblemError):
    """The service, or its model, failed on this request (500 and its like)."""


class InvalidRequestError(ProblemError):
    """The request is at fault, and will be when it is sent again (400 and its like)."""


class NotAllowedError(InvalidRequestError):
    """The API key is missing, or not one that may do this (401, 403)."""


class NotFoundError(InvalidRequestError):
    """There is nothing of this name (404)."""


class TooLargeError(InvalidRequestError):
    """Too many images, or too many bytes, for one request (413)."""


class ImageRefusedError(InvalidRequestError):
    """An image is broken, or not one that the service takes."""

    @property
    def source(self) -> str | None:
        """Name of the image."""
        return self.problem.source

    @property
    def reason(self) -> str | None:
        """Why it is refused, as a stable word such as `truncated`."""
        return self.problem.reason


_URN: Final = "urn:problem-type:pcdm:"
# By the status and not by the type: so are problems that are newer than this client, or not the service's at all.
_BY_STATUS: Final[Mapping[int, type[ProblemError]]] = {
    401: NotAllowedError,
    403: NotAllowedError,
    404: NotFoundError,
    413: TooLargeError,
    429: OverloadedError,
    503: NotReadyError,
    504: DeadlinePassedError,
}


def problem_error(response: httpx.Response, request_id: str) -> ProblemError:
    """Turn an answer of status 400 or above into what is to be raised.

    Args:
        response: The answer, read.
        request_id: The request's own id, for an answer that has none.
    """
    problem = _problem_of(response, request_id)
    fallback = ServiceFailedError if response.status_code >= 500 else InvalidRequestError
    kind = _BY_STATUS.get(response.status_code, fallback)
    if problem.type == _URN + "image-refused":
        kind = ImageRefusedError  # of several statuses, which are others' too
    return kind(problem, retry_after_of(response.headers))


def _problem_of(response: httpx.Response, request_id: str) -> Problem:
    known: dict[str, Any] = {"request_id": response.headers.get("x-request-id", request_id)}
    known |= {"status": response.status_code, "title": _phrase(response.status_code)}
    try:
        return Problem.model_validate(known | response.json())
    except (ValueError, TypeError, ValidationError):  # no JSON, no object, or no problem
        return Problem(**known, detail=" ".join(response.text[:_LONGEST_DETAIL].split()))


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "Unknown status"
