"""The page about the service under load."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from statistics import median, quantiles
from typing import Any

from commands import table
from load_clients import DEADLINE
from load_faults import FAULTS
from load_figures import OVERLOADS
from load_servers import SERVERS
from matplotlib.figure import Figure

__all__ = ["draw", "report"]

REPORT = """# The service under load

Made by `benchmarks/under_load.py` with the model of digest `{digest:.12}`, on {processor}, {cores} cores,
over the loopback interface; torch {torch}, FastAPI {fastapi}, uvicorn {uvicorn}, LitServe {litserve}, Locust
{locust}. The load generator is Locust, in one process of its own on the same cores. Every answer is compared with
what the model itself says of the same images. *Throughput* is of the answers (200), *goodput* of those that are right
and came within {deadline:g} s, measured from the moment at which the request was due.

Measured: {dates}.

## Against the model alone

{each} images a request, `balanced`, 4 clients that wait for their answers, the model alone and the service in turns
({rounds} times): {raw} images/s by the model alone, {through} through HTTP; the median of the
ratios is **{ratio:.2f}**.
The generator took {share:.1%} of a core.

One request after the other to a model that computes nothing, through the same processes: median
**{overhead:.1f} ms**, 99th percentile {overhead99:.1f} ms (medians of rounds of {noop:,} requests of one image, of
which the medians were {overheads} ms).

## Beside other servers

The same model, processors, clients and images (one a request, `fast`, {calls} network calls). *Plain FastAPI* answers
each request in a thread, with the model behind a lock. *LitServe* has {peer[workers]} workers, which share the cores,
makes batches of up to {peer[images]} images, and drops what waits longer than {peer[seconds]:g} s. This service is told
of the client's {deadline:g} s by `X-Request-Timeout-Ms`; the others have no such thing. LitServe's three numbers are
those that suit it best of a few (below), found by trial for this model on this machine just before; this service was
told none of them. Requests arrive at random, whether or not others are answered, for {seconds:.0f} s: 1x is what
this service answers when 8 clients wait for it, {capacity:.1f} requests/s at the beginning. This service and LitServe
are there all the time, one of them standing still: they take turns, {turns} at each load, each with other arrivals,
and in the other order. Plain FastAPI, which goes on with what nobody waits for any more, is started anew for each load.
Figures are the medians of the turns, of the answers that came later than
{deadline:g} s after the begin and before the last request was due, as whoever comes first finds no queue; counts of
answers are of all.

{rows}

The speed of the machine changes within minutes, so the ratio in each turn says more than these medians. This service's
figures, as multiples of LitServe's in the same turn (of the latencies p50 and p99, less is better), with the quartiles
of these multiples:

{ratios}

At 2x this service has {goodput_ratio:.2f} times its goodput at 1x. For a whole minute of it, its goodput was
{minute[goodput]:.1f} requests/s, p50 {minute[p50]:.2f} s, p99 {minute[p99]:.2f} s. In this and the turns at 2x
{refused:,} of its requests were refused, {invited:,} of them with a 429 and `Retry-After`; {late:,} were taken and not
answered in time (504).

![Goodput and latency](PICTURE)

LitServe with batches of up to so many images, where it drops what waits longer than so many seconds, and with so many
workers, once each for 20 s; 1x is {peer_capacity:.1f} requests/s here:

{peers}

## Memory

{memory_requests:,} requests of {memory_calls} network calls from 8 clients, after a tenth as many to warm up, on
{memory_processor}: all processes of the service together had {first:.0f} MB before and {last:.0f} MB
after, **{growth:+.1%}** (memory of their own, without what they share).
"""

FAULTS_REPORT = """## Faults

At about half of that load, {fault_seconds:.0f} s each; the fault comes after about 10 s. *As before after*: from the
fault until the last request that was not answered within {deadline:g} s was due. The API was asked for its health ten
times a second.

{faults}
"""


def _dates(measured: dict[str, str]) -> str:
    """What was measured when and by what; `measured` is the day of each part, and the interpreter if that is known."""
    days: dict[str, list[str]] = {}
    for part, day in sorted(measured.items()):
        days.setdefault(day, []).append(part.replace("_", " "))
    return "; ".join(f"on {day} {', '.join(parts)}" for day, parts in sorted(days.items()))


def report(document: dict[str, Any], picture: str) -> str:
    through, servers = document["throughput"], document["side_by_side"]["servers"]
    ratios = _ratios(servers["pcdm"], servers["litserve"])
    servers = {kind: {load: _typical(turns) for load, turns in found.items()} for kind, found in servers.items()}
    own, memory = servers["pcdm"], document["memory"]
    twice, minute = own["2.0"], document["side_by_side"]["minute"]
    page = REPORT.format(
        dates=_dates(document["dates"]),
        digest=document["digest"],
        processor=document["machine"]["processor"],
        cores=document["machine"]["cores"],
        **document["versions"],
        deadline=DEADLINE,
        each=through["images_per_request"],
        rounds=len(through["raw"]),
        raw=_listed(through["raw"]),
        through=_listed(through["through_http"]),
        ratio=through["ratio"],
        share=through["generator_cpu_share"],
        overhead=1000 * median(document["overhead"]["p50"]),
        overhead99=1000 * median(document["overhead"]["p99"]),
        overheads=", ".join(f"{1000 * one:.1f}" for one in document["overhead"]["p50"]),
        noop=document["overhead"]["requests"],
        calls=document["fast"],
        peer=document["side_by_side"]["litserve"],
        seconds=twice["seconds"],
        turns=twice["turns"],
        capacity=document["side_by_side"]["capacity"],
        rows=_side_by_side(servers),
        ratios=ratios,
        goodput_ratio=twice["goodput"] / own["1.0"]["goodput"],
        minute=minute,
        refused=twice["refused"] + minute["refused"],
        invited=twice["invited"] + minute["invited"],
        late=twice["statuses"].get("504", 0) + minute["statuses"].get("504", 0),
        peers=_peers(document["peers"]["settings"]),
        peer_capacity=document["peers"]["capacity"],
        memory_requests=memory["requests"] * 10 // 11,
        memory_calls=memory["network_calls"],
        memory_processor=memory["processor"],
        first=memory["resident"][0] / 1e6,
        last=memory["resident"][-1] / 1e6,
        growth=memory["growth"],
    )
    if "faults" in document:
        found = document["faults"]
        page += "\n" + FAULTS_REPORT.format(
            deadline=DEADLINE, fault_seconds=found["none"]["seconds"], faults=_faults(found)
        )
    return page.replace("PICTURE", picture)


def _typical(turns: list[dict[str, Any]]) -> dict[str, Any]:
    """Medians of the turns, and counts of all together."""
    statuses = Counter[str]()
    for one in turns:
        statuses.update(one["statuses"])
    known = {key: [one[key] for one in turns if one[key] is not None] for key in ("p50", "p99")}
    return {
        "turns": len(turns),
        "seconds": turns[0]["seconds"],
        "statuses": dict(sorted(statuses.items())),
        **{key: median(one[key] for one in turns) for key in ("throughput", "goodput")},
        **{key: median(values) if values else None for key, values in known.items()},
        **{key: sum(one[key] for one in turns) for key in ("refused", "invited")},
    }


def _listed(rates: list[float]) -> str:
    return ", ".join(f"{rate:.1f}" for rate in rates)


def _side_by_side(servers: dict[str, Any]) -> str:
    head = ["load", "server", "throughput, 1/s", "p50, s", "p99, s", "goodput, 1/s", "answers"]
    return table(
        [
            [
                f"{overload:g}x",
                name,
                f"{found['throughput']:.1f}",
                _seconds(found["p50"]),
                _seconds(found["p99"]),
                f"{found['goodput']:.1f}",
                _answers(found),
            ]
            for overload in OVERLOADS
            for kind, name in SERVERS.items()
            for found in [servers[kind][str(overload)]]
        ],
        head=head,
    )


def _ratios(own: dict[str, Any], other: dict[str, Any]) -> str:
    rows = []
    for overload in OVERLOADS:
        for figure in ("throughput", "goodput", "p50", "p99"):
            turns = zip(own[str(overload)], other[str(overload)], strict=True)
            found = [one[figure] / peer[figure] for one, peer in turns]
            low, middle, high = quantiles(found, n=4, method="inclusive")
            rows.append([f"{overload:g}x", figure, f"**{middle:.3f}**", f"{low:.3f} to {high:.3f}"])
    return table(rows, head=["load", "figure", "median", "quartiles"])


def _peers(found: list[dict[str, Any]]) -> str:
    head = ["images", "seconds", "workers", "throughput at 1x", "goodput at 1x", "throughput at 2x", "goodput at 2x"]
    return table(
        [
            [
                one["images"],
                f"{one['seconds']:g}",
                one["workers"],
                *(f"{one['loads'][load][key]:.1f}" for load in ("1.0", "2.0") for key in ("throughput", "goodput")),
            ]
            for one in found
        ],
        head=head,
    )


def _faults(found: dict[str, Any]) -> str:
    head = ["fault", "answers", "wrong", "p99, s", "as before after", "API"]
    return table(
        [
            [
                name,
                _answers(one),
                one["wrong"],
                _seconds(one["p99"]),
                f"{one['until_as_before']:.1f} s",
                "always there" if one["always_alive"] else "was gone",
            ]
            for kind, (name, _) in FAULTS.items()
            for one in [found[kind]]
        ],
        head=head,
    )


def _answers(found: dict[str, Any]) -> str:
    """Counts by status; 0 is none within the clients' patience."""
    return ", ".join(
        f"{count:,} {'unanswered' if status == '0' else status}" for status, count in found["statuses"].items()
    )


def _seconds(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"


def draw(document: dict[str, Any], file: Path) -> None:
    """Goodput and the median latency of each server against the load."""
    servers = {
        kind: [_typical(found[str(overload)]) for overload in OVERLOADS]
        for kind, found in document["side_by_side"]["servers"].items()
    }
    figure = Figure(figsize=(8, 3), layout="constrained")
    for axes, (key, label) in zip(
        figure.subplots(1, 2), {"goodput": "goodput, requests/s", "p50": "median latency, s"}.items(), strict=True
    ):
        for kind, name in SERVERS.items():
            axes.plot(list(OVERLOADS), [one[key] for one in servers[kind]], "o-", label=name)
        axes.set(xlabel="load", ylabel=label, xticks=list(OVERLOADS))
        axes.set_ylim(bottom=0)
        axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(file, dpi=120)
