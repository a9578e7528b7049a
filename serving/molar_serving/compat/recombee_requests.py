"""What is asked of Recombee, request by request, in our words."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from molar_serving.compat.translated import (
    Row,
    changed_item,
    item_now,
    listed,
    named_fields,
    next_of,
    popular,
    searched,
    similar,
    withdrawn_item,
    without_nothing,
)
from molar_serving.endpoint import Call, Method, Scope
from molar_serving.problems import ProblemError, unreadable
from molar_serving.wire import Id, ListAnswer, Many, Moment, Number, Share

_KEPT = 10_000  # lists of which it is known how far they were shown
_pages: dict[str, tuple[str, int]] = {}
"""Of a list's first page the id of its latest one, and how many came after the first."""
_LISTS = ("default", "personal", "related-items", "similar-properties")  # logics that are what is answered anyway


class RecombeeWishes(msgspec.Struct, rename="camel"):
    """Parameters of a question for items, in Recombee's words."""

    count: Many = 10
    scenario: str | None = None
    return_properties: bool = False
    included_properties: list[str] | str | None = None
    filter: str | None = None
    booster: str | None = None
    logic: str | dict[str, Any] | None = None
    diversity: Share = 0.0
    min_relevance: str = "low"
    rotation_rate: Share = 0.0
    reql_expressions: dict[str, str] | None = None
    search_query: str = ""
    exclude: list[str] = []  # what a batch with distinctRecomms had before


class RecombeeInteraction(msgspec.Struct, rename="camel"):
    """What a user did with an item, in Recombee's words."""

    user_id: Id
    item_id: Id
    timestamp: str | Moment | None = None
    amount: Number | None = None
    price: Number | None = None
    rating: Number | None = None
    recomm_id: str | None = None
    auto_presented: bool = False


@dataclass(frozen=True)
class Written:
    """What a request appends to the log, and the status that says that it is there."""

    row: Row | None
    status: int = 200


Handler = Callable[[Call, Mapping[str, str], dict[str, Any]], Awaitable[Any]]


async def _for_user(call: Call, path: Mapping[str, str], params: dict[str, Any]) -> Any:
    wishes = _read(params, RecombeeWishes)
    if _logic(wishes) == "popular":
        return _answer(await popular(call, **_without_diversity(_wanted(call, wishes))))
    return _answer(await listed(call, user_id=path["user"], **_wanted(call, wishes)))


async def _for_item(call: Call, path: Mapping[str, str], params: dict[str, Any]) -> Any:
    wishes = _read(params, RecombeeWishes)
    wanted = _without_diversity(_wanted(call, wishes))
    found = popular(call, **wanted) if _logic(wishes) == "popular" else similar(call, item_id=path["item"], **wanted)
    return _answer(await found)


async def _search(call: Call, path: Mapping[str, str], params: dict[str, Any]) -> Any:
    wishes = _read(params, RecombeeWishes)
    wanted = _without_diversity(_wanted(call, wishes))
    return _answer(await searched(call, text=wishes.search_query, user_id=path["user"], **wanted))


async def _next(call: Call, path: Mapping[str, str], params: dict[str, Any]) -> Any:
    """The next items of a list, which clients ask for by the id of its first page, again and again."""
    if call.service.settings.serve.workers > 1:
        raise ProblemError(501, "next items take a server of one process", "ask for more at once, by count")
    base = path["answer"]
    latest, calls = _pages.pop(base, (base, 0))
    answer = await next_of(call, latest, _read(params, RecombeeWishes).count)
    _pages[base] = answer.recommendation_id or latest, calls + 1
    while len(_pages) > _KEPT:
        del _pages[next(iter(_pages))]
    return _answer(answer, calls + 1) | {"recommId": base}


def _interaction(event: str) -> Handler:
    async def handle(call: Call, path: Mapping[str, str], params: dict[str, Any]) -> Written:
        done = _read(params, RecombeeInteraction)
        row: Row = {
            "event": "impression" if done.auto_presented else event,
            "user_id": done.user_id,
            "item_id": done.item_id,
            "timestamp": done.timestamp,
            "quantity": done.amount,
            "value": done.rating if event == "rating" else done.price,
            "request_id": done.recomm_id,
        }
        return Written(without_nothing(row))

    return handle


def _taken_back(event: str) -> Handler:
    async def handle(call: Call, path: Mapping[str, str], params: dict[str, Any]) -> Written:
        done = _read(params, RecombeeInteraction)
        return Written({"event": event, "user_id": done.user_id, "item_id": done.item_id})

    return handle


async def _accept(call: Call, path: Mapping[str, str], params: dict[str, Any]) -> Written:
    return Written(None, 201)


async def _add_property(call: Call, path: Mapping[str, str], params: dict[str, Any]) -> Written:
    if path["name"] not in (*named_fields(call), "description", "image"):
        remedy = "add it to the items file, then `molar update`; columns of the catalogue are its properties"
        raise ProblemError(501, f"the property {path['name']!r} is no column of the catalogue", remedy)
    return Written(None, 201)


async def _set_values(call: Call, path: Mapping[str, str], params: dict[str, Any]) -> Written:
    values = {name: value for name, value in params.items() if not name.startswith("!")}
    return Written(changed_item(path["item"], values) if values else None)


async def _delete_item(call: Call, path: Mapping[str, str], params: dict[str, Any]) -> Written:
    return Written(withdrawn_item(path["item"]))


async def _get_values(call: Call, path: Mapping[str, str], params: dict[str, Any]) -> Any:
    return (await item_now(call, path["item"])).attributes


def _read(params: dict[str, Any], wanted: Any) -> Any:
    try:
        return msgspec.convert(params, wanted, strict=False)
    except msgspec.ValidationError as error:
        raise unreadable(error, wanted) from error


def _logic(wishes: RecombeeWishes) -> str:
    named = wishes.logic.get("name") if isinstance(wishes.logic, dict) else wishes.logic
    name = str(named or "default").rpartition(":")[2]
    if name not in (*_LISTS, "popular"):
        raise ProblemError(501, f"the logic {name} is not supported", f"name one of {', '.join([*_LISTS, 'popular'])}")
    return name


def _wanted(call: Call, wishes: RecombeeWishes) -> dict[str, Any]:
    """What is asked for, in our words; a ProblemError for what would silently be left undone."""
    from molar_serving.compat.reql import condition  # brings a parser

    for name, given, remedy in (
        ("booster", wishes.booster, "boost by a rule for the placement: docs/ranking.md"),
        ("rotationRate", wishes.rotation_rate, "leave it out; hide items by `exclude` of /v1/recommendations"),
        ("minRelevance", wishes.min_relevance != "low", "leave it out; the best come first"),
        ("reqlExpressions", wishes.reql_expressions, "compute it from the returned properties"),
    ):
        if given:
            raise ProblemError(501, f"{name} is not supported", remedy, field=name)
    included = wishes.included_properties
    names = included.split(",") if isinstance(included, str) else included
    return {
        "k": wishes.count,
        "placement": wishes.scenario,
        "where": None if not wishes.filter else condition(wishes.filter),
        "fields": (names or named_fields(call)) if wishes.return_properties else None,
        "diversity": wishes.diversity or None,
        "exclude": wishes.exclude or None,
    }


def _without_diversity(wanted: dict[str, Any]) -> dict[str, Any]:
    if wanted.pop("diversity") is not None:
        raise ProblemError(501, "diversity is for users' lists alone", "leave it out", field="diversity")
    return wanted


def _answer(answer: ListAnswer, calls: int = 0) -> dict[str, Any]:
    recomms: list[dict[str, Any]] = [{"id": item.item_id} for item in answer.items]
    for told, item in zip(recomms, answer.items, strict=True):
        if item.fields:
            told["values"] = item.fields
    return {"recommId": answer.recommendation_id, "recomms": recomms, "numberNextRecommsCalls": calls}


ROUTES: tuple[tuple[Method, str, Scope, Handler], ...] = (
    ("POST", "/recomms/users/{user}/items/", "answer", _for_user),
    ("GET", "/recomms/users/{user}/items/", "answer", _for_user),
    ("POST", "/recomms/items/{item}/items/", "answer", _for_item),
    ("GET", "/recomms/items/{item}/items/", "answer", _for_item),
    ("POST", "/search/users/{user}/items/", "answer", _search),
    ("GET", "/search/users/{user}/items/", "answer", _search),
    ("POST", "/recomms/next/items/{answer}", "answer", _next),
    ("POST", "/detailviews/", "events", _interaction("view")),
    ("POST", "/viewportions/", "events", _interaction("view")),
    ("POST", "/purchases/", "events", _interaction("purchase")),
    ("POST", "/ratings/", "events", _interaction("rating")),
    ("POST", "/cartadditions/", "events", _interaction("add_to_cart")),
    ("POST", "/bookmarks/", "events", _interaction("add_to_cart")),
    ("DELETE", "/purchases/", "events", _taken_back("return")),
    ("DELETE", "/cartadditions/", "events", _taken_back("remove_from_cart")),
    ("PUT", "/users/{user}", "events", _accept),
    ("PUT", "/items/properties/{name}", "catalogue", _add_property),
    ("PUT", "/items/{item}", "catalogue", _accept),
    ("POST", "/items/{item}", "catalogue", _set_values),
    ("GET", "/items/{item}", "answer", _get_values),
    ("DELETE", "/items/{item}", "catalogue", _delete_item),
)
