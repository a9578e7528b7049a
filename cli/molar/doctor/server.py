"""A Qdrant server: whether it can be reached and understood, how its collections are, how far they are from here."""

import json
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.error import URLError
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

from molar.doctor.findings import Entry, Section, State
from molar_indexes.server.config import KEY, ServerConfig
from molar_indexes.server.versions import go_together
from molar_retrieval.config import MolarSettings
from molar_retrieval.errors import MolarError
from molar_retrieval.workspace import Workspace

if TYPE_CHECKING:
    from qdrant_client import QdrantClient

    from molar_indexes.server.published import PublishedCollection

TIMEOUT = 3.0
_STATES = {"green": State.FINE, "yellow": State.WARNING, "grey": State.WARNING, "red": State.BROKEN}
_SAYS = {
    "yellow": "is being optimised: it answers, but slower",
    "grey": "waits for its optimiser, which begins with the next change",
    "red": "has operations that failed",
}


def server_of(settings: MolarSettings) -> ServerConfig | None:
    """The server that the settings name."""
    return ServerConfig.of(settings.index)


def server(place: ServerConfig, root: Path) -> Section:
    """Look at a server and what is live there.

    Args:
        place: The server.
        root: The workspace's folder, which may not exist.
    """
    entries = [address(place.url)]
    if place.exposes_the_key:
        problem = f"the key in {KEY} travels unencrypted to {place.url}"
        entries.append(Entry("key", "unencrypted", State.WARNING, problem, "use https://, or a network of your own"))
    if entries[0].state is not State.BROKEN:
        entries += _collections(place, root)
    return Section("server", "Qdrant server", tuple(entries))


def address(url: str) -> Entry:
    """Ask a server who it is; without any key, so it is told of no collection."""
    try:
        if urlsplit(url).scheme not in {"http", "https"}:
            raise ValueError("the address does not begin with http:// or https://")
        with urlopen(Request(url, headers={"Accept": "application/json"}), timeout=TIMEOUT) as answer:
            said = json.loads(answer.read(65_536))
        version = str(said["version"])
    except (URLError, OSError, ValueError, KeyError, TypeError) as error:
        reason = str(getattr(error, "reason", error)) or type(error).__name__
        problem = f"the Qdrant server at {url} does not answer as one: {reason}"
        return Entry("address", url, State.BROKEN, problem, "start it, or correct its address in molar.toml")
    client = metadata.version("qdrant-client")
    value = f"{url}, version {version}, client {client}"
    data = {"url": url, "version": version, "client": client}
    if not go_together(client, version):
        problem = f"qdrant-client {client} and the server's version {version} are more than one minor version apart"
        return Entry("address", value, State.BROKEN, problem, "update the older of the two", data)
    return Entry("address", value, data=data)


def _collections(place: ServerConfig, root: Path) -> list[Entry]:
    from molar_indexes.server.connect import connected
    from molar_indexes.server.published import live

    aliases = [place.collection, *([place.people] if place.users == "server" else [])]
    try:
        with connected(place.patient(TIMEOUT)) as client:
            found = [live(client, place, alias) for alias in aliases]
            entries = [_health(client, place, one) for one in found]
            return [*entries, *_left(client, place), _drift(found[0], root)]
    except MolarError as error:
        return [Entry("collections", "not as they should be", State.BROKEN, error.message, error.hint)]


def _health(client: "QdrantClient", place: ServerConfig, one: "PublishedCollection") -> Entry:
    from molar_indexes.server.faults import asking

    with asking(place):
        points, due = client.count(one.name, exact=True).count, one.metadata.count
    value = f"{one.name}: {one.status}, {points:,} points, {one.indexed:,} vectors in graphs"
    data = {"collection": one.name, "status": one.status, "points": points, "indexed_vectors": one.indexed}
    name = f"live {one.metadata.holds}"
    if points != due:
        problem = f"the collection {one.name!r} has {points:,} points instead of {due:,}"
        return Entry(name, value, State.BROKEN, problem, "run `molar index push`, or `molar index rollback`", data)
    state = _STATES.get(one.status, State.WARNING)
    if state is State.FINE:
        return Entry(name, value, data=data)
    problem = f"the collection {one.name!r} is {one.status}: it {_SAYS.get(one.status, 'is in an unknown state')}"
    return Entry(name, value, state, problem, "look at the server's log and load", data)


def _left(client: "QdrantClient", place: ServerConfig) -> list[Entry]:
    """Other collections of the shop, if there are any."""
    from molar_indexes.server.published import published

    others = [
        one for alias in (place.collection, place.people) for one in published(client, place, alias) if not one.live
    ]
    if not others:
        return []
    unfinished = sum(not one.metadata.whole for one in others)
    value = f"{len(others)}, of which {unfinished} unfinished" if unfinished else f"{len(others)}"
    data = {"count": len(others), "unfinished": unfinished}
    return [Entry("older collections", f"{value} (`molar index prune` removes them)", data=data)]


def _drift(there: "PublishedCollection", root: Path) -> Entry:
    """How what is live on the server stands to the workspace."""
    from molar_indexes.generations import open_generation
    from molar_indexes.server.metadata import CollectionMetadata

    theirs = there.metadata.generation
    store = Workspace(root)["generations"]
    own = None if store.current is None else store.current.name
    data = {"server": theirs, "workspace": own}
    value = f"the server has {theirs}, the workspace {own or 'none'}"
    if not (store.root / theirs).is_dir():
        problem = f"the workspace does not have generation {theirs}, which is live on the server"
        return Entry("drift", value, State.BROKEN, problem, "run `molar index push`, or `molar index rollback`", data)
    with open_generation(Workspace(root), theirs) as generation:
        differences = there.metadata.differs(CollectionMetadata.of(generation, there.metadata.layout, "items"))
    if differences:
        problem = f"generation {theirs} is another one here: {'; '.join(differences)}"
        return Entry("drift", value, State.BROKEN, problem, "run `molar index push`", data)
    if own != theirs:
        problem = f"the workspace has published {own}, the server still has {theirs}"
        return Entry("drift", value, State.WARNING, problem, "run `molar index push`", data)
    return Entry("drift", f"none: both have {theirs}", data=data)
