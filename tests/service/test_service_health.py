"""Health and metrics on a port of their own, and the log of the command, over real sockets."""

import json
import re
import socket
from pathlib import Path

import httpx
import pytest
from service_doubles import SETTINGS, check_problem, in_thread, tiny_cascade, tiny_scorer, until_ready
from service_process import server

from pcdm_core.model import save_pretrained
from service import create_app

HOME = SETTINGS.model_copy(update={"metrics_port": 0})


async def test_health_and_metrics_are_on_their_own_port_while_the_application_runs() -> None:
    app = create_app(HOME, load=lambda _: tiny_scorer(), launch=in_thread)
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://s") as main, app.router.lifespan_context(app):
        port = app.state.health.port
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", trust_env=False) as other:
            await until_ready(other)
            assert (await main.get("/readyz")).status_code == 200
            assert (await main.get("/healthz")).status_code == (await other.get("/healthz")).status_code == 200
            check_problem(await main.get("/metrics"), 404)
            check_problem(await other.post("/score"), 404)
            metrics = await other.get("/metrics")
            assert 'pcdm_worker_up{model="cifar10-haar"} 1.0' in metrics.text
            assert metrics.headers["x-content-type-options"] == "nosniff"
            assert "server" not in metrics.headers
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port), 1)


def test_the_command_logs_nothing_but_json_where_it_is_told_to(tmp_path: Path) -> None:
    save_pretrained(tiny_cascade(), tmp_path / "toy")
    with server(tmp_path / "toy", log_format="json", metrics_port=0) as running:
        answer = httpx.get(f"{running.url}/healthz?key=secret", trust_env=False)
        found = re.search(r"health and metrics are on port (\d+)", running.log.read_text())
        assert found
        assert "pcdm_worker_up" in httpx.get(f"http://127.0.0.1:{found[1]}/metrics", trust_env=False).text
        running.process.terminate()
        running.process.wait(20)
    lines = [json.loads(line) for line in running.log.read_text().splitlines()]
    [request] = [line for line in lines if line.get("route") == "/healthz"]
    assert request["request_id"] == answer.headers["x-request-id"]
    assert {"service.server", "service.model_host", "service.worker", "uvicorn.error"} <= {
        one["logger"] for one in lines
    }
    assert "secret" not in running.log.read_text()
