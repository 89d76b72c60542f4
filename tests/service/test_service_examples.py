"""The examples of the interface and the README: fitting, and what the shipped model really answers."""

import json
from pathlib import Path
from typing import Any

import pytest
from service_doubles import serving

from service.examples import EXAMPLE_REQUEST_ID, problem_example, score_example
from service.examples.__main__ import ROOT, ask, block
from service.schemas import ImageScore, Problem, ScoreAnswer

MADE_ANEW = "out of date: run make examples"


def flat(document: Any, path: str = "") -> dict[str, Any]:
    """The leaves of a JSON document, by their paths."""
    children: Any = document.items() if isinstance(document, dict) else enumerate(document)
    leaves: dict[str, Any] = {}
    for key, value in children:
        place = f"{path}/{key}"
        leaves |= flat(value, place) if isinstance(value, dict | list) else {place: value}
    return leaves


def test_the_example_of_an_answer_fits_the_answers() -> None:
    example = score_example()
    assert ScoreAnswer.model_validate(example).model_dump(mode="json") == example
    assert ImageScore.model_json_schema()["examples"] == example["results"]


def test_the_example_is_of_the_shipped_model() -> None:
    shipped = json.loads((ROOT / "weights/cifar10-haar/config.json").read_text())
    assert score_example()["digest"] == shipped["digest"], MADE_ANEW


async def test_the_shipped_model_gives_the_examples() -> None:
    score, problems = await ask()
    shown = {
        place: pytest.approx(value, rel=1e-3, abs=1e-3) if isinstance(value, float) else value
        for place, value in flat(score_example()).items()
    }
    assert flat(score) == shown, MADE_ANEW
    assert problems == {status: problem_example(int(status)) for status in ("413", "415", "422", "503")}, MADE_ANEW


async def test_the_interface_shows_each_problem_at_its_status() -> None:
    async with serving() as client:
        responses = (await client.get("/openapi.json")).json()["paths"]["/score"]["post"]["responses"]
    for status in ("413", "415", "422", "503"):
        example = responses[status]["content"]["application/problem+json"]["example"]
        assert Problem.model_validate(example).model_dump(exclude_none=True) == example
        assert (example["status"], example["request_id"]) == (int(status), EXAMPLE_REQUEST_ID)


@pytest.mark.parametrize(("name", "document"), [("answer", score_example()), ("problem", problem_example(422))])
def test_the_readme_shows_the_example(name: str, document: dict[str, Any]) -> None:
    readme = Path(ROOT, "README.md").read_text(encoding="utf-8")
    assert block(readme, name, document) == readme, MADE_ANEW


def test_a_readme_without_the_block_is_refused() -> None:
    with pytest.raises(ValueError, match="needs one block"):
        block("# pcdm\n", "answer", {})
