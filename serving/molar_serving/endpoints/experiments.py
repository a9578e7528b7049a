"""Experiments: begun, looked at, brought further, ended; and who is in which arm."""

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar

from msgspec import Meta, Struct, field
from starlette.responses import HTMLResponse

from molar_eval.experiments.planning import PLANNED_SHARE, ExperimentPlan
from molar_eval.experiments.results import ExperimentResults
from molar_retrieval import limits
from molar_retrieval.errors import (
    DataError,
    DiskError,
    MissingArtefactError,
    RequestError,
    SettingsError,
    StaleArtefactError,
)
from molar_retrieval.experiments.assignment import held_out
from molar_retrieval.experiments.definition import BETWEEN, HARM_BETWEEN, Experiment
from molar_retrieval.experiments.records import StageRow
from molar_retrieval.experiments.store import ExperimentStore
from molar_retrieval.ranking.query import Id, Share
from molar_retrieval.workspace.config_files import parse_toml
from molar_serving.browsers import ALONE
from molar_serving.endpoint import Call, Endpoint, Reply
from molar_serving.overload import alone
from molar_serving.problems import ProblemError
from molar_serving.wire import Strict

if TYPE_CHECKING:
    from molar.experiments import Experiments
    from molar.introducing.moving import Moved
    from molar.introducing.standing import ExperimentStatus
    from molar_serving.service import Service

_Text = Annotated[str, Meta(max_length=limits.CONDITION)]
_Name = Annotated[str, Meta(min_length=1, max_length=255)]
_Rules = Annotated[str, Meta(max_length=1 << 20)]
_Shows = Literal["lists", "popular", "nothing"]
Found = TypeVar("Found")
_MOST = 4 << 20  # bytes of a body, which may hold rules
_WAIT = 30.0  # seconds for other work that takes as long


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


async def experiments(call: Call) -> Reply:
    """All experiments that ever began, the last one first."""
    found = await asyncio.to_thread(_door(call).status)
    return Reply(ExperimentsAnswer(experiments=[_told(one) for one in found]))


async def experiment(call: Call) -> Reply:
    """How one experiment stands."""
    name = _name(call)
    return Reply(await _done(lambda: _told(_door(call).status(name)[0])))


async def start_experiment(call: Call) -> Reply:
    """Begin an experiment; people have their arms from the next answer on."""
    return Reply(await _done(lambda: _started(call), wait=_WAIT))


async def experiment_results(call: Call) -> Reply:
    """What is known by now, with intervals; a weekly look that is due is put on record."""
    name = _name(call)
    return Reply(await _done(lambda: _results(_door(call).status(name, known=True)[0].results), wait=_WAIT))


async def plan_experiment(call: Call) -> Reply:
    """How many people and weeks it takes to see an effect, by the shop's own log; nothing is written."""
    return Reply(await _done(lambda: _planned(call), wait=_WAIT, contradicted=409))


async def report_experiment(call: Call) -> Reply:
    """The page for those who decide, as `molar experiment report` writes it."""
    name, language = _name(call), call.query.language
    page = await _done(lambda: _reported(call, name, language), wait=_WAIT)
    return Reply(HTMLResponse(page, headers={"Content-Security-Policy": ALONE}))


async def check_experiment(call: Call) -> Reply:
    """Look once: what protects people is carried out, and nothing else."""
    name = _name(call)
    return Reply(await _done(lambda: _results(_door(call).check(name)), wait=_WAIT))


async def advance_experiment(call: Call) -> Reply:
    """Bring an experiment to its next stage; refused (409) where what is known does not say so, unless ``anyway``."""
    name, body = _name(call), call.body
    return Reply(await _done(lambda: _advanced(call, name, body), wait=_WAIT, contradicted=409))


async def stop_experiment(call: Call) -> Reply:
    """End an experiment; where the treatment is kept, its generation goes live."""
    name, body = _name(call), call.body
    return Reply(await _done(lambda: _stopped(call, name, body), contradicted=409))


async def assignments(call: Call) -> Reply:
    """The arms that somebody has on record, and whether they take part in none."""
    asked: AssignmentsParameters = call.query
    if (asked.user_id is None) == (asked.anonymous_id is None):
        raise ProblemError(422, "it is not clear whose arms are asked for", "send user_id or anonymous_id")
    user_id = None if asked.user_id is None else str(asked.user_id)
    key = call.service.names.key(user_id, str(asked.anonymous_id))
    return Reply(await asyncio.to_thread(_assignments, call.service, key))


def undo_start(call: Call, name: str) -> None:
    """End an experiment that somebody began; a ProblemError where it is over."""
    _asked(lambda: _stopped(call, name, StopBody(why="its begin was undone")), 409)


def _door(call: Call) -> "Experiments":
    return call.service.shop.experiments


def _name(call: Call) -> str:
    """The experiment of the path; a ProblemError where there is none of this name."""
    name = call.path["experiment"]
    with ExperimentStore(call.service.workspace) as store:
        try:
            return store.find(name).experiment.name
        except RequestError as error:
            raise ProblemError(404, error.message, error.hint) from error


async def _done(work: Callable[[], Found], *, wait: float | None = None, contradicted: int = 422) -> Found:
    """The outcome of a function in a thread; of one that takes seconds, one at a time."""
    if wait is None:
        return await asyncio.to_thread(_asked, work, contradicted)
    return await alone(lambda: _asked(work, contradicted), wait=wait)


def _asked(work: Callable[[], Found], contradicted: int) -> Found:
    """The outcome of a function; a ProblemError where what was asked is wrong, or contradicts what is there."""
    try:
        return work()
    except DiskError:
        raise
    except RequestError as error:
        raise ProblemError(contradicted, error.message, error.hint) from error
    except SettingsError as error:
        raise ProblemError(422, error.message, error.hint) from error
    except (MissingArtefactError, StaleArtefactError, DataError) as error:
        raise ProblemError(409, error.message, error.hint) from error


def _planned(call: Call) -> PlanAnswer:
    from molar_eval.experiments.planning import remedies, verdicts

    asked = {name: getattr(call.body, name) for name in call.body.__struct_fields__ if name != "effects"}
    found = _door(call).plan(**asked, lifts=call.body.effects)
    return PlanAnswer(plan=found, verdicts=verdicts(found), helps=remedies(found))


def _reported(call: Call, name: str, language: str) -> str:
    from molar_eval.experiments.report import board_page

    (one,) = _door(call).status(name, known=True)
    assert one.results is not None
    return board_page(one.results, one.experiment, one.stages, language)


def _started(call: Call) -> ExperimentAnswer:
    body: ExperimentBody = call.body
    values = {name: getattr(body, name) for name in body.__struct_fields__ if name not in ("treatment", "control")}
    arms = {**_arm("", body.treatment), **_arm("control_", body.control)}
    found = _door(call).start(**values, **arms, by=call.key.name)
    call.service.catch_up()
    call.audit |= {"experiment": body.name, "stage": found.stage.stage}
    call.audit["undo"] = {"kind": "experiment", "experiment": body.name, "stage": found.stage.number}
    return _told(found)


def _arm(prefix: str, body: ArmBody) -> dict[str, Any]:
    rules = None if body.rules is None else parse_toml(body.rules, "rules")
    values = {"rules": rules, **{name: getattr(body, name) for name in ("shows", "generation", "preset", "options")}}
    return {f"{prefix}{name}": value for name, value in values.items()}


def _advanced(call: Call, name: str, body: AdvanceBody) -> MovedAnswer:
    return _moved(call, _door(call).advance(name, body.to, anyway=body.anyway, by=call.key.name))


def _stopped(call: Call, name: str, body: StopBody) -> MovedAnswer:
    return _moved(call, _door(call).stop(name, body.why, keep=body.keep, by=call.key.name))


def _moved(call: Call, moved: "Moved") -> MovedAnswer:
    call.service.catch_up()
    call.audit |= {"experiment": moved.name, "before": moved.before, "stage": moved.stage}
    return MovedAnswer(name=moved.name, before=moved.before, stage=moved.stage, live=moved.live, left=list(moved.left))


def _results(found: ExperimentResults | None) -> ResultsAnswer:
    assert found is not None
    return ResultsAnswer(results=found)


def _told(one: "ExperimentStatus") -> ExperimentAnswer:
    return ExperimentAnswer(
        name=one.experiment.name,
        stage=one.stage.stage,
        since=one.stage.begun,
        following=one.following,
        people=one.people,
        exposed=one.exposed,
        both=one.both,
        experiment=one.experiment,
        stages=list(one.stages),
        beforehand=[] if one.beforehand is None else list(one.beforehand.why),
    )


def _assignments(service: "Service", key: str) -> AssignmentsAnswer:
    found = []
    with ExperimentStore(service.workspace) as store:
        for one in store.all():
            name = one.experiment.name
            if (arm := store.assigned(name, [key]).get(key)) is not None:
                found.append(ListedAssignment(experiment=name, stage=one.stage.stage, arm=arm))
    return AssignmentsAnswer(assignments=found, held_out=held_out(key, service.settings.experiments.holdout))


_ONE = "/v1/experiments/{experiment:path}"
ENDPOINTS = (
    Endpoint("GET", "/v1/experiments", "admin", "Which experiments there are", experiments, reply=ExperimentsAnswer),
    Endpoint(
        "POST",
        "/v1/experiments",
        "admin",
        "Begin an experiment",
        start_experiment,
        body=ExperimentBody,
        reply=ExperimentAnswer,
        most=_MOST,
        changes=True,
    ),
    Endpoint(
        "POST",
        "/v1/experiments/plan",
        "admin",
        "How many people and weeks one takes",
        plan_experiment,
        body=PlanBody,
        reply=PlanAnswer,
    ),
    Endpoint(
        "GET",
        f"{_ONE}/report",
        "admin",
        "The page for those who decide, as HTML",
        report_experiment,
        query=ReportParameters,
    ),
    Endpoint("GET", f"{_ONE}/results", "admin", "What is known of it", experiment_results, reply=ResultsAnswer),
    Endpoint(
        "POST",
        f"{_ONE}/check",
        "admin",
        "Look at it once, and do what protects people",
        check_experiment,
        reply=ResultsAnswer,
        changes=True,
    ),
    Endpoint(
        "POST",
        f"{_ONE}/advance",
        "admin",
        "Bring it to its next stage",
        advance_experiment,
        body=AdvanceBody,
        reply=MovedAnswer,
        changes=True,
    ),
    Endpoint(
        "POST", f"{_ONE}/stop", "admin", "End it", stop_experiment, body=StopBody, reply=MovedAnswer, changes=True
    ),
    Endpoint(
        "GET",
        "/v1/assignments",
        "admin",
        "Which arms somebody has",
        assignments,
        query=AssignmentsParameters,
        reply=AssignmentsAnswer,
    ),
    Endpoint("GET", _ONE, "admin", "How an experiment stands", experiment, reply=ExperimentAnswer),
)
