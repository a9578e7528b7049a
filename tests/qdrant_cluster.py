"""Nodes of a Qdrant cluster for tests: several fake servers over one store, each of which can be killed or hang."""

import re
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from qdrant_client import QdrantClient
from qdrant_fake import FakeQdrant, Fault, fake_qdrant


class Node:
    """One node over a store that is that of all of them.

    Attributes:
        fake: The server; its faults are of this node alone.
        url: Its address.
        alive: Whether it was not killed.
    """

    def __init__(self, store: QdrantClient, lock: threading.Lock) -> None:
        self.alive = True
        self._running = ExitStack()
        self.fake: FakeQdrant = self._running.enter_context(fake_qdrant())
        self.url, self._own = self.fake.url, self.fake.client
        self.fake.client, self.fake._lock = store, lock

    def kill(self) -> None:
        """From now on nothing listens, and connections that are there break."""
        self.alive = False
        self.fake.faults.insert(0, Fault("", times=10**9, act=_die))
        self.fake.client = self._own
        self._running.close()

    def hang(self, seconds: float = 3.0) -> None:
        """Requests are taken, and not answered before so many seconds are over."""
        self.fake.faults.insert(0, Fault("", times=10**9, delay=seconds))

    def fail(self, of: str = "") -> None:
        """Requests are answered with 500, as by a node without the others."""
        self.fake.faults.insert(0, Fault(of, times=10**9, status=500, error="Service internal error: no leader"))

    def recover(self) -> None:
        """It answers again, unless it was killed."""
        self.fake.faults.clear()


def _die() -> None:
    raise ConnectionAbortedError


@dataclass
class Topology:
    """What nodes say of each other; every collection has as many shards as there are nodes, each in two copies.

    The first one that lives leads: it alone sends to all others, and so knows whom it does not reach.

    Attributes:
        nodes: All of them.
        states: Of the copies, by shard and number of the node.
        asking: Whether a node asks the others, as from version 1.17 on.
    """

    nodes: list[Node]
    states: dict[tuple[int, int], str] = field(default_factory=dict)
    asking: bool = True

    def of(self, number: int, path: str) -> Any:
        """What the node of a number answers."""
        ids = [5360762229257965 + other for other in range(len(self.nodes))]
        addresses = [f"http://127.0.0.1:{6335 + 10 * other}/" for other in range(len(self.nodes))]
        lives = [node.alive for node in self.nodes]
        if path == "/cluster":
            failing = [
                a for a, alive in zip(addresses, lives, strict=True) if not alive and number == lives.index(True)
            ]
            return {
                "status": "enabled",
                "peer_id": ids[number],
                "peers": {str(one): {"uri": address} for one, address in zip(ids, addresses, strict=True)},
                "raft_info": {"term": 3, "commit": 40, "pending_operations": 0, "leader": ids[0], "is_voter": True},
                "consensus_thread_status": {
                    "consensus_thread_status": "working",
                    "last_update": "2026-11-28T06:00:00.123456789Z",
                },
                "message_send_failures": {one: {"count": 7, "latest_error": "status: Unavailable"} for one in failing},
            }
        if path == "/cluster/telemetry" and self.asking:
            told = zip(ids, addresses, lives, strict=True)
            peers = {str(one): {"uri": address, "responsive": alive} for one, address, alive in told}
            return {"collections": {}, "cluster": {"enabled": True, "number_of_peers": len(ids), "peers": peers}}
        if re.fullmatch("/collections/[^/]+/cluster", path):
            count = len(self.nodes)
            held = [(shard, (shard + copy) % count) for shard in range(count) for copy in range(min(2, count))]
            mine = [shard for shard, node in held if node == number]
            state = {one: self.states.get(one, "Active") for one in held}
            return {
                "peer_id": ids[number],
                "shard_count": count,
                "local_shards": [
                    {"shard_id": shard, "points_count": 20, "state": state[shard, number]} for shard in mine
                ],
                "remote_shards": [
                    {"shard_id": shard, "peer_id": ids[node], "state": state[shard, node]}
                    for shard, node in held
                    if node != number
                ],
                "shard_transfers": [],
            }
        return None


@contextmanager
def fake_cluster(count: int = 3) -> Iterator[list[Node]]:
    """So many nodes, closed in the end."""
    store, lock = QdrantClient(":memory:"), threading.Lock()
    nodes = [Node(store, lock) for _ in range(count)]
    spread(nodes)
    try:
        yield nodes
    finally:
        for node in nodes:
            node.kill()
        store.close()


def spread(nodes: list[Node]) -> Topology:
    """Let nodes say how they are and what copies they have."""
    topology = Topology(nodes)
    for number, node in enumerate(nodes):
        node.fake.topology = partial(topology.of, number)
    return topology


def address_of(nodes: list[Node]) -> str:
    """All of them as one address."""
    return ",".join(node.url for node in nodes)
