"""Days in the life of the demo shop: people ask, react, and what they did is in the answers of the next day or sooner.

Each simulated five minutes, what happened is appended to the event log; each night is `molar update`.
"""

import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field, replace
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from markupsafe import Markup

from molar.shop import Shop
from molar_retrieval import limits
from molar_retrieval.data.demo import plan_shop
from molar_retrieval.data.demo.traffic import DAY, MINUTE, ShopVisit, TrafficSimulator
from molar_retrieval.frames import Frame
from molar_retrieval.progress import SILENT
from molar_retrieval.reports.charts import Scale, round_up, tag, tick_label
from molar_retrieval.reports.html import render_page

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from molar_indexes.recommender import Recommender
    from molar_retrieval.data.demo import DemoFacts
    from molar_retrieval.frames import Frame
    from molar_retrieval.progress import Progress
    from molar_retrieval.ranking.results import Recommendations

K = 10
_EACH = 5 * MINUTE
_KNOWN = 3  # purchases that make somebody's lists worth comparing
_PANEL = 50  # people whose lists are compared from morning to morning
WIDTH, HEIGHT = 340, 190
_LEFT, _RIGHT, _TOP, _BOTTOM = 34, 8, 30, 24
_STYLE = """
text { font: 11px system-ui, sans-serif; fill: #5d646c; } .title { font-size: 12px; font-weight: 600; fill: #1a1c1f; }
.base, .tick { stroke: #aeb4bb; } .line { fill: none; stroke-width: 2; } .line.ours { stroke: #0b6b5d; }
.line.other { stroke: #aeb4bb; stroke-dasharray: 4 3; } .dot { fill: #0b6b5d; }
"""
_Line = tuple[str, Sequence[tuple[float, float]]]


@dataclass(frozen=True)
class Day:
    """What a day was like.

    Attributes:
        day: From 1.
        visits: How many people came.
        purchases: What they bought.
        age: Hours from a purchase back to what an answer right after it knows, on average; None: nobody bought.
        visible: Share of the purchases that the next answer for the same person knows of; None: nobody bought.
        gone: Share of the shown places with something that could not be had any more.
        churn: Places of ten that differ from the morning before, of people of whom nothing came; None on the first day.
        arrived: Share of the shown places with items that arrived by an event.
        arrived_items: Share of such items in what can be had.
        ndcg: NDCG@10 of the morning's answers for those who come, by their hidden chances to buy each item.
        update: Seconds of the update of the night before.
    """

    day: int
    visits: int
    purchases: int
    age: float | None
    visible: float | None
    gone: float
    churn: float | None
    arrived: float
    arrived_items: float
    ndcg: float
    update: float


@dataclass(frozen=True)
class DaysReport:
    """Some days, one after the other.

    Attributes:
        days: What each was like.
        exposure: By the days since an item arrived: places that it has a day, as a multiple of an item's share.
    """

    days: Sequence[Day]
    exposure: Mapping[int, float]

    def to_dict(self) -> dict[str, Any]:
        """The same for JSON."""
        return {"days": [asdict(day) for day in self.days], "exposure": {str(k): v for k, v in self.exposure.items()}}

    def to_frame(self) -> "Frame":
        """One row per day."""
        whole = ("day", "visits", "purchases")
        kinds = {name: "int32" if name in whole else "double" for name in Day.__dataclass_fields__}
        return Frame.of([asdict(day) for day in self.days], kinds)

    def write_page(self, path: str | Path) -> Path:
        """Write an HTML page with plots, which needs no other file; where it is."""
        target = Path(path)
        target.write_text(page(self), "utf-8")
        return target


def live_days(shop: Shop, facts: "DemoFacts", days: int, seed: int) -> DaysReport:
    """Let a demo shop live, see :meth:`molar.sources.Demo.live`."""
    limits.whole("days", days, limits.DEMO_DAYS)
    plan = plan_shop(facts.seed, items=facts.items, users=facts.users)
    last = max(purchase.timestamp for user in plan.users for purchase in user.purchases)
    life = TrafficSimulator(plan, (last // DAY + 1) * DAY, days, seed)
    with shop.progress() as progress, shop.recommender() as recommender:
        return _Run(replace(shop, display=_silent), life, recommender).through(days, progress)


def _silent() -> "AbstractContextManager[Progress]":
    return nullcontext(SILENT)


class _Run:
    def __init__(self, shop: Shop, life: TrafficSimulator, recommender: "Recommender") -> None:
        self._shop, self._life, self._recommender = shop, life, recommender
        users = life.shop.users
        self._panel = [row for row, user in enumerate(users) if len(user.purchases) >= _KNOWN][:_PANEL]
        self._lists: dict[int, list[str]] = {}  # of this morning, of the panel
        self._acted: set[int] = set()  # since this morning
        self._places: Counter[int] = Counter()  # by the age of what arrived
        self._due: dict[int, float] = defaultdict(float)  # places that as many other items would have had

    def through(self, days: int, progress: "Progress") -> DaysReport:
        """All days."""
        progress.start("living through the days", days)
        found = []
        for day in range(days):
            found.append(self._day(day))
            progress.advance()
        progress.finish()
        exposure = {age: self._places[age] / due for age, due in sorted(self._due.items()) if due}
        return DaysReport(found, exposure)

    def _day(self, number: int) -> Day:
        life = self._life
        self._append(life.morning(number))
        began = time.perf_counter()
        self._shop.update()
        update = time.perf_counter() - began
        churn, visits = self._churn(), life.visits(number)
        ndcg = [self._ndcg(visit.user) for visit in visits]
        day = _Shown()
        for together in _by_minutes(visits):
            self._five_minutes(together, life.start + number * DAY, day)
        self._count_ages(number, day)
        known = [seen for _, seen in day.bought]
        return Day(
            day=number + 1,
            visits=len(visits),
            purchases=day.purchases,
            age=_mean([0.0 if seen else hours for hours, seen in day.bought]),
            visible=_mean(known),
            gone=day.gone / max(len(day.places), 1),
            churn=churn,
            arrived=sum(item_id in life.arrived for item_id in day.places) / max(len(day.places), 1),
            arrived_items=len(life.arrived) / int(life.available.sum()),
            ndcg=_mean(ndcg) or 0.0,
            update=update,
        )

    def _five_minutes(self, visits: Sequence[ShopVisit], midnight: int, day: "_Shown") -> None:
        """People come, what they do is appended, and those who bought something are asked about again."""
        events: list[Mapping[str, Any]] = []
        bought: list[tuple[ShopVisit, str]] = []
        for visit in visits:
            answer = self._answer(visit.user)
            shown = {item.item_id: item.propensity for item in answer.items}
            day.places += shown
            day.gone += sum(not self._life.available[self._life.rows[item_id]] for item_id in shown)
            visited = self._life.visit(visit, shown, answer.request_id)
            events += visited.events
            bought += [(visit, item_id) for item_id in (*visited.of_list, *visited.besides)]
            self._acted.add(visit.user)
        self._append(events)
        day.purchases += len(bought)
        for visit, item_id in bought:
            if self._life.available[self._life.rows[item_id]]:
                day.bought.append(((visit.at - midnight) / 3_600, self._knows(visit.user, item_id)))

    def _answer(self, user: int, **more: Any) -> "Recommendations":
        return self._recommender.query(self._life.shop.users[user].user_id, **{"k": K, **more})

    def _knows(self, user: int, item_id: str) -> bool:
        """Whether an answer of now knows that somebody has an item: it is hidden from them."""
        answer = self._answer(user, k=1, candidates=[item_id])
        return answer.basis != "popularity" and not answer.items

    def _churn(self) -> float | None:
        """Places of ten that changed since the morning before, of people of whom nothing came."""
        former, self._lists = self._lists, {user: self._ids(user) for user in self._panel}
        acted, self._acted = self._acted, set()
        return _mean([len(set(self._lists[user]) - set(ids)) for user, ids in former.items() if user not in acted])

    def _ids(self, user: int) -> list[str]:
        return [item.item_id for item in self._answer(user, explore=False).items]

    def _ndcg(self, user: int) -> float:
        chances = self._life.chances(user)
        weights = 1 / np.log2(np.arange(2, K + 2))
        gains = chances[[self._life.rows[item_id] for item_id in self._ids(user)]]
        return float(gains @ weights[: len(gains)] / (np.sort(chances)[::-1][:K] @ weights))

    def _count_ages(self, number: int, day: "_Shown") -> None:
        there = int(self._life.available.sum())
        for item_id, arrived in self._life.arrived.items():
            if self._life.available[self._life.rows[item_id]]:
                self._due[number - arrived] += len(day.places) / there
                self._places[number - arrived] += day.places.count(item_id)

    def _append(self, events: Sequence[Mapping[str, Any]]) -> None:
        if events and (report := self._shop.events.append(events)).refused:
            raise AssertionError(f"an event of the demo was refused: {report.refusals[0]}")


@dataclass
class _Shown:
    """What a day showed: the item of each place, how many of them could not be had, what was bought and known."""

    places: list[str] = field(default_factory=list)
    gone: int = 0
    purchases: int = 0
    bought: list[tuple[float, bool]] = field(default_factory=list)  # hours since midnight; known to the next answer


def _by_minutes(visits: Sequence[ShopVisit]) -> Iterator[list[ShopVisit]]:
    for _, together in groupby(visits, key=lambda visit: visit.at // _EACH):
        yield list(together)


def _mean(values: Sequence[float]) -> float | None:
    return float(np.mean(values)) if len(values) else None


def page(report: DaysReport) -> str:
    """The page."""
    return render_page("molar", "days.html.jinja", style="days.css", days=report.days, plots=plots(report))


def picture(report: DaysReport) -> str:
    """The plots as one picture, which brings its style."""
    shown, across = plots(report), 2
    placed = [
        tag("svg", plot, x=n % across * (WIDTH + 20), y=n // across * (HEIGHT + 16), width=WIDTH, height=HEIGHT)
        for n, plot in enumerate(shown)
    ]
    wide, high = across * (WIDTH + 20), -(-len(shown) // across) * (HEIGHT + 16)
    return str(
        tag(
            "svg",
            tag("style", Markup(_STYLE)),
            tag("rect", width=wide, height=high, fill="#fff"),
            *placed,
            xmlns="http://www.w3.org/2000/svg",
            viewBox=f"0 0 {wide} {high}",
        )
    )


def plots(report: DaysReport) -> list[Markup]:
    """Freshness, churn, exposure by day and by age, NDCG."""

    def by_day(value: Callable[[Day], float | None]) -> list[tuple[float, float]]:
        return [(day.day, found) for day in report.days if (found := value(day)) is not None]

    shares = [
        ("of the places", by_day(lambda day: 100 * day.arrived)),
        ("of the items", by_day(lambda day: 100 * day.arrived_items)),
    ]
    ages = [(float(age), times) for age, times in report.exposure.items()]
    return [
        _plot("Purchases that the next answer knows, %", [("", by_day(lambda day: day.visible and 100 * day.visible))]),
        _plot("Hours back to what answers know", [("", by_day(lambda day: day.age))]),
        _plot("Places of ten changed, nothing having come", [("", by_day(lambda day: day.churn))]),
        _plot("What arrived, % of the places and of the items", shares),
        _plot("Places of an arrival by its days, 1: as any item", [("", ages), ("", [(age, 1.0) for age, _ in ages])]),
        _plot("NDCG@10 against the hidden tastes", [("", by_day(lambda day: day.ndcg))]),
    ]


def _plot(title: str, lines: Sequence[_Line]) -> Markup:
    """Lines over days; the first one is ours, a second one what it is compared with."""
    values = [y for _, points in lines for _, y in points]
    days = [x for _, points in lines for x, _ in points]
    x = Scale(min(days, default=0), max(days, default=1), _LEFT + 6, WIDTH - _RIGHT)
    y = Scale(0, round_up(values), HEIGHT - _BOTTOM, _TOP)
    parts = [tag("text", title, x=0, y=14, class_="title")]
    parts.append(tag("line", x1=_LEFT, x2=WIDTH - _RIGHT, y1=y.start, y2=y.start, class_="base"))
    for value in y.ticks(4):
        parts.append(tag("text", tick_label(value), x=_LEFT - 4, y=y(value) + 4, text_anchor="end"))
    for value in [one for one in x.ticks(7) if one == int(one)]:
        parts.append(tag("text", tick_label(value), x=x(value), y=HEIGHT - 6, text_anchor="middle"))
    for (name, points), kind in zip(lines, ("ours", "other"), strict=False):
        path = " ".join(f"{x(a):.1f},{y(b):.1f}" for a, b in points)
        parts.append(tag("polyline", points=path, class_=f"line {kind}"))
        if kind == "ours":
            hints = [(f"{name} day {a:g}: {b:.3g}".strip(), a, b) for a, b in points]
            parts += [tag("circle", tag("title", hint), cx=x(a), cy=y(b), r=3, class_="dot") for hint, a, b in hints]
    return tag("svg", tag("title", title), *parts, viewBox=f"0 0 {WIDTH} {HEIGHT}", class_="plane", role="img")
