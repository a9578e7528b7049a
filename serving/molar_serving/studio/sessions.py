"""Who is signed in: a cookie that names a key, until when it counts, and a seal that only this workspace can make.

Nothing is kept, so every process of a server knows everybody, and who was signed in stays so when it starts again. A
key that is revoked ends its sessions with the next request. Forms carry a token that belongs to the session, which no
page from elsewhere can read (cross-site request forgery); the cookie is ``SameSite=Strict`` besides.
"""

import hmac
import secrets
import time

from starlette.requests import Request
from starlette.responses import Response

from molar_retrieval.errors import MolarError
from molar_retrieval.workspace import Workspace
from molar_serving.access import Key, Keyring
from molar_serving.audit import FOLDER
from molar_serving.credentials import of_key
from molar_serving.problems import ProblemError
from molar_serving.secret_file import SecretFile

COOKIE = "molar_studio"
TOKEN = "studio_token"
"""The field of a form that has the token."""
_SECONDS = 12 * 3600
_EMPTY = Key("", ())
_OF_PROCESS = secrets.token_bytes(32)  # where the workspace cannot be written, and nothing can be changed


class Sessions:
    """The sessions of a workspace's studio."""

    def __init__(self, workspace: Workspace, keys: Keyring) -> None:
        self._keys = keys
        self._secret = SecretFile(workspace.root / FOLDER / "studio.key")

    def key_of(self, request: Request) -> Key | None:
        """Who sends a request; None: somebody who is to sign in first.

        A ProblemError if there are no keys and the request comes from elsewhere than this machine.
        """
        if (anybody := self._keys.anybody(request)) is not None:
            return anybody
        name, _, rest = request.cookies.get(COOKIE, "").partition(".")
        until, _, seal = rest.partition(".")
        key = self._keys.keys().get(name, _EMPTY)
        right = hmac.compare_digest(seal.encode(), self._seal(key, until).encode())
        return key if right and until.isdecimal() and int(until) > time.time() else None

    def begin(self, request: Request, sent: str, response: Response) -> Key:
        """Sign in with a key; a ProblemError if there is no such one, or it does not open the studio."""
        credentials = of_key(sent)
        key = self._keys.keys().get(credentials.name, _EMPTY)
        if not credentials.proves(key) or not key.name:
            raise ProblemError(401, "there is no such key", "`molar keys add NAME --role viewer` makes one")
        if "studio" not in key.scopes or key.of_browsers:
            raise ProblemError(
                403, f"the key {key.name} does not open the studio", "`molar keys add NAME --role viewer` makes one"
            )
        until = str(int(time.time()) + _SECONDS)
        response.set_cookie(
            COOKIE,
            f"{key.name}.{until}.{self._seal(key, until)}",
            max_age=_SECONDS,
            path="/studio",
            secure=request.url.scheme == "https",
            httponly=True,
            samesite="strict",
        )
        return key

    def end(self, response: Response) -> None:
        """Sign out."""
        response.delete_cookie(COOKIE, path="/studio", httponly=True, samesite="strict")

    def token(self, request: Request) -> str:
        """What forms of somebody's pages carry."""
        return self._sealed("form", request.cookies.get(COOKIE, ""))

    def check(self, request: Request, token: str) -> None:
        """Raise a ProblemError unless a form comes from a page of the same session."""
        if not hmac.compare_digest(token.encode(), self.token(request).encode()):
            raise ProblemError(403, "the form is not of a page of this session", "open the page again, and send it")

    def _seal(self, key: Key, until: str) -> str:
        return self._sealed("session", key.name, key.digest, until)

    def _sealed(self, *what: str) -> str:
        try:
            secret = self._secret.value
        except MolarError:
            secret = _OF_PROCESS
        return hmac.digest(secret, "\0".join(what).encode("utf-8", "surrogatepass"), "sha256").hex()
