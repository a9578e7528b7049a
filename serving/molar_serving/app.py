"""The application: every endpoint behind one gate, which admits, reads, answers and tells what went wrong."""

import asyncio
import math
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import msgspec
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from molar_serving import api_page, discretion, problems
from molar_serving.access import Key, WrongKeyError, count_refusal
from molar_serving.access_log import AccessLog
from molar_serving.audit import AuditLog
from molar_serving.bodies import read_body
from molar_serving.browsers import Browsers
from molar_serving.deadlines import deadline_of
from molar_serving.door import Door, Straight
from molar_serving.endpoint import Call, Endpoint
from molar_serving.metrics import Measured
from molar_serving.observed import Observer
from molar_serving.openapi import description
from molar_serving.problems import ProblemError
from molar_serving.rate_limits import RateLimits, client_of
from molar_serving.service import Service
from molar_serving.studio.gate import routes as studio_routes
from molar_serving.tables import DIALECTS, ENDPOINTS
from molar_serving.tracing import Spans, Traced

_OPENING_SECONDS = 10.0  # that one of several processes may take to open what is live before it is asked


def application(service: Service, pages: Sequence[Route] = ()) -> Starlette:
    """The application of a service, which starts and ends with it; ``pages`` are answered beside its endpoints."""

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        service.start()
        if service.settings.serve.workers > 1:  # meanwhile the others are asked
            await asyncio.to_thread(service.tried.wait, _OPENING_SECONDS)
        yield
        await asyncio.to_thread(service.close)
        audit.close()
        if spans is not None:
            await asyncio.to_thread(spans.close)

    document = description(ENDPOINTS)
    page = msgspec.json.encode(document)

    async def openapi(request: Request) -> Response:
        return Response(page, media_type="application/json")

    observers: list[Observer] = [Measured(service)]
    if service.settings.serve.access_log:
        observers.append(AccessLog(service.workspace.root))
    spans = Spans() if service.settings.serve.opentelemetry else None
    if spans is not None:
        observers.append(Traced(spans))
    audit, limits = AuditLog(service.workspace.root), RateLimits(service.settings.serve.workers)
    gates = [(one, _gate(service, limits, audit, one)) for one in (*ENDPOINTS, *DIALECTS)]
    routes = [Route(one.path, gate, methods=[one.method]) for one, gate in gates]
    straight: Straight = {(one.method, one.path): gate for one, gate in gates if "{" not in one.path}
    middleware = [
        Middleware(Browsers, service.keys, observers),
        Middleware(Door, service.answers, ENDPOINTS, straight),
    ]
    if service.settings.serve.studio:
        routes += studio_routes(service, limits, audit)
    api_pages = api_page.routes(document, studio=service.settings.serve.studio)  # a demo shop has a page of its own
    app = Starlette(
        routes=[*routes, Route("/openapi.json", openapi), *pages, *api_pages],
        middleware=middleware,
        lifespan=lifespan,
        exception_handlers={HTTPException: _refused},
    )
    app.router.redirect_slashes = False  # a redirect would go where the Host that was sent says
    return app


def _gate(
    service: Service, limits: RateLimits, audit: AuditLog, endpoint: Endpoint
) -> Callable[[Request], Awaitable[Response]]:
    """What a request goes through on its way to an endpoint, and back."""
    body = None if endpoint.body is None else msgspec.json.Decoder(endpoint.body)

    async def answer(request: Request) -> Response:
        began, key, call, begun, wrong = time.perf_counter(), None, None, False, None
        try:
            request.scope["endpoint_path"] = endpoint.path
            dialect, read = endpoint.dialect, None
            if dialect.reads_body:
                read = await read_body(request, endpoint.most)
            key = service.keys.admit(request, endpoint.scope, dialect.credentials(request, read or b""), dialect.how)
            request.scope["key_name"] = key.name
            _keep_to_rate(limits, key, request)
            call = Call(service, request, key, deadline=deadline_of(request, service.settings.serve.deadline))
            if endpoint.query is not None:
                call.query = _query(request, endpoint.query)
            if body is not None or endpoint.media:
                if read is None:
                    read = await read_body(request, endpoint.most)
                call.body = read if body is None else problems.read_json(read, body.decode, endpoint.body)
            discretion.check_reasons(key, call.body)
            discretion.check_reasons(key, call.query)
            if endpoint.changes:
                await audit.begin(call, endpoint)
                begun = True
            response = (await endpoint.answer(call)).response()
        except (Exception, ClientDisconnect) as error:
            request_id = request.scope["request_id"]
            found = problems.of_any(error, request_id)
            if isinstance(error, WrongKeyError):
                wrong, found = error, limits.refusal(error, client_of(request))
            response = endpoint.dialect.refusal(found, request_id)
        if call is not None and begun:
            await audit.end(call, endpoint, response.status_code)
        else:
            count_refusal(audit, endpoint, response.status_code, key, wrong, client_of(request))
        if call is not None and call.key.of_browsers and endpoint.scope == "answer":
            await discretion.level(began, call.deadline)
        return response

    return answer


def _keep_to_rate(limits: RateLimits, key: Key, request: Request) -> None:
    if key.rate is None:
        return
    wait = limits.wait(key, client_of(request))
    if wait:
        seconds = math.ceil(wait)
        detail = f"the key {key.name} asks more than {key.rate:g} times a second"
        raise ProblemError(429, detail, f"ask again in {seconds} s", headers={"Retry-After": str(seconds)})


def _query(request: Request, wanted: Any) -> Any:
    given = request.query_params
    if len(given.multi_items()) > len(given):
        raise ProblemError(422, "a parameter is named twice", "name each once")
    try:
        return msgspec.convert(dict(given), wanted, strict=False)
    except msgspec.ValidationError as error:
        raise problems.unreadable(error, wanted) from error


async def _refused(request: Request, error: Exception) -> Response:
    """What no endpoint was asked for."""
    assert isinstance(error, HTTPException)
    told = ProblemError(
        error.status_code,
        f"{request.method} {request.scope['path'][:200]} is not answered",
        "/docs and /openapi.json tell what is",
        headers=dict(error.headers or {}),
    )
    return problems.response(told, request.scope["request_id"])
