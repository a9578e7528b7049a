"""What `molar evaluate` would take, as far as the workspace knows it from former runs; the rest is called unknown."""

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from molar.bill import Bill
from molar_eval.evaluate import Evaluator
from molar_eval.pending import PendingTrial, pending
from molar_eval.trial_costs import WITHIN, Expected, TrialCosts
from molar_retrieval.reports.wording import plural
from molar_retrieval.workspace.resources import Took

if TYPE_CHECKING:
    from pathlib import Path

    from molar_eval.models.own import OwnModels
    from molar_eval.suite import Suite
    from molar_retrieval.workspace.artefacts import Workspace
    from molar_retrieval.workspace.settings import MolarSettings

_REST = "splits, figures and the report"


@dataclass(frozen=True)
class EvaluationForecast:
    """What :meth:`molar.Shop.evaluate` would take.

    Attributes:
        bill: Of all that is known: by the clock, of the processors, in energy and money.
        whole: Whether all is known; else ``bill`` is a lower bound.
        trials: Models to be fitted and asked, one for each split and seed, with what they would take.
        rest: What would be done beside the trials; None: unknown.
        interactions: Of the log, of which the splits are parts.
    """

    bill: Bill
    whole: bool
    trials: tuple[PendingTrial, ...]
    rest: Expected | None
    interactions: int

    def to_dict(self) -> dict[str, Any]:
        """As JSON-able values."""
        return asdict(self) | {"bill": self.bill.to_dict()}

    @property
    def rows(self) -> list[tuple[str, str, str, str]]:
        """Split, model, seconds and where they are from, for each trial and the rest."""
        told = [(one.split, _named(one), *_told(one.state, one.expected)) for one in self.trials]
        return [*told, ("", _REST, *_told("unknown" if self.rest is None else "foretold", self.rest))]

    def lines(self) -> list[str]:
        """The sum in a few lines for people."""
        unknown = sum(one.state == "unknown" for one in self.trials) + (self.rest is None)
        if self.whole:
            return [f"{self.interactions:,} interactions: about {self.bill.words}"]
        what = f"{plural(unknown, 'line')} of the table not known: nothing like it was run in this workspace, on this"
        bound = f"machine, with up to {WITHIN:g} times more or fewer interactions; a run of it tells"
        least = f"at least {self.bill.words}" if self.bill.seconds else "nothing of it is known"
        return [f"{self.interactions:,} interactions: {least}", f"{what} {bound}"]


def forecast(
    workspace: "Workspace", suite: "Suite", settings: "MolarSettings", root: "Path", own: "OwnModels"
) -> EvaluationForecast:
    """Tell what a run would take; ``workspace`` is left as it is.

    Args:
        workspace: With content vectors and the log.
        suite: What is run.
        settings: Of molar.
        root: The folder of evaluations, with kept trials and what former ones took; it may not exist.
        own: Models of the user's own that the suite names.

    Raises:
        MissingArtefactError: If content vectors or the log are missing.
        DataError: If a split cannot be made of the log.
        SettingsError: If the suite names an unknown split, model or column.
    """
    evaluator, taken = Evaluator(workspace, suite, settings, own=own), TrialCosts(root)
    with evaluator.inputs:
        trials = tuple(pending(evaluator, root / "trials", taken))
    rest = taken.rest(suite, len(evaluator.log))
    known = [one.expected for one in trials if one.expected is not None] + ([] if rest is None else [rest])
    return EvaluationForecast(
        bill=Bill.of(sum((one.took for one in known), Took()), settings.costs),
        whole=rest is not None and all(one.state != "unknown" for one in trials),
        trials=trials,
        rest=rest,
        interactions=len(evaluator.log),
    )


def _named(trial: PendingTrial) -> str:
    return trial.model if trial.seed == 0 else f"{trial.model}, seed {trial.seed}"


def _told(state: str, expected: Expected | None) -> tuple[str, str]:
    if expected is not None:
        return f"{expected.took.seconds:,.1f}", f"{expected.date}, {expected.interactions:,} interactions"
    return ("0", "kept from before") if state == "kept" else ("–", "not known")
