"""The command line, in this process."""

from typer.testing import CliRunner

from pcdm_core.cli import app


def invoke(*arguments: object) -> tuple[int, str, str]:
    """Exit code, output and errors of a command, on a terminal that is wide enough for tables."""
    result = CliRunner().invoke(app, [str(argument) for argument in arguments], env={"COLUMNS": "200"})
    return result.exit_code, result.stdout, result.stderr
