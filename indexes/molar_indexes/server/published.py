"""The collections of one shop on a server: which there are, which is live; rolling back and removing.

A collection is named after the alias, its generation and its layout. Aliases name what is live, items and users; they
are switched in one request, from the collections that were seen there to whole ones.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from qdrant_client import models

from molar_indexes.server.connect import Connection
from molar_indexes.server.faults import ServerError
from molar_indexes.server.metadata import CollectionMetadata
from molar_retrieval.errors import MissingArtefactError


@dataclass(frozen=True)
class PublishedCollection:
    """One collection of the shop; ``live``: whether the alias names it.

    ``points`` and ``indexed``, the vectors in graphs, are about so many; ``status`` is ``green``, ``yellow``, ``grey``
    or ``red``, as Qdrant says.
    """

    name: str
    metadata: CollectionMetadata
    live: bool
    points: int
    status: str
    indexed: int


def name_of(alias: str, metadata: CollectionMetadata) -> str:
    """The collection of a generation; the same for the same content in the same layout, of people of the same names."""
    named = f"-{metadata.people[:8]}" if metadata.people else ""
    return f"{alias}-{metadata.generation}-{metadata.mark}{named}"


def target(connection: Connection, alias: str) -> str | None:
    """The collection that an alias names, or None."""
    aliases = connection.ask(connection.client.get_aliases).aliases
    return next((one.collection_name for one in aliases if one.alias_name == alias), None)


def look(connection: Connection, name: str, live: str | None) -> PublishedCollection | None:
    """A collection of ours; None where it is not one."""
    there = connection.ask(connection.client.collection_exists, name)
    return _described(connection, name, live) if there else None


def _described(connection: Connection, name: str, live: str | None) -> PublishedCollection | None:
    info = connection.ask(connection.client.get_collection, name)
    metadata = CollectionMetadata.read(info.config.metadata)
    if metadata is None:
        return None
    points, indexed = info.points_count or 0, info.indexed_vectors_count or 0
    return PublishedCollection(name, metadata, name == live, points, str(info.status.value), indexed)


def published(connection: Connection, alias: str) -> list[PublishedCollection]:
    """All collections of an alias, by the age of their generations, oldest first."""
    live = target(connection, alias)
    names = [one.name for one in connection.ask(connection.client.get_collections).collections]
    own = [_described(connection, name, live) for name in names if name.startswith(f"{alias}-") or name == live]
    found = [one for one in own if one is not None and (one.live or one.name == name_of(alias, one.metadata))]
    return sorted(found, key=lambda one: one.metadata.age)


def live(connection: Connection, alias: str) -> PublishedCollection:
    """What an alias names.

    Raises :class:`MissingArtefactError` if nothing was published there, :class:`ServerError` if something else is.
    """
    name, server = target(connection, alias), connection.server
    if name is None:
        what = f"{server.name} has nothing live under the name {alias!r}"
        raise MissingArtefactError(what, "run `molar index push` first")
    found = _described(connection, name, name)
    if found is None:
        raise ServerError(
            f"the collection {name!r}, which {alias!r} names at {server.url}, was not published by molar",
            "choose another name: [index] collection",
        )
    return found


def switch(connection: Connection, changes: dict[str, tuple[str | None, str]]) -> None:
    """Point aliases at other collections, all at once: each from the one that it named when work began to another.

    Raises :class:`ServerError` if somebody else switched one meanwhile; nothing is changed then.
    """
    for alias, (before, _) in changes.items():
        if (now := target(connection, alias)) != before:
            raise _raced(connection, alias, before, now)
    actions: list[models.AliasOperations] = []
    for alias, (before, after) in changes.items():
        if before is not None:
            actions.append(models.DeleteAliasOperation(delete_alias=models.DeleteAlias(alias_name=alias)))
        created = models.CreateAlias(collection_name=after, alias_name=alias)
        actions.append(models.CreateAliasOperation(create_alias=created))
    connection.ask(connection.client.update_collection_aliases, actions)
    for alias, (_, after) in changes.items():
        if (now := target(connection, alias)) != after:
            raise _raced(connection, alias, after, now)


def _raced(connection: Connection, alias: str, before: str | None, now: str | None) -> ServerError:
    return ServerError(
        f"somebody else switched {alias!r} of {connection.server.name} meanwhile: from {before or 'nothing'} to"
        f" {now or 'nothing'}",
        "look at both with `molar index list`; run the command again if yours is to be live",
    )


def rollback(connection: Connection, generation: str | None = None) -> PublishedCollection:
    """Make an older generation on the server the live one, its users with it if there are some.

    Without ``generation`` it is the one before the live one. Raises :class:`MissingArtefactError` if there is none
    that is whole.
    """
    server = connection.server
    now = live(connection, server.collection)
    known = [one for one in published(connection, server.collection) if one.metadata.whole and one.metadata.present]
    if generation is None:
        found = [one for one in known if one.metadata.age < now.metadata.age]
    else:
        found = [one for one in known if one.metadata.generation == generation and one.name != now.name]
    if not found:
        wanted = f"before {now.metadata.generation}" if generation is None else repr(generation)
        hint = "run `molar index list` to see which there are"
        raise MissingArtefactError(f"{server.name} has no whole generation {wanted}", hint)
    chosen = found[-1]
    points = connection.ask(connection.client.count, chosen.name, exact=True).count
    if chosen.status == "red" or points != chosen.metadata.count:
        raise ServerError(
            f"the collection {chosen.name!r} is {chosen.status} and has {points:,} points instead of"
            f" {chosen.metadata.count:,}",
            "look at the server's log, or run `molar index push`; the live one was not touched",
        )
    changes: dict[str, tuple[str | None, str]] = {server.collection: (now.name, chosen.name)}
    if server.users == "server":
        people = published(connection, server.people)
        fitting = [p for p in people if p.metadata.whole and p.metadata.generation == chosen.metadata.generation]
        if not fitting:
            raise MissingArtefactError(
                f"{server.name} has no users of generation {chosen.metadata.generation}",
                'push that generation with [index] users = "server", or keep users in the workspace',
            )
        changes[server.people] = (target(connection, server.people), fitting[-1].name)
    switch(connection, changes)
    return chosen


def prune(connection: Connection, keep: int, spare: Collection[str] = ()) -> list[str]:
    """Remove older collections but for the ``keep`` newest whole ones, and what failed pushes left of such generations.

    The live ones stay, those of generations to ``spare``, and what is newer: a push may be under way. Returns the names
    of what was removed.
    """
    chosen: list[str] = []
    for alias in connection.server.aliases:
        every = published(connection, alias)
        now = next((one for one in every if one.live), None)
        if now is None:
            continue
        older = [one for one in every if not one.live and one.metadata.age < now.metadata.age]
        whole = [one.name for one in older if one.metadata.whole]
        kept = whole[-keep:] if keep else []
        chosen += [one.name for one in older if one.name not in kept and one.metadata.generation not in spare]
    return _removed(connection, chosen)


def remove_others(connection: Connection, alias: str) -> list[str]:
    """Remove all collections of an alias but the live one, older and unfinished ones; returns their names."""
    return _removed(connection, [one.name for one in published(connection, alias) if not one.live])


def remove(connection: Connection) -> list[str]:
    """Remove all collections of a shop, the live ones as well, and their aliases; returns the collections' names."""
    aliases = connection.server.aliases
    gone = [models.DeleteAliasOperation(delete_alias=models.DeleteAlias(alias_name=alias)) for alias in aliases]
    names = [one.name for alias in aliases for one in published(connection, alias)]
    connection.ask(connection.client.update_collection_aliases, gone)
    return _removed(connection, names)


def _removed(connection: Connection, names: Sequence[str]) -> list[str]:
    for name in names:
        connection.ask(connection.client.delete_collection, name)
    return list(names)
