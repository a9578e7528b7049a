"""An experiment begins: all at once or not at all."""

from molar.introducing.admission import admit
from molar.introducing.path import first_stage
from molar_eval.kpi.prelaunch import CandidateVerdict, verdict_beforehand
from molar_retrieval.errors import RequestError
from molar_retrieval.experiments.definition import Experiment
from molar_retrieval.experiments.store import KIND, ExperimentStore
from molar_retrieval.workspace.artefacts import Workspace

WORK = "changing the experiments of"


def start(
    workspace: Workspace, experiment: Experiment, wanted: str | None, at: int, by: str, *, anyway: bool
) -> CandidateVerdict | None:
    """Put an experiment on record in its first stage, the wanted one where one is.

    Where the same one has begun already, as by a call that was killed, that is all.

    Args:
        workspace: Its workspace.
        experiment: The experiment.
        wanted: The stage; None: the first that it has.
        at: The present moment, in microseconds since 1970.
        by: Who begins it.
        anyway: Whether it begins though what was shown so far says that it does harm; that is written down.

    Returns:
        What the log of what was shown says of the treatment; None: the experiment had begun already.

    Raises:
        SettingsError: If it cannot begin with that stage; and as :func:`molar.introducing.admission.admit` does.
        RequestError: If the treatment does harm, by what was shown so far; and as ``admit`` does.
        DataError: If another process changes experiments.
    """
    stage = first_stage(experiment, wanted)
    with workspace.lock(KIND, WORK), ExperimentStore(workspace, make=True) as store:
        if any(one.experiment == experiment and one.stage.stage == stage for one in store.running()):
            return None
        admit(workspace, store, experiment, at)
        found = verdict_beforehand(workspace, experiment.control, experiment.treatment, harm=experiment.harms["clicks"])
        meant = experiment.treatment.shows != "lists"  # to be worse, so as to see what lists bring
        store.start(experiment, stage, at, by, "begun" if meant else _why(found, anyway=anyway))
    return found


def _why(found: CandidateVerdict, *, anyway: bool) -> str:
    """What is written down of a begin; a RequestError where the treatment is refused."""
    if found.outcome != "refuse":
        return "begun"
    said = "; ".join(found.why)
    if not anyway:
        raise RequestError(
            f"by what was shown so far the treatment does harm, and nobody has to see it: {said}",
            "try something else; or say --anyway, which is written down",
        )
    return f"begun anyway, against: {said}"
