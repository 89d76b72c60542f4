"""Training runs of seconds."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file

from pcdm_core.model import CascadeConfig, NetworkConfig
from pcdm_core.training import CHECKPOINT, OptimizerConfig, TrainConfig

PICTURES = np.random.default_rng(0).integers(0, 256, (16, 1, 8, 8), dtype=np.uint8)


def run_config(learning_rate: float = 1e-3, **changes: Any) -> TrainConfig:
    network = NetworkConfig(channels=8, blocks=1, attention=False, dropout=0.1)
    settings: dict[str, Any] = {
        "data": "tiny",
        "cascade": CascadeConfig(image_shape=(1, 8, 8), networks=(network, network)),
        "optimizer": OptimizerConfig(learning_rate=learning_rate, warmup_steps=2, decay_steps=3),
        "batch_size": 4,
        "steps": 6,
        "precision": "float32",
        "flip": True,
    }
    return TrainConfig(**(settings | changes))


def checkpoint(folder: Path) -> dict[str, torch.Tensor]:
    """All that a run remembers, but the time it took."""
    tensors = load_file(folder / CHECKPOINT)
    del tensors["cpu_seconds"]
    return tensors


def different(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> list[str]:
    """Names under which two checkpoints do not hold the same bits."""
    assert one.keys() == other.keys()
    return [name for name in one if not torch.equal(one[name], other[name])]
