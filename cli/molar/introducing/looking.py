"""One look at an experiment; what protects people is carried out at once, all else waits for a person."""

from dataclasses import replace

from molar.introducing.moving import Activate, activated
from molar.introducing.starting import WORK
from molar_eval.experiments.analysis import analyse, earnings
from molar_eval.experiments.results import ExperimentResults
from molar_retrieval.experiments.definition import EVERYBODY, STAGES, STOPPED, Stage
from molar_retrieval.experiments.store import KIND, ExperimentStore
from molar_retrieval.workspace.artefacts import Workspace
from molar_retrieval.workspace.settings import MolarSettings

_BY = "molar"


def known_of(workspace: Workspace, settings: MolarSettings, name: str, at: int) -> ExperimentResults:
    """What is known of an experiment at a moment, in microseconds since 1970, with what it brings."""
    results = analyse(workspace, name, at)
    with ExperimentStore(workspace) as store:
        experiment, stages = store.find(name).experiment, store.stages(name)
    return replace(results, money=earnings(results, experiment, stages, workspace, settings.costs))


def look(workspace: Workspace, settings: MolarSettings, name: str, at: int, *, activate: Activate) -> ExperimentResults:
    """What is known by now; where the decision on the stage is an automatic one, it is carried out.

    Args:
        workspace: Its workspace.
        settings: Whether anything happens by itself, ``[experiments] automatic``; and ``[costs]``.
        name: Of the experiment.
        at: The present moment, in microseconds since 1970.
        activate: Makes a generation live: that of the control arm again, where everybody had the treatment.

    Raises:
        RequestError: If there is no such experiment.
        DataError: If another process changes experiments, or the clock was set back.
    """
    results = known_of(workspace, settings, name, at)
    if results.decision.automatic and settings.experiments.automatic:
        _carry_out(workspace, results, at, activate)
    return results


def _carry_out(workspace: Workspace, results: ExperimentResults, at: int, activate: Activate) -> None:
    target: Stage = next((stage for stage in STAGES if stage == results.decision.to), STOPPED)
    with workspace.lock(KIND, WORK), ExperimentStore(workspace) as store:
        found = store.find(results.name)
        if (found.stage.stage, found.stage.begun) != (results.stage, results.since):
            return  # somebody was faster
        if found.stage.stage == EVERYBODY:
            activated(workspace, found.experiment.control, activate)
        store.move(results.name, target, at, " ".join(results.decision.why), _BY, automatic=True)
