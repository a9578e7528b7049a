"""Whether an experiment may begin: what it names is there and whole, and nobody would be in two of its layer."""

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from molar_indexes.constraints import Constraints
from molar_indexes.generations import Generation, open_generation
from molar_indexes.verify import bytes_changed
from molar_retrieval.data.schema import find_table
from molar_retrieval.data.values import kind_of, payload_type
from molar_retrieval.errors import DataError, MissingArtefactError, RequestError, SettingsError, StaleArtefactError
from molar_retrieval.experiments.definition import ARMS, Arm, Experiment
from molar_retrieval.experiments.records import Running
from molar_retrieval.experiments.store import ExperimentStore
from molar_retrieval.ranking.filter_language import parse
from molar_retrieval.ranking.query import Query
from molar_retrieval.workspace.artefacts import Workspace

_OURS = RequestError, SettingsError, MissingArtefactError, StaleArtefactError


def admit(workspace: Workspace, store: ExperimentStore, experiment: Experiment, at: int) -> None:
    """Raise what keeps an experiment from beginning at a moment, in microseconds since 1970.

    Raises:
        SettingsError: If arms are the same, or rules wrong.
        RequestError: If a name is taken, another experiment has its people, or a condition or option is not understood.
        MissingArtefactError: If a generation of an arm is not there.
        StaleArtefactError: If one is damaged.
        DataError: If the clock stands before the last entry on record.
    """
    check_clock(store, at)
    if any(one.experiment.name == experiment.name for one in store.all()):
        raise RequestError(
            f"there was an experiment {experiment.name} already", "give another name, so that both can be told apart"
        )
    if experiment.control == experiment.treatment:
        raise SettingsError(
            "both arms are the same, so there is nothing to compare",
            "say what is tried: another generation, preset, rules, an option, or what is shown instead of lists",
        )
    _check_overlap(experiment, store.running())
    with ExitStack() as opened:
        known: dict[str | None, Generation] = {}
        for name in ARMS:
            _check_arm(workspace, name, experiment.arm(name), known, opened)
        _check_segment(workspace.catalogue, next(iter(known.values())), experiment)


def check_clock(store: ExperimentStore, at: int) -> None:
    """Raise a DataError where a moment is before the last entry on record, as after a clock was set back."""
    names = [one.experiment.name for one in store.all()]
    begun = [stage.begun for name in names for stage in store.stages(name)]
    looked = [look.at for name in names for look in store.looks(name)]
    if at < max(begun + looked, default=at):
        raise DataError(
            "the clock of this machine stands before the last entry on record of experiments",
            "set the clock; what is on record stays as it is",
        )


def _check_overlap(experiment: Experiment, running: Sequence[Running]) -> None:
    others = [one.experiment for one in running if one.experiment.layer == experiment.layer]
    first, last = experiment.slice
    for other in others:
        if other.slice[0] < last and first < other.slice[1]:
            free = [f"{begin:g} {end:g}" for begin, end in _free(others)]
            remedy = f"take a free slice: {', '.join(free)}" if free else f"stop {other.name}, which ends it"
            raise RequestError(
                f"the experiment {other.name} has people of the slice {first:g} to {last:g} of the layer"
                f" {experiment.layer}",
                f"{remedy}; or another layer, where the two change different things",
            )


def _free(others: Sequence[Experiment]) -> list[tuple[float, float]]:
    """The parts of a layer that no experiment has."""
    found, reached = [], 0.0
    for first, last in sorted(one.slice for one in others):
        if first > reached:
            found.append((reached, first))
        reached = max(reached, last)
    return [*found, (reached, 1.0)] if reached < 1 else found


def _check_arm(
    workspace: Workspace, name: str, arm: Arm, known: dict[str | None, Generation], opened: ExitStack
) -> None:
    """Raise what keeps an arm from being shown, saying which one it is; ``known`` are generations that are open."""
    try:
        if arm.generation not in known:
            known[arm.generation] = opened.enter_context(open_generation(workspace, arm.generation))
            if arm.generation is not None and (problems := bytes_changed(workspace, arm.generation)):
                raise StaleArtefactError(
                    f"generation {arm.generation} is damaged: {problems[0]}",
                    "name another one of `molar index list`, or publish one: `molar align --stage`",
                )
        constraints = Constraints(known[arm.generation], arm.rules_in(workspace.root))
        _ = constraints.rules  # read, and so checked
        if (field := Query(**arm.options).calibrate) is not None:
            constraints.check_field(field)
    except _OURS as error:
        raise type(error)(f"the {name} arm: {error.message}", error.hint) from error


def _check_segment(catalogue: Path, generation: Generation, experiment: Experiment) -> None:
    segment = experiment.segment
    if any(not one.strip() for one in segment.placements) or len({*segment.placements}) < len(segment.placements):
        raise RequestError("a placement of the segment is empty or named twice", "name each placement once")
    for what, condition in (("people", segment.people), ("items", segment.items)):
        if condition is None:
            continue
        try:
            if what == "items":
                parse(condition, Constraints(generation, None).fields)
            else:
                _check_people(catalogue, generation, condition)
        except RequestError as error:
            raise RequestError(f"the segment of {what}: {error.message}", error.hint) from error


def _check_people(catalogue: Path, generation: Generation, condition: str) -> None:
    """Raise a RequestError where a condition on people is not understood, or asks for what the index does not know."""
    known = dict(generation.manifest.facts.get("segments", {}))
    try:
        parse(condition, known)
    except RequestError:
        in_file = _columns_of_people(catalogue)
        try:
            parse(condition, {**in_file, **known})
        except RequestError as error:
            if not in_file:
                raise RequestError(
                    "nothing is known of people", "put users.parquet or .csv into the catalogue"
                ) from error
            raise
        names = [*known, *(name for name in in_file if name not in known and name in condition)]
        listed = ", ".join(f'"{name}"' for name in names)
        raise RequestError(
            f"the index does not know what the table of users says of {', '.join(n for n in names if n not in known)}",
            f"write segments = [{listed}] under [index] in molar.toml, and run `molar update`",
        ) from None


def _columns_of_people(catalogue: Path) -> dict[str, str]:
    """The columns of the table of users by which people can be chosen, with their kinds; none where there is none."""
    source = find_table(catalogue, "users")
    if source is None:
        return {}
    stored = {name: payload_type(source.schema.field(name).type) for name in source.names}
    return {name: kind_of(kind) for name, kind in stored.items() if kind is not None}
