"""Opening the generation that a server calls live: its items there, everything else from the workspace.

Which generation is live on a server, as the last push or rollback from this workspace left it.

Where the server does not answer nobody else can say so, and the workspace's own live generation may be another one.
"""

import json
import threading
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Generic, Protocol, Self, TypeVar

from molar_indexes.generations import KIND, Generation, open_generation, open_own_index, open_own_users
from molar_indexes.server.client import Connection, ServerError, connect
from molar_indexes.server.collections import CollectionMetadata, PublishedCollection, live, published, refuse_other
from molar_indexes.server.config import ServerConfig
from molar_indexes.server.index import ServerIndex, ServerUsers
from molar_indexes.users import UserRecord, Users
from molar_retrieval.errors import MissingArtefactError, StaleArtefactError
from molar_retrieval.ranking.filters import Expression
from molar_retrieval.ranking.index_protocol import Index, IndexSpec, Search, SparseVector, StoredItem, Vector
from molar_retrieval.workspace.artefacts import Workspace
from molar_retrieval.workspace.files import write_atomically

_FOLDER = "push"


@dataclass(frozen=True)
class LastLive:
    """A ``generation`` of the workspace, or None, and in words why it is the one to answer instead of a server."""

    generation: str | None
    why: str


def remember(workspace: Workspace, server: ServerConfig, generation: str) -> None:
    """Keep that a generation is live on a server now."""
    path = _path(workspace, server)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, json.dumps({"url": server.url, "generation": generation}))


def last_live(workspace: Workspace, server: ServerConfig) -> LastLive:
    """What is to answer instead of a server: the generation that is live there, if the workspace has it."""
    store, there = workspace[KIND], _there(workspace, server)
    own = None if store.current is None else store.current.name
    if there is None:
        return LastLive(None, f"its live one, {own}, as it does not know what is live there")
    if there == own:
        return LastLive(there, f"{there}, which is live on both")
    if (store.root / there).is_dir():
        return LastLive(there, f"{there}, which is live there, while here it is {own}")
    return LastLive(None, f"its live one, {own}, as it no longer has {there}, which is live there")


def _there(workspace: Workspace, server: ServerConfig) -> str | None:
    """What was kept of a server, which may be named by other addresses of the same cluster now."""
    try:
        kept = json.loads(_path(workspace, server).read_text("utf-8"))
        same = set(kept["url"].split(",")) & {node.url for node in server.nodes}
        named = str(kept["generation"])
        return named if same and Path(named).name == named else None  # the plain name of a generation
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def _path(workspace: Workspace, server: ServerConfig) -> Path:
    return workspace.root / _FOLDER / f"{server.collection}.json"


class _Closable(Protocol):
    def close(self) -> None: ...


_AGAIN = 10.0
"""Seconds until a server that failed is asked again; that question waits for it."""
S = TypeVar("S", bound=_Closable)
T = TypeVar("T")


class _Falling(Generic[S]):
    """Asks the first one until it fails, then the other, which is opened then; the first is tried again by and by.

    ``notes`` says so for as long as the other answers.
    """

    def __init__(self, first: S, other: Callable[[], S], notes: list[str]) -> None:
        self._first, self._other, self._notes = first, other, notes
        self._second: S | None = None
        self._said: str | None = None
        self._again = float("-inf")  # from when the first one is asked
        self._falling = threading.Lock()

    @property
    def _asked(self) -> S:
        """What answers now."""
        return self._first if self._said is None or self._second is None else self._second

    def _ask(self, question: Callable[[S], T]) -> T:
        if time.monotonic() >= self._again:
            if self._said is not None:
                self._again = time.monotonic() + _AGAIN  # the others do not wait for this one
            try:
                found = question(self._first)
            except ServerError as error:
                self._fall(error.message)
            else:
                self._tell(None)
                return found
        assert self._second is not None
        return question(self._second)

    def _fall(self, reason: str) -> None:
        with self._falling:
            if self._second is None:
                self._second = self._other()
            self._again = time.monotonic() + _AGAIN
        self._tell(f"{reason}; the workspace's own index answers instead")

    def _tell(self, note: str | None) -> None:
        if note == self._said:
            return
        with self._falling:
            if self._said in self._notes:
                self._notes.remove(self._said)
            if note is not None:
                self._notes.append(note)
            self._said, self._again = note, float("-inf") if note is None else self._again

    def close(self) -> None:
        """Close what is open."""
        self._first.close()
        if self._second is not None:
            self._second.close()


class FallingIndex(_Falling[Index]):
    """An index on a server with the workspace's behind it."""

    @property
    def spec(self) -> IndexSpec:
        """What the index holds."""
        return self._asked.spec

    @property
    def graphs(self) -> Collection[str]:
        """Names of the vectors whose searches use a graph."""
        return self._asked.graphs

    def searching(self, efs: Mapping[str, int]) -> Self:
        """The same with other candidate lists."""
        return type(self)(self._asked.searching(efs), self._other, self._notes)

    def __len__(self) -> int:
        return len(self._asked)

    def top(
        self,
        name: str,
        query: Vector | SparseVector,
        k: int,
        *,
        exclude: Iterable[int] = (),
        where: Expression | None = None,
    ) -> list[tuple[int, float]]:
        """Rows and scores of the best."""
        hidden = list(exclude)
        return self._ask(lambda index: index.top(name, query, k, exclude=hidden, where=where))

    def tops(
        self, searches: Sequence[Search], *, exclude: Iterable[int] = (), where: Expression | None = None
    ) -> list[list[tuple[int, float]]]:
        """The answers to several searches."""
        hidden = list(exclude)
        return self._ask(lambda index: index.tops(searches, exclude=hidden, where=where))

    def fetch(self, rows: Sequence[int], *, vectors: Sequence[str] = ()) -> list[StoredItem]:
        """The stored items at ``rows``, in that order; unknown rows are left out."""
        return self._ask(lambda index: index.fetch(rows, vectors=vectors))

    def rows(self, item_ids: Sequence[str]) -> list[int | None]:
        """The row of each id, in their order; None for an unknown one."""
        return self._ask(lambda index: index.rows(item_ids))


class FallingUsers(_Falling[Users], Users):
    """Users on a server with the workspace's behind them; see :class:`molar_indexes.users.Users`."""

    def __len__(self) -> int:
        return len(self._asked)

    def keyed(self, key: str) -> UserRecord | None:
        """Who is stored under a key, or None."""
        return self._ask(lambda users: users.keyed(key))

    def between(self, first: int, last: int) -> list[UserRecord]:
        """The users from one number up to another."""
        return self._ask(lambda users: users.between(first, last))


def open_served(workspace: Workspace, server: ServerConfig, name: str | None = None) -> Generation:
    """Open what is live on a server, or the generation called ``name``.

    Where the server does not answer and the workspace may, that generation is opened from there, with a note; as far as
    the workspace does not know or have what is live on the server, its own live one.

    Raises:
        ServerError: If the server does not answer, refuses, or is of another version.
        MissingArtefactError: If nothing was pushed there.
        StaleArtefactError: If the workspace does not have that generation, or another one under its name.
    """
    try:
        connection = connect(server)
        try:
            return served(connection, workspace, name)
        except BaseException:
            connection.close()
            raise
    except ServerError as error:
        if server.fallback == "none":
            raise
        known = last_live(workspace, server) if name is None else LastLive(name, name)
        note = f"{error.message}; the workspace's own generation answers instead: {known.why}"
        return replace(open_generation(workspace, known.generation), notes=[note])


def served(connection: Connection, workspace: Workspace, name: str | None = None) -> Generation:
    """The same with a connection; the generation closes it."""
    server = connection.server
    found = _chosen(connection, server.collection, name)
    here = found.metadata.generation
    notes: list[str] = []

    def indexed(folder: Path, backend: str, spec: IndexSpec) -> Index:
        metadata = found.metadata
        there = replace(spec, efs=metadata.efs)
        index = ServerIndex(connection, found.name, there, metadata.count, metadata.layout, graph=found.indexed > 0)
        if server.fallback == "none":
            return index
        return FallingIndex(index, lambda: open_own_index(folder, backend, spec), notes)

    try:
        generation = open_generation(workspace, here, indexed=indexed)
    except MissingArtefactError as error:
        own = workspace["generations"].current
        raise StaleArtefactError(
            f"{server.name} serves generation {here}, which is not in the workspace; that has"
            f" {own.name if own else 'none'}",
            "run `molar index push`, or `molar index rollback` to one that both have",
        ) from error
    try:
        _refuse_other(connection, found, generation, "items")
        people = _people(connection, generation, notes)
    except BaseException:
        generation.close()
        raise
    return replace(generation, users=people, notes=notes)


def _people(connection: Connection, generation: Generation, notes: list[str]) -> Users:
    server = connection.server
    if server.users == "local":
        return generation.users
    found = _chosen(connection, server.people, generation.name)
    _refuse_other(connection, found, generation, "users")
    generation.users.close()
    users = ServerUsers(connection, found.name, found.metadata.count)
    if server.fallback == "none":
        return users
    return FallingUsers(users, lambda: open_own_users(generation.folder), notes)


def _refuse_other(connection: Connection, found: PublishedCollection, generation: Generation, holds: str) -> None:
    own = CollectionMetadata.of(generation, found.metadata.layout, holds)
    refuse_other(connection.server, found.name, found.metadata, own)


def _chosen(connection: Connection, alias: str, name: str | None) -> PublishedCollection:
    """What is live under an alias; or the collection of a generation, the newest of several."""
    now = live(connection, alias)
    if name is None or now.metadata.generation == name:
        return now
    fitting = [p for p in published(connection, alias) if p.metadata.whole and p.metadata.generation == name]
    if not fitting:
        raise MissingArtefactError(
            f"{connection.server.name} has no whole collection of generation {name} under {alias!r}",
            f"run `molar index push`; live there is generation {now.metadata.generation}",
        )
    return fitting[-1]
