"""Who may ask what: keys with scopes, kept as hashes in ``WORKSPACE/serving/keys.json``.

Without any key everything is allowed, to this machine alone: the server then listens on a loopback address and answers
requests that name one, so that no page in a browser reaches it by a name of its own (DNS rebinding), and none that a
page from elsewhere sends (cross-site request forgery).

Browsers say with a request which page sends it (``Origin``), and no script can change that. A key for browsers is good
for its own pages alone; a key for servers is refused where a page sends it, because it is in the wrong place there.
"""

import json
import math
import secrets
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Any, get_args

from starlette.datastructures import URL
from starlette.requests import Request

from molar_retrieval.errors import DataError, RequestError, shown, suggestion
from molar_retrieval.workspace.activity_log import current_user
from molar_retrieval.workspace.files import file_stamp, wait_beside, write_atomically
from molar_serving import origins as pages
from molar_serving.audit import FOLDER, Audited, AuditLog
from molar_serving.credentials import PREFIX, Credentials, digest, signing_token
from molar_serving.endpoint import Scope
from molar_serving.problems import ProblemError

SCOPES: tuple[Scope, ...] = get_args(Scope)
BROWSER: tuple[Scope, ...] = ("answer", "events")
"""What a key may allow that is told to browsers."""
BROWSER_RATE = 10.0
"""Requests a second from one address by a key for browsers, where nothing else is said."""
_NOBODY_HAS = digest("")


@dataclass(frozen=True)
class Key:
    """What a key allows; the key itself is not known here.

    Attributes:
        name: Who has it.
        scopes: What it allows.
        digest: SHA-256 of the secret, as hexadecimal digits.
        origins: Pages whose browsers may send it; empty: it is for servers.
        rate: Requests a second that it may send, for all workers together; of a key for browsers: from one address.
            None: as many as come.
        created: When it was made, ISO 8601.
        signing: What its requests can be signed with, in the clear, as checking a signature takes it; empty: nothing.
    """

    name: str
    scopes: tuple[Scope, ...]
    digest: str = ""
    origins: tuple[str, ...] = ()
    rate: float | None = None
    created: str = ""
    signing: str = ""

    @property
    def of_browsers(self) -> bool:
        """Whether it is told to browsers, and so allows little."""
        return bool(self.origins)


ANYBODY = Key("anybody", SCOPES)
"""Who asks where there are no keys."""


class WrongKeyError(ProblemError):
    """A key was sent, and there is no such one; ``tried`` is its name, if there is a key of this name."""

    def __init__(self, how: str, tried: str | None = None) -> None:
        super().__init__(401, "there is no such key", how, headers={"WWW-Authenticate": "Bearer"})
        self.tried = tried


class Keyring:
    """The keys of a workspace; read again when their file changes, so a revoked one ends with the next request."""

    def __init__(self, workspace: Path) -> None:
        self.path = workspace / FOLDER / "keys.json"
        self._audit = AuditLog(workspace)
        self._lock = threading.Lock()
        self._mark: object = object()
        self._keys: dict[str, Key] = {}
        self._asked = False  # whether there were keys: without the last one nobody is answered, until the next start

    def keys(self) -> dict[str, Key]:
        """All keys by name; a DataError if their file is damaged."""
        mark = file_stamp(self.path)
        if mark != self._mark:
            with self._lock:
                self._keys, self._mark = self._read(), mark
                self._asked = self._asked or bool(self._keys)
        return self._keys

    def add(
        self,
        name: str,
        scopes: Sequence[str],
        *,
        origins: Sequence[str] = (),
        rate: float | None = None,
        signing: bool = False,
    ) -> str:
        """Make a key, and return it: it is told this once.

        Args:
            name: Who has it.
            scopes: What it allows.
            origins: Pages whose browsers may send it; none: it is for servers.
            rate: Requests a second; None: as many as come, of a key for browsers :data:`BROWSER_RATE` an address.
            signing: Whether clients that sign their requests can use it, by its
                :func:`~molar_serving.credentials.signing_token`. That is kept in the clear, and opens nothing else.

        Raises:
            RequestError: If the name is taken or is none, a scope is unknown or too much for browsers, or an origin or
                a rate is none.
        """
        if not name or not name.replace("-", "").isalnum() or not name.isascii():
            raise RequestError(f"{shown(name)} is no name of a key", "use letters, digits and -")
        if rate is not None and not 0 < rate < math.inf:
            raise RequestError(f"{rate} requests a second are no rate", "name more than 0")
        for scope in scopes:
            if scope not in SCOPES:
                raise RequestError(
                    f"there is no scope {scope!r}", suggestion(scope, SCOPES, f"name some of {', '.join(SCOPES)}")
                )
            if origins and scope not in BROWSER:
                raise RequestError(
                    f"a key for browsers cannot have the scope {scope}", f"it can have {' and '.join(BROWSER)}"
                )
        secret = secrets.token_urlsafe(32)
        chosen = tuple(scope for scope in SCOPES if scope in scopes)
        moment = datetime.now(UTC).isoformat(timespec="seconds")
        allowed = tuple(dict.fromkeys(pages.origin(one) for one in origins))
        rate = BROWSER_RATE if rate is None and allowed else rate
        key = f"{PREFIX}{name}_{secret}"
        token = signing_token(key) if signing else ""
        with self._changing() as keys:
            if name in keys:
                raise RequestError(f"there is a key {name} already", "revoke it first, or choose another name")
            keys[name] = Key(name, chosen, digest(secret), allowed, rate, moment, token)
            self._write(keys, made=name, scopes=chosen, origins=allowed, rate=rate, signing=signing)
        return key

    def revoke(self, name: str) -> None:
        """Remove a key; a RequestError if there is none of this name."""
        with self._changing() as keys:
            if keys.pop(name, None) is None:
                raise RequestError(f"there is no key {name}", suggestion(name, keys, "`molar keys list` shows them"))
            self._write(keys, revoked=name)

    def admit(self, request: Request, scope: Scope | None, credentials: Credentials, how: str) -> Key:
        """Who sends a request, if they may; a :class:`ProblemError` if not, which tells ``how`` to send a key.

        A :class:`WrongKeyError` where a key was sent that there is not.
        """
        if (anybody := self.anybody(request)) is not None:
            return anybody
        page = request.headers.get("origin")
        if scope is None:
            return ANYBODY
        if not credentials.name:
            raise ProblemError(401, "no key was sent", how, headers={"WWW-Authenticate": "Bearer"})
        key = self.key_of(credentials, how)
        if page is None and key.of_browsers:
            raise ProblemError(403, f"the key {key.name} is for pages", "send the Origin, as browsers do with POST")
        if page is not None and page not in key.origins:
            remedy = (
                "make one: `molar keys add NAME --origin ORIGIN`; a backend that asks for a page sends no Origin on"
            )
            raise ProblemError(403, f"the key {key.name} is not for pages of {shown(page)}", remedy)
        if scope not in key.scopes:
            raise ProblemError(403, f"the key {key.name} has no scope {scope}", "use one that has")
        return key

    def key_of(self, credentials: Credentials, how: str) -> Key:
        """The key that somebody has proved to have; a :class:`WrongKeyError`, which tells ``how``, if they have not."""
        key = self.keys().get(credentials.name)
        right = credentials.proves(key or Key("", (), _NOBODY_HAS))  # as long for unknown names
        if key is None or not right:
            raise WrongKeyError(how, None if key is None else key.name)
        return key

    def anybody(self, request: Request) -> Key | None:
        """Who asks where there are no keys; None where there are some, so that one must be named.

        A :class:`ProblemError` if there are none and the request is not one of this machine's.
        """
        if self.keys() or self._asked:
            return None
        _of_this_machine(request, request.headers.get("origin"))
        return ANYBODY

    def welcomes(self, page: str) -> bool:
        """Whether scripts of pages of an origin may read answers; whether they may ask is for :meth:`admit` to say."""
        try:
            keys = self.keys()
        except DataError:
            return False
        return any(page in key.origins for key in keys.values()) if self._asked else pages.is_local(page)

    def _read(self) -> dict[str, Key]:
        try:
            text = self.path.read_text("utf-8")
        except FileNotFoundError:
            return {}
        try:
            return {entry["name"]: _key(entry) for entry in json.loads(text)["keys"]}
        except (ValueError, KeyError, TypeError) as error:
            raise DataError(f"{self.path} is damaged: {error}", "remove it and make the keys anew") from error

    @contextmanager
    def _changing(self) -> Iterator[dict[str, Key]]:
        """The keys as the file has them, while nobody else changes them."""
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with wait_beside(self.path):
            yield self._read()

    def _write(self, keys: dict[str, Key], **change: Any) -> None:
        self._audit.write(by=current_user(), **change)
        text = json.dumps({"keys": [asdict(key) for key in keys.values()]}, indent=1) + "\n"
        write_atomically(self.path, text, mode=0o600)


def count_refusal(
    audit: AuditLog, what: Audited, status: int, key: Key | None, wrong: WrongKeyError | None, address: str
) -> None:
    """Have the audit log count a request that was refused before it could change anything."""
    if wrong is not None:
        audit.wrong_key(what, status, address, wrong.tried)
    elif what.changes:
        audit.refuse(None if key is None else key.name or None, what, status)


def _of_this_machine(request: Request, page: str | None) -> None:
    """Refuse what comes by another name than this machine's own, or is sent by a page from elsewhere."""
    remedy = "make a key: `molar keys add`"
    reached = request.scope.get("server")
    called = _host(request.headers.get("host"), reached and tuple(reached), request.scope.get("scheme", "http"))
    if not pages.is_loopback(called):
        raise ProblemError(403, "without keys only this machine is answered, by its own address", remedy)
    if page is not None and not pages.is_local(page):
        raise ProblemError(403, "without keys no pages from elsewhere are answered", remedy)


@lru_cache(maxsize=256)
def _host(sent: str | None, reached: tuple[str, int | None] | None, scheme: str) -> str:
    """What a request calls the machine that it is for; where it does not, the address of the socket."""
    headers = [] if sent is None else [(b"host", sent.encode("latin-1"))]
    return URL(scope={"scheme": scheme, "server": reached, "path": "/", "headers": headers}).hostname or ""


def _key(entry: dict[str, Any]) -> Key:
    lists = {name: tuple(entry[name]) for name in ("scopes", "origins")}
    return Key(**{**entry, **lists})
