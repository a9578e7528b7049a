"""What the server tells of itself: metrics, spans, traces that pass through, the access log, and its last warnings.

Metrics are numbers, as Prometheus reads them from ``/metrics``. Several workers add up: each counts in files of its
own, in a folder that the environment names (``PROMETHEUS_MULTIPROC_DIR``, see :func:`shared_folder`), and whichever is
asked reads those of all of them, also of those that died since.

A span of each request goes to OpenTelemetry where ``[serve] opentelemetry`` asks for it (the extra ``tracing``). Where
spans go, and how many of them, the environment says as OpenTelemetry has it
(https://opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables/): ``OTEL_EXPORTER_OTLP_ENDPOINT``,
``OTEL_SERVICE_NAME``, ``OTEL_TRACES_SAMPLER``. A collector that does not answer costs spans; no answer waits for it.

Traces that pass through are those of W3C (https://www.w3.org/TR/trace-context/): ``traceparent`` is passed on. The span
of a request is the beginning of its ``X-Request-Id``. A header that is wrong, or comes twice, is not heeded, as the
recommendation says; ``tracestate`` is for whoever writes spans.
"""

import logging
import os
import re
import tempfile
import time
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from starlette.datastructures import Headers
from starlette.types import Scope

from molar_retrieval.errors import BackendError, MolarError, redacted
from molar_retrieval.workspace.activity_log import JsonLines
from molar_retrieval.workspace.files import disk_error
from molar_serving.audit import FOLDER, Pseudonyms
from molar_serving.overload import Working

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from prometheus_client import Counter, Histogram

    from molar_retrieval.data.event_log import AppendResult

MEDIA_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_SHARED = "PROMETHEUS_MULTIPROC_DIR"
_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
_NOWHERE = "none"  # the endpoint of requests that came to none
_PATIENCE = 2  # seconds for a collector, also for what is left when the server ends
_FAULT = 500
_FORM = re.compile(r"(?!ff)([0-9a-f]{2})-(?!0{32})([0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-([0-9a-f]{2})(-.*)?")
_log = logging.getLogger("molar.serving")
_FILE, _BYTES, _OLDER = "warnings.jsonl", 1 << 18, 1
_CHARACTERS = 1_000  # of what was said


class Observer(Protocol):
    """Is told of each request."""

    def answered(self, scope: Scope, status: int, seconds: float) -> None:
        """What is done once a request was answered; the status is 0 where no answer began."""


@contextmanager
def shared_folder() -> Iterator[str]:
    """A folder in which the workers that are started meanwhile add up what they count."""
    try:
        folder = tempfile.TemporaryDirectory(prefix="molar-metrics-")
    except OSError as error:
        raise disk_error(error) or error from error
    with folder as name:
        os.environ[_SHARED] = name
        try:
            yield name
        finally:
            del os.environ[_SHARED]


def forget_process(folder: str, pid: int) -> None:
    """Count no longer what a worker that died had under way."""
    from prometheus_client.multiprocess import mark_process_dead

    mark_process_dead(pid, folder)  # type: ignore[no-untyped-call]


class Metrics:
    """The counters of one process; threads may share them."""

    def __init__(self) -> None:
        from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

        own = CollectorRegistry()
        self._own: CollectorRegistry = own
        self._requests = Counter(
            "molar_requests", "Requests that were answered", ["endpoint", "method", "status"], registry=own
        )
        self._seconds = Histogram(
            "molar_request_seconds", "Seconds from a request to the end of its answer", ["endpoint"],
            buckets=_SECONDS, registry=own,
        )  # fmt: skip
        self._shed = Counter(
            "molar_shed", "What was left out, or turned away, because too much was asked or time was short", ["what"],
            registry=own,
        )  # fmt: skip
        self._arms = Counter(
            "molar_experiment_answers", "Lists within experiments, by experiment and arm", ["experiment", "arm"],
            registry=own,
        )  # fmt: skip
        self._deaths = Counter(
            "molar_thread_restarts", "Background threads that died and were started again, by thread", ["thread"],
            registry=own,
        )  # fmt: skip
        self._events = Counter("molar_events", "Events that came, by what became of them", ["outcome"], registry=own)
        self._waiting = Gauge(
            "molar_waiting", "Requests that wait for a thread", registry=own, multiprocess_mode="livesum"
        )
        self._known = Gauge(
            "molar_answered_seq", "Last event of the log that an answer knew", registry=own, multiprocess_mode="livemax"
        )
        for what in ("reasons", "second_stage", "list", "request", "comparison"):
            self._shed.labels(what)
        for outcome in ("accepted", "duplicate", "rejected", "left_out"):
            self._events.labels(outcome)
        self._last_known = self._last_waiting = 0  # to tell again what has not changed costs a lock and two look-ups
        self._count = cache(self._requests.labels)
        self._time = cache(self._seconds.labels)

    def answered(self, endpoint: str, method: str, status: int, seconds: float) -> None:
        """Count a request."""
        counter: Counter = self._count(endpoint, method, str(status))
        histogram: Histogram = self._time(endpoint)
        counter.inc()
        histogram.observe(seconds)

    def shed(self, what: str) -> None:
        """Count what was left out: ``reasons``, ``second_stage``, a ``list``, a ``request``, or a ``comparison``."""
        self._shed.labels(what).inc()

    def thread_died(self, name: str) -> None:
        """Count a background thread that died and is started again."""
        self._deaths.labels(name).inc()

    def of_experiment(self, name: str, arm: str) -> None:
        """Count a list of an arm."""
        self._arms.labels(name, arm).inc()

    def appended(self, report: "AppendResult") -> None:
        """Count events."""
        self._events.labels("accepted").inc(report.accepted)
        self._events.labels("duplicate").inc(report.repeated)
        self._events.labels("rejected").inc(report.refused)
        self._events.labels("left_out").inc(report.left_out)

    def known(self, seq: int) -> None:
        """Note the last event that an answer knew."""
        if seq != self._last_known:
            self._last_known = seq
            self._known.set(seq)

    def waiting(self, count: int) -> None:
        """Note how many wait."""
        if count != self._last_waiting:
            self._last_waiting = count
            self._waiting.set(count)

    def page(self) -> bytes:
        """All of it, of all workers."""
        from prometheus_client import CollectorRegistry, generate_latest
        from prometheus_client.multiprocess import MultiProcessCollector

        counted = self._own
        if os.environ.get(_SHARED):
            counted = CollectorRegistry()
            MultiProcessCollector(counted)  # type: ignore[no-untyped-call]
        return generate_latest(counted)


class Measured(Observer):
    """Counts requests, and how long they took."""

    def __init__(self, metrics: Metrics, answers: Working) -> None:
        self._metrics, self._answers = metrics, answers

    def answered(self, scope: Scope, status: int, seconds: float) -> None:
        """Count it; what began no answer failed."""
        endpoint = scope.get("endpoint_path", _NOWHERE)
        method = scope["method"] if endpoint != _NOWHERE else _NOWHERE  # clients make up methods
        self._metrics.answered(endpoint, method, status or 500, seconds)
        self._metrics.waiting(self._answers.queue)


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
    """A generator of ids of spans that are those of requests, as :func:`passed_on` tells them."""
    from opentelemetry.sdk.trace.id_generator import RandomIdGenerator

    class RequestIds(RandomIdGenerator):
        request = ""

        def generate_span_id(self) -> int:
            return int(self.request[:16], 16)

    return RequestIds()


def passed_on(sent: Sequence[str], request_id: str) -> tuple[str, str] | None:
    """The id of a trace, and its ``traceparent`` with the span of a request in it; None where there is no trace.

    Args:
        sent: The headers ``traceparent`` of the request.
        request_id: Its id, hexadecimal digits.
    """
    found = _FORM.fullmatch(sent[0]) if len(sent) == 1 else None
    if found is None or (found[1] == "00" and found[4] is not None):
        return None
    sampled = int(found[3], 16) & 1  # what else is set is not known to version 00
    return found[2], f"00-{found[2]}-{request_id[:16]}-{sampled:02x}"


class AccessLog(Observer):
    """Writes a line for each request: when, which endpoint, by which key, how it ended and after how long.

    Addresses appear under pseudonyms, paths, parameters and bodies not at all: they name people. Where a line cannot be
    written, requests are answered nevertheless; the server's own log says so once.
    """

    def __init__(self, workspace: Path) -> None:
        self._lines = JsonLines(workspace / FOLDER / "access.jsonl")
        self._pseudonyms = Pseudonyms(workspace)
        self._works = True

    def answered(self, scope: Scope, status: int, seconds: float) -> None:
        """Write its line."""
        client = scope.get("client")
        record = {
            "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
            "request": scope.get("request_id"),
            "trace": scope.get("trace_id"),
            "method": scope["method"],
            "endpoint": scope.get("endpoint_path"),
            "key": scope.get("key_name"),
            "status": status,
            "milliseconds": round(1000 * seconds, 2),
        }
        try:
            self._lines.append(record | {"address": self._pseudonyms.of(client[0]) if client else None})
        except MolarError as error:
            if self._works:
                _log.error("the access log cannot be written: %s", error)
            self._works = False
        else:
            self._works = True


class RedactedFormatter(logging.Formatter):
    """Takes secrets out of messages and tracebacks."""

    def format(self, record: logging.LogRecord) -> str:
        """The record in a text."""
        return redacted(super().format(record))


@dataclass(frozen=True)
class ServerWarning:
    """Something that a server said of itself: when (ISO 8601), how bad it is, which part said it, and what."""

    time: str
    level: str
    logger: str
    text: str


class KeptWarnings(logging.Handler):
    """Keeps the last warnings and errors of all processes that serve a workspace, in ``serving/warnings.jsonl``."""

    def __init__(self, workspace: Path) -> None:
        super().__init__(logging.WARNING)
        self._lines = JsonLines(workspace / FOLDER / _FILE, most=_BYTES, kept=_OLDER)

    def emit(self, record: logging.LogRecord) -> None:
        """Keep a record; where it cannot be written, standard error has it."""
        text = record.getMessage()
        if record.exc_info and record.exc_info[1] is not None:
            text += f": {''.join(traceback.format_exception_only(record.exc_info[1])).strip()}"
        when = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        said = {"time": when, "level": record.levelname, "logger": record.name, "text": redacted(text)[:_CHARACTERS]}
        with suppress(MolarError):
            self._lines.append(said)

    def close(self) -> None:
        """Close the file."""
        self._lines.close()
        super().close()


def log_warnings(workspace: Path) -> None:
    """Send warnings and errors of all libraries to standard error, and keep the last ones in a workspace."""
    told = logging.StreamHandler()
    told.setFormatter(RedactedFormatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    logging.basicConfig(level=logging.WARNING, handlers=[told, KeptWarnings(workspace)], force=True)


def newest_warnings(workspace: Path, most: int) -> list[ServerWarning]:
    """The last warnings and errors, the newest first."""
    lines = JsonLines(workspace / FOLDER / _FILE)
    return [ServerWarning(**one) for one in lines.newest(most)]
