"""What the scans of several people are asked for, made for all of them at once: the same in every bit, in less time."""

from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from molar_retrieval.ranking.best import places_of_each
from molar_retrieval.ranking.candidates import Candidates, CandidateSource, Guessed, Scan
from molar_retrieval.ranking.item_store import ItemStore

Array = npt.NDArray[Any]
Rows = npt.NDArray[np.int64]
Foresee: TypeAlias = Callable[[ItemStore, Sequence[Scan], int], None]


def foresee(store: ItemStore, asked: Sequence[tuple[CandidateSource, int]], make: Foresee) -> None:
    """Make what several scans among some sources are asked for, those of one size together."""
    scans: dict[int, list[Scan]] = {}
    for source, size in asked:
        if isinstance(source, Scan):
            scans.setdefault(size, []).append(source)
    for size, some in scans.items():
        if len(some) > 1:
            make(store, some, size)


def foresee_known(store: ItemStore, scans: Sequence[Scan], size: int) -> None:
    """Make the best ``size`` known items of each scan."""
    shown = np.array([scan.shown for scan in scans]) & store.known
    users, rows = places_of_each(np.array([scan.scores for scan in scans]), shown, size)
    parts = _addends(store, scans, users, rows)
    order = np.lexsort((rows, -parts.sum(axis=1), users))
    rows, parts = rows[order], parts[order]
    nothing, known, one = np.zeros(size), np.zeros(size, bool), np.ones(size)
    for scan, own in zip(scans, _pieces(users, len(scans), size), strict=True):
        some = slice(own.stop - own.start)
        scan.foreseen[size] = Candidates(rows[own], parts[own], nothing[some], known[some], nothing[some], one[some])


def foresee_new(store: ItemStore, scans: Sequence[Scan], size: int) -> None:
    """Make the best ``size`` guesses of newcomers and emerging items of each scan."""
    cold, emerging = store.cold_rows, store.emerging
    every, about = cold, np.array([scan.scores[cold] for scan in scans])
    if emerging is not None:
        every = np.concatenate([cold, emerging.rows])
        about = np.concatenate([about, [scan.emerging for scan in scans]], axis=1)
    users, places = places_of_each(about, np.array([scan.shown[every] for scan in scans]), size)
    rows, is_cold, guesses = every[places], places < len(cold), np.empty(len(places))
    guesses[is_cold] = _addends(store, scans, users[is_cold], rows[is_cold]).sum(axis=1)
    if emerging is not None:
        others = (~is_cold).nonzero()[0]
        for scan, own in zip(scans, _pieces(users[others], len(scans)), strict=True):
            guesses[others[own]] = emerging.guesses(scan.vector, places[others[own]] - len(cold))
    order = np.lexsort((rows, -guesses, users))
    rows, guesses, is_cold = rows[order], guesses[order], is_cold[order]
    for scan, own in zip(scans, _pieces(users, len(scans), size), strict=True):
        addends = partial(store.addends, scan.vector, scan.sums)
        scan.guessed[size] = Guessed(addends, rows[own], guesses[own], is_cold[own])


def _addends(store: ItemStore, scans: Sequence[Scan], users: Rows, rows: Rows) -> Array:
    """The addends of the scores of some items, each for one of the users, which ascend, shape (len(rows), P)."""
    vectors = np.array([np.asarray(scan.vector, np.float32) for scan in scans])
    addends = np.empty((len(rows), len(store.names)))
    store.add_dense(addends, vectors[users], rows)
    for scan, own in zip(scans, _pieces(users, len(scans)), strict=True):
        addends[own, len(store.parts) :] = scan.sums.of(rows[own]).T
    return addends


def _pieces(users: Rows, count: int, size: int | None = None) -> list[slice]:
    """Where each of so many users is among some that ascend, of each the first ``size``."""
    ends = np.searchsorted(users, np.arange(count + 1)).tolist()
    return [slice(begin, end if size is None else min(end, begin + size)) for begin, end in pairwise(ends)]
