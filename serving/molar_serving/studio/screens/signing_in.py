"""Signing in and out, and the language of the pages."""

from collections.abc import Callable
from typing import Any

from starlette.responses import Response

from molar_retrieval.errors import MolarError
from molar_retrieval.reports.wording import LANGUAGES
from molar_serving import problems
from molar_serving.problems import ProblemError
from molar_serving.studio.language import COOKIE
from molar_serving.studio.sessions import Sessions
from molar_serving.studio.visit import Page, Screen, Visit

_YEAR = 365 * 86400


async def form(visit: Visit) -> Page:
    """Where somebody says which key they have."""
    return Page("sign_in.html.jinja", {"next": _inside(visit.asked("next"))})


async def sign_in(visit: Visit) -> Page:
    """Begin a session by a key."""
    request, key = visit.call.request, visit.sent("key").strip()
    if not key:
        raise ProblemError(422, "no key was sent", "send the key that you were given", field="key")
    return _with_cookies(_inside(visit.sent("next")), lambda answer: _sessions(visit).begin(request, key, answer))


async def sign_out(visit: Visit) -> Page:
    """End the session; where the server cannot write that down, at least in this browser."""
    answer = Response()
    try:
        await visit.do(lambda: _sessions(visit).end(visit.call.request, answer))
    except MolarError as error:
        remedy = "revoke the key to end the session everywhere: `molar keys revoke NAME`"
        told = problems.of_error(error)
        words = "you are signed out in this browser only: the server cannot write down that the session has ended"
        raise ProblemError(told.status, words, remedy, headers={"Set-Cookie": answer.headers["set-cookie"]}) from error
    return Page(status=303, headers={"Location": "/studio/session", "Set-Cookie": answer.headers["set-cookie"]})


async def speak(visit: Visit) -> Page:
    """Choose a language."""
    chosen = visit.sent("language")
    if chosen not in LANGUAGES:
        raise ProblemError(422, "there is no such language", f"choose one of {', '.join(LANGUAGES)}", field="language")
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
    Screen("POST", "/studio/session", None, sign_in, fields=("key",)),
    Screen("POST", "/studio/session/end", None, sign_out),
    Screen("POST", "/studio/language", None, speak, fields=("language",)),
)
