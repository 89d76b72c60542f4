"""docs/deploy.md tells of what is there."""

import re
import shlex
from pathlib import Path
from typing import Final

import pytest
import yaml

from service import Settings

ROOT: Final = Path(__file__).parents[2]
PAGE: Final = (ROOT / "docs" / "deploy.md").read_text(encoding="utf-8")
COMPOSE: Final = (ROOT / "docker-compose.yml").read_text(encoding="utf-8")
OFFERED: Final = set(re.findall(r"\$\{([A-Z_]+):-", re.sub(r"^\s*#.*$", "", COMPOSE, flags=re.MULTILINE)))
RULES: Final = yaml.safe_load((ROOT / "deploy" / "prometheus" / "alerts.yml").read_text(encoding="utf-8"))


def test_every_choice_of_the_compose_file_is_told() -> None:
    # The limits of the other containers are in the compose file alone.
    beside = {f"{name}_{limit}" for name in ("PROMETHEUS", "GRAFANA") for limit in ("CPUS", "MEMORY")}
    assert OFFERED - beside <= set(re.findall(r"`([A-Z_]+)`", PAGE))


def test_no_choice_is_told_that_there_is_not() -> None:
    told = set(re.findall(r"^\| (`[A-Z_`, ]+`) \|", PAGE, re.MULTILINE))
    names = {name for row in told for name in re.findall(r"[A-Z_]+", row)}
    assert names
    assert names <= OFFERED | set(yaml.safe_load(COMPOSE)["services"]["pcdm"]["environment"])


def test_every_alert_is_told_with_its_severity() -> None:
    rules = {(rule["alert"], rule["labels"]["severity"]) for group in RULES["groups"] for rule in group["rules"]}
    assert set(re.findall(r"^\| `(Pcdm\w+)` \| (\w+) \|", PAGE, re.MULTILINE)) == rules


def test_every_setting_named_is_one() -> None:
    named = set(re.findall(r"PCDM_[A-Z_]+", PAGE)) - OFFERED
    assert named <= {f"PCDM_{name.upper()}" for name in Settings.model_fields}


@pytest.mark.parametrize("name", sorted(set(re.findall(r"`((?:deploy/|docker-compose\.)[\w./-]+)`", PAGE))))
def test_every_file_named_is_there(name: str) -> None:
    if name == "docker-compose.override.yml":  # the reader's own
        assert not (ROOT / name).exists()
    else:
        assert (ROOT / name).exists()


def test_every_command_is_of_a_known_kind() -> None:
    blocks = "".join(re.findall(r"^```sh\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE))
    words = [shlex.split(line)[0] for line in blocks.splitlines()]
    assert set(words) == {"docker", "curl", "make", "promtool"}
