"""The OpenAPI 3.1 page, made from the table of endpoints and its types."""

import re
from collections.abc import Sequence
from typing import Any

import msgspec

from molar_retrieval import __version__
from molar_serving.endpoint import Endpoint
from molar_serving.problems import MEDIA_TYPE, Problem

_REF = "#/components/schemas/{name}"


def description(endpoints: Sequence[Endpoint]) -> dict[str, Any]:
    """The page as JSON-able values."""
    types = [kind for one in endpoints for kind in (one.body, one.query, one.reply) if kind is not None]
    order = list(dict.fromkeys([*types, Problem]))
    schemas, components = msgspec.json.schema_components(order, ref_template=_REF)
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
    required = schema.get("required", [])
    return [
        {"name": name, "in": "query", "required": name in required, "schema": kind}
        for name, kind in schema["properties"].items()
    ]
