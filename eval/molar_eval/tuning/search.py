"""The search: trial after trial while the budget lasts, then the best against the present settings.

A trial is `molar align` in a workspace of its own, asked about users of whom half choose and half confirm. Both halves
are held out from training. The first is the validation of a trial: by it weights, best epoch, places of cold-start
items and second stage are chosen, and the trial among the others. The second half chooses nothing: its ranks under the
present settings and under the best ones are compared in the end.
"""

import math
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from safetensors.numpy import load_file, save_file

from molar_eval.models.content_variants import link
from molar_eval.models.ours import MolarScorer
from molar_eval.modules import of_making
from molar_eval.statistics import clustered_intervals, paired_permutation
from molar_eval.tuning.result import (
    Confirmation,
    SearchParameter,
    TuningResult,
    TuningTrial,
    Value,
    best_of,
    search_space,
    with_values,
)
from molar_retrieval import rng
from molar_retrieval.data.interactions import Holdout
from molar_retrieval.data.prepare_interactions import write_log
from molar_retrieval.errors import BackendError, DataError
from molar_retrieval.models.alignment import AlignReport, align
from molar_retrieval.models.als import held_out
from molar_retrieval.models.store import open_model
from molar_retrieval.models.towers.training import EpochScore
from molar_retrieval.models.validation import ValidationCases, gains, ranks
from molar_retrieval.progress import SILENT, Progress, ToldOnce
from molar_retrieval.reports.wording import duration
from molar_retrieval.workspace import fingerprint
from molar_retrieval.workspace.artefacts import Workspace, discard
from molar_retrieval.workspace.files import for_owner
from molar_retrieval.workspace.pinned import PinnedWorkspace, pin
from molar_retrieval.workspace.settings import MolarSettings, SplitSettings
from molar_retrieval.workspace.tensors import Matrix, Ranks

if TYPE_CHECKING:
    from molar_eval.tuning.study import OpenTrial, SettingsStudy

FOLDER = "evaluation/tuning"
FEWEST = 20
"""Users in each half."""
_WORK = "molar tune"
_CODE = ("molar_retrieval.models.alignment", "molar_eval.tuning.search", "molar_eval.tuning.result")
_PLACE, _RANKS, _TENSOR = "work", "ranks-{}.safetensors", "ranks"


class PrunedError(Exception):
    """A trial was worse than most others and ended early."""


class Halves(NamedTuple):
    """The training interactions with the cases that ``choose``, and the cases that ``confirm``, of other users."""

    choose: Holdout
    confirm: ValidationCases


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
    """Search for better values of ``[align]`` and ``[als]``, and go on with an earlier search for the same.

    The next item is judged: weights for all that users take later, which take time, are left out of trials. A study is
    the same while the log, the content, the catalogue, the settings, the space and the code of training are. No trial
    begins that would end after the budget of ``minutes``, which all runs of a study have in common, by what trials
    take; the first always does. ``trials`` are the most that a study has, None: as many as there is time for. ``also``
    are settings by section that no file has and that belong to what is found, such as the preset of this call.

    Raises:
        BackendError: If Optuna is not installed.
        DataError: If another process tunes this workspace, too few users can be validated on, or training under the
            present settings does not converge.
        MissingArtefactError: If content vectors or prepared interactions are missing.
        StaleArtefactError: If these do not belong together, or were made anew meanwhile.
    """
    require_optuna()
    from molar_eval.tuning.study import SettingsStudy

    settings = settings.model_copy(update={"align": settings.align.model_copy(update={"objectives": ("next_item",)})})
    with (
        pin(workspace, "catalogue", "content", "interactions", work=_WORK) as read,
        workspace.lock(FOLDER, "tuning the settings of"),
    ):
        divided = halves(read, settings.split)
        space = search_space(settings, divided.choose.training)
        folder = workspace.root / FOLDER / _name(read, settings, space)[:16]
        folder.mkdir(exist_ok=True, mode=0o700)
        for left in folder.parent.glob(f"*/{_PLACE}"):  # of a killed trial of another study
            if left.parent != folder:
                shutil.rmtree(left, ignore_errors=True)
        study, progress = SettingsStudy(folder, space, settings.align.seed), ToldOnce(progress)
        place: TrialWorkspace | None = None
        ran = 0
        while _goes_on(study.trials, minutes, trials):
            place = place or TrialWorkspace(folder, read, divided)
            trial = study.begin()
            _run(place, study, trial, with_values(settings, space, trial.values), progress)
            ran += 1
        if place is not None:
            place.clear()
        found = study.trials
        current, best = found[0], best_of(found)
        forget(folder, current.number, best.number)
        return TuningResult(
            folder=folder,
            trials=found,
            ran=ran,
            users=len(np.unique(divided.choose.users)),
            spent=_spent(found) / 60,
            minutes=minutes,
            importance=study.importance(),
            confirmation=None if best is current else _confirmed(folder, current, best, divided.confirm),
            changes={} if best is current else _changes(space, best.values, also or {}),
        )


def halves(workspace: Workspace, settings: SplitSettings) -> Halves:
    """The workspace's own validation cases, divided by users, at random; DataError where there are too few."""
    holdout = held_out(workspace, settings)
    users = np.unique(holdout.users)
    if len(users) < 2 * FEWEST:
        raise DataError(
            f"{len(users)} users have something to be validated on, and half of them choose, half confirm:"
            f" {2 * FEWEST} are the least",
            "bring a longer log, or more [split] validation_users",
        )
    chosen = rng.generator(settings.seed, "tuning").permutation(users)[: (len(users) + 1) // 2]
    choosing = np.isin(holdout.users, chosen)
    confirm = ValidationCases.of(holdout).select(np.flatnonzero(~choosing))
    return Halves(holdout.select(np.flatnonzero(choosing)), confirm)


def _name(read: PinnedWorkspace, settings: MolarSettings, space: Sequence[SearchParameter]) -> str:
    """The fingerprint of all that trials are made from; where they are computed does not matter."""
    inputs = {kind: read[kind].require()[1].fingerprint for kind in ("catalogue", "content", "interactions")}
    shaping = settings.model_dump(mode="json", include={"align", "als", "split", "privacy"})
    for name in ("device", "threads", "preset"):
        del shaping["align"][name]
    return fingerprint.of_json([inputs, shaping, [repr(one) for one in space], of_making(*_CODE)])


def _goes_on(done: Sequence[TuningTrial], minutes: float, most: int | None) -> bool:
    """Whether another trial begins: it would end within the budget, by what those took that ran to their end."""
    if not done or (most is not None and len(done) >= most):
        return not done
    usual = float(np.mean([trial.seconds for trial in done if trial.score is not None]))
    return _spent(done) + usual <= 60 * minutes


def _spent(trials: Sequence[TuningTrial]) -> float:
    """Seconds of all trials."""
    return sum(trial.seconds for trial in trials)


def _run(
    place: "TrialWorkspace", study: "SettingsStudy", trial: "OpenTrial", settings: MolarSettings, progress: Progress
) -> None:
    began, before = time.perf_counter(), study.trials
    score: float | None = None
    try:
        report = place.run(settings, lambda epoch: trial.worse(epoch.epoch, epoch.ndcg), progress)
        score = score_of(report)
        if not before or score > (best_of(before).score or 0.0):
            place.remember(trial.number, report)
    except PrunedError:
        if not before:
            trial.interrupt()
            raise DataError(
                "training under the present settings ends in losses that are no numbers",
                "lower [align] learning_rate, and tune again",
            ) from None
    except BaseException:
        trial.interrupt()
        raise
    seconds = time.perf_counter() - began
    trial.end(score, seconds)
    best = best_of(study.trials)
    told = "ended early" if score is None else f"NDCG@10 {score:.4f}"
    progress.note(
        f"trial {trial.number}: {told}, {duration(seconds)}; the best so far {best.score:.4f}, trial {best.number}"
    )


def score_of(report: AlignReport) -> float:
    """NDCG@10 of the users who choose, by what would be served.

    Where the second stage is used, its gain is that of networks that had not seen the user.
    """
    score, second = report.scores["aligned"]["ndcg@10"], report.facts["reranking"]
    return score + (second["after"] - second["before"] if second.get("used") else 0.0)


class TrialWorkspace:
    """A workspace in a study's folder, in which catalogue and content are links to the shop's own.

    Each trial's artefacts take the place of the previous one's, so that the disk holds one alignment whatever the
    number of trials. What a killed trial had trained is found again by the next one with the same settings.
    """

    def __init__(self, folder: Path, read: PinnedWorkspace, divided: Halves) -> None:
        self._folder, self._divided = folder, divided
        self.workspace = Workspace.for_catalogue(folder / _PLACE, read.catalogue)
        for kind in ("catalogue", "content"):
            link(read, self.workspace, kind)
        write_log(self.workspace, divided.choose, {"catalogue": read["catalogue"].require()[1].fingerprint})
        for_owner(self.workspace.root)

    def run(
        self, settings: MolarSettings, ends: Callable[[EpochScore], bool], progress: Progress = SILENT
    ) -> AlignReport:
        """Align under these settings; raises :class:`PrunedError` where an epoch ``ends`` the trial, or diverges."""

        def on_epoch(score: EpochScore) -> None:
            if not math.isfinite(score.loss) or ends(score):
                raise PrunedError

        try:
            return align(self.workspace, settings, progress=progress, on_epoch=on_epoch)
        except PrunedError:
            for partial in self.workspace["alignment"].partials():
                discard(partial)
            raise

    def remember(self, number: int, report: AlignReport) -> None:
        """Keep the ranks of the cases that confirm under the alignment of a trial, as lists would show the items."""
        model = open_model(report.folder).seeing(self._divided.choose.training)
        scorer, cases = MolarScorer(model, self.workspace, {}), self._divided.confirm

        def scores(block: slice) -> Matrix:
            inputs = cases.histories(block)
            return scorer.finish(scorer.scores(inputs), ~cases.hidden(block), inputs)

        target = self._folder / _RANKS.format(number)
        partial = target.with_suffix(".partial")
        save_file({_TENSOR: ranks(cases, scores)}, partial)
        partial.replace(target)

    def clear(self) -> None:
        """Remove the workspace: what is found lies beside it."""
        shutil.rmtree(self.workspace.root, ignore_errors=True)


def remembered(folder: Path, number: int) -> Ranks | None:
    """The ranks that a trial has left in the study's folder, shape (cases that confirm,); None: none."""
    path = folder / _RANKS.format(number)
    return load_file(path)[_TENSOR] if path.exists() else None


def forget(folder: Path, *kept: int) -> None:
    """Remove the ranks of all trials but those ``kept``."""
    for path in set(folder.glob(_RANKS.format("*"))) - {folder / _RANKS.format(number) for number in kept}:
        path.unlink()


def _confirmed(folder: Path, current: TuningTrial, best: TuningTrial, confirm: ValidationCases) -> Confirmation | None:
    """The comparison by the cases that confirm; None where ranks are missing."""
    old_ranks, new_ranks = (remembered(folder, trial.number) for trial in (current, best))
    if old_ranks is None or new_ranks is None:
        return None
    old, new = gains(old_ranks), gains(new_ranks)
    differences = (new - old)[:, None]
    (interval,) = clustered_intervals(differences, confirm.users)
    p = float(paired_permutation(differences, confirm.users)[0])
    users = len(np.unique(confirm.users))
    return Confirmation(users, float(old.mean()), float(new.mean()), interval.low, interval.high, p)


def _changes(
    space: Sequence[SearchParameter], values: Mapping[str, Value], also: Mapping[str, Mapping[str, Any]]
) -> dict[str, dict[str, Any]]:
    """What values of the parameters change, by section and key."""
    found = {section: dict(keys) for section, keys in also.items() if keys}
    for one in space:
        value = one.rounded(values[one.name])
        if value != one.current:
            found.setdefault(one.section, {})[one.key] = value
    return found
