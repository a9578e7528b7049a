"""What `molar evaluate` would take: the suite itself, run for parts of the people, going on as it grew.

Up to some interactions it is run as it is, in a workspace that is gone afterwards. Of a longer log it is run for a
sixteenth, an eighth and a quarter of the people, drawn at random. Trials that are kept from before are left out.
"""

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from molar.bill import Bill
from molar.forecasting import onwards
from molar_eval.evaluate import Evaluator
from molar_eval.pending import pending
from molar_eval.report.write import write_report
from molar_retrieval import rng
from molar_retrieval.interactions import write_log
from molar_retrieval.pages.words import plural
from molar_retrieval.progress import SILENT, Progress
from molar_retrieval.runner import Runner
from molar_retrieval.scratch import scratch_workspace
from molar_retrieval.timer import Took, timed
from molar_retrieval.workspace import Workspace

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from molar_eval.suite import Suite
    from molar_retrieval.config import MolarSettings
    from molar_retrieval.interactions import InteractionLog

_WHOLE = 5_000
"""Interactions that are taken as they are."""
_PARTS = (1 / 16, 1 / 8, 1 / 4)


@dataclass(frozen=True)
class EvaluationForecast:
    """What :meth:`molar.Shop.evaluate` would take.

    Attributes:
        bill: By the clock, of the processors, in energy and money.
        interactions: What is split and learned from.
        trials: Models to be fitted and asked, one for each seed and split; walks through time are not counted.
        kept: How many of them are kept from before: only their figures are made again, which is not in the bill.
        parts: Interactions of the parts that were tried, ascending; one that is all of them was run as a whole.
        tried: What each took by the clock, in seconds.
    """

    bill: Bill
    interactions: int
    trials: int
    kept: int
    parts: tuple[int, ...]
    tried: tuple[float, ...]

    def to_dict(self) -> dict[str, Any]:
        """As JSON-able values."""
        return asdict(self) | {"bill": self.bill.to_dict()}

    def lines(self) -> list[str]:
        """The forecast in a few lines for people."""
        told = [f"{self.interactions:,} interactions, {plural(self.trials, 'trial')}: about {self.bill.words}"]
        if self.kept:
            told.append(f"{self.kept:,} of them are kept from before; that their figures are made again is not counted")
        return told


def forecast(
    workspace: Workspace,
    suite: "Suite",
    settings: "MolarSettings",
    progress: Progress = SILENT,
    *,
    cache: "Path",
    memory: int,
    runner: Runner,
) -> EvaluationForecast:
    """Predict what a run takes on this machine, as it is now; ``workspace`` is left as it is.

    Args:
        workspace: With content vectors and the log.
        suite: What is run.
        settings: Of molar.
        progress: Told of the parts.
        cache: Folder of the trials that are kept from before; it may not exist.
        memory: Bytes for scores in ranking, see :class:`molar_eval.evaluate.Evaluator`.
        runner: Who ranks the cases of large tests.

    Raises:
        MissingArtefactError: If content vectors or the log are missing.
        DataError: If a split cannot be made of the log, or of a quarter of its people.
        SettingsError: If the suite names an unknown split, model or column.
    """
    whole = Evaluator(workspace, suite, settings, memory=memory)
    with whole.inputs:
        left = pending(whole, cache)
    log, made = whole.log, workspace["interactions"].require()[1].inputs

    def tried(some: "InteractionLog") -> Took:
        with scratch_workspace(workspace.root, workspace.catalogue) as place:
            write_log(place, some, {kind: name for kind, name in made.items() if kind != "catalogue"})
            return timed(lambda: _run(Evaluator(place, left.suite, settings, memory=memory, runner=runner)))

    if not left.suite.splits:
        parts, found = [], [Took()]
    elif len(log) <= _WHOLE:
        parts, found = [log], [tried(log)]
    else:
        order = rng.generator(0, "forecast").permutation(log.n_users)
        parts = [log.of_users(np.sort(order[: max(1, round(log.n_users * part))])) for part in _PARTS]
        progress.start("trying it with a part of the people", len(parts) + 1)
        found = []
        for some in (parts[0], *parts):  # the first time, libraries are loaded, too
            found.append(tried(some))
            progress.advance(1)
        progress.finish()
    further = len(log) / len(parts[-1]) if parts else 1.0
    took = _whole(found[0], found[1:], further) if further > 1 else found[-1]
    return EvaluationForecast(
        bill=Bill.of(took, settings.costs),
        interactions=len(log),
        trials=left.trials,
        kept=left.kept,
        parts=tuple(len(some) for some in parts),
        tried=tuple(round(one.seconds, 2) for one in found[-len(parts) :]) if parts else (),
    )


def _whole(first: Took, parts: "Sequence[Took]", further: float) -> Took:
    """For the whole log, given what its parts took, and what the first of them took as libraries were loaded."""

    def of(name: str) -> float:
        each = [float(getattr(one, name)) for one in parts]
        return onwards(each, further) + max(0.0, float(getattr(first, name)) - each[0])

    return Took(of("seconds"), of("processor"))


def _run(evaluator: Evaluator) -> None:
    result = evaluator.run()
    write_report(result.folder, result.report, result.examples, evaluator.workspace.catalogue)
