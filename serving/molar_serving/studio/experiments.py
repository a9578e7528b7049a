"""Experiments as the studio shows them: what is known of each, and what the shop can see at all."""

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, TypeVar

from molar_eval.experiments.page import ResultsTold
from molar_eval.experiments.plan import ExperimentPlan
from molar_retrieval.errors import RequestError
from molar_retrieval.experiments.definition import STOPPED
from molar_serving.problems import ProblemError

if TYPE_CHECKING:
    from molar.introducing.standing import ExperimentStatus
    from molar_eval.experiments.results import ExperimentResults
    from molar_serving.service import Service

MINUTE, HOUR = 60.0, 3600.0
LIFTS = (0.05, 0.1, 0.2)
"""Effects of which the form says how long they take."""
Made = TypeVar("Made")


class KeptFor(Generic[Made]):
    """What is made again only after so many seconds, by what it was made of; threads may share it.

    Args:
        seconds: How long it is kept.
        most: How many are kept.
    """

    def __init__(self, seconds: float, most: int = 64) -> None:
        self._seconds, self._most = seconds, most
        self._known: OrderedDict[Hashable, tuple[float, Made]] = OrderedDict()
        self._lock = threading.Lock()

    def of(self, key: Hashable, make: Callable[[], Made]) -> Made:
        """What is kept of a key, or was made now."""
        with self._lock:
            found = self._known.get(key)
        if found is not None and time.monotonic() - found[0] < self._seconds:
            return found[1]
        made = make()
        with self._lock:
            self._known[key] = time.monotonic(), made
            self._known.move_to_end(key)
            while len(self._known) > self._most:
                self._known.popitem(last=False)
        return made


@dataclass(frozen=True)
class KnownExperiment:
    """How an experiment stands, with what is known of it at a moment (seconds since 1970)."""

    status: "ExperimentStatus"
    results: "ExperimentResults"
    at: float

    def told(self, language: str) -> ResultsTold:
        """In somebody's language."""
        return ResultsTold(self.results, self.status.experiment, self.status.stages, language)


@dataclass(frozen=True)
class ListedExperiment:
    """One line of the list.

    Attributes:
        name: Its name.
        stage: In which it is.
        since: Since when, in seconds since 1970.
        people: How many met a difference.
    """

    name: str
    stage: str
    since: float
    people: int

    @property
    def over(self) -> bool:
        """Whether it was stopped."""
        return self.stage == STOPPED


@dataclass(frozen=True)
class WeeksOfEffect:
    """In how many weeks an effect is seen, by metric; None: not within the longest window."""

    lift: float
    weeks: dict[str, int | None]


@dataclass(frozen=True)
class SeenInShop:
    """What the shop can see, by its own log: people a week, effects, and the longest window that was looked at."""

    people: int
    weeks: int
    effects: tuple[WeeksOfEffect, ...]
    longest: int
    metrics: tuple[str, ...]


_RESULTS: KeptFor[KnownExperiment] = KeptFor(MINUTE)
_PLANS: KeptFor[SeenInShop] = KeptFor(HOUR)


def listed(service: "Service") -> list[ListedExperiment]:
    """All experiments, the last one first."""
    return [
        ListedExperiment(one.experiment.name, one.stage.stage, one.stage.begun / 1e6, sum(one.exposed.values()))
        for one in service.shop.experiments.status()
    ]


def standing(service: "Service", name: str) -> "ExperimentStatus":
    """How an experiment stands, without what is known of it; a ProblemError if there is none."""
    try:
        return service.shop.experiments.status(name)[0]
    except RequestError as error:
        raise ProblemError(404, error.message, error.hint) from error


def known(service: "Service", name: str) -> KnownExperiment:
    """What is known of an experiment, analysed within the last minute; a ProblemError if there is none."""
    stages = standing(service, name).stages

    def made() -> KnownExperiment:
        now = time.time()
        (status,) = service.shop.experiments.status(name, known=True)
        assert status.results is not None
        return KnownExperiment(status, status.results, now)

    return _RESULTS.of((str(service.workspace.root), name, len(stages)), made)


def seen_in_shop(service: "Service") -> SeenInShop:
    """What the shop can see within so many weeks, half of its people in either arm, with CUPED.

    A DataError where the log is too short.
    """
    versions = service.workspace["catalogue"].pointer, service.workspace["interactions"].pointer
    return _PLANS.of(
        (str(service.workspace.root), *versions), lambda: _seen(service.shop.experiments.plan(lifts=LIFTS))
    )


def _seen(plan: ExperimentPlan) -> SeenInShop:
    windows = plan.metrics["conversion"]
    found = []
    for lift in LIFTS:
        shortest = {metric: plan.shortest(metric, lift, cuped=True) for metric in plan.metrics}
        found.append(
            WeeksOfEffect(lift, {metric: None if one is None else one.weeks for metric, one in shortest.items()})
        )
    return SeenInShop(windows[0].people, windows[0].weeks, tuple(found), windows[-1].weeks, tuple(plan.metrics))
