"""API keys: what is accepted, how they change, and that nothing is read without one."""

import hashlib
import logging
import os
from pathlib import Path
from typing import Any

import httpx
import pytest
from pydantic import ValidationError
from service_doubles import SteeredModel, check_problem, in_thread, score, serving, steered
from service_sockets import listening, request_of

from service import Settings, create_app
from service.keys import Keys, entry_of, new_key, read_hashes

from hostile_images import encode, photo  # isort: skip  # found through service_doubles

NATIVE = encode(photo(8, 8))
OLD, NEW = new_key(), new_key()
GUARDED = Settings(api_keys=f"camera:{entry_of('old', OLD).partition(':')[2]}, camera:{entry_of('new', NEW)[4:]}")


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


# Keys


def test_a_key_has_enough_entropy_and_its_entry_is_its_hash() -> None:
    made = {new_key() for _ in range(100)}
    assert len(made) == 100
    assert all(len(key) == len("pcdm_") + 43 for key in made)
    key = made.pop()
    assert entry_of("camera", key) == f"camera:{hashlib.sha256(key.encode()).hexdigest()}"


def test_entries_stand_between_spaces_commas_and_comments() -> None:
    text = f"# of today\n{entry_of('a', OLD)}, {entry_of('b', NEW)}\n\n{entry_of('c', 'x')} # of tomorrow\n"
    assert [known.name for known in read_hashes(text)] == ["a", "b", "c"]


@pytest.mark.parametrize(
    "text",
    ["", "# nobody\n", OLD, f"camera:{OLD}", f"two words:{'0' * 64}", f":{'0' * 64}"],
    ids=["nothing", "comment", "key", "key with name", "name of two words", "no name"],
)
def test_what_is_no_entry_is_refused_and_not_repeated(text: str) -> None:
    with pytest.raises(ValueError, match="NAME:HASH") as caught:
        read_hashes(text)
    assert OLD not in str(caught.value)


def test_settings_do_not_repeat_a_key_that_was_put_in_place_of_its_hash(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PCDM_API_KEYS", f"camera:{OLD}")
    with pytest.raises(ValidationError, match="entry 1 is not of the form") as caught:
        Settings()
    assert OLD not in str(caught.value)


def test_an_empty_setting_does_not_open_the_service(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PCDM_API_KEYS", "")
    with pytest.raises(ValidationError, match="there is no key"):
        Settings()


def test_a_changed_file_is_read_again_and_a_damaged_one_changes_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "service")
    file = tmp_path / "keys"
    file.write_text(entry_of("old", OLD))
    keys = Keys(file=file)
    assert (keys.name_of(OLD), keys.name_of(NEW)) == ("old", None)
    file.write_text(f"{entry_of('old', OLD)}\n{entry_of('new', NEW)}\n")
    assert (keys.name_of(OLD), keys.name_of(NEW)) == ("old", "new")
    replacement = tmp_path / "other"
    replacement.write_text(entry_of("new", NEW))
    os.replace(replacement, file)
    assert (keys.name_of(OLD), keys.name_of(NEW)) == (None, "new")
    file.write_text(NEW)
    assert keys.name_of(NEW) == "new"
    file.unlink()
    assert keys.name_of(NEW) == "new"
    assert "stay as they were" in caplog.text
    assert NEW not in caplog.text


def test_a_file_that_cannot_be_used_stops_the_start(tmp_path: Path) -> None:
    with pytest.raises(OSError, match=r"API keys in .*missing: No such file"):
        create_app(Settings(api_keys_file=tmp_path / "missing"))
    (tmp_path / "keys").write_bytes(b"\xff\xfe")
    with pytest.raises(ValueError, match=r"keys: it is not UTF-8"):
        create_app(Settings(api_keys_file=tmp_path / "keys"))


# Requests


@pytest.mark.parametrize("key", [OLD, NEW], ids=["old", "new"])
async def test_each_key_is_accepted_in_either_header(key: str) -> None:
    async with serving(settings=GUARDED) as client:
        for headers in (bearer(key), {"Authorization": f"bearer  {key}"}, {"X-API-Key": key}):
            client.headers = httpx.Headers(headers)
            assert (await score(client, ("a.png", NATIVE))).status_code == 200


@pytest.mark.parametrize(
    ("headers", "error"),
    [
        ({}, False),
        ({"Authorization": f"Basic {OLD}"}, False),
        (bearer(""), True),
        (bearer(OLD[:-1]), True),
        (bearer(entry_of("old", OLD)[4:]), True),
        ({"X-API-Key": ""}, True),
        ({"X-API-Key": "wrong", **bearer(OLD)}, True),
        ({"X-API-Key": b"\xff\x00"}, True),
    ],
)
async def test_without_a_known_key_every_route_but_health_is_a_401(
    headers: dict[str, str], error: bool, caplog: pytest.LogCaptureFixture
) -> None:
    async with serving(settings=GUARDED) as client:
        for path in ("/score", "/openapi.json", "/docs", "/metrics", "/models", "/v2", "/nowhere", "/healthz/"):
            answer = await client.get(path, headers=headers)
            assert check_problem(answer, 401)["type"].endswith("no-access")
            assert answer.headers["www-authenticate"].startswith('Bearer realm="pcdm"')
            assert ("invalid_token" in answer.headers["www-authenticate"]) is error
        for path in ("/healthz", "/readyz", "/v2/health/live", "/v2/health/ready"):
            assert (await client.get(path)).status_code == 200
    assert OLD[:-1] not in caplog.text


async def test_metrics_are_open_where_that_is_chosen() -> None:
    async with serving(settings=GUARDED.model_copy(update={"open_metrics": True})) as client:
        assert (await client.get("/metrics")).status_code != 401
        assert (await client.get("/docs")).status_code == 401


async def test_the_name_of_the_key_goes_with_the_request_and_the_key_does_not(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "service.telemetry")
    states: list[dict[str, Any]] = []
    app = create_app(GUARDED, load=lambda _: SteeredModel(), launch=in_thread)

    async def spy(scope: Any, receive: Any, send: Any) -> None:
        states.append(scope.setdefault("state", {}))
        await app(scope, receive, send)

    async with httpx.AsyncClient(transport=httpx.ASGITransport(spy), base_url="http://s") as client:
        await client.get("/openapi.json", headers=bearer(NEW))
    assert states[0]["key_name"] == "camera"
    [line] = [vars(record) for record in caplog.records if record.name == "service.telemetry"]
    assert line["pcdm_fields"]["key"] == "camera"
    assert NEW not in f"{states}{line}"


async def test_the_body_of_a_stranger_is_not_read() -> None:
    async def receive() -> Any:
        raise AssertionError("it is")

    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    app = create_app(GUARDED, load=lambda _: SteeredModel(), launch=in_thread)
    scope = {"type": "http", "method": "POST", "path": "/score", "headers": [], "http_version": "1.1"}
    await app(scope, receive, send)
    assert sent[0]["status"] == 401


async def test_a_stranger_who_sends_a_large_body_still_reads_the_answer_and_is_cut_off() -> None:
    async with listening(SteeredModel(), GUARDED) as server:
        async with server.client() as client:
            answer = await client.post("/score", content=bytes(20_000_000))
            check_problem(answer, 401)
        assert answer.headers["connection"] == "close"
        raw = await server.send(request_of(bytes(100_000)))
    assert raw.startswith(b"HTTP/1.1 401")


async def test_a_stranger_who_waits_to_be_told_to_go_on_is_not() -> None:
    async with listening(SteeredModel(), GUARDED) as server:
        raw = await server.send(request_of(steered(1), Expect="100-continue").partition(b"\r\n\r\n")[0] + b"\r\n\r\n")
    assert raw.startswith(b"HTTP/1.1 401")


async def test_the_interface_says_how_a_key_is_sent() -> None:
    async with serving(settings=GUARDED) as client:
        document = (await client.get("/openapi.json", headers=bearer(OLD))).json()
    assert set(document["components"]["securitySchemes"]) == {"bearer", "header"}
    assert document["paths"]["/score"]["post"]["security"] == [{"bearer": []}, {"header": []}]
    assert document["paths"]["/healthz"]["get"]["security"] == []


async def test_keys_of_a_file_change_while_the_server_runs(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_text(entry_of("old", OLD))
    async with serving(settings=Settings(api_keys_file=file)) as client:
        assert (await client.get("/openapi.json", headers=bearer(OLD))).status_code == 200
        file.write_text(entry_of("rotated", NEW))
        assert (await client.get("/openapi.json", headers=bearer(NEW))).status_code == 200
        assert (await client.get("/openapi.json", headers=bearer(OLD))).status_code == 401
