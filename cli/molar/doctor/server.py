"""A Qdrant server: whether it can be reached and understood, how its collections are, how far they are from here."""

import json
from collections.abc import Generator, Iterator
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.error import URLError
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

from molar.choosing import settings_of
from molar.doctor.health import Entry, Fault, HealthState, broken, entry
from molar_indexes.generations import open_generation
from molar_indexes.server.config import KEY, ServerConfig, apart, go_together
from molar_retrieval.errors import MolarError
from molar_retrieval.workspace.artefacts import Workspace

if TYPE_CHECKING:
    from molar_indexes.server.client import Connection
    from molar_indexes.server.collections import PublishedCollection
    from molar_indexes.server.topology import ClusterNodes

TIMEOUT = 3.0
_STATUS = {
    "yellow": (HealthState.WARNING, "is being optimised: it answers, but slower"),
    "grey": (HealthState.WARNING, "waits for its optimiser, which begins with the next change"),
    "red": (HealthState.BROKEN, "has operations that failed"),
}
_UNKNOWN = (HealthState.WARNING, "is in an unknown state")
_START = "start the nodes again, and look at their logs; copies become active by themselves"
_PUSH = "run `molar index push`"
_PUSH_OR_BACK = f"{_PUSH}, or `molar index rollback`"


def server(root: Path, file: Path | None = None, index: str | None = None) -> Iterator[Entry]:
    """Look at the server that the settings name, if they name one; the workspace may not exist."""
    try:
        settings = settings_of(root, file, index=index)
    except MolarError:
        if index is not None:
            raise
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
    problem = f"the Qdrant server at {url}: {apart(client, version)}"
    return entry(
        "address",
        f"{url}, version {version}, client {client}",
        not go_together(client, version) and broken(problem, "update the older of the two"),
        data={"url": url, "version": version, "client": client},
    )


def _collections(config: ServerConfig, root: Path) -> Iterator[Entry]:
    from molar_indexes.server.client import connected
    from molar_indexes.server.collections import live

    aliases = [config.collection, *([config.people] if config.users == "server" else [])]
    try:
        with connected(config.patient(TIMEOUT)) as connection:
            cluster = yield from _nodes(connection)
            found = [live(connection, alias) for alias in aliases]
            if cluster is not None:
                yield from [_copies(connection, one, cluster) for one in found]
            entries = [_protocol(connection), *(_health(connection, one) for one in found)]
            yield from [*entries, *_older(connection), _drift(found[0], root)]
    except MolarError as error:
        yield entry("collections", "not as they should be", broken(error.message, error.hint))


def _nodes(connection: "Connection") -> Generator[Entry, None, "ClusterNodes | None"]:
    """The nodes of a cluster, as those that are reached know of each other; a key may be for collections alone."""
    from molar_indexes.server.client import ServerError
    from molar_indexes.server.topology import cluster_nodes

    try:
        cluster = cluster_nodes(connection)
    except ServerError as error:
        problem = f"whether all nodes of the cluster answer is not known: {error.message}"
        yield entry("nodes", "unknown", Fault(problem, error.hint))
        return None
    if cluster is not None:
        faults = [Fault(problem, _START) for problem in cluster.problems()]
        value = f"{len(cluster.nodes)}, of which {len(cluster.nodes) - len(cluster.down)} answer"
        yield entry("nodes", value, *faults, data={"nodes": len(cluster.nodes), "down": list(cluster.down)})
    return cluster


def _copies(connection: "Connection", one: "PublishedCollection", cluster: "ClusterNodes") -> Entry:
    from molar_indexes.server.topology import copies_of

    copies = copies_of(connection, one.name, cluster)
    state = HealthState.BROKEN if copies.lost else HealthState.WARNING
    faults = [Fault(problem, _START, state) for problem in copies.problems()]
    shards, active = len({copy.shard for copy in copies.copies}), len(copies.copies) - len(copies.weak)
    value = f"{shards} shards in {len(copies.copies)} copies, of which {active} are active"
    data = {"shards": shards, "copies": len(copies.copies), "active": active, "lost": copies.lost}
    return entry(f"copies of {one.metadata.holds}", value, *faults, data=data)


def _protocol(connection: "Connection") -> Entry:
    spoken = connection.spoken
    return entry("protocol", str(spoken), data={"grpc_port": spoken.grpc_port, "why_not": spoken.why})


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
    from molar_indexes.server.collections import published

    others = [one for alias in connection.server.aliases for one in published(connection, alias) if not one.live]
    unfinished = sum(not one.metadata.whole for one in others)
    value = f"{len(others)}, of which {unfinished} unfinished" if unfinished else f"{len(others)}"
    data = {"count": len(others), "unfinished": unfinished}
    if others:
        yield entry("older collections", f"{value} (`molar index prune` removes them)", data=data)


def _drift(there: "PublishedCollection", root: Path) -> Entry:
    from molar_indexes.server.collections import CollectionMetadata

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
