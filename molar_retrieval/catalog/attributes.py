"""Which columns enter the text of an item where nobody said: those that hold words about it.

Numbers, dates and counts never do (a count made from the log would leak the future into the vectors), nor do
ids, links, long texts beside the description, values that nearly every item has for itself, and second versions of
another column. Each column left out is listed with its reason, so that nothing happens silently.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from molar_retrieval.catalog import names
from molar_retrieval.catalog.values import STRING_LIST, as_written, is_list, is_text, map_elements

SAMPLE = 20_000
LONG = 80
"""Mean number of characters from which a text counts as a second description."""
UNIQUE = 0.9
"""Share of distinct values from which a column counts as an id or a second title …"""
ENOUGH = 200
"""… where it has at least so many values."""
_NO_WORDS = r"^[^\p{L}]*$|^\d{4}-\d{2}-\d{2}[T ]|^\d{1,2}[-/. ]\p{L}{3,9}[-/. ]\d{2,4}$"


def choose_attributes(sample: pa.RecordBatch, columns: Sequence[str], roles: Sequence[str]) -> dict[str, str | None]:
    """Decide for each column whether it is an attribute by default.

    Args:
        sample: The first rows of the catalogue.
        columns: The columns in question, in the order of the file.
        roles: The columns that are the title and the description.

    Returns:
        By column: None for an attribute, otherwise the reason why it is none.
    """
    reasons: dict[str, str | None] = {}
    for name in columns:
        reasons[name] = _reason(name, sample[name], roles)
    for name in [name for name in columns if reasons[name] is None]:
        others = [other for other in columns if reasons[other] is None and other != name]
        reasons[name] = _repeats(name, others, sample)
    return reasons


def _reason(name: str, array: pa.Array, roles: Sequence[str]) -> str | None:
    if not is_text(array.type):
        return "it is empty" if pa.types.is_null(array.type) else f"it holds {_holds(array.type)}, not words"
    by_name = names.not_input_by_name(name)
    if by_name:
        return by_name
    variant = next((role for role in roles if names.is_variant(name, role)), None)
    if variant is not None:
        return f"it is another version of {variant!r}"
    return _reason_by_values(_elements(array))


def _reason_by_values(values: pa.Array) -> str | None:
    n = len(values)
    if n == 0:
        return "it is empty"
    mean = float(np.mean(np.asarray(pc.utf8_length(values))))
    if mean > LONG:
        return f"it is long text ({mean:.0f} characters on average)"
    if pc.sum(pc.match_substring_regex(values, _NO_WORDS)).as_py() > n / 2:
        return "it holds numbers or dates, not words"
    distinct = pc.count_distinct(values).as_py() / n
    if n >= ENOUGH and distinct >= UNIQUE:
        return f"{distinct:.0%} of its values are distinct, as ids or second titles are"
    return None


def _repeats(name: str, others: Sequence[str], sample: pa.RecordBatch) -> str | None:
    """``tmdb_genres`` beside ``genres``: named after another attribute, and mostly with one of its values."""
    for other in others:
        if names.is_variant(name, other) and _overlap(_sets(sample[name]), _sets(sample[other])) > 0.5:
            return f"it repeats {other!r}"
    return None


def _overlap(left: Sequence[frozenset[str]], right: Sequence[frozenset[str]]) -> float:
    both = [(a, b) for a, b in zip(left, right, strict=True) if a and b]
    return sum(1 for a, b in both if a & b) / len(both) if both else 0.0


def _sets(array: pa.Array) -> list[frozenset[str]]:
    if not is_list(array.type):
        array = pa.array([None if v is None else [v] for v in as_written(array).to_pylist()], STRING_LIST)
    return [frozenset(values or ()) for values in map_elements(array, as_written).to_pylist()]


def _elements(array: pa.Array) -> pa.Array:
    flat = as_written(pc.list_flatten(array) if is_list(array.type) else array)
    return flat.filter(pc.fill_null(pc.not_equal(flat, ""), False))


def _holds(kind: pa.DataType) -> str:
    simple: Mapping[str, bool] = {
        "yes or no": pa.types.is_boolean(kind),
        "numbers": pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind),
        "dates or times": pa.types.is_temporal(kind),
    }
    return next((words for words, fits in simple.items() if fits), f"values of the type {kind}")
