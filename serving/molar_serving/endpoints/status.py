"""What is going on: the generation, the event log, the disk, versions and settings."""

import asyncio
from contextlib import closing
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from molar_retrieval import __version__
from molar_retrieval.errors import MolarError, redacted
from molar_retrieval.workspace.files import free_space
from molar_serving.endpoint import Call, Endpoint, Reply
from molar_serving.endpoints.generations import age
from molar_serving.wire_generations import StatusAnswer

if TYPE_CHECKING:
    from molar_retrieval.workspace.artefacts import Manifest
    from molar_serving.service import Service

_LIBRARIES = ("numpy", "qdrant-edge-py", "starlette", "uvicorn", "msgspec")


async def status(call: Call) -> Reply:
    """The generation that answers, events since, room on the disk, versions, whether training is due, settings."""
    return Reply(await asyncio.to_thread(_status, call.service))


def _status(service: "Service") -> StatusAnswer:
    from molar_retrieval.data.live_events import EventLogReader
    from molar_retrieval.workspace.resources import library_versions

    with closing(EventLogReader(service.workspace)) as log:
        last = 0 if log.mark is None else log.last
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


ENDPOINTS = (Endpoint("GET", "/v1/status", "admin", "What is going on", status, reply=StatusAnswer),)
