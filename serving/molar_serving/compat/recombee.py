"""Recombee's API (https://docs.recombee.com/api): address ``…/compat/recombee``, database and token are a key's.

The database id is the name of a key made with ``--signing``, the token its signing token. Every request has its time
and an HMAC-SHA1 of its path and parameters; as at Recombee, that covers neither method nor body.
"""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any
from urllib.parse import unquote

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import compile_path

from molar_retrieval.errors import MolarError
from molar_serving import problems
from molar_serving.compat.recombee_requests import ROUTES, Handler, Written
from molar_serving.compat.signatures import PARAMETERS, of_address
from molar_serving.compat.translated import Row, appended, appended_all, otherwise, plainly
from molar_serving.credentials import Credentials, Dialect
from molar_serving.deadlines import deadline_of
from molar_serving.endpoint import Call, Endpoint, Method, Reply, Scope, encode
from molar_serving.problems import ProblemError

_PREFIX = "/compat/recombee"
_AT = _PREFIX + "/{database}"
_BATCH = 1_000
_LISTS_OF = {False: 100, True: 10}  # lists that a batch may ask for, by a key for servers and for browsers


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
