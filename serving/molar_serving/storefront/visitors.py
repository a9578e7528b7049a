"""Made-up visitors of the demo shop, who look, click and buy by their hidden tastes.

They use the HTTP API alone, as the pages of a shop would: they ask for a list, send what they did with it, and ask
again. What they like is the truth behind the demo shop (:mod:`molar_retrieval.data.demo`), which the server never sees.
"""

import secrets
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any
from uuid import uuid4

import httpx

from molar_retrieval import rng as seeds
from molar_retrieval.data.demo import DemoShop
from molar_retrieval.data.demo.traffic import ShopVisit, TrafficSimulator
from molar_retrieval.data.demo.vocabulary import PATTERNS
from molar_serving.storefront.feed import Feed

PLACES = 8
"""Items of a list."""
_NAMES = ("Mila", "Jonas", "Aiko", "Tomás", "Priya", "Emil", "Zuri", "Noor")
_KNOWN, _ANONYMOUS = 5, 2  # visitors with purchases; those of whom nobody has heard
_PURCHASES = 4  # that somebody has who is known
_PACE = 1.2  # seconds from one event to the next, about
_LATER = (503, 507)  # too busy, or no room on the disk: others come later
_AGAIN = 0.5  # seconds until a server that does not answer yet is asked again


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
