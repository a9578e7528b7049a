"""Experiments: what runs, what is known of each, going on and stopping; a form that begins one of the simple kinds."""

import asyncio
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeVar
from urllib.parse import quote

from molar_eval.experiments.planning import ExperimentPlan
from molar_eval.experiments.report import DefinitionTold, ResultsTold, board_page, words_in
from molar_retrieval.errors import MolarError, RequestError
from molar_retrieval.experiments.definition import CONTROL, PRIMARIES, STOPPED, TREATMENT
from molar_retrieval.workspace.config_files import parse_toml
from molar_serving.browsers import ALONE
from molar_serving.endpoints.generations import listed as listed_generations
from molar_serving.problems import ProblemError
from molar_serving.rules_file import RulesFile
from molar_serving.studio.drafts import Draft
from molar_serving.studio.visit import Page, Screen, Visit

if TYPE_CHECKING:
    from molar.introducing.standing import ExperimentStatus
    from molar_eval.experiments.results import ExperimentResults
    from molar_indexes.answerer import Answerer
    from molar_serving.service import Service

MINUTE, HOUR = 60.0, 3600.0
LIFTS = (0.05, 0.1, 0.2)
"""Effects of which the form says how long they take."""
Made = TypeVar("Made")
_HERE = "/studio/experiments"
_KINDS = ("generation", "rules", "lists")
_AGAINST = ("lists", "popular", "nothing")
_MOST = 1 << 20  # bytes of a form
_WEEKS = 4
_FIELDS = (
    "name", "tried", "generation", "rules", "against", "column", "value", "placements", "primary", "weeks",
)  # fmt: skip


class KeptFor(Generic[Made]):
    """What is made again only after so many seconds, by what it was made of; threads may share it.

    Args:
        seconds: How long it is kept.
        most: How many are kept.
    """

    def __init__(self, seconds: float, most: int = 64) -> None:
        self._seconds, self._most = seconds, most
        self._known: OrderedDict[Hashable, tuple[float, Made]] = OrderedDict()
        self._lock = threading.Lock()

    def of(self, key: Hashable, make: Callable[[], Made]) -> Made:
        """What is kept of a key, or was made now."""
        with self._lock:
            found = self._known.get(key)
        if found is not None and time.monotonic() - found[0] < self._seconds:
            return found[1]
        made = make()
        with self._lock:
            self._known[key] = time.monotonic(), made
            self._known.move_to_end(key)
            while len(self._known) > self._most:
                self._known.popitem(last=False)
        return made


@dataclass(frozen=True)
class KnownExperiment:
    """How an experiment stands, with what is known of it at a moment (seconds since 1970)."""

    status: "ExperimentStatus"
    results: "ExperimentResults"
    at: float

    def told(self, language: str) -> ResultsTold:
        """In somebody's language."""
        return ResultsTold(self.results, self.status.experiment, self.status.stages, language)


@dataclass(frozen=True)
class ListedExperiment:
    """One line of the list.

    Attributes:
        name: Its name.
        stage: In which it is.
        since: Since when, in seconds since 1970.
        people: How many met a difference.
    """

    name: str
    stage: str
    since: float
    people: int

    @property
    def over(self) -> bool:
        """Whether it was stopped."""
        return self.stage == STOPPED


@dataclass(frozen=True)
class WeeksOfEffect:
    """In how many weeks an effect is seen, by metric; None: not within the longest window."""

    lift: float
    weeks: dict[str, int | None]


@dataclass(frozen=True)
class SeenInShop:
    """What the shop can see, by its own log: people a week, effects, and the longest window that was looked at."""

    people: int
    weeks: int
    effects: tuple[WeeksOfEffect, ...]
    longest: int
    metrics: tuple[str, ...]


_RESULTS: KeptFor[KnownExperiment] = KeptFor(MINUTE)
_PLANS: KeptFor[SeenInShop] = KeptFor(HOUR)


def listed(service: "Service") -> list[ListedExperiment]:
    """All experiments, the last one first."""
    return [
        ListedExperiment(one.experiment.name, one.stage.stage, one.stage.begun / 1e6, sum(one.exposed.values()))
        for one in service.shop.experiments.status()
    ]


def standing(service: "Service", name: str) -> "ExperimentStatus":
    """How an experiment stands, without what is known of it; a ProblemError if there is none."""
    try:
        return service.shop.experiments.status(name)[0]
    except RequestError as error:
        raise ProblemError(404, error.message, error.hint) from error


def known(service: "Service", name: str) -> KnownExperiment:
    """What is known of an experiment, analysed within the last minute; a ProblemError if there is none."""
    stages = standing(service, name).stages

    def made() -> KnownExperiment:
        now = time.time()
        (status,) = service.shop.experiments.status(name, known=True)
        assert status.results is not None
        return KnownExperiment(status, status.results, now)

    return _RESULTS.of((str(service.workspace.root), name, len(stages)), made)


def seen_in_shop(service: "Service") -> SeenInShop:
    """What the shop can see within so many weeks, half of its people in either arm, with CUPED.

    A DataError where the log is too short.
    """
    versions = service.workspace["catalogue"].pointer, service.workspace["interactions"].pointer
    return _PLANS.of(
        (str(service.workspace.root), *versions), lambda: _seen(service.shop.experiments.plan(lifts=LIFTS))
    )


def _seen(plan: ExperimentPlan) -> SeenInShop:
    windows = plan.metrics["conversion"]
    found = []
    for lift in LIFTS:
        shortest = {metric: plan.shortest(metric, lift, cuped=True) for metric in plan.metrics}
        found.append(
            WeeksOfEffect(lift, {metric: None if one is None else one.weeks for metric, one in shortest.items()})
        )
    return SeenInShop(windows[0].people, windows[0].weeks, tuple(found), windows[-1].weeks, tuple(plan.metrics))


async def overview(visit: Visit) -> Page:
    """All experiments, the last one first."""
    found = await visit.do(lambda: listed(visit.service))
    return Page("experiments/experiments.html.jinja", {"experiments": found, "b": words_in(visit.language.code)})


async def verdict(visit: Visit) -> Page:
    """What to take from an experiment so far, as a part of the list."""
    found = await visit.do(lambda: known(visit.service, _name(visit)))
    return Page("experiments/verdict.html.jinja", {"told": found.told(visit.language.code)})


async def one(visit: Visit) -> Page:
    """An experiment: what it is and how it went; what is known of it is a part that the page asks for."""
    name = _name(visit)
    status = await visit.do(lambda: standing(visit.service, name))
    told = DefinitionTold(status.experiment, status.stages, visit.language.code)
    shown: dict[str, Any] = {"told": told, "known": None, "status": status}
    if visit.asked("now"):
        shown |= await _results(visit, name)
    return Page("experiments/experiment.html.jinja", shown)


async def results(visit: Visit) -> Page:
    """What is known of an experiment."""
    return Page("experiments/results.html.jinja", await _results(visit, _name(visit)))


async def page(visit: Visit) -> Page:
    """The page for those who decide, as it is written to a file."""
    found = await visit.do(lambda: known(visit.service, _name(visit)))
    text = board_page(found.results, found.status.experiment, found.status.stages, visit.language.code)
    headers = {"Content-Security-Policy": ALONE}
    return Page(content=text.encode("utf-8"), headers=headers, media_type="text/html; charset=utf-8")


async def advance(visit: Visit) -> Page:
    """Bring an experiment to its next stage."""
    name, by = _name(visit), visit.call.key.name
    anyway = visit.sent("anyway") == "yes"
    moved = await asyncio.to_thread(lambda: visit.service.shop.experiments.advance(name, anyway=anyway, by=by))
    visit.audit["experiment"], visit.audit["stage"] = name, moved.stage
    return Page.to(_address(name))


async def stop(visit: Visit) -> Page:
    """End an experiment."""
    name, by, why = _name(visit), visit.call.key.name, visit.sent("why").strip()
    if (kept := visit.sent("keep")) not in (CONTROL, TREATMENT):
        raise ProblemError(422, "it is not said what stays", f"choose {CONTROL} or {TREATMENT}", field="keep")
    keep: Literal["control", "treatment"] = "treatment" if kept == TREATMENT else "control"
    await asyncio.to_thread(lambda: visit.service.shop.experiments.stop(name, why, keep=keep, by=by))
    visit.audit["experiment"], visit.audit["stage"] = name, STOPPED
    return Page.to(_address(name))


async def new(visit: Visit) -> Page:
    """The form."""
    return await visit.do(lambda: _form(visit, {}))


async def new_of_rules(visit: Visit) -> Page:
    """The form for rules as somebody is about to have them."""
    draft = Draft.of_form(visit.sent("draft", "[]"), "")
    return await visit.do(lambda: _form(visit, {"tried": "rules", "rules": draft.text}))


async def plan(visit: Visit) -> Page:
    """How long it takes to see an effect, by the shop's own log."""
    try:
        found, problem = await visit.do(lambda: seen_in_shop(visit.service)), None
    except MolarError as error:
        found, problem = None, error
    return Page("experiments/plan.html.jinja", {"found": found, "problem": problem})


async def start(visit: Visit) -> Page:
    """Begin an experiment; what was typed is kept where it cannot begin."""
    sent = {name: visit.sent(name) for name in visit.form if name != "studio_token"}
    try:
        wanted = _wanted(visit)
        await asyncio.to_thread(lambda: visit.service.shop.experiments.start(**wanted, by=visit.call.key.name))
    except MolarError as error:
        problem = ProblemError(422, error.message, error.hint)
        return await visit.do(lambda: _form(visit, sent, problem))
    visit.audit["experiment"] = wanted["name"]
    return Page.to(_address(wanted["name"]))


def _name(visit: Visit) -> str:
    return visit.path["name"]


def _address(name: str) -> str:
    return f"{_HERE}/of/{quote(name, safe='')}"


async def _results(visit: Visit, name: str) -> dict[str, Any]:
    found = await visit.do(lambda: known(visit.service, name))
    return {"known": found, "told": found.told(visit.language.code), "name": name}


def _form(visit: Visit, sent: Mapping[str, str], problem: ProblemError | None = None) -> Page:
    """The form with what was typed, else with what is usual."""
    found = listed_generations(visit.service)
    waiting = [one.generation for one in found.generations if one.generation != found.live]
    with visit.service.recommender.answering() as answerer:
        columns = sorted(_columns(answerer))
    usual = {
        "name": "", "tried": "generation" if waiting else "rules", "generation": waiting[-1] if waiting else "",
        "against": "lists", "column": "", "value": "", "placements": "", "primary": PRIMARIES[0], "weeks": str(_WEEKS),
        "rules": RulesFile(visit.service.workspace).text,
    }  # fmt: skip
    t = visit.language
    shown = {
        "form": {**usual, **sent}, "waiting": list(reversed(waiting)), "columns": columns, "problem": problem,
        "kinds": [(one, t(f"experiments.tried_{one}")) for one in _KINDS],
        "againsts": [(one, t(f"experiments.against_{one}")) for one in _AGAINST],
        "primaries": [(one, t(f"experiments.primary_{one}")) for one in PRIMARIES],
    }  # fmt: skip
    return Page("experiments/new.html.jinja", shown, 200 if problem is None else problem.status)


def _columns(answerer: "Answerer") -> Mapping[str, str]:
    """What is known of people, by column: its kind."""
    found: Mapping[str, str] = answerer.generation.manifest.facts.get("segments", {})
    return found


def _wanted(visit: Visit) -> dict[str, Any]:
    """What is to begin, by the form; a MolarError says what is wrong about it."""
    tried, against = visit.sent("tried"), visit.sent("against")
    if tried not in _KINDS or against not in _AGAINST:
        raise RequestError("it is not said what is tried, or against what", "choose one of each")
    wanted: dict[str, Any] = {"name": visit.sent("name").strip(), "control_shows": against}
    if tried == "generation":
        wanted["generation"] = visit.sent("generation")
    elif tried == "rules":
        wanted["rules"] = parse_toml(visit.sent("rules").replace("\r\n", "\n"), "the rules")
    with visit.service.recommender.answering() as answerer:
        kinds = _columns(answerer)
    wanted["people"] = _condition(visit.sent("column"), visit.sent("value").strip(), kinds)
    wanted["placements"] = [one for part in visit.sent("placements").split(",") if (one := part.strip())]
    weeks, primary = visit.sent("weeks"), visit.sent("primary")
    if not weeks.isdecimal() or len(weeks) > 3:
        raise RequestError("the weeks are no number", "give whole weeks, as 4")
    return wanted | {"weeks": int(weeks), "primary": primary}


def _condition(column: str, value: str, kinds: Mapping[str, str]) -> str | None:
    """That a column has a value, in the filter language."""
    if bool(column) != bool(value):
        raise RequestError("a column is named without a value, or a value without a column", "give both, or none")
    if not column:
        return None
    plain = kinds.get(column, "keyword") != "keyword" and value.replace(".", "").replace("-", "").isalnum()
    return f"{_quoted(column)} = {value if plain else _quoted(value)}"


def _quoted(words: str) -> str:
    return '"' + words.replace('"', '""') + '"'


SCREENS = (
    Screen("GET", _HERE, "viewer", overview, nav="experiments"),
    Screen("GET", f"{_HERE}/new", "admin", new),
    Screen("POST", f"{_HERE}/new", "admin", new_of_rules, most=_MOST, fields=("draft",)),
    Screen("GET", f"{_HERE}/plan", "viewer", plan),
    Screen("POST", f"{_HERE}/start", "admin", start, changes=True, most=_MOST, fields=_FIELDS),
    Screen("GET", f"{_HERE}/of/{{name:path}}", "viewer", one),
    Screen("GET", f"{_HERE}/results/{{name:path}}", "viewer", results),
    Screen("GET", f"{_HERE}/verdict/{{name:path}}", "viewer", verdict),
    Screen("GET", f"{_HERE}/page/{{name:path}}", "viewer", page),
    Screen("POST", f"{_HERE}/advance/{{name:path}}", "admin", advance, changes=True),
    Screen("POST", f"{_HERE}/stop/{{name:path}}", "admin", stop, changes=True, fields=("why", "keep")),
)
