"""Trials: `molar align` in a workspace of their own, asked about people of whom half choose and half confirm.

Both halves are held out from training. The first is the validation of a trial: by it weights, best epoch, places of
newcomers and second stage are chosen, and the trial among the others. The second half chooses nothing: its ranks under
the settings as they are and under the best ones are compared in the end.
"""

import math
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file, save_file

from molar_eval.models.molar import MolarScorer
from molar_eval.models.variants import link
from molar_retrieval import rng
from molar_retrieval.data.interactions import Holdout
from molar_retrieval.data.prepare_interactions import write_log
from molar_retrieval.errors import DataError
from molar_retrieval.models.alignment import AlignReport, align
from molar_retrieval.models.als import held_out
from molar_retrieval.models.store import open_model
from molar_retrieval.models.towers.training import EpochScore
from molar_retrieval.models.validation import ValidationCases, ranks
from molar_retrieval.progress import SILENT, Progress
from molar_retrieval.workspace.artefacts import Workspace, discard
from molar_retrieval.workspace.files import for_owner
from molar_retrieval.workspace.pinned import PinnedWorkspace
from molar_retrieval.workspace.settings import MolarSettings, SplitSettings
from molar_retrieval.workspace.tensors import Matrix, Ranks

FEWEST = 20
_WORK, _RANKS, _TENSOR = "work", "ranks-{}.safetensors", "ranks"
Told = Callable[[EpochScore], bool]
"""Told of an epoch; whether the trial is to end there."""


class PrunedError(Exception):
    """A trial was worse than most others and ended early."""


@dataclass(frozen=True, eq=False)
class Halves:
    """The training interactions with the cases that ``choose``, and the cases that ``confirm``, of other people."""

    choose: Holdout
    confirm: ValidationCases


def halves(workspace: Workspace, settings: SplitSettings) -> Halves:
    """The workspace's own validation cases, divided by people, at random; DataError where there are too few."""
    holdout = held_out(workspace, settings)
    people = np.unique(holdout.users)
    if len(people) < 2 * FEWEST:
        raise DataError(
            f"{len(people)} people have something to be validated on, and half of them choose, half confirm:"
            f" {2 * FEWEST} are the least",
            "bring a longer log, or more [split] validation_users",
        )
    chosen = rng.generator(settings.seed, "tuning").permutation(people)[: (len(people) + 1) // 2]
    choosing = np.isin(holdout.users, chosen)
    confirm = ValidationCases.of(holdout).select(np.flatnonzero(~choosing))
    return Halves(holdout.select(np.flatnonzero(choosing)), confirm)


class TrialWorkspace:
    """A workspace in a study's folder, in which catalogue and content are links to the shop's own.

    Each trial's artefacts take the place of the former one's, so that the disk holds one alignment whatever the number
    of trials. What a killed trial had trained is found again by the next one with the same settings.
    """

    def __init__(self, folder: Path, read: PinnedWorkspace, divided: Halves) -> None:
        self._folder, self._divided = folder, divided
        self.workspace = Workspace.for_catalogue(folder / _WORK, read.catalogue)
        for kind in ("catalogue", "content"):
            link(read, self.workspace, kind)
        inputs = {"catalogue": read["catalogue"].require()[1].fingerprint}
        write_log(self.workspace, divided.choose, inputs)
        for_owner(self.workspace.root)

    def run(self, settings: MolarSettings, told: Told, progress: Progress = SILENT) -> AlignReport:
        """Align under these settings; raises :class:`PrunedError` where ``told`` says that it is to end."""

        def tell(score: EpochScore) -> None:
            if not math.isfinite(score.loss) or told(score):
                raise PrunedError

        try:
            return align(self.workspace, settings, progress=progress, on_epoch=tell)
        except PrunedError:
            for partial in self.workspace["alignment"].partials():
                discard(partial)
            raise

    def remember(self, number: int, report: AlignReport) -> None:
        """Keep the ranks of what the people who confirm took, under the alignment that a trial has made."""
        found = _served_ranks(self.workspace, report, self._divided)
        target = self._folder / _RANKS.format(number)
        partial = target.with_suffix(".partial")
        save_file({_TENSOR: found}, partial)
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
    stay = {_RANKS.format(number) for number in kept}
    for path in folder.glob(_RANKS.format("*")):
        if path.name not in stay:
            path.unlink()


def clear_others(folder: Path) -> None:
    """Remove what killed trials of other studies beside this one have left to go on with."""
    for work in folder.parent.glob(f"*/{_WORK}"):
        if work.parent != folder:
            shutil.rmtree(work, ignore_errors=True)


def score_of(report: AlignReport) -> float:
    """NDCG@10 of the people who choose, by what would be served.

    Where the second stage is used, it counts as what networks bring that had not seen the person.
    """
    score, second = report.scores["aligned"]["ndcg@10"], report.facts["rerank"]
    return score + (second["after"] - second["before"] if second.get("used") else 0.0)


def _served_ranks(workspace: Workspace, report: AlignReport, divided: Halves) -> Ranks:
    """Ranks as a list shows them: newcomers in their places, the second stage asked."""
    scorer = MolarScorer(open_model(report.folder).seeing(divided.choose.training), workspace, {})
    cases = divided.confirm

    def scores(block: slice) -> Matrix:
        inputs = cases.histories(block)
        return scorer.finish(scorer.scores(inputs), ~cases.hidden(block), inputs)

    return ranks(cases, scores)
