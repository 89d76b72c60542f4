"""The commands that the README shows, run as they are written there as far as a test can."""

import json
import os
import re
import shlex
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import httpx
import pytest
from typer.testing import CliRunner

from pcdm_client import Client
from pcdm_core.cli import app
from pcdm_core.data import DATA_DIR_VARIABLE
from service import Settings
from service.examples import score_example
from service.schemas import ScoreAnswer

ROOT: Final = Path(__file__).parents[1]
PCDM: Final = ".venv/bin/pcdm"
ADDRESS: Final = "127.0.0.1:8000"
FEW: Final = 20
_BLOCK: Final = re.compile(r"^```sh\n(.*?)^```$", re.DOTALL | re.MULTILINE)
_DATA_SET: Final = re.compile(r"(cifar10|cifar100|svhn)\b(?!-)")


def commands() -> list[list[str]]:
    """Every command of the README's shell blocks, without comments and variables set in front of it."""
    lines = "".join(_BLOCK.findall((ROOT / "README.md").read_text(encoding="utf-8"))).replace("\\\n", " ").splitlines()
    split = [shlex.split(line, comments=True) for line in lines]
    for words in split:
        while words and re.match(r"[A-Z_]+=", words[0]):
            words.pop(0)
    return [words for words in split if words]


def of(*start: str) -> list[object]:
    return [pytest.param(words, id=" ".join(words)) for words in commands() if words[: len(start)] == list(start)]


@dataclass(frozen=True)
class Served:
    """The shipped model, served by the command in a process of its own."""

    address: str
    log: Path


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    # The command beside the interpreter that runs the tests, wherever its environment is.
    command = [str(Path(sys.executable).parent / "pcdm"), "serve", "--port", str(port)]
    own = {name: value for name, value in os.environ.items() if not name.startswith("PCDM_")}
    log = tmp_path_factory.mktemp("server") / "log"
    with log.open("wb") as file:
        process = subprocess.Popen(command, cwd=ROOT, env=own, stdout=file, stderr=file)
    try:
        deadline = time.monotonic() + 120
        while not is_ready(f"http://127.0.0.1:{port}"):
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.1)
        yield Served(f"127.0.0.1:{port}", log)
    finally:
        process.terminate()
        assert process.wait(30) in (0, -15)


def is_ready(url: str) -> bool:
    with Client(url, transport=httpx.HTTPTransport()) as client:  # through no proxy
        return client.ready(timeout=5)


def test_every_command_is_of_a_kind_that_is_tested() -> None:
    assert {words[0] for words in commands()} == {"make", "curl", PCDM}


@pytest.mark.parametrize("words", of("make"))
def test_make_knows_what_to_do(words: list[str]) -> None:
    if shutil.which("make") is None:
        pytest.skip("make is not installed")
    subprocess.run([*words, "-n"], cwd=ROOT, check=True, capture_output=True)


@pytest.mark.parametrize("words", of("curl"))
def test_the_request_is_answered_as_shown(words: list[str], server: Served) -> None:
    if shutil.which("curl") is None:
        pytest.skip("curl is not installed")
    assert any(ADDRESS in word for word in words)
    asked = [word.replace(ADDRESS, server.address) for word in words]
    run = subprocess.run([asked[0], "--noproxy", "*", *asked[1:]], cwd=ROOT, check=True, capture_output=True, text=True)
    answer, shown = ScoreAnswer.model_validate_json(run.stdout), ScoreAnswer.model_validate(score_example())
    assert (answer.digest, answer.alpha, answer.fidelity) == (shown.digest, shown.alpha, shown.fidelity)
    assert [one.source for one in answer.results] == [one.source for one in shown.results]
    assert answer.results[0].bits_per_dim == pytest.approx(shown.results[0].bits_per_dim, abs=1e-3)
    assert answer.results[0].p_value == pytest.approx(shown.results[0].p_value, abs=1e-3)


def test_the_server_says_where_it_listens_and_what_it_serves(server: Served) -> None:
    log = server.log.read_text()
    assert f"listening on http://{server.address}, loading the model in weights/cifar10-haar\n" in log
    assert f"serving cifar10-haar ({score_example()['digest']})\n" in log


def test_every_setting_of_the_server_is_listed() -> None:
    listed = set(re.findall(r"PCDM_[A-Z_]+", (ROOT / "README.md").read_text(encoding="utf-8")))
    assert listed == {f"PCDM_{name.upper()}" for name in Settings.model_fields} | {DATA_DIR_VARIABLE}


@pytest.mark.parametrize("words", of(PCDM))
def test_the_command_line_takes_the_command(words: list[str]) -> None:
    result = CliRunner().invoke(app, [words[1], "--help"])
    assert result.exit_code == 0, result.output
    for option in (word.partition("=")[0] for word in words if word.startswith("--")):
        assert option in result.output


@pytest.mark.data
@pytest.mark.parametrize("words", [*of(PCDM, "evaluate"), *of(PCDM, "calibrate")])
def test_a_command_on_data_sets_runs(words: list[str], data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if "--fit" in words:
        pytest.skip("it would write a calibration into the model's folder")
    assert data_dir
    run(words, monkeypatch)


@pytest.mark.parametrize("words", of(PCDM, "score"))
def test_scores_of_the_samples_are_printed(words: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    if any(_DATA_SET.match(word) for word in words) and not os.environ.get("PCDM_DATA_DIR"):
        pytest.skip("PCDM_DATA_DIR is not set: no real data sets here")
    output = run(words, monkeypatch)
    if "--json" in words:
        answer = json.loads(output)
        assert answer["digest"] == score_example()["digest"]
        assert answer["results"]


@pytest.mark.parametrize("words", [*of(PCDM, "map"), *of(PCDM, "sample")])
def test_pictures_are_drawn(words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    changed = list(words)
    place = changed.index("--output") + 1
    changed[place] = str(tmp_path / Path(changed[place]).name)
    for option in {"--nodes", "--count", "--steps"} & set(changed):
        changed[changed.index(option) + 1] = "2"
    run(changed, monkeypatch)
    assert list(tmp_path.rglob("*.png"))


def run(words: list[str], monkeypatch: pytest.MonkeyPatch) -> str:
    """Run a command of the package within this process, on few images."""
    monkeypatch.chdir(ROOT)
    arguments = list(words[1:])
    if "--limit" in arguments:
        place = arguments.index("--limit") + 1
        arguments[place] = str(min(int(arguments[place]), FEW))
    elif any(_DATA_SET.match(word) for word in words):
        arguments += ["--limit", str(FEW)]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    return result.stdout
