"""Slices by any column of the items or users: categories, quartiles of numbers, the first value of lists."""

from itertools import pairwise

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from molar_eval.slices import Labels, Rows
from molar_retrieval.catalog.values import as_written, is_list

CATEGORIES = 8
"""Most values of a column with a slice of their own; numbers with more distinct values are cut into quartiles."""
OTHER, UNKNOWN = "other", "unknown"


def by_column(dimension: str, values: pa.Array, row: Rows) -> Labels:
    """Label each row of the scores by a column's value for its item or user.

    Categories are ordered by their number of rows, numbers by size; values beyond the most frequent ones share the
    label ``other``. A list counts as its first value. Empty and missing values are ``unknown``.

    Args:
        dimension: Name of the column.
        values: One per item or user: strings, numbers, booleans, or lists of them.
        row: Item or user of each row of the scores, -1 where there is none, shape (n,).
    """
    none = row < 0
    taken = _plain(values).take(pa.array(row, mask=none))
    if pa.types.is_integer(taken.type) or pa.types.is_floating(taken.type):
        labels = _numbers(dimension, taken)
    else:
        strings = pc.utf8_trim_whitespace(as_written(taken))
        labels = _categories(dimension, strings, _most_frequent(strings))
    labels.codes[none] = -1
    return labels


def _plain(values: pa.Array) -> pa.Array:
    """Lists as their first value, booleans as words."""
    if is_list(values.type):
        empty = ~np.asarray(pc.fill_null(pc.greater(pc.list_value_length(values), 0), False))
        values = values.values.take(pa.array(np.asarray(values.offsets)[:-1], mask=empty))
    if pa.types.is_boolean(values.type):
        values = pc.if_else(values, "yes", "no")
    return values


def _numbers(dimension: str, values: pa.Array) -> Labels:
    numbers = values.drop_null().to_numpy()
    distinct = np.unique(numbers[~np.isnan(numbers)])
    if len(distinct) <= CATEGORIES:
        return _categories(dimension, as_written(values), as_written(pa.array(distinct)).to_pylist())
    return _quartiles(dimension, values.to_numpy(zero_copy_only=False))


def _quartiles(dimension: str, numbers: npt.NDArray[np.generic]) -> Labels:
    missing = np.isnan(numbers)
    known = numbers[~missing]
    # Edges are values of the column, so that a label says exactly who is in; equal quartiles are one.
    edges = np.unique(np.quantile(known, [0.25, 0.5, 0.75], method="inverted_cdf"))
    most = known.max()
    edges = edges[edges < most] if edges[0] < most else known[known < most].max(keepdims=True)
    codes = np.searchsorted(edges, numbers, side="left")
    said = [np.format_float_positional(edge, trim="-") for edge in edges]
    between = [f"over {low} to {high}" for low, high in pairwise(said)]
    names = [f"up to {said[0]}", *between, f"over {said[-1]}"]
    codes[missing] = len(names)
    return Labels(dimension, (*names, *([UNKNOWN] if missing.any() else [])), codes.astype(np.int32))


def _most_frequent(strings: pa.Array) -> list[str]:
    counts = {str(pair["values"]): pair["counts"] for pair in pc.value_counts(strings.drop_null()).to_pylist()}
    named = counts.keys() - {"", OTHER, UNKNOWN}
    return sorted(named, key=lambda name: (-counts[name], name))[:CATEGORIES]


def _categories(dimension: str, strings: pa.Array, kept: list[str]) -> Labels:
    missing = np.asarray(pc.fill_null(pc.is_in(strings, value_set=pa.array(["", UNKNOWN, "nan"])), False))
    missing |= np.asarray(pc.is_null(strings))
    codes = np.array(Labels.of_strings(dimension, tuple(kept), strings).codes)
    others = (codes < 0) & ~missing
    names = [*kept, *([OTHER] if others.any() else []), *([UNKNOWN] if missing.any() else [])]
    codes[others] = len(kept)
    codes[missing] = len(names) - 1
    return Labels(dimension, tuple(names), codes)
