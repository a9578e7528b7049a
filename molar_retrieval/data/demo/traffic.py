"""Simulated traffic of the demo shop: visits, reactions to recommendations, changes of the shop.

Users look from the first place downwards, click what suits their hidden taste and buy some of it; half of them also
buy something that they came for. The expected outcome of a list is therefore known exactly: the truth of an experiment.
Items arrive and leave, prices change, items sell out and come back. All of it is events as a shop would send them.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np
import numpy.typing as npt

from molar_retrieval import rng as seeds
from molar_retrieval.data.demo.catalogue import DemoShop, dealt, items_table, liking, traits_of

Floats = npt.NDArray[np.float64]
BEST = 0.99
"""The quantile of a user's likings that counts as what they like best."""


@dataclass(frozen=True)
class UserBehaviour:
    """Behaviour of the demo's users apart from their taste.

    Attributes:
        coming: Share of the users who visit on a day.
        on: Chance that a user who looks at a place looks at the next one.
        click: Chance that a user clicks what they like best.
        warmth: Temperature of clicks: the larger, the more is clicked that they like less.
        buy: Chance that they buy what they clicked.
        own: Chance that they buy something that they came for.
        fame: Weight of an item's popularity in clicks; at 1 as in what they come for.
    """

    coming: float = 0.08
    on: float = 0.9
    click: float = 0.5
    warmth: float = 2.0
    buy: float = 0.4
    own: float = 0.5
    fame: float = 1.0

    def clicks(self, likes: Floats, best: float) -> Floats:
        """The click probability of items that are looked at, by how much they are liked and what is liked best."""
        chances: Floats = self.click * np.minimum(1.0, np.exp((likes - best) / self.warmth))
        return chances


PICKY = UserBehaviour(coming=0.1, own=0.05, fame=0.25, warmth=0.7)
"""Users who buy little without a recommendation and click by taste, so that the ranking matters."""


@dataclass(frozen=True)
class ExpectedOutcome:
    """The expected outcome of a visit, or of a user's visits.

    Attributes:
        clicks: How many.
        converted: How likely anything is bought.
        revenue: What is spent.
    """

    clicks: float
    converted: float
    revenue: float


def expected_visit(
    habits: UserBehaviour, clicks: Floats, prices: Floats, buyable: npt.NDArray[np.bool_], own: tuple[float, float]
) -> ExpectedOutcome:
    """The expected outcome of a visit with a list of recommendations.

    Args:
        habits: Of the people.
        clicks: How likely each of its n items is clicked by somebody who looks at it, first place first, (n,).
        prices: Of the items, (n,).
        buyable: Which of them can be had and were not bought before, (n,).
        own: How likely something is bought that is not from the list, and its price on average.
    """
    looked = habits.on ** np.arange(len(clicks))
    buys = habits.buy * clicks * buyable
    nothing = 1.0
    for chance in buys[::-1].tolist():
        nothing = (1 - chance) * (1 - habits.on + habits.on * nothing)
    return ExpectedOutcome(
        clicks=float(looked @ clicks),
        converted=1 - nothing * (1 - own[0]),
        revenue=float(looked @ (buys * prices)) + own[0] * own[1],
    )


def expected_of(visits: Iterable[ExpectedOutcome]) -> ExpectedOutcome:
    """The expected outcome of several, independent visits."""
    clicks, nothing, revenue = 0.0, 1.0, 0.0
    for visit in visits:
        clicks, revenue = clicks + visit.clicks, revenue + visit.revenue
        nothing *= 1 - visit.converted
    return ExpectedOutcome(clicks, 1 - nothing, revenue)


DAY, MINUTE = 86_400, 60
_OPEN, _CLOSE = 8 * 3_600, 22 * 3_600
_REPRICED, _LEAVING, _STOCKED = 0.03, 0.003, 0.05  # shares of the items on a day; the last ones sell out
_BACK = 2  # days until what was sold out is there again
Event = dict[str, Any]


@dataclass(frozen=True)
class ShopVisit:
    """A visit: the row of the user in the plan, and its time in seconds since 1970."""

    user: int
    at: int


@dataclass(frozen=True)
class VisitOutcome:
    """What came of a visit: events in their order, and the ids of what was bought, from the list and besides."""

    events: Sequence[Event]
    of_list: Sequence[str]
    besides: Sequence[str]


class TrafficSimulator:
    """Simulates the shop and its users from a midnight on; the same arguments and lists give the same events.

    Attributes:
        available: Which items can be had, shape (n_items,).
        arrived: The day on which an item arrived, by its id, counted from 0; none for those that were always there.
    """

    def __init__(self, shop: DemoShop, start: int, days: int, seed: int, habits: UserBehaviour | None = None) -> None:
        self.shop, self.start, self._seed, self.habits = shop, start, seed, habits or UserBehaviour()
        self.available = np.array([not item.cold for item in shop.items])
        self.arrived: dict[str, int] = {}
        self.rows = {item.item_id: row for row, item in enumerate(shop.items)}
        traits = traits_of(shop.items, cold=True)
        self._liking = np.stack([liking(traits, user) for user in shop.users])
        self._tempting = self._liking - (1 - self.habits.fame) * traits["popularity"]
        self._best = np.quantile(self._tempting, BEST, axis=1)
        self._bought = [{purchase.item for purchase in user.purchases} for user in shop.users]
        self._prices = np.array([item.price for item in shop.items])
        self._fields = {row["item_id"]: row for row in items_table(shop).to_pylist()}
        self._left: dict[int, int] = {}  # pieces of what may sell out
        self._returns: dict[int, int] = {}  # day on which what is sold out is there again
        cold = [row for row, item in enumerate(shop.items) if item.cold]
        places = dealt(range(max(1, days - 1)), len(cold), self._random("arrivals"))
        self._arriving = {row: day for row, day in zip(cold, places, strict=True)}

    def morning(self, day: int) -> list[Event]:
        """What changes in the shop before it opens: arrivals, leaving items, prices, what is there again."""
        random, told = self._random("morning", day), []
        for row, arrives in self._arriving.items():
            if arrives == day:
                fields = {key: value for key, value in self._fields[self._id(row)].items() if value is not None}
                told.append((row, "item_upsert", fields))
                self.arrived[self._id(row)] = day
                self.available[row] = True
        for row in [row for row, back in self._returns.items() if back == day]:
            del self._returns[row]
            told.append((row, "item_upsert", {"stock": 20}))
            self.available[row] = True
        old = np.flatnonzero(self.available & [self._id(row) not in self.arrived for row in range(len(self.rows))])
        for row in old[random.random(len(old)) < _LEAVING].tolist():
            told.append((row, "item_withdraw", {}))
            self.available[row] = False
        for row in old[random.random(len(old)) < _REPRICED].tolist():
            price = round(self._fields[self._id(row)]["price"] * float(random.uniform(0.7, 1.2)), 1)
            told.append((row, "item_upsert", {"price": price}))
        for row in old[random.random(len(old)) < _STOCKED].tolist():
            self._left.setdefault(row, int(random.integers(1, 4)))
        at = self.start + day * DAY + _OPEN - 30 * MINUTE
        return [
            self._event(f"m{day}-{n}", kind, at, item_id=self._id(row), **({"data": data} if data else {}))
            for n, (row, kind, data) in enumerate(told)
            if self.available[row] or kind == "item_withdraw"
        ]

    def visits(self, day: int) -> list[ShopVisit]:
        """The visits of a day, in order."""
        random = self._random("visits", day)
        coming = np.flatnonzero(random.random(len(self.shop.users)) < self.habits.coming)
        times = random.integers(_OPEN, _CLOSE, len(coming)) + self.start + day * DAY
        found = [ShopVisit(int(user), int(at)) for user, at in zip(coming, times, strict=True)]
        return sorted(found, key=lambda visit: visit.at)

    def visit(self, visit: ShopVisit, shown: Mapping[str, float | None], request_id: str) -> VisitOutcome:
        """The reaction to a list of recommendations: item ids in order, with their propensities."""
        random, habits = self._random("visit", visit.user, visit.at), self.habits
        clicks = self._clicks(visit.user, [self.rows[item_id] for item_id in shown]).tolist()
        name, at = f"v{visit.user}-{visit.at}", visit.at
        user = self.shop.users[visit.user].sent
        who = user | {"request_id": request_id}
        places = [
            {"item_id": item_id, "position": place, "propensity": chance}
            for place, (item_id, chance) in enumerate(shown.items(), 1)
        ]
        events = [self._event(f"{name}-i", "impression", at, items=places, **who)] if places else []
        of_list = []
        for place, item_id in enumerate(shown, 1):
            row = self.rows[item_id]
            if random.random() < clicks[place - 1]:
                at += int(random.integers(5, 40))
                events.append(self._event(f"{name}-c{place}", "click", at, item_id=item_id, position=place, **who))
                if random.random() < habits.buy and self._take(visit.user, row):
                    at += int(random.integers(20, 90))
                    events.append(self._purchase(f"{name}-p{place}", at, row, position=place, **who))
                    of_list.append(item_id)
            if random.random() > habits.on:
                break
        besides = []
        if random.random() < habits.own and (chances := self.chances(visit.user)).any():
            row = int(random.choice(len(chances), p=chances))
            if self._take(visit.user, row):
                events.append(self._purchase(f"{name}-o", at + int(random.integers(60, 240)), row, **user))
                besides.append(self._id(row))
        events += self._sold_out(name, at + 5 * MINUTE)
        return VisitOutcome(events, of_list, besides)

    def expected(self, user: int, shown: Sequence[str]) -> ExpectedOutcome:
        """What would come of a visit now on average, with a list of item ids, the first one first."""
        rows = [self.rows[item_id] for item_id in shown]
        buyable = np.array([bool(self.available[row]) and row not in self._bought[user] for row in rows], bool)
        chances = self.chances(user)
        own = (self.habits.own, float(chances @ self._prices)) if chances.any() else (0.0, 0.0)
        return expected_visit(self.habits, self._clicks(user, rows), self._prices[rows], buyable, own)

    def chances(self, user: int) -> npt.NDArray[np.float64]:
        """The hidden truth: each item's chance to be the next purchase of a user's own accord, shape (n_items,)."""
        scores = np.where(self.available, self._liking[user], -np.inf)
        scores[list(self._bought[user])] = -np.inf
        weights = np.exp(scores - scores.max()) if np.isfinite(scores).any() else np.zeros(len(scores))
        chances: npt.NDArray[np.float64] = weights / max(weights.sum(), 1e-12)
        return chances

    def _clicks(self, user: int, rows: Sequence[int]) -> npt.NDArray[np.float64]:
        """The click probability of each item of a list, once it is looked at."""
        return self.habits.clicks(self._tempting[user, list(rows)], float(self._best[user]))

    def _take(self, user: int, row: int) -> bool:
        """Whether an item is there to be bought; it is taken then."""
        if not self.available[row] or row in self._bought[user]:
            return False
        self._bought[user].add(row)
        if row in self._left:
            self._left[row] -= 1
        return True

    def _sold_out(self, name: str, at: int) -> list[Event]:
        gone = [row for row, left in self._left.items() if left <= 0]
        for row in gone:
            del self._left[row]
            self.available[row] = False
            self._returns[row] = (at - self.start) // DAY + _BACK
        return [
            self._event(f"{name}-s{row}", "item_upsert", at, item_id=self._id(row), data={"stock": 0}) for row in gone
        ]

    def _purchase(self, name: str, at: int, row: int, **more: Any) -> Event:
        return self._event(name, "purchase", at, item_id=self._id(row), value=self.shop.items[row].price, **more)

    def _event(self, name: str, kind: str, at: int, **more: Any) -> Event:
        return {"event_id": name, "event": kind, "timestamp": datetime.fromtimestamp(at, UTC).isoformat(), **more}

    def _id(self, row: int) -> str:
        return self.shop.items[row].item_id

    def _random(self, *what: object) -> np.random.Generator:
        return seeds.generator(self._seed, "days", *what)
