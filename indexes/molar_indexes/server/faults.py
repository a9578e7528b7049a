"""What can go wrong between here and a server: in words, with the remedy, and whether trying again may help."""

import json
import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Event
from typing import Any, TypeVar

import grpc
import httpx
from qdrant_client.common.client_exceptions import QdrantException, ResourceExhaustedResponse
from qdrant_client.http.exceptions import ApiException, ResponseHandlingException, UnexpectedResponse

from molar_indexes.server.config import KEY, KEY_HOSTS, ServerConfig, key
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
