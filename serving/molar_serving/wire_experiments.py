"""Experiments over the wire."""

from typing import Annotated, Any, Literal

from msgspec import Meta, Struct, field

from molar_eval.experiments.plan import PLANNED_SHARE, ExperimentPlan
from molar_eval.experiments.results import ExperimentResults
from molar_retrieval import limits
from molar_retrieval.experiments.definition import BETWEEN, HARM_BETWEEN, Experiment
from molar_retrieval.experiments.records import StageRow
from molar_serving.wire import Id, Share, Strict

_Text = Annotated[str, Meta(max_length=limits.CONDITION)]
_Name = Annotated[str, Meta(min_length=1, max_length=255)]
_Rules = Annotated[str, Meta(max_length=1 << 20)]
_Shows = Literal["lists", "popular", "nothing"]


def _between(name: str) -> Meta:
    least, most = BETWEEN[name]
    return Meta(ge=least, le=most)


_Weeks = Annotated[int, _between("weeks")]
_Alpha = Annotated[float, _between("alpha")]
_Treated = Annotated[float, _between("treated")]
_Effect = Annotated[float, _between("lift")]
_Harm = Annotated[float, Meta(ge=HARM_BETWEEN[0], le=HARM_BETWEEN[1])]


class ArmBody(Strict):
    """What the people of an arm are to be shown.

    Attributes:
        shows: Lists of their own, the popular one, or nothing.
        generation: That answers; null: what is live now.
        preset: Instead, the last generation made with it.
        rules: As text of TOML; null: those of the shop.
        options: Of questions, as ``diversity``; see docs/experiments.md.
    """

    shows: _Shows = "lists"
    generation: _Name | None = None
    preset: _Name | None = None
    rules: _Rules | None = None
    options: dict[str, Any] = field(default_factory=dict)


class ExperimentBody(Strict):
    """An experiment that is to begin; what each field means is at the fields of its answer."""

    name: Annotated[str, Meta(min_length=1, max_length=64)]
    treatment: ArmBody
    control: ArmBody = field(default_factory=ArmBody)
    people: _Text | None = None
    items: _Text | None = None
    placements: Annotated[list[_Name], Meta(max_length=100)] = field(default_factory=list)
    primary: Literal["conversion", "revenue", "clicks"] = "conversion"
    stage: Literal["shadow", "interleaving", "canary", "ab"] | None = None
    unit: Literal["person", "time"] = "person"
    assigned: Literal["here", "elsewhere"] = "here"
    layer: _Name = Experiment.layer
    slice: tuple[Share, Share] = Experiment.slice
    canary: Annotated[float, _between("canary")] = Experiment.canary
    treated: _Treated = Experiment.treated
    weeks: _Weeks = Experiment.weeks
    alpha: _Alpha = Experiment.alpha
    power: Annotated[float, _between("power")] = Experiment.power
    lift: _Effect = Experiment.lift
    harm: dict[str, _Harm] = field(default_factory=dict)
    block_hours: Annotated[int, _between("block_hours")] = Experiment.block_hours
    margin: Annotated[float, _between("margin")] | None = None
    anyway: bool = False


class PlanBody(Strict):
    """What is asked of a plan; lengths are in weeks, effects shares: 0.1 is +10 %.

    Attributes:
        who: Who is in the experiment; null: visitors, where the event log knows them for four weeks, else buyers.
        share: Which share of them.
        treated: Which share of these is in the new arm.
        power: The chance that an effect is seen that is there.
        alpha: The chance of a false alarm, both sides together.
        weeks: Lengths to look at.
        effects: Effects to look at.
    """

    who: Literal["buyers", "visitors"] | None = None
    share: Annotated[float, Meta(ge=PLANNED_SHARE, le=1)] = 1.0
    treated: _Treated = 0.5
    power: Annotated[float, Meta(ge=BETWEEN["alpha"][0], le=BETWEEN["power"][1])] = 0.8
    alpha: _Alpha = 0.05
    weeks: Annotated[list[_Weeks], Meta(min_length=1, max_length=20)] = field(default_factory=lambda: [1, 2, 4, 8, 12])
    effects: Annotated[list[_Effect], Meta(min_length=1, max_length=20)] = field(
        default_factory=lambda: [0.05, 0.1, 0.2]
    )


class PlanAnswer(Struct, kw_only=True):
    """How many people and weeks it takes; what that comes to, and what helps, in sentences."""

    plan: ExperimentPlan
    verdicts: list[str]
    helps: list[str]


class ReportParameters(Strict):
    """The language of the page."""

    language: Literal["en", "de", "ja"] = "en"


class AdvanceBody(Strict):
    """The stage, if it is not the next one; whether it is done though what is known does not say so."""

    to: Literal["interleaving", "canary", "ab", "everybody"] | None = None
    anyway: bool = False


class StopBody(Strict):
    """Why, as it is written down, and the arm that everybody has from then on."""

    why: Annotated[str, Meta(max_length=1_000)] = ""
    keep: Literal["control", "treatment"] = "control"


class ExperimentAnswer(Struct, kw_only=True):
    """How an experiment stands; moments are microseconds since 1970.

    Attributes:
        name: Its name.
        stage: That it is in.
        since: When that began.
        following: The stage that comes next, or null.
        people: Who is in each arm, by arm.
        exposed: Of them who met a list on which the arms differ, and saw one arm alone.
        both: Who saw both arms, and counts for neither.
        experiment: What it is.
        stages: Those that it was in, the present one last.
        beforehand: As it begins, what the log of what was shown says of the treatment, in sentences.
    """

    name: str
    stage: str
    since: int
    following: str | None
    people: dict[str, int]
    exposed: dict[str, int]
    both: int
    experiment: Experiment
    stages: list[StageRow]
    beforehand: list[str]


class ExperimentsAnswer(Struct, kw_only=True):
    """All experiments that ever began, the last one first."""

    experiments: list[ExperimentAnswer]


class ResultsAnswer(Struct, kw_only=True):
    """What is known of an experiment."""

    results: ExperimentResults


class MovedAnswer(Struct, kw_only=True):
    """The stage that an experiment was in, and is in now.

    Attributes:
        name: Of the experiment.
        before: The stage that it was in.
        stage: The one that it is in.
        live: The generation that went live with it, or null.
        left: What is left for a person to do, in sentences.
    """

    name: str
    before: str
    stage: str
    live: str | None
    left: list[str]


class AssignmentsParameters(Strict):
    """Whose arms are asked for: a user's, or somebody anonymous'."""

    user_id: Id | None = None
    anonymous_id: Id | None = None


class ListedAssignment(Struct, kw_only=True):
    """An experiment, the stage that it is in, and the arm that somebody has on record."""

    experiment: str
    stage: str
    arm: str


class AssignmentsAnswer(Struct, kw_only=True):
    """The arms that somebody has on record; ``held_out``: they take part in no experiment."""

    assignments: list[ListedAssignment]
    held_out: bool
