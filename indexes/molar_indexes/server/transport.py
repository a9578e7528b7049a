"""HTTP with an end: a request takes no longer than it may, however slowly its answer trickles in.

The client's own timeout is one of whole seconds, and begins anew with every piece of an answer.

A server that fills its packets (Nagle, RFC 896) sends the rest of an answer once its beginning was acknowledged, and a
kernel waits some 40 ms with that (RFC 1122, 4.2.3.2) for something to send along. So what came is acknowledged at once.
"""

import socket
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from typing import Any
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import httpx

_AT_ONCE: int | None = getattr(socket, "TCP_QUICKACK", None)
"""Linux has it; it holds until the kernel thinks otherwise, and is said anew for every piece."""


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
