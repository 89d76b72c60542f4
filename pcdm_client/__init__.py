"""A client of the service: scores of images from anywhere that reaches it by HTTP.

It needs httpx and pydantic only, and none of the model's own packages.
"""

from pcdm_client.answers import Errors, ImageScore, ModelInfo, ModelList, Problem, ScoreAnswer, ServedFidelity
from pcdm_client.async_client import AsyncClient
from pcdm_client.client import Client
from pcdm_client.errors import (
    ClientError,
    ConnectionFailedError,
    DeadlinePassedError,
    ImageRefusedError,
    InvalidRequestError,
    NotAllowedError,
    NotFoundError,
    NotReadyError,
    OverloadedError,
    ProblemError,
    ServiceFailedError,
    TooLargeError,
    UnexpectedAnswerError,
)
from pcdm_client.images import Image
from pcdm_client.retry import RetryPolicy

__all__ = [
    "AsyncClient",
    "Client",
    "ClientError",
    "ConnectionFailedError",
    "DeadlinePassedError",
    "Errors",
    "Image",
    "ImageRefusedError",
    "ImageScore",
    "InvalidRequestError",
    "ModelInfo",
    "ModelList",
    "NotAllowedError",
    "NotFoundError",
    "NotReadyError",
    "OverloadedError",
    "Problem",
    "ProblemError",
    "RetryPolicy",
    "ScoreAnswer",
    "ServedFidelity",
    "ServiceFailedError",
    "TooLargeError",
    "UnexpectedAnswerError",
]
