"""The outcome of an evaluation: a leaderboard, the figures of each user, the report's page."""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

from molar_eval.model_runs import FOLDER, CaseScores, mean_by_user, read_scores, score_files, scores_path, write_scores
from molar_eval.regression_gate import Fall, gate
from molar_eval.report.page import render, write_report
from molar_eval.report.schema import Report, ReportExamples
from molar_eval.report.tables import LEADERBOARD, standings
from molar_eval.slices import MINIMUM_USERS
from molar_retrieval.errors import RequestError
from molar_retrieval.frames import Frame
from molar_retrieval.reports.html import Pictures
from molar_retrieval.workspace.files import OWNER, write_atomically


@dataclass(frozen=True, eq=False)
class Evaluation:
    """A finished run.

    Attributes:
        folder: Of the run: scores, and later the report's files; None: it is in memory alone.
        report: What was found.
        examples: Users to look at; none where the settings say that nothing rests on fewer people than two.
        fewest: Users of a slice of which something is told.
        scores: Of each case, where there is no folder that has them.
        metrics: Metrics of the leaderboard; none: the primary one of each split.
    """

    folder: Path | None
    report: Report
    examples: ReportExamples
    fewest: int = MINIMUM_USERS
    scores: Sequence[CaseScores] = ()
    metrics: Sequence[str] = ()

    def leaderboard(self, split: str | None = None) -> Frame:
        """The models of each test, best first.

        Args:
            split: Name of one split's test, see the column ``split``; None: all.

        Returns:
            One row per metric, model and test: the mean with its 95 % interval, the difference to the best baseline and
            the p-value of the paired test after Holm (both None for that baseline itself), seconds of fitting.
        """
        chosen = [one for one in self.report.splits if split in (None, one.name)]
        rows = [row for one in chosen for metric in self.metrics or (one.primary,) for row in standings(one, metric)]
        if split is not None and not rows:
            raise self._no_split(split)
        return Frame.of(rows, LEADERBOARD)

    def per_user(self, split: str | None = None) -> Frame:
        """The metrics of each user: means over their cases and over seeds.

        Args:
            split: Name of one split's test, see :meth:`leaderboard`; None: all.

        Returns:
            The columns ``split``, ``model``, ``user_id`` and one per metric.
        """
        found = self.scores if self.folder is None else [read_scores(path) for path in score_files(self.folder)]
        chosen = [one for one in found if split in (None, one.split)]
        if split is not None and not chosen:
            raise self._no_split(split)
        return Frame(mean_by_user(chosen))

    def page(self, path: str | Path) -> None:
        """Write the report as one HTML page that needs no network.

        Args:
            path: The file.
        """
        examples = self.examples if self.examples.users else None
        write_atomically(Path(path), render(self.report, examples, Pictures(Path(self.examples.catalogue))), OWNER)

    def written(self, folder: str | Path | None) -> Self:
        """The same with page, ``report.json`` and the figures of each case in a folder; None: itself."""
        if folder is None:
            return self
        place = Path(folder)
        shutil.rmtree(place / FOLDER, ignore_errors=True)  # those of an earlier run
        for one in self.scores:
            write_scores(scores_path(place, one.split, one.model, one.seed), one)
        write_report(place, self.report, self.examples, Path(self.examples.catalogue))
        return replace(self, folder=place, scores=())

    def _no_split(self, split: str) -> RequestError:
        known = ", ".join(repr(one.name) for one in self.report.splits)
        return RequestError(f"the report has no split {split!r}", f"it has {known}")

    def falls_since(self, before: str | Path) -> list[Fall]:
        """Metrics that fell significantly since another run, the least probable first; what a gate in CI asks.

        Args:
            before: Folder of the other run.

        Raises:
            MissingArtefactError: If a run has no scores, or lacks a split or model that the other has.
            StaleArtefactError: If the runs scored different cases or metrics.
        """
        if self.folder is None:
            raise RequestError("this evaluation lies in memory alone", "name a folder for it: out=…")
        return gate(self.folder, Path(before), fewest=self.fewest)
