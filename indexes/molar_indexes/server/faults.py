"""What can go wrong between here and a server: in words, with the remedy, and whether trying again may help."""

import json
import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from threading import Event
from typing import Any, TypeVar

import grpc
import httpx
from qdrant_client.common.client_exceptions import QdrantException, ResourceExhaustedResponse
from qdrant_client.http.exceptions import ApiException, ResponseHandlingException, UnexpectedResponse

from molar_indexes.server.config import KEY, ServerConfig, key
from molar_retrieval.errors import BackendError
from molar_retrieval.redaction import redacted

FIRST_WAIT = 0.5
LONGEST_WAIT = 30.0
PATIENCE = 120.0
"""Seconds for which one request that fails is tried again."""
_SHOWN = 300
_FULL = ("no space left", "disk is full", "not enough space", "out of disk", "insufficient storage")
_ERRORS = (ApiException, QdrantException, grpc.RpcError, ValueError, AssertionError)
"""What the client raises: its own, gRPC's, and where an answer is not as it should be."""

T = TypeVar("T")


@dataclass(frozen=True)
class Fault:
    """What went wrong.

    Attributes:
        message: With what.
        hint: What to do about it.
        again: Whether the same request may succeed later.
        wait: Seconds that the server asks to wait; None: it says nothing.
    """

    message: str
    hint: str
    again: bool = False
    wait: float | None = None


class ServerError(BackendError):
    """A server does not do what it is asked.

    Args:
        fault: What is wrong.
    """

    def __init__(self, fault: Fault) -> None:
        super().__init__(redacted(fault.message), redacted(fault.hint))
        self.fault = fault


def _shown(said: str) -> str:
    """The beginning of what a server says; a secret is taken out before the cut, which could go through it."""
    return redacted(said.strip())[:_SHOWN]


@contextmanager
def asking(server: ServerConfig) -> Iterator[None]:
    """Everything that fails inside is said in words.

    Raises:
        ServerError: Instead of what the client raises.
    """
    try:
        yield
    except _ERRORS as error:
        if isinstance(error, UnexpectedResponse):  # whose message shows a part, cut without regard to secrets
            error.content = redacted(error.content.decode("utf-8", "replace")).encode()
        raise ServerError(fault_of(server, error)) from error


def persistently(
    server: ServerConfig,
    call: Callable[[], T],
    tell: Callable[[str], None],
    *,
    patience: float | None = None,
    stop: Event | None = None,
) -> T:
    """The answer to a request that may be sent again.

    Args:
        server: Who is asked.
        call: Sends the request.
        tell: Told before every wait.
        patience: Seconds from the first failure to the last attempt; None: :data:`PATIENCE`. A server that asks to
            wait longer is given up at once.
        stop: Ends all waiting when it is set.

    Raises:
        ServerError: If it fails for good.
    """
    until, wait, stop = None, FIRST_WAIT, stop or Event()
    while True:
        try:
            with asking(server):
                return call()
        except ServerError as error:
            until = until or time.monotonic() + (PATIENCE if patience is None else patience)
            pause = error.fault.wait if error.fault.wait is not None else wait * random.uniform(0.5, 1)
            if not error.fault.again or time.monotonic() + pause > until:
                raise
            tell(f"{error.message}; again in {pause:.1f} s")
            if stop.wait(pause):
                raise
        wait = min(2 * wait, LONGEST_WAIT)


def fault_of(server: ServerConfig, error: Exception) -> Fault:
    """What an exception of the client means."""
    if isinstance(error, ResourceExhaustedResponse):
        wait = float(error.retry_after_s)
        return _limited(server, wait)
    if isinstance(error, QdrantException) and "Retry-After" in str(error):
        return _limited(server, None)  # a date, which the client does not read
    if isinstance(error, UnexpectedResponse):
        return _answered(server, error)
    if isinstance(error, grpc.RpcError):
        return _called(server, error)
    if isinstance(error, ResponseHandlingException):
        return _broken(server, error.source)
    if isinstance(error, json.JSONDecodeError) and error.doc.lstrip().startswith(("{", "[")):
        return Fault(f"{server.name} broke off its answer", "look at its log, then try again", again=True)
    said = str(error).strip() or type(error).__name__
    return Fault(f"{server.name} answers otherwise than Qdrant does: {_shown(said)}", _ANOTHER)


_START = "start it, or correct its address: [index] url, --index"
_ANOTHER = "check that the address is that of Qdrant's API, and its version against qdrant-client's: `molar doctor`"
_LATER = "look at its load and log, or give it more time: [index] timeout"


def _broken(server: ServerConfig, source: Exception) -> Fault:
    if isinstance(source, httpx.ConnectError):
        return Fault(f"nothing answers at {server.url}: {source}", _START, again=True)
    if isinstance(source, httpx.TimeoutException):
        return Fault(f"{server.name} did not answer within {server.timeout:g} s", _LATER, again=True)
    if isinstance(source, httpx.TransportError):
        return Fault(f"{server.name} broke off its answer: {source}", "look at its log, then try again", again=True)
    return Fault(f"{server.name} answers otherwise than Qdrant does: {_shown(str(source))}", _ANOTHER)


def _answered(server: ServerConfig, error: UnexpectedResponse) -> Fault:
    said = _said(error.content) or error.reason_phrase
    asked = error.headers.get("Retry-After", "")
    wait = float(asked) if asked.isdigit() else None
    if error.status_code == 429:
        return _limited(server, wait)
    kind = {401: "key", 403: "key", 507: "full"}.get(error.status_code or 0)
    return replace(_refused(server, said, kind, error.status_code), wait=wait)


def _called(server: ServerConfig, error: Any) -> Fault:
    code = error.code() if isinstance(error, grpc.Call) else None
    said = _shown((error.details() if isinstance(error, grpc.Call) else None) or str(error))
    match code:
        case grpc.StatusCode.UNAVAILABLE:
            return Fault(
                f"nothing answers by gRPC at {server.url}, port {server.grpc_port}: {said}", _START, again=True
            )
        case grpc.StatusCode.DEADLINE_EXCEEDED:
            return Fault(f"{server.name} did not answer within {server.timeout:g} s", _LATER, again=True)
        case grpc.StatusCode.RESOURCE_EXHAUSTED:
            return _limited(server, None)
        case grpc.StatusCode.UNAUTHENTICATED | grpc.StatusCode.PERMISSION_DENIED:
            return _refused(server, said, "key", None)
        case grpc.StatusCode.INTERNAL:
            return _refused(server, said, None, 500)
    return _refused(server, said, None, None)


def _refused(server: ServerConfig, said: str, kind: str | None, status: int | None) -> Fault:
    if kind == "key":
        what = "the key in " + KEY if key() else "a request without a key"
        return Fault(
            f"{server.name} refuses {what}: {said}",
            f"set {KEY} to a key of this server; to push, one that may write and manage collections",
        )
    if kind == "full" or any(word in said.lower() for word in _FULL):
        return Fault(
            f"{server.name} has no room left: {said}",
            "make room there (`molar index prune` removes older collections), then run the same command again: it goes"
            " on where it was",
        )
    if status is not None and status >= 500:
        return Fault(f"{server.name} failed ({status}): {said}", "look at its log, then try again", again=True)
    return Fault(f"{server.name} refuses the request{f' ({status})' if status else ''}: {said}", _ANOTHER)


def _limited(server: ServerConfig, wait: float | None) -> Fault:
    pause = f" for {wait:g} s" if wait is not None else ""
    return Fault(
        f"{server.name} takes no more requests{pause}: its limit is reached",
        "try again later, or raise its limits (strict mode of the collection)",
        again=True,
        wait=wait,
    )


def _said(content: bytes) -> str:
    """What Qdrant gives as the reason of a refusal; else the beginning of what it says."""
    try:
        status = json.loads(content)["status"]
        return _shown(str(status["error"] if isinstance(status, dict) else status))
    except (ValueError, KeyError, TypeError):
        return _shown(content.decode("utf-8", "replace"))
