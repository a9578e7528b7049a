"""What the server does, in numbers, as Prometheus reads them from ``/metrics``.

Several workers add up: each counts in files of its own, in a folder that the environment names
(``PROMETHEUS_MULTIPROC_DIR``, see :func:`shared_folder`), and whichever is asked reads those of all of them, also of
those that died since.
"""

import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from datetime import datetime
from functools import cache
from typing import TYPE_CHECKING

from starlette.types import Scope

from molar_retrieval.errors import MolarError
from molar_retrieval.workspace.files import disk_error
from molar_serving.observed import Observer

if TYPE_CHECKING:
    from prometheus_client import Counter, Histogram

    from molar_retrieval.data.event_log import AppendResult
    from molar_retrieval.workspace.artefacts import Workspace
    from molar_serving.service import Service

MEDIA_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_SHARED = "PROMETHEUS_MULTIPROC_DIR"
_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
_NOWHERE = "none"  # the endpoint of requests that came to none


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

    def page(self, service: "Service") -> bytes:
        """All of it, of all workers, with what is true of the shop now."""
        from prometheus_client import CollectorRegistry, generate_latest
        from prometheus_client.multiprocess import MultiProcessCollector

        counted = self._own
        if os.environ.get(_SHARED):
            counted = CollectorRegistry()
            MultiProcessCollector(counted)  # type: ignore[no-untyped-call]
        return generate_latest(counted) + _of_shop(service)


def _of_shop(service: "Service") -> bytes:
    """What every worker would say of the shop."""
    lines = [
        *_gauge("molar_log_seq", "Last event of the log, by its number", _last_event(service.workspace)),
        *_gauge("molar_workers", "Processes that answer", service.settings.serve.workers),
    ]
    with suppress(MolarError):  # where nothing answers there is no age
        generation = service.recommender.generation
        made = datetime.fromisoformat(generation.manifest.created).timestamp()
        refused = service.recommender.refused is not None
        age = time.time() - made
        lines += _gauge("molar_generation_age_seconds", "Since the generation that answers was made", age)
        lines += _gauge("molar_generation_refused", "Whether what is live does not answer", int(refused))
    return "".join(f"{line}\n" for line in lines).encode()


def _gauge(name: str, about: str, value: float) -> list[str]:
    return [f"# HELP {name} {about}", f"# TYPE {name} gauge", f"{name} {value}"]


def _last_event(workspace: "Workspace") -> int:
    from molar_retrieval.data.live_events import EventLogReader

    with closing(EventLogReader(workspace)) as log:
        return 0 if log.mark is None else log.last


class Measured(Observer):
    """Counts requests, and how long they took."""

    def __init__(self, service: "Service") -> None:
        self._metrics, self._answers = service.metrics, service.answers

    def answered(self, scope: Scope, status: int, seconds: float) -> None:
        """Count it; what began no answer failed."""
        endpoint = scope.get("endpoint_path", _NOWHERE)
        method = scope["method"] if endpoint != _NOWHERE else _NOWHERE  # clients make up methods
        self._metrics.answered(endpoint, method, status or 500, seconds)
        self._metrics.waiting(self._answers.queue)
