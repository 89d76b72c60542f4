"""One optimisation step, on one process or on many."""

from __future__ import annotations

import importlib
import os
from typing import Any

import torch
from torch import Tensor, nn

from pcdm_core.model import Cascade
from pcdm_core.training.config import TrainConfig
from pcdm_core.training.state import TrainState, learning_rate_factor

__all__ = ["Stepper", "load_extra", "make_accelerator", "own_generator"]

_TENSORBOARD = "torch.utils.tensorboard"


def load_extra(module: str = _TENSORBOARD) -> Any:
    """Import a module that needs the `train` extra.

    Raises:
        ModuleNotFoundError: A package is not installed; the message says how to install it.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        message = f'training needs the package {error.name}; install it with: pip install "pcdm[train]"'
        raise ModuleNotFoundError(message, name=error.name) from error


def make_accelerator() -> Any:
    """This process' device, and its place among those that train together, as accelerate tells them.

    Raises:
        ModuleNotFoundError: Without the `train` extra.
        ValueError: If several processes were started but do not find each other.
    """
    accelerate, _ = load_extra("accelerate"), load_extra()
    # Autocast is the step's own affair: accelerate would fix its kind for the lifetime of the process.
    accelerator = accelerate.Accelerator(mixed_precision="no")
    started = int(os.environ.get("WORLD_SIZE", "1"))
    if started > accelerator.num_processes:
        # Each would take itself for the only one, and all would write to the same folder.
        raise ValueError(
            f"{started} processes were started, but without GPUs they train together only if ACCELERATE_USE_CPU=true "
            "is set in the environment"
        )
    return accelerator


def own_generator(shared: torch.Generator, process: int) -> torch.Generator:
    """Randomness of one step on one process; it also seeds torch's own generators, which dropout draws from.

    Every process draws the same two seeds from ``shared``, which therefore stays the same on all of them and is all
    that a checkpoint has to keep, and adds its number.
    """
    noise, dropout = (torch.randint(2**32, (2,), generator=shared) + process).tolist()
    torch.manual_seed(dropout)
    return torch.Generator().manual_seed(noise)


class _Loss(nn.Module):
    """The training loss as a forward pass, which is what a distributed wrapper can synchronise."""

    def __init__(self, cascade: Cascade) -> None:
        super().__init__()
        self.cascade = cascade

    def forward(self, images: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        loss = self.cascade.training_loss(images, generator)
        return loss.bound, loss.schedule, loss.scales


class Stepper:
    """Takes the optimisation steps of a run.

    Attributes:
        state: What the steps change.
        config: The run.
    """

    def __init__(self, state: TrainState, config: TrainConfig, accelerator: Any) -> None:
        self.state = state
        self.config = config
        self._accelerator = accelerator
        self._loss, self._optimizer = accelerator.prepare(_Loss(state.cascade), state.optimizer)
        state.cascade.train()

    def step(self, images: Tensor) -> Tensor:
        """Loss, gradient, clipping, weights, average.

        Args:
            images: uint8, ``[B, C, H, W]``, this process' share of the batch.

        Returns:
            The bound of each scale, bits/dim, mean over all processes, ``[S]``.

        Raises:
            FloatingPointError: If the loss or its gradient is not finite; the weights have not moved.
        """
        state, optimizer, device = self.state, self.config.optimizer, self._accelerator.device
        factor = learning_rate_factor(state.step, self.config.steps, optimizer)
        self._optimizer.param_groups[0]["lr"] = optimizer.learning_rate * factor
        generator = own_generator(state.generator, self._accelerator.process_index)
        with torch.autocast(device.type, torch.bfloat16, enabled=self.config.precision == "bfloat16"):
            bound, schedule, scales = self._loss(images.to(device), generator)
        self._optimizer.zero_grad()
        self._accelerator.backward(bound + schedule)
        norm = self._accelerator.clip_grad_norm_(state.cascade.predictors.parameters(), optimizer.clip_norm)
        mean = torch.as_tensor(self._accelerator.reduce(scales, "mean"))
        # Both are the same on every process, so that all of them stop.
        if not (norm.isfinite() and mean.isfinite().all()):
            raise FloatingPointError(
                f"the loss or its gradient is not finite at step {state.step + 1}: lower the learning rate; "
                "the last checkpoint is unharmed"
            )
        self._optimizer.step()
        state.ema.update(state.cascade, state.step)
        state.step += 1
        return mean
