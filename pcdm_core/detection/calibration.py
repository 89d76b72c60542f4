"""A detector with the scores that give its answers a meaning, bound to the exact way in which they were made.

A p-value is worth something only if the new score was made as the calibration scores were: by the same model,
detector, fidelity, preprocessing and precision. `CalibrationIdentity` names those five, and a file of another identity
refuses to load.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Final, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import BaseModel, ConfigDict, Field, JsonValue, TypeAdapter, ValidationError

from pcdm_core.complaints import complaints
from pcdm_core.detection._checks import check_rate, finite_array, finite_vector
from pcdm_core.detection.base import Detector
from pcdm_core.detection.conformal import conformal_threshold, p_values_of_ascending
from pcdm_core.detection.detectors import detector_class, detector_name
from pcdm_core.files import write_atomically

__all__ = ["Calibration", "CalibrationFileError", "CalibrationIdentity", "CalibrationMismatchError", "JsonScalar"]

FORMAT_VERSION: Final = 1
"""Of the file; raised whenever an older reader would misunderstand a newer file."""

# A list of thousands of numbers can give thousands.
_COMPLAINTS: Final = 3

# Keys of the file that the checksum is not of.
_OUTSIDE: Final = ("format_version", "checksum")
_OUTSIDE_LINES: Final = tuple(f'"{key}"'.encode() for key in _OUTSIDE)

# NaN is refused: it equals nothing, so an identity that holds one could never be loaded again.
JsonScalar = str | bool | int | Annotated[float, Field(allow_inf_nan=False)] | None


class CalibrationMismatchError(ValueError):
    """A calibration was made in another way than it is asked to be used."""


class CalibrationFileError(ValueError):
    """A calibration file is missing, damaged or of an unknown format."""


class CalibrationIdentity(BaseModel):
    """What scores depend on besides the image. Equal identities: comparable scores.

    Attributes:
        model_digest: digest of the weights and configuration of the cascade.
        detector: name in `pcdm_core.detection.DETECTORS`.
        fidelity: how the features were evaluated (method, nodes, noise seed, ...).
        preprocessing: how an image became the input of the model (size, resampling, ...).
        precision: number format of the networks, such as ``float32``.
    """

    # protected_namespaces: older pydantic warns about any field that begins with "model_".
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, protected_namespaces=())

    model_digest: str
    detector: str
    fidelity: dict[str, JsonScalar]
    preprocessing: dict[str, JsonScalar]
    precision: str

    def differences(self, other: CalibrationIdentity) -> list[str]:
        """What keeps a calibration of this identity from being used for `other`, one sentence each; empty if nothing.

        For example ``fidelity.nodes: calibrated with 10, asked for 5``. True and 1 differ, 1 and 1.0 do not.
        """
        mine, wanted = self._flat(), other._flat()
        return [
            f"{key}: calibrated with {_shown(mine, key)}, asked for {_shown(wanted, key)}"
            for key in mine | wanted
            if key not in mine or key not in wanted or not _same(mine[key], wanted[key])
        ]

    def _flat(self) -> dict[str, JsonScalar]:
        flat: dict[str, JsonScalar] = {"model_digest": self.model_digest, "detector": self.detector}
        flat |= {f"fidelity.{key}": value for key, value in sorted(self.fidelity.items())}
        flat |= {f"preprocessing.{key}": value for key, value in sorted(self.preprocessing.items())}
        return flat | {"precision": self.precision}


class _Document(BaseModel):
    """The file, in the order in which it is written: what a person looks for first, the long lists last."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    format_version: int
    checksum: str
    identity: CalibrationIdentity
    alpha: float
    provenance: dict[str, JsonValue]
    calibration_scores: list[float]
    # JSON, as it was read; looked at by the detector. To look at each of a million numbers here takes half a second.
    detector: dict[str, Any]


@dataclass(frozen=True, eq=False)
class Calibration:
    """A fitted detector and its scores on held-out in-distribution images.

    Attributes:
        identity: how features must be made for the scores to be comparable.
        detector: fitted. Its own ``offset_`` comes from the data of its fit; the decision with the promised
            false-positive rate is `is_ood`.
        calibration_scores: OOD scores of the held-out images, ascending, read-only float64, ``[M]``.
        alpha: false-positive rate used where none is named, in (0, 1).
        provenance: where the data came from (data specs, counts, date): told, never compared.

    Raises:
        ValueError: scores are not finite or not ascending, `alpha` is out of range, or `detector` is not the
            one that `identity` names.
    """

    identity: CalibrationIdentity
    detector: Detector
    calibration_scores: NDArray[np.float64]
    alpha: float = 0.05
    provenance: Mapping[str, JsonValue] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_rate(self.alpha, "alpha")
        scores = finite_vector(self.calibration_scores, "calibration scores")
        if (np.diff(scores) < 0).any():
            raise ValueError("calibration scores must be ascending")
        if detector_name(self.detector) != self.identity.detector:
            raise ValueError(
                f"the identity names the detector {self.identity.detector!r}, the detector is a "
                f"{detector_name(self.detector)!r}"
            )
        scores.flags.writeable = False
        object.__setattr__(self, "calibration_scores", scores)

    @classmethod
    def fit(
        cls,
        features_fit: ArrayLike,
        features_calibrate: ArrayLike,
        *,
        identity: CalibrationIdentity,
        alpha: float = 0.05,
        detector: Detector | None = None,
        provenance: Mapping[str, JsonValue] | None = None,
    ) -> Self:
        """Fit the detector that `identity` names on one half of the held-out images, calibrate on the other.

        The halves must not overlap: a detector scores the images it was fitted on too well, and p-values against
        such scores are too small.

        Args:
            features_fit: ``[N, D]`` with N >= 2.
            features_calibrate: ``[M, D]``. Below ``M = 1 / alpha - 1`` nothing can be flagged at `alpha`.
            identity: how both were made.
            alpha: default false-positive rate, in (0, 1).
            detector: to be fitted, with parameters of its own; by default the named one with its own defaults.
            provenance: JSON-able notes on the data.

        Raises:
            ValueError: features have the wrong shape or are not finite, or the detector is unknown.
        """
        fitted = (detector or detector_class(identity.detector)(alpha=alpha)).fit(features_fit)
        scores = np.sort(-fitted.score_samples(features_calibrate))
        return cls(identity, fitted, scores, alpha, dict(provenance or {}))

    def scores(self, features: ArrayLike) -> NDArray[np.float64]:
        """OOD scores, ``[N]``, higher for more OOD, in the unit of the detector.

        Args:
            features: ``[N, D]``, made as `identity` says.

        Raises:
            ValueError: wrong shape or not finite.
        """
        return -self.detector.score_samples(features)

    def p_values(self, scores: ArrayLike) -> NDArray[np.float64]:
        """Conformal p-values of OOD scores, see `conformal_p_values`."""
        return p_values_of_ascending(self.calibration_scores, scores)

    def threshold(self, alpha: float | None = None) -> float:
        """The OOD score from which `is_ood` holds, +inf if none, see `conformal_threshold`."""
        return conformal_threshold(self.calibration_scores, self.alpha if alpha is None else alpha)

    def is_ood(self, p_values: ArrayLike, alpha: float | None = None) -> NDArray[np.bool_]:
        """``p <= alpha``, of the shape of `p_values`.

        Raises:
            ValueError: `alpha` is outside (0, 1) or a p-value is not finite (a NaN must not pass for normal).
        """
        rate = self.alpha if alpha is None else alpha
        check_rate(rate, "alpha")
        return np.asarray(finite_array(p_values, "p-values") <= rate)

    def save(self, path: Path) -> None:
        """Write the file at once and whole; equal calibrations give equal bytes.

        Raises:
            OSError: the folder does not exist or cannot be written.
            ValueError: `provenance` holds something that is not JSON.
        """
        try:
            provenance = _PROVENANCE.validate_python(dict(self.provenance))
        except ValidationError as error:
            raise ValueError(f"provenance is not JSON: {complaints(error, most=_COMPLAINTS)}") from error
        content = {
            "identity": self.identity.model_dump(),
            "alpha": float(self.alpha),
            "provenance": provenance,
            "calibration_scores": self.calibration_scores.tolist(),
            "detector": self.detector.state(),
        }
        document = {"format_version": FORMAT_VERSION, "checksum": _checksum(content), **content}
        lines = (f"{_json(key)}: {_json(value)}" for key, value in document.items())
        write_atomically(Path(path), ("{\n" + ",\n".join(lines) + "\n}\n").encode())

    @classmethod
    def load(cls, path: Path, *, expected: CalibrationIdentity | None = None) -> Self:
        """Read a file that `save` wrote; its scores are bit for bit those of the saved calibration.

        Args:
            path: the file.
            expected: how the caller makes features; None to take the file as it is.

        Raises:
            CalibrationFileError: the file cannot be read, is damaged, or is of an unknown format version.
            CalibrationMismatchError: it was made in another way than `expected`; every difference is named.
        """
        try:
            raw = _read(Path(path))
            document = _Document.model_validate(raw)
            calibration = cls(
                document.identity,
                detector_class(document.identity.detector).from_state(document.detector),
                np.asarray(document.calibration_scores, dtype=np.float64),
                document.alpha,
                document.provenance,
            )
        except ValidationError as error:
            raise CalibrationFileError(f"calibration file {path}: {complaints(error, most=_COMPLAINTS)}") from error
        except (OSError, ValueError, RecursionError) as error:
            raise CalibrationFileError(f"calibration file {path}: {error}") from error
        if expected is not None and (differences := document.identity.differences(expected)):
            raise CalibrationMismatchError(f"calibration file {path} does not apply: {'; '.join(differences)}")
        return calibration


_PROVENANCE: Final = TypeAdapter(dict[str, JsonValue], config=ConfigDict(strict=True, allow_inf_nan=False))


def _read(path: Path) -> dict[str, Any]:
    """The top-level object of the file, its version known and its checksum right; ValueError says what is wrong."""
    text = path.read_bytes()
    raw = json.loads(text)
    if not isinstance(raw, dict):
        raise ValueError("not a JSON object")
    if "format_version" not in raw:
        raise ValueError("format_version: missing")
    # Before all else: what the other keys mean is known only if the version is.
    if raw["format_version"] != FORMAT_VERSION:
        raise ValueError(f"format version {raw['format_version']!r} is unknown, this release reads {FORMAT_VERSION}")
    missing = sorted(_Document.model_fields.keys() - raw.keys())
    if missing:
        raise ValueError(f"missing {', '.join(missing)}")
    content = {key: value for key, value in raw.items() if key not in _OUTSIDE}
    # Written anew only where the text is not as it was written, but may say the same: that takes as long as all else.
    if raw["checksum"] != _checksum_of_lines(text) and raw["checksum"] != _checksum(content):
        raise ValueError("the checksum does not match: the content was altered after it was written")
    return raw


def _checksum(content: dict[str, Any]) -> str:
    """Of the canonical JSON: Python writes a float so that it reads back as itself, so a parsed file gives its own."""
    return _digest(_json(content).encode())


def _checksum_of_lines(text: bytes) -> str:
    """That of the content of a file which is line for line as `save` writes it; of any other, of nothing in particular.

    The lines are parts of the canonical JSON, in another order.
    """
    parts = (line.removesuffix(b",").partition(b": ") for line in text.splitlines())
    lines = sorted(b"%b:%b" % (key, value) for key, between, value in parts if between and key not in _OUTSIDE_LINES)
    return _digest(b"{%b}" % b",".join(lines))


def _digest(text: bytes) -> str:
    return "sha256:" + hashlib.sha256(text).hexdigest()


def _json(value: Any) -> str:
    return json.dumps(value, sort_keys=True, allow_nan=False, separators=(",", ":"))


def _same(one: JsonScalar, two: JsonScalar) -> bool:
    return one == two and isinstance(one, bool) == isinstance(two, bool)


def _shown(values: Mapping[str, JsonScalar], key: str) -> str:
    return json.dumps(values[key], ensure_ascii=False) if key in values else "nothing"
