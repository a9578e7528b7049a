"""An experiment analysed."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from molar_eval.experiments import decisions
from molar_eval.experiments.ab_test import sample_ratio_p
from molar_eval.experiments.blocks import block_effects, block_look, observed_blocks
from molar_eval.experiments.covariates import past_of
from molar_eval.experiments.decisions import ComparedMetric, bound_at_all_times, compared, decide, effect_of
from molar_eval.experiments.exposure import (
    DEEDS,
    NEVER,
    ItemPrices,
    Observed,
    Population,
    in_stage,
    lines_of_people,
    observe,
    population,
    shares,
    told_elsewhere,
)
from molar_eval.experiments.interleaving import compared_shadows, credits, preference
from molar_eval.experiments.money import Money, money_of, training_work
from molar_eval.experiments.results import EXPOSED, Decision, Effect, ExperimentResults
from molar_eval.kpi.by_day import OF_PEOPLE
from molar_eval.prices import catalogue_prices
from molar_retrieval.data.catalogue import Catalogue
from molar_retrieval.data.event_log_reader import EventLogSnapshot, opened
from molar_retrieval.data.event_store import DAY
from molar_retrieval.experiments.definition import (
    AB,
    ARMS,
    CANARY,
    CONTROL,
    EVERYBODY,
    INTERLEAVING,
    SHADOW,
    STOPPED,
    TREATMENT,
    Experiment,
)
from molar_retrieval.experiments.records import Look, StageRow
from molar_retrieval.experiments.store import ExperimentStore
from molar_retrieval.workspace.artefacts import Workspace

if TYPE_CHECKING:
    from molar_retrieval.workspace.artefacts import Workspace
    from molar_retrieval.workspace.settings import CostSettings


GENERATIONS = "generations"
_UNDECIDED = Decision("wait", None, (), automatic=False)


@dataclass(frozen=True)
class _Asked:
    """What is analysed: an experiment in a stage, from its begin to a moment."""

    workspace: Workspace
    experiment: Experiment
    stages: Sequence[StageRow]
    stage: StageRow
    until: int

    @property
    def name(self) -> str:
        return self.experiment.name

    @property
    def begun(self) -> int:
        """When the experiment began."""
        return self.stages[0].begun

    @property
    def canaried(self) -> bool:
        """Whether there was a canary."""
        return any(one.stage == CANARY for one in self.stages)

    @property
    def of_lists(self) -> bool:
        """Whether both arms show lists, so that looks that name one can be compared."""
        return all(self.experiment.arm(arm).shows != "nothing" for arm in ARMS)


def analyse(workspace: Workspace, name: str, until: int) -> ExperimentResults:
    """What an experiment has shown up to a moment, and the decision on its stage.

    A weekly look that is due in the A/B stage is taken and put on record, whoever asks first; while data are broken it
    waits. Nothing else is written. Of an experiment that was stopped, the stage before is shown, as it ended.

    Args:
        workspace: With its record of experiments, its event log and its catalogue.
        name: Of the experiment.
        until: Up to when, in microseconds since 1970; for one that runs, now.

    Raises:
        RequestError: If there is no such experiment.
        DataError: If the record or the log cannot be read.
    """
    with ExperimentStore(workspace) as store:
        experiment, last = (found := store.find(name)).experiment, found.stage
        stages = store.stages(name)
        over = last.stage == STOPPED and len(stages) > 1
        stage = stages[-2] if over else last
        asked = _Asked(workspace, experiment, stages, stage, min(until, last.begun) if over else until)
        with opened(workspace) as state:
            results = _results(asked, store, state, look=not over)
    if over:
        return replace(results, decision=Decision("stop", None, (last.why,), automatic=False))
    return replace(results, decision=decide(experiment, results))


def _results(asked: _Asked, store: ExperimentStore, state: EventLogSnapshot | None, *, look: bool) -> ExperimentResults:
    stage, name = asked.stage, asked.name
    empty = _nothing(asked, decisions.gone(asked.experiment, _generations(asked.workspace)))
    if stage.stage == SHADOW:
        return replace(empty, shadow=compared_shadows(store.shadows(name, stage.begun)))
    if stage.stage == INTERLEAVING:
        lists = store.lists(name)
        lists = lists.filter(pc.greater_equal(lists["at"], stage.begun))
        credited = credits(state, lists, asked.until, asked.experiment.primary, _prices(asked.workspace))
        return replace(empty, preference=preference(credited, asked.experiment.alpha))
    identified = {} if state is None else state.identified()
    kinds = DEEDS if stage.stage in (CANARY, AB) and asked.experiment.unit == "person" else OF_PEOPLE
    since, until = stage.begun - DAY, asked.until + DAY
    lines = [] if state is None else lines_of_people(state, identified, since, until, kinds=kinds)
    removed = 0 if state is None else state.removed
    if asked.experiment.unit == "time" and stage.stage != EVERYBODY:
        return _of_blocks(asked, store, lines, empty, removed, look=look)
    units = store.units(name)
    if asked.experiment.assigned == "elsewhere" and state is not None:
        told = told_elsewhere(lines_of_people(state, identified, asked.begun, asked.until), name)
        units = pa.concat_tables([units, told])
    everybody = population(units, identified)
    people = in_stage(everybody, units, asked.experiment, stage.stage, stage.begun, canaried=asked.canaried)
    observed = observe(people, lines, asked.until, prices=_prices(asked.workspace), of_lists=asked.of_lists)
    return _compared(asked, store, people, observed, empty, removed, look=look)


def _of_blocks(
    asked: _Asked,
    store: ExperimentStore,
    lines: Iterable[pa.Table],
    empty: ExperimentResults,
    removed: int,
    *,
    look: bool,
) -> ExperimentResults:
    """A switchback: blocks of time of two arms, looked at once."""
    experiment, stage = asked.experiment, asked.stage
    prices = _prices(asked.workspace)
    units = store.units(asked.name)
    blocks = observed_blocks(experiment, units, lines, stage.begun, asked.until, prices=prices, of_lists=asked.of_lists)
    wrong = (*empty.problems, *decisions.holes(blocks.observed, stage.begun, asked.until, removed))
    found = block_effects(experiment, blocks)
    looks = _taken(asked, store)
    over = asked.until - stage.begun >= experiment.weeks * decisions.WEEK
    known = found and found[0][0].metric == experiment.primary
    if look and over and known and not wrong and not looks and stage.stage == AB:
        looks.append(store.look(asked.name, block_look(experiment, *found[0], _number(asked, store), asked.until)))
    return replace(
        empty,
        people=blocks.people,
        triggered=blocks.people,
        effects=tuple(effect for effect, _ in found),
        looks=tuple(looks),
        problems=wrong,
    )


def _compared(
    asked: _Asked,
    store: ExperimentStore,
    people: Population,
    observed: Observed,
    empty: ExperimentResults,
    removed: int,
    *,
    look: bool,
) -> ExperimentResults:
    """People of two arms, by what they did."""
    experiment, stage = asked.experiment, asked.stage
    if stage.stage == EVERYBODY:  # who does not come is not compared
        people = replace(people, since=np.where(observed.seen, people.since, NEVER))
    counts, met = people.counts(), people.counts(people.met)
    srm = _srm(asked, counts, met)
    wrong = (
        *empty.problems,
        *decisions.uneven(counts, met, srm),
        *decisions.mixed(people),
        *decisions.silent(people, observed),
        *decisions.unpriced(experiment, observed),
        *decisions.unheard_clicks(experiment, observed),
        *decisions.clocks(people, observed, asked.until),
        *decisions.holes(observed, stage.begun, asked.until, removed),
    )
    past = None if stage.stage == CANARY else past_of(people, asked.workspace, asked.begun)
    metrics = compared(people, observed, past, experiment.primary)
    looks = _looks(asked, store, metrics, take=look and not wrong)
    served = store.served(asked.name, stage.begun, asked.until)
    return replace(
        empty,
        people=counts,
        triggered=met,
        both=people.both,
        srm=srm,
        effects=tuple(_effect(asked, one, looks) for one in metrics),
        guardrails=(
            *decisions.of_people(people, observed, experiment.harms),
            *decisions.of_answers(served, experiment.harms),
        ),
        looks=tuple(looks),
        problems=wrong,
    )


def _taken(asked: _Asked, store: ExperimentStore) -> list[Look]:
    """Looks at the present A/B stage that are on record."""
    return [look for look in store.looks(asked.name) if look.stage == AB and look.at >= asked.stage.begun]


def _number(asked: _Asked, store: ExperimentStore) -> int:
    """That of the next look."""
    return max((look.number for look in store.looks(asked.name)), default=0) + 1


def _looks(asked: _Asked, store: ExperimentStore, metrics: Sequence[ComparedMetric], *, take: bool) -> list[Look]:
    """Looks at the present A/B stage that are on record, with the one that is due."""
    taken = _taken(asked, store)
    if not take or asked.stage.stage != AB or not metrics or metrics[0].metric != asked.experiment.primary:
        return taken
    due = decisions.due(asked.experiment, asked.stage.begun, asked.until, taken)
    if due is None:
        return taken
    number = _number(asked, store)
    made = decisions.taken_now(asked.experiment, due, metrics[0], taken, number, asked.until)
    return taken if made is None else [*taken, store.look(asked.name, made)]


def _effect(asked: _Asked, found: ComparedMetric, looks: Sequence[Look]) -> Effect:
    """With the bound of the look that has decided, else with one that holds at all times."""
    last = looks[-1].bound if looks and looks[-1].decision != "wait" else None
    return effect_of(found, bound_at_all_times(found.comparison, asked.experiment.alpha) if last is None else last)


def _srm(asked: _Asked, *counts: dict[str, int]) -> float | None:
    """The smaller p of people and of those who met a difference, however often it is asked."""
    meant = shares(asked.experiment, asked.stage.stage, canaried=asked.canaried)
    if meant is None:
        return None
    return min(sample_ratio_p((one[CONTROL], one[TREATMENT]), meant) for one in counts)


def _nothing(asked: _Asked, wrong: Sequence[str]) -> ExperimentResults:
    return ExperimentResults(
        name=asked.name,
        stage=asked.stage.stage,
        since=asked.stage.begun,
        until=asked.until,
        people={},
        triggered={},
        both=0,
        srm=None,
        effects=(),
        guardrails=(),
        preference=None,
        shadow=None,
        looks=(),
        money=None,
        decision=_UNDECIDED,
        problems=tuple(wrong),
    )


def _prices(workspace: Workspace) -> ItemPrices | None:
    live = workspace["catalogue"].live
    if live is None:
        return None
    catalogue = Catalogue(*live)
    prices = catalogue_prices(catalogue)
    return None if prices is None else ItemPrices(catalogue.lookup, prices)


def _generations(workspace: Workspace) -> set[str]:
    return {version.name for version in workspace[GENERATIONS].versions()}


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
