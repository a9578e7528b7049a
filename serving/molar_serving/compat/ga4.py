"""Google Analytics 4's Measurement Protocol: address ``…/compat/ga4``, the API secret is a key.

https://developers.google.com/analytics/devguides/collection/protocol/ga4
"""

import time
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from molar_retrieval.data.event_parsing import FieldError, parse_event
from molar_serving.auth import Credentials, Dialect, of_key
from molar_serving.compat.translated import Row, appended, otherwise, own_kind, plainly, renamed, without_nothing
from molar_serving.endpoint import Call, Endpoint, Reply
from molar_serving.problems import ProblemError
from molar_serving.wire import Whole, encode

_AT = "/compat/ga4"
_KINDS = {
    "view_item_list": "impression",
    "select_item": "click",
    "view_item": "view",
    "add_to_cart": "add_to_cart",
    "add_to_wishlist": "add_to_cart",
    "remove_from_cart": "remove_from_cart",
    "purchase": "purchase",
    "refund": "return",
    "search": "search",
    "view_search_results": "search",
}
_OF_EVENTS = {
    "transaction_id": "transaction_id",
    "value": "value",
    "search_term": "search_term",
    "item_list_id": "list_id",
    "recommendation_id": "request_id",
}
_OF_ITEMS = {
    "item_id": "item_id",
    "quantity": "quantity",
    "price": "price",
    "index": "position",
    "item_list_id": "list_id",
}


def _credentials(request: Request, body: bytes) -> Credentials:
    return of_key(request.query_params.get("api_secret", ""))


def _refusal(problem: ProblemError, request_id: str) -> Response:
    status, sentence = plainly(problem)
    told = {"validationMessages": [_message(problem.field or "", sentence, "VALUE_INVALID")]}
    return Response(encode(told), status, problem.headers, "application/json")


DIALECT = Dialect(_credentials, "send the key as api_secret", _refusal)


class GA4Event(msgspec.Struct):
    """Something that somebody did."""

    name: str
    params: dict[str, Any] = {}
    timestamp_micros: Whole | str | None = None


class GA4Payload(msgspec.Struct):
    """What one client did; ``client_id`` is of a browser, ``app_instance_id`` of an app."""

    events: list[GA4Event]
    client_id: str | None = None
    app_instance_id: str | None = None
    user_id: str | None = None
    timestamp_micros: Whole | str | None = None


async def collect(call: Call) -> Reply:
    """Append the events of a shop; what is wrong with others only ``/debug/mp/collect`` tells, as at Google."""
    sent: GA4Payload = call.body
    await appended(call, [_row(sent, event, kind) for event in sent.events if (kind := _kind(call, event))])
    return Reply(Response(status_code=204))


async def validate(call: Call) -> Reply:
    """What would not be kept of a payload, and why; nothing is appended."""
    sent: GA4Payload = call.body
    now = time.time_ns() // 1_000
    found = [
        _message(f"events[{n}].{where}", *said)
        for n, one in enumerate(sent.events)
        for where, *said in _wrong(call, sent, one, now)
    ]
    return Reply({"validationMessages": found})


def _wrong(call: Call, sent: GA4Payload, event: GA4Event, now: int) -> list[tuple[str, str, str]]:
    kind = _kind(call, event)
    if kind is None:
        sentence = f"{event.name} is not kept: it is no event of items; one of yours belongs in [serve] event_aliases"
        return [("name", sentence, "NAME_INVALID")]
    try:
        parse_event({"timestamp": now, **_row(sent, event, kind), "event_id": "1"}, now)
    except FieldError as error:
        return [(error.field, f"{error.message}; {error.hint}", "VALUE_INVALID")]
    return []


def _message(path: str, description: str, code: str) -> dict[str, str]:
    return {"fieldPath": path, "description": description, "validationCode": code}


def _kind(call: Call, event: GA4Event) -> str | None:
    return _KINDS.get(event.name) or own_kind(call, event.name)


def _row(sent: GA4Payload, event: GA4Event, kind: str) -> Row:
    items = event.params.get("items")
    return without_nothing(
        {
            "event": kind,
            "user_id": sent.user_id,
            "session_id": sent.client_id or sent.app_instance_id,
            "timestamp": event.timestamp_micros or sent.timestamp_micros,
            **renamed(event.params, _OF_EVENTS),
            "items": [renamed(item, _OF_ITEMS) for item in items] if isinstance(items, list) else items,
        }
    )


ENDPOINTS: tuple[Endpoint, ...] = (
    Endpoint("POST", _AT + "/mp/collect", "events", "Events", collect, GA4Payload, changes=True, dialect=DIALECT),
    Endpoint("POST", _AT + "/debug/mp/collect", "events", "What is wrong", validate, GA4Payload, dialect=DIALECT),
    *otherwise(_AT, "GA4", DIALECT, {}),
)
