"""How the networks of a scorer are run."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Execution"]


@dataclass(frozen=True)
class Execution:
    """Where networks run, and as what. Scores are the same but for rounding.

    Attributes:
        device: As `pcdm_core.model.pick_device` takes it.
        compiled: By `torch.compile`, for the bound. The flow, which differentiates its networks, stays eager.
        largest_batch: Of those that are to be run, which decides about the sizes to compile for.
        threads: Of a CPU, in this process; as many as torch takes by itself if left out.
    """

    device: str = "cpu"
    compiled: bool = False
    largest_batch: int = 64
    threads: int | None = None
