"""What a deployment may choose, each by one environment variable."""

import os
from pathlib import Path
from typing import Annotated, Final

import torch
from pydantic import AfterValidator, BeforeValidator, Field
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from pcdm_core.data import DecodeLimits
from pcdm_core.model import UnavailableError, device_name, pick_device
from pcdm_core.scoring import Execution
from service.drift import FEWEST_IMAGES
from service.keys import NamedHash, read_hashes
from service.logs import LogFormat

__all__ = ["Settings"]


def _hashes(value: object) -> object:
    return read_hashes(value) if isinstance(value, str) else value


# Each has memory of its own.
_MOST_WORKERS: Final = 4


def _is_cpu(device: str) -> bool:
    try:
        return pick_device(device).type == "cpu"
    except UnavailableError:  # which is for the worker to say
        return False


class Settings(BaseSettings):
    """Settings of one server, read from variables named `PCDM_` and the field (`PCDM_PORT`, ...).

    Attributes:
        model: Folder of the model to serve, if it is the only one.
        models: Several models, comma-separated: each a folder, `name=folder`, or a folder that holds one folder a
            model. The first answers requests that name none.
        allow_reload: Whether a request, or the signal SIGHUP, may make the server read its models anew.
        device: Where the workers run the networks, as `pcdm_core.model.pick_device` takes it.
        workers: Processes that run a model's networks, each with its share of the processor's cores. `None` for one a
            core, but no more than four; for a single one on a GPU, and of compiled networks, which have threads of
            their own.
        compile: Whether the workers compile the networks before they are up.
        host: Address to listen on.
        port: Port to listen on.
        detector: Which judges where a request names none, of those that each model is calibrated with; `None` leaves it
            to the model's own default.
        alpha: Flag an image when its p-value is at most this; `None` leaves the decision to the model's own level.
        niceness: By how much `pcdm serve` gives way to its workers where processors are scarce, 0 to 19, as nice(2).
        max_batch: Most units that run through the model together, in all workers, and most work: a solver step counts
            as all of its network evaluations.
        batch_timeout_ms: Longest time that a batch may take; then its worker is taken to hang, and replaced. A single
            step of more work than `max_batch` has as much more time.
        max_queue_cost: Most work of one model that waits or runs, in evaluations of its largest network; beyond it
            requests are refused.
        request_timeout_ms: Longest time that a request may take once it has been received; clients may ask for less.
        max_images: Most images in one request. Multipart parsing stops at 1,000 files anyway.
        max_request_bytes: Largest body of one request.
        max_total_bytes: Most bytes of all requests that are under way; beyond it they are refused, but for a lone one.
        max_image_bytes: Largest encoded image.
        max_image_pixels: Largest width times height of an image, judged before it is decompressed.
        decode_threads: Images that are decoded at the same time; each may need several bytes for every pixel.
        metrics_port: Port of `host` for metrics and health alone, where the metrics are then instead of on the main
            one; 0 takes a free one. `None` for no such port.
        drift_window: Latest images whose p-values are compared with the calibration's.
        log_format: Of `pcdm serve`: `text` for people, or `json`, a document a line.
        api_keys: Who may ask, as `NAME:HASH` entries that `pcdm key` prints, between spaces or commas. Everybody may,
            if neither these nor a file of them are set.
        api_keys_file: A file of such entries, one a line; read again when it changes.
        open_metrics: Whether metrics need no key.
        upload_timeout_ms: Longest time in which the whole body of a request has to arrive.
        upload_idle_timeout_ms: Longest time in which nothing of it arrives.
    """

    model_config = SettingsConfigDict(env_prefix="PCDM_", frozen=True, hide_input_in_errors=True)

    model: Path = Path("weights/cifar10-haar")
    models: str = ""
    allow_reload: bool = False
    device: Annotated[str, AfterValidator(device_name)] = "auto"
    workers: int | None = Field(default=None, ge=1, le=64)
    compile: bool = False
    host: str = "127.0.0.1"
    port: int = Field(default=8000, ge=0, le=65535)
    detector: str | None = None
    alpha: float | None = Field(default=None, gt=0, lt=1)
    niceness: int = Field(default=5, ge=0, le=19)
    max_batch: int = Field(default=256, ge=1)
    batch_timeout_ms: int = Field(default=120_000, ge=1)
    max_queue_cost: float = Field(default=20_000, gt=0, allow_inf_nan=False)
    request_timeout_ms: int = Field(default=300_000, ge=1)
    max_images: int = Field(default=256, ge=1, le=1000)
    max_request_bytes: int = Field(default=256 * 1024 * 1024, ge=1)
    max_total_bytes: int = Field(default=768 * 1024 * 1024, ge=1)
    max_image_bytes: int = Field(default=DecodeLimits().max_bytes, ge=1)
    max_image_pixels: int = Field(default=DecodeLimits().max_pixels, ge=1)
    decode_threads: int = Field(default_factory=lambda: min(4, os.cpu_count() or 1), ge=1)
    api_keys: Annotated[tuple[NamedHash, ...], NoDecode, BeforeValidator(_hashes)] = ()
    api_keys_file: Path | None = None
    open_metrics: bool = False
    upload_timeout_ms: int = Field(default=300_000, ge=1)
    upload_idle_timeout_ms: int = Field(default=20_000, ge=1)

    metrics_port: int | None = Field(default=None, ge=0, le=65535)
    drift_window: int = Field(default=1000, ge=FEWEST_IMAGES)
    log_format: LogFormat = "text"

    @property
    def decode_limits(self) -> DecodeLimits:
        """The limits in the decoder's own terms."""
        return DecodeLimits(max_bytes=self.max_image_bytes, max_pixels=self.max_image_pixels)

    @property
    def execution(self) -> Execution:
        """How the workers run the networks, in the core's own terms."""
        return Execution(
            device=self.device,
            compiled=self.compile,
            largest_batch=self.worker_batch,
            threads=max(1, torch.get_num_threads() // self.worker_count),
        )

    @property
    def worker_batch(self) -> int:
        """Most units, and most work, of one batch: all workers have one at the same time."""
        return max(1, self.max_batch // self.worker_count)

    @property
    def worker_count(self) -> int:
        """Processes of each model."""
        if self.workers is not None:
            return self.workers
        return min(torch.get_num_threads(), _MOST_WORKERS) if _is_cpu(self.device) and not self.compile else 1
