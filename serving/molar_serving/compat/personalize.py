"""Amazon Personalize, its runtime and its events: ``endpoint_url`` is ``…/compat/personalize``.

https://docs.aws.amazon.com/personalize/latest/dg/API_Operations_Amazon_Personalize_Runtime.html

The access key id is the name of a key made with ``--signing``, the secret access key its signing token.
"""

import re
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import msgspec
from starlette.responses import Response

from molar_indexes.answerer import POPULARITY
from molar_serving.auth import Dialect
from molar_serving.compat.signatures import of_request
from molar_serving.compat.translated import (
    Row,
    appended_all,
    changed_item,
    did,
    listed,
    named_fields,
    otherwise,
    plainly,
    ranked,
    renamed,
    similar,
    without_nothing,
)
from molar_serving.endpoint import Call, Endpoint, Reply
from molar_serving.problems import ProblemError
from molar_serving.wire import AnsweredItem, ListAnswer, Many, Moment, Number, encode

_AT = "/compat/personalize"
_ERRORS = {
    400: "InvalidInputException",
    401: "UnrecognizedClientException",
    403: "AccessDeniedException",
    404: "ResourceNotFoundException",
    429: "ThrottlingException",
    501: "NotImplementedException",
    503: "ServiceUnavailableException",
}
_RANKED = 500  # items to rank
_OF_PROPERTIES = {
    "price": "price",
    "quantity": "quantity",
    "transactionId": "transaction_id",
    "orderId": "transaction_id",
}


def _refusal(problem: ProblemError, request_id: str) -> Response:
    status, sentence = plainly(problem)
    headers = {**problem.headers, "x-amzn-ErrorType": _ERRORS.get(status, "InternalServerException")}
    return Response(encode({"message": sentence}), status, headers, "application/json")


_HOW = "the access key id is the name of a key of `molar keys add NAME --signing`, the secret its signing token"
DIALECT = Dialect(of_request, _HOW, _refusal, reads_body=True)


class PersonalizeQuestion(msgspec.Struct, rename="camel"):
    """A question for items, in Personalize's words; its ``context`` changes nothing."""

    campaign_arn: str = ""
    recommender_arn: str = ""
    user_id: str | None = None
    item_id: str | None = None
    num_results: Many = 25
    input_list: list[str] = []
    filter_arn: str | None = None
    promotions: list[dict[str, Any]] = []
    metadata_columns: dict[str, list[str]] = {}


class PersonalizeEvent(msgspec.Struct, rename="camel"):
    """What somebody did, in Personalize's words."""

    event_type: str
    sent_at: Moment | str
    event_id: str | None = None
    event_value: Number | None = None
    item_id: str | None = None
    properties: str | None = None
    recommendation_id: str | None = None
    impression: list[str] = []


class PersonalizeEvents(msgspec.Struct, rename="camel"):
    """What somebody did in a session."""

    session_id: str
    event_list: list[PersonalizeEvent]
    user_id: str | None = None


class PersonalizeItem(msgspec.Struct, rename="camel"):
    """An item, its properties as JSON."""

    item_id: str
    properties: str | None = None


class PersonalizeItems(msgspec.Struct):
    """Items to be written."""

    items: list[PersonalizeItem]


async def get_recommendations(call: Call) -> Reply:
    """What a user should see next; with an item, the items like it."""
    asked: PersonalizeQuestion = call.body
    wanted, columns = _wanted(asked), _columns(call, asked)
    wanted |= {"k": asked.num_results, "fields": list(columns.values())}
    if asked.item_id is not None:
        answer = await similar(call, item_id=asked.item_id, **wanted)
    elif asked.user_id is not None:
        answer = await _for_user(call, listed, asked.user_id, **wanted)
    else:
        raise ProblemError(400, "the request names neither userId nor itemId", "name one of them", field="userId")
    told = [_item(item, columns, answer) for item in answer.items]
    return Reply({"itemList": told, "recommendationId": answer.recommendation_id})


async def get_ranking(call: Call) -> Reply:
    """The caller's items, best first for a user; what may not be shown comes last, without a score."""
    asked: PersonalizeQuestion = call.body
    if asked.user_id is None or not 1 <= len(asked.input_list) <= _RANKED:
        raise ProblemError(400, f"{len(asked.input_list)} items are named", f"name userId and 1 to {_RANKED} items")
    columns = _columns(call, asked)
    wanted = _wanted(asked) | {"items": asked.input_list, "fields": list(columns.values())}
    answer = await _for_user(call, ranked, asked.user_id, **wanted)
    told = [_item(item, columns, answer) for item in answer.items]
    return Reply({"personalizedRanking": told, "recommendationId": answer.recommendation_id})


async def put_events(call: Call) -> Reply:
    """Append what somebody did; with ``impression``, what was shown as well."""
    sent: PersonalizeEvents = call.body
    who = without_nothing({"user_id": sent.user_id, "session_id": sent.session_id})
    await appended_all(call, [row for one in sent.event_list for row in _rows(call, one, who)])
    return Reply({})


async def put_items(call: Call) -> Reply:
    """Write items; properties are columns of the catalogue, by their names or in camel case."""
    sent: PersonalizeItems = call.body
    known = named_fields(call)
    changes = [(item.item_id, _object(item.properties)) for item in sent.items]
    rows = [
        changed_item(item_id, {_column(name, known): value for name, value in data.items()})
        for item_id, data in changes
        if data
    ]
    await appended_all(call, rows)
    return Reply({})


async def _for_user(call: Call, found: Callable[..., Awaitable[ListAnswer]], user_id: str, **wishes: Any) -> ListAnswer:
    """The list of a user; before they log in, they go by the id of their session."""
    answer = await found(call, user_id=user_id, **wishes)
    return answer if answer.basis != POPULARITY else await found(call, anonymous_id=user_id, **wishes)


def _wanted(asked: PersonalizeQuestion) -> dict[str, Any]:
    for name, given in (("filterArn", asked.filter_arn), ("promotions", asked.promotions)):
        if given:
            raise ProblemError(501, f"{name} is not supported", "write a rule: docs/ranking.md", field=name)
    return {"placement": (asked.campaign_arn or asked.recommender_arn).rpartition("/")[2] or None}


def _columns(call: Call, asked: PersonalizeQuestion) -> dict[str, str]:
    """Our names of the columns that are asked for, by theirs."""
    known = named_fields(call)
    return {name: _column(name, known) for name in asked.metadata_columns.get("ITEMS", [])}


def _column(name: str, known: list[str]) -> str:
    snake = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()
    return name if name in known else snake


def _item(item: AnsweredItem, columns: Mapping[str, str], answer: ListAnswer) -> dict[str, Any]:
    reasons = ["Popular item"] if answer.basis == POPULARITY else []
    if item.propensity is not None and item.propensity < 1:
        reasons.append("Exploration")
    if item.score is None:
        return {"itemId": item.item_id}
    told: dict[str, Any] = {"itemId": item.item_id, "score": item.score, "reason": reasons}
    if columns:
        values = {name: item.fields.get(column) for name, column in columns.items()}
        told["metadata"] = {name: _text(value) for name, value in values.items() if value is not None}
    return told


def _text(value: Any) -> str:
    return "|".join(map(str, value)) if isinstance(value, list) else str(value)


def _rows(call: Call, one: PersonalizeEvent, who: Row) -> list[Row]:
    at = {"timestamp": one.sent_at, **who}
    if one.recommendation_id:
        at["request_id"] = one.recommendation_id
    properties = renamed(_object(one.properties), _OF_PROPERTIES)
    row = without_nothing(
        {
            "event_id": one.event_id,
            "item_id": one.item_id,
            **did(call, one.event_type, one.event_value),
            **properties,
            **at,
        }
    )
    if not one.impression:
        return [row]
    shown = [{"item_id": item_id, "position": place} for place, item_id in enumerate(one.impression, 1)]
    named = {"event_id": f"{one.event_id}:impression"} if one.event_id else {}
    return [row, {"event": "impression", "items": shown, **named, **at}]


def _object(properties: str | None) -> dict[str, Any]:
    try:
        found = msgspec.json.decode(properties or "{}")
    except msgspec.DecodeError:
        found = None
    if not isinstance(found, dict):
        raise ProblemError(400, "properties are no JSON object", 'send {"price": 9.5}', field="properties")
    return found


_USERS = "columns of people come with the catalogue's users file: docs/catalogue.md"
ENDPOINTS: tuple[Endpoint, ...] = (
    *(
        Endpoint(
            "POST", _AT + path, "answer", f"POST {path} of Personalize", answer, PersonalizeQuestion, dialect=DIALECT
        )
        for path, answer in (("/recommendations", get_recommendations), ("/personalize-ranking", get_ranking))
    ),
    Endpoint("POST", _AT + "/events", "events", "Events", put_events, PersonalizeEvents, changes=True, dialect=DIALECT),
    Endpoint("POST", _AT + "/items", "catalogue", "Items", put_items, PersonalizeItems, changes=True, dialect=DIALECT),
    *otherwise(_AT, "Personalize", DIALECT, {("POST", "/users"): _USERS}),
)
