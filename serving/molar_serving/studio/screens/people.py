"""People: found by id or among those of the last events; somebody's history and list, and why it is as it is."""

from datetime import UTC, datetime
from typing import Any

from molar_indexes.experiments.answering import clock
from molar_indexes.experiments.then import arms_then
from molar_serving.problems import ProblemError
from molar_serving.studio.finding import find_items
from molar_serving.studio.people import Asked, Somebody, person_page, seen_lately, some_people, why
from molar_serving.studio.time_machine import remade, shown_to
from molar_serving.studio.visit import Page, Screen, Visit

_FOUND = 6  # items that somebody could take
_SUPPOSED = 20  # items that are left out, or taken


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
