"""What is going on: generation, event log, disk, versions and settings; health checks; metrics for Prometheus."""

import asyncio
import time
from contextlib import closing, suppress
from dataclasses import asdict
from datetime import datetime
from typing import TYPE_CHECKING, Any

from starlette.responses import Response

from molar_retrieval import __version__
from molar_retrieval.data.live_events import EventLogReader
from molar_retrieval.errors import MolarError, redacted
from molar_retrieval.workspace.files import free_space
from molar_retrieval.workspace.threads import threads_down
from molar_serving.endpoint import Call, Endpoint, Reply
from molar_serving.endpoints.generations import StatusAnswer, age
from molar_serving.observability import MEDIA_TYPE
from molar_serving.wire import Alive

if TYPE_CHECKING:
    from molar_retrieval.workspace.artefacts import Manifest
    from molar_serving.service import Service

_LIBRARIES = ("numpy", "qdrant-edge-py", "starlette", "uvicorn", "msgspec")


async def status(call: Call) -> Reply:
    """The generation that answers, events since, room on the disk, versions, whether training is due, settings."""
    return Reply(await asyncio.to_thread(_status, call.service))


def _status(service: "Service") -> StatusAnswer:
    from molar_retrieval.workspace.resources import library_versions

    last = _last_event(service)
    unavailable, refused, name = None, None, None
    manifest: Manifest | None = None
    try:
        generation, refused = service.recommender.generation, service.recommender.refused
        name, manifest = generation.name, generation.manifest
    except MolarError as error:
        unavailable = f"{error.message}; {error.hint}"
    facts = {} if manifest is None else manifest.facts
    return StatusAnswer(
        version=__version__,
        versions=library_versions(*_LIBRARIES),
        generation=name,
        age=None if manifest is None else age(manifest.created),
        items=int(facts.get("items", 0)),
        users=int(facts.get("users", 0)),
        events=last,
        events_since=max(0, last - int(facts.get("events", {}).get("interactions", 0))) if manifest else last,
        disk_free=free_space(service.workspace.root),
        training=_training(service),
        unavailable=unavailable,
        refused=refused,
        settings=shown_settings(service.settings.model_dump(mode="json")),
    )


def _training(service: "Service") -> list[dict[str, str]]:
    from molar.due import due

    alignment = service.workspace["alignment"].manifest
    return [] if alignment is None else [asdict(one) for one in due(alignment, service.settings)]


def shown_settings(value: Any) -> Any:
    """Settings without what nobody is to read."""
    if isinstance(value, dict):
        return {key: shown_settings(one) for key, one in value.items()}
    if isinstance(value, list):
        return [shown_settings(one) for one in value]
    return redacted(value) if isinstance(value, str) else value


async def live(call: Call) -> Reply:
    """The process answers; more is not asked."""
    return Reply(Alive(status="ok"))


async def ready(call: Call) -> Reply:
    """A generation is open and answers, and no background thread of the process is down."""
    try:
        generation = call.service.recommender.generation.name
    except MolarError as error:
        return Reply(Alive(status="unavailable", reason=f"{error.message}; {error.hint}"), 503, {"Retry-After": "1"})
    if down := threads_down():
        reason = f"the background thread {', '.join(down)} died and is started again; the server's log says why"
        return Reply(Alive(status="unavailable", generation=generation, reason=reason), 503, {"Retry-After": "1"})
    return Reply(Alive(status="ok", generation=generation))


async def metrics(call: Call) -> Reply:
    """Requests, seconds, what was shed, events, the generation's age: of all workers, as Prometheus reads it."""
    service = call.service
    page = await asyncio.to_thread(lambda: service.metrics.page() + _of_shop(service))
    return Reply(Response(page, media_type=MEDIA_TYPE))


def _of_shop(service: "Service") -> bytes:
    """What every worker would say of the shop."""
    lines = [
        *_gauge("molar_log_seq", "Last event of the log, by its number", _last_event(service)),
        *_gauge("molar_workers", "Processes that answer", service.settings.serve.workers),
    ]
    with suppress(MolarError):  # where nothing answers there is no age
        generation = service.recommender.generation
        seconds = time.time() - datetime.fromisoformat(generation.manifest.created).timestamp()
        refused = service.recommender.refused is not None
        lines += _gauge("molar_generation_age_seconds", "Since the generation that answers was made", seconds)
        lines += _gauge("molar_generation_refused", "Whether what is live does not answer", int(refused))
    return "".join(f"{line}\n" for line in lines).encode()


def _gauge(name: str, about: str, value: float) -> list[str]:
    return [f"# HELP {name} {about}", f"# TYPE {name} gauge", f"{name} {value}"]


def _last_event(service: "Service") -> int:
    with closing(EventLogReader(service.workspace)) as log:
        return 0 if log.mark is None else log.last


ENDPOINTS = (
    Endpoint("GET", "/v1/status", "admin", "What is going on", status, reply=StatusAnswer),
    Endpoint("GET", "/health/live", None, "Whether the process lives", live, reply=Alive),
    Endpoint("GET", "/health/ready", None, "Whether it answers", ready, reply=Alive),
    Endpoint("GET", "/metrics", "admin", "What the server does, for Prometheus", metrics),
)
