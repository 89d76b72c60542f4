"""Refusals that come before a form is parsed."""

from collections.abc import AsyncIterator

import httpx
import pytest
from fastapi import FastAPI, HTTPException, Request, UploadFile
from fastapi.routing import APIRouter

from service.refusing_route import refusing_route

LARGE = 70_000


def form(size: int) -> list[tuple[str, tuple[str, bytes]]]:
    return [("file", ("one", bytes(size)))]


def application(checked: list[str]) -> FastAPI:
    def check(request: Request) -> None:
        checked.append(request.url.path)
        if "refused" in request.query_params:
            raise HTTPException(429)

    router = APIRouter(route_class=refusing_route(check))

    @router.post("/upload")
    async def upload(file: UploadFile) -> int:
        return len(await file.read())

    app = FastAPI()
    app.include_router(router)
    return app


def client(checked: list[str]) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.ASGITransport(application(checked)), base_url="http://s")


async def test_what_passes_the_check_is_parsed_as_ever() -> None:
    checked: list[str] = []
    async with client(checked) as one:
        answer = await one.post("/upload", files=form(300))
    assert (answer.status_code, answer.json(), checked) == (200, 300, ["/upload"])


async def test_what_does_not_is_refused_whatever_its_form_holds() -> None:
    async with client([]) as one:
        answer = await one.post("/upload?refused", content=b"no form", headers={"Content-Type": "multipart/form-data"})
    assert answer.status_code == 429


@pytest.mark.parametrize("chunked", [False, True])
async def test_a_large_body_is_not_held_for_the_check(chunked: bool) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        yield built.read()

    checked: list[str] = []
    async with client(checked) as one:
        built = one.build_request("POST", "/upload?refused", files=form(300 if chunked else LARGE))
        if chunked:
            kind = {"Content-Type": built.headers["Content-Type"]}
            answer = await one.post("/upload?refused", content=chunks(), headers=kind)
        else:
            answer = await one.send(built)
    assert (answer.status_code, checked) == (200, [])
