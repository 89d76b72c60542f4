"""How fast the service is: beside its own model, beside nothing to compute, and beside other servers."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from load_clients import DEADLINE, Load, Plan, Requests
from load_servers import SERVERS, Server, serving
from numpy.typing import NDArray

from pcdm_core.scoring import CascadeScorer

__all__ = ["OVERLOADS", "best", "overhead", "peers", "side_by_side", "throughput"]

ROUNDS, SECONDS = 5, 20.0
OVERLOADS, TURN_SECONDS = (0.5, 1.0, 2.0), 10.0
"""Loads, as multiples of what this service answers when its clients wait for it, and for how many seconds each."""
TURNS = {"pcdm": 24, "litserve": 24, "plain": 1}
"""Of each server at each load: other arrivals in each turn, the same for all in one turn. Short ones, as the machine
changes its speed; more where it is close."""
CAPACITIES = 3
MINUTE = 60.0
PEERS = ((12, 1.0, 1), (8, 0.6, 1), (4, 0.6, 2), (3, 0.5, 2), (2, 0.6, 2))
"""Settings of LitServe that are tried: most images of a batch, seconds after which it drops what waits, workers."""


def throughput(model: Path, scorer: CascadeScorer, images: NDArray[np.uint8], requests: Requests) -> dict[str, Any]:
    """Images a second through HTTP and by the model itself, in turns, at ``balanced`` and 8 images a request."""
    each, settings = len(requests.expected[0]), scorer.fidelities["balanced"]
    raw, through, shares = [], [], []
    for _ in range(ROUNDS):
        raw.append(_rate_of(lambda: scorer.score(images, settings), SECONDS) * len(images))
        # The server starts anew each time: it must not hold memory or processors while the model runs alone.
        with serving("pcdm", model) as server:
            _load(server, requests, seconds=5, clients=4, patience=60)
            found = _load(server, requests, seconds=SECONDS, clients=4, patience=60)
        through.append(found["throughput"] * each)
        shares.append(found["generator_cpu_share"])
    ratios = [one / other for one, other in zip(through, raw, strict=True)]
    return {
        "images_per_request": each,
        "raw": raw,
        "through_http": through,
        "ratio": median(ratios),
        "generator_cpu_share": median(shares),
    }


def overhead(model: Path, requests: Requests) -> dict[str, Any]:
    """Latency of one request after the other, where the model computes nothing; seconds, of each of several rounds."""
    rounds = []
    with serving("noop", model) as server:
        _load(server, requests, seconds=5, clients=1)
        for _ in range(ROUNDS):
            with Load(Plan(server.url, requests, seconds=60, clients=1, turns=1000)) as load:
                found = load.found()
            assert (found.status == 200).all()
            rounds.append(np.quantile(found.seconds, [0.5, 0.99]).tolist())
    p50, p99 = zip(*rounds, strict=True)
    return {"requests": len(found.at), "p50": p50, "p99": p99}


def side_by_side(model: Path, requests: Requests, litserve: dict[str, Any]) -> dict[str, Any]:
    """The servers in turns under the same arrivals, below and above of what this service can do; and it for a minute.

    All are there all the time, and all but one stand still; but plain FastAPI, which would go on with what nobody waits
    for any more, is started anew each time.

    Args:
        model: Folder of the model.
        requests: Of single images.
        litserve: How LitServe is set, as `best` says.
    """
    # The median of several, as all that follows is a multiple of it: one disturbed moment would make all loads light.
    capacity = median(_warm_load("pcdm", model, requests, seconds=SECONDS)["throughput"] for _ in range(CAPACITIES))
    found: dict[str, Any] = {kind: {str(overload): [] for overload in OVERLOADS} for kind in SERVERS}
    with contextlib.ExitStack() as running:
        servers = {}
        for kind in ("pcdm", "litserve"):
            server = running.enter_context(serving(_set(**litserve) if kind == "litserve" else kind, model))
            _load(server, requests, seconds=5)
            server.pause()
            servers[kind] = server
        for turn in range(max(TURNS.values())):
            kinds = [kind for kind in SERVERS if turn < TURNS[kind]]
            for overload in OVERLOADS:
                for kind in kinds if turn % 2 == 0 else kinds[::-1]:
                    plan = {"seconds": TURN_SECONDS, "skip": DEADLINE, "rate": overload * capacity, "seed": turn}
                    if kind not in servers:
                        found[kind][str(overload)].append(_warm_load(kind, model, requests, **plan))
                        continue
                    with servers[kind].resumed():
                        found[kind][str(overload)].append(_load(servers[kind], requests, **plan))
    minute = _warm_load("pcdm", model, requests, seconds=MINUTE, rate=2 * capacity)
    return {"capacity": capacity, "litserve": litserve, "servers": found, "minute": minute}


def peers(model: Path, requests: Requests) -> dict[str, Any]:
    """LitServe with several settings, as it leaves the choice to its users; at 1x and 2x."""
    capacity = _warm_load("pcdm", model, requests, seconds=SECONDS)["throughput"]
    found = [
        {
            "images": images,
            "seconds": seconds,
            "workers": workers,
            "loads": {
                str(overload): _warm_load(
                    _set(images, seconds, workers),
                    model,
                    requests,
                    seconds=SECONDS,
                    rate=overload * capacity,
                )
                for overload in (1.0, 2.0)
            },
        }
        for images, seconds, workers in PEERS
    ]
    return {"capacity": capacity, "settings": found}


def best(found: dict[str, Any]) -> dict[str, Any]:
    """The settings of LitServe that have the best goodput of those that `peers` tried, at 1x and 2x taken together."""
    chosen = max(found["settings"], key=lambda one: sum(load["goodput"] for load in one["loads"].values()))
    return {name: chosen[name] for name in ("images", "seconds", "workers")}


def _set(images: int, seconds: float, workers: int) -> str:
    """The kind of server that LitServe is with these settings."""
    return f"litserve:{images}:{seconds}:{workers}"


def _warm_load(kind: str, model: Path, requests: Requests, **plan: Any) -> dict[str, Any]:
    """A load on a server of its own: a queue from before is nobody's fault."""
    with serving(kind, model) as server:
        _load(server, requests, seconds=5)
        return _load(server, requests, **plan)


def _rate_of(call: Callable[[], object], seconds: float) -> float:
    """Calls a second, of as many as begin within so many seconds."""
    began, calls = time.perf_counter(), 0
    while time.perf_counter() - began < seconds:
        call()
        calls += 1
    return calls / (time.perf_counter() - began)


def _load(
    server: Server, requests: Requests, *, seconds: float, skip: float | None = None, **plan: Any
) -> dict[str, Any]:
    with Load(Plan(server.url, requests, seconds, **plan)) as load:
        return load.found().summary(seconds, skip=skip)
