"""Saving and loading of cascades: a folder of `config.json` and `model.safetensors`."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import torch
from pydantic import Field, ValidationError
from safetensors import SafetensorError
from safetensors.torch import load, save

from pcdm_core.complaints import complaints
from pcdm_core.files import write_atomically
from pcdm_core.model.cascade import Cascade
from pcdm_core.model.config import CascadeConfig, Frozen

__all__ = ["FORMAT_VERSION", "CheckpointError", "load_pretrained", "model_digest", "save_pretrained"]

FORMAT_VERSION = 2
"""Raised whenever the same weights would mean another model. Version 1 showed the networks waves drowned in noise."""
_CONFIG, _WEIGHTS = "config.json", "model.safetensors"


class CheckpointError(ValueError):
    """A model folder that cannot be loaded; the message names the file and what is wrong with it."""


class _Document(Frozen):
    format_version: int
    digest: str = Field(pattern="^[0-9a-f]{64}$")
    cascade: CascadeConfig


def model_digest(config: CascadeConfig, weights: bytes) -> str:
    """SHA-256 over the configuration and the bytes of the weights: what a calibration is bound to."""
    canonical = json.dumps(config.to_dict(), sort_keys=True, separators=(",", ":")).encode()
    return hashlib.sha256(canonical + b"\0" + weights).hexdigest()


def save_pretrained(cascade: Cascade, folder: Path) -> str:
    """Write a cascade so that `load_pretrained` reads the same one back.

    The weights are written first: a configuration always names the digest of weights that are there.

    Args:
        cascade: On any device.
        folder: Made if it is not there; files of other names in it are left alone.

    Returns:
        The model's digest.
    """
    folder.mkdir(parents=True, exist_ok=True)
    weights = save({name: value.detach().cpu().contiguous() for name, value in cascade.state_dict().items()})
    digest = model_digest(cascade.config, weights)
    document = _Document(format_version=FORMAT_VERSION, digest=digest, cascade=cascade.config)
    write_atomically(folder / _WEIGHTS, weights)
    write_atomically(folder / _CONFIG, (document.model_dump_json(indent=2) + "\n").encode())
    return digest


def load_pretrained(folder: Path, device: torch.device | str = "cpu") -> tuple[Cascade, str]:
    """Read a cascade, in evaluation mode.

    Args:
        folder: As `save_pretrained` wrote it.
        device: Where the weights go.

    Returns:
        The cascade and its digest.

    Raises:
        CheckpointError: If a file is missing, damaged, of another format version, or does not belong to the other.
    """
    config_file, weights_file = folder / _CONFIG, folder / _WEIGHTS
    for file in (config_file, weights_file):
        if not file.is_file():
            raise CheckpointError(f"{folder} is not a model folder: {file.name} is missing")
    try:
        raw = json.loads(config_file.read_bytes())
    except ValueError as error:
        raise CheckpointError(f"{config_file} is not JSON: {error}") from error
    version = raw.get("format_version") if isinstance(raw, dict) else None
    if version != FORMAT_VERSION:
        raise CheckpointError(f"{config_file} has format version {version!r}; this version reads {FORMAT_VERSION}")
    try:
        document = _Document.model_validate(raw)
    except ValidationError as error:
        raise CheckpointError(f"{config_file} is not a valid configuration: {complaints(error)}") from error
    weights = weights_file.read_bytes()
    digest = model_digest(document.cascade, weights)
    if digest != document.digest:
        raise CheckpointError(
            f"{weights_file} does not belong to {config_file.name}, or one of them is damaged: "
            f"the digest is {digest[:12]}..., expected {document.digest[:12]}..."
        )
    cascade = Cascade(document.cascade)
    try:
        cascade.load_state_dict(load(weights))
    except (SafetensorError, RuntimeError) as error:
        raise CheckpointError(f"{weights_file} does not fit its configuration: {error}") from error
    return cascade.eval().to(device), digest
