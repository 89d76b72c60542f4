"""`pcdm map`."""

from __future__ import annotations

import re
from io import BytesIO
from itertools import chain, count
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from numpy.typing import NDArray

from pcdm_core.cli.console import (
    DEFAULT_DEVICE,
    DEFAULT_MODEL,
    DeviceOption,
    JsonOption,
    LimitOption,
    ModelOption,
    errors,
    print_json,
    progress,
    stdout,
)
from pcdm_core.data import ImageSource, open_images
from pcdm_core.files import write_atomically
from pcdm_core.model import pick_device
from pcdm_core.scoring import BoundMap, CascadeScorer, Fidelity, bound_map

__all__ = ["map_bound"]


def map_bound(
    paths: Annotated[list[str], typer.Argument(metavar="IMAGE...", help="Images, folders, parquet or npz files.")],
    model: ModelOption = DEFAULT_MODEL,
    output: Annotated[Path, typer.Option(help="Folder for NAME-map.png of each picture.")] = Path("maps"),
    nodes: Annotated[
        int, typer.Option(min=1, max=1000, help="Noise levels of each scale; the more, the less noise in the map.")
    ] = 64,
    array: Annotated[
        bool, typer.Option("--array", help="Write NAME-map.npz too: image, bits, scales and reconstruction.")
    ] = False,
    limit: LimitOption = None,
    device: DeviceOption = DEFAULT_DEVICE,
    json: JsonOption = False,
) -> None:
    """Where in an image the bits of its bound are: a heat map over it, and one for each scale, in bits per pixel."""
    # Not at the top: every command would wait for matplotlib.
    from pcdm_core.scoring.heat_map import draw_heat_map, save_png

    with errors():
        scorer = CascadeScorer.from_pretrained(model, device=pick_device(device))
        fidelity = Fidelity.model_validate(scorer.fidelity.model_dump() | {"nodes": nodes, "rule": "gamma"})
        sources: list[ImageSource] = [open_images(path, limit=limit) for path in paths]
        results: list[dict[str, Any]] = []
        taken: set[str] = set()
        with progress("mapping", sum(len(source) for source in sources)) as update:
            for item in chain.from_iterable(sources):
                prepared = scorer.preprocessing.prepare(item.image, name=item.source)
                bound = bound_map(scorer, prepared.pixels[None], fidelity)
                output.mkdir(parents=True, exist_ok=True)
                stem = output / _free_name(item.source, taken)
                picture, arrays = stem.with_name(f"{stem.name}.png"), stem.with_name(f"{stem.name}.npz")
                save_png(draw_heat_map(prepared.pixels, bound.bits[0], bound.scales[0]), picture)
                if array:
                    write_atomically(arrays, _npz(prepared.pixels, bound))
                results.append(
                    {
                        "source": item.source,
                        "map": str(picture),
                        "array": str(arrays) if array else None,
                        "bits_per_dim": float(bound.bits.sum() / prepared.pixels.size),
                        "original_size": list(prepared.original_size),
                        "resized": prepared.resized,
                    }
                )
                update(len(results))
        if json:
            document = {"model": scorer.model_name, "digest": scorer.digest, "fidelity": fidelity.settings()}
            print_json(document | {"results": results})
            return
        for row in results:
            line = f"{row['source']}: {row['bits_per_dim']:.3f} bits/dim{' (resized)' if row['resized'] else ''}"
            files = " and ".join(file for file in (row["map"], row["array"]) if file is not None)
            stdout.print(f"{line}, wrote {files}", markup=False, highlight=False, soft_wrap=True)


def _free_name(source: str, taken: set[str]) -> str:
    """Name for the files of a picture, without suffix; added to those ``taken`` in this run.

    ``photos/cat.jpg`` becomes ``cat-map``, ``set.npz#12`` becomes ``set-12-map``; a second ``cat``, ``cat-2-map``.
    """
    stem = re.sub(r"\.\w+(?=(#\d+)?$)", "", Path(source).name)
    stem = re.sub(r"[^\w.]+", "-", stem).strip("-.") or "image"
    tries = chain([f"{stem}-map"], (f"{stem}-{number}-map" for number in count(2)))
    # Some file systems do not tell capitals apart.
    name = next(name for name in tries if name.lower() not in taken)
    taken.add(name.lower())
    return name


def _npz(image: NDArray[np.uint8], bound: BoundMap) -> bytes:
    content = BytesIO()
    maps = {"bits": bound.bits[0], "scales": bound.scales[0], "reconstruction": bound.reconstruction[0]}
    np.savez(content, image=image, **maps)
    return content.getvalue()
