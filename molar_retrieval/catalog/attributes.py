"""Which columns enter the text of an item where nobody said: those that hold words about it.

Not numbers, dates and counts (a count made from the log would leak the future into the vectors), ids, links, second
long texts, values that nearly every item has for itself, and versions of another column; each with its reason.
"""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from molar_retrieval.catalog import names
from molar_retrieval.catalog.values import STRING_LIST, as_written, is_list, is_text, map_elements

SAMPLE = 20_000
LONG = 80  # mean number of characters from which a text counts as a second description
UNIQUE = 0.9  # share of distinct values from which a column counts as an id or a second title …
ENOUGH = 200  # … where it has at least so many values
_COMPARED = 8  # columns after which a column is named that its values are compared with
_TOGETHER = 1_000_000  # values that are searched for words at a time
_NO_WORDS = r"^[^\p{L}]*$|^\d{4}-\d{2}-\d{2}[T ]|^\d{1,2}[-/. ]\p{L}{3,9}[-/. ]\d{2,4}$"


def choose_attributes(sample: pa.RecordBatch, columns: Sequence[str], roles: Sequence[str]) -> dict[str, str | None]:
    """By column: None for one that is an attribute by default, otherwise the reason why it is none.

    ``sample`` has the first rows, ``columns`` are in the order of the file, ``roles`` are title and description.
    """
    reasons = {name: _reason(name, sample[name], roles) for name in columns}
    for name, reason in _reasons_by_values({n: sample[n] for n in columns if reasons[n] is None}):
        reasons[name] = reason
    left = [name for name in columns if reasons[name] is None]
    by_words: dict[tuple[str, ...], list[tuple[int, str]]] = {}
    for place, name in enumerate(left):
        by_words.setdefault(tuple(names.stems(name)), []).append((place, name))
    for name in left:
        others = [other for other in _variant_of(name, by_words) if reasons[other] is None][:_COMPARED]
        reasons[name] = next((f"it repeats {other!r}" for other in others if _alike(sample[name], sample[other])), None)
    return reasons


def _variant_of(name: str, by_words: Mapping[tuple[str, ...], list[tuple[int, str]]]) -> list[str]:
    """The columns of which one is a variant (``tmdb_genres`` of ``genres``), in their order."""
    words = tuple(names.stems(name))
    shorter = {some for n in range(1, len(words)) for some in (words[:n], words[-n:])}
    return [other for _, other in sorted(found for some in shorter for found in by_words.get(some, ()))]


def _reason(name: str, array: pa.Array, roles: Sequence[str]) -> str | None:
    """What type and name say against a column."""
    if not is_text(array.type):
        return "it is empty" if pa.types.is_null(array.type) else f"it holds {_held(array.type)}, not words"
    by_name = names.not_input_by_name(name)
    if by_name:
        return by_name
    variant = next((role for role in roles if names.is_variant(name, role)), None)
    return None if variant is None else f"it is another version of {variant!r}"


def _reasons_by_values(columns: Mapping[str, pa.Array]) -> Iterator[tuple[str, str]]:
    """What values say against columns, by name."""
    waiting: dict[str, pa.Array] = {}
    held = 0
    for name, array in columns.items():
        flat = as_written(pc.list_flatten(array) if is_list(array.type) else array)
        values = flat.filter(pc.fill_null(pc.not_equal(flat, ""), False))
        n = len(values)
        mean = float(np.mean(np.asarray(pc.utf8_length(values)))) if n else 0.0
        if not n or mean > LONG:
            yield name, f"it is long text ({mean:.0f} characters on average)" if n else "it is empty"
            continue
        waiting[name] = values
        held += n
        if held >= _TOGETHER:
            yield from _short(waiting)
            waiting, held = {}, 0
    yield from _short(waiting)


def _short(columns: Mapping[str, pa.Array]) -> Iterator[tuple[str, str]]:
    """What is said against columns of short texts; one search for all of them, as the pattern takes long to prepare."""
    if not columns:
        return
    together = pa.concat_arrays([values.cast(pa.large_string()) for values in columns.values()])
    wordless = np.asarray(pc.match_substring_regex(together, _NO_WORDS))
    begin = 0
    for name, values in columns.items():
        n = len(values)
        own, begin = wordless[begin : begin + n], begin + n
        distinct = pc.count_distinct(values).as_py() / n
        if np.count_nonzero(own) > n / 2:
            yield name, "it holds numbers or dates, not words"
        elif n >= ENOUGH and distinct >= UNIQUE:
            yield name, f"{distinct:.0%} of its values are distinct, as ids or second titles are"


def _alike(left: pa.Array, right: pa.Array) -> bool:
    """Whether items mostly have one of the values of another column in this one."""
    both = [(a, b) for a, b in zip(_sets(left), _sets(right), strict=True) if a and b]
    return sum(not a.isdisjoint(b) for a, b in both) > len(both) / 2


def _sets(array: pa.Array) -> list[frozenset[str]]:
    if not is_list(array.type):
        array = pa.array([None if v is None else [v] for v in as_written(array).to_pylist()], STRING_LIST)
    return [frozenset(values or ()) for values in map_elements(array, as_written).to_pylist()]


def _held(kind: pa.DataType) -> str:
    simple: Mapping[str, bool] = {
        "yes or no": pa.types.is_boolean(kind),
        "numbers": pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind),
        "dates or times": pa.types.is_temporal(kind),
    }
    return next((words for words, fits in simple.items() if fits), f"values of the type {kind}")
