"""`pcdm train`."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from pcdm_core.cli.console import errors, progress, stdout
from pcdm_core.data import Preprocessing, load_array, open_images
from pcdm_core.training import CHECKPOINT, Progress, load_config, load_initial, make_accelerator
from pcdm_core.training import train as run

__all__ = ["train"]


def train(
    config: Annotated[str, typer.Argument(help="Name of a shipped configuration, or a TOML file.")],
    output: Annotated[Path | None, typer.Option(help="Folder of the run; runs/NAME by default.")] = None,
    data: Annotated[str | None, typer.Option(help="Train on this source instead of the configuration's.")] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="Length of the run, instead of the configuration's.")] = None,
    init_from: Annotated[
        Path | None,
        typer.Option(
            help="Begin with the weights of this model folder, of the same cascade; "
            "a run that already has a checkpoint goes on from that."
        ),
    ] = None,
) -> None:
    """Train a cascade; a run that was interrupted goes on where its last checkpoint was written.

    On several GPUs: accelerate launch --multi_gpu --num_processes N --no_python pcdm train CONFIG, or torchrun.
    """
    with errors():
        settings = load_config(config)
        changes = {key: value for key, value in (("data", data), ("steps", steps)) if value is not None}
        settings = settings.model_validate(settings.model_dump() | changes)
        folder = output if output is not None else Path("runs") / Path(config).stem
        # Whatever can be refused is refused before the images are read, which may take long.
        main = make_accelerator().is_main_process
        out = stdout if main else Console(quiet=True)
        initial = None
        if init_from is not None and (folder / CHECKPOINT).exists():
            # Not an error: a job that is started again after an interruption has the same command line.
            out.print(f"going on from the checkpoint in {folder}; --init-from is only for a new run", markup=False)
        elif init_from is not None:
            initial = load_initial(init_from, settings.cascade)
        channels, height, width = settings.cascade.image_shape
        preprocessing = Preprocessing.model_validate({"channels": channels, "height": height, "width": width})
        source = open_images(settings.data)
        with progress(f"reading {settings.data}", len(source)) if main else nullcontext() as update:
            images = load_array(source, preprocessing, progress=update)
        columns = (
            TextColumn("training"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[bits]:.3f} bits/dim, {task.fields[speed]:.0f} images/s"),
            TimeRemainingColumn(),
        )
        with Bar(*columns, console=out) as bar:
            task = bar.add_task("training", total=settings.steps, bits=float("nan"), speed=0.0)
            smooth: float | None = None

            def show(step: Progress) -> None:
                nonlocal smooth
                smooth = step.bits_per_dim if smooth is None else 0.98 * smooth + 0.02 * step.bits_per_dim
                bar.update(task, completed=step.step, bits=smooth, speed=step.images_per_second)

            try:
                run(settings, images, folder, initial=initial, on_step=show)
            except FloatingPointError as error:
                raise ValueError(str(error)) from error
        out.print(f"the averaged model is in {folder / 'model'}")
