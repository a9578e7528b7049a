"""Slices of the cases: by how well known and how old the target is, how much was known of the user, what items show.

A function per dimension labels every row of the scores (a case and its target, or a case with a set of targets), by
training interactions, the catalogue, or any column of the items or users; :func:`slices_of` turns labels into masks.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from molar_eval.cases import Cases, Mask
from molar_retrieval import columns as names
from molar_retrieval.data.catalogue import ITEMS_FILE, Catalogue
from molar_retrieval.data.interaction_reader import user_column
from molar_retrieval.data.interactions import Interactions
from molar_retrieval.data.readers import TableReader
from molar_retrieval.data.schema import CatalogueConfig, find_table
from molar_retrieval.data.values import as_strings, is_list
from molar_retrieval.errors import SettingsError, nearest
from molar_retrieval.privacy.pseudonyms import Pseudonymiser, user_keys
from molar_retrieval.workspace.artefacts import Workspace

Rows = npt.NDArray[np.integer]

MINIMUM_USERS = 10
"""Fewer users than this are not reported: their mean would be theirs."""
HEAD, TORSO = 0.5, 0.8
"""Head: the most popular items that together have half of the training interactions; torso: the next 30 %."""
COLD = "cold"
CATEGORIES = 8
"""Most values of a column with a slice of their own; numbers with more distinct values are cut into quartiles."""
OTHER, UNKNOWN = "other", "unknown"
_DAY = 86_400
_AGES = (7 * _DAY, 30 * _DAY, 365 * _DAY)
_LENGTHS = (0, 2, 5, 20, 50)


@dataclass(frozen=True, eq=False)
class Labels:
    """Which value of a dimension, such as ``popularity``, each row has.

    ``names`` are the values in the order in which they are shown, each once; ``codes`` the index into them for each
    row, -1 where the dimension does not apply, shape (n,).
    """

    dimension: str
    names: tuple[str, ...]
    codes: npt.NDArray[np.int32]

    def array(self) -> pa.Array:
        """As an Arrow dictionary array of strings, null where the dimension does not apply."""
        codes = pa.array(self.codes, pa.int32(), mask=self.codes < 0)
        return pa.DictionaryArray.from_arrays(codes, pa.array(self.names, pa.string()))

    @classmethod
    def of_strings(cls, dimension: str, names: tuple[str, ...], values: pa.Array) -> Self:
        """From strings; those that are not in ``names`` are in no slice."""
        codes = pc.index_in(values, value_set=pa.array(names, pa.string()))
        return cls(dimension, tuple(names), np.asarray(pc.fill_null(codes, -1), np.int32))


@dataclass(frozen=True, eq=False)
class Slice:
    """Rows with the same value of a dimension, ``mask`` of shape (n,); ``too_few`` users to report anything about."""

    dimension: str
    value: str
    mask: Mask
    users: int
    too_few: bool


def slices_of(labels: Labels, users: npt.NDArray[np.generic], *, minimum: int = MINIMUM_USERS) -> list[Slice]:
    """The slices of a dimension that have any rows, in the order of its names; large enough with ``minimum`` users.

    Rows that are in no slice large enough are what is left of all rows without the others, whose means are told. Where
    these are of fewer users, the smallest of the others is taken for too small as well.
    """
    found = []
    for code, name in enumerate(labels.names):
        mask = labels.codes == code
        count = len(np.unique(users[mask]))
        if count:
            found.append(Slice(labels.dimension, name, mask, count, count < minimum))
    told = [one for one in found if not one.too_few]
    if told and 0 < len(np.unique(users[~np.any([one.mask for one in told], axis=0)])) < minimum:
        smallest = min(told, key=lambda one: one.users)
        found[found.index(smallest)] = replace(smallest, too_few=True)
    return found


def labels(
    cases: Cases, training: Interactions, workspace: Workspace, columns: Sequence[str], readable: Mask | None
) -> list[Labels]:
    """One label per case and dimension; dimensions of items apply to cases with one target only.

    ``columns`` are item or user columns asked for: :class:`SettingsError` where there is no such one; ``readable`` are
    the items that inputs may have, shape (n_items,), None: all.
    """
    target, catalogue = cases.single_target, Catalogue(*workspace["catalogue"].require())
    found = [by_popularity(target, np.bincount(training.item, minlength=training.n_items))]
    if training.timestamp.any():
        first = first_times(training.item, training.timestamp, training.n_items)
        found.append(by_item_age(target, cases.times(), first))
        ties = by_ties(cases)
        found += [ties] if (ties.codes == 0).any() else []
    found.append(by_history(_read(cases, readable)))
    table = pq.read_table(catalogue.version / ITEMS_FILE)
    photo, described = (np.asarray(pc.is_valid(table[name])) for name in (names.IMAGE, names.DESCRIPTION))
    found.append(by_content(target, photo, described))
    people = Pseudonymiser.of(workspace.root)
    return found + [_column(name, cases, target, table, catalogue, people) for name in columns]


def groups_of(catalogue: Catalogue, column: str) -> tuple[npt.NDArray[np.int64], Rows]:
    """The values of a column by number: where those of each item begin, shape (n_items + 1,), and all of them."""
    read = pq.read_table(catalogue.version / ITEMS_FILE, columns=[column])[column]
    values = [v if isinstance(v, list) else [] if v is None else [v] for v in read.to_pylist()]
    codes = {value: code for code, value in enumerate(sorted({str(v) for row in values for v in row}))}
    flat = [codes[str(value)] for row in values for value in row]
    return np.concatenate([[0], np.cumsum([len(row) for row in values])]), np.array(flat, np.int64)


def _read(cases: Cases, readable: Mask | None) -> npt.NDArray[np.int64]:
    """How many interactions of each case's input a model may read."""
    if readable is None:
        return cases.length
    log = cases.history
    before = np.concatenate([[0], np.cumsum(readable[log.item])])
    start = log.offsets[cases.user]
    read: npt.NDArray[np.int64] = before[start + cases.length] - before[start]
    return read


def _column(
    name: str, cases: Cases, target: Rows, items: pa.Table, catalogue: Catalogue, people: Pseudonymiser
) -> Labels:
    if name in items.column_names:
        return by_column(name, items[name].combine_chunks(), target)
    source = find_table(catalogue.folder, "users")
    if source is None or name not in source.names:
        known = [*items.column_names, *(source.names if source else [])]
        close = nearest(name, known, n=1)
        raise SettingsError(
            f"neither items nor users have a column {name!r}",
            f"did you mean {close[0]!r}?" if close else f"name one of {', '.join(known)}",
        )
    return by_column(name, _user_values(source, name, cases, catalogue, people), cases.user)


def _user_values(source: TableReader, name: str, cases: Cases, catalogue: Catalogue, people: Pseudonymiser) -> pa.Array:
    key = user_column(CatalogueConfig.read(catalogue.folder).users, source)
    batches = [rows.batch for rows in source.batches([key, name], 65_536, None, {key})]
    table = pa.Table.from_batches(batches)
    row = cases.history.users.rows(user_keys(people.users(table[key].cast(pa.string()).combine_chunks())))
    place = np.full(cases.history.n_users, -1)
    place[row[row >= 0]] = np.flatnonzero(row >= 0)
    return table[name].combine_chunks().take(pa.array(place, mask=place < 0))


def by_popularity(target: Rows, counts: Rows) -> Labels:
    """Head, torso, tail or cold, by the interactions that training saw.

    An item's place is the share of interactions that belong to strictly more popular items: head below 50 %,
    torso below 80 %, the others are the tail. Equally popular items are never separated. ``target`` are item rows, -1
    where a row of the scores has no single target, ``counts`` training interactions per item.
    """
    distinct, inverse, items = np.unique(counts, return_inverse=True, return_counts=True)
    interactions = distinct * items
    above = np.cumsum(interactions[::-1])[::-1] - interactions
    place = np.searchsorted([HEAD, TORSO], above / max(1, interactions.sum()), side="right")
    codes = np.where(distinct == 0, 3, place)[inverse]
    return _per_item("popularity", ("head", "torso", "tail", COLD), codes, target)


def first_times(item: Rows, timestamp: Rows, n_items: int) -> npt.NDArray[np.int64]:
    """When training first saw each item, shape (n_items,), the largest integer where it never did."""
    first = np.full(n_items, np.iinfo(np.int64).max)
    np.minimum.at(first, item, timestamp)
    return first


def by_item_age(target: Rows, time: Rows, first: Rows) -> Labels:
    """How long training had known the target when the case was asked.

    Only for logs with times, in seconds; ``first`` is from :func:`first_times`. Where a split lets training see later
    interactions of others, an item that first appears after the case counts as new.
    """
    known = first[target]
    cold = known == np.iinfo(np.int64).max
    age = time - np.where(cold, 0, known)
    codes = np.where(cold, len(_AGES) + 1, np.searchsorted(_AGES, age, side="left"))
    names = ("new (up to a week)", "up to a month", "up to a year", "older", COLD)
    return Labels("item age", names, np.where(target < 0, -1, codes).astype(np.int32))


def by_ties(cases: Cases) -> Labels:
    """Whether the target happened in the same second as the user's interaction before or after it.

    Then its place among them is a matter of the log and of the split's rule for ties, not of time. Only for cases whose
    one target follows their input at once.
    """
    log = cases.history
    begin, end = log.offsets[cases.user], log.offsets[cases.user + 1]
    at = begin + cases.length
    there = np.minimum(at, end - 1)
    time = log.timestamp
    tied = (there > begin) & (time[np.maximum(there - 1, 0)] == time[there])
    tied |= (there + 1 < end) & (time[np.minimum(there + 1, len(log) - 1)] == time[there])
    applies = (at < end) & (log.item[there] == cases.single_target)
    return Labels("equal times", ("tied", "untied"), np.where(applies, ~tied, -1).astype(np.int32))


def by_history(length: Rows) -> Labels:
    """How many interactions of the user the model could read, shape (n,)."""
    codes = np.searchsorted(_LENGTHS, length, side="left").astype(np.int32)
    return Labels("history", ("0", "1–2", "3–5", "6–20", "21–50", "51+"), codes)


def by_content(target: Rows, photo: Mask, description: Mask) -> Labels:
    """What the catalogue shows of the target: which items have a usable photo, which a description."""
    names = ("photo and description", "photo only", "description only", "neither")
    return _per_item("content", names, 2 * ~photo + ~description, target)


def _per_item(dimension: str, names: tuple[str, ...], code_of_item: Rows, target: Rows) -> Labels:
    return Labels(dimension, names, np.where(target < 0, -1, code_of_item[target]).astype(np.int32))


def by_column(dimension: str, values: pa.Array, row: Rows) -> Labels:
    """Label each row of the scores by a column's value for its item or user, ``row``, -1 where there is none.

    Categories are ordered by their number of rows, numbers by size; values beyond the most frequent ones share the
    label ``other``. ``values`` are strings, numbers, booleans, or lists of them, which count as their first value.
    Empty and missing values are ``unknown``.
    """
    none = row < 0
    taken = _plain(values).take(pa.array(row, mask=none))
    if pa.types.is_integer(taken.type) or pa.types.is_floating(taken.type):
        labels = _numbers(dimension, taken)
    else:
        strings = pc.utf8_trim_whitespace(as_strings(taken))
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
        return _categories(dimension, as_strings(values), as_strings(pa.array(distinct)).to_pylist())
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
