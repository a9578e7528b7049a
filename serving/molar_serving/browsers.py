"""What browsers are told with every answer, whoever wrote it, and before they send a page's request (preflight)."""

import logging
import os
import time
from collections.abc import Sequence

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from molar_serving import problems
from molar_serving.auth import Keyring
from molar_serving.observability import Observer, passed_on

_log = logging.getLogger("molar.serving")
_ALWAYS = (
    (b"x-content-type-options", b"nosniff"),
    (b"cache-control", b"no-store"),
    (b"referrer-policy", b"no-referrer"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
    (b"cross-origin-resource-policy", b"same-origin"),
)
ALONE = (
    "sandbox allow-scripts; default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline';"
    " base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""Of a page that is read alone: it has no part in the server's origin, and loads and sends nothing; its own policy
names its script."""
_VARY = (b"vary", b"Origin")
_EXPOSED = (b"access-control-expose-headers", b"X-Request-Id, Retry-After, ETag, Traceparent")
_PREFLIGHT = (
    (b"access-control-allow-methods", b"GET, POST"),  # what endpoints of the scopes of browsers have
    (b"access-control-allow-headers", b"authorization, content-type, prefer, traceparent, tracestate"),
    (b"access-control-max-age", b"7200"),
    (b"vary", b"Origin, Access-Control-Request-Method, Access-Control-Request-Headers"),
)


class Browsers:
    """Puts headers on every answer of an application, those of an endpoint first, and an id into every request.

    Pages that may ask may read answers, problems too; to others no header says that they may, so browsers keep it from
    them. Nothing is ever said with a star, and no cookie counts (``Allow-Credentials``).

    Args:
        app: The application.
        keys: Who may ask.
        observers: Are told of each request once it was answered.
    """

    def __init__(self, app: ASGIApp, keys: Keyring, observers: Sequence[Observer] = ()) -> None:
        self.app, self.keys, self._observers = app, keys, observers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        began, status = time.perf_counter(), 0
        scope["request_id"] = request_id = os.urandom(16).hex()
        own, preflight = self._headers(scope, request_id)

        async def with_headers(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                known = {name for name, _ in message["headers"]}
                message["headers"] = [*message["headers"], _VARY, *(one for one in own if one[0] not in known)]
            await send(message)

        try:
            if preflight:
                await with_headers({"type": "http.response.start", "status": 204, "headers": [*_PREFLIGHT]})
                await send({"type": "http.response.body", "body": b""})
            else:
                await self.app(scope, receive, with_headers)
        except Exception:
            if status:
                raise
            _log.exception("request %s failed outside of its endpoint", request_id)
            await problems.response(problems.unexpected(), request_id)(scope, receive, with_headers)
        finally:
            seconds = time.perf_counter() - began
            for one in self._observers:
                one.answered(scope, status, seconds)

    def _headers(self, scope: Scope, request_id: str) -> tuple[list[tuple[bytes, bytes]], bool]:
        """What a request's answer gets, whoever answers, and whether that is all as the request is a preflight."""
        sent, own = dict(reversed(scope["headers"])), [*_ALWAYS, (b"x-request-id", request_id.encode())]
        if b"traceparent" in sent:
            parents = [value.decode("latin-1") for name, value in scope["headers"] if name == b"traceparent"]
            if (trace := passed_on(parents, request_id)) is not None:
                scope["trace_id"], traceparent = trace
                own.append((b"traceparent", traceparent.encode()))
        page = sent.get(b"origin")
        if page is None or not self.keys.welcomes(page.decode("latin-1")):
            return own, False
        own += [(b"access-control-allow-origin", page), _EXPOSED]
        return own, scope["method"] == "OPTIONS" and b"access-control-request-method" in sent
