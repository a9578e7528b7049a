"""Lists of arms.

Where none ever began, a look finds that a file is not there, and an answer finds an empty tuple.
"""

import logging
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

from molar_retrieval.columns import ITEM_ID
from molar_retrieval.errors import MolarError, StaleArtefactError
from molar_retrieval.experiments.assignment import arm_of_block
from molar_retrieval.experiments.definition import (
    ARMS,
    INTERLEAVED,
    INTERLEAVING,
    SHADOW,
    STOPPED,
    Arm,
    Experiment,
    Segment,
    Stage,
)
from molar_retrieval.experiments.records import Running
from molar_retrieval.experiments.store import ExperimentStore
from molar_retrieval.ranking.filter_language import parse
from molar_retrieval.ranking.filters import Expression, matches
from molar_retrieval.ranking.results import Recommendations, new_id
from molar_retrieval.workspace.artefacts import Workspace
from molar_retrieval.workspace.threads import BackgroundThread

if TYPE_CHECKING:
    from molar_indexes.recommender import Recommender


NOTHING = "nothing"
"""The basis of the empty list of an arm that shows nothing."""
ArmSource: TypeAlias = tuple[str | None, str | None]
"""A generation and a file of rules; None: what is live."""
LIVE: ArmSource = (None, None)
_AGAIN = 10.0  # seconds until what could not be opened is tried again
_log = logging.getLogger("molar.experiments")


class SegmentTest:
    """The segment of an experiment, its conditions read by what the live generation knows.

    Attributes:
        problem: What is wrong with a condition, which nobody fulfils then; None: nothing.
    """

    def __init__(self, segment: Segment, recommender: "Recommender") -> None:
        self._segment, self._recommender = segment, recommender
        self.problem: MolarError | None = None
        self._people: Expression | None = None
        self._items: Expression | None = None
        generation = recommender.generation
        try:
            if segment.people is not None:
                self._people = parse(segment.people, generation.manifest.facts.get("segments", {}))
            if segment.items is not None:
                self._items = parse(segment.items, {ITEM_ID: "keyword", **generation.index.spec.fields})
        except MolarError as error:
            self.problem = error

    @property
    def everybody(self) -> bool:
        """Whether it has no condition, but for where people are."""
        return self._segment.people is None and self._segment.items is None

    def at(self, placement: str | None) -> bool:
        """Whether a placement is one of the segment's."""
        return not self._segment.placements or placement in self._segment.placements

    def has(self, key: str | None) -> bool:
        """Whether somebody, by their key, is in it now; of nobody's key nothing is known."""
        if self.everybody:
            return True
        if self.problem is not None or key is None:
            return False
        with self._recommender.answering() as answerer:
            _, state = answerer.present()
            record, _ = answerer.person(state, key)
            if record is None:
                return False
            if self._people is not None and not matches(self._people, record.attributes):
                return False
            if self._items is None:
                return True
            rows = sorted({int(row) for row in record.history})
            return any(item.fulfils(self._items) for item in state.items.index.fetch(rows))


@dataclass(frozen=True)
class ListWanted:
    """A question for a list, asked of whichever recommender an arm has.

    Attributes:
        listed: Makes the list by a recommender, with options that win over those of the question; what its person did
            counts up to an event, None: all of it.
        popular: Makes the popular list, likewise.
    """

    listed: "Callable[[Recommender, Mapping[str, Any], int | None], Recommendations]"
    popular: "Callable[[Recommender, Mapping[str, Any]], Recommendations]"


@dataclass(frozen=True)
class OpenArm:
    """An arm, and what answers for it; ``problem`` says why nothing does."""

    arm: Arm
    recommender: "Recommender"
    problem: MolarError | None = None

    def answer(self, wanted: ListWanted, last_event: int | None = None) -> Recommendations:
        """The list of the arm; its problem, where it has one."""
        if self.problem is not None:
            raise self.problem
        if self.arm.shows == "popular":
            return wanted.popular(self.recommender, {})
        if self.arm.shows == "nothing":
            return _nothing(self.recommender)
        return wanted.listed(self.recommender, self.arm.options, last_event)

    def popular(self, wanted: ListWanted) -> Recommendations:
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
            found.query("a first question", k=1)
        except BaseException:
            found.close()
            raise
        return found


def source_of(arm: Arm) -> ArmSource:
    """What an arm must have open."""
    return (arm.generation, arm.rules) if arm.shows == "lists" else LIVE


def _nothing(recommender: "Recommender") -> Recommendations:
    """The list of somebody to whom nothing is shown."""
    with recommender.answering() as answerer:
        name, events = answerer.generation.name, answerer.present()[1].last
    notes = ["the arm of an experiment shows nothing"]
    return Recommendations(None, 0, name, NOTHING, (), None, notes, {"total": 0.0}, new_id(), events)


@dataclass(frozen=True)
class LiveExperiment:
    """An experiment that runs, with all that answers read of it."""

    experiment: Experiment
    stage: Stage
    arms: Mapping[str, OpenArm]
    segment: SegmentTest

    @property
    def name(self) -> str:
        """Its name."""
        return self.experiment.name

    @property
    def problems(self) -> dict[str, MolarError]:
        """What is wrong with it, by the arm or ``segment``."""
        found = {name: arm.problem for name, arm in self.arms.items()} | {"segment": self.segment.problem}
        return {name: problem for name, problem in found.items() if problem is not None}


class LiveExperiments:
    """The experiments of a workspace that run; threads may share it.

    Args:
        store: The record of them.
        live: What answers without an experiment.
        opened: Opens a generation and a file of rules; None: what is live.

    Attributes:
        present: Those that run, the first one first.
        problem: Why the record cannot be read, in which case those of before go on; None: it can be.
    """

    def __init__(
        self,
        store: ExperimentStore,
        live: "Recommender",
        opened: "Callable[[str | None, str | None], Recommender]",
    ) -> None:
        self._store, self._live = store, live
        self._recommenders = ArmRecommenders(live, opened)
        self.present: tuple[LiveExperiment, ...] = ()
        self.problem: MolarError | None = None
        self._version = 0
        self._told: set[tuple[str, str, str]] = set()
        self._lock, self._ended = threading.Lock(), threading.Event()
        self._thread: BackgroundThread | None = None

    def catch_up(self) -> None:
        """Return once what is on record runs here."""
        with self._lock:
            try:
                version = self._store.version()
                if version == self._version and not self._recommenders.again:
                    return
                self.present = tuple(map(self._opened, reversed(self._store.running())))
            except Exception as error:  # damaged files raise whatever they like
                told = error if isinstance(error, MolarError) else None
                if self.problem is None:
                    _log.warning("experiments go on as they were: %s", error, exc_info=told is None)
                words = f"the record of experiments cannot be read: {type(error).__name__}"
                self.problem = told or StaleArtefactError(words, "the log says why")
                return
            self._version, self.problem = version, None
            self._recommenders.keep(source_of(arm.arm) for one in self.present for arm in one.arms.values())
            self._tell()

    def follow(self, every: float = 0.1) -> None:
        """From now on look every so many seconds, in a thread of its own."""

        def follow() -> None:
            while not self._ended.wait(every):
                self.catch_up()

        self._thread = BackgroundThread("experiments", follow)
        self._thread.start()

    def close(self) -> None:
        """Follow no more, and close what answers for arms alone."""
        self._ended.set()
        if self._thread is not None:
            self._thread.join()
        self.present = ()
        self._recommenders.keep(())

    def named(self, name: str) -> LiveExperiment | None:
        """One that runs, by its name."""
        return next((one for one in self.present if one.name == name), None)

    def _tell(self) -> None:
        """Say what is wrong, once."""
        wrong = {(one.name, part, problem.message) for one in self.present for part, problem in one.problems.items()}
        for told in sorted(wrong - self._told):
            _log.warning("experiment %s, %s: %s", *told)
        self._told = wrong

    def _opened(self, one: Running) -> LiveExperiment:
        stage = one.stage.stage
        arms = {name: self._recommenders.of(one.experiment.arm_in(name, stage)) for name in ARMS}
        return LiveExperiment(one.experiment, stage, arms, SegmentTest(one.experiment.segment, self._live))


def arms_then(workspace: Workspace, key: str, at: int) -> list[tuple[str, str]]:
    """Names of experiments, with the arm that who has a key had at a moment (microseconds since 1970).

    Which of them a list was of, if any, is not told: that depends on where it was shown. A DataError where the record
    cannot be read.
    """
    found = []
    with ExperimentStore(workspace) as store:
        for one in (row.experiment for row in store.all()):
            begun = [row.stage for row in store.stages(one.name) if row.begun <= at]
            if not begun or begun[-1] in (SHADOW, STOPPED):
                continue
            if begun[-1] == INTERLEAVING:
                found.append((one.name, INTERLEAVED))
            elif one.unit == "time":
                found.append((one.name, arm_of_block(one, at)))
            elif (arm := store.assigned(one.name, [key]).get(key)) is not None:
                found.append((one.name, arm))
    return found
