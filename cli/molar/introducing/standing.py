"""How experiments stand: in which stage, since when, who is in them, and what comes next."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from molar.introducing.path import ahead
from molar_retrieval.experiments.definition import ARMS, STOPPED, Experiment, Stage
from molar_retrieval.experiments.records import Running, StageRow
from molar_retrieval.experiments.store import ExperimentStore
from molar_retrieval.workspace.artefacts import Workspace

if TYPE_CHECKING:
    from molar_eval.experiments.results import ExperimentResults
    from molar_eval.kpi.prelaunch import CandidateVerdict


@dataclass(frozen=True)
class ExperimentStatus:
    """How an experiment stands.

    Attributes:
        experiment: What it is.
        stages: Those that it was in, the present one last.
        following: The stage that comes next; None: it is in its last one, or over.
        people: Who is in each arm, by arm; of a switchback blocks of time.
        exposed: Of them who met a list on which the arms differ, and saw one arm alone.
        both: Who saw both arms, and counts for neither.
        results: What is known by now; None: nobody asked.
        beforehand: What was known before anybody saw the treatment, told as it begins; None: later.
    """

    experiment: Experiment
    stages: tuple[StageRow, ...]
    following: Stage | None
    people: dict[str, int]
    exposed: dict[str, int]
    both: int
    results: "ExperimentResults | None" = None
    beforehand: "CandidateVerdict | None" = None

    @property
    def stage(self) -> StageRow:
        """The stage that it is in."""
        return self.stages[-1]

    def to_dict(self) -> dict[str, Any]:
        """As JSON-able values; moments are microseconds since 1970."""
        return {
            "name": self.experiment.name,
            "stage": self.stage.stage,
            "since": self.stage.begun,
            "following": self.following,
            "people": self.people,
            "exposed": self.exposed,
            "both": self.both,
            "experiment": self.experiment.to_dict(),
            "stages": [asdict(one) for one in self.stages],
            "results": None if self.results is None else self.results.to_dict(),
            "beforehand": None if self.beforehand is None else self.beforehand.to_dict(),
        }


def statuses(workspace: Workspace, name: str | None) -> list[ExperimentStatus]:
    """One experiment, or all that ever began, the last one first; a RequestError where there is none of this name."""
    with ExperimentStore(workspace) as store:
        found: Sequence[Running] = store.all() if name is None else [store.find(name)]
        return [_status(store, one) for one in found]


def _status(store: ExperimentStore, one: Running) -> ExperimentStatus:
    experiment, present = one.experiment, one.stage.stage
    later = () if present == STOPPED else ahead(experiment, present)
    counts = store.counts(experiment.name)
    people = {name: sum(n for arm, _, _, n in counts if arm == name) for name in ARMS}
    exposed = {name: sum(n for arm, met, both, n in counts if arm == name and met and not both) for name in ARMS}
    return ExperimentStatus(
        experiment,
        tuple(store.stages(experiment.name)),
        next(iter(later), None),
        people,
        exposed,
        sum(n for _, _, both, n in counts if both),
    )
