"""What the service answers, as types."""

from functools import lru_cache
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field

from pcdm_core.likelihood import Divergence, Method, NoiseKind, Rule
from pcdm_core.scoring import Fidelity, FidelityName
from service.examples import problem_example, score_example

__all__ = [
    "Errors",
    "Finite",
    "Health",
    "ImageScore",
    "Problem",
    "ScoreAnswer",
    "ServedFidelity",
    "problem_responses",
    "served_fidelity",
]

# A value that is not a number has no form in JSON; answering `null` for it would hide a fault.
Finite = Annotated[float, Field(allow_inf_nan=False)]

_SCORE: Final = score_example()


class _Answer(BaseModel):
    model_config = ConfigDict(frozen=True)


class Health(_Answer):
    """The server, or its model, is there."""

    status: Literal["ok"] = "ok"


class ServedFidelity(_Answer):
    """How the likelihood was computed; what the method has no use for is null."""

    name: FidelityName
    method: Method
    nodes: int = Field(description="Noise levels of each scale; for the flow, the first step is one of so many.")
    rule: Rule | None = Field(default=None, description="Variable of the bound's Gauss-Legendre nodes.")
    tolerance: Finite | None = Field(default=None, description="Of a step of the flow, nats/dim; null for equal steps.")
    divergence: Divergence | None = Field(default=None, description="How the flow's divergence is computed.")
    seed: int
    noise: NoiseKind
    replicates: int
    activations: bool = Field(default=False, description="Whether what is in the networks' middle was looked at too.")


@lru_cache(maxsize=64)  # there are few, and every answer has one
def served_fidelity(name: FidelityName, fidelity: Fidelity) -> ServedFidelity:
    """A fidelity as it is told."""
    return ServedFidelity(name=name, **fidelity.settings())


class Errors(_Answer):
    """What `bits_per_dim` may be off by, bits/dim, estimated."""

    noise: Finite | None = Field(description="Standard error by noise; null for a single replicate.")
    time: Finite | None = Field(description="By the choice of noise levels, or of solver steps; null if unknown.")


class ImageScore(_Answer):
    """The score of one image."""

    model_config = ConfigDict(json_schema_extra={"examples": _SCORE["results"]})

    source: str = Field(description="Name of the uploaded file.")
    score: Finite | None = Field(description="Higher is more out of distribution; null for a model not calibrated.")
    p_value: Finite | None = Field(description="Conformal p-value: (1 + calibration scores at least this) / (n + 1).")
    is_ood: bool | None = Field(description="Whether the p-value is at most `alpha`.")
    bits_per_dim: Finite = Field(description="Negative log-likelihood of the image as it was scored, or its bound.")
    terms: dict[str, Finite] = Field(description="The summands of `bits_per_dim`.")
    errors: Errors = Field(description="How far `bits_per_dim` can be trusted.")
    network_calls: int = Field(description="Evaluations of a network that this image took, verdict and likelihood.")
    original_size: tuple[int, int] = Field(description="Width and height of the upload, upright.")
    scored_size: tuple[int, int] = Field(description="Width and height that the model saw.")
    resized: bool = Field(description="Whether the pixels were resampled, so that all values are of the resized image.")


class ScoreAnswer(_Answer):
    """Scores of all images of a request, in the order of the upload."""

    model_config = ConfigDict(json_schema_extra={"examples": [_SCORE]})

    model: str = Field(description="Name of the model.")
    digest: str = Field(description="Digest of the model: equal digests give equal scores.")
    fidelity: ServedFidelity = Field(description="How the likelihood was estimated.")
    detector: str | None = Field(description="Name of what judged; null for a model not calibrated.")
    alpha: Finite | None = Field(description="Level at which `is_ood` was decided; null for a model not calibrated.")
    results: list[ImageScore]
    request_id: str


class Problem(_Answer):
    """An error, as RFC 9457 describes it."""

    type: str = Field(description="The kind of problem; `about:blank` where the status says it all.")
    title: str
    status: int
    detail: str = Field(description="What happened this time.")
    request_id: str
    source: str | None = Field(default=None, description="The file at fault.")
    reason: str | None = Field(default=None, description="Why an image is refused, as a stable word.")
    error: str | None = Field(default=None, description="Under /v2: `detail`, where clients of that protocol look.")
    errors: list[dict[str, str]] | None = Field(default=None, description="Each misfit: its location and message.")


def problem_responses(**descriptions: str) -> dict[int | str, dict[str, Any]]:
    """Describe the errors of a route to OpenAPI, by keywords such as `status_422="An image is refused"`."""
    return {
        status: {"description": description, "content": {"application/problem+json": _problem_content(status)}}
        for status, description in ((int(word.removeprefix("status_")), text) for word, text in descriptions.items())
    }


def _problem_content(status: int) -> dict[str, Any]:
    # At each status and not with the type: an example of one status would be shown at all.
    example = problem_example(status)
    return {"schema": Problem.model_json_schema()} | ({} if example is None else {"example": example})
