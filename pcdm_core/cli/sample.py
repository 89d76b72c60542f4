"""`pcdm sample`."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from numpy.typing import NDArray
from PIL import Image

from pcdm_core.cli.console import (
    DEFAULT_DEVICE,
    DEFAULT_MODEL,
    DeviceOption,
    ModelOption,
    errors,
    progress,
    stdout,
)
from pcdm_core.files import write_atomically
from pcdm_core.model import load_pretrained, pick_device
from pcdm_core.sampling import SamplingMethod, image_grid, sample_images

__all__ = ["sample"]

_STEPS: dict[SamplingMethod, int] = {"ancestral": 250, "flow": 60}
_PNG_CHANNELS = (1, 3)


def sample(
    model: ModelOption = DEFAULT_MODEL,
    count: Annotated[int, typer.Option(min=1, help="Number of images.")] = 16,
    steps: Annotated[
        int | None,
        typer.Option(
            min=1,
            help=f"Steps of each scale; {_STEPS['ancestral']} by default, {_STEPS['flow']} for the flow, "
            "whose steps take four network calls each.",
        ),
    ] = None,
    method: Annotated[SamplingMethod, typer.Option(help="The reverse process, or the probability flow.")] = "ancestral",
    seed: Annotated[int, typer.Option(min=0, help="Image i of a seed is the same whatever the count.")] = 0,
    output: Annotated[Path, typer.Option(help="PNG file to write.")] = Path("samples.png"),
    device: DeviceOption = DEFAULT_DEVICE,
) -> None:
    """Draw images from a model and write them as one PNG sheet, row by row."""
    with errors():
        cascade, _ = load_pretrained(model, pick_device(device))
        channels = cascade.config.image_shape[0]
        # Whatever can be refused is refused before the images are drawn, which may take long.
        if channels not in _PNG_CHANNELS:
            raise ValueError(f"a PNG sheet takes grey or RGB images, but those of {model} have {channels} channels")
        if output.suffix.lower() != ".png":
            raise ValueError(f"the sheet is a PNG file, so the name of the output must end in .png, got {output}")
        if not output.parent.is_dir():
            raise ValueError(f"cannot write {output}: there is no folder {output.parent}")
        if output.is_dir():
            raise ValueError(f"cannot write {output}: it is a folder")
        steps = _STEPS[method] if steps is None else steps
        with progress(f"drawing {count} images", count * steps * cascade.config.scales) as update:
            images = sample_images(cascade, count, method=method, steps=steps, seed=seed, progress=update)
        write_atomically(output, _png(image_grid(images.numpy(), levels=cascade.config.levels)))
        stdout.print(f"wrote {output}", markup=False, highlight=False, soft_wrap=True)


def _png(sheet: NDArray[np.uint8]) -> bytes:
    buffer = BytesIO()
    Image.fromarray(sheet.squeeze(2) if sheet.shape[2] == 1 else sheet).save(buffer, format="PNG")
    return buffer.getvalue()
