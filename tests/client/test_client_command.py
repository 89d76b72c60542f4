"""The command `pcdm-client`."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from client_doubles import serving_in_thread
from typer.testing import CliRunner

from pcdm_client.command import app

# isort: split
from service_doubles import SteeredModel, steered


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "*")


@pytest.fixture
def url() -> Iterator[str]:
    scorer = SteeredModel()
    scorer.gate.set()
    with serving_in_thread(scorer) as url:
        yield url


def test_each_image_gets_a_line(url: str, tmp_path: Path) -> None:
    for value in (1, 2):
        (tmp_path / f"{value}.png").write_bytes(steered(value))
    run = CliRunner().invoke(app, ["score", url, str(tmp_path / "1.png"), str(tmp_path / "2.png")])
    assert run.exit_code == 0, run.output
    lines = [json.loads(line) for line in run.stdout.splitlines()]
    assert [(one["source"], one["bits_per_dim"]) for one in lines] == [("1.png", 1), ("2.png", 2)]


@pytest.mark.parametrize("content", [b"broken", None])
def test_what_is_wrong_is_told_by_name(url: str, tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / "a.png").write_bytes(content)
    run = CliRunner().invoke(app, ["score", url, str(tmp_path / "a.png")])
    assert run.exit_code == 2
    assert run.stderr.startswith("error: ")
    assert "a.png" in run.stderr
    assert run.stdout == ""
