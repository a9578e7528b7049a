"""Opening the generation that a server calls live: its items there, everything else from the workspace."""

from dataclasses import replace
from pathlib import Path

from molar_indexes.generations import Generation, open_generation, open_own_index, open_own_users
from molar_indexes.server.config import ServerConfig
from molar_indexes.server.connect import Connection, connect
from molar_indexes.server.fallback import FallingIndex, FallingUsers
from molar_indexes.server.faults import ServerError
from molar_indexes.server.index import ServerIndex
from molar_indexes.server.last_live import LastLive, last_live
from molar_indexes.server.metadata import CollectionMetadata, refuse_other
from molar_indexes.server.published import PublishedCollection, live, published
from molar_indexes.server.users import ServerUsers
from molar_indexes.users import Users
from molar_retrieval.errors import MissingArtefactError, StaleArtefactError
from molar_retrieval.ranking.index_protocol import Index, IndexSpec
from molar_retrieval.workspace.artefacts import Workspace


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
