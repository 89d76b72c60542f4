"""The training loop."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from numpy.typing import NDArray

from pcdm_core.model import Cascade, save_pretrained
from pcdm_core.training.config import TrainConfig
from pcdm_core.training.state import Ema, TrainState, learning_rate_factor, load_state, make_optimizer, save_state

__all__ = ["Progress", "train"]

_CHECKPOINT = "checkpoint.safetensors"
_VARIANCE_IMAGES = 5000


@dataclass(frozen=True)
class Progress:
    """What a step reports: its number (from 1), its bits/dim in all and per scale, and images per second so far."""

    step: int
    bits_per_dim: float
    scales: tuple[float, ...]
    images_per_second: float


def train(
    config: TrainConfig,
    images: NDArray[Any],
    folder: Path,
    *,
    on_step: Callable[[Progress], None] | None = None,
    stop_after: int | None = None,
) -> Cascade:
    """Train a cascade, or go on training it where an interrupted run in the same folder stopped.

    Args:
        config: The run.
        images: uint8, ``[N, *config.cascade.image_shape]``.
        folder: Gets ``checkpoint.safetensors`` (resumable), ``tensorboard/`` and, at every checkpoint, ``model/``
            with the
            averaged weights as `pcdm_core.model.load_pretrained` reads them.
        on_step: Called after every step.
        stop_after: Stop at this step, checkpointed, as an interruption would; the run can be taken up again.

    Returns:
        The averaged cascade.

    Raises:
        ModuleNotFoundError: Without the ``train`` extra; says what to install.
        ValueError: If the images do not fit the configuration, or the checkpoint belongs to another one.
    """
    accelerator = _accelerator(config)
    if tuple(images.shape[1:]) != config.cascade.image_shape or len(images) == 0:
        raise ValueError(f"expected uint8 images [N, {config.cascade.image_shape}], got {tuple(images.shape)}")
    from torch.utils.tensorboard import SummaryWriter

    data = torch.from_numpy(images)
    state = _start(config, data, folder, accelerator.device)
    model, optimizer = accelerator.prepare(_Loss(state.cascade), state.optimizer)
    share = accelerator.num_processes
    folder.mkdir(parents=True, exist_ok=True)
    writer = SummaryWriter(str(folder / "tensorboard"), purge_step=state.step) if accelerator.is_main_process else None
    last = config.steps if stop_after is None else min(stop_after, config.steps)
    started, first, cpu = time.monotonic(), state.step, time.process_time() - state.cpu_seconds
    state.cascade.train()
    while state.step < last:
        optimizer.param_groups[0]["lr"] = config.optimizer.learning_rate * learning_rate_factor(
            state.step, config.steps, config.optimizer
        )
        batch = _batch(data, config, state.generator)[accelerator.process_index :: share].to(accelerator.device)
        with accelerator.autocast():
            bound, schedule, scales = model(batch, state.generator)
        optimizer.zero_grad()
        accelerator.backward(bound + schedule)
        accelerator.clip_grad_norm_(state.cascade.predictors.parameters(), config.optimizer.clip_norm)
        optimizer.step()
        state.ema.update(state.cascade, state.step)
        state.step += 1
        state.cpu_seconds = time.process_time() - cpu
        values = tuple(accelerator.reduce(scales, "mean").tolist())
        speed = (state.step - first) * config.batch_size / (time.monotonic() - started)
        if not all(value == value and abs(value) != float("inf") for value in values):
            raise FloatingPointError(
                f"the loss is not finite at step {state.step}: lower the learning rate; "
                f"the last checkpoint in {folder} is unharmed"
            )
        if writer is not None:
            if state.step % config.log_every == 0:
                writer.add_scalar("bits_per_dim/total", sum(values), state.step)
                for scale, value in enumerate(values, start=1):
                    writer.add_scalar(f"bits_per_dim/scale_{scale}", value, state.step)
                writer.add_scalar("images_per_second", speed, state.step)
            if state.step % config.checkpoint_every == 0 or state.step == last:
                save_state(state, config, folder / _CHECKPOINT)
                save_pretrained(state.ema.average, folder / "model")
        if on_step is not None:
            on_step(Progress(state.step, sum(values), values, speed))
    if writer is not None:
        writer.close()
    return state.ema.average


class _Loss(torch.nn.Module):
    """The training loss as a forward pass, which is what a distributed wrapper can synchronise."""

    def __init__(self, cascade: Cascade) -> None:
        super().__init__()
        self.cascade = cascade

    def forward(self, images: torch.Tensor, generator: torch.Generator) -> tuple[torch.Tensor, ...]:
        loss = self.cascade.training_loss(images, generator)
        return loss.bound, loss.schedule, loss.scales


def _accelerator(config: TrainConfig) -> Any:
    try:
        from accelerate import Accelerator
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError('training needs accelerate and tensorboard: pip install "pcdm[train]"') from error
    return Accelerator(mixed_precision="bf16" if config.precision == "bfloat16" else "no")


def _start(config: TrainConfig, data: torch.Tensor, folder: Path, device: torch.device) -> TrainState:
    torch.manual_seed(config.seed)
    cascade = Cascade(config.cascade)
    cascade.fit_variance(data[:_VARIANCE_IMAGES])
    cascade.to(device)
    state = TrainState(
        cascade=cascade,
        ema=Ema(cascade, config.ema_decay),
        optimizer=make_optimizer(cascade, config.optimizer),
        generator=torch.Generator().manual_seed(config.seed),
    )
    if (folder / _CHECKPOINT).exists():
        load_state(state, config, folder / _CHECKPOINT)
    return state


def _batch(data: torch.Tensor, config: TrainConfig, generator: torch.Generator) -> torch.Tensor:
    """A random batch, the same on every process."""
    batch = data[torch.randint(len(data), (config.batch_size,), generator=generator)]
    if not config.flip:
        return batch
    mirrored = torch.rand(len(batch), generator=generator) < 0.5
    return torch.where(mirrored[:, None, None, None], batch.flip(-1), batch)
