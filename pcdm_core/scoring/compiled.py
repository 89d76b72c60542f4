"""The networks of a cascade compiled, each for few sizes of batches."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Sequence
from typing import Any, cast

import torch
from torch import Tensor

from pcdm_core.model import Cascade, NoisePredictor, UnavailableError
from pcdm_core.scoring.shapes import graph_sizes

__all__ = ["CompiledNetworks"]

Backend = str | Callable[..., Any]
"""Of `torch.compile`."""

# Of a compiler's complaint, which may be pages.
_LONGEST = 1000


class CompiledNetworks:
    """`Cascade.observed` by compiled graphs: one for each scale and size of a ladder, whatever sizes come.

    A batch is cut into parts of these sizes; the last is padded with copies of its last image, which are dropped again.

    Args:
        cascade: In evaluation mode.
        ladder: Sizes, ascending.
        backend: See `Backend`.

    Raises:
        UnavailableError: There is nothing to compile with.
    """

    def __init__(self, cascade: Cascade, ladder: Sequence[int], *, backend: Backend = "inductor") -> None:
        if backend == "inductor" and cascade.device.type == "cpu":
            _require_compiler()
        self._transform = cascade.transform
        self._ladder = tuple(ladder)
        # Not at the top: every command would wait for it.
        from torch._dynamo import config

        # torch counts the graphs of all scales, and of all cascades, together, and makes no more than eight. (The older
        # name of the limit, which every torch since 2.4 knows.) No graph may be broken (fullgraph), so what is beyond
        # the limit would be an error, and not eager code, silently.
        config.cache_size_limit += len(cascade.predictors) * len(self._ladder)
        self._predictors = [
            torch.compile(cast(NoisePredictor, predictor).observed, dynamic=False, fullgraph=True, backend=backend)
            for predictor in cascade.predictors
        ]

    def warm_up(self, evaluate: Callable[[int, int], object]) -> None:
        """Make every graph.

        Args:
            evaluate: Called with each scale and size: evaluates such a batch, in the very way in which batches will be
                evaluated, as torch compiles anew for another precision, or another mode of gradients.

        Raises:
            UnavailableError: The networks cannot be compiled.
        """
        try:
            for size in self._ladder:
                for scale in range(1, self._transform.scales + 1):
                    evaluate(scale, size)
        except RuntimeError as error:
            told = " ".join(str(error).split())[:_LONGEST]
            raise UnavailableError(f"the networks cannot be compiled: {told}") from error

    def predicted_noise(self, scale: int, z: Tensor, gamma: Tensor, condition: Tensor | None) -> Tensor:
        """As `Cascade.predicted_noise`."""
        return self.observed(scale, z, gamma, condition)[0]

    def observed(self, scale: int, z: Tensor, gamma: Tensor, condition: Tensor | None) -> tuple[Tensor, Tensor]:
        """As `Cascade.observed`."""
        inputs = (z, gamma) if condition is None else (z, gamma, condition)
        parts: list[tuple[Tensor, Tensor]] = []
        first = 0
        for size in graph_sizes(len(z), self._ladder):
            padded = [_padded(each[first : first + size], size) for each in inputs]
            parts.append(self._predictors[scale - 1](*padded, *(None,) * (3 - len(padded))))
            first += size
        predicted, middle = (torch.cat(each)[: len(z)] for each in zip(*parts, strict=True))
        return self._transform.project(scale, predicted), middle


def _require_compiler() -> None:
    compiler = os.environ.get("CXX", "g++")
    if shutil.which(compiler) is None:
        raise UnavailableError(
            f"the networks cannot be compiled: there is no C++ compiler {compiler}; install it, or name another in CXX"
        )


def _padded(batch: Tensor, size: int) -> Tensor:
    """The batch with its last row repeated. Always a copy: torch would compile anew for another layout in memory."""
    padded = batch.new_empty((size, *batch.shape[1:]))
    padded[: len(batch)] = batch
    padded[len(batch) :] = batch[-1]
    return padded
