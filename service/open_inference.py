"""The Open Inference Protocol, version 2: tensors in bodies, as JSON or as bytes after it. No I/O.

A body with bytes is a JSON document, whose length a header tells, followed by the tensors that say `binary_data_size`
instead of having `data`, in their order; little-endian, row-major. That is the protocol's binary tensor data extension.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from types import MappingProxyType
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from pcdm_core.complaints import complaints
from pcdm_core.scoring import Score
from service.inference_schemas import InferenceRequest, InputTensor, OutputTensor, RequestedOutput, TensorMetadata
from service.problems import ProblemError
from service.runner import ModelFailedError

__all__ = [
    "INPUT",
    "JSON_LENGTH_HEADER",
    "OUTPUTS",
    "Inference",
    "body_limit",
    "output_names",
    "parse",
    "render",
    "selected",
    "tensors_of",
]

JSON_LENGTH_HEADER: Final = "Inference-Header-Content-Length"
INPUT: Final = "image"
OUTPUTS: Final[Mapping[str, Literal["FP64", "BOOL"]]] = MappingProxyType(
    {"score": "FP64", "p_value": "FP64", "is_ood": "BOOL", "bits_per_dim": "FP64"}
)
"""What a calibrated model gives of each image, and as what."""

_UNCALIBRATED: Final = ("bits_per_dim",)
_DTYPES: Final = MappingProxyType({"FP64": np.dtype("<f8"), "BOOL": np.dtype("?")})
# Of a value in a JSON document with a line of its own, deeply indented; and of all else in it.
_VALUE_BYTES: Final = 32
_OTHER_BYTES: Final = 64 * 1024


@dataclass(frozen=True)
class Inference:
    """A request that fits a model.

    Attributes:
        document: As it was sent.
        images: uint8, `[B, C, H, W]`, B >= 1.
    """

    document: InferenceRequest
    images: NDArray[np.uint8]


def body_limit(shape: tuple[int, int, int], images: int) -> int:
    """Bytes that no honest request of so many images exceeds, as a value read from JSON takes more memory than text."""
    return _OTHER_BYTES + images * math.prod(shape) * _VALUE_BYTES


def output_names(*, calibrated: bool) -> tuple[str, ...]:
    """What a model gives of each image: verdicts only with a calibration."""
    return tuple(OUTPUTS) if calibrated else _UNCALIBRATED


def parse(body: bytes, json_length: int | None, shape: tuple[int, int, int]) -> Inference:
    """Read a request.

    Args:
        body: All of it.
        json_length: Bytes of its JSON document; None if that is all.
        shape: Channels, height and width of the model's images.

    Raises:
        ProblemError: The 400 that says what does not fit.
    """
    if json_length is not None and json_length > len(body):
        raise _misfit(f"{JSON_LENGTH_HEADER} is {json_length}, and the body has {len(body)} bytes")
    try:
        document = InferenceRequest.model_validate_json(body[:json_length])
    except ValidationError as error:
        raise _misfit(complaints(error, most=3)) from error
    if len(document.inputs) != 1 or document.inputs[0].name != INPUT:
        named = ", ".join(one.name for one in document.inputs[:3]) or "none"
        raise _misfit(f"inputs: the only one is {INPUT}, not {named}")
    [tensor] = document.inputs
    if tensor.datatype != "UINT8":
        raise _misfit(f"{INPUT}: the datatype is UINT8, not {tensor.datatype}")
    if tuple(tensor.shape[1:]) != shape or len(tensor.shape) != 4 or tensor.shape[0] < 1:
        raise _misfit(
            f"{INPUT}: the shape is {_shown([-1, *shape])} with at least one image, not {_shown(tensor.shape)}"
        )
    flat = _values(tensor, None if json_length is None else body[json_length:])
    return Inference(document, flat.reshape(tensor.shape))


def _values(tensor: InputTensor, rest: bytes | None) -> NDArray[np.uint8]:
    """All values of a tensor, in one dimension."""
    count, size = math.prod(tensor.shape), tensor.parameters.binary_data_size
    if (size is None) == (tensor.data is None):
        raise _misfit(f"{INPUT}: needs either data or the parameter binary_data_size")
    if size is None:
        if rest:
            raise _misfit(f"the body has {len(rest)} bytes after its document, which belong to no tensor")
        assert tensor.data is not None
        return _listed(tensor.data, tensor.shape)
    if rest is None:
        raise _misfit(f"{INPUT}: binary_data_size needs the header {JSON_LENGTH_HEADER}")
    if not size == len(rest) == count:
        told = f"binary_data_size is {size}, and {len(rest)} bytes follow the document"
        raise _misfit(f"{INPUT}: the shape {_shown(tensor.shape)} takes {count} bytes; {told}")
    return np.frombuffer(rest, np.uint8)


def _listed(values: list[Any], shape: list[int]) -> NDArray[np.uint8]:
    if values and isinstance(values[0], list):
        nested: list[Any] = [values]
        for size in shape:
            if any(not isinstance(one, list) or len(one) != size for one in nested):
                raise _misfit(f"{INPUT}: data is neither flat nor of the shape {_shown(shape)}")
            nested = list(chain.from_iterable(nested))
        values = nested
    if len(values) != math.prod(shape):
        raise _misfit(f"{INPUT}: the shape {_shown(shape)} takes {math.prod(shape)} values, data has {len(values)}")
    if any(type(one) is not int or not 0 <= one <= 255 for one in values):
        raise _misfit(f"{INPUT}: data is of whole numbers from 0 to 255")
    return np.array(values, np.uint8)


def selected(document: InferenceRequest, available: Sequence[str]) -> list[tuple[str, bool]]:
    """The outputs to answer with, in order, and whether each is sent as bytes.

    Raises:
        ProblemError: The 400 for an output that there is not, or that is asked for twice.
    """
    everything = [RequestedOutput(name=name) for name in available]
    asked = document.outputs or everything
    names = [one.name for one in asked]
    for name in names:
        if name not in available:
            raise _misfit(f"outputs: there is no {name}, only {', '.join(available)}")
        if names.count(name) > 1:
            raise _misfit(f"outputs: {name} is asked for twice")
    default = document.parameters.binary_data_output
    return [(one.name, default if one.parameters.binary_data is None else one.parameters.binary_data) for one in asked]


def render(scores: Sequence[Score], outputs: Sequence[tuple[str, bool]]) -> tuple[list[OutputTensor], bytes]:
    """The outputs, and the bytes of those that are sent as such.

    Args:
        scores: Of the images, with all that is asked for.
        outputs: As `selected` returns them.

    Raises:
        ModelFailedError: A value is not finite, or missing.
    """
    tensors, buffer = [], b""
    for name, binary in outputs:
        values = np.array([getattr(score, name) for score in scores], dtype=object)
        if any(value is None or not math.isfinite(value) for value in values):
            raise ModelFailedError(f"{name} is not finite")
        datatype = OUTPUTS[name]
        typed = values.astype(_DTYPES[datatype])
        data, parameters = (None, {"binary_data_size": typed.nbytes}) if binary else (typed.tolist(), None)
        buffer += typed.tobytes() if binary else b""
        tensors.append(
            OutputTensor(name=name, shape=[len(scores)], datatype=datatype, parameters=parameters, data=data)
        )
    return tensors, buffer


def tensors_of(shape: tuple[int, int, int], names: Sequence[str]) -> tuple[TensorMetadata, list[TensorMetadata]]:
    """What a model takes and gives."""
    given = [TensorMetadata(name=name, datatype=OUTPUTS[name], shape=[-1]) for name in names]
    return TensorMetadata(name=INPUT, datatype="UINT8", shape=[-1, *shape]), given


def _shown(shape: Sequence[int]) -> str:
    return json.dumps(list(shape[:8]))


def _misfit(detail: str) -> ProblemError:
    return ProblemError(400, "invalid-request", detail)
