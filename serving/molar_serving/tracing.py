"""A span of each request for OpenTelemetry, where ``[serve] opentelemetry`` asks for it; the extra ``tracing``.

Where spans go, and how many of them, the environment says as OpenTelemetry has it
(https://opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables/): ``OTEL_EXPORTER_OTLP_ENDPOINT``,
``OTEL_SERVICE_NAME``, ``OTEL_TRACES_SAMPLER``. A collector that does not answer costs spans; no answer waits for it.
"""

import time
from typing import TYPE_CHECKING, Any

from starlette.datastructures import Headers
from starlette.types import Scope

from molar_retrieval.errors import BackendError
from molar_serving.observed import Observer

if TYPE_CHECKING:
    from opentelemetry.context import Context

_PATIENCE = 2  # seconds for a collector, also for what is left when the server ends
_FAULT = 500


class Traced(Observer):
    """Has a span made of each request: which endpoint it came to, how it ended, how long it took."""

    def __init__(self, spans: "Spans") -> None:
        self._spans = spans

    def answered(self, scope: Scope, status: int, seconds: float) -> None:
        """Make its span."""
        self._spans.add(scope, status, seconds)


class Spans:
    """What makes and sends the spans of one process; a BackendError where the extra is not installed.

    Paths, parameters and bodies are in no span: they name people.
    """

    def __init__(self) -> None:
        try:
            from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
            from opentelemetry.sdk.resources import SERVICE_NAME, OTELResourceDetector, Resource
            from opentelemetry.sdk.trace import TracerProvider
            from opentelemetry.sdk.trace.export import BatchSpanProcessor
        except ImportError as error:
            raise BackendError(
                f"[serve] opentelemetry is on, and a package is not installed: {error.name}",
                "run `pip install 'molar-retrieval[tracing]'`, or leave the setting out",
            ) from error
        self._ids = _request_ids()
        named = Resource({SERVICE_NAME: "molar"}).merge(OTELResourceDetector().detect())
        self._provider = TracerProvider(resource=named, id_generator=self._ids, shutdown_on_exit=False)
        self._provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(timeout=_PATIENCE)))
        self._tracer = self._provider.get_tracer("molar.serving")

    def add(self, scope: Scope, status: int, seconds: float) -> None:
        """Make the span of a request that took some ``seconds`` until now; the status is 0 where no answer began."""
        from opentelemetry.trace import SpanKind, StatusCode

        method, route, ends = scope["method"], scope.get("endpoint_path"), time.time_ns()
        self._ids.request = scope["request_id"]
        span = self._tracer.start_span(
            method if route is None else f"{method} {route}",
            _parent(scope),
            SpanKind.SERVER,
            {"http.request.method": method, "http.response.status_code": status, "http.route": route or ""},
            start_time=ends - int(1e9 * seconds),
        )
        if status == 0 or status >= _FAULT:
            span.set_status(StatusCode.ERROR)
        span.end(ends)

    def close(self) -> None:
        """Send what is left; no more than a few seconds."""
        self._provider.shutdown()


def _parent(scope: Scope) -> "Context":
    """The span that asked, or nothing where none was named."""
    from opentelemetry.context import Context
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    if "trace_id" not in scope:
        return Context()
    sent = Headers(scope=scope)
    named = {name: ",".join(sent.getlist(name)) for name in ("traceparent", "tracestate")}
    return TraceContextTextMapPropagator().extract(named, Context())


def _request_ids() -> Any:
    """A generator of ids of spans that are those of requests, as :func:`molar_serving.traces.passed_on` tells them."""
    from opentelemetry.sdk.trace.id_generator import RandomIdGenerator

    class RequestIds(RandomIdGenerator):
        request = ""

        def generate_span_id(self) -> int:
            return int(self.request[:16], 16)

    return RequestIds()
