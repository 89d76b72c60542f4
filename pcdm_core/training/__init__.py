"""Training of cascades."""

from __future__ import annotations

from pcdm_core.training.config import OptimizerConfig, TrainConfig, load_config, shipped_configs
from pcdm_core.training.loop import CHECKPOINT, Progress, train
from pcdm_core.training.start import load_initial, new_state
from pcdm_core.training.step import Stepper, make_accelerator

__all__ = [
    "CHECKPOINT",
    "OptimizerConfig",
    "Progress",
    "Stepper",
    "TrainConfig",
    "load_config",
    "load_initial",
    "make_accelerator",
    "new_state",
    "shipped_configs",
    "train",
]
