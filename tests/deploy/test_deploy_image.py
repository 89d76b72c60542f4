"""What the Dockerfile says about the image, and its health check."""

import asyncio
import fnmatch
import re
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import uvicorn

from service import Settings, create_app

# A small model and a runner without a process live with the service's tests; pytest finds only a test's own folder.
sys.path.append(str(Path(__file__).parents[1] / "service"))

from service_doubles import in_thread, tiny_scorer  # isort: skip

ROOT: Final = Path(__file__).parents[2]
DOCKERFILE: Final = re.sub(r"\\\n\s*", "", re.sub(r"^#.*\n", "", (ROOT / "Dockerfile").read_text(), flags=re.MULTILINE))
INSTRUCTIONS: Final = [line.split(maxsplit=1) for line in DOCKERFILE.splitlines() if line]


def of(kind: str) -> list[str]:
    return [rest for word, rest in INSTRUCTIONS if word == kind]


def test_the_processor_is_the_default_target() -> None:
    targets = [line.rpartition(" AS ")[2] for line in of("FROM")]
    assert targets[-1] == "cpu"
    assert "gpu" in targets


def test_both_targets_run_as_a_fixed_user_that_is_not_root() -> None:
    assert [user for user in of("USER") if user != "0"] == of("USER") == ["10001:10001"]
    assert [line.split()[0] for line in of("FROM")][-2:] == ["runtime", "runtime"]


def test_a_stop_is_the_signal_that_drains() -> None:
    assert of("STOPSIGNAL") == ["SIGTERM"]


def test_the_arguments_of_the_build_are_no_secrets() -> None:
    assert {line.partition("=")[0] for line in of("ARG")} == {"PYTHON_IMAGE", "TORCH_INDEX"}


def test_nothing_goes_into_the_build_but_what_the_image_is_made_of() -> None:
    first, *rest = [
        line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and not line.startswith("#")
    ]
    admitted = {line[1:] for line in rest if line.startswith("!")}
    package = {"LICENSE", "README.md", "pyproject.toml", "requirements.lock", "pcdm_client", "pcdm_core", "service"}
    assert first == "*"
    assert admitted == package | {"deploy/healthcheck.py", "weights/cifar10-haar"}
    assert all((ROOT / name).exists() for name in admitted)


def test_python_s_leftovers_stay_out() -> None:
    excluded = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("**/")]
    assert any(fnmatch.fnmatch("pcdm_core/data/__pycache__", pattern) for pattern in excluded)


@asynccontextmanager
async def listening(load: Any) -> AsyncIterator[int]:
    """The port of a server of the application."""
    app = create_app(Settings(max_batch=8), load=load, launch=in_thread)
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="critical"))
    serving = asyncio.create_task(server.serve())
    while not server.started:  # noqa: ASYNC110 - uvicorn has no event for it
        await asyncio.sleep(0.01)
    yield server.servers[0].sockets[0].getsockname()[1]
    server.should_exit = True
    await serving


async def healthcheck(port: int) -> tuple[int | None, str]:
    """Exit status of the health check, and what it says."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-I", "-S", str(ROOT / "deploy" / "healthcheck.py")),
        env={"PCDM_PORT": str(port), "http_proxy": "http://127.0.0.1:9"},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    said, _ = await process.communicate()
    return process.returncode, said.decode()


async def test_a_server_that_answers_is_healthy() -> None:
    async with listening(lambda _: tiny_scorer()) as port, asyncio.timeout(60):
        while (await healthcheck(port))[0] != 0:
            pass


async def test_a_server_without_a_model_is_not_and_says_so() -> None:
    def fails(_: Path) -> Any:
        raise ValueError("there is no such model")

    async with listening(fails) as port, asyncio.timeout(60):
        status, said = await healthcheck(port)
    assert status == 1
    assert "the model" in said


async def test_a_server_that_is_not_there_is_not_healthy() -> None:
    status, said = await healthcheck(9)
    assert status == 1
    assert "refused" in said
