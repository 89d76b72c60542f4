"""Whose trace a request belongs to (W3C Trace Context), and its spans.

Spans are made through OpenTelemetry's interface, which does nothing until there is somebody to send them to; trace ids
are there all the same, as the log has them.
"""

import contextlib
import logging
import os
import secrets
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Final

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import Span, SpanKind, StatusCode, Tracer, TracerProvider
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from opentelemetry.util.types import AttributeValue
from starlette.datastructures import Headers

__all__ = [
    "TRACE_RESPONSE_HEADER",
    "Trace",
    "child_span",
    "exporting_provider",
    "is_recorded",
    "request_span",
    "tracer_of",
]

TRACE_RESPONSE_HEADER: Final = "traceresponse"
"""Of the W3C's draft "Trace Context: response header"; the recommendation itself leaves the answer open."""

_log: Final = logging.getLogger(__name__)
_TRACE_PARENT: Final = "traceparent"
_PROPAGATOR: Final = TraceContextTextMapPropagator()
_SERVICE_NAME: Final = "pcdm"


@dataclass(frozen=True)
class Trace:
    """Where a request is in its trace.

    Attributes:
        trace_id: 32 hexadecimal digits, not all zero; the caller's, if it sent one.
        span_id: 16 of them, of the request's own span.
        sampled: Whether the span is recorded.
    """

    trace_id: str
    span_id: str
    sampled: bool

    @property
    def response(self) -> str:
        """Value of the answer's header."""
        return f"00-{self.trace_id}-{self.span_id}-{int(self.sampled):02x}"


def tracer_of(provider: TracerProvider | None) -> Tracer:
    """The tracer of a provider, or of the process's own, if it has one."""
    return trace.get_tracer(_SERVICE_NAME, tracer_provider=provider)


@contextlib.contextmanager
def request_span(tracer: Tracer, headers: Headers, method: str) -> Iterator[tuple[Span, Trace]]:
    """A span that continues the caller's trace, or begins one where the caller sent none or a malformed one."""
    if _TRACE_PARENT not in headers and _is_nobodys(tracer):
        yield trace.INVALID_SPAN, Trace(trace.format_trace_id(_random(128)), trace.format_span_id(_random(64)), False)
        return
    caller = _caller(headers)
    # Its own context is ignored: nothing but the header says what a request belongs to.
    span = tracer.start_span(method, context=caller, kind=SpanKind.SERVER)
    own, parent = span.get_span_context(), trace.get_current_span(caller).get_span_context()
    # Without anybody to send spans to there is no span but the caller's, whose id is not for us to give out.
    span_id = own.span_id if own.is_valid and own.span_id != parent.span_id else _random(64)
    trace_id = own.trace_id if own.is_valid else _random(128)
    found = Trace(trace.format_trace_id(trace_id), trace.format_span_id(span_id), span.is_recording())
    with trace.use_span(span, end_on_exit=True, record_exception=False, set_status_on_exception=False):
        yield span, found


def is_recorded() -> bool:
    """Whether anybody will see the span of the request that is being handled, and so those of its parts."""
    return trace.get_current_span().is_recording()


def child_span(tracer: Tracer, name: str, **attributes: AttributeValue) -> AbstractContextManager[None]:
    """A span of a part of the request, if that is recorded.

    What went wrong is told by its kind: messages may name files.
    """
    return _recorded_span(tracer, name, attributes) if is_recorded() else contextlib.nullcontext()


@contextlib.contextmanager
def _recorded_span(tracer: Tracer, name: str, attributes: Mapping[str, AttributeValue]) -> Iterator[None]:
    with tracer.start_as_current_span(
        name, attributes=attributes, record_exception=False, set_status_on_exception=False
    ) as span:
        try:
            yield
        except BaseException as error:
            span.set_status(StatusCode.ERROR, type(error).__name__)
            raise


def exporting_provider() -> TracerProvider | None:
    """What sends spans to where the standard variables `OTEL_*` say, or None where they name no place.

    The variables for sampling, batching, headers, timeouts and resource attributes are read by the SDK.
    """
    if not _wanted():
        return None
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import SERVICE_NAME, Resource
        from opentelemetry.sdk.trace import TracerProvider as SdkTracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ModuleNotFoundError:
        _log.warning("OTEL_* variables ask for traces, which need the extra otel: pip install 'pcdm[otel]'")
        return None
    resource = Resource.create()
    if str(resource.attributes.get(SERVICE_NAME, "")).startswith("unknown_service"):  # where no variable names it
        resource = resource.merge(Resource({SERVICE_NAME: _SERVICE_NAME}))
    provider = SdkTracerProvider(resource=resource, shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    return provider


def _wanted() -> bool:
    def told(*names: str) -> str:
        return next((value for name in names if (value := os.environ.get(name, "").strip())), "")

    exporter = told("OTEL_TRACES_EXPORTER").lower()
    placed = told("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
    if told("OTEL_SDK_DISABLED").lower() == "true" or exporter == "none" or not (exporter or placed):
        return False
    protocol = told("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL") or "http/protobuf"
    if exporter not in ("", "otlp") or protocol != "http/protobuf":
        _log.warning(
            "no traces are sent: OTEL_TRACES_EXPORTER may be otlp (over http/protobuf) or none, not %s (over %s)",
            exporter or "otlp",
            protocol,
        )
        return False
    return True


def _is_nobodys(tracer: Tracer) -> bool:
    """Whether its spans go nowhere."""
    return isinstance(tracer, trace.ProxyTracer) and isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider)


def _caller(headers: Headers) -> Context:
    """What the caller's headers say, or nothing."""
    offered = headers.getlist(_TRACE_PARENT)
    if len(offered) != 1:  # which of them?
        return Context()
    return _PROPAGATOR.extract({_TRACE_PARENT: offered, "tracestate": headers.getlist("tracestate")}, Context())


def _random(bits: int) -> int:
    return secrets.randbits(bits) or 1
