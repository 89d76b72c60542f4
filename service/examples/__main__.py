"""Make the examples anew, and the README's blocks of them: `make examples`."""

import asyncio
import json
import re
from pathlib import Path
from typing import Any, Final

import httpx

from pcdm_core.files import write_atomically
from service import Settings, create_app
from service.examples import EXAMPLE_REQUEST_ID, PROBLEMS_FILE, SCORE_FILE

__all__ = ["ask", "block", "pretty"]

ROOT: Final = Path(__file__).parents[2]
MODEL: Final = ROOT / "weights" / "cifar10-haar"
SAMPLE: Final = ROOT / "tests" / "data" / "samples" / "svhn.png"
_LOADING_SECONDS: Final = 120
_AVIF: Final = b"\x00\x00\x00\x1cftypavif" + bytes(16)
_PAIR: Final = re.compile(r"\[\s+(\d+),\s+(\d+)\s+\]")


async def ask() -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    """Put the requests of the examples to the real application.

    Returns:
        The answer to the sample, and one problem for each status, keyed by it.

    Raises:
        RuntimeError: The application gave another status than the one to be shown.
    """
    sample = SAMPLE.read_bytes()
    settings = Settings(model=MODEL, models="", alpha=None, max_images=256)  # whatever the environment says
    app = create_app(settings)
    transport = httpx.ASGITransport(app)
    headers = {"X-Request-ID": EXAMPLE_REQUEST_ID}

    async with httpx.AsyncClient(transport=transport, base_url="http://example", headers=headers) as client:

        async def post(status: int, *files: tuple[str, bytes]) -> dict[str, Any]:
            answer = await client.post("/score", files=[("files", file) for file in files])
            if answer.status_code != status:
                raise RuntimeError(f"expected a {status}, got a {answer.status_code}: {answer.text}")
            document: dict[str, Any] = answer.json()
            return document

        problems = {"503": await post(503, (SAMPLE.name, sample))}  # the application has not been started yet
        async with app.router.lifespan_context(app):
            async with asyncio.timeout(_LOADING_SECONDS):
                while (await client.get("/readyz")).status_code != 200:  # noqa: ASYNC110 - as any client has to
                    await asyncio.sleep(0.05)
            score = await post(200, (SAMPLE.name, sample))
            too_many = [(SAMPLE.name, sample)] * (settings.max_images + 1)
            problems["413"] = await post(413, *too_many)
            problems["415"] = await post(415, ("photo.avif", _AVIF))
            problems["422"] = await post(422, ("truncated.png", sample[: len(sample) // 2]))
    return score, dict(sorted(problems.items()))


def pretty(document: dict[str, Any]) -> str:
    """JSON for a reader: indented, but for pairs such as a size."""
    return _PAIR.sub(r"[\1, \2]", json.dumps(document, indent=2)) + "\n"


def block(readme: str, name: str, document: dict[str, Any]) -> str:
    """Put a document into the block between `<!-- name -->` and `<!-- /name -->` of a Markdown text.

    Args:
        readme: The text.
        name: The block's name.
        document: What to put there.

    Returns:
        The text with the new block.

    Raises:
        ValueError: The text has not exactly one such block.
    """
    pattern = re.compile(f"(<!-- {name} -->\n).*?(<!-- /{name} -->)", re.DOTALL)
    if len(pattern.findall(readme)) != 1:
        raise ValueError(f"needs one block from <!-- {name} --> to <!-- /{name} -->")
    return pattern.sub(lambda match: f"{match[1]}```json\n{pretty(document)}```\n{match[2]}", readme)


def main() -> None:
    """Rewrite the files in place."""
    score, problems = asyncio.run(ask())
    folder = Path(__file__).parent
    write_atomically(folder / SCORE_FILE, pretty(score).encode())
    write_atomically(folder / PROBLEMS_FILE, pretty(problems).encode())
    readme = ROOT / "README.md"
    text = block(block(readme.read_text(encoding="utf-8"), "answer", score), "problem", problems["422"])
    write_atomically(readme, text.encode())


if __name__ == "__main__":
    main()
