"""Which arms of experiments somebody had at a moment that is over, by what is on record."""

from molar_retrieval.experiments.assignment import arm_of_block
from molar_retrieval.experiments.definition import INTERLEAVED, INTERLEAVING, SHADOW, STOPPED
from molar_retrieval.experiments.store import ExperimentStore
from molar_retrieval.workspace.artefacts import Workspace


def arms_then(workspace: Workspace, key: str, at: int) -> list[tuple[str, str]]:
    """Names of experiments, with the arm that who has a key had at a moment (microseconds since 1970).

    Which of them a list was of, if any, is not told: that depends on where it was shown. A DataError where the record
    cannot be read.
    """
    found = []
    with ExperimentStore(workspace) as store:
        for one in (row.experiment for row in store.all()):
            begun = [row.stage for row in store.stages(one.name) if row.begun <= at]
            if not begun or begun[-1] in (SHADOW, STOPPED):
                continue
            if begun[-1] == INTERLEAVING:
                found.append((one.name, INTERLEAVED))
            elif one.unit == "time":
                found.append((one.name, arm_of_block(one, at)))
            elif (arm := store.assigned(one.name, [key]).get(key)) is not None:
                found.append((one.name, arm))
    return found
