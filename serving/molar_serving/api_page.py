"""The pages of the API for people: ``/docs``, made from the OpenAPI document, and ``/``.

They are self-contained HTML: one style, which the Content-Security-Policy names by its digest, and no script.
"""

from base64 import b64encode
from collections.abc import Mapping
from hashlib import sha256
from html import escape
from typing import Any

from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route

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


def routes(document: Mapping[str, Any], *, studio: bool) -> list[Route]:
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
        parts += [_operation(method, path, one) for method, one in operations.items()]
    parts.append("<h2>Types</h2>")
    parts += [_type(name, schemas[name]) for name in sorted(schemas)]
    return _page(f"{info['title']} API", "".join(parts))


def _operation(method: str, path: str, one: Mapping[str, Any]) -> str:
    lines = [f'<p class="doc">{_prose(one["description"])}</p>']
    if scope := one.get("x-scope"):
        lines.append(f"<p>Scope: <code>{escape(scope)}</code></p>")
    if one["parameters"]:
        rows = [
            (f"{of['name']}{' (required)' if of['required'] else ''}", of["in"], of["schema"], "")
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
    return told if default is None else f"{told}, default <code>{escape(str(default))}</code>"


def _prose(text: str) -> str:
    return escape(text.replace("``", "").strip())
