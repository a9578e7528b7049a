"""An experiment begins: all at once or not at all."""

from molar.introducing.admission import admit
from molar.introducing.path import first_stage
from molar_retrieval.experiments.definition import Experiment, Stage
from molar_retrieval.experiments.store import KIND, ExperimentStore
from molar_retrieval.workspace import Workspace

WORK = "changing the experiments of"


def start(workspace: Workspace, experiment: Experiment, wanted: str | None, at: int, by: str) -> Stage:
    """Put an experiment on record in its first stage, the wanted one where one is; which that is.

    Where the same one has begun already, as by a call that was killed, that is all.

    Args:
        workspace: Its workspace.
        experiment: The experiment.
        wanted: The stage; None: the first that it has.
        at: The present moment, in microseconds since 1970.
        by: Who begins it.

    Raises:
        SettingsError: If it cannot begin with that stage; and as :func:`molar.introducing.admission.admit` does.
        DataError: If another process changes experiments.
    """
    stage = first_stage(experiment, wanted)
    with workspace.lock(KIND, WORK), ExperimentStore(workspace, make=True) as store:
        same = [one for one in store.running() if one.experiment == experiment and one.stage.stage == stage]
        if not same:
            admit(workspace, store, experiment, at)
            store.start(experiment, stage, at, by)
    return stage
