"""What the service tells of its models, as types."""

from pydantic import BaseModel, ConfigDict, Field

from service.model_host import ModelState
from service.schemas import Finite, ServedFidelity

__all__ = ["DetectorInfo", "ModelInfo", "ModelList"]


class _Info(BaseModel):
    model_config = ConfigDict(frozen=True)


class DetectorInfo(_Info):
    """A detector that the model is calibrated with."""

    name: str = Field(description="By which a request asks for it.")
    alpha: Finite = Field(description="Level at which it flags images here.")
    calibration_size: int = Field(description="Number n of calibration scores: no p-value is below 1 / (n + 1).")
    nodes: int = Field(description="Noise levels of each scale at which it judges, whatever fidelity is asked for.")


class ModelInfo(_Info):
    """A model; what is not known before it is loaded is null."""

    name: str
    state: ModelState = Field(description="Whether it answers requests, or why it does not.")
    reason: str | None = Field(description="The state in a sentence; null for a model that is ready.")
    digest: str | None = Field(default=None, description="Of its configuration and weights.")
    image_shape: tuple[int, int, int] | None = Field(
        default=None, description="Channels, height and width of the images that it scores."
    )
    scales: int | None = None
    parameters: int | None = Field(default=None, description="Number of trained values.")
    fidelities: list[ServedFidelity] | None = Field(
        default=None, description="What `fidelity` may be, the default first."
    )
    device: str | None = Field(default=None, description="Where its networks run; null until they do.")
    detectors: list[DetectorInfo] | None = Field(
        default=None,
        description="What `detector` may be, the default first; empty for a model not calibrated, without verdicts.",
    )


class ModelList(_Info):
    """All models of the server."""

    default: str = Field(description="Name of the model that answers requests that name none.")
    models: list[ModelInfo]
