"""What happened in the demo shop, for its page: the latest events, numbered.

Made-up visitors of the demo shop, who look, click and buy by their hidden tastes.

They use the HTTP API alone, as the pages of a shop would: they ask for a list, send what they did with it, and ask
again. What they like is the truth behind the demo shop (:mod:`molar_retrieval.data.demo`), which the server never sees.
"""

import secrets
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib import resources
from itertools import zip_longest
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
from msgspec import Struct
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from molar.sources import Demo
from molar_retrieval import rng as seeds
from molar_retrieval.data.demo import DemoShop, plan_shop
from molar_retrieval.data.demo.catalogue import items_table
from molar_retrieval.data.demo.traffic import DAY, ShopVisit, TrafficSimulator
from molar_retrieval.data.demo.vocabulary import PATTERNS
from molar_retrieval.errors import SettingsError
from molar_serving.auth import Keyring, is_loopback
from molar_serving.observability import log_warnings
from molar_serving.server import answer, bound, prepare
from molar_serving.wire import encode

_KEPT = 200  # of what happened last
PLACES = 8
"""Items of a list."""
_NAMES = ("Mila", "Jonas", "Aiko", "Tomás", "Priya", "Emil", "Zuri", "Noor")
_KNOWN, _ANONYMOUS = 5, 2  # visitors with purchases; those of whom nobody has heard
_PURCHASES = 4  # that somebody has who is known
_PACE = 1.2  # seconds from one event to the next, about
_LATER = (503, 507)  # too busy, or no room on the disk: others come later
_AGAIN = 0.5  # seconds until a server that does not answer yet is asked again
_KINDS = {".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
_BEFORE = 6  # of what somebody bought last, shown
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self';"
    " connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none';"
    " require-trusted-types-for 'script'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}
HOST = "127.0.0.1"
_PATIENCE = 10.0  # seconds that a visitor waits for an answer
_VISITS = 2_000  # at most


class Act(Struct, kw_only=True):
    """Something that a visitor did, and what came of it.

    Attributes:
        n: Its number, from 1.
        who: The visitor.
        event: What was done: ``impression``, ``click`` or ``purchase``.
        item_id: With which item; None where a list was only looked at.
        changed: Places of the visitor's list that show another item since; None where nobody asked.
        milliseconds: From the event that was sent to the new list that came; None likewise.
    """

    n: int
    who: str
    event: str
    item_id: str | None = None
    changed: int | None = None
    milliseconds: float | None = None


class Feed:
    """What happened last; written by the visitors' thread and read by the server's."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kept: deque[Act] = deque(maxlen=_KEPT)
        self._n = 0

    def add(
        self,
        who: str,
        event: str,
        item_id: str | None = None,
        *,
        changed: int | None = None,
        milliseconds: float | None = None,
    ) -> None:
        """Something more happened."""
        with self._lock:
            self._n += 1
            self._kept.append(
                Act(n=self._n, who=who, event=event, item_id=item_id, changed=changed, milliseconds=milliseconds)
            )

    def since(self, n: int) -> list[Act]:
        """What happened after number ``n``, in order, as far as it is kept."""
        with self._lock:
            return [one for one in self._kept if one.n > n]


@dataclass(frozen=True)
class Person:
    """A visitor.

    Attributes:
        name: How the page calls them.
        user: The row of the plan's user whose tastes they have.
        sent: Who they are to the server: a ``user_id``, or an ``anonymous_id`` that it has never seen.
    """

    name: str
    user: int
    sent: Mapping[str, str]


def cast(shop: DemoShop) -> tuple[Person, ...]:
    """Who visits: some that bought before and like different patterns, one who never bought, and strangers."""
    keen: dict[str, list[int]] = {pattern: [] for pattern in PATTERNS}
    for row, user in enumerate(shop.users):
        if user.pattern and user.story and len(user.purchases) >= _PURCHASES:
            keen[user.pattern].append(row)
    mixed = [row for together in zip_longest(*keen.values()) for row in together if row is not None]
    new = [row for row, user in enumerate(shop.users) if not user.purchases]
    known = [*mixed[:_KNOWN], *new[:1]]
    strangers = mixed[_KNOWN : _KNOWN + _ANONYMOUS]
    sent = [{"user_id": shop.users[row].user_id} for row in known]
    sent += [{"anonymous_id": f"visitor-{secrets.token_hex(4)}"} for _ in strangers]
    rows = [*known, *strangers]
    return tuple(Person(name, row, who) for name, row, who in zip(_NAMES, rows, sent, strict=False))


class Visitors:
    """People who visit a shop over HTTP, one after the other.

    Args:
        client: Of the server.
        life: What the people of the demo do with what they are shown.
        people: Who visits.
        feed: Is told what happens.
        seed: Another seed makes others come first.
        pace: Seconds from one event to the next, on average.
    """

    def __init__(
        self,
        client: httpx.Client,
        life: TrafficSimulator,
        people: Sequence[Person],
        feed: Feed,
        *,
        seed: int = 7,
        pace: float = _PACE,
    ) -> None:
        self._client, self._life, self._people, self._feed = client, life, people, feed
        self._who, self._when = (seeds.generator(seed, "storefront", what) for what in ("who", "when"))
        self._pace = pace
        self._ended = threading.Event()

    def stop(self) -> None:
        """Nobody does anything more."""
        self._ended.set()

    def until_ready(self) -> bool:
        """Wait until the server answers; False where it ends before."""
        while not self._ended.wait(_AGAIN):
            with suppress(httpx.TransportError):  # it does not listen yet
                if self._client.get("/health/ready").status_code == 200:
                    return True
        return False

    def run(self, seconds: float, visits: int) -> None:
        """ShopVisit for so long, and so often, at most."""
        end = time.monotonic() + seconds
        while visits > 0 and time.monotonic() < end and not self._ended.is_set():
            visits -= 1
            person = self._people[int(self._who.integers(len(self._people)))]
            try:
                self.visit(person)
            except httpx.HTTPStatusError as error:
                if error.response.status_code not in _LATER:
                    raise
                self._ended.wait(_AGAIN)

    def visit(self, person: Person) -> None:
        """Somebody asks for a list, does something with it, and sees it change."""
        told = self._list(person)
        places = {item["item_id"]: item["propensity"] for item in told["items"]}
        visited = self._life.visit(ShopVisit(person.user, int(time.time())), places, told["recommendation_id"])
        shown = list(places)
        for event in visited.events:
            if self._ended.is_set():
                return
            shown = self._act(person, event, shown)
            self._ended.wait(self._pace * float(self._when.uniform(0.5, 1.5)))

    def _act(self, person: Person, event: Mapping[str, Any], shown: list[str]) -> list[str]:
        """Send an event, of now; what is shown next, which is asked for where more was done than to look."""
        sent = {name: value for name, value in event.items() if name not in ("timestamp", "user_id")}
        began = time.perf_counter()
        seq = self._post("/v1/events", {**sent, **person.sent, "event_id": uuid4().hex})["seq"]
        if event["event"] == "impression":
            self._feed.add(person.name, "impression")
            return shown
        latest = [item["item_id"] for item in self._list(person, wait_for=seq)["items"]]
        milliseconds = 1_000 * (time.perf_counter() - began)
        changed = sum(item_id not in shown for item_id in latest)
        self._feed.add(person.name, event["event"], event["item_id"], changed=changed, milliseconds=milliseconds)
        return latest

    def _list(self, person: Person, **more: Any) -> Any:
        return self._post("/v1/recommendations", {**person.sent, "k": PLACES, **more})

    def _post(self, path: str, body: Mapping[str, Any]) -> Any:
        answer = self._client.post(path, json=body)
        answer.raise_for_status()
        return answer.json()


class Storefront:
    """The page of a demo shop: its files, its catalogue, its photos, and what its visitors did.

    Args:
        folder: The shop's catalogue, with its photos.
        plan: What it sells, and what its people like.
        people: Who visits.
        feed: What they did.
        until: When they leave, in seconds since 1970.
    """

    def __init__(self, folder: Path, plan: DemoShop, people: Sequence[Person], feed: Feed, until: float) -> None:
        self._feed, self._until = feed, until
        rows = items_table(plan).to_pylist()
        self._photos = {row["item_id"]: folder / row["image"] for row in rows if row["image"] is not None}
        shop = {"places": PLACES, "items": [_item(row) for row in rows], "people": [_told(plan, one) for one in people]}
        parts = resources.files(__package__) / "static"
        self._files = {file.name: (file.read_bytes(), _KINDS[Path(file.name).suffix]) for file in parts.iterdir()}
        self._files["shop.json"] = (encode(shop), "application/json")

    @property
    def routes(self) -> list[Route]:
        """What is added to the routes of the server."""
        return [
            Route("/", self._page),
            Route("/shop/feed", self._happened),
            Route("/shop/photos/{item_id}", self._photo),
            Route("/shop/{name}", self._file),
        ]

    async def _page(self, request: Request) -> Response:
        return _reply(request, *self._files["shop.html"])

    async def _file(self, request: Request) -> Response:
        found = self._files.get(request.path_params["name"])
        return _reply(request, b"", status=404) if found is None else _reply(request, *found)

    async def _photo(self, request: Request) -> Response:
        path = self._photos.get(request.path_params["item_id"])
        if path is None:
            return _reply(request, b"", status=404)
        return _reply(request, path.read_bytes(), "image/jpeg", cache="max-age=3600")

    async def _happened(self, request: Request) -> Response:
        after = request.query_params.get("after", "0")
        happened = self._feed.since(int(after) if after.isdecimal() else 0)
        return _reply(request, encode({"happened": happened, "until": self._until}), "application/json")


def _reply(
    request: Request, content: bytes, kind: str = "text/plain", *, status: int = 200, cache: str = "no-cache"
) -> Response:
    """A part of the page, for browsers of this machine that name it as such."""
    if not is_loopback(request.url.hostname or ""):
        content, kind, status = b"this shop is for this machine alone", "text/plain", 403
    return Response(content, status, {**_HEADERS, "Cache-Control": cache}, kind)


def _item(row: Mapping[str, Any]) -> dict[str, Any]:
    shown = {name: row[name] for name in ("item_id", "title", "description", "price", "category")}
    return {**shown, "photo": row["image"] is not None}


def _told(plan: DemoShop, person: Person) -> dict[str, Any]:
    """A visitor as the page shows them, with the tastes that the server does not know."""
    user = plan.users[person.user]
    tastes = [user.pattern, None if user.story is None else user.story.replace("_", " "), user.colour]
    known = "user_id" in person.sent
    bought = [plan.items[purchase.item].item_id for purchase in user.purchases[-_BEFORE:]] if known else []
    likes = [taste for taste in tastes if taste is not None]
    return {"name": person.name, "sent": person.sent, "likes": likes, "bought": bought[::-1]}


def open_shop(
    demo: Demo,
    listening: Callable[[str], None],
    ready: Callable[[str], None],
    *,
    minutes: float = 10,
    port: int = 0,
    seed: int = 7,
) -> None:
    """Open a demo shop, which must be aligned, to this machine's browser, until the process is told to end.

    Args:
        demo: The shop.
        listening: Called with the page's address once it listens.
        ready: Called with it once lists are answered, by another thread.
        minutes: How long the visitors stay.
        port: The port; 0: any that is free.
        seed: Another seed makes other visits.

    Raises:
        SettingsError: If the shop has keys, as its page has none, or the port is taken.
    """
    if Keyring(demo.shop.opened().root).keys():
        raise SettingsError("the page of the demo shop asks without a key, and there are keys", "`molar keys revoke`")
    prepare()
    log_warnings(demo.shop.workspace)
    plan, feed = plan_shop(demo.facts.seed, items=demo.facts.items, users=demo.facts.users), Feed()
    people, now = cast(plan), time.time()
    page = Storefront(demo.facts.folder, plan, people, feed, now + 60 * minutes)
    settings = demo.shop.settings
    plain = settings.serve.model_copy(update={"certificate": None, "private_key": None})
    settings = settings.model_copy(update={"serve": plain})
    with bound(HOST, port) as sock:
        address = f"http://{HOST}:{sock.getsockname()[1]}"
        listening(address)
        with httpx.Client(base_url=address, timeout=_PATIENCE, trust_env=False) as client:
            visitors = Visitors(client, TrafficSimulator(plan, int(now) // DAY * DAY, 1, seed), people, feed, seed=seed)

            def visit() -> None:
                with suppress(httpx.TransportError):  # the server has ended
                    if visitors.until_ready():
                        ready(address)
                        visitors.run(60 * minutes, _VISITS)

            thread = threading.Thread(target=visit, name="visitors", daemon=True)
            thread.start()
            try:
                answer(demo.shop, settings, sock, (signal.SIGTERM, signal.SIGINT), page.routes)
            finally:
                visitors.stop()
                thread.join(_PATIENCE)
