"""Lists of many users as one table, column by column.

Columns are made of buffers, as ``pyarrow.array`` loads pandas wherever it is installed: half a second for each process.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from molar_indexes.table import OpenItemStore
from molar_retrieval.ranking.ranked import LATER, RankedList

Array = npt.NDArray[Any]


def schema_of(names: Sequence[str]) -> pa.Schema:
    """The columns of a table of lists; ``names`` are those of the store's parts of a score."""
    last = {"rule": pa.string(), "propensity": pa.float64()}
    first = {"user_id": pa.string(), "rank": pa.int32(), "item_id": pa.string(), "score": pa.float32()}
    return pa.schema({**first, "parts": pa.struct([(name, pa.float32()) for name in (*names, *LATER)]), **last})


def table_of(opened: OpenItemStore, user_ids: Sequence[str], lists: Sequence[RankedList]) -> pa.Table:
    """The lists of some users, one after the other."""
    schema = schema_of(opened.items.names)
    if not lists:
        return schema.empty_table()
    sizes = np.array([len(one) for one in lists])
    starts = np.cumsum(sizes) - sizes
    owner = np.repeat(np.arange(len(lists), dtype=np.int32), sizes)
    rows, scores, parts, propensity = (
        np.concatenate([getattr(one, name) for one in lists]) for name in ("rows", "scores", "parts", "propensity")
    )
    addends = [numbers(part) for part in parts.T.astype(np.float32)]
    columns = {
        "user_id": _texts(user_ids).take(numbers(owner)),
        "rank": numbers((np.arange(len(owner)) - starts[owner] + 1).astype(np.int32)),
        "item_id": _item_ids(opened).take(numbers(rows)).cast(pa.string()),
        "score": numbers(scores.astype(np.float32)),
        "parts": pa.StructArray.from_arrays(addends, list(lists[0].names)),
        "rule": _rules(lists),
        "propensity": numbers(propensity, ~np.isnan(propensity)),
    }
    return pa.table(list(columns.values()), schema=schema)


def _rules(lists: Sequence[RankedList]) -> pa.StringArray:
    """What put each item where it is, null where nothing did."""
    codes, found = {"": 0}, np.zeros(sum(map(len, lists)), np.int32)
    end = 0
    for one in lists:
        end += len(one)
        if one.causes:
            found[end - len(one) : end] = [codes.setdefault(", ".join(own), len(codes)) for own in one.causes]
    return _texts(list(codes)).take(numbers(found, found > 0))


def _item_ids(opened: OpenItemStore) -> pa.LargeStringArray:
    text, ends = opened.ids
    return pa.LargeStringArray.from_buffers(len(ends) - 1, pa.py_buffer(ends), pa.py_buffer(text))


def _texts(values: Sequence[str]) -> pa.StringArray:
    encoded = [value.encode() for value in values]
    ends = np.cumsum([0, *map(len, encoded)], dtype=np.int32)
    return pa.StringArray.from_buffers(len(encoded), pa.py_buffer(ends), pa.py_buffer(b"".join(encoded)))


def numbers(values: Array, known: npt.NDArray[np.bool_] | None = None) -> pa.Array:
    """A column of numbers, null where they are not ``known``."""
    bits = None if known is None or known.all() else pa.py_buffer(np.packbits(known, bitorder="little"))
    buffers = [bits, pa.py_buffer(np.ascontiguousarray(values))]
    return pa.Array.from_buffers(pa.from_numpy_dtype(values.dtype), len(values), buffers)


def ranks_of(table: pa.Table) -> npt.NDArray[np.int32]:
    """The ranks of a table of lists, shape (rows,)."""
    chunks = [np.frombuffer(own.buffers()[1], np.int32, len(own), 4 * own.offset) for own in table["rank"].chunks]
    return np.concatenate(chunks) if chunks else np.zeros(0, np.int32)
