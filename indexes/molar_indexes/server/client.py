"""qdrant-client for one address: by gRPC where that answers, and with searches that bring home ids and scores alone.

By gRPC a search takes a fraction of its time by REST. Where the settings name no port it is the one after REST's, as is
Qdrant's custom, if Qdrant says there that it is one; no key is told before.

HTTP with an end: a request takes no longer than it may, however slowly its answer trickles in.

The client's own timeout is one of whole seconds, and begins anew with every piece of an answer.

A server that fills its packets (Nagle, RFC 896) sends the rest of an answer once its beginning was acknowledged, and a
kernel waits some 40 ms with that (RFC 1122, 4.2.3.2) for something to send along. So what came is acknowledged at once.

Several nodes of one cluster, asked as one server: the first that answers.

Nodes are asked in the order in which they are named. One that is dead or hangs rests for a while, longer each time, and
the next one is asked in the same request; what is known of a node holds for the whole process.
"""

import json
import random
import socket
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from importlib import metadata
from math import ceil
from threading import Event, Lock
from typing import Any, NamedTuple, ParamSpec, TypeVar, cast
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import grpc
import httpx
from qdrant_client import QdrantClient, models
from qdrant_client import grpc as wire
from qdrant_client.common.client_exceptions import QdrantException, ResourceExhaustedResponse
from qdrant_client.conversions.conversion import RestToGrpc
from qdrant_client.http.exceptions import ApiException, ResponseHandlingException, UnexpectedResponse

from molar_indexes.qdrant_index import Found
from molar_indexes.server.config import KEY, KEY_HOSTS, ServerConfig, apart, go_together, key
from molar_indexes.server.points import float32
from molar_retrieval.errors import BackendError, redacted

FIRST_WAIT = 0.5
LONGEST_WAIT = 30.0
PATIENCE = 120.0
"""Seconds for which one request that fails is tried again."""
_SHOWN = 300
_FULL = ("no space left", "disk is full", "not enough space", "out of disk", "insufficient storage")
_ERRORS = (ApiException, QdrantException, grpc.RpcError, ValueError, AssertionError)
"""What the client raises: its own, gRPC's, and where an answer is not as it should be."""
T = TypeVar("T")
_AT_ONCE: int | None = getattr(socket, "TCP_QUICKACK", None)
"""Linux has it; it holds until the kernel thinks otherwise, and is said anew for every piece."""
REST = 10.0
"""Seconds until a node that failed is asked again, twice as many after each further failure."""
LONGEST_REST = 300.0
GRPC_PATIENCE = 0.5
"""Seconds in which a port has to answer."""
AGAIN = 60.0
"""Seconds until who connects anew asks anew for what was not there."""
_BACK = 2000
"""Milliseconds after which a server that was gone is looked for again, at most."""
_REST = 6333
_OWN = 1024
"""Ports below belong to proxies in front of a server, which have none for gRPC beside them."""
P = ParamSpec("P")
GREETING = 5.0
"""Seconds in which a server says who it is, however long it may take for the rest."""


class ServerError(BackendError):
    """A server does not do what it is asked.

    ``again``: whether the same request may succeed later, after ``wait`` seconds where the server asks for that;
    ``down``: whether another node of its cluster may do what it is asked now.
    """

    def __init__(
        self, message: str, hint: str, *, again: bool = False, wait: float | None = None, down: bool = False
    ) -> None:
        super().__init__(redacted(message), redacted(hint))
        self.again, self.wait, self.down = again, wait, down


def _shown(said: str) -> str:
    """The beginning of what a server says; a secret is taken out before the cut, which could go through it."""
    return redacted(said.strip())[:_SHOWN]


@contextmanager
def asking(server: ServerConfig) -> Iterator[None]:
    """Everything that the client raises inside becomes a :class:`ServerError`."""
    try:
        yield
    except _ERRORS as error:
        if isinstance(error, UnexpectedResponse):  # whose message shows the beginning, cut without regard to secrets
            error.content = redacted(error.content.decode("utf-8", "replace")).encode()
        raise fault_of(server, error) from error


def persistently(
    server: ServerConfig,
    call: Callable[[], T],
    tell: Callable[[str], None],
    *,
    patience: float | None = None,
    stop: Event | None = None,
) -> T:
    """The answer to a request that may be sent again.

    ``patience`` are seconds from the first failure to the last attempt (None: :data:`PATIENCE`); a server that asks to
    wait longer is given up at once. ``tell`` is told before every wait, ``stop`` ends all waiting. What fails for good
    raises :class:`ServerError`.
    """
    until, wait, stop = None, FIRST_WAIT, stop or Event()
    while True:
        try:
            with asking(server):
                return call()
        except ServerError as error:
            until = until or time.monotonic() + (PATIENCE if patience is None else patience)
            pause = error.wait if error.wait is not None else wait * random.uniform(0.5, 1)
            if not error.again or time.monotonic() + pause > until:
                raise
            tell(f"{error.message}; again in {pause:.1f} s")
            if stop.wait(pause):
                raise
        wait = min(2 * wait, LONGEST_WAIT)


def fault_of(server: ServerConfig, error: Exception) -> ServerError:
    """What an exception of the client means."""
    if isinstance(error, ResourceExhaustedResponse):
        return _limited(server, float(error.retry_after_s))
    if isinstance(error, QdrantException) and "Retry-After" in str(error):
        return _limited(server, None)  # a date, which the client does not read
    if isinstance(error, UnexpectedResponse):
        said = _said(error.content) or error.reason_phrase
        asked = error.headers.get("Retry-After", "")
        wait = float(asked) if asked.isdigit() else None
        return _limited(server, wait) if error.status_code == 429 else _refused(server, said, error.status_code, wait)
    if isinstance(error, grpc.RpcError):
        return _called(server, error)
    source = error.source if isinstance(error, ResponseHandlingException) else error
    if isinstance(source, httpx.ConnectError):
        return ServerError(f"nothing answers at {server.url}: {source}", _START, again=True, down=True)
    if isinstance(source, httpx.TimeoutException):
        return _late(server)
    if isinstance(source, httpx.TransportError):
        return ServerError(f"{server.name} broke off its answer: {source}", _LOG, again=True, down=True)
    if isinstance(error, json.JSONDecodeError) and error.doc.lstrip().startswith(("{", "[")):
        return ServerError(f"{server.name} broke off its answer", _LOG, again=True, down=True)
    said = str(source).strip() or type(source).__name__
    return ServerError(f"{server.name} answers otherwise than Qdrant does: {_shown(said)}", _ANOTHER)


_START = "start it, or correct its address: [index] url, --index"
_ANOTHER = "check that the address is that of Qdrant's API, and its version against qdrant-client's: `molar doctor`"
_LOG = "look at its log, then try again"
_STATUS = {grpc.StatusCode.UNAUTHENTICATED: 401, grpc.StatusCode.PERMISSION_DENIED: 403, grpc.StatusCode.INTERNAL: 500}
"""The status of REST that one of gRPC stands for."""


def _called(server: ServerConfig, error: Any) -> ServerError:
    code = error.code() if isinstance(error, grpc.Call) else None
    said = _shown((error.details() if isinstance(error, grpc.Call) else None) or str(error))
    if code == grpc.StatusCode.UNAVAILABLE:
        port = f", port {server.grpc_port}" if server.grpc_port else ""
        what = f"nothing answers by gRPC at {server.url}{port}: {said}"
        return ServerError(what, _START, again=True, down=True)
    if code == grpc.StatusCode.DEADLINE_EXCEEDED:
        return _late(server)
    if code == grpc.StatusCode.RESOURCE_EXHAUSTED:
        return _limited(server, None)
    return _refused(server, said, _STATUS.get(code))


def _late(server: ServerConfig) -> ServerError:
    hint = "look at its load and log, or give it more time: [index] timeout"
    return ServerError(f"{server.name} did not answer within {server.timeout:g} s", hint, again=True, down=True)


def _refused(server: ServerConfig, said: str, status: int | None, wait: float | None = None) -> ServerError:
    if status in (401, 403):
        sent, elsewhere = server.key is not None, server.key is None and key() is not None
        bound = f"{KEY} is for the hosts of {KEY_HOSTS} alone: name this server there as well, or "
        return ServerError(
            f"{server.name} refuses {'the key in ' + KEY if sent else 'a request without a key'}: {said}",
            f"{bound if elsewhere else ''}set {KEY} to a key of this server; to push, one that may write and manage"
            " collections",
            wait=wait,
        )
    if status == 507 or any(word in said.lower() for word in _FULL):
        return ServerError(
            f"{server.name} has no room left: {said}",
            "make room there (`molar index prune` removes older collections), then run the same command again: it goes"
            " on where it was",
            wait=wait,
        )
    if status is not None and status >= 500:
        return ServerError(f"{server.name} failed ({status}): {said}", _LOG, again=True, wait=wait, down=True)
    what = f"refuses the request{f' ({status})' if status else ''}"
    return ServerError(f"{server.name} {what}: {said}", _ANOTHER, wait=wait)


def _limited(server: ServerConfig, wait: float | None) -> ServerError:
    return ServerError(
        f"{server.name} takes no more requests{f' for {wait:g} s' if wait is not None else ''}: its limit is reached",
        "try again later, or raise its limits (strict mode of the collection)",
        again=True,
        wait=wait,
    )


def _said(content: bytes) -> str:
    """The reason that Qdrant gives for a refusal; else the beginning of what it says."""
    try:
        status = json.loads(content)["status"]
        return _shown(str(status["error"] if isinstance(status, dict) else status))
    except (ValueError, KeyError, TypeError):
        return _shown(content.decode("utf-8", "replace"))


class DeadlineTransport(httpx.BaseTransport):
    """Sends requests to one server; each may take so many seconds."""

    def __init__(self, url: str, seconds: float) -> None:
        self._seconds = seconds
        self._sender = httpx.HTTPTransport(verify=url.startswith("https:"), proxy=proxy_of(url))

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request; its answer raises ``httpx.ReadTimeout`` where it is late."""
        until = time.monotonic() + self._seconds
        request.extensions["timeout"] = dict.fromkeys(("connect", "read", "write", "pool"), self._seconds)
        response = self._sender.handle_request(request)
        assert isinstance(response.stream, httpx.SyncByteStream)
        acknowledge = partial(_acknowledge, response.extensions.get("network_stream"))
        response.stream = _DeadlineStream(response.stream, until, request, acknowledge)
        return response

    def close(self) -> None:
        """Close all connections."""
        self._sender.close()


class _DeadlineStream(httpx.SyncByteStream):
    def __init__(
        self, stream: httpx.SyncByteStream, until: float, request: httpx.Request, acknowledge: Callable[[], None]
    ) -> None:
        self._stream, self._until, self._request, self._acknowledge = stream, until, request, acknowledge

    def __iter__(self) -> Iterator[bytes]:
        self._acknowledge()  # the head
        for piece in self._stream:
            if time.monotonic() > self._until:
                raise httpx.ReadTimeout("the answer was not complete in time", request=self._request)
            self._acknowledge()
            yield piece

    def close(self) -> None:
        self._stream.close()


def _acknowledge(stream: Any) -> None:
    """Tell the other side at once what arrived so far; ``stream`` is HTTPX's network stream, or None."""
    connected = None if stream is None else stream.get_extra_info("socket")
    if _AT_ONCE is not None and isinstance(connected, socket.socket):
        with suppress(OSError):  # the answer was complete, and the connection is closed
            connected.setsockopt(socket.IPPROTO_TCP, _AT_ONCE, 1)


def proxy_of(url: str) -> str | None:
    """The proxy that the environment names for an address; a transport of one's own hides it from the client."""
    address = urlsplit(url)
    host = address.hostname or ""
    if host in ("localhost", "127.0.0.1", "::1") or proxy_bypass(host):
        return None
    return getproxies().get(address.scheme)


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
            if _is_qdrant(server.url, address.hostname or "", port, min(GRPC_PATIENCE, server.timeout)):
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


@dataclass(frozen=True)
class Connection:
    """A client, and the server that it asks, of a version; what fails is said in words, as :class:`ServerError`."""

    client: Client
    server: ServerConfig
    version: str = ""  # as it says it is; empty: nobody asked

    def ask(self, request: Callable[P, T], *arguments: P.args, **named: P.kwargs) -> T:
        """The answer to one request, a method of the client."""
        with asking(self.server):
            return request(*arguments, **named)

    def insist(self, tell: Callable[[str], None], request: Callable[P, T], *arguments: P.args, **named: P.kwargs) -> T:
        """The same of a request that may be sent again, see :func:`molar_indexes.server.client.persistently`."""
        return persistently(self.server, partial(request, *arguments, **named), tell)

    @property
    def spoken(self) -> Spoken:
        """By which protocol it is asked, and why not by gRPC."""
        return self.client.spoken()

    def close(self) -> None:
        """Close the client."""
        self.client.close()


def connect(server: ServerConfig) -> Connection:
    """Connect to a server and make sure that it can be understood.

    Raises:
        ServerError: If it does not answer, refuses the key, or is of a version too far from the client's.
    """
    greeted = replace(server, timeout=min(server.timeout, GREETING))
    greeting = client_of(greeted)
    try:
        with asking(greeted):
            version = greeting.info().version
        mine = metadata.version("qdrant-client")
        if not go_together(mine, version):
            raise ServerError(f"{server.name}: {apart(mine, version)}", "update the older of the two")
    except BaseException:
        greeting.close()
        raise
    if greeted == server:
        return Connection(greeting, server, version)
    greeting.close()
    return Connection(client_of(server), server, version)


@contextmanager
def connected(server: ServerConfig) -> Iterator[Connection]:
    """A connection that is closed in the end; see :func:`connect`."""
    connection = connect(server)
    try:
        yield connection
    finally:
        connection.close()


def client_of(server: ServerConfig) -> Client:
    """A client that has not asked anything yet; with several addresses, what stands for one."""
    if len(server.nodes) > 1:
        return cast(Client, FirstThatAnswers(server, _client_of_one))
    return _client_of_one(server)


def _client_of_one(server: ServerConfig) -> Client:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a key over http, which `molar doctor` says
        return Client.of(server)
