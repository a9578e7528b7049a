"""Lists of many users as one table, column by column.

Columns are made of buffers: ``pyarrow.array`` loads pandas wherever it is installed, half a second for each process,
and ``take`` all functions of ``pyarrow.compute``.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from molar_indexes.table import OpenItemStore
from molar_retrieval.ranking.ranked_list import ADDED_LATE, RankedList

Array = npt.NDArray[Any]


def schema_of(names: Sequence[str]) -> pa.Schema:
    """The columns of a table of lists; ``names`` are those of the store's parts of a score."""
    last = {"rule": pa.string(), "propensity": pa.float64()}
    first = {"user_id": pa.string(), "rank": pa.int32(), "item_id": pa.string(), "score": pa.float32()}
    return pa.schema({**first, "parts": pa.struct([(name, pa.float32()) for name in (*names, *ADDED_LATE)]), **last})


def table_of(opened: OpenItemStore, user_ids: Sequence[str], lists: Sequence[RankedList]) -> pa.Table:
    """The lists of some users, one after the other."""
    schema = schema_of(opened.items.names)
    if not lists:
        return schema.empty_table()
    sizes = np.array([len(one) for one in lists])
    ranks = np.arange(1, sizes.sum() + 1) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    rows, scores, parts, propensity = (
        np.concatenate([getattr(one, name) for one in lists]) for name in ("rows", "scores", "parts", "propensity")
    )
    addends = [numbers(part) for part in parts.T.astype(np.float32)]
    columns = {
        "user_id": _repeated(user_ids, sizes),
        "rank": numbers(ranks.astype(np.int32)),
        "item_id": _item_ids(opened, rows),
        "score": numbers(scores.astype(np.float32)),
        "parts": pa.StructArray.from_arrays(addends, list(lists[0].names)),
        "rule": _rules(lists),
        "propensity": numbers(propensity, ~np.isnan(propensity)),
    }
    return pa.table(list(columns.values()), schema=schema)


def _rules(lists: Sequence[RankedList]) -> pa.StringArray:
    """What put each item where it is, null where nothing did."""
    if not any(one.causes for one in lists):
        return pa.nulls(sum(map(len, lists)), pa.string())
    told = [", ".join(own).encode() for one in lists for own in (one.causes or [()] * len(one))]
    lengths = np.array([len(own) for own in told])
    return _texts(b"".join(told), lengths, lengths > 0)


def _repeated(values: Sequence[str], times: Array) -> pa.StringArray:
    """Each of some texts so many times."""
    encoded = [value.encode() for value in values]
    text = b"".join(own * count for own, count in zip(encoded, times.tolist(), strict=True))
    return _texts(text, np.repeat([len(own) for own in encoded], times))


def _item_ids(opened: OpenItemStore, rows: Array) -> pa.StringArray:
    text, ends = opened.ids
    lengths = ends[rows + 1] - ends[rows]
    places = np.arange(lengths.sum()) + np.repeat(ends[rows] - (np.cumsum(lengths) - lengths), lengths)
    return _texts(text[places], lengths)


def _texts(text: bytes | Array, lengths: Array, known: npt.NDArray[np.bool_] | None = None) -> pa.StringArray:
    """A column of texts that lie one after the other, null where they are not ``known``."""
    ends = np.zeros(len(lengths) + 1, np.int32)
    np.cumsum(lengths, out=ends[1:])
    return pa.StringArray.from_buffers(len(lengths), pa.py_buffer(ends), pa.py_buffer(text), _bits(known))


def numbers(values: Array, known: npt.NDArray[np.bool_] | None = None) -> pa.Array:
    """A column of numbers, null where they are not ``known``."""
    buffers = [_bits(known), pa.py_buffer(np.ascontiguousarray(values))]
    return pa.Array.from_buffers(pa.from_numpy_dtype(values.dtype), len(values), buffers)


def _bits(known: npt.NDArray[np.bool_] | None) -> pa.Buffer | None:
    return None if known is None or known.all() else pa.py_buffer(np.packbits(known, bitorder="little"))


def ranks_of(table: pa.Table) -> npt.NDArray[np.int32]:
    """The ranks of a table of lists, shape (rows,)."""
    chunks = [np.frombuffer(own.buffers()[1], np.int32, len(own), 4 * own.offset) for own in table["rank"].chunks]
    return np.concatenate(chunks) if chunks else np.zeros(0, np.int32)
