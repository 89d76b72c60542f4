"""The identity map: one scale, a plain variational diffusion model."""

from __future__ import annotations

from typing import ClassVar, NoReturn

from torch import Tensor

from pcdm_core.transforms.base import Shape, Transform

__all__ = ["IdentityTransform"]


class IdentityTransform(Transform):
    """``h(f) = (f,)``: S = 1 runs through the same code as every cascade (VDM, arXiv 2107.00630)."""

    name: ClassVar[str] = "identity"

    def __init__(self, image_shape: Shape, scales: int = 1) -> None:
        if scales != 1:
            raise ValueError(f"the identity has one scale, got scales = {scales}; use haar or laplacian for more")
        super().__init__(image_shape, scales)

    def analyze(self, image: Tensor) -> NoReturn:
        """Never called: there is nothing below the one scale."""
        raise AssertionError("the identity has no coarse image")

    def synthesize(self, coarse: Tensor, detail: Tensor) -> NoReturn:
        """Never called: there is nothing below the one scale."""
        raise AssertionError("the identity has no coarse image")

    def detail_shape(self, shape: Shape) -> NoReturn:
        """Never called: there is no detail."""
        raise AssertionError("the identity has no detail")

    def detail_rank(self, shape: Shape) -> NoReturn:
        """Never called: there is no detail."""
        raise AssertionError("the identity has no detail")
