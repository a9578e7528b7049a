"""Parts of the cases: by how well known and how old the target is, how much was known of the user, what the item shows.

A function per dimension labels every row of the scores (a case and its target, or a case with a set of targets);
:func:`slices_of` turns labels into masks. Everything is computed from training interactions and the catalogue.
"""

from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

Rows = npt.NDArray[np.integer]
Bools = npt.NDArray[np.bool_]

MINIMUM_USERS = 10
"""Fewer users than this are not reported: their mean would be theirs."""
HEAD, TORSO = 0.5, 0.8
"""Head: the most popular items that together have half of the training interactions; torso: the next 30 %."""
COLD = "cold"
_DAY = 86_400
_AGES = (7 * _DAY, 30 * _DAY, 365 * _DAY)
_LENGTHS = (0, 2, 5, 20, 50)


@dataclass(frozen=True, eq=False)
class Labels:
    """Which value of a dimension each row has.

    Attributes:
        dimension: What was asked, such as ``popularity``.
        names: The values in the order in which they are shown, each once.
        codes: Index into ``names`` for each row, -1 where the dimension does not apply, shape (n,).
    """

    dimension: str
    names: tuple[str, ...]
    codes: npt.NDArray[np.int32]

    def array(self) -> pa.Array:
        """As an Arrow dictionary array of strings, null where the dimension does not apply."""
        return pa.DictionaryArray.from_arrays(
            pa.array(self.codes, pa.int32(), mask=self.codes < 0), pa.array(self.names, pa.string())
        )

    @classmethod
    def of_strings(cls, dimension: str, names: tuple[str, ...], values: pa.Array) -> Self:
        """From strings; those that are not in ``names`` are in no slice."""
        codes = pc.index_in(values, value_set=pa.array(names, pa.string()))
        return cls(dimension, tuple(names), np.asarray(pc.fill_null(codes, -1), np.int32))


@dataclass(frozen=True, eq=False)
class Slice:
    """Rows with the same value of a dimension.

    Attributes:
        dimension: As in :class:`Labels`.
        value: One of its names.
        mask: Shape (n,).
        users: Number of distinct users among them.
        too_few: Whether those are too few to report anything about them.
    """

    dimension: str
    value: str
    mask: Bools
    users: int
    too_few: bool


def slices_of(labels: Labels, users: npt.NDArray[np.generic], *, minimum: int = MINIMUM_USERS) -> list[Slice]:
    """The slices of a dimension that have any rows, in the order of its names.

    Args:
        labels: Labels of n rows.
        users: The user of each row, shape (n,).
        minimum: Users from which a slice is large enough.
    """
    found = []
    for code, name in enumerate(labels.names):
        mask = labels.codes == code
        count = len(np.unique(users[mask]))
        if count:
            found.append(Slice(labels.dimension, name, mask, count, count < minimum))
    return found


def by_popularity(target: Rows, counts: Rows) -> Labels:
    """Head, torso, tail or cold, by the interactions that training saw.

    An item's place is the share of interactions that belong to strictly more popular items: head below 50 %,
    torso below 80 %, the others are the tail. Equally popular items are never separated.

    Args:
        target: Item rows, -1 where a row of the scores has no single target, shape (n,).
        counts: Training interactions per item, shape (n_items,).
    """
    distinct, inverse, items = np.unique(counts, return_inverse=True, return_counts=True)
    interactions = distinct * items
    above = np.cumsum(interactions[::-1])[::-1] - interactions
    place = np.searchsorted([HEAD, TORSO], above / max(1, interactions.sum()), side="right")
    codes = np.where(distinct == 0, 3, place)[inverse]
    return _per_item("popularity", ("head", "torso", "tail", COLD), codes, target)


def first_times(item: Rows, timestamp: Rows, n_items: int) -> npt.NDArray[np.int64]:
    """When training first saw each item, the largest integer where it never did.

    Args:
        item: Item row of each training interaction, shape (interactions,).
        timestamp: Its time in seconds, shape (interactions,).
        n_items: Size of the catalogue.

    Returns:
        Shape (n_items,).
    """
    first = np.full(n_items, np.iinfo(np.int64).max)
    np.minimum.at(first, item, timestamp)
    return first


def by_item_age(target: Rows, time: Rows, first: Rows) -> Labels:
    """How long training had known the target when the case was asked.

    Only for logs with times. Where a split lets training see later interactions of others, an item that
    first appears after the case counts as new.

    Args:
        target: As in :func:`by_popularity`, shape (n,).
        time: When each row's case is asked, seconds, shape (n,).
        first: From :func:`first_times`, shape (n_items,).
    """
    known = first[target]
    cold = known == np.iinfo(np.int64).max
    age = time - np.where(cold, 0, known)
    codes = np.where(cold, len(_AGES) + 1, np.searchsorted(_AGES, age, side="left"))
    names = ("new (up to a week)", "up to a month", "up to a year", "older", COLD)
    return Labels("item age", names, np.where(target < 0, -1, codes).astype(np.int32))


def by_history(length: Rows) -> Labels:
    """How many interactions of the user the model could read, shape (n,)."""
    codes = np.searchsorted(_LENGTHS, length, side="left").astype(np.int32)
    return Labels("history", ("0", "1–2", "3–5", "6–20", "21–50", "51+"), codes)


def by_content(target: Rows, photo: Bools, description: Bools) -> Labels:
    """What the catalogue shows of the target.

    Args:
        target: As in :func:`by_popularity`, shape (n,).
        photo: Whether an item has a usable photo, shape (n_items,).
        description: Whether it has a description, shape (n_items,).
    """
    names = ("photo and description", "photo only", "description only", "neither")
    return _per_item("content", names, 2 * ~photo + ~description, target)


def _per_item(dimension: str, names: tuple[str, ...], code_of_item: Rows, target: Rows) -> Labels:
    return Labels(dimension, names, np.where(target < 0, -1, code_of_item[target]).astype(np.int32))
