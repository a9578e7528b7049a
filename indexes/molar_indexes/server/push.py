"""`molar index push`: a generation becomes a new collection, is proved, and only then goes live.

Everything before the switch of the alias can be killed and run again: the collection's name follows from what it holds,
so the next run finds it and sends what is missing.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from dataclasses import replace as replaced
from functools import partial
from typing import Any

from qdrant_client import QdrantClient, models

from molar_indexes.generations import Generation, open_generation
from molar_indexes.server import users as people
from molar_indexes.server.config import ServerConfig
from molar_indexes.server.connect import connected
from molar_indexes.server.faults import Fault, ServerError, asking, persistently
from molar_indexes.server.filters import ROW_PATH
from molar_indexes.server.finalise import build_graphs, prove, wait_for_green
from molar_indexes.server.index import ServerIndex
from molar_indexes.server.layout import Layout, payload_indexes
from molar_indexes.server.metadata import CollectionMetadata, refuse_other
from molar_indexes.server.ownership import refuse_other_shop
from molar_indexes.server.points import to_point
from molar_indexes.server.published import look, name_of, switch, target
from molar_indexes.server.upload import Read, upload
from molar_retrieval.config import IndexSettings
from molar_retrieval.progress import SILENT, Progress
from molar_retrieval.workspace import Workspace

REQUEST_SECONDS = 60.0
"""A batch may take so long to be stored, a collection to be made."""
_LOCK = "push"


@dataclass(frozen=True)
class PushReport:
    """What was published.

    Attributes:
        url: The server.
        alias: What it is asked for by.
        collection: What that names now.
        before: What it named before, or None.
        generation: The workspace's.
        items: Points of the collection.
        users: Users that were published, or None where they stay in the workspace.
        sent: Points that this run sent.
        seconds: That sending them took.
        up_to_date: Whether it was live already.
    """

    url: str
    alias: str
    collection: str
    before: str | None
    generation: str
    items: int
    users: int | None
    sent: int
    seconds: float
    up_to_date: bool

    def to_dict(self) -> dict[str, Any]:
        """The report as JSON-able values."""
        return asdict(self)


@dataclass(frozen=True)
class _Upload:
    """Items or users on their way to a collection of their own."""

    alias: str
    metadata: CollectionMetadata
    create: Callable[[dict[str, Any]], dict[str, Any]]
    indexes: dict[str, models.PayloadSchemaType]
    read: Read

    @property
    def name(self) -> str:
        return name_of(self.alias, self.metadata)


def push(
    workspace: Workspace,
    settings: IndexSettings,
    *,
    generation: str | None = None,
    replace: bool = False,
    progress: Progress = SILENT,
) -> PushReport:
    """Publish a generation on the server that the settings name.

    Args:
        workspace: With the generation.
        settings: Server, layout, and where users are to be.
        generation: Which; None: the workspace's live one.
        replace: Whether what is live may be another shop's.
        progress: Told of every batch and every wait.

    Raises:
        MissingArtefactError: If there is no such generation.
        DataError: If another process of this machine is pushing the same workspace, or another shop is live.
        ServerError: If the server fails, or somebody else publishes meanwhile; what was live stays live.
    """
    server = ServerConfig.of(settings)
    if server is None:
        raise ValueError("the settings name no server")
    server = server.patient(REQUEST_SECONDS)
    with (
        workspace.lock(_LOCK),
        open_generation(workspace, generation) as opened,
        connected(server) as client,
    ):
        return publish(client, server, opened, settings, replace=replace, progress=progress)


def publish(
    client: QdrantClient,
    server: ServerConfig,
    generation: Generation,
    settings: IndexSettings,
    *,
    replace: bool = False,
    progress: Progress = SILENT,
) -> PushReport:
    """Publish an open generation with a client that is connected; see :func:`push`."""
    parts = _parts(generation, Layout.of(settings), server)
    items = parts[0]
    before = {part.alias: target(client, server, part.alias) for part in parts}
    live = before[items.alias]
    if live is not None and live != items.name and not replace:
        refuse_other_shop(client, server, live, generation.index, items.metadata.count)
    sent, began = 0, time.monotonic()
    fresh = [part for part in parts if not _is_whole(client, server, part)]
    for part in fresh:
        sent += _send(client, server, part, settings.uploads, progress)
    seconds = time.monotonic() - began
    efs = _prove_items(client, server, items, generation, progress) if items in fresh else {}
    for part in fresh:
        _verify(client, server, part, efs if part is items else {}, progress)
    changes = {part.alias: (before[part.alias], part.name) for part in parts if before[part.alias] != part.name}
    if changes:
        switch(client, server, changes)
    return PushReport(
        server.url,
        items.alias,
        items.name,
        before[items.alias],
        generation.name,
        items.metadata.count,
        parts[1].metadata.count if len(parts) > 1 else None,
        sent,
        seconds,
        not changes,
    )


def _parts(generation: Generation, layout: Layout, server: ServerConfig) -> list[_Upload]:
    spec, index = generation.spec, generation.index
    names = [*spec.dims, *spec.sparse]

    def read(first: int, last: int) -> list[models.PointStruct]:
        return [to_point(spec, item) for item in index.fetch(range(first, last), vectors=names)]

    create = partial(layout.collection, spec)
    own = CollectionMetadata.of(generation, layout, "items")
    parts = [_Upload(server.collection, own, create, payload_indexes(spec), read)]
    if server.users == "server":
        parts.append(
            _Upload(
                server.people,
                CollectionMetadata.of(generation, layout, "users"),
                partial(people.collection, spec, layout),
                {ROW_PATH: models.PayloadSchemaType.INTEGER},
                partial(people.read, generation.users),
            )
        )
    return parts


def _is_whole(client: QdrantClient, server: ServerConfig, part: _Upload) -> bool:
    """Whether an earlier push finished this collection, and it still has all its points."""
    found = look(client, server, part.name, None)
    if found is None or not found.metadata.whole:
        return False
    refuse_other(server, part.name, found.metadata, part.metadata)
    with asking(server):
        return client.count(part.name, exact=True).count == part.metadata.count


def _send(client: QdrantClient, server: ServerConfig, part: _Upload, at_once: int, progress: Progress) -> int:
    resumed = _prepared(client, server, part, progress)
    return upload(
        client,
        server,
        part.name,
        part.metadata.count,
        part.read,
        resumed=resumed,
        at_once=at_once,
        progress=progress,
        task=f"{part.metadata.holds} to the server",
    )


def _prepared(client: QdrantClient, server: ServerConfig, part: _Upload, progress: Progress) -> bool:
    """Make the collection with its payload indexes; returns whether it was there."""
    with asking(server):
        there = client.collection_exists(part.name)
    if not there:
        try:
            with asking(server):
                client.create_collection(part.name, **part.create(part.metadata.as_metadata()))
        except ServerError:
            with asking(server):  # it may be there although the answer got lost, or another push made it
                if not client.collection_exists(part.name):
                    raise
            there = True
    found = look(client, server, part.name, None)
    if found is None:
        raise ServerError(
            Fault(
                f"the collection {part.name!r} of {server.name} is there and was not made by molar",
                "remove it, or choose another name: [index] collection",
            )
        )
    refuse_other(server, part.name, found.metadata, part.metadata)
    for path, kind in part.indexes.items():
        index = partial(client.create_payload_index, part.name, path, field_schema=kind, wait=True)
        persistently(server, index, progress.note)
    return there


def _prove_items(
    client: QdrantClient, server: ServerConfig, items: _Upload, generation: Generation, progress: Progress
) -> dict[str, int]:
    """Build the graphs, and prove what is stored and found; returns the candidate lists that searches need."""
    spec, name = replaced(generation.spec, efs={}), items.name
    build_graphs(client, server, name, spec, progress)
    there = look(client, server, name, None)
    graph = there is not None and there.indexed > 0
    index = ServerIndex(client, server, name, spec, items.metadata.count, items.metadata.layout, graph=graph)
    return prove(index, generation, server, name, progress)


def _verify(
    client: QdrantClient, server: ServerConfig, part: _Upload, efs: Mapping[str, int], progress: Progress
) -> None:
    """Count the points, read the metadata back, and write into it that the collection is whole."""
    count = persistently(server, partial(client.count, part.name, exact=True), progress.note).count
    found = look(client, server, part.name, None)
    if found is None or count != part.metadata.count:
        due = part.metadata.count
        raise ServerError(
            Fault(
                f"the collection {part.name!r} of {server.name} has {count:,} points instead of {due:,}",
                "run `molar index push` again; the live one was not touched",
            )
        )
    refuse_other(server, part.name, found.metadata, part.metadata)
    if part.metadata.holds == "users":
        wait_for_green(client, server, part.name, progress.note)
    whole = found.metadata.verified(efs).as_metadata()
    persistently(server, partial(client.update_collection, part.name, metadata=whole), progress.note)
