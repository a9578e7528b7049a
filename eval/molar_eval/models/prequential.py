"""Arms of a prequential evaluation: the ways in which a shop may go on from one window of time to the next."""

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np

from molar_eval.cases import Scores
from molar_eval.models.base import Baseline, EvaluationTask, Kind, Scorer
from molar_eval.models.baselines import baselines
from molar_eval.models.ours import MolarScorer
from molar_eval.models.own import OwnModel, OwnModels, own_makers
from molar_eval.splits import is_first, single_cases
from molar_retrieval.data.interactions import LEAST, Interactions
from molar_retrieval.errors import DataError, SettingsError, nearest
from molar_retrieval.models.alignment import align
from molar_retrieval.models.drift import reason
from molar_retrieval.models.incremental import warm_start
from molar_retrieval.models.popularity import DAY
from molar_retrieval.models.refresh import refresh
from molar_retrieval.models.store import open_model
from molar_retrieval.progress import Progress
from molar_retrieval.workspace.artefacts import Workspace
from molar_retrieval.workspace.files import link_or_copy
from molar_retrieval.workspace.resources import Timer, Took
from molar_retrieval.workspace.settings import MolarSettings

RETRAINED = "trained anew"
When = Literal["due", "always", "never"]
_UPDATED: dict[When, str] = {"due": "updated", "always": "updated, warm start", "never": "only counted"}
Advance = Callable[["WindowStart", Progress], tuple[Scorer, Took]]


@dataclass(frozen=True, eq=False)
class WindowStart:
    """The beginning of a window, when an arm may learn from the past before it is asked about what follows.

    Attributes:
        workspace: The arm's own for this step, with catalogue, content vectors and the log of the past.
        previous: The one that it left at the step before; the first time that of the first training, which all share.
        data: What a model that is fitted anew may see: the interactions before the window, all of them to train on.
        start: Those that the first training saw.
    """

    workspace: Workspace
    previous: Workspace
    data: EvaluationTask
    start: Interactions


@dataclass(frozen=True)
class Arm:
    """One way to go on, which takes part in a report as a model does.

    ``advance`` learns from the past and answers for the window; it returns what learning took, too. What the next step
    needs stays in the workspace of the window.
    """

    name: str
    kind: Kind
    settings: Mapping[str, Any]
    advance: Advance
    stochastic: bool = field(default=False, init=False)


def arms(names: Sequence[str], options: MolarSettings, own: OwnModels | None = None) -> list[Arm]:
    """The arms of these names, baselines and the user's ``own`` models among them; a SettingsError names all.

    Others are compared to training anew where no baseline takes part.
    """
    owned = own_makers(own or {}, baselines())
    reference: Kind = "ablation" if {*names} & {*baselines(), *owned} else "baseline"
    settings = options.model_dump(mode="json", include={"split", "als", "align"})
    due = {"update": options.update.model_dump(mode="json", exclude={"max_age_days"})}
    every = [Arm(RETRAINED, reference, settings, _retrained(options))]
    for when in get_args(When):
        every.append(Arm(_UPDATED[when], "ours", settings | (due if when == "due" else {}), _updated(options, when)))
    every.append(Arm("as it was", "ablation", settings, _stale(fresh=True)))
    every.append(Arm("all as it was", "ablation", settings, _stale(fresh=False)))
    for make in baselines().values():
        if isinstance(model := make(), Baseline):
            every.append(Arm(model.name, "baseline", model.settings, _refitted(model)))
    for name in {*names} & {*owned}:
        every.append(Arm(name, "baseline", (made := owned[name]()).settings, _fitted_anew(made)))
    known = {arm.name: arm for arm in every}
    for name in names:
        if name not in known:
            close = nearest(name, known, n=1)
            hint = f"did you mean {close[0]!r}?" if close else f"known are {', '.join(known)}"
            raise SettingsError(f"a walk through time has no arm {name!r}", hint)
    return [known[name] for name in names]


def _retrained(options: MolarSettings) -> Advance:
    """All is trained again on all of the past, as by `molar align` every night."""

    def advance(window: WindowStart, progress: Progress) -> tuple[Scorer, Took]:
        watch = Timer()
        align(window.workspace, options, progress=progress)
        report = refresh(window.workspace, progress)  # as `molar align` does: what ships counts what validated, too
        took = watch.took
        return MolarScorer(open_model(report.folder).seeing(window.data.training), window.workspace, {}), took

    return advance


def _updated(options: MolarSettings, when: When) -> Advance:
    """The alignment of the step before is brought to the present log, and its towers are trained on.

    When that is due, as `molar update` has it; at every step; or at none, so that all is only counted.
    """

    def advance(window: WindowStart, progress: Progress) -> tuple[Scorer, Took]:
        if when == "always" and not options.align.towers:
            raise DataError("there are no towers to train on", "choose a preset that has some")
        carry(window.previous, window.workspace)
        watch = Timer()
        folder = refresh(window.workspace, progress).folder
        facts = window.workspace["alignment"].require()[1].facts
        why = reason(facts, options.update) if when == "due" else None
        if when == "always" or (why is not None and facts["towers"]):
            folder = warm_start(window.workspace, why=why, threads=options.align.threads, progress=progress).folder
        took = watch.took
        return MolarScorer(open_model(folder).seeing(window.data.training), window.workspace, {}), took

    return advance


def _stale(*, fresh: bool) -> Advance:
    """Nothing is trained again: weights, popularity and cold-start items are those of the first training.

    With ``fresh`` histories users' vectors are made of all that they did, as live answers are; without, theirs too
    stay as they were. Items that somebody had are hidden either way.
    """

    def advance(window: WindowStart, progress: Progress) -> tuple[Scorer, Took]:
        carry(window.previous, window.workspace)
        folder, _ = window.workspace["alignment"].require()
        model = open_model(folder).seeing(window.start)
        published = (int(window.start.timestamp.max()) // DAY + 1) * DAY
        return _StaleScorer(model, window.workspace, {}, moment=published, fresh=fresh), Took()

    return advance


def _refitted(model: Baseline) -> Advance:
    """A baseline is fitted on all of the past, by the setting that finds best what users took last in it.

    DataError if the data lack what the model needs.
    """

    def advance(window: WindowStart, progress: Progress) -> tuple[Scorer, Took]:
        watch = Timer()
        chosen = model.fit(last_held_out(window.data), 0, progress).facts["chosen"]
        scorer = type(model)([chosen]).fit(window.data, 0, progress)
        return scorer, watch.took

    return advance


def _fitted_anew(model: OwnModel) -> Advance:
    """A model of the user's own is fitted on all of the past, without validation cases."""

    def advance(window: WindowStart, progress: Progress) -> tuple[Scorer, Took]:
        watch = Timer()
        return model.fit(window.data, 0, progress), watch.took

    return advance


def last_held_out(data: EvaluationTask) -> EvaluationTask:
    """The data with the last interaction of each user who has three, and took something new in it, to choose by."""
    log = data.training
    last = log.offsets[1:][np.diff(log.offsets) >= LEAST] - 1
    last = last[is_first(log)[last]]
    fitted = np.ones(len(log), bool)
    fitted[last] = False
    return replace(data, training=log.select(fitted), validation=single_cases(log, last))


@dataclass
class _StaleScorer(MolarScorer):
    """A model that is asked later than it was published, by popularity as of that ``moment``, in seconds."""

    moment: int = 0
    fresh: bool = True

    def scores(self, inputs: Interactions) -> Scores:
        """See :class:`molar_eval.models.base.Scorer`."""
        if not self.fresh:
            inputs = inputs.select(inputs.timestamp < self.moment)
        asked = np.full(inputs.n_users, self.moment, np.int64)
        return super().scores(replace(inputs, asked_at=asked))


def carry(previous: Workspace, workspace: Workspace) -> None:
    """Let a workspace begin with the alignment of a previous one; the files are shared, as they never change."""
    version, _ = previous["alignment"].require()
    place = workspace.root / "alignment" / version.name
    shutil.copytree(version, place, copy_function=lambda source, target: link_or_copy(Path(source), Path(target)))
    workspace["alignment"].switch(version.name)
