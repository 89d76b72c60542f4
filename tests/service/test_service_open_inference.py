"""The Open Inference Protocol by hand: what fits is answered, and what does not is told where its clients look."""

import asyncio
import json
from typing import Any

import httpx
import numpy as np
import pytest
from model_folders import noise_images, save_model
from service_doubles import SETTINGS, SteeredModel, check_problem, serving, tiny_scorer, until

from service import Settings

TENSOR = {"name": "image", "datatype": "UINT8", "shape": [2, 3, 8, 8]}
IMAGES = noise_images(2)
LENGTH = "Inference-Header-Content-Length"


def request(tensor: dict[str, Any] | None = None, **members: Any) -> dict[str, Any]:
    return {"inputs": [{**TENSOR, "data": IMAGES.flatten().tolist(), **(tensor or {})}], **members}


def binary(document: dict[str, Any], rest: bytes) -> tuple[bytes, dict[str, str]]:
    text = json.dumps(document).encode()
    return text + rest, {LENGTH: str(len(text))}


async def infer(client: httpx.AsyncClient, document: dict[str, Any], name: str = "tiny") -> httpx.Response:
    return await client.post(f"/v2/models/{name}/infer", json=document)


def check_error(answer: httpx.Response, status: int, told: str) -> dict[str, Any]:
    problem = check_problem(answer, status)
    assert problem["error"] == problem["detail"]
    assert told in problem["error"]
    return problem


async def test_nested_flat_and_binary_data_give_the_same() -> None:
    tensor = {**TENSOR, "parameters": {"binary_data_size": IMAGES.nbytes}}
    async with serving() as client:
        flat = await infer(client, request())
        nested = await infer(client, request({"data": IMAGES.tolist()}))
        body, headers = binary({"inputs": [tensor]}, IMAGES.tobytes())
        bytes_ = await client.post("/v2/models/tiny/infer", content=body, headers=headers)
        # The length of the document alone, as some clients always tell it.
        body, headers = binary(request(), b"")
        alone = await client.post("/v2/models/tiny/infer", content=body, headers=headers)
    assert flat.status_code == 200, flat.text
    [output] = flat.json()["outputs"]
    assert (output["name"], output["datatype"], output["shape"]) == ("bits_per_dim", "FP64", [2])
    expected = [one.bits_per_dim for one in tiny_scorer().score(IMAGES)]
    assert output["data"] == pytest.approx(expected, abs=1e-4)
    for same in (nested, bytes_, alone):
        assert same.json()["outputs"][0]["data"] == pytest.approx(output["data"], abs=1e-4)
    assert flat.json() == {
        "model_name": "tiny",
        "parameters": {"digest": "0123", "fidelity": "fast"},
        "outputs": [output],
    }


async def test_an_output_as_bytes_follows_the_document() -> None:
    async with serving() as client:
        answer = await infer(client, request(id="7", parameters={"binary_data_output": True, "fidelity": "balanced"}))
        text = await infer(client, request(parameters={"fidelity": "balanced"}))
    length = int(answer.headers[LENGTH])
    document = json.loads(answer.content[:length])
    assert document["id"] == "7"
    [output] = document["outputs"]
    assert (output["parameters"], "data" in output) == ({"binary_data_size": 16}, False)
    found = np.frombuffer(answer.content[length:], "<f8")
    assert found == pytest.approx(text.json()["outputs"][0]["data"], abs=1e-4)
    assert answer.headers["content-type"] == "application/octet-stream"


MISFITS: dict[str, tuple[Any, str]] = {
    "no JSON": (b"{", "EOF while parsing"),
    "no inputs": ({}, "inputs: Field required"),
    "another input": (request({"name": "text"}), "the only one is image, not text"),
    "two inputs": ({"inputs": [*request()["inputs"]] * 2}, "the only one is image, not image, image"),
    "another type": (request({"datatype": "FP32"}), "the datatype is UINT8, not FP32"),
    "another size": (
        request({"shape": [2, 3, 4, 16]}),
        "the shape is [-1, 3, 8, 8] with at least one image, not [2, 3, 4, 16]",
    ),
    "no batch": (request({"shape": [3, 8, 8]}), "not [3, 8, 8]"),
    "nothing": (request({"shape": [0, 3, 8, 8], "data": []}), "with at least one image"),
    "negative": (request({"shape": [-1, 3, 8, 8]}), "inputs.0.shape.0"),
    "too few": (request({"data": [1, 2, 3]}), "takes 384 values, data has 3"),
    "ragged": (request({"data": [IMAGES[0].tolist(), IMAGES[1, :2].tolist()]}), "neither flat nor of the shape"),
    "half nested": (request({"data": [[1] * 192, [1] * 192]}), "neither flat nor of the shape [2, 3, 8, 8]"),
    "fractions": (request({"data": [0.5] * 384}), "whole numbers from 0 to 255"),
    "truth": (request({"data": [True] * 384}), "whole numbers from 0 to 255"),
    "text": (request({"data": ["1"] * 384}), "whole numbers from 0 to 255"),
    "too large": (request({"data": [256] * 384}), "whole numbers from 0 to 255"),
    "deep": (b'{"inputs": ' + b"[" * 100_000, "recursion limit"),
    "no data": ({"inputs": [TENSOR]}, "needs either data or the parameter binary_data_size"),
    "shared memory": (
        {"inputs": [{**TENSOR, "parameters": {"shared_memory_region": "r", "shared_memory_byte_size": 384}}]},
        "needs either data",
    ),
    "no length": (
        {"inputs": [{**TENSOR, "parameters": {"binary_data_size": 384}}]},
        f"binary_data_size needs the header {LENGTH}",
    ),
    "unknown output": (request(outputs=[{"name": "score"}]), "there is no score, only bits_per_dim"),
    "output twice": (request(outputs=[{"name": "bits_per_dim"}] * 2), "bits_per_dim is asked for twice"),
    "classes": (
        request(outputs=[{"name": "bits_per_dim", "parameters": {"classification": 2}}]),
        "outputs.0.parameters.classification",
    ),
    "unknown fidelity": (request(parameters={"fidelity": "best"}), "'fast', 'balanced' or 'exact'"),
}


@pytest.mark.parametrize("name", MISFITS)
async def test_a_request_that_does_not_fit_is_told_where(name: str) -> None:
    document, told = MISFITS[name]
    content = document if isinstance(document, bytes) else json.dumps(document).encode()
    async with serving() as client:
        answer = await client.post("/v2/models/tiny/infer", content=content)
    assert check_error(answer, 400, told)["type"].endswith("invalid-request")


@pytest.mark.parametrize(
    ("size", "sent", "length", "told"),
    [
        (384, 383, None, "takes 384 bytes; binary_data_size is 384, and 383 bytes follow"),
        (192, 192, None, "takes 384 bytes; binary_data_size is 192"),
        (384, 384, "9999999", "is 9999999, and the body has"),
        (None, 384, None, "384 bytes after its document, which belong to no tensor"),
    ],
)
async def test_bytes_that_do_not_fit_are_told(size: int | None, sent: int, length: str | None, told: str) -> None:
    tensor = {**TENSOR, "parameters": {"binary_data_size": size}} if size else request()["inputs"][0]
    body, headers = binary({"inputs": [tensor]}, bytes(sent))
    async with serving() as client:
        answer = await client.post(
            "/v2/models/tiny/infer", content=body, headers={LENGTH: length} if length else headers
        )
    check_error(answer, 400, told)


async def test_errors_of_any_kind_are_told_where_the_protocol_has_them() -> None:
    gzip = {"Content-Encoding": "gzip"}
    async with serving(settings=Settings(max_images=1)) as client:
        check_error(await infer(client, request()), 413, "2 images are more than the limit of 1")
        check_error(await infer(client, request(), "other"), 404, "only tiny")
        check_error(await client.get("/v2/models/other"), 404, "only tiny")
        check_error(await client.get("/v2/nothing"), 404, "Not Found")
        check_error(await client.post("/v2/models/tiny/infer", content=b"", headers=gzip), 415, "not as gzip")
        check_error(await client.post("/v2/models/tiny/infer", headers={LENGTH: "-1"}), 422, LENGTH)
        large = b" " * (64 * 1024 + 192 * 32 + 1)
        check_error(await client.post("/v2/models/tiny/infer", content=large), 413, "larger than the limit")
        assert "error" not in (await client.get("/nothing")).json()


def pixels(*values: int) -> dict[str, Any]:
    data = [pixel for value in values for pixel in (value, 0)]
    return {"inputs": [{"name": "image", "datatype": "UINT8", "shape": [len(values), 1, 1, 2], "data": data}]}


async def test_a_failing_model_is_told() -> None:
    scorer = SteeredModel()
    scorer.gate.set()
    async with serving(scorer) as client:
        check_error(await infer(client, pixels(255), "steered"), 500, "the model failed")
        assert (await infer(client, pixels(1), "steered")).status_code == 200


async def test_a_value_that_is_no_number_is_no_answer() -> None:
    scorer = SteeredModel()
    scorer.gate.set()
    plain = scorer.combine
    scorer.combine = lambda units, results: [  # type: ignore[method-assign]
        type(one)(**{**vars(one), "bits_per_dim": float("nan")}) for one in plain(units, results)
    ]
    async with serving(scorer) as client:
        binary_output = {**pixels(1), "parameters": {"binary_data_output": True}}
        check_error(await infer(client, binary_output, "steered"), 500, "the model failed")


async def test_admission_deadlines_and_drain_are_those_of_any_request() -> None:
    scorer = SteeredModel()
    settings = SETTINGS.model_copy(update={"max_queue_cost": 2.0})
    async with serving(scorer, settings) as client:
        transport: Any = client._transport
        engine = transport.app.state.engine
        late = await infer(client, {**pixels(1), "parameters": {"timeout": 20_000}}, "steered")
        check_error(late, 504, "not answered after 20 ms")
        late = await client.post("/v2/models/steered/infer", json=pixels(1), headers={"X-Request-Timeout-Ms": "30"})
        check_error(late, 504, "not answered after 30 ms")
        held = asyncio.create_task(infer(client, pixels(1, 2), "steered"))
        await until(lambda: engine.ready().batcher.backlog == 2)
        refused = await infer(client, pixels(3), "steered")
        check_error(refused, 429, "too much work is waiting")
        assert int(refused.headers["retry-after"]) >= 1
        draining = asyncio.create_task(engine.drain())
        await asyncio.sleep(0)
        check_error(await infer(client, pixels(3), "steered"), 503, "stopping")
        check_error(await client.get("/v2/health/ready"), 503, "stopping")
        assert (await client.get("/v2/health/live")).json() == {"live": True}
        assert not draining.done()
        scorer.gate.set()
        assert (await held).json()["outputs"][0]["data"] == [1, 2]
        await draining


async def test_the_metadata_is_of_what_the_model_gives(tmp_path: Any) -> None:
    async with serving(save_model(tmp_path / "sure", 1, alpha=0.05)) as client:
        told = (await client.get("/v2/models/sure")).json()
        answer = (await infer(client, request(), "sure")).json()
    assert told["inputs"] == [{"name": "image", "datatype": "UINT8", "shape": [-1, 3, 8, 8]}]
    given = {one["name"]: one["datatype"] for one in told["outputs"]}
    assert given == {"score": "FP64", "p_value": "FP64", "is_ood": "BOOL", "bits_per_dim": "FP64"}
    assert {one["name"]: one["datatype"] for one in answer["outputs"]} == given
    assert answer["parameters"]["alpha"] == 0.05


async def test_the_interface_shows_a_whole_request() -> None:
    async with serving() as client:
        paths = (await client.get("/openapi.json")).json()["paths"]
    operation = paths["/v2/models/{name}/infer"]["post"]
    schema = operation["requestBody"]["content"]["application/json"]["schema"]
    assert "$ref" not in json.dumps(schema)
    assert set(schema["properties"]["inputs"]["items"]["properties"]) == {
        "name",
        "shape",
        "datatype",
        "parameters",
        "data",
    }
    assert set(operation["responses"]["200"]["content"]) == {"application/json", "application/octet-stream"}


@pytest.mark.parametrize("size", [2**31, 10**4298], ids=["large", "beyond words"])
async def test_a_size_that_no_tensor_has_is_refused(size: int) -> None:
    async with serving() as client:
        check_error(await infer(client, request({"shape": [size, 3, 8, 8]})), 400, "shape")
