"""Pictures of where the bits of the bound are."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

from pcdm_core.files import write_atomically

__all__ = ["draw_heat_map", "save_png"]

_COLOURS = "inferno"  # equal steps in bits look like equal steps
_PANEL = 3.0  # inches of a panel's longer side
_RESOLUTION = 100  # dots per inch


def draw_heat_map(image: NDArray[np.uint8], bits: NDArray[np.float64], scales: NDArray[np.float64]) -> Figure:
    """The image, the bound over it, and the terms of each scale, panels in this order.

    Every map has a colour bar of its own, in bits per pixel, that spans its smallest to its largest value: a coarse
    scale has few bits at each pixel, and would look empty beside the finest.

    Args:
        image: What the model saw, ``[C, H, W]``.
        bits: The whole bound, bits per pixel, ``[H, W]``.
        scales: Prior and diffusion term of each scale, coarse to fine, bits per pixel, ``[S, H, W]``.
    """
    channels, height, width = image.shape
    longer = max(height, width)
    # A third of a panel more for the colour bar, half an inch more for the title.
    size = ((2 + len(scales)) * _PANEL * (width / longer + 0.35), _PANEL * height / longer + 0.5)
    figure = Figure(figsize=size, dpi=_RESOLUTION, layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(1, 2 + len(scales), squeeze=False)[0]
    for panel in panels:
        panel.set_axis_off()
    picture, whole, *parts = panels
    picture.set_title("image")
    picture.imshow(image.transpose(1, 2, 0) if channels > 1 else image[0], cmap="gray", vmin=0, vmax=255)
    # Grey, so that every hue in the panel is the map's.
    whole.imshow(image.mean(0), cmap="gray", vmin=0, vmax=255)
    _show(figure, whole, bits, f"bound: {bits.sum() / image.size:.3f} bits/dim", alpha=0.7)
    for scale, (panel, part) in enumerate(zip(parts, scales, strict=True), start=1):
        _show(figure, panel, part, f"scale {scale}: {part.sum() / image.size:.3f} bits/dim")
    return figure


def _show(figure: Figure, panel: Axes, bits: NDArray[np.float64], title: str, *, alpha: float = 1.0) -> None:
    panel.set_title(title)
    heat = panel.imshow(bits, cmap=_COLOURS, alpha=alpha, interpolation="nearest")
    figure.colorbar(heat, ax=panel, label="bits per pixel", shrink=0.9)


def save_png(figure: Figure, path: Path) -> None:
    """Write a figure as PNG, whole or not at all; the same figure gives the same bytes.

    Raises:
        OSError: If the folder does not exist or cannot be written.
    """
    content = BytesIO()
    # The name and version of the program that drew it would change with it.
    figure.savefig(content, format="png", metadata={"Software": None})
    write_atomically(path, content.getvalue())
