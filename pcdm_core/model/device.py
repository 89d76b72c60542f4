"""Where networks run."""

from __future__ import annotations

import re

import torch

__all__ = ["DEVICE_NAMES", "UnavailableError", "device_name", "pick_device"]

DEVICE_NAMES = "auto, cpu, cuda or cuda:N"

_FORM = re.compile(r"auto|cpu|cuda(:[0-9]{1,3})?")


class UnavailableError(ValueError):
    """What networks were to be run with is not there; the message names it, and what is there."""


def device_name(name: str) -> str:
    """Return the name if it is one of a device, there or not; asks no driver.

    Raises:
        ValueError: It is none of `DEVICE_NAMES`.
    """
    if _FORM.fullmatch(name) is None:
        raise ValueError(f"{name!r} is no device: expected {DEVICE_NAMES}")
    return name


def pick_device(name: str) -> torch.device:
    """The device of a name. Only ``auto`` chooses: what was named is taken, or refused.

    On CUDA, convolutions of float32 stay in float32 from then on, in the whole process: torch would take them in TF32,
    with 10 bits of mantissa, and scores are compared with a calibration of the same precision.

    Args:
        name: ``auto`` (the first CUDA device if torch sees one, else the CPU), ``cpu``, ``cuda`` (the first one) or
            ``cuda:N``.

    Raises:
        ValueError: As `device_name`.
        UnavailableError: It is not there.
    """
    asked = device_name(name)
    if asked == "cpu":
        return torch.device("cpu")
    count = torch.cuda.device_count()
    if asked == "auto" and not count:
        return torch.device("cpu")
    index = int(asked.partition(":")[2] or 0)
    if index >= count:
        there = ", ".join(["cpu", *(f"cuda:{number}" for number in range(count))])
        built = "" if torch.version.cuda or torch.version.hip else "; this build of torch has no CUDA"
        raise UnavailableError(f"the device {name} is not there: there is {there}{built}")
    torch.backends.cudnn.allow_tf32 = False
    return torch.device("cuda", index)
