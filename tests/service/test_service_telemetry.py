"""Log and trace of requests to the real application."""

import asyncio
import http.server
import io
import json
import logging
import re
import sys
import threading
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode
from service_doubles import SETTINGS, SteeredModel, in_thread, score, steered, tiny_scorer, until, until_ready, upload

from service import Settings, create_app
from service.logs import JsonFormatter
from service.tracing import exporting_provider

from hostile_images import encode, photo  # isort: skip  # found through service_doubles

NATIVE = encode(photo(8, 8))
TRACE_ID, SPAN_ID = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
CALLER = f"00-{TRACE_ID}-{SPAN_ID}-01"


@pytest.fixture
def log() -> Iterator[io.StringIO]:
    """What the service logs, as JSON."""
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonFormatter())
    logger = logging.getLogger("service")
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel("INFO")
    yield stream
    logger.removeHandler(handler)
    logger.setLevel(level)


def lines(log: io.StringIO, logger: str = "service.telemetry") -> list[dict[str, Any]]:
    documents = [json.loads(line) for line in log.getvalue().splitlines()]
    return [document for document in documents if document["logger"] == logger]


class Traced:
    """The application with spans kept in memory."""

    def __init__(self, scorer: Any = None, settings: Settings = SETTINGS) -> None:
        self.exporter = InMemorySpanExporter()
        provider = TracerProvider(shutdown_on_exit=False)
        provider.add_span_processor(SimpleSpanProcessor(self.exporter))
        loaded = tiny_scorer() if scorer is None else scorer
        self.app = create_app(settings, load=lambda _: loaded, launch=in_thread, tracer_provider=provider)
        transport = httpx.ASGITransport(self.app, raise_app_exceptions=False)
        self.client = httpx.AsyncClient(transport=transport, base_url="http://s")

    async def __aenter__(self) -> httpx.AsyncClient:
        self.lifespan = self.app.router.lifespan_context(self.app)
        await self.lifespan.__aenter__()
        await until_ready(self.client)
        self.exporter.clear()
        return self.client

    async def __aexit__(self, *_: object) -> None:
        await self.client.aclose()
        await self.lifespan.__aexit__(None, None, None)

    def spans(self) -> dict[str, ReadableSpan]:
        return {span.name: span for span in self.exporter.get_finished_spans()}


# The log


async def test_a_request_is_one_line_with_what_became_of_it(log: io.StringIO) -> None:
    async with Traced() as client:
        headers = {"X-Request-ID": "mine", "traceparent": CALLER}
        await client.post("/score?strict=true", files=upload(("a.png", NATIVE), ("b.png", NATIVE)), headers=headers)
    [line] = [line for line in lines(log) if line.get("route") == "/score"]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", line.pop("time"))
    assert line.pop("duration_ms") > 0
    assert line.pop("message").startswith("POST /score 200 in ")
    assert line == {
        "level": "info",
        "logger": "service.telemetry",
        "request_id": "mine",
        "trace_id": TRACE_ID,
        "method": "POST",
        "route": "/score",
        "status": 200,
        "images": 2,
    }


async def test_neither_queries_nor_headers_nor_paths_nor_images_are_logged(log: io.StringIO) -> None:
    marked = encode(photo(8, 8)) + b"secret-in-image"
    async with Traced() as client:
        headers = {"Authorization": "Bearer secret-key"}
        await client.post("/score?token=secret-query", files=upload(("a.png", marked)), headers=headers)
        await client.post("/score?strict=secret-query", files=upload(("secret-name", b"text")), headers=headers)
        await client.get("/secret-path")
    assert len([line for line in lines(log) if line["route"] != "/readyz"]) == 3
    assert "secret" not in log.getvalue()


async def test_an_unexpected_error_is_logged_with_the_ids_of_its_request(log: io.StringIO) -> None:
    scorer = SteeredModel()
    scorer.gate.set()
    scorer.combine = lambda units, results: [][0]  # type: ignore[method-assign]  # noqa: ARG005
    async with Traced(scorer) as client:
        answer = await score(client, ("a.png", steered(1)))
    [error] = lines(log, "service.problems")
    assert "IndexError" in error["exception"]
    assert error["request_id"] == answer.headers["x-request-id"]
    assert error["trace_id"] == answer.headers["traceresponse"].split("-")[1]
    assert [line["status"] for line in lines(log) if line["route"] == "/score"] == [500]


async def test_a_client_that_hung_up_is_a_499(log: io.StringIO) -> None:
    scorer = SteeredModel()
    async with Traced(scorer) as client:
        transport: Any = client._transport
        gone = asyncio.Event()
        request = client.build_request("POST", "/score", files=upload(("a.png", steered(1))))
        body = [{"type": "http.request", "body": request.read()}]

        async def receive() -> dict[str, Any]:
            if body:
                return body.pop()
            await gone.wait()
            return {"type": "http.disconnect"}

        async def send(_: Any) -> None:
            raise AssertionError("nobody is there")

        raw = [(name.lower(), value) for name, value in request.headers.raw]
        scope = {"type": "http", "method": "POST", "path": "/score", "query_string": b"", "headers": raw}
        asking = asyncio.create_task(transport.app(scope, receive, send))
        await until(scorer.started.is_set)
        gone.set()
        await asking
        scorer.gate.set()
    assert [line["status"] for line in lines(log) if line["route"] == "/score"] == [499]


def test_a_record_is_one_line_whatever_it_holds() -> None:
    record = logging.LogRecord("a", logging.WARNING, "f", 1, "two\nlines of %s", (b"\xff",), None)
    record.color_message = "not for the log"
    document = json.loads(line := JsonFormatter().format(record))
    assert "\n" not in line
    assert document["message"] == "two\nlines of b'\\xff'"
    assert (document["level"], document["request_id"], document["trace_id"]) == ("warning", None, None)
    assert "color_message" not in document


# The trace


async def test_the_spans_of_a_request_belong_to_the_callers_trace() -> None:
    traced = Traced()
    async with traced as client:
        answer = await client.post("/score?a=secret", files=upload(("a.png", NATIVE)), headers={"traceparent": CALLER})
    spans = traced.spans()
    assert set(spans) == {"POST /score", "decode", "wait", "run"}
    request = spans["POST /score"]
    assert request.context is not None
    assert request.parent is not None
    assert f"{request.parent.span_id:016x}" == SPAN_ID
    for name in ("decode", "wait", "run"):
        parent = spans[name].parent
        assert parent is not None
        assert parent.span_id == request.context.span_id
    assert {f"{span.context.trace_id:032x}" for span in spans.values() if span.context} == {TRACE_ID}
    assert answer.headers["traceresponse"] == f"00-{TRACE_ID}-{request.context.span_id:016x}-01"
    assert request.kind is SpanKind.SERVER
    assert dict(request.attributes or {}) == {
        "http.request.method": "POST",
        "http.route": "/score",
        "http.response.status_code": 200,
        "pcdm.images": 1,
        "pcdm.request_id": answer.headers["x-request-id"],
    }
    assert (spans["decode"].attributes or {})["pcdm.images"] == 1
    assert dict(spans["run"].attributes or {}) == {"pcdm.model": "cifar10-haar", "pcdm.units": 21}
    times = [(spans[name].start_time or 0, spans[name].end_time or 0) for name in ("decode", "wait", "run")]
    assert times[0][1] <= times[1][0] <= times[1][1] <= times[2][0] <= times[2][1] <= (request.end_time or 0)


async def test_a_request_that_only_waited_has_no_run() -> None:
    scorer = SteeredModel()
    traced = Traced(scorer, Settings(max_batch=1))
    async with traced as client:
        first = asyncio.create_task(score(client, ("a.png", steered(1))))
        await until(scorer.started.is_set)
        headers = {"X-Request-Timeout-Ms": "100"}
        late = await client.post("/score", files=upload(("b.png", steered(2))), headers=headers)
        assert late.status_code == 504
        waited = traced.exporter.get_finished_spans()
        scorer.gate.set()
        await first
    # One wait of each: the first request's is over, and its run is not.
    assert sorted(span.name for span in waited) == ["POST /score", "decode", "decode", "wait", "wait"]
    [request] = [span for span in waited if span.name == "POST /score"]
    assert request.status.status_code is StatusCode.ERROR
    assert (request.attributes or {})["error.type"] == "deadline-passed"


async def test_what_is_wrong_with_an_image_is_told_without_its_name() -> None:
    traced = Traced()
    async with traced as client:
        await score(client, ("secret.png", b"text"))
    decode = traced.spans()["decode"]
    assert (decode.status.status_code, decode.status.description) == (StatusCode.ERROR, "ImageError")
    assert not any("secret" in span.to_json() for span in traced.spans().values())


async def test_a_trace_that_the_caller_does_not_record_is_not_recorded() -> None:
    traced = Traced()
    async with traced as client:
        answer = await client.get("/healthz", headers={"traceparent": CALLER[:-1] + "0"})
    assert re.fullmatch(rf"00-{TRACE_ID}-(?!{SPAN_ID})[0-9a-f]{{16}}-00", answer.headers["traceresponse"])
    assert traced.spans() == {}


@pytest.mark.parametrize(
    "offered",
    [
        [],
        [""],
        [CALLER, CALLER],
        [CALLER.upper()],
        [CALLER[:-1]],
        [CALLER + "-more"],
        ["ff" + CALLER[2:]],
        [CALLER.replace(TRACE_ID, "0" * 32)],
        [CALLER.replace(SPAN_ID, "0" * 16)],
        [CALLER.replace("-", "_")],
        [CALLER.replace("4bf", "4bg")],
        [f"{CALLER}, {CALLER}"],
    ],
)
@pytest.mark.parametrize("recorded", [True, False])
async def test_without_a_well_formed_traceparent_a_trace_begins(offered: list[str], recorded: bool) -> None:
    app = Traced().app if recorded else create_app(SETTINGS, load=lambda _: tiny_scorer(), launch=in_thread)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://s") as client:
        answers = [await client.get("/healthz", headers=[("traceparent", one) for one in offered]) for _ in range(2)]
    found = [re.fullmatch(r"00-([0-9a-f]{32})-[0-9a-f]{16}-0[01]", one.headers["traceresponse"]) for one in answers]
    trace_ids = {match[1] for match in found if match}
    assert len(trace_ids) == 2
    assert not trace_ids & {TRACE_ID, "0" * 32}


@pytest.mark.parametrize("offered", [CALLER, "cc" + CALLER[2:], "cc" + CALLER[2:] + "-what-comes"])
async def test_without_recording_the_callers_trace_goes_on(offered: str) -> None:
    app = create_app(SETTINGS, load=lambda _: tiny_scorer(), launch=in_thread)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://s") as client:
        answer = await client.get("/healthz", headers={"traceparent": offered})
    assert re.fullmatch(rf"00-{TRACE_ID}-(?!{SPAN_ID})[0-9a-f]{{16}}-00", answer.headers["traceresponse"])


# Where spans go


@pytest.fixture
def collector(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[tuple[str, bytes]]]:
    """Somebody who takes spans over HTTP, named by the standard variable."""
    pytest.importorskip("opentelemetry.exporter.otlp.proto.http")
    received = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            received.append((self.path, self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        yield received
        server.shutdown()
        thread.join()


async def test_spans_are_sent_to_where_the_environment_says(collector: list[tuple[str, bytes]]) -> None:
    app = create_app(SETTINGS, load=lambda _: tiny_scorer(), launch=in_thread)
    transport = httpx.ASGITransport(app)
    async with app.router.lifespan_context(app), httpx.AsyncClient(transport=transport, base_url="http://s") as client:
        await client.get("/healthz", headers={"traceparent": CALLER})
    assert {path for path, _ in collector} == {"/v1/traces"}
    sent = b"".join(body for _, body in collector)
    assert bytes.fromhex(TRACE_ID) in sent
    assert b"GET /healthz" in sent
    assert b"service.name\x12\x06\n\x04pcdm" in sent


async def test_without_the_extra_the_service_runs_and_says_what_is_missing(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setitem(sys.modules, "opentelemetry.exporter.otlp.proto.http.trace_exporter", None)
    app = create_app(SETTINGS, load=lambda _: tiny_scorer(), launch=in_thread)
    transport = httpx.ASGITransport(app)
    async with app.router.lifespan_context(app), httpx.AsyncClient(transport=transport, base_url="http://s") as client:
        await until_ready(client)
        answer = await score(client, ("a.png", NATIVE))
    assert answer.status_code == 200
    assert answer.headers["traceresponse"].endswith("-00")
    assert "pip install 'pcdm[otel]'" in caplog.text


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ({}, ""),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c", "OTEL_SDK_DISABLED": "true"}, ""),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c", "OTEL_TRACES_EXPORTER": "none"}, ""),
        ({"OTEL_TRACES_EXPORTER": "zipkin"}, "not zipkin"),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, "(over grpc)"),
    ],
)
def test_nothing_is_sent_unless_it_is_asked_for_and_can_be(
    variables: dict[str, str], said: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert exporting_provider() is None
    assert said in caplog.text
    assert bool(caplog.text) == bool(said)
