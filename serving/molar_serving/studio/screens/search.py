"""The search playground: words, a photo, like this item, conditions, for somebody; beside it, another setting."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from molar_retrieval import limits
from molar_retrieval.errors import MolarError
from molar_serving import problems
from molar_serving.asking import opened_photo
from molar_serving.problems import ProblemError
from molar_serving.studio.visit import Page, Screen, Visit

if TYPE_CHECKING:
    from molar_indexes.recommender import Recommender
    from molar_retrieval.ranking.results import Recommendations
    from molar_serving.service import Service

K = 20
_FIELDS = ("text", "similar", "where", "who", "beside")
BESIDE = ("no_rules", "nobody", "words_only")
"""Other settings that a search can be put beside: without rules, for nobody, by the words alone."""


@dataclass(frozen=True)
class Column:
    """One of the lists that stand side by side.

    Attributes:
        setting: What is different about it: ``now``, one of :data:`BESIDE`, or a generation's name.
        answer: The list; None: there is none.
        problem: Why there is none, and the remedy; empty: there is one.
        remedy: Likewise.
        seconds: What it took.
        moved: Places by which each item stands higher than in the first list; absent: it is not in that one.
    """

    setting: str
    answer: "Recommendations | None"
    problem: str
    remedy: str
    seconds: float
    moved: Mapping[str, int]


async def by_address(visit: Visit) -> Page:
    """A search by what the address says; the form alone where it says nothing."""
    return await _page(visit, {name: visit.asked(name).strip() for name in _FIELDS})


async def by_form(visit: Visit) -> Page:
    """A search by a form, which may have a photo."""
    visit.need("text", "similar", "photo")
    photo = visit.file("photo")
    content = b"" if photo is None else await photo.read()
    return await _page(visit, {name: visit.sent(name).strip() for name in _FIELDS}, content)


async def _page(visit: Visit, asked: Mapping[str, str], photo: bytes = b"") -> Page:
    service, columns = visit.service, []
    if photo or asked["text"] or asked["similar"]:
        work = service.photos if photo else service.studio
        columns = await work.do(lambda: _columns(service, asked, photo))
    generations = [one.name for one in service.shop.generations() if not one.live and not one.problem]
    shown = {"asked": asked, "columns": columns, "photo": bool(photo), "generations": generations[::-1]}
    return Page("search/search.html.jinja", {**shown, "settings": BESIDE})


def _columns(service: "Service", asked: Mapping[str, str], photo: bytes) -> list[Column]:
    options: dict[str, Any] = {
        "text": asked["text"] or None,
        "similar_to": asked["similar"] or None,
        "where": asked["where"] or None,
        "user_id": asked["who"] or None,
    }
    found = [_column(service.recommender, "now", options, photo)]
    if (beside := asked["beside"]) in BESIDE:
        changed: dict[str, dict[str, Any]] = {
            "no_rules": {"rules": False},
            "nobody": {"user_id": None},
            "words_only": {"similar_to": None, "user_id": None},
        }
        without = b"" if beside == "words_only" else photo
        found.append(_column(service.recommender, beside, options | changed[beside], without, found[0].answer))
    elif beside:
        with service.former.lent(beside) as former:
            if former is None:
                raise ProblemError(404, f"generation {beside} cannot be opened", "choose another one")
            found.append(_column(former, beside, options, photo, found[0].answer))
    return found


def _column(
    recommender: "Recommender",
    setting: str,
    options: Mapping[str, Any],
    photo: bytes,
    first: "Recommendations | None" = None,
) -> Column:
    began = time.perf_counter()
    try:
        image = opened_photo(photo) if photo else None
        answer = recommender.search(k=K, image=image, **options)
    except (MolarError, ProblemError) as error:
        told = error if isinstance(error, ProblemError) else problems.of_error(error)
        return Column(setting, None, told.detail, told.remedy, time.perf_counter() - began, {})
    before = {} if first is None else {item.item_id: item.rank for item in first.items}
    moved = {item.item_id: before[item.item_id] - item.rank for item in answer.items if item.item_id in before}
    return Column(setting, answer, "", "", time.perf_counter() - began, moved)


SCREENS = (
    Screen("GET", "/studio/search", "viewer", by_address, nav="search"),
    Screen("POST", "/studio/search", "viewer", by_form, most=limits.PHOTO + (1 << 16)),
)
