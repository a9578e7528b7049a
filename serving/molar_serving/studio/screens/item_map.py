"""The map: items by what they are like and by who takes them, side by side, and where the two disagree."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from molar_retrieval.columns import TITLE
from molar_serving.problems import ProblemError
from molar_serving.studio.visit import Page, Screen, Visit

if TYPE_CHECKING:
    from molar_indexes.item_map.outliers import Disagreement, Witness
    from molar_indexes.item_map.store import ItemMap
    from molar_indexes.recommender import Recommender
    from molar_serving.service import Service

FIRST, MORE = 10, 50
"""Disagreements of each kind that are shown at first, and of one kind at once."""
CHOSEN = 24
COLOURS = 10
_LISTED = 3  # neighbours by photo
_MOST_PLACES = 20_000
_SMALL = 0.1  # shares below are told with a decimal
_SHARES = {
    "photo.words": ("share",),
    "photo.company": ("share", "usual", "chance"),
    "category.company": ("share", "usual", "usual_own"),
    "hidden.rate": ("rate", "others"),
    "apart.company": ("share", "usual", "chance"),
}
"""Numbers of a witness that are shares of a hundred; the others are told as they are."""


@dataclass(frozen=True)
class MappedItem:
    """An item of the map by id, its title or None, its category or None."""

    item_id: str
    title: str | None
    category: str | None = None


@dataclass(frozen=True)
class ToldDisagreement:
    """A disagreement in words: its sentences, what the item is most like, what people take with it most."""

    kind: str
    item: MappedItem
    sentences: Sequence[str]
    exchanged: MappedItem | None
    alike: Sequence[MappedItem]
    together: Sequence[MappedItem]


async def page(visit: Visit) -> Page:
    """Both maps, and where they disagree; or that the map is being made."""
    kind, begin = visit.asked("kind"), _whole(visit.asked("from", "0"))
    return Page("map/map.html.jinja", await visit.do(lambda: _page(visit, kind, begin)))


async def state(visit: Visit) -> Page:
    """Asked while the map is being made: the page is loaded anew once it is there."""
    found = await visit.do(lambda: _live(visit.service))
    return Page("map/making.html.jinja", headers={} if found is None else {"HX-Refresh": "true"})


async def points(visit: Visit) -> Page:
    """Where all items are, for the script, little endian.

    Of n items: 4 n numbers of 16 bits (x and y by content, x and y by behaviour), n of 16 bits (category + 1), n of 8
    bits: 1 placed by behaviour, 2 one can tell, and 4 times the number of the kind of disagreement, 0 for none.
    """
    found = await visit.do(lambda: _needed(visit.service))
    return Page(content=_packed(found), media_type="application/octet-stream")


async def items(visit: Visit) -> Page:
    """Items that somebody chose on a map, by their numbers, or all of one category; the first ones are listed."""
    visit.need("numbers", "category")
    numbers, category = visit.sent("numbers"), visit.sent("category")
    return Page("map/chosen.html.jinja", await visit.do(lambda: _chosen(visit.service, numbers, category)))


async def item(visit: Visit) -> Page:
    """One item, as the script asks for it that the pointer is at."""
    number = _whole(visit.asked("number"))

    def asked() -> MappedItem:
        found = _needed(visit.service)
        if not 0 <= number < len(found):
            raise ProblemError(404, "there is no such item on the map")
        row = int(found.rows[number])
        return _named(visit.service.recommender, found, [row])[row]

    return Page("map/item.html.jinja", {"one": await visit.do(asked)})


def _page(visit: Visit, kind: str, begin: int) -> dict[str, Any]:
    from molar_indexes.item_map.outliers import KINDS

    found = _live(visit.service)
    if found is None:
        return {"map": None}
    if kind and kind not in KINDS:
        raise ProblemError(404, f"there is no kind {kind!r} of disagreement")
    by_kind = {name: [one for one in found.found if one.kind == name] for name in KINDS}
    listed = {name: by_kind[name][:FIRST] for name in KINDS}
    if kind:
        listed = {kind: by_kind[kind][begin : begin + MORE]}
    told = _told(visit, found, [one for ones in listed.values() for one in ones])
    lists = {name: [one for one in told if one.kind == name] for name in listed}
    known = np.isfinite(found.level)
    counts = {"judged": int(known.sum()), "unknown": int((~known).sum())}
    colours, legend = _colours(found)
    return {
        "map": found,
        "kind": kind,
        "begin": begin,
        "counts": {name: len(ones) for name, ones in by_kind.items()},
        "lists": lists,
        "first": FIRST,
        "more": MORE,
        "shares": counts,
        "colours": colours,
        "legend": legend,
        "generation": found.generation,
    }


def _live(service: "Service") -> "ItemMap | None":
    return service.maps.of(service.recommender.generation.name)


def _needed(service: "Service") -> "ItemMap":
    if (found := _live(service)) is None:
        raise ProblemError(409, "the map is being made", "ask again in a minute")
    return found


def _packed(found: "ItemMap") -> bytes:
    from molar_indexes.item_map.outliers import KINDS

    number = {kind: place for place, kind in enumerate(KINDS, 1)}
    marks = found.placed.astype(np.uint8) + 2 * np.isfinite(found.level).astype(np.uint8)
    kinds = np.zeros(len(found), np.uint8)
    for one in reversed(found.found):
        kinds[np.searchsorted(found.rows, one.row)] = number[one.kind]
    marks = (marks + 4 * kinds).astype(np.uint8)
    places, category = found.places.astype("<u2"), (found.category + 1).astype("<u2")
    return places.tobytes() + category.tobytes() + marks.tobytes()


def _colours(found: "ItemMap") -> tuple[list[int], list[tuple[str, int]]]:
    """The number of the colour of each category, and the largest categories, in the order of their colours."""
    counts = np.bincount(found.category[found.category >= 0], minlength=len(found.names))
    order = np.argsort(-counts, kind="stable")[:COLOURS]
    colours = [COLOURS] * len(found.names)
    for colour, category in enumerate(order.tolist()):
        colours[category] = colour
    return colours, [(found.names[category], int(counts[category])) for category in order if counts[category]]


def _chosen(service: "Service", numbers: str, category: str) -> dict[str, Any]:
    found = _needed(service)
    if category:
        if category not in found.names:
            raise ProblemError(404, "there is no such category")
        places = np.flatnonzero(found.category == found.names.index(category))
    else:
        asked = [_whole(number) for number in numbers.split(",")[:_MOST_PLACES] if number]
        places = np.unique([number for number in asked if 0 <= number < len(found)]).astype(np.int64)
    order = np.argsort(-found.people[places], kind="stable")
    rows = found.rows[places[order]][:CHOSEN].tolist()
    named = _named(service.recommender, found, rows)
    told = {one.row: one.kind for one in reversed(found.found)}
    listed = [(named[row], told.get(row)) for row in rows if row in named]
    return {"listed": listed, "count": len(places), "most": CHOSEN, "category": category}


def _told(visit: Visit, found: "ItemMap", ones: "Sequence[Disagreement]") -> list[ToldDisagreement]:
    near = {one.row: int(np.searchsorted(found.rows, one.row)) for one in ones}
    alike = {row: _listed(found.alike[place]) for row, place in near.items()}
    together = {row: _listed(found.together[place]) for row, place in near.items()}
    exchanged = {one.row: w.numbers["row"] for one in ones for w in one.evidence if w.name == "photo.exchanged"}
    rows = {*near, *exchanged.values()}.union(*alike.values(), *together.values())
    named = _named(visit.service.recommender, found, sorted(rows))
    return [
        ToldDisagreement(
            one.kind,
            named[one.row],
            [_sentence(visit, witness) for witness in one.evidence if witness.name != "photo.exchanged"],
            named.get(exchanged.get(one.row, -1)),
            [named[row] for row in alike[one.row] if row in named],
            [named[row] for row in together[one.row] if row in named],
        )
        for one in ones
        if one.row in named
    ]


def _sentence(visit: Visit, witness: "Witness") -> str:
    t, shares = visit.language, _SHARES.get(witness.name, ())
    told = {name: t.percent(witness.numbers[name], int(witness.numbers[name] < _SMALL)) for name in shares}
    numbers = {**witness.numbers, **told}
    whole = {name: int(value) if isinstance(value, float) else value for name, value in numbers.items()}
    return t(f"map.{witness.name.replace('.', '_')}", **whole)


def _listed(near: "np.ndarray[Any, Any]") -> list[int]:
    return [int(row) for row in near[:_LISTED] if row >= 0]


def _named(recommender: "Recommender", found: "ItemMap", rows: Sequence[int]) -> Mapping[int, MappedItem]:
    """Items as they are now, by row; none of another generation than the map is of."""
    with recommender.answering() as answerer:
        if answerer.generation.name != found.generation:
            raise ProblemError(409, "another generation has just gone live", "load the page again")
        stored = answerer.present()[1].items.index.fetch(sorted(rows))
    places = np.searchsorted(found.rows, [item.row for item in stored])
    category = {item.row: int(found.category[place]) for item, place in zip(stored, places, strict=True)}
    names = {row: found.names[number] if number >= 0 else None for row, number in category.items()}
    return {item.row: MappedItem(item.item_id, item.payload.get(TITLE), names[item.row]) for item in stored}


def _whole(text: str) -> int:
    if not text.isascii() or not text.isdigit() or len(text) > 9:
        raise ProblemError(422, "a whole number is due")
    return int(text)


SCREENS = (
    Screen("GET", "/studio/map", "viewer", page, nav="map"),
    Screen("GET", "/studio/map/state", "viewer", state),
    Screen("GET", "/studio/map/points", "viewer", points),
    Screen("GET", "/studio/map/item", "viewer", item),
    Screen("POST", "/studio/map/items", "viewer", items),
)
