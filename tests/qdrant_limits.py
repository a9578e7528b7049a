"""What a Qdrant server refuses, and the client's in-process mode takes: sizes, conditions of later versions, fields.

Texts are those of a server of 1.19.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any

MET = "1.19.0"
"""The version of the server that was met; ``contains`` came with the next."""
SUBSTRING = (1, 20)
LARGEST = 32 << 20
"""Bytes of the largest request by REST."""
_RANGED = ("integer", "float", "datetime")
_FORMAT = "Format error in JSON body: "


def too_large(size: int) -> str | None:
    """Why a request of so many bytes is refused by REST, with status 413."""
    if size <= LARGEST:
        return None
    return f"Payload error: JSON payload ({size} bytes) is larger than allowed (limit: {LARGEST})."


def refusal(body: Any, version: str, indexes: Mapping[str, str]) -> tuple[int, str] | None:
    """Status and reason of a refusal, else None; ``indexes`` are the kinds of the collection's fields."""
    for one in _objects(body):
        if one.get("limit") == 0:
            return 422, "Validation error in JSON body: [limit: value 0 invalid, must be 1 or larger]"
        if isinstance(one.get("match"), dict) and "substring" in one["match"] and before(version, SUBSTRING):
            return 400, _FORMAT + "data did not match any variant of untagged enum Condition"
        if isinstance(one.get("order_by"), dict) and indexes.get(one["order_by"]["key"]) not in _RANGED:
            return 400, f"Bad request: No range index for `order_by` key: `{one['order_by']['key']}`."
    for point in body.get("points", ()) if isinstance(body, dict) else ():
        own = point.get("id") if isinstance(point, dict) else point
        if not (isinstance(own, int) and own >= 0) and not (isinstance(own, str) and _is_uuid(own)):
            said = f"value {own} is not a valid point ID, valid values are either an unsigned integer or a UUID"
            return 400, _FORMAT + said
    return None


def before(version: str, wanted: tuple[int, int]) -> bool:
    """Whether a version is an earlier one."""
    found = re.match(r"(\d+)\.(\d+)", version)
    return found is not None and (int(found[1]), int(found[2])) < wanted


def _objects(body: Any) -> Iterator[dict[str, Any]]:
    if isinstance(body, dict):
        yield body
        for name, part in body.items():
            if name != "payload":
                yield from _objects(part)
    elif isinstance(body, list) and body and isinstance(body[0], dict | list):
        for part in body:
            yield from _objects(part)


def _is_uuid(text: str) -> bool:
    return re.fullmatch(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", text) is not None
