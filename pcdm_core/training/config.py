"""Frozen configuration of a training run, read from TOML."""

from __future__ import annotations

import tomllib
from importlib import resources
from pathlib import Path
from typing import Literal

from pydantic import Field, ValidationError

from pcdm_core.complaints import complaints
from pcdm_core.model import CascadeConfig, Frozen

__all__ = ["OptimizerConfig", "TrainConfig", "load_config", "shipped_configs"]


class OptimizerConfig(Frozen):
    """AdamW with warm-up and a decay that begins when it is wanted.

    Attributes:
        learning_rate: Peak learning rate of the networks.
        schedule_learning_rate: That of the noise schedules' interior, constant.
        betas: Decay of AdamW's first and second moments.
        weight_decay: Decoupled weight decay of the networks.
        warmup_steps: Steps over which the learning rate rises linearly from 0.
        decay_steps: Last steps of the run, over which it falls to 0 along a quarter cosine; 0 keeps it constant.
        clip_norm: Largest norm of the gradient of the bound in bits per dimension.
    """

    learning_rate: float = Field(2e-4, gt=0)
    schedule_learning_rate: float = Field(1e-2, gt=0)
    betas: tuple[float, float] = (0.9, 0.99)
    weight_decay: float = Field(0.01, ge=0)
    warmup_steps: int = Field(100, ge=0)
    decay_steps: int = Field(0, ge=0)
    clip_norm: float = Field(1.0, gt=0)


class TrainConfig(Frozen):
    """One training run.

    Attributes:
        data: Image source, as `pcdm_core.data.open_images` takes it.
        cascade: The model.
        optimizer: How its weights move.
        batch_size: Images a step, over all processes.
        steps: Length of the run.
        ema_decay: Decay of the exponential moving average of the weights, which is what is saved.
        precision: Autocast of the networks' inner part; the input stage stays float32 either way.
        flip: Mirror every other image left to right.
        seed: Of weights, order, noise.
        checkpoint_every: Steps between resumable checkpoints.
        log_every: Steps between TensorBoard scalars.
    """

    data: str
    cascade: CascadeConfig
    optimizer: OptimizerConfig = OptimizerConfig()
    batch_size: int = Field(64, ge=1)
    steps: int = Field(ge=1)
    ema_decay: float = Field(0.9999, ge=0, lt=1)
    precision: Literal["float32", "bfloat16"] = "bfloat16"
    flip: bool = False
    seed: int = Field(0, ge=0)
    checkpoint_every: int = Field(500, ge=1)
    log_every: int = Field(20, ge=1)


def shipped_configs() -> dict[str, Path]:
    """Configurations that come with the package, by name."""
    folder = Path(str(resources.files("pcdm_core.configs")))
    return {file.stem: file for file in sorted(folder.glob("*.toml"))}


def load_config(name: str | Path) -> TrainConfig:
    """Read a configuration by its shipped name or its path.

    Raises:
        FileNotFoundError: If there is neither such a name nor such a file.
        ValueError: If the file is not TOML or a value in it is wrong; the message names both.
    """
    shipped = shipped_configs()
    file = shipped.get(str(name), Path(name))
    if not file.is_file():
        raise FileNotFoundError(f"no configuration {str(name)!r}: give a TOML file, or one of {', '.join(shipped)}")
    try:
        return TrainConfig.model_validate(tomllib.loads(file.read_text("utf-8")))
    except ValidationError as error:
        raise ValueError(f"{file} is not a training configuration: {complaints(error)}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{file} is not a training configuration: {error}") from error
