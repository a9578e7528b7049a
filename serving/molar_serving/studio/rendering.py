"""Pages of the studio are set by Jinja; whatever is shown is escaped."""

import json
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from functools import cache
from typing import Any
from urllib.parse import quote

from jinja2 import Environment, PackageLoader, StrictUndefined

from molar_retrieval.reports.wording import LANGUAGES
from molar_serving.studio.visit import Visit

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; connect-src 'self';"
    " form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
"""The Content-Security-Policy of every page: nothing leaves the house, and no script or style lies in a page."""


def rendered(visit: Visit, template: str, shown: Mapping[str, Any], navigation: Mapping[str, str]) -> str:
    """A page as HTML.

    Args:
        visit: Whose.
        template: Which.
        shown: What it shows, by the names of the template.
        navigation: Names of screens with their addresses.
    """
    t = visit.language
    return (
        _environment()
        .get_template(template)
        .render(
            {
                "t": t,
                "number": t.number,
                "percent": t.percent,
                "visit": visit,
                "navigation": navigation,
                "languages": LANGUAGES,
                "here": visit.call.request.scope["path"],
                **shown,
            }
        )
    )


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("molar_serving.studio"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    filters: dict[str, Callable[..., Any]] = {"moment": moment, "part": part, "data": data}
    environment.filters.update(filters)
    return environment


def moment(value: str | float) -> str:
    """A time, in seconds since 1970 or ISO 8601, as ISO 8601 in UTC; the script writes it in the reader's own way."""
    when = datetime.fromisoformat(value) if isinstance(value, str) else datetime.fromtimestamp(value, UTC)
    when = when if when.tzinfo else when.replace(tzinfo=UTC)
    return when.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def part(value: object) -> str:
    """An id as a part of an address, whatever it holds."""
    return quote(str(value).encode("utf-8", "surrogatepass"), safe="")


def data(value: object) -> str:
    """A value as JSON for a ``data-`` attribute."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
