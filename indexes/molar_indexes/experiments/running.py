"""Which experiments run, with what answers for their arms: as the store says, followed by a thread, or when asked to.

Where none ever began, a look finds that a file is not there, and an answer finds an empty tuple.
"""

import logging
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from molar_indexes.experiments.arms import ArmRecommenders, OpenArm, source_of
from molar_indexes.experiments.segments import SegmentTest
from molar_retrieval.errors import MolarError, StaleArtefactError
from molar_retrieval.experiments.definition import ARMS, Experiment, Stage
from molar_retrieval.experiments.records import Running
from molar_retrieval.experiments.store import ExperimentStore
from molar_retrieval.workspace.threads import BackgroundThread

if TYPE_CHECKING:
    from molar_indexes.recommender import Recommender

_log = logging.getLogger("molar.experiments")


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
