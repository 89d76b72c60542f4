"""Hostile requests: each gets the answer that is documented for it, and the next honest one its score."""

import httpx
import pytest
from hostile_requests import ALL, FORMS, GOOD, IMAGES, NAMES, RAW, Case, pretty
from service_doubles import check_problem, score, serving
from service_sockets import listening, read_answer

from service import Settings

SETTINGS = Settings(max_images=4, max_image_bytes=100_000, max_request_bytes=2_000_000)
# A form that ends before its last boundary leaves the file of its last part to the garbage collector.
pytestmark = pytest.mark.filterwarnings("ignore:Unclosed file:ResourceWarning")
RAW_IDS = [case[0] for case in RAW]


async def ask(client: httpx.AsyncClient, case: Case) -> httpx.Response:
    return await client.request(case.method, case.url, **case.request)


def check(answer: httpx.Response, status: int, type_: str | None, reason: str | None = None) -> None:
    if status == 200:
        assert answer.status_code == 200, answer.text
        return
    problem = check_problem(answer, status)
    assert problem["type"] == ("about:blank" if type_ is None else f"urn:problem-type:pcdm:{type_}")
    assert problem.get("reason") == reason
    assert len(answer.content) < 50_000


async def good_score(client: httpx.AsyncClient) -> float:
    answer = await score(client, ("good.png", GOOD))
    assert answer.status_code == 200, answer.text
    bits: float = answer.json()["results"][0]["bits_per_dim"]
    return bits


@pytest.mark.parametrize("case", IMAGES, ids=pretty)
async def test_an_image_is_scored_or_refused_with_its_reason(case: Case) -> None:
    async with serving(settings=SETTINGS) as client:
        answer = await ask(client, case)
    check(answer, case.status, case.type, case.reason)
    if case.reason is not None:
        assert answer.json()["source"] == case.name


@pytest.mark.parametrize(("request_", "source"), [case[1:] for case in NAMES], ids=[case[0] for case in NAMES])
async def test_a_name_is_repeated_and_nothing_else(request_: dict[str, bytes], source: str) -> None:
    async with serving(settings=SETTINGS) as client:
        answer = await client.post("/score", **request_)  # type: ignore[arg-type]
    assert answer.status_code == 200, answer.text
    assert answer.json()["results"][0]["source"] == source


@pytest.mark.parametrize("case", FORMS, ids=pretty)
async def test_a_misfit_request_is_answered_as_documented(case: Case) -> None:
    async with serving(settings=SETTINGS) as client:
        check(await ask(client, case), case.status, case.type)


@pytest.mark.parametrize(("sent", "status", "type_"), [case[1:] for case in RAW], ids=RAW_IDS)
async def test_what_the_server_itself_refuses_is_a_problem_too(sent: bytes, status: int, type_: str | None) -> None:
    async with listening(settings=SETTINGS) as server:
        answer = read_answer(await server.send(sent))
    check(answer, status, type_)
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert "server" not in answer.headers


async def test_after_all_of_them_an_honest_image_gets_its_score(caplog: pytest.LogCaptureFixture) -> None:
    async with listening(settings=SETTINGS) as server, server.client() as client:
        before = await good_score(client)
        for _, sent, *_ in RAW:
            await server.send(sent)
        for case in ALL:
            if "9" * 5000 not in str(case.request.get("headers")):  # no client sends it
                check(await ask(client, case), case.status, case.type, case.reason)
        assert await good_score(client) == pytest.approx(before, abs=1e-4)
        assert server.engine.ready().batcher.backlog == 0
    assert not [record for record in caplog.records if record.levelname == "ERROR"]
