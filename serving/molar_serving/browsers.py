"""What browsers are told with every answer, whoever wrote it, and before they send a page's request (preflight)."""

import logging
from uuid import uuid4

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from molar_serving import problems
from molar_serving.access import Keyring
from molar_serving.traces import passed_on

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
    """

    def __init__(self, app: ASGIApp, keys: Keyring) -> None:
        self.app, self.keys = app, keys

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        sent = Headers(scope=scope)
        page = sent.get("origin")
        welcome = page is not None and self.keys.welcomes(page)
        scope["request_id"] = uuid4().hex
        own = [*_ALWAYS, (b"x-request-id", scope["request_id"].encode())]
        if (trace := passed_on(sent.getlist("traceparent"), scope["request_id"])) is not None:
            scope["trace_id"], traceparent = trace
            own.append((b"traceparent", traceparent.encode()))
        if page is not None and welcome:
            exposed = (b"access-control-expose-headers", b"X-Request-Id, Retry-After, ETag, Traceparent")
            own += [(b"access-control-allow-origin", page.encode("latin-1")), exposed]

        started = False

        async def with_headers(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                known = {name for name, _ in message["headers"]}
                message["headers"] = [*message["headers"], _VARY, *(one for one in own if one[0] not in known)]
            await send(message)

        if scope["method"] == "OPTIONS" and welcome and "access-control-request-method" in sent:
            await with_headers({"type": "http.response.start", "status": 204, "headers": [*_PREFLIGHT]})
            await send({"type": "http.response.body", "body": b""})
        else:
            try:
                await self.app(scope, receive, with_headers)
            except Exception:
                if started:
                    raise
                _log.exception("request %s failed outside of its endpoint", scope["request_id"])
                await problems.response(problems.unexpected(), scope["request_id"])(scope, receive, with_headers)
