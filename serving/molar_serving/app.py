"""The application: every endpoint behind one gate, which admits, reads, answers and tells what went wrong.

The pages of the API for people: ``/docs``, made from the OpenAPI document, and ``/``.

They are self-contained HTML: one style, which the Content-Security-Policy names by its digest, and no script.

What stands before everything else: in an overload it turns requests away for a tenth of what reading them costs.

It shows requests for a path that has no names in braces to their endpoint; the others, which are few, have the way
through a router's routes and its handling of errors.
"""

import asyncio
import math
import re
import time
from base64 import b64encode
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import cache
from hashlib import sha256
from html import escape
from typing import Any, TypeAlias

import msgspec
from msgspec import inspect
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from molar_retrieval import __version__
from molar_serving import problems
from molar_serving.audit import AuditLog
from molar_serving.auth import Key, RateLimits, WrongKeyError, check_reasons, client_of, count_refusal, equalise_time
from molar_serving.bodies import read_body
from molar_serving.browsers import Browsers
from molar_serving.compat import ga4, gorse, personalize, recombee, segment
from molar_serving.endpoint import Call, Endpoint
from molar_serving.endpoints import events, experiments, generations, items, recommendations, rules, status, users
from molar_serving.lists import deadline_of
from molar_serving.observability import AccessLog, Measured, Observer, Spans, Traced
from molar_serving.overload import TOO_MUCH, Working
from molar_serving.problems import MEDIA_TYPE, Problem, ProblemError, problem
from molar_serving.service import Service
from molar_serving.studio.app import routes as studio_routes
from molar_serving.wire import encode

ENDPOINTS: tuple[Endpoint, ...] = (
    *recommendations.ENDPOINTS,
    *events.ENDPOINTS,
    *items.ENDPOINTS,
    *users.ENDPOINTS,
    *rules.ENDPOINTS,
    *generations.ENDPOINTS,
    *experiments.ENDPOINTS,
    *status.ENDPOINTS,
)
DIALECTS: tuple[Endpoint, ...] = (
    *gorse.ENDPOINTS,
    *recombee.ENDPOINTS,
    *ga4.ENDPOINTS,
    *segment.ENDPOINTS,
    *personalize.ENDPOINTS,
)
"""What clients of other products ask, who have it described there; the first path that fits is taken."""
_SCHEMA = "#/components/schemas/{name}"
_STYLE = """
body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#1c1e21;background:#fff}
h1{font-size:1.6rem}h2{font-size:1.2rem;margin-top:2.5rem}h3{font-size:1rem;margin:1.2rem 0 .3rem}
code{font-family:ui-monospace,monospace;font-size:.9em}table{border-collapse:collapse;width:100%}
th,td{text-align:left;vertical-align:top;border-bottom:1px solid #d5d8dc;padding:.3rem .6rem .3rem 0}
.method{display:inline-block;min-width:4.5rem;font-weight:600}summary{cursor:pointer;padding:.35rem 0}
p.doc{white-space:pre-line}a{color:#0b57a4}
@media(prefers-color-scheme:dark){body{color:#e6e8ea;background:#16181b}th,td{border-color:#3a3f45}a{color:#8ab8ff}}
"""
_POLICY = (
    f"default-src 'none'; style-src 'sha256-{b64encode(sha256(_STYLE.encode()).digest()).decode()}';"
    " base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_REF = "#/components/schemas/"
Answering: TypeAlias = Callable[[Request], Awaitable[Response]]
Straight: TypeAlias = Mapping[tuple[str, str], Answering]
_OPENING_SECONDS = 10.0  # that one of several processes may take to open what is live before it is asked


def description(endpoints: Sequence[Endpoint]) -> dict[str, Any]:
    """The page as JSON-able values."""
    types = [kind for one in endpoints for kind in (one.body, one.query, one.reply) if kind is not None]
    order = list(dict.fromkeys([*types, Problem]))
    schemas, components = msgspec.json.schema_components(order, ref_template=_SCHEMA)
    schema_of = dict(zip(order, schemas, strict=True))
    paths: dict[str, dict[str, Any]] = {}
    for one in endpoints:
        path = re.sub(r":\w+}", "}", one.path)
        paths.setdefault(path, {})[one.method.lower()] = _operation(one, schema_of, components)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "molar",
            "version": __version__,
            "summary": "Recommendations, searches and events of a shop.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "paths": paths,
        "components": {
            "schemas": components,
            "securitySchemes": {
                "key": {"type": "http", "scheme": "bearer", "description": "a key of `molar keys add`"}
            },
        },
    }


def _operation(one: Endpoint, schema_of: dict[Any, Any], components: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {
        "operationId": one.answer.__name__,
        "summary": one.summary,
        "description": (one.answer.__doc__ or "").strip(),
        "parameters": [*_in_path(one.path), *_in_query(one, components)],
        "responses": {
            "200": {"description": "The answer", **_content("application/json", schema_of.get(one.reply))},
            "default": {"description": "A problem", **_content(MEDIA_TYPE, schema_of[Problem])},
        },
    }
    if one.scope is not None:
        found |= {"security": [{"key": []}], "x-scope": one.scope}
    if one.body is not None:
        found["requestBody"] = {"required": True, **_content("application/json", schema_of[one.body])}
    elif one.media:
        found["requestBody"] = {"required": True, "content": {kind: {} for kind in one.media}}
    return found


def _content(media: str, schema: Any) -> dict[str, Any]:
    return {} if schema is None else {"content": {media: {"schema": schema}}}


def _in_path(path: str) -> list[dict[str, Any]]:
    return [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
        for name in re.findall(r"{(\w+)(?::\w+)?}", path)
    ]


def _in_query(one: Endpoint, components: dict[str, Any]) -> list[dict[str, Any]]:
    if one.query is None:
        return []
    schema = components[one.query.__name__]
    required, (lists, others) = schema.get("required", []), _parameters(one.query)
    return [
        {"name": name, "in": "query", "required": name in required, "schema": kind}
        | ({"style": "form", "explode": False} if name in lists else {})
        for name, kind in schema["properties"].items()
        if name not in others and f"{{{name}" not in one.path
    ]


def api_page_routes(document: Mapping[str, Any], *, studio: bool) -> list[Route]:
    """``/docs`` and ``/``.

    Args:
        document: The OpenAPI document.
        studio: Whether the server has a studio.
    """
    links = {"docs": "/docs", "openapi": "/openapi.json", "health": "/health/ready"}
    links |= {"studio": "/studio"} if studio else {}
    reference, start, about = _reference(document), _start(document["info"], links), _about(document["info"])

    async def docs(request: Request) -> Response:
        return HTMLResponse(reference, headers={"Content-Security-Policy": _POLICY})

    async def root(request: Request) -> Response:
        if "text/html" in request.headers.get("accept", ""):
            return HTMLResponse(start, headers={"Content-Security-Policy": _POLICY})
        return JSONResponse({**about, "links": links})

    return [Route("/docs", docs), Route("/", root)]


def _about(info: Mapping[str, Any]) -> dict[str, str]:
    return {"name": info["title"], "version": info["version"], "summary": info["summary"]}


def _page(title: str, body: str) -> str:
    head = f'<meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>{escape(title)}</title>'
    return f'<!DOCTYPE html>\n<html lang="en"><head>{head}<style>{_STYLE}</style></head><body>{body}</body></html>\n'


def _start(info: Mapping[str, Any], links: Mapping[str, str]) -> str:
    words = {
        "docs": "Reference of the API",
        "openapi": "The same as an OpenAPI document",
        "studio": "Studio: pages for those who run the shop",
        "health": "Health check: whether the server answers",
    }
    listed = "".join(f'<li><a href="{link}">{link}</a> {words[name]}</li>' for name, link in links.items())
    title = f"{info['title']} {info['version']}"
    return _page(title, f"<h1>{escape(title)}</h1><p>{escape(info['summary'])}</p><ul>{listed}</ul>")


def _reference(document: Mapping[str, Any]) -> str:
    info, schemas = document["info"], document["components"]["schemas"]
    parts = [
        f"<h1>{escape(info['title'])} {escape(info['version'])}: API</h1><p>{escape(info['summary'])}"
        ' The same for programs: <a href="/openapi.json">/openapi.json</a>. Where the server has keys, send one as'
        " <code>Authorization: Bearer KEY</code>; each operation names the scope that it takes.</p>"
        "<h2>Operations</h2>"
    ]
    for path, operations in document["paths"].items():
        parts += [_operation_html(method, path, one) for method, one in operations.items()]
    parts.append("<h2>Types</h2>")
    parts += [_type(name, schemas[name]) for name in sorted(schemas)]
    return _page(f"{info['title']} API", "".join(parts))


def _operation_html(method: str, path: str, one: Mapping[str, Any]) -> str:
    lines = [f'<p class="doc">{_prose(one["description"])}</p>']
    if scope := one.get("x-scope"):
        lines.append(f"<p>Scope: <code>{escape(scope)}</code></p>")
    if one["parameters"]:
        rows = [
            (
                f"{of['name']}{' (required)' if of['required'] else ''}",
                of["in"],
                of["schema"],
                of["schema"].get("description", ""),
            )
            for of in one["parameters"]
        ]
        lines.append("<h3>Parameters</h3>" + _table(rows))
    for title, content in (
        ("Body", one.get("requestBody", {}).get("content", {})),
        ("Answer", one["responses"]["200"].get("content", {})),
    ):
        for media, of in content.items():
            lines.append(f"<h3>{title}</h3><p><code>{escape(media)}</code> {_kind(of.get('schema', {}))}</p>")
    head = f'<span class="method">{method.upper()}</span> <code>{escape(path)}</code> {escape(one["summary"])}'
    return f'<details id="{escape(one["operationId"])}"><summary>{head}</summary>{"".join(lines)}</details>'


def _type(name: str, schema: Mapping[str, Any]) -> str:
    required = schema.get("required", ())
    rows = [
        (f"{field}{' (required)' if field in required else ''}", "", of, of.get("description", ""))
        for field, of in schema.get("properties", {}).items()
    ]
    about = f'<p class="doc">{_prose(schema.get("description", ""))}</p>'
    return f'<h3 id="{escape(name)}">{escape(name)}</h3>{about}{_table(rows) if rows else ""}'


def _table(rows: list[tuple[str, str, Mapping[str, Any], str]]) -> str:
    lines = [
        f"<tr><td><code>{escape(name)}</code></td><td>{where}</td><td>{_kind(schema)}</td><td>{_prose(about)}</td></tr>"
        for name, where, schema, about in rows
    ]
    return f"<table>{''.join(lines)}</table>"


def _kind(schema: Mapping[str, Any]) -> str:
    """A type in words, with its bounds and its default."""
    if ref := schema.get("$ref"):
        name = escape(ref.removeprefix(_REF))
        return f'<a href="#{name}">{name}</a>'
    if several := schema.get("anyOf") or schema.get("oneOf"):
        kind = " or ".join(_kind(one) for one in several)
    elif "enum" in schema:
        kind = ", ".join(f"<code>{escape(str(one))}</code>" for one in schema["enum"])
    elif "prefixItems" in schema:
        kind = f"list of {', '.join(map(_kind, schema['prefixItems']))}"
    elif schema.get("type") == "array":
        kind = f"list of {_kind(schema.get('items', {}))}"
    else:
        kind = escape(str(schema.get("type", "any")))
    names = {"minimum": "≥", "maximum": "≤", "minLength": "length ≥", "maxLength": "length ≤"} | {
        "minItems": "items ≥",
        "maxItems": "items ≤",
    }
    bounds = [f"{words} {schema[name]:,}" for name, words in names.items() if name in schema]
    told = f"{kind} ({', '.join(bounds)})" if bounds else kind
    default = schema.get("default")
    return told if default is None or default == () else f"{told}, default <code>{escape(str(default))}</code>"


def _prose(text: str) -> str:
    return escape(text.replace("``", "").strip())


class Door:
    """An application that asks another one, unless that one has more to answer than it can.

    Args:
        app: The application behind it.
        answers: What computes its answers.
        endpoints: What can be asked; requests for those of the scope ``answer`` may be turned away.
        straight: What answers, by method and path; for all others the application is asked.
    """

    def __init__(self, app: ASGIApp, answers: Working, endpoints: Sequence[Endpoint], straight: Straight) -> None:
        self._app, self._answers, self._straight = app, answers, straight
        self._paths = tuple({one.path.partition("{")[0] for one in endpoints if one.scope == "answer"})
        body = encode(problem(503, *TOO_MUCH))
        known = {"content-type": MEDIA_TYPE, "content-length": str(len(body)), "retry-after": "1"}
        headers = [(name.encode(), value.encode()) for name, value in known.items()]
        self._start = {"type": "http.response.start", "status": 503, "headers": headers}
        self._body = {"type": "http.response.body", "body": body}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
        elif self._answers.overloaded and scope["path"].startswith(self._paths) and self._answers.full():
            await send({**self._start})
            await send(self._body)
        elif (answering := self._straight.get((scope["method"], scope["path"]))) is not None:
            await (await answering(Request(scope, receive)))(scope, receive, send)
        else:
            await self._app(scope, receive, send)


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

    observers: list[Observer] = [Measured(service.metrics, service.answers)]
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
    api_pages = api_page_routes(document, studio=service.settings.serve.studio)  # a demo shop has a page of its own
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
            check_reasons(key, call.body)
            check_reasons(key, call.query)
            if endpoint.changes:
                await audit.begin(endpoint, request, key.name)
                begun = True
            response = (await endpoint.answer(call)).response()
        except (Exception, ClientDisconnect) as error:
            request_id = request.scope["request_id"]
            found = problems.of_any(error, request_id)
            if isinstance(error, WrongKeyError):
                wrong, found = error, limits.refusal(error, client_of(request))
            response = endpoint.dialect.refusal(found, request_id)
        if call is not None and begun:
            await audit.end(endpoint, request, call.key.name, response.status_code, call.audit)
        else:
            count_refusal(audit, endpoint, response.status_code, key, wrong, client_of(request))
        if call is not None and call.key.of_browsers and endpoint.scope == "answer":
            await equalise_time(began, call.deadline)
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
    lists, others = _parameters(wanted)
    values: dict[str, Any] = {name: _split(value) if name in lists else value for name, value in given.items()}
    if refused := values.keys() & others:
        name = min(refused)
        raise ProblemError(422, f"{name} is taken in a body alone", "send it by POST", field=name)
    values |= {name: value for name, value in request.path_params.items() if name in wanted.__struct_fields__}
    try:
        return msgspec.convert(values, wanted, strict=False)
    except msgspec.ValidationError as error:
        raise problems.unreadable(error, wanted) from error


def _split(value: str) -> list[str]:
    return [name.strip() for name in value.split(",") if name.strip()]


@cache
def _parameters(wanted: Any) -> tuple[frozenset[str], frozenset[str]]:
    """Of a type the fields that are lists, with commas in an address, and those that no address can have."""
    found = {one.encode_name: {*map(type, problems.types_of(one.type))} for one in problems.fields_of(wanted)}
    lists = frozenset(name for name, kinds in found.items() if kinds & {inspect.VarTupleType, inspect.ListType})
    others = frozenset(name for name, kinds in found.items() if kinds & {inspect.DictType, inspect.BytesType})
    return lists, others


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
