"""The package as its users meet it: what it imports, and the examples of its page and its docstrings."""

import contextlib
import doctest
import inspect
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from client_doubles import ROOT, serving_in_thread

import pcdm_client
from pcdm_client import AsyncClient, Client

# isort: split
from service_doubles import tiny_scorer

ADDRESS = "http://127.0.0.1:8000"
PAGE = (ROOT / "docs" / "client.md").read_text(encoding="utf-8")
FOREIGN = ("PIL", "fastapi", "numpy", "pcdm_core", "service", "starlette", "torch", "typer")


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with serving_in_thread(tiny_scorer()) as url:
        yield url


@pytest.fixture
def at_root(monkeypatch: pytest.MonkeyPatch) -> None:
    """Examples name files of the repository, and are not sent through a proxy."""
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("NO_PROXY", "*")


def test_the_client_imports_nothing_of_the_models() -> None:
    asked = f"import sys, pcdm_client; print(*(name for name in {FOREIGN} if name in sys.modules))"
    run = subprocess.run([sys.executable, "-c", asked], cwd=ROOT, check=True, capture_output=True, text=True)
    assert run.stdout.strip() == ""


def test_its_types_are_for_others_too() -> None:
    assert (Path(pcdm_client.__file__).parent / "py.typed").is_file()


def test_both_clients_have_the_same_methods() -> None:
    def methods(kind: type) -> dict[str, dict[str, inspect.Parameter]]:
        public = inspect.getmembers(kind, lambda one: inspect.isfunction(one) and not one.__name__.startswith("_"))
        return {name: dict(inspect.signature(one).parameters) for name, one in public}

    blocking, awaited = methods(Client), methods(AsyncClient)
    assert awaited.pop("aclose") == blocking.pop("close")
    del awaited["score_many"]["concurrency"]
    assert awaited == blocking


@pytest.mark.usefixtures("at_root")
def test_the_pages_code_runs(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    code = "\n".join(re.findall(r"^```python\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE))
    assert code.count(ADDRESS) == 3
    exec(compile(code.replace(ADDRESS, url), "docs/client.md", "exec"), {})
    printed = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in printed] == ["svhn.png", "cifar10.png", "cifar10.png", "svhn.png", "images[0]"]
    assert printed[-1].split()[1] == "not-an-image"


@pytest.mark.parametrize("kind", [Client, AsyncClient])
@pytest.mark.usefixtures("at_root")
def test_the_docstrings_example_runs(kind: type, url: str) -> None:
    text = inspect.getdoc(kind) or ""
    assert ADDRESS in text
    example = doctest.DocTestParser().get_doctest(
        text.replace(ADDRESS, url), dict(vars(pcdm_client)), str(kind), None, 0
    )
    failures: list[str] = []
    with contextlib.redirect_stderr(sys.stdout):
        result = doctest.DocTestRunner().run(example, out=failures.append)
    assert (result.failed, result.attempted >= 2) == (0, True), "".join(failures)


def test_every_exception_is_on_the_page() -> None:
    names = {name for name in pcdm_client.__all__ if name.endswith("Error")}
    assert names == set(re.findall(r"`(\w+Error)`", PAGE))
