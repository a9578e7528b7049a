"""What the re-ranker reads of each candidate: what a dot product cannot see.

All are numbers of one candidate among the others of a list: addends of its score and its place by each of them,
likeness to the last items in three spaces, and how far its numbers (price, year) are from the usual.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from molar_retrieval.ranking.candidates import Candidates
from molar_retrieval.ranking.cold_start import kept
from molar_retrieval.ranking.item_store import ItemStore
from molar_retrieval.ranking.reranker import Reranker

Array = npt.NDArray[Any]
Rows = Sequence[int] | npt.NDArray[np.integer]
_RECENT = 10  # last items of a history that a candidate is likened to
COLLABORATIVE = "collaborative"
_TOGETHER = 32
"""Lists that the second stage is asked about at once: as many as leave their features in the processor's cache."""


def names(table: ItemStore, numbers: Sequence[str]) -> tuple[str, ...]:
    """Names of the features, in the order of :func:`features`; ``numbers`` names the table's numbers."""
    spaces = [name for name, _ in _spaces(table, np.zeros(0, np.int64))]
    return (
        "place",
        *(f"{part} {what}" for part in table.names for what in ("score", "place")),
        *(f"{space} {what}" for space in spaces for what in ("last", "nearest", "mean")),
        *(f"{number} {what}" for number in numbers for what in ("value", "off history", "off recent")),
        "history",
    )


def features(table: ItemStore, lists: Sequence[Candidates], histories: Sequence[Rows]) -> npt.NDArray[np.float32]:
    """Features of the candidates of some lists, one list after the other, shape (sum of the lists' lengths, F).

    Candidates are known items, best first, none of the lists is empty; histories are item rows, oldest first.
    """
    sizes = np.array([len(found) for found in lists])
    starts = np.cumsum(sizes) - sizes
    owner = np.repeat(np.arange(len(lists)), sizes)
    place = np.arange(len(owner)) - starts[owner]
    rows, parts = (np.concatenate([getattr(found, name) for found in lists]) for name in ("rows", "parts"))
    had = [np.asarray(history, np.int64) for history in histories]
    recent = [history[-_RECENT:] for history in had]
    given = np.zeros((len(names(table, [""] * table.numbers.shape[1])), len(owner)), np.float32)
    columns = iter(given)
    next(columns)[:] = np.log1p(place)
    for number in range(parts.shape[1]):
        own = parts[:, number]
        next(columns)[:] = own - (np.add.reduceat(own, starts) / sizes)[owner]
        by_part = np.empty(len(own), np.int64)
        by_part[np.lexsort((-own, owner))] = place
        next(columns)[:] = np.log1p(by_part)
    latest = np.concatenate(recent)
    for (_, candidates), (_, others) in zip(_spaces(table, rows), _spaces(table, latest), strict=True):
        last, nearest, mean = next(columns), next(columns), next(columns)
        end = 0
        for start, size, items in zip(starts.tolist(), sizes.tolist(), recent, strict=True):
            begin, end = end, end + len(items)
            if not len(items):
                continue
            of, likeness = slice(start, start + size), candidates[start : start + size] @ others[begin:end].T
            last[of], nearest[of], mean[of] = likeness[:, -1], likeness.max(axis=1), likeness.mean(axis=1)
    usual = [np.stack([_mean(table.numbers, past) for past in pasts]) for pasts in (had, recent)]
    for number in range(table.numbers.shape[1]):
        values = table.numbers[rows, number]
        next(columns)[:] = values
        for means in usual:
            next(columns)[:] = np.abs(values - means[owner, number])
    next(columns)[:] = np.log1p([len(history) for history in had])[owner]
    return given.T


def moves(
    table: ItemStore, reranker: Reranker, lists: Sequence[Candidates], histories: Sequence[Rows]
) -> list[npt.NDArray[np.floating]]:
    """What the second stage adds to each candidate of some lists, some lists at a time.

    Candidates are best first, histories oldest first. Known items change places among themselves, cold items keep
    theirs.
    """
    known = [one.take(np.flatnonzero(~one.cold)) for one in lists]
    moved = [np.zeros(0)] * len(lists)
    some = [number for number, one in enumerate(known) if len(one)]
    for begin in range(0, len(some), _TOGETHER):
        numbers = some[begin : begin + _TOGETHER]
        chosen, sizes = [known[number] for number in numbers], [len(known[number]) for number in numbers]
        together = reranker(features(table, chosen, [histories[number] for number in numbers]), sizes)
        for number, own in zip(numbers, np.split(together, np.cumsum(sizes)[:-1]), strict=True):
            moved[number] = own
    return [kept(one.scores, own, one.cold) for one, own in zip(lists, moved, strict=True)]


def _mean(numbers: Array, rows: Array) -> Array:
    """Of some items; 0 where there are none."""
    mean: Array = numbers[rows].mean(axis=0) if len(rows) else np.zeros(numbers.shape[1], np.float32)
    return mean


def _spaces(table: ItemStore, rows: Array) -> list[tuple[str, Array]]:
    """Vectors of length 1 or 0 of some items, by space."""
    spaces = [("content", table.content[rows]), ("cf", _unit(table.cf[rows]))]
    if COLLABORATIVE in table.parts:
        start, stop = table.parts[COLLABORATIVE]
        spaces.append((COLLABORATIVE, _unit(table.dense[rows, start:stop])))
    return spaces


def _unit(vectors: Array) -> Array:
    length = np.sqrt(np.einsum("nd,nd->n", vectors, vectors))
    unit: Array = vectors / np.where(length > 0, length, 1)[:, None]
    return unit
