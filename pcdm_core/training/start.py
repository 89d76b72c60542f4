"""How a run begins."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pcdm_core.model import Cascade, CascadeConfig, load_pretrained
from pcdm_core.training.config import TrainConfig
from pcdm_core.training.state import Ema, TrainState, make_optimizer

__all__ = ["load_initial", "new_state"]

_VARIANCE_IMAGES = 5000


def new_state(
    config: TrainConfig, images: Tensor, device: torch.device | str = "cpu", initial: Cascade | None = None
) -> TrainState:
    """State of a run before its first step.

    Args:
        config: The run.
        images: Training images, uint8, ``[N, C, H, W]``; the variances of their coefficients scale the networks.
        device: Where the weights go.
        initial: Begin with the weights, and the variances, of this cascade instead.

    Raises:
        ValueError: If ``initial`` is another cascade than the configuration's; names what differs.
    """
    torch.manual_seed(config.seed)
    cascade = Cascade(config.cascade)
    if initial is None:
        cascade.fit_variance(images[:_VARIANCE_IMAGES])
    else:
        _check_same(initial.config, config.cascade, "the initial model")
        cascade.load_state_dict(initial.state_dict())
    cascade.to(device)
    return TrainState(
        cascade=cascade,
        ema=Ema(cascade, config.ema_decay),
        optimizer=make_optimizer(cascade, config.optimizer),
        generator=torch.Generator().manual_seed(config.seed),
    )


def load_initial(folder: Path, config: CascadeConfig) -> Cascade:
    """Read a saved model for a new run to begin with.

    Args:
        folder: As `pcdm_core.model.save_pretrained` wrote it.
        config: The new run's cascade.

    Raises:
        ValueError: If there is no readable model, or it is another cascade; names what differs.
    """
    cascade, _ = load_pretrained(folder)
    _check_same(cascade.config, config, str(folder))
    return cascade


def _check_same(saved: CascadeConfig, wanted: CascadeConfig, name: str) -> None:
    there, here = saved.to_dict(), wanted.to_dict()
    networks = list(zip(there.pop("networks"), here.pop("networks"), strict=False))
    found = _changes(there, here)
    if saved.scales != wanted.scales:
        found.append(f"scales: {saved.scales} there, {wanted.scales} here")
    else:
        for scale, (one, other) in enumerate(networks, start=1):
            found += [f"scale {scale}, {change}" for change in _changes(one, other)]
    if found:
        raise ValueError(f"{name} is another cascade than the configuration's: {'; '.join(found)}")


def _changes(there: dict[str, Any], here: dict[str, Any]) -> list[str]:
    return [f"{key}: {there[key]} there, {here[key]} here" for key in here if there[key] != here[key]]
