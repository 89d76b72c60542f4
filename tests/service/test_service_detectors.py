"""The detector that a request chooses, of those that the model is calibrated with."""

from pathlib import Path

import httpx
import numpy as np
import pytest
from model_folders import encode_array, noise_images, save_model
from service_doubles import check_problem, in_thread, score, serving, until, until_ready

from pcdm_core.scoring import CascadeScorer, Fidelity
from service import Settings, create_app

SLOWER = Fidelity(nodes=3)
IMAGES = noise_images(3)
UPLOADS = [(f"{index}.png", encode_array(image)) for index, image in enumerate(IMAGES)]


@pytest.fixture
def scorer(tmp_path: Path) -> CascadeScorer:
    return save_model(tmp_path / "sure", 2, alpha=0.1, further=("typicality", SLOWER))


async def test_a_request_chooses_its_detector_and_the_models_own_is_the_default(scorer: CascadeScorer) -> None:
    async with serving(scorer) as client:
        answers = [
            (await score(client, *UPLOADS, **named)).json()
            for named in ({}, {"detector": "typicality"}, {"detector": "spectrum"})
        ]
    assert [answer["detector"] for answer in answers] == ["spectrum", "typicality", "spectrum"]
    assert answers[0]["results"] == answers[2]["results"]
    for answer in answers:
        own = scorer.detectors[answer["detector"]].score(IMAGES)
        assert answer["fidelity"]["nodes"] == {"spectrum": 10, "typicality": 3}[answer["detector"]]
        assert [one["p_value"] for one in answer["results"]] == [one.p_value for one in own]
        assert [one["score"] for one in answer["results"]] == pytest.approx([one.score for one in own], abs=1e-4)
        assert [one["network_calls"] for one in answer["results"]] == [one.network_calls for one in own]


async def test_a_model_without_calibration_has_no_level(tmp_path: Path) -> None:
    async with serving(save_model(tmp_path / "plain", 1), Settings(alpha=0.7)) as client:
        answer = (await score(client, UPLOADS[0])).json()
    assert (answer["detector"], answer["alpha"], answer["results"][0]["is_ood"]) == (None, None, None)


async def test_the_likelihood_asked_for_is_the_same_whoever_judges(scorer: CascadeScorer) -> None:
    async with serving(scorer) as client:
        first, second = [
            (await score(client, *UPLOADS, fidelity="balanced", detector=name)).json()["results"]
            for name in scorer.detectors
        ]
    bits = [[one["bits_per_dim"] for one in results] for results in (first, second)]
    assert bits[0] == pytest.approx(bits[1], abs=1e-4)
    assert [one["score"] for one in first] != pytest.approx([one["score"] for one in second], abs=1e-3)


async def test_a_detector_that_the_model_does_not_have_is_refused(scorer: CascadeScorer, tmp_path: Path) -> None:
    async with serving(scorer) as client:
        problem = check_problem(await score(client, UPLOADS[0], detector="forest"), 422)
    assert problem["type"].endswith("no-such-detector")
    assert problem["detail"].endswith("is not calibrated with the detector forest, only with spectrum, typicality")
    async with serving(save_model(tmp_path / "plain", 1)) as client:
        problem = check_problem(await score(client, UPLOADS[0], detector="spectrum"), 422)
    assert problem["detail"].endswith("is not calibrated with the detector spectrum, only with none")


async def test_each_flags_at_its_level_or_at_the_deployments(scorer: CascadeScorer) -> None:
    for setting, level in ((None, 0.1), (0.7, 0.7)):
        async with serving(scorer, Settings(alpha=setting)) as client:
            for name in scorer.detectors:
                answer = (await score(client, *UPLOADS, detector=name)).json()
                assert answer["alpha"] == level
                assert [one["is_ood"] for one in answer["results"]] == [
                    one["p_value"] <= level for one in answer["results"]
                ]


async def test_the_model_tells_its_detectors(scorer: CascadeScorer) -> None:
    async with serving(scorer) as client:
        await until_ready(client)
        [told] = (await client.get("/models")).json()["models"]
    assert told["detectors"] == [
        {"name": "spectrum", "alpha": 0.1, "calibration_size": 30, "nodes": 10},
        {"name": "typicality", "alpha": 0.1, "calibration_size": 30, "nodes": 3},
    ]


async def test_a_deployment_chooses_the_default(scorer: CascadeScorer) -> None:
    async with serving(scorer, Settings(detector="typicality")) as client:
        answers = [(await score(client, *UPLOADS, **asked)).json() for asked in ({}, {"detector": "spectrum"})]
        [told] = (await client.get("/models")).json()["models"]
        text = (await client.get("/metrics")).text
    assert [answer["detector"] for answer in answers] == ["typicality", "spectrum"]
    assert [one["name"] for one in told["detectors"]] == ["typicality", "spectrum"]
    assert told["fidelities"][0]["nodes"] == 3
    assert "pcdm_score_count" in text
    assert next(line for line in text.splitlines() if line.startswith("pcdm_score_count")).endswith(" 3.0")


async def test_a_model_without_the_deployments_detector_is_not_served(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    plain = save_model(tmp_path / "plain", 1, alpha=0.1)
    app = create_app(Settings(detector="forest"), load=lambda _: plain, launch=in_thread)
    transport = httpx.ASGITransport(app)
    async with app.router.lifespan_context(app), httpx.AsyncClient(transport=transport, base_url="http://s") as client:
        await until(lambda: "is not calibrated with the detector forest, only with spectrum" in caplog.text)
        problem = check_problem(await score(client, UPLOADS[0]), 503)
    assert problem["type"].endswith("not-ready")


async def test_an_inference_request_chooses_too(scorer: CascadeScorer) -> None:
    tensor = {"name": "image", "shape": [3, 3, 8, 8], "datatype": "UINT8", "data": IMAGES.ravel().tolist()}
    async with serving(scorer) as client:
        await until_ready(client)
        [name] = [one["name"] for one in (await client.get("/models")).json()["models"]]
        document = {"inputs": [tensor], "outputs": [{"name": "p_value"}]}
        asked = document | {"parameters": {"detector": "typicality"}}
        answer = (await client.post(f"/v2/models/{name}/infer", json=asked)).json()
        unknown = document | {"parameters": {"detector": "forest"}}
        check_problem(await client.post(f"/v2/models/{name}/infer", json=unknown), 422)
    assert answer["parameters"] == {
        "digest": scorer.digest,
        "fidelity": "fast",
        "detector": "typicality",
        "alpha": 0.1,
    }
    own = scorer.detectors["typicality"].score(IMAGES)
    assert answer["outputs"][0]["data"] == [one.p_value for one in own]


async def test_only_what_the_default_says_is_in_the_series_of_scores(scorer: CascadeScorer) -> None:
    async with serving(scorer) as client:
        await score(client, *UPLOADS, detector="typicality")
        await score(client, UPLOADS[0])
        text = (await client.get("/metrics")).text
    counts = {line.partition("{")[0]: line.rsplit(" ", 1)[1] for line in text.splitlines() if "_count{model" in line}
    assert (counts["pcdm_score_count"], counts["pcdm_p_value_count"]) == ("1.0", "1.0")
    images = [float(line.rsplit(" ", 1)[1]) for line in text.splitlines() if line.startswith("pcdm_images_total{")]
    assert np.sum(images) == 4
