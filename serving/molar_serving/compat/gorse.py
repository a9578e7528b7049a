"""gorse's REST API (https://gorse.io/docs/api): address ``…/compat/gorse``, header ``X-API-Key``."""

from collections.abc import Mapping
from typing import Annotated, Any

import msgspec
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from molar_retrieval import limits
from molar_retrieval.columns import TITLE
from molar_retrieval.data.event_parsing import event_type
from molar_serving.auth import Credentials, Dialect, Scope, of_key
from molar_serving.compat.translated import (
    Row,
    appended_all,
    changed_item,
    did,
    field_among,
    item_now,
    listed,
    named_fields,
    otherwise,
    plainly,
    popular,
    quoted,
    searched,
    similar,
    withdrawn_item,
    without_nothing,
)
from molar_serving.endpoint import Call, Endpoint, Method, Reply
from molar_serving.problems import ProblemError
from molar_serving.wire import ListAnswer, Many, Number

_AT = "/compat/gorse/api"
_NO_TIME = "0001-01-01"  # what Go writes where there is none
_CATEGORY = ("categories", "category")


def _credentials(request: Request, body: bytes) -> Credentials:
    return of_key(request.headers.get("x-api-key", ""))


def _refusal(problem: ProblemError, request_id: str) -> Response:
    status, sentence = plainly(problem)
    return PlainTextResponse(sentence, status, problem.headers)


DIALECT = Dialect(_credentials, "send X-API-Key: KEY", _refusal)


class GorseFeedback(msgspec.Struct, rename="pascal"):
    """What somebody did, in gorse's words."""

    feedback_type: str
    user_id: str = ""
    item_id: str = ""
    value: Number = 0.0
    timestamp: str = ""


class GorseItem(msgspec.Struct, rename="pascal"):
    """An item, in gorse's words; what is None stays as it is."""

    item_id: str = ""
    is_hidden: bool | None = None
    categories: list[str] | None = None
    timestamp: str | None = None
    labels: Any = None
    comment: str | None = None


class GorseUser(msgspec.Struct, rename="pascal"):
    """A user, in gorse's words."""

    user_id: str


class GorsePage(msgspec.Struct, rename="kebab"):
    """Parameters of the questions for lists."""

    n: Many = 10
    offset: Annotated[int, msgspec.Meta(ge=0, le=limits.K)] = 0
    category: str = ""
    q: str = ""
    user_id: str = ""
    write_back_type: str = ""
    write_back_delay: str = ""


async def recommend(call: Call) -> Reply:
    """A user's list: ids, or ids and scores for version 2; ``write-back-type`` appends what was listed."""
    page: GorsePage = call.query
    if page.write_back_delay:
        raise ProblemError(501, "write-back-delay is not supported", "leave it out: it counts at once")
    if page.write_back_type and "events" not in call.key.scopes:
        raise ProblemError(403, f"the key {call.key.name} has no scope events", "leave out write-back-type")
    user_id = call.path["user"]
    answer = await listed(call, user_id=user_id, k=_k(page), where=_where(call, page))
    scores = _scores(answer, page)
    if page.write_back_type:
        kind = page.write_back_type
        await _append(call, [GorseFeedback(kind, user_id, one["Id"]) for one in scores], answer.recommendation_id)
    return Reply(scores if call.request.headers.get("x-api-version") == "2" else [one["Id"] for one in scores])


async def neighbours(call: Call) -> Reply:
    """The items most like one, whatever the name of the list."""
    page: GorsePage = call.query
    return Reply(_scores(await similar(call, item_id=call.path["item"], k=_k(page), where=_where(call, page)), page))


async def most_popular(call: Call) -> Reply:
    """The items that most people took, whatever the name of the list."""
    page: GorsePage = call.query
    if page.user_id:
        raise ProblemError(501, "user-id is not supported", "leave it out; /recommend/USER hides what somebody had")
    answer = await popular(call, k=_k(page), where=_where(call, page))
    return Reply(_scores(answer, page))


async def session(call: Call) -> Reply:
    """The list of somebody who did just this; the popular one where all of it is of unknown items."""
    page: GorsePage = call.query
    items = [one.item_id for one in sorted(call.body, key=lambda one: one.timestamp)]
    return Reply(_scores(await listed(call, session=items, k=_k(page), where=_where(call, page)), page))


async def feedback(call: Call) -> Reply:
    """Append what people did; the same again is there already, by POST as by PUT."""
    return Reply({"RowAffected": await _append(call, call.body)})


async def put_items(call: Call) -> Reply:
    """Write items: POST one or several, PATCH what changes of one."""
    items: list[GorseItem] = call.body if isinstance(call.body, list) else [call.body]
    rows = [_item(call, one) for one in items]
    return Reply({"RowAffected": await _appended(call, [row for row in rows if row.get("data") != {}])})


async def delete_item(call: Call) -> Reply:
    """Withdraw an item: no list has it from now on."""
    return Reply({"RowAffected": await _appended(call, [withdrawn_item(call.path["item"])])})


async def get_item(call: Call) -> Reply:
    """An item as it is now: its fields are labels, its title is the comment."""
    found = await item_now(call, call.path["item"])
    return Reply(_told(found.item_id, found.attributes, hidden=bool(found.obstacles)))


async def find_items(call: Call) -> Reply:
    """The items that the words ``q`` ask for."""
    page: GorsePage = call.query
    if not page.q:
        raise ProblemError(501, "items are not listed", "search by q, or GET /item/ID; the catalogue is the shop's own")
    answer = await searched(call, text=page.q, k=_k(page), fields=named_fields(call))
    return Reply({"Cursor": "", "Items": [_told(item.item_id, item.fields) for item in answer.items[page.offset :]]})


def _told(item_id: str, labels: Mapping[str, Any], *, hidden: bool = False) -> dict[str, Any]:
    categories: Any = next((labels[name] for name in _CATEGORY if labels.get(name)), [])
    return {
        "ItemId": item_id,
        "IsHidden": hidden,
        "Categories": categories if isinstance(categories, list) else [categories],
        "Timestamp": f"{_NO_TIME}T00:00:00Z",
        "Labels": {name: value for name, value in labels.items() if value is not None},
        "Comment": labels.get(TITLE) or "",
    }


async def put_users(call: Call) -> Reply:
    """Nothing is written: people are known by what they do."""
    return Reply({"RowAffected": 0})


def _k(page: GorsePage) -> int:
    return page.n + page.offset


def _scores(answer: ListAnswer, page: GorsePage) -> list[dict[str, Any]]:
    return [{"Id": item.item_id, "Score": item.score} for item in answer.items[page.offset :]]


def _where(call: Call, page: GorsePage) -> str | None:
    category = call.path.get("category") or page.category
    return f"{field_among(call, *_CATEGORY)} = {quoted(category)}" if category else None


async def _append(call: Call, done: list[GorseFeedback], recommendation_id: str | None = None) -> int:
    return await _appended(call, [_event(call, one, recommendation_id) for one in done])


async def _appended(call: Call, rows: list[Row]) -> int:
    told = await appended_all(call, rows)
    return told.accepted + told.duplicates


def _event(call: Call, one: GorseFeedback, recommendation_id: str | None) -> Row:
    rated = event_type(one.feedback_type) == "rating"
    timed = bool(one.timestamp) and not one.timestamp.startswith(_NO_TIME)
    return without_nothing(
        {
            **did(call, one.feedback_type, one.value if one.value or rated else None),
            "user_id": one.user_id,
            "item_id": one.item_id,
            "timestamp": one.timestamp if timed else None,
            "request_id": recommendation_id,
        }
    )


def _item(call: Call, one: GorseItem) -> Row:
    item_id = call.path.get("item") or one.item_id
    if one.is_hidden:
        return withdrawn_item(item_id)
    data = dict(one.labels) if isinstance(one.labels, Mapping) else {}
    if isinstance(one.labels, list):
        data["labels"] = one.labels
    if one.categories is not None:
        data[field_among(call, *_CATEGORY)] = one.categories[0] if len(one.categories) == 1 else one.categories
    if one.comment:
        data["title"] = one.comment
    if one.is_hidden is False:
        data["active"] = True
    return changed_item(item_id, data)


def _endpoint(method: Method, path: str, scope: Scope, summary: str, answer: Any, body: Any = None) -> Endpoint:
    query = GorsePage if scope == "answer" else None
    changes = scope != "answer"
    return Endpoint(method, _AT + path, scope, summary, answer, body, query, changes=changes, dialect=DIALECT)


_POPULAR = "Items that most people took"
_NO_LISTING = "people and events are not listed: `molar events export` writes them"
_LATEST = "ask /non-personalized/popular; new items get places in everybody's list by themselves"
_UNSUPPORTED: dict[tuple[Method, str], str] = {
    **dict.fromkeys((("GET", "/latest"), ("GET", "/latest/{category:path}")), _LATEST),
    ("GET", "/feedback"): _NO_LISTING,
    ("GET", "/users"): _NO_LISTING,
    ("GET", "/user/{id:path}"): _NO_LISTING,
    ("DELETE", "/feedback/{rest:path}"): "append the event that takes it back: return or remove_from_cart",
    ("PATCH", "/user/{id}"): "labels of people come with the catalogue's users file, see docs/catalogue.md",
    ("DELETE", "/user/{id}"): "a person's events end with their retention: `molar events compact --keep-days`",
}
ENDPOINTS: tuple[Endpoint, ...] = (
    _endpoint("GET", "/recommend/{user}", "answer", "A user's list", recommend),
    _endpoint("GET", "/recommend/{user}/{category:path}", "answer", "A user's list of a category", recommend),
    _endpoint("GET", "/item-to-item/{name}/{item}", "answer", "Items like one", neighbours),
    _endpoint("GET", "/item/{item}/neighbors", "answer", "Items like one", neighbours),
    _endpoint("GET", "/item/{item}/neighbors/{category:path}", "answer", "Items of a category like one", neighbours),
    _endpoint("GET", "/non-personalized/{name}", "answer", _POPULAR, most_popular),
    _endpoint("GET", "/popular", "answer", _POPULAR, most_popular),
    _endpoint("GET", "/popular/{category:path}", "answer", _POPULAR, most_popular),
    _endpoint("POST", "/session/recommend", "answer", "The list of a session", session, list[GorseFeedback]),
    _endpoint("POST", "/feedback", "events", "What people did", feedback, list[GorseFeedback]),
    _endpoint("PUT", "/feedback", "events", "What people did", feedback, list[GorseFeedback]),
    _endpoint("GET", "/item/{item}", "answer", "An item", get_item),
    _endpoint("GET", "/items", "answer", "Items by words", find_items),
    _endpoint("POST", "/item", "catalogue", "Write an item", put_items, GorseItem),
    _endpoint("POST", "/items", "catalogue", "Write items", put_items, list[GorseItem]),
    _endpoint("PATCH", "/item/{item}", "catalogue", "Change an item", put_items, GorseItem),
    _endpoint("DELETE", "/item/{item}", "catalogue", "Withdraw an item", delete_item),
    _endpoint("POST", "/user", "events", "Nothing: people are known by what they do", put_users, GorseUser),
    _endpoint("POST", "/users", "events", "Nothing: people are known by what they do", put_users, list[GorseUser]),
    *otherwise(_AT, "gorse", DIALECT, _UNSUPPORTED),
)
