"""What Prometheus is told, read back from the application as Prometheus would."""

import asyncio
import os
import re
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import httpx
import numpy as np
import pytest
from prometheus_client.parser import text_string_to_metric_families
from service_doubles import (
    SETTINGS,
    SteeredModel,
    in_thread,
    score,
    serving,
    steered,
    tiny_cascade,
    until,
    until_ready,
)

from pcdm_core.detection import Calibration, SpectrumDetector
from pcdm_core.model import save_pretrained
from pcdm_core.scoring import FIDELITIES, CascadeScorer, Findings
from service import Settings, create_app
from service.observer import DispatchReason, Observer
from service.served_model import ServedModel

from hostile_images import encode, photo  # isort: skip  # found through service_doubles

NATIVE = encode(photo(8, 8))
NAMES = {
    "pcdm_requests": "method route status",
    "pcdm_request_duration_seconds": "route",
    "pcdm_refused": "reason",
    "pcdm_queue_units": "model",
    "pcdm_queue_cost": "model",
    "pcdm_batch_units": "model",
    "pcdm_batches": "model reason",
    "pcdm_batch_duration_seconds": "model",
    "pcdm_event_loop_lag_seconds": "",
    "pcdm_worker_up": "model",
    "pcdm_worker_restarts": "model",
    "pcdm_network_calls": "model",
    "pcdm_images": "model verdict",
    "pcdm_score": "model",
    "pcdm_p_value": "model",
    "pcdm_drift_statistic": "model",
    "pcdm_drift_p_value": "model",
    "pcdm_model": "model digest detector alpha calibration_size device",
}


async def read(client: httpx.AsyncClient) -> dict[str, float]:
    """All samples, by their name and labels as they are printed."""
    answer = await client.get("/metrics")
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/plain; version=")
    return samples(answer.text)


def samples(text: str) -> dict[str, float]:
    found = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            labels = ",".join(f"{name}={value}" for name, value in sorted(sample.labels.items()))
            found[f"{sample.name}{{{labels}}}"] = sample.value
    return found


def calibrated(size: int = 19) -> CascadeScorer:
    """A small real model, calibrated with noise."""
    cascade = tiny_cascade()
    plain = CascadeScorer(cascade, model_name="tiny", digest="0123")
    noise = np.random.default_rng(0).integers(0, 256, (20 + size, 3, 8, 8), dtype=np.uint8)
    found = Findings.of(plain.score(noise, FIDELITIES["fast"]), plain.layout(FIDELITIES["fast"]))
    features = found.seen_by(SpectrumDetector())
    identity = plain.identity(FIDELITIES["fast"], "spectrum")
    calibration = Calibration.fit(features[:20], features[20:], identity=identity)
    return CascadeScorer(cascade, model_name="tiny", digest="0123", calibration=calibration)


async def test_requests_are_counted_by_route_and_never_by_path() -> None:
    async with serving() as client:
        await score(client, ("a.png", NATIVE))
        for path in ("/nowhere/1", "/nowhere/2"):
            await client.get(path)
        await client.request("BREW", "/healthz")
        found = await read(client)
    assert found["pcdm_requests_total{method=POST,route=/score,status=200}"] == 1
    assert found["pcdm_requests_total{method=GET,route=unmatched,status=404}"] == 2
    assert found["pcdm_requests_total{method=other,route=/healthz,status=405}"] == 1
    assert found["pcdm_request_duration_seconds_count{route=/score}"] == 1
    assert found["pcdm_request_duration_seconds_sum{route=/score}"] > 0
    assert not any("nowhere" in name or "BREW" in name for name in found)


async def test_refusals_are_counted_by_their_kind_of_problem() -> None:
    async with serving(settings=Settings(max_images=1)) as client:
        await score(client, ("a.png", NATIVE), ("b.png", NATIVE))
        await score(client, ("a.png", b"text"))
        await score(client, ("a.png", b"text"))
        found = await read(client)
    assert found["pcdm_refused_total{reason=too-many-images}"] == 1
    assert found["pcdm_refused_total{reason=image-refused}"] == 2


async def test_an_unexpected_error_is_counted_as_a_500() -> None:
    scorer = SteeredModel()
    scorer.gate.set()
    scorer.combine = lambda units, results: [][0]  # type: ignore[method-assign]  # noqa: ARG005
    async with serving(scorer) as client:
        await score(client, ("a.png", steered(1)))
        found = await read(client)
    assert found["pcdm_requests_total{method=POST,route=/score,status=500}"] == 1


async def test_waiting_work_is_told_as_long_as_it_waits() -> None:
    scorer = SteeredModel()
    async with serving(scorer) as client:
        asking = asyncio.create_task(score(client, *[("a.png", steered(1))] * 20))
        await until(scorer.started.is_set)
        during = await read(client)
        scorer.gate.set()
        await asking
        after = await read(client)
    for name in ("pcdm_queue_units{model=steered}", "pcdm_queue_cost{model=steered}"):
        assert (during[name], after[name]) == (20, 0)


async def test_batches_are_counted_by_why_they_left() -> None:
    scorer = SteeredModel()
    async with serving(scorer, Settings(max_batch=4)) as client:
        first = asyncio.create_task(score(client, ("a.png", steered(1))))
        await until(scorer.started.is_set)
        second = asyncio.create_task(score(client, *[("a.png", steered(2))] * 5))
        await until(lambda: backlog(client) == 6)
        scorer.gate.set()
        await asyncio.gather(first, second)
        await score(client, ("a.png", steered(254)))  # kills the worker, and again alone
        found = await read(client)
    reasons = get_args(DispatchReason)
    left = {reason: found[f"pcdm_batches_total{{model=steered,reason={reason}}}"] for reason in reasons}
    assert scorer.batches == [[1], [2] * 4, [2], [254], [254]]
    assert left == {"idle": 2, "full": 1, "free": 1, "retry": 1}
    assert found["pcdm_batch_units_sum{model=steered}"] == 8
    assert found["pcdm_batch_units_bucket{le=1.0,model=steered}"] == 4
    assert found["pcdm_batch_duration_seconds_count{model=steered}"] == 5


def backlog(client: httpx.AsyncClient) -> float:
    transport: Any = client._transport
    waiting: float = transport.app.state.engine.ready().batcher.backlog
    return waiting


async def test_images_are_counted_by_verdict_with_their_scores_and_p_values() -> None:
    async with serving(calibrated(), Settings(alpha=0.05)) as client:
        answer = await score(client, ("a.png", NATIVE), ("b.png", NATIVE))
        found = await read(client)
    results = answer.json()["results"]
    verdict = "ood" if results[0]["is_ood"] else "normal"
    assert found[f"pcdm_images_total{{model=tiny,verdict={verdict}}}"] == 2
    assert found["pcdm_images_total{model=tiny,verdict=uncalibrated}"] == 0
    assert found["pcdm_network_calls_total{model=tiny}"] == sum(one["network_calls"] for one in results)
    assert found["pcdm_score_count{model=tiny}"] == found["pcdm_p_value_count{model=tiny}"] == 2
    assert found["pcdm_score_sum{model=tiny}"] == pytest.approx(sum(one["score"] for one in results))
    assert found["pcdm_p_value_sum{model=tiny}"] == pytest.approx(sum(one["p_value"] for one in results))
    assert (
        found["pcdm_model_info{alpha=0.05,calibration_size=19,detector=spectrum,device=cpu,digest=0123,model=tiny}"]
        == 1
    )


async def test_images_of_a_model_without_calibration_are_counted_as_such() -> None:
    async with serving() as client:
        await score(client, ("a.png", NATIVE))
        found = await read(client)
    assert found["pcdm_images_total{model=tiny,verdict=uncalibrated}"] == 1
    assert found["pcdm_score_count{model=tiny}"] == 0
    assert found["pcdm_model_info{alpha=,calibration_size=0,detector=,device=cpu,digest=0123,model=tiny}"] == 1


async def test_drift_is_told_from_a_hundred_images_on() -> None:
    images = [("a.png", NATIVE)] * 50  # all alike, so all of one p-value
    async with serving(calibrated(), Settings(drift_window=100)) as client:
        [p_value, *others] = [one["p_value"] for one in (await score(client, *images)).json()["results"]]
        assert set(others) == {p_value}
        early = await read(client)
        await score(client, *images)
        found = await read(client)
    assert not any("drift" in name for name in early)
    assert found["pcdm_drift_statistic{model=tiny}"] == pytest.approx(max(p_value - 1 / 20, 1 - p_value))
    assert found["pcdm_drift_p_value{model=tiny}"] < 1e-3


async def test_a_model_that_took_the_place_of_another_begins_a_new_window() -> None:
    runner = in_thread(lambda _: calibrated(), Path(), calibrated())
    first, second = (ServedModel("m", calibrated(), {}, [runner], Settings(), lambda _: Observer()) for _ in range(2))
    assert first.drift is not None
    first.drift.add([0.5] * 100)
    assert len(first.drift) == 100
    assert second.drift is not None
    assert len(second.drift) == 0
    await first.stop()
    await second.stop()


async def test_a_worker_that_died_is_told_and_its_successor_too(tmp_path: Path) -> None:
    save_pretrained(tiny_cascade(), tmp_path / "toy")
    app = create_app(Settings(model=tmp_path / "toy"))
    transport = httpx.ASGITransport(app)
    told = []
    async with app.router.lifespan_context(app), httpx.AsyncClient(transport=transport, base_url="http://s") as client:
        await until_ready(client)
        (worker,) = app.state.engine.ready().runners
        told.append(await read(client))
        os.kill(worker.pid, signal.SIGKILL)
        await until(lambda: not worker.up)
        told.append(await read(client))
        await until_ready(client)
        told.append(await read(client))
    assert [one["pcdm_worker_up{model=toy}"] for one in told] == [1, 0, 1]
    restarts = [one["pcdm_worker_restarts_total{model=toy}"] for one in told]
    assert (restarts[0], restarts[-1]) == (0, 1)


async def test_a_model_that_cannot_be_loaded_is_told_as_one_without_a_worker() -> None:
    def load(folder: Path) -> CascadeScorer:
        if folder.name == "torn":
            raise ValueError("the weights are torn")
        return calibrated()

    app = create_app(Settings(models="good=good,torn=torn"), load=load, launch=in_thread)
    transport = httpx.ASGITransport(app)
    async with app.router.lifespan_context(app), httpx.AsyncClient(transport=transport, base_url="http://s") as client:
        await until(lambda: all(host.state != "loading" for host in app.state.engine.hosts.values()))
        found = await read(client)
    assert (found["pcdm_worker_up{model=good}"], found["pcdm_worker_up{model=torn}"]) == (1, 0)


async def test_applications_of_one_process_count_apart() -> None:
    async with serving() as one, serving() as other:
        await score(one, ("a.png", NATIVE))
        assert (await read(one))["pcdm_images_total{model=tiny,verdict=uncalibrated}"] == 1
        assert (await read(other))["pcdm_images_total{model=tiny,verdict=uncalibrated}"] == 0


async def test_openmetrics_is_spoken_to_who_asks_for_it() -> None:
    async with serving() as client:
        answer = await client.get("/metrics", headers={"Accept": "application/openmetrics-text; version=1.0.0"})
    assert answer.headers["content-type"].startswith("application/openmetrics-text")
    assert answer.text.endswith("# EOF\n")


def families(text: str) -> Iterator[tuple[str, str]]:
    for family in text_string_to_metric_families(text):
        if not family.name.endswith("_created"):
            labels = {name for sample in family.samples for name in sample.labels} - {"le"}
            yield family.name.removesuffix("_info"), " ".join(sorted(labels))


async def test_metrics_have_the_names_and_labels_that_are_documented() -> None:
    async with serving(calibrated(), SETTINGS) as client:
        await score(client, *[("a.png", NATIVE)] * 100)
        await score(client, ("a.png", b"text"))
        found = dict(families((await client.get("/metrics")).text))
    assert found == {name: " ".join(sorted(labels.split())) for name, labels in NAMES.items()}
    page = (Path(__file__).parents[2] / "docs" / "metrics.md").read_text(encoding="utf-8")
    documented = re.findall(r"^\| `(pcdm_\w+)(?:\{([\w, ]*)\})?` \|", page, re.MULTILINE)
    shown = {re.sub("_(total|info)$", "", name): " ".join(sorted(re.findall(r"\w+", of))) for name, of in documented}
    assert shown == found
