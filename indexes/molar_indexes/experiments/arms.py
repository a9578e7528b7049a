"""What answers for an arm of an experiment: a recommender that is opened once, and options of its questions."""

import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

from molar_retrieval.errors import MolarError, StaleArtefactError
from molar_retrieval.experiments.definition import Arm
from molar_retrieval.ranking.results import Answer, new_id

if TYPE_CHECKING:
    from molar_indexes.recommender import Recommender

NOTHING = "nothing"
"""The basis of the empty list of an arm that shows nothing."""
ArmSource: TypeAlias = tuple[str | None, str | None]
"""A generation and a file of rules; None: what is live."""
LIVE: ArmSource = (None, None)
_AGAIN = 10.0  # seconds until what could not be opened is tried again


@dataclass(frozen=True)
class ListWanted:
    """A question for a list, asked of whichever recommender an arm has.

    Attributes:
        listed: Makes the list by a recommender, with options that win over those of the question; what its person did
            counts up to an event, None: all of it.
        popular: Makes the popular list, likewise.
    """

    listed: "Callable[[Recommender, Mapping[str, Any], int | None], Answer]"
    popular: "Callable[[Recommender, Mapping[str, Any]], Answer]"


@dataclass(frozen=True)
class OpenArm:
    """An arm, and what answers for it; ``problem`` says why nothing does."""

    arm: Arm
    recommender: "Recommender"
    problem: MolarError | None = None

    def answer(self, wanted: ListWanted, as_of: int | None = None) -> Answer:
        """The list of the arm; its problem, where it has one."""
        if self.problem is not None:
            raise self.problem
        if self.arm.shows == "popular":
            return wanted.popular(self.recommender, {})
        if self.arm.shows == "nothing":
            return _nothing(self.recommender)
        return wanted.listed(self.recommender, self.arm.options, as_of)

    def popular(self, wanted: ListWanted) -> Answer:
        """What comes where its list would be late."""
        if self.problem is not None:
            raise self.problem
        if self.arm.shows == "nothing":
            return _nothing(self.recommender)
        return wanted.popular(self.recommender, self.arm.options)


class ArmRecommenders:
    """The recommenders of all arms, kept while an experiment runs that has them.

    Args:
        live: What answers without an experiment; it is not closed here.
        opened: Opens a generation and a file of rules; a MolarError says why it cannot be.
    """

    def __init__(self, live: "Recommender", opened: "Callable[[str | None, str | None], Recommender]") -> None:
        self._live, self._opened = live, opened
        self._known: dict[ArmSource, Recommender] = {}
        self._failed: dict[ArmSource, tuple[MolarError, float]] = {}
        self._lock = threading.Lock()

    @property
    def again(self) -> bool:
        """Whether something that could not be opened is to be tried again."""
        return any(at <= time.monotonic() for _, at in self._failed.values())

    def of(self, arm: Arm) -> OpenArm:
        """An arm, opened; of one that cannot be it tells the problem."""
        source = source_of(arm)
        if source == LIVE:
            return OpenArm(arm, self._live)
        with self._lock:
            try:
                return OpenArm(arm, self._found(source))
            except MolarError as error:
                return OpenArm(arm, self._live, error)

    def keep(self, sources: Iterable[ArmSource]) -> None:
        """Close what none of these sources needs, once the answers under way are through."""
        wanted = set(sources)
        with self._lock:
            for source in [one for one in self._known if one not in wanted]:
                self._known.pop(source).close()
            self._failed = {source: failed for source, failed in self._failed.items() if source in wanted}

    def _found(self, source: ArmSource) -> "Recommender":
        error, at = self._failed.get(source, (None, 0.0))
        if error is not None and time.monotonic() < at:
            raise error
        if source not in self._known:
            try:
                self._known[source] = self._warm(source)
            except Exception as raised:  # damaged files raise whatever they like
                words = f"{type(raised).__name__}: {raised}"
                problem = raised if isinstance(raised, MolarError) else StaleArtefactError(words, "publish it anew")
                self._failed[source] = problem, time.monotonic() + _AGAIN
                raise problem from raised
            self._failed.pop(source, None)
        return self._known[source]

    def _warm(self, source: ArmSource) -> "Recommender":
        """What answers, after a first question, which reads what is read once and finds mistakes in the rules."""
        found = self._opened(*source)
        try:
            found.query("a first question", 1, fallback="popular")
        except BaseException:
            found.close()
            raise
        return found


def source_of(arm: Arm) -> ArmSource:
    """What an arm must have open."""
    return (arm.generation, arm.rules) if arm.shows == "lists" else LIVE


def _nothing(recommender: "Recommender") -> Answer:
    """The list of somebody to whom nothing is shown."""
    with recommender.answering() as answerer:
        name, events = answerer.generation.name, answerer.present()[1].last
    notes = ["the arm of an experiment shows nothing"]
    return Answer(None, 0, name, NOTHING, (), None, notes, {"total": 0.0}, new_id(), events)
