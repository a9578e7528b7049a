"""`molar index push`: a generation becomes a new collection, is proved, and only then goes live.

Everything before the switch of the alias can be killed and run again: the collection's name follows from what it holds,
so the next run finds it and sends what is missing.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from dataclasses import replace as replaced
from typing import Any, ParamSpec, TypeVar

from molar_indexes.generations import Generation, open_generation
from molar_indexes.server.config import ServerConfig
from molar_indexes.server.connect import Connection, connected
from molar_indexes.server.faults import ServerError
from molar_indexes.server.finalise import build_graphs, prove, wait_for_green
from molar_indexes.server.index import ServerIndex
from molar_indexes.server.last_live import remember
from molar_indexes.server.layout import Layout
from molar_indexes.server.metadata import refuse_other
from molar_indexes.server.ownership import refuse_other_shop
from molar_indexes.server.published import look, switch, target
from molar_indexes.server.topology import weaknesses
from molar_indexes.server.upload import upload
from molar_indexes.server.upload_job import UploadJob
from molar_indexes.server.uploads import Upload, uploads_of
from molar_retrieval.progress import SILENT, Progress
from molar_retrieval.workspace.artefacts import Workspace
from molar_retrieval.workspace.jobs import Runner, SerialRunner
from molar_retrieval.workspace.settings import IndexSettings

REQUEST_SECONDS = 60.0
"""A batch may take so long to be stored, a collection to be made."""
P = ParamSpec("P")
T = TypeVar("T")


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
        warnings: Nodes of a cluster and copies of these collections that do not answer, as sentences.
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
    warnings: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """The report as JSON-able values."""
        return asdict(self)


def push(
    workspace: Workspace,
    settings: IndexSettings,
    *,
    generation: str | None = None,
    replace: bool = False,
    runner: Runner | None = None,
    progress: Progress = SILENT,
) -> PushReport:
    """Publish a generation, or the live one, on the server that the settings name.

    ``replace``: whether what is live may be another shop's. The ``runner`` sends the points; None: this process.

    Raises:
        MissingArtefactError: If there is no such generation.
        DataError: If another process of this machine is pushing the same workspace, or another shop is live.
        ServerError: If the server fails, or somebody else publishes meanwhile; what was live stays live.
    """
    server = ServerConfig.of(settings)
    if server is None:
        raise ValueError("the settings name no server")
    server = server.patient(REQUEST_SECONDS)
    with workspace.lock("push"), open_generation(workspace, generation) as opened, connected(server) as connection:
        report = publish(connection, opened, settings, replace=replace, runner=runner, progress=progress)
        remember(workspace, server, report.generation)
        warnings = tuple(weaknesses(connection, report.generation))
    for warning in warnings:
        progress.note(warning)
    return replaced(report, warnings=warnings)


def publish(
    connection: Connection,
    generation: Generation,
    settings: IndexSettings,
    *,
    replace: bool = False,
    runner: Runner | None = None,
    progress: Progress = SILENT,
) -> PushReport:
    """Publish an open generation over a connection; see :func:`push`."""
    if connection.spoken.missed:
        progress.note(f"the server is asked by {connection.spoken}")
    run = _Push(connection, generation, settings, runner or SerialRunner(), progress)
    uploads = uploads_of(generation, connection.server, Layout.of(settings))
    items = uploads[0]
    before = {one.alias: target(connection, one.alias) for one in uploads}
    live = before[items.alias]
    if live is not None and live != items.name and not replace:
        refuse_other_shop(connection, live, generation.index, items.metadata.count)
    began = time.monotonic()
    fresh = [one for one in uploads if not run.is_whole(one)]
    sent = sum(run.send(one) for one in fresh)
    seconds = time.monotonic() - began
    efs = run.prove(items) if items in fresh else {}
    for one in fresh:
        run.complete(one, efs if one is items else {})
    changes = {one.alias: (before[one.alias], one.name) for one in uploads if before[one.alias] != one.name}
    if changes:
        switch(connection, changes)
    return PushReport(
        url=connection.server.url,
        alias=items.alias,
        collection=items.name,
        before=live,
        generation=generation.name,
        items=items.metadata.count,
        users=uploads[1].metadata.count if len(uploads) > 1 else None,
        sent=sent,
        seconds=seconds,
        up_to_date=not changes,
    )


@dataclass(frozen=True)
class _Push:
    connection: Connection
    generation: Generation
    settings: IndexSettings
    runner: Runner
    progress: Progress

    def is_whole(self, one: Upload) -> bool:
        """Whether an earlier push finished this collection, and it still has all its points."""
        found = look(self.connection, one.name, None)
        if found is None or not found.metadata.whole:
            return False
        refuse_other(self.connection.server, one.name, found.metadata, one.metadata)
        count = self.connection.ask(self.connection.client.count, one.name, exact=True).count
        return count == found.metadata.count

    def send(self, one: Upload) -> int:
        """Send what is missing; returns how many points."""
        resumed, count, task = self._made_before(one), one.metadata.count, f"{one.metadata.holds} to the server"
        if not isinstance(self.runner, SerialRunner):
            workspace = self.generation.folder.absolute().parents[1]
            server, name = self.connection.server, self.generation.name
            job = UploadJob(workspace, name, server, self.settings, one.name, resumed, task)
            return job.sent_by(self.runner, count, self.progress)
        return upload(
            self.connection,
            one.name,
            range(count),
            one.read,
            one.between,
            resumed=resumed,
            at_once=self.settings.uploads,
            progress=self.progress,
            task=task,
        )

    def prove(self, items: Upload) -> dict[str, int]:
        """Build the graphs, and prove what is stored and found; returns the candidate lists that searches need."""
        spec, name, metadata = replaced(self.generation.spec, efs={}), items.name, items.metadata
        build_graphs(self.connection, name, spec, self.progress)
        there = look(self.connection, name, None)
        graph = there is not None and there.indexed > 0
        index = ServerIndex(self.connection, name, spec, metadata.count, metadata.layout, graph=graph)
        return prove(index, self.generation, self.connection, name, self.progress)

    def complete(self, one: Upload, efs: Mapping[str, int]) -> None:
        """Count the points, read the metadata back, and write into it that the collection is whole."""
        count = self._insist(self.connection.client.count, one.name, exact=True).count
        found = look(self.connection, one.name, None)
        if found is None or count != one.metadata.count:
            raise ServerError(
                f"the collection {one.name!r} of {self.connection.server.name} has {count:,} points instead of"
                f" {one.metadata.count:,}",
                "run `molar index push` again; the live one was not touched",
            )
        refuse_other(self.connection.server, one.name, found.metadata, one.metadata)
        if one.metadata.holds == "users":
            wait_for_green(self.connection, one.name, self.progress.note)
        whole = found.metadata.verified(efs).as_metadata()
        self._insist(self.connection.client.update_collection, one.name, metadata=whole)

    def _made_before(self, one: Upload) -> bool:
        """Make the collection with its payload indexes; returns whether it was there."""
        ask, client = self.connection.ask, self.connection.client
        there = ask(client.collection_exists, one.name)
        if not there:
            try:
                ask(client.create_collection, one.name, **one.create(one.metadata.as_metadata()))
            except ServerError:  # it may be there although the answer got lost, or another push made it
                if not (there := ask(client.collection_exists, one.name)):
                    raise
        found = look(self.connection, one.name, None)
        if found is None:
            raise ServerError(
                f"the collection {one.name!r} of {self.connection.server.name} is there and was not made by molar",
                "remove it, or choose another name: [index] collection",
            )
        refuse_other(self.connection.server, one.name, found.metadata, one.metadata)
        for path, kind in one.indexes.items():
            self._insist(client.create_payload_index, one.name, path, field_schema=kind, wait=True)
        return there

    def _insist(self, request: Callable[P, T], *arguments: P.args, **named: P.kwargs) -> T:
        return self.connection.insist(self.progress.note, request, *arguments, **named)
