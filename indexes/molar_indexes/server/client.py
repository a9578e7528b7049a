"""qdrant-client for one address: by gRPC where that answers, and with searches that bring home ids and scores alone.

By gRPC a search takes a fraction of its time by REST. Where the settings name no port it is the one after REST's, as is
Qdrant's custom, if Qdrant says there that it is one; no key is told before.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil
from threading import Lock
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import grpc
from qdrant_client import QdrantClient, models
from qdrant_client import grpc as wire
from qdrant_client.conversions.conversion import RestToGrpc

from molar_indexes.qdrant_index import Found
from molar_indexes.server.config import ServerConfig
from molar_indexes.server.points import float32
from molar_indexes.server.transport import DeadlineTransport, proxy_of

PATIENCE = 0.5
"""Seconds in which a port has to answer."""
AGAIN = 60.0
"""Seconds until who connects anew asks anew for what was not there."""
_BACK = 2000
"""Milliseconds after which a server that was gone is looked for again, at most."""
_REST = 6333
_OWN = 1024
"""Ports below belong to proxies in front of a server, which have none for gRPC beside them."""


@dataclass(frozen=True)
class Spoken:
    """How a server is asked: by gRPC at a port, or by REST; ``why``, in words, and whether gRPC is missed."""

    grpc_port: int | None = None
    why: str = ""
    missed: bool = False

    def __str__(self) -> str:
        return f"REST: {self.why}" if self.grpc_port is None else f"gRPC, port {self.grpc_port}"


_NOT_THERE = (
    "by gRPC, which is faster, Qdrant does not answer at port {} ([index] grpc_port: another one, or 0 for REST)"
)
_MISSED: dict[str, float] = {}
"""Until when addresses without gRPC are not asked for it again: that may cost half a second."""
_FINDING = Lock()


def spoken(server: ServerConfig) -> Spoken:
    """How to ask a server of one address: as the settings say, else by gRPC where Qdrant answers so."""
    if server.grpc_port is not None:
        return Spoken(server.grpc_port) if server.grpc_port else Spoken(why="[index] grpc_port is 0")
    address = urlsplit(server.url)
    port = (address.port or _REST) + 1
    if port <= _OWN or address.path:
        return Spoken(why="there is a proxy in front; [index] grpc_port names a port for gRPC")
    with _FINDING:
        if time.monotonic() >= _MISSED.get(server.url, 0.0):
            if _is_qdrant(server.url, address.hostname or "", port, min(PATIENCE, server.timeout)):
                return Spoken(port)
            _MISSED[server.url] = time.monotonic() + AGAIN
    return Spoken(why=_NOT_THERE.format(port), missed=True)


def _is_qdrant(url: str, host: str, port: int, seconds: float) -> bool:
    target, options = f"{f'[{host}]' if ':' in host else host}:{port}", list(_options(url).items())
    encrypted = url.startswith("https:")
    with (
        grpc.secure_channel(target, grpc.ssl_channel_credentials(), options)
        if encrypted
        else grpc.insecure_channel(target, options)
    ) as channel:
        root: Any = wire.QdrantStub(channel)  # type: ignore[no-untyped-call]
        try:
            title: str = root.HealthCheck(wire.HealthCheckRequest(), timeout=seconds).title
        except grpc.RpcError:
            return False
    return "qdrant" in title


def _options(url: str) -> dict[str, Any]:
    """A proxy of the environment would be asked for this machine too; what came back would be found in two minutes."""
    return {"grpc.max_reconnect_backoff_ms": _BACK} | ({} if proxy_of(url) else {"grpc.enable_http_proxy": 0})


class Nearest(NamedTuple):
    """One search: the best ``limit`` points by a named vector, dense numbers or the client's sparse vector."""

    name: str
    vector: Any
    limit: int
    params: models.SearchParams | None


class Client(QdrantClient):
    """A client that has not asked anything yet; see :meth:`of`."""

    def __init__(self, *arguments: Any, seconds: float | None = None, spoken: Spoken = Spoken(), **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._seconds, self._spoken = seconds, spoken

    @classmethod
    def of(cls, server: ServerConfig) -> "Client":
        """The client of a server of one address."""
        how = spoken(server)
        return cls(
            url=server.url,
            api_key=server.key,
            prefer_grpc=how.grpc_port is not None,
            grpc_port=how.grpc_port or _REST + 1,
            grpc_options=_options(server.url),
            timeout=ceil(server.timeout),
            check_compatibility=False,
            transport=DeadlineTransport(server.url, server.timeout),
            seconds=server.timeout,
            spoken=how,
        )

    def spoken(self) -> Spoken:
        """How the server is asked."""
        return self._spoken

    def nearest(self, collection: str, searches: Sequence[Nearest], condition: models.Filter | None) -> list[Found]:
        """Ids and scores of the best for each search, asked in one request; all under one condition."""
        if self._spoken.grpc_port is None:
            return self._nearest_by_rest(collection, searches, condition)
        where = None if condition is None else RestToGrpc.convert_filter(condition)
        points = [
            wire.QueryPoints(
                collection_name=collection,
                query=wire.Query(nearest=RestToGrpc.convert_vector_input(one.vector)),
                using=one.name,
                filter=where,
                params=None if one.params is None else RestToGrpc.convert_search_params(one.params),
                limit=one.limit,
                with_payload=wire.WithPayloadSelector(enable=False),
                with_vectors=wire.WithVectorsSelector(enable=False),
            )
            for one in searches
        ]
        request = wire.QueryBatchPoints(collection_name=collection, query_points=points)
        answer = self.grpc_points.QueryBatch(request, timeout=self._seconds)
        return [[(point.id.num, point.score) for point in one.result] for one in answer.result]

    def _nearest_by_rest(
        self, collection: str, searches: Sequence[Nearest], condition: models.Filter | None
    ) -> list[Found]:
        requests = [
            models.QueryRequest(
                query=one.vector,
                using=one.name,
                filter=condition,
                params=one.params,
                limit=one.limit,
                with_payload=False,
                with_vector=False,
            )
            for one in searches
        ]
        answers = self.query_batch_points(collection, requests)
        return [
            list(
                zip([int(point.id) for point in one.points], float32(point.score for point in one.points), strict=True)
            )
            for one in answers
        ]
