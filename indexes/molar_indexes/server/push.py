"""`molar index push`: a generation becomes a new collection, is proved, and only then goes live.

Everything before the switch of the alias can be killed and run again: the collection's name follows from what it holds,
so the next run finds it and sends what is missing.

Sending points to a collection: blocks of rows, bounded batches, several at once; what is there already is left out.

A batch that fails is tried again. Points have ids, so one that was applied though its answer got lost does no harm.

Points on their way to a server as a work in shards: each worker opens the generation and a connection of its own.

What is there already is known by the server: the file of a shard only says how many points were sent.
"""

import shutil
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from dataclasses import replace as replaced
from functools import partial
from pathlib import Path
from threading import Event
from typing import Any, ParamSpec, TypeVar

from qdrant_client import models

from molar_indexes.generations import Generation, open_generation
from molar_indexes.publish_check import LEAST, sample, scanning, search_problems, share, widened
from molar_indexes.server import index as people
from molar_indexes.server.client import Connection, ServerError, connected, persistently
from molar_indexes.server.collections import CollectionMetadata, look, name_of, refuse_other, remove, switch, target
from molar_indexes.server.config import ServerConfig
from molar_indexes.server.index import ServerIndex
from molar_indexes.server.opening import open_served, remember
from molar_indexes.server.points import (
    ROW_PATH,
    Layout,
    graphs,
    items_between,
    named,
    payload_indexes,
    searched,
    size,
    to_point,
    users_between,
)
from molar_indexes.server.topology import weaknesses
from molar_retrieval.errors import DataError
from molar_retrieval.progress import SILENT, Notes, Progress
from molar_retrieval.ranking.index_protocol import Index, IndexSpec, StoredItem
from molar_retrieval.workspace.artefacts import Workspace
from molar_retrieval.workspace.jobs import Runner, SerialRunner, Shard, ShardWork, atomic_file
from molar_retrieval.workspace.settings import IndexSettings

_OWNED = 100
BLOCK = 1000
"""Rows that are read, and looked for on the server, together."""
BATCH_BYTES = 4 << 20
"""A request has no more, unless one point alone has; Qdrant advises to stay below 5 MB and refuses 32."""
_AHEAD = 2
"""Batches in memory for each that is being sent."""
Read = Callable[[int, int], Sequence[models.PointStruct]]
Between = Callable[[int, int], models.Filter]
SHARD = 20_000
"""Rows of a shard: some seconds."""
SETTLED = 2
"""So many times in a row a collection must be green: its optimiser takes a moment to notice a change."""
STALLED = 600.0
"""Seconds without any change after which nothing more is expected."""
POLL = 1.0
"""Seconds between two looks at a collection that is not green."""
_SAMPLE = 32
_SEARCHES = 4
REQUEST_SECONDS = 60.0
"""A batch may take so long to be stored, a collection to be made."""
P = ParamSpec("P")
T = TypeVar("T")


def refuse_other_shop(connection: Connection, live: str, index: Index, count: int) -> None:
    """Refuse to replace the collection ``live`` if it has not one of the ``count`` items of ``index``.

    Asked about are at most a hundred items from all over the catalogue: a shop that exchanges its whole catalogue at
    once has to say so. Raises :class:`DataError`.
    """
    rows = range(0, count, max(1, -(-count // _OWNED)))
    ids = [item.item_id for item in index.fetch(rows)]
    if ids and not connection.ask(connection.client.count, live, named(ids), exact=True).count:
        raise DataError(
            f"{live!r}, which is live at {connection.server.name}, has none of {len(ids)} items of this catalogue:"
            " another shop?",
            "give each shop a name of its own, [index] collection; --replace if this one is to take its place",
        )


def upload(
    connection: Connection,
    collection: str,
    rows: range,
    read: Read,
    between: Between,
    *,
    resumed: bool,
    at_once: int,
    progress: Progress,
    task: str,
) -> int:
    """Send those points of some ``rows`` that a collection lacks, ``at_once`` batches at a time; returns how many.

    ``read`` gives the points of the rows from one up to another, ``between`` the condition that they alone fulfil;
    where work is ``resumed``, some may be there already. Raises :class:`ServerError` if a batch fails for good; those
    before it stay.
    """
    progress.start(task, len(rows))

    def present(first: int, last: int) -> int:
        chosen, count = between(first, last), connection.client.count
        return connection.insist(progress.note, count, collection, count_filter=chosen, exact=True).count

    def missing() -> Iterator[Sequence[models.PointStruct]]:
        for first in range(rows.start, rows.stop, BLOCK):
            last = min(first + BLOCK, rows.stop)
            if resumed and present(first, last) == last - first:
                progress.advance(last - first)
            else:
                yield from batches(read(first, last))

    def send(points: Sequence[models.PointStruct]) -> int:
        call = partial(connection.client.upsert, collection, list(points), wait=True)
        persistently(connection.server, call, progress.note, stop=stop)
        return len(points)

    sent, stop = 0, Event()
    pool = ThreadPoolExecutor(at_once, thread_name_prefix="upload")
    running: set[Future[int]] = set()
    try:
        for batch in missing():
            running.add(pool.submit(send, batch))
            if len(running) >= _AHEAD * at_once:
                done, running = wait(running, return_when=FIRST_COMPLETED)
                sent += _told(done, progress)
        sent += _told(wait(running).done, progress)
    finally:
        stop.set()  # where one batch failed, or somebody interrupts, the others wait no longer
        pool.shutdown(cancel_futures=True)
    progress.finish()
    return sent


def _told(done: set[Future[int]], progress: Progress) -> int:
    sent = sum(future.result() for future in done)
    progress.advance(sent)
    return sent


def batches(points: Sequence[models.PointStruct], most: int = BATCH_BYTES) -> Iterator[list[models.PointStruct]]:
    """The points in runs of at most so many bytes of a request; a larger point comes alone."""
    batch: list[models.PointStruct] = []
    total = 0
    for point in points:
        own = size(point)
        if batch and total + own > most:
            yield batch
            batch, total = [], 0
        batch.append(point)
        total += own
    if batch:
        yield batch


@dataclass(frozen=True)
class Upload:
    """Items or users on their way to a collection of their own."""

    alias: str
    metadata: CollectionMetadata
    create: Callable[[dict[str, Any]], dict[str, Any]]
    indexes: dict[str, models.PayloadSchemaType]
    read: Read
    between: Between

    @property
    def name(self) -> str:
        """The collection's, which follows from what it holds."""
        return name_of(self.alias, self.metadata)


def uploads_of(generation: Generation, server: ServerConfig, layout: Layout) -> list[Upload]:
    """Items, and users where the server has them."""
    spec, names = generation.spec, [*generation.spec.dims, *generation.spec.sparse]

    def read(first: int, last: int) -> list[models.PointStruct]:
        return [to_point(spec, item) for item in generation.index.fetch(range(first, last), vectors=names)]

    own = CollectionMetadata.of(generation, layout, "items")
    create = partial(layout.collection, spec)
    items = Upload(server.collection, own, create, payload_indexes(spec), read, items_between)
    if server.users != "server":
        return [items]
    own = CollectionMetadata.of(generation, layout, "users")
    create, read_users = partial(people.collection, spec, layout), partial(people.read, generation.users)
    rows = {ROW_PATH: models.PayloadSchemaType.INTEGER}
    return [items, Upload(server.people, own, create, rows, read_users, users_between)]


@dataclass(frozen=True)
class UploadJob:
    """Rows of a generation for a collection that is there.

    Attributes:
        workspace: Its folder.
        generation: Name of the generation.
        server: Whom to ask, and how patiently.
        settings: By which the collection was made; ``uploads`` batches of a worker are sent at once.
        collection: Its name.
        resumed: Whether some points may be there already.
        task: What the progress calls it.
    """

    workspace: Path
    generation: str
    server: ServerConfig
    settings: IndexSettings
    collection: str
    resumed: bool
    task: str
    gpu: bool = False

    @property
    def folder(self) -> Path:
        """Of what was sent in this run."""
        return self.workspace / "push" / "sent"

    def path(self, shard: int) -> Path:
        """The file of a shard."""
        return self.folder / f"{shard:08}.txt"

    def is_whole(self, shard: int) -> bool:
        """Never: the server is asked."""
        return False

    @contextmanager
    def opened(self) -> Iterator[ShardWork]:
        """Open generation and connection."""
        place = Workspace(self.workspace)
        with open_generation(place, self.generation) as generation, connected(self.server) as connection:
            uploads = uploads_of(generation, self.server, Layout.of(self.settings))
            (one,) = [each for each in uploads if each.name == self.collection]

            def work(shard: Shard) -> Sequence[str]:
                told = Notes()
                sent = upload(
                    connection, one.name, shard.given, one.read, one.between, resumed=self.resumed,
                    at_once=self.settings.uploads, progress=told, task=self.task,
                )  # fmt: skip
                with atomic_file(self.path(shard.number)) as partial:
                    partial.write_text(str(sent), "utf-8")
                return told.notes

            yield work

    def sent_by(self, runner: Runner, count: int, progress: Progress) -> int:
        """Have the rows 0, 1, … ``count`` sent; returns how many points were."""
        shutil.rmtree(self.folder, ignore_errors=True)  # of a run that was killed
        self.folder.mkdir(parents=True)
        try:
            groups = [range(first, min(first + SHARD, count)) for first in range(0, count, SHARD)]
            shards = [Shard(number, len(group), group) for number, group in enumerate(groups)]
            for note in runner.run(self, shards, progress).notes:
                progress.note(note)
            return sum(int(self.path(shard.number).read_text("utf-8")) for shard in shards)
        finally:
            shutil.rmtree(self.folder, ignore_errors=True)


def build_graphs(connection: Connection, collection: str, spec: IndexSpec, progress: Progress) -> None:
    """Let the server build its graphs, and wait until it has, see :func:`wait_for_green`.

    The progress is that of vectors in graphs; the server counts them roughly, sparse ones with them, and leaves small
    segments without a graph, so the last step may be a long one.
    """
    insist, client, tell = connection.insist, connection.client, progress.note
    due = 0
    for name in searched(spec):
        due += insist(tell, client.count, collection, count_filter=_with(name), exact=True).count
    before, done = insist(tell, client.get_collection, collection).indexed_vectors_count or 0, 0

    def looked(info: models.CollectionInfo) -> None:
        nonlocal done
        built = max(done, min((info.indexed_vectors_count or 0) - before, due))
        progress.advance(built - done)
        done = built

    insist(tell, client.update_collection, collection, vectors_config=graphs(spec))
    progress.start("vectors into graphs on the server", due)
    wait_for_green(connection, collection, tell, looked)
    progress.advance(due - done)
    progress.finish()


def _with(name: str) -> models.Filter:
    """Points that have a vector."""
    return models.Filter(must=[models.HasVectorCondition(has_vector=name)])


def wait_for_green(
    connection: Connection,
    collection: str,
    tell: Callable[[str], None],
    looked: Callable[[models.CollectionInfo], None] = lambda info: None,
) -> None:
    """Wait until a collection is green and stays so; ``looked`` is called with each state of it.

    Raises :class:`ServerError` if it turns red, or nothing changes for :data:`STALLED` seconds.
    """
    green, seen, since = 0, None, time.monotonic()
    while True:
        info = connection.insist(tell, connection.client.get_collection, collection)
        looked(info)
        status = info.status.value
        green = green + 1 if status == "green" else 0
        if green == SETTLED:
            return
        state = (status, info.indexed_vectors_count, info.segments_count)
        if state != seen:
            seen, since = state, time.monotonic()
        if status == "red" or time.monotonic() - since > STALLED:
            raise ServerError(
                f"the collection {collection!r} of {connection.server.name} is {status}: {info.optimizer_status}",
                "look at the server's log, then run `molar index push` again; the live one was not touched",
            )
        time.sleep(POLL if green == 0 else POLL / 5)


def prove(
    index: ServerIndex, generation: Generation, connection: Connection, collection: str, progress: Progress
) -> dict[str, int]:
    """Compare a sample of what a collection holds and answers with the workspace's index.

    Returns the candidate lists that its graphs need, where the settings' own is not enough; raises
    :class:`ServerError` if something else comes back.
    """
    truth, queries = (
        scanning(generation.index),
        sample(generation.index, generation.users, generation.table.items),
    )
    reached = {}
    problem = next(_problems(index, generation.index), None)
    if problem is None:
        reached = widened(index, truth, queries, progress.note)
        found = {name: reach.found for name, reach in reached.items()}
        scanned = queries.keys() - found.keys()
        found |= {name: share(index, truth, name, queries[name][:_SEARCHES]) for name in scanned}
        worst = min(found, key=found.__getitem__)
        if found[worst] < LEAST:
            problem = f"of the workspace's best items by {worst!r} it finds {found[worst]:.0%}"
    if problem is not None:
        raise ServerError(
            f"the collection {collection!r} of {connection.server.name} does not give back what was sent: {problem}",
            "remove it there and run `molar index push` again; the live one was not touched",
        )
    return {name: reach.ef for name, reach in reached.items() if reach.ef != index.spec.ef}


def _problems(index: ServerIndex, local: Index) -> Iterator[str]:
    count = len(local)
    rows = sorted({number * count // _SAMPLE for number in range(_SAMPLE)} if count else set())
    names = [*local.spec.dims, *local.spec.sparse]
    mine, theirs = local.fetch(rows, vectors=names), index.fetch(rows, vectors=names)
    if [item.row for item in mine] != [item.row for item in theirs]:
        yield f"{len(mine) - len(theirs)} of {len(mine)} items are missing"
    for one, other in zip(mine, theirs, strict=False):
        if (one.item_id, one.payload) != (other.item_id, other.payload):
            yield f"item {one.item_id!r} has another payload"
        if _numbers(one) != _numbers(other):
            yield f"item {one.item_id!r} has other vectors"
    yield from search_problems(index, rows[:: max(1, len(rows) // _SEARCHES)][:_SEARCHES])


def _numbers(item: StoredItem) -> dict[str, list[float] | tuple[list[int], list[float]]]:
    dense = {name: list(vector) for name, vector in item.vectors.items()}
    sparse = {name: (list(v.indices), list(v.values)) for name, v in item.sparse.items()}
    return {**dense, **sparse}


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


@contextmanager
def on_trial(workspace: Workspace, settings: IndexSettings, progress: Progress = SILENT) -> Iterator[Generation]:
    """Push a workspace's live generation under a name of its own, open it there, and remove it in the end.

    Its users stay in the workspace, and nothing but the server answers. Whoever takes the generation closes it.
    """
    name = f"{settings.collection}.trial.{uuid.uuid4().hex[:8]}"
    own = settings.model_copy(update={"collection": name, "users": "local", "fallback": "none"})
    server = ServerConfig.of(own)
    if server is None:
        raise ValueError("the settings name no server")
    try:
        push(workspace, own, progress=progress)
        yield open_served(workspace, server)
    finally:
        with connected(server.patient(REQUEST_SECONDS)) as connection:
            remove(connection)
