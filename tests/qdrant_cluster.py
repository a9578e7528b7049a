"""Nodes of a Qdrant cluster for tests: several fake servers over one store, each of which can be killed or hang."""

import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from qdrant_client import QdrantClient
from qdrant_fake import FakeQdrant, Fault, fake_qdrant


class Node:
    """One node over a store that is that of all of them.

    Attributes:
        fake: The server; its faults are of this node alone.
        url: Its address.
    """

    def __init__(self, store: QdrantClient, lock: threading.Lock) -> None:
        self._running = ExitStack()
        self.fake: FakeQdrant = self._running.enter_context(fake_qdrant())
        self.url, self._own = self.fake.url, self.fake.client
        self.fake.client, self.fake._lock = store, lock

    def kill(self) -> None:
        """From now on nothing listens, and connections that are there break."""
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


@contextmanager
def fake_cluster(count: int = 3) -> Iterator[list[Node]]:
    """So many nodes, closed in the end."""
    store, lock = QdrantClient(":memory:"), threading.Lock()
    nodes = [Node(store, lock) for _ in range(count)]
    try:
        yield nodes
    finally:
        for node in nodes:
            node.kill()
        store.close()


def address_of(nodes: list[Node]) -> str:
    """All of them as one address."""
    return ",".join(node.url for node in nodes)
