"""The one way into the studio: who it is, what they may, whether the form is of their page, and what went wrong."""

import json
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from functools import cache
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from jinja2 import Environment, PackageLoader, StrictUndefined
from starlette.datastructures import FormData
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Message

from molar_retrieval.reports.wording import LANGUAGES
from molar_serving import problems
from molar_serving.audit import AuditLog
from molar_serving.auth import ANYBODY, Key, RateLimits, WrongKeyError, client_of, count_refusal, is_of_host
from molar_serving.bodies import read_body
from molar_serving.endpoint import Call
from molar_serving.problems import ProblemError
from molar_serving.studio import files, language
from molar_serving.studio.roles import Role, allows, role_of
from molar_serving.studio.screens import (
    changes,
    customers,
    data,
    events,
    experiments,
    generations,
    item_map,
    items,
    overview,
    rules,
    search,
    signing_in,
)
from molar_serving.studio.sessions import TOKEN, Sessions
from molar_serving.studio.visit import Page, Screen, Visit

if TYPE_CHECKING:
    from molar_serving.service import Service

_ORDER = (
    "overview",
    "people",
    "items",
    "search",
    "rules",
    "generations",
    "experiments",
    "map",
    "data",
    "events",
    "changes",
)
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; connect-src 'self';"
    " form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
"""The Content-Security-Policy of every page: nothing leaves the house, and no script or style lies in a page."""
SIGN_IN = "/studio/session"
_HEADERS = {"Content-Security-Policy": POLICY, "Cache-Control": "no-store", "Referrer-Policy": "same-origin"}


SCREENS: tuple[Screen, ...] = (
    *overview.SCREENS,
    *events.SCREENS,
    *items.SCREENS,
    *search.SCREENS,
    *rules.SCREENS,
    *customers.SCREENS,
    *generations.SCREENS,
    *experiments.SCREENS,
    *changes.SCREENS,
    *data.SCREENS,
    *item_map.SCREENS,
    *signing_in.SCREENS,
    *files.SCREENS,
)
NAVIGATION = {
    name: next(screen.path for screen in SCREENS if screen.nav == name)
    for name in _ORDER
    if any(screen.nav == name for screen in SCREENS)
}
"""Words of ``words/nav.toml`` with the addresses of their screens."""


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
    filters: dict[str, Callable[..., Any]] = {"moment": moment, "part": part, "data": attribute}
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


def attribute(value: object) -> str:
    """A value as JSON for a ``data-`` attribute."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def routes(service: "Service", limits: RateLimits, audit: AuditLog) -> list[Route]:
    """The studio's part of an application."""
    sessions = Sessions(service.workspace, service.keys)
    return [Route(one.path, _gate(service, sessions, limits, audit, one), methods=[one.method]) for one in SCREENS]


def _gate(
    service: "Service", sessions: Sessions, limits: RateLimits, audit: AuditLog, screen: Screen
) -> Callable[[Request], Awaitable[Response]]:
    async def answer(request: Request) -> Response:
        request.scope["endpoint_path"] = screen.path
        visit, begun = Visit(Call(service, request, ANYBODY), "viewer", _language(request), ""), False
        visitor, wrong = sessions.new_visitor(request), None
        try:
            key = sessions.key_of(request)
            if key is None and screen.role is not None:
                return _to_sign_in(request)
            visit.token = sessions.token(request, visitor)
            _admit(visit, screen, key)
            if screen.method == "POST":
                _check_origin(request)
                visit.form = await _form(request, screen.most)
                sessions.check(request, visit.sent(TOKEN) or request.headers.get("x-studio-token", ""))
                for name in screen.fields:
                    visit.need(name)
            if screen.changes:
                await audit.begin(screen, request, visit.call.key.name)
                begun = True
            page = await screen.answer(visit)
            response = _response(visit, page)
        except (Exception, ClientDisconnect) as error:
            found = problems.of_any(error, request.scope["request_id"])
            if isinstance(error, WrongKeyError):
                wrong, found = error, limits.refusal(error, client_of(request))
            shown = {"problem": problems.told(found, request.scope["request_id"])}
            template = "problem_part.html.jinja" if visit.fragment else "problem.html.jinja"
            page = Page(template, shown, found.status, found.headers)
            response = _response(visit, page)
        if visitor is not None and page.template:
            sessions.remember_visitor(request, visitor, response)
        if begun:
            await audit.end(screen, request, visit.call.key.name, response.status_code, visit.audit)
        else:
            count_refusal(audit, screen, response.status_code, visit.call.key, wrong, client_of(request))
        return response

    return answer


def _admit(visit: Visit, screen: Screen, key: Key | None) -> None:
    """Say in a visit who it is; a ProblemError if they may not."""
    if key is None:
        return
    role: Role | None = role_of(key)
    visit.call.key = key
    visit.call.request.scope["key_name"] = key.name
    if screen.role is None:
        visit.role = role or "viewer"
    elif role is None or not allows(role, screen.role):
        raise ProblemError(403, f"the key {key.name} does not allow this", f"it takes the role {screen.role}")
    else:
        visit.role = role


def _language(request: Request) -> language.Language:
    return language.preferred(request.cookies.get(language.COOKIE), request.headers.get("accept-language", ""))


def _check_origin(request: Request) -> None:
    """Raise a ProblemError where a browser says that a form was sent by a page of another host."""
    page = request.headers.get("origin") or request.headers.get("referer")
    if page is not None and not is_of_host(page, request.headers.get("host", "")):
        remedy = "open the page on this server; a proxy before it must pass on Host"
        raise ProblemError(403, "the form was sent by a page of another origin", remedy)


async def _form(request: Request, most: int) -> FormData:
    """The fields of a form, once it was read within its bounds."""
    body = await read_body(request, most)

    async def receive() -> Message:
        return {"type": "http.request", "body": body, "more_body": False}

    return await Request(request.scope, receive).form(max_files=1, max_fields=2_000, max_part_size=most)


def _to_sign_in(request: Request) -> Response:
    if "hx-request" in request.headers:
        return Response(status_code=401, headers={"HX-Redirect": SIGN_IN})
    wanted = request.scope["path"] + (f"?{request.url.query}" if request.url.query else "")
    return Response(status_code=303, headers={"Location": f"{SIGN_IN}?next={quote(wanted, safe='')}"})


def _response(visit: Visit, page: Page) -> Response:
    headers = {**_HEADERS, **page.headers}
    if page.status == 303 and visit.fragment:
        return Response(status_code=204, headers={**headers, "HX-Redirect": headers.pop("Location")})
    content: str | bytes = page.content
    if page.template:
        content = rendered(visit, page.template, page.shown, NAVIGATION)
    return Response(content, page.status, headers, page.media_type)
