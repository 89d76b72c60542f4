"""The command line: one module for each command."""

from __future__ import annotations

import typer

from pcdm_core.cli.benchmark import benchmark
from pcdm_core.cli.calibrate import calibrate
from pcdm_core.cli.evaluate import evaluate
from pcdm_core.cli.key import key
from pcdm_core.cli.map import map_bound
from pcdm_core.cli.sample import sample
from pcdm_core.cli.score import score
from pcdm_core.cli.serve import serve
from pcdm_core.cli.train import train

__all__ = ["app"]

app = typer.Typer(
    name="pcdm",
    help="Hierarchical likelihoods and out-of-distribution scores from probabilistic cascaded diffusion models.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
for _command in (train, evaluate, calibrate, benchmark, score, sample, serve, key):
    app.command()(_command)
app.command("map")(map_bound)
