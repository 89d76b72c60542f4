"""The calibrations of a model: where they lie in its folder, and which is meant by a name."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TypeVar

from pcdm_core.detection import Calibration, CalibrationFileError

__all__ = ["CALIBRATION_FILE", "calibration_file", "load_calibrations", "named_detector"]

CALIBRATION_FILE = "calibration.json"
_FURTHER = "calibrations"

_S = TypeVar("_S")


def calibration_file(folder: Path, detector: str | None = None) -> Path:
    """Of the detector that judges where none is named, or of a further one of this name."""
    return folder / CALIBRATION_FILE if detector is None else folder / _FURTHER / f"{detector}.json"


def load_calibrations(folder: Path) -> list[Calibration]:
    """Of the detector that judges where none is named, then of the further ones, by name; empty if there is none.

    Raises:
        CalibrationFileError: One is damaged, or its file is not called as its detector; or there are only further ones.
    """
    first, further = calibration_file(folder), sorted((folder / _FURTHER).glob("*.json"))
    if not first.exists():
        if further:
            raise CalibrationFileError(f"calibration file {first} is missing, beside it there is {further[0]}")
        return []
    calibrations = [Calibration.load(file) for file in (first, *further)]
    default = calibrations[0].identity.detector
    for file, one in zip(further, calibrations[1:], strict=True):
        if one.identity.detector != file.stem:
            raise CalibrationFileError(f"calibration file {file} is of the detector {one.identity.detector}")
        if file.stem == default:
            raise CalibrationFileError(f"calibration file {file}: {first} has that detector already")
    return calibrations


def named_detector(known: Mapping[str, _S], name: str, *, model: str) -> _S:
    """What judges by the detector of this name, among those that a model is calibrated with.

    Raises:
        ValueError: If there is none; names those that there are.
    """
    if name not in known:
        raise ValueError(f"{model} is not calibrated with the detector {name}, only with {', '.join(known) or 'none'}")
    return known[name]
