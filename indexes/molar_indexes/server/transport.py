"""HTTP with an end: a request takes no longer than it may, however slowly its answer trickles in.

The client's own timeout is one of whole seconds, and begins anew with every piece of an answer.
"""

import time
from collections.abc import Iterator
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import httpx


class DeadlineTransport(httpx.BaseTransport):
    """Sends requests to one server; each may take so many seconds."""

    def __init__(self, url: str, seconds: float) -> None:
        self._seconds = seconds
        self._sender = httpx.HTTPTransport(verify=url.startswith("https:"), proxy=_proxy(url))

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request; its answer raises ``httpx.ReadTimeout`` where it is late."""
        until = time.monotonic() + self._seconds
        request.extensions["timeout"] = dict.fromkeys(("connect", "read", "write", "pool"), self._seconds)
        response = self._sender.handle_request(request)
        assert isinstance(response.stream, httpx.SyncByteStream)
        response.stream = _DeadlineStream(response.stream, until, request)
        return response

    def close(self) -> None:
        """Close all connections."""
        self._sender.close()


class _DeadlineStream(httpx.SyncByteStream):
    def __init__(self, stream: httpx.SyncByteStream, until: float, request: httpx.Request) -> None:
        self._stream, self._until, self._request = stream, until, request

    def __iter__(self) -> Iterator[bytes]:
        for piece in self._stream:
            if time.monotonic() > self._until:
                raise httpx.ReadTimeout("the answer was not complete in time", request=self._request)
            yield piece

    def close(self) -> None:
        self._stream.close()


def _proxy(url: str) -> str | None:
    """The proxy that the environment names for an address; a transport of one's own hides it from the client."""
    address = urlsplit(url)
    host = address.hostname or ""
    if host in ("localhost", "127.0.0.1", "::1") or proxy_bypass(host):
        return None
    return getproxies().get(address.scheme)
