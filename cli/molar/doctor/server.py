"""A Qdrant server: whether it can be reached and understood, how its collections are, how far they are from here."""

import json
from collections.abc import Iterator
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.error import URLError
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

from molar.doctor.health import Entry, Fault, HealthState, broken, entry
from molar_indexes.server.config import KEY, ServerConfig, go_together
from molar_retrieval.binding import file_beside
from molar_retrieval.config import FILE_NAME, MolarSettings
from molar_retrieval.errors import MolarError
from molar_retrieval.workspace import Workspace

if TYPE_CHECKING:
    from molar_indexes.server.connect import Connection
    from molar_indexes.server.published import PublishedCollection

TIMEOUT = 3.0
_STATUS = {
    "yellow": (HealthState.WARNING, "is being optimised: it answers, but slower"),
    "grey": (HealthState.WARNING, "waits for its optimiser, which begins with the next change"),
    "red": (HealthState.BROKEN, "has operations that failed"),
}
_UNKNOWN = (HealthState.WARNING, "is in an unknown state")
_PUSH = "run `molar index push`"
_PUSH_OR_BACK = f"{_PUSH}, or `molar index rollback`"


def server(root: Path) -> Iterator[Entry]:
    """Look at the server that the settings name, if they name one; the workspace may not exist."""
    try:
        settings = MolarSettings.load(root.parent, name=file_beside(root, FILE_NAME).name)
    except MolarError:
        return  # said by the section on places
    try:
        config = ServerConfig.of(settings.index)
    except MolarError as error:
        yield entry("key", "unusable", broken(error.message, error.hint))
        return
    if config is not None:
        yield from served(config, root)


def served(config: ServerConfig, root: Path) -> Iterator[Entry]:
    """Look at a server and what is live there."""
    found = _addresses(config)
    yield from found
    if config.exposes_the_key:
        problem = f"the key in {KEY} travels unencrypted to {config.url}"
        yield entry("key", "unencrypted", Fault(problem, "use https://, or a network of your own"))
    if any(one.state is not HealthState.BROKEN for one in found):
        yield from _collections(config, root)


def _addresses(config: ServerConfig) -> list[Entry]:
    """Ask each node who it is; as long as one answers, those that do not are no more than a warning."""
    found = [address(node.url) for node in config.nodes]
    if len(found) == 1:
        return found
    milder = HealthState.BROKEN if all(one.state is HealthState.BROKEN for one in found) else HealthState.WARNING
    return [
        replace(one, name=f"address {number}", state=one.state if one.state is HealthState.FINE else milder)
        for number, one in enumerate(found, 1)
    ]


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
        return entry("address", url, broken(problem, "start it, or correct its address in molar.toml"))
    client = metadata.version("qdrant-client")
    problem = f"qdrant-client {client} and the server's version {version} are more than one minor version apart"
    return entry(
        "address",
        f"{url}, version {version}, client {client}",
        not go_together(client, version) and broken(problem, "update the older of the two"),
        data={"url": url, "version": version, "client": client},
    )


def _collections(config: ServerConfig, root: Path) -> list[Entry]:
    from molar_indexes.server.connect import connected
    from molar_indexes.server.published import live

    aliases = [config.collection, *([config.people] if config.users == "server" else [])]
    try:
        with connected(config.patient(TIMEOUT)) as connection:
            found = [live(connection, alias) for alias in aliases]
            entries = [_health(connection, one) for one in found]
            return [*entries, *_older(connection), _drift(found[0], root)]
    except MolarError as error:
        return [entry("collections", "not as they should be", broken(error.message, error.hint))]


def _health(connection: "Connection", one: "PublishedCollection") -> Entry:
    points, due = connection.ask(connection.client.count, one.name, exact=True).count, one.metadata.count
    state, words = _STATUS.get(one.status, _UNKNOWN)
    lacking = f"the collection {one.name!r} has {points:,} points instead of {due:,}"
    problem = f"the collection {one.name!r} is {one.status}: it {words}"
    return entry(
        f"live {one.metadata.holds}",
        f"{one.name}: {one.status}, {points:,} points, {one.indexed:,} vectors in graphs",
        points != due and broken(lacking, _PUSH_OR_BACK),
        one.status != "green" and Fault(problem, "look at the server's log and load", state),
        data={"collection": one.name, "status": one.status, "points": points, "indexed_vectors": one.indexed},
    )


def _older(connection: "Connection") -> Iterator[Entry]:
    from molar_indexes.server.published import published

    others = [one for alias in connection.server.aliases for one in published(connection, alias) if not one.live]
    unfinished = sum(not one.metadata.whole for one in others)
    value = f"{len(others)}, of which {unfinished} unfinished" if unfinished else f"{len(others)}"
    data = {"count": len(others), "unfinished": unfinished}
    if others:
        yield entry("older collections", f"{value} (`molar index prune` removes them)", data=data)


def _drift(there: "PublishedCollection", root: Path) -> Entry:
    from molar_indexes.generations import open_generation
    from molar_indexes.server.metadata import CollectionMetadata

    theirs = there.metadata.generation
    store = Workspace(root)["generations"]
    own = None if store.current is None else store.current.name
    value, fault = f"the server has {theirs}, the workspace {own or 'none'}", None
    if not (store.root / theirs).is_dir():
        problem = f"the workspace does not have generation {theirs}, which is live on the server"
        fault = broken(problem, _PUSH_OR_BACK)
    else:
        with open_generation(Workspace(root), theirs) as generation:
            differences = there.metadata.differs(CollectionMetadata.of(generation, there.metadata.layout, "items"))
        if differences:
            fault = broken(f"generation {theirs} is another one here: {'; '.join(differences)}", _PUSH)
        elif own != theirs:
            fault = Fault(f"the workspace has published {own}, the server still has {theirs}", _PUSH)
        else:
            value = f"none: both have {theirs}"
    return entry("drift", value, fault, data={"server": theirs, "workspace": own})
