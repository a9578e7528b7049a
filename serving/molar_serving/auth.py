"""Who may ask what: keys with scopes, kept as hashes in ``WORKSPACE/serving/keys.json``.

Without any key everything is allowed, to this machine alone: the server then listens on a loopback address and answers
requests that name one, so that no page in a browser reaches it by a name of its own (DNS rebinding), and none that a
page from elsewhere sends (cross-site request forgery).

Browsers say with a request which page sends it (``Origin``), and no script can change that. A key for browsers is good
for its own pages alone; a key for servers is refused where a page sends it, because it is in the wrong place there.

How often who may ask: a token bucket for each key, kept as one moment (the generic cell rate algorithm).

A key of a server has one bucket. A key for browsers is told to everybody, so each address has its own of it: nobody can
use up what the others have. A bucket holds what a second brings, at least one request. Wrong keys have buckets, too,
one for each address and one for all.

What a page is told of people: nothing by which it could tell those whom the shop knows from those whom it does not.

A key for browsers can be read by everybody, and a user id can be guessed. The list itself differs, of course: whoever
knows an id gets the list of this person, and can draw conclusions from it. Nothing else differs: not what is said about
the list, not why an item is in it (which would name what the person took), not the time that it takes.
"""

import asyncio
import hmac
import json
import math
import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import lru_cache
from hashlib import sha256
from ipaddress import IPv6Address, ip_address
from pathlib import Path
from typing import Any, Literal, get_args
from urllib.parse import urlsplit

from starlette.datastructures import URL
from starlette.requests import Request
from starlette.responses import Response

from molar_retrieval.errors import DataError, RequestError, shown, suggestion
from molar_retrieval.workspace.activity_log import current_user
from molar_retrieval.workspace.files import file_stamp, wait_beside, write_atomically
from molar_serving import problems
from molar_serving.audit import FOLDER, Audited, AuditLog
from molar_serving.problems import ProblemError
from molar_serving.wire import ListAnswer

PREFIX = "molar_"
Scope = Literal["answer", "events", "catalogue", "rules", "studio", "admin"]
SCOPES: tuple[Scope, ...] = get_args(Scope)
BROWSER: tuple[Scope, ...] = ("answer", "events")
"""What a key may allow that is told to browsers."""
BROWSER_RATE = 10.0
"""Requests a second from one address by a key for browsers, where nothing else is said."""
_ADDRESSES = 100_000  # that are remembered; one that is forgotten has a full bucket again
_WRONG, _WRONG_AT_ONCE = 0.5, 20.0  # wrong keys a second from one address, and at once
_WRONG_OF_ALL, _WRONG_OF_ALL_AT_ONCE = 20.0, 500.0  # the same from all addresses
_EXACT = 1e-6  # seconds that do not count: sums of fractions
STEP = 0.025
"""Seconds: answers to pages leave at multiples of it. A list takes less, of somebody who is known or not."""


@dataclass(frozen=True)
class Credentials:
    """Whose key a request names, and what it proves it with.

    Attributes:
        name: The name of the key.
        proves: Whether the request bears out that it has this key; asked of an empty key where there is none of the
            name, so that it takes as long.
    """

    name: str
    proves: Callable[["Key"], bool]


@dataclass(frozen=True)
class Dialect:
    """What a kind of client sends and understands.

    Attributes:
        credentials: Finds them in a request and, where ``reads_body``, its body.
        how: What to send, for those who have sent no key.
        refusal: A problem as these clients read one; the second argument is the id of the request.
        reads_body: Whether it takes the body to find them, which is then read before anybody is admitted.
    """

    credentials: Callable[[Request, bytes], Credentials]
    how: str
    refusal: Callable[[ProblemError, str], Response]
    reads_body: bool = False


def of_key(sent: str) -> Credentials:
    """Those of somebody who sends the key itself."""
    name, _, secret = sent.strip().removeprefix(PREFIX).partition("_")
    return Credentials(name, lambda key: hmac.compare_digest(key.digest, digest(secret)))


def digest(secret: str) -> str:
    """What is kept of a secret."""
    return sha256(secret.encode()).hexdigest()


def signing_token(key: str) -> str:
    """What clients that sign their requests sign with, by a key as it is told once."""
    return digest(f"signing {key.removeprefix(PREFIX).partition('_')[2]}")


_NONE = of_key("")


def _bearer(request: Request, body: bytes) -> Credentials:
    kind, _, sent = request.headers.get("authorization", "").partition(" ")
    return of_key(sent) if kind.lower() == "bearer" else _NONE


OURS = Dialect(_bearer, "send Authorization: Bearer KEY", problems.response)


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
                :func:`~molar_serving.auth.signing_token`. That is kept in the clear, and opens nothing else.

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
        allowed = tuple(dict.fromkeys(origin(one) for one in origins))
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
        return any(page in key.origins for key in keys.values()) if self._asked else is_local(page)

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
    if not is_loopback(called):
        raise ProblemError(403, "without keys only this machine is answered, by its own address", remedy)
    if page is not None and not is_local(page):
        raise ProblemError(403, "without keys no pages from elsewhere are answered", remedy)


@lru_cache(maxsize=256)
def _host(sent: str | None, reached: tuple[str, int | None] | None, scheme: str) -> str:
    """What a request calls the machine that it is for; where it does not, the address of the socket."""
    headers = [] if sent is None else [(b"host", sent.encode("latin-1"))]
    return URL(scope={"scheme": scheme, "server": reached, "path": "/", "headers": headers}).hostname or ""


def _key(entry: dict[str, Any]) -> Key:
    lists = {name: tuple(entry[name]) for name in ("scopes", "origins")}
    return Key(**{**entry, **lists})


def origin(text: str) -> str:
    """An origin as browsers write it (RFC 6454): scheme, host and, where it is not the usual one, port.

    Raises:
        RequestError: If it is none, or has more than an origin: a path, a name, a star.
    """
    remedy = "name scheme and host, as https://shop.example"
    try:
        parts = urlsplit(text.strip())
        host, port = (parts.hostname or "").encode("idna").decode(), parts.port
    except ValueError as error:
        raise RequestError(f"{shown(text)} is no origin of pages: {error}", remedy) from error
    more = parts.path.strip("/") or parts.query or parts.fragment or "@" in parts.netloc
    if parts.scheme not in ("http", "https") or not host or "*" in host or more:
        raise RequestError(f"{shown(text)} is no origin of pages", remedy)
    place = f"[{host}]" if ":" in host else host
    usual = port is None or port == {"http": 80, "https": 443}[parts.scheme]
    return f"{parts.scheme}://{place}" if usual else f"{parts.scheme}://{place}:{port}"


def is_of_host(sent: str, host: str) -> bool:
    """Whether a page is of the host that a request names in ``Host``; the scheme may be another one before a proxy."""
    try:
        page, own = urlsplit(sent), urlsplit(f"//{host}")
        usual = {"http": 80, "https": 443}[page.scheme]
        return page.hostname is not None and (page.hostname, page.port or usual) == (own.hostname, own.port or usual)
    except (ValueError, KeyError):
        return False


def is_local(sent: str) -> bool:
    """Whether a page is of this machine; one without an address, as of a file, is not (``null``)."""
    try:
        return is_loopback(urlsplit(sent).hostname or "")
    except ValueError:
        return False


@lru_cache(maxsize=256)
def is_loopback(host: str) -> bool:
    """Whether a host of an address or a header is this machine."""
    if host == "localhost":
        return True
    try:
        return ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


class RateLimits:
    """The buckets of one process, which has its share of each rate.

    Args:
        workers: Processes that share the rates.
    """

    def __init__(self, workers: int = 1) -> None:
        self._workers = workers
        self._keys, self._wrong = _Buckets(), _Buckets()

    def wait(self, key: Key, address: str) -> float:
        """Seconds until a request may come again; 0: this one may, and is counted."""
        if key.rate is None:
            return 0.0
        who = key.name, _network(address) if key.of_browsers else ""
        return self._keys.wait(who, key.rate / self._workers, max(1.0, key.rate))

    def refusal(self, wrong: WrongKeyError, address: str) -> ProblemError:
        """How a wrong key is refused: too many from one address, or from all, are answered 429.

        Right keys do not come here: nobody can lock out their owners. No thread waits.
        """
        shares = {
            ("", _network(address)): (_WRONG, _WRONG_AT_ONCE),
            ("all", ""): (_WRONG_OF_ALL, _WRONG_OF_ALL_AT_ONCE),
        }
        wait = 0.0
        for who, (rate, most) in shares.items():
            wait = wait or self._wrong.wait(who, rate / self._workers, max(1.0, most / self._workers))
        if not wait:
            return wrong
        seconds = math.ceil(wait)
        return ProblemError(
            429, "too many wrong keys were sent", f"ask again in {seconds} s", headers={"Retry-After": str(seconds)}
        )


class _Buckets:
    """Token buckets, each kept as the moment at which it would be full again."""

    def __init__(self) -> None:
        self._due: OrderedDict[tuple[str, str], float] = OrderedDict()

    def wait(self, who: tuple[str, str], rate: float, most: float) -> float:
        """Seconds until ``who`` may come again, at a rate a second, ``most`` at once; 0: now, and it is counted."""
        apart, now = 1 / rate, time.monotonic()
        due = max(now, self._due.pop(who, now))
        early = due - now - (most - 1) * apart
        refused = early > _EXACT
        self._due[who] = due if refused else due + apart  # who is refused does not wait longer by asking
        if len(self._due) > _ADDRESSES:
            self._due.popitem(last=False)
        return early if refused else 0.0


def client_of(request: Request) -> str:
    """The address from which a request comes; empty where it is not known."""
    return request.client.host if request.client else ""


def _network(address: str) -> str:
    """An address, or of IPv6 the part of it that a household has: it may choose the rest."""
    try:
        known = ip_address(address)
    except ValueError:
        return address
    if isinstance(known, IPv6Address):
        return address if known.ipv4_mapped else str(int(known) >> 64)
    return address


_TELLING = {
    "explain": (False, "what the user took"),
    "fallback": ("popular", "whether the user is known"),
    "context": ("auto", "whether the user was here within half an hour"),
    "as_of": (None, "when the user did something"),
}
"""Of options of a query the default, and what others would tell a page."""


def check_reasons(key: Key, asked: Any) -> None:
    """Raise a ProblemError where a page asks, by a ``user_id``, for what would tell of the user's past."""
    if key.of_browsers and getattr(asked, "user_id", None) is not None:
        for name, (usual, told) in _TELLING.items():
            if getattr(asked, name, usual) != usual:
                words = f"pages may not set {name} for a user_id: it would tell {told}"
                raise ProblemError(403, words, "ask with anonymous_id or session, or from a backend", field=name)


def redact_for_pages(told: ListAnswer) -> ListAnswer:
    """What a page is told of a list: the items, and what was asked for of them."""
    told.basis = told.known = told.shortfall = None
    told.notes, told.milliseconds = [], {}
    for item in told.items:
        item.score = item.parts = item.rule = item.propensity = None
    return told


async def equalise_time(began: float, deadline: float | None) -> None:
    """Wait for the next multiple of :data:`STEP` since a request began, unless that would be too late.

    ``began`` and ``deadline`` are on the clock of ``time.perf_counter``.
    """
    now = time.perf_counter()
    rest = STEP - (now - began) % STEP
    if deadline is None or now + rest < deadline:
        await asyncio.sleep(rest)
