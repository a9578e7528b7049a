"""What events say of people: attributes that rules choose by, laid over those of the users file, as they arrived.

Only what the shop wants to be kept (`[index] segments`) is read of them, and only values of the column's kind.
"""

import json
import math
from collections.abc import Iterable, Mapping
from typing import Any

WANTED = {"keyword": "a text, or a list of texts", "integer": "a whole number", "float": "a number", "bool": "a truth"}
"""What a column of each kind takes, in words."""
_WHOLE = 2**63  # what a stored integer holds


def described(attributes: Mapping[str, Any], changes: Iterable[str], kinds: Mapping[str, str]) -> dict[str, Any]:
    """Attributes of somebody after changes, JSON objects in the order of their arrival; null takes a value away.

    ``kinds`` are the kept columns with the kind of each; other names, and values of other kinds, change nothing.
    """
    found = dict(attributes)
    for change in changes:
        for name, value in json.loads(change).items():
            if value is None:
                found.pop(name, None)
            elif fits(kinds.get(name), value):
                found[name] = value
    return found


def fits(kind: str | None, value: Any) -> bool:
    """Whether a column of a kind can hold a value; of no kind, none."""
    if kind == "keyword":
        return all(isinstance(one, str) for one in (value if isinstance(value, list) else [value]))
    if kind == "bool" or isinstance(value, bool):
        return kind == "bool" and isinstance(value, bool)
    if kind == "integer":
        return isinstance(value, int) and abs(value) < _WHOLE
    return kind == "float" and isinstance(value, int | float) and math.isfinite(value)
