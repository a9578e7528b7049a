"""Signing in and out, and the language of the pages."""

from collections.abc import Callable
from typing import Any

from starlette.responses import Response

from molar_retrieval.pages.wording import LANGUAGES
from molar_serving.studio.language import COOKIE
from molar_serving.studio.sessions import Sessions
from molar_serving.studio.visit import Page, Screen, Visit

_YEAR = 365 * 86400


async def form(visit: Visit) -> Page:
    """Where somebody says which key they have."""
    return Page("sign_in.html.jinja", {"next": _inside(visit.asked("next"))})


async def sign_in(visit: Visit) -> Page:
    """Begin a session by a key."""
    request, key = visit.call.request, visit.sent("key")
    return _with_cookies(_inside(visit.sent("next")), lambda answer: _sessions(visit).begin(request, key, answer))


async def sign_out(visit: Visit) -> Page:
    """End the session in this browser."""
    return _with_cookies("/studio/session", _sessions(visit).end)


async def speak(visit: Visit) -> Page:
    """Choose a language."""
    chosen = visit.sent("language")
    chosen = chosen if chosen in LANGUAGES else visit.language.code
    return _with_cookies(
        _inside(visit.sent("next")),
        lambda answer: answer.set_cookie(
            COOKIE, chosen, max_age=_YEAR, path="/studio", samesite="strict", httponly=True
        ),
    )


def _sessions(visit: Visit) -> Sessions:
    return Sessions(visit.service.workspace, visit.service.keys)


def _with_cookies(address: str, set_cookies: Callable[[Response], Any]) -> Page:
    answer = Response()
    set_cookies(answer)
    cookie = answer.headers["set-cookie"]
    return Page(status=303, headers={"Location": address, "Set-Cookie": cookie})


def _inside(address: str) -> str:
    """An address of the studio, whatever was sent."""
    plain = address.isascii() and address.isprintable() and "\\" not in address
    return address if plain and (address == "/studio" or address.startswith("/studio/")) else "/studio"


SCREENS = (
    Screen("GET", "/studio/session", None, form),
    Screen("POST", "/studio/session", None, sign_in),
    Screen("POST", "/studio/session/end", None, sign_out),
    Screen("POST", "/studio/language", None, speak),
)
