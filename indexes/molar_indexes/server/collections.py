"""The collections of one shop on a server: which there are, which is live; rolling back and removing.

A collection is named after the alias, its generation and its layout. Aliases name what is live, items and users; they
are switched in one request, from the collections that were seen there to whole ones.
"""

import json
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Self

from qdrant_client import models

from molar_indexes.generations import Generation
from molar_indexes.server.client import Connection, ServerError
from molar_indexes.server.config import ServerConfig
from molar_indexes.server.points import Layout
from molar_retrieval.errors import MissingArtefactError, StaleArtefactError
from molar_retrieval.ranking.index_protocol import IndexSpec
from molar_retrieval.workspace import fingerprint

KEY = "molar"
FORMAT = 2
"""Items' points have rows as ids. In the first one they had UUIDs, and their rows were payload; it can be listed."""
_PEOPLE = "people"
_KINDS = {"content": "encoder and its vectors", "catalogue": "catalogue", _PEOPLE: "names of people"}
"""How inputs of a generation are called to people, where not by their kind."""


@dataclass(frozen=True)
class CollectionMetadata:
    """What is known of a collection of ``count`` points, which holds a generation's ``items`` or ``users``.

    Attributes:
        inputs: Fingerprints of what the generation was made from, by kind; with users, of what these are called.
        ids: Fingerprint of the items' ids in their order.
        spec: What the index holds, as JSON text: servers read numbers of 17 digits a bit off.
        begun: When the collection was made, in seconds since 1970.
        whole: Whether it was verified; only such collections are ever live.
        efs: Candidate lists that its own graphs need, see :attr:`molar_retrieval.ranking.index_protocol.IndexSpec.efs`.
        format: How its points are stored, up to :data:`FORMAT`.
    """

    generation: str
    holds: str
    inputs: Mapping[str, str]
    ids: str
    spec: str
    count: int
    layout: Layout
    begun: float = 0.0
    whole: bool = False
    efs: Mapping[str, int] = field(default_factory=dict)
    format: int = FORMAT

    @classmethod
    def of(cls, generation: Generation, layout: Layout, holds: str) -> Self:
        """The metadata of a generation's items or users."""
        count = len(generation.users) if holds == "users" else int(generation.manifest.facts[holds])
        inputs, names = dict(generation.manifest.inputs), generation.manifest.facts.get(_PEOPLE)
        inputs |= {_PEOPLE: names} if holds == "users" and names is not None else {}
        held = {name: value for name, value in asdict(generation.spec).items() if name != "efs"}  # of the graphs here
        spec = json.dumps(held, sort_keys=True)
        return cls(generation.name, holds, inputs, ids_of(generation), spec, count, layout, time.time())

    @classmethod
    def read(cls, stored: Mapping[str, Any] | None) -> Self | None:
        """The metadata in a collection's metadata; None where it is not one of ours."""
        found = (stored or {}).get(KEY)
        try:
            if found is None or not 1 <= found["format"] <= FORMAT:
                return None
            return cls(**{**found, "layout": Layout(**found["layout"])})
        except (TypeError, KeyError):
            return None

    def as_metadata(self) -> dict[str, Any]:
        """As a collection's metadata."""
        return {KEY: asdict(self)}

    def verified(self, efs: Mapping[str, int]) -> Self:
        """The same of a collection that was verified, and is searched so."""
        return replace(self, whole=True, efs=efs)

    @property
    def present(self) -> bool:
        """Whether this version asks such points; those of earlier ones can only be listed and removed."""
        return self.format == FORMAT

    @property
    def mark(self) -> str:
        """Eight characters that differ between layouts and formats."""
        return self.layout.mark if self.format == 1 else fingerprint.of_json([asdict(self.layout), self.format])[:8]

    @property
    def people(self) -> str | None:
        """A digest of what its users are called; None where it has none."""
        return self.inputs.get(_PEOPLE)

    @property
    def age(self) -> tuple[str, float]:
        """Orders collections: by the second in which their generation was made, then by when they were."""
        return self.generation[:15], self.begun

    @property
    def index_spec(self) -> IndexSpec:
        """What the index holds."""
        spec = json.loads(self.spec)
        return IndexSpec(**{**spec, "sparse": tuple(spec["sparse"])})

    def differs(self, other: "CollectionMetadata") -> list[str]:
        """What of two generations is not the same, as sentences with both sides."""
        kinds = [*self.inputs, *(kind for kind in other.inputs if kind not in self.inputs)]
        found = [
            f"the {_KINDS.get(kind, kind)} {_short(self.inputs.get(kind))} there, {_short(other.inputs.get(kind))} here"
            for kind in kinds
            if self.inputs.get(kind) != other.inputs.get(kind)
        ]
        if self.format != other.format:
            found.append(f"points of format {self.format} there, {other.format} here")
        if self.ids != other.ids:
            found.append(f"the items' ids {_short(self.ids)} there, {_short(other.ids)} here")
        if self.spec != other.spec:
            found.append(f"vectors {_vectors(self)} there, {_vectors(other)} here")
        if self.count != other.count and self.holds != "users":  # people may have been removed on one side so far
            found.append(f"{self.count:,} {self.holds} there, {other.count:,} here")
        return found


def refuse_other(server: ServerConfig, collection: str, there: CollectionMetadata, here: CollectionMetadata) -> None:
    """Refuse a collection that does not hold what the workspace's generation of the same name does.

    Raises :class:`StaleArtefactError`, which names both sides.
    """
    if problems := there.differs(here):
        raise StaleArtefactError(
            f"the collection {collection!r} of {server.name} is not the workspace's generation {here.generation}: "
            + "; ".join(problems),
            "run `molar index push`, or ask from the workspace that the collection was made from",
        )


def ids_of(generation: Generation) -> str:
    """The fingerprint of the items' ids in their order."""
    text, ends = generation.table.ids
    return fingerprint.of_bytes([text.tobytes(), ends.astype("<i8").tobytes()])


def _short(mark: str | None) -> str:
    return "none" if mark is None else mark[:16]


def _vectors(metadata: CollectionMetadata) -> str:
    spec = metadata.index_spec
    return ", ".join([*(f"{name} {dim}" for name, dim in spec.dims.items()), *spec.sparse])


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
