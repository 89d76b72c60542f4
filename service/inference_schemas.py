"""The documents of the Open Inference Protocol, version 2, as types."""

from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field

from pcdm_core.scoring import FidelityName

__all__ = [
    "InferenceRequest",
    "InferenceResponse",
    "InputParameters",
    "InputTensor",
    "ModelMetadata",
    "ModelReady",
    "OutputParameters",
    "OutputTensor",
    "RequestParameters",
    "RequestedOutput",
    "ServerLive",
    "ServerMetadata",
    "ServerReady",
    "TensorMetadata",
]

# Of a dimension. A number of thousands of digits could not even be told in a refusal.
_LARGEST_SIZE: Final = 2**31 - 1


class _Document(BaseModel):
    # The protocol leaves parameters open, and its extensions add members: those that mean nothing here are let pass.
    # Some members are called model_something, which pydantic would keep for itself.
    model_config = ConfigDict(frozen=True, protected_namespaces=())


class InputParameters(_Document):
    """Parameters of an input."""

    binary_data_size: int | None = Field(
        default=None, ge=0, description="Bytes of this tensor after the JSON document, instead of `data`."
    )


class InputTensor(_Document):
    """The images."""

    name: str = Field(max_length=100, description="`image`.")
    shape: list[Annotated[int, Field(ge=0, le=_LARGEST_SIZE)]] = Field(description="Images, channels, height, width.")
    datatype: str = Field(max_length=100, description="`UINT8`.")
    parameters: InputParameters = InputParameters()
    data: list[Any] | None = Field(
        default=None, description="Values from 0 to 255, nested or flat, in row-major order."
    )


class OutputParameters(_Document):
    """Parameters of an output that is asked for."""

    binary_data: bool | None = Field(default=None, description="Answer with bytes after the JSON document.")
    classification: None = Field(default=None, description="Not supported.")


class RequestedOutput(_Document):
    """An output that is asked for."""

    name: str = Field(max_length=100)
    parameters: OutputParameters = OutputParameters()


class RequestParameters(_Document):
    """Parameters of a request."""

    fidelity: FidelityName = Field(
        default="fast", description="How carefully the likelihood is computed; the verdict is the same at all."
    )
    detector: str | None = Field(
        default=None, max_length=100, description="Name of the detector that judges; the model's default if left out."
    )
    timeout: int | None = Field(
        default=None, ge=1, description="Microseconds after which the answer is of no use any more."
    )
    binary_data_output: bool = Field(
        default=False, description="Answer with bytes, for outputs that do not say otherwise."
    )


class InferenceRequest(_Document):
    """Images to score."""

    id: str | None = Field(default=None, description="Repeated in the answer.")
    parameters: RequestParameters = RequestParameters()
    inputs: list[InputTensor]
    outputs: list[RequestedOutput] | None = Field(default=None, description="What to answer; all if left out.")


class OutputTensor(_Document):
    """A value for each image."""

    name: str
    shape: list[int]
    datatype: Literal["FP64", "BOOL"]
    parameters: dict[str, int] | None = Field(default=None, description="`binary_data_size`, where there is no `data`.")
    data: list[float] | list[bool] | None = None


class InferenceResponse(_Document):
    """Scores of the images."""

    model_name: str
    id: str | None = None
    parameters: dict[str, str | float] = Field(
        description="`digest` of the model, `fidelity`, and, for a calibrated one, `detector` and `alpha`."
    )
    outputs: list[OutputTensor]


class TensorMetadata(_Document):
    """What a tensor is like; -1 is any size."""

    name: str
    datatype: Literal["UINT8", "FP64", "BOOL"]
    shape: list[int]


class ModelMetadata(_Document):
    """What a model takes and gives."""

    name: str
    platform: str = "pcdm"
    inputs: list[TensorMetadata]
    outputs: list[TensorMetadata] = Field(description="A model not calibrated gives `bits_per_dim` alone.")


class ServerMetadata(_Document):
    """What the server is."""

    name: str = "pcdm"
    version: str
    extensions: list[str] = ["binary_tensor_data"]


class ServerLive(_Document):
    """The server is alive."""

    live: Literal[True] = True


class ServerReady(_Document):
    """Every model is ready."""

    ready: Literal[True] = True


class ModelReady(_Document):
    """The model is ready."""

    name: str
    ready: Literal[True] = True
