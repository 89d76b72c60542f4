"""Answers as types: nothing of the service's is lost, nothing new of it breaks an older client."""

import pickle
from typing import Any

import httpx
import pytest
from pydantic import BaseModel, ValidationError

import pcdm_client
from pcdm_client import (
    Client,
    ClientError,
    ConnectionFailedError,
    DeadlinePassedError,
    ImageRefusedError,
    InvalidRequestError,
    ModelInfo,
    NotAllowedError,
    NotFoundError,
    NotReadyError,
    OverloadedError,
    ProblemError,
    ScoreAnswer,
    ServiceFailedError,
    TooLargeError,
    UnexpectedAnswerError,
)
from pcdm_client.errors import problem_error
from service import schemas
from service.examples import problem_example, score_example


@pytest.mark.parametrize("name", ["Errors", "ImageScore", "Problem", "ScoreAnswer", "ServedFidelity"])
def test_the_client_knows_every_field_of_the_service(name: str) -> None:
    here: type[BaseModel] = getattr(pcdm_client, name)
    there: type[BaseModel] = getattr(schemas, name)
    assert set(here.model_fields) == set(there.model_fields)


def test_a_score_survives_being_read() -> None:
    assert ScoreAnswer.model_validate(score_example()).model_dump(mode="json") == score_example()


def test_what_a_newer_service_adds_is_left_out() -> None:
    newer = score_example() | {"region": "north"}
    newer["fidelity"] = newer["fidelity"] | {"name": "superb", "method": "other"}
    assert ScoreAnswer.model_validate(newer).fidelity.method == "other"


def test_an_answer_cannot_be_changed() -> None:
    answer = ScoreAnswer.model_validate(score_example())
    with pytest.raises(ValidationError, match="frozen"):
        answer.model = "another"  # type: ignore[misc]


# Errors


def error_of(status: int, document: Any = None, **headers: str) -> ProblemError:
    content = {"text": "<h1>Bad\n gateway</h1>"} if document is None else {"json": document}
    return problem_error(httpx.Response(status, headers=headers, **content), "mine")


@pytest.mark.parametrize("status", [413, 415, 422])
def test_a_refused_image_is_one_at_any_status(status: int) -> None:
    told = {"title": "t", "status": status, "detail": "d", "request_id": "i"}
    assert type(error_of(status, told | {"type": "urn:problem-type:pcdm:image-refused"})) is ImageRefusedError
    assert type(error_of(status, told | {"type": "urn:problem-type:pcdm:newer"})) is not ImageRefusedError


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, InvalidRequestError),
        (422, InvalidRequestError),
        (401, NotAllowedError),
        (403, NotAllowedError),
        (404, NotFoundError),
        (413, TooLargeError),
        (429, OverloadedError),
        (500, ServiceFailedError),
        (502, ServiceFailedError),
        (503, NotReadyError),
        (504, DeadlinePassedError),
        (599, ServiceFailedError),
    ],
)
def test_an_error_is_judged_by_its_status(status: int, kind: type[ProblemError]) -> None:
    error = error_of(status, **{"Retry-After": "3"})
    assert type(error) is kind
    assert (error.type, error.status, error.detail) == ("about:blank", status, "<h1>Bad gateway</h1>")
    assert (error.request_id, error.retry_after) == ("mine", 3)


@pytest.mark.parametrize("document", [[], "text", None, 7, {"title": 7}])
def test_no_document_is_too_odd_to_be_a_problem(document: Any) -> None:
    error = problem_error(httpx.Response(500, json=document, headers={"X-Request-ID": "theirs"}), "mine")
    assert (error.title, error.request_id) == ("Internal Server Error", "theirs")


def test_a_problem_has_the_members_of_the_document() -> None:
    document = problem_example(422)
    assert document is not None
    error = error_of(422, document)
    assert isinstance(error, ImageRefusedError)
    told = {name: getattr(error, name) for name in ("type", "title", "status", "detail", "request_id")}
    assert told | {"source": error.source, "reason": error.reason} == document
    assert str(error) == f"422 {error.title}: {error.detail} (request {error.request_id})"


@pytest.mark.parametrize("error", [error_of(429), ConnectionFailedError(httpx.ConnectError("refused"))])
def test_an_error_can_be_handed_to_another_process(error: ClientError) -> None:
    copy = pickle.loads(pickle.dumps(error))
    assert (type(copy), str(copy), copy.passing) == (type(error), str(error), True)


# Models


def asked(document: Any) -> Client:
    return Client("http://s", transport=httpx.MockTransport(lambda _: httpx.Response(200, json=document)))


MODEL = {"name": "a", "digest": "01", "image_shape": [3, 8, 8], "state": "ready", "reason": None, "alpha": 0.05}


def test_models_are_listed_with_what_is_known_of_them() -> None:
    listing = {"default": "a", "models": [MODEL, {"name": "b", "state": "loading"}]}
    with asked(listing) as client:
        told = client.models()
    known, unknown = told.models
    assert (told.default, known.name, known.state) == ("a", "a", "ready")
    assert (known.digest, known.image_shape) == ("01", (3, 8, 8))
    assert known.model_extra == {"alpha": 0.05}
    assert unknown == ModelInfo(name="b", state="loading")


def test_a_model_is_asked_for_by_its_name() -> None:
    seen: list[bytes] = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(request.url.raw_path)
        return httpx.Response(200, json=MODEL)

    with Client("http://s/gate/", transport=httpx.MockTransport(answer)) as client:
        assert client.model("a/b c").name == "a"
    assert seen == [b"/gate/models/a%2Fb%20c"]


@pytest.mark.parametrize("document", ["text", {"models": [{"digest": "01"}]}, {"default": "a"}, [7], 7])
def test_another_service_is_found_out(document: Any) -> None:
    with asked(document) as client, pytest.raises(UnexpectedAnswerError, match="http://s/models") as caught:
        client.models()
    assert caught.value.__cause__ is not None


def test_an_answer_for_other_images_is_found_out() -> None:
    with (
        asked(score_example()) as client,
        pytest.raises(UnexpectedAnswerError, match="1 scores were answered for 2 images"),
    ):
        client.score([b"a", b"b"])


@pytest.mark.parametrize(
    "response",
    [httpx.Response(200, text="hello"), httpx.Response(302, headers={"Location": "http://t"})],
    ids=["text", "redirect"],
)
def test_what_is_no_answer_is_found_out(response: httpx.Response) -> None:
    with (
        Client("http://s", transport=httpx.MockTransport(lambda _: response)) as client,
        pytest.raises(UnexpectedAnswerError, match=f"status {response.status_code}"),
    ):
        client.score(b"a")
