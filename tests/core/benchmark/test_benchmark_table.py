"""The shipped table says what its document says, with published figures beside it."""

import json
from pathlib import Path
from typing import Any

import pytest

from pcdm_core.benchmark.table import END, START, page, readme_block, replaced

ROOT = Path(__file__).parents[3]


@pytest.fixture
def document() -> Any:
    return json.loads((ROOT / "docs" / "benchmark.json").read_text(encoding="utf-8"))


def test_the_shipped_page_is_that_of_the_shipped_document(document: Any) -> None:
    assert page(document) == (ROOT / "docs" / "benchmark.md").read_text(encoding="utf-8")


def test_the_readme_has_the_block_of_the_shipped_document(document: Any) -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert START in readme
    assert END in readme
    assert replaced(readme, readme_block(document)) == readme


def test_published_figures_stand_under_their_own_sets(document: Any) -> None:
    [row] = [line for line in readme_block(document).splitlines() if line.startswith("| *MSMA*")]
    cells = [cell.strip() for cell in row.split("|")[1:-1]]
    sources = [one["source"] for one in document["out"]]
    assert cells[4 + sources.index("svhn:test")] == "*0.957*"
    assert cells[4 + sources.index("cifar100:test")] == "*0.615*"
    assert sum(bool(cell) for cell in cells[4:]) == 2


def test_published_figures_are_not_those_of_other_images(document: Any) -> None:
    document["in"]["source"] = "digits"
    assert "*MSMA*" not in readme_block(document)


def test_images_that_two_sets_share_are_told(document: Any) -> None:
    document["out"][0]["identical"] = {"cifar100:test": 3}
    assert "Images that are the same pixel for pixel: 3 of `svhn:test` are also in `cifar100:test`." in page(document)
