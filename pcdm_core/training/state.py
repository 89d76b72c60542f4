"""What a training run must remember to go on as if it had never stopped."""

from __future__ import annotations

from dataclasses import dataclass
from math import cos, pi
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import nn

from pcdm_core.files import write_atomically
from pcdm_core.model import FORMAT_VERSION, Cascade
from pcdm_core.training.config import OptimizerConfig, TrainConfig

__all__ = ["Ema", "TrainState", "learning_rate_factor", "load_state", "make_optimizer", "save_state"]


def learning_rate_factor(step: int, steps: int, config: OptimizerConfig) -> float:
    """Share of the peak learning rate at ``step`` of ``steps``: linear warm-up, constant, quarter cosine to 0."""
    warm = min(1.0, (step + 1) / config.warmup_steps) if config.warmup_steps else 1.0
    into_decay = step - (steps - config.decay_steps)
    if into_decay <= 0 or not config.decay_steps:
        return warm
    return warm * 0.5 * (1 + cos(pi * min(1.0, into_decay / config.decay_steps)))


class Ema:
    """Exponential moving average of a cascade's weights; starts with a short memory, which grows to the wanted one."""

    def __init__(self, cascade: Cascade, decay: float) -> None:
        self.decay = decay
        self.average = Cascade(cascade.config).to(cascade.device)
        self.average.load_state_dict(cascade.state_dict())
        self.average.eval().requires_grad_(False)

    @torch.no_grad()
    def update(self, cascade: nn.Module, step: int) -> None:
        """Move the average towards the weights after ``step`` (counted from 0)."""
        decay = min(self.decay, (step + 1) / (step + 10))
        for average, value in zip(self.average.parameters(), cascade.parameters(), strict=True):
            average.lerp_(value, 1 - decay)


def make_optimizer(cascade: Cascade, config: OptimizerConfig) -> torch.optim.AdamW:
    """AdamW with two groups: the networks, and the schedules' interior without weight decay."""
    schedule = list(cascade.schedule.parameters())
    networks = list(cascade.predictors.parameters())
    groups = [
        {"params": networks, "lr": config.learning_rate, "weight_decay": config.weight_decay},
        {"params": schedule, "lr": config.schedule_learning_rate, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, betas=config.betas)


@dataclass
class TrainState:
    """All that changes during a run."""

    cascade: Cascade
    ema: Ema
    optimizer: torch.optim.AdamW
    generator: torch.Generator
    step: int = 0
    cpu_seconds: float = 0.0


def save_state(state: TrainState, config: TrainConfig, file: Path) -> None:
    """Write a resumable checkpoint as one safetensors file, atomically."""
    tensors: dict[str, torch.Tensor] = {
        "format_version": torch.tensor(FORMAT_VERSION),
        "generator": state.generator.get_state(),
        "torch_generator": torch.get_rng_state(),
        "step": torch.tensor(state.step),
        "cpu_seconds": torch.tensor(state.cpu_seconds, dtype=torch.float64),
        "config": torch.frombuffer(bytearray(_comparable(config).encode()), dtype=torch.uint8),
    }
    tensors |= {f"cascade.{name}": value for name, value in state.cascade.state_dict().items()}
    tensors |= {f"ema.{name}": value for name, value in state.ema.average.state_dict().items()}
    for index, moments in state.optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{index}.{name}": value for name, value in moments.items()}
    write_atomically(file, save({name: value.detach().cpu().contiguous() for name, value in tensors.items()}))


def load_state(state: TrainState, config: TrainConfig, file: Path) -> None:
    """Bring ``state``, freshly made from the same configuration, to where the checkpoint was written.

    Raises:
        ValueError: If the file is damaged, or was written by a run of another configuration or model format.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load

    try:
        tensors = load(file.read_bytes())
        version = int(tensors["format_version"])
        saved = tensors["config"].numpy().tobytes().decode()
    except (SafetensorError, KeyError) as error:
        raise ValueError(f"{file} is not a checkpoint of a training run: {error}") from error
    if version != FORMAT_VERSION:
        raise ValueError(
            f"{file} holds weights of model format {version}; this version trains format {FORMAT_VERSION}: "
            "start in an empty folder"
        )
    if saved != _comparable(config):
        raise ValueError(
            f"{file} was written with another configuration; go on with that one, or start in an empty folder.\n"
            f"  checkpoint: {saved}\n  asked for:  {_comparable(config)}"
        )

    def part(prefix: str) -> dict[str, torch.Tensor]:
        return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}

    state.cascade.load_state_dict(part("cascade."))
    state.ema.average.load_state_dict(part("ema."))
    moments: dict[int, dict[str, Any]] = {}
    for name, value in part("optimizer.").items():
        index, key = name.split(".", 1)
        moments.setdefault(int(index), {})[key] = value
    optimizer = state.optimizer.state_dict()
    optimizer["state"] = moments
    state.optimizer.load_state_dict(optimizer)
    state.generator.set_state(tensors["generator"])
    torch.set_rng_state(tensors["torch_generator"])
    state.step = int(tensors["step"])
    state.cpu_seconds = float(tensors["cpu_seconds"])


def _comparable(config: TrainConfig) -> str:
    """What must not change between the parts of one run: all but its length and what is only written down."""
    optional: dict[str, Any] = {
        "steps": True,
        "checkpoint_every": True,
        "log_every": True,
        "optimizer": {"decay_steps"},
    }
    return config.model_dump_json(exclude=optional)
