"""A person brings an experiment further, or ends it.

Whatever goes live does so before it is on record that it is everybody's, or over: killed in between, nobody's arm shows
anything else, as arms name their generations, and the same call again ends it. Once the treatment is everybody's, its
arm is what is live: updates and rollbacks hold, and nothing here makes an older generation of it live again.
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from molar.introducing.admission import check_clock
from molar.introducing.path import ahead
from molar.introducing.refusing import refused
from molar.introducing.starting import WORK
from molar_retrieval.errors import RequestError
from molar_retrieval.experiments.definition import EVERYBODY, SHADOW, STOPPED, TREATMENT, Arm, Experiment, Stage
from molar_retrieval.experiments.store import KIND, ExperimentStore
from molar_retrieval.workspace.artefacts import Workspace

if TYPE_CHECKING:
    from molar_eval.experiments.results import Decision

Kept = Literal["control", "treatment"]
Activate = Callable[[str], object]
"""Makes a generation the live one, by its name."""


@dataclass(frozen=True)
class Moved:
    """A stage that an experiment was brought to.

    Attributes:
        name: Of the experiment.
        before: The stage that it was in.
        stage: The one that it is in.
        live: The generation that went live with it; None: what was live is.
        left: What is left for a person to do, in sentences.
    """

    name: str
    before: Stage
    stage: Stage
    live: str | None = None
    left: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """As JSON-able values."""
        return asdict(self)


def advance(
    workspace: Workspace,
    name: str,
    to: str | None,
    at: int,
    by: str,
    *,
    decide: "Callable[[], Decision]",
    anyway: bool,
    activate: Activate,
) -> Moved:
    """Bring an experiment to its next stage, or to a later one.

    Args:
        workspace: Its workspace.
        name: Its name.
        to: The stage; None: that of the decision, or the next one.
        at: The present moment, in microseconds since 1970.
        by: Who says so.
        decide: What is known, see :attr:`molar_eval.experiments.results.ExperimentResults.decision`.
        anyway: Whether it is done whatever is known; that is written down.
        activate: Makes a generation live.

    Raises:
        RequestError: If there is no such experiment or stage, it is over, or what is known does not say so.
        DataError: If another process changes experiments, or the clock was set back.
    """
    with workspace.lock(KIND, WORK), ExperimentStore(workspace) as store:
        check_clock(store, at)
        found = store.find(name)
        present, live = found.stage.stage, None
        if present == STOPPED:
            raise RequestError(f"the experiment {name} is over", "begin another one: `molar experiment start`")
        if present == EVERYBODY:
            if to not in (None, EVERYBODY):
                raise RequestError(f"the experiment {name} is in its last stage", "`molar experiment stop` ends it")
        else:
            decision = _doubted(workspace, found.experiment, present, decide())
            target = _target(found.experiment, present, to or decision.to)
            why = _why(found.experiment, present, target, decision, anyway=anyway)
            if target == EVERYBODY:
                live = activated(workspace, found.experiment.treatment, activate)
            store.move(name, target, at, why, by)
        return Moved(name, present, store.find(name).stage.stage, live)


def stop(
    workspace: Workspace, name: str, why: str, at: int, by: str, *, keep: Kept = "control", activate: Activate
) -> Moved:
    """End an experiment; from now on everybody has what is live, which is the generation of the arm that is kept.

    Args:
        workspace: Its workspace.
        name: Its name.
        why: Why, as it is written down.
        at: The present moment, in microseconds since 1970.
        by: Who says so.
        keep: The arm that stays.
        activate: Makes a generation live.

    Raises:
        RequestError: If there is no such experiment, or it is over.
        DataError: If another process changes experiments, or the clock was set back.
    """
    with workspace.lock(KIND, WORK), ExperimentStore(workspace) as store:
        check_clock(store, at)
        found = store.find(name)
        present = found.stage.stage
        if present == STOPPED:
            raise RequestError(f"the experiment {name} is over already", "`molar experiment status` says since when")
        arm, live = found.experiment.arm(keep), None
        if (keep == TREATMENT) != (present == EVERYBODY):
            live = activated(workspace, arm, activate)
        store.move(name, STOPPED, at, f"{why}; {keep} is kept" if why else f"{keep} is kept", by)
        return Moved(name, present, STOPPED, live, _left(arm) if keep == TREATMENT else ())


def _doubted(workspace: Workspace, experiment: Experiment, present: Stage, decision: "Decision") -> "Decision":
    """The decision, but to wait where nobody has seen the treatment yet and the log of what was shown refuses it."""
    words = refused(workspace, experiment) if present == SHADOW and decision.go == "on" else None
    return decision if words is None else replace(decision, go="wait", to=None, why=(words,))


def _target(experiment: Experiment, present: Stage, wanted: str | None) -> Stage:
    later = ahead(experiment, present)
    if wanted is None:
        return later[0]
    for stage in later:
        if stage == wanted:
            return stage
    raise RequestError(
        f"the experiment {experiment.name} cannot go from {present} to {wanted}", f"stages ahead are {', '.join(later)}"
    )


def _why(experiment: Experiment, present: Stage, target: Stage, decision: "Decision", *, anyway: bool) -> str:
    """What is written down of a move; a RequestError where what is known does not say so."""
    said, later = "; ".join(decision.why), ahead(experiment, present)
    meant = decision.to if decision.to in later else later[0]
    if decision.go == "on" and later.index(target) <= later.index(meant):
        return said
    if not anyway:
        raise RequestError(
            f"what is known does not say that {experiment.name} should go on to {target}: {said}",
            "wait for what is missing, or say --anyway, which is written down",
        )
    return f"anyway, against: {said}"


def activated(workspace: Workspace, arm: Arm, activate: Activate) -> str | None:
    """Make the generation of an arm live; its name, or None where it is, or the arm names none."""
    if arm.generation is None or arm.generation == workspace["generations"].pointer:
        return None
    activate(arm.generation)
    return arm.generation


def _left(arm: Arm) -> tuple[str, ...]:
    """What keeps an arm when its experiment is over, which only people can do."""
    found = []
    if arm.generation is not None:
        found.append("Write the settings of its generation into molar.toml, so that the next training keeps them.")
    if arm.rules is not None:
        found.append(f"Put its rules in the place of rules.toml: {arm.rules}.")
    if arm.options:
        said = ", ".join(f"{name} = {value}" for name, value in arm.options.items())
        found.append(f"Ask for lists with its options: {said}.")
    if arm.shows != "lists":
        found.append(f"Pages are to show {'no lists' if arm.shows == 'nothing' else 'the popular list'}.")
    return tuple(found)
