"""The stages that an experiment can go through."""

from molar_retrieval.errors import SettingsError
from molar_retrieval.experiments.definition import (
    AB,
    ARMS,
    CANARY,
    EVERYBODY,
    INTERLEAVING,
    SHADOW,
    Experiment,
    Stage,
)


def path_of(experiment: Experiment) -> tuple[Stage, ...]:
    """In their order. Two lists are compared where both arms have one, and interleaved for people.

    Who is assigned elsewhere gets no shares from here, and blocks of time are too few for a canary.
    """
    if experiment.assigned == "elsewhere":
        return AB, EVERYBODY
    listed = all(experiment.arm(name).shows != "nothing" for name in ARMS)
    if experiment.unit == "time":
        return (SHADOW, AB, EVERYBODY) if listed else (AB, EVERYBODY)
    return (SHADOW, INTERLEAVING, CANARY, AB, EVERYBODY) if listed else (CANARY, AB, EVERYBODY)


def ahead(experiment: Experiment, present: Stage) -> tuple[Stage, ...]:
    """The stages that may come after the present one; all of them where it went back to one that it has not."""
    path = path_of(experiment)
    return path[path.index(present) + 1 :] if present in path else path


def first_stage(experiment: Experiment, wanted: str | None) -> Stage:
    """The stage in which it begins; None: the first that it has. A SettingsError where it cannot begin so."""
    possible = [stage for stage in path_of(experiment) if stage != EVERYBODY]
    if wanted is None:
        return possible[0]
    for stage in possible:
        if stage == wanted:
            return stage
    raise SettingsError(f"this experiment cannot begin with the stage {wanted}", f"give {', '.join(possible)}")
