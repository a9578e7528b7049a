"""One event from outside as lines of the log: names and their aliases, types, bounds."""

import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any

from molar_retrieval import limits
from molar_retrieval.errors import RequestError, shown, suggestion

EVENT_TYPES = (
    *("purchase", "add_to_cart", "view", "click", "impression", "remove_from_cart", "return", "rating", "search"),
    *("item_upsert", "item_withdraw", "identify", "user_upsert"),
)
IDENTIFY = "identify"
"""The kind that says which user a session is: what is known of the session alone is the user's, whenever it was."""
DESCRIBE = "user_upsert"
"""The kind that says what somebody is: attributes, laid over those of the users file."""
OF_ITEMS = ("item_upsert", "item_withdraw")
"""Kinds that say something of an item, and nothing of a person."""
_GA4 = {
    "view_item_list": "impression",
    "view_promotion": "impression",
    "select_item": "click",
    "select_promotion": "click",
    "view_item": "view",
    "refund": "return",
    "view_search_results": "search",
}
_GA4_WITHOUT_KIND = ("view_cart", "begin_checkout", "add_shipping_info", "add_payment_info", "add_to_wishlist")
_USUAL = dict.fromkeys(("buy", "order", "transaction", "sale"), "purchase") | {"addtocart": "add_to_cart"}
FIELDS = (
    *("event_id", "line", "event", "user_id", "session_id", "item_id", "timestamp", "quantity", "value"),
    *("list_id", "request_id", "position", "propensity", "arm", "data", "transaction_id"),
)
_ALIASES = {
    "event_id": "message_id insert_id",
    "event": "event_name event_type kind action name",
    "user_id": "user customer_id visitor_id",
    "session_id": "anonymous_id ga_session_id user_pseudo_id client_id",
    "item_id": "item product_id article_id sku asin",
    "timestamp": "time ts datetime date event_time event_timestamp timestamp_micros created_at",
    "quantity": "qty",
    "value": "rating",
    "list_id": "item_list_id placement",
    "request_id": "recommendation_id recomm_id",
    "position": "index rank",
    "arm": "experiment_arm",
    "search_term": "query",
    "transaction_id": "order_id",
}


@lru_cache(1 << 12)
def _folded(name: str) -> str:
    return re.sub(r"[\s_-]+", "", name).lower()


_FIELD_OF = {
    _folded(alias): (rank, name)
    for name in (*FIELDS, "price", "items", "search_term", "sent_at")
    for rank, alias in enumerate([name, *_ALIASES.get(name, "").split()])
}
_FIRST = -62_135_596_800 * 1_000_000  # the year 1
_LONGEST_NAME = 40
_DAY = 86_400 * 1_000_000
_UNITS = ((1e11, 1_000_000), (1e14, 1_000), (1e17, 1))  # below 1e11 seconds (year 5138), then milliseconds …
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
EventRow = tuple[Any, ...]
"""Values of :data:`FIELDS`, times as microseconds since 1970."""


class FieldError(RequestError):
    """A field of an event cannot be taken; ``field`` is its name."""

    def __init__(self, field: str, message: str, hint: str) -> None:
        super().__init__(message, hint)
        self.field = field


def parse_event(row: Mapping[str, Any], now: int) -> list[EventRow]:
    """The lines of an event, one for each of its items, the values in the order of :data:`FIELDS`.

    Args:
        row: The event by our names or GA4's, whatever their case; what is in ``params`` or ``ecommerce`` counts as
            well. Names that are not known are left out.
        now: Microseconds since 1970; what is more than a day later, or before 1990, is refused. By ``sent_at``, what
            the sender's clock said then, a clock that is wrong by a day at most is set right.

    Raises:
        FieldError: What is wrong with which field, and what to do.
    """
    if not isinstance(row, Mapping):
        raise FieldError("row", f"the event is no JSON object but {shown(row)}", "give one with its fields by name")
    found = _known(row)
    event = {name: _READERS[name](name, value) for name, value in found.items() if name in _READERS}
    kind = event.get("event")
    if kind is None:
        raise FieldError("event", "the event has no kind", f"give event as one of {', '.join(EVENT_TYPES)}")
    if "event_id" not in event:
        if "transaction_id" not in event:
            words = "give event_id, the same whenever the event is sent again, or a transaction_id"
            raise FieldError("event_id", "the event has no id", words)
        alone = f":{event['item_id']}" if "item_id" in event and "items" not in found else ""
        event["event_id"] = f"{kind}:{event['transaction_id']}{alone}"
    if "timestamp" not in event:
        raise FieldError("timestamp", "the event has no time", "give timestamp as ISO 8601 or as seconds since 1970")
    if "sent_at" in event and abs(behind := now - event["sent_at"]) <= limits.CLOCK_OFF * 1_000_000:
        event["timestamp"] += behind
    if (fault := limits.time_fault(event["timestamp"], now)) is not None:
        raise FieldError("timestamp", f"the event is {fault[0]}", fault[1])
    if kind not in OF_ITEMS and "user_id" not in event and "session_id" not in event:
        raise FieldError("user_id", "the event says not who did it", "give user_id, session_id or both")
    if "search_term" in event and "data" not in event:
        event["data"] = json.dumps({"search_term": event["search_term"]}, ensure_ascii=False)
    if kind in (IDENTIFY, DESCRIBE):
        return [_of_person(event)]
    parts = _parts(found.get("items"))
    return [_line(event | part, line) for line, part in enumerate(parts, event.get("line", 0))]


def _of_person(event: dict[str, Any]) -> EventRow:
    """The line of an event that says something of a person alone."""
    kind = event["event"]
    needed = ("user_id", "session_id" if kind == IDENTIFY else "data")
    for name in needed:
        if name not in event:
            raise FieldError(name, f"the {kind} names no {name}", f"give both, {' and '.join(needed)}")
    others = {"line": 0, "item_id": None} | ({"session_id": None} if kind == DESCRIBE else {})
    return tuple(map((event | others).get, FIELDS))


def field_of(name: str) -> str | None:
    """The field that goes by a name, ours or an alias, whatever its case; None where none does."""
    return _ranked(name)[1]


def _ranked(name: object) -> tuple[int, str | None]:
    """The field that goes by a name, after its rank among the aliases."""
    known = isinstance(name, str) and len(name) <= _LONGEST_NAME
    return _FIELD_OF.get(_folded(str(name)), (0, None)) if known else (0, None)


def days_late(lines: Sequence[EventRow], now: int) -> float:
    """How many days after its time an event comes; 0 for changes of items, whose time may be when they were made."""
    first = dict(zip(FIELDS, lines[0], strict=True))
    return 0.0 if first["event"] in OF_ITEMS else (now - first["timestamp"]) / _DAY


def event_type(name: str) -> str | None:
    """The kind that goes by a name, ours, GA4's or another usual one; None where none does."""
    folded = re.sub(r"[\s-]+", "_", name.strip().lower())
    kind = {**_GA4, **_USUAL}.get(folded, folded)
    return kind if kind in EVENT_TYPES else None


def _known(row: Mapping[str, Any]) -> dict[str, Any]:
    """The values by our names, without what is missing; of two aliases the first one in the table counts."""
    found: dict[str, tuple[int, Any]] = {}
    nested = [inner for name in ("params", "ecommerce") if isinstance(inner := row.get(name), Mapping)]
    for source in (row, *nested):
        for name, value in source.items():
            rank, field = _ranked(name)
            if field and not _is_missing(value) and (field not in found or rank < found[field][0]):
                found[field] = (rank, value)
    return {field: value for field, (_, value) in found.items()}


def _is_missing(value: Any) -> bool:
    return value is None or value == "" or value == [] or (isinstance(value, float) and math.isnan(value))


def _parts(items: Any) -> list[dict[str, Any]]:
    """What each of an event's items adds to it or replaces in it."""
    if items is None:
        return [{}]
    if not isinstance(items, list) or not 1 <= len(items) <= limits.EVENT_ITEMS:
        what = f"a list of {len(items):,}" if isinstance(items, list) else shown(items)
        raise FieldError("items", f"items is {what}", f"give a list of 1 to {limits.EVENT_ITEMS} items, or item_id")
    parts = []
    for number, item in enumerate(items):
        known = _known(item if isinstance(item, Mapping) else {"item_id": item})
        wanted = ("item_id", "quantity", "value", "price", "list_id", "position", "propensity", "data")
        part = {name: _READERS[name](f"items[{number}].{name}", known[name]) for name in wanted if name in known}
        if "item_id" not in part and isinstance(item, Mapping) and not _is_missing(item.get("id")):
            part["item_id"] = _id(f"items[{number}].id", item["id"])
        parts.append({"item_id": None} | part if len(items) == 1 else {"item_id": None, "value": None} | part)
    return parts


def _line(event: dict[str, Any], line: int) -> EventRow:
    kind = event["event"]
    whole = kind == "return" and "transaction_id" in event
    if event.get("item_id") is None and kind != "search" and not whole:
        raise FieldError("item_id", f"the {kind} has no item", "give item_id, or items with an item_id each")
    if event.get("value") is None and "price" in event:
        event["value"] = event["price"] * event.get("quantity", 1.0)
    if kind == "rating" and event.get("value") is None:
        raise FieldError("value", "the rating has no value", "give it as value or rating")
    return tuple(map((event | {"line": line}).get, FIELDS))


def _id(field: str, value: Any) -> str:
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    whole = isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**64
    text = str(value) if whole else value
    _text(field, text)
    if not text.strip() or "\0" in text:
        raise FieldError(field, f"{field} {shown(text)} is no id", "give one with letters or digits")
    return str(text)


def _text(field: str, value: Any, most: int = limits.ID) -> str:
    try:
        limits.text(field, value, most)
    except RequestError as error:
        raise FieldError(field, error.message, error.hint) from error
    return str(value)


def _kind(field: str, value: Any) -> str:
    name = _text(field, value).strip()
    kind = _GA4.get(name, name)
    if kind not in EVENT_TYPES:
        hint = suggestion(name, [*EVENT_TYPES, *_GA4], f"use one of {', '.join(EVENT_TYPES)}")
        if name in _GA4_WITHOUT_KIND:
            hint = "none is like it: leave such events out"
        raise FieldError(field, f"the kind {shown(name)} is not known", hint)
    return kind


def _number(low: float, high: float, *, whole: bool = False) -> Callable[[str, Any], float]:
    def read(field: str, value: Any) -> float:
        try:
            number = math.nan if isinstance(value, bool) else float(value)
        except (TypeError, ValueError, OverflowError):
            number = math.nan
        if not low <= number <= high or (whole and number != int(number)):
            what = "a whole number" if whole else "a number with a decimal point"
            raise FieldError(
                field, f"{field} = {shown(value)} is not taken", f"give {what} from {low:.9g} to {high:.9g}"
            )
        return int(number) if whole else number

    return read


def _moment(field: str, value: Any) -> int:
    """Microseconds since 1970: numbers are seconds, milli-, micro- or nanoseconds by their size; no zone is UTC."""
    try:
        if isinstance(value, str) and not re.fullmatch(r"\s*[+-]?\d+(\.\d*)?\s*", value):
            value = datetime.fromisoformat(value.strip())
        if not isinstance(value, datetime) and hasattr(value, "isoformat"):
            value = datetime.fromisoformat(value.isoformat())
        if isinstance(value, datetime):
            aware = value if value.tzinfo else value.replace(tzinfo=UTC)
            return (aware - _EPOCH) // timedelta(microseconds=1)
        if isinstance(value, bool):
            raise ValueError("no time")
        number = int(value) if isinstance(value, int) or str(value).strip().lstrip("+-").isdigit() else float(value)
        factor = next((unit for below, unit in _UNITS if abs(number) < below), None)
        micros = round(number * factor) if factor else int(number) // 1000
        if micros < _FIRST or re.fullmatch(r"(19|20)\d\d[01]\d[0-3]\d", str(number)):  # 20261126 is a day, no second
            raise ValueError("no time")
        return micros
    except (TypeError, ValueError, OverflowError) as error:
        words = "give ISO 8601 such as 2026-11-26T20:13:05Z, or seconds since 1970"
        raise FieldError(field, f"{field} = {shown(value)} is no time", words) from error


def _object(field: str, value: Any) -> str:
    try:
        parsed = json.loads(value) if isinstance(value, str) else value
        if not isinstance(parsed, Mapping):
            raise TypeError("no object")
        text = json.dumps(parsed, ensure_ascii=False, sort_keys=True, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise FieldError(field, f"{field} is no JSON object but {shown(value)}", 'give {"price": 9.5}') from error
    return _text(field, text, limits.EVENT_DATA)


_READERS: dict[str, Callable[[str, Any], Any]] = {
    **dict.fromkeys(("event_id", "user_id", "session_id", "item_id", "list_id", "request_id", "arm"), _id),
    "transaction_id": _id,
    "event": _kind,
    "line": _number(0, 2**31, whole=True),
    "timestamp": _moment,
    "sent_at": _moment,
    "quantity": _number(0, 1e9),
    "value": _number(-1e15, 1e15),
    "price": _number(0, 1e15),
    "position": _number(0, 1e9, whole=True),
    "propensity": _number(0, 1),
    "data": _object,
    "search_term": lambda field, value: _text(field, value, limits.TEXT),
}
