"""What all dialects are translated to: lists, events and changes of items as ``/v1`` has them."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import UTC, datetime
from hashlib import sha256
from typing import TYPE_CHECKING, Any, get_args
from uuid import uuid4

import msgspec

from molar_retrieval.columns import TITLE
from molar_retrieval.data.event_parsing import DESCRIBE, EVENT_TYPES, OF_ITEMS, event_type
from molar_retrieval.errors import RequestError
from molar_serving import asking
from molar_serving.asking import Question
from molar_serving.auth import Dialect
from molar_serving.endpoint import Call, Endpoint, Method, Reply
from molar_serving.endpoints import events, recommendations
from molar_serving.lists import answered, list_answer, list_of, reply
from molar_serving.problems import ProblemError, unreadable
from molar_serving.wire import (
    EventsAnswer,
    ListAnswer,
    RankingsRequest,
    RecommendationRequest,
    SearchRequest,
    SimilarRequest,
)

if TYPE_CHECKING:
    from molar_indexes.inspection import ItemStanding

Row = Mapping[str, Any]
_LIKED = dict.fromkeys(("like", "star", "favorite", "favourite", "love", "thumbs_up", "upvote"), "rating")
_ELSEWHERE = {"read": "view", "watch": "view", "cart": "add_to_cart", "bookmark": "add_to_cart", **_LIKED}
_MOST = 1_000  # events of a request
_NAMED = 100  # changed items that the audit log names


async def listed(call: Call, **wishes: Any) -> ListAnswer:
    """The list that fields of a :class:`~molar_serving.wire.RecommendationRequest` ask for; None is not asked for."""
    return await _answered(call, _converted(wishes, RecommendationRequest))


async def similar(call: Call, **wishes: Any) -> ListAnswer:
    """The items like one; of an unknown one the popular ones, as no shop page fails by that."""
    return await _answered(call, _converted(wishes, SimilarRequest))


async def searched(call: Call, **wishes: Any) -> ListAnswer:
    """What words ask for, for somebody or for anybody."""
    return await _answered(call, _converted(wishes, SearchRequest))


async def popular(call: Call, **wishes: Any) -> ListAnswer:
    """The items that most people took."""
    asked, recommender = _converted(wishes, RecommendationRequest), call.service.recommender
    answer = await call.service.answers.do(lambda: asking.popular(recommender, asked))
    return _told(reply(call, list_answer(answer), asked))


async def ranked(call: Call, **wishes: Any) -> ListAnswer:
    """A caller's own items, in order; those that nothing ranks have no score."""
    call.body = _converted(wishes, RankingsRequest)
    return _told(await recommendations.rank(call))


async def next_of(call: Call, answer_id: str, k: int) -> ListAnswer:
    """The next items of a list."""
    return _told(await recommendations.page_behind(call, answer_id, k))


async def item_now(call: Call, item_id: str) -> "ItemStanding":
    """An item as it is now; a ProblemError where the live generation does not have it."""
    from molar_indexes.inspection import standing_of

    recommender = call.service.recommender
    found = await call.service.answers.do(lambda: standing_of(recommender, item_id))
    if found is None:
        raise ProblemError(404, f"there is no item {item_id[:200]}", "the live generation does not have it")
    return found


async def _answered(call: Call, question: Question) -> ListAnswer:
    answer, notes = await answered(call, question)
    return _told(reply(call, list_of(question, answer, notes), question, question))


def _told(answered: Reply) -> ListAnswer:
    answer: ListAnswer = answered.value
    return answer


def _converted(given: Row, wanted: Any) -> Any:
    """Our type of a body; None is not asked for."""
    try:
        return msgspec.convert({name: value for name, value in given.items() if value is not None}, wanted)
    except msgspec.ValidationError as error:
        raise unreadable(error, wanted) from error


async def appended(call: Call, rows: Sequence[Row]) -> EventsAnswer:
    """Append events; those without an id get one of their content, so that sent again they count once.

    An event without a time is of now, and of the same content then counts once a minute.
    """
    if not rows:
        return EventsAnswer(accepted=0, duplicates=0, rejected=[], seq=0)
    if len(rows) > _MOST:
        raise ProblemError(413, f"{len(rows):,} events are sent", f"send at most {_MOST:,} in a request")
    changed = [str(row["item_id"]) for row in rows if row["event"] in OF_ITEMS]
    if changed:
        call.audit["items"] = [*call.audit.get("items", []), *changed][:_NAMED]
    return await events.appended(call, [row if row.get("event_id") else {**row, "event_id": _id(row)} for row in rows])


async def appended_all(call: Call, rows: Sequence[Row]) -> EventsAnswer:
    """Append events; a ProblemError tells of those that cannot be taken, which keep no other out."""
    told = await appended(call, rows)
    if told.rejected:
        first, kept = told.rejected[0], told.accepted + told.duplicates
        others = f"{len(told.rejected):,} of {len(rows):,} events are not taken, {kept:,} are kept; the first of them: "
        sentence = first.problem if len(rows) == 1 else others + first.problem
        raise ProblemError(400, sentence, first.remedy, field=first.field)
    return told


def did(call: Call, name: str, value: float | None) -> dict[str, Any]:
    """Kind and value of an event by a shop's own name of it; a ProblemError where nobody can tell what it means."""
    kind = own_kind(call, name) or _ELSEWHERE.get(name.strip().lower()) or event_type(name)
    others = (*OF_ITEMS, DESCRIBE)
    if kind is None or kind in others:
        known = ", ".join([*(one for one in EVENT_TYPES if one not in others), *_ELSEWHERE])
        remedy = f"use one of {known}; or say it in molar.toml, as [serve] event_aliases"
        raise ProblemError(400, f"what {name[:80]!r} means is not known", remedy)
    liked = kind == "rating" and event_type(name) is None and value is None
    return {"event": kind, "value": 1.0 if liked else value}


def own_kind(call: Call, name: str) -> str | None:
    """What the settings say that a name means, whatever its case."""
    kinds = call.service.settings.serve.event_aliases
    return next((kind for own, kind in kinds.items() if own.lower() == name.strip().lower()), None)


def _id(row: Row) -> str:
    minute = None if row.get("timestamp") else datetime.now(UTC).strftime("%Y-%m-%dT%H:%M")
    return sha256(msgspec.json.encode([row, minute], order="sorted")).hexdigest()[:32]


def changed_item(item_id: Any, data: Row) -> Row:
    """The event that an item has new values of some columns; written again it changes nothing."""
    return {"event_id": uuid4().hex, "event": "item_upsert", "item_id": item_id, "data": data}


def withdrawn_item(item_id: Any) -> Row:
    """The event that an item is withdrawn."""
    return {"event_id": uuid4().hex, "event": "item_withdraw", "item_id": item_id}


def named_fields(call: Call) -> list[str]:
    """The fields that conditions can name, and the title."""
    return [*call.service.recommender.generation.index.spec.fields, TITLE]


def field_among(call: Call, *names: str) -> str:
    """The first of some names that is a field of the live generation; else a RequestError that tells what is one."""
    known = named_fields(call)
    found = next((name for name in names if name in known), None)
    if found is None:
        words = f"the catalogue has no field {' or '.join(names)}"
        raise RequestError(words, f"name one of the fields {', '.join(sorted(known))}")
    return found


def quoted(value: Any) -> str:
    """A word as conditions have it."""
    return '"' + str(value).replace('"', '""') + '"'


def without_nothing(row: Row) -> Row:
    """The fields that have a value."""
    return {name: value for name, value in row.items() if value not in (None, "", [])}


def renamed(given: Any, names: Mapping[str, str]) -> Any:
    """The fields of an object that have a name among ours, by that; what is no object is left to the log to refuse."""
    return {ours: given[name] for name, ours in names.items() if name in given} if isinstance(given, Mapping) else given


def plainly(problem: ProblemError) -> tuple[int, str]:
    """A problem as a status that old clients know, 400 for all that is wrong with a request, and a sentence."""
    at = "" if problem.field is None else f"{problem.field}: "
    return 400 if problem.status == 422 else problem.status, f"{at}{problem}; {problem.remedy}"


def otherwise(
    prefix: str, product: str, dialect: Dialect, remedies: Mapping[tuple[Method, str], str]
) -> list[Endpoint]:
    """Endpoints for all else under a path, which is not supported; ``remedies`` say what to do instead of some."""

    def unsupported(remedy: str) -> Callable[[Call], Awaitable[Reply]]:
        async def answer(call: Call) -> Reply:
            asked = f"{call.request.method} {call.request.url.path.removeprefix(prefix)[:200]}"
            raise ProblemError(501, f"{asked} of {product} is not supported", remedy)

        return answer

    named = [
        Endpoint(method, prefix + path, None, "Not supported", unsupported(remedy), dialect=dialect)
        for (method, path), remedy in remedies.items()
    ]
    remedy = "docs/compat.md tells what is; /openapi.json describes what molar has itself"
    every = [
        Endpoint(method, prefix + "/{rest:path}", None, "Not supported", unsupported(remedy), dialect=dialect)
        for method in get_args(Method)
    ]
    return [*named, *every]
