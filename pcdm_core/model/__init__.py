"""The cascade: configuration, noise schedules, networks, training loss."""

from __future__ import annotations

from pcdm_core.model.cascade import Cascade, CascadeLoss, squared_error
from pcdm_core.model.checkpoint import FORMAT_VERSION, CheckpointError, load_pretrained, model_digest, save_pretrained
from pcdm_core.model.config import CascadeConfig, Frozen, NetworkConfig
from pcdm_core.model.device import DEVICE_NAMES, UnavailableError, device_name, pick_device
from pcdm_core.model.lattice import lattice_residual
from pcdm_core.model.predictor import NoisePredictor, PredictsNoise
from pcdm_core.model.schedule import NoiseSchedule, alpha_sigma

__all__ = [
    "DEVICE_NAMES",
    "FORMAT_VERSION",
    "Cascade",
    "CascadeConfig",
    "CascadeLoss",
    "CheckpointError",
    "Frozen",
    "NetworkConfig",
    "NoisePredictor",
    "NoiseSchedule",
    "PredictsNoise",
    "UnavailableError",
    "alpha_sigma",
    "device_name",
    "lattice_residual",
    "load_pretrained",
    "model_digest",
    "pick_device",
    "save_pretrained",
    "squared_error",
]
