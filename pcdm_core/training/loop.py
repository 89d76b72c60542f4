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
from pcdm_core.training.start import new_state
from pcdm_core.training.state import load_state, save_state
from pcdm_core.training.step import Stepper, load_extra, make_accelerator

__all__ = ["CHECKPOINT", "Progress", "train"]

CHECKPOINT = "checkpoint.safetensors"


@dataclass(frozen=True)
class Progress:
    """What a step reports.

    Attributes:
        step: Its number, from 1.
        bits_per_dim: Its bound, without the terms that have no parameters.
        scales: The part of it that each scale has.
        images_per_second: Speed since this process took up the run.
        cpu_seconds: Processor time that the run has taken so far, over all its parts.
    """

    step: int
    bits_per_dim: float
    scales: tuple[float, ...]
    images_per_second: float
    cpu_seconds: float


def train(
    config: TrainConfig,
    images: NDArray[Any],
    folder: Path,
    *,
    initial: Cascade | None = None,
    on_step: Callable[[Progress], None] | None = None,
    stop_after: int | None = None,
) -> Cascade:
    """Train a cascade, or go on training it where an interrupted run in the same folder stopped.

    Processes that accelerate's launcher or torchrun started train together; only the main one writes and reports.

    Args:
        config: The run.
        images: uint8, ``[N, *config.cascade.image_shape]``, the same on every process.
        folder: Gets ``checkpoint.safetensors`` (resumable), ``tensorboard/`` and, at every checkpoint, ``model/`` with
            the averaged weights as `pcdm_core.model.load_pretrained` reads them.
        initial: A new run begins with the weights of this cascade; a run that goes on has its own.
        on_step: Called after every step, on the main process.
        stop_after: Stop at this step, checkpointed, as an interruption would; the run can be taken up again.

    Returns:
        The averaged cascade.

    Raises:
        ModuleNotFoundError: Without the ``train`` extra; says what to install.
        ValueError: If the images, ``initial`` or the number of processes do not fit the configuration, or the
            checkpoint belongs to another one.
        FloatingPointError: If the loss or its gradient is not finite; the last checkpoint is unharmed.
    """
    accelerator = make_accelerator()
    process, processes = accelerator.process_index, accelerator.num_processes
    if tuple(images.shape[1:]) != config.cascade.image_shape or len(images) == 0:
        raise ValueError(f"expected uint8 images [N, {config.cascade.image_shape}], got {tuple(images.shape)}")
    if images.max() >= config.cascade.levels:
        raise ValueError(
            f"the configuration's {config.cascade.levels} levels are pixels of 0 to {config.cascade.levels - 1}; "
            f"the images hold a pixel of {images.max()}"
        )
    if config.batch_size % processes:
        raise ValueError(f"{processes} processes cannot share a batch of {config.batch_size} images equally")
    data = torch.from_numpy(images)
    state = new_state(config, data, accelerator.device, initial)
    if (folder / CHECKPOINT).exists():
        load_state(state, config, folder / CHECKPOINT)
    stepper = Stepper(state, config, accelerator)
    folder.mkdir(parents=True, exist_ok=True)
    # What an interrupted run logged after its last checkpoint is hidden: it is about to be logged again.
    writer = (
        load_extra().SummaryWriter(str(folder / "tensorboard"), purge_step=state.step + 1)
        if accelerator.is_main_process
        else None
    )
    last = config.steps if stop_after is None else min(stop_after, config.steps)
    started, first, cpu = time.monotonic(), state.step, time.process_time() - state.cpu_seconds
    while state.step < last:
        values = tuple(stepper.step(_batch(data, config, state.generator, process, processes)).tolist())
        state.cpu_seconds = time.process_time() - cpu
        speed = (state.step - first) * config.batch_size / (time.monotonic() - started)
        if writer is None:  # only the main process writes and reports
            continue
        if state.step % config.log_every == 0:
            writer.add_scalar("bits_per_dim/total", sum(values), state.step)
            for scale, value in enumerate(values, start=1):
                writer.add_scalar(f"bits_per_dim/scale_{scale}", value, state.step)
            writer.add_scalar("images_per_second", speed, state.step)
        if state.step % config.checkpoint_every == 0 or state.step == last:
            save_state(state, config, folder / CHECKPOINT)
            save_pretrained(state.ema.average, folder / "model")
        if on_step is not None:
            on_step(Progress(state.step, sum(values), values, speed, state.cpu_seconds))
    if writer is not None:
        writer.close()
    # No process returns, and reads the folder, before the main one has written it.
    accelerator.wait_for_everyone()
    return state.ema.average


def _batch(
    data: torch.Tensor, config: TrainConfig, generator: torch.Generator, process: int, processes: int
) -> torch.Tensor:
    """One process' share of a random batch, which all processes draw alike."""
    share = slice(process, None, processes)
    batch = data[torch.randint(len(data), (config.batch_size,), generator=generator)[share]]
    if not config.flip:
        return batch
    mirrored = (torch.rand(config.batch_size, generator=generator) < 0.5)[share]
    return torch.where(mirrored[:, None, None, None], batch.flip(-1), batch)
