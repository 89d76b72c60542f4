"""What the service answers, as types and as the examples that the interface's own page shows."""

from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field

from pcdm_core.scoring import Fidelity

__all__ = ["Health", "ImageScore", "Problem", "ScoreAnswer", "problem_responses"]

# A value that is not a number has no form in JSON; answering `null` for it would hide a fault.
Finite = Annotated[float, Field(allow_inf_nan=False)]

_RESULT: Final[dict[str, Any]] = {
    "source": "truck.png",
    "score": 21.7,
    "p_value": 0.412,
    "is_ood": False,
    "bits_per_dim": 3.86,
    "terms": {
        "reconstruction": 0.01,
        "prior_scale_1": 0.001,
        "prior_scale_2": 0.001,
        "diffusion_scale_1": 1.46,
        "diffusion_scale_2": 2.388,
    },
    "network_calls": 20,
    "original_size": [640, 480],
    "scored_size": [32, 32],
    "resized": True,
}
_PROBLEM: Final[dict[str, Any]] = {
    "type": "urn:problem-type:pcdm:image-refused",
    "title": "An image is refused",
    "status": 422,
    "detail": "truck.png: the PNG file is truncated",
    "request_id": "8f14e45fceea4e7a9d3b0c1a2f6d7e58",
    "source": "truck.png",
    "reason": "truncated",
}


class _Answer(BaseModel):
    model_config = ConfigDict(frozen=True)


class Health(_Answer):
    """The server, or its model, is there."""

    status: Literal["ok"] = "ok"


class ImageScore(_Answer):
    """The score of one image."""

    model_config = ConfigDict(json_schema_extra={"examples": [_RESULT]})

    source: str = Field(description="Name of the uploaded file.")
    score: Finite | None = Field(description="Higher is more out of distribution; null for a model not calibrated.")
    p_value: Finite | None = Field(description="Conformal p-value: (1 + calibration scores at least this) / (n + 1).")
    is_ood: bool | None = Field(description="Whether the p-value is at most `alpha`.")
    bits_per_dim: Finite = Field(description="Bound on the negative log-likelihood of the image as it was scored.")
    terms: dict[str, Finite] = Field(description="The summands of `bits_per_dim`.")
    network_calls: int = Field(description="Evaluations of a network that this image took.")
    original_size: tuple[int, int] = Field(description="Width and height of the upload, upright.")
    scored_size: tuple[int, int] = Field(description="Width and height that the model saw.")
    resized: bool = Field(description="Whether the pixels were resampled, so that all values are of the resized image.")


class ScoreAnswer(_Answer):
    """Scores of all images of a request, in the order of the upload."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "model": "cifar10-haar",
                    "digest": "sha256:2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae",
                    "fidelity": {"method": "bound", "nodes": 10, "seed": 0, "noise": "shared", "replicates": 1},
                    "alpha": 0.05,
                    "results": [_RESULT],
                    "request_id": "8f14e45fceea4e7a9d3b0c1a2f6d7e58",
                }
            ]
        }
    )

    model: str = Field(description="Name of the model.")
    digest: str = Field(description="Digest of the model: equal digests give equal scores.")
    fidelity: Fidelity = Field(description="How the likelihood was estimated.")
    alpha: Finite | None = Field(description="Level at which `is_ood` was decided; null for a model not calibrated.")
    results: list[ImageScore]
    request_id: str


class Problem(_Answer):
    """An error, as RFC 9457 describes it."""

    model_config = ConfigDict(json_schema_extra={"examples": [_PROBLEM]})

    type: str = Field(description="The kind of problem; `about:blank` where the status says it all.")
    title: str
    status: int
    detail: str = Field(description="What happened this time.")
    request_id: str
    source: str | None = Field(default=None, description="The file at fault.")
    reason: str | None = Field(default=None, description="Why an image is refused, as a stable word.")
    errors: list[dict[str, str]] | None = Field(default=None, description="Each misfit: its location and message.")


def problem_responses(**descriptions: str) -> dict[int | str, dict[str, Any]]:
    """Describe the errors of a route to OpenAPI, by keywords such as `status_422="An image is refused"`."""
    content = {"application/problem+json": {"schema": Problem.model_json_schema()}}
    return {
        int(status.removeprefix("status_")): {"description": description, "content": content}
        for status, description in descriptions.items()
    }
