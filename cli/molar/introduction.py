"""A staged introduction on the demo shop, from lists that nobody sees to lists for everybody, in simulated days.

People are assigned, answered and put on record by the code of a server, decisions are those of
:class:`molar.experiments.Experiments`, and all of it goes by the clock of the simulation. A merchant, who agrees each
evening to what is proposed, is simulated too. As the tastes are known, so is what an estimate should have been.
"""

import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, nullcontext
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

from molar.planted import EstimateBesideTruth, PlantedTruth
from molar_retrieval import limits
from molar_retrieval.data.demo import plan_shop
from molar_retrieval.data.demo.catalogue import with_visitors
from molar_retrieval.data.demo.traffic import DAY, PICKY, ShopVisit, TrafficSimulator
from molar_retrieval.errors import RequestError
from molar_retrieval.experiments.definition import CONTROL, EVERYBODY, SHADOW, STOPPED, TREATMENT, Experiment
from molar_retrieval.experiments.store import ExperimentStore
from molar_retrieval.progress import SILENT

if TYPE_CHECKING:
    from molar.shop import Shop
    from molar_eval.experiments.arms import ListWanted
    from molar_eval.experiments.results import ExperimentResults
    from molar_eval.experiments.routing import Experimenting, GivenList
    from molar_indexes.recommender import Recommender
    from molar_retrieval.data.demo import DemoFacts, Shopper
    from molar_retrieval.experiments.records import StageRow
    from molar_retrieval.progress import Progress
    from molar_retrieval.ranking.results import Recommendations

VISITORS = 1_800
"""Anonymous people beside those that the demo shop knows."""
CLEARANCE = "brand = 'Norrvik' and price < 60"
PUSH: Mapping[str, Any] = {"rule": [{"require": CLEARANCE}]}
"""Rules that a shop may have, and that cost it: lists show nothing but what it wants to be rid of."""
MERCHANT = "the merchant"
K = 10
_EACH = 7_200  # seconds whose events are appended together: nobody comes twice a day
_CANARY = 0.2  # a shop of few people sees nothing with fewer
_TAKEN = 2.0  # milliseconds of every answer: what a machine takes that simulates says nothing
_SECOND = 1_000_000


@dataclass(frozen=True)
class StagePlayed:
    """A stage of the introduction.

    Attributes:
        stage: Which.
        first: The day on which it began, from 1.
        last: The day on whose evening it ended, or the play.
        visits: How many there were.
        people: Of how many people.
        why: What was said when it ended; empty where it goes on.
        automatic: Whether it ended by itself.
        estimates: What its evening estimated, each beside the truth; empty where nothing was.
    """

    stage: str
    first: int
    last: int
    visits: int
    people: int
    why: str
    automatic: bool
    estimates: tuple[EstimateBesideTruth, ...]


@dataclass(frozen=True)
class IntroductionReport:
    """A staged introduction, from its first day to its last.

    Attributes:
        name: Of the experiment.
        harmful: Whether what was tried does harm.
        days: How many were played; it may be over before those that were asked for.
        people: How many there are, who may come.
        visitors: Of them anonymous.
        stages: What it went through, the first one first.
        experiment: What was tried.
        record: The stages as they are on record.
        results: What is known in the end.
        seconds: Of processor time that the days took.
    """

    name: str
    harmful: bool
    days: int
    people: int
    visitors: int
    stages: tuple[StagePlayed, ...]
    experiment: Experiment
    record: "tuple[StageRow, ...]"
    results: "ExperimentResults"
    seconds: float

    def to_dict(self) -> dict[str, Any]:
        """As JSON-able values; moments are microseconds since 1970."""
        return {name: getattr(self, name) for name in self.__dataclass_fields__} | {
            "stages": [vars(one) | {"estimates": [each.to_dict() for each in one.estimates]} for one in self.stages],
            "experiment": self.experiment.to_dict(),
            "record": [asdict(one) for one in self.record],
            "results": self.results.to_dict(),
        }

    def write_page(self, path: str | Path, language: str = "en") -> Path:
        """Write the page of the experiment for those who decide, see docs/experiments.md; where it is.

        Raises:
            RequestError: If it does not speak that language.
        """
        from molar_eval.experiments.report import board_page

        target = Path(path)
        target.write_text(board_page(self.results, self.experiment, self.record, language), "utf-8")
        return target


def introduce(
    shop: "Shop", facts: "DemoFacts", days: int, seed: int, *, harmful: bool, visitors: int = VISITORS
) -> IntroductionReport:
    """Play an introduction, see :meth:`molar.sources.Demo.introduce`."""
    from molar_eval.experiments.routing import Experimenting
    from molar_indexes.recommender import Recommender

    limits.whole("days", days, limits.DEMO_DAYS)
    workspace = shop.opened()
    with ExperimentStore(workspace) as store:
        if store.all():
            raise RequestError(
                "an introduction was played in this shop before", "name a new folder: `molar demo FOLDER`"
            )
    known = plan_shop(facts.seed, items=facts.items, users=facts.users)
    last = max(purchase.timestamp for user in known.users for purchase in user.purchases)
    life = TrafficSimulator(with_visitors(known, visitors), (last // DAY + 1) * DAY, days, seed, PICKY)
    name = "clearance" if harmful else "whole range"
    shop.experiments.start(
        name,
        rules=PUSH if harmful else None,
        control_rules=None if harmful else PUSH,
        stage="canary" if harmful else "shadow",
        canary=_CANARY,
        now=_moment(life.start),
    )

    def opened(generation: str | None, rules: str | None) -> "Recommender":
        return Recommender.open(workspace.root, generation, rules=rules)

    with shop.progress() as progress, shop.recommender() as live:
        answering = Experimenting(workspace, live, opened, shop.settings.experiments, background=False)
        with closing(answering), ExperimentStore(workspace) as store:
            quiet = replace(shop, display=lambda: nullcontext(SILENT))
            return _Introduction(quiet, life, answering, store, name).through(days, progress, harmful=harmful)


class _Introduction:
    def __init__(
        self, shop: "Shop", life: TrafficSimulator, answering: "Experimenting", store: ExperimentStore, name: str
    ) -> None:
        self._shop, self._life, self._answering, self._store, self._name = shop, life, answering, store, name
        self._truth, self._lists = PlantedTruth(), _Lists()
        self._visits: Counter[int] = Counter()  # by the number of the stage
        self._people: dict[int, set[int]] = defaultdict(set)
        self._estimates: dict[int, tuple[EstimateBesideTruth, ...]] = {}
        self._results: ExperimentResults | None = None

    def through(self, days: int, progress: "Progress", *, harmful: bool) -> IntroductionReport:
        """All days, or those until it is over."""
        began = time.process_time()
        progress.start("living through the introduction", days)
        for day in range(days):
            self._day(day)
            progress.advance()
            if self._stage().stage == STOPPED:
                days = day + 1
                break
        progress.finish()
        assert self._results is not None  # there is at least one day
        users = self._life.shop.users
        return IntroductionReport(
            name=self._name,
            harmful=harmful,
            days=days,
            people=len(users),
            visitors=sum(user.anonymous for user in users),
            stages=self._played(days),
            experiment=self._store.find(self._name).experiment,
            record=tuple(self._store.stages(self._name)),
            results=self._results,
            seconds=time.process_time() - began,
        )

    def _day(self, number: int) -> None:
        self._append(self._life.morning(number))
        present = self._stage()
        stage, self._lists.kept = present.number, present.stage != SHADOW
        for together in _together(self._life.visits(number)):
            events: list[Mapping[str, Any]] = []
            for visit in together:
                events += self._visit(visit)
                self._visits[stage] += 1
                self._people[stage].add(visit.user)
            self._append(events)
        self._answering.flush()
        self._evening(self._life.start + (number + 1) * DAY)

    def _visit(self, visit: ShopVisit) -> Sequence[Mapping[str, Any]]:
        """Somebody comes, gets the list of their arm, and does something with it."""
        from molar_eval.experiments.assignment import Asker

        shopper, at = self._life.shop.users[visit.user], visit.at * _SECOND
        asker = Asker(user_id=shopper.sent.get("user_id"), session_id=shopper.sent.get("session_id"))
        given = self._answering.answer(asker, self._lists.wanted(visit.user, shopper), at)
        self._answering.record(given, _TAKEN)
        shown = {item.item_id: item.propensity for item in given.answer.items}
        if given.placed is not None and given.arm in (CONTROL, TREATMENT):
            self._plant(given, visit)
        events = self._life.visit(visit, shown, given.answer.request_id).events
        self._lists.did(visit.user, events)
        return events

    def _plant(self, given: "GivenList", visit: ShopVisit) -> None:
        """What would come of the visit on average, with either list."""
        assert given.placed is not None
        assert given.arm is not None
        name = CONTROL if given.arm == TREATMENT else TREATMENT
        other = given.placed.live.arms[name].answer(given.wanted, given.answer.events)
        expected = {
            arm: self._life.expected(visit.user, [item.item_id for item in answer.items])
            for arm, answer in ((given.arm, given.answer), (name, other))
        }
        self._truth.add(given.placed.unit, given.at, expected[CONTROL], expected[TREATMENT])

    def _evening(self, at: int) -> None:
        """What is known is looked at; what does harm goes back by itself and is given up; what is proposed is done."""
        before, now = self._stage(), _moment(at)
        self._results = results = self._shop.experiments.check(self._name, now=now)
        self._estimates[before.number] = self._truth.beside(results, self._since(before))
        if self._stage().number != before.number:
            self._shop.experiments.stop(self._name, "it is given up", by=MERCHANT, now=now)
        elif results.decision.go == "on":
            self._shop.experiments.advance(self._name, by=MERCHANT, now=now)
        elif results.decision.go == "stop":
            self._shop.experiments.stop(self._name, " ".join(results.decision.why), by=MERCHANT, now=now)
        self._answering.catch_up()

    def _since(self, stage: "StageRow") -> dict[str, int]:
        """From when on people count, by unit: who met a difference, or in the last stage whoever came."""
        units = self._store.units(self._name)
        if stage.stage == EVERYBODY:
            return dict.fromkeys(self._truth.came(stage.begun), stage.begun)
        rows = zip(*(units[column].to_pylist() for column in ("unit", "triggered", "both")), strict=True)
        return {unit: max(met, stage.begun) for unit, met, both in rows if met is not None and not both}

    def _stage(self) -> "StageRow":
        return self._store.find(self._name).stage

    def _played(self, days: int) -> tuple[StagePlayed, ...]:
        """The stages, each with how it ended, by what is on record."""
        rows = self._store.stages(self._name)
        found = []
        for row, following in zip(rows, [*rows[1:], None], strict=True):
            if not self._visits[row.number]:  # over on the evening on which it began, or not begun on a day yet
                continue
            until = self._day_of(following.begun) if following else days
            found.append(
                StagePlayed(
                    stage=row.stage,
                    first=self._day_of(row.begun) + 1,
                    last=until,
                    visits=self._visits[row.number],
                    people=len(self._people[row.number]),
                    why=following.why if following else "",
                    automatic=bool(following and following.automatic),
                    estimates=self._estimates.get(row.number, ()),
                )
            )
        return tuple(found)

    def _day_of(self, at: int) -> int:
        """How many days were over at a moment, in microseconds since 1970."""
        return (at // _SECOND - self._life.start) // DAY

    def _append(self, events: Sequence[Mapping[str, Any]]) -> None:
        self._lists.forget()
        if events and (report := self._shop.events.append(events)).refused:
            raise AssertionError(f"an event of the demo was refused: {report.refusals[0]}")


class _Lists:
    """Lists of all arms that were made since the log last grew: until then the same people get the same again.

    Of whom the shop knows nothing yet, all have one list.

    Attributes:
        kept: Whether lists are kept at all; where it is measured what they take, they are not.
    """

    def __init__(self) -> None:
        self.kept = True
        self._made: dict[tuple[int, str, str | None], Recommendations] = {}
        self._acted: set[int] = set()

    def forget(self) -> None:
        """The log has grown."""
        self._made = {}

    def did(self, user: int, events: Sequence[Mapping[str, Any]]) -> None:
        """Somebody did something: from now on the shop knows them, unless they only looked."""
        if any(event["event"] in ("click", "purchase") for event in events):
            self._acted.add(user)

    def wanted(self, user: int, shopper: "Shopper") -> "ListWanted":
        """The question of a page for somebody; no new item is drawn, so that lists differ by their arms alone."""
        from molar_eval.experiments.arms import ListWanted
        from molar_retrieval.ranking.results import new_id

        who: dict[str, Any] = {
            {"session_id": "anonymous_id"}.get(name, name): value for name, value in shopper.sent.items()
        }
        person = None if shopper.anonymous and user not in self._acted else shopper.user_id

        def listed(recommender: "Recommender", options: Mapping[str, Any], last_event: int | None) -> "Recommendations":
            key = id(recommender), repr(sorted(options.items())), person
            if (known := self._made.get(key) if self.kept else None) is None:
                asked = {"explore": False, **who, **options}
                known = self._made[key] = recommender.query(**asked, k=K, last_event=last_event)
            return replace(known, request_id=new_id())

        def popular(recommender: "Recommender", options: Mapping[str, Any]) -> "Recommendations":
            return recommender.popular(k=K, rules=options.get("rules", True), **who)

        return ListWanted(listed, popular)


def _together(visits: Sequence[ShopVisit]) -> Iterator[list[ShopVisit]]:
    for _, together in groupby(visits, key=lambda visit: visit.at // _EACH):
        yield list(together)


def _moment(seconds: int) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
