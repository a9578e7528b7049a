"""People: found by id or among those of the last events; somebody's history and list, and why it is as it is.

Why somebody saw a list: what was shown, from the event log and the answers that are kept, and the list made again.

It is made by the generation, the events and the rules of that moment. What of these is not known for sure is named, as
is where the two differ.
"""

from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from molar_eval.experiments.arms import arms_then
from molar_eval.experiments.routing import clock
from molar_indexes.generations import list_generations
from molar_indexes.inspection import titles_of
from molar_indexes.recommender import RULES_FILE, as_it_was
from molar_retrieval import limits
from molar_retrieval.columns import ITEM_ID
from molar_retrieval.data.event_log_reader import opened
from molar_retrieval.data.live_events import EventLogReader
from molar_retrieval.privacy.pseudonyms import of_key
from molar_retrieval.ranking.results import made_at
from molar_retrieval.workspace.config_files import parse_toml
from molar_serving.asking import Question, ask, popular, who
from molar_serving.lists import answered_item
from molar_serving.problems import ProblemError
from molar_serving.rules_file import RulesFile
from molar_serving.studio.finding import find_items
from molar_serving.studio.people import PLACES, Asked, Somebody, person_page, seen_lately, some_people, why
from molar_serving.studio.visit import Page, Screen, Visit
from molar_serving.wire import AnsweredItem, ListAnswer, RecommendationRequest, SearchRequest

if TYPE_CHECKING:
    from molar_indexes.recommender import Recommender
    from molar_retrieval.ranking.results import Recommendations
    from molar_retrieval.workspace.artefacts import Workspace
    from molar_serving.response_store import Shown
    from molar_serving.service import Service

_LISTS = 50  # that were shown to somebody, the latest
_TRIED = 3  # generations, where it is not known which one was live
Verdict = Literal["same", "differs", "gone", "nothing"]
_FOUND = 6  # items that somebody could take
_SUPPOSED = 20  # items that are left out, or taken


@dataclass(frozen=True)
class PastList:
    """A list that somebody was shown.

    Attributes:
        answer_id: The answer that it was of, as the event log names it.
        at: When, in seconds since 1970.
        items: Their ids by place.
    """

    answer_id: str
    at: float
    items: Mapping[int, str]


@dataclass(frozen=True)
class RulesOfThen:
    """The rules that held at a moment.

    Attributes:
        text: What the file said; empty: there were none.
        version: The name of the former version; None: it is the file of now.
        certain: Whether nobody can have changed the file by hand since, unseen.
    """

    text: str
    version: str | None
    certain: bool


@dataclass(frozen=True)
class PastPlace:
    """A place of a list: what was shown there, and what stands there when the list is made again; None: nothing."""

    place: int
    shown: str | None
    made: AnsweredItem | None

    @property
    def same(self) -> bool:
        """Whether nothing that was shown is another item now."""
        return self.shown is None or (self.made is not None and self.made.item_id == self.shown)


@dataclass(frozen=True)
class RemadeList:
    """A list made again.

    Attributes:
        at: The moment.
        places: What was shown and what is made again, by place.
        verdict: Whether they are the same; ``gone``: it cannot be made again; ``nothing``: nothing is known to have
            been shown, so there is nothing to compare.
        scores: Whether scores, parts and reasons are the same as well; None: they were not kept.
        generation: What made it; None: none of that moment is left.
        events: The last event that was known.
        rules: By which it was made.
        doubts: What is not known for sure, or why it may differ, by their words.
        titles: Of items, by id.
        basis: What ranked the items.
        experiments: Names of experiments that it is of, or may be, with the person's arm: it is made again by the
            generation of the arm, but by the rules of the shop.
    """

    at: float
    places: tuple[PastPlace, ...]
    verdict: Verdict
    scores: bool | None
    generation: str | None
    events: int
    rules: RulesOfThen
    doubts: tuple[str, ...]
    titles: Mapping[str, str | None]
    basis: str | None
    experiments: tuple[tuple[str, str], ...] = ()

    @property
    def shown(self) -> int:
        """Of how many places it is known what was shown."""
        return sum(one.shown is not None for one in self.places)

    @property
    def differing(self) -> int:
        """How many of these have another item when the list is made again."""
        return sum(not one.same for one in self.places)


def shown_to(workspace: "Workspace", person: Somebody) -> list[PastList]:
    """What lists the event log says that somebody was shown, the latest first."""
    columns = [ITEM_ID, "timestamp", "request_id", "position"]
    who = of_key(person.key)
    with opened(workspace) as state:
        tables = [] if state is None else list(state.tables(columns, ["impression"], of=who))
        lines = [line for table in tables for line in table.to_pylist() if line["request_id"] is not None]
    found: dict[str, PastList] = {}
    for line in sorted(lines, key=lambda line: line["timestamp"]):
        known = found.get(line["request_id"]) or PastList(line["request_id"], line["timestamp"].timestamp(), {})
        place = len(known.items) + 1 if line["position"] is None else int(line["position"])
        items = {**known.items, place: line[ITEM_ID]}
        made = made_at(known.answer_id)
        found[known.answer_id] = replace(known, items=items, at=known.at if made is None else made)
    return sorted(found.values(), key=lambda one: -one.at)[:_LISTS]


def rules_at(file: RulesFile, at: float) -> RulesOfThen:
    """The rules that held at a moment, in seconds since 1970, by their history and the file's own time."""
    history = file.history()
    held = next(one for one in reversed(history) if one.replaced is None or _seconds(one.replaced) > at)
    if held.at is not None:
        if _seconds(held.at) > at:  # of what was before only nothing is not kept
            return RulesOfThen("", None, certain=True)
        return RulesOfThen(held.text, held.name, certain=True)
    try:
        untouched = file.path.stat().st_mtime <= at
    except FileNotFoundError:
        untouched = len(history) == 1
    return RulesOfThen(held.text, held.name, certain=held.name is None and untouched)


def remade(
    service: "Service", person: Somebody, *, answer_id: str | None = None, at: float = 0.0, language: str = "en"
) -> RemadeList | None:
    """A list that somebody was shown, or else would have been at a moment, made again.

    None where no such answer to them is known. A MolarError where nothing answers, or the log cannot be read.
    """
    if answer_id is None:
        return _Making(service, person, language, at).made()
    kept = service.shown.find(answer_id)
    if kept is not None and not _is_of(kept, person):
        return None
    body = None if kept is None else msgspec.json.decode(kept.body, type=ListAnswer)
    past: PastList | None
    if body is not None:
        past = PastList(answer_id, made_at(answer_id) or 0.0, {item.rank: item.item_id for item in body.items})
    else:
        past = next((one for one in shown_to(service.workspace, person) if one.answer_id == answer_id), None)
    return None if past is None else _Making(service, person, language, past.at, past, kept, body).made()


def _is_of(kept: "Shown", person: Somebody) -> bool:
    """Whether an answer that is kept is to somebody, as far as it says."""
    if not isinstance(kept.question, RecommendationRequest | SearchRequest):
        return True
    return who(kept.question) == ((None, person.name) if person.anonymous else (person.name, None))


@dataclass(frozen=True, eq=False)
class _Making:
    """A list that is being made again."""

    service: "Service"
    person: Somebody
    language: str
    at: float
    past: PastList | None = None
    kept: "Shown | None" = None
    body: ListAnswer | None = None

    def made(self) -> RemadeList:
        return replace(self._remade(), experiments=self._experiments())

    def _remade(self) -> RemadeList:
        events = self._events() if self.body is None else self.body.events
        rules = rules_at(RulesFile(self.service.workspace), self.at)
        first: RemadeList | None = None
        with closing(self._tried(events, rules)) as tried:
            for one in tried:
                if one.verdict != "differs":
                    return one
                first = first or one
        if first is not None:
            return first
        places = tuple(PastPlace(place, item, None) for place, item in sorted(self._shown.items()))
        titles = titles_of(self.service.recommender, self._shown.values())
        return RemadeList(self.at, places, "gone", None, None, events, rules, (), titles, None)

    def _tried(self, events: int, rules: RulesOfThen) -> Generator[RemadeList]:
        """The list by each generation that may have answered, and as it would have been made in a hurry."""
        question, length = self._question()
        held = parse_toml(rules.text, RULES_FILE) if rules.text else None
        at = datetime.fromtimestamp(self.at, UTC)
        explain = isinstance(question, RecommendationRequest)
        for name in self._candidates():
            with _lent(self.service, name) as recommender:
                if recommender is None:
                    continue
                with as_it_was(recommender, events, at, held) as then:
                    ways: tuple[Callable[[], Recommendations], ...] = (
                        lambda: ask(then, question, explain=explain, k=length),
                        lambda: ask(then, question, explain=explain, rerank=False, k=length),
                        lambda: popular(then, question, length),
                    )
                    for number, way in enumerate(ways):
                        answer = way()
                        titles = titles_of(recommender, [*self._shown.values(), *(one.item_id for one in answer.items)])
                        yield self._compared(answer, events, rules, titles, hurried=number > 0)

    @cached_property
    def _answered(self) -> list[str]:
        return self.service.answered.at(self.at)

    @property
    def _shown(self) -> Mapping[int, str]:
        return {} if self.past is None else self.past.items

    def _events(self) -> int:
        with closing(EventLogReader(self.service.workspace)) as log:
            return 0 if log.mark is None else log.last_by(round(1_000_000 * self.at))

    def _experiments(self) -> tuple[tuple[str, str], ...]:
        """Which experiments it is of as it says, or else may be, by what is on record of its person."""
        if self.body is not None:
            of = self.body.experiment
            return () if of is None else ((of.name, of.arm),)
        return tuple(arms_then(self.service.workspace, self.person.key, round(1_000_000 * self.at)))

    def _candidates(self) -> list[str]:
        """Generations that may have answered then, the likeliest first."""
        if self.kept is not None:
            return [self.kept.generation]
        if self._answered:
            return self._answered
        made = [one for one in list_generations(self.service.workspace) if one.problem is None]
        ages = {one.name: self.at - datetime.fromisoformat(one.created).timestamp() for one in reversed(made)}
        sure = [name for name, age in ages.items() if age >= 1]
        maybe = [name for name, age in ages.items() if 0 <= age < 1]  # the second in which it was made is all one knows
        return [*sure, *maybe][:_TRIED]

    def _question(self) -> tuple[Question, int]:
        """What was asked, as far as it is known, and how many places are needed."""
        length = min(max(self._shown, default=PLACES), limits.K)
        if self.kept is not None and self.kept.question is not None:
            return self.kept.question, length
        user, session = (None, self.person.name) if self.person.anonymous else (self.person.name, None)
        asked = RecommendationRequest(
            user_id=user, anonymous_id=session, k=length, explain=True, language=self.language
        )
        return asked, length

    def _compared(
        self,
        answer: "Recommendations",
        events: int,
        rules: RulesOfThen,
        titles: Mapping[str, str | None],
        *,
        hurried: bool,
    ) -> RemadeList:
        made = {item.rank: answered_item(item) for item in answer.items}
        numbers = sorted({*made, *self._shown})
        places = tuple(PastPlace(place, self._shown.get(place), made.get(place)) for place in numbers)
        verdict: Verdict = "nothing" if not self._shown else "same" if all(one.same for one in places) else "differs"
        doubts = [*self._doubts(rules), *(["hurried"] if hurried and verdict == "same" else [])]
        scores = None if self.body is None or verdict != "same" else self._same_scores(self.body, made)
        return RemadeList(
            self.at, places, verdict, scores, answer.generation, events, rules, tuple(doubts), titles, answer.basis
        )

    def _same_scores(self, body: ListAnswer, made: Mapping[int, AnsweredItem]) -> bool | None:
        """Whether what was sent of each item is what is made again; None where a page was told little."""
        if any(item.score is None for item in body.items):
            return None
        told = [(item, made[item.rank]) for item in body.items]
        whole = isinstance(self.kept and self.kept.question, RecommendationRequest) and any(i.reasons for i, _ in told)
        names = ("item_id", "title", "score", "parts", "rule", "propensity", *(["reasons"] if whole else []))
        return all(getattr(sent, name) == getattr(again, name) for sent, again in told for name in names)

    def _doubts(self, rules: RulesOfThen) -> Iterator[str]:
        """What is not known for sure."""
        if self.kept is None:
            yield "events_by_time"
        if self.kept is None and not self._answered:
            yield "generation_guessed"
        if self.kept is None or self.kept.question is None:
            yield "question_usual"
        if self.past is not None and made_at(self.past.answer_id) is None:
            yield "moment_of_event"
        if not rules.certain:
            yield "rules_unsure"
        with opened(self.service.workspace) as state:
            if state is not None and state.removed:
                yield "events_removed"


@contextmanager
def _lent(service: "Service", name: str) -> "Iterator[Recommender | None]":
    """What answers from a generation; None where it cannot be opened any more."""
    live = service.recommender
    if live.generation.name == name:
        yield live
        return
    with service.former.lent(name) as former:
        yield former


def _seconds(moment: str) -> float:
    """A moment of the rules' history in seconds since 1970."""
    return datetime.fromisoformat(moment).timestamp()


async def people(visit: Visit) -> Page:
    """Somebody by what was typed, or who there is."""
    typed = visit.asked("q").strip()
    if typed:
        return Page.to(_somebody(visit, typed).address())
    service = visit.service
    lately = await visit.do(lambda: seen_lately(service.workspace))
    some = await visit.do(lambda: some_people(service.recommender))
    return Page("people/people.html.jinja", {"lately": lately, "some": some})


async def person(visit: Visit) -> Page:
    """Somebody's history and list, as they are or as they would be."""
    asked, typed, every = _asked(visit), visit.asked("find").strip(), visit.asked("all") == "1"
    service, turned = visit.service, _somebody(visit, visit.path["user_id"], other=True)
    shown = await visit.do(lambda: person_page(service.recommender, asked, turned, visit.language.code, every=every))
    found = await visit.do(lambda: find_items(service.workspace, typed, _FOUND)) if typed else []
    arms = await visit.do(lambda: arms_then(service.workspace, asked.person.key, clock()))
    told = {"shown": shown, "asked": asked, "typed": typed, "found": found, "arms": arms}
    return Page("people/person.html.jinja", told)


async def reasons(visit: Visit) -> Page:
    """What the score of an item is made of, for somebody."""
    asked, item_id = _asked(visit), visit.asked("item")
    found = await visit.do(lambda: why(visit.service.recommender, asked, item_id, visit.language.code))
    template = "people/why_part.html.jinja" if visit.fragment else "people/why.html.jinja"
    return Page(template, {"why": found, "asked": asked})


async def then(visit: Visit) -> Page:
    """What somebody was shown, and one such list made again, or what they would have been shown at a moment."""
    service, whose = visit.service, _person(visit)
    answer_id, typed = visit.asked("answer") or None, visit.asked("at").strip()
    shown: dict[str, Any] = {"person": whose, "typed": typed}
    if answer_id is None and not typed:
        lists = await visit.do(lambda: shown_to(service.workspace, whose))
        return Page("people/then.html.jinja", {**shown, "lists": lists})
    at = 0.0 if answer_id is not None else _moment(typed)
    code = visit.language.code
    found = await visit.do(lambda: remade(service, whose, answer_id=answer_id, at=at, language=code))
    if found is None:
        words = "the event log has no impressions of it by them, and answers are kept for a while only"
        raise ProblemError(404, f"no list with the id {answer_id} is known to have been shown to them", words)
    return Page("people/remade.html.jinja", {**shown, "made": found})


async def forget(visit: Visit) -> Page:
    """Forget somebody, whose id is typed once more: as the shop has it, also where people are stored by pseudonyms."""
    whose, typed, service = _person(visit), visit.sent("id"), visit.service
    if _somebody(visit, typed) != whose:
        raise ProblemError(422, "the id that was typed is not that of this person", "type it again", field="id")
    visit.audit["people"] = [typed]
    named: dict[str, Any] = {"session_ids": typed} if whose.anonymous else {"user_ids": typed}
    done = await service.appends.do(lambda: service.shop.privacy.forget(**named, later=True))
    visit.audit.update(removed=dict(done.removed), failed=list(done.failed))
    return Page("people/forgotten.html.jinja", {"person": whose, "done": done})


def _moment(typed: str) -> float:
    """A moment of UTC, as forms send it, in seconds since 1970."""
    try:
        when = datetime.fromisoformat(typed)
        return (when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError) as error:
        remedy = "give it as 2026-11-24T20:15, in UTC"
        raise ProblemError(422, f"{typed[:40]!r} is no moment", remedy, field="at") from error


def _somebody(visit: Visit, id_: str, *, other: bool = False) -> Somebody:
    """Who has an id, of the kind that the address says, or of the other one."""
    return Somebody.asked(id_, visit.service.names, anonymous=(visit.asked("anonymous") == "1") != other)


def _person(visit: Visit) -> Somebody:
    return _somebody(visit, visit.path["user_id"])


def _asked(visit: Visit) -> Asked:
    query = visit.call.request.query_params
    without, taking = (tuple(dict.fromkeys(query.getlist(name))) for name in ("without", "with"))
    if len(without) + len(taking) > _SUPPOSED:
        raise ProblemError(422, f"more than {_SUPPOSED} items are supposed", "go back to the list of now")
    return Asked(_person(visit), without, taking)


SCREENS = (
    Screen("GET", "/studio/people", "viewer", people, nav="people"),
    Screen("GET", "/studio/people/{user_id:path}", "viewer", person),
    Screen("POST", "/studio/forget/{user_id:path}", "admin", forget, changes=True),
    Screen("GET", "/studio/why/{user_id:path}", "viewer", reasons),
    Screen("GET", "/studio/then/{user_id:path}", "viewer", then),
)
