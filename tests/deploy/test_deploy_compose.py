"""The compose files keep to what docs/deploy.md promises, read by hand and by Compose itself."""

import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from service import Settings

ROOT: Final = Path(__file__).parents[2]
# Said by the image, by this file, or by docker-compose.keys.yml.
FIXED: Final = {"PCDM_MODEL", "PCDM_HOST", "PCDM_PORT", "PCDM_METRICS_PORT", "PCDM_API_KEYS_FILE"}


def read(name: str) -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load((ROOT / name).read_text(encoding="utf-8"))
    return content


SERVICES: Final = read("docker-compose.yml")["services"]


def compose() -> list[str]:
    """The command of Compose: of version 2 if it is there, or else of version 1."""
    if shutil.which("docker") and not subprocess.run(["docker", "compose", "version"], capture_output=True).returncode:
        return ["docker", "compose"]
    if shutil.which("docker-compose"):
        return ["docker-compose"]
    pytest.skip("neither docker compose nor docker-compose is installed")


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_can_do_no_more_than_it_must(name: str) -> None:
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert "cap_add" not in service
    assert "privileged" not in service
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert all(mount.startswith("/tmp:") and "noexec" in mount and "size=" in mount for mount in service["tmpfs"])


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_has_limits(name: str) -> None:
    assert {"cpus", "mem_limit", "pids_limit"} <= set(SERVICES[name])


@pytest.mark.parametrize("name", SERVICES)
def test_ports_are_published_on_the_loopback_address(name: str) -> None:
    for port in SERVICES[name]["ports"]:
        assert re.fullmatch(r"\$\{\w+:-127\.0\.0\.1:\d+\}:\d+", port), port


@pytest.mark.parametrize("name", SERVICES)
def test_what_is_mounted_from_the_tree_is_there_and_read_only(name: str) -> None:
    for mount in SERVICES[name].get("volumes", []):
        source, _, mode = mount.partition(":")
        if source.startswith("."):
            assert (ROOT / source).exists()
            assert mode.endswith(":ro")


def test_images_of_others_have_a_fixed_version() -> None:
    for name in ("prometheus", "grafana"):
        assert re.search(r":v?\d+\.\d+\.\d+\}$", SERVICES[name]["image"])


def test_every_setting_of_the_service_can_be_chosen() -> None:
    offered = {name for name in SERVICES["pcdm"]["environment"] if name.startswith("PCDM_")}
    assert offered | FIXED == {f"PCDM_{name.upper()}" for name in Settings.model_fields}


def test_settings_that_are_not_chosen_keep_the_defaults_of_the_service() -> None:
    environment = SERVICES["pcdm"]["environment"]
    assert {value for name, value in environment.items() if name.startswith("PCDM_") and name not in FIXED} == {None}


def test_with_a_gpu_the_service_does_without_it_in_no_case() -> None:
    device = read("docker-compose.gpu.yml")["services"]["pcdm"]["environment"]["PCDM_DEVICE"]
    assert device == "${PCDM_DEVICE:-cuda}"


def test_prometheus_asks_where_the_metrics_are_and_nobody_else_can() -> None:
    (targets,) = [
        one for one in read("deploy/prometheus/prometheus.yml")["scrape_configs"] if one["job_name"] == "pcdm"
    ]
    port = SERVICES["pcdm"]["environment"]["PCDM_METRICS_PORT"]
    assert targets["static_configs"] == [{"targets": [f"pcdm:{port}"]}]
    assert not any(published.endswith(f":{port}") for published in SERVICES["pcdm"]["ports"])


def test_a_stop_waits_longer_than_a_request_may_take() -> None:
    seconds = re.fullmatch(r"\$\{PCDM_STOP_GRACE:-(\d+)s\}", SERVICES["pcdm"]["stop_grace_period"])
    assert seconds is not None
    assert int(seconds[1]) > Settings.model_fields["request_timeout_ms"].default / 1000


def test_temporary_files_hold_the_largest_request() -> None:
    # Twice: what was received, and the files that were told apart in it.
    size = re.search(r"size=\$\{PCDM_TMP_SIZE:-(\d+)g\}", SERVICES["pcdm"]["tmpfs"][0])
    assert size is not None
    assert int(size[1]) << 30 >= 2 * Settings.model_fields["max_request_bytes"].default


def test_keys_come_from_a_secret() -> None:
    keys = read("docker-compose.keys.yml")
    service, (secret,) = keys["services"]["pcdm"], keys["secrets"]
    assert service["secrets"] == [secret]
    assert service["environment"]["PCDM_API_KEYS_FILE"] == f"/run/secrets/{secret}"


@pytest.mark.parametrize(
    "files",
    [
        ["docker-compose.yml"],
        ["docker-compose.yml", "docker-compose.gpu.yml"],
        ["docker-compose.yml", "docker-compose.keys.yml"],
        ["docker-compose.yml", "deploy/test/docker-compose.test.yml"],
    ],
    ids=lambda files: str(files[-1]),
)
def test_compose_takes_the_files(files: list[str]) -> None:
    chosen = [word for name in files for word in ("-f", name)]
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PCDM_", "COMPOSE_"))}
    run = subprocess.run([*compose(), *chosen, "config"], cwd=ROOT, env=environment, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert "127.0.0.1" in run.stdout
