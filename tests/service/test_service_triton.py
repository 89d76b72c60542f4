"""NVIDIA's own client of the Open Inference Protocol, against a real server."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from model_folders import encode_array, noise_images, save_model
from service_doubles import upload
from service_process import Server, server

from pcdm_core.scoring import FIDELITIES, CascadeScorer, Score

triton = pytest.importorskip("tritonclient.http")
errors = pytest.importorskip("tritonclient.utils")

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks processes up in /proc")

IMAGES = noise_images(3)


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of two models, of which one gives verdicts."""
    folder = tmp_path_factory.mktemp("triton") / "models"
    save_model(folder / "plain", 2)
    save_model(folder / "sure", 1, alpha=0.05)
    return folder


@pytest.fixture(scope="module")
def scorer(repository: Path) -> CascadeScorer:
    return CascadeScorer.from_pretrained(repository / "sure")


@pytest.fixture(scope="module")
def running(repository: Path) -> Iterator[Server]:
    with server(repository, models=repository) as one:
        yield one


@pytest.fixture
def client(running: Server) -> Iterator[Any]:
    one = triton.InferenceServerClient(running.url.removeprefix("http://"), network_timeout=60)
    yield one
    one.close()


def image(*, binary: bool = True) -> Any:
    tensor = triton.InferInput("image", list(IMAGES.shape), "UINT8")
    tensor.set_data_from_numpy(IMAGES, binary_data=binary)
    return tensor


def check(answer: Any, expected: list[Score], *names: str) -> None:
    for name in names:
        values = answer.as_numpy(name)
        assert values.dtype == (np.bool_ if name == "is_ood" else np.float64)
        assert values.tolist() == pytest.approx([getattr(one, name) for one in expected], abs=1e-4)


ALL = ("score", "p_value", "is_ood", "bits_per_dim")


def test_the_client_sees_the_server_and_its_models(client: Any) -> None:
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("sure")
    assert not client.is_model_ready("other")
    assert client.get_server_metadata()["extensions"] == ["binary_tensor_data"]
    told = client.get_model_metadata("sure")
    assert told["inputs"] == [{"name": "image", "datatype": "UINT8", "shape": [-1, 3, 8, 8]}]
    assert [one["name"] for one in told["outputs"]] == list(ALL)


def test_bytes_in_and_bytes_out(client: Any, scorer: CascadeScorer) -> None:
    answer = client.infer("sure", [image()], request_id="a-1")
    check(answer, scorer.score(IMAGES), *ALL)
    told = answer.get_response()
    assert (told["id"], told["model_name"], told["parameters"]["digest"]) == ("a-1", "sure", scorer.digest)
    assert all("binary_data_size" in one["parameters"] for one in told["outputs"])


def test_json_in_and_selected_outputs_in_either_form(client: Any, scorer: CascadeScorer) -> None:
    outputs = [
        triton.InferRequestedOutput("is_ood", binary_data=False),
        triton.InferRequestedOutput("p_value", binary_data=True),
    ]
    answer = client.infer("sure", [image(binary=False)], outputs=outputs)
    check(answer, scorer.score(IMAGES), "is_ood", "p_value")
    assert [one["name"] for one in answer.get_response()["outputs"]] == ["is_ood", "p_value"]
    assert answer.as_numpy("score") is None


def test_a_fidelity_is_a_parameter(client: Any, scorer: CascadeScorer) -> None:
    answer = client.infer("sure", [image()], parameters={"fidelity": "balanced"})
    check(answer, scorer.score(IMAGES, FIDELITIES["balanced"]), *ALL)
    assert answer.get_response()["parameters"]["fidelity"] == "balanced"


def test_the_answers_are_those_of_the_other_interface(client: Any, running: Server) -> None:
    files = upload(*((f"{n}.png", encode_array(one)) for n, one in enumerate(IMAGES)))
    answer = httpx.post(f"{running.url}/score", params={"model": "plain"}, files=files, trust_env=False, timeout=60)
    told = client.infer("plain", [image()]).as_numpy("bits_per_dim").tolist()
    assert told == pytest.approx([one["bits_per_dim"] for one in answer.json()["results"]], abs=1e-4)


def test_the_client_tells_our_errors_as_its_own(client: Any) -> None:
    with pytest.raises(errors.InferenceServerException, match="there is no model other, only plain, sure") as refused:
        client.infer("other", [image()])
    assert refused.value.status() == "404"
    small = triton.InferInput("image", [1, 3, 4, 4], "UINT8")
    small.set_data_from_numpy(np.zeros((1, 3, 4, 4), np.uint8))
    with pytest.raises(errors.InferenceServerException, match=r"\[-1, 3, 8, 8\] with at least one image, not \[1, 3"):
        client.infer("sure", [small])
    with pytest.raises(errors.InferenceServerException, match="a body is sent as it is, not as gzip"):
        client.infer("sure", [image()], request_compression_algorithm="gzip")
    with pytest.raises(errors.InferenceServerException, match="there is no score, only bits_per_dim"):
        client.infer("plain", [image()], outputs=[triton.InferRequestedOutput("score")])
