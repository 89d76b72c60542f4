"""Training of cascades."""

from __future__ import annotations

from pcdm_core.training.config import OptimizerConfig, TrainConfig, load_config, shipped_configs
from pcdm_core.training.loop import Progress, train

__all__ = ["OptimizerConfig", "Progress", "TrainConfig", "load_config", "shipped_configs", "train"]
