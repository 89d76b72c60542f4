"""Metrics, log and trace of one application, brought together: of each request, and of the way of its units."""

import asyncio
import contextlib
import logging
import threading
import time
from collections.abc import AsyncIterator
from contextlib import AbstractContextManager
from typing import Any, Final

from fastapi.telemetry import TelemetryConfig
from opentelemetry.context import get_current
from opentelemetry.trace import Span, StatusCode, Tracer, TracerProvider
from opentelemetry.util.types import AttributeValue
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.logs import current_request, fields
from service.metrics import Metrics
from service.middleware import HttpMiddleware
from service.observer import DispatchReason, Observer, Passage
from service.tracing import (
    TRACE_RESPONSE_HEADER,
    child_span,
    exporting_provider,
    is_recorded,
    request_span,
    tracer_of,
)

__all__ = ["NO_TELEMETRY", "Telemetry", "TelemetryMiddleware"]

NO_TELEMETRY: Final[TelemetryConfig] = {"tracing": False, "metrics": False, "logs": False, "auto_configure": False}
"""For FastAPI: its own spans hold the query, and would be beside ours."""

_HUNG_UP: Final = 499
"""What nginx logs where a client was gone before it had an answer: HTTP has no status for that."""

_UNMATCHED: Final = "unmatched"
"""The route of a request that has none."""

_log: Final = logging.getLogger(__name__)
# Anything may be sent as a method, and each would be a series of its own.
_METHODS: Final = frozenset({"CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "TRACE"})
_FLUSH_SECONDS: Final = 5.0


class Telemetry:
    """What an application says of its work.

    Args:
        provider: Where spans go; chosen by the environment's `OTEL_*` if left out.

    Attributes:
        metrics: To be exposed, and counted into.
    """

    def __init__(self, *, provider: TracerProvider | None = None) -> None:
        self.metrics = Metrics()
        self._exporting = exporting_provider() if provider is None else None
        self.tracer = tracer_of(self._exporting if provider is None else provider)

    def observer(self, model: str) -> Observer:
        """Hears of the work done for a model."""
        self.metrics.begin(model)
        return _ModelObserver(model, self.metrics, self.tracer)

    def span(self, name: str, **attributes: AttributeValue) -> AbstractContextManager[None]:
        """A span of a part of the request that is being handled."""
        return child_span(self.tracer, name, **attributes)

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Send the last spans at the end, if that does not take long."""
        try:
            yield
        finally:
            shut_down = getattr(self._exporting, "shutdown", None)
            if shut_down is not None:
                # Not a thread of the pool, which the interpreter would wait for.
                last = threading.Thread(target=shut_down, name="last spans", daemon=True)
                last.start()
                await asyncio.to_thread(last.join, _FLUSH_SECONDS)


class _ModelObserver(Observer):
    def __init__(self, model: str, metrics: Metrics, tracer: Tracer) -> None:
        self._model = model
        self._metrics = metrics
        self._tracer = tracer

    def queued(self, units: int) -> Passage:
        """Begin a span of the wait, of a request that is recorded."""
        if not is_recorded():
            return Passage()
        return _TracedPassage(self._tracer, self._model, units)

    def ran(self, units: int, reason: DispatchReason, seconds: float) -> None:
        """Count the batch."""
        self._metrics.batch(self._model, units, reason, seconds)


class _TracedPassage(Passage):
    """The spans `wait`, until a first unit runs, and `run`, until the last has run."""

    def __init__(self, tracer: Tracer, model: str, units: int) -> None:
        self._tracer = tracer
        self._attributes: dict[str, str | int] = {"pcdm.model": model, "pcdm.units": units}
        self._context = get_current()
        self._span: Span | None = self._start("wait")
        self._runs = False

    def _start(self, name: str) -> Span:
        return self._tracer.start_span(name, context=self._context, attributes=self._attributes)

    def began(self) -> None:
        """End the one span, begin the other."""
        if not self._runs and self._span is not None:
            self._runs = True
            self._span.end()
            self._span = self._start("run")

    def ended(self) -> None:
        """End the one that is there."""
        if self._span is not None:
            self._span.end()
            self._span = None


class TelemetryMiddleware(HttpMiddleware):
    """Counts, logs and traces every request. Wraps all others: what they refuse is told too."""

    def __init__(self, app: ASGIApp, *, telemetry: Telemetry) -> None:
        super().__init__(app)
        self._telemetry = telemetry

    async def _handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, and note what became of it."""
        state: dict[str, Any] = scope.setdefault("state", {})
        method = scope["method"] if scope["method"] in _METHODS else "other"
        status: int | None = None
        began = time.perf_counter()
        with request_span(self._telemetry.tracer, Headers(scope=scope), method) as (span, trace):
            state |= {"trace_id": trace.trace_id, "trace_response": trace.response}
            # Not taken back: an unexpected error is logged outside of all middleware, in this task, which ends then.
            current_request.set(state)

            async def send_noting(message: Message) -> None:
                nonlocal status
                if message["type"] == "http.response.start":
                    status = message["status"]
                    MutableHeaders(scope=message)[TRACE_RESPONSE_HEADER] = trace.response
                await send(message)

            try:
                await self._app(scope, receive, send_noting)
            except Exception:
                status = 500 if status is None else status  # as whoever is outside of all middleware will answer
                raise
            finally:
                status = _HUNG_UP if status is None else status
                self._note(span, method, scope, status, time.perf_counter() - began)

    def _note(self, span: Span, method: str, scope: Scope, status: int, seconds: float) -> None:
        state = scope["state"]
        route = str(getattr(scope.get("route"), "path", _UNMATCHED))
        problem: str | None = state.get("problem")
        images: int = state.get("images", 0)
        self._telemetry.metrics.request(method, route, status, seconds, refused=problem)
        span.update_name(f"{method} {route}")
        span.set_attributes(
            {
                "http.request.method": method,
                "http.route": route,
                "http.response.status_code": status,
                "pcdm.images": images,
                "pcdm.request_id": state.get("request_id", ""),
            }
        )
        if status >= 500:
            span.set_attribute("error.type", problem or str(status))
            span.set_status(StatusCode.ERROR)
        _log.info(
            "%s %s %d in %.1f ms, images: %d, request %s",
            method,
            route,
            status,
            1000 * seconds,
            images,
            state.get("request_id"),
            extra=fields(
                method=method,
                route=route,
                status=status,
                duration_ms=round(1000 * seconds, 1),
                images=images,
                **({"key": state["key_name"]} if "key_name" in state else {}),
            ),
        )
