"""Items: found by id or title; what is known of one, where it goes, and why somebody is not shown it."""

import threading
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from molar_eval.kpi.by_day import daily
from molar_indexes.comparison import lists_of, sample
from molar_retrieval.columns import ITEM_ID
from molar_retrieval.errors import RequestError
from molar_retrieval.privacy.pseudonyms import of_key
from molar_retrieval.workspace.files import file_stamp
from molar_serving.endpoints.items import standing
from molar_serving.problems import ProblemError
from molar_serving.rules_file import RulesFile
from molar_serving.studio.files import photo_of
from molar_serving.studio.finding import MOST, find_items
from molar_serving.studio.status import last_day
from molar_serving.studio.visit import Page, Screen, Visit

if TYPE_CHECKING:
    from molar_indexes.inspection import ItemForPerson
    from molar_indexes.recommender import Recommender
    from molar_retrieval.ranking.results import Recommendations
    from molar_serving.service import Service

PEOPLE = 300
_MINUTES = 10.0  # after which what they did since may have changed too much
DAYS = 30
_LIKE, _PEOPLE = 8, 12  # neighbours, and people, that are shown
_DAY = 86_400


@dataclass(frozen=True)
class SampledLists:
    """Lists of some people.

    Attributes:
        generation: Which answered.
        people: Whose lists they are, by keys.
        places: By item id, who has it at which place, from 1.
        made: When, in seconds since 1970.
    """

    generation: str
    people: Sequence[str]
    places: Mapping[str, Sequence[tuple[str, int]]]
    made: float


_lock = threading.Lock()
_kept: dict[str, tuple[object, SampledLists]] = {}


def sampled_lists(service: "Service") -> SampledLists:
    """Those of what is live; made anew when it or the rules have changed, or after ten minutes."""
    recommender, root = service.recommender, str(service.workspace.root)
    about = (recommender.generation.name, file_stamp(RulesFile(service.workspace).path))
    with _lock:
        known = _kept.get(root)
        if known is None or known[0] != about or known[1].made + 60 * _MINUTES < time.time():
            known = _kept[root] = about, _made(recommender)
        return known[1]


def _made(recommender: "Recommender") -> SampledLists:
    with recommender.answering() as answerer:
        users = answerer.generation.users
        people = sample(users, min(PEOPLE, len(users))) if len(users) else []
        places: dict[str, list[tuple[str, int]]] = defaultdict(list)
        for key, shown in lists_of(recommender, people).items():
            for place, item in enumerate(shown.items, 1):
                places[item.item_id].append((key, place))
        return SampledLists(answerer.generation.name, people, places, time.time())


@dataclass(frozen=True)
class Lack:
    """A part of a score, of the item and of the last one of the list."""

    part: str
    own: float
    last: float


async def items(visit: Visit) -> Page:
    """Items by what somebody typed; the one that has this id is opened."""
    typed = visit.asked("q").strip()
    found = await visit.do(lambda: find_items(visit.service.workspace, typed))
    if typed and found and found[0].item_id == typed:
        return Page.to(f"/studio/items/{quote(typed, safe='')}")
    return Page("items/items.html.jinja", {"typed": typed, "found": found, "most": MOST})


async def item(visit: Visit) -> Page:
    """One item: what is known of it, what keeps it out of lists, and out of one person's list if somebody asks."""
    item_id, who, anonymous = visit.path["item_id"], visit.asked("who").strip(), bool(visit.asked("anonymous"))
    shown = await visit.do(lambda: _item(visit.service, item_id, who, anonymous))
    return Page("items/item.html.jinja", {**shown, "who": who, "anonymous": anonymous})


async def numbers(visit: Visit) -> Page:
    """What happened with an item in the last days."""
    item_id = visit.asked("item_id")
    shown = await visit.do(lambda: _numbers(visit.service, item_id))
    return Page("items/numbers.html.jinja", {**shown, "days": DAYS})


async def neighbours(visit: Visit) -> Page:
    """What is like an item, and what who took it gets."""
    item_id = visit.asked("item_id")
    return Page("items/neighbours.html.jinja", await visit.do(lambda: _neighbours(visit.service, item_id)))


async def audience(visit: Visit) -> Page:
    """To whom an item goes, among a sample of people."""
    item_id = visit.asked("item_id")
    found = await visit.do(lambda: sampled_lists(visit.service))
    places = sorted(found.places.get(item_id, ()), key=lambda one: one[1])
    people = [(*of_key(key), place) for key, place in places[:_PEOPLE]]
    shown = {"people": people, "reached": len(places), "asked": len(found.people), "most": PEOPLE}
    return Page("items/audience.html.jinja", {**shown, "made": found.made, "generation": found.generation})


def _item(service: "Service", item_id: str, who: str, anonymous: bool) -> dict[str, Any]:
    found, pictured = standing(service, item_id), bool(photo_of(service.workspace, item_id))
    if not who or found.state == "queued":
        return {"item": found, "pictured": pictured, "person": None, "lacks": []}
    from molar_indexes.inspection import item_for_person

    person = item_for_person(service.recommender, item_id, service.names.key(None if anonymous else who, who))
    return {"item": found, "pictured": pictured, "person": person, "lacks": _lacks(person)}


def _lacks(person: "ItemForPerson") -> list[Lack]:
    """What the item's score lacks to that of the last one of the list, most first."""
    if person.last is None:
        return []
    own, last = person.by_score.parts, person.last.parts
    found = [Lack(part, own.get(part, 0.0), last.get(part, 0.0)) for part in {*own, *last}]
    return sorted((one for one in found if one.own or one.last), key=lambda one: (one.own - one.last, one.part))


def _numbers(service: "Service", item_id: str) -> dict[str, Any]:
    import pyarrow.compute as pc

    names = ("places", "looks", "carts", "purchases", "revenue")
    last = last_day(service.workspace, DAYS)
    rows = []
    for facts in daily(service.workspace, DAYS, last):
        of_item = facts.items.filter(pc.equal(facts.items[ITEM_ID], item_id)).to_pylist()
        rows.append(of_item[0] if of_item else dict.fromkeys(names, 0))
    by_name = {name: [row[name] for row in rows] for name in names}
    times = [_DAY * (last - DAYS + 1 + number) for number in range(DAYS)]
    return {"times": times, "by_name": by_name, "any": any(map(any, by_name.values()))}


def _neighbours(service: "Service", item_id: str) -> dict[str, Any]:
    def listed(ask: Any) -> "Recommendations | None":
        try:
            return ask()  # type: ignore[no-any-return]
        except RequestError:  # it has no vector, or nobody has taken it
            return None

    recommender = service.recommender
    if standing(service, item_id).state == "queued":
        raise ProblemError(409, "the item is not in the generation yet", "run `molar update`")
    like = listed(lambda: recommender.similar(item_id, k=_LIKE, rules=False))
    taken = listed(lambda: recommender.query(session=[item_id], k=_LIKE, rules=False, explore=False))
    return {"like": () if like is None else like.items, "taken": () if taken is None else taken.items}


SCREENS = (
    Screen("GET", "/studio/items", "viewer", items, nav="items"),
    Screen("GET", "/studio/item/numbers", "viewer", numbers),
    Screen("GET", "/studio/item/neighbours", "viewer", neighbours),
    Screen("GET", "/studio/item/audience", "viewer", audience),
    Screen("GET", "/studio/items/{item_id:path}", "viewer", item),
)
