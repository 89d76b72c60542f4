"""The page of errors lists what there is, and nothing else."""

import re
from pathlib import Path

from service.problems import PROBLEM_TITLES, PROBLEM_TYPE_PREFIX

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "errors.md").read_text(encoding="utf-8")


def test_the_page_lists_every_type_once() -> None:
    listed = re.findall(rf"^\| `{PROBLEM_TYPE_PREFIX}([a-z-]+)` \|", PAGE, re.MULTILINE)
    assert sorted(listed) == sorted(PROBLEM_TITLES)


def test_every_type_that_is_raised_has_a_title() -> None:
    code = "".join(file.read_text(encoding="utf-8") for file in (ROOT / "service").rglob("*.py"))
    raised = re.findall(r'(?:ProblemError\([^,"]+, |slug=|unavailable\(|_refuse\(\d+, )"([a-z-]+)"', code)
    assert set(raised) == set(PROBLEM_TITLES)


def test_the_page_lists_every_reason_of_a_refused_image() -> None:
    code = "".join(file.read_text(encoding="utf-8") for file in (ROOT / "pcdm_core" / "data").glob("*.py"))
    reasons = set(re.findall(r'ImageError\(\s*\w+,\s*"([a-z-]+)"', code))
    listed = re.findall(r"^\| `([a-z-]+)` \|", PAGE, re.MULTILINE)
    assert len(reasons) > 8
    assert sorted(listed) == sorted(reasons)
