"""What an experiment brings and costs in a workspace, by its results, the log of work and the settings of costs."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from molar_eval.experiments.bottom_line import EXPOSED
from molar_eval.experiments.money import Money, money_of, training_work
from molar_eval.experiments.population import shares
from molar_eval.experiments.results import ExperimentResults
from molar_retrieval.data.event_store import DAY
from molar_retrieval.experiments.definition import AB, CANARY, EVERYBODY, Experiment
from molar_retrieval.experiments.records import StageRow

if TYPE_CHECKING:
    from molar_retrieval.workspace.artefacts import Workspace
    from molar_retrieval.workspace.settings import CostSettings

BEFORE = 30
"""Days before an experiment in which its generation may have been made: their trainings are charged to it."""


def earnings(
    results: ExperimentResults,
    experiment: Experiment,
    stages: Sequence[StageRow],
    workspace: "Workspace",
    costs: "CostSettings",
) -> Money | None:
    """What it brings a month once everybody has it, and what it cost so far; None: people never had either arm.

    The margin is that of the experiment, else that of the settings. Other rules and settings take no training.
    """
    last = max((place for place, row in enumerate(stages) if row.stage in EXPOSED), default=None)
    if last is None:
        return None
    ended = stages[last + 1].begun if last + 1 < len(stages) else results.until
    effect, since = results.effect("revenue"), stages[0].begun - BEFORE * DAY
    trained = experiment.treatment.generation is not None or experiment.control.shows != "lists"
    return money_of(
        None if effect is None else (effect.low, effect.difference, effect.high),
        training_work(workspace, since, results.until) if trained else None,
        people=0 if effect is None else sum(effect.people),
        share=compared_share(experiment, stages[: last + 1]),
        days=max(0, ended - stages[last].begun) / DAY,
        margin=costs.margin if experiment.margin is None else experiment.margin,
        machine_hour=costs.machine_hour,
        currency=costs.currency,
        shared=experiment.control.shows == "lists",
    )


def compared_share(experiment: Experiment, stages: Sequence[StageRow]) -> float:
    """Which share of all who would have the treatment is compared in the last of some stages, where people have arms.

    Experiments of one layer have parts of its people; once one is over, its treatment is everybody's. Blocks of time
    are for all.
    """
    stage = stages[-1].stage
    if stage == EVERYBODY or experiment.unit == "time":
        return 1.0
    width = experiment.slice[1] - experiment.slice[0]
    if stage == CANARY:
        return 2 * experiment.canary * width
    meant = shares(experiment, AB, canaried=any(row.stage == CANARY for row in stages))
    return width if meant is None else sum(meant) * width
