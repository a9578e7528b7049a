"""Arms of a walk through time: the ways in which a shop may go on from one day to the next."""

import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, Protocol, get_args

import numpy as np

from molar_eval.cases import Scores
from molar_eval.models.base import Kind, Scorer, Task, Tested
from molar_eval.models.baselines import baselines
from molar_eval.models.molar import MolarScorer
from molar_eval.models.tuning import Baseline
from molar_eval.splits.base import is_first, single_cases
from molar_retrieval.data.interactions import LEAST, Interactions
from molar_retrieval.errors import DataError, SettingsError, nearest
from molar_retrieval.models.alignment import align
from molar_retrieval.models.drift import reason
from molar_retrieval.models.incremental import warm_start
from molar_retrieval.models.popularity import DAY
from molar_retrieval.models.refresh import refresh
from molar_retrieval.models.store import open_model
from molar_retrieval.progress import SILENT, Progress
from molar_retrieval.workspace.artefacts import Workspace
from molar_retrieval.workspace.files import link_or_copy
from molar_retrieval.workspace.settings import MolarSettings

ANEW, UPDATED, COUNTED, WARM_STARTED = "trained anew", "updated", "only counted", "updated, warm start"
When = Literal["due", "always", "never"]
AS_IT_WAS, ALL_AS_IT_WAS = "as it was", "all as it was"


@dataclass(frozen=True, eq=False)
class Stop:
    """The beginning of a window, when an arm may learn from the past before it is asked about what follows.

    Attributes:
        workspace: The arm's own for this step, with catalogue, content vectors and the log of the past.
        former: The one that it left at the step before; the first time that of the first training, which all share.
        task: What a model that is fitted anew may see: the interactions before the window, all of them to train on.
        start: Those that the first training saw.
    """

    workspace: Workspace
    former: Workspace
    task: Task
    start: Interactions

    @property
    def past(self) -> Interactions:
        """The interactions before the window."""
        return self.task.training


@dataclass(frozen=True)
class Cost:
    """What an arm's learning took at one step: wall time and processor time of all threads, in seconds."""

    seconds: float = 0.0
    cpu_seconds: float = 0.0


class Stopwatch:
    """Measures the cost of a ``with`` block."""

    def __enter__(self) -> "Stopwatch":
        self._began = time.perf_counter(), time.process_time()
        return self

    def __exit__(self, *_: object) -> None:
        wall, cpu = self._began
        self.cost = Cost(time.perf_counter() - wall, time.process_time() - cpu)


class WalkingArm(Tested, Protocol):
    """One way to go on."""

    def advance(self, stop: Stop, progress: Progress = SILENT) -> tuple[Scorer, Cost]:
        """Learn from the past, and answer for the window. What the next step needs stays in the stop's workspace."""


@dataclass(frozen=True)
class _Walking:
    """What the arms of molar share."""

    options: MolarSettings
    stochastic: bool = field(default=False, init=False)

    @property
    def settings(self) -> dict[str, Any]:
        """All that shapes the result but the data."""
        return self.options.model_dump(mode="json", include={"split", "cf", "align"})


@dataclass(frozen=True)
class Anew(_Walking):
    """All is trained again on all of the past, as by `molar align` every night.

    What others are compared to where no baseline takes part.
    """

    name: str = field(default=ANEW, init=False)
    kind: Kind = "baseline"

    def advance(self, stop: Stop, progress: Progress = SILENT) -> tuple[Scorer, Cost]:
        """See :class:`WalkingArm`."""
        with Stopwatch() as watch:
            align(stop.workspace, self.options, progress=progress)
            report = refresh(stop.workspace, progress)  # as `molar align` does: what ships counts what validated, too
        return MolarScorer(open_model(report.folder).seeing(stop.past), stop.workspace, {}), watch.cost


@dataclass(frozen=True)
class Updated(_Walking):
    """The alignment of the step before is brought to the present log, and its towers are trained on.

    By default as `molar update` has it: where enough has come, or new interactions are foretold worse. They may be
    trained on at every step, or at none, so that all is only counted.
    """

    when: When = "due"
    kind: Kind = field(default="ours", init=False)

    @property
    def name(self) -> str:
        """As it stands in tables."""
        return {"due": UPDATED, "always": WARM_STARTED, "never": COUNTED}[self.when]

    @property
    def settings(self) -> dict[str, Any]:
        """All that shapes the result but the data."""
        due = {"update": self.options.update.model_dump(mode="json", exclude={"max_age_days"})}
        return super().settings | (due if self.when == "due" else {})

    def advance(self, stop: Stop, progress: Progress = SILENT) -> tuple[Scorer, Cost]:
        """See :class:`WalkingArm`; DataError without towers, if they are always to be trained on."""
        if self.when == "always" and not self.options.align.towers:
            raise DataError("there are no towers to train on", "choose a preset that has some")
        carry(stop.former, stop.workspace)
        with Stopwatch() as watch:
            folder = refresh(stop.workspace, progress).folder
            facts = stop.workspace["alignment"].require()[1].facts
            why = reason(facts, self.options.update) if self.when == "due" else None
            if self.when == "always" or (why is not None and facts["towers"]):
                folder = warm_start(
                    stop.workspace, why=why, threads=self.options.align.threads, progress=progress
                ).folder
        return MolarScorer(open_model(folder).seeing(stop.past), stop.workspace, {}), watch.cost


@dataclass(frozen=True)
class AsItWas(_Walking):
    """Nothing is trained again: weights, trend and newcomers are those of the first training.

    With ``fresh`` histories people's vectors are made of all that they did, as live answers are; without, theirs too
    stay as they were. Items that somebody had are hidden either way.
    """

    fresh: bool = True
    kind: Kind = field(default="ablation", init=False)

    @property
    def name(self) -> str:
        """As it stands in tables."""
        return AS_IT_WAS if self.fresh else ALL_AS_IT_WAS

    def advance(self, stop: Stop, progress: Progress = SILENT) -> tuple[Scorer, Cost]:
        """See :class:`WalkingArm`."""
        carry(stop.former, stop.workspace)
        folder, _ = stop.workspace["alignment"].require()
        model = open_model(folder).seeing(stop.start)
        published = (int(stop.start.timestamp.max()) // DAY + 1) * DAY
        return _Former(model, stop.workspace, {}, moment=published, fresh=self.fresh), Cost()


@dataclass(frozen=True)
class FittedAnew:
    """A baseline that is fitted on all of the past, by the setting that finds best what people took last in it."""

    model: Baseline
    kind: Kind = field(default="baseline", init=False)
    stochastic: bool = field(default=False, init=False)

    @property
    def name(self) -> str:
        """As it stands in tables."""
        return self.model.name

    @property
    def settings(self) -> Mapping[str, Any]:
        """All that shapes the result but the data."""
        return self.model.settings

    def advance(self, stop: Stop, progress: Progress = SILENT) -> tuple[Scorer, Cost]:
        """See :class:`WalkingArm`; DataError if the data lack what the model needs."""
        with Stopwatch() as watch:
            chosen = self.model.fit(last_held_out(stop.task), 0, progress).facts["chosen"]
            scorer = type(self.model)([chosen]).fit(stop.task, 0, progress)
        return scorer, watch.cost


def last_held_out(task: Task) -> Task:
    """The task with the last interaction of everybody who has three and took something new in it to choose by."""
    log = task.training
    last = log.offsets[1:][np.diff(log.offsets) >= LEAST] - 1
    last = last[is_first(log)[last]]
    fitted = np.ones(len(log), bool)
    fitted[last] = False
    return replace(task, training=log.select(fitted), validation=single_cases(log, last))


@dataclass
class _Former(MolarScorer):
    """A model that is asked later than it was published, by what was known of demand at that ``moment``, in seconds."""

    moment: int = 0
    fresh: bool = True

    def scores(self, inputs: Interactions) -> Scores:
        """See :class:`molar_eval.models.base.Scorer`."""
        if not self.fresh:
            inputs = inputs.select(inputs.timestamp < self.moment)
        asked = np.full(inputs.n_users, self.moment, np.int64)
        return super().scores(replace(inputs, asked_at=asked))


def carry(former: Workspace, workspace: Workspace) -> None:
    """Let a workspace begin with the alignment of a former one; the files are shared, as they never change."""
    version, _ = former["alignment"].require()
    place = workspace.root / "alignment" / version.name
    shutil.copytree(version, place, copy_function=lambda source, target: link_or_copy(Path(source), Path(target)))
    workspace["alignment"].switch(version.name)


def arms(names: Sequence[str], options: MolarSettings) -> list[WalkingArm]:
    """The arms of these names, baselines among them; a SettingsError names those that there are."""
    updated = [Updated(options, when) for when in get_args(When)]
    anew = Anew(options, kind="ablation" if {*names} & {*baselines()} else "baseline")
    every: list[WalkingArm] = [anew, *updated, AsItWas(options), AsItWas(options, fresh=False)]
    every += [FittedAnew(model) for make in baselines().values() if isinstance(model := make(), Baseline)]
    known = {arm.name: arm for arm in every}
    for name in names:
        if name not in known:
            close = nearest(name, known, n=1)
            hint = f"did you mean {close[0]!r}?" if close else f"known are {', '.join(known)}"
            raise SettingsError(f"a walk through time has no arm {name!r}", hint)
    return [known[name] for name in names]
