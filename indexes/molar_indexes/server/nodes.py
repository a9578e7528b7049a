"""Several nodes of one cluster, asked as one server: the first that answers.

Nodes are asked in the order in which they are named. One that is dead or hangs rests for a while, longer each time, and
the next one is asked in the same request; what is known of a node holds for the whole process.
"""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from qdrant_client import QdrantClient

from molar_indexes.server.config import ServerConfig
from molar_indexes.server.faults import ServerError, asking

REST = 10.0
"""Seconds until a node that failed is asked again, twice as many after each further failure."""
LONGEST_REST = 300.0


@dataclass
class _Health:
    failures: int = 0  # one after the other
    until: float = 0.0  # it rests, by the monotonic clock


_KNOWN: dict[str, _Health] = {}
"""By address: connections are made anew for each generation, and a node that hangs costs time."""


class _Node:
    """One node, whose client is made when it is first asked."""

    def __init__(self, server: ServerConfig, client_of: Callable[[ServerConfig], QdrantClient]) -> None:
        self.server, self._client_of = server, client_of
        self._client: QdrantClient | None = None
        self._making = threading.Lock()

    @property
    def client(self) -> QdrantClient:
        with self._making:
            if self._client is None:
                self._client = self._client_of(self.server)
            return self._client

    @property
    def health(self) -> _Health:
        return _KNOWN.setdefault(self.server.url, _Health())

    def rest(self) -> None:
        """Let others be asked first for a while."""
        health = self.health
        health.until = time.monotonic() + min(LONGEST_REST, REST * 2 ** min(health.failures, 16))

    def close(self) -> None:
        if self._client is not None:
            self._client.close()


class FirstThatAnswers:
    """Stands for a client of a cluster: each of its methods is that of the client of a node that answers.

    A request ends when its time is over, however many nodes are left; what it asks may have been done by a node whose
    answer did not come, so it must be one that can be sent twice.
    """

    def __init__(self, server: ServerConfig, client_of: Callable[[ServerConfig], QdrantClient]) -> None:
        self._server = server
        self._nodes = [_Node(node, client_of) for node in server.nodes]

    def __getattr__(self, name: str) -> Callable[..., Any]:
        if name.startswith("_"):
            raise AttributeError(name)
        return partial(self._ask, name)

    def close(self) -> None:
        """Close the clients of all nodes."""
        for node in self._nodes:
            node.close()

    def _ask(self, method: str, *arguments: Any, **named: Any) -> Any:
        until, failed = time.monotonic() + self._server.timeout, list[ServerError]()
        for node in self._in_turn():
            if failed and time.monotonic() >= until:
                break
            if node.health.failures:
                node.rest()  # other threads do not wait for it
            try:
                with asking(node.server):
                    found = getattr(node.client, method)(*arguments, **named)
            except ServerError as error:
                if not error.down:
                    raise
                failed.append(error)
                node.rest()
                node.health.failures += 1
            else:
                _KNOWN.pop(node.server.url, None)
                return found
        said = "; ".join(error.message for error in failed)
        raise ServerError(f"{self._server.name} does not answer: {said}", failed[-1].hint, again=True, down=True)

    def _in_turn(self) -> list[_Node]:
        """The nodes in their order, but those that rest at the end, the next to be woken first."""
        now = time.monotonic()
        resting = sorted((n for n in self._nodes if n.health.until > now), key=lambda node: node.health.until)
        return [*(node for node in self._nodes if node not in resting), *resting]
