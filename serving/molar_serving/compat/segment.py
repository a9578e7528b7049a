"""Segment's tracking API (https://www.twilio.com/docs/segment): address ``…/compat/segment``, a write key is a key."""

import base64
import binascii
from collections.abc import Mapping
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from molar_serving.auth import Credentials, Dialect, of_key
from molar_serving.compat.translated import Row, appended_all, otherwise, own_kind, plainly, renamed, without_nothing
from molar_serving.endpoint import Call, Endpoint, Reply
from molar_serving.endpoints.users import merged
from molar_serving.problems import ProblemError
from molar_serving.wire import Whole, encode

_AT = "/compat/segment/v1"
_KINDS = {
    "product list viewed": "impression",
    "product list filtered": "impression",
    "product clicked": "click",
    "product viewed": "view",
    "product added": "add_to_cart",
    "product added to wishlist": "add_to_cart",
    "product removed": "remove_from_cart",
    "order completed": "purchase",
    "order refunded": "return",
    "order cancelled": "return",
    "products searched": "search",
}
_OF_EVENTS = {
    "order_id": "transaction_id",
    "list_id": "list_id",
    "query": "search_term",
    "recommendation_id": "request_id",
}
_OF_ITEMS = {"quantity": "quantity", "price": "price", "position": "position"}
_TYPES = ("track", "page", "identify", "screen", "group", "alias")
_SHORT = {name[0]: name for name in _TYPES}


class SegmentMessage(msgspec.Struct, rename="camel"):
    """Something that somebody did; of other types than ``track`` and ``identify`` nothing is kept."""

    type: str = ""
    event: str = ""
    user_id: str | Whole | None = None
    anonymous_id: str | Whole | None = None
    properties: dict[str, Any] | None = None
    timestamp: str | None = None
    message_id: str | None = None
    sent_at: str | None = None


class SegmentBatch(msgspec.Struct, rename="camel"):
    """Messages that were sent at once."""

    batch: list[SegmentMessage]
    sent_at: str | None = None


class _Written(msgspec.Struct, rename="camel"):
    write_key: str = ""


def _credentials(request: Request, body: bytes) -> Credentials:
    """Of basic authentication the name; else the ``writeKey`` of the body, as pages send it."""
    kind, _, sent = request.headers.get("authorization", "").partition(" ")
    try:
        if kind.lower() == "basic":
            return of_key(base64.b64decode(sent, validate=True).decode().partition(":")[0])
        return of_key(msgspec.json.decode(body, type=_Written).write_key)
    except (binascii.Error, ValueError):
        return of_key("")


def _refusal(problem: ProblemError, request_id: str) -> Response:
    status, sentence = plainly(problem)
    return Response(encode({"code": str(status), "message": sentence}), status, problem.headers, "application/json")


DIALECT = Dialect(_credentials, "send the key as the name of basic authentication, or as writeKey", _refusal, True)


async def single(call: Call) -> Reply:
    """One message, of the type that it names, or its path."""
    sent: SegmentMessage = call.body
    path = call.request.url.path.rpartition("/")[2]
    sent.type = sent.type or _SHORT.get(path, path)
    return await _taken(call, [sent], None)


async def batch(call: Call) -> Reply:
    """Several messages."""
    sent: SegmentBatch = call.body
    return await _taken(call, sent.batch, sent.sent_at)


async def _taken(call: Call, messages: list[SegmentMessage], sent_at: str | None) -> Reply:
    problem = await _identified(call, messages)
    await appended_all(call, [row for message in messages if (row := _row(call, message, sent_at)) is not None])
    if problem is not None:
        raise problem
    return Reply({"success": True})


async def _identified(call: Call, messages: list[SegmentMessage]) -> ProblemError | None:
    """Say who somebody anonymous is, as ``POST /v1/users/merge`` does; a page, which could name anybody, does not."""
    pairs = dict.fromkeys(
        (str(message.anonymous_id), str(message.user_id))
        for message in messages
        if message.type == "identify" and None not in (message.anonymous_id, message.user_id)
    )
    return (await merged(call, list(pairs)))[1] if pairs and not call.key.of_browsers else None


def _row(call: Call, message: SegmentMessage, sent_at: str | None) -> Row | None:
    """A message as an event; None where it is of no items."""
    kind = _KINDS.get(message.event.lower().replace("_", " ")) or own_kind(call, message.event)
    if message.type not in ("track", "") or kind is None:
        return None
    properties = message.properties or {}
    products = properties.get("products")
    items = products if isinstance(products, list) else [properties] if _item_id(properties) is not None else None
    return without_nothing(
        {
            "event_id": message.message_id,
            "event": kind,
            "user_id": message.user_id,
            "session_id": message.anonymous_id,
            "timestamp": message.timestamp,
            "sent_at": message.sent_at or sent_at,
            **renamed(properties, _OF_EVENTS),
            "items": None if items is None else [_item(item) for item in items],
        }
    )


def _item(item: Any) -> Any:
    return {"item_id": _item_id(item), **renamed(item, _OF_ITEMS)} if isinstance(item, Mapping) else item


def _item_id(item: Mapping[str, Any]) -> Any:
    return item.get("product_id") or item.get("sku")


ENDPOINTS: tuple[Endpoint, ...] = (
    *(
        Endpoint("POST", f"{_AT}/{name}", "events", "A message", single, SegmentMessage, changes=True, dialect=DIALECT)
        for name in (*_TYPES, *_SHORT)
    ),
    *(
        Endpoint("POST", f"{_AT}/{name}", "events", "Messages", batch, SegmentBatch, changes=True, dialect=DIALECT)
        for name in ("batch", "import", "b")
    ),
    *otherwise("/compat/segment", "Segment", DIALECT, {}),
)
