"""What the service tells of its models, as types."""

from pydantic import BaseModel, ConfigDict, Field

from pcdm_core.scoring import FidelityName
from service.model_host import ModelState
from service.schemas import Finite, ServedFidelity

__all__ = ["CalibrationInfo", "ModelInfo", "ModelList"]


class _Info(BaseModel):
    model_config = ConfigDict(frozen=True)


class CalibrationInfo(_Info):
    """What p-values are ranks among."""

    size: int = Field(description="Number n of calibration scores: no p-value is below 1 / (n + 1).")
    alpha: Finite = Field(description="The calibration's own level.")
    fidelity: FidelityName = Field(
        default="fast", description="At which it was made, and at which every verdict is made."
    )


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
    alpha: Finite | None = Field(default=None, description="Level at which images are flagged here.")
    detector: str | None = Field(default=None, description="Null for a model not calibrated, which gives no verdicts.")
    calibration: CalibrationInfo | None = Field(default=None, description="Null for a model not calibrated.")


class ModelList(_Info):
    """All models of the server."""

    default: str = Field(description="Name of the model that answers requests that name none.")
    models: list[ModelInfo]
