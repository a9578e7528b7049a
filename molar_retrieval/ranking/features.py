"""What the re-ranker reads of each candidate: what a dot product cannot see.

All features are plain numbers of one candidate among the others of a list: the addends of its score and its place by
each of them, its likeness to the last items in three spaces, and how far its numbers (price, year) are from the usual.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from molar_retrieval.ranking.table import ItemTable

Array = npt.NDArray[Any]
Rows = Sequence[int] | npt.NDArray[np.integer]
_RECENT = 10
"""Last items of a history that a candidate is likened to."""
COLLABORATIVE = "collaborative"


def names(table: ItemTable, numbers: Sequence[str]) -> tuple[str, ...]:
    """Names of the features, in the order of :func:`features`.

    Args:
        table: Its parts and spaces.
        numbers: Names of the table's numbers.
    """
    spaces = [name for name, _ in _spaces(table, np.zeros(0, np.int64))]
    return (
        "place",
        *(f"{part} {what}" for part in table.names for what in ("score", "place")),
        *(f"{space} {what}" for space in spaces for what in ("last", "nearest", "mean")),
        *(f"{number} {what}" for number in numbers for what in ("value", "off history", "off recent")),
        "newcomer",
        "history",
    )


def features(table: ItemTable, rows: Array, parts: Array, newcomer: Array, history: Rows) -> npt.NDArray[np.float32]:
    """Features of C ranked candidates.

    Args:
        table: Of all items.
        rows: Candidates, best first, shape (C,).
        parts: Addends of their scores, shape (C, P).
        newcomer: Whether a candidate had no training interactions, shape (C,).
        history: Item rows, oldest first.

    Returns:
        Shape (C, F).
    """
    had = np.asarray(history, np.int64)
    recent = had[-_RECENT:]
    columns: list[Array] = [_place(np.arange(len(rows)))]
    for number in range(parts.shape[1]):
        own = parts[:, number]
        order = np.empty(len(rows), np.int64)
        order[np.argsort(-own, kind="stable")] = np.arange(len(rows))
        columns += [own - own.mean(), _place(order)]
    for (_, candidates), (_, others) in zip(_spaces(table, rows), _spaces(table, recent), strict=True):
        likeness = candidates @ others.T if len(recent) else np.zeros((len(rows), 1), np.float32)
        columns += [likeness[:, -1], likeness.max(axis=1), likeness.mean(axis=1)]
    for number in range(table.numbers.shape[1]):
        values = table.numbers[rows, number]
        columns.append(values)
        for past in (had, recent):
            usual = table.numbers[past, number].mean() if len(past) else 0.0
            columns.append(np.abs(values - usual))
    columns += [newcomer, np.full(len(rows), np.log1p(len(had)))]
    return np.stack(columns, axis=1).astype(np.float32)


def _place(order: Array) -> Array:
    result: Array = np.log1p(order)
    return result


def _spaces(table: ItemTable, rows: Array) -> list[tuple[str, Array]]:
    """Vectors of length 1 or 0 of some items, by space."""
    spaces = [("content", table.content[rows]), ("cf", _unit(table.cf[rows]))]
    if COLLABORATIVE in table.parts:
        start, stop = table.parts[COLLABORATIVE]
        spaces.append((COLLABORATIVE, _unit(table.dense[rows, start:stop])))
    return spaces


def _unit(vectors: Array) -> Array:
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    unit: Array = vectors / np.where(length > 0, length, 1)
    return unit
