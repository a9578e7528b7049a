"""Recombee's API (https://docs.recombee.com/api): address ``…/compat/recombee``, database and token are a key's.

The database id is the name of a key made with ``--signing``, the token its signing token. Every request has its time
and an HMAC-SHA1 of its path and parameters; as at Recombee, that covers neither method nor body.
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import compile_path

from molar_retrieval.errors import MolarError
from molar_serving import problems
from molar_serving.compat.reql import condition
from molar_serving.compat.signatures import PARAMETERS, of_address
from molar_serving.compat.translated import (
    Row,
    appended,
    changed_item,
    item_now,
    listed,
    named_fields,
    otherwise,
    plainly,
    popular,
    similar,
    withdrawn_item,
    without_nothing,
)
from molar_serving.credentials import Credentials, Dialect
from molar_serving.endpoint import Call, Endpoint, Method, Reply, Scope, encode
from molar_serving.problems import ProblemError
from molar_serving.wire import EventsAnswer, ListAnswer

_PREFIX = "/compat/recombee"
_AT = _PREFIX + "/{database}"
_BATCH = 1_000
_LISTS = ("default", "personal", "related-items", "similar-properties")  # logics that are what is answered anyway


def _credentials(request: Request, body: bytes) -> Credentials:
    return of_address(request, _PREFIX)


def _refusal(problem: ProblemError, request_id: str) -> Response:
    told = _told(problem)
    return Response(encode(told), told["statusCode"], problem.headers, "application/json")


def _told(problem: ProblemError) -> dict[str, Any]:
    status, sentence = plainly(problem)
    return {"statusCode": status, "message": sentence}


_HOW = "the database id is the name of a key of `molar keys add NAME --signing`, the token its signing token"
DIALECT = Dialect(_credentials, _HOW, _refusal)


class RecombeeWishes(msgspec.Struct, rename="camel"):
    """Parameters of a question for items, in Recombee's words."""

    count: int = 10
    scenario: str | None = None
    return_properties: bool = False
    included_properties: list[str] | str | None = None
    filter: str | None = None
    booster: str | None = None
    logic: str | dict[str, Any] | None = None
    diversity: float = 0.0
    min_relevance: str = "low"
    rotation_rate: float = 0.0
    reql_expressions: dict[str, str] | None = None
    search_query: str = ""
    exclude: list[str] = []  # what a batch with distinctRecomms had before


class RecombeeInteraction(msgspec.Struct, rename="camel"):
    """What a user did with an item, in Recombee's words."""

    user_id: str | int
    item_id: str | int
    timestamp: str | float | None = None
    amount: float | None = None
    price: float | None = None
    rating: float | None = None
    recomm_id: str | None = None
    auto_presented: bool = False


class RecombeePart(msgspec.Struct):
    """A request of a batch."""

    method: Method
    path: str
    params: dict[str, Any] = {}


class RecombeeBatch(msgspec.Struct, rename="camel"):
    """Requests that are answered in their order."""

    requests: list[RecombeePart]
    distinct_recomms: bool = False


@dataclass(frozen=True)
class Written:
    """What a request appends to the log, and the status that says that it is there."""

    row: Row | None
    status: int = 200


Handler = Callable[[Call, Mapping[str, str], dict[str, Any]], Awaitable[Any]]


async def _for_user(call: Call, path: Mapping[str, str], params: dict[str, Any]) -> Any:
    wishes = _read(params, RecombeeWishes)
    if _logic(wishes) == "popular":
        return _answer(await popular(call, **_wanted(call, wishes)), wishes)
    return _answer(await listed(call, user_id=path["user"], **_wanted(call, wishes)), wishes)


async def _for_item(call: Call, path: Mapping[str, str], params: dict[str, Any]) -> Any:
    wishes = _read(params, RecombeeWishes)
    if _logic(wishes) == "popular":
        return _answer(await popular(call, **_wanted(call, wishes)), wishes)
    wanted = _wanted(call, wishes)
    if wanted.pop("diversity") is not None:
        raise ProblemError(501, "diversity is not supported for lists of an item", "leave it out", field="diversity")
    return _answer(await similar(call, path["item"], **wanted), wishes)


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
    if path["name"] not in (*named_fields(call), "title", "description", "image"):
        remedy = "add it to the items file, then `molar update`; columns of the catalogue are its properties"
        raise ProblemError(501, f"the property {path['name']!r} is no column of the catalogue", remedy)
    return Written(None, 201)


async def _set_values(call: Call, path: Mapping[str, str], params: dict[str, Any]) -> Written:
    values = {name: value for name, value in params.items() if not name.startswith("!")}
    return Written(changed_item(path["item"], values) if values else None)


async def _delete_item(call: Call, path: Mapping[str, str], params: dict[str, Any]) -> Written:
    return Written(withdrawn_item(path["item"]))


async def _get_values(call: Call, path: Mapping[str, str], params: dict[str, Any]) -> Any:
    found = await item_now(call, path["item"])
    if found is None:
        raise ProblemError(404, f"there is no item {path['item']}", "it is withdrawn, or not in the live generation")
    return found.fields


_ROUTES: tuple[tuple[Method, str, Scope, Handler], ...] = (
    ("POST", "/recomms/users/{user}/items/", "answer", _for_user),
    ("GET", "/recomms/users/{user}/items/", "answer", _for_user),
    ("POST", "/recomms/items/{item}/items/", "answer", _for_item),
    ("GET", "/recomms/items/{item}/items/", "answer", _for_item),
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


def _single(handler: Handler) -> Callable[[Call], Awaitable[Reply]]:
    async def answer(call: Call) -> Reply:
        named = {name: value for name, value in call.request.query_params.items() if name not in PARAMETERS}
        done = await handler(call, call.path, {**named, **_object(call.body)})
        if not isinstance(done, Written):
            return Reply(done)
        if done.row is not None:
            told = await appended(call, [done.row])
            if told.rejected:
                raise _rejected(told, 0)
        return Reply("ok", done.status)

    return answer


async def batch(call: Call) -> Reply:
    """Answer requests in their order; what is written between two questions is appended at once."""
    asked: RecombeeBatch = call.body
    if len(asked.requests) > _BATCH:
        raise ProblemError(413, f"{len(asked.requests):,} requests in a batch", f"send at most {_BATCH:,}")
    answers: list[tuple[int, Any]] = []
    waiting: list[tuple[int, Row]] = []
    had: list[str] = []
    for part in asked.requests:
        status, answer = await _part(call, part, had if asked.distinct_recomms else [], answers, waiting)
        answers.append((status, answer))
        if isinstance(answer, dict) and "recomms" in answer:
            had += [one["id"] for one in answer["recomms"]]
    await _write(call, answers, waiting)
    return Reply([{"code": status, "json": answer} for status, answer in answers])


async def _part(
    call: Call, part: RecombeePart, had: list[str], answers: list[tuple[int, Any]], waiting: list[tuple[int, Row]]
) -> tuple[int, Any]:
    try:
        path, scope, handler = _route(part)
        if scope not in call.key.scopes:
            raise ProblemError(403, f"the key {call.key.name} has no scope {scope}", "use one that has")
        if scope == "answer":
            await _write(call, answers, waiting)
        done = await handler(call, path, {**part.params, "exclude": had} if had else part.params)
    except MolarError as error:
        problem = problems.of_error(error)
    except ProblemError as error:
        problem = error
    else:
        if not isinstance(done, Written):
            return 200, done
        if done.row is not None:
            waiting.append((len(answers), done.row))
        return done.status, "ok"
    told = _told(problem)
    return told["statusCode"], told


async def _write(call: Call, answers: list[tuple[int, Any]], waiting: list[tuple[int, Row]]) -> None:
    if not waiting:
        return
    told = await appended(call, [row for _, row in waiting])
    for number, one in enumerate(told.rejected):
        answers[waiting[one.index][0]] = (400, _told(_rejected(told, number)))
    waiting.clear()


def _route(part: RecombeePart) -> tuple[Mapping[str, str], Scope, Handler]:
    for method, (pattern, scope, handler) in _COMPILED:
        if method == part.method and (found := pattern.fullmatch(part.path)):
            return {name: unquote(value) for name, value in found.groupdict().items()}, scope, handler
    raise ProblemError(
        501, f"{part.method} {part.path[:200]} of Recombee is not supported", "docs/compat.md tells what is"
    )


_COMPILED = [(method, (compile_path(path)[0], scope, handler)) for method, path, scope, handler in _ROUTES]


def _object(body: bytes | None) -> dict[str, Any]:
    try:
        found = msgspec.json.decode(body) if body else {}
    except msgspec.DecodeError as error:
        raise problems.unreadable(error) from error
    if not isinstance(found, dict):
        raise ProblemError(400, "the body is no JSON object", "send the parameters by name")
    return found


def _read(params: dict[str, Any], wanted: Any) -> Any:
    try:
        return msgspec.convert(params, wanted, strict=False)
    except msgspec.ValidationError as error:
        raise problems.unreadable(error, wanted) from error


def _rejected(told: EventsAnswer, number: int) -> ProblemError:
    one = told.rejected[number]
    return ProblemError(400, one.problem, one.remedy, field=one.field)


def _logic(wishes: RecombeeWishes) -> str:
    named = wishes.logic.get("name") if isinstance(wishes.logic, dict) else wishes.logic
    name = str(named or "default").rpartition(":")[2]
    if name not in (*_LISTS, "popular"):
        raise ProblemError(501, f"the logic {name} is not supported", f"name one of {', '.join([*_LISTS, 'popular'])}")
    return name


def _wanted(call: Call, wishes: RecombeeWishes) -> dict[str, Any]:
    """What is asked for, in our words; a ProblemError for what would silently be left undone."""
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
        "fields": (names or [*named_fields(call), "title"]) if wishes.return_properties else None,
        "diversity": wishes.diversity or None,
        "exclude": wishes.exclude or None,
    }


def _answer(answer: ListAnswer, wishes: RecombeeWishes) -> dict[str, Any]:
    recomms: list[dict[str, Any]] = [{"id": item.item_id} for item in answer.items]
    if wishes.return_properties:
        for told, item in zip(recomms, answer.items, strict=True):
            told["values"] = item.fields
    return {"recommId": answer.recommendation_id, "recomms": recomms, "numberNextRecommsCalls": 0}


_LISTING = "the catalogue is the shop's own file; `molar events export` writes what people did"
_UNSUPPORTED: dict[tuple[Method, str], str] = {
    **{("GET", f"/{kind}/list/"): _LISTING for kind in ("items", "users")},
    ("POST", "/users/{user}"): "columns of people come with the catalogue's users file: docs/catalogue.md",
    ("POST", "/recomms/next/items/{id}"): "ask for more at once, by count",
    ("POST", "/more-items/"): "set the values of each item, in batches",
    ("DELETE", "/more-items/"): "delete each item, in batches",
}
_BODIES = {"POST", "DELETE"}
ENDPOINTS: tuple[Endpoint, ...] = (
    *(
        Endpoint(
            method,
            _AT + path,
            scope,
            f"{method} {path} of Recombee",
            _single(handler),
            media=("application/json",) if method in _BODIES else (),
            changes=scope != "answer",
            dialect=DIALECT,
        )
        for method, path, scope, handler in _ROUTES
    ),
    Endpoint(
        "POST", _AT + "/batch/", "events", "Several requests", batch, RecombeeBatch, changes=True, dialect=DIALECT
    ),
    *otherwise(_AT, "Recombee", DIALECT, _UNSUPPORTED),
)
