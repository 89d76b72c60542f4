"""Rules and dashboard ask for metrics that the service has, under labels that they have."""

import asyncio
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from service import Settings, create_app

# The running application lives with the service's tests; pytest finds only a test's own folder.
sys.path.append(str(Path(__file__).parents[1] / "service"))

from service_doubles import score, serving  # isort: skip

ROOT: Final = Path(__file__).parents[2]
SAMPLE: Final = ROOT / "tests" / "data" / "samples" / "svhn.png"
PROMETHEUS: Final = ROOT / "deploy" / "prometheus"
DASHBOARD: Final = json.loads((ROOT / "deploy/grafana/dashboards/pcdm.json").read_text(encoding="utf-8"))
DATASOURCE: Final = yaml.safe_load((ROOT / "deploy/grafana/provisioning/datasources/prometheus.yml").read_text())
ALERTS: Final = [
    rule for group in yaml.safe_load((PROMETHEUS / "alerts.yml").read_text())["groups"] for rule in group["rules"]
]
# What Prometheus itself adds to every series.
ADDED: Final = {"instance", "job"}
SUFFIXES: Final[dict[str, dict[str, set[str]]]] = {
    "counter": {"_total": set()},
    "histogram": {"_bucket": {"le"}, "_sum": set(), "_count": set()},
    "gauge": {"": set()},
}


def alert_queries() -> Iterator[tuple[str, str]]:
    for rule in ALERTS:
        yield rule["alert"], rule["expr"]


def panels() -> list[dict[str, Any]]:
    return [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]


def panel_queries() -> Iterator[tuple[str, str]]:
    for panel in panels():
        for target in panel["targets"]:
            yield f"{panel['title']} {target['refId']}", target["expr"]


def selectors(query: str) -> list[tuple[str, set[str]]]:
    """The service's series that a query names, each with the labels by which it selects."""
    found = re.findall(r"\b(pcdm_\w+)(?:\{([^}]*)\})?", query)
    return [(name, set(re.findall(r"(\w+)\s*(?:=~|!~|!=|=)", inside))) for name, inside in found]


@pytest.fixture(scope="module")
def series() -> dict[str, set[str]]:
    """Labels of each series of a running application that has answered and has refused; by the series' names."""

    async def metrics() -> str:
        async with serving() as client:
            assert (await score(client, ("a.png", SAMPLE.read_bytes()))).status_code == 200
            assert (await score(client, ("b.png", b""))).status_code == 422
            return (await client.get("/metrics")).text

    text = asyncio.run(metrics())
    found: dict[str, set[str]] = {}
    for family in text_string_to_metric_families(text):
        for suffix in SUFFIXES.get(family.type, {"": set()}):
            found.setdefault(f"{family.name}{suffix}", set())
        for sample in family.samples:
            found.setdefault(sample.name, set()).update(sample.labels)
    return found


@pytest.mark.parametrize(
    "query", [pytest.param(query, id=name) for name, query in (*alert_queries(), *panel_queries())]
)
def test_a_query_names_what_the_service_tells(query: str, series: dict[str, set[str]]) -> None:
    for name, labels in selectors(query):
        assert name in series
        # A series without samples so far, such as the drift of few images, shows no labels: each is by model.
        assert labels <= (series[name] or {"model"}) | ADDED, name


def test_queries_about_scoring_mean_every_route_that_scores() -> None:
    (pattern,) = {
        found for _, query in (*alert_queries(), *panel_queries()) for found in re.findall(r'route=~?"([^"]+)"', query)
    }
    routes = create_app(Settings()).openapi()["paths"]
    meant = {path for path, methods in routes.items() if "post" in methods and re.fullmatch(pattern, path)}
    assert meant == {"/score", "/v2/models/{name}/infer"}


def test_every_query_names_something() -> None:
    for name, query in (*alert_queries(), *panel_queries()):
        assert selectors(query) or re.search(r'\bup\{job="pcdm"', query) or query.startswith("up{"), name


def test_the_dashboard_shows_every_metric_of_the_service(series: dict[str, set[str]]) -> None:
    shown = {name for _, query in panel_queries() for name, _ in selectors(query)}
    own = {name for name in series if name.startswith("pcdm_") and not name.endswith(("_sum", "_count", "_created"))}
    batches = {"pcdm_batch_units_bucket"}  # its mean is shown, from sum and count
    assert own - shown <= batches


def test_the_dashboard_asks_the_provisioned_source() -> None:
    (source,) = DATASOURCE["datasources"]
    variables = DASHBOARD["templating"]["list"]
    assert {asked["datasource"]["uid"] for asked in (*panels(), *variables)} == {source["uid"]}
    assert source["url"] == "http://prometheus:9090"


def test_panels_do_not_share_an_id_nor_overlap() -> None:
    everything = DASHBOARD["panels"]
    assert len({panel["id"] for panel in everything}) == len(everything)
    places = [panel["gridPos"] for panel in everything]
    cells = [
        (x, y) for at in places for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])
    ]
    assert len(set(cells)) == len(cells)
    assert max(x for x, _ in cells) < 24


def test_every_alert_says_what_is_wrong_and_what_to_do() -> None:
    for rule in ALERTS:
        assert set(rule["annotations"]) == {"summary", "description"}
        assert rule["labels"]["severity"] in {"page", "ticket"}


def test_every_alert_has_a_test_in_which_it_fires() -> None:
    tests = yaml.safe_load((PROMETHEUS / "alerts_test.yml").read_text())["tests"]
    firing = {one["alertname"] for test in tests for one in test["alert_rule_test"] if one["exp_alerts"]}
    assert firing == {rule["alert"] for rule in ALERTS}


@pytest.mark.parametrize(
    "words", ["check config prometheus.yml", "check rules alerts.yml", "test rules alerts_test.yml"]
)
def test_promtool_is_content(words: str) -> None:
    if shutil.which("promtool") is None:
        pytest.skip("promtool is not installed (on Debian: apt install prometheus)")
    run = subprocess.run(["promtool", *words.split()], cwd=PROMETHEUS, capture_output=True, text=True)
    assert run.returncode == 0, run.stdout + run.stderr
