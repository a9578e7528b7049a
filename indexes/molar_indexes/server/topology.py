"""The nodes of a cluster and the copies of a collection's shards on them: which of them answer.

A server without a cluster has neither. What a node is called is its address among the nodes, as Qdrant tells it.
"""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice

from qdrant_client import models

from molar_indexes.server.client import Connection, ServerError
from molar_indexes.server.collections import published

ACTIVE = "active"
UNREACHABLE = "unreachable"
"""States of a copy: the one in which it answers, and that on a node which does not; others are Qdrant's own."""
_ANSWERED = 1
"""Seconds in which a node answers another one."""
_SHOWN = 3


@dataclass(frozen=True)
class ClusterNodes:
    """Nodes by their ids, and those of them that do not answer the others."""

    nodes: Mapping[int, str]
    down: Collection[str]

    def problems(self) -> list[str]:
        """What is wrong with them, as sentences."""
        do = "does" if len(self.down) == 1 else "do"
        said = f"{len(self.down)} of {len(self.nodes)} nodes of the cluster {do} not answer: {', '.join(self.down)}"
        return [said] if self.down else []


@dataclass(frozen=True)
class ShardCopy:
    """One copy of a shard: the node on which it is, and its state in lower case."""

    shard: int
    node: str
    state: str


@dataclass(frozen=True)
class CollectionCopies:
    """All copies of a collection's shards."""

    collection: str
    copies: Collection[ShardCopy]

    @property
    def weak(self) -> list[ShardCopy]:
        """Those that do not answer."""
        return [copy for copy in self.copies if copy.state != ACTIVE]

    @property
    def lost(self) -> list[int]:
        """Shards of which no copy answers."""
        return sorted({c.shard for c in self.copies} - {c.shard for c in self.copies if c.state == ACTIVE})

    def problems(self) -> list[str]:
        """What is wrong with them, as sentences."""
        if not self.weak:
            return []
        shown = [f"shard {copy.shard} at {copy.node} is {copy.state}" for copy in islice(self.weak, _SHOWN)]
        more = f" and {len(self.weak) - _SHOWN} more" if len(self.weak) > _SHOWN else ""
        are = "are" if len(self.weak) > 1 else "is"
        said = (
            f"{len(self.weak)} of {len(self.copies)} copies of shards of {self.collection!r} {are} not active:"
            f" {', '.join(shown)}{more}"
        )
        lost = ", ".join(map(str, self.lost))
        return [f"{said}; no copy answers for shard {lost}" if lost else said]


def cluster_nodes(connection: Connection) -> ClusterNodes | None:
    """The nodes of a cluster; None where the server is none.

    The node that is asked knows of those to which it sends, which are all for a leader; from 1.17 on it asks the
    others. Raises :class:`ServerError` if it does not say.
    """
    status = connection.ask(connection.client.cluster_status)
    if not isinstance(status, models.ClusterStatusOneOf1):
        return None
    nodes = {int(peer): _plain(info.uri) for peer, info in status.peers.items()}
    failing = {_plain(address) for address in status.message_send_failures} | _unresponsive(connection)
    return ClusterNodes(nodes, [node for node in nodes.values() if node in failing])


def copies_of(connection: Connection, collection: str, cluster: ClusterNodes) -> CollectionCopies:
    """The copies of a collection's shards on the nodes of a cluster."""
    info = connection.ask(connection.client.collection_cluster_info, collection)
    held = [(one.shard_id, info.peer_id, one.state) for one in info.local_shards]
    held += [(one.shard_id, one.peer_id, one.state) for one in info.remote_shards]
    return CollectionCopies(collection, [_copy(cluster, *one) for one in sorted(held, key=lambda one: one[:2])])


def weaknesses(connection: Connection, generation: str) -> Iterator[str]:
    """What is wrong with the nodes of a cluster and with the copies of a generation's collections, as sentences.

    That nobody may ask about it is one as well: a key can be for collections alone.
    """
    try:
        cluster = cluster_nodes(connection)
        if cluster is not None:
            yield from cluster.problems()
            every = [one for alias in connection.server.aliases for one in published(connection, alias)]
            for one in every:
                if one.metadata.generation == generation and one.metadata.whole:
                    yield from copies_of(connection, one.name, cluster).problems()
    except ServerError as error:
        yield f"whether all nodes of the cluster answer is not known: {error.message}"


def _copy(cluster: ClusterNodes, shard: int, peer: int, state: models.ReplicaState) -> ShardCopy:
    node = cluster.nodes.get(peer, f"node {peer}")
    down = state == models.ReplicaState.ACTIVE and node in cluster.down
    return ShardCopy(shard, node, UNREACHABLE if down else state.value.lower())


def _unresponsive(connection: Connection) -> set[str]:
    try:
        told = connection.ask(connection.client.cluster_telemetry, timeout=_ANSWERED)
    except ServerError:  # a server before 1.17 cannot say
        return set()
    peers = {} if told.cluster is None else told.cluster.peers
    return {_plain(peer.uri) for peer in peers.values() if not peer.responsive}


def _plain(address: str) -> str:
    return address.rstrip("/")
