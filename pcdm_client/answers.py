"""What the service answers, as types.

A field that this version does not know is left out and not refused, and words such as the name of a method are not
checked against a list: a client goes on working with a service that is newer than itself.
"""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict

__all__ = ["Errors", "ImageScore", "ModelInfo", "ModelList", "Problem", "ScoreAnswer", "ServedFidelity"]


class _Answer(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class ServedFidelity(_Answer):
    """How the likelihood was computed; what the method has no use for is None.

    Attributes:
        name: The fidelity that was asked for.
        method: `bound` or `flow`.
        nodes: Noise levels of each scale; for the flow, the first step is one of so many.
        rule: Variable of the bound's nodes.
        tolerance: Of a step of the flow, nats/dim.
        divergence: How the flow's divergence is computed.
        seed: Of the noise.
        noise: Which images share their noise.
        replicates: Draws of the noise for each image.
        activations: Whether what is in the networks' middle was looked at too.
    """

    name: str
    method: str
    nodes: int
    rule: str | None = None
    tolerance: float | None = None
    divergence: str | None = None
    seed: int
    noise: str
    replicates: int
    activations: bool = False


class Errors(_Answer):
    """What `bits_per_dim` may be off by, bits/dim, estimated.

    Attributes:
        noise: Standard error by noise; None for a single replicate.
        time: By the choice of noise levels, or of solver steps; None if unknown.
    """

    noise: float | None
    time: float | None


class ImageScore(_Answer):
    """The score of one image.

    Attributes:
        source: Name of the image, as it was sent.
        score: Higher is more out of distribution; None for a model that is not calibrated.
        p_value: Conformal p-value, in (0, 1]; None for a model that is not calibrated.
        is_ood: Whether the p-value is at most the answer's `alpha`; None for a model that is not calibrated.
        bits_per_dim: Negative log-likelihood of the image as it was scored, or its bound, bits/dim.
        terms: The summands of `bits_per_dim`.
        errors: How far `bits_per_dim` can be trusted.
        network_calls: Evaluations of a network that this image took.
        original_size: Width and height of the upload, upright.
        scored_size: Width and height that the model saw.
        resized: Whether the pixels were resampled, so that all values are of the resized image.
    """

    source: str
    score: float | None
    p_value: float | None
    is_ood: bool | None
    bits_per_dim: float
    terms: dict[str, float]
    errors: Errors
    network_calls: int
    original_size: tuple[int, int]
    scored_size: tuple[int, int]
    resized: bool


class ScoreAnswer(_Answer):
    """Scores of all images of a request, in the order in which they were given.

    Attributes:
        model: Name of the model.
        digest: Digest of the model: equal digests give equal scores.
        fidelity: How the likelihood was estimated.
        detector: Name of what judged; None for a model that is not calibrated.
        alpha: Level at which `is_ood` was decided; None for a model that is not calibrated.
        results: One score for each image.
        request_id: Under which the service's log knows the request.
    """

    model: str
    digest: str
    fidelity: ServedFidelity
    detector: str | None = None
    alpha: float | None
    results: tuple[ImageScore, ...]
    request_id: str


class ModelInfo(_Answer):
    """A model of the service. What the service says beyond the fields here is kept, in `model_extra`.

    Attributes:
        name: By which a request chooses the model.
        digest: Digest of the model; None while it is not known.
        image_shape: Channels, height and width; None while they are not known.
        state: Whether it answers requests, as a word of the service's.
        reason: The state in a sentence; None for a model that answers.
    """

    model_config = ConfigDict(frozen=True, extra="allow")

    name: str
    digest: str | None = None
    image_shape: tuple[int, ...] | None = None
    state: str | None = None
    reason: str | None = None


class ModelList(_Answer):
    """All models of the service.

    Attributes:
        default: Name of the model that answers requests that name none; None if the service does not say.
        models: What is known of each.
    """

    default: str | None = None
    models: tuple[ModelInfo, ...]


class Problem(_Answer):
    """An error, as RFC 9457 describes it.

    Attributes:
        type: The kind of problem, a URI; `about:blank` where the status says it all.
        title: The kind of problem in words.
        status: The HTTP status.
        detail: What happened this time.
        request_id: Under which the service's log knows the request.
        source: The file at fault, if there is one.
        reason: Why an image is refused, as a stable word.
        errors: Each misfit of a request, in the service's own terms.
        error: The detail once more, where the Open Inference Protocol wants it.
    """

    type: str = "about:blank"
    title: str
    status: int
    detail: str = ""
    request_id: str
    source: str | None = None
    reason: str | None = None
    errors: tuple[dict[str, Any], ...] | None = None
    error: str | None = None
