"""The search: trial after trial while the budget lasts, then the best against the settings as they are."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from molar_eval.modules import of_making
from molar_eval.statistics.bootstrap import clustered_intervals
from molar_eval.statistics.permutation import paired_permutation
from molar_eval.tuning.result import Confirmation, TuningResult, TuningTrial, best_of
from molar_eval.tuning.space import Dial, Value, space_of, turned
from molar_eval.tuning.trials import (
    Halves,
    PrunedError,
    TrialWorkspace,
    clear_others,
    forget,
    halves,
    remembered,
    score_of,
)
from molar_retrieval.errors import BackendError, DataError
from molar_retrieval.models.validation import gains
from molar_retrieval.progress import SILENT, Progress, ToldOnce
from molar_retrieval.reports.wording import duration
from molar_retrieval.workspace import fingerprint
from molar_retrieval.workspace.artefacts import Workspace
from molar_retrieval.workspace.pinned import PinnedWorkspace, pin
from molar_retrieval.workspace.settings import MolarSettings

if TYPE_CHECKING:
    from molar_eval.tuning.study import OpenTrial, SettingsStudy

FOLDER = "evaluation/tuning"
_WORK = "molar tune"
_CODE = ("molar_retrieval.models.alignment", "molar_eval.tuning.trials", "molar_eval.tuning.space")


def require_optuna() -> None:
    """Raise a BackendError, which names the extra, where Optuna is not installed."""
    if find_spec("optuna") is None:
        raise BackendError(
            "tuning needs Optuna, which is not installed", "install it: `pip install 'molar-retrieval[tune]'`"
        )


def tune(
    workspace: Workspace,
    settings: MolarSettings,
    *,
    minutes: float,
    trials: int | None = None,
    also: Mapping[str, Mapping[str, Any]] | None = None,
    progress: Progress = SILENT,
) -> TuningResult:
    """Search for better values of ``[align]`` and ``[cf]``, and go on with an earlier search for the same.

    What is judged is the next item: weights for all that people take later, which take time, are left out of trials.
    A study is the same while the log, the content, the catalogue, the settings, the dials and the code of training are.
    No trial begins that would end after the budget of ``minutes``, which all runs of a study have in common, by what
    trials take; the first always does. ``trials`` are the most that a study has, None: as many as there is time for.
    ``also`` are settings by section that no file has and that belong to what is found, such as the preset of this call.

    Raises:
        BackendError: If Optuna is not installed.
        DataError: If another process tunes this workspace, too few people can be validated on, or training under the
            settings as they are does not converge.
        MissingArtefactError: If content vectors or prepared interactions are missing.
        StaleArtefactError: If these do not belong together, or were made anew meanwhile.
    """
    require_optuna()
    settings = settings.model_copy(update={"align": settings.align.model_copy(update={"horizon": "next"})})
    with (
        pin(workspace, "catalogue", "content", "interactions", work=_WORK) as read,
        workspace.lock(FOLDER, "tuning the settings of"),
    ):
        divided = halves(read, settings.split)
        dials = space_of(settings, divided.choose.training)
        folder = workspace.root / FOLDER / _name(read, settings, dials)[:16]
        folder.mkdir(exist_ok=True, mode=0o700)
        clear_others(folder)
        search = _SettingsSearch(folder, read, settings, dials, divided, ToldOnce(progress))
        ran = search.run(minutes, trials)
        return search.result(ran, minutes, also or {})


def _name(read: PinnedWorkspace, settings: MolarSettings, dials: Sequence[Dial]) -> str:
    """The fingerprint of all that trials are made from; where they are computed does not matter."""
    inputs = {kind: read[kind].require()[1].fingerprint for kind in ("catalogue", "content", "interactions")}
    shaping = settings.model_dump(mode="json", include={"align", "cf", "split", "privacy"})
    for name in ("device", "threads", "preset"):
        del shaping["align"][name]
    return fingerprint.of_json([inputs, shaping, [repr(dial) for dial in dials], of_making(*_CODE)])


@dataclass
class _SettingsSearch:
    folder: Path
    read: PinnedWorkspace
    settings: MolarSettings
    dials: Sequence[Dial]
    divided: Halves
    progress: Progress
    study: "SettingsStudy" = field(init=False)

    def __post_init__(self) -> None:
        from molar_eval.tuning.study import SettingsStudy

        self.study = SettingsStudy(self.folder, self.dials, self.settings.align.seed)

    def run(self, minutes: float, most: int | None) -> int:
        """Run trials while there is time; how many."""
        ran = 0
        place: TrialWorkspace | None = None
        while self._more(minutes, most):
            if place is None:
                place = TrialWorkspace(self.folder, self.read, self.divided)
            self._run(place, self.study.begin())
            ran += 1
        if place is not None:
            place.clear()
        return ran

    def _more(self, minutes: float, most: int | None) -> bool:
        """Whether another trial begins: it would end within the budget, by what those took that ran to their end."""
        done = self.study.trials
        if not done or (most is not None and len(done) >= most):
            return not done
        usual = float(np.mean([trial.seconds for trial in done if trial.score is not None]))
        return _spent(done) + usual <= 60 * minutes

    def _run(self, place: TrialWorkspace, trial: "OpenTrial") -> None:
        began, before = time.perf_counter(), self.study.trials
        try:
            report = place.run(
                turned(self.settings, self.dials, trial.values),
                lambda score: trial.worse(score.epoch, score.ndcg),
                self.progress,
            )
            score = score_of(report)
            best = best_of(before).score if before else None
            if best is None or score > best:
                place.remember(trial.number, report)
            trial.end(score, time.perf_counter() - began)
        except PrunedError:
            if not before:
                trial.interrupt()
                raise DataError(
                    "training under the settings as they are ends in losses that are no numbers",
                    "lower [align] learning_rate, and tune again",
                ) from None
            trial.end(None, time.perf_counter() - began)
        except BaseException:
            trial.interrupt()
            raise
        self.progress.note(_line(self.study.trials))

    def result(self, ran: int, minutes: float, also: Mapping[str, Mapping[str, Any]]) -> TuningResult:
        """What was found so far."""
        found = self.study.trials
        best = best_of(found)
        forget(self.folder, found[0].number, best.number)
        return TuningResult(
            folder=self.folder,
            trials=found,
            ran=ran,
            people=len(np.unique(self.divided.choose.users)),
            spent=_spent(found) / 60,
            minutes=minutes,
            importance=self.study.importance(),
            confirmation=self._confirmed(found[0], best),
            changes={} if best is found[0] else _changes(self.dials, best.values, also),
        )

    def _confirmed(self, now: TuningTrial, best: TuningTrial) -> Confirmation | None:
        old_ranks, new_ranks = (remembered(self.folder, trial.number) for trial in (now, best))
        if best is now or old_ranks is None or new_ranks is None:
            return None
        old, new = gains(old_ranks), gains(new_ranks)
        people, differences = self.divided.confirm.users, (new - old)[:, None]
        (interval,) = clustered_intervals(differences, people)
        p = float(paired_permutation(differences, people)[0])
        return Confirmation(
            len(np.unique(people)), float(old.mean()), float(new.mean()), interval.low, interval.high, p
        )


def _changes(
    dials: Sequence[Dial], values: Mapping[str, Value], also: Mapping[str, Mapping[str, Any]]
) -> dict[str, dict[str, Any]]:
    """What values of the dials change, by section and key."""
    found = {section: dict(keys) for section, keys in also.items() if keys}
    for dial in dials:
        value = dial.rounded(values[dial.name])
        if value != dial.now:
            found.setdefault(dial.section, {})[dial.key] = value
    return found


def _spent(trials: Sequence[TuningTrial]) -> float:
    """Seconds of all trials."""
    return sum(trial.seconds for trial in trials)


def _line(trials: Sequence[TuningTrial]) -> str:
    """The last trial in one line."""
    last, best = trials[-1], best_of(trials)
    told = "ended early" if last.score is None else f"NDCG@10 {last.score:.4f}"
    return (
        f"trial {last.number}: {told}, {duration(last.seconds)}; the best so far {best.score:.4f}, trial {best.number}"
    )
