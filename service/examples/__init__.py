"""Real answers of the shipped model, shown on the interface's own page and in the README.

`make examples` makes them anew, after every change of the shipped model or of the answers' form.
"""

import json
from importlib import resources
from typing import Any, Final

__all__ = ["EXAMPLE_REQUEST_ID", "PROBLEMS_FILE", "SCORE_FILE", "problem_example", "score_example"]

# Ids are random: a fixed one keeps the files from changing without a reason.
EXAMPLE_REQUEST_ID: Final = "8f14e45fceea4e7a9d3b0c1a2f6d7e58"
SCORE_FILE: Final = "score.json"
PROBLEMS_FILE: Final = "problems.json"


def score_example() -> dict[str, Any]:
    """The answer to the sample image that is in the README's request."""
    return _read(SCORE_FILE)


def problem_example(status: int) -> dict[str, Any] | None:
    """A problem document of this status; `None` where no honest server can be made to give one."""
    example: dict[str, Any] | None = _read(PROBLEMS_FILE).get(str(status))
    return example


def _read(name: str) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(resources.files(__name__).joinpath(name).read_text(encoding="utf-8"))
    return document
