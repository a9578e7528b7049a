"""A client of the studio: signs in, sends forms as a page would, and reads what a page says."""

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

from starlette.testclient import TestClient
from web_server import client_of

from molar_serving.auth import Keyring
from molar_serving.studio.roles import scopes_of
from molar_serving.studio.sessions import TOKEN, VISITOR

_TOKEN = re.compile(r'data-token="([0-9a-f]{64})"')


class StudioClient:
    """Somebody at the studio; redirects are not followed."""

    def __init__(self, client: TestClient, cookies: Mapping[str, str] | None = None, language: str = "en") -> None:
        self.client = client
        self.cookies = dict(cookies or {})
        self.language = language

    def get(self, path: str, *, part: bool = False, **parameters: Any) -> Any:
        """A page; with ``part`` as htmx asks for a part of one."""
        return self._ask("GET", path, part, params=parameters or None)

    def post(self, path: str, fields: Mapping[str, Any] | None = None, *, part: bool = False, **more: Any) -> Any:
        """Send a form with the token that a page of this session carries."""
        return self._ask("POST", path, part, data={TOKEN: self.token, **(fields or {})}, **more)

    @property
    def token(self) -> str:
        """What forms carry."""
        page = self.get("/studio/session")
        (found,) = _TOKEN.findall(page.text)
        return str(found)

    def sign_in(self, key: str) -> Any:
        """Sign in with a key; the answer."""
        answer = self.post("/studio/session", {"key": key})
        self.cookies |= dict(answer.cookies)
        return answer

    def _ask(self, method: str, path: str, part: bool, **more: Any) -> Any:
        headers = {"accept-language": self.language} | ({"hx-request": "true"} if part else {})
        self.client.cookies.clear()  # of whom the same client was before
        headers["cookie"] = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
        answer = self.client.request(method, path, headers=headers, follow_redirects=False, **more)
        if VISITOR in answer.cookies:
            self.cookies[VISITOR] = answer.cookies[VISITOR]
        return answer


@contextmanager
def studio_client(workspace: Path, settings: Path | None = None) -> Iterator[StudioClient]:
    """A client of the studio of a server without keys in this process, so an admin."""
    with client_of(workspace, settings) as client:
        yield StudioClient(client)


@contextmanager
def studio_of_roles(workspace: Path, settings: Path | None = None) -> Iterator[dict[str, StudioClient]]:
    """Clients by role, signed in, and ``nobody``; makes keys in the workspace."""
    ring = Keyring(workspace)
    keys = {role: ring.add(role, scopes_of(role)) for role in ("viewer", "merchandiser", "admin")}
    with client_of(workspace, settings) as client:
        people = {role: StudioClient(client) for role in (*keys, "nobody")}
        for role, key in keys.items():
            assert people[role].sign_in(key).status_code == 303
        yield people


def words_of(page: Any) -> str:
    """What a page says, without its tags."""
    reader = _Words()
    reader.feed(page.text)
    return " ".join(" ".join(reader.found).split())


class _Words(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_data(self, data: str) -> None:
        self.found.append(data)
