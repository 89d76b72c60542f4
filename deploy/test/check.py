"""Check a running deployment from outside: answers, health, confinement, Prometheus, and an orderly stop.

`deploy/test/run` starts one and calls this. It needs Python alone, and the addresses and the names of the containers
by the variables that docker-compose.yml takes: PCDM_PUBLISH, PROMETHEUS_PUBLISH, COMPOSE_PROJECT_NAME.
"""

import json
import os
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
SERVICE = "http://" + os.environ.get("PCDM_PUBLISH", "127.0.0.1:8000")
PROMETHEUS = "http://" + os.environ.get("PROMETHEUS_PUBLISH", "127.0.0.1:9090")
PROJECT = os.environ.get("COMPOSE_PROJECT_NAME", ROOT.name)
# Enough work to be still under way when the server is told to stop.
MANY = 100

_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def main() -> None:
    """Run every check, say how each went, and exit with status 1 if one failed."""
    failures = 0
    for check in (
        becomes_healthy,
        answers_an_image,
        is_confined,
        cannot_write_but_in_tmp,
        is_published_on_loopback_only,
        keeps_its_metrics_inside,
        is_watched_by_prometheus,
        rules_are_evaluated,
        counts_the_image,
        shows_queue_and_drift,
        finishes_its_requests_when_stopped,
    ):
        try:
            print(f"ok      {check.__name__}: {check()}", flush=True)
        except Exception as error:
            failures += 1
            print(f"FAILED  {check.__name__}: {error}", flush=True)
    sys.exit(f"{failures} checks failed" if failures else 0)


def becomes_healthy() -> str:
    """The image's own health check is content."""
    began = time.monotonic()
    until(lambda: inspect()["State"]["Health"]["Status"] == "healthy", 180, "healthy")
    return f"after {time.monotonic() - began:.0f} s; image of {image_megabytes():,} MB"


def answers_an_image() -> str:
    """A house number is told out of distribution, by the weights inside the image."""
    status, answer = score(1)
    result = answer["results"][0]
    expect(status == 200 and result["is_ood"] is True, f"{status} {answer}")
    return f"{answer['model']}, p-value {result['p_value']:.4f}"


def is_confined() -> str:
    """No root, no capability, no way to gain one, and limits: as the kernel sees the container's first process."""
    status = dict(line.split(":\t", 1) for line in inside("cat", "/proc/1/status").splitlines())
    host = inspect()["HostConfig"]
    expect(status["Uid"].split() == ["10001"] * 4, f"uids {status['Uid']}")
    expect(all(int(status[name], 16) == 0 for name in ("CapEff", "CapPrm", "CapBnd")), "capabilities are left")
    expect(status["NoNewPrivs"] == "1", "new privileges may be gained")
    expect(host["Memory"] > 0 and host["NanoCpus"] > 0 and host["PidsLimit"] > 0, "a limit is missing")
    return f"uid 10001, no capabilities, {host['Memory'] >> 20} MiB, {host['NanoCpus'] / 1e9:g} processors"


def cannot_write_but_in_tmp() -> str:
    """The root file system refuses, even where the user might have written."""
    for folder in ("/srv/pcdm", "/opt/pcdm", "/var/tmp", "/run"):
        run = exec_(("python", "-c", f"open({folder!r} + '/probe', 'w')"))
        expect(run.returncode != 0 and "Read-only file system" in run.stderr, f"{folder}: {run.stderr[-200:]}")
    inside("python", "-c", "open('/tmp/probe', 'w').write('x')")
    inside("rm", "/tmp/probe")
    return "read-only but for /tmp"


def is_published_on_loopback_only() -> str:
    """Nobody else in the network reaches a port."""
    for service in ("pcdm", "prometheus"):
        for bindings in inspect(service)["NetworkSettings"]["Ports"].values():
            for binding in bindings or ():
                expect(binding["HostIp"] == "127.0.0.1", f"{service} is published on {binding['HostIp']}")
    return "127.0.0.1"


def keeps_its_metrics_inside() -> str:
    """Clients do not see them."""
    status = status_of(f"{SERVICE}/metrics")
    expect(status == 404, f"the published port answers /metrics with {status}")
    return "not on the published port"


def is_watched_by_prometheus() -> str:
    """The target is up."""

    def state() -> tuple[str, str]:
        targets = ask(f"{PROMETHEUS}/api/v1/targets")["data"]["activeTargets"]
        return next((one["health"], one["lastError"]) for one in targets if one["labels"]["job"] == "pcdm")

    try:
        until(lambda: state()[0] == "up", 60, "up")
    except (TimeoutError, OSError) as error:
        raise RuntimeError(f"the target is {': '.join(state())}") from error
    return "the target is up"


def rules_are_evaluated() -> str:
    """Prometheus has all the rules, and none of them makes trouble."""

    def rules() -> list[dict[str, Any]]:
        return [rule for group in ask(f"{PROMETHEUS}/api/v1/rules")["data"]["groups"] for rule in group["rules"]]

    until(lambda: all(rule["health"] == "ok" for rule in rules()), 60, "rules are ok")
    written = (ROOT / "deploy/prometheus/alerts.yml").read_text().count("- alert: ")
    expect(len(rules()) == written, f"{len(rules())} rules of {written}")
    return f"{written} rules"


def counts_the_image() -> str:
    """What was answered above has come to Prometheus."""
    total = "sum(pcdm_images_total)"
    until(lambda: (in_prometheus(total) or 0) >= 1, 45, "pcdm_images_total is there")
    return f"pcdm_images_total is {in_prometheus(total):g}"


def shows_queue_and_drift() -> str:
    """Both series come to Prometheus, once there are images enough to speak of drift: all are odd, so there is some."""
    expect(score(MANY)[0] == 200, f"{MANY} images are not answered")
    until(lambda: in_prometheus("pcdm_drift_statistic") is not None, 45, "pcdm_drift_statistic is there")
    units, drift = in_prometheus("pcdm_queue_units"), in_prometheus("pcdm_drift_statistic")
    expect(units is not None and drift is not None and 0.3 < drift <= 1, f"queue {units}, drift {drift}")
    return f"pcdm_queue_units is {units:g}, pcdm_drift_statistic {drift:.2f}"


def in_prometheus(query: str) -> float | None:
    """The value of a query's first series; None if it has none."""
    found = ask(f"{PROMETHEUS}/api/v1/query?query={query}")["data"]["result"]
    return float(found[0]["value"][1]) if found else None


def finishes_its_requests_when_stopped() -> str:
    """SIGTERM: the request under way is answered, new ones are refused meanwhile, then the server ends by itself."""
    answers: list[tuple[int, Any]] = []
    asking = threading.Thread(target=lambda: answers.append(score(MANY, "?fidelity=balanced")))
    asking.start()
    time.sleep(1)
    expect(asking.is_alive(), "the request was answered too soon to prove anything")
    stopping = subprocess.Popen(["docker", "stop", "-t", "300", container()], stdout=subprocess.DEVNULL)
    try:
        until(lambda: status_of(f"{SERVICE}/readyz") == 503, 20, "refusing")
        refused, problem = score(1)
        expect(refused == 503 and problem["type"].endswith(":stopping"), f"a new request got {refused} {problem}")
        asking.join(300)
    finally:
        stopping.wait(300)
    expect(bool(answers) and answers[0][0] == 200, f"the request under way got {answers}")
    expect(len(answers[0][1]["results"]) == MANY, "some images are not answered")
    state = inspect()["State"]
    expect(state["ExitCode"] in (0, 143) and not state["OOMKilled"], f"ended with {state['ExitCode']}")
    return f"{MANY} images answered after SIGTERM, then exit status {state['ExitCode']}"


def expect(condition: bool, otherwise: str) -> None:
    """Fail with that text if the condition does not hold."""
    if not condition:
        raise RuntimeError(otherwise)


def until(condition: Callable[[], bool], seconds: float, what: str) -> None:
    """Wait for a condition; what cannot be reached yet does not fulfil it."""
    deadline = time.monotonic() + seconds
    last: Exception | None = None
    while time.monotonic() < deadline:
        try:
            if condition():
                return
        except OSError as error:
            last = error
        time.sleep(0.5)
    raise TimeoutError(f"not {what} after {seconds:g} s" + (f": {last}" if last else ""))


def ask(url: str, data: bytes | None = None, headers: dict[str, str] | None = None) -> Any:
    """The JSON at an address."""
    with _OPENER.open(urllib.request.Request(url, data, headers or {}), timeout=300) as answer:
        return json.load(answer)


def status_of(url: str) -> int:
    """The status alone."""
    try:
        with _OPENER.open(url, timeout=10) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code


def score(count: int, query: str = "") -> tuple[int, Any]:
    """Status and answer to that many copies of a sample."""
    image = (ROOT / "tests/data/samples/svhn.png").read_bytes()
    boundary = uuid.uuid4().hex
    head = f'--{boundary}\r\nContent-Disposition: form-data; name="files"; filename="svhn.png"\r\n\r\n'.encode()
    body = (head + image + b"\r\n") * count + f"--{boundary}--\r\n".encode()
    try:
        kind = {"Content-Type": f"multipart/form-data; boundary={boundary}"}
        return 200, ask(f"{SERVICE}/score{query}", body, kind)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


def docker(*words: str) -> str:
    """What a command of Docker prints."""
    run = subprocess.run(["docker", *words], capture_output=True, text=True, check=False)
    expect(run.returncode == 0, f"docker {' '.join(words)}: {run.stderr}")
    return run.stdout


def container(service: str = "pcdm") -> str:
    """The id of a service's container."""
    labels = {"project": PROJECT, "service": service}
    chosen = [word for name, value in labels.items() for word in ("-f", f"label=com.docker.compose.{name}={value}")]
    found = docker("ps", "--all", "--quiet", *chosen).split()
    expect(len(found) == 1, f"{len(found)} containers of {service} in project {PROJECT}")
    return found[0]


def inspect(service: str = "pcdm") -> Any:
    """What Docker knows of a service's container."""
    return json.loads(docker("inspect", container(service)))[0]


def image_megabytes() -> int:
    """Size of the service's image, in 10^6 bytes."""
    return int(docker("image", "inspect", "--format", "{{.Size}}", inspect()["Image"])) // 1_000_000


def exec_(words: tuple[str, ...]) -> "subprocess.CompletedProcess[str]":
    """Run something in the service's container."""
    return subprocess.run(["docker", "exec", container(), *words], capture_output=True, text=True, check=False)


def inside(*words: str) -> str:
    """What it prints, if it goes well."""
    run = exec_(words)
    expect(run.returncode == 0, f"{' '.join(words)}: {run.stderr}")
    return run.stdout


if __name__ == "__main__":
    main()
