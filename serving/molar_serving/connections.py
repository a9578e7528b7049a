"""Connections with bounds: how long and how large what comes before a body may be, and how many may wait at once.

uvicorn's own protocol has no such bounds with httptools, and takes what differs between servers as it comes; from that
request smuggling is made. What cannot be understood in one way only ends its connection here.
"""

import asyncio
import http
import resource
from functools import cache
from typing import Any
from uuid import uuid4

import msgspec
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from molar_serving.bodies import BODY_CAME
from molar_serving.problems import MEDIA_TYPE, problem

HEAD_BYTES, HEADERS, ADDRESS_BYTES = 32_768, 100, 8_192
HEAD_SECONDS = 10.0  # from its first byte, or from the connection, to the end of the head
REST_SECONDS = 2.0  # for the rest of a body that nobody reads
UNREAD_SECONDS = 30.0  # for somebody to read an answer, after the connection is done with
_MOST, _SPARE = 16_384, 256  # connections of a process; files that are open beside them
_ONCE = (b"host", b"authorization", b"origin", b"content-type", b"content-length", b"transfer-encoding", b"cookie")
_PROBLEMS = {
    400: ("the request is no valid HTTP, or can be understood in two ways", "send it as RFC 9112 has it"),
    408: (f"the head of the request did not come within {HEAD_SECONDS:.0f} s", "send it in one go"),
    414: (f"the address has more than {ADDRESS_BYTES:,} bytes", "ask by POST"),
    431: (f"the headers have more than {HEAD_BYTES:,} bytes, or are more than {HEADERS}", "send fewer"),
}


@cache
def most_connections() -> int:
    """How many connections this process takes on: as many as it may have files open, for which it asks once."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _MOST + _SPARE if hard == resource.RLIM_INFINITY else min(hard, _MOST + _SPARE)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        soft = wanted
    return _MOST if soft == resource.RLIM_INFINITY else max(1, min(_MOST, soft - _SPARE))


class _RefusalError(Exception):
    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status


class BoundedProtocol(HttpToolsProtocol):
    """uvicorn's protocol, with bounds on what comes before a body."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._due: asyncio.TimerHandle | None = None
        self._in_head, self._in_body = True, False
        self._head_bytes = self._header_bytes = 0
        self._refused = 400
        self._answered: RequestResponseCycle | None = None
        self.since = self.loop.time()  # that nobody has asked

    @property
    def idle(self) -> bool:
        """Whether no request is being answered."""
        return self.cycle is None or self.cycle.response_complete

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Somebody has come."""
        super().connection_made(transport)
        self._await(HEAD_SECONDS)
        if len(self.connections) > most_connections():
            self._make_room()

    def connection_lost(self, exc: Exception | None) -> None:
        """Somebody has gone: of several requests sent in one go, the one that is answered need not be the last."""
        self._await(None)
        if self._answered is not None:
            self._answered.disconnected = True
            self._answered.message_event.set()
        super().connection_lost(exc)

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        self._answered = cycle
        super()._start_asgi_task(cycle, app)

    def data_received(self, data: bytes) -> None:
        """Read some bytes."""
        if self._in_head:
            self._head_bytes += len(data)
        super().data_received(data)
        if not self._in_head or not self._head_bytes or self.transport.is_closing():
            return  # most heads come in one go
        if self._head_bytes > HEAD_BYTES:
            self._refuse(431)
        elif self._due is None:
            self._await(HEAD_SECONDS)

    def on_url(self, url: bytes) -> None:
        """A part of the address."""
        super().on_url(url)
        if len(self.url) > ADDRESS_BYTES:
            raise self._failed(414)

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header."""
        super().on_header(name, value)
        self._header_bytes += len(name) + len(value)
        if len(self.headers) > HEADERS or self._header_bytes > HEAD_BYTES:
            raise self._failed(431)

    def on_message_begin(self) -> None:
        """The first byte of a request."""
        super().on_message_begin()
        self._header_bytes = 0

    def on_headers_complete(self) -> None:
        """The head is whole."""
        names = {name for name, _ in self.headers}
        if len(names) < len(self.headers):
            sent = [name for name, _ in self.headers]
            if any(sent.count(name) > 1 for name in _ONCE):
                raise self._failed(400)
        if b"host" not in names and self.parser.get_http_version() != "1.0":
            raise self._failed(400)
        self._await(None)
        self._in_head, self._in_body, self._head_bytes = False, True, 0
        super().on_headers_complete()
        cycle = self.cycle
        self.scope[BODY_CAME] = lambda: not cycle.more_body  # type: ignore[literal-required]
        if self.parser.should_upgrade():
            self.cycle.keep_alive = False  # answered in HTTP/1.1; what follows is of another protocol

    def on_message_complete(self) -> None:
        """The body is whole."""
        self._in_head, self._in_body = True, False
        if self.idle:  # it was answered before it was through, and what is left has come
            self._await(HEAD_SECONDS)
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """The answer is sent; a body that nobody has read may come to its end, but not for long."""
        super().on_response_complete()
        self.since = self.loop.time()
        if self._in_body:
            self._await(REST_SECONDS)
        if self.transport.is_closing():
            self._hurry()

    def timeout_keep_alive_handler(self) -> None:
        """Nobody has asked again."""
        super().timeout_keep_alive_handler()
        self._hurry()

    def send_400_response(self, msg: str) -> None:
        """Refuse what cannot be read."""
        self._refuse(self._refused)

    def _failed(self, status: int) -> _RefusalError:
        self._refused = status
        return _RefusalError(status)

    def _await(self, seconds: float | None) -> None:
        """What comes now must be through by then; None: it is."""
        if self._due is not None:
            self._due.cancel()
        self._due = None if seconds is None else self.loop.call_later(seconds, self._late)

    def _late(self) -> None:
        self._due = None
        if self._in_head and self._head_bytes and self.idle:
            self._refuse(408)
        else:
            self.transport.close()

    def _hurry(self) -> None:
        """Who does not read what is sent is not waited for forever."""
        if self.transport.get_write_buffer_size():
            self.loop.call_later(UNREAD_SECONDS, self.transport.abort)

    def _make_room(self) -> None:
        """End a tenth of the connections: those on which nobody has asked for the longest time."""
        others = [one for one in self.connections if isinstance(one, BoundedProtocol) and one.idle and one is not self]
        for one in sorted(others, key=lambda other: other.since)[: 1 + len(self.connections) // 10]:
            self.connections.discard(one)
            one.transport.abort()

    def _refuse(self, status: int) -> None:
        """Answer with a problem, unless other answers are due before it, and end the connection."""
        self._await(None)
        if not self.idle and not self.pipeline and not self.cycle.response_started:
            self.cycle.disconnected = True  # what is wrong is its body: it is answered here, not there
            self.cycle.message_event.set()
        elif not self.idle:
            self.transport.close()
            return
        if not self.transport.is_closing():
            request_id = uuid4().hex
            body = msgspec.json.encode(problem(status, *_PROBLEMS[status], instance=request_id))
            head = (
                f"HTTP/1.1 {status} {http.HTTPStatus(status).phrase}\r\ncontent-type: {MEDIA_TYPE}\r\n"
                f"content-length: {len(body)}\r\nx-content-type-options: nosniff\r\ncache-control: no-store\r\n"
                f"x-request-id: {request_id}\r\nconnection: close\r\n\r\n"
            )
            self.transport.write(head.encode() + body)
        self.transport.close()
