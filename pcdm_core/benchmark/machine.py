"""What a benchmark ran on."""

from __future__ import annotations

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Final

import torch

__all__ = ["machine"]

_PACKAGES: Final = ("numpy", "scikit-learn", "torch", "pytorch-ood")


def machine() -> dict[str, Any]:
    """Processor, its cores, the threads that torch uses of them, and releases of what computes."""
    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "packages": {name: _release(name) for name in _PACKAGES},
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:  # not Linux
        lines = []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.processor() or platform.machine()


def _release(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
