"""Recombee's API (https://docs.recombee.com/api): address ``…/compat/recombee``, database and token are a key's.

The database id is the name of a key made with ``--signing``, the token its signing token. Every request has its time
and an HMAC-SHA1 of its path and parameters; as at Recombee, that covers neither method nor body.

A part of ReQL, the language of Recombee's filters, as conditions of our filter language.

'price' < 40 and ("Drama" in 'genres' or 'brand' in {"Acme", "Apex"}) and not 'sold' and 'year' != null
"""

import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Any
from urllib.parse import unquote

import msgspec
from lark import Lark, Transformer
from lark.exceptions import LarkError
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import compile_path

from molar_retrieval import limits
from molar_retrieval.errors import MolarError
from molar_retrieval.ranking.query import Id, Share
from molar_serving import problems
from molar_serving.auth import Credentials, Dialect, Scope
from molar_serving.compat.signatures import PARAMETERS, of_address
from molar_serving.compat.translated import (
    Row,
    appended,
    appended_all,
    changed_item,
    item_now,
    listed,
    named_fields,
    next_of,
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
from molar_serving.lists import deadline_of
from molar_serving.problems import ProblemError, unreadable
from molar_serving.wire import ListAnswer, Many, Moment, Number, encode

_GRAMMAR = r"""
    ?start: either
    ?either: both ("or"i both)*
    ?both: one ("and"i one)*
    ?one: "not"i one -> no
        | "(" either ")"
        | PROPERTY COMPARISON value -> compared
        | value COMPARISON PROPERTY -> turned
        | value "in"i PROPERTY -> has
        | PROPERTY "in"i "{" value ("," value)* "}" -> among
        | PROPERTY -> holds
    value: STRING | NUMBER | WORD
    PROPERTY: /'[^']+'/
    STRING: /"(?:[^"\\]|\\.)*"/
    NUMBER: /-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?/
    WORD: "true"i | "false"i | "null"i
    COMPARISON: "==" | "!=" | "<=" | ">=" | "<" | ">"
    %import common.WS
    %ignore WS
"""
_TURNED = {"<": ">", ">": "<", "<=": ">=", ">=": "<="}
_KEPT = 10_000  # lists of which it is known how far they were shown
_pages: dict[str, tuple[str, int]] = {}
"""Of a list's first page the id of its latest one, and how many came after the first."""
_LISTS = ("default", "personal", "related-items", "similar-properties")  # logics that are what is answered anyway
_PREFIX = "/compat/recombee"
_AT = _PREFIX + "/{database}"
_BATCH = 1_000
_LISTS_OF = {False: 100, True: 10}  # lists that a batch may ask for, by a key for servers and for browsers


class _Conditions(Transformer[Any, str]):
    """Conditions from the leaves up, while they are parsed, so that nothing recurses."""

    def value(self, found: list[str]) -> Any:
        return json.loads(found[0].lower() if found[0][0] not in '"-0123456789' else found[0])

    def either(self, parts: list[str]) -> str:
        return f"({' or '.join(parts)})"

    def both(self, parts: list[str]) -> str:
        return f"({' and '.join(parts)})"

    def no(self, parts: list[str]) -> str:
        return f"not ({parts[0]})"

    def compared(self, parts: list[Any]) -> str:
        name, comparison, value = parts
        if value is None:
            return f"{_name(name)} is {'not ' if comparison == '!=' else ''}null"
        return f"{_name(name)} {'=' if comparison == '==' else comparison} {_word(value)}"

    def turned(self, parts: list[Any]) -> str:
        value, comparison, name = parts
        return self.compared([name, _TURNED.get(comparison, comparison), value])

    def has(self, parts: list[Any]) -> str:
        return f"{_name(parts[1])} = {_word(parts[0])}"

    def among(self, parts: list[Any]) -> str:
        return f"{_name(parts[0])} in ({', '.join(map(_word, parts[1:]))})"

    def holds(self, parts: list[str]) -> str:
        return f"{_name(parts[0])} = true"


def _name(written: str) -> str:
    return "item_id" if written == "'itemId'" else quoted(written[1:-1])


def _word(value: Any) -> str:
    return quoted(value) if isinstance(value, str) else json.dumps(value)


@cache
def _parser() -> Lark:
    return Lark(_GRAMMAR, parser="lalr", transformer=_Conditions())


@lru_cache(256)
def condition(filter_: str) -> str:
    """A filter as a condition; a ProblemError (501) where it needs more of ReQL than is understood here."""
    try:
        if len(filter_) > limits.CONDITION:
            raise ProblemError(400, f"the filter has more than {limits.CONDITION:,} characters", "make it shorter")
        return str(_parser().parse(filter_))
    except (LarkError, ValueError) as error:
        remedy = (
            "compare properties with values, name some in {…}, join by and, or, not; rules can do more: docs/ranking.md"
        )
        raise ProblemError(501, f"of ReQL this is not supported: {filter_[:200]}", remedy, field="filter") from error


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


class RecombeePart(msgspec.Struct):
    """A request of a batch."""

    method: Method
    path: str
    params: dict[str, Any] = {}


class RecombeeBatch(msgspec.Struct, rename="camel"):
    """Requests that are answered in their order."""

    requests: list[RecombeePart]
    distinct_recomms: bool = False


def _single(handler: Handler) -> Callable[[Call], Awaitable[Reply]]:
    async def answer(call: Call) -> Reply:
        named = {name: value for name, value in call.request.query_params.items() if name not in PARAMETERS}
        done = await handler(call, call.path, {**named, **_object(call.body)})
        if not isinstance(done, Written):
            return Reply(done)
        if done.row is not None:
            await appended_all(call, [done.row])
        return Reply("ok", done.status)

    return answer


async def batch(call: Call) -> Reply:
    """Answer requests in their order; what is written between two questions is appended at once."""
    asked: RecombeeBatch = call.body
    if len(asked.requests) > _BATCH:
        raise ProblemError(413, f"{len(asked.requests):,} requests in a batch", f"send at most {_BATCH:,}")
    lists, most = (
        sum(part.path.startswith(("/recomms/", "/search/")) for part in asked.requests),
        _LISTS_OF[call.key.of_browsers],
    )
    if lists > most:
        raise ProblemError(413, f"{lists:,} lists in a batch", f"ask for at most {most}")
    answers: list[tuple[int, Any]] = []
    waiting: list[tuple[int, Row]] = []
    had: list[str] = []
    for part in asked.requests:
        status, answer = await _part(call, part, had if asked.distinct_recomms else [], answers, waiting)
        answers.append((status, answer))
        if isinstance(answer, dict) and "recomms" in answer:
            had += [one["id"] for one in answer["recomms"]]
    await _write(call, answers, waiting)
    call.audit["requests"] = len(answers)
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
            call.deadline = deadline_of(call.request, call.service.settings.serve.deadline)  # each has its own
            done = await handler(call, path, {**part.params, "exclude": had} if had else part.params)
        else:
            done = await handler(call, path, part.params)
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
    for one in told.rejected:
        answers[waiting[one.index][0]] = 400, _told(ProblemError(400, one.problem, one.remedy, field=one.field))
    waiting.clear()


def _route(part: RecombeePart) -> tuple[Mapping[str, str], Scope, Handler]:
    for method, (pattern, scope, handler) in _COMPILED:
        if method == part.method and (found := pattern.fullmatch(part.path)):
            return {name: unquote(value) for name, value in found.groupdict().items()}, scope, handler
    raise ProblemError(
        501, f"{part.method} {part.path[:200]} of Recombee is not supported", "docs/compat.md tells what is"
    )


_COMPILED = [(method, (compile_path(path)[0], scope, handler)) for method, path, scope, handler in ROUTES]


def _object(body: bytes | None) -> dict[str, Any]:
    try:
        found = msgspec.json.decode(body) if body else {}
    except msgspec.DecodeError as error:
        raise problems.unreadable(error) from error
    if not isinstance(found, dict):
        raise ProblemError(400, "the body is no JSON object", "send the parameters by name")
    return found


_LISTING = "the catalogue is the shop's own file; `molar events export` writes what people did"
_UNSUPPORTED: dict[tuple[Method, str], str] = {
    **{("GET", f"/{kind}/list/"): _LISTING for kind in ("items", "users")},
    ("POST", "/users/{user}"): "columns of people come with the catalogue's users file: docs/catalogue.md",
    (
        "PUT",
        "/users/{target}/merge/{source}",
    ): "people are not merged; /v1/events takes user_id and session_id together",
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
        for method, path, scope, handler in ROUTES
    ),
    Endpoint(
        "POST",
        _AT + "/batch/",
        "events",
        "Several requests",
        batch,
        RecombeeBatch,
        changes=True,
        mixed=True,
        dialect=DIALECT,
    ),
    *otherwise(_AT, "Recombee", DIALECT, _UNSUPPORTED),
)
