"""Who is signed in: a cookie that names a key, until when it counts, and a seal that only this workspace can make.

Sessions are not kept, so every process of a server knows everybody, and who was signed in stays so when it starts
again. Kept is which ones were ended by signing out, in ``WORKSPACE/serving/sessions.json``, until they would have ended
anyway; all processes look whether it has changed. A key that is revoked ends its sessions with the next request.

Forms carry a token that belongs to the session, or to the visitor before they have signed in, which no page from
elsewhere can read (cross-site request forgery); cookies are ``SameSite=Strict`` besides, and ``Origin`` is checked.
"""

import hmac
import json
import secrets
import time
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from molar_retrieval.errors import DataError, MolarError
from molar_retrieval.workspace.artefacts import Workspace
from molar_retrieval.workspace.files import OWNER, file_stamp, wait_beside, write_atomically
from molar_serving.audit import FOLDER, SecretFile
from molar_serving.auth import Key, Keyring, of_key
from molar_serving.problems import ProblemError

COOKIE, VISITOR = "molar_studio", "molar_studio_visitor"
TOKEN = "studio_token"
"""The field of a form that has the token."""
_SECONDS = 12 * 3600
_EMPTY = Key("", ())
_MOST = 100  # sessions of a key that were ended one by one; then all of the key end
_OF_PROCESS = secrets.token_bytes(32)  # where the workspace cannot be written, and nothing can be changed


class Sessions:
    """The sessions of a workspace's studio."""

    def __init__(self, workspace: Workspace, keys: Keyring) -> None:
        self._keys = keys
        self._secret = SecretFile(workspace.root / FOLDER / "studio.key")
        self._ended = EndedSessions(workspace.root / FOLDER / "sessions.json")

    def key_of(self, request: Request) -> Key | None:
        """Who sends a request; None: somebody who is to sign in first.

        A ProblemError if there are no keys and the request comes from elsewhere than this machine.
        """
        if (anybody := self._keys.anybody(request)) is not None:
            return anybody
        return self._own(request)[0]

    def begin(self, request: Request, sent: str, response: Response) -> Key:
        """Sign in with a key; a ProblemError if there is no such one, or it does not open the studio."""
        remedy = "`molar keys add NAME --role viewer` makes one"
        key = self._keys.key_of(of_key(sent), remedy)
        if "studio" not in key.scopes or key.of_browsers:
            raise ProblemError(403, f"the key {key.name} does not open the studio", remedy)
        until, own = str(int(time.time()) + _SECONDS), secrets.token_urlsafe(16)
        cookie = f"{key.name}.{until}.{own}.{self._seal(key, until, own)}"
        self._set(request, response, COOKIE, cookie, _SECONDS)
        return key

    def end(self, request: Request, response: Response) -> None:
        """Sign out: the session ends in all processes; a MolarError where that cannot be written down."""
        response.delete_cookie(COOKIE, path="/studio", httponly=True, samesite="strict")
        key, until, own = self._own(request)
        if key is not None:
            self._ended.add(key.name, until, own)

    def new_visitor(self, request: Request) -> str | None:
        """What is to be remembered of a browser that has no cookie yet; None: it has one."""
        known = request.cookies.get(COOKIE) or request.cookies.get(VISITOR)
        return None if known else secrets.token_urlsafe(16)

    def remember_visitor(self, request: Request, visitor: str, response: Response) -> None:
        """Have a browser remember who it is, so that it can send forms."""
        self._set(request, response, VISITOR, visitor, None)

    def token(self, request: Request, visitor: str | None = None) -> str:
        """What forms of somebody's pages carry."""
        return self._sealed("form", request.cookies.get(COOKIE) or request.cookies.get(VISITOR) or visitor or "")

    def check(self, request: Request, token: str) -> None:
        """Raise a ProblemError unless a form comes from a page of the same session."""
        known = self.new_visitor(request) is None
        if not known or not hmac.compare_digest(token.encode(), self.token(request).encode()):
            raise ProblemError(403, "the form is not of a page of this session", "open the page again, and send it")

    def _own(self, request: Request) -> tuple[Key | None, str, str]:
        """Whose session a request is of, if it holds, until when it does, and what tells it from others."""
        name, *rest = request.cookies.get(COOKIE, "").split(".")
        until, own, seal = rest if len(rest) == 3 else ("", "", "")
        key = self._keys.keys().get(name, _EMPTY)
        right = hmac.compare_digest(seal.encode(), self._seal(key, until, own).encode())
        holds = right and until.isdecimal() and int(until) > time.time() and not self._ended.has(name, until, own)
        return key if holds else None, until, own

    @staticmethod
    def _set(request: Request, response: Response, name: str, value: str, seconds: int | None) -> None:
        secure = request.url.scheme == "https"
        more: dict[str, Any] = {"secure": secure, "httponly": True, "samesite": "strict"}
        response.set_cookie(name, value, max_age=seconds, path="/studio", **more)

    def _seal(self, key: Key, until: str, own: str) -> str:
        return self._sealed("session", key.name, key.digest, until, own)

    def _sealed(self, *what: str) -> str:
        try:
            secret = self._secret.value
        except MolarError:
            secret = _OF_PROCESS
        return hmac.digest(secret, "\0".join(what).encode("utf-8", "surrogatepass"), "sha256").hex()


class EndedSessions:
    """The sessions that were ended by signing out, for all processes of a workspace."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._mark: object = None
        self._known: Mapping[str, Any] = _NONE

    def has(self, name: str, until: str, own: str) -> bool:
        """Whether the session of a key was ended; a DataError where it cannot be told."""
        if (mark := file_stamp(self._path)) != self._mark:
            self._known, self._mark = self._read(), mark
        begun = int(until) - _SECONDS
        return begun <= self._known["all_until"].get(name, -1) or _id(name, until, own) in self._known["ended"]

    def add(self, name: str, until: str, own: str) -> None:
        """End one; a MolarError where that cannot be written down."""
        with wait_beside(self._path):
            known, now = self._read(), time.time()
            ended = {one: told for one, told in known["ended"].items() if told[1] > now}
            all_until = {key: at for key, at in known["all_until"].items() if at + _SECONDS > now}
            ended[_id(name, until, own)] = [name, int(until)]
            of_key = [one for one, told in ended.items() if told[0] == name]
            if len(of_key) > _MOST:
                all_until[name] = int(now)
                ended = {one: told for one, told in ended.items() if told[0] != name}
            text = json.dumps({"ended": ended, "all_until": all_until})
            write_atomically(self._path, text + "\n", OWNER)

    def _read(self) -> Mapping[str, Any]:
        try:
            found: Mapping[str, Any] = json.loads(self._path.read_text("utf-8"))
            return {"ended": dict(found["ended"]), "all_until": dict(found["all_until"])}
        except FileNotFoundError:
            return _NONE
        except (ValueError, KeyError, TypeError) as error:
            remedy = "remove it; sessions that were ended by signing out hold again for up to 12 hours"
            raise DataError(f"{self._path} is damaged: {error}", remedy) from error


_NONE: Mapping[str, Any] = {"ended": {}, "all_until": {}}


def _id(name: str, until: str, own: str) -> str:
    return sha256(f"{name}.{until}.{own}".encode()).hexdigest()
